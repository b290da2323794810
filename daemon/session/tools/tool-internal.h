/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "message-store.h"
#include "string-util.h"
#include "tool.h"

/* What tool-*.c share; for nobody else. */

typedef struct ToolEntry {
        Tool tool;
        bool chat;                      /* needs an identity on the chat service */
        bool lead;                      /* for who has others work for him */
        bool claude_only;               /* refused with another harness (agent-runtime §15.3) */
        /* Answers with tool_succeed() or tool_fail(), now or later. < 0: neither was or will be called; becomes the
         * answer. */
        int (*run)(ToolCall *c);
} ToolEntry;

LIST_HEAD(ToolCallList, ToolCall);

struct ToolBox {
        sd_event *event;
        Puffo *puffo;                   /* borrowed; NULL: no identity on the chat service */
        char *workspace, *directory, *harness;
        RuntimeKind kind;
        struct ToolCallList calls;
        unsigned n_asks;                /* calls of others that are under way */
        bool leaving;
        ManagerLink* (*get_link)(void *userdata);
        void (*on_ended)(const char *key, const char *name, json_object *arguments, const ToolResult *result,
                         void *userdata);
        void *userdata;
};

struct ToolCall {
        ToolBox *box;                   /* NULL when that is gone */
        const ToolEntry *entry;
        json_object *arguments;         /* checked, with their defaults; NULL for an unknown tool */
        char *key;                      /* NULL: none */
        tool_done_t on_done;
        void *userdata;

        /* Under way: cancelled with the call. */
        ServerCall *server_call;
        OutboxWatch *watch;
        int64_t row_id;                 /* of the outbox, that watch is for */
        void *state;
        void (*state_free)(void *state);

        bool is_error;
        char *text;                     /* the answer */
        sd_event_source *answer;
        LIST_ENTRY(ToolCall) calls;
};

/* Ends the call. text is taken over; NULL: out of memory. 0. */
int tool_succeed(ToolCall *c, char *text);
/* With the prefix of a failure. 0. */
int tool_fail(ToolCall *c, const char *format, ...) _printf_(2, 3);
int tool_fail_errno(ToolCall *c, int error);
/* Why a call to the server was no success, without the server's own words: those are for the journal. NULL when out of
 * memory. */
char* tool_call_reason(const CallReply *reply);
int tool_fail_call(ToolCall *c, const char *what, const CallReply *reply);

/* Arguments after the check: a string is never NULL, "" by default. */
const char* tool_string(ToolCall *c, const char *name);
int64_t tool_int(ToolCall *c, const char *name);
/* A copy without blanks around it. -ENOMEM. */
int tool_trim(const char *s, char **ret);
int tool_trimmed(ToolCall *c, const char *name, char **ret);

/* Checks given (NULL: none) against an object's schema: types, what is required, what is unknown; fills in defaults.
 * Integers may come as decimal strings, lists and maps as JSON text, null for what is optional. -EINVAL with *reterr,
 * -ENOMEM. */
int tool_arguments_check(json_object *schema, json_object *given, json_object **ret, char **reterr);

/* The channel argument (message-pipeline §16.2), trimmed. 1 = fine, 0 = the call has been ended, -ENOMEM. */
int tool_channel(ToolCall *c, char **ret);
/* Its space: as stored, else the home space. 1, 0, < 0 as above. */
int tool_space_of(ToolCall *c, const char *channel_id, char **ret);

/* A name of others' choice within one line: control characters become blanks, cut after max_chars. */
int tool_put_line(StrBuf *b, const char *text, size_t max_chars);
#define TOOL_NAME_MAX 200U
/* ISO 8601 in UTC, whole seconds; the number itself for a time that no calendar has. */
int tool_put_time(StrBuf *b, int64_t ms);

/* What the table of tools calls: ToolEntry.run of each. */
int tool_send_message(ToolCall *c);
int tool_upload_file(ToolCall *c);
int tool_get_channel_history(ToolCall *c);
int tool_get_thread_history(ToolCall *c);
int tool_get_post(ToolCall *c);
int tool_fetch_channel_files(ToolCall *c);
int tool_list_channels(ToolCall *c);
int tool_list_channel_members(ToolCall *c);
int tool_get_user_info(ToolCall *c);
int tool_whoami(ToolCall *c);
int tool_reload_system_prompt(ToolCall *c);
int tool_refresh(ToolCall *c);
int tool_install_skill(ToolCall *c);
int tool_uninstall_skill(ToolCall *c);
int tool_list_skills(ToolCall *c);
int tool_install_mcp_server(ToolCall *c);
int tool_uninstall_mcp_server(ToolCall *c);
int tool_list_mcp_servers(ToolCall *c);
int tool_hire_agent(ToolCall *c);
int tool_ask_agent(ToolCall *c);
