/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* Takes {"messages": [ … ], …} apart as it comes from the network: each item of the list is handed out as text once it
 * is complete, so that a backlog of any length is never in memory as a whole (server-api §9.2). What an item is, its
 * reader finds out; around them only the structure is looked at. */
typedef struct PendingReader PendingReader;

/* Both borrow what they get, and return < 0 to stop, which pending_reader_feed() passes on. */
typedef struct PendingHandlers {
        int (*on_item)(const char *text, size_t size, void *userdata);
        /* An item of more than max_item bytes; envelope_id: NULL when it has none. */
        int (*on_too_large)(const char *envelope_id, size_t size, void *userdata);
        void *userdata;
} PendingHandlers;

int pending_reader_new(PendingReader **ret, size_t max_item, const PendingHandlers *handlers);
PendingReader* pending_reader_free(PendingReader *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(PendingReader*, pending_reader_free);

/* -EBADMSG when this is not such an answer, -E2BIG for a key over max_item, -ENOMEM, a handler's error. After an error
 * the reader is unusable. */
int pending_reader_feed(PendingReader *p, const char *data, size_t size);
/* The answer has ended: -EBADMSG when it should not have yet, or there was no list. */
int pending_reader_finish(PendingReader *p);
