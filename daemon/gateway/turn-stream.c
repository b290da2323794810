/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/epoll.h>

#include "json-util.h"
#include "string-util.h"
#include "turn-stream.h"

/* message_done carries a whole message. */
#define LINE_MAX_SIZE MIB(16)
#define CHUNK_SIZE KIB(64)

struct TurnStream {
        TurnStreamSpec spec;
        sd_event_source *io, *again;    /* again: lines that were read already wait after a pause */
        StrBuf buffer;
        size_t scanned;                 /* of buffer: no line end before here */
        int fd;
        bool paused, finished;
};

static void stream_end(TurnStream *s, int error) {
        s->finished = true;
        (void) sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
        (void) sd_event_source_set_enabled(s->again, SD_EVENT_OFF);
        s->spec.on_end(error, s->spec.userdata);
}

/* One line without its end. */
static int stream_line(TurnStream *s, const char *line, size_t size) {
        _cleanup_json_ json_object *event = NULL;
        int r;

        if (size == 0)
                return 0;
        r = json_parse(line, size, &event);
        if (r < 0)
                return r;
        if (!json_get_string(event, "type"))
                return -EBADMSG;
        return s->spec.on_event(event, s->spec.userdata);
}

/* > 0: the reader has had enough. */
static int stream_dispatch(TurnStream *s) {
        size_t used = 0;
        int r = 0;

        while (!s->paused && r == 0) {
                char *end = memchr(s->buffer.text + s->scanned, '\n', s->buffer.size - s->scanned);

                if (!end) {
                        s->scanned = s->buffer.size;
                        break;
                }
                r = stream_line(s, s->buffer.text + used, (size_t) (end - s->buffer.text) - used);
                used = s->scanned = (size_t) (end - s->buffer.text) + 1;
        }
        strbuf_consume(&s->buffer, used);
        s->scanned -= used;
        if (r == 0 && !s->paused && s->buffer.size > LINE_MAX_SIZE)
                return -EMSGSIZE;
        return r;
}

static void stream_run(TurnStream *s) {
        int r = stream_dispatch(s);

        if (r < 0)
                stream_end(s, r);
        else if (r > 0) {
                s->finished = true;
                (void) sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
        }
}

static int stream_on_io(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        char chunk[CHUNK_SIZE];
        TurnStream *s = userdata;
        ssize_t n;
        int r;

        n = read(fd, chunk, sizeof(chunk));
        if (n < 0) {
                if (errno != EAGAIN && errno != EINTR)
                        stream_end(s, -errno);
                return 0;
        }
        if (n == 0) {           /* a line without end is one whose writer died in the middle of it */
                stream_end(s, 0);
                return 0;
        }
        r = strbuf_append(&s->buffer, chunk, (size_t) n);
        if (r < 0)
                stream_end(s, r);
        else
                stream_run(s);
        return 0;
}

static int stream_on_again(sd_event_source *source, void *userdata) {
        TurnStream *s = userdata;

        if (s->buffer.size > 0)
                stream_run(s);
        return 0;
}

int turn_stream_new(TurnStream **ret, sd_event *event, int fd, const TurnStreamSpec *spec) {
        _cleanup_(turn_stream_freep) TurnStream *s = new0(TurnStream, 1);
        int flags, r;

        if (!s) {
                safe_close(fd);
                return -ENOMEM;
        }
        s->fd = fd;
        s->spec = *spec;
        flags = fcntl(fd, F_GETFL);
        if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
                return -errno;
        r = sd_event_add_io(event, &s->io, fd, EPOLLIN, stream_on_io, s);
        if (r < 0)
                return r;
        r = sd_event_add_defer(event, &s->again, stream_on_again, s);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(s->again, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

TurnStream* turn_stream_free(TurnStream *s) {
        if (!s)
                return NULL;
        sd_event_source_disable_unref(s->io);
        sd_event_source_disable_unref(s->again);
        strbuf_done(&s->buffer);
        safe_close(s->fd);
        return mfree(s);
}

int turn_stream_set_paused(TurnStream *s, bool paused) {
        int r;

        if (s->finished || s->paused == paused)
                return 0;
        s->paused = paused;
        r = sd_event_source_set_enabled(s->io, paused ? SD_EVENT_OFF : SD_EVENT_ON);
        if (r < 0)
                return r;
        return sd_event_source_set_enabled(s->again, paused ? SD_EVENT_OFF : SD_EVENT_ONESHOT);
}
