/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* Finds the envelope's id in an item of GET /messages/pending that is too large to be kept: it is read byte by byte,
 * and nothing stays of it but that id. The item is {"envelope": {"envelope_id": …, …}, …}, or the envelope itself. */
typedef struct ItemId {
        unsigned depth;                 /* of brackets */
        bool quoted, escaped, at_value;
        bool is_object[3];              /* the containers at depth 1 and 2 */
        bool in_envelope, has_envelope; /* of the item's member "envelope" */
        bool is_id[3];                  /* the last key at that depth was "envelope_id" */
        bool token_too_long;
        StrBuf token;                   /* the string that is being read, as it is written */
        StrBuf ids[3];                  /* [1]: of the item itself; [2]: of its envelope; as they are written */
} ItemId;

/* -ENOMEM */
int item_id_feed(ItemId *f, const char *data, size_t size);
/* Once the item is over: the id (malloc'ed), or NULL when it has none that is one. -ENOMEM. */
int item_id_finish(const ItemId *f, char **ret);
void item_id_done(ItemId *f);
