/* SPDX-License-Identifier: MIT */

/* From what a provider says went wrong to what a caller can do about it (provider-apis §§3.5, 4.5, 6.5). */

#include "model-driver.h"

#define MESSAGE_MAX 300U

bool model_error_text_is_context_length(const char *text) {
        static const char *const signs[] = {
                "context length", "context window", "context_length", "context size", "maximum context",
                "input token count", "too many tokens", "prompt is too long", "input is too long",
        };

        for (size_t i = 0; text && i < ELEMENTSOF(signs); i++)
                if (strcasestr(text, signs[i]))
                        return true;
        return false;
}

/* {"error":{"message"}} is the rule; {"error":"…"}, {"detail":"…"}, {"detail":[{"msg"}]}, {"message":"…"} and a list
 * around any of these are found with compatible servers and gateways. */
static const char* model_error_text(json_object *o, json_object **ret_error) {
        json_object *error, *detail;

        if (json_object_is_type(o, json_type_array))
                o = json_object_array_get_idx(o, 0);
        error = json_get(o, "error");
        *ret_error = json_object_is_type(error, json_type_object) ? error : o;
        if (json_object_is_type(error, json_type_object))
                return json_get_string(error, "message");
        if (json_object_is_type(error, json_type_string))
                return json_get_string(o, "error");

        detail = json_get(o, "detail");
        if (json_object_is_type(detail, json_type_array))
                return json_get_string(json_object_array_get_idx(detail, 0), "msg");
        return json_get_string(o, "detail") ?: json_get_string(o, "message");
}

static ModelErrorKind kind_from_status(long status) {
        switch (status) {
        case 401:
        case 403:
                return MODEL_ERROR_AUTH;
        case 402:
                return MODEL_ERROR_BILLING;
        case 404:
                return MODEL_ERROR_NOT_FOUND;
        case 408:
                return MODEL_ERROR_TIMEOUT;
        case 409:
                return MODEL_ERROR_OVERLOADED;
        case 413:
                return MODEL_ERROR_CONTEXT_LENGTH;
        case 429:
                return MODEL_ERROR_RATE_LIMIT;
        }
        if (status >= 500)
                return MODEL_ERROR_OVERLOADED;
        return status >= 400 ? MODEL_ERROR_INVALID_REQUEST : MODEL_ERROR_PROTOCOL;
}

static char* text_without(const char *text, const char *secret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *hit;

        if (isempty(secret))
                return strdup(text);
        while ((hit = strstr(text, secret))) {
                if (strbuf_append(&b, text, (size_t) (hit - text)) < 0 || strbuf_puts(&b, "***") < 0)
                        return NULL;
                text = hit + strlen(secret);
        }
        return strbuf_puts(&b, text) < 0 ? NULL : strbuf_take(&b);
}

char* model_call_clean_text(ModelCall *c, const char *text) {
        _cleanup_free_ char *clean = NULL;

        /* The key goes first, as shortening could leave half of it. */
        clean = text_without(text, c->api_key);
        return clean ? str_printable(clean, MESSAGE_MAX) : NULL;
}

/* A failure to keep the text loses the text only: the kind is what matters. */
void model_call_fail(ModelCall *c, ModelErrorKind kind, const char *text) {
        if (c->result.error != MODEL_ERROR_NONE)
                return;
        c->result.error = kind;
        free(c->message);
        c->message = text ? model_call_clean_text(c, text) : NULL;
}

static void call_fail_status(ModelCall *c, ModelErrorKind kind, long status, const char *text) {
        _cleanup_free_ char *message = NULL;

        message = status > 0 ? asprintf_new("HTTP %ld: %s", status, text) : asprintf_new("in the stream: %s", text);
        model_call_fail(c, kind, message);
}

void model_call_fail_object(ModelCall *c, long status, json_object *o) {
        json_object *error = NULL;
        const char *text = model_error_text(o, &error);
        uint64_t retry_after_usec = USEC_INFINITY;
        ModelErrorKind kind;

        kind = c->driver->classify(error, text, &retry_after_usec);
        if (kind == MODEL_ERROR_NONE) {
                int64_t code = json_get_int(error, "code", 0);

                /* Inside a stream the status is long gone; routers repeat it as a number. */
                if (status == 0)
                        kind = code >= 400 && code < 600 ? kind_from_status((long) code) : MODEL_ERROR_OVERLOADED;
                else
                        kind = kind_from_status(status);
        }
        if (retry_after_usec != USEC_INFINITY)
                c->result.retry_after_usec = retry_after_usec;
        call_fail_status(c, kind, status, text ?: "no text");
}

void model_call_fail_body(ModelCall *c, long status, const char *body, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        const char *text;

        if (size > 0 && json_parse(body, size, &o) >= 0 && o) {
                model_call_fail_object(c, status, o);
                return;
        }

        text = strempty(body);
        text += strspn(text, " \t\r\n");
        if (!*text)
                text = "no text";
        else if (*text == '<')
                text = "an HTML page; is there a proxy in the way, or the base URL wrong?";
        call_fail_status(c, kind_from_status(status), status, text);
}
