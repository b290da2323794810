/* SPDX-License-Identifier: MIT */

/* The reader and the writers look at strings several bytes at a time: what is special is found at every place. */

#include <stdio.h>
#include <time.h>

#include "json-spaced.h"
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

/* --- lists of objects that are all alike --- */

static void assert_same_as_spaced(const char *text, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *a = NULL, *b = NULL;
        _cleanup_(strbuf_done) StrBuf spaced = {}, one = {}, other = {};
        int r, k;

        ASSERT_OK(json_spaced(text, size, &spaced));
        r = signed_document_parse(&a, text, size);
        k = signed_document_parse(&b, strempty(spaced.text), spaced.size);
        if (r != k)
                fail_msg("'%.*s' is %i, and spaced %i", (int) size, text, r, k);
        if (r < 0)
                return;
        ASSERT_OK(signed_value_format(signed_document_root(a), &one));
        ASSERT_OK(signed_value_format(signed_document_root(b), &other));
        ASSERT_STREQ(one.text, other.text);
}

static const char *const alike[] = {
        "[{\"id\":\"dev_0001\"},{\"id\":\"dev_0002\"},{\"id\":\"dev_0003\"}]",
        "{\"r\":[{\"a\":\"\",\"bcdefghijklmnopq\":\"0123456789abcdef01\"},"
        "{\"a\":\"\",\"bcdefghijklmnopq\":\"x123456789abcdef01\"},"
        "{\"a\":\"\",\"bcdefghijklmnopq\":\"y123456789abcdef01\"}],\"end\":1,\"and some more text\":true}",
        "[[{\"a\":\"b\"},{\"a\":\"c\"}],[{\"a\":\"d\"},{\"a\":\"e\"},{\"a\":\"longer\"},{\"a\":\"f\"}],"
        "\"the end of it\"]",
};

TEST(alike_with_a_change_at_every_place) {
        static const char changes[] = {
                '"', '\\', '{', '}', '[', ']', ':', ',', 'x', ' ', '0', 0x00, 0x1f, (char) 0x80,
        };

        for (size_t n = 0; n < ELEMENTSOF(alike); n++) {
                const size_t size = strlen(alike[n]);
                char text[512];

                ASSERT_TRUE(size < sizeof(text) - 1);
                ASSERT_OK(parse(alike[n], size));
                for (size_t at = 0; at < size; at++) {
                        assert_same_as_spaced(alike[n], at);
                        for (size_t i = 0; i < ELEMENTSOF(changes); i++) {
                                memcpy(text, alike[n], size);
                                text[at] = changes[i];
                                assert_same_as_spaced(text, size);
                                /* … and put in before it. */
                                memcpy(text + at + 1, alike[n] + at, size - at);
                                assert_same_as_spaced(text, size + 1);
                        }
                        memcpy(text, alike[n], at);
                        memcpy(text + at, alike[n] + at + 1, size - at - 1);
                        assert_same_as_spaced(text, size - 1);
                }
        }
}

TEST(alike_to_odd_ones) {
        static const char *const texts[] = {
                /* Keys and texts that are not what they are written as. */
                "[{\"a\\u0022:\":\"x\"},{\"a\\u0022:\":\"y\"},{\"a\\u0022:\":\"z\"}]",
                "[{\"a\":\"\\u0022\"},{\"a\":\"q\"},{\"a\":\"\\\\\"},{\"a\":\"\\n\"}]",
                /* Repeated keys, of the first and of others. */
                "[{\"a\":\"1\",\"a\":\"2\"},{\"a\":\"3\"},{\"a\":\"4\",\"a\":\"5\"}]",
                "[{\"a\":\"1\",\"b\":\"2\"},{\"a\":\"3\",\"a\":\"4\"},{\"b\":\"3\",\"a\":\"4\"}]",
                "[{},{},{}]",
                "[{\"a\":1},{\"a\":2}]",
                "[{\"a\":\"x\"},{\"a\":{\"a\":\"y\"}},{\"a\":[{\"a\":\"z\"},{\"a\":\"w\"}]}]",
                "[{\"a\":\"x\"},7,{\"a\":\"y\"}]",
                "[{\"a\":\"\303\251\"},{\"a\":\"\303\250\"},{\"a\":\"ee\"}]",
                "{\"a\":\"x\",\"b\":{\"a\":\"x\"}}",
        };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                assert_same_as_spaced(texts[i], strlen(texts[i]));
}

/* Of more members and longer ones than are looked at as a whole. */
TEST(alike_of_every_size) {
        for (size_t members = 1; members < 12; members++)
                for (size_t length = 0; length < 600; length += 1 + length / 7) {
                        _cleanup_(strbuf_done) StrBuf b = {};

                        for (unsigned item = 0; item < 3; item++) {
                                ASSERT_OK(strbuf_puts(&b, item == 0 ? "[" : ","));
                                for (size_t m = 0; m < members; m++) {
                                        ASSERT_OK(strbuf_printf(&b, "%s\"key%zu\":\"%u", m == 0 ? "{" : ",", m, item));
                                        for (size_t i = 0; i < length; i++)
                                                ASSERT_OK(strbuf_append(&b, "x", 1));
                                        ASSERT_OK(strbuf_puts(&b, "\""));
                                }
                                ASSERT_OK(strbuf_puts(&b, "}"));
                        }
                        ASSERT_OK(strbuf_puts(&b, "]"));
                        ASSERT_OK(parse(b.text, b.size));
                        assert_same_as_spaced(b.text, b.size);
                }
}

TEST(depth_and_number_of_alike_values_are_limited) {
        static const char item[] = ",{\"a\":\"b\"}", blank[] = "                ";
        _cleanup_(strbuf_done) StrBuf b = {}, deep = {};

        /* Two values an item. */
        ASSERT_OK(strbuf_puts(&b, "[{\"a\":\"b\"}"));
        for (unsigned i = 1; i < (1U << 19); i++)
                ASSERT_OK(strbuf_puts(&b, item));
        ASSERT_OK(strbuf_puts(&b, "]"));
        ASSERT_OK(strbuf_puts(&b, blank));
        ASSERT_ERROR(parse(b.text, b.size), EBADMSG);
        b.size -= strlen(blank) + 1 + strlen(item);
        ASSERT_OK(strbuf_puts(&b, "]"));
        ASSERT_OK(strbuf_puts(&b, blank));
        ASSERT_OK(parse(b.text, b.size));

        for (unsigned i = 0; i < 512; i++)
                ASSERT_OK(strbuf_puts(&deep, "["));
        ASSERT_OK(strbuf_puts(&deep, "{\"a\":\"b\"},{\"a\":\"b\"}"));
        for (unsigned i = 0; i < 512; i++)
                ASSERT_OK(strbuf_puts(&deep, "]"));
        ASSERT_ERROR(parse(deep.text, deep.size), EBADMSG);
        deep.text[deep.size - 1] = ' ';
        deep.text[0] = ' ';
        ASSERT_OK(parse(deep.text, deep.size));
}

/* --- the order of keys --- */

static char* canonical_of(const char *const *keys, size_t n, unsigned more, CanonicalMode mode) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf text = {}, b = {};

        ASSERT_OK(strbuf_puts(&text, "{"));
        for (size_t i = 0; i < n; i++)
                ASSERT_OK(strbuf_printf(&text, "%s\"%s\":%zu", i > 0 ? "," : "", keys[i], i));
        for (unsigned i = 0; i < more; i++)
                ASSERT_OK(strbuf_printf(&text, ",\"\\uffff%u\":null", i));
        ASSERT_OK(strbuf_puts(&text, "}"));
        ASSERT_OK(signed_document_parse(&d, text.text, text.size));
        ASSERT_OK(canonical_format(signed_document_root(d), mode, &b));
        return strbuf_take(&b);
}

/* Few members are sorted in another way than many. */
TEST(order_of_two_keys_does_not_depend_on_others) {
        static const char *const keys[] = {
                "", "\\u0000", "a", "a\\u0000", "a\\u0000b", "aa", "ab", "b", "abcdefgh", "abcdefgha", "abcdefghb",
                "abcdefgh\\u0000", "abcdefg", "abcdefg\\u0000", "abcdefg\\u00e9", "abcdefgh\\u00e9", "abcdefgh\\u0100",
                "\\u00e9", "\\u0100", "\\u0141", "z", "~", "\\u007f", "\\ud83d\\ude00", "\\ufb01", "A", "_",
                "abcdefghijkl",
        };

        for (CanonicalMode mode = CANONICAL_COMPAT; mode <= CANONICAL_RFC8785; mode++)
                for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                        for (size_t k = 0; k < ELEMENTSOF(keys); k++) {
                                const char *const pair[] = { keys[i], keys[k] };
                                _cleanup_free_ char *few = NULL, *many = NULL;

                                if (i == k)
                                        continue;
                                few = canonical_of(pair, 2, 0, mode);
                                many = canonical_of(pair, 2, 40, mode);
                                ASSERT_EQ(strstr(few, "\":0") < strstr(few, "\":1"),
                                          strstr(many, "\":0") < strstr(many, "\":1"));
                        }
}

#define TEST_SUITE "signed-json"
TEST_MAIN();
