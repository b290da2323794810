/* SPDX-License-Identifier: MIT */

#include "approvals.h"
#include "bus-call.h"
#include "bus-util.h"
#include "gateway-handlers.h"
#include "json-util.h"

/* --- reading --- */

typedef struct Approval {
        const char *id, *agent, *tool, *summary, *state, *input;        /* borrowed from the message */
        uint64_t created_usec, expires_usec, input_size;
} Approval;

/* a{sv} */
static int approval_read(sd_bus_message *m, Approval *ret) {
        const struct {
                const char *name;
                const char **text;
                uint64_t *number;
        } fields[] = {
                { "Id", &ret->id, NULL }, { "Agent", &ret->agent, NULL }, { "Tool", &ret->tool, NULL },
                { "Summary", &ret->summary, NULL }, { "State", &ret->state, NULL }, { "Input", &ret->input, NULL },
                { "CreatedAt", NULL, &ret->created_usec }, { "ExpiresAt", NULL, &ret->expires_usec },
                { "InputSize", NULL, &ret->input_size },
        };
        const char *name;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                bool known = false;

                r = sd_bus_message_read(m, "s", &name);
                for (size_t i = 0; i < ELEMENTSOF(fields) && r >= 0 && !known; i++)
                        if (streq(fields[i].name, name)) {
                                known = true;
                                r = fields[i].text ? sd_bus_message_read(m, "v", "s", fields[i].text)
                                                   : sd_bus_message_read(m, "v", "t", fields[i].number);
                        }
                if (r >= 0 && !known)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* What the tool would get: a JSON value, or, as of what is very long there is only the beginning, that as a text. */
static int approval_input_new(const char *text, json_object **ret) {
        int r;

        *ret = NULL;
        if (!text)
                return 0;
        r = json_parse(text, strlen(text), ret);
        if (r == -EBADMSG) {
                *ret = json_object_new_string(text);
                r = *ret ? 0 : -ENOMEM;
        }
        return r;
}

static int approval_object_new(const Approval *a, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *input;

        if (!o || approval_input_new(a->input, &input) < 0)
                return -ENOMEM;
        if (json_put(o, "input", input) < 0 || json_put_string(o, "id", a->id) < 0 ||
            json_put_string(o, "agent", a->agent) < 0 || json_put_string(o, "tool", a->tool) < 0 ||
            json_put_string(o, "state", a->state) < 0 || json_put_string(o, "summary", a->summary) < 0 ||
            json_put_int(o, "input_size", (int64_t) a->input_size) < 0 ||
            json_put_int(o, "created", (int64_t) (a->created_usec / USEC_PER_SEC)) < 0 ||
            json_put_int(o, "expires", (int64_t) (a->expires_usec / USEC_PER_SEC)) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

int approvals_read(sd_bus_message *reply, const char *id, json_object *list) {
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "a{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_at_end(reply, /* complete= */ false)) == 0) {
                json_object *o = NULL;
                Approval a = {};

                r = approval_read(reply, &a);
                if (r < 0)
                        return r;
                if (!a.id || !streq_ptr(a.state, "pending") || (id && !streq(a.id, id)))
                        continue;
                r = approval_object_new(&a, &o);
                if (r < 0)
                        return r;
                if (json_object_array_add(list, o) < 0) {
                        json_object_put(o);
                        return -ENOMEM;
                }
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

int approvals_append(sd_bus_message *message, const char *agent) {
        return sd_bus_message_append(message, "sb", agent, false);
}

/* --- GET /approvals --- */

/* The agents are asked one after the other. */
struct ApprovalGather {
        Call *call;
        char **agents;
        size_t next;
        json_object *list;
};

ApprovalGather* approval_gather_free(ApprovalGather *g) {
        if (!g)
                return NULL;
        strv_free(g->agents);
        json_object_put(g->list);
        return mfree(g);
}

static int gather_ask(ApprovalGather *g);

static int gather_append(sd_bus_message *message, void *userdata) {
        ApprovalGather *g = userdata;

        return approvals_append(message, g->agents[g->next]);
}

static int gather_answer(ApprovalGather *g) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put(o, "approvals", json_object_get(g->list)) < 0)
                return -ENOMEM;
        call_reply_json(g->call, 200, o);
        return 0;
}

static void gather_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        ApprovalGather *g = userdata;
        int r = 0;

        g->call->bus_call = bus_call_free(g->call->bus_call);
        /* One that has just stopped or gone has none any more. */
        if (!error)
                r = approvals_read(reply, NULL, g->list);
        else if (!sd_bus_error_has_name(error, PUFFO_ERROR_NOT_READY) &&
                 !sd_bus_error_has_name(error, PUFFO_ERROR_NO_SUCH_AGENT)) {
                call_reply_bus_error(g->call, error);
                return;
        }
        g->next++;
        if (r >= 0)
                r = gather_ask(g);
        if (r < 0)
                call_reply_errno(g->call, r);
}

static int gather_ask(ApprovalGather *g) {
        if (!g->agents || !g->agents[g->next])
                return gather_answer(g);
        return bus_call_start(&g->call->bus_call, g->call->gateway->event, g->call->gateway->bus, &(BusCallSpec) {
                .path = PUFFO_BUS_PATH,
                .interface = PUFFO_BUS_MANAGER_INTERFACE,
                .member = "ListApprovals",
                .append = gather_append,
                .done = gather_done,
                .userdata = g,
        });
}

void approvals_list(Call *c) {
        AgentMirror *m = c->gateway->agents;
        int r = 0;

        c->gather = new0(ApprovalGather, 1);
        if (!c->gather || !(c->gather->list = json_object_new_array()))
                r = -ENOMEM;
        else
                c->gather->call = c;
        for (size_t i = 0; i < agent_mirror_size(m) && r >= 0; i++) {
                const MirroredAgent *a = agent_mirror_get(m, i);

                /* Only who is in a turn can ask for something. */
                if (call_may_use(c, a) && streq_ptr(a->state, "busy"))
                        r = strv_extend(&c->gather->agents, a->id);
        }
        if (r >= 0)
                r = gather_ask(c->gather);
        if (r < 0)
                call_reply_errno(c, r);
}

/* --- POST /approvals/{id} --- */

static int answer_parse(Call *c, bool *ret_allow, json_object **ret_body, ApiError *e) {
        _cleanup_json_ json_object *body = NULL;
        const char *decision;
        int r;

        r = call_parse_body(c, &body, e);
        if (r < 0)
                return r;
        decision = json_get_string(body, "decision");
        if (!json_get(body, "decision"))
                return api_error_set(e, 400, "missing_required_parameter", "decision",
                                     "Missing required parameter: 'decision'.");
        if (!streq_ptr(decision, "allow") && !streq_ptr(decision, "deny"))
                return api_error_set(e, 400, "invalid_value", "decision",
                                     "Invalid value for 'decision': expected 'allow' or 'deny'.");
        if (json_get(body, "reason") && !json_get_string(body, "reason"))
                return api_error_set(e, 400, "invalid_type", "reason",
                                     "Invalid type for 'reason': expected a string.");
        *ret_allow = streq(decision, "allow");
        *ret_body = TAKE_PTR(body);
        return 0;
}

static int answer_append(sd_bus_message *message, void *userdata) {
        _cleanup_json_ json_object *body = NULL;
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;
        bool allow;
        int r;

        r = answer_parse(c, &allow, &body, &e);
        if (r >= 0)
                r = bus_append_text(message, c->match.argument);
        if (r >= 0)
                r = sd_bus_message_append(message, "b", (int) allow);
        return r < 0 ? r : bus_append_text(message, json_get_string(body, "reason"));
}

static void reply_no_approval(Call *c) {
        _cleanup_free_ char *shown = str_printable(c->match.argument, 100);
        _cleanup_api_error_ ApiError e = {};

        (void) api_error_set(&e, 404, "approval_not_found", NULL, "There is no request with id '%s'.",
                             strempty(shown));
        call_reply_error(c, &e);
}

static void answer_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_json_ json_object *body = NULL, *o = json_object_new_object();
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;
        bool allow = false;

        c->bus_call = bus_call_free(c->bus_call);
        if (error && sd_bus_error_has_name(error, PUFFO_ERROR_NO_SUCH_APPROVAL))
                reply_no_approval(c);
        else if (error && sd_bus_error_has_name(error, PUFFO_ERROR_ALREADY_ANSWERED)) {
                (void) api_error_set(&e, 409, "already_answered", NULL, "%s", error->message ?: error->name);
                call_reply_error(c, &e);
        } else if (error)
                call_reply_bus_error(c, error);
        else if (answer_parse(c, &allow, &body, &e) < 0 || !o || json_put_string(o, "id", c->match.argument) < 0 ||
                 json_put_string(o, "state", allow ? "allowed" : "denied") < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_json(c, 200, o);
}

void approval_answer(Call *c) {
        _cleanup_json_ json_object *body = NULL;
        _cleanup_free_ char *agent = NULL;
        _cleanup_api_error_ ApiError e = {};
        MirroredAgent *a;
        bool allow;
        int r;

        r = answer_parse(c, &allow, &body, &e);
        if (r == -EBADMSG) {
                call_reply_error(c, &e);
                return;
        }
        if (r >= 0) {
                /* An id begins with the agent's, and ':' is in none. */
                agent = strndup(c->match.argument, strcspn(c->match.argument, ":"));
                r = agent ? 0 : -ENOMEM;
        }
        if (r >= 0) {
                a = agent_mirror_find(c->gateway->agents, agent);
                if (!a || !call_may_use(c, a)) {
                        reply_no_approval(c);
                        return;
                }
                r = bus_call_start(&c->bus_call, c->gateway->event, c->gateway->bus, &(BusCallSpec) {
                        .path = PUFFO_BUS_PATH,
                        .interface = PUFFO_BUS_MANAGER_INTERFACE,
                        .member = "Approve",
                        .append = answer_append,
                        .done = answer_done,
                        .userdata = c,
                });
        }
        if (r < 0)
                call_reply_errno(c, r);
}
