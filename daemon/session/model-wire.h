/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "model.h"
#include "string-util.h"

/* What a session and its model client say to each other. A request is two lines: the key (which may be empty) by
 * itself, so that it can be wiped, and a JSON object; with the first byte come the descriptors of its images. The
 * answer is a JSON object a line: {"delta": text} …, then {"done": {…}}. Words, not numbers: after an upgrade the two
 * may be of different versions. */

/* Appends a request. -EINVAL: a key with control characters, or more than MODEL_IMAGES_MAX images. */
int model_request_format(StrBuf *b, const ModelCallSpec *spec);
/* The descriptors that go with it, in order. How many. */
size_t model_request_fds(const ModelCallSpec *spec, int ret[static MODEL_IMAGES_MAX]);

/* A request that was read. spec's pointers are borrowed from here. */
typedef struct ModelRequestLine {
        json_object *object;
        ModelMessage *messages;
        ModelTool *tools;
        ModelImage images[MODEL_IMAGES_MAX];
        size_t n_images;
        ModelCallSpec spec;
} ModelRequestLine;
/* The second line, and what came with it (borrowed); -EBADMSG, also when these are not as many as it speaks of. The
 * key and the callbacks are the caller's to fill in. */
int model_request_parse(ModelRequestLine *ret, const char *line, size_t size, const int *fds, size_t n_fds);
void model_request_line_done(ModelRequestLine *l);

/* Appends a line of the answer: a piece of text, or how it ended. -ENOMEM. */
int model_delta_format(StrBuf *b, const char *text, size_t size);
int model_result_format(StrBuf *b, const ModelResult *r);

/* One line of the answer. What it points to is borrowed from here. */
typedef struct ModelAnswerLine {
        json_object *object;
        ModelToolCall *calls;
        const char *delta;
        size_t delta_size;
        ModelResult result;
} ModelAnswerLine;
/* A delta (0) or the result (> 0). The whole text is not sent again. -EBADMSG. */
int model_answer_parse(ModelAnswerLine *ret, const char *line, size_t size);
void model_answer_line_done(ModelAnswerLine *l);
