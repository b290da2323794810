/* SPDX-License-Identifier: MIT */

/* Anthropic Messages, version 2023-06-01 (provider-apis §3). */

#include "model-driver.h"

static int anthropic_locate(const char *base, const char *path, char **ret) {
        return model_url_with_version(base, "/v1", path, ret);
}

static int anthropic_url(const char *base, const char *model, char **ret) {
        return anthropic_locate(base, "/messages", ret);
}

static int block_mark_cached(json_object *block) {
        json_object *control = json_object_new_object();
        int r;

        r = model_object_add(block, "cache_control", control);
        if (r < 0)
                return r;
        return json_put_string(control, "type", "ephemeral");
}

static int anthropic_put_system(json_object *body, const char *system) {
        json_object *list, *block = model_text_part_new("text", system);
        int r;

        list = json_object_new_array();
        r = model_object_add(body, "system", list);
        if (r < 0) {
                (void) json_object_put(block);
                return r;
        }
        r = model_array_add(list, block);
        if (r < 0)
                return r;
        return block_mark_cached(block);
}

/* Adds an empty message; *ret is its list of blocks. */
static int anthropic_add_message(json_object *messages, ModelRole role, json_object **ret) {
        json_object *message = json_object_new_object(), *content;
        int r;

        r = model_array_add(messages, message);
        if (r < 0)
                return r;
        r = json_put_string(message, "role", role == MODEL_ROLE_USER ? "user" : "assistant");
        if (r < 0)
                return r;
        content = json_object_new_array();
        r = model_object_add(message, "content", content);
        if (r < 0)
                return r;
        *ret = content;
        return 0;
}

/* Ids of other providers may hold anything. */
static int put_id(json_object *o, const char *key, const char *id) {
        _cleanup_free_ char *clean = strdup(id);

        if (!clean)
                return -ENOMEM;
        for (char *p = clean; *p; p++)
                if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-'))
                        *p = '_';
        return json_put_string(o, key, clean);
}

static int put_call(json_object *block, const ModelToolCall *call) {
        _cleanup_free_ char *name = model_tool_wire_name(call->name);
        json_object *input = model_tool_arguments(call->arguments);
        int r;

        r = name ? json_put_string(block, "type", "tool_use") : -ENOMEM;
        if (r >= 0)
                r = put_id(block, "id", call->id);
        if (r >= 0)
                r = json_put_string(block, "name", name);
        if (r < 0) {
                (void) json_object_put(input);
                return r;
        }
        return model_object_add(block, "input", input);
}

static int put_result(json_object *block, const ModelToolResult *result) {
        int r;

        r = json_put_string(block, "type", "tool_result");
        if (r >= 0)
                r = put_id(block, "tool_use_id", result->id);
        /* Of no text there may be none at all. */
        if (r >= 0 && !model_text_is_blank(result->text))
                r = json_put_string(block, "content", result->text);
        if (r >= 0 && result->is_error)
                r = json_put_bool(block, "is_error", true);
        return r;
}

/* The calls of an assistant's message, with its text: in the provider's own words when we have them. */
static int anthropic_add_calls(json_object *content, const ModelMessage *m) {
        _cleanup_json_ json_object *blocks = NULL;
        int r;

        r = model_opaque_parse(m->opaque, &anthropic_driver, &blocks);
        if (r < 0)
                return r;
        if (json_object_is_type(blocks, json_type_array)) {
                for (size_t i = 0; i < json_object_array_length(blocks); i++) {
                        r = model_array_add(content, json_object_get(json_object_array_get_idx(blocks, i)));
                        if (r < 0)
                                return r;
                }
                return 0;
        }
        if (!model_text_is_blank(m->text)) {
                r = model_array_add(content, model_text_part_new("text", m->text));
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < m->n_calls; i++) {
                json_object *block = json_object_new_object();

                r = model_array_add(content, block);
                if (r >= 0)
                        r = put_call(block, m->calls + i);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* {"type": "image", "source": {"type": "base64", "media_type", "data"}}. */
static int anthropic_add_image(json_object *content, const ModelImage *image, ModelImages *images) {
        json_object *block = json_object_new_object(), *source = NULL, *data = NULL;
        int r;

        r = model_array_add(content, block);
        if (r >= 0)
                r = json_put_string(block, "type", "image");
        if (r >= 0) {
                source = json_object_new_object();
                r = model_object_add(block, "source", source);
        }
        if (r >= 0)
                r = json_put_string(source, "type", "base64");
        if (r >= 0)
                r = json_put_string(source, "media_type", image->type);
        if (r >= 0)
                r = model_image_place(images, image, "", &data);
        return r < 0 ? r : json_put(source, "data", data);
}

static int anthropic_drop_images(json_object *body) {
        return model_drop_images(json_get(body, "messages"), "content", "text", "source");
}

/* Results, images, then text. *ret_last: the last block of a result, else untouched. */
static int anthropic_add_content(json_object *content, const ModelMessage *m, ModelImages *images,
                                 json_object **ret_last, json_object **ret_text) {
        json_object *block;
        int r;

        for (size_t i = 0; i < m->n_results; i++) {
                block = json_object_new_object();
                r = model_array_add(content, block);
                if (r >= 0)
                        r = put_result(block, m->results + i);
                if (r < 0)
                        return r;
                *ret_last = block;
        }
        for (size_t i = 0; i < m->n_images; i++) {
                r = anthropic_add_image(content, m->images + i, images);
                if (r < 0)
                        return r;
        }
        if (model_text_is_blank(m->text))
                return 0;
        block = model_text_part_new("text", m->text);
        r = model_array_add(content, block);
        if (r < 0)
                return r;
        *ret_text = block;
        return 0;
}

static int anthropic_put_messages(json_object *body, const ModelRequest *q) {
        json_object *messages = json_object_new_array(), *content = NULL, *cached = NULL, *last_result = NULL;
        int r;

        r = model_object_add(body, "messages", messages);
        if (r < 0)
                return r;

        for (size_t i = 0; i < q->n_messages; i++) {
                json_object *text = NULL;

                if (i == 0 || q->messages[i].role != q->messages[i - 1].role) {
                        r = anthropic_add_message(messages, q->messages[i].role, &content);
                        if (r < 0)
                                return r;
                }
                r = q->messages[i].n_calls > 0 ? anthropic_add_calls(content, q->messages + i) :
                                                 anthropic_add_content(content, q->messages + i, q->images,
                                                                       &last_result, &text);
                if (r < 0)
                        return r;
                /* The last assistant message that calls nothing closes the previous turn: everything up to there will
                 * come again unchanged with the next call. So will this turn's steps. */
                if (text && q->messages[i].role == MODEL_ROLE_ASSISTANT)
                        cached = text;
        }
        r = cached ? block_mark_cached(cached) : 0;
        return r >= 0 && last_result ? block_mark_cached(last_result) : r;
}

static int anthropic_put_tools(json_object *body, const ModelRequest *q) {
        json_object *list = json_object_new_array(), *choice;
        int r;

        r = model_object_add(body, "tools", list);
        for (size_t i = 0; i < q->n_tools && r >= 0; i++) {
                json_object *tool = NULL;

                r = model_tool_declare(q->tools + i, "input_schema", &tool);
                if (r >= 0)
                        r = model_array_add(list, tool);
        }
        if (r < 0 || !q->no_calls)
                return r;
        choice = json_object_new_object();
        r = model_object_add(body, "tool_choice", choice);
        return r < 0 ? r : json_put_string(choice, "type", "none");
}

static int anthropic_body(const ModelRequest *q, json_object *body) {
        int r;

        r = json_put_string(body, "model", q->model);
        if (r < 0)
                return r;
        r = json_put_int(body, "max_tokens", (int64_t) q->max_tokens);
        if (r < 0)
                return r;
        r = json_put_bool(body, "stream", true);
        if (r < 0)
                return r;
        if (q->system) {
                r = anthropic_put_system(body, q->system);
                if (r < 0)
                        return r;
        }
        if (q->n_tools > 0) {
                r = anthropic_put_tools(body, q);
                if (r < 0)
                        return r;
        }
        return anthropic_put_messages(body, q);
}

/* Counts of message_delta replace those of message_start where they are given. */
static void anthropic_take_usage(ModelCall *c, json_object *usage) {
        ModelUsage *u = &c->result.usage;

        c->uncached_tokens = model_count(usage, "input_tokens", c->uncached_tokens);
        u->cached_tokens = model_count(usage, "cache_read_input_tokens", u->cached_tokens);
        u->cache_write_tokens = model_count(usage, "cache_creation_input_tokens", u->cache_write_tokens);
        u->output_tokens = model_count(usage, "output_tokens", u->output_tokens);
        u->input_tokens = c->uncached_tokens + u->cached_tokens + u->cache_write_tokens;
}

static ModelStop anthropic_stop(const char *reason) {
        static const struct {
                const char *reason;
                ModelStop stop;
        } t[] = {
                { "end_turn",                      MODEL_STOP_END     },
                { "stop_sequence",                 MODEL_STOP_END     },
                { "max_tokens",                    MODEL_STOP_LENGTH  },
                { "model_context_window_exceeded", MODEL_STOP_LENGTH  },
                { "refusal",                       MODEL_STOP_REFUSAL },
                { "tool_use",                      MODEL_STOP_END     },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (streq_ptr(t[i].reason, reason))
                        return t[i].stop;
        return MODEL_STOP_OTHER;
}

static int anthropic_begin_block(ModelCall *c, int64_t index, json_object *block) {
        const char *type = strempty(json_get_string(block, "type"));
        ModelPart *p;
        int r;

        if (streq(type, "text")) {
                r = model_part_begin(c, MODEL_PART_TEXT, index, &p);
                if (r >= 0)
                        r = model_part_add(c, p, json_get(block, "text"));
                return r < 0 ? r : model_call_say(c, json_get(block, "text"));
        }
        if (streq(type, "tool_use")) {
                r = model_part_begin_call(c, index, json_get_string(block, "id"), json_get_string(block, "name"), &p);
                return r < 0 ? r : model_part_set_arguments(c, p, json_get(block, "input"), /* preset= */ true);
        }
        if (streq(type, "thinking")) {
                r = model_part_begin(c, MODEL_PART_THOUGHT, index, &p);
                if (r >= 0)
                        r = model_part_add(c, p, json_get(block, "thinking"));
                return r < 0 ? r : model_part_put_extra(c, p, "signature", json_get(block, "signature"));
        }
        if (streq(type, "redacted_thinking")) {
                r = model_part_begin(c, MODEL_PART_RAW, index, &p);
                return r < 0 ? r : model_part_put_extra(c, p, "block", block);
        }
        return 0;
}

static int anthropic_block_delta(ModelCall *c, int64_t index, json_object *delta) {
        const char *type = strempty(json_get_string(delta, "type"));
        int r;

        if (streq(type, "text_delta")) {
                r = model_part_add(c, model_part_find(c, MODEL_PART_TEXT, index), json_get(delta, "text"));
                return r < 0 ? r : model_call_say(c, json_get(delta, "text"));
        }
        if (streq(type, "input_json_delta"))
                return model_part_add(c, model_part_find(c, MODEL_PART_CALL, index), json_get(delta, "partial_json"));
        if (streq(type, "thinking_delta"))
                return model_part_add(c, model_part_find(c, MODEL_PART_THOUGHT, index), json_get(delta, "thinking"));
        if (streq(type, "signature_delta"))
                return model_part_put_extra(c, model_part_find(c, MODEL_PART_THOUGHT, index), "signature",
                                            json_get(delta, "signature"));
        return 0;
}

/* Only what was thought cannot be told from text and calls. */
static int anthropic_opaque(ModelCall *c, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();
        bool thought = false;
        int r = 0;

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < c->n_parts && r >= 0; i++) {
                const ModelPart *p = c->parts + i;
                _cleanup_json_ json_object *block = json_object_new_object();

                if (!block)
                        return -ENOMEM;
                switch (p->kind) {
                case MODEL_PART_TEXT:
                        if (model_text_is_blank(p->text.text))
                                continue;
                        r = json_put_string(block, "type", "text");
                        if (r >= 0)
                                r = json_put_string(block, "text", p->text.text);
                        break;
                case MODEL_PART_THOUGHT:
                        r = json_put_string(block, "type", "thinking");
                        if (r >= 0)
                                r = json_put_string(block, "thinking", strempty(p->text.text));
                        if (r >= 0)
                                r = json_put(block, "signature", json_object_get(json_get(p->extra, "signature")));
                        thought = true;
                        break;
                case MODEL_PART_CALL:
                        r = put_call(block, &(ModelToolCall) { p->id, p->name, strempty(p->text.text) });
                        break;
                case MODEL_PART_RAW:
                        (void) json_object_put(block);
                        block = json_object_get(json_get(p->extra, "block"));
                        thought = true;
                        break;
                }
                if (r >= 0)
                        r = model_array_add(list, TAKE_PTR(block));
        }
        if (r >= 0 && thought)
                *ret = TAKE_PTR(list);
        return r;
}

static int anthropic_event(ModelCall *c, json_object *o) {
        const char *type = strempty(json_get_string(o, "type"));
        json_object *delta = json_get(o, "delta");

        if (streq(type, "message_start"))
                anthropic_take_usage(c, json_get(json_get(o, "message"), "usage"));
        else if (streq(type, "content_block_start"))
                return anthropic_begin_block(c, json_get_int(o, "index", -1), json_get(o, "content_block"));
        else if (streq(type, "content_block_delta"))
                return anthropic_block_delta(c, json_get_int(o, "index", -1), delta);
        else if (streq(type, "message_delta")) {
                const char *reason = json_get_string(delta, "stop_reason");

                anthropic_take_usage(c, json_get(o, "usage"));
                if (reason)
                        return model_call_stop(c, anthropic_stop(reason), reason);
        } else if (streq(type, "message_stop")) {
                c->complete = true;
                c->state = CALL_ENDED;
        }
        return 0;
}

static ModelErrorKind anthropic_classify(json_object *error, const char *text, uint64_t *ret_retry_after_usec) {
        static const struct {
                const char *type;
                ModelErrorKind kind;
        } t[] = {
                { "authentication_error", MODEL_ERROR_AUTH           },
                { "permission_error",     MODEL_ERROR_AUTH           },
                { "billing_error",        MODEL_ERROR_BILLING        },
                { "not_found_error",      MODEL_ERROR_NOT_FOUND      },
                { "request_too_large",    MODEL_ERROR_CONTEXT_LENGTH },
                { "rate_limit_error",     MODEL_ERROR_RATE_LIMIT     },
                { "api_error",            MODEL_ERROR_OVERLOADED     },
                { "timeout_error",        MODEL_ERROR_OVERLOADED     },
                { "overloaded_error",     MODEL_ERROR_OVERLOADED     },
        };
        const char *type = json_get_string(error, "type");

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (streq_ptr(t[i].type, type))
                        return t[i].kind;

        if (streq_ptr(type, "invalid_request_error")) {
                if (text && strcasestr(text, "credit balance"))
                        return MODEL_ERROR_BILLING;
                if (model_error_text_is_context_length(text))
                        return MODEL_ERROR_CONTEXT_LENGTH;
                return MODEL_ERROR_INVALID_REQUEST;
        }
        return MODEL_ERROR_NONE;
}

const ModelDriver anthropic_driver = {
        .name = "anthropic",
        .default_model = "claude-sonnet-4-6",
        .default_base_url = "https://api.anthropic.com",
        .base_url_variable = "ANTHROPIC_BASE_URL",
        .key_header = "x-api-key: ",
        .extra_header = "anthropic-version: 2023-06-01",
        .request_id_header = "request-id",
        .locate = anthropic_locate,
        .url = anthropic_url,
        .body = anthropic_body,
        .drop_images = anthropic_drop_images,
        .event = anthropic_event,
        .opaque = anthropic_opaque,
        .classify = anthropic_classify,
};
