/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "run-store.h"
#include "string-util.h"

static const char *const sent_names[_RUN_SENT_MAX] = {
        [RUN_NOTHING] = "", [RUN_SENDING] = "sending", [RUN_SENT] = "sent",
};

HarnessRun* harness_run_free(HarnessRun *r) {
        if (!r)
                return NULL;
        free(r->invocation);
        free(r->kind);
        free(r->session_id);
        free(r->model);
        if (r->token)
                explicit_bzero(r->token, strlen(r->token));
        free(r->token);
        free(r->directory);
        free(r->permission_mode);
        free(r->own_sandbox);
        (void) strv_free(r->allowed_tools);
        free(r->conversation);
        free(r->turn);
        free(r->message);
        free(r->kick);
        free(r->charged);
        return mfree(r);
}

static RunSent sent_from_string(const char *s) {
        for (RunSent i = 0; s && i < _RUN_SENT_MAX; i++)
                if (streq(s, sent_names[i]))
                        return i;
        return _RUN_SENT_INVALID;
}

/* NULL: -ENOMEM. */
static char* list_to_text(char *const *list) {
        _cleanup_json_ json_object *o = json_object_new_array();
        const char *text;

        for (size_t i = 0; o && i < strv_length(list); i++) {
                json_object *item = json_object_new_string(list[i]);

                if (!item || json_object_array_add(o, item) < 0) {
                        (void) json_object_put(item);
                        return NULL;
                }
        }
        text = o ? json_text(o, NULL) : NULL;
        return text ? strdup(text) : NULL;
}

static int list_from_text(const char *text, char ***ret) {
        _cleanup_(strv_freep) char **list = NULL;
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = text ? json_parse(text, strlen(text), &o) : -EUCLEAN;
        if (r == -EBADMSG || (r >= 0 && !json_object_is_type(o, json_type_array)))
                return -EUCLEAN;
        for (size_t i = 0; r >= 0 && i < json_object_array_length(o); i++) {
                json_object *item = json_object_array_get_idx(o, i);

                r = json_object_is_type(item, json_type_string) ? strv_extend(&list, json_object_get_string(item)) :
                                                                  -EUCLEAN;
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}

static int run_read(sqlite3_stmt *s, HarnessRun *ret) {
        char **const texts[] = {
                &ret->invocation, &ret->kind, &ret->session_id, &ret->model, &ret->token, &ret->turn, &ret->message,
                &ret->kick, &ret->charged, &ret->directory, &ret->permission_mode,
                &ret->own_sandbox, &ret->conversation,
        };
        const void *hash = sqlite3_column_blob(s, 13);
        int r;

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                r = database_column_strdup(s, (int) i, texts[i]);
                if (r < 0)
                        return r;
                if (!*texts[i] && texts[i] != &ret->session_id)
                        return -EUCLEAN;
        }
        ret->sent = sent_from_string((const char*) sqlite3_column_text(s, 14));
        if (ret->sent < 0 || !hash || sqlite3_column_bytes(s, 13) != (int) sizeof(ret->hash))
                return -EUCLEAN;
        memcpy(ret->hash, hash, sizeof(ret->hash));
        ret->has_outlet = sqlite3_column_int(s, 15) != 0;
        ret->has_proxy = sqlite3_column_int(s, 16) != 0;
        ret->ended = sqlite3_column_int(s, 17) != 0;
        return list_from_text((const char*) sqlite3_column_text(s, 18), &ret->allowed_tools);
}

int run_store_get(Database *db, HarnessRun **ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_(harness_run_freep) HarnessRun *run = new0(HarnessRun, 1);
        int r;

        if (!run)
                return -ENOMEM;
        r = database_prepare(db, "SELECT invocation, kind, session_id, model, token, turn, message, kick, charged, "
                             "directory, permission_mode, own_sandbox, conversation, hash, sent, has_outlet, "
                             "has_proxy, ended, allowed_tools FROM harness_runs ORDER BY seq DESC LIMIT 1", &s);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r <= 0)
                return r;
        r = run_read(s, run);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(run);
        return 1;
}

static int done(sqlite3_stmt *s, int r) {
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        return r > 0 ? -EIO : r;
}

static int bind_texts(sqlite3_stmt *s, const char *const *texts, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++)
                r = database_bind_text(s, (int) i + 1, texts[i]);
        return r;
}

static int run_insert(Database *db, const HarnessRun *run) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        _cleanup_free_ char *allowed_tools = list_to_text(run->allowed_tools);
        const char *const texts[] = {
                run->invocation, run->kind, run->session_id, strempty(run->model), strempty(run->token),
                strempty(run->turn), strempty(run->message), strempty(run->kick), strempty(run->charged),
                strempty(run->directory), strempty(run->permission_mode),
                strempty(run->own_sandbox), strempty(run->conversation), allowed_tools,
                sent_names[run->sent],
        };
        int r;

        if (!allowed_tools)
                return -ENOMEM;
        r = database_prepare(db, "INSERT INTO harness_runs (invocation, kind, session_id, model, token, turn, "
                             "message, kick, charged, directory, permission_mode, own_sandbox, conversation, "
                             "allowed_tools, sent, has_outlet, has_proxy, hash) "
                             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, "
                             "?17, ?18)", &s);
        if (r >= 0)
                r = bind_texts(s, texts, ELEMENTSOF(texts));
        if (r >= 0)
                r = database_bind_int(s, 16, run->has_outlet);
        if (r >= 0)
                r = database_bind_int(s, 17, run->has_proxy);
        if (r >= 0)
                r = database_error(sqlite3_bind_blob(s, 18, run->hash, sizeof(run->hash), SQLITE_STATIC));
        return done(s, r);
}

int run_store_begin(Database *db, const HarnessRun *run) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r;

        r = database_begin(db, &t);
        if (r >= 0)
                r = database_exec(db, "DELETE FROM harness_runs; DELETE FROM harness_requests");
        if (r >= 0)
                r = run_insert(db, run);
        return r < 0 ? r : database_commit(&t);
}

/* sql is compiled once for its address: each caller has its own. */
static int update(Database *db, const char *sql, const char *const *texts, size_t n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, sql, &s);
        if (r >= 0)
                r = bind_texts(s, texts, n);
        return done(s, r);
}

int run_store_give(Database *db, const HarnessRun *run) {
        const char *const texts[] = {
                run->invocation, strempty(run->turn), strempty(run->message), strempty(run->kick),
                sent_names[run->sent],
        };

        return update(db, "UPDATE harness_runs SET turn = ?2, message = ?3, kick = ?4, sent = ?5 "
                      "WHERE invocation = ?1", texts, ELEMENTSOF(texts));
}

int run_store_set_session(Database *db, const HarnessRun *run) {
        const char *const texts[] = { run->invocation, run->session_id, strempty(run->conversation) };

        return update(db, "UPDATE harness_runs SET session_id = ?2, conversation = ?3 WHERE invocation = ?1", texts,
                      ELEMENTSOF(texts));
}

int run_store_set_charged(Database *db, const HarnessRun *run) {
        const char *const texts[] = { run->invocation, strempty(run->charged) };

        return update(db, "UPDATE harness_runs SET charged = ?2 WHERE invocation = ?1", texts, ELEMENTSOF(texts));
}

int run_store_end(Database *db, const HarnessRun *run) {
        const char *const texts[] = { run->invocation };

        return update(db, "UPDATE harness_runs SET ended = 1, token = '' WHERE invocation = ?1", texts,
                      ELEMENTSOF(texts));
}

void harness_requests_free(HarnessRequest *q, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(q[i].id);
                free(q[i].message);
        }
        free(q);
}

int run_store_ask(Database *db, const char *id, const char *message) {
        const char *const texts[] = { id, message };

        return update(db, "INSERT INTO harness_requests (id, message) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING",
                      texts, ELEMENTSOF(texts));
}

int run_store_answered(Database *db, const char *id) {
        const char *const texts[] = { id };

        return update(db, "DELETE FROM harness_requests WHERE id = ?1", texts, ELEMENTSOF(texts));
}

int run_store_open(Database *db, HarnessRequest **ret, size_t *ret_n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        HarnessRequest *list = NULL, *grown;
        size_t n = 0;
        int r;

        r = database_prepare(db, "SELECT id, message FROM harness_requests ORDER BY seq", &s);
        while (r >= 0 && (r = database_error(sqlite3_step(s))) > 0) {
                grown = reallocarray(list, n + 1, sizeof(HarnessRequest));
                if (!grown) {
                        r = -ENOMEM;
                        break;
                }
                list = grown;
                list[n] = (HarnessRequest) {};
                r = database_column_strdup(s, 0, &list[n].id);
                if (r >= 0)
                        r = database_column_strdup(s, 1, &list[n].message);
                n++;
                if (r >= 0 && (!list[n - 1].id || !list[n - 1].message))
                        r = -EUCLEAN;
        }
        if (r < 0) {
                harness_requests_free(list, n);
                return r;
        }
        *ret = list;
        *ret_n = n;
        return 0;
}
