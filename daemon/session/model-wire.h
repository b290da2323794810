/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "model.h"
#include "string-util.h"

/* What a session and its model client say to each other. A request is two lines: the key (which may be empty) by
 * itself, so that it can be wiped, and a JSON object. The answer is a JSON object a line: {"delta": text} …, then
 * {"done": {…}}. Words, not numbers: after an upgrade the two may be of different versions. */

/* Appends a request. -EINVAL: a key with control characters. */
int model_request_format(StrBuf *b, const ModelCallSpec *spec);

/* A request that was read. spec's pointers are borrowed from here. */
typedef struct ModelRequestLine {
        json_object *object;
        ModelMessage *messages;
        ModelCallSpec spec;
} ModelRequestLine;
/* The second line; -EBADMSG. The key and the callbacks are the caller's to fill in. */
int model_request_parse(ModelRequestLine *ret, const char *line, size_t size);
void model_request_line_done(ModelRequestLine *l);

int model_delta_format(StrBuf *b, const char *text, size_t size);
int model_result_format(StrBuf *b, const ModelResult *r);

/* One line of the answer: a delta (0) or the result (> 0), which borrows from *ret_object. The whole text is not sent
 * again. -EBADMSG. */
int model_answer_parse(const char *line, size_t size, json_object **ret_object, const char **ret_delta,
                       size_t *ret_delta_size, ModelResult *ret_result);
