/* SPDX-License-Identifier: MIT */
#pragma once

#include "responses-request.h"

/* Reads "input" into items, text, instructions and history of a request. instructions: the field of that name and the
 * wish for a text format, or NULL; goes first. -EBADMSG with *reterr, -ENOMEM. */
int responses_input_parse(json_object *input, const char *instructions, ResponsesRequest *q, ApiError *reterr);

/* For messages: what a JSON value is, in words. */
const char* json_type_word(json_object *o);
