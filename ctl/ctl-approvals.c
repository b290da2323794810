/* SPDX-License-Identifier: MIT */

/* What agents ask permission for. */

#include "ctl-bus.h"
#include "ctl-verbs.h"
#include "event-util.h"
#include "string-util.h"

const Option approvals_options[] = {
        { "all", 'a', NULL, "those of the last days too" },
        {},
};

const Option approve_options[] = {
        { "deny", 0, NULL, "deny it" },
        { "reason", 0, "TEXT", "why, for the agent" },
        {},
};

static const Column columns[] = {
        { "id", "ID" }, { "tool", "TOOL" }, { "state", "STATE" }, { "expires_at", "TIME", .right = true },
        { "answered_by", "BY" }, { "summary", "INPUT" }, {},
};

/* How long there is to answer, or how long ago it ended. */
static int add_time(Table *t, json_object *o, bool pending) {
        uint64_t expires = (uint64_t) json_get_int(o, "expires_at", 0),
                 answered = (uint64_t) json_get_int(o, "answered_at", 0), now = now_realtime_usec();
        _cleanup_free_ char *text = NULL;

        if (!pending)
                return table_add_age(t, answered);
        text = text_age(now, MAX(expires, now));        /* as if it had been now, and were over then */
        return text ? table_add(t, json_object_new_uint64(expires), text, COLOUR_NONE) : -ENOMEM;
}

static int add_row(Table *t, json_object *o) {
        const char *state = strempty(json_get_string(o, "state"));
        _cleanup_free_ char *summary = strdup(strempty(json_get_string(o, "summary")));
        int r;

        if (!summary)
                return -ENOMEM;
        for (char *c = summary; *c; c++)
                if (*c == '\n')
                        *c = ' ';
        r = table_add_string(t, json_get_string(o, "id"));
        if (r >= 0)
                r = table_add_string(t, json_get_string(o, "tool"));
        if (r >= 0)
                r = table_add_coloured(t, state, streq(state, "pending")   ? COLOUR_YELLOW :
                                                 streq(state, "allowed")   ? COLOUR_GREEN :
                                                 streq(state, "withdrawn") ? COLOUR_FAINT : COLOUR_RED);
        if (r >= 0)
                r = add_time(t, o, streq(state, "pending"));
        if (r >= 0)
                r = table_add_string(t, json_get_string(o, "answered_by"));
        return r < 0 ? r : table_add_string(t, summary);
}

int verb_approvals(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *list = NULL;
        _cleanup_(table_freep) Table *t = NULL;
        int r;

        r = ctl_call_manager(c, &error, &reply, CTL_START_TIMEOUT_USEC, "ListApprovals", "sb",
                             a->n_words > 0 ? a->words[0] : "", (int) arguments_has(a, "all"));
        if (r >= 0)
                r = bus_message_to_json(reply, &list);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot list requests for permission");
        if (c->json)
                return ctl_print_json(c, list);
        if (json_object_array_length(list) == 0) {
                ctl_say(c, "nobody asks for permission");
                return EXIT_SUCCESS;
        }
        r = table_new(&t, columns);
        for (size_t i = 0; r >= 0 && i < json_object_array_length(list); i++)
                r = add_row(t, json_object_array_get_idx(list, i));
        return r < 0 ? ctl_oom(c) : ctl_print_table(c, t);
}

int verb_approve(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        bool allow = !arguments_has(a, "deny");
        _cleanup_json_ json_object *o = NULL;
        const char *id = a->words[0];
        int r;

        r = ctl_call_manager(c, &error, NULL, CTL_START_TIMEOUT_USEC, "Approve", "sbs", id, (int) allow,
                             strempty(arguments_value(a, "reason")));
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot %s '%s'", allow ? "allow" : "deny", id);
        ctl_say(c, "%s %s", allow ? "allowed" : "denied", id);
        if (!c->json)
                return EXIT_SUCCESS;
        o = json_object_new_object();
        if (!o || json_put_string(o, "id", id) < 0 || json_put_string(o, "state", allow ? "allowed" : "denied") < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}
