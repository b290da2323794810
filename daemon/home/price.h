/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "yaml-util.h"

/* What models cost, as the configuration says: prices change too often to be built in.
 *
 *     pricing:
 *       claude-sonnet-4-6: {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}
 *
 * in dollars per million tokens, which is millionths of a dollar per token. */

typedef struct Price {
        char *model;
        double input, output;
        double cache_read, cache_write;         /* input, where they are not given */
} Price;

typedef struct PriceList {
        Price *prices;
        size_t n;
} PriceList;

void price_list_done(PriceList *l);
/* Adds what "pricing" of a file says. -EBADMSG with *reterr = "<path>:<line>: pricing.<model>: <problem>". */
int price_list_load(PriceList *l, const char *path, const YamlNode *root, char **reterr);
/* Adds copies of another list's. -ENOMEM. */
int price_list_extend(PriceList *l, const PriceList *other);

/* For who may not read the file: an object like the one in it. What makes no sense is left out when it is read. */
int price_list_to_json(const PriceList *l, json_object **ret);
int price_list_add_json(PriceList *l, json_object *o);

/* The first one for this model, or for it without the date that providers put behind a name. NULL: none. */
const Price* price_list_find(const PriceList *l, const char *model);
