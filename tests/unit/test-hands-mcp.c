/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands-mcp"

#include "config.h"
#include "hands-mcp.h"
#include "harness-fixture.h"
#include "mcp-peer.h"
#include "run-store.h"
#include "tool-fixture.h"

/* Calls of the agent's tools over the pipes of a CLI, whose session is killed meanwhile. */

typedef struct World {
        Bench bench;
        Stage stage;
        HarnessSetup setup;
        HandsMcp *mcp;
} World;

static int on_mcp(Harness *h, const char *id, const char *message, void *userdata) {
        World *w = (World*) ((char*) userdata - offsetof(World, stage));

        hands_mcp_take(w->mcp, id, message);
        return 0;
}

/* A process of the session begins. */
static void life_begin(World *w, bool adopted) {
        HarnessHandler handler = stage_handler(&w->stage);
        int fds[3];

        handler.on_mcp = on_mcp;
        for (size_t i = 0; i < 3; i++) {
                fds[i] = fcntl(w->stage.take[i], F_DUPFD_CLOEXEC, 3);
                ASSERT_TRUE(fds[i] >= 0);
        }
        ASSERT_OK(harness_new(&w->stage.harness, w->stage.event, &w->setup, fds, adopted, &handler));
        ASSERT_OK(hands_mcp_new(&w->mcp, &(HandsMcpSpec) {
                .db = w->bench.db, .driver = w->stage.harness, .tools = w->bench.box, .adopted = adopted,
        }));
        ASSERT_OK(adopted ? harness_turn_adopt(w->stage.harness, NULL) : harness_turn(w->stage.harness, "hello"));
        if (adopted)
                ASSERT_OK(hands_mcp_take_up(w->mcp));
}

/* … and is killed. */
static void life_end(World *w) {
        w->mcp = hands_mcp_free(w->mcp);
        w->stage.harness = harness_free(w->stage.harness);
        bench_box(&w->bench, "", RUNTIME_CHAT_LOCAL);
}

static void heard(World *w) {
        stage_listen(&w->stage);
        strbuf_done(&w->stage.written);
}

static void world_begin(World *w) {
        bench_begin(&w->bench);
        w->setup = stage_setup(HARNESS_CLAUDE_SDK);
        w->setup.puffo_tools = true;
        stage_begin(&w->stage, &w->setup);
        w->stage.harness = harness_free(w->stage.harness);
        sd_event_unref(w->stage.event);
        w->stage.event = sd_event_ref(w->bench.event);
        life_begin(w, /* adopted= */ false);
        heard(w);
}

static void world_end(World *w) {
        hands_mcp_free(w->mcp);
        stage_end(&w->stage);
        bench_end(&w->bench);
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        w.mcp = NULL; \
        world_begin(&w)

static void ask(World *w, const char *request_id, const char *message) {
        _cleanup_free_ char *line = asprintf_new("{\"type\":\"control_request\",\"request_id\":\"%s\",\"request\":{"
                                                 "\"subtype\":\"mcp_message\",\"server_name\":\"puffo\","
                                                 "\"message\":%s}}", request_id, message);

        stage_says(&w->stage, line);
}

/* The answer to a request, as "ID: JSON-RPC message", or "nothing". */
static char* answer(World *w) {
        _cleanup_json_ json_object *o = NULL;
        json_object *response;

        do {
                (void) json_object_put(TAKE_PTR(o));
                _cleanup_free_ char *line = stage_hears(&w->stage);
                if (!line)
                        return strdup("nothing");
                if (*line)
                        ASSERT_OK(json_parse(line, strlen(line), &o));
        } while (!o);
        response = json_get(o, "response");
        return asprintf_new("%s: %s", json_get_string(response, "request_id"),
                            json_text(json_get(json_get(response, "response"), "mcp_response"), NULL));
}

#define ASSERT_TOLD(w, expected) ({ \
        _cleanup_free_ char *_answer = answer(w); \
        ASSERT_STREQ(_answer, expected); })

static size_t n_open(World *w) {
        HarnessRequest *list = NULL;
        size_t n = 0;

        ASSERT_OK(run_store_open(w->bench.db, &list, &n));
        harness_requests_free(list, n);
        return n;
}

#define INITIALIZE \
        "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-11-25\"}}"
#define CALL(id) \
        "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"tools/call\",\"params\":{\"name\":\"send_message\"," \
        "\"arguments\":{\"channel\":\"@bob-1\",\"text\":\"hi\"},\"_meta\":{\"claudecode/toolUseId\":\"toolu_1\"}}}"
#define INITIALIZED(request) \
        request ": {\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"puffo-core\"," \
                "\"version\":\"" PROJECT_VERSION "\"},\"protocolVersion\":\"2025-11-25\"}}"
#define POSTED(request, id) \
        request ": {\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":{\"content\":[{\"type\":\"text\",\"text\":" \
                "\"posted msg_1 to @bob-1\"}],\"isError\":false}}"

TEST(a_call) {
        WORLD(w);

        ask(&w, "q0", INITIALIZE);
        ASSERT_TOLD(&w, INITIALIZED("q0"));
        ask(&w, "q1", CALL("1"));
        ASSERT_TOLD(&w, "nothing");
        ASSERT_EQ(n_open(&w), 1);
        bench_sent(&w.bench, "msg_1", NULL);
        ASSERT_TOLD(&w, POSTED("q1", "1"));
        ASSERT_EQ(n_open(&w), 0);
}

/* It is made again under its name, and answered by whoever is there then. */
TEST(killed_amid_a_call) {
        WORLD(w);
        char key[sizeof(desk.key)];

        ask(&w, "q0", INITIALIZE);
        ask(&w, "q1", CALL("1"));
        heard(&w);
        (void) strcpy(key, desk.key);
        ASSERT_EQ(desk.n_added, 1);
        for (unsigned i = 0; i < 2; i++) {
                life_end(&w);
                life_begin(&w, /* adopted= */ true);
                ASSERT_TOLD(&w, "nothing");
                ASSERT_STREQ(desk.key, key);
                ASSERT_EQ(n_open(&w), 1);
        }
        bench_sent(&w.bench, "msg_1", NULL);
        ASSERT_TOLD(&w, POSTED("q1", "1"));
        ASSERT_EQ(n_open(&w), 0);
        /* It is as before in everything else. */
        ask(&w, "q2", "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}");
        ASSERT_TOLD(&w, "q2: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}");
        life_end(&w);
        life_begin(&w, /* adopted= */ true);
        ASSERT_TOLD(&w, "nothing");
        ASSERT_NULL(desk.watch);
}

static int die_after_it(Harness *h, const char *id, const char *message, void *userdata) {
        (void) on_mcp(h, id, message, userdata);
        return -ENOSPC;
}

/* Its line had not left the pipe: it is both there and in the database, and is one call. */
TEST(killed_before_the_line_was_taken) {
        WORLD(w);
        HarnessHandler handler = stage_handler(&w.stage);
        int fds[3];

        w.mcp = hands_mcp_free(w.mcp);
        w.stage.harness = harness_free(w.stage.harness);
        handler.on_mcp = die_after_it;
        for (size_t i = 0; i < 3; i++)
                fds[i] = fcntl(w.stage.take[i], F_DUPFD_CLOEXEC, 3);
        ASSERT_OK(harness_new(&w.stage.harness, w.stage.event, &w.setup, fds, /* adopted= */ true, &handler));
        ASSERT_OK(hands_mcp_new(&w.mcp, &(HandsMcpSpec) {
                .db = w.bench.db, .driver = w.stage.harness, .tools = w.bench.box, .adopted = true,
        }));
        ask(&w, "q1", CALL("1"));
        ASSERT_TRUE(w.stage.failed);
        ASSERT_EQ(n_open(&w), 1);
        life_end(&w);
        life_begin(&w, /* adopted= */ true);
        ASSERT_TOLD(&w, "nothing");
        bench_sent(&w.bench, "msg_1", NULL);
        ASSERT_TOLD(&w, POSTED("q1", "1"));
        ASSERT_TOLD(&w, "nothing");
        ASSERT_EQ(n_open(&w), 0);
}

/* The introduction comes again, or came before. */
TEST(killed_amid_the_introduction) {
        WORLD(w);

        life_end(&w);
        life_begin(&w, /* adopted= */ true);
        ask(&w, "q0", INITIALIZE);
        ASSERT_TOLD(&w, INITIALIZED("q0"));
}

TEST(a_call_that_is_given_up) {
        WORLD(w);

        ask(&w, "q0", INITIALIZE);
        ask(&w, "q1", CALL("1"));
        heard(&w);
        ASSERT_EQ(n_open(&w), 1);
        ask(&w, "q2", "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{\"requestId\":1}}");
        ASSERT_TOLD(&w, "q2: {\"jsonrpc\":\"2.0\",\"result\":{},\"id\":0}");
        ASSERT_EQ(n_open(&w), 0);
        ASSERT_NULL(desk.watch);
}

/* The program does not read: whoever comes next answers again what may not have got into its pipe. */
TEST(an_answer_that_waits) {
        WORLD(w);
        char fill[4096] = {};

        ask(&w, "q0", INITIALIZE);
        ask(&w, "q1", CALL("1"));
        heard(&w);
        for (int fd = w.stage.take[0]; write(fd, fill, sizeof(fill)) > 0; )
                ;
        bench_sent(&w.bench, "msg_1", NULL);
        ASSERT_FALSE(harness_has_written(w.stage.harness));
        ASSERT_EQ(n_open(&w), 1);
        while (read(w.stage.input, fill, sizeof(fill)) > 0)
                ;
        stage_run(&w.stage);
        ASSERT_TRUE(harness_has_written(w.stage.harness));
        ask(&w, "q2", "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}");
        ASSERT_TOLD(&w, POSTED("q1", "1"));
        ASSERT_EQ(n_open(&w), 0);
}

/* What is too long is refused, each time, and nothing of it stays: neither its text, nor its place among those that
 * wait. */
TEST(messages_that_are_too_long) {
        _cleanup_free_ char *text = malloc(MCP_LINE_MAX + 1), *message = NULL;
        WORLD(w);

        ASSERT_NOT_NULL(text);
        memset(text, 'x', MCP_LINE_MAX);
        text[MCP_LINE_MAX] = 0;
        message = strjoin("{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{\"x\":\"", text,
                          "\"}}");
        ask(&w, "q0", INITIALIZE);
        heard(&w);
        for (unsigned i = 0; i < 70; i++) {
                _cleanup_free_ char *id = asprintf_new("big-%u", i);

                hands_mcp_take(w.mcp, id, message);
                heard(&w);
        }
        ask(&w, "q2", "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"ping\"}");
        ASSERT_TOLD(&w, "q2: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}");
        ASSERT_EQ(n_open(&w), 0);
}

/* A configuration that is read again is no reason to break off what is under way. */
TEST(the_same_tools) {
        WORLD(w);

        ask(&w, "q0", INITIALIZE);
        ask(&w, "q1", CALL("1"));
        heard(&w);
        hands_mcp_set_tools(w.mcp, w.bench.box);
        ASSERT_TOLD(&w, "nothing");
        bench_sent(&w.bench, "msg_1", NULL);
        ASSERT_TOLD(&w, POSTED("q1", "1"));
        ask(&w, "q2", CALL("2"));
        hands_mcp_set_tools(w.mcp, NULL);
        ASSERT_TOLD(&w, "q2: {\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{\"content\":[{\"type\":\"text\",\"text\":"
                        "\"This agent is being set up anew; try again.\"}],\"isError\":true}}");
        ASSERT_EQ(n_open(&w), 0);
}

TEST_MAIN();
