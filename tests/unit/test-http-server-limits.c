/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "http-server-limits"

/* What is too large, too slow or too many. */

#include "http-server-fixture.h"

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

TEST_MAIN();
