/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdio.h>

#include "json-util.h"

/* One entry of journalctl's JSON as a line: time, program, pid (with_head) and message, coloured by priority. -ENOMEM.
 */
int journal_print_entry(FILE *f, json_object *entry, bool with_head);

/* "30s", "5m", "2h", "7d", "1w". -EINVAL, -ERANGE. */
int journal_age_parse(const char *s, uint64_t *ret_usec);
