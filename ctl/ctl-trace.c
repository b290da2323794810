/* SPDX-License-Identifier: MIT */

#include "ctl-bus.h"
#include "ctl-journal.h"
#include "ctl-verbs.h"
#include "string-util.h"

/* The way of one message, from the lines that everybody who had to do with it has left in the journal: those that name
 * the message, and those of the turns that these name. */

#define LINES_MAX 5000U
#define TURNS_MAX 32U
#define ID_MAX 200U

typedef struct TraceLine {
        char *cursor, *agent;
        json_object *entry;
        const char *envelope;           /* of those that the line names, the one that is asked about */
        uint64_t usec;
        size_t position;                /* as they were read */
} TraceLine;

typedef struct Trace {
        TraceLine *lines;
        size_t n_lines;
        char **turns;                   /* of the agent that is asked */
        const char *agent, *envelope;
} Trace;

static void trace_done(Trace *t) {
        for (size_t i = 0; i < t->n_lines; i++) {
                free(t->lines[i].cursor);
                free(t->lines[i].agent);
                (void) json_object_put(t->lines[i].entry);
        }
        free(t->lines);
        (void) strv_free(t->turns);
}

/* When it was said, where that is known; else when it got into the journal. */
static uint64_t entry_usec(json_object *entry) {
        static const char *const fields[] = { "_SOURCE_REALTIME_TIMESTAMP", "__REALTIME_TIMESTAMP" };
        uint64_t usec;

        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                const char *s = json_get_string(entry, fields[i]);

                if (s && parse_u64(s, &usec) >= 0)
                        return usec;
        }
        return 0;
}

static bool is_known(const Trace *t, const char *cursor) {
        for (size_t i = 0; i < t->n_lines; i++)
                if (streq(t->lines[i].cursor, cursor))
                        return true;
        return false;
}

/* A field that comes several times is a list: a line may be of many messages. */
static bool field_has(json_object *entry, const char *field, const char *value) {
        json_object *v = json_get(entry, field);

        if (!json_object_is_type(v, json_type_array))
                return streq_ptr(json_get_string(entry, field), value);
        for (size_t i = 0; i < json_object_array_length(v); i++) {
                json_object *item = json_object_array_get_idx(v, i);

                if (json_object_is_type(item, json_type_string) && streq(json_object_get_string(item), value))
                        return true;
        }
        return false;
}

static int take_entry(json_object *entry, const char *text, size_t n, void *userdata) {
        const char *cursor = json_get_string(entry, "__CURSOR"), *turn = json_get_string(entry, "PUFFO_TURN");
        Trace *t = userdata;
        TraceLine *grown, line;

        if (!cursor || is_known(t, cursor))
                return 0;
        grown = reallocarray(t->lines, t->n_lines + 1, sizeof(TraceLine));
        if (!grown)
                return -ENOMEM;
        t->lines = grown;
        line = (TraceLine) {
                .cursor = strdup(cursor), .agent = strdup(t->agent), .entry = json_object_get(entry),
                .usec = entry_usec(entry), .position = t->n_lines,
                .envelope = field_has(entry, "PUFFO_ENVELOPE", t->envelope) ? t->envelope :
                                                                              json_get_string(entry, "PUFFO_ENVELOPE"),
        };
        t->lines[t->n_lines++] = line;
        if (!line.cursor || !line.agent)
                return -ENOMEM;
        if (isempty(turn) || strv_contains(t->turns, turn) || strv_length(t->turns) >= TURNS_MAX)
                return 0;
        return strv_extend(&t->turns, turn);
}

static int read_lines(Ctl *c, Trace *t, const JournalQuery *q, sd_bus_error *reterr) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        int fd, r;

        r = journal_open(c, t->agent, q, reterr, &reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd);
        return r < 0 ? r : journal_read(fd, take_entry, t);
}

/* The lines of a turn name other messages, the answers: those are shown, but where they lead is not followed. */
static int trace_agent(Ctl *c, Trace *t, const char *agent, const char *envelope, bool asked, sd_bus_error *reterr) {
        size_t n_turns;
        int r;

        t->turns = strv_free(t->turns);
        t->agent = agent;
        t->envelope = envelope;
        r = read_lines(c, t, &(JournalQuery) { .lines = LINES_MAX, .envelope = envelope, .quiet = !asked }, reterr);
        n_turns = strv_length(t->turns);
        for (size_t i = 0; i < n_turns && r >= 0; i++)
                r = read_lines(c, t, &(JournalQuery) { .lines = LINES_MAX, .turn = t->turns[i], .quiet = !asked },
                               reterr);
        return r;
}

/* *ret_n_closed: agents whose journal is not for us. */
static int trace_all(Ctl *c, Trace *t, const char *envelope, size_t *ret_n_closed, sd_bus_error *reterr) {
        _cleanup_json_ json_object *agents = NULL;
        int r;

        *ret_n_closed = 0;
        r = ctl_get_agents(c, /* start= */ true, reterr, &agents);
        for (size_t i = 0; r >= 0 && i < json_object_array_length(agents); i++) {
                const char *id = json_get_string(json_object_array_get_idx(agents, i), "id");

                if (!id)
                        continue;
                r = trace_agent(c, t, id, envelope, /* asked= */ false, reterr);
                if (r == -EACCES || r == -EPERM || sd_bus_error_has_name(reterr, SD_BUS_ERROR_ACCESS_DENIED) ||
                    sd_bus_error_has_name(reterr, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED)) {
                        (*ret_n_closed)++;
                        r = 0;
                } else if (sd_bus_error_has_name(reterr, PUFFO_ERROR_NO_SUCH_AGENT) ||
                           sd_bus_error_has_name(reterr, SD_BUS_ERROR_UNKNOWN_OBJECT))
                        r = 0; /* deleted meanwhile */
                if (r >= 0)
                        sd_bus_error_free(reterr);
        }
        return r;
}

/* ---- what people see ---- */

static int compare_lines(const void *a, const void *b) {
        const TraceLine *x = a, *y = b;

        return x->usec != y->usec ? (x->usec < y->usec ? -1 : 1) : x->position < y->position ? -1 : 1;
}

static char* delta_text(uint64_t usec) {
        if (usec < 10 * USEC_PER_MSEC)
                return asprintf_new("+%" PRIu64 ".%" PRIu64 "ms", usec / USEC_PER_MSEC, usec % USEC_PER_MSEC / 100);
        if (usec < USEC_PER_SEC)
                return asprintf_new("+%" PRIu64 "ms", usec / USEC_PER_MSEC);
        if (usec < 60 * USEC_PER_SEC)
                return asprintf_new("+%" PRIu64 ".%02" PRIu64 "s", usec / USEC_PER_SEC,
                                    usec % USEC_PER_SEC / (10 * USEC_PER_MSEC));
        return asprintf_new("+%" PRIu64 "m%02" PRIu64 "s", usec / (60 * USEC_PER_SEC),
                            usec / USEC_PER_SEC % 60);
}

static char* time_text(uint64_t usec) {
        _cleanup_free_ char *seconds = text_time(usec);

        return seconds ? asprintf_new("%s.%03" PRIu64, seconds, usec % USEC_PER_SEC / USEC_PER_MSEC) : NULL;
}

/* "puffo-session@rob" says more than a program's name; without a unit there is at least that. */
static char* who_text(json_object *entry) {
        const char *unit = json_get_string(entry, "_SYSTEMD_USER_UNIT") ?: json_get_string(entry, "_SYSTEMD_UNIT"),
                   *name = json_get_string(entry, "SYSLOG_IDENTIFIER") ?: json_get_string(entry, "_COMM") ?: "?",
                   *pid = json_get_string(entry, "_PID");
        _cleanup_free_ char *shown = str_printable(isempty(unit) ? name : unit, 120);

        if (!shown)
                return NULL;
        if (endswith(shown, ".service"))
                shown[strlen(shown) - strlen(".service")] = 0;
        return asprintf_new("%s%s%.20s%s", shown, pid ? "[" : "", strempty(pid), pid ? "]" : "");
}

static Colour colour_of_entry(json_object *entry) {
        const char *priority = json_get_string(entry, "PRIORITY"), *station = json_get_string(entry, "PUFFO_STATION");
        uint32_t level;

        if (priority && parse_u32(priority, &level) >= 0 && level <= 4)
                return level <= 3 ? COLOUR_RED : COLOUR_YELLOW;
        return streq_ptr(station, "done") || streq_ptr(station, "posted") ? COLOUR_GREEN : COLOUR_NONE;
}

static int add_text(Table *t, const char *s) {
        return table_add(t, isempty(s) ? NULL : json_object_new_string(s), isempty(s) ? "" : NULL, COLOUR_NONE);
}

static int add_row(Table *t, const TraceLine *line, uint64_t before_usec) {
        _cleanup_free_ char *time = time_text(line->usec), *who = who_text(line->entry), *text = NULL,
                            *message = journal_message(line->entry), *delta = NULL;
        uint64_t usec = before_usec > 0 ? line->usec - before_usec : 0;
        int r;

        delta = before_usec > 0 ? delta_text(usec) : strdup("");
        text = message ? text_safe(message) : NULL;
        if (!time || !who || !delta || !text)
                return -ENOMEM;
        for (char *p = text; *p; p++)
                if (*p == '\n' || *p == '\t')
                        *p = ' ';

        r = table_add(t, json_object_new_int64((int64_t) line->usec), time, COLOUR_FAINT);
        if (r >= 0)
                r = table_add(t, json_object_new_int64((int64_t) usec), delta, COLOUR_NONE);
        if (r >= 0)
                r = table_add_string(t, line->agent);
        if (r >= 0)
                r = table_add_string(t, who);
        if (r >= 0)
                r = add_text(t, json_get_string(line->entry, "PUFFO_STATION"));
        if (r >= 0)
                r = add_text(t, line->envelope);
        if (r >= 0)
                r = add_text(t, json_get_string(line->entry, "PUFFO_THREAD"));
        if (r >= 0)
                r = add_text(t, json_get_string(line->entry, "PUFFO_TURN"));
        return r < 0 ? r : table_add_coloured(t, text, colour_of_entry(line->entry));
}

static int print_trace(Ctl *c, const Trace *t) {
        static const Column columns[] = {
                { "time", "TIME" }, { "delta_usec", "AFTER", true }, { "agent", NULL }, { "unit", "UNIT" },
                { "station", "STATION" }, { "envelope", NULL }, { "thread", NULL }, { "turn", NULL },
                { "message", "WHAT" }, {},
        };
        _cleanup_(table_freep) Table *table = NULL;
        int r;

        r = table_new(&table, columns);
        for (size_t i = 0; i < t->n_lines && r >= 0; i++)
                r = add_row(table, t->lines + i, i > 0 ? t->lines[i - 1].usec : 0);
        return r < 0 ? ctl_oom(c) : ctl_print_table(c, table);
}

int verb_trace(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *envelope = a->words[0], *agent = a->n_words > 1 ? a->words[1] : NULL;
        _cleanup_(trace_done) Trace t = {};
        size_t n_closed = 0;
        int r, status;

        if (isempty(envelope) || strlen(envelope) > ID_MAX || !utf8_is_interchangeable(envelope, strlen(envelope)))
                return ctl_refuse(c, "'%.80s' is no message id", envelope);
        status = ctl_need_descriptors(c, "read the journal of agents");
        if (status != 0)
                return status;
        r = agent ? trace_agent(c, &t, agent, envelope, /* asked= */ true, &error)
                  : trace_all(c, &t, envelope, &n_closed, &error);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot trace message '%s'", envelope);
        if (t.n_lines == 0)
                return ctl_fail(c, "no message '%s' in the journal of %s%s", envelope,
                                agent ? "agent " : n_closed > 0 ? "the agents that you may look into" : "any agent",
                                strempty(agent));

        qsort(t.lines, t.n_lines, sizeof(TraceLine), compare_lines);
        ctl_open_pager(c);
        return print_trace(c, &t);
}
