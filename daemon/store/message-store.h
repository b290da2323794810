/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "database.h"

/* Messages as the original keeps them (message-pipeline §7.2): it opens our file and we open its. What it does not
 * know – root keys, nonces, what came unencrypted – is in tables of ours beside them. */

typedef enum MessageNews {
        MESSAGE_NEW,
        MESSAGE_KNOWN,                  /* this envelope is there already */
        MESSAGE_REPLAYED,               /* this signed payload came in another envelope before (wire-protocol §17.3) */
} MessageNews;

/* Stores a verified message, on disk after the next database_flush(). MessageNews, or < 0. Within a transaction all
 * but MESSAGE_NEW leave it to the caller to roll that back. */
int message_store_add(Database *db, const Message *m, int64_t received_at_ms);

typedef struct StoredMessage {
        char *envelope_id, *sender_slug, *channel_id, *space_id, *recipient_slug, *content_type, *thread_root_id,
                        *reply_to_id;   /* NULL where the column is */
        char *content;                  /* the text itself, or JSON when it was none */
        EnvelopeKind kind;
        int64_t sent_at, received_at;   /* ms */
        bool encrypted;
        uint64_t n_replies;             /* in its thread; message_store_roots() only */
} StoredMessage;

/* Stores what we have sent ourselves. > 0: it has come back already. */
int message_store_add_sent(Database *db, const StoredMessage *m);

void stored_messages_free(StoredMessage *messages, size_t n);

/* 1 = found, 0 = there is none. */
int message_store_get(Database *db, const char *envelope_id, StoredMessage **ret);

/* Which messages of a conversation, exclusive bounds in ms (0: none): the newest limit of them (0: 50), in the order
 * in which they were sent. since: later than that message, when it is there (NULL, "": no bound). */
typedef struct MessageRange {
        int64_t after, before;
        const char *since;
        unsigned limit;
} MessageRange;

/* What is no reply, with the number of its replies. */
int message_store_roots(Database *db, const char *channel_id, const MessageRange *range, StoredMessage **ret,
                        size_t *ret_n);
/* Whether a message of it is there: what is unknown is not the same as what is empty. */
int message_store_knows_channel(Database *db, const char *channel_id);
int message_store_has(Database *db, const char *envelope_id);
/* The root and its replies. */
int message_store_thread(Database *db, const char *root_id, const MessageRange *range, StoredMessage **ret,
                         size_t *ret_n);

/* sent_at of the last message of a thread that was worked on; never goes back. 0: none. */
int message_store_cursor(Database *db, const char *root_id, int64_t *ret);
int message_store_set_cursor(Database *db, const char *root_id, int64_t sent_at);

/* The space of a channel: as learned, else as its newest message says. 1 = known. */
int message_store_space_of(Database *db, const char *channel_id, char **ret);
int message_store_learn_space(Database *db, const char *channel_id, const char *space_id, int64_t now_ms);

/* Forgets what was received more than days ago, with cursors that nothing is left of. How many messages. */
int message_store_sweep(Database *db, unsigned days, int64_t now_ms);

/* Pinned root keys of senders, for a CertCache. db outlives it. */
CertPins message_store_pins(Database *db);
