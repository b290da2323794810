/* SPDX-License-Identifier: MIT */
#pragma once

#include <microhttpd.h>
#include <sys/queue.h>

#include "http-server.h"
#include "string-util.h"

/* Shared by http-server.c (daemon, connections, what libmicrohttpd calls) and http-exchange.c (what a handler calls).
 *
 * Life of an exchange: made when the request line is there, "headed" once on_head() was called, "requested" once
 * on_request() was; it ends in libmicrohttpd's completion callback and nowhere else. Whatever a handler does outside
 * of a callback only leaves a note here and wakes the connection; libmicrohttpd is driven by its own callbacks. */

typedef struct HttpConnection {
        HttpServer *server;
        struct MHD_Connection *mhd;
        HttpExchange *exchange;         /* the running one */
        int fd;                         /* libmicrohttpd's */
        sd_event_source *watch;         /* sees the client leave: suspended connections are watched by nobody else */
        bool suspended;
        bool linger;                    /* was answered with part of the request unread */
        struct HttpPatience *waiting;   /* what for; NULL: the client has done its part */
        uint64_t waiting_since_usec;
        void *data;
        void (*destroy)(void *data);
        struct sockaddr_storage peer, local;
        LIST_ENTRY(HttpConnection) connections;
        TAILQ_ENTRY(HttpConnection) queue;
} HttpConnection;

struct HttpExchange {
        HttpServer *server;
        HttpConnection *connection;
        const char *method;             /* borrowed from libmicrohttpd */
        char *path, *query;             /* as sent; query may be NULL */
        char *decoded;                  /* the query, on demand … */
        const char **parameters;        /* … and in it: name, value, name, value … */
        StrBuf body;
        size_t taken, discarded;        /* of a body that is streamed; of one over the limit */
        size_t body_length;
        bool streams_body;
        bool expects_body, ignores_body, http10, headed, requested, oversize;

        char **headers;                 /* of the answer: name, value … */
        unsigned status;
        struct MHD_Response *response;  /* ready to be queued */
        bool answered, queued, streaming, ended, broken, blocked;
        StrBuf out;
        size_t out_offset;
        bool gone, aborted;
        bool writable;                  /* in the server's list of those to be told */
        void *userdata;
        LIST_ENTRY(HttpExchange) writables;
};

typedef struct HttpLinger HttpLinger;

LIST_HEAD(HttpConnectionList, HttpConnection);
LIST_HEAD(HttpExchangeList, HttpExchange);
LIST_HEAD(HttpLingerList, HttpLinger);
TAILQ_HEAD(HttpConnectionQueue, HttpConnection);

/* How long clients may take for one thing, however busily they send, and who is at it; the longest first. */
typedef struct HttpPatience {
        HttpServer *server;
        uint64_t limit_usec;
        sd_event_source *timer;
        struct HttpConnectionQueue queue;
} HttpPatience;

struct HttpServer {
        sd_event *event;
        HttpServerSpec spec;
        struct MHD_Daemon *mhd;
        sd_event_source *io, *timer;
        HttpPatience head, body;
        struct HttpConnectionList connections;
        struct HttpExchangeList writable;
        struct HttpLingerList lingering;
        unsigned n_connections, n_exchanges, n_lingering;
        bool running;                   /* inside MHD_run(): the timer is looked after at its end */
        bool resumed;                   /* meanwhile something came up that it does not know of */
        bool quiesced, stopping;
};

/* Has libmicrohttpd look at the connection of x again, if it sleeps. */
void exchange_wake(HttpExchange *x);
/* Closes the connection as soon as libmicrohttpd gets to it. */
void exchange_hang_up(HttpExchange *x);
/* The client has to go on with its body, in good time. */
void exchange_expect_body(HttpExchange *x);
/* Puts the connection to sleep; only inside of libmicrohttpd's callbacks. */
int exchange_suspend(HttpExchange *x);
