/* SPDX-License-Identifier: MIT */

#include "string-util.h"
#include "turn-store.h"

/* What a fork takes over; more than any model call sends. */
#define FORK_MESSAGES_MAX 200

static const char *const status_names[_TURN_STATUS_MAX] = {
        [TURN_QUEUED] = "queued", [TURN_RUNNING] = "running", [TURN_COMPLETED] = "completed",
        [TURN_INCOMPLETE] = "incomplete", [TURN_CANCELLED] = "cancelled", [TURN_FAILED] = "failed",
};

const char* turn_status_to_string(TurnStatus s) {
        return s >= 0 && s < _TURN_STATUS_MAX ? status_names[s] : NULL;
}

TurnStatus turn_status_from_string(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(status_names); i++)
                if (streq_ptr(s, status_names[i]))
                        return (TurnStatus) i;
        return _TURN_STATUS_INVALID;
}

void turn_items_free(TurnItem *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(items[i].item);
                free(items[i].text);
        }
        free(items);
}

TurnRow* turn_row_free(TurnRow *t) {
        if (!t)
                return NULL;

        free(t->id);
        free(t->conversation);
        free(t->text);
        free(t->instructions);
        free(t->history);
        free(t->document);
        free(t->source);
        free(t->files);
        free(t->reason);
        free(t->error_code);
        free(t->error_kind);
        free(t->error_message);
        turn_items_free(t->items, t->n_items);
        return mfree(t);
}

void turn_rows_free(TurnRow **rows, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) turn_row_free(rows[i]);
        free(rows);
}

/* Times and counts come from clocks and providers: beyond SQLite's range they are cut, not wrapped. */
static int bind_uint(sqlite3_stmt *s, int index, uint64_t v) {
        return database_bind_int(s, index, (int64_t) MIN(v, (uint64_t) INT64_MAX));
}

static uint64_t column_uint(sqlite3_stmt *s, int column) {
        int64_t v = sqlite3_column_int64(s, column);

        return v < 0 ? 0 : (uint64_t) v;
}

static int step_done(sqlite3_stmt *s) {
        int r = database_error(sqlite3_step(s));

        return r > 0 ? -EIO : r;
}

/* The columns that every reading statement selects, in this order; texts are NULL where they are not wanted. */
#define ROW_COLUMNS \
        "seq, id, conversation, status, store, attempts, created_usec, started_usec, ended_usec, source, reason, " \
        "error_code, error_kind, error_message, input_tokens, cached_tokens, cache_write_tokens, output_tokens, " \
        "reasoning_tokens, cost_micro"
#define TEXT_COLUMNS ", text, instructions, history, document, files"
#define NO_TEXT_COLUMNS ", '', '', '', '', ''"

static int row_read(sqlite3_stmt *s, TurnRow **ret) {
        _cleanup_(turn_row_freep) TurnRow *t = new0(TurnRow, 1);
        int r;

        if (!t)
                return -ENOMEM;

        const struct { int column; char **value; } texts[] = {
                { 1, &t->id }, { 2, &t->conversation }, { 9, &t->source }, { 10, &t->reason }, { 11, &t->error_code },
                { 12, &t->error_kind }, { 13, &t->error_message }, { 20, &t->text }, { 21, &t->instructions },
                { 22, &t->history }, { 23, &t->document }, { 24, &t->files },
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                r = database_column_strdup(s, texts[i].column, texts[i].value);
                if (r < 0)
                        return r;
                if (!*texts[i].value)
                        return -EUCLEAN;
        }
        t->seq = sqlite3_column_int64(s, 0);
        t->status = turn_status_from_string((const char*) sqlite3_column_text(s, 3));
        if (t->status < 0)
                return -EUCLEAN;
        t->store = sqlite3_column_int64(s, 4) != 0;
        t->attempts = (unsigned) column_uint(s, 5);
        t->created_usec = column_uint(s, 6);
        t->started_usec = column_uint(s, 7);
        t->ended_usec = column_uint(s, 8);
        t->usage = (TurnUsage) {
                .input_tokens = column_uint(s, 14), .cached_tokens = column_uint(s, 15),
                .cache_write_tokens = column_uint(s, 16), .output_tokens = column_uint(s, 17),
                .reasoning_tokens = column_uint(s, 18), .cost_micro = column_uint(s, 19),
        };

        *ret = TAKE_PTR(t);
        return 0;
}

static int items_read(Database *db, TurnRow *t) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "SELECT item, text, status FROM session_turn_items WHERE turn = ?1 "
                             "ORDER BY position", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, t->seq);
        if (r < 0)
                return r;
        while ((r = database_error(sqlite3_step(s))) > 0) {
                TurnItem *items = reallocarray(t->items, t->n_items + 1, sizeof(TurnItem));

                if (!items)
                        return -ENOMEM;
                t->items = items;
                items[t->n_items] = (TurnItem) {
                        .complete = streq_ptr((const char*) sqlite3_column_text(s, 2), "completed"),
                };
                t->n_items++;
                r = database_column_strdup(s, 0, &items[t->n_items - 1].item);
                if (r >= 0)
                        r = database_column_strdup(s, 1, &items[t->n_items - 1].text);
                if (r < 0)
                        return r;
                if (!items[t->n_items - 1].item || !items[t->n_items - 1].text)
                        return -EUCLEAN;
        }
        return r;
}

int turn_store_get(Database *db, const char *id, TurnRow **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        int r;

        r = database_prepare(db, "SELECT " ROW_COLUMNS TEXT_COLUMNS " FROM session_turns WHERE id = ?1", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, id);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r <= 0)
                return r;
        r = row_read(s, &t);
        if (r >= 0)
                r = items_read(db, t);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(t);
        return 1;
}

int turn_store_list_pending(Database *db, TurnRow ***ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        TurnRow **rows = NULL;
        size_t n = 0;
        int r;

        r = database_prepare(db, "SELECT " ROW_COLUMNS NO_TEXT_COLUMNS " FROM session_turns "
                             "WHERE status IN ('queued', 'running') ORDER BY seq", &s);
        if (r < 0)
                return r;
        while ((r = database_error(sqlite3_step(s))) > 0) {
                TurnRow **more = reallocarray(rows, n + 1, sizeof(TurnRow*));

                if (!more) {
                        r = -ENOMEM;
                        break;
                }
                rows = more;
                r = row_read(s, rows + n);
                if (r < 0)
                        break;
                n++;
        }
        if (r < 0) {
                turn_rows_free(rows, n);
                return r;
        }

        *ret = rows;
        *ret_n = n;
        return 0;
}

/* Is anything in the conversation that came after this turn, or is still to come? */
static int conversation_went_on(Database *db, const TurnRow *previous) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db,
                             "SELECT EXISTS (SELECT 1 FROM session_turns WHERE conversation = ?1 AND seq > ?2 "
                             "               AND status IN ('queued', 'running')) "
                             "    OR EXISTS (SELECT 1 FROM conversation_messages WHERE conversation = ?1 "
                             "               AND turn_seq > ?2)", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, previous->conversation);
        if (r >= 0)
                r = database_bind_int(s, 2, previous->seq);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r < 0)
                return r;
        return sqlite3_column_int(s, 0) != 0;
}

static int conversation_fork(Database *db, const char *conversation, const TurnRow *previous) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db,
                             "INSERT INTO conversation_messages "
                             " (conversation, role, context, text, files, turn, turn_seq, created_usec) "
                             "SELECT ?1, role, context, text, files, turn, turn_seq, created_usec FROM "
                             " (SELECT * FROM conversation_messages WHERE conversation = ?2 AND turn_seq <= ?3 "
                             "  ORDER BY seq DESC LIMIT ?4) ORDER BY seq", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, conversation);
        if (r >= 0)
                r = database_bind_text(s, 2, previous->conversation);
        if (r >= 0)
                r = database_bind_int(s, 3, previous->seq);
        if (r >= 0)
                r = database_bind_int(s, 4, FORK_MESSAGES_MAX);
        if (r >= 0)
                r = step_done(s);
        return r;
}

/* Which conversation goes on from this turn; forks when it must. */
static int conversation_follow(Database *db, const char *id, const char *previous_id, char **ret) {
        _cleanup_(turn_row_freep) TurnRow *previous = NULL;
        _cleanup_free_ char *conversation = NULL;
        int r;

        r = turn_store_get(db, previous_id, &previous);
        if (r < 0)
                return r;
        if (r == 0 || !previous->store || previous->status == TURN_FAILED)
                return -ENOENT;
        if (!turn_status_is_final(previous->status))
                return -EINPROGRESS;

        r = conversation_went_on(db, previous);
        if (r < 0)
                return r;
        if (r == 0) {
                *ret = TAKE_PTR(previous->conversation);
                return 0;
        }
        conversation = strjoin("~", id);
        if (!conversation)
                return -ENOMEM;
        r = conversation_fork(db, conversation, previous);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(conversation);
        return 0;
}

static int turn_insert(Database *db, const TurnSubmission *t, const char *conversation) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db,
                             "INSERT INTO session_turns (id, conversation, status, text, instructions, history, "
                             "document, source, files, store, created_usec) "
                             "VALUES (?1, ?2, 'queued', ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)", &s);
        if (r < 0)
                return r;

        const char *const texts[] = {
                t->id, conversation, t->text, t->instructions, t->history, t->document, t->source, t->files,
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                r = database_bind_text(s, (int) i + 1, strempty(texts[i]));
                if (r < 0)
                        return r;
        }
        r = database_bind_int(s, 9, t->store);
        if (r >= 0)
                r = bind_uint(s, 10, t->now_usec);
        if (r >= 0)
                r = step_done(s);
        return r;
}

int turn_store_submit(Database *db, const TurnSubmission *submission, TurnRow **ret) {
        _cleanup_(transaction_rollbackp) Transaction transaction = {};
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        _cleanup_free_ char *followed = NULL;
        int r;

        r = database_begin(db, &transaction);
        if (r < 0)
                return r;
        if (!isempty(submission->previous)) {
                r = conversation_follow(db, submission->id, submission->previous, &followed);
                if (r < 0)
                        return r;
        }
        if (submission->main_only && !isempty(followed ?: submission->conversation))
                return -EOPNOTSUPP;
        r = turn_insert(db, submission, followed ?: submission->conversation);
        if (r >= 0 && !isempty(submission->files))
                r = turn_store_forget_files(db, submission->id);
        if (r >= 0 && submission->also)
                r = submission->also(db, submission->id, submission->userdata);
        if (r < 0)
                return r;

        r = database_prepare(db, "SELECT " ROW_COLUMNS NO_TEXT_COLUMNS " FROM session_turns WHERE id = ?1", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, submission->id);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r <= 0)
                return r < 0 ? r : -EIO;
        r = row_read(s, &t);
        if (r < 0)
                return r;
        /* A statement that still stands on a row would keep the commit from happening. */
        database_statement_releasep(&s);
        r = database_commit(&transaction);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(t);
        return 0;
}

int turn_store_start(Database *db, int64_t seq, uint64_t now_usec) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "UPDATE session_turns SET status = 'running', attempts = attempts + 1, "
                             "started_usec = ?2 WHERE seq = ?1 AND status IN ('queued', 'running')", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, seq);
        if (r >= 0)
                r = bind_uint(s, 2, now_usec);
        if (r >= 0)
                r = step_done(s);
        if (r < 0)
                return r;
        return database_changes(db) == 0 ? -ESTALE : 0;
}

static int turn_end(Database *db, int64_t seq, const TurnResult *result) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const uint64_t counts[] = { result->usage.input_tokens, result->usage.cached_tokens,
                                    result->usage.cache_write_tokens, result->usage.output_tokens,
                                    result->usage.reasoning_tokens, result->usage.cost_micro, result->now_usec };
        const char *const texts[] = { turn_status_to_string(result->status), result->reason, result->error_code,
                                      result->error_kind, result->error_message };
        int r;

        r = database_prepare(db,
                             "UPDATE session_turns SET status = ?2, reason = ?3, error_code = ?4, error_kind = ?5, "
                             "error_message = ?6, input_tokens = ?7, cached_tokens = ?8, cache_write_tokens = ?9, "
                             "output_tokens = ?10, reasoning_tokens = ?11, cost_micro = ?12, ended_usec = ?13 "
                             "WHERE seq = ?1 AND status IN ('queued', 'running')", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, seq);
        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = database_bind_text(s, (int) i + 2, strempty(texts[i]));
        for (size_t i = 0; i < ELEMENTSOF(counts) && r >= 0; i++)
                r = bind_uint(s, (int) i + 7, counts[i]);
        if (r >= 0)
                r = step_done(s);
        if (r < 0)
                return r;
        return database_changes(db);
}

static int item_insert(Database *db, int64_t seq, size_t position, const TurnItem *item) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "INSERT INTO session_turn_items (turn, position, item, text, status) "
                             "VALUES (?1, ?2, ?3, ?4, ?5)", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, seq);
        if (r >= 0)
                r = bind_uint(s, 2, position);
        if (r >= 0)
                r = database_bind_text(s, 3, strempty(item->item));
        if (r >= 0)
                r = database_bind_text(s, 4, strempty(item->text));
        if (r >= 0)
                r = database_bind_text(s, 5, item->complete ? "completed" : "incomplete");
        if (r >= 0)
                r = step_done(s);
        return r;
}

static int remember_question(Database *db, int64_t seq, const TurnResult *result) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db,
                             "INSERT INTO conversation_messages "
                             " (conversation, role, context, text, files, turn, turn_seq, created_usec) "
                             "SELECT conversation, 'user', ?2, text, files, id, seq, created_usec FROM session_turns "
                             "WHERE seq = ?1", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, seq);
        if (r >= 0)
                r = database_bind_text(s, 2, strempty(result->context));
        if (r >= 0)
                r = step_done(s);
        return r;
}

static int remember_answer(Database *db, int64_t seq, const TurnResult *result, const char *text) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db,
                             "INSERT INTO conversation_messages "
                             " (conversation, role, text, turn, turn_seq, created_usec) "
                             "SELECT conversation, 'assistant', ?2, id, seq, ?3 FROM session_turns WHERE seq = ?1",
                             &s);
        if (r >= 0)
                r = database_bind_int(s, 1, seq);
        if (r >= 0)
                r = database_bind_text(s, 2, strempty(text));
        if (r >= 0)
                r = bind_uint(s, 3, result->now_usec);
        if (r >= 0)
                r = step_done(s);
        return r;
}

/* What the model was asked and what it said, as the next turn shall see it: a message that was cut and begun anew
 * counts only when nothing came after it. */
static int remember(Database *db, int64_t seq, const TurnResult *result) {
        int r;

        r = remember_question(db, seq, result);
        if (r >= 0 && !isempty(result->spoken))
                r = remember_answer(db, seq, result, result->spoken);
        for (size_t i = 0; i < result->n_items && r >= 0 && !result->mute; i++) {
                bool replaced = !result->items[i].complete && i + 1 < result->n_items;

                if (!replaced && !isempty(result->items[i].text))
                        r = remember_answer(db, seq, result, result->items[i].text);
        }
        return r;
}

static int end_also(Database *db, int64_t seq, const TurnResult *result) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_free_ char *id = NULL;
        int r;

        r = database_prepare(db, "SELECT id FROM session_turns WHERE seq = ?1", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, seq);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r > 0)
                r = database_column_strdup(s, 0, &id);
        if (r < 0)
                return r;
        return id ? result->also(db, id, result, result->userdata) : 0;
}

int turn_store_finish(Database *db, int64_t seq, const TurnResult *result) {
        _cleanup_(transaction_rollbackp) Transaction transaction = {};
        int r;

        assert(turn_status_is_final(result->status));

        r = database_begin(db, &transaction);
        if (r < 0)
                return r;
        r = turn_end(db, seq, result);
        if (r < 0)
                return r;
        if (r == 0)
                return 1;
        for (size_t i = 0; i < result->n_items; i++) {
                r = item_insert(db, seq, i, result->items + i);
                if (r < 0)
                        return r;
        }
        if (result->remember) {
                r = remember(db, seq, result);
                if (r < 0)
                        return r;
        }
        if (result->also) {
                r = end_also(db, seq, result);
                if (r < 0)
                        return r;
        }
        return database_commit(&transaction);
}

int turn_store_disown(sqlite3 *db) {
        return database_error(sqlite3_exec(db,
                                           "UPDATE session_turns SET status = 'failed', error_code = 'server_error', "
                                           "error_kind = 'copied', error_message = 'The turn belongs to the agent "
                                           "that this is a copy of (copied).', "
                                           "ended_usec = max(created_usec, started_usec) + 1 "
                                           "WHERE status IN ('queued', 'running')", NULL, NULL, NULL));
}

/* sql: a literal. */
static int change_of(Database *db, const char *sql, const char *id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, sql, &s);
        if (r >= 0)
                r = database_bind_text(s, 1, id);
        if (r >= 0)
                r = step_done(s);
        return r;
}

int turn_store_delete(Database *db, const char *id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_(transaction_rollbackp) Transaction transaction = {};
        int r, n;

        r = database_begin(db, &transaction);
        if (r >= 0)
                r = change_of(db, "INSERT OR IGNORE INTO session_values (name, value) "
                                     "SELECT '" TURN_FILES_NOTE "' || id, '' FROM session_turns "
                                     "WHERE id = ?1 AND files <> ''", id);
#define OF_TURN " WHERE turn = (SELECT seq FROM session_turns WHERE id = ?1)"
        if (r >= 0)
                r = change_of(db, "DELETE FROM session_turn_items" OF_TURN, id);
        if (r >= 0)
                r = change_of(db, "DELETE FROM turn_tool_calls" OF_TURN, id);
        if (r >= 0)
                r = change_of(db, "DELETE FROM turn_steps" OF_TURN, id);
        if (r >= 0)
                r = database_prepare(db, "DELETE FROM session_turns WHERE id = ?1", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, id);
        if (r >= 0)
                r = step_done(s);
        if (r < 0)
                return r;
        n = database_changes(db);
        r = database_commit(&transaction);
        return r < 0 ? r : n > 0;
}

int turn_store_note_files(Database *db, const char *id) {
        return change_of(db, "INSERT OR IGNORE INTO session_values (name, value) "
                             "VALUES ('" TURN_FILES_NOTE "' || ?1, '')", id);
}

int turn_store_forget_files(Database *db, const char *id) {
        return change_of(db, "DELETE FROM session_values WHERE name = '" TURN_FILES_NOTE "' || ?1", id);
}

int turn_store_list_left_files(Database *db, unsigned max, char ***ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_(strv_freep) char **l = NULL;
        int r;

        r = database_prepare(db, "SELECT substr(name, length(?1) + 1) AS turn FROM session_values "
                             "WHERE name BETWEEN ?1 AND ?1 || char(1114111) "
                             "AND turn NOT IN (SELECT id FROM session_turns) LIMIT ?2", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, TURN_FILES_NOTE);
        if (r >= 0)
                r = database_bind_int(s, 2, max);
        while (r >= 0 && (r = database_error(sqlite3_step(s))) > 0)
                r = strv_extend(&l, (const char*) sqlite3_column_text(s, 0) ?: "");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}
