/* SPDX-License-Identifier: MIT */

/* Authorisation. Asking polkit takes its time, so a method that needs it is run twice: the first run sends
 * CheckAuthorization and parks the verdict under the call; when the answer is there the call is put back into the
 * queue and the method, run again from its top, finds the verdict. Between the runs nothing is held but the message,
 * so whatever the method looked up is looked up anew. */

#include <sys/queue.h>
#include <sys/types.h>

#include "bus-util.h"
#include "event-util.h"
#include "helpers.h"
#include "log.h"
#include "string-util.h"

#define VERDICTS_MAX 256U
#define VERDICTS_PER_SENDER_MAX 16U     /* nobody's calls that wait for a password are to keep others out */
#define POLKIT_TIMEOUT_USEC (5 * 60 * USEC_PER_SEC)     /* a person may be typing a password */
#define VERDICT_LIFETIME_USEC (30 * USEC_PER_SEC)       /* it is taken at once, or the caller has gone */
#define ASK_AGAIN_USEC (500 * USEC_PER_MSEC)

typedef struct Verdict {
        LIST_ENTRY(Verdict) verdicts;
        Polkit *polkit;
        sd_bus_message *call;
        char *action;
        sd_bus_slot *slot;
        sd_bus_track *track;            /* of the caller: nobody else can take the verdict */
        sd_event_source *expiry;
        bool answered, authorized, challenge;
} Verdict;

struct Polkit {
        Manager *manager;
        LIST_HEAD(VerdictList, Verdict) verdicts;
        unsigned n_verdicts;
};

int polkit_new(Polkit **ret, Manager *m) {
        Polkit *p = new0(Polkit, 1);

        if (!p)
                return -ENOMEM;
        p->manager = m;
        LIST_INIT(&p->verdicts);
        *ret = p;
        return 0;
}

static void verdict_free(Verdict *v) {
        LIST_REMOVE(v, verdicts);
        v->polkit->n_verdicts--;
        sd_bus_slot_unref(v->slot);
        sd_bus_track_unref(v->track);
        sd_event_source_disable_unref(v->expiry);
        sd_bus_message_unref(v->call);
        free(v->action);
        free(v);
}

Polkit* polkit_free(Polkit *p) {
        if (!p)
                return NULL;
        while (!LIST_EMPTY(&p->verdicts))
                verdict_free(LIST_FIRST(&p->verdicts));
        return mfree(p);
}

static int verdict_on_caller_gone(sd_bus_track *track, void *userdata) {
        verdict_free(userdata);
        return 0;
}

static int verdict_on_expiry(sd_event_source *s, uint64_t usec, void *userdata) {
        verdict_free(userdata);
        return 0;
}

static int verdict_on_again(sd_event_source *s, uint64_t usec, void *userdata) {
        Verdict *v = userdata;
        _cleanup_bus_message_ sd_bus_message *call = sd_bus_message_ref(v->call);
        int r;

        verdict_free(v);
        r = sd_bus_message_rewind(call, true);
        if (r >= 0)
                r = sd_bus_enqueue_for_read(sd_bus_message_get_bus(call), call);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to take up a call again, ignoring: %m");
        return 0;
}

/* The bus takes so many unanswered questions of ours and no more, and counts those of callers who have gone as long as
 * polkit owes the answer: that is no answer to this one. The method is run again later, and asks anew. */
static int verdict_ask_again(Verdict *v) {
        v->slot = sd_bus_slot_unref(v->slot);
        return event_arm_timer(v->polkit->manager->event, &v->expiry, ASK_AGAIN_USEC, 0, verdict_on_again, v);
}

/* The details at the end of the structure are left unread: they may be any number. */
static int verdict_read(sd_bus_message *m, int *ret_authorized, int *ret_challenge) {
        int r = sd_bus_message_enter_container(m, 'r', "bba{ss}");

        return r < 0 ? r : sd_bus_message_read(m, "bb", ret_authorized, ret_challenge);
}

static int verdict_on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int authorized = 0, challenge = 0, r;
        Verdict *v = userdata;

        if (e && sd_bus_error_has_name(e, SD_BUS_ERROR_LIMITS_EXCEEDED) && verdict_ask_again(v) >= 0)
                return 0;
        if (e)
                log_warning("polkit cannot be asked about '%s': %s", v->action, e->message);
        else if (verdict_read(m, &authorized, &challenge) < 0) {
                log_warning("polkit's answer about '%s' cannot be understood: taken as a no.", v->action);
                authorized = challenge = 0;
        }

        v->slot = sd_bus_slot_unref(v->slot);
        v->answered = true;
        v->authorized = authorized;
        v->challenge = challenge;

        r = sd_bus_message_rewind(v->call, true);
        if (r >= 0)
                r = event_arm_timer(v->polkit->manager->event, &v->expiry, VERDICT_LIFETIME_USEC, 0, verdict_on_expiry,
                                    v);
        if (r >= 0)
                r = sd_bus_enqueue_for_read(sd_bus_message_get_bus(v->call), v->call);
        if (r < 0)
                verdict_free(v);
        return 0;
}

static bool is_full(const Polkit *p, const char *sender) {
        unsigned n = 0;

        for (const Verdict *v = LIST_FIRST(&p->verdicts); v; v = LIST_NEXT(v, verdicts))
                n += streq_ptr(sd_bus_message_get_sender(v->call), sender);
        return p->n_verdicts >= VERDICTS_MAX || n >= VERDICTS_PER_SENDER_MAX;
}

static int ask(Polkit *p, sd_bus_message *call, const char *action, const char *agent, uid_t owner, bool quietly) {
        _cleanup_bus_message_ sd_bus_message *q = NULL;
        _cleanup_free_ char *owner_text = asprintf_new("%u", (unsigned) owner);
        Verdict *v;
        int r;

        if (!owner_text)
                return -ENOMEM;
        if (is_full(p, sd_bus_message_get_sender(call)))
                return -ENOBUFS;

        r = sd_bus_message_new_method_call(p->manager->bus, &q, "org.freedesktop.PolicyKit1",
                                           "/org/freedesktop/PolicyKit1/Authority",
                                           "org.freedesktop.PolicyKit1.Authority", "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(q, "(sa{sv})s", "system-bus-name", 1, "name", "s",
                                          sd_bus_message_get_sender(call), action);
        if (r >= 0)
                r = agent ? sd_bus_message_append(q, "a{ss}", 2, "agent", agent, "owner", owner_text)
                          : sd_bus_message_append(q, "a{ss}", 0);
        if (r >= 0)
                r = sd_bus_message_append(q, "us", !quietly &&
                                          sd_bus_message_get_allow_interactive_authorization(call) > 0 ? 1U : 0U, "");
        if (r < 0)
                return r;

        v = new0(Verdict, 1);
        if (!v)
                return -ENOMEM;
        v->polkit = p;
        v->call = sd_bus_message_ref(call);
        LIST_INSERT_HEAD(&p->verdicts, v, verdicts);
        p->n_verdicts++;
        v->action = strdup(action);

        r = v->action ? sd_bus_track_new(p->manager->bus, &v->track, verdict_on_caller_gone, v) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_track_add_sender(v->track, call);
        if (r >= 0)
                r = sd_bus_call_async(p->manager->bus, &v->slot, q, verdict_on_reply, v, POLKIT_TIMEOUT_USEC);
        if (r < 0)
                verdict_free(v);
        return r;
}

static int deny(sd_bus_message *call, const char *action, const char *agent, bool challenge,
                sd_bus_error *reterr_error) {
        const char *fields[] = { PUFFO_MESSAGE_ACCESS_DENIED, NULL };

        (void) log_fields(LOG_NOTICE, 0, fields, "'%s' of %s%s%s was refused to %s.",
                          strempty(sd_bus_message_get_member(call)), action, agent ? " for agent " : "",
                          strempty(agent), strempty(sd_bus_message_get_sender(call)));
        if (challenge)
                return bus_error_setf(
                                reterr_error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                                "'%s' needs authorisation (%s); try again from a terminal with an authentication "
                                "agent, or as root.",
                                strempty(sd_bus_message_get_member(call)), action);
        return bus_error_setf(reterr_error, SD_BUS_ERROR_ACCESS_DENIED,
                              "'%s' is not allowed to you (polkit action %s).",
                              strempty(sd_bus_message_get_member(call)), action);
}

/* The action that counts: one's own agents need no more than manage-own, what that takes is polkit's to say. */
static const char* effective_action(const char *action, uid_t uid, uid_t owner) {
        return owner != (uid_t) -1 && uid == owner ? "ai.puffo.agents.manage-own" : action;
}

static Verdict* find_verdict(Polkit *p, sd_bus_message *call) {
        for (Verdict *v = LIST_FIRST(&p->verdicts); v; v = LIST_NEXT(v, verdicts))
                if (v->call == call && v->answered)
                        return v;
        return NULL;
}

static int too_many(sd_bus_error *reterr_error) {
        return sd_bus_error_set(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                "Too many calls wait for an authorisation; answer those first.");
}

int polkit_ask_quietly(Manager *m, sd_bus_message *call, const char *action, bool *ret_authorized,
                       sd_bus_error *reterr_error) {
        Verdict *v = find_verdict(m->polkit, call);
        int r;

        if (v && streq(v->action, action)) {
                *ret_authorized = v->authorized;
                verdict_free(v);
                return 1;
        }
        r = ask(m->polkit, call, action, NULL, (uid_t) -1, /* quietly= */ true);
        if (r == -ENOBUFS)
                return too_many(reterr_error);
        if (r < 0) {
                *ret_authorized = false;
                return 1;
        }
        return 0;
}

int polkit_verify_async(Manager *m, sd_bus_message *call, const char *action, const char *agent, uid_t owner,
                        sd_bus_error *reterr_error) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        uid_t uid = (uid_t) -1;
        Verdict *v;
        int r;

        r = sd_bus_query_sender_creds(call, SD_BUS_CREDS_EUID, &creds);
        if (r >= 0)
                r = sd_bus_creds_get_euid(creds, &uid);
        if (r < 0)
                return deny(call, action, agent, /* challenge= */ false, reterr_error);
        if (uid == 0 || uid == geteuid())
                return 1;
        if (m->scope == SCOPE_USER)
                return deny(call, action, agent, /* challenge= */ false, reterr_error);

        action = effective_action(action, uid, owner);
        v = find_verdict(m->polkit, call);
        if (v) {
                bool same = streq(v->action, action), authorized = v->authorized, challenge = v->challenge;

                verdict_free(v);
                if (same)
                        return authorized ? 1 : deny(call, action, agent, challenge, reterr_error);
        }

        r = ask(m->polkit, call, action, agent, owner, /* quietly= */ false);
        if (r == -ENOBUFS)
                return too_many(reterr_error);
        return r < 0 ? deny(call, action, agent, /* challenge= */ false, reterr_error) : 0;
}
