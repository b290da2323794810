/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "base64url.h"
#include "envelope-internal.h"
#include "hpke.h"
#include "secret-buffer.h"

struct Envelope {
        SignedDocument *outer;
        const SignedValue *root;        /* in outer */
        SignedDocument *plaintext;      /* of an encrypted one, once it is open */
        const SignedValue *payload;     /* in plaintext, or in outer's signed_payload */
        uint8_t signature[SIGNATURE_SIZE];
        bool signature_fits;            /* decoded to 64 bytes */
        bool plain;
        StrBuf canonical[2];            /* what the signature may cover: COMPAT, RFC 8785 when it differs */
};

const char* envelope_error_to_string(EnvelopeError e) {
        static const char *const names[_ENVELOPE_ERROR_MAX] = {
                [ENVELOPE_OK] = "ok",
                [ENVELOPE_NO_RECIPIENT_ENTRY] = "no_recipient_entry",
                [ENVELOPE_MALFORMED] = "malformed",
                [ENVELOPE_AAD_INVALID] = "aad_invalid",
                [ENVELOPE_WRAP_OPEN_FAILED] = "wrap_open_failed",
                [ENVELOPE_BAD_CONTENT_KEY_LENGTH] = "bad_content_key_length",
                [ENVELOPE_BAD_NONCE_LENGTH] = "bad_nonce_length",
                [ENVELOPE_CONTENT_OPEN_FAILED] = "content_open_failed",
                [ENVELOPE_PLAINTEXT_INVALID] = "plaintext_invalid",
                [ENVELOPE_SIGNATURE_INVALID] = "signature_invalid",
                [ENVELOPE_SENDER_SLUG_MISMATCH] = "sender_slug_mismatch",
                [ENVELOPE_TYPE] = "envelope_type",
                [ENVELOPE_VERSION] = "envelope_version",
                [ENVELOPE_PAYLOAD_TYPE] = "payload_type",
                [ENVELOPE_PAYLOAD_VERSION] = "payload_version",
                [ENVELOPE_INNER_OUTER_MISMATCH] = "inner_outer_mismatch",
        };

        return e < _ENVELOPE_ERROR_MAX ? names[e] : NULL;
}

static int refuse(EnvelopeError *reterr, EnvelopeError e) {
        *reterr = e;
        return -EBADMSG;
}

/* -ENOMEM stays what it is, all else is this error. */
static int refuse_unless_oom(EnvelopeError *reterr, EnvelopeError e, int r) {
        return r == -ENOMEM ? r : refuse(reterr, e);
}

static bool has_long_id(const SignedValue *o) {
        static const char *const ids[] = {
                "envelope_id",      "sender_slug",    "space_id",    "channel_id",    "recipient_slug",
                "sender_subkey_id", "thread_root_id", "reply_to_id", "message_nonce", "content_type",
        };

        for (const SignedValue *m = o->child; m; m = m->next)
                if (m->type == SIGNED_STRING && m->size > ENVELOPE_ID_MAX)
                        for (size_t i = 0; i < ELEMENTSOF(ids); i++)
                                if (strlen(ids[i]) == m->key_size && memcmp(ids[i], m->key, m->key_size) == 0)
                                        return true;
        return false;
}

int envelope_new(Envelope **ret, SignedDocument **document, const SignedValue *value) {
        const SignedValue *recipients;
        Envelope *e;

        assert(ret && document && *document);

        if (!value || value->type != SIGNED_OBJECT)
                return -EBADMSG;
        recipients = signed_get(value, "recipients");
        if (recipients && recipients->type == SIGNED_ARRAY && recipients->size > ENVELOPE_RECIPIENTS_MAX)
                return -E2BIG;
        if (has_long_id(value))
                return -E2BIG;

        e = new0(Envelope, 1);
        if (!e)
                return -ENOMEM;
        e->outer = TAKE_PTR(*document);
        signed_document_set_public(e->outer);
        e->root = value;
        e->plain = streq_ptr(signed_get_string(value, "type"), "plaintext_message_envelope");
        *ret = e;
        return 0;
}

int envelope_parse(Envelope **ret, const char *text, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        int r;

        if (size > ENVELOPE_SIZE_MAX)
                return -E2BIG;
        r = signed_document_parse(&d, text, size);
        return r < 0 ? r : envelope_new(ret, &d, signed_document_root(d));
}

/* As it was before envelope_decrypt(). */
static void envelope_shut(Envelope *e) {
        for (size_t i = 0; i < ELEMENTSOF(e->canonical); i++)
                secret_buffer_done(&e->canonical[i]);
        e->payload = NULL;
        e->plaintext = signed_document_free(e->plaintext);
}

Envelope* envelope_free(Envelope *e) {
        if (!e)
                return NULL;

        envelope_shut(e);
        signed_document_free(e->outer);
        return mfree(e);
}

const SignedValue* envelope_outer(const Envelope *e) {
        return e->root;
}

const char* envelope_id(const Envelope *e) {
        return strempty(signed_get_string(envelope_outer(e), "envelope_id"));
}

/* Where sender and time stand: outside, or in the payload of an envelope that is not encrypted. */
static const SignedValue* claims_of(const Envelope *e) {
        return e->plain ? signed_get(signed_get(envelope_outer(e), "signed_payload"), "payload") : envelope_outer(e);
}

const char* envelope_claimed_sender(const Envelope *e) {
        return strempty(signed_get_string(claims_of(e), "sender_slug"));
}

int envelope_claimed_sent_at(const Envelope *e, int64_t *ret) {
        return signed_get_int(claims_of(e), "sent_at", ret);
}

bool envelope_is_plaintext(const Envelope *e) {
        return e->plain;
}

const char* envelope_claimed_subkey(const Envelope *e) {
        return e->payload ? signed_get_string(e->payload, "sender_subkey_id") : NULL;
}

size_t envelope_signed_size(const Envelope *e) {
        return e->canonical[0].size;
}

static Field field_get(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_STRING ? (Field) { v->text, v->size } : (Field) {};
}

static int decode_member(const SignedValue *o, const char *key, uint8_t **ret, size_t *ret_size) {
        Field f = field_get(o, key);

        return f.text ? base64url_decode(f.text, f.size, ret, ret_size) : -EBADMSG;
}

/* Check 1. */
static int find_recipient(const SignedValue *outer, const char *device_id, const SignedValue **ret,
                          EnvelopeError *reterr) {
        const SignedValue *list = signed_get(outer, "recipients");

        if (signed_is_null(list))
                return refuse(reterr, ENVELOPE_NO_RECIPIENT_ENTRY);
        if (list->type != SIGNED_ARRAY)
                return refuse(reterr, ENVELOPE_MALFORMED);

        for (const SignedValue *m = list->child; m; m = m->next) {
                Field id = field_get(m, "device_id");

                if (!id.text)
                        return refuse(reterr, ENVELOPE_MALFORMED);
                if (id.size == strlen(device_id) && memcmp(id.text, device_id, id.size) == 0) {
                        *ret = m;
                        return 0;
                }
        }
        return refuse(reterr, ENVELOPE_NO_RECIPIENT_ENTRY);
}

/* Checks 2–6. */
static int unwrap_content_key(const SignedValue *outer, const SignedValue *entry, const KemKey *kem,
                              uint8_t ret_key[KEY_SIZE], EnvelopeError *reterr) {
        _cleanup_free_ uint8_t *enc = NULL, *wrapped = NULL, *key = NULL;
        _cleanup_(strbuf_done) StrBuf aad = {};
        size_t enc_size, wrapped_size;
        Field id = field_get(outer, "envelope_id");
        int r;

        /* An id with NUL would be good for the AAD, and then be no text to anybody behind us. */
        if (!id.text || strlen(id.text) != id.size)
                return refuse(reterr, ENVELOPE_MALFORMED);
        r = decode_member(entry, "hpke_enc", &enc, &enc_size);
        if (r >= 0)
                r = decode_member(entry, "wrapped_content_key", &wrapped, &wrapped_size);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_MALFORMED, r);
        r = aad_wrap(&aad, id, field_get(entry, "device_id"));
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_AAD_INVALID, r);

        key = malloc(wrapped_size + 1);
        if (!key)
                return -ENOMEM;
        r = hpke_open(kem, enc, enc_size, HPKE_INFO_MESSAGE, aad.text, aad.size, wrapped, wrapped_size, key);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_WRAP_OPEN_FAILED, r);
        if (wrapped_size != KEY_SIZE + AEAD_TAG_SIZE) {
                sodium_memzero(key, wrapped_size - AEAD_TAG_SIZE);
                return refuse(reterr, ENVELOPE_BAD_CONTENT_KEY_LENGTH);
        }

        memcpy(ret_key, key, KEY_SIZE);
        sodium_memzero(key, KEY_SIZE);
        return 0;
}

int envelope_content_key(const Envelope *e, const char *device_id, const KemKey *kem, uint8_t ret_key[KEY_SIZE],
                         EnvelopeError *reterr) {
        const SignedValue *entry = NULL;
        int r = find_recipient(envelope_outer(e), device_id, &entry, reterr);

        return r < 0 ? r : unwrap_content_key(envelope_outer(e), entry, kem, ret_key, reterr);
}

/* Check 9: what the outer AAD is made of. */
static int read_route(const SignedValue *outer, Route *ret, EnvelopeError *reterr) {
        const SignedValue *kind = signed_get(outer, "envelope_kind"), *sender = signed_get(outer, "sender_slug");
        int r;

        if (!sender || sender->type != SIGNED_STRING)
                return refuse(reterr, ENVELOPE_MALFORMED);
        r = signed_get_int(outer, "sent_at", &ret->sent_at);
        if (r < 0)
                return refuse(reterr, r == -ERANGE ? ENVELOPE_AAD_INVALID : ENVELOPE_MALFORMED);

        ret->kind = !kind ? ENVELOPE_CHANNEL : envelope_kind_from_string(signed_get_string(outer, "envelope_kind"));
        ret->envelope_id = field_get(outer, "envelope_id");
        ret->sender_slug = field_get(outer, "sender_slug");
        ret->space_id = field_get(outer, "space_id");
        ret->channel_id = field_get(outer, "channel_id");
        ret->recipient_slug = field_get(outer, "recipient_slug");
        return 0;
}

/* Only numbers get longer than they were. */
static int canonical_init(StrBuf *b, const Envelope *e) {
        return secret_buffer_init(b, signed_document_size(e->plaintext ?: e->outer));
}

/* Check 11, on a plaintext or on the signed_payload of a plaintext envelope. */
static int read_signed_payload(Envelope *e, const SignedValue *o, EnvelopeError *reterr) {
        _cleanup_free_ uint8_t *signature = NULL;
        const SignedValue *payload = signed_get(o, "payload");
        size_t size;
        int r;

        if (!payload || payload->type != SIGNED_OBJECT)
                return refuse(reterr, ENVELOPE_PLAINTEXT_INVALID);
        r = decode_member(o, "signature", &signature, &size);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_PLAINTEXT_INVALID, r);
        r = canonical_init(&e->canonical[0], e);
        if (r >= 0)
                r = canonical_format_for_signing(payload, CANONICAL_COMPAT, &e->canonical[0]);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_PLAINTEXT_INVALID, r);

        e->signature_fits = size == SIGNATURE_SIZE;
        if (e->signature_fits)
                memcpy(e->signature, signature, SIGNATURE_SIZE);
        e->payload = payload;
        return 0;
}

/* Checks 7–11. */
static int open_content(Envelope *e, const uint8_t key[KEY_SIZE], EnvelopeError *reterr) {
        _cleanup_free_ uint8_t *nonce = NULL, *sealed = NULL;
        _cleanup_(strbuf_done) StrBuf aad = {};
        size_t nonce_size, sealed_size;
        Route route;
        int r;

        r = decode_member(envelope_outer(e), "content_nonce", &nonce, &nonce_size);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_MALFORMED, r);
        if (nonce_size != AEAD_NONCE_SIZE)
                return refuse(reterr, ENVELOPE_BAD_NONCE_LENGTH);
        r = decode_member(envelope_outer(e), "content_ciphertext", &sealed, &sealed_size);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_MALFORMED, r);
        r = read_route(envelope_outer(e), &route, reterr);
        if (r < 0)
                return r;
        r = aad_outer(&aad, &route);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_AAD_INVALID, r);

        /* In place: libsodium allows it, and one buffer less holds the plaintext. */
        r = aead_open(key, nonce, aad.text, aad.size, sealed, sealed_size, sealed);
        if (r < 0)
                return refuse(reterr, ENVELOPE_CONTENT_OPEN_FAILED);

        r = signed_document_parse(&e->plaintext, (const char*) sealed, sealed_size - AEAD_TAG_SIZE);
        sodium_memzero(sealed, sealed_size);
        if (r < 0)
                return refuse_unless_oom(reterr, ENVELOPE_PLAINTEXT_INVALID, r);
        return read_signed_payload(e, signed_document_root(e->plaintext), reterr);
}

static bool is_version_1(const SignedValue *o) {
        int64_t version;

        return signed_get_int(o, "version", &version) >= 0 && version == 1;
}

/* §10.4: id, version, then check 11 on what stands in the open. */
static int read_plaintext_envelope(Envelope *e, EnvelopeError *reterr) {
        if (isempty(signed_get_string(envelope_outer(e), "envelope_id")))
                return refuse(reterr, ENVELOPE_MALFORMED);
        if (!is_version_1(envelope_outer(e)))
                return refuse(reterr, ENVELOPE_VERSION);
        return read_signed_payload(e, signed_get(envelope_outer(e), "signed_payload"), reterr);
}

int envelope_decrypt(Envelope *e, const char *device_id, const KemKey *kem, EnvelopeError *reterr) {
        uint8_t key[KEY_SIZE];
        int r;

        if (e->payload)
                return 1;
        if (e->plain)
                r = read_plaintext_envelope(e, reterr);
        else {
                r = envelope_content_key(e, device_id, kem, key, reterr);
                if (r >= 0)
                        r = open_content(e, key, reterr);
                sodium_memzero(key, sizeof(key));
        }
        if (r < 0)
                envelope_shut(e);
        return r;
}

/* Check 12. Both canonical forms are tried, the second only when it is another one (§3.5). */
static int signature_fits_a_key(Envelope *e, const uint8_t (*keys)[KEY_SIZE], size_t n_keys) {
        int r;

        if (!e->signature_fits)
                return 0;
        for (size_t i = 0; i < n_keys; i++)
                if (sign_verify(keys[i], KEY_SIZE, e->canonical[0].text, e->canonical[0].size, e->signature,
                                SIGNATURE_SIZE))
                        return 1;

        if (!e->canonical[1].text) {
                r = canonical_init(&e->canonical[1], e);
                if (r >= 0)
                        r = canonical_format_for_signing(e->payload, CANONICAL_RFC8785, &e->canonical[1]);
                if (r < 0) {
                        /* The beginning of a form is not a form. */
                        secret_buffer_done(&e->canonical[1]);
                        return r == -ENOMEM ? r : 0;
                }
        }
        if (e->canonical[0].size == e->canonical[1].size &&
            memcmp(e->canonical[0].text, e->canonical[1].text, e->canonical[0].size) == 0)
                return 0;
        for (size_t i = 0; i < n_keys; i++)
                if (sign_verify(keys[i], KEY_SIZE, e->canonical[1].text, e->canonical[1].size, e->signature,
                                SIGNATURE_SIZE))
                        return 1;
        return 0;
}

/* Absent and null are the same; anything but a string equals nothing. */
static bool same_text(const SignedValue *a, const SignedValue *b, const char *key) {
        const SignedValue *x = signed_get(a, key), *y = signed_get(b, key);

        if (signed_is_null(x) || signed_is_null(y))
                return signed_is_null(x) && signed_is_null(y);
        return x->type == SIGNED_STRING && y->type == SIGNED_STRING && x->size == y->size &&
               memcmp(x->text, y->text, x->size) == 0;
}

/* Check 14. */
static bool payload_is_complete(const SignedValue *p) {
        static const char *const required[] = {
                        "type",    "version",       "envelope_kind", "sender_subkey_id",
                        "sent_at", "message_nonce", "content_type",  "content",
        };

        for (size_t i = 0; i < ELEMENTSOF(required); i++)
                if (!signed_get(p, required[i]))
                        return false;
        /* A nonce that is no text could not be remembered (§17.3). */
        return signed_get_string(p, "content_type") && signed_get_string(p, "message_nonce") && !has_long_id(p);
}

/* Checks 13, 15 and 17 need an outer route; a plaintext envelope has none. */
static EnvelopeError compare_with_outer(const Envelope *e, const Route *inner) {
        const SignedValue *outer = envelope_outer(e), *p = e->payload;
        EnvelopeError ignored;
        Route route = {};

        if (read_route(outer, &route, &ignored) < 0 || route.kind != inner->kind || route.sent_at != inner->sent_at)
                return ENVELOPE_INNER_OUTER_MISMATCH;
        if (!same_text(outer, p, "space_id") || !same_text(outer, p, "channel_id") ||
            !same_text(outer, p, "recipient_slug"))
                return ENVELOPE_INNER_OUTER_MISMATCH;
        return ENVELOPE_OK;
}

static EnvelopeError check_route(const SignedValue *p, const Route *route) {
        bool channel = route->kind == ENVELOPE_CHANNEL;
        const char *const space = signed_get_string(p, "space_id"), *const room = signed_get_string(p, "channel_id"),
                          *const recipient = signed_get_string(p, "recipient_slug");

        if (channel ? isempty(space) || isempty(room) : isempty(recipient))
                return ENVELOPE_INNER_OUTER_MISMATCH;
        if (channel ? !signed_is_null(signed_get(p, "recipient_slug"))
                    : !signed_is_null(signed_get(p, "space_id")) || !signed_is_null(signed_get(p, "channel_id")))
                return ENVELOPE_INNER_OUTER_MISMATCH;
        return ENVELOPE_OK;
}

/* Checks 13–17, once the signature is known to be good. */
static EnvelopeError check_payload(const Envelope *e, Message *ret) {
        const SignedValue *outer = envelope_outer(e), *p = e->payload;
        EnvelopeError error;
        Route inner = {};

        if (!e->plain && (!same_text(outer, p, "sender_slug") || !signed_get(p, "sender_slug")))
                return ENVELOPE_SENDER_SLUG_MISMATCH;
        if (!payload_is_complete(p) || !signed_get_string(p, "sender_slug"))
                return ENVELOPE_PLAINTEXT_INVALID;
        if (!e->plain && !streq_ptr(signed_get_string(outer, "type"), "message_envelope"))
                return ENVELOPE_TYPE;
        if (!is_version_1(outer))
                return ENVELOPE_VERSION;
        if (!streq_ptr(signed_get_string(p, "type"), "message_payload"))
                return ENVELOPE_PAYLOAD_TYPE;
        if (!is_version_1(p))
                return ENVELOPE_PAYLOAD_VERSION;

        inner.kind = envelope_kind_from_string(signed_get_string(p, "envelope_kind"));
        if (inner.kind < 0 || signed_get_int(p, "sent_at", &inner.sent_at) < 0 || inner.sent_at < 0)
                return ENVELOPE_INNER_OUTER_MISMATCH;
        error = e->plain ? ENVELOPE_OK : compare_with_outer(e, &inner);
        if (error == ENVELOPE_OK)
                error = check_route(p, &inner);
        if (error != ENVELOPE_OK)
                return error;

        *ret = (Message) {
                .kind = inner.kind,
                .envelope_id = signed_get_string(outer, "envelope_id"),
                .sender_slug = signed_get_string(p, "sender_slug"),
                .sender_subkey_id = signed_get_string(p, "sender_subkey_id"),
                .space_id = signed_get_string(p, "space_id"),
                .channel_id = signed_get_string(p, "channel_id"),
                .recipient_slug = signed_get_string(p, "recipient_slug"),
                .thread_root_id = signed_get_string(p, "thread_root_id"),
                .reply_to_id = signed_get_string(p, "reply_to_id"),
                .message_nonce = signed_get_string(p, "message_nonce"),
                .content_type = signed_get_string(p, "content_type"),
                .content = signed_get(p, "content"),
                .sent_at = inner.sent_at,
                .encrypted = !e->plain,
        };
        return ENVELOPE_OK;
}

int envelope_verify(Envelope *e, const uint8_t (*keys)[KEY_SIZE], size_t n_keys, Message *ret, EnvelopeError *reterr) {
        EnvelopeError error;
        int r;

        assert(e->payload);     /* envelope_decrypt() comes first */

        r = signature_fits_a_key(e, keys, n_keys);
        if (r < 0)
                return r;
        error = r == 0 ? ENVELOPE_SIGNATURE_INVALID : check_payload(e, ret);
        return error == ENVELOPE_OK ? 0 : refuse(reterr, error);
}
