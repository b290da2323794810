/* SPDX-License-Identifier: MIT */
#pragma once

#include "tool.h"

/* The tools as a chat calls them: the functions of tool.h as a table, so that it can be given others. */
typedef struct ChatTools {
        /* Those of a box that a model is offered; the same each time. Others cannot be called. box: may be NULL. */
        const Tool* (*list)(const ToolBox *box, size_t *ret_n);
        int (*call_start)(ToolBox *b, const char *name, json_object *arguments, const char *key, tool_done_t on_done,
                          void *userdata, ToolCall **ret);
        ToolCall* (*call_free)(ToolCall *c);
        bool (*is_answer)(const char *name);
} ChatTools;

extern const ChatTools chat_tools;
