/* SPDX-License-Identifier: MIT */

#include "database-fixture.h"
#include "dispatch-store.h"
#include "turn-store.h"

static int add(Fixture *f, const char *id, const char *root, DispatchPriority priority) {
        return dispatch_store_add(f->db, &(DispatchEntry) {
                .envelope_id = id, .root_id = root, .conversation = "dm/bo", .priority = priority, .sent_at = 1000, .now = 2000,
        });
}

/* How many are queued. */
static int count(Fixture *f) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;

        ASSERT_OK(database_prepare(f->db, "SELECT COUNT(*) FROM dispatch_state WHERE state = 'queued'", &s));
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        return sqlite3_column_int(s, 0);
}

static void assert_next(Fixture *f, const char *root, DispatchPriority priority) {
        _cleanup_(dispatch_thread_done) DispatchThread t = {};

        ASSERT_EQ(dispatch_store_next(f->db, &t), 1);
        ASSERT_STREQ(t.root_id, root);
        ASSERT_EQ(t.priority, priority);
}

/* All of a thread's queued messages as "a b c". */
static void assert_batch(Fixture *f, const char *root, size_t max, const char *expected) {
        _cleanup_(strbuf_done) StrBuf b = {};
        DispatchRow *rows;
        size_t n;

        ASSERT_EQ(dispatch_store_batch(f->db, root, "dm/bo", max, &rows, &n), 0);
        for (size_t i = 0; i < n; i++) {
                ASSERT_OK(strbuf_puts(&b, i > 0 ? " " : ""));
                ASSERT_OK(strbuf_puts(&b, rows[i].envelope_id));
        }
        ASSERT_STREQ(strempty(b.text), expected);
        dispatch_rows_free(rows, n);
}

static int64_t last_seq(Fixture *f, const char *root) {
        DispatchRow *rows;
        size_t n;
        int64_t seq;

        ASSERT_EQ(dispatch_store_batch(f->db, root, "dm/bo", 100, &rows, &n), 0);
        ASSERT_TRUE(n > 0);
        seq = rows[n - 1].seq;
        dispatch_rows_free(rows, n);
        return seq;
}

/* message-pipeline §19 item 1 */
static void test_order(void **state) {
        _fixture_ Fixture f = fixture_new();
        DispatchThread t = {};

        ASSERT_EQ(dispatch_store_next(f.db, &t), 0);
        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_OTHER), 0);
        ASSERT_EQ(add(&f, "b1", "b", DISPATCH_OTHER), 0);
        assert_next(&f, "a", DISPATCH_OTHER);

        /* Of the same urgency: coalesces without another place. */
        ASSERT_EQ(add(&f, "a2", "a", DISPATCH_OTHER), 0);
        ASSERT_EQ(add(&f, "b2", "b", DISPATCH_SYSTEM), 0);
        assert_next(&f, "a", DISPATCH_OTHER);

        /* Of a higher one: takes the thread with it, whose messages keep their order. */
        ASSERT_EQ(add(&f, "b3", "b", DISPATCH_ADDRESSED), 0);
        ASSERT_EQ(add(&f, "a3", "a", DISPATCH_ADDRESSED), 0);
        assert_next(&f, "b", DISPATCH_ADDRESSED);
        assert_batch(&f, "b", 100, "b1 b2 b3");
        assert_batch(&f, "a", 2, "a1 a2");
}

/* Items 2 and 3: each once, what arrives meanwhile is a second batch. */
static void test_claim(void **state) {
        _fixture_ Fixture f = fixture_new();
        int64_t seq;

        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_ADDRESSED), 0);
        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_ADDRESSED), -EEXIST);
        ASSERT_EQ(add(&f, "a2", "a", DISPATCH_ADDRESSED), 0);
        seq = last_seq(&f, "a");
        ASSERT_EQ(add(&f, "a3", "a", DISPATCH_ADDRESSED), 0);
        ASSERT_EQ(dispatch_store_claim(f.db, "a", "dm/bo", seq, "turn", 3000), 2);
        ASSERT_EQ(add(&f, "a2", "a", DISPATCH_ADDRESSED), -EEXIST);
        assert_batch(&f, "a", 100, "a3");
        assert_next(&f, "a", DISPATCH_ADDRESSED);

        ASSERT_EQ(dispatch_store_settle(f.db, "turn", DISPATCH_DONE, 4000), 2);
        ASSERT_EQ(dispatch_store_settle(f.db, "turn", DISPATCH_QUEUED, 4000), 0);
        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_ADDRESSED), -EEXIST);
        ASSERT_EQ(count(&f), 1);
}

/* Somebody else's message that calls itself part of the thread is no part of it. */
static void test_conversations(void **state) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_(dispatch_thread_done) DispatchThread t = {};

        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_OTHER), 0);
        ASSERT_EQ(dispatch_store_add(f.db, &(DispatchEntry) {
                .envelope_id = "a2", .root_id = "a", .conversation = "dm/mallory", .priority = DISPATCH_ADDRESSED,
                .sent_at = 1000, .now = 2000,
        }), 0);
        assert_batch(&f, "a", 100, "a1");
        ASSERT_EQ(dispatch_store_next(f.db, &t), 1);
        ASSERT_STREQ(t.conversation, "dm/mallory");
        ASSERT_EQ(dispatch_store_claim(f.db, "a", "dm/mallory", INT64_MAX, "turn", 3000), 1);
        assert_batch(&f, "a", 100, "a1");
        assert_next(&f, "a", DISPATCH_OTHER);
}

static void test_put_back(void **state) {
        _fixture_ Fixture f = fixture_new();

        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_ADDRESSED), 0);
        ASSERT_EQ(dispatch_store_claim(f.db, "a", "dm/bo", last_seq(&f, "a"), "turn", 3000), 1);
        ASSERT_EQ(dispatch_store_settle(f.db, "turn", DISPATCH_QUEUED, 4000), 1);
        assert_batch(&f, "a", 100, "a1");
        ASSERT_EQ(dispatch_store_settle(f.db, "turn", DISPATCH_DONE, 4000), 0);
}

/* Item 17: what a crash left running without its turn comes again; with its turn, the turn comes again. */
static void test_load(void **state) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_EQ(add(&f, "a1", "a", DISPATCH_ADDRESSED), 0);
        ASSERT_EQ(add(&f, "b1", "b", DISPATCH_ADDRESSED), 0);
        ASSERT_EQ(turn_store_submit(f.db, &(TurnSubmission) { .id = "there", .text = "x", .store = true,
                                                              .document = "{}", .now_usec = 1 }, &row), 0);
        ASSERT_EQ(dispatch_store_claim(f.db, "a", "dm/bo", last_seq(&f, "a"), "gone", 3000), 1);
        ASSERT_EQ(dispatch_store_claim(f.db, "b", "dm/bo", last_seq(&f, "b"), "there", 3000), 1);
        ASSERT_EQ(dispatch_store_load(f.db, 10000, 5000), 0);
        assert_batch(&f, "a", 100, "a1");
        assert_batch(&f, "b", 100, "");

        /* What waited for too long is given up. */
        ASSERT_EQ(dispatch_store_load(f.db, 10000, 12001), 1);
        assert_batch(&f, "a", 100, "");
        ASSERT_EQ(dispatch_store_sweep(f.db, 12001), 0);
        ASSERT_EQ(dispatch_store_sweep(f.db, 12002), 1);
}

static int add_lazily(Fixture *f, const char *id) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = database_begin_lazy(f->db, &t);

        if (r >= 0)
                r = add(f, id, id, DISPATCH_OTHER);
        return r < 0 ? r : database_commit(&t);
}

/* Another connection sees what is committed. */
static int count_from_outside(Fixture *f) {
        sqlite3 *other;
        sqlite3_stmt *s;
        int n;

        ASSERT_EQ(sqlite3_open_v2(f->path, &other, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_prepare_v2(other, "SELECT COUNT(*) FROM dispatch_state", -1, &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = sqlite3_column_int(s, 0);
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        ASSERT_EQ(sqlite3_close(other), SQLITE_OK);
        return n;
}

static void test_lazy(void **state) {
        _fixture_ Fixture f = fixture_new();

        ASSERT_EQ(add_lazily(&f, "a"), 0);
        ASSERT_EQ(add_lazily(&f, "b"), 0);
        /* One that fails undoes itself only. */
        ASSERT_EQ(add_lazily(&f, "a"), -EEXIST);
        ASSERT_EQ(count(&f), 2);
        ASSERT_EQ(count_from_outside(&f), 0);
        ASSERT_EQ(database_flush(f.db), 0);
        ASSERT_EQ(count_from_outside(&f), 2);
        ASSERT_EQ(database_flush(f.db), 0);

        /* Any other writer flushes, be it one statement … */
        ASSERT_EQ(add_lazily(&f, "c"), 0);
        ASSERT_EQ(add(&f, "d", "d", DISPATCH_OTHER), 0);
        ASSERT_EQ(count_from_outside(&f), 4);
        /* … or a transaction, which may have others inside. */
        ASSERT_EQ(add_lazily(&f, "e"), 0);
        {
                _cleanup_(transaction_rollbackp) Transaction t = {};

                ASSERT_EQ(database_begin(f.db, &t), 0);
                ASSERT_EQ(count_from_outside(&f), 5);
                ASSERT_EQ(add_lazily(&f, "f"), 0);
                ASSERT_EQ(add_lazily(&f, "f"), -EEXIST);
                ASSERT_EQ(count(&f), 6);
        }
        ASSERT_EQ(count(&f), 5);
        /* Closing loses nothing. */
        ASSERT_EQ(add_lazily(&f, "g"), 0);
        f.db = database_free(f.db);
        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        ASSERT_EQ(count(&f), 6);
}

/* SQLite rolls everything back by itself when the disk is full. */
static void test_lazy_full(void **state) {
        _fixture_ Fixture f = fixture_new();
        char id[2048];
        int r = 0;

        ASSERT_EQ(add_lazily(&f, "first"), 0);
        ASSERT_EQ(database_flush(f.db), 0);
        ASSERT_OK(database_exec(f.db, "PRAGMA max_page_count=60"));
        memset(id, 'x', sizeof(id) - 1);
        id[sizeof(id) - 1] = '\0';
        for (unsigned i = 0; i < 500 && r >= 0; i++) {
                id[0] = (char) ('A' + i % 26);
                id[1] = (char) ('A' + i / 26);
                r = add_lazily(&f, id);
        }
        ASSERT_EQ(r, -ENOSPC);
        r = database_flush(f.db);
        ASSERT_TRUE(r == 0 || r == -EIO);
        ASSERT_OK(database_exec(f.db, "PRAGMA max_page_count=100000"));
        ASSERT_EQ(add_lazily(&f, "second"), 0);
        ASSERT_EQ(database_flush(f.db), 0);
        ASSERT_TRUE(count_from_outside(&f) >= 2);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_claim),
                cmocka_unit_test(test_conversations),
                cmocka_unit_test(test_put_back),
                cmocka_unit_test(test_load),
                cmocka_unit_test(test_lazy),
                cmocka_unit_test(test_lazy_full),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
