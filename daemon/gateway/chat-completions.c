/* SPDX-License-Identifier: MIT */

#include "chat-completions.h"
#include "json-util.h"
#include "sse.h"

#define BETWEEN_MESSAGES "\n\n"

ChatAnswer* chat_answer_free(ChatAnswer *a) {
        if (!a)
                return NULL;
        free(a->id);
        return mfree(a);
}

/* --- the request --- */

static int put_copy(json_object *o, const char *key, json_object *from, const char *from_key) {
        json_object *v = json_get(from, from_key);

        return v ? json_put(o, key, json_object_get(v)) : 0;
}

/* Takes part, on failure too. NULL is JSON's null, which whoever reads the list will find fault with. */
static int array_add(json_object *list, json_object *part) {
        if (json_object_array_add(list, part) < 0) {
                json_object_put(part);
                return -ENOMEM;
        }
        return 0;
}

static int part_convert(json_object *part, bool assistant, json_object **ret) {
        static const struct {
                const char *chat, *responses;
        } types[] = {
                { "text", "input_text" }, { "image_url", "input_image" }, { "file", "input_file" },
                { "input_audio", "input_audio" }, { "refusal", "refusal" },
        };
        const char *type = json_get_string(part, "type"), *becomes = type;
        json_object *image = json_get(part, "image_url"), *file = json_get(part, "file");
        _cleanup_json_ json_object *o = NULL;

        if (!json_object_is_type(part, json_type_object)) {
                *ret = json_object_get(part);
                return 0;
        }
        o = json_object_new_object();
        for (size_t i = 0; type && i < ELEMENTSOF(types); i++)
                if (streq(types[i].chat, type))
                        becomes = types[i].responses;
        if (assistant && streq_ptr(becomes, "input_text"))
                becomes = "output_text";
        if (!o || (type && json_put_string(o, "type", becomes) < 0) || put_copy(o, "text", part, "text") < 0 ||
            put_copy(o, "refusal", part, "refusal") < 0)
                return -ENOMEM;
        if (streq_ptr(type, "image_url") && (json_put_string(o, "detail", "auto") < 0 || put_copy(
                        o, "image_url", json_object_is_type(image, json_type_object) ? image : part,
                        json_object_is_type(image, json_type_object) ? "url" : "image_url") < 0))
                return -ENOMEM;
        if (streq_ptr(type, "file") && (put_copy(o, "file_data", file, "file_data") < 0 ||
                                        put_copy(o, "file_id", file, "file_id") < 0 ||
                                        put_copy(o, "filename", file, "filename") < 0))
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

static int content_convert(json_object *content, bool assistant, json_object **ret) {
        _cleanup_json_ json_object *parts = NULL;
        int r;

        if (!json_object_is_type(content, json_type_array)) {
                *ret = json_object_get(content);
                return 0;
        }
        parts = json_object_new_array();
        if (!parts)
                return -ENOMEM;
        for (size_t i = 0; i < json_object_array_length(content); i++) {
                json_object *part = NULL;

                r = part_convert(json_object_array_get_idx(content, i), assistant, &part);
                if (r >= 0)
                        r = array_add(parts, part);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(parts);
        return 0;
}

/* One item for each message, so that an index in an error is that of the message. */
static int message_convert(json_object *message, json_object **ret) {
        const char *role = json_get_string(message, "role");
        _cleanup_json_ json_object *o = NULL;
        json_object *content = NULL;
        bool assistant = streq_ptr(role, "assistant");
        int r;

        if (!json_object_is_type(message, json_type_object)) {
                *ret = json_object_get(message);
                return 0;
        }
        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        /* What the tools of the client have said: the agent has tools of its own. */
        if (streq_ptr(role, "tool") || streq_ptr(role, "function")) {
                r = json_put_string(o, "type", "function_call_output");
                if (r >= 0)
                        r = put_copy(o, "call_id", message, "tool_call_id");
                if (r >= 0)
                        r = put_copy(o, "output", message, "content");
        } else {
                r = content_convert(json_get(message, "content"), assistant, &content);
                /* An assistant that only called tools has said nothing. */
                if (r >= 0 && !content && assistant)
                        content = json_object_new_string("");
                if (r >= 0)
                        r = content ? json_put(o, "content", content) : 0;
                if (r >= 0)
                        r = put_copy(o, "role", message, "role");
                if (r >= 0)
                        r = json_put_string(o, "type", "message");
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int format_convert(json_object *body, json_object *o, ApiError *reterr) {
        json_object *given = json_get(body, "response_format"), *schema = json_get(given, "json_schema");
        json_object *text, *format;
        const char *type = json_get_string(given, "type");

        if (!given)
                return 0;
        if (!type)
                return api_error_set(reterr, 400, "missing_required_parameter", "response_format.type",
                                     "Missing required parameter: 'response_format.type'.");
        text = json_object_new_object();
        if (!text || json_put(o, "text", text) < 0)
                return -ENOMEM;
        format = json_object_new_object();
        if (!format || json_put(text, "format", format) < 0 || json_put_string(format, "type", type) < 0 ||
            put_copy(format, "name", schema, "name") < 0 || put_copy(format, "schema", schema, "schema") < 0 ||
            put_copy(format, "strict", schema, "strict") < 0)
                return -ENOMEM;
        return 0;
}

static int fields_convert(json_object *body, json_object *o, ApiError *reterr) {
        static const char *const same[] = {
                "model", "stream", "temperature", "top_p", "metadata", "user", "tools", "tool_choice",
                "parallel_tool_calls", "safety_identifier", "prompt_cache_key",
        };

        if (json_get_int(body, "n", 1) != 1)
                return api_error_set(reterr, 400, "unsupported_value", "n",
                                     "Unsupported value: 'n' can only be 1 here, an agent answers once.");
        for (size_t i = 0; i < ELEMENTSOF(same); i++)
                if (put_copy(o, same[i], body, same[i]) < 0)
                        return -ENOMEM;
        /* Nobody asks for it afterwards: the id is none of a response. */
        if (json_put_bool(o, "store", false) < 0)
                return -ENOMEM;
        return format_convert(body, o, reterr);
}

int chat_request_convert(json_object *body, json_object **ret, ChatAnswer **ret_answer, ApiError *reterr) {
        _cleanup_(chat_answer_freep) ChatAnswer *a = new0(ChatAnswer, 1);
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *messages = json_get(body, "messages"), *input;
        _cleanup_free_ char *random = random_hex(16);
        int r;

        if (!a || !o || !random)
                return -ENOMEM;
        a->id = strjoin("chatcmpl-", random);
        if (!a->id)
                return -ENOMEM;
        a->include_usage = json_get_bool(json_get(body, "stream_options"), "include_usage", false);
        r = fields_convert(body, o, reterr);
        if (r < 0)
                return r;
        if (!json_object_is_type(messages, json_type_array) || json_object_array_length(messages) == 0)
                return api_error_set(reterr, 400, messages ? "invalid_type" : "missing_required_parameter", "messages",
                                     "'messages' must be an array of at least one message.");
        input = json_object_new_array();
        if (!input || json_put(o, "input", input) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < json_object_array_length(messages); i++) {
                json_object *item = NULL;

                r = message_convert(json_object_array_get_idx(messages, i), &item);
                if (r >= 0)
                        r = array_add(input, item);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(o);
        *ret_answer = TAKE_PTR(a);
        return 0;
}

/* Replaces what a text begins with at each place where it stands behind a quote or at the beginning. */
static int rename(char **text, const char *before, const char *after) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = 0;

        if (!*text)
                return 0;
        for (const char *p = *text; *p && r >= 0; )
                if ((p == *text || p[-1] == '\'') && startswith(p, before)) {
                        r = strbuf_puts(&b, after);
                        p += strlen(before);
                } else
                        r = strbuf_append(&b, p++, 1);
        if (r < 0)
                return r;
        free(*text);
        *text = strbuf_take(&b);
        return *text ? 0 : -ENOMEM;
}

int chat_error_rename(ApiError *e) {
        static const char *const names[][2] = {
                { "input", "messages" }, { "text.format", "response_format" },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(names) && r >= 0; i++) {
                r = rename(&e->param, names[i][0], names[i][1]);
                if (r >= 0)
                        r = rename(&e->message, names[i][0], names[i][1]);
        }
        return r;
}

/* --- the answer --- */

static int usage_convert(json_object *response, json_object **ret) {
        json_object *u = json_get(response, "usage");
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_int(o, "prompt_tokens", json_get_int(u, "input_tokens", 0)) < 0 ||
            json_put_int(o, "completion_tokens", json_get_int(u, "output_tokens", 0)) < 0 ||
            json_put_int(o, "total_tokens", json_get_int(u, "total_tokens", 0)) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}

static int answer_new(ChatAnswer *a, json_object *response, const char *object, json_object **ret,
                      json_object **ret_choices) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *choices = json_object_new_array();

        if (!o || !choices || json_put(o, "choices", json_object_get(choices)) < 0 ||
            json_put_string(o, "id", a->id) < 0 || json_put_string(o, "object", object) < 0 ||
            json_put_int(o, "created", json_get_int(response, "created_at", 0)) < 0 ||
            json_put_string(o, "model", json_get_string(response, "model")) < 0) {
                json_object_put(choices);
                return -ENOMEM;
        }
        json_object_put(choices);
        *ret_choices = choices;         /* o has it */
        *ret = TAKE_PTR(o);
        return 0;
}

/* Takes said, on failure too. */
static int choice_add(json_object *choices, const char *member, json_object *said, const char *reason) {
        _cleanup_json_ json_object *o = json_object_new_object(), *owned = said;

        if (!o || !owned || json_put_int(o, "index", 0) < 0 || json_put(o, member, TAKE_PTR(owned)) < 0 ||
            json_put_string(o, "finish_reason", reason) < 0 || json_put_null(o, "logprobs") < 0)
                return -ENOMEM;
        return array_add(choices, TAKE_PTR(o));
}

static int emit(StrBuf *out, json_object *o) {
        size_t size;
        const char *text = json_text(o, &size);

        return text ? sse_format(out, NULL, text, size) : -ENOMEM;
}

/* delta may be NULL: nothing is said. */
static int emit_delta(ChatAnswer *a, json_object *response, const char *key, const char *value, size_t size,
                      const char *reason, StrBuf *out) {
        _cleanup_json_ json_object *o = NULL;
        json_object *choices, *delta = json_object_new_object();

        if (!delta || (streq_ptr(key, "role") && (json_put_string(delta, "role", "assistant") < 0)) ||
            (key && json_put_string_len(delta, "content", value, size) < 0) ||
            answer_new(a, response, "chat.completion.chunk", &o, &choices) < 0) {
                json_object_put(delta);
                return -ENOMEM;
        }
        if (choice_add(choices, "delta", delta, reason) < 0 ||
            (a->include_usage && json_put_null(o, "usage") < 0))
                return -ENOMEM;
        return emit(out, o);
}

static const char* finish_reason(json_object *response) {
        return json_get(response, "incomplete_details") ? "length" : "stop";
}

static int emit_end(ChatAnswer *a, json_object *response, StrBuf *out) {
        _cleanup_json_ json_object *o = NULL;
        json_object *choices, *usage;
        int r;

        r = emit_delta(a, response, NULL, NULL, 0, finish_reason(response), out);
        if (r >= 0 && a->include_usage) {
                if (answer_new(a, response, "chat.completion.chunk", &o, &choices) < 0 ||
                    usage_convert(response, &usage) < 0 || json_put(o, "usage", usage) < 0)
                        return -ENOMEM;
                r = emit(out, o);
        }
        return r < 0 ? r : sse_format(out, NULL, "[DONE]", strlen("[DONE]"));
}

/* A stream has begun with 200: the clients throw on this member. */
static int emit_error(const char *code, const char *message, StrBuf *out) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_api_error_ ApiError e = {};
        int r;

        (void) api_error_set(&e, streq_ptr(code, "rate_limit_exceeded") ? 429 : 502,
                             streq_ptr(code, "rate_limit_exceeded") ? "rate_limit_exceeded" : "backend_error", NULL,
                             "%s", strempty(message));
        r = api_error_format(&e, &b);
        if (r >= 0)
                r = sse_format(out, NULL, b.text, b.size);
        return r < 0 ? r : sse_format(out, NULL, "[DONE]", strlen("[DONE]"));
}

int chat_answer_emit(ChatAnswer *a, const char *type, json_object *event, json_object *response, StrBuf *out) {
        json_object *delta = json_get(event, "delta"), *error = json_get(response, "error");

        if (streq(type, "response.created"))
                return emit_delta(a, response, "role", "", 0, NULL, out);
        if (streq(type, "response.output_text.delta")) {
                /* Several messages are paragraphs of one. */
                if (json_get_int(event, "output_index", 0) >= a->n_messages) {
                        a->n_messages = (unsigned) json_get_int(event, "output_index", 0) + 1;
                        if (a->n_messages > 1 &&
                            emit_delta(a, response, "content", BETWEEN_MESSAGES, strlen(BETWEEN_MESSAGES), NULL,
                                       out) < 0)
                                return -ENOMEM;
                }
                return emit_delta(a, response, "content", json_object_get_string(delta),
                                  (size_t) json_object_get_string_len(delta), NULL, out);
        }
        if (streq(type, "response.completed") || streq(type, "response.incomplete"))
                return emit_end(a, response, out);
        if (streq(type, "response.failed"))
                return emit_error(json_get_string(error, "code"), json_get_string(error, "message"), out);
        if (streq(type, "error"))
                return emit_error(json_get_string(event, "code"), json_get_string(event, "message"), out);
        return 0;
}

static int answer_text(json_object *response, StrBuf *ret) {
        json_object *output = json_get(response, "output");
        int r = 0;

        for (size_t i = 0; i < json_object_array_length(output) && r >= 0; i++) {
                json_object *content = json_get(json_object_array_get_idx(output, i), "content"), *text;

                text = json_get(json_object_array_get_idx(content, 0), "text");
                if (ret->size > 0)
                        r = strbuf_puts(ret, BETWEEN_MESSAGES);
                if (r >= 0 && text)
                        r = strbuf_append(ret, json_object_get_string(text),
                                          (size_t) json_object_get_string_len(text));
        }
        return r;
}

int chat_answer_object(ChatAnswer *a, json_object *response, json_object **ret, ApiError *reterr) {
        _cleanup_json_ json_object *o = NULL, *message = NULL;
        json_object *choices, *usage, *error = json_get(response, "error");
        _cleanup_(strbuf_done) StrBuf text = {};
        int r;

        if (error) {
                bool limit = streq_ptr(json_get_string(error, "code"), "rate_limit_exceeded");

                return api_error_set(reterr, limit ? 429 : 502, limit ? "rate_limit_exceeded" : "backend_error", NULL,
                                     "%s", strempty(json_get_string(error, "message")));
        }
        r = answer_text(response, &text);
        if (r < 0)
                return r;
        message = json_object_new_object();
        if (!message || json_put_string(message, "role", "assistant") < 0 ||
            json_put_string_len(message, "content", strempty(text.text), text.size) < 0 ||
            json_put_null(message, "refusal") < 0 ||
            answer_new(a, response, "chat.completion", &o, &choices) < 0)
                return -ENOMEM;
        if (choice_add(choices, "message", TAKE_PTR(message), finish_reason(response)) < 0 ||
            usage_convert(response, &usage) < 0 || json_put(o, "usage", usage) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(o);
        return 0;
}
