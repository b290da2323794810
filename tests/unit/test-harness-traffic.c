/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-traffic"

#include "file-util.h"
#include "harness-fixture.h"

/* What the real program said in many situations, in four of its versions (tests/vectors/claude-traffic.jsonl: long
 * lists and texts are shortened), is said again to the driver. */

static void expect_turns(json_object *turns, StrBuf *b) {
        for (size_t i = 0; i < json_object_array_length(turns); i++) {
                json_object *turn = json_object_array_get_idx(turns, i), *texts = json_get(turn, "texts");

                for (size_t j = 0; j < json_object_array_length(texts); j++)
                        ASSERT_OK(strbuf_printf(b, "%s\n",
                                                json_object_get_string(json_object_array_get_idx(texts, j))));
                ASSERT_OK(strbuf_printf(b, "%s\n", json_get_string(turn, "outcome")));
        }
}

static void check_usage(Stage *s, json_object *turns, size_t n) {
        json_object *turn = json_object_array_get_idx(turns, n);

        ASSERT_EQ((int64_t) s->result.usage.input_tokens, json_get_int(turn, "input", -1));
        ASSERT_EQ((int64_t) s->result.usage.output_tokens, json_get_int(turn, "output", -1));
        ASSERT_EQ((int64_t) s->result.n_denied, json_get_int(turn, "denied", -1));
}

static void answer(Stage *s, json_object *step) {
        json_object *with = json_get(step, "with"), *input = json_get(with, "updatedInput");
        const char *id = json_get_string(step, "respond");

        if (!streq_ptr(id, s->ask))
                return;
        ASSERT_OK(harness_answer(s->harness, id, streq_ptr(json_get_string(with, "behavior"), "allow"),
                                 input ? json_text(input, NULL) : NULL, json_get_string(with, "message")));
}

static void replay(json_object *o) {
        json_object *steps = json_get(o, "steps"), *expect = json_get(o, "expect"), *turns = json_get(expect, "turns");
        HarnessSetup setup = stage_setup(harness_kind_from_string(json_get_string(o, "kind")));
        _cleanup_(strbuf_done) StrBuf expected = {};
        _cleanup_(stage_end) Stage s;
        const char *session = json_get_string(expect, "session");
        size_t n_ends = 0;

        setup.session_id = json_get_string(o, "resume");
        setup.puffo_tools = true;
        stage_begin(&s, &setup);
        s.texts_only = true;
        expect_turns(turns, &expected);

        for (size_t i = 0; i < json_object_array_length(steps); i++) {
                json_object *step = json_object_array_get_idx(steps, i);

                if (json_get_string(step, "turn"))
                        ASSERT_OK(harness_turn(s.harness, json_get_string(step, "turn")));
                else if (json_get_bool(step, "interrupt", false)) {
                        if (harness_in_turn(s.harness))
                                ASSERT_OK(harness_interrupt(s.harness));
                        else
                                ASSERT_ERROR(harness_interrupt(s.harness), ESRCH);
                } else if (json_get(step, "respond"))
                        answer(&s, step);
                else if (json_get(step, "out"))
                        stage_says(&s, json_text(json_get(step, "out"), NULL));
                else if (json_get_string(step, "err"))
                        stage_complains(&s, json_get_string(step, "err"));
                else if (json_get_bool(step, "exit", false))
                        stage_exits(&s);
                if (s.ended) {
                        s.ended = false;
                        check_usage(&s, turns, n_ends++);
                }
        }
        ASSERT_TRUE(s.exited);
        ASSERT_FALSE(s.failed);
        ASSERT_EQ(n_ends, json_object_array_length(turns));
        ASSERT_RECORD(&s, strempty(expected.text));
        ASSERT_EQ(s.n_tools, json_get_int(expect, "tools", -1));
        ASSERT_EQ(s.n_asks, json_get_int(expect, "asks", -1));
        /* Told only when it is another one than before; of a process for one turn it is of no use. */
        if (streq_ptr(session, setup.session_id) || setup.kind == HARNESS_CLAUDE_SDK)
                ASSERT_NULL(s.session);
        else
                ASSERT_STREQ(strempty(s.session), strempty(session));
}

TEST(traffic) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        ASSERT_OK(file_read(TRAFFIC, MIB(8), &text, NULL));
        for (char *line = text, *end; *line; line = end + 1) {
                _cleanup_json_ json_object *o = NULL;

                end = strchr(line, '\n');
                ASSERT_NOT_NULL(end);
                ASSERT_OK(json_parse(line, (size_t) (end - line), &o));
                print_message("%s %s\n", json_get_string(o, "scenario"), json_get_string(o, "version"));
                replay(o);
                n++;
        }
        ASSERT_EQ(n, N_SCENARIOS);
}

TEST_MAIN();
