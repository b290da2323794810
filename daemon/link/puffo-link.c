/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "config.h"
#include "event-util.h"
#include "link.h"
#include "log.h"

#define LISTENER_NAME "link"
#define IDLE_USEC (60 * USEC_PER_SEC)

static void help(FILE *f) {
        (void) fprintf(f, "puffo-link\n\n"
                          "The network of the agents' sessions: their HTTP requests and WebSockets. "
                          "Serves the socket that systemd passes as \"" LISTENER_NAME "\", and ends when nobody has\n"
                          "wanted anything for a minute.\n\n"
                          "  --version   show the version\n"
                          "  --help      show this text\n");
}

/* > 0: done already. */
static int parse_arguments(int argc, char **argv) {
        enum { ARG_VERSION = 0x100, ARG_HELP };
        static const struct option options[] = {
                { "version", no_argument, NULL, ARG_VERSION },
                { "help", no_argument, NULL, ARG_HELP },
                {},
        };

        for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0; )
                switch (c) {
                case ARG_VERSION:
                        (void) puts("puffo-link " PROJECT_VERSION);
                        return 1;
                case ARG_HELP:
                        help(stdout);
                        return 1;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                help(stderr);
                return -EINVAL;
        }
        return 0;
}

/* -ENOTCONN: there is none. */
static int take_listener(int *ret) {
        char **names = NULL;
        int n, fd = -EBADF;

        n = sd_listen_fds_with_names(/* unset_environment= */ true, &names);
        if (n < 0)
                return n;
        for (int i = 0; i < n; i++) {
                if (fd < 0 && streq(names[i], LISTENER_NAME) &&
                    sd_is_socket_unix(SD_LISTEN_FDS_START + i, SOCK_STREAM, /* listening= */ 1, NULL, 0) > 0)
                        fd = SD_LISTEN_FDS_START + i;
                else
                        safe_close(SD_LISTEN_FDS_START + i);
                free(names[i]);
        }
        free(names);
        if (fd < 0)
                return -ENOTCONN;
        /* Somebody who has thought better of it must not leave us waiting in accept4(). */
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
                safe_close(fd);
                return -errno;
        }
        *ret = fd;
        return 0;
}

static int run(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(link_freep) Link *l = NULL;
        int fd = -EBADF, r;

        r = take_listener(&fd);
        if (r == -ENOTCONN) {
                log_error("No listening socket was passed: start puffo-link.socket.");
                return r;
        }
        if (r < 0)
                return log_error_errno(r, "Failed to take the listening socket: %m");
        r = event_new(&event);
        if (r >= 0)
                r = link_new(&l, event, fd, IDLE_USEC);
        if (r < 0)
                return log_error_errno(r, "Failed to serve the listening socket: %m");

        (void) sd_notify(0, "READY=1");
        r = sd_event_loop(event);
        (void) sd_notify(0, "STOPPING=1");
        return r < 0 ? log_error_errno(r, "The event loop failed: %m") : r;
}

int main(int argc, char **argv) {
        int r;

        /* As puffo-session, of which there may be hundreds at the other end. */
        (void) mallopt(M_ARENA_MAX, 1);
        (void) mallopt(M_TRIM_THRESHOLD, (int) KIB(64));

        log_open("puffo-link");
        r = parse_arguments(argc, argv);
        if (r != 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        return run() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
