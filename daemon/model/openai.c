/* SPDX-License-Identifier: MIT */

/* OpenAI Chat Completions, of OpenAI and of whoever speaks it too (provider-apis §4). */

#include "model-driver.h"

/* The base URL carries the version, as in the vendor's own clients, and is used as it is; but a bare host can only
 * mean the usual place below it. */
static int openai_locate(const char *base, const char *path, char **ret) {
        const char *host = strstr(base, "://"), *below = host ? strchr(host + 3, '/') : NULL;
        bool bare = !below || below[strspn(below, "/")] == 0;
        _cleanup_free_ char *full = strjoin(bare ? "/v1" : "", path);

        *ret = full ? http_url_join(base, full) : NULL;
        return *ret ? 0 : -ENOMEM;
}

static int openai_url(const char *base, const char *model, char **ret) {
        return openai_locate(base, "/chat/completions", ret);
}

static int openai_add_message(json_object *messages, const char *role, const char *content) {
        json_object *message = json_object_new_object();
        int r;

        r = model_array_add(messages, message);
        if (r < 0)
                return r;
        r = json_put_string(message, "role", role);
        if (r < 0)
                return r;
        return json_put_string(message, "content", content);
}

/* {"id", "type", "function": {"name", "arguments"}}. extra: what came with the call and has to go back with it. */
static int openai_add_call(json_object *list, const ModelToolCall *call, json_object *extra) {
        _cleanup_free_ char *name = model_tool_wire_name(call->name);
        _cleanup_json_ json_object *arguments = model_tool_arguments(call->arguments);
        json_object *o = json_object_new_object(), *function = json_object_new_object();
        const char *text;
        int r;

        r = model_array_add(list, o);
        if (r < 0) {
                (void) json_object_put(function);
                return r;
        }
        r = model_object_add(o, "function", function);
        if (r >= 0)
                r = name && arguments ? json_put_string(o, "id", call->id) : -ENOMEM;
        if (r >= 0)
                r = json_put_string(o, "type", "function");
        if (r >= 0 && extra)
                r = json_put(o, "extra_content", json_object_get(extra));
        if (r >= 0)
                r = json_put_string(function, "name", name);
        /* Servers that parse what comes back choke on what is no JSON. */
        text = json_text(arguments, &(size_t) { 0 });
        if (r >= 0)
                r = text ? json_put_string(function, "arguments", text) : -ENOMEM;
        return r;
}

static int openai_add_calls(json_object *messages, const ModelMessage *m) {
        _cleanup_json_ json_object *opaque = NULL;
        json_object *message = json_object_new_object(), *calls, *extras;
        int r;

        r = model_array_add(messages, message);
        if (r >= 0)
                r = model_opaque_parse(m->opaque, &openai_driver, &opaque);
        if (r >= 0)
                r = json_put_string(message, "role", "assistant");
        if (r >= 0)
                r = json_put_string(message, "content", model_text_is_blank(m->text) ? NULL : m->text);
        if (r >= 0 && json_get(opaque, "reasoning_content"))
                r = json_put(message, "reasoning_content", json_object_get(json_get(opaque, "reasoning_content")));
        if (r < 0)
                return r;
        calls = json_object_new_array();
        r = model_object_add(message, "tool_calls", calls);
        extras = json_get(opaque, "extra_content");
        for (size_t i = 0; i < m->n_calls && r >= 0; i++)
                r = openai_add_call(calls, m->calls + i, json_object_is_type(extras, json_type_array) ?
                                    json_object_array_get_idx(extras, i) : NULL);
        return r;
}

static int openai_add_result(json_object *messages, const ModelToolResult *result) {
        _cleanup_free_ char *text = NULL;
        json_object *message = json_object_new_object();
        int r;

        r = model_array_add(messages, message);
        if (r >= 0)
                r = json_put_string(message, "role", "tool");
        if (r >= 0)
                r = json_put_string(message, "tool_call_id", result->id);
        if (r < 0)
                return r;
        /* There is no flag for it. */
        text = strjoin(result->is_error ? "Error: " : "", strempty(result->text));
        return text ? json_put_string(message, "content", text) : -ENOMEM;
}

static bool is_plain(const ModelMessage *m) {
        return m->n_calls == 0 && m->n_results == 0;
}

/* {"type": "image_url", "image_url": {"url"}}. */
static int openai_add_image(json_object *parts, const ModelImage *image, ModelImages *images) {
        _cleanup_free_ char *prefix = strjoin("data:", image->type, ";base64,");
        json_object *part = json_object_new_object(), *o = NULL, *url = NULL;
        int r;

        r = model_array_add(parts, part);
        if (r >= 0)
                r = json_put_string(part, "type", "image_url");
        if (r >= 0) {
                o = json_object_new_object();
                r = model_object_add(part, "image_url", o);
        }
        if (r >= 0)
                r = prefix ? model_image_place(images, image, prefix, &url) : -ENOMEM;
        return r < 0 ? r : json_put(o, "url", url);
}

/* Messages of the user, at least one of them with an image. */
static int openai_add_parts(json_object *messages, const ModelMessage *m, size_t n, ModelImages *images) {
        json_object *message = json_object_new_object(), *parts;
        int r;

        r = model_array_add(messages, message);
        if (r >= 0)
                r = json_put_string(message, "role", "user");
        if (r < 0)
                return r;
        parts = json_object_new_array();
        r = model_object_add(message, "content", parts);
        for (size_t i = 0; i < n && r >= 0; i++) {
                for (size_t k = 0; k < m[i].n_images && r >= 0; k++)
                        r = openai_add_image(parts, m[i].images + k, images);
                if (r >= 0 && !model_text_is_blank(m[i].text))
                        r = model_array_add(parts, model_text_part_new("text", m[i].text));
        }
        return r;
}

static int openai_add_texts(json_object *messages, const char *role, const ModelMessage *m, size_t n) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                if (i > 0)
                        r = strbuf_puts(&b, "\n\n");
                if (r >= 0)
                        r = strbuf_puts(&b, m[i].text);
        }
        return r < 0 ? r : openai_add_message(messages, role, b.text);
}

/* Lists of parts become strings again: who does not take images may not know the lists either. */
static int openai_drop_images(json_object *body) {
        json_object *messages = json_get(body, "messages");

        for (size_t i = 0; i < json_object_array_length(messages); i++) {
                json_object *message = json_object_array_get_idx(messages, i), *parts = json_get(message, "content");
                _cleanup_(strbuf_done) StrBuf b = {};
                int r;

                if (!json_object_is_type(parts, json_type_array))
                        continue;
                r = model_parts_drop_images(parts, "text", "image_url");
                for (size_t k = 0; k < json_object_array_length(parts) && r >= 0; k++) {
                        if (k > 0)
                                r = strbuf_puts(&b, "\n\n");
                        if (r >= 0)
                                r = strbuf_puts(&b, json_get_string(json_object_array_get_idx(parts, k), "text"));
                }
                if (r >= 0)
                        r = json_put_string(message, "content", b.text);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Contents are plain strings, joined by an empty line, but for those with images: not every compatible server knows
 * lists of parts. */
static int openai_put_messages(json_object *body, const ModelRequest *q) {
        json_object *messages = json_object_new_array();
        int r;

        r = model_object_add(body, "messages", messages);
        if (r < 0)
                return r;
        if (q->system) {
                r = openai_add_message(messages, "system", q->system);
                if (r < 0)
                        return r;
        }

        for (size_t i = 0, n; i < q->n_messages; i += n) {
                const ModelMessage *m = q->messages + i;
                bool images = m->n_images > 0;

                n = 1;
                if (m->n_calls > 0) {
                        r = openai_add_calls(messages, m);
                        if (r < 0)
                                return r;
                        continue;
                }
                for (size_t j = 0; j < m->n_results; j++) {
                        r = openai_add_result(messages, m->results + j);
                        if (r < 0)
                                return r;
                }
                if (model_text_is_blank(m->text) && !images)
                        continue;
                for (; i + n < q->n_messages && m[n].role == m->role && is_plain(m + n); n++)
                        images = images || m[n].n_images > 0;
                r = images ? openai_add_parts(messages, m, n, q->images) :
                             openai_add_texts(messages, m->role == MODEL_ROLE_USER ? "user" : "assistant", m, n);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int openai_put_tools(json_object *body, const ModelRequest *q) {
        json_object *list = json_object_new_array();
        int r;

        r = model_object_add(body, "tools", list);
        for (size_t i = 0; i < q->n_tools && r >= 0; i++) {
                json_object *tool = json_object_new_object(), *function = NULL;

                r = model_array_add(list, tool);
                if (r >= 0)
                        r = json_put_string(tool, "type", "function");
                if (r >= 0)
                        r = model_tool_declare(q->tools + i, "parameters", &function);
                if (r >= 0)
                        r = json_put(tool, "function", function);
        }
        return r < 0 || !q->no_calls ? r : json_put_string(body, "tool_choice", "none");
}

static int openai_body(const ModelRequest *q, json_object *body) {
        json_object *options;
        int r;

        r = json_put_string(body, "model", q->model);
        if (r < 0)
                return r;
        /* Newer models refuse the old name, older servers do not know the new one. */
        r = json_put_int(body, q->foreign ? "max_tokens" : "max_completion_tokens", (int64_t) q->max_tokens);
        if (r < 0)
                return r;
        r = json_put_bool(body, "stream", true);
        if (r < 0)
                return r;
        options = json_object_new_object();
        r = model_object_add(body, "stream_options", options);
        if (r < 0)
                return r;
        r = json_put_bool(options, "include_usage", true);
        if (r < 0)
                return r;
        if (q->n_tools > 0) {
                r = openai_put_tools(body, q);
                if (r < 0)
                        return r;
        }
        return openai_put_messages(body, q);
}

static void openai_take_usage(ModelCall *c, json_object *usage) {
        ModelUsage *u = &c->result.usage;

        u->input_tokens = model_count(usage, "prompt_tokens", u->input_tokens);
        u->output_tokens = model_count(usage, "completion_tokens", u->output_tokens);
        u->cached_tokens = model_count(json_get(usage, "prompt_tokens_details"), "cached_tokens", u->cached_tokens);
        u->reasoning_tokens = model_count(json_get(usage, "completion_tokens_details"), "reasoning_tokens",
                                          u->reasoning_tokens);
}

static ModelStop openai_stop(const char *reason) {
        if (streq(reason, "stop") || streq(reason, "tool_calls"))
                return MODEL_STOP_END;
        if (streq(reason, "length"))
                return MODEL_STOP_LENGTH;
        if (streq(reason, "content_filter"))
                return MODEL_STOP_REFUSAL;
        return MODEL_STOP_OTHER;
}

/* Pieces belong together by index. Compatible servers leave it out, or give every call the same one: an id that is new
 * begins a call all the same. */
static int openai_take_call(ModelCall *c, json_object *piece) {
        json_object *function = json_get(piece, "function"), *arguments = json_get(function, "arguments");
        const char *id = json_get_string(piece, "id"), *name = json_get_string(function, "name");
        int64_t index = json_get_int(piece, "index", -1);
        ModelPart *p = model_part_find(c, MODEL_PART_CALL, index);
        int r = 0;

        if (!p || (!isempty(id) && !isempty(name) && !streq(p->id, id) && !model_tool_id_is_ours(p->id)) ||
            (index < 0 && !isempty(name)))
                r = model_part_begin_call(c, index, id, name, &p);
        if (r >= 0)
                r = model_part_add(c, p, arguments);
        if (r >= 0)
                r = model_part_set_arguments(c, p, arguments, /* preset= */ false);
        if (r >= 0)
                r = model_part_put_extra(c, p, "extra_content", json_get(piece, "extra_content"));
        return r;
}

static int openai_take_calls(ModelCall *c, json_object *calls) {
        int r = 0;

        if (json_object_is_type(calls, json_type_array))
                for (size_t i = 0; i < json_object_array_length(calls) && r >= 0; i++)
                        r = openai_take_call(c, json_object_array_get_idx(calls, i));
        return r;
}

/* Some servers want the thoughts of the turn again, others have a signature with each call. */
static int openai_take_reasoning(ModelCall *c, json_object *text) {
        ModelPart *p;
        int r = 0;

        if (!json_object_is_type(text, json_type_string))
                return 0;
        p = model_part_find(c, MODEL_PART_THOUGHT, -1);
        if (!p)
                r = model_part_begin(c, MODEL_PART_THOUGHT, -1, &p);
        return r < 0 ? r : model_part_add(c, p, text);
}

static int openai_opaque(ModelCall *c, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *extras = json_object_new_array();
        ModelPart *thought = model_part_find(c, MODEL_PART_THOUGHT, -1);
        bool any = false;
        int r = 0;

        if (!o || !extras)
                return -ENOMEM;
        if (thought && thought->text.size > 0)
                r = json_put_string(o, "reasoning_content", thought->text.text);
        for (size_t i = 0; i < c->n_parts && r >= 0; i++) {
                json_object *extra = json_get(c->parts[i].extra, "extra_content");

                if (c->parts[i].kind != MODEL_PART_CALL)
                        continue;
                any = any || extra;
                if (json_object_array_add(extras, json_object_get(extra)) < 0) {
                        (void) json_object_put(extra);
                        r = -ENOMEM;
                }
        }
        if (r >= 0 && any)
                r = json_put(o, "extra_content", TAKE_PTR(extras));
        if (r >= 0 && json_object_object_length(o) > 0)
                *ret = TAKE_PTR(o);
        return r;
}

static int openai_event(ModelCall *c, json_object *o) {
        json_object *choices = json_get(o, "choices"), *choice, *delta;
        const char *reason, *refusal;
        int r;

        openai_take_usage(c, json_get(o, "usage"));
        if (!json_object_is_type(choices, json_type_array))
                return 0;
        choice = json_object_array_get_idx(choices, 0);
        if (!choice || json_get_int(choice, "index", 0) != 0)
                return 0;

        delta = json_get(choice, "delta");
        r = model_call_say(c, json_get(delta, "content"));
        if (r >= 0)
                r = openai_take_reasoning(c, json_get(delta, "reasoning_content"));
        if (r >= 0)
                r = openai_take_calls(c, json_get(delta, "tool_calls"));
        if (r < 0)
                return r;

        /* The words of a refusal are not the reply; they only turn its end into one. */
        refusal = json_get_string(delta, "refusal");
        if (!isempty(refusal))
                c->result.stop = MODEL_STOP_REFUSAL;

        reason = json_get_string(choice, "finish_reason");
        if (isempty(reason))
                return 0;
        /* Nothing of the reply comes after this. Some servers leave out the end marker. */
        c->complete = true;
        if (c->result.stop == MODEL_STOP_REFUSAL)
                return model_call_stop(c, MODEL_STOP_REFUSAL, "refusal");
        return model_call_stop(c, openai_stop(reason), reason);
}

static ModelErrorKind openai_classify(json_object *error, const char *text, uint64_t *ret_retry_after_usec) {
        static const struct {
                const char *word;
                ModelErrorKind kind;
        } t[] = {
                { "insufficient_quota",         MODEL_ERROR_BILLING        },
                { "billing_hard_limit_reached", MODEL_ERROR_BILLING        },
                { "billing_not_active",         MODEL_ERROR_BILLING        },
                { "invalid_api_key",            MODEL_ERROR_AUTH           },
                { "context_length_exceeded",    MODEL_ERROR_CONTEXT_LENGTH },
                { "exceed_context_size_error",  MODEL_ERROR_CONTEXT_LENGTH },
                { "model_not_found",            MODEL_ERROR_NOT_FOUND      },
                { "rate_limit_exceeded",        MODEL_ERROR_RATE_LIMIT     },
                { "server_error",               MODEL_ERROR_OVERLOADED     },
        };
        const char *code = json_get_string(error, "code"), *type = json_get_string(error, "type");

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (streq_ptr(code, t[i].word) || streq_ptr(type, t[i].word))
                        return t[i].kind;
        return model_error_text_is_context_length(text) ? MODEL_ERROR_CONTEXT_LENGTH : MODEL_ERROR_NONE;
}

const ModelDriver openai_driver = {
        .name = "openai",
        .default_model = "gpt-4o",
        .default_base_url = "https://api.openai.com/v1",
        .base_url_variable = "OPENAI_BASE_URL",
        .key_header = "authorization: Bearer ",
        .request_id_header = "x-request-id",
        .end_marker = "[DONE]",
        .locate = openai_locate,
        .url = openai_url,
        .body = openai_body,
        .drop_images = openai_drop_images,
        .event = openai_event,
        .opaque = openai_opaque,
        .classify = openai_classify,
};
