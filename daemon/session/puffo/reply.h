/* SPDX-License-Identifier: MIT */
#pragma once

#include "turn-store.h"

/* What becomes of what the model has said (message-pipeline §11.2). */
typedef enum ReplyRoute {
        REPLY_BY_TOOLS,                 /* it has answered by itself; the text is for the log only */
        REPLY_SILENT,                   /* it does not want to; nothing is kept */
        REPLY_NOTHING,                  /* it has said nothing */
        REPLY_POST,                     /* the text goes where the question came from */
} ReplyRoute;

#define SILENT_MARKER "[SILENT]"

/* items: the pieces of text in their order; n_answers: how many tool calls have put something into the chat. *ret_text
 * is set for REPLY_POST. -ENOMEM. */
int reply_route(const TurnItem *items, size_t n_items, unsigned n_answers, ReplyRoute *ret, char **ret_text);
