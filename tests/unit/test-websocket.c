/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "event-util.h"
#include "loopback.h"
#include "string-util.h"
#include "tests.h"
#include "websocket-handshake.h"
#include "websocket-internal.h"

/* RFC 6455 §1.3 */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define HEAD "HTTP/1.1 101 Switching Protocols\r\n"
#define FIELDS "Upgrade: websocket\r\nConnection: Upgrade\r\n"
#define ACCEPT "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"

TEST(opening_answers) {
        static const struct {
                const char *text;
                int result;
                long status;
        } t[] = {
                { HEAD FIELDS ACCEPT "\r\n", 1, 101 },
                { HEAD FIELDS ACCEPT "Server: x\r\nSec-WebSocket-Extensions:\r\n\r\nmore", 1, 101 },
                { HEAD "UPGRADE: WebSocket\r\nconnection: keep-alive, upgrade\r\n" ACCEPT "\r\n", 1, 101 },
                { HEAD FIELDS ACCEPT "\r", 0, 0 },
                { "HT", 0, 0 },
                { "", 0, 0 },
                { "SSH-2.0-x\r\n", -EPROTO, 0 },
                { "HTTP/2 101\r\n" FIELDS ACCEPT "\r\n", -EPROTO, 0 },
                { "HTTP/1.1 101x\r\n" FIELDS ACCEPT "\r\n", -EPROTO, 0 },
                { "HTTP/1.1 1.1\r\n\r\n", -EPROTO, 0 },
                { "HTTP/1.1 200 OK\r\n" FIELDS ACCEPT "\r\n", -EPROTO, 200 },
                { "HTTP/1.1 403 No\r\n\r\n", -EPROTO, 403 },
                { HEAD "Connection: Upgrade\r\n" ACCEPT "\r\n", -EPROTO, 101 },
                { HEAD "Upgrade: websocket\r\nConnection: close\r\n" ACCEPT "\r\n", -EPROTO, 101 },
                { HEAD FIELDS "\r\n", -EPROTO, 101 },
                { HEAD FIELDS ACCEPT ACCEPT "\r\n", -EPROTO, 101 },
                { HEAD FIELDS "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp=\r\n\r\n", -EPROTO, 101 },
                { HEAD FIELDS ACCEPT "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", -EPROTO, 101 },
                { HEAD FIELDS ACCEPT "Sec-WebSocket-Protocol: chat\r\n\r\n", -EPROTO, 101 },
                { HEAD FIELDS ACCEPT "no colon\r\n\r\n", -EPROTO, 101 },
                { HEAD FIELDS ACCEPT "bad name: x\r\n\r\n", -EPROTO, 101 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                const char *error = NULL;
                size_t size = 0;
                long status = 0;
                int r = websocket_response_check(t[i].text, strlen(t[i].text), KEY, &size, &status, &error);

                if (r != t[i].result || status != t[i].status)
                        fail_msg("'%s' gives %i, %ld", t[i].text, r, status);
                ASSERT_EQ(!!error, r < 0 || (r == 0 && error));
                if (r > 0)
                        ASSERT_EQ(memcmp(t[i].text + size - 4, "\r\n\r\n", 4), 0);
        }
}

TEST(opening_answer_without_end) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *error;
        size_t size;
        long status;

        ASSERT_OK(strbuf_puts(&b, HEAD));
        while (b.size < WEBSOCKET_HEAD_MAX)
                ASSERT_OK(strbuf_puts(&b, "X: y\r\n"));
        ASSERT_ERROR(websocket_response_check(b.text, b.size, KEY, &size, &status, &error), EMSGSIZE);
}

TEST(request) {
        _cleanup_(strbuf_done) StrBuf b = {}, other = {};

        ASSERT_OK(websocket_request_format("host:1", "/subscribe?a=b", KEY, &b));
        ASSERT_NOT_NULL(startswith(b.text, "GET /subscribe?a=b HTTP/1.1\r\nHost: host:1\r\n"));
        ASSERT_NOT_NULL(strstr(b.text, "\r\nSec-WebSocket-Key: " KEY "\r\nSec-WebSocket-Version: 13\r\n\r\n"));
        ASSERT_ERROR(websocket_request_format("host\r\nX: y", "/", KEY, &other), EINVAL);
        ASSERT_ERROR(websocket_request_format("host", "/ HTTP/1.1", KEY, &other), EINVAL);
}

/* --- against a server in a process of its own --- */

/* What the server sends behind its handshake, and what it then does. */
typedef struct Script {
        const char *bytes;
        size_t size, piece;
        bool hang;              /* goes on reading without ever answering */
        const char *head;       /* instead of a proper answer */
} Script;

static void serve(int fd, const Script *script) {
        char request[4096], accept[64], head[512], *key, *end;
        unsigned char digest[EVP_MAX_MD_SIZE];
        size_t n = 0;
        ssize_t k;
        unsigned m;

        while (n < sizeof(request) - 1) {
                k = read(fd, request + n, sizeof(request) - 1 - n);
                if (k <= 0)
                        _exit(1);
                n += (size_t) k;
                request[n] = 0;
                if (strstr(request, "\r\n\r\n"))
                        break;
        }
        key = strstr(request, "Sec-WebSocket-Key: ") + strlen("Sec-WebSocket-Key: ");
        end = strstr(key, "\r\n");
        (void) snprintf(accept, sizeof(accept), "%.*s", (int) (end - key), key);
        {
                char text[128];

                (void) snprintf(text, sizeof(text), "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", accept);
                (void) EVP_Digest(text, strlen(text), digest, &m, EVP_sha1(), NULL);
        }
        (void) EVP_EncodeBlock((unsigned char*) accept, digest, (int) m);
        (void) snprintf(head, sizeof(head), HEAD FIELDS "Sec-WebSocket-Accept: %s\r\n\r\n", accept);
        if (script->head)
                (void) snprintf(head, sizeof(head), "%s", script->head);
        (void) !write(fd, head, strlen(head));

        for (size_t i = 0; i < script->size; i += script->piece ?: script->size) {
                (void) !write(fd, script->bytes + i, MIN(script->piece ?: script->size, script->size - i));
                if (script->piece)
                        usleep(1000);
        }
        if (script->hang)
                while (read(fd, request, sizeof(request)) > 0)
                        ;
        else {
                /* Up to the client's close frame or end. */
                struct timeval limit = { .tv_sec = 2 };

                (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
                (void) shutdown(fd, script->size > 0 && (script->bytes[0] & 0x0f) != 8 ? SHUT_WR : SHUT_RD);
                (void) !read(fd, request, sizeof(request));
        }
        _exit(0);
}

static pid_t server_start(const Script *script, uint16_t *ret_port) {
        int fd = listen_loopback(0, ret_port);
        pid_t pid = fork();

        ASSERT_TRUE(pid >= 0);
        if (pid == 0)
                serve(accept(fd, NULL, NULL), script);
        (void) close(fd);
        return pid;
}

typedef struct Seen {
        sd_event *event;
        WebSocket *socket;
        StrBuf texts;
        bool opened, closed, free_on_text, close_on_text, flood_on_text;
        WebSocketEnd end;
        char *error;
} Seen;

static void on_open(WebSocket *w, void *userdata) {
        Seen *seen = userdata;

        ASSERT_FALSE(seen->opened);
        seen->opened = true;
}

/* Of what has no size there must not be any number, either: nothing goes out before the loop goes on. */
static void flood(WebSocket *w) {
        size_t before = mallinfo2().uordblks, after;
        int r = 0;

        for (unsigned i = 0; i < 300000; i++)
                websocket_probe(w, 60 * USEC_PER_SEC);
        after = mallinfo2().uordblks;
        if (after > before + MIB(16))
                fail_msg("%zu bytes wait behind probes", after - before);
        for (unsigned i = 0; i < 2000000 && r >= 0; i++)
                r = websocket_send_text(w, "", 0);
        ASSERT_ERROR(r, ENOBUFS);
}

static void on_text(WebSocket *w, const char *text, size_t size, void *userdata) {
        Seen *seen = userdata;

        ASSERT_EQ(strlen(text), size);
        ASSERT_OK(strbuf_append(&seen->texts, text, MIN(size, (size_t) 8)));
        ASSERT_OK(strbuf_puts(&seen->texts, "|"));
        if (seen->close_on_text)
                websocket_close(w, WEBSOCKET_CLOSE_NORMAL);
        if (seen->flood_on_text)
                flood(w);
        if (seen->free_on_text) {
                seen->socket = websocket_free(seen->socket);
                ASSERT_OK(sd_event_exit(seen->event, 0));
        }
}

static void on_close(WebSocket *w, const WebSocketEnd *end, void *userdata) {
        Seen *seen = userdata;

        ASSERT_FALSE(seen->closed);
        seen->closed = true;
        seen->end = *end;
        seen->error = strdup(end->error);
        seen->socket = websocket_free(seen->socket);
        ASSERT_OK(sd_event_exit(seen->event, 0));
}

static void run(const Script *script, Seen *seen) {
        _cleanup_(http_client_freep) HttpClient *client = NULL;
        char url[64];
        uint16_t port;
        WebSocketSpec spec = {
                .url = url,
                .max_message = 100000,
                .ping_interval_usec = 50 * USEC_PER_MSEC,
                .pong_timeout_usec = 100 * USEC_PER_MSEC,
                .close_timeout_usec = 200 * USEC_PER_MSEC,
                .open_timeout_usec = 2 * USEC_PER_SEC,
                .on_open = on_open,
                .on_text = on_text,
                .on_close = on_close,
                .userdata = seen,
        };
        pid_t pid = server_start(script, &port);

        (void) snprintf(url, sizeof(url), "ws://127.0.0.1:%u/x", (unsigned) port);
        ASSERT_OK(sd_event_new(&seen->event));
        ASSERT_OK(http_client_new(&client, seen->event));
        ASSERT_OK(websocket_new(&seen->socket, client, seen->event, &spec));
        ASSERT_OK(sd_event_loop(seen->event));
        seen->socket = websocket_free(seen->socket);
        client = http_client_free(client);
        seen->event = sd_event_unref(seen->event);
        ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

static void seen_done(Seen *seen) {
        strbuf_done(&seen->texts);
        free(seen->error);
}
#define SEEN(name) _cleanup_(seen_done) Seen name = {}

#define BYTES(s) .bytes = s, .size = sizeof(s) - 1
#define CLOSE_1000 "\x88\x02\x03\xe8"

TEST(messages_whole_fragmented_and_in_pieces) {
        static const size_t pieces[] = { 0, 1, 3 };

        for (size_t i = 0; i < ELEMENTSOF(pieces); i++) {
                SEEN(seen);

                run(&(Script) { BYTES("\x81\x02hi" "\x01\x02" "ab" "\x89\x00" "\x80\x01" "c" "\x82\x01x" "\x81\x00"
                                      CLOSE_1000), .piece = pieces[i] }, &seen);
                ASSERT_STREQ(strempty(seen.texts.text), "hi|abc||");
                ASSERT_TRUE(seen.opened && seen.closed && seen.end.opened);
                ASSERT_EQ(seen.end.failure, HTTP_OK);
                ASSERT_EQ(seen.end.code, 1000);
        }
}

/* --- frames alone, from a peer that never stops --- */

typedef struct Flood {
        const char *unit;       /* sent over and over */
        size_t size, read, limit;       /* read: in this call; limit: of all that comes */
        bool deaf;              /* takes nothing */
} Flood;

static ssize_t flood_read(void *transport, void *data, size_t size) {
        Flood *f = transport;
        char *w = data;
        size_t n = 0;

        if (f->limit == 0)
                return -EAGAIN;
        for (; n + f->size <= size && f->limit > 0; n += f->size, f->limit--)
                memcpy(w + n, f->unit, f->size);
        f->read += n;
        if (f->read > MIB(1))
                fail_msg("it goes on reading");
        return (ssize_t) n;
}

static ssize_t flood_write(void *transport, const void *data, size_t size) {
        return ((Flood*) transport)->deaf ? -EAGAIN : (ssize_t) size;
}

static void frames_begin(WebSocketFrames *f, Flood *flood, size_t max_message) {
        ASSERT_OK(websocket_frames_init(f, max_message));
        f->read = flood_read;
        f->write = flood_write;
        f->transport = flood;
}

TEST(pings_without_end) {
        for (unsigned deaf = 0; deaf <= 1; deaf++) {
                Flood flood = { .unit = "\x89\x00", .size = 2, .limit = SIZE_MAX, .deaf = deaf };
                _cleanup_(websocket_frames_done) WebSocketFrames f = {};
                size_t all = 0;

                frames_begin(&f, &flood, 1000);
                for (unsigned turn = 0; turn < 50; turn++, flood.read = 0) {
                        WebSocketMessage *m;

                        ASSERT_EQ(websocket_frames_read(&f, &m), 0);
                        ASSERT_EQ(websocket_frames_write(&f) > 0, deaf);
                        ASSERT_EQ(websocket_frames_want_read(&f), !deaf);
                        all += flood.read;
                        ASSERT_TRUE(wslay_event_get_queued_msg_count(f.wslay) < 10000);
                }
                /* Whoever takes the answers is listened to. */
                ASSERT_EQ(all > KIB(100), !deaf);
        }
}

/* They are read, but others have their turn. */
TEST(bytes_that_nobody_wants_without_end) {
        Flood flood = { .unit = "\x82\x06" "abcdef", .size = 8, .limit = SIZE_MAX };
        _cleanup_(websocket_frames_done) WebSocketFrames f = {};

        frames_begin(&f, &flood, 1000);
        for (unsigned turn = 0; turn < 50; turn++, flood.read = 0) {
                WebSocketMessage *m;

                ASSERT_EQ(websocket_frames_read(&f, &m), 0);
                ASSERT_TRUE(f.more);
        }
}

TEST(fragments_of_one_byte) {
        const size_t n = 300000;
        Flood flood = { .unit = "\x01\x01x", .size = 3, .limit = 1 };
        _cleanup_(websocket_frames_done) WebSocketFrames f = {};
        WebSocketMessage *m = NULL;
        size_t before = mallinfo2().uordblks;

        frames_begin(&f, &flood, n + 2);
        ASSERT_EQ(websocket_frames_read(&f, &m), 0);
        flood = (Flood) { .unit = "\x00\x01x", .size = 3, .limit = n };
        while (flood.limit > 0) {
                flood.read = 0;
                ASSERT_EQ(websocket_frames_read(&f, &m), 0);
        }
        ASSERT_TRUE(mallinfo2().uordblks - before < 4 * n);
        flood = (Flood) { .unit = "\x80\x01x", .size = 3, .limit = 1 };
        ASSERT_EQ(websocket_frames_read(&f, &m), 1);
        ASSERT_EQ(m->size, n + 2);
        ASSERT_EQ(m->text[n + 1], 'x');
        ASSERT_EQ(m->text[n + 2], 0);
        m = websocket_message_free(m);

        /* One more is one too many. */
        flood = (Flood) { .unit = "\x01\x01x", .size = 3, .limit = 1 };
        ASSERT_EQ(websocket_frames_read(&f, &m), 0);
        flood = (Flood) { .unit = "\x00\x01x", .size = 3, .limit = n + 2 };
        for (int r = 0; r == 0 && flood.limit > 0; ) {
                flood.read = 0;
                r = websocket_frames_read(&f, &m);
                ASSERT_TRUE(r == 0 || r == -EPROTO);
        }
        ASSERT_ERROR(websocket_frames_read(&f, &m), EPROTO);
        ASSERT_EQ(websocket_frames_write(&f), 0);
        ASSERT_EQ(wslay_event_get_status_code_sent(f.wslay), 1009);
}

TEST(pings_and_bytes_between_fragments) {
        static const char frames[] = "\x01\x01" "a" "\x89\x02" "pp" "\x00\x00" "\x8a\x01" "q" "\x80\x02" "bc"
                                     "\x02\x01" "d" "\x89\x00" "\x80\x01" "e" "\x81\x01" "f";
        Flood flood = { .unit = frames, .size = sizeof(frames) - 1, .limit = 1 };
        _cleanup_(websocket_frames_done) WebSocketFrames f = {};
        static const char *const texts[] = { "abc", "f" };

        frames_begin(&f, &flood, 1000);
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(websocket_message_freep) WebSocketMessage *m = NULL;

                ASSERT_EQ(websocket_frames_read(&f, &m), 1);
                ASSERT_STREQ(m->text, texts[i]);
                ASSERT_EQ(m->size, strlen(texts[i]));
        }
        ASSERT_TRUE(f.pong);
        ASSERT_EQ(wslay_event_get_queued_msg_count(f.wslay), 2);
}

TEST(cut_in_the_middle_of_a_frame) {
        SEEN(seen);

        run(&(Script) { BYTES("\x81\x02hi" "\x81\x05" "abc") }, &seen);
        ASSERT_STREQ(seen.texts.text, "hi|");
        ASSERT_EQ(seen.end.failure, HTTP_FAILED_CUT);
        ASSERT_EQ(seen.end.code, 0);
}

TEST(broken_protocol) {
        static const Script t[] = {
                { BYTES("\x81\x02\xff\xfe") },                          /* no UTF-8 */
                { BYTES("\xf1\x02hi") },                                /* reserved bits */
                { BYTES("\x83\x00") },                                  /* reserved opcode */
                { BYTES("\x81\x7f\x00\x00\x00\x00\x00\x01\x86\xa1" "x") },      /* over max_message */
                { BYTES("\x80\x01" "c") },                              /* continues nothing */
                { BYTES("\x89\x7e\x00\x7e") },                          /* a ping that is too long */
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                SEEN(seen);

                run(&t[i], &seen);
                ASSERT_EQ(seen.texts.size, 0);
                if (seen.end.failure != HTTP_FAILED_PROTOCOL)
                        fail_msg("%zu: %u %s", i, seen.end.failure, seen.error);
        }
}

TEST(silent_peer_is_noticed) {
        SEEN(seen);

        run(&(Script) { BYTES("\x81\x02hi"), .hang = true }, &seen);
        ASSERT_STREQ(seen.texts.text, "hi|");
        ASSERT_EQ(seen.end.failure, HTTP_FAILED_TIMEOUT);
        ASSERT_NOT_NULL(strstr(seen.error, "ping"));
}

TEST(closing_handshake_that_nobody_answers) {
        SEEN(seen);

        seen.close_on_text = true;
        run(&(Script) { BYTES("\x81\x02hi" "\x81\x02ho"), .hang = true }, &seen);
        ASSERT_STREQ(seen.texts.text, "hi|");
        ASSERT_EQ(seen.end.failure, HTTP_FAILED_TIMEOUT);
        ASSERT_NOT_NULL(strstr(seen.error, "closing"));
}

TEST(freed_from_its_own_callback) {
        SEEN(seen);

        seen.free_on_text = true;
        run(&(Script) { BYTES("\x81\x02hi" "\x81\x02ho" CLOSE_1000) }, &seen);
        ASSERT_STREQ(seen.texts.text, "hi|");
        ASSERT_FALSE(seen.closed);
}

TEST(flood_of_nothing) {
        SEEN(seen);

        seen.flood_on_text = seen.free_on_text = true;
        run(&(Script) { BYTES("\x81\x02hi") }, &seen);
        ASSERT_STREQ(seen.texts.text, "hi|");
}

TEST(refused_opening) {
        SEEN(seen);

        run(&(Script) { .head = "HTTP/1.1 401 Unauthorized\r\n\r\n" }, &seen);
        ASSERT_FALSE(seen.opened || seen.end.opened);
        ASSERT_EQ(seen.end.failure, HTTP_FAILED_PROTOCOL);
        ASSERT_EQ(seen.end.status, 401);
}

TEST(bad_urls) {
        static const char *const bad[] = { "", "http://x/", "ws://", "ws:///x", "ws://u@h/x", "ws://h/#f", "ws://h:x/" };
        _cleanup_(http_client_freep) HttpClient *client = NULL;
        WebSocketSpec spec = { .on_open = on_open, .on_text = on_text, .on_close = on_close };
        sd_event *event = NULL;
        WebSocket *w;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(http_client_new(&client, event));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                spec.url = bad[i];
                ASSERT_ERROR(websocket_new(&w, client, event, &spec), EINVAL);
        }
        client = http_client_free(client);
        sd_event_unref(event);
}

#define TEST_SUITE "websocket"
TEST_MAIN();
