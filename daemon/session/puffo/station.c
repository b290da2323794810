/* SPDX-License-Identifier: MIT */

#include <stdarg.h>
#include <stdio.h>

#include "station.h"
#include "string-util.h"

/* Ids come from others: a field takes any byte but is read by people. */
static char* field_new(const char *name, const char *value) {
        _cleanup_free_ char *shown = isempty(value) ? NULL : str_printable(value, 200);

        return shown ? strjoin(name, "=", shown) : NULL;
}

void station_log_many(int level, const StationOfMany *s, const char *format, ...) {
        char *fields[2 * STATION_ENVELOPES_MAX + 3] = {};
        _cleanup_free_ char *text = NULL;
        size_t n = 0;
        va_list ap;

        assert(s->n_envelopes <= STATION_ENVELOPES_MAX && s->n_threads <= STATION_ENVELOPES_MAX);
        static_assert(ELEMENTSOF(fields) <= LOG_FIELDS_MAX);

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);

        n += (fields[n] = field_new("PUFFO_STATION", s->station)) != NULL;
        n += (fields[n] = field_new("PUFFO_TURN", s->turn)) != NULL;
        for (size_t i = 0; i < s->n_envelopes; i++)
                n += (fields[n] = field_new("PUFFO_ENVELOPE", s->envelopes[i])) != NULL;
        for (size_t i = 0; i < s->n_threads; i++)
                n += (fields[n] = field_new("PUFFO_THREAD", s->threads[i])) != NULL;
        (void) log_fields(level, 0, (const char *const*) fields, "%s", strempty(text));
        for (size_t i = 0; i < n; i++)
                free(fields[i]);
}

void station_log(int level, int error, const Station *s, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        char *fields[5] = {};
        size_t n = 0;
        va_list ap;

        va_start(ap, format);
        errno = abs(error);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);

        const char *const values[][2] = { { "PUFFO_STATION", s->station }, { "PUFFO_ENVELOPE", s->envelope },
                                          { "PUFFO_THREAD", s->thread }, { "PUFFO_TURN", s->turn } };

        for (size_t i = 0; i < ELEMENTSOF(values); i++) {
                fields[n] = field_new(values[i][0], values[i][1]);
                n += fields[n] != NULL;
        }
        (void) log_fields(level, error, (const char *const*) fields, "%s", strempty(text));
        for (size_t i = 0; i < n; i++)
                free(fields[i]);
}
