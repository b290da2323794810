/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-hostile"

#include <sys/resource.h>

#include "harness-fixture.h"

#define STAGE(s) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = stage_setup(HARNESS_CLAUDE); \
        stage_begin(&s, &s##_setup); \
        ASSERT_OK(harness_turn(s.harness, "hello"))
#define RESULT "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false}"

static void repeat(StrBuf *b, const char *what, size_t n) {
        size_t size = strlen(what);

        for (size_t i = 0; i < n; i++)
                ASSERT_OK(strbuf_append(b, what, size));
}

TEST(lines_that_are_no_json) {
        static const char *const lines[] = {
                "garbage", "{", "{\"type\":\"result\"", "[]", "null", "7", "\"x\"", "{\"type\":\"result\"} x",
                "\xff\xfe", "{\"a\":\xff}",
                "{'type':'result'}", "{\"a\":NaN}",
        };

        STAGE(s);
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                stage_says(&s, lines[i]);
        ASSERT_EQ(s.n_warnings, ELEMENTSOF(lines));
        ASSERT_TRUE(harness_in_turn(s.harness));
        strbuf_done(&s.record);
        stage_write(&s, s.output, "\0\0{\"type\":\"result\"}\0\n", 21);
        stage_run(&s);
        ASSERT_TRUE(harness_in_turn(s.harness));
        strbuf_done(&s.record);
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "done\n");
}

TEST(warnings_are_not_too_many) {
        STAGE(s);
        for (size_t i = 0; i < 1000; i++)
                stage_complains(&s, "the same again");
        for (size_t i = 0; i < 1000; i++)
                stage_says(&s, "no json");
        ASSERT_TRUE(s.n_warnings > 0 && s.n_warnings <= 20);
}

TEST(a_long_line_on_standard_error) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        repeat(&b, "x", MIB(2));
        stage_complains(&s, b.text);
        stage_complains(&s, "next");
        ASSERT_EQ(s.n_warnings, 2);
        ASSERT_TRUE(s.record.size < 5000);
        ASSERT_TRUE(endswith(s.record.text, "warning next\n"));
}

TEST(a_line_over_the_limit) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        repeat(&b, "xxxxxxxxxxxxxxxx", MIB(20) / 16);
        stage_write(&s, s.output, "{\"type\":\"", 9);
        stage_says(&s, b.text);
        ASSERT_RECORD(&s, "warning A line of its output is too long.\nprotocol: A line of its output is too long.\n");
        /* What follows is read. */
        ASSERT_OK(harness_turn(s.harness, "again"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "done\n");
}

/* Nothing is left open by such an end either. */
TEST(a_message_before_a_line_over_the_limit) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        stage_says(&s, "{\"type\":\"stream_event\",\"api_message_id\":\"m\",\"event\":{\"type\":\""
                       "content_block_delta\","
                       "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"x\"}}}");
        stage_says(&s, "{\"type\":\"control_request\",\"request_id\":\"q\",\"request\":{\"subtype\":\"can_use_tool\","
                       "\"tool_name\":\"T\",\"input\":{}}}");
        repeat(&b, "{\"type\":\"", MIB(2));
        stage_says(&s, b.text);
        ASSERT_RECORD(&s, "begin m/0\ntext x\nask T {}\nwarning A line of its output is too long.\n"
                          "cancel m/0\nwithdrawn q\nprotocol: A line of its output is too long.\n");
}

TEST(a_line_just_below_the_limit) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        s.texts_only = true;
        ASSERT_OK(strbuf_puts(&b, "{\"type\":\"assistant\",\"uuid\":\"u\",\"message\":{\"id\":\"m\",\"content\":[{\""
                                  "type\":\"text\",\"text\":\""));
        repeat(&b, "xxxxxxxxxxxxxxxx", (MIB(16) - 200) / 16);
        ASSERT_OK(strbuf_puts(&b, "\"}]}}"));
        stage_says(&s, b.text);
        ASSERT_EQ(s.record.size, (MIB(16) - 200) / 16 * 16 + 1);
        strbuf_done(&s.record);
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "done\n");
}

/* Parsed, these would take a hundred times their size. */
TEST(lines_of_many_values) {
        static const char *const values[] = { "1,", "[],", "{},", "\"\":0," };
        struct rusage before, after;

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                _cleanup_(strbuf_done) StrBuf b = {};

                STAGE(s);
                ASSERT_OK(strbuf_puts(&b, i == 3 ? "{" : "{\"a\":["));
                repeat(&b, values[i], MIB(12) / strlen(values[i]));
                ASSERT_OK(strbuf_puts(&b, i == 3 ? "\"\":0}" : "0]}"));
                ASSERT_EQ(getrusage(RUSAGE_SELF, &before), 0);
                stage_says(&s, b.text);
                ASSERT_EQ(getrusage(RUSAGE_SELF, &after), 0);
                ASSERT_TRUE(after.ru_maxrss - before.ru_maxrss < 200 * 1024);
                ASSERT_TRUE(endswith(s.record.text, "protocol: A long line of its output is not JSON.\n"));
        }
}

/* What a model makes up for a tool may be deep, and the question about it has to be answered. */
TEST(deep_values) {
        _cleanup_(strbuf_done) StrBuf b = {}, deep = {};
        _cleanup_free_ char *line = NULL;

        STAGE(s);
        repeat(&deep, "{\"a\":", 100);
        ASSERT_OK(strbuf_puts(&deep, "1"));
        repeat(&deep, "}", 100);
        line = asprintf_new("{\"type\":\"control_request\",\"request_id\":\"q\",\"request\":{\"subtype\":\""
                            "can_use_tool\","
                            "\"tool_name\":\"T\",\"input\":%s}}", deep.text);
        stage_says(&s, line);
        ASSERT_EQ(s.n_asks, 1);
        ASSERT_OK(harness_answer(s.harness, "q", true, NULL, NULL));
        free(stage_hears(&s));          /* of the turn */
        free(line);
        line = stage_hears(&s);
        ASSERT_NOT_NULL(line);
        ASSERT_NOT_NULL(strstr(line, deep.text));

        repeat(&b, "[", KIB(512));
        stage_says(&s, b.text);
        ASSERT_TRUE(endswith(s.record.text, "protocol: A long line of its output is not JSON.\n"));
}

TEST(members_of_any_type) {
        static const char *const types[] = {
                "system", "assistant", "user", "stream_event", "result", "control_request", "control_response",
                "control_cancel_request", "rate_limit_event",
        };
        static const char *const members[] = {
                "subtype", "message", "content", "event", "request", "response", "session_id", "uuid", "error",
                "errors", "usage",
                "mcp_servers", "parent_tool_use_id", "request_id", "rate_limit_info", "permission_denials",
                "total_cost_usd",
                "api_error_status", "num_turns", "is_error", "user_message_uuids",
        };
        static const char *const values[] = {
                "null", "true", "-1", "1e400", "99999999999999999999", "\"x\"", "\"\\u0000\"", "[]", "[null,[],{}]",
                "{}", "{\"content\":[7]}",
                "{\"id\":7,\"content\":[{\"type\":\"text\"},{\"type\":\"tool_use\",\"id\":\"x\",\"name\":\"y\",\""
                "input\":7}]}",
                "{\"subtype\":\"can_use_tool\",\"input\":7}", "{\"type\":\"content_block_delta\",\"delta\":7}",
        };

        STAGE(s);
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                for (size_t j = 0; j < ELEMENTSOF(members); j++)
                        for (size_t k = 0; k < ELEMENTSOF(values); k++) {
                                _cleanup_free_ char *line = asprintf_new("{\"type\":\"%s\",\"%s\":%s}", types[i],
                                                                         members[j],
                                                                         values[k]);

                                if (!harness_in_turn(s.harness))
                                        ASSERT_OK(harness_turn(s.harness, "x"));
                                stage_says(&s, line);
                                ASSERT_FALSE(s.failed);
                                stage_listen(&s);
                                strbuf_done(&s.written);
                        }
        stage_exits(&s);
        ASSERT_TRUE(s.exited);
}

/* Questions and calls that are never ended. */
TEST(more_than_anybody_needs) {
        STAGE(s);
        s.texts_only = true;
        for (unsigned i = 0; i < 3000; i++) {
                _cleanup_free_ char *ask = asprintf_new("{\"type\":\"control_request\",\"request_id\":\"q%u\",\""
                                                        "request\":{\"subtype\":"
                                                        "\"can_use_tool\",\"tool_name\":\"T\",\"input\":{}}}", i),
                                    *call = asprintf_new("{\"type\":\"assistant\",\"message\":{\"id\":\"m\",\""
                                                         "content\":[{\"type\":\"tool_use\","
                                                         "\"id\":\"t%u\",\"name\":\"T\",\"input\":{}}]}}", i);

                stage_says(&s, ask);
                stage_says(&s, call);
                if (i % 100 == 0)
                        stage_listen(&s);
        }
        ASSERT_EQ(s.n_asks, 256);
        ASSERT_EQ(s.n_tools, 3000);
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "done\n");
}

/* What waits for a program that does not read is bounded. */
static void answer_without_being_read(Stage *s, size_t size, unsigned n) {
        _cleanup_(strbuf_done) StrBuf b = {};

        repeat(&b, "x", size);
        for (unsigned i = 0; i < n; i++) {
                _cleanup_free_ char *id = asprintf_new("q%u", i),
                                    *line = asprintf_new("{\"type\":\"control_request\",\"request_id\":\"%s\","
                                                         "\"request\":{\"subtype\":\"can_use_tool\","
                                                         "\"tool_name\":\"T\",\"input\":{\"a\":\"%s\"}}}", id, b.text);

                stage_says(s, line);
                ASSERT_OK(harness_answer(s->harness, id, true, NULL, NULL));
        }
}

TEST(what_is_not_read_ends_the_turn) {
        STAGE(s);
        s.texts_only = true;
        answer_without_being_read(&s, MIB(7), 4);
        stage_run(&s);
        ASSERT_TRUE(harness_in_turn(s.harness));
        answer_without_being_read(&s, MIB(7), 1);
        stage_run(&s);
        ASSERT_RECORD(&s, "protocol\n");
        ASSERT_EQ(s.n_warnings, 1);
        ASSERT_ERROR(harness_turn(s.harness, "again"), EPIPE);
        stage_exits(&s);
        ASSERT_TRUE(s.exited);
        ASSERT_FALSE(s.failed);
}

TEST(what_is_not_read_without_a_turn) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        stage_says(&s, RESULT);
        s.failure = -ENOBUFS;
        repeat(&b, "x", MIB(1));
        for (unsigned i = 0; i < 40; i++)
                ASSERT_OK(harness_set_model(s.harness, b.text));
        ASSERT_FALSE(s.failed);
        stage_run(&s);
        ASSERT_TRUE(s.failed);
}

TEST(freed_before_it_is_told_that_it_does_not_read) {
        STAGE(s);
        answer_without_being_read(&s, MIB(7), 4);
        s.free_at_end = true;
        answer_without_being_read(&s, MIB(7), 1);
        stage_run(&s);
        ASSERT_NULL(s.harness);
}

/* The longest text that a turn may have, of bytes that take six each. */
TEST(the_longest_turn) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *said = NULL;

        STAGE(s);
        stage_says(&s, RESULT);
        free(stage_hears(&s));
        repeat(&b, "\x01", MIB(3));
        ASSERT_OK(harness_turn(s.harness, b.text));
        said = stage_hears(&s);
        ASSERT_TRUE(said && strlen(said) > 6 * MIB(3));
        ASSERT_TRUE(harness_in_turn(s.harness));
}

TEST_MAIN();
