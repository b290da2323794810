/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* Tool calls that somebody must allow (agent-runtime §14.4). A row has one end, and keeps it: whoever comes second
 * changes nothing. The question to the operator is the row of the outbox whose key is APPROVAL_KEY and the id. */

#define APPROVAL_KEY "approval/"
/* Characters of what is only shown. */
#define APPROVAL_INPUT_SHOWN 65536

typedef enum ApprovalState {
        APPROVAL_PENDING,
        APPROVAL_ALLOWED,
        APPROVAL_DENIED,
        APPROVAL_EXPIRED,               /* nobody has answered in time */
        APPROVAL_WITHDRAWN,             /* the answer is of no use any more */
        _APPROVAL_STATE_MAX,
        _APPROVAL_STATE_INVALID = -EINVAL,
} ApprovalState;

const char* approval_state_to_string(ApprovalState s);
ApprovalState approval_state_from_string(const char *s);

/* Strings are "" where there is nothing. Times are ms. */
typedef struct ApprovalRow {
        char *id, *turn, *ask;          /* turn and ask: what the CLI calls it; together they name one row */
        char *tool, *summary;           /* fit to be shown */
        char *input;                    /* JSON as it came; in lists, and once the CLI was told, the beginning of it */
        char *input_hash;               /* of all of it */
        int64_t input_size;             /* of all of it */
        ApprovalState state;
        char *operator;                 /* who was asked by message */
        char *answered_by, *reason;
        char *token;                    /* of the call that answered: the same call again is no second answer */
        bool told;                      /* the CLI has the answer */
        int64_t created_at, expires_at, answered_at;
} ApprovalRow;
ApprovalRow* approval_row_free(ApprovalRow *row);
DEFINE_TRIVIAL_CLEANUP_FUNC(ApprovalRow*, approval_row_free);
void approval_rows_free(ApprovalRow **rows, size_t n);

/* A new row, pending. -EEXIST: there is one of this id, or of this turn and ask. */
int approval_store_add(Database *db, const ApprovalRow *row);
/* 1 = found. */
int approval_store_get(Database *db, const char *id, ApprovalRow **ret);
int approval_store_find_ask(Database *db, const char *turn, const char *ask, ApprovalRow **ret);
/* The one whose question to the operator is this message. 1 = found. */
int approval_store_find_question(Database *db, const char *envelope_id, ApprovalRow **ret);
/* Pending ones, oldest first. */
int approval_store_list_pending(Database *db, ApprovalRow ***ret, size_t *ret_n);
/* Of a turn, those that the CLI has no answer to, pending or not, oldest first, with all of their input: it may have
 * to be given back with the answer. */
int approval_store_list_untold(Database *db, const char *turn, ApprovalRow ***ret, size_t *ret_n);
/* Of any state, newest first, at most limit. */
int approval_store_list(Database *db, unsigned limit, ApprovalRow ***ret, size_t *ret_n);

typedef struct ApprovalEnd {
        ApprovalState state;
        const char *by, *reason, *token;        /* NULL: "" */
        int64_t now_ms;
} ApprovalEnd;
/* 1: so it ends. 0: it is not pending, or there is none. */
int approval_store_end(Database *db, const char *id, const ApprovalEnd *end);
int approval_store_set_operator(Database *db, const char *id, const char *operator);
int approval_store_set_told(Database *db, const char *id);

/* Drops what ended before; returns how many. */
int approval_store_sweep(Database *db, int64_t before);
/* Of a copy for another agent: what is pending is the business of the first one. */
int approval_store_disown(sqlite3 *db);
