/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* The keys that clients may show (responses-api §8). Only hashes of them are kept: all of one size, so that comparing
 * takes the same time whatever is shown. */
typedef struct ApiKeys {
        unsigned char (*hashes)[32];
        size_t n;
} ApiKeys;

typedef enum ApiKeyVerdict {
        API_KEY_OK,
        API_KEY_MISSING,        /* no Authorization header, or none of our scheme */
        API_KEY_WRONG,
} ApiKeyVerdict;

void api_keys_done(ApiKeys *k);
/* Adds the keys of a comma-separated list; blanks around them do not count. -ENOMEM. */
int api_keys_add(ApiKeys *k, const char *list);
/* Judges the value of an Authorization header (NULL: there is none). */
ApiKeyVerdict api_keys_check(const ApiKeys *k, const char *authorization);
