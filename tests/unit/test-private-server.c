/* SPDX-License-Identifier: MIT */

/* The sockets that puffod serves, when there is nothing left to accept a connection with. */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "helpers.h"
#include "private-server.h"
#include "tests.h"

/* A listening socket, and a connection to it that waits to be accepted. */
static int listen_and_connect(int *ret_client) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        socklen_t n = sizeof(a);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        ASSERT_EQ(bind(fd, (struct sockaddr*) &a, sizeof(sa_family_t)), 0);     /* a name of the kernel's choice */
        ASSERT_EQ(listen(fd, 5), 0);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &a, &n), 0);
        *ret_client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ASSERT_EQ(connect(*ret_client, (struct sockaddr*) &a, n), 0);
        return fd;
}

static rlim_t use_up_descriptors(void) {
        struct rlimit l;
        rlim_t before;
        int fd = fcntl(STDIN_FILENO, F_DUPFD, 3);

        ASSERT_TRUE(fd >= 0);
        close(fd);
        ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
        before = l.rlim_cur;
        l.rlim_cur = (rlim_t) fd;
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &l), 0);
        return before;
}

static void give_back_descriptors(rlim_t before) {
        struct rlimit l;

        ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &l), 0);
        l.rlim_cur = before;
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &l), 0);
}

/* Neither spins nor forgets: a peer that is nobody's session is closed as soon as it could be looked at. */
static void check(sd_event *event, int client) {
        struct pollfd p = { .fd = client, .events = POLLIN };
        unsigned n_turns = 0;
        rlim_t before;

        before = use_up_descriptors();
        for (unsigned i = 0; i < 20; i++)
                n_turns += ASSERT_OK(sd_event_run(event, 10 * USEC_PER_MSEC)) > 0;
        ASSERT_TRUE(n_turns >= 1 && n_turns <= 2);
        ASSERT_EQ(poll(&p, 1, 0), 0);

        give_back_descriptors(before);
        for (unsigned i = 0; i < 50 && poll(&p, 1, 0) == 0; i++)
                ASSERT_OK(sd_event_run(event, 100 * USEC_PER_MSEC));
        ASSERT_EQ(poll(&p, 1, 0), 1);
        ASSERT_EQ(read(client, &(char) { 0 }, 1), 0);
}

TEST(sessions_wait_for_a_descriptor) {
        Manager m = { .scope = SCOPE_USER };
        int fd, client;

        ASSERT_OK(sd_event_new(&m.event));
        fd = listen_and_connect(&client);
        ASSERT_OK(private_server_new(&m.private_server, &m, fd));
        check(m.event, client);
        private_server_free(m.private_server);
        sd_event_unref(m.event);
        close(client);
}

TEST(credentials_wait_for_a_descriptor) {
        Manager m = { .scope = SCOPE_USER };
        int fd, client;

        ASSERT_OK(sd_event_new(&m.event));
        fd = listen_and_connect(&client);
        ASSERT_OK(credential_server_new(&m.credential_server, &m, fd));
        check(m.event, client);
        credential_server_free(m.credential_server);
        sd_event_unref(m.event);
        close(client);
}

static int on_turn(sd_event_source *s, void *userdata) {
        (*(unsigned*) userdata)++;
        return 0;
}

/* Whoever connects again and again does not keep puffod from everything else. */
TEST(credentials_leave_time_for_others) {
        Manager m = { .scope = SCOPE_USER };
        int fd, client, next = -EBADF;
        struct sockaddr_un sa;
        socklen_t n = sizeof(sa);
        sd_event_source *other = NULL;
        unsigned n_other = 0, n_events = 0;

        ASSERT_OK(sd_event_new(&m.event));
        fd = listen_and_connect(&client);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &sa, &n), 0);
        ASSERT_OK(credential_server_new(&m.credential_server, &m, fd));
        ASSERT_OK(sd_event_add_defer(m.event, &other, on_turn, &n_other));
        ASSERT_OK(sd_event_source_set_enabled(other, SD_EVENT_ON));
        for (; n_other == 0 && n_events < 5000; n_events++) {
                next = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                ASSERT_EQ(connect(next, (struct sockaddr*) &sa, n), 0);
                ASSERT_OK(sd_event_run(m.event, 0));
                close(next);
        }
        ASSERT_TRUE(n_other > 0);
        /* Those who wait have their turn all the same. */
        for (struct pollfd p = { .fd = client, .events = POLLIN }; poll(&p, 1, 0) == 0; )
                ASSERT_OK(sd_event_run(m.event, 100 * USEC_PER_MSEC));
        sd_event_source_disable_unref(other);
        credential_server_free(m.credential_server);
        sd_event_unref(m.event);
        close(client);
}

#define TEST_SUITE "private-server"
TEST_MAIN();
