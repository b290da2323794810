/* SPDX-License-Identifier: MIT */

#include <math.h>
#include <stdio.h>

#include "string-util.h"
#include "tests.h"
#include "yaml-util.h"

static YamlDocument* parse(const char *text) {
        _cleanup_free_ char *error = NULL;
        YamlDocument *d = NULL;

        if (yaml_document_parse(&d, text, strlen(text), &error) < 0)
                fail_msg("%s: %s", text, error);
        return d;
}

TEST(scalar_types) {
        static const struct {
                const char *text;
                char type;      /* s, n, b, i, f */
                double value;
        } t[] = {
                { "yes", 'b', 1 },       { "Off", 'b', 0 },       { "on", 'b', 1 },         { "NO", 'b', 0 },
                { "True", 'b', 1 },      { "false", 'b', 0 },     { "y", 's', 0 },          { "oN", 's', 0 },
                { "~", 'n', 0 },         { "null", 'n', 0 },      { "nUll", 's', 0 },       { "", 'n', 0 },
                { "0", 'i', 0 },         { "-0", 'i', 0 },        { "42", 'i', 42 },        { "+42", 'i', 42 },
                { "0777", 'i', 511 },    { "08", 's', 0 },        { "0o17", 's', 0 },       { "0x1F", 'i', 31 },
                { "0b101", 'i', 5 },     { "1_000", 'i', 1000 },  { "1:30", 'i', 90 },      { "1:60", 's', 0 },
                { "-1:0:0", 'i', -3600 }, { "1.5", 'f', 1.5 },    { "2.", 'f', 2 },         { ".5", 'f', 0.5 },
                { "-.5", 's', 0 },       { "1e3", 's', 0 },       { "1.0e+3", 'f', 1000 },  { "1.0e3", 's', 0 },
                { "1:30.5", 'f', 90.5 }, { ".inf", 'f', INFINITY }, { "-.INF", 'f', -INFINITY },
                { "1_0.5", 'f', 10.5 },
                { "2001-12-14", 's', 0 }, { "1.5g", 's', 0 },     { "127.0.0.1", 's', 0 },  { "'5'", 's', 0 },
                { "\"no\"", 's', 0 },    { "!!str 5", 's', 0 },   { "!!int '5'", 'i', 5 },
                { "!!float 1.5", 'f', 1.5 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = strjoin("k: ", t[i].text, "\n");
                _cleanup_(yaml_document_freep) YamlDocument *d = parse(text);
                const YamlNode *n = yaml_mapping_get(yaml_document_root(d), "k");
                int64_t integer = 0;
                double number = 0;
                bool truth = false;
                char type;

                type = yaml_node_is_string(n) ? 's' : yaml_node_is_null(n) ? 'n' :
                       yaml_node_to_bool(n, &truth) >= 0 ? 'b' : yaml_node_to_int(n, &integer) >= 0 ? 'i' :
                       yaml_node_to_double(n, &number) >= 0 ? 'f' : '?';
                if (type != t[i].type)
                        fail_msg("'%s' is taken for %c, not %c", t[i].text, type, t[i].type);
                if (type == 'b' || type == 'i')
                        ASSERT_EQ((int64_t) t[i].value, type == 'b' ? truth : integer);
                if (type == 'f' && number != t[i].value)
                        fail_msg("'%s' is %g", t[i].text, number);
        }
}

TEST(integer_limits) {
        static const struct {
                const char *text;
                int r;
                int64_t value;
        } t[] = {
                { "9223372036854775807", 0, INT64_MAX }, { "-9223372036854775808", 0, INT64_MIN },
                { "9223372036854775808", -ERANGE, 0 },   { "0xffffffffffffffffff", -ERANGE, 0 },
                { "0x_", -EINVAL, 0 },                   { "999999999999999999:00", -ERANGE, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = strjoin("k: ", t[i].text);
                _cleanup_(yaml_document_freep) YamlDocument *d = parse(text);
                int64_t v = 0;

                ASSERT_EQ(yaml_node_to_int(yaml_mapping_get(yaml_document_root(d), "k"), &v), t[i].r);
                ASSERT_EQ(v, t[i].value);
        }
}

TEST(errors_name_their_line) {
        static const struct {
                const char *text, *error;
        } t[] = {
                { "a: 1\nb: [1\n", "3: " },
                { "a: 1\n b: 2\n", "2: " },
                { "a: 1\nb: 2\na: 3\n", "3: 'a' is there twice, first in line 1" },
                { "a: &x 1\n", "1: anchors and aliases" },
                { "a: 1\nb: *x\n", "2: anchors and aliases" },
                { "a: !!python/object:os.system x\n", "1: a tag" },
                { "a: !!int x\n", "1: a tag" },
                { "a: !!map [x]\n", "1: a tag" },
                { "<<: {a: 1}\n", "1: merge keys" },
                { "? [a]\n: 1\n", "1: a key that is no plain text" },
                { "- a\n", "1: the top level is no mapping" },
                { "just text\n", "1: the top level is no mapping" },
                { "a: 1\n---\nb: 1\n", "2: a second document" },
                { "a: 1\nb: \"\xff\"\n", "2: " },
                { "a: \"\\0\"\n", "1: a text with a NUL" },
                { "a: 1\n\tb: 1\n", "2: " },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *error = NULL;
                YamlDocument *d = NULL;

                ASSERT_ERROR(yaml_document_parse(&d, t[i].text, strlen(t[i].text), &error), EBADMSG);
                if (!startswith(error, t[i].error))
                        fail_msg("'%s' gives '%s', not '%s'", t[i].text, error, t[i].error);
        }
}

TEST(bombs) {
        char deep[] = "a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]\n";
        _cleanup_(strbuf_done) StrBuf many = {};
        _cleanup_free_ char *large = malloc(MIB(2)), *error = NULL;
        YamlDocument *d = NULL;

        ASSERT_ERROR(yaml_document_parse(&d, deep, strlen(deep), &error), EBADMSG);
        ASSERT_STREQ(error, "1: nested too deeply (at most 32 levels)");
        error = mfree(error);

        memset(large, '#', MIB(2));
        ASSERT_ERROR(yaml_document_parse(&d, large, MIB(2), &error), EBADMSG);
        ASSERT_STREQ(error, "1: larger than 1 MiB");
        error = mfree(error);

        for (unsigned i = 0; i < 2000; i++)
                ASSERT_OK(strbuf_printf(&many, "k%u: 1\n", i));
        ASSERT_ERROR(yaml_document_parse(&d, many.text, many.size, &error), EBADMSG);
        ASSERT_STREQ(error, "1001: too many keys (at most 1000)");
}

TEST(empty) {
        static const char *const texts[] = { "", "# only this\n", "---\n", "~\n", "\xef\xbb\xbf", "{}\n" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(yaml_document_freep) YamlDocument *d = parse(texts[i]);

                ASSERT_EQ(yaml_node_kind(yaml_document_root(d)), YAML_MAPPING);
                ASSERT_EQ(yaml_node_size(yaml_document_root(d)), 0);
        }
}

TEST(lines) {
        _cleanup_(yaml_document_freep) YamlDocument *d = parse("a: 1\n\nb:\n  c: x\n  d:\n  - 1\n  - 2\n");
        YamlNode *root = yaml_document_root(d), *b = yaml_mapping_get(root, "b"), *list = yaml_mapping_get(b, "d");
        unsigned line = 0;

        ASSERT_STREQ(yaml_mapping_key(root, 1, &line), "b");
        ASSERT_EQ(line, 3);
        ASSERT_EQ(yaml_node_line(yaml_mapping_get(b, "c")), 4);
        ASSERT_EQ(yaml_node_size(list), 2);
        ASSERT_EQ(yaml_node_line(yaml_sequence_get(list, 1)), 7);
        ASSERT_NULL(yaml_sequence_get(list, 2));
        ASSERT_NULL(yaml_mapping_get(root, "z"));
        ASSERT_NULL(yaml_node_scalar(b));
}

/* What PyYAML's safe_dump(…, sort_keys=False, allow_unicode=True) writes for these values. */
TEST(dump_strings) {
        static const struct {
                const char *value, *dumped;
        } t[] = {
                { "", "k: ''\n" },            { "plain", "k: plain\n" },        { "yes", "k: 'yes'\n" },
                { "null", "k: 'null'\n" },    { "5", "k: '5'\n" },              { "1:30", "k: '1:30'\n" },
                { "0x10", "k: '0x10'\n" },    { "1.5", "k: '1.5'\n" },          { "1e3", "k: 1e3\n" },
                { "2001-12-14", "k: '2001-12-14'\n" }, { "=", "k: '='\n" },     { "a: b", "k: 'a: b'\n" },
                { "a#b", "k: a#b\n" },        { "a #b", "k: 'a #b'\n" },        { "- x", "k: '- x'\n" },
                { "it's", "k: it's\n" },      { "'q'", "k: '''q'''\n" },        { "@you", "k: '@you'\n" },
                { "https://a.b:1/c", "k: https://a.b:1/c\n" },                  { "Grüße", "k: Grüße\n" },
                { "日本", "k: 日本\n" },      { "a\nb", "k: 'a\n\n  b'\n" },    { "a\tb", "k: \"a\\tb\"\n" },
                { " a", "k: ' a'\n" },        { "a ", "k: 'a '\n" },            { "\x01", "k: \"\\x01\"\n" },
                { "~", "k: '~'\n" },          { "[]", "k: '[]'\n" },            { "%a", "k: '%a'\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(yaml_document_freep) YamlDocument *d = NULL, *again = NULL;
                _cleanup_free_ char *text = NULL;

                ASSERT_OK(yaml_document_new(&d));
                ASSERT_OK(yaml_mapping_set_string(yaml_document_root(d), "k", t[i].value));
                ASSERT_OK(yaml_document_dump(d, &text, NULL));
                ASSERT_STREQ(text, t[i].dumped);

                again = parse(text);
                ASSERT_TRUE(yaml_node_is_string(yaml_mapping_get(yaml_document_root(again), "k")));
                ASSERT_STREQ(yaml_node_scalar(yaml_mapping_get(yaml_document_root(again), "k")), t[i].value);
        }
}

TEST(dump_doubles) {
        static const struct {
                double value;
                const char *dumped;
        } t[] = {
                { 2, "k: 2.0\n" },         { 0.1, "k: 0.1\n" },         { 1800, "k: 1800.0\n" },
                { -1.25, "k: -1.25\n" },
                { 1e16, "k: 1.0e+16\n" },  { 1.5e-7, "k: 1.5e-07\n" },  { 0, "k: 0.0\n" },
                { 1e15, "k: 1000000000000000.0\n" },
                { 0.0001, "k: 0.0001\n" }, { INFINITY, "k: .inf\n" },   { 1.0 / 3, "k: 0.3333333333333333\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
                _cleanup_free_ char *text = NULL;

                ASSERT_OK(yaml_document_new(&d));
                ASSERT_OK(yaml_mapping_set_double(yaml_document_root(d), "k", t[i].value));
                ASSERT_OK(yaml_document_dump(d, &text, NULL));
                ASSERT_STREQ(text, t[i].dumped);
        }
}

/* What we do not know comes out with the same meaning. */
TEST(dump_keeps) {
        _cleanup_(yaml_document_freep) YamlDocument *d =
                parse("yes: no\n\"off\": 'no'\nn:\nd: 2001-12-14\no: 0777\nq: \"05\"\nf: {a: [1, '2', ~], b: {}, c: "
                      "[]}\n"
                      "t: |\n  one\n  two\n");
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(yaml_document_dump(d, &text, NULL));
        ASSERT_STREQ(text,
                     "yes: no\n'off': 'no'\nn: null\nd: 2001-12-14\no: 0777\nq: '05'\nf:\n  a:\n  - 1\n  - '2'\n  - "
                     "~\n"
                           "  b: {}\n  c: []\nt: 'one\n\n  two\n\n  '\n");
}

TEST(setters) {
        static const char *const order[] = { "c", "nothing", "a", NULL }, *const values[] = { "x", "7", NULL };
        _cleanup_(yaml_document_freep) YamlDocument *d = parse("a: 1\nb: {x: 1}\nc: 3\nz: 4\n");
        YamlNode *root = yaml_document_root(d), *below = NULL;
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(yaml_mapping_set_bool(root, "a", true));
        ASSERT_OK(yaml_mapping_ensure(root, "b", &below));
        ASSERT_OK(yaml_mapping_set_int(below, "y", -5));
        ASSERT_OK(yaml_mapping_ensure(root, "c", &below));
        ASSERT_OK(yaml_mapping_set_strings(below, "l", (char *const *) values));
        ASSERT_OK(yaml_mapping_set_strings(below, "e", NULL));
        ASSERT_EQ(yaml_mapping_remove(root, "z"), 1);
        ASSERT_EQ(yaml_mapping_remove(root, "z"), 0);
        ASSERT_ERROR(yaml_mapping_set_string(root, "s", "\xff"), EINVAL);
        yaml_mapping_sort(root, order);
        ASSERT_OK(yaml_document_dump(d, &text, NULL));
        ASSERT_STREQ(text, "c:\n  l:\n  - x\n  - '7'\n  e: []\na: true\nb:\n  x: 1\n  y: -5\n");
}

#define TEST_SUITE "yaml-util"
TEST_MAIN();
