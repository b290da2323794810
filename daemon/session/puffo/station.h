/* SPDX-License-Identifier: MIT */
#pragma once

#include "log.h"

/* The way of a message through the journal: one line for each station, with the fields that `puffoctl trace` goes by.
 * Any of them may be NULL or "". */
typedef struct Station {
        const char *station;            /* received, stored, filtered, queued, prepared, started, sealed, posted, … */
        const char *envelope, *thread, *turn;
} Station;

/* A line may be of many messages, and is found by each of them. */
#define STATION_ENVELOPES_MAX 32U

typedef struct StationOfMany {
        const char *station, *turn;
        const char *const *envelopes, *const *threads;
        size_t n_envelopes, n_threads;          /* at most STATION_ENVELOPES_MAX each */
} StationOfMany;

/* One line in the journal; of one message, error (negative errno, or 0) is for %m. */
void station_log_many(int level, const StationOfMany *s, const char *format, ...) _printf_(3, 4);
void station_log(int level, int error, const Station *s, const char *format, ...) _printf_(4, 5);
