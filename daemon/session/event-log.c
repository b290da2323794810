/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/stat.h>

#include "event-log.h"
#include "string-util.h"

#define READERS_MAX 16

typedef struct Reader {
        EventLog *log;                  /* borrowed: it owns us */
        int fd;
        size_t position;                /* of the first byte not written yet */
        sd_event_source *io;            /* that it has room, while it is full; at any time that its end has gone */
        TAILQ_ENTRY(Reader) readers;
} Reader;

struct EventLog {
        sd_event *event;
        StrBuf lines;
        uint64_t n_events;
        bool finished;
        TAILQ_HEAD(, Reader) readers;
        unsigned n_readers;
        void (*drained)(void *userdata);
        void *userdata;
};

int event_log_new(EventLog **ret, sd_event *event) {
        EventLog *l = new0(EventLog, 1);

        if (!l)
                return -ENOMEM;
        l->event = sd_event_ref(event);
        TAILQ_INIT(&l->readers);

        *ret = l;
        return 0;
}

static void reader_free(Reader *r) {
        TAILQ_REMOVE(&r->log->readers, r, readers);
        r->log->n_readers--;
        (void) sd_event_source_disable_unref(r->io);
        (void) safe_close(r->fd);
        free(r);
}

EventLog* event_log_free(EventLog *l) {
        Reader *r;

        if (!l)
                return NULL;

        while ((r = TAILQ_FIRST(&l->readers)))
                reader_free(r);
        strbuf_done(&l->lines);
        (void) sd_event_unref(l->event);
        return mfree(l);
}

size_t event_log_size(EventLog *l) {
        return l->lines.size;
}

unsigned event_log_n_readers(EventLog *l) {
        return l->n_readers;
}

void event_log_on_drained(EventLog *l, void (*callback)(void *userdata), void *userdata) {
        l->drained = callback;
        l->userdata = userdata;
}

/* Writes what fits. 0: the reader is done with (and must be freed), > 0: it stays. */
static int reader_flush(Reader *r) {
        EventLog *l = r->log;

        while (r->position < l->lines.size) {
                ssize_t n = write(r->fd, l->lines.text + r->position, l->lines.size - r->position);

                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        if (errno == EAGAIN)
                                return sd_event_source_set_io_events(r->io, EPOLLOUT) < 0 ? 0 : 1;
                        return 0;       /* the other end is gone, which is its good right */
                }
                r->position += (size_t) n;
        }
        if (l->finished)
                return 0;
        return sd_event_source_set_io_events(r->io, 0) < 0 ? 0 : 1;
}

static int reader_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Reader *r = userdata;
        EventLog *l = r->log;

        /* Somebody who has hung up is let go at once: a turn may be silent for long, and has few places. */
        if (!(revents & (EPOLLERR|EPOLLHUP)) && reader_flush(r) > 0)
                return 0;
        reader_free(r);
        if (l->finished && l->n_readers == 0 && l->drained)
                l->drained(l->userdata);
        return 0;
}

static void readers_flush(EventLog *l) {
        for (Reader *r = TAILQ_FIRST(&l->readers), *next; r; r = next) {
                uint32_t events;

                next = TAILQ_NEXT(r, readers);
                /* One that is full hears from epoll when it has room. */
                if (sd_event_source_get_io_events(r->io, &events) >= 0 && events != 0)
                        continue;
                if (reader_flush(r) == 0)
                        reader_free(r);
        }
}

static int append_members(json_object *line, json_object *members) {
        json_object_object_foreach(members, key, value) {
                int r = json_put(line, key, json_object_get(value));

                if (r < 0)
                        return r;
        }
        return 0;
}

static int append(EventLog *l, const char *type, json_object *members_taken) {
        _cleanup_json_ json_object *members = members_taken, *line = json_object_new_object();
        size_t before = l->lines.size, size;
        const char *text;
        int r;

        if (!line)
                return -ENOMEM;
        r = json_put_int(line, "seq", (int64_t) l->n_events);
        if (r >= 0)
                r = json_put_string(line, "type", type);
        if (r >= 0 && members)
                r = append_members(line, members);
        if (r < 0)
                return r;
        text = json_text(line, &size);
        if (!text)
                return -ENOMEM;

        r = strbuf_append(&l->lines, text, size);
        if (r >= 0)
                r = strbuf_append(&l->lines, "\n", 1);
        if (r < 0) {
                l->lines.size = before;         /* never half a line */
                return r;
        }
        l->n_events++;
        return 0;
}

int event_log_append(EventLog *l, const char *type, json_object *members) {
        int r;

        assert(!l->finished);

        r = append(l, type, members);
        if (r < 0)
                return r;
        readers_flush(l);
        return 0;
}

int event_log_finish(EventLog *l, const char *type, json_object *members) {
        int r;

        assert(!l->finished);

        r = append(l, type, members);
        /* Even without its last event the log is over: readers see a stream without an end and ask again. */
        event_log_close(l);
        return r;
}

void event_log_close(EventLog *l) {
        l->finished = true;
        strbuf_trim(&l->lines);
        readers_flush(l);
}

int event_log_subscribe(EventLog *l, int fd) {
        _cleanup_close_ int owned = fd;
        struct stat st;
        Reader *r;
        int flags, k;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISFIFO(st.st_mode) && !S_ISSOCK(st.st_mode))
                return -EINVAL;
        if (l->n_readers >= READERS_MAX)
                return -EBUSY;
        flags = fcntl(fd, F_GETFL);
        if (flags < 0)
                return -errno;
        if ((flags & O_ACCMODE) == O_RDONLY)
                return -EINVAL;
        if (!(flags & O_NONBLOCK) && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;

        r = new0(Reader, 1);
        if (!r)
                return -ENOMEM;
        r->log = l;
        r->fd = TAKE_FD(owned);
        TAILQ_INSERT_TAIL(&l->readers, r, readers);
        l->n_readers++;

        k = sd_event_add_io(l->event, &r->io, r->fd, 0, reader_on_io, r);
        if (k < 0) {
                reader_free(r);
                return k;
        }
        if (reader_flush(r) == 0)
                reader_free(r);
        return 0;
}
