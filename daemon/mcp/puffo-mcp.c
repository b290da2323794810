/* SPDX-License-Identifier: MIT */

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "event-util.h"
#include "mcp-bridge.h"

/* An MCP server by stdio for the tools of one agent: the session behind $PUFFO_TOOL_SOCKET is the one that answers. A
 * session that is started again is waited for. There is nothing to clean up: signals end it as they end every program.
 */

#define READ_SIZE KIB(64)
/* As long as so much waits to be written on one side, nothing is read on the other. */
#define OUTPUT_HIGH MIB(1)
#define PAUSE_MIN_USEC (100 * USEC_PER_MSEC)
#define PAUSE_MAX_USEC (5 * USEC_PER_SEC)
#define PATIENCE_USEC (30 * USEC_PER_SEC)

typedef struct Link {
        McpBridge *bridge;
        struct sockaddr_un address;
        int fd;                         /* -EBADF: not connected */
        uint64_t since_usec;            /* without a word from the session; 0: all is well */
        uint64_t next_usec, pause_usec; /* of the next attempt */
        int error;                      /* of the last one */
} Link;

/* --- the session's side --- */

static int link_cut(Link *l, int error) {
        uint64_t now = now_boottime_usec();

        l->fd = safe_close(l->fd);
        l->error = error;
        if (l->since_usec == 0) {
                l->since_usec = now;
                l->pause_usec = PAUSE_MIN_USEC;
        }
        l->next_usec = now + l->pause_usec;
        l->pause_usec = MIN(l->pause_usec * 2, PAUSE_MAX_USEC);
        return mcp_bridge_on_disconnected(l->bridge);
}

static int link_connect(Link *l) {
        l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (l->fd < 0 || connect(l->fd, (struct sockaddr*) &l->address, sizeof(l->address)) < 0)
                return link_cut(l, -errno);
        return mcp_bridge_on_connected(l->bridge);
}

/* Without a connection: the milliseconds until something is to be done. */
static int link_wait(Link *l, int *ret_timeout) {
        uint64_t now = now_boottime_usec();
        int r = 0;

        *ret_timeout = -1;
        if (l->fd >= 0 || !mcp_bridge_is_waiting(l->bridge))
                return 0;       /* nobody is told anything, and nobody asks */
        if (l->since_usec > 0 && now - l->since_usec >= PATIENCE_USEC) {
                /* The next request is a new beginning. */
                l->since_usec = l->next_usec = 0;
                return mcp_bridge_give_up(l->bridge, strerror(-l->error));
        }
        if (now >= l->next_usec)
                r = link_connect(l);
        if (r >= 0 && l->fd < 0) {
                uint64_t until = MIN(l->next_usec, l->since_usec + PATIENCE_USEC);

                *ret_timeout = until > now ? (int) ((until - now) / USEC_PER_MSEC) + 1 : 1;
        }
        return r;
}

static int link_read(Link *l) {
        char buffer[READ_SIZE];
        ssize_t n = recv(l->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        int r;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0)
                return link_cut(l, n < 0 ? -errno : -ECONNRESET);
        r = mcp_bridge_from_session(l->bridge, buffer, (size_t) n);
        if (r > 0)
                l->since_usec = l->next_usec = 0;
        return r == -EPROTO ? link_cut(l, r) : r < 0 ? r : 0;
}

static int link_write(Link *l) {
        BridgeOutput *o = mcp_bridge_to_session(l->bridge);
        ssize_t n = send(l->fd, o->text.text + o->begin, bridge_output_size(o), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : link_cut(l, -errno);
        bridge_output_consume(o, (size_t) n);
        return 0;
}

/* --- the client's side --- */

/* 1: the client is gone. */
static int client_read(Link *l) {
        char buffer[READ_SIZE];
        ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : 1;
        return n == 0 ? 1 : mcp_bridge_from_client(l->bridge, buffer, (size_t) n);
}

/* Never waits, although the descriptor may be one that does: it may be shared with others, and is left as it is. */
static int client_write(Link *l) {
        BridgeOutput *o = mcp_bridge_to_client(l->bridge);
        const char *data = o->text.text + o->begin;
        ssize_t n = send(STDOUT_FILENO, data, bridge_output_size(o), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == ENOTSOCK)
                n = write(STDOUT_FILENO, data, MIN(bridge_output_size(o), (size_t) PIPE_BUF));
        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : 1;
        bridge_output_consume(o, (size_t) n);
        return 0;
}

/* --- both --- */

static int step(Link *l) {
        enum { CLIENT_IN, CLIENT_OUT, SESSION };
        BridgeOutput *to_client = mcp_bridge_to_client(l->bridge), *to_session = mcp_bridge_to_session(l->bridge);
        struct pollfd fds[3] = {};
        int timeout, r;

        r = link_wait(l, &timeout);
        if (r < 0)
                return r;
        fds[CLIENT_IN].fd = STDIN_FILENO;
        fds[CLIENT_IN].events = bridge_output_size(to_session) < OUTPUT_HIGH &&
                                bridge_output_size(to_client) < OUTPUT_HIGH ? POLLIN : 0;
        fds[CLIENT_OUT].fd = STDOUT_FILENO;
        fds[CLIENT_OUT].events = bridge_output_size(to_client) > 0 ? POLLOUT : 0;
        fds[SESSION].events = (short) ((bridge_output_size(to_client) < OUTPUT_HIGH ? POLLIN : 0) |
                                       (bridge_output_size(to_session) > 0 ? POLLOUT : 0));
        /* One below 0 is passed over. A hang-up would be told again and again, whether or not somebody wants to know.
         */
        fds[SESSION].fd = fds[SESSION].events ? l->fd : -1;
        if (poll(fds, ELEMENTSOF(fds), timeout) < 0)
                return errno == EINTR ? 0 : -errno;

        if (fds[CLIENT_IN].revents & POLLIN)
                r = client_read(l);
        else if (fds[CLIENT_IN].revents)
                return 1;
        if (r == 0 && fds[CLIENT_OUT].revents & (POLLERR | POLLHUP | POLLNVAL))
                return 1;
        if (r == 0 && fds[CLIENT_OUT].revents)
                r = client_write(l);
        if (r == 0 && l->fd >= 0 && fds[SESSION].revents & POLLOUT && bridge_output_size(to_session) > 0)
                r = link_write(l);
        if (r == 0 && l->fd >= 0 && fds[SESSION].revents & POLLIN)
                r = link_read(l);
        else if (r == 0 && l->fd >= 0 && fds[SESSION].revents & (POLLERR | POLLHUP))
                r = link_cut(l, -ECONNRESET);
        return r;
}

int main(int argc, char *argv[]) {
        const char *path = getenv("PUFFO_TOOL_SOCKET");
        Link l = { .fd = -EBADF, .address.sun_family = AF_UNIX };
        sigset_t none;
        int r;

        if (argc > 1 || !path || *path != '/' || strlen(path) >= sizeof(l.address.sun_path)) {
                (void) fprintf(stderr, "puffo-mcp: %s\n",
                               argc > 1 ? "there are no options" :
                               "PUFFO_TOOL_SOCKET must be the absolute path of a socket");
                return EXIT_FAILURE;
        }
        memcpy(l.address.sun_path, path, strlen(path) + 1);
        (void) signal(SIGPIPE, SIG_IGN);
        (void) signal(SIGINT, SIG_DFL);
        (void) signal(SIGTERM, SIG_DFL);
        sigemptyset(&none);
        (void) sigprocmask(SIG_SETMASK, &none, NULL);

        r = mcp_bridge_new(&l.bridge);
        while (r == 0)
                r = step(&l);
        safe_close(l.fd);
        l.bridge = mcp_bridge_free(l.bridge);
        if (r > 0)
                return EXIT_SUCCESS;
        (void) fprintf(stderr, "puffo-mcp: %s\n", strerror(-r));
        return EXIT_FAILURE;
}
