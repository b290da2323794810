/* SPDX-License-Identifier: MIT */

#include "base64url.h"
#include "certificate.h"

static int put_key(SignedDocument *d, SignedValue *o, const char *member, const uint8_t key[KEY_SIZE]) {
        _cleanup_free_ char *text = base64url_encode(key, KEY_SIZE);

        return text ? signed_put(d, o, member, signed_string(d, text)) : -ENOMEM;
}

static int put_text(SignedDocument *d, SignedValue *o, const char *member, const char *text) {
        return signed_put(d, o, member, signed_string(d, text));
}

/* What all certificates of the root key begin with. */
static int begin_cert(SignedDocument *d, const char *type, const uint8_t root_seed[KEY_SIZE], SignedValue **ret) {
        SignedValue *o = signed_object(d);
        uint8_t root[KEY_SIZE];
        int r = put_text(d, o, "type", type);

        if (r >= 0)
                r = signed_put(d, o, "version", signed_int(d, 1));
        if (r < 0)
                return r;
        sign_public_key(root_seed, root);
        r = put_key(d, o, "root_public_key", root);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}

int identity_cert_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const uint8_t *operator_root,
                      SignedValue **ret) {
        SignedValue *o = NULL;
        int r = begin_cert(d, "identity_cert", root_seed, &o);

        if (r >= 0)
                r = put_text(d, o, "identity_type", operator_root ? "agent" : "human");
        if (r >= 0)
                r = operator_root ? put_key(d, o, "declared_operator_public_key", operator_root)
                                  : put_text(d, o, "declared_operator_public_key", NULL);
        if (r >= 0)
                r = signed_object_sign(d, o, "self_signature", root_seed);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}

int slug_binding_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const char *slug, int64_t issued_at_ms,
                     SignedValue **ret) {
        SignedValue *o = NULL;
        int r = begin_cert(d, "slug_binding", root_seed, &o);

        if (r >= 0)
                r = put_text(d, o, "slug", slug);
        if (r >= 0)
                r = signed_put(d, o, "issued_at", signed_int(d, issued_at_ms));
        if (r >= 0)
                r = signed_object_sign(d, o, "self_signature", root_seed);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}

static int put_device_key(SignedDocument *d, SignedValue *keys, const char *member, const char *algorithm,
                          const uint8_t key[KEY_SIZE]) {
        SignedValue *o = signed_object(d);
        int r = put_text(d, o, "algorithm", algorithm);

        if (r >= 0)
                r = put_key(d, o, "public_key", key);
        return r < 0 ? r : signed_put(d, keys, member, o);
}

int device_cert_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const char *device_id,
                    const uint8_t signing[KEY_SIZE], const uint8_t kem[KEY_SIZE], int64_t issued_at_ms,
                    SignedValue **ret) {
        SignedValue *o = NULL, *keys = signed_object(d);
        int r = begin_cert(d, "device_cert", root_seed, &o);

        if (r >= 0)
                r = put_text(d, o, "device_id", device_id);
        if (r >= 0)
                r = put_device_key(d, keys, "signing", "ed25519", signing);
        if (r >= 0)
                r = put_device_key(d, keys, "encryption", "x25519", kem);
        if (r >= 0)
                r = signed_put(d, o, "keys", keys);
        if (r >= 0)
                r = signed_put(d, o, "issued_at", signed_int(d, issued_at_ms));
        if (r >= 0)
                r = signed_put(d, o, "expires_at", signed_string(d, NULL));
        if (r >= 0)
                r = signed_object_sign(d, o, "signature", root_seed);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}

int device_revocation_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const char *device_id,
                          int64_t effective_from_ms, int64_t issued_at_ms, SignedValue **ret) {
        SignedValue *o = NULL;
        int r = begin_cert(d, "device_revocation", root_seed, &o);

        if (r >= 0)
                r = put_text(d, o, "device_id", device_id);
        if (r >= 0)
                r = signed_put(d, o, "effective_from", signed_int(d, effective_from_ms));
        if (r >= 0)
                r = signed_put(d, o, "issued_at", signed_int(d, issued_at_ms));
        if (r >= 0)
                r = signed_object_sign(d, o, "signature", root_seed);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}

int subkey_cert_new(SignedDocument *d, const uint8_t device_seed[KEY_SIZE], const char *device_id,
                    const uint8_t subkey[KEY_SIZE], int64_t issued_at_ms, int64_t lifetime_ms, SignedValue **ret) {
        _cleanup_free_ char *id = key_id("sk", subkey), *key = base64url_encode(subkey, KEY_SIZE);
        SignedValue *o = signed_object(d);
        int r;

        if (!id || !key)
                return -ENOMEM;
        r = signed_put(d, o, "type", signed_string(d, "subkey_cert"));
        if (r >= 0)
                r = signed_put(d, o, "version", signed_int(d, 1));
        if (r >= 0)
                r = signed_put(d, o, "subkey_id", signed_string(d, id));
        if (r >= 0)
                r = signed_put(d, o, "device_id", signed_string(d, device_id));
        if (r >= 0)
                r = signed_put(d, o, "subkey_public_key", signed_string(d, key));
        if (r >= 0)
                r = signed_put(d, o, "issued_at", signed_int(d, issued_at_ms));
        if (r >= 0)
                r = signed_put(d, o, "expires_at", signed_int(d, issued_at_ms + lifetime_ms));
        if (r >= 0)
                r = signed_object_sign(d, o, "signature", device_seed);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}
