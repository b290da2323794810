/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "base64url.h"
#include "certificate.h"
#include "fuzz.h"

/* Alice of the vectors, and a key of our own for what gets signed here. */
#define ROOT_KEY "6s8wQzBF4mq34BWACIU26qiRY2LR00bsmWyiBBsAQf8"
#define DEVICE_ID "dev_1"

static const uint8_t own_seed[KEY_SIZE] = { 1 };
static uint8_t root_key[KEY_SIZE], own_key[KEY_SIZE];
static char *own_text;

static void keys_init(void) {
        if (own_text)
                return;
        if (crypto_init() < 0 || base64url_decode_exact(ROOT_KEY, strlen(ROOT_KEY), root_key, KEY_SIZE) < 0)
                abort();
        sign_public_key(own_seed, own_key);
        own_text = base64url_encode(own_key, KEY_SIZE);
        if (!own_text)
                abort();
}

static void check_error(int r, char *error) {
        if (r == -EBADMSG ? isempty(error) : error != NULL)
                abort();
        if (error)
                for (const char *c = error; *c; c++)
                        if (*c == '\n' || *c == '\r' || *c == '\x1b')
                                abort();
        free(error);
}

/* Refused with a reason on one line, or accepted with what it is about. */
static void check_all(const SignedValue *cert, const uint8_t root[KEY_SIZE]) {
        uint8_t key[KEY_SIZE];
        const char *slug = NULL;
        char *error = NULL;
        SubkeyError subkey_error = SUBKEY_OK;
        int r;

        r = identity_cert_check(cert, key, &error);
        check_error(r, error);
        error = NULL;
        r = slug_binding_check(cert, root, &slug, &error);
        check_error(r, error);
        if (r >= 0 && isempty(slug))
                abort();
        error = NULL;
        r = device_cert_check(cert, root, key, &error);
        check_error(r, error);
        if (r >= 0 && isempty(signed_get_string(cert, "device_id")))
                abort();
        error = NULL;
        r = operator_attestation_check(cert, root, root, &error);
        check_error(r, error);

        r = subkey_cert_check(cert, root, DEVICE_ID, 0, key, &subkey_error);
        if (r == -EBADMSG ? subkey_error == SUBKEY_OK || !subkey_error_to_string(subkey_error)
                          : subkey_error != SUBKEY_OK)
                abort();
}

/* The same with our root key in it and signed by it, so that something is behind the signature checks. */
static void check_signed(const SignedValue *cert) {
        static const char *const replaced[] = {
                "root_public_key", "operator_root_public_key", "agent_root_public_key", "signature", "self_signature",
        };
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *o;

        if (signed_document_new(&d) < 0)
                abort();
        o = signed_object(d);
        for (const SignedValue *m = cert->child; m; m = m->next) {
                bool skip = strlen(m->key) != m->key_size || signed_get(o, m->key);

                for (size_t i = 0; i < ELEMENTSOF(replaced) && !skip; i++)
                        skip = streq(m->key, replaced[i]);
                if (!skip && signed_put(d, o, m->key, signed_copy(d, m)) < 0)
                        abort();
        }
        for (size_t i = 0; i < 3; i++)
                if (signed_put(d, o, replaced[i], signed_string(d, own_text)) < 0)
                        abort();
        /* One after the other: neither is part of what the other covers. */
        if (signed_object_sign(d, o, "signature", own_seed) < 0)
                return; /* a number without a finite value */
        if (signed_object_sign(d, o, "self_signature", own_seed) < 0)
                abort();
        check_all(o, own_key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        keys_init();
        if (signed_document_parse(&d, (const char*) data, size) < 0)
                return 0;
        check_all(signed_document_root(d), root_key);
        if (signed_document_root(d)->type == SIGNED_OBJECT)
                check_signed(signed_document_root(d));
        return 0;
}
