/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdio.h>

#include "ctl.h"
#include "json-util.h"

/* One entry of journalctl's JSON as a line: time, program, pid (with_head) and message, coloured by priority. -ENOMEM.
 */
int journal_print_entry(FILE *f, json_object *entry, bool with_head);

/* Its text, also of one that is no UTF-8; journalctl leaves out those that are too long. NULL when out of memory. */
char* journal_message(json_object *entry);

typedef struct JournalQuery {
        bool follow;
        uint32_t lines;
        uint64_t since_usec;                    /* 0: any time */
        const char *envelope, *turn;            /* only what names these; NULL: anything */
        bool quiet;                             /* nobody is asked for a password */
} JournalQuery;

/* An agent's journal, as puffod gives it to whoever may read it. The reply holds the descriptor ("h"). */
int journal_open(Ctl *c, const char *agent, const JournalQuery *q, sd_bus_error *reterr, sd_bus_message **ret);

/* To the end. entry and the n bytes that it was read from are borrowed; a negative result ends the reading and is
 * returned. -EMSGSIZE for an endless entry. */
typedef int (*journal_entry_t)(json_object *entry, const char *line, size_t n, void *userdata);
int journal_read(int fd, journal_entry_t on_entry, void *userdata);
