/* SPDX-License-Identifier: MIT */

/* OpenAI Chat Completions, of OpenAI and of whoever speaks it too (provider-apis §4). */

#include "model-driver.h"

/* The base URL carries the version, as in the vendor's own clients, and is used as it is; but a bare host can only
 * mean the usual place below it. */
static int openai_url(const char *base, const char *model, char **ret) {
        const char *host = strstr(base, "://"), *path = host ? strchr(host + 3, '/') : NULL;
        bool bare = !path || path[strspn(path, "/")] == 0;

        *ret = http_url_join(base, bare ? "/v1/chat/completions" : "/chat/completions");
        return *ret ? 0 : -ENOMEM;
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

/* Contents are plain strings, joined by an empty line: not every compatible server knows lists of parts. */
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

        for (size_t i = 0; i < q->n_messages; ) {
                _cleanup_(strbuf_done) StrBuf b = {};
                ModelRole role = q->messages[i].role;

                for (bool first = true; i < q->n_messages && q->messages[i].role == role; i++, first = false) {
                        if (!first) {
                                r = strbuf_puts(&b, "\n\n");
                                if (r < 0)
                                        return r;
                        }
                        r = strbuf_puts(&b, q->messages[i].text);
                        if (r < 0)
                                return r;
                }
                r = openai_add_message(messages, role == MODEL_ROLE_USER ? "user" : "assistant", b.text);
                if (r < 0)
                        return r;
        }
        return 0;
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
        if (streq(reason, "stop"))
                return MODEL_STOP_END;
        if (streq(reason, "length"))
                return MODEL_STOP_LENGTH;
        if (streq(reason, "content_filter"))
                return MODEL_STOP_REFUSAL;
        return MODEL_STOP_OTHER;
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
        .default_model = "gpt-4o",
        .default_base_url = "https://api.openai.com/v1",
        .base_url_variable = "OPENAI_BASE_URL",
        .key_header = "authorization: Bearer ",
        .request_id_header = "x-request-id",
        .end_marker = "[DONE]",
        .url = openai_url,
        .body = openai_body,
        .event = openai_event,
        .classify = openai_classify,
};
