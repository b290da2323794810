/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "message-store.h"

#define LIMIT_DEFAULT 50U
#define LIMIT_MAX 10000U
#define DAY_MS ((int64_t) 86400000)

static int step(sqlite3_stmt *s) {
        return database_error(sqlite3_step(s));
}

/* --- adding --- */

/* > 0: that payload came before. */
static int nonce_remember(Database *db, const Message *m, int64_t received_at_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "INSERT OR IGNORE INTO message_nonces (sender_slug, message_nonce, envelope_id, "
                                 "received_at) VALUES (?1, ?2, ?3, ?4)", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, m->sender_slug);
        if (r >= 0)
                r = database_bind_text(s, 2, m->message_nonce);
        if (r >= 0)
                r = database_bind_text(s, 3, m->envelope_id);
        if (r >= 0)
                r = database_bind_int(s, 4, received_at_ms);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db) == 0;
}

static int mark_plaintext(Database *db, const char *envelope_id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "INSERT OR IGNORE INTO message_plaintext (envelope_id) VALUES (?1)", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, envelope_id);
        return r < 0 ? r : step(s);
}

/* > 0: there is one of this id. */
static int row_insert(Database *db, const StoredMessage *m, size_t content_size) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const char *const texts[] = { m->envelope_id, envelope_kind_to_string(m->kind), m->sender_slug, m->channel_id,
                                      m->space_id, m->recipient_slug, m->content_type };
        int r = database_prepare(db, "INSERT OR IGNORE INTO messages (envelope_id, envelope_kind, sender_slug, "
                                 "channel_id, space_id, recipient_slug, content_type, content, sent_at, received_at, "
                                 "thread_root_id, reply_to_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, "
                                 "?12)", &s);

        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = database_bind_text(s, (int) i + 1, texts[i]);
        if (r >= 0)
                r = database_error(sqlite3_bind_text64(s, 8, m->content, content_size, SQLITE_STATIC, SQLITE_UTF8));
        if (r >= 0)
                r = database_bind_int(s, 9, m->sent_at);
        if (r >= 0)
                r = database_bind_int(s, 10, m->received_at);
        if (r >= 0)
                r = database_bind_text(s, 11, isempty(m->thread_root_id) ? NULL : m->thread_root_id);
        if (r >= 0)
                r = database_bind_text(s, 12, isempty(m->reply_to_id) ? NULL : m->reply_to_id);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db) == 0;
}

static int message_insert(Database *db, const Message *m, int64_t received_at_ms) {
        _cleanup_(strbuf_done) StrBuf content = {};
        int r = m->content->type == SIGNED_STRING ? strbuf_append(&content, m->content->text, m->content->size)
                                                  : signed_value_format(m->content, &content);

        if (r < 0)
                return r;
        return row_insert(db, &(StoredMessage) {
                .envelope_id = (char*) m->envelope_id, .sender_slug = (char*) m->sender_slug,
                .channel_id = (char*) m->channel_id, .space_id = (char*) m->space_id,
                .recipient_slug = (char*) m->recipient_slug, .content_type = (char*) m->content_type,
                .thread_root_id = (char*) m->thread_root_id, .reply_to_id = (char*) m->reply_to_id,
                .content = content.text ?: (char[]) { '\0' }, .kind = m->kind, .sent_at = m->sent_at,
                .received_at = received_at_ms,
        }, content.size);
}

int message_store_add_sent(Database *db, const StoredMessage *m) {
        return row_insert(db, m, strlen(m->content));
}

int message_store_add(Database *db, const Message *m, int64_t received_at_ms) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = database_begin_joined(db, &t);

        if (r >= 0)
                r = message_insert(db, m, received_at_ms);
        if (r != 0)
                return r < 0 ? r : MESSAGE_KNOWN;
        r = nonce_remember(db, m, received_at_ms);
        if (r != 0)
                return r < 0 ? r : MESSAGE_REPLAYED;
        if (!m->encrypted)
                r = mark_plaintext(db, m->envelope_id);
        if (r >= 0)
                r = database_commit(&t);
        return r < 0 ? r : MESSAGE_NEW;
}

/* --- reading --- */

#define COLUMNS "m.envelope_id, m.envelope_kind, m.sender_slug, m.channel_id, m.space_id, m.recipient_slug, " \
                "m.content_type, m.content, m.sent_at, m.received_at, m.thread_root_id, m.reply_to_id, " \
                "p.envelope_id IS NULL"
#define REPLIES ", (SELECT COUNT(*) FROM messages r WHERE r.thread_root_id = m.envelope_id)"
#define FROM " FROM messages m LEFT JOIN message_plaintext p ON p.envelope_id = m.envelope_id WHERE "
#define RANGE " AND m.sent_at > ?2 AND m.sent_at < ?3 ORDER BY m.sent_at DESC, m.envelope_id DESC LIMIT ?4"

void stored_messages_free(StoredMessage *messages, size_t n) {
        for (size_t i = 0; i < n; i++) {
                StoredMessage *m = messages + i;

                free(m->envelope_id);
                free(m->sender_slug);
                free(m->channel_id);
                free(m->space_id);
                free(m->recipient_slug);
                free(m->content_type);
                free(m->thread_root_id);
                free(m->reply_to_id);
                free(m->content);
        }
        free(messages);
}

static int row_read(sqlite3_stmt *s, StoredMessage *m) {
        const struct { int column; char **field; } texts[] = {
                { 0, &m->envelope_id }, { 2, &m->sender_slug }, { 3, &m->channel_id }, { 4, &m->space_id },
                { 5, &m->recipient_slug }, { 6, &m->content_type }, { 7, &m->content }, { 10, &m->thread_root_id },
                { 11, &m->reply_to_id },
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                int r = database_column_strdup(s, texts[i].column, texts[i].field);

                if (r < 0)
                        return r;
        }
        if (!m->envelope_id || !m->sender_slug || !m->content)
                return -EUCLEAN;
        m->kind = streq_ptr((const char*) sqlite3_column_text(s, 1), "dm") ? ENVELOPE_DM : ENVELOPE_CHANNEL;
        m->sent_at = sqlite3_column_int64(s, 8);
        m->received_at = sqlite3_column_int64(s, 9);
        m->encrypted = sqlite3_column_int(s, 12) != 0;
        m->n_replies = sqlite3_column_count(s) > 13 ? (uint64_t) sqlite3_column_int64(s, 13) : 0;
        return 0;
}

/* The rows of a statement from the newest on, turned round. */
static int rows_read(sqlite3_stmt *s, StoredMessage **ret, size_t *ret_n) {
        StoredMessage *rows = NULL;
        size_t n = 0, allocated = 0;
        int r;

        while ((r = step(s)) > 0) {
                if (n == allocated) {
                        StoredMessage *grown = reallocarray(rows, allocated * 2 + 8, sizeof(*rows));

                        if (!grown) {
                                r = -ENOMEM;
                                break;
                        }
                        rows = grown;
                        allocated = allocated * 2 + 8;
                }
                rows[n] = (StoredMessage) {};
                r = row_read(s, rows + n++);
                if (r < 0)
                        break;
        }
        if (r < 0) {
                stored_messages_free(rows, n);
                return r;
        }
        for (size_t i = 0; i < n / 2; i++) {
                StoredMessage swapped = rows[i];

                rows[i] = rows[n - 1 - i];
                rows[n - 1 - i] = swapped;
        }
        *ret = rows;
        *ret_n = n;
        return 0;
}

/* 1 = *ret is when it was sent, 0 = there is none. */
static int sent_at_of(Database *db, const char *envelope_id, int64_t *ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT sent_at FROM messages WHERE envelope_id = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, envelope_id);
        if (r >= 0)
                r = step(s);
        if (r > 0)
                *ret = sqlite3_column_int64(s, 0);
        return r;
}

static int range_read(Database *db, sqlite3_stmt *s, const char *key, const MessageRange *range, StoredMessage **ret,
                      size_t *ret_n) {
        unsigned limit = range && range->limit > 0 ? MIN(range->limit, LIMIT_MAX) : LIMIT_DEFAULT;
        int64_t after = range && range->after > 0 ? range->after : INT64_MIN, since = INT64_MIN;
        int r = database_bind_text(s, 1, key);

        if (r >= 0 && range && !isempty(range->since))
                r = sent_at_of(db, range->since, &since);
        if (r >= 0)
                r = database_bind_int(s, 2, MAX(after, since));
        if (r >= 0)
                r = database_bind_int(s, 3, range && range->before > 0 ? range->before : INT64_MAX);
        if (r >= 0)
                r = database_bind_int(s, 4, limit);
        return r < 0 ? r : rows_read(s, ret, ret_n);
}

int message_store_get(Database *db, const char *envelope_id, StoredMessage **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        StoredMessage *rows;
        size_t n;
        int r = database_prepare(db, "SELECT " COLUMNS FROM "m.envelope_id = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, envelope_id);
        if (r >= 0)
                r = rows_read(s, &rows, &n);
        if (r < 0)
                return r;
        if (n == 0) {
                stored_messages_free(rows, n);
                return 0;
        }
        *ret = rows;
        return 1;
}

int message_store_roots(Database *db, const char *channel_id, const MessageRange *range, StoredMessage **ret,
                        size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT " COLUMNS REPLIES FROM "m.channel_id = ?1 AND m.thread_root_id IS NULL"
                                 RANGE, &s);

        return r < 0 ? r : range_read(db, s, channel_id, range, ret, ret_n);
}

int message_store_knows_channel(Database *db, const char *channel_id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT 1 FROM messages WHERE channel_id = ?1 LIMIT 1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, channel_id);
        return r < 0 ? r : step(s);
}

int message_store_has(Database *db, const char *envelope_id) {
        int64_t sent_at;

        return sent_at_of(db, envelope_id, &sent_at);
}

int message_store_thread(Database *db, const char *root_id, const MessageRange *range, StoredMessage **ret,
                         size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT " COLUMNS FROM "(m.envelope_id = ?1 OR m.thread_root_id = ?1)" RANGE, &s);

        return r < 0 ? r : range_read(db, s, root_id, range, ret, ret_n);
}

/* --- threads and channels --- */

int message_store_cursor(Database *db, const char *root_id, int64_t *ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT last_processed_sent_at FROM thread_processing_state WHERE root_id = ?1",
                                 &s);

        if (r >= 0)
                r = database_bind_text(s, 1, root_id);
        if (r >= 0)
                r = step(s);
        if (r >= 0)
                *ret = r > 0 ? sqlite3_column_int64(s, 0) : 0;
        return r < 0 ? r : 0;
}

int message_store_set_cursor(Database *db, const char *root_id, int64_t sent_at) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "INSERT INTO thread_processing_state (root_id, last_processed_sent_at) "
                                 "VALUES (?1, ?2) ON CONFLICT (root_id) DO UPDATE SET last_processed_sent_at = "
                                 "MAX(last_processed_sent_at, excluded.last_processed_sent_at)", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, root_id);
        if (r >= 0)
                r = database_bind_int(s, 2, sent_at);
        return r < 0 ? r : step(s);
}

/* sql: a literal. The newest message comes from the end of the index, however many the channel has. */
static int find_space(Database *db, const char *sql, const char *channel_id, char **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, sql, &s);

        if (r >= 0)
                r = database_bind_text(s, 1, channel_id);
        if (r >= 0)
                r = step(s);
        if (r <= 0)
                return r;
        r = database_column_strdup(s, 0, ret);
        return r < 0 ? r : 1;
}

int message_store_space_of(Database *db, const char *channel_id, char **ret) {
        int r = find_space(db, "SELECT space_id FROM channel_space_map WHERE channel_id = ?1", channel_id, ret);

        return r != 0 ? r : find_space(db, "SELECT space_id FROM messages WHERE channel_id = ?1 AND space_id <> '' "
                                       "ORDER BY sent_at DESC LIMIT 1", channel_id, ret);
}

int message_store_learn_space(Database *db, const char *channel_id, const char *space_id, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        if (isempty(channel_id) || isempty(space_id))
                return 0;
        r = database_prepare(db, "INSERT INTO channel_space_map (channel_id, space_id, learned_at) "
                             "VALUES (?1, ?2, ?3) "
                             "ON CONFLICT (channel_id) DO UPDATE SET space_id = excluded.space_id, "
                             "learned_at = excluded.learned_at", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, channel_id);
        if (r >= 0)
                r = database_bind_text(s, 2, space_id);
        if (r >= 0)
                r = database_bind_int(s, 3, now_ms);
        return r < 0 ? r : step(s);
}

/* --- keeping it small --- */

static int sweep_older(Database *db, const char *sql, int64_t limit) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, sql, &s);

        if (r >= 0)
                r = database_bind_int(s, 1, limit);
        if (r >= 0)
                r = step(s);
        return r < 0 ? r : database_changes(db);
}

int message_store_sweep(Database *db, unsigned days, int64_t now_ms) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int64_t limit = now_ms - (int64_t) days * DAY_MS;
        int r, n = 0;

        if (days == 0)
                return 0;
        r = database_begin(db, &t);
        if (r >= 0)
                r = n = sweep_older(db, "DELETE FROM messages WHERE received_at < ?1", limit);
        if (r >= 0)
                r = sweep_older(db, "DELETE FROM message_nonces WHERE received_at < ?1", limit);
        if (r > 0 || n > 0)
                r = database_exec(db,
                                  "DELETE FROM message_plaintext WHERE envelope_id NOT IN "
                                  "(SELECT envelope_id FROM messages);"
                                  "DELETE FROM thread_processing_state WHERE NOT EXISTS (SELECT 1 FROM messages m "
                                  "WHERE m.envelope_id = root_id OR m.thread_root_id = root_id)");
        if (r >= 0)
                r = database_commit(&t);
        return r < 0 ? r : n;
}

/* --- pins --- */

static int pin_get(void *userdata, const char *slug, CertPin *ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(userdata, "SELECT root, complete FROM pinned_roots WHERE slug = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, slug);
        if (r >= 0)
                r = step(s);
        if (r <= 0)
                return r;
        if (sqlite3_column_bytes(s, 0) != (int) KEY_SIZE)
                return -EUCLEAN;
        memcpy(ret->root, sqlite3_column_blob(s, 0), KEY_SIZE);
        ret->complete = sqlite3_column_int(s, 1) != 0;
        return 1;
}

static int pin_put(void *userdata, const char *slug, const CertPin *pin) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(userdata, "INSERT INTO pinned_roots (slug, root, complete, pinned_at) "
                                 "VALUES (?1, ?2, ?3, ?4) ON CONFLICT (slug) DO UPDATE SET root = excluded.root, "
                                 "complete = excluded.complete", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, slug);
        if (r >= 0)
                r = database_error(sqlite3_bind_blob(s, 2, pin->root, KEY_SIZE, SQLITE_STATIC));
        if (r >= 0)
                r = database_bind_int(s, 3, pin->complete);
        if (r >= 0)
                r = database_bind_int(s, 4, now_realtime_ms());
        return r < 0 ? r : step(s);
}

CertPins message_store_pins(Database *db) {
        return (CertPins) { .get = pin_get, .put = pin_put, .userdata = db };
}
