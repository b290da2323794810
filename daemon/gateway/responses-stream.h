/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>

#include "turn-record.h"

/* Folds the event log of a turn into the events and the object of a response (responses-api §§6, 9.1). Pure: no clock
 * but the one passed in, no I/O. The same log gives the same events under the same numbers, whenever it is read. */
typedef struct ResponseFold ResponseFold;

/* One event, borrowed, with its sequence_number. < 0 ends the fold's call with that error. */
typedef int (*response_emit_t)(const char *type, json_object *event, void *userdata);

/* response: as response_object_new() makes it; the fold has a reference and changes it. emit NULL: only the object is
 * wanted. */
int response_fold_new(ResponseFold **ret, json_object *response, response_emit_t emit, void *userdata);
/* Before the first event: deltas are held back until their message is whole, and one that is lost and begun anew is
 * never shown (responses-api §6.4). */
void response_fold_set_buffered(ResponseFold *f);
ResponseFold* response_fold_free(ResponseFold *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(ResponseFold*, response_fold_free);

/* response.created; for background ones response.queued behind it. queued: others are ahead, as far as known. */
int response_fold_begin(ResponseFold *f, bool queued);
/* One event of the log. > 0: the response has ended. Unknown types are passed over. -EBADMSG for a log that makes no
 * sense. */
int response_fold_feed(ResponseFold *f, json_object *event, uint64_t now_usec);
/* The stream was opened again and starts from its beginning: either the log known so far, or (a crash in between) a
 * new one, which says so (response_log_is_new()). */
void response_fold_reopen(ResponseFold *f);
/* An event by which a log tells that it is not the turn's first one: numbers of that one's events are void here. */
bool response_log_is_new(json_object *event);
/* The next event gets at least this number. */
void response_fold_skip(ResponseFold *f, int64_t next);
/* Ends it with what GetTurn knows. */
int response_fold_finish(ResponseFold *f, const TurnRecord *t);
/* Ends it as failed. code: server_error, rate_limit_exceeded or invalid_prompt; others become the first. */
int response_fold_fail(ResponseFold *f, const char *code, const char *message);

/* The object as it stands now. Borrowed. */
json_object* response_fold_response(ResponseFold *f);
/* Whether the event that ends it has been given. */
bool response_fold_has_ended(ResponseFold *f);
/* The number that the next event gets. */
int64_t response_fold_sequence(ResponseFold *f);
