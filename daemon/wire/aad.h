/* SPDX-License-Identifier: MIT */
#pragma once

#include "crypto.h"
#include "string-util.h"

/* Bytes bound to a ciphertext without being in it (wire-protocol §8). All: -EINVAL for fields that cannot stand in one
 * ("aad_invalid"), -ENOMEM. The result is appended to b. */

typedef enum EnvelopeKind {
        ENVELOPE_CHANNEL,
        ENVELOPE_DM,
        _ENVELOPE_KIND_MAX,
        _ENVELOPE_KIND_INVALID = -EINVAL,
} EnvelopeKind;

const char* envelope_kind_to_string(EnvelopeKind k);
EnvelopeKind envelope_kind_from_string(const char *s);

/* A text with its length: ids may contain NUL. text NULL: absent. */
typedef struct Field {
        const char *text;
        size_t size;
} Field;

static inline Field field_of(const char *s) {
        return (Field) { s, s ? strlen(s) : 0 };
}

typedef struct Route {
        EnvelopeKind kind;
        Field envelope_id, sender_slug, space_id, channel_id, recipient_slug;
        int64_t sent_at;        /* ms */
} Route;

/* Of the content of an envelope (§8.1), of its key for one device (§8.2), of a root key on its way (§8.3), and of an
 * attachment (§12). */
int aad_outer(StrBuf *b, const Route *route);
int aad_wrap(StrBuf *b, Field envelope_id, Field device_id);
int aad_root_key_envelope(StrBuf *b, const uint8_t nonce[32], const uint8_t recipient[KEY_SIZE],
                          const uint8_t fingerprint[32]);
int aad_attachment(StrBuf *b, Field mime_type, Field filename);
