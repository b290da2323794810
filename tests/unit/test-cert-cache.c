/* SPDX-License-Identifier: MIT */

#include "cert-world.h"

TEST(fetched_once) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(first, w, "bob-0001");
        LOOK_UP(second, w, "bob-0001", "bob-0001");
        PAGE(page);

        ASSERT_NULL(cert_cache_get(w.cache, "bob-0001"));
        ASSERT_EQ(w.n_requests, 1);
        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        ASSERT_EQ(w.n_done, 0);
        run(&w);
        ASSERT_EQ(w.n_done, 2);
        assert_error(first, 0, NULL);
        ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(first, 0)), CERT_CHAIN_COMPLETE);
        assert_ptr_equal(cert_lookup_chain(second, 1), cert_lookup_chain(first, 0));
        assert_ptr_equal(cert_cache_get(w.cache, "bob-0001"), cert_lookup_chain(first, 0));

        LOOK_UP(third, w, "bob-0001");
        run(&w);
        ASSERT_EQ(w.n_done, 3);
        assert_ptr_equal(cert_lookup_chain(third, 0), cert_lookup_chain(first, 0));
        ASSERT_EQ(w.n_requests, 1);

        ASSERT_EQ(w.n_pins, 1);
        assert_memory_equal(w.pins[0].root, bob.root, KEY_SIZE);
}

TEST(failures_are_not_kept) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001");
        PAGE(page);

        answer(&w, "bob-0001 since 0", NULL);
        run(&w);
        assert_error(l, EAGAIN, "HTTP 503");

        LOOK_UP(again, w, "bob-0001");
        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        assert_error(again, 0, NULL);

        cert_cache_invalidate(w.cache, "bob-0001");
        w.fetch_error = -ENOBUFS;
        LOOK_UP(refused, w, "bob-0001");
        run(&w);
        assert_error(refused, ENOBUFS, strerror(ENOBUFS));
        ASSERT_EQ(w.n_done, 3);
}

/* Without the store nobody knows which root key is right. */
TEST(pins_that_cannot_be_kept) {
        for (unsigned i = 0; i < 2; i++) {
                PERSON(bob, "bob-0001");
                WORLD(w, 0, 0);
                LOOK_UP(l, w, "bob-0001");
                PAGE(page);

                *(i == 0 ? &w.get_error : &w.put_error) = -EIO;
                page_add_all(&page, &bob);
                answer(&w, "bob-0001 since 0", &page);
                run(&w);
                assert_error(l, EIO, "the root keys of senders cannot be kept");
                ASSERT_NULL(cert_lookup_chain(l, 0));
                ASSERT_NULL(cert_cache_get(w.cache, "bob-0001"));
        }
}

TEST(another_root_later) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        _cleanup_free_ char *text = NULL, *again = NULL;
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001");
        PAGE(page);

        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        ASSERT_EQ(cert_cache_warn_once(w.cache, cert_lookup_chain(l, 0), &text), 0);

        cert_cache_invalidate(w.cache, NULL);
        LOOK_UP(second, w, "bob-0001");
        PAGE(forged);
        page_add_all(&forged, &eve);
        answer(&w, "bob-0001 since 0", &forged);
        run(&w);
        assert_error(second, 0, NULL);
        ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(second, 0)), CERT_CHAIN_REFUSED);
        ASSERT_NULL(cert_cache_get(w.cache, "bob-0001"));
        assert_memory_equal(w.pins[0].root, bob.root, KEY_SIZE);
        ASSERT_EQ(cert_cache_warn_once(w.cache, cert_lookup_chain(second, 0), &text), 1);
        ASSERT_STREQ(text, "The certificates of 'bob-0001' are refused: "
                           "identity_cert: the root key is not the one that was there before");
        ASSERT_EQ(cert_cache_warn_once(w.cache, cert_lookup_chain(second, 0), &again), 0);
        ASSERT_NULL(again);
}

TEST(no_key_fitted) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(first, w, "bob-0001");
        PAGE(page);

        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        cert_cache_drop(w.cache, cert_lookup_chain(first, 0));
        LOOK_UP(second, w, "bob-0001");
        PAGE(fresh);
        page_add_all(&fresh, &bob);
        answer(&w, "bob-0001 since 0", &fresh);
        run(&w);
        assert_ptr_not_equal(cert_lookup_chain(second, 0), cert_lookup_chain(first, 0));

        /* Somebody else had the old one still: it is not fetched for him again. */
        cert_cache_drop(w.cache, cert_lookup_chain(first, 0));
        assert_ptr_equal(cert_cache_get(w.cache, "bob-0001"), cert_lookup_chain(second, 0));
}

/* What is on its way may be of before the message that no key fits. */
TEST(no_key_fitted_and_one_is_under_way) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(first, w, "bob-0001");
        LOOK_UP(joined, w, "bob-0001");
        PAGE(page);

        ASSERT_FALSE(cert_lookup_joined(first));
        ASSERT_TRUE(cert_lookup_joined(joined));
        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        ASSERT_EQ(w.n_requests, 1);

        cert_cache_drop(w.cache, cert_lookup_chain(joined, 0));
        LOOK_UP(again, w, "bob-0001");
        ASSERT_FALSE(cert_lookup_joined(again));
        cert_cache_drop(w.cache, cert_lookup_chain(joined, 0));
        LOOK_UP(once_more, w, "bob-0001");
        ASSERT_FALSE(cert_lookup_joined(once_more));
        ASSERT_EQ(w.n_requests, 3);
}

/* Nobody else has the chain. */
TEST(dropped_while_borrowed) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        PAGE(page);
        CertLookup *first = look_up(&w, (const char *const[]) { "bob-0001" }, 1);

        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        first = cert_lookup_free(first);
        cert_cache_drop(w.cache, cert_cache_get(w.cache, "bob-0001"));
        ASSERT_NULL(cert_cache_get(w.cache, "bob-0001"));
}

TEST(invalidated_under_way) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(first, w, "bob-0001");
        PAGE(old);
        PAGE(new);

        cert_cache_invalidate(w.cache, "bob-0001");
        LOOK_UP(second, w, "bob-0001");
        ASSERT_EQ(w.n_requests, 2);
        page_add_all(&old, &bob);
        answer(&w, "bob-0001 since 0", &old);
        run(&w);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_NOT_NULL(cert_lookup_chain(first, 0));
        ASSERT_NULL(cert_cache_get(w.cache, "bob-0001"));

        page_add_all(&new, &bob);
        answer(&w, "bob-0001 since 0", &new);
        run(&w);
        assert_ptr_equal(cert_cache_get(w.cache, "bob-0001"), cert_lookup_chain(second, 0));
}

TEST(policy_changes) {
        PERSON(bob, "bob-0001");

        WORLD(w, 0, 0);
        for (CertPolicy policy = 0; policy < _CERT_POLICY_MAX; policy++) {
                PAGE(page);

                cert_cache_set_policy(w.cache, policy);
                LOOK_UP(l, w, "bob-0001");
                page_add(&page, "device_cert", "bob-0001", without(device_of(&page, &bob), "signature"));
                answer(&w, "bob-0001 since 0", &page);
                run(&w);
                ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(l, 0)),
                          policy == CERT_POLICY_WARN ? CERT_CHAIN_LACKING : CERT_CHAIN_REFUSED);
        }
}

/* --- bounds --- */

TEST(least_recently_used_goes) {
        PERSON(bob, "bob-0001");
        static const char *const slugs[] = { "a-1", "b-2", "c-3" };
        WORLD(w, 2, 0);

        for (size_t i = 0; i < ELEMENTSOF(slugs); i++) {
                _cleanup_free_ char *query = strjoin(slugs[i], " since 0");
                LOOK_UP(l, w, slugs[i]);
                PAGE(page);

                page_add(&page, "device_cert", slugs[i], without(without(device_of(&page, &bob), "signature"),
                                                                 "root_public_key"));
                answer(&w, query, &page);
                run(&w);
                if (i == 1)
                        ASSERT_NOT_NULL(cert_cache_get(w.cache, "a-1"));
        }
        ASSERT_NOT_NULL(cert_cache_get(w.cache, "a-1"));
        ASSERT_NULL(cert_cache_get(w.cache, "b-2"));
        ASSERT_NOT_NULL(cert_cache_get(w.cache, "c-3"));
}

TEST(old_ones_are_fetched_in_the_background) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 1);
        LOOK_UP(l, w, "bob-0001");
        const CertChain *old;
        PAGE(page);
        PAGE(fresh);

        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        while (w.n_requests < 2)        /* a microsecond */
                old = cert_cache_get(w.cache, "bob-0001");
        assert_ptr_equal(old, cert_lookup_chain(l, 0));
        (void) cert_cache_get(w.cache, "bob-0001");
        ASSERT_EQ(w.n_requests, 2);

        /* A failure leaves what is there alone, for a while. */
        answer(&w, "bob-0001 since 0", NULL);
        assert_ptr_equal(cert_cache_get(w.cache, "bob-0001"), old);
        ASSERT_EQ(w.n_requests, 2);

        cert_cache_drop(w.cache, old);
        LOOK_UP(second, w, "bob-0001");
        page_add_all(&fresh, &bob);
        answer(&w, "bob-0001 since 0", &fresh);
        run(&w);
        while (w.n_requests < 4)
                assert_ptr_equal(cert_cache_get(w.cache, "bob-0001"), cert_lookup_chain(second, 0));
        PAGE(newest);
        page_add_all(&newest, &bob);
        answer(&w, "bob-0001 since 0", &newest);
        assert_ptr_not_equal(cert_cache_get(w.cache, "bob-0001"), cert_lookup_chain(second, 0));
}

/* --- callbacks --- */

TEST(freed_in_the_callback) {
        for (int what = 1; what <= 2; what++) {
                PERSON(bob, "bob-0001");
                WORLD(w, 0, 0);
                CertLookup *first = look_up(&w, (const char*[]) { "bob-0001" }, 1);
                LOOK_UP(second, w, "bob-0001");
                LOOK_UP(waiting, w, "amy-0002");
                PAGE(page);

                w.free_what = what;
                page_add_all(&page, &bob);
                answer(&w, "bob-0001 since 0", &page);
                if (what == 1)  /* the second one goes before its turn */
                        second = cert_lookup_free(second);
                run(&w);
                ASSERT_EQ(w.n_done, 1);
                assert_ptr_equal(w.done[0], first);
                ASSERT_EQ(w.requests[1]->is_cancelled, what == 2);
                if (what == 2)  /* what it had is still its own */
                        ASSERT_EQ(cert_chain_verdict(cert_lookup_chain(second, 0)), CERT_CHAIN_COMPLETE);
        }
}

TEST(another_lookup_in_the_callback) {
        PERSON(bob, "bob-0001");
        WORLD(w, 0, 0);
        LOOK_UP(l, w, "bob-0001");
        PAGE(page);

        w.then = "bob-0001";
        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        ASSERT_EQ(w.n_done, 2);
        assert_ptr_equal(w.done[1], w.next);
        assert_ptr_equal(cert_lookup_chain(w.next, 0), cert_lookup_chain(l, 0));
        ASSERT_EQ(w.n_requests, 1);
        cert_lookup_free(w.next);
}

TEST(freed_under_way) {
        WORLD(w, 0, 0);
        CertLookup *l = look_up(&w, (const char*[]) { "bob-0001" }, 1);

        cert_lookup_free(l);
        ASSERT_FALSE(w.requests[0]->is_cancelled);      /* others may ask soon */
        w.cache = cert_cache_free(w.cache);
        ASSERT_TRUE(w.requests[0]->is_cancelled);
        run(&w);
        ASSERT_EQ(w.n_done, 0);
}

#define TEST_SUITE "cert-cache"
TEST_MAIN();
