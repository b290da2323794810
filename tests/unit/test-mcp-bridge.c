/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "mcp-bridge"

#include "json-util.h"
#include "mcp-bridge.h"
#include "tests.h"

#define MESSAGE(rest) "{\"jsonrpc\":\"2.0\"," rest "}\n"
#define REQUEST(id, method) MESSAGE("\"id\":" id ",\"method\":\"" method "\"")
#define NOTIFICATION(method) MESSAGE("\"method\":\"" method "\"")
#define RESULT(id) MESSAGE("\"id\":" id ",\"result\":{}")
#define INITIALIZE MESSAGE("\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\"}")
#define INITIALIZED NOTIFICATION("notifications/initialized")

static const char* take(BridgeOutput *o) {
        static char text[KIB(8)];
        size_t n = bridge_output_size(o);

        assert_true(n < sizeof(text));
        if (n > 0)
                memcpy(text, o->text.text + o->begin, n);
        text[n] = 0;
        bridge_output_consume(o, n);
        return text;
}

#define ASSERT_SESSION_GETS(b, expected) ASSERT_STREQ(take(mcp_bridge_to_session(b)), expected)
#define ASSERT_CLIENT_GETS(b, expected) ASSERT_STREQ(take(mcp_bridge_to_client(b)), expected)
#define CLIENT(b, text) ASSERT_OK(mcp_bridge_from_client(b, text, strlen(text)))
#define SESSION(b, text) ASSERT_EQ(mcp_bridge_from_session(b, text, strlen(text)), 1)
#define BRIDGE(b) \
        _cleanup_(mcp_bridge_freep) McpBridge *b = NULL; \
        ASSERT_OK(mcp_bridge_new(&b))

/* A connection whose client has introduced itself. */
static void introduce(McpBridge *b) {
        ASSERT_OK(mcp_bridge_on_connected(b));
        CLIENT(b, INITIALIZE);
        ASSERT_SESSION_GETS(b, INITIALIZE);
        SESSION(b, RESULT("0"));
        ASSERT_CLIENT_GETS(b, RESULT("0"));
        CLIENT(b, INITIALIZED);
        ASSERT_SESSION_GETS(b, INITIALIZED);
        ASSERT_FALSE(mcp_bridge_is_waiting(b));
}

/* What the session is asked by the bridge itself: the id of its own. */
static char* take_introduction(McpBridge *b) {
        _cleanup_json_ json_object *m = NULL;
        const char *text = take(mcp_bridge_to_session(b));

        ASSERT_OK(json_parse(text, strlen(text), &m));
        ASSERT_STREQ(json_get_string(m, "method"), "initialize");
        ASSERT_STREQ(json_get_string(json_get(m, "params"), "protocolVersion"), "2025-11-25");
        ASSERT_NOT_NULL(startswith(json_get_string(m, "id"), "puffo-mcp-"));
        return strdup(json_get_string(m, "id"));
}

static void answer_introduction(McpBridge *b) {
        _cleanup_free_ char *id = take_introduction(b), *line = strjoin("{\"jsonrpc\":\"2.0\",\"id\":\"", id,
                                                                      "\",\"result\":{}}\n");

        SESSION(b, line);
}

TEST(lines_are_handed_on_as_they_are) {
        BRIDGE(b);

        introduce(b);
        CLIENT(b, " {\"method\" : \"tools/list\", \"id\":\"x\",\"jsonrpc\":\"2.0\"}\r\n\n");
        ASSERT_SESSION_GETS(b, " {\"method\" : \"tools/list\", \"id\":\"x\",\"jsonrpc\":\"2.0\"}\n");
        ASSERT_TRUE(mcp_bridge_is_waiting(b));
        SESSION(b, "{ \"id\":\"x\",\"result\":{\"tools\":[]},\"jsonrpc\":\"2.0\"}\n");
        ASSERT_CLIENT_GETS(b, "{ \"id\":\"x\",\"result\":{\"tools\":[]},\"jsonrpc\":\"2.0\"}\n");
        ASSERT_FALSE(mcp_bridge_is_waiting(b));
        SESSION(b, NOTIFICATION("notifications/progress") REQUEST("7", "ping"));
        ASSERT_CLIENT_GETS(b, NOTIFICATION("notifications/progress") REQUEST("7", "ping"));
        CLIENT(b, RESULT("7"));
        ASSERT_SESSION_GETS(b, RESULT("7"));
}

TEST(pieces) {
        static const char text[] = REQUEST("1", "a") REQUEST("2", "b");
        BRIDGE(b);

        introduce(b);
        for (const char *p = text; *p; p++)
                ASSERT_OK(mcp_bridge_from_client(b, p, 1));
        ASSERT_SESSION_GETS(b, text);
        ASSERT_EQ(mcp_bridge_from_session(b, "{\"id\":1,", 8), 0);
        ASSERT_CLIENT_GETS(b, "");
        SESSION(b, "\"result\":2}\n{");
        ASSERT_CLIENT_GETS(b, "{\"id\":1,\"result\":2}\n");
}

TEST(before_the_first_connection) {
        BRIDGE(b);

        CLIENT(b, INITIALIZE);
        ASSERT_TRUE(mcp_bridge_is_waiting(b));
        ASSERT_SESSION_GETS(b, "");
        ASSERT_OK(mcp_bridge_on_connected(b));
        ASSERT_SESSION_GETS(b, INITIALIZE);
        /* It ends before it has answered: nobody was introduced yet, and nothing is made up. */
        ASSERT_OK(mcp_bridge_on_disconnected(b));
        ASSERT_OK(mcp_bridge_on_connected(b));
        ASSERT_SESSION_GETS(b, INITIALIZE);
        SESSION(b, RESULT("0"));
        ASSERT_CLIENT_GETS(b, RESULT("0"));
}

TEST(requests_are_sent_again) {
        BRIDGE(b);

        introduce(b);
        CLIENT(b, REQUEST("1", "a") REQUEST("2", "b"));
        ASSERT_SESSION_GETS(b, REQUEST("1", "a") REQUEST("2", "b"));
        SESSION(b, RESULT("1") "{\"id\":2,\"resu");
        ASSERT_CLIENT_GETS(b, RESULT("1"));

        ASSERT_OK(mcp_bridge_on_disconnected(b));
        ASSERT_CLIENT_GETS(b, "");
        CLIENT(b, REQUEST("\"3\"", "c"));
        ASSERT_OK(mcp_bridge_on_connected(b));
        answer_introduction(b);
        ASSERT_SESSION_GETS(b, INITIALIZED REQUEST("2", "b") REQUEST("\"3\"", "c"));
        ASSERT_CLIENT_GETS(b, "");
        SESSION(b, RESULT("\"3\"") RESULT("2"));
        ASSERT_CLIENT_GETS(b, RESULT("\"3\"") RESULT("2"));
        ASSERT_FALSE(mcp_bridge_is_waiting(b));
}

TEST(requests_wait_for_the_introduction) {
        _cleanup_free_ char *id = NULL, *line = NULL;
        BRIDGE(b);

        introduce(b);
        ASSERT_OK(mcp_bridge_on_disconnected(b));
        ASSERT_OK(mcp_bridge_on_connected(b));
        id = take_introduction(b);
        CLIENT(b, REQUEST("1", "a") NOTIFICATION("notifications/x"));
        ASSERT_SESSION_GETS(b, "");
        line = strjoin("{\"jsonrpc\":\"2.0\",\"id\":\"", id, "\",\"result\":{}}\n");
        SESSION(b, line);
        ASSERT_SESSION_GETS(b, INITIALIZED REQUEST("1", "a"));
        /* Once more it is nobody's, and the client's to judge. */
        SESSION(b, line);
        ASSERT_CLIENT_GETS(b, line);
}

TEST(a_session_that_knows_nobody) {
        _cleanup_free_ char *id = NULL, *line = NULL;
        BRIDGE(b);

        introduce(b);
        ASSERT_OK(mcp_bridge_on_disconnected(b));
        ASSERT_OK(mcp_bridge_on_connected(b));
        id = take_introduction(b);
        line = strjoin("{\"jsonrpc\":\"2.0\",\"id\":\"", id, "\",\"error\":{\"code\":-1,\"message\":\"no\"}}\n");
        ASSERT_ERROR(mcp_bridge_from_session(b, line, strlen(line)), EPROTO);
        ASSERT_CLIENT_GETS(b, "");
}

TEST(cancelled_requests_are_not_sent_again) {
        BRIDGE(b);

        introduce(b);
        CLIENT(b, REQUEST("1", "a") REQUEST("\"1\"", "b"));
        (void) take(mcp_bridge_to_session(b));
        CLIENT(b, MESSAGE("\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}"));
        ASSERT_SESSION_GETS(b, MESSAGE("\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}"));
        ASSERT_OK(mcp_bridge_on_disconnected(b));
        CLIENT(b, REQUEST("5", "c"));
        CLIENT(b, MESSAGE("\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":5}"));
        ASSERT_OK(mcp_bridge_on_connected(b));
        answer_introduction(b);
        ASSERT_SESSION_GETS(b, INITIALIZED REQUEST("\"1\"", "b"));
}

#define ERROR(id, code, message) \
        MESSAGE("\"id\":" id ",\"error\":{\"code\":" code ",\"message\":\"" message "\"}")

TEST(a_request_that_ends_sessions) {
        BRIDGE(b);

        introduce(b);
        CLIENT(b, REQUEST("1", "poison"));
        for (unsigned i = 1; i < BRIDGE_SENDS_MAX; i++) {
                (void) take(mcp_bridge_to_session(b));
                ASSERT_OK(mcp_bridge_on_disconnected(b));
                ASSERT_CLIENT_GETS(b, "");
                ASSERT_OK(mcp_bridge_on_connected(b));
                answer_introduction(b);
                ASSERT_SESSION_GETS(b, INITIALIZED REQUEST("1", "poison"));
        }
        CLIENT(b, REQUEST("2", "harmless"));
        ASSERT_OK(mcp_bridge_on_disconnected(b));
        ASSERT_CLIENT_GETS(b, ERROR("1", "-32000", "The agent's session ended each time it was asked this"));
        ASSERT_TRUE(mcp_bridge_is_waiting(b));
}

TEST(giving_up) {
        BRIDGE(b);

        CLIENT(b, INITIALIZE REQUEST("\"a\"", "ping"));
        ASSERT_OK(mcp_bridge_give_up(b, "Connection refused"));
        ASSERT_CLIENT_GETS(b, ERROR("0", "-32000", "The agent's session cannot be reached: Connection refused")
                           ERROR("\"a\"", "-32000", "The agent's session cannot be reached: Connection refused"));
        ASSERT_FALSE(mcp_bridge_is_waiting(b));
        /* The next one is tried again. */
        introduce(b);
}

#define CALL(rest) MESSAGE("\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"t\"" rest "}")

TEST(calls_have_a_name) {
        static const char *const named[] = {
                CALL(",\"_meta\":{\"claudecode/toolUseId\":\"toolu_1\"}"),
                CALL(",\"_meta\":{\"claudecode/toolUseId\":7}"),
                CALL(",\"_meta\":[]"),
        };
        static const char *const unnamed[] = { CALL(""), CALL(",\"_meta\":{\"progressToken\":1}"), CALL(",\"_meta\":null") };
        BRIDGE(b);

        introduce(b);
        for (size_t i = 0; i < ELEMENTSOF(named); i++) {
                CLIENT(b, named[i]);
                ASSERT_SESSION_GETS(b, named[i]);
        }
        for (size_t i = 0; i < ELEMENTSOF(unnamed); i++) {
                _cleanup_json_ json_object *m = NULL;
                _cleanup_free_ char *first = NULL;
                json_object *params;
                const char *text;

                CLIENT(b, unnamed[i]);
                first = strdup(take(mcp_bridge_to_session(b)));
                ASSERT_OK(json_parse(first, strlen(first), &m));
                params = json_get(m, "params");
                ASSERT_STREQ(json_get_string(params, "name"), "t");
                text = json_get_string(json_get(params, "_meta"), "claudecode/toolUseId");
                ASSERT_NOT_NULL(startswith(text, "puffo-mcp-"));
                ASSERT_EQ(text[strlen(text) - 1], '0' + (char) i);
                if (i == 1)
                        ASSERT_EQ(json_get_int(json_get(params, "_meta"), "progressToken", 0), 1);
        }
        /* It is the same when it is sent again. */
        ASSERT_OK(mcp_bridge_on_disconnected(b));
        ASSERT_OK(mcp_bridge_on_connected(b));
        answer_introduction(b);
        ASSERT_NOT_NULL(strstr(take(mcp_bridge_to_session(b)), "-0\"}"));
}

TEST(what_is_no_request) {
        BRIDGE(b);

        /* Nobody else could answer. */
        CLIENT(b, "{\n[]\n{\"id\":4}\n");
        ASSERT_CLIENT_GETS(b, ERROR("null", "-32700", "Parse error") ERROR("null", "-32600", "This is no request")
                           ERROR("4", "-32600", "This is no request"));
        introduce(b);
        CLIENT(b, "{\n[]\n{\"id\":4}\n");
        ASSERT_CLIENT_GETS(b, ERROR("null", "-32700", "Parse error"));
        ASSERT_SESSION_GETS(b, "[]\n{\"id\":4}\n");
        SESSION(b, "garbage\n");
        ASSERT_CLIENT_GETS(b, "garbage\n");
}

TEST(too_many_requests) {
        BRIDGE(b);

        for (unsigned i = 0; i < 256; i++) {
                _cleanup_free_ char *line = asprintf_new(REQUEST("%u", "a"), i);

                CLIENT(b, line);
        }
        ASSERT_CLIENT_GETS(b, "");
        CLIENT(b, REQUEST("256", "a"));
        ASSERT_CLIENT_GETS(b, ERROR("256", "-32000", "Too many requests at once"));
}

TEST(long_lines) {
        _cleanup_free_ char *line = malloc(BRIDGE_LINE_MAX + 2);
        BRIDGE(b);

        introduce(b);
        memset(line, ' ', BRIDGE_LINE_MAX);
        memcpy(line, REQUEST("1", "a"), strlen(REQUEST("1", "a")) - 1);
        strcpy(line + BRIDGE_LINE_MAX, "\n");
        CLIENT(b, line);
        ASSERT_EQ(bridge_output_size(mcp_bridge_to_session(b)), BRIDGE_LINE_MAX + 1);
        bridge_output_consume(mcp_bridge_to_session(b), BRIDGE_LINE_MAX + 1);

        /* The end of one that is too long is where the next one begins, however it comes. */
        for (size_t piece = KIB(64); piece <= 2 * BRIDGE_LINE_MAX; piece += 2 * BRIDGE_LINE_MAX - KIB(64)) {
                memset(line, 'x', BRIDGE_LINE_MAX + 1);
                for (size_t at = 0, n; at <= BRIDGE_LINE_MAX; at += n) {
                        n = MIN(piece, BRIDGE_LINE_MAX + 1 - at);
                        ASSERT_OK(mcp_bridge_from_client(b, line + at, n));
                }
                CLIENT(b, "y\n" REQUEST("2", "b"));
                ASSERT_CLIENT_GETS(b, ERROR("null", "-32600", "The line is too long"));
                ASSERT_SESSION_GETS(b, REQUEST("2", "b"));
        }
        memset(line, 'x', BRIDGE_LINE_MAX + 1);
        ASSERT_ERROR(mcp_bridge_from_session(b, line, BRIDGE_LINE_MAX + 1), EPROTO);
}

TEST_MAIN();
