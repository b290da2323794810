/* SPDX-License-Identifier: MIT */

#include "string-util.h"
#include "tool-gate.h"

/* The code point at *p, which moves behind it. A byte that is no UTF-8 counts as itself, out of Unicode's range. */
static uint32_t next_char(const char **p) {
        const unsigned char *s = (const unsigned char*) *p;
        size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : *s >= 0xe0 && *s < 0xf0 ? 3 :
                   *s >= 0xf0 && *s < 0xf5 ? 4 : 1;
        uint32_t c = *s;

        if (n > 1 && strnlen(*p, n) == n && utf8_is_valid(*p, n)) {
                c &= 0x7fU >> n;
                for (size_t i = 1; i < n; i++)
                        c = c << 6 | (s[i] & 0x3fU);
                *p += n;
                return c;
        }
        (*p)++;
        return c < 0x80 ? c : 0x110000U + c;
}

/* The end of the set that begins at p (behind its "["), or NULL when it is not closed. */
static const char* set_end(const char *p) {
        if (*p == '!')
                p++;
        if (*p == ']')
                p++;
        return strchr(p, ']');
}

static bool set_contains(const char *p, const char *end, uint32_t c) {
        bool negated = *p == '!', found = false;

        if (negated)
                p++;
        while (p < end) {
                uint32_t low = next_char(&p), high = low;

                if (p + 1 < end && *p == '-') {
                        p++;
                        high = next_char(&p);
                }
                if (c >= low && c <= high)
                        found = true;
        }
        return found != negated;
}

/* One character of s against one element of the pattern; both move on. */
static bool match_one(const char **pattern, const char **s) {
        const char *p = *pattern, *end;
        uint32_t c = next_char(s);

        if (*p == '?') {
                *pattern = p + 1;
                return true;
        }
        end = *p == '[' ? set_end(p + 1) : NULL;
        if (end) {
                *pattern = end + 1;
                return set_contains(p + 1, end, c);
        }
        return next_char(pattern) == c;
}

bool glob_matches(const char *pattern, const char *s) {
        const char *star = NULL, *from = NULL;  /* behind the latest "*", and where what follows it was tried */

        while (*s) {
                const char *p = pattern, *t = s;

                if (*p == '*') {
                        star = pattern = p + 1;
                        from = s;
                        continue;
                }
                if (*p && match_one(&p, &t)) {
                        pattern = p;
                        s = t;
                        continue;
                }
                /* An earlier "*" need not be tried again: the latest one can take whatever that would leave. */
                if (!star)
                        return false;
                (void) next_char(&from);
                s = from;
                pattern = star;
        }
        return pattern[strspn(pattern, "*")] == 0;
}

/* What of the input a pattern's argument is compared with. */
static const char* input_subject(const char *tool, json_object *input) {
        if (streq(tool, "Bash"))
                return strempty(json_get_string(input, "command"));
        return json_get_string(input, "file_path") ?: strempty(json_get_string(input, "path"));
}

/* The text between both without white space around it. */
static char* strip(const char *from, const char *to) {
        while (from < to && strchr(" \t\r\n", *from))
                from++;
        while (to > from && strchr(" \t\r\n", to[-1]))
                to--;
        return memdup0(from, (size_t) (to - from));
}

static bool pattern_matches(const char *pattern, const char *tool, json_object *input) {
        const char *open = strchr(pattern, '('), *end = pattern + strlen(pattern);
        _cleanup_free_ char *name = strip(pattern, open ?: end), *argument = NULL;

        /* Out of memory: nothing is allowed. */
        if (!name || !glob_matches(name, tool))
                return false;
        if (!open)
                return true;
        while (end > open + 1 && strchr(" \t\r\n", end[-1]))
                end--;
        while (end > open + 1 && end[-1] == ')')
                end--;
        argument = strip(open + 1, end);
        return argument && glob_matches(argument, input_subject(tool, input));
}

bool tool_is_allowed(char *const *patterns, const char *tool, json_object *input) {
        const char *ours = startswith(tool, "mcp__puffo__");

        /* None of ours has this in its name; one of a server "puffo__x" would. */
        if (ours && *ours != '_' && !strstr(ours, "__"))
                return true;
        for (size_t i = 0; i < strv_length(patterns); i++)
                if (pattern_matches(patterns[i], tool, input))
                        return true;
        return false;
}
