/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "base64url.h"
#include "certificate.h"
#include "request-signing.h"

void nonce_random(char ret[NONCE_TEXT_SIZE]) {
        uint8_t raw[16];

        randombytes_buf(raw, sizeof(raw));
        (void) sodium_bin2base64(ret, NONCE_TEXT_SIZE, raw, sizeof(raw), sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

int signed_request_format(const SignedRequest *q, StrBuf *b) {
        size_t begin = b->size;
        int r;

        r = strbuf_puts(b, q->method);
        if (r < 0)
                return r;
        for (char *c = b->text + begin; *c; c++)
                if (*c >= 'a' && *c <= 'z')
                        *c = (char) (*c - 'a' + 'A');

        r = strbuf_printf(b, "\n%s\n%s\n%s\n", q->path, q->timestamp, q->nonce);
        return r < 0 ? r : strbuf_append(b, q->body, q->body_size);
}

int signed_request_sign(const SignedRequest *q, const uint8_t seed[KEY_SIZE], char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        uint8_t signature[SIGNATURE_SIZE];
        int r = signed_request_format(q, &b);

        if (r < 0)
                return r;
        sign_detached(seed, b.text, b.size, signature);
        *ret = base64url_encode(signature, sizeof(signature));
        return *ret ? 0 : -ENOMEM;
}

static int refuse(char **reterr, char *text) {
        if (!text)
                return -ENOMEM;
        *reterr = text;
        return -EBADMSG;
}

int signed_request_verify(const SignedRequest *q, const char *signature, const uint8_t *key, size_t key_size,
                          char **reterr) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ uint8_t *raw = NULL;
        size_t size;
        int r;

        r = base64url_decode(signature, strlen(signature), &raw, &size);
        if (r == -EBADMSG)
                return refuse(reterr, strdup("signature base64 decode failed: not base64url"));
        if (r < 0)
                return r;
        if (size != SIGNATURE_SIZE)
                return refuse(reterr, asprintf_new("signature must be 64 bytes, got %zu", size));

        r = signed_request_format(q, &b);
        if (r < 0)
                return r;
        if (!sign_verify(key, key_size, b.text, b.size, raw, size))
                return refuse(reterr, strdup("signature verification failed"));
        return 0;
}

bool timestamp_is_fresh(const char *timestamp, int64_t now_ms) {
        uint64_t ms;

        if (strlen(timestamp) > 19 || parse_u64(timestamp, &ms) < 0 || ms > INT64_MAX)
                return false;
        return (int64_t) ms >= now_ms - TIMESTAMP_SKEW_MS && (int64_t) ms <= now_ms + TIMESTAMP_SKEW_MS;
}

char* stream_url(const char *server_url) {
        _cleanup_free_ char *base = strdup(server_url);
        const char *rest, *scheme = "";

        if (!base)
                return NULL;
        for (size_t n = strlen(base); n > 0 && base[n - 1] == '/'; n--)
                base[n - 1] = 0;

        rest = startswith(base, "https://");
        if (rest)
                scheme = "wss://";
        else {
                rest = startswith(base, "http://");
                if (rest)
                        scheme = "ws://";
        }
        return strjoin(scheme, rest ?: base, "/subscribe");
}

int stream_connect_frame(const char *slug, const char *subkey_id, const uint8_t subkey_seed[KEY_SIZE],
                         const char *nonce, int64_t timestamp_ms, char **ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf b = {}, frame = {};
        _cleanup_free_ char *text = NULL;
        uint8_t signature[SIGNATURE_SIZE];
        SignedValue *o;
        int r;

        r = strbuf_printf(&b, "ws-connect\n%s\n%s\n%s\n%" PRId64, slug, subkey_id, nonce, timestamp_ms);
        if (r >= 0)
                r = signed_document_new(&d);
        if (r < 0)
                return r;
        sign_detached(subkey_seed, b.text, b.size, signature);
        text = base64url_encode(signature, sizeof(signature));
        if (!text)
                return -ENOMEM;

        o = signed_object(d);
        r = signed_put(d, o, "type", signed_string(d, "connect"));
        if (r >= 0)
                r = signed_put(d, o, "slug", signed_string(d, slug));
        if (r >= 0)
                r = signed_put(d, o, "subkey_id", signed_string(d, subkey_id));
        if (r >= 0)
                r = signed_put(d, o, "nonce", signed_string(d, nonce));
        if (r >= 0)
                r = signed_put(d, o, "timestamp", signed_int(d, timestamp_ms));
        if (r >= 0)
                r = signed_put(d, o, "signature", signed_string(d, text));
        if (r >= 0)
                r = signed_value_format(o, &frame);
        if (r < 0)
                return r;

        *ret = strbuf_take(&frame);
        return *ret ? 0 : -ENOMEM;
}

int signed_event_new(SignedDocument *d, const char *event_id, const char *kind, SignedValue *payload,
                     const EventSigner *signer, SignedValue **ret) {
        SignedValue *o = signed_object(d);
        int r;

        r = signed_put(d, o, "type", signed_string(d, "signed_event"));
        if (r >= 0)
                r = signed_put(d, o, "version", signed_int(d, 1));
        if (r >= 0)
                r = signed_put(d, o, "event_id", signed_string(d, event_id));
        if (r >= 0)
                r = signed_put(d, o, "kind", signed_string(d, kind));
        if (r >= 0)
                r = signed_put(d, o, "payload", payload);
        if (r >= 0)
                r = signed_put(d, o, "signer_slug", signed_string(d, signer->slug));
        if (r >= 0)
                r = signed_put(d, o, "signer_device_id", signed_string(d, signer->device_id));
        if (r >= 0)
                r = signed_put(d, o, "signer_subkey_id", signed_string(d, signer->subkey_id));
        if (r >= 0)
                r = signed_object_sign(d, o, "signature", signer->subkey_seed);
        if (r < 0)
                return r;

        *ret = o;
        return 0;
}
