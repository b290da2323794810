/* SPDX-License-Identifier: MIT */

#include <syslog.h>

#include "ctl-bus.h"
#include "ctl-journal.h"
#include "ctl-verbs.h"
#include "event-util.h"
#include "string-util.h"

#define ENTRY_SIZE_MAX MIB(16)

const Option logs_options[] = {
        { "follow", 'f', NULL, "go on with new lines, until interrupted" },
        { "lines", 'n', "N", "how many (default 100; with -f 10)" },
        { "since", 0, "AGE", "not older than 30s, 5m, 2h, 7d …" },
        { "output", 'o', "FORMAT", "short (default), cat (messages only), json (as from journalctl)" },
        {},
};

typedef enum LogFormat {
        LOG_FORMAT_SHORT,
        LOG_FORMAT_CAT,
        LOG_FORMAT_JSON,
} LogFormat;

/* "30s", "5m", "2h", "7d", "1w". -EINVAL, -ERANGE. */
static int journal_age_parse(const char *s, uint64_t *ret_usec) {
        static const struct {
                char letter;
                uint64_t seconds;
        } units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 }, { 'w', 7 * 86400 } };
        size_t n = strlen(s);
        _cleanup_free_ char *number = n > 1 ? memdup0(s, n - 1) : NULL;
        uint64_t count;

        if (!number || parse_u64(number, &count) < 0)
                return -EINVAL;
        for (size_t i = 0; i < ELEMENTSOF(units); i++)
                if (s[n - 1] == units[i].letter)
                        return __builtin_mul_overflow(count, units[i].seconds * USEC_PER_SEC, ret_usec) ? -ERANGE : 0;
        return -EINVAL;
}

char* journal_message(json_object *entry) {
        /* Text, or the bytes of one that is not UTF-8, or null when it was too long for journalctl. */
        json_object *value = json_get(entry, "MESSAGE");
        _cleanup_(strbuf_done) StrBuf b = {};

        if (json_object_is_type(value, json_type_string))
                return strdup(json_object_get_string(value));
        if (!json_object_is_type(value, json_type_array))
                return strdup("(message is too long to be shown)");
        for (size_t i = 0; i < json_object_array_length(value); i++) {
                char byte = (char) json_object_get_int(json_object_array_get_idx(value, i));

                if (strbuf_append(&b, &byte, byte != 0) < 0)
                        return NULL;
        }
        return strbuf_take(&b);
}

static Colour colour_of_priority(const char *priority) {
        uint32_t level;

        if (!priority || parse_u32(priority, &level) < 0)
                return COLOUR_NONE;
        return level <= LOG_ERR       ? COLOUR_RED :
               level == LOG_WARNING   ? COLOUR_YELLOW :
               level == LOG_NOTICE    ? COLOUR_BOLD :
               level == LOG_DEBUG     ? COLOUR_FAINT :
                                        COLOUR_NONE;
}

int journal_print_entry(FILE *f, json_object *entry, bool with_head) {
        _cleanup_free_ char *message = journal_message(entry), *time = NULL, *safe_name = NULL;
        const char *name = json_get_string(entry, "SYSLOG_IDENTIFIER") ?: json_get_string(entry, "_COMM") ?: "?";
        const char *pid = json_get_string(entry, "_PID"), *stamp = json_get_string(entry, "__REALTIME_TIMESTAMP");
        Colour colour = colour_of_priority(json_get_string(entry, "PRIORITY"));
        uint64_t usec = 0;

        if (stamp)
                (void) parse_u64(stamp, &usec);
        time = text_time(usec);
        safe_name = str_printable(name, 64);
        if (!message || !time || !safe_name)
                return -ENOMEM;
        /* A pid is what journald says, but the line comes from elsewhere. */
        if (pid && pid[strspn(pid, "0123456789")])
                pid = NULL;

        if (with_head)
                fprintf(f, "%s %s%s%s%s: ", time, safe_name, pid ? "[" : "", strempty(pid), pid ? "]" : "");
        fputs(colour_on(f, colour), f);
        for (char *line = message, *next; line; line = next) {
                next = strchr(line, '\n');
                if (next)
                        *next++ = 0;
                /* A line that begins at the left says who wrote it: those further down must not seem to. */
                if (line != message)
                        fputs(with_head ? "\n    " : "\n", f);
                if (text_write_safe(f, line) == -ENOMEM)
                        return -ENOMEM;
        }
        fputs(colour_off(f, colour), f);
        fputc('\n', f);
        return 0;
}

/* ---- reading ---- */

static int take_line(const char *line, size_t n, journal_entry_t on_entry, void *userdata) {
        _cleanup_json_ json_object *entry = NULL;
        int r;

        if (n == 0)
                return 0;
        r = json_parse(line, n, &entry);
        if (r == -EBADMSG)
                return 0; /* "-- No entries --" and its like */
        return r < 0 ? r : on_entry(entry, line, n, userdata);
}

int journal_read(int fd, journal_entry_t on_entry, void *userdata) {
        _cleanup_(strbuf_done) StrBuf input = {};
        char buffer[KIB(64)];

        for (;;) {
                ssize_t n = read(fd, buffer, sizeof(buffer));
                size_t used = 0;
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return take_line(strempty(input.text), input.size, on_entry, userdata);
                r = strbuf_append(&input, buffer, (size_t) n);
                for (const char *newline; r >= 0 && (newline = memchr(input.text + used, '\n', input.size - used));) {
                        size_t length = (size_t) (newline - input.text) - used;

                        r = take_line(input.text + used, length, on_entry, userdata);
                        used += length + 1;
                }
                if (r < 0)
                        return r;
                strbuf_consume(&input, used);
                if (input.size > ENTRY_SIZE_MAX)
                        return -EMSGSIZE;
                fflush(stdout);
                if (ferror(stdout))
                        return 0;
        }
}

int journal_open(Ctl *c, const char *agent, const JournalQuery *q, sd_bus_error *reterr, sd_bus_message **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = ctl_new_agent_call(c, agent, &m, reterr, "OpenJournal");
        if (r >= 0 && q->quiet)
                r = sd_bus_message_set_allow_interactive_authorization(m, false);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_bool_option(m, "Follow", q->follow);
        if (r >= 0)
                r = bus_append_number_option(m, "Lines", q->lines);
        if (r >= 0 && q->since_usec > 0)
                r = sd_bus_message_append(m, "{sv}", "Since", "t", q->since_usec);
        if (r >= 0)
                r = bus_append_string_option(m, "Envelope", q->envelope);
        if (r >= 0)
                r = bus_append_string_option(m, "Turn", q->turn);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, reterr, ret);
}

/* ---- agent logs ---- */

typedef struct LogRequest {
        JournalQuery query;
        LogFormat format;
} LogRequest;

static int print_entry(json_object *entry, const char *line, size_t n, void *userdata) {
        _cleanup_free_ char *text = NULL;
        const LogFormat *format = userdata;

        if (*format != LOG_FORMAT_JSON)
                return journal_print_entry(stdout, entry, *format == LOG_FORMAT_SHORT);
        text = memdup0(line, n);
        if (!text)
                return -ENOMEM;
        json_write_safe(stdout, text);
        fputc('\n', stdout);
        return 0;
}

static int read_request(Ctl *c, const Arguments *a, LogRequest *ret) {
        const char *lines = arguments_value(a, "lines"), *since = arguments_value(a, "since"),
                   *output = arguments_value(a, "output");
        bool follow = arguments_has(a, "follow");
        LogRequest q = { .query = { .follow = follow, .lines = follow ? 10 : 100 } };
        uint64_t age;

        if (lines && parse_u32(lines, &q.query.lines) < 0)
                return ctl_refuse(c, "'%s' is no number of lines", lines);
        if (since) {
                if (journal_age_parse(since, &age) < 0)
                        return ctl_refuse(c, "'%s' is no age like 30s, 5m, 2h, 7d", since);
                q.query.since_usec = now_realtime_usec() > age ? now_realtime_usec() - age : 1;
                if (!lines)
                        q.query.lines = UINT32_MAX;
        }
        if (c->json || streq_ptr(output, "json"))
                q.format = LOG_FORMAT_JSON;
        else if (streq_ptr(output, "cat"))
                q.format = LOG_FORMAT_CAT;
        else if (output && !streq(output, "short"))
                return ctl_refuse(c, "unknown format '%s': short, cat or json", output);
        *ret = q;
        return 0;
}

int verb_agent_logs(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *agent = NULL;
        const char *id = a->words[0];
        LogRequest q = {};
        int r, status, fd;

        status = read_request(c, a, &q);
        if (status == 0)
                status = ctl_need_descriptors(c, "read an agent's journal");
        if (status != 0)
                return status;
        r = ctl_get_agent(c, id, &error, &agent);
        if (r >= 0)
                r = journal_open(c, id, &q.query, &error, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot read the journal of agent '%s'", id);

        if (!q.query.follow)
                ctl_open_pager(c);
        r = journal_read(fd, print_entry, &q.format);
        return r < 0 ? ctl_fail(c, "cannot read the journal of agent '%s': %s", id, strerror(-r)) : EXIT_SUCCESS;
}
