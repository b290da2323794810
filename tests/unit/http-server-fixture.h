/* SPDX-License-Identifier: MIT */
#pragma once

/* A server that does what the path of a request says, and clients that send what they are told. */

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "event-util.h"
#include "http-server.h"
#include "string-util.h"
#include "tests.h"

/* Server and clients share one loop. What a request gets is said by its path. */
typedef struct Fixture {
        sd_event *event;
        HttpServer *server;
        struct sockaddr_in address;
        HttpExchange *held;     /* of /later and /stream */
        unsigned n_head, n_request, n_end, n_gone, n_writable, n_oversize, n_destroyed;
        bool own_oversize;
} Fixture;

#define CONNECTIONS_MAX 16U

static void on_head(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;

        f->n_head++;
        if (streq(http_exchange_path(x), "/refuse"))
                ASSERT_OK(http_exchange_reply(x, 403, "text/plain", "no", 2));
        else if (streq(http_exchange_path(x), "/abort-head"))
                http_exchange_abort(x);
        else if (streq(http_exchange_path(x), "/no-body"))
                http_exchange_ignore_body(x);
}

static void destroy(void *data) {
        Fixture *f = data;

        f->n_destroyed++;
}

static void reply_echo(HttpExchange *x) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *body;
        size_t size;

        body = http_exchange_body(x, &size);
        ASSERT_EQ(body[size], 0);
        ASSERT_OK(strbuf_printf(&b, "%s %s q=%s h=%s/%u n=%zu [%s]", http_exchange_method(x), http_exchange_path(x),
                                http_exchange_query(x, "q") ?: "-", http_exchange_header(x, "x-test") ?: "-",
                                http_exchange_header_count(x, "X-Test"), size, size < 100 ? body : "…"));
        ASSERT_ERROR(http_exchange_add_header(x, "X-Bad", "a\r\nX-Forged: b"), EINVAL);
        ASSERT_ERROR(http_exchange_add_header(x, "X Bad", "a"), EINVAL);
        ASSERT_OK(http_exchange_add_header(x, "X-Request-Id", "req_1"));
        ASSERT_OK(http_exchange_reply(x, 200, "text/plain", b.text, b.size));
        ASSERT_ERROR(http_exchange_reply(x, 200, "text/plain", "", 0), EALREADY);
}

static void on_request(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;
        const char *path = http_exchange_path(x);

        f->n_request++;
        if (streq(path, "/later"))
                f->held = x;
        else if (streq(path, "/stream")) {
                f->held = x;
                ASSERT_ERROR(http_exchange_stream_write(x, "early", 5), EINVAL);
                ASSERT_OK(http_exchange_stream_begin(x, 200, "text/event-stream"));
        } else if (streq(path, "/once")) {
                /* Begins, writes and ends within one callback. */
                ASSERT_OK(http_exchange_stream_begin(x, 200, NULL));
                ASSERT_EQ(http_exchange_stream_write(x, "abc", 3), 1);
                http_exchange_stream_end(x);
                ASSERT_ERROR(http_exchange_stream_write(x, "late", 4), EINVAL);
        } else if (streq(path, "/abort"))
                http_exchange_abort(x);
        else if (streq(path, "/nothing"))
                ASSERT_OK(http_exchange_reply(x, 204, NULL, NULL, 0));
        else if (streq(path, "/count")) {
                Fixture *before = http_exchange_connection_data(x);

                http_exchange_set_connection_data(x, f, destroy);
                ASSERT_OK(http_exchange_reply(x, 200, NULL, before ? "again" : "first", 5));
        } else
                reply_echo(x);
}

static void on_end(HttpExchange *x, bool client_gone, void *userdata) {
        Fixture *f = userdata;

        f->n_end++;
        f->n_gone += client_gone;
        if (f->held == x)
                f->held = NULL;
}

static void on_writable(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;

        ASSERT_TRUE(f->held == x);
        f->n_writable++;
}

static void on_oversize(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;

        f->n_oversize++;
        if (f->own_oversize)
                ASSERT_OK(http_exchange_reply(x, 413, "application/json", "{}", 2));
}

static void fixture_start_patient(Fixture *f, size_t max_body, unsigned idle_timeout_seconds) {
        HttpServerSpec spec = {
                .on_head = on_head, .on_request = on_request, .on_end = on_end, .on_writable = on_writable,
                .on_oversize = on_oversize, .max_body = max_body, .idle_timeout_seconds = idle_timeout_seconds,
                .max_connections = CONNECTIONS_MAX, .userdata = f,
        };
        socklen_t size = sizeof(f->address);
        int fd;

        *f = (Fixture) { .address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) } };
        ASSERT_OK(sd_event_new(&f->event));
        fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0);
        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &f->address, sizeof(f->address)), 0);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &f->address, &size), 0);
        ASSERT_EQ(listen(fd, 16), 0);
        ASSERT_OK(http_server_new(&f->server, f->event, fd, &spec));
}

static void fixture_start(Fixture *f, size_t max_body) {
        fixture_start_patient(f, max_body, 1);
}

static void fixture_done(Fixture *f) {
        f->server = http_server_free(f->server);
        ASSERT_EQ(f->n_end, f->n_head);
        f->event = sd_event_unref(f->event);
}

/* A client that sends what it is told and keeps what it gets. */
typedef struct Client {
        sd_event_source *io;
        int fd;
        StrBuf in;
        bool ended, reset;
        unsigned n_trickled;
} Client;

static int client_on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Client *c = userdata;
        char buffer[65536];
        ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n > 0)
                ASSERT_OK(strbuf_append(&c->in, buffer, (size_t) n));
        else {
                c->ended = true;
                c->reset = n < 0;
                ASSERT_OK(sd_event_source_set_enabled(s, SD_EVENT_OFF));
        }
        return 0;
}

static void client_open(Client *c, Fixture *f) {
        *c = (Client) { .fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0) };
        ASSERT_TRUE(c->fd >= 0);
        ASSERT_EQ(connect(c->fd, (struct sockaddr*) &f->address, sizeof(f->address)), 0);
        ASSERT_OK(sd_event_add_io(f->event, &c->io, c->fd, EPOLLIN, client_on_input, c));
        ASSERT_OK(sd_event_source_set_io_fd_own(c->io, true));
}

static void client_close(Client *c) {
        c->io = sd_event_source_disable_unref(c->io);
        strbuf_done(&c->in);
}

static void run(Fixture *f) {
        ASSERT_TRUE(sd_event_run(f->event, 20 * USEC_PER_SEC) > 0);
}

#define RUN_UNTIL(f, condition) do while (!(condition)) run(f); while (0)

/* Nothing may be left to do: a loop that never comes to rest spins. */
static void run_until_idle(Fixture *f) {
        for (unsigned i = 0; i < 1000; i++)
                if (ASSERT_OK(sd_event_run(f->event, 0)) == 0)
                        return;
        fail_msg("The loop never comes to rest");
}

/* Sends all, letting the server read meanwhile. */
static void client_send_n(Client *c, Fixture *f, const char *data, size_t size) {
        while (size > 0) {
                ssize_t n = send(c->fd, data, size, MSG_DONTWAIT|MSG_NOSIGNAL);

                if (n < 0) {
                        if (errno != EAGAIN)
                                return;
                        run(f);
                        continue;
                }
                data += n;
                size -= (size_t) n;
        }
}

static void client_send(Client *c, Fixture *f, const char *text) {
        client_send_n(c, f, text, strlen(text));
}

static bool client_has(const Client *c, const char *text) {
        return c->in.text && strstr(c->in.text, text);
}

_unused_ static unsigned status_of(const Client *c) {
        unsigned status = 0;

        return c->in.text && sscanf(c->in.text, "HTTP/1.%*c %u ", &status) == 1 ? status : 0;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n"
