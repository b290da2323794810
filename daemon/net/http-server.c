/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <strings.h>

#include "event-util.h"
#include "http-server-internal.h"
#include "http-util.h"

/* What libmicrohttpd refuses by itself never gets to a handler, and what it says then (a few words of HTML) cannot be
 * replaced: up to 1.0 there is no hook for it, before the head is complete there is nothing to answer to, and after a
 * reply of its own it calls nobody. That is left to it: a request line without a version of 1.x (400, 505, or no
 * answer at all), a header line without a colon, a Content-Length that is no number or not below 2^64, chunks that are
 * none (400, 413), and a head over CONNECTION_MEMORY (414, 431). What else it would refuse when told to be strict is
 * looked for here, see exchange_check_framing(): then the handler gives the answer. */

/* libmicrohttpd without threads: its epoll descriptor is a source of our loop, its time-outs a timer. After anything
 * that gives it work from outside (a resumed connection) the timer is set to "at once": nothing else would wake it. */

#define MAX_CONNECTIONS 512U
#define IDLE_TIMEOUT_SECONDS 60U
/* A head has to be complete within one such time, a body within so many of them. */
#define BODY_TIMES 5U

/* Heads up to here are taken, and those up to the next are refused in our own words. */
#define HEAD_MAX KIB(16)
/* Holds the head of a request, a record for each header and, while answering, the answer's head and the chunk being
 * sent: without room for an answer libmicrohttpd closes the connection. */
#define CONNECTION_MEMORY KIB(32)

/* The rest of a body over the limit is read and thrown away, so that the client gets to read the answer: but only so
 * much of it. */
#define DISCARD_MAX MIB(64)

/* Closing a socket that has unread bytes resets it, and the client may lose the answer that was just sent. */
#define LINGER_USEC (5 * USEC_PER_SEC)
#define LINGER_MAX 32U

struct HttpLinger {
        HttpServer *server;
        sd_event_source *io, *timer;
        size_t discarded;
        LIST_ENTRY(HttpLinger) lingering;
};

static int server_on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void server_kick(HttpServer *s) {
        /* Inside of MHD_run() the timer is armed at its end. */
        if (!s->running)
                (void) event_arm_timer(s->event, &s->timer, 0, /* accuracy= */ 1, server_on_timer, s);
}

static void server_run(HttpServer *s) {
        MHD_UNSIGNED_LONG_LONG msec;
        HttpExchange *x;

        s->running = true;
        s->resumed = false;
        (void) MHD_run(s->mhd);

        while ((x = LIST_FIRST(&s->writable))) {
                LIST_REMOVE(x, writables);
                x->writable = false;
                if (s->spec.on_writable && !x->gone && !x->aborted)
                        s->spec.on_writable(x, s->spec.userdata);
        }
        s->running = false;

        if (s->resumed)
                server_kick(s);
        else if (MHD_get_timeout(s->mhd, &msec) == MHD_YES)
                (void) event_arm_timer(s->event, &s->timer, (uint64_t) msec * USEC_PER_MSEC, /* accuracy= */ 1,
                                       server_on_timer, s);
        else if (s->timer)
                (void) sd_event_source_set_enabled(s->timer, SD_EVENT_OFF);
}

static int server_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        server_run(userdata);
        return 0;
}

static int server_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        server_run(userdata);
        return 0;
}

void exchange_wake(HttpExchange *x) {
        HttpConnection *c = x->connection;

        /* Only a sleeping connection may be resumed: libmicrohttpd would take the note for its next sleep. */
        if (!c->suspended)
                return;

        c->suspended = false;
        x->server->resumed = true;
        MHD_resume_connection(c->mhd);
        server_kick(x->server);
}

void exchange_hang_up(HttpExchange *x) {
        HttpConnection *c = x->connection;

        /* Without chunks the end of the connection is the end of the body: only a reset says that it is none. */
        if (x->http10 && x->streaming)
                (void) connect(c->fd, &(struct sockaddr) { .sa_family = AF_UNSPEC }, sizeof(struct sockaddr));
        (void) shutdown(c->fd, SHUT_RDWR);
        exchange_wake(x);
        server_kick(x->server);
}

static int connection_on_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        HttpConnection *c = userdata;

        c->watch = sd_event_source_disable_unref(c->watch);
        if (c->exchange) {
                c->exchange->gone = true;
                exchange_hang_up(c->exchange);
        }
        return 0;
}

int exchange_suspend(HttpExchange *x) {
        HttpConnection *c = x->connection;
        int r;

        if (!c->watch) {
                r = sd_event_add_io(x->server->event, &c->watch, c->fd, EPOLLRDHUP, connection_on_gone, c);
                if (r < 0)
                        return r;
        }

        MHD_suspend_connection(c->mhd);
        c->suspended = true;
        return 0;
}

static int patience_on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static void patience_arm(HttpPatience *p) {
        HttpConnection *c = TAILQ_FIRST(&p->queue);
        uint64_t waited;

        if (!c || p->server->stopping)
                return;
        waited = now_boottime_usec() - c->waiting_since_usec;
        (void) event_arm_timer(p->server->event, &p->timer, waited < p->limit_usec ? p->limit_usec - waited : 0, 0,
                               patience_on_timer, p);
}

/* p NULL: the client is waiting for us. */
static void connection_wait_for(HttpConnection *c, HttpPatience *p) {
        bool first = p && TAILQ_EMPTY(&p->queue);

        if (c->waiting == p)
                return;
        if (c->waiting)
                TAILQ_REMOVE(&c->waiting->queue, c, queue);
        c->waiting = p;
        if (!p)
                return;

        c->waiting_since_usec = now_boottime_usec();
        TAILQ_INSERT_TAIL(&p->queue, c, queue);
        if (first)
                patience_arm(p);
}

/* libmicrohttpd's own time-out begins anew with each byte: one now and then would keep a connection for ever. */
static int patience_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        HttpPatience *p = userdata;
        uint64_t now = now_boottime_usec();
        HttpConnection *c;

        while ((c = TAILQ_FIRST(&p->queue)) && now - c->waiting_since_usec >= p->limit_usec) {
                connection_wait_for(c, NULL);
                (void) shutdown(c->fd, SHUT_RDWR);
        }
        patience_arm(p);
        return 0;
}

static void patience_init(HttpPatience *p, HttpServer *s, uint64_t limit_usec) {
        p->server = s;
        p->limit_usec = limit_usec;
        TAILQ_INIT(&p->queue);
}

static void exchange_free(HttpExchange *x) {
        if (x->writable)
                LIST_REMOVE(x, writables);
        if (x->response)
                MHD_destroy_response(x->response);
        strbuf_done(&x->body);
        strbuf_done(&x->out);
        strv_free(x->headers);
        free(x->parameters);
        free(x->decoded);
        free(x->path);
        free(x);
}

static void exchange_end(HttpExchange *x, bool complete) {
        HttpConnection *c = x->connection;
        HttpServer *s = x->server;

        c->watch = sd_event_source_disable_unref(c->watch);
        c->exchange = NULL;
        c->suspended = false;

        if (x->headed) {
                s->n_exchanges--;
                x->gone = !(complete && x->queued) && !x->aborted && !s->stopping;
                s->spec.on_end(x, x->gone, s->spec.userdata);
        }
        exchange_free(x);

        connection_wait_for(c, &c->server->head);
}

static HttpConnection* connection_get(struct MHD_Connection *mhd) {
        return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* The request line is there: the last moment at which it is as it was sent. */
static void* server_on_uri(void *userdata, const char *uri, struct MHD_Connection *mhd) {
        HttpConnection *c = connection_get(mhd);
        HttpExchange *x;

        if (!c || c->exchange)
                return NULL;

        x = new0(HttpExchange, 1);
        if (!x)
                return NULL;
        x->path = strdup(uri);
        if (!x->path) {
                free(x);
                return NULL;
        }

        x->query = strchr(x->path, '?');
        if (x->query)
                *x->query++ = 0;
        x->server = c->server;
        x->connection = c;
        c->exchange = x;
        return x;
}

static void exchange_refuse_oversize(HttpExchange *x) {
        static const char text[] = "The request body is too large.\n";

        x->oversize = true;
        strbuf_done(&x->body);
        if (x->server->spec.on_oversize)
                x->server->spec.on_oversize(x, x->server->spec.userdata);
        if (!x->answered)
                (void) http_exchange_reply(x, 413, "text/plain", text, strlen(text));
}

static enum MHD_Result check_name(void *userdata, enum MHD_ValueKind kind, const char *name, const char *value) {
        bool *valid = userdata;

        *valid = *valid && http_token_is_valid(name, strlen(name));
        return MHD_YES;
}

static bool head_is_too_large(HttpExchange *x) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(x->connection->mhd,
                                                                       MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);

        return !info || info->header_size > HEAD_MAX;
}

static void exchange_refuse_head(HttpExchange *x, unsigned status) {
        const char *text = status == 431 ? "The head of the request is too large.\n"
                                         : "The head of the request is broken, or the length of its body unclear.\n";
        HttpServer *s = x->server;

        if (s->spec.on_malformed) {
                x->headed = true;
                s->n_exchanges++;
                s->spec.on_malformed(x, status, s->spec.userdata);
        }
        if (!x->answered)
                (void) http_exchange_reply(x, status, "text/plain", text, strlen(text));
}

/* How long the body is must be beyond doubt, or we and a proxy before us may see different requests (RFC 9112 §6.3).
 * 0 for a body of unknown length. */
static int exchange_check_framing(HttpExchange *x, uint64_t *ret_length) {
        const char *encoding = http_exchange_header(x, "Transfer-Encoding");
        const char *length = http_exchange_header(x, "Content-Length");
        bool names_are_valid = true;
        uint64_t n = 0;

        /* "Transfer-Encoding :" is to us some other header, and may not be to the proxy (RFC 9112 §5.1). */
        (void) MHD_get_connection_values(x->connection->mhd, MHD_HEADER_KIND, check_name, &names_are_valid);
        if (!names_are_valid)
                return -EBADMSG;
        /* Where the path ends is as unclear as which server is meant (RFC 9112 §§3, 3.2). */
        if (strchr(x->path, ' ') || (x->query && strchr(x->query, ' ')) ||
            (!x->http10 && http_exchange_header_count(x, "Host") == 0))
                return -EBADMSG;
        if (http_exchange_header_count(x, "Transfer-Encoding") > 1 ||
            http_exchange_header_count(x, "Content-Length") > 1 || (encoding && length))
                return -EBADMSG;
        if (encoding && (x->http10 || strcasecmp(encoding, "chunked") != 0))
                return -EBADMSG;
        if (length && parse_u64(length, &n) < 0)
                return -EBADMSG;

        x->expects_body = encoding || n > 0;
        x->body_length = encoding ? SIZE_MAX : (size_t) MIN(n, (uint64_t) SIZE_MAX - 1);
        *ret_length = n;
        return 0;
}

static void exchange_on_head(HttpExchange *x, const char *method, const char *version) {
        HttpServer *s = x->server;
        uint64_t length;
        int r;

        connection_wait_for(x->connection, NULL);
        x->method = method;
        x->http10 = streq(version, "HTTP/1.0");

        r = exchange_check_framing(x, &length);
        if (r < 0 || head_is_too_large(x)) {
                exchange_refuse_head(x, r < 0 ? 400 : 431);
                return;
        }

        x->headed = true;
        s->n_exchanges++;
        s->spec.on_head(x, s->spec.userdata);
        if (!x->answered && length > s->spec.max_body)
                exchange_refuse_oversize(x);
        /* A body that nobody wants is no reason for more patience. */
        if (!x->answered && x->expects_body)
                connection_wait_for(x->connection, x->ignores_body ? &s->head : &s->body);
}

void exchange_expect_body(HttpExchange *x) {
        connection_wait_for(x->connection, &x->server->body);
}

/* How much of it was taken. */
static size_t exchange_on_body(HttpExchange *x, const char *data, size_t size) {
        HttpServer *s = x->server;
        bool unwanted = x->oversize || x->ignores_body || (x->streams_body && x->answered);

        /* An answer is accepted only once the request has been read. */
        if (!unwanted && x->streams_body && size <= s->spec.max_body - x->taken) {
                size_t n = s->spec.on_body(x, data, size, s->spec.userdata);

                x->taken += n;
                return n;
        }
        if (!unwanted && !x->streams_body && size <= s->spec.max_body - x->body.size) {
                if (strbuf_append(&x->body, data, size) < 0)
                        http_exchange_abort(x);
                return size;
        }

        x->oversize |= !unwanted;
        strbuf_done(&x->body);
        x->discarded += size;
        if (x->discarded > DISCARD_MAX)
                http_exchange_abort(x);
        return size;
}

static enum MHD_Result exchange_proceed(HttpExchange *x, bool complete) {
        enum MHD_Result queued;

        if (x->gone || x->aborted)
                return MHD_NO;

        if (x->response) {
                queued = MHD_queue_response(x->connection->mhd, x->status, x->response);
                MHD_destroy_response(x->response);
                x->response = NULL;
                x->queued = queued == MHD_YES;
                x->connection->linger = x->queued && !complete && x->expects_body;
                return queued;
        }

        if (complete && exchange_suspend(x) < 0)
                return MHD_NO;
        return MHD_YES;
}

static enum MHD_Result server_on_access(void *userdata, struct MHD_Connection *mhd, const char *url,
                                        const char *method, const char *version, const char *data, size_t *size,
                                        void **context) {
        HttpServer *s = userdata;
        HttpExchange *x = *context;

        if (!x)
                return MHD_NO;

        if (!x->method) {
                exchange_on_head(x, method, version);
                return exchange_proceed(x, /* complete= */ false);
        }

        if (*size > 0) {
                *size -= exchange_on_body(x, data, *size);
                if (x->gone || x->aborted)
                        return MHD_NO;
                if (*size == 0)
                        return MHD_YES;
                connection_wait_for(x->connection, NULL);
                return exchange_suspend(x) < 0 ? MHD_NO : MHD_YES;
        }

        if (!x->requested) {
                x->requested = true;
                connection_wait_for(x->connection, NULL);
                if (x->oversize && !x->answered)
                        exchange_refuse_oversize(x);
                else if (!x->answered)
                        s->spec.on_request(x, s->spec.userdata);
        }
        return exchange_proceed(x, /* complete= */ true);
}

static void server_on_completed(void *userdata, struct MHD_Connection *mhd, void **context,
                                enum MHD_RequestTerminationCode why) {
        HttpExchange *x = *context;

        *context = NULL;
        if (x)
                exchange_end(x, why == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static HttpLinger* linger_free(HttpLinger *l) {
        LIST_REMOVE(l, lingering);
        l->server->n_lingering--;
        sd_event_source_disable_unref(l->timer);
        sd_event_source_disable_unref(l->io);
        return mfree(l);
}

static int linger_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) linger_free(userdata);
        return 0;
}

static int linger_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        HttpLinger *l = userdata;
        char nowhere[KIB(16)];
        ssize_t n = recv(fd, nowhere, sizeof(nowhere), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        l->discarded += n > 0 ? (size_t) n : 0;
        if (n <= 0 || l->discarded > DISCARD_MAX)
                (void) linger_free(l);
        return 0;
}

/* Goes on reading from a connection that libmicrohttpd closes now, until the client has seen our end of it. */
static void connection_linger(HttpConnection *c) {
        _cleanup_close_ int fd = -EBADF;
        HttpServer *s = c->server;
        HttpLinger *l;

        if (s->n_lingering >= LINGER_MAX)
                return;
        fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return;
        l = new0(HttpLinger, 1);
        if (!l)
                return;

        l->server = s;
        LIST_INSERT_HEAD(&s->lingering, l, lingering);
        s->n_lingering++;

        if (sd_event_add_io(s->event, &l->io, fd, EPOLLIN, linger_on_io, l) < 0 ||
            sd_event_source_set_io_fd_own(l->io, true) < 0) {
                (void) linger_free(l);
                return;
        }
        TAKE_FD(fd);
        if (event_arm_timer(s->event, &l->timer, LINGER_USEC, 0, linger_on_timer, l) < 0)
                (void) linger_free(l);
}

static void connection_free(HttpConnection *c) {
        /* Only when libmicrohttpd closed the connection without ending its request. */
        if (c->exchange)
                exchange_end(c->exchange, false);

        connection_wait_for(c, NULL);
        if (c->linger && !c->server->stopping)
                connection_linger(c);
        if (c->destroy)
                c->destroy(c->data);
        LIST_REMOVE(c, connections);
        /* libmicrohttpd looks at the listening socket again only when it is run once more. */
        if (c->server->n_connections-- >= c->server->spec.max_connections)
                c->server->resumed = true;
        sd_event_source_disable_unref(c->watch);
        free(c);
}

/* Who holds connections without asking for anything must not keep out who does: when they run out, those go that have
 * been silent for longest. */
static void server_make_room(HttpServer *s) {
        unsigned reserve = MAX(s->spec.max_connections / 16, 1U);
        HttpConnection *c = TAILQ_FIRST(&s->head.queue);

        if (!c || s->n_connections + reserve <= s->spec.max_connections)
                return;
        connection_wait_for(c, NULL);
        (void) shutdown(c->fd, SHUT_RDWR);
}

static void server_on_connection(void *userdata, struct MHD_Connection *mhd, void **context,
                                 enum MHD_ConnectionNotificationCode what) {
        HttpServer *s = userdata;
        HttpConnection *c = *context;

        if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
                *context = NULL;
                if (c)
                        connection_free(c);
                return;
        }

        /* Without memory for it the first request is refused. */
        c = new0(HttpConnection, 1);
        if (!c)
                return;

        c->server = s;
        c->mhd = mhd;
        c->fd = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        (void) getpeername(c->fd, (struct sockaddr*) &c->peer, &(socklen_t) { sizeof(c->peer) });
        (void) getsockname(c->fd, (struct sockaddr*) &c->local, &(socklen_t) { sizeof(c->local) });
        LIST_INSERT_HEAD(&s->connections, c, connections);
        s->n_connections++;
        server_make_room(s);
        connection_wait_for(c, &c->server->head);
        *context = c;
}

int http_server_new(HttpServer **ret, sd_event *event, int listen_fd, const HttpServerSpec *spec) {
        _cleanup_close_ int fd = listen_fd;
        _cleanup_(http_server_freep) HttpServer *s = NULL;
        uint64_t idle_usec;
        int r, mhd_fd;

        assert(ret && event && spec);
        assert(spec->on_head && spec->on_request && spec->on_end);

        s = new0(HttpServer, 1);
        if (!s)
                return -ENOMEM;
        s->event = sd_event_ref(event);
        s->spec = *spec;
        s->spec.max_connections = spec->max_connections ?: MAX_CONNECTIONS;
        idle_usec = (spec->idle_timeout_seconds ?: IDLE_TIMEOUT_SECONDS) * USEC_PER_SEC;
        patience_init(&s->head, s, idle_usec);
        patience_init(&s->body, s, BODY_TIMES * idle_usec);

        /* When it fails to start it may or may not have closed the socket: give it one of its own. */
        mhd_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (mhd_fd < 0)
                return -errno;
        s->mhd = MHD_start_daemon(MHD_USE_EPOLL|MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, server_on_access, s,
                                  MHD_OPTION_LISTEN_SOCKET, mhd_fd,
                                  MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
                                  MHD_OPTION_CONNECTION_LIMIT, s->spec.max_connections,
                                  MHD_OPTION_CONNECTION_TIMEOUT, spec->idle_timeout_seconds ?: IDLE_TIMEOUT_SECONDS,
                                  MHD_OPTION_STRICT_FOR_CLIENT, 0,
                                  MHD_OPTION_URI_LOG_CALLBACK, server_on_uri, s,
                                  MHD_OPTION_NOTIFY_COMPLETED, server_on_completed, s,
                                  MHD_OPTION_NOTIFY_CONNECTION, server_on_connection, s,
                                  MHD_OPTION_END);
        if (!s->mhd)
                return -EIO;

        r = sd_event_add_io(event, &s->io, MHD_get_daemon_info(s->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, EPOLLIN,
                            server_on_io, s);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

HttpServer* http_server_free(HttpServer *s) {
        HttpConnection *c;

        if (!s)
                return NULL;

        s->stopping = s->running = true;
        sd_event_source_disable_unref(s->io);
        if (s->mhd) {
                /* libmicrohttpd aborts the process when stopped with sleeping connections. */
                LIST_FOREACH(c, &s->connections, connections)
                        if (c->exchange)
                                exchange_wake(c->exchange);
                MHD_stop_daemon(s->mhd);
        }
        while (!LIST_EMPTY(&s->lingering))
                (void) linger_free(LIST_FIRST(&s->lingering));
        sd_event_source_disable_unref(s->timer);
        sd_event_source_disable_unref(s->head.timer);
        sd_event_source_disable_unref(s->body.timer);
        sd_event_unref(s->event);
        return mfree(s);
}

int http_server_quiesce(HttpServer *s) {
        HttpConnection *c;

        assert(s);

        if (!s->quiesced) {
                s->quiesced = true;
                (void) safe_close(MHD_quiesce_daemon(s->mhd));
                /* Those who only keep their connection for later must come back to our successor. */
                LIST_FOREACH(c, &s->connections, connections)
                        if (!c->exchange)
                                (void) shutdown(c->fd, SHUT_RDWR);
                server_kick(s);
        }
        return s->n_exchanges > 0;
}

unsigned http_server_n_exchanges(HttpServer *s) {
        assert(s);
        return s->n_exchanges;
}
