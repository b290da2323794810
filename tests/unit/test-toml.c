/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "toml"

#include "string-util.h"
#include "tests.h"
#include "toml.h"

static void assert_toml(const char *text, const char *expected) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *fault = NULL;
        int r = toml_parse(text, strlen(text), &o, &fault);

        if (r < 0)
                fail_msg("'%s': %s", text, strempty(fault));
        ASSERT_STREQ(json_text(o, NULL), expected);
}

TEST(documents) {
        static const struct { const char *text, *expected; } t[] = {
                { "", "{}" }, { "\xef\xbb\xbf" "a=1", "{\"a\":1}" }, { "# only this", "{}" },
                { "a = 1 # one\r\nb=2\n\n", "{\"a\":1,\"b\":2}" },
                { "bare-key_1 = 1\n1234 = 2\n\"quoted key\" = 3\n'li\"teral' = 4\n\"\" = 5",
                  "{\"bare-key_1\":1,\"1234\":2,\"quoted key\":3,\"li\\\"teral\":4,\"\":5}" },
                { "a . b = 1\na.c = 2\na.\"d.e\" = 3", "{\"a\":{\"b\":1,\"c\":2,\"d.e\":3}}" },
                { "3.14 = 1", "{\"3\":{\"14\":1}}" },
                /* tables */
                { "[a]\nx=1\n[b.c]\ny=2\n[b]\nz=3", "{\"a\":{\"x\":1},\"b\":{\"c\":{\"y\":2},\"z\":3}}" },
                { "[ a . 'b c' ]\nx=1", "{\"a\":{\"b c\":{\"x\":1}}}" },
                { "[a]\nb.c=1\n[a.b.d]\ne=2", "{\"a\":{\"b\":{\"c\":1,\"d\":{\"e\":2}}}}" },
                { "[[a]]\nx=1\n[[a]]\nx=2\n[a.b]\ny=3\n[[a.c]]\n[[a.c]]",
                  "{\"a\":[{\"x\":1},{\"x\":2,\"b\":{\"y\":3},\"c\":[{},{}]}]}" },
                { "a = { x = 1, y.z = 'q' , \"w\" = {} }", "{\"a\":{\"x\":1,\"y\":{\"z\":\"q\"},\"w\":{}}}" },
                { "a = []\nb = [1, 'x', [2, 3], {c = 4},\n # more\n 5,\n]",
                  "{\"a\":[],\"b\":[1,\"x\",[2,3],{\"c\":4},5]}" },
                /* strings */
                { "a = \"\\b\\t\\n\\f\\r\\\"\\\\\\u00e9\\U0001F600\"", "{\"a\":\"\\b\\t\\n\\f\\r\\\"\\\\é😀\"}" },
                { "a = 'C:\\no\\escape'", "{\"a\":\"C:\\\\no\\\\escape\"}" },
                { "a = \"\"\"\nOne \"quoted\" and \"\"two\"\"\r\nnext \\\n   \n  joined\"\"\"\"\"",
                  "{\"a\":\"One \\\"quoted\\\" and \\\"\\\"two\\\"\\\"\\nnext joined\\\"\\\"\"}" },
                { "a = '''\n''x''\\\n'''\nb = ''''''\nc = \"\"", "{\"a\":\"''x''\\\\\\n\",\"b\":\"\",\"c\":\"\"}" },
                /* numbers */
                { "a = [0, +0, -0, 42, -17, 1_000, 0xDEAD_beef, 0o755, 0b1101]",
                  "{\"a\":[0,0,0,42,-17,1000,3735928559,493,13]}" },
                { "a = [9223372036854775807, -9223372036854775808]",
                  "{\"a\":[9223372036854775807,-9223372036854775808]}" },
                { "a = [1.5, -0.25, 2e3, 1_0.5E-1]", "{\"a\":[1.5,-0.25,2000.0,1.05]}" },
                { "a = [true,false]", "{\"a\":[true,false]}" },
                { "a = [inf, -inf, +inf]", "{\"a\":[Infinity,-Infinity,Infinity]}" },
                /* dates and times */
                { "a = [1979-05-27T07:32:00Z, 1979-05-27 07:32:00.5-07:00, 1979-05-27t07:32:00, 1979-05-27, "
                  "07:32:00.99]",
                  "{\"a\":[\"1979-05-27T07:32:00Z\",\"1979-05-27 07:32:00.5-07:00\",\"1979-05-27t07:32:00\","
                  "\"1979-05-27\",\"07:32:00.99\"]}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                assert_toml(t[i].text, t[i].expected);
}

TEST(refused) {
        static const struct { const char *text; unsigned line; } t[] = {
                { "a", 1 }, { "a =", 1 }, { "= 1", 1 }, { "a = 1 b = 2", 1 }, { "\na = 1\n\na = 2", 4 },
                { "a = 1\rb = 2", 1 }, { "a b = 1", 1 }, { "a. = 1", 1 }, { "é = 1", 1 }, { "a\n= 1", 1 },
                { "# bell \a", 1 }, { "a = \"\n\"", 1 }, { "a = \"x", 1 }, { "a = 'x", 1 }, { "a = \"\"\"x\"\"", 1 },
                { "a = \"\\x41\"", 1 }, { "a = \"\\e\"", 1 }, { "a = \"\\ud800\"", 1 }, { "a = \"\\u12\"", 1 },
                { "a = \"\\U00110000\"", 1 }, { "a = \"\\u0000\"", 1 }, { "a = \"\t\x7f\"", 1 }, { "a = 'x\x01'", 1 },
                { "a = \"\"\"x\"\"\"\"\"\"", 1 }, { "a = \"x\\\n y\"", 1 }, { "\"\"\"a\"\"\" = 1", 1 },
                { "a = 01", 1 }, { "a = 1__0", 1 }, { "a = _1", 1 }, { "a = 1_", 1 }, { "a = +-1", 1 },
                { "a = 0x", 1 }, { "a = 0xg", 1 }, { "a = 0o8", 1 }, { "a = 0b2", 1 }, { "a = -0x1", 1 },
                { "a = 1.", 1 }, { "a = .5", 1 }, { "a = 1.e5", 1 }, { "a = 1e", 1 }, { "a = 03.5", 1 },
                { "a = 1._5", 1 }, { "a = 9223372036854775808", 1 }, { "a = -9223372036854775809", 1 },
                { "a = 0xfffffffffffffffff", 1 }, { "a = True", 1 }, { "a = yes", 1 }, { "a = Inf", 1 },
                { "a = 1979-05", 1 }, { "a = 07:32", 1 }, { "a = 1979-05-27T", 1 },
                { "a = 1979-05-27T07:32:00+7", 1 }, { "a = [1 2]", 1 }, { "a = [1,,2]", 1 }, { "a = [,1]", 1 },
                { "a = [1", 1 }, { "a = [\n1\n", 3 }, { "a = {x=1,}", 1 }, { "a = {x=1 y=2}", 1 },
                { "a = {\nx=1}", 1 }, { "a = {x=1", 1 }, { "a = {x=1, x=2}", 1 }, { "a = {x.y=1, x=2}", 1 },
                { "[a", 1 }, { "[]", 1 }, { "[a]]", 1 }, { "[a] x=1", 1 }, { "[ [a] ]", 1 }, { "[[a]", 1 },
                { "[a.]", 1 }, { "[a]\n[a]", 2 }, { "a=1\n[a]", 2 }, { "a=1\n[a.b]", 2 }, { "a={}\n[a]", 2 },
                { "a={}\n[a.b]", 2 }, { "a={b={}}\n[a.b.c]", 2 }, { "a={}\na.b=1", 2 }, { "[a]\nb=1\n[a.b]", 3 },
                { "[a.b]\n[a]\nb.c=1", 3 }, { "[a.b.c]\n[a]\nb.d=1", 3 }, { "[a]\nb.c=1\n[a.b]", 3 },
                { "a.b=1\n[a]", 2 }, { "a=[]\n[[a]]", 2 }, { "[[a]]\n[a]", 2 }, { "[a]\n[[a]]", 2 },
                { "a=[{}]\n[a.b]", 2 }, { "[[a.b]]\n[a]\nb.c=1", 3 }, { "a = \"\xff\"", 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *fault = NULL, *line = asprintf_new("line %u: ", t[i].line);
                json_object *o = NULL;

                if (toml_parse(t[i].text, strlen(t[i].text), &o, &fault) != -EBADMSG || o ||
                    !startswith(strempty(fault), line))
                        fail_msg("'%s' is accepted, or not for a reason in %s(%s)", t[i].text, line, strempty(fault));
        }
        {
                _cleanup_free_ char *fault = NULL;
                json_object *o;

                ASSERT_ERROR(toml_parse("a = 1\0b", 7, &o, &fault), EBADMSG);
        }
}

TEST(limits) {
        static const struct { const char *begin, *repeated; size_t n; bool accepted; } t[] = {
                { "a = ", "[", 100000, false }, { "a = ", "{x=", 100000, false }, { "", "a.", 100000, false },
                { "[", "a.", 100000, false }, { "", "# x\n", 200000, true }, { "", "# x\n", 400000, false },
                { "a = [", "1,", 100000, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *o = NULL;
                _cleanup_(strbuf_done) StrBuf b = {};
                _cleanup_free_ char *fault = NULL;

                ASSERT_OK(strbuf_puts(&b, t[i].begin));
                for (size_t k = 0; k < t[i].n; k++)
                        ASSERT_OK(strbuf_puts(&b, t[i].repeated));
                ASSERT_EQ(toml_parse(b.text, b.size, &o, &fault), t[i].accepted ? 0 : -EBADMSG);
        }
}

TEST_MAIN();
