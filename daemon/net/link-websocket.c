/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/epoll.h>

#include "http-util.h"
#include "link-client-internal.h"
#include "websocket.h"

#define MESSAGE_MAX MIB(16)
/* What may wait for a link that does not read. */
#define QUEUE_MAX MIB(4)
/* Messages handed out in one turn of the loop; then others have theirs. */
#define MESSAGES_PER_TURN 64U

typedef enum WebSocketState {
        WEBSOCKET_OPENING,
        WEBSOCKET_OPEN,
        WEBSOCKET_CLOSING,
        WEBSOCKET_ENDED,
} WebSocketState;

struct WebSocket {
        WebSocketSpec spec;
        WebSocketState state;
        LinkConnection link;
        sd_event_source *turn;          /* there is something to do that no socket tells of */
        char *unreachable;              /* why there is no connection */
        bool paused;
        WebSocket **alive;              /* cleared by websocket_free(), for whoever is calling out */
};

static void websocket_disconnect(WebSocket *w) {
        w->turn = sd_event_source_disable_unref(w->turn);
        link_connection_done(&w->link);
}

static void websocket_end(WebSocket *w, const WebSocketEnd *end) {
        _cleanup_free_ char *error = strdup(end->error);
        WebSocketEnd copy = *end;

        copy.error = error ?: "Out of memory";
        w->state = WEBSOCKET_ENDED;
        websocket_disconnect(w);
        w->spec.on_close(w, &copy, w->spec.userdata);
}

static void websocket_fail(WebSocket *w, HttpFailure failure, const char *error) {
        websocket_end(w, &(WebSocketEnd) {
                .failure = failure, .opened = w->state != WEBSOCKET_OPENING, .error = error,
        });
}

static void websocket_take_end(WebSocket *w, const LinkFrame *frame) {
        WebSocketEnd end = { .failure = HTTP_FAILED_PROTOCOL, .opened = w->state != WEBSOCKET_OPENING, .error = "" };
        const char *name, *value;
        size_t size = frame->size;
        char *fields = frame->data;

        while (link_get(&fields, &size, &name, &value))
                if (streq(name, "failure"))
                        end.failure = http_failure_from_string(value);
                else if (streq(name, "status"))
                        end.status = strtol(value, NULL, 10);
                else if (streq(name, "code"))
                        end.code = (unsigned) strtoul(value, NULL, 10);
                else if (streq(name, "error"))
                        end.error = value;
        websocket_end(w, &end);
}

/* < 0: it makes no sense. Who is called may free w. */
static int websocket_take_frame(WebSocket *w, const LinkFrame *frame) {
        switch (frame->type) {
        case LINK_OPEN:
                if (w->state == WEBSOCKET_OPENING) {
                        w->state = WEBSOCKET_OPEN;
                        w->spec.on_open(w, w->spec.userdata);
                }
                return 0;
        case LINK_TEXT:
                if (w->state == WEBSOCKET_OPENING || frame->size == 0 || frame->data[frame->size - 1])
                        return -EPROTO;
                if (w->state == WEBSOCKET_OPEN)
                        w->spec.on_text(w, frame->data, frame->size - 1, w->spec.userdata);
                return 0;
        case LINK_END:
                websocket_take_end(w, frame);
                return 0;
        default:
                return -EPROTO;
        }
}

/* > 0: it is over, and w may be gone. */
static int websocket_take(WebSocket *w) {
        WebSocket *self = w;
        LinkFrame frame;
        unsigned n;
        int r = 0;

        w->alive = &self;
        for (n = 0; n < MESSAGES_PER_TURN && !w->paused; n++) {
                r = link_next(&w->link, w->spec.max_message + 1, &frame);
                if (r <= 0)
                        break;
                r = websocket_take_frame(w, &frame);
                if (!self)
                        return 1;
                if (r < 0 || w->state == WEBSOCKET_ENDED)
                        break;
        }
        w->alive = NULL;
        if (w->state == WEBSOCKET_ENDED)
                return 1;
        link_settle(&w->link);
        if (n == MESSAGES_PER_TURN)
                r = sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT);
        return r;
}

static void websocket_go_on(WebSocket *w, bool readable, bool hung_up) {
        int r, k = 0;

        link_write(&w->link);
        r = websocket_take(w);
        if (r == 0 && readable && !w->paused) {
                k = link_read(&w->link);
                if (k > 0)
                        r = websocket_take(w);
        }
        if (r > 0)
                return;
        if (r == 0 && k < 0)
                r = k;
        if (r == 0 && w->paused && hung_up)     /* it would wake us over and over */
                r = sd_event_source_set_enabled(w->link.io, SD_EVENT_OFF);
        if (r >= 0)
                r = link_watch(&w->link, !w->paused, /* writes= */ false);
        if (r == -EPIPE)
                websocket_fail(w, w->state == WEBSOCKET_OPENING ? HTTP_FAILED_CONNECT : HTTP_FAILED_CUT, LINK_IS_GONE);
        else if (r == -EPROTO)
                websocket_fail(w, HTTP_FAILED_PROTOCOL, "puffo-link says what makes no sense");
        else if (r < 0)
                websocket_fail(w, HTTP_FAILED_MEMORY, strerror(-r));
}

static int websocket_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        websocket_go_on(userdata, revents & (EPOLLIN | EPOLLHUP | EPOLLERR), revents & (EPOLLHUP | EPOLLERR));
        return 0;
}

static int websocket_on_turn(sd_event_source *s, void *userdata) {
        WebSocket *w = userdata;

        if (w->unreachable)
                websocket_fail(w, HTTP_FAILED_CONNECT, w->unreachable);
        else
                websocket_go_on(w, /* readable= */ false, /* hung_up= */ false);
        return 0;
}

/* ws:// to http://, and that is looked at. */
static int fields_format(const WebSocketSpec *spec, StrBuf *fields) {
        const struct { const char *name; uint64_t value; } numbers[] = {
                { "max-message", spec->max_message ?: MESSAGE_MAX },
                { "open-timeout", spec->open_timeout_usec },
                { "ping-interval", spec->ping_interval_usec },
                { "pong-timeout", spec->pong_timeout_usec },
                { "close-timeout", spec->close_timeout_usec },
        };
        _cleanup_free_ char *http = NULL;
        const char *rest;
        bool tls;
        int r;

        if ((rest = startswith(spec->url, "ws://")))
                http = strjoin("http://", rest);
        else if ((rest = startswith(spec->url, "wss://")))
                http = strjoin("https://", rest);
        else
                return -EINVAL;
        if (!http)
                return -ENOMEM;
        if (memchr(rest, '@', strcspn(rest, "/?")) || strchr(rest, '#'))
                return -EINVAL;

        r = http_url_check(http, &tls);
        if (r >= 0)
                r = link_put(fields, "url", spec->url);
        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                if (numbers[i].value > 0)
                        r = link_put_number(fields, numbers[i].name, numbers[i].value);
        return r < 0 ? r : link_put_proxy(fields, tls, spec->proxy, spec->no_proxy);
}

int websocket_new(WebSocket **ret, HttpClient *client, sd_event *event, const WebSocketSpec *spec) {
        _cleanup_(websocket_freep) WebSocket *w = NULL;
        _cleanup_(strbuf_done) StrBuf fields = {};
        int r;

        assert(ret && client && event && spec->url && spec->on_open && spec->on_text && spec->on_close);

        r = fields_format(spec, &fields);
        if (r < 0)
                return r;

        w = new0(WebSocket, 1);
        if (!w)
                return -ENOMEM;
        w->link.fd = -EBADF;
        w->spec = *spec;
        w->spec.url = w->spec.ca_file = w->spec.ca_text = w->spec.proxy = w->spec.no_proxy = NULL;
        w->spec.max_message = spec->max_message ?: MESSAGE_MAX;

        r = link_connect(&w->link, event, websocket_on_io, w, &w->unreachable);
        if (r >= 0)
                r = sd_event_add_defer(event, &w->turn, websocket_on_turn, w);
        if (r >= 0)
                r = sd_event_source_set_enabled(w->turn, w->unreachable ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
        if (r >= 0)
                r = link_send_certificates(&w->link, spec->ca_file, spec->ca_text);
        if (r >= 0 && !w->unreachable)
                r = link_send(&w->link, LINK_WEBSOCKET, fields.text, fields.size);
        if (r >= 0 && !w->unreachable)
                r = link_watch(&w->link, /* reads= */ true, /* writes= */ false);
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
        free(w->unreachable);
        return mfree(w);
}

int websocket_send_text(WebSocket *w, const char *text, size_t size) {
        int r;

        assert(w && text);

        if (w->state != WEBSOCKET_OPEN)
                return -ENOTCONN;
        if (link_queued(&w->link) + size > QUEUE_MAX)
                return -ENOBUFS;
        r = link_send(&w->link, LINK_TEXT, text, size);
        /* Goes out from the loop: what was queued in one turn leaves together. */
        return r < 0 ? r : link_watch(&w->link, !w->paused, /* writes= */ false);
}

static void websocket_say(WebSocket *w, LinkType type, const char *name, uint64_t value) {
        _cleanup_(strbuf_done) StrBuf fields = {};

        if (link_put_number(&fields, name, value) < 0 || link_send(&w->link, type, fields.text, fields.size) < 0)
                return;
        (void) link_watch(&w->link, !w->paused, /* writes= */ false);
}

void websocket_close(WebSocket *w, unsigned code) {
        assert(w);

        /* What is not open yet the link ends without being polite. */
        if ((w->state != WEBSOCKET_OPENING && w->state != WEBSOCKET_OPEN) || w->unreachable)
                return;
        if (w->state == WEBSOCKET_OPEN)
                w->state = WEBSOCKET_CLOSING;
        websocket_say(w, LINK_CLOSE, "code", code);
}

void websocket_probe(WebSocket *w, uint64_t timeout_usec) {
        assert(w);

        if (w->state == WEBSOCKET_OPEN)
                websocket_say(w, LINK_PROBE, "timeout", timeout_usec);
}

void websocket_pause(WebSocket *w, bool pause) {
        assert(w);

        if (w->paused == pause)
                return;
        w->paused = pause;
        if (w->state == WEBSOCKET_ENDED || w->unreachable)
                return;
        if (!pause) {
                (void) sd_event_source_set_enabled(w->link.io, SD_EVENT_ON);
                (void) sd_event_source_set_enabled(w->turn, SD_EVENT_ONESHOT);
        }
        (void) link_watch(&w->link, !pause, /* writes= */ false);
}
