/* SPDX-License-Identifier: MIT */

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

/* libsodium's HMAC, not OpenSSL's: that one hashes faster, but its calls cost more, which makes the difference small,
 * and it would be all that a session loads libcrypto for, with half a megabyte of relocations.
 *
 * A state that has seen its key is kept, for its next use. */
static crypto_auth_hmacsha256_state no_salt, last_key;
static bool initialized;

static void hmac_forget(void) {
        sodium_memzero(&last_key, sizeof(last_key));
}

void hpke_init(void) {
        static const uint8_t zeros[HASH_SIZE];

        if (initialized)
                return;
        (void) crypto_auth_hmacsha256_init(&no_salt, zeros, sizeof(zeros));
        initialized = true;
}

static void hmac_sha256(const crypto_auth_hmacsha256_state *keyed, const Part *parts, size_t n,
                        uint8_t ret[HASH_SIZE]) {
        crypto_auth_hmacsha256_state state = *keyed;

        for (size_t i = 0; i < n; i++)
                if (parts[i].size > 0)
                        (void) crypto_auth_hmacsha256_update(&state, parts[i].data, parts[i].size);
        (void) crypto_auth_hmacsha256_final(&state, ret);
}

static Part label_part(const char *label) {
        return (Part) { label, strlen(label) };
}

/* RFC 9180 §4, LabeledExtract, with RFC 5869 §2.2. salt NULL: none, which is as good as zeros. */
static void labeled_extract(Part suite, const uint8_t *salt, const char *label, Part ikm, uint8_t ret[HASH_SIZE]) {
        const Part parts[] = { label_part(VERSION_LABEL), suite, label_part(label), ikm };

        if (salt)
                (void) crypto_auth_hmacsha256_init(&last_key, salt, HASH_SIZE);
        hmac_sha256(salt ? &last_key : &no_salt, parts, ELEMENTSOF(parts), ret);
}

/* RFC 9180 §4, LabeledExpand, with RFC 5869 §2.3. prk NULL: that of the call before. */
static int labeled_expand(Part suite, const uint8_t *prk, const char *label, Part info, uint8_t *ret,
                          size_t size) {
        const uint8_t length[] = { (uint8_t) (size >> 8), (uint8_t) size };
        uint8_t block[HASH_SIZE], counter = 0;

        if (size > 255 * HASH_SIZE)
                return -EIO;
        if (prk)
                (void) crypto_auth_hmacsha256_init(&last_key, prk, HASH_SIZE);
        for (size_t done = 0; done < size; done += HASH_SIZE) {
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
                hmac_sha256(&last_key, parts, ELEMENTSOF(parts), block);
                memcpy(ret + done, block, MIN(size - done, (size_t) HASH_SIZE));
        }
        sodium_memzero(block, sizeof(block));
        return 0;
}

void hpke_context_done(HpkeContext *c) {
        sodium_memzero(c, sizeof(*c));
}

/* key_schedule_context of RFC 9180 §5.1 in base mode. It says only what a key is for, and that is nearly always the
 * same: the last one is kept. */
static void schedule_context(Part info, uint8_t ret[1 + 2 * HASH_SIZE]) {
        static uint8_t last[1 + 2 * HASH_SIZE], last_info[INFO_MAX];
        static size_t last_size = SIZE_MAX;

        if (info.size != last_size || (info.size > 0 && memcmp(info.data, last_info, info.size) != 0)) {
                last_size = SIZE_MAX;
                last[0] = 0x00;
                labeled_extract(SCHEDULE_SUITE, NULL, "psk_id_hash", (Part) { "", 0 }, last + 1);
                labeled_extract(SCHEDULE_SUITE, NULL, "info_hash", info, last + 1 + HASH_SIZE);
                if (info.size > 0 && info.size <= INFO_MAX)
                        memcpy(last_info, info.data, info.size);
                if (info.size <= INFO_MAX)
                        last_size = info.size;
        }

        memcpy(ret, last, sizeof(last));
}

/* RFC 9180 §4.1 ExtractAndExpand, then §5.1 KeySchedule in base mode. exporter: whether its secret is wanted. */
static int key_schedule(const uint8_t dh[KEY_SIZE], const uint8_t enc[KEY_SIZE], const uint8_t recipient[KEY_SIZE],
                        Part info, bool exporter, HpkeContext *ret) {
        uint8_t kem_context[2 * KEY_SIZE], prk[HASH_SIZE], schedule[1 + 2 * HASH_SIZE], secret[HASH_SIZE];
        const Part context = { schedule, sizeof(schedule) };
        int r;

        memcpy(kem_context, enc, KEY_SIZE);
        memcpy(kem_context + KEY_SIZE, recipient, KEY_SIZE);
        schedule_context(info, schedule);
        labeled_extract(KEM_SUITE, NULL, "eae_prk", (Part) { dh, KEY_SIZE }, prk);
        r = labeled_expand(KEM_SUITE, prk, "shared_secret", (Part) { kem_context, sizeof(kem_context) },
                           ret->shared_secret, sizeof(ret->shared_secret));
        if (r >= 0) {
                labeled_extract(SCHEDULE_SUITE, ret->shared_secret, "secret", (Part) { "", 0 }, secret);
                r = labeled_expand(SCHEDULE_SUITE, secret, "key", context, ret->key, sizeof(ret->key));
        }
        if (r >= 0)
                r = labeled_expand(SCHEDULE_SUITE, NULL, "base_nonce", context, ret->base_nonce,
                                   sizeof(ret->base_nonce));
        if (r >= 0 && exporter)
                r = labeled_expand(SCHEDULE_SUITE, NULL, "exp", context, ret->exporter_secret,
                                   sizeof(ret->exporter_secret));

        hmac_forget();
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

        hmac_forget();
        return r;
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
