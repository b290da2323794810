/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdio.h>

#include "ctl-text.h"
#include "json-util.h"

/* Rows and columns for three readers: people (aligned, with a heading), pipes (one tab between cells, no heading) and
 * programs (JSON: an array of objects). */

typedef struct Column {
        const char *key;        /* JSON member */
        const char *title;      /* NULL: in JSON only */
        bool right;
} Column;

typedef struct Table Table;

/* columns is borrowed and ends with {}. */
int table_new(Table **ret, const Column *columns);
Table* table_free(Table *t);
DEFINE_TRIVIAL_CLEANUP_FUNC(Table*, table_free);

/* Appends a cell; rows follow from the number of columns. text is what people see (NULL: the value itself), made safe
 * for a terminal. The value is taken over in any case. -ENOMEM. */
int table_add(Table *t, json_object *value, const char *text, Colour colour);
int table_add_string(Table *t, const char *s);                  /* NULL and "": "-" for people */
int table_add_coloured(Table *t, const char *s, Colour colour);
int table_add_number(Table *t, uint64_t n);
int table_add_pid(Table *t, uint64_t pid);                      /* 0: "-", and null in JSON */
int table_add_age(Table *t, uint64_t usec);                     /* µs in JSON */
int table_add_bytes(Table *t, uint64_t n);
size_t table_n_rows(const Table *t);

typedef enum TableStyle {
        TABLE_ALIGNED,
        TABLE_TABS,
} TableStyle;

/* heading applies to TABLE_ALIGNED; width: columns of the terminal, to which the last column is cut (0: never). */
int table_print(const Table *t, FILE *f, TableStyle style, bool heading, size_t width);
/* Borrowed by nobody: the caller's. */
int table_to_json(const Table *t, json_object **ret);

/* Width of the terminal that f is, 0 when it is none. */
size_t terminal_width(FILE *f);
