/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ctl-polkit.h"
#include "string-util.h"

#define PKTTYAGENT "/usr/bin/pkttyagent"

void polkit_agent_start(Ctl *c) {
        _cleanup_free_ char *fd_text = NULL, *pid_text = NULL;
        int fds[2];

        if (geteuid() == 0 || !isatty(STDIN_FILENO) || !isatty(STDERR_FILENO) || access(PKTTYAGENT, X_OK) < 0)
                return;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return;
        fd_text = asprintf_new("%d", fds[1]);
        pid_text = asprintf_new("%d", (int) getpid());
        if (fd_text && pid_text)
                c->polkit_agent = fork();
        if (c->polkit_agent == 0 && fd_text && pid_text) {
                (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
                (void) fcntl(fds[1], F_SETFD, 0);
                execl(PKTTYAGENT, PKTTYAGENT, "--notify-fd", fd_text, "--fallback", "--process", pid_text,
                      (char *) NULL);
                _exit(EXIT_FAILURE);
        }
        (void) close(fds[1]);
        /* It closes the descriptor once it is registered; a call made before that would find nobody to ask. */
        if (c->polkit_agent > 0)
                (void) poll(&(struct pollfd) { .fd = fds[0], .events = POLLIN }, 1, /* timeout= */ 5000);
        (void) close(fds[0]);
}

void polkit_agent_stop(Ctl *c) {
        if (c->polkit_agent <= 0)
                return;
        (void) kill(c->polkit_agent, SIGTERM);
        (void) waitpid(c->polkit_agent, NULL, 0);
        c->polkit_agent = 0;
}
