/* SPDX-License-Identifier: MIT */
#pragma once

#include "config-field.h"

/* The single values of configuration files: texts to numbers and back. All return -EBADMSG for what does not fit. */

/* The place of text in a NULL-terminated list. */
int config_choice_index(const char *const *choices, const char *text);
/* An integer as YAML writes them, from minimum to maximum (0: without one). */
int config_text_to_uint(const char *text, uint64_t minimum, uint64_t maximum, uint64_t *ret);
/* A decimal number, not negative. */
int config_text_to_number(const char *text, double *ret);
/* Seconds, with a fraction if need be, as µs. */
int config_text_to_usec(const char *text, uint64_t minimum_seconds, uint64_t *ret);
int config_text_to_micro(const char *text, uint64_t *ret);      /* "2.5", more than 0 */
int config_text_to_bytes(const char *text, uint64_t *ret);      /* "2G", base 1024 */
int config_text_to_cpu(const char *text, uint64_t *ret);        /* "150%", up to two decimals */

/* UINT64_MAX gives "". NULL when out of memory. */
char* config_bytes_to_text(uint64_t v);
char* config_cpu_to_text(uint64_t v);

/* What a field expects, to go on after "is not". NULL when out of memory. */
char* config_describe(const ConfigField *f);
