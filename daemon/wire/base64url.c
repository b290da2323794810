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

/* Values of the characters, in both alphabets; XX for what is none. */
#define XX 0xff
#define XX16 XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX
static const uint8_t sextets[256] = {
        XX16, XX16,
        XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, XX, 62, XX, 62, XX, 63,
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, XX, XX, XX, XX, XX, XX,
        XX,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, XX, XX, XX, XX, 63,
        XX, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, XX, XX, XX, XX, XX,
        XX16, XX16, XX16, XX16, XX16, XX16, XX16, XX16,
};

static uint8_t sextet(char c) {
        return sextets[(uint8_t) c];
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

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
typedef uint8_t Bytes16 __attribute__((vector_size(16)));
typedef uint16_t Words8 __attribute__((vector_size(16)));
typedef uint32_t Quads4 __attribute__((vector_size(16)));
typedef uint64_t Eights2 __attribute__((vector_size(16)));

#define IN(b, first, last) ((Bytes16) (((b) >= (uint8_t) (first)) & ((b) <= (uint8_t) (last))))
#define IS(b, c) ((Bytes16) ((b) == (uint8_t) (c)))

/* Sixteen characters to twelve bytes, and two of no meaning behind them. What is none has its bits in *seen_foreign.
 */
static void decode16(const char *text, uint8_t out[14], Bytes16 *seen_foreign) {
        Bytes16 b, upper, lower, digit, plus, slash, value;
        Words8 pairs;
        Quads4 fours;
        Eights2 eights;
        uint64_t six;

        memcpy(&b, text, sizeof(b));
        upper = IN(b, 'A', 'Z');
        lower = IN(b, 'a', 'z');
        digit = IN(b, '0', '9');
        plus = IS(b, '-') | IS(b, '+');
        slash = IS(b, '_') | IS(b, '/');
        *seen_foreign |= ~(upper | lower | digit | plus | slash);
        value = (upper & (b - 'A')) | (lower & (b - ('a' - 26))) | (digit & (b + (52 - '0'))) | (plus & 62) |
                (slash & 63);

        pairs = (Words8) value;
        pairs = pairs << 6 | pairs >> 8;                /* its upper half is in nobody's way */
        pairs &= 0x0fff;
        fours = (Quads4) pairs;
        fours = (fours & 0xffff) << 12 | fours >> 16;
        eights = (Eights2) fours;
        eights = eights << 40 | (eights >> 32) << 16;   /* the first byte is the highest */
        six = __builtin_bswap64(eights[0]);
        memcpy(out, &six, sizeof(six));
        six = __builtin_bswap64(eights[1]);
        memcpy(out + 6, &six, sizeof(six));
}

/* As many as come in sixteens with three bytes or more behind them; false: there are foreign ones. */
static bool decode_most(const char **text, size_t *n, uint8_t **out) {
        Bytes16 foreign = {};
        uint64_t words[2];

        for (; *n >= 20; *n -= 16, *text += 16, *out += 12)
                decode16(*text, *out, &foreign);
        memcpy(words, &foreign, sizeof(words));
        return !(words[0] | words[1]);
}
#else
static bool decode_most(const char **text, size_t *n, uint8_t **out) {
        return true;
}
#endif

static size_t decoded_size(size_t n) {
        return n / 4 * 3 + (n % 4 == 0 ? 0 : n % 4 - 1);
}

/* n characters without padding; left-over bits of the last one are ignored, as upstream ignores them. */
static int decode_into(const char *text, size_t n, uint8_t *out) {
        uint8_t a, b, c = 0, d, seen = 0;

        if (!decode_most(&text, &n, &out))
                return -EBADMSG;
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
