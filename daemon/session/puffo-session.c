/* SPDX-License-Identifier: MIT */

#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "crash-point.h"
#include "config.h"
#include "event-util.h"
#include "file-util.h"
#include "link-client.h"
#include "log.h"
#include "session.h"
#include "string-util.h"

typedef struct Arguments {
        Scope scope;
        const char *id, *directory;
} Arguments;

static void help(void) {
        (void) printf("puffo-session --user|--system ID DIRECTORY\n\n"
                      "Runs one agent: its queue, its conversations and its calls of the model. Started by puffod as\n"
                      "puffo-session@ID.service; DIRECTORY is the agent's, with agent.yml in it.\n\n"
                      "  --user       an agent of this user\n"
                      "  --system     an agent of the system's puffod\n"
                      "  --help       this text\n"
                      "  --version    the version\n");
}

/* 0: run, > 0: done already. */
static int arguments_parse(Arguments *a, int argc, char **argv) {
        static const struct option options[] = {
                { "user", no_argument, NULL, 'u' }, { "system", no_argument, NULL, 's' },
                { "help", no_argument, NULL, 'h' }, { "version", no_argument, NULL, 'v' }, {},
        };
        int c;

        a->scope = _SCOPE_INVALID;
        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case 'u':
                        a->scope = SCOPE_USER;
                        break;
                case 's':
                        a->scope = SCOPE_SYSTEM;
                        break;
                case 'h':
                        help();
                        return 1;
                case 'v':
                        (void) printf("puffo-session %s\n", PROJECT_VERSION);
                        return 1;
                default:
                        return -EINVAL;
                }
        if (a->scope < 0 || argc - optind != 2) {
                log_error("Usage: puffo-session --user|--system ID DIRECTORY");
                return -EINVAL;
        }
        a->id = argv[optind];
        a->directory = argv[optind + 1];
        if (!agent_id_is_valid(a->id) || a->directory[0] != '/') {
                log_error("An agent id and an absolute directory are needed.");
                return -EINVAL;
        }
        return 0;
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *si, void *userdata) {
        session_stop(*(Session**) userdata);
        return 0;
}

/* A stop is a matter of the running turn. The loop hears of the end of children only while SIGCHLD is blocked. */
static int event_setup(sd_event **ret, Session **session) {
        sigset_t mask;

        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        return event_new_with_stop(ret, on_signal, session);
}

/* Of puffod's private bus; and tells the network where puffo-link is. */
static int socket_path(Scope scope, char **ret) {
        _cleanup_free_ char *directory = NULL, *link = NULL;
        int r;

        r = scope_runtime_directory(scope, &directory);
        if (r < 0)
                return r;
        link = path_join(directory, "link");
        if (!link)
                return -ENOMEM;
        r = link_set_socket(link);
        if (r < 0)
                return r;
        *ret = path_join(directory, "private");
        return *ret ? 0 : -ENOMEM;
}

/* From here to READY=1 there is nothing to wait for but processor and disk, of which others may take all for a while. Who
 * is killed over that begins from the start, and makes it worse. */
#define START_USEC (120 * USEC_PER_SEC)

static int run(const Arguments *a) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(session_freep) Session *session = NULL;
        _cleanup_free_ char *socket = NULL, *field = NULL, *crash_at = NULL;
        int r;

        (void) sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, START_USEC);
        field = strjoin("PUFFO_AGENT=", a->id);
        if (!field || log_add_process_field(field) < 0)
                return log_oom();
        crash_at = path_join(a->directory, "crash-at");
        if (!crash_at)
                return log_oom();
        crash_point_watch(crash_at);
        r = socket_path(a->scope, &socket);
        if (r < 0)
                return log_error_errno(r, "Failed to find the runtime directory: %m");
        r = event_setup(&event, &session);
        if (r < 0)
                return log_error_errno(r, "Failed to set up the event loop: %m");
        r = session_new(&session, &(SessionSpec) {
                .event = event, .id = a->id, .directory = a->directory, .socket = socket,
        });
        if (r < 0)
                return r;

        (void) sd_notify(0, "READY=1");
        r = sd_event_loop(event);
        if (r < 0)
                return log_error_errno(r, "The event loop failed: %m");
        return r;
}

int main(int argc, char **argv) {
        Arguments a = {};
        int r;

        /* Hundreds of these may sit idle: one arena, and freed memory goes back at once. */
        (void) mallopt(M_ARENA_MAX, 1);
        (void) mallopt(M_TRIM_THRESHOLD, (int) KIB(64));
        (void) mallopt(M_MMAP_THRESHOLD, (int) KIB(64));

        log_open("puffo-session");
        r = arguments_parse(&a, argc, argv);
        if (r != 0)
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        r = run(&a);
        return r < 0 ? EXIT_FAILURE : r;
}
