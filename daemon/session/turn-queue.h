/* SPDX-License-Identifier: MIT */
#pragma once

#include "turn.h"

/* The agent's durable queue: one turn at a time, in order of arrival, each answered exactly once. What is queued or
 * running lives in the database too and comes back after a crash; a turn that was cut short runs once more. */
typedef struct TurnQueue TurnQueue;

/* Who does the work. Called from the event loop only. */
typedef struct TurnDriver {
        /* Begins; answers with turn_queue_end() exactly once, now or later. row is taken over. < 0: the turn fails. */
        int (*start)(Turn *t, TurnRow *row, void *userdata);
        /* Stops without answering. Messages left open are closed by the queue. */
        void (*cancel)(Turn *t, void *userdata);
        /* A turn that ran is about to end so: the driver may fill in what is its side of result. May be NULL. */
        void (*ending)(Turn *t, TurnResult *result, void *userdata);
        /* What else becomes true with the end of any turn, in its transaction (TurnResult.also). May be NULL. */
        int (*also)(Database *db, const char *id, const TurnResult *result, void *userdata);
        /* It has ended, and that is stored. May be NULL. */
        void (*ended)(Turn *t, const TurnResult *result, void *userdata);
        /* Before the next turn is begun, which waits since then (realtime; UINT64_MAX: there is none): whether another
         * one goes first. It is submitted for the front, now or later, or turn_queue_poke() is called. May be NULL. */
        bool (*offer)(uint64_t waiting_since_usec, void *userdata);
        /* Something that is shown has changed: the running turn, the length, the counters. */
        void (*changed)(void *userdata);
        /* The database is damaged: nothing can be promised any more. */
        void (*broken)(int error, void *userdata);
        /* Turns of this source are never given up for a disk that is full: they run once more. May be NULL. */
        const char *patient_source;
        void *userdata;
} TurnDriver;

/* event and db are borrowed and must outlive the queue. Nothing runs before turn_queue_set_enabled(). */
int turn_queue_new(TurnQueue **ret, sd_event *event, Database *db, const TurnDriver *driver);
TurnQueue* turn_queue_free(TurnQueue *q);
DEFINE_TRIVIAL_CLEANUP_FUNC(TurnQueue*, turn_queue_free);

/* Once at start: takes over what an earlier process left behind. */
int turn_queue_load(TurnQueue *q);
/* Whether the next turn is begun; a running one is not touched. */
void turn_queue_set_enabled(TurnQueue *q, bool enabled);
/* How many turns may wait, 32 by default. Those that wait already stay. */
void turn_queue_set_limit(TurnQueue *q, size_t limit);
/* Whether a turn would be taken, for who has to prepare it first: -ENOBUFS, -EAGAIN as turn_queue_submit(). */
int turn_queue_has_room(TurnQueue *q, const char *id, bool accept);
/* Leaves the running turn as a crash would, to be begun again by the next process. */
void turn_queue_abandon(TurnQueue *q);

/* Queues a turn and attaches a reader to its stream (stream_fd is taken over in any case; -EBADF: none); with a
 * known id only the latter. accept: whether a new turn may be queued now. -ENOBUFS: full; -EAGAIN: new, but
 * !accept; -ENOENT, -EINPROGRESS: as turn_store_submit(); -EINVAL, -EBUSY: as event_log_subscribe(); -ESTALE: its
 * end could not be stored. > 0: it was known. */
int turn_queue_submit(TurnQueue *q, const TurnSubmission *submission, bool accept, int stream_fd);
/* The same for the front of the queue, without a reader, and however many wait. */
int turn_queue_submit_first(TurnQueue *q, const TurnSubmission *submission);
/* Asks the driver for another offer. */
void turn_queue_poke(TurnQueue *q);
/* -ENOENT: no such turn, -ESTALE: its stream is gone. */
int turn_queue_open_stream(TurnQueue *q, const char *id, int stream_fd);
/* id "": the running one. 1: ended, 0: there was nothing to end. */
int turn_queue_interrupt(TurnQueue *q, const char *id);
/* 1 = found. A turn that is not to be stored is found until it has ended. */
int turn_queue_get(TurnQueue *q, const char *id, TurnRow **ret);
/* 1 = it was there. */
int turn_queue_delete(TurnQueue *q, const char *id);

/* The driver's answer to the running turn. remember and context of result are the queue's to fill in. */
void turn_queue_end(TurnQueue *q, Turn *t, TurnResult *result);

Turn* turn_queue_running(TurnQueue *q);
size_t turn_queue_length(TurnQueue *q);         /* waiting, without the running one */
uint64_t turn_queue_processed(TurnQueue *q);    /* since this process began */
uint64_t turn_queue_last_event_usec(TurnQueue *q);      /* realtime of the last end, 0: none yet */
/* Readers of ended turns that have not got everything yet. */
unsigned turn_queue_n_unread(TurnQueue *q);
