/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tool-staff"

#include <sys/socket.h>

#include "tool-fixture.h"
#include "tool-internal.h"

/* A puffod that notes what it is asked, and answers when and as the test says. */
typedef struct Office {
        Bench bench;
        sd_bus *server, *client;
        StrBuf log;             /* "hire engineer alice", "ask engineer_alice ask-… text", "interrupt …" */
        sd_bus_message *call;   /* not answered yet */
        int stream;             /* writing end of the last question */
        char *turn, *interrupted;
} Office;

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *a, *b, *c = NULL;
        Office *o = userdata;
        int fd;

        if (sd_bus_message_is_method_call(m, PUFFO_PRIVATE_MANAGER_INTERFACE, "HireAgent")) {
                ASSERT_OK(sd_bus_message_read(m, "ss", &a, &b));
                ASSERT_OK(strbuf_printf(&o->log, "hire %s %s\n", a, b));
        } else if (sd_bus_message_is_method_call(m, PUFFO_PRIVATE_MANAGER_INTERFACE, "AskAgent")) {
                ASSERT_OK(sd_bus_message_read(m, "sssh", &a, &b, &c, &fd));
                ASSERT_OK(strbuf_printf(&o->log, "ask %s %s\n", a, c));
                ASSERT_OK(free_and_strdup(&o->turn, b));
                safe_close(o->stream);
                o->stream = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        } else {
                ASSERT_TRUE(sd_bus_message_is_method_call(m, PUFFO_PRIVATE_MANAGER_INTERFACE, "InterruptAsked"));
                ASSERT_OK(sd_bus_message_read(m, "ss", &a, &b));
                ASSERT_OK(strbuf_printf(&o->log, "interrupt %s\n", a));
                ASSERT_OK(free_and_strdup(&o->interrupted, b));
                return sd_bus_reply_method_return(m, "b", 1);
        }
        sd_bus_message_unref(o->call);
        o->call = sd_bus_message_ref(m);
        return 1;
}

static ManagerLink* get_link(void *userdata) {
        return userdata;
}

static void office_connect(Office *o) {
        int fds[2];

        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        ASSERT_OK(sd_bus_new(&o->server));
        ASSERT_OK(sd_bus_set_fd(o->server, fds[0], fds[0]));
        ASSERT_OK(sd_bus_set_server(o->server, 1, SD_ID128_MAKE(1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,10)));
        ASSERT_OK(sd_bus_negotiate_fds(o->server, 1));
        ASSERT_OK(sd_bus_start(o->server));
        ASSERT_OK(sd_bus_add_object(o->server, NULL, PUFFO_PRIVATE_MANAGER_PATH, on_call, o));
        ASSERT_OK(sd_bus_attach_event(o->server, o->bench.event, 0));
        ASSERT_OK(sd_bus_new(&o->client));
        ASSERT_OK(sd_bus_set_fd(o->client, fds[1], fds[1]));
        ASSERT_OK(sd_bus_set_bus_client(o->client, 0));
        ASSERT_OK(sd_bus_negotiate_fds(o->client, 1));
        ASSERT_OK(sd_bus_start(o->client));
        ASSERT_OK(sd_bus_attach_event(o->client, o->bench.event, 0));
        desk.puffod = o->client;
        fake_run(o->bench.event);
}

static void office_disconnect(Office *o) {
        o->call = sd_bus_message_unref(o->call);
        o->server = sd_bus_close_unref(o->server);
        fake_run(o->bench.event);
        desk.puffod = NULL;
        o->client = sd_bus_close_unref(o->client);
}

static void office_box(Office *o, Puffo *puffo) {
        AgentHome home = { .id = (char*) "manager", .directory = o->bench.path, .workspace = o->bench.workspace };

        o->bench.box = tool_box_free(o->bench.box);
        ASSERT_OK(tool_box_new(&o->bench.box, &(ToolBoxSpec) {
                .event = o->bench.event, .puffo = puffo, .home = &home, .get_link = get_link, .userdata = o,
        }));
}

static void office_begin(Office *o) {
        *o = (Office) { .stream = -EBADF };
        bench_begin(&o->bench);
        office_box(o, NULL);
        office_connect(o);
}

static void office_end(Office *o) {
        o->bench.call = tool_call_free(o->bench.call);
        o->bench.box = tool_box_free(o->bench.box);
        office_disconnect(o);
        safe_close(o->stream);
        strbuf_done(&o->log);
        free(o->turn);
        free(o->interrupted);
        bench_end(&o->bench);
}

#define OFFICE(o) \
        _cleanup_(office_end) Office o; \
        office_begin(&o)

#define ASSERT_ASKED(o, expected) ({ \
        ASSERT_STREQ(strempty((o)->log.text), expected); \
        strbuf_done(&(o)->log); })

static void answer(Office *o, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_method_return(o->call, &reply));
        va_start(ap, types);
        ASSERT_OK(sd_bus_message_appendv(reply, types, ap));
        va_end(ap);
        ASSERT_OK(sd_bus_send(NULL, reply, NULL));
        o->call = sd_bus_message_unref(o->call);
        fake_run(o->bench.event);
}

static void refuse(Office *o, const char *name, const char *text) {
        ASSERT_OK(sd_bus_reply_method_errorf(o->call, name, "%s", text));
        o->call = sd_bus_message_unref(o->call);
        fake_run(o->bench.event);
}

static void says(Office *o, const char *events) {
        ASSERT_EQ(write(o->stream, events, strlen(events)), (ssize_t) strlen(events));
        fake_run(o->bench.event);
}

static void breaks(Office *o) {
        o->stream = safe_close(o->stream);
        fake_run(o->bench.event);
}

#define ASK "{\"agent\":\" engineer_alice \",\"text\":\"build it\"}"

/* Who is on no chat service has these two and nothing else, who is on one has them as well, and nobody else has. */
TEST(who_has_them) {
        _cleanup_free_ const char **names = NULL;
        OFFICE(o);

        names = tool_names(o.bench.box);
        ASSERT_STREQ(names[0], "hire_agent");
        ASSERT_STREQ(names[1], "ask_agent");
        ASSERT_NULL(names[2]);
        ASSERT_STREQ(bench_call(&o.bench, "whoami", "{}"), "Unknown tool: whoami");
        office_box(&o, FAKE_PUFFO);
        ASSERT_TRUE(tool_is_offered(o.bench.box, "whoami"));
        ASSERT_TRUE(tool_is_offered(o.bench.box, "ask_agent"));
        bench_box(&o.bench, "", RUNTIME_CHAT_LOCAL);
        ASSERT_TRUE(tool_is_offered(o.bench.box, "whoami"));
        ASSERT_FALSE(tool_is_offered(o.bench.box, "ask_agent"));
        ASSERT_STREQ(bench_call(&o.bench, "ask_agent", ASK), "Unknown tool: ask_agent");
        ASSERT_ASKED(&o, "");
}

TEST(hiring) {
        OFFICE(o);

        bench_start(&o.bench, "hire_agent", NULL, "{\"role\":\"engineer\",\"name\":\" alice\"}");
        ASSERT_ASKED(&o, "hire engineer alice\n");
        answer(&o, "oub", "/ai/puffo/Agents1/agent/engineer_5falice", 4301U, 1);
        ASSERT_ANSWER(&o.bench, "engineer_alice is new and ready; ask_agent(\"engineer_alice\", …) gives it work.");
        bench_start(&o.bench, "hire_agent", NULL, "{\"role\":\"engineer\",\"name\":\"alice\"}");
        answer(&o, "oub", "/ai/puffo/Agents1/agent/engineer_5falice", 0U, 0);
        ASSERT_ANSWER(&o.bench, "engineer_alice was there already, but is not able to work yet; try later whether it "
                                "answers: ask_agent(\"engineer_alice\", …) gives it work.");
        bench_start(&o.bench, "hire_agent", NULL, "{\"role\":\"../x\",\"name\":\"alice\"}");
        refuse(&o, PUFFO_ERROR_INVALID_NAME, "invalid role name: '../x'");
        ASSERT_REFUSED(&o.bench, "Error executing tool hire_agent: invalid role name: '../x'");
        bench_start(&o.bench, "hire_agent", NULL, "{\"role\":\"engineer\",\"name\":\"alice\"}");
        office_disconnect(&o);
        ASSERT_REFUSED(&o.bench, "Error executing tool hire_agent: the agents cannot be reached at the moment; try "
                                 "again in a minute");
}

TEST(asking) {
        OFFICE(o);

        bench_start(&o.bench, "ask_agent", NULL, ASK);
        ASSERT_ASKED(&o, "ask engineer_alice build it\n");
        ASSERT_NOT_NULL(startswith(o.turn, "ask-"));
        ASSERT_TRUE(turn_id_is_valid(o.turn));
        answer(&o, "");
        says(&o, "{\"seq\":1,\"type\":\"started\"}\n{\"type\":\"delta\",\"text\":\"I\"}\n"
                 "{\"type\":\"message_done\",\"text\":\"I begin.\"}\n{\"type\":\"tool_started\",\"name\":\"x\"}\n");
        ASSERT_FALSE(o.bench.is_done);
        says(&o, "{\"type\":\"message_done\",\"text\":\"It is built.\"}\n{\"type\":\"message_done\",\"text\":\"\"}\n"
                 "{\"type\":\"comple");
        says(&o, "ted\"}\n");
        ASSERT_ANSWER(&o.bench, "It is built.");
        breaks(&o);
        ASSERT_ASKED(&o, "");           /* what has ended is not interrupted */
}

TEST(questions_that_go_wrong) {
        static const struct {
                const char *events, *text;
        } t[] = {
                { "{\"type\":\"failed\",\"error\":{\"message\":\"no key\"}}\n", "engineer_alice: no key" },
                { "{\"type\":\"message_done\",\"text\":\"Half\"}\n{\"type\":\"incomplete\",\"reason\":\"deadline\"}\n",
                  "engineer_alice did not come to an end (deadline); it has said so far: Half" },
                { "no JSON\n", "engineer_alice: its answer cannot be read" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *expected = strjoin("Error executing tool ask_agent: ", t[i].text);
                OFFICE(o);

                bench_start(&o.bench, "ask_agent", NULL, ASK);
                answer(&o, "");
                says(&o, t[i].events);
                ASSERT_REFUSED(&o.bench, expected);
        }
}

TEST(what_is_refused) {
        OFFICE(o);

        ASSERT_STREQ(bench_call(&o.bench, "ask_agent", "{\"agent\":\"a\",\"text\":\" \\n\"}"),
                     "Error executing tool ask_agent: there is nothing in text");
        ASSERT_ASKED(&o, "");
        bench_start(&o.bench, "ask_agent", NULL, ASK);
        refuse(&o, PUFFO_ERROR_INVALID_ARGUMENT, "That is you.");
        ASSERT_REFUSED(&o.bench, "Error executing tool ask_agent: engineer_alice: That is you.");
        ASSERT_ASKED(&o, "ask engineer_alice build it\n");
}

/* Sessions and puffod come back; the question stays the same one. */
TEST(whoever_goes_comes_back) {
        _cleanup_free_ char *first = NULL;
        OFFICE(o);

        bench_start(&o.bench, "ask_agent", "turn/1/1", ASK);
        answer(&o, "");
        first = strdup(o.turn);
        says(&o, "{\"type\":\"message_done\",\"text\":\"lost\"}\n");
        breaks(&o);                     /* the asked agent's session */
        ASSERT_TRUE(fake_pass(o.bench.event));
        ASSERT_STREQ(o.turn, first);
        office_disconnect(&o);          /* puffod, with the question unanswered */
        breaks(&o);
        ASSERT_TRUE(fake_pass(o.bench.event));
        ASSERT_TRUE(fake_pass(o.bench.event));
        ASSERT_FALSE(o.bench.is_done);
        office_connect(&o);
        ASSERT_TRUE(fake_pass(o.bench.event));
        ASSERT_STREQ(o.turn, first);
        answer(&o, "");
        says(&o, "{\"type\":\"restarted\"}\n{\"type\":\"completed\"}\n");
        ASSERT_ANSWER(&o.bench, "(It has said nothing.)");
        ASSERT_ASKED(&o, "ask engineer_alice build it\nask engineer_alice build it\nask engineer_alice build it\n");

        /* A call that is made again after a crash of this session is the same question, another one is not. */
        bench_start(&o.bench, "ask_agent", "turn/1/1", ASK);
        ASSERT_STREQ(o.turn, first);
        o.bench.call = tool_call_free(o.bench.call);
        bench_start(&o.bench, "ask_agent", "turn/1/2", ASK);
        ASSERT_TRUE(!streq(o.turn, first));
}

TEST(what_nobody_waits_for_is_interrupted) {
        OFFICE(o);

        bench_start(&o.bench, "ask_agent", NULL, ASK);
        answer(&o, "");
        o.bench.call = tool_call_free(o.bench.call);
        fake_run(o.bench.event);
        ASSERT_ASKED(&o, "ask engineer_alice build it\ninterrupt engineer_alice\n");
        ASSERT_STREQ(o.interrupted, o.turn);

        /* But not when this session ends: it will ask again. */
        bench_start(&o.bench, "ask_agent", NULL, ASK);
        answer(&o, "");
        tool_box_leave(o.bench.box);
        o.bench.call = tool_call_free(o.bench.call);
        fake_run(o.bench.event);
        ASSERT_ASKED(&o, "ask engineer_alice build it\n");
}

TEST(the_wait_has_an_end) {
        OFFICE(o);

        bench_start(&o.bench, "ask_agent", NULL, ASK);
        answer(&o, "");
        while (!o.bench.is_done)
                ASSERT_TRUE(fake_pass(o.bench.event));
        ASSERT_REFUSED(&o.bench, "Error executing tool ask_agent: engineer_alice: has not answered within 25 minutes. "
                                 "It is still at it; ask it later what has come of it");
        fake_run(o.bench.event);
        ASSERT_ASKED(&o, "ask engineer_alice build it\n");
}

/* For a session that follows another one it is the rest of the same time. */
TEST(the_wait_goes_on_after_a_crash) {
        _cleanup_free_ char *queued = NULL;
        uint64_t before, waited;
        OFFICE(o);

        for (unsigned i = 0; i < 2; i++) {
                /* Asked twenty minutes ago, and an hour. */
                uint64_t ago = (i == 0 ? 20 : 60) * 60 * USEC_PER_SEC, most = i == 0 ? 300 : 10;

                queued = mfree(queued);
                queued = asprintf_new("{\"type\":\"queued\",\"ahead\":0,\"created_at\":%" PRIu64 "}\n",
                                      now_realtime_usec() - ago);
                bench_start(&o.bench, "ask_agent", NULL, ASK);
                answer(&o, "");
                says(&o, queued);
                ASSERT_FALSE(o.bench.is_done);
                before = fake.now_usec;
                while (!o.bench.is_done)
                        ASSERT_TRUE(fake_pass(o.bench.event));
                waited = (fake.now_usec - before) / USEC_PER_SEC;
                ASSERT_TRUE(waited >= most - 5 && waited <= most + 5);
                ASSERT_REFUSED(&o.bench, "Error executing tool ask_agent: engineer_alice: has not answered within 25 "
                                         "minutes. It is still at it; ask it later what has come of it");
        }
}

TEST(only_so_many_at_once) {
        ToolCall *calls[8];
        OFFICE(o);

        for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
                bench_start(&o.bench, "ask_agent", NULL, ASK);
                calls[i] = TAKE_PTR(o.bench.call);
        }
        ASSERT_STREQ(bench_call(&o.bench, "ask_agent", ASK),
                     "Error executing tool ask_agent: 8 agents are being asked already; wait for one of them");
        tool_call_free(calls[0]);
        bench_start(&o.bench, "ask_agent", NULL, ASK);
        ASSERT_FALSE(o.bench.is_done);
        for (size_t i = 1; i < ELEMENTSOF(calls); i++)
                tool_call_free(calls[i]);
}

TEST_MAIN();
