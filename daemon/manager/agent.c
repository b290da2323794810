/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <sys/stat.h>

#include "agent.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "harness-unit.h"
#include "json-util.h"
#include "log.h"
#include "pending.h"
#include "private-server.h"
#include "string-util.h"
#include "unit.h"

const char* agent_state_to_string(AgentState s) {
        static const char *const names[_AGENT_STATE_MAX] = {
                [AGENT_STOPPED] = "stopped",
                [AGENT_STARTING] = "starting",
                [AGENT_READY] = "ready",
                [AGENT_BUSY] = "busy",
                [AGENT_RESTARTING] = "restarting",
                [AGENT_STOPPING] = "stopping",
                [AGENT_FAILED] = "failed",
                [AGENT_MISSING] = "missing",
        };

        return s >= 0 && s < _AGENT_STATE_MAX ? names[s] : NULL;
}

AgentState agent_state_derive(const char *active, const char *sub, const char *reported, bool desired_running) {
        if (streq_ptr(active, "deactivating")) /* a restart is a stop first */
                return desired_running ? AGENT_RESTARTING : AGENT_STOPPING;
        if (streq_ptr(active, "activating"))
                return streq_ptr(sub, "auto-restart") ? AGENT_RESTARTING : AGENT_STARTING;
        if (streq_ptr(active, "failed"))
                return desired_running ? AGENT_FAILED : AGENT_STOPPED;
        if (!streq_ptr(active, "active") && !streq_ptr(active, "reloading"))
                return AGENT_STOPPED;

        if (streq_ptr(reported, "ready"))
                return AGENT_READY;
        if (streq_ptr(reported, "busy") || streq_ptr(reported, AGENT_WAITING_APPROVAL))
                return AGENT_BUSY;
        if (streq_ptr(reported, "failed"))
                return AGENT_FAILED;
        return AGENT_STARTING;
}

int agent_check_stays(const Agent *a, sd_bus_error *reterr_error) {
        if (!a->removing)
                return 0;
        return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT, "Agent '%s' is being removed.", a->home->id);
}

bool agent_is_manager(const Agent *a) {
        return streq(a->home->id, ROLE_MANAGER);
}

static int build_names(Agent *a) {
        _cleanup_free_ char *escaped = unit_name_escape(a->home->id);
        int r;

        if (!escaped)
                return -ENOMEM;
        a->unit = strjoin("puffo-session@", escaped, ".service");
        a->slice = strjoin("puffo-", escaped, ".slice");
        if (!a->unit || !a->slice)
                return -ENOMEM;
        r = sd_bus_path_encode(PUFFO_BUS_AGENT_PREFIX, a->home->id, &a->path);
        if (r >= 0)
                r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", a->unit, &a->unit_path);
        if (r < 0)
                return r;

        a->log_field_agent = strjoin("PUFFO_AGENT=", a->home->id);
        a->log_field_unit = strjoin(a->manager->scope == SCOPE_USER ? "USER_UNIT=" : "UNIT=", a->unit);
        if (!a->log_field_agent || !a->log_field_unit)
                return -ENOMEM;
        a->log_fields[0] = a->log_field_agent;
        a->log_fields[1] = a->log_field_unit;
        return 0;
}

/* In system mode files of agents belong to their dynamic users; whose agent it is stands in a list of our own. */
void agent_read_owner(Agent *a) {
        _cleanup_free_ char *path = NULL, *text = NULL;
        uid_t owner = geteuid();
        uint32_t uid = 0;

        if (a->manager->paths->owners)
                path = path_join(a->manager->paths->owners, a->home->id);
        if (path && file_read(path, 32, &text, NULL) >= 0) {
                text[strcspn(text, "\n")] = 0;
                if (parse_u32(text, &uid) >= 0)
                        owner = uid;
        }
        if (a->owner != owner)
                a->dirty |= AGENT_DIRTY_CONFIG;
        a->owner = owner;
}

int agent_new(Agent **ret, Manager *m, AgentHome *home) {
        _cleanup_(agent_freep) Agent *a = NULL;
        int r;

        a = new0(Agent, 1);
        if (!a) {
                agent_home_free(home);
                return -ENOMEM;
        }
        a->manager = m;
        a->home = home;
        LIST_INIT(&a->pending);
        LIST_INIT(&a->relays);

        r = build_names(a);
        if (r < 0)
                return r;
        a->status_text = strdup("");
        a->reported_status = strdup("");
        a->reported_text = strdup("");
        a->reported_health = strdup("unknown");
        a->working_directory = strdup("");
        if (!a->status_text || !a->reported_status || !a->reported_text || !a->reported_health ||
            !a->working_directory)
                return -ENOMEM;
        agent_read_owner(a);

        r = harness_unit_new(&a->harness, a);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(a);
        return 0;
}

Agent* agent_free(Agent *a) {
        if (!a)
                return NULL;

        pending_fail_all(a);
        removal_forget_agent(a->removal);
        relays_forget_agent(a);
        if (a->manager->private_server)
                private_server_forget_agent(a->manager->private_server, a);
        harness_unit_free(a->harness);
        for (size_t i = 0; i < ELEMENTSOF(a->refresh_slots); i++)
                sd_bus_slot_unref(a->refresh_slots[i]);
        sd_bus_slot_unref(a->job_slot);
        sd_event_source_disable_unref(a->retry);
        resolved_model_done(&a->model);
        agent_config_free(a->config);
        free(a->config_problem);
        agent_home_free(a->home);
        free(a->unit_state.active);
        free(a->unit_state.sub);
        free(a->unit_state.result);
        free(a->unit_state.slice);
        free(a->job);
        free(a->path);
        free(a->unit);
        free(a->unit_path);
        free(a->slice);
        free(a->log_field_agent);
        free(a->log_field_unit);
        free(a->status_text);
        free(a->reported_status);
        free(a->reported_text);
        free(a->reported_health);
        free(a->working_directory);
        free(a->decided_kind);
        free(a->decided_harness);
        free(a->decided_provider);
        free(a->decided_model);
        strv_free(a->approvals);
        return mfree(a);
}

/* The administrator's key is for the administrator's addresses: in system mode an agent's owner, who may name any
 * address in agent.yml, would have it sent to himself. */
int agent_resolve_model(const Manager *m, const AgentConfig *c, ResolvedModel *ret) {
        ResolvedModel model = {};
        const ProviderConfig *p;
        int r;

        r = resolve_model(m->config, c, &model);
        if (r < 0)
                return r;
        p = daemon_config_provider(m->config, model.provider);
        if (m->scope == SCOPE_SYSTEM && isempty(c->api_key) && !isempty(c->llm_base_url) &&
            (!p || !streq(c->llm_base_url, p->base_url))) {
                r = free_and_strdup(&model.api_key, "");
                if (r < 0) {
                        resolved_model_done(&model);
                        return r;
                }
        }
        *ret = model;
        return 0;
}

static bool limit_tighten(uint64_t *value, uint64_t ceiling) {
        if (*value <= ceiling)
                return false;
        *value = ceiling;
        return true;
}

bool agent_limits(const Manager *m, const AgentConfig *c, Limits *ret) {
        const Limits *most = &m->config->limits;
        Limits l = resolve_limits(m->config, c);
        bool lower = false;

        if (m->scope == SCOPE_SYSTEM) {
                lower |= limit_tighten(&l.memory_high, most->memory_high);
                lower |= limit_tighten(&l.memory_max, most->memory_max);
                lower |= limit_tighten(&l.tasks_max, most->tasks_max);
                lower |= limit_tighten(&l.cpu_weight, most->cpu_weight);
                lower |= limit_tighten(&l.cpu_quota_usec_per_sec, most->cpu_quota_usec_per_sec);
        }
        *ret = l;
        return lower;
}

static int config_mtime(const Agent *a, uint64_t *ret) {
        struct stat st;

        if (stat(a->home->config_path, &st) < 0)
                return -errno;
        *ret = (uint64_t) st.st_mtim.tv_sec * 1000000000U + (uint64_t) st.st_mtim.tv_nsec + (uint64_t) st.st_ino;
        return 0;
}

int agent_load(Agent *a, char **reterr) {
        _cleanup_(agent_config_freep) AgentConfig *config = NULL;
        ResolvedModel model = {};
        uint64_t mtime = 0;
        Limits limits;
        int r;

        r = config_mtime(a, &mtime);
        if (r < 0)
                return r;
        if (a->config_mtime_nsec == mtime && a->config_problem) {
                *reterr = strdup(a->config_problem);
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        if (a->config && a->config_mtime_nsec == mtime)
                return 0;

        a->config_problem = mfree(a->config_problem);
        r = agent_config_load(&config, a->home->config_path, a->home->id, reterr);
        if (r < 0 && r != -ENOMEM) {
                /* Whatever it is, also a directory or a pipe in its place: it holds until the file is another one. */
                if (!*reterr)
                        *reterr = asprintf_new("%s: %s", a->home->config_path, strerror(-r));
                a->config_problem = *reterr ? strdup(*reterr) : NULL;
                if (!a->config_problem)
                        return -ENOMEM;
                r = -EBADMSG;
        }
        a->config_mtime_nsec = mtime;
        if (r < 0)
                return r;
        r = agent_resolve_model(a->manager, config, &model);
        if (r < 0)
                return r;
        for (char **w = config->warnings; w && *w; w++)
                (void) log_agent(a, LOG_WARNING, 0, "%s", *w);
        if (agent_limits(a->manager, config, &limits))
                (void) log_agent(a, LOG_WARNING, 0, "%s: limits above those in %s do not count.",
                                 a->home->config_path, a->manager->paths->daemon_yml);

        agent_config_free(a->config);
        a->config = TAKE_PTR(config);
        resolved_model_done(&a->model);
        a->model = model;
        a->created_at = a->config->created_at * USEC_PER_SEC;
        a->dirty |= AGENT_DIRTY_CONFIG;
        return 1;
}

int agent_save(Agent *a) {
        ResolvedModel model = {};
        int r;

        r = agent_config_save(a->config, a->home->config_path);
        if (r < 0)
                return r;
        (void) config_mtime(a, &a->config_mtime_nsec);
        r = agent_resolve_model(a->manager, a->config, &model);
        if (r < 0)
                return r;
        resolved_model_done(&a->model);
        a->model = model;
        a->dirty |= AGENT_DIRTY_CONFIG;
        manager_queue_settle(a->manager);
        return 0;
}

int agent_set_desired(Agent *a, bool running) {
        _cleanup_free_ char *error = NULL;
        int r;

        /* Somebody may have edited the file a moment ago: that must not be written over. */
        r = agent_load(a, &error);
        if (r < 0)
                return r;
        if (a->config->running == running)
                return 0;

        a->config->running = running;
        r = agent_save(a);
        if (r < 0) {
                a->config->running = !running;
                return r;
        }
        a->dirty |= AGENT_DIRTY_STATE;
        return 1;
}

static void set_status_text(Agent *a, const char *text) {
        if (free_and_strdup(&a->status_text, text) == 0)
                a->dirty |= AGENT_DIRTY_STATE;
}

static void agent_set_state(Agent *a, AgentState state) {
        const char *message_id = NULL;

        if (a->state == state)
                return;

        if (state == AGENT_READY && a->adopted)
                a->adopted = false;
        else if (state == AGENT_READY &&
                 (a->state == AGENT_STARTING || a->state == AGENT_STOPPED || a->state == AGENT_RESTARTING))
                message_id = PUFFO_MESSAGE_AGENT_STARTED;
        else if (state == AGENT_STOPPED)
                message_id = PUFFO_MESSAGE_AGENT_STOPPED;
        else if (state == AGENT_FAILED)
                message_id = PUFFO_MESSAGE_AGENT_FAILED;

        a->log_fields[2] = message_id;
        (void) log_agent(a,
                         state == AGENT_FAILED ? LOG_WARNING
                         : message_id          ? LOG_INFO
                                               : LOG_DEBUG,
                         0, "Agent '%s' is %s%s%s.", a->home->id, agent_state_to_string(state),
                         state == AGENT_FAILED && *a->status_text ? ": " : "",
                         state == AGENT_FAILED ? a->status_text : "");
        a->log_fields[2] = NULL;

        a->state = state;
        a->dirty |= AGENT_DIRTY_STATE;
}

static bool unit_is_down(const Agent *a) {
        return !a->unit_state.active || streq(a->unit_state.active, "inactive") ||
               streq(a->unit_state.active, "failed");
}

bool agent_is_wanted(const Agent *a) {
        return a->config && a->config->running && !a->removing && !a->missing;
}

void agent_look_for_workspace(Agent *a) {
        struct stat st;
        bool missing;

        /* In system mode it is a part of the agent's own directory, which only its user may look into. */
        if (!a->home->role || a->manager->scope == SCOPE_SYSTEM)
                return;
        missing = stat(a->home->workspace, &st) < 0 ? errno == ENOENT || errno == ENOTDIR : !S_ISDIR(st.st_mode);
        if (missing == a->missing)
                return;
        a->missing = missing;
        if (missing)
                (void) log_agent(a, LOG_WARNING, 0, "The workspace of agent '%s', '%s', is gone.", a->home->id,
                                 a->home->workspace);
        if (a->listed)
                agent_evaluate(a);
}

static void set_missing_text(Agent *a) {
        _cleanup_free_ char *text = strjoin("the workspace ", a->home->workspace, " is gone; 'agent-proxy init ",
                                            a->home->id, "' makes it again");

        if (text)
                set_status_text(a, text);
}

void agent_evaluate(Agent *a) {
        bool desired = agent_is_wanted(a);
        AgentState state = agent_state_derive(a->unit_state.active, a->unit_state.sub, a->reported_status, desired);

        /* Wanted and not there: it is about to be started, unless the service manager has just refused to, or in a
         * moment. */
        if (desired && unit_is_down(a))
                state = !a->retry || (a->in_the_way && !a->in_the_way_before) ? AGENT_STARTING
                      : a->ended                                            ? AGENT_RESTARTING
                                                                            : AGENT_FAILED;

        /* As long as anything of it runs it has not stopped. */
        if (state == AGENT_STOPPED && a->harness->listed && !harness_unit_is_gone(a->harness))
                state = AGENT_STOPPING;

        if (state == AGENT_STOPPED && a->missing)
                state = AGENT_MISSING;

        if (state == AGENT_MISSING)
                set_missing_text(a);
        else if (a->link && (state == AGENT_READY || state == AGENT_BUSY || state == AGENT_FAILED))
                set_status_text(a, a->reported_text);
        else if (state != AGENT_FAILED)
                set_status_text(a, state != AGENT_RESTARTING ? ""
                                   : streq_ptr(a->unit_state.active, "deactivating") ? "the session is started again"
                                   : "the session ended unexpectedly and is started again");

        agent_set_state(a, state);
        /* Whoever gets an answer now must not find the state of before. */
        if (!LIST_EMPTY(&a->pending))
                agent_emit_changed(a);
        pending_check(a);
        manager_queue_settle(a->manager);
}

bool agent_decides_itself(const Agent *a) {
        return a->home->role && a->config && !a->config->kind_given;
}

/* Whether a role agent works with Codex its session decides, at each start: it gets what it needs for both. */
static int put_codex(const Agent *a, json_object *credential) {
        const ProviderConfig *openai = &a->manager->config->providers[PROVIDER_OPENAI];
        json_object *settings = NULL, *provider;
        int r;

        if (!a->home->role)
                return 0;
        r = codex_settings_to_json(&a->manager->codex, &settings);
        if (r < 0)
                return r;
        r = json_put(credential, "codex", settings);
        provider = r >= 0 && !a->config->kind_given ? json_object_new_object() : NULL;
        if (r < 0 || a->config->kind_given)
                return r;
        r = provider ? json_put(credential, "openai", provider) : -ENOMEM;
        if (r >= 0)
                r = json_put_string(provider, "api_key", openai->api_key);
        if (r >= 0)
                r = json_put_string(provider, "base_url", openai->base_url);
        return r < 0 ? r : json_put_string(provider, "model", openai->model);
}

int agent_credential(Agent *a, char **ret, size_t *ret_size) {
        _cleanup_json_ json_object *o = json_object_new_object(), *pricing = NULL;
        const DaemonConfig *d = a->manager->config;
        const char *text;
        int r;

        if (!o || !a->config)
                return -ENOMEM;
        r = json_put_string(o, "provider", a->model.provider);
        if (r >= 0)
                r = json_put_string(o, "model", a->model.model);
        if (r >= 0)
                r = json_put_string(o, "base_url", a->model.base_url);
        if (r >= 0)
                r = json_put_string(o, "api_key", a->model.api_key);
        if (r >= 0)
                r = json_put_int(o, "turn_grace_usec", (int64_t) d->turn_grace_usec);
        if (r >= 0)
                r = json_put_int(o, "retention_days", (int64_t) d->retention_days);
        if (r >= 0)
                r = json_put_int(o, "dispatch_jitter_usec", (int64_t) (d->dispatch_jitter_ms * USEC_PER_MSEC));
        if (r >= 0)
                r = json_put_int(o, "queue_limit", (int64_t) a->manager->queue_limit);
        if (r >= 0 && a->home->role)
                r = json_put_int(o, "task_timeout_usec", (int64_t) a->manager->turn_timeout_usec);
        if (r >= 0)
                r = json_put_string(o, "verify_certs", d->wire_verify_certs);
        if (r >= 0)
                r = json_put_string(o, "ca_file", d->wire_ca_file);
        if (r >= 0)
                r = put_codex(a, o);
        if (r >= 0 && d->prices.n > 0) {
                r = price_list_to_json(&d->prices, &pricing);
                if (r >= 0)
                        r = json_put(o, "pricing", TAKE_PTR(pricing));
        }
        if (r < 0)
                return r;

        text = json_text(o, ret_size);
        *ret = text ? memdup0(text, *ret_size) : NULL;
        if (text)
                sodium_memzero((void*) text, *ret_size);
        return *ret ? 0 : -ENOMEM;
}
