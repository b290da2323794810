/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "enclosure.h"
#include "init.h"
#include "probe.h"
#include "promises.h"
#include "string-util.h"

/* First process of a coding CLI's unit: finishes the sandbox that the service manager has begun, makes sure that it is
 * there, and starts the CLI in it (launch.h). */
typedef struct Options {
        Sandbox sandbox;
        ProbeTarget target;
        bool is_probe;
} Options;

static int parse_number(const char *name, const char *text, uint64_t max, uint64_t *ret) {
        int r = parse_u64(text, ret);

        if (r >= 0 && *ret <= max)
                return 0;
        return refuse("--%s: '%s' is no number that it could be", name, text);
}

static int add_path(char ***paths, const char *name) {
        if (*optarg != '/')
                return refuse("--%s: '%s' is no absolute path", name, optarg);
        return strv_extend(paths, optarg) < 0 ? refuse("out of memory") : 0;
}

static int parse_options(int argc, char *argv[], Options *o) {
        enum { OPTION_PROFILE = 256, OPTION_HIDDEN, OPTION_KEPT, OPTION_PLACE, OPTION_USER_NAMESPACE,
               OPTION_NETWORK_NAMESPACE, OPTION_PROBE, OPTION_PORT, OPTION_PID, OPTION_ABSTRACT, OPTION_KEY };
        static const struct option options[] = {
                { "profile", required_argument, NULL, OPTION_PROFILE },
                { "hidden", required_argument, NULL, OPTION_HIDDEN },
                { "kept", required_argument, NULL, OPTION_KEPT },
                { "place", required_argument, NULL, OPTION_PLACE },
                { "user-namespace", required_argument, NULL, OPTION_USER_NAMESPACE },
                { "network-namespace", required_argument, NULL, OPTION_NETWORK_NAMESPACE },
                { "probe", no_argument, NULL, OPTION_PROBE },
                { "port", required_argument, NULL, OPTION_PORT },
                { "pid", required_argument, NULL, OPTION_PID },
                { "abstract", required_argument, NULL, OPTION_ABSTRACT },
                { "key", required_argument, NULL, OPTION_KEY },
                {},
        };
        uint64_t n = 0;
        int c, index = 0, r = 0;

        o->sandbox.profile = _PROFILE_INVALID;
        while (r == 0 && (c = getopt_long(argc, argv, "+", options, &index)) >= 0)
                switch (c) {
                case OPTION_PROFILE:
                        o->sandbox.profile = profile_from_string(optarg);
                        if (o->sandbox.profile < 0)
                                r = refuse("there is no profile '%s': host, workspace, strict", optarg);
                        break;
                case OPTION_HIDDEN:
                        r = add_path(&o->sandbox.hidden, "hidden");
                        break;
                case OPTION_KEPT:
                        r = add_path(&o->sandbox.kept, "kept");
                        break;
                case OPTION_PLACE:
                        r = places_add(&o->sandbox.places, optarg);
                        if (r < 0)
                                r = refuse("--place: %s", r == -EINVAL ? "'ro:DEVICE:INODE:PATH' is expected, or rw" :
                                                                         strerror(-r));
                        break;
                case OPTION_USER_NAMESPACE:
                        r = parse_number(options[index].name, optarg, UINT64_MAX, &o->sandbox.user_namespace);
                        break;
                case OPTION_NETWORK_NAMESPACE:
                        r = parse_number(options[index].name, optarg, UINT64_MAX, &o->sandbox.network_namespace);
                        break;
                case OPTION_PROBE:
                        o->is_probe = true;
                        break;
                case OPTION_PORT:
                        r = parse_number(options[index].name, optarg, UINT16_MAX, &n);
                        o->target.port = (uint16_t) n;
                        break;
                case OPTION_PID:
                        r = parse_number(options[index].name, optarg, INT32_MAX, &n);
                        o->target.pid = (pid_t) n;
                        break;
                case OPTION_ABSTRACT:
                        o->target.abstract = optarg;
                        break;
                case OPTION_KEY:
                        o->target.key = optarg;
                        break;
                default:        /* getopt_long() has said what is wrong */
                        r = EXIT_REFUSED;
                }
        if (r == 0 && optind < argc)
                r = refuse("'%s' is too much", argv[optind]);
        if (r == 0 && o->sandbox.profile < 0)
                r = refuse("--profile= is missing");
        return r;
}

static int run_probe(const Sandbox *s, char *const *missing, void *userdata) {
        return probe_run(s, missing, userdata);
}

/* Passes signals on, and ends as process 1 does. */
static int look_after(pid_t child, const sigset_t *signals) {
        for (;;) {
                int status, signo = sigwaitinfo(signals, NULL);

                if (signo > 0 && signo != SIGCHLD)
                        (void) kill(child, signo);
                if (waitpid(child, &status, WNOHANG) == child)
                        return exit_status_of(status);
        }
}

static int start(InitSpec *spec) {
        static const int caught[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT };
        const char *step;
        sigset_t signals;
        int fds[2], r;
        pid_t child;

        /* From here on a signal is for the CLI; until it is there, it waits. An ignored SIGCHLD would never come. */
        sigemptyset(&signals);
        for (size_t i = 0; i < ELEMENTSOF(caught); i++) {
                (void) sigaddset(&signals, caught[i]);
                (void) signal(caught[i], SIG_DFL);
        }
        if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0 || pipe2(fds, O_CLOEXEC) < 0)
                return refuse("%s", strerror(errno));

        r = enclosure_enter(&step);
        if (r < 0)
                return refuse("%s: %s", step, strerror(-r));
        child = fork();
        if (child < 0)
                return refuse("starting a process: %s", strerror(errno));
        if (child == 0) {
                safe_close(fds[1]);
                spec->parent_fd = fds[0];
                _exit(init_run(spec));
        }
        safe_close(fds[0]);
        spec->launch = launch_free(spec->launch);
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                safe_close(fd);
        return look_after(child, &signals);
}

int main(int argc, char *argv[]) {
        _cleanup_free_ char *reason = NULL;
        Options o = {};
        InitSpec spec = { .sandbox = &o.sandbox, .run = run_probe, .userdata = &o.target };
        int r;

        /* Whatever came along is not for the CLI; three descriptors there must be, so that no other gets their number.
         */
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
                        return EXIT_REFUSED;
        if (close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                return refuse("closing descriptors: %s", strerror(errno));
        umask(0077);
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return refuse("giving up the gain of privileges: %s", strerror(errno));

        r = parse_options(argc, argv, &o);
        if (r != 0)
                return r;
        promises_look_outside(&o.sandbox);
        r = promises_check_outside(&o.sandbox, &spec.missing);
        if (r < 0)
                return refuse("the sandbox cannot be checked: %s", strerror(-r));
        if (o.is_probe) {
                probe_bait_lay(&o.target.bait);
                r = start(&spec);
                probe_bait_take(&o.target.bait);
                return r;
        }
        if (spec.missing)
                return refuse("the profile %s is not what it promises: %s", profile_to_string(o.sandbox.profile),
                              *spec.missing);
        r = launch_read(STDIN_FILENO, &spec.launch, &reason);
        if (r < 0)
                return refuse("%s", reason ?: strerror(-r));
        return start(&spec);
}
