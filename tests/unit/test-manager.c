/* SPDX-License-Identifier: MIT */

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "bus-util.h"
#include "file-util.h"
#include "helpers.h"
#include "option.h"
#include "string-util.h"
#include "tests.h"
#include "unit.h"

TEST(state_derive) {
        static const struct {
                const char *active, *sub, *reported;
                bool desired;
                AgentState state;
        } t[] = {
                { NULL, NULL, "", false, AGENT_STOPPED },
                { "inactive", "dead", "", true, AGENT_STOPPED },
                { "activating", "start", "", true, AGENT_STARTING },
                { "activating", "auto-restart", "", true, AGENT_RESTARTING },
                { "active", "running", "", true, AGENT_STARTING },
                { "active", "running", "starting", true, AGENT_STARTING },
                { "active", "running", "ready", true, AGENT_READY },
                { "active", "running", "busy", true, AGENT_BUSY },
                { "active", "running", "failed", true, AGENT_FAILED },
                { "active", "running", "something new", true, AGENT_STARTING },
                { "deactivating", "stop-sigterm", "busy", false, AGENT_STOPPING },
                { "deactivating", "stop-sigterm", "busy", true, AGENT_RESTARTING },
                { "failed", "failed", "", true, AGENT_FAILED },
                { "failed", "failed", "", false, AGENT_STOPPED },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(agent_state_derive(t[i].active, t[i].sub, t[i].reported, t[i].desired), t[i].state);
        for (AgentState s = 0; s < _AGENT_STATE_MAX; s++)
                ASSERT_NOT_NULL(agent_state_to_string(s));
}

TEST(credential_name) {
        static const struct {
                const char *path;
                size_t size;
                const char *unit, *credential;
        } t[] = {
#define NAME(s) s, sizeof(s) - 1
                        {NAME("\0c8e50c8e266eb457/unit/puffo-session@zz.service/session"), "puffo-session@zz.service",
                         "session"},
                        {NAME("\0ab/unit/puffo-session@a\\x2db.service/session"), "puffo-session@a\\x2db.service",
                         "session"},
                        {NAME("/run/x/unit/y.service/session"), NULL, NULL}, /* a path, not an abstract name */
                        {NAME("\0ab/unit//session"), NULL, NULL},
                        {NAME("\0ab/unit/y.service/"), NULL, NULL},
                        {NAME("\0ab/unit/y.service"), NULL, NULL},
                        {NAME("\0ab/slice/y.service/session"), NULL, NULL},
                        {NAME("\0ab/unit/y\0.service/session"), NULL, NULL},
                        {NAME("\0"), NULL, NULL},
                        {NAME(""), NULL, NULL},
#undef NAME
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *unit = NULL, *credential = NULL;
                int r = credential_name_parse(t[i].path, t[i].size, &unit, &credential);

                if (!t[i].unit) {
                        ASSERT_EQ(r, -EBADMSG);
                        continue;
                }
                ASSERT_OK(r);
                ASSERT_STREQ(unit, t[i].unit);
                ASSERT_STREQ(credential, t[i].credential);
        }
}

TEST(user_names) {
        static const struct {
                const char *id;
                bool plain;
        } t[] = {
                { "a", true }, { "a-b", true }, { "engineer_alice", true }, { "aaaaaaaaaaaaaaaaaaaaaaaaaaaa", true },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false }, { "bot.x", false }, { "bot\xc3\xa9", false },
                /* what the hash of some other id looks like must not be had by being called so */
                { "0123456789abcdef", false }, { "0123456789abcdeg", true }, { "0123456789ABCDEF", true },
                { "0123456789abcde", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *name = unit_user_name(t[i].id), *again = unit_user_name(t[i].id);

                ASSERT_TRUE(startswith(name, "pf-"));
                ASSERT_TRUE(strlen(name) <= 31);        /* what systemd takes as a user name */
                ASSERT_EQ(streq(name + 3, t[i].id), t[i].plain);
                ASSERT_STREQ(name, again);
        }
}

/* A connection that goes nowhere, for building and reading messages. */
static sd_bus* idle_bus(void) {
        sd_bus *bus = NULL;
        int fds[2];

        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fds[0], fds[0]));
        ASSERT_OK(sd_bus_set_bus_client(bus, 0));
        ASSERT_OK(sd_bus_start(bus));
        close(fds[1]);
        return bus;
}

static sd_bus_message* new_message(sd_bus *bus) {
        sd_bus_message *m = NULL;

        ASSERT_OK(sd_bus_message_new_method_call(bus, &m, NULL, "/x", "x.y", "Z"));
        return m;
}

static int read_options(sd_bus_message *m, RuntimeOptions *ret, sd_bus_error *error) {
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        ASSERT_OK(sd_bus_message_rewind(m, true));
        return runtime_options_read(m, NULL, ret, error);
}

TEST(options) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = idle_bus();
        _cleanup_(runtime_options_done) RuntimeOptions o = {};
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_bus_message_ sd_bus_message *m = new_message(bus);
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        ASSERT_OK(sd_bus_message_append(m, "a{sv}", 4, "RuntimeKind", "s", "cli-local", "MaxTurns", "u", 7,
                                        "AllowedTools", "as", 2, "Read", "Bash(ls:*)", "Model", "s", "m"));
        ASSERT_OK(read_options(m, &o, &error));
        ASSERT_OK(agent_config_new(&c, "rob"));
        ASSERT_OK(runtime_options_apply(&o, c, &error));
        ASSERT_EQ(c->kind, RUNTIME_CLI_LOCAL);
        ASSERT_EQ(c->max_turns, 7);
        ASSERT_STREQ(c->model, "m");
        ASSERT_EQ(strv_length(c->allowed_tools), 2);
        ASSERT_STREQ(c->allowed_tools[1], "Bash(ls:*)");
}

TEST(options_refused) {
        static const struct {
                const char *name, *type, *value;
                const char *text;
        } t[] = {
                { "Colour", "s", "red", "Unknown option 'Colour'." },
                { "Kind", "s", "cli-local", "Unknown option 'Kind'." },
                { "MaxTurns", "s", "7", "Option 'MaxTurns' takes a number (u)." },
                { "AllowedTools", "s", "Read", "Option 'AllowedTools' takes a list of strings (as)." },
        };
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = idle_bus();

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_bus_message_ sd_bus_message *m = new_message(bus);
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_(runtime_options_done) RuntimeOptions o = {};

                ASSERT_OK(sd_bus_message_append(m, "a{sv}", 1, t[i].name, t[i].type, t[i].value));
                ASSERT_TRUE(read_options(m, &o, &error) < 0);
                ASSERT_STREQ(error.name, PUFFO_ERROR_INVALID_ARGUMENT);
                ASSERT_STREQ(error.message, t[i].text);
        }
}

/* Cut after 80 bytes, which may be in the middle of a code point: no bus takes that. */
TEST(option_cut) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = idle_bus();

        for (size_t before = 76; before <= 80; before++) {
                _cleanup_bus_message_ sd_bus_message *m = new_message(bus), *reply = NULL;
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_(runtime_options_done) RuntimeOptions o = {};
                char name[128] = "";

                memset(name, 'x', before);
                memcpy(name + before, "\xf0\x9f\x90\xa1", 4);
                ASSERT_OK(sd_bus_message_append(m, "a{sv}", 1, name, "s", "y"));
                ASSERT_TRUE(read_options(m, &o, &error) < 0);
                ASSERT_STREQ(error.name, PUFFO_ERROR_INVALID_ARGUMENT);
                ASSERT_TRUE(utf8_is_valid(error.message, strlen(error.message)));
                ASSERT_TRUE(startswith(error.message, "Unknown option 'xxx"));
                ASSERT_TRUE(endswith(error.message, "'."));
        }
}

TEST(option_values_refused) {
        static const struct {
                const char *name, *value;
        } t[] = {
                { "RuntimeKind", "cli-sandbox" }, { "SandboxProfile", "none" },
        };
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = idle_bus();

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_bus_message_ sd_bus_message *m = new_message(bus);
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_(runtime_options_done) RuntimeOptions o = {};
                _cleanup_(agent_config_freep) AgentConfig *c = NULL;

                ASSERT_OK(sd_bus_message_append(m, "a{sv}", 1, t[i].name, "s", t[i].value));
                ASSERT_OK(read_options(m, &o, &error));
                ASSERT_OK(agent_config_new(&c, "rob"));
                ASSERT_TRUE(runtime_options_apply(&o, c, &error) < 0);
                ASSERT_NOT_NULL(strstr(error.message, t[i].value));
        }
}

/* Collects the properties of a built StartTransientUnit: "Name" alone, in order, and refuses doubled ones. */
static char** property_names(sd_bus_message *m) {
        const char *unit, *mode, *name;
        char **names = NULL;

        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        ASSERT_OK(sd_bus_message_rewind(m, true));
        ASSERT_OK(sd_bus_message_read(m, "ss", &unit, &mode));
        ASSERT_TRUE(streq(unit, "puffo-session@a\\x2db.service") || streq(unit, "reader.service"));
        ASSERT_STREQ(mode, "fail");
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sv)"));
        while (sd_bus_message_enter_container(m, 'r', "sv") > 0) {
                ASSERT_OK(sd_bus_message_read(m, "s", &name));
                ASSERT_FALSE(strv_contains(names, name));
                ASSERT_OK(strv_extend(&names, name));
                ASSERT_OK(sd_bus_message_skip(m, "v"));
                ASSERT_OK(sd_bus_message_exit_container(m));
        }
        return names;
}

TEST(session_properties) {
        /* systemd 252 ignores its mounts in user mode without PrivateUsers; a session may not name a user there. */
        static const char *const always[] =
                        {
                                        "Slice",
                                        "Type",
                                        "Restart",
                                        "RestartUSec",
                                        "StartLimitIntervalUSec",
                                        "WatchdogUSec",
                                        "Environment",
                                        "FileDescriptorStoreMax",
                                        "LoadCredential",
                                        "PrivateUsers",
                                        "ProtectControlGroups",
                                        "ProtectSystem",
                                        "NoNewPrivileges",
                                        "ExecStart",
                                        "TimeoutStopUSec",
                                        "KillMode",
                        },
                                 *const only_system[] = {"User", "DynamicUser", "StateDirectory", "BindReadOnlyPaths"};
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = idle_bus();

        ASSERT_OK(setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1));
        for (Scope scope = 0; scope < _SCOPE_MAX; scope++) {
                _cleanup_(daemon_config_freep) DaemonConfig *daemon = NULL;
                _cleanup_bus_message_ sd_bus_message *m = new_message(bus);
                _cleanup_(agent_config_freep) AgentConfig *config = NULL;
                _cleanup_(strv_freep) char **names = NULL;

                ASSERT_OK(daemon_config_new(&daemon));
                ASSERT_OK(agent_config_new(&config, "a-b"));
                Manager manager = { .scope = scope, .config = daemon, .restart_usec = 10 * USEC_PER_SEC };
                AgentHome home = {.id = (char *) "a-b",
                                  .directory = (char *) "/h/a-b",
                                  .workspace = (char *) "/h/a-b/workspace"};
                Agent agent = {.manager = &manager,
                               .home = &home,
                               .config = config,
                               .unit = (char *) "puffo-session@a\\x2db.service",
                               .slice = (char *) "puffo-a\\x2db.slice"};

                ASSERT_OK(unit_append_session(m, &agent));
                names = property_names(m);
                for (size_t i = 0; i < ELEMENTSOF(always); i++)
                        ASSERT_TRUE(strv_contains(names, always[i]));
                for (size_t i = 0; i < ELEMENTSOF(only_system); i++)
                        ASSERT_EQ(strv_contains(names, only_system[i]), scope == SCOPE_SYSTEM);
                ASSERT_FALSE(strv_contains(names, "SetCredential"));
        }
}

/* In system mode the service manager would run it as root, and a client's stream that nobody reads keeps it for
 * ever. */
TEST(reader_properties) {
        static const char *const always[] = {
                "Slice", "CollectMode", "RuntimeMaxUSec", "TasksMax", "MemoryMax", "NoNewPrivileges", "ProtectSystem",
                "ProtectHome", "PrivateUsers", "PrivateDevices", "RestrictAddressFamilies", "CapabilityBoundingSet",
                "SystemCallFilter", "StandardOutputFileDescriptor", "ExecStart",
        },
                                 *const only_system[] = { "DynamicUser", "SupplementaryGroups", "PrivateNetwork" },
                                 *const argv[] = { "/bin/true", NULL };
        _cleanup_(sd_bus_close_unrefp) sd_bus *bus = idle_bus();

        for (Scope scope = 0; scope < _SCOPE_MAX; scope++) {
                _cleanup_bus_message_ sd_bus_message *m = new_message(bus);
                _cleanup_(strv_freep) char **names = NULL;

                ASSERT_OK(unit_append_reader(m, scope, "reader.service", argv, STDOUT_FILENO, true));
                names = property_names(m);
                for (size_t i = 0; i < ELEMENTSOF(always); i++)
                        ASSERT_TRUE(strv_contains(names, always[i]));
                for (size_t i = 0; i < ELEMENTSOF(only_system); i++)
                        ASSERT_EQ(strv_contains(names, only_system[i]), scope == SCOPE_SYSTEM);
        }
}

/* In system mode the agent itself can write its agent.yml. */
TEST(limits) {
        static const struct {
                Scope scope;
                uint64_t own, daemon, result;   /* UINT64_MAX: not given, and no limit */
        } t[] = {
                { SCOPE_USER, 9, 5, 9 },          { SCOPE_SYSTEM, 9, 5, 5 },
                { SCOPE_SYSTEM, 3, 5, 3 },        { SCOPE_SYSTEM, UINT64_MAX, 5, 5 },
                { SCOPE_USER, UINT64_MAX, 5, 5 }, { SCOPE_SYSTEM, 3, UINT64_MAX, 3 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(daemon_config_freep) DaemonConfig *daemon = NULL;
                _cleanup_(agent_config_freep) AgentConfig *config = NULL;
                Limits l;

                ASSERT_OK(daemon_config_new(&daemon));
                ASSERT_OK(agent_config_new(&config, "rob"));
                Manager manager = { .scope = t[i].scope, .config = daemon };

                for (size_t n = 0; n < sizeof(Limits) / sizeof(uint64_t); n++) {
                        ((uint64_t*) &daemon->limits)[n] = t[i].daemon;
                        ((uint64_t*) &config->limits)[n] = t[i].own;
                }
                ASSERT_EQ(agent_limits(&manager, config, &l),
                          t[i].scope == SCOPE_SYSTEM && t[i].own != UINT64_MAX && t[i].own > t[i].daemon);
                for (size_t n = 0; n < sizeof(Limits) / sizeof(uint64_t); n++)
                        ASSERT_EQ(((uint64_t*) &l)[n], t[i].result);
        }
}

TEST(key_stays_with_its_address) {
        static const struct {
                const char *key, *url, *resolved_system, *resolved_user;
        } t[] = {
                { "", "", "sk-admin", "sk-admin" }, { "", "https://api.example", "sk-admin", "sk-admin" },
                { "", "http://127.0.0.1:1", "", "sk-admin" }, { "sk-own", "http://127.0.0.1:1", "sk-own", "sk-own" },
        };

        for (Scope scope = 0; scope < _SCOPE_MAX; scope++)
                for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                        _cleanup_(daemon_config_freep) DaemonConfig *daemon = NULL;
                        _cleanup_(agent_config_freep) AgentConfig *config = NULL;
                        _cleanup_(resolved_model_done) ResolvedModel model = {};
                        ProviderConfig *provider;

                        ASSERT_OK(daemon_config_new(&daemon));
                        ASSERT_OK(agent_config_new(&config, "rob"));
                        provider = daemon_config_provider(daemon, "anthropic");
                        ASSERT_OK(free_and_strdup(&provider->api_key, "sk-admin"));
                        ASSERT_OK(free_and_strdup(&provider->base_url, "https://api.example"));
                        ASSERT_OK(free_and_strdup(&config->provider, "anthropic"));
                        ASSERT_OK(free_and_strdup(&config->api_key, t[i].key));
                        ASSERT_OK(free_and_strdup(&config->llm_base_url, t[i].url));
                        Manager manager = { .scope = scope, .config = daemon };

                        ASSERT_OK(agent_resolve_model(&manager, config, &model));
                        ASSERT_STREQ(model.api_key, scope == SCOPE_SYSTEM ? t[i].resolved_system : t[i].resolved_user);
                }
}

TEST(invalid_config_stays_a_problem) {
        char dir[] = "/tmp/test-manager-XXXXXX";
        _cleanup_free_ char *agent_dir = path_join(mkdtemp(dir), "rob"),
                            *file = path_join(agent_dir, "agent.yml"), *error = NULL, *again = NULL;
        static const char good[] = "id: rob\ndisplay_name: Rob\n", bad[] = "id: rob\nstate: [\n";
        _cleanup_(daemon_config_freep) DaemonConfig *daemon = NULL;
        _cleanup_(home_paths_freep) HomePaths *paths = NULL;
        AgentHome *home = NULL;
        Agent *a = NULL;

        ASSERT_OK(setenv("HOME", dir, 1));
        ASSERT_OK(home_paths_new(&paths, SCOPE_USER));
        ASSERT_OK(daemon_config_new(&daemon));
        ASSERT_OK(directory_make(agent_dir, 0700));
        ASSERT_OK(file_write_atomic(file, good, strlen(good), 0600));
        ASSERT_OK(agent_home_open(agent_dir, &home));
        Manager manager = { .scope = SCOPE_USER, .config = daemon, .paths = paths };

        ASSERT_OK(agent_new(&a, &manager, home));
        ASSERT_EQ(agent_load(a, &error), 1);
        ASSERT_EQ(agent_load(a, &error), 0);
        ASSERT_OK(file_write_atomic(file, bad, strlen(bad), 0600));
        ASSERT_ERROR(agent_load(a, &error), EBADMSG);
        ASSERT_ERROR(agent_load(a, &again), EBADMSG);
        ASSERT_STREQ(error, again);
        ASSERT_STREQ(a->config->display_name, "Rob");
        again = mfree(again);
        ASSERT_ERROR(agent_set_desired(a, !a->config->running), EBADMSG);
        ASSERT_OK(file_write_atomic(file, good, strlen(good), 0600));
        ASSERT_EQ(agent_load(a, &again), 1);
        agent_free(a);
        ASSERT_OK(directory_remove(dir));
}

TEST(agent_limits) {
        static const struct {
                Scope scope;
                size_t n_mine, n_others;
                uid_t uid;
                bool ok;
        } t[] = {
                { SCOPE_SYSTEM, 0, 31, 1000, true }, { SCOPE_SYSTEM, 31, 40, 1000, true },
                { SCOPE_SYSTEM, 32, 0, 1000, false }, { SCOPE_SYSTEM, 32, 0, 0, true },
                { SCOPE_USER, 32, 0, 1000, true }, { SCOPE_USER, 1024, 0, 1000, false },
                { SCOPE_SYSTEM, 0, 1024, 0, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Agent mine = { .owner = t[i].uid }, other = { .owner = 4711 }, *agents[1024];
                Manager manager = { .scope = t[i].scope, .agents = agents };
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                while (manager.n_agents < t[i].n_mine + t[i].n_others) {
                        agents[manager.n_agents] = manager.n_agents < t[i].n_mine ? &mine : &other;
                        manager.n_agents++;
                }
                ASSERT_EQ(manager_check_limits(&manager, t[i].uid, &error) >= 0, t[i].ok);
                if (!t[i].ok)
                        ASSERT_STREQ(error.name, PUFFO_ERROR_AGENT_LIMIT);
        }
}

TEST(state_links) {
        char dir[] = "/tmp/test-manager-XXXXXX";
        static const struct {
                const char *name, *target;
                bool stays;
        } t[] = {
                { "there", "../private/puffo/there", true }, { "gone", "../private/puffo/gone", false },
                { "far-gone", "/nowhere/private/puffo/far-gone", false }, { "else", "../private/puffo/gone", true },
                { "other", "/nowhere/other", true },
        };
        _cleanup_free_ char *links = path_join(mkdtemp(dir), "puffo"), *private = path_join(dir, "private"),
                            *agents = path_join(private, "puffo"), *agent = path_join(agents, "there");

        ASSERT_EQ(state_links_sweep(links), 0);
        for (size_t i = 0; i < 4; i++)
                ASSERT_OK(directory_make((char*[]) { links, private, agents, agent }[i], 0700));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = path_join(links, t[i].name);

                ASSERT_EQ(symlink(t[i].target, path), 0);
        }
        ASSERT_EQ(state_links_sweep(links), 2);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = path_join(links, t[i].name);
                struct stat st;

                ASSERT_EQ(lstat(path, &st) == 0, t[i].stays);
        }
        ASSERT_OK(directory_remove(dir));
}

typedef struct WorkerResult {
        sd_event *event;
        char *text;
        int r;
} WorkerResult;

static int work(void *args, char **ret_text) {
        *ret_text = asprintf_new("got %s", (const char*) args);
        return streq(args, "bad") ? -EBADMSG : 5;
}

static int die(void *args, char **ret_text) {
        abort();
}

static int hang(void *args, char **ret_text) {
        while (pause() < 0)
                ;
        return 0;
}

static void work_done(int r, const char *text, void *userdata) {
        WorkerResult *w = userdata;

        w->r = r;
        w->text = strdup(text);
        (void) sd_event_exit(w->event, 0);
}

TEST(worker) {
        static const struct {
                worker_function_t fn;
                const char *args;
                int r;
                const char *text;
        } t[] = {
                { work, "good", 5, "got good" }, { work, "bad", -EBADMSG, "got bad" }, { die, "", -EIO, "" },
                { hang, "", -ETIME, "" },
        };
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WorkerResult w = {};

                ASSERT_OK(sd_event_new(&w.event));
                ASSERT_OK(worker_run(w.event, t[i].fn, (void*) t[i].args, t[i].fn == hang ? USEC_PER_SEC / 10 : 0,
                                     work_done, &w));
                ASSERT_OK(sd_event_loop(w.event));
                ASSERT_EQ(w.r, t[i].r);
                ASSERT_STREQ(w.text, t[i].text);
                free(w.text);
                sd_event_unref(w.event);
        }
}

TEST(transfers) {
        static const struct {
                Scope scope;
                uid_t uid;
                unsigned n;
        } t[] = { { SCOPE_SYSTEM, 1000, 4 }, { SCOPE_SYSTEM, 0, 16 }, { SCOPE_USER, 1000, 16 } };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Manager m = { .scope = t[i].scope };

                for (unsigned n = 0; n < t[i].n; n++)
                        ASSERT_OK(transfer_begin(&m, t[i].uid, NULL));
                for (unsigned round = 0; round < 2; round++) {
                        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

                        ASSERT_TRUE(transfer_begin(&m, t[i].uid, &error) < 0);
                        ASSERT_STREQ(error.name, SD_BUS_ERROR_LIMITS_EXCEEDED);
                        transfer_end(&m, t[i].uid);
                        ASSERT_OK(transfer_begin(&m, t[i].uid, NULL));
                }
                /* Others are not concerned, as long as there is room for anybody. */
                ASSERT_EQ(transfer_begin(&m, 1001, NULL) >= 0, t[i].n < 16);
        }
}

#define TEST_SUITE "manager"
TEST_MAIN();
