/* SPDX-License-Identifier: MIT */

#include "proxy-request.h"
#include "tests.h"

static int parse(const char *head, ProxyRequest *ret) {
        return proxy_request_parse(ret, head, strlen(head));
}

TEST(tunnels) {
        static const struct { const char *target, *host; uint16_t port; } t[] = {
                { "example.org:443", "example.org", 443 }, { "a:1", "a", 1 }, { "10.0.0.1:80", "10.0.0.1", 80 },
                { "[::1]:8443", "[::1]", 8443 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *head = strjoin("CONNECT ", t[i].target, " HTTP/1.1\r\nHost: x\r\n\r\n");
                _cleanup_(proxy_request_done) ProxyRequest r = {};

                ASSERT_OK(parse(head, &r));
                ASSERT_TRUE(r.is_tunnel);
                ASSERT_STREQ(r.host, t[i].host);
                ASSERT_EQ(r.port, t[i].port);
                ASSERT_NULL(r.head);
        }
}

TEST(plain_requests) {
        static const struct { const char *head, *host; uint16_t port; const char *rewritten; } t[] = {
                { "GET http://example.org/a?b=c HTTP/1.1\r\nHost: other\r\nX: 1\r\n\r\n", "example.org", 80,
                  "GET /a?b=c HTTP/1.1\r\nHost: example.org\r\nX: 1\r\nConnection: close\r\n\r\n" },
                { "POST http://example.org:8080 HTTP/1.0\r\nContent-Length: 3\r\n\r\n", "example.org", 8080,
                  "POST / HTTP/1.1\r\nHost: example.org:8080\r\nContent-Length: 3\r\nConnection: close\r\n\r\n" },
                { "GET http://[::1]:81?q HTTP/1.1\r\nProxy-Authorization: Basic x\r\nConnection: keep-alive, X-Hop\r\n"
                  "x-hop: 1\r\nProxy-Connection: keep-alive\r\nTE: x\r\nUpgrade: h2c\r\nY:\r\n\r\n", "[::1]", 81,
                  "GET /?q HTTP/1.1\r\nHost: [::1]:81\r\nY:\r\nConnection: close\r\n\r\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(proxy_request_done) ProxyRequest r = {};

                ASSERT_OK(parse(t[i].head, &r));
                ASSERT_FALSE(r.is_tunnel);
                ASSERT_STREQ(r.host, t[i].host);
                ASSERT_EQ(r.port, t[i].port);
                ASSERT_STREQ(r.head, t[i].rewritten);
        }
}

TEST(refusals) {
        static const struct { const char *head; int error; } t[] = {
                { "GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", EOPNOTSUPP },
                { "GET https://example.org/ HTTP/1.1\r\n\r\n", EOPNOTSUPP },
                { "GET HTTP://example.org/ HTTP/1.1\r\n\r\n", EOPNOTSUPP },
                { "OPTIONS * HTTP/1.1\r\n\r\n", EOPNOTSUPP },
                { "\r\n\r\n", EBADMSG },
                { "CONNECT\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/2.0\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1 x\r\n\r\n", EBADMSG },
                { "CONNECT  example.org:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org: HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org:0 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org:65536 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org:+443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org.:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT user@example.org:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443/x HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT ::1:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT 127.1:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT 0x7f000001:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT ex%61mple.org:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT \xc3\xbc.org:443 HTTP/1.1\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1\nHost: x\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1\r\nHost : x\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1\r\nnonsense\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1\r\nA: b\rc\r\n\r\n", EBADMSG },
                { "CONNECT example.org:443 HTTP/1.1\r\nA: b\r\n", EBADMSG },
                { "GET http:///x HTTP/1.1\r\n\r\n", EBADMSG },
                { "GET http://user:pass@example.org/ HTTP/1.1\r\n\r\n", EBADMSG },
                { "GET http://example.org/#x HTTP/1.1\r\n\r\n", EBADMSG },
                { "GET http://example.org\\@evil/ HTTP/1.1\r\n\r\n", EBADMSG },
                { "GET http://example.org/\t HTTP/1.1\r\n\r\n", EBADMSG },
                { "GET http://example.org/ HTTP/1.1\r\nConnection: a\r\nConnection: b\r\n\r\n", EBADMSG },
                { "G T http://example.org/ HTTP/1.1\r\n\r\n", EBADMSG },
                { "G(T http://example.org/ HTTP/1.1\r\n\r\n", EBADMSG },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ProxyRequest r = {};
                int k = parse(t[i].head, &r);

                if (k != -t[i].error)
                        fail_msg("%d: %s", k, t[i].head);
        }
        ASSERT_ERROR(proxy_request_parse(&(ProxyRequest) {}, "CONNECT a\0b:1 HTTP/1.1\r\n\r\n", 26), EBADMSG);
}

TEST(where_a_head_ends) {
        ASSERT_EQ(proxy_head_size(NULL, 0), 0);
        ASSERT_EQ(proxy_head_size("a\r\n\r", 4), 0);
        ASSERT_EQ(proxy_head_size("a\r\n\r\nrest", 9), 5);
}

#define TEST_SUITE "proxy-request"
TEST_MAIN();
