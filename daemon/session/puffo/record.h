/* SPDX-License-Identifier: MIT */
#pragma once

#include "directory.h"
#include "json-util.h"
#include "message-block.h"
#include "message-store.h"

/* A message of the store as the agent sees it (message-pipeline §6). */

/* What a longer text is cut to in the prompt (§12.1). */
#define RECORD_TEXT_MAX_CHARS 16000U

/* The text of a message: of content that is no text what of it is one (§5 step 8). NULL when out of memory. */
char* record_text(const StoredMessage *m);
/* The list of attachments, NULL when there is none; borrowed from *ret_content, which is to be put. */
json_object* record_attachments(const StoredMessage *m, json_object **ret_content);

/* Whether the text addresses slug: "@slug" and no further character of a slug (§6.1, P-14). */
bool record_mentions(const char *text, const char *slug);
/* The text with each of these as "@you(slug)", stripped; the same text when it has none. NULL when out of memory. */
char* record_mark_mentions(const char *text, const char *slug);
/* At most max_chars of it, with a line that says how to get the rest. NULL when out of memory. */
char* record_cut(const char *text, size_t max_chars, const char *envelope_id);

/* A message that never was one: says something to the model on our behalf (§13.6). */
typedef struct SyntheticRecord {
        const char *channel_id, *channel_name, *space_id, *space_name, *text;
} SyntheticRecord;
/* JSON for dispatch_state. -ENOMEM. */
int synthetic_record_format(const SyntheticRecord *r, char **ret);
/* Texts are borrowed from *ret_object. -EUCLEAN. */
int synthetic_record_parse(const char *json, SyntheticRecord *ret, json_object **ret_object);
