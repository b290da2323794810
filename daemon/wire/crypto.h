/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Keys, signatures, ids and HPKE (wire-protocol §§4, 5, 7). crypto_init() first. */

#define KEY_SIZE 32U
#define SIGNATURE_SIZE 64U
#define AEAD_NONCE_SIZE 12U
#define AEAD_TAG_SIZE 16U

/* -EIO when there are no random bytes or no HKDF to be had. */
int crypto_init(void);

/* Ed25519 (RFC 8032) with the 32-byte seed that is stored. */
void sign_public_key(const uint8_t seed[KEY_SIZE], uint8_t ret_public[KEY_SIZE]);
void sign_detached(const uint8_t seed[KEY_SIZE], const void *message, size_t size,
                   uint8_t ret_signature[SIGNATURE_SIZE]);
/* A seed with its public key: finding that anew costs as much as signing. Wipe with signing_key_done(). */
typedef struct SigningKey {
        uint8_t seed[KEY_SIZE], public[KEY_SIZE];
} SigningKey;

/* From the seed, which is copied. */
void signing_key_init(SigningKey *k, const uint8_t seed[KEY_SIZE]);
void signing_key_done(SigningKey *k);
void signing_key_sign(const SigningKey *k, const void *message, size_t size, uint8_t ret_signature[SIGNATURE_SIZE]);
/* Small-order keys and S ≥ L never verify. */
bool sign_verify(const uint8_t *key, size_t key_size, const void *message, size_t size, const uint8_t *signature,
                 size_t signature_size);

/* X25519 public key of a secret. */
void kem_public_key(const uint8_t secret[KEY_SIZE], uint8_t ret_public[KEY_SIZE]);
/* Both: whoever opens needs both, and the public one costs as much as the rest. Wipe with kem_key_done(). */
typedef struct KemKey {
        uint8_t secret[KEY_SIZE], public[KEY_SIZE];
} KemKey;

/* From the secret, which is copied. */
void kem_key_init(KemKey *k, const uint8_t secret[KEY_SIZE]);
void kem_key_done(KemKey *k);

/* prefix ("dev" or "sk"), "_" and the key's hash (§5). NULL when out of memory. */
char* key_id(const char *prefix, const uint8_t key[KEY_SIZE]);
/* "msg_", "ev_" … with a random UUID (RFC 9562 version 4). NULL when out of memory. */
char* id_random(const char *prefix);

/* SHA-256 over domain ‖ 0 ‖ "ed25519" ‖ 0 ‖ key. -EINVAL when the key is not 32 bytes. */
int root_key_fingerprint(const uint8_t *key, size_t key_size, uint8_t ret[32]);

/* ChaCha20-Poly1305 of RFC 8439, tag behind. ret must have room for size + 16 (seal) or size − 16 (open) bytes. */
void aead_seal(const uint8_t key[KEY_SIZE], const uint8_t nonce[AEAD_NONCE_SIZE], const void *aad, size_t aad_size,
               const void *plain, size_t size, uint8_t *ret);
/* -EBADMSG. */
int aead_open(const uint8_t key[KEY_SIZE], const uint8_t nonce[AEAD_NONCE_SIZE], const void *aad, size_t aad_size,
              const void *sealed, size_t size, uint8_t *ret);
