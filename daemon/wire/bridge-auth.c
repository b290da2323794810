/* SPDX-License-Identifier: MIT */

#include "base64url.h"
#include "bridge-auth.h"
#include "certificate.h"
#include "request-signing.h"

#define PATH_INFO "/v1/info"
#define PATH_PAIR "/v1/pair"

void bridge_refusal_done(BridgeRefusal *refusal) {
        free(refusal->error);
        *refusal = (BridgeRefusal) {};
}

void bridge_offer_done(BridgeOffer *o) {
        signed_document_free(o->document);
        *o = (BridgeOffer) {};
}

static int refuse_take(BridgeRefusal *reterr, unsigned status, char *error) {
        if (!error)
                return -ENOMEM;
        *reterr = (BridgeRefusal) { status, error };
        return -EACCES;
}

static int refuse(BridgeRefusal *reterr, unsigned status, const char *error) {
        return refuse_take(reterr, status, strdup(error));
}

/* What a check of another module said, with a prefix. */
static int refuse_because(BridgeRefusal *reterr, unsigned status, const char *prefix, int r, const char *error) {
        return r == -ENOMEM ? r : refuse_take(reterr, status, strjoin(prefix, error));
}

static const char* header(const BridgeRequest *q, const char *name) {
        return q->header(q->userdata, name);
}

/* Path and query of the request target: the absolute form has scheme and host in front. */
static const char* origin_form(const char *target) {
        const size_t scheme = strspn(target, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-.");
        const char *host = scheme > 0 ? startswith(target + scheme, "://") : NULL;

        return host ? host + strcspn(host, "/?#") : target;
}

static bool path_is(const BridgeRequest *q, const char *path) {
        const char *target = origin_form(q->target);
        size_t n = strcspn(target, "?#");

        return n == strlen(path) && memcmp(target, path, n) == 0;
}

/* What is signed of the target: a question mark with nothing behind it is not. NULL when out of memory. */
static char* signed_target(const BridgeRequest *q) {
        const char *target = origin_form(q->target), *mark = strchr(target, '?');

        return memdup0(target, mark && !mark[1] ? (size_t) (mark - target) : strlen(target));
}

int bridge_pairing_read(const SignedValue *file, BridgePairing *ret) {
        static const char *const names[] = {
                "slug", "device_id", "root_public_key", "device_signing_public_key", "identity_cert", "device_cert",
        };
        int64_t paired_at;

        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (!signed_get(file, names[i]))
                        return 0;
        if (signed_get_int(file, "paired_at", &paired_at) < 0)
                return 0;

        *ret = (BridgePairing) {
                .slug = signed_get_string(file, "slug"),
                .device_id = signed_get_string(file, "device_id"),
                .root_public_key = signed_get_string(file, "root_public_key"),
                .device_signing_public_key = signed_get_string(file, "device_signing_public_key"),
        };
        return 1;
}

/* §5.2, step 3, as far as the body. */
static int admit_signed(const BridgeRequest *q, const BridgePairing *paired, NonceMemory *nonces,
                        uint8_t ret_key[KEY_SIZE], BridgeRefusal *reterr) {
        const char *slug = header(q, "x-puffo-slug"), *signer = header(q, "x-puffo-signer-id"),
                   *timestamp = header(q, "x-puffo-timestamp"), *nonce = header(q, "x-puffo-nonce"), *key;

        if (!paired)
                return refuse(reterr, 401, "not paired");
        if (isempty(slug) || isempty(signer) || isempty(timestamp) || isempty(nonce) ||
            isempty(header(q, "x-puffo-signature")))
                return refuse(reterr, 401, "missing x-puffo-* headers");
        if (!streq_ptr(slug, paired->slug) || !streq_ptr(signer, paired->device_id))
                return refuse(reterr, 401, "not the paired identity");
        if (!timestamp_is_fresh(timestamp, q->now_ms))
                return refuse(reterr, 401, "stale or missing timestamp");
        if (nonce_memory_contains(nonces, signer, nonce, q->now_ms))
                return refuse(reterr, 401, "nonce already used");

        key = strempty(paired->device_signing_public_key);
        if (base64url_decode_exact(key, strlen(key), ret_key, KEY_SIZE) < 0)
                return refuse(reterr, 401, "paired device pubkey corrupt");
        return 0;
}

/* §5.2, step 2. */
static int admit_pair(const BridgeRequest *q, BridgeRefusal *reterr) {
        if (!timestamp_is_fresh(strempty(header(q, "x-puffo-timestamp")), q->now_ms))
                return refuse(reterr, 401, "stale or missing x-puffo-timestamp");
        return 0;
}

int bridge_request_admit(const BridgeRequest *q, const BridgePairing *paired, NonceMemory *nonces, BridgeAccess *ret,
                         BridgeRefusal *reterr) {
        uint8_t key[KEY_SIZE];
        BridgeAccess access;
        int r = 0;

        if (path_is(q, PATH_INFO))
                access = BRIDGE_PUBLIC;
        else if (path_is(q, PATH_PAIR) && streq(q->method, "POST")) {
                access = BRIDGE_PAIR;
                r = admit_pair(q, reterr);
        } else {
                access = BRIDGE_SIGNED;
                r = admit_signed(q, paired, nonces, key, reterr);
        }
        if (r < 0)
                return r;

        *ret = access;
        return 0;
}

/* The signature alone. -EBADMSG with *reterr, -ENOMEM. */
static int verify_signature(const BridgeRequest *q, const uint8_t key[KEY_SIZE], char **reterr) {
        _cleanup_free_ char *target = signed_target(q);
        const SignedRequest request = {
                .method = q->method,
                .path = target,
                .timestamp = header(q, "x-puffo-timestamp"),
                .nonce = header(q, "x-puffo-nonce"),
                .body = q->body,
                .body_size = q->body_size,
        };

        return target ? signed_request_verify(&request, header(q, "x-puffo-signature"), key, KEY_SIZE, reterr)
                      : -ENOMEM;
}

/* Once all else is known to be good: from here on the request cannot come again while it is fresh. */
static int use_nonce(const BridgeRequest *q, NonceMemory *nonces, BridgeRefusal *reterr) {
        uint64_t timestamp;
        int r;

        r = parse_u64(header(q, "x-puffo-timestamp"), &timestamp);
        if (r < 0)
                return r;
        r = nonce_memory_record(nonces, header(q, "x-puffo-signer-id"), header(q, "x-puffo-nonce"),
                                MAX((int64_t) timestamp, q->now_ms) + TIMESTAMP_SKEW_MS, q->now_ms);
        return r == -EEXIST ? refuse(reterr, 401, "nonce already used") : r;
}

int bridge_request_verify(const BridgeRequest *q, const BridgePairing *paired, NonceMemory *nonces,
                          BridgeRefusal *reterr) {
        _cleanup_free_ char *error = NULL;
        uint8_t key[KEY_SIZE];
        int r;

        r = admit_signed(q, paired, nonces, key, reterr);
        if (r < 0)
                return r;
        r = verify_signature(q, key, &error);
        if (r < 0)
                return refuse_because(reterr, 401, "", r, error);
        return use_nonce(q, nonces, reterr);
}

static const SignedValue* get_object(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_OBJECT ? v : NULL;
}

/* §7.2, checks 2–7. */
static int read_offer(const BridgeRequest *q, BridgeOffer *o, BridgeRefusal *reterr) {
        _cleanup_free_ char *error = NULL;
        const SignedValue *root, *binding;
        int r;

        r = signed_document_parse(&o->document, q->body, q->body_size);
        if (r < 0)
                return r == -ENOMEM ? r : refuse(reterr, 400, "body must be JSON");

        root = signed_document_root(o->document);
        binding = get_object(root, "slug_binding");
        o->identity_cert = get_object(root, "identity_cert");
        o->device_cert = get_object(root, "device_cert");
        if (!o->identity_cert || !o->device_cert || !binding)
                return refuse(reterr, 400, "identity_cert, device_cert, and slug_binding all required");

        r = identity_cert_check(o->identity_cert, o->root, &error);
        if (r < 0)
                return refuse_because(reterr, 400, "identity_cert: ", r, error);
        r = device_cert_check(o->device_cert, o->root, o->device_signing, &error);
        if (r < 0)
                return refuse_because(reterr, 400, "device_cert: ", r, error);
        r = slug_binding_check(binding, o->root, &o->slug, &error);
        if (r < 0)
                return refuse_because(reterr, 400, "slug_binding: ", r, error);
        if (!streq_ptr(signed_get_string(o->identity_cert, "identity_type"), "human"))
                return refuse(reterr, 400, "identity_type must be 'human'");

        o->device_id = signed_get_string(o->device_cert, "device_id");
        return 0;
}

int bridge_request_pair(const BridgeRequest *q, NonceMemory *nonces, BridgeOffer *ret, BridgeRefusal *reterr) {
        _cleanup_(bridge_offer_done) BridgeOffer o = {};
        _cleanup_free_ char *error = NULL;
        int r;

        r = admit_pair(q, reterr);
        if (r >= 0)
                r = read_offer(q, &o, reterr);
        if (r < 0)
                return r;

        /* Check 10, freshness once more, cannot fail here: it is the same moment. */
        if (!streq_ptr(o.slug, header(q, "x-puffo-slug")))
                return refuse(reterr, 400, "slug_binding.slug does not match x-puffo-slug");
        if (!streq_ptr(o.device_id, header(q, "x-puffo-signer-id")))
                return refuse(reterr, 400, "device_cert.device_id does not match x-puffo-signer-id");
        if (isempty(header(q, "x-puffo-nonce")) || isempty(header(q, "x-puffo-signature")))
                return refuse(reterr, 400, "missing x-puffo-nonce or x-puffo-signature");
        r = verify_signature(q, o.device_signing, &error);
        if (r < 0)
                return refuse_because(reterr, 400, "signature: ", r, error);
        r = use_nonce(q, nonces, reterr);
        if (r < 0)
                return r;

        *ret = o;
        o = (BridgeOffer) {};
        return 0;
}

static int put_key(SignedDocument *d, SignedValue *o, const char *name, const uint8_t key[KEY_SIZE]) {
        _cleanup_free_ char *text = base64url_encode(key, KEY_SIZE);

        return text ? signed_put(d, o, name, signed_string(d, text)) : -ENOMEM;
}

int bridge_offer_to_pairing(const BridgeOffer *o, int64_t paired_at_ms, SignedDocument *d, SignedValue **ret) {
        SignedValue *p = signed_object(d);
        int r;

        r = signed_put(d, p, "slug", signed_string(d, o->slug));
        if (r >= 0)
                r = signed_put(d, p, "device_id", signed_string(d, o->device_id));
        if (r >= 0)
                r = put_key(d, p, "root_public_key", o->root);
        if (r >= 0)
                r = put_key(d, p, "device_signing_public_key", o->device_signing);
        if (r >= 0)
                r = signed_put(d, p, "identity_cert", signed_copy(d, o->identity_cert));
        if (r >= 0)
                r = signed_put(d, p, "device_cert", signed_copy(d, o->device_cert));
        if (r >= 0)
                r = signed_put(d, p, "paired_at", signed_int(d, paired_at_ms));
        if (r < 0)
                return r;

        *ret = p;
        return 0;
}
