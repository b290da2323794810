/* SPDX-License-Identifier: MIT */

#include "aad.h"

#define LABEL_OUTER "puffo/message-envelope-outer/v1"
#define LABEL_WRAP "puffo/message-envelope-wrap/v1"
#define LABEL_ROOT_KEY "puffo/root-key-envelope/v1"
#define LABEL_ATTACHMENT "puffo/attachment/v1"

const char* envelope_kind_to_string(EnvelopeKind k) {
        static const char *const names[_ENVELOPE_KIND_MAX] = { [ENVELOPE_CHANNEL] = "channel", [ENVELOPE_DM] = "dm" };

        return k >= 0 && k < _ENVELOPE_KIND_MAX ? names[k] : NULL;
}

EnvelopeKind envelope_kind_from_string(const char *s) {
        for (EnvelopeKind k = 0; s && k < _ENVELOPE_KIND_MAX; k++)
                if (streq(s, envelope_kind_to_string(k)))
                        return k;
        return _ENVELOPE_KIND_INVALID;
}

static int put_field(StrBuf *b, Field f) {
        return f.text && f.size > 0 ? strbuf_append(b, f.text, f.size) : -EINVAL;
}

static int put_prefixed(StrBuf *b, Field f) {
        char length[2] = { (char) (f.size >> 8), (char) f.size };
        int r;

        if (!f.text || f.size == 0 || f.size > UINT16_MAX)
                return -EINVAL;
        r = strbuf_append(b, length, sizeof(length));
        return r < 0 ? r : strbuf_append(b, f.text, f.size);
}

static int put_time(StrBuf *b, int64_t ms) {
        char bytes[8];

        if (ms < 0)
                return -EINVAL;
        for (unsigned i = 0; i < 8; i++)
                bytes[i] = (char) (uint8_t) ((uint64_t) ms >> (56 - 8 * i));
        return strbuf_append(b, bytes, sizeof(bytes));
}

int aad_outer(StrBuf *b, const Route *route) {
        int r;

        if (route->kind != ENVELOPE_CHANNEL && route->kind != ENVELOPE_DM)
                return -EINVAL;

        r = strbuf_puts(b, LABEL_OUTER);
        if (r >= 0)
                r = put_field(b, route->envelope_id);
        if (r >= 0)
                r = strbuf_append(b, route->kind == ENVELOPE_CHANNEL ? "\x01" : "\x02", 1);
        if (r >= 0)
                r = put_prefixed(b, route->sender_slug);
        if (r >= 0)
                r = put_time(b, route->sent_at);
        if (r < 0 || route->kind == ENVELOPE_DM)
                return r < 0 ? r : put_prefixed(b, route->recipient_slug);

        r = put_field(b, route->space_id);
        return r < 0 ? r : put_field(b, route->channel_id);
}

int aad_wrap(StrBuf *b, Field envelope_id, Field device_id) {
        int r = strbuf_puts(b, LABEL_WRAP);

        if (r >= 0)
                r = put_field(b, envelope_id);
        return r < 0 ? r : put_field(b, device_id);
}

int aad_root_key_envelope(StrBuf *b, const uint8_t nonce[32], const uint8_t recipient[KEY_SIZE],
                          const uint8_t fingerprint[32]) {
        int r = strbuf_puts(b, LABEL_ROOT_KEY);

        if (r >= 0)
                r = strbuf_append(b, (const char*) nonce, 32);
        if (r >= 0)
                r = strbuf_append(b, (const char*) recipient, KEY_SIZE);
        return r < 0 ? r : strbuf_append(b, (const char*) fingerprint, 32);
}

int aad_attachment(StrBuf *b, Field mime_type, Field filename) {
        int r;

        /* NUL separates the parts; one inside would make two splits look the same. */
        if (memchr(strempty(mime_type.text), 0, mime_type.size) || memchr(strempty(filename.text), 0, filename.size))
                return -EINVAL;

        r = strbuf_append(b, LABEL_ATTACHMENT, sizeof(LABEL_ATTACHMENT));
        if (r >= 0)
                r = strbuf_append(b, mime_type.text, mime_type.size);
        if (r >= 0)
                r = strbuf_append(b, "", 1);
        return r < 0 ? r : strbuf_append(b, filename.text, filename.size);
}
