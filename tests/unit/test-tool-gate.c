/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tool-gate"

#include <time.h>

#include "string-util.h"
#include "tests.h"
#include "tool-gate.h"

TEST(globs) {
        static const struct { const char *pattern, *s; bool ok; } t[] = {
                { "", "", true }, { "", "a", false }, { "a", "", false }, { "Read", "Read", true },
                { "Read", "read", false }, { "Read", "Reads", false }, { "Read", "xRead", false },
                { "*", "", true }, { "*", "anything/at all\nwith lines", true }, { "**", "x", true },
                { "a*", "a", true }, { "a*c", "abc", true }, { "a*c", "abcd", false }, { "*.py", "dir/x.py", true },
                { "*a*b*", "xxaxxbxx", true }, { "*ab*ab", "abab", true }, { "*ab*ab", "aab", false },
                { "?", "a", true }, { "?", "", false }, { "?", "ab", false }, { "?", "\xc3\xa4", true },
                { "??", "\xc3\xa4", false }, { "?", "\xf0\x9f\x98\x80", true }, { "?", "\xff", true },
                { "[abc]", "b", true }, { "[abc]", "d", false }, { "[a-c]x", "bx", true }, { "[!a-c]", "d", true },
                { "[!a-c]", "a", false }, { "[]]", "]", true }, { "[!]]", "]", false }, { "[!]]", "x", true },
                { "[^a]", "^", true }, { "[^a]", "b", false }, { "[a-]", "-", true }, { "[-a]", "-", true },
                { "[", "[", true }, { "[a", "[a", true }, { "[!", "[!", true }, { "[]", "[]", true },
                { "[c-a]", "b", false }, { "[\xc3\xa4-\xc3\xb6]", "\xc3\xa5", true }, { "[\xc3\xa4]", "a", false },
                { "\\*", "\\x", true }, { "\\*", "*", false }, { "[[]x", "[x", true },
                { "git *", "git push", true }, { "git *", "git", false }, { "git *", "gitk x", false },
                { "*\xc3\xa4", "x\xc3\xa4", true }, { "*\xa4", "x\xc3\xa4", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (glob_matches(t[i].pattern, t[i].s) != t[i].ok)
                        fail_msg("'%s' on '%s': %s", t[i].pattern, t[i].s, t[i].ok ? "no match" : "match");
}

/* Model and operator write what meets here: neither may stop the session. */
TEST(globs_take_no_time) {
        _cleanup_free_ char *s = malloc(100001);
        clock_t before = clock();

        ASSERT_NOT_NULL(s);
        memset(s, 'a', 100000);
        s[100000] = 0;
        ASSERT_FALSE(glob_matches("*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b", s));
        ASSERT_FALSE(glob_matches("*?*?*?*?*?*?*?*?*[a-c]*[!x]*b", s));
        ASSERT_TRUE(clock() - before < 2 * CLOCKS_PER_SEC);
}

static bool allowed(const char *pattern, const char *tool, const char *input) {
        _cleanup_json_ json_object *o = NULL;
        char *const patterns[] = { (char*) "Nothing(", (char*) pattern, NULL };

        if (input)
                ASSERT_OK(json_parse(input, strlen(input), &o));
        return tool_is_allowed(patterns, tool, o);
}

TEST(patterns) {
        static const struct { const char *pattern, *tool, *input; bool ok; } t[] = {
                { "Bash", "Bash", "{\"command\":\"rm -rf /\"}", true },
                { "Bash(git *)", "Bash", "{\"command\":\"git push\"}", true },
                { "Bash(git *)", "Bash", "{\"command\":\"rm x; git push\"}", false },
                { "Bash(git *)", "Bash", "{}", false },
                { "Bash(git *)", "Bash", NULL, false },
                { "Bash(*)", "Bash", NULL, true },
                { "Bash()", "Bash", "{\"command\":\"\"}", true },
                { "Bash()", "Bash", "{\"command\":\"x\"}", false },
                { "Bash(git *)", "Read", "{\"command\":\"git push\"}", false },
                { " Bash ( git * ) ", "Bash", "{\"command\":\"git push\"}", true },
                { "Bash(echo (x))", "Bash", "{\"command\":\"echo (x\"}", true },
                { "Edit(/srv/*)", "Edit", "{\"file_path\":\"/srv/a/b\"}", true },
                { "Edit(/srv/*)", "Edit", "{\"file_path\":\"/etc/a\",\"path\":\"/srv/a\"}", false },
                { "Grep(/srv/*)", "Grep", "{\"path\":\"/srv/a\",\"pattern\":\"x\"}", true },
                { "Edit(/srv/*)", "Edit", "{\"file_path\":7}", false },
                { "*", "Anything", NULL, true },
                { "mcp__other__*", "mcp__other__x", NULL, true },
                { "Read", "mcp__other__x", NULL, false },
                { "Read", "mcp__puffo__send_message", NULL, true },
                { "Read", "mcp__puffo", NULL, false },
                { "Read", "mcp__puffo__x__run", NULL, false },
                { "Read", "mcp__puffo___run", NULL, false },
                { "Read", "Write", NULL, false },
                { "", "", NULL, true },
                { "*(/srv/*)", "Write", "{\"file_path\":\"/srv/x\"}", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (allowed(t[i].pattern, t[i].tool, t[i].input) != t[i].ok)
                        fail_msg("'%s' on %s %s", t[i].pattern, t[i].tool, strempty(t[i].input));
        ASSERT_FALSE(tool_is_allowed(NULL, "Read", NULL));
}

TEST_MAIN();
