/* SPDX-License-Identifier: MIT */

#include "bus-util.h"
#include "event-util.h"
#include "harness-properties.h"
#include "harness-unit.h"
#include "log.h"
#include "sandbox-probe.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit.h"

/* Waiting for its turn, for the old one to go, and the start itself. */
#define START_TIME_USEC (60 * USEC_PER_SEC)
/* Each pause is twice as long as the last one. Whoever waits is told when it was refused so often (after half a
 * minute, after three seconds). */
#define STOP_PAUSE_USEC USEC_PER_SEC
#define STOP_PAUSE_MAX_USEC (60 * USEC_PER_SEC)
#define STOPS_MAX 6U
#define THAW_PAUSE_USEC (100 * USEC_PER_MSEC)
#define THAWS_MAX 6U
/* Those whose connection is gone make room. */
#define CALLS_MAX 16U

typedef enum HarnessCallKind {
        HARNESS_CALL_STOPPED,
        HARNESS_CALL_ENDED,
        HARNESS_CALL_FREEZE,
} HarnessCallKind;

/* A session that waits. */
struct HarnessCall {
        LIST_ENTRY(HarnessCall) calls;
        HarnessUnit *unit;
        HarnessCallKind kind;
        sd_bus_message *call;
        sd_id128_t invocation;
        bool freeze;
        sd_bus_slot *slot;
        sd_event_source *again;         /* armed while a thaw that was refused is about to be asked for again */
        unsigned n_refused;
};

static HarnessCall* call_free(HarnessCall *c) {
        if (!c)
                return NULL;
        LIST_REMOVE(c, calls);
        c->unit->n_calls--;
        sd_bus_slot_unref(c->slot);
        sd_event_source_disable_unref(c->again);
        sd_bus_message_unref(c->call);
        return mfree(c);
}

static bool caller_is_there(sd_bus_message *call) {
        return sd_bus_is_open(sd_bus_message_get_bus(call)) > 0;
}

static int call_new(HarnessUnit *h, HarnessCallKind kind, sd_bus_message *message, HarnessCall **ret,
                    sd_bus_error *reterr_error) {
        HarnessCall *c = LIST_FIRST(&h->calls), *next;

        for (; c; c = next) {
                next = LIST_NEXT(c, calls);
                if (!caller_is_there(c->call))
                        (void) call_free(c);
        }
        if (h->n_calls >= CALLS_MAX)
                return bus_error_setf(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED, "%u calls wait already.",
                                      h->n_calls);
        c = new0(HarnessCall, 1);
        if (!c)
                return -ENOMEM;
        *c = (HarnessCall) { .unit = h, .kind = kind, .call = sd_bus_message_ref(message) };
        LIST_INSERT_HEAD(&h->calls, c, calls);
        h->n_calls++;
        if (ret)
                *ret = c;
        return 0;
}

int harness_unit_new(HarnessUnit **ret, Agent *a) {
        _cleanup_(harness_unit_freep) HarnessUnit *h = new0(HarnessUnit, 1);
        _cleanup_free_ char *escaped = unit_name_escape(a->home->id);
        int r;

        if (!h || !escaped)
                return -ENOMEM;
        h->agent = a;
        LIST_INIT(&h->calls);
        h->name = strjoin("puffo-harness@", escaped, ".service");
        if (!h->name)
                return -ENOMEM;
        r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", h->name, &h->path);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(h);
        return 0;
}

static void start_done(HarnessUnit *h) {
        h->start_slot = sd_bus_slot_unref(h->start_slot);
        h->start_timer = sd_event_source_disable_unref(h->start_timer);
        /* With it go its duplicates of the harness's ends of the pipes. */
        h->start = sd_bus_message_unref(h->start);
        h->request = harness_request_free(h->request);
        h->job = mfree(h->job);
        h->job_result = mfree(h->job_result);
        h->in_the_way = false;
}

HarnessUnit* harness_unit_free(HarnessUnit *h) {
        if (!h)
                return NULL;
        while (!LIST_EMPTY(&h->calls)) {
                HarnessCall *c = LIST_FIRST(&h->calls);

                (void) bus_reply_errorf(c->call, PUFFO_ERROR_NO_SUCH_AGENT, "This agent is gone.");
                (void) call_free(c);
        }
        if (h->start)
                (void) bus_reply_errorf(h->start, PUFFO_ERROR_NO_SUCH_AGENT, "This agent is gone.");
        start_done(h);
        for (size_t i = 0; i < ELEMENTSOF(h->refresh_slots); i++)
                sd_bus_slot_unref(h->refresh_slots[i]);
        sd_bus_slot_unref(h->stop_slot);
        sd_event_source_disable_unref(h->stop_timer);
        sd_event_source_disable_unref(h->retry);
        free(h->stop_job);
        free(h->end.result);
        free(h->active);
        free(h->result);
        free(h->name);
        free(h->path);
        return mfree(h);
}

static bool is_up(const HarnessUnit *h) {
        return h->active && !streq(h->active, "inactive") && !streq(h->active, "failed");
}

const char* harness_unit_state(const HarnessUnit *h) {
        if (h->start || streq_ptr(h->active, "activating"))
                return "starting";
        return !is_up(h) ? "none" : h->frozen ? "frozen" : "running";
}

bool harness_unit_is_gone(const HarnessUnit *h) {
        return h->listed && !is_up(h) && !h->start && !h->stopping;
}

bool harness_unit_is_starting(const HarnessUnit *h) {
        return h->job;
}

/* A call whose answer is of no interest. */
static void tell_systemd(HarnessUnit *h, const char *member) {
        int r = sd_bus_call_method_async(h->agent->manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, member,
                                         NULL, NULL, "s", h->name);

        if (r < 0)
                (void) log_agent(h->agent, LOG_WARNING, r, "%s of unit '%s' failed: %m", member, h->name);
}

/* --- its end --- */

static void reply_ended(HarnessUnit *h, HarnessCall *c) {
        const HarnessEnd unknown = { .result = (char*) "unknown" },
                         *end = sd_id128_equal(h->end.invocation, c->invocation) ? &h->end : &unknown;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(c->call, &reply);

        if (r >= 0)
                r = harness_append_end(reply, end);
        (void) (r < 0 ? sd_bus_reply_method_errno(c->call, r, NULL) : sd_bus_send(NULL, reply, NULL));
}

static void answer_calls(HarnessUnit *h) {
        for (HarnessCall *c = LIST_FIRST(&h->calls), *next; c; c = next) {
                next = LIST_NEXT(c, calls);
                if (c->kind == HARNESS_CALL_ENDED && !(is_up(h) && sd_id128_equal(h->invocation, c->invocation)))
                        reply_ended(h, c);
                else if (c->kind == HARNESS_CALL_STOPPED && !is_up(h) && !h->stopping)
                        (void) sd_bus_reply_method_return(c->call, NULL);
                else
                        continue;
                (void) call_free(c);
        }
}

static void log_end(const HarnessUnit *h) {
        bool fine = streq(h->end.result, "success");

        (void) log_agent(h->agent, fine || h->stopping ? LOG_INFO : LOG_WARNING, 0,
                         "The harness of agent '%s' has ended: %s (code %d, status %d).", h->agent->home->id,
                         h->end.result, h->end.code, h->end.status);
}

/* What was to be read has been read: the service manager may forget it. */
static void let_go(HarnessUnit *h) {
        if (h->referenced)
                tell_systemd(h, "UnrefUnit");
        h->referenced = h->referencing = false;
}

static void take_end(HarnessUnit *h) {
        uint64_t limit = h->agent->limits.memory_max;
        bool known = h->active && h->result;

        free(h->end.result);
        h->end = (HarnessEnd) {
                .invocation = h->invocation,
                .result = strdup(known ? h->result : "unknown"),
                .code = known ? h->code : 0,
                .status = known ? h->status : 0,
                /* What killed it may have been the limit of the slice that it shares with its session. */
                .memory_max = limit > 0 ? MIN(h->memory_max, limit) : h->memory_max,
        };
        if (!h->end.result) {
                h->end = (HarnessEnd) {};
                return;
        }
        log_end(h);
        if (h->frozen) /* the next one of that name would be said to be frozen (systemd-facts §8) */
                tell_systemd(h, "ThawUnit");
        h->frozen = false;
}

/* --- looking --- */

static void finish_start(HarnessUnit *h);
static void stop_refused(HarnessUnit *h, const char *why);

static void stop_done(HarnessUnit *h) {
        h->stop_timer = sd_event_source_disable_unref(h->stop_timer);
        h->n_stops_refused = 0;
        h->stopping = false;
}

void harness_unit_on_seen(HarnessUnit *h) {
        Agent *a = h->agent;

        h->refreshing = false;
        if (h->refresh_again) {
                harness_unit_refresh(h);
                return;
        }
        if (!h->listed && is_up(h))
                (void) log_agent(a, LOG_INFO, 0, "The harness of agent '%s' runs already: adopted.", a->home->id);
        h->listed = true;

        if (!is_up(h)) {
                if (!sd_id128_is_null(h->invocation) && !sd_id128_equal(h->invocation, h->end.invocation))
                        take_end(h);
                if (!h->stop_slot && !h->stop_job)
                        stop_done(h);
                if (!h->start || !h->job)
                        let_go(h);
        } else if (h->stopping && !h->stop_slot && !h->stop_job && !h->stop_timer)
                stop_refused(h, "its job has ended, and the unit is still there");
        if (h->start && h->job_result)
                finish_start(h);
        answer_calls(h);

        a->dirty |= AGENT_DIRTY_STATE;
        agent_evaluate(a);
        manager_check_known(a->manager);
}

void harness_unit_on_job_removed(HarnessUnit *h, const char *job, const char *result) {
        if (h->start && streq_ptr(h->job, job))
                (void) free_and_strdup(&h->job_result, result);
        if (streq_ptr(h->stop_job, job))
                h->stop_job = mfree(h->stop_job);
        harness_unit_refresh(h);
}

void harness_unit_on_removed(HarnessUnit *h) {
        h->in_the_way = false;
        harness_unit_refresh(h);
}

void harness_unit_resync(HarnessUnit *h) {
        if (h->start && !isempty(h->job))
                (void) free_and_strdup(&h->job_result, "unknown");
        h->stop_job = mfree(h->stop_job);
        harness_unit_refresh(h);
}

/* --- starting --- */

static void start_failed(HarnessUnit *h, const char *name, const char *why) {
        (void) log_agent(h->agent, LOG_WARNING, 0, "The harness of agent '%s' was not started: %s",
                         h->agent->home->id, why);
        (void) bus_reply_errorf(h->start, name, "%s", why);
        start_done(h);
        h->agent->dirty |= AGENT_DIRTY_STATE;
        harness_unit_refresh(h);
        manager_queue_settle(h->agent->manager);
}

static const char* notice_of(const HarnessUnit *h) {
        if (h->agent->config->sandbox_given)
                return "";
        return "agent.yml names no sandbox_profile: the tools of this agent see what its user sees (profile host). "
               "'puffoctl agent runtime ID --sandbox=workspace' keeps them in the workspace.";
}

static int append_started(sd_bus_message *m, const HarnessUnit *h) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "InvocationID");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "ay");
        if (r >= 0)
                r = sd_bus_message_append_array(m, 'y', &h->invocation, sizeof(h->invocation));
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}{sv}", "Profile", "s", sandbox_profile_to_string(h->profile),
                                          "Notice", "s", notice_of(h));
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static void finish_start(HarnessUnit *h) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ char *why = NULL;
        const char *step;
        int r;

        if (!sd_id128_is_null(h->invocation) &&
            (streq(h->job_result, "done") || (streq(h->job_result, "unknown") && is_up(h)))) {
                r = sd_bus_message_new_method_return(h->start, &reply);
                if (r >= 0)
                        r = append_started(reply, h);
                (void) (r < 0 ? sd_bus_reply_method_errno(h->start, r, NULL) : sd_bus_send(NULL, reply, NULL));
                start_done(h);
                manager_queue_settle(h->agent->manager);
                return;
        }

        let_go(h);
        step = unit_sandbox_step(h->status);
        if (step)
                why = asprintf_new("the service manager cannot make the sandbox '%s' (%s); see 'journalctl --%s "
                                   "--unit=%s'", sandbox_profile_to_string(h->profile), step,
                                   scope_to_string(h->agent->manager->scope), h->name);
        else
                why = asprintf_new("its start ended as '%s' (%s, status %d)", h->job_result, strempty(h->result),
                                   h->status);
        start_failed(h, step ? PUFFO_ERROR_SANDBOX_UNAVAILABLE : PUFFO_ERROR_FAILED, why ?: "out of memory");
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        HarnessUnit *h = userdata;
        const char *job;

        h->start_slot = sd_bus_slot_unref(h->start_slot);
        if (sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitExists")) {
                /* The last one has not gone yet. Its removal is told; whatever does not go is somebody's file. */
                h->job = mfree(h->job);
                h->in_the_way = true;
                let_go(h);
                tell_systemd(h, "ResetFailedUnit");
                harness_unit_refresh(h);
        } else if (e)
                start_failed(h, PUFFO_ERROR_FAILED, e->message ?: e->name);
        else if (sd_bus_message_read(m, "o", &job) < 0 || free_and_strdup(&h->job, job) < 0)
                start_failed(h, PUFFO_ERROR_FAILED, "out of memory");
        else
                h->referenced = true;
        return 0;
}

static int send_start(HarnessUnit *h, const int fds[static 3], sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_free_ char *reason = NULL;
        int r;

        r = unit_manager_call(h->agent->manager, "StartTransientUnit", &m);
        if (r >= 0)
                r = unit_append_harness(m, h->agent, h->name, h->request, fds, &reason);
        if (r < 0 && reason)
                return bus_error_setf(reterr_error, PUFFO_ERROR_SANDBOX_UNAVAILABLE, "%s", reason);
        return r < 0 ? r : sd_bus_call_async(h->agent->manager->bus, &h->start_slot, m, on_started, h, 0);
}

/* Some time has passed since it was asked for. What its paths lead to is looked at again, so that little is left for
 * somebody to change that; puffo-sandbox compares it with what it finds. */
static int call_start(HarnessUnit *h, sd_bus_error *reterr_error) {
        HarnessRequest *again;
        int fds[3], r;

        r = sd_bus_message_rewind(h->start, true);
        if (r >= 0)
                r = harness_request_read(&again, h->agent, h->start, reterr_error);
        if (r < 0)
                return r;
        harness_request_free(h->request);
        h->request = again;
        r = sd_bus_message_read(h->start, "hhh", &fds[0], &fds[1], &fds[2]);
        return r < 0 ? r : send_start(h, fds, reterr_error);
}

static int on_limits_set(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        HarnessUnit *h = userdata;
        int r;

        h->start_slot = sd_bus_slot_unref(h->start_slot);
        if (e) {
                start_failed(h, PUFFO_ERROR_FAILED, e->message ?: e->name);
                return 0;
        }
        /* agent.yml may have been read again: no profile is started that was not probed, and none but that is told. */
        if (h->profile != h->agent->config->sandbox) {
                h->job = mfree(h->job);
                manager_queue_settle(h->agent->manager);
                return 0;
        }
        r = call_start(h, &error);
        if (r < 0)
                start_failed(h, error.name ?: PUFFO_ERROR_FAILED, error.message ?: strerror(-r));
        return 0;
}

static void go_on_with_start(HarnessUnit *h) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        Manager *manager = h->agent->manager;
        _cleanup_free_ char *why = NULL;
        const char *reason;
        int r;

        if (h->job || h->refreshing || is_up(h) || h->stopping || h->in_the_way)
                return;
        if (!caller_is_there(h->start)) {
                start_done(h);
                return;
        }
        h->profile = h->agent->config->sandbox;
        r = sandbox_probe_check(manager->sandbox_probe, h->profile, &reason);
        if (r < 0) {
                why = asprintf_new("this machine cannot keep what the sandbox '%s' promises: %s",
                                   sandbox_profile_to_string(h->profile), reason);
                start_failed(h, PUFFO_ERROR_SANDBOX_UNAVAILABLE, why ?: reason);
                return;
        }
        if (r == 0 || units_n_starting(manager) >= manager->config->max_parallel_starts)
                return;
        h->job = strdup("");
        r = h->job ? agent_call_set_limits(h->agent, &m) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_call_async(manager->bus, &h->start_slot, m, on_limits_set, h, 0);
        if (r < 0)
                start_failed(h, PUFFO_ERROR_FAILED, strerror(-r));
}

static int on_start_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        HarnessUnit *h = userdata;
        bool asked = h->job, in_the_way = h->in_the_way;

        start_failed(h, asked || in_the_way ? PUFFO_ERROR_FAILED : PUFFO_ERROR_NOT_READY,
                     in_the_way ? "another unit has its name; 'systemctl cat' shows where it is" :
                     asked      ? "it has not started in time"
                                : "its turn to start has not come in time; try again later");
        if (asked)
                harness_unit_stop(h);
        return 0;
}

int harness_unit_start(HarnessUnit *h, sd_bus_message *call, HarnessRequest *request, sd_bus_error *reterr_error) {
        int r = 0;

        if (h->start && !h->job && !caller_is_there(h->start))
                start_done(h);
        if (h->start || (is_up(h) && !h->stopping)) {
                harness_request_free(request);
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_HARNESS_RUNNING,
                                        "This agent's harness runs already, or is about to.");
        }
        h->request = request;
        h->start = sd_bus_message_ref(call);
        r = event_arm_timer(h->agent->manager->event, &h->start_timer, START_TIME_USEC, 0, on_start_timeout, h);
        if (r < 0) {
                start_done(h);
                return r;
        }
        h->agent->dirty |= AGENT_DIRTY_STATE;
        manager_queue_settle(h->agent->manager);
        return 1;
}

/* --- stopping, waiting, freezing --- */

static void call_stop(HarnessUnit *h);

static uint64_t pause_doubled(uint64_t first, uint64_t most, unsigned n) {
        uint64_t pause = first;

        while (n-- > 1 && pause < most)
                pause *= 2;
        return MIN(pause, most);
}

static int on_stop_again(sd_event_source *s, uint64_t usec, void *userdata) {
        HarnessUnit *h = userdata;

        h->stop_timer = sd_event_source_disable_unref(h->stop_timer);
        if (h->stopping)
                call_stop(h);
        else                    /* it was given up, but what is to go without a session is still to go */
                manager_queue_settle(h->agent->manager);
        return 0;
}

static void stop_given_up(HarnessUnit *h, const char *why) {
        _cleanup_free_ char *text = asprintf_new("The service manager does not stop unit '%s': %s", h->name, why);

        h->stopping = false;
        for (HarnessCall *c = LIST_FIRST(&h->calls), *next; c; c = next) {
                next = LIST_NEXT(c, calls);
                if (c->kind != HARNESS_CALL_STOPPED)
                        continue;
                (void) bus_reply_errorf(c->call, PUFFO_ERROR_FAILED, "%s", text ?: "out of memory");
                (void) call_free(c);
        }
        if (h->start)
                start_failed(h, PUFFO_ERROR_FAILED, text ?: "out of memory");
        agent_evaluate(h->agent);
}

static void stop_refused(HarnessUnit *h, const char *why) {
        uint64_t pause = pause_doubled(STOP_PAUSE_USEC, STOP_PAUSE_MAX_USEC, ++h->n_stops_refused);
        int r;

        (void) log_agent(h->agent, h->n_stops_refused == STOPS_MAX ? LOG_ERR : LOG_WARNING, 0,
                         "Failed to stop unit '%s', trying again in %" PRIu64 " s: %s", h->name, pause / USEC_PER_SEC,
                         why);
        r = event_arm_timer(h->agent->manager->event, &h->stop_timer, pause, 0, on_stop_again, h);
        if (r < 0)
                (void) log_agent(h->agent, LOG_ERR, r, "Failed to arm a timer: %m");
        if (r < 0 || h->n_stops_refused >= STOPS_MAX)
                stop_given_up(h, why);
}

static int on_stopped(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        HarnessUnit *h = userdata;
        const char *job;

        h->stop_slot = sd_bus_slot_unref(h->stop_slot);
        if (e && !sd_bus_error_has_name(e, "org.freedesktop.systemd1.NoSuchUnit"))
                stop_refused(h, e->message ?: e->name);
        else if (!e && sd_bus_message_read(m, "o", &job) >= 0)
                (void) free_and_strdup(&h->stop_job, job);
        harness_unit_refresh(h);
        return 0;
}

static int send_stop(HarnessUnit *h, sd_bus_slot **slot, sd_bus_message_handler_t callback) {
        return sd_bus_call_method_async(h->agent->manager->bus, slot, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        "StopUnit", callback, h, "ss", h->name, "replace");
}

static void call_stop(HarnessUnit *h) {
        int r = send_stop(h, &h->stop_slot, on_stopped);

        if (r < 0)
                stop_refused(h, strerror(-r));
}

void harness_unit_stop(HarnessUnit *h) {
        if (h->start) {
                bool asked = h->job;

                start_failed(h, PUFFO_ERROR_FAILED, "it was stopped before it had started");
                if (!asked && !is_up(h))
                        return;
        }
        if (h->stopping)
                return;
        h->stop_timer = sd_event_source_disable_unref(h->stop_timer);
        h->stopping = true;
        call_stop(h);
}

void harness_unit_abandon(HarnessUnit *h) {
        if (h->job || !h->listed || is_up(h))
                (void) send_stop(h, NULL, NULL);
        let_go(h);
}

void harness_unit_settle(HarnessUnit *h, bool session_is_gone) {
        if (!h->listed)
                return;
        if (session_is_gone && (is_up(h) || h->start)) {
                if (!h->stopping && !h->stop_timer)
                        harness_unit_stop(h);
        } else if (h->start)
                go_on_with_start(h);
}

int harness_unit_wait_stopped(HarnessUnit *h, sd_bus_message *call, sd_bus_error *reterr_error) {
        int r = call_new(h, HARNESS_CALL_STOPPED, call, NULL, reterr_error);

        if (r < 0)
                return r;
        if (!h->stopping)
                h->n_stops_refused = 0;
        /* Also when nothing is known of one: it may have been started by a puffod before us, an instant ago. */
        harness_unit_stop(h);
        return 1;
}

int harness_unit_wait_ended(HarnessUnit *h, sd_bus_message *call, sd_id128_t invocation, sd_bus_error *reterr_error) {
        HarnessCall *c;
        int r = call_new(h, HARNESS_CALL_ENDED, call, &c, reterr_error);

        if (r < 0)
                return r;
        c->invocation = invocation;
        if (h->listed && !h->refreshing)
                answer_calls(h);
        return 1;
}

static int call_freeze(HarnessCall *c);

static void freeze_done(HarnessCall *c, bool frozen) {
        HarnessUnit *h = c->unit;

        (void) sd_bus_reply_method_return(c->call, "b", (int) frozen);
        (void) call_free(c);
        harness_unit_refresh(h);
}

static void thaw_failed(HarnessCall *c, const char *why) {
        HarnessUnit *h = c->unit;

        (void) bus_reply_errorf(c->call, PUFFO_ERROR_FAILED, "Unit '%s' cannot be thawed: %s", h->name, why);
        (void) call_free(c);
        harness_unit_refresh(h);
}

static int on_thaw_again(sd_event_source *s, uint64_t usec, void *userdata) {
        HarnessCall *c = userdata;
        int r;

        c->again = sd_event_source_disable_unref(c->again);
        if (!is_up(c->unit) || !c->unit->frozen) {
                freeze_done(c, false);
                return 0;
        }
        r = call_freeze(c);
        if (r < 0)
                thaw_failed(c, strerror(-r));
        return 0;
}

/* One that is frozen hears nothing: not to know better than that it still is, is no answer to who wants it awake. */
static void thaw_refused(HarnessCall *c, const char *why) {
        uint64_t pause = pause_doubled(THAW_PAUSE_USEC, UINT64_MAX / 2, ++c->n_refused);
        int r = c->n_refused >= THAWS_MAX ? -EBUSY
                                          : event_arm_timer(c->unit->agent->manager->event, &c->again, pause,
                                                            10 * USEC_PER_MSEC, on_thaw_again, c);

        if (r < 0)
                thaw_failed(c, why);
}

static int on_froze(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        HarnessCall *c = userdata;
        HarnessUnit *h = c->unit;

        c->slot = sd_bus_slot_unref(c->slot);
        if (e)
                (void) log_agent(h->agent, LOG_INFO, 0, "Unit '%s' was not %s: %s", h->name,
                                 c->freeze ? "frozen" : "thawed", e->message ?: e->name);
        else            /* before it has been looked at again there may be another call */
                h->frozen = c->freeze && is_up(h);
        if (e && !c->freeze && h->frozen && is_up(h))
                thaw_refused(c, e->message ?: e->name);
        else
                freeze_done(c, h->frozen);
        return 0;
}

static int call_freeze(HarnessCall *c) {
        HarnessUnit *h = c->unit;

        return sd_bus_call_method_async(h->agent->manager->bus, &c->slot, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        c->freeze ? "FreezeUnit" : "ThawUnit", on_froze, c, "s", h->name);
}

int harness_unit_freeze(HarnessUnit *h, sd_bus_message *call, bool freeze, sd_bus_error *reterr_error) {
        HarnessCall *c;
        int r;

        if (!is_up(h) || h->start || h->stopping)
                return sd_bus_reply_method_return(call, "b", 0);
        r = call_new(h, HARNESS_CALL_FREEZE, call, &c, reterr_error);
        if (r < 0)
                return r;
        c->freeze = freeze;
        r = call_freeze(c);
        if (r < 0) {
                (void) call_free(c);
                return r;
        }
        return 1;
}
