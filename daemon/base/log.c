/* SPDX-License-Identifier: MIT */

#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>

#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "event-util.h"
#include "log.h"

#define LIMIT_USEC (10 * USEC_PER_SEC)

#define PROCESS_FIELDS_MAX 8

static const char *log_identifier = "puffo";
static int log_max_level = LOG_INFO;
static bool log_to_journal;
static char *log_process_fields[PROCESS_FIELDS_MAX];
static size_t n_log_process_fields;

static const char *const level_names[] = {
        [LOG_EMERG] = "emerg", [LOG_ALERT] = "alert", [LOG_CRIT] = "crit", [LOG_ERR] = "err",
        [LOG_WARNING] = "warning", [LOG_NOTICE] = "notice", [LOG_INFO] = "info", [LOG_DEBUG] = "debug",
};

int log_level_from_string(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(level_names); i++)
                if (streq(s, level_names[i]))
                        return (int) i;
        return -EINVAL;
}

const char* log_level_to_string(int level) {
        return level >= 0 && (size_t) level < ELEMENTSOF(level_names) ? level_names[level] : NULL;
}

/* The manager names the stream that it connected to the journal in JOURNAL_STREAM (systemd.exec(5)). Whoever is
 * started from such a service inherits the variable, but not always the stream: a terminal wants plain lines. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;
        int n = 0;

        return stream && sscanf(stream, "%llu:%llu%n", &device, &inode, &n) == 2 && !stream[n] &&
               fstat(STDERR_FILENO, &st) >= 0 && st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *identifier) {
        const char *level = getenv("PUFFO_LOG_LEVEL");

        log_identifier = identifier;
        log_to_journal = stderr_is_journal();
        if (level && log_level_from_string(level) >= 0)
                log_max_level = log_level_from_string(level);
}

void log_set_max_level(int level) {
        log_max_level = level;
}

int log_get_max_level(void) {
        return log_max_level;
}

bool log_target_is_journal(void) {
        return log_to_journal;
}

int log_add_process_field(const char *field) {
        char *copy;

        if (n_log_process_fields >= PROCESS_FIELDS_MAX)
                return -ENOBUFS;

        copy = strdup(field);
        if (!copy)
                return -ENOMEM;

        log_process_fields[n_log_process_fields++] = copy;
        return 0;
}

static struct iovec iov_string(const char *s) {
        return (struct iovec) { .iov_base = (char*) s, .iov_len = strlen(s) };
}

int log_full(int level, int error, const char *file, int line, const char *func, const char *const *fields,
             const char *format, ...) {
        char message[2048 + 8] = "MESSAGE=", priority[16], code_file[256], code_line[32], code_func[128],
             errno_field[32], identifier[64];
        struct iovec iov[7 + PROCESS_FIELDS_MAX + LOG_FIELDS_MAX];
        size_t n = 0;
        va_list ap;
        int saved = errno;

        if (level > log_max_level)
                return -abs(error);

        errno = abs(error);
        va_start(ap, format);
        (void) vsnprintf(message + 8, sizeof(message) - 8, format, ap);
        va_end(ap);

        if (log_to_journal) {
                (void) snprintf(priority, sizeof(priority), "PRIORITY=%d", level);
                (void) snprintf(identifier, sizeof(identifier), "SYSLOG_IDENTIFIER=%s", log_identifier);
                (void) snprintf(code_file, sizeof(code_file), "CODE_FILE=%s", file);
                (void) snprintf(code_line, sizeof(code_line), "CODE_LINE=%d", line);
                (void) snprintf(code_func, sizeof(code_func), "CODE_FUNC=%s", func);

                iov[n++] = iov_string(message);
                iov[n++] = iov_string(priority);
                iov[n++] = iov_string(identifier);
                iov[n++] = iov_string(code_file);
                iov[n++] = iov_string(code_line);
                iov[n++] = iov_string(code_func);
                if (error != 0) {
                        (void) snprintf(errno_field, sizeof(errno_field), "ERRNO=%d", abs(error));
                        iov[n++] = iov_string(errno_field);
                }
                for (size_t i = 0; i < n_log_process_fields; i++)
                        iov[n++] = iov_string(log_process_fields[i]);
                for (size_t i = 0; fields && fields[i] && i < LOG_FIELDS_MAX; i++)
                        iov[n++] = iov_string(fields[i]);

                if (sd_journal_sendv(iov, (int) n) >= 0) {
                        errno = saved;
                        return -abs(error);
                }
        }

        (void) fprintf(stderr, "%s: %s\n", log_identifier, message + 8);
        errno = saved;
        return -abs(error);
}

bool log_limit_passes(LogLimit *l) {
        uint64_t now = now_boottime_usec();

        if (l->last_usec > 0 && now - l->last_usec < LIMIT_USEC) {
                l->n_left_out++;
                return false;
        }
        if (l->n_left_out > 0)
                log_warning("%u lines like the next one were left out.", l->n_left_out);
        *l = (LogLimit) { .last_usec = now };
        return true;
}
