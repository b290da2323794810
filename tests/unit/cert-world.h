/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "cert-fixture.h"

/* --- a registry that answers when it is told to --- */

typedef struct Request {
        char *query;                    /* "a,b since 0" */
        cert_fetched_t on_fetched;
        void *userdata;
        bool is_cancelled;
} Request;

typedef struct World {
        sd_event *event;
        CertCache *cache;
        Request *requests[64];
        size_t n_requests, n_answered;
        int fetch_error;

        CertPin pins[8];
        const char *pinned[8];
        size_t n_pins;
        int get_error, put_error;

        unsigned n_done;
        CertLookup *done[16];
        int free_what;                  /* in the callback: 1 the lookup, 2 the cache too */
        const char *then;               /* in the callback: another lookup */
        CertLookup *next;
} World;

static inline int world_fetch(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since,
                       cert_fetched_t on_fetched, void *fetched_userdata, void **ret_call) {
        World *w = userdata;
        StrBuf b = {};
        Request *q;

        if (w->fetch_error < 0)
                return w->fetch_error;
        assert_in_range(w->n_requests, 0, ELEMENTSOF(w->requests) - 1);
        q = new0(Request, 1);
        for (size_t i = 0; i < n_slugs; i++)
                ASSERT_OK(strbuf_printf(&b, "%s%s", i > 0 ? "," : "", slugs[i]));
        ASSERT_OK(strbuf_printf(&b, " since %" PRId64, since));
        q->query = strbuf_take(&b);
        q->on_fetched = on_fetched;
        q->userdata = fetched_userdata;
        w->requests[w->n_requests++] = q;
        *ret_call = q;
        return 0;
}

static inline void world_cancel(void *userdata, void *call) {
        ((Request*) call)->is_cancelled = true;
}

static inline int world_get_pin(void *userdata, const char *slug, CertPin *ret) {
        World *w = userdata;

        for (size_t i = 0; i < w->n_pins && w->get_error == 0; i++)
                if (streq(w->pinned[i], slug)) {
                        *ret = w->pins[i];
                        return 1;
                }
        return w->get_error;
}

static inline int world_put_pin(void *userdata, const char *slug, const CertPin *pin) {
        World *w = userdata;
        size_t i = 0;

        if (w->put_error < 0)
                return w->put_error;
        while (i < w->n_pins && !streq(w->pinned[i], slug))
                i++;
        assert_in_range(i, 0, ELEMENTSOF(w->pins) - 1);
        w->pinned[i] = slug[0] == 'b' ? "bob-0001" : "amy-0002";
        w->pins[i] = *pin;
        w->n_pins = MAX(w->n_pins, i + 1);
        return 0;
}

static inline void world_begin(World *w, size_t max_slugs, uint64_t max_age_usec) {
        *w = (World) {};
        ASSERT_OK(crypto_init());
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(cert_cache_new(&w->cache, &(CertCacheSpec) {
                .event = w->event,
                .source = { world_fetch, world_cancel, w },
                .pins = { world_get_pin, world_put_pin, w },
                .max_slugs = max_slugs,
                .max_age_usec = max_age_usec,
        }));
}

static inline void world_end(World *w) {
        cert_cache_free(w->cache);
        for (size_t i = 0; i < w->n_requests; i++) {
                free(w->requests[i]->query);
                free(w->requests[i]);
        }
        sd_event_unref(w->event);
}
#define WORLD(w, ...) \
        _cleanup_(world_end) World w; \
        world_begin(&w, __VA_ARGS__)

static inline void run(World *w) {
        while (ASSERT_OK(sd_event_run(w->event, 0)) > 0)
                ;
}

/* The oldest request that has no answer yet. page NULL: a failure. */
static inline void answer(World *w, const char *query, Page *page) {
        Request *q;

        assert_in_range(w->n_answered, 0, w->n_requests - 1);
        q = w->requests[w->n_answered++];
        ASSERT_STREQ(q->query, query);
        ASSERT_FALSE(q->is_cancelled);
        q->on_fetched(page ? page->root : NULL, page ? 0 : -EAGAIN, page ? NULL : "HTTP 503", q->userdata);
        if (page)
                page_end(page);
}

static inline void on_done(CertLookup *l, void *userdata) {
        World *w = userdata;

        assert_in_range(w->n_done, 0, ELEMENTSOF(w->done) - 1);
        w->done[w->n_done++] = l;
        if (w->then)
                ASSERT_OK(cert_cache_lookup(w->cache, &w->then, 1, on_done, w, &w->next));
        w->then = NULL;
        if (w->free_what >= 1)
                cert_lookup_free(l);
        if (w->free_what >= 2)
                w->cache = cert_cache_free(w->cache);
}

static inline CertLookup* look_up(World *w, const char *const *slugs, size_t n) {
        const unsigned n_done = w->n_done;
        CertLookup *l = NULL;

        ASSERT_OK(cert_cache_lookup(w->cache, slugs, n, on_done, w, &l));
        ASSERT_EQ(w->n_done, n_done);   /* not before it returns */
        return l;
}
#define LOOK_UP(l, w, ...) \
        _cleanup_(cert_lookup_freep) CertLookup *l = \
                        look_up(&(w), (const char *const[]) { __VA_ARGS__ }, \
                                sizeof((const char *const[]) { __VA_ARGS__ }) / sizeof(char*))

static inline void assert_error(const CertLookup *l, int error, const char *text) {
        const char *t;

        ASSERT_ERROR(cert_lookup_error(l, &t), error);
        if (text)
                ASSERT_STREQ(t, text);
        else
                ASSERT_NULL(t);
}

static inline void set_more(Page *p) {
        ASSERT_OK(signed_put(p->d, p->root, "has_more", signed_constant(p->d, SIGNED_TRUE)));
}
