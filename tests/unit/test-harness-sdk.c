/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-sdk"

#include "harness-fixture.h"

static HarnessSetup sdk_setup(void) {
        static const char *const tools[] = { "Bash(echo *)", "Read", NULL };
        HarnessSetup setup = stage_setup(HARNESS_CLAUDE_SDK);

        setup.system_prompt = "You are \"it\".\n";
        setup.puffo_tools = true;
        setup.allowed_tools = (char *const*) tools;
        return setup;
}

#define STAGE(s) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = sdk_setup(); \
        stage_begin(&s, &s##_setup)

/* The inner response to what is said, as text. */
static char* answer_to(Stage *s, const char *line) {
        _cleanup_json_ json_object *o = NULL;
        json_object *response;

        stage_says(s, line);
        o = stage_hears_json(s);
        if (!o)
                return strdup("nothing");
        ASSERT_STREQ(json_get_string(o, "type"), "control_response");
        response = json_get(o, "response");
        ASSERT_STREQ(json_get_string(response, "request_id"), "q");
        return strdup(json_get_string(response, "error") ?: json_text(json_get(response, "response"), NULL));
}

#define ASSERT_ANSWER(s, line, expected) ({ \
        _cleanup_free_ char *_answer = answer_to(s, line); \
        ASSERT_STREQ(_answer, expected); })

#define REQUEST(request) "{\"type\":\"control_request\",\"request_id\":\"q\",\"request\":" request "}"
#define ASK(tool, input) REQUEST("{\"subtype\":\"can_use_tool\",\"tool_name\":\"" tool "\",\"input\":" input "}")
#define HOOK(tool, input) \
        REQUEST("{\"subtype\":\"hook_callback\",\"callback_id\":\"gate\",\"input\":{\"hook_event_name\":\"" \
        "PreToolUse\"," \
                "\"tool_name\":\"" tool "\",\"tool_input\":" input "}}")
#define REFUSED(tool) \
        "Tool " tool " is not allowed to be called like this. Allowed are: mcp__puffo__*, Bash(echo *), Read"

TEST(the_beginning) {
        _cleanup_json_ json_object *initialize = NULL, *line = NULL;
        _cleanup_free_ char *launch = NULL;
        json_object *request;

        STAGE(s);
        /* Nothing comes before the launch. */
        ASSERT_NULL(stage_hears(&s));
        ASSERT_OK(harness_send_launch(s.take[0], "{}\n"));
        ASSERT_OK(harness_turn(s.harness, "hello"));
        free(stage_hears(&s));
        launch = stage_hears(&s);
        ASSERT_STREQ(launch, "{}");

        initialize = stage_hears_json(&s);
        request = json_get(initialize, "request");
        ASSERT_STREQ(json_get_string(initialize, "type"), "control_request");
        ASSERT_STREQ(json_text(request, NULL), "{\"subtype\":\"initialize\",\"systemPrompt\":[\"You are \\\"it\\\".\\"
                                               "n\"],"
                     "\"sdkMcpServers\":[\"puffo\"],\"hooks\":{\"PreToolUse\":[{\"hookCallbackIds\":[\"gate\"]}]}}");
        line = stage_hears_json(&s);
        ASSERT_STREQ(json_get_string(line, "type"), "user");
        ASSERT_STREQ(json_get_string(json_get(line, "message"), "content"), "hello");
}

TEST(the_gate) {
        STAGE(s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_listen(&s);
        strbuf_done(&s.written);

        ASSERT_ANSWER(&s, ASK("Bash", "{\"command\":\"echo x\"}"),
                      "{\"behavior\":\"allow\",\"updatedInput\":{\"command\":\"echo x\"}}");
        ASSERT_ANSWER(&s, ASK("Bash", "{\"command\":\"rm x\"}"), "{\"behavior\":\"deny\",\"message\":\""
                              REFUSED("Bash") "\"}");
        ASSERT_ANSWER(&s, ASK("mcp__puffo__send_message", "{}"), "{\"behavior\":\"allow\",\"updatedInput\":{}}");
        ASSERT_ANSWER(&s, ASK("Write", "7"), "{\"behavior\":\"deny\",\"message\":\"" REFUSED("Write") "\"}");
        ASSERT_ANSWER(&s, REQUEST("{\"subtype\":\"can_use_tool\"}"),
                      "{\"behavior\":\"deny\",\"message\":\"" REFUSED("") "\"}");

        ASSERT_ANSWER(&s, HOOK("Read", "{\"file_path\":\"/x\"}"),
                      "{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\",\"permissionDecision\":\"allow\"}}");
        ASSERT_ANSWER(&s, HOOK("Glob", "{}"),
                      "{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\",\"permissionDecision\":\"deny\","
                      "\"permissionDecisionReason\":\"" REFUSED("Glob") "\"}}");
        ASSERT_ANSWER(&s, REQUEST("{\"subtype\":\"hook_callback\",\"callback_id\":\"other\"}"), "There is no such "
                                  "callback.");
        ASSERT_EQ(s.n_asks, 0);
}

TEST(tools_over_the_pipe) {
        STAGE(s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_listen(&s);
        strbuf_done(&s.written);

        ASSERT_ANSWER(&s, REQUEST("{\"subtype\":\"mcp_message\",\"server_name\":\"other\",\"message\":{}}"),
                      "There is no such MCP server.");
        ASSERT_ANSWER(&s, REQUEST("{\"subtype\":\"mcp_message\",\"server_name\":\"puffo\",\"message\":[]}"),
                      "This is no JSON-RPC message.");
        ASSERT_ANSWER(&s, REQUEST("{\"subtype\":\"mcp_message\",\"server_name\":\"puffo\",\"message\":{\"id\":1}}"),
                                  "nothing");
        ASSERT_RECORD(&s, "mcp {\"id\":1}\n");
        ASSERT_ERROR(harness_mcp_reply(s.harness, "q", "no json"), EINVAL);
        ASSERT_OK(harness_mcp_reply(s.harness, s.mcp, "{\"id\":1,\"result\":{}}"));
        ASSERT_ANSWER(&s, "{}", "{\"mcp_response\":{\"id\":1,\"result\":{}}}");
        ASSERT_OK(harness_mcp_reply(s.harness, "q", NULL));
        ASSERT_ANSWER(&s, "{}", "{\"mcp_response\":{\"jsonrpc\":\"2.0\",\"result\":{},\"id\":0}}");
}

TEST(the_end) {
        char c;

        STAGE(s);
        s.take[0] = safe_close(s.take[0]);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_says(&s, "{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\""
                       "5c2e8f5e-0000-4000-8000-000000000001\","
                       "\"mcp_servers\":[{\"name\":\"puffo\",\"status\":\"connected\"}]}");
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"error_max_turns\",\"is_error\":true,\"errors\":[\"10 "
                       "turns\"]}");
        ASSERT_RECORD(&s, "max-turns: 10 turns\n");
        /* It is asked to go, and its conversation is of no use to anybody. */
        stage_listen(&s);
        ASSERT_EQ(read(s.input, &c, 1), 0);
        ASSERT_NULL(s.session);
        stage_exits(&s);
        ASSERT_TRUE(s.exited);
}

TEST(a_beginning_that_is_refused) {
        _cleanup_json_ json_object *initialize = NULL;
        _cleanup_free_ char *line = NULL;

        STAGE(s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        initialize = stage_hears_json(&s);
        line = asprintf_new("{\"type\":\"control_response\",\"response\":{\"subtype\":\"error\",\"request_id\":\"%s\","
                            "\"error\":\"No such thing\"}}", json_get_string(initialize, "request_id"));
        stage_says(&s, line);
        ASSERT_RECORD(&s, "warning A request was refused: No such thing\nerror: No such thing\n");
}

/* A later process answers in the place of the first: what it was told is still true. */
TEST(taken_over) {
        _cleanup_free_ char *line = NULL;

        STAGE(s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        stage_listen(&s);
        strbuf_done(&s.written);
        s.harness = harness_free(s.harness);
        stage_write(&s, s.output, ASK("Bash", "{\"command\":\"echo x\"}") "\n",
                    strlen(ASK("Bash", "{\"command\":\"echo x\"}") "\n"));

        s_setup.puffo_tools = false;            /* they are not there yet */
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        line = stage_hears(&s);
        ASSERT_STREQ(line, "");
        ASSERT_ANSWER(&s, "{}", "{\"behavior\":\"allow\",\"updatedInput\":{\"command\":\"echo x\"}}");
        ASSERT_ANSWER(&s, HOOK("Glob", "{}"),
                      "{\"hookSpecificOutput\":{\"hookEventName\":\"PreToolUse\",\"permissionDecision\":\"deny\","
                      "\"permissionDecisionReason\":\"" REFUSED("Glob") "\"}}");
        ASSERT_ANSWER(&s, REQUEST("{\"subtype\":\"mcp_message\",\"server_name\":\"puffo\",\"message\":{\"id\":1}}"),
                                  "nothing");
        ASSERT_RECORD(&s, "mcp {\"id\":1}\n");
        ASSERT_TRUE(harness_has_written(s.harness));
        stage_says(&s, "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"uuid\":\"r\",\"result\":\"x\"}");
        ASSERT_TRUE(s.ended);
}

/* … or tells it all again. */
TEST(told_again) {
        static const char name[] = "5c2e8f5e-0000-4000-8000-000000000002";
        _cleanup_json_ json_object *initialize = NULL, *line = NULL;
        _cleanup_free_ char *first = NULL, *second = NULL;

        STAGE(s);
        s.harness = harness_free(s.harness);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_name_turn(s.harness, name));
        ASSERT_OK(harness_turn_again(s.harness, "hello", NULL));
        first = stage_hears(&s);
        second = stage_hears(&s);
        ASSERT_STREQ(first, "");
        ASSERT_STREQ(second, "");
        initialize = stage_hears_json(&s);
        ASSERT_STREQ(json_get_string(json_get(initialize, "request"), "subtype"), "initialize");
        line = stage_hears_json(&s);
        ASSERT_STREQ(json_get_string(line, "uuid"), name);
        ASSERT_STREQ(json_get_string(json_get(line, "message"), "content"), "hello");
}

TEST_MAIN();
