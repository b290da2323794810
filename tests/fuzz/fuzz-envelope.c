/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "base64url.h"
#include "envelope.h"
#include "fuzz.h"
#include "hpke.h"

/* Those of the test vectors, so that their envelopes open. */
#define DEVICE_ID "dev_1THtPgzNiuvLOerLSoC9J9DFvdKBVvEf2A3B-yF634k"
#define KEM_SECRET "j88wxLwrPD-2v1DrNts8TVXCbWBpattCms0ML0X9hnQ"
#define SENDER_KEY "8hT-tzR02KVvHv_68xF0OT6TiM3foxX-s7ocNtIQ7fY"
#define ENVELOPE_ID "msg_163d8e40-522d-400d-bb5f-478cf2f78de5"

static const uint8_t own_seed[KEY_SIZE] = { 1 }, content_key[KEY_SIZE] = { 2 }, content_nonce[AEAD_NONCE_SIZE] = { 3 };
static uint8_t sender_keys[2][KEY_SIZE];
static KemKey kem;

static void keys_init(void) {
        static bool done;
        uint8_t secret[KEY_SIZE];

        if (done)
                return;
        if (crypto_init() < 0 || base64url_decode_exact(KEM_SECRET, strlen(KEM_SECRET), secret, KEY_SIZE) < 0 ||
            base64url_decode_exact(SENDER_KEY, strlen(SENDER_KEY), sender_keys[0], KEY_SIZE) < 0)
                abort();
        kem_key_init(&kem, secret);
        sign_public_key(own_seed, sender_keys[1]);
        done = true;
}

static void check_message(const Message *m, bool plaintext) {
        if (isempty(m->envelope_id) || !m->sender_slug || !m->content_type || !m->content || m->sent_at < 0 ||
            m->encrypted == plaintext)
                abort();
        if (m->kind == ENVELOPE_CHANNEL ? isempty(m->space_id) || isempty(m->channel_id) || m->recipient_slug
                                        : isempty(m->recipient_slug) || m->space_id || m->channel_id)
                abort();
}

/* An envelope is refused with a reason, or it is a whole message. */
static void open_envelope(const char *text, size_t size) {
        _cleanup_(envelope_freep) Envelope *e = NULL;
        EnvelopeError error = ENVELOPE_OK;
        Message m;
        int r;

        if (envelope_parse(&e, text, size) < 0)
                return;
        if (!envelope_id(e) || !envelope_claimed_sender(e))
                abort();

        r = envelope_decrypt(e, DEVICE_ID, &kem, &error);
        if (r >= 0) {
                if (envelope_decrypt(e, DEVICE_ID, &kem, &error) <= 0)
                        abort();
                (void) envelope_claimed_subkey(e);
                r = envelope_verify(e, (const uint8_t(*)[KEY_SIZE]) sender_keys, ELEMENTSOF(sender_keys), &m, &error);
        }
        if (r >= 0)
                check_message(&m, envelope_is_plaintext(e));
        else if (r == -EBADMSG && (error == ENVELOPE_OK || !envelope_error_to_string(error)))
                abort();
}

static int put_base64(SignedDocument *d, SignedValue *o, const char *key, const void *data, size_t size) {
        _cleanup_free_ char *text = base64url_encode(data, size);

        return signed_put(d, o, key, signed_string(d, text));
}

static Field field_get(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_STRING ? (Field) { v->text, v->size } : (Field) {};
}

/* Its own id, or one that is always the same. */
static Field id_of(const SignedValue *route) {
        Field id = field_get(route, "envelope_id");

        return id.size > 0 ? id : field_of(ENVELOPE_ID);
}

/* What the outer AAD of this route is. False when it has none, and can therefore not be sealed for. */
static bool put_aad(const SignedValue *o, StrBuf *b) {
        Route route = {
                .kind = envelope_kind_from_string(signed_get_string(o, "envelope_kind")),
                .envelope_id = id_of(o),
                .sender_slug = field_get(o, "sender_slug"),
                .space_id = field_get(o, "space_id"),
                .channel_id = field_get(o, "channel_id"),
                .recipient_slug = field_get(o, "recipient_slug"),
        };

        return signed_get_int(o, "sent_at", &route.sent_at) >= 0 && aad_outer(b, &route) >= 0;
}

/* An envelope around a plaintext of any kind, with the route that route says. */
static int seal(const SignedValue *route, const void *plain, size_t size, StrBuf *ret) {
        static const char *const copied[] = {
                "envelope_id", "envelope_kind", "sender_slug", "sent_at", "space_id", "channel_id", "recipient_slug",
        };
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        uint8_t enc[KEY_SIZE], wrapped[KEY_SIZE + AEAD_TAG_SIZE];
        _cleanup_(strbuf_done) StrBuf aad = {}, wrap_aad = {};
        _cleanup_free_ uint8_t *sealed = malloc(size + AEAD_TAG_SIZE);
        SignedValue *o, *list, *entry;

        if (!sealed || !put_aad(route, &aad) || signed_document_new(&d) < 0 ||
            aad_wrap(&wrap_aad, id_of(route), field_of(DEVICE_ID)) < 0)
                return -EINVAL;
        aead_seal(content_key, content_nonce, aad.text, aad.size, plain, size, sealed);
        if (hpke_seal(kem.public, own_seed, HPKE_INFO_MESSAGE, wrap_aad.text, wrap_aad.size, content_key, KEY_SIZE,
                      enc, wrapped) < 0)
                abort();

        o = signed_object(d);
        list = signed_array(d);
        entry = signed_object(d);
        if (signed_put(d, o, "type", signed_string(d, "message_envelope")) < 0 ||
            signed_put(d, o, "version", signed_int(d, 1)) < 0 ||
            put_base64(d, o, "content_nonce", content_nonce, sizeof(content_nonce)) < 0 ||
            put_base64(d, o, "content_ciphertext", sealed, size + AEAD_TAG_SIZE) < 0 ||
            signed_put(d, entry, "device_id", signed_string(d, DEVICE_ID)) < 0 ||
            put_base64(d, entry, "hpke_enc", enc, sizeof(enc)) < 0 ||
            put_base64(d, entry, "wrapped_content_key", wrapped, sizeof(wrapped)) < 0 ||
            signed_push(d, list, entry) < 0 || signed_put(d, o, "recipients", list) < 0)
                abort();
        if (field_get(route, "envelope_id").size == 0 &&
            signed_put(d, o, "envelope_id", signed_string(d, ENVELOPE_ID)) < 0)
                abort();
        for (size_t i = 0; i < ELEMENTSOF(copied); i++)
                if (signed_get(route, copied[i]) && !signed_get(o, copied[i]) &&
                    signed_put(d, o, copied[i], signed_copy(d, signed_get(route, copied[i]))) < 0)
                        abort();
        return signed_value_format(o, ret);
}

static void open_sealed(const SignedValue *route, const void *plain, size_t size) {
        _cleanup_(strbuf_done) StrBuf text = {};

        if (seal(route, plain, size, &text) >= 0)
                open_envelope(text.text, text.size);
}

/* A payload, signed by a sender whom we know. */
static void open_signed(const SignedValue *payload) {
        _cleanup_(strbuf_done) StrBuf canonical = {}, plain = {};
        _cleanup_free_ char *text = NULL;
        uint8_t signature[SIGNATURE_SIZE];
        int r;

        if (canonical_format_for_signing(payload, CANONICAL_COMPAT, &canonical) < 0)
                return;
        sign_detached(own_seed, canonical.text, canonical.size, signature);
        text = base64url_encode(signature, sizeof(signature));
        r = strbuf_puts(&plain, "{\"payload\":");
        if (r >= 0)
                r = signed_value_format(payload, &plain);
        if (r < 0 || strbuf_printf(&plain, ",\"signature\":\"%s\"}", text) < 0)
                abort();
        open_sealed(payload, plain.text, plain.size);
}

/* An envelope as it stands; or behind 'P' the plaintext of one, behind 'S' the payload of one: encryption and
 * signature would keep everything made up from ever being looked at. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const char route[] = "{\"envelope_kind\":\"dm\",\"sender_slug\":\"a\",\"recipient_slug\":\"b\","
                                    "\"sent_at\":1}";
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const char *rest = (const char*) data + 1;

        keys_init();
        if (size > 0 && data[0] == 'P') {
                if (signed_document_parse(&d, route, strlen(route)) < 0)
                        abort();
                open_sealed(signed_document_root(d), rest, size - 1);
        } else if (size > 0 && data[0] == 'S') {
                if (signed_document_parse(&d, rest, size - 1) >= 0 &&
                    signed_document_root(d)->type == SIGNED_OBJECT)
                        open_signed(signed_document_root(d));
        } else
                open_envelope((const char*) data, size);
        return 0;
}
