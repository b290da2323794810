/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "invites-space"

/* The channel of a space that was joined. */

#include "invites-world.h"

#define CHANNELS "GET /spaces/sp_1/channels"

TEST(the_default_channel_is_waited_for) {
        WORLD(w);

        join_space(&w);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "<html>");
        ASSERT_EQ(fake.last_delay_usec, USEC_PER_SEC);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "[]");
        ASSERT_EQ(fake.last_delay_usec, 3 * USEC_PER_SEC);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "{\"channels\":[{\"channel_id\":\"ch_5\",\"name\":\"ops\"},7,{\"channel_id\":\"\"},"
               "{\"channel_id\":\"ch_6\",\"name\":\"General\",\"is_public\":true},"
               "{\"channel_id\":\"ch_7\",\"name\":\"More\",\"is_public\":true}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_6");
        assert_space_of(&w, "ch_5", "sp_1");
        assert_space_of(&w, "ch_7", "sp_1");
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_5"), "ops");
}

TEST(a_space_whose_channels_are_never_shown) {
        static const unsigned delays[] = { 1000, 3000, 6000, 12000, 24000, 24000 };
        WORLD(w);

        join_space(&w);
        for (size_t i = 0; i < 7; i++) {
                await(&w, CHANNELS);
                answer(&w, CHANNELS, 200, "<html>");
                if (i < ELEMENTSOF(delays))
                        ASSERT_EQ(fake.last_delay_usec, delays[i] * USEC_PER_MSEC);
        }
        ASSERT_FALSE(fake_pass(w.event));
        ASSERT_EQ(fake_count(CHANNELS), 7);
        ASSERT_EQ(w.n_joined, 0);
}

TEST(a_space_without_a_public_channel_and_errors_end_the_search) {
        static const struct { long status; const char *body; } t[] = {
                { 200, "{\"channels\":[{\"channel_id\":\"ch_5\"}]}" }, { 200, "{}" }, { 200, "{\"channels\":7}" },
                { 403, NULL }, { 500, NULL }, { 0, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w);

                join_space(&w);
                await(&w, CHANNELS);
                answer(&w, CHANNELS, t[i].status, t[i].body);
                ASSERT_FALSE(fake_pass(w.event));
                ASSERT_EQ(fake_count(CHANNELS), 1);
                ASSERT_EQ(w.n_joined, 0);
        }
}

static int64_t count_wanted(World *w) {
        sqlite3_stmt *s;
        int64_t n;

        ASSERT_EQ(sqlite3_prepare_v2(database_handle(w->db), "SELECT COUNT(*) FROM session_values", -1, &s, NULL),
                  SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = sqlite3_column_int64(s, 0);
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        return n;
}

/* The invitation is done with, so that nothing but this remembers that there is a channel to look for. */
TEST(the_search_for_the_default_channel_survives_a_crash) {
        WORLD(w);

        join_space(&w);
        await(&w, CHANNELS);
        invites_free(w.invites);
        ASSERT_EQ(w.n_joined, 0);

        make_invites(&w, OPERATOR);
        run(&w);
        ASSERT_NULL(fake_waiting(CHANNELS));
        invites_set_connected(w.invites, true);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "<html>");
        /* A connection that comes and goes begins no second one. */
        invites_set_connected(w.invites, false);
        invites_set_connected(w.invites, true);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "{\"channels\":[{\"channel_id\":\"ch_6\",\"is_public\":true}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_6");
        ASSERT_EQ(count_wanted(&w), 0);

        invites_free(w.invites);
        make_invites(&w, OPERATOR);
        invites_set_connected(w.invites, true);
        run(&w);
        ASSERT_EQ(fake_count(CHANNELS), 3);
}

/* Nor does what becomes of an invitation get lost between the row that says so and the introduction. */
TEST(a_channel_that_was_joined_survives_a_crash) {
        WORLD(w);

        poll(&w, INVITE("ev_1", OPERATOR));
        w.fails_to_join = true;
        answer(&w, ANSWER, 200, "{}");
        assert_row(&w, "ev_1", INVITE_DONE);
        ASSERT_EQ(count_wanted(&w), 1);
        invites_free(w.invites);

        w.fails_to_join = false;
        w.n_joined = 0;
        make_invites(&w, OPERATOR);
        invites_set_connected(w.invites, true);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "{\"channels\":[{\"channel_id\":\"ch_0\",\"is_public\":true},"
                                  "{\"channel_id\":\"ch_1\"}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_1");
        ASSERT_EQ(count_wanted(&w), 0);
}

TEST(searches_that_end_without_a_channel_are_forgotten) {
        static const struct { long status; const char *body; } t[] = { { 200, "{}" }, { 403, NULL } };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w);

                join_space(&w);
                await(&w, CHANNELS);
                ASSERT_EQ(count_wanted(&w), 1);
                answer(&w, CHANNELS, t[i].status, t[i].body);
                ASSERT_EQ(count_wanted(&w), 0);
        }
}

TEST_MAIN();
