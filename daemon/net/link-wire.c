/* SPDX-License-Identifier: MIT */

#include <endian.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "link-wire.h"

#define HEAD_SIZE 5U    /* the letter and the size */
/* Below what malloc() would map anew each time (puffo-session.c). */
#define READ_SIZE KIB(16)

int link_connection_init(LinkConnection *c, sd_event *event, int fd, sd_event_io_handler_t callback, void *userdata) {
        int r;

        *c = (LinkConnection) { .fd = fd };
        r = sd_event_add_io(event, &c->io, fd, EPOLLIN, callback, userdata);
        if (r < 0) {
                (void) safe_close(fd);
                return r;
        }
        /* With its descriptor: nobody closes it apart. */
        return sd_event_source_set_io_fd_own(c->io, true);
}

static void buffer_wipe(StrBuf *b) {
        if (b->text)
                explicit_bzero(b->text, b->allocated);
        strbuf_done(b);
}

void link_connection_done(LinkConnection *c) {
        (void) sd_event_source_disable_unref(c->io);
        buffer_wipe(&c->in);
        buffer_wipe(&c->out);
        *c = (LinkConnection) { .fd = -EBADF };
}

static size_t size_max(LinkType type, size_t text_max) {
        switch (type) {
        case LINK_TEXT:
                return text_max;
        case LINK_BODY:
        case LINK_DATA:
                return LINK_DATA_MAX;
        case LINK_CERTIFICATES:
                return LINK_CERTIFICATES_MAX;
        default:
                return LINK_FIELDS_MAX;
        }
}

int link_send(LinkConnection *c, LinkType type, const void *data, size_t size) {
        char head[HEAD_SIZE] = { (char) type };
        uint32_t n = htole32((uint32_t) size);
        int r;

        if (size > size_max(type, UINT32_MAX))
                return -EMSGSIZE;
        if (c->deaf)
                return 0;

        /* With who always reads, but slowly, the queue may never be empty. */
        if (c->written >= link_queued(c)) {
                strbuf_consume(&c->out, c->written);
                c->written = 0;
        }
        memcpy(head + 1, &n, sizeof(n));
        r = strbuf_reserve(&c->out, HEAD_SIZE + size);
        if (r < 0)
                return r;
        (void) strbuf_append(&c->out, head, HEAD_SIZE);
        (void) strbuf_append(&c->out, data, size);
        return 0;
}

int link_send_parts(LinkConnection *c, LinkType type, const void *data, size_t size) {
        const char *p = data;
        int r = 0;

        for (size_t n; size > 0 && r >= 0; p += n, size -= n) {
                n = MIN(size, LINK_DATA_MAX);
                r = link_send(c, type, p, n);
        }
        return r;
}

size_t link_queued(const LinkConnection *c) {
        return c->out.size - c->written;
}

void link_write(LinkConnection *c) {
        while (link_queued(c) > 0 && !c->deaf) {
                ssize_t n = send(c->fd, c->out.text + c->written, link_queued(c), MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0 && errno != EINTR)
                        c->deaf = true;
                c->written += n < 0 ? 0 : (size_t) n;
        }
        c->written = 0;
        if (c->out.text)
                buffer_wipe(&c->out);
}

int link_read(LinkConnection *c) {
        ssize_t n;
        int r;

        r = strbuf_reserve(&c->in, READ_SIZE);
        if (r < 0)
                return r;
        do
                n = recv(c->fd, c->in.text + c->in.size, READ_SIZE, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == EAGAIN ? 0 : -EPIPE;
        if (n == 0)
                return -EPIPE;
        c->in.size += (size_t) n;
        c->in.text[c->in.size] = 0;
        return 1;
}

int link_next(LinkConnection *c, size_t text_max, LinkFrame *ret) {
        size_t have = c->in.size - c->taken;
        uint32_t size;
        char *p;

        if (have < HEAD_SIZE)
                return 0;
        p = c->in.text + c->taken;
        memcpy(&size, p + 1, sizeof(size));
        size = le32toh(size);
        if (size > size_max((LinkType) p[0], text_max))
                return -EPROTO;
        if (have - HEAD_SIZE < size)
                return 0;

        *ret = (LinkFrame) { .type = (LinkType) p[0], .data = p + HEAD_SIZE, .size = size };
        c->taken += HEAD_SIZE + size;
        return 1;
}

void link_settle(LinkConnection *c) {
        strbuf_consume(&c->in, c->taken);
        c->taken = 0;
        if (c->in.size == 0 && c->in.text)
                buffer_wipe(&c->in);
}

int link_watch(LinkConnection *c, bool reads, bool writes) {
        return sd_event_source_set_io_events(c->io, (reads ? EPOLLIN : 0) |
                                                    (writes || link_queued(c) > 0 ? EPOLLOUT : 0));
}

int link_put(StrBuf *fields, const char *name, const char *value) {
        if (strchr(value, '\n'))
                return -EINVAL;
        return strbuf_printf(fields, "%s %s\n", name, value);
}

int link_put_number(StrBuf *fields, const char *name, uint64_t value) {
        return strbuf_printf(fields, "%s %" PRIu64 "\n", name, value);
}

bool link_get(char **fields, size_t *size, const char **ret_name, const char **ret_value) {
        char *line = *fields, *end, *space;

        end = *size > 0 ? memchr(line, '\n', *size) : NULL;
        if (!end)
                return false;
        *end = 0;
        *size -= (size_t) (end + 1 - line);
        *fields = end + 1;

        space = strchr(line, ' ');
        if (space)
                *space = 0;
        *ret_name = line;
        *ret_value = space ? space + 1 : end;
        return true;
}

static const char *const failures[] = {
        [HTTP_OK] = "none", [HTTP_FAILED_CONNECT] = "connect", [HTTP_FAILED_TLS] = "tls",
        [HTTP_FAILED_TIMEOUT] = "timeout", [HTTP_FAILED_CUT] = "cut", [HTTP_FAILED_TOO_LARGE] = "too-large",
        [HTTP_FAILED_PROTOCOL] = "protocol", [HTTP_FAILED_MEMORY] = "memory",
};

const char* http_failure_to_string(HttpFailure f) {
        return failures[f];
}

HttpFailure http_failure_from_string(const char *s) {
        for (size_t i = 0; i < ELEMENTSOF(failures); i++)
                if (streq(failures[i], s))
                        return (HttpFailure) i;
        return HTTP_FAILED_PROTOCOL;
}
