/* SPDX-License-Identifier: MIT */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* An HTTP server on libmicrohttpd and sd-event, on listening sockets that systemd hands over. It knows nothing of
 * routes or authorisation: it calls back once when the head of a request is there (checks that must come before the
 * body is read), once more when the body is complete, and is answered whenever the handler is ready. */
typedef struct HttpServer HttpServer;
typedef struct HttpExchange HttpExchange;       /* one request and its answer; owned by the server */

typedef struct HttpServerSpec {
        /* The head has been read. Answer here (http_exchange_reply) to refuse before any of the body is taken;
         * otherwise return and wait for on_request. */
        void (*on_head)(HttpExchange *x, void *userdata);
        /* Instead of on_head, for a head that is not to be trusted (what its body is, is not beyond doubt: status 400)
         * or is over 16 KiB (431): answer here, with nothing but an error. on_end is called for it, too. NULL: a plain
         * text. */
        void (*on_malformed)(HttpExchange *x, unsigned status, void *userdata);
        /* The body is complete (or there is none). Answer now or later, exactly once. */
        void (*on_request)(HttpExchange *x, void *userdata);
        /* A piece of the body, of an exchange that takes it piecemeal (http_exchange_stream_body()). Returns how much
         * was taken; when that is less than all, nothing comes before http_exchange_continue_body(), and then the rest
         * first. on_request follows behind the last. */
        size_t (*on_body)(HttpExchange *x, const char *data, size_t size, void *userdata);
        /* The exchange is over: answered and sent, or the client has gone. Frees what the handler keeps in
         * http_exchange_set_userdata(); x is invalid afterwards. Called exactly once for each on_head. client_gone is
         * set when the client closed its side (a half-closed connection counts), broke off, sent a broken body or
         * stopped reading; not for an abort of ours or the server's end. */
        void (*on_end)(HttpExchange *x, bool client_gone, void *userdata);
        /* A streaming answer's buffer has drained below its low mark after http_exchange_stream_write() returned 0. */
        void (*on_writable)(HttpExchange *x, void *userdata);
        size_t max_body;                /* 413 through on_oversize or a plain one */
        void (*on_oversize)(HttpExchange *x, void *userdata);   /* answer here; NULL: bare 413 */
        unsigned max_connections;       /* 0: 512. When they run out, the longest without a request is closed */
        unsigned idle_timeout_seconds;  /* while we wait for the client; 0: 60. Not while the handler works. For a head
                                         * as a whole too, and five times that for a body as a whole */
        void *userdata;
} HttpServerSpec;

/* listen_fd is taken over, on failure too. Several servers may share one event loop. */
int http_server_new(HttpServer **ret, sd_event *event, int listen_fd, const HttpServerSpec *spec);
/* Ends all exchanges (on_end is called for each) and closes. */
HttpServer* http_server_free(HttpServer *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(HttpServer*, http_server_free);
/* Stops taking new connections and closes idle ones; running exchanges go on, and their connections close behind them.
 * > 0 while there are any. */
int http_server_quiesce(HttpServer *s);
unsigned http_server_n_exchanges(HttpServer *s);

/* What was asked. All of it is borrowed from the exchange. */
const char* http_exchange_method(HttpExchange *x);
const char* http_exchange_path(HttpExchange *x);        /* decoded by nobody: exactly as sent, without the query */
const char* http_exchange_header(HttpExchange *x, const char *name);    /* NULL when absent */
/* How often the header was sent: Host, Origin and the like must be refused when doubled. */
unsigned http_exchange_header_count(HttpExchange *x, const char *name);
/* As sent, without the '?'; NULL when there is none. */
const char* http_exchange_raw_query(HttpExchange *x);
/* Calls back for each header of the request; a result < 0 ends it and is returned. */
int http_exchange_each_header(HttpExchange *x, int (*callback)(const char *name, const char *value, void *userdata),
                              void *userdata);
const char* http_exchange_query(HttpExchange *x, const char *name);     /* decoded value or NULL */
const char* http_exchange_body(HttpExchange *x, size_t *ret_size);      /* NUL-terminated, never NULL in on_request */
/* In on_head: the handler has no use for the body. It is read, as it must be, and thrown away; http_exchange_body() is
 * empty. What anybody may ask for without showing who they are must not cost memory. */
void http_exchange_ignore_body(HttpExchange *x);
/* In on_head: the body goes to on_body as it comes. With an answer the rest of it is thrown away. */
void http_exchange_stream_body(HttpExchange *x);
void http_exchange_continue_body(HttpExchange *x);
/* How long the body will be: 0 for none, SIZE_MAX when that is not known. */
size_t http_exchange_body_length(HttpExchange *x);
/* Socket addresses of this connection (sockaddr_storage), for finding out who the peer is. */
const struct sockaddr* http_exchange_peer(HttpExchange *x);
const struct sockaddr* http_exchange_local(HttpExchange *x);
/* Where a connection's own findings (who the peer is) may be kept: survives to the next request on it. */
void* http_exchange_connection_data(HttpExchange *x);
void http_exchange_set_connection_data(HttpExchange *x, void *data, void (*destroy)(void *));

/* The handler's own, of this exchange: to be freed in on_end. */
void http_exchange_set_userdata(HttpExchange *x, void *userdata);
void* http_exchange_userdata(HttpExchange *x);

/* A header of the answer; call before the reply. -EINVAL on control characters, -ENOMEM. */
int http_exchange_add_header(HttpExchange *x, const char *name, const char *value);
/* The whole answer. body is copied. -EALREADY when there is one. After a reply in on_head the rest of the request is
 * not read and the connection is closed behind the answer. < 0: not even that was possible, the connection is being
 * closed. */
int http_exchange_reply(HttpExchange *x, unsigned status, const char *content_type, const void *body, size_t size);

/* The same with a body that lasts as long as the program, and is not copied. */
int http_exchange_reply_static(HttpExchange *x, unsigned status, const char *content_type, const void *body,
                               size_t size);

/* A streaming (chunked) answer: the head goes out at once. */
int http_exchange_stream_begin(HttpExchange *x, unsigned status, const char *content_type);
/* Queues bytes (copied). > 0: there is room for more; 0: above the high mark, wait for on_writable before producing
 * more (these bytes were taken all the same); -ENOBUFS above the hard limit (nothing taken); -EPIPE after the client
 * left. */
int http_exchange_stream_write(HttpExchange *x, const void *data, size_t size);
/* The proper end of the stream (terminating chunk). */
void http_exchange_stream_end(HttpExchange *x);
/* The end of a stream that broke off: what is queued still goes out, then the connection is closed without a proper
 * end. */
void http_exchange_stream_break(HttpExchange *x);
/* Closes the connection without a proper end, so that the client notices. */
void http_exchange_abort(HttpExchange *x);
