/* SPDX-License-Identifier: MIT */

#include "dispatch-store.h"

static const char *const state_names[_DISPATCH_STATE_MAX] = {
        [DISPATCH_QUEUED] = "queued",
        [DISPATCH_RUNNING] = "running",
        [DISPATCH_DONE] = "done",
        [DISPATCH_FAILED] = "failed",
};

static int step(sqlite3_stmt *s) {
        return database_error(sqlite3_step(s));
}

int dispatch_store_add(Database *db, const DispatchEntry *e) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "INSERT INTO dispatch_state (envelope_id, root_id, priority, state, record_json, "
                                 "sent_at, queued_at, updated_at, conversation) "
                                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?8)", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, e->envelope_id);
        if (r >= 0)
                r = database_bind_text(s, 2, e->root_id);
        if (r >= 0)
                r = database_bind_int(s, 3, e->priority);
        if (r >= 0)
                r = database_bind_text(s, 4, state_names[e->state]);
        if (r >= 0)
                r = database_bind_text(s, 5, e->record ?: "");
        if (r >= 0)
                r = database_bind_int(s, 6, e->sent_at);
        if (r >= 0)
                r = database_bind_int(s, 7, e->now);
        if (r >= 0)
                r = database_bind_text(s, 8, e->conversation);
        return r < 0 ? r : step(s);
}

void dispatch_thread_done(DispatchThread *t) {
        free(t->root_id);
        free(t->conversation);
        *t = (DispatchThread) {};
}

int dispatch_store_next(Database *db, DispatchThread *ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT root_id, priority, queued_at, conversation FROM dispatch_state "
                                 "WHERE state = 'queued' ORDER BY priority, seq LIMIT 1", &s);

        if (r >= 0)
                r = step(s);
        if (r <= 0)
                return r;
        r = database_column_strdup(s, 0, &ret->root_id);
        if (r >= 0)
                r = database_column_strdup(s, 3, &ret->conversation);
        if (r < 0)
                return r;
        ret->priority = (DispatchPriority) sqlite3_column_int(s, 1);
        ret->queued_at = sqlite3_column_int64(s, 2);
        return 1;
}

void dispatch_rows_free(DispatchRow *rows, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(rows[i].envelope_id);
                free(rows[i].record);
        }
        free(rows);
}

static int row_read(sqlite3_stmt *s, DispatchRow *ret) {
        int r;

        ret->seq = sqlite3_column_int64(s, 0);
        ret->sent_at = sqlite3_column_int64(s, 1);
        r = database_column_strdup(s, 2, &ret->envelope_id);
        return r < 0 ? r : database_column_strdup(s, 3, &ret->record);
}

static int rows_read(sqlite3_stmt *s, DispatchRow **ret, size_t *ret_n) {
        DispatchRow *rows = NULL;
        size_t n = 0;
        int r;

        while ((r = step(s)) > 0) {
                DispatchRow *grown = reallocarray(rows, n + 1, sizeof(*rows));

                if (!grown) {
                        r = -ENOMEM;
                        break;
                }
                rows = grown;
                rows[n] = (DispatchRow) {};
                r = row_read(s, rows + n++);
                if (r < 0)
                        break;
        }
        if (r < 0) {
                dispatch_rows_free(rows, n);
                return r;
        }
        *ret = rows;
        *ret_n = n;
        return 0;
}

int dispatch_store_batch(Database *db, const char *root_id, const char *conversation, size_t max,
                         DispatchRow **ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT seq, sent_at, envelope_id, record_json FROM dispatch_state "
                                 "WHERE state = 'queued' AND root_id = ?1 AND conversation = ?2 ORDER BY seq "
                                 "LIMIT ?3", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, root_id);
        if (r >= 0)
                r = database_bind_text(s, 2, conversation);
        if (r >= 0)
                r = database_bind_int(s, 3, (int64_t) max);
        return r < 0 ? r : rows_read(s, ret, ret_n);
}

int dispatch_store_of_turn(Database *db, const char *turn, DispatchRow **ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT seq, sent_at, envelope_id, record_json FROM dispatch_state "
                                 "WHERE turn = ?1 ORDER BY seq", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, turn);
        return r < 0 ? r : rows_read(s, ret, ret_n);
}

int dispatch_store_claim(Database *db, const char *root_id, const char *conversation, int64_t seq,
                         const char *turn, int64_t now) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE dispatch_state SET state = 'running', turn = ?3, "
                                 "attempts = attempts + 1, updated_at = ?4 WHERE state = 'queued' "
                                 "AND root_id = ?1 AND conversation = ?5 AND seq <= ?2", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, root_id);
        if (r >= 0)
                r = database_bind_int(s, 2, seq);
        if (r >= 0)
                r = database_bind_text(s, 3, turn);
        if (r >= 0)
                r = database_bind_int(s, 4, now);
        if (r >= 0)
                r = database_bind_text(s, 5, conversation);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}

int dispatch_store_settle(Database *db, const char *turn, DispatchState state, int64_t now) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE dispatch_state SET state = ?2, updated_at = ?3, "
                                 "attempts = attempts - (?2 = 'queued'), turn = CASE WHEN ?2 = 'queued' THEN NULL "
                                 "ELSE turn END WHERE turn = ?1 AND state = 'running'", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, turn);
        if (r >= 0)
                r = database_bind_text(s, 2, state_names[state]);
        if (r >= 0)
                r = database_bind_int(s, 3, now);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}

static int fail_older(Database *db, int64_t limit, int64_t now) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE dispatch_state SET state = 'failed', updated_at = ?2 "
                                 "WHERE state = 'queued' AND queued_at < ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, limit);
        if (r >= 0)
                r = database_bind_int(s, 2, now);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}

int dispatch_store_load(Database *db, int64_t max_age, int64_t now) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = database_begin(db, &t), n = 0;

        if (r >= 0)
                r = database_exec(db, "UPDATE dispatch_state SET state = 'queued', turn = NULL "
                                  "WHERE state = 'running' AND NOT EXISTS "
                                  "(SELECT 1 FROM session_turns t WHERE t.id = turn AND t.status IN "
                                  "('queued', 'running'))");
        if (r >= 0)
                r = n = fail_older(db, now - max_age, now);
        if (r >= 0)
                r = database_commit(&t);
        return r < 0 ? r : n;
}

int dispatch_store_sweep(Database *db, int64_t before) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "DELETE FROM dispatch_state WHERE updated_at < ?1 "
                                 "AND state IN ('done', 'failed')", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, before);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}
