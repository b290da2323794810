/* SPDX-License-Identifier: MIT */

/* agent refresh-ping: what there is of the login that an agent's CLI works with, and having it refreshed. */

#include <stdio.h>
#include <time.h>

#include "ctl-bus.h"
#include "ctl-text.h"
#include "ctl-verbs.h"
#include "event-util.h"
#include "string-util.h"

/* The daemon answers after two and a half minutes at most. */
#define TIMEOUT_USEC (155 * USEC_PER_SEC)
#define EXIT_TIMEOUT 3

static const char* yes_no(json_object *login, const char *key) {
        return json_get_bool(login, key, false) ? "yes" : "no";
}

/* NULL: -ENOMEM. */
static char* expiry_text(uint64_t expires_usec) {
        int64_t left = (int64_t) (expires_usec / USEC_PER_SEC) - (int64_t) (now_realtime_usec() / USEC_PER_SEC);
        _cleanup_free_ char *at = text_time(expires_usec);

        if (expires_usec == 0)
                return strdup("(missing)");
        return at ? asprintf_new("%s (%+" PRIi64 "s from now)", at, left) : NULL;
}

static char* scopes_text(json_object *list) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = strbuf_puts(&b, "[");

        for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && r >= 0;
             i++)
                r = strbuf_printf(&b, "%s%s", i > 0 ? ", " : "",
                                  json_object_get_string(json_object_array_get_idx(list, i)));
        if (r >= 0)
                r = strbuf_puts(&b, "]");
        return r < 0 ? NULL : strbuf_take(&b);
}

static int say_login(Ctl *c, const char *whose, json_object *login) {
        const char *problem = json_get_string(login, "problem");
        _cleanup_free_ char *changed = text_time((uint64_t) json_get_int(login, "modified_at", 0)),
                            *expires = expiry_text((uint64_t) json_get_int(login, "expires_at", 0)),
                            *scopes = scopes_text(json_get(login, "scopes")), *line = NULL, *safe = NULL;

        if (changed && expires && scopes)
                line = !isempty(problem)
                               ? strdup(problem)
                               : asprintf_new("mtime=%s expiresAt=%s accessToken=%s refreshToken=%s scopes=%s",
                                              changed, expires, yes_no(login, "access_token"),
                                              yes_no(login, "refresh_token"), scopes);
        safe = line ? str_printable(line, SIZE_MAX) : NULL;
        if (!safe)
                return -ENOMEM;
        ctl_say(c, "%s %s: %s", whose, strempty(json_get_string(login, "file")), safe);
        return 0;
}

static int get_login(Ctl *c, const char *id, sd_bus_error *reterr, json_object **ret) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *both = json_object_new_object();
        json_object *part;
        int r = both ? ctl_call_agent(c, id, reterr, &reply, CTL_CALL_TIMEOUT_USEC, "GetLogin", NULL) : -ENOMEM;

        for (const char *const *key = (const char *const[]) { "operator", "agent", NULL }; *key && r >= 0; key++) {
                r = bus_message_to_json(reply, &part);
                if (r >= 0)
                        r = json_put(both, *key, part);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(both);
        return 0;
}

static int say_logins(Ctl *c, json_object *both) {
        int r = say_login(c, "operator's", json_get(both, "operator"));

        return r < 0 ? r : say_login(c, "agent's", json_get(both, "agent"));
}

/* Who asks for an agent that is not there, or that works with no such login, has made a mistake. */
static int fail(Ctl *c, const char *id, int r, const sd_bus_error *e) {
        int status = ctl_fail_bus(c, r, e, "cannot refresh the login of agent '%s'", id);
        bool mistake = sd_bus_error_has_names(e, PUFFO_ERROR_NO_SUCH_AGENT, PUFFO_ERROR_INVALID_ARGUMENT,
                                              SD_BUS_ERROR_NOT_SUPPORTED);

        return mistake ? EXIT_USAGE : status;
}

int verb_agent_refresh_ping(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agent = NULL, *before = NULL, *after = NULL, *o = NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        const char *id = a->words[0], *result;
        uint64_t begin;
        int r;

        r = ctl_get_agent(c, id, &error, &agent);
        if (r >= 0)
                r = get_login(c, id, &error, &before);
        if (r < 0)
                return fail(c, id, r, &error);
        ctl_say(c, "agent '%s': kind %s, model %s, HOME %s, workspace %s", id,
                strempty(json_get_string(agent, "runtime_kind")), strempty(json_get_string(agent, "model")),
                strempty(json_get_string(agent, "directory")), strempty(json_get_string(agent, "workspace")));
        r = say_logins(c, before);
        if (r < 0)
                return ctl_oom(c);

        begin = now_boottime_usec();
        r = ctl_call_agent(c, id, &error, &reply, TIMEOUT_USEC, "RefreshLogin", NULL);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &result);
        if (r == -ETIMEDOUT || sd_bus_error_has_name(&error, SD_BUS_ERROR_NO_REPLY)) {
                (void) ctl_fail(c, "the login of agent '%s' was not refreshed in time ('puffoctl agent logs' may tell "
                                "why)", id);
                return EXIT_TIMEOUT;
        }
        if (r >= 0)
                r = get_login(c, id, &error, &after);
        if (r < 0)
                return fail(c, id, r, &error);
        ctl_say(c, "result: %s (after %.1f s)", result, (double) (now_boottime_usec() - begin) / USEC_PER_SEC);
        r = say_logins(c, after);
        if (r < 0)
                return ctl_oom(c);
        if (!c->json)
                return EXIT_SUCCESS;

        o = json_object_new_object();
        if (!o || json_put_string(o, "agent", id) < 0 || json_put_string(o, "result", result) < 0 ||
            json_put(o, "before", TAKE_PTR(before)) < 0 || json_put(o, "after", TAKE_PTR(after)) < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}
