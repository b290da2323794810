/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "agent-home.h"
#include "json-util.h"
#include "puffo.h"

/* The agent's tools (message-pipeline §16): one table, whoever calls them – a model by native tool calls, a CLI by
 * MCP. */
typedef struct Tool {
        const char *name;               /* as in §16, without a prefix */
        const char *description;        /* for the model */
        const char *schema;             /* JSON schema of the arguments: an object's */
} Tool;

typedef struct ToolBox ToolBox;
typedef struct ManagerLink ManagerLink;

/* In the canonical order. */
const Tool* tools_all(size_t *ret_n);
const Tool* tool_find(const char *name);
/* Those that a box has: the two of who leads others, and all others but where that is all it is for. NULL: a box that
 * there is not at the moment, of an agent on the chat service. */
bool tool_is_offered(const ToolBox *b, const char *name);
/* The names, for a prompt; ends with NULL. The strings are static, the array is the caller's. NULL: out of memory. */
const char** tool_names(const ToolBox *b);

typedef struct ToolResult {
        bool is_error;
        const char *text;               /* what the model reads; bounded, valid UTF-8 */
} ToolResult;

typedef struct ToolBoxSpec {
        sd_event *event;
        Puffo *puffo;
        const AgentHome *home;          /* copied, as far as it is needed */
        RuntimeKind kind;
        const char *harness;            /* "": none */
        /* For who has others work for him, else NULL: the way to puffod, NULL while there is none. */
        ManagerLink* (*get_link)(void *userdata);
        /* A call, whoever made it, has ended, and is about to be told so. May be NULL. */
        void (*on_ended)(const char *key, const char *name, json_object *arguments, const ToolResult *result,
                         void *userdata);
        void *userdata;
} ToolBoxSpec;

/* What the tools work with. puffo is borrowed. */
int tool_box_new(ToolBox **ret, const ToolBoxSpec *spec);
/* Calls that are under way end without calling back and are still to be freed. */
ToolBox* tool_box_free(ToolBox *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(ToolBox*, tool_box_free);

/* The session is about to end, and will be back: what a call has begun elsewhere goes on without it. */
void tool_box_leave(ToolBox *b);

typedef struct ToolCall ToolCall;
/* Called once, from the loop, never from inside tool_call_start(). May free the call. */
typedef void (*tool_done_t)(ToolCall *c, const ToolResult *result, void *userdata);

/* name and arguments (any JSON, or NULL for none) as the model gave them: an unknown tool or bad arguments are a
 * result with is_error. key (NULL: none) names the call for good: the messages of a call that is started again under
 * the same key after a crash are not sent a second time. -ENOMEM. */
int tool_call_start(ToolBox *b, const char *name, json_object *arguments, const char *key, tool_done_t on_done,
                    void *userdata, ToolCall **ret);
/* Forgets a call that is under way; a message of it that is in the outbox goes out nevertheless. */
ToolCall* tool_call_free(ToolCall *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ToolCall*, tool_call_free);

/* Whether a successful result of this tool has put an answer into the chat (§11.2 row a, P-9). */
bool tool_is_answer(const char *name);
