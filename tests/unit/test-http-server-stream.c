/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "http-server-stream"

/* Answers that are written bit by bit, to clients that read them, stop reading or go. */

#include "http-client.h"
#include "http-server-fixture.h"

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

TEST_MAIN();
