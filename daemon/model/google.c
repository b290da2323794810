/* SPDX-License-Identifier: MIT */

/* Google Gemini, streamGenerateContent (provider-apis §6). */

#include "model-driver.h"

static int google_locate(const char *base, const char *path, char **ret) {
        return model_url_with_version(base, "/v1beta", path, ret);
}

static int google_url(const char *base, const char *model, char **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        const char *name = startswith(model, "models/") ?: model;
        int r;

        r = strbuf_puts(&path, "/models/");
        for (; r >= 0 && *name; name++) {
                unsigned char ch = (unsigned char) *name;
                bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
                             strchr("-._~", ch);

                r = plain ? strbuf_append(&path, name, 1) : strbuf_printf(&path, "%%%02X", ch);
        }
        if (r >= 0)
                r = strbuf_puts(&path, ":streamGenerateContent?alt=sse");
        if (r < 0)
                return r;
        return google_locate(base, path.text, ret);
}

/* Makes {"role", "parts": []}; *ret_parts is borrowed from *ret. */
static int google_content_new(ModelRole role, json_object **ret, json_object **ret_parts) {
        _cleanup_json_ json_object *content = json_object_new_object();
        json_object *parts;
        int r;

        if (!content)
                return -ENOMEM;
        r = json_put_string(content, "role", role == MODEL_ROLE_USER ? "user" : "model");
        if (r < 0)
                return r;
        parts = json_object_new_array();
        r = model_object_add(content, "parts", parts);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(content);
        *ret_parts = parts;
        return 0;
}

/* {"functionCall": {"id"?, "name", "args"?}}. */
static int google_add_call(json_object *parts, const ModelToolCall *call) {
        _cleanup_free_ char *name = model_tool_wire_name(call->name);
        json_object *part = json_object_new_object(), *o;
        int r;

        r = model_array_add(parts, part);
        if (r < 0)
                return r;
        o = json_object_new_object();
        r = model_object_add(part, "functionCall", o);
        if (r >= 0 && !model_tool_id_is_ours(call->id))
                r = json_put_string(o, "id", call->id);
        if (r >= 0)
                r = name ? json_put_string(o, "name", name) : -ENOMEM;
        return r < 0 ? r : model_object_add(o, "args", model_tool_arguments(call->arguments));
}

/* The name of the nth call in parts that came from the provider: it need not be one that was offered. */
static const char* google_call_name(json_object *parts, size_t n) {
        size_t length = json_object_is_type(parts, json_type_array) ? json_object_array_length(parts) : 0;

        for (size_t i = 0; i < length; i++) {
                json_object *call = json_get(json_object_array_get_idx(parts, i), "functionCall");

                if (call && n-- == 0)
                        return json_get_string(call, "name");
        }
        return NULL;
}

static int google_add_result(json_object *parts, const ModelToolResult *result, const char *called) {
        _cleanup_free_ char *name = called ? strdup(called) : model_tool_wire_name(result->name);
        json_object *part = json_object_new_object(), *o, *response;
        int r;

        r = model_array_add(parts, part);
        if (r < 0)
                return r;
        o = json_object_new_object();
        r = model_object_add(part, "functionResponse", o);
        if (r >= 0 && !model_tool_id_is_ours(result->id))
                r = json_put_string(o, "id", result->id);
        if (r >= 0)
                r = name ? json_put_string(o, "name", name) : -ENOMEM;
        if (r < 0)
                return r;
        response = json_object_new_object();
        r = model_object_add(o, "response", response);
        return r < 0 ? r : json_put_string(response, result->is_error ? "error" : "output", strempty(result->text));
}

/* {"inlineData": {"mimeType", "data"}}. */
static int google_add_image(json_object *parts, const ModelImage *image, ModelImages *images) {
        json_object *part = json_object_new_object(), *o = NULL, *data = NULL;
        int r;

        r = model_array_add(parts, part);
        if (r >= 0) {
                o = json_object_new_object();
                r = model_object_add(part, "inlineData", o);
        }
        if (r >= 0)
                r = json_put_string(o, "mimeType", image->type);
        if (r >= 0)
                r = model_image_place(images, image, "", &data);
        return r < 0 ? r : json_put(o, "data", data);
}

static int google_drop_images(json_object *body) {
        return model_drop_images(json_get(body, "contents"), "parts", NULL, "inlineData");
}

/* A message as parts: in the provider's own words, signatures included, when we have them. */
static int google_add_parts(json_object *parts, const ModelMessage *m, const ModelMessage *before,
                            ModelImages *images) {
        _cleanup_json_ json_object *own = NULL, *called = NULL;
        int r = 0;

        if (m->n_calls > 0)
                r = model_opaque_parse(m->opaque, &google_driver, &own);
        if (r >= 0 && json_object_is_type(own, json_type_array)) {
                for (size_t i = 0; i < json_object_array_length(own) && r >= 0; i++)
                        r = model_array_add(parts, json_object_get(json_object_array_get_idx(own, i)));
                return r;
        }
        if (r >= 0 && m->n_results > 0 && before)
                r = model_opaque_parse(before->opaque, &google_driver, &called);
        for (size_t i = 0; i < m->n_results && r >= 0; i++)
                r = google_add_result(parts, m->results + i, google_call_name(called, i));
        for (size_t i = 0; i < m->n_images && r >= 0; i++)
                r = google_add_image(parts, m->images + i, images);
        if (r >= 0 && !model_text_is_blank(m->text))
                r = model_array_add(parts, model_text_part_new(NULL, m->text));
        for (size_t i = 0; i < m->n_calls && r >= 0; i++)
                r = google_add_call(parts, m->calls + i);
        return r;
}

static int google_put_tools(json_object *body, const ModelRequest *q) {
        json_object *list = json_object_new_array(), *tool, *functions, *config, *calling;
        int r;

        r = model_object_add(body, "tools", list);
        if (r < 0)
                return r;
        tool = json_object_new_object();
        r = model_array_add(list, tool);
        if (r < 0)
                return r;
        functions = json_object_new_array();
        r = model_object_add(tool, "functionDeclarations", functions);
        for (size_t i = 0; i < q->n_tools && r >= 0; i++) {
                json_object *function = NULL;

                r = model_tool_declare(q->tools + i, "parametersJsonSchema", &function);
                if (r >= 0)
                        r = model_array_add(functions, function);
        }
        if (r < 0 || !q->no_calls)
                return r;
        config = json_object_new_object();
        r = model_object_add(body, "toolConfig", config);
        if (r < 0)
                return r;
        calling = json_object_new_object();
        r = model_object_add(config, "functionCallingConfig", calling);
        return r < 0 ? r : json_put_string(calling, "mode", "NONE");
}

static int google_body(const ModelRequest *q, json_object *body) {
        json_object *contents = json_object_new_array(), *content, *parts = NULL, *config;
        int r;

        r = model_object_add(body, "contents", contents);
        if (r < 0)
                return r;
        for (size_t i = 0; i < q->n_messages; i++) {
                if (i == 0 || q->messages[i].role != q->messages[i - 1].role) {
                        r = google_content_new(q->messages[i].role, &content, &parts);
                        if (r < 0)
                                return r;
                        r = model_array_add(contents, content);
                        if (r < 0)
                                return r;
                }
                r = google_add_parts(parts, q->messages + i, i > 0 ? q->messages + i - 1 : NULL, q->images);
                if (r < 0)
                        return r;
        }
        if (q->n_tools > 0) {
                r = google_put_tools(body, q);
                if (r < 0)
                        return r;
        }

        if (q->system) {
                r = google_content_new(MODEL_ROLE_USER, &content, &parts);
                if (r < 0)
                        return r;
                r = model_object_add(body, "systemInstruction", content);
                if (r < 0)
                        return r;
                r = model_array_add(parts, model_text_part_new(NULL, q->system));
                if (r < 0)
                        return r;
        }

        config = json_object_new_object();
        r = model_object_add(body, "generationConfig", config);
        if (r < 0)
                return r;
        return json_put_int(config, "maxOutputTokens", (int64_t) q->max_tokens);
}

/* Cumulative in each chunk, so the last one counts. */
static void google_take_usage(ModelCall *c, json_object *usage) {
        ModelUsage *u = &c->result.usage;

        if (!usage)
                return;
        u->input_tokens = model_count(usage, "promptTokenCount", 0) + model_count(usage, "toolUsePromptTokenCount", 0);
        u->cached_tokens = model_count(usage, "cachedContentTokenCount", 0);
        u->reasoning_tokens = model_count(usage, "thoughtsTokenCount", 0);
        u->output_tokens = model_count(usage, "candidatesTokenCount", 0) + u->reasoning_tokens;
}

static ModelStop google_stop(const char *reason) {
        static const char *const refusals[] = {
                "SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "IMAGE_SAFETY",
                "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
        };

        if (streq(reason, "STOP"))
                return MODEL_STOP_END;
        if (streq(reason, "MAX_TOKENS"))
                return MODEL_STOP_LENGTH;
        for (size_t i = 0; i < ELEMENTSOF(refusals); i++)
                if (streq(reason, refusals[i]))
                        return MODEL_STOP_REFUSAL;
        return MODEL_STOP_OTHER;
}

static int google_take_text(ModelCall *c, json_object *part) {
        bool thought = json_get_bool(part, "thought", false);
        ModelPartKind kind = thought ? MODEL_PART_THOUGHT : MODEL_PART_TEXT;
        json_object *signature = json_get(part, "thoughtSignature");
        ModelPart *p = c->n_parts > 0 ? c->parts + c->n_parts - 1 : NULL;
        int r = 0;

        /* Pieces are put together again up to where something is signed. */
        if (!p || p->kind != kind || p->extra || signature)
                r = model_part_begin(c, kind, -1, &p);
        if (r >= 0)
                r = model_part_add(c, p, json_get(part, "text"));
        if (r >= 0)
                r = model_part_put_extra(c, p, "thoughtSignature", signature);
        return r < 0 || thought ? r : model_call_say(c, json_get(part, "text"));
}

static int google_take_call(ModelCall *c, json_object *part, json_object *call) {
        ModelPart *p;
        int r;

        r = model_part_begin_call(c, -1, json_get_string(call, "id"), json_get_string(call, "name"), &p);
        if (r >= 0)
                r = model_part_set_arguments(c, p, json_get(call, "args"), /* preset= */ false);
        if (r >= 0)
                r = model_part_put_extra(c, p, "functionCall", call);
        return r < 0 ? r : model_part_put_extra(c, p, "thoughtSignature", json_get(part, "thoughtSignature"));
}

static int google_part_text(json_object *o, const ModelPart *p) {
        int r = json_put_string(o, "text", strempty(p->text.text));

        return r >= 0 && p->kind == MODEL_PART_THOUGHT ? json_put_bool(o, "thought", true) : r;
}

/* All parts unchanged: newer models refuse the next call without their signatures. */
static int google_opaque(ModelCall *c, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();
        bool is_signed = false;
        int r = 0;

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < c->n_parts && r >= 0; i++) {
                const ModelPart *p = c->parts + i;
                json_object *part, *signature = json_get(p->extra, "thoughtSignature");

                if (p->kind != MODEL_PART_CALL && !signature && model_text_is_blank(p->text.text))
                        continue;
                part = json_object_new_object();
                r = model_array_add(list, part);
                if (r >= 0)
                        r = p->kind == MODEL_PART_CALL ?
                            json_put(part, "functionCall", json_object_get(json_get(p->extra, "functionCall"))) :
                            google_part_text(part, p);
                if (r >= 0 && signature)
                        r = json_put(part, "thoughtSignature", json_object_get(signature));
                is_signed = is_signed || signature;
        }
        if (r >= 0 && is_signed)
                *ret = TAKE_PTR(list);
        return r;
}

static int google_take_parts(ModelCall *c, json_object *parts) {
        if (!json_object_is_type(parts, json_type_array))
                return 0;
        for (size_t i = 0; i < json_object_array_length(parts); i++) {
                json_object *part = json_object_array_get_idx(parts, i), *call = json_get(part, "functionCall");
                int r;

                r = call ? google_take_call(c, part, call) : google_take_text(c, part);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int google_event(ModelCall *c, json_object *o) {
        json_object *candidates = json_get(o, "candidates"), *candidate = NULL;
        const char *reason = json_get_string(json_get(o, "promptFeedback"), "blockReason");
        const char *id = json_get_string(o, "responseId");
        int r;

        google_take_usage(c, json_get(o, "usageMetadata"));
        if (id && !c->request_id) {
                c->request_id = model_call_clean_text(c, id);
                if (!c->request_id)
                        return -ENOMEM;
        }
        if (reason) {
                c->complete = true;
                return model_call_stop(c, MODEL_STOP_REFUSAL, reason);
        }

        if (json_object_is_type(candidates, json_type_array))
                candidate = json_object_array_get_idx(candidates, 0);
        r = google_take_parts(c, json_get(json_get(candidate, "content"), "parts"));
        if (r < 0)
                return r;
        reason = json_get_string(candidate, "finishReason");
        if (isempty(reason))
                return 0;
        /* There is no terminal event; the end of the connection is only as good as this. */
        c->complete = true;
        return model_call_stop(c, google_stop(reason), reason);
}

/* "17s" or "1.5s" of a protobuf Duration. */
static uint64_t duration_parse(const char *s) {
        uint64_t usec = 0, digit = USEC_PER_SEC / 10;

        if (!s || *s < '0' || *s > '9')
                return USEC_INFINITY;
        for (; *s >= '0' && *s <= '9'; s++) {
                usec = usec * 10 + (uint64_t) (*s - '0');
                if (usec > UINT32_MAX)
                        return USEC_INFINITY;
        }
        usec *= USEC_PER_SEC;
        if (*s == '.')
                for (s++; *s >= '0' && *s <= '9'; s++, digit /= 10)
                        usec += (uint64_t) (*s - '0') * digit;
        return streq(s, "s") ? usec : USEC_INFINITY;
}

/* A quota that comes back tomorrow is as good as used up. */
static bool detail_is_daily_quota(json_object *detail) {
        json_object *violations = json_get(detail, "violations");

        if (!json_object_is_type(violations, json_type_array))
                return false;
        for (size_t i = 0; i < json_object_array_length(violations); i++)
                if (strstr(strempty(json_get_string(json_object_array_get_idx(violations, i), "quotaId")), "PerDay"))
                        return true;
        return false;
}

static ModelErrorKind google_classify(json_object *error, const char *text, uint64_t *ret_retry_after_usec) {
        static const struct {
                const char *status;
                ModelErrorKind kind;
        } t[] = {
                { "UNAUTHENTICATED",     MODEL_ERROR_AUTH            },
                { "PERMISSION_DENIED",   MODEL_ERROR_AUTH            },
                { "NOT_FOUND",           MODEL_ERROR_NOT_FOUND       },
                { "RESOURCE_EXHAUSTED",  MODEL_ERROR_RATE_LIMIT      },
                { "INTERNAL",            MODEL_ERROR_OVERLOADED      },
                { "UNAVAILABLE",         MODEL_ERROR_OVERLOADED      },
                { "DEADLINE_EXCEEDED",   MODEL_ERROR_OVERLOADED      },
                { "FAILED_PRECONDITION", MODEL_ERROR_INVALID_REQUEST },
        };
        const char *status = json_get_string(error, "status");
        json_object *details = json_get(error, "details");
        bool daily = false;
        size_t n_details = json_object_is_type(details, json_type_array) ? json_object_array_length(details) : 0;

        for (size_t i = 0; i < n_details; i++) {
                json_object *detail = json_object_array_get_idx(details, i);
                uint64_t delay = duration_parse(json_get_string(detail, "retryDelay"));

                if (streq_ptr(json_get_string(detail, "reason"), "API_KEY_INVALID"))
                        return MODEL_ERROR_AUTH;
                if (delay != USEC_INFINITY)
                        *ret_retry_after_usec = delay;
                daily = daily || detail_is_daily_quota(detail);
        }
        if (daily && streq_ptr(status, "RESOURCE_EXHAUSTED"))
                return MODEL_ERROR_BILLING;
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (streq_ptr(t[i].status, status))
                        return t[i].kind;
        if (text && strcasestr(text, "api key not valid"))
                return MODEL_ERROR_AUTH;
        return model_error_text_is_context_length(text) ? MODEL_ERROR_CONTEXT_LENGTH : MODEL_ERROR_NONE;
}

const ModelDriver google_driver = {
        .name = "google",
        .default_model = "gemini-2.5-pro",
        .default_base_url = "https://generativelanguage.googleapis.com",
        .base_url_variable = "GOOGLE_GEMINI_BASE_URL",
        .key_header = "x-goog-api-key: ",
        .locate = google_locate,
        .url = google_url,
        .body = google_body,
        .drop_images = google_drop_images,
        .event = google_event,
        .opaque = google_opaque,
        .classify = google_classify,
};
