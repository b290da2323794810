/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "relay"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "event-util.h"
#include "file-util.h"
#include "relay.h"
#include "string-util.h"
#include "tests.h"

typedef struct Wire {
        char directory[32];
        sd_event *event;
        int listen_fd;
        Relay *relay;
} Wire;

static void wire_begin(Wire *w) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        (void) snprintf(w->directory, sizeof(w->directory), "/tmp/puffo-test-XXXXXX");
        ASSERT_NOT_NULL(mkdtemp(w->directory));
        (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/s", w->directory);
        w->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert_int_equal(bind(w->listen_fd, (struct sockaddr*) &address, sizeof(address)), 0);
        assert_int_equal(listen(w->listen_fd, 64), 0);
        w->event = NULL;
        w->relay = NULL;
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(relay_new(&w->relay, w->event, address.sun_path));
}

static void wire_end(Wire *w) {
        relay_free(w->relay);
        sd_event_unref(w->event);
        (void) close(w->listen_fd);
        ASSERT_OK(directory_remove(w->directory));
}

#define WIRE(w) \
        _cleanup_(wire_end) Wire w; \
        wire_begin(&w)

static void turn(Wire *w, uint64_t usec) {
        for (unsigned i = 0; i < 50 && ASSERT_OK(sd_event_run(w->event, usec)) > 0; i++)
                ;
}

static int client(Wire *w) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(relay_port(w->relay)),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(connect(fd, (struct sockaddr*) &address, sizeof(address)), 0);
        return fd;
}

static int server(Wire *w) {
        int fd = -1;

        for (unsigned i = 0; i < 2000 && fd < 0; i++) {
                turn(w, USEC_PER_MSEC);
                fd = accept4(w->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        }
        assert_true(fd >= 0);
        return fd;
}

/* What arrives within two seconds, up to size; -1: the connection was reset. */
static ssize_t receive(Wire *w, int fd, char *buffer, size_t size) {
        for (unsigned i = 0; i < 2000; i++) {
                ssize_t n;

                turn(w, USEC_PER_MSEC);
                n = recv(fd, buffer, size, MSG_DONTWAIT);
                if (n >= 0 || errno != EAGAIN)
                        return n;
        }
        fail_msg("nothing came");
        return -1;
}

#define ASSERT_RECEIVES(w, fd, text) ({ \
        char _buffer[64] = {}; \
        ASSERT_EQ(receive(w, fd, _buffer, sizeof(_buffer)), strlen(text)); \
        ASSERT_STREQ(_buffer, text); })

TEST(both_ways) {
        WIRE(w);
        _cleanup_close_ int c = client(&w), s = server(&w);

        ASSERT_EQ(relay_n_connections(w.relay), 1);
        ASSERT_EQ(send(c, "question", 8, 0), 8);
        ASSERT_RECEIVES(&w, s, "question");
        ASSERT_EQ(send(s, "answer", 6, 0), 6);
        ASSERT_RECEIVES(&w, c, "answer");
        ASSERT_EQ(relay_n_connections(w.relay), 1);
}

TEST(half_closed_by_the_client) {
        WIRE(w);
        _cleanup_close_ int c = client(&w), s = server(&w);

        ASSERT_EQ(send(c, "all", 3, 0), 3);
        ASSERT_OK(shutdown(c, SHUT_WR));
        ASSERT_RECEIVES(&w, s, "all");
        ASSERT_RECEIVES(&w, s, "");
        ASSERT_EQ(send(s, "answer", 6, 0), 6);
        ASSERT_RECEIVES(&w, c, "answer");
        s = safe_close(s);
        ASSERT_RECEIVES(&w, c, "");
        turn(&w, 0);
        ASSERT_EQ(relay_n_connections(w.relay), 0);
}

TEST(half_closed_by_the_server) {
        WIRE(w);
        _cleanup_close_ int c = client(&w), s = server(&w);

        ASSERT_EQ(send(s, "bye", 3, 0), 3);
        ASSERT_OK(shutdown(s, SHUT_WR));
        ASSERT_RECEIVES(&w, c, "bye");
        ASSERT_RECEIVES(&w, c, "");
        ASSERT_EQ(send(c, "more", 4, 0), 4);
        ASSERT_RECEIVES(&w, s, "more");
        c = safe_close(c);
        ASSERT_RECEIVES(&w, s, "");
        turn(&w, 0);
        ASSERT_EQ(relay_n_connections(w.relay), 0);
}

/* An answer without an end must not look like a whole one. */
TEST(reset_is_passed_on) {
        WIRE(w);
        _cleanup_close_ int c = client(&w), s = server(&w);
        char buffer[16];

        ASSERT_EQ(send(c, "question", 8, 0), 8);
        turn(&w, 10 * USEC_PER_MSEC);
        s = safe_close(s);      /* with something unread */
        ASSERT_EQ(receive(&w, c, buffer, sizeof(buffer)), -1);
        ASSERT_EQ(errno, ECONNRESET);
        ASSERT_EQ(relay_n_connections(w.relay), 0);
}

TEST(nobody_listens) {
        WIRE(w);
        _cleanup_close_ int c = -EBADF;
        char buffer[16];

        w.listen_fd = safe_close(w.listen_fd);
        c = client(&w);
        ASSERT_EQ(receive(&w, c, buffer, sizeof(buffer)), -1);
        ASSERT_EQ(errno, ECONNRESET);
}

static uint64_t cpu_usec(void) {
        struct rusage u;

        assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
        return (uint64_t) (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * USEC_PER_SEC +
               (uint64_t) (u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

/* One side gone, the other one full: nothing to do, and nothing is done. */
TEST(no_busy_loop) {
        WIRE(w);
        _cleanup_close_ int c = client(&w), s = server(&w);
        static char block[KIB(64)];
        char buffer[16];
        uint64_t before;
        size_t sent = 0;
        ssize_t n;

        ASSERT_OK(shutdown(c, SHUT_WR));
        ASSERT_EQ(receive(&w, s, buffer, sizeof(buffer)), 0);
        do {
                n = send(s, block, sizeof(block), MSG_DONTWAIT);
                sent += n > 0 ? (size_t) n : 0;
                turn(&w, USEC_PER_MSEC);
        } while (n > 0);
        ASSERT_TRUE(sent > sizeof(block));
        s = safe_close(s);

        before = cpu_usec();
        for (unsigned i = 0; i < 5; i++)
                (void) ASSERT_OK(sd_event_run(w.event, 100 * USEC_PER_MSEC));
        ASSERT_TRUE(cpu_usec() - before < 50 * USEC_PER_MSEC);

        /* … and all of it still arrives. */
        for (size_t got = 0; got < sent; got += (size_t) n) {
                n = receive(&w, c, block, sizeof(block));
                ASSERT_TRUE(n > 0);
        }
        ASSERT_EQ(receive(&w, c, block, sizeof(block)), 0);
}

TEST(many_at_once) {
        WIRE(w);
        int clients[RELAY_CONNECTIONS_MAX + 10], servers[ELEMENTSOF(clients)];
        char buffer[16];

        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                clients[i] = client(&w);
                if (i < RELAY_CONNECTIONS_MAX)
                        servers[i] = server(&w);
        }
        turn(&w, 50 * USEC_PER_MSEC);
        ASSERT_EQ(relay_n_connections(w.relay), RELAY_CONNECTIONS_MAX);
        ASSERT_EQ(accept4(w.listen_fd, NULL, NULL, SOCK_CLOEXEC), -1);

        /* The others come in as the first ones go. */
        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                if (i >= RELAY_CONNECTIONS_MAX)
                        servers[i] = server(&w);
                (void) snprintf(buffer, sizeof(buffer), "%zu", i);
                ASSERT_EQ(send(clients[i], buffer, strlen(buffer), 0), strlen(buffer));
                ASSERT_RECEIVES(&w, servers[i], buffer);
                ASSERT_OK(shutdown(clients[i], SHUT_WR));
                ASSERT_RECEIVES(&w, servers[i], "");
                (void) close(servers[i]);
                ASSERT_RECEIVES(&w, clients[i], "");
                (void) close(clients[i]);
        }
        turn(&w, 0);
        ASSERT_EQ(relay_n_connections(w.relay), 0);
}

/* The queue of the one who listens is full at first: connections wait instead of failing. */
TEST(a_full_queue) {
        WIRE(w);
        int clients[30];

        assert_int_equal(listen(w.listen_fd, 4), 0);
        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                clients[i] = client(&w);
                ASSERT_EQ(send(clients[i], "x", 1, 0), 1);
                turn(&w, USEC_PER_MSEC);
        }
        for (size_t i = 0; i < ELEMENTSOF(clients); i++) {
                _cleanup_close_ int s = server(&w);

                ASSERT_RECEIVES(&w, s, "x");
        }
        for (size_t i = 0; i < ELEMENTSOF(clients); i++)
                (void) close(clients[i]);
}

TEST_MAIN();
