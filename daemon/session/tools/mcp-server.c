/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "event-util.h"
#include "log.h"
#include "mcp-server.h"
#include "string-util.h"

#define CONNECTIONS_MAX 8U
/* As long as so much is waiting to be read by the client, no more of it is. */
#define OUTPUT_HIGH MIB(1)
#define READ_SIZE KIB(64)
#define ACCEPT_PAUSE_USEC (USEC_PER_SEC / 2)

typedef struct McpConnection {
        McpServer *server;
        int fd;
        sd_event_source *io;
        McpPeer *peer;
        StrBuf output;
        bool is_at_end;         /* nothing more will be read */
        bool is_broken;         /* … and what it waits for does not matter */
        LIST_ENTRY(McpConnection) connections;
} McpConnection;

struct McpServer {
        sd_event *event;
        ToolBox *tools;
        int fd;
        sd_event_source *io, *pause;
        LIST_HEAD(, McpConnection) connections;
        unsigned n_connections;
};

static McpConnection* connection_free(McpConnection *c) {
        if (!c)
                return NULL;
        if (c->server) {
                LIST_REMOVE(c, connections);
                c->server->n_connections--;
        }
        mcp_peer_free(c->peer);
        sd_event_source_disable_unref(c->io);
        safe_close(c->fd);
        strbuf_done(&c->output);
        return mfree(c);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(McpConnection*, connection_free);

static bool connection_wants_input(const McpConnection *c) {
        return !c->is_at_end && c->output.size < OUTPUT_HIGH;
}

static void connection_update(McpConnection *c) {
        (void) sd_event_source_set_io_events(c->io, (connection_wants_input(c) ? EPOLLIN : 0) |
                                                    (c->output.size > 0 ? EPOLLOUT : 0));
}

static void connection_flush(McpConnection *c) {
        while (c->output.size > 0) {
                ssize_t n = send(c->fd, c->output.text, c->output.size, MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return;
                if (n < 0) {
                        c->is_at_end = c->is_broken = true;
                        strbuf_done(&c->output);
                        return;
                }
                strbuf_consume(&c->output, (size_t) n);
        }
        strbuf_done(&c->output);
}

static void connection_write(const char *line, size_t size, void *userdata) {
        McpConnection *c = userdata;

        if (c->is_broken)
                return;
        if (strbuf_append(&c->output, line, size) < 0) {
                /* A line that is missing would leave the client waiting for ever. */
                c->is_at_end = c->is_broken = true;
                (void) shutdown(c->fd, SHUT_RDWR);
                return;
        }
        connection_update(c);
}

static void connection_read(McpConnection *c) {
        char buffer[READ_SIZE];
        ssize_t n = recv(c->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n < 0)
                c->is_broken = true;
        if (n <= 0 || mcp_peer_feed(c->peer, buffer, (size_t) n) < 0)
                c->is_at_end = true;
}

static int connection_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        McpConnection *c = userdata;

        if (revents & (EPOLLHUP | EPOLLERR))
                c->is_at_end = c->is_broken = true;
        if (revents & EPOLLIN && connection_wants_input(c))
                connection_read(c);
        if (!c->is_broken)
                connection_flush(c);

        /* Who has said all and still listens gets the answers. */
        if (c->is_broken || (c->is_at_end && c->output.size == 0 && mcp_peer_n_calls(c->peer) == 0))
                connection_free(c);
        else
                connection_update(c);
        return 0;
}

static int connection_new(McpServer *s, int fd) {
        _cleanup_(connection_freep) McpConnection *c = new0(McpConnection, 1);
        int r;

        if (!c) {
                safe_close(fd);
                return -ENOMEM;
        }
        c->fd = fd;
        r = mcp_peer_new(&c->peer, &(McpPeerSpec) { .tools = s->tools, .write = connection_write, .userdata = c });
        if (r >= 0)
                r = sd_event_add_io(s->event, &c->io, fd, EPOLLIN, connection_on_io, c);
        if (r < 0)
                return r;

        c->server = s;
        LIST_INSERT_HEAD(&s->connections, c, connections);
        s->n_connections++;
        TAKE_PTR(c);
        return 0;
}

static int on_pause_over(sd_event_source *source, uint64_t usec, void *userdata) {
        McpServer *s = userdata;

        return sd_event_source_set_enabled(s->io, SD_EVENT_ON);
}

static int on_connection(sd_event_source *source, int listen_fd, uint32_t revents, void *userdata) {
        McpServer *s = userdata;
        int fd, r;

        fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
                if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                        /* The one who waits would keep the loop busy. */
                        (void) sd_event_source_set_enabled(s->io, SD_EVENT_OFF);
                        r = event_arm_timer(s->event, &s->pause, ACCEPT_PAUSE_USEC, 1, on_pause_over, s);
                        if (r < 0)
                                (void) sd_event_source_set_enabled(s->io, SD_EVENT_ON);
                        (void) log_warning_errno(errno, "Failed to take a connection to the tools: %m");
                }
                return 0;
        }
        if (s->n_connections >= CONNECTIONS_MAX) {
                log_notice("Refused a connection to the tools: there are %u.", CONNECTIONS_MAX);
                safe_close(fd);
                return 0;
        }
        r = connection_new(s, fd);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to take a connection to the tools: %m");
        return 0;
}

int mcp_server_listen_fd(McpServer *s, int fd) {
        _cleanup_close_ int taken = fd;
        int r;

        if (s->fd >= 0)
                return -EBUSY;
        r = sd_is_socket(fd, AF_UNIX, SOCK_STREAM, /* listening= */ 1);
        if (r <= 0)
                return r < 0 ? r : -EINVAL;
        r = sd_event_add_io(s->event, &s->io, fd, EPOLLIN, on_connection, s);
        if (r < 0)
                return r;
        s->fd = TAKE_FD(taken);
        return 0;
}

void mcp_server_set_tools(McpServer *s, ToolBox *tools) {
        McpConnection *c;

        s->tools = tools;
        LIST_FOREACH(c, &s->connections, connections)
                mcp_peer_set_tools(c->peer, tools);
}

int mcp_server_new(McpServer **ret, sd_event *event, ToolBox *tools) {
        McpServer *s = new0(McpServer, 1);

        if (!s)
                return -ENOMEM;
        LIST_INIT(&s->connections);
        s->event = sd_event_ref(event);
        s->tools = tools;
        s->fd = -EBADF;
        *ret = s;
        return 0;
}

McpServer* mcp_server_free(McpServer *s) {
        McpConnection *c;

        if (!s)
                return NULL;
        while ((c = LIST_FIRST(&s->connections)))
                connection_free(c);
        sd_event_source_disable_unref(s->io);
        sd_event_source_disable_unref(s->pause);
        safe_close(s->fd);
        sd_event_unref(s->event);
        return mfree(s);
}
