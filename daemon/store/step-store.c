/* SPDX-License-Identifier: MIT */

#include "step-store.h"
#include "string-util.h"

static void stored_call_done(StoredCall *c) {
        free(c->call);
        free(c->name);
        free(c->arguments);
        free(c->result);
}

void stored_step_done(StoredStep *s) {
        for (size_t i = 0; i < s->n_calls; i++)
                stored_call_done(s->calls + i);
        free(s->calls);
        free(s->text);
        free(s->item);
        free(s->opaque);
        *s = (StoredStep) {};
}

void stored_steps_free(StoredStep *steps, size_t n) {
        for (size_t i = 0; i < n; i++)
                stored_step_done(steps + i);
        free(steps);
}

static int step_run(sqlite3_stmt *s) {
        int r = database_error(sqlite3_step(s));

        return r > 0 ? -EIO : r;
}

static int add_call(Database *db, int64_t turn, size_t step, size_t position, const StoredCall *c) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "INSERT INTO turn_tool_calls (turn, step, position, call, name, arguments, state) "
                             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'begun')", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, turn);
        if (r >= 0)
                r = database_bind_int(s, 2, (int64_t) step);
        if (r >= 0)
                r = database_bind_int(s, 3, (int64_t) position);
        if (r >= 0)
                r = database_bind_text(s, 4, c->call);
        if (r >= 0)
                r = database_bind_text(s, 5, c->name);
        if (r >= 0)
                r = database_bind_text(s, 6, c->arguments);
        return r < 0 ? r : step_run(s);
}

/* The column has both: the message on the first line, with a blank behind it when there are no calls. */
static int add_step(Database *db, int64_t turn, size_t step, const StoredStep *t) {
        _cleanup_free_ char *opaque = strjoin(strempty(t->item), t->n_calls == 0 ? " \n" : "\n", strempty(t->opaque));
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        if (!opaque)
                return -ENOMEM;
        r = database_prepare(db, "INSERT INTO turn_steps (turn, step, text, opaque) VALUES (?1, ?2, ?3, ?4)", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, turn);
        if (r >= 0)
                r = database_bind_int(s, 2, (int64_t) step);
        if (r >= 0)
                r = database_bind_text(s, 3, strempty(t->text));
        if (r >= 0)
                r = database_bind_text(s, 4, opaque);
        return r < 0 ? r : step_run(s);
}

int step_store_add(Database *db, int64_t turn, size_t step, const StoredStep *s) {
        _cleanup_(transaction_rollbackp) Transaction transaction = {};
        int r;

        r = database_begin(db, &transaction);
        if (r >= 0)
                r = add_step(db, turn, step, s);
        for (size_t i = 0; i < s->n_calls && r >= 0; i++)
                r = add_call(db, turn, step, i, s->calls + i);
        return r < 0 ? r : database_commit(&transaction);
}

int step_store_finish_call(Database *db, int64_t turn, size_t step, size_t position, const char *result,
                           bool is_error) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "UPDATE turn_tool_calls SET state = 'done', result = ?4, is_error = ?5 "
                             "WHERE turn = ?1 AND step = ?2 AND position = ?3", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, turn);
        if (r >= 0)
                r = database_bind_int(s, 2, (int64_t) step);
        if (r >= 0)
                r = database_bind_int(s, 3, (int64_t) position);
        if (r >= 0)
                r = database_bind_text(s, 4, result);
        if (r >= 0)
                r = database_bind_int(s, 5, is_error);
        if (r >= 0)
                r = step_run(s);
        if (r < 0)
                return r;
        return database_changes(db) > 0 ? 0 : -ESTALE;
}

/* ---- reading ---- */

static int column_text(sqlite3_stmt *s, int column, char **ret) {
        int r = database_column_strdup(s, column, ret);

        return r < 0 ? r : *ret ? 0 : -EUCLEAN;
}

static int step_read(sqlite3_stmt *s, StoredStep *ret) {
        _cleanup_free_ char *both = NULL;
        char *end;
        int r;

        r = column_text(s, 1, &ret->text);
        if (r >= 0)
                r = column_text(s, 2, &both);
        if (r < 0)
                return r;
        end = strchr(both, '\n');
        if (!end)
                return -EUCLEAN;
        ret->callless = end > both && end[-1] == ' ';
        ret->item = strndup(both, (size_t) (end - both) - ret->callless);
        ret->opaque = strdup(end + 1);
        return ret->item && ret->opaque ? 0 : -ENOMEM;
}

static int steps_read(Database *db, int64_t turn, StoredStep **steps, size_t *n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "SELECT step, text, opaque FROM turn_steps WHERE turn = ?1 ORDER BY step", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, turn);
        if (r < 0)
                return r;
        while ((r = database_error(sqlite3_step(s))) > 0) {
                StoredStep *grown = reallocarray(*steps, *n + 1, sizeof(StoredStep));

                if (!grown)
                        return -ENOMEM;
                *steps = grown;
                grown[*n] = (StoredStep) {};
                if (sqlite3_column_int64(s, 0) != (int64_t) (*n)++)
                        return -EUCLEAN;
                r = step_read(s, grown + *n - 1);
                if (r < 0)
                        return r;
        }
        return r;
}

static int call_read(sqlite3_stmt *s, StoredCall *ret) {
        const struct { int column; char **value; } texts[] = {
                { 2, &ret->call }, { 3, &ret->name }, { 4, &ret->arguments }, { 6, &ret->result },
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                int r = column_text(s, texts[i].column, texts[i].value);

                if (r < 0)
                        return r;
        }
        ret->done = streq_ptr((const char*) sqlite3_column_text(s, 5), "done");
        ret->is_error = sqlite3_column_int64(s, 7) != 0;
        return 0;
}

static int calls_read(Database *db, int64_t turn, StoredStep *steps, size_t n) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "SELECT step, position, call, name, arguments, state, result, is_error "
                             "FROM turn_tool_calls WHERE turn = ?1 ORDER BY step, position", &s);
        if (r >= 0)
                r = database_bind_int(s, 1, turn);
        if (r < 0)
                return r;
        while ((r = database_error(sqlite3_step(s))) > 0) {
                int64_t step = sqlite3_column_int64(s, 0);
                StoredCall *grown;
                StoredStep *t;

                if (step < 0 || (uint64_t) step >= n)
                        return -EUCLEAN;
                t = steps + step;
                if (sqlite3_column_int64(s, 1) != (int64_t) t->n_calls)
                        return -EUCLEAN;
                grown = reallocarray(t->calls, t->n_calls + 1, sizeof(StoredCall));
                if (!grown)
                        return -ENOMEM;
                t->calls = grown;
                grown[t->n_calls] = (StoredCall) {};
                r = call_read(s, grown + t->n_calls++);
                if (r < 0)
                        return r;
        }
        return r;
}

int step_store_list(Database *db, int64_t turn, StoredStep **ret, size_t *ret_n) {
        StoredStep *steps = NULL;
        size_t n = 0;
        int r;

        r = steps_read(db, turn, &steps, &n);
        if (r >= 0 && n > 0)
                r = calls_read(db, turn, steps, n);
        for (size_t i = 0; i < n && r >= 0; i++)
                if ((steps[i].n_calls == 0) != steps[i].callless)
                        r = -EUCLEAN;
        if (r < 0) {
                stored_steps_free(steps, n);
                return r;
        }
        *ret = steps;
        *ret_n = n;
        return 0;
}

/* ---- deleting ---- */

/* Both texts are literals. */
static int delete_from(Database *db, const char *of_turn, const char *of_none, int64_t turn) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, turn != 0 ? of_turn : of_none, &s);
        if (r >= 0 && turn != 0)
                r = database_bind_int(s, 1, turn);
        return r < 0 ? r : step_run(s);
}

int step_store_delete(Database *db, int64_t turn) {
        int r;

        r = delete_from(db, "DELETE FROM turn_tool_calls WHERE turn = ?1",
                        "DELETE FROM turn_tool_calls WHERE turn NOT IN (SELECT seq FROM session_turns)", turn);
        if (r < 0)
                return r;
        return delete_from(db, "DELETE FROM turn_steps WHERE turn = ?1",
                           "DELETE FROM turn_steps WHERE turn NOT IN (SELECT seq FROM session_turns)", turn);
}
