/* SPDX-License-Identifier: MIT */

#include <malloc.h>
#include <systemd/sd-daemon.h>

#include "event-util.h"
#include "log.h"
#include "manager-link.h"
#include "session-internal.h"

/* So long after the last turn memory is given back, and so long after that the process that talks to the provider. */
#define TRIM_USEC (3 * USEC_PER_SEC)
#define TRIM_DEEP_USEC (60 * USEC_PER_SEC)
/* So long a stop waits for readers of turns that have ended. */
#define DRAIN_USEC (1 * USEC_PER_SEC)

static const char *const state_names[_SESSION_STATE_MAX] = {
        [SESSION_STARTING] = "starting", [SESSION_READY] = "ready", [SESSION_BUSY] = "busy",
        [SESSION_WAITING_APPROVAL] = "waiting-approval", [SESSION_FAILED] = "failed",
};

const char* session_state_to_string(SessionState s) {
        return s >= 0 && s < _SESSION_STATE_MAX ? state_names[s] : NULL;
}

const char* session_id(Session *s) {
        return s->id;
}

TurnQueue* session_queue(Session *s) {
        return s->queue;
}

Database* session_database(Session *s) {
        return s->db;
}

Approvals* session_approvals(Session *s) {
        return s->approvals;
}

sd_event* session_event(Session *s) {
        return s->event;
}

SessionState session_state(Session *s) {
        return s->state;
}

const char* session_working_directory(Session *s) {
        return strempty(s->working_directory);
}

bool session_accepts(Session *s) {
        return s->queue && !s->stopping && !s->fault;
}

const char* session_health(Session *s) {
        static const char *const names[] = {
                [CHAT_HEALTH_UNKNOWN] = "unknown", [CHAT_HEALTH_OK] = "ok", [CHAT_HEALTH_AUTH_FAILED] = "auth_failed",
        };

        return names[s->health];
}

void session_runtime(Session *s, const char *ret[static 9]) {
        const char *model = isempty(s->model) ? strempty(s->configured_model) : s->model;
        const char *const all[9] = {
                "RuntimeKind", strempty(s->kind), "Harness", strempty(s->harness), "Provider", strempty(s->provider),
                "Model", model,
        };

        memcpy(ret, all, sizeof(all));
        if (!s->kind)
                ret[0] = NULL;
}

const char* session_status_text(Session *s) {
        return s->stopping ? "stopping" : strempty(s->status_text);
}

/* ---- what the world is told ---- */

void session_update(Session *s) {
        int r = sd_event_source_set_enabled(s->update, SD_EVENT_ONESHOT);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to schedule an update of the status, ignoring: %m");
}

static char* status_text_new(Session *s) {
        size_t n = s->queue ? turn_queue_length(s->queue) : 0;
        _cleanup_free_ char *waiting = NULL;
        BudgetVerdict v;

        if (s->fault)
                return strdup(s->fault);
        if (s->state == SESSION_WAITING_APPROVAL)
                return asprintf_new("waiting for permission (%s)", approvals_open_id(s->approvals, 0));
        if (s->state == SESSION_BUSY) {
                if (n > 0)
                        waiting = asprintf_new(", %zu more in the queue", n);
                return strjoin("busy", s->waiting ? ": " : "", strempty(s->waiting), strempty(waiting));
        }
        if (s->state == SESSION_STARTING)
                return strdup("starting the CLI");
        if (s->state == SESSION_FAILED && s->unready)
                return strdup(s->unready);
        if (s->health == CHAT_HEALTH_AUTH_FAILED)
                return strdup("ready, but the model provider refused the key at the last turn (auth)");
        if (s->budget && budget_check(s->budget, &v) > 0) {
                waiting = budget_verdict_to_text(&v);
                return waiting ? strjoin("ready, but ", waiting) : NULL;
        }
        if (s->service && chat_service_fault(s->service))
                return strjoin("ready, but not for Puffo: ", chat_service_fault(s->service));
        if (s->service && !isempty(chat_service_status_text(s->service)))
                return strjoin("ready, ", chat_service_status_text(s->service));
        if (s->lacking)
                return strjoin("ready, without tools of its own: ", s->lacking);
        return strdup(session_state_to_string(s->state));
}

void session_runtime_write(Session *s, const char *status) {
        RuntimeFile f = {
                .status = status,
                .error = s->fault ?: strempty(s->unready),
                .health = session_health(s),
                .started_at = s->started_usec / USEC_PER_SEC,
                .msg_count = s->queue ? turn_queue_processed(s->queue) : 0,
                .last_event_at = s->queue ? turn_queue_last_event_usec(s->queue) / USEC_PER_SEC : 0,
        };
        int r;

        if (s->written.status && streq(f.status, s->written.status) && streq(f.error, s->written.error) &&
            streq(f.health, s->written.health) && f.msg_count == s->written.msg_count)
                return;

        r = runtime_file_write(s->runtime_path, &f);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to write '%s', ignoring: %m", s->runtime_path);
                return;
        }
        if (free_and_strdup(&s->written_error, f.error) < 0)
                return;
        f.error = s->written_error;
        s->written = f;
}

static int on_trim(sd_event_source *source, uint64_t usec, void *userdata) {
        Session *s = userdata;

        int r;

        if (!s->db || turn_queue_running(s->queue))
                return 0;
        database_trim(s->db);
        if (s->trimmed)
                chat_trim(s->chat);
        (void) malloc_trim(0);
        if (s->trimmed || turn_queue_processed(s->queue) == 0)
                return 0;

        s->trimmed = true;
        r = event_arm_timer(s->event, &s->trim, TRIM_DEEP_USEC, 10 * USEC_PER_SEC, on_trim, s);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
        return 0;
}

static void loop_exit(Session *s) {
        int r = sd_event_exit(s->event, 0);

        if (r < 0)
                (void) log_error_errno(r, "Failed to end the event loop: %m");
}

static int on_grace_over(sd_event_source *source, uint64_t usec, void *userdata) {
        Session *s = userdata;
        Turn *t = turn_queue_running(s->queue);

        if (t) {
                log_notice("The running turn did not end in time, it begins again with the next start.");
                if (s->service)
                        chat_service_interrupted(s->service, t);
                turn_queue_abandon(s->queue);
        }
        session_stop_go_on(s);
        return 0;
}

static int on_drained(sd_event_source *source, uint64_t usec, void *userdata) {
        Session *s = userdata;

        s->drained = true;
        session_stop_go_on(s);
        return 0;
}

static int stop_arm(Session *s, sd_event_source **timer, uint64_t delay, sd_event_time_handler_t handler) {
        int r = *timer ? 0 : event_arm_timer(s->event, timer, delay, 1, handler, s);

        if (r < 0) {
                (void) log_warning_errno(r, "Failed to arm a timer, stopping at once: %m");
                loop_exit(s);
        }
        return r;
}

/* message-pipeline §18: the running turn has its grace time, then everything is said and told that is to be, and the
 * stream is closed. Those who still read what has ended have a moment, too. */
void session_stop_go_on(Session *s) {
        bool read;

        if (s->queue && turn_queue_running(s->queue)) {
                (void) stop_arm(s, &s->stop_timer, s->turn_grace_usec, on_grace_over);
                return;
        }
        read = !s->queue || turn_queue_n_unread(s->queue) == 0 || s->drained;
        if (!read && stop_arm(s, &s->drain_timer, MIN(s->turn_grace_usec, DRAIN_USEC), on_drained) < 0)
                return;
        if (!s->leaving) {
                s->leaving = true;
                s->left = !s->service;
                if (s->service)
                        chat_service_stop(s->service);
        }
        if (read && s->left)
                loop_exit(s);
}

void session_refresh(Session *s) {
        char *text;
        int r;

        s->state = s->fault || !s->queue                ? SESSION_FAILED :
                   approvals_n_open(s->approvals) > 0   ? SESSION_WAITING_APPROVAL :
                   turn_queue_running(s->queue)         ? SESSION_BUSY :
                   s->preparing                         ? SESSION_STARTING :
                   s->unready                           ? SESSION_FAILED : SESSION_READY;
        text = status_text_new(s);
        if (text) {
                if (!streq_ptr(text, s->status_text)) {
                        if (s->fault)
                                log_warning("The agent cannot take turns: %s", text);
                        (void) sd_notifyf(0, "STATUS=%s", text);
                }
                free(s->status_text);
                s->status_text = text;
        }
        session_runtime_write(s, s->state == SESSION_FAILED ? "error" : "running");
        if (s->link)
                manager_link_report(s->link);
        if (s->state != SESSION_BUSY && s->state != SESSION_WAITING_APPROVAL) {
                s->trimmed = false;
                r = event_arm_timer(s->event, &s->trim, TRIM_USEC, USEC_PER_SEC, on_trim, s);
                if (r < 0)
                        (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
        }
        if (s->stopping)
                session_stop_go_on(s);
}

int session_on_update(sd_event_source *source, void *userdata) {
        session_refresh(userdata);
        return 0;
}
