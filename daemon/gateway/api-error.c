/* SPDX-License-Identifier: MIT */

#include <stdarg.h>
#include <stdio.h>

#include "api-error.h"
#include "json-util.h"

void api_error_done(ApiError *e) {
        free(e->param);
        free(e->message);
        *e = (ApiError) {};
}

int api_error_set(ApiError *e, unsigned status, const char *code, const char *param, const char *format, ...) {
        va_list ap;

        assert(e->status == 0);

        e->status = status;
        e->code = code;
        e->param = param ? strdup(param) : NULL;
        va_start(ap, format);
        if (vasprintf(&e->message, format, ap) < 0)
                e->message = NULL;
        va_end(ap);
        return -EBADMSG;
}

int api_error_set_internal(ApiError *e, int error) {
        return api_error_set(e, 500, NULL, NULL, "The server had an error while processing your request: %s.",
                             strerror(abs(error)));
}

static const char* api_error_type(const ApiError *e) {
        if (e->status == 429)
                return "rate_limit_error";
        return e->status >= 500 ? "server_error" : "invalid_request_error";
}

int api_error_format(const ApiError *e, StrBuf *b) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *error = json_object_new_object();
        const char *text;
        size_t size;

        if (!o || !error) {
                json_object_put(error);
                return -ENOMEM;
        }
        if (json_put(o, "error", error) < 0 ||
            json_put_string(error, "message", e->message ?: "Out of memory.") < 0 ||
            json_put_string(error, "type", api_error_type(e)) < 0 ||
            json_put_string(error, "param", e->param) < 0 ||
            json_put_string(error, "code", e->code) < 0)
                return -ENOMEM;
        text = json_text(o, &size);
        return text ? strbuf_append(b, text, size) : -ENOMEM;
}
