/* SPDX-License-Identifier: MIT */
#pragma once

#include "message-store.h"

/* Messages on their way out (message-pipeline §12): each is a row until the server has it, and for a while after. */

typedef enum OutboxState {
        OUTBOX_QUEUED,
        OUTBOX_SEALED,                  /* has its envelope, which is the one that goes out, however often */
        OUTBOX_SENT,
        OUTBOX_FAILED,
        _OUTBOX_STATE_MAX,
        _OUTBOX_STATE_INVALID = -EINVAL,
} OutboxState;

/* Strings are "" where there is nothing. */
typedef struct OutboxRow {
        int64_t id, sent_at, created_at;        /* ms */
        OutboxState state;
        char *key, *space_id, *channel_id, *recipient_slug, *thread_root_id, *content_type, *content, *turn,
                        *envelope_id, *envelope, *error;
        unsigned attempts;
} OutboxRow;
OutboxRow* outbox_row_free(OutboxRow *row);
DEFINE_TRIVIAL_CLEANUP_FUNC(OutboxRow*, outbox_row_free);

/* A new row, without id and state. key "" or NULL: none. *ret_id: its id, or that of the one that has its key: > 0. */
int outbox_store_add(Database *db, const OutboxRow *row, int64_t now_ms, int64_t *ret_id);
/* 1 = found. */
int outbox_store_get(Database *db, int64_t id, OutboxRow **ret);
int outbox_store_find(Database *db, const char *key, int64_t *ret_id);
/* Names the conversation that it belongs to: "#channel" or "@person". NULL: -ENOMEM. */
char* outbox_row_lane(const OutboxRow *row);
/* The first one that is not done and is in none of these conversations. 1 = found. */
int outbox_store_next(Database *db, const char *const *busy_lanes, size_t n_lanes, OutboxRow **ret);

/* It has its envelope, if it had none: state OUTBOX_SEALED. */
int outbox_store_sealed(Database *db, int64_t id, const char *envelope_id, const char *envelope, size_t size,
                        int64_t now_ms);
/* It has been tried once more. */
int outbox_store_attempted(Database *db, int64_t id, int64_t now_ms);
/* The server has it: it is one of the messages now. */
int outbox_store_sent(Database *db, const OutboxRow *row, const char *own_slug, int64_t now_ms);
int outbox_store_failed(Database *db, int64_t id, const char *error, int64_t now_ms);

/* Drops what was done before; returns how many. */
int outbox_store_sweep(Database *db, int64_t before);
