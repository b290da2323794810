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

/* Values of the characters from ' ' to DEL, in both alphabets. */
#define XX 0xff
static const uint8_t sextets[] = {
        XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, 62, XX, 62, XX, 63,
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, XX, XX, XX, XX, XX, XX,
        XX,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, XX, XX, XX, XX, 63,
        XX, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, XX, XX, XX, XX, XX,
};

static uint8_t sextet(char c) {
        uint8_t i = (uint8_t) ((uint8_t) c - ' ');

        return i < sizeof(sextets) ? sextets[i] : XX;
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
        uint8_t a, b, c = 0, d, seen = 0;

        for (; n >= 4; n -= 4, text += 4) {
                a = sextet(text[0]);
                b = sextet(text[1]);
                c = sextet(text[2]);
                d = sextet(text[3]);
                seen |= a | b | c | d;
                *out++ = (uint8_t) (a << 2 | b >> 4);
                *out++ = (uint8_t) (b << 4 | c >> 2);
                *out++ = (uint8_t) (c << 6 | d);
        }
        if (n >= 2) {
                a = sextet(text[0]);
                b = sextet(text[1]);
                c = n > 2 ? sextet(text[2]) : 0;
                seen |= a | b | c;
                *out++ = (uint8_t) (a << 2 | b >> 4);
                if (n > 2)
                        *out = (uint8_t) (b << 4 | c >> 2);
        }
        return seen <= 63 ? 0 : -EBADMSG;
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
                if (sextet(text[i]) == XX)
                        return -EBADMSG;
        return -EMSGSIZE;
}
