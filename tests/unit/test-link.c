/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "event-util.h"
#include "link-wire.h"
#include "link.h"
#include "string-util.h"
#include "tests.h"

/* The link itself, in this process, and clients that write what they like. (What a proper one hears of it is looked at
 * through the link: test-http-client.c and others.) */

typedef struct Fixture {
        char directory[32];
        struct sockaddr_un address;
        sd_event *event;
        Link *link;
} Fixture;

static void fixture_init(Fixture *f, uint64_t idle_usec) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        *f = (Fixture) { .directory = "/tmp/test-link-XXXXXX", .address.sun_family = AF_UNIX };
        ASSERT_NOT_NULL(mkdtemp(f->directory));
        (void) snprintf(f->address.sun_path, sizeof(f->address.sun_path), "%s/link", f->directory);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &f->address, sizeof(f->address)), 0);
        ASSERT_EQ(listen(fd, 300), 0);
        ASSERT_OK(sd_event_new(&f->event));
        ASSERT_OK(link_new(&f->link, f->event, fd, idle_usec));
}

static void fixture_done(Fixture *f) {
        f->link = link_free(f->link);
        f->event = sd_event_unref(f->event);
        (void) unlink(f->address.sun_path);
        (void) rmdir(f->directory);
}
#define FIXTURE(name, idle) _cleanup_(fixture_done) Fixture name; fixture_init(&name, idle)

static int client_connect(Fixture *f) {
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(connect(fd, (struct sockaddr*) &f->address, sizeof(f->address)), 0);
        ASSERT_EQ(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
        return fd;
}

/* All that comes until the link hangs up. */
static void client_read(Fixture *f, int fd, StrBuf *ret) {
        for (;;) {
                char buffer[4096];
                ssize_t n = recv(fd, buffer, sizeof(buffer), 0);

                if (n > 0)
                        ASSERT_OK(strbuf_append(ret, buffer, (size_t) n));
                else if (n == 0 || errno == ECONNRESET)
                        return;
                else
                        ASSERT_TRUE(sd_event_run(f->event, 60 * USEC_PER_SEC) > 0);
        }
}

#define BYTES(x) x, sizeof(x) - 1
/* A port that nobody listens on. */
#define NOWHERE "url http://127.0.0.1:1/\n"

TEST(what_clients_say) {
        static const struct {
                const char *bytes;
                size_t size;
                const char *answer;     /* NULL: it is disconnected without a word */
        } t[] = {
                { BYTES("r\x18\0\0\0" NOWHERE), "failure connect\n" },
                { BYTES("r\x22\0\0\0" NOWHERE "new thing\n"), "failure connect\n" },
                { BYTES("r\0\0\0\0"), "failure protocol\n" },
                { BYTES("r\x0e\0\0\0url ftp://x/y\n"), "failure protocol\n" },
                { BYTES("r\x24\0\0\0" NOWHERE "method a b \n"), "failure protocol\n" },
                { BYTES("r\x28\0\0\0" NOWHERE "idle-timeout -1\n"), "failure protocol\n" },
                { BYTES("w\x16\0\0\0url ws://127.0.0.1:1/\n"), "failure connect\n" },
                { BYTES("w\x18\0\0\0" NOWHERE), "failure protocol\n" },
                { BYTES("a\x03\0\0\0xyzr\x18\0\0\0" NOWHERE), "failure" },
                { BYTES("SSH-2.0-x\r\n"), NULL },
                { BYTES("GET / HTTP/1.1\r\n\r\n"), NULL },
                { BYTES("\xff\xff\xff\xff\xff"), NULL },
                { BYTES("r\xff\xff\xff\xff"), NULL },
                { BYTES("b\x01\0\0\0x"), NULL },
                { BYTES("t\x01\0\0\0x"), NULL },
                { BYTES("c\0\0\0\0"), NULL },
                { BYTES("h\0\0\0\0"), NULL },
                { BYTES("a\x01\0\0\0xa\x01\0\0\0x"), NULL },
                { BYTES("a\x01\0\x10\0x"), NULL },
                { BYTES("r\x18\0\0\0" NOWHERE "b\x01\0\0\0x"), NULL },
                { BYTES("r\x18\0\0\0" NOWHERE "r\x18\0\0\0" NOWHERE), NULL },
                { BYTES("r\x18\0\0\0" NOWHERE "t\x01\0\0\0x"), NULL },
                { BYTES("r\x1f\0\0\0" NOWHERE "body 1\n" "e\0\0\0\0b\x01\0\0\0x"), NULL },
                { BYTES("w\x16\0\0\0url ws://127.0.0.1:1/\nb\x01\0\0\0x"), NULL },
                { BYTES("w\x16\0\0\0url ws://127.0.0.1:1/\nc\0\0\0\0"), "failure" },
                { BYTES("w\x16\0\0\0url ws://127.0.0.1:1/\nt\x01\0\0\0xp\0\0\0\0"), "failure connect\n" },
        };
        FIXTURE(f, USEC_PER_SEC * 60);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(strbuf_done) StrBuf answer = {};
                _cleanup_close_ int fd = client_connect(&f);
                LinkConnection c = { .fd = -EBADF };
                LinkFrame frame;

                ASSERT_EQ(write(fd, t[i].bytes, t[i].size), (ssize_t) t[i].size);
                client_read(&f, fd, &c.in);
                if (!t[i].answer) {
                        if (c.in.size > 0)
                                fail_msg("%zu: there is an answer", i);
                        continue;
                }
                ASSERT_EQ(link_next(&c, 0, &frame), 1);
                ASSERT_EQ(frame.type, LINK_END);
                if (!startswith(frame.data, t[i].answer))
                        fail_msg("%zu: %.*s", i, (int) frame.size, frame.data);
                link_settle(&c);
                ASSERT_EQ(link_next(&c, 0, &frame), 0);
                link_connection_done(&c);
        }
}

/* Byte by byte it is the same. */
TEST(frames_in_pieces) {
        static const char bytes[] = "a\x03\0\0\0xyzr\x18\0\0\0" NOWHERE;
        _cleanup_(strbuf_done) StrBuf answer = {};
        FIXTURE(f, USEC_PER_SEC * 60);
        _cleanup_close_ int fd = client_connect(&f);

        for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
                ASSERT_EQ(write(fd, bytes + i, 1), 1);
                for (int r = 1; r > 0;)
                        r = ASSERT_OK(sd_event_run(f.event, 0));
        }
        client_read(&f, fd, &answer);
        ASSERT_TRUE(answer.size > 5 && answer.text[0] == LINK_END);
}

TEST(one_client_does_not_get_it_all) {
        int fds[LINK_EXCHANGES_MAX + 1];
        _cleanup_(strbuf_done) StrBuf answer = {};
        FIXTURE(f, USEC_PER_SEC * 60);
        int status;
        pid_t pid;
        char c;

        for (size_t i = 0; i < ELEMENTSOF(fds); i++) {
                fds[i] = client_connect(&f);
                for (int r = 1; r > 0;)
                        r = ASSERT_OK(sd_event_run(f.event, 0));
        }
        ASSERT_EQ(recv(fds[LINK_EXCHANGES_MAX], &c, 1, 0), 0);
        ASSERT_EQ(recv(fds[LINK_EXCHANGES_MAX - 1], &c, 1, 0), -1);
        ASSERT_EQ(errno, EAGAIN);

        /* Another process is served meanwhile. */
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                int fd = client_connect(&f);
                char buffer[100];

                (void) fcntl(fd, F_SETFL, 0);
                (void) !write(fd, BYTES("r\x18\0\0\0" NOWHERE));
                _exit(recv(fd, buffer, sizeof(buffer), 0) > 0 && buffer[0] == LINK_END ? 0 : 1);
        }
        while (waitpid(pid, &status, WNOHANG) == 0)
                (void) sd_event_run(f.event, 10 * USEC_PER_MSEC);
        ASSERT_EQ(status, 0);

        /* And so is this one, when one of its own is over. */
        safe_close(fds[0]);
        fds[0] = client_connect(&f);
        while (sd_event_run(f.event, 10 * USEC_PER_MSEC) > 0)
                ;
        ASSERT_EQ(write(fds[0], BYTES("r\x18\0\0\0" NOWHERE)), 29);
        client_read(&f, fds[0], &answer);
        ASSERT_TRUE(answer.size > 5 && answer.text[0] == LINK_END);
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                safe_close(fds[i]);
}

TEST(ends_when_nobody_is_there) {
        FIXTURE(never, 10 * USEC_PER_MSEC);
        FIXTURE(f, 10 * USEC_PER_MSEC);
        int fd = client_connect(&f);

        ASSERT_EQ(sd_event_loop(never.event), 0);
        /* Not while somebody is connected. */
        for (uint64_t end = now_boottime_usec() + 200 * USEC_PER_MSEC; now_boottime_usec() < end; )
                ASSERT_OK(sd_event_run(f.event, 20 * USEC_PER_MSEC));
        ASSERT_TRUE(sd_event_get_state(f.event) != SD_EVENT_FINISHED);
        safe_close(fd);
        ASSERT_EQ(sd_event_loop(f.event), 0);
}

/* --- back-pressure --- */

static int on_nothing(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        return 0;
}

/* Who always reads, but slower than there is something to say: what has gone must not be kept. */
TEST(queue_that_is_never_empty) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        static char block[LINK_DATA_MAX];
        LinkConnection from = {}, to = {};
        unsigned sent = 0, heard = 0;
        LinkFrame frame;
        int fds[2], r;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        ASSERT_OK(link_connection_init(&from, event, fds[0], on_nothing, NULL));
        ASSERT_OK(link_connection_init(&to, event, fds[1], on_nothing, NULL));
        while (heard < 512) {
                while (link_queued(&from) < KIB(256)) {
                        memset(block, (int) (sent % 251), sizeof(block));
                        ASSERT_OK(link_send(&from, LINK_DATA, block, sizeof(block) - sent % 100));
                        sent++;
                }
                link_write(&from);
                ASSERT_TRUE(link_queued(&from) > 0);
                /* Twice what waits, and twice that as buffers grow. */
                if (from.out.allocated > MIB(2))
                        fail_msg("%zu bytes are kept for %zu that wait", from.out.allocated, link_queued(&from));

                ASSERT_EQ(link_read(&to), 1);
                while ((r = ASSERT_OK(link_next(&to, 0, &frame))) > 0) {
                        ASSERT_EQ(frame.size, sizeof(block) - heard % 100);
                        ASSERT_EQ((unsigned char) frame.data[0], heard % 251);
                        ASSERT_EQ((unsigned char) frame.data[frame.size - 1], heard % 251);
                        heard++;
                }
                link_settle(&to);
        }
        link_connection_done(&from);
        link_connection_done(&to);
}

/* The socket of a client, which reads at a moment that we choose: when the link has just found it full, and has yet to
 * look again. */
static struct {
        LinkConnection *client;
        bool full, surprised;
} moment;

ssize_t __real_send(int fd, const void *data, size_t size, int flags);
ssize_t __wrap_send(int fd, const void *data, size_t size, int flags);

ssize_t __wrap_send(int fd, const void *data, size_t size, int flags) {
        ssize_t n;

        if (moment.client && moment.full && !moment.surprised && size <= KIB(128)) {
                moment.surprised = true;
                while (link_read(moment.client) > 0)
                        ;
                errno = EAGAIN;
                return -1;
        }
        n = __real_send(fd, data, moment.client ? MIN(size, KIB(32)) : size, flags);
        if (n < 0 && errno == EAGAIN && size > KIB(256))
                moment.full = true;
        return n;
}

#define FLOOD MIB(32)

static uint16_t flood_start(pid_t *ret) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        ASSERT_EQ(bind(fd, (struct sockaddr*) &a, sizeof(a)), 0);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &a, &(socklen_t) { sizeof(a) }), 0);
        ASSERT_EQ(listen(fd, 1), 0);
        *ret = fork();
        ASSERT_TRUE(*ret >= 0);
        if (*ret == 0) {
                static char block[65536];
                int connection = accept(fd, NULL, NULL);

                (void) !read(connection, block, sizeof(block));
                (void) dprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", FLOOD);
                for (size_t left = FLOOD; left > 0; left -= sizeof(block))
                        if (write(connection, block, sizeof(block)) != sizeof(block))
                                _exit(1);
                _exit(0);
        }
        safe_close(fd);
        return ntohs(a.sin_port);
}

TEST(client_that_reads_at_the_wrong_moment) {
        FIXTURE(f, USEC_PER_SEC * 60);
        LinkConnection c = { .fd = client_connect(&f) };
        char request[64] = "r";
        size_t got = 0;
        LinkFrame frame = {};
        uint64_t heard;
        int status, size;
        pid_t pid;

        size = snprintf(request + 5, sizeof(request) - 5, "url http://127.0.0.1:%u/\n", (unsigned) flood_start(&pid));
        request[1] = (char) size;
        moment.client = &c;
        ASSERT_EQ(write(c.fd, request, (size_t) size + 5), size + 5);
        while (!moment.full)
                ASSERT_TRUE(sd_event_run(f.event, 60 * USEC_PER_SEC) > 0);
        heard = now_boottime_usec();
        while (frame.type != LINK_END) {
                int r = ASSERT_OK(link_next(&c, 0, &frame));

                if (r > 0) {
                        got += frame.type == LINK_DATA ? frame.size : 0;
                        continue;
                }
                link_settle(&c);
                if (link_read(&c) > 0)
                        heard = now_boottime_usec();
                else if (now_boottime_usec() - heard > 60 * USEC_PER_SEC)
                        fail_msg("Nothing comes any more behind %zu bytes", got);
                else
                        ASSERT_OK(sd_event_run(f.event, USEC_PER_SEC));
        }
        ASSERT_TRUE(moment.surprised);
        ASSERT_EQ(got, FLOOD);
        ASSERT_NOT_NULL(startswith(frame.data, "failure none\n"));
        moment.client = NULL;
        safe_close(c.fd);
        link_connection_done(&c);
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_EQ(status, 0);
}

#define TEST_SUITE "link"
TEST_MAIN();
