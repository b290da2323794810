/* SPDX-License-Identifier: MIT */

#include <math.h>
#include <sodium.h>
#include <stdio.h>

#include "agent-file.h"
#include "config-field.h"
#include "config-value.h"
#include "string-util.h"
#include "yaml-internal.h"

#define MEMBER(object, field, type) ((type*) ((char*) (object) + (field)->offset))
#define CONST_MEMBER(object, field, type) ((type const*) ((const char*) (object) + (field)->offset))

static char* string_wipe(char *s) {
        if (s)
                sodium_memzero(s, strlen(s));
        return mfree(s);
}

static char** strings_wipe(char **l) {
        for (char **i = l; i && *i; i++)
                sodium_memzero(*i, strlen(*i));
        return strv_free(l);
}

void config_done(const ConfigField *fields, size_t n, void *object) {
        for (const ConfigField *f = fields; f < fields + n; f++)
                if (f->type == CONFIG_STRING)
                        *MEMBER(object, f, char*) = string_wipe(*MEMBER(object, f, char*));
                else if (f->type == CONFIG_STRINGS)
                        *MEMBER(object, f, char**) = strings_wipe(*MEMBER(object, f, char**));
}

int config_error(char **reterr, const char *path, unsigned line, const char *section, const char *key,
                 const char *problem) {
        char number[16] = "";

        if (line > 0)
                (void) snprintf(number, sizeof(number), ":%u", line);
        *reterr = strjoin(path, number, ": ", section ?: "", section && key ? "." : "", key ?: "", ": ", problem);
        return *reterr ? -EBADMSG : -ENOMEM;
}

static int field_set_string(const ConfigField *f, void *object, const char *text) {
        char *copy = strdup(text);

        if (!copy)
                return -ENOMEM;

        string_wipe(*MEMBER(object, f, char*));
        *MEMBER(object, f, char*) = copy;
        return 0;
}

/* Stores what a scalar's text means. -EBADMSG: not what is expected; then *reterr is set only if there is more to
 * say. */
static int field_set_text(const ConfigField *f, void *object, const char *text, char **reterr) {
        uint64_t v = 0;
        int r = 0;

        if (f->check) {
                r = f->check(text, reterr);
                if (r < 0)
                        return r;
        }

        switch (f->type) {
        case CONFIG_STRING:
                if (f->choices && config_choice_index(f->choices, text) < 0)
                        return -EBADMSG;
                return field_set_string(f, object, text);
        case CONFIG_STRINGS:
                return strv_extend(MEMBER(object, f, char**), text);
        case CONFIG_BOOL:
                if (yaml_type_resolve(text) != YAML_TYPE_BOOL)
                        return -EBADMSG;
                *MEMBER(object, f, bool) = yaml_text_to_bool(text);
                return 0;
        case CONFIG_NUMBER:
                return config_text_to_number(text, MEMBER(object, f, double));
        case CONFIG_CHOICE:
                r = config_choice_index(f->choices, text);
                if (r < 0)
                        return -EBADMSG;
                if (f->size == sizeof(bool))
                        *MEMBER(object, f, bool) = r > 0;
                else
                        *MEMBER(object, f, int) = r;
                return 0;
        case CONFIG_UINT:
                r = config_text_to_uint(text, f->minimum, f->maximum, &v);
                break;
        case CONFIG_SECONDS:
                r = config_text_to_usec(text, f->minimum, &v);
                break;
        case CONFIG_BYTES:
                r = config_text_to_bytes(text, &v);
                break;
        case CONFIG_CPU:
                r = config_text_to_cpu(text, &v);
                break;
        case CONFIG_DOLLARS:
                r = config_text_to_micro(text, &v);
                break;
        }
        if (r < 0)
                return r;

        *MEMBER(object, f, uint64_t) = v;
        return 0;
}

static int field_set_list(const ConfigField *f, void *object, const char *words) {
        while (*(words += strspn(words, " "))) {
                size_t length = strcspn(words, " ");
                _cleanup_free_ char *word = memdup0(words, length);
                int r = word ? strv_extend(MEMBER(object, f, char**), word) : -ENOMEM;

                if (r < 0)
                        return r;
                words += length;
        }
        return 0;
}

static int field_set_default(const ConfigField *f, void *object) {
        _cleanup_free_ char *error = NULL;

        switch (f->type) {
        case CONFIG_STRING:
                return field_set_string(f, object, f->fallback ?: "");
        case CONFIG_STRINGS:
                *MEMBER(object, f, char**) = strings_wipe(*MEMBER(object, f, char**));
                return f->fallback ? field_set_list(f, object, f->fallback) : 0;
        default:
                if (f->fallback)
                        return field_set_text(f, object, f->fallback, &error);
                *MEMBER(object, f, uint64_t) = UINT64_MAX;
                return 0;
        }
}

int config_set_defaults(const ConfigField *fields, size_t n, void *object) {
        for (const ConfigField *f = fields; f < fields + n; f++) {
                int r = field_set_default(f, object);

                assert(r != -EBADMSG);
                if (r < 0)
                        return r;
        }
        return 0;
}

static const char* node_describe(const YamlNode *n) {
        switch (yaml_node_kind(n)) {
        case YAML_SEQUENCE:
                return "a list";
        case YAML_MAPPING:
                return "a mapping";
        default:
                return "a single value";
        }
}

/* What is wrong with a value: "'many' is not a whole number of at least 1". */
static int field_problem(const ConfigField *f, const YamlNode *n, const char *unexpected, char **ret) {
        _cleanup_free_ char *expected = NULL, *shown = NULL;
        const char *text = yaml_node_scalar(n);

        expected = config_describe(f);
        if (!expected)
                return -ENOMEM;

        if (!unexpected && text && !(f->flags & CONFIG_SECRET)) {
                shown = str_printable(text, 60);
                if (!shown)
                        return -ENOMEM;
                *ret = asprintf_new("'%s' is not %s", shown, expected);
        } else
                *ret = asprintf_new("%s is not %s", unexpected ?: text ? "this value" : node_describe(n), expected);
        return *ret ? 0 : -ENOMEM;
}

static bool has_control_characters(const char *s) {
        for (; *s; s++)
                if ((unsigned char) *s < 0x20 || *s == 0x7f)
                        return true;
        return false;
}

static int field_load_scalar(const ConfigField *f, void *object, const YamlNode *n, char **reterr) {
        const char *text = yaml_node_scalar(n);
        int r = -EBADMSG;

        /* PyYAML hands out a number or a truth value here; what its owner meant is for him to say. */
        bool strict = f->type == CONFIG_STRING || f->type == CONFIG_STRINGS || f->type == CONFIG_CHOICE;

        if (text && (!strict || yaml_node_is_string(n))) {
                if (has_control_characters(text)) {
                        *reterr = strdup("control characters are not allowed here");
                        return *reterr ? -EBADMSG : -ENOMEM;
                }
                r = field_set_text(f, object, text, reterr);
        }
        if (r == -EBADMSG && !*reterr) {
                int k = field_problem(f, n, NULL, reterr);

                if (k < 0)
                        return k;
        }
        return r;
}

static int field_load_list(const ConfigField *f, void *object, const YamlNode *n, unsigned *ret_line, char **reterr) {
        int r;

        *MEMBER(object, f, char**) = strings_wipe(*MEMBER(object, f, char**));
        if (yaml_node_kind(n) == YAML_SCALAR && f->flags & CONFIG_ONE_OR_MORE)
                return field_load_scalar(f, object, n, reterr);
        if (yaml_node_kind(n) != YAML_SEQUENCE) {
                r = field_problem(f, n, NULL, reterr);
                return r < 0 ? r : -EBADMSG;
        }

        for (size_t i = 0; i < yaml_node_size(n); i++) {
                const YamlNode *item = yaml_sequence_get(n, i);

                r = field_load_scalar(f, object, item, reterr);
                if (r < 0) {
                        *ret_line = yaml_node_line(item);
                        return r;
                }
        }
        return 0;
}

static int field_load(const ConfigField *f, void *object, const char *path, const YamlNode *n, char **reterr) {
        _cleanup_free_ char *problem = NULL;
        unsigned line = yaml_node_line(n);
        bool empty = yaml_node_is_null(n) ||
                     (f->flags & CONFIG_NOT_EMPTY &&
                      (yaml_node_kind(n) == YAML_SCALAR ? *yaml_node_scalar(n) == 0 : yaml_node_size(n) == 0));
        int r;

        if (empty)
                return field_set_default(f, object);

        r = f->type == CONFIG_STRINGS ? field_load_list(f, object, n, &line, &problem) :
                                        field_load_scalar(f, object, n, &problem);
        return r == -EBADMSG ? config_error(reterr, path, line, f->section, f->key, problem) : r;
}

int config_load(const ConfigField *fields, size_t n, void *object, const char *path, YamlNode *root, char **reterr) {
        for (const ConfigField *f = fields; f < fields + n; f++) {
                const YamlNode *section = f->section ? yaml_mapping_get(root, f->section) : root, *node;
                int r;

                if (!section || yaml_node_is_null(section))
                        continue;
                if (yaml_node_kind(section) != YAML_MAPPING)
                        return config_error(reterr, path, yaml_node_line(section), f->section, NULL,
                                            "expected indented lines of 'key: value'");

                node = yaml_mapping_get(section, f->key);
                if (!node)
                        continue;
                r = field_load(f, object, path, node, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int config_read(const char *path, YamlDocument **ret, char **reterr) {
        _cleanup_free_ char *text = NULL, *error = NULL, *parent = NULL;
        const char *name;
        size_t size;
        int r;

        r = path_split(path, &parent, &name);
        if (r < 0)
                return r;
        r = agent_file_read(parent, name, YAML_SIZE_MAX, &text, &size);
        if (r == -EFBIG) {
                *reterr = strjoin(path, ": larger than 1 MiB");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        if (r < 0)
                return r;

        r = yaml_document_parse(ret, text, size, &error);
        sodium_memzero(text, size);
        if (r != -EBADMSG)
                return r;

        *reterr = strjoin(path, ":", error);
        return *reterr ? -EBADMSG : -ENOMEM;
}

static bool field_equals(const ConfigField *f, const void *a, const void *b) {
        if (f->type == CONFIG_STRING)
                return streq(*CONST_MEMBER(a, f, char*), *CONST_MEMBER(b, f, char*));
        if (f->type == CONFIG_STRINGS) {
                char *const *x = *CONST_MEMBER(a, f, char**), *const *y = *CONST_MEMBER(b, f, char**);

                while (x && *x && y && *y && streq(*x, *y))
                        x++, y++;
                return !(x && *x) && !(y && *y);
        }
        return memcmp(CONST_MEMBER(a, f, char), CONST_MEMBER(b, f, char), f->size) == 0;
}

static int field_store(const ConfigField *f, const void *object, YamlNode *section) {
        uint64_t v;
        _cleanup_free_ char *text = NULL;

        switch (f->type) {
        case CONFIG_STRING:
                return yaml_mapping_set_string(section, f->key, *CONST_MEMBER(object, f, char*));
        case CONFIG_STRINGS:
                return yaml_mapping_set_strings(section, f->key, *CONST_MEMBER(object, f, char**));
        case CONFIG_BOOL:
                return yaml_mapping_set_bool(section, f->key, *CONST_MEMBER(object, f, bool));
        case CONFIG_NUMBER:
                return yaml_mapping_set_double(section, f->key, *CONST_MEMBER(object, f, double));
        case CONFIG_CHOICE:
                v = f->size == sizeof(bool) ? *CONST_MEMBER(object, f, bool) :
                                              (uint64_t) *CONST_MEMBER(object, f, int);
                return yaml_mapping_set_string(section, f->key, f->choices[v]);
        default:
                v = *CONST_MEMBER(object, f, uint64_t);
        }

        /* Both are counted in millionths. */
        if ((f->type == CONFIG_SECONDS || f->type == CONFIG_DOLLARS) && v % USEC_PER_SEC != 0)
                return yaml_mapping_set_double(section, f->key, (double) v / (double) USEC_PER_SEC);
        if (f->type == CONFIG_SECONDS || f->type == CONFIG_DOLLARS || f->type == CONFIG_UINT)
                return yaml_mapping_set_int(section, f->key,
                                            (int64_t) (f->type == CONFIG_UINT ? v : v / USEC_PER_SEC));

        text = f->type == CONFIG_BYTES ? config_bytes_to_text(v) : config_cpu_to_text(v);
        return text ? yaml_mapping_set_string(section, f->key, text) : -ENOMEM;
}

/* Back to its default: the key goes, and with its last key the block. */
static void field_remove(const ConfigField *f, YamlNode *root) {
        YamlNode *section = f->section ? yaml_mapping_get(root, f->section) : root;

        if (!section || yaml_mapping_remove(section, f->key) == 0)
                return;
        if (f->section && yaml_node_size(section) == 0)
                (void) yaml_mapping_remove(root, f->section);
}

/* Puts the table's keys first, in its order, at the top level or in one block. */
static int section_sort(const ConfigField *fields, size_t n, const char *section, YamlNode *node) {
        _cleanup_free_ const char **keys = new0(const char*, n + 1);
        size_t n_keys = 0;

        if (!keys)
                return -ENOMEM;

        for (const ConfigField *f = fields; f < fields + n; f++) {
                const char *key = section ? (streq_ptr(f->section, section) ? f->key : NULL) : (f->section ?: f->key);

                if (key && (n_keys == 0 || !streq(keys[n_keys - 1], key)))
                        keys[n_keys++] = key;
        }
        yaml_mapping_sort(node, keys);
        return 0;
}

int config_save(const ConfigField *fields, size_t n, const void *object, const void *defaults, YamlNode *root) {
        const char *sorted = NULL;
        int r;

        for (const ConfigField *f = fields; f < fields + n; f++) {
                YamlNode *section = root;

                if (f->flags & CONFIG_OURS && field_equals(f, object, defaults)) {
                        field_remove(f, root);
                        continue;
                }
                r = f->section ? yaml_mapping_ensure(root, f->section, &section) : 0;
                if (r >= 0)
                        r = field_store(f, object, section);
                if (r < 0)
                        return r;
        }

        for (const ConfigField *f = fields; f < fields + n; f++) {
                YamlNode *section = f->section ? yaml_mapping_get(root, f->section) : NULL;

                if (!section || streq_ptr(sorted, f->section))
                        continue;
                sorted = f->section;
                r = section_sort(fields, n, f->section, section);
                if (r < 0)
                        return r;
        }
        return section_sort(fields, n, NULL, root);
}

int config_write(const char *path, const YamlDocument *d) {
        _cleanup_free_ char *text = NULL, *parent = NULL;
        const char *name;
        size_t size;
        int r;

        r = path_split(path, &parent, &name);
        if (r < 0)
                return r;
        r = yaml_document_dump(d, &text, &size);
        if (r < 0)
                return r;

        r = agent_file_write(parent, name, text, size, 0600);
        sodium_memzero(text, size);
        return r;
}

int config_reread(const YamlDocument *d, YamlDocument **ret, char **reterr) {
        _cleanup_free_ char *text = NULL, *error = NULL;
        size_t size;
        int r;

        r = yaml_document_dump(d, &text, &size);
        if (r < 0)
                return r;
        r = yaml_document_parse(ret, text, size, &error);
        sodium_memzero(text, size);
        if (r == -EBADMSG)
                *reterr = TAKE_PTR(error);
        return r;
}

void config_error_without_place(char *error) {
        char *what = strstr(error, ": ");

        if (what)
                (void) memmove(error, what + 2, strlen(what + 2) + 1);
}
