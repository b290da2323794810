/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "cert-cache.h"

/* Shared by cert-cache.c (what is there, who waits) and cert-fetch.c (what is under way). */

#define WARNED_MAX 1024U

/* A chain that is kept. */
typedef struct CacheEntry {
        CertChain *chain;
        size_t size;
        uint64_t due_usec;              /* when to look whether it is still so */
        TAILQ_ENTRY(CacheEntry) entries;
} CacheEntry;

typedef struct FetchJob FetchJob;

/* A slug that is being fetched. */
typedef struct Flight {
        CertChain *chain;               /* not finished */
        FetchJob *job;
        bool invalidated;
        TAILQ_ENTRY(Flight) flights;
} Flight;

/* A chunk of them: what one query asks for. */
struct FetchJob {
        CertCache *cache;
        Flight **flights;
        size_t n_flights;
        int64_t since;
        unsigned n_pages;
        bool is_launched;
        void *call;
        LIST_ENTRY(FetchJob) jobs;
};

typedef struct LookupSlot {
        CertChain *chain;
        Flight *flight;                 /* borrowed */
} LookupSlot;

struct CertLookup {
        CertCache *cache;               /* NULL: the cache is gone */
        LookupSlot *slots;
        size_t n_slots, n_waiting;
        bool is_called, joined;
        int error;
        char *text;
        cert_looked_up_t on_done;
        void *userdata;
        TAILQ_ENTRY(CertLookup) lookups;
};

struct CertCache {
        CertCacheSpec spec;
        bool one_by_one;                /* the server's pages do not tell slugs apart */

        TAILQ_HEAD(CacheEntries, CacheEntry) entries;   /* last used first */
        size_t n_entries, size;
        TAILQ_HEAD(, Flight) flights;
        LIST_HEAD(, FetchJob) jobs;
        TAILQ_HEAD(, CertLookup) lookups;       /* not called yet */
        sd_event_source *turn;

        uint64_t warned[WARNED_MAX];    /* hashes; a ring */
        size_t n_warned, warned_head;
};

/* The flight's chain is finished, or error < 0. Tells who waits, by and by. */
void cache_resolve(CertCache *c, Flight *f, int error, const char *text);
/* Keeps the chain, or forgets the slug's when there is nothing in it to keep. */
int cache_keep(CertCache *c, CertChain *chain);
/* What the slug has is not looked after for a while. */
void cache_postpone(CertCache *c, const char *slug);

Flight* flight_find(CertCache *c, const char *slug);
/* Makes flights for slugs that have none. -ENOMEM: for none of them. They start with fetch_launch(), so that whoever
 * waits for one is known when it fails at once. */
int fetch_prepare(CertCache *c, const char *const *slugs, size_t n_slugs);
void fetch_launch(CertCache *c);
void fetch_cancel_all(CertCache *c);
