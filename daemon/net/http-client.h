/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "macro.h"

struct sockaddr;

/* HTTP requests on sd-event. Connections are kept alive and shared by the requests of an HttpClient. Nothing here
 * blocks.
 *
 * There are two of this, and of websocket.h: by libcurl (name resolution runs in its own thread), and by way of
 * puffo-link (link-client.h), for processes that are to have neither TLS nor a parser of HTTP. A program links one. */
typedef struct HttpClient HttpClient;
typedef struct HttpRequest HttpRequest;

typedef enum HttpFailure {
        HTTP_OK,                /* the exchange ended; look at status */
        HTTP_FAILED_CONNECT,    /* name, route, refused, connect time-out */
        HTTP_FAILED_TLS,        /* certificate or handshake: permanent until somebody changes something */
        HTTP_FAILED_TIMEOUT,    /* idle or total limit */
        HTTP_FAILED_CUT,        /* connection lost, or body shorter than announced */
        HTTP_FAILED_TOO_LARGE,  /* body over max_body */
        HTTP_FAILED_PROTOCOL,   /* no HTTP, bad URL, unsupported scheme */
        HTTP_FAILED_MEMORY,
} HttpFailure;

typedef struct HttpReply {
        HttpFailure failure;
        long status;            /* 0 before a status line was seen */
        const char *error;      /* text for logs when failure is not HTTP_OK; borrowed for the callback */
        const char *body;       /* whole body when the request had no on_data; NUL-terminated; borrowed */
        size_t body_size;
} HttpReply;

/* A part of the body, as it comes. Called only for 2xx; other bodies are collected for on_done. May pause q, but free
 * nothing, and must not start or cancel requests of this client. Return < 0 to abort the request (ends as
 * HTTP_FAILED_CUT). */
typedef int (*http_data_t)(HttpRequest *q, const char *data, size_t size, void *userdata);

/* The body to be sent, as the connection takes it: returns how many bytes were put into the buffer, 0 at its end,
 * -EAGAIN when there are none at present (http_request_continue() says when), else < 0 to abort the request (ends as
 * HTTP_FAILED_CUT). What on_data must not do, this must not either. */
typedef ssize_t (*http_body_t)(HttpRequest *q, char *buffer, size_t size, void *userdata);

/* Called exactly once, from the event loop, never from inside http_client_start(); not called after
 * http_request_free(). The callback may free q and start or free other requests, but not free the client. */
typedef void (*http_done_t)(HttpRequest *q, const HttpReply *reply, void *userdata);

typedef struct HttpRequestSpec {
        const char *method;             /* NULL: GET, or POST when there is a body */
        const char *url;                /* http:// or https:// only */
        const char *const *headers;     /* NULL-terminated "Name: value"; may carry secrets, never logged */
        const void *body;               /* copied */
        size_t body_size;
        bool has_body;
        http_body_t on_body;            /* instead of body; body_size is then what will come, SIZE_MAX: not known */
        /* on_body is to begin anew: the kept connection that it was sent over turned out to be dead. NULL: the first
         * MiB is remembered for that, and a request that was further ends as HTTP_FAILED_CUT. */
        void (*on_rewind)(HttpRequest *q, void *userdata);
        uint64_t connect_timeout_usec;  /* 0: 10 s */
        uint64_t idle_timeout_usec;     /* no byte for so long; 0: 120 s */
        uint64_t total_timeout_usec;    /* 0: none */
        size_t max_body;                /* of a collected body; 0: 16 MiB */
        const char *ca_file;            /* trusted in addition to the system's; NULL: none */
        const char *ca_text;            /* the same, as what is in such a file; only one of them is looked at */
        http_data_t on_data;            /* NULL: collect */
        bool any_status;                /* on_data is called whatever the status is */
        bool identity;                  /* gzip is not asked for; undone all the same when it comes */
        const char *proxy;              /* instead of the environment's; "": none */
        const char *no_proxy;           /* what goes around it, as in the environment; NULL: no host */
        /* Whether there may be a connection to this address, which a name was found to have. Not called with a proxy.
         * NULL: to any. By way of puffo-link nobody can be asked: -EOPNOTSUPP. */
        bool (*check_address)(const struct sockaddr *address, void *userdata);
        http_done_t on_done;
        void *userdata;
} HttpRequestSpec;

/* -ENOMEM, -EIO. */
int http_client_new(HttpClient **ret, sd_event *event);
/* Aborts what is under way without calling back. Free it before the loop itself. */
HttpClient* http_client_free(HttpClient *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(HttpClient*, http_client_free);

/* Starts a request. On success *ret is the caller's, to be freed at any time (which cancels it). -EINVAL for a bad
 * URL, method or header (control characters), -ENOMEM, or why ca_file cannot be read. Proxies are taken from the
 * environment of this process, redirects are not followed, gzip is accepted and undone. */
int http_client_start(HttpClient *c, const HttpRequestSpec *spec, HttpRequest **ret);
/* A connection to the host of an http(s):// URL, through the proxy if there is one, with TLS done: on_connected is
 * called, then it is the caller's to use as long as *ret is there. Or else spec->on_done is called. Errors as above. */
int http_client_connect(HttpClient *c, const HttpRequestSpec *spec,
                        void (*on_connected)(HttpRequest *q, void *userdata), HttpRequest **ret);
/* A descriptor of such a connection's socket, which stays when the request goes. -ENOTCONN, errors of fcntl(2). */
int http_request_dup_socket(HttpRequest *q);
HttpRequest* http_request_free(HttpRequest *q);
DEFINE_TRIVIAL_CLEANUP_FUNC(HttpRequest*, http_request_free);

/* Stops reading the answer, or goes on, which may call on_data at once; nothing times out meanwhile but the whole. */
void http_request_pause(HttpRequest *q, bool pause);

/* There is more of the body to be sent, or that was all: on_body may be called at once. */
void http_request_continue(HttpRequest *q);

/* Calls back for each header of the (last) response, in on_data or on_done; a result < 0 ends it and is returned. */
int http_request_each_header(HttpRequest *q, int (*callback)(const char *name, const char *value, void *userdata),
                             void *userdata);

/* A header of the (last) response, case-insensitive, or NULL. Borrowed. Valid in on_data and on_done. */
const char* http_request_header(HttpRequest *q, const char *name);
long http_request_status(HttpRequest *q);

/* Retry-After / retry-after-ms of a response (seconds as a decimal, or an HTTP date), in µs from now.
 * USEC_INFINITY when there is none or it is nonsense. */
uint64_t http_request_retry_after(HttpRequest *q);

/* Joins a base URL (which may have a path prefix) and an absolute path without doubling or losing a '/'. */
char* http_url_join(const char *base, const char *path);
