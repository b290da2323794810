/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* A YAML document as a tree with line numbers, read and written with libyaml. Just enough for configuration: one
 * document, scalars, sequences, mappings with scalar keys; anchors and aliases, tags other than the core schema's and
 * doubled keys are errors; at most 1 MiB and 32 levels. Everything that was read is wiped when it is freed. */
typedef struct YamlDocument YamlDocument;
typedef struct YamlNode YamlNode;

typedef enum YamlKind {
        YAML_SCALAR,
        YAML_SEQUENCE,
        YAML_MAPPING,
} YamlKind;

/* -EBADMSG with *reterr = "<line>: <problem>" (malloc'ed). The top level must be a mapping; an empty text gives an
 * empty one. */
int yaml_document_parse(YamlDocument **ret, const char *text, size_t size, char **reterr);
int yaml_document_new(YamlDocument **ret);      /* an empty mapping */
YamlDocument* yaml_document_free(YamlDocument *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(YamlDocument*, yaml_document_free);
YamlNode* yaml_document_root(YamlDocument *d);

YamlKind yaml_node_kind(const YamlNode *n);
unsigned yaml_node_line(const YamlNode *n);             /* 1-based; 0 for nodes not read from a text */
const char* yaml_node_scalar(const YamlNode *n);        /* NULL for others */
/* Plain (unquoted) scalars only: what the YAML 1.1 types, as PyYAML applies them, make of them. That includes yes,
 * no, on and off, octal 0777, 0x1f, 0b11, 1_000 and the sexagesimal 1:30 (90); 1e3 without a point is a string
 * there. */
bool yaml_node_is_null(const YamlNode *n);
int yaml_node_to_bool(const YamlNode *n, bool *ret);            /* -EINVAL */
int yaml_node_to_int(const YamlNode *n, int64_t *ret);          /* -EINVAL, -ERANGE */
int yaml_node_to_double(const YamlNode *n, double *ret);        /* integers too */
/* A scalar that is a string: quoted, or plain and none of the above. */
bool yaml_node_is_string(const YamlNode *n);

size_t yaml_node_size(const YamlNode *n);               /* items or pairs */
/* Borrowed, as all nodes are; NULL behind the end, and for others than sequences. */
YamlNode* yaml_sequence_get(const YamlNode *n, size_t i);
YamlNode* yaml_mapping_get(const YamlNode *n, const char *key);         /* NULL when absent */
/* The i-th key and its line (ret_line may be NULL); NULL behind the end. */
const char* yaml_mapping_key(const YamlNode *n, size_t i, unsigned *ret_line);

/* Setters replace the value where the key is, or append the pair. "a.b" paths are not interpreted. -ENOMEM; -EINVAL
 * when a string is no valid UTF-8. */
int yaml_mapping_set_string(YamlNode *n, const char *key, const char *value);   /* quoted if it must be */
int yaml_mapping_set_int(YamlNode *n, const char *key, int64_t value);
int yaml_mapping_set_double(YamlNode *n, const char *key, double value);        /* 2.0 keeps its fraction */
int yaml_mapping_set_bool(YamlNode *n, const char *key, bool value);
int yaml_mapping_set_strings(YamlNode *n, const char *key, char *const *values);
/* The mapping below key, made when it is not there or no mapping. Borrowed. */
int yaml_mapping_ensure(YamlNode *n, const char *key, YamlNode **ret);
int yaml_mapping_remove(YamlNode *n, const char *key);  /* > 0: it was there */
/* Brings these keys to the front, in this order (NULL-terminated), the others keep theirs behind. */
void yaml_mapping_sort(YamlNode *n, const char *const *keys);

/* Block style as PyYAML writes it: empty strings '', sequences not indented under their key, UTF-8 unescaped (but
 * libyaml escapes what is beyond the basic plane). Comments are gone. The text may hold secrets: wipe it. */
int yaml_document_dump(const YamlDocument *d, char **ret, size_t *ret_size);
