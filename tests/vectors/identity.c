/* SPDX-License-Identifier: MIT */

/* Certificates, attachments, signed requests, events and the stream's handshake. */

#include "attachment.h"
#include "certificate.h"
#include "request-signing.h"
#include "vector.h"

static bool kind_is(const SignedValue *c, const char *kind) {
        return streq(vector_text(c, "kind"), kind);
}

static const char* compare_outcome(const SignedValue *c, int r, const char *error) {
        if (vector_true(c, "valid"))
                return r >= 0 ? NULL : "refused";
        if (r >= 0)
                return "accepted";
        return !signed_get(c, "error_text") || (error && vector_error_matches(vector_text(c, "error_text"), error))
                       ? NULL
                       : "other error text";
}

static const char* compare_returned_key(const SignedValue *c, const uint8_t key[KEY_SIZE]) {
        uint8_t expected[KEY_SIZE];

        return vector_field(c, "returns", expected, KEY_SIZE) && memcmp(key, expected, KEY_SIZE) == 0 ? NULL
                                                                                                      : "other key";
}

static const char* run_create_subkey(const SignedValue *c) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf ours = {}, theirs = {}, canonical = {};
        uint8_t seed[KEY_SIZE], subkey[KEY_SIZE];
        _cleanup_bytes_ Bytes expected = {};
        int64_t issued, hours;
        SignedValue *cert;

        if (!vector_field(c, "device_signing_secret_key", seed, KEY_SIZE) ||
            !vector_field(c, "subkey_public_key", subkey, KEY_SIZE) || !vector_bytes(c, "signed_utf8", &expected) ||
            signed_get_int(c, "issued_at", &issued) < 0 || signed_get_int(c, "ttl_hours", &hours) < 0)
                return "incomplete";
        if (signed_document_new(&d) < 0 ||
            subkey_cert_new(d, seed, vector_text(c, "device_id"), subkey, issued, hours * 3600 * 1000, &cert) < 0)
                return "failed";
        if (canonical_format_for_signing(cert, CANONICAL_COMPAT, &canonical) < 0 ||
            !bytes_equal(&expected, canonical.text, canonical.size))
                return "other signed bytes";
        if (signed_value_format(cert, &ours) < 0 || signed_value_format(signed_get(c, "cert"), &theirs) < 0 ||
            ours.size != theirs.size || memcmp(ours.text, theirs.text, ours.size) != 0)
                return "other certificate";
        return NULL;
}

static const char* run_subkey(const SignedValue *c) {
        uint8_t device[KEY_SIZE], key[KEY_SIZE];
        SubkeyError error = SUBKEY_OK;
        int64_t now;
        int r;

        if (!vector_field(c, "device_signing_public_key", device, KEY_SIZE) || signed_get_int(c, "now_ms", &now) < 0)
                return "incomplete";
        r = subkey_cert_check(signed_get(c, "cert"), device, vector_text(c, "device_id"), now, key, &error);
        if (vector_true(c, "valid"))
                return r >= 0 ? NULL : subkey_error_to_string(error);
        return r < 0 && streq(subkey_error_to_string(error), vector_text(c, "reason")) ? NULL
                                                                                       : subkey_error_to_string(error);
}

static const char* run_expiry(const SignedValue *c) {
        int64_t now, expires = -1;
        bool is;

        if (signed_get_int(c, "now_ms", &now) < 0)
                return "incomplete";
        (void) signed_get_int(c, "expires_at", &expires);
        is = kind_is(c, "is_expired") ? subkey_is_expired(expires, now) : subkey_needs_rotation(expires, now);
        return is == vector_true(c, "expect") ? NULL : "other answer";
}

static const char* run_certificate(const SignedValue *c) {
        uint8_t root[KEY_SIZE] = {}, operator[KEY_SIZE] = {}, key[KEY_SIZE];
        const SignedValue *cert = signed_get(c, "cert");
        _cleanup_free_ char *error = NULL;
        const char *slug = NULL, *problem;
        int r;

        if (kind_is(c, "info"))
                return NULL;
        if (kind_is(c, "create_subkey_cert"))
                return run_create_subkey(c);
        if (kind_is(c, "subkey_cert"))
                return run_subkey(c);
        if (kind_is(c, "needs_rotation") || kind_is(c, "is_expired"))
                return run_expiry(c);

        if (kind_is(c, "identity_cert")) {
                r = identity_cert_check(cert, key, &error);
                problem = compare_outcome(c, r, error);
                return problem || r < 0 ? problem : compare_returned_key(c, key);
        }
        if (!vector_field(c, "root_public_key", root, KEY_SIZE))
                return "no root key";
        if (kind_is(c, "slug_binding")) {
                r = slug_binding_check(cert, root, &slug, &error);
                problem = compare_outcome(c, r, error);
                return problem || r < 0 ? problem : streq(slug, vector_text(c, "returns")) ? NULL : "other slug";
        }
        if (kind_is(c, "device_cert")) {
                r = device_cert_check(cert, root, key, &error);
                problem = compare_outcome(c, r, error);
                return problem || r < 0 ? problem : compare_returned_key(c, key);
        }
        if (kind_is(c, "operator_attestation")) {
                if (!vector_field(c, "operator_root_public_key", operator, KEY_SIZE))
                        return "no operator key";
                r = operator_attestation_check(cert, root, operator, &error);
                return compare_outcome(c, r, error);
        }
        return "unknown kind";
}

static const char* run_attachment_roundtrip(const SignedValue *c) {
        _cleanup_bytes_ Bytes plain = {}, sealed = {};
        _cleanup_free_ uint8_t *out = NULL, *back = NULL;
        AttachmentError error = ATTACHMENT_OK;
        size_t size;
        Attachment a;

        if (attachment_read(signed_get(c, "meta"), &a, &error) < 0)
                return attachment_error_to_string(error);
        if (!vector_bytes(c, "plaintext", &plain) || !vector_bytes(c, "ciphertext", &sealed))
                return "incomplete";
        if (attachment_seal_with(&a, plain.data, plain.size, &out, &size) < 0 || !bytes_equal(&sealed, out, size))
                return "other ciphertext";
        if (attachment_open(&a, sealed.data, sealed.size, &back, &size, &error) < 0)
                return attachment_error_to_string(error);
        return bytes_equal(&plain, back, size) ? NULL : "other plaintext";
}

static const char* run_attachment_reject(const SignedValue *c) {
        AttachmentError error = ATTACHMENT_OK;
        _cleanup_free_ uint8_t *out = NULL;
        _cleanup_bytes_ Bytes sealed = {};
        size_t size;
        Attachment a;

        if (!vector_bytes(c, "ciphertext", &sealed))
                return "incomplete";
        if (attachment_read(signed_get(c, "meta"), &a, &error) >= 0)
                (void) attachment_open(&a, sealed.data, sealed.size, &out, &size, &error);
        return streq(attachment_error_to_string(error), vector_text(c, "reason")) ? NULL
                                                                                  : attachment_error_to_string(error);
}

static const char* run_attachment(const SignedValue *c) {
        _cleanup_bytes_ Bytes in = {}, expected = {};
        _cleanup_free_ char *name = NULL;
        const uint8_t *part;
        size_t size;

        if (kind_is(c, "roundtrip"))
                return run_attachment_roundtrip(c);
        if (kind_is(c, "reject"))
                return run_attachment_reject(c);
        if (kind_is(c, "safe_name")) {
                name = attachment_safe_name(vector_text(c, "filename"), vector_text(c, "blob_id"));
                return name && streq(name, vector_text(c, "required")) ? NULL : "other name";
        }

        if (!vector_bytes(c, "input_hex", &in) || !vector_bytes(c, "output_hex", &expected))
                return "incomplete";
        attachment_strip_multipart(in.data, in.size, &part, &size);
        return bytes_equal(&expected, part, size) ? NULL : "other part";
}

static const char* run_sign(const SignedValue *c) {
        _cleanup_(strbuf_done) StrBuf signed_bytes = {};
        _cleanup_bytes_ Bytes expected = {}, body = {};
        _cleanup_free_ char *signature = NULL, *timestamp = NULL;
        uint8_t seed[KEY_SIZE];
        SignedRequest q;
        int64_t ms;

        if (!vector_field(c, "signing_secret_key", seed, KEY_SIZE) || !vector_bytes(c, "body", &body) ||
            signed_get_int(c, "timestamp_ms", &ms) < 0)
                return "incomplete";
        timestamp = asprintf_new("%" PRId64, ms);
        q = (SignedRequest) {
                .method = vector_text(c, "method"),
                .path = vector_text(c, "path"),
                .timestamp = timestamp,
                .nonce = vector_text(c, "nonce"),
                .body = body.data,
                .body_size = body.size,
        };
        if (signed_request_format(&q, &signed_bytes) < 0 || signed_request_sign(&q, seed, &signature) < 0)
                return "failed";
        if (vector_bytes(c, "signed_hex", &expected) && !bytes_equal(&expected, signed_bytes.text, signed_bytes.size))
                return "other signed bytes";
        return streq(signature, vector_text(signed_get(c, "headers"), "x-puffo-signature")) ? NULL : "other signature";
}

static const char* run_verify(const SignedValue *c) {
        _cleanup_bytes_ Bytes key = {}, body = {};
        _cleanup_free_ char *error = NULL;
        SignedRequest q;
        int r;

        if (!vector_bytes(c, "public_key", &key) || !vector_bytes(c, "body", &body))
                return "incomplete";
        q = (SignedRequest) {
                .method = vector_text(c, "method"),
                .path = vector_text(c, "path"),
                .timestamp = vector_text(c, "timestamp"),
                .nonce = vector_text(c, "nonce"),
                .body = body.data,
                .body_size = body.size,
        };
        r = signed_request_verify(&q, vector_text(c, "signature"), key.data, key.size, &error);
        return compare_outcome(c, r, error);
}

static const char* run_http_signing(const SignedValue *c) {
        const SignedValue *timestamp = signed_get(c, "timestamp");
        int64_t now;

        if (kind_is(c, "sign"))
                return run_sign(c);
        if (kind_is(c, "verify"))
                return run_verify(c);
        if (signed_get_int(c, "now_ms", &now) < 0)
                return "incomplete";
        return timestamp_is_fresh(timestamp->text, now) == vector_true(c, "required") ? NULL : "other answer";
}

static const char* run_event(const SignedValue *c) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf ours = {}, theirs = {};
        uint8_t seed[KEY_SIZE];
        SignedValue *event;

        if (!vector_field(c, "signing_secret_key", seed, KEY_SIZE) || signed_document_new(&d) < 0)
                return "incomplete";
        const EventSigner signer = {
                .slug = vector_text(c, "signer_slug"),
                .device_id = vector_text(c, "signer_device_id"),
                .subkey_id = vector_text(c, "signer_subkey_id"),
                .subkey_seed = seed,
        };
        if (signed_event_new(d, vector_text(c, "event_id"), vector_text(c, "kind"),
                             signed_copy(d, signed_get(c, "payload")), &signer, &event) < 0)
                return "failed";
        if (signed_value_format(event, &ours) < 0 || signed_value_format(signed_get(c, "event"), &theirs) < 0)
                return "failed";
        return streq(ours.text, theirs.text) ? NULL : "other event";
}

static const char* run_stream(const SignedValue *c) {
        _cleanup_free_ char *frame = NULL, *url = NULL;
        _cleanup_(strbuf_done) StrBuf expected = {};
        uint8_t seed[KEY_SIZE];
        int64_t ms;

        if (kind_is(c, "url")) {
                url = stream_url(vector_text(c, "server_url"));
                return url && streq(url, vector_text(c, "ws_url")) ? NULL : "other address";
        }
        if (!vector_field(c, "signing_secret_key", seed, KEY_SIZE) || signed_get_int(c, "timestamp", &ms) < 0 ||
            stream_connect_frame(vector_text(c, "slug"), vector_text(c, "subkey_id"), seed, vector_text(c, "nonce"),
                                 ms, &frame) < 0 ||
            signed_value_format(signed_get(c, "frame"), &expected) < 0)
                return "failed";
        return streq(frame, expected.text) ? NULL : "other frame";
}

const VectorFile vector_files_identity[] = {
        { "attachment.json", run_attachment },
        { "certs.json", run_certificate },
        { "http-signing.json", run_http_signing },
        { "signed-event.json", run_event },
        { "ws.json", run_stream },
        {},
};
