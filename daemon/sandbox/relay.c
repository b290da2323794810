/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "event-util.h"
#include "relay.h"

#define BUFFER_SIZE KIB(64)
#define ACCEPT_PAUSE_USEC (USEC_PER_SEC / 2)
/* For a listener whose queue is full: connect(2) does not wait there. */
#define CONNECT_PAUSE_USEC (USEC_PER_SEC / 20)
#define CONNECT_TRIES_MAX 200U

typedef struct RelayConnection RelayConnection;

/* One end, and what came from it and is still to go to the other. */
typedef struct RelayEnd {
        RelayConnection *connection;
        int fd;
        sd_event_source *io;
        char *buffer;           /* NULL while it is empty */
        size_t begin, size;
        bool is_at_end;         /* nothing more comes */
        bool is_finished;       /* … and the other end was told */
} RelayEnd;

struct RelayConnection {
        Relay *relay;
        RelayEnd ends[2];       /* TCP, Unix */
        sd_event_source *retry;
        unsigned n_tries;
        LIST_ENTRY(RelayConnection) connections;
};

struct Relay {
        sd_event *event;
        struct sockaddr_un address;
        int fd;
        uint16_t port;
        sd_event_source *io, *pause;
        LIST_HEAD(, RelayConnection) connections;
        unsigned n_connections;
};

static RelayConnection* connection_free(RelayConnection *c) {
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->retry);
        for (size_t i = 0; i < ELEMENTSOF(c->ends); i++) {
                sd_event_source_disable_unref(c->ends[i].io);
                safe_close(c->ends[i].fd);
                free(c->ends[i].buffer);
        }
        if (c->relay) {
                LIST_REMOVE(c, connections);
                /* There may be somebody waiting for the place. */
                if (c->relay->n_connections-- == RELAY_CONNECTIONS_MAX)
                        (void) sd_event_source_set_enabled(c->relay->io, SD_EVENT_ON);
        }
        return mfree(c);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(RelayConnection*, connection_free);

/* Without a clean end: an answer that was cut off must not look complete. */
static void connection_reset(RelayConnection *c) {
        (void) setsockopt(c->ends[0].fd, SOL_SOCKET, SO_LINGER, &(struct linger) { .l_onoff = 1 },
                          sizeof(struct linger));
        connection_free(c);
}

static RelayEnd* end_other(RelayEnd *e) {
        return e == e->connection->ends ? e->connection->ends + 1 : e->connection->ends;
}

static int end_read(RelayEnd *e) {
        ssize_t n;

        if (e->is_at_end || e->size > 0)
                return 0;
        if (!e->buffer) {
                e->buffer = malloc(BUFFER_SIZE);
                if (!e->buffer)
                        return -ENOMEM;
        }
        n = recv(e->fd, e->buffer, BUFFER_SIZE, MSG_DONTWAIT);
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        e->begin = 0;
        e->size = (size_t) n;
        e->is_at_end = n == 0;
        return 0;
}

/* What e has for the other end. */
static int end_deliver(RelayEnd *e) {
        RelayEnd *other = end_other(e);

        while (e->size > 0) {
                ssize_t n = send(other->fd, e->buffer + e->begin, e->size, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return errno == EAGAIN ? 0 : -errno;
                e->begin += (size_t) n;
                e->size -= (size_t) n;
        }
        e->buffer = mfree(e->buffer);
        if (e->is_at_end && !e->is_finished) {
                e->is_finished = true;
                if (shutdown(other->fd, SHUT_WR) < 0 && errno != ENOTCONN)
                        return -errno;
        }
        return 0;
}

static int end_update(RelayEnd *e) {
        uint32_t events = (!e->is_at_end && e->size == 0 ? EPOLLIN : 0) | (end_other(e)->size > 0 ? EPOLLOUT : 0);
        int r;

        /* An end that is closed says so again and again, even if nothing was asked. */
        r = sd_event_source_set_enabled(e->io, events ? SD_EVENT_ON : SD_EVENT_OFF);
        return r < 0 || !events ? r : sd_event_source_set_io_events(e->io, events);
}

static int end_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        RelayEnd *e = userdata, *other = end_other(e);
        RelayConnection *c = e->connection;
        int r = 0;

        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
                r = end_read(e);
        if (r >= 0)
                r = end_deliver(e);
        if (r >= 0)
                r = end_deliver(other);
        if (r >= 0 && e->is_finished && other->is_finished) {
                connection_free(c);
                return 0;
        }
        if (r >= 0)
                r = end_update(e);
        if (r >= 0)
                r = end_update(other);
        if (r < 0)
                connection_reset(c);
        return 0;
}

/* --- connecting --- */

static int connection_start(RelayConnection *c) {
        for (size_t i = 0; i < ELEMENTSOF(c->ends); i++) {
                int r = sd_event_add_io(c->relay->event, &c->ends[i].io, c->ends[i].fd, EPOLLIN, end_on_io,
                                        c->ends + i);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int connection_on_retry(sd_event_source *s, uint64_t usec, void *userdata);

static int connection_connect(RelayConnection *c) {
        if (connect(c->ends[1].fd, (struct sockaddr*) &c->relay->address, sizeof(c->relay->address)) >= 0)
                return connection_start(c);
        if (errno != EAGAIN || ++c->n_tries > CONNECT_TRIES_MAX)
                return -errno;
        return event_arm_timer(c->relay->event, &c->retry, CONNECT_PAUSE_USEC, USEC_PER_MSEC, connection_on_retry, c);
}

static int connection_on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        RelayConnection *c = userdata;

        if (connection_connect(c) < 0)
                connection_reset(c);
        return 0;
}

static void connection_new(Relay *r, int fd) {
        RelayConnection *c = new0(RelayConnection, 1);

        if (!c) {
                safe_close(fd);
                return;
        }
        c->ends[0] = (RelayEnd) { .connection = c, .fd = fd };
        c->ends[1] = (RelayEnd) { .connection = c,
                                  .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) };
        c->relay = r;
        LIST_INSERT_HEAD(&r->connections, c, connections);
        r->n_connections++;

        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int));
        if (c->ends[1].fd < 0 || connection_connect(c) < 0)
                connection_reset(c);
}

static int relay_on_connection(sd_event_source *s, int listen_fd, uint32_t revents, void *userdata) {
        Relay *r = userdata;
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
                if (errno_is_shortage(errno))
                        (void) event_pause(r->io, r->pause, ACCEPT_PAUSE_USEC);
                return 0;
        }
        connection_new(r, fd);
        /* The others wait in the kernel's queue. */
        if (r->n_connections >= RELAY_CONNECTIONS_MAX)
                (void) sd_event_source_set_enabled(r->io, SD_EVENT_OFF);
        return 0;
}

int relay_new(Relay **ret, sd_event *event, const char *socket_path) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_(relay_freep) Relay *r = new0(Relay, 1);
        socklen_t size = sizeof(address);
        int k;

        if (!r)
                return -ENOMEM;
        LIST_INIT(&r->connections);
        r->event = sd_event_ref(event);
        r->fd = -EBADF;
        r->address.sun_family = AF_UNIX;
        if (strlen(socket_path) >= sizeof(r->address.sun_path))
                return -ENAMETOOLONG;
        memcpy(r->address.sun_path, socket_path, strlen(socket_path) + 1);

        r->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (r->fd < 0 || bind(r->fd, (struct sockaddr*) &address, sizeof(address)) < 0 ||
            listen(r->fd, SOMAXCONN) < 0 || getsockname(r->fd, (struct sockaddr*) &address, &size) < 0)
                return -errno;
        r->port = ntohs(address.sin_port);
        k = sd_event_add_io(event, &r->io, r->fd, EPOLLIN, relay_on_connection, r);
        if (k >= 0)
                k = event_pause_new(r->io, &r->pause);
        if (k < 0)
                return k;
        *ret = TAKE_PTR(r);
        return 0;
}

Relay* relay_free(Relay *r) {
        RelayConnection *c;

        if (!r)
                return NULL;
        while ((c = LIST_FIRST(&r->connections)))
                connection_free(c);
        sd_event_source_disable_unref(r->pause);
        sd_event_source_disable_unref(r->io);
        safe_close(r->fd);
        sd_event_unref(r->event);
        return mfree(r);
}

uint16_t relay_port(const Relay *r) {
        return r->port;
}

unsigned relay_n_connections(const Relay *r) {
        return r->n_connections;
}
