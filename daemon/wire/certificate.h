/* SPDX-License-Identifier: MIT */
#pragma once

#include "crypto.h"
#include "signed-json.h"

/* Certificates (wire-protocol §6). Each check returns 0, or -EBADMSG with *reterr = the reason in the words that
 * bridge clients know (malloc'ed), or -ENOMEM. */

#define SUBKEY_LIFETIME_MS ((int64_t) 47 * 3600 * 1000)
#define SUBKEY_ROTATION_MARGIN_MS ((int64_t) 5 * 60 * 1000)

/* Under the key that it names itself (§6.1), the root key (§§6.2, 6.3), the operator's root key (§6.5). What is
 * handed out as a pointer is borrowed from cert. */
int identity_cert_check(const SignedValue *cert, uint8_t ret_root[KEY_SIZE], char **reterr);
int slug_binding_check(const SignedValue *cert, const uint8_t root[KEY_SIZE], const char **ret_slug, char **reterr);
int device_cert_check(const SignedValue *cert, const uint8_t root[KEY_SIZE], uint8_t ret_signing[KEY_SIZE],
                      char **reterr);
int operator_attestation_check(const SignedValue *cert, const uint8_t agent_root[KEY_SIZE],
                               const uint8_t operator_root[KEY_SIZE], char **reterr);

/* The device that is revoked, and since when. *ret_device_id is borrowed from cert. */
int device_revocation_check(const SignedValue *cert, const uint8_t root[KEY_SIZE], const char **ret_device_id,
                            int64_t *ret_effective_from_ms, char **reterr);

typedef enum SubkeyError {
        SUBKEY_OK,
        SUBKEY_MALFORMED,
        SUBKEY_ID_MISMATCH,
        SUBKEY_DEVICE_MISMATCH,
        SUBKEY_SIGNATURE_INVALID,
        SUBKEY_EXPIRED,
        _SUBKEY_ERROR_MAX,
} SubkeyError;

const char* subkey_error_to_string(SubkeyError e);

/* at_ms: when it must have been valid (a message's sent_at). -EBADMSG with *reterr, -ENOMEM. */
int subkey_cert_check(const SignedValue *cert, const uint8_t device_signing[KEY_SIZE], const char *device_id,
                      int64_t at_ms, uint8_t ret_key[KEY_SIZE], SubkeyError *reterr);

/* Makes and signs one in d. */
int subkey_cert_new(SignedDocument *d, const uint8_t device_seed[KEY_SIZE], const char *device_id,
                    const uint8_t subkey[KEY_SIZE], int64_t issued_at_ms, int64_t lifetime_ms, SignedValue **ret);

/* The others, signed by the root key (§§6.1–6.3, 18). operator_root NULL: a human's. */
int identity_cert_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const uint8_t *operator_root,
                      SignedValue **ret);
int slug_binding_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const char *slug, int64_t issued_at_ms,
                     SignedValue **ret);
int device_cert_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const char *device_id,
                    const uint8_t signing[KEY_SIZE], const uint8_t kem[KEY_SIZE], int64_t issued_at_ms,
                    SignedValue **ret);
int device_revocation_new(SignedDocument *d, const uint8_t root_seed[KEY_SIZE], const char *device_id,
                          int64_t effective_from_ms, int64_t issued_at_ms, SignedValue **ret);

/* expires_at_ms < 0: never. */
bool subkey_is_expired(int64_t expires_at_ms, int64_t now_ms);
bool subkey_needs_rotation(int64_t expires_at_ms, int64_t now_ms);

/* Signs o (canonical form without its signature) and puts the signature into it as this member. */
int signed_object_sign(SignedDocument *d, SignedValue *o, const char *member, const uint8_t seed[KEY_SIZE]);
/* 1 = good in one of the two canonical forms, 0 = not, -ENOMEM. */
int signed_object_verify(const SignedValue *o, const uint8_t key[KEY_SIZE], const uint8_t signature[SIGNATURE_SIZE]);
