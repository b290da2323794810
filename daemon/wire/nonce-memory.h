/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* Which nonces of signed requests have been used, so that none counts twice (local-bridge §5.3, R7). It is as large as
 * what it holds: a nonce is there until its request would be stale, and only verified requests get in. */

#define NONCE_MEMORY_MAX 131072U

typedef struct NonceMemory NonceMemory;

/* max: how many are kept (0: NONCE_MEMORY_MAX); beyond that the one that would be stale first is dropped. */
int nonce_memory_new(NonceMemory **ret, size_t max);
NonceMemory* nonce_memory_free(NonceMemory *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(NonceMemory*, nonce_memory_free);

/* How many are kept. */
size_t nonce_memory_size(const NonceMemory *m);
/* Whether this signer has used it, and its request would not be stale at now_ms. */
bool nonce_memory_contains(NonceMemory *m, const char *signer_id, const char *nonce, int64_t now_ms);
/* Keeps it as long as until_ms has not passed. 0, -EEXIST when it is there already, -ENOMEM. */
int nonce_memory_record(NonceMemory *m, const char *signer_id, const char *nonce, int64_t until_ms, int64_t now_ms);

/* Over a restart: all of it as text, and back. Loading adds what is not over yet. -EBADMSG (some may have been added)
 * when it is not such a text, -ENOMEM. */
int nonce_memory_format(const NonceMemory *m, StrBuf *b);
int nonce_memory_load(NonceMemory *m, const char *text, size_t size, int64_t now_ms);
