/* SPDX-License-Identifier: MIT */

/* Encodings, keys, AADs and HPKE. */

#include "aad.h"
#include "base64url.h"
#include "hpke.h"
#include "vector.h"

static const char *compare_canonical(const SignedValue *c, const SignedValue *value, const char *key,
                                     CanonicalMode mode, bool for_signing) {
        _cleanup_bytes_ Bytes expected = {};
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        if (!vector_bytes(c, key, &expected))
                return NULL;
        r = for_signing ? canonical_format_for_signing(value, mode, &b) : canonical_format(value, mode, &b);
        return r >= 0 && bytes_equal(&expected, b.text, b.size) ? NULL : key;
}

static const char* run_canonical(const SignedValue *c) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        const SignedValue *input = signed_get(c, "input_json"), *value;
        const char *problem, *rfc8785;
        int r;

        r = signed_document_parse(&d, input->text, input->size);
        if (signed_get(c, "error"))
                return r < 0 || canonical_format(signed_document_root(d), CANONICAL_COMPAT, &b) < 0 ? NULL
                                                                                                    : "accepted";
        if (r < 0)
                return "does not parse";

        value = signed_document_root(d);
        /* Where the forms are the same, the file has one. */
        rfc8785 = signed_get(c, "rfc8785_utf8") ? "rfc8785_utf8" : "canonical_utf8";
        problem = compare_canonical(c, value, "canonical_utf8", CANONICAL_COMPAT, false);
        if (!problem)
                problem = compare_canonical(c, value, "canonical_hex", CANONICAL_COMPAT, false);
        if (!problem)
                problem = compare_canonical(c, value, rfc8785, CANONICAL_RFC8785, false);
        if (!problem)
                problem = compare_canonical(c, value, "for_signing_utf8", CANONICAL_COMPAT, true);
        return problem;
}

static const char* run_base64url(const SignedValue *c) {
        _cleanup_free_ uint8_t *data = NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_bytes_ Bytes raw = {};
        const SignedValue *encoded = signed_get(c, "encoded");
        bool reject = streq(vector_text(c, "required"), "reject");
        size_t size;
        int r;

        if (!reject && !vector_bytes(c, "raw_hex", &raw))
                return "no raw_hex";
        if (streq(vector_text(c, "kind"), "encode")) {
                text = base64url_encode(raw.data, raw.size);
                return text && streq(text, encoded->text) ? NULL : "encodes otherwise";
        }

        r = base64url_decode(encoded->text, encoded->size, &data, &size);
        if (reject)
                return r < 0 ? NULL : "accepted";
        return r >= 0 && bytes_equal(&raw, data, size) ? NULL : "decodes otherwise";
}

static const char* run_fingerprint(const SignedValue *c) {
        _cleanup_bytes_ Bytes key = {}, expected = {};
        _cleanup_free_ char *id = NULL;
        uint8_t fingerprint[32];
        int r;

        if (streq(vector_text(c, "kind"), "key_id")) {
                if (!vector_bytes(c, "public_key", &key) || key.size != KEY_SIZE)
                        return "no key";
                id = key_id(vector_text(c, "prefix"), key.data);
                return id && streq(id, vector_text(c, "id")) ? NULL : "other id";
        }

        if (!vector_bytes(c, "root_public_key", &key))
                return "no key";
        r = root_key_fingerprint(key.data, key.size, fingerprint);
        if (signed_get(c, "error"))
                return r < 0 ? NULL : "accepted";
        if (r < 0 || !vector_bytes(c, "fingerprint_hex", &expected))
                return "failed";
        return bytes_equal(&expected, fingerprint, sizeof(fingerprint)) ? NULL : "other fingerprint";
}

static Field field_of_member(const SignedValue *c, const char *key) {
        const SignedValue *v = signed_get(c, key);

        return v && v->type == SIGNED_STRING ? (Field) { v->text, v->size } : (Field) {};
}

static int build_aad(const SignedValue *c, StrBuf *b) {
        const SignedValue *input = signed_get(c, "input");
        uint8_t nonce[32], recipient[KEY_SIZE], fingerprint[32];
        Route route;
        int r;

        if (streq(vector_text(c, "kind"), "wrap"))
                return aad_wrap(b, field_of_member(c, "envelope_id"), field_of_member(c, "device_id"));
        if (streq(vector_text(c, "kind"), "root_key_envelope")) {
                if (!vector_field(c, "enrollment_nonce", nonce, sizeof(nonce)) ||
                    !vector_field(c, "recipient_kem_public_key", recipient, sizeof(recipient)) ||
                    !vector_field(c, "root_public_key_fingerprint", fingerprint, sizeof(fingerprint)))
                        return -EINVAL;
                return aad_root_key_envelope(b, nonce, recipient, fingerprint);
        }

        route = (Route) {
                .kind = envelope_kind_from_string(signed_get_string(input, "envelope_kind")),
                .envelope_id = field_of_member(input, "envelope_id"),
                .sender_slug = field_of_member(input, "sender_slug"),
                .space_id = field_of_member(input, "space_id"),
                .channel_id = field_of_member(input, "channel_id"),
                .recipient_slug = field_of_member(input, "recipient_slug"),
        };
        r = signed_get_int(input, "sent_at_ms", &route.sent_at);
        return r < 0 ? r : aad_outer(b, &route);
}

static const char* run_aad(const SignedValue *c) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_bytes_ Bytes expected = {};
        int r = build_aad(c, &b);

        if (signed_get(c, "error"))
                return r < 0 ? NULL : "accepted";
        if (r < 0 || !vector_bytes(c, "aad_hex", &expected))
                return "failed";
        return bytes_equal(&expected, b.text, b.size) ? NULL : "other bytes";
}

/* Opens with the recipient's key and compares; with an ephemeral key seals too. Works on every schema that names the
 * parts like this. */
static const char *hpke_open_case(const uint8_t secret[KEY_SIZE], const Bytes *enc, const Bytes *info,
                                  const Bytes *aad, const Bytes *sealed, const Bytes *plain) {
        _cleanup_(hpke_context_done) HpkeContext context = {};
        _cleanup_free_ uint8_t *opened = malloc(sealed->size + 1);
        KemKey key;
        int r;

        kem_key_init(&key, secret);
        r = hpke_setup_receiver(&key, enc->data, enc->size, info->data, info->size, &context);
        if (r >= 0)
                r = hpke_context_open(&context, 0, aad->data, aad->size, sealed->data, sealed->size, opened);
        if (!plain)
                return r < 0 ? NULL : "accepted";
        return r >= 0 && bytes_equal(plain, opened, sealed->size - AEAD_TAG_SIZE) ? NULL : "does not open";
}

static const char* run_hpke(const SignedValue *c) {
        _cleanup_bytes_ Bytes info = {}, aad = {}, plain = {}, enc = {}, sealed = {}, shared = {}, key = {},
                              nonce = {};
        _cleanup_(hpke_context_done) HpkeContext context = {};
        uint8_t secret[KEY_SIZE], public[KEY_SIZE], ephemeral[KEY_SIZE], ret_enc[KEY_SIZE];
        _cleanup_free_ uint8_t *out = NULL;

        if (!vector_field(c, "recipient_secret_key", secret, KEY_SIZE) || !vector_bytes(c, "info_hex", &info) ||
            !vector_bytes(c, "aad_hex", &aad) || !vector_bytes(c, "enc", &enc) ||
            !vector_bytes(c, "ciphertext", &sealed))
                return "incomplete";
        if (streq(vector_text(c, "kind"), "open_fail"))
                return hpke_open_case(secret, &enc, &info, &aad, &sealed, NULL);

        if (!vector_field(c, "recipient_public_key", public, KEY_SIZE) || !vector_bytes(c, "plaintext_hex", &plain) ||
            !vector_field(c, "ephemeral_secret_key", ephemeral, KEY_SIZE) ||
            !vector_bytes(c, "shared_secret_hex", &shared) || !vector_bytes(c, "key_hex", &key) ||
            !vector_bytes(c, "base_nonce_hex", &nonce))
                return "incomplete";
        if (hpke_setup_sender(public, ephemeral, info.data, info.size, ret_enc, &context) < 0)
                return "set-up failed";
        if (!bytes_equal(&enc, ret_enc, KEY_SIZE))
                return "other enc";
        if (!bytes_equal(&shared, context.shared_secret, 32) || !bytes_equal(&key, context.key, 32) ||
            !bytes_equal(&nonce, context.base_nonce, 12))
                return "other key schedule";

        out = malloc(plain.size + AEAD_TAG_SIZE);
        hpke_context_seal(&context, 0, aad.data, aad.size, plain.data, plain.size, out);
        if (!bytes_equal(&sealed, out, plain.size + AEAD_TAG_SIZE))
                return "other ciphertext";
        return hpke_open_case(secret, &enc, &info, &aad, &sealed, &plain);
}

/* Hex without the suffix: RFC 9180's own file. */
static bool hex_member(const SignedValue *c, const char *key, Bytes *ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *o;

        if (signed_document_new(&d) < 0)
                return false;
        o = signed_object(d);
        return signed_put(d, o, "x_hex", signed_string(d, vector_text(c, key))) >= 0 && vector_bytes(o, "x_hex", ret);
}

static const char *run_rfc9180_encryption(const HpkeContext *sender, const HpkeContext *receiver,
                                          const SignedValue *e) {
        _cleanup_bytes_ Bytes plain = {}, aad = {}, sealed = {};
        _cleanup_free_ uint8_t *out = NULL;
        int64_t sequence;

        if (signed_get_int(e, "sequence_number", &sequence) < 0 || !hex_member(e, "pt", &plain) ||
            !hex_member(e, "aad", &aad) || !hex_member(e, "ct", &sealed))
                return "incomplete encryption";
        out = malloc(sealed.size);
        hpke_context_seal(sender, (uint64_t) sequence, aad.data, aad.size, plain.data, plain.size, out);
        if (!bytes_equal(&sealed, out, plain.size + AEAD_TAG_SIZE))
                return "other ciphertext";
        if (hpke_context_open(receiver, (uint64_t) sequence, aad.data, aad.size, sealed.data, sealed.size, out) < 0 ||
            !bytes_equal(&plain, out, sealed.size - AEAD_TAG_SIZE))
                return "does not open";
        return NULL;
}

static const char* run_rfc9180_export(const HpkeContext *sender, const SignedValue *e) {
        _cleanup_bytes_ Bytes context = {}, expected = {};
        uint8_t out[64];

        if (!hex_member(e, "exporter_context", &context) || !hex_member(e, "exported_value", &expected) ||
            expected.size > sizeof(out))
                return "incomplete export";
        if (hpke_context_export(sender, context.data, context.size, out, expected.size) < 0)
                return "export failed";
        return bytes_equal(&expected, out, expected.size) ? NULL : "other export";
}

static const char* run_rfc9180(const SignedValue *c) {
        _cleanup_bytes_ Bytes info = {}, ephemeral = {}, secret = {}, public = {}, enc = {}, shared = {}, key = {},
                              nonce = {}, exporter = {};
        _cleanup_(hpke_context_done) HpkeContext sender = {}, receiver = {};
        const SignedValue *encryptions = signed_get(c, "encryptions"), *exports = signed_get(c, "exports");
        uint8_t ret_enc[KEY_SIZE];
        const char *problem = NULL;
        KemKey recipient;

        if (!hex_member(c, "info", &info) || !hex_member(c, "skEm", &ephemeral) || !hex_member(c, "skRm", &secret) ||
            !hex_member(c, "pkRm", &public) || !hex_member(c, "enc", &enc) ||
            !hex_member(c, "shared_secret", &shared) || !hex_member(c, "key", &key) ||
            !hex_member(c, "base_nonce", &nonce) || !hex_member(c, "exporter_secret", &exporter) || !encryptions ||
            !exports)
                return "incomplete";
        kem_key_init(&recipient, secret.data);
        if (!bytes_equal(&public, recipient.public, KEY_SIZE))
                return "other public key";
        if (hpke_setup_sender(public.data, ephemeral.data, info.data, info.size, ret_enc, &sender) < 0 ||
            hpke_setup_receiver(&recipient, enc.data, enc.size, info.data, info.size, &receiver) < 0)
                return "set-up failed";
        if (!bytes_equal(&enc, ret_enc, KEY_SIZE) || memcmp(&sender, &receiver, sizeof(sender)) != 0)
                return "the two sides differ";
        if (!bytes_equal(&shared, sender.shared_secret, 32) || !bytes_equal(&key, sender.key, 32) ||
            !bytes_equal(&nonce, sender.base_nonce, 12) || !bytes_equal(&exporter, sender.exporter_secret, 32))
                return "other key schedule";

        for (const SignedValue *e = encryptions->child; e && !problem; e = e->next)
                problem = run_rfc9180_encryption(&sender, &receiver, e);
        for (const SignedValue *e = exports->child; e && !problem; e = e->next)
                problem = run_rfc9180_export(&sender, e);
        return problem;
}

static const char* run_hpke_open_only(const SignedValue *c) {
        _cleanup_bytes_ Bytes enc = {}, info = {}, aad = {}, sealed = {}, plain = {};
        uint8_t secret[KEY_SIZE];

        if (!vector_field(c, "recipient_secret_key", secret, KEY_SIZE) || !vector_bytes(c, "enc", &enc) ||
            !vector_bytes(c, "info", &info) || !vector_bytes(c, "aad", &aad) ||
            !vector_bytes(c, "ciphertext", &sealed) || !vector_bytes(c, "plaintext", &plain))
                return "incomplete";
        return hpke_open_case(secret, &enc, &info, &aad, &sealed, &plain);
}

static const char* run_upstream(const SignedValue *c) {
        const SignedValue *ed = signed_get(c, "ed25519"), *chacha = signed_get(c, "chacha20poly1305"),
                          *signatures = signed_get(ed, "signatures");
        uint8_t seed[KEY_SIZE], public[KEY_SIZE], expected[KEY_SIZE], signature[SIGNATURE_SIZE],
                        nonce[AEAD_NONCE_SIZE];
        _cleanup_bytes_ Bytes aad = {}, plain = {}, sealed = {};
        _cleanup_free_ uint8_t *out = NULL;

        if (!vector_field(ed, "secret_key", seed, KEY_SIZE) || !vector_field(ed, "public_key", expected, KEY_SIZE) ||
            !signatures)
                return "incomplete";
        sign_public_key(seed, public);
        if (memcmp(public, expected, KEY_SIZE) != 0)
                return "other public key";
        for (const SignedValue *s = signatures->child; s; s = s->next) {
                _cleanup_bytes_ Bytes message = {}, good = {};

                if (!vector_bytes(s, "message", &message) || !vector_bytes(s, "signature", &good))
                        return "incomplete signature";
                sign_detached(seed, message.data, message.size, signature);
                if (!bytes_equal(&good, signature, SIGNATURE_SIZE) ||
                    !sign_verify(public, KEY_SIZE, message.data, message.size, good.data, good.size))
                        return "other signature";
        }

        if (!vector_field(chacha, "key", seed, KEY_SIZE) || !vector_field(chacha, "nonce", nonce, sizeof(nonce)) ||
            !vector_bytes(chacha, "aad", &aad) || !vector_bytes(chacha, "plaintext", &plain) ||
            !vector_bytes(chacha, "ciphertext", &sealed))
                return "incomplete cipher";
        out = malloc(plain.size + AEAD_TAG_SIZE);
        aead_seal(seed, nonce, aad.data, aad.size, plain.data, plain.size, out);
        if (!bytes_equal(&sealed, out, plain.size + AEAD_TAG_SIZE))
                return "other ciphertext";
        return run_hpke_open_only(signed_get(c, "hpke"));
}

const VectorFile vector_files_primitives[] = {
        { "aad.json", run_aad },
        { "base64url.json", run_base64url },
        { "canonical-json.json", run_canonical },
        { "fingerprint.json", run_fingerprint },
        { "hpke.json", run_hpke },
        { "rfc9180-x25519-chacha.json", run_rfc9180 },
        { "upstream-rust-cross-vectors.json", run_hpke_open_only },
        { "upstream-test-vectors.json", run_upstream },
        {},
};
