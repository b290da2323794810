/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "event-util.h"
#include "log.h"
#include "model-endpoint.h"
#include "outlet-wire.h"
#include "proxy.h"

#define LINE_SIZE_MAX MIB(1)
#define IDLE_DEFAULT_USEC (60 * USEC_PER_SEC)

/* The other end of a session's outlet.c: serves until the session hangs up, or nobody has wanted anything for a
 * while. */
typedef struct Worker {
        sd_event *event;
        HttpClient *http;
        int fd;                         /* to the session */
        sd_event_source *io, *idle_timer;
        StrBuf in, out;
        ModelEndpoint *endpoint;        /* NULL: no such socket, or no settings yet */
        Proxy *proxy;                   /* the same */
        int model_fd, proxy_fd;
        bool configured;
        uint64_t idle_usec, idle_since_usec;
} Worker;

static void worker_done(Worker *w) {
        (void) model_endpoint_free(w->endpoint);
        (void) proxy_free(w->proxy);
        (void) http_client_free(w->http);
        (void) sd_event_source_disable_unref(w->io);
        (void) sd_event_source_disable_unref(w->idle_timer);
        if (w->in.text)
                sodium_memzero(w->in.text, w->in.allocated);
        strbuf_done(&w->in);
        strbuf_done(&w->out);
        (void) safe_close(w->model_fd);
        (void) safe_close(w->proxy_fd);
        (void) sd_event_unref(w->event);
}

static int worker_exit(Worker *w, int error) {
        if (error < 0)
                (void) log_error_errno(error, "The talk with the session failed: %m");
        return sd_event_exit(w->event, error < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int out_flush(Worker *w) {
        while (w->out.size > 0) {
                ssize_t n = send(w->fd, w->out.text, w->out.size, MSG_DONTWAIT|MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return sd_event_source_set_io_events(w->io, EPOLLIN|EPOLLOUT);
                if (n < 0)
                        return -errno;
                strbuf_consume(&w->out, (size_t) n);
        }
        return sd_event_source_set_io_events(w->io, EPOLLIN);
}

static int on_ask(uint64_t id, void *userdata) {
        Worker *w = userdata;
        int r = outlet_ask_format(&w->out, id);

        return r < 0 ? r : out_flush(w);
}

static void on_usage(unsigned status, const MeteredUsage *u, void *userdata) {
        Worker *w = userdata;
        int r;

        w->idle_since_usec = now_boottime_usec();
        r = outlet_usage_format(&w->out, &(OutletReport) {
                .model = u->model, .status = status, .usage = u->usage, .estimated = u->estimated,
        });
        if (r >= 0)
                r = out_flush(w);
        if (r < 0)
                (void) worker_exit(w, r);
}

/* ---- the end for want of work ---- */

static bool is_busy(const Worker *w) {
        return (w->endpoint && model_endpoint_n_requests(w->endpoint) > 0) ||
               (w->proxy && proxy_n_connections(w->proxy) > 0) || w->out.size > 0;
}

static int on_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        Worker *w = userdata;
        uint64_t now = now_boottime_usec(), quiet;

        if (is_busy(w))
                w->idle_since_usec = now;
        quiet = now - w->idle_since_usec;
        if (quiet >= w->idle_usec) {
                /* Whoever connects from now on waits in the socket's queue for the next of us. */
                if (w->endpoint)
                        model_endpoint_quiesce(w->endpoint);
                if (w->proxy)
                        proxy_quiesce(w->proxy);
                return worker_exit(w, 0);
        }
        if (event_arm_timer(w->event, &w->idle_timer, w->idle_usec - quiet, 0, on_idle, w) < 0)
                return worker_exit(w, -ENOMEM);
        return 0;
}

static void on_proxy_idle(void *userdata) {
        Worker *w = userdata;

        w->idle_since_usec = now_boottime_usec();
}

/* ---- orders ---- */

static int settings_take(Worker *w, const OutletSettings *s) {
        ModelProvider provider = model_provider_from_string(s->provider);
        EndpointSettings e = { provider, s->base_url, s->api_key, s->ca_file, s->token, s->fault };
        _cleanup_free_ char *field = NULL;
        int r;

        if (!model_provider_key_header(provider)) {
                e.provider = MODEL_ANTHROPIC;
                e.fault = s->fault ?: "The agent's provider has no API that could be passed on.";
        }
        w->idle_usec = s->idle_usec ?: IDLE_DEFAULT_USEC;
        if (!w->configured && *s->agent) {
                field = strjoin("PUFFO_AGENT=", s->agent);
                r = field ? log_add_process_field(field) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        /* Nobody is let in before it is known who may. */
        if (!w->endpoint && w->model_fd >= 0) {
                r = model_endpoint_new(&w->endpoint, &(EndpointSpec) {
                        .event = w->event, .http = w->http, .listen_fd = TAKE_FD(w->model_fd), .on_ask = on_ask,
                        .on_usage = on_usage, .userdata = w,
                });
                if (r < 0)
                        return r;
        }
        if (w->endpoint) {
                r = model_endpoint_configure(w->endpoint, &e);
                if (r < 0)
                        return r;
        }
        if (!w->proxy && w->proxy_fd >= 0) {
                r = proxy_new(&w->proxy, &(ProxySpec) {
                        .event = w->event, .http = w->http, .listen_fd = TAKE_FD(w->proxy_fd),
                        .on_idle = on_proxy_idle, .userdata = w,
                });
                if (r < 0)
                        return r;
        }
        if (w->proxy) {
                r = proxy_configure(w->proxy, s->allow_hosts);
                if (r < 0)
                        return r;
        }
        if (w->configured)
                return 0;
        w->configured = true;
        w->idle_since_usec = now_boottime_usec();
        return on_idle(NULL, 0, w);
}

/* The end of line i of what has come, or NULL. */
static char* line_end(const Worker *w, unsigned i) {
        char *p = w->in.text, *end = NULL;

        for (unsigned n = 0; n <= i; n++) {
                end = p ? memchr(p, '\n', w->in.size - (size_t) (p - w->in.text)) : NULL;
                if (!end)
                        return NULL;
                p = end + 1;
        }
        return end;
}

/* > 0: one was taken. */
static int order_take(Worker *w) {
        _cleanup_(outlet_order_done) OutletOrder o = {};
        char *end = line_end(w, 0), *key_end, *token_end;
        size_t size;
        int r;

        if (!end)
                return w->in.size > LINE_SIZE_MAX ? -EMSGSIZE : 0;
        r = outlet_order_parse(&o, w->in.text, (size_t) (end - w->in.text));
        if (r < 0)
                return r;
        size = (size_t) (end + 1 - w->in.text);
        if (o.is_settings) {
                key_end = line_end(w, 1);
                token_end = line_end(w, 2);
                if (!token_end)
                        return w->in.size > LINE_SIZE_MAX ? -EMSGSIZE : 0;
                *key_end = *token_end = 0;
                o.settings.api_key = end + 1;
                o.settings.token = key_end + 1;
                r = settings_take(w, &o.settings);
                size = (size_t) (token_end + 1 - w->in.text);
                sodium_memzero(end + 1, (size_t) (token_end - end));
        } else if (w->endpoint)
                model_endpoint_answer(w->endpoint, o.id, o.message, o.retry_after_seconds);
        strbuf_consume(&w->in, size);
        return r < 0 ? r : 1;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Worker *w = userdata;
        char buffer[16384];
        ssize_t n;
        int r = 0;

        if (revents & EPOLLOUT)
                r = out_flush(w);
        if (r >= 0 && (revents & (EPOLLIN|EPOLLHUP|EPOLLERR))) {
                n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
                if (n == 0)
                        return worker_exit(w, 0);
                if (n < 0)
                        r = errno == EAGAIN || errno == EINTR ? 0 : -errno;
                else {
                        r = strbuf_append(&w->in, buffer, (size_t) n);
                        sodium_memzero(buffer, (size_t) n);
                        if (r >= 0)
                                do
                                        r = order_take(w);
                                while (r > 0);
                }
        }
        return r < 0 ? worker_exit(w, r) : 0;
}

static int sockets_take(Worker *w, int argc, char **argv) {
        for (int i = 1; i < argc; i++) {
                int fd = OUTLET_FD_FIRST + i - 1, listening;

                if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &(socklen_t) { sizeof(listening) }) < 0 ||
                    !listening)
                        return -EINVAL;
                if (streq(argv[i], "model") && w->model_fd < 0)
                        w->model_fd = fd;
                else if (streq(argv[i], "proxy") && w->proxy_fd < 0)
                        w->proxy_fd = fd;
                else
                        return -EINVAL;
        }
        return argc > 1 ? 0 : -EINVAL;
}

int main(int argc, char **argv) {
        _cleanup_(worker_done) Worker w = { .fd = STDIN_FILENO, .model_fd = -EBADF, .proxy_fd = -EBADF };
        int type, r;

        log_open("puffo-outlet");
        if (getsockopt(w.fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t) { sizeof(type) }) < 0 ||
            sockets_take(&w, argc, argv) < 0) {
                (void) fprintf(stderr, "puffo-outlet is the model endpoint of a puffo-session, which starts it.\n");
                return EXIT_FAILURE;
        }
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sodium_init() < 0)
                return EXIT_FAILURE;

        r = sd_event_default(&w.event);
        if (r >= 0)
                r = http_client_new(&w.http, w.event);
        if (r >= 0)
                r = sd_event_add_io(w.event, &w.io, w.fd, EPOLLIN, on_io, &w);
        if (r >= 0)
                r = sd_event_loop(w.event);
        if (r < 0)
                (void) log_error_errno(r, "The model endpoint failed: %m");
        return r < 0 ? EXIT_FAILURE : r;
}
