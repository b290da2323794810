/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>

#include "turn-record.h"

/* The JSON of responses (responses-api §4). */

#define RESPONSE_ID_PREFIX "resp_"

/* "resp_", the hash of the agent's id, 40 random digits. NULL when out of memory. */
char* response_id_new(const char *agent_hash);
/* What response_id_new() makes, in form. */
bool response_id_is_valid(const char *id);

/* A copy of the object in a document or request, to be filled in. */
int response_object_copy(json_object *response, json_object **ret);

/* Sets fields of a response; each -ENOMEM. */
int response_set_status(json_object *response, const char *status);
/* stream_usage: the form of the turn's events, or NULL: unknown, which is shown as zeros. */
int response_set_usage(json_object *response, json_object *stream_usage);
int response_set_error(json_object *response, const char *code, const char *message);
int response_set_incomplete(json_object *response, const char *turn_reason);

/* An output item: status in_progress has no content yet. Item ids of sessions get "msg_" in front if they lack it. */
int output_message_new(const char *item, const char *status, const char *text, size_t size, json_object **ret);
int output_text_new(const char *text, size_t size, json_object **ret);
char* output_item_id(const char *item);

/* The whole response as GetTurn knows it. */
int response_from_turn(const TurnRecord *t, json_object **ret);

/* A page of input items: {"object":"list", …}. after NULL: from the start. */
int input_items_page(json_object *items, unsigned limit, bool ascending, const char *after, json_object **ret);
