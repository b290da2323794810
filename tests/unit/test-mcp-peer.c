/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "mcp-peer"

#include "config.h"
#include "mcp-peer.h"
#include "tool-fixture.h"

typedef struct Desk {
        Bench bench;
        McpPeer *peer;
        StrBuf output;
} Desk;

static void desk_write(const char *line, size_t size, void *userdata) {
        ASSERT_TRUE(size > 1 && line[size - 1] == '\n' && !memchr(line, '\n', size - 1));
        ASSERT_OK(strbuf_append(&((Desk*) userdata)->output, line, size));
}

static void desk_begin(Desk *d) {
        bench_begin(&d->bench);
        d->output = (StrBuf) {};
        ASSERT_OK(mcp_peer_new(&d->peer, &(McpPeerSpec) { d->bench.box, desk_write, d }));
}

static void desk_end(Desk *d) {
        mcp_peer_free(d->peer);
        strbuf_done(&d->output);
        bench_end(&d->bench);
}

#define DESK(d) \
        _cleanup_(desk_end) Desk d; \
        desk_begin(&d)

static int feed(Desk *d, const char *text) {
        int r;

        strbuf_done(&d->output);
        r = mcp_peer_feed(d->peer, text, strlen(text));
        fake_run(d->bench.event);
        return r;
}

#define ASSERT_SAYS(d, input, expected) ({ \
        ASSERT_OK(feed(d, input "\n")); \
        ASSERT_STREQ(strempty((d)->output.text), expected); })

#define ERROR(id, code, message) \
        "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"error\":{\"code\":" code ",\"message\":\"" message "\"}}\n"
#define RESULT(id, result) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":" result "}\n"
#define TEXT(text, is_error) "{\"content\":[{\"type\":\"text\",\"text\":\"" text "\"}],\"isError\":" is_error "}"

static void initialize(Desk *d, const char *revision) {
        _cleanup_free_ char *line = asprintf_new("{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{"
                                                 "\"protocolVersion\":\"%s\",\"capabilities\":{},\"clientInfo\":{}}}\n"
                                                 "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n",
                                                 revision);

        ASSERT_OK(feed(d, line));
}

TEST(revisions) {
        static const char *const t[][2] = {
                { "2024-11-05", "2024-11-05" }, { "2025-03-26", "2025-03-26" }, { "2025-06-18", "2025-06-18" },
                { "2025-11-25", "2025-11-25" }, { "2999-01-01", "2025-11-25" }, { "", "2025-11-25" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                DESK(d);
                _cleanup_free_ char *expected = NULL;

                initialize(&d, t[i][0]);
                expected = strjoin("{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"capabilities\":{\"tools\":{}},"
                                   "\"serverInfo\":"
                                   "{\"name\":\"puffo-core\",\"version\":\"" PROJECT_VERSION "\"},\"protocolVersion\":\"",
                                   t[i][1], "\"}}\n");
                ASSERT_STREQ(d.output.text, expected);
                ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\","
                                "\"params\":{\"protocolVersion\":"
                            "\"2025-06-18\"}}", ERROR("1", "-32600", "Already initialized"));
        }
}

TEST(before_the_beginning) {
        DESK(d);

        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"tools/list\"}",
                    ERROR("\"a\"", "-32600", "Not initialized"));
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":\"a\",\"method\":\"ping\"}", RESULT("\"a\"", "{}"));
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"initialize\"}",
                    ERROR("1", "-32602", "protocolVersion is required"));
}

TEST(lines_that_are_no_messages) {
        static const struct { const char *line, *answer; } t[] = {
                { "{", ERROR("null", "-32700", "Parse error") },
                { "\xff", ERROR("null", "-32700", "Parse error") },
                { "{} {}", ERROR("null", "-32700", "Parse error") },
                { "", "" },
                { "\r", "" },
                { "7", ERROR("null", "-32600", "A message is an object") },
                { "null", ERROR("null", "-32600", "A message is an object") },
                { "[]", ERROR("null", "-32600", "Batches are not part of this revision of the protocol") },
                { "{}", ERROR("null", "-32600", "jsonrpc must be \\\"2.0\\\"") },
                { "{\"jsonrpc\":\"1.0\",\"id\":1,\"method\":\"ping\"}",
                  ERROR("1", "-32600", "jsonrpc must be \\\"2.0\\\"") },
                { "{\"jsonrpc\":\"2.0\",\"id\":1}", ERROR("1", "-32600", "method is required") },
                { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":7}", ERROR("1", "-32600", "method is required") },
                { "{\"jsonrpc\":\"2.0\",\"id\":null,\"method\":\"ping\"}",
                  ERROR("null", "-32600", "An id is a number or a string") },
                { "{\"jsonrpc\":\"2.0\",\"id\":{},\"method\":\"ping\"}",
                  ERROR("null", "-32600", "An id is a number or a string") },
                { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":[]}",
                  ERROR("1", "-32602", "params must be an object") },
                { "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"resources/list\"}", ERROR("1", "-32601", "Method not "
                                                                                             "found") },
                { "{\"jsonrpc\":\"2.0\",\"method\":\"no/such\"}", "" },
                { "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\"}", "" },
                { "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":9}}", "" },
                { "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", "" },
                { "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{}}", "" },
                { "{\"jsonrpc\":\"2.0\",\"id\":1.5,\"method\":\"ping\"}\r", RESULT("1.5", "{}") },
                { "{\"jsonrpc\":\"2.0\",\"id\":-3,\"method\":\"ping\"}", RESULT("-3", "{}") },
        };
        DESK(d);

        initialize(&d, "2025-06-18");
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *line = strjoin(t[i].line, "\n");

                ASSERT_OK(feed(&d, line));
                ASSERT_STREQ(strempty(d.output.text), t[i].answer);
        }
}

TEST(the_list) {
        _cleanup_json_ json_object *answer = NULL;
        json_object *tools;
        const Tool *table;
        size_t n;
        DESK(d);

        initialize(&d, "2025-11-25");
        ASSERT_OK(feed(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{}}\n"));
        ASSERT_OK(json_parse(d.output.text, d.output.size, &answer));
        tools = json_get(json_get(answer, "result"), "tools");
        table = tools_all(&n);
        /* All but the two of who has others work for him. */
        n -= 2;
        ASSERT_EQ(json_object_array_length(tools), n);
        for (size_t i = 0; i < n; i++) {
                json_object *t = json_object_array_get_idx(tools, i);

                ASSERT_STREQ(json_get_string(t, "name"), table[i].name);
                ASSERT_STREQ(json_get_string(t, "description"), table[i].description);
                ASSERT_STREQ(json_get_string(json_get(t, "inputSchema"), "type"), "object");
        }
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\",\"params\":{\"cursor\":\"x\"}}",
                    ERROR("1", "-32602", "Unknown cursor"));
}

#define CALL(id, name, arguments) \
        "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"tools/call\",\"params\":{\"name\":\"" name "\",\"arguments\":" \
        arguments "}}"

TEST(calls) {
        _cleanup_free_ char *flags = NULL;
        DESK(d);

        initialize(&d, "2025-06-18");
        ASSERT_SAYS(&d, CALL("1", "list_skills", "{}"), RESULT("1", TEXT("(no skills installed)", "false")));
        ASSERT_SAYS(&d, CALL("1", "get_post", "{}"),
                    RESULT("1", TEXT("Error executing tool get_post: post_ref is required", "true")));
        ASSERT_SAYS(&d, CALL("1", "get_post", "{\"post_ref\":\"a\\u2028\"}"),
                    RESULT("1", TEXT("message a    not found in local storage", "false")));
        ASSERT_SAYS(&d, CALL("1", "no\\nsuch", "{}"), ERROR("1", "-32602", "Unknown tool: no?such"));
        ASSERT_SAYS(&d, CALL("1", "list_skills", "[]"), ERROR("1", "-32602", "arguments must be an object"));
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\","
                        "\"params\":{\"name\":\"list_skills\"}}",
                    RESULT("1", TEXT("(no skills installed)", "false")));
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\"}",
                    ERROR("1", "-32602", "name is required"));
        /* One without an id is no call. */
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"method\":\"tools/call\",\"params\":{\"name\":\"refresh\"}}", "");
        flags = path_join(d.bench.workspace, ".puffo-agent");
        ASSERT_ERROR(access(flags, F_OK) < 0 ? -errno : 0, ENOENT);
}

TEST(calls_that_overtake_each_other) {
        DESK(d);

        initialize(&d, "2025-06-18");
        ASSERT_SAYS(&d, CALL("\"slow\"", "list_channel_members", "{\"channel\":\"ch_1\"}"), "");
        ASSERT_EQ(mcp_peer_n_calls(d.peer), 1);
        ASSERT_SAYS(&d, CALL("2", "list_skills", "{}"), RESULT("2", TEXT("(no skills installed)", "false")));
        ASSERT_SAYS(&d, CALL("\"slow\"", "list_skills", "{}"),
                    ERROR("\"slow\"", "-32600", "A call with this id is under way"));
        strbuf_done(&d.output);
        bench_answer(&d.bench, "GET /spaces/sp_home/channels/ch_1/members", 200, "{\"members\":[]}");
        ASSERT_STREQ(d.output.text, RESULT("\"slow\"", TEXT("(empty channel)", "false")));
        ASSERT_EQ(mcp_peer_n_calls(d.peer), 0);
}

TEST(a_call_that_is_cancelled) {
        DESK(d);

        initialize(&d, "2025-06-18");
        ASSERT_SAYS(&d, CALL("1", "list_channels", "{}"), "");
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
                        "\"params\":{\"requestId\":\"1\"}}", "");
        ASSERT_EQ(mcp_peer_n_calls(d.peer), 1);
        ASSERT_SAYS(&d, "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\","
                        "\"params\":{\"requestId\":1}}", "");
        ASSERT_EQ(mcp_peer_n_calls(d.peer), 0);
        ASSERT_TRUE(fake.calls[0]->is_freed);
}

TEST(too_many_calls) {
        DESK(d);

        initialize(&d, "2025-06-18");
        for (unsigned i = 1; i <= 16; i++) {
                _cleanup_free_ char *line = asprintf_new(CALL("%u", "list_channels", "{}") "\n", i);

                ASSERT_OK(feed(&d, line));
                ASSERT_EQ(d.output.size, 0);
        }
        ASSERT_SAYS(&d, CALL("17", "list_channels", "{}"), ERROR("17", "-32000", "Too many calls at once"));
        ASSERT_EQ(mcp_peer_n_calls(d.peer), 16);
}

TEST(tools_that_come_and_go) {
        DESK(d);

        initialize(&d, "2025-06-18");
        ASSERT_SAYS(&d, CALL("1", "list_channels", "{}"), "");
        mcp_peer_set_tools(d.peer, NULL);
        ASSERT_STREQ(d.output.text, RESULT("1", TEXT("This agent is being set up anew; try again.", "true")));
        ASSERT_SAYS(&d, CALL("2", "list_skills", "{}"),
                    RESULT("2", TEXT("This agent is not ready; try again later.", "true")));
        mcp_peer_set_tools(d.peer, d.bench.box);
        ASSERT_SAYS(&d, CALL("2", "list_skills", "{}"), RESULT("2", TEXT("(no skills installed)", "false")));
}

/* Two messages under one id are two messages. */
TEST(keys_are_nobody_elses) {
        DESK(d);

        initialize(&d, "2025-06-18");
        for (unsigned i = 0; i < 2; i++) {
                ASSERT_SAYS(&d, CALL("1", "send_message", "{\"channel\":\"@bo\",\"text\":\"x\"}"), "");
                bench_sent(&d.bench, "msg_1", NULL);
                ASSERT_STREQ(d.output.text, RESULT("1", TEXT("posted msg_1 to @bo", "false")));
                ASSERT_EQ(desk.n_added, i + 1);
        }
}

#define NAMED_CALL(id, meta) \
        "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"tools/call\",\"params\":{\"name\":\"send_message\"," \
        "\"arguments\":{\"channel\":\"@bo\",\"text\":\"x\"},\"_meta\":" meta "}}"

/* A call that its maker names is made once, over as many connections as it takes. */
TEST(calls_that_are_made_again) {
        DESK(d);

        for (unsigned i = 0; i < 2; i++) {
                initialize(&d, "2025-11-25");
                ASSERT_SAYS(&d, NAMED_CALL("1", "{\"claudecode/toolUseId\":\"toolu_01Ab-\"}"), "");
                ASSERT_EQ(desk.n_added, 1);
                ASSERT_STREQ(desk.key, "mcp/toolu_01Ab-");
                mcp_peer_free(d.peer);
                ASSERT_OK(mcp_peer_new(&d.peer, &(McpPeerSpec) { d.bench.box, desk_write, &d }));
        }
        initialize(&d, "2025-11-25");
        ASSERT_SAYS(&d, NAMED_CALL("1", "{\"claudecode/toolUseId\":\"toolu_01Ab-2\"}"), "");
        ASSERT_EQ(desk.n_added, 2);
}

TEST(names_of_calls_that_are_none) {
        static const char *const t[] = {
                "{}", "[]", "null", "7", "{\"claudecode/toolUseId\":\"\"}", "{\"claudecode/toolUseId\":1}",
                "{\"claudecode/toolUseId\":\"a/b\"}", "{\"claudecode/toolUseId\":\"a\\n\"}",
                "{\"claudecode/toolUseId\":\"a\\u0000\"}", "{\"claudecode/toolUseId\":\"\u00e4\"}",
        };
        char name[130];
        DESK(d);

        initialize(&d, "2025-11-25");
        for (size_t i = 0; i < ELEMENTSOF(t) + 2; i++) {
                _cleanup_free_ char *line = NULL;

                (void) memset(name, 'x', sizeof(name));
                name[i == ELEMENTSOF(t) ? 129 : 128] = 0;
                line = i < ELEMENTSOF(t) ? asprintf_new(NAMED_CALL("%zu", "%s") "\n", i, t[i]) :
                       asprintf_new(NAMED_CALL("%zu", "{\"claudecode/toolUseId\":\"%s\"}") "\n", i, name);
                ASSERT_OK(feed(&d, line));
                ASSERT_EQ(d.output.size, 0);
                ASSERT_EQ(desk.n_added, i + 1);
                /* The longest name is one. */
                ASSERT_NOT_NULL(startswith(desk.key, i <= ELEMENTSOF(t) ? "mcp:" : "mcp/xxx"));
                bench_sent(&d.bench, "msg_1", NULL);
        }
}

#define PING(id) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"ping\"}"

TEST(batches) {
        StrBuf many = {};
        DESK(d);

        initialize(&d, "2025-03-26");
        ASSERT_SAYS(&d, "[" PING("1") ",7,{\"jsonrpc\":\"2.0\",\"method\":\"x\"}," PING("2") ",[]]",
                    RESULT("1", "{}") ERROR("null", "-32600", "A message is an object") RESULT("2", "{}")
                    ERROR("null", "-32600", "A message is an object"));
        ASSERT_SAYS(&d, "[]", ERROR("null", "-32600", "The batch is empty"));
        ASSERT_OK(strbuf_puts(&many, "[0"));
        for (unsigned i = 0; i < 32; i++)
                ASSERT_OK(strbuf_puts(&many, ",0"));
        ASSERT_OK(strbuf_puts(&many, "]\n"));
        ASSERT_OK(feed(&d, many.text));
        ASSERT_STREQ(d.output.text, ERROR("null", "-32600", "The batch is too large"));
        strbuf_done(&many);
}

TEST(bytes_as_they_come) {
        static const char text[] = PING("1") "\r\n\n" PING("2") "\n" PING("3");
        DESK(d);

        for (size_t i = 0; i + 1 < sizeof(text); i++)
                ASSERT_OK(mcp_peer_feed(d.peer, text + i, 1));
        ASSERT_STREQ(d.output.text, RESULT("1", "{}") RESULT("2", "{}"));
        ASSERT_SAYS(&d, "", RESULT("3", "{}"));
}

TEST(lines_of_any_length) {
        _cleanup_free_ char *line = malloc(MCP_LINE_MAX + 3);
        DESK(d);

        /* As long as may be. */
        (void) memset(line, ' ', MCP_LINE_MAX);
        (void) memcpy(line, PING("1"), strlen(PING("1")));
        (void) strcpy(line + MCP_LINE_MAX, "\n");
        ASSERT_OK(feed(&d, line));
        ASSERT_STREQ(d.output.text, RESULT("1", "{}"));

        (void) strcpy(line + MCP_LINE_MAX, " \n");
        ASSERT_ERROR(feed(&d, line), E2BIG);
        ASSERT_STREQ(d.output.text, ERROR("null", "-32600", "The line is too long"));
}

TEST(a_line_without_an_end) {
        _cleanup_free_ char *piece = malloc(KIB(64));
        size_t n = 0;
        int r;
        DESK(d);

        (void) memset(piece, '[', KIB(64));
        do
                r = mcp_peer_feed(d.peer, piece, KIB(64));
        while (r >= 0 && n++ < 1000);
        ASSERT_EQ(n, MCP_LINE_MAX / KIB(64));
        ASSERT_ERROR(r, E2BIG);
}

/* Its introduction was with an earlier process, or comes again. */
TEST(resumed) {
        DESK(d);

        d.peer = mcp_peer_free(d.peer);
        ASSERT_OK(mcp_peer_new(&d.peer, &(McpPeerSpec) { d.bench.box, desk_write, &d, .resumed = true }));
        ASSERT_OK(feed(&d, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/list\"}\n"));
        ASSERT_NOT_NULL(strstr(strempty(d.output.text), "\"tools\":["));
        initialize(&d, "2025-06-18");
        ASSERT_NOT_NULL(strstr(strempty(d.output.text), "2025-06-18"));
        initialize(&d, "2025-06-18");
        ASSERT_NOT_NULL(strstr(strempty(d.output.text), "Already initialized"));
}

TEST_MAIN();
