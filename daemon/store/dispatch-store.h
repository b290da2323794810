/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* Which messages are still to be answered (message-pipeline §8.6): the queue of threads lies in the database, not in
 * memory, so that a backlog costs nothing and nothing is lost. A thread is as urgent as its most urgent message, and
 * as old as the first of that urgency (§8.1).
 *
 * Which thread a message belongs to is its sender's word. Messages of one thread are of one channel or of one person:
 * what calls itself part of a thread elsewhere is another thread, so that no answer goes to who did not ask. */

typedef enum DispatchPriority {
        DISPATCH_ADDRESSED = 1,         /* by a human */
        DISPATCH_ADDRESSED_BY_BOT,
        DISPATCH_OTHER,
        DISPATCH_OTHER_BY_BOT,
        DISPATCH_SYSTEM,
} DispatchPriority;

typedef enum DispatchState {
        DISPATCH_QUEUED,
        DISPATCH_RUNNING,               /* part of a turn that has not ended */
        DISPATCH_DONE,
        DISPATCH_FAILED,
        _DISPATCH_STATE_MAX,
} DispatchState;

typedef struct DispatchEntry {
        const char *envelope_id, *root_id;
        const char *conversation;       /* "channel/<id>" or "dm/<slug>" */
        const char *record;             /* JSON of a message that is not in messages; NULL or "": it is there */
        DispatchPriority priority;
        DispatchState state;            /* queued, or done: never to be shown to the model */
        int64_t sent_at, now;           /* ms */
} DispatchEntry;

/* -EEXIST: there is one of this envelope. */
int dispatch_store_add(Database *db, const DispatchEntry *e);

typedef struct DispatchThread {
        char *root_id, *conversation;
        DispatchPriority priority;
        int64_t queued_at;              /* ms, of the message that gives it its place */
} DispatchThread;
void dispatch_thread_done(DispatchThread *t);
/* The thread whose turn it is. 1 = found, 0 = nothing is queued. */
int dispatch_store_next(Database *db, DispatchThread *ret);

typedef struct DispatchRow {
        int64_t seq, sent_at;
        char *envelope_id, *record;     /* record: "" when the message is in messages */
} DispatchRow;
void dispatch_rows_free(DispatchRow *rows, size_t n);

/* What is queued of a thread, in the order of arrival: the first max of it. */
int dispatch_store_batch(Database *db, const char *root_id, const char *conversation, size_t max,
                         DispatchRow **ret, size_t *ret_n);
/* What a turn was made of, in that order. */
int dispatch_store_of_turn(Database *db, const char *turn, DispatchRow **ret, size_t *ret_n);

/* What is queued of a thread up to seq becomes part of a turn. Returns how many. */
int dispatch_store_claim(Database *db, const char *root_id, const char *conversation, int64_t seq,
                         const char *turn, int64_t now);
/* The turn has ended: all that ran in it becomes state; DISPATCH_QUEUED: as if it had never begun. How many. */
int dispatch_store_settle(Database *db, const char *turn, DispatchState state, int64_t now);

/* At start: what has waited for longer than max_age ms becomes failed, and what was running without its turn is queued
 * again. How many failed. */
int dispatch_store_load(Database *db, int64_t max_age, int64_t now);

/* Drops what has ended before; returns how many. */
int dispatch_store_sweep(Database *db, int64_t before);
