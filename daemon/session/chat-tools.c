/* SPDX-License-Identifier: MIT */

#include "chat-tools.h"

/* The tools for a command line's files and servers would be of no use to an agent without one (provider-apis §7). */
static const char *const names[] = {
        "send_message", "upload_file", "list_channels", "list_channel_members", "get_channel_history",
        "get_thread_history", "fetch_channel_files", "get_post", "get_user_info", "whoami", "reload_system_prompt",
        "hire_agent", "ask_agent",
};

static const Tool* list(const ToolBox *box, size_t *ret_n) {
        static Tool tools[ELEMENTSOF(names)];
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                const Tool *t = tool_find(names[i]);

                if (t && tool_is_offered(box, names[i]))
                        tools[n++] = *t;
        }
        *ret_n = n;
        return tools;
}

const ChatTools chat_tools = {
        .list = list, .call_start = tool_call_start, .call_free = tool_call_free, .is_answer = tool_is_answer,
};
