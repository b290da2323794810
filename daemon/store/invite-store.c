/* SPDX-License-Identifier: MIT */

#include "invite-store.h"
#include "string-util.h"

#define ACCEPT "accept"
#define REJECT "reject"

static const char *const states[_INVITE_STATE_MAX] = {
        [INVITE_ACCEPTING] = "accepting",
        [INVITE_LEFT] = "left",
        [INVITE_ANNOUNCING] = "announcing",
        [INVITE_ANNOUNCED] = "announced",
        [INVITE_ANSWERED] = "answered",
        [INVITE_ACTING] = "acting",
        [INVITE_DONE] = "done",
};

const char* invite_state_to_string(InviteState s) {
        return s >= 0 && s < _INVITE_STATE_MAX ? states[s] : NULL;
}

InviteState invite_state_from_string(const char *s) {
        for (int i = 0; i < _INVITE_STATE_MAX; i++)
                if (streq_ptr(s, states[i]))
                        return (InviteState) i;
        return _INVITE_STATE_INVALID;
}

InviteRow* invite_row_free(InviteRow *row) {
        if (!row)
                return NULL;
        free(row->event_id);
        free(row->space_id);
        free(row->channel_id);
        free(row->inviter_slug);
        free(row->space_name);
        free(row->channel_name);
        free(row->dm_envelope_id);
        return mfree(row);
}

void invite_rows_free(InviteRow **rows, size_t n) {
        for (size_t i = 0; i < n; i++)
                (void) invite_row_free(rows[i]);
        free(rows);
}

static int step(sqlite3_stmt *s) {
        return database_error(sqlite3_step(s));
}

int invite_store_put(Database *db, const InviteRow *row, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const char *const texts[] = {
                row->event_id, invite_state_to_string(row->state), row->to_channel ? "channel" : "space",
                strempty(row->space_id), strempty(row->channel_id), strempty(row->inviter_slug),
                strempty(row->space_name), strempty(row->channel_name),
                isempty(row->dm_envelope_id) ? NULL : row->dm_envelope_id,
        };
        int r = database_prepare(db, "INSERT OR REPLACE INTO invites (event_id, state, scope, space_id, channel_id, "
                                 "inviter_slug, space_name, channel_name, dm_envelope_id, answer, updated_at) "
                                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, '', ?10)", &s);

        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = database_bind_text(s, (int) i + 1, texts[i]);
        if (r >= 0)
                r = database_bind_int(s, 10, now_ms);
        return r < 0 ? r : step(s);
}

#define SELECT "SELECT event_id, state, scope, space_id, channel_id, inviter_slug, space_name, channel_name, " \
               "coalesce(dm_envelope_id, ''), answer, updated_at FROM invites "

static int row_read(sqlite3_stmt *s, InviteRow **ret) {
        _cleanup_(invite_row_freep) InviteRow *row = new0(InviteRow, 1);
        const char *scope, *answer;

        if (!row)
                return -ENOMEM;
        const struct { int column; char **field; } texts[] = {
                { 0, &row->event_id }, { 3, &row->space_id }, { 4, &row->channel_id }, { 5, &row->inviter_slug },
                { 6, &row->space_name }, { 7, &row->channel_name }, { 8, &row->dm_envelope_id },
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                int r = database_column_strdup(s, texts[i].column, texts[i].field);

                if (r < 0)
                        return r;
                if (!*texts[i].field)
                        return -EUCLEAN;
        }
        row->state = invite_state_from_string((const char*) sqlite3_column_text(s, 1));
        scope = (const char*) sqlite3_column_text(s, 2);
        answer = (const char*) sqlite3_column_text(s, 9);
        if (row->state < 0 || !scope || !answer)
                return -EUCLEAN;
        row->to_channel = streq(scope, "channel");
        row->accept = streq(answer, ACCEPT);
        row->updated_at = sqlite3_column_int64(s, 10);
        *ret = TAKE_PTR(row);
        return 0;
}

static int find(Database *db, const char *sql, const char *key, InviteRow **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, sql, &s);

        if (r >= 0)
                r = database_bind_text(s, 1, key);
        if (r >= 0)
                r = step(s);
        if (r <= 0)
                return r;
        r = row_read(s, ret);
        return r < 0 ? r : 1;
}

int invite_store_get(Database *db, const char *event_id, InviteRow **ret) {
        return find(db, SELECT "WHERE event_id = ?1", event_id, ret);
}

int invite_store_find_question(Database *db, const char *dm_envelope_id, InviteRow **ret) {
        return find(db, SELECT "WHERE dm_envelope_id = ?1", dm_envelope_id, ret);
}

int invite_store_list(Database *db, InviteState state, unsigned limit, InviteRow ***ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        InviteRow **rows = NULL;
        size_t n = 0;
        int r = database_prepare(db, SELECT "WHERE ?1 IS NULL OR state = ?1 ORDER BY updated_at, event_id LIMIT ?2",
                                 &s);

        if (r >= 0)
                r = database_bind_text(s, 1, invite_state_to_string(state));
        if (r >= 0)
                r = database_bind_int(s, 2, limit > 0 ? (int64_t) limit : -1);
        while (r >= 0 && (r = step(s)) > 0) {
                InviteRow **grown = reallocarray(rows, n + 1, sizeof(*rows));

                if (!grown) {
                        r = -ENOMEM;
                        break;
                }
                rows = grown;
                r = row_read(s, rows + n);
                n += r >= 0;
        }
        if (r < 0) {
                invite_rows_free(rows, n);
                return r;
        }
        *ret = rows;
        *ret_n = n;
        return 0;
}

/* Statements of three texts or fewer that change one row. */
static int change(Database *db, const char *sql, const char *event_id, const char *text, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, sql, &s);

        if (r >= 0)
                r = database_bind_text(s, 1, event_id);
        if (r >= 0)
                r = database_bind_text(s, 2, text);
        if (r >= 0)
                r = database_bind_int(s, 3, now_ms);
        return r < 0 ? r : step(s);
}

int invite_store_set_state(Database *db, const char *event_id, InviteState state, int64_t now_ms) {
        return change(db, "UPDATE invites SET state = ?2, updated_at = ?3 WHERE event_id = ?1", event_id,
                      invite_state_to_string(state), now_ms);
}

int invite_store_announced(Database *db, const char *event_id, const char *dm_envelope_id, int64_t now_ms) {
        return change(db, "UPDATE invites SET state = 'announced', dm_envelope_id = ?2, updated_at = ?3 "
                      "WHERE event_id = ?1", event_id, dm_envelope_id, now_ms);
}

int invite_store_answered(Database *db, const char *event_id, bool accept, int64_t now_ms) {
        return change(db, "UPDATE invites SET state = 'answered', answer = ?2, updated_at = ?3 WHERE event_id = ?1",
                      event_id, accept ? ACCEPT : REJECT, now_ms);
}

int invite_store_remove(Database *db, const char *event_id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "DELETE FROM invites WHERE event_id = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, event_id);
        return r < 0 ? r : step(s);
}

int invite_store_expire(Database *db, int64_t before_ms, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE invites SET state = 'done', updated_at = ?2 "
                                 "WHERE state IN ('announcing', 'announced') AND updated_at < ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, before_ms);
        if (r >= 0)
                r = database_bind_int(s, 2, now_ms);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}
