/* SPDX-License-Identifier: MIT */

/* Tool calls in the three dialects: how they come, and how the next request repeats them. */

#include "json-util.h"
#include "model-driver.h"
#include "scripted-server.h"

#define STREAM "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
#define REFUSAL(status, body) \
        "HTTP/1.1 " status " X\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" body

#define A_BLOCK(index, block) \
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":" index "," \
        "\"content_block\":{" block "}}\n\n"
#define A_DELTA(index, delta) \
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":" index "," \
        "\"delta\":{" delta "}}\n\n"
#define A_TEXT(index, t) \
        A_BLOCK(index, "\"type\":\"text\",\"text\":\"\"") A_DELTA(index, "\"type\":\"text_delta\",\"text\":\"" t "\"")
#define A_CALL(index, id, name) \
        A_BLOCK(index, "\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"" name "\",\"input\":{}")
#define A_JSON(index, t) A_DELTA(index, "\"type\":\"input_json_delta\",\"partial_json\":\"" t "\"")
#define A_END(reason) \
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"" reason "\"}," \
        "\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
#define O_DELTA(d) "data: {\"choices\":[{\"index\":0,\"delta\":{" d "},\"finish_reason\":null}],\"usage\":null}\n\n"
#define O_CALL(d) O_DELTA("\"tool_calls\":[{" d "}]")
#define O_END(reason) \
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"" reason "\"}]}\n\ndata: [DONE]\n\n"
#define G_PARTS(p) "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[" p "]},\"index\":0}]}\r\n\r\n"
#define G_END "data: {\"candidates\":[{\"content\":{\"role\":\"model\"},\"finishReason\":\"STOP\"}]}\r\n\r\n"

enum {
        A = MODEL_ANTHROPIC,
        O = MODEL_OPENAI,
        G = MODEL_GOOGLE,
};

static const ModelTool tools[] = {
        { "send_message", "Sends.", "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}" },
        { "list_spaces", "Lists.", "{\"type\":\"object\",\"properties\":{}}" },
};

static const ModelMessage hello[] = { { .role = MODEL_ROLE_USER, .text = "Hello" } };

typedef struct Talk {
        sd_event *event;
        HttpClient *http;
        Server server;
        ModelCall *call;
        bool done, tools_refused, call_cut;
        ModelErrorKind error;
        ModelStop stop;
        char *text, *message, *opaque, *calls;  /* calls: "id name arguments" lines; ids of ours are "*" */
} Talk;

static void on_done(ModelCall *c, const ModelResult *r, void *userdata) {
        StrBuf b = {};
        Talk *t = userdata;

        t->done = true;
        t->error = r->error;
        t->stop = r->stop;
        t->tools_refused = r->tools_refused;
        t->call_cut = r->call_cut;
        ASSERT_NOT_NULL(t->text = strdup(r->text));
        ASSERT_NOT_NULL(t->message = strdup(strempty(r->message)));
        ASSERT_NOT_NULL(t->opaque = strdup(strempty(r->opaque)));
        ASSERT_TRUE((r->n_calls > 0) == (r->error == MODEL_ERROR_NONE && r->stop == MODEL_STOP_TOOLS));
        for (size_t i = 0; i < r->n_calls; i++) {
                const char *id = r->calls[i].id;

                ASSERT_FALSE(isempty(id));
                for (size_t k = 0; k < i; k++)
                        ASSERT_FALSE(streq(r->calls[k].id, id));
                ASSERT_OK(strbuf_printf(&b, "%s %s %s\n", model_tool_id_is_ours(id) ? "*" : id, r->calls[i].name,
                                        r->calls[i].arguments));
        }
        ASSERT_NOT_NULL(t->calls = strbuf_take(&b));
        t->call = model_call_free(t->call);
}

static void talk_run(Talk *t, const Answer *answers, size_t n_answers, const ModelCallSpec *template) {
        _cleanup_free_ char *base = NULL;
        ModelCallSpec spec = *template;

        *t = (Talk) {};
        ASSERT_OK(sd_event_new(&t->event));
        ASSERT_OK(http_client_new(&t->http, t->event));
        server_start(&t->server, t->event, answers, n_answers);
        ASSERT_NOT_NULL(base = asprintf_new("http://127.0.0.1:%u", t->server.port));
        spec.base_url = base;
        spec.api_key = "key";
        spec.model = "m";
        spec.on_done = on_done;
        spec.userdata = t;
        ASSERT_OK(model_call_start(t->http, t->event, &spec, &t->call));
        while (!t->done)
                if (ASSERT_OK(sd_event_run(t->event, 30 * USEC_PER_SEC)) == 0)
                        fail_msg("Nothing happens any more");
}

static void talk_stop(Talk *t) {
        t->http = http_client_free(t->http);
        server_stop(&t->server);
        t->event = sd_event_unref(t->event);
        free(t->text);
        free(t->message);
        free(t->opaque);
        free(t->calls);
}

static const struct {
        ModelProvider provider;
        const char *body, *text, *calls, *opaque;
        ModelStop stop;
        ModelErrorKind error;
        bool call_cut;
} streams[] = {
        { A, A_TEXT("0", "Grüß Gott.") A_CALL("1", "toolu_1", "mcp__puffo__send_message") A_JSON("1", "")
             A_JSON("1", "{\\\"text\\\": \\\"h") A_JSON("1", "é\\\"}")
             A_CALL("2", "toolu_2", "mcp__puffo__list_spaces")
             A_END("tool_use"),
          "Grüß Gott.", "toolu_1 send_message {\"text\": \"hé\"}\ntoolu_2 list_spaces \n", "", MODEL_STOP_TOOLS },
        { A, A_BLOCK("0", "\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"")
             A_DELTA("0", "\"type\":\"thinking_delta\",\"thinking\":\"h\"")
             A_DELTA("0", "\"type\":\"thinking_delta\",\"thinking\":\"m\"")
             A_DELTA("0", "\"type\":\"signature_delta\",\"signature\":\"S==\"")
             A_BLOCK("1", "\"type\":\"redacted_thinking\",\"data\":\"D==\"") A_TEXT("2", "T")
             A_CALL("3", "toolu_1", "bare") A_JSON("3", "{not") A_END("tool_use"),
          "T", "toolu_1 bare {not\n",
          "{\"dialect\":\"anthropic\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"S==\"},"
          "{\"type\":\"redacted_thinking\",\"data\":\"D==\"},{\"type\":\"text\",\"text\":\"T\"},"
          "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"mcp__puffo__bare\",\"input\":{}}]}",
          MODEL_STOP_TOOLS },
        /* All at once, as some gateways have it. */
        { A, A_BLOCK("0", "\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"x\",\"input\":{\"a\":1}") A_END("end_turn"),
          "", "t x {\"a\":1}\n", "", MODEL_STOP_TOOLS },
        { A, A_TEXT("0", "cut") A_CALL("1", "t", "x") A_JSON("1", "{\\\"a") A_END("max_tokens"), "cut", "", "",
          MODEL_STOP_LENGTH, MODEL_ERROR_NONE, true },
        { A, A_TEXT("0", "cut") A_END("max_tokens"), "cut", "", "", MODEL_STOP_LENGTH },
        { A, A_CALL("0", "t", "x") A_JSON("0", "{}"), "", "", "", MODEL_STOP_OTHER, MODEL_ERROR_CUT },
        { A, A_BLOCK("0", "\"type\":\"thinking\",\"thinking\":\"x\"") A_TEXT("1", "T") A_END("end_turn"), "T", "", "",
          MODEL_STOP_END },

        { O, O_DELTA("\"role\":\"assistant\",\"content\":\"Ja.\"")
             O_CALL("\"index\":0,\"id\":\"c1\",\"type\":\"function\",\"function\":{"
                    "\"name\":\"mcp__puffo__send_message\","
                    "\"arguments\":\"\"}") O_CALL("\"index\":0,\"function\":{\"arguments\":\"{\\\"text\\\":\"}")
             O_CALL("\"index\":1,\"id\":\"c2\",\"function\":{\"name\":\"list_spaces\",\"arguments\":\"{\"}")
             O_CALL("\"index\":0,\"function\":{\"arguments\":\"\\\"ü\\\"}\"}")
             O_CALL("\"index\":1,\"function\":{\"arguments\":\"}\"}") O_END("tool_calls"),
          "Ja.", "c1 send_message {\"text\":\"ü\"}\nc2 list_spaces {}\n", "", MODEL_STOP_TOOLS },
        /* Without an index, or always with the same; without ids; an object for arguments; the wrong reason. */
        { O, O_CALL("\"function\":{\"name\":\"a\",\"arguments\":\"{}\"}")
             O_CALL("\"function\":{\"name\":\"b\",\"arguments\":{\"x\":[1]}}") O_END("stop"),
          "", "* a {}\n* b {\"x\":[1]}\n", "", MODEL_STOP_TOOLS },
        { O, O_CALL("\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"a\",\"arguments\":\"{}\"}")
             O_CALL("\"index\":0,\"id\":\"c2\",\"function\":{\"name\":\"b\",\"arguments\":\"{}\"}")
             O_CALL("\"index\":0,\"id\":\"c2\",\"function\":{\"name\":\"b\",\"arguments\":\" \"}") O_END("tool_calls"),
          "", "c1 a {}\nc2 b {} \n", "", MODEL_STOP_TOOLS },
        { O, O_DELTA("\"reasoning_content\":\"h\"") O_DELTA("\"reasoning_content\":\"m\"")
             O_CALL("\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"a\"},"
                    "\"extra_content\":{\"google\":{\"thought_signature\":\"S\"}}") O_END("tool_calls"),
          "", "c1 a \n", "{\"dialect\":\"openai\",\"content\":{\"reasoning_content\":\"hm\",\"extra_content\":"
          "[{\"google\":{\"thought_signature\":\"S\"}}]}}", MODEL_STOP_TOOLS },
        { O, O_CALL("\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"a\",\"arguments\":\"{\"}") O_END("length"),
          "", "", "", MODEL_STOP_LENGTH, MODEL_ERROR_NONE, true },

        { G, G_PARTS("{\"text\":\"Ja\"}") G_PARTS("{\"text\":\".\"}")
             G_PARTS("{\"functionCall\":{\"name\":\"mcp__puffo__send_message\",\"args\":{\"text\":\"ü\"}}},"
                     "{\"functionCall\":{\"id\":\"i\",\"name\":\"b\"}}") G_END,
          "Ja.", "* send_message {\"text\":\"ü\"}\ni b \n", "", MODEL_STOP_TOOLS },
        { G, G_PARTS("{\"text\":\"h\",\"thought\":true}") G_PARTS("{\"text\":\"m\",\"thought\":true}")
             G_PARTS("{\"text\":\"Ja\"}") G_PARTS("{\"text\":\"\",\"thoughtSignature\":\"T\"}")
             G_PARTS("{\"functionCall\":{\"name\":\"bare\",\"args\":{}},\"thoughtSignature\":\"S\"}") G_END,
          "Ja", "* bare \n", "{\"dialect\":\"google\",\"content\":[{\"text\":\"hm\",\"thought\":true},{\"text\":\"Ja\"},"
          "{\"text\":\"\",\"thoughtSignature\":\"T\"},"
          "{\"functionCall\":{\"name\":\"bare\",\"args\":{}},\"thoughtSignature\":\"S\"}]}",
          MODEL_STOP_TOOLS },
};

static void assert_json(const char *what, size_t i, const char *expected_text, const char *text) {
        _cleanup_json_ json_object *expected = NULL, *got = NULL;

        ASSERT_OK(json_parse(expected_text, strlen(expected_text), &expected));
        ASSERT_OK(json_parse(text, strlen(text), &got));
        if (!json_object_equal(expected, got))
                fail_msg("%s %zu: %s", what, i, text);
}

TEST(streams) {
        static const size_t pieces[] = { 0, 1, 2, 5 };

        for (size_t i = 0; i < ELEMENTSOF(streams); i++)
                for (size_t k = 0; k < ELEMENTSOF(pieces); k++) {
                        _cleanup_free_ char *bytes = strjoin(STREAM, streams[i].body);
                        Answer a = { .bytes = bytes, .piece = pieces[k] };
                        Talk t;

                        talk_run(&t, &a, 1, &(ModelCallSpec) {
                                .provider = streams[i].provider, .messages = hello, .n_messages = 1,
                                .tools = tools, .n_tools = ELEMENTSOF(tools),
                        });
                        if (t.error != streams[i].error || !streq(t.text, streams[i].text) ||
                            !streq(t.calls, streams[i].calls) || t.stop != streams[i].stop ||
                            t.call_cut != streams[i].call_cut)
                                fail_msg("stream %zu: %s: %d '%s' '%s' '%s'", i, model_error_kind_to_string(t.error),
                                         t.stop, t.text, t.calls, t.message);
                        if (isempty(streams[i].opaque))
                                ASSERT_STREQ(t.opaque, "");
                        else
                                assert_json("opaque", i, streams[i].opaque, t.opaque);
                        talk_stop(&t);
                }
}

/* What nobody asked for is not there. */
TEST(calls_without_tools) {
        for (size_t i = 0; i < ELEMENTSOF(streams); i++) {
                _cleanup_free_ char *bytes = strjoin(STREAM, streams[i].body);
                Answer a = { .bytes = bytes };
                Talk t;

                talk_run(&t, &a, 1, &(ModelCallSpec) {
                        .provider = streams[i].provider, .messages = hello, .n_messages = 1,
                });
                ASSERT_EQ(t.error, streams[i].error);
                ASSERT_STREQ(t.text, streams[i].text);
                ASSERT_STREQ(t.calls, "");
                talk_stop(&t);
        }
}

static const ModelToolCall calls[] = {
        { "c:1", "send_message", "{\"text\":\"ü\"}" }, { "puffo_2", "made up!", "{not json" },
};
static const ModelToolResult results[] = {
        { "c:1", "send_message", "sent", false }, { "puffo_2", "made up!", "no such tool", true },
};
static const ModelToolCall again[] = { { "c3", "list_spaces", "" } };
static const ModelToolResult empty[] = { { "c3", "list_spaces", "", false } };

#define A_TOOLS \
        "\"tools\":[{\"name\":\"mcp__puffo__send_message\",\"description\":\"Sends.\",\"input_schema\":" \
        "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}}," \
        "{\"name\":\"mcp__puffo__list_spaces\",\"description\":\"Lists.\",\"input_schema\":" \
        "{\"type\":\"object\",\"properties\":{}}}]"
#define O_TOOLS \
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"mcp__puffo__send_message\"," \
        "\"description\":\"Sends.\",\"parameters\":" \
        "{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}}}," \
        "{\"type\":\"function\",\"function\":{\"name\":\"mcp__puffo__list_spaces\",\"description\":\"Lists.\"," \
        "\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]"
#define G_TOOLS \
        "\"tools\":[{\"functionDeclarations\":[{\"name\":\"mcp__puffo__send_message\",\"description\":\"Sends.\"," \
        "\"parametersJsonSchema\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":\"string\"}}}}," \
        "{\"name\":\"mcp__puffo__list_spaces\",\"description\":\"Lists.\",\"parametersJsonSchema\":" \
        "{\"type\":\"object\",\"properties\":{}}}]}]"

TEST(requests) {
        static const Answer refuse = { .bytes = REFUSAL("403", "") };
        static const struct {
                ModelProvider provider;
                const char *opaque;
                bool no_calls;
                const char *body;
        } t[] = {
                { A, NULL, false, "{\"model\":\"m\",\"max_tokens\":2048,\"stream\":true," A_TOOLS ",\"messages\":["
                  "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"Hello\"}]},"
                  "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"Well.\"},"
                  "{\"type\":\"tool_use\",\"id\":\"c_1\",\"name\":\"mcp__puffo__send_message\","
                  "\"input\":{\"text\":\"ü\"}},"
                  "{\"type\":\"tool_use\",\"id\":\"puffo_2\",\"name\":\"mcp__puffo__made_up_\",\"input\":{}}]},"
                  "{\"role\":\"user\",\"content\":["
                  "{\"type\":\"tool_result\",\"tool_use_id\":\"c_1\",\"content\":\"sent\"},"
                  "{\"type\":\"tool_result\",\"tool_use_id\":\"puffo_2\",\"content\":\"no such tool\","
                  "\"is_error\":true}]},"
                  "{\"role\":\"assistant\",\"content\":["
                  "{\"type\":\"tool_use\",\"id\":\"c3\",\"name\":\"mcp__puffo__list_spaces\",\"input\":{}}]},"
                  "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"c3\","
                  "\"cache_control\":{\"type\":\"ephemeral\"}},{\"type\":\"text\",\"text\":\"Enough.\"}]}]}" },
                { O, NULL, true, "{\"model\":\"m\",\"max_tokens\":2048,\"stream\":true,"
                  "\"stream_options\":{\"include_usage\":true}," O_TOOLS ",\"tool_choice\":\"none\",\"messages\":["
                  "{\"role\":\"user\",\"content\":\"Hello\"},"
                  "{\"role\":\"assistant\",\"content\":\"Well.\",\"tool_calls\":["
                  "{\"id\":\"c:1\",\"type\":\"function\",\"function\":{\"name\":\"mcp__puffo__send_message\","
                  "\"arguments\":\"{\\\"text\\\":\\\"ü\\\"}\"}},"
                  "{\"id\":\"puffo_2\",\"type\":\"function\",\"function\":{\"name\":\"mcp__puffo__made_up_\","
                  "\"arguments\":\"{}\"}}]},"
                  "{\"role\":\"tool\",\"tool_call_id\":\"c:1\",\"content\":\"sent\"},"
                  "{\"role\":\"tool\",\"tool_call_id\":\"puffo_2\",\"content\":\"Error: no such tool\"},"
                  "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
                  "{\"id\":\"c3\",\"type\":\"function\",\"function\":{\"name\":\"mcp__puffo__list_spaces\","
                  "\"arguments\":\"{}\"}}]},"
                  "{\"role\":\"tool\",\"tool_call_id\":\"c3\",\"content\":\"\"},"
                  "{\"role\":\"user\",\"content\":\"Enough.\"}]}" },
                { G, NULL, true, "{" G_TOOLS ",\"toolConfig\":{\"functionCallingConfig\":{\"mode\":\"NONE\"}},"
                  "\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Hello\"}]},"
                  "{\"role\":\"model\",\"parts\":[{\"text\":\"Well.\"},"
                  "{\"functionCall\":{\"id\":\"c:1\",\"name\":\"mcp__puffo__send_message\","
                  "\"args\":{\"text\":\"ü\"}}},"
                  "{\"functionCall\":{\"name\":\"mcp__puffo__made_up_\",\"args\":{}}}]},"
                  "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"id\":\"c:1\","
                  "\"name\":\"mcp__puffo__send_message\",\"response\":{\"output\":\"sent\"}}},"
                  "{\"functionResponse\":{\"name\":\"mcp__puffo__made_up_\","
                  "\"response\":{\"error\":\"no such tool\"}}}]},"
                  "{\"role\":\"model\",\"parts\":[{\"functionCall\":{\"id\":\"c3\","
                  "\"name\":\"mcp__puffo__list_spaces\",\"args\":{}}}]},"
                  "{\"role\":\"user\",\"parts\":[{\"functionResponse\":{\"id\":\"c3\","
                  "\"name\":\"mcp__puffo__list_spaces\",\"response\":{\"output\":\"\"}}},{\"text\":\"Enough.\"}]}],"
                  "\"generationConfig\":{\"maxOutputTokens\":2048}}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                /* opaque of somebody else changes nothing, nor does one that is broken. */
                static const char *const opaques[] = {
                        NULL, "", "{\"dialect\":\"other\",\"content\":[{\"x\":1}]}", "{", "[]", "{\"dialect\":\"x\"}",
                };

                for (size_t k = 0; k < ELEMENTSOF(opaques); k++) {
                        const ModelMessage messages[] = {
                                { MODEL_ROLE_USER, "Hello", NULL, 0, NULL, NULL, 0 },
                                { MODEL_ROLE_ASSISTANT, "Well.", calls, ELEMENTSOF(calls), opaques[k], NULL, 0 },
                                { MODEL_ROLE_USER, NULL, NULL, 0, NULL, results, ELEMENTSOF(results) },
                                { MODEL_ROLE_ASSISTANT, " ", again, 1, opaques[k], NULL, 0 },
                                { MODEL_ROLE_USER, "", NULL, 0, NULL, empty, 1 },
                                { MODEL_ROLE_USER, "Enough.", NULL, 0, NULL, NULL, 0 },
                        };
                        Talk talk;

                        talk_run(&talk, &refuse, 1, &(ModelCallSpec) {
                                .provider = t[i].provider, .messages = messages, .n_messages = ELEMENTSOF(messages),
                                .tools = tools, .n_tools = ELEMENTSOF(tools), .no_calls = t[i].no_calls,
                        });
                        ASSERT_EQ(talk.error, MODEL_ERROR_AUTH);
                        assert_json("body", i, t[i].body, server_body(&talk.server, 0));
                        talk_stop(&talk);
                }
        }
}

/* What the provider gave with the calls goes back as it came. */
TEST(opaque_comes_back) {
        static const Answer refuse = { .bytes = REFUSAL("403", "") };

        for (size_t i = 0; i < ELEMENTSOF(streams); i++) {
                _cleanup_json_ json_object *opaque = NULL, *body = NULL;
                json_object *list, *sent, *content;
                const ModelToolCall call[] = { { "id", "a", "{}" } };
                const ModelToolResult result[] = { { "id", "a", "r", false } };
                const ModelMessage messages[] = {
                        { MODEL_ROLE_USER, "Hello", NULL, 0, NULL, NULL, 0 },
                        { MODEL_ROLE_ASSISTANT, "x", call, 1, streams[i].opaque, NULL, 0 },
                        { MODEL_ROLE_USER, NULL, NULL, 0, NULL, result, 1 },
                };
                Talk talk;

                if (isempty(streams[i].opaque))
                        continue;
                talk_run(&talk, &refuse, 1, &(ModelCallSpec) {
                        .provider = streams[i].provider, .messages = messages, .n_messages = ELEMENTSOF(messages),
                        .tools = tools, .n_tools = ELEMENTSOF(tools),
                });
                ASSERT_OK(json_parse(streams[i].opaque, strlen(streams[i].opaque), &opaque));
                ASSERT_OK(json_parse(server_body(&talk.server, 0), strlen(server_body(&talk.server, 0)), &body));
                content = json_get(opaque, "content");
                list = json_get(body, streams[i].provider == MODEL_GOOGLE ? "contents" : "messages");
                sent = json_object_array_get_idx(list, 1);
                if (streams[i].provider == MODEL_OPENAI) {
                        json_object *out = json_object_array_get_idx(json_get(sent, "tool_calls"), 0);

                        ASSERT_STREQ(json_get_string(sent, "reasoning_content"), "hm");
                        ASSERT_TRUE(json_object_equal(json_get(out, "extra_content"), json_object_array_get_idx(
                                                      json_get(content, "extra_content"), 0)));
                } else
                        ASSERT_TRUE(json_object_equal(content, json_get(sent, streams[i].provider == MODEL_GOOGLE ?
                                                                              "parts" : "content")));
                /* Google finds the call of a result by the name that the model gave it. */
                if (streams[i].provider == MODEL_GOOGLE)
                        ASSERT_NOT_NULL(strstr(server_body(&talk.server, 0), "\"functionResponse\":{\"id\":\"id\","
                                                                             "\"name\":\"bare\""));
                talk_stop(&talk);
        }
}

TEST(asked_again_without_tools) {
        static const struct {
                ModelProvider provider;
                const char *refusal;
                bool again;
        } t[] = {
                { O, REFUSAL("400", "{\"error\":{\"message\":\"gemma does not support tools\"}}"), true },
                { O, REFUSAL("404", "{\"error\":{\"message\":\"No endpoints found that support tool use\"}}"), true },
                { O, REFUSAL("500", "{\"error\":{\"message\":\"tools param requires --jinja flag\"}}"), true },
                { G, REFUSAL("400", "{\"error\":{\"code\":400,\"status\":\"INVALID_ARGUMENT\","
                             "\"message\":\"Function calling is not enabled for this model\"}}"), true },
                { A, REFUSAL("400", "{\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
                             "\"message\":\"this model does not support tools\"}}"), true },
                { O, REFUSAL("401", "{\"error\":{\"message\":\"no tools for you\"}}"), false },
                { O, REFUSAL("400", "{\"error\":{\"message\":\"bad temperature\"}}"), false },
                { O, REFUSAL("400", "{\"error\":{\"message\":\"tools: maximum context length exceeded\"}}"), false },
        };
        static const char *const ok[] = {
                [A] = STREAM A_TEXT("0", "ok") A_END("end_turn"),
                [O] = STREAM O_DELTA("\"content\":\"ok\"") O_END("stop"),
                [G] = STREAM G_PARTS("{\"text\":\"ok\"}") G_END,
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                const Answer answers[] = { { .bytes = t[i].refusal }, { .bytes = ok[t[i].provider] } };
                Talk talk;

                talk_run(&talk, answers, 2, &(ModelCallSpec) {
                        .provider = t[i].provider, .messages = hello, .n_messages = 1,
                        .tools = tools, .n_tools = ELEMENTSOF(tools), .no_calls = true,
                });
                ASSERT_EQ(talk.server.n_connections, t[i].again ? 2 : 1);
                ASSERT_EQ(talk.tools_refused, t[i].again);
                ASSERT_STREQ(talk.text, t[i].again ? "ok" : "");
                ASSERT_NOT_NULL(strstr(server_body(&talk.server, 0), "tools"));
                if (t[i].again)
                        ASSERT_NULL(strstr(server_body(&talk.server, 1), "tool"));
                talk_stop(&talk);
        }
}

static char* many_calls(unsigned n, size_t size) {
        _cleanup_free_ char *filler = malloc(size + 1);
        StrBuf b = {};

        ASSERT_NOT_NULL(filler);
        memset(filler, 'x', size);
        filler[size] = 0;
        ASSERT_OK(strbuf_puts(&b, STREAM));
        for (unsigned i = 0; i < n; i++)
                ASSERT_OK(strbuf_printf(&b, O_CALL("\"index\":%u,\"id\":\"c%u\",\"function\":{\"name\":\"a\","
                                                   "\"arguments\":\"%s\"}"), i, i, filler));
        ASSERT_OK(strbuf_puts(&b, O_END("tool_calls")));
        return strbuf_take(&b);
}

TEST(limits) {
        static const struct {
                unsigned n;
                size_t size;
                bool ok;
        } t[] = {
                { MODEL_CALLS_MAX, 10, true }, { MODEL_CALLS_MAX + 1, 10, false }, { 1, MODEL_ARGUMENTS_MAX, true },
                { 1, MODEL_ARGUMENTS_MAX + 1, false }, { 4, MODEL_ARGUMENTS_MAX, true },
                { 5, MODEL_ARGUMENTS_MAX - 1000, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *bytes = many_calls(t[i].n, t[i].size);
                Answer a = { .bytes = bytes };
                Talk talk;

                talk_run(&talk, &a, 1, &(ModelCallSpec) {
                        .provider = MODEL_OPENAI, .messages = hello, .n_messages = 1, .tools = tools, .n_tools = 1,
                });
                if (talk.error != (t[i].ok ? MODEL_ERROR_NONE : MODEL_ERROR_PROTOCOL))
                        fail_msg("%zu: %s %s", i, model_error_kind_to_string(talk.error), talk.message);
                ASSERT_TRUE(t[i].ok || strstr(talk.message, "too many tools"));
                talk_stop(&talk);
        }
}

TEST(bad_schema) {
        static const ModelTool bad[] = { { "x", "X.", "{" } };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        HttpClient *http;
        ModelCall *call;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(http_client_new(&http, event));
        ASSERT_EQ(model_call_start(http, event, &(ModelCallSpec) {
                .provider = MODEL_ANTHROPIC, .messages = hello, .n_messages = 1, .tools = bad, .n_tools = 1,
                .on_done = on_done,
        }, &call), -EINVAL);
        (void) http_client_free(http);
}

#define TEST_SUITE "model-tools"
TEST_MAIN();
