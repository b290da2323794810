/* SPDX-License-Identifier: MIT */

#include <strings.h>

#include "host-pattern.h"
#include "http-util.h"
#include "proxy-request.h"

#define HTTP_PORT 80U

void proxy_request_done(ProxyRequest *r) {
        free(r->host);
        free(r->head);
        *r = (ProxyRequest) {};
}

size_t proxy_head_size(const char *data, size_t size) {
        const char *end = size > 0 ? memmem(data, size, "\r\n\r\n", 4) : NULL;

        return end ? (size_t) (end - data) + 4 : 0;
}

/* "host:port" or, when there is a port to fall back to, "host". */
static int authority_parse(const char *s, uint32_t fallback_port, char **ret_host, uint16_t *ret_port) {
        const char *colon = strrchr(s, ':');
        _cleanup_free_ char *host = NULL;
        uint32_t port = fallback_port;

        if (colon && strchr(colon, ']'))
                colon = NULL;
        if (colon && parse_u32(colon + 1, &port) < 0)
                return -EBADMSG;
        if (port == 0 || port > UINT16_MAX)
                return -EBADMSG;
        host = colon ? strndup(s, (size_t) (colon - s)) : strdup(s);
        if (!host)
                return -ENOMEM;
        if (!host_name_is_valid(host) && !host_address_is_valid(host))
                return -EBADMSG;
        *ret_host = TAKE_PTR(host);
        *ret_port = (uint16_t) port;
        return 0;
}

/* Lines of a head, each ended by a NUL in the place of its CR LF. */
typedef struct Lines {
        char *text;
        size_t size, at;
} Lines;

static const char* lines_next(Lines *l) {
        const char *line = l->text + l->at;

        if (l->at >= l->size)
                return NULL;
        l->at += strlen(line) + 2;
        return line;
}

/* Whatever else there is of control characters makes a head that others may read in another way. */
static int lines_split(Lines *l) {
        for (size_t i = 0; i < l->size; i++) {
                unsigned char c = (unsigned char) l->text[i];

                if (c == '\r' && i + 1 < l->size && l->text[i + 1] == '\n') {
                        l->text[i] = l->text[i + 1] = 0;
                        i++;
                } else if ((c < 0x20 && c != '\t') || c == 0x7f)
                        return -EBADMSG;
        }
        return 0;
}

static bool header_is(const char *line, size_t n, const char *name) {
        return strlen(name) == n && strncasecmp(line, name, n) == 0;
}

static bool list_names(const char *list, const char *name, size_t n) {
        for (const char *p = list; *(p += strspn(p, " \t,")); ) {
                size_t length = strcspn(p, " \t,");

                if (length == n && strncasecmp(p, name, n) == 0)
                        return true;
                p += length;
        }
        return false;
}

/* What is between the client and us, and not for the server. */
static bool is_dropped(const char *line, size_t n, const char *connection) {
        static const char *const dropped[] = {
                "host", "connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade",
        };

        for (size_t i = 0; i < ELEMENTSOF(dropped); i++)
                if (header_is(line, n, dropped[i]))
                        return true;
        return list_names(connection, line, n);
}

/* Checks all lines. *ret_connection: the value of "Connection", borrowed. */
static int headers_check(Lines l, const char **ret_connection) {
        const char *line;

        *ret_connection = "";
        while ((line = lines_next(&l)) && *line) {
                const char *colon = strchr(line, ':');

                if (!colon || !http_token_is_valid(line, (size_t) (colon - line)))
                        return -EBADMSG;
                if (!header_is(line, (size_t) (colon - line), "connection"))
                        continue;
                if (**ret_connection)
                        return -EBADMSG;
                *ret_connection = colon + 1;
        }
        return 0;
}

static int head_rewrite(const char *method, const char *target, const char *authority, Lines l, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *line, *connection;
        int r;

        r = headers_check(l, &connection);
        if (r >= 0)
                r = strbuf_printf(&b, "%s %s%s HTTP/1.1\r\nHost: %s\r\n", method, *target == '/' ? "" : "/", target,
                                  authority);
        while (r >= 0 && (line = lines_next(&l)) && *line)
                if (!is_dropped(line, strcspn(line, ":"), connection))
                        r = strbuf_printf(&b, "%s\r\n", line);
        /* One request to a connection: the next one may be for another host. */
        if (r >= 0)
                r = strbuf_puts(&b, "Connection: close\r\n\r\n");
        if (r < 0)
                return r;
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

static int plain_parse(ProxyRequest *r, const char *method, const char *url, Lines l) {
        _cleanup_free_ char *authority = NULL;
        const char *target = url + strcspn(url, "/?");
        int k;

        if (strchr(url, '#'))
                return -EBADMSG;
        authority = strndup(url, (size_t) (target - url));
        if (!authority)
                return -ENOMEM;
        k = authority_parse(authority, HTTP_PORT, &r->host, &r->port);
        return k < 0 ? k : head_rewrite(method, target, authority, l, &r->head);
}

static int lines_parse(ProxyRequest *r, Lines l) {
        char *method = (char*) lines_next(&l), *target, *version, *rest;
        const char *url, *connection;
        int k;

        target = method ? strchr(method, ' ') : NULL;
        version = target ? strchr(target + 1, ' ') : NULL;
        if (!version)
                return -EBADMSG;
        *target++ = *version++ = 0;
        if (!http_token_is_valid(method, strlen(method)) ||
            (!streq(version, "HTTP/1.1") && !streq(version, "HTTP/1.0")))
                return -EBADMSG;
        for (rest = target; *rest; rest++)
                if (*rest <= 0x20 || *rest >= 0x7f)
                        return -EBADMSG;

        if (streq(method, "CONNECT")) {
                r->is_tunnel = true;
                k = headers_check(l, &connection);
                return k < 0 ? k : authority_parse(target, 0, &r->host, &r->port);
        }
        url = startswith(target, "http://");
        return url ? plain_parse(r, method, url, l) : -EOPNOTSUPP;
}

int proxy_request_parse(ProxyRequest *ret, const char *head, size_t size) {
        _cleanup_free_ char *copy = memdup0(head, size);
        Lines l = { copy, size, 0 };
        ProxyRequest r = {};
        int k;

        if (!copy)
                return -ENOMEM;
        if (proxy_head_size(head, size) != size)
                return -EBADMSG;
        k = lines_split(&l);
        /* The request line was cut at its blanks: what follows begins behind the whole of it. */
        if (k >= 0)
                k = lines_parse(&r, l);
        if (k < 0) {
                proxy_request_done(&r);
                return k;
        }
        *ret = r;
        return 0;
}
