/* SPDX-License-Identifier: MIT */

#include "model-wire.h"

static const char *const stops[] = {
        [MODEL_STOP_END] = "end", [MODEL_STOP_LENGTH] = "length", [MODEL_STOP_REFUSAL] = "refusal",
        [MODEL_STOP_OTHER] = "other",
};

static int append_line(StrBuf *b, json_object *o) {
        const char *text;
        size_t size;
        int r;

        text = json_text(o, &size);
        if (!text)
                return -ENOMEM;
        r = strbuf_append(b, text, size);
        return r < 0 ? r : strbuf_append(b, "\n", 1);
}

/* A count that JSON can carry; UINT64_MAX becomes null. */
static int put_count(json_object *o, const char *key, uint64_t v) {
        if (v == UINT64_MAX)
                return json_put_null(o, key);
        return json_put_int(o, key, (int64_t) MIN(v, (uint64_t) INT64_MAX));
}

static uint64_t get_count(json_object *o, const char *key, uint64_t fallback) {
        int64_t v = json_get_int(o, key, -1);

        return v < 0 ? fallback : (uint64_t) v;
}

static int messages_to_json(const ModelCallSpec *spec, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_messages; i++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                int r;

                if (!o)
                        return -ENOMEM;
                r = json_put_string(o, "role", spec->messages[i].role == MODEL_ROLE_USER ? "user" : "assistant");
                if (r >= 0)
                        r = json_put_string(o, "text", spec->messages[i].text);
                if (r < 0)
                        return r;
                if (json_object_array_add(list, o) < 0)
                        return -ENOMEM;
                (void) TAKE_PTR(o);
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int model_request_format(StrBuf *b, const ModelCallSpec *spec) {
        _cleanup_json_ json_object *o = json_object_new_object(), *messages = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        for (const char *c = strempty(spec->api_key); *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        return -EINVAL;

        r = messages_to_json(spec, &messages);
        if (r >= 0)
                r = json_put_string(o, "provider", model_provider_to_string(spec->provider));
        if (r >= 0)
                r = json_put_string(o, "base_url", spec->base_url);
        if (r >= 0)
                r = json_put_string(o, "model", spec->model);
        if (r >= 0)
                r = json_put_string(o, "system", spec->system);
        if (r >= 0)
                r = json_put(o, "messages", TAKE_PTR(messages));
        if (r >= 0)
                r = put_count(o, "max_tokens", spec->max_tokens);
        if (r >= 0)
                r = put_count(o, "idle_timeout_usec", spec->idle_timeout_usec);
        if (r >= 0)
                r = strbuf_puts(b, strempty(spec->api_key));
        if (r >= 0)
                r = strbuf_append(b, "\n", 1);
        return r < 0 ? r : append_line(b, o);
}

void model_request_line_done(ModelRequestLine *l) {
        (void) json_object_put(l->object);
        free(l->messages);
        *l = (ModelRequestLine) {};
}

int model_request_parse(ModelRequestLine *ret, const char *line, size_t size) {
        _cleanup_(model_request_line_done) ModelRequestLine l = {};
        json_object *list;
        int r;

        r = json_parse(line, size, &l.object);
        if (r < 0)
                return r;
        list = json_get(l.object, "messages");
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        l.messages = new0(ModelMessage, json_object_array_length(list));
        if (!l.messages)
                return -ENOMEM;
        l.spec = (ModelCallSpec) {
                .provider = model_provider_from_string(json_get_string(l.object, "provider")),
                .base_url = json_get_string(l.object, "base_url"),
                .model = json_get_string(l.object, "model"),
                .system = json_get_string(l.object, "system"),
                .messages = l.messages,
                .n_messages = json_object_array_length(list),
                .max_tokens = get_count(l.object, "max_tokens", 0),
                .idle_timeout_usec = get_count(l.object, "idle_timeout_usec", 0),
        };
        if (l.spec.provider < 0)
                return -EBADMSG;
        for (size_t i = 0; i < l.spec.n_messages; i++) {
                json_object *m = json_object_array_get_idx(list, i);

                l.messages[i].role = streq_ptr(json_get_string(m, "role"), "user") ? MODEL_ROLE_USER :
                                                                                     MODEL_ROLE_ASSISTANT;
                l.messages[i].text = json_get_string(m, "text");
                if (!l.messages[i].text)
                        return -EBADMSG;
        }

        *ret = l;
        l = (ModelRequestLine) {};
        return 0;
}

int model_delta_format(StrBuf *b, const char *text, size_t size) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string_len(o, "delta", text, size);
        return r < 0 ? r : append_line(b, o);
}

int model_result_format(StrBuf *b, const ModelResult *result) {
        _cleanup_json_ json_object *line = json_object_new_object(), *o = json_object_new_object();
        const struct { const char *name; uint64_t value; } counts[] = {
                { "retry_after_usec", result->retry_after_usec },
                { "input_tokens", result->usage.input_tokens },
                { "cached_tokens", result->usage.cached_tokens },
                { "cache_write_tokens", result->usage.cache_write_tokens },
                { "output_tokens", result->usage.output_tokens },
                { "reasoning_tokens", result->usage.reasoning_tokens },
        };
        int r;

        if (!line || !o)
                return -ENOMEM;
        r = json_put_string(o, "error", model_error_kind_to_string(result->error));
        if (r >= 0)
                r = json_put_int(o, "http_status", result->http_status);
        if (r >= 0)
                r = json_put_string(o, "message", result->message);
        if (r >= 0)
                r = json_put_string(o, "request_id", result->request_id);
        if (r >= 0)
                r = json_put_string(o, "stop",
                                    (size_t) result->stop < ELEMENTSOF(stops) ? stops[result->stop] : "other");
        for (size_t i = 0; i < ELEMENTSOF(counts) && r >= 0; i++)
                r = put_count(o, counts[i].name, counts[i].value);
        if (r >= 0)
                r = json_put(line, "done", TAKE_PTR(o));
        return r < 0 ? r : append_line(b, line);
}

static ModelStop stop_from_string(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(stops); i++)
                if (streq_ptr(s, stops[i]))
                        return (ModelStop) i;
        return MODEL_STOP_OTHER;
}

int model_answer_parse(const char *line, size_t size, json_object **ret_object, const char **ret_delta,
                       size_t *ret_delta_size, ModelResult *ret_result) {
        _cleanup_json_ json_object *o = NULL;
        json_object *delta, *done;
        ModelErrorKind kind;
        int r;

        r = json_parse(line, size, &o);
        if (r < 0)
                return r;
        delta = json_get(o, "delta");
        if (json_object_is_type(delta, json_type_string)) {
                *ret_delta = json_object_get_string(delta);
                *ret_delta_size = (size_t) json_object_get_string_len(delta);
                *ret_object = TAKE_PTR(o);
                return 0;
        }
        done = json_get(o, "done");
        kind = model_error_kind_from_string(json_get_string(done, "error"));
        if (kind < 0)
                return -EBADMSG;

        *ret_result = (ModelResult) {
                .error = kind,
                .http_status = (long) json_get_int(done, "http_status", 0),
                .retry_after_usec = get_count(done, "retry_after_usec", USEC_INFINITY),
                .message = json_get_string(done, "message"),
                .request_id = json_get_string(done, "request_id"),
                .text = "",
                .stop = stop_from_string(json_get_string(done, "stop")),
                .usage = {
                        .input_tokens = get_count(done, "input_tokens", 0),
                        .cached_tokens = get_count(done, "cached_tokens", 0),
                        .cache_write_tokens = get_count(done, "cache_write_tokens", 0),
                        .output_tokens = get_count(done, "output_tokens", 0),
                        .reasoning_tokens = get_count(done, "reasoning_tokens", 0),
                },
        };
        *ret_object = TAKE_PTR(o);
        return 1;
}
