/* SPDX-License-Identifier: MIT */
#pragma once

#include "harness-driver.h"
#include "open-calls.h"

/* Gemini CLI (claude-cli-protocol §12): a process for each turn, its prompt is its input, and it answers in lines of
 * JSON, "stream-json". */

typedef struct Gemini {
        bool resumed;
        char *session_id;               /* NULL: not known */

        char *message_id;               /* of the message that grows, or NULL */
        StrBuf text;                    /* of it, as it came; what is only space at its ends is not said */
        size_t n_said;                  /* bytes of it */
        char *last_id;                  /* of the message before */

        OpenCalls calls;

        /* Of the turn. Text comes in pieces only: whoever takes over does not know those that were read before. */
        bool complete;                  /* nothing that was read before may be missing */
        bool echoed;                    /* the text is part of the conversation, whatever the model makes of it */
        bool started;                   /* the model has answered something */
        size_t n_denied;
        char *error;                    /* what an "error" line said last, or NULL */
        StrBuf errors;                  /* the end of standard error */
} Gemini;

int gemini_launch(const HarnessSetup *s, HarnessLaunch *l);

/* What a turn's end says. *ret_message: for result->message, owned by the caller. line: the "result", or NULL when the
 * program has ended without. */
int gemini_result(Harness *h, json_object *line, HarnessResult *ret, char **ret_message);
