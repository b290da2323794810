/* SPDX-License-Identifier: MIT */

/* The service from a terminal, for as long as that lasts: the same units, with what is particular about them in
 * drop-ins that no reboot survives. */

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "event-util.h"
#include "file-util.h"
#include "paths.h"
#include "proxy.h"
#include "string-util.h"

/* Behind those of enable: of two files with the same name the one that stays would win. */
#define LISTEN_DROP_IN "20-listen.conf"
#define KEY_DROP_IN "20-api-key.conf"

static int runtime_drop_in_directory(Scope scope, char **ret) {
        const char *runtime = scope == SCOPE_SYSTEM ? "/run" : getenv("XDG_RUNTIME_DIR");

        if (isempty(runtime))
                return -ENXIO;
        *ret = path_join(runtime, scope == SCOPE_SYSTEM ? "systemd/system" : "systemd/user");
        return *ret ? 0 : -ENOMEM;
}

static pid_t follow_journal(Scope scope, const sigset_t *signals) {
        pid_t pid = fork();

        if (pid == 0) {
                (void) sigprocmask(SIG_SETMASK, signals, NULL);
                (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
                (void) dup2(STDERR_FILENO, STDOUT_FILENO);
                if (scope == SCOPE_USER)
                        execl("/usr/bin/journalctl", "journalctl", "--user", "--follow", "--lines=0", "--output=short",
                              "--user-unit=puffod.service", "--user-unit=puffo-gateway.service",
                              "--user-unit=puffo-link.service", (char*) NULL);
                else
                        execl("/usr/bin/journalctl", "journalctl", "--follow", "--lines=0", "--output=short",
                              "--unit=puffod.service", "--unit=puffo-gateway.service", "--unit=puffo-link.service",
                              (char*) NULL);
                _exit(127);
        }
        return pid;
}

static int on_gateway_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *state = NULL;
        sd_event *event = sd_bus_get_event(sd_bus_message_get_bus(m));
        _cleanup_free_ char *path = NULL;
        Ctl *c = userdata;

        if (sd_bus_path_encode("/org/freedesktop/systemd1/unit", "puffo-gateway.service", &path) < 0 ||
            sd_bus_get_property_string(c->bus, "org.freedesktop.systemd1", path, "org.freedesktop.systemd1.Unit",
                                       "ActiveState", NULL, &state) < 0)
                return 0;
        return streq(state, "inactive") || streq(state, "failed") ? sd_event_exit(event, 0) : 0;
}

/* Until the gateway ends by itself or we are told to end. */
static int wait_for_end(Ctl *c) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_free_ char *path = NULL, *state = NULL;
        uint32_t pid;
        int r;

        r = event_new(&event);
        if (r >= 0)
                r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", "puffo-gateway.service", &path);
        if (r >= 0)
                r = sd_bus_match_signal(c->bus, NULL, "org.freedesktop.systemd1", path,
                                        "org.freedesktop.DBus.Properties", "PropertiesChanged", on_gateway_changed, c);
        if (r >= 0)
                r = sd_bus_attach_event(c->bus, event, SD_EVENT_PRIORITY_NORMAL);
        /* It may have ended before anybody listened. */
        if (r >= 0)
                r = systemd_unit_state(c, "puffo-gateway.service", &state, &pid);
        if (r >= 0 && !streq(state, "inactive") && !streq(state, "failed"))
                r = sd_event_loop(event);
        (void) sd_bus_detach_event(c->bus);
        return r;
}

/* A key from the environment goes to the gateway as a credential here as well. */
typedef struct RunTime {
        char *drop_ins, *key_file;      /* key_file NULL: no key of our own */
} RunTime;

static void run_time_done(RunTime *t) {
        free(t->drop_ins);
        free(t->key_file);
}

static int put_key(RunTime *t, Scope scope, const char *key) {
        const char *runtime = scope == SCOPE_SYSTEM ? "/run" : getenv("XDG_RUNTIME_DIR");
        _cleanup_free_ char *folder = path_join(strempty(runtime), "agent-proxy"), *text = NULL;
        int r = folder ? directory_make(folder, 0700) : -ENOMEM;

        if (r < 0)
                return r;
        t->key_file = path_join(folder, "api-key");
        text = t->key_file ? proxy_key_drop_in(t->key_file) : NULL;
        if (!text)
                return -ENOMEM;
        r = file_write_atomic(t->key_file, key, strlen(key), 0600);
        return r < 0 ? r : proxy_put_drop_in(t->drop_ins, "puffo-gateway.service", KEY_DROP_IN, text);
}

static int put_run_time(Ctl *c, RunTime *t, const ProxyAddress *address, sd_bus_error *reterr) {
        const char *key = getenv("AGENT_PROXY_API_KEY");
        _cleanup_free_ char *text = NULL;
        int r;

        r = runtime_drop_in_directory(c->scope, &t->drop_ins);
        if (r >= 0 && !proxy_address_is_default(address)) {
                text = proxy_listen_drop_in(address);
                r = text ? proxy_put_drop_in(t->drop_ins, "puffo-gateway.socket", LISTEN_DROP_IN, text) : -ENOMEM;
        }
        if (r >= 0 && !isempty(key))
                r = put_key(t, c->scope, key);
        return r < 0 ? r : systemd_call(c, reterr, NULL, "Reload", NULL);
}

static void remove_run_time(Ctl *c, const RunTime *t) {
        if (t->key_file)
                (void) unlink(t->key_file);
        if (!t->drop_ins)
                return;
        if (proxy_put_drop_in(t->drop_ins, "puffo-gateway.socket", LISTEN_DROP_IN, NULL) +
                            proxy_put_drop_in(t->drop_ins, "puffo-gateway.service", KEY_DROP_IN, NULL) > 0)
                (void) systemd_call(c, NULL, NULL, "Reload", NULL);
}

static int run_service(Ctl *c, const ProxyAddress *address) {
        static const char *const gateway[] = { "puffo-gateway.socket", "puffo-gateway.service", NULL };
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL, ignored = SD_BUS_ERROR_NULL;
        _cleanup_(run_time_done) RunTime run_time = {};
        pid_t journal = -1;
        sigset_t end, before;
        int r;

        /* Told to end while the service is still being started, we end when it is: then there is something to stop. */
        (void) sigemptyset(&end);
        (void) sigaddset(&end, SIGTERM);
        (void) sigaddset(&end, SIGINT);
        (void) sigprocmask(SIG_BLOCK, &end, &before);

        r = put_run_time(c, &run_time, address, &error);
        if (r >= 0) {
                journal = follow_journal(c->scope, &before);
                r = proxy_start_service(c, /* changed= */ true, &error);
        }
        if (r >= 0)
                r = wait_for_end(c);

        (void) systemd_run_jobs(c, &ignored, "StopUnit", gateway);
        remove_run_time(c, &run_time);
        if (journal > 0) {
                (void) kill(journal, SIGTERM);
                (void) waitpid(journal, NULL, 0);
        }
        return r < 0 ? ctl_fail_bus(c, r, &error, "cannot run the service") : EXIT_SUCCESS;
}

int proxy_daemon(Ctl *c, const Arguments *a) {
        _cleanup_(proxy_address_done) ProxyAddress address = {};
        _cleanup_(home_paths_freep) HomePaths *paths = NULL;
        _cleanup_free_ char *state = NULL, *key_file = NULL;
        bool key_in_settings;
        uint32_t pid;
        int status;

        if (home_paths_new(&paths, c->scope) < 0)
                return ctl_fail(c, "cannot find your home directory");
        status = proxy_read_address(c, a, paths, &address, &key_in_settings);
        if (status != EXIT_SUCCESS)
                return status;
        key_file = path_join(paths->proxy_state, "api-key");
        if (!key_file)
                return ctl_oom(c);
        if (!address.loopback && !key_in_settings && isempty(getenv("AGENT_PROXY_API_KEY")) &&
            access(key_file, F_OK) < 0)
                return proxy_refuse_open_address(c, &address);
        if (systemd_unit_state(c, "puffo-gateway.service", &state, &pid) >= 0 && streq(state, "active"))
                return ctl_fail(c, "the service is running already (pid %u)", pid);
        return run_service(c, &address);
}
