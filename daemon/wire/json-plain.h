/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What the two halves of signed-json.h share. */

/* How many bytes from here on stand for themselves in a JSON string: no quote, no backslash, no control character; and
 * with ascii nothing from U+007F on. */
static inline size_t json_plain_length(const char *p, const char *end, bool ascii) {
        const uint64_t ones = 0x0101010101010101U, high = 0x8080808080808080U;
        const unsigned char limit = ascii ? 0x7e : 0xff;
        const char *begin = p;

        /* Eight at a time as long as none is special: each term has a high bit set when one is. */
        for (uint64_t w; end - p >= (ptrdiff_t) sizeof(w); p += sizeof(w)) {
                uint64_t quote, backslash, special;

                memcpy(&w, p, sizeof(w));
                quote = w ^ ones * '"';
                backslash = w ^ ones * '\\';
                special = ((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((w - ones * 0x20) & ~w);
                if (ascii)
                        special |= w | (w + ones);
                if (special & high)
                        break;
        }
        while (p < end && *p != '"' && *p != '\\' && (unsigned char) *p >= 0x20 && (unsigned char) *p <= limit)
                p++;
        return (size_t) (p - begin);
}
