/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "event-log.h"
#include "string-util.h"
#include "turn-store.h"

/* One turn as long as it waits, runs, or its event stream is kept. Its texts stay in the database; here is only what
 * the stream needs. The queue owns it. */
typedef struct Turn {
        int64_t seq;
        char *id, *conversation, *source;
        TurnStatus status;
        bool store;
        bool first;                             /* nothing goes before it */
        unsigned attempts;
        uint64_t created_usec;
        uint64_t started_boottime_usec;         /* of the present attempt */

        char *context;                          /* TurnResult.context of this attempt, may be NULL */
        TurnItem *items;                        /* finished messages of the answer */
        size_t n_items;
        unsigned n_begun;                       /* messages begun in this attempt */
        char *open_item;                        /* id of the message that grows, or NULL */
        StrBuf open_text;
        TurnUsage usage;
        unsigned n_answers;                     /* tool calls that have put something into the chat */
        unsigned n_answers_failed;              /* … that should have */
        StrBuf spoken;                          /* the texts of the former, for the conversation */

        EventLog *log;
        uint64_t expires_usec;                  /* CLOCK_BOOTTIME: when the stream of an ended turn is dropped */
        TAILQ_ENTRY(Turn) turns;
} Turn;
typedef TAILQ_HEAD(TurnList, Turn) TurnList;

int turn_new(Turn **ret, sd_event *event, const TurnRow *row);
/* A turn that ended earlier, with a stream made of what is stored. */
int turn_new_replay(Turn **ret, sd_event *event, const TurnRow *row);
Turn* turn_free(Turn *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(Turn*, turn_free);

/* Events (dbus/ai.puffo.Agents1.Agent.xml, Submit). All can fail with -ENOMEM; a delta with -ENOBUFS when the
 * answer has become too long. */
int turn_emit_queued(Turn *t, size_t ahead);
int turn_emit_started(Turn *t);
/* Forgets what an earlier attempt of this process left open. */
int turn_emit_restarted(Turn *t);
int turn_message_begin(Turn *t);
int turn_message_delta(Turn *t, const char *text, size_t size);
/* Closes the open message, if there is one. */
int turn_message_end(Turn *t, bool complete);
/* A whole message of an earlier attempt, under its old id. -ENOBUFS as above. */
int turn_message_restore(Turn *t, const char *item, const char *text);
/* call: unique within the turn, and the same in each attempt. */
int turn_emit_tool_started(Turn *t, const char *call, const char *name);
int turn_emit_tool_ended(Turn *t, const char *call, const char *name, bool ok);
/* The final event, as the result says. */
int turn_emit_end(Turn *t, const TurnResult *result);
/* It has ended, and that is stored: of all it holds, only the stream is still wanted. */
void turn_keep_stream(Turn *t);
