/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Command lines as getopt_long(3) reads them (--name, --name=value, --name value, -x, -xy, -xvalue, "--"), from tables
 * that the help texts are made from too. */

typedef struct Option {
        const char *name;
        char letter;            /* 0: none */
        const char *value;      /* what to call it in help; NULL: takes none; "[X]": only as --name=X */
        const char *help;
} Option;

/* Whether --name may stand without a value. */
bool option_value_is_optional(const Option *o);

typedef struct GivenOption {
        const Option *option;
        const char *value;      /* NULL when it takes none, or an optional one was left out */
} GivenOption;

/* What was said. Strings are borrowed from argv. */
typedef struct Arguments {
        const char **words;     /* NULL-terminated once there is one */
        size_t n_words;
        GivenOption *given;
        size_t n_given;
} Arguments;

void arguments_done(Arguments *a);

/* Reads argv[*index] onwards, options of any of the NULL-terminated tables, each ending with {}. It stops behind
 * the max_words'th operand (SIZE_MAX: at the end); after text_after operands everything that follows is operand,
 * whatever it looks like (SIZE_MAX: never). *index is where it stopped. -EINVAL with *reterr, one line for a person,
 * -ENOMEM. Results are appended to *a. */
int arguments_parse(Arguments *a, int argc, char *const argv[], int *index, const Option *const tables[],
                    size_t max_words, size_t text_after, char **reterr);

/* Whether it was given, however often. */
bool arguments_has(const Arguments *a, const char *name);
/* Its value; NULL when it was not given. */
const char* arguments_value(const Arguments *a, const char *name);
/* The words from i on, joined by blanks. NULL when out of memory. */
char* arguments_join(const Arguments *a, size_t i);
