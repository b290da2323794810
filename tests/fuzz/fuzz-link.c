/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "event-util.h"
#include "exchange.h"
#include "fuzz.h"
#include "websocket.h"

/* What a client says to puffo-link, and what comes from a server meanwhile: requests and WebSockets are played here.
 * An input is made of what happens: a letter, how much of it, and for what the client says that many bytes. */

struct HttpRequest {
        HttpRequestSpec spec;
};

struct WebSocket {
        WebSocketSpec spec;
        bool open, is_full;
};

static HttpRequest *request;
static WebSocket *websocket;
static char block[65536 + 1];

int http_client_start(HttpClient *c, const HttpRequestSpec *spec, HttpRequest **ret) {
        /* All that it points to has to be there, and is only there now. */
        if (!spec->url || (spec->ca_text && strlen(spec->ca_text) > MIB(1)))
                abort();
        for (const char *const *h = spec->headers; h && *h; h++)
                if (strchr(*h, '\n'))
                        abort();
        if (strlen(spec->url) % 7 == 3)
                return -EINVAL;
        request = *ret = new0(HttpRequest, 1);
        if (!request)
                abort();
        request->spec = *spec;
        return 0;
}

HttpRequest* http_request_free(HttpRequest *q) {
        if (q && q != request)
                abort();
        if (q)
                request = NULL;
        return mfree(q);
}

void http_request_pause(HttpRequest *q, bool pause) {
        if (q != request)
                abort();
}

static void take_body(size_t n) {
        char buffer[256];

        while (request && request->spec.on_body && n-- > 0)
                if (request->spec.on_body(request, buffer, sizeof(buffer), request->spec.userdata) <= 0)
                        return;
}

void http_request_continue(HttpRequest *q) {
        if (q != request)
                abort();
        take_body(3);
}

int http_request_each_header(HttpRequest *q, int (*callback)(const char *name, const char *value, void *userdata),
                             void *userdata) {
        return callback("x-a", "b", userdata);
}

long http_request_status(HttpRequest *q) {
        return 200;
}

int websocket_new(WebSocket **ret, HttpClient *client, sd_event *event, const WebSocketSpec *spec) {
        if (!spec->url || spec->max_message > MIB(16))
                abort();
        if (strlen(spec->url) % 7 == 3)
                return -EINVAL;
        websocket = *ret = new0(WebSocket, 1);
        if (!websocket)
                abort();
        websocket->spec = *spec;
        return 0;
}

WebSocket* websocket_free(WebSocket *w) {
        if (w && w != websocket)
                abort();
        if (w)
                websocket = NULL;
        return mfree(w);
}

int websocket_send_text(WebSocket *w, const char *text, size_t size) {
        unsigned sum = 0;

        for (size_t i = 0; i < size; i++)
                sum += (unsigned char) text[i];
        return w->is_full ? -ENOBUFS : w->open ? (int) (sum & 0) : -ENOTCONN;
}

void websocket_close(WebSocket *w, unsigned code) {
        if (w != websocket)
                abort();
}

void websocket_probe(WebSocket *w, uint64_t timeout_usec) {
        if (w != websocket)
                abort();
}

void websocket_pause(WebSocket *w, bool pause) {
        if (w != websocket)
                abort();
}

static void on_end(Exchange *x, void *userdata) {
        Exchange **exchange = userdata;

        if (x != *exchange)
                abort();
        *exchange = exchange_free(x);
}

static void from_server(char what, size_t n) {
        const HttpReply reply = { .failure = (HttpFailure) (n % 8), .status = 200, .error = "no\nreason", .body = "" };
        const WebSocketEnd end = { .failure = (HttpFailure) (n % 8), .error = "no\nreason", .code = 1000 };

        if (request && what == 'd')
                (void) request->spec.on_data(request, block, n * 255, request->spec.userdata);
        else if (request && what == 'b')
                take_body(n);
        else if (request && what == 'e')
                request->spec.on_done(request, &reply, request->spec.userdata);
        else if (websocket && what == 'o' && !websocket->open) {
                websocket->open = true;
                websocket->spec.on_open(websocket, websocket->spec.userdata);
        } else if (websocket && what == 't' && websocket->open)
                websocket->spec.on_text(websocket, block, n * 255, websocket->spec.userdata);
        else if (websocket && what == 'f')
                websocket->is_full = n % 2;
        else if (websocket && what == 'e')
                websocket->spec.on_close(websocket, &end, websocket->spec.userdata);
}

static void run(sd_event *event) {
        for (unsigned i = 0; i < 50 && sd_event_run(event, 0) > 0; i++)
                ;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Exchange *exchange = NULL;
        sd_event *event = NULL;
        char buffer[4096];
        int fds[2];

        if (sd_event_new(&event) < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0 ||
            exchange_new(&exchange, &(ExchangeSpec) { .event = event, .on_end = on_end, .userdata = &exchange },
                         fds[0]) < 0)
                abort();

        while (size >= 2 && exchange) {
                size_t n = data[1];
                char what = (char) data[0];

                data += 2;
                size -= 2;
                if (what == 's') {
                        n = MIN(n, size);
                        (void) !write(fds[1], data, n);
                        data += n;
                        size -= n;
                } else if (what == 'r')
                        (void) !read(fds[1], buffer, sizeof(buffer));
                else if (what == 'c')
                        fds[1] = safe_close(fds[1]);
                else
                        from_server(what, n);
                run(event);
        }

        exchange = exchange_free(exchange);
        if (request || websocket)
                abort();
        safe_close(fds[1]);
        sd_event_unref(event);
        return 0;
}
