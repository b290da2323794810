/* SPDX-License-Identifier: MIT */

/* Devices and subkeys of a chain. */

#include "cert-fixture.h"

/* --- devices --- */

TEST(forged_devices_are_left_out) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        SignedValue *swapped;
        const CertDevice *devices;
        size_t n;
        PAGE(page);

        page_add_roots(&page, &bob);
        /* Another root; another key under bob's signature; eve's signature in bob's certificate. All with bob's id,
         * and before his: the first one wins among the good ones only. */
        swapped = device_of(&page, &eve);
        page_add(&page, "device_cert", "bob-0001", with_text(&page, swapped, "device_id", bob.device_id));
        swapped = device_of(&page, &bob);
        with_text(&page, signed_get(signed_get(swapped, "keys"), "encryption"), "public_key",
                  "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE");
        page_add(&page, "device_cert", "bob-0001", swapped);
        swapped = device_of(&page, &bob);
        with_text(&page, swapped, "signature", signed_get_string(device_of(&page, &eve), "signature"));
        page_add(&page, "device_cert", "bob-0001", swapped);
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);

        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_COMPLETE);
        devices = cert_chain_devices(c, &n);
        ASSERT_EQ(n, 1);
        ASSERT_STREQ(devices[0].device_id, bob.device_id);
        assert_memory_equal(devices[0].kem_key, bob.kem, KEY_SIZE);
}

static SignedValue* legacy_device(Page *p, const char *device_id, const uint8_t kem[KEY_SIZE]) {
        _cleanup_free_ char *key = base64url_encode(kem, KEY_SIZE);
        SignedValue *o = signed_object(p->d);

        ASSERT_OK(signed_put(p->d, o, "device_id", signed_string(p->d, device_id)));
        ASSERT_OK(signed_put(p->d, o, "kem_public_key", signed_string(p->d, key)));
        return o;
}

TEST(legacy_device) {
        PERSON(bob, "bob-0001");
        PERSON(old, "bob-0001");
        CertPin pin = {};

        for (unsigned i = 0; i < 4; i++) {
                const CertPolicy policy = i == 1 ? CERT_POLICY_ENFORCE : CERT_POLICY_WARN;
                const bool accepted = i == 0 || i == 2;
                const CertPin *known = i >= 2 ? &pin : NULL;
                CertPin next;
                PAGE(page);

                memcpy(pin.root, bob.root, KEY_SIZE);
                pin.complete = i == 3;
                page_add_roots(&page, &bob);
                page_add(&page, "device_cert", "bob-0001", legacy_device(&page, "dev_old", old.kem));
                page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
                page_add(&page, "subkey_cert", "bob-0001", subkey_of(&page, &bob, NOW));
                CHAIN(c, page, "bob-0001", known, policy);
                ASSERT_EQ(cert_chain_verdict(c), accepted ? CERT_CHAIN_LACKING : CERT_CHAIN_COMPLETE);
                ASSERT_EQ(count_recipients(c, NOW), accepted ? 2 : 1);
                ASSERT_EQ(count_keys(c, NOW), 1);
                assert_warns(c, accepted ? "The certificates of 'bob-0001' lack a signed device_cert, and are "
                                           "accepted unverified as wire.verify_certs is warn"
                                         : "The certificates of 'bob-0001': left out: device_cert 'dev_old': "
                                           "is not signed");
                ASSERT_EQ(cert_chain_pin(c, &next), i < 2);
                if (i < 2)
                        ASSERT_EQ(next.complete, !accepted);
        }
}

/* Who can add rows could put one with the same id in front. */
TEST(legacy_device_does_not_hide_a_signed_one) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        const CertDevice *devices;
        size_t n;
        PAGE(page);

        page_add_roots(&page, &bob);
        page_add(&page, "device_cert", "bob-0001", legacy_device(&page, bob.device_id, eve.kem));
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        page_add(&page, "device_cert", "bob-0001", legacy_device(&page, bob.device_id, eve.kem));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        devices = cert_chain_devices(c, &n);
        ASSERT_EQ(n, 1);
        ASSERT_TRUE(devices[0].verified);
        assert_memory_equal(devices[0].kem_key, bob.kem, KEY_SIZE);
        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_COMPLETE);
}

TEST(devices_without_a_key) {
        static const char *const keys[] = { "AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" };
        PERSON(bob, "bob-0001");
        PERSON(old, "bob-0001");
        _cleanup_free_ Recipient *recipients = NULL;
        size_t n = 0;
        PAGE(page);

        page_add_roots(&page, &bob);
        for (size_t i = 0; i < ELEMENTSOF(keys); i++) {
                _cleanup_free_ char *id = asprintf_new("dev_%zu", i);
                SignedValue *o = legacy_device(&page, id, bob.kem);

                page_add(&page, "device_cert", "bob-0001", with_text(&page, o, "kem_public_key", keys[i]));
        }
        ASSERT_EQ(signed_get(page.root, "entries")->size, 2 + ELEMENTSOF(keys));
        page_add(&page, "device_cert", "bob-0001", legacy_device(&page, "dev_0", old.kem));
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        ASSERT_OK(cert_chain_recipients(c, NOW, &recipients, &n));
        ASSERT_EQ(n, 2);
        ASSERT_STREQ(recipients[0].device_id, "dev_0");
        assert_memory_equal(recipients[0].kem_key, old.kem, KEY_SIZE);
        ASSERT_STREQ(recipients[1].device_id, bob.device_id);
}

TEST(each_device_once_over_all_slugs) {
        PERSON(bob, "bob-0001");
        _cleanup_free_ Recipient *recipients = NULL;
        size_t n = 0;
        PAGE(page);

        page_add_all(&page, &bob);
        page_add_all(&page, &bob);
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        ASSERT_OK(cert_chain_recipients(c, NOW, &recipients, &n));
        ASSERT_OK(cert_chain_recipients(c, NOW, &recipients, &n));
        ASSERT_EQ(n, 1);
}

TEST(revoked_device) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        PAGE(page);

        page_add_all(&page, &bob);
        page_add_revocation(&page, &eve, bob.device_id, NOW - HOUR);    /* not hers to revoke */
        page_add_revocation(&page, &bob, "dev_other", NOW - HOUR);
        page_add_revocation(&page, &bob, bob.device_id, NOW + 2 * HOUR);
        page_add_revocation(&page, &bob, bob.device_id, NOW + HOUR);
        page_add_revocation(&page, &bob, bob.device_id, NOW + 3 * HOUR);
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        ASSERT_EQ(count_recipients(c, NOW + HOUR - 1), 1);
        ASSERT_EQ(count_recipients(c, NOW + HOUR), 0);
        ASSERT_EQ(count_keys(c, NOW + HOUR - 1), 1);
        ASSERT_EQ(count_keys(c, NOW + HOUR), 0);
        assert_warns(c, "The certificates of 'bob-0001': left out: device_revocation: "
                        "device_revocation.root_public_key does not match identity_cert");
}

/* --- subkeys --- */

TEST(subkey_expired_at_sent_at) {
        PERSON(bob, "bob-0001");
        PAGE(page);

        page_add_all(&page, &bob);
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        ASSERT_EQ(count_keys(c, NOW + SUBKEY_LIFETIME_MS - 1), 1);
        ASSERT_EQ(count_keys(c, NOW + SUBKEY_LIFETIME_MS), 0);
}

TEST(forged_subkeys) {
        PERSON(bob, "bob-0001");
        PERSON(eve, "bob-0001");
        SignedValue *cert = NULL;
        size_t n;
        PAGE(page);

        page_add_roots(&page, &bob);
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        /* Signed by eve for bob's device. */
        ASSERT_OK(subkey_cert_new(page.d, eve.device_seed, bob.device_id, eve.subkey, NOW, HOUR, &cert));
        page_add(&page, "subkey_cert", "bob-0001", cert);
        /* Of a device that nobody knows, with and without signature. */
        page_add(&page, "subkey_cert", "bob-0001", subkey_of(&page, &eve, NOW));
        page_add(&page, "subkey_cert", "bob-0001", without(subkey_of(&page, &eve, NOW), "signature"));
        /* Bob's, but for another id, with another key, and without signature. */
        page_add(&page, "subkey_cert", "bob-0001", with_text(&page, subkey_of(&page, &bob, NOW), "subkey_id",
                                                             eve.subkey_id));
        cert = subkey_of(&page, &eve, NOW);
        page_add(&page, "subkey_cert", "bob-0001",
                 with_text(&page, subkey_of(&page, &bob, NOW), "subkey_public_key",
                           signed_get_string(cert, "subkey_public_key")));
        page_add(&page, "subkey_cert", "bob-0001", without(subkey_of(&page, &bob, NOW), "signature"));
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);
        ASSERT_EQ(cert_chain_n_subkeys(c), 6);
        ASSERT_EQ(count_keys(c, NOW), 0);
        for (size_t i = 0; i < 6; i++)
                ASSERT_EQ(cert_chain_subkey(c, i)->state, SUBKEY_REFUSED);
        (void) cert_chain_devices(c, &n);
        ASSERT_EQ(n, 1);
        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_COMPLETE);
}

TEST(named_subkey_comes_first) {
        PERSON(bob, "bob-0001");
        uint8_t seeds[5][KEY_SIZE], publics[5][KEY_SIZE], keys[5][KEY_SIZE];
        _cleanup_free_ char *named = NULL;
        PAGE(page);

        page_add_roots(&page, &bob);
        page_add(&page, "device_cert", "bob-0001", device_of(&page, &bob));
        for (size_t i = 0; i < 5; i++) {
                SignedValue *cert = NULL;

                randombytes_buf(seeds[i], KEY_SIZE);
                sign_public_key(seeds[i], publics[i]);
                ASSERT_OK(subkey_cert_new(page.d, bob.device_seed, bob.device_id, publics[i], NOW, SUBKEY_LIFETIME_MS,
                                          &cert));
                page_add(&page, "subkey_cert", "bob-0001", cert);
        }
        named = key_id("sk", publics[1]);
        CHAIN(c, page, "bob-0001", NULL, CERT_POLICY_WARN);

        ASSERT_EQ(cert_chain_keys_at(c, NOW, named, keys, 1), 1);
        assert_memory_equal(keys[0], publics[1], KEY_SIZE);
        for (size_t i = 0; i < 5; i++)  /* the others have not been looked at yet */
                ASSERT_EQ(cert_chain_subkey(c, i)->state, i == 3 ? SUBKEY_VERIFIED : SUBKEY_UNCHECKED);

        ASSERT_EQ(cert_chain_keys_at(c, NOW, named, keys, 5), 5);
        assert_memory_equal(keys[0], publics[1], KEY_SIZE);
        assert_memory_equal(keys[1], publics[4], KEY_SIZE);
        assert_memory_equal(keys[4], publics[0], KEY_SIZE);
        ASSERT_EQ(cert_chain_keys_at(c, NOW, "sk_unheard_of", keys, 5), 5);
}

/* Rows as servers had them before there was anything to verify. */
TEST(subkeys_only) {
        PERSON(bob, "bob-0001");
        CertPin pin = {};

        for (unsigned i = 0; i < 3; i++) {
                const CertPolicy policy = i == 1 ? CERT_POLICY_ENFORCE : CERT_POLICY_WARN;
                PAGE(page);

                page_add(&page, "subkey_cert", "bob-0001", without(subkey_of(&page, &bob, NOW), "signature"));
                memcpy(pin.root, bob.root, KEY_SIZE);
                pin.complete = true;
                CHAIN(c, page, "bob-0001", i == 2 ? &pin : NULL, policy);
                if (i == 0) {
                        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_LACKING);
                        ASSERT_EQ(count_keys(c, NOW), 1);
                        ASSERT_EQ(cert_chain_subkey(c, 0)->state, SUBKEY_UNVERIFIED);
                        ASSERT_EQ(cert_chain_pin(c, &pin), 0);  /* no key to pin */
                } else if (i == 1)
                        assert_refused(c, "The certificates of 'bob-0001' are refused: identity_cert: is missing");
                else
                        ASSERT_EQ(cert_chain_verdict(c), CERT_CHAIN_REFUSED);
        }
}

#define TEST_SUITE "cert-keys"
TEST_MAIN();
