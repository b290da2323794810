/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What the parts of signed-json.h share. */

typedef uint8_t Bytes16 __attribute__((vector_size(16)));

/* Which of sixteen need an escape in a JSON string. */
static inline Bytes16 json_special16(Bytes16 b) {
        return (Bytes16) ((b == '"') | (b == '\\') | (b < 0x20));
}

/* How many bytes from here on stand for themselves in a JSON string: no quote, no backslash, no control character; and
 * with ascii nothing from U+007F on. */
static inline size_t json_plain_length(const char *p, const char *end, bool ascii) {
        const unsigned char limit = ascii ? 0x7e : 0xff;
        const char *begin = p;

        /* Sixteen at a time as long as none is special. */
        for (Bytes16 b; end - p >= (ptrdiff_t) sizeof(b); p += sizeof(b)) {
                uint64_t special[2];

                memcpy(&b, p, sizeof(b));
                b = (Bytes16) ((b == '"') | (b == '\\') | (b < 0x20) | (b > limit));
                memcpy(special, &b, sizeof(special));
                if (!(special[0] | special[1]))
                        continue;
                if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
                        break;
                p += special[0] ? __builtin_ctzll(special[0]) / 8 : 8 + __builtin_ctzll(special[1]) / 8;
                return (size_t) (p - begin);
        }
        while (p < end && *p != '"' && *p != '\\' && (unsigned char) *p >= 0x20 && (unsigned char) *p <= limit)
                p++;
        return (size_t) (p - begin);
}
