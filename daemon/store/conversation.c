/* SPDX-License-Identifier: MIT */

#include "conversation.h"
#include "step-store.h"
#include "string-util.h"
#include "turn-store.h"

static void message_done(ConversationMessage *m) {
        free(m->context);
        free(m->text);
        free(m->turn);
        free(m->files);
}

void conversation_messages_free(ConversationMessage *m, size_t n) {
        for (size_t i = 0; i < n; i++)
                message_done(m + i);
        free(m);
}

static int message_read(sqlite3_stmt *s, ConversationMessage *ret) {
        ConversationMessage m = {
                .seq = sqlite3_column_int64(s, 0),
                .assistant = streq_ptr((const char*) sqlite3_column_text(s, 1), "assistant"),
                .created_usec = (uint64_t) MAX(sqlite3_column_int64(s, 5), (sqlite3_int64) 0),
        };
        int r;

        r = database_column_strdup(s, 2, &m.context);
        if (r >= 0)
                r = database_column_strdup(s, 3, &m.text);
        if (r >= 0)
                r = database_column_strdup(s, 4, &m.turn);
        if (r >= 0)
                r = database_column_strdup(s, 6, &m.files);
        if (r >= 0 && (!m.context || !m.text || !m.turn || !m.files))
                r = -EUCLEAN;
        if (r < 0) {
                message_done(&m);
                return r;
        }

        *ret = m;
        return 0;
}

/* Reads the rows of a started query, newest first, until one of the bounds is met. */
static int messages_read(sqlite3_stmt *s, size_t limit, size_t max_bytes, ConversationMessage **m, size_t *n,
                         bool *more) {
        size_t bytes = 0;
        int r;

        while ((r = database_error(sqlite3_step(s))) > 0) {
                size_t size = (size_t) sqlite3_column_bytes(s, 2) + (size_t) sqlite3_column_bytes(s, 3);
                ConversationMessage *grown;

                if (*n >= limit || (max_bytes > 0 && *n > 0 && bytes + size > max_bytes)) {
                        *more = true;
                        return 0;
                }
                grown = reallocarray(*m, *n + 1, sizeof(ConversationMessage));
                if (!grown)
                        return -ENOMEM;
                *m = grown;
                r = message_read(s, *m + *n);
                if (r < 0)
                        return r;
                (*n)++;
                bytes += size;
        }
        return r;
}

int conversation_list(Database *db, const char *conversation, int64_t before, size_t limit, size_t max_bytes,
                      ConversationMessage **ret, size_t *ret_n, bool *ret_more) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        ConversationMessage *m = NULL;
        bool more = false;
        size_t n = 0;
        int r;

        r = database_prepare(db, "SELECT seq, role, context, text, turn, created_usec, files "
                             "FROM conversation_messages WHERE conversation = ?1 AND seq < ?2 ORDER BY seq DESC", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, conversation);
        if (r >= 0)
                r = database_bind_int(s, 2, before > 0 ? before : INT64_MAX);
        if (r >= 0)
                r = messages_read(s, limit, max_bytes, &m, &n, &more);
        if (r < 0) {
                conversation_messages_free(m, n);
                return r;
        }

        for (size_t i = 0; i < n / 2; i++) {
                ConversationMessage swap = m[i];

                m[i] = m[n - 1 - i];
                m[n - 1 - i] = swap;
        }
        *ret = m;
        *ret_n = n;
        if (ret_more)
                *ret_more = more;
        return 0;
}

static int sweep_step(Database *db, const char *sql, uint64_t bound) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, sql, &s);
        if (r >= 0)
                r = database_bind_int(s, 1, (int64_t) MIN(bound, (uint64_t) INT64_MAX));
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        return r < 0 ? r : database_changes(db);
}

static uint64_t moment_before(uint64_t now_usec, uint64_t age_usec) {
        return now_usec > age_usec ? now_usec - age_usec : 0;
}

static int sweep_turns(Database *db, const char *note, const char *drop, uint64_t bound) {
        int r = sweep_step(db, note, bound);

        return r < 0 ? r : sweep_step(db, drop, bound);
}
#define SWEEP_TURNS(db, which, bound) \
        sweep_turns(db, "INSERT OR IGNORE INTO session_values (name, value) SELECT '" TURN_FILES_NOTE "' || id, '' " \
                    "FROM session_turns WHERE files <> '' AND (" which ")", \
                    "DELETE FROM session_turns WHERE " which, bound)

/* Of conversations that have no messages any more. */
#define SWEEP_VALUES(db, prefix) \
        sweep_step(db, "DELETE FROM session_values WHERE ?1 >= 0 AND name GLOB '" prefix "*' " \
                       "AND substr(name, length('" prefix "') + 1) " \
                       "NOT IN (SELECT conversation FROM conversation_messages)", 0)

int retention_sweep(Database *db, const Retention *retention, uint64_t now_usec) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r, n = 0;

        r = database_begin(db, &t);
        if (r < 0)
                return r;

        r = SWEEP_TURNS(db, "ended_usec > 0 AND ended_usec < ?1", moment_before(now_usec, retention->turns_usec));
        if (r < 0)
                return r;
        n += r;
        r = SWEEP_TURNS(db, "ended_usec > 0 AND store = 0 AND ended_usec < ?1",
                        moment_before(now_usec, retention->unstored_usec));
        if (r < 0)
                return r;
        n += r;
        r = SWEEP_TURNS(db, "seq IN (SELECT seq FROM session_turns "
                        "WHERE ended_usec > 0 ORDER BY seq DESC LIMIT -1 OFFSET ?1)", retention->turns_max);
        if (r < 0)
                return r;
        n += r;
        r = sweep_step(db, "DELETE FROM session_turn_items WHERE ?1 >= 0 "
                           "AND turn NOT IN (SELECT seq FROM session_turns)", 0);
        if (r >= 0)
                r = step_store_delete(db, 0);
        if (r < 0)
                return r;
        if (retention->messages_usec > 0) {
                r = sweep_step(db, "DELETE FROM conversation_messages WHERE created_usec < ?1",
                               moment_before(now_usec, retention->messages_usec));
                if (r < 0)
                        return r;
                n += r;
                r = SWEEP_VALUES(db, CONVERSATION_CLI_PREFIX);
                if (r >= 0)
                        r = SWEEP_VALUES(db, CONVERSATION_USAGE_PREFIX);
                if (r < 0)
                        return r;
        }

        r = database_commit(&t);
        return r < 0 ? r : n;
}

int session_value_get(Database *db, const char *name, char **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "SELECT value FROM session_values WHERE name = ?1", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, name);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r <= 0)
                return r;
        r = database_column_strdup(s, 0, ret);
        return r < 0 ? r : 1;
}

int session_value_set(Database *db, const char *name, const char *value) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        if (value)
                r = database_prepare(db, "INSERT INTO session_values (name, value) VALUES (?1, ?2) "
                                     "ON CONFLICT (name) DO UPDATE SET value = excluded.value", &s);
        else
                r = database_prepare(db, "DELETE FROM session_values WHERE name = ?1", &s);
        if (r >= 0)
                r = database_bind_text(s, 1, name);
        if (r >= 0 && value)
                r = database_bind_text(s, 2, value);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        return r;
}

int session_value_list(Database *db, const char *prefix, unsigned max, char ***ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_(strv_freep) char **l = NULL;
        int r = database_prepare(db, "SELECT substr(name, length(?1) + 1), value FROM session_values "
                                 "WHERE name BETWEEN ?1 AND ?1 || char(1114111) LIMIT ?2", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, prefix);
        if (r >= 0)
                r = database_bind_int(s, 2, max);
        while (r >= 0 && (r = database_error(sqlite3_step(s))) > 0)
                for (int k = 0; k < 2 && r >= 0; k++)
                        r = strv_extend(&l, (const char*) sqlite3_column_text(s, k) ?: "");
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}
