/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "base64url.h"
#include "string-util.h"
#include "tests.h"

/* Several characters are read at a time: each is taken for what it is at every place. */

#define LENGTH_MAX 70U

static int value_of(unsigned char c) {
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        const char *p = c ? strchr(alphabet, c) : NULL;

        return c == '+' ? 62 : c == '/' ? 63 : p ? (int) (p - alphabet) : -1;
}

/* Bit by bit; < 0 when one is foreign. */
static int decode_slowly(const char *text, size_t n, uint8_t *out) {
        uint32_t bits = 0;
        unsigned have = 0;
        int size = 0;

        for (size_t i = 0; i < n; i++) {
                int v = value_of((unsigned char) text[i]);

                if (v < 0)
                        return -EBADMSG;
                bits = bits << 6 | (uint32_t) v;
                have += 6;
                if (have >= 8) {
                        have -= 8;
                        out[size++] = (uint8_t) (bits >> have);
                }
        }
        return size;
}

static void check(const char *text, size_t n) {
        uint8_t expected[LENGTH_MAX], field[LENGTH_MAX];
        _cleanup_free_ uint8_t *data = NULL;
        int size = decode_slowly(text, n, expected);
        size_t got;

        if (size < 0) {
                ASSERT_ERROR(base64url_decode(text, n, &data, &got), EBADMSG);
                return;
        }
        ASSERT_OK(base64url_decode(text, n, &data, &got));
        ASSERT_EQ(got, (size_t) size);
        assert_memory_equal(data, expected, got);
        ASSERT_OK(base64url_decode_exact(text, n, field, got));
        assert_memory_equal(field, expected, got);
}

TEST(every_byte_at_every_place) {
        char text[LENGTH_MAX] = "";

        for (size_t n = 0; n <= LENGTH_MAX; n++) {
                if (n % 4 == 1)
                        continue;
                for (size_t i = 0; i < n; i++)
                        text[i] = "AZaz09-_+/"[(i * 7 + n) % 10];
                check(text, n);
                for (size_t at = 0; at < n; at++) {
                        char was = text[at];

                        for (unsigned c = 0; c < 256; c++) {
                                /* At the end it is padding, which has rules of its own. */
                                if (c == '=' && at + 1 == n)
                                        continue;
                                text[at] = (char) c;
                                check(text, n);
                        }
                        text[at] = was;
                }
        }
}

TEST(what_was_encoded_comes_back) {
        uint8_t data[LENGTH_MAX];

        srand(7);
        for (size_t n = 0; n <= LENGTH_MAX; n++) {
                _cleanup_free_ uint8_t *again = NULL;
                _cleanup_free_ char *text = NULL;
                size_t size;

                for (size_t i = 0; i < n; i++)
                        data[i] = (uint8_t) rand();
                text = base64url_encode(data, n);
                ASSERT_NOT_NULL(text);
                ASSERT_OK(base64url_decode(text, strlen(text), &again, &size));
                ASSERT_EQ(size, n);
                assert_memory_equal(again, data, n);
        }
}

#define TEST_SUITE "base64url"
TEST_MAIN();
