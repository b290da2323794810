/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "string-util.h"

/* A turn's event stream (Agent.Submit) on its way to somebody who reads along: lines of JSON in, text out. When the
 * stream breaks and is opened again it starts from the beginning, and after a crash of the session it may tell another
 * story: what has been shown already is not shown twice as long as it stays the same. */

typedef enum TurnOutcome {
        TURN_GOING,
        TURN_COMPLETED,
        TURN_INCOMPLETE,
        TURN_FAILED,
} TurnOutcome;

typedef struct TurnView {
        /* New text, to be shown as it is; not yet made safe for a terminal. */
        void (*show)(const char *text, void *userdata);
        /* What was shown so far does not count any more: the whole answer follows. */
        void (*start_over)(void *userdata);
        /* The agent begins to use a tool; told once for each use. Not made safe either. May be NULL. */
        void (*show_tool)(const char *name, void *userdata);
        void *userdata;

        TurnOutcome outcome;
        json_object *final;     /* the last event, once there is an outcome */
        StrBuf shown;           /* the answer, as far as it was shown */

        StrBuf line;            /* begun, not ended */
        StrBuf item;            /* text of the current message, in the present stream */
        size_t position;        /* how far the present stream has come in shown */
        unsigned n_items;
        char **tools;           /* the uses that were told */
} TurnView;

void turn_view_done(TurnView *v);
/* A stream is read from its beginning. */
void turn_view_begin(TurnView *v);
/* Takes in n bytes. > 0: the turn has ended; -EBADMSG: that is no event stream; -EMSGSIZE, -ENOMEM. */
int turn_view_feed(TurnView *v, const char *data, size_t n);

/* Why it failed or stayed incomplete, in words. Borrowed. */
const char* turn_view_reason(const TurnView *v);
