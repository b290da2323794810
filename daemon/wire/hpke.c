/* SPDX-License-Identifier: MIT */

#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sodium.h>

#include "hpke.h"

#define HASH_SIZE 32U
#define VERSION_LABEL "HPKE-v1"

static const uint8_t kem_suite[] = { 'K', 'E', 'M', 0x00, 0x20 };
static const uint8_t schedule_suite[] = { 'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01, 0x00, 0x03 };

/* Looking the algorithm up costs more than using it: done once. */
static EVP_KDF *hkdf;

int hpke_init(void) {
        if (!hkdf)
                hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
        return hkdf ? 0 : -EIO;
}

/* salt for extracting, info for expanding; the other is NULL. */
static int run_hkdf(int mode, const void *key, size_t key_size, const void *salt, size_t salt_size, const void *info,
                    size_t info_size, uint8_t *ret, size_t size) {
        static const char digest[] = "SHA256";
        EVP_KDF_CTX *c = EVP_KDF_CTX_new(hkdf);
        OSSL_PARAM params[] = {
                OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
                OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char*) digest, 0),
                OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void*) key, key_size),
                OSSL_PARAM_construct_end(),
                OSSL_PARAM_construct_end(),
        };
        int ok;

        if (!c)
                return -ENOMEM;
        if (salt && salt_size > 0)
                params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void*) salt, salt_size);
        else if (info)
                params[3] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void*) info, info_size);

        ok = EVP_KDF_derive(c, ret, size, params);
        EVP_KDF_CTX_free(c);
        return ok == 1 ? 0 : -EIO;
}

static uint8_t* put(uint8_t *w, const void *data, size_t size) {
        if (size > 0)
                memcpy(w, data, size);
        return w + size;
}

/* RFC 9180 §4, LabeledExtract. */
static int labeled_extract(const uint8_t *suite, size_t suite_size, const void *salt, size_t salt_size,
                           const char *label, const void *ikm, size_t ikm_size, uint8_t ret[HASH_SIZE]) {
        uint8_t *buffer, *w;
        size_t size = strlen(VERSION_LABEL) + suite_size + strlen(label) + ikm_size;
        int r;

        buffer = w = malloc(size);
        if (!buffer)
                return -ENOMEM;
        w = put(w, VERSION_LABEL, strlen(VERSION_LABEL));
        w = put(w, suite, suite_size);
        w = put(w, label, strlen(label));
        w = put(w, ikm, ikm_size);

        r = run_hkdf(EVP_KDF_HKDF_MODE_EXTRACT_ONLY, buffer, size, salt, salt_size, NULL, 0, ret, HASH_SIZE);
        sodium_memzero(buffer, size);
        free(buffer);
        return r;
}

/* RFC 9180 §4, LabeledExpand. */
static int labeled_expand(const uint8_t *suite, size_t suite_size, const uint8_t prk[HASH_SIZE], const char *label,
                          const void *info, size_t info_size, uint8_t *ret, size_t size) {
        uint8_t *buffer, *w, length[2] = { (uint8_t) (size >> 8), (uint8_t) size };
        size_t total = 2 + strlen(VERSION_LABEL) + suite_size + strlen(label) + info_size;
        int r;

        buffer = w = malloc(total);
        if (!buffer)
                return -ENOMEM;
        w = put(w, length, sizeof(length));
        w = put(w, VERSION_LABEL, strlen(VERSION_LABEL));
        w = put(w, suite, suite_size);
        w = put(w, label, strlen(label));
        w = put(w, info, info_size);

        r = run_hkdf(EVP_KDF_HKDF_MODE_EXPAND_ONLY, prk, HASH_SIZE, NULL, 0, buffer, total, ret, size);
        free(buffer);
        return r;
}

void hpke_context_done(HpkeContext *c) {
        sodium_memzero(c, sizeof(*c));
}

/* RFC 9180 §4.1 ExtractAndExpand, then §5.1 KeySchedule in base mode. */
static int key_schedule(const uint8_t dh[KEY_SIZE], const uint8_t enc[KEY_SIZE], const uint8_t recipient[KEY_SIZE],
                        const void *info, size_t info_size, HpkeContext *ret) {
        uint8_t kem_context[2 * KEY_SIZE], prk[HASH_SIZE], context[1 + 2 * HASH_SIZE] = { 0x00 }, secret[HASH_SIZE];
        const uint8_t *s = schedule_suite;
        const size_t n = sizeof(schedule_suite);
        int r;

        (void) put(put(kem_context, enc, KEY_SIZE), recipient, KEY_SIZE);
        r = labeled_extract(kem_suite, sizeof(kem_suite), NULL, 0, "eae_prk", dh, KEY_SIZE, prk);
        if (r >= 0)
                r = labeled_expand(kem_suite, sizeof(kem_suite), prk, "shared_secret", kem_context,
                                   sizeof(kem_context), ret->shared_secret, sizeof(ret->shared_secret));
        if (r >= 0)
                r = labeled_extract(s, n, NULL, 0, "psk_id_hash", NULL, 0, context + 1);
        if (r >= 0)
                r = labeled_extract(s, n, NULL, 0, "info_hash", info, info_size, context + 1 + HASH_SIZE);
        if (r >= 0)
                r = labeled_extract(s, n, ret->shared_secret, sizeof(ret->shared_secret), "secret", NULL, 0, secret);
        if (r >= 0)
                r = labeled_expand(s, n, secret, "key", context, sizeof(context), ret->key, sizeof(ret->key));
        if (r >= 0)
                r = labeled_expand(s, n, secret, "base_nonce", context, sizeof(context), ret->base_nonce,
                                   sizeof(ret->base_nonce));
        if (r >= 0)
                r = labeled_expand(s, n, secret, "exp", context, sizeof(context), ret->exporter_secret,
                                   sizeof(ret->exporter_secret));

        sodium_memzero(prk, sizeof(prk));
        sodium_memzero(secret, sizeof(secret));
        return r;
}

int hpke_setup_sender(const uint8_t recipient[KEY_SIZE], const uint8_t ephemeral[KEY_SIZE], const void *info,
                      size_t info_size, uint8_t ret_enc[KEY_SIZE], HpkeContext *ret) {
        uint8_t dh[KEY_SIZE];
        int r;

        (void) crypto_scalarmult_base(ret_enc, ephemeral);
        if (crypto_scalarmult(dh, ephemeral, recipient) < 0) /* all zero: a low-order key */
                return -EBADMSG;

        r = key_schedule(dh, ret_enc, recipient, info, info_size, ret);
        sodium_memzero(dh, sizeof(dh));
        return r;
}

int hpke_setup_receiver(const uint8_t secret[KEY_SIZE], const uint8_t *enc, size_t enc_size, const void *info,
                        size_t info_size, HpkeContext *ret) {
        uint8_t dh[KEY_SIZE], recipient[KEY_SIZE];
        int r;

        if (enc_size != KEY_SIZE || crypto_scalarmult(dh, secret, enc) < 0)
                return -EBADMSG;

        (void) crypto_scalarmult_base(recipient, secret);
        r = key_schedule(dh, enc, recipient, info, info_size, ret);
        sodium_memzero(dh, sizeof(dh));
        return r;
}

static void context_nonce(const HpkeContext *c, uint64_t sequence, uint8_t ret[AEAD_NONCE_SIZE]) {
        memcpy(ret, c->base_nonce, AEAD_NONCE_SIZE);
        for (unsigned i = 0; i < 8; i++)
                ret[AEAD_NONCE_SIZE - 1 - i] ^= (uint8_t) (sequence >> (8 * i));
}

void hpke_context_seal(const HpkeContext *c, uint64_t sequence, const void *aad, size_t aad_size, const void *plain,
                       size_t size, uint8_t *ret) {
        uint8_t nonce[AEAD_NONCE_SIZE];

        context_nonce(c, sequence, nonce);
        aead_seal(c->key, nonce, aad, aad_size, plain, size, ret);
}

int hpke_context_open(const HpkeContext *c, uint64_t sequence, const void *aad, size_t aad_size, const void *sealed,
                      size_t size, uint8_t *ret) {
        uint8_t nonce[AEAD_NONCE_SIZE];

        context_nonce(c, sequence, nonce);
        return aead_open(c->key, nonce, aad, aad_size, sealed, size, ret);
}

int hpke_context_export(const HpkeContext *c, const void *context, size_t context_size, uint8_t *ret, size_t size) {
        return labeled_expand(schedule_suite, sizeof(schedule_suite), c->exporter_secret, "sec", context, context_size,
                              ret, size);
}

int hpke_seal(const uint8_t recipient[KEY_SIZE], const uint8_t *ephemeral, const char *info, const void *aad,
              size_t aad_size, const void *plain, size_t size, uint8_t ret_enc[KEY_SIZE], uint8_t *ret) {
        _cleanup_(hpke_context_done) HpkeContext c = {};
        uint8_t fresh[KEY_SIZE];
        int r;

        if (!ephemeral)
                randombytes_buf(fresh, sizeof(fresh));
        r = hpke_setup_sender(recipient, ephemeral ?: fresh, info, strlen(info), ret_enc, &c);
        sodium_memzero(fresh, sizeof(fresh));
        if (r < 0)
                return r;

        hpke_context_seal(&c, 0, aad, aad_size, plain, size, ret);
        return 0;
}

int hpke_open(const uint8_t secret[KEY_SIZE], const uint8_t *enc, size_t enc_size, const char *info, const void *aad,
              size_t aad_size, const void *sealed, size_t size, uint8_t *ret) {
        _cleanup_(hpke_context_done) HpkeContext c = {};
        int r = hpke_setup_receiver(secret, enc, enc_size, info, strlen(info), &c);

        if (r < 0)
                return r;
        return hpke_context_open(&c, 0, aad, aad_size, sealed, size, ret);
}
