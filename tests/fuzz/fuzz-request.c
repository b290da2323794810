/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "chat-completions.h"
#include "fuzz.h"
#include "json-util.h"
#include "responses-request.h"

/* What the older dress makes of it: an object that means the same, or a reason. */
static void convert(const uint8_t *data, size_t size, const RequestPolicy *policy) {
        _cleanup_(responses_request_done) ResponsesRequest request = {};
        _cleanup_json_ json_object *body = NULL, *converted = NULL;
        _cleanup_(chat_answer_freep) ChatAnswer *answer = NULL;
        _cleanup_api_error_ ApiError error = {};
        const char *text;
        size_t n;
        int r;

        if (json_parse((const char*) data, size, &body) < 0 || !json_object_is_type(body, json_type_object))
                return;
        r = chat_request_convert(body, &converted, &answer, &error);
        if (r >= 0) {
                text = json_text(converted, &n);
                r = text ? responses_request_parse(text, n, policy, &request, &error) : -ENOMEM;
        }
        if (r == -EBADMSG && (error.status != 400 || !error.message || chat_error_rename(&error) < 0))
                abort();
}

/* A body of POST /v1/responses is either taken, and then complete, or refused with a reason that is valid JSON. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(responses_request_done) ResponsesRequest request = {};
        _cleanup_(strbuf_done) StrBuf body = {};
        _cleanup_json_ json_object *shown = NULL;
        _cleanup_api_error_ ApiError error = {};
        const RequestPolicy policy = { .strict_tools = size % 2 };
        int r;

        convert(data, size, &policy);
        r = responses_request_parse((const char*) data, size, &policy, &request, &error);
        if (r >= 0) {
                if (!request.model || !request.text || !request.items || !request.response)
                        abort();
                return 0;
        }
        if (r == -ENOMEM)
                return 0;
        if (error.status < 400 || error.status > 599 || !error.message)
                abort();
        if (api_error_format(&error, &body) >= 0 && json_parse(body.text, body.size, &shown) < 0)
                abort();
        return 0;
}
