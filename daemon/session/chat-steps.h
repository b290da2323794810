/* SPDX-License-Identifier: MIT */
#pragma once

#include "chat-prompt.h"
#include "chat-tools.h"
#include "step-store.h"
#include "turn.h"

/* The steps of the running turn: what the model has had called, in memory and in the database. */
typedef struct ChatSteps {
        Database *db;                   /* borrowed, as the others */
        const ChatTools *tools;
        Turn *turn;
        StoredStep *steps;
        size_t n;
        size_t bytes;                   /* of everything that goes to the model again */
} ChatSteps;

void chat_steps_done(ChatSteps *s);
/* What an earlier attempt got to is taken up: its messages become messages of the turn again, under their old ids, and
 * its answers count. -EUCLEAN, -ENOMEM, -ENOBUFS. */
int chat_steps_begin(ChatSteps *s, Database *db, const ChatTools *tools, Turn *t);
/* Something that somebody else's loop has had the model say or call, copied; what it lacks is "". */
int chat_steps_note(ChatSteps *s, const StoredStep *step);
/* A reply that calls tools: the open message is closed, and all of it stored. On failure the turn has to end. */
int chat_steps_add(ChatSteps *s, const ModelResult *result);
/* The first call that has no result yet, or NULL. *ret_key: what names it for good; NULL when out of memory. */
StoredCall* chat_steps_next(ChatSteps *s, char **ret_key);
/* Its result. The error is that of storing it: it counts all the same. */
int chat_steps_finish(ChatSteps *s, StoredCall *call, const char *text, bool is_error);
/* Puts them behind the question. note: what the model is told last, or NULL. */
int chat_steps_put(const ChatSteps *s, ChatPrompt *p, const char *note);
