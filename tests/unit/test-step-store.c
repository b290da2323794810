/* SPDX-License-Identifier: MIT */

#include "conversation.h"
#include "database-fixture.h"
#include "step-store.h"
#include "turn-store.h"

static int64_t submit(Fixture *f, const char *id) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_OK(turn_store_submit(f->db, &(TurnSubmission) {
                .id = id, .text = "x", .conversation = "", .store = true, .now_usec = 1000,
        }, &row));
        return row->seq;
}

static StoredCall first[] = {
        { .call = (char*) "c1", .name = (char*) "send_message", .arguments = (char*) "{\"text\":\"ü\"}" },
        { .call = (char*) "c2", .name = (char*) "b", .arguments = (char*) "" },
};
static const StoredStep steps[] = {
        { .text = (char*) "One\nmoment.", .item = (char*) "i_1_0", .opaque = (char*) "{\"x\":\"a\\nb\"}",
          .calls = first, .n_calls = 2 },
        { .text = NULL, .item = NULL, .opaque = NULL, .calls = first + 1, .n_calls = 1 },
};

static const StoredStep message = { .text = (char*) "Words.", .item = (char*) "i_1_2", .opaque = (char*) "msg_1" };

static size_t count(Fixture *f, const char *table) {
        _cleanup_free_ char *sql = strjoin("SELECT count(*) FROM ", table);
        sqlite3_stmt *s;
        size_t n;

        ASSERT_EQ(sqlite3_prepare_v2(database_handle(f->db), sql, -1, &s, NULL), SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = (size_t) sqlite3_column_int64(s, 0);
        (void) sqlite3_finalize(s);
        return n;
}

TEST(come_back) {
        _fixture_ Fixture f = fixture_new();
        int64_t turn = submit(&f, "t1"), other = submit(&f, "t2");
        StoredStep *list;
        size_t n;

        ASSERT_OK(step_store_list(f.db, turn, &list, &n));
        ASSERT_EQ(n, 0);
        stored_steps_free(list, n);
        ASSERT_OK(step_store_add(f.db, other, 0, steps + 1));
        ASSERT_OK(step_store_add(f.db, turn, 0, steps));
        ASSERT_OK(step_store_finish_call(f.db, turn, 0, 1, "no\nsuch", true));
        ASSERT_OK(step_store_finish_call(f.db, turn, 0, 0, "sent", false));
        ASSERT_OK(step_store_add(f.db, turn, 1, steps + 1));
        ASSERT_EQ(step_store_finish_call(f.db, turn, 1, 1, "x", false), -ESTALE);
        ASSERT_EQ(step_store_finish_call(f.db, turn, 2, 0, "x", false), -ESTALE);

        fixture_reopen(&f);
        ASSERT_OK(step_store_list(f.db, turn, &list, &n));
        ASSERT_EQ(n, 2);
        ASSERT_STREQ(list[0].text, steps[0].text);
        ASSERT_STREQ(list[0].item, "i_1_0");
        ASSERT_STREQ(list[0].opaque, steps[0].opaque);
        ASSERT_EQ(list[0].n_calls, 2);
        ASSERT_STREQ(list[0].calls[0].call, "c1");
        ASSERT_STREQ(list[0].calls[0].name, "send_message");
        ASSERT_STREQ(list[0].calls[0].arguments, first[0].arguments);
        ASSERT_STREQ(list[0].calls[0].result, "sent");
        ASSERT_TRUE(list[0].calls[0].done && !list[0].calls[0].is_error);
        ASSERT_STREQ(list[0].calls[1].result, "no\nsuch");
        ASSERT_TRUE(list[0].calls[1].done && list[0].calls[1].is_error);
        ASSERT_STREQ(list[1].text, "");
        ASSERT_STREQ(list[1].item, "");
        ASSERT_STREQ(list[1].opaque, "");
        ASSERT_FALSE(list[1].calls[0].done);
        ASSERT_STREQ(list[1].calls[0].result, "");
        stored_steps_free(list, n);
}

/* All of a step is there, or nothing. */
TEST(whole_steps) {
        _fixture_ Fixture f = fixture_new();
        int64_t turn = submit(&f, "t1");
        StoredCall bad[] = { first[0], { .call = NULL, .name = (char*) "n", .arguments = (char*) "" } };

        ASSERT_TRUE(step_store_add(f.db, turn, 0, &(StoredStep) { .calls = bad, .n_calls = 2 }) < 0);
        ASSERT_EQ(count(&f, "turn_steps") + count(&f, "turn_tool_calls"), 0);
        ASSERT_OK(step_store_add(f.db, turn, 0, steps));
        ASSERT_TRUE(step_store_add(f.db, turn, 0, steps) < 0);
        ASSERT_EQ(count(&f, "turn_tool_calls"), 2);
}

TEST(go_with_the_turn) {
        _fixture_ Fixture f = fixture_new();
        int64_t turns[] = { submit(&f, "t1"), submit(&f, "t2"), submit(&f, "t3") };

        for (size_t i = 0; i < ELEMENTSOF(turns); i++) {
                ASSERT_OK(step_store_add(f.db, turns[i], 0, steps));
                ASSERT_OK(step_store_add(f.db, turns[i], 1, steps + 1));
        }
        ASSERT_EQ(turn_store_delete(f.db, "t2"), 1);
        ASSERT_EQ(count(&f, "turn_steps"), 4);
        ASSERT_EQ(count(&f, "turn_tool_calls"), 6);

        ASSERT_OK(turn_store_start(f.db, turns[0], 2000));
        ASSERT_OK(turn_store_finish(f.db, turns[0], &(TurnResult) { .status = TURN_COMPLETED, .now_usec = 3000 }));
        ASSERT_EQ(count(&f, "turn_steps"), 4);
        ASSERT_TRUE(retention_sweep(f.db, &(Retention) { .turns_usec = 10, .unstored_usec = 10, .turns_max = 10 },
                                    10000) > 0);
        ASSERT_EQ(count(&f, "turn_steps"), 2);
        ASSERT_EQ(count(&f, "turn_tool_calls"), 3);
        ASSERT_OK(step_store_delete(f.db, turns[2]));
        ASSERT_EQ(count(&f, "turn_steps") + count(&f, "turn_tool_calls"), 0);
}

/* What a CLI says in between is a step as well, and no calls of it are missing. */
TEST(messages_without_calls) {
        _fixture_ Fixture f = fixture_new();
        int64_t turn = submit(&f, "t1");
        StoredStep *list;
        size_t n;

        ASSERT_OK(step_store_add(f.db, turn, 0, &message));
        ASSERT_OK(step_store_add(f.db, turn, 1, steps));
        ASSERT_OK(step_store_add(f.db, turn, 2, &(StoredStep) {}));
        fixture_reopen(&f);
        ASSERT_OK(step_store_list(f.db, turn, &list, &n));
        ASSERT_EQ(n, 3);
        ASSERT_STREQ(list[0].text, "Words.");
        ASSERT_STREQ(list[0].item, "i_1_2");
        ASSERT_STREQ(list[0].opaque, "msg_1");
        ASSERT_EQ(list[0].n_calls, 0);
        ASSERT_STREQ(list[1].item, "i_1_0");
        ASSERT_EQ(list[1].n_calls, 2);
        ASSERT_STREQ(list[2].item, "");
        ASSERT_STREQ(list[2].opaque, "");
        ASSERT_EQ(list[2].n_calls, 0);
        stored_steps_free(list, n);
}

TEST(gaps_are_damage) {
        static const char *const damage[] = {
                "DELETE FROM turn_steps WHERE step = 0", "DELETE FROM turn_tool_calls WHERE step = 0 AND position = 0",
                "DELETE FROM turn_tool_calls WHERE step = 1", "UPDATE turn_steps SET opaque = 'x' WHERE step = 0",
                "UPDATE turn_tool_calls SET step = 7 WHERE step = 1",
                "UPDATE turn_tool_calls SET step = 2 WHERE step = 1",
        };

        for (size_t i = 0; i < ELEMENTSOF(damage); i++) {
                _fixture_ Fixture f = fixture_new();
                int64_t turn = submit(&f, "t1");
                StoredStep *list;
                size_t n;

                ASSERT_OK(step_store_add(f.db, turn, 0, steps));
                ASSERT_OK(step_store_add(f.db, turn, 1, steps + 1));
                ASSERT_OK(step_store_add(f.db, turn, 2, &message));
                ASSERT_OK(database_exec(f.db, damage[i]));
                ASSERT_EQ(step_store_list(f.db, turn, &list, &n), -EUCLEAN);
        }
}

#define TEST_SUITE "step-store"
TEST_MAIN();
