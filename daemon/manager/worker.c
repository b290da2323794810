/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "bus-util.h"
#include "event-util.h"
#include "helpers.h"
#include "string-util.h"

#define TEXT_MAX 4096U

typedef struct Worker {
        worker_done_t done;
        void *userdata;
        sd_event_source *child, *deadline;
        pid_t pid;
        bool too_long;
        int fd;
} Worker;

static void worker_free(Worker *w) {
        sd_event_source_disable_unref(w->child);
        sd_event_source_disable_unref(w->deadline);
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
        } else if (w->too_long)
                r = -ETIME;

        worker_free(w);
        done(r, strempty(text), done_userdata);
        return 0;
}

/* Its end is waited for all the same: what hangs in a file system of the caller's counts as long as it is there. */
static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        Worker *w = userdata;

        w->too_long = true;
        (void) kill(w->pid, SIGKILL);
        return 0;
}

int worker_run(sd_event *event, worker_function_t fn, void *args, uint64_t timeout_usec, worker_done_t done,
               void *userdata) {
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

        w->pid = pid;
        r = sd_event_add_child(event, &w->child, pid, WEXITED, on_child_exit, w);
        if (r >= 0 && timeout_usec > 0)
                r = event_arm_timer(event, &w->deadline, timeout_usec, 0, on_deadline, w);
        if (r < 0) {
                w->child = sd_event_source_disable_unref(w->child);
                (void) kill(pid, SIGKILL);
                (void) waitpid(pid, NULL, 0);
                worker_free(w);
        }
        return r;
}

int transfer_begin(Manager *m, uid_t uid, sd_bus_error *reterr_error) {
        unsigned n = 0;

        for (unsigned i = 0; i < m->n_transfers; i++)
                n += m->transfers[i] == uid;
        if (m->n_transfers >= ELEMENTSOF(m->transfers) ||
            (m->scope == SCOPE_SYSTEM && uid != 0 && n >= TRANSFERS_OF_USER_MAX))
                return bus_error_setf(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                      "%u archives are being made or taken in at the moment; try again later.",
                                      m->n_transfers);
        m->transfers[m->n_transfers++] = uid;
        return 0;
}

void transfer_end(Manager *m, uid_t uid) {
        for (unsigned i = 0; i < m->n_transfers; i++)
                if (m->transfers[i] == uid) {
                        m->transfers[i] = m->transfers[--m->n_transfers];
                        return;
                }
}
