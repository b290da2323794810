/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "enclosure.h"
#include "event-util.h"
#include "init.h"
#include "promises.h"
#include "relay.h"
#include "string-util.h"

typedef struct Init {
        InitSpec *spec;
        sd_event *event;
        Relay *model, *proxy;
        pid_t child;
} Init;

int refuse(const char *format, ...) {
        char text[1024];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        /* In one write, so that it stays one line. */
        (void) dprintf(STDERR_FILENO, "puffo-sandbox: %s\n", n < 0 ? "refused" : text);
        return EXIT_REFUSED;
}

int exit_status_of(int status) {
        return WIFSIGNALED(status) ? EXIT_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* --- the child --- */

static void reset_signals(void) {
        sigset_t none;

        /* What is ignored stays so across execve(2). */
        for (int s = 1; s < _NSIG; s++)
                (void) signal(s, SIG_DFL);
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn static void child_run(Init *i) {
        Launch *l = i->spec->launch;
        int error;

        reset_signals();
        (void) setsid();
        if (close_range(STDERR_FILENO + 1, ~0U, 0) < 0)
                _exit(refuse("closing descriptors: %s", strerror(errno)));
        if (!l)
                _exit(i->spec->run(i->spec->sandbox, i->spec->missing, i->spec->userdata));
        if (chdir(l->cwd) < 0)
                _exit(refuse("the working directory %s cannot be entered: %s", l->cwd, strerror(errno)));

        (void) execve(l->argv[0], l->argv, l->environment);
        error = errno;
        (void) refuse("%s cannot be executed: %s", l->argv[0], strerror(error));
        _exit(error == ENOENT || error == ENOTDIR ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

static int child_start(Init *i) {
        int null_fd;

        i->child = fork();
        if (i->child < 0)
                return refuse("starting a process: %s", strerror(errno));
        if (i->child == 0)
                child_run(i);

        /* Who closes the pipes is the CLI: both ends of the session are to notice. */
        i->spec->launch = launch_free(i->spec->launch);
        null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
                if (null_fd < 0 || dup2(null_fd, fd) < 0)
                        (void) close(fd);
        safe_close(null_fd);
        return 0;
}

/* --- the loop --- */

static int on_child(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Init *i = userdata;
        pid_t pid;
        int status;

        /* Everybody's orphans are ours; one signal may stand for many. */
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
                if (pid == i->child) {
                        i->child = 0;
                        (void) sd_event_exit(i->event, exit_status_of(status));
                }
        return 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        Init *i = userdata;

        /* Who is outside has no number here: what is in the sandbox does not speak for the service manager. */
        if (i->child > 0 && si->ssi_pid == 0)
                (void) kill(i->child, (int) si->ssi_signo);
        return 0;
}

static int on_parent_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        return sd_event_exit(((Init*) userdata)->event, EXIT_SIGNAL + SIGKILL);
}

/* A mount goes, without a word to those who see it, when somebody outside puts something else in the place that it is
 * on. Nobody of ours can have done that. */
static int on_mounts_changed(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_free_ char *reason = NULL;
        Init *i = userdata;

        /* Nor is it let go on when there is no memory to say what it was. */
        return places_check(&i->spec->sandbox->places, &reason) >= 0 ? 0 : sd_event_exit(i->event, EXIT_REPLACED);
}

static int watch_mounts(Init *i) {
        _cleanup_close_ int fd = -EBADF;
        sd_event_source *s;
        int r;

        if (i->spec->sandbox->places.n_places == 0)
                return 0;
        fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = sd_event_add_io(i->event, &s, fd, EPOLLPRI, on_mounts_changed, i);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        r = sd_event_source_set_io_fd_own(s, true);
        if (r >= 0) /* before anything that the CLI has asked for */
                r = sd_event_source_set_priority(s, SD_EVENT_PRIORITY_IMPORTANT);
        if (r >= 0)
                r = sd_event_source_set_floating(s, true);
        sd_event_source_unref(s);
        return r;
}

static int loop_new(Init *i) {
        static const int passed_on[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT };
        int r;

        r = sd_event_new(&i->event);
        if (r >= 0)
                r = sd_event_add_signal(i->event, NULL, SIGCHLD, on_child, i);
        for (size_t k = 0; k < ELEMENTSOF(passed_on) && r >= 0; k++)
                r = sd_event_add_signal(i->event, NULL, passed_on[k], on_signal, i);
        if (r >= 0)
                r = sd_event_add_io(i->event, NULL, i->spec->parent_fd, EPOLLHUP, on_parent_gone, i);
        return r < 0 ? r : watch_mounts(i);
}

static int relay_one(Init *i, Relay **relay, const char *socket_path, const char *what) {
        int r = socket_path ? relay_new(relay, i->event, socket_path) : 0;

        return r < 0 ? refuse("listening for the %s: %s", what, strerror(-r)) : 0;
}

static int relays_new(Init *i) {
        Launch *l = i->spec->launch;
        _cleanup_free_ char *reason = NULL;
        int r;

        r = relay_one(i, &i->model, l->model_socket, "model endpoint");
        if (r == 0)
                r = relay_one(i, &i->proxy, l->proxy_socket, "proxy");
        if (r != 0)
                return r;
        r = launch_set_ports(l, i->model ? relay_port(i->model) : 0, i->proxy ? relay_port(i->proxy) : 0, &reason);
        return r < 0 ? refuse("%s", reason ?: strerror(-r)) : 0;
}

/* --- what comes before --- */

static int follow_parent(int parent_fd) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                return -errno;
        /* It may be gone already; getppid() knows nothing of what is outside. */
        return poll(&(struct pollfd) { .fd = parent_fd }, 1, 0) > 0 ? -ESRCH : 0;
}

static int enclose(Init *i) {
        const char *step = "following the parent";
        int r;

        r = follow_parent(i->spec->parent_fd);
        if (r >= 0)
                r = enclosure_mount_proc(&step);
        if (r >= 0)
                r = enclosure_mount_devices(&step);
        if (r >= 0)
                r = enclosure_lock(i->spec->sandbox->profile, &step);
        /* Nobody in the sandbox looks into the process that holds its relays. */
        if (r >= 0 && prctl(PR_SET_DUMPABLE, 0) < 0)
                r = -errno;
        return r < 0 ? refuse("%s: %s", step, strerror(-r)) : 0;
}

static int check(Init *i) {
        _cleanup_free_ char *reason = NULL;
        int r = promises_check_inside(i->spec->sandbox, &i->spec->missing);

        if (r < 0)
                return refuse("the sandbox cannot be checked: %s", strerror(-r));
        /* A probe is to say all of it. */
        if (i->spec->missing && i->spec->launch)
                return refuse("the profile %s is not what it promises: %s",
                              profile_to_string(i->spec->sandbox->profile), *i->spec->missing);
        r = places_check(&i->spec->sandbox->places, &reason);
        return r < 0 ? refuse("%s", reason ?: strerror(-r)) : 0;
}

int init_run(InitSpec *spec) {
        Init i = { .spec = spec };
        int r;

        r = enclose(&i);
        if (r != 0)
                return r;
        /* Before the look at what is there: nothing changes in between. */
        r = loop_new(&i);
        if (r < 0)
                return refuse("%s", strerror(-r));
        r = check(&i);
        if (r != 0)
                return r;
        if (spec->launch) {
                r = relays_new(&i);
                if (r != 0)
                        return r;
        }
        r = child_start(&i);
        if (r != 0)
                return r;
        r = sd_event_loop(i.event);
        return r < 0 ? EXIT_REFUSED : r;
}
