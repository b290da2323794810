/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "cert-cache-internal.h"
#include "event-util.h"

#define POSTPONE_USEC (300 * USEC_PER_SEC)

static int cache_on_turn(sd_event_source *s, void *userdata);

int cert_cache_new(CertCache **ret, const CertCacheSpec *spec) {
        _cleanup_(cert_cache_freep) CertCache *c = new0(CertCache, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->spec = *spec;
        c->spec.event = sd_event_ref(spec->event);
        c->spec.max_slugs = spec->max_slugs ?: CERT_CACHE_SLUGS_MAX;
        c->spec.max_size = spec->max_size ?: CERT_CACHE_SIZE_MAX;
        c->spec.max_age_usec = spec->max_age_usec ?: CERT_CACHE_AGE_USEC;
        TAILQ_INIT(&c->entries);
        TAILQ_INIT(&c->flights);
        TAILQ_INIT(&c->lookups);
        LIST_INIT(&c->jobs);
        r = sd_event_add_defer(c->spec.event, &c->turn, cache_on_turn, c);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(c->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

/* --- chains that are kept --- */

static void entry_free(CertCache *c, CacheEntry *e) {
        TAILQ_REMOVE(&c->entries, e, entries);
        c->n_entries--;
        c->size -= e->size;
        cert_chain_unref(e->chain);
        free(e);
}

static CacheEntry* entry_find(CertCache *c, const char *slug) {
        CacheEntry *e;

        TAILQ_FOREACH(e, &c->entries, entries)
                if (streq(cert_chain_slug(e->chain), slug))
                        return e;
        return NULL;
}

CertCache* cert_cache_free(CertCache *c) {
        CertLookup *l;

        if (!c)
                return NULL;

        while ((l = TAILQ_FIRST(&c->lookups))) {
                TAILQ_REMOVE(&c->lookups, l, lookups);
                for (size_t i = 0; i < l->n_slots; i++)
                        l->slots[i].flight = NULL;
                l->cache = NULL;
        }
        fetch_cancel_all(c);
        while (!TAILQ_EMPTY(&c->entries))
                entry_free(c, TAILQ_FIRST(&c->entries));
        sd_event_source_disable_unref(c->turn);
        sd_event_unref(c->spec.event);
        return mfree(c);
}

int cache_keep(CertCache *c, CertChain *chain) {
        CacheEntry *e = entry_find(c, cert_chain_slug(chain));

        if (e)
                entry_free(c, e);
        if (cert_chain_is_empty(chain)) /* the refused ones are, too */
                return 0;

        e = new0(CacheEntry, 1);
        if (!e)
                return -ENOMEM;
        *e = (CacheEntry) {
                .chain = cert_chain_ref(chain),
                .size = cert_chain_size(chain),
                .due_usec = now_boottime_usec() + c->spec.max_age_usec,
        };
        TAILQ_INSERT_HEAD(&c->entries, e, entries);
        c->n_entries++;
        c->size += e->size;
        while (c->n_entries > 1 && (c->n_entries > c->spec.max_slugs || c->size > c->spec.max_size))
                entry_free(c, TAILQ_LAST(&c->entries, CacheEntries));
        return 0;
}

void cache_postpone(CertCache *c, const char *slug) {
        CacheEntry *e = entry_find(c, slug);

        if (e)
                e->due_usec = MAX(e->due_usec, now_boottime_usec() + POSTPONE_USEC);
}

/* The slug's entry, which counts as used now. */
static CacheEntry* entry_use(CertCache *c, const char *slug) {
        CacheEntry *e = entry_find(c, slug);

        if (!e)
                return NULL;
        TAILQ_REMOVE(&c->entries, e, entries);
        TAILQ_INSERT_HEAD(&c->entries, e, entries);
        if (now_boottime_usec() >= e->due_usec && !flight_find(c, slug) && fetch_prepare(c, &slug, 1) >= 0)
                fetch_launch(c);
        return e;
}

CertChain* cert_cache_get(CertCache *c, const char *slug) {
        CacheEntry *e = entry_use(c, slug);

        return e ? e->chain : NULL;
}

void cert_cache_invalidate(CertCache *c, const char *slug) {
        CacheEntry *e, *next;
        Flight *f;

        for (e = TAILQ_FIRST(&c->entries); e; e = next) {
                next = TAILQ_NEXT(e, entries);
                if (!slug || streq(cert_chain_slug(e->chain), slug))
                        entry_free(c, e);
        }
        TAILQ_FOREACH(f, &c->flights, flights)
                if (!slug || streq(cert_chain_slug(f->chain), slug))
                        f->invalidated = true;
}

void cert_cache_drop(CertCache *c, const CertChain *chain) {
        CacheEntry *e = entry_find(c, cert_chain_slug(chain));
        _cleanup_(cert_chain_unrefp) _unused_ CertChain *held = e ? cert_chain_ref(e->chain) : NULL;

        if (!e || e->chain == chain)
                cert_cache_invalidate(c, cert_chain_slug(chain));
}

void cert_cache_set_policy(CertCache *c, CertPolicy policy) {
        if (c->spec.policy == policy)
                return;
        c->spec.policy = policy;
        cert_cache_invalidate(c, NULL);
}

int cert_cache_warn_once(CertCache *c, const CertChain *chain, char **ret) {
        const CertVerdict verdict = cert_chain_verdict(chain);
        const char *slug = cert_chain_slug(chain);
        crypto_generichash_state state;
        uint8_t digest[16];
        uint64_t h;
        int r;

        r = cert_chain_warning(chain, ret);
        if (r <= 0)
                return r;

        (void) crypto_generichash_init(&state, NULL, 0, sizeof(digest));
        (void) crypto_generichash_update(&state, (const uint8_t*) &verdict, sizeof(verdict));
        (void) crypto_generichash_update(&state, (const uint8_t*) slug, strlen(slug));
        (void) crypto_generichash_final(&state, digest, sizeof(digest));
        memcpy(&h, digest, sizeof(h));
        for (size_t i = 0; i < c->n_warned; i++)
                if (c->warned[i] == h) {
                        *ret = mfree(*ret);
                        return 0;
                }
        c->warned[c->warned_head] = h;
        c->warned_head = (c->warned_head + 1) % WARNED_MAX;
        c->n_warned = MIN(c->n_warned + 1, (size_t) WARNED_MAX);
        return 1;
}

/* --- who waits --- */

/* One lookup a turn: its callback may do anything to the others, and to the cache. */
static int cache_on_turn(sd_event_source *s, void *userdata) {
        CertCache *c = userdata;
        CertLookup *l, *ready = NULL;

        TAILQ_FOREACH(l, &c->lookups, lookups) {
                if (l->n_waiting > 0)
                        continue;
                if (ready)
                        break;
                ready = l;
        }
        if (!l)
                (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        if (!ready)
                return 0;
        TAILQ_REMOVE(&c->lookups, ready, lookups);
        ready->is_called = true;
        ready->on_done(ready, ready->userdata);
        return 0;
}

static void cache_schedule(CertCache *c) {
        (void) sd_event_source_set_enabled(c->turn, SD_EVENT_ON);
}

void cache_resolve(CertCache *c, Flight *f, int error, const char *text) {
        CertLookup *l;

        TAILQ_FOREACH(l, &c->lookups, lookups)
                for (size_t i = 0; i < l->n_slots; i++) {
                        if (l->slots[i].flight != f)
                                continue;
                        l->slots[i].flight = NULL;
                        if (error >= 0)
                                l->slots[i].chain = cert_chain_ref(f->chain);
                        else if (l->error == 0) {
                                l->error = error;
                                l->text = text ? strdup(text) : NULL;   /* NULL is fine for a text */
                        }
                        if (--l->n_waiting == 0)
                                cache_schedule(c);
                }
}

static int lookup_fill(CertLookup *l, const char *const *slugs) {
        _cleanup_free_ const char **wanted = new0(const char*, l->n_slots);
        size_t n = 0;
        int r;

        if (!wanted)
                return -ENOMEM;
        for (size_t i = 0; i < l->n_slots; i++) {
                CacheEntry *e = entry_use(l->cache, slugs[i]);
                bool listed = false;

                if (e) {
                        l->slots[i].chain = cert_chain_ref(e->chain);
                        continue;
                }
                for (size_t k = 0; k < n && !listed; k++)
                        listed = streq(wanted[k], slugs[i]);
                if (listed)
                        continue;
                if (flight_find(l->cache, slugs[i]))
                        l->joined = true;
                else
                        wanted[n++] = slugs[i];
        }
        /* The flights are known before they start, for those that fail at once. */
        r = fetch_prepare(l->cache, wanted, n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < l->n_slots; i++) {
                if (l->slots[i].chain)
                        continue;
                l->slots[i].flight = flight_find(l->cache, slugs[i]);
                l->n_waiting++;
        }
        return 0;
}

int cert_cache_lookup(CertCache *c, const char *const *slugs, size_t n_slugs, cert_looked_up_t on_done, void *userdata,
                      CertLookup **ret) {
        _cleanup_(cert_lookup_freep) CertLookup *l = NULL;
        int r;

        for (size_t i = 0; i < n_slugs; i++)
                if (!cert_slug_is_valid(slugs[i]))
                        return -EINVAL;

        l = new0(CertLookup, 1);
        if (!l)
                return -ENOMEM;
        l->slots = new0(LookupSlot, n_slugs);
        if (!l->slots)
                return -ENOMEM;
        l->n_slots = n_slugs;
        l->on_done = on_done;
        l->userdata = userdata;
        l->cache = c;
        TAILQ_INSERT_TAIL(&c->lookups, l, lookups);
        r = lookup_fill(l, slugs);
        if (r < 0)
                return r;
        fetch_launch(c);
        if (l->n_waiting == 0)
                cache_schedule(c);

        *ret = TAKE_PTR(l);
        return 0;
}

CertLookup* cert_lookup_free(CertLookup *l) {
        if (!l)
                return NULL;

        if (l->cache && !l->is_called)
                TAILQ_REMOVE(&l->cache->lookups, l, lookups);
        for (size_t i = 0; i < l->n_slots; i++)
                cert_chain_unref(l->slots[i].chain);
        free(l->slots);
        free(l->text);
        return mfree(l);
}

int cert_lookup_error(const CertLookup *l, const char **ret_text) {
        *ret_text = l->text;
        return l->error;
}

bool cert_lookup_joined(const CertLookup *l) {
        return l->joined;
}

CertChain* cert_lookup_chain(const CertLookup *l, size_t i) {
        assert(i < l->n_slots);
        return l->slots[i].chain;
}
