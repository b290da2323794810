/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-gemini"

#include "harness-fixture.h"

#define SESSION "81d16d80-5471-4236-bca0-975c0273b617"
#define STAGE_WITH(s, id) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = stage_setup(HARNESS_GEMINI); \
        s##_setup.session_id = id; \
        stage_begin(&s, &s##_setup)
#define STAGE(s) \
        STAGE_WITH(s, NULL); \
        ASSERT_OK(harness_turn(s.harness, "hello"))

#define LINE(type, stamp, rest) "{\"type\":\"" type "\",\"timestamp\":\"" stamp "\"," rest "}"
#define INIT LINE("init", "T0", "\"session_id\":\"" SESSION "\",\"model\":\"m\"")
#define USER LINE("message", "T1", "\"role\":\"user\",\"content\":\"hello\"")
#define SAYS(stamp, text) \
        LINE("message", stamp, "\"role\":\"assistant\",\"content\":\"" text "\",\"delta\":true")
#define USES(id, name, input) \
        LINE("tool_use", "T3", "\"tool_name\":\"" name "\",\"tool_id\":\"" id "\",\"parameters\":" input)
#define USED(id, rest) LINE("tool_result", "T4", "\"tool_id\":\"" id "\"," rest)
#define STATS \
        "\"stats\":{\"total_tokens\":50,\"input_tokens\":30,\"output_tokens\":13,\"cached\":12,\"input\":18," \
        "\"duration_ms\":42,\"tool_calls\":1,\"models\":{}}"
#define RESULT LINE("result", "T9", "\"status\":\"success\"," STATS)
#define FAILED(error) LINE("result", "T9", "\"status\":\"error\",\"error\":" error "," STATS)

static char* heard(Stage *s) {
        char buffer[16];

        stage_listen(s);
        ASSERT_EQ(read(s->input, buffer, sizeof(buffer)), -1);
        /* The double: while there is one, the input does not end. */
        s->take[0] = safe_close(s->take[0]);
        stage_run(s);
        ASSERT_EQ(read(s->input, buffer, sizeof(buffer)), 0);
        return strbuf_take(&s->written);
}

TEST(a_turn_as_it_grows) {
        STAGE(s);
        stage_says(&s, INIT);
        stage_says(&s, USER);
        stage_says(&s, SAYS("T2", "Let me"));
        stage_says(&s, SAYS("T2.1", " see. "));
        stage_says(&s, USES("t1", "mcp_puffo_whoami", "{\"a\":1}"));
        stage_says(&s, USED("t1", "\"status\":\"success\",\"output\":\"bo\""));
        stage_says(&s, USES("t2", "read_file", "{}"));
        stage_says(&s, USED("t2", "\"status\":\"error\",\"output\":\"No.\",\"error\":{\"type\":\"x\","
                                  "\"message\":\"long\"}"));
        stage_says(&s, SAYS("T5", "\\n\\nI am"));
        stage_says(&s, SAYS("T6", " "));
        stage_says(&s, SAYS("T7", "bo.\\n"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "begin " SESSION "/T2\ntext Let me\ntext  see.\nend " SESSION "/T2: Let me see.\n"
                          "tool started mcp_puffo_whoami: {\"a\":1}\ntool ended mcp_puffo_whoami: bo\n"
                          "tool started read_file: {}\ntool ended read_file with an error: No.\n"
                          "begin " SESSION "/T5\ntext I am\ntext  bo.\nend " SESSION "/T5: I am bo.\ndone\n");
        ASSERT_STREQ(s.session, SESSION);
        ASSERT_EQ(s.result.usage.input_tokens, 30);
        ASSERT_EQ(s.result.usage.cached_tokens, 12);
        ASSERT_EQ(s.result.usage.reasoning_tokens, 7);
        ASSERT_EQ(s.result.usage.output_tokens, 20);
        ASSERT_TRUE(s.result.started);
        ASSERT_FALSE(s.result.cost_known);
        ASSERT_EQ(s.n_progress, 12);
        stage_exits(&s);
        ASSERT_TRUE(s.exited);
}

TEST(signs_of_life_are_no_progress) {
        STAGE(s);
        stage_says(&s, INIT);
        stage_says(&s, "{\"type\":\"error\",\"severity\":\"warning\",\"message\":\"Trying again.\"}");
        stage_says(&s, "{\"type\":\"of another release\"}");
        stage_says(&s, "no json");
        stage_complains(&s, "Attempt 1 failed with status 429. Retrying with backoff...");
        ASSERT_EQ(s.n_progress, 1);
}

TEST(a_turn_without_text) {
        STAGE(s);
        stage_says(&s, INIT);
        stage_says(&s, SAYS("T2", " \\n"));
        stage_says(&s, USES("t1", "mcp_puffo_send_message", "[]"));
        stage_says(&s, USED("t1", "\"status\":\"success\""));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "tool started mcp_puffo_send_message: {}\ntool ended mcp_puffo_send_message: \ndone\n");
}

TEST(messages_of_one_moment) {
        STAGE(s);
        stage_says(&s, SAYS("T2", "a"));
        stage_says(&s, USES("t1", "x", "{}"));
        stage_says(&s, SAYS("T2", "b"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "begin /T2\ntext a\nend /T2: a\ntool started x: {}\n"
                          "begin /T2+\ntext b\nend /T2+: b\ndone\n");
}

TEST(the_prompt_is_its_input) {
        static const struct { const char *text, *prompt; } t[] = {
                { "hello", "hello" },
                { "-r latest\nb", "-r latest\nb" },
                { "/help me", "\n/help me" },
                { "// x", "\n// x" },
                { "a /help", "a /help" },
                /* Files and agents of the program's, and its users'. */
                { "see @notes.txt, @src and @/etc/passwd", "see \\@notes.txt, \\@src and \\@/etc/passwd" },
                { "\\@a \\\\@b", "\\@a \\\\@b" },
                { "@", "\\@" },
                { "@\"a b\"", "\\@\"a b\"" },
                { "mail bo@example.com", "mail bo\\@example.com" },
                { "@bo-1a2b: say, @an-agent-00ff.", "@bo-1a2b: say, @an-agent-00ff." },
                { "**@bo-1a2b**, @bo-1a2b's, @bo-1a2b.x", "**@bo-1a2b**, @bo-1a2b's, \\@bo-1a2b.x" },
                { "@bo-1a2b. @bo-1a2b./x @bo-1a2b../x", "@bo-1a2b. \\@bo-1a2b./x \\@bo-1a2b../x" },
                { "@bo-1a2b\" /../\"/../x \"@bo-1a2b\"", "\\@bo-1a2b\" /../\"/../x \"\\@bo-1a2b\"" },
                { "@bo-1a2b and (@an-agent-00ff)", "@bo-1a2b and (@an-agent-00ff)" },
                { "@bo-1a2b", "@bo-1a2b" },
                { "@bo-1a2b/x @-1a2b @bo-1A2b @bo-1a2g", "\\@bo-1a2b/x \\@-1a2b \\@bo-1A2b \\@bo-1a2g" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = NULL;

                STAGE_WITH(s, NULL);
                ASSERT_OK(harness_turn(s.harness, t[i].text));
                text = heard(&s);
                ASSERT_STREQ(text, t[i].prompt);
        }
}

TEST(a_long_prompt) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *text = NULL;

        STAGE_WITH(s, NULL);
        while (b.size < MIB(3))
                ASSERT_OK(strbuf_puts(&b, "All work and no play. "));
        ASSERT_OK(harness_turn(s.harness, b.text));
        text = heard(&s);
        ASSERT_TRUE(streq(text, b.text));
}

TEST(no_interrupt_and_no_second_turn_amid_it) {
        STAGE(s);
        ASSERT_ERROR(harness_interrupt(s.harness), EOPNOTSUPP);
        ASSERT_ERROR(harness_set_model(s.harness, "x"), EOPNOTSUPP);
        ASSERT_ERROR(harness_answer(s.harness, "x", true, NULL, NULL), EOPNOTSUPP);
        ASSERT_ERROR(harness_turn(s.harness, "again"), EBUSY);
}

/* Each as the program printed it. */
TEST(failures_of_the_endpoint) {
        static const struct { const char *error; HarnessOutcome outcome; long status; } t[] = {
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"code\\\":401,\\\"message\\\":"
                  "\\\"x\\\",\\\"status\\\":\\\"UNAUTHENTICATED\\\"}}]\"}", HARNESS_AUTH, 401 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"code\\\":403,\\\"message\\\":"
                  "\\\"x\\\",\\\"status\\\":\\\"PERMISSION_DENIED\\\"}}]\"}", HARNESS_AUTH, 403 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"code\\\":400,\\\"message\\\":"
                  "\\\"API key not valid. Please pass a valid API key.\\\",\\\"status\\\":\\\"INVALID_ARGUMENT\\\","
                  "\\\"details\\\":[{\\\"@type\\\":\\\"type.googleapis.com/google.rpc.ErrorInfo\\\","
                  "\\\"reason\\\":\\\"API_KEY_INVALID\\\"}]}}]\"}", HARNESS_AUTH, 400 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"code\\\":400,\\\"message\\\":"
                  "\\\"x\\\",\\\"status\\\":\\\"INVALID_ARGUMENT\\\"}}]\"}", HARNESS_ERROR, 400 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"code\\\":429,\\\"message\\\":"
                  "\\\"x\\\",\\\"status\\\":\\\"RESOURCE_EXHAUSTED\\\"}}]\\nPlease wait and try again later.\"}",
                  HARNESS_TRANSIENT, 429 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"code\\\":503,\\\"message\\\":"
                  "\\\"x\\\",\\\"status\\\":\\\"UNAVAILABLE\\\"}}]\"}", HARNESS_TRANSIENT, 503 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{\\\"status\\\":"
                  "\\\"INTERNAL\\\"}}]\"}", HARNESS_TRANSIENT, 0 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: {\\\"error\\\":{}}]\"}", HARNESS_ERROR, 0 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: scripted error 404]\"}", HARNESS_ERROR, 0 },
                { "{\"type\":\"unknown\",\"message\":\"[API Error: terminated]\"}", HARNESS_TRANSIENT, 0 },
                { "{\"type\":\"TypeError\",\"message\":\"[API Error: exception TypeError: fetch failed sending "
                  "request]\"}", HARNESS_TRANSIENT, 0 },
                { "{\"type\":\"TerminalQuotaError\",\"message\":\"[API Error: You have exhausted your daily quota on "
                  "this model.]\"}", HARNESS_TRANSIENT, 0 },
                { "{\"type\":\"FatalAuthenticationError\",\"message\":\"x\"}", HARNESS_AUTH, 0 },
                { "{\"type\":\"FatalInputError\",\"message\":\"x\"}", HARNESS_ERROR, 0 },
                { "{\"type\":\"FatalTurnLimitedError\",\"message\":\"Reached max session turns\"}",
                  HARNESS_MAX_TURNS, 0 },
                { "{\"type\":\"FatalCancellationError\",\"message\":\"Operation cancelled.\"}",
                  HARNESS_INTERRUPTED, 0 },
                { "{\"type\":\"no_space_left\",\"message\":\"x\"}", HARNESS_ERROR, 0 },
                { "\"words\"", HARNESS_ERROR, 0 }, { "null", HARNESS_ERROR, 0 }, { "{}", HARNESS_ERROR, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *line = asprintf_new(LINE("result", "T9", "\"status\":\"error\",\"error\":%s"),
                                                         t[i].error);

                STAGE(s);
                stage_says(&s, INIT);
                stage_says(&s, USER);
                stage_says(&s, SAYS("T2", "Hal"));
                stage_says(&s, line);
                ASSERT_TRUE(s.ended);
                ASSERT_EQ(s.result.outcome, t[i].outcome);
                ASSERT_EQ(s.result.http_status, t[i].status);
                /* It is taken out of the conversation again. */
                ASSERT_FALSE(s.result.started);
                ASSERT_NOT_NULL(strstr(s.record.text, "cancel " SESSION "/T2\n"));
        }
}

TEST(an_answer_that_is_none) {
        {
                STAGE(s);
                stage_says(&s, INIT);
                stage_says(&s, USES("t1", "x", "{}"));
                stage_says(&s, LINE("error", "T8", "\"severity\":\"warning\",\"message\":\"Loop detected\""));
                stage_says(&s, LINE("error", "T8", "\"severity\":\"error\",\"message\":\"The model response was "
                                                   "blocked due to safety settings.\""));
                stage_says(&s, LINE("result", "T9", "\"status\":\"error\"," STATS));
                ASSERT_RECORD(&s, "tool started x: {}\nwarning Loop detected\nwarning The model response was blocked "
                                  "due to safety settings.\nerror: The model response was blocked due to safety "
                                  "settings.\n");
                ASSERT_TRUE(s.result.started);
                ASSERT_EQ(s.result.usage.input_tokens, 30);
        }
        {
                STAGE(s);
                stage_says(&s, LINE("error", "T8", "\"severity\":\"error\",\"message\":\"Model stream ended without "
                                                   "a finish reason.\""));
                stage_says(&s, LINE("result", "T9", "\"status\":\"error\""));
                ASSERT_EQ(s.result.outcome, HARNESS_TRANSIENT);
        }
}

TEST(denied_calls) {
        STAGE(s);
        stage_says(&s, USES("t1", "run_shell_command", "{}"));
        stage_says(&s, USED("t1", "\"status\":\"error\",\"error\":{\"type\":\"policy_violation\","
                                  "\"message\":\"Tool execution denied by policy.\"}"));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "tool started run_shell_command: {}\ntool ended run_shell_command with an error: Tool "
                          "execution denied by policy.\ndone\n");
        ASSERT_EQ(s.result.n_denied, 1);
}

TEST(ends_without_a_result) {
        static const struct { const char *session, *complaint; HarnessOutcome outcome; long status; } t[] = {
                { NULL, NULL, HARNESS_GONE, 0 },
                { NULL, "FATAL ERROR: Reached heap limit Allocation failed", HARNESS_GONE, 0 },
                { NULL, "No input provided via stdin.", HARNESS_GONE, 0 },
                { NULL, "Unknown argument: nonsense\nUsage: gemini [options] [command]", HARNESS_ERROR, 0 },
                { NULL, "Please set an Auth method in your /x/settings.json or specify one of the following "
                        "environment variables before running: GEMINI_API_KEY", HARNESS_AUTH, 0 },
                { NULL, "Invalid auth method selected.", HARNESS_AUTH, 0 },
                { NULL, "No previous sessions found for this project.", HARNESS_GONE, 0 },
                { "", "Error resuming session: No previous sessions found for this project.", HARNESS_LOST_SESSION,
                  0 },
                { SESSION, "Error resuming session: No previous sessions found for this project.",
                  HARNESS_LOST_SESSION, 0 },
                { SESSION, "Error resuming session: Invalid session identifier \"x\".", HARNESS_LOST_SESSION, 0 },
                { SESSION, "Error resuming session: EACCES: permission denied", HARNESS_GONE, 0 },
                /* All of this with a conversation to go on with: it is kept. */
                { SESSION, "{\n  \"session_id\": \"x\",\n  \"error\": {\n    \"type\": \"Error\",\n    \"message\": "
                           "\"no\",\n    \"code\": 401\n  }\n}", HARNESS_AUTH, 401 },
                { SESSION, "text\n{\"error\":{\"code\":429}}\nmore\n{\"a\":{\"error\":7}}\n{\"error\":{\"type\":\"E\","
                           "\"message\":\"m\",\"code\":500}} ", HARNESS_TRANSIENT, 500 },
                { SESSION, "{\"error\":{\"type\":\"FatalAuthenticationError\",\"message\":\"m\",\"code\":41}}",
                  HARNESS_AUTH, 0 },
                { SESSION, "{\"error\":{\"type\":\"\",\"message\":\"m\",\"code\":42}}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":{\"message\":\"m\",\"code\":44}}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":{\"message\":\"m\",\"code\":52}}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":{\"message\":\"m\",\"code\":53}}", HARNESS_MAX_TURNS, 0 },
                { SESSION, "{\"error\":{\"message\":\"m\",\"code\":54}}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":{\"message\":\"m\",\"code\":55}}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":{\"message\":\"m\",\"code\":130}}", HARNESS_INTERRUPTED, 0 },
                { SESSION, "{\"error\":\"words\"}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":{}}", HARNESS_ERROR, 0 },
                { SESSION, "{\"error\":", HARNESS_GONE, 0 },
                { SESSION, "}{", HARNESS_GONE, 0 },
                { SESSION, "{\"other\":{}}", HARNESS_GONE, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                STAGE_WITH(s, t[i].session);
                ASSERT_OK(harness_turn(s.harness, "hello"));
                if (t[i].complaint)
                        stage_complains(&s, t[i].complaint);
                stage_exits(&s);
                ASSERT_TRUE(s.ended && s.exited);
                ASSERT_EQ(s.result.outcome, t[i].outcome);
                ASSERT_EQ(s.result.http_status, t[i].status);
                ASSERT_FALSE(s.result.started);
        }
}

/* The text is part of the conversation from then on, whatever is said on standard error. */
TEST(ends_amid_the_turn) {
        STAGE_WITH(s, SESSION);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_says(&s, INIT);
        stage_says(&s, USER);
        stage_says(&s, SAYS("T2", "Hal"));
        stage_complains(&s, "Error resuming session: No previous sessions found for this project.");
        stage_exits(&s);
        ASSERT_EQ(s.result.outcome, HARNESS_GONE);
        ASSERT_TRUE(s.result.started);
        ASSERT_NULL(s.session);
        ASSERT_NOT_NULL(strstr(s.record.text, "cancel " SESSION "/T2\ngone: Error resuming"));
}

TEST(a_new_conversation_after_all) {
        STAGE_WITH(s, "5c2e8f5e-0000-4000-8000-000000000001");
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_complains(&s, "No previous sessions found for this project.");
        stage_says(&s, INIT);
        stage_says(&s, USER);
        stage_says(&s, SAYS("T2", "Hi"));
        stage_says(&s, RESULT);
        ASSERT_STREQ(s.session, SESSION);
        ASSERT_EQ(s.result.outcome, HARNESS_DONE);
}

TEST(what_everybody_gets_to_see_on_standard_error) {
        STAGE(s);
        stage_complains(&s, "YOLO mode is enabled. All tool calls will be automatically approved.");
        stage_complains(&s, "Warning: 256-color support not detected.");
        stage_complains(&s, "    at async main (file:///x.js:1:1) {");
        stage_complains(&s, "Attempt 1 failed with status 429.");
        stage_complains(&s, "  status: 429");
        stage_complains(&s, "}");
        ASSERT_RECORD(&s, "warning Attempt 1 failed with status 429.\n");
}

static void take_over(Stage *s, const HarnessSetup *setup) {
        stage_run(s);
        s->harness = harness_free(s->harness);
        strbuf_done(&s->record);
        stage_start(s, setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s->harness, NULL));
}

/* A message that is not complete is still in the pipe, as a whole. */
TEST(taken_over) {
        static const struct { const char *before[3], *after[3]; const char *record; } t[] = {
                { { NULL }, { INIT, SAYS("T2", "Hi"), RESULT },
                  "begin " SESSION "/T2\ntext Hi\nend " SESSION "/T2: Hi\ndone\n" },
                { { INIT }, { USER, SAYS("T2", "Hi"), RESULT },
                  "begin " SESSION "/T2\ntext Hi\nend " SESSION "/T2: Hi\ndone\n" },
                { { INIT, USES("t1", "x", "{}") }, { USED("t1", "\"status\":\"success\""), SAYS("T2", "Hi"), RESULT },
                  "tool ended : \nbegin " SESSION "/T2\ntext Hi\nend " SESSION "/T2: Hi\ndone\n" },
                { { INIT, USER, SAYS("T2", "Hi") }, { SAYS("T3", " you"), RESULT },
                  "begin " SESSION "/T2\ntext Hi\ntext  you\nend " SESSION "/T2: Hi you\ndone\n" },
                { { INIT, USER, SAYS("T2", "Hi") }, { RESULT },
                  "begin " SESSION "/T2\ntext Hi\nend " SESSION "/T2: Hi\ndone\n" },
                { { INIT, USER, SAYS("T2", "Hi") }, { USES("t1", "x", "{}") },
                  "begin " SESSION "/T2\ntext Hi\nend " SESSION "/T2: Hi\ntool started x: {}\n" },
                { { INIT, USER, SAYS("T2", "Hi") }, { FAILED("{\"type\":\"FatalTurnLimitedError\"}") },
                  "begin " SESSION "/T2\ntext Hi\ncancel " SESSION "/T2\nmax-turns: FatalTurnLimitedError\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                STAGE_WITH(s, SESSION);
                ASSERT_OK(harness_turn(s.harness, "hello"));
                for (size_t j = 0; j < 3 && t[i].before[j]; j++)
                        stage_says(&s, t[i].before[j]);
                take_over(&s, &s_setup);
                for (size_t j = 0; j < 3 && t[i].after[j]; j++)
                        stage_says(&s, t[i].after[j]);
                ASSERT_RECORD(&s, t[i].record);
        }
}

/* A line that a handler did not take is told again, with the same id. */
TEST(the_same_line_again) {
        STAGE(s);
        stage_says(&s, INIT);
        s.fail_at = s.n_calls + 1;      /* on_text */
        stage_says(&s, SAYS("T2", "Hi"));
        ASSERT_TRUE(s.failed);
        ASSERT_RECORD(&s, "begin " SESSION "/T2\n");
        s.fail_at = -1;
        s.harness = harness_free(s.harness);
        s_setup.session_id = SESSION;
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "begin " SESSION "/T2\ntext Hi\nend " SESSION "/T2: Hi\ndone\n");
}

/* The pipe has no room for all of it, so that it was taken out: only where no text can be missing it goes on. */
TEST(taken_over_behind_a_long_message) {
        _cleanup_free_ char *piece = malloc(KIB(48)), *line = NULL;

        STAGE(s);
        ASSERT_NOT_NULL(piece);
        memset(piece, 'a', KIB(48) - 1);
        piece[KIB(48) - 1] = 0;
        line = asprintf_new(SAYS("T2", "%s"), piece);
        ASSERT_NOT_NULL(line);
        s.texts_only = true;
        stage_says(&s, INIT);
        ASSERT_EQ(s.n_drained, 0);
        for (unsigned i = 0; i < 16; i++)
                stage_says(&s, line);
        ASSERT_TRUE(s.n_drained > 0);
        take_over(&s, &s_setup);
        stage_says(&s, line);
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "gone\n");
}

TEST(freed_by_handlers) {
        {
                STAGE(s);
                s.free_at_text = true;
                stage_says(&s, SAYS("T2", "Hi"));
                ASSERT_NULL(s.harness);
        }
        {
                STAGE(s);
                s.free_at_end = true;
                stage_says(&s, SAYS("T2", "Hi"));
                stage_says(&s, RESULT);
                ASSERT_NULL(s.harness);
        }
}

TEST(members_of_any_type) {
        static const char *const types[] = { "init", "message", "tool_use", "tool_result", "error", "result", "x" };
        static const char *const members[] = {
                "timestamp", "session_id", "role", "content", "delta", "tool_name", "tool_id", "parameters", "status",
                "output", "error", "severity", "message", "stats",
        };
        static const char *const values[] = {
                "null", "true", "-1", "1e400", "99999999999999999999", "\"x\"", "\"\\u0000\"", "\"user\"",
                "\"assistant\"", "\"{\"", "\"}{\"", "[]", "[null,[],{}]", "{}", "{\"message\":7}",
                "{\"message\":\"[API Error: {}]\"}", "{\"message\":\"{\\\"error\\\":{\\\"details\\\":[7]}}\"}",
                "{\"total_tokens\":9223372036854775807,\"output_tokens\":9223372036854775807,\"cached\":-7}",
        };
        static const char base[] =
                "\"role\":\"assistant\",\"content\":\"y\",\"tool_id\":\"t\",\"tool_name\":\"n\"";

        for (size_t n = 0; n < 2; n++)
                for (size_t i = 0; i < ELEMENTSOF(types); i++)
                        for (size_t j = 0; j < ELEMENTSOF(members); j++)
                                for (size_t k = 0; k < ELEMENTSOF(values); k++) {
                                        _cleanup_free_ char *line = asprintf_new(
                                                "{\"type\":\"%s\"%s%s,\"%s\":%s}", types[i], n > 0 ? "," : "",
                                                n > 0 ? base : "", members[j], values[k]);

                                        STAGE(s);
                                        s.texts_only = true;
                                        stage_says(&s, line);
                                        ASSERT_FALSE(s.failed);
                                        stage_exits(&s);
                                        ASSERT_TRUE(s.ended && s.exited);
                                }
}

TEST(what_is_not_its_protocol) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        stage_says(&s, "garbage");
        stage_says(&s, "");
        stage_says(&s, "[]");
        ASSERT_RECORD(&s, "warning A line of its output is not JSON: garbage\n"
                          "warning A line of its output is not JSON: []\n");
        while (b.size < KIB(100))
                ASSERT_OK(strbuf_puts(&b, "more garbage "));
        stage_says(&s, b.text);
        ASSERT_TRUE(endswith(s.record.text, "protocol: A long line of its output is not JSON.\n"));
}

TEST(an_answer_without_an_end) {
        _cleanup_(strbuf_done) StrBuf b = {};

        STAGE(s);
        s.texts_only = true;
        ASSERT_OK(strbuf_puts(&b, "{\"type\":\"message\",\"timestamp\":\"T\",\"role\":\"assistant\",\"content\":\""));
        while (b.size < KIB(512))
                ASSERT_OK(strbuf_puts(&b, "All work and no play makes Jack a dull boy. "));
        ASSERT_OK(strbuf_puts(&b, "\"}"));
        for (unsigned i = 0; i < 40 && !s.ended; i++)
                stage_says(&s, b.text);
        ASSERT_RECORD(&s, "protocol\n");
}

TEST(calls_without_an_end) {
        STAGE(s);
        s.texts_only = true;
        for (unsigned i = 0; i < 3000; i++) {
                _cleanup_free_ char *call = asprintf_new("{\"type\":\"tool_use\",\"tool_id\":\"t%u\",\"tool_name\":"
                                                         "\"x\"}", i);

                stage_says(&s, call);
        }
        ASSERT_EQ(s.n_tools, 3000);
        stage_says(&s, RESULT);
        ASSERT_RECORD(&s, "done\n");
}

TEST_MAIN();
