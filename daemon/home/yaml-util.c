/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <stdio.h>

#include "string-util.h"
#include "yaml-internal.h"

static char* text_free(char *s) {
        if (s)
                sodium_memzero(s, strlen(s));
        return mfree(s);
}

int yaml_node_new(YamlNode **ret, YamlKind kind, unsigned line) {
        YamlNode *n = new0(YamlNode, 1);

        if (!n)
                return -ENOMEM;

        n->kind = kind;
        n->line = line;
        *ret = n;
        return 0;
}

YamlNode* yaml_node_free(YamlNode *n) {
        if (!n)
                return NULL;

        for (size_t i = 0; i < n->n; i++)
                if (n->kind == YAML_SEQUENCE)
                        yaml_node_free(n->items[i]);
                else {
                        free(n->pairs[i].key);
                        yaml_node_free(n->pairs[i].value);
                }
        free(n->items);
        free(n->pairs);
        text_free(n->scalar);
        return mfree(n);
}

int yaml_document_new(YamlDocument **ret) {
        _cleanup_(yaml_document_freep) YamlDocument *d = new0(YamlDocument, 1);
        int r;

        if (!d)
                return -ENOMEM;

        r = yaml_node_new(&d->root, YAML_MAPPING, 0);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(d);
        return 0;
}

YamlDocument* yaml_document_free(YamlDocument *d) {
        if (!d)
                return NULL;

        yaml_node_free(d->root);
        return mfree(d);
}

YamlNode* yaml_document_root(YamlDocument *d) {
        return d->root;
}

YamlKind yaml_node_kind(const YamlNode *n) {
        return n->kind;
}

unsigned yaml_node_line(const YamlNode *n) {
        return n->line;
}

const char* yaml_node_scalar(const YamlNode *n) {
        return n->kind == YAML_SCALAR ? n->scalar : NULL;
}

static bool node_is(const YamlNode *n, YamlType type) {
        return n->kind == YAML_SCALAR && n->plain && yaml_type_resolve(n->scalar) == type;
}

bool yaml_node_is_null(const YamlNode *n) {
        return node_is(n, YAML_TYPE_NULL);
}

int yaml_node_to_bool(const YamlNode *n, bool *ret) {
        if (!node_is(n, YAML_TYPE_BOOL))
                return -EINVAL;

        *ret = yaml_text_to_bool(n->scalar);
        return 0;
}

int yaml_node_to_int(const YamlNode *n, int64_t *ret) {
        return node_is(n, YAML_TYPE_INT) ? yaml_text_to_int(n->scalar, ret) : -EINVAL;
}

int yaml_node_to_double(const YamlNode *n, double *ret) {
        int64_t v;
        int r;

        if (node_is(n, YAML_TYPE_FLOAT))
                return yaml_text_to_double(n->scalar, ret);

        r = yaml_node_to_int(n, &v);
        if (r < 0)
                return r;

        *ret = (double) v;
        return 0;
}

bool yaml_node_is_string(const YamlNode *n) {
        YamlType t;

        if (n->kind != YAML_SCALAR)
                return false;
        if (!n->plain)
                return true;

        t = yaml_type_resolve(n->scalar);
        return t == YAML_TYPE_STRING || t == YAML_TYPE_TIMESTAMP || t == YAML_TYPE_SPECIAL;
}

size_t yaml_node_size(const YamlNode *n) {
        return n->n;
}

YamlNode* yaml_sequence_get(const YamlNode *n, size_t i) {
        return n->kind == YAML_SEQUENCE && i < n->n ? n->items[i] : NULL;
}

YamlPair* yaml_mapping_find(const YamlNode *n, const char *key) {
        if (n->kind == YAML_MAPPING)
                for (size_t i = 0; i < n->n; i++)
                        if (streq(n->pairs[i].key, key))
                                return n->pairs + i;
        return NULL;
}

YamlNode* yaml_mapping_get(const YamlNode *n, const char *key) {
        YamlPair *p = yaml_mapping_find(n, key);

        return p ? p->value : NULL;
}

const char* yaml_mapping_key(const YamlNode *n, size_t i, unsigned *ret_line) {
        if (n->kind != YAML_MAPPING || i >= n->n)
                return NULL;

        if (ret_line)
                *ret_line = n->pairs[i].line;
        return n->pairs[i].key;
}

int yaml_sequence_append(YamlNode *n, YamlNode *value) {
        YamlNode **grown = reallocarray(n->items, n->n + 1, sizeof(YamlNode*));

        if (!grown)
                return -ENOMEM;

        n->items = grown;
        n->items[n->n++] = value;
        return 0;
}

int yaml_mapping_append(YamlNode *n, const char *key, unsigned line, bool plain, YamlNode *value) {
        YamlPair *grown;
        char *copy;

        copy = strdup(key);
        if (!copy)
                return -ENOMEM;

        grown = reallocarray(n->pairs, n->n + 1, sizeof(YamlPair));
        if (!grown) {
                free(copy);
                return -ENOMEM;
        }

        n->pairs = grown;
        n->pairs[n->n++] = (YamlPair) { .key = copy, .line = line, .plain = plain, .value = value };
        return 0;
}

static int mapping_put(YamlNode *n, const char *key, YamlNode *value) {
        YamlPair *p = yaml_mapping_find(n, key);

        if (!p)
                return yaml_mapping_append(n, key, 0, /* plain= */ false, value);

        yaml_node_free(p->value);
        p->value = value;
        return 0;
}

static int scalar_new(YamlNode **ret, const char *text, bool plain) {
        _cleanup_(yaml_node_freep) YamlNode *n = NULL;
        int r;

        if (!utf8_is_valid(text, strlen(text)))
                return -EINVAL;

        r = yaml_node_new(&n, YAML_SCALAR, 0);
        if (r < 0)
                return r;

        n->plain = plain;
        n->scalar = strdup(text);
        if (!n->scalar)
                return -ENOMEM;

        *ret = TAKE_PTR(n);
        return 0;
}

static int mapping_put_scalar(YamlNode *n, const char *key, const char *text, bool plain) {
        _cleanup_(yaml_node_freep) YamlNode *value = NULL;
        int r;

        r = scalar_new(&value, text, plain);
        if (r < 0)
                return r;

        r = mapping_put(n, key, value);
        if (r < 0)
                return r;

        TAKE_PTR(value);
        return 0;
}

int yaml_mapping_set_string(YamlNode *n, const char *key, const char *value) {
        return mapping_put_scalar(n, key, value, /* plain= */ false);
}

int yaml_mapping_set_int(YamlNode *n, const char *key, int64_t value) {
        char text[24];

        (void) snprintf(text, sizeof(text), "%" PRIi64, value);
        return mapping_put_scalar(n, key, text, /* plain= */ true);
}

int yaml_mapping_set_double(YamlNode *n, const char *key, double value) {
        _cleanup_free_ char *text = yaml_double_to_text(value);

        return text ? mapping_put_scalar(n, key, text, /* plain= */ true) : -ENOMEM;
}

int yaml_mapping_set_bool(YamlNode *n, const char *key, bool value) {
        return mapping_put_scalar(n, key, value ? "true" : "false", /* plain= */ true);
}

int yaml_mapping_set_strings(YamlNode *n, const char *key, char *const *values) {
        _cleanup_(yaml_node_freep) YamlNode *list = NULL;
        int r;

        r = yaml_node_new(&list, YAML_SEQUENCE, 0);
        if (r < 0)
                return r;

        for (; values && *values; values++) {
                _cleanup_(yaml_node_freep) YamlNode *item = NULL;

                r = scalar_new(&item, *values, /* plain= */ false);
                if (r >= 0)
                        r = yaml_sequence_append(list, item);
                if (r < 0)
                        return r;
                TAKE_PTR(item);
        }

        r = mapping_put(n, key, list);
        if (r < 0)
                return r;

        TAKE_PTR(list);
        return 0;
}

int yaml_mapping_ensure(YamlNode *n, const char *key, YamlNode **ret) {
        _cleanup_(yaml_node_freep) YamlNode *made = NULL;
        YamlPair *p = yaml_mapping_find(n, key);
        int r;

        if (!p || p->value->kind != YAML_MAPPING) {
                r = yaml_node_new(&made, YAML_MAPPING, 0);
                if (r >= 0)
                        r = mapping_put(n, key, made);
                if (r < 0)
                        return r;

                TAKE_PTR(made);
                p = yaml_mapping_find(n, key);
        }

        *ret = p->value;
        return 0;
}

int yaml_mapping_remove(YamlNode *n, const char *key) {
        YamlPair *p = yaml_mapping_find(n, key);

        if (!p)
                return 0;

        free(p->key);
        yaml_node_free(p->value);
        memmove(p, p + 1, (size_t) (n->pairs + n->n - (p + 1)) * sizeof(YamlPair));
        n->n--;
        return 1;
}

void yaml_mapping_sort(YamlNode *n, const char *const *keys) {
        size_t done = 0;

        for (; *keys; keys++) {
                YamlPair *p = yaml_mapping_find(n, *keys), pair;

                if (!p || (size_t) (p - n->pairs) < done)
                        continue;

                pair = *p;
                memmove(n->pairs + done + 1, n->pairs + done, (size_t) (p - (n->pairs + done)) * sizeof(YamlPair));
                n->pairs[done++] = pair;
        }
}
