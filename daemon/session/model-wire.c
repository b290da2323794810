/* SPDX-License-Identifier: MIT */

#include "model-wire.h"

static const char *const stops[] = {
        [MODEL_STOP_END] = "end", [MODEL_STOP_LENGTH] = "length", [MODEL_STOP_REFUSAL] = "refusal",
        [MODEL_STOP_OTHER] = "other", [MODEL_STOP_TOOLS] = "tools",
};

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

static int list_add(json_object *list, json_object **o) {
        if (json_object_array_add(list, *o) < 0)
                return -ENOMEM;
        (void) TAKE_PTR(*o);
        return 0;
}

static int calls_to_json(const ModelToolCall *calls, size_t n, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                int r = o ? json_put_string(o, "id", calls[i].id) : -ENOMEM;

                if (r >= 0)
                        r = json_put_string(o, "name", calls[i].name);
                if (r >= 0)
                        r = json_put_string(o, "arguments", calls[i].arguments);
                if (r >= 0)
                        r = list_add(list, &o);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int results_to_json(const ModelToolResult *results, size_t n, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                int r = o ? json_put_string(o, "id", results[i].id) : -ENOMEM;

                if (r >= 0)
                        r = json_put_string(o, "name", results[i].name);
                if (r >= 0)
                        r = json_put_string(o, "text", results[i].text);
                if (r >= 0 && results[i].is_error)
                        r = json_put_bool(o, "is_error", true);
                if (r >= 0)
                        r = list_add(list, &o);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int tools_to_json(const ModelCallSpec *spec, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_tools; i++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                int r = o ? json_put_string(o, "name", spec->tools[i].name) : -ENOMEM;

                if (r >= 0)
                        r = json_put_string(o, "description", spec->tools[i].description);
                if (r >= 0)
                        r = json_put_string(o, "schema", spec->tools[i].schema);
                if (r >= 0)
                        r = list_add(list, &o);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int images_to_json(const ModelMessage *m, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_images; i++) {
                _cleanup_json_ json_object *o = json_object_new_object();
                int r = o ? json_put_string(o, "type", m->images[i].type) : -ENOMEM;

                if (r >= 0)
                        r = put_count(o, "size", m->images[i].size);
                if (r >= 0)
                        r = list_add(list, &o);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

size_t model_request_fds(const ModelCallSpec *spec, int ret[static MODEL_IMAGES_MAX]) {
        size_t n = 0;

        for (size_t i = 0; i < spec->n_messages; i++)
                for (size_t k = 0; k < spec->messages[i].n_images && n < MODEL_IMAGES_MAX; k++)
                        ret[n++] = spec->messages[i].images[k].fd;
        return n;
}

static bool has_too_many_images(const ModelCallSpec *spec) {
        size_t n = 0;

        for (size_t i = 0; i < spec->n_messages; i++)
                n += spec->messages[i].n_images;
        return n > MODEL_IMAGES_MAX;
}

/* What a message has besides its text. */
static int steps_to_json(const ModelMessage *m, json_object *o) {
        json_object *list;
        int r = 0;

        if (m->n_calls > 0) {
                r = calls_to_json(m->calls, m->n_calls, &list);
                if (r >= 0)
                        r = json_put(o, "calls", list);
                if (r >= 0 && !isempty(m->opaque))
                        r = json_put_string(o, "opaque", m->opaque);
        }
        if (r >= 0 && m->n_results > 0) {
                r = results_to_json(m->results, m->n_results, &list);
                if (r >= 0)
                        r = json_put(o, "results", list);
        }
        if (r >= 0 && m->n_images > 0) {
                r = images_to_json(m, &list);
                if (r >= 0)
                        r = json_put(o, "images", list);
        }
        return r;
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
                        r = json_put_string(o, "text", strempty(spec->messages[i].text));
                if (r >= 0)
                        r = steps_to_json(spec->messages + i, o);
                if (r >= 0)
                        r = list_add(list, &o);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int model_request_format(StrBuf *b, const ModelCallSpec *spec) {
        _cleanup_json_ json_object *o = json_object_new_object(), *messages = NULL, *tools = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        for (const char *c = strempty(spec->api_key); *c; c++)
                if ((unsigned char) *c < 0x20 || *c == 0x7f)
                        return -EINVAL;
        if (has_too_many_images(spec))
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
        if (r >= 0 && spec->n_tools > 0) {
                r = tools_to_json(spec, &tools);
                if (r >= 0)
                        r = json_put(o, "tools", TAKE_PTR(tools));
                if (r >= 0 && spec->no_calls)
                        r = json_put_bool(o, "no_calls", true);
        }
        if (r >= 0)
                r = put_count(o, "max_tokens", spec->max_tokens);
        if (r >= 0)
                r = put_count(o, "idle_timeout_usec", spec->idle_timeout_usec);
        if (r >= 0)
                r = strbuf_puts(b, strempty(spec->api_key));
        if (r >= 0)
                r = strbuf_append(b, "\n", 1);
        return r < 0 ? r : json_append_line(b, o);
}

void model_request_line_done(ModelRequestLine *l) {
        (void) json_object_put(l->object);
        for (size_t i = 0; l->messages && i < l->spec.n_messages; i++) {
                free((void*) l->messages[i].calls);
                free((void*) l->messages[i].results);
        }
        free(l->messages);
        free(l->tools);
        *l = (ModelRequestLine) {};
}

/* The length of a list, which may be absent. */
static int list_length(json_object *list, size_t *ret) {
        *ret = 0;
        if (!list)
                return 0;
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        *ret = json_object_array_length(list);
        return 0;
}

static int calls_parse(json_object *list, ModelToolCall **ret, size_t *ret_n) {
        _cleanup_free_ ModelToolCall *calls = NULL;
        size_t n;
        int r;

        r = list_length(list, &n);
        if (r < 0 || n == 0)
                return r;
        calls = new0(ModelToolCall, n);
        if (!calls)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                json_object *o = json_object_array_get_idx(list, i);

                calls[i].id = json_get_string(o, "id");
                calls[i].name = json_get_string(o, "name");
                calls[i].arguments = json_get_string(o, "arguments");
                if (isempty(calls[i].id) || !calls[i].name || !calls[i].arguments)
                        return -EBADMSG;
        }
        *ret = TAKE_PTR(calls);
        *ret_n = n;
        return 0;
}

static int results_parse(json_object *list, ModelMessage *m) {
        _cleanup_free_ ModelToolResult *results = NULL;
        size_t n;
        int r;

        r = list_length(list, &n);
        if (r < 0 || n == 0)
                return r;
        results = new0(ModelToolResult, n);
        if (!results)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                json_object *o = json_object_array_get_idx(list, i);

                results[i].id = json_get_string(o, "id");
                results[i].name = json_get_string(o, "name");
                results[i].text = json_get_string(o, "text");
                results[i].is_error = json_get_bool(o, "is_error", false);
                if (isempty(results[i].id) || !results[i].name || !results[i].text)
                        return -EBADMSG;
        }
        m->results = TAKE_PTR(results);
        m->n_results = n;
        return 0;
}

static int images_parse(json_object *list, ModelMessage *m, ModelRequestLine *l, const int *fds, size_t n_fds) {
        size_t n;
        int r;

        r = list_length(list, &n);
        if (r < 0 || n == 0)
                return r;
        if (n > MIN(n_fds, (size_t) MODEL_IMAGES_MAX) - l->n_images)
                return -EBADMSG;
        for (size_t i = 0; i < n; i++) {
                json_object *o = json_object_array_get_idx(list, i);

                l->images[l->n_images + i] = (ModelImage) {
                        .type = json_get_string(o, "type"), .size = get_count(o, "size", 0),
                        .fd = fds[l->n_images + i],
                };
        }
        m->images = l->images + l->n_images;
        m->n_images = n;
        l->n_images += n;
        return 0;
}

static int message_parse(json_object *o, ModelMessage *m) {
        ModelToolCall *calls = NULL;
        int r;

        m->role = streq_ptr(json_get_string(o, "role"), "user") ? MODEL_ROLE_USER : MODEL_ROLE_ASSISTANT;
        m->text = json_get_string(o, "text");
        m->opaque = json_get_string(o, "opaque");
        if (!m->text)
                return -EBADMSG;
        r = calls_parse(json_get(o, "calls"), &calls, &m->n_calls);
        m->calls = calls;
        return r < 0 ? r : results_parse(json_get(o, "results"), m);
}

static int tools_parse(ModelRequestLine *l) {
        json_object *list = json_get(l->object, "tools");
        size_t n;
        int r;

        r = list_length(list, &n);
        if (r < 0 || n == 0)
                return r;
        l->tools = new0(ModelTool, n);
        if (!l->tools)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                json_object *o = json_object_array_get_idx(list, i);
                ModelTool *t = l->tools + i;

                t->name = json_get_string(o, "name");
                t->description = json_get_string(o, "description");
                t->schema = json_get_string(o, "schema");
                if (!t->name || !t->description || !t->schema)
                        return -EBADMSG;
        }
        l->spec.tools = l->tools;
        l->spec.n_tools = n;
        l->spec.no_calls = json_get_bool(l->object, "no_calls", false);
        return 0;
}

static int request_parse(ModelRequestLine *l, const char *line, size_t size, const int *fds, size_t n_fds) {
        json_object *list;
        int r;

        r = json_parse(line, size, &l->object);
        if (r < 0)
                return r;
        list = json_get(l->object, "messages");
        if (!json_object_is_type(list, json_type_array))
                return -EBADMSG;
        l->messages = new0(ModelMessage, json_object_array_length(list));
        if (!l->messages)
                return -ENOMEM;
        l->spec = (ModelCallSpec) {
                .provider = model_provider_from_string(json_get_string(l->object, "provider")),
                .base_url = json_get_string(l->object, "base_url"),
                .model = json_get_string(l->object, "model"),
                .system = json_get_string(l->object, "system"),
                .messages = l->messages,
                .n_messages = json_object_array_length(list),
                .max_tokens = get_count(l->object, "max_tokens", 0),
                .idle_timeout_usec = get_count(l->object, "idle_timeout_usec", 0),
        };
        if (l->spec.provider < 0)
                return -EBADMSG;
        for (size_t i = 0; i < l->spec.n_messages; i++) {
                json_object *o = json_object_array_get_idx(list, i);

                r = message_parse(o, l->messages + i);
                if (r >= 0)
                        r = images_parse(json_get(o, "images"), l->messages + i, l, fds, n_fds);
                if (r < 0)
                        return r;
        }
        return l->n_images == n_fds ? tools_parse(l) : -EBADMSG;
}

int model_request_parse(ModelRequestLine *ret, const char *line, size_t size, const int *fds, size_t n_fds) {
        int r;

        /* In the caller's own: messages point into it. */
        *ret = (ModelRequestLine) {};
        r = request_parse(ret, line, size, fds, n_fds);
        if (r < 0)
                model_request_line_done(ret);
        return r;
}

int model_delta_format(StrBuf *b, const char *text, size_t size) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string_len(o, "delta", text, size);
        return r < 0 ? r : json_append_line(b, o);
}

int model_result_format(StrBuf *b, const ModelResult *result) {
        _cleanup_json_ json_object *line = json_object_new_object(), *o = json_object_new_object(), *calls = NULL;
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
        if (r >= 0 && result->n_calls > 0) {
                r = calls_to_json(result->calls, result->n_calls, &calls);
                if (r >= 0)
                        r = json_put(o, "calls", TAKE_PTR(calls));
                if (r >= 0 && !isempty(result->opaque))
                        r = json_put_string(o, "opaque", result->opaque);
        }
        if (r >= 0 && result->tools_refused)
                r = json_put_bool(o, "tools_refused", true);
        if (r >= 0 && result->images_refused)
                r = json_put_bool(o, "images_refused", true);
        if (r >= 0 && result->call_cut)
                r = json_put_bool(o, "call_cut", true);
        if (r >= 0)
                r = json_put(line, "done", TAKE_PTR(o));
        return r < 0 ? r : json_append_line(b, line);
}

static ModelStop stop_from_string(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(stops); i++)
                if (streq_ptr(s, stops[i]))
                        return (ModelStop) i;
        return MODEL_STOP_OTHER;
}

void model_answer_line_done(ModelAnswerLine *l) {
        (void) json_object_put(l->object);
        free(l->calls);
        *l = (ModelAnswerLine) {};
}

int model_answer_parse(ModelAnswerLine *ret, const char *line, size_t size) {
        _cleanup_(model_answer_line_done) ModelAnswerLine l = {};
        json_object *delta, *done;
        ModelErrorKind kind;
        size_t n_calls = 0;
        int r;

        r = json_parse(line, size, &l.object);
        if (r < 0)
                return r;
        delta = json_get(l.object, "delta");
        if (json_object_is_type(delta, json_type_string)) {
                l.delta = json_object_get_string(delta);
                l.delta_size = (size_t) json_object_get_string_len(delta);
                *ret = l;
                l = (ModelAnswerLine) {};
                return 0;
        }
        done = json_get(l.object, "done");
        kind = model_error_kind_from_string(json_get_string(done, "error"));
        if (kind < 0)
                return -EBADMSG;
        r = calls_parse(json_get(done, "calls"), &l.calls, &n_calls);
        if (r < 0)
                return r;

        l.result = (ModelResult) {
                .error = kind,
                .http_status = (long) json_get_int(done, "http_status", 0),
                .retry_after_usec = get_count(done, "retry_after_usec", USEC_INFINITY),
                .message = json_get_string(done, "message"),
                .request_id = json_get_string(done, "request_id"),
                .text = "",
                .stop = stop_from_string(json_get_string(done, "stop")),
                .calls = l.calls,
                .n_calls = n_calls,
                .opaque = json_get_string(done, "opaque"),
                .tools_refused = json_get_bool(done, "tools_refused", false),
                .images_refused = json_get_bool(done, "images_refused", false),
                .call_cut = json_get_bool(done, "call_cut", false),
                .usage = {
                        .input_tokens = get_count(done, "input_tokens", 0),
                        .cached_tokens = get_count(done, "cached_tokens", 0),
                        .cache_write_tokens = get_count(done, "cache_write_tokens", 0),
                        .output_tokens = get_count(done, "output_tokens", 0),
                        .reasoning_tokens = get_count(done, "reasoning_tokens", 0),
                },
        };
        if ((l.result.stop == MODEL_STOP_TOOLS) != (n_calls > 0))
                return -EBADMSG;
        *ret = l;
        l = (ModelAnswerLine) {};
        return 1;
}
