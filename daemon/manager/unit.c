/* SPDX-License-Identifier: MIT */

#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "harness-unit.h"
#include "log.h"
#include "sandbox-probe.h"
#include "string-util.h"
#include "unit-property.h"
#include "unit.h"

/* After a start that the service manager refused; crashes are its own business (RestartUSec=). */
#define RETRY_USEC (10 * USEC_PER_SEC)
#define END_PAUSE_MAX_USEC (10 * 60 * USEC_PER_SEC)
/* Who has run for so long may begin with the shortest pause again. */
#define STEADY_USEC (60 * USEC_PER_SEC)

/* --- looking --- */

bool agent_unit_is_up(const Agent *a) {
        return a->unit_state.active && !streq(a->unit_state.active, "inactive") &&
               !streq(a->unit_state.active, "failed");
}

/* A restart is one job, in the middle of which the unit is down. */
bool agent_session_is_gone(const Agent *a) {
        return a->listed && !a->refreshing && !a->job && a->unit_state.job_id == 0 && !agent_unit_is_up(a);
}

static int on_result(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        const char *result;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "v", "s", &result) >= 0)
                (void) free_and_strdup(&a->unit_state.result, result);
        return 0;
}

static void take_number(Agent *a, sd_bus_message *m, uint32_t *target) {
        uint32_t n = 0;

        if (m && !sd_bus_message_is_method_error(m, NULL))
                (void) sd_bus_message_read(m, "v", "u", &n);
        if (*target != n)
                a->dirty |= AGENT_DIRTY_STATE;
        *target = n;
}

static int on_main_pid(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;

        take_number(a, m, &a->unit_state.main_pid);
        return 0;
}

/* A unit of the right name may be anybody's: a file, or one that was started while nobody was here. Ours are transient
 * and in the agent's slice, whatever drop-ins they have. Whose a run is does not change as long as it lasts. */
static void judge(Agent *a) {
        bool foreign;

        if (sd_id128_is_null(a->unit_state.invocation) || !a->unit_state.slice)
                return;                 /* not told: what was known before holds */
        foreign = !a->unit_state.transient || !streq(a->unit_state.slice, a->slice);
        if (foreign && !(a->foreign && sd_id128_equal(a->judged, a->unit_state.invocation)))
                (void) log_agent(a, LOG_WARNING, 0, "Unit '%s' runs and is not the session of agent '%s': it is %s.",
                                 a->unit, a->home->id,
                                 a->unit_state.transient ? "in a slice of somebody else's" : "of a unit file");
        a->judged = a->unit_state.invocation;
        a->foreign = foreign;
}

static void refresh_done(Agent *a) {
        Manager *manager = a->manager;

        /* For the agent it is not there; its name is taken, as a start will find. */
        if (a->foreign) {
                (void) free_and_strdup(&a->unit_state.active, "inactive");
                (void) free_and_strdup(&a->unit_state.sub, "dead");
                take_number(a, NULL, &a->unit_state.main_pid);
                take_number(a, NULL, &a->unit_state.n_restarts);
                a->adopted = false;
        }
        if (!a->listed) {
                a->listed = true;
                if (streq_ptr(a->unit_state.active, "active") || streq_ptr(a->unit_state.active, "activating")) {
                        a->log_fields[2] = PUFFO_MESSAGE_AGENT_ADOPTED;
                        (void) log_agent(a, LOG_INFO, 0, "Agent '%s' runs already (PID %u): adopted.", a->home->id,
                                         a->unit_state.main_pid);
                        a->log_fields[2] = NULL;
                        /* The limits that it was started with may be of another day. */
                        agent_check_limits(a);
                }
        }

        a->refreshing = false;
        if (a->refresh_again)
                agent_refresh_unit(a);
        agent_evaluate(a);
        manager_queue_settle(manager);
        manager_check_known(manager);
}

static int on_restarts(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;

        take_number(a, m, &a->unit_state.n_restarts);
        return 0;
}

static int on_invocation(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        const void *id;
        size_t size;

        a->unit_state.invocation = SD_ID128_NULL;
        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_enter_container(m, 'v', "ay") > 0 &&
            sd_bus_message_read_array(m, 'y', &id, &size) >= 0 && size == sizeof(a->unit_state.invocation))
                memcpy(&a->unit_state.invocation, id, size);
        return 0;
}

static int on_transient(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        int transient;

        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "v", "b", &transient) >= 0)
                a->unit_state.transient = transient;
        else
                a->unit_state.invocation = SD_ID128_NULL;
        return 0;
}

/* The last of the answers: replies come in the order of the questions. */
static int on_slice(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *slice = NULL;
        Agent *a = userdata;

        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "v", "s", &slice) < 0)
                slice = NULL;
        (void) free_and_strdup(&a->unit_state.slice, slice);
        judge(a);
        refresh_done(a);
        return 0;
}

static int ask_service_properties(Agent *a) {
        static const struct {
                const char *interface, *property;
                sd_bus_message_handler_t handler;
        } questions[] = {
                { SYSTEMD_SERVICE, "Result", on_result },
                { SYSTEMD_SERVICE, "MainPID", on_main_pid },
                { SYSTEMD_SERVICE, "NRestarts", on_restarts },
                { SYSTEMD_UNIT, "InvocationID", on_invocation },
                { SYSTEMD_UNIT, "Transient", on_transient },
                { SYSTEMD_SERVICE, "Slice", on_slice },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(questions) && r >= 0; i++) {
                a->refresh_slots[i + 1] = sd_bus_slot_unref(a->refresh_slots[i + 1]);
                r = sd_bus_call_method_async(a->manager->bus, &a->refresh_slots[i + 1], SYSTEMD, a->unit_path,
                                             "org.freedesktop.DBus.Properties", "Get", questions[i].handler, a, "ss",
                                             questions[i].interface, questions[i].property);
        }
        return r;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Agent *a = userdata;

        a->retry = sd_event_source_disable_unref(a->retry);
        a->in_the_way_before = a->in_the_way;
        a->ended = a->in_the_way = a->stop_refused = false;
        /* Whatever it was armed for, nothing is done on what was known then. */
        agent_refresh_unit(a);
        agent_evaluate(a);
        return 0;
}

static void retry_later(Agent *a, uint64_t usec) {
        int r = event_arm_timer(a->manager->event, &a->retry, usec, 0, on_retry, a);

        if (r < 0)
                (void) log_agent(a, LOG_ERR, r, "Failed to arm a timer: %m");
}

/* What stood in the way of a start has gone. */
static void check_way_is_free(Agent *a) {
        if (!a->in_the_way)
                return;
        a->in_the_way = false;
        a->retry = sd_event_source_disable_unref(a->retry);
}

uint64_t unit_end_pause(uint64_t restart_usec, unsigned n_ends) {
        uint64_t pause = restart_usec;

        while (n_ends-- > 1 && pause < END_PAUSE_MAX_USEC)
                pause *= 2;
        return MAX(MIN(pause, END_PAUSE_MAX_USEC), restart_usec);
}

/* The service manager makes the pause after a crash. A session that ends without an error and without our wish goes
 * for good with it, and one that did so again and again would be started again and again. It may be so quick that it
 * is never seen to be up: then all that is known is that a job of ours has ended and that there is nothing. */
static void check_end(Agent *a, const char *active) {
        const char *before = a->unit_state.active;
        bool was_up = before && !streq(before, "inactive") && !streq(before, "failed");
        bool started = a->start_ended;
        uint64_t now = now_boottime_usec(), ran;

        a->start_ended = false;
        if (!streq(active, "inactive")) {
                if (a->ended)
                        a->retry = sd_event_source_disable_unref(a->retry);
                a->ended = false;
                if (!streq(active, "active"))
                        a->up_since_usec = 0;
                else if (a->up_since_usec == 0)
                        a->up_since_usec = now;
                return;
        }
        ran = a->up_since_usec > 0 ? now - a->up_since_usec : 0;
        a->up_since_usec = 0;
        if (!(was_up || started) || a->job || a->stopping || a->retry || !a->config || !a->config->running ||
            a->removing)
                return;

        a->n_ends = ran >= STEADY_USEC ? 1 : a->n_ends + 1;
        retry_later(a, unit_end_pause(a->manager->restart_usec, a->n_ends));
        a->ended = a->retry != NULL;
        (void) log_agent(a, LOG_NOTICE, 0, "The session of agent '%s' ended by itself, it is started again in %" PRIu64
                         " s.", a->home->id, unit_end_pause(a->manager->restart_usec, a->n_ends) / USEC_PER_SEC);
}

static int on_listed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *active = "inactive", *sub = "dead";
        uint32_t job_id = 0;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Agent *a = userdata;
        int r;

        if (e) {
                /* Not to know is not to know that it is down. A service manager that executes itself anew says so
                 * when it is back. */
                (void) log_agent(a, LOG_WARNING, 0, "The state of unit '%s' is not told, asking again later: %s",
                                 a->unit, e->message ?: e->name);
                a->refreshing = false;
                if (!a->retry)
                        retry_later(a, RETRY_USEC);
                return 0;
        }
        if (sd_bus_message_enter_container(m, 'a', "(ssssssouso)") > 0)
                (void) sd_bus_message_read(m, "(ssssssouso)", NULL, NULL, NULL, &active, &sub, NULL, NULL, &job_id,
                                           NULL, NULL);
        a->unit_state.job_id = job_id;
        check_end(a, active);
        (void) free_and_strdup(&a->unit_state.active, active);
        (void) free_and_strdup(&a->unit_state.sub, sub);

        if (!a->listed)
                a->adopted = streq(active, "active");
        if (streq(active, "inactive")) {
                a->foreign = false;
                take_number(a, NULL, &a->unit_state.main_pid);
                take_number(a, NULL, &a->unit_state.n_restarts);
                refresh_done(a);
                return 0;
        }
        r = ask_service_properties(a);
        if (r < 0) {
                (void) log_agent(a, LOG_ERR, r, "Failed to ask for the state of unit '%s': %m", a->unit);
                refresh_done(a);
        }
        return 0;
}

/* Patterns, because only those leave units that are not loaded alone: asking for such a unit's properties loads it,
 * drops it again and sends UnitRemoved, at which we would ask again, for ever. An escaped name is a pattern that
 * matches itself alone: it has no '*', '?' or '[', and backslashes mean nothing there (FNM_NOESCAPE). */
void agent_refresh_unit(Agent *a) {
        int r;

        if (a->refreshing) {
                a->refresh_again = true;
                return;
        }
        a->refresh_again = false;

        a->refresh_slots[0] = sd_bus_slot_unref(a->refresh_slots[0]);
        r = sd_bus_call_method_async(a->manager->bus, &a->refresh_slots[0], SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                     "ListUnitsByPatterns", on_listed, a, "asas", 0, 1, a->unit);
        if (r < 0) {
                (void) log_agent(a, LOG_ERR, r, "Failed to ask for the state of unit '%s': %m", a->unit);
                return;
        }
        a->refreshing = true;
}

static HarnessUnit* find_harness(Manager *m, const char *unit) {
        for (size_t i = 0; i < m->n_agents; i++)
                if (streq(m->agents[i]->harness->name, unit))
                        return m->agents[i]->harness;
        return NULL;
}

static Agent* find_by_unit(Manager *m, const char *unit) {
        for (size_t i = 0; i < m->n_agents; i++)
                if (streq(m->agents[i]->unit, unit))
                        return m->agents[i];
        return NULL;
}

/* Anybody on the bus can send a signal to us alone, whatever we asked to be told of, and sd-bus knows of unique names
 * only. What was missed before the owner is known is made up for in on_subscribed(). */
static bool is_from_systemd(Manager *manager, sd_bus_message *m) {
        return manager->systemd_owner && streq_ptr(sd_bus_message_get_sender(m), manager->systemd_owner);
}

static int on_unit_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *path = sd_bus_message_get_path(m);
        Manager *manager = userdata;

        if (!is_from_systemd(manager, m))
                return 0;
        for (size_t i = 0; path && i < manager->n_agents; i++)
                if (streq(manager->agents[i]->unit_path, path))
                        agent_refresh_unit(manager->agents[i]);
                else if (streq(manager->agents[i]->harness->path, path))
                        harness_unit_refresh(manager->agents[i]->harness);
        return 0;
}

static int on_unit_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *unit;
        HarnessUnit *h;
        Agent *a;

        if (!is_from_systemd(userdata, m) || sd_bus_message_read(m, "so", &unit, NULL) < 0)
                return 0;
        h = find_harness(userdata, unit);
        if (h)
                harness_unit_on_removed(h);
        a = find_by_unit(userdata, unit);
        if (!a)
                return 0;
        check_way_is_free(a);
        agent_refresh_unit(a);
        return 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *job, *unit, *result;
        HarnessUnit *h;
        Agent *a;

        if (!is_from_systemd(userdata, m) || sd_bus_message_read(m, "uoss", NULL, &job, &unit, &result) < 0)
                return 0;
        h = find_harness(userdata, unit);
        if (h)
                harness_unit_on_job_removed(h, job, result);
        sandbox_probe_on_job_removed(((Manager*) userdata)->sandbox_probe, unit, result);
        a = find_by_unit(userdata, unit);
        if (!a)
                return 0;

        if (streq_ptr(a->job, job)) {
                a->job = mfree(a->job);
                a->start_ended = !a->stopping;
                if (a->job_is_start && !streq(result, "done") && !streq(result, "canceled"))
                        (void) log_agent(a, LOG_WARNING, 0, "Start of unit '%s' ended as '%s'.", a->unit, result);
        } else
                check_way_is_free(a);
        agent_refresh_unit(a);
        return 0;
}

/* Sessions and harnesses of agents that went while nobody was here to stop them: they have no files to work with, and
 * keys in memory. */
static int on_sessions_listed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Manager *manager = userdata;
        const char *unit;
        int r;

        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_enter_container(m, 'a', "(ssssssouso)") < 0)
                return 0;
        while (sd_bus_message_read(m, "(ssssssouso)", &unit, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL) >
               0) {
                if (find_by_unit(manager, unit) || find_harness(manager, unit))
                        continue;
                log_notice("Unit '%s' belongs to no agent any more: stopping it.", unit);
                r = sd_bus_call_method_async(manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "StopUnit",
                                             NULL, NULL, "ss", unit, "replace");
                if (r < 0)
                        (void) log_error_errno(r, "Failed to stop unit '%s': %m", unit);
        }
        return 0;
}

static int on_subscribed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Manager *manager = userdata;

        /* It may have come onto the bus between our two ways of noticing it: then both have asked. */
        if (e && !sd_bus_error_has_name(e, "org.freedesktop.systemd1.AlreadySubscribed"))
                log_error("The service manager does not let us subscribe to its signals: %s", e->message);
        if (free_and_strdup(&manager->systemd_owner, sd_bus_message_get_sender(m)) < 0)
                return -ENOMEM;
        manager->bus_ready = true;
        for (size_t i = 0; i < manager->n_agents; i++) {
                /* The end of a job may have been told while nobody listened: what it led to is seen in the unit. */
                if (!isempty(manager->agents[i]->job))
                        manager->agents[i]->job = mfree(manager->agents[i]->job);
                agent_refresh_unit(manager->agents[i]);
                harness_unit_resync(manager->agents[i]->harness);
        }
        manager_queue_settle(manager);
        manager_check_known(manager);
        return sd_bus_call_method_async(manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        "ListUnitsByPatterns", on_sessions_listed, manager, "asas", 3, "active",
                                        "activating", "reloading", 2, "puffo-session@*.service",
                                        "puffo-harness@*.service");
}

static int on_systemd_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *name, *old_owner, *new_owner;
        Manager *manager = userdata;

        /* A service manager that executed itself anew knows of no subscription. */
        if (!streq_ptr(sd_bus_message_get_sender(m), "org.freedesktop.DBus") ||
            sd_bus_message_read(m, "sss", &name, &old_owner, &new_owner) < 0 || isempty(new_owner))
                return 0;
        return sd_bus_call_method_async(manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "Subscribe",
                                        on_subscribed, manager, NULL);
}

int units_watch(Manager *m) {
        int r;

        r = sd_bus_match_signal_async(m->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved",
                                      on_job_removed, NULL, m);
        if (r >= 0)
                r = sd_bus_match_signal_async(m->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "UnitRemoved",
                                              on_unit_removed, NULL, m);
        if (r >= 0)
                r = sd_bus_add_match_async(m->bus, NULL,
                                           "type='signal',sender='" SYSTEMD
                                           "',path_namespace='/org/freedesktop/systemd1/unit',"
                                           "interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                                           on_unit_changed, NULL, m);
        if (r >= 0)
                r = sd_bus_add_match_async(
                                m->bus, NULL,
                                "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                                "member='NameOwnerChanged',arg0='" SYSTEMD "'",
                                on_systemd_owner_changed, NULL, m);
        if (r < 0)
                return r;

        /* Without it a user manager sends next to no signals. What runs already is looked at once it is in force. */
        return sd_bus_call_method_async(m->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "Subscribe",
                                        on_subscribed, m, NULL);
}

unsigned units_n_starting(Manager *m) {
        unsigned n = 0;

        for (size_t i = 0; i < m->n_agents; i++)
                n += (m->agents[i]->job && m->agents[i]->job_is_start) +
                     harness_unit_is_starting(m->agents[i]->harness);
        return n;
}

/* --- starting and stopping --- */

static void start_failed(Agent *a, const char *why) {
        a->job = mfree(a->job);
        (void) free_and_strdup(&a->status_text, why);
        (void) log_agent(a, LOG_ERR, 0, "Failed to start unit '%s': %s", a->unit, why);
        retry_later(a, RETRY_USEC);
        agent_refresh_unit(a);
}

static int take_job(Agent *a, sd_bus_message *m) {
        const char *job;
        int r = sd_bus_message_read(m, "o", &job);

        return r < 0 ? r : free_and_strdup(&a->job, job);
}

/* A unit of that name is there still (failed, or being collected), or there again. The service manager tells when it
 * has gone; one that does not go is somebody's file, which is looked at again now and then. */
static void wait_for_removal(Agent *a) {
        a->job = mfree(a->job);
        if (a->in_the_way_before)
                start_failed(a, "another unit has its name; remove that one's file ('systemctl cat' shows where it "
                                "is)");
        else
                retry_later(a, RETRY_USEC);
        a->in_the_way = true;
        (void) sd_bus_call_method_async(a->manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        "ResetFailedUnit", NULL, NULL, "s", a->unit);
        agent_refresh_unit(a);
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Agent *a = userdata;

        a->job_slot = sd_bus_slot_unref(a->job_slot);
        if (!e)
                a->in_the_way_before = false;
        if (sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitExists"))
                wait_for_removal(a);
        else if (e)
                start_failed(a, e->message ?: e->name);
        else if (take_job(a, m) < 0)
                start_failed(a, "out of memory");
        return 0;
}

static int on_limits_set(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        Agent *a = userdata;
        int r;

        a->job_slot = sd_bus_slot_unref(a->job_slot);
        if (e) {
                start_failed(a, e->message ?: e->name);
                return 0;
        }

        r = unit_manager_call(a->manager, "StartTransientUnit", &call);
        if (r >= 0)
                r = unit_append_session(call, a);
        if (r >= 0)
                r = sd_bus_call_async(a->manager->bus, &a->job_slot, call, on_started, a, 0);
        if (r < 0)
                start_failed(a, strerror(-r));
        return 0;
}

static int append_limit(sd_bus_message *m, const char *name, uint64_t value) {
        return sd_bus_message_append(m, "(sv)", name, "t", value);
}

int agent_call_set_limits(Agent *a, sd_bus_message **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        Limits l;
        int r;

        (void) agent_limits(a->manager, a->config, &l);
        r = unit_manager_call(a->manager, "SetUnitProperties", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "sb", a->slice, /* runtime= */ 1);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = append_limit(m, "MemoryHigh", l.memory_high);
        if (r >= 0)
                r = append_limit(m, "MemoryMax", l.memory_max);
        if (r >= 0)
                r = append_limit(m, "TasksMax", l.tasks_max);
        if (r >= 0)
                r = append_limit(m, "CPUWeight", l.cpu_weight);
        if (r >= 0)
                r = append_limit(m, "CPUQuotaPerSecUSec", l.cpu_quota_usec_per_sec);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r < 0)
                return r;
        a->limits = l;
        *ret = TAKE_PTR(m);
        return 0;
}

static int agent_apply_limits(Agent *a) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r = agent_call_set_limits(a, &m);

        return r < 0 ? r : sd_bus_call_async(a->manager->bus, NULL, m, NULL, NULL, 0);
}

void agent_check_limits(Agent *a) {
        Limits l;

        if (!a->listed || !a->config || !agent_unit_is_up(a))
                return;
        (void) agent_limits(a->manager, a->config, &l);
        if (memcmp(&l, &a->limits, sizeof(l)) != 0)
                (void) agent_apply_limits(a);
}

int agent_start_unit(Agent *a) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        a->job = strdup("");
        if (!a->job)
                return -ENOMEM;
        a->job_is_start = true;
        a->stopping = a->ended = a->in_the_way = a->start_ended = false;
        a->retry = sd_event_source_disable_unref(a->retry);

        r = agent_call_set_limits(a, &m);
        if (r >= 0)
                r = sd_bus_call_async(a->manager->bus, &a->job_slot, m, on_limits_set, a, 0);
        if (r < 0)
                start_failed(a, strerror(-r));
        return r;
}

static int on_stopped(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Agent *a = userdata;

        a->job_slot = sd_bus_slot_unref(a->job_slot);
        if (e && !sd_bus_error_has_name(e, "org.freedesktop.systemd1.NoSuchUnit")) {
                (void) log_agent(a, LOG_ERR, 0, "Failed to stop unit '%s': %s", a->unit, e->message);
                retry_later(a, RETRY_USEC);
                a->stop_refused = true;
        }
        if (e || take_job(a, m) < 0) {
                a->job = mfree(a->job);
                agent_refresh_unit(a);
        }
        return 0;
}

static int ask_for_job(Agent *a, const char *member) {
        int r;

        a->job_slot = sd_bus_slot_unref(a->job_slot);
        r = free_and_strdup(&a->job, "");
        if (r < 0)
                return r;
        a->job_is_start = false;
        r = sd_bus_call_method_async(a->manager->bus, &a->job_slot, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, member,
                                     on_stopped, a, "ss", a->unit, "replace");
        if (r < 0)
                a->job = mfree(a->job);
        return r;
}

int agent_stop_unit(Agent *a) {
        a->stopping = true;
        return ask_for_job(a, "StopUnit");
}

int agent_restart_unit(Agent *a) {
        return ask_for_job(a, "RestartUnit");
}

void unit_forget_slice(Manager *m, const char *slice) {
        (void) sd_bus_call_method_async(m->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "RevertUnitFiles", NULL,
                                        NULL, "as", 1, slice);
}
