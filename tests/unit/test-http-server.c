/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "http-server"

#include "http-server-fixture.h"

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

TEST_MAIN();
