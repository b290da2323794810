/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "cert-chain.h"

/* Verified certificate chains by slug, in memory (message-pipeline §4.2). What is not there is fetched, each slug once
 * at a time whoever asks for it. Chains that are refused or empty are handed out but not kept. */

#define CERT_CACHE_SLUGS_MAX 512U
#define CERT_CACHE_SIZE_MAX MIB(32)
#define CERT_CACHE_AGE_USEC (24 * 3600 * USEC_PER_SEC)
#define CERT_PAGES_MAX 1024U            /* of one chunk of slugs */
#define CERT_QUERY_MAX 1500U            /* bytes of the encoded query stay below (server-api §3.1) */

/* page NULL: there is none, with error < 0 and text (may be NULL): why. Both are borrowed. */
typedef void (*cert_fetched_t)(const SignedValue *page, int error, const char *text, void *userdata);

/* Where pages come from. */
typedef struct CertSource {
        /* Starts GET /certs/sync. on_fetched is called once, and not before fetch() has returned. *ret_call is valid
         * until then, or until it is cancelled. */
        int (*fetch)(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since,
                     cert_fetched_t on_fetched, void *fetched_userdata, void **ret_call);
        void (*cancel)(void *userdata, void *call);
        void *userdata;
} CertSource;

/* Where root keys are kept for good. Neither may call back into the cache. */
typedef struct CertPins {
        int (*get)(void *userdata, const char *slug, CertPin *ret);     /* 1, 0 when there is none, < 0 */
        int (*put)(void *userdata, const char *slug, const CertPin *pin);
        void *userdata;
} CertPins;

typedef struct CertCacheSpec {
        sd_event *event;
        CertSource source;
        CertPins pins;
        CertPolicy policy;
        size_t max_slugs, max_size;     /* 0: as above */
        uint64_t max_age_usec;          /* older ones are fetched again in the background, and used meanwhile; 0: so */
} CertCacheSpec;

typedef struct CertCache CertCache;
typedef struct CertLookup CertLookup;

int cert_cache_new(CertCache **ret, const CertCacheSpec *spec);
/* Cancels what is under way, so that the source has to be there still. Lookups that are not done never will be, and
 * are still to be freed. */
CertCache* cert_cache_free(CertCache *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(CertCache*, cert_cache_free);

/* Another policy empties the cache. */
void cert_cache_set_policy(CertCache *c, CertPolicy policy);

/* What is there already, NULL when nothing is. Borrowed until the loop runs or the cache is called again: ref it. */
CertChain* cert_cache_get(CertCache *c, const char *slug);

/* Something new is in the registry ("cert_update"). slug NULL: whose is not known. What is being fetched at the moment
 * still goes to who waits for it, and to nobody else. */
void cert_cache_invalidate(CertCache *c, const char *slug);
/* No key of this chain fitted: the next lookup fetches, if nobody has since, and does not wait for what was asked for
 * before. It is up to the caller to look up only once more. */
void cert_cache_drop(CertCache *c, const CertChain *chain);

/* > 0: *ret is what the user should be told of this chain, and has not been told yet of this slug. 0: nothing. */
int cert_cache_warn_once(CertCache *c, const CertChain *chain, char **ret);

/* Slugs that can be asked for: not empty, without ',' and control characters, and short enough. */
bool cert_slug_is_valid(const char *slug);
/* How many of these fit into one query, at least 1. */
size_t cert_slugs_fit(const char *const *slugs, size_t n_slugs);

/* Called once, from the event loop, never inside of cert_cache_lookup(). May free the lookup and the cache, and start
 * other lookups. */
typedef void (*cert_looked_up_t)(CertLookup *l, void *userdata);

/* -EINVAL for slugs that are not valid, -ENOMEM; everything else is told to on_done. */
int cert_cache_lookup(CertCache *c, const char *const *slugs, size_t n_slugs, cert_looked_up_t on_done, void *userdata,
                      CertLookup **ret);
CertLookup* cert_lookup_free(CertLookup *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(CertLookup*, cert_lookup_free);

/* 0, or the first error: some chains may be there nevertheless. *ret_text (may be NULL) is borrowed. */
int cert_lookup_error(const CertLookup *l, const char **ret_text);
/* Part of it had been asked for before the lookup began, and so may be older than it. */
bool cert_lookup_joined(const CertLookup *l);
/* Of the i-th slug; NULL when it could not be fetched. Borrowed from the lookup. */
CertChain* cert_lookup_chain(const CertLookup *l, size_t i);
