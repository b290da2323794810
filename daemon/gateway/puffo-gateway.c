/* SPDX-License-Identifier: MIT */

#include <getopt.h>
#include <sodium.h>
#include <stdio.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>

#include "config.h"
#include "event-util.h"
#include "gateway.h"
#include "log-control.h"
#include "log.h"

#define LISTENER_NAME "responses"

static int help(FILE *f) {
        (void) fprintf(f, "puffo-gateway --user|--system\n\n"
                          "The HTTP face of the agents: Responses API on the sockets that systemd passes as \""
                          LISTENER_NAME "\".\n\n"
                          "  --user      for the agents of this user's manager\n"
                          "  --system    for the agents of the system\n"
                          "  --version   show the version\n"
                          "  --help      show this text\n");
        return 0;
}

/* > 0: done already. */
static int parse_arguments(int argc, char **argv, Scope *ret) {
        enum { ARG_USER = 0x100, ARG_SYSTEM, ARG_VERSION, ARG_HELP };
        static const struct option options[] = {
                { "user", no_argument, NULL, ARG_USER },
                { "system", no_argument, NULL, ARG_SYSTEM },
                { "version", no_argument, NULL, ARG_VERSION },
                { "help", no_argument, NULL, ARG_HELP },
                {},
        };
        Scope scope = _SCOPE_INVALID;

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0; )
                switch (c) {
                case ARG_USER:
                        scope = SCOPE_USER;
                        break;
                case ARG_SYSTEM:
                        scope = SCOPE_SYSTEM;
                        break;
                case ARG_VERSION:
                        (void) puts("puffo-gateway " PROJECT_VERSION);
                        return 1;
                case ARG_HELP:
                        (void) help(stdout);
                        return 1;
                default:
                        return -EINVAL;
                }
        if (scope < 0 || optind < argc) {
                (void) help(stderr);
                return -EINVAL;
        }
        *ret = scope;
        return 0;
}

static int refuse(int error, const char *text) {
        log_full(LOG_ERR, error, __FILE__, __LINE__, __func__, NULL, "%s", text);
        (void) sd_notifyf(0, "STATUS=%s\nERRNO=%d", text, abs(error));
        return -abs(error);
}

/* All of the sockets that we were given; > 0 how many. -EPERM was said already. */
static int listen_all(Gateway *g) {
        char **names = NULL;
        int n, taken = 0, r = 0;

        n = sd_listen_fds_with_names(/* unset_environment= */ true, &names);
        if (n < 0)
                return n;
        for (int i = 0; i < n; i++) {
                int fd = SD_LISTEN_FDS_START + i;

                if (r >= 0 && streq(names[i], LISTENER_NAME)) {
                        r = gateway_listen(g, fd);
                        taken++;
                } else
                        safe_close(fd);
                free(names[i]);
        }
        free(names);
        return r < 0 ? r : taken;
}

static int on_stop(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Gateway **g = userdata;

        (void) sd_notify(0, "STOPPING=1\nSTATUS=Telling clients goodbye.");
        if (*g)
                gateway_stop(*g);
        return 0;
}

static int serve(sd_event *event, Gateway *g) {
        int r;

        r = listen_all(g);
        if (r == -EPERM) {
                (void) refuse(r, "Not serving an address that is not loopback without an API key: set "
                                 "AGENT_PROXY_API_KEY (or the credential api-key), or listen on 127.0.0.1.");
                return -EPERM;
        }
        if (r < 0)
                return log_error_errno(r, "Failed to serve the listening socket: %m");
        if (r == 0) {
                (void) refuse(ENOTCONN, "No listening socket was passed: start puffo-gateway.socket.");
                return -EPERM;
        }
        (void) sd_notify(0, "READY=1\nSTATUS=Serving.");
        r = sd_event_loop(event);
        return r < 0 ? log_error_errno(r, "Failed to run the event loop: %m") : r;
}

static int run(Scope scope) {
        _cleanup_(gateway_settings_freep) GatewaySettings *settings = NULL;
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(gateway_freep) Gateway *g = NULL;
        _cleanup_free_ char *problem = NULL;
        int r;

        r = gateway_settings_load(&settings, scope, &problem);
        if (r < 0) {
                (void) refuse(r, problem ?: "Failed to load the settings.");
                return -EPERM;
        }
        r = event_new_with_stop(&event, on_stop, &g);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the event loop: %m");
        r = scope_open_bus(scope, &bus);
        if (r < 0)
                return log_error_errno(r, "Failed to connect to the bus: %m");
        r = sd_bus_set_exit_on_disconnect(bus, true);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the bus: %m");
        r = sd_bus_attach_event(bus, event, 0);
        if (r < 0)
                return log_error_errno(r, "Failed to attach the bus: %m");
        r = log_control_add(bus, "puffo-gateway");
        if (r < 0)
                return log_error_errno(r, "Failed to offer the log level on the bus: %m");
        r = gateway_new(&g, event, bus, scope, settings);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the gateway: %m");
        return serve(event, g);
}

int main(int argc, char **argv) {
        Scope scope;
        int r;

        log_open("puffo-gateway");
        r = parse_arguments(argc, argv, &scope);
        if (r != 0)
                return r < 0 ? EX_USAGE : EXIT_SUCCESS;
        if (sodium_init() < 0) {
                log_error("Failed to set up the crypto library.");
                return EXIT_FAILURE;
        }
        r = run(scope);
        if (r == -EPERM)        /* what only somebody's hand can mend */
                return EX_CONFIG;
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
