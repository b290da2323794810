/* SPDX-License-Identifier: MIT */
#pragma once

#include "http-client.h"

/* The client's side of a WebSocket (RFC 6455) on sd-event: the connection (TLS, proxy) is libcurl's, the framing
 * libwslay's; or both are puffo-link's, see http-client.h. Pings are answered and sent, a peer that falls silent is
 * noticed, and it ends in on_close exactly once. No extension and no subprotocol is asked for. */
typedef struct WebSocket WebSocket;

#define WEBSOCKET_CLOSE_NORMAL 1000U
#define WEBSOCKET_CLOSE_GOING_AWAY 1001U
#define WEBSOCKET_CLOSE_NO_STATUS 1005U

typedef struct WebSocketEnd {
        HttpFailure failure;            /* HTTP_OK: both sides closed it properly */
        long status;                    /* HTTP's, when the server answered the opening with something else than 101 */
        unsigned code;                  /* the peer's close code, WEBSOCKET_CLOSE_NO_STATUS for none; 0: no close */
        bool opened;                    /* on_open was called */
        const char *error;              /* one printable line for logs, never NULL; borrowed for the callback */
} WebSocketEnd;

typedef struct WebSocketSpec {
        const char *url;                /* ws:// or wss:// */
        const char *ca_file;            /* trusted beside the system's; NULL: none */
        const char *ca_text;            /* the same, as what is in such a file; only one of them is looked at */
        const char *proxy, *no_proxy;   /* as HttpRequestSpec's */
        size_t max_message;             /* 0: 16 MiB */
        uint64_t open_timeout_usec;     /* connection and opening handshake; 0: 10 s */
        uint64_t ping_interval_usec;    /* 0: 20 s */
        uint64_t pong_timeout_usec;     /* 0: 20 s */
        uint64_t close_timeout_usec;    /* 0: 10 s */

        /* All from the event loop, none inside of a call to this module. Each may send, close or free the socket. */
        void (*on_open)(WebSocket *w, void *userdata);
        /* A whole text message: valid UTF-8, NUL-terminated past its size, borrowed for the call. */
        void (*on_text)(WebSocket *w, const char *text, size_t size, void *userdata);
        void (*on_close)(WebSocket *w, const WebSocketEnd *end, void *userdata);
        void *userdata;
} WebSocketSpec;

/* -EINVAL for a URL that is none, -ENOMEM, or why ca_file cannot be read. */
int websocket_new(WebSocket **ret, HttpClient *client, sd_event *event, const WebSocketSpec *spec);
/* Ends the connection without a word and without calling back. Free it before the HttpClient. */
WebSocket* websocket_free(WebSocket *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(WebSocket*, websocket_free);

/* Queues a text message. -ENOTCONN when it is not open, -ENOBUFS when the peer leaves what is queued already. */
int websocket_send_text(WebSocket *w, const char *text, size_t size);
/* Begins the closing handshake; on_close follows, at the latest after close_timeout_usec. */
void websocket_close(WebSocket *w, unsigned code);
/* Asks the peer for a sign of life within timeout_usec: after a resume nobody else tells that the connection died. */
void websocket_probe(WebSocket *w, uint64_t timeout_usec);
/* Hands out no messages, or goes on with it. After a while nothing more is read, and the peer's silence means
 * nothing. */
void websocket_pause(WebSocket *w, bool pause);
