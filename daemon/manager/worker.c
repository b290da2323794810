/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "event-util.h"
#include "helpers.h"
#include "string-util.h"

#define TEXT_MAX 4096U

typedef struct Worker {
        worker_done_t done;
        void *userdata;
        sd_event_source *child;
        int fd;
} Worker;

static void worker_free(Worker *w) {
        sd_event_source_disable_unref(w->child);
        safe_close(w->fd);
        free(w);
}

/* "<negative errno> <text>", one write below PIPE_BUF. */
static _Noreturn void child_run(int fd, worker_function_t fn, void *args) {
        _cleanup_free_ char *text = NULL, *line = NULL;
        sigset_t none;
        int r;

        /* The parent takes its signals by descriptor; here they must do what they always do. */
        (void) sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);
        (void) prctl(PR_SET_PDEATHSIG, SIGTERM);
        r = fn(args, &text);
        line = asprintf_new("%d %.*s", r, (int) TEXT_MAX - 16, strempty(text));
        if (line)
                r = write(fd, line, strlen(line)) < 0;
        _exit(line && r == 0 ? 0 : 1);
}

static int on_child_exit(sd_event_source *s, const siginfo_t *si, void *userdata) {
        Worker *w = userdata;
        worker_done_t done = w->done;
        void *done_userdata = w->userdata;
        char buffer[TEXT_MAX], *text;
        int r = -EIO;
        ssize_t n;

        /* The child is gone: what it had to say is in the pipe. */
        n = read(w->fd, buffer, sizeof(buffer) - 1);
        buffer[n > 0 ? n : 0] = 0;
        text = strchr(buffer, ' ');
        if (n > 0 && text && si->si_code == CLD_EXITED && si->si_status == 0) {
                *text++ = 0;
                r = atoi(buffer);
        }

        worker_free(w);
        done(r, strempty(text), done_userdata);
        return 0;
}

int worker_run(sd_event *event, worker_function_t fn, void *args, worker_done_t done, void *userdata) {
        Worker *w = new0(Worker, 1);
        int fds[2], r;
        pid_t pid;

        if (!w)
                return -ENOMEM;
        *w = (Worker) { .done = done, .userdata = userdata, .fd = -EBADF };

        if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0) {
                r = -errno;
                worker_free(w);
                return r;
        }
        w->fd = fds[0];

        pid = fork();
        if (pid < 0) {
                r = -errno;
                safe_close(fds[1]);
                worker_free(w);
                return r;
        }
        if (pid == 0)
                child_run(fds[1], fn, args);
        safe_close(fds[1]);

        r = sd_event_add_child(event, &w->child, pid, WEXITED, on_child_exit, w);
        if (r < 0) {
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                worker_free(w);
        }
        return r;
}
