/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <limits.h>
#include <poll.h>

#include "event-util.h"
#include "line-reader.h"
#include "string-util.h"

struct LineReader {
        unsigned n_ref;                 /* its owner's, and each running function's that calls handlers */
        bool dead;                      /* its owner has freed it */
        LineHandler handler;

        int fd, scratch[2];
        sd_event_source *io, *again;
        char *view;                     /* a copy of what is in the pipe */
        size_t view_size;
        StrBuf kept;                    /* beginning of a line that was taken out of the pipe */
        size_t n_stay;                  /* bytes in front of the pipe that were handed on */
        bool stays;                     /* so will the line that is being handed on */
        size_t max;
        bool skipping;                  /* the rest of a line that was too long */
        bool ended;
};

static LineReader* line_reader_unref(LineReader *l) {
        if (!l || --l->n_ref > 0)
                return NULL;

        sd_event_source_disable_unref(l->io);
        sd_event_source_disable_unref(l->again);
        l->fd = safe_close(l->fd);
        l->scratch[0] = safe_close(l->scratch[0]);
        l->scratch[1] = safe_close(l->scratch[1]);
        free(l->view);
        strbuf_done(&l->kept);
        return mfree(l);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(LineReader*, line_reader_unref);

static void line_reader_off(LineReader *l) {
        l->io = sd_event_source_disable_unref(l->io);
        l->again = sd_event_source_disable_unref(l->again);
}

LineReader* line_reader_free(LineReader *l) {
        if (!l)
                return NULL;
        l->dead = true;
        line_reader_off(l);
        return line_reader_unref(l);
}

static void line_reader_end(LineReader *l, int error) {
        l->ended = true;
        line_reader_off(l);
        l->handler.on_end(l, error, l->handler.userdata);
}

static int read_exactly(int fd, char *p, size_t size) {
        while (size > 0) {
                ssize_t n = read(fd, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return -EIO;    /* somebody else reads this pipe */
                p += n;
                size -= (size_t) n;
        }
        return 0;
}

/* Copies what is in the pipe into view, as far as scratch has room. *ret_full: not a page more would have gone in.
 * 0: end of the stream, -EAGAIN: nothing there. */
static ssize_t line_reader_look(LineReader *l, bool *ret_full) {
        ssize_t n;
        int r;

        do
                n = tee(l->fd, l->scratch[1], INT_MAX, SPLICE_F_NONBLOCK);
        while (n < 0 && errno == EINTR);
        if (n <= 0)
                return n < 0 ? -errno : 0;

        /* Both pipes have room for as many pages, and each page was copied as one: when this one has no room left, the
         * writer has none either. Counting bytes would not tell, pages may be anything but full. */
        *ret_full = poll(&(struct pollfd) { .fd = l->scratch[1], .events = POLLOUT }, 1, 0) == 0;

        if ((size_t) n + 1 > l->view_size) {
                size_t size = MAX((size_t) n + 1, l->view_size * 2);
                char *p = realloc(l->view, size);

                if (!p) {
                        /* It would stand in front of the next copy. */
                        char waste[4096];

                        for (size_t rest = (size_t) n; rest > 0; rest -= MIN(rest, sizeof(waste)))
                                if (read_exactly(l->scratch[0], waste, MIN(rest, sizeof(waste))) < 0)
                                        break;
                        return -ENOMEM;
                }
                l->view = p;
                l->view_size = size;
        }
        r = read_exactly(l->scratch[0], l->view, (size_t) n);
        return r < 0 ? r : n;
}

/* What stands in view at offset is what is read next; takes it out of the pipe, and all that has stayed before it. */
static int line_reader_consume(LineReader *l, size_t offset, size_t size) {
        size_t n = l->n_stay;
        int r;

        /* The same bytes again: they go where they are already. */
        r = read_exactly(l->fd, l->view + offset - n, n + size);
        l->n_stay = 0;
        return r;
}

static int line_reader_drain_pipe(LineReader *l, size_t offset) {
        if (l->n_stay == 0)
                return 0;
        if (l->handler.on_drain)
                l->handler.on_drain(l, l->handler.userdata);
        return line_reader_consume(l, offset, 0);
}

/* Hands on what is in view[offset, offset + size) as a line or its end, and then takes it (and extra bytes after it)
 * out of the pipe. */
static int line_reader_take(LineReader *l, size_t offset, size_t size, size_t extra, LineEnd end) {
        char *line = l->view + offset;
        int r;

        if (l->skipping) {
                l->skipping = end == LINE_TOO_LONG;
                return line_reader_consume(l, offset, size + extra);
        }
        if (end == LINE_TOO_LONG) {
                r = line_reader_drain_pipe(l, offset);
                if (r < 0)
                        return r;
        }
        l->stays = false;

        if (l->kept.size + size > l->max) {
                l->skipping = end == LINE_TOO_LONG;
                end = LINE_TOO_LONG;
        }
        if (l->kept.size > 0) {
                r = strbuf_append(&l->kept, line, MIN(size, l->max - l->kept.size));
                if (r < 0)
                        return r;
                r = l->handler.on_line(l, l->kept.text, l->kept.size, end, l->handler.userdata);
        } else {
                size_t n = MIN(size, l->max);
                char saved = line[n];

                line[n] = 0;
                r = l->handler.on_line(l, line, n, end, l->handler.userdata);
                line[n] = saved;
        }
        if (r < 0)
                return r;

        if (l->stays && l->kept.size == 0 && end != LINE_TOO_LONG) {
                l->n_stay += size + extra;
                return 0;
        }
        r = line_reader_consume(l, offset, size + extra);
        if (r < 0)
                return r;
        strbuf_done(&l->kept);
        return 0;
}

/* > 0: there may be more to do at once. 0: nothing before something else is written. */
static int line_reader_step(LineReader *l) {
        struct pollfd p = { .fd = l->fd, .events = POLLIN };
        size_t offset = l->n_stay, begin = offset, rest;
        bool full = false, last;
        ssize_t n;
        int r;

        /* Asked before, not after: between the two more may be written, and then the writer go. */
        last = poll(&p, 1, 0) > 0 && (p.revents & POLLHUP);

        n = line_reader_look(l, &full);
        if (n == -EAGAIN)
                return 0;
        if (n < 0)
                return (int) n;
        if (n == 0) {
                if (l->kept.size > 0 && !l->skipping) {
                        r = l->handler.on_line(l, l->kept.text, l->kept.size, LINE_CUT, l->handler.userdata);
                        if (r < 0 || l->dead)
                                return r;
                }
                line_reader_end(l, 0);
                return 0;
        }

        if ((size_t) n <= begin) {
                if (last) {
                        line_reader_end(l, 0);
                        return 0;
                }
                if (!full)
                        return 0;
                r = line_reader_drain_pipe(l, begin);
                return r < 0 ? r : 1;
        }

        for (char *newline; offset < (size_t) n; offset = (size_t) (newline - l->view) + 1) {
                newline = memchr(l->view + offset, '\n', (size_t) n - offset);
                if (!newline)
                        break;
                r = line_reader_take(l, offset, (size_t) (newline - l->view) - offset, 1, LINE_WHOLE);
                if (r < 0 || l->dead)
                        return r;
        }

        rest = (size_t) n - offset;
        if (rest == 0)
                return 1;
        if (l->skipping || l->kept.size + rest > l->max) {
                r = line_reader_take(l, offset, rest, 0, LINE_TOO_LONG);
                return r < 0 ? r : 1;
        }
        if (last && !full) {
                r = line_reader_take(l, offset, rest, 0, LINE_CUT);
                return r < 0 ? r : 1;
        }
        if (offset > begin)
                return 1;
        if (!full)
                return 0;
        if (l->n_stay > 0) {
                r = line_reader_drain_pipe(l, offset);
                return r < 0 ? r : 1;
        }
        r = strbuf_append(&l->kept, l->view, rest);
        if (r < 0)
                return r;
        r = read_exactly(l->fd, l->view, rest);
        return r < 0 ? r : 1;
}

static int line_reader_run(LineReader *l) {
        int r;

        if (l->ended || l->dead)
                return 0;
        r = line_reader_step(l);
        if (l->dead || l->ended)
                return 0;
        if (r < 0)
                line_reader_end(l, r);
        else if (r == 0 && l->handler.on_idle)
                l->handler.on_idle(l, l->handler.userdata);
        return r;
}

static int line_reader_on_event(LineReader *l) {
        _cleanup_(line_reader_unrefp) LineReader *held = l;
        int r;

        l->n_ref++;
        r = line_reader_run(l);
        /* Others have their turn between two looks. An edge would not come again for what is there already. */
        if (r > 0 && l->again) {
                r = sd_event_source_set_enabled(l->again, SD_EVENT_ONESHOT);
                if (r < 0)
                        line_reader_end(l, r);
        }
        return 0;
}

static int line_reader_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        return line_reader_on_event(userdata);
}

static int line_reader_on_again(sd_event_source *s, void *userdata) {
        return line_reader_on_event(userdata);
}

void line_reader_keep(LineReader *l) {
        l->stays = true;
}

void line_reader_drain(LineReader *l) {
        _cleanup_(line_reader_unrefp) LineReader *held = l;

        l->n_ref++;
        /* Bounded: a writer that never stops is the event loop's to read. */
        for (unsigned i = 0; i < 64 && line_reader_run(l) > 0; i++)
                ;
}

int line_reader_new(LineReader **ret, sd_event *event, int fd, size_t max, const LineHandler *handler) {
        _cleanup_(line_reader_freep) LineReader *l = NULL;
        int r, size;

        assert(ret && event && handler && handler->on_line && handler->on_end && max > 0);

        l = new0(LineReader, 1);
        if (!l) {
                (void) safe_close(fd);
                return -ENOMEM;
        }
        *l = (LineReader) { .n_ref = 1, .fd = fd, .scratch = { -EBADF, -EBADF }, .max = max, .handler = *handler };

        size = fcntl(fd, F_GETPIPE_SZ);
        if (size < 0)
                return errno == EBADF ? -ENOTSUP : -errno;
        r = fcntl(fd, F_GETFL);
        if (r < 0 || fcntl(fd, F_SETFL, r | O_NONBLOCK) < 0)
                return -errno;

        if (pipe2(l->scratch, O_CLOEXEC | O_NONBLOCK) < 0)
                return -errno;
        /* Without the right to a pipe of that size a line over the size of ours is taken out of the pipe early. */
        (void) fcntl(l->scratch[1], F_SETPIPE_SZ, size);

        r = sd_event_add_defer(event, &l->again, line_reader_on_again, l);
        if (r < 0)
                return r;
        r = sd_event_add_io(event, &l->io, l->fd, EPOLLIN | EPOLLET, line_reader_on_io, l);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(l);
        return 0;
}
