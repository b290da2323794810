/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-id128.h>

#include "harness-driver.h"
#include "open-calls.h"

/* Claude Code's stream-json protocol (claude-cli-protocol): what its three files share. */

/* A question of the program that waits for an answer, with the input it has to repeat. */
typedef struct ClaudeAsk {
        char *id;
        json_object *input;
} ClaudeAsk;

/* Of a conversation that it does not have: the only text of it that anything depends on. */
#define CLAUDE_LOST_WORDS "No conversation found"

/* What there may be at a time: a program that has more is not the one we know. */
#define CLAUDE_ASKS_MAX 256U

typedef struct Claude {
        bool sdk;                       /* HARNESS_CLAUDE_SDK */
        bool resumed, wants_puffo;
        bool initialized;               /* "system/init" was seen of this process */
        bool mcp_warned;
        char *session_id;               /* NULL: not known */
        json_object *initialize;        /* to be sent before the turn's text, or NULL */
        char *initialize_id;
        char **allowed_tools;
        char *prefix;                   /* of the ids of our requests: unlike those of an earlier process */
        unsigned n_requests;

        /* The message that grows, if any: a block of text of a reply. */
        char *reply_id;                 /* of the reply that streams, as the model's endpoint calls it */
        char *message_id, *message_reply;
        char *last_message;             /* of an adopted turn, told by an earlier process */

        ClaudeAsk *asks;
        size_t n_asks;
        OpenCalls calls;

        /* Of this turn. */
        char turn_uuid[SD_ID128_UUID_STRING_MAX];       /* "": of an adopted turn it is not known */
        bool started;
        bool interrupted_early;         /* before it had started: the program may have thought that it was idle */
        size_t n_messages;              /* texts that were told */
        char *error;                    /* the kind of a failure of the model's endpoint, or NULL */
        ModelUsage before, reply;       /* of the replies that are complete, and of the one that streams */

        bool cost_known;
        double cost;                    /* of this process so far */
        char *lost_words;               /* "No conversation found …", said on standard error */
} Claude;

bool claude_session_id_is_valid(const char *id);
int claude_launch(const HarnessSetup *s, HarnessLaunch *l);
int claude_sdk_launch(const HarnessSetup *s, HarnessLaunch *l);

/* Control protocol. on_request, on_cancel and on_response take a line from the program. */
int claude_initialize_new(Claude *c, const HarnessSetup *s, json_object **ret);
int claude_interrupt(Harness *h);
int claude_set_model(Harness *h, const char *model);
int claude_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message);
int claude_mcp_reply(Harness *h, const char *request_id, const char *message);
int claude_on_request(Harness *h, json_object *line);
int claude_on_cancel(Harness *h, json_object *line);
int claude_on_response(Harness *h, json_object *line);
void claude_asks_done(Claude *c);
/* The turn's end takes all that is still asked with it. */
void claude_withdraw_asks(Harness *h);

/* Of an object "usage". */
void claude_usage_read(json_object *usage, ModelUsage *ret);
/* What a "result" line says of its turn. *ret_message: for result->message, owned by the caller. */
int claude_result(Harness *h, json_object *line, HarnessResult *ret, char **ret_message);
