/* SPDX-License-Identifier: MIT */

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sodium.h>

#include "hpke.h"

#define HASH_SIZE 32U
#define VERSION_LABEL "HPKE-v1"
#define INFO_MAX 64U

typedef struct Part {
        const void *data;
        size_t size;
} Part;

static const uint8_t kem_suite[] = { 'K', 'E', 'M', 0x00, 0x20 };
static const uint8_t schedule_suite[] = { 'H', 'P', 'K', 'E', 0x00, 0x20, 0x00, 0x01, 0x00, 0x03 };

#define KEM_SUITE ((Part) { kem_suite, sizeof(kem_suite) })
#define SCHEDULE_SUITE ((Part) { schedule_suite, sizeof(schedule_suite) })

/* Finding HMAC and SHA-256 costs more than using them: done once. A context remembers its last key. Between two uses
 * of this room that is no_salt, so that no secret stays in it, and the next extraction need not set it. */
static EVP_MAC_CTX *hmac;
static const uint8_t no_salt[HASH_SIZE];

static int hmac_forget(void) {
        return EVP_MAC_init(hmac, no_salt, HASH_SIZE, NULL) == 1 ? 0 : -EIO;
}

int hpke_init(void) {
        static char digest[] = "SHA256";
        const OSSL_PARAM params[] = {
                OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                OSSL_PARAM_construct_end(),
        };
        EVP_MAC *algorithm;

        if (hmac)
                return 0;
        algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
        hmac = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
        EVP_MAC_free(algorithm);
        if (hmac && (EVP_MAC_CTX_set_params(hmac, params) != 1 || hmac_forget() < 0)) {
                EVP_MAC_CTX_free(hmac);
                hmac = NULL;
        }
        return hmac ? 0 : -EIO;
}

/* What fits goes in at once: a call costs as much as hashing some dozens of bytes. */
static int hmac_update(const Part *parts, size_t n) {
        uint8_t joined[256];
        size_t size = 0, used = 0;
        bool done = true;

        for (size_t i = 0; i < n && done; i++) {
                if (parts[i].size > sizeof(joined) - size) {
                        done = EVP_MAC_update(hmac, joined, size) == 1;
                        size = 0;
                }
                if (parts[i].size > sizeof(joined))
                        done = done && EVP_MAC_update(hmac, parts[i].data, parts[i].size) == 1;
                else if (parts[i].size > 0) {
                        memcpy(joined + size, parts[i].data, parts[i].size);
                        size += parts[i].size;
                        used = MAX(used, size);
                }
        }
        done = done && EVP_MAC_update(hmac, joined, size) == 1;
        sodium_memzero(joined, used);
        return done ? 0 : -EIO;
}

/* key NULL: that of the call before. */
static int hmac_sha256(const uint8_t *key, const Part *parts, size_t n, uint8_t ret[HASH_SIZE]) {
        size_t size;

        if (EVP_MAC_init(hmac, key, key ? HASH_SIZE : 0, NULL) != 1 || hmac_update(parts, n) < 0)
                return -EIO;
        return EVP_MAC_final(hmac, ret, &size, HASH_SIZE) == 1 ? 0 : -EIO;
}

static Part label_part(const char *label) {
        return (Part) { label, strlen(label) };
}

/* RFC 9180 §4, LabeledExtract, with RFC 5869 §2.2. salt NULL: none, which is as good as zeros; no other key may have
 * been used since hmac_forget(). */
static int labeled_extract(Part suite, const uint8_t *salt, const char *label, Part ikm, uint8_t ret[HASH_SIZE]) {
        const Part parts[] = { label_part(VERSION_LABEL), suite, label_part(label), ikm };

        return hmac_sha256(salt, parts, ELEMENTSOF(parts), ret);
}

/* RFC 9180 §4, LabeledExpand, with RFC 5869 §2.3. prk NULL: that of the call before. */
static int labeled_expand(Part suite, const uint8_t *prk, const char *label, Part info, uint8_t *ret,
                          size_t size) {
        const uint8_t length[] = { (uint8_t) (size >> 8), (uint8_t) size };
        uint8_t block[HASH_SIZE], counter = 0;
        int r = 0;

        if (size > 255 * HASH_SIZE)
                return -EIO;
        for (size_t done = 0; done < size && r >= 0; done += HASH_SIZE) {
                const Part parts[] = {
                        { block, done > 0 ? HASH_SIZE : 0 },
                        { length, sizeof(length) },
                        label_part(VERSION_LABEL),
                        suite,
                        label_part(label),
                        info,
                        { &counter, 1 },
                };

                counter++;
                r = hmac_sha256(done == 0 ? prk : NULL, parts, ELEMENTSOF(parts), block);
                memcpy(ret + done, block, MIN(size - done, (size_t) HASH_SIZE));
        }
        sodium_memzero(block, sizeof(block));
        return r;
}

void hpke_context_done(HpkeContext *c) {
        sodium_memzero(c, sizeof(*c));
}

/* key_schedule_context of RFC 9180 §5.1 in base mode. It says only what a key is for, and that is nearly always the
 * same: the last one is kept. */
static int schedule_context(Part info, uint8_t ret[1 + 2 * HASH_SIZE]) {
        static uint8_t last[1 + 2 * HASH_SIZE], last_info[INFO_MAX];
        static size_t last_size = SIZE_MAX;
        int r;

        if (info.size != last_size || (info.size > 0 && memcmp(info.data, last_info, info.size) != 0)) {
                last_size = SIZE_MAX;
                last[0] = 0x00;
                r = labeled_extract(SCHEDULE_SUITE, NULL, "psk_id_hash", (Part) { "", 0 }, last + 1);
                if (r >= 0)
                        r = labeled_extract(SCHEDULE_SUITE, NULL, "info_hash", info, last + 1 + HASH_SIZE);
                if (r < 0)
                        return r;
                if (info.size > 0 && info.size <= INFO_MAX)
                        memcpy(last_info, info.data, info.size);
                if (info.size <= INFO_MAX)
                        last_size = info.size;
        }

        memcpy(ret, last, sizeof(last));
        return 0;
}

/* RFC 9180 §4.1 ExtractAndExpand, then §5.1 KeySchedule in base mode. exporter: whether its secret is wanted. */
static int key_schedule(const uint8_t dh[KEY_SIZE], const uint8_t enc[KEY_SIZE], const uint8_t recipient[KEY_SIZE],
                        Part info, bool exporter, HpkeContext *ret) {
        uint8_t kem_context[2 * KEY_SIZE], prk[HASH_SIZE], schedule[1 + 2 * HASH_SIZE], secret[HASH_SIZE];
        const Part context = { schedule, sizeof(schedule) };
        int r;

        memcpy(kem_context, enc, KEY_SIZE);
        memcpy(kem_context + KEY_SIZE, recipient, KEY_SIZE);
        r = schedule_context(info, schedule);
        if (r >= 0)
                r = labeled_extract(KEM_SUITE, NULL, "eae_prk", (Part) { dh, KEY_SIZE }, prk);
        if (r >= 0)
                r = labeled_expand(KEM_SUITE, prk, "shared_secret", (Part) { kem_context, sizeof(kem_context) },
                                   ret->shared_secret, sizeof(ret->shared_secret));
        if (r >= 0)
                r = labeled_extract(SCHEDULE_SUITE, ret->shared_secret, "secret", (Part) { "", 0 }, secret);
        if (r >= 0)
                r = labeled_expand(SCHEDULE_SUITE, secret, "key", context, ret->key, sizeof(ret->key));
        if (r >= 0)
                r = labeled_expand(SCHEDULE_SUITE, NULL, "base_nonce", context, ret->base_nonce,
                                   sizeof(ret->base_nonce));
        if (r >= 0 && exporter)
                r = labeled_expand(SCHEDULE_SUITE, NULL, "exp", context, ret->exporter_secret,
                                   sizeof(ret->exporter_secret));

        if (hmac_forget() < 0)
                r = -EIO;
        sodium_memzero(prk, sizeof(prk));
        sodium_memzero(secret, sizeof(secret));
        return r;
}

static int setup_sender(const uint8_t recipient[KEY_SIZE], const uint8_t ephemeral[KEY_SIZE], Part info, bool exporter,
                        uint8_t ret_enc[KEY_SIZE], HpkeContext *ret) {
        uint8_t dh[KEY_SIZE];
        int r;

        (void) crypto_scalarmult_base(ret_enc, ephemeral);
        if (crypto_scalarmult(dh, ephemeral, recipient) < 0) /* all zero: a low-order key */
                return -EBADMSG;

        r = key_schedule(dh, ret_enc, recipient, info, exporter, ret);
        sodium_memzero(dh, sizeof(dh));
        return r;
}

static int setup_receiver(const KemKey *key, const uint8_t *enc, size_t enc_size, Part info, bool exporter,
                          HpkeContext *ret) {
        uint8_t dh[KEY_SIZE];
        int r;

        if (enc_size != KEY_SIZE || crypto_scalarmult(dh, key->secret, enc) < 0)
                return -EBADMSG;

        r = key_schedule(dh, enc, key->public, info, exporter, ret);
        sodium_memzero(dh, sizeof(dh));
        return r;
}

int hpke_setup_sender(const uint8_t recipient[KEY_SIZE], const uint8_t ephemeral[KEY_SIZE], const void *info,
                      size_t info_size, uint8_t ret_enc[KEY_SIZE], HpkeContext *ret) {
        return setup_sender(recipient, ephemeral, (Part) { info, info_size }, /* exporter= */ true, ret_enc, ret);
}

int hpke_setup_receiver(const KemKey *key, const uint8_t *enc, size_t enc_size, const void *info, size_t info_size,
                        HpkeContext *ret) {
        return setup_receiver(key, enc, enc_size, (Part) { info, info_size }, /* exporter= */ true, ret);
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
        int r = labeled_expand(SCHEDULE_SUITE, c->exporter_secret, "sec", (Part) { context, context_size }, ret, size);

        return hmac_forget() < 0 ? -EIO : r;
}

int hpke_seal(const uint8_t recipient[KEY_SIZE], const uint8_t *ephemeral, const char *info, const void *aad,
              size_t aad_size, const void *plain, size_t size, uint8_t ret_enc[KEY_SIZE], uint8_t *ret) {
        _cleanup_(hpke_context_done) HpkeContext c = {};
        uint8_t fresh[KEY_SIZE];
        int r;

        if (!ephemeral)
                randombytes_buf(fresh, sizeof(fresh));
        r = setup_sender(recipient, ephemeral ?: fresh, label_part(info), /* exporter= */ false, ret_enc, &c);
        sodium_memzero(fresh, sizeof(fresh));
        if (r < 0)
                return r;

        hpke_context_seal(&c, 0, aad, aad_size, plain, size, ret);
        return 0;
}

int hpke_open(const KemKey *key, const uint8_t *enc, size_t enc_size, const char *info, const void *aad,
              size_t aad_size, const void *sealed, size_t size, uint8_t *ret) {
        _cleanup_(hpke_context_done) HpkeContext c = {};
        int r = setup_receiver(key, enc, enc_size, label_part(info), /* exporter= */ false, &c);

        if (r < 0)
                return r;
        return hpke_context_open(&c, 0, aad, aad_size, sealed, size, ret);
}
