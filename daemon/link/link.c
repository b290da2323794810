/* SPDX-License-Identifier: MIT */

#include <malloc.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "event-util.h"
#include "exchange.h"
#include "link.h"
#include "log.h"

LIST_HEAD(ClientList, Client);
LIST_HEAD(CallList, Call);

struct Link {
        sd_event *event;
        sd_event_source *io, *pause, *idle;
        uint64_t idle_usec;
        struct ClientList clients;
};

/* Who has a uid of its own is one client, whatever its processes; those that are of ours are told apart by process. */
typedef struct Client {
        Link *link;
        uid_t uid;
        pid_t pid;              /* 0: all of that user's */
        HttpClient *http;
        unsigned n_calls;
        struct CallList calls;
        sd_event_source *idle;  /* is forgotten when it has wanted nothing for so long */
        bool told;              /* that it wants too much */
        LIST_ENTRY(Client) clients;
} Client;

typedef struct Call {
        Client *client;
        Exchange *exchange;
        LIST_ENTRY(Call) calls;
} Call;

static Call* call_free(Call *call) {
        if (call->client) {
                LIST_REMOVE(call, calls);
                call->client->n_calls--;
        }
        (void) exchange_free(call->exchange);
        return mfree(call);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Call*, call_free);

static Client* client_free(Client *c) {
        Call *call;

        if (!c)
                return NULL;
        while ((call = LIST_FIRST(&c->calls)))
                (void) call_free(call);
        (void) sd_event_source_disable_unref(c->idle);
        (void) http_client_free(c->http);
        if (c->link)
                LIST_REMOVE(c, clients);
        return mfree(c);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Client*, client_free);

static int on_link_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        Link *l = userdata;

        /* Whoever connects meanwhile is not lost: the service manager holds the socket, and starts us anew. */
        return LIST_EMPTY(&l->clients) ? sd_event_exit(l->event, 0) : 0;
}

static void link_look_idle(Link *l) {
        int r;

        if (!LIST_EMPTY(&l->clients))
                return;
        r = event_arm_timer(l->event, &l->idle, l->idle_usec, USEC_PER_SEC, on_link_idle, l);
        if (r < 0)
                (void) sd_event_exit(l->event, 0);
}

static int on_client_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        Client *c = userdata;
        Link *l = c->link;

        if (c->n_calls > 0)
                return 0;
        (void) client_free(c);
        (void) malloc_trim(0);
        if (LIST_EMPTY(&l->clients))
                (void) sd_event_exit(l->event, 0);
        return 0;
}

static int client_look_idle(Client *c) {
        return event_arm_timer(c->link->event, &c->idle, c->link->idle_usec, USEC_PER_SEC, on_client_idle, c);
}

static void on_exchange_end(Exchange *x, void *userdata) {
        Call *call = userdata;
        Client *c = call->client;

        (void) call_free(call);
        if (c->n_calls == 0 && client_look_idle(c) < 0)
                log_oom();
}

static int client_get(Link *l, uid_t uid, pid_t pid, Client **ret) {
        _cleanup_(client_freep) Client *c = NULL;
        int r;

        if (uid != getuid())
                pid = 0;
        LIST_FOREACH(c, &l->clients, clients)
                if (c->uid == uid && c->pid == pid) {
                        *ret = TAKE_PTR(c);
                        return 0;
                }

        c = new0(Client, 1);
        if (!c)
                return -ENOMEM;
        c->uid = uid;
        c->pid = pid;
        r = http_client_new(&c->http, l->event);
        if (r < 0)
                return r;
        c->link = l;
        LIST_INSERT_HEAD(&l->clients, c, clients);
        r = client_look_idle(c);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

static int link_take(Link *l, int connection) {
        _cleanup_close_ int fd = connection;
        _cleanup_(call_freep) Call *call = NULL;
        struct ucred peer;
        Client *c;
        int r;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t) { sizeof(peer) }) < 0)
                return -errno;
        r = client_get(l, peer.uid, peer.pid, &c);
        if (r < 0)
                return r;
        if (c->n_calls >= LINK_EXCHANGES_MAX) {
                if (!c->told)
                        log_warning("Process %d of user %u wants more than %u things at once: some are not done.",
                                    (int) peer.pid, (unsigned) peer.uid, LINK_EXCHANGES_MAX);
                c->told = true;
                return 0;
        }

        call = new0(Call, 1);
        if (!call)
                return -ENOMEM;
        r = exchange_new(&call->exchange, &(ExchangeSpec) {
                .event = l->event, .http = c->http, .on_end = on_exchange_end, .userdata = call,
        }, TAKE_FD(fd));
        if (r < 0)
                return r;
        call->client = c;
        c->n_calls++;
        LIST_INSERT_HEAD(&c->calls, call, calls);
        (void) TAKE_PTR(call);
        return 0;
}

static int on_connection(sd_event_source *s, int listen_fd, uint32_t revents, void *userdata) {
        Link *l = userdata;
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), r;

        if (fd < 0) {
                if (errno_is_shortage(errno)) {
                        (void) log_warning_errno(errno, "Sessions have no network for the moment: %m");
                        (void) event_pause(l->io, l->pause, USEC_PER_SEC);
                }
                return 0;
        }
        r = link_take(l, fd);
        if (r < 0)
                (void) log_warning_errno(r, "A session has no network: %m");
        link_look_idle(l);
        return 0;
}

int link_new(Link **ret, sd_event *event, int fd, uint64_t idle_usec) {
        _cleanup_(link_freep) Link *l = new0(Link, 1);
        int r;

        if (!l) {
                (void) safe_close(fd);
                return -ENOMEM;
        }
        LIST_INIT(&l->clients);
        l->event = sd_event_ref(event);
        l->idle_usec = idle_usec;
        r = sd_event_add_io(event, &l->io, fd, EPOLLIN, on_connection, l);
        if (r < 0) {
                (void) safe_close(fd);
                return r;
        }
        r = sd_event_source_set_io_fd_own(l->io, true);
        if (r >= 0)
                r = event_pause_new(l->io, &l->pause);
        if (r < 0)
                return r;
        link_look_idle(l);
        *ret = TAKE_PTR(l);
        return 0;
}

Link* link_free(Link *l) {
        Client *c;

        if (!l)
                return NULL;
        while ((c = LIST_FIRST(&l->clients)))
                (void) client_free(c);
        (void) sd_event_source_disable_unref(l->pause);
        (void) sd_event_source_disable_unref(l->idle);
        (void) sd_event_source_disable_unref(l->io);
        sd_event_unref(l->event);
        return mfree(l);
}
