/* SPDX-License-Identifier: MIT */

#include "ctl-bus.h"
#include "ctl-verbs.h"
#include "string-util.h"

#define PAGE_MAX 200U

const Option history_options[] = {
        { "lines", 'n', "N", "how many messages (default 20)" },
        { "conversation", 'c', "NAME", "another conversation than the main one" },
        {},
};

/* Puts the page in front of what is there already. */
static int prepend_page(json_object **messages, json_object *page) {
        size_t n = json_object_array_length(*messages);

        for (size_t i = 0; i < n; i++)
                if (json_object_array_add(page, json_object_get(json_object_array_get_idx(*messages, i))) < 0)
                        return -ENOMEM;
        json_object_put(*messages);
        *messages = json_object_get(page);
        return 0;
}

/* Each message: id, role, text, time, turn. */
static int read_messages(Ctl *c, const char *id, const char *conversation, uint32_t wanted, sd_bus_error *reterr,
                         json_object **ret) {
        _cleanup_json_ json_object *messages = json_object_new_array();
        _cleanup_free_ char *before = strdup("");
        int more = true;

        if (!messages || !before)
                return -ENOMEM;
        while (more && wanted > 0) {
                _cleanup_bus_message_ sd_bus_message *reply = NULL;
                _cleanup_json_ json_object *page = NULL;
                uint32_t limit = MIN(wanted, PAGE_MAX);
                int r;

                r = ctl_call_agent(c, id, reterr, &reply, CTL_CALL_TIMEOUT_USEC, "ListMessages", "ssu", conversation,
                                   before, limit);
                if (r >= 0)
                        r = bus_message_to_json(reply, &page);
                if (r >= 0)
                        r = sd_bus_message_read(reply, "b", &more);
                if (r < 0)
                        return r;
                if (json_object_array_length(page) == 0)
                        break;
                wanted -= MIN(wanted, (uint32_t) json_object_array_length(page));
                r = free_and_strdup(&before, json_object_get_string(json_object_array_get_idx(
                                                             json_object_array_get_idx(page, 0), 0)));
                if (r >= 0)
                        r = prepend_page(&messages, page);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(messages);
        return 0;
}

static int print_message(json_object *m) {
        const char *role = json_object_get_string(json_object_array_get_idx(m, 1));
        bool user = streq_ptr(role, "user");
        _cleanup_free_ char *time = text_time((uint64_t) json_object_get_int64(json_object_array_get_idx(m, 3)));
        Colour colour = user ? COLOUR_BOLD : COLOUR_GREEN;

        if (!time)
                return -ENOMEM;
        printf("%s%s  %s%s\n", colour_on(stdout, colour), time, user ? "user" : "assistant",
               colour_off(stdout, colour));
        (void) text_write_safe(stdout, strempty(json_object_get_string(json_object_array_get_idx(m, 2))));
        fputs("\n\n", stdout);
        return 0;
}

static int print_as_json(Ctl *c, json_object *messages) {
        static const char *const keys[] = { "id", "role", "text", "time", "turn" };
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return ctl_oom(c);
        for (size_t i = 0; i < json_object_array_length(messages); i++) {
                json_object *row = json_object_array_get_idx(messages, i), *o = json_object_new_object();

                if (!o || json_object_array_add(list, o) < 0)
                        return ctl_oom(c);
                for (size_t k = 0; k < ELEMENTSOF(keys); k++)
                        if (json_put(o, keys[k], json_object_get(json_object_array_get_idx(row, k))) < 0)
                                return ctl_oom(c);
        }
        return ctl_print_json(c, list);
}

int verb_agent_history(Ctl *c, const Arguments *a) {
        const char *id = a->words[0], *lines = arguments_value(a, "lines");
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *messages = NULL;
        uint32_t wanted = 20;
        int r;

        if (lines && parse_u32(lines, &wanted) < 0)
                return ctl_refuse(c, "'%s' is no number of messages", lines);
        r = read_messages(c, id, strempty(arguments_value(a, "conversation")), wanted, &error, &messages);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot read the history of agent '%s'", id);
        if (c->json)
                return print_as_json(c, messages);
        ctl_open_pager(c);
        for (size_t i = 0; i < json_object_array_length(messages); i++)
                if (print_message(json_object_array_get_idx(messages, i)) < 0)
                        return ctl_oom(c);
        return EXIT_SUCCESS;
}
