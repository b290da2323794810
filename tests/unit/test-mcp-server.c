/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "mcp-server"

#include <sys/socket.h>
#include <sys/un.h>

#include "mcp-server.h"
#include "run-socket.h"
#include "tool-fixture.h"

#define PING "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n"
#define PONG "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}\n"
#define INITIALIZE \
        "{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{\"protocolVersion\":\"2025-06-18\"}}\n"
#define SLOW "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"tools/call\",\"params\":{\"name\":\"list_channels\"}}\n"

typedef struct Desk {
        Bench bench;
        McpServer *server;
        char *path;
} Desk;

static int listen_at(McpServer *s, const char *path) {
        int fd = run_socket_open(path, "tools");

        return fd < 0 ? fd : mcp_server_listen_fd(s, fd);
}

static void desk_begin(Desk *d) {
        bench_begin(&d->bench);
        d->path = path_join(d->bench.path, "run/rob/tools.sock");
        ASSERT_OK(mcp_server_new(&d->server, d->bench.event, d->bench.box));
        ASSERT_OK(listen_at(d->server, d->path));
}

static void desk_end(Desk *d) {
        mcp_server_free(d->server);
        free(d->path);
        bench_end(&d->bench);
}

#define DESK(d) \
        _cleanup_(desk_end) Desk d; \
        desk_begin(&d)

static int dial(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        (void) strcpy(address.sun_path, path);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(connect(fd, (struct sockaddr*) &address, sizeof(address)));
        return fd;
}

static void say(Desk *d, int fd, const char *text) {
        ASSERT_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t) strlen(text));
        fake_run(d->bench.event);
}

/* What has come; NULL: the end. */
static const char* hear(Desk *d, int fd) {
        static char buffer[KIB(64)];
        ssize_t n;

        fake_run(d->bench.event);
        n = recv(fd, buffer, sizeof(buffer) - 1, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN)
                return "";
        if (n <= 0)
                return NULL;
        buffer[n] = 0;
        return buffer;
}

TEST(several_clients) {
        DESK(d);
        _cleanup_close_ int a = dial(d.path), b = dial(d.path);

        say(&d, a, PING);
        ASSERT_STREQ(hear(&d, b), "");
        ASSERT_STREQ(hear(&d, a), PONG);
        say(&d, b, PING PING);
        ASSERT_STREQ(hear(&d, b), PONG PONG);
        b = safe_close(b);
        say(&d, a, PING);
        ASSERT_STREQ(hear(&d, a), PONG);
}

TEST(who_may_connect) {
        DESK(d);
        _cleanup_free_ char *parent = path_join(d.bench.path, "run/rob");
        struct stat st;

        ASSERT_OK(stat(d.path, &st));
        ASSERT_EQ(st.st_mode & 07777, 0600);
        ASSERT_OK(stat(parent, &st));
        ASSERT_EQ(st.st_mode & 07777, 0700);
}

TEST(too_many_clients) {
        DESK(d);
        int fds[8], more;

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = dial(d.path);
        fake_run(d.bench.event);
        more = dial(d.path);
        ASSERT_NULL(hear(&d, more));
        safe_close(more);
        say(&d, fds[7], PING);
        ASSERT_STREQ(hear(&d, fds[7]), PONG);

        safe_close(fds[0]);
        fake_run(d.bench.event);
        fds[0] = dial(d.path);
        say(&d, fds[0], PING);
        ASSERT_STREQ(hear(&d, fds[0]), PONG);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                safe_close(fds[i]);
}

TEST(a_client_that_has_said_all) {
        DESK(d);
        _cleanup_close_ int fd = dial(d.path);

        say(&d, fd, INITIALIZE SLOW);
        ASSERT_OK(shutdown(fd, SHUT_WR));
        ASSERT_NOT_NULL(strstr(hear(&d, fd), "puffo-core"));
        ASSERT_STREQ(hear(&d, fd), "");
        bench_answer(&d.bench, "GET /spaces", 0, NULL);
        bench_answer(&d.bench, "GET /spaces/sp_home/channels", 200, "{\"channels\":[]}");
        ASSERT_STREQ(hear(&d, fd), "{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{\"content\":[{\"type\":\"text\","
                                   "\"text\":\"(no channels in this space)\"}],\"isError\":false}}\n");
        ASSERT_NULL(hear(&d, fd));
}

TEST(a_client_that_goes) {
        DESK(d);
        _cleanup_close_ int fd = dial(d.path);

        say(&d, fd, INITIALIZE SLOW);
        fd = safe_close(fd);
        ASSERT_FALSE(fake.calls[0]->is_freed);
        fake_run(d.bench.event);
        ASSERT_TRUE(fake.calls[0]->is_freed);
}

TEST(a_line_that_is_too_long) {
        DESK(d);
        _cleanup_close_ int fd = dial(d.path);
        _cleanup_free_ char *piece = malloc(KIB(64));
        size_t n = 0;

        (void) memset(piece, 'x', KIB(64));
        for (;;) {
                ssize_t k = send(fd, piece, KIB(64), MSG_NOSIGNAL | MSG_DONTWAIT);

                fake_run(d.bench.event);
                if (k < 0 && errno != EAGAIN)
                        break;
                n += k > 0 ? (size_t) k : 0;
                ASSERT_TRUE(n < 2 * MCP_LINE_MAX);
        }
        ASSERT_TRUE(n > MCP_LINE_MAX);
        ASSERT_STREQ(hear(&d, fd), "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,\"message\":\"The "
                                   "line is too long\"}}\n");
}

/* Asks on and on and reads nothing: is not listened to any more until it does, and loses nothing. */
TEST(a_client_that_does_not_read) {
        DESK(d);
        _cleanup_close_ int fd = dial(d.path);
        size_t n_asked = 0, heard = 0;
        const char *text;

        for (unsigned stuck = 0; stuck < 3; ) {
                ssize_t k = send(fd, PING, strlen(PING), MSG_NOSIGNAL | MSG_DONTWAIT);

                fake_run(d.bench.event);
                /* Half a line would have to be finished. */
                ASSERT_TRUE(k < 0 || k == (ssize_t) strlen(PING));
                if (k < 0) {
                        ASSERT_EQ(errno, EAGAIN);
                        stuck++;
                } else
                        n_asked++;
                ASSERT_TRUE(n_asked < 1000000);
        }
        while ((text = hear(&d, fd)) && *text)
                heard += strlen(text);
        ASSERT_EQ(heard, n_asked * strlen(PONG));
}

TEST(the_place_of_a_socket) {
        DESK(d);
        McpServer *second = NULL;
        _cleanup_free_ char *file = path_join(d.bench.path, "run/file"), *stale = path_join(d.bench.path, "run/stale"),
                            *long_path = NULL, *below = path_join(d.bench.path, "run/file/tools.sock");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd;

        ASSERT_OK(mcp_server_new(&second, d.bench.event, NULL));
        ASSERT_ERROR(listen_at(second, d.path), EADDRINUSE);
        ASSERT_OK(file_write_snapshot(file, "x", 1, 0600));
        ASSERT_ERROR(listen_at(second, file), EEXIST);
        ASSERT_ERROR(listen_at(second, below), ENOTDIR);
        long_path = asprintf_new("%s/%0120u", d.bench.path, 1U);
        ASSERT_ERROR(listen_at(second, long_path), ENAMETOOLONG);
        ASSERT_ERROR(access(long_path, F_OK) < 0 ? -errno : 0, ENOENT);
        ASSERT_ERROR(mcp_server_listen_fd(second, open("/dev/null", O_RDWR | O_CLOEXEC)), EINVAL);

        /* Of a process that was killed. */
        (void) strcpy(address.sun_path, stale);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ASSERT_OK(bind(fd, (struct sockaddr*) &address, sizeof(address)));
        ASSERT_OK(listen(fd, 1));
        safe_close(fd);
        ASSERT_OK(listen_at(second, stale));
        fd = dial(stale);
        ASSERT_STREQ(hear(&d, fd), "");
        second = mcp_server_free(second);
        ASSERT_NULL(hear(&d, fd));
        safe_close(fd);
        run_socket_remove(stale, "tools", -EBADF);
        ASSERT_ERROR(access(stale, F_OK) < 0 ? -errno : 0, ENOENT);
}

TEST(a_path_that_is_longer_than_an_address) {
        DESK(d);
        _cleanup_free_ char *path = asprintf_new("%s/%0120u/tools.sock", d.bench.path, 1U), *short_path = NULL;
        _cleanup_close_ int client = -EBADF, directory = -EBADF;
        McpServer *second;

        ASSERT_OK(mcp_server_new(&second, d.bench.event, NULL));
        ASSERT_OK(listen_at(second, path));
        ASSERT_OK(access(path, F_OK));
        *strrchr(path, '/') = 0;
        directory = open(path, O_PATH | O_CLOEXEC);
        short_path = asprintf_new("/proc/self/fd/%i/tools.sock", directory);
        client = dial(short_path);
        say(&d, client, PING);
        ASSERT_STREQ(hear(&d, client), PONG);
        mcp_server_free(second);
}

TEST(a_socket_that_was_passed) {
        DESK(d);
        _cleanup_close_ int fd = -EBADF, client = -EBADF;
        _cleanup_free_ char *path = path_join(d.bench.path, "passed");
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        McpServer *second;

        (void) strcpy(address.sun_path, path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ASSERT_OK(bind(fd, (struct sockaddr*) &address, sizeof(address)));
        ASSERT_OK(listen(fd, 1));
        ASSERT_OK(mcp_server_new(&second, d.bench.event, NULL));
        ASSERT_OK(mcp_server_listen_fd(second, TAKE_FD(fd)));
        client = dial(path);
        say(&d, client, PING);
        ASSERT_STREQ(hear(&d, client), PONG);
        mcp_server_free(second);
        /* Not ours to remove. */
        ASSERT_OK(access(path, F_OK));
}

TEST_MAIN();
