/* SPDX-License-Identifier: MIT */

/* The printing half of signed-json.h: the form that is sent, and the two canonical forms that signatures cover. */

#include <endian.h>
#include <math.h>
#include <stdio.h>

#include "json-plain.h"
#include "signed-json.h"

#define FEW_MEMBERS 32U

static int put_char(StrBuf *b, char c) {
        int r = b->allocated - b->size > 1 ? 0 : strbuf_reserve(b, 1);

        if (r < 0)
                return r;
        b->text[b->size++] = c;
        b->text[b->size] = 0;
        return 0;
}

/* Nearly every string has nothing to escape. */
static int put_quoted(StrBuf *b, const char *s, size_t n) {
        int r = strbuf_reserve(b, n + 2);

        if (r < 0)
                return r;
        b->text[b->size] = '"';
        memcpy(b->text + b->size + 1, s, n);
        b->text[b->size + n + 1] = '"';
        b->size += n + 2;
        b->text[b->size] = 0;
        return 0;
}

static int put_escaped(StrBuf *b, const char *s, size_t n, bool ascii) {
        static const char short_from[] = "\"\\\n\r\t\b\f", short_to[] = "\"\\nrtbf";
        int r;

        if (json_plain_length(s, s + n, ascii) == n)
                return put_quoted(b, s, n);

        r = put_char(b, '"');
        for (size_t i = 0; i < n && r >= 0; ) {
                const unsigned char *u = (const unsigned char*) s + i;
                size_t plain;
                const char *k;
                uint32_t c;
                int length;

                plain = json_plain_length(s + i, s + n, ascii);
                if (plain > 0) {
                        r = strbuf_append(b, (const char*) u, plain);
                        i += plain;
                        continue;
                }

                k = *u ? strchr(short_from, *u) : NULL;
                if (k) {
                        r = strbuf_append(b, (char[]) { '\\', short_to[k - short_from] }, 2);
                        i++;
                        continue;
                }

                /* The text is valid UTF-8: every way into a document checks it. */
                length = *u < 0x80 ? 1 : *u < 0xe0 ? 2 : *u < 0xf0 ? 3 : 4;
                c = *u & (length == 1 ? 0x7fU : 0x7fU >> length);
                for (int j = 1; j < length; j++)
                        c = c << 6 | (u[j] & 0x3f);
                if (c >= 0x10000)
                        r = strbuf_printf(b, "\\u%04x\\u%04x", (unsigned) (0xd800 + ((c - 0x10000) >> 10)),
                                          (unsigned) (0xdc00 + ((c - 0x10000) & 0x3ff)));
                else
                        r = strbuf_printf(b, "\\u%04x", (unsigned) c);
                i += (size_t) length;
        }

        return r < 0 ? r : put_char(b, '"');
}

/* The next UTF-16 code unit of a key, keeping a pending low surrogate in *low. -1 at the end. */
static int32_t next_code_unit(const char **p, const char *end, uint16_t *low) {
        const unsigned char *u = (const unsigned char*) *p;
        uint32_t c;
        int length;

        if (*low != 0) {
                int32_t unit = *low;

                *low = 0;
                return unit;
        }
        if (*p >= end)
                return -1;

        length = *u < 0x80 ? 1 : *u < 0xe0 ? 2 : *u < 0xf0 ? 3 : 4;
        c = *u & (length == 1 ? 0x7fU : 0x7fU >> length);
        for (int j = 1; j < length; j++)
                c = c << 6 | (u[j] & 0x3f);
        *p += length;
        if (c < 0x10000)
                return (int32_t) c;
        *low = (uint16_t) (0xdc00 + ((c - 0x10000) & 0x3ff));
        return (int32_t) (0xd800 + ((c - 0x10000) >> 10));
}

static int compare_members(const SignedValue *x, const SignedValue *y, CanonicalMode mode) {
        const char *p = x->key, *q = y->key;
        uint16_t low_x = 0, low_y = 0;

        /* ASCII has one order only. */
        for (const char *end = p + MIN(x->key_size, y->key_size); p < end && *p == *q && !(*p & 0x80); p++, q++)
                ;
        for (;;) {
                int32_t a = next_code_unit(&p, x->key + x->key_size, &low_x),
                        b = next_code_unit(&q, y->key + y->key_size, &low_y);

                if (a < 0 || b < 0)
                        return (a >= 0) - (b >= 0);
                if (a == b)
                        continue;
                if (mode == CANONICAL_RFC8785)
                        return a < b ? -1 : 1;
                /* Little-endian bytes: the low one decides first (§3.4). */
                if ((a & 0xff) != (b & 0xff))
                        return (a & 0xff) < (b & 0xff) ? -1 : 1;
                return a < b ? -1 : 1;
        }
}

static int compare_members_compat(const void *a, const void *b) {
        return compare_members(*(const SignedValue *const *) a, *(const SignedValue *const *) b, CANONICAL_COMPAT);
}

static int compare_members_rfc8785(const void *a, const void *b) {
        return compare_members(*(const SignedValue *const *) a, *(const SignedValue *const *) b, CANONICAL_RFC8785);
}

/* The beginning of a key as a number: where two differ, the keys are in the order of the numbers, as long as all is
 * ASCII. Past its end a key is zeros, which come before everything, as its end does. */
static bool key_prefix(const SignedValue *v, uint64_t *ret) {
        uint64_t prefix = 0;

        memcpy(&prefix, v->key, MIN(v->key_size, sizeof(prefix)));
        *ret = be64toh(prefix);
        return !(prefix & 0x8080808080808080U);
}

/* By insertion. False, with nothing done, when a key does not begin in ASCII. */
static bool sort_few(const SignedValue **members, size_t n, CanonicalMode mode) {
        uint64_t prefixes[FEW_MEMBERS];

        for (size_t i = 0; i < n; i++)
                if (!key_prefix(members[i], &prefixes[i]))
                        return false;
        for (size_t i = 1; i < n; i++) {
                const SignedValue *m = members[i];
                uint64_t prefix = prefixes[i];
                size_t k = i;

                for (; k > 0 && (prefix < prefixes[k - 1] ||
                                 (prefix == prefixes[k - 1] && compare_members(m, members[k - 1], mode) < 0)); k--) {
                        members[k] = members[k - 1];
                        prefixes[k] = prefixes[k - 1];
                }
                members[k] = m;
                prefixes[k] = prefix;
        }
        return true;
}

typedef struct Decimal {
        char digits[20];
        int exponent;           /* of the first digit */
} Decimal;

/* |v| to n digits, as printf rounds it. */
static void decimal_round(Decimal *d, double v, int n) {
        char text[40], *w = d->digits;

        (void) snprintf(text, sizeof(text), "%.*e", n - 1, fabs(v));
        for (const char *p = text; *p != 'e'; p++)
                if (*p >= '0' && *p <= '9')
                        *w++ = *p;
        *w = 0;
        d->exponent = atoi(strchr(text, 'e') + 1);
}

static void decimal_next(Decimal *d) {
        size_t i = strlen(d->digits);

        while (i > 0 && d->digits[i - 1] == '9')
                d->digits[--i] = '0';
        if (i > 0)
                d->digits[i - 1]++;
        else {
                d->digits[0] = '1';
                d->exponent++;
        }
}

static bool decimal_is(const Decimal *d, double v) {
        char text[40];

        (void) snprintf(text, sizeof(text), "%c.%se%d", d->digits[0], d->digits + 1, d->exponent);
        return strtod(text, NULL) == fabs(v);
}

/* The fewest digits that give the same double again. Below a power of two the doubles are twice as dense as above it:
 * the nearest n digits may already be another double when the next greater ones are still this one. */
static void shortest_digits(double v, Decimal *ret) {
        for (int n = 1; n <= 17; n++) {
                Decimal next;

                decimal_round(ret, v, n);
                if (decimal_is(ret, v))
                        break;
                next = *ret;
                decimal_next(&next);
                if (decimal_is(&next, v)) {
                        *ret = next;
                        break;
                }
        }
        for (size_t n = strlen(ret->digits); n > 1 && ret->digits[n - 1] == '0'; n--)
                ret->digits[n - 1] = 0;
}

/* digits × 10^exponent without an exponent part. */
static int put_positional(StrBuf *b, const char *digits, int exponent) {
        int n = (int) strlen(digits), r;

        if (exponent < 0) {
                r = strbuf_puts(b, "0.");
                for (int i = -1; i > exponent && r >= 0; i--)
                        r = strbuf_puts(b, "0");
                return r < 0 ? r : strbuf_puts(b, digits);
        }

        r = strbuf_append(b, digits, (size_t) MIN(n, exponent + 1));
        for (int i = n; i <= exponent && r >= 0; i++)
                r = strbuf_puts(b, "0");
        if (r >= 0 && n > exponent + 1) {
                r = strbuf_puts(b, ".");
                if (r >= 0)
                        r = strbuf_puts(b, digits + exponent + 1);
        }
        return r;
}

static int put_with_exponent(StrBuf *b, const char *digits, int exponent, int min_exponent_digits) {
        int r = strbuf_append(b, digits, 1);

        if (r >= 0 && digits[1])
                r = strbuf_printf(b, ".%s", digits + 1);
        return r < 0 ? r : strbuf_printf(b, "e%c%0*d", exponent < 0 ? '-' : '+', min_exponent_digits, abs(exponent));
}

static int put_double_compat(StrBuf *b, double v) {
        Decimal d;
        int r;

        if (v == 0)
                return strbuf_puts(b, signbit(v) ? "-0.0" : "0");
        if (v == floor(v))
                return strbuf_printf(b, "%.0f", v);

        shortest_digits(v, &d);
        r = v < 0 ? strbuf_puts(b, "-") : 0;
        if (r < 0)
                return r;
        if (d.exponent >= -4 && d.exponent < 16)
                return put_positional(b, d.digits, d.exponent);
        return put_with_exponent(b, d.digits, d.exponent, 2);
}

/* ECMAScript Number::toString (RFC 8785 §3.2.2.3). */
static int put_double_rfc8785(StrBuf *b, double v) {
        Decimal d;
        int r;

        if (v == 0)
                return strbuf_puts(b, "0");

        shortest_digits(v, &d);
        r = v < 0 ? strbuf_puts(b, "-") : 0;
        if (r < 0)
                return r;
        if (d.exponent >= -6 && d.exponent < 21)
                return put_positional(b, d.digits, d.exponent);
        return put_with_exponent(b, d.digits, d.exponent, 1);
}

static int put_number(StrBuf *b, const SignedValue *v, CanonicalMode mode) {
        bool integer = !strpbrk(v->text, ".eE");
        double d;

        if (integer && mode == CANONICAL_COMPAT)
                return strbuf_puts(b, streq(v->text, "-0") ? "0" : v->text);

        d = strtod(v->text, NULL);
        if (!isfinite(d))
                return -ERANGE;
        return mode == CANONICAL_COMPAT ? put_double_compat(b, d) : put_double_rfc8785(b, d);
}

/* By size: a key may go on behind a NUL, and is another one then. */
static bool key_is(const SignedValue *m, const char *key) {
        return m->key_size == strlen(key) && memcmp(m->key, key, m->key_size) == 0;
}

static bool is_signature(const SignedValue *m) {
        return key_is(m, "signature") || key_is(m, "self_signature");
}

static int put_object(StrBuf *b, const SignedValue *v, CanonicalMode mode, bool for_signing) {
        _cleanup_free_ const SignedValue **members = NULL;
        size_t n = 0;
        int r;

        members = new0(const SignedValue*, v->size);
        if (!members)
                return -ENOMEM;
        for (const SignedValue *m = v->child; m; m = m->next)
                if (!for_signing || !is_signature(m))
                        members[n++] = m;
        if (n > FEW_MEMBERS || !sort_few(members, n, mode))
                qsort(members, n, sizeof(members[0]),
                      mode == CANONICAL_COMPAT ? compare_members_compat : compare_members_rfc8785);

        r = put_char(b, '{');
        for (size_t i = 0; i < n && r >= 0; i++) {
                if (i > 0)
                        r = put_char(b, ',');
                if (r >= 0)
                        r = put_escaped(b, members[i]->key, members[i]->key_size, /* ascii= */ false);
                if (r >= 0)
                        r = put_char(b, ':');
                if (r >= 0)
                        r = canonical_format(members[i], mode, b);
        }
        return r < 0 ? r : put_char(b, '}');
}

static const char* constant_text(SignedType t) {
        return t == SIGNED_NULL ? "null" : t == SIGNED_TRUE ? "true" : "false";
}

int canonical_format(const SignedValue *v, CanonicalMode mode, StrBuf *b) {
        int r;

        switch (v->type) {

        case SIGNED_NUMBER:
                return put_number(b, v, mode);

        case SIGNED_STRING:
                return put_escaped(b, v->text, v->size, /* ascii= */ false);

        case SIGNED_OBJECT:
                return put_object(b, v, mode, /* for_signing= */ false);

        case SIGNED_ARRAY:
                r = strbuf_puts(b, "[");
                for (const SignedValue *m = v->child; m && r >= 0; m = m->next) {
                        r = canonical_format(m, mode, b);
                        if (r >= 0 && m->next)
                                r = strbuf_puts(b, ",");
                }
                return r < 0 ? r : strbuf_puts(b, "]");

        default:
                return strbuf_puts(b, constant_text(v->type));
        }
}

int canonical_format_for_signing(const SignedValue *v, CanonicalMode mode, StrBuf *b) {
        return v->type == SIGNED_OBJECT ? put_object(b, v, mode, /* for_signing= */ true)
                                        : canonical_format(v, mode, b);
}

int signed_value_format(const SignedValue *v, StrBuf *b) {
        bool object = v->type == SIGNED_OBJECT;
        int r;

        switch (v->type) {

        case SIGNED_NUMBER:
                return strbuf_append(b, v->text, v->size);

        case SIGNED_STRING:
                return put_escaped(b, v->text, v->size, /* ascii= */ true);

        case SIGNED_ARRAY:
        case SIGNED_OBJECT:
                r = strbuf_puts(b, object ? "{" : "[");
                for (const SignedValue *m = v->child; m && r >= 0; m = m->next) {
                        if (object) {
                                r = put_escaped(b, m->key, m->key_size, /* ascii= */ true);
                                if (r >= 0)
                                        r = strbuf_puts(b, ":");
                        }
                        if (r >= 0)
                                r = signed_value_format(m, b);
                        if (r >= 0 && m->next)
                                r = strbuf_puts(b, ",");
                }
                return r < 0 ? r : strbuf_puts(b, object ? "}" : "]");

        default:
                return strbuf_puts(b, constant_text(v->type));
        }
}
