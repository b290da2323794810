/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include "helper-process.h"
#include "log.h"
#include "string-util.h"

#define FDS_MAX 4U
#define FD_FIRST 3
/* Above all that they become, so that none is overwritten before its turn comes. */
#define FD_ASIDE (FD_FIRST + (int) FDS_MAX)

int helper_program_path(const char *name, char **ret) {
        char path[PATH_MAX], *slash;
        ssize_t n;

        n = readlink("/proc/self/exe", path, sizeof(path) - 1);
        if (n < 0)
                return -errno;
        path[n] = 0;
        slash = strrchr(path, '/');
        if (!slash)
                return -ENOENT;
        slash[1] = 0;
        *ret = strjoin(path, name);
        return *ret ? 0 : -ENOMEM;
}

/* Only so that no zombie stays; its end is noticed at the socket. */
static int on_exit_of(sd_event_source *s, const siginfo_t *si, void *userdata) {
        if (si->si_code != CLD_EXITED || si->si_status != 0)
                log_warning("A helper process (%d) ended with %s %d.", (int) si->si_pid,
                            si->si_code == CLD_EXITED ? "status" : "signal", si->si_status);
        return 0;
}

/* What decides how a call is made and logged. The rest of our environment tells of the agent: where its credentials
 * are, who watches it. */
static const char *const environment_kept[] = {
        "JOURNAL_STREAM", "PUFFO_LOG_LEVEL", "PUFFO_ECHO_DELAY_MS",
        "ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "GOOGLE_GEMINI_BASE_URL",
        "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
        "ASAN_OPTIONS", "LSAN_OPTIONS", "UBSAN_OPTIONS",
};

static bool environment_is_kept(const char *variable) {
        for (size_t i = 0; i < ELEMENTSOF(environment_kept); i++) {
                const char *value = startswith(variable, environment_kept[i]);

                if (value && *value == '=')
                        return true;
        }
        return false;
}

static int spawn(const char *program, char *const argv[], const int *aside, size_t n_fds, pid_t *ret) {
        char *environment[ELEMENTSOF(environment_kept) + 1] = {};
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        size_t n = 0;
        sigset_t none;
        int r;

        for (char **e = environ; *e && n < ELEMENTSOF(environment_kept); e++)
                if (environment_is_kept(*e))
                        environment[n++] = *e;
        (void) sigemptyset(&none);
        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attributes);
        if (r != 0) {
                (void) posix_spawn_file_actions_destroy(&actions);
                return -r;
        }
        for (size_t i = 0; i < n_fds && r == 0; i++)
                r = posix_spawn_file_actions_adddup2(&actions, aside[i],
                                                     i == 0 ? STDIN_FILENO : FD_FIRST + (int) i - 1);
        if (r == 0)
                r = posix_spawnattr_setsigmask(&attributes, &none);
        if (r == 0)
                r = posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
        if (r == 0)
                r = posix_spawn(ret, program, &actions, &attributes, argv, environment);
        (void) posix_spawnattr_destroy(&attributes);
        (void) posix_spawn_file_actions_destroy(&actions);
        return -r;
}

int helper_start(sd_event *event, const char *program, char *const argv[], int socket, const int *fds, size_t n_fds) {
        int aside[FDS_MAX + 1], r = 0;
        size_t n = 0;
        pid_t pid;

        assert(n_fds <= FDS_MAX);

        for (; n <= n_fds && r >= 0; n += r >= 0) {
                aside[n] = fcntl(n == 0 ? socket : fds[n - 1], F_DUPFD_CLOEXEC, FD_ASIDE);
                r = aside[n] < 0 ? -errno : 0;
        }
        if (r >= 0)
                r = spawn(program, argv, aside, n, &pid);
        for (size_t i = 0; i < n; i++)
                (void) close(aside[i]);
        if (r < 0)
                return r;

        /* The source belongs to the loop: the process may outlive whoever started it by a moment. */
        r = sd_event_add_child(event, NULL, pid, WEXITED, on_exit_of, NULL);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to watch a helper process, ignoring: %m");
        return 0;
}
