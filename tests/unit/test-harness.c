/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness"

#include <systemd/sd-id128.h>

#include "harness-fixture.h"

#define STAGE_OF(s, k) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = stage_setup(k); \
        stage_begin(&s, &s##_setup)
#define STAGE(s) STAGE_OF(s, HARNESS_CLAUDE)

#define SESSION "\"session_id\":\"5c2e8f5e-0000-4000-8000-000000000001\""
#define INIT "{\"type\":\"system\",\"subtype\":\"init\"," SESSION ",\"mcp_servers\":[]}"
#define EVENT(event) \
        "{\"type\":\"stream_event\",\"parent_tool_use_id\":null,\"uuid\":\"e\"," SESSION ",\"event\":" event "}"
#define START(id) EVENT("{\"type\":\"message_start\",\"message\":{\"id\":\"" id "\"}}")
#define DELTA(index, text) \
        EVENT("{\"type\":\"content_block_delta\",\"index\":" index "," \
              "\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}}")
#define BLOCK(id, uuid, block) \
        "{\"type\":\"assistant\",\"parent_tool_use_id\":null,\"uuid\":\"" uuid "\"," SESSION "," \
        "\"message\":{\"id\":\"" id "\",\"model\":\"m\",\"content\":[" block "]}}"
#define TEXT(id, uuid, text) BLOCK(id, uuid, "{\"type\":\"text\",\"text\":\"" text "\"}")
#define USED(id, name, input) "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"" name "\",\"input\":" input "}"
#define RESULT \
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"num_turns\":1,\"uuid\":\"r\"," SESSION "," \
        "\"result\":\"\"}"
#define ASK(id) \
        "{\"type\":\"control_request\",\"request_id\":\"" id "\"," \
        "\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Bash\"," \
        "\"input\":{\"command\":\"ls\"},\"tool_use_id\":\"t1\",\"description\":\"lists\"}}"

static void turn(Stage *s) {
        _cleanup_free_ char *line = NULL;

        ASSERT_OK(harness_turn(s->harness, "hello"));
        line = stage_hears(s);
        ASSERT_NOT_NULL(line);
}

TEST(names) {
        for (HarnessKind k = 0; k < _HARNESS_KIND_MAX; k++)
                ASSERT_EQ(harness_kind_from_string(harness_kind_to_string(k)), k);
        ASSERT_EQ(harness_kind_from_string("codex?"), _HARNESS_KIND_INVALID);
        ASSERT_EQ(harness_kind_from_string(NULL), _HARNESS_KIND_INVALID);
        for (HarnessOutcome o = 0; o < _HARNESS_OUTCOME_MAX; o++)
                ASSERT_NOT_NULL(harness_outcome_to_string(o));
        ASSERT_FALSE(harness_is_per_turn(HARNESS_CLAUDE));
        ASSERT_TRUE(harness_is_per_turn(HARNESS_CLAUDE_SDK));
        ASSERT_TRUE(harness_is_per_turn(HARNESS_GEMINI));
        ASSERT_TRUE(harness_is_per_turn(HARNESS_HERMES));
}

TEST(a_turn_as_it_grows) {
        STAGE(s);
        turn(&s);
        stage_says(&s, INIT);
        stage_says(&s, START("m1"));
        stage_says(&s, DELTA("0", "Hel"));
        stage_says(&s, DELTA("0", "lo"));
        stage_says(&s, TEXT("m1", "u1", "Hello"));
        stage_says(&s, EVENT("{\"type\":\"content_block_stop\",\"index\":0}"));
        stage_says(&s, BLOCK("m1", "u2", USED("t1", "Bash", "{\"command\":\"ls\"}")));
        stage_says(&s, "{\"type\":\"user\",\"uuid\":\"u3\",\"message\":{\"role\":\"user\",\"content\":[{\"type\":\""
                       "tool_result\","
                       "\"tool_use_id\":\"t1\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\"},"
                       "{\"type\":\"text\",\"text\":\"b\"}],\"is_error\":true}]}}");
        stage_says(&s, START("m2"));
        stage_says(&s, DELTA("1", "Bye"));
        stage_says(&s, TEXT("m2", "u4", "Bye"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "begin m1/0\ntext Hel\ntext lo\nend m1/0: Hello\n"
                          "tool started Bash: {\"command\":\"ls\"}\ntool ended Bash with an error: a\nb\n"
                          "begin m2/1\ntext Bye\nend m2/1: Bye\ndone\n");
        ASSERT_STREQ(s.session, "5c2e8f5e-0000-4000-8000-000000000001");
        ASSERT_TRUE(s.result.started);
        ASSERT_FALSE(harness_in_turn(s.harness));
        ASSERT_EQ(s.n_progress, 12);
}

TEST(signs_of_life_are_no_progress) {
        static const char *const lines[] = {
                "{\"type\":\"keep_alive\"}", "{\"type\":\"of another release\"}", "no json", "",
                "{\"type\":\"system\",\"subtype\":\"api_retry\",\"attempt\":1,\"max_retries\":10}",
                "{\"type\":\"system\",\"subtype\":\"status\",\"status\":\"requesting\"}",
                "{\"type\":\"rate_limit_event\",\"rate_limit_info\":{\"status\":\"allowed\"}}",
                EVENT("{\"type\":\"ping\"}"),
        };
        static const char *const progress[] = {
                "{\"type\":\"tool_progress\",\"tool_use_id\":\"t1\"}",
                "{\"type\":\"system\",\"subtype\":\"compact_boundary\"}",
                "{\"type\":\"system\",\"subtype\":\"task_progress\"}",
                EVENT("{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\"}}"),
        };

        STAGE(s);
        turn(&s);
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                stage_says(&s, lines[i]);
        stage_complains(&s, "still here");
        ASSERT_EQ(s.n_progress, 0);
        for (size_t i = 0; i < ELEMENTSOF(progress); i++) {
                stage_says(&s, progress[i]);
                ASSERT_EQ(s.n_progress, i + 1);
        }
}

TEST(a_text_that_did_not_stream) {
        STAGE(s);
        turn(&s);
        stage_says(&s, TEXT("m1", "u1", "Hello"));
        stage_says(&s, TEXT("m1", "u2", ""));
        stage_says(&s, TEXT("m1", "u3", "a\\u0000b\\ud800"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "begin u1\ntext Hello\nend u1: Hello\nbegin u3\ntext ab\xef\xbf\xbd\nend u3: "
                          "ab\xef\xbf\xbd\n"
                          "done\n");
}

TEST(a_reply_that_broke_off) {
        STAGE(s);
        turn(&s);
        stage_says(&s, START("m1"));
        stage_says(&s, DELTA("0", "Hel"));
        stage_says(&s, START("m2"));
        stage_says(&s, DELTA("0", "Hello"));
        stage_says(&s, TEXT("m2", "u1", "Hello"));
        stage_says(&s, START("m3"));
        stage_says(&s, DELTA("0", "again"));
        stage_says(&s, TEXT("m4", "u2", "whole"));
        stage_says(&s, START("m5"));
        stage_says(&s, DELTA("0", "left"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "begin m1/0\ntext Hel\ncancel m1/0\nbegin m2/0\ntext Hello\nend m2/0: Hello\n"
                          "begin m3/0\ntext again\ncancel m3/0\nbegin u2\ntext whole\nend u2: whole\n"
                          "begin m5/0\ntext left\ncancel m5/0\ndone\n");
}

TEST(sub_agents_are_not_the_answer) {
        STAGE(s);
        turn(&s);
        stage_says(&s, "{\"type\":\"stream_event\",\"parent_tool_use_id\":\"t0\",\"event\":{\"type\":\""
                       "content_block_delta\","
                       "\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"inner\"}},\"api_message_id\":\"m9\""
                       "}");
        stage_says(&s, "{\"type\":\"assistant\",\"parent_tool_use_id\":\"t0\",\"uuid\":\"u1\",\"message\":{\"id\":\""
                       "m9\",\"content\":["
                       "{\"type\":\"text\",\"text\":\"inner\"}," USED("t1", "Read", "{}") "]}}");
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "tool started Read of t0: {}\ndone\n");
}

TEST(what_the_program_says_itself_is_not_the_answer) {
        STAGE(s);
        turn(&s);
        stage_says(&s, START("m1"));
        stage_says(&s, DELTA("0", "Hel"));
        stage_says(&s, "{\"type\":\"assistant\",\"error\":\"rate_limit\",\"uuid\":\"u1\",\"message\":{\"id\":\"x\",\""
                       "model\":\"<synthetic>\","
                       "\"content\":[{\"type\":\"text\",\"text\":\"API Error: slow down\"}]}}");
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"num_turns\":1,\"uuid\":\"r\","
                       "\"result\":\"API Error: slow down\",\"api_error_status\":429}");
        ASSERT_RECORD(&s, "begin m1/0\ntext Hel\ncancel m1/0\ntransient: rate_limit: API Error: slow down\n");
        ASSERT_EQ(s.result.http_status, 429);

        /* Of the next turn that is not known any more. */
        turn(&s);
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":true,\"num_turns\":1,\"result\":\""
                       "Odd\"}");
        ASSERT_RECORD(&s, "error: Odd\n");
}

TEST(a_result_alone) {
        STAGE(s);
        turn(&s);
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"uuid\":\"r1\",\"result\":\""
                       "said\"}");
        ASSERT_RECORD(&s, "begin r1\ntext said\nend r1: said\ndone\n");
        /* Nobody waits for another one. */
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"uuid\":\"r2\",\"result\":\""
                       "more\"}");
        stage_says(&s, TEXT("m1", "u1", "unasked"));
        ASSERT_RECORD(&s, "");
}

TEST(a_result_of_another_turn) {
        _cleanup_json_ json_object *line = NULL;
        _cleanup_free_ char *ours = NULL;

        STAGE(s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        line = stage_hears_json(&s);
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"user_message_uuid\":\""
                       "other\"}");
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"user_message_uuids\":[\""
                       "other\",7]}");
        ASSERT_TRUE(harness_in_turn(s.harness));
        ours = asprintf_new("{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"user_message_uuids\""
                            ":[\"%s\"]}",
                            json_get_string(line, "uuid"));
        stage_says(&s, ours);
        ASSERT_RECORD(&s, "done\n");
}

TEST(the_line_of_a_turn) {
        STAGE(s);
        static const char *const texts[][2] = {
                { "[from @a] hi\n\"there\" \xc3\xa4", "[from @a] hi\n\"there\" \xc3\xa4" },
                { "/clear", "\n/clear" }, { " /x", " /x" }, { "", "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_json_ json_object *line = NULL;
                json_object *message;
                sd_id128_t id;

                ASSERT_OK(harness_turn(s.harness, texts[i][0]));
                ASSERT_TRUE(harness_in_turn(s.harness));
                ASSERT_ERROR(harness_turn(s.harness, "again"), EBUSY);
                line = stage_hears_json(&s);
                message = json_get(line, "message");
                ASSERT_STREQ(json_get_string(line, "type"), "user");
                ASSERT_STREQ(json_get_string(message, "role"), "user");
                ASSERT_STREQ(json_get_string(message, "content"), texts[i][1]);
                ASSERT_TRUE(json_get_bool(line, "client_composed", false));
                ASSERT_OK(sd_id128_from_string(json_get_string(line, "uuid"), &id));
                stage_says(&s, RESULT);
        }
        ASSERT_ERROR(harness_turn(s.harness, "\xff"), EINVAL);
        ASSERT_FALSE(harness_in_turn(s.harness));
}

/* More than any pipe takes at once, and the launch before it. */
TEST(what_is_written_is_whole) {
        _cleanup_free_ char *big = malloc(3000001), *launch = malloc(900001), *said = NULL;
        _cleanup_json_ json_object *line = NULL;

        STAGE(s);
        ASSERT_TRUE(big && launch);
        memset(big, 'x', 3000000);
        big[3000000] = 0;
        memset(launch, 'l', 900000);
        launch[900000] = 0;
        ASSERT_OK(harness_send_launch(s.take[0], launch));
        ASSERT_OK(harness_turn(s.harness, big));
        stage_listen(&s);
        ASSERT_TRUE(s.written.size > 3900000);
        ASSERT_EQ(memcmp(s.written.text, "000dbba0\n", 9), 0);
        ASSERT_EQ(memcmp(s.written.text + 9, launch, 900000), 0);
        strbuf_consume(&s.written, 900009);
        said = stage_hears(&s);
        ASSERT_OK(json_parse(said, strlen(said), &line));
        ASSERT_STREQ(json_get_string(json_get(line, "message"), "content"), big);
        ASSERT_EQ(s.written.size, 0);
}

TEST(input_is_closed_after_what_was_said) {
        _cleanup_free_ char *big = malloc(3000001);
        char c;

        STAGE(s);
        ASSERT_NOT_NULL(big);
        memset(big, 'x', 3000000);
        big[3000000] = 0;
        s.take[0] = safe_close(s.take[0]);
        ASSERT_OK(harness_turn(s.harness, big));
        harness_close_input(s.harness);
        stage_listen(&s);
        ASSERT_TRUE(s.written.size > 3000000);
        ASSERT_EQ(s.written.text[s.written.size - 1], '\n');
        ASSERT_EQ(read(s.input, &c, 1), 0);
        /* The answer is still waited for. */
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "done\n");
}

TEST(a_program_that_does_not_read) {
        STAGE(s);
        s.input = safe_close(s.input);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_run(&s);
        ASSERT_TRUE(harness_in_turn(s.harness));
        stage_exits(&s);
        ASSERT_RECORD(&s, "gone\n");
        ASSERT_FALSE(s.result.started);
        ASSERT_TRUE(s.exited);
        ASSERT_ERROR(harness_turn(s.harness, "hello"), EPIPE);
}

TEST(an_end_amid_a_turn) {
        STAGE(s);
        turn(&s);
        stage_says(&s, INIT);
        stage_says(&s, START("m1"));
        stage_says(&s, DELTA("0", "Hel"));
        stage_says(&s, ASK("a1"));
        /* Both at once: the reason stands in the other pipe. */
        stage_write(&s, s.errors, "first\n\nlast\x1b[0m\n", 16);
        stage_exits(&s);
        ASSERT_RECORD(&s, "begin m1/0\ntext Hel\nask Bash {\"command\":\"ls\"}\nwarning first\nwarning last?[0m\n"
                          "cancel m1/0\nwithdrawn a1\ngone: first last?[0m\n");
        ASSERT_TRUE(s.result.started);
        ASSERT_TRUE(s.exited);
}

TEST(an_end_between_turns) {
        STAGE(s);
        stage_exits(&s);
        ASSERT_RECORD(&s, "");
        ASSERT_TRUE(s.exited);
}

TEST(a_lost_conversation_by_standard_error) {
        _cleanup_(stage_end) Stage s;
        HarnessSetup setup = stage_setup(HARNESS_CLAUDE);

        setup.session_id = "5c2e8f5e-0000-4000-8000-000000000001";
        stage_begin(&s, &setup);
        turn(&s);
        stage_complains(&s, "No conversation found with session ID: 5c2e");
        stage_exits(&s);
        ASSERT_RECORD(&s, "lost-session: No conversation found with session ID: 5c2e\n");
        ASSERT_FALSE(s.result.started);
}

/* The model may make the program say anything once it runs. */
TEST(words_alone_lose_no_conversation) {
        _cleanup_(stage_end) Stage s;
        HarnessSetup setup = stage_setup(HARNESS_CLAUDE);

        setup.session_id = "5c2e8f5e-0000-4000-8000-000000000001";
        stage_begin(&s, &setup);
        turn(&s);
        stage_says(&s, INIT);
        stage_complains(&s, "No conversation found");
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":true,\"num_turns\":0,"
                       "\"errors\":[\"No conversation found\"]}");
        ASSERT_RECORD(&s, "warning No conversation found\nerror: No conversation found\n");
        ASSERT_NULL(s.session);
}

TEST(questions) {
        _cleanup_json_ json_object *allowed = NULL, *denied = NULL, *other = NULL;
        json_object *response;

        STAGE(s);
        turn(&s);
        ASSERT_ERROR(harness_answer(s.harness, "a1", true, NULL, NULL), ENOENT);
        stage_says(&s, ASK("a1"));
        stage_says(&s, ASK("a2"));
        stage_says(&s, ASK("a3"));
        ASSERT_RECORD(&s, "ask Bash {\"command\":\"ls\"}\nask Bash {\"command\":\"ls\"}\nask Bash {\"command\":\"ls\""
                          "}\n");

        ASSERT_OK(harness_answer(s.harness, "a1", true, NULL, NULL));
        allowed = stage_hears_json(&s);
        ASSERT_STREQ(json_text(allowed, NULL), "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\","
                     "\"request_id\":\"a1\",\"response\":{\"behavior\":\"allow\",\"updatedInput\":{\"command\":\"ls\""
                     "}}}}");
        ASSERT_ERROR(harness_answer(s.harness, "a1", true, NULL, NULL), ENOENT);

        ASSERT_OK(harness_answer(s.harness, "a2", false, NULL, "Not \"now\"."));
        denied = stage_hears_json(&s);
        response = json_get(json_get(denied, "response"), "response");
        ASSERT_STREQ(json_text(response, NULL), "{\"behavior\":\"deny\",\"message\":\"Not \\\"now\\\".\"}");

        ASSERT_ERROR(harness_answer(s.harness, "a3", true, "no json", NULL), EINVAL);
        ASSERT_OK(harness_answer(s.harness, "a3", true, "{\"command\":\"ls -l\"}", NULL));
        other = stage_hears_json(&s);
        response = json_get(json_get(other, "response"), "response");
        ASSERT_STREQ(json_get_string(json_get(response, "updatedInput"), "command"), "ls -l");

        stage_says(&s, ASK("a4"));
        stage_says(&s, "{\"type\":\"control_cancel_request\",\"request_id\":\"a4\"}");
        stage_says(&s, "{\"type\":\"control_cancel_request\",\"request_id\":\"a4\"}");
        stage_says(&s, "{\"type\":\"control_cancel_request\",\"request_id\":\"a9\"}");
        stage_says(&s, ASK("a5"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "ask Bash {\"command\":\"ls\"}\nwithdrawn a4\nask Bash {\"command\":\"ls\"}\nwithdrawn a5\n"
                          "done\n");
        ASSERT_NULL(stage_hears(&s));
}

TEST(requests_that_nobody_answers) {
        static const struct { const char *line, *answer; } t[] = {
                { "{\"type\":\"control_request\",\"request_id\":\"x\",\"request\":{\"subtype\":\"new_thing\"}}",
                  "{\"subtype\":\"error\",\"request_id\":\"x\",\"error\":\"Unsupported control request subtype: "
                  "new_thing\"}" },
                { "{\"type\":\"control_request\",\"request_id\":\"x\"}",
                  "{\"subtype\":\"error\",\"request_id\":\"x\",\"error\":\"Unsupported control request subtype: \"}" },
                { "{\"type\":\"control_request\",\"request_id\":\"x\",\"request\":{\"subtype\":\"mcp_message\",\""
                  "server_name\":\"puffo\","
                  "\"message\":{}}}",
                  "{\"subtype\":\"error\",\"request_id\":\"x\",\"error\":\"There is no such MCP server.\"}" },
                { "{\"type\":\"control_request\",\"request_id\":\"x\",\"request\":{\"subtype\":\"hook_callback\",\""
                  "callback_id\":\"gate\"}}",
                  "{\"subtype\":\"error\",\"request_id\":\"x\",\"error\":\"There is no such callback.\"}" },
                /* Outside of a turn. */
                { ASK("x"), "{\"subtype\":\"success\",\"request_id\":\"x\",\"response\":{\"behavior\":\"deny\","
                            "\"message\":\"Nobody has asked for anything.\"}}" },
                { "{\"type\":\"control_request\",\"request_id\":\"x\",\"request\":{\"subtype\":\"request_user_dialog\""
                  "}}", NULL },
                { "{\"type\":\"control_request\",\"request\":{\"subtype\":\"can_use_tool\"}}", NULL },
                { "{\"type\":\"control_request\",\"request_id\":7,\"request\":{\"subtype\":\"can_use_tool\"}}", NULL },
                { "{\"type\":\"control_response\",\"response\":{\"subtype\":\"error\",\"request_id\":\"x\",\"error\""
                  ":\"y\"}}", NULL },
                { "{\"type\":\"control_response\",\"response\":7}", NULL },
                { "{\"type\":\"keep_alive\"}", NULL },
                { "{\"type\":\"news\",\"session_id\":\"other\"}", NULL },
                { "{\"type\":7}", NULL }, { "{}", NULL }, { "   ", NULL }, { "", NULL },
        };

        STAGE(s);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *answer = NULL;

                stage_says(&s, t[i].line);
                answer = stage_hears_json(&s);
                ASSERT_STREQ(strempty(answer ? json_text(json_get(answer, "response"), NULL) : NULL),
                                                                          strempty(t[i].answer));
        }
        ASSERT_RECORD(&s, "");
        ASSERT_NULL(s.session);
}

TEST(interrupting) {
        _cleanup_json_ json_object *line = NULL, *model = NULL;

        STAGE(s);
        ASSERT_ERROR(harness_interrupt(s.harness), ESRCH);
        turn(&s);
        ASSERT_OK(harness_interrupt(s.harness));
        ASSERT_OK(harness_interrupt(s.harness));
        line = stage_hears_json(&s);
        ASSERT_STREQ(json_get_string(json_get(line, "request"), "subtype"), "interrupt");
        ASSERT_NULL(stage_hears(&s));
        ASSERT_RECORD(&s, "");
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":true,\"num_turns\":1,"
                       "\"errors\":[\"x\"]}");
        ASSERT_RECORD(&s, "interrupted: x\n");

        /* Of the next turn it is an error again. */
        turn(&s);
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"error_during_execution\",\"is_error\":true,\"num_turns\":1,"
                       "\"errors\":[\"x\",7,\"y\"]}");
        ASSERT_RECORD(&s, "error: x; y\n");

        ASSERT_OK(harness_set_model(s.harness, ""));
        model = stage_hears_json(&s);
        ASSERT_STREQ(json_get_string(json_get(model, "request"), "subtype"), "set_model");
        ASSERT_NULL(json_get(json_get(model, "request"), "model"));
        ASSERT_FALSE(streq_ptr(json_get_string(model, "request_id"), json_get_string(line, "request_id")));
        ASSERT_ERROR(harness_mcp_reply(s.harness, "x", "{}"), EOPNOTSUPP);
}

/* 2.1.329 takes an interrupt that comes right behind the turn's text for one of an idle program. */
TEST(interrupting_before_it_has_started) {
        STAGE(s);
        turn(&s);
        ASSERT_OK(harness_interrupt(s.harness));
        for (size_t i = 0; i < 2; i++) {
                _cleanup_json_ json_object *line = stage_hears_json(&s);

                ASSERT_STREQ(json_get_string(json_get(line, "request"), "subtype"), "interrupt");
                ASSERT_NULL(stage_hears(&s));
                stage_says(&s, INIT);
        }
        ASSERT_NULL(stage_hears(&s));
        stage_says(&s, RESULT);

        /* Once it works, it is told once. */
        turn(&s);
        stage_says(&s, INIT);
        ASSERT_OK(harness_interrupt(s.harness));
        free(stage_hears(&s));
        stage_says(&s, INIT);
        ASSERT_NULL(stage_hears(&s));
}

TEST(what_a_turn_has_cost) {
        static const struct { const char *total; bool known; uint64_t micros; } t[] = {
                { "0.0015", true, 1500 }, { "0.0040000000000000001", true, 2500 }, { "0.004", true, 0 }, { "1", true,
                  996000 },
                { "0.5", false, 0 }, { "0.75", true, 250000 }, { "-1", false, 0 }, { "\"x\"", false, 0 }, { "1e300",
                  false, 0 },
                { "0.76", true, 10000 },
        };

        STAGE(s);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *line = asprintf_new("{\"type\":\"result\",\"subtype\":\"success\",\"is_error\""
                                                         ":false,"
                        "\"usage\":{\"input_tokens\":1,\"cache_creation_input_tokens\":20,\"cache_read_input_tokens\""
                        ":300,"
                        "\"output_tokens\":-4000,\"output_tokens_details\":{\"thinking_tokens\":5}},\"total_cost_usd\""
                        ":%s}",
                        t[i].total);

                turn(&s);
                stage_says(&s, line);
                ASSERT_EQ(s.result.cost_known, t[i].known);
                ASSERT_EQ(s.result.cost_micros, t[i].micros);
                ASSERT_EQ(s.result.usage.input_tokens, 321);
                ASSERT_EQ(s.result.usage.cached_tokens, 300);
                ASSERT_EQ(s.result.usage.cache_write_tokens, 20);
                ASSERT_EQ(s.result.usage.output_tokens, 0);
                ASSERT_EQ(s.result.usage.reasoning_tokens, 5);
        }
}

TEST(missing_tools_are_told_once) {
        _cleanup_(stage_end) Stage s;
        HarnessSetup setup = stage_setup(HARNESS_CLAUDE);

        setup.mcp_config = "/srv/agent/mcp.json";
        stage_begin(&s, &setup);
        turn(&s);
        stage_says(&s, INIT);
        stage_says(&s, INIT);
        ASSERT_RECORD(&s, "warning The model has no Puffo tools: status of MCP server 'puffo': missing.\n");
        stage_says(&s, "{\"type\":\"system\",\"subtype\":\"init\",\"mcp_servers\":[7,{\"name\":\"puffo\",\"status\":\""
                       "connected\"}]}");
        stage_says(&s, "{\"type\":\"system\",\"subtype\":\"init\",\"mcp_servers\":[{\"name\":\"puffo\",\"status\":\""
                       "failed\"}]}");
        ASSERT_RECORD(&s, "warning The model has no Puffo tools: status of MCP server 'puffo': failed.\n");
}

TEST(handlers_may_do_anything) {
        {
                STAGE(s);
                turn(&s);
                s.free_at_text = true;
                stage_says(&s, START("m1"));
                stage_says(&s, DELTA("0", "x"));
                stage_says(&s, DELTA("0", "y"));
                ASSERT_NULL(s.harness);
                ASSERT_RECORD(&s, "begin m1/0\ntext x\n");
        }
        {
                STAGE(s);
                turn(&s);
                s.free_at_text = true;
                stage_says(&s, TEXT("m1", "u1", "x"));
                ASSERT_NULL(s.harness);
                ASSERT_RECORD(&s, "begin u1\ntext x\n");
        }
        {
                STAGE(s);
                turn(&s);
                s.free_at_end = true;
                stage_says(&s, RESULT);
                ASSERT_NULL(s.harness);
                ASSERT_RECORD(&s, "done\n");
        }
        {
                STAGE(s);
                turn(&s);
                s.free_at_end = true;
                stage_exits(&s);
                ASSERT_NULL(s.harness);
                ASSERT_FALSE(s.exited);
                ASSERT_RECORD(&s, "gone\n");
        }
        {
                STAGE(s);
                turn(&s);
                s.turn_at_end = true;
                stage_says(&s, RESULT);
                ASSERT_TRUE(harness_in_turn(s.harness));
                stage_says(&s, RESULT);
                ASSERT_RECORD(&s, "done\ndone\n");
        }
}

TEST(kinds_that_are_not_built) {
        HarnessSetup setup = stage_setup(_HARNESS_KIND_MAX);
        HarnessHandler handler = { .on_end = stage_on_end, .on_exit = stage_on_exit };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        Harness *h = NULL;
        char *json = NULL;
        int fds[3];

        for (size_t i = 0; i < 3; i++)
                fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        ASSERT_OK(sd_event_new(&event));
        ASSERT_ERROR(harness_new(&h, event, &setup, fds, false, &handler), EOPNOTSUPP);
        ASSERT_ERROR(harness_launch(&setup, &json), EOPNOTSUPP);
        /* All three were taken over. */
        for (size_t i = 0; i < 3; i++)
                ASSERT_EQ(fcntl(fds[i], F_GETFD), -1);

        for (size_t i = 0; i < 3; i++)
                fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
        setup.kind = HARNESS_CLAUDE;
        ASSERT_ERROR(harness_new(&h, event, &setup, fds, false, &handler), ENOTSUP);
        for (size_t i = 0; i < 3; i++)
                ASSERT_EQ(fcntl(fds[i], F_GETFD), -1);
}

TEST_MAIN();
