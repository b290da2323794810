/* SPDX-License-Identifier: MIT */

/* The local bridge: signed requests, the certificates of pairing, and whole conversations as far as they are decided
 * before a route is looked for. */

#include <stdio.h>

#include "base64url.h"
#include "bridge-auth.h"
#include "certificate.h"
#include "request-signing.h"
#include "vector.h"

static const SignedValue* identity_of(const char *name) {
        return signed_get(signed_get(vector_file_root, "identities"), name);
}

static bool key_of(const char *identity, const char *which, uint8_t ret[KEY_SIZE]) {
        return vector_field(identity_of(identity), which, ret, KEY_SIZE);
}

static const char* run_canonical(const SignedValue *c) {
        const SignedValue *text = signed_get(c, "canonical_text");
        _cleanup_(strbuf_done) StrBuf ours = {};

        if (!text || canonical_format_for_signing(signed_get(c, "object"), CANONICAL_COMPAT, &ours) < 0)
                return "failed";
        return ours.size == text->size && memcmp(ours.text, text->text, ours.size) == 0 ? NULL : "other text";
}

static SignedRequest request_of(const SignedValue *c, const Bytes *body) {
        return (SignedRequest) {
                .method = vector_text(c, "method"),
                .path = vector_text(c, "target"),
                .timestamp = vector_text(c, "timestamp"),
                .nonce = vector_text(c, "nonce"),
                .body = body->data,
                .body_size = body->size,
        };
}

static const char* run_sign(const SignedValue *c) {
        _cleanup_bytes_ Bytes body = {}, message = {};
        _cleanup_(strbuf_done) StrBuf ours = {};
        _cleanup_free_ char *signature = NULL;
        uint8_t seed[KEY_SIZE];
        SignedRequest q;

        if (!vector_bytes(c, "body_b64", &body) || !vector_bytes(c, "message_b64", &message) ||
            !key_of(vector_text(c, "signer"), "device_signing_secret_key", seed))
                return "incomplete";
        q = request_of(c, &body);
        if (signed_request_format(&q, &ours) < 0 || signed_request_sign(&q, seed, &signature) < 0)
                return "failed";
        if (!bytes_equal(&message, ours.text, ours.size))
                return "other bytes";
        return streq(signature, vector_text(signed_get(c, "headers"), "x-puffo-signature")) ? NULL : "other signature";
}

static const char* compare_outcome(const SignedValue *c, int r, const char *error) {
        if (vector_true(c, "ok"))
                return r >= 0 ? NULL : "refused";
        if (r >= 0)
                return "accepted";
        return r == -EBADMSG && vector_error_matches(vector_text(c, "error"), error) ? NULL : "other error text";
}

static const char* run_verify(const SignedValue *c) {
        _cleanup_bytes_ Bytes body = {}, key = {};
        _cleanup_free_ char *error = NULL;
        SignedRequest q;
        int r;

        if (!vector_bytes(c, "body_b64", &body) || !vector_bytes(c, "public_key", &key))
                return "incomplete";
        q = request_of(c, &body);
        r = signed_request_verify(&q, vector_text(c, "signature"), key.data, key.size, &error);
        return compare_outcome(c, r, error);
}

static const char* run_timestamp(const SignedValue *c) {
        int64_t now;

        if (signed_get_int(c, "now_ms", &now) < 0)
                return "incomplete";
        return timestamp_is_fresh(vector_text(c, "value"), now) == vector_true(c, "fresh") ? NULL : "other answer";
}

static const char* compare_key(const SignedValue *c, const uint8_t key[KEY_SIZE]) {
        uint8_t expected[KEY_SIZE];

        return vector_field(c, "result", expected, KEY_SIZE) && memcmp(key, expected, KEY_SIZE) == 0 ? NULL
                                                                                                     : "other key";
}

static const char* run_certificate(const SignedValue *c) {
        const SignedValue *cert = signed_get(c, "input");
        uint8_t alice[KEY_SIZE], helper[KEY_SIZE], key[KEY_SIZE];
        const char *kind = vector_text(c, "kind"), *slug = NULL, *problem;
        _cleanup_free_ char *error = NULL;
        int r;

        if (!key_of("alice", "root_public_key", alice) || !key_of("helper", "root_public_key", helper))
                return "incomplete";

        if (streq(kind, "operator_attestation (agent = helper, operator = alice)")) {
                r = operator_attestation_check(cert, helper, alice, &error);
                return compare_outcome(c, r, error);
        }
        if (streq(kind, "slug_binding (root = alice)")) {
                r = slug_binding_check(cert, alice, &slug, &error);
                problem = compare_outcome(c, r, error);
                return problem || r < 0 ? problem : streq(slug, vector_text(c, "result")) ? NULL : "other slug";
        }
        if (streq(kind, "identity_cert"))
                r = identity_cert_check(cert, key, &error);
        else if (streq(kind, "device_cert (root = alice)"))
                r = device_cert_check(cert, alice, key, &error);
        else
                return "unknown kind";
        problem = compare_outcome(c, r, error);
        return problem || r < 0 ? problem : compare_key(c, key);
}

/* --- whole conversations --- */

typedef struct Bridge {
        NonceMemory *nonces;
        SignedDocument *pairing_file;   /* NULL: there is none, or none that is JSON */
} Bridge;

static void bridge_done(Bridge *b) {
        nonce_memory_free(b->nonces);
        signed_document_free(b->pairing_file);
}

static const BridgePairing* bridge_paired(const Bridge *b, BridgePairing *buffer) {
        return b->pairing_file && bridge_pairing_read(signed_document_root(b->pairing_file), buffer) > 0 ? buffer
                                                                                                          : NULL;
}

static const char* header_of(void *userdata, const char *name) {
        return signed_get_string(userdata, name);
}

/* A refusal that is, or is not, the one that is wanted. */
static const char* compare_refusal(const SignedValue *expected, int r, const BridgeRefusal *refusal) {
        int64_t status;

        if (r != -EACCES || signed_get_int(expected, "status", &status) < 0)
                return "failed";
        if (refusal->status != status)
                return "other status";
        return vector_error_matches(vector_text(signed_get(expected, "json"), "error"), refusal->error)
                       ? NULL
                       : "other error text";
}

/* What went through must not be what the authentication was to stop. */
static const char* compare_passed(const SignedValue *expected) {
        int64_t status;

        if (signed_get_int(expected, "status", &status) < 0)
                return "incomplete";
        return status == 200 || status == 404 || status == 405 ? NULL : "let through";
}

static const char* step_info(const Bridge *b, const SignedValue *expected) {
        const SignedValue *json = signed_get(expected, "json");
        BridgePairing buffer;
        const BridgePairing *p = bridge_paired(b, &buffer);

        if (vector_true(json, "paired") != !!p)
                return "pairing is read another way";
        return !p || (streq_ptr(p->slug, signed_get_string(json, "paired_slug")) &&
                      streq_ptr(p->device_id, signed_get_string(json, "paired_device_id")))
                       ? compare_passed(expected)
                       : "other pairing";
}

static const char* step_pair(Bridge *b, const BridgeRequest *q, const SignedValue *expected) {
        _cleanup_(bridge_refusal_done) BridgeRefusal refusal = {};
        _cleanup_(strbuf_done) StrBuf ours = {}, theirs = {};
        _cleanup_(bridge_offer_done) BridgeOffer offer = {};
        SignedDocument *d = NULL;
        SignedValue *file;
        int r;

        r = bridge_request_pair(q, b->nonces, &offer, &refusal);
        if (r < 0)
                return compare_refusal(expected, r, &refusal);
        if (signed_document_new(&d) < 0)
                return "failed";

        /* From text, as it comes from the disk. */
        r = bridge_offer_to_pairing(&offer, q->now_ms, d, &file);
        if (r >= 0)
                r = signed_value_format(file, &ours);
        signed_document_free(d);
        signed_document_free(TAKE_PTR(b->pairing_file));
        if (r < 0 || signed_document_parse(&b->pairing_file, ours.text, ours.size) < 0)
                return "failed";
        if (signed_get(expected, "pairing_json") &&
            (signed_value_format(signed_get(expected, "pairing_json"), &theirs) < 0 || !streq(ours.text, theirs.text)))
                return "other pairing.json";
        return compare_passed(expected);
}

static const char* step_signed(Bridge *b, const BridgeRequest *q, const SignedValue *expected) {
        _cleanup_(bridge_refusal_done) BridgeRefusal refusal = {};
        BridgePairing paired;
        int r = bridge_request_verify(q, bridge_paired(b, &paired), b->nonces, &refusal);

        if (r < 0)
                return compare_refusal(expected, r, &refusal);
        if (streq(q->method, "DELETE") && streq(q->target, "/v1/pairing"))
                b->pairing_file = signed_document_free(b->pairing_file);
        return compare_passed(expected);
}

static const char* run_step(Bridge *b, const SignedValue *step) {
        const SignedValue *request = signed_get(step, "request"),
                          *expected = signed_get(step, "recommended") ?: signed_get(step, "expect");
        _cleanup_(bridge_refusal_done) BridgeRefusal refusal = {};
        _cleanup_bytes_ Bytes body = {};
        BridgePairing paired;
        BridgeAccess access;
        BridgeRequest q;
        int r;

        if (!expected || !vector_bytes(request, "body_b64", &body))
                return "incomplete";
        q = (BridgeRequest) {
                .method = vector_text(request, "method"),
                .target = vector_text(request, "target"),
                .header = header_of,
                .userdata = signed_get(request, "headers"),
                .body = body.data,
                .body_size = body.size,
        };
        if (signed_get_int(step, "now_ms", &q.now_ms) < 0)
                return "incomplete";

        r = bridge_request_admit(&q, bridge_paired(b, &paired), b->nonces, &access, &refusal);
        if (r < 0)
                return compare_refusal(expected, r, &refusal);
        return access == BRIDGE_PUBLIC ? step_info(b, expected)
               : access == BRIDGE_PAIR ? step_pair(b, &q, expected)
                                       : step_signed(b, &q, expected);
}

static const char* run_sequence(const SignedValue *c) {
        static char problem[256];
        bool on_disk = startswith(vector_text(c, "name"), "pairing.json on disk");
        const char *file = vector_text(c, "note");
        _cleanup_(bridge_done) Bridge b = {};

        if (nonce_memory_new(&b.nonces, 0) < 0)
                return "failed";
        if (on_disk)
                (void) signed_document_parse(&b.pairing_file, file, strlen(file));

        for (const SignedValue *step = signed_get(c, "steps")->child; step; step = step->next) {
                const char *p = run_step(&b, step);

                if (p) {
                        (void) snprintf(problem, sizeof(problem), "%s: %s", vector_text(step, "name"), p);
                        return problem;
                }
        }
        return NULL;
}

/* nonce_cache_reference is not run: it describes a memory with known weaknesses, which ours is not. */
static const VectorList bridge_lists[] = {
        { "canonical_signing_input", run_canonical },
        { "sign", run_sign },
        { "verify", run_verify },
        { "timestamp_fresh", run_timestamp },
        { "certs", run_certificate },
        { "http_sequences", run_sequence },
        {},
};

const VectorFile vector_files_bridge[] = {
        { "bridge-auth.json", .lists = bridge_lists },
        {},
};
