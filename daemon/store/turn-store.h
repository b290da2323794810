/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* Turns, their answers and the conversations they belong to, in messages.db. Every write that must not be seen by
 * halves is one transaction; times are realtime µs. */

typedef enum TurnStatus {
        TURN_QUEUED,
        TURN_RUNNING,
        TURN_COMPLETED,
        TURN_INCOMPLETE,        /* ended early: deadline, length */
        TURN_CANCELLED,         /* somebody interrupted it */
        TURN_FAILED,
        _TURN_STATUS_MAX,
        _TURN_STATUS_INVALID = -EINVAL,
} TurnStatus;

const char* turn_status_to_string(TurnStatus s);
TurnStatus turn_status_from_string(const char *s);
static inline bool turn_status_is_final(TurnStatus s) {
        return s > TURN_RUNNING;
}

typedef struct TurnUsage {
        uint64_t input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens;
        uint64_t cost_micro;            /* millionths of a dollar; 0: not known */
} TurnUsage;

/* One message of the answer. */
typedef struct TurnItem {
        char *item, *text;
        bool complete;
} TurnItem;
void turn_items_free(TurnItem *items, size_t n);

/* A stored turn. Strings are never NULL. */
typedef struct TurnRow {
        int64_t seq;
        char *id, *conversation, *text, *instructions, *history, *document, *source;
        char *files;            /* what came with the text: as session/turn-files.h writes it, or "" */
        bool store;
        TurnStatus status;
        unsigned attempts;
        uint64_t created_usec, started_usec, ended_usec;
        char *reason, *error_code, *error_kind, *error_message;
        TurnUsage usage;
        TurnItem *items;
        size_t n_items;
} TurnRow;
TurnRow* turn_row_free(TurnRow *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(TurnRow*, turn_row_free);
void turn_rows_free(TurnRow **rows, size_t n);

/* What a caller submits; NULL strings count as "". */
typedef struct TurnSubmission {
        const char *id, *text, *instructions, *conversation, *previous, *history, *document, *source, *files;
        bool store;
        bool main_only;         /* whoever answers knows no other conversation */
        uint64_t now_usec;
        /* What else becomes true with the turn, in its transaction; < 0 undoes it. May be NULL. */
        int (*also)(Database *db, const char *id, void *userdata);
        void *userdata;
} TurnSubmission;

/* Appends to the queue. With previous the turn goes on in that turn's conversation or, when something has come
 * after it there, in a copy of it up to that turn. *ret: the new row without its texts. -EEXIST: the id is known
 * (nothing was done); -ENOENT: previous is not stored or failed; -EINPROGRESS: previous has not ended;
 * -EOPNOTSUPP: it would be in another conversation than the main one, which main_only forbids. */
int turn_store_submit(Database *db, const TurnSubmission *submission, TurnRow **ret);

/* 1 = found, 0 = none. */
int turn_store_get(Database *db, const char *id, TurnRow **ret);
/* Queued and running turns in their order, without their texts. */
int turn_store_list_pending(Database *db, TurnRow ***ret, size_t *ret_n);

/* Marks a queued turn, or one that a crash left running, as running and counts the attempt. -ESTALE: it has ended. */
int turn_store_start(Database *db, int64_t seq, uint64_t now_usec);

typedef struct TurnResult TurnResult;
struct TurnResult {
        TurnStatus status;              /* a final one */
        const char *reason, *error_code, *error_kind, *error_message;   /* NULL: "" */
        TurnUsage usage;
        const TurnItem *items;
        size_t n_items;
        bool remember;                  /* the exchange becomes part of the conversation … */
        bool mute;                      /* … but for the answer */
        const char *context;            /* in front of the user's text for the model (NULL: nothing) */
        const char *spoken;             /* what was answered by tools: part of the conversation (NULL: nothing) */
        uint64_t now_usec;
        /* What else becomes true with the end, in its transaction; < 0 undoes it. May be NULL. */
        int (*also)(Database *db, const char *id, const TurnResult *result, void *userdata);
        void *userdata;
};

/* Ends a turn: status, answer and the conversation's new messages at once. > 0 without doing anything when it has
 * ended already or is gone: there is never a second answer. */
int turn_store_finish(Database *db, int64_t seq, const TurnResult *result);

/* For a database that is a copy: what waits or runs in it is the original's, and fails here ("copied"), so that it is
 * not done a second time with nobody to read it. */
int turn_store_disown(sqlite3 *db);

/* Forgets a turn, not its conversation's messages. 1 = it was there. */
int turn_store_delete(Database *db, const char *id);

/* The files of a turn lie outside of the database: what is noted in it is where some may be that no turn needs, so
 * that nothing is left over by a crash, nor removed too early. Noted by turn_store_delete() and retention_sweep() of
 * turns with files, in their transactions, and taken back by turn_store_submit(). */

/* Before the first file of a turn is written that is to be submitted. */
int turn_store_note_files(Database *db, const char *id);
/* Ids of turns that there are not (any more), noted as above, at most max. */
int turn_store_list_left_files(Database *db, unsigned max, char ***ret);
/* They are gone. */
int turn_store_forget_files(Database *db, const char *id);

#define TURN_FILES_NOTE "turn-files/"   /* begins the names of the notes among session_values */
