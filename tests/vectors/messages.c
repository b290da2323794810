/* SPDX-License-Identifier: MIT */

/* Sealing and opening of envelopes. */

#include "base64url.h"
#include "envelope.h"
#include "vector.h"

#define KEYS_MAX 8U

/* Structural equality; members in any order. */
static bool same_value(const SignedValue *a, const SignedValue *b) {
        if (a->type != b->type || a->size != b->size)
                return false;
        if (a->text)
                return memcmp(a->text, b->text, a->size) == 0;
        for (const SignedValue *m = a->child, *n = b->child; m; m = m->next, n = n->next) {
                const SignedValue *other = a->type == SIGNED_OBJECT ? signed_get(b, m->key) : n;

                if (!other || !same_value(m, other))
                        return false;
        }
        return true;
}

static bool same_text(const char *a, const SignedValue *b) {
        return signed_is_null(b) ? !a : a && b->type == SIGNED_STRING && streq(a, b->text);
}

static const char* compare_message(const Message *m, const SignedValue *p) {
        int64_t sent_at;

        if (!streq(envelope_kind_to_string(m->kind), vector_text(p, "envelope_kind")) ||
            signed_get_int(p, "sent_at", &sent_at) < 0 || sent_at != m->sent_at)
                return "other kind or time";
        if ((signed_get(p, "envelope_id") && !same_text(m->envelope_id, signed_get(p, "envelope_id"))) ||
            !same_text(m->sender_slug, signed_get(p, "sender_slug")) ||
            !same_text(m->sender_subkey_id, signed_get(p, "sender_subkey_id")) ||
            !same_text(m->space_id, signed_get(p, "space_id")) ||
            !same_text(m->channel_id, signed_get(p, "channel_id")) ||
            !same_text(m->recipient_slug, signed_get(p, "recipient_slug")) ||
            !same_text(m->message_nonce, signed_get(p, "message_nonce")) ||
            !same_text(m->thread_root_id, signed_get(p, "thread_root_id")) ||
            !same_text(m->reply_to_id, signed_get(p, "reply_to_id")) ||
            !same_text(m->content_type, signed_get(p, "content_type")))
                return "other members";
        return same_value(m->content, signed_get(p, "content")) ? NULL : "other content";
}

static EnvelopeError open_text(const char *text, size_t size, const char *device_id, const uint8_t kem[KEY_SIZE],
                               const uint8_t (*keys)[KEY_SIZE], size_t n_keys, Envelope **ret, Message *ret_message) {
        EnvelopeError error = ENVELOPE_OK;
        KemKey key;

        if (envelope_parse(ret, text, size) < 0)
                return ENVELOPE_MALFORMED;
        kem_key_init(&key, kem);
        if (envelope_decrypt(*ret, device_id, &key, &error) < 0)
                return error;
        (void) envelope_verify(*ret, keys, n_keys, ret_message, &error);
        return error;
}

static EnvelopeError open_case(const SignedValue *c, const uint8_t (*keys)[KEY_SIZE], size_t n_keys, Envelope **ret,
                               Message *ret_message) {
        _cleanup_(strbuf_done) StrBuf text = {};
        uint8_t kem[KEY_SIZE];

        if (!vector_field(c, "kem_secret_key", kem, KEY_SIZE) ||
            signed_value_format(signed_get(c, "envelope"), &text) < 0)
                return _ENVELOPE_ERROR_MAX;
        return open_text(text.text, text.size, vector_text(c, "device_id"), kem, keys, n_keys, ret, ret_message);
}

static const char* run_decrypt(const SignedValue *c) {
        _cleanup_(envelope_freep) Envelope *e = NULL;
        const SignedValue *list = signed_get(c, "sender_public_keys");
        uint8_t keys[KEYS_MAX][KEY_SIZE];
        size_t n = 0;
        EnvelopeError error;
        Message m;

        for (const SignedValue *k = list->child; k && n < KEYS_MAX; k = k->next)
                if (base64url_decode_exact(k->text, k->size, keys[n++], KEY_SIZE) < 0)
                        return "bad key";
        error = open_case(c, keys, n, &e, &m);
        return error == ENVELOPE_OK ? compare_message(&m, signed_get(c, "expected_payload"))
                                    : envelope_error_to_string(error);
}

static const char* run_reject(const SignedValue *c) {
        _cleanup_(envelope_freep) Envelope *e = NULL;
        uint8_t key[1][KEY_SIZE];
        EnvelopeError error;
        Message m;

        if (!vector_field(c, "sender_public_key", key[0], KEY_SIZE))
                return "no key";
        error = open_case(c, key, 1, &e, &m);
        return error < _ENVELOPE_ERROR_MAX && streq(envelope_error_to_string(error), vector_text(c, "reason"))
                       ? NULL
                       : envelope_error_to_string(error);
}

typedef struct SealCase {
        MessageDraft draft;
        SealSecrets secrets;
        Recipient recipients[KEYS_MAX];
        uint8_t ephemerals[KEYS_MAX][KEY_SIZE];
        size_t n_recipients;
} SealCase;

static bool read_seal_case(const SignedValue *c, SealCase *ret) {
        const SignedValue *in = signed_get(c, "input"), *list = signed_get(in, "recipients");
        uint8_t seed[KEY_SIZE];

        *ret = (SealCase) {
                .draft = {
                        .kind = envelope_kind_from_string(signed_get_string(in, "envelope_kind")),
                        .sender_slug = signed_get_string(in, "sender_slug"),
                        .sender_subkey_id = signed_get_string(in, "sender_subkey_id"),
                        .space_id = signed_get_string(in, "space_id"),
                        .channel_id = signed_get_string(in, "channel_id"),
                        .recipient_slug = signed_get_string(in, "recipient_slug"),
                        .thread_root_id = signed_get_string(in, "thread_root_id"),
                        .reply_to_id = signed_get_string(in, "reply_to_id"),
                        .content_type = signed_get_string(in, "content_type"),
                        .content = signed_get(in, "content"),
                },
                .secrets.envelope_id = signed_get_string(in, "envelope_id"),
        };
        for (const SignedValue *t = list->child; t && ret->n_recipients < KEYS_MAX; t = t->next) {
                Recipient *to = ret->recipients + ret->n_recipients;

                to->device_id = signed_get_string(t, "device_id");
                if (!vector_field(t, "kem_public_key", to->kem_key, KEY_SIZE) ||
                    !vector_field(t, "ephemeral_secret_key", ret->ephemerals[ret->n_recipients], KEY_SIZE))
                        return false;
                ret->n_recipients++;
        }
        ret->secrets.ephemerals = ret->ephemerals;
        if (!vector_field(c, "sender_signing_secret_key", seed, KEY_SIZE))
                return false;
        signing_key_init(&ret->draft.subkey, seed);
        return signed_get_int(in, "sent_at", &ret->draft.sent_at) >= 0 &&
               vector_field(in, "message_nonce", ret->secrets.message_nonce, sizeof(ret->secrets.message_nonce)) &&
               vector_field(in, "content_key", ret->secrets.content_key, KEY_SIZE) &&
               vector_field(in, "content_nonce", ret->secrets.content_nonce, AEAD_NONCE_SIZE);
}

static const char* run_encrypt(const SignedValue *c) {
        _cleanup_(strbuf_done) StrBuf sealed = {}, expected = {};
        const SignedValue *secrets = signed_get(c, "recipient_secret_keys");
        uint8_t sender[1][KEY_SIZE], kem[KEY_SIZE];
        SealCase s;

        if (!read_seal_case(c, &s) || !vector_field(c, "sender_signing_public_key", sender[0], KEY_SIZE))
                return "incomplete";
        if (envelope_seal(&s.draft, s.recipients, s.n_recipients, &s.secrets, &sealed) < 0)
                return "does not seal";
        if (signed_value_format(signed_get(signed_get(c, "expected"), "envelope"), &expected) < 0 ||
            sealed.size != expected.size || memcmp(sealed.text, expected.text, sealed.size) != 0)
                return "other envelope";

        for (const SignedValue *k = secrets->child; k; k = k->next) {
                _cleanup_(envelope_freep) Envelope *e = NULL;
                EnvelopeError error;
                const char *problem;
                Message m;

                if (!vector_field(secrets, k->key, kem, KEY_SIZE))
                        return "bad recipient key";
                error = open_text(sealed.text, sealed.size, k->key, kem, sender, 1, &e, &m);
                if (error != ENVELOPE_OK)
                        return envelope_error_to_string(error);
                problem = compare_message(&m, signed_get(signed_get(c, "expected"), "payload"));
                if (problem)
                        return problem;
        }
        return NULL;
}

const VectorFile vector_files_messages[] = {
        { "message-decrypt.json", run_decrypt },
        { "message-encrypt.json", run_encrypt },
        { "message-hardening.json", run_reject },
        { "message-reject.json", run_reject },
        {},
};
