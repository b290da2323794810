/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "event-util.h"
#include "file-util.h"
#include "http-client.h"
#include "http-server.h"
#include "string-util.h"
#include "tests.h"

/* Bodies that are handed on as they come: taken by a server on a Unix socket, and sent by the client. */

#define BODY_MAX MIB(1)

typedef struct Fixture {
        char *directory, *path;
        sd_event *event;
        HttpServer *server;
        HttpExchange *held;
        size_t taken, appetite;         /* appetite: how much is taken until it is said to go on */
        unsigned n_pieces, n_request, n_end, n_oversize;
        bool gone;
        unsigned checksum;
} Fixture;

static void on_head(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;

        f->held = x;
        if (streq(http_exchange_path(x), "/early"))
                ASSERT_OK(http_exchange_reply(x, 200, NULL, "early", 5));
        else
                http_exchange_stream_body(x);
}

static size_t on_body(HttpExchange *x, const char *data, size_t size, void *userdata) {
        Fixture *f = userdata;
        size_t n = MIN(size, f->appetite);

        ASSERT_TRUE(x == f->held);
        for (size_t i = 0; i < n; i++)
                f->checksum = f->checksum * 31 + (unsigned char) data[i];
        f->taken += n;
        f->appetite -= n;
        f->n_pieces++;
        return n;
}

static void on_request(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;
        char text[64];

        f->n_request++;
        (void) snprintf(text, sizeof(text), "%zu %u", f->taken, f->checksum);
        ASSERT_OK(http_exchange_reply(x, 200, "text/plain", text, strlen(text)));
}

static void on_oversize(HttpExchange *x, void *userdata) {
        Fixture *f = userdata;

        f->n_oversize++;
        ASSERT_OK(http_exchange_reply(x, 413, NULL, "large", 5));
}

static void on_end(HttpExchange *x, bool client_gone, void *userdata) {
        Fixture *f = userdata;

        f->n_end++;
        f->gone = client_gone;
        f->held = NULL;
}

static void fixture_done(Fixture *f) {
        (void) http_server_free(f->server);
        (void) sd_event_unref(f->event);
        (void) directory_remove(f->directory);
        free(f->directory);
        free(f->path);
}
#define _fixture_ _cleanup_(fixture_done)

static Fixture* fixture_init(Fixture *f) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        char template[] = "/tmp/puffo-test-relay-XXXXXX";
        int fd;

        ASSERT_NOT_NULL(mkdtemp(template));
        f->directory = strdup(template);
        f->path = strjoin(template, "/socket");
        f->appetite = SIZE_MAX;
        ASSERT_OK(sd_event_new(&f->event));
        fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
        (void) strcpy(a.sun_path, f->path);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &a, sizeof(a)), 0);
        ASSERT_EQ(listen(fd, 4), 0);
        ASSERT_OK(http_server_new(&f->server, f->event, fd, &(HttpServerSpec) {
                .on_head = on_head, .on_body = on_body, .on_request = on_request, .on_end = on_end,
                .on_oversize = on_oversize, .max_body = BODY_MAX, .idle_timeout_seconds = 5, .userdata = f,
        }));
        return f;
}

static int client_open(Fixture *f) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);

        (void) strcpy(a.sun_path, f->path);
        ASSERT_EQ(connect(fd, (struct sockaddr*) &a, sizeof(a)), 0);
        return fd;
}

static void run(Fixture *f) {
        while (sd_event_run(f->event, 30 * USEC_PER_MSEC) > 0)
                ;
}

/* Sends all of it while the server runs. */
static void put(Fixture *f, int fd, const char *data, size_t size) {
        for (unsigned patience = 0; size > 0; patience++) {
                ssize_t n = send(fd, data, size, MSG_DONTWAIT|MSG_NOSIGNAL);

                ASSERT_TRUE(patience < 1000);
                if (n > 0) {
                        data += n;
                        size -= (size_t) n;
                }
                (void) sd_event_run(f->event, USEC_PER_MSEC);
        }
        run(f);
}

static void puts_to(Fixture *f, int fd, const char *text) {
        put(f, fd, text, strlen(text));
}

static void assert_answer(int fd, const char *status, const char *body) {
        char text[2048] = "";
        ssize_t n = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);

        ASSERT_TRUE(n > 0);
        text[n] = 0;
        ASSERT_TRUE(startswith(text, status));
        ASSERT_TRUE(endswith(text, body));
        (void) close(fd);
}

TEST(taken_as_it_comes) {
        _fixture_ Fixture f = {};
        int fd = client_open(fixture_init(&f));

        puts_to(&f, fd, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
        ASSERT_EQ(http_exchange_body_length(f.held), 10);
        ASSERT_EQ(f.taken, 5);
        ASSERT_EQ(f.n_request, 0);
        puts_to(&f, fd, "56789");
        ASSERT_EQ(f.n_request, 1);
        assert_answer(fd, "HTTP/1.1 200 ", "\r\n\r\n10 1584875013");
}

TEST(of_unknown_length) {
        _fixture_ Fixture f = {};
        int fd = client_open(fixture_init(&f));

        puts_to(&f, fd, "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n");
        ASSERT_EQ(http_exchange_body_length(f.held), SIZE_MAX);
        ASSERT_EQ(f.taken, 5);
        puts_to(&f, fd, "5\r\n56789\r\n0\r\n\r\n");
        assert_answer(fd, "HTTP/1.1 200 ", "\r\n\r\n10 1584875013");
}

/* Who does not take holds the client back, and gets the rest first when it goes on. */
TEST(back_pressure) {
        _cleanup_free_ char *body = malloc(BODY_MAX);
        _fixture_ Fixture f = {};
        int fd = client_open(fixture_init(&f));
        size_t sent = 0;
        unsigned rounds = 0;
        ssize_t n;

        memset(body, 'x', BODY_MAX);
        f.appetite = 1000;
        puts_to(&f, fd, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n");
        while ((n = send(fd, body, BODY_MAX - sent, MSG_DONTWAIT|MSG_NOSIGNAL)) > 0) {
                sent += (size_t) n;
                run(&f);
        }
        ASSERT_TRUE(sent < BODY_MAX);
        ASSERT_EQ(f.taken, 1000);
        ASSERT_TRUE(f.n_pieces < 10);

        for (; f.n_request == 0; rounds++) {
                ASSERT_TRUE(rounds < 1000);
                f.appetite = 10000;
                http_exchange_continue_body(f.held);
                n = send(fd, body, BODY_MAX - sent, MSG_DONTWAIT|MSG_NOSIGNAL);
                sent += n > 0 ? (size_t) n : 0;
                (void) sd_event_run(f.event, USEC_PER_MSEC);
                (void) sd_event_run(f.event, USEC_PER_MSEC);
        }
        ASSERT_EQ(f.taken, BODY_MAX);
        run(&f);
        ASSERT_EQ(f.n_end, 1);
        (void) close(fd);
}

TEST(gone_while_it_is_held_back) {
        _fixture_ Fixture f = {};
        int fd = client_open(fixture_init(&f));

        f.appetite = 2;
        puts_to(&f, fd, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234");
        ASSERT_EQ(f.taken, 2);
        (void) close(fd);
        run(&f);
        ASSERT_EQ(f.n_end, 1);
        ASSERT_TRUE(f.gone);
}

/* The answer may come before the body: what is left of that goes nowhere. */
TEST(answered_before_its_end) {
        _cleanup_free_ char *body = calloc(1, 100000);
        _fixture_ Fixture f = {};
        int fd = client_open(fixture_init(&f));

        f.appetite = 2;
        puts_to(&f, fd, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n");
        puts_to(&f, fd, "01234");
        ASSERT_EQ(f.taken, 2);
        ASSERT_OK(http_exchange_reply(f.held, 401, NULL, "no", 2));
        put(&f, fd, body, 99995);
        ASSERT_EQ(f.taken, 2);
        ASSERT_EQ(f.n_request, 0);
        assert_answer(fd, "HTTP/1.1 401 ", "\r\n\r\nno");
}

TEST(too_much) {
        _cleanup_free_ char *body = calloc(1, 2 * BODY_MAX);
        _fixture_ Fixture f = {};
        int fd = client_open(fixture_init(&f)), other;

        puts_to(&f, fd, "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n");
        put(&f, fd, body, 2 * BODY_MAX);
        puts_to(&f, fd, "\r\n0\r\n\r\n");
        ASSERT_TRUE(f.taken <= BODY_MAX);
        ASSERT_EQ(f.n_oversize, 1);
        assert_answer(fd, "HTTP/1.1 413 ", "\r\n\r\nlarge");

        f.taken = 0;
        other = client_open(&f);
        puts_to(&f, other, "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1048577\r\n\r\n");
        ASSERT_EQ(f.taken, 0);
        assert_answer(other, "HTTP/1.1 413 ", "\r\n\r\nlarge");
}

/* ---- from end to end ---- */

typedef struct Sender {
        HttpRequest *q;
        size_t left, available;
        bool done, fails;
        HttpFailure failure;
        long status;
        char body[64];
} Sender;

static ssize_t on_send(HttpRequest *q, char *buffer, size_t size, void *userdata) {
        Sender *s = userdata;
        size_t n = MIN(MIN(size, s->left), s->available);

        if (s->fails)
                return -EIO;
        if (s->left == 0)
                return 0;
        if (n == 0)
                return -EAGAIN;
        memset(buffer, 'y', n);
        s->left -= n;
        s->available -= n;
        return (ssize_t) n;
}

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        Sender *s = userdata;

        s->done = true;
        s->failure = reply->failure;
        s->status = reply->status;
        (void) snprintf(s->body, sizeof(s->body), "%s", reply->body);
}

/* The client speaks TCP alone: a server of its own for it. */
static HttpServer* tcp_server(Fixture *f, unsigned *ret_port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC|SOCK_NONBLOCK, 0);
        HttpServer *s = NULL;

        ASSERT_EQ(bind(fd, (struct sockaddr*) &a, sizeof(a)), 0);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &a, &(socklen_t) { sizeof(a) }), 0);
        ASSERT_EQ(listen(fd, 4), 0);
        ASSERT_OK(http_server_new(&s, f->event, fd, &(HttpServerSpec) {
                .on_head = on_head, .on_body = on_body, .on_request = on_request, .on_end = on_end,
                .on_oversize = on_oversize, .max_body = BODY_MAX, .idle_timeout_seconds = 5, .userdata = f,
        }));
        *ret_port = ntohs(a.sin_port);
        return s;
}

TEST(sent_as_it_comes) {
        static const struct { size_t size; bool known; } t[] = {
                { 500000, true }, { 500000, false }, { 0, false }, { 1, true },
        };
        _fixture_ Fixture f = {};
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        _cleanup_(http_server_freep) HttpServer *server = NULL;
        _cleanup_free_ char *url = NULL;
        unsigned port;

        fixture_init(&f);
        server = tcp_server(&f, &port);
        url = asprintf_new("http://127.0.0.1:%u/x", port);
        ASSERT_OK(http_client_new(&c, f.event));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Sender s = { .left = t[i].size };

                f.taken = f.checksum = 0;
                ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                        .url = url, .on_body = on_send, .body_size = t[i].known ? t[i].size : SIZE_MAX,
                        .on_done = on_done, .userdata = &s,
                }, &s.q));
                for (unsigned rounds = 0; !s.done; rounds++) {
                        ASSERT_TRUE(rounds < 10000);
                        (void) sd_event_run(f.event, USEC_PER_MSEC);
                        s.available = 7777;
                        http_request_continue(s.q);
                }
                ASSERT_EQ(s.failure, HTTP_OK);
                ASSERT_EQ(s.status, 200);
                ASSERT_EQ(f.taken, t[i].size);
                (void) http_request_free(s.q);
        }
}

TEST(sender_that_fails) {
        _fixture_ Fixture f = {};
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        _cleanup_(http_server_freep) HttpServer *server = NULL;
        _cleanup_free_ char *url = NULL;
        Sender s = { .left = 100, .available = 10 };
        unsigned port;

        fixture_init(&f);
        server = tcp_server(&f, &port);
        url = asprintf_new("http://127.0.0.1:%u/x", port);
        ASSERT_OK(http_client_new(&c, f.event));
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = url, .on_body = on_send, .body_size = 100, .on_done = on_done, .userdata = &s,
        }, &s.q));
        while (f.taken < 10)
                ASSERT_OK(sd_event_run(f.event, USEC_PER_SEC));
        s.fails = true;
        http_request_continue(s.q);
        while (!s.done)
                ASSERT_OK(sd_event_run(f.event, USEC_PER_SEC));
        ASSERT_EQ(s.failure, HTTP_FAILED_CUT);
        (void) http_request_free(s.q);
        run(&f);
        ASSERT_EQ(f.n_end, 1);
}

#define TEST_SUITE "http-relay"
TEST_MAIN();
