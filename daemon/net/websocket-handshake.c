/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <openssl/evp.h>
#include <strings.h>
#include <sys/random.h>

#include "http-util.h"
#include "websocket-handshake.h"

/* RFC 6455 §1.3 */
#define WEBSOCKET_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#define ACCEPT_SIZE 29U         /* base64 of a SHA-1, with NUL */

int websocket_key_new(char ret[WEBSOCKET_KEY_SIZE]) {
        unsigned char random[16];

        if (getrandom(random, sizeof(random), 0) != sizeof(random))
                return -EIO;
        (void) EVP_EncodeBlock((unsigned char*) ret, random, sizeof(random));
        return 0;
}

static int accept_for_key(const char *key, char ret[ACCEPT_SIZE]) {
        _cleanup_free_ char *text = strjoin(key, WEBSOCKET_GUID);
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned n;

        if (!text || EVP_Digest(text, strlen(text), digest, &n, EVP_sha1(), NULL) != 1)
                return -ENOMEM;
        (void) EVP_EncodeBlock((unsigned char*) ret, digest, (int) n);
        return 0;
}

int websocket_request_format(const char *host, const char *target, const char *key, StrBuf *ret) {
        if (!http_value_is_valid(host) || !http_value_is_valid(target) || strchr(target, ' '))
                return -EINVAL;

        return strbuf_printf(ret,
                             "GET %s HTTP/1.1\r\n"
                             "Host: %s\r\n"
                             "Upgrade: websocket\r\n"
                             "Connection: Upgrade\r\n"
                             "Sec-WebSocket-Key: %s\r\n"
                             "Sec-WebSocket-Version: 13\r\n"
                             "\r\n",
                             target, host, key);
}

typedef struct Span {
        const char *text;
        size_t size;
} Span;

static bool span_equal(Span a, const char *b) {
        return a.size == strlen(b) && strncasecmp(a.text, b, a.size) == 0;
}

static Span span_trim(const char *text, size_t size) {
        for (; size > 0 && (*text == ' ' || *text == '\t'); text++, size--)
                ;
        for (; size > 0 && (text[size - 1] == ' ' || text[size - 1] == '\t'); size--)
                ;
        return (Span) { text, size };
}

/* One of the comma-separated words of a header is word. */
static bool span_has_word(Span s, const char *word) {
        while (s.size > 0) {
                const char *comma = memchr(s.text, ',', s.size);
                size_t n = comma ? (size_t) (comma - s.text) : s.size;

                if (span_equal(span_trim(s.text, n), word))
                        return true;
                n += !!comma;
                s.text += n;
                s.size -= n;
        }
        return false;
}

static bool status_line_read(Span line, long *ret) {
        const char *p = line.text;

        if (line.size < strlen("HTTP/1.1 101") || strncmp(p, "HTTP/1.", 7) != 0 || !isdigit((unsigned char) p[7]) ||
            p[8] != ' ')
                return false;
        for (size_t i = 9; i < 12; i++)
                if (!isdigit((unsigned char) p[i]))
                        return false;
        if (line.size > 12 && p[12] != ' ')
                return false;
        *ret = (p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0');
        return true;
}

typedef struct Opening {
        bool upgrade, connection, extension;
        unsigned n_accept;
        bool accept;
} Opening;

static bool header_read(Span line, const char *expected, Opening *o) {
        const char *colon = memchr(line.text, ':', line.size);
        Span name, value;

        if (!colon)
                return false;
        name = (Span) { line.text, (size_t) (colon - line.text) };
        if (!http_token_is_valid(name.text, name.size))
                return false;
        value = span_trim(colon + 1, line.size - name.size - 1);

        if (span_equal(name, "upgrade"))
                o->upgrade |= span_equal(value, "websocket");
        else if (span_equal(name, "connection"))
                o->connection |= span_has_word(value, "upgrade");
        else if (span_equal(name, "sec-websocket-accept")) {
                o->n_accept++;
                o->accept = value.size == strlen(expected) && memcmp(value.text, expected, value.size) == 0;
        } else if (span_equal(name, "sec-websocket-extensions") || span_equal(name, "sec-websocket-protocol"))
                o->extension |= value.size > 0;
        return true;
}

/* The next line up to CRLF; false at the empty one that ends the head. */
static bool next_line(const char **p, const char *end, Span *ret) {
        const char *eol = memmem(*p, (size_t) (end - *p), "\r\n", 2);

        *ret = (Span) { *p, (size_t) (eol - *p) };
        *p = eol + 2;
        return ret->size > 0;
}

int websocket_response_check(const char *data, size_t size, const char *key, size_t *ret_size, long *ret_status,
                             const char **reterr) {
        const char *end = memmem(data, MIN(size, WEBSOCKET_HEAD_MAX), "\r\n\r\n", 4), *p = data;
        char expected[ACCEPT_SIZE];
        Opening o = {};
        Span line;
        int r;

        *ret_status = 0;
        if (!end) {
                /* What is no HTTP should not be waited for. */
                if (size > 0 && strncmp(data, "HTTP/", MIN(size, (size_t) 5)) != 0) {
                        *reterr = "The server does not speak HTTP";
                        return -EPROTO;
                }
                *reterr = "The server's answer has no end";
                return size >= WEBSOCKET_HEAD_MAX ? -EMSGSIZE : 0;
        }
        end += 4;
        *ret_size = (size_t) (end - data);

        if (!next_line(&p, end, &line) || !status_line_read(line, ret_status)) {
                *reterr = "The server does not speak HTTP";
                return -EPROTO;
        }
        if (*ret_status != 101) {
                *reterr = "The server refuses a WebSocket here";
                return -EPROTO;
        }

        r = accept_for_key(key, expected);
        if (r < 0)
                return r;
        while (next_line(&p, end, &line))
                if (!header_read(line, expected, &o)) {
                        *reterr = "The server's answer has a broken header";
                        return -EPROTO;
                }

        *reterr = !o.upgrade || !o.connection      ? "The server's answer does not switch to a WebSocket" :
                  o.n_accept != 1 || !o.accept     ? "The server's answer is to another handshake" :
                  o.extension                      ? "The server uses an extension that was not asked for" :
                                                     NULL;
        return *reterr ? -EPROTO : 1;
}
