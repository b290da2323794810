/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <sys/mman.h>

#include "file-util.h"
#include "json-util.h"
#include "model-client.h"
#include "model-wire.h"
#include "scripted-server.h"
#include "string-util.h"
#include "tests.h"

typedef struct Call {
        StrBuf text;
        bool done;
        ModelErrorKind error;
        size_t calls_size;
} Call;

static void on_delta(ModelCall *c, const char *text, size_t size, void *userdata) {
        Call *call = userdata;

        ASSERT_OK(strbuf_append(&call->text, text, size));
}

static void on_done(ModelCall *c, const ModelResult *r, void *userdata) {
        Call *call = userdata;

        ASSERT_FALSE(call->done);
        call->done = true;
        call->error = r->error;
        for (size_t i = 0; i < r->n_calls; i++)
                call->calls_size += strlen(r->calls[i].arguments);
}

static sd_event* loop_new(void) {
        sd_event *event = NULL;
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        ASSERT_OK(sd_event_new(&event));
        return event;
}

static int start_at(ModelClient *c, Call *call, ModelProvider provider, const char *base_url, const char *key,
                    const char *text, ModelCall **ret) {
        return model_client_call_start(c, &(ModelCallSpec) {
                .provider = provider, .api_key = key, .base_url = base_url,
                .messages = &(ModelMessage) { .role = MODEL_ROLE_USER, .text = text }, .n_messages = 1,
                .on_delta = on_delta, .on_done = on_done, .userdata = call,
        }, ret);
}

static int start(ModelClient *c, Call *call, ModelProvider provider, const char *key, const char *text,
                 ModelCall **ret) {
        return start_at(c, call, provider, "http://127.0.0.1:1/", key, text, ret);
}

static void wait_done(sd_event *event, Call *call) {
        while (!call->done)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(event, 20 * USEC_PER_SEC)) > 0);
}

TEST(calls_one_after_the_other) {
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;

        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        for (unsigned i = 0; i < 3; i++) {
                ModelCall *m, *other;
                Call call = {};

                ASSERT_OK(start(c, &call, MODEL_ECHO, NULL, "say \"this\"\n\xc3\xa4gain", &m));
                ASSERT_EQ(start(c, &call, MODEL_ECHO, NULL, "x", &other), -EBUSY);
                wait_done(event, &call);
                ASSERT_EQ(call.error, MODEL_ERROR_NONE);
                ASSERT_STREQ(call.text.text, "say \"this\"\n\xc3\xa4gain");
                (void) model_client_call_free(m);
                strbuf_done(&call.text);
                if (i == 1)
                        model_client_rest(c);   /* the next one starts it again */
        }
}

/* Larger than any socket buffer, both ways. */
TEST(long_texts) {
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        _cleanup_free_ char *text = malloc(MIB(1) + 1);
        ModelCall *m;
        Call call = {};

        memset(text, 'x', MIB(1));
        text[MIB(1)] = 0;
        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        ASSERT_OK(start(c, &call, MODEL_ECHO, NULL, text, &m));
        wait_done(event, &call);
        ASSERT_EQ(call.error, MODEL_ERROR_NONE);
        ASSERT_EQ(call.text.size, MIB(1));
        (void) model_client_call_free(m);
        strbuf_done(&call.text);
}

/* A server that streams in name only: all of the answer in one event, and each of its characters escaped. */
TEST(large_events) {
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        _cleanup_free_ char *url = NULL;
        StrBuf b = {};
        Server server;
        ModelCall *m;
        Call call = {};

        ASSERT_OK(strbuf_puts(&b, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
                                  "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\""));
        for (size_t i = 0; i < KIB(300); i++)
                ASSERT_OK(strbuf_puts(&b, "\\u0001\xe2\x82\xac"));
        ASSERT_OK(strbuf_puts(&b, "\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"));
        server_start(&server, event, &(Answer) { .bytes = b.text, .size = b.size }, 1);
        url = asprintf_new("http://127.0.0.1:%u/", server.port);
        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        ASSERT_OK(start_at(c, &call, MODEL_OPENAI, url, NULL, "hi", &m));
        wait_done(event, &call);
        ASSERT_EQ(call.error, MODEL_ERROR_NONE);
        ASSERT_EQ(call.text.size, 4 * KIB(300));
        for (size_t i = 0; i < call.text.size; i += 4)
                ASSERT_EQ(memcmp(call.text.text + i, "\x01\xe2\x82\xac", 4), 0);
        (void) model_client_call_free(m);
        server_stop(&server);
        strbuf_done(&call.text);
        strbuf_done(&b);
}

TEST(cancelled_calls_say_nothing_more) {
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        Call cancelled = {}, call = {};
        ModelCall *m;

        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        ASSERT_OK(start(c, &cancelled, MODEL_ECHO, NULL, "x", &m));
        (void) model_client_call_free(m);
        ASSERT_OK(start(c, &call, MODEL_ECHO, NULL, "y", &m));
        wait_done(event, &call);
        ASSERT_FALSE(cancelled.done);
        ASSERT_EQ(cancelled.text.size, 0);
        ASSERT_STREQ(call.text.text, "y");
        (void) model_client_call_free(m);
        strbuf_done(&call.text);
}

TEST(broken_programs) {
        static const struct { const char *program; int start; } t[] = {
                { "/bin/true", 0 },             /* exits: the call was cut */
                { "/nonexistent/x", -ENOENT },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
                _cleanup_(model_client_freep) ModelClient *c = NULL;
                ModelCall *m = NULL;
                Call call = {};

                ASSERT_OK(model_client_new(&c, event, t[i].program));
                ASSERT_EQ(start(c, &call, MODEL_ECHO, NULL, "x", &m), t[i].start);
                if (m) {
                        wait_done(event, &call);
                        ASSERT_EQ(call.error, MODEL_ERROR_CUT);
                }
                (void) model_client_call_free(m);
        }
}

/* What parses a provider's bytes is told how to call, and not where the credentials of the agent are. */
#define SCRIPT "#!/bin/sh\n/usr/bin/env >\"$0.out\"\n"
TEST(environment_is_an_allow_list) {
        static const char *const kept[] = { "OPENAI_BASE_URL", "PUFFO_ECHO_DELAY_MS", "https_proxy", "NO_PROXY" },
                *const dropped[] = { "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET", "WATCHDOG_PID", "LISTEN_PID",
                                     "OPENAI_API_KEY", "DBUS_SESSION_BUS_ADDRESS", "https_proxy_not" };
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        char directory[] = "/tmp/test-model-client-XXXXXX";
        _cleanup_free_ char *program = NULL, *output = NULL, *text = NULL;
        ModelCall *m;
        Call call = {};

        ASSERT_NOT_NULL(mkdtemp(directory));
        program = path_join(directory, "program");
        output = strjoin(program, ".out");
        ASSERT_OK(file_write_atomic(program, SCRIPT, strlen(SCRIPT), 0700));
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                ASSERT_OK(setenv(kept[i], "value-1", 1));
        for (size_t i = 0; i < ELEMENTSOF(dropped); i++)
                ASSERT_OK(setenv(dropped[i], "value-2", 1));

        ASSERT_OK(model_client_new(&c, event, program));
        ASSERT_OK(start(c, &call, MODEL_ECHO, NULL, "x", &m));
        wait_done(event, &call);
        ASSERT_OK(file_read(output, KIB(64), &text, NULL));
        for (size_t i = 0; i < ELEMENTSOF(kept); i++) {
                _cleanup_free_ char *line = strjoin(kept[i], "=value-1\n");

                ASSERT_NOT_NULL(strstr(text, line));
                ASSERT_OK(unsetenv(kept[i]));
        }
        ASSERT_NULL(strstr(text, "value-2"));
        for (size_t i = 0; i < ELEMENTSOF(dropped); i++)
                ASSERT_OK(unsetenv(dropped[i]));

        (void) model_client_call_free(m);
        ASSERT_OK(unlink(output));
        ASSERT_OK(unlink(program));
        ASSERT_OK(rmdir(directory));
}

TEST(keys_are_a_line_of_their_own) {
        static const ModelMessage message = { .role = MODEL_ROLE_USER, .text = "hi" };
        ModelCallSpec spec = { .provider = MODEL_OPENAI, .api_key = "sk-1", .messages = &message, .n_messages = 1,
                               .max_tokens = 7 };
        _cleanup_(model_request_line_done) ModelRequestLine l = {};
        StrBuf b = {};

        ASSERT_OK(model_request_format(&b, &spec));
        ASSERT_NOT_NULL(startswith(b.text, "sk-1\n{"));
        ASSERT_NULL(strstr(b.text + 5, "sk-1"));
        ASSERT_OK(model_request_parse(&l, b.text + 5, b.size - 6, NULL, 0));
        ASSERT_EQ(l.spec.provider, MODEL_OPENAI);
        ASSERT_EQ(l.spec.max_tokens, 7);
        ASSERT_EQ(l.spec.n_messages, 1);
        ASSERT_STREQ(l.messages[0].text, "hi");
        spec.api_key = "a\nb";
        ASSERT_EQ(model_request_format(&b, &spec), -EINVAL);
        strbuf_done(&b);
}

TEST(bad_lines_are_refused) {
        static const char *const requests[] = { "", "[]", "{}", "{\"provider\":\"x\",\"messages\":[]}",
                                                "{\"provider\":\"echo\",\"messages\":[{\"role\":\"user\"}]}",
#define MESSAGE(m) "{\"provider\":\"echo\",\"messages\":[{\"role\":\"user\",\"text\":\"x\"," m "}]}"
                                                MESSAGE("\"images\":1"),
                                                MESSAGE("\"images\":[{\"type\":\"image/png\",\"size\":1}]"),
                                                MESSAGE("\"calls\":1"), MESSAGE("\"calls\":[1]"),
                                                MESSAGE("\"calls\":[{\"id\":\"\",\"name\":\"\",\"arguments\":\"\"}]"),
                                                MESSAGE("\"results\":[{\"id\":\"1\",\"name\":\"x\"}]"),
                                                "{\"provider\":\"echo\",\"messages\":[],\"tools\":[{}]}" };
        static const char *const answers[] = { "x", "{}", "{\"delta\":1}", "{\"done\":{\"error\":\"what\"}}",
                                               "{\"done\":{\"error\":\"none\",\"stop\":\"tools\"}}",
                                               "{\"done\":{\"error\":\"none\",\"stop\":\"end\",\"calls\":[{"
                                               "\"id\":\"1\",\"name\":\"x\",\"arguments\":\"\"}]}}",
                                               "{\"done\":{\"error\":\"none\",\"stop\":\"tools\",\"calls\":[{}]}}" };

        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                ModelRequestLine l;

                ASSERT_EQ(model_request_parse(&l, requests[i], strlen(requests[i]), NULL, 0), -EBADMSG);
        }
        for (size_t i = 0; i < ELEMENTSOF(answers); i++) {
                ModelAnswerLine l;

                if (model_answer_parse(&l, answers[i], strlen(answers[i])) != -EBADMSG)
                        fail_msg("%s", answers[i]);
        }
}

TEST(results_come_through) {
        ModelResult in = { .error = MODEL_ERROR_RATE_LIMIT, .http_status = 429, .retry_after_usec = 5,
                           .message = "slow", .stop = MODEL_STOP_LENGTH,
                           .usage = { .input_tokens = 1, .reasoning_tokens = 2 } }, out;
        _cleanup_(model_answer_line_done) ModelAnswerLine l = {};
        StrBuf b = {};

        ASSERT_OK(model_result_format(&b, &in));
        ASSERT_EQ(model_answer_parse(&l, b.text, b.size - 1), 1);
        out = l.result;
        ASSERT_EQ(out.error, MODEL_ERROR_RATE_LIMIT);
        ASSERT_EQ(out.http_status, 429);
        ASSERT_EQ(out.retry_after_usec, 5);
        ASSERT_STREQ(out.message, "slow");
        ASSERT_NULL(out.request_id);
        ASSERT_EQ(out.stop, MODEL_STOP_LENGTH);
        ASSERT_FALSE(out.images_refused);
        ASSERT_EQ(out.usage.input_tokens, 1);
        ASSERT_EQ(out.usage.reasoning_tokens, 2);
        strbuf_done(&b);
}

static const ModelToolCall calls[] = { { "c1", "send_message", "{\"text\":\"a\nb\"" }, { "c2", "b", "" } };

TEST(steps_come_through) {
        static const ModelTool tools[] = { { "a", "A.", "{}" }, { "b", "B.", "{\"type\":\"object\"}" } };
        static const ModelToolResult results[] = { { "c1", "send_message", "r", true }, { "c2", "b", "", false } };
        static const ModelMessage messages[] = {
                { .role = MODEL_ROLE_USER, .text = "hi" },
                { .role = MODEL_ROLE_ASSISTANT, .calls = calls, .n_calls = 2, .opaque = "{\"x\":\"y\"}" },
                { .role = MODEL_ROLE_USER, .text = "", .results = results, .n_results = 2 },
        };
        _cleanup_(model_request_line_done) ModelRequestLine l = {};
        StrBuf b = {};

        ASSERT_OK(model_request_format(&b, &(ModelCallSpec) {
                .provider = MODEL_GOOGLE, .messages = messages, .n_messages = 3, .tools = tools, .n_tools = 2,
                .no_calls = true,
        }));
        ASSERT_NULL(memchr(b.text + 1, '\n', b.size - 2));
        ASSERT_OK(model_request_parse(&l, b.text + 1, b.size - 2, NULL, 0));
        ASSERT_EQ(l.spec.n_messages, 3);
        ASSERT_EQ(l.spec.n_tools, 2);
        ASSERT_TRUE(l.spec.no_calls);
        ASSERT_STREQ(l.spec.tools[1].name, "b");
        ASSERT_STREQ(l.spec.tools[1].description, "B.");
        ASSERT_STREQ(l.spec.tools[1].schema, "{\"type\":\"object\"}");
        ASSERT_EQ(l.messages[0].n_calls + l.messages[0].n_results + l.messages[2].n_calls, 0);
        ASSERT_EQ(l.messages[1].n_calls, 2);
        ASSERT_STREQ(l.messages[1].text, "");
        ASSERT_STREQ(l.messages[1].opaque, "{\"x\":\"y\"}");
        for (size_t i = 0; i < 2; i++) {
                ASSERT_STREQ(l.messages[1].calls[i].id, calls[i].id);
                ASSERT_STREQ(l.messages[1].calls[i].name, calls[i].name);
                ASSERT_STREQ(l.messages[1].calls[i].arguments, calls[i].arguments);
                ASSERT_STREQ(l.messages[2].results[i].id, results[i].id);
                ASSERT_STREQ(l.messages[2].results[i].name, results[i].name);
                ASSERT_STREQ(l.messages[2].results[i].text, results[i].text);
                ASSERT_EQ(l.messages[2].results[i].is_error, results[i].is_error);
        }
        strbuf_done(&b);
}

static int image_file(const char *content) {
        int fd = memfd_create("image", MFD_CLOEXEC);

        ASSERT_OK(fd);
        ASSERT_EQ(write(fd, content, strlen(content)), (ssize_t) strlen(content));
        return fd;
}

TEST(images_are_counted) {
        int fds[] = { 100, 101, 102 };
        const ModelImage images[] = { { "image/png", 5, fds[0] }, { "image/gif", 6, fds[1] }, { "x", 7, fds[2] } };
        const ModelMessage messages[] = {
                { .role = MODEL_ROLE_USER, .text = "a", .images = images, .n_images = 2 },
                { .role = MODEL_ROLE_USER, .text = "b" },
                { .role = MODEL_ROLE_USER, .text = "", .images = images + 2, .n_images = 1 },
        };
        ModelImage many[MODEL_IMAGES_MAX + 1] = {};
        ModelCallSpec spec = { .provider = MODEL_OPENAI, .messages = messages, .n_messages = 3 };
        _cleanup_(model_request_line_done) ModelRequestLine l = {};
        int sent[MODEL_IMAGES_MAX];
        StrBuf b = {};

        ASSERT_OK(model_request_format(&b, &spec));
        ASSERT_EQ(model_request_fds(&spec, sent), 3);
        ASSERT_EQ(memcmp(sent, fds, sizeof(fds)), 0);
        ASSERT_EQ(model_request_parse(&l, b.text + 1, b.size - 2, fds, 2), -EBADMSG);
        ASSERT_EQ(model_request_parse(&l, b.text + 1, b.size - 2, (int[]) { 1, 2, 3, 4 }, 4), -EBADMSG);
        ASSERT_OK(model_request_parse(&l, b.text + 1, b.size - 2, fds, 3));
        ASSERT_EQ(l.messages[0].n_images, 2);
        ASSERT_EQ(l.messages[1].n_images, 0);
        ASSERT_EQ(l.messages[2].n_images, 1);
        ASSERT_STREQ(l.messages[0].images[1].type, "image/gif");
        ASSERT_EQ(l.messages[0].images[1].size, 6);
        ASSERT_EQ(l.messages[0].images[1].fd, 101);
        ASSERT_EQ(l.messages[2].images[0].fd, 102);

        spec.messages = &(ModelMessage) { .role = MODEL_ROLE_USER, .images = many, .n_images = ELEMENTSOF(many) };
        spec.n_messages = 1;
        ASSERT_EQ(model_request_format(&b, &spec), -EINVAL);
        strbuf_done(&b);
}

/* One call after the other, each with its own: through the socket, to the provider. */
TEST(images_reach_the_provider) {
        static const Answer ok = {
                .bytes = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
                         "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"seen\"},"
                         "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        };
        static const Answer answers[] = { ok, ok };
        static const char *const expected[] = { "data:image/png;base64,cmVk\"", "data:image/png;base64,Ymx1ZQ==\"" };
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        _cleanup_free_ char *url = NULL, *text = malloc(MIB(1) + 1);
        Server server;

        /* More than the socket takes at once. */
        memset(text, 'x', MIB(1));
        text[MIB(1)] = 0;
        server_start(&server, event, answers, 2);
        url = asprintf_new("http://127.0.0.1:%u/", server.port);
        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        for (unsigned i = 0; i < 2; i++) {
                int fd = image_file(i == 0 ? "red" : "blue");
                ModelImage image = { "image/png", i == 0 ? 3 : 4, fd };
                Call call = {};
                ModelCall *m;

                ASSERT_OK(model_client_call_start(c, &(ModelCallSpec) {
                        .provider = MODEL_OPENAI, .base_url = url, .on_delta = on_delta, .on_done = on_done,
                        .userdata = &call, .n_messages = 1, .messages = &(ModelMessage) {
                                .role = MODEL_ROLE_USER, .text = text, .images = &image, .n_images = 1,
                        },
                }, &m));
                ASSERT_OK(close(fd));
                wait_done(event, &call);
                ASSERT_EQ(call.error, MODEL_ERROR_NONE);
                ASSERT_STREQ(call.text.text, "seen");
                ASSERT_NOT_NULL(strstr(server_body(&server, i), expected[i]));
                (void) model_client_call_free(m);
                strbuf_done(&call.text);
        }
        server_stop(&server);
}

/* The most memory that a child of ours has had, in KiB. Those that have ended have none. */
static unsigned long child_peak(void) {
        _cleanup_free_ char *children = NULL, *list = asprintf_new("/proc/self/task/%i/children", (int) getpid());
        unsigned long peak = 0;
        size_t n;

        if (file_read(list, KIB(4), &children, &n) < 0)
                skip();         /* not every kernel tells */
        for (char *p = children, *pid; (pid = strsep(&p, " ")); ) {
                _cleanup_free_ char *path = strjoin("/proc/", pid, "/status"), *status = NULL;
                const char *line;

                if (*pid && file_read(path, KIB(64), &status, &n) >= 0 && (line = strstr(status, "\nVmHWM:")))
                        peak = MAX(peak, strtoul(line + 7, NULL, 10));
        }
        ASSERT_TRUE(peak > 0);
        return peak;
}

/* What an image weighs is nothing to who sends it. */
TEST(large_images_take_no_room) {
        static const Answer ok = {
                .bytes = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
                         "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"seen\"},"
                         "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        };
        static const size_t sizes[] = { KIB(100), MIB(14) };
        const Answer answers[] = { ok, ok };
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        _cleanup_free_ char *url = NULL;
        unsigned long peaks[ELEMENTSOF(sizes)];
        Server server;

        server_start(&server, event, answers, ELEMENTSOF(answers));
        url = asprintf_new("http://127.0.0.1:%u/", server.port);
        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                int fd = image_file("x");
                ModelImage image = { "image/png", sizes[i], fd };
                Call call = {};
                ModelCall *m;

                ASSERT_OK(ftruncate(fd, (off_t) sizes[i]));
                ASSERT_OK(model_client_call_start(c, &(ModelCallSpec) {
                        .provider = MODEL_OPENAI, .base_url = url, .on_delta = on_delta, .on_done = on_done,
                        .userdata = &call, .n_messages = 1, .messages = &(ModelMessage) {
                                .role = MODEL_ROLE_USER, .text = "look", .images = &image, .n_images = 1,
                        },
                }, &m));
                ASSERT_OK(close(fd));
                wait_done(event, &call);
                ASSERT_EQ(call.error, MODEL_ERROR_NONE);
                ASSERT_TRUE(strlen(server_body(&server, i)) > sizes[i] / 3 * 4);
                peaks[i] = child_peak();
                (void) model_client_call_free(m);
                strbuf_done(&call.text);
        }
        if (peaks[1] > peaks[0] + 4096)
                fail_msg("%lu KiB, then %lu KiB", peaks[0], peaks[1]);
        server_stop(&server);
}

TEST(calls_come_through) {
        _cleanup_(model_answer_line_done) ModelAnswerLine l = {};
        StrBuf b = {};

        ASSERT_OK(model_result_format(&b, &(ModelResult) {
                .stop = MODEL_STOP_TOOLS, .calls = calls, .n_calls = 2, .opaque = "[1]", .tools_refused = true,
        }));
        ASSERT_EQ(model_answer_parse(&l, b.text, b.size - 1), 1);
        ASSERT_EQ(l.result.stop, MODEL_STOP_TOOLS);
        ASSERT_EQ(l.result.n_calls, 2);
        ASSERT_STREQ(l.result.calls[0].arguments, calls[0].arguments);
        ASSERT_STREQ(l.result.calls[1].id, "c2");
        ASSERT_STREQ(l.result.opaque, "[1]");
        ASSERT_TRUE(l.result.tools_refused);
        ASSERT_FALSE(l.result.call_cut);
        strbuf_done(&b);
}

TEST(cut_calls_are_told) {
        _cleanup_(model_answer_line_done) ModelAnswerLine l = {};
        StrBuf b = {};

        ASSERT_OK(model_result_format(&b, &(ModelResult) { .stop = MODEL_STOP_LENGTH, .call_cut = true }));
        ASSERT_EQ(model_answer_parse(&l, b.text, b.size - 1), 1);
        ASSERT_EQ(l.result.stop, MODEL_STOP_LENGTH);
        ASSERT_TRUE(l.result.call_cut);
        strbuf_done(&b);
}

/* The largest step there can be, through the process and back. */
TEST(large_calls) {
        _cleanup_(sd_event_unrefp) sd_event *event = loop_new();
        _cleanup_(model_client_freep) ModelClient *c = NULL;
        _cleanup_free_ char *url = NULL;
        static const ModelTool tool = { "a", "A.", "{\"type\":\"object\"}" };
        StrBuf b = {};
        Server server;
        ModelCall *m;
        Call call = {};

        ASSERT_OK(strbuf_puts(&b, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"));
        for (unsigned i = 0; i < 4; i++)
                for (unsigned k = 0; k < 16; k++) {
                        ASSERT_OK(strbuf_printf(&b, "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":%u,"
                                                    "\"id\":\"c%u\",\"function\":{\"name\":\"a\","
                                                    "\"arguments\":\"", i, i));
                        for (size_t n = 0; n < MODEL_ARGUMENTS_MAX / 16; n++)
                                ASSERT_OK(strbuf_puts(&b, "\\u0001"));
                        ASSERT_OK(strbuf_puts(&b, "\"}}]}}]}\n\n"));
                }
        ASSERT_OK(strbuf_puts(&b, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n"
                                  "data: [DONE]\n\n"));
        server_start(&server, event, &(Answer) { .bytes = b.text, .size = b.size }, 1);
        url = asprintf_new("http://127.0.0.1:%u/", server.port);
        ASSERT_OK(model_client_new(&c, event, MODEL_PROGRAM));
        ASSERT_OK(model_client_call_start(c, &(ModelCallSpec) {
                .provider = MODEL_OPENAI, .base_url = url, .tools = &tool, .n_tools = 1,
                .messages = &(ModelMessage) { .role = MODEL_ROLE_USER, .text = "hi" }, .n_messages = 1,
                .on_delta = on_delta, .on_done = on_done, .userdata = &call,
        }, &m));
        wait_done(event, &call);
        ASSERT_EQ(call.error, MODEL_ERROR_NONE);
        ASSERT_EQ(call.calls_size, 4 * MODEL_ARGUMENTS_MAX);
        (void) model_client_call_free(m);
        server_stop(&server);
        strbuf_done(&b);
}

#define TEST_SUITE "model-client"
TEST_MAIN();
