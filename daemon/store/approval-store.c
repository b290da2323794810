/* SPDX-License-Identifier: MIT */

#include "approval-store.h"
#include "string-util.h"

static const char *const states[_APPROVAL_STATE_MAX] = {
        [APPROVAL_PENDING] = "pending",
        [APPROVAL_ALLOWED] = "allowed",
        [APPROVAL_DENIED] = "denied",
        [APPROVAL_EXPIRED] = "expired",
        [APPROVAL_WITHDRAWN] = "withdrawn",
};

const char* approval_state_to_string(ApprovalState s) {
        return s >= 0 && s < _APPROVAL_STATE_MAX ? states[s] : NULL;
}

ApprovalState approval_state_from_string(const char *s) {
        for (int i = 0; i < _APPROVAL_STATE_MAX; i++)
                if (streq_ptr(s, states[i]))
                        return (ApprovalState) i;
        return _APPROVAL_STATE_INVALID;
}

ApprovalRow* approval_row_free(ApprovalRow *row) {
        if (!row)
                return NULL;
        free(row->id);
        free(row->turn);
        free(row->ask);
        free(row->tool);
        free(row->summary);
        free(row->input);
        free(row->input_hash);
        free(row->operator);
        free(row->answered_by);
        free(row->reason);
        free(row->token);
        return mfree(row);
}

void approval_rows_free(ApprovalRow **rows, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) approval_row_free(rows[i]);
        free(rows);
}

static int step(sqlite3_stmt *s) {
        return database_error(sqlite3_step(s));
}

int approval_store_add(Database *db, const ApprovalRow *row) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const char *const texts[] = {
                row->id, row->turn, row->ask, row->tool, strempty(row->summary), row->input, row->input_hash,
        };
        const int64_t numbers[] = { row->input_size, row->created_at, row->expires_at };
        int r = database_prepare(db, "INSERT OR IGNORE INTO approvals (id, turn, ask, tool, summary, input, "
                                 "input_hash, input_size, created_at, expires_at, state) "
                                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'pending')", &s);

        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = database_bind_text(s, (int) i + 1, texts[i]);
        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                r = database_bind_int(s, (int) (ELEMENTSOF(texts) + i) + 1, numbers[i]);
        if (r >= 0)
                r = step(s);
        if (r < 0)
                return r;
        return database_changes(db) > 0 ? 0 : -EEXIST;
}

#define SHOWN "substr(a.input, 1, " STRINGIFY(APPROVAL_INPUT_SHOWN) ")"
#define SELECT_WITH(input) \
        "SELECT a.id, a.turn, a.ask, a.tool, a.summary, " input ", a.input_hash, a.operator, a.answered_by, " \
        "a.reason, a.token, a.input_size, a.state, a.told, a.created_at, a.expires_at, a.answered_at " \
        "FROM approvals a "
#define SELECT SELECT_WITH("a.input")
#define SELECT_SHOWN SELECT_WITH(SHOWN)

static int row_read(sqlite3_stmt *s, ApprovalRow **ret) {
        _cleanup_(approval_row_freep) ApprovalRow *row = new0(ApprovalRow, 1);

        if (!row)
                return -ENOMEM;
        char **const texts[] = {
                &row->id, &row->turn, &row->ask, &row->tool, &row->summary, &row->input, &row->input_hash,
                &row->operator, &row->answered_by, &row->reason, &row->token,
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                int r = database_column_strdup(s, (int) i, texts[i]);

                if (r < 0)
                        return r;
                if (!*texts[i])
                        return -EUCLEAN;
        }
        row->input_size = sqlite3_column_int64(s, 11);
        row->state = approval_state_from_string((const char*) sqlite3_column_text(s, 12));
        if (row->state < 0)
                return -EUCLEAN;
        row->told = sqlite3_column_int64(s, 13) != 0;
        row->created_at = sqlite3_column_int64(s, 14);
        row->expires_at = sqlite3_column_int64(s, 15);
        row->answered_at = sqlite3_column_int64(s, 16);
        *ret = TAKE_PTR(row);
        return 0;
}

static int find(Database *db, const char *sql, const char *key, const char *key2, ApprovalRow **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, sql, &s);

        if (r >= 0)
                r = database_bind_text(s, 1, key);
        if (r >= 0 && key2)
                r = database_bind_text(s, 2, key2);
        if (r >= 0)
                r = step(s);
        if (r <= 0)
                return r;
        r = row_read(s, ret);
        return r < 0 ? r : 1;
}

int approval_store_get(Database *db, const char *id, ApprovalRow **ret) {
        return find(db, SELECT "WHERE a.id = ?1", id, NULL, ret);
}

int approval_store_find_ask(Database *db, const char *turn, const char *ask, ApprovalRow **ret) {
        return find(db, SELECT "WHERE a.turn = ?1 AND a.ask = ?2", turn, ask, ret);
}

/* From the approvals to their messages: those have an index for their keys, and none for their envelopes. */
int approval_store_find_question(Database *db, const char *envelope_id, ApprovalRow **ret) {
        return find(db, SELECT "CROSS JOIN outbox o ON o.key = '" APPROVAL_KEY "' || a.id "
                    "WHERE a.operator != '' AND o.envelope_id = ?1", envelope_id, NULL, ret);
}

/* What s finds. */
static int rows_read(sqlite3_stmt *s, ApprovalRow ***ret, size_t *ret_n) {
        ApprovalRow **rows = NULL;
        size_t n = 0;
        int r;

        while ((r = step(s)) > 0) {
                ApprovalRow **grown = reallocarray(rows, n + 1, sizeof(*rows));

                if (!grown) {
                        r = -ENOMEM;
                        break;
                }
                rows = grown;
                r = row_read(s, rows + n);
                if (r < 0)
                        break;
                n++;
        }
        if (r < 0) {
                approval_rows_free(rows, n);
                return r;
        }
        *ret = rows;
        *ret_n = n;
        return 0;
}

int approval_store_list_pending(Database *db, ApprovalRow ***ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, SELECT_SHOWN "WHERE a.state = 'pending' ORDER BY a.created_at, a.id", &s);

        return r < 0 ? r : rows_read(s, ret, ret_n);
}

int approval_store_list_untold(Database *db, const char *turn, ApprovalRow ***ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, SELECT "WHERE a.turn = ?1 AND a.told = 0 AND a.state != 'withdrawn' "
                                 "ORDER BY a.created_at, a.id", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, turn);
        return r < 0 ? r : rows_read(s, ret, ret_n);
}

int approval_store_list(Database *db, unsigned limit, ApprovalRow ***ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, SELECT_SHOWN "ORDER BY a.created_at DESC, a.id LIMIT ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, limit);
        return r < 0 ? r : rows_read(s, ret, ret_n);
}

int approval_store_end(Database *db, const char *id, const ApprovalEnd *end) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const char *const texts[] = {
                id, approval_state_to_string(end->state), strempty(end->by), strempty(end->reason),
                strempty(end->token),
        };
        int r;

        assert(end->state != APPROVAL_PENDING);
        r = database_prepare(db, "UPDATE approvals SET state = ?2, answered_by = ?3, reason = ?4, token = ?5, "
                             "answered_at = ?6 WHERE id = ?1 AND state = 'pending'", &s);
        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = database_bind_text(s, (int) i + 1, texts[i]);
        if (r >= 0)
                r = database_bind_int(s, 6, end->now_ms);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db) > 0;
}

int approval_store_set_operator(Database *db, const char *id, const char *operator) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE approvals SET operator = ?2 WHERE id = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, id);
        if (r >= 0)
                r = database_bind_text(s, 2, operator);
        return r < 0 ? r : step(s);
}

int approval_store_set_told(Database *db, const char *id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE approvals AS a SET told = 1, input = " SHOWN " WHERE id = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, id);
        return r < 0 ? r : step(s);
}

int approval_store_sweep(Database *db, int64_t before) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "DELETE FROM approvals WHERE state != 'pending' AND answered_at < ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, before);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}

int approval_store_disown(sqlite3 *db) {
        return database_error(sqlite3_exec(db, "UPDATE approvals SET state = 'withdrawn', answered_at = created_at, "
                                           "told = 1, reason = 'it belongs to the agent that this is a copy of' "
                                           "WHERE state = 'pending'", NULL, NULL, NULL));
}
