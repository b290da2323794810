/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/epoll.h>

#include "event-util.h"
#include "http-client-internal.h"
#include "websocket-handshake.h"
#include "websocket-internal.h"

#define OPEN_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define PING_INTERVAL_USEC (20 * USEC_PER_SEC)
#define PONG_TIMEOUT_USEC (20 * USEC_PER_SEC)
#define CLOSE_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define MESSAGE_MAX MIB(16)
/* What may wait for a peer that does not read. */
#define QUEUE_MAX MIB(4)
#define QUEUED_TEXTS_MAX 2048U  /* below what makes us read no more (websocket-frames.c) */
/* Messages handed out in one turn of the loop; then others have theirs. */
#define MESSAGES_PER_TURN 64U

typedef enum WebSocketState {
        WEBSOCKET_CONNECTING,
        WEBSOCKET_OPENING,              /* our request is out */
        WEBSOCKET_OPEN,
        WEBSOCKET_CLOSING,              /* our close frame is out, or theirs is in */
        WEBSOCKET_ENDED,
} WebSocketState;

struct WebSocket {
        WebSocketSpec spec;
        sd_event *event;
        WebSocketState state;
        HttpRequest *connection;
        sd_event_source *io, *timer, *turn;     /* timer: opening, ping, pong, closing – whichever is due */
        char *host, *target;
        char key[WEBSOCKET_KEY_SIZE];
        StrBuf out, in;                         /* of the opening handshake; in: and what came behind it */
        WebSocketFrames frames;
        bool opened, awaits_pong, paused;
        uint16_t farewell;                      /* close code to send behind what is queued; 0: none */
        WebSocket **alive;                      /* cleared by websocket_free(), for whoever is calling out */
};

static int websocket_on_timer(sd_event_source *s, uint64_t usec, void *userdata);

/* --- transport --- */

static ssize_t connection_read(void *transport, void *data, size_t size) {
        WebSocket *w = transport;
        size_t n;

        if (w->in.size > 0) {
                n = MIN(size, w->in.size);
                memcpy(data, w->in.text, n);
                strbuf_consume(&w->in, n);
                return (ssize_t) n;
        }
        switch (curl_easy_recv(w->connection->easy, data, size, &n)) {
        case CURLE_OK:
                return (ssize_t) n;
        case CURLE_AGAIN:
                return -EAGAIN;
        default:
                return -EIO;
        }
}

static ssize_t connection_write(void *transport, const void *data, size_t size) {
        WebSocket *w = transport;
        size_t n;

        switch (curl_easy_send(w->connection->easy, data, size, &n)) {
        case CURLE_OK:
                return n > 0 ? (ssize_t) n : -EAGAIN;
        case CURLE_AGAIN:
                return -EAGAIN;
        default:
                return -EIO;
        }
}

/* --- the end --- */

static void websocket_disconnect(WebSocket *w) {
        w->io = sd_event_source_disable_unref(w->io);
        w->turn = sd_event_source_disable_unref(w->turn);
        w->timer = sd_event_source_disable_unref(w->timer);
        w->connection = http_request_free(w->connection);
}

static void websocket_end(WebSocket *w, HttpFailure failure, long status, const char *error) {
        bool closed = w->frames.wslay && wslay_event_get_close_received(w->frames.wslay);
        WebSocketEnd end = {
                .failure = failure,
                .status = status,
                .opened = w->opened,
                .error = error,
                .code = closed ? wslay_event_get_status_code_received(w->frames.wslay) : 0,
        };

        if (w->state == WEBSOCKET_ENDED)
                return;
        w->state = WEBSOCKET_ENDED;
        websocket_disconnect(w);
        w->spec.on_close(w, &end, w->spec.userdata);
}

static void websocket_end_cut(WebSocket *w, const char *error) {
        websocket_end(w, HTTP_FAILED_CUT, 0, error);
}

/* The peer's close frame is in and ours is out. */
static void websocket_end_closed(WebSocket *w) {
        unsigned code = wslay_event_get_status_code_received(w->frames.wslay);
        char text[64];

        (void) snprintf(text, sizeof(text), "The connection was closed with code %u", code);
        websocket_end(w, HTTP_OK, 0, text);
}

/* --- timers --- */

static int websocket_arm(WebSocket *w, uint64_t delay_usec) {
        return event_arm_timer(w->event, &w->timer, delay_usec, /* accuracy= */ MIN(delay_usec / 8, USEC_PER_SEC) + 1,
                               websocket_on_timer, w);
}

static int websocket_update_io(WebSocket *w) {
        bool writes = w->state == WEBSOCKET_OPENING ? w->out.size > 0
                                                    : wslay_event_want_write(w->frames.wslay) || w->farewell > 0;

        bool reads = w->state == WEBSOCKET_OPENING || (!w->paused && websocket_frames_want_read(&w->frames));

        return sd_event_source_set_io_events(w->io, (reads ? EPOLLIN : 0) | (writes ? EPOLLOUT : 0));
}

static int websocket_ping(WebSocket *w, uint64_t timeout_usec) {
        struct wslay_event_msg ping = { .opcode = WSLAY_PING };
        /* The pong of one before that may still be on its way out is as good: they are not to pile up. */
        bool asked = w->awaits_pong && !w->frames.pong && wslay_event_get_queued_msg_count(w->frames.wslay) > 0;

        if (!asked && wslay_event_queue_msg(w->frames.wslay, &ping) != 0)
                return -ENOTCONN;
        w->awaits_pong = true;
        w->frames.pong = w->frames.heard = false;
        return websocket_arm(w, timeout_usec);
}

static int websocket_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        WebSocket *w = userdata;
        int r = 0;

        switch (w->state) {
        case WEBSOCKET_OPENING:
        case WEBSOCKET_CONNECTING:
                websocket_end(w, HTTP_FAILED_TIMEOUT, 0, "The server does not answer the opening handshake");
                return 0;
        case WEBSOCKET_CLOSING:
                websocket_end(w, HTTP_FAILED_TIMEOUT, 0, "The server does not answer the closing handshake");
                return 0;
        case WEBSOCKET_OPEN:
                /* Whatever came since is as good a sign of life as the pong itself. */
                if (w->awaits_pong && !w->paused && !w->frames.pong && !w->frames.heard) {
                        websocket_end(w, HTTP_FAILED_TIMEOUT, 0, "The server does not answer a ping");
                        return 0;
                }
                if (w->awaits_pong) {
                        w->awaits_pong = false;
                        r = websocket_arm(w, w->spec.ping_interval_usec);
                } else
                        r = websocket_ping(w, w->spec.pong_timeout_usec);
                if (r >= 0)
                        r = websocket_update_io(w);
                break;
        case WEBSOCKET_ENDED:
                break;
        }
        if (r < 0)
                websocket_end(w, HTTP_FAILED_MEMORY, 0, strerror(-r));
        return 0;
}

void websocket_probe(WebSocket *w, uint64_t timeout_usec) {
        if (w->state == WEBSOCKET_OPEN && websocket_ping(w, timeout_usec) >= 0)
                (void) websocket_update_io(w);
}

/* --- open --- */

/* wslay sends a close frame before the messages that are queued, and nothing behind it; so it is queued last. */
static int websocket_flush(WebSocket *w) {
        int r = websocket_frames_write(&w->frames);

        if (r == 0 && w->farewell > 0) {
                (void) wslay_event_queue_close(w->frames.wslay, w->farewell, NULL, 0);
                w->farewell = 0;
                r = websocket_frames_write(&w->frames);
        }
        return r < 0 ? r : websocket_update_io(w);
}

/* What is left to do when nothing more can be read for now. */
static void websocket_settle(WebSocket *w) {
        bool closed = wslay_event_get_close_received(w->frames.wslay);
        int r = websocket_flush(w);

        /* A peer that has said its farewell need not hear ours. */
        if (closed && (r < 0 || wslay_event_get_close_sent(w->frames.wslay))) {
                websocket_end_closed(w);
                return;
        }
        if (r < 0)
                websocket_end_cut(w, "The connection broke while sending");
        if (r < 0 || !closed)
                return;
        if (w->state == WEBSOCKET_OPEN && websocket_arm(w, w->spec.close_timeout_usec) >= 0)
                w->state = WEBSOCKET_CLOSING;
}

/* Hands messages out until there are none or the socket is gone. */
static void websocket_read(WebSocket *w) {
        WebSocket *self = w;
        int r = 0;

        w->alive = &self;
        for (unsigned n = 0; n < MESSAGES_PER_TURN && !w->paused; n++) {
                _cleanup_(websocket_message_freep) WebSocketMessage *m = NULL;

                r = websocket_frames_read(&w->frames, &m);
                if (r <= 0)
                        break;
                if (w->state != WEBSOCKET_OPEN)
                        continue;
                w->spec.on_text(w, m->text, m->size, w->spec.userdata);
                if (!self)
                        return;
                if (w->state == WEBSOCKET_ENDED)
                        break;
        }
        w->alive = NULL;
        if (w->state == WEBSOCKET_ENDED)
                return;

        if (r == -EPROTO) {
                /* Tells the peer why, if it can still be told. */
                (void) websocket_frames_write(&w->frames);
                websocket_end(w, HTTP_FAILED_PROTOCOL, 0, "The server broke the WebSocket protocol, or sent too much");
        } else if (r == -ENOMEM)
                websocket_end(w, HTTP_FAILED_MEMORY, 0, "Out of memory");
        else if (r < 0 && wslay_event_get_close_received(w->frames.wslay))
                websocket_end_closed(w);
        else if (r < 0)
                websocket_end_cut(w, r == -EPIPE ? "The server ended the connection without closing it"
                                                 : "The connection broke");
        else {
                /* More is waiting, perhaps inside of TLS where no poll sees it. */
                if (!w->paused && (r > 0 || w->frames.more))
                        (void) sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT);
                websocket_settle(w);
        }
}

static int websocket_on_turn(sd_event_source *s, void *userdata) {
        websocket_read(userdata);
        return 0;
}

/* --- the opening handshake --- */

static void websocket_send_request(WebSocket *w) {
        while (w->out.size > 0) {
                ssize_t n = connection_write(w, w->out.text, w->out.size);

                if (n == -EAGAIN)
                        break;
                if (n < 0) {
                        websocket_end(w, HTTP_FAILED_CONNECT, 0, "The connection broke in the opening handshake");
                        return;
                }
                strbuf_consume(&w->out, (size_t) n);
        }
        (void) websocket_update_io(w);
}

static int websocket_begin_frames(WebSocket *w) {
        int r = websocket_frames_init(&w->frames, w->spec.max_message);

        if (r < 0)
                return r;
        w->frames.read = connection_read;
        w->frames.write = connection_write;
        w->frames.transport = w;

        r = sd_event_add_defer(w->event, &w->turn, websocket_on_turn, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(w->turn, SD_EVENT_OFF);
        return r < 0 ? r : websocket_arm(w, w->spec.ping_interval_usec);
}

static void websocket_read_response(WebSocket *w) {
        const char *error = NULL;
        WebSocket *self = w;
        size_t size = 0;
        long status = 0;
        int r = 0;

        while (r == 0) {
                char data[4096];
                size_t n;
                CURLcode code = curl_easy_recv(w->connection->easy, data, sizeof(data), &n);

                if (code == CURLE_AGAIN)
                        return;
                if (code != CURLE_OK || n == 0) {
                        websocket_end(w, HTTP_FAILED_CONNECT, 0, "The connection broke in the opening handshake");
                        return;
                }
                r = strbuf_append(&w->in, data, n);
                if (r >= 0)
                        r = websocket_response_check(w->in.text, w->in.size, w->key, &size, &status, &error);
        }
        if (r > 0)
                r = websocket_begin_frames(w);
        if (r < 0) {
                websocket_end(w, error ? HTTP_FAILED_PROTOCOL : HTTP_FAILED_MEMORY, status, error ?: strerror(-r));
                return;
        }

        strbuf_consume(&w->in, size);
        w->state = WEBSOCKET_OPEN;
        w->opened = true;
        w->alive = &self;
        w->spec.on_open(w, w->spec.userdata);
        if (!self)
                return;
        w->alive = NULL;
        if (w->state != WEBSOCKET_ENDED)
                websocket_read(w);
}

static int websocket_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        WebSocket *w = userdata;

        if (w->state == WEBSOCKET_OPENING) {
                if (w->out.size > 0)
                        websocket_send_request(w);
                else
                        websocket_read_response(w);
        } else {
                /* An end that is not to be seen yet would wake us over and over. */
                if (w->paused && (revents & (EPOLLERR|EPOLLHUP)))
                        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
                websocket_read(w);
        }
        return 0;
}

static void websocket_on_connected(HttpRequest *q, void *userdata) {
        curl_socket_t fd = CURL_SOCKET_BAD;
        WebSocket *w = userdata;
        int r;

        (void) curl_easy_getinfo(q->easy, CURLINFO_ACTIVESOCKET, &fd);
        if (fd == CURL_SOCKET_BAD) {
                websocket_end(w, HTTP_FAILED_CONNECT, 0, "The connection broke at once");
                return;
        }
        r = websocket_key_new(w->key);
        if (r >= 0)
                r = websocket_request_format(w->host, w->target, w->key, &w->out);
        if (r >= 0)
                r = sd_event_add_io(w->event, &w->io, fd, EPOLLIN | EPOLLOUT, websocket_on_io, w);
        if (r < 0) {
                websocket_end(w, HTTP_FAILED_MEMORY, 0, strerror(-r));
                return;
        }
        w->state = WEBSOCKET_OPENING;
        websocket_send_request(w);
}

static void websocket_on_failed(HttpRequest *q, const HttpReply *reply, void *userdata) {
        WebSocket *w = userdata;
        HttpFailure failure = reply->failure == HTTP_OK ? HTTP_FAILED_CONNECT : reply->failure;
        _cleanup_free_ char *error = strdup(strempty(reply->error));

        websocket_end(w, failure, reply->status, isempty(error) ? "The connection cannot be made" : error);
}

/* ws://host/path → http://host/path, and what the request needs of it. */
static int websocket_set_url(WebSocket *w, const char *url, char **ret) {
        _cleanup_free_ char *http = NULL;
        const char *rest, *slash;

        if ((rest = startswith(url, "ws://")))
                http = strjoin("http://", rest);
        else if ((rest = startswith(url, "wss://")))
                http = strjoin("https://", rest);
        else
                return -EINVAL;

        slash = rest + strcspn(rest, "/?#");
        w->host = memdup0(rest, (size_t) (slash - rest));
        w->target = *slash == '/' ? strdup(slash) : strjoin("/", slash);
        if (!http || !w->host || !w->target)
                return -ENOMEM;
        if (!*w->host || strchr(w->host, '@') || strchr(w->target, '#'))
                return -EINVAL;
        *ret = TAKE_PTR(http);
        return 0;
}

int websocket_new(WebSocket **ret, HttpClient *client, sd_event *event, const WebSocketSpec *spec) {
        _cleanup_(websocket_freep) WebSocket *w = NULL;
        _cleanup_free_ char *url = NULL;
        HttpRequestSpec connect = {
                .ca_file = spec->ca_file, .ca_text = spec->ca_text, .proxy = spec->proxy, .no_proxy = spec->no_proxy,
                .on_done = websocket_on_failed,
        };
        int r;

        assert(ret && client && event && spec->url && spec->on_open && spec->on_text && spec->on_close);

        w = new0(WebSocket, 1);
        if (!w)
                return -ENOMEM;
        w->event = sd_event_ref(event);
        w->spec = *spec;
        w->spec.url = w->spec.ca_file = w->spec.ca_text = w->spec.proxy = w->spec.no_proxy = NULL;
        w->spec.max_message = spec->max_message ?: MESSAGE_MAX;
        w->spec.open_timeout_usec = spec->open_timeout_usec ?: OPEN_TIMEOUT_USEC;
        w->spec.ping_interval_usec = spec->ping_interval_usec ?: PING_INTERVAL_USEC;
        w->spec.pong_timeout_usec = spec->pong_timeout_usec ?: PONG_TIMEOUT_USEC;
        w->spec.close_timeout_usec = spec->close_timeout_usec ?: CLOSE_TIMEOUT_USEC;

        r = websocket_set_url(w, spec->url, &url);
        if (r < 0)
                return r;
        r = websocket_arm(w, w->spec.open_timeout_usec);
        if (r < 0)
                return r;

        connect.url = url;
        connect.userdata = w;
        r = http_client_connect(client, &connect, websocket_on_connected, &w->connection);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

WebSocket* websocket_free(WebSocket *w) {
        if (!w)
                return NULL;

        if (w->alive)
                *w->alive = NULL;
        websocket_disconnect(w);
        websocket_frames_done(&w->frames);
        strbuf_done(&w->out);
        strbuf_done(&w->in);
        free(w->host);
        free(w->target);
        sd_event_unref(w->event);
        return mfree(w);
}

int websocket_send_text(WebSocket *w, const char *text, size_t size) {
        struct wslay_event_msg m = { .opcode = WSLAY_TEXT_FRAME, .msg = (const uint8_t*) text, .msg_length = size };

        assert(w && text);

        if (w->state != WEBSOCKET_OPEN)
                return -ENOTCONN;
        if (wslay_event_get_queued_msg_length(w->frames.wslay) + size > QUEUE_MAX ||
            wslay_event_get_queued_msg_count(w->frames.wslay) >= QUEUED_TEXTS_MAX)
                return -ENOBUFS;
        switch (wslay_event_queue_msg(w->frames.wslay, &m)) {
        case 0:
                /* Goes out from the loop: what was queued in one turn leaves together. */
                return websocket_update_io(w);
        case WSLAY_ERR_NOMEM:
                return -ENOMEM;
        default:
                return -ENOTCONN;
        }
}

void websocket_close(WebSocket *w, unsigned code) {
        assert(w);

        if (w->state == WEBSOCKET_OPEN) {
                w->farewell = (uint16_t) code;
                w->state = WEBSOCKET_CLOSING;
                if (websocket_update_io(w) >= 0 && websocket_arm(w, w->spec.close_timeout_usec) >= 0)
                        return;
        }
        /* There is nothing to be polite to: it ends from the loop, as any other. */
        if (w->state == WEBSOCKET_CONNECTING || w->state == WEBSOCKET_OPENING)
                (void) websocket_arm(w, 0);
}

void websocket_pause(WebSocket *w, bool pause) {
        assert(w);

        if (w->paused == pause)
                return;
        w->paused = pause;
        if (w->state != WEBSOCKET_OPEN && w->state != WEBSOCKET_CLOSING)
                return;
        if (!pause) {
                /* What was read already is handed out from the loop. */
                (void) sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT);
                (void) sd_event_source_set_enabled(w->io, SD_EVENT_ON);
        }
        (void) websocket_update_io(w);
}
