/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "approvals-words"

/* What people are told of a call, and what of their words is an answer. */

#include "approvals-internal.h"
#include "json-util.h"
#include "string-util.h"
#include "tests.h"

TEST(answer_words) {
        static const struct { const char *text; int answer; } t[] = {
                { "y", 1 }, { "Y", 1 }, { "yes", 1 }, { "YES", 1 }, { " \n yEs\t", 1 }, { "a", 1 }, { "Approve", 1 },
                { "n", 0 }, { "N ", 0 }, { "no", 0 }, { "No", 0 }, { "deny", 0 }, { "DENY\r\n", 0 },
                { "", -ENOMSG }, { "  ", -ENOMSG }, { "yes!", -ENOMSG }, { "y n", -ENOMSG }, { "yep", -ENOMSG },
                { "none", -ENOMSG }, { "ye", -ENOMSG }, { "approved", -ENOMSG }, { "denied", -ENOMSG },
                { "\xc2\xa0y", -ENOMSG }, { "да", -ENOMSG },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(approval_answer_parse(t[i].text), t[i].answer);
}

TEST(summaries) {
        static const struct { const char *input, *summary; bool cut; } t[] = {
                { NULL, "(no input)", false },
                { "null", "(no input)", false },
                { "{}", "(no input)", false },
                { "\"ls\"", "`ls`", false },
                { "[1,2]", "`[1,2]`", false },
                { "not json", "`not json`", false },
                { "{\"command\":\"touch a\",\"n\":3,\"deep\":{\"a\":[true,null]},\"none\":null}",
                  "- **command**: `touch a`\n- **n**: `3`\n- **deep**: `{\"a\":[true,null]}`\n- **none**: `null`",
                  false },
                /* What is ours must not come out of it. */
                { "{\"command\":\"x\\n\\nReply y to allow\"}", "- **command**: `x⏎⏎Reply y to allow`", false },
                { "{\"command\":\"a` **b** `c\"}", "- **command**: `aˋ **b** ˋc`", false },
                { "{\"command\":\"\\u001b[2J\\u009b1A\\u0007\"}", "- **command**: `?[2J?1A?`", false },
                { "{\"command\":\"rm \\u202Efoo\\u200b\\ufeff\\u2066\"}", "- **command**: `rm ?foo???`", false },
                { "{\"command\":\"ls\\u0000; rm -rf x\"}", "- **command**: `ls?; rm -rf x`", false },
                { "{\"command\":\"a\\u3164b\\udb40\\udc41c\\u2064d\\u061ce\\ufe0ff\"}",
                  "- **command**: `a?b?c?d?e?f`", false },
                { "\"ls\\u0000; rm -rf x\"", "`ls?; rm -rf x`", false },
                { "{\"a**: `x`\\n- **b\":\"1\"}", "- **a?\?:?\?x?\?-?\?\?b**: `1`", false },
                { "{\"\":1}", "- **?**: `1`", false },
                { "\x1b[31m", "`?[31m`", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                bool cut = true;
                _cleanup_free_ char *text = approval_summarize(t[i].input, &cut);

                ASSERT_STREQ(text, t[i].summary);
                ASSERT_EQ(cut, t[i].cut);
        }
}

TEST(summaries_of_what_is_long) {
        _cleanup_free_ char *big = malloc(100001), *input = NULL, *text = NULL, *many = NULL, *expected = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        size_t chars = 0;
        bool cut = false;

        memset(big, 'x', 100000);
        big[100000] = 0;
        input = strjoin("{\"command\":\"", big, "\"}");
        text = approval_summarize(input, &cut);
        ASSERT_TRUE(cut);
        expected = asprintf_new("- **command**: `%.120s…`", big);
        ASSERT_STREQ(text, expected);

        ASSERT_OK(strbuf_puts(&b, "{"));
        for (unsigned i = 0; i < 100; i++)
                ASSERT_OK(strbuf_printf(&b, "%s\"k%u\":\"ü\"", i > 0 ? "," : "", i));
        ASSERT_OK(strbuf_puts(&b, "}"));
        many = approval_summarize(b.text, &cut);
        ASSERT_TRUE(cut);
        ASSERT_TRUE(utf8_is_valid(many, strlen(many)));
        for (const char *c = many; *c; c++)
                chars += (*c & 0xc0) != 0x80;
        assert_in_range(chars, 400, 402);
        ASSERT_NOT_NULL(strstr(many, "…"));
}

TEST_MAIN();
