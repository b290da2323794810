/* SPDX-License-Identifier: MIT */
#pragma once

#include "crypto.h"

/* RFC 9180 base mode, DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305. */

/* What the key schedule yields (RFC 9180 §5.1). Wipe with hpke_context_done(). */
typedef struct HpkeContext {
        uint8_t shared_secret[32], key[32], base_nonce[12], exporter_secret[32];
} HpkeContext;

void hpke_context_done(HpkeContext *c);

/* ephemeral: a fresh random secret, or a fixed one in tests. -EBADMSG when the shared secret is all zero, -EIO. */
int hpke_setup_sender(const uint8_t recipient[KEY_SIZE], const uint8_t ephemeral[KEY_SIZE], const void *info,
                      size_t info_size, uint8_t ret_enc[KEY_SIZE], HpkeContext *ret);
int hpke_setup_receiver(const KemKey *key, const uint8_t *enc, size_t enc_size, const void *info,
                        size_t info_size, HpkeContext *ret);

/* The sequence number is XORed into the base nonce (§5.2). ret: size + 16 bytes. */
void hpke_context_seal(const HpkeContext *c, uint64_t sequence, const void *aad, size_t aad_size, const void *plain,
                       size_t size, uint8_t *ret);
int hpke_context_open(const HpkeContext *c, uint64_t sequence, const void *aad, size_t aad_size, const void *sealed,
                      size_t size, uint8_t *ret);
int hpke_context_export(const HpkeContext *c, const void *context, size_t context_size, uint8_t *ret, size_t size);

/* Single shot, sequence number 0. ephemeral NULL: random. ret: size + 16. */
int hpke_seal(const uint8_t recipient[KEY_SIZE], const uint8_t *ephemeral, const char *info, const void *aad,
              size_t aad_size, const void *plain, size_t size, uint8_t ret_enc[KEY_SIZE], uint8_t *ret);
/* -EBADMSG for whatever is wrong. ret: size − 16. */
int hpke_open(const KemKey *key, const uint8_t *enc, size_t enc_size, const char *info, const void *aad,
              size_t aad_size, const void *sealed, size_t size, uint8_t *ret);

/* Prepares HMAC; crypto_init() calls it. */
void hpke_init(void);
