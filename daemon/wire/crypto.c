/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <systemd/sd-id128.h>

#include "base64url.h"
#include "crypto.h"
#include "hpke.h"
#include "string-util.h"

#define FINGERPRINT_DOMAIN "puffo/root-public-key-fingerprint/v1"
#define FINGERPRINT_ALGORITHM "ed25519"

int crypto_init(void) {
        if (sodium_init() < 0)
                return -EIO;
        hpke_init();
        return 0;
}

void sign_public_key(const uint8_t seed[KEY_SIZE], uint8_t ret_public[KEY_SIZE]) {
        uint8_t secret[crypto_sign_SECRETKEYBYTES];

        (void) crypto_sign_seed_keypair(ret_public, secret, seed);
        sodium_memzero(secret, sizeof(secret));
}

/* libsodium's secret keys are laid out like this. */
static_assert(sizeof(SigningKey) == crypto_sign_SECRETKEYBYTES, "SigningKey is no secret key");

void signing_key_init(SigningKey *k, const uint8_t seed[KEY_SIZE]) {
        memcpy(k->seed, seed, KEY_SIZE);
        sign_public_key(seed, k->public);
}

void signing_key_done(SigningKey *k) {
        sodium_memzero(k, sizeof(*k));
}

void signing_key_sign(const SigningKey *k, const void *message, size_t size, uint8_t ret_signature[SIGNATURE_SIZE]) {
        (void) crypto_sign_detached(ret_signature, NULL, message, size, (const uint8_t*) k);
}

void sign_detached(const uint8_t seed[KEY_SIZE], const void *message, size_t size,
                   uint8_t ret_signature[SIGNATURE_SIZE]) {
        _cleanup_(signing_key_done) SigningKey k;

        signing_key_init(&k, seed);
        signing_key_sign(&k, message, size, ret_signature);
}

bool sign_verify(const uint8_t *key, size_t key_size, const void *message, size_t size, const uint8_t *signature,
                 size_t signature_size) {
        return key_size == KEY_SIZE && signature_size == SIGNATURE_SIZE &&
               crypto_sign_verify_detached(signature, message, size, key) == 0;
}

void kem_public_key(const uint8_t secret[KEY_SIZE], uint8_t ret_public[KEY_SIZE]) {
        (void) crypto_scalarmult_base(ret_public, secret);
}

void kem_key_init(KemKey *k, const uint8_t secret[KEY_SIZE]) {
        memcpy(k->secret, secret, KEY_SIZE);
        kem_public_key(secret, k->public);
}

void kem_key_done(KemKey *k) {
        sodium_memzero(k, sizeof(*k));
}

char* key_id(const char *prefix, const uint8_t key[KEY_SIZE]) {
        _cleanup_free_ char *text = NULL;
        uint8_t hash[crypto_hash_sha256_BYTES];

        (void) crypto_hash_sha256(hash, key, KEY_SIZE);
        text = base64url_encode(hash, sizeof(hash));
        return text ? strjoin(prefix, "_", text) : NULL;
}

char* id_random(const char *prefix) {
        sd_id128_t id;

        if (sd_id128_randomize(&id) < 0)
                return NULL;
        return asprintf_new("%s" SD_ID128_UUID_FORMAT_STR, prefix, SD_ID128_FORMAT_VAL(id));
}

int root_key_fingerprint(const uint8_t *key, size_t key_size, uint8_t ret[32]) {
        crypto_hash_sha256_state state;

        if (key_size != KEY_SIZE)
                return -EINVAL;

        /* Both labels go in with their terminating NUL: it is the separator. */
        (void) crypto_hash_sha256_init(&state);
        (void) crypto_hash_sha256_update(&state, (const uint8_t*) FINGERPRINT_DOMAIN, sizeof(FINGERPRINT_DOMAIN));
        (void) crypto_hash_sha256_update(&state, (const uint8_t *) FINGERPRINT_ALGORITHM,
                                         sizeof(FINGERPRINT_ALGORITHM));
        (void) crypto_hash_sha256_update(&state, key, key_size);
        (void) crypto_hash_sha256_final(&state, ret);
        return 0;
}

void aead_seal(const uint8_t key[KEY_SIZE], const uint8_t nonce[AEAD_NONCE_SIZE], const void *aad, size_t aad_size,
               const void *plain, size_t size, uint8_t *ret) {
        (void) crypto_aead_chacha20poly1305_ietf_encrypt(ret, NULL, plain, size, aad, aad_size, NULL, nonce, key);
}

int aead_open(const uint8_t key[KEY_SIZE], const uint8_t nonce[AEAD_NONCE_SIZE], const void *aad, size_t aad_size,
              const void *sealed, size_t size, uint8_t *ret) {
        if (size < AEAD_TAG_SIZE ||
            crypto_aead_chacha20poly1305_ietf_decrypt(ret, NULL, NULL, sealed, size, aad, aad_size, nonce, key) < 0)
                return -EBADMSG;
        return 0;
}
