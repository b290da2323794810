/* SPDX-License-Identifier: MIT */

#include "database-fixture.h"
#include "usage-store.h"

static const TurnUsage some = { .input_tokens = 10, .cached_tokens = 4, .cache_write_tokens = 3, .output_tokens = 2,
                                .reasoning_tokens = 1, .cost_micro = 500 };

TEST(sums_by_the_hour) {
        _fixture_ Fixture f = fixture_new();
        TurnUsage u;

        ASSERT_OK(usage_store_sum(f.db, 0, &u));
        ASSERT_EQ(u.input_tokens + u.output_tokens + u.cost_micro, 0);

        ASSERT_OK(usage_store_add(f.db, 100, "a", 1, &some));
        ASSERT_OK(usage_store_add(f.db, 101, "a", 1, &some));
        ASSERT_OK(usage_store_add(f.db, 101, "a", 1, &some));
        ASSERT_OK(usage_store_add(f.db, 101, "b", 0, &(TurnUsage) { .cost_micro = 7 }));
        ASSERT_OK(usage_store_sum(f.db, 101, &u));
        ASSERT_EQ(u.input_tokens, 20);
        ASSERT_EQ(u.cached_tokens, 8);
        ASSERT_EQ(u.cache_write_tokens, 6);
        ASSERT_EQ(u.output_tokens, 4);
        ASSERT_EQ(u.reasoning_tokens, 2);
        ASSERT_EQ(u.cost_micro, 1007);
        ASSERT_OK(usage_store_sum(f.db, 100, &u));
        ASSERT_EQ(u.input_tokens, 30);

        ASSERT_OK(usage_store_delete(f.db, 101));
        ASSERT_OK(usage_store_sum(f.db, 0, &u));
        ASSERT_EQ(u.input_tokens, 20);
}

TEST(is_there_after_a_restart) {
        _fixture_ Fixture f = fixture_new();
        TurnUsage u;

        ASSERT_OK(usage_store_add(f.db, 100, "", 1, &some));
        f.db = database_free(f.db);
        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        ASSERT_OK(usage_store_sum(f.db, 100, &u));
        ASSERT_EQ(u.input_tokens, 10);
}

TEST(absurd_counts) {
        _fixture_ Fixture f = fixture_new();
        TurnUsage u;

        ASSERT_ERROR(usage_store_add(f.db, 1, "a", 1, &(TurnUsage) { .input_tokens = INT64_MAX }), ERANGE);
        ASSERT_ERROR(usage_store_add(f.db, 1, "a", 1, &(TurnUsage) { .output_tokens = UINT64_MAX }), ERANGE);
        ASSERT_OK(database_exec(f.db, "INSERT INTO model_usage VALUES (1, 'x', 1, 9223372036854775807, -5, 0, 0, 0, 0)"));
        ASSERT_OK(database_exec(f.db, "INSERT INTO model_usage VALUES (1, 'y', 1, 9223372036854775807, -5, 0, 0, 0, 0)"));
        ASSERT_OK(usage_store_sum(f.db, 0, &u));
        ASSERT_TRUE(u.input_tokens > INT32_MAX);
        ASSERT_EQ(u.cached_tokens, 0);
}

TEST(taken_over_from_the_version_before) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_(turn_row_freep) TurnRow *t = NULL, *again = NULL;

        ASSERT_OK(turn_store_submit(f.db, &(TurnSubmission) {
                .id = "t1", .text = "x", .document = "{}", .store = true, .now_usec = 1,
        }, &t));
        ASSERT_OK(database_exec(f.db, "DROP TABLE model_usage; DROP TABLE harness_runs; DROP TABLE harness_requests"));
        ASSERT_OK(database_exec(f.db, "ALTER TABLE session_turns DROP COLUMN cost_micro"));
        ASSERT_OK(database_exec(f.db, "ALTER TABLE session_turns DROP COLUMN files"));
        ASSERT_OK(database_exec(f.db, "ALTER TABLE conversation_messages DROP COLUMN files"));
        ASSERT_OK(database_exec(f.db, "PRAGMA user_version=4"));
        f.db = database_free(f.db);
        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);

        ASSERT_OK(usage_store_add(f.db, 100, "a", 1, &some));
        ASSERT_EQ(turn_store_finish(f.db, t->seq, &(TurnResult) {
                .status = TURN_COMPLETED, .usage = some, .now_usec = 2,
        }), 0);
        ASSERT_EQ(turn_store_get(f.db, "t1", &again), 1);
        ASSERT_EQ(again->usage.cost_micro, 500);
        ASSERT_EQ(again->usage.reasoning_tokens, 1);
        ASSERT_EQ(again->ended_usec, 2);
        ASSERT_STREQ(again->text, "x");
}

#define TEST_SUITE "usage-store"
TEST_MAIN();
