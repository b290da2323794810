/* SPDX-License-Identifier: MIT */

#include "cert-fixture.h"

TEST(policy_names) {
        ASSERT_EQ(cert_policy_from_string("warn"), CERT_POLICY_WARN);
        ASSERT_EQ(cert_policy_from_string("enforce"), CERT_POLICY_ENFORCE);
        ASSERT_EQ(cert_policy_from_string("off"), _CERT_POLICY_INVALID);
        ASSERT_EQ(cert_policy_from_string(NULL), _CERT_POLICY_INVALID);
}

TEST(complete) {
        for (CertPolicy policy = 0; policy < _CERT_POLICY_MAX; policy++) {
                PERSON(bob, "bob-0001");
                _cleanup_free_ Recipient *recipients = NULL;
                uint8_t keys[2][KEY_SIZE];
                const CertDevice *devices;
                size_t n = 0;
                CertPin pin;
                PAGE(page);

                page_add_all(&page, &bob);
                CHAIN(c, page, "bob-0001", NULL, policy);
                ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_COMPLETE);
                assert_warns(c, NULL);
                assert_memory_equal(cert_chain_root(c), bob.root, KEY_SIZE);

                devices = cert_chain_devices(c, &n);
                ASSERT_EQ(n, 1);
                ASSERT_TRUE(devices[0].verified);
                assert_memory_equal(devices[0].signing_key, bob.device, KEY_SIZE);
                ASSERT_EQ(devices[0].revoked_from_ms, INT64_MAX);

                n = 0;
                ASSERT_OK(cert_chain_recipients(c, NOW, &recipients, &n));
                ASSERT_EQ(n, 1);
                ASSERT_STREQ(recipients[0].device_id, bob.device_id);
                assert_memory_equal(recipients[0].kem_key, bob.kem, KEY_SIZE);

                ASSERT_EQ(cert_chain_keys_at(c, NOW, bob.subkey_id, keys, 2), 1);
                assert_memory_equal(keys[0], bob.subkey, KEY_SIZE);
                ASSERT_EQ(cert_chain_subkey(c, 0)->state, SUBKEY_VERIFIED);
                ASSERT_STREQ(cert_chain_subkey(c, 0)->subkey_id, bob.subkey_id);
                ASSERT_EQ(cert_chain_subkey(c, 0)->issued_at_ms, NOW);

                ASSERT_EQ(cert_chain_pin(c, &pin), 1);
                assert_memory_equal(pin.root, bob.root, KEY_SIZE);
                ASSERT_TRUE(pin.complete);
        }
}

TEST(pinned_already) {
        PERSON(bob, "bob-0001");
        CertPin pin = {};
        PAGE(page);

        memcpy(pin.root, bob.root, KEY_SIZE);
        pin.complete = true;
        page_add_all(&page, &bob);
        CHAIN(c, page, "bob-0001", &pin, CERT_POLICY_WARN);
        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_COMPLETE);
        ASSERT_EQ(cert_chain_pin(c, &pin), 0);
}

TEST(other_root_than_pinned) {
        for (CertPolicy policy = 0; policy < _CERT_POLICY_MAX; policy++) {
                PERSON(bob, "bob-0001");
                CertPin pin = { .root = { 9 } };
                PAGE(page);

                page_add_all(&page, &bob);
                CHAIN(c, page, "bob-0001", &pin, policy);
                assert_refused(c, "The certificates of 'bob-0001' are refused: "
                                  "identity_cert: the root key is not the one that was there before");
        }
}

/* A server that has somebody else's whole chain to offer under the slug. */
TEST(binding_of_another_slug) {
        PERSON(eve, "eve-0002");
        PAGE(page);

        page_add_identity(&page, &eve, "bob-0001");
        page_add_binding(&page, &eve, "eve-0002", "bob-0001");
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &eve));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        assert_refused(c, "The certificates of 'bob-0001' are refused: slug_binding: slug_binding is of another slug");
}

TEST(binding_under_another_root) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        PAGE(page);

        page_add_identity(&page, &bob, "bob-0001");
        page_add_binding(&page, &eve, "bob-0001", "bob-0001");
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        assert_refused(c, "The certificates of 'bob-0001' are refused: "
                          "slug_binding: slug_binding.root_public_key does not match identity_cert");
}

/* The last identity_cert that is good counts; what is no certificate does not hide it. */
TEST(bad_identity_beside_a_good_one) {
        PERSON(bob, "bob-0001");
        SignedValue *cert = NULL;
        PAGE(page);

        page_add_all(&page, &bob);
        ASSERT_OK(identity_cert_new(page.d, bob.root_seed, NULL, &cert));
        page_add(&page, "identity_cert", "bob-0001", with_text(&page, cert, "identity_type", "agent"));
        page_add(&page, "identity_cert", "bob-0001", signed_string(page.d, "nonsense"));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_ENFORCE);
        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_COMPLETE);
        ASSERT_EQ(count_recipients(c, NOW), 1);
        assert_warns(c, "The certificates of 'bob-0001': left out: identity_cert: must be an object");
}

TEST(bad_identity_only) {
        PERSON(bob, "bob-0001");
        SignedValue *cert = NULL;
        PAGE(page);

        ASSERT_OK(identity_cert_new(page.d, bob.root_seed, NULL, &cert));
        page_add(&page, "identity_cert", "bob-0001", with_text(&page, cert, "identity_type", "agent"));
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        assert_refused(c, "The certificates of 'bob-0001' are refused: "
                          "identity_cert: identity_cert self_signature verification failed");
}

TEST(last_identity_counts) {
        PERSON(old, "bob-0001");
        PERSON(new, "bob-0001");
        CertPin pin = {};
        PAGE(page);

        memcpy(pin.root, old.root, KEY_SIZE);
        page_add_all(&page, &old);
        page_add_all(&page, &new);
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_ENFORCE);
        assert_memory_equal(cert_chain_root(c), new.root, KEY_SIZE);
        ASSERT_EQ(count_recipients(c, NOW), 1);

        PAGE(again);
        page_add_all(&again, &old);
        page_add_all(&again, &new);
        CHAIN(pinned, again, "bob-0001", &pin, CERT_POLICY_WARN);
        ASSERT_EQ(cert_chain_verdict(pinned), CERT_CHAIN_REFUSED);
}

/* --- what is missing --- */

TEST(lacking_roots) {
        static const struct {
                bool identity, binding;
                const char *warning, *enforced;
        } t[] = {
                { false, true, "an identity_cert", "identity_cert: is missing" },
                { true, false, "a slug_binding", "slug_binding: is missing" },
                { false, false, "an identity_cert, a slug_binding", "identity_cert: is missing" },
        };
        PERSON(bob, "bob-0001");

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                for (CertPolicy policy = 0; policy < _CERT_POLICY_MAX; policy++) {
                        _cleanup_free_ char *text = NULL;
                        CertPin pin;
                        PAGE(page);

                        if (t[i].identity)
                                page_add_identity(&page, &bob, "bob-0001");
                        if (t[i].binding)
                                page_add_binding(&page, &bob, "bob-0001", "bob-0001");
                        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
                        page_add(&page, "subkey_cert", "bob-0001", subkey_of(&page, &bob, NOW));
                        CHAIN(c, page, "bob-0001", NULL, policy);
                        if (policy == CERT_POLICY_ENFORCE) {
                                text = strjoin("The certificates of 'bob-0001' are refused: ", t[i].enforced);
                                assert_refused(c, text);
                                continue;
                        }
                        text = strjoin("The certificates of 'bob-0001' lack ", t[i].warning,
                                       ", and are accepted unverified as wire.verify_certs is warn");
                        assert_warns(c, text);
                        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_LACKING);
                        ASSERT_EQ(count_recipients(c, NOW), 1);
                        ASSERT_EQ(count_keys(c, NOW), 1);
                        ASSERT_EQ(cert_chain_pin(c, &pin), 1);
                        assert_memory_equal(pin.root, bob.root, KEY_SIZE);
                        ASSERT_FALSE(pin.complete);
                }
}

/* Leaving the identity_cert out does not get around the pin. */
TEST(lacking_identity_under_a_pin) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        CertPin pin = {};
        PAGE(page);

        memcpy(pin.root, bob.root, KEY_SIZE);
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &eve));
        page_add(&page, "subkey_cert", "bob-0001", subkey_of(&page, &eve, NOW));
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        CHAIN(c, page, "bob-0001", &pin, CERT_POLICY_WARN);
        assert_memory_equal(cert_chain_root(c), bob.root, KEY_SIZE);
        ASSERT_EQ(count_recipients(c, NOW), 1);
        ASSERT_EQ(count_keys(c, NOW), 0);

        PAGE(bound);
        page_add_binding(&bound, &eve, "bob-0001", "bob-0001");
        page_add(&bound, "device_cert", "bob-0001", device_of(&bound, &eve));
        CHAIN(other, bound, "bob-0001", &pin, CERT_POLICY_WARN);
        ASSERT_EQ(cert_chain_verdict(other), CERT_CHAIN_REFUSED);
}

TEST(nobody) {
        PERSON(bob, "bob-0001");
        CertPin pin;
        PAGE(page);

        page_add_all(&page, &bob);
        CHAIN(c, page, "carol-0003", NULL, CERT_POLICY_ENFORCE);
        ASSERT_TRUE(cert_chain_is_empty(c));
        ASSERT_EQ(cert_chain_pin(c, &pin), 0);
        assert_warns(c, NULL);
}

TEST(nothing_good_is_left) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        PAGE(page);

        page_add_roots(&page, &bob);
        page_add(&page, "device_cert", "bob-0001", with_text(&page, device_of(&page, &eve), "device_id", "dev_\n'x"));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        assert_refused(c, "The certificates of 'bob-0001' are refused: nothing is left: device_cert 'dev_?'x': "
                          "device_cert.root_public_key does not match identity_cert");
}

/* --- too much --- */

static CertChain* chain_of_many(const Person *who, CertKind kind, SignedValue *cert, size_t n) {
        CertEntry e = { .kind = kind, .slug = who->slug, .cert = cert };
        CertChain *c = NULL;

        ASSERT_OK(cert_chain_new(&c, who->slug));
        for (size_t i = 0; i < n; i++)
                ASSERT_OK(cert_chain_add(c, &e));
        ASSERT_TRUE(cert_chain_size(c) < MIB(2));
        ASSERT_OK(cert_chain_finish(c, NULL, CERT_POLICY_WARN));
        return c;
}

TEST(too_many_rows) {
        PERSON(bob, "bob-0001");
        SignedValue *identity = NULL;
        PAGE(page);

        ASSERT_OK(identity_cert_new(page.d, bob.root_seed, NULL, &identity));
        for (CertKind k = 0; k < _CERT_KIND_MAX; k++) {
                SignedValue *cert = k == CERT_SUBKEY ? subkey_of(&page, &bob, NOW)
                                    : k == CERT_DEVICE ? device_of(&page, &bob)
                                                       : identity;
                _cleanup_(cert_chain_unrefp) CertChain *c = chain_of_many(&bob, k, cert, 100000);

                assert_refused(c, "The certificates of 'bob-0001' are refused: registry: there are too many entries");
        }
}

TEST(as_many_rows_as_are_allowed) {
        PERSON(bob, "bob-0001");
        PAGE(page);
        _cleanup_(cert_chain_unrefp) CertChain *c =
                        chain_of_many(&bob, CERT_SUBKEY, subkey_of(&page, &bob, NOW), CERT_ENTRIES_MAX);
        _cleanup_(cert_chain_unrefp) CertChain *devices =
                        chain_of_many(&bob, CERT_DEVICE, device_of(&page, &bob), CERT_DEVICES_MAX + 1);

        ASSERT_EQ(cert_chain_n_subkeys(c), CERT_SUBKEYS_MAX);
        ASSERT_EQ(count_keys(c, NOW), 1);       /* the same key all over */
        assert_refused(devices, "The certificates of 'bob-0001' are refused: device_cert: there are too many");
}

TEST(the_newest_subkeys_are_kept) {
        PERSON(bob, "bob-0001");
        _cleanup_(cert_chain_unrefp) CertChain *c = NULL;
        PAGE(page);

        ASSERT_OK(cert_chain_new(&c, "bob-0001"));
        for (int64_t i = 0; i < 1500; i++) {
                SignedValue *cert = without(subkey_of(&page, &bob, NOW + i), "signature");
                const CertEntry e = { .kind = CERT_SUBKEY, .slug = "bob-0001", .cert = cert };

                ASSERT_OK(cert_chain_add(c, &e));
        }
        ASSERT_OK(cert_chain_finish(c, NULL, CERT_POLICY_WARN));
        ASSERT_EQ(cert_chain_n_subkeys(c), CERT_SUBKEYS_MAX);
        for (size_t i = 0; i < CERT_SUBKEYS_MAX; i++)
                ASSERT_EQ(cert_chain_subkey(c, i)->issued_at_ms, NOW + 1499 - (int64_t) i);
}

TEST(too_large_a_certificate) {
        PERSON(bob, "bob-0001");
        _cleanup_free_ char *long_text = new0(char, CERT_SIZE_MAX + 1);
        SignedValue *o;
        PAGE(page);

        memset(long_text, 'x', CERT_SIZE_MAX);
        page_add_all(&page, &bob);
        o = without(device_of(&page, &bob), "signature");
        ASSERT_OK(signed_put(page.d, o, "note", signed_string(page.d, long_text)));
        ASSERT_OK(signed_object_sign(page.d, o, "signature", bob.root_seed));
        page_add(&page, "device_cert", "bob-0001", o);
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        ASSERT_EQ(count_recipients(c, NOW), 1);
        assert_warns(c, "The certificates of 'bob-0001': left out: device_cert: is too large");
}

#define TEST_SUITE "cert-chain"
TEST_MAIN();
