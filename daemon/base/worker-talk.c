/* SPDX-License-Identifier: MIT */

#include <sys/epoll.h>
#include <sys/socket.h>

#include "log.h"
#include "worker-talk.h"

int worker_talk_exit(WorkerTalk *t, int error) {
        if (error < 0)
                (void) log_error_errno(error, "The talk with the session failed: %m");
        return sd_event_exit(t->event, error < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

int worker_talk_flush(WorkerTalk *t) {
        while (t->out.size > 0) {
                ssize_t n = send(t->fd, t->out.text, t->out.size, MSG_DONTWAIT|MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return sd_event_source_set_io_events(t->io, EPOLLIN|EPOLLOUT);
                if (n < 0)
                        return -errno;
                strbuf_consume(&t->out, (size_t) n);
        }
        return sd_event_source_set_io_events(t->io, EPOLLIN);
}

/* -EMSGSIZE: more descriptors than anybody has business to send. */
static int fds_take(WorkerTalk *t, struct msghdr *m) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                size_t n = c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS ?
                                   (c->cmsg_len - CMSG_LEN(0)) / sizeof(int) : 0;

                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
                        if (t->n_fds < WORKER_FDS_MAX)
                                t->fds[t->n_fds++] = fd;
                        else {
                                safe_close(fd);
                                m->msg_flags |= MSG_CTRUNC;
                        }
                }
        }
        return m->msg_flags & MSG_CTRUNC ? -EMSGSIZE : 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        WorkerTalk *t = userdata;
        union {
                struct cmsghdr head;    /* for its alignment */
                char bytes[CMSG_SPACE(WORKER_FDS_MAX * sizeof(int))];
        } control;
        char buffer[16384];
        struct iovec v = { .iov_base = buffer, .iov_len = sizeof(buffer) };
        struct msghdr m = {
                .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
        };
        ssize_t n;
        int r = 0;

        if (revents & EPOLLOUT)
                r = worker_talk_flush(t);
        if (r >= 0 && (revents & (EPOLLIN|EPOLLHUP|EPOLLERR))) {
                n = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
                if (n == 0)
                        return worker_talk_exit(t, 0);
                if (n < 0)
                        r = errno == EAGAIN || errno == EINTR ? 0 : -errno;
                else {
                        r = fds_take(t, &m);
                        if (r >= 0)
                                r = strbuf_append(&t->in, buffer, (size_t) n);
                        explicit_bzero(buffer, (size_t) n);
                        if (r >= 0)
                                r = t->on_input(t, t->userdata);
                }
        }
        return r < 0 ? worker_talk_exit(t, r) : 0;
}

int worker_talk_start(WorkerTalk *t, int fd, int (*on_input)(WorkerTalk *t, void *userdata), void *userdata) {
        int r;

        *t = (WorkerTalk) { .fd = fd, .on_input = on_input, .userdata = userdata };
        r = sd_event_default(&t->event);
        return r < 0 ? r : sd_event_add_io(t->event, &t->io, fd, EPOLLIN, on_io, t);
}

void worker_talk_close_fds(WorkerTalk *t) {
        while (t->n_fds > 0)
                safe_close(t->fds[--t->n_fds]);
}

void worker_talk_done(WorkerTalk *t) {
        (void) sd_event_source_disable_unref(t->io);
        if (t->in.text)
                explicit_bzero(t->in.text, t->in.allocated);
        strbuf_done(&t->in);
        worker_talk_close_fds(t);
        strbuf_done(&t->out);
        (void) sd_event_unref(t->event);
        *t = (WorkerTalk) {};
}
