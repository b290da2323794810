/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "string-util.h"
#include "toml.h"

/* A value of two bytes takes a hundred. */
#define TEXT_SIZE_MAX MIB(1)
#define DEPTH_MAX 64U
#define KEY_PARTS_MAX 64U

/* How a table or list came to be, kept with it: what may still be added to it depends on that. */
typedef enum Origin {
        ORIGIN_IMPLIED = 0,             /* as a part of the name of another one */
        ORIGIN_HEADER = 1 << 0,         /* [name] */
        ORIGIN_DOTTED = 1 << 1,         /* as a part of a key */
        ORIGIN_VALUE = 1 << 2,          /* { … }, [ … ]: as it stands */
        ORIGIN_LIST = 1 << 3,           /* [[name]] */
} Origin;

typedef struct Reader {
        const char *p, *end;
        unsigned line, depth;
        const char *fault;              /* NULL: out of memory */
} Reader;

typedef struct Key {
        char *parts[KEY_PARTS_MAX];
        size_t n;
} Key;

static int read_value(Reader *r, json_object **ret);

static void key_done(Key *k) {
        while (k->n > 0)
                free(k->parts[--k->n]);
}

static int fail(Reader *r, const char *fault) {
        r->fault = fault;
        return -EBADMSG;
}

static Origin origin_of(json_object *o) {
        return (Origin) (uintptr_t) json_object_get_userdata(o);
}

static void set_origin(json_object *o, Origin origin) {
        json_object_set_userdata(o, (void*) (uintptr_t) origin, NULL);
}

/* ---- characters ---- */

static bool at(const Reader *r, const char *text) {
        size_t n = strlen(text);

        return (size_t) (r->end - r->p) >= n && memcmp(r->p, text, n) == 0;
}

static bool take(Reader *r, const char *text) {
        if (!at(r, text))
                return false;
        r->p += strlen(text);
        return true;
}

static void skip_blanks(Reader *r) {
        while (r->p < r->end && (*r->p == ' ' || *r->p == '\t'))
                r->p++;
}

static bool take_newline(Reader *r) {
        if (!take(r, "\n") && !take(r, "\r\n"))
                return false;
        r->line++;
        return true;
}

static bool is_control(char c) {
        return ((unsigned char) c < 0x20 && c != '\t') || c == 0x7f;
}

static int skip_comment(Reader *r) {
        if (!at(r, "#"))
                return 0;
        while (r->p < r->end && *r->p != '\n' && !at(r, "\r\n"))
                if (is_control(*r->p++))
                        return fail(r, "a control character in a comment");
        return 0;
}

/* Blanks, comments and ends of lines. */
static int skip_space(Reader *r) {
        do {
                skip_blanks(r);
                if (skip_comment(r) < 0)
                        return -EBADMSG;
        } while (take_newline(r));
        return 0;
}

static int end_line(Reader *r) {
        skip_blanks(r);
        if (skip_comment(r) < 0)
                return -EBADMSG;
        return r->p == r->end || take_newline(r) ? 0 : fail(r, "something behind the end of what the line says");
}

/* ---- strings ---- */

static int put_character(Reader *r, StrBuf *b, uint32_t c) {
        char utf8[4];
        size_t n;

        if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
                return fail(r, "an escape that is no character");
        if (c < 0x80) {
                utf8[0] = (char) c;
                n = 1;
        } else if (c < 0x800) {
                utf8[0] = (char) (0xc0 | c >> 6);
                utf8[1] = (char) (0x80 | (c & 0x3f));
                n = 2;
        } else if (c < 0x10000) {
                utf8[0] = (char) (0xe0 | c >> 12);
                utf8[1] = (char) (0x80 | (c >> 6 & 0x3f));
                utf8[2] = (char) (0x80 | (c & 0x3f));
                n = 3;
        } else {
                utf8[0] = (char) (0xf0 | c >> 18);
                utf8[1] = (char) (0x80 | (c >> 12 & 0x3f));
                utf8[2] = (char) (0x80 | (c >> 6 & 0x3f));
                utf8[3] = (char) (0x80 | (c & 0x3f));
                n = 4;
        }
        return strbuf_append(b, utf8, n);
}

static int hex_digit(char c) {
        return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 :
               c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int read_escape(Reader *r, StrBuf *b) {
        static const char names[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
        const char *name = r->p < r->end && *r->p ? strchr(names, *r->p) : NULL;
        uint32_t c = 0;
        int n;

        if (name) {
                r->p++;
                return strbuf_append(b, &values[name - names], 1);
        }
        n = take(r, "u") ? 4 : take(r, "U") ? 8 : 0;
        if (n == 0)
                return fail(r, "an escape that there is not");
        for (; n > 0; n--) {
                int digit = r->p < r->end ? hex_digit(*r->p) : -1;

                if (digit < 0)
                        return fail(r, "an escape with too few digits");
                c = c << 4 | (uint32_t) digit;
                r->p++;
        }
        return put_character(r, b, c);
}

/* A backslash at the end of a line: what is blank behind it does not count. */
static bool take_continuation(Reader *r) {
        const char *p = r->p;
        unsigned line = r->line;

        if (!take(r, "\\"))
                return false;
        skip_blanks(r);
        if (!take_newline(r)) {
                r->p = p;
                r->line = line;
                return false;
        }
        do
                skip_blanks(r);
        while (take_newline(r));
        return true;
}

/* Behind the opening quotes. escapes: a basic string; long: one of three quotes. */
static int read_string(Reader *r, char quote, bool escapes, bool is_long, char **ret) {
        const char closing[] = { quote, is_long ? quote : 0, quote, 0 };
        _cleanup_(strbuf_done) StrBuf b = {};
        unsigned n_quotes = 0;
        int k = 0;

        if (is_long)
                (void) take_newline(r);
        while (k >= 0) {
                if (r->p == r->end)
                        return fail(r, "a string that does not end");
                if (at(r, closing)) {
                        /* Quotes right before the end are the string's. */
                        if (!is_long || r->end - r->p < 4 || r->p[3] != quote)
                                break;
                        if (++n_quotes > 2)
                                return fail(r, "too many quotes at the end of a string");
                        k = strbuf_append(&b, r->p++, 1);
                } else if (is_long && (at(r, "\n") || at(r, "\r\n"))) {
                        (void) take_newline(r);
                        k = strbuf_append(&b, "\n", 1);
                } else if (is_control(*r->p))
                        return fail(r, "a control character in a string");
                else if (escapes && is_long && take_continuation(r))
                        continue;
                else if (escapes && take(r, "\\"))
                        k = read_escape(r, &b);
                else
                        k = strbuf_append(&b, r->p++, 1);
        }
        if (k < 0)
                return k;
        r->p += strlen(closing);
        *ret = b.text ? strbuf_take(&b) : strdup("");
        return *ret ? 0 : -ENOMEM;
}

/* ---- keys and tables ---- */

static size_t span_bare(const Reader *r) {
        size_t n = 0;

        while (r->p + n < r->end && r->p[n] && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-",
                                                      r->p[n]))
                n++;
        return n;
}

static int read_key(Reader *r, Key *ret) {
        for (;;) {
                char *part = NULL;
                size_t n;
                int k;

                skip_blanks(r);
                if (ret->n >= KEY_PARTS_MAX)
                        return fail(r, "a key of too many parts");
                if (take(r, "\""))
                        k = read_string(r, '"', /* escapes= */ true, /* is_long= */ false, &part);
                else if (take(r, "'"))
                        k = read_string(r, '\'', /* escapes= */ false, /* is_long= */ false, &part);
                else {
                        n = span_bare(r);
                        if (n == 0)
                                return fail(r, "a key is missing");
                        part = memdup0(r->p, n);
                        k = part ? 0 : -ENOMEM;
                        r->p += n;
                }
                if (k < 0)
                        return k;
                ret->parts[ret->n++] = part;
                skip_blanks(r);
                if (!take(r, "."))
                        return 0;
        }
}

static int add_table(json_object *parent, const char *name, Origin origin, json_object **ret) {
        json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        set_origin(o, origin);
        r = json_object_is_type(parent, json_type_array) ? json_object_array_add(parent, o) :
                                                           json_object_object_add(parent, name, o);
        if (r < 0) {
                (void) json_object_put(o);
                return -ENOMEM;
        }
        *ret = o;
        return 0;
}

/* name = value, in a table. */
static int read_pair(Reader *r, json_object *table) {
        _cleanup_(key_done) Key key = {};
        json_object *value = NULL;
        int k;

        k = read_key(r, &key);
        if (k < 0)
                return k;
        if (!take(r, "="))
                return fail(r, "a key without '='");
        for (size_t i = 0; i + 1 < key.n; i++) {
                json_object *next;

                if (!json_object_object_get_ex(table, key.parts[i], &next))
                        k = add_table(table, key.parts[i], ORIGIN_DOTTED, &next);
                else if (!json_object_is_type(next, json_type_object) || origin_of(next) != ORIGIN_DOTTED)
                        return fail(r, "a key that adds to what is complete already");
                if (k < 0)
                        return k;
                table = next;
        }
        if (json_object_object_get_ex(table, key.parts[key.n - 1], NULL))
                return fail(r, "a key that is there already");
        skip_blanks(r);
        k = read_value(r, &value);
        if (k < 0)
                return k;
        if (json_object_object_add(table, key.parts[key.n - 1], value) < 0) {
                (void) json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

/* The newest one of a list of tables stands for it. */
static int enter(Reader *r, json_object **table, const char *name) {
        json_object *next;

        if (!json_object_object_get_ex(*table, name, &next))
                return add_table(*table, name, ORIGIN_IMPLIED, table);
        if (json_object_is_type(next, json_type_array) && origin_of(next) == ORIGIN_LIST)
                next = json_object_array_get_idx(next, json_object_array_length(next) - 1);
        if (!json_object_is_type(next, json_type_object) || origin_of(next) == ORIGIN_VALUE)
                return fail(r, "a table in the place of a value");
        *table = next;
        return 0;
}

static int begin_table(Reader *r, json_object *parent, const char *name, json_object **ret) {
        json_object *o;

        if (!json_object_object_get_ex(parent, name, &o))
                return add_table(parent, name, ORIGIN_HEADER, ret);
        if (!json_object_is_type(o, json_type_object) || origin_of(o) != ORIGIN_IMPLIED)
                return fail(r, "a table that is there already");
        set_origin(o, ORIGIN_HEADER);
        *ret = o;
        return 0;
}

static int begin_element(Reader *r, json_object *parent, const char *name, json_object **ret) {
        json_object *o;

        if (!json_object_object_get_ex(parent, name, &o)) {
                o = json_object_new_array();
                if (!o)
                        return -ENOMEM;
                set_origin(o, ORIGIN_LIST);
                if (json_object_object_add(parent, name, o) < 0) {
                        (void) json_object_put(o);
                        return -ENOMEM;
                }
        } else if (!json_object_is_type(o, json_type_array) || origin_of(o) != ORIGIN_LIST)
                return fail(r, "a list of tables in the place of something else");
        return add_table(o, NULL, ORIGIN_HEADER, ret);
}

static int read_header(Reader *r, json_object *root, json_object **ret) {
        bool is_list = take(r, "[[") || !take(r, "[");
        _cleanup_(key_done) Key key = {};
        json_object *table = root;
        int k;

        k = read_key(r, &key);
        if (k < 0)
                return k;
        if (!take(r, is_list ? "]]" : "]"))
                return fail(r, "the name of a table that does not end");
        for (size_t i = 0; i + 1 < key.n && k >= 0; i++)
                k = enter(r, &table, key.parts[i]);
        if (k < 0)
                return k;
        return is_list ? begin_element(r, table, key.parts[key.n - 1], ret) :
                         begin_table(r, table, key.parts[key.n - 1], ret);
}

/* ---- values ---- */

/* 'd' is a digit, '*' any more of them, other characters stand for themselves. NULL: it does not begin so. */
static const char* match(const char *text, const char *pattern) {
        for (; *pattern; pattern++) {
                if (*pattern == '*') {
                        text += strspn(text, "0123456789");
                        continue;
                }
                if (*pattern == 'd' ? *text < '0' || *text > '9' : *text != *pattern)
                        return NULL;
                text++;
        }
        return text;
}

static const char* match_time(const char *text) {
        const char *end = match(text, "dd:dd:dd");

        return end ? match(end, ".d*") ?: end : NULL;
}

static bool is_date_or_time(const char *text) {
        const char *end = match(text, "dddd-dd-dd"), *zone;

        if (!end) {
                end = match_time(text);
                return end && !*end;
        }
        if (!*end)
                return true;
        end = strchr("Tt ", *end) ? match_time(end + 1) : NULL;
        if (!end)
                return false;
        zone = match(end, "+dd:dd") ?: match(end, "-dd:dd") ?: strchr("Zz", *end) && *end ? end + 1 : NULL;
        return !*(zone ?: end);
}

/* Without its underscores, each of which stands between two digits. NULL: they do not. */
static char* without_underscores(const char *text) {
        char *clean = strdup(text), *to = clean;

        for (const char *p = text; clean && *p; p++) {
                if (*p != '_') {
                        *to++ = *p;
                        continue;
                }
                if (p == text || hex_digit(p[-1]) < 0 || hex_digit(p[1]) < 0) {
                        free(clean);
                        return NULL;
                }
        }
        if (clean)
                *to = 0;
        return clean;
}

static int new_integer(Reader *r, const char *digits, int base, bool negative, json_object **ret) {
        static const char all[] = "0123456789abcdefABCDEF";
        size_t n = base == 16 ? 22 : (size_t) base;
        unsigned long long value;
        char *end;

        for (const char *p = digits; *p; p++)
                if (!memchr(all, *p, n))
                        return fail(r, "a value that is none");
        errno = 0;
        value = strtoull(digits, &end, base);
        if (end == digits || *end)
                return fail(r, "a value that is none");
        if (errno == ERANGE || value > (unsigned long long) INT64_MAX + negative)
                return fail(r, "a number that is too large");
        *ret = json_object_new_int64(!negative ? (int64_t) value : value == 0 ? 0 : -(int64_t) (value - 1) - 1);
        return *ret ? 0 : -ENOMEM;
}

/* digits: without a sign. */
static bool is_float(const char *digits) {
        size_t whole = strspn(digits, "0123456789");
        const char *p = digits + whole;

        if (whole == 0 || (whole > 1 && *digits == '0'))
                return false;
        if (*p == '.') {
                size_t n = strspn(p + 1, "0123456789");

                if (n == 0)
                        return false;
                p += 1 + n;
        }
        if (*p == 'e' || *p == 'E') {
                p += 1 + (p[1] == '+' || p[1] == '-');
                if (strspn(p, "0123456789") == 0)
                        return false;
                p += strspn(p, "0123456789");
        }
        return !*p;
}

static int new_number(Reader *r, const char *text, json_object **ret) {
        bool sign = *text == '+' || *text == '-', negative = *text == '-';
        _cleanup_free_ char *clean = without_underscores(text + sign);
        static const struct { const char *prefix; int base; } bases[] = { { "0x", 16 }, { "0o", 8 }, { "0b", 2 } };

        if (!clean)
                return fail(r, "a value that is none");
        for (size_t i = 0; i < ELEMENTSOF(bases) && !sign; i++)
                if (startswith(clean, bases[i].prefix))
                        return new_integer(r, clean + 2, bases[i].base, false, ret);
        if (clean[strspn(clean, "0123456789")] == 0 && *clean)
                return *clean == '0' && clean[1] ? fail(r, "a number that begins with 0") :
                                                   new_integer(r, clean, 10, negative, ret);
        if (!is_float(clean) && !streq(clean, "inf") && !streq(clean, "nan"))
                return fail(r, "a value that is none");
        *ret = json_object_new_double(negative ? -strtod(clean, NULL) : strtod(clean, NULL));
        return *ret ? 0 : -ENOMEM;
}

static int read_word(Reader *r, json_object **ret) {
        static const char more[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+.:";
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        while (r->p + n < r->end && r->p[n] && strchr(more, r->p[n]))
                n++;
        /* Between a date and a time a space will do. */
        if (n == 10 && r->end - r->p > 12 && r->p[10] == ' ' && r->p[11] >= '0' && r->p[11] <= '9')
                for (n++; r->p + n < r->end && r->p[n] && strchr(more, r->p[n]);)
                        n++;
        if (n == 0)
                return fail(r, "a value is missing");
        text = memdup0(r->p, n);
        if (!text)
                return -ENOMEM;
        r->p += n;
        if (streq(text, "true") || streq(text, "false"))
                *ret = json_object_new_boolean(*text == 't');
        else if (is_date_or_time(text))
                *ret = json_object_new_string(text);
        else
                return new_number(r, text, ret);
        return *ret ? 0 : -ENOMEM;
}

static int read_array(Reader *r, json_object *list) {
        int k;

        for (;;) {
                json_object *value = NULL;

                k = skip_space(r);
                if (k < 0 || take(r, "]"))
                        return k;
                k = read_value(r, &value);
                if (k < 0)
                        return k;
                if (json_object_array_add(list, value) < 0) {
                        (void) json_object_put(value);
                        return -ENOMEM;
                }
                k = skip_space(r);
                if (k < 0)
                        return k;
                if (!take(r, ",") && !at(r, "]"))
                        return fail(r, "a list that does not end");
        }
}

/* All that was made for it is complete with it. */
static void freeze(json_object *o) {
        if (!json_object_is_type(o, json_type_object))
                return;
        set_origin(o, ORIGIN_VALUE);
        json_object_object_foreach(o, key, value) {
                (void) key;
                if (value)
                        freeze(value);
        }
}

static int read_inline_table(Reader *r, json_object *table) {
        int k;

        skip_blanks(r);
        if (!take(r, "}"))
                do {
                        k = read_pair(r, table);
                        if (k < 0)
                                return k;
                        skip_blanks(r);
                        if (take(r, "}"))
                                break;
                        if (!take(r, ","))
                                return fail(r, "a table that does not end");
                } while (true);
        freeze(table);
        return 0;
}

static int read_text(Reader *r, json_object **ret) {
        char quote = *r->p;
        bool is_long = at(r, quote == '"' ? "\"\"\"" : "'''");
        _cleanup_free_ char *text = NULL;
        int k;

        r->p += is_long ? 3 : 1;
        k = read_string(r, quote, quote == '"', is_long, &text);
        if (k < 0)
                return k;
        *ret = json_object_new_string(text);
        return *ret ? 0 : -ENOMEM;
}

static int read_value(Reader *r, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        bool is_list;
        int k;

        if (at(r, "\"") || at(r, "'"))
                return read_text(r, ret);
        is_list = at(r, "[");
        if (!is_list && !at(r, "{"))
                return read_word(r, ret);

        if (r->depth >= DEPTH_MAX)
                return fail(r, "values within values, too deep");
        r->p++;
        o = is_list ? json_object_new_array() : json_object_new_object();
        if (!o)
                return -ENOMEM;
        set_origin(o, ORIGIN_VALUE);
        r->depth++;
        k = is_list ? read_array(r, o) : read_inline_table(r, o);
        r->depth--;
        if (k >= 0)
                *ret = TAKE_PTR(o);
        return k;
}

/* ---- */

static int read_document(Reader *r, json_object *root) {
        json_object *table = root;
        int k;

        for (;;) {
                k = skip_space(r);
                if (k < 0 || r->p == r->end)
                        return k;
                k = at(r, "[") ? read_header(r, root, &table) : read_pair(r, table);
                if (k >= 0)
                        k = end_line(r);
                if (k < 0)
                        return k;
        }
}

int toml_parse(const char *text, size_t size, json_object **ret, char **ret_fault) {
        Reader r = { .p = text, .end = text + size, .line = 1 };
        _cleanup_json_ json_object *root = json_object_new_object();
        int k;

        *ret_fault = NULL;
        if (!root)
                return -ENOMEM;
        if (size > TEXT_SIZE_MAX)
                k = fail(&r, "too large");
        else if (!utf8_is_valid(text, size) || memchr(text, 0, size))
                k = fail(&r, "no text in UTF-8");
        else {
                (void) take(&r, "\xef\xbb\xbf");
                k = read_document(&r, root);
        }
        if (k == -EBADMSG) {
                *ret_fault = asprintf_new("line %u: %s", r.line, strempty(r.fault));
                return *ret_fault ? -EBADMSG : -ENOMEM;
        }
        if (k < 0)
                return k;
        *ret = TAKE_PTR(root);
        return 0;
}
