/* SPDX-License-Identifier: MIT */

#include "cert-cache-internal.h"

/* "slugs=", "&since=" and its digits */
#define QUERY_REST 33U

static size_t encoded_size(const char *slug) {
        size_t size = 0;

        for (const char *p = slug; *p; p++)
                size += (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
                                        strchr("-._~", *p)
                                ? 1
                                : 3;
        return size;
}

bool cert_slug_is_valid(const char *slug) {
        if (isempty(slug))
                return false;
        for (const char *p = slug; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f || *p == ',')
                        return false;
        return encoded_size(slug) < CERT_QUERY_MAX - QUERY_REST;
}

size_t cert_slugs_fit(const char *const *slugs, size_t n_slugs) {
        size_t n = 0, size = QUERY_REST;

        for (; n < n_slugs; n++) {
                size += encoded_size(slugs[n]) + (n > 0);
                if (n > 0 && size >= CERT_QUERY_MAX)
                        break;
        }
        return n;
}

Flight* flight_find(CertCache *c, const char *slug) {
        Flight *f;

        TAILQ_FOREACH(f, &c->flights, flights)
                if (!f->invalidated && streq(cert_chain_slug(f->chain), slug))
                        return f;
        return NULL;
}

static Flight* flight_free(Flight *f, CertCache *c) {
        TAILQ_REMOVE(&c->flights, f, flights);
        cert_chain_unref(f->chain);
        return mfree(f);
}

static int flight_new(CertCache *c, const char *slug, Flight **ret) {
        Flight *f = new0(Flight, 1);
        int r;

        if (!f)
                return -ENOMEM;
        r = cert_chain_new(&f->chain, slug);
        if (r < 0) {
                free(f);
                return r;
        }
        TAILQ_INSERT_TAIL(&c->flights, f, flights);
        *ret = f;
        return 0;
}

/* Takes its flights along, whoever waits for them. */
static FetchJob* job_free(FetchJob *j) {
        if (!j)
                return NULL;

        if (j->call)
                j->cache->spec.source.cancel(j->cache->spec.source.userdata, j->call);
        for (size_t i = 0; i < j->n_flights; i++)
                if (j->flights[i])
                        flight_free(j->flights[i], j->cache);
        LIST_REMOVE(j, jobs);
        free(j->flights);
        return mfree(j);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(FetchJob*, job_free);

static int job_new(CertCache *c, const char *const *slugs, size_t n_slugs, FetchJob **ret) {
        _cleanup_(job_freep) FetchJob *j = new0(FetchJob, 1);
        int r;

        if (!j)
                return -ENOMEM;
        j->cache = c;
        LIST_INSERT_HEAD(&c->jobs, j, jobs);
        j->flights = new0(Flight*, n_slugs);
        if (!j->flights)
                return -ENOMEM;
        for (; j->n_flights < n_slugs; j->n_flights++) {
                r = flight_new(c, slugs[j->n_flights], &j->flights[j->n_flights]);
                if (r < 0)
                        return r;
                j->flights[j->n_flights]->job = j;
        }
        *ret = TAKE_PTR(j);
        return 0;
}

static void job_fail(FetchJob *j, int error, const char *text) {
        for (size_t i = 0; i < j->n_flights; i++) {
                cache_postpone(j->cache, cert_chain_slug(j->flights[i]->chain));
                cache_resolve(j->cache, j->flights[i], error, text);
        }
        job_free(j);
}

static int flight_land(CertCache *c, Flight *f) {
        const char *slug = cert_chain_slug(f->chain);
        CertPin pin = {}, next = {};
        int known, r;

        known = c->spec.pins.get(c->spec.pins.userdata, slug, &pin);
        if (known < 0)
                return known;
        r = cert_chain_finish(f->chain, known > 0 ? &pin : NULL, c->spec.policy);
        if (r < 0)
                return r;
        if (cert_chain_pin(f->chain, &next) > 0) {
                r = c->spec.pins.put(c->spec.pins.userdata, slug, &next);
                if (r < 0)
                        return r;
        }
        return f->invalidated ? 0 : cache_keep(c, f->chain);
}

static void job_land(FetchJob *j) {
        for (size_t i = 0; i < j->n_flights; i++) {
                int r = flight_land(j->cache, j->flights[i]);
                const char *text = r == -ENOMEM ? "out of memory"
                                   : r < 0 ? "the root keys of senders cannot be kept"
                                           : NULL;

                cache_resolve(j->cache, j->flights[i], r, text);
        }
        job_free(j);
}

static void job_fetch(FetchJob *j);

/* Once more, each slug by itself. */
static void job_split(FetchJob *j) {
        CertCache *c = j->cache;

        c->one_by_one = true;
        for (size_t i = 0; i < j->n_flights; i++) {
                Flight *f = j->flights[i];
                CertChain *chain = NULL;
                FetchJob *single = NULL;
                int r;

                r = cert_chain_new(&chain, cert_chain_slug(f->chain));
                if (r >= 0)
                        r = job_new(c, NULL, 0, &single);
                if (r < 0) {
                        cert_chain_unref(chain);
                        cache_resolve(c, f, r, "out of memory");
                        continue;
                }
                cert_chain_unref(f->chain);
                f->chain = chain;
                f->job = single;
                single->flights[0] = f; /* there is room for one always */
                single->n_flights = 1;
                j->flights[i] = NULL;
                job_fetch(single);
        }
        job_free(j);
}

static int job_on_entry(const CertEntry *e, void *userdata) {
        FetchJob *j = userdata;

        for (size_t i = 0; i < j->n_flights; i++)
                if (streq(e->slug, cert_chain_slug(j->flights[i]->chain)))
                        return cert_chain_add(j->flights[i]->chain, e);
        return 0;
}

static void job_on_fetched(const SignedValue *page, int error, const char *text, void *userdata) {
        FetchJob *j = userdata;
        const char *wrong = NULL, *slug = j->n_flights == 1 ? cert_chain_slug(j->flights[0]->chain) : NULL;
        CertPageEnd end;
        int r;

        j->call = NULL;
        if (!page)
                return job_fail(j, error < 0 ? error : -EIO, text);

        r = cert_page_read(page, slug, j->since, job_on_entry, j, &end, &wrong);
        if (r < 0) {
                _cleanup_free_ char *why = wrong ? strjoin("a page of certificates ", wrong) : NULL;

                return job_fail(j, r, why ?: "out of memory");
        }
        if (end.unattributed && j->n_flights > 1)
                return job_split(j);
        if (!end.has_more)
                return job_land(j);
        if (++j->n_pages >= CERT_PAGES_MAX)
                return job_fail(j, -EBADMSG, "there are too many pages of certificates");
        j->since = end.since;
        job_fetch(j);
}

static void job_fetch(FetchJob *j) {
        _cleanup_free_ const char **slugs = new0(const char*, j->n_flights);
        const CertSource *s = &j->cache->spec.source;
        int r = slugs ? 0 : -ENOMEM;

        j->is_launched = true;
        for (size_t i = 0; i < j->n_flights && r >= 0; i++)
                slugs[i] = cert_chain_slug(j->flights[i]->chain);
        if (r >= 0)
                r = s->fetch(s->userdata, slugs, j->n_flights, j->since, job_on_fetched, j, &j->call);
        if (r < 0) {
                j->call = NULL;
                job_fail(j, r, strerror(-r));
        }
}

int fetch_prepare(CertCache *c, const char *const *slugs, size_t n_slugs) {
        _cleanup_free_ FetchJob **jobs = new0(FetchJob*, n_slugs);
        size_t n_jobs = 0;
        int r = jobs ? 0 : -ENOMEM;

        for (size_t done = 0; done < n_slugs && r >= 0; ) {
                size_t n = c->one_by_one ? 1 : cert_slugs_fit(slugs + done, n_slugs - done);

                r = job_new(c, slugs + done, n, &jobs[n_jobs]);
                n_jobs += r >= 0;
                done += n;
        }
        for (size_t i = 0; i < n_jobs && r < 0; i++)
                job_free(jobs[i]);
        return r;
}

void fetch_launch(CertCache *c) {
        for (;;) {
                FetchJob *j;

                LIST_FOREACH(j, &c->jobs, jobs)
                        if (!j->is_launched)
                                break;
                if (!j)
                        return;
                job_fetch(j);
        }
}

void fetch_cancel_all(CertCache *c) {
        while (!LIST_EMPTY(&c->jobs))
                job_free(LIST_FIRST(&c->jobs));
}
