/* SPDX-License-Identifier: MIT */

/* Pages, chunks and bad answers, as the cache meets them. */

#include "cert-world.h"

TEST(several_slugs_and_pages) {
        PERSON(bob, "bob-0001");
        PERSON(amy, "amy-0002");
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001", "amy-0002", "nobody-03");
        PAGE(page);

        page_add_roots(&page, &bob);
        page_add_all(&page, &amy);
        set_more(&page);
        answer(&w, "bob-0001,amy-0002,nobody-03 since 0", &page);
        PAGE(last);
        last.seq = 6;
        page_add(&last, "device_cert", "bob-0001", device_of(&last, &bob));
        page_add(&last, "operator_revocation", "bob-0001", signed_object(last.d));
        page_add(&last, "subkey_cert", "bob-0001", subkey_of(&last, &bob, NOW));
        answer(&w, "bob-0001,amy-0002,nobody-03 since 6", &last);
        run(&w);
        ASSERT_EQ(w.n_done, 1);
        for (size_t i = 0; i < 2; i++)
                ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(l, i)), CERT_CHAIN_COMPLETE);
        ASSERT_TRUE(cert_chain_is_empty(cert_lookup_chain(l, 2)));
        ASSERT_NULL(cert_cache_get(w.cache, "nobody-03"));      /* what is not there may come */
        ASSERT_EQ(w.n_pins, 2);
}

TEST(pages_without_an_end) {
        static const struct {
                unsigned entries;
                int64_t seq;
                const char *text;
        } t[] = {
                { 0, 0, "a page of certificates is empty but says that there are more" },
                { 4, -10, "a page of certificates says that there are more but does not advance" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                PERSON(bob, "bob-0001");
                WORLD(w, 0, 0);
                LOOK_UP(l, w, "bob-0001");
                PAGE(page);

                page.seq = t[i].seq;
                if (t[i].entries > 0)
                        page_add_all(&page, &bob);
                set_more(&page);
                answer(&w, "bob-0001 since 0", &page);
                run(&w);
                assert_error(l, EBADMSG, t[i].text);
                ASSERT_NULL(cert_lookup_chain(l, 0));
                ASSERT_NULL(cert_cache_get(w.cache, "bob-0001"));
                ASSERT_EQ(w.n_requests, 1);
        }
}

TEST(no_pages) {
        static const char *const texts[] = { "[]", "{}", "{\"entries\":{}}", "{\"cache\":[]}",
                                             "{\"cache\":{},\"next_cursor\":\"x\"}" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                WORLD(w, 0, 0);
                LOOK_UP(l, w, "bob-0001");
                Page page = {};
                const char *text;

                ASSERT_OK(signed_document_parse(&page.d, texts[i], strlen(texts[i])));
                page.root = signed_document_root(page.d);
                answer(&w, "bob-0001 since 0", &page);
                run(&w);
                ASSERT_ERROR(cert_lookup_error(l, &text), EBADMSG);
                ASSERT_NOT_NULL(text);
        }
}

/* --- the form of maps --- */

static void put_into_map(Page *p, SignedValue *cache, const char *map, const char *key, SignedValue *cert) {
        SignedValue *m = signed_get(cache, map);

        if (!m) {
                m = signed_object(p->d);
                ASSERT_OK(signed_put(p->d, cache, map, m));
        }
        ASSERT_OK(signed_put(p->d, m, key, cert));
}

static SignedValue* to_maps(Page *p) {
        SignedValue *cache = signed_object(p->d);

        ASSERT_OK(signed_put(p->d, p->root, "cache", cache));
        without(p->root, "entries");
        return cache;
}

static void fill_maps(Page *p, const Person *who) {
        SignedValue *cache = to_maps(p), *identity = NULL, *binding = NULL;

        ASSERT_OK(identity_cert_new(p->d, who->root_seed, NULL, &identity));
        ASSERT_OK(slug_binding_new(p->d, who->root_seed, who->slug, NOW, &binding));
        put_into_map(p, cache, "identities", who->slug, identity);
        put_into_map(p, cache, "slug_bindings", who->slug, binding);
        put_into_map(p, cache, "devices", who->device_id, device_of(p, who));
        put_into_map(p, cache, "subkeys", who->subkey_id, subkey_of(p, who, NOW));
        put_into_map(p, cache, "operator_attestations", who->slug, signed_object(p->d));
}

TEST(maps) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001");
        PAGE(page);
        PAGE(last);
        SignedValue *revocation = NULL;

        fill_maps(&page, &bob);
        ASSERT_OK(signed_put(page.d, page.root, "next_cursor", signed_string(page.d, "17")));
        answer(&w, "bob-0001 since 0", &page);
        ASSERT_OK(device_revocation_new(last.d, bob.root_seed, bob.device_id, NOW, NOW, &revocation));
        put_into_map(&last, to_maps(&last), "device_revocations", bob.device_id, revocation);
        answer(&w, "bob-0001 since 17", &last);
        run(&w);
        assert_error(l, 0, NULL);
        ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(l, 0)), CERT_CHAIN_COMPLETE);
        ASSERT_EQ(count_recipients(cert_lookup_chain(l, 0), NOW - 1), 1);
        ASSERT_EQ(count_recipients(cert_lookup_chain(l, 0), NOW), 0);
}

/* "bob-0001" and a NUL behind it is nobody. */
TEST(maps_with_nul_in_a_slug) {
        static const char text[] = "{\"cache\":{\"identities\":{\"bob-0001\\u0000x\":{\"a\":1}}}}";
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001");
        Page page = {};

        ASSERT_OK(signed_document_parse(&page.d, text, strlen(text)));
        page.root = signed_document_root(page.d);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        assert_error(l, 0, NULL);
        ASSERT_TRUE(cert_chain_verdict(cert_lookup_chain(l, 0)) != CERT_CHAIN_REFUSED);
}

/* Such a page does not tell whose the devices are, so that each slug is asked for alone. */
TEST(maps_of_several) {
        PERSON(bob, "bob-0001");
        PERSON(amy, "amy-0002");
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001", "amy-0002");
        PAGE(both);
        PAGE(bobs);
        PAGE(amys);

        fill_maps(&both, &bob);
        answer(&w, "bob-0001,amy-0002 since 0", &both);
        fill_maps(&bobs, &bob);
        answer(&w, "bob-0001 since 0", &bobs);
        fill_maps(&amys, &amy);
        answer(&w, "amy-0002 since 0", &amys);
        run(&w);
        ASSERT_EQ(w.n_done, 1);
        for (size_t i = 0; i < 2; i++)
                ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(l, i)), CERT_CHAIN_COMPLETE);

        cert_cache_invalidate(w.cache, NULL);
        LOOK_UP(again, w, "bob-0001", "amy-0002");
        ASSERT_EQ(w.n_requests, 5);     /* it knows now */
}

TEST(slugs) {
        char text[CERT_QUERY_MAX + 1];

        ASSERT_TRUE(cert_slug_is_valid("bob-0001"));
        ASSERT_TRUE(cert_slug_is_valid("\xc3\xa9"));
        ASSERT_FALSE(cert_slug_is_valid(""));
        ASSERT_FALSE(cert_slug_is_valid(NULL));
        ASSERT_FALSE(cert_slug_is_valid("a,b"));
        ASSERT_FALSE(cert_slug_is_valid("a\nb"));
        memset(text, 'x', sizeof(text));
        text[CERT_QUERY_MAX] = 0;
        ASSERT_FALSE(cert_slug_is_valid(text));
}

TEST(invalid_slugs_are_not_looked_up) {
        const char *slugs[] = { "bob-0001", "a,b" };
        CertLookup *l = NULL;
        WORLD(w, 0, 0);

        ASSERT_ERROR(cert_cache_lookup(w.cache, slugs, 2, on_done, &w, &l), EINVAL);
        ASSERT_NULL(l);
        ASSERT_EQ(w.n_requests, 0);
}

TEST(long_lists_are_cut) {
        char texts[100][64];
        const char *slugs[100];
        size_t total = 0;
        WORLD(w, 0, 0);
        _cleanup_(cert_lookup_freep) CertLookup *l = NULL;

        for (size_t i = 0; i < 100; i++) {
                (void) snprintf(texts[i], sizeof(texts[i]), "%08zu-with-ümlauts-of-its-own-%04zu", i, i);
                slugs[i] = texts[i];
        }
        l = look_up(&w, slugs, 100);
        ASSERT_EQ(w.n_requests, 3);
        for (size_t i = 0; i < w.n_requests; i++) {
                size_t size = strlen("slugs=&since=9223372036854775807"), n = 1;

                for (const char *p = w.requests[i]->query; *p != ' '; p++) {
                        size += (unsigned char) *p < 0x80 ? 1 : 3;
                        n += *p == ',';
                }
                ASSERT_TRUE(size < CERT_QUERY_MAX);
                ASSERT_TRUE(i + 1 == w.n_requests || size > CERT_QUERY_MAX - 100);
                total += n;
        }
        ASSERT_EQ(total, 100);
}

TEST(too_many_pages) {
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001");

        for (int64_t i = 0; i < CERT_PAGES_MAX; i++) {
                _cleanup_free_ char *query = asprintf_new("bob-0001 since %" PRId64, i);
                PAGE(page);

                page.seq = i;
                page_add(&page, "unheard_of", "bob-0001", signed_object(page.d));
                set_more(&page);
                answer(&w, query, &page);
                /* The list of requests is short. */
                free(w.requests[0]->query);
                free(w.requests[0]);
                w.requests[0] = w.requests[1];
                w.n_requests--;
                w.n_answered--;
        }
        run(&w);
        ASSERT_EQ(w.n_requests, 0);
        assert_error(l, EBADMSG, "there are too many pages of certificates");
}

#define TEST_SUITE "cert-fetch"
TEST_MAIN();
