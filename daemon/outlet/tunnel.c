/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "event-util.h"
#include "string-util.h"
#include "tunnel.h"

/* A pipe's usual size. */
#define CHUNK KIB(64)
/* Then it is somebody else's turn. */
#define ROUNDS_MAX 8U

/* One direction. */
typedef struct Half {
        int from, to;                   /* borrowed from the tunnel */
        int pipe[2];
        size_t piped;
        StrBuf first;
        uint64_t count;
        bool eof, done;                 /* done: the end was passed on */
} Half;

struct Tunnel {
        TunnelSpec spec;
        int fds[2];
        Half halves[2];                 /* from fds[i] to the other */
        sd_event_source *io[2], *idle_timer;
        uint64_t last_usec;
};

/* 1: moved something, 0: nothing to be done at present, < 0: broken. */
static int half_fill(Half *h) {
        ssize_t n;

        if (h->eof || h->piped >= CHUNK)
                return 0;
        n = splice(h->from, NULL, h->pipe[1], NULL, CHUNK - h->piped, SPLICE_F_MOVE|SPLICE_F_NONBLOCK);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        h->eof = n == 0;
        h->piped += (size_t) n;
        h->count += (uint64_t) n;
        return 1;
}

static int half_drain(Half *h) {
        ssize_t n;

        if (h->first.size > 0)
                n = send(h->to, h->first.text, h->first.size, MSG_DONTWAIT|MSG_NOSIGNAL);
        else if (h->piped > 0)
                n = splice(h->pipe[0], NULL, h->to, NULL, h->piped, SPLICE_F_MOVE|SPLICE_F_NONBLOCK);
        else
                return 0;
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (h->first.size > 0) {
                strbuf_consume(&h->first, (size_t) n);
                if (h->first.size == 0)
                        strbuf_done(&h->first);
        } else
                h->piped -= (size_t) n;
        return n > 0;
}

static int half_pump(Half *h) {
        bool moved = false;

        for (unsigned i = 0; i < ROUNDS_MAX; i++) {
                int r = half_fill(h), k = r < 0 ? r : half_drain(h);

                if (k < 0)
                        return k;
                if (r == 0 && k == 0)
                        break;
                moved = true;
        }
        if (h->eof && h->piped == 0 && h->first.size == 0 && !h->done) {
                h->done = true;
                if (shutdown(h->to, SHUT_WR) < 0 && errno != ENOTCONN)
                        return -errno;
        }
        return moved;
}

/* With nothing to wait for a descriptor is not looked at: a peer that has gone would wake us all the time. */
static int watch_set(Tunnel *t, unsigned i) {
        const Half *out = t->halves + i, *in = t->halves + !i;
        uint32_t mask = (!out->eof && out->piped < CHUNK ? EPOLLIN : 0) |
                        (in->piped > 0 || in->first.size > 0 ? EPOLLOUT : 0);
        int r;

        if (mask == 0)
                return sd_event_source_set_enabled(t->io[i], SD_EVENT_OFF);
        r = sd_event_source_set_io_events(t->io[i], mask);
        return r < 0 ? r : sd_event_source_set_enabled(t->io[i], SD_EVENT_ON);
}

static int tunnel_pump(Tunnel *t) {
        int r = half_pump(t->halves), k = r < 0 ? r : half_pump(t->halves + 1);

        if (k < 0)
                return k;
        if (r > 0 || k > 0)
                t->last_usec = now_boottime_usec();
        if (t->halves[0].done && t->halves[1].done)
                return 1;
        for (unsigned i = 0; i < 2; i++) {
                r = watch_set(t, i);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Tunnel *t = userdata;
        int r = tunnel_pump(t);

        if (r != 0)
                t->spec.on_end(t, MIN(r, 0), t->spec.userdata);
        return 0;
}

static int on_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        Tunnel *t = userdata;
        uint64_t quiet = now_boottime_usec() - t->last_usec;

        if (quiet >= t->spec.idle_usec ||
            event_arm_timer(t->spec.event, &t->idle_timer, t->spec.idle_usec - quiet, 0, on_idle, t) < 0)
                t->spec.on_end(t, -ETIMEDOUT, t->spec.userdata);
        return 0;
}

static int half_init(Half *h, int from, int to, const void *first, size_t size) {
        h->from = from;
        h->to = to;
        if (pipe2(h->pipe, O_CLOEXEC|O_NONBLOCK) < 0)
                return -errno;
        return size > 0 ? strbuf_append(&h->first, first, size) : 0;
}

static int set_nonblocking(int fd) {
        int flags = fcntl(fd, F_GETFL);

        return flags < 0 || fcntl(fd, F_SETFL, flags|O_NONBLOCK) < 0 ? -errno : 0;
}

int tunnel_new(Tunnel **ret, const TunnelSpec *spec) {
        _cleanup_(tunnel_freep) Tunnel *t = new0(Tunnel, 1);
        int r;

        if (!t) {
                (void) safe_close(spec->a);
                (void) safe_close(spec->b);
                return -ENOMEM;
        }
        t->spec = *spec;
        t->fds[0] = spec->a;
        t->fds[1] = spec->b;
        for (unsigned i = 0; i < 2; i++)
                t->halves[i].pipe[0] = t->halves[i].pipe[1] = -EBADF;

        t->halves[0].count = spec->to_b_size;
        r = half_init(t->halves, spec->a, spec->b, spec->to_b, spec->to_b_size);
        if (r >= 0)
                r = half_init(t->halves + 1, spec->b, spec->a, spec->to_a, spec->to_a_size);
        for (unsigned i = 0; i < 2 && r >= 0; i++) {
                r = set_nonblocking(t->fds[i]);
                if (r >= 0)
                        r = sd_event_add_io(spec->event, t->io + i, t->fds[i], EPOLLIN|EPOLLOUT, on_io, t);
        }
        if (r >= 0) {
                t->last_usec = now_boottime_usec();
                r = event_arm_timer(spec->event, &t->idle_timer, spec->idle_usec, 0, on_idle, t);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

Tunnel* tunnel_free(Tunnel *t) {
        if (!t)
                return NULL;

        (void) sd_event_source_disable_unref(t->idle_timer);
        for (unsigned i = 0; i < 2; i++) {
                (void) sd_event_source_disable_unref(t->io[i]);
                (void) safe_close(t->fds[i]);
                (void) safe_close(t->halves[i].pipe[0]);
                (void) safe_close(t->halves[i].pipe[1]);
                strbuf_done(&t->halves[i].first);
        }
        return mfree(t);
}

void tunnel_counts(const Tunnel *t, uint64_t *ret_from_a, uint64_t *ret_from_b) {
        *ret_from_a = t->halves[0].count;
        *ret_from_b = t->halves[1].count;
}
