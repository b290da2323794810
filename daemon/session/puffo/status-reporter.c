/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "event-util.h"
#include "log.h"
#include "server-api.h"
#include "status-reporter.h"
#include "string-util.h"

/* Begins and ends that wait for the one before them. */
#define REPORTS_MAX 32U
#define ERROR_TEXT_MAX 1023U
#define RUN_ID_BYTES 16U

/* A begin (one run) or an end. */
typedef struct Report {
        bool is_end;
        Run *runs;              /* texts are ours */
        size_t n_runs;
        TAILQ_ENTRY(Report) reports;
} Report;

TAILQ_HEAD(ReportQueue, Report);

struct StatusReporter {
        sd_event *event;
        ServerClient *client;
        uint64_t period_usec;
        bool connected, crashed, has_failed;
        AgentStatus status;
        char *message_id;               /* while busy */
        char *run_id, *run_message_id;  /* of the turn that has begun last */
        char *error_text;               /* while in error */
        uint64_t error_since, last_heartbeat;
        sd_event_source *timer;         /* on only while connected */
        ServerCall *heartbeat, *report;
        struct ReportQueue reports;     /* the first one is under way when report is set */
        void (*on_settled)(void *userdata);
        void *userdata;
};

static bool is_synthetic(const char *envelope_id) {
        return isempty(envelope_id) || startswith(envelope_id, SYNTHETIC_ID_PREFIX);
}

/* A server that refuses, or is away, is worth one line, not one a minute. */
static void log_reply(StatusReporter *s, const char *what, const CallReply *reply) {
        bool is_expected = reply->failure == CALL_STATUS && reply->status == 429;

        if (reply->failure == CALL_OK)
                s->has_failed = false;
        else if (is_expected || s->has_failed)
                log_debug("Failed to report %s, ignoring: %s", what, strempty(reply->error));
        else {
                s->has_failed = true;
                log_warning("Failed to report %s, ignoring: %s", what, strempty(reply->error));
        }
}

static void set_idle(StatusReporter *s) {
        s->status = AGENT_STATUS_IDLE;
        s->message_id = mfree(s->message_id);
        s->error_text = mfree(s->error_text);
}

/* --- heartbeats --- */

static void heartbeat_on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        StatusReporter *s = userdata;

        log_reply(s, "the status", reply);
        s->heartbeat = server_call_free(s->heartbeat);
}

static void heartbeat_send(StatusReporter *s) {
        int r;

        if (s->status == AGENT_STATUS_ERROR && !s->crashed &&
            now_boottime_usec() >= s->error_since + s->period_usec)
                set_idle(s);

        /* One that the server has left unanswered so long says nothing any more. */
        s->heartbeat = server_call_free(s->heartbeat);
        s->last_heartbeat = now_boottime_usec();
        r = api_heartbeat(s->client, s->status, s->message_id, s->error_text, heartbeat_on_reply, s, &s->heartbeat);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to report the status, ignoring: %m");
}

static int heartbeat_on_timer(sd_event_source *source, uint64_t usec, void *userdata);

/* Wide, so that the wakeups of many agents fall together. */
static void heartbeat_arm(StatusReporter *s, uint64_t delay_usec) {
        int r = event_arm_timer(s->event, &s->timer, delay_usec, s->period_usec / 4, heartbeat_on_timer, s);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm the heartbeat's timer, ignoring: %m");
}

static int heartbeat_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        StatusReporter *s = userdata;

        heartbeat_arm(s, s->period_usec);
        heartbeat_send(s);
        return 0;
}

/* At once, but never so often that the server would refuse; without a connection, which has the timer, just once. */
static void heartbeat_soon(StatusReporter *s) {
        uint64_t since = now_boottime_usec() - s->last_heartbeat;

        if (s->connected && s->last_heartbeat > 0 && since < HEARTBEAT_PERIOD_MIN_USEC) {
                heartbeat_arm(s, HEARTBEAT_PERIOD_MIN_USEC - since);
                return;
        }
        if (s->connected)
                heartbeat_arm(s, s->period_usec);
        heartbeat_send(s);
}

void status_reporter_set_connected(StatusReporter *s, bool connected) {
        if (connected == s->connected)
                return;
        s->connected = connected;
        if (!connected) {
                s->timer = sd_event_source_disable_unref(s->timer);
                return;
        }

        if (s->crashed) {
                s->crashed = false;
                set_idle(s);
        }
        heartbeat_soon(s);
}

void status_reporter_set_period(StatusReporter *s, uint64_t period_usec) {
        period_usec = MAX(period_usec ?: HEARTBEAT_PERIOD_USEC, HEARTBEAT_PERIOD_MIN_USEC);
        if (period_usec == s->period_usec)
                return;
        s->period_usec = period_usec;
        s->timer = sd_event_source_disable_unref(s->timer);     /* its accuracy is that of the old one */
        if (s->connected)
                heartbeat_arm(s, period_usec);
}

static void set_error(StatusReporter *s, const char *text) {
        set_idle(s);
        s->status = AGENT_STATUS_ERROR;
        s->error_text = str_printable(text, ERROR_TEXT_MAX);
        s->error_since = now_boottime_usec();
}

void status_reporter_crashed(StatusReporter *s, const char *error_text) {
        bool known = s->crashed && streq_ptr(s->error_text, error_text);

        if (known)
                return;
        set_error(s, strempty(error_text));
        s->crashed = true;
        heartbeat_soon(s);
}

void status_reporter_recovered(StatusReporter *s) {
        if (!s->crashed)
                return;
        s->crashed = false;
        set_idle(s);
        heartbeat_soon(s);
}

/* --- turns --- */

static Report* report_free(Report *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->n_runs; i++) {
                free((char*) p->runs[i].run_id);
                free((char*) p->runs[i].message_id);
                free((char*) p->runs[i].error_text);
        }
        free(p->runs);
        return mfree(p);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Report*, report_free);

static int report_new(Report **ret, bool is_end, size_t max_runs) {
        _cleanup_(report_freep) Report *p = new0(Report, 1);

        if (!p)
                return -ENOMEM;
        p->runs = new0(Run, max_runs);
        if (!p->runs)
                return -ENOMEM;
        p->is_end = is_end;
        *ret = TAKE_PTR(p);
        return 0;
}

/* run_id NULL: a new one. */
static int report_add(Report *p, const char *run_id, const char *message_id, const char *error_text) {
        Run *run = p->runs + p->n_runs++;
        _cleanup_free_ char *random = run_id ? NULL : random_hex(RUN_ID_BYTES);

        run->run_id = run_id ? strdup(run_id) : random ? strjoin("run_", random) : NULL;
        run->message_id = strdup(message_id);
        run->error_text = error_text ? str_printable(error_text, ERROR_TEXT_MAX) : NULL;
        return run->run_id && run->message_id && (run->error_text || !error_text) ? 0 : -ENOMEM;
}

static const char* report_error(const Report *p) {
        for (size_t i = 0; i < p->n_runs; i++)
                if (p->runs[i].error_text)
                        return p->runs[i].error_text;
        return NULL;
}

/* What is true of the agent from now on. An end holds whatever the server says, or it would stay busy for ever. */
static void report_apply(StatusReporter *s, Report *p, bool succeeded) {
        if (s->crashed)
                return;
        if (p->is_end && report_error(p))
                set_error(s, report_error(p));
        else if (p->is_end)
                set_idle(s);
        else if (succeeded) {
                set_idle(s);
                s->message_id = strdup(p->runs[0].message_id);
                s->status = AGENT_STATUS_BUSY;
        }
}

static void report_drop(StatusReporter *s, Report *p, bool succeeded) {
        TAILQ_REMOVE(&s->reports, p, reports);
        report_apply(s, p, succeeded);
        (void) report_free(p);
}

static void report_next(StatusReporter *s);

static void report_on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        StatusReporter *s = userdata;

        log_reply(s, "a turn", reply);
        s->report = server_call_free(s->report);
        report_drop(s, TAILQ_FIRST(&s->reports), reply->failure == CALL_OK);
        report_next(s);
}

static void report_next(StatusReporter *s) {
        Report *p;

        while (!s->report && (p = TAILQ_FIRST(&s->reports))) {
                int r = p->is_end ? api_processing_end_batch(s->client, p->runs, p->n_runs, report_on_reply, s,
                                                             &s->report)
                                  : api_processing_start(s->client, p->runs, report_on_reply, s, &s->report);

                if (r < 0) {
                        (void) log_warning_errno(r, "Failed to report a turn, ignoring: %m");
                        report_drop(s, p, /* succeeded= */ false);
                }
        }
        if (s->on_settled && status_reporter_is_settled(s))
                s->on_settled(s->userdata);
}

bool status_reporter_is_settled(const StatusReporter *s) {
        return TAILQ_EMPTY(&s->reports);
}

void status_reporter_set_settled_handler(StatusReporter *s, void (*on_settled)(void *userdata), void *userdata) {
        s->on_settled = on_settled;
        s->userdata = userdata;
}

static void report_queue(StatusReporter *s, Report *p) {
        Report *first = TAILQ_FIRST(&s->reports), *second = first ? TAILQ_NEXT(first, reports) : NULL, *q;
        size_t n = 0;

        TAILQ_FOREACH(q, &s->reports, reports)
                n++;
        /* The first one is under way. */
        if (n >= REPORTS_MAX && second)
                report_drop(s, second, /* succeeded= */ false);
        TAILQ_INSERT_TAIL(&s->reports, p, reports);
        report_next(s);
}

static int begin(StatusReporter *s, const char *envelope_id) {
        _cleanup_(report_freep) Report *p = NULL;
        int r = report_new(&p, /* is_end= */ false, 1);

        if (r >= 0)
                r = report_add(p, NULL, envelope_id, NULL);
        if (r >= 0)
                r = free_and_strdup(&s->run_id, p->runs[0].run_id);
        if (r >= 0)
                r = free_and_strdup(&s->run_message_id, envelope_id);
        if (r < 0)
                return r;
        report_queue(s, TAKE_PTR(p));
        return 0;
}

static int end(StatusReporter *s, const StatusRun *runs, size_t n_runs) {
        _cleanup_(report_freep) Report *p = NULL;
        int r = report_new(&p, /* is_end= */ true, n_runs);

        for (size_t i = 0; i < n_runs && r >= 0; i++) {
                bool has_begun = streq_ptr(runs[i].envelope_id, s->run_message_id);

                if (!is_synthetic(runs[i].envelope_id))
                        r = report_add(p, has_begun ? s->run_id : NULL, runs[i].envelope_id, runs[i].error_text);
        }
        if (r < 0 || p->n_runs == 0)
                return r;
        report_queue(s, TAKE_PTR(p));
        return 0;
}

void status_reporter_begin(StatusReporter *s, const char *envelope_id) {
        int r = is_synthetic(envelope_id) ? 0 : begin(s, envelope_id);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to report a turn, ignoring: %m");
}

void status_reporter_end(StatusReporter *s, const StatusRun *runs, size_t n_runs) {
        int r = end(s, runs, n_runs);

        s->run_id = mfree(s->run_id);
        s->run_message_id = mfree(s->run_message_id);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to report a turn, ignoring: %m");
}

int status_reporter_new(StatusReporter **ret, sd_event *event, ServerClient *client) {
        StatusReporter *s = new0(StatusReporter, 1);

        assert(ret && event && client);
        if (!s)
                return -ENOMEM;
        s->event = event;
        s->client = client;
        s->period_usec = HEARTBEAT_PERIOD_USEC;
        TAILQ_INIT(&s->reports);
        *ret = s;
        return 0;
}

StatusReporter* status_reporter_free(StatusReporter *s) {
        Report *p;

        if (!s)
                return NULL;
        sd_event_source_disable_unref(s->timer);
        (void) server_call_free(s->heartbeat);
        (void) server_call_free(s->report);
        while ((p = TAILQ_FIRST(&s->reports))) {
                TAILQ_REMOVE(&s->reports, p, reports);
                (void) report_free(p);
        }
        free(s->message_id);
        free(s->run_id);
        free(s->run_message_id);
        free(s->error_text);
        return mfree(s);
}
