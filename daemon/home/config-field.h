/* SPDX-License-Identifier: MIT */
#pragma once

#include "yaml-util.h"

/* Configuration files as tables: each key with its type, its place in the struct, its default and what is allowed.
 * Reading, writing, defaults and freeing follow from the table, so that they cannot disagree. */

typedef enum ConfigType {
        CONFIG_STRING,          /* char*, never NULL */
        CONFIG_STRINGS,         /* char**, NULL when empty */
        CONFIG_BOOL,
        CONFIG_CHOICE,          /* an enum or bool of .size bytes: the index in .choices */
        CONFIG_UINT,            /* uint64_t from .minimum to .maximum */
        CONFIG_NUMBER,          /* double, not negative */
        CONFIG_SECONDS,         /* uint64_t µs, fractions allowed; .minimum in seconds */
        CONFIG_BYTES,           /* uint64_t; "512M" */
        CONFIG_CPU,             /* uint64_t µs per second; "150%" */
        CONFIG_DOLLARS,         /* uint64_t µ$, more than 0 */
} ConfigType;

typedef enum ConfigFlags {
        CONFIG_OURS = 1 << 0,           /* unknown to upstream: written only when it is not the default */
        CONFIG_SECRET = 1 << 1,         /* the value is in no error text */
        CONFIG_NOT_EMPTY = 1 << 2,      /* an empty value is the default */
        CONFIG_ONE_OR_MORE = 1 << 3,    /* a single string is a list of one */
} ConfigFlags;

typedef struct ConfigField {
        const char *section, *key;      /* section NULL: top level */
        ConfigType type;
        ConfigFlags flags;
        size_t offset, size;
        const char *fallback;           /* as in a file (lists: with blanks between); NULL: "", or UINT64_MAX */
        uint64_t minimum, maximum;
        const char *const *choices;     /* NULL-terminated; for CONFIG_STRING, too */
        /* Looks at strings, list items and choices before anything else: -EBADMSG with a text for the error. */
        int (*check)(const char *value, char **reterr);
} ConfigField;

#define CONFIG_FIELD(struct_, member, section_, key_, type_, ...) \
        { .section = section_, .key = key_, .type = type_, .offset = offsetof(struct_, member), \
          .size = sizeof(((struct_*) NULL)->member), __VA_ARGS__ }

/* The block "limits" of both files (agent-home §3.1); the defaults are NULL where they are inherited. */
#define CONFIG_LIMIT_FIELDS(struct_, high, max, tasks, weight) \
        CONFIG_FIELD(struct_, limits.memory_high, "limits", "memory_high", CONFIG_BYTES, \
                     .flags = CONFIG_OURS | CONFIG_NOT_EMPTY, .fallback = high), \
        CONFIG_FIELD(struct_, limits.memory_max, "limits", "memory_max", CONFIG_BYTES, \
                     .flags = CONFIG_OURS | CONFIG_NOT_EMPTY, .fallback = max), \
        CONFIG_FIELD(struct_, limits.tasks_max, "limits", "tasks_max", CONFIG_UINT, .flags = CONFIG_OURS, \
                     .fallback = tasks, .minimum = 1, .maximum = INT32_MAX), \
        CONFIG_FIELD(struct_, limits.cpu_weight, "limits", "cpu_weight", CONFIG_UINT, .flags = CONFIG_OURS, \
                     .fallback = weight, .minimum = 1, .maximum = 10000), \
        CONFIG_FIELD(struct_, limits.cpu_quota_usec_per_sec, "limits", "cpu_quota", CONFIG_CPU, \
                     .flags = CONFIG_OURS | CONFIG_NOT_EMPTY)

/* Fills a zeroed object. -ENOMEM; it is to be given to config_done() all the same. */
int config_set_defaults(const ConfigField *fields, size_t n, void *object);
/* Frees and wipes strings and lists. */
void config_done(const ConfigField *fields, size_t n, void *object);

/* Reads and parses a file. -ENOENT and other errors of reading; -EBADMSG with *reterr = "<path>:<line>: <problem>". */
int config_read(const char *path, YamlDocument **ret, char **reterr);
/* Sets what the document has, leaves the rest. -EBADMSG with *reterr = "<path>:<line>: <key>: <problem>". */
int config_load(const ConfigField *fields, size_t n, void *object, const char *path, YamlNode *root, char **reterr);
/* defaults: an object made by config_set_defaults(). */
int config_save(const ConfigField *fields, size_t n, const void *object, const void *defaults, YamlNode *root);
/* Writes the document atomically, 0600. */
int config_write(const char *path, const YamlDocument *d);
/* What a reader would get of d, were it written. -EBADMSG with *reterr. */
int config_reread(const YamlDocument *d, YamlDocument **ret, char **reterr);
/* Takes file and line off an error: there is no such file. */
void config_error_without_place(char *error);

/* "<path>:<line>: <section>.<key>: <problem>"; -EBADMSG, or -ENOMEM. line 0: none is given. */
int config_error(char **reterr, const char *path, unsigned line, const char *section, const char *key,
                 const char *problem);

/* Checks for the tables. */
int config_check_url(const char *value, char **reterr);
int config_check_absolute_path(const char *value, char **reterr);
