/* SPDX-License-Identifier: MIT */

#include <pwd.h>
#include <stdio.h>

#include "agent-turn-bus.h"
#include "approvals-bus.h"
#include "bus-util.h"
#include "helpers.h"
#include "private-server.h"
#include "string-util.h"

#define APPROVE "ai.puffo.agents.approve"
#define REPORTED_MAX 256U
#define ID_SIZE_MAX 100U
#define REASON_SIZE_MAX KIB(2)
#define GATHER_TIMEOUT_USEC (10 * USEC_PER_SEC)

/* --- what sessions tell --- */

/* The agent's id, ':' and some letters: the agent can be found by it, and no session can speak of another's. */
static bool id_is_of(const char *id, const char *agent) {
        const char *rest = startswith(id, agent);

        if (!rest || *rest++ != ':' || strlen(id) > ID_SIZE_MAX)
                return false;
        return *rest && strspn(rest, "0123456789abcdefghijklmnopqrstuvwxyz") == strlen(rest);
}

int approvals_take_report(Agent *a, sd_bus_message *m) {
        _cleanup_(strv_freep) char **ids = NULL, **before = NULL;
        const char *id;
        size_t n = 0;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "as");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "s");
        while (r >= 0 && (r = sd_bus_message_read(m, "s", &id)) > 0)
                if (n < REPORTED_MAX && id_is_of(id, a->home->id)) {
                        r = strv_extend(&ids, id);
                        n++;
                }
        for (unsigned i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;
        before = TAKE_PTR(a->approvals);
        a->approvals = TAKE_PTR(ids);
        for (char **i = a->approvals; i && *i; i++)
                if (!strv_contains(before, *i))
                        (void) sd_bus_emit_signal(a->manager->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE,
                                                  "ApprovalRequested", "so", *i, a->path);
        return 0;
}

int approval_ended(Agent *a, const char *id, const char *state) {
        static char *const states[] = { (char*) "allowed", (char*) "denied", (char*) "expired", (char*) "withdrawn",
                                        NULL };

        if (!id_is_of(id, a->home->id) || !strv_contains(states, state))
                return -EINVAL;
        return sd_bus_emit_signal(a->manager->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "ApprovalAnswered",
                                  "sos", id, a->path, state);
}

/* --- those of all agents --- */

/* One caller's question to several sessions. */
typedef struct Gather {
        sd_bus_message *call, *reply;
        unsigned n_left;
} Gather;

static void gather_end(Gather *g) {
        int r = sd_bus_message_close_container(g->reply);

        if (r >= 0)
                r = sd_bus_send(NULL, g->reply, NULL);
        if (r < 0)
                (void) sd_bus_reply_method_errno(g->call, r, NULL);
        sd_bus_message_unref(g->reply);
        sd_bus_message_unref(g->call);
        free(g);
}

static void gather_drop(Gather *g) {
        if (g->n_left-- == 1)
                gather_end(g);
}

/* A session that has gone meanwhile is none that runs. */
static int gather_on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Gather *g = userdata;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_has_signature(m, "aa{sv}") > 0 &&
            sd_bus_message_enter_container(m, 'a', "a{sv}") >= 0)
                while (sd_bus_message_at_end(m, false) == 0 && sd_bus_message_copy(g->reply, m, /* all= */ 0) > 0)
                        ;
        gather_drop(g);
        return 0;
}

static int gather_ask(Gather *g, Agent *a, bool all) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        int r = session_link_new_call(a->link, "ListApprovals", &call);

        if (r >= 0)
                r = sd_bus_message_append(call, "bb", all, false);
        return r < 0 ? r : session_link_call(a->link, call, gather_on_reply, g, GATHER_TIMEOUT_USEC);
}

static int list_of_all(Manager *m, sd_bus_message *message, bool all, sd_bus_error *reterr_error) {
        uid_t uid = 0;
        Gather *g;
        int r;

        r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = polkit_verify_async(m, message, APPROVE, NULL, uid, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        g = new0(Gather, 1);
        if (!g)
                return -ENOMEM;
        r = sd_bus_message_new_method_return(message, &g->reply);
        if (r >= 0)
                r = sd_bus_message_open_container(g->reply, 'a', "a{sv}");
        if (r < 0) {
                sd_bus_message_unref(g->reply);
                free(g);
                return r;
        }
        g->call = sd_bus_message_ref(message);
        g->n_left = 1;
        for (size_t i = 0; i < m->n_agents; i++) {
                Agent *a = m->agents[i];

                if ((m->scope == SCOPE_SYSTEM && uid != 0 && a->owner != uid) || !session_link_is_up(a->link) ||
                    (!all && strv_length(a->approvals) == 0))
                        continue;
                g->n_left++;
                if (gather_ask(g, a, all) < 0)
                        g->n_left--;
        }
        gather_drop(g);
        return 1;
}

int manager_method_list_approvals(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        Manager *m = userdata;
        const char *id;
        Agent *a;
        int all, r;

        r = sd_bus_message_read(message, "sb", &id, &all);
        if (r < 0)
                return r;
        if (isempty(id))
                return list_of_all(m, message, all, reterr_error);
        a = manager_find_agent_lenient(m, id);
        if (!a || !a->config)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT,
                                      "There is no agent '%s'; 'puffoctl agent list' shows all.", id);
        r = agent_verify(a, message, APPROVE, reterr_error);
        if (r > 0)
                r = agent_session_is_there(a, message, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = session_link_new_call(a->link, "ListApprovals", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "bb", all, true);
        return r < 0 ? r : agent_relay(a, message, call, -EBADF, true, reterr_error);
}

/* --- the answer --- */

/* From the file: whoever else may know users by name may take his time. */
static char* user_name(uid_t uid) {
        FILE *f = fopen("/etc/passwd", "re");
        struct passwd *p;
        char *name = NULL;

        while (f && !name && (p = fgetpwent(f)))
                if (p->pw_uid == uid)
                        name = strdup(p->pw_name);
        if (f)
                (void) fclose(f);
        return name ?: asprintf_new("user %u", (unsigned) uid);
}

/* No boundary, as what runs as a user can do whatever that user can; but no agent shall come across it by asking for
 * the way. */
static int check_not_an_agent(Manager *m, sd_bus_message *message, sd_bus_error *reterr_error) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        const char *slice = NULL;
        int r;

        r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_AUGMENT | SD_BUS_CREDS_PID | SD_BUS_CREDS_SLICE |
                                      SD_BUS_CREDS_USER_SLICE, &creds);
        if (r >= 0)
                r = m->scope == SCOPE_USER ? sd_bus_creds_get_user_slice(creds, &slice)
                                           : sd_bus_creds_get_slice(creds, &slice);
        for (size_t i = 0; r >= 0 && i < m->n_agents; i++)
                if (streq(m->agents[i]->slice, slice))
                        return bus_error_setf(reterr_error, SD_BUS_ERROR_ACCESS_DENIED,
                                              "Agents cannot answer requests for permission.");
        return 0;
}

static Agent* agent_of_request(Manager *m, const char *id) {
        _cleanup_free_ char *agent = strndup(id, strcspn(id, ":"));
        Agent *a = agent ? manager_find_agent(m, agent) : NULL;

        return a && a->config && id_is_of(id, agent) ? a : NULL;
}

int manager_method_approve(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *by = NULL, *token = NULL;
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        Manager *m = userdata;
        const char *id, *reason;
        uint64_t cookie = 0;
        uid_t uid = 0;
        int allow, r;
        Agent *a;

        r = sd_bus_message_read(message, "sbs", &id, &allow, &reason);
        if (r < 0)
                return r;
        if (strlen(reason) > REASON_SIZE_MAX)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "The reason is longer than %zu bytes.", REASON_SIZE_MAX);
        a = agent_of_request(m, id);
        if (!a)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_APPROVAL,
                                      "There is no request '%.120s'; 'puffoctl approvals' shows all.", id);
        r = check_not_an_agent(m, message, reterr_error);
        if (r >= 0)
                r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = sd_bus_message_get_cookie(message, &cookie);
        if (r < 0)
                return r;
        r = agent_verify(a, message, APPROVE, reterr_error);
        if (r > 0)
                r = agent_session_is_there(a, message, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        /* Names this call: should the session end before it has answered, it is asked the same again. */
        token = asprintf_new("%s/%" PRIu64, strempty(sd_bus_message_get_sender(message)), cookie);
        by = user_name(uid);
        if (!token || !by)
                return -ENOMEM;
        r = session_link_new_call(a->link, "AnswerApproval", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "sbsss", id, allow, reason, by, token);
        return r < 0 ? r : agent_relay(a, message, call, -EBADF, true, reterr_error);
}
