/* SPDX-License-Identifier: MIT */

#include <math.h>
#include <stdio.h>

#include "string-util.h"
#include "yaml-internal.h"

/* The types of plain scalars. The patterns are those of PyYAML's resolver, so that a file means the same to both:
 * each match_*() returns where its part of the text ends, or NULL. Like all of json-c, numbers rely on LC_NUMERIC
 * being "C", which no program of ours changes. */

#define DIGITS "0123456789"

static bool is_one_of(const char *s, const char *const *words, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (streq(s, words[i]))
                        return true;
        return false;
}

static bool is_true(const char *s) {
        static const char *const words[] = { "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON" };

        return is_one_of(s, words, ELEMENTSOF(words));
}

static bool is_false(const char *s) {
        static const char *const words[] = { "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF" };

        return is_one_of(s, words, ELEMENTSOF(words));
}

static bool is_null(const char *s) {
        static const char *const words[] = { "", "~", "null", "Null", "NULL" };

        return is_one_of(s, words, ELEMENTSOF(words));
}

static bool is_infinite(const char *s) {
        static const char *const words[] = { ".inf", ".Inf", ".INF" };

        return is_one_of(s + (*s == '-' || *s == '+'), words, ELEMENTSOF(words));
}

static bool is_nan(const char *s) {
        static const char *const words[] = { ".nan", ".NaN", ".NAN" };

        return is_one_of(s, words, ELEMENTSOF(words));
}

static const char* match_some(const char *s, const char *set) {
        size_t n = strspn(s, set);

        return n > 0 ? s + n : NULL;
}

/* (:[0-5]?[0-9])+ */
static const char* match_sixties(const char *s) {
        const char *begin = s;

        while (*s == ':' && s[1] >= '0' && s[1] <= '9')
                s += s[1] <= '5' && s[2] >= '0' && s[2] <= '9' ? 3 : 2;
        return s > begin ? s : NULL;
}

static bool is_int(const char *s) {
        const char *e;

        s += *s == '-' || *s == '+';
        if (*s == '0') {
                if (s[1] == 0)
                        return true;
                e = s[1] == 'b' ? match_some(s + 2, "01_") :
                    s[1] == 'x' ? match_some(s + 2, DIGITS "abcdefABCDEF_") :
                                  match_some(s + 1, "01234567_");
                return e && *e == 0;
        }
        if (*s < '1' || *s > '9')
                return false;

        e = match_some(s, DIGITS "_");
        if (*e == ':')
                e = match_sixties(e);
        return e && *e == 0;
}

/* ([eE][-+][0-9]+)? to the end */
static bool is_exponent_or_end(const char *s) {
        if (*s == 0)
                return true;
        if ((*s != 'e' && *s != 'E') || (s[1] != '-' && s[1] != '+'))
                return false;

        s = match_some(s + 2, DIGITS);
        return s && *s == 0;
}

static bool is_float(const char *s) {
        const char *e;

        if (is_infinite(s) || is_nan(s))
                return true;
        if (*s == '.')
                return s[1] >= '0' && s[1] <= '9' && is_exponent_or_end(match_some(s + 1, DIGITS "_"));

        s += *s == '-' || *s == '+';
        if (*s < '0' || *s > '9')
                return false;

        e = match_some(s, DIGITS "_");
        if (*e == ':') {
                e = match_sixties(e);
                return e && *e == '.' && e[1 + strspn(e + 1, DIGITS "_")] == 0;
        }
        return *e == '.' && is_exponent_or_end(e + 1 + strspn(e + 1, DIGITS "_"));
}

/* least to most digits */
static const char* match_digits(const char *s, size_t least, size_t most) {
        size_t n = 0;

        while (n < most && s[n] >= '0' && s[n] <= '9')
                n++;
        return n < least ? NULL : s + n;
}

static bool is_timestamp(const char *s) {
        const char *p, *zone;

        /* The short form wants two digits each, and nothing after them. */
        p = match_digits(s, 4, 4);
        if (!p || *p != '-' || !(p = match_digits(p + 1, 1, 2)) || *p != '-' || !(p = match_digits(p + 1, 1, 2)))
                return false;
        if (*p == 0)
                return p - s == 10;

        if (*p == 'T' || *p == 't')
                p++;
        else if (!(p = match_some(p, " \t")))
                return false;
        if (!(p = match_digits(p, 1, 2)) || *p != ':' || !(p = match_digits(p + 1, 2, 2)) || *p != ':' ||
            !(p = match_digits(p + 1, 2, 2)))
                return false;
        if (*p == '.')
                p += 1 + strspn(p + 1, DIGITS);
        if (*p == 0)
                return true;

        zone = p + strspn(p, " \t");
        if (*zone == 'Z')
                return zone[1] == 0;
        if ((*zone != '+' && *zone != '-') || !(p = match_digits(zone + 1, 1, 2)))
                return false;
        return *p == 0 || (*p == ':' && (p = match_digits(p + 1, 2, 2)) && *p == 0);
}

YamlType yaml_type_resolve(const char *s) {
        if (is_null(s))
                return YAML_TYPE_NULL;
        if (is_true(s) || is_false(s))
                return YAML_TYPE_BOOL;
        if (is_int(s))
                return YAML_TYPE_INT;
        if (is_float(s))
                return YAML_TYPE_FLOAT;
        if (is_timestamp(s))
                return YAML_TYPE_TIMESTAMP;
        if (streq(s, "<<") || streq(s, "="))
                return YAML_TYPE_SPECIAL;
        return YAML_TYPE_STRING;
}

bool yaml_text_to_bool(const char *s) {
        return is_true(s);
}

static int digits_to_u64(const char *s, size_t n, unsigned base, uint64_t *ret) {
        uint64_t v = 0;
        bool any = false;

        for (size_t i = 0; i < n; i++) {
                unsigned digit;

                if (s[i] == '_')
                        continue;
                digit = (unsigned) (s[i] <= '9' ? s[i] - '0' : (s[i] | 0x20) - 'a' + 10);
                if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, digit, &v))
                        return -ERANGE;
                any = true;
        }
        if (!any)
                return -EINVAL;

        *ret = v;
        return 0;
}

static int sixties_to_u64(const char *s, uint64_t *ret) {
        uint64_t v = 0, part;
        int r;

        for (;;) {
                size_t n = strspn(s, DIGITS "_");

                r = digits_to_u64(s, n, 10, &part);
                if (r < 0)
                        return r;
                if (__builtin_mul_overflow(v, 60U, &v) || __builtin_add_overflow(v, part, &v))
                        return -ERANGE;
                s += n;
                if (*s != ':')
                        break;
                s++;
        }

        *ret = v;
        return 0;
}

int yaml_text_to_int(const char *s, int64_t *ret) {
        bool negative = *s == '-';
        uint64_t v;
        int r;

        s += negative || *s == '+';
        if (startswith(s, "0b"))
                r = digits_to_u64(s + 2, strlen(s + 2), 2, &v);
        else if (startswith(s, "0x"))
                r = digits_to_u64(s + 2, strlen(s + 2), 16, &v);
        else if (*s == '0')
                r = digits_to_u64(s, strlen(s), 8, &v);
        else
                r = sixties_to_u64(s, &v);
        if (r < 0)
                return r;
        if (v > (uint64_t) INT64_MAX + negative)
                return -ERANGE;

        *ret = negative ? (int64_t) -v : (int64_t) v;
        return 0;
}

int yaml_text_to_double(const char *s, double *ret) {
        _cleanup_free_ char *digits = NULL;
        double v = 0;
        bool negative = *s == '-';
        char *w;

        if (is_nan(s)) {
                *ret = NAN;
                return 0;
        }
        if (is_infinite(s)) {
                *ret = negative ? -INFINITY : INFINITY;
                return 0;
        }

        digits = strdup(s + (negative || *s == '+'));
        if (!digits)
                return -ENOMEM;

        w = digits;
        for (const char *c = digits; *c; c++)
                if (*c != '_')
                        *w++ = *c;
        *w = 0;

        for (char *part = digits, *next; part; part = next) {
                next = strchr(part, ':');
                if (next)
                        *next++ = 0;
                v = v * 60 + strtod(part, NULL);
        }

        *ret = negative ? -v : v;
        return 0;
}

char* yaml_double_to_text(double v) {
        char text[64], *e;
        int precision, exponent;

        if (isnan(v))
                return strdup(".nan");
        if (isinf(v))
                return strdup(v < 0 ? "-.inf" : ".inf");

        /* The fewest digits that read back as the same number. */
        for (precision = 0; precision < 17; precision++) {
                (void) snprintf(text, sizeof(text), "%.*e", precision, v);
                if (strtod(text, NULL) == v)
                        break;
        }

        e = strchr(text, 'e');
        exponent = atoi(e + 1);
        if (exponent >= -4 && exponent < 16)
                return asprintf_new("%.*f", MAX(precision - exponent, 1), v);
        if (precision > 0)
                return strdup(text);
        return asprintf_new("%.1e", v);
}
