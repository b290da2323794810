/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <strings.h>

#include "host-pattern.h"
#include "string-util.h"

#define PORT_DEFAULT 443U
#define NAME_MAX_SIZE 253U
#define LABEL_MAX_SIZE 63U

static bool is_label_character(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* The last label of an address as inet_aton() and browsers know it: 127.1, 0x7f000001. */
static bool is_number(const char *label, size_t n) {
        bool hex = n >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X');
        size_t i = hex ? 2 : 0;

        for (; i < n; i++)
                if (!(label[i] >= '0' && label[i] <= '9') && !(hex && strchr("abcdefABCDEF", label[i])))
                        return false;
        return true;
}

bool host_name_is_valid(const char *s) {
        size_t n = 0;

        if (strlen(s) > NAME_MAX_SIZE)
                return false;
        for (;; s += n + 1) {
                for (n = 0; is_label_character(s[n]); n++)
                        ;
                if (n == 0 || n > LABEL_MAX_SIZE || s[0] == '-' || s[n - 1] == '-')
                        return false;
                if (s[n] == 0)
                        return !is_number(s, n);
                if (s[n] != '.')
                        return false;
        }
}

/* family is AF_UNSPEC when it is none. */
static sa_family_t address_parse(const char *s, struct in_addr *ret4, struct in6_addr *ret6) {
        char text[INET6_ADDRSTRLEN];
        size_t n = strlen(s);

        if (inet_pton(AF_INET, s, ret4) > 0)
                return AF_INET;
        if (n < 4 || n - 2 >= sizeof(text) || s[0] != '[' || s[n - 1] != ']')
                return AF_UNSPEC;
        memcpy(text, s + 1, n - 2);
        text[n - 2] = 0;
        return inet_pton(AF_INET6, text, ret6) > 0 ? AF_INET6 : AF_UNSPEC;
}

bool host_address_is_valid(const char *s) {
        struct in6_addr a6;
        struct in_addr a4;

        return address_parse(s, &a4, &a6) != AF_UNSPEC;
}

/* Splits off ":port". The host may still be anything. */
static int pattern_split(const char *pattern, char host[static NAME_MAX_SIZE + 3], uint16_t *ret_port) {
        const char *end = *pattern == '[' ? strchr(pattern, ']') : pattern;
        const char *colon = end ? strchr(end, ':') : NULL;
        size_t n = colon ? (size_t) (colon - pattern) : strlen(pattern);
        uint32_t port = PORT_DEFAULT;

        if (n == 0 || n > NAME_MAX_SIZE + 2)
                return -EINVAL;
        if (colon && (parse_u32(colon + 1, &port) < 0 || port == 0 || port > UINT16_MAX))
                return -EINVAL;
        memcpy(host, pattern, n);
        host[n] = 0;
        *ret_port = (uint16_t) port;
        return 0;
}

bool host_pattern_is_valid(const char *pattern) {
        char host[NAME_MAX_SIZE + 3];
        const char *below;
        uint16_t port;

        if (pattern_split(pattern, host, &port) < 0)
                return false;
        below = startswith(host, "*.");
        return below ? host_name_is_valid(below) : host_name_is_valid(host) || host_address_is_valid(host);
}

static bool same_address(const char *a, const char *b) {
        struct in6_addr a6, b6;
        struct in_addr a4, b4;
        sa_family_t f = address_parse(a, &a4, &a6);

        if (f == AF_UNSPEC || f != address_parse(b, &b4, &b6))
                return false;
        return f == AF_INET ? memcmp(&a4, &b4, sizeof(a4)) == 0 : memcmp(&a6, &b6, sizeof(a6)) == 0;
}

static bool pattern_has(const char *pattern, const char *host, uint16_t wanted_port) {
        char listed[NAME_MAX_SIZE + 3];
        const char *below;
        uint16_t port;
        size_t n, m;

        if (pattern_split(pattern, listed, &port) < 0 || port != wanted_port)
                return false;
        below = startswith(listed, "*.");
        if (!below)
                return strcasecmp(listed, host) == 0 || same_address(listed, host);

        n = strlen(host);
        m = strlen(below);
        return host_name_is_valid(host) && n > m + 1 && host[n - m - 1] == '.' && strcasecmp(host + n - m, below) == 0;
}

bool host_list_has(char *const *patterns, const char *host, uint16_t port) {
        for (char *const *p = patterns; p && *p; p++)
                if (pattern_has(*p, host, port))
                        return true;
        return false;
}

static bool ip4_is_public(uint32_t a) {
        /* IANA's special-purpose registry: what is not "globally reachable", and multicast. */
        static const struct { uint32_t network; unsigned bits; } special[] = {
                { 0x00000000, 8 },  { 0x0a000000, 8 },  { 0x64400000, 10 }, { 0x7f000000, 8 },  { 0xa9fe0000, 16 },
                { 0xac100000, 12 }, { 0xc0000000, 24 }, { 0xc0000200, 24 }, { 0xc0586300, 24 }, { 0xc0a80000, 16 },
                { 0xc6120000, 15 }, { 0xc6336400, 24 }, { 0xcb007100, 24 }, { 0xe0000000, 4 },  { 0xf0000000, 4 },
        };

        for (size_t i = 0; i < ELEMENTSOF(special); i++)
                if ((a ^ special[i].network) >> (32 - special[i].bits) == 0)
                        return false;
        return true;
}

static uint32_t read_be32(const uint8_t *p) {
        return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
}

static bool ip6_is_public(const uint8_t a[static 16]) {
        static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
        static const uint8_t nat64[12] = { 0x00, 0x64, 0xff, 0x9b };

        if (memcmp(a, mapped, sizeof(mapped)) == 0 || memcmp(a, nat64, sizeof(nat64)) == 0)
                return ip4_is_public(read_be32(a + 12));
        if (a[0] == 0x20 && a[1] == 0x02)       /* 6to4 */
                return ip4_is_public(read_be32(a + 2));
        /* Teredo and other protocols' (2001::/23), documentation. */
        if (a[0] == 0x20 && a[1] == 0x01 && (a[2] < 0x02 || (a[2] == 0x0d && a[3] == 0xb8)))
                return false;
        if (a[0] == 0x3f && a[1] == 0xff && a[2] < 0x10)
                return false;
        return (a[0] & 0xe0) == 0x20;
}

bool address_is_public(const struct sockaddr *address) {
        if (address->sa_family == AF_INET)
                return ip4_is_public(ntohl(((const struct sockaddr_in*) address)->sin_addr.s_addr));
        if (address->sa_family == AF_INET6)
                return ip6_is_public(((const struct sockaddr_in6*) address)->sin6_addr.s6_addr);
        return false;
}

bool host_list_allows_address(char *const *patterns, const struct sockaddr *address) {
        char text[INET6_ADDRSTRLEN + 2] = "[";
        uint16_t port;

        if (address_is_public(address))
                return true;
        if (address->sa_family == AF_INET) {
                const struct sockaddr_in *a = (const struct sockaddr_in*) address;

                port = ntohs(a->sin_port);
                if (!inet_ntop(AF_INET, &a->sin_addr, text, sizeof(text)))
                        return false;
        } else if (address->sa_family == AF_INET6) {
                const struct sockaddr_in6 *a = (const struct sockaddr_in6*) address;

                port = ntohs(a->sin6_port);
                if (!inet_ntop(AF_INET6, &a->sin6_addr, text + 1, INET6_ADDRSTRLEN))
                        return false;
                (void) strcat(text, "]");
        } else
                return false;
        return host_list_has(patterns, text, port);
}
