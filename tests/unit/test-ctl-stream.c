/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "ctl-stream"

#include "ctl-stream.h"
#include "tests.h"

typedef struct Screen {
        StrBuf text;
        TurnView view;
} Screen;

static void show(const char *text, void *userdata) {
        ASSERT_OK(strbuf_puts(userdata, text));
}

static void start_over(void *userdata) {
        ASSERT_OK(strbuf_puts(userdata, "<anew>"));
}

static void screen_init(Screen *s) {
        *s = (Screen) {};
        s->view = (TurnView) { .show = show, .start_over = start_over, .userdata = &s->text };
}

static void screen_done(Screen *s) {
        turn_view_done(&s->view);
        strbuf_done(&s->text);
}

static int feed(Screen *s, const char *data) {
        return turn_view_feed(&s->view, data, strlen(data));
}

#define HEAD "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}\n{\"seq\":1,\"type\":\"started\"}\n"
#define MESSAGE(item) "{\"type\":\"message_started\",\"item\":\"" item "\"}\n"
#define DELTA(text) "{\"type\":\"delta\",\"item\":\"m\",\"text\":\"" text "\"}\n"
#define DONE(text) "{\"type\":\"message_done\",\"item\":\"m\",\"text\":\"" text "\",\"status\":\"completed\"}\n"
#define RESTARTED "{\"type\":\"restarted\"}\n"
#define COMPLETED "{\"type\":\"completed\",\"usage\":{\"output_tokens\":3}}\n"

TEST(deltas_in_any_pieces) {
        static const char stream[] = HEAD MESSAGE("m") DELTA("h\\u00e9") DELTA("llo") DONE("h\\u00e9llo") COMPLETED;

        for (size_t step = 1; step < sizeof(stream); step++) {
                _cleanup_(screen_done) Screen s;
                int r = 0;

                screen_init(&s);
                for (size_t i = 0; i < sizeof(stream) - 1; i += step) {
                        ASSERT_EQ(r, 0);
                        r = turn_view_feed(&s.view, stream + i, MIN(step, sizeof(stream) - 1 - i));
                }
                ASSERT_EQ(r, 1);
                ASSERT_EQ(s.view.outcome, TURN_COMPLETED);
                ASSERT_STREQ(s.text.text, "héllo");
        }
}

TEST(what_was_no_delta_is_shown_at_the_end) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, MESSAGE("m") DELTA("one ") DONE("one two") MESSAGE("n") DONE("three") COMPLETED), 1);
        ASSERT_STREQ(s.text.text, "one two\n\nthree");
}

TEST(same_answer_again_is_not_shown_twice) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, HEAD MESSAGE("m") DELTA("one two") "{\"type\":\"del"), 0);
        turn_view_begin(&s.view);
        ASSERT_EQ(feed(&s,
                       HEAD RESTARTED MESSAGE("m") DELTA("one") DELTA(" two three") DONE("one two three") COMPLETED),
                  1);
        ASSERT_STREQ(s.text.text, "one two three");
}

static void show_tool(const char *name, void *userdata) {
        ASSERT_OK(strbuf_printf(userdata, "<%s>", name));
}

/* Each use once, whatever became of the stream in between, and none of it is part of the answer. */
TEST(tools_are_told_once) {
#define TOOL(call, name) "{\"type\":\"tool_started\",\"call\":\"" call "\",\"name\":\"" name "\"}\n"
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, TOOL("0/0", "quiet")), 0);   /* nobody wants to know */
        ASSERT_EQ(s.text.size, 0);
        s.view.show_tool = show_tool;
        turn_view_begin(&s.view);
        ASSERT_EQ(feed(&s, HEAD MESSAGE("m") DELTA("one") DONE("one") TOOL("0/0", "look")
                           "{\"type\":\"tool_ended\",\"call\":\"0/0\",\"name\":\"look\"}\n"
                           "{\"type\":\"tool_started\"}\n"), 0);
        turn_view_begin(&s.view);
        ASSERT_EQ(feed(&s, HEAD RESTARTED MESSAGE("m") DELTA("one") DONE("one") TOOL("0/0", "look")
                           TOOL("0/1", "look") MESSAGE("n") DELTA("two") DONE("two") COMPLETED), 1);
        ASSERT_STREQ(s.text.text, "one<look><look>\n\ntwo");
        ASSERT_STREQ(s.view.shown.text, "one\n\ntwo");
}

TEST(another_answer_starts_over) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s,
                       HEAD MESSAGE("m") DELTA("one two") RESTARTED MESSAGE("m") DELTA("one t") DELTA("en") COMPLETED),
                  1);
        ASSERT_STREQ(s.text.text, "one two<anew>one ten");
        ASSERT_STREQ(s.view.shown.text, "one ten");
}

TEST(shorter_answer_starts_over) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, MESSAGE("m") DELTA("one two") RESTARTED MESSAGE("m") DELTA("one") COMPLETED), 1);
        ASSERT_STREQ(s.text.text, "one two<anew>one");
}

TEST(characters_are_not_torn) {
        _cleanup_(screen_done) Screen s;

        /* Both begin with the byte 0xc3. */
        screen_init(&s);
        ASSERT_EQ(feed(&s, MESSAGE("m") DELTA("aé") RESTARTED MESSAGE("m") DELTA("aè") COMPLETED), 1);
        ASSERT_STREQ(s.text.text, "aé<anew>aè");
}

TEST(characters_are_not_torn_between_deltas) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, MESSAGE("m") DELTA("x") DELTA("é") RESTARTED MESSAGE("m") DELTA("x") DELTA("è") COMPLETED),
                  1);
        ASSERT_STREQ(s.text.text, "xé<anew>xè");
}

TEST(failures) {
        _cleanup_(screen_done) Screen s, t;

        screen_init(&s);
        ASSERT_EQ(feed(&s, HEAD "{\"type\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"no "
                                "luck\"},\"usage\":{}}\n"),
                  1);
        ASSERT_EQ(s.view.outcome, TURN_FAILED);
        ASSERT_STREQ(turn_view_reason(&s.view), "no luck");

        screen_init(&t);
        ASSERT_EQ(feed(&t, HEAD MESSAGE("m") DELTA("ha") "{\"type\":\"incomplete\",\"reason\":\"interrupted\"}\n"), 1);
        ASSERT_EQ(t.view.outcome, TURN_INCOMPLETE);
        ASSERT_STREQ(turn_view_reason(&t.view), "interrupted");
}

TEST(nonsense) {
        static const char *const streams[] = {"hello\n", "[]\n", "{\"seq\":1}\n", "{\"type\":7}\n",
                                              "{\"type\":\"delta\"\n"};

        for (size_t i = 0; i < ELEMENTSOF(streams); i++) {
                _cleanup_(screen_done) Screen s;

                screen_init(&s);
                ASSERT_ERROR(feed(&s, streams[i]), EBADMSG);
        }
}

TEST(unknown_events_and_hostile_text) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, "{\"type\":\"later\"}\n\n" MESSAGE("m")
                                           DELTA("a\\u0000b") "{\"type\":\"delta\",\"text\":5}\n" COMPLETED),
                  1);
        ASSERT_STREQ(s.text.text, "a?b");
}

TEST(nothing_counts_after_the_end) {
        _cleanup_(screen_done) Screen s;

        screen_init(&s);
        ASSERT_EQ(feed(&s, COMPLETED DELTA("more")), 1);
        ASSERT_EQ(feed(&s, DELTA("more")), 1);
        ASSERT_EQ(s.text.size, 0);
}

TEST_MAIN();
