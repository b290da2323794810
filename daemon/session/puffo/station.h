/* SPDX-License-Identifier: MIT */
#pragma once

#include "log.h"

/* The way of a message through the journal: one line for each station, with the fields that `puffoctl trace` goes by.
 * Any of them may be NULL or "". */
typedef struct Station {
        const char *station;            /* received, stored, filtered, queued, prepared, started, sealed, posted, … */
        const char *envelope, *thread, *turn;
} Station;

void station_log(int level, int error, const Station *s, const char *format, ...) _printf_(4, 5);
