/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "tests.h"

TEST(parse) {
        static const struct {
                const char *text;
                int r;
        } t[] = {
                { "{\"a\":[1,2.5,\"x\",null,true]}", 0 }, { " 12 ", 0 }, { "\"\\u00e9\"", 0 }, { "null", 0 },
                { "", -EBADMSG }, { "{", -EBADMSG }, { "{} x", -EBADMSG }, { "['a']", -EBADMSG },
                { "{\"a\":1,}", -EBADMSG }, { "\"\xff\"", -EBADMSG }, { "{}{}", -EBADMSG }, { "nul", -EBADMSG },
                { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]", -EBADMSG },
                { "NaN", -EBADMSG }, { "{\"a\":[{\"b\":Infinity}]}", -EBADMSG }, { "[-Infinity]", -EBADMSG },
                { "[\"NaN\",\"Infinity\",1e999,-2.5]", 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *o = NULL;
                int r = json_parse(t[i].text, strlen(t[i].text), &o);
                if (r != t[i].r)
                        fail_msg("%s: %d", t[i].text, r);
        }
}

TEST(get) {
        _cleanup_json_ json_object *o = NULL;
        const char *text = "{\"s\":\"x\",\"n\":3,\"b\":true,\"z\":null,\"nul\":\"a\\u0000b\"}";

        ASSERT_OK(json_parse(text, strlen(text), &o));
        ASSERT_STREQ(json_get_string(o, "s"), "x");
        ASSERT_NULL(json_get_string(o, "n"));
        ASSERT_NULL(json_get_string(o, "nul"));
        ASSERT_NULL(json_get(o, "z"));
        ASSERT_EQ(json_get_int(o, "n", -1), 3);
        ASSERT_EQ(json_get_int(o, "s", -1), -1);
        ASSERT_TRUE(json_get_bool(o, "b", false));
        ASSERT_NULL(json_get(NULL, "x"));
}

#define TEST_SUITE "json-util"
TEST_MAIN();
