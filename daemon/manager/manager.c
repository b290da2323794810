/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "agent.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "credential-refresh.h"
#include "event-util.h"
#include "file-util.h"
#include "harness-unit.h"
#include "helpers.h"
#include "log-control.h"
#include "log.h"
#include "pending.h"
#include "private-server.h"
#include "sandbox-probe.h"
#include "string-util.h"
#include "unit.h"
#include "yaml-util.h"

int manager_error(sd_bus_error *reterr_error, int r, const char *what, const char *detail) {
        if (r == -ENOMEM)
                return r;
        return bus_error_setf(reterr_error, PUFFO_ERROR_FAILED, "Failed to %s '%s': %s", what, detail,
                              strerror(abs(r)));
}

typedef struct Setting {
        const char *key, *what;
        double fallback, min, max;
        double unit;            /* of what is stored */
        size_t offset;          /* a uint64_t of Manager */
} Setting;

/* Callers wait for Init, Hire and Connect for a minute and a half: nothing is gained by more than that. */
static const Setting manager_settings[] = {
        { "restart_sec", "a number of seconds from 0.1 to 86400", 10, 0.1, 86400, USEC_PER_SEC,
          offsetof(Manager, restart_usec) },
        { "start_timeout", "a number of seconds from 1 to 80", 30, 1, 80, USEC_PER_SEC,
          offsetof(Manager, start_timeout_usec) },
        { "connect_timeout", "a number of seconds from 1 to 80", 60, 1, 80, USEC_PER_SEC,
          offsetof(Manager, connect_timeout_usec) },
        { "turn_timeout", "a number of seconds from 1 to 86400", 1800, 1, 86400, USEC_PER_SEC,
          offsetof(Manager, turn_timeout_usec) },
        { "queue_limit", "a number from 1 to 1024", 32, 1, 1024, 1, offsetof(Manager, queue_limit) },
        { "agent_limit", "a number from 1 to 1024", 64, 1, 1024, 1, offsetof(Manager, agent_limit) },
};

static uint64_t* setting_of(Manager *m, const Setting *s) {
        return (uint64_t*) ((char*) m + s->offset);
}

static void settings_reset(Manager *m) {
        for (const Setting *s = manager_settings; s < manager_settings + ELEMENTSOF(manager_settings); s++)
                *setting_of(m, s) = (uint64_t) (s->fallback * s->unit);
}

int manager_new(Manager **ret, Scope scope, sd_event *event) {
        _cleanup_(manager_freep) Manager *m = NULL;
        int r;

        m = new0(Manager, 1);
        if (!m)
                return -ENOMEM;
        m->scope = scope;
        m->event = sd_event_ref(event);
        settings_reset(m);
        m->codex.network = true;

        r = home_paths_new(&m->paths, scope);
        if (r >= 0)
                r = home_paths_make(m->paths);
        if (r >= 0)
                r = daemon_config_new(&m->config);
        if (r >= 0)
                r = polkit_new(&m->polkit, m);
        if (r >= 0)
                r = sandbox_probe_new(&m->sandbox_probe, m);
        if (r >= 0)
                r = home_watch_new(&m->watch, m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

Manager* manager_free(Manager *m) {
        if (!m)
                return NULL;

        m->private_server = private_server_free(m->private_server);
        credential_server_free(m->credential_server);
        credential_refresh_free(m->credential_refresh);
        home_watch_free(m->watch);
        sandbox_probe_free(m->sandbox_probe);
        for (size_t i = 0; i < m->n_agents; i++)
                agent_free(m->agents[i]);
        free(m->agents);
        polkit_free(m->polkit);
        sd_bus_message_unref(m->reader);
        sd_event_source_disable_unref(m->settle);
        sd_bus_flush_close_unref(m->bus);
        daemon_config_free(m->config);
        home_paths_free(m->paths);
        strv_free(m->problems);
        strv_free(m->addresses);
        codex_settings_done(&m->codex);
        free(m->shown_providers);
        free(m->systemd_owner);
        free(m->pairing_slug);
        free(m->pairing_device);
        free(m->pairing_problem);
        sd_event_unref(m->event);
        return mfree(m);
}

Agent* manager_find_agent(Manager *m, const char *id) {
        for (size_t i = 0; i < m->n_agents; i++)
                if (streq(m->agents[i]->home->id, id))
                        return m->agents[i];
        return NULL;
}

Agent* manager_find_agent_lenient(Manager *m, const char *text) {
        Agent *a = manager_find_agent(m, text);
        _cleanup_free_ char *lower = NULL;

        if (a)
                return a;
        lower = strdup(text);
        if (!lower)
                return NULL;
        for (char *c = lower; *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char) (*c - 'A' + 'a');
        return manager_find_agent(m, lower);
}

/* --- reading the homes --- */

/* Both may have come from files and names of files, whatever bytes those are made of. */
static int add_problem(Manager *m, const char *directory, const char *reason) {
        _cleanup_free_ char *shown = strdup(directory), *text = strdup(reason);

        if (!shown || !text || strv_extend(&m->problems, utf8_repair(shown)) < 0)
                return -ENOMEM;
        return strv_extend(&m->problems, utf8_repair(text));
}

static bool had_problem(char **problems, const char *directory, const char *reason) {
        for (char **p = problems; p && *p; p += 2)
                if (streq(p[0], directory) && streq(p[1], reason))
                        return true;
        return false;
}

static void log_new_problems(Manager *m, char **before) {
        const char *fields[] = { PUFFO_MESSAGE_CONFIG_INVALID, NULL };

        for (char **p = m->problems; p && *p; p += 2)
                if (!had_problem(before, p[0], p[1]))
                        (void) log_fields(LOG_WARNING, 0, fields, "%s", p[1]);
}

static int reload_config(Manager *m) {
        _cleanup_(daemon_config_freep) DaemonConfig *config = NULL;
        _cleanup_free_ char *error = NULL;
        int r;

        r = daemon_config_load(&config, m->paths->daemon_yml, &error);
        if (r < 0)
                return add_problem(m, m->paths->daemon_yml, error ?: strerror(-r));

        daemon_config_free(m->config);
        m->config = TAKE_PTR(config);
        return 0;
}

static int reload_codex_settings(Manager *m, const char *path, const YamlNode *root) {
        _cleanup_(codex_settings_done) CodexSettings settings = { .network = true };
        _cleanup_free_ char *message = NULL;
        int r;

        r = root ? codex_settings_load(&settings, path, root, &message) : 0;
        if (r < 0)
                return r == -EBADMSG ? add_problem(m, path, message) : r;
        codex_settings_done(&m->codex);
        m->codex = settings;
        settings = (CodexSettings) {};
        return 0;
}

/* All of them or none. */
static int settings_read(Manager *m, const char *path, YamlNode *root) {
        double values[ELEMENTSOF(manager_settings)];

        for (size_t i = 0; i < ELEMENTSOF(manager_settings); i++) {
                const Setting *s = manager_settings + i;
                YamlNode *node = yaml_mapping_get(root, s->key);
                _cleanup_free_ char *message = NULL;

                values[i] = s->fallback;
                if (!node || (yaml_node_to_double(node, values + i) >= 0 && values[i] >= s->min &&
                              values[i] <= s->max && (s->unit > 1 || values[i] == (double) (uint64_t) values[i])))
                        continue;
                message = asprintf_new("%s:%u: %s: %s is expected", path, yaml_node_line(node), s->key, s->what);
                return message ? add_problem(m, path, message) : -ENOMEM;
        }
        for (size_t i = 0; i < ELEMENTSOF(manager_settings); i++)
                *setting_of(m, manager_settings + i) = (uint64_t) (values[i] * manager_settings[i].unit);
        return 1;
}

/* agent-proxy's settings: of those, some are ours to apply (agent-proxy §13), those on Codex to be handed on. */
static int reload_settings(Manager *m) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        _cleanup_free_ char *path = NULL, *text = NULL, *error = NULL, *message = NULL;
        size_t size;
        int r;

        if (!m->paths->proxy_state)
                return 0;
        path = path_join(m->paths->proxy_state, "config.yaml");
        if (!path)
                return -ENOMEM;
        r = file_read(path, KIB(64), &text, &size);
        if (r == -ENOENT) {
                settings_reset(m);
                return reload_codex_settings(m, path, NULL);
        }
        if (r < 0)
                return add_problem(m, path, strerror(-r));
        r = yaml_document_parse(&d, text, size, &error);
        if (r < 0) {
                message = strjoin(path, ":", error ?: strerror(-r));
                return message ? add_problem(m, path, message) : -ENOMEM;
        }
        r = settings_read(m, path, yaml_document_root(d));
        return r <= 0 ? r : reload_codex_settings(m, path, yaml_document_root(d));
}

/* The session must be started anew when what it was handed at its start has become another. */
void agent_check_credential(Agent *a) {
        uint8_t hash[sizeof(a->credential_hash)], none[sizeof(a->credential_hash)] = {};
        _cleanup_free_ char *text = NULL;
        size_t size;

        if (memcmp(a->credential_hash, none, sizeof(none)) == 0 || agent_credential(a, &text, &size) < 0)
                return;
        (void) crypto_generichash(hash, sizeof(hash), (uint8_t*) text, size, NULL, 0);
        sodium_memzero(text, size);
        a->restart_when_idle = memcmp(hash, a->credential_hash, sizeof(hash)) != 0;
}

void agent_configuration_changed(Agent *a) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;

        agent_check_limits(a);
        if (a->link && session_link_new_call(a->link, "Reload", &m) >= 0)
                (void) session_link_call(a->link, m, NULL, NULL, 0);
        agent_check_credential(a);
        manager_queue_settle(a->manager);
}

static int reload_agent(Manager *m, Agent *a) {
        _cleanup_free_ char *error = NULL;
        ResolvedModel model = {};
        bool was_running = a->config && a->config->running;
        int r;

        r = agent_load(a, &error);
        if (r == -ENOMEM)
                return r;
        if (r < 0) /* one agent's trouble, whatever it is, is not the others' */
                return add_problem(m, a->home->directory, error ?: strerror(-r));
        if (!a->config)
                return 0;

        if (r == 0) { /* the file is the same; what it inherits may not be */
                r = agent_resolve_model(m, a->config, &model);
                if (r < 0)
                        return r;
                if (!streq(model.provider, a->model.provider) || !streq(model.model, a->model.model))
                        a->dirty |= AGENT_DIRTY_CONFIG;
                resolved_model_done(&a->model);
                a->model = model;
        } else if (a->listed) {
                agent_configuration_changed(a);
                if (was_running != a->config->running)
                        a->dirty |= AGENT_DIRTY_STATE;
        }
        agent_check_limits(a);
        agent_check_credential(a);
        agent_look_for_workspace(a);
        return 0;
}

static Agent* find_home(Manager *m, const AgentHome *home, bool *kept) {
        for (size_t j = 0; j < m->n_agents; j++)
                if (!kept[j] && streq(m->agents[j]->home->id, home->id) &&
                    streq(m->agents[j]->home->directory, home->directory)) {
                        kept[j] = true;
                        return m->agents[j];
                }
        return NULL;
}

static void announce_removal(Manager *m, Agent *a) {
        if (a->announced) {
                (void) sd_bus_emit_signal(m->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "AgentRemoved", "so",
                                          a->home->id, a->path);
                (void) sd_bus_emit_object_removed(m->bus, a->path);
        }
        /* Its directory was taken away under a running unit: the unit has nothing to work with. */
        if (a->listed && !streq_ptr(a->unit_state.active, "inactive"))
                (void) agent_stop_unit(a);
        harness_unit_abandon(a->harness);
}

/* Sorted as enumerate gave them; agents that stay keep their objects. */
static int take_homes(Manager *m, AgentHome **homes, size_t n) {
        _cleanup_free_ Agent **agents = new0(Agent*, n);
        _cleanup_free_ bool *kept = new0(bool, m->n_agents);
        size_t n_agents = 0;
        bool gone = false;
        int r = 0;

        if (!agents || !kept)
                return -ENOMEM;

        for (size_t i = 0; i < n && r >= 0; i++) {
                Agent *a = find_home(m, homes[i], kept);

                if (a) {
                        agent_home_free(a->home);
                        a->home = TAKE_PTR(homes[i]);
                        agent_read_owner(a);
                } else
                        r = agent_new(&a, m, TAKE_PTR(homes[i]));
                if (r >= 0)
                        agents[n_agents++] = a;
        }

        /* In the signal go the interfaces of objects that can still be found: so the old list stays until all is said.
         */
        for (size_t j = 0; j < m->n_agents; j++)
                if (!kept[j])
                        announce_removal(m, m->agents[j]);
        for (size_t j = 0; j < m->n_agents; j++)
                if (!kept[j]) {
                        agent_free(m->agents[j]);
                        gone = true;
                }
        if (gone && m->scope == SCOPE_SYSTEM)
                (void) state_links_sweep(STATE_LINKS);
        free(m->agents);
        m->agents = TAKE_PTR(agents);
        m->n_agents = n_agents;
        return r;
}

static int update_watch(Manager *m) {
        _cleanup_free_ char *problem = NULL;
        int r;

        r = home_watch_update(m->watch);
        if (r < 0)
                return r;
        problem = home_watch_problem(m->watch);
        if (!problem)
                return -ENOMEM;
        return *problem ? add_problem(m, m->paths->agents, problem) : 0;
}

/* Workspaces that were copied into the home by hand. Not while something is moved about by a child: what it has not
 * brought or taken yet looks the same. */
static void take_workspaces(Manager *m) {
        int r;

        if (m->n_transfers > 0 || m->n_removals > 0)
                return;
        r = role_workspaces_adopt(m->paths);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to take over workspaces without an agent, going on without: %m");
}

int manager_rescan(Manager *m) {
        char **before = TAKE_PTR(m->problems), **problems = NULL;
        AgentHome **homes = NULL;
        size_t n = 0;
        int r;

        r = reload_config(m);
        if (r >= 0)
                r = reload_settings(m);
        if (r >= 0)
                take_workspaces(m);
        if (r >= 0)
                r = agent_homes_enumerate(m->paths, &homes, &n, &problems);
        if (r >= 0)
                r = take_homes(m, homes, n);
        agent_homes_free(homes, n);
        for (char **p = problems; p && *p && r >= 0; p += 2)
                r = add_problem(m, p[0], p[1]);
        strv_free(problems);

        for (size_t i = 0; i < m->n_agents && r >= 0; i++)
                r = reload_agent(m, m->agents[i]);
        if (r >= 0)
                r = manager_reload_pairing(m);
        if (r >= 0)
                r = update_watch(m);

        for (size_t i = 0; i < m->n_agents; i++)
                if (!m->agents[i]->listed && m->bus_ready) {
                        agent_refresh_unit(m->agents[i]);
                        harness_unit_refresh(m->agents[i]->harness);
                }
        log_new_problems(m, before);
        strv_free(before);
        manager_queue_settle(m);
        return r;
}

/* --- keeping units as they should be --- */

/* The manager agent comes first: others are not asked for before the service manager is at it, which takes its jobs in
 * an order of its own. One that cannot be started holds nobody up. */
static bool is_its_turn(const Agent *a) {
        Agent *first = manager_find_agent(a->manager, ROLE_MANAGER);

        return !first || first == a || !agent_is_wanted(first) || agent_unit_is_up(first) || first->retry;
}

static void settle_agent(Agent *a) {
        bool desired;

        if (a->config)
                harness_unit_settle(a->harness, agent_session_is_gone(a));
        if (!a->listed || a->job || a->refreshing || !a->config)
                return;

        desired = agent_is_wanted(a);
        if (!desired) {
                if (agent_unit_is_up(a) && !streq(a->unit_state.active, "deactivating") &&
                    !(a->stop_refused && a->retry))
                        (void) agent_stop_unit(a);
                return;
        }
        if (!agent_unit_is_up(a)) {
                if (!a->retry && is_its_turn(a) &&
                    units_n_starting(a->manager) < a->manager->config->max_parallel_starts && agent_start_unit(a) >= 0)
                        agent_evaluate(a);
                return;
        }
        if (a->restart_when_idle && (a->state == AGENT_READY || a->state == AGENT_FAILED) && a->queue_length == 0) {
                a->restart_when_idle = false;
                (void) log_agent(a, LOG_INFO, 0, "Agent '%s' is restarted to take over its changed configuration.",
                                 a->home->id);
                (void) agent_restart_unit(a);
        }
}

/* What of the providers is shown, as one text to see changes by. */
static char* describe_providers(const Manager *m) {
        static const char *const names[_PROVIDER_MAX] = { "anthropic", "openai", "google" };
        _cleanup_(strbuf_done) StrBuf b = {};

        if (strbuf_puts(&b, m->config->default_provider) < 0)
                return NULL;
        for (size_t i = 0; i < _PROVIDER_MAX; i++) {
                const ProviderConfig *p = daemon_config_provider(m->config, names[i]);

                if (strbuf_puts(&b, "\n") < 0 || strbuf_puts(&b, p->model) < 0 || strbuf_puts(&b, "\t") < 0 ||
                    strbuf_puts(&b, p->base_url) < 0 || strbuf_puts(&b, isempty(p->api_key) ? "" : "\tkey") < 0)
                        return NULL;
        }
        return strbuf_take(&b);
}

static void emit_providers_changed(Manager *m) {
        char *now = describe_providers(m);

        if (now && m->shown_providers && !streq(now, m->shown_providers))
                (void) sd_bus_emit_properties_changed(m->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE,
                                                      "DefaultProvider", "Providers", NULL);
        if (now) {
                free(m->shown_providers);
                m->shown_providers = now;
        }
}

static int on_settle(sd_event_source *s, void *userdata) {
        Manager *m = userdata;

        for (size_t i = 0; i < m->n_agents; i++) {
                if (m->bus_ready)
                        settle_agent(m->agents[i]);
                agent_emit_changed(m->agents[i]);
        }
        manager_emit_changed(m);
        emit_providers_changed(m);
        return 0;
}

void manager_queue_settle(Manager *m) {
        int r;

        if (!m->settle) {
                r = sd_event_add_defer(m->event, &m->settle, on_settle, m);
                if (r < 0)
                        (void) log_error_errno(r, "Failed to defer work: %m");
                return;
        }
        (void) sd_event_source_set_enabled(m->settle, SD_EVENT_ONESHOT);
}

void manager_check_known(Manager *m) {
        void (*on_known)(Manager *m) = m->on_known;

        if (!on_known || !m->bus_ready)
                return;
        for (size_t i = 0; i < m->n_agents; i++)
                if (!m->agents[i]->listed || !m->agents[i]->harness->listed)
                        return;

        m->on_known = NULL;
        on_known(m);
}

/* There is always a manager, and it runs whenever the daemon starts (agent-proxy §5). */
static int ensure_manager_agent(Manager *m) {
        _cleanup_(agent_home_freep) AgentHome *home = NULL;
        Agent *a;
        int r;

        r = role_agent_ensure(m->paths, ROLE_MANAGER, NULL, "http://127.0.0.1:7011", &home);
        if (r < 0)
                return r;
        r = manager_rescan(m);
        if (r < 0)
                return r;
        a = manager_find_agent(m, ROLE_MANAGER);
        if (a && a->config)
                r = agent_set_desired(a, true);
        return r;
}

int manager_start(Manager *m, int private_fd, int credentials_fd) {
        int r;

        r = scope_open_bus(m->scope, &m->bus);
        if (r < 0) {
                safe_close(private_fd);
                safe_close(credentials_fd);
                return log_error_errno(r, "Failed to connect to the %s bus: %m",
                                       m->scope == SCOPE_USER ? "session" : "system");
        }
        if (private_fd >= 0) {
                r = private_server_new(&m->private_server, m, private_fd);
                if (r < 0) {
                        safe_close(credentials_fd);
                        return r;
                }
        }
        if (credentials_fd >= 0) {
                r = credential_server_new(&m->credential_server, m, credentials_fd);
                if (r < 0)
                        return r;
        }

        r = sd_bus_attach_event(m->bus, m->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = reader_watch(m);
        if (r >= 0)
                r = manager_export(m);
        if (r >= 0)
                r = agent_export(m);
        if (r >= 0)
                r = pairing_export(m);
        if (r >= 0)
                r = log_control_add(m->bus, "puffod");
        if (r < 0)
                return r;
        r = role_deletions_finish(m->paths);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to go on with deletions that were cut short: %m");
        r = manager_rescan(m);
        if (r < 0)
                return r;

        if (m->scope == SCOPE_SYSTEM)
                (void) state_links_sweep(STATE_LINKS);
        r = ensure_manager_agent(m);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to make the agent '" ROLE_MANAGER "', going on without: %m");
        r = gateway_address_watch(m);
        return r < 0 ? r : units_watch(m);
}
