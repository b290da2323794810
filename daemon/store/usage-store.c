/* SPDX-License-Identifier: MIT */

#include "usage-store.h"

static int step_run(sqlite3_stmt *s) {
        int r = database_error(sqlite3_step(s));

        return r > 0 ? -EIO : r;
}

static int bind_count(sqlite3_stmt *s, int index, uint64_t v) {
        return database_bind_int(s, index, (int64_t) MIN(v, (uint64_t) INT64_MAX));
}

int usage_store_add(Database *db, uint64_t hour, const char *model, uint64_t calls, const TurnUsage *u) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        const uint64_t counts[] = { calls, u->input_tokens, u->cached_tokens, u->cache_write_tokens, u->output_tokens,
                                    u->reasoning_tokens, u->cost_micro };
        int r;

        /* A sum that overflows would become a real number: absurd counts must not get there. */
        for (size_t i = 0; i < ELEMENTSOF(counts); i++)
                if (counts[i] > INT64_MAX / 1000000)
                        return -ERANGE;
        r = database_prepare(db, "INSERT INTO model_usage (hour, model, calls, input_tokens, cached_tokens, "
                             "cache_write_tokens, output_tokens, reasoning_tokens, cost_micro) "
                             "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) "
                             "ON CONFLICT (hour, model) DO UPDATE SET calls = calls + ?3, "
                             "input_tokens = input_tokens + ?4, cached_tokens = cached_tokens + ?5, "
                             "cache_write_tokens = cache_write_tokens + ?6, output_tokens = output_tokens + ?7, "
                             "reasoning_tokens = reasoning_tokens + ?8, cost_micro = cost_micro + ?9", &s);
        if (r >= 0)
                r = bind_count(s, 1, hour);
        if (r >= 0)
                r = database_bind_text(s, 2, model);
        for (size_t i = 0; i < ELEMENTSOF(counts) && r >= 0; i++)
                r = bind_count(s, (int) i + 3, counts[i]);
        return r < 0 ? r : step_run(s);
}

int usage_store_sum(Database *db, uint64_t since_hour, TurnUsage *ret) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        TurnUsage u = {};
        uint64_t *const sums[] = { &u.input_tokens, &u.cached_tokens, &u.cache_write_tokens, &u.output_tokens,
                                   &u.reasoning_tokens, &u.cost_micro };
        int r;

        r = database_prepare(db, "SELECT total(input_tokens), total(cached_tokens), total(cache_write_tokens), "
                             "total(output_tokens), total(reasoning_tokens), total(cost_micro) "
                             "FROM model_usage WHERE hour >= ?1", &s);
        if (r >= 0)
                r = bind_count(s, 1, since_hour);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        if (r <= 0)
                return r < 0 ? r : -EUCLEAN;
        for (size_t i = 0; i < ELEMENTSOF(sums); i++) {
                double v = sqlite3_column_double(s, (int) i);

                /* Whoever edits the file may put anything there. */
                *sums[i] = v > 0 ? (uint64_t) MIN(v, 9e15) : 0;
        }
        *ret = u;
        return 0;
}

int usage_store_delete(Database *db, uint64_t before_hour) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r;

        r = database_prepare(db, "DELETE FROM model_usage WHERE hour < ?1", &s);
        if (r >= 0)
                r = bind_count(s, 1, before_hour);
        return r < 0 ? r : step_run(s);
}
