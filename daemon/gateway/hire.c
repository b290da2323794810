/* SPDX-License-Identifier: MIT */

#include "bus-call.h"
#include "bus-util.h"
#include "gateway-handlers.h"
#include "json-util.h"

/* start_timeout in config.yaml may be 80 s. */
#define HIRE_TIMEOUT_USEC (90 * USEC_PER_SEC)
#define PART_MAX 32

/* puffod judges names; this is only to tell the client which of the two is wrong (agent-proxy §3). */
static bool part_is_valid(const char *s) {
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

        return n > 0 && n <= PART_MAX && s[n] == 0 && s[0] != '-' && s[n - 1] != '-';
}

static int hire_parse(Call *c, json_object **ret, ApiError *e) {
        _cleanup_json_ json_object *body = NULL;
        int r;

        r = call_parse_body(c, &body, e);
        if (r < 0)
                return r;
        for (size_t i = 0; i < 2; i++) {
                const char *key = i == 0 ? "role" : "name";
                _cleanup_free_ char *shown = NULL;

                if (!json_get(body, key))
                        return api_error_set(e, 400, "missing_required_parameter", key,
                                             "Missing required parameter: '%s'.", key);
                if (!json_get_string(body, key))
                        return api_error_set(e, 400, "invalid_type", key, "Invalid type for '%s': expected a string.",
                                             key);
                shown = str_printable(json_get_string(body, key), 80);
                if (!part_is_valid(json_get_string(body, key)))
                        return api_error_set(e, 400, "invalid_value", key,
                                             "invalid %s name: '%s' (1 to 32 letters, digits and '-', beginning and "
                                             "ending with no '-')",
                                             i == 0 ? "role" : "agent", strempty(shown));
        }
        *ret = TAKE_PTR(body);
        return 0;
}

static int hire_append(sd_bus_message *message, void *userdata) {
        Call *c = userdata;
        _cleanup_api_error_ ApiError e = {};
        _cleanup_json_ json_object *body = NULL;
        int r;

        r = hire_parse(c, &body, &e);
        if (r < 0)
                return r;
        r = bus_append_text(message, json_get_string(body, "role"));
        return r < 0 ? r : bus_append_text(message, json_get_string(body, "name"));
}

/* -ESRCH: the agent is not among those that we know. */
static int hire_answer(Call *c, sd_bus_message *reply) {
        _cleanup_json_ json_object *o = json_object_new_object();
        MirroredAgent *a;
        const char *path;
        bool starting;
        uint32_t pid;
        int created, r;

        r = sd_bus_message_rewind(reply, true);
        if (r >= 0)
                r = sd_bus_message_read(reply, "oub", &path, &pid, &created);
        if (r < 0)
                return r;
        a = agent_mirror_find_path(c->gateway->agents, path);
        if (!a)
                return -ESRCH;
        starting = pid == 0 && !streq_ptr(a->state, "failed");
        if (!o || json_put_string(o, "agent", a->id) < 0 || json_put_string(o, "role", strempty(a->role)) < 0 ||
            json_put_string(o, "name", strempty(a->name)) < 0 ||
            (pid > 0 ? json_put_int(o, "pid", pid) : json_put_null(o, "pid")) < 0 ||
            json_put_string(o, "state", starting ? "starting" : strempty(a->state)) < 0 ||
            json_put_string(o, "workspace", strempty(a->workspace)) < 0 || json_put_bool(o, "created", created) < 0)
                return -ENOMEM;
        call_reply_json(c, pid == 0 ? 202 : created ? 201 : 200, o);
        return 0;
}

/* Signals come before the reply that follows from them: with a list that is puffod's own, who is not in it was removed
 * meanwhile. The same request makes it again. */
static void hire_on_agents(bool loaded, void *userdata) {
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;
        int r;

        c->waiter = agent_waiter_free(c->waiter);
        r = loaded ? hire_answer(c, c->hired) : -ESRCH;
        if (r == -ESRCH) {
                (void) api_error_set(&e, 503, "agent_not_ready", NULL,
                                     "The agent was hired, and is not there any more or not yet known: ask again.");
                call_reply_error(c, &e);
        } else if (r < 0)
                call_reply_errno(c, r);
}

static void hire_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;
        int r;

        if (error && sd_bus_error_has_name(error, PUFFO_ERROR_INVALID_NAME)) {
                /* Each is fine by itself, as seen above: it is too long with its role. */
                (void) api_error_set(&e, 400, "invalid_value", "name", "%s", error->message ?: error->name);
                call_reply_error(c, &e);
        } else if (error)
                call_reply_bus_error(c, error);
        else {
                r = hire_answer(c, reply);
                if (r == -ESRCH) {
                        /* A puffod that has just come up answers before we have its list. */
                        c->hired = sd_bus_message_ref(reply);
                        r = agent_mirror_wait(c->gateway->agents, &c->waiter, hire_on_agents, c);
                }
                if (r < 0)
                        call_reply_errno(c, r);
        }
        c->bus_call = bus_call_free(c->bus_call);
}

void hire_post(Call *c) {
        _cleanup_api_error_ ApiError e = {};
        _cleanup_json_ json_object *body = NULL;
        int r;

        /* What we make is ours on the bus: without the key, which stands for all agents, a user would get one that he
         * may not talk to, and any service of the machine could fill it with them. */
        if (c->gateway->scope == SCOPE_SYSTEM && !c->by_key) {
                (void) api_error_set(&e, 403, "permission_denied", NULL,
                                     "Hiring by HTTP in system mode needs AGENT_PROXY_API_KEY. Without a key use "
                                     "'agent-proxy hire --system', which makes an agent of your own.");
                call_reply_error(c, &e);
                return;
        }
        r = hire_parse(c, &body, &e);
        if (r == -EBADMSG) {
                call_reply_error(c, &e);
                return;
        }
        if (r >= 0)
                r = bus_call_start(&c->bus_call, c->gateway->event, c->gateway->bus, &(BusCallSpec) {
                        .path = PUFFO_BUS_PATH,
                        .interface = PUFFO_BUS_MANAGER_INTERFACE,
                        .member = "Hire",
                        .append = hire_append,
                        .done = hire_done,
                        .userdata = c,
                        .timeout_usec = HIRE_TIMEOUT_USEC,
                });
        if (r < 0)
                call_reply_errno(c, r);
}
