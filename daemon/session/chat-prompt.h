/* SPDX-License-Identifier: MIT */
#pragma once

#include "conversation.h"
#include "model.h"
#include "session-config.h"
#include "turn-store.h"

/* What one model call is given: system prompt, history and the user's text. */
typedef struct ChatPrompt {
        char *system;
        ModelMessage *messages;         /* texts are borrowed from the members below; lists are owned, and the
                                         * descriptors of images */
        size_t n_messages;

        ConversationMessage *history;
        size_t n_history;
        char **texts;                   /* put together here */
        char *context;                  /* becomes part of the conversation (TurnResult.context), may be NULL */
} ChatPrompt;
void chat_prompt_done(ChatPrompt *p);

/* Rough size of what may be sent: four bytes of text make about a token in most languages. */
#define CHAT_PROMPT_BYTES_MAX ((size_t) 600000)
#define CHAT_HISTORY_MAX ((size_t) 60)

/* images: what the model takes of them; NULL: nothing. Those of the history are left out when max_bytes is less than
 * half of the maximum: then it is the size that matters.
 * tools: the names of what the model can call, ending with NULL; NULL: nothing. max_bytes: system prompt, history
 * and text together; as much of the history goes in as there is room for, newest first. -ENOMEM, -EUCLEAN and other
 * errors of reading. */
int chat_prompt_build(ChatPrompt *ret, Database *db, const SessionConfig *config, const TurnRow *row,
                      const char *const *tools, const ModelImageLimits *images, size_t max_bytes);
