/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "hpke.h"
#include "string-util.h"
#include "tests.h"

/* What is hashed goes in joined, as far as it fits: contexts of any size give what RFC 9180 §4 says. */

#define CONTEXT_MAX 700U

static void expand_slowly(const uint8_t secret[KEY_SIZE], const uint8_t *context, size_t n, uint8_t ret[2 * KEY_SIZE]) {
        static const uint8_t head[] = "HPKE-v1HPKE\0\x20\0\1\0\3sec", length[] = { 0, 2 * KEY_SIZE };
        uint8_t block[crypto_auth_hmacsha256_BYTES];

        for (uint8_t counter = 1; counter <= 2; counter++) {
                crypto_auth_hmacsha256_state state;

                (void) crypto_auth_hmacsha256_init(&state, secret, KEY_SIZE);
                if (counter > 1)
                        (void) crypto_auth_hmacsha256_update(&state, block, sizeof(block));
                (void) crypto_auth_hmacsha256_update(&state, length, sizeof(length));
                (void) crypto_auth_hmacsha256_update(&state, head, sizeof(head) - 1);
                (void) crypto_auth_hmacsha256_update(&state, context, n);
                (void) crypto_auth_hmacsha256_update(&state, &counter, 1);
                (void) crypto_auth_hmacsha256_final(&state, block);
                memcpy(ret + (counter - 1) * KEY_SIZE, block, KEY_SIZE);
        }
}

TEST(contexts_of_every_size) {
        uint8_t context[CONTEXT_MAX], expected[2 * KEY_SIZE], got[2 * KEY_SIZE];
        HpkeContext c = {};

        ASSERT_OK(crypto_init());
        for (size_t i = 0; i < sizeof(context); i++)
                context[i] = (uint8_t) (i * 31 + 7);
        memset(c.exporter_secret, 0x5a, sizeof(c.exporter_secret));
        for (size_t n = 0; n <= CONTEXT_MAX; n++) {
                expand_slowly(c.exporter_secret, context, n, expected);
                ASSERT_OK(hpke_context_export(&c, context, n, got, sizeof(got)));
                assert_memory_equal(got, expected, sizeof(got));
        }
}

#define TEST_SUITE "hpke"
TEST_MAIN();
