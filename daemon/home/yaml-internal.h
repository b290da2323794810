/* SPDX-License-Identifier: MIT */
#pragma once

#include "yaml-util.h"

/* The tree behind yaml-util.h, shared by its parser and its emitter. */

#define YAML_SIZE_MAX MIB(1)
#define YAML_DEPTH_MAX 32
/* Keys are searched one by one. */
#define YAML_KEYS_MAX 1000

typedef struct YamlPair {
        char *key;
        unsigned line;
        bool plain;
        YamlNode *value;
} YamlPair;

struct YamlNode {
        YamlKind kind;
        unsigned line;
        bool plain;             /* scalars: its type follows from the text */
        char *scalar;
        size_t n;
        YamlNode **items;       /* sequences */
        YamlPair *pairs;        /* mappings */
};

struct YamlDocument {
        YamlNode *root;
};

/* An empty one of that kind. -ENOMEM. */
int yaml_node_new(YamlNode **ret, YamlKind kind, unsigned line);
YamlNode* yaml_node_free(YamlNode *n);
DEFINE_TRIVIAL_CLEANUP_FUNC(YamlNode*, yaml_node_free);

/* Both take the value over on success only. */
int yaml_sequence_append(YamlNode *n, YamlNode *value);
int yaml_mapping_append(YamlNode *n, const char *key, unsigned line, bool plain, YamlNode *value);
/* Borrowed; NULL when there is none, or n is no mapping. */
YamlPair* yaml_mapping_find(const YamlNode *n, const char *key);

/* What PyYAML's resolver says of a plain scalar. */
typedef enum YamlType {
        YAML_TYPE_STRING,
        YAML_TYPE_NULL,
        YAML_TYPE_BOOL,
        YAML_TYPE_INT,
        YAML_TYPE_FLOAT,
        YAML_TYPE_TIMESTAMP,    /* read as a string, but quoted when a string looks like it */
        YAML_TYPE_SPECIAL,      /* "<<" and "=": likewise */
} YamlType;

/* What s would be, written plain. */
YamlType yaml_type_resolve(const char *s);
/* Of texts that resolve to that type. -EINVAL when there are no digits, -ERANGE. */
bool yaml_text_to_bool(const char *s);
int yaml_text_to_int(const char *s, int64_t *ret);
int yaml_text_to_double(const char *s, double *ret);
/* As Python's repr() with a fraction always: "2.0", "1.0e+16", ".inf". */
char* yaml_double_to_text(double v);
