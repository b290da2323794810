/* SPDX-License-Identifier: MIT */

#include "ctl-bus.h"
#include "ctl-line.h"
#include "ctl-turn.h"
#include "ctl-verbs.h"

#define TEXT_SIZE_MAX MIB(16)

const Option chat_options[] = {
        { "conversation", 'c', "NAME", "another conversation than the main one" },
        {},
};

static int one_turn(Chat *chat, const char *text) {
        int r;

        if (!utf8_is_valid(text, strlen(text)))
                return ctl_refuse(chat->c, "the text is not UTF-8");
        r = chat_turn(chat, text);
        if (r == -EINTR || r == 2)
                return EXIT_INTERRUPTED;
        if (r < 0 && r != -ENOTCONN && r != -EPIPE)
                return ctl_fail(chat->c, "cannot talk to agent '%s': %s", chat->agent, strerror(-r));
        return r > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

int verb_agent_chat(Ctl *c, const Arguments *a) {
        Chat chat = {.c = c,
                     .agent = a->words[0],
                     .conversation = arguments_value(a, "conversation"),
                     .source = "puffoctl"};
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agent = NULL;
        _cleanup_free_ char *text = NULL;
        int r, status;

        if (a->n_words > 1) {
                text = arguments_join(a, 1);
                if (!text)
                        return ctl_oom(c);
        } else if (!isatty(STDIN_FILENO)) {
                r = stdin_read(TEXT_SIZE_MAX, &text);
                if (r < 0)
                        return ctl_fail(c, "cannot read the text to say: %s", strerror(-r));
        }
        if (text && text[strspn(text, " \t\n")] == 0)
                return ctl_refuse(c, "there is nothing to say to agent '%s'", chat.agent);

        status = ctl_need_descriptors(c, "talk to an agent");
        if (status != 0)
                return status;
        /* A name that nobody has is told before anything is typed. */
        r = ctl_get_agent(c, chat.agent, &error, &agent);
        if (r >= 0)
                r = chat_begin(&chat);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot talk to agent '%s'", chat.agent);
        status = text ? one_turn(&chat, text) : chat_loop(&chat);
        chat_end(&chat);
        return status;
}
