/* SPDX-License-Identifier: MIT */
#pragma once

#include "outbox.h"
#include "preparation.h"
#include "turn-queue.h"

/* From queued messages to turns and from ended turns to answers (message-pipeline §§8.3, 10–12.2). The messages of a
 * thread become a turn when the queue of turns has nothing better to do; batch and turn, end and answer are each one
 * transaction. */
typedef struct Batches Batches;

/* TurnSubmission.source of these turns. */
#define BATCHES_SOURCE "puffo"

typedef struct BatchesSpec {
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Outbox *outbox;
        PreparationSpec preparation;    /* its texts are copied */
        /* A turn has begun or ended with these messages; error NULL: well. May be NULL. */
        void (*on_begun)(const char *turn, const DispatchRow *rows, size_t n, void *userdata);
        void (*on_ended)(const char *turn, const DispatchRow *rows, size_t n, const char *error, void *userdata);
        void *userdata;
} BatchesSpec;

/* What spec names is borrowed. */
int batches_new(Batches **ret, const BatchesSpec *spec);
Batches* batches_free(Batches *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(Batches*, batches_free);
int batches_configure(Batches *b, const char *operator_slug, uint64_t jitter_max_usec);

/* No batch is begun until this is called: the connection and what it brings are up. */
void batches_start(Batches *b);
/* Messages have been queued. */
void batches_poke(Batches *b);
/* The provider takes our key again, or there is a new one, or more budget: what was put off is worth a try. */
void batches_resume(Batches *b);

/* The queue's driver hands these on, for every turn. */
bool batches_offer(Batches *b, uint64_t waiting_since_usec);
void batches_begun(Batches *b, const Turn *t);
void batches_ending(Batches *b, Turn *t, TurnResult *result);
int batches_also(Batches *b, Database *db, const char *id, const TurnResult *result);
void batches_ended(Batches *b, const Turn *t, const TurnResult *result);
/* It is cut off by the end of this process: told as such, and begun again by the next one. */
void batches_interrupted(Batches *b, const Turn *t);
