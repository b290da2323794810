/* SPDX-License-Identifier: MIT */
#pragma once

#include <sodium.h>

#include "macro.h"

/* The keys that clients may show (responses-api §8). Only hashes of them are kept: all of one size, so that comparing
 * takes the same time whatever is shown. (What makes cookies is as good as the keys.) */
typedef struct ApiKeys {
        unsigned char (*hashes)[32];
        crypto_auth_hmacsha256_state *cookies;  /* HMAC-SHA256 of each key, before the expiry of a cookie goes in */
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

/* The page's cookie: "<expiry>.<HMAC-SHA256(key, "agent-proxy cookie" 00 expiry)>", nothing of it is stored (agent-proxy
 * §12). */
#define PAGE_COOKIE "agent_proxy"
#define PAGE_COOKIE_SECONDS (30U * 24 * 60 * 60)

/* Its value for who has typed in a key; blanks around that do not count. -EKEYREJECTED: it is none of ours. */
int api_keys_make_cookie(const ApiKeys *k, const char *key, uint64_t expiry, char **ret);
/* Whether one of the cookies of a Cookie header (NULL: there is none) is ours and holds. */
bool api_keys_check_cookie(const ApiKeys *k, const char *header, uint64_t now_seconds);
/* From the first cookie of the page's name on, which need not be ours; NULL: there is none. */
const char* page_cookie_find(const char *header);
