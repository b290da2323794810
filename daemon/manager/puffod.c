/* SPDX-License-Identifier: MIT */

#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>

#include "agent-home.h"
#include "bus-util.h"
#include "config.h"
#include "event-util.h"
#include "helpers.h"
#include "log.h"
#include "manager.h"
#include "private-server.h"
#include "string-util.h"

#define STOP_USEC (5 * USEC_PER_SEC)

typedef struct Options {
        Scope scope;
        const char *introspect;
} Options;

static void print_help(void) {
        printf("puffod --user|--system\n\n"
               "Control plane of the AI agents: keeps their units as agent.yml asks and exports " PUFFO_BUS_NAME "\n"
               "on the session or system bus. Started by systemd (puffod.service), with its sockets.\n\n"
               "  --user                    Live under the user's service manager\n"
               "  --system                  Live under PID 1\n"
               "  --bus-introspect=NAME     Print an interface as XML and exit\n"
               "  --version                 Print the version and exit\n"
               "  -h, --help                Print this and exit\n");
}

/* > 0: go on; 0: done; < 0: usage. */
static int parse_argv(int argc, char *argv[], Options *ret) {
        enum { ARG_USER = 0x100, ARG_SYSTEM, ARG_INTROSPECT, ARG_VERSION };
        static const struct option options[] = {
                { "user", no_argument, NULL, ARG_USER },
                { "system", no_argument, NULL, ARG_SYSTEM },
                { "bus-introspect", required_argument, NULL, ARG_INTROSPECT },
                { "version", no_argument, NULL, ARG_VERSION },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        int c;

        *ret = (Options) { .scope = _SCOPE_INVALID };
        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {

                case ARG_USER:
                        ret->scope = SCOPE_USER;
                        break;

                case ARG_SYSTEM:
                        ret->scope = SCOPE_SYSTEM;
                        break;

                case ARG_INTROSPECT:
                        ret->introspect = optarg;
                        break;

                case ARG_VERSION:
                        printf("puffod " PROJECT_VERSION "\n");
                        return 0;

                case 'h':
                        print_help();
                        return 0;

                default:
                        return -EINVAL;
                }

        if (optind < argc || (ret->scope < 0 && !ret->introspect)) {
                fprintf(stderr, "puffod: one of --user and --system is needed, and nothing else; see --help\n");
                return -EINVAL;
        }
        return 1;
}

/* Descriptors come in no order to rely on: by name only. */
static int find_listen_fds(int *ret_private, int *ret_credentials) {
        char **names = NULL;
        int n;

        *ret_private = *ret_credentials = -EBADF;
        n = sd_listen_fds_with_names(/* unset_environment= */ 1, &names);
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (streq(names[i], "private") && *ret_private < 0)
                        *ret_private = fd;
                else if (streq(names[i], "credentials") && *ret_credentials < 0)
                        *ret_credentials = fd;
                else {
                        log_warning("Unexpected socket '%s' was passed, closing it.", names[i]);
                        safe_close(fd);
                }
        }
        strv_free(n >= 0 ? names : NULL);
        if (n < 0)
                return n;
        return *ret_private >= 0 && *ret_credentials >= 0 ? 0 : -ENOENT;
}

typedef struct SweepArgs {
        const HomePaths *paths;
        time_t before;
} SweepArgs;

static int sweep_run(void *userdata, char **ret_text) {
        const SweepArgs *args = userdata;
        int r = agent_homes_sweep(args->paths, args->before);

        if (r > 0)
                log_notice("Removed %d directories that were half made or half removed when puffod was killed.", r);
        return r;
}

static void sweep_done(int r, const char *text, void *userdata) {
        if (r < 0)
                (void) log_warning_errno(r, "Failed to remove half-made directories, ignoring: %m");
}

static int on_name_acquired(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Manager *manager = userdata;
        int r;

        if (e) {
                log_error("The bus name " PUFFO_BUS_NAME " cannot be had (%s): does another puffod run?", e->message);
                return sd_event_exit(manager->event, 1);
        }
        /* Now there is no other who could be at it, and what we make ourselves is younger. */
        r = worker_run(manager->event, sweep_run, &(SweepArgs) { manager->paths, time(NULL) - 1 }, 0, sweep_done,
                       NULL);
        if (r < 0)
                sweep_done(r, NULL, NULL);
        (void) sd_notify(/* unset_environment= */ 0, "READY=1\nSTATUS=Keeping agents as they should be");
        return 0;
}

static void on_known(Manager *m) {
        int r;

        r = sd_bus_request_name_async(m->bus, NULL, PUFFO_BUS_NAME, 0, on_name_acquired, m);
        if (r < 0) {
                log_error_errno(r, "Failed to ask for the bus name: %m");
                (void) sd_event_exit(m->event, r);
        }
}

static int on_bus_lost(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Manager *manager = userdata;

        log_error("The connection to the bus is lost; starting anew.");
        return sd_event_exit(manager->event, 1);
}

static int on_idle(sd_event_source *s, void *userdata) {
        return sd_event_exit(sd_event_source_get_event(s), 0);
}

static int on_stop_limit(sd_event_source *s, uint64_t usec, void *userdata) {
        return on_idle(s, userdata);
}

/* The name goes first, so that new calls reach the next puffod; those that have come already are still answered: the
 * end has the lowest priority of all. Whoever never stops calling does not put it off for long. */
static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        sd_event *event = sd_event_source_get_event(s);
        Manager **m = userdata;
        sd_event_source *idle = NULL;
        int r;

        (void) sd_notify(/* unset_environment= */ 0, "STOPPING=1");
        if (!*m)
                return sd_event_exit(event, 0);
        private_server_pause((*m)->private_server);
        credential_server_pause((*m)->credential_server);
        (void) sd_bus_release_name_async((*m)->bus, NULL, PUFFO_BUS_NAME, NULL, NULL);
        r = sd_event_add_defer(event, &idle, on_idle, NULL);
        if (r >= 0)
                r = sd_event_source_set_priority(idle, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_source_set_floating(idle, true);
        sd_event_source_unref(idle);
        if (r >= 0)
                r = sd_event_add_time_relative(event, NULL, CLOCK_BOOTTIME, STOP_USEC, 0, on_stop_limit, NULL);
        return r < 0 ? sd_event_exit(event, 0) : 0;
}

static int run(const Options *options) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(manager_freep) Manager *m = NULL;
        int private_fd, credentials_fd, r;
        sigset_t mask;

        umask(0077);
        if (sodium_init() < 0)
                return log_error_errno(EIO, "Failed to initialise libsodium.");
        r = find_listen_fds(&private_fd, &credentials_fd);
        if (r < 0)
                return log_error_errno(r, "puffod.socket and puffod-credentials.socket did not pass their sockets: "
                                          "puffod is started by systemd (systemctl --%s start puffod.service).",
                                       scope_to_string(options->scope));

        r = event_new_with_stop(&event, on_stop, &m);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the event loop: %m");
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        (void) sigprocmask(SIG_BLOCK, &mask, NULL);

        r = manager_new(&m, options->scope, event);
        if (r < 0) {
                safe_close(private_fd);
                safe_close(credentials_fd);
                return log_error_errno(r, "Failed to set up: %m");
        }
        r = manager_start(m, private_fd, credentials_fd);
        if (r < 0)
                return log_error_errno(r, "Failed to start: %m");

        r = sd_bus_match_signal_async(m->bus, NULL, NULL, "/org/freedesktop/DBus/Local", "org.freedesktop.DBus.Local",
                                      "Disconnected", on_bus_lost, NULL, m);
        if (r < 0)
                return log_error_errno(r, "Failed to watch the bus: %m");
        /* Callers that have waited for the name find running agents running. */
        m->on_known = on_known;

        return sd_event_loop(event);
}

int main(int argc, char *argv[]) {
        Options options;
        int r;

        log_open("puffod");
        r = parse_argv(argc, argv, &options);
        if (r <= 0)
                return r < 0 ? 2 : 0;
        if (options.introspect) {
                r = manager_print_introspection(options.introspect);
                if (r < 0)
                        fprintf(stderr, "puffod: no such interface: %s\n", options.introspect);
                return r < 0;
        }
        return run(&options) != 0;
}
