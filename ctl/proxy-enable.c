/* SPDX-License-Identifier: MIT */

/* Turning the service on and off. In user mode everything is the user's own to do, but for lingering; in system mode
 * the whole command runs again through sudo. */

#include <fcntl.h>
#include <pwd.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "config.h"
#include "ctl-secret.h"
#include "file-util.h"
#include "paths.h"
#include "proxy.h"
#include "role.h"
#include "string-util.h"

#define STOP_TRIES_MAX 5U
#define LISTEN_DROP_IN "10-listen.conf"
#define KEY_DROP_IN "10-api-key.conf"
#define SUDO "/usr/bin/sudo"
#define SELF BINDIR "/agent-proxy"
#define KEY_SIZE_MAX KIB(16)

static const char *const services[] = { "puffod.service", "puffo-gateway.service", NULL };
static const char *const sockets[] = { "puffod.socket", "puffod-credentials.socket", "puffo-gateway.socket", NULL };

/* --- sudo --- */

static void print_by_hand(const Ctl *c, const char *const *argv) {
        fprintf(stderr, "%s: this needs root; run by hand:\n  sudo", c->program->name);
        for (argv++; *argv; argv++)
                fprintf(stderr, " %s", *argv);
        fputc('\n', stderr);
}

/* Memory to read the line from: nobody has to be at the other end, as with a pipe that has room for a page only. */
static int open_line(const char *line) {
        _cleanup_close_ int fd = memfd_create("line", MFD_CLOEXEC);
        struct iovec iov[] = { { (char*) line, strlen(line) }, { (char*) "\n", 1 } };
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = writev(fd, iov, ELEMENTSOF(iov));
        if (n < 0)
                return -errno;
        if ((size_t) n != strlen(line) + 1)
                return -EIO;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* Absolute paths, no shell. input: what the command reads, if not NULL. The exit status of the command, or
 * EXIT_FAILURE with what to do by hand. */
static int run_as_root(Ctl *c, const char *const *argv, const char *input) {
        _cleanup_close_ int fd = -EBADF;
        pid_t pid;
        int status;

        if (access(SUDO, X_OK) < 0) {
                print_by_hand(c, argv);
                return EXIT_FAILURE;
        }
        if (input) {
                fd = open_line(input);
                if (fd < 0)
                        return ctl_fail(c, "cannot pass the key on: %s", strerror(-fd));
        }
        fflush(stdout);
        pid = fork();
        if (pid < 0)
                return ctl_fail(c, "cannot run sudo: %m");
        if (pid == 0) {
                if (fd >= 0 && dup2(fd, STDIN_FILENO) < 0)
                        _exit(127);
                execv(SUDO, (char *const *) argv);
                _exit(127);
        }
        if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status))
                return EXIT_FAILURE;
        if (WEXITSTATUS(status) != 0)
                print_by_hand(c, argv);
        return WEXITSTATUS(status) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static bool key_is_valid(const char *key) {
        return strlen(key) <= KEY_SIZE_MAX && !key[strcspn(key, "\r\n")];
}

static int refuse_key(const Ctl *c) {
        return ctl_refuse(c, "AGENT_PROXY_API_KEY must be one line of at most 16 KiB");
}

/* -1: we are root already (or need not be), go on here. */
static int system_mode_through_sudo(Ctl *c, const char *verb, const Arguments *a) {
        const char *argv[12] = { SUDO };
        const char *key = streq(verb, "enable") ? getenv("AGENT_PROXY_API_KEY") : NULL;
        size_t n = 1;

        if (c->scope != SCOPE_SYSTEM || geteuid() == 0)
                return -1;
        if (key && !key_is_valid(key))
                return refuse_key(c);
        argv[n++] = SELF;
        argv[n++] = verb;
        argv[n++] = "--system";
        if (arguments_value(a, "ip")) {
                argv[n++] = "--ip";
                argv[n++] = arguments_value(a, "ip");
        }
        if (arguments_value(a, "port")) {
                argv[n++] = "--port";
                argv[n++] = arguments_value(a, "port");
        }
        if (arguments_has(a, "agents"))
                argv[n++] = "--agents";
        /* By a pipe: arguments can be read by everybody, and sudo logs the variables that it is to preserve. */
        if (!isempty(key))
                argv[n++] = "--api-key";
        return run_as_root(c, argv, isempty(key) ? NULL : key);
}

/* --- lingering --- */

static bool user_lingers(const char *name) {
        _cleanup_free_ char *path = path_join("/var/lib/systemd/linger", name);

        return path && access(path, F_OK) == 0;
}

static int set_linger(Ctl *c, const char *name, bool on) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_open_system(&bus);
        if (r >= 0)
                r = sd_bus_call_method(bus, "org.freedesktop.login1", "/org/freedesktop/login1",
                                       "org.freedesktop.login1.Manager", "SetUserLinger", &error, NULL, "ubb",
                                       (uint32_t) getuid(), on, 0);
        if (r >= 0)
                return EXIT_SUCCESS;
        return run_as_root(c, (const char *const[]){SUDO, "/usr/bin/loginctl", on ? "enable-linger" : "disable-linger",
                                                    name, NULL}, NULL);
}

/* So that agents run without a login. That it was off is remembered, for disable. */
static int enable_linger(Ctl *c, const HomePaths *p) {
        struct passwd *user = getpwuid(getuid());
        int r, status;

        if (c->scope == SCOPE_SYSTEM)
                return EXIT_SUCCESS;
        if (!user)
                return ctl_fail(c, "cannot find out your user name");
        if (user_lingers(user->pw_name))
                return EXIT_SUCCESS;
        status = set_linger(c, user->pw_name, true);
        if (status != EXIT_SUCCESS)
                return status;
        /* Not before: a mark without our doing would have disable turn off what somebody else wants. */
        r = proxy_linger_remember(p->proxy_state);
        return r < 0 ? ctl_fail(c, "cannot write to '%s': %s", p->proxy_state, strerror(-r)) : EXIT_SUCCESS;
}

static int disable_linger(Ctl *c, const HomePaths *p) {
        struct passwd *user = getpwuid(getuid());
        int status, r;

        if (c->scope == SCOPE_SYSTEM || !user || !proxy_linger_is_remembered(p->proxy_state))
                return EXIT_SUCCESS;
        fprintf(stderr,
                "%s: lingering goes off again, as it was before: your services stop as soon as you are not "
                "logged in\n",
                c->program->name);
        status = set_linger(c, user->pw_name, false);
        if (status != EXIT_SUCCESS)     /* remembered for the next time */
                return status;
        r = proxy_linger_forget(p->proxy_state);
        return r < 0 ? ctl_fail(c, "cannot write to '%s': %s", p->proxy_state, strerror(-r)) : EXIT_SUCCESS;
}

/* --- the key --- */

/* From the environment into a file of its own; one that is there already stays in force. *ret: its path, NULL for
 * none. *ret_changed: it is another key than before. */
static int keep_key(Ctl *c, const HomePaths *p, char **ret, bool *ret_changed) {
        _cleanup_free_ char *path = path_join(p->proxy_state, "api-key"), *old = NULL;
        const char *key = getenv("AGENT_PROXY_API_KEY");
        int r;

        if (!path)
                return ctl_oom(c);
        if (isempty(key)) {
                *ret = access(path, F_OK) == 0 ? TAKE_PTR(path) : NULL;
                return EXIT_SUCCESS;
        }
        if (!key_is_valid(key))
                return refuse_key(c);
        r = file_read(path, KEY_SIZE_MAX, &old, NULL);
        if (r < 0 || !streq(old, key)) {
                r = file_write_atomic(path, key, strlen(key), 0600);
                if (r < 0)
                        return ctl_fail(c, "cannot write '%s': %s", path, strerror(-r));
                *ret_changed = true;
        }
        *ret = TAKE_PTR(path);
        return EXIT_SUCCESS;
}

/* --- enable --- */

/* > 0: something is different. */
static int write_drop_ins(const char *directory, const ProxyAddress *address, const char *key_file) {
        _cleanup_free_ char *listen_text = NULL, *key_text = NULL;
        int a, b;

        if (!proxy_address_is_default(address)) {
                listen_text = proxy_listen_drop_in(address);
                if (!listen_text)
                        return -ENOMEM;
        }
        if (key_file) {
                key_text = proxy_key_drop_in(key_file);
                if (!key_text)
                        return -ENOMEM;
        }
        a = proxy_put_drop_in(directory, "puffo-gateway.socket", LISTEN_DROP_IN, listen_text);
        b = a < 0 ? a : proxy_put_drop_in(directory, "puffo-gateway.service", KEY_DROP_IN, key_text);
        return b < 0 ? b : a + b;
}

static int append_units(sd_bus_message *m) {
        int r = sd_bus_message_open_container(m, 'a', "s");

        for (const char *const *u = proxy_units; *u && r >= 0; u++)
                r = sd_bus_message_append(m, "s", *u);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int change_unit_files(Ctl *c, const char *member, bool enable, sd_bus_error *reterr) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = ctl_connect(c, reterr);
        if (r >= 0)
                r = sd_bus_message_new_method_call(c->bus, &m, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                                   "org.freedesktop.systemd1.Manager", member);
        if (r >= 0)
                r = append_units(m);
        if (r >= 0)
                r = enable ? sd_bus_message_append(m, "bb", 0, 1) : sd_bus_message_append(m, "b", 0);
        if (r >= 0)
                r = sd_bus_call(c->bus, m, 0, reterr, NULL);
        return r < 0 ? r : systemd_call(c, reterr, NULL, "Reload", NULL);
}

/* The bus learns of the activation file; without it only the service itself would make the name known. */
static void reload_bus_configuration(Ctl *c) {
        (void) sd_bus_call_method(c->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                  "ReloadConfig", NULL, NULL, NULL);
}

/* Not as ctl_fail_bus(): "try enable" is no advice here. */
static int fail_units(Ctl *c, int r, const sd_bus_error *e, const char *doing) {
        const char *detail = e->message ?: strerror(abs(r)), *mode = c->scope == SCOPE_USER ? " --user" : "";

        if (sd_bus_error_has_name(e, SYSTEMD_UNIT_MASKED))
                return ctl_fail(c, "cannot %s: %s (undo that with 'systemctl%s unmask UNIT')", doing, detail, mode);
        if (sd_bus_error_has_name(e, SYSTEMD_NO_SUCH_UNIT))
                return ctl_fail(c, "cannot %s: %s (is the package installed as a whole?)", doing, detail);
        if (ctl_daemon_is_down(r, e))
                return ctl_fail(c, "cannot %s: %s", doing, detail);
        return ctl_fail_bus(c, r, e, "cannot %s", doing);
}

/* A socket takes a new address only when it and its service are down. */
int proxy_start_service(Ctl *c, bool changed, sd_bus_error *reterr) {
        static const char *const gateway[] = { "puffo-gateway.socket", "puffo-gateway.service", NULL };
        int r = 0;

        if (changed)
                r = systemd_run_jobs(c, reterr, "StopUnit", gateway);
        if (r >= 0)
                r = systemd_run_jobs(c, reterr, "StartUnit", sockets);
        return r < 0 ? r : systemd_run_jobs(c, reterr, "StartUnit", services);
}

/* The first agent is there before anybody asks. */
static void make_manager(Ctl *c, const HomePaths *p, const char *url) {
        AgentHome *home = NULL;

        if (c->scope == SCOPE_USER && role_agent_ensure(p, ROLE_MANAGER, NULL, url, &home) >= 0)
                agent_home_free(home);
}

static int enable_with(Ctl *c, const HomePaths *p, const ProxyAddress *address, bool key_in_settings) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *key_file = NULL, *directory = NULL, *url = proxy_address_url(address);
        bool changed = false;
        int r, status;

        if (!url)
                return ctl_oom(c);
        r = directory_make(p->proxy_state, 0700);
        if (r < 0)
                return ctl_fail(c, "cannot make '%s': %s", p->proxy_state, strerror(-r));
        status = keep_key(c, p, &key_file, &changed);
        if (status != EXIT_SUCCESS)
                return status;
        if (!address->loopback && !key_file && !key_in_settings)
                return proxy_refuse_open_address(c, address);

        make_manager(c, p, url);
        r = proxy_drop_in_directory(c->scope, &directory);
        if (r >= 0)
                r = write_drop_ins(directory, address, key_file);
        if (r < 0)
                return ctl_fail(c, "cannot write drop-ins to '%s': %s", strempty(directory), strerror(-r));
        changed |= r > 0;

        r = change_unit_files(c, "EnableUnitFiles", true, &error);
        if (r >= 0) {
                reload_bus_configuration(c);
                r = proxy_start_service(c, changed, &error);
        }
        if (r < 0)
                return fail_units(c, r, &error, "start the service");
        /* Last: refused, it leaves a service that works for as long as somebody is logged in. */
        status = enable_linger(c, p);
        if (status == EXIT_SUCCESS)
                printf("enabled: %s\n", url);
        return status;
}

int proxy_enable(Ctl *c, const Arguments *a) {
        _cleanup_(proxy_address_done) ProxyAddress address = {};
        _cleanup_(home_paths_freep) HomePaths *paths = NULL;
        _cleanup_(secret_freep) char *key = NULL;
        bool key_in_settings;
        int status;

        status = secret_from_option(c, a, "api-key", "Key of the clients", &key);
        if (status != EXIT_SUCCESS)
                return status;
        if (key && setenv("AGENT_PROXY_API_KEY", key, true) < 0)
                return ctl_oom(c);
        if (home_paths_new(&paths, c->scope) < 0)
                return ctl_fail(c, "cannot find your home directory");
        status = proxy_read_address(c, a, paths, &address, &key_in_settings);
        if (status != EXIT_SUCCESS)
                return status;
        status = system_mode_through_sudo(c, "enable", a);
        if (status >= 0)
                return status;
        return enable_with(c, paths, &address, key_in_settings);
}

/* --- disable --- */

/* Whoever calls puffod while it goes down has the bus start it again, and its stop is cancelled. The gateway does so;
 * it is gone before. Others may, too, and are not ours to stop. */
static int stop_everything(Ctl *c, sd_bus_error *reterr) {
        static const char *const gateway[] = { "puffo-gateway.socket", "puffo-gateway.service", NULL },
                          *const agents[] = { "puffo.slice", NULL },
                          *const link[] = { "puffo-link.socket", "puffo-link.service", NULL };
        int r;

        for (unsigned tries = 0;; tries++) {
                r = systemd_run_jobs(c, reterr, "StopUnit", gateway);
                if (r >= 0)
                        r = systemd_run_jobs(c, reterr, "StopUnit", proxy_units);
                if (r >= 0)
                        r = systemd_run_jobs(c, reterr, "StopUnit", agents);
                /* It would end by itself, a minute later. */
                if (r >= 0)
                        r = systemd_run_jobs(c, reterr, "StopUnit", link);
                if (r >= 0 || tries >= STOP_TRIES_MAX || !sd_bus_error_has_name(reterr, PUFFO_ERROR_FAILED))
                        return r;
                sd_bus_error_free(reterr);
        }
}

int proxy_disable(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(home_paths_freep) HomePaths *paths = NULL;
        _cleanup_free_ char *directory = NULL;
        int r, status;

        status = system_mode_through_sudo(c, "disable", a);
        if (status >= 0)
                return status;
        if (home_paths_new(&paths, c->scope) < 0 || proxy_drop_in_directory(c->scope, &directory) < 0)
                return ctl_fail(c, "cannot find your home directory");

        r = stop_everything(c, &error);
        if (r >= 0)
                r = proxy_put_drop_in(directory, "puffo-gateway.socket", LISTEN_DROP_IN, NULL);
        if (r >= 0)
                r = proxy_put_drop_in(directory, "puffo-gateway.service", KEY_DROP_IN, NULL);
        if (r >= 0)
                r = change_unit_files(c, "DisableUnitFiles", false, &error);
        if (r < 0)
                return fail_units(c, r, &error, "disable the service");

        status = disable_linger(c, paths);
        if (status == EXIT_SUCCESS)
                printf("disabled\n");
        return status;
}

/* --- restart --- */

static int restart_agents(Ctl *c) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agents = NULL;
        int r, status = EXIT_SUCCESS;

        r = ctl_get_agents(c, true, &error, &agents);
        if (r < 0)
                return proxy_fail(c, r, &error, NULL, "list the agents");
        for (size_t i = 0; i < json_object_array_length(agents); i++) {
                _cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
                json_object *agent = json_object_array_get_idx(agents, i);
                const char *id = json_get_string(agent, "id");

                if (!streq_ptr(json_get_string(agent, "desired"), "running"))
                        continue;
                r = ctl_call_agent(c, id, &e, NULL, CTL_CALL_TIMEOUT_USEC, "Restart", NULL);
                if (r < 0 && !sd_bus_error_has_name(&e, PUFFO_ERROR_NOT_READY))
                        status = ctl_fail_bus(c, r, &e, "cannot restart agent '%s'", id);
        }
        return status;
}

int proxy_restart(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *properties = NULL;
        int r, status;

        status = system_mode_through_sudo(c, "restart", a);
        if (status >= 0)
                return status;
        /* READY=1 of both is what the jobs wait for. The gateway's socket stays: requests wait until it answers. */
        for (const char *const *s = services; *s; s++) {
                r = systemd_run_jobs(c, &error, "RestartUnit", (const char *const []) { *s, NULL });
                if (r < 0)
                        return proxy_fail(c, r, &error, NULL, "restart the service");
        }
        r = ctl_get_properties(c, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, /* start= */ true, &error, &properties);
        if (r < 0)
                return proxy_fail(c, r, &error, NULL, "reach the service that was restarted");
        if (arguments_has(a, "agents")) {
                status = restart_agents(c);
                if (status != EXIT_SUCCESS)
                        return status;
        }
        printf("restarted\n");
        return EXIT_SUCCESS;
}
