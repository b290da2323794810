/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/epoll.h>

#include "event-util.h"
#include "exchange.h"
#include "link-wire.h"
#include "log.h"
#include "websocket.h"

/* What may wait for the client before its request or its WebSocket is paused, and until it goes on. */
#define ANSWER_HIGH KIB(256)
#define ANSWER_LOW KIB(64)
/* What may wait for the server before the client is not read from. */
#define BODY_HIGH KIB(128)
/* A message to a server that does not read is tried again after this. */
#define RETRY_USEC (100 * USEC_PER_MSEC)
#define TEXT_MAX MIB(4)
#define MESSAGE_MAX MIB(16)

struct Exchange {
        ExchangeSpec spec;
        LinkConnection link;
        sd_event_source *turn;          /* frames were left that can be taken now */
        sd_event_source *retry;
        char *certificates;
        HttpRequest *request;
        WebSocket *socket;
        StrBuf body;                    /* of the request, as far as it has come and was not sent */
        size_t body_taken;
        bool body_wanted, body_ended;
        bool stopped, full;             /* why the answer is paused: the client says so, or does not read */
        bool head_sent, ended;          /* ended: all has been said */
        LinkFrame held;                 /* a message that the server has no room for; type 0: none */
};

static void exchange_end(Exchange *x) {
        x->ended = true;
        x->request = http_request_free(x->request);
        x->socket = websocket_free(x->socket);
        x->turn = sd_event_source_disable_unref(x->turn);
        x->retry = sd_event_source_disable_unref(x->retry);
}

static void exchange_drop(Exchange *x, const char *why) {
        if (why)
                log_warning("A client of puffo-link is not served any more: %s.", why);
        exchange_end(x);
        x->spec.on_end(x, x->spec.userdata);
}

/* --- to the client --- */

static void exchange_pause(Exchange *x) {
        bool pause = x->stopped || x->full;

        if (x->request)
                http_request_pause(x->request, pause);
        if (x->socket)
                websocket_pause(x->socket, pause);
}

static bool exchange_reads(const Exchange *x) {
        return !x->ended && x->held.type == 0 && x->body.size - x->body_taken < BODY_HIGH;
}

/* Says what is queued, and sees to it that there will not be too much of it. */
static void exchange_flush(Exchange *x) {
        link_write(&x->link);
        if (link_queued(&x->link) > ANSWER_HIGH && !x->full) {
                x->full = true;
                exchange_pause(x);
        }
        /* The client has just read what was in the way, and nothing more will tell of it. Not from in here: where we
         * are called from, curl may be at work. */
        if (x->full && link_queued(&x->link) <= ANSWER_LOW && !x->ended)
                (void) sd_event_source_set_enabled(x->turn, SD_EVENT_ONESHOT);
        (void) link_watch(&x->link, exchange_reads(x), /* writes= */ false);
}

static int put_header(const char *name, const char *value, void *userdata) {
        /* libcurl hands out no line breaks, and what cannot be a line here is none for the client either. */
        return strchr(value, '\n') ? 0 : strbuf_printf(userdata, "header %s:%s\n", name, value);
}

static int send_head(Exchange *x, HttpRequest *q) {
        _cleanup_(strbuf_done) StrBuf fields = {};
        int r;

        if (x->head_sent || http_request_status(q) == 0)
                return 0;
        x->head_sent = true;
        r = link_put_number(&fields, "status", (uint64_t) http_request_status(q));
        if (r >= 0)
                r = http_request_each_header(q, put_header, &fields);
        return r < 0 ? r : link_send(&x->link, LINK_HEAD, fields.text, fields.size);
}

static int put_end(StrBuf *fields, HttpFailure failure, const char *error) {
        _cleanup_free_ char *text = str_printable(strempty(error), 500);
        int r = link_put(fields, "failure", http_failure_to_string(failure));

        if (r >= 0)
                r = text ? link_put(fields, "error", text) : -ENOMEM;
        return r;
}

/* Nothing but the last words is left; x may be gone behind it. */
static void exchange_say_end(Exchange *x, int error, const StrBuf *fields) {
        if (error >= 0)
                error = link_send(&x->link, LINK_END, fields->text, fields->size);
        exchange_end(x);
        if (error >= 0)
                exchange_flush(x);
        if (error < 0 || link_queued(&x->link) == 0)
                exchange_drop(x, error < 0 ? strerror(-error) : NULL);
}

static void exchange_fail(Exchange *x, HttpFailure failure, const char *error) {
        _cleanup_(strbuf_done) StrBuf fields = {};
        int r = put_end(&fields, failure, error);

        exchange_say_end(x, r, &fields);
}

/* --- a request --- */

static int on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        Exchange *x = userdata;
        int r;

        r = send_head(x, q);
        if (r >= 0)
                r = link_send_parts(&x->link, LINK_DATA, data, size);
        if (r < 0)
                return r;
        exchange_flush(x);
        return 0;
}

static ssize_t on_body(HttpRequest *q, char *buffer, size_t size, void *userdata) {
        Exchange *x = userdata;
        size_t n = MIN(size, x->body.size - x->body_taken);

        if (n == 0)
                return x->body_ended ? 0 : -EAGAIN;
        memcpy(buffer, x->body.text + x->body_taken, n);
        x->body_taken += n;
        if (x->body_taken == x->body.size) {
                strbuf_done(&x->body);
                x->body_taken = 0;
                /* The client may have been made to wait; not from in here, where curl is at work. */
                if (!x->body_ended)
                        (void) sd_event_source_set_enabled(x->turn, SD_EVENT_ONESHOT);
        }
        return (ssize_t) n;
}

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        _cleanup_(strbuf_done) StrBuf fields = {};
        Exchange *x = userdata;
        int r;

        r = send_head(x, q);
        if (r >= 0)
                r = put_end(&fields, reply->failure, reply->error);
        exchange_say_end(x, r, &fields);
}

typedef struct RequestFields {
        HttpRequestSpec spec;
        char **headers;
} RequestFields;

static void request_fields_done(RequestFields *f) {
        strv_free(f->headers);
}

static int request_fields_read(RequestFields *f, Exchange *x, const LinkFrame *frame) {
        const char *name, *value;
        size_t size = frame->size;
        char *fields = frame->data;
        int r = 0;

        while (r >= 0 && link_get(&fields, &size, &name, &value)) {
                const struct { const char *name; uint64_t *number; } numbers[] = {
                        { "connect-timeout", &f->spec.connect_timeout_usec },
                        { "idle-timeout", &f->spec.idle_timeout_usec },
                        { "total-timeout", &f->spec.total_timeout_usec },
                };

                for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                        if (streq(name, numbers[i].name))
                                r = parse_u64(value, numbers[i].number);
                if (streq(name, "method"))
                        f->spec.method = value;
                else if (streq(name, "url"))
                        f->spec.url = value;
                else if (streq(name, "header"))
                        r = strv_extend(&f->headers, value);
                else if (streq(name, "proxy"))
                        f->spec.proxy = value;
                else if (streq(name, "no-proxy"))
                        f->spec.no_proxy = value;
                else if (streq(name, "identity"))
                        f->spec.identity = streq(value, "yes");
                else if (streq(name, "body")) {
                        x->body_wanted = true;
                        f->spec.body_size = SIZE_MAX;
                        if (!streq(value, "unknown"))
                                r = parse_u64(value, &f->spec.body_size);
                }
        }
        return r < 0 ? r : f->spec.url ? 0 : -EINVAL;
}

static int begin_request(Exchange *x, const LinkFrame *frame) {
        _cleanup_(request_fields_done) RequestFields f = {
                .spec = {
                        .ca_text = x->certificates, .proxy = "", .any_status = true, .on_data = on_data,
                        .on_done = on_done, .userdata = x,
                },
        };
        int r = request_fields_read(&f, x, frame);

        if (r < 0)
                return r;
        f.spec.headers = (const char *const*) f.headers;
        if (x->body_wanted && f.spec.body_size > 0)
                f.spec.on_body = on_body;
        else
                f.spec.has_body = x->body_wanted;
        return http_client_start(x->spec.http, &f.spec, &x->request);
}

/* --- a WebSocket --- */

static void on_open(WebSocket *w, void *userdata) {
        Exchange *x = userdata;

        if (link_send(&x->link, LINK_OPEN, NULL, 0) < 0)
                exchange_drop(x, "there is no memory");
        else
                exchange_flush(x);
}

static void on_text(WebSocket *w, const char *text, size_t size, void *userdata) {
        Exchange *x = userdata;

        if (link_send(&x->link, LINK_TEXT, text, size + 1) < 0)
                exchange_drop(x, "there is no memory");
        else
                exchange_flush(x);
}

static void on_close(WebSocket *w, const WebSocketEnd *end, void *userdata) {
        _cleanup_(strbuf_done) StrBuf fields = {};
        Exchange *x = userdata;
        int r;

        r = put_end(&fields, end->failure, end->error);
        if (r >= 0)
                r = link_put_number(&fields, "status", (uint64_t) end->status);
        if (r >= 0)
                r = link_put_number(&fields, "code", end->code);
        exchange_say_end(x, r, &fields);
}

static int begin_websocket(Exchange *x, const LinkFrame *frame) {
        WebSocketSpec spec = {
                .ca_text = x->certificates, .proxy = "", .on_open = on_open, .on_text = on_text, .on_close = on_close,
                .userdata = x,
        };
        const char *name, *value;
        size_t size = frame->size;
        uint64_t max_message = 0;
        char *fields = frame->data;
        int r = 0;

        while (r >= 0 && link_get(&fields, &size, &name, &value)) {
                const struct { const char *name; uint64_t *number; } numbers[] = {
                        { "max-message", &max_message },
                        { "open-timeout", &spec.open_timeout_usec },
                        { "ping-interval", &spec.ping_interval_usec },
                        { "pong-timeout", &spec.pong_timeout_usec },
                        { "close-timeout", &spec.close_timeout_usec },
                };

                for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                        if (streq(name, numbers[i].name))
                                r = parse_u64(value, numbers[i].number);
                if (streq(name, "url"))
                        spec.url = value;
                else if (streq(name, "proxy"))
                        spec.proxy = value;
                else if (streq(name, "no-proxy"))
                        spec.no_proxy = value;
        }
        if (r < 0 || !spec.url)
                return -EINVAL;
        spec.max_message = MIN(max_message, MESSAGE_MAX);
        return websocket_new(&x->socket, x->spec.http, x->spec.event, &spec);
}

/* > 0: there is no room for it just now. */
static int send_text(Exchange *x, const LinkFrame *frame) {
        int r = websocket_send_text(x->socket, frame->data, frame->size);

        /* One that is closing takes no more, which its client will hear soon. */
        return r == -ENOBUFS ? 1 : r == -ENOTCONN ? 0 : r;
}

static uint64_t number_of(const LinkFrame *frame, const char *wanted) {
        const char *name, *value;
        size_t size = frame->size;
        char *fields = frame->data;
        uint64_t number = 0;

        while (link_get(&fields, &size, &name, &value))
                if (streq(name, wanted))
                        (void) parse_u64(value, &number);
        return number;
}

/* --- from the client --- */

static int take_body(Exchange *x, const LinkFrame *frame) {
        int r;

        if (!x->body_wanted || x->body_ended)
                return -EPROTO;
        if (frame->type == LINK_BODY_END)
                x->body_ended = true;
        else {
                strbuf_consume(&x->body, x->body_taken);
                x->body_taken = 0;
                r = strbuf_append(&x->body, frame->data, frame->size);
                if (r < 0)
                        return r;
        }
        http_request_continue(x->request);
        return 0;
}

static int take_beginning(Exchange *x, const LinkFrame *frame) {
        int r;

        switch (frame->type) {
        case LINK_CERTIFICATES:
                if (x->certificates)
                        return -EPROTO;
                x->certificates = memdup0(frame->data, frame->size);
                return x->certificates ? 0 : -ENOMEM;
        case LINK_REQUEST:
                r = begin_request(x, frame);
                break;
        case LINK_WEBSOCKET:
                r = begin_websocket(x, frame);
                break;
        default:
                return -EPROTO;
        }
        x->certificates = mfree(x->certificates);
        if (r == -EINVAL)
                exchange_fail(x, HTTP_FAILED_PROTOCOL, "This is nothing that can be asked for");
        else if (r < 0)
                exchange_fail(x, HTTP_FAILED_MEMORY, strerror(-r));
        return r < 0 ? -ECANCELED : 0;
}

/* > 0: there is no room for it now; -ECANCELED: it is over, and x may be gone. */
static int take_frame(Exchange *x, const LinkFrame *frame) {
        if (!x->request && !x->socket)
                return take_beginning(x, frame);

        if (x->request)
                switch (frame->type) {
                case LINK_BODY:
                case LINK_BODY_END:
                        return take_body(x, frame);
                case LINK_STOP:
                case LINK_GO:
                        x->stopped = frame->type == LINK_STOP;
                        exchange_pause(x);
                        return 0;
                default:
                        return -EPROTO;
                }

        switch (frame->type) {
        case LINK_TEXT:
                return send_text(x, frame);
        case LINK_CLOSE:
                websocket_close(x->socket, (unsigned) number_of(frame, "code"));
                return 0;
        case LINK_PROBE:
                websocket_probe(x->socket, number_of(frame, "timeout"));
                return 0;
        default:
                return -EPROTO;
        }
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata);

/* < 0: as take_frame() says. */
static int take_frames(Exchange *x) {
        int r = 0;

        if (x->held.type) {
                r = send_text(x, &x->held);
                if (r > 0)
                        return event_arm_timer(x->spec.event, &x->retry, RETRY_USEC, RETRY_USEC / 4, on_retry, x);
                x->held.type = 0;
        }
        while (r == 0 && exchange_reads(x)) {
                LinkFrame frame;

                r = link_next(&x->link, TEXT_MAX, &frame);
                if (r <= 0)
                        break;
                r = take_frame(x, &frame);
                if (r > 0) {
                        /* It stays where it is: nothing is read meanwhile. */
                        x->held = frame;
                        return event_arm_timer(x->spec.event, &x->retry, RETRY_USEC, RETRY_USEC / 4, on_retry, x);
                }
        }
        if (r == 0)
                link_settle(&x->link);
        return r;
}

static void exchange_go_on(Exchange *x, bool readable) {
        int r = 0, k = 0;

        link_write(&x->link);
        if (x->ended) {
                if (link_queued(&x->link) == 0)
                        exchange_drop(x, NULL);
                return;
        }
        if (x->full && link_queued(&x->link) <= ANSWER_LOW) {
                x->full = false;
                exchange_pause(x);
        }
        r = take_frames(x);
        if (r == 0 && readable && exchange_reads(x)) {
                k = link_read(&x->link);
                if (k > 0)
                        r = take_frames(x);
        }
        if (r == -ECANCELED)
                return;
        if (r == 0 && k < 0 && k != -EPIPE)
                r = k;
        if (r < 0)
                exchange_drop(x, r == -EPROTO ? "it says what makes no sense" : strerror(-r));
        else if (k == -EPIPE)
                exchange_drop(x, NULL);
        else
                exchange_flush(x);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Exchange *x = userdata;

        /* Who has gone wants nothing of it any more. */
        if (revents & (EPOLLHUP | EPOLLERR))
                exchange_drop(x, NULL);
        else
                exchange_go_on(x, revents & EPOLLIN);
        return 0;
}

static int on_turn(sd_event_source *s, void *userdata) {
        exchange_go_on(userdata, /* readable= */ false);
        return 0;
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        exchange_go_on(userdata, /* readable= */ false);
        return 0;
}

int exchange_new(Exchange **ret, const ExchangeSpec *spec, int fd) {
        _cleanup_(exchange_freep) Exchange *x = new0(Exchange, 1);
        int r;

        if (!x) {
                (void) safe_close(fd);
                return -ENOMEM;
        }
        x->spec = *spec;
        r = link_connection_init(&x->link, spec->event, fd, on_io, x);
        if (r >= 0)
                r = sd_event_add_defer(spec->event, &x->turn, on_turn, x);
        if (r >= 0)
                r = sd_event_source_set_enabled(x->turn, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(x);
        return 0;
}

Exchange* exchange_free(Exchange *x) {
        if (!x)
                return NULL;

        exchange_end(x);
        link_connection_done(&x->link);
        if (x->body.text)
                explicit_bzero(x->body.text, x->body.allocated);
        strbuf_done(&x->body);
        free(x->certificates);
        return mfree(x);
}
