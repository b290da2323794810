/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "json-pattern.h"
#include "json-plain.h"

#define DEPTH_MAX 512
/* In the tree a digit of one byte takes 56. Nothing of the protocol comes near: a page of 16 MiB has half as many. */
#define VALUES_MAX (1U << 20)
#define BLOCK_SIZE KIB(4)
#define BLOCK_SIZE_MAX KIB(32)
#define FEW_MEMBERS 16U
/* What is rare does not take registers from what is not. */
#define _noinline_ __attribute__((noinline))

/* Values and texts come from an arena: an envelope has thousands of small ones, all of the same life. */
typedef struct Block {
        struct Block *next;
        size_t used, size;
        char data[] __attribute__((aligned(8)));
} Block;

struct SignedDocument {
        Block *blocks;
        SignedValue *root;
        bool public;
};

static int document_add_block(SignedDocument *d, size_t size) {
        Block *b = malloc(sizeof(Block) + size);

        if (!b)
                return -ENOMEM;
        *b = (Block) { .next = d->blocks, .size = size };
        d->blocks = b;
        return 0;
}

static void* document_alloc(SignedDocument *d, size_t n) {
        Block *b = d->blocks;

        n = (n + 7) & ~(size_t) 7;
        if (!b || b->size - b->used < n) {
                /* A large text has many values. */
                if (document_add_block(d, MAX(n, CLAMP(b ? b->size : 0, BLOCK_SIZE, BLOCK_SIZE_MAX))) < 0)
                        return NULL;
                b = d->blocks;
        }

        b->used += n;
        return b->data + b->used - n;
}

int signed_document_new(SignedDocument **ret) {
        *ret = new0(SignedDocument, 1);
        return *ret ? 0 : -ENOMEM;
}

void signed_document_set_public(SignedDocument *d) {
        d->public = true;
}

SignedDocument* signed_document_free(SignedDocument *d) {
        if (!d)
                return NULL;

        for (Block *b = d->blocks, *next; b; b = next) {
                next = b->next;
                if (!d->public)
                        sodium_memzero(b->data, b->used);
                free(b);
        }
        return mfree(d);
}

SignedValue* signed_document_root(SignedDocument *d) {
        return d->root;
}

size_t signed_document_size(const SignedDocument *d) {
        size_t size = sizeof(SignedDocument);

        for (const Block *b = d->blocks; b; b = b->next)
                size += sizeof(Block) + b->size;
        return size;
}

static SignedValue* value_new(SignedDocument *d, SignedType type) {
        SignedValue *v = document_alloc(d, sizeof(SignedValue));

        if (v)
                *v = (SignedValue) { .type = type };
        return v;
}

static int value_set_text(SignedDocument *d, const char *s, size_t n, const char **ret) {
        char *copy = document_alloc(d, n + 1);

        if (!copy)
                return -ENOMEM;
        memcpy(copy, s, n);
        copy[n] = 0;
        *ret = copy;
        return 0;
}

/* Reads a text that is the document's own: strings stay where they are, without their escapes, and end where their
 * closing quote was. */
typedef struct Parser {
        SignedDocument *document;
        char *p;
        const char *end;        /* there is a NUL */
        unsigned depth;
        size_t n_values;
        JsonPattern *pattern;   /* of the list that began last */
} Parser;

static int parse_value(Parser *s, SignedValue **ret);

static void skip_white_space(Parser *s) {
        while (s->p < s->end && (unsigned char) *s->p <= ' ' &&
               (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
                s->p++;
}

static bool take_char(Parser *s, char c) {
        if (s->p >= s->end || *s->p != c)
                return false;
        s->p++;
        return true;
}

static bool take_word(Parser *s, const char *word) {
        size_t n = strlen(word);

        if ((size_t) (s->end - s->p) < n || memcmp(s->p, word, n) != 0)
                return false;
        s->p += n;
        return true;
}

static int parse_hex4(Parser *s, uint32_t *ret) {
        uint32_t v = 0;

        if (s->end - s->p < 4)
                return -EBADMSG;
        for (int i = 0; i < 4; i++) {
                char c = *s->p++;

                v <<= 4;
                if (c >= '0' && c <= '9')
                        v |= (uint32_t) (c - '0');
                else if (c >= 'a' && c <= 'f')
                        v |= (uint32_t) (c - 'a' + 10);
                else if (c >= 'A' && c <= 'F')
                        v |= (uint32_t) (c - 'A' + 10);
                else
                        return -EBADMSG;
        }
        *ret = v;
        return 0;
}

static char* put_utf8(char *w, uint32_t c) {
        if (c < 0x80)
                *w++ = (char) c;
        else if (c < 0x800) {
                *w++ = (char) (0xc0 | c >> 6);
                *w++ = (char) (0x80 | (c & 0x3f));
        } else if (c < 0x10000) {
                *w++ = (char) (0xe0 | c >> 12);
                *w++ = (char) (0x80 | (c >> 6 & 0x3f));
                *w++ = (char) (0x80 | (c & 0x3f));
        } else {
                *w++ = (char) (0xf0 | c >> 18);
                *w++ = (char) (0x80 | (c >> 12 & 0x3f));
                *w++ = (char) (0x80 | (c >> 6 & 0x3f));
                *w++ = (char) (0x80 | (c & 0x3f));
        }
        return w;
}

static int parse_escape(Parser *s, char **w) {
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        uint32_t c, low;
        const char *k;
        int r;

        if (s->p >= s->end)
                return -EBADMSG;
        if (*s->p != 'u') {
                k = *s->p ? strchr(from, *s->p) : NULL;
                if (!k)
                        return -EBADMSG;
                s->p++;
                *(*w)++ = to[k - from];
                return 0;
        }

        s->p++;
        r = parse_hex4(s, &c);
        if (r < 0)
                return r;
        if (c >= 0xdc00 && c <= 0xdfff)
                return -EBADMSG;
        if (c >= 0xd800 && c <= 0xdbff) {
                if (!take_word(s, "\\u"))
                        return -EBADMSG;
                r = parse_hex4(s, &low);
                if (r < 0)
                        return r;
                if (low < 0xdc00 || low > 0xdfff)
                        return -EBADMSG;
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
        *w = put_utf8(*w, c);
        return 0;
}

/* The rest of a string, from its first escape on. No escape is shorter than what it stands for. */
static _noinline_ int parse_escaped(Parser *s, char *text, size_t *size) {
        char *w = text + *size;

        do {
                size_t plain;
                int r;

                /* Else it is a control character, or the end. */
                if (!take_char(s, '\\'))
                        return -EBADMSG;
                r = parse_escape(s, &w);
                if (r < 0)
                        return r;
                plain = json_plain_length(s->p, s->end, /* ascii= */ false);
                memmove(w, s->p, plain);
                w += plain;
                s->p += plain;
        } while (!take_char(s, '"'));

        *w = 0;
        *size = (size_t) (w - text);
        return 0;
}

static int parse_string(Parser *s, const char **ret, size_t *ret_size) {
        char *text;

        if (!take_char(s, '"'))
                return -EBADMSG;
        text = s->p;
        s->p += json_plain_length(s->p, s->end, /* ascii= */ false);
        *ret = text;
        *ret_size = (size_t) (s->p - text);
        if (!take_char(s, '"'))
                return parse_escaped(s, text, ret_size);
        s->p[-1] = 0;
        return 0;
}

static size_t take_digits(Parser *s) {
        const char *begin = s->p;

        while (s->p < s->end && *s->p >= '0' && *s->p <= '9')
                s->p++;
        return (size_t) (s->p - begin);
}

static int parse_number(Parser *s, SignedValue **ret) {
        const char *begin = s->p;
        SignedValue *v;
        int r;

        (void) take_char(s, '-');
        if (!take_char(s, '0') && take_digits(s) == 0)
                return -EBADMSG;
        if (take_char(s, '.') && take_digits(s) == 0)
                return -EBADMSG;
        if (take_char(s, 'e') || take_char(s, 'E')) {
                if (!take_char(s, '+'))
                        (void) take_char(s, '-');
                if (take_digits(s) == 0)
                        return -EBADMSG;
        }

        v = value_new(s->document, SIGNED_NUMBER);
        if (!v)
                return -ENOMEM;
        v->size = (size_t) (s->p - begin);
        r = value_set_text(s->document, begin, v->size, &v->text);
        if (r < 0)
                return r;

        *ret = v;
        return 0;
}

typedef struct Place {
        SignedValue *member;
        size_t index;
} Place;

static int compare_keys(const SignedValue *x, const SignedValue *y) {
        int c = memcmp(x->key, y->key, MIN(x->key_size, y->key_size));

        if (c != 0)
                return c;
        return (x->key_size > y->key_size) - (x->key_size < y->key_size);
}

static int compare_places(const void *a, const void *b) {
        const Place *x = a, *y = b;
        int c = compare_keys(x->member, y->member);

        return c != 0 ? c : (x->index > y->index) - (x->index < y->index);
}

static bool few_have_repeats(const SignedValue *o) {
        for (const SignedValue *m = o->child; m; m = m->next)
                for (const SignedValue *l = m->next; l; l = l->next)
                        if (l->key_size == m->key_size && memcmp(l->key, m->key, m->key_size) == 0)
                                return true;
        return false;
}

static void take_value(SignedValue *m, const SignedValue *from) {
        m->type = from->type;
        m->text = from->text;
        m->size = from->size;
        m->child = from->child;
}

/* Members that have no key any more. */
static void drop_keyless(SignedValue *o) {
        for (SignedValue **m = &o->child; *m; )
                if ((*m)->key)
                        m = &(*m)->next;
                else {
                        *m = (*m)->next;
                        o->size--;
                }
}

/* Folds repeated keys: the last value at the first one's place. Sorting keeps a hostile object of a million keys from
 * costing a square. */
static int object_fold_repeats(SignedValue *o) {
        _cleanup_free_ Place *places = NULL;
        size_t n = 0, first = 0;

        if (o->size <= FEW_MEMBERS && !few_have_repeats(o))
                return 0;
        places = new0(Place, o->size);
        if (!places)
                return -ENOMEM;
        for (SignedValue *m = o->child; m; m = m->next, n++)
                places[n] = (Place) { m, n };
        qsort(places, n, sizeof(Place), compare_places);

        for (size_t i = 1; i < n; i++)
                if (compare_keys(places[first].member, places[i].member) == 0) {
                        take_value(places[first].member, places[i].member);
                        places[i].member->key = NULL;
                } else
                        first = i;
        drop_keyless(o);
        return 0;
}

/* > 0: it was as the pattern. */
static int parse_alike(Parser *s, SignedValue **ret) {
        const JsonPattern *t = s->pattern;
        SignedValue *v, *child;
        size_t i = 0;

        if (s->depth >= DEPTH_MAX || s->n_values + 1 + t->first->size > VALUES_MAX ||
            !json_pattern_matches(t, s->p, s->end))
                return 0;
        v = document_alloc(s->document, (1 + t->first->size) * sizeof(SignedValue));
        if (!v)
                return -ENOMEM;

        child = v + 1;
        *v = (SignedValue) { .type = SIGNED_OBJECT, .size = t->first->size, .child = child };
        for (const SignedValue *m = t->first->child; m; m = m->next, i++, child++) {
                s->p[t->end[i]] = 0;
                *child = (SignedValue) {
                        .type = SIGNED_STRING, .text = s->p + t->begin[i], .size = m->size,
                        .key = m->key, .key_size = m->key_size, .next = m->next ? child + 1 : NULL,
                };
        }
        s->n_values += 1 + t->first->size;
        s->p += t->size;
        *ret = v;
        return 1;
}

/* The second and all others of a list, as long as they are like the first. */
static int parse_item(Parser *s, const SignedValue *list, SignedValue **ret) {
        bool has_pattern = list->type == SIGNED_ARRAY && list->size > 0 && s->pattern->first == list->child;
        int r = has_pattern ? parse_alike(s, ret) : 0;

        if (r != 0)
                return r;
        if (has_pattern)
                s->pattern->first = NULL;
        r = parse_value(s, ret);
        if (r >= 0 && list->type == SIGNED_ARRAY && list->size == 0 && !json_pattern_init(s->pattern, *ret))
                s->pattern->first = NULL;
        return r;
}

static int parse_members(Parser *s, SignedValue *container, char close) {
        SignedValue **tail = &container->child;
        int r;

        skip_white_space(s);
        if (take_char(s, close))
                return 0;

        for (;;) {
                const char *key = NULL;
                size_t key_size = 0;
                SignedValue *v;

                skip_white_space(s);
                if (container->type == SIGNED_OBJECT) {
                        r = parse_string(s, &key, &key_size);
                        if (r < 0)
                                return r;
                        skip_white_space(s);
                        if (!take_char(s, ':'))
                                return -EBADMSG;
                        skip_white_space(s);
                }
                r = parse_item(s, container, &v);
                if (r < 0)
                        return r;

                v->key = key;
                v->key_size = (uint32_t) key_size;
                *tail = v;
                tail = &v->next;
                container->size++;

                skip_white_space(s);
                if (take_char(s, close))
                        return 0;
                if (!take_char(s, ','))
                        return -EBADMSG;
        }
}

static int parse_container(Parser *s, SignedType type, char close, SignedValue **ret) {
        SignedValue *v;
        int r;

        if (s->depth >= DEPTH_MAX)
                return -EBADMSG;

        v = value_new(s->document, type);
        if (!v)
                return -ENOMEM;

        s->depth++;
        r = parse_members(s, v, close);
        s->depth--;
        if (r >= 0 && type == SIGNED_OBJECT)
                r = object_fold_repeats(v);
        if (r < 0)
                return r;

        *ret = v;
        return 0;
}

static int parse_value(Parser *s, SignedValue **ret) {
        SignedType constant;
        SignedValue *v;
        int r;

        if (s->p >= s->end || ++s->n_values > VALUES_MAX)
                return -EBADMSG;
        if (take_char(s, '{'))
                return parse_container(s, SIGNED_OBJECT, '}', ret);
        if (take_char(s, '['))
                return parse_container(s, SIGNED_ARRAY, ']', ret);
        if (*s->p == '-' || (*s->p >= '0' && *s->p <= '9'))
                return parse_number(s, ret);
        if (*s->p == '"') {
                v = value_new(s->document, SIGNED_STRING);
                if (!v)
                        return -ENOMEM;
                r = parse_string(s, &v->text, &v->size);
                if (r < 0)
                        return r;
                *ret = v;
                return 0;
        }

        if (take_word(s, "null"))
                constant = SIGNED_NULL;
        else if (take_word(s, "true"))
                constant = SIGNED_TRUE;
        else if (take_word(s, "false"))
                constant = SIGNED_FALSE;
        else
                return -EBADMSG;

        *ret = value_new(s->document, constant);
        return *ret ? 0 : -ENOMEM;
}

int signed_document_parse(SignedDocument **ret, const char *text, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        JsonPattern pattern;
        const char *copy = NULL;
        Parser s;
        int r;

        if (size > UINT32_MAX)
                return -E2BIG;
        if (!utf8_is_valid(text, size))
                return -EBADMSG;
        r = signed_document_new(&d);
        if (r < 0)
                return r;
        /* Enough for the documents of the protocol, which are mostly texts. */
        r = document_add_block(d, size + MAX(size, (size_t) BLOCK_SIZE));
        if (r >= 0)
                r = value_set_text(d, text, size, &copy);
        if (r < 0)
                return r;

        s = (Parser) { .document = d, .p = (char*) copy, .end = copy + size, .pattern = &pattern };
        pattern.first = NULL;
        skip_white_space(&s);
        r = parse_value(&s, &d->root);
        if (r < 0)
                return r;
        skip_white_space(&s);
        if (s.p != s.end)
                return -EBADMSG;

        *ret = TAKE_PTR(d);
        return 0;
}

SignedValue* signed_get_n(const SignedValue *o, const char *key, size_t size) {
        if (!o || o->type != SIGNED_OBJECT)
                return NULL;
        for (SignedValue *m = o->child; m; m = m->next)
                if (m->key_size == size && (size == 0 || m->key[0] == key[0]) && memcmp(m->key, key, size) == 0)
                        return m;
        return NULL;
}

const char* signed_get_string(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_STRING && strlen(v->text) == v->size ? v->text : NULL;
}

bool signed_is_null(const SignedValue *v) {
        return !v || v->type == SIGNED_NULL;
}

int signed_get_int(const SignedValue *o, const char *key, int64_t *ret) {
        const SignedValue *v = signed_get(o, key);
        char *end;
        long long n;

        if (signed_is_null(v))
                return -ENOENT;
        if (v->type != SIGNED_NUMBER)
                return -EINVAL;

        errno = 0;
        n = strtoll(v->text, &end, 10);
        if (*end)
                return -EINVAL;
        if (errno != 0)
                return -ERANGE;

        *ret = n;
        return 0;
}

SignedValue* signed_object(SignedDocument *d) {
        return value_new(d, SIGNED_OBJECT);
}

SignedValue* signed_array(SignedDocument *d) {
        return value_new(d, SIGNED_ARRAY);
}

SignedValue* signed_constant(SignedDocument *d, SignedType type) {
        return value_new(d, type);
}

SignedValue* signed_string(SignedDocument *d, const char *s) {
        SignedValue *v;

        if (!s)
                return signed_constant(d, SIGNED_NULL);
        if (!utf8_is_valid(s, strlen(s)))
                return NULL;
        v = value_new(d, SIGNED_STRING);
        if (!v)
                return NULL;
        v->size = strlen(s);
        return value_set_text(d, s, v->size, &v->text) < 0 ? NULL : v;
}

SignedValue* signed_int(SignedDocument *d, int64_t n) {
        _cleanup_free_ char *token = asprintf_new("%" PRId64, n);
        SignedValue *v = token ? value_new(d, SIGNED_NUMBER) : NULL;

        if (!v)
                return NULL;
        v->size = strlen(token);
        return value_set_text(d, token, v->size, &v->text) < 0 ? NULL : v;
}

int signed_push(SignedDocument *d, SignedValue *container, SignedValue *value) {
        SignedValue **tail;

        if (!container || !value)
                return -ENOMEM;
        for (tail = &container->child; *tail; tail = &(*tail)->next)
                ;
        *tail = value;
        container->size++;
        return 0;
}

int signed_put(SignedDocument *d, SignedValue *object, const char *key, SignedValue *value) {
        if (!object || !value)
                return -ENOMEM;
        assert(!signed_get(object, key));

        value->key_size = (uint32_t) strlen(key);
        if (value_set_text(d, key, value->key_size, &value->key) < 0)
                return -ENOMEM;
        return signed_push(d, object, value);
}

SignedValue* signed_copy(SignedDocument *d, const SignedValue *v) {
        SignedValue *copy = value_new(d, v->type), **tail;

        if (!copy)
                return NULL;
        copy->size = v->size;
        if (v->text && value_set_text(d, v->text, v->size, &copy->text) < 0)
                return NULL;

        tail = &copy->child;
        for (const SignedValue *m = v->child; m; m = m->next) {
                *tail = signed_copy(d, m);
                if (!*tail)
                        return NULL;
                if (m->key && value_set_text(d, m->key, m->key_size, &(*tail)->key) < 0)
                        return NULL;
                (*tail)->key_size = m->key_size;
                tail = &(*tail)->next;
        }
        return copy;
}
