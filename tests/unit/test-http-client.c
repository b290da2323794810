/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <time.h>

#include "event-util.h"
#include "http-client.h"
#include "loopback.h"
#include "string-util.h"
#include "tests.h"

/* The other end is written out byte by byte: a listener on the same loop that takes whole requests and answers each
 * with the next part of a script. */
typedef enum After { KEEP, CLOSE, RESET } After;

typedef struct Answer {
        const char *text;
        size_t size;            /* 0: strlen(text) */
        After after;
} Answer;

#define MAX_CONNECTIONS 8

typedef struct Peer {
        sd_event *event;
        sd_event_source *listener, *connections[MAX_CONNECTIONS];
        unsigned n_connections, n_answers, n_hangups;
        const Answer *answers;
        StrBuf requests, input;
        char *url;
} Peer;

static void peer_answer(Peer *p, sd_event_source *s, int fd) {
        const Answer *a = p->answers + p->n_answers++;
        size_t n = a->size ?: strlen(strempty(a->text));

        ASSERT_EQ(send(fd, strempty(a->text), n, MSG_NOSIGNAL), (ssize_t) n);
        if (a->after == KEEP)
                return;
        if (a->after == RESET)
                (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger) { .l_onoff = 1 }, sizeof(struct linger));
        for (unsigned i = 0; i < p->n_connections; i++)
                if (p->connections[i] == s)
                        p->connections[i] = sd_event_source_disable_unref(s);
}

static int peer_on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Peer *p = userdata;
        char buffer[4096], *head_end, *length;
        ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

        if (n <= 0) {
                p->n_hangups++;
                ASSERT_OK(sd_event_source_set_enabled(s, SD_EVENT_OFF));
                return 0;
        }

        ASSERT_OK(strbuf_append(&p->input, buffer, (size_t) n));
        head_end = strstr(p->input.text, "\r\n\r\n");
        if (!head_end)
                return 0;
        length = strcasestr(p->input.text, "content-length:");
        if (length && p->input.size < (size_t) (head_end + 4 - p->input.text) + (size_t) atol(length + 15))
                return 0;

        ASSERT_OK(strbuf_append(&p->requests, p->input.text, p->input.size));
        strbuf_done(&p->input);
        peer_answer(p, s, fd);
        return 0;
}

static int peer_on_connection(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Peer *p = userdata;
        int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

        ASSERT_TRUE(connection >= 0 && p->n_connections < MAX_CONNECTIONS);
        ASSERT_OK(sd_event_add_io(p->event, p->connections + p->n_connections, connection, EPOLLIN, peer_on_input, p));
        ASSERT_OK(sd_event_source_set_io_fd_own(p->connections[p->n_connections], true));
        p->n_connections++;
        return 0;
}

static void peer_start(Peer *p, sd_event *event, const Answer *answers) {
        uint16_t port;
        int fd = listen_loopback(0, &port);

        *p = (Peer) { .event = event, .answers = answers, .url = asprintf_new("http://127.0.0.1:%u", port) };
        ASSERT_NOT_NULL(p->url);
        ASSERT_OK(sd_event_add_io(event, &p->listener, fd, EPOLLIN, peer_on_connection, p));
        ASSERT_OK(sd_event_source_set_io_fd_own(p->listener, true));
}

static void peer_done(Peer *p) {
        for (unsigned i = 0; i < p->n_connections; i++)
                sd_event_source_disable_unref(p->connections[i]);
        sd_event_source_disable_unref(p->listener);
        strbuf_done(&p->requests);
        strbuf_done(&p->input);
        free(p->url);
}

/* What a request came to. */
typedef struct Outcome {
        HttpRequest *request;
        unsigned n_done, n_data;
        HttpFailure failure;
        long status;
        char *body, *header, *error;
        size_t body_size;
        uint64_t retry_after;
        StrBuf data;
        bool free_in_callback, refuse_data, again;
        HttpClient *client;
        HttpRequestSpec spec;
} Outcome;

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        Outcome *o = userdata;
        const char *header = http_request_header(q, "x-test");

        o->n_done++;
        o->failure = reply->failure;
        o->status = reply->status;
        o->body_size = reply->body_size;
        o->retry_after = http_request_retry_after(q);
        ASSERT_EQ(http_request_status(q), reply->status);
        ASSERT_EQ(reply->body[reply->body_size], 0);
        ASSERT_EQ(!reply->error, reply->failure == HTTP_OK);
        free(o->body);
        free(o->header);
        free(o->error);
        o->body = memdup0(reply->body, reply->body_size);
        o->header = header ? strdup(header) : NULL;
        o->error = strdup(strempty(reply->error));

        if (o->free_in_callback)
                o->request = http_request_free(q);
        if (o->again) {
                o->again = false;
                ASSERT_OK(http_client_start(o->client, &o->spec, &o->request));
        }
}

static int on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        Outcome *o = userdata;

        o->n_data++;
        ASSERT_EQ(http_request_status(q), 200);
        ASSERT_OK(strbuf_append(&o->data, data, size));
        return o->refuse_data ? -ECANCELED : 0;
}

static void outcome_done(Outcome *o) {
        http_request_free(o->request);
        free(o->body);
        free(o->header);
        free(o->error);
        strbuf_done(&o->data);
}

static void loop_until(sd_event *event, const unsigned *counter, unsigned n) {
        while (*counter < n)
                ASSERT_TRUE(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
}

static void exchange(const Answer *answers, HttpRequestSpec spec, Outcome *o, StrBuf *ret_requests) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        Peer p;

        ASSERT_OK(sd_event_new(&event));
        peer_start(&p, event, answers);
        ASSERT_OK(http_client_new(&c, event));

        if (!spec.url)
                spec.url = p.url;
        spec.on_done = on_done;
        spec.userdata = o;
        ASSERT_OK(http_client_start(c, &spec, &o->request));
        ASSERT_EQ(o->n_done, 0);
        loop_until(event, &o->n_done, 1);
        ASSERT_EQ(o->n_done, 1);

        if (ret_requests) {
                *ret_requests = p.requests;
                p.requests = (StrBuf) {};
        }
        o->request = http_request_free(o->request);
        peer_done(&p);
}

TEST(answers) {
        static const char gzipped[] =    /* printf hello | gzip -n */
                "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n"
                "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00";
        static const struct {
                Answer answer;
                HttpFailure failure;
                long status;
                const char *body, *header;
        } t[] = {
                { { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Test:  v w \r\n\r\nhi" }, HTTP_OK, 200, "hi", "v w" },
                { { "HTTP/1.1 204 No Content\r\nx-TEST: 1\r\n\r\n" }, HTTP_OK, 204, "", "1" },
                { { "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone" }, HTTP_OK, 404, "gone" },
                { { "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n" }, HTTP_OK, 302, "" },
                { { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n" },
                  HTTP_OK, 200, "abcde" },
                { { "HTTP/1.0 200 OK\r\n\r\nuntil the end", .after = CLOSE }, HTTP_OK, 200, "until the end" },
                { { "HTTP/1.1 100 Continue\r\nX-Test: early\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx" },
                  HTTP_OK, 200, "x" },
                { { gzipped, sizeof(gzipped) - 1 }, HTTP_OK, 200, "hello" },
                { { "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope" },
                  HTTP_FAILED_PROTOCOL, 200, "" },
                { { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut", .after = CLOSE }, HTTP_FAILED_CUT, 200, "cut" },
                { { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", .after = CLOSE },
                  HTTP_FAILED_CUT, 200, "abc" },
                { { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n", .after = CLOSE },
                  HTTP_FAILED_CUT, 200, "" },
                { { "", .after = CLOSE }, HTTP_FAILED_CUT, 0, "" },
                { { "", .after = RESET }, HTTP_FAILED_CUT, 0, "" },
                { { "SSH-2.0-OpenSSH_9.2\r\n", .after = CLOSE }, HTTP_FAILED_PROTOCOL, 0, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Outcome o = {};

                exchange(&t[i].answer, (HttpRequestSpec) {}, &o, NULL);
                ASSERT_EQ(o.failure, t[i].failure);
                ASSERT_EQ(o.status, t[i].status);
                ASSERT_STREQ(o.body, t[i].body);
                ASSERT_STREQ(strempty(o.header), strempty(t[i].header));
                outcome_done(&o);
        }
}

TEST(requests) {
        static const char *const headers[] = { "X-Key: s3cret", "Content-Type: application/json", "X-Empty:", NULL };
        static const Answer ok = { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" };
        static const struct {
                HttpRequestSpec spec;
                const char *begins, *has[4], *lacks[4], *ends;
        } t[] = {
                { {}, "GET / HTTP/1.1\r\n", { "Accept-Encoding: gzip\r\n", "User-Agent: puffo/" },
                  { "Content-Length", "Content-Type" }, "\r\n\r\n" },
                { { .headers = headers }, "GET / ", { "X-Key: s3cret\r\n", "X-Empty:\r\n" }, {}, "\r\n\r\n" },
                { { .body = "{\0}", .body_size = 3, .has_body = true, .headers = headers }, "POST / ",
                  { "Content-Type: application/json\r\n", "Content-Length: 3\r\n" }, { "Expect" }, "}" },
                { { .has_body = true }, "POST / ", { "Content-Length: 0\r\n" }, { "Content-Type" }, "\r\n\r\n" },
                { { .method = "POST" }, "POST / ", { "Content-Length: 0\r\n" }, { "Content-Type" }, "\r\n\r\n" },
                { { .method = "DELETE" }, "DELETE / ", {}, { "Content-Length" }, "\r\n\r\n" },
                { { .method = "PUT", .body = "x", .body_size = 1, .has_body = true }, "PUT / ",
                  { "Content-Length: 1\r\n" }, {}, "\r\n\r\nx" },
                { { .method = "HEAD" }, "HEAD / ", {}, {}, "\r\n\r\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Outcome o = {};
                StrBuf sent;

                exchange(&ok, t[i].spec, &o, &sent);
                ASSERT_EQ(o.failure, HTTP_OK);
                ASSERT_NOT_NULL(startswith(sent.text, t[i].begins));
                for (size_t k = 0; k < 4 && t[i].has[k]; k++)
                        ASSERT_NOT_NULL(strstr(sent.text, t[i].has[k]));
                for (size_t k = 0; k < 4 && t[i].lacks[k]; k++)
                        ASSERT_NULL(strcasestr(sent.text, t[i].lacks[k]));
                ASSERT_TRUE(sent.size >= strlen(t[i].ends) &&
                            streq(sent.text + sent.size - strlen(t[i].ends), t[i].ends));
                strbuf_done(&sent);
                outcome_done(&o);
        }
}

TEST(streamed) {
        static const Answer good = { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" };
        static const Answer bad = { "HTTP/1.1 429 Slow down\r\nContent-Length: 2\r\nRetry-After: 3\r\n\r\n{}" };
        Outcome o = {};

        exchange(&good, (HttpRequestSpec) { .on_data = on_data, .max_body = 1 }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_OK);
        ASSERT_STREQ(o.data.text, "abcde");
        ASSERT_EQ(o.body_size, 0);
        outcome_done(&o);

        o = (Outcome) { .refuse_data = true };
        exchange(&good, (HttpRequestSpec) { .on_data = on_data }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_CUT);
        ASSERT_EQ(o.n_data, 1);
        outcome_done(&o);

        o = (Outcome) {};
        exchange(&bad, (HttpRequestSpec) { .on_data = on_data }, &o, NULL);
        ASSERT_EQ(o.n_data, 0);
        ASSERT_EQ(o.status, 429);
        ASSERT_STREQ(o.body, "{}");
        ASSERT_EQ(o.retry_after, 3 * USEC_PER_SEC);
        outcome_done(&o);
}

TEST(limits) {
        static const Answer ten = { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789" };
        static const Answer silent = { "" };
        static const Answer stuck = { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012" };
        Outcome o = {};

        exchange(&ten, (HttpRequestSpec) { .max_body = 10 }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_OK);
        outcome_done(&o);

        o = (Outcome) {};
        exchange(&ten, (HttpRequestSpec) { .max_body = 9 }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_TOO_LARGE);
        outcome_done(&o);

        o = (Outcome) {};
        exchange(&silent, (HttpRequestSpec) { .idle_timeout_usec = 20 * USEC_PER_MSEC }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_TIMEOUT);
        ASSERT_STREQ(o.error, "No byte came for 20 ms");
        outcome_done(&o);

        o = (Outcome) {};
        exchange(&stuck, (HttpRequestSpec) { .idle_timeout_usec = 20 * USEC_PER_MSEC }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_TIMEOUT);
        ASSERT_STREQ(o.body, "012");
        outcome_done(&o);

        o = (Outcome) {};
        exchange(&stuck, (HttpRequestSpec) { .total_timeout_usec = 20 * USEC_PER_MSEC }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_TIMEOUT);
        outcome_done(&o);
}

TEST(endless_head) {
        _cleanup_(strbuf_done) StrBuf head = {};
        Outcome o = {};
        Answer answer;

        ASSERT_OK(strbuf_puts(&head, "HTTP/1.1 200 OK\r\n"));
        while (head.size < KIB(160))
                ASSERT_OK(strbuf_printf(&head, "X-Filler: %064zu\r\n", head.size));
        ASSERT_OK(strbuf_puts(&head, "Content-Length: 0\r\n\r\n"));

        answer = (Answer) { head.text, head.size };
        exchange(&answer, (HttpRequestSpec) {}, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_TOO_LARGE);
        outcome_done(&o);
}

TEST(refused_connection) {
        _cleanup_free_ char *url = NULL;
        Outcome o = {};
        uint16_t port;

        /* A port that was just ours and is closed again. */
        safe_close(listen_loopback(0, &port));
        url = asprintf_new("http://127.0.0.1:%u/", port);
        exchange(NULL, (HttpRequestSpec) { .url = url }, &o, NULL);
        ASSERT_EQ(o.failure, HTTP_FAILED_CONNECT);
        ASSERT_EQ(o.status, 0);
        outcome_done(&o);
}

TEST(retry_after) {
        static const struct {
                const char *headers;
                uint64_t usec;
        } t[] = {
                { "", USEC_INFINITY },
                { "Retry-After: 7\r\n", 7000000 },
                { "Retry-After: 0\r\n", 0 },
                { "retry-after: 0.25\r\n", 250000 },
                { "Retry-After: .5\r\n", 500000 },
                { "Retry-After: 1.0000019\r\n", 1000001 },
                { "Retry-After-Ms: 1500\r\n", 1500000 },
                { "Retry-After-Ms: 0.5\r\nRetry-After: 9\r\n", 500 },
                { "Retry-After-Ms: soon\r\nRetry-After: 9\r\n", 9000000 },
                { "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n", 0 },
                { "Retry-After: -1\r\n", USEC_INFINITY },
                { "Retry-After: 1e3\r\n", USEC_INFINITY },
                { "Retry-After: 1.2.3\r\n", USEC_INFINITY },
                { "Retry-After: .\r\n", USEC_INFINITY },
                { "Retry-After: 99999999999999999999\r\n", USEC_INFINITY },
                { "Retry-After: 18446744073709\r\n", 18446744073709000000ULL },
                { "Retry-After: 18446744073710\r\n", USEC_INFINITY },
                { "Retry-After: later\r\n", USEC_INFINITY },
                { "Retry-After: 2015-10-21\r\n", USEC_INFINITY },
                { "Retry-After:\r\n", USEC_INFINITY },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = asprintf_new("HTTP/1.1 503 X\r\n%sContent-Length: 0\r\n\r\n", t[i].headers);
                Answer answer = { text };
                Outcome o = {};

                exchange(&answer, (HttpRequestSpec) {}, &o, NULL);
                ASSERT_EQ(o.status, 503);
                ASSERT_TRUE(o.retry_after == t[i].usec);
                outcome_done(&o);
        }
}

TEST(retry_after_future_date) {
        _cleanup_free_ char *text = NULL;
        time_t when = (time_t) (now_realtime_usec() / USEC_PER_SEC) + 3600;
        char date[64];
        struct tm tm;
        Outcome o = {};
        Answer answer;

        ASSERT_TRUE(strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&when, &tm)) > 0);
        text = asprintf_new("HTTP/1.1 503 X\r\nRetry-After: %s\r\nContent-Length: 0\r\n\r\n", date);
        answer = (Answer) { text };
        exchange(&answer, (HttpRequestSpec) {}, &o, NULL);
        ASSERT_TRUE(o.retry_after <= 3600 * USEC_PER_SEC && o.retry_after > 3000 * USEC_PER_SEC);
        outcome_done(&o);
}

TEST(bad_arguments) {
        static const struct {
                const char *url, *method, *header;
        } t[] = {
                { "", NULL, NULL }, { "example.org", NULL, NULL }, { "ftp://127.0.0.1/", NULL, NULL },
                { "file:///etc/passwd", NULL, NULL }, { "http://", NULL, NULL }, { "http://a b/", NULL, NULL },
                { "http://127.0.0.1/\r\nX: y", NULL, NULL }, { "http://127.0.0.1:99999/", NULL, NULL },
                { "http://127.0.0.1/", "", NULL }, { "http://127.0.0.1/", "GET /x", NULL },
                { "http://127.0.0.1/", "GET\r\n", NULL },
                { "http://127.0.0.1/", NULL, "X-Key: a\r\nX-Forged: b" }, { "http://127.0.0.1/", NULL, "X-Key: a\n" },
                { "http://127.0.0.1/", NULL, "X-Key: \x7f" }, { "http://127.0.0.1/", NULL, "no colon" },
                { "http://127.0.0.1/", NULL, ": none" }, { "http://127.0.0.1/", NULL, "X Key: a" },
                { "http://127.0.0.1/", NULL, "" },
        };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(http_client_new(&c, event));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                HttpRequest *q = NULL;

                ASSERT_ERROR(http_client_start(c, &(HttpRequestSpec) {
                        .url = t[i].url,
                        .method = t[i].method,
                        .headers = t[i].header ? (const char *const[]) { t[i].header, NULL } : NULL,
                        .on_done = on_done,
                }, &q), EINVAL);
                ASSERT_NULL(q);
        }
}

TEST(keep_alive_and_free_in_callback) {
        static const Answer answers[] = {
                { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1" },
                { "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2" },
        };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        Outcome o = { .free_in_callback = true, .again = true };
        Peer p;

        ASSERT_OK(sd_event_new(&event));
        peer_start(&p, event, answers);
        ASSERT_OK(http_client_new(&c, event));
        o.client = c;
        o.spec = (HttpRequestSpec) { .url = p.url, .on_done = on_done, .userdata = &o };
        ASSERT_OK(http_client_start(c, &o.spec, &o.request));
        loop_until(event, &o.n_done, 2);
        ASSERT_STREQ(o.body, "2");
        ASSERT_EQ(p.n_connections, 1);
        outcome_done(&o);
        peer_done(&p);
}

TEST(cancel_in_flight) {
        static const Answer answers[] = { { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012" } };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(http_client_freep) HttpClient *c = NULL;
        Outcome o = {};
        Peer p;

        ASSERT_OK(sd_event_new(&event));
        peer_start(&p, event, answers);
        ASSERT_OK(http_client_new(&c, event));
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = p.url, .on_data = on_data, .on_done = on_done, .userdata = &o }, &o.request));
        loop_until(event, &o.n_data, 1);
        o.request = http_request_free(o.request);
        loop_until(event, &p.n_hangups, 1);     /* the peer sees it at once */
        ASSERT_EQ(o.n_done, 0);
        outcome_done(&o);
        peer_done(&p);
}

TEST(client_freed_first) {
        static const Answer answers[] = { { "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n012" } };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        HttpClient *c;
        Outcome o = {};
        Peer p;

        ASSERT_OK(sd_event_new(&event));
        peer_start(&p, event, answers);
        ASSERT_OK(http_client_new(&c, event));
        ASSERT_OK(http_client_start(c, &(HttpRequestSpec) {
                .url = p.url, .on_data = on_data, .on_done = on_done, .userdata = &o }, &o.request));
        loop_until(event, &o.n_data, 1);
        http_client_free(c);
        ASSERT_EQ(o.n_done, 0);
        ASSERT_EQ(http_request_status(o.request), 200);
        outcome_done(&o);
        peer_done(&p);
}

TEST(http_url_join) {
        static const struct {
                const char *base, *path, *joined;
        } t[] = {
                { "https://a", "/v1/x", "https://a/v1/x" },
                { "https://a/", "/v1/x", "https://a/v1/x" },
                { "https://a/pre/fix", "/v1/x", "https://a/pre/fix/v1/x" },
                { "https://a/pre//", "v1/x", "https://a/pre/v1/x" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *joined = http_url_join(t[i].base, t[i].path);
                ASSERT_STREQ(joined, t[i].joined);
        }
}

#define TEST_SUITE "http-client"
TEST_MAIN();
