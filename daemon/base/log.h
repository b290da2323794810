/* SPDX-License-Identifier: MIT */
#pragma once

#include <syslog.h>

#include "macro.h"

/* Logging to the journal with fields. Lower layers do not log: they return negative errno and the top logs it once.
 * Unless stderr is the journal's own stream (JOURNAL_STREAM), or when the journal's socket is absent, lines go to
 * stderr as "<program>: message". */

/* Name for SYSLOG_IDENTIFIER=, borrowed; call first thing in main(). */
void log_open(const char *identifier);

/* For lines of which somebody else decides how many there are: false for those that come within ten seconds of the last
 * one. How many were left out stands in the log before the next one. */
typedef struct LogLimit {
        uint64_t last_usec;
        unsigned n_left_out;
} LogLimit;
bool log_limit_passes(LogLimit *l);

/* Highest priority number that is written (LOG_INFO by default, $PUFFO_LOG_LEVEL, or LogControl1). */
void log_set_max_level(int level);
int log_get_max_level(void);
/* False when lines go to stderr. */
bool log_target_is_journal(void);
/* "debug" … "emerg" to LOG_DEBUG … LOG_EMERG; -EINVAL. */
int log_level_from_string(const char *s);
const char* log_level_to_string(int level);

/* A "FIELD=value" that goes with every line of this process (the session sets PUFFO_AGENT=). Copied. At most 8. */
int log_add_process_field(const char *field);

#define LOG_FIELDS_MAX 72
/* Writes one entry. error: 0 or ±errno, available as %m and sent as ERRNO=. fields: NULL or a NULL-terminated list of
 * at most that many "FIELD=value", of which a field may come several times. Returns -abs(error). Never put a secret here. */
int log_full(int level, int error, const char *file, int line, const char *func, const char *const *fields,
             const char *format, ...) _printf_(7, 8);

#define log_fields(level, error, fields, ...) \
        log_full(level, error, __FILE__, __LINE__, __func__, fields, __VA_ARGS__)
#define log_debug(...) ((void) log_fields(LOG_DEBUG, 0, NULL, __VA_ARGS__))
#define log_info(...) ((void) log_fields(LOG_INFO, 0, NULL, __VA_ARGS__))
#define log_notice(...) ((void) log_fields(LOG_NOTICE, 0, NULL, __VA_ARGS__))
#define log_warning(...) ((void) log_fields(LOG_WARNING, 0, NULL, __VA_ARGS__))
#define log_error(...) ((void) log_fields(LOG_ERR, 0, NULL, __VA_ARGS__))
#define log_debug_errno(e, ...) log_fields(LOG_DEBUG, e, NULL, __VA_ARGS__)
#define log_info_errno(e, ...) log_fields(LOG_INFO, e, NULL, __VA_ARGS__)
#define log_warning_errno(e, ...) log_fields(LOG_WARNING, e, NULL, __VA_ARGS__)
#define log_error_errno(e, ...) log_fields(LOG_ERR, e, NULL, __VA_ARGS__)
#define log_oom() log_error_errno(ENOMEM, "Out of memory.")

/* MESSAGE_ID= values of events worth searching for; explained in the message catalog. */
#define PUFFO_MESSAGE_AGENT_STARTED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a01"
#define PUFFO_MESSAGE_AGENT_STOPPED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a02"
#define PUFFO_MESSAGE_AGENT_FAILED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a03"
#define PUFFO_MESSAGE_AGENT_ADOPTED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a04"
#define PUFFO_MESSAGE_CONFIG_INVALID "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a05"
#define PUFFO_MESSAGE_TURN_STARTED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a06"
#define PUFFO_MESSAGE_TURN_ENDED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a07"
#define PUFFO_MESSAGE_TURN_RESUMED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a08"
#define PUFFO_MESSAGE_ACCESS_DENIED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a09"
#define PUFFO_MESSAGE_ENVELOPE_REFUSED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a0a"
#define PUFFO_MESSAGE_BUDGET_EXCEEDED "MESSAGE_ID=7f3b1c0e5a1d4a6c8f0f6c9c1f0c3a0b"
