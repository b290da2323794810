/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "model-driver.h"
#include "scripted-server.h"

#define KEY "sk-test-0123456789"
#define STREAM "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
#define ERROR(status, headers, body) \
        "HTTP/1.1 " status " X\r\ncontent-type: application/json\r\n" headers "connection: close\r\n\r\n" body
#define OPENAI_OK STREAM \
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"ok\"},\"finish_reason\":\"stop\"}]}\n\n" \
        "data: [DONE]\n\n"
#define A_START(usage) \
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{" usage "}}}\n\n"
#define A_TEXT(t) \
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0," \
        "\"delta\":{\"type\":\"text_delta\",\"text\":\"" t "\"}}\n\n"
#define A_END(reason) \
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason "\"}," \
        "\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
#define O_DELTA(d) "data: {\"choices\":[{\"index\":0,\"delta\":{" d "},\"finish_reason\":null}],\"usage\":null}\n\n"
#define O_FINISH(reason) "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\n"
#define O_END \
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"prompt_tokens_details\":" \
        "{\"cached_tokens\":2},\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\ndata: [DONE]\n\n"
#define G_TEXT(t) "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" t "\"}]},\"index\":0}]}\r\n\r\n"
#define G_END(reason) \
        "data: {\"candidates\":[{\"content\":{\"role\":\"model\"},\"finishReason\":\"" reason "\"}]," \
        "\"usageMetadata\":{\"promptTokenCount\":5,\"cachedContentTokenCount\":2,\"candidatesTokenCount\":4," \
        "\"thoughtsTokenCount\":3}}\r\n\r\n"

/* For the tables. */
enum {
        A = MODEL_ANTHROPIC,
        O = MODEL_OPENAI,
        G = MODEL_GOOGLE,
};

/* One call against the server, and what came of it. */
typedef struct Talk {
        sd_event *event;
        HttpClient *http;
        Server server;
        ModelCall *call;
        StrBuf deltas;
        size_t n_deltas;
        bool done;
        ModelResult result;     /* strings are copies */
        char *text, *message, *request_id;
} Talk;

static const ModelMessage hello[] = { { MODEL_ROLE_USER, "Hello there" } };

static void talk_start(Talk *t, const Answer *answers, size_t n_answers) {
        *t = (Talk) {};
        ASSERT_OK(sd_event_new(&t->event));
        ASSERT_OK(http_client_new(&t->http, t->event));
        server_start(&t->server, t->event, answers, n_answers);
}

static void talk_stop(Talk *t) {
        t->call = model_call_free(t->call);
        t->http = http_client_free(t->http);
        server_stop(&t->server);
        t->event = sd_event_unref(t->event);
        strbuf_done(&t->deltas);
        free(t->text);
        free(t->message);
        free(t->request_id);
}

static void talk_on_delta(ModelCall *c, const char *text, size_t size, void *userdata) {
        Talk *t = userdata;

        ASSERT_TRUE(size > 0 && utf8_is_valid(text, size));
        ASSERT_OK(strbuf_append(&t->deltas, text, size));
        t->n_deltas++;
}

static void talk_on_done(ModelCall *c, const ModelResult *r, void *userdata) {
        Talk *t = userdata;

        ASSERT_FALSE(t->done);
        t->done = true;
        t->result = *r;
        t->text = strdup(r->text);
        t->message = strdup(strempty(r->message));
        t->request_id = strdup(strempty(r->request_id));
        ASSERT_TRUE(t->text && t->message && t->request_id);
        ASSERT_STREQ(strempty(t->deltas.text), t->text);
        ASSERT_NULL(strstr(t->message, KEY));
        ASSERT_TRUE(strlen(t->message) < 1300);
        t->call = model_call_free(t->call);
}

static void talk_ask(Talk *t, ModelProvider provider, const char *path) {
        _cleanup_free_ char *base = asprintf_new("http://127.0.0.1:%u%s", t->server.port, path);
        ModelCallSpec spec = {
                .provider = provider, .base_url = base, .api_key = KEY, .model = "m",
                .messages = hello, .n_messages = 1, .on_delta = talk_on_delta, .on_done = talk_on_done, .userdata = t,
        };

        ASSERT_NOT_NULL(base);
        ASSERT_OK(model_call_start(t->http, t->event, &spec, &t->call));
}

/* One turn of the loop; the limit only keeps a broken test from hanging. */
static void talk_step(Talk *t) {
        if (ASSERT_OK(sd_event_run(t->event, 30 * USEC_PER_SEC)) == 0)
                fail_msg("Nothing happens any more");
}

static void talk_run(Talk *t) {
        while (!t->done)
                talk_step(t);
}

static void exchange(Talk *t, ModelProvider provider, const Answer *answers, size_t n_answers) {
        talk_start(t, answers, n_answers);
        talk_ask(t, provider, "");
        talk_run(t);
}

typedef struct Case {
        ModelProvider provider;
        const char *body, *text;
        ModelErrorKind error;
        ModelStop stop;
        uint64_t input, output;
} Case;

/* Bodies of streams with status 200. */
static const Case streams[] = {
        { A, A_START("\"input_tokens\":1,\"cache_read_input_tokens\":2,\"cache_creation_input_tokens\":4,"
                                   "\"output_tokens\":1")
                           "event: ping\ndata: {\"type\":\"ping\"}\n\n" A_TEXT("Grüß ") A_TEXT("") A_TEXT("Gott 🌍")
                           "event: later\ndata: {\"type\":\"later\"}\n\n" A_END("end_turn"),
          "Grüß Gott 🌍", MODEL_ERROR_NONE, MODEL_STOP_END, 7, 7 },
        { A, A_START("\"input_tokens\":3")
                           "data: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\","
                           "\"thinking\":\"hm\"}}\n\n" A_TEXT("a\\u0000b\\ud83d\\ude00") A_END("max_tokens"),
          "ab😀", MODEL_ERROR_NONE, MODEL_STOP_LENGTH, 3, 7 },
        { A, A_START("\"input_tokens\":3") A_END("refusal"), "", MODEL_ERROR_NONE, MODEL_STOP_REFUSAL, 3, 7 },
        { A, A_START("\"input_tokens\":3") A_END("end_turn"), "", MODEL_ERROR_NONE, MODEL_STOP_END, 3, 7 },
        { A, A_START("\"input_tokens\":3") A_END("pause_turn"), "", MODEL_ERROR_NONE, MODEL_STOP_OTHER, 3, 7 },
        { A, A_TEXT("half"), "half", MODEL_ERROR_CUT },
        { A, A_TEXT("a") "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\","
                           "\"message\":\"Overloaded\"}}\n\n", "a", MODEL_ERROR_OVERLOADED },
        { A, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
                           "\"message\":\"prompt is too long: 9 tokens\"}}\n\n", "", MODEL_ERROR_CONTEXT_LENGTH },
        { A, A_TEXT("a") "data: {\"type\":\n\n", "a", MODEL_ERROR_PROTOCOL },
        { A, A_TEXT("a") "data: [1]\n\n", "a", MODEL_ERROR_PROTOCOL },
        { A, ": only a comment\n\n", "", MODEL_ERROR_CUT },

        { O, O_DELTA("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null") O_DELTA("\"content\":\"Grüß \"")
                        ": comment\r\n" O_DELTA("\"content\":\"Gott 🌍\"") O_FINISH("stop") O_END,
          "Grüß Gott 🌍", MODEL_ERROR_NONE, MODEL_STOP_END, 5, 7 },
        { O, O_DELTA("\"content\":\"x\"") O_FINISH("length") O_END, "x", MODEL_ERROR_NONE, MODEL_STOP_LENGTH, 5, 7 },
        { O, O_FINISH("stop") O_END, "", MODEL_ERROR_NONE, MODEL_STOP_END, 5, 7 },
        { O, O_DELTA("\"refusal\":\"No.\"") O_FINISH("stop") O_END, "", MODEL_ERROR_NONE, MODEL_STOP_REFUSAL, 5, 7 },
        { O, O_FINISH("content_filter") O_END, "", MODEL_ERROR_NONE, MODEL_STOP_REFUSAL, 5, 7 },
        { O, O_DELTA("\"content\":\"x\"") O_FINISH("stop"), "x", MODEL_ERROR_NONE, MODEL_STOP_END },
        { O, O_DELTA("\"content\":\"half\""), "half", MODEL_ERROR_CUT },
        { O, O_DELTA("\"content\":\"a\"") "data: {\"error\":{\"message\":\"oops\",\"type\":\"server_error\"}}\n\n",
          "a", MODEL_ERROR_OVERLOADED },
        { O, "data: {\"error\":{\"message\":\"slow down\",\"code\":429}}\n\n", "", MODEL_ERROR_RATE_LIMIT },
        { O, "data: {\"error\":{\"message\":\"pay\",\"code\":\"insufficient_quota\"}}\n\n", "", MODEL_ERROR_BILLING },

        { G, "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true},"
                        "{\"text\":\"Grüß \"}]}}]}\r\n\r\n" G_TEXT("Gott 🌍") G_END("STOP"),
          "Grüß Gott 🌍", MODEL_ERROR_NONE, MODEL_STOP_END, 5, 7 },
        { G, G_TEXT("x") G_END("MAX_TOKENS"), "x", MODEL_ERROR_NONE, MODEL_STOP_LENGTH, 5, 7 },
        { G, G_END("SAFETY"), "", MODEL_ERROR_NONE, MODEL_STOP_REFUSAL, 5, 7 },
        { G, "data: {\"promptFeedback\":{\"blockReason\":\"OTHER\"}}\r\r", "", MODEL_ERROR_NONE, MODEL_STOP_REFUSAL },
        { G, G_TEXT("half"), "half", MODEL_ERROR_CUT },
        { G, G_TEXT("a") "data: {\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"busy\"}}\r\n\r\n",
          "a", MODEL_ERROR_OVERLOADED },
};

TEST(streams) {
        static const size_t pieces[] = { 0, 1, 3 };

        for (size_t i = 0; i < ELEMENTSOF(streams); i++)
                for (size_t k = 0; k < ELEMENTSOF(pieces); k++) {
                        _cleanup_free_ char *bytes = strjoin(STREAM, streams[i].body);
                        Answer a = { .bytes = bytes, .piece = pieces[k] };
                        Talk t;

                        exchange(&t, streams[i].provider, &a, 1);
                        if (t.result.error != streams[i].error || !streq(t.text, streams[i].text))
                                fail_msg("stream %zu: %s: '%s' '%s'", i, model_error_kind_to_string(t.result.error),
                                         t.text, t.message);
                        ASSERT_EQ(t.result.http_status, 200);
                        if (streams[i].error == MODEL_ERROR_NONE) {
                                ASSERT_EQ(t.result.stop, streams[i].stop);
                                ASSERT_EQ(t.result.usage.input_tokens, streams[i].input);
                                ASSERT_EQ(t.result.usage.output_tokens, streams[i].output);
                        }
                        talk_stop(&t);
                }
}

/* Error answers that are not tried again: one request each. */
TEST(errors) {
        static const struct {
                ModelProvider provider;
                const char *answer;
                ModelErrorKind error;
                long status;
                const char *message;
        } t[] = {
                { A, ERROR("401", "", "{\"type\":\"error\",\"error\":{\"type\":\"authentication_error\","
                                         "\"message\":\"bad key " KEY "\"}}"), MODEL_ERROR_AUTH, 401, "bad key ***" },
                { A, ERROR("400", "", "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"Your credit "
                                         "balance is too low\"}}"), MODEL_ERROR_BILLING, 400, "credit" },
                { A, ERROR("413", "", "{\"error\":{\"type\":\"request_too_large\",\"message\":\"x\"}}"),
                  MODEL_ERROR_CONTEXT_LENGTH, 413, "x" },
                { A, ERROR("404", "", "{\"error\":{\"type\":\"not_found_error\",\"message\":\"model: m\"}}"),
                  MODEL_ERROR_NOT_FOUND, 404, "model: m" },
                { A, ERROR("400", "", "{\"error\":{\"type\":\"invalid_request_error\",\"message\":\"x\"}}"),
                  MODEL_ERROR_INVALID_REQUEST, 400, "x" },
                { A, ERROR("429", "retry-after: 61\r\n", "{\"error\":{\"type\":\"rate_limit_error\"}}"),
                  MODEL_ERROR_RATE_LIMIT, 429, "no text" },
                { A, ERROR("529", "x-should-retry: false\r\n", ""), MODEL_ERROR_OVERLOADED, 529, "no text" },
                { A, ERROR("301", "location: http://127.0.0.1:1/\r\n", ""), MODEL_ERROR_PROTOCOL, 301, "" },
                { O, ERROR("200", "", "<!DOCTYPE html><title>Log in</title>\n"), MODEL_ERROR_PROTOCOL, 200, "HTML" },
                { O, ERROR("200", "", "{\"choices\":[{\"message\":{\"content\":\"hi\"}}]}"),
                  MODEL_ERROR_PROTOCOL, 200, "" },
                { O, ERROR("403", "", "<html>no</html>"), MODEL_ERROR_AUTH, 403, "HTML" },
                { O, ERROR("404", "", "{\"error\":\"model 'm' not found\"}"), MODEL_ERROR_NOT_FOUND, 404, "'m'" },
                { O, ERROR("422", "", "{\"detail\":[{\"msg\":\"field required\"}]}"),
                  MODEL_ERROR_INVALID_REQUEST, 422, "field" },
                { O, ERROR("400", "", "{\"detail\":\"no good\"}"), MODEL_ERROR_INVALID_REQUEST, 400, "no good" },
                { O, ERROR("400", "", "{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"x\"}}"),
                  MODEL_ERROR_CONTEXT_LENGTH, 400, "x" },
                { O, ERROR("400", "", "{\"error\":{\"message\":\"exceeds the context window\"}}"),
                  MODEL_ERROR_CONTEXT_LENGTH, 400, "window" },
                { O, ERROR("429", "", "{\"error\":{\"type\":\"insufficient_quota\",\"message\":\"pay\"}}"),
                  MODEL_ERROR_BILLING, 429, "pay" },
                { O, ERROR("401", "", "plain \x1b[31mtext"), MODEL_ERROR_AUTH, 401, "plain ?[31mtext" },
                { G, ERROR("400", "", "{\"error\":{\"status\":\"INVALID_ARGUMENT\",\"message\":\"x\",\"details\":"
                                      "[{\"reason\":\"API_KEY_INVALID\"}]}}"), MODEL_ERROR_AUTH, 400, "x" },
                { G, ERROR("400", "", "[{\"error\":{\"status\":\"INVALID_ARGUMENT\",\"message\":\"The input token "
                                      "count (9) exceeds\"}}]"), MODEL_ERROR_CONTEXT_LENGTH, 400, "count" },
                { G, ERROR("429", "", "{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"x\",\"details\":"
                                      "[{\"violations\":[{\"quotaId\":\"RequestsPerDayPerUser\"}]}]}}"),
                  MODEL_ERROR_BILLING, 429, "x" },
                { G, ERROR("429", "", "{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"message\":\"x\",\"details\":"
                                      "[{\"retryDelay\":\"61.5s\"}]}}"), MODEL_ERROR_RATE_LIMIT, 429, "x" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Answer a = { .bytes = t[i].answer };
                Talk k;

                exchange(&k, t[i].provider, &a, 1);
                if (k.result.error != t[i].error || !strstr(k.message, t[i].message))
                        fail_msg("error %zu: %s: '%s'", i, model_error_kind_to_string(k.result.error), k.message);
                ASSERT_EQ(k.result.http_status, t[i].status);
                ASSERT_STREQ(k.text, "");
                if (t[i].status == 429 && t[i].error == MODEL_ERROR_RATE_LIMIT)
                        ASSERT_EQ(k.result.retry_after_usec / USEC_PER_SEC, 61);
                else
                        ASSERT_TRUE(k.result.retry_after_usec == USEC_INFINITY);
                talk_stop(&k);
        }
}

TEST(retries) {
        static const char busy[] = ERROR("529", "retry-after-ms: 1\r\n",
                                         "{\"error\":{\"type\":\"overloaded_error\"}}");
        static const char limited[] = ERROR("429", "retry-after: 0\r\n", "");
        static const char odd[] = ERROR("400", "x-should-retry: true\r\nretry-after-ms: 1\r\n", "");
        static const char quota[] = ERROR("429", "", "{\"error\":{\"status\":\"RESOURCE_EXHAUSTED\",\"details\":"
                                          "[{\"retryDelay\":\"0.001s\"}]}}");
        static const struct {
                Answer answers[4];
                size_t n;               /* that are asked for */
                ModelErrorKind error;
        } t[] = {
                { { { .bytes = busy }, { .bytes = OPENAI_OK } }, 2, MODEL_ERROR_NONE },
                { { { .bytes = limited }, { .bytes = busy }, { .bytes = OPENAI_OK } }, 3, MODEL_ERROR_NONE },
                { { { .bytes = busy }, { .bytes = busy }, { .bytes = busy } }, 3, MODEL_ERROR_OVERLOADED },
                { { { .bytes = odd }, { .bytes = OPENAI_OK } }, 2, MODEL_ERROR_NONE },
                /* No delay given: our own. */
                { { { .bytes = NULL }, { .bytes = OPENAI_OK } }, 2, MODEL_ERROR_NONE },
                { { { .bytes = STREAM }, { .bytes = OPENAI_OK } }, 2, MODEL_ERROR_NONE },
                /* A byte of the reply was there. */
                { { { .bytes = STREAM O_DELTA("\"content\":\"x\"") } }, 1, MODEL_ERROR_CUT },
                { { { .bytes = STREAM ":" } }, 1, MODEL_ERROR_CUT },
        };
        static const Answer google[] = { { .bytes = quota }, { .bytes = STREAM G_TEXT("x") G_END("STOP") } };
        Talk k;

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                exchange(&k, MODEL_OPENAI, t[i].answers, t[i].n);
                if (k.result.error != t[i].error || k.server.n_connections != t[i].n)
                        fail_msg("retry %zu: %s after %zu", i, model_error_kind_to_string(k.result.error),
                                 k.server.n_connections);
                if (t[i].error == MODEL_ERROR_NONE)
                        ASSERT_STREQ(k.text, "ok");
                talk_stop(&k);
        }

        exchange(&k, MODEL_GOOGLE, google, 2);
        ASSERT_EQ(k.result.error, MODEL_ERROR_NONE);
        ASSERT_STREQ(k.text, "x");
        talk_stop(&k);
}

TEST(connection_trouble) {
        static const Answer cut = {
                .bytes = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 5000\r\n\r\n"
                         A_START("\"input_tokens\":1") A_TEXT("half"),
        };
        static const Answer silent = { .bytes = STREAM A_TEXT("half"), .hold = true };
        static const Answer lingering = { .bytes = STREAM A_TEXT("all") A_END("end_turn"), .hold = true };
        ModelCallSpec spec = {
                .provider = MODEL_ANTHROPIC, .api_key = KEY, .messages = hello, .n_messages = 1,
                .idle_timeout_usec = 20 * USEC_PER_MSEC, .on_delta = talk_on_delta, .on_done = talk_on_done,
        };
        _cleanup_free_ char *base = NULL;
        Talk t;

        exchange(&t, MODEL_ANTHROPIC, &cut, 1);
        ASSERT_EQ(t.result.error, MODEL_ERROR_CUT);
        ASSERT_STREQ(t.text, "half");
        talk_stop(&t);

        talk_start(&t, &silent, 1);
        base = asprintf_new("http://127.0.0.1:%u", t.server.port);
        spec.base_url = base;
        spec.userdata = &t;
        ASSERT_OK(model_call_start(t.http, t.event, &spec, &t.call));
        talk_run(&t);
        ASSERT_EQ(t.result.error, MODEL_ERROR_TIMEOUT);
        ASSERT_STREQ(t.text, "half");
        talk_stop(&t);

        /* The reply is whole with its terminal event, whether or not the server hangs up. */
        exchange(&t, MODEL_ANTHROPIC, &lingering, 1);
        ASSERT_EQ(t.result.error, MODEL_ERROR_NONE);
        ASSERT_EQ(t.result.http_status, 200);
        ASSERT_STREQ(t.text, "all");
        talk_stop(&t);

        /* Nobody listens. */
        talk_start(&t, NULL, 0);
        spec.userdata = &t;
        free(base);
        base = asprintf_new("http://127.0.0.1:%u", t.server.port);
        spec.base_url = base;
        server_stop(&t.server);
        ASSERT_OK(model_call_start(t.http, t.event, &spec, &t.call));
        talk_run(&t);
        ASSERT_EQ(t.result.error, MODEL_ERROR_CONNECT);
        ASSERT_EQ(t.result.http_status, 0);
        talk_stop(&t);
}

TEST(cancel) {
        static const Answer held = { .bytes = STREAM A_TEXT("a"), .hold = true };
        Talk t;

        talk_start(&t, &held, 1);
        talk_ask(&t, MODEL_ANTHROPIC, "");
        while (t.n_deltas == 0)
                talk_step(&t);
        t.call = model_call_free(t.call);
        while (!t.server.connections[0].closed_by_peer)
                talk_step(&t);
        ASSERT_FALSE(t.done);
        talk_stop(&t);

        /* Before it has begun. */
        talk_start(&t, NULL, 0);
        talk_ask(&t, MODEL_ANTHROPIC, "");
        talk_stop(&t);
        ASSERT_FALSE(t.done);
}

TEST(large_reply) {
        static const struct {
                ModelProvider provider;
                const char *event, *end;
        } t[] = {
                { A, A_TEXT("%s"), A_END("end_turn") },
                { O, O_DELTA("\"content\":\"%s\""), O_FINISH("stop") O_END },
                { G, G_TEXT("%s"), G_END("STOP") },
        };
        char kilobyte[1025];

        for (size_t i = 0; i < sizeof(kilobyte) - 1; i += 4)
                memcpy(kilobyte + i, "🌍", 4);
        kilobyte[1024] = 0;

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(strbuf_done) StrBuf b = {};
                const char *gap = strstr(t[i].event, "%s");
                Answer a = { .piece = 65521 };
                Talk k;

                ASSERT_OK(strbuf_puts(&b, STREAM));
                for (size_t n = 0; n < 1024; n++) {
                        ASSERT_OK(strbuf_append(&b, t[i].event, (size_t) (gap - t[i].event)));
                        ASSERT_OK(strbuf_puts(&b, kilobyte));
                        ASSERT_OK(strbuf_puts(&b, gap + 2));
                }
                ASSERT_OK(strbuf_puts(&b, t[i].end));
                a.bytes = b.text;
                a.size = b.size;

                exchange(&k, t[i].provider, &a, 1);
                ASSERT_EQ(k.result.error, MODEL_ERROR_NONE);
                ASSERT_EQ(strlen(k.text), MIB(1));
                ASSERT_EQ(k.n_deltas, 1024);
                talk_stop(&k);
        }
}

static const ModelMessage talkative[] = {
        { MODEL_ROLE_ASSISTANT, "dropped" },
        { MODEL_ROLE_USER, "one" },
        { MODEL_ROLE_USER, "two \"ü\"" },
        { MODEL_ROLE_ASSISTANT, "three" },
        { MODEL_ROLE_ASSISTANT, " \n" },
        { MODEL_ROLE_ASSISTANT, "four" },
        { MODEL_ROLE_USER, "five" },
};

TEST(requests) {
        static const Answer refuse = { .bytes = ERROR("400", "request-id: abc\r\n", "") };
        static const struct {
                ModelProvider provider;
                const char *path, *heads[5], *body;
        } t[] = {
                { A, "/prefix/", { "POST /prefix/v1/messages HTTP/1.1", "x-api-key: " KEY,
                  "anthropic-version: 2023-06-01", "content-type: application/json", "accept: application/json" },
                  "{\"model\":\"m\",\"max_tokens\":99,\"stream\":true,\"system\":[{\"type\":\"text\",\"text\":\"Be.\","
                  "\"cache_control\":{\"type\":\"ephemeral\"}}],\"messages\":["
                  "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\"},"
                  "{\"type\":\"text\",\"text\":\"two \\\"ü\\\"\"}]},"
                  "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"three\"},"
                  "{\"type\":\"text\",\"text\":\"four\",\"cache_control\":{\"type\":\"ephemeral\"}}]},"
                  "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"five\"}]}]}" },
                { O, "/v1", { "POST /v1/chat/completions HTTP/1.1", "authorization: Bearer " KEY,
                  "content-type: application/json" },
                  "{\"model\":\"m\",\"max_tokens\":99,\"stream\":true,\"stream_options\":{\"include_usage\":true},"
                  "\"messages\":[{\"role\":\"system\",\"content\":\"Be.\"},"
                  "{\"role\":\"user\",\"content\":\"one\\n\\ntwo \\\"ü\\\"\"},"
                  "{\"role\":\"assistant\",\"content\":\"three\\n\\nfour\"},"
                  "{\"role\":\"user\",\"content\":\"five\"}]}" },
                { G, "", { "POST /v1beta/models/m:streamGenerateContent?alt=sse HTTP/1.1",
                  "x-goog-api-key: " KEY, "content-type: application/json" },
                  "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"one\"},{\"text\":\"two \\\"ü\\\"\"}]},"
                  "{\"role\":\"model\",\"parts\":[{\"text\":\"three\"},{\"text\":\"four\"}]},"
                  "{\"role\":\"user\",\"parts\":[{\"text\":\"five\"}]}],"
                  "\"systemInstruction\":{\"role\":\"user\",\"parts\":[{\"text\":\"Be.\"}]},"
                  "\"generationConfig\":{\"maxOutputTokens\":99}}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *expected = NULL, *got = NULL;
                _cleanup_free_ char *base = NULL;
                ModelCallSpec spec = {
                        .provider = t[i].provider, .api_key = KEY, .model = "m", .system = "Be.", .max_tokens = 99,
                        .messages = talkative, .n_messages = ELEMENTSOF(talkative), .on_done = talk_on_done,
                };
                Talk k;

                talk_start(&k, &refuse, 1);
                spec.base_url = base = asprintf_new("http://127.0.0.1:%u%s", k.server.port, t[i].path);
                spec.userdata = &k;
                ASSERT_OK(model_call_start(k.http, k.event, &spec, &k.call));
                talk_run(&k);
                ASSERT_EQ(k.result.error, MODEL_ERROR_INVALID_REQUEST);
                ASSERT_STREQ(k.request_id, t[i].provider == MODEL_ANTHROPIC ? "abc" : "");
                for (size_t n = 0; n < ELEMENTSOF(t[i].heads) && t[i].heads[n]; n++)
                        if (!server_head_has(&k.server, 0, t[i].heads[n]))
                                fail_msg("No '%s' in: %s", t[i].heads[n], k.server.connections[0].request.text);
                ASSERT_OK(json_parse(t[i].body, strlen(t[i].body), &expected));
                ASSERT_OK(json_parse(server_body(&k.server, 0), strlen(server_body(&k.server, 0)), &got));
                if (!json_object_equal(expected, got))
                        fail_msg("Body: %s", server_body(&k.server, 0));
                talk_stop(&k);
        }
}

/* A compatible server without a key, found through the environment. */
TEST(foreign_without_key) {
        static const Answer ok = { .bytes = OPENAI_OK };
        _cleanup_free_ char *base = NULL;
        ModelCallSpec spec = { .provider = MODEL_OPENAI, .messages = hello, .n_messages = 1, .on_delta = talk_on_delta,
                               .on_done = talk_on_done };
        Talk t;

        talk_start(&t, &ok, 1);
        base = asprintf_new("http://127.0.0.1:%u/v1/", t.server.port);
        ASSERT_OK(setenv("OPENAI_BASE_URL", base, 1));
        spec.userdata = &t;
        ASSERT_OK(model_call_start(t.http, t.event, &spec, &t.call));
        ASSERT_OK(unsetenv("OPENAI_BASE_URL"));
        talk_run(&t);
        ASSERT_STREQ(t.text, "ok");
        ASSERT_TRUE(server_head_has(&t.server, 0, "POST /v1/chat/completions HTTP/1.1"));
        ASSERT_NULL(strcasestr(t.server.connections[0].request.text, "authorization"));
        talk_stop(&t);
}

TEST(refused_before_asking) {
        static const struct {
                ModelProvider provider;
                const char *base, *key;
                ModelErrorKind error;
        } t[] = {
                { A, NULL, NULL, MODEL_ERROR_AUTH },
                { G, "", "", MODEL_ERROR_AUTH },
                { O, "https://API.openai.com:443/v1", NULL, MODEL_ERROR_AUTH },
                { O, "ftp://127.0.0.1/", KEY, MODEL_ERROR_INVALID_REQUEST },
                { O, "not a URL", KEY, MODEL_ERROR_INVALID_REQUEST },
                { O, "http://127.0.0.1/v1?x=y", KEY, MODEL_ERROR_INVALID_REQUEST },
        };
        ModelCallSpec spec = { .messages = hello, .n_messages = 1, .on_done = talk_on_done };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Talk k;

                talk_start(&k, NULL, 0);
                spec.provider = t[i].provider;
                spec.base_url = t[i].base;
                spec.api_key = t[i].key;
                spec.userdata = &k;
                ASSERT_OK(model_call_start(k.http, k.event, &spec, &k.call));
                ASSERT_FALSE(k.done);
                talk_run(&k);
                if (k.result.error != t[i].error)
                        fail_msg("%zu: %s: %s", i, model_error_kind_to_string(k.result.error), k.message);
                talk_stop(&k);
        }
}

TEST(invalid_arguments) {
        static const ModelMessage ends_wrong[] = { { MODEL_ROLE_USER, "a" }, { MODEL_ROLE_ASSISTANT, "b" } };
        static const ModelMessage blank[] = { { MODEL_ROLE_USER, " " }, { MODEL_ROLE_USER, NULL } };
        static const ModelMessage no_utf8[] = { { MODEL_ROLE_USER, "a\xff" } };
        ModelCallSpec spec = { .provider = MODEL_ANTHROPIC, .api_key = "a\nb", .messages = hello, .n_messages = 1,
                               .on_done = talk_on_done };
        Talk t;

        talk_start(&t, NULL, 0);
        ASSERT_ERROR(model_call_start(t.http, t.event, &spec, &t.call), EINVAL);
        spec.api_key = KEY;
        spec.n_messages = 0;
        ASSERT_ERROR(model_call_start(t.http, t.event, &spec, &t.call), EINVAL);
        spec.messages = no_utf8;
        spec.n_messages = 1;
        ASSERT_ERROR(model_call_start(t.http, t.event, &spec, &t.call), EINVAL);
        spec.messages = ends_wrong;
        spec.n_messages = 2;
        ASSERT_ERROR(model_call_start(t.http, t.event, &spec, &t.call), EINVAL);
        spec.messages = blank;
        ASSERT_ERROR(model_call_start(t.http, t.event, &spec, &t.call), EINVAL);
        ASSERT_NULL(t.call);
        talk_stop(&t);
}

TEST(echo) {
        static const char *const texts[] = { "one", "Grüß  Gott\n\n🌍 !\n", " lead" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                ModelMessage m[] = { { MODEL_ROLE_USER, "before" }, { MODEL_ROLE_USER, texts[i] } };
                ModelCallSpec spec = { .provider = MODEL_ECHO, .messages = m, .n_messages = 2,
                                       .on_delta = talk_on_delta, .on_done = talk_on_done };
                Talk t;

                ASSERT_OK(setenv("PUFFO_ECHO_DELAY_MS", i == 0 ? "1" : "nonsense", 1));
                talk_start(&t, NULL, 0);
                spec.userdata = &t;
                ASSERT_OK(model_call_start(NULL, t.event, &spec, &t.call));
                ASSERT_EQ(t.n_deltas, 0);
                talk_run(&t);
                ASSERT_EQ(t.result.error, MODEL_ERROR_NONE);
                ASSERT_EQ(t.result.stop, MODEL_STOP_END);
                ASSERT_STREQ(t.text, texts[i]);
                ASSERT_EQ(t.n_deltas, i == 1 ? 4 : 1);
                talk_stop(&t);
        }
}

TEST(urls) {
        static const struct {
                const ModelDriver *driver;
                const char *base, *model, *url;
        } t[] = {
                { &anthropic_driver, "https://api.anthropic.com", "m", "https://api.anthropic.com/v1/messages" },
                { &anthropic_driver, "https://x/p/v1//", "m", "https://x/p/v1/messages" },
                { &openai_driver, "https://api.openai.com/v1", "m", "https://api.openai.com/v1/chat/completions" },
                { &openai_driver, "http://127.0.0.1:11434", "m", "http://127.0.0.1:11434/v1/chat/completions" },
                { &openai_driver, "http://127.0.0.1:11434/", "m", "http://127.0.0.1:11434/v1/chat/completions" },
                { &openai_driver, "https://x/openai/v3/", "m", "https://x/openai/v3/chat/completions" },
                { &google_driver, "https://x", "models/a b/c",
                  "https://x/v1beta/models/a%20b%2Fc:streamGenerateContent?alt=sse" },
                { &google_driver, "https://x/v1beta", "m-1.5",
                  "https://x/v1beta/models/m-1.5:streamGenerateContent?alt=sse" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *url = NULL;

                ASSERT_OK(t[i].driver->url(t[i].base, t[i].model, &url));
                ASSERT_STREQ(url, t[i].url);
        }
}

TEST(openai_token_limit_name) {
        for (int foreign = 0; foreign < 2; foreign++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                ModelRequest q = { .model = "m", .messages = hello, .n_messages = 1, .max_tokens = 5,
                                   .foreign = foreign };

                ASSERT_OK(openai_driver.body(&q, o));
                ASSERT_EQ(json_get_int(o, "max_tokens", -1), foreign ? 5 : -1);
                ASSERT_EQ(json_get_int(o, "max_completion_tokens", -1), foreign ? -1 : 5);
        }
}

TEST(names) {
        for (ModelProvider p = 0; p < _MODEL_PROVIDER_MAX; p++) {
                ASSERT_EQ(model_provider_from_string(model_provider_to_string(p)), p);
                ASSERT_FALSE(isempty(model_provider_default_model(p)));
                ASSERT_EQ(model_driver_get(p)->default_base_url == NULL, p == MODEL_ECHO);
        }
        ASSERT_EQ(model_provider_from_string("x"), _MODEL_PROVIDER_INVALID);
        ASSERT_EQ(model_provider_from_string(NULL), _MODEL_PROVIDER_INVALID);
        ASSERT_NULL(model_provider_to_string(_MODEL_PROVIDER_INVALID));
        for (ModelErrorKind k = 0; k < _MODEL_ERROR_MAX; k++)
                ASSERT_FALSE(isempty(model_error_kind_to_string(k)));
        ASSERT_TRUE(model_error_is_transient(MODEL_ERROR_CUT));
        ASSERT_FALSE(model_error_is_transient(MODEL_ERROR_BILLING));
}

#define TEST_SUITE "model"
TEST_MAIN();
