/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/socket.h>

#include "event-util.h"
#include "log.h"
#include "model-endpoint.h"
#include "outlet-wire.h"
#include "proxy.h"
#include "worker-talk.h"

#define LINE_SIZE_MAX MIB(1)
#define IDLE_DEFAULT_USEC (60 * USEC_PER_SEC)

/* The other end of a session's outlet.c: serves until the session hangs up, or nobody has wanted anything for a
 * while. */
typedef struct Worker {
        WorkerTalk talk;
        HttpClient *http;
        sd_event_source *idle_timer;
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
        (void) sd_event_source_disable_unref(w->idle_timer);
        (void) safe_close(w->model_fd);
        (void) safe_close(w->proxy_fd);
        worker_talk_done(&w->talk);
}

static int on_ask(uint64_t id, void *userdata) {
        Worker *w = userdata;
        int r = outlet_ask_format(&w->talk.out, id);

        return r < 0 ? r : worker_talk_flush(&w->talk);
}

static void on_usage(unsigned status, const MeteredUsage *u, void *userdata) {
        Worker *w = userdata;
        int r;

        w->idle_since_usec = now_boottime_usec();
        r = outlet_usage_format(&w->talk.out, &(OutletReport) {
                .model = u->model, .status = status, .usage = u->usage, .estimated = u->estimated,
        });
        if (r >= 0)
                r = worker_talk_flush(&w->talk);
        if (r < 0)
                (void) worker_talk_exit(&w->talk, r);
}

/* ---- the end for want of work ---- */

static bool is_busy(const Worker *w) {
        return (w->endpoint && model_endpoint_n_requests(w->endpoint) > 0) ||
               (w->proxy && proxy_n_connections(w->proxy) > 0) || w->talk.out.size > 0;
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
                return worker_talk_exit(&w->talk, 0);
        }
        if (event_arm_timer(w->talk.event, &w->idle_timer, w->idle_usec - quiet, 0, on_idle, w) < 0)
                return worker_talk_exit(&w->talk, -ENOMEM);
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
                        .event = w->talk.event, .http = w->http, .listen_fd = TAKE_FD(w->model_fd), .on_ask = on_ask,
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
                        .event = w->talk.event, .http = w->http, .listen_fd = TAKE_FD(w->proxy_fd),
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
        char *p = w->talk.in.text, *end = NULL;

        for (unsigned n = 0; n <= i; n++) {
                end = p ? memchr(p, '\n', w->talk.in.size - (size_t) (p - w->talk.in.text)) : NULL;
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
                return w->talk.in.size > LINE_SIZE_MAX ? -EMSGSIZE : 0;
        r = outlet_order_parse(&o, w->talk.in.text, (size_t) (end - w->talk.in.text));
        if (r < 0)
                return r;
        size = (size_t) (end + 1 - w->talk.in.text);
        if (o.is_settings) {
                key_end = line_end(w, 1);
                token_end = line_end(w, 2);
                if (!token_end)
                        return w->talk.in.size > LINE_SIZE_MAX ? -EMSGSIZE : 0;
                *key_end = *token_end = 0;
                o.settings.api_key = end + 1;
                o.settings.token = key_end + 1;
                r = settings_take(w, &o.settings);
                size = (size_t) (token_end + 1 - w->talk.in.text);
                sodium_memzero(end + 1, (size_t) (token_end - end));
        } else if (w->endpoint)
                model_endpoint_answer(w->endpoint, o.id, o.message, o.retry_after_seconds);
        strbuf_consume(&w->talk.in, size);
        return r < 0 ? r : 1;
}

static int on_input(WorkerTalk *t, void *userdata) {
        int r;

        do
                r = order_take(userdata);
        while (r > 0);
        return r;
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
        _cleanup_(worker_done) Worker w = { .model_fd = -EBADF, .proxy_fd = -EBADF };
        int type, r;

        log_open("puffo-outlet");
        if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &(socklen_t) { sizeof(type) }) < 0 ||
            sockets_take(&w, argc, argv) < 0) {
                (void) fprintf(stderr, "puffo-outlet is the model endpoint of a puffo-session, which starts it.\n");
                return EXIT_FAILURE;
        }
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sodium_init() < 0)
                return EXIT_FAILURE;

        r = worker_talk_start(&w.talk, STDIN_FILENO, on_input, &w);
        if (r >= 0)
                r = http_client_new(&w.http, w.talk.event);
        if (r >= 0)
                r = sd_event_loop(w.talk.event);
        if (r < 0)
                (void) log_error_errno(r, "The model endpoint failed: %m");
        return r < 0 ? EXIT_FAILURE : r;
}
