/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-hermes"

#include "harness-fixture.h"

#define STAGE_WITH(s, id) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = stage_setup(HARNESS_HERMES); \
        s##_setup.session_id = id; \
        stage_begin(&s, &s##_setup); \
        ASSERT_OK(harness_turn(s.harness, "hello"))

/* agent-runtime §13.2 */
TEST(what_is_no_part_of_the_answer) {
        static const struct { const char *output, *session, *answer; } t[] = {
                { "Hello.", "", "Hello." },
                { "\n  Hello.\n\nBye. \n\n", "", "Hello.\n\nBye." },
                { "session_id: abc\nHello.", "abc", "Hello." },
                { "Hello.\nsession_id: a\nsession_id:  20260101_b7  ", "20260101_b7", "Hello." },
                { "session_id: two words\nx", "", "session_id: two words\nx" },
                { "session_id:\nx", "", "session_id:\nx" },
                { " session_id: x\ny", "", "session_id: x\ny" },
                { "\xe2\x86\xbb Resumed session s1 (3 messages)\nHello.", "s1", "Hello." },
                { "\xe2\x86\xbb  Resumed session s1\n\xe2\x86\xbb Resumed session s2\nx", "s1", "x" },
                { "\xe2\x86\xbb Resumed session s1\nsession_id: s2\nx", "s2", "x" },
                { "session_id: s2\n\xe2\x86\xbb Resumed session s1\nx", "s2", "x" },
                { "\xe2\x86\xbb Resumed\nx", "", "\xe2\x86\xbb Resumed\nx" },
                { "\xe2\x9a\xa0\xef\xb8\x8f  Normalized model 'a' to 'b' for\nanthropic.\nHello.", "", "Hello." },
                { "\xe2\x9a\xa0\xef\xb8\x8f  Careful.\nx", "", "\xe2\x9a\xa0\xef\xb8\x8f  Careful.\nx" },
                { "open-router2.\nx", "", "x" },
                { "Done.\nok .\n.", "", "Done.\nok .\n." },
                { "a\r\nb\r", "", "a\r\nb" },
                { "bad \xff byte", "", "bad ? byte" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *expected = asprintf_new("%s\ndone\n", t[i].answer);

                STAGE_WITH(s, NULL);
                s.texts_only = true;
                stage_says(&s, t[i].output);
                ASSERT_STREQ(strempty(s.record.text), "");
                stage_exits(&s);
                ASSERT_RECORD(&s, expected);
                ASSERT_STREQ(s.session, t[i].session);
                ASSERT_TRUE(s.result.started && s.exited);
        }
}

TEST(without_a_last_newline) {
        STAGE_WITH(s, NULL);
        s.texts_only = true;
        stage_write(&s, s.output, "Hello.", 6);
        stage_complains(&s, "session_id: e1");
        stage_exits(&s);
        ASSERT_RECORD(&s, "Hello.\ndone\n");
        ASSERT_STREQ(s.session, "e1");
}

TEST(its_input_is_empty) {
        char buffer[8];

        STAGE_WITH(s, NULL);
        stage_listen(&s);
        ASSERT_EQ(s.written.size, 0);
        s.take[0] = safe_close(s.take[0]);
        ASSERT_EQ(read(s.input, buffer, sizeof(buffer)), 0);
        ASSERT_ERROR(harness_interrupt(s.harness), EOPNOTSUPP);
}

TEST(no_conversation_to_go_on_with) {
        static const char lost[] = "No previous CLI session found to continue.";

        {
                STAGE_WITH(s, "");
                stage_says(&s, lost);
                stage_exits(&s);
                ASSERT_RECORD(&s, "lost-session: No previous CLI session found to continue\n");
                ASSERT_FALSE(s.result.started);
                ASSERT_NULL(s.session);
        }
        {
                STAGE_WITH(s, "s1");
                stage_complains(&s, lost);
                stage_exits(&s);
                ASSERT_EQ(s.result.outcome, HARNESS_LOST_SESSION);
        }
        /* Said by a model, or where nothing was to be gone on with. */
        {
                STAGE_WITH(s, "s1");
                stage_says(&s, "\xe2\x86\xbb Resumed session s1");
                stage_says(&s, lost);
                stage_exits(&s);
                ASSERT_EQ(s.result.outcome, HARNESS_DONE);
        }
        {
                STAGE_WITH(s, NULL);
                stage_says(&s, lost);
                stage_exits(&s);
                ASSERT_EQ(s.result.outcome, HARNESS_DONE);
        }
}

TEST(no_answer) {
        {
                STAGE_WITH(s, NULL);
                stage_says(&s, "  ");
                stage_complains(&s, "Traceback (most recent call last):");
                stage_exits(&s);
                ASSERT_RECORD(&s, "warning Traceback (most recent call last):\n"
                                  "gone: Traceback (most recent call last):\n");
                ASSERT_FALSE(s.result.started);
        }
        {
                STAGE_WITH(s, NULL);
                stage_says(&s, "session_id: s1");
                stage_exits(&s);
                ASSERT_RECORD(&s, "gone\n");
                ASSERT_TRUE(s.result.started);
                ASSERT_NULL(s.session);
        }
}

TEST(taken_over) {
        STAGE_WITH(s, "s1");
        stage_says(&s, "Hello.");
        s.harness = harness_free(s.harness);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_name_turn(s.harness, "m1"));
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        stage_says(&s, "Bye.");
        stage_exits(&s);
        ASSERT_RECORD(&s, "begin m1\ntext Hello.\nBye.\nend m1: Hello.\nBye.\ndone\n");
}

/* Nobody has begun to read it. */
TEST(taken_over_without_its_input) {
        STAGE_WITH(s, NULL);
        s.harness = harness_free(s.harness);
        (void) close(s.take[0]);
        s.take[0] = -EBADF;
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        stage_says(&s, "Hello.");
        s.texts_only = true;
        stage_exits(&s);
        ASSERT_RECORD(&s, "Hello.\ndone\n");
}

TEST(an_answer_without_an_end) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE_WITH(s, NULL);
        s.texts_only = true;
        while (b.size < KIB(512))
                ASSERT_OK(strbuf_puts(&b, "All work and no play makes Jack a dull boy. "));
        for (unsigned i = 0; i < 40 && !s.ended; i++)
                stage_says(&s, b.text);
        ASSERT_RECORD(&s, "protocol\n");
        stage_exits(&s);
        ASSERT_TRUE(s.exited);
}

TEST(freed_by_a_handler) {
        STAGE_WITH(s, NULL);
        s.free_at_text = true;
        stage_says(&s, "Hello.");
        stage_exits(&s);
        ASSERT_NULL(s.harness);
        ASSERT_FALSE(s.ended);
}

TEST_MAIN();
