/* SPDX-License-Identifier: MIT */

/* Anthropic Messages, version 2023-06-01 (provider-apis §3). */

#include "model-driver.h"

static int anthropic_url(const char *base, const char *model, char **ret) {
        return model_url_with_version(base, "/v1", "/messages", ret);
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

static int anthropic_put_messages(json_object *body, const ModelRequest *q) {
        json_object *messages = json_object_new_array(), *content = NULL, *cached = NULL;
        int r;

        r = model_object_add(body, "messages", messages);
        if (r < 0)
                return r;

        for (size_t i = 0; i < q->n_messages; i++) {
                json_object *block;

                if (i == 0 || q->messages[i].role != q->messages[i - 1].role) {
                        r = anthropic_add_message(messages, q->messages[i].role, &content);
                        if (r < 0)
                                return r;
                }
                block = model_text_part_new("text", q->messages[i].text);
                r = model_array_add(content, block);
                if (r < 0)
                        return r;
                /* The last assistant message closes the previous turn: everything up to there will come again
                 * unchanged with the next call. */
                if (q->messages[i].role == MODEL_ROLE_ASSISTANT)
                        cached = block;
        }
        return cached ? block_mark_cached(cached) : 0;
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
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (streq_ptr(t[i].reason, reason))
                        return t[i].stop;
        return MODEL_STOP_OTHER;
}

static int anthropic_event(ModelCall *c, json_object *o) {
        const char *type = strempty(json_get_string(o, "type"));
        json_object *delta = json_get(o, "delta");

        if (streq(type, "message_start"))
                anthropic_take_usage(c, json_get(json_get(o, "message"), "usage"));
        else if (streq(type, "content_block_start")) {
                json_object *block = json_get(o, "content_block");

                if (streq_ptr(json_get_string(block, "type"), "text"))
                        return model_call_say(c, json_get(block, "text"));
        } else if (streq(type, "content_block_delta")) {
                if (streq_ptr(json_get_string(delta, "type"), "text_delta"))
                        return model_call_say(c, json_get(delta, "text"));
        } else if (streq(type, "message_delta")) {
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
        .default_model = "claude-sonnet-4-6",
        .default_base_url = "https://api.anthropic.com",
        .base_url_variable = "ANTHROPIC_BASE_URL",
        .key_header = "x-api-key: ",
        .extra_header = "anthropic-version: 2023-06-01",
        .request_id_header = "request-id",
        .url = anthropic_url,
        .body = anthropic_body,
        .event = anthropic_event,
        .classify = anthropic_classify,
};
