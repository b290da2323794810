/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "event-util.h"
#include "host-pattern.h"
#include "http-client.h"
#include "log.h"
#include "proxy-request.h"
#include "proxy.h"
#include "tunnel.h"

#define CONNECTIONS_MAX 128U
#define PROXY_HEAD_MAX KIB(16)
#define HEAD_TIMEOUT_USEC (30 * USEC_PER_SEC)
#define CONNECT_TIMEOUT_USEC (20 * USEC_PER_SEC)
#define IDLE_TIMEOUT_USEC (15 * 60 * USEC_PER_SEC)
#define SHORTAGE_PAUSE_USEC (1 * USEC_PER_SEC)

typedef struct ProxyConnection ProxyConnection;
LIST_HEAD(ProxyConnectionList, ProxyConnection);

struct Proxy {
        ProxySpec spec;
        sd_event_source *listening, *pause;
        char **allow_hosts;
        struct ProxyConnectionList connections;
        unsigned n_connections;
};

struct ProxyConnection {
        Proxy *proxy;
        int fd;                         /* the client; -EBADF once the tunnel has it */
        sd_event_source *io, *timer;    /* while the head is read */
        StrBuf in;
        size_t head_size;
        ProxyRequest request;
        bool address_refused;
        HttpRequest *q;                 /* while we connect */
        Tunnel *tunnel;
        LIST_ENTRY(ProxyConnection) connections;
};

static void connection_log(const ProxyConnection *c, int level, const char *verdict, const char *why) {
        _cleanup_free_ char *host = strjoin("PUFFO_PROXY_HOST=", strempty(c->request.host));
        _cleanup_free_ char *result = strjoin("PUFFO_PROXY_VERDICT=", verdict);
        char port[32], sent[48], received[48];
        const char *const fields[] = { host, result, port, sent, received, NULL };
        uint64_t n_sent = 0, n_received = 0;

        if (c->tunnel)
                tunnel_counts(c->tunnel, &n_sent, &n_received);
        (void) snprintf(port, sizeof(port), "PUFFO_PROXY_PORT=%u", c->request.port);
        (void) snprintf(sent, sizeof(sent), "PUFFO_PROXY_SENT=%" PRIu64, n_sent);
        (void) snprintf(received, sizeof(received), "PUFFO_PROXY_RECEIVED=%" PRIu64, n_received);
        (void) log_fields(level, 0, host && result ? fields : NULL,
                          "Proxy: connection to %s:%u %s%s%s, %" PRIu64 " bytes sent, %" PRIu64 " received.",
                          c->request.host ?: "?", c->request.port, verdict, isempty(why) ? "" : ": ", strempty(why),
                          n_sent, n_received);
}

static void connection_free(ProxyConnection *c) {
        Proxy *p = c->proxy;

        LIST_REMOVE(c, connections);
        p->n_connections--;
        (void) sd_event_source_disable_unref(c->io);
        (void) sd_event_source_disable_unref(c->timer);
        (void) http_request_free(c->q);
        (void) tunnel_free(c->tunnel);
        (void) safe_close(c->fd);
        proxy_request_done(&c->request);
        strbuf_done(&c->in);
        free(c);
        if (p->n_connections == 0 && p->spec.on_idle)
                p->spec.on_idle(p->spec.userdata);
}

/* Says why not, and ends it. */
static void connection_refuse(ProxyConnection *c, const char *status, const char *why) {
        _cleanup_free_ char *text = asprintf_new(
                "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                "Connection: close\r\n\r\n%s.\n", status, strlen(why) + 2, why);

        connection_log(c, LOG_NOTICE, startswith(status, "5") ? "failed" : "refused", why);
        if (text)
                (void) send(c->fd, text, strlen(text), MSG_DONTWAIT|MSG_NOSIGNAL);
        connection_free(c);
}

/* ---- the connection out ---- */

static bool check_address(const struct sockaddr *address, void *userdata) {
        ProxyConnection *c = userdata;

        if (host_list_allows_address(c->proxy->allow_hosts, address))
                return true;
        c->address_refused = true;
        return false;
}

static void on_tunnel_end(Tunnel *t, int error, void *userdata) {
        ProxyConnection *c = userdata;

        connection_log(c, LOG_INFO, "ended", error < 0 ? strerror(-error) : NULL);
        connection_free(c);
}

static int tunnel_begin(ProxyConnection *c, int fd) {
        static const char established[] = "HTTP/1.1 200 Connection established\r\n\r\n";
        _cleanup_(strbuf_done) StrBuf first = {};
        bool tunnel = c->request.is_tunnel;
        int r = 0;

        if (!tunnel)
                r = strbuf_puts(&first, c->request.head);
        if (r >= 0)
                r = strbuf_append(&first, c->in.text + c->head_size, c->in.size - c->head_size);
        if (r < 0) {
                (void) close(fd);
                return r;
        }
        strbuf_done(&c->in);
        return tunnel_new(&c->tunnel, &(TunnelSpec) {
                .event = c->proxy->spec.event, .a = TAKE_FD(c->fd), .b = fd,
                .to_a = tunnel ? established : NULL, .to_a_size = tunnel ? strlen(established) : 0,
                .to_b = first.text, .to_b_size = first.size, .idle_usec = IDLE_TIMEOUT_USEC,
                .on_end = on_tunnel_end, .userdata = c,
        });
}

static void on_connected(HttpRequest *q, void *userdata) {
        ProxyConnection *c = userdata;
        int fd = http_request_dup_socket(q), r;

        c->q = http_request_free(c->q);
        c->io = sd_event_source_disable_unref(c->io);
        if (fd < 0) {
                connection_refuse(c, "503 Service Unavailable", "Out of descriptors");
                return;
        }
        r = tunnel_begin(c, fd);
        if (r < 0) {
                connection_log(c, LOG_WARNING, "failed", strerror(-r));
                connection_free(c);
                return;
        }
        connection_log(c, LOG_INFO, "made", NULL);
}

static void on_failed(HttpRequest *q, const HttpReply *reply, void *userdata) {
        ProxyConnection *c = userdata;
        _cleanup_free_ char *why = str_printable(strempty(reply->error), 200);

        if (c->address_refused)
                connection_refuse(c, "403 Forbidden", "The host's address is not on the internet, and is not listed "
                                                      "in sandbox.allow_hosts");
        else
                connection_refuse(c, "502 Bad Gateway", strempty(why));
}

/* The whole machine's way out, if it has one; host names are then for that proxy to find. */
static const char* outer_proxy(void) {
        static const char *const names[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY" };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                const char *v = secure_getenv(names[i]);

                if (!isempty(v))
                        return v;
        }
        return "";
}

static void connection_go(ProxyConnection *c) {
        Proxy *p = c->proxy;
        _cleanup_free_ char *url = NULL;
        const char *outer = outer_proxy();
        int r;

        if (!host_list_has(p->allow_hosts, c->request.host, c->request.port)) {
                connection_refuse(c, "403 Forbidden", "The host is not listed in sandbox.allow_hosts");
                return;
        }
        if (startswith(outer, "https://")) {
                connection_refuse(c, "502 Bad Gateway", "An outer proxy over TLS is not supported");
                return;
        }
        url = asprintf_new("http://%s:%u/", c->request.host, c->request.port);
        r = url ? http_client_connect(p->spec.http, &(HttpRequestSpec) {
                .url = url, .connect_timeout_usec = CONNECT_TIMEOUT_USEC, .proxy = outer,
                .check_address = check_address, .on_done = on_failed, .userdata = c,
        }, on_connected, &c->q) : -ENOMEM;
        if (r < 0)
                connection_refuse(c, "503 Service Unavailable", strerror(-r));
}

/* ---- the client ---- */

static int on_gone(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ProxyConnection *c = userdata;

        connection_log(c, LOG_INFO, "given up", NULL);
        connection_free(c);
        return 0;
}

static int on_head(ProxyConnection *c) {
        int r;

        r = proxy_request_parse(&c->request, c->in.text, c->head_size);
        if (r < 0) {
                connection_refuse(c, "400 Bad Request",
                                  r == -EOPNOTSUPP ? "This is a proxy: it takes CONNECT and http:// URLs"
                                                   : "The request is broken");
                return 0;
        }
        /* From here on only its going away matters; what else comes waits for the tunnel. */
        c->timer = sd_event_source_disable_unref(c->timer);
        c->io = sd_event_source_disable_unref(c->io);
        r = sd_event_add_io(c->proxy->spec.event, &c->io, c->fd, EPOLLHUP, on_gone, c);
        if (r < 0) {
                connection_free(c);
                return 0;
        }
        connection_go(c);
        return 0;
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ProxyConnection *c = userdata;
        char buffer[4096];
        ssize_t n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0 || strbuf_append(&c->in, buffer, (size_t) n) < 0) {
                connection_free(c);
                return 0;
        }
        c->head_size = proxy_head_size(c->in.text, c->in.size);
        if (c->head_size > PROXY_HEAD_MAX || (c->head_size == 0 && c->in.size > PROXY_HEAD_MAX)) {
                connection_refuse(c, "431 Request Header Fields Too Large", "The head of the request is too large");
                return 0;
        }
        return c->head_size > 0 ? on_head(c) : 0;
}

static int on_head_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        connection_refuse(userdata, "408 Request Timeout", "No request came");
        return 0;
}

static int connection_new(Proxy *p, int fd) {
        ProxyConnection *c = new0(ProxyConnection, 1);
        int r;

        if (!c) {
                (void) close(fd);
                return -ENOMEM;
        }
        c->proxy = p;
        c->fd = fd;
        LIST_INSERT_HEAD(&p->connections, c, connections);
        p->n_connections++;
        r = sd_event_add_io(p->spec.event, &c->io, fd, EPOLLIN, on_input, c);
        if (r >= 0)
                r = event_arm_timer(p->spec.event, &c->timer, HEAD_TIMEOUT_USEC, 0, on_head_timeout, c);
        if (r < 0)
                connection_free(c);
        return r;
}

static int on_connection(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        static const char full[] =
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        Proxy *p = userdata;
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC|SOCK_NONBLOCK);

        if (client < 0) {
                if (errno_is_shortage(errno))
                        (void) event_pause(p->listening, p->pause, SHORTAGE_PAUSE_USEC);
                return 0;
        }
        if (p->n_connections >= CONNECTIONS_MAX) {
                log_notice("Proxy: a connection was refused, there are %u already.", p->n_connections);
                (void) send(client, full, strlen(full), MSG_DONTWAIT|MSG_NOSIGNAL);
                (void) close(client);
                return 0;
        }
        if (connection_new(p, client) < 0)
                (void) log_oom();
        return 0;
}

/* ---- the proxy ---- */

int proxy_new(Proxy **ret, const ProxySpec *spec) {
        _cleanup_(proxy_freep) Proxy *p = new0(Proxy, 1);
        int r;

        if (!p) {
                (void) safe_close(spec->listen_fd);
                return -ENOMEM;
        }
        p->spec = *spec;
        r = sd_event_add_io(spec->event, &p->listening, spec->listen_fd, EPOLLIN, on_connection, p);
        if (r < 0) {
                (void) safe_close(spec->listen_fd);
                return r;
        }
        r = sd_event_source_set_io_fd_own(p->listening, true);
        if (r >= 0)
                r = event_pause_new(p->listening, &p->pause);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

Proxy* proxy_free(Proxy *p) {
        ProxyConnection *c;

        if (!p)
                return NULL;

        p->spec.on_idle = NULL;
        while ((c = LIST_FIRST(&p->connections)))
                connection_free(c);
        (void) sd_event_source_disable_unref(p->pause);
        (void) sd_event_source_disable_unref(p->listening);
        strv_free(p->allow_hosts);
        return mfree(p);
}

int proxy_configure(Proxy *p, char *const *allow_hosts) {
        char **copy = NULL;

        for (char *const *h = allow_hosts; h && *h; h++) {
                int r = host_pattern_is_valid(*h) ? strv_extend(&copy, *h) : -EINVAL;

                if (r < 0) {
                        strv_free(copy);
                        return r;
                }
        }
        strv_free(p->allow_hosts);
        p->allow_hosts = copy;
        return 0;
}

unsigned proxy_n_connections(const Proxy *p) {
        return p->n_connections;
}

void proxy_quiesce(Proxy *p) {
        p->pause = sd_event_source_disable_unref(p->pause);
        p->listening = sd_event_source_disable_unref(p->listening);
}
