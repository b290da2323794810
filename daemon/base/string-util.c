/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <stdio.h>
#include <sys/random.h>

#include "string-util.h"

char* strjoin_real(const char *first, ...) {
        size_t n = strlen(first);
        va_list ap;
        char *joined, *p;

        va_start(ap, first);
        for (const char *s; (s = va_arg(ap, const char *)); )
                n += strlen(s);
        va_end(ap);

        joined = malloc(n + 1);
        if (!joined)
                return NULL;

        p = stpcpy(joined, first);
        va_start(ap, first);
        for (const char *s; (s = va_arg(ap, const char *)); )
                p = stpcpy(p, s);
        va_end(ap);

        return joined;
}

char* asprintf_new(const char *format, ...) {
        va_list ap;
        char *s;
        int r;

        va_start(ap, format);
        r = vasprintf(&s, format, ap);
        va_end(ap);

        return r < 0 ? NULL : s;
}

int free_and_strdup(char **p, const char *s) {
        char *copy = NULL;

        if (streq_ptr(*p, s))
                return 1;

        if (s) {
                copy = strdup(s);
                if (!copy)
                        return -ENOMEM;
        }

        free(*p);
        *p = copy;
        return 0;
}

void* memdup0(const void *p, size_t n) {
        char *copy;

        if (n == SIZE_MAX)
                return NULL;

        copy = malloc(n + 1);
        if (!copy)
                return NULL;

        if (n > 0)
                memcpy(copy, p, n);
        copy[n] = 0;
        return copy;
}

/* Length of the code point that starts at s; 0 when it is none, -1 when it is cut off by the end. */
static int utf8_code_point_length(const char *s, size_t n) {
        const unsigned char *u = (const unsigned char*) s;
        unsigned char low = 0x80, high = 0xbf;
        int length;

        if (u[0] < 0x80)
                return 1;
        if (u[0] >= 0xc2 && u[0] <= 0xdf)
                length = 2;
        else if (u[0] >= 0xe0 && u[0] <= 0xef) {
                length = 3;
                if (u[0] == 0xe0)
                        low = 0xa0;
                else if (u[0] == 0xed)
                        high = 0x9f;
        } else if (u[0] >= 0xf0 && u[0] <= 0xf4) {
                length = 4;
                if (u[0] == 0xf0)
                        low = 0x90;
                else if (u[0] == 0xf4)
                        high = 0x8f;
        } else
                return 0;

        for (int i = 1; i < length; i++, low = 0x80, high = 0xbf) {
                if ((size_t) i >= n)
                        return -1;
                if (u[i] < low || u[i] > high)
                        return 0;
        }
        return length;
}

typedef uint8_t Bytes16 __attribute__((vector_size(16)));

bool utf8_is_valid(const char *s, size_t n) {
        while (n > 0) {
                uint64_t eight, two[2];
                Bytes16 more[4];
                int k;

                /* Nearly all that comes is ASCII. */
                for (; n >= sizeof(more); s += sizeof(more), n -= sizeof(more)) {
                        memcpy(more, s, sizeof(more));
                        more[0] |= more[1] | more[2] | more[3];
                        memcpy(two, more, sizeof(two));
                        if ((two[0] | two[1]) & 0x8080808080808080U)
                                break;
                }
                for (; n >= sizeof(eight); s += sizeof(eight), n -= sizeof(eight)) {
                        memcpy(&eight, s, sizeof(eight));
                        if (eight & 0x8080808080808080U)
                                break;
                }
                if (n == 0)
                        break;

                k = utf8_code_point_length(s, n);
                if (k <= 0)
                        return false;
                s += k;
                n -= (size_t) k;
        }
        return true;
}

static bool code_point_is_noncharacter(const unsigned char *u, int length) {
        if (length == 3 && u[0] == 0xef)
                return (u[1] == 0xb7 && u[2] >= 0x90 && u[2] <= 0xaf) || (u[1] == 0xbf && u[2] >= 0xbe);
        return length == 4 && (u[1] & 0x0f) == 0x0f && u[2] == 0xbf && u[3] >= 0xbe;
}

bool utf8_is_interchangeable(const char *s, size_t n) {
        while (n > 0) {
                int k = utf8_code_point_length(s, n);

                if (k <= 0 || code_point_is_noncharacter((const unsigned char*) s, k))
                        return false;
                s += k;
                n -= (size_t) k;
        }
        return true;
}

char* utf8_to_interchangeable(const char *s) {
        _cleanup_(strbuf_done) StrBuf b = {};
        size_t n = strlen(s);

        while (n > 0) {
                int k = utf8_code_point_length(s, n), r;

                if (k <= 0 || code_point_is_noncharacter((const unsigned char*) s, k)) {
                        r = strbuf_puts(&b, "\xef\xbf\xbd");
                        k = MAX(k, 1);
                } else
                        r = strbuf_append(&b, s, (size_t) k);
                if (r < 0)
                        return NULL;
                s += k;
                n -= (size_t) k;
        }
        return strbuf_take(&b);
}

size_t utf8_complete_prefix(const char *s, size_t n) {
        for (size_t back = 1; back <= 3 && back <= n; back++) {
                unsigned char c = (unsigned char) s[n - back];

                if (c < 0x80)
                        return n;
                if (c >= 0xc0)
                        return utf8_code_point_length(s + n - back, back) < 0 ? n - back : n;
        }
        return n;
}

char* utf8_repair(char *s) {
        size_t n = utf8_complete_prefix(s, strlen(s));

        s[n] = 0;
        for (char *p = s; n > 0;) {
                int length = utf8_code_point_length(p, n);

                if (length <= 0) {
                        *p = '?';
                        length = 1;
                }
                p += length;
                n -= (size_t) length;
        }
        return s;
}

/* Characters that move the cursor, recolour the terminal or reorder the text around them. */
static bool code_point_is_unsafe(const unsigned char *u, int length) {
        if (code_point_is_noncharacter(u, length))
                return true;
        if (length == 1)
                return u[0] < 0x20 || u[0] == 0x7f;
        if (length == 2)
                return u[0] == 0xc2 && u[1] < 0xa0;
        if (length == 3 && u[0] == 0xe2)
                return (u[1] == 0x80 && (u[2] == 0x8e || u[2] == 0x8f || (u[2] >= 0xa8 && u[2] <= 0xae))) ||
                       (u[1] == 0x81 && u[2] >= 0xa6 && u[2] <= 0xa9);
        return false;
}

char* str_printable(const char *s, size_t max_chars) {
        _cleanup_(strbuf_done) StrBuf b = {};
        size_t n = strlen(s), n_chars = 0;

        while (n > 0) {
                int length = utf8_code_point_length(s, n), r;

                if (n_chars++ >= max_chars) {
                        if (strbuf_puts(&b, "…") < 0)
                                return NULL;
                        break;
                }

                if (length <= 0 || code_point_is_unsafe((const unsigned char*) s, length)) {
                        r = strbuf_puts(&b, "?");
                        length = MAX(length, 1);
                } else
                        r = strbuf_append(&b, s, (size_t) length);
                if (r < 0)
                        return NULL;

                s += length;
                n -= (size_t) length;
        }

        return strbuf_take(&b);
}

int parse_u64(const char *s, uint64_t *ret) {
        uint64_t v = 0;

        if (isempty(s))
                return -EINVAL;

        for (; *s; s++) {
                if (*s < '0' || *s > '9')
                        return -EINVAL;
                if (__builtin_mul_overflow(v, 10U, &v) || __builtin_add_overflow(v, (uint64_t) (*s - '0'), &v))
                        return -ERANGE;
        }

        *ret = v;
        return 0;
}

int parse_u32(const char *s, uint32_t *ret) {
        uint64_t v;
        int r = parse_u64(s, &v);

        if (r < 0)
                return r;
        if (v > UINT32_MAX)
                return -ERANGE;

        *ret = (uint32_t) v;
        return 0;
}

void strbuf_done(StrBuf *b) {
        free(b->text);
        *b = (StrBuf) {};
}

int strbuf_reserve(StrBuf *b, size_t extra) {
        size_t need, want;
        char *p;

        if (__builtin_add_overflow(b->size, extra, &need) || __builtin_add_overflow(need, 1U, &need))
                return -ENOMEM;
        if (need <= b->allocated)
                return 0;

        want = MAX(need, MAX(b->allocated * 2, (size_t) 64));
        p = realloc(b->text, want);
        if (!p)
                return -ENOMEM;

        b->text = p;
        b->allocated = want;
        return 0;
}

void strbuf_trim(StrBuf *b) {
        char *p = b->allocated > b->size + 1 ? realloc(b->text, b->size + 1) : NULL;

        if (!p)
                return;
        b->text = p;
        b->allocated = b->size + 1;
}

int strbuf_append(StrBuf *b, const char *s, size_t n) {
        int r = strbuf_reserve(b, n);

        if (r < 0)
                return r;
        if (n > 0)
                memcpy(b->text + b->size, s, n);
        b->size += n;
        b->text[b->size] = 0;
        return 0;
}

int strbuf_puts(StrBuf *b, const char *s) {
        return strbuf_append(b, s, strlen(s));
}

int strbuf_printf(StrBuf *b, const char *format, ...) {
        _cleanup_free_ char *s = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&s, format, ap);
        va_end(ap);
        if (n < 0) {
                s = NULL;
                return -ENOMEM;
        }

        return strbuf_append(b, s, (size_t) n);
}

char* strbuf_take(StrBuf *b) {
        char *text;

        if (strbuf_reserve(b, 0) < 0)
                return NULL;

        b->text[b->size] = 0;
        text = TAKE_PTR(b->text);
        *b = (StrBuf) {};
        return text;
}

void strbuf_consume(StrBuf *b, size_t n) {
        assert(n <= b->size);

        if (n == 0)
                return;
        memmove(b->text, b->text + n, b->size - n);
        b->size -= n;
        b->text[b->size] = 0;
}

bool str_is_word(const char *s, const char *word) {
        size_t n;

        while (isspace((unsigned char) *s))
                s++;
        n = strlen(s);
        while (n > 0 && isspace((unsigned char) s[n - 1]))
                n--;
        return n == strlen(word) && strncasecmp(s, word, n) == 0;
}

char** strv_free(char **l) {
        if (l)
                for (char **i = l; *i; i++)
                        free(*i);
        return mfree(l);
}

size_t strv_length(char *const *l) {
        size_t n = 0;

        while (l && l[n])
                n++;
        return n;
}

bool strv_contains(char *const *l, const char *s) {
        for (; l && *l; l++)
                if (streq(*l, s))
                        return true;
        return false;
}

int strv_extend(char ***l, const char *s) {
        size_t n = strv_length(*l);
        char *copy, **grown;

        copy = strdup(s);
        if (!copy)
                return -ENOMEM;

        grown = reallocarray(*l, n + 2, sizeof(char*));
        if (!grown) {
                free(copy);
                return -ENOMEM;
        }

        grown[n] = copy;
        grown[n + 1] = NULL;
        *l = grown;
        return 0;
}

static int compare_strings(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

void strv_sort(char **l) {
        if (l)
                qsort(l, strv_length(l), sizeof(char*), compare_strings);
}

char* unit_name_escape(const char *s) {
        char *escaped, *p;

        escaped = malloc(strlen(s) * 4 + 1);
        if (!escaped)
                return NULL;

        p = escaped;
        for (const char *c = s; *c; c++) {
                bool plain = isalnum((unsigned char) *c) || *c == ':' || *c == '_' || (*c == '.' && c != s);

                if (*c == '/')
                        *p++ = '-';
                else if (plain)
                        *p++ = *c;
                else
                        p += sprintf(p, "\\x%02x", (unsigned) (unsigned char) *c);
        }
        *p = 0;
        return escaped;
}

static int unhex(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -EINVAL;
}

int unit_name_unescape(const char *s, char **ret) {
        _cleanup_free_ char *plain = malloc(strlen(s) + 1);
        char *p = plain;

        if (!plain)
                return -ENOMEM;

        for (; *s; s++) {
                if (*s == '-')
                        *p++ = '/';
                else if (*s == '\\') {
                        int high, low;

                        if (s[1] != 'x' || (high = unhex(s[2])) < 0 || (low = unhex(s[3])) < 0)
                                return -EINVAL;
                        *p++ = (char) (high << 4 | low);
                        s += 3;
                } else
                        *p++ = *s;
        }
        *p = 0;

        *ret = TAKE_PTR(plain);
        return 0;
}

char* random_hex(size_t n_bytes) {
        static const char digits[] = "0123456789abcdef";
        unsigned char raw[64];
        char *hex;

        assert(n_bytes <= sizeof(raw));

        /* At most 256 bytes: getrandom() neither fails nor falls short once the kernel is up (getrandom(2)). */
        if (getrandom(raw, n_bytes, 0) != (ssize_t) n_bytes)
                return NULL;

        hex = malloc(n_bytes * 2 + 1);
        if (!hex)
                return NULL;
        for (size_t i = 0; i < n_bytes; i++) {
                hex[2 * i] = digits[raw[i] >> 4];
                hex[2 * i + 1] = digits[raw[i] & 15];
        }
        hex[n_bytes * 2] = 0;
        return hex;
}

static bool is_id_char(char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

static bool consists_of_id_chars(const char *s, size_t max) {
        size_t n = 0;

        for (; s[n]; n++)
                if (n >= max || !is_id_char(s[n]))
                        return false;
        return n > 0;
}

bool agent_id_is_valid(const char *s) {
        return s && *s != '_' && *s != '-' && consists_of_id_chars(s, 64);
}

bool turn_id_is_valid(const char *s) {
        return s && consists_of_id_chars(s, 80);
}
