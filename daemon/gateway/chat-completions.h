/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>

#include "api-error.h"

/* POST /v1/chat/completions (agent-proxy §11.2): the same turns in the older dress. A request becomes one of
 * /v1/responses, and what comes of that is told in chunks or one object. Pure: no I/O. */

/* How one answer is told. */
typedef struct ChatAnswer {
        char *id;                       /* "chatcmpl-…" */
        bool include_usage;
        unsigned n_messages;            /* of the answer, begun so far */
} ChatAnswer;
ChatAnswer* chat_answer_free(ChatAnswer *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(ChatAnswer*, chat_answer_free);

/* The body that /v1/responses would be sent. -EBADMSG with *reterr, -ENOMEM. */
int chat_request_convert(json_object *body, json_object **ret, ChatAnswer **ret_answer, ApiError *reterr);
/* Errors in the converted body, in the words of the one that was sent. */
int chat_error_rename(ApiError *e);

/* Appends what an event of the response is in a stream of chunks, which may be nothing. */
int chat_answer_emit(ChatAnswer *a, const char *type, json_object *event, json_object *response, StrBuf *out);
/* The whole answer; -EBADMSG with *reterr for one that failed. */
int chat_answer_object(ChatAnswer *a, json_object *response, json_object **ret, ApiError *reterr);
