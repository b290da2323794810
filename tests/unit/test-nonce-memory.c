/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "crypto.h"
#include "nonce-memory.h"
#include "tests.h"

#define NOW ((int64_t) 1780000000000)

static const char* nonce_text(unsigned i) {
        static char text[16];

        (void) snprintf(text, sizeof(text), "n%u", i);
        return text;
}

TEST(once) {
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL;

        ASSERT_OK(nonce_memory_new(&m, 0));
        ASSERT_FALSE(nonce_memory_contains(m, "dev_a", "n", NOW));
        ASSERT_EQ(nonce_memory_size(m), 0);
        ASSERT_OK(nonce_memory_record(m, "dev_a", "n", NOW + 10, NOW));
        ASSERT_TRUE(nonce_memory_contains(m, "dev_a", "n", NOW));
        ASSERT_ERROR(nonce_memory_record(m, "dev_a", "n", NOW + 10, NOW), EEXIST);
        ASSERT_EQ(nonce_memory_size(m), 1);

        /* Another signer's, and another place for the border between the two. */
        ASSERT_FALSE(nonce_memory_contains(m, "dev_b", "n", NOW));
        ASSERT_FALSE(nonce_memory_contains(m, "dev_", "an", NOW));
        ASSERT_OK(nonce_memory_record(m, "dev_b", "n", NOW + 10, NOW));

        /* Its last millisecond counts. */
        ASSERT_TRUE(nonce_memory_contains(m, "dev_a", "n", NOW + 10));
        ASSERT_FALSE(nonce_memory_contains(m, "dev_a", "n", NOW + 11));
        ASSERT_EQ(nonce_memory_size(m), 0);
        ASSERT_OK(nonce_memory_record(m, "dev_a", "n", NOW + 30, NOW + 20));
}

TEST(bounds) {
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL;

        ASSERT_OK(nonce_memory_new(&m, 1000));
        /* Each ends later than the one before it, in an order that is not theirs. */
        for (unsigned i = 0; i < 3000; i++) {
                unsigned k = i * 7 % 3000;

                ASSERT_OK(nonce_memory_record(m, "dev_a", nonce_text(k), NOW + k, NOW));
                ASSERT_EQ(nonce_memory_size(m), MIN(i + 1, 1000U));
                ASSERT_TRUE(nonce_memory_contains(m, "dev_a", nonce_text(k), NOW));
        }
        /* The one with the latest end is never what goes. */
        ASSERT_TRUE(nonce_memory_contains(m, "dev_a", nonce_text(2999), NOW));
}

TEST(the_next_to_end_goes) {
        static const int64_t until[] = { 40, 10, 30, 20 };
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL;

        ASSERT_OK(nonce_memory_new(&m, 3));
        for (unsigned i = 0; i < ELEMENTSOF(until); i++)
                ASSERT_OK(nonce_memory_record(m, "d", nonce_text(i), NOW + until[i], NOW));
        ASSERT_EQ(nonce_memory_size(m), 3);
        for (unsigned i = 0; i < ELEMENTSOF(until); i++)
                ASSERT_EQ(nonce_memory_contains(m, "d", nonce_text(i), NOW), i != 1);
}

TEST(capacity) {
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL;
        const unsigned n = 100000;

        ASSERT_OK(nonce_memory_new(&m, 0));
        for (unsigned i = 0; i < n; i++)
                ASSERT_OK(nonce_memory_record(m, "dev_a", nonce_text(i), NOW + i % 600, NOW));
        for (unsigned i = 0; i < n; i++)
                ASSERT_TRUE(nonce_memory_contains(m, "dev_a", nonce_text(i), NOW));

        /* As time goes on they leave in the order of their ends, and nothing else does. */
        for (int64_t t = 0; t <= 600; t += 50) {
                ASSERT_FALSE(nonce_memory_contains(m, "dev_a", "none", NOW + t));
                for (unsigned i = 0; i < n; i += 97)
                        ASSERT_EQ(nonce_memory_contains(m, "dev_a", nonce_text(i), NOW + t), i % 600 >= t);
        }
        ASSERT_EQ(nonce_memory_size(m), 0);
}

TEST(over_a_restart) {
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL, *again = NULL;
        _cleanup_(strbuf_done) StrBuf text = {};

        ASSERT_OK(nonce_memory_new(&m, 0));
        ASSERT_OK(nonce_memory_format(m, &text));
        ASSERT_EQ(text.size, 0);
        ASSERT_OK(nonce_memory_record(m, "dev_a", "short", NOW + 10, NOW));
        ASSERT_OK(nonce_memory_record(m, "dev_a", "long", NOW + 20, NOW));
        ASSERT_OK(nonce_memory_format(m, &text));

        ASSERT_OK(nonce_memory_new(&again, 0));
        ASSERT_OK(nonce_memory_load(again, text.text, text.size, NOW + 15));
        ASSERT_FALSE(nonce_memory_contains(again, "dev_a", "short", NOW + 15));
        ASSERT_TRUE(nonce_memory_contains(again, "dev_a", "long", NOW + 20));
        ASSERT_FALSE(nonce_memory_contains(again, "dev_a", "long", NOW + 21));
        /* Twice is no harm. */
        ASSERT_OK(nonce_memory_load(again, text.text, text.size, NOW));
        ASSERT_OK(nonce_memory_load(again, text.text, text.size, NOW));
        ASSERT_EQ(nonce_memory_size(again), 2);
}

/* An empty buffer has no address. */
TEST(load_of_nothing) {
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL;

        ASSERT_OK(nonce_memory_new(&m, 0));
        ASSERT_OK(nonce_memory_load(m, NULL, 0, NOW));
        ASSERT_EQ(nonce_memory_size(m), 0);
}

TEST(load_refuses) {
        static const char *const t[] = {
                "x", "\n", "AAAAAAAAAAAAAAAAAAAAAA\n", "AAAAAAAAAAAAAAAAAAAAAA \n",
                "AAAAAAAAAAAAAAAAAAAAAA 1780000000001",
                "AAAAAAAAAAAAAAAAAAAAAA x\n", "AAAAAAAAAAAAAAAAAAAAAA -1\n", "AAAAAAAAAAAAAAAAAAAA!A 1780000000001\n",
                "AAAAAAAAAAAAAAAAAAAAA 1780000000001\n", "AAAAAAAAAAAAAAAAAAAAAA 18446744073709551615\n",
                "AAAAAAAAAAAAAAAAAAAAAA 9223372036854775808\n", "AAAAAAAAAAAAAAAAAAAAAA 1780000000001 \n",
        };
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL;

        ASSERT_OK(nonce_memory_new(&m, 0));
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_ERROR(nonce_memory_load(m, t[i], strlen(t[i]), NOW), EBADMSG);
        ASSERT_EQ(nonce_memory_size(m), 0);
}

#define TEST_SUITE "nonce-memory"
TEST_MAIN();
