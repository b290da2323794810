/* SPDX-License-Identifier: MIT */

#include "outbox-store.h"
#include "json-util.h"
#include "string-util.h"

#define COLUMNS "id, state, key, space_id, channel_id, recipient_slug, thread_root_id, content_type, content, turn, " \
                "envelope_id, envelope, error, sent_at, attempts, created_at"

static const char *const state_names[_OUTBOX_STATE_MAX] = {
        [OUTBOX_QUEUED] = "queued",
        [OUTBOX_SEALED] = "sealed",
        [OUTBOX_SENT] = "sent",
        [OUTBOX_FAILED] = "failed",
};

static OutboxState state_from_string(const char *s) {
        for (OutboxState i = 0; i < _OUTBOX_STATE_MAX; i++)
                if (streq_ptr(s, state_names[i]))
                        return i;
        return _OUTBOX_STATE_INVALID;
}

static int step(sqlite3_stmt *s) {
        return database_error(sqlite3_step(s));
}

OutboxRow* outbox_row_free(OutboxRow *row) {
        if (!row)
                return NULL;
        free(row->key);
        free(row->space_id);
        free(row->channel_id);
        free(row->recipient_slug);
        free(row->thread_root_id);
        free(row->content_type);
        free(row->content);
        free(row->turn);
        free(row->envelope_id);
        free(row->envelope);
        free(row->error);
        return mfree(row);
}

static int row_read(sqlite3_stmt *s, OutboxRow **ret) {
        _cleanup_(outbox_row_freep) OutboxRow *row = new0(OutboxRow, 1);

        if (!row)
                return -ENOMEM;

        char **const texts[] = { &row->key, &row->space_id, &row->channel_id, &row->recipient_slug,
                                 &row->thread_root_id, &row->content_type, &row->content, &row->turn,
                                 &row->envelope_id, &row->envelope, &row->error };

        row->id = sqlite3_column_int64(s, 0);
        row->state = state_from_string((const char*) sqlite3_column_text(s, 1));
        if (row->state < 0)
                return -EUCLEAN;
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                int r = database_column_strdup(s, (int) i + 2, texts[i]);

                if (r >= 0 && !*texts[i]) {
                        *texts[i] = strdup("");
                        r = *texts[i] ? 0 : -ENOMEM;
                }
                if (r < 0)
                        return r;
        }
        row->sent_at = sqlite3_column_int64(s, 13);
        row->attempts = (unsigned) sqlite3_column_int64(s, 14);
        row->created_at = sqlite3_column_int64(s, 15);
        *ret = TAKE_PTR(row);
        return 1;
}

int outbox_store_find(Database *db, const char *key, int64_t *ret_id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT id FROM outbox WHERE key = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, key);
        if (r >= 0)
                r = step(s);
        if (r > 0)
                *ret_id = sqlite3_column_int64(s, 0);
        return r;
}

int outbox_store_add(Database *db, const OutboxRow *row, int64_t now_ms, int64_t *ret_id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const char *const texts[] = { isempty(row->key) ? NULL : row->key, state_names[OUTBOX_QUEUED],
                                      strempty(row->space_id), strempty(row->channel_id),
                                      strempty(row->recipient_slug), strempty(row->thread_root_id),
                                      row->content_type, row->content, strempty(row->turn) };
        int r = isempty(row->key) ? 0 : outbox_store_find(db, row->key, ret_id);

        if (r != 0)
                return r;
        r = database_prepare(db, "INSERT INTO outbox (key, state, space_id, channel_id, recipient_slug, "
                             "thread_root_id, content_type, content, turn, sent_at, created_at, updated_at) "
                             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?10)", &s);
        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = database_bind_text(s, (int) i + 1, texts[i]);
        if (r >= 0)
                r = database_bind_int(s, 10, now_ms);
        if (r >= 0)
                r = step(s);
        if (r < 0)
                return r;
        *ret_id = sqlite3_last_insert_rowid(database_handle(db));
        return 0;
}

int outbox_store_get(Database *db, int64_t id, OutboxRow **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT " COLUMNS " FROM outbox WHERE id = ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, id);
        if (r >= 0)
                r = step(s);
        return r <= 0 ? r : row_read(s, ret);
}

char* outbox_row_lane(const OutboxRow *row) {
        return isempty(row->channel_id) ? strjoin("@", strempty(row->recipient_slug)) : strjoin("#", row->channel_id);
}

static int lanes_to_json(const char *const *lanes, size_t n, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        for (size_t i = 0; i < n && list; i++) {
                json_object *lane = json_object_new_string(lanes[i]);

                if (!lane || json_object_array_add(list, lane) < 0) {
                        (void) json_object_put(lane);
                        return -ENOMEM;
                }
        }
        *ret = TAKE_PTR(list);
        return *ret ? 0 : -ENOMEM;
}

int outbox_store_next(Database *db, const char *const *busy_lanes, size_t n_lanes, OutboxRow **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_json_ json_object *busy = NULL;
        const char *text;
        int r;

        r = lanes_to_json(busy_lanes, n_lanes, &busy);
        if (r < 0)
                return r;
        text = json_text(busy, NULL);
        if (!text)
                return -ENOMEM;
        r = database_prepare(db, "SELECT " COLUMNS " FROM outbox WHERE state IN ('queued', 'sealed') AND "
                             "CASE WHEN channel_id = '' THEN '@' || recipient_slug ELSE '#' || channel_id END "
                             "NOT IN (SELECT value FROM json_each(?1)) ORDER BY id LIMIT 1", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, text);
        if (r >= 0)
                r = step(s);
        return r <= 0 ? r : row_read(s, ret);
}

int outbox_store_sealed(Database *db, int64_t id, const char *envelope_id, const char *envelope, size_t size,
                        int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE outbox SET state = 'sealed', envelope_id = ?2, envelope = ?3, "
                                 "updated_at = ?4 WHERE id = ?1 AND state = 'queued'", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, id);
        if (r >= 0)
                r = database_bind_text(s, 2, envelope_id);
        if (r >= 0)
                r = database_error(sqlite3_bind_text64(s, 3, envelope, size, SQLITE_STATIC, SQLITE_UTF8));
        if (r >= 0)
                r = database_bind_int(s, 4, now_ms);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db) == 0 ? -ESTALE : 0;
}

int outbox_store_attempted(Database *db, int64_t id, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE outbox SET attempts = attempts + 1, updated_at = ?2 WHERE id = ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, id);
        if (r >= 0)
                r = database_bind_int(s, 2, now_ms);
        return r < 0 ? r : step(s);
}

static int end(Database *db, int64_t id, OutboxState state, const char *error, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "UPDATE outbox SET state = ?2, error = ?3, envelope = NULL, updated_at = ?4 "
                                 "WHERE id = ?1", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, id);
        if (r >= 0)
                r = database_bind_text(s, 2, state_names[state]);
        if (r >= 0)
                r = database_bind_text(s, 3, strempty(error));
        if (r >= 0)
                r = database_bind_int(s, 4, now_ms);
        return r < 0 ? r : step(s);
}

/* A text as it is, everything else as JSON (message-pipeline §7.2). */
static int stored_content(const OutboxRow *row, char **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r = json_parse(row->content, strlen(row->content), &o);

        if (r < 0)
                return r;
        *ret = strdup(json_object_is_type(o, json_type_string) ? json_object_get_string(o) : row->content);
        return *ret ? 0 : -ENOMEM;
}

int outbox_store_sent(Database *db, const OutboxRow *row, const char *own_slug, int64_t now_ms) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        _cleanup_free_ char *content = NULL;
        int r = stored_content(row, &content);

        if (r >= 0)
                r = database_begin(db, &t);
        if (r >= 0)
                r = end(db, row->id, OUTBOX_SENT, NULL, now_ms);
        if (r >= 0)
                r = message_store_add_sent(db, &(StoredMessage) {
                        .envelope_id = row->envelope_id,
                        .sender_slug = (char*) own_slug,
                        .kind = isempty(row->channel_id) ? ENVELOPE_DM : ENVELOPE_CHANNEL,
                        .channel_id = isempty(row->channel_id) ? NULL : row->channel_id,
                        .space_id = isempty(row->channel_id) ? NULL : row->space_id,
                        .recipient_slug = isempty(row->channel_id) ? row->recipient_slug : NULL,
                        .thread_root_id = isempty(row->thread_root_id) ? NULL : row->thread_root_id,
                        .content_type = row->content_type,
                        .content = content,
                        .sent_at = row->sent_at,
                        .received_at = now_ms,
                });
        return r < 0 ? r : database_commit(&t);
}

int outbox_store_failed(Database *db, int64_t id, const char *error, int64_t now_ms) {
        return end(db, id, OUTBOX_FAILED, error, now_ms);
}

int outbox_store_sweep(Database *db, int64_t before) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "DELETE FROM outbox WHERE updated_at < ?1 AND state IN ('sent', 'failed')", &s);

        if (r >= 0)
                r = database_bind_int(s, 1, before);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}
