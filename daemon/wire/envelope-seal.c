/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "base64url.h"
#include "envelope-internal.h"
#include "hpke.h"
#include "secret-buffer.h"

int seal_secrets_random(SealSecrets *ret, char **ret_envelope_id) {
        *ret_envelope_id = id_random("msg_");
        if (!*ret_envelope_id)
                return -ENOMEM;

        *ret = (SealSecrets) { .envelope_id = *ret_envelope_id };
        randombytes_buf(ret->message_nonce, sizeof(ret->message_nonce));
        randombytes_buf(ret->content_key, sizeof(ret->content_key));
        randombytes_buf(ret->content_nonce, sizeof(ret->content_nonce));
        return 0;
}

/* The AADs have no separators, so nothing that could be taken for one is sent (§17.2). */
static bool id_can_be_sent(const char *s) {
        size_t n = 0;

        if (isempty(s))
                return false;
        for (; s[n]; n++)
                if ((unsigned char) s[n] < 0x20 || s[n] == 0x7f)
                        return false;
        return n <= ENVELOPE_ID_MAX && utf8_is_valid(s, n);
}

static int draft_check(const MessageDraft *m, const SealSecrets *secrets) {
        bool route = m->kind == ENVELOPE_CHANNEL ? id_can_be_sent(m->space_id) && id_can_be_sent(m->channel_id)
                                                 : id_can_be_sent(m->recipient_slug);

        return route && id_can_be_sent(m->sender_slug) && id_can_be_sent(m->sender_subkey_id) &&
                               id_can_be_sent(secrets->envelope_id) && m->content && id_can_be_sent(m->content_type) &&
                               (!m->thread_root_id || id_can_be_sent(m->thread_root_id)) &&
                               (!m->reply_to_id || id_can_be_sent(m->reply_to_id)) ? 0 : -EINVAL;
}

static SignedValue* string_or_null(SignedDocument *d, const char *s, bool active) {
        return signed_string(d, active ? s : NULL);
}

static int build_payload(SignedDocument *d, const MessageDraft *m, const SealSecrets *secrets, SignedValue **ret) {
        _cleanup_free_ char *nonce = base64url_encode(secrets->message_nonce, sizeof(secrets->message_nonce));
        bool channel = m->kind == ENVELOPE_CHANNEL;
        SignedValue *p = signed_object(d);
        int r;

        if (!nonce || !p)
                return -ENOMEM;

        r = signed_put(d, p, "type", signed_string(d, "message_payload"));
        if (r >= 0)
                r = signed_put(d, p, "version", signed_int(d, 1));
        if (r >= 0)
                r = signed_put(d, p, "envelope_kind", signed_string(d, envelope_kind_to_string(m->kind)));
        if (r >= 0)
                r = signed_put(d, p, "sender_slug", signed_string(d, m->sender_slug));
        if (r >= 0)
                r = signed_put(d, p, "sender_subkey_id", signed_string(d, m->sender_subkey_id));
        if (r >= 0)
                r = signed_put(d, p, "space_id", string_or_null(d, m->space_id, channel));
        if (r >= 0)
                r = signed_put(d, p, "channel_id", string_or_null(d, m->channel_id, channel));
        if (r >= 0)
                r = signed_put(d, p, "recipient_slug", string_or_null(d, m->recipient_slug, !channel));
        if (r >= 0)
                r = signed_put(d, p, "sent_at", signed_int(d, m->sent_at));
        if (r >= 0)
                r = signed_put(d, p, "message_nonce", signed_string(d, nonce));
        if (r >= 0)
                r = signed_put(d, p, "thread_root_id", signed_string(d, m->thread_root_id));
        if (r >= 0)
                r = signed_put(d, p, "reply_to_id", signed_string(d, m->reply_to_id));
        if (r >= 0)
                r = signed_put(d, p, "content_type", signed_string(d, m->content_type));
        if (r >= 0)
                r = signed_put(d, p, "content", signed_copy(d, m->content));

        *ret = p;
        return r;
}

/* {"payload":…,"signature":…}, the text that is encrypted. */
static int build_plaintext(const MessageDraft *m, const SealSecrets *secrets, StrBuf *ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(secret_buffer_done) StrBuf canonical = {};
        _cleanup_free_ char *signature_text = NULL;
        uint8_t signature[SIGNATURE_SIZE];
        SignedValue *payload, *outer;
        int r;

        r = signed_document_new(&d);
        if (r < 0)
                return r;
        r = build_payload(d, m, secrets, &payload);
        if (r < 0)
                return r;
        r = secret_buffer_init(&canonical, signed_document_size(d));
        if (r >= 0)
                r = canonical_format_for_signing(payload, CANONICAL_COMPAT, &canonical);
        if (r < 0)
                return r;

        signing_key_sign(&m->subkey, canonical.text, canonical.size, signature);
        signature_text = base64url_encode(signature, sizeof(signature));
        if (!signature_text)
                return -ENOMEM;

        outer = signed_object(d);
        r = signed_put(d, outer, "payload", payload);
        if (r >= 0)
                r = signed_put(d, outer, "signature", signed_string(d, signature_text));
        /* Three bytes for each of one that is no ASCII. */
        if (r >= 0)
                r = secret_buffer_init(ret, 3 * signed_document_size(d));
        return r < 0 ? r : signed_value_format(outer, ret);
}

static int put_base64(SignedDocument *d, SignedValue *o, const char *key, const void *data, size_t size) {
        _cleanup_free_ char *text = base64url_encode(data, size);

        return text ? signed_put(d, o, key, signed_string(d, text)) : -ENOMEM;
}

static int put_recipient(SignedDocument *d, SignedValue *list, const Recipient *to, const uint8_t *ephemeral,
                         const char *envelope_id, const uint8_t content_key[KEY_SIZE]) {
        _cleanup_(strbuf_done) StrBuf aad = {};
        uint8_t enc[KEY_SIZE], wrapped[KEY_SIZE + AEAD_TAG_SIZE];
        SignedValue *o;
        int r;

        if (!id_can_be_sent(to->device_id))
                return -EINVAL;
        r = aad_wrap(&aad, field_of(envelope_id), field_of(to->device_id));
        if (r < 0)
                return r;
        r = hpke_seal(to->kem_key, ephemeral, HPKE_INFO_MESSAGE, aad.text, aad.size, content_key, KEY_SIZE, enc,
                      wrapped);
        if (r < 0)
                return r;

        o = signed_object(d);
        r = signed_put(d, o, "device_id", signed_string(d, to->device_id));
        if (r >= 0)
                r = put_base64(d, o, "hpke_enc", enc, sizeof(enc));
        if (r >= 0)
                r = put_base64(d, o, "wrapped_content_key", wrapped, sizeof(wrapped));
        return r < 0 ? r : signed_push(d, list, o);
}

static int put_content(SignedDocument *d, SignedValue *o, const MessageDraft *m, const SealSecrets *secrets) {
        _cleanup_(secret_buffer_done) StrBuf plaintext = {};
        _cleanup_(strbuf_done) StrBuf aad = {};
        _cleanup_free_ uint8_t *sealed = NULL;
        const Route route = {
                .kind = m->kind,
                .envelope_id = field_of(secrets->envelope_id),
                .sender_slug = field_of(m->sender_slug),
                .space_id = field_of(m->space_id),
                .channel_id = field_of(m->channel_id),
                .recipient_slug = field_of(m->recipient_slug),
                .sent_at = m->sent_at,
        };
        int r;

        r = build_plaintext(m, secrets, &plaintext);
        if (r >= 0)
                r = aad_outer(&aad, &route);
        if (r < 0)
                return r;

        sealed = malloc(plaintext.size + AEAD_TAG_SIZE);
        if (!sealed)
                return -ENOMEM;
        aead_seal(secrets->content_key, secrets->content_nonce, aad.text, aad.size, plaintext.text, plaintext.size,
                  sealed);

        r = put_base64(d, o, "content_nonce", secrets->content_nonce, sizeof(secrets->content_nonce));
        return r < 0 ? r : put_base64(d, o, "content_ciphertext", sealed, plaintext.size + AEAD_TAG_SIZE);
}

int envelope_seal(const MessageDraft *m, const Recipient *recipients, size_t n_recipients, const SealSecrets *secrets,
                  StrBuf *ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        bool channel = m->kind == ENVELOPE_CHANNEL;
        SignedValue *o, *list;
        int r;

        if (n_recipients == 0)
                return -ENODEV;
        r = draft_check(m, secrets);
        if (r < 0)
                return r;
        r = signed_document_new(&d);
        if (r < 0)
                return r;

        o = signed_object(d);
        list = signed_array(d);
        r = signed_put(d, o, "type", signed_string(d, "message_envelope"));
        if (r >= 0)
                r = signed_put(d, o, "version", signed_int(d, 1));
        if (r >= 0)
                r = signed_put(d, o, "envelope_id", signed_string(d, secrets->envelope_id));
        if (r >= 0)
                r = signed_put(d, o, "envelope_kind", signed_string(d, envelope_kind_to_string(m->kind)));
        if (r >= 0)
                r = signed_put(d, o, "sender_slug", signed_string(d, m->sender_slug));
        if (r >= 0)
                r = signed_put(d, o, "sent_at", signed_int(d, m->sent_at));
        if (r >= 0)
                r = signed_put(d, o, "space_id", string_or_null(d, m->space_id, channel));
        if (r >= 0)
                r = signed_put(d, o, "channel_id", string_or_null(d, m->channel_id, channel));
        if (r >= 0)
                r = signed_put(d, o, "recipient_slug", string_or_null(d, m->recipient_slug, !channel));
        if (r >= 0)
                r = put_content(d, o, m, secrets);
        for (size_t i = 0; i < n_recipients && r >= 0; i++)
                r = put_recipient(d, list, recipients + i, secrets->ephemerals ? secrets->ephemerals[i] : NULL,
                                  secrets->envelope_id, secrets->content_key);
        if (r >= 0)
                r = signed_put(d, o, "recipients", list);
        return r < 0 ? r : signed_value_format(o, ret);
}

static int put_recipients_again(SignedDocument *d, SignedValue *o, const Envelope *e, const Recipient *recipients,
                                size_t n, const uint8_t content_key[KEY_SIZE]) {
        SignedValue *list = signed_array(d);
        int r = list ? 0 : -ENOMEM;

        for (size_t i = 0; i < n && r >= 0; i++)
                r = put_recipient(d, list, recipients + i, NULL, envelope_id(e), content_key);
        return r < 0 ? r : signed_put(d, o, "recipients", list);
}

int envelope_seal_again(const char *envelope, size_t size, const char *device_id, const KemKey *kem,
                        const Recipient *recipients, size_t n_recipients, StrBuf *ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        uint8_t content_key[KEY_SIZE];
        EnvelopeError error;
        SignedValue *o;
        int r;

        if (n_recipients == 0)
                return -ENODEV;
        r = envelope_parse(&e, envelope, size);
        if (r >= 0)
                r = signed_document_new(&d);
        if (r < 0)
                return r;
        o = signed_object(d);
        for (const SignedValue *v = envelope_outer(e)->child; v && r >= 0; v = v->next)
                if (!streq(v->key, "recipients"))
                        r = signed_put(d, o, v->key, signed_copy(d, v));
        if (r < 0)
                return r;

        r = envelope_content_key(e, device_id, kem, content_key, &error);
        if (r >= 0)
                r = put_recipients_again(d, o, e, recipients, n_recipients, content_key);
        sodium_memzero(content_key, sizeof(content_key));
        return r < 0 ? r : signed_value_format(o, ret);
}
