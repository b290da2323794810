/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "open-calls"

#include "open-calls.h"
#include "string-util.h"
#include "tests.h"

static void assert_taken(OpenCalls *c, const char *id, const char *name) {
        _cleanup_free_ char *taken = open_calls_take(c, id);

        ASSERT_STREQ(strempty(taken), name);
}

TEST(each_is_taken_once) {
        _cleanup_(open_calls_done) OpenCalls c = {};

        assert_taken(&c, "a", "");
        ASSERT_OK(open_calls_add(&c, "a", "Read"));
        ASSERT_OK(open_calls_add(&c, "b", ""));
        ASSERT_OK(open_calls_add(&c, "c", "Bash"));
        ASSERT_OK(open_calls_add(&c, "d", "Edit"));
        assert_taken(&c, "x", "");
        ASSERT_EQ(c.n, 4);
        assert_taken(&c, "a", "Read");
        assert_taken(&c, "a", "");
        assert_taken(&c, "d", "Edit");
        assert_taken(&c, "b", "");
        ASSERT_EQ(c.n, 1);
        assert_taken(&c, "c", "Bash");
        ASSERT_EQ(c.n, 0);
}

/* Of a program that is not to be trusted. */
TEST(an_id_that_comes_twice_is_two_calls) {
        _cleanup_(open_calls_done) OpenCalls c = {};

        ASSERT_OK(open_calls_add(&c, "a", "first"));
        ASSERT_OK(open_calls_add(&c, "a", "second"));
        assert_taken(&c, "a", "first");
        assert_taken(&c, "a", "second");
        assert_taken(&c, "a", "");
}

TEST(there_is_an_end_to_what_is_kept) {
        _cleanup_(open_calls_done) OpenCalls c = {};

        for (size_t i = 0; i < 5000; i++) {
                _cleanup_free_ char *id = asprintf_new("call-%zu", i);

                ASSERT_NOT_NULL(id);
                ASSERT_OK(open_calls_add(&c, id, "Read"));
        }
        ASSERT_EQ(c.n, 1024);
        assert_taken(&c, "call-1023", "Read");
        assert_taken(&c, "call-1024", "");
        ASSERT_OK(open_calls_add(&c, "late", "Bash"));
        ASSERT_OK(open_calls_add(&c, "later", "Bash"));
        assert_taken(&c, "late", "Bash");
        assert_taken(&c, "later", "");

        open_calls_done(&c);
        ASSERT_EQ(c.n, 0);
        ASSERT_OK(open_calls_add(&c, "a", "Read"));
        assert_taken(&c, "a", "Read");
}

TEST_MAIN();
