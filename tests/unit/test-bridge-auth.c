/* SPDX-License-Identifier: MIT */

/* What the vectors of the bridge do not show: two requests at once, odd targets, odd files, texts in errors. */

#include "base64url.h"
#include "bridge-auth.h"
#include "certificate.h"
#include "request-signing.h"
#include "tests.h"

#define NOW ((int64_t) 1780000000000)

static const uint8_t root_seed[KEY_SIZE] = { 1 }, device_seed[KEY_SIZE] = { 2 };

typedef struct Headers {
        const char *slug, *signer, *timestamp, *nonce, *signature;
} Headers;

static const char* header_of(void *userdata, const char *name) {
        const Headers *h = userdata;

        return streq(name, "x-puffo-slug") ? h->slug
               : streq(name, "x-puffo-signer-id") ? h->signer
               : streq(name, "x-puffo-timestamp") ? h->timestamp
               : streq(name, "x-puffo-nonce") ? h->nonce
               : streq(name, "x-puffo-signature") ? h->signature
                                                  : NULL;
}

typedef struct Fixture {
        NonceMemory *nonces;
        BridgePairing paired;
        Headers headers;
        char *key_text, *signature;
} Fixture;

static void fixture_begin(Fixture *f) {
        uint8_t key[KEY_SIZE];

        *f = (Fixture) {};
        ASSERT_OK(crypto_init());
        ASSERT_OK(nonce_memory_new(&f->nonces, 0));
        sign_public_key(device_seed, key);
        f->key_text = base64url_encode(key, KEY_SIZE);
        f->paired = (BridgePairing) { "alice-0001", "dev_1", "root", f->key_text };
        f->headers = (Headers) { "alice-0001", "dev_1", "1780000000000", "nonce", NULL };
}

static void fixture_end(Fixture *f) {
        nonce_memory_free(f->nonces);
        free(f->key_text);
        free(f->signature);
}
#define FIXTURE(f) \
        _cleanup_(fixture_end) Fixture f; \
        fixture_begin(&f)

/* A request for this target, signed for another one. */
static BridgeRequest request_for(Fixture *f, const char *target, const char *signed_as) {
        const SignedRequest s = {
                .method = "GET",
                .path = signed_as,
                .timestamp = f->headers.timestamp,
                .nonce = f->headers.nonce,
                .body = "body",
                .body_size = 4,
        };

        f->signature = mfree(f->signature);
        ASSERT_OK(signed_request_sign(&s, device_seed, &f->signature));
        f->headers.signature = f->signature;
        return (BridgeRequest) {
                .method = "GET",
                .target = target,
                .header = header_of,
                .userdata = &f->headers,
                .body = "body",
                .body_size = 4,
                .now_ms = NOW,
        };
}

static void assert_refused(int r, BridgeRefusal *refusal, unsigned status, const char *error) {
        ASSERT_ERROR(r, EACCES);
        ASSERT_EQ(refusal->status, status);
        ASSERT_STREQ(refusal->error, error);
        bridge_refusal_done(refusal);
}

TEST(two_at_once) {
        FIXTURE(f);
        BridgeRequest q = request_for(&f, "/v1/agents", "/v1/agents");
        BridgeRefusal refusal = {};
        BridgeAccess access;

        /* Both heads come before either body. */
        ASSERT_OK(bridge_request_admit(&q, &f.paired, f.nonces, &access, &refusal));
        ASSERT_EQ(access, BRIDGE_SIGNED);
        ASSERT_OK(bridge_request_admit(&q, &f.paired, f.nonces, &access, &refusal));
        ASSERT_OK(bridge_request_verify(&q, &f.paired, f.nonces, &refusal));
        assert_refused(bridge_request_verify(&q, &f.paired, f.nonces, &refusal), &refusal, 401, "nonce already used");
        assert_refused(bridge_request_admit(&q, &f.paired, f.nonces, &access, &refusal), &refusal, 401,
                       "nonce already used");
}

TEST(only_good_signatures_use_nonces_up) {
        FIXTURE(f);
        BridgeRequest q = request_for(&f, "/v1/agents", "/v1/other");
        BridgeRefusal refusal = {};

        for (unsigned i = 0; i < 3; i++)
                assert_refused(bridge_request_verify(&q, &f.paired, f.nonces, &refusal), &refusal, 401,
                               "signature verification failed");
        ASSERT_EQ(nonce_memory_size(f.nonces), 0);
        q = request_for(&f, "/v1/agents", "/v1/agents");
        ASSERT_OK(bridge_request_verify(&q, &f.paired, f.nonces, &refusal));
        ASSERT_EQ(nonce_memory_size(f.nonces), 1);
}

/* A request of the past is kept as long as one of now: clocks may be set back. */
TEST(how_long_nonces_are_kept) {
        static const struct {
                const char *timestamp;
                int64_t until;
        } t[] = {
                { "1780000000000", NOW + 300000 },
                { "1779999700000", NOW + 300000 },
                { "1780000300000", NOW + 600000 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                FIXTURE(f);
                BridgeRefusal refusal = {};
                BridgeRequest q;

                f.headers.timestamp = t[i].timestamp;
                q = request_for(&f, "/v1/agents", "/v1/agents");
                ASSERT_OK(bridge_request_verify(&q, &f.paired, f.nonces, &refusal));
                ASSERT_TRUE(nonce_memory_contains(f.nonces, "dev_1", "nonce", t[i].until));
                ASSERT_FALSE(nonce_memory_contains(f.nonces, "dev_1", "nonce", t[i].until + 1));
        }
}

TEST(targets) {
        static const struct {
                const char *target, *signed_as;
        } t[] = {
                { "/v1/agents?", "/v1/agents" },
                { "/v1/agents?a=%2F", "/v1/agents?a=%2F" },
                { "/v1/agents??", "/v1/agents??" },
                { "http://127.0.0.1:63387/v1/agents?x", "/v1/agents?x" },
                { "HTTP://localhost/v1/agents?", "/v1/agents" },
                { "/v1/x?u=http://h/v1/info", "/v1/x?u=http://h/v1/info" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                FIXTURE(f);
                BridgeRequest q = request_for(&f, t[i].target, t[i].signed_as);
                BridgeRefusal refusal = {};

                ASSERT_OK(bridge_request_verify(&q, &f.paired, f.nonces, &refusal));
        }
}

TEST(access) {
        static const struct {
                const char *method, *target;
                BridgeAccess access;
        } t[] = {
                { "GET", "/v1/info", BRIDGE_PUBLIC },
                { "DELETE", "/v1/info?x=1", BRIDGE_PUBLIC },
                { "GET", "http://127.0.0.1:63387/v1/info", BRIDGE_PUBLIC },
                { "GET", "/v1/info/", BRIDGE_SIGNED },
                { "GET", "//v1/info", BRIDGE_SIGNED },
                { "GET", "/v1/%69nfo", BRIDGE_SIGNED },
                { "GET", "/v1/infox", BRIDGE_SIGNED },
                { "GET", "/x?://a/v1/info", BRIDGE_SIGNED },
                { "GET", "x?://a/v1/info", BRIDGE_SIGNED },
                { "GET", "", BRIDGE_SIGNED },
                { "GET", "http://", BRIDGE_SIGNED },
                { "POST", "/v1/pair", BRIDGE_PAIR },
                { "POST", "/v1/pair?a", BRIDGE_PAIR },
                { "post", "/v1/pair", BRIDGE_SIGNED },
                { "PUT", "/v1/pair", BRIDGE_SIGNED },
                { "POST", "/v1/pair/", BRIDGE_SIGNED },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                FIXTURE(f);
                BridgeRequest q = request_for(&f, t[i].target, "/");
                BridgeAccess access = _BRIDGE_ACCESS_MAX;
                BridgeRefusal refusal = {};
                int r;

                q.method = t[i].method;
                r = bridge_request_admit(&q, NULL, f.nonces, &access, &refusal);
                if (t[i].access == BRIDGE_SIGNED)
                        assert_refused(r, &refusal, 401, "not paired");
                else {
                        ASSERT_OK(r);
                        ASSERT_EQ(access, t[i].access);
                }
        }
}

TEST(pairing_files) {
#define KEYS "\"root_public_key\":\"r\",\"device_signing_public_key\":\"d\",\"identity_cert\":{},\"device_cert\":{}"
        static const struct {
                const char *text, *error;       /* of a signed request */
        } t[] = {
                { "{\"slug\":\"alice-0001\",\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":1}",
                  "paired device pubkey corrupt" },
                { "{\"slug\":\"alice-0001\",\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":null}", "not paired" },
                { "{\"slug\":\"alice-0001\",\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":\"now\"}", "not paired" },
                { "{\"slug\":\"alice-0001\"," KEYS ",\"paired_at\":1}", "not paired" },
                { "{\"slug\":null,\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":1}", "not the paired identity" },
                { "{\"slug\":\"alice-0001\\u0000\",\"device_id\":\"dev_1\"," KEYS ",\"paired_at\":1}",
                  "not the paired identity" },
                { "[]", "not paired" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                FIXTURE(f);
                BridgeRequest q = request_for(&f, "/", "/");
                BridgeRefusal refusal = {};
                BridgePairing p;
                int paired;

                ASSERT_OK(signed_document_parse(&d, t[i].text, strlen(t[i].text)));
                paired = bridge_pairing_read(signed_document_root(d), &p);
                assert_refused(bridge_request_verify(&q, paired > 0 ? &p : NULL, f.nonces, &refusal), &refusal, 401,
                               t[i].error);
        }
}

/* R9: a key of another length is corrupt too. */
TEST(short_device_key) {
        FIXTURE(f);
        BridgeRequest q = request_for(&f, "/", "/");
        BridgeRefusal refusal = {};

        f.paired.device_signing_public_key = "AAAA";
        assert_refused(bridge_request_verify(&q, &f.paired, f.nonces, &refusal), &refusal, 401,
                       "paired device pubkey corrupt");
        f.paired.device_signing_public_key = NULL;
        assert_refused(bridge_request_verify(&q, &f.paired, f.nonces, &refusal), &refusal, 401,
                       "paired device pubkey corrupt");
}

TEST(quoted_values) {
        static const struct {
                const char *type, *error;
        } t[] = {
                { "\"agent\"", "unexpected cert_type 'agent'" },
                { "\"it's\"", "unexpected cert_type \"it's\"" },
                { "\"it's \\\"\"", "unexpected cert_type 'it\\'s \"'" },
                { "\"a\\nb\\u0000\\u001b\\\\\"", "unexpected cert_type 'a\\nb\\x00\\x1b\\\\'" },
                { "\"caf\xc3\xa9\"", "unexpected cert_type 'caf\xc3\xa9'" },
                { "null", "unexpected cert_type None" },
                { "true", "unexpected cert_type True" },
                { "5", "unexpected cert_type 5" },
                { "[1,\"a\"]", "unexpected cert_type [1,\"a\"]" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_free_ char *text = strjoin("{\"type\":", t[i].type, "}"), *error = NULL;
                uint8_t key[KEY_SIZE];

                ASSERT_OK(signed_document_parse(&d, text, strlen(text)));
                ASSERT_ERROR(identity_cert_check(signed_document_root(d), key, &error), EBADMSG);
                ASSERT_STREQ(error, t[i].error);
        }
}

/* An attestation's keys and signature of any size are compared, not measured. */
TEST(attestation_sizes) {
        static const struct {
                const char *operator, *agent, *signature, *error;
        } t[] = {
                { "AAAA", "AAAA", "AAAA", "attestation.operator_root_public_key != paired user" },
                { NULL, "AAAA", "AAAA", "attestation.agent_root_public_key != agent identity_cert" },
                { NULL, NULL, "AAAA", "attestation signature verification failed" },
                { NULL, NULL, "", "attestation signature verification failed" },
                { NULL, NULL, "A", "attestation field decode: not base64url" },
                { "!", NULL, "A", "attestation field decode: not base64url" },
        };
        _cleanup_free_ char *key_text = NULL;
        uint8_t key[KEY_SIZE];

        ASSERT_OK(crypto_init());
        sign_public_key(root_seed, key);
        key_text = base64url_encode(key, KEY_SIZE);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_free_ char *error = NULL, *text = strjoin(
                                "{\"type\":\"operator_attestation\",\"operator_root_public_key\":\"",
                                t[i].operator ?: key_text, "\",\"agent_root_public_key\":\"", t[i].agent ?: key_text,
                                "\",\"signature\":\"", t[i].signature, "\"}");

                ASSERT_OK(signed_document_parse(&d, text, strlen(text)));
                ASSERT_ERROR(operator_attestation_check(signed_document_root(d), key, key, &error), EBADMSG);
                ASSERT_STREQ(error, t[i].error);
        }
}

#define TEST_SUITE "bridge-auth"
TEST_MAIN();
