/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "approval-store"

#include <stdio.h>

#include "approval-store.h"
#include "file-util.h"
#include "outbox-store.h"
#include "string-util.h"
#include "tests.h"

#define NOW ((int64_t) 1700000000000)

typedef struct World {
        char path[64];
        char *file;
        Database *db;
} World;

static void world_begin(World *w) {
        *w = (World) { .path = "/tmp/test-approval-store-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        w->file = path_join(w->path, "messages.db");
        ASSERT_OK(database_open(&w->db, w->file, NULL));
}

static void world_end(World *w) {
        database_free(w->db);
        free(w->file);
        ASSERT_OK(directory_remove(w->path));
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void reopen(World *w) {
        w->db = database_free(w->db);
        ASSERT_OK(database_open(&w->db, w->file, NULL));
}

static int add(World *w, const char *id, const char *turn, const char *ask, int64_t created_at) {
        return approval_store_add(w->db, &(ApprovalRow) {
                .id = (char*) id, .turn = (char*) turn, .ask = (char*) ask, .tool = (char*) "Bash",
                .summary = (char*) "- **command**: `ls`", .input = (char*) "{\"command\":\"ls\"}",
                .input_hash = (char*) "abc", .input_size = 16, .created_at = created_at,
                .expires_at = created_at + 300,
        });
}

static int end(World *w, const char *id, ApprovalState state, int64_t now_ms) {
        return approval_store_end(w->db, id, &(ApprovalEnd) {
                .state = state, .by = "rob", .reason = "why not", .token = "t1", .now_ms = now_ms,
        });
}

/* The ids of rows in one string; frees them. */
static char* ids(ApprovalRow **rows, size_t n) {
        StrBuf b = {};

        for (size_t i = 0; i < n; i++)
                ASSERT_OK(strbuf_printf(&b, "%s%s", i > 0 ? " " : "", rows[i]->id));
        approval_rows_free(rows, n);
        return strbuf_take(&b);
}

TEST(keeps_everything_over_a_restart) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "ask-1", NOW));
        ASSERT_OK(approval_store_set_operator(w.db, "rob:1", "op-0001"));
        reopen(&w);
        ASSERT_EQ(approval_store_get(w.db, "rob:1", &row), 1);
        ASSERT_STREQ(row->turn, "turn-1");
        ASSERT_STREQ(row->ask, "ask-1");
        ASSERT_STREQ(row->tool, "Bash");
        ASSERT_STREQ(row->summary, "- **command**: `ls`");
        ASSERT_STREQ(row->input, "{\"command\":\"ls\"}");
        ASSERT_STREQ(row->input_hash, "abc");
        ASSERT_STREQ(row->operator, "op-0001");
        ASSERT_STREQ(row->answered_by, "");
        ASSERT_STREQ(row->reason, "");
        ASSERT_STREQ(row->token, "");
        ASSERT_EQ(row->input_size, 16);
        ASSERT_EQ(row->state, APPROVAL_PENDING);
        ASSERT_EQ(row->created_at, NOW);
        ASSERT_EQ(row->expires_at, NOW + 300);
        ASSERT_EQ(row->answered_at, 0);
        ASSERT_FALSE(row->told);
        ASSERT_EQ(approval_store_get(w.db, "rob:2", &row), 0);
}

TEST(an_ask_has_one_row) {
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "ask-1", NOW));
        ASSERT_ERROR(add(&w, "rob:2", "turn-1", "ask-1", NOW), EEXIST);
        ASSERT_ERROR(add(&w, "rob:1", "turn-1", "ask-2", NOW), EEXIST);
        ASSERT_OK(add(&w, "rob:2", "turn-1", "ask-2", NOW));
        ASSERT_OK(add(&w, "rob:3", "turn-2", "ask-1", NOW));
        for (unsigned i = 1; i <= 2; i++) {
                _cleanup_free_ char *turn = asprintf_new("turn-%u", i);
                _cleanup_(approval_row_freep) ApprovalRow *row = NULL;

                ASSERT_EQ(approval_store_find_ask(w.db, turn, "ask-1", &row), 1);
                ASSERT_STREQ(row->id, i == 1 ? "rob:1" : "rob:3");
        }
        ASSERT_EQ(approval_store_find_ask(w.db, "turn-2", "ask-2", &(ApprovalRow*) { NULL }), 0);
}

/* The first answer counts. */
TEST(a_row_ends_once) {
        static const ApprovalState ends[] = {
                APPROVAL_ALLOWED, APPROVAL_DENIED, APPROVAL_EXPIRED, APPROVAL_WITHDRAWN,
        };
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(ends); i++) {
                _cleanup_free_ char *id = asprintf_new("rob:%zu", i), *ask = asprintf_new("ask-%zu", i);
                _cleanup_(approval_row_freep) ApprovalRow *row = NULL;

                ASSERT_OK(add(&w, id, "turn-1", ask, NOW));
                ASSERT_EQ(end(&w, id, ends[i], NOW + 5), 1);
                for (size_t k = 0; k < ELEMENTSOF(ends); k++)
                        ASSERT_EQ(approval_store_end(w.db, id, &(ApprovalEnd) {
                                .state = ends[k], .by = "eve", .now_ms = NOW + 9,
                        }), 0);
                ASSERT_EQ(approval_store_get(w.db, id, &row), 1);
                ASSERT_EQ(row->state, ends[i]);
                ASSERT_STREQ(row->answered_by, "rob");
                ASSERT_STREQ(row->reason, "why not");
                ASSERT_STREQ(row->token, "t1");
                ASSERT_EQ(row->answered_at, NOW + 5);
        }
        ASSERT_EQ(end(&w, "rob:99", APPROVAL_ALLOWED, NOW), 0);
}

TEST(lists_what_is_open_and_what_was_not_told) {
        _cleanup_free_ char *pending = NULL, *untold = NULL, *all = NULL, *some = NULL;
        ApprovalRow **rows;
        size_t n;
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "a", NOW + 3));
        ASSERT_OK(add(&w, "rob:2", "turn-1", "b", NOW + 2));
        ASSERT_OK(add(&w, "rob:3", "turn-1", "c", NOW + 1));
        ASSERT_OK(add(&w, "rob:4", "turn-1", "d", NOW));
        ASSERT_OK(add(&w, "rob:5", "turn-2", "a", NOW + 4));
        ASSERT_EQ(end(&w, "rob:2", APPROVAL_DENIED, NOW + 5), 1);
        ASSERT_EQ(end(&w, "rob:3", APPROVAL_ALLOWED, NOW + 5), 1);
        ASSERT_OK(approval_store_set_told(w.db, "rob:3"));
        ASSERT_EQ(end(&w, "rob:4", APPROVAL_WITHDRAWN, NOW + 5), 1);

        ASSERT_OK(approval_store_list_pending(w.db, &rows, &n));
        pending = ids(rows, n);
        ASSERT_STREQ(pending, "rob:1 rob:5");
        ASSERT_OK(approval_store_list_untold(w.db, "turn-1", &rows, &n));
        untold = ids(rows, n);
        ASSERT_STREQ(untold, "rob:2 rob:1");
        ASSERT_OK(approval_store_list(w.db, 100, &rows, &n));
        all = ids(rows, n);
        ASSERT_STREQ(all, "rob:5 rob:1 rob:2 rob:3 rob:4");
        ASSERT_OK(approval_store_list(w.db, 2, &rows, &n));
        some = ids(rows, n);
        ASSERT_STREQ(some, "rob:5 rob:1");
}

TEST(finds_the_question) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        int64_t message;
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "a", NOW));
        ASSERT_OK(approval_store_set_operator(w.db, "rob:1", "op-0001"));
        ASSERT_EQ(outbox_store_add(w.db, &(OutboxRow) {
                .key = (char*) APPROVAL_KEY "rob:1", .recipient_slug = (char*) "op-0001",
                .content_type = (char*) "text/plain", .content = (char*) "\"?\"",
        }, NOW, &message), 0);
        ASSERT_EQ(approval_store_find_question(w.db, "msg_1", &row), 0);
        ASSERT_OK(outbox_store_sealed(w.db, message, "msg_1", "{}", 2, NOW));
        ASSERT_EQ(approval_store_find_question(w.db, "msg_2", &row), 0);
        ASSERT_EQ(approval_store_find_question(w.db, "msg_1", &row), 1);
        ASSERT_STREQ(row->id, "rob:1");
}

TEST(sweeps_what_is_over_for_long) {
        _cleanup_free_ char *left = NULL;
        ApprovalRow **rows;
        size_t n;
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "a", NOW));
        ASSERT_OK(add(&w, "rob:2", "turn-1", "b", NOW));
        ASSERT_OK(add(&w, "rob:3", "turn-1", "c", NOW));
        ASSERT_EQ(end(&w, "rob:1", APPROVAL_ALLOWED, NOW + 10), 1);
        ASSERT_EQ(end(&w, "rob:2", APPROVAL_EXPIRED, NOW + 20), 1);
        ASSERT_EQ(approval_store_sweep(w.db, NOW + 20), 1);
        ASSERT_OK(approval_store_list(w.db, 100, &rows, &n));
        left = ids(rows, n);
        ASSERT_STREQ(left, "rob:2 rob:3");
        ASSERT_EQ(approval_store_sweep(w.db, NOW + 1000000), 1);
}

TEST(a_copy_has_nothing_open) {
        _cleanup_(approval_row_freep) ApprovalRow *open = NULL, *done = NULL;
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "a", NOW));
        ASSERT_OK(add(&w, "rob:2", "turn-1", "b", NOW));
        ASSERT_EQ(end(&w, "rob:2", APPROVAL_ALLOWED, NOW + 10), 1);
        ASSERT_OK(approval_store_disown(database_handle(w.db)));
        ASSERT_EQ(approval_store_get(w.db, "rob:1", &open), 1);
        ASSERT_EQ(open->state, APPROVAL_WITHDRAWN);
        ASSERT_EQ(approval_store_get(w.db, "rob:2", &done), 1);
        ASSERT_EQ(done->state, APPROVAL_ALLOWED);
}

TEST(a_damaged_state_is_noticed) {
        WORLD(w);

        ASSERT_OK(add(&w, "rob:1", "turn-1", "a", NOW));
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET state = 'maybe'"));
        ASSERT_ERROR(approval_store_get(w.db, "rob:1", &(ApprovalRow*) { NULL }), EUCLEAN);
}

TEST(a_database_of_before_gets_the_table) {
        WORLD(w);

        ASSERT_OK(database_exec(w.db, "DROP TABLE approvals; DROP TABLE model_usage; DROP TABLE harness_runs; DROP TABLE harness_requests;"
                                " ALTER TABLE session_turns DROP COLUMN cost_micro;"
                                " ALTER TABLE session_turns DROP COLUMN files;"
                                " ALTER TABLE conversation_messages DROP COLUMN files; PRAGMA user_version = 3"));
        ASSERT_EQ(add(&w, "rob:1", "turn-1", "a", NOW) < 0, true);
        reopen(&w);
        ASSERT_OK(add(&w, "rob:1", "turn-1", "a", NOW));
}

TEST_MAIN();
