/* SPDX-License-Identifier: MIT */
#pragma once

/* An HTTP server for tests, on the same event loop as what is tested: each connection takes one request, which is
 * kept, and gets the next canned answer, byte for byte and in pieces of a given size. */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "loopback.h"
#include "string-util.h"
#include "tests.h"

#define SERVER_CONNECTIONS_MAX 8U

typedef struct Answer {
        const char *bytes;      /* head and body; NULL: close at once */
        size_t size;            /* 0: strlen() */
        size_t piece;           /* written so many bytes at a time; 0: all */
        bool hold;              /* keep the connection open behind it */
} Answer;

typedef struct Server Server;

typedef struct Connection {
        Server *server;
        int fd;
        sd_event_source *io;
        StrBuf request;
        size_t head_size;       /* 0 until the request is complete */
        const Answer *answer;
        size_t written;
        bool closed_by_peer;
} Connection;

struct Server {
        sd_event *event;
        int fd;
        uint16_t port;
        sd_event_source *io;
        const Answer *answers;
        size_t n_answers;
        Connection connections[SERVER_CONNECTIONS_MAX];
        size_t n_connections;   /* so many requests came */
};

static void connection_close(Connection *k) {
        k->io = sd_event_source_disable_unref(k->io);
        k->fd = safe_close(k->fd);
}

static void connection_read(Connection *k) {
        char buffer[65536];
        ssize_t n = recv(k->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        const char *end, *length;

        if (n <= 0) {
                k->closed_by_peer = true;
                connection_close(k);
                return;
        }
        ASSERT_OK(strbuf_append(&k->request, buffer, (size_t) n));
        end = k->head_size == 0 ? strstr(k->request.text, "\r\n\r\n") : NULL;
        if (!end)
                return;

        length = strcasestr(k->request.text, "\r\ncontent-length:");
        ASSERT_TRUE(length && length < end);
        if (k->request.size < (size_t) (end + 4 - k->request.text) + strtoul(length + 17, NULL, 10))
                return;
        k->head_size = (size_t) (end + 4 - k->request.text);
        ASSERT_OK(sd_event_source_set_io_events(k->io, EPOLLIN | EPOLLOUT));
}

static void connection_write(Connection *k) {
        size_t size = k->answer->size ?: strlen(strempty(k->answer->bytes)), left = size - k->written;
        size_t n = k->answer->piece ? MIN(left, k->answer->piece) : left;
        ssize_t m = n > 0 ? send(k->fd, k->answer->bytes + k->written, n, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;

        if (m > 0)
                k->written += (size_t) m;
        if (k->written < size)
                return;
        if (k->answer->hold)
                ASSERT_OK(sd_event_source_set_io_events(k->io, EPOLLIN));
        else
                connection_close(k);
}

static int connection_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Connection *k = userdata;

        if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
                connection_read(k);
        if (k->fd >= 0 && k->head_size > 0 && (revents & EPOLLOUT))
                connection_write(k);
        return 0;
}

static int server_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Server *server = userdata;
        Connection *k = server->connections + server->n_connections;

        if (server->n_connections >= server->n_answers)
                fail_msg("More requests than there are answers");
        k->server = server;
        k->answer = server->answers + server->n_connections++;
        k->fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        ASSERT_TRUE(k->fd >= 0);
        ASSERT_OK(setsockopt(k->fd, IPPROTO_TCP, TCP_NODELAY, &(int) { 1 }, sizeof(int)));
        ASSERT_OK(sd_event_add_io(server->event, &k->io, k->fd, EPOLLIN, connection_on_io, k));
        return 0;
}

static void server_start(Server *server, sd_event *event, const Answer *answers, size_t n_answers) {
        *server = (Server) { .event = event, .fd = -EBADF, .answers = answers, .n_answers = n_answers };
        for (size_t i = 0; i < SERVER_CONNECTIONS_MAX; i++)
                server->connections[i].fd = -EBADF;
        ASSERT_TRUE(n_answers <= SERVER_CONNECTIONS_MAX);
        server->fd = listen_loopback(SOCK_NONBLOCK, &server->port);
        ASSERT_OK(sd_event_add_io(event, &server->io, server->fd, EPOLLIN, server_on_io, server));
}

static void server_stop(Server *server) {
        for (size_t i = 0; i < server->n_connections; i++) {
                connection_close(server->connections + i);
                strbuf_done(&server->connections[i].request);
        }
        server->io = sd_event_source_disable_unref(server->io);
        server->fd = safe_close(server->fd);
}

/* The body of the i-th request. */
_unused_ static const char* server_body(Server *server, size_t i) {
        ASSERT_TRUE(i < server->n_connections && server->connections[i].head_size > 0);
        return server->connections[i].request.text + server->connections[i].head_size;
}

/* Whether the head of the i-th request has this line; names in it are matched without regard to case. */
_unused_ static bool server_head_has(Server *server, size_t i, const char *line) {
        _cleanup_free_ char *head = NULL, *needle = NULL;

        ASSERT_TRUE(i < server->n_connections && server->connections[i].head_size > 0);
        head = memdup0(server->connections[i].request.text, server->connections[i].head_size);
        needle = strjoin(line, "\r\n");
        ASSERT_TRUE(head && needle);
        return strcasestr(head, needle);
}
