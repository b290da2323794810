/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>

#include "host-pattern.h"
#include "tests.h"

TEST(what_may_be_listed) {
        static const struct { const char *pattern; bool ok; } t[] = {
                { "example.org", true }, { "*.example.org", true }, { "example.org:8443", true },
                { "localhost:1", true },
                { "a_b.example", true }, { "10.0.0.1:80", true }, { "[::1]", true }, { "[::1]:65535", true },
                { "1.example", true }, { "x1", true },
                { "", false }, { "*", false }, { "*.", false }, { "*.*.org", false }, { "a.*.org", false },
                { "*example.org", false }, { "example.org.", false }, { ".example.org", false }, { "a..b", false },
                { "-a.org", false }, { "a-.org", false }, { "http://example.org", false }, { "example.org/x", false },
                { "example.org:", false }, { "example.org:0", false }, { "example.org:65536", false },
                { "example.org:https", false }, { "::1", false }, { "[::1", false }, { "[]", false },
                { "[127.0.0.1]", false }, { "127.1", false }, { "2130706433", false }, { "0x7f000001", false },
                { "a.0x7f", false }, { "127.0.0.1.", false }, { "*.1", false }, { "b\xc3\xbc" "cher.example", false },
                { "a b", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (host_pattern_is_valid(t[i].pattern) != t[i].ok)
                        fail_msg("'%s'", t[i].pattern);
}

TEST(what_a_list_has) {
        char *list[] = { (char*) "example.org", (char*) "*.below.org", (char*) "other.org:8080", (char*) "10.0.0.1:80",
                         (char*) "[2001:db8::1]", NULL };
        static const struct { const char *host; uint16_t port; bool ok; } t[] = {
                { "example.org", 443, true }, { "EXAMPLE.org", 443, true }, { "example.org", 80, false },
                { "a.example.org", 443, false }, { "example.org.evil", 443, false }, { "xexample.org", 443, false },
                { "a.below.org", 443, true }, { "a.b.below.org", 443, true }, { "below.org", 443, false },
                { "abelow.org", 443, false }, { ".below.org", 443, false }, { "a..below.org", 443, false },
                { "other.org", 8080, true }, { "other.org", 443, false }, { "10.0.0.1", 80, true },
                { "10.0.0.1", 443, false }, { "10.0.0.2", 80, false }, { "[2001:DB8:0::1]", 443, true },
                { "[2001:db8::2]", 443, false }, { "*.below.org", 443, false }, { "", 443, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (host_list_has(list, t[i].host, t[i].port) != t[i].ok)
                        fail_msg("'%s' %u", t[i].host, t[i].port);
        ASSERT_FALSE(host_list_has(NULL, "example.org", 443));
}

static struct sockaddr_storage address(const char *text, uint16_t port) {
        struct sockaddr_storage s = {};
        struct sockaddr_in *a = (struct sockaddr_in*) &s;
        struct sockaddr_in6 *b = (struct sockaddr_in6*) &s;

        if (strchr(text, ':')) {
                ASSERT_EQ(inet_pton(AF_INET6, text, &b->sin6_addr), 1);
                b->sin6_family = AF_INET6;
                b->sin6_port = htons(port);
        } else {
                ASSERT_EQ(inet_pton(AF_INET, text, &a->sin_addr), 1);
                a->sin_family = AF_INET;
                a->sin_port = htons(port);
        }
        return s;
}

TEST(what_is_public) {
        static const struct { const char *address; bool ok; } t[] = {
                { "1.1.1.1", true }, { "8.8.8.8", true }, { "172.15.255.255", true }, { "172.32.0.1", true },
                { "223.255.255.255", true }, { "192.0.1.1", true },
                { "0.0.0.0", false }, { "10.1.2.3", false }, { "100.64.0.1", false }, { "127.0.0.1", false },
                { "127.255.255.254", false }, { "169.254.169.254", false }, { "172.16.0.1", false },
                { "172.31.255.255", false }, { "192.168.1.1", false }, { "192.0.2.1", false }, { "198.18.0.1", false },
                { "224.0.0.1", false }, { "255.255.255.255", false }, { "240.0.0.1", false },
                { "2606:4700::1111", true }, { "2a00:1450::1", true }, { "64:ff9b::808:808", true },
                { "::", false }, { "::1", false }, { "fe80::1", false }, { "fc00::1", false }, { "fd12::1", false },
                { "ff02::1", false }, { "::ffff:127.0.0.1", false }, { "::ffff:10.0.0.1", false },
                { "::ffff:8.8.8.8", true }, { "64:ff9b::7f00:1", false }, { "64:ff9b:1::1", false },
                { "2002:7f00:1::", false }, { "2002:c0a8:101::1", false }, { "2001:db8::1", false },
                { "2001::1", false },
                { "::127.0.0.1", false }, { "fec0::1", false }, { "100::1", false }, { "3fff::1", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                struct sockaddr_storage s = address(t[i].address, 443);

                if (address_is_public((struct sockaddr*) &s) != t[i].ok)
                        fail_msg("%s", t[i].address);
        }
        ASSERT_FALSE(address_is_public(&(struct sockaddr) { .sa_family = AF_UNIX }));
}

TEST(addresses_of_our_own_must_be_listed) {
        char *list[] = { (char*) "localhost:8080", (char*) "127.0.0.1:8080", (char*) "[::1]", NULL };
        struct sockaddr_storage s;

        s = address("127.0.0.1", 8080);
        ASSERT_TRUE(host_list_allows_address(list, (struct sockaddr*) &s));
        ASSERT_FALSE(host_list_allows_address(NULL, (struct sockaddr*) &s));
        s = address("127.0.0.1", 8081);
        ASSERT_FALSE(host_list_allows_address(list, (struct sockaddr*) &s));
        s = address("::1", 443);
        ASSERT_TRUE(host_list_allows_address(list, (struct sockaddr*) &s));
        s = address("::1", 8080);
        ASSERT_FALSE(host_list_allows_address(list, (struct sockaddr*) &s));
        s = address("9.9.9.9", 1);
        ASSERT_TRUE(host_list_allows_address(NULL, (struct sockaddr*) &s));
}

#define TEST_SUITE "host-pattern"
TEST_MAIN();
