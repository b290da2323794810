/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>

#include "event-util.h"
#include "http-client.h"
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

static unsigned status_of(const Client *c) {
        unsigned status = 0;

        return c->in.text && sscanf(c->in.text, "HTTP/1.%*c %u ", &status) == 1 ? status : 0;
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n"

TEST(echo) {
        static const struct {
                const char *request, *answer;
        } t[] = {
                { GET("/a/b?q=x") "\r\n", "GET /a/b q=x h=-/0 n=0 []" },
                { GET("/a%2fb%00?x=1&q=a%20b+c%3d") "\r\n", "GET /a%2fb%00 q=a b c= h=-/0 n=0 []" },
                { GET("/?q") "\r\n", "GET / q= h=-/0 n=0 []" },
                { GET("/?q=a%00b&q=2") "\r\n", "GET / q=2 h=-/0 n=0 []" },
                { GET("/?q=%zz%4") "\r\n", "GET / q=%zz%4 h=-/0 n=0 []" },
                { GET("/?") "\r\n", "GET / q=- h=-/0 n=0 []" },
                { GET("/") "X-Test: 1\r\nx-TEST:  2 \r\n\r\n", "GET / q=- h=1/2 n=0 []" },
                { "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "POST /p q=- h=-/0 n=5 [hello]" },
                { "PUT /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;a=b\r\nlo\r\n0\r\n\r\n",
                  "PUT /p q=- h=-/0 n=5 [hello]" },
                { "DELETE /d HTTP/1.1\r\nHost: x\r\n\r\n", "DELETE /d q=- h=-/0 n=0 []" },
                { "GET / HTTP/1.0\r\n\r\n", "GET / q=- h=-/0 n=0 []" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                /* In one piece, and byte by byte. */
                for (size_t step = 1000; step > 0; step = step == 1000 ? 1 : 0) {
                        Fixture f;
                        Client c;

                        fixture_start(&f, 1000);
                        client_open(&c, &f);
                        for (size_t k = 0, n = strlen(t[i].request); k < n; k += step) {
                                client_send_n(&c, &f, t[i].request + k, MIN(step, n - k));
                                run_until_idle(&f);
                        }
                        RUN_UNTIL(&f, client_has(&c, t[i].answer));
                        ASSERT_EQ(status_of(&c), 200);
                        ASSERT_TRUE(client_has(&c, "X-Request-Id: req_1\r\n"));
                        ASSERT_TRUE(client_has(&c, "Content-Type: text/plain\r\n"));
                        ASSERT_EQ(f.n_gone, 0);
                        client_close(&c);
                        fixture_done(&f);
                }
}

TEST(many_parameters) {
        _cleanup_(strbuf_done) StrBuf b = {};
        Fixture f;
        Client c;

        ASSERT_OK(strbuf_puts(&b, "GET /?"));
        for (unsigned i = 0; i < 50; i++)
                ASSERT_OK(strbuf_puts(&b, "&&"));
        ASSERT_OK(strbuf_puts(&b, "a&b=1&q=last&q=later HTTP/1.1\r\nHost: x\r\n\r\n"));
        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, b.text);
        RUN_UNTIL(&f, client_has(&c, "GET / q=last h=-/0 n=0 []"));
        client_close(&c);
        fixture_done(&f);
}

TEST(keep_alive_and_connection_data) {
        Fixture f;
        Client c;

        fixture_start(&f, 1000);
        client_open(&c, &f);
        client_send(&c, &f, GET("/count") "\r\n");
        RUN_UNTIL(&f, client_has(&c, "first"));
        client_send(&c, &f, GET("/count") "\r\n");
        RUN_UNTIL(&f, client_has(&c, "again"));
        RUN_UNTIL(&f, f.n_end == 2);
        ASSERT_EQ(f.n_destroyed, 0);

        client_close(&c);
        RUN_UNTIL(&f, f.n_destroyed == 1);
        fixture_done(&f);
}

TEST(pipelined) {
        Fixture f;
        Client c;

        fixture_start(&f, 1000);
        client_open(&c, &f);
        client_send(&c, &f, GET("/1") "\r\n" "POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi" GET("/3") "\r\n");
        RUN_UNTIL(&f, client_has(&c, "GET /3 "));
        ASSERT_TRUE(client_has(&c, "GET /1 "));
        ASSERT_TRUE(client_has(&c, "POST /2 q=- h=-/0 n=2 [hi]"));
        ASSERT_EQ(f.n_gone, 0);
        client_close(&c);
        fixture_done(&f);
}

/* How far libmicrohttpd lets a broken request come decides whose words its answer is in. */
TEST(refused_before_the_handler) {
        static const char ours[] = "The head of the request is broken";
        static const struct {
                const char *request;
                unsigned status;        /* 0: closed without an answer */
                bool ours;
        } t[] = {
                { "\x16\x03\x01\x02\x01\x01\xfc\x03\x03 TLS\r\n\r\n", 400, false },
                { "garbage\r\n\r\n", 0, false },
                { "GET / HTTP/1.1\r\nno colon\r\nHost: x\r\n\r\n", 400, false },
                { "GET / HTTP/1.1\r\n\r\n", 400, true },                        /* no Host */
                { "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, true },
                { "GET /?a b HTTP/1.1\r\nHost: x\r\n\r\n", 400, true },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nabc", 400, true },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                  400, true },
                { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, true },
                { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"
                  "0\r\n\r\n", 400, true },
                { "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, true },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400, false },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\nx", 400, false },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 413, false },
                { "GET / HTTP/2.7\r\nHost: x\r\n\r\n", 505, false },
                { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, true },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length\t: 3\r\n\r\nabc", 400, true },
                { "GET / HTTP/1.1\r\nHost: x\r\nX\xc3\xa9: 1\r\n\r\n", 400, true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Fixture f;
                Client c;

                fixture_start(&f, 1000);
                client_open(&c, &f);
                client_send(&c, &f, t[i].request);
                RUN_UNTIL(&f, t[i].ours ? client_has(&c, ours) : c.ended);
                if (f.n_head != 0 || status_of(&c) != t[i].status || client_has(&c, ours) != t[i].ours || c.reset)
                        fail_msg("Case %zu: %u heads, answer '%s'%s", i, f.n_head, strempty(c.in.text),
                                 c.reset ? ", reset" : "");
                client_close(&c);
                fixture_done(&f);
        }
}

TEST(head_too_large) {
        static const struct {
                size_t size;
                unsigned status;
                bool ours;
        } t[] = {
                { KIB(15), 200, false }, { KIB(16) - 200, 200, false }, { KIB(16) + 1, 431, true },
                { KIB(24), 431, true }, { KIB(28), 431, true }, { KIB(40), 431, false }, { MIB(1), 431, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *filler = calloc(1, t[i].size + 1);
                Fixture f;
                Client c;

                memset(filler, 'x', t[i].size);
                fixture_start(&f, 1000);
                client_open(&c, &f);
                client_send(&c, &f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nX-Filler: ");
                client_send(&c, &f, filler);
                client_send(&c, &f, "\r\n\r\n");
                RUN_UNTIL(&f, t[i].status == 200 ? status_of(&c) > 0 : c.ended);
                ASSERT_EQ(f.n_head, t[i].status == 200);
                /* The client has to see why. */
                ASSERT_FALSE(c.reset);
                ASSERT_EQ(status_of(&c), t[i].status);
                ASSERT_EQ(client_has(&c, "The head of the request is too large.\n"), t[i].ours);
                client_close(&c);
                fixture_done(&f);
        }
}

TEST(broken_chunks) {
        Fixture f;
        Client c;

        fixture_start(&f, 1000);
        client_open(&c, &f);
        client_send(&c, &f, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n");
        RUN_UNTIL(&f, c.ended);
        ASSERT_EQ(status_of(&c), 400);
        ASSERT_EQ(f.n_request, 0);
        RUN_UNTIL(&f, f.n_end == 1);
        ASSERT_EQ(f.n_gone, 1);
        client_close(&c);
        fixture_done(&f);
}

TEST(refusal_with_the_body_under_way) {
        _cleanup_free_ char *body = calloc(1, MIB(1));
        Fixture f;
        Client c;

        /* The client sends all of it before it reads; it must find the answer and a proper end, not a reset. */
        fixture_start(&f, MIB(2));
        client_open(&c, &f);
        ASSERT_OK(sd_event_source_set_enabled(c.io, SD_EVENT_OFF));
        client_send(&c, &f, "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n");
        RUN_UNTIL(&f, f.n_end == 1);
        client_send_n(&c, &f, body, MIB(1));
        ASSERT_OK(sd_event_source_set_enabled(c.io, SD_EVENT_ON));
        RUN_UNTIL(&f, c.ended);
        ASSERT_FALSE(c.reset);
        ASSERT_EQ(status_of(&c), 403);
        ASSERT_TRUE(client_has(&c, "Connection: close"));
        ASSERT_EQ(f.n_request, 0);
        ASSERT_EQ(f.n_gone, 0);
        client_close(&c);
        fixture_done(&f);
}

TEST(oversize) {
        static const struct {
                const char *request;
                bool own;
                unsigned status, n_oversize;
        } t[] = {
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789", false, 200, 0 },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890", false, 413, 1 },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890", true, 413, 1 },
                { "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n", true, 413, 1 },
                { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
                  false, 200, 0 },
                { "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n",
                  true, 413, 1 },
                { "POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n01234567890", false, 403, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Fixture f;
                Client c;

                fixture_start(&f, 10);
                f.own_oversize = t[i].own;
                client_open(&c, &f);
                client_send(&c, &f, t[i].request);
                RUN_UNTIL(&f, f.n_end == 1);
                RUN_UNTIL(&f, status_of(&c) > 0);
                ASSERT_EQ(status_of(&c), t[i].status);
                ASSERT_EQ(f.n_oversize, t[i].n_oversize);
                ASSERT_EQ(f.n_request, t[i].status == 200);
                ASSERT_EQ(f.n_gone, 0);
                client_close(&c);
                fixture_done(&f);
        }
}

TEST(expect_continue) {
        Fixture f;
        Client c;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n");
        RUN_UNTIL(&f, client_has(&c, "HTTP/1.1 100 Continue\r\n\r\n"));
        ASSERT_EQ(f.n_head, 1);
        ASSERT_EQ(f.n_request, 0);
        client_send(&c, &f, "hi");
        RUN_UNTIL(&f, client_has(&c, "n=2 [hi]"));
        client_close(&c);

        /* Refused before the client has sent any of it. */
        client_open(&c, &f);
        client_send(&c, &f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
        RUN_UNTIL(&f, status_of(&c) > 0);
        ASSERT_EQ(status_of(&c), 413);
        client_close(&c);
        fixture_done(&f);
}

TEST(answered_later) {
        Fixture f;
        Client c;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, GET("/later") "\r\n" GET("/next") "\r\n");
        RUN_UNTIL(&f, f.held);
        run_until_idle(&f);
        ASSERT_EQ(http_server_n_exchanges(f.server), 1);
        ASSERT_EQ(((const struct sockaddr_in*) http_exchange_local(f.held))->sin_port, f.address.sin_port);
        ASSERT_EQ(http_exchange_peer(f.held)->sa_family, AF_INET);
        ASSERT_OK(http_exchange_reply(f.held, 200, NULL, "at last", 7));
        RUN_UNTIL(&f, client_has(&c, "GET /next"));
        ASSERT_TRUE(client_has(&c, "at last"));
        RUN_UNTIL(&f, f.n_end == 2);
        ASSERT_EQ(f.n_gone, 0);
        ASSERT_EQ(http_server_n_exchanges(f.server), 0);
        client_close(&c);
        fixture_done(&f);
}

TEST(handler_outlasts_the_idle_timeout) {
        Fixture f;
        Client c, bystander;

        /* The bystander is thrown out after the idle time, one who is waiting for our answer is not. */
        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, GET("/later") "\r\n");
        RUN_UNTIL(&f, f.held);
        client_open(&bystander, &f);
        client_send(&bystander, &f, "GET / HT");
        RUN_UNTIL(&f, bystander.ended);
        ASSERT_NOT_NULL(f.held);
        ASSERT_OK(http_exchange_reply(f.held, 200, NULL, "at last", 7));
        RUN_UNTIL(&f, client_has(&c, "at last"));
        client_close(&bystander);
        client_close(&c);
        fixture_done(&f);
}

/* Slow as the machine may be, this is slower: what it has to show is counted in bytes, not in seconds. */
static int trickle(sd_event_source *s, uint64_t usec, void *userdata) {
        Client *c = userdata;

        c->n_trickled += send(c->fd, "x", 1, MSG_NOSIGNAL|MSG_DONTWAIT) == 1;
        (void) sd_event_source_set_time_relative(s, 100 * USEC_PER_MSEC);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

TEST(slow_head) {
        sd_event_source *timer = NULL;
        Fixture f;
        Client c;

        /* A byte now and then does not keep a connection without a request. */
        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, GET("/") "X-Slow: ");
        ASSERT_OK(sd_event_add_time_relative(f.event, &timer, CLOCK_MONOTONIC, 0, 1, trickle, &c));
        RUN_UNTIL(&f, c.ended);
        ASSERT_EQ(f.n_head, 0);
        sd_event_source_disable_unref(timer);
        client_close(&c);
        fixture_done(&f);
}

TEST(slow_body) {
        static const char *const requests[] = {
                "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n",
                "GET /no-body HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\n\r\n",
        };

        /* Nor does it keep one whose body is always about to be complete. */
        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                sd_event_source *timer = NULL;
                Fixture f;
                Client c;

                fixture_start(&f, 1000);
                client_open(&c, &f);
                client_send(&c, &f, requests[i]);
                ASSERT_OK(sd_event_add_time_relative(f.event, &timer, CLOCK_MONOTONIC, 0, 1, trickle, &c));
                RUN_UNTIL(&f, c.ended || c.n_trickled >= 200);
                ASSERT_TRUE(c.ended && c.n_trickled < 200);
                ASSERT_EQ(f.n_head, 1);
                ASSERT_EQ(f.n_request, 0);
                /* The client sees the end before libmicrohttpd has come to see it. */
                RUN_UNTIL(&f, f.n_end == 1);
                ASSERT_EQ(f.n_gone, 1);
                sd_event_source_disable_unref(timer);
                client_close(&c);
                fixture_done(&f);
        }
}

/* Far more connections than there may be, none of which asks for anything: whoever does is served all the same. */
TEST(silent_crowd) {
        static const char *const begins[] = { "", GET("/"), GET("/no-body") "Content-Length: 9\r\n\r\n" };
        Client crowd[3 * CONNECTIONS_MAX], c, busy;
        Fixture f;

        fixture_start_patient(&f, 10, 300);
        client_open(&busy, &f);
        client_send(&busy, &f, GET("/later") "\r\n");
        RUN_UNTIL(&f, f.held);
        for (size_t i = 0; i < ELEMENTSOF(crowd); i++) {
                client_open(crowd + i, &f);
                client_send(crowd + i, &f, begins[i % ELEMENTSOF(begins)]);
                run_until_idle(&f);
        }
        client_open(&c, &f);
        client_send(&c, &f, GET("/served") "\r\n");
        RUN_UNTIL(&f, client_has(&c, "GET /served"));

        /* Not at the cost of one that we are at work for. */
        ASSERT_OK(http_exchange_reply(f.held, 200, NULL, "at last", 7));
        RUN_UNTIL(&f, client_has(&busy, "at last"));
        for (size_t i = 0; i < ELEMENTSOF(crowd); i++)
                client_close(crowd + i);
        client_close(&busy);
        client_close(&c);
        fixture_done(&f);
}

TEST(ignored_body) {
        static const char *const requests[] = {
                "POST /no-body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
                "POST /no-body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                "14\r\naaaaaaaaaaaaaaaaaaaa\r\n0\r\n\r\n",  /* more than would be allowed */
        };

        for (size_t i = 0; i < ELEMENTSOF(requests); i++) {
                Fixture f;
                Client c;

                fixture_start(&f, 10);
                client_open(&c, &f);
                client_send(&c, &f, requests[i]);
                RUN_UNTIL(&f, client_has(&c, "n=0 []"));
                /* The connection is still in step. */
                client_send(&c, &f, GET("/next") "\r\n");
                RUN_UNTIL(&f, client_has(&c, "GET /next"));
                ASSERT_EQ(f.n_oversize, 0);
                client_close(&c);
                fixture_done(&f);
        }
}

TEST(gone_while_the_handler_works) {
        static const char *const paths[] = { GET("/later") "\r\n", GET("/stream") "\r\n" };

        for (size_t i = 0; i < ELEMENTSOF(paths); i++)
                for (unsigned how = 0; how < 3; how++) {
                        Fixture f;
                        Client c;

                        fixture_start(&f, 10);
                        client_open(&c, &f);
                        client_send(&c, &f, paths[i]);
                        RUN_UNTIL(&f, f.held);
                        run_until_idle(&f);

                        if (how == 0)
                                client_close(&c);
                        else if (how == 1)
                                ASSERT_EQ(shutdown(c.fd, SHUT_WR), 0);
                        else {
                                struct linger linger = { .l_onoff = 1 };

                                ASSERT_EQ(setsockopt(c.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
                                client_close(&c);
                        }
                        RUN_UNTIL(&f, f.n_end == 1);
                        ASSERT_EQ(f.n_gone, 1);
                        ASSERT_NULL(f.held);
                        client_close(&c);
                        run_until_idle(&f);
                        fixture_done(&f);
                }
}

TEST(gone_in_the_middle_of_the_body) {
        Fixture f;
        Client c;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
        RUN_UNTIL(&f, f.n_head == 1);
        client_close(&c);
        RUN_UNTIL(&f, f.n_end == 1);
        ASSERT_EQ(f.n_gone, 1);
        ASSERT_EQ(f.n_request, 0);
        fixture_done(&f);
}

TEST(stream) {
        Fixture f;
        Client c;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, GET("/stream") "\r\n");

        /* The head goes out before there is any body, each part without waiting for the next. */
        RUN_UNTIL(&f, client_has(&c, "Transfer-Encoding: chunked\r\n\r\n"));
        run_until_idle(&f);
        ASSERT_EQ(http_exchange_stream_write(f.held, "data: 1\n\n", 9), 1);
        RUN_UNTIL(&f, client_has(&c, "\r\n\r\n9\r\ndata: 1\n\n\r\n"));
        run_until_idle(&f);
        ASSERT_EQ(http_exchange_stream_write(f.held, "", 0), 1);
        ASSERT_EQ(http_exchange_stream_write(f.held, "da", 2), 1);
        ASSERT_EQ(http_exchange_stream_write(f.held, "ta: 2\n\n", 7), 1);
        RUN_UNTIL(&f, client_has(&c, "9\r\ndata: 2\n\n\r\n"));
        http_exchange_stream_end(f.held);
        RUN_UNTIL(&f, f.n_end == 1);
        RUN_UNTIL(&f, client_has(&c, "\r\n0\r\n\r\n"));
        ASSERT_EQ(f.n_gone, 0);

        /* The connection lives on. */
        client_send(&c, &f, GET("/once") "\r\n");
        RUN_UNTIL(&f, client_has(&c, "3\r\nabc\r\n0\r\n\r\n"));
        client_send(&c, &f, GET("/nothing") "\r\n");
        RUN_UNTIL(&f, client_has(&c, "HTTP/1.1 204"));
        client_send(&c, &f, "HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n");
        RUN_UNTIL(&f, f.n_end == 4);
        ASSERT_EQ(f.n_gone, 0);
        ASSERT_NULL(f.held);
        client_close(&c);
        fixture_done(&f);
}

TEST(stream_to_http_1_0) {
        Fixture f;
        Client c;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, "GET /stream HTTP/1.0\r\n\r\n");
        RUN_UNTIL(&f, client_has(&c, "\r\n\r\n"));
        ASSERT_EQ(http_exchange_stream_write(f.held, "abc", 3), 1);
        RUN_UNTIL(&f, client_has(&c, "\r\n\r\nabc"));
        http_exchange_stream_end(f.held);
        RUN_UNTIL(&f, c.ended);
        ASSERT_FALSE(c.reset);
        ASSERT_EQ(f.n_gone, 0);
        client_close(&c);
        fixture_done(&f);
}

TEST(aborted) {
        static const struct {
                const char *request;
                bool hold, reset;
        } t[] = {
                { GET("/abort-head") "\r\n", false, false },
                { GET("/abort") "\r\n", false, false },
                { GET("/later") "\r\n", true, false },
                { GET("/stream") "\r\n", true, false },
                { "GET /stream HTTP/1.0\r\n\r\n", true, true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Fixture f;
                Client c;

                fixture_start(&f, 10);
                client_open(&c, &f);
                client_send(&c, &f, t[i].request);
                if (t[i].hold) {
                        RUN_UNTIL(&f, f.held);
                        run_until_idle(&f);
                        http_exchange_abort(f.held);
                        ASSERT_ERROR(http_exchange_stream_write(f.held, "x", 1), EPIPE);
                }
                RUN_UNTIL(&f, c.ended);
                RUN_UNTIL(&f, f.n_end == 1);
                ASSERT_EQ(c.reset, t[i].reset);
                ASSERT_FALSE(client_has(&c, "0\r\n\r\n"));
                ASSERT_EQ(f.n_gone, 0);
                client_close(&c);
                fixture_done(&f);
        }
}

/* Writes until the server says stop, then until it refuses. */
static size_t fill_stream(Fixture *f) {
        static const char block[KIB(16)] = { 'x' };
        size_t written = 0;
        int r;

        do {
                r = http_exchange_stream_write(f->held, block, sizeof(block));
                if (r >= 0)
                        written += sizeof(block);
                run_until_idle(f);
        } while (r > 0);
        ASSERT_EQ(r, 0);

        while ((r = http_exchange_stream_write(f->held, block, sizeof(block))) == 0)
                written += sizeof(block);
        ASSERT_ERROR(r, ENOBUFS);
        return written;
}

TEST(back_pressure) {
        size_t written, body;
        Fixture f;
        Client c;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_send(&c, &f, "GET /stream HTTP/1.0\r\n\r\n");
        RUN_UNTIL(&f, client_has(&c, "\r\n\r\n"));
        ASSERT_OK(sd_event_source_set_enabled(c.io, SD_EVENT_OFF));

        written = fill_stream(&f);
        ASSERT_TRUE(written > MIB(4) - KIB(16));
        ASSERT_EQ(f.n_writable, 0);

        ASSERT_OK(sd_event_source_set_enabled(c.io, SD_EVENT_ON));
        RUN_UNTIL(&f, f.n_writable == 1);
        ASSERT_EQ(http_exchange_stream_write(f.held, "end", 3), 1);
        http_exchange_stream_end(f.held);
        RUN_UNTIL(&f, c.ended);
        body = c.in.size - (size_t) (strstr(c.in.text, "\r\n\r\n") + 4 - c.in.text);
        ASSERT_EQ(body, written + 3);
        ASSERT_EQ(f.n_writable, 1);
        ASSERT_EQ(f.n_gone, 0);
        client_close(&c);
        fixture_done(&f);
}

TEST(gone_with_a_full_buffer) {
        for (unsigned stays = 0; stays < 2; stays++) {
                Fixture f;
                Client c;

                fixture_start(&f, 10);
                client_open(&c, &f);
                client_send(&c, &f, GET("/stream") "\r\n");
                RUN_UNTIL(&f, client_has(&c, "\r\n\r\n"));
                ASSERT_OK(sd_event_source_set_enabled(c.io, SD_EVENT_OFF));
                (void) fill_stream(&f);

                /* One closes, the other just never reads again and meets the idle time-out. */
                if (!stays)
                        client_close(&c);
                RUN_UNTIL(&f, f.n_end == 1);
                ASSERT_EQ(f.n_gone, 1);
                client_close(&c);
                fixture_done(&f);
        }
}

TEST(quiesce) {
        Fixture f;
        Client c, idle;
        int fd;

        fixture_start(&f, 10);
        client_open(&c, &f);
        client_open(&idle, &f);
        client_send(&idle, &f, GET("/x") "\r\n");
        RUN_UNTIL(&f, client_has(&idle, "GET /x"));
        client_send(&c, &f, GET("/later") "\r\n");
        RUN_UNTIL(&f, f.held);

        ASSERT_TRUE(http_server_quiesce(f.server) > 0);
        RUN_UNTIL(&f, idle.ended);
        fd = socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, 0);
        ASSERT_TRUE(connect(fd, (struct sockaddr*) &f.address, sizeof(f.address)) < 0);
        safe_close(fd);

        ASSERT_OK(http_exchange_reply(f.held, 200, NULL, "bye", 3));
        RUN_UNTIL(&f, c.ended);
        ASSERT_TRUE(client_has(&c, "Connection: close"));
        ASSERT_TRUE(client_has(&c, "bye"));
        ASSERT_EQ(http_server_quiesce(f.server), 0);
        client_close(&c);
        client_close(&idle);
        fixture_done(&f);
}

TEST(freed_with_exchanges) {
        Fixture f;
        Client later, stream, half;

        fixture_start(&f, 10);
        client_open(&later, &f);
        client_send(&later, &f, GET("/later") "\r\n");
        RUN_UNTIL(&f, f.held);
        f.held = NULL;
        client_open(&stream, &f);
        client_send(&stream, &f, GET("/stream") "\r\n");
        RUN_UNTIL(&f, f.held);
        client_open(&half, &f);
        client_send(&half, &f, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe");
        RUN_UNTIL(&f, f.n_head == 3);
        run_until_idle(&f);

        f.server = http_server_free(f.server);
        ASSERT_EQ(f.n_end, 3);
        ASSERT_EQ(f.n_gone, 0);         /* nobody left: it was us */
        client_close(&later);
        client_close(&stream);
        client_close(&half);
        fixture_done(&f);
}

/* Our client against our server. */
typedef struct Outcome {
        bool done;
        HttpFailure failure;
        long status;
        char *body;
        size_t received;
} Outcome;

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        Outcome *o = userdata;

        o->done = true;
        o->failure = reply->failure;
        o->status = reply->status;
        free(o->body);
        o->body = memdup0(reply->body, reply->body_size);
}

static int on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        Outcome *o = userdata;

        o->received += size;
        return 0;
}

TEST(client_and_server) {
        _cleanup_free_ char *body = calloc(1, MIB(1)), *url = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        HttpRequest *q = NULL;
        Outcome o = {};
        Fixture f;

        fixture_start(&f, MIB(1));
        ASSERT_OK(http_client_new(&c, f.event));

        url = asprintf_new("http://127.0.0.1:%u/echo?q=%%C3%%A9", ntohs(f.address.sin_port));
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = url, .has_body = true, .body = body, .body_size = MIB(1), .on_done = on_done, .userdata = &o,
        }, &q));
        RUN_UNTIL(&f, o.done);
        ASSERT_EQ(o.failure, HTTP_OK);
        ASSERT_STREQ(o.body, "POST /echo q=é h=-/0 n=1048576 […]");
        q = http_request_free(q);

        o.done = false;
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = url, .has_body = true, .body = "x", .body_size = 1, .on_done = on_done, .userdata = &o,
        }, &q));
        RUN_UNTIL(&f, o.done);
        ASSERT_EQ(o.status, 200);
        q = http_request_free(q);

        c = http_client_free(c);
        free(o.body);
        fixture_done(&f);
}

TEST(client_streams_from_server) {
        _cleanup_free_ char *url = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        HttpRequest *q = NULL;

        for (unsigned aborted = 0; aborted < 2; aborted++) {
                Outcome o = {};
                Fixture f;

                fixture_start(&f, 0);
                ASSERT_OK(http_client_new(&c, f.event));
                url = asprintf_new("http://127.0.0.1:%u/stream", ntohs(f.address.sin_port));
                ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                        .url = url, .on_data = on_data, .on_done = on_done, .userdata = &o }, &q));
                RUN_UNTIL(&f, f.held);
                ASSERT_EQ(http_exchange_stream_write(f.held, "data: 1\n\n", 9), 1);
                RUN_UNTIL(&f, o.received == 9);
                if (aborted)
                        http_exchange_abort(f.held);
                else
                        http_exchange_stream_end(f.held);
                RUN_UNTIL(&f, o.done);
                ASSERT_EQ(o.failure, aborted ? HTTP_FAILED_CUT : HTTP_OK);
                q = http_request_free(q);
                c = http_client_free(c);
                free(o.body);
                url = mfree(url);
                fixture_done(&f);
        }
}

TEST(client_gets_refusal_of_a_large_body) {
        _cleanup_free_ char *body = calloc(1, MIB(2)), *url = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        HttpRequest *q = NULL;
        Outcome o = {};
        Fixture f;

        fixture_start(&f, MIB(1));
        ASSERT_OK(http_client_new(&c, f.event));
        url = asprintf_new("http://127.0.0.1:%u/echo", ntohs(f.address.sin_port));
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = url, .has_body = true, .body = body, .body_size = MIB(2), .on_done = on_done, .userdata = &o,
        }, &q));
        RUN_UNTIL(&f, o.done);
        ASSERT_EQ(o.failure, HTTP_OK);
        ASSERT_EQ(o.status, 413);
        q = http_request_free(q);
        c = http_client_free(c);
        free(o.body);
        fixture_done(&f);
}

#define TEST_SUITE "http-server"
TEST_MAIN();
