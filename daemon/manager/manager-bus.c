/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent.h"
#include "approvals-bus.h"
#include "bus-util.h"
#include "config.h"
#include "file-util.h"
#include "helpers.h"
#include "log.h"
#include "option.h"
#include "pending.h"
#include "private-server.h"
#include "sandbox-probe.h"
#include "string-util.h"

#define AGENTS_MAX 1024U
#define OWNER_AGENTS_MAX 32U     /* of one user, in system mode */

static int no_such_agent(sd_bus_error *reterr_error, const char *id) {
        return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_AGENT,
                              "There is no agent '%s'; 'puffoctl agent list' shows all.", id);
}

int manager_sender_uid(sd_bus_message *message, uid_t *ret) {
        _cleanup_(sd_bus_creds_unrefp) sd_bus_creds *creds = NULL;
        int r = sd_bus_query_sender_creds(message, SD_BUS_CREDS_EUID, &creds);

        return r < 0 ? r : sd_bus_creds_get_euid(creds, ret);
}

/* A new agent belongs to whoever had it made. */
static int record_owner(Manager *m, const char *id, uid_t uid) {
        _cleanup_free_ char *path = NULL, *text = NULL;

        if (!m->paths->owners)
                return 0;
        path = path_join(m->paths->owners, id);
        text = asprintf_new("%u\n", (unsigned) uid);
        return path && text ? file_write_atomic(path, text, strlen(text), 0600) : -ENOMEM;
}

int manager_check_limits(const Manager *m, uid_t owner, sd_bus_error *reterr_error) {
        size_t n = 0;

        if (m->n_agents >= AGENTS_MAX)
                return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_LIMIT,
                                      "There are %zu agents already, and no more than %u; archive or delete some "
                                      "('puffoctl agent list' shows all).", m->n_agents, AGENTS_MAX);
        /* Each of them is a unit, memory and a place on the disk of a machine that is not the owner's. */
        if (m->scope == SCOPE_USER || owner == 0)
                return 0;
        for (size_t i = 0; i < m->n_agents; i++)
                n += m->agents[i]->owner == owner;
        if (n < OWNER_AGENTS_MAX)
                return 0;
        return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_LIMIT,
                              "You have %zu agents on this machine already, and no more than %u; archive or delete "
                              "some, or have agents of your own user instead (puffoctl --user).", n, OWNER_AGENTS_MAX);
}

/* Hiring is open to agents themselves: it has a limit that the operator sets. */
static int check_hire_limit(Manager *m, sd_bus_error *reterr_error) {
        size_t n = 0;

        for (size_t i = 0; i < m->n_agents; i++)
                n += m->agents[i]->home->role != NULL;
        if (n < m->agent_limit)
                return 0;
        return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_LIMIT,
                              "There are %zu role agents already; agent_limit in config.yaml allows %" PRIu64 ".",
                              n, m->agent_limit);
}

/* --- making agents --- */

static const RuntimeOption create_extra[] = {
        { "DisplayName", 's' }, { "Profile", 's' }, { "OnMention", 'b' }, { "OnDm", 'b' }, { "Start", 'b' }, {},
};

static int apply_create_options(AgentConfig *c, const RuntimeOptions *o) {
        int r = 0;

        if (runtime_options_string(o, "DisplayName"))
                r = free_and_strdup(&c->display_name, runtime_options_string(o, "DisplayName"));
        c->on_mention = runtime_options_bool(o, "OnMention", c->on_mention);
        c->on_dm = runtime_options_bool(o, "OnDm", c->on_dm);
        c->running = runtime_options_bool(o, "Start", true);
        return r < 0 ? r : 0;
}

static int method_create_agent(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        _cleanup_(agent_config_freep) AgentConfig *config = NULL;
        _cleanup_(agent_home_freep) AgentHome *home = NULL;
        _cleanup_free_ char *error = NULL;
        Manager *m = userdata;
        uid_t uid = 0;
        const char *id;
        Agent *a;
        int r;

        r = sd_bus_message_read(message, "s", &id);
        if (r >= 0)
                r = runtime_options_read(message, create_extra, &options, reterr_error);
        if (r < 0)
                return r;
        if (!agent_id_is_valid(id))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_NAME,
                                      "invalid agent id: '%.80s' (letters, digits, '_' and '-', first a letter or "
                                      "digit, at most 64)",
                                      id);
        r = agent_config_new(&config, id);
        if (r >= 0)
                r = apply_create_options(config, &options);
        if (r >= 0)
                r = runtime_options_apply(&options, config, reterr_error);
        if (r < 0)
                return r;
        if (config->kind != RUNTIME_CHAT_LOCAL && !config->sandbox_given) {
                config->sandbox = SANDBOX_WORKSPACE;
                config->sandbox_given = true;
        }
        r = agent_config_check(config, &error);
        if (r == -EINVAL)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_CONFIG, "%s", error);
        if (r < 0)
                return r;

        r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = polkit_verify_async(m, message, "ai.puffo.agents.manage", id, uid, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (manager_find_agent(m, id))
                return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_EXISTS, "There is an agent '%s' already.",
                                      id);
        r = manager_check_limits(m, uid, reterr_error);
        if (r < 0)
                return r;

        if (config->display_name[0] == 0)
                (void) free_and_strdup(&config->display_name, id);
        r = agent_home_create(m->paths, config, runtime_options_string(&options, "Profile"), &home);
        if (r == -EEXIST)
                return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_EXISTS,
                                      "There is a directory for an agent '%s' already, which could not be loaded; "
                                      "'puffoctl status' tells why.", id);
        /* Not before: what lies there already is not the caller's. */
        if (r >= 0)
                r = record_owner(m, id, uid);
        if (r >= 0)
                r = manager_rescan(m);
        if (r < 0)
                return manager_error(reterr_error, r, "create agent", id);

        a = manager_find_agent(m, id);
        return a ? sd_bus_reply_method_return(message, "o", a->path) : no_such_agent(reterr_error, id);
}

static int ensure_role(Manager *m, const char *role, const char *name, uid_t uid, Agent **ret, bool *ret_created,
                       sd_bus_error *reterr_error) {
        _cleanup_(agent_home_freep) AgentHome *home = NULL;
        _cleanup_free_ char *id = NULL;
        int r;

        r = role_agent_id_join(role, name, &id);
        if (r < 0)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_NAME,
                                      "invalid agent name: '%s' (too long with its role)", strempty(name));
        if (!manager_find_agent(m, id)) {
                r = manager_check_limits(m, uid, reterr_error);
                if (r >= 0)
                        r = check_hire_limit(m, reterr_error);
                if (r < 0)
                        return r;
        }

        r = role_agent_ensure(m->paths, role, name,
                              m->addresses && m->addresses[0] ? m->addresses[0] : "http://127.0.0.1:7011", &home);
        if (r == -EEXIST)
                return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_EXISTS,
                                      "'%s' is the id of a Puffo agent (%s/%s), so that it cannot be that of %s/%s; "
                                      "choose another name.", id, m->paths->agents, id,
                                      m->paths->proxy_home ?: m->paths->role_agents, id);
        if (r == -EPERM)
                return bus_error_setf(reterr_error, PUFFO_ERROR_FAILED,
                                      "The workspace of '%s' belongs to somebody else.", id);
        if (r < 0)
                return manager_error(reterr_error, r, "make agent", id);
        *ret_created = r > 0;

        if (*ret_created)
                r = record_owner(m, id, uid);
        if (r >= 0)
                r = manager_rescan(m);
        if (r < 0)
                return manager_error(reterr_error, r, "load agent", id);
        *ret = manager_find_agent(m, id);
        if (!*ret || !(*ret)->config)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_CONFIG,
                                      "Agent '%s' could not be loaded; 'puffoctl status' tells why.", id);
        return 0;
}

/* The part of Init and Hire behind the check of who asks. a NULL: there is none yet. */
static int make_role_ready(Manager *m, sd_bus_message *message, const char *role, const char *name, uid_t uid,
                           Agent *a, PendingKind kind, sd_bus_error *reterr_error) {
        Pending *p;
        bool created = false;
        int r;

        /* What is missing would be made anew in the directories that are about to go. */
        r = a ? agent_check_stays(a, reterr_error) : 0;
        if (r >= 0)
                r = ensure_role(m, role, name, uid, &a, &created, reterr_error);
        if (r < 0)
                return r;
        r = agent_set_desired(a, true);
        if (r < 0)
                return manager_error(reterr_error, r, "start agent", a->home->id);

        r = pending_new(a, kind, message, m->start_timeout_usec, &p, reterr_error);
        if (r < 0)
                return r;
        p->created = created;
        p->prepare = true;
        a->retry = sd_event_source_disable_unref(a->retry);
        agent_evaluate(a);
        return 1;
}

static int find_role(Manager *m, const char *role, const char *name, char **ret_id, Agent **ret,
                     sd_bus_error *reterr_error) {
        int r = role_agent_id_join(role, name, ret_id);

        if (r == -ENAMETOOLONG)
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_NAME, "invalid agent name: '%s'",
                                      strempty(name));
        if (r >= 0)
                *ret = manager_find_agent(m, *ret_id);
        return r;
}

static int call_role(Manager *m, sd_bus_message *message, const char *role, const char *name, PendingKind kind,
                     sd_bus_error *reterr_error) {
        _cleanup_free_ char *id = NULL;
        Agent *a = NULL;
        uid_t uid = 0;
        int r;

        r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = find_role(m, role, name, &id, &a, reterr_error);
        if (r >= 0)
                r = polkit_verify_async(m, message, "ai.puffo.agents.manage", id, a ? a->owner : uid, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        return make_role_ready(m, message, role, name, uid, a, kind, reterr_error);
}

static int read_role_name(const char *text, const char *what, char **ret, sd_bus_error *reterr_error) {
        int r = role_name_normalize(text, ret);

        return r == -EINVAL ? bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_NAME, "invalid %s name: '%.80s'",
                                             what, text)
                            : r;
}

static int method_init(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *role = NULL, *name = NULL;
        const char *text;
        int r;

        r = sd_bus_message_read(message, "s", &text);
        if (r < 0)
                return r;
        /* The id of a hired agent names that agent (agent-proxy §3). */
        if (role_agent_id_split(text, &role, &name) < 0) {
                r = read_role_name(text, "role", &role, reterr_error);
                if (r < 0)
                        return r;
        }
        return call_role(userdata, message, role, name, PENDING_INIT, reterr_error);
}

static int read_hire(sd_bus_message *message, char **ret_role, char **ret_name, sd_bus_error *reterr_error) {
        const char *role, *name;
        int r;

        r = sd_bus_message_read(message, "ss", &role, &name);
        if (r >= 0)
                r = read_role_name(role, "role", ret_role, reterr_error);
        return r < 0 ? r : read_role_name(name, "agent", ret_name, reterr_error);
}

static int method_hire(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *role = NULL, *name = NULL;
        int r = read_hire(message, &role, &name, reterr_error);

        return r < 0 ? r : call_role(userdata, message, role, name, PENDING_HIRE, reterr_error);
}

int manager_hire_for(Agent *boss, sd_bus_message *message, sd_bus_error *reterr_error) {
        _cleanup_free_ char *role = NULL, *name = NULL, *id = NULL;
        Manager *m = boss->manager;
        Agent *a = NULL;
        int r;

        r = read_hire(message, &role, &name, reterr_error);
        if (r >= 0)
                r = find_role(m, role, name, &id, &a, reterr_error);
        if (r < 0)
                return r;
        if (a && a->owner != boss->owner)
                return bus_error_setf(reterr_error, PUFFO_ERROR_AGENT_EXISTS,
                                      "'%s' is somebody else's; choose another name.", id);
        return make_role_ready(m, message, role, name, boss->owner, a, PENDING_HIRE, reterr_error);
}

/* --- import --- */

typedef struct ImportArgs {
        const HomePaths *paths;
        int fd;
        const char *id;
} ImportArgs;

typedef struct ImportCall {
        Manager *manager;
        sd_bus_message *call;
        uid_t uid;
} ImportCall;

/* *ret_text: the id, or why not. */
static int import_run(void *userdata, char **ret_text) {
        _cleanup_(agent_home_freep) AgentHome *home = NULL;
        const ImportArgs *args = userdata;
        int r;

        r = agent_home_import(args->paths, args->fd, isempty(args->id) ? NULL : args->id, &home, ret_text);
        if (r >= 0)
                *ret_text = strdup(home->id);
        return r;
}

static void import_done(int r, const char *text, void *userdata) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        ImportCall *i = userdata;
        Agent *a = NULL;

        transfer_end(i->manager, i->uid);
        if (r >= 0)
                r = record_owner(i->manager, text, i->uid);
        if (r >= 0)
                r = manager_rescan(i->manager);
        if (r >= 0)
                a = manager_find_agent(i->manager, text);

        if (a)
                (void) sd_bus_reply_method_return(i->call, "o", a->path);
        else {
                (void) bus_error_setf(&error,
                                      r == -EEXIST ? PUFFO_ERROR_AGENT_EXISTS : PUFFO_ERROR_INVALID_ARGUMENT,
                                      "The archive was not taken in: %s.", *text ? text : strerror(-r));
                (void) sd_bus_reply_method_error(i->call, &error);
        }
        sd_bus_message_unref(i->call);
        free(i);
}

static int method_import(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Manager *m = userdata;
        ImportArgs args = { .paths = m->paths };
        uid_t uid = 0;
        ImportCall *i;
        int r;

        r = sd_bus_message_read(message, "hs", &args.fd, &args.id);
        if (r < 0)
                return r;
        if (*args.id && !agent_id_is_valid(args.id))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_NAME, "invalid agent id: '%.80s'", args.id);
        r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = polkit_verify_async(m, message, "ai.puffo.agents.manage", *args.id ? args.id : NULL, uid,
                                        reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = manager_check_limits(m, uid, reterr_error);
        if (r < 0)
                return r;
        r = transfer_begin(m, uid, reterr_error);
        if (r < 0)
                return r;

        i = new0(ImportCall, 1);
        if (!i) {
                transfer_end(m, uid);
                return -ENOMEM;
        }
        *i = (ImportCall) { m, sd_bus_message_ref(message), uid };
        r = worker_run(m->event, import_run, &args, TRANSFER_TIME_USEC, import_done, i);
        if (r < 0) {
                transfer_end(m, uid);
                sd_bus_message_unref(i->call);
                free(i);
                return r;
        }
        return 1;
}

/* --- looking --- */

static int method_get_agent(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        const char *id;
        Agent *a;
        int r;

        r = sd_bus_message_read(message, "s", &id);
        if (r < 0)
                return r;
        a = manager_find_agent_lenient(userdata, id);
        return a && a->config ? sd_bus_reply_method_return(message, "o", a->path) : no_such_agent(reterr_error, id);
}

static int method_list_agents(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        Manager *m = userdata;
        int r;

        r = reader_identify(m, message, NULL, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sosus)");
        for (size_t i = 0; i < m->n_agents && r >= 0; i++) {
                const Agent *a = m->agents[i];

                if (!a->config)
                        continue;
                r = sd_bus_message_open_container(reply, 'r', "sosus");
                if (r >= 0)
                        r = sd_bus_message_append(reply, "sosu", a->home->id, a->path, agent_state_to_string(a->state),
                                                  a->unit_state.main_pid);
                if (r >= 0)
                        r = bus_append_text(reply, reader_sees(m, a->owner) ? a->home->workspace : "");
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

/* The reasons quote files. Of what could not even be taken for an agent nobody is the owner but root. */
static uid_t owner_of_directory(const Manager *m, const char *directory) {
        for (size_t i = 0; i < m->n_agents; i++)
                if (streq(m->agents[i]->home->directory, directory))
                        return m->agents[i]->owner;
        return 0;
}

static int method_list_problems(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        Manager *m = userdata;
        int r;

        r = reader_identify(m, message, NULL, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = sd_bus_message_new_method_return(message, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(ss)");
        for (char **p = m->problems; p && *p && r >= 0; p += 2) {
                if (!reader_sees(m, owner_of_directory(m, p[0])))
                        continue;
                r = sd_bus_message_open_container(reply, 'r', "ss");
                if (r >= 0)
                        r = bus_append_text(reply, p[0]);
                if (r >= 0)
                        r = bus_append_text(reply, p[1]);
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(NULL, reply, NULL);
}

/* --- settings --- */

static int method_reload(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Manager *m = userdata;
        int r;

        r = polkit_verify_async(m, message, "ai.puffo.agents.configure", NULL, (uid_t) -1, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = manager_rescan(m);
        sandbox_probe_forget_failures(m->sandbox_probe);
        return r < 0 ? r : sd_bus_reply_method_return(message, NULL);
}

static int method_new_day(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Manager *m = userdata;
        int r;

        r = polkit_verify_async(m, message, "ai.puffo.agents.configure", NULL, (uid_t) -1, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        for (size_t i = 0; i < m->n_agents; i++) {
                _cleanup_bus_message_ sd_bus_message *call = NULL;
                Agent *a = m->agents[i];

                /* Those that do not run make it when they start. */
                if (!a->home->role || !session_link_is_up(a->link))
                        continue;
                r = session_link_new_call(a->link, "NewDay", &call);
                if (r >= 0)
                        r = session_link_call(a->link, call, NULL, NULL, 0);
                if (r < 0)
                        (void) log_agent(a, LOG_WARNING, r, "Agent '%s' could not be told of the new day: %m",
                                         a->home->id);
        }
        return sd_bus_reply_method_return(message, NULL);
}

/* What is refused goes from memory with the next look at the file. */
static int save_config(Manager *m, sd_bus_message *message, sd_bus_error *reterr_error) {
        _cleanup_free_ char *error = NULL;
        int r;

        r = daemon_config_check(m->config, &error);
        if (r == -EINVAL) {
                (void) manager_rescan(m);
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT, "%s", error);
        }
        if (r >= 0)
                r = daemon_config_save(m->config, m->paths->daemon_yml);
        if (r >= 0)
                r = manager_rescan(m);
        return r < 0 ? manager_error(reterr_error, r, "write", m->paths->daemon_yml)
                     : sd_bus_reply_method_return(message, NULL);
}

/* What is in force may be older than a file with a mistake in it; that one must not be written over. */
static int check_config_is_valid(Manager *m, sd_bus_error *reterr_error) {
        for (char **p = m->problems; p && *p; p += 2)
                if (streq(p[0], m->paths->daemon_yml))
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_CONFIG, "Repair the file first: %s",
                                              p[1]);
        return 0;
}

static const RuntimeOption provider_options[] = {
        { "ApiKey", 's' }, { "Model", 's' }, { "BaseUrl", 's' }, {},
};

static int method_set_provider(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        ProviderConfig *provider;
        Manager *m = userdata;
        const char *name;
        int r;

        r = sd_bus_message_read(message, "s", &name);
        if (r >= 0)
                r = options_read(message, provider_options, NULL, &options, reterr_error);
        if (r < 0)
                return r;
        if (!daemon_config_provider(m->config, name))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "'%.80s' is no provider that can be configured: anthropic, openai or google.",
                                      name);
        r = polkit_verify_async(m, message, "ai.puffo.agents.configure", NULL, (uid_t) -1, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        r = manager_rescan(m);
        if (r >= 0)
                r = check_config_is_valid(m, reterr_error);
        if (r < 0)
                return r;
        provider = daemon_config_provider(m->config, name);
        if (runtime_options_string(&options, "ApiKey"))
                r = free_and_strdup(&provider->api_key, runtime_options_string(&options, "ApiKey"));
        if (r >= 0 && runtime_options_string(&options, "Model"))
                r = free_and_strdup(&provider->model, runtime_options_string(&options, "Model"));
        if (r >= 0 && runtime_options_string(&options, "BaseUrl"))
                r = free_and_strdup(&provider->base_url, runtime_options_string(&options, "BaseUrl"));
        return r < 0 ? r : save_config(m, message, reterr_error);
}

static int method_set_default_provider(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Manager *m = userdata;
        const char *name;
        int r;

        r = sd_bus_message_read(message, "s", &name);
        if (r < 0)
                return r;
        if (!daemon_config_provider(m->config, name) && !streq(name, "echo"))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "'%.80s' is no provider: anthropic, openai, google or echo.", name);
        r = polkit_verify_async(m, message, "ai.puffo.agents.configure", NULL, (uid_t) -1, reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;

        r = manager_rescan(m);
        if (r >= 0)
                r = check_config_is_valid(m, reterr_error);
        if (r >= 0)
                r = free_and_strdup(&m->config->default_provider, name);
        return r < 0 ? r : save_config(m, message, reterr_error);
}

/* --- properties --- */

static int get_mode(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                    void *userdata, sd_bus_error *reterr_error) {
        return sd_bus_message_append(reply, "s", scope_to_string(((Manager*) userdata)->scope));
}

static int get_version(sd_bus *bus, const char *path, const char *interface, const char *property,
                       sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        return sd_bus_message_append(reply, "s", PROJECT_VERSION);
}

typedef struct Counts {
        uint32_t agents, ready, busy, problems;
} Counts;

static Counts count(const Manager *m) {
        Counts c = { .problems = (uint32_t) (strv_length(m->problems) / 2) };

        for (size_t i = 0; i < m->n_agents; i++) {
                c.agents += m->agents[i]->config != NULL;
                c.ready += m->agents[i]->state == AGENT_READY;
                c.busy += m->agents[i]->state == AGENT_BUSY;
        }
        return c;
}

static int get_count(sd_bus *bus, const char *path, const char *interface, const char *property, sd_bus_message *reply,
                     void *userdata, sd_bus_error *reterr_error) {
        Counts c = count(userdata);
        uint32_t n = streq(property, "Agents") ? c.agents : streq(property, "Ready") ? c.ready
                   : streq(property, "Busy") ? c.busy : c.problems;

        return sd_bus_message_append(reply, "u", n);
}

static int get_default_provider(sd_bus *bus, const char *path, const char *interface, const char *property,
                                sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        return bus_append_text(reply, ((Manager*) userdata)->config->default_provider);
}

static int get_providers(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        static const char *const names[_PROVIDER_MAX] = { "anthropic", "openai", "google" };
        Manager *m = userdata;
        int r;

        r = sd_bus_message_open_container(reply, 'a', "(sssb)");
        for (size_t i = 0; i < _PROVIDER_MAX && r >= 0; i++) {
                const ProviderConfig *p = daemon_config_provider(m->config, names[i]);

                r = sd_bus_message_open_container(reply, 'r', "sssb");
                if (r >= 0)
                        r = sd_bus_message_append(reply, "s", names[i]);
                if (r >= 0)
                        r = bus_append_text(reply, p->model);
                if (r >= 0)
                        r = bus_append_text(reply, p->base_url);
                if (r >= 0)
                        r = sd_bus_message_append(reply, "b", !isempty(p->api_key));
                if (r >= 0)
                        r = sd_bus_message_close_container(reply);
        }
        return r < 0 ? r : sd_bus_message_close_container(reply);
}

static int get_addresses(sd_bus *bus, const char *path, const char *interface, const char *property,
                         sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        return sd_bus_message_append_strv(reply, ((Manager*) userdata)->addresses);
}

void manager_emit_changed(Manager *m) {
        Counts c = count(m);

        if (c.agents == m->n_announced && c.ready == m->n_ready && c.busy == m->n_busy && c.problems == m->n_problems)
                return;
        m->n_announced = c.agents;
        m->n_ready = c.ready;
        m->n_busy = c.busy;
        m->n_problems = c.problems;
        (void) sd_bus_emit_properties_changed(m->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "Agents", "Ready",
                                              "Busy", "Problems", NULL);
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("CreateAgent", SD_BUS_ARGS("s", id, "a{sv}", options),
                                SD_BUS_RESULT("o", agent), method_create_agent,
                                SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("GetAgent", SD_BUS_ARGS("s", id), SD_BUS_RESULT("o", agent), method_get_agent,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListAgents", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(sosus)", agents),
                                method_list_agents, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListProblems", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(ss)", problems),
                                method_list_problems, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Init", SD_BUS_ARGS("s", role), SD_BUS_RESULT("o", agent, "u", pid),
                                method_init, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Hire", SD_BUS_ARGS("s", role, "s", name),
                                SD_BUS_RESULT("o", agent, "u", pid, "b", created), method_hire,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Import", SD_BUS_ARGS("h", archive, "s", id), SD_BUS_RESULT("o", agent),
                                method_import, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Reload", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_reload,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("NewDay", SD_BUS_NO_ARGS, SD_BUS_NO_RESULT, method_new_day,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetProvider", SD_BUS_ARGS("s", provider, "a{sv}", options), SD_BUS_NO_RESULT,
                                method_set_provider, SD_BUS_VTABLE_UNPRIVILEGED | SD_BUS_VTABLE_SENSITIVE),
        SD_BUS_METHOD_WITH_ARGS("SetDefaultProvider", SD_BUS_ARGS("s", provider), SD_BUS_NO_RESULT,
                                method_set_default_provider, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("ListApprovals", SD_BUS_ARGS("s", agent, "b", all),
                                SD_BUS_RESULT("aa{sv}", approvals), manager_method_list_approvals,
                                SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Approve", SD_BUS_ARGS("s", id, "b", allow, "s", reason), SD_BUS_NO_RESULT,
                                manager_method_approve, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("ApprovalRequested", SD_BUS_ARGS("s", id, "o", agent), 0),
        SD_BUS_SIGNAL_WITH_ARGS("ApprovalAnswered", SD_BUS_ARGS("s", id, "o", agent, "s", state), 0),
        SD_BUS_SIGNAL_WITH_ARGS("AgentAdded", SD_BUS_ARGS("s", id, "o", agent), 0),
        SD_BUS_SIGNAL_WITH_ARGS("AgentRemoved", SD_BUS_ARGS("s", id, "o", agent), 0),
        SD_BUS_PROPERTY("Version", "s", get_version, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Mode", "s", get_mode, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Agents", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Ready", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Busy", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("DefaultProvider", "s", get_default_provider, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Providers", "a(sssb)", get_providers, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Addresses", "as", get_addresses, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Sandbox", "a{ss}", sandbox_probe_property_get, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Problems", "u", get_count, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

int manager_export(Manager *m) {
        int r = sd_bus_add_object_vtable(m->bus, NULL, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, manager_vtable, m);

        return r < 0 ? r : sd_bus_add_object_manager(m->bus, NULL, PUFFO_BUS_PATH);
}
