/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "crypto.h"

/* The key files of an agent, <agent>/keys/ (wire-protocol §16): SLUG.json is who it is on the server,
 * SLUG.session.json the subkey that signs for now. Those that the original wrote can be read, and it can read ours.
 * Secrets lie in locked memory and are wiped. crypto_init() first. */

/* File names are made of slugs: not empty, no ".", "..", no '/', at most 200 bytes. */
bool slug_is_valid(const char *slug);

typedef struct IdentitySecrets {
        uint8_t root_seed[KEY_SIZE], device_seed[KEY_SIZE], kem_secret[KEY_SIZE];
} IdentitySecrets;

typedef struct Identity {
        char *slug, *device_id, *server_url;
        char *slug_binding_json, *identity_cert_json, *identity_profile_json;   /* NULL: not there */
        IdentitySecrets *secrets;
        mode_t excess_mode;             /* permissions of the file beyond 0600, for a warning */
} Identity;

/* Texts and secrets are copied. -EINVAL for a bad slug, -ENOMEM. */
int identity_new(Identity **ret, const char *slug, const char *device_id, const char *server_url,
                 const IdentitySecrets *secrets);
Identity* identity_free(Identity *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(Identity*, identity_free);

/* -ENOENT; -ELOOP for a symbolic link; -EBADMSG for a file that is no identity, errors of reading. Beside each but
 * -ENOMEM *reterr says which file and what is wrong with it, without quoting it (malloc'ed). */
int identity_load(Identity **ret, const char *directory, const char *slug, char **reterr);
/* Makes the directory (0700) if need be. The file is replaced as a whole, 0600. */
int identity_save(const Identity *i, const char *directory);
/* Copies an identity that the original's own command line made, when the directory has none. > 0 when it did, 0 when
 * there is nothing to do; errors as identity_load(). */
int identity_import(const char *directory, const char *slug, char **reterr);

/* Slugs that have an identity file, sorted by code point; a missing directory has none. The first is the default. */
int key_store_list(const char *directory, char ***ret);

typedef struct SessionKey {
        char *slug, *subkey_id;
        uint8_t *seed;                  /* KEY_SIZE bytes */
        int64_t expires_at_ms;          /* < 0: never */
        mode_t excess_mode;
} SessionKey;

int session_key_new(SessionKey **ret, const char *slug, const char *subkey_id, const uint8_t seed[KEY_SIZE],
                    int64_t expires_at_ms);
SessionKey* session_key_free(SessionKey *k);
DEFINE_TRIVIAL_CLEANUP_FUNC(SessionKey*, session_key_free);

/* > 0: there is one. 0: none, or it had expired: then its file is gone now, or left to who holds key_store_lock().
 * Errors as identity_load(). */
int session_key_load(SessionKey **ret, const char *directory, const char *slug, int64_t now_ms, char **reterr);
int session_key_save(const SessionKey *k, const char *directory);

/* One rotation at a time among all processes that share the directory: a descriptor to close when done, or -EAGAIN
 * while another has it. */
int key_store_lock(const char *directory, const char *slug);
