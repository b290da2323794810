/* SPDX-License-Identifier: MIT */
#pragma once

#include "aad.h"
#include "signed-json.h"

/* Message envelopes: sealing, opening, and the checks between (wire-protocol §§9, 10). */

#define HPKE_INFO_MESSAGE "puffo/msg-hpke/v1"
#define ENVELOPE_SIZE_MAX MIB(16)
#define ENVELOPE_RECIPIENTS_MAX 4096U
#define ENVELOPE_ID_MAX 1024U           /* bytes of a slug or id */
#define CONTENT_TYPE_TEXT "text/plain"
#define CONTENT_TYPE_ATTACHMENTS "puffo/message+attachments/v1"

/* Why an envelope is refused, in the order in which it is found out (§10.1). */
typedef enum EnvelopeError {
        ENVELOPE_OK,
        ENVELOPE_NO_RECIPIENT_ENTRY,
        ENVELOPE_MALFORMED,
        ENVELOPE_AAD_INVALID,
        ENVELOPE_WRAP_OPEN_FAILED,
        ENVELOPE_BAD_CONTENT_KEY_LENGTH,
        ENVELOPE_BAD_NONCE_LENGTH,
        ENVELOPE_CONTENT_OPEN_FAILED,
        ENVELOPE_PLAINTEXT_INVALID,
        ENVELOPE_SIGNATURE_INVALID,
        ENVELOPE_SENDER_SLUG_MISMATCH,
        ENVELOPE_TYPE,
        ENVELOPE_VERSION,
        ENVELOPE_PAYLOAD_TYPE,
        ENVELOPE_PAYLOAD_VERSION,
        ENVELOPE_INNER_OUTER_MISMATCH,
        _ENVELOPE_ERROR_MAX,
} EnvelopeError;

const char* envelope_error_to_string(EnvelopeError e);  /* "no_recipient_entry", … */

/* --- sending --- */

typedef struct Recipient {
        const char *device_id;
        uint8_t kem_key[KEY_SIZE];
} Recipient;

typedef struct MessageDraft {
        EnvelopeKind kind;
        const char *sender_slug, *sender_subkey_id;
        const char *space_id, *channel_id;      /* channel */
        const char *recipient_slug;             /* dm */
        const char *thread_root_id, *reply_to_id;
        const char *content_type;
        const SignedValue *content;
        int64_t sent_at;                        /* ms */
        SigningKey subkey;
} MessageDraft;

/* What is random in an envelope, for reproducing one in tests. */
typedef struct SealSecrets {
        const char *envelope_id;                /* msg_<uuid> */
        uint8_t message_nonce[16], content_key[KEY_SIZE], content_nonce[AEAD_NONCE_SIZE];
        const uint8_t (*ephemerals)[KEY_SIZE];  /* one a recipient; NULL: random */
} SealSecrets;

/* Fresh ones. *ret_envelope_id is the caller's to free, and is what secrets->envelope_id points to. */
int seal_secrets_random(SealSecrets *ret, char **ret_envelope_id);

/* The body of POST /messages. -ENODEV without recipients, -EINVAL when ids cannot be sent (empty, control characters),
 * -EBADMSG when a recipient's key is of low order, -ENOMEM. */
int envelope_seal(const MessageDraft *draft, const Recipient *recipients, size_t n_recipients,
                  const SealSecrets *secrets, StrBuf *ret);

/* The same message once more, for other devices: one of ours, device_id, has to be among its recipients. Id, nonce and
 * ciphertext stay, the recipients are these. -EBADMSG when it is no envelope that we can open; else as above. */
int envelope_seal_again(const char *envelope, size_t size, const char *device_id, const KemKey *kem,
                        const Recipient *recipients, size_t n_recipients, StrBuf *ret);

/* --- receiving --- */

typedef struct Envelope Envelope;

/* A verified message. All borrowed from its Envelope. sender_subkey_id may be NULL: it is there, but no text. */
typedef struct Message {
        EnvelopeKind kind;
        const char *envelope_id, *sender_slug, *sender_subkey_id, *space_id, *channel_id, *recipient_slug,
                        *thread_root_id, *reply_to_id, *message_nonce, *content_type;
        const SignedValue *content;
        int64_t sent_at;
        bool encrypted;
} Message;

/* Parses an envelope as it came. -EBADMSG when it is no JSON object, -E2BIG over 16 MiB, ENVELOPE_RECIPIENTS_MAX, or
 * ENVELOPE_ID_MAX, -ENOMEM. */
int envelope_parse(Envelope **ret, const char *text, size_t size);
/* The same of an object within a document, which on success belongs to the envelope (*document is NULL then). */
int envelope_new(Envelope **ret, SignedDocument **document, const SignedValue *value);
Envelope* envelope_free(Envelope *e);
DEFINE_TRIVIAL_CLEANUP_FUNC(Envelope*, envelope_free);

/* What it says of itself, unverified, for looking up keys and for logs; "" when it has none. */
const char* envelope_id(const Envelope *e);
const char* envelope_claimed_sender(const Envelope *e);
/* Not encrypted (§10.4): readable, but nothing that we would send. */
bool envelope_is_plaintext(const Envelope *e);

/* Checks 1–11: the plaintext is there afterwards, but not shown to anybody. > 0 when it was open already.
 * -EBADMSG with *reterr, -ENOMEM. A plaintext envelope needs no keys. */
int envelope_decrypt(Envelope *e, const char *device_id, const KemKey *kem, EnvelopeError *reterr);
/* When it says that it was sent, which is when its key must have been valid. -ENOENT, -EINVAL, -ERANGE. */
int envelope_claimed_sent_at(const Envelope *e, int64_t *ret);
/* The subkey that it names, for trying that key first. After envelope_decrypt(); NULL when it names none. */
const char* envelope_claimed_subkey(const Envelope *e);
/* How many bytes each of its tries hashes. */
size_t envelope_signed_size(const Envelope *e);
/* Checks 12–17, with each of these keys. On ENVELOPE_SIGNATURE_INVALID it may be called again with others.
 * ret is valid as long as e. */
int envelope_verify(Envelope *e, const uint8_t (*keys)[KEY_SIZE], size_t n_keys, Message *ret, EnvelopeError *reterr);
