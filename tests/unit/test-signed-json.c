/* SPDX-License-Identifier: MIT */

/* The reader and the writers look at strings several bytes at a time: what is special is found at every place. */

#include <stdio.h>
#include <time.h>

#include "signed-json.h"
#include "tests.h"

#define LENGTH_MAX 40U

static int parse(const char *text, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        return signed_document_parse(&d, text, size);
}

TEST(string_of_every_length) {
        for (size_t n = 0; n <= LENGTH_MAX; n++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                char text[LENGTH_MAX + 3] = "\"";
                const SignedValue *v;

                memset(text + 1, 'x', n);
                text[n + 1] = '"';
                ASSERT_OK(signed_document_parse(&d, text, n + 2));
                v = signed_document_root(d);
                ASSERT_EQ(v->size, n);
                ASSERT_TRUE(memcmp(v->text, text + 1, n) == 0 && v->text[n] == 0);
                /* Not closed. */
                ASSERT_ERROR(parse(text, n + 1), EBADMSG);
        }
}

TEST(special_at_every_place) {
        static const unsigned char refused[] = { 0x00, 0x01, 0x0a, 0x1f, '"', '\\', 0x80, 0xff },
                                   taken[] = { 0x20, 0x21, 0x23, 0x5b, 0x5d, 0x7e, 0x7f };

        for (size_t at = 0; at < LENGTH_MAX; at++) {
                char text[LENGTH_MAX + 2];

                memset(text, 'x', sizeof(text));
                text[0] = text[LENGTH_MAX + 1] = '"';
                for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                        text[1 + at] = (char) refused[i];
                        ASSERT_ERROR(parse(text, sizeof(text)), EBADMSG);
                }
                for (size_t i = 0; i < ELEMENTSOF(taken); i++) {
                        text[1 + at] = (char) taken[i];
                        ASSERT_OK(parse(text, sizeof(text)));
                }
        }
}

TEST(escapes_at_every_place) {
        static const struct {
                const char *text, *escaped, *canonical;
        } t[] = {
                { "\"", "\\\"", "\\\"" },
                { "\\", "\\\\", "\\\\" },
                { "\n", "\\n", "\\n" },
                { "\x1f", "\\u001f", "\\u001f" },
                { "\x7f", "\\u007f", "\x7f" },
                { "\xc3\xa9", "\\u00e9", "\xc3\xa9" },
                { "\xf0\x9f\x98\x80", "\\ud83d\\ude00", "\xf0\x9f\x98\x80" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                for (int at = 0; at < (int) LENGTH_MAX; at++) {
                        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                        _cleanup_(strbuf_done) StrBuf sent = {}, canonical = {};
                        _cleanup_free_ char *in = asprintf_new("\"%0*d%s%09d\"", at + 1, 0, t[i].escaped, 0),
                                            *out = asprintf_new("\"%0*d%s%09d\"", at + 1, 0, t[i].canonical, 0);
                        const SignedValue *v;

                        ASSERT_OK(signed_document_parse(&d, in, strlen(in)));
                        v = signed_document_root(d);
                        ASSERT_EQ(v->size, (size_t) at + 10 + strlen(t[i].text));
                        ASSERT_TRUE(memcmp(v->text + at + 1, t[i].text, strlen(t[i].text)) == 0);
                        ASSERT_OK(signed_value_format(v, &sent));
                        ASSERT_STREQ(sent.text, in);
                        ASSERT_OK(canonical_format(v, CANONICAL_COMPAT, &canonical));
                        ASSERT_STREQ(canonical.text, out);
                }
}

/* Few and many members are compared in two ways. */
TEST(repeated_keys) {
        for (unsigned n = 1; n < 40; n++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_(strbuf_done) StrBuf text = {};
                int64_t value;

                ASSERT_OK(strbuf_puts(&text, "{\"k\":0"));
                for (unsigned i = 0; i < n; i++)
                        ASSERT_OK(strbuf_printf(&text, ",\"k%u\":%u", i, i));
                ASSERT_OK(strbuf_printf(&text, ",\"k0\":77,\"k\":%u}", n));
                ASSERT_OK(signed_document_parse(&d, text.text, text.size));
                ASSERT_EQ(signed_document_root(d)->size, n + 1);
                ASSERT_OK(signed_get_int(signed_document_root(d), "k", &value));
                ASSERT_EQ(value, n);
                ASSERT_OK(signed_get_int(signed_document_root(d), "k0", &value));
                ASSERT_EQ(value, 77);
                ASSERT_STREQ(signed_document_root(d)->child->key, "k");
        }
}

/* One repeat among so many must not have all of them compared with each other. */
TEST(repeated_key_among_many) {
        const unsigned n = 400000;
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf text = {};
        clock_t begin = clock();
        int64_t value;

        for (unsigned i = 0; i < n; i++)
                ASSERT_OK(strbuf_printf(&text, "%c\"k%u\":%u", i == 0 ? '{' : ',', i, i));
        ASSERT_OK(strbuf_puts(&text, ",\"k7\":77,\"k7\":777}"));
        ASSERT_OK(signed_document_parse(&d, text.text, text.size));
        ASSERT_EQ(signed_document_root(d)->size, n);
        ASSERT_OK(signed_get_int(signed_document_root(d), "k7", &value));
        ASSERT_EQ(value, 777);
        ASSERT_TRUE(clock() - begin < 20 * CLOCKS_PER_SEC);
}

static char* list_of(size_t n) {
        _cleanup_(strbuf_done) StrBuf b = {};

        ASSERT_OK(strbuf_puts(&b, "[0"));
        for (size_t i = 1; i < n; i++)
                ASSERT_OK(strbuf_puts(&b, ",0"));
        ASSERT_OK(strbuf_puts(&b, "]"));
        return strbuf_take(&b);
}

/* Each takes a multiple of its bytes in the tree. */
TEST(too_many_values) {
        _cleanup_free_ char *most = list_of((1U << 20) - 1), *more = list_of(1U << 20);

        ASSERT_OK(parse(most, strlen(most)));
        ASSERT_ERROR(parse(more, strlen(more)), EBADMSG);
}

TEST(size_in_memory) {
        _cleanup_free_ char *list = list_of(100000);
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        ASSERT_OK(signed_document_parse(&d, list, strlen(list)));
        ASSERT_TRUE(signed_document_size(d) > 100000 * sizeof(SignedValue));
}

/* A key behind which a NUL comes is no other key. */
TEST(signature_with_nul_is_signed) {
        static const char text[] = "{\"a\":1,\"self_signature\":2,\"signature\":3,\"signature\\u0000x\":4}";
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};

        ASSERT_OK(signed_document_parse(&d, text, strlen(text)));
        ASSERT_OK(canonical_format_for_signing(signed_document_root(d), CANONICAL_COMPAT, &b));
        ASSERT_STREQ(b.text, "{\"a\":1,\"signature\\u0000x\":4}");
}

/* As Python and ECMAScript print them: below a power of two the nearest sixteen digits may be another double. */
TEST(shortest_digits) {
        static const struct { const char *token, *compat, *rfc8785; } t[] = {
                { "7.1202363472230444e-307", "7.120236347223045e-307", "7.120236347223045e-307" },
                { "-7.8545495444763625e-90", "-7.854549544476363e-90", "-7.854549544476363e-90" },
                { "9.5367431640625e-07", "9.5367431640625e-07", "9.5367431640625e-7" },
                { "5e-324", "5e-324", "5e-324" },
                { "4.9406564584124654e-324", "5e-324", "5e-324" },
                { "2.2250738585072014e-308", "2.2250738585072014e-308", "2.2250738585072014e-308" },
                { "0.1", "0.1", "0.1" },
                { "0.30000000000000004", "0.30000000000000004", "0.30000000000000004" },
                { "9999999999999998.0", "9999999999999998", "9999999999999998" },
                { "0.99999999999999989", "0.9999999999999999", "0.9999999999999999" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(signed_document_freep) SignedDocument *d = NULL;
                _cleanup_(strbuf_done) StrBuf compat = {}, rfc8785 = {};

                ASSERT_OK(signed_document_parse(&d, t[i].token, strlen(t[i].token)));
                ASSERT_OK(canonical_format(signed_document_root(d), CANONICAL_COMPAT, &compat));
                ASSERT_OK(canonical_format(signed_document_root(d), CANONICAL_RFC8785, &rfc8785));
                ASSERT_STREQ(compat.text, t[i].compat);
                ASSERT_STREQ(rfc8785.text, t[i].rfc8785);
        }
}

TEST(texts_that_are_no_utf8_are_not_built) {
        static const char *const bad[] = { "\xff", "a\xc3", "\xf0", "\xed\xa0\x80" };
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        ASSERT_OK(signed_document_new(&d));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ASSERT_NULL(signed_string(d, bad[i]));
        ASSERT_NOT_NULL(signed_string(d, "\xf0\x9f\x98\x80"));
}

#define TEST_SUITE "signed-json"
TEST_MAIN();
