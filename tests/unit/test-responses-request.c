/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "responses-request"

#include <unistd.h>

#include "chat-completions.h"
#include "json-util.h"
#include "responses-object.h"
#include "responses-request.h"
#include "string-util.h"
#include "tests.h"

static int parse(const char *body, bool strict, ResponsesRequest *q, ApiError *e) {
        return responses_request_parse(body, strlen(body), &(RequestPolicy) { .strict_tools = strict }, q, e);
}

TEST(refused) {
        static const struct {
                const char *body, *code, *param;
                bool strict;
        } t[] = {
                { "", NULL, NULL },
                { "{", NULL, NULL },
                { "[]", NULL, NULL },
                { "null", NULL, NULL },
                { "{\"input\":\"x\"} y", NULL, NULL },
                { "{\"input\":\"\xff\"}", NULL, NULL },
                { "{}", "missing_required_parameter", "input" },
                { "{\"input\":\"x\",\"truncation\":\"some\"}", "invalid_value", "truncation" },
                { "{\"input\":\"x\",\"truncation\":true}", "invalid_type", "truncation" },
                { "{\"input\":null}", "missing_required_parameter", "input" },
                { "{\"input\":\"\"}", "missing_required_parameter", "input" },
                { "{\"input\":[]}", "missing_required_parameter", "input" },
                { "{\"input\":7}", "invalid_type", "input" },
                { "{\"input\":{}}", "invalid_type", "input" },
                { "{\"input\":\"a\\u0000b\"}", "invalid_value", "input" },
                { "{\"input\":[7]}", "invalid_type", "input[0]" },
                { "{\"input\":[{}]}", "invalid_value", "input[0]" },
                { "{\"input\":[{\"type\":\"made_up\"}]}", "invalid_value", "input[0]" },
                { "{\"input\":[{\"type\":3,\"role\":\"user\"}]}", "invalid_value", "input[0]" },
                { "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"type\":\"message\"}]}",
                  "missing_required_parameter",
                  "input[1].role" },
                { "{\"input\":[{\"role\":\"critic\",\"content\":\"x\"}]}", "invalid_value", "input[0].role" },
                { "{\"input\":[{\"role\":\"user\"}]}", "missing_required_parameter", "input[0].content" },
                { "{\"input\":[{\"role\":\"user\",\"content\":4}]}", "invalid_type", "input[0].content" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[4]}]}", "invalid_type", "input[0].content[0]" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{}]}]}", "missing_required_parameter",
                  "input[0].content[0]" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"x\"}]}]}", "invalid_value",
                  "input[0].content[0]" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\"}]}]}",
                  "missing_required_parameter",
                  "input[0].content[0].text" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":1}]}]}",
                  "invalid_type",
                  "input[0].content[0].text" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_image\"}]}]}",
                  "missing_required_parameter", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":7}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"file_id\":\"f\"}]}]}",
                  "unsupported_value", "input[0].content[0].file_id" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":\"data:\"}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":\"data:image/png,x\"}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":\"data:image/svg+xml;base64,eA\"}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,!\"}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":\"file:///etc/passwd\"}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_image\",\"image_url\":\"https://a b\"}]}]}",
                  "invalid_value", "input[0].content[0].image_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_file\"}]}]}",
                  "missing_required_parameter", "input[0].content[0].file_data" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_id\":\"f\"}]}]}",
                  "unsupported_value", "input[0].content[0].file_id" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_url\":\"https://x\"}]}]}",
                  "unsupported_value", "input[0].content[0].file_url" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_data\":{}}]}]}",
                  "invalid_value", "input[0].content[0].file_data" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_data\":\"eA==\",\"filename\":7}]}]}",
                  "invalid_value", "input[0].content[0].filename" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_data\":\"e\"}]}]}",
                  "invalid_value", "input[0].content[0].file_data" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_data\":\"eA=x\"}]}]}",
                  "invalid_value", "input[0].content[0].file_data" },
                { "{\"input\":[{\"role\":\"user\",\"content\":["
                  "{\"type\":\"input_file\",\"file_data\":\"data:text/plain,x\"}]}]}",
                  "invalid_value", "input[0].content[0].file_data" },
                { "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\"}]}]}", "unsupported_value",
                  "input[0].content[0]" },
                { "{\"input\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"y\"}]}",
                  "missing_required_parameter", "input" },
                { "{\"input\":[{\"role\":\"developer\",\"content\":\"x\"}]}", "missing_required_parameter", "input" },
                { "{\"input\":[{\"type\":\"function_call_output\",\"output\":\"x\"}]}", "missing_required_parameter",
                  "input" },
                { "{\"input\":\"x\",\"model\":7}", "invalid_type", "model" },
                { "{\"input\":\"x\",\"instructions\":[]}", "invalid_type", "instructions" },
                { "{\"input\":\"x\",\"stream\":\"yes\"}", "invalid_type", "stream" },
                { "{\"input\":\"x\",\"store\":1}", "invalid_type", "store" },
                { "{\"input\":\"x\",\"background\":\"\"}", "invalid_type", "background" },
                { "{\"input\":\"x\",\"background\":true,\"store\":false}", "unsupported_value", "background" },
                { "{\"input\":\"x\",\"stream_options\":true}", "invalid_type", "stream_options" },
                { "{\"input\":\"x\",\"metadata\":[]}", "invalid_type", "metadata" },
                { "{\"input\":\"x\",\"metadata\":{\"a\":1}}", "invalid_value", "metadata" },
                { "{\"input\":\"x\",\"metadata\":{\"a\":null}}", "invalid_value", "metadata" },
                { "{\"input\":\"x\",\"metadata\":{\"1\":\"\",\"2\":\"\",\"3\":\"\",\"4\":\"\",\"5\":\"\",\"6\":\"\","
                  "\"7\":\"\",\"8\":\"\","
                  "\"9\":\"\",\"10\":\"\",\"11\":\"\",\"12\":\"\",\"13\":\"\",\"14\":\"\",\"15\":\"\",\"16\":\"\","
                  "\"17\":\"\"}}",
                  "invalid_value", "metadata" },
                { "{\"input\":\"x\",\"metadata\":{"
                  "\"a1234567890123456789012345678901234567890123456789012345678901234\":\"\"}}",
                  "invalid_value", "metadata" },
                { "{\"input\":\"x\",\"max_output_tokens\":15}", "integer_below_min_value", "max_output_tokens" },
                { "{\"input\":\"x\",\"max_output_tokens\":16.5}", "invalid_type", "max_output_tokens" },
                { "{\"input\":\"x\",\"temperature\":2.1}", "decimal_above_max_value", "temperature" },
                { "{\"input\":\"x\",\"temperature\":-1}", "decimal_below_min_value", "temperature" },
                { "{\"input\":\"x\",\"temperature\":\"1\"}", "invalid_type", "temperature" },
                { "{\"input\":\"x\",\"top_p\":1.01}", "decimal_above_max_value", "top_p" },
                { "{\"input\":\"x\",\"top_logprobs\":21}", "integer_above_max_value", "top_logprobs" },
                { "{\"input\":\"x\",\"text\":{\"format\":{}}}", "missing_required_parameter", "text.format.type" },
                { "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"xml\"}}}", "invalid_value", "text.format.type" },
                { "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_schema\",\"schema\":{}}}}",
                  "missing_required_parameter",
                  "text.format.name" },
                { "{\"input\":\"x\",\"text\":{\"format\":{\"type\":\"json_schema\",\"name\":\"n\"}}}",
                  "missing_required_parameter",
                  "text.format.schema" },
                { "{\"input\":\"x\",\"tools\":{}}", "invalid_type", "tools" },
                { "{\"input\":\"x\",\"tools\":[{\"type\":\"function\"}]}", "unsupported_parameter", "tools", true },
                { "{\"input\":\"x\",\"tool_choice\":\"required\"}", "unsupported_value", "tool_choice" },
                { "{\"input\":\"x\",\"tool_choice\":{\"type\":\"function\"}}", "unsupported_value", "tool_choice" },
                { "{\"input\":\"x\",\"prompt\":{\"id\":\"p\"}}", "unsupported_parameter", "prompt" },
                { "{\"input\":\"x\",\"previous_response_id\":\"a\",\"conversation\":\"b\"}",
                  "mutually_exclusive_parameters",
                  "previous_response_id" },
                { "{\"input\":\"x\",\"conversation\":\"a b\"}", "invalid_value", "conversation" },
                { "{\"input\":\"x\",\"conversation\":\"\"}", "invalid_value", "conversation" },
                { "{\"input\":\"x\",\"conversation\":{\"id\":7}}", "invalid_type", "conversation" },
                { "{\"input\":\"x\",\"conversation\":"
                  "\"a1234567890123456789012345678901234567890123456789012345678901234\"}",
                  "invalid_value", "conversation" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(responses_request_done) ResponsesRequest q = {};
                _cleanup_api_error_ ApiError e = {};

                print_message("  %s\n", t[i].body);
                ASSERT_ERROR(parse(t[i].body, t[i].strict, &q, &e), EBADMSG);
                ASSERT_EQ(e.status, 400);
                ASSERT_STREQ(strempty(e.code), strempty(t[i].code));
                ASSERT_STREQ(strempty(e.param), strempty(t[i].param));
                ASSERT_FALSE(isempty(e.message));
        }
}

TEST(accepted) {
        static const struct {
                const char *body, *text, *instructions, *history;
                size_t n_items;
        } t[] = {
                { "{\"input\":\"hello\"}", "hello", NULL, NULL, 1 },
                { "{\"input\":\"x\",\"instructions\":\"be kind\",\"tools\":[{\"type\":\"function\"}],"
                  "\"tool_choice\":\"none\","
                  "\"made_up\":1,\"model\":null,\"stream\":null,\"text\":{\"format\":{\"type\":\"text\"}},"
                  "\"temperature\":2,"
                  "\"max_output_tokens\":16,\"prompt\":null,\"client_metadata\":{}}", "x", "be kind", NULL, 1 },
                { "{\"input\":[{\"role\":\"user\",\"content\":\"a\"},{\"type\":\"message\",\"role\":\"user\","
                  "\"content\":["
                  "{\"type\":\"input_text\",\"text\":\"b\"},{\"type\":\"input_text\",\"text\":\"c\"}]}]}",
                  "a\n\nb\nc", NULL, NULL, 2 },
                { "{\"input\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"a\"},"
                  "{\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"b\",\"annotations\":["
                  "]}]},"
                  "{\"type\":\"reasoning\",\"summary\":[]},{\"type\":\"function_call\",\"name\":\"f\"},"
                  "{\"type\":\"item_reference\",\"id\":\"z\"},"
                  "{\"role\":\"developer\",\"content\":\"d\"},{\"role\":\"user\",\"content\":\"new\"}],"
                  "\"instructions\":\"i\"}",
                  "new", "i\n\nd", "system: s\n\nuser: a\n\nassistant: b", 6 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(responses_request_done) ResponsesRequest q = {};
                _cleanup_api_error_ ApiError e = {};

                print_message("  %s\n", t[i].body);
                if (parse(t[i].body, false, &q, &e) < 0)
                        fail_msg("%s", e.message);
                ASSERT_STREQ(q.text, t[i].text);
                ASSERT_STREQ(strempty(q.instructions), strempty(t[i].instructions));
                ASSERT_STREQ(strempty(q.history), strempty(t[i].history));
                ASSERT_EQ(json_object_array_length(q.items), t[i].n_items);
                for (size_t k = 0; k < t[i].n_items; k++)
                        ASSERT_NOT_NULL(json_get_string(json_object_array_get_idx(q.items, k), "id"));
                ASSERT_STREQ(q.model, "manager");
        }
}

static void assert_file(const RequestFile *f, const char *name, const char *type, bool image, const char *content) {
        char buffer[64] = {};

        ASSERT_STREQ(f->name, name);
        ASSERT_STREQ(f->type, type);
        ASSERT_EQ(f->image, image);
        ASSERT_EQ(pread(f->fd, buffer, sizeof(buffer), 0), (ssize_t) strlen(content));
        ASSERT_STREQ(buffer, content);
}

#define PART_FILE(data, name) "{\"type\":\"input_file\",\"file_data\":\"" data "\",\"filename\":\"" name "\"}"
#define PART_IMAGE(url) "{\"type\":\"input_image\",\"detail\":\"auto\",\"image_url\":\"" url "\"}"

#define PNG "iVBORw0KGgo"
#define JPEG "/9j/"

/* As images they would be refused by every provider, with words that nobody understands. */
TEST(images_that_are_none) {
        static const char *const t[] = { "", "Yg", "PHN2Zz4=", "iVBORw0KGg" };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *body = strjoin("{\"input\":[{\"role\":\"user\",\"content\":["
                                                    "{\"type\":\"input_image\",\"image_url\":\"data:image/png;base64,",
                                                    t[i], "\"}]}]}");
                _cleanup_(responses_request_done) ResponsesRequest q = {};
                _cleanup_api_error_ ApiError e = {};

                ASSERT_EQ(parse(body, false, &q, &e), -EBADMSG);
                ASSERT_EQ(e.status, 400);
                ASSERT_STREQ(e.code, "invalid_value");
                ASSERT_STREQ(e.param, "input[0].content[0].image_url");
                ASSERT_NOT_NULL(strstr(e.message, "it is no PNG, JPEG, GIF or WebP image."));
                ASSERT_EQ(q.files.n, 0);
        }
}

TEST(files) {
        static const char body[] =
                "{\"input\":[{\"role\":\"user\",\"content\":[" PART_FILE("b2xk", "old") "]},"
                "{\"role\":\"assistant\",\"content\":\"fine\"},{\"role\":\"user\",\"content\":["
                PART_FILE("YQ==\\n", "../a.txt") "," PART_IMAGE("data:image/PNG;base64," PNG) ","
                "{\"type\":\"input_text\",\"text\":\"look\"},"
                PART_FILE("data:text/plain;charset=x;base64,Y2M=", "") ","
                PART_IMAGE("https://example.net/x.png") "," PART_IMAGE("DATA:image/jpeg;base64,R0lGODlh") ","
                "{\"type\":\"input_image\",\"image_url\":\"data:image/webp;base64," JPEG "\","
                "\"filename\":\"me.jpg\"}]}]}";
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_api_error_ ApiError e = {};
        const char *stored;

        ASSERT_OK(parse(body, false, &q, &e));
        ASSERT_STREQ(q.text, "look\n[image: https://example.net/x.png]");
        ASSERT_STREQ(q.history, "assistant: fine");
        ASSERT_EQ(q.files.n, 5);
        assert_file(q.files.files, "../a.txt", "application/octet-stream", false, "a");
        assert_file(q.files.files + 1, "image-1.png", "image/png", true, "\x89PNG\r\n\x1a\n");
        assert_file(q.files.files + 2, "file", "text/plain", false, "cc");
        /* By what they are, not by what they are said to be. */
        assert_file(q.files.files + 3, "image-2.gif", "image/gif", true, "GIF89a");
        assert_file(q.files.files + 4, "me.jpg", "image/jpeg", true, "\xff\xd8\xff");
        /* What is kept of the request are names, not contents. */
        stored = json_text(q.items, NULL);
        ASSERT_NULL(strstr(stored, "base64"));
        ASSERT_NULL(strstr(stored, "b2xk"));
        ASSERT_NOT_NULL(strstr(stored, "../a.txt"));
        ASSERT_NOT_NULL(strstr(stored, "https://example.net/x.png"));
}

TEST(only_a_file) {
        static const char body[] = "{\"input\":[{\"role\":\"user\",\"content\":[" PART_FILE("YQ", "a") "]}]}";
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_api_error_ ApiError e = {};

        ASSERT_OK(parse(body, false, &q, &e));
        ASSERT_STREQ(strempty(q.text), "");
        ASSERT_EQ(q.files.n, 1);
}

TEST(too_many_files_and_too_large_ones) {
        static const struct { unsigned n; size_t size; int r; } t[] = {
                { 10, 1, 0 }, { 11, 1, -EBADMSG }, { 1, MIB(8), 0 }, { 1, MIB(8) + 1, -EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(responses_request_done) ResponsesRequest q = {};
                _cleanup_api_error_ ApiError e = {};
                _cleanup_(strbuf_done) StrBuf b = {};
                _cleanup_free_ char *data = NULL;
                size_t n = t[i].size / 3 * 4 + (t[i].size % 3 ? t[i].size % 3 + 1 : 0);

                data = malloc(n + 1);
                ASSERT_NOT_NULL(data);
                memset(data, 'A', n);
                data[n] = 0;
                ASSERT_OK(strbuf_puts(&b, "{\"input\":[{\"role\":\"user\",\"content\":["));
                for (unsigned k = 0; k < t[i].n; k++)
                        ASSERT_OK(strbuf_printf(&b, "%s{\"type\":\"input_file\",\"file_data\":\"%s\"}",
                                                k > 0 ? "," : "", data));
                ASSERT_OK(strbuf_puts(&b, "]}]}"));
                ASSERT_EQ(parse(b.text, false, &q, &e), t[i].r);
                ASSERT_STREQ(strempty(e.code), t[i].r < 0 ? "invalid_value" : "");
        }
}

TEST(formats) {
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_api_error_ ApiError e = {};

        ASSERT_OK(parse("{\"input\":\"x\",\"instructions\":\"i\",\"text\":{\"format\":{\"type\":\"json_schema\","
                "\"name\":\"n\","
                        "\"schema\":{\"type\":\"object\"}}}}", false, &q, &e));
        ASSERT_NOT_NULL(startswith(q.instructions, "i\n\n"));
        ASSERT_NOT_NULL(strstr(q.instructions, "{\"type\":\"object\"}"));
        ASSERT_STREQ(json_get_string(json_get(json_get(q.response, "text"), "format"), "name"), "n");
}

/* Every member that clients read is there, with the defaults of responses-api §4. */
TEST(response_object) {
        static const struct {
                const char *name, *value;
        } t[] = {
                { "object", "\"response\"" }, { "completed_at", "null" }, { "background", "false" }, { "error",
                  "null" },
                { "incomplete_details", "null" }, { "instructions", "null" }, { "max_output_tokens", "null" },
                { "max_tool_calls", "null" }, { "model", "\"engineer_alice\"" }, { "output", "[]" },
                { "parallel_tool_calls", "true" }, { "previous_response_id", "null" }, { "conversation",
                  "{\"id\":\"c-1\"}" },
                { "prompt_cache_key", "null" }, { "safety_identifier", "null" },
                { "reasoning", "{\"effort\":\"low\",\"summary\":null}" }, { "service_tier", "\"default\"" },
                { "store", "true" }, { "temperature", "1.0" }, { "top_p", "0.5" },
                { "text", "{\"format\":{\"type\":\"text\"},\"verbosity\":\"low\"}" }, { "tool_choice", "\"auto\"" },
                { "tools", "[]" }, { "top_logprobs", "0" }, { "truncation", "\"disabled\"" }, { "usage", "null" },
                { "user", "\"me\"" }, { "metadata", "{\"a\":\"b\"}" }, { "id", "null" }, { "created_at", "null" },
        };
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_api_error_ ApiError e = {};

        ASSERT_OK(parse("{\"input\":\"x\",\"model\":\"engineer_alice\",\"temperature\":null,\"top_p\":0.5,"
                "\"user\":\"me\","
                        "\"metadata\":{\"a\":\"b\"},\"conversation\":{\"id\":\"c-1\"},\"reasoning\":{"
                        "\"effort\":\"low\"},"
                        "\"text\":{\"verbosity\":\"low\"},\"stream\":true}", false, &q, &e));
        ASSERT_TRUE(q.stream);
        ASSERT_STREQ(q.conversation, "c-1");
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                json_object *v;

                print_message("  %s\n", t[i].name);
                ASSERT_TRUE(json_object_object_get_ex(q.response, t[i].name, &v));
                ASSERT_STREQ(json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN), t[i].value);
        }
        ASSERT_EQ(json_object_object_length(q.response), ELEMENTSOF(t) + 1);     /* and status */
}

/* Only the newest 64 KiB, from the beginning of a paragraph. */
TEST(history_is_bounded) {
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_api_error_ ApiError e = {};

        ASSERT_OK(strbuf_puts(&b, "{\"input\":["));
        for (size_t i = 0; i < 3000; i++)
                ASSERT_OK(strbuf_printf(&b, "{\"role\":\"user\",\"content\":\"number %zu of three thousand "
                        "sentences\"},", i));
        ASSERT_OK(strbuf_puts(&b, "{\"role\":\"assistant\",\"content\":\"last\"},{\"role\":\"user\","
                "\"content\":\"x\"}]}"));
        ASSERT_OK(parse(b.text, false, &q, &e));
        ASSERT_TRUE(strlen(q.history) <= KIB(64) && strlen(q.history) > KIB(63));
        ASSERT_NOT_NULL(startswith(q.history, "user: number "));
        ASSERT_TRUE(endswith(q.history, "assistant: last"));
}

/* What is wrong with a chat is said as of any other request, in the words of a chat. */
TEST(refused_chats) {
        static const struct {
                const char *body, *code, *param;
        } t[] = {
                { "{}", "missing_required_parameter", "messages" },
                { "{\"messages\":[]}", "invalid_type", "messages" },
                { "{\"messages\":[null]}", "invalid_type", "messages[0]" },
                { "{\"messages\":[7]}", "invalid_type", "messages[0]" },
                { "{\"messages\":[{\"role\":\"user\",\"content\":[null]}]}", "invalid_type",
                  "messages[0].content[0]" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(responses_request_done) ResponsesRequest q = {};
                _cleanup_json_ json_object *body = NULL, *converted = NULL;
                _cleanup_(chat_answer_freep) ChatAnswer *a = NULL;
                _cleanup_api_error_ ApiError e = {};
                int r;

                ASSERT_OK(json_parse(t[i].body, strlen(t[i].body), &body));
                r = chat_request_convert(body, &converted, &a, &e);
                if (r >= 0)
                        r = parse(json_text(converted, NULL), false, &q, &e);
                ASSERT_ERROR(r, EBADMSG);
                ASSERT_EQ((int) e.status, 400);
                ASSERT_OK(chat_error_rename(&e));
                ASSERT_STREQ(e.code, t[i].code);
                ASSERT_STREQ(e.param, t[i].param);
        }
}

TEST(doubled_item_ids_are_replaced) {
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_api_error_ ApiError e = {};

        ASSERT_OK(parse("{\"input\":[{\"id\":\"msg_a\",\"role\":\"user\",\"content\":\"1\"},"
                        "{\"id\":\"msg_a\",\"role\":\"user\",\"content\":\"2\"}]}", false, &q, &e));
        ASSERT_STREQ(json_get_string(json_object_array_get_idx(q.items, 0), "id"), "msg_a");
        ASSERT_FALSE(streq(json_get_string(json_object_array_get_idx(q.items, 1), "id"), "msg_a"));
}

TEST(input_items_page) {
        static const struct {
                unsigned limit;
                bool ascending;
                const char *after, *ids;
                bool more;
        } t[] = {
                { 20, false, NULL, "cba", false }, { 20, true, NULL, "abc", false }, { 2, false, NULL, "cb", true },
                { 2, false, "b", "a", false },     { 1, true, "a", "b", true },      { 3, true, "c", "", false },
                { 3, true, "nowhere", "", false },
        };
        static const char text[] = "[{\"id\":\"a\"},{\"id\":\"b\"},{\"id\":\"c\"}]";
        _cleanup_json_ json_object *items = NULL;

        ASSERT_OK(json_parse(text, strlen(text), &items));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *page = NULL;
                char ids[8] = {};
                size_t n;

                ASSERT_OK(input_items_page(items, t[i].limit, t[i].ascending, t[i].after, &page));
                n = json_object_array_length(json_get(page, "data"));
                for (size_t k = 0; k < n; k++)
                        ids[k] = json_get_string(json_object_array_get_idx(json_get(page, "data"), k), "id")[0];
                ASSERT_STREQ(ids, t[i].ids);
                ASSERT_EQ(json_get_bool(page, "has_more", !t[i].more), t[i].more);
                if (n == 0)
                        ASSERT_NULL(json_get(page, "first_id"));
        }
}

TEST(response_ids) {
        _cleanup_free_ char *id = response_id_new("0123abcd");

        ASSERT_NOT_NULL(id);
        ASSERT_TRUE(response_id_is_valid(id));
        ASSERT_EQ(strlen(id), 53);
        ASSERT_NOT_NULL(startswith(id, "resp_0123abcd"));
        ASSERT_FALSE(response_id_is_valid("resp_"));
        ASSERT_FALSE(response_id_is_valid("msg_6f0d0c5e7d9b4f1fa0c1d2e3f4a5b6c7d8e9fa0b1c2d3e4f"));
        ASSERT_FALSE(response_id_is_valid("resp_6f0d0c5e7d9b4f1fa0c1d2e3f4a5b6c7d8e9fa0b1c2d3e4f/.."));
}

TEST_MAIN();
