/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "ctl-option"

#include "ctl-option.h"
#include "tests.h"

static const Option common[] = {
        { "json", 0, NULL, "" }, { "quiet", 'q', NULL, "" }, { "host", 'H', "[USER@]HOST", "" }, {},
};
static const Option own[] = {
        { "follow", 'f', NULL, "" }, { "lines", 'n', "N", "" }, { "api-key", 0, "[-]", "" }, {},
};
static const Option *const tables[] = { common, own, NULL };

static int parse(Arguments *a, const char *line, size_t max_words, size_t text_after, char **ret_error) {
        static char copy[256];
        static char *argv[32];
        char *state = NULL;
        int argc = 0, index = 1;

        strcpy(copy, line);
        for (char *w = strtok_r(copy, " ", &state); w; w = strtok_r(NULL, " ", &state))
                argv[argc++] = w;
        argv[argc] = NULL;
        return arguments_parse(a, argc, argv, &index, tables, max_words, text_after, ret_error) ?: argc - index;
}

TEST(options_and_words) {
        _cleanup_(arguments_done) Arguments a = {};
        _cleanup_free_ char *error = NULL;

        ASSERT_EQ(parse(&a, "p -fq --lines=3 rob -n 5 --host root@box word --api-key -- --json", SIZE_MAX, SIZE_MAX,
                        &error),
                  0);
        ASSERT_TRUE(arguments_has(&a, "follow") && arguments_has(&a, "quiet"));
        ASSERT_FALSE(arguments_has(&a, "json"));
        ASSERT_STREQ(arguments_value(&a, "lines"), "5");
        ASSERT_STREQ(arguments_value(&a, "host"), "root@box");
        ASSERT_TRUE(arguments_has(&a, "api-key"));
        ASSERT_NULL(arguments_value(&a, "api-key"));
        ASSERT_EQ(a.n_words, 3);
        ASSERT_STREQ(a.words[0], "rob");
        ASSERT_STREQ(a.words[1], "word");
        ASSERT_STREQ(a.words[2], "--json");
        ASSERT_NULL(a.words[3]);
}

TEST(text_is_not_looked_at) {
        _cleanup_(arguments_done) Arguments a = {};
        _cleanup_free_ char *error = NULL, *joined = NULL;

        ASSERT_EQ(parse(&a, "p --json rob say --help -- now", SIZE_MAX, 2, &error), 0);
        ASSERT_TRUE(arguments_has(&a, "json"));
        joined = arguments_join(&a, 1);
        ASSERT_STREQ(joined, "say --help -- now");
}

TEST(stops_behind_the_verb) {
        _cleanup_(arguments_done) Arguments a = {};
        _cleanup_free_ char *error = NULL;

        /* What is unknown here may be known to the verb. */
        ASSERT_EQ(parse(&a, "p --json status --unknown x", 1, SIZE_MAX, &error), 2);
        ASSERT_EQ(a.n_words, 1);
        ASSERT_STREQ(a.words[0], "status");
}

TEST(mistakes) {
        static const struct {
                const char *line, *error;
        } t[] = {
                { "p --nonsense", "unknown option '--nonsense'" },
                { "p --lin=3", "unknown option '--lin=3'" },
                { "p -x", "unknown option '-x'" },
                { "p -fx", "unknown option '-x'" },
                { "p --json=yes", "option '--json' takes no value" },
                { "p --lines", "option '--lines' needs a value" },
                { "p -n", "option '-n' needs a value" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(arguments_done) Arguments a = {};
                _cleanup_free_ char *error = NULL;

                ASSERT_ERROR(parse(&a, t[i].line, SIZE_MAX, SIZE_MAX, &error), EINVAL);
                ASSERT_STREQ(error, t[i].error);
        }
}

TEST(values_of_letters) {
        _cleanup_(arguments_done) Arguments a = {};
        _cleanup_free_ char *error = NULL;

        ASSERT_EQ(parse(&a, "p -fn7 -", SIZE_MAX, SIZE_MAX, &error), 0);
        ASSERT_STREQ(arguments_value(&a, "lines"), "7");
        ASSERT_EQ(a.n_words, 1);
        ASSERT_STREQ(a.words[0], "-");
}

TEST_MAIN();
