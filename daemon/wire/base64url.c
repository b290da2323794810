/* SPDX-License-Identifier: MIT */

#include "base64url.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

char* base64url_encode(const void *data, size_t size) {
        const uint8_t *d = data;
        char *text, *p;

        if (size > SIZE_MAX / 2)
                return NULL;
        text = p = malloc((size + 2) / 3 * 4 + 1);
        if (!text)
                return NULL;

        for (; size >= 3; size -= 3, d += 3) {
                *p++ = alphabet[d[0] >> 2];
                *p++ = alphabet[(d[0] & 3) << 4 | d[1] >> 4];
                *p++ = alphabet[(d[1] & 15) << 2 | d[2] >> 6];
                *p++ = alphabet[d[2] & 63];
        }
        if (size > 0) {
                uint8_t second = size > 1 ? d[1] : 0;

                *p++ = alphabet[d[0] >> 2];
                *p++ = alphabet[(d[0] & 3) << 4 | second >> 4];
                if (size > 1)
                        *p++ = alphabet[(second & 15) << 2];
        }
        *p = 0;
        return text;
}

static int sextet(char c) {
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == '-' || c == '+')
                return 62;
        if (c == '_' || c == '/')
                return 63;
        return -EBADMSG;
}

/* Takes correct padding off. -EBADMSG when there is padding that is not. */
static int strip_padding(const char *text, size_t *n) {
        size_t padding = 0;

        while (padding < 3 && padding < *n && text[*n - 1 - padding] == '=')
                padding++;
        if (padding > 0 && (padding > 2 || *n % 4 != 0))
                return -EBADMSG;

        *n -= padding;
        return *n % 4 == 1 ? -EBADMSG : 0;
}

static size_t decoded_size(size_t n) {
        return n / 4 * 3 + (n % 4 == 0 ? 0 : n % 4 - 1);
}

/* n characters without padding; left-over bits of the last one are ignored, as upstream ignores them. */
static int decode_into(const char *text, size_t n, uint8_t *out) {
        uint32_t bits = 0;
        int n_bits = 0;

        for (size_t i = 0; i < n; i++) {
                int v = sextet(text[i]);

                if (v < 0)
                        return v;
                bits = bits << 6 | (uint32_t) v;
                n_bits += 6;
                if (n_bits >= 8) {
                        n_bits -= 8;
                        *out++ = (uint8_t) (bits >> n_bits);
                }
        }
        return 0;
}

int base64url_decode(const char *text, size_t n, uint8_t **ret, size_t *ret_size) {
        _cleanup_free_ uint8_t *data = NULL;
        int r;

        r = strip_padding(text, &n);
        if (r < 0)
                return r;

        data = malloc(decoded_size(n) + 1);
        if (!data)
                return -ENOMEM;
        r = decode_into(text, n, data);
        if (r < 0)
                return r;

        data[decoded_size(n)] = 0;
        *ret_size = decoded_size(n);
        *ret = TAKE_PTR(data);
        return 0;
}

int base64url_decode_exact(const char *text, size_t n, uint8_t *field, size_t size) {
        int r = strip_padding(text, &n);

        if (r < 0)
                return r;
        if (decoded_size(n) == size)
                return decode_into(text, n, field);

        /* What is no base64 at all is told apart from what has another length. */
        for (size_t i = 0; i < n; i++)
                if (sextet(text[i]) < 0)
                        return -EBADMSG;
        return -EMSGSIZE;
}
