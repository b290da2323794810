/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>

#include "event-log.h"
#include "string-util.h"
#include "tests.h"

#define LINES 5000

static json_object* number(int64_t i) {
        json_object *o = json_object_new_object();

        ASSERT_NOT_NULL(o);
        ASSERT_OK(json_put_int(o, "i", i));
        return o;
}

static void pipe_new(int fds[2]) {
        ASSERT_OK(pipe2(fds, O_CLOEXEC));
        ASSERT_OK(fcntl(fds[0], F_SETFL, O_NONBLOCK));
}

/* Reads what is there; true at the end of the stream. */
static bool drain(int fd, StrBuf *b) {
        char buffer[8192];

        for (;;) {
                ssize_t n = read(fd, buffer, sizeof(buffer));

                if (n == 0)
                        return true;
                if (n < 0) {
                        ASSERT_EQ(errno, EAGAIN);
                        return false;
                }
                ASSERT_OK(strbuf_append(b, buffer, (size_t) n));
        }
}

static void on_drained(void *userdata) {
        *(bool*) userdata = true;
}

TEST(lines_are_numbered) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(event_log_freep) EventLog *l = NULL;
        StrBuf b = {};
        int fds[2];

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(event_log_new(&l, event));
        ASSERT_OK(event_log_append(l, "queued", number(7)));
        pipe_new(fds);
        ASSERT_OK(event_log_subscribe(l, fds[1]));
        ASSERT_OK(event_log_append(l, "started", NULL));
        ASSERT_FALSE(drain(fds[0], &b));
        ASSERT_OK(event_log_finish(l, "completed", NULL));
        ASSERT_TRUE(drain(fds[0], &b));
        ASSERT_STREQ(b.text, "{\"seq\":0,\"type\":\"queued\",\"i\":7}\n{\"seq\":1,\"type\":\"started\"}\n"
                             "{\"seq\":2,\"type\":\"completed\"}\n");
        ASSERT_EQ(event_log_n_readers(l), 0);
        strbuf_done(&b);
        (void) close(fds[0]);
}

/* A reader that does not read stops nobody, loses nothing, and gets the end. */
TEST(slow_reader) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(event_log_freep) EventLog *l = NULL;
        StrBuf slow = {}, quick = {};
        int a[2], b[2];
        bool drained = false;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(event_log_new(&l, event));
        event_log_on_drained(l, on_drained, &drained);
        pipe_new(a);
        pipe_new(b);
        ASSERT_OK(event_log_subscribe(l, a[1]));
        ASSERT_OK(event_log_subscribe(l, b[1]));
        for (unsigned i = 0; i < LINES; i++) {
                ASSERT_OK(event_log_append(l, "delta", number(i)));
                ASSERT_FALSE(drain(b[0], &quick));
        }
        ASSERT_OK(event_log_finish(l, "completed", NULL));
        ASSERT_TRUE(drain(b[0], &quick));
        ASSERT_EQ(quick.size, event_log_size(l));
        ASSERT_EQ(event_log_n_readers(l), 1);
        ASSERT_FALSE(drained);

        while (!drain(a[0], &slow))
                ASSERT_OK(sd_event_run(event, 1000000));
        ASSERT_TRUE(drained);
        ASSERT_STREQ(slow.text, quick.text);
        strbuf_done(&slow);
        strbuf_done(&quick);
        (void) close(a[0]);
        (void) close(b[0]);
}

TEST(closed_reader_is_dropped) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(event_log_freep) EventLog *l = NULL;
        int fds[2];

        (void) signal(SIGPIPE, SIG_IGN);
        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(event_log_new(&l, event));
        pipe_new(fds);
        ASSERT_OK(event_log_subscribe(l, fds[1]));
        ASSERT_OK(event_log_append(l, "queued", NULL));
        (void) close(fds[0]);
        ASSERT_OK(event_log_append(l, "started", NULL));
        ASSERT_EQ(event_log_n_readers(l), 0);
        ASSERT_OK(event_log_append(l, "delta", NULL));
}

/* A turn may wait for minutes without an event: those who give up and come back meanwhile must not fill its places. */
TEST(closed_reader_of_a_silent_log_is_dropped) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(event_log_freep) EventLog *l = NULL;
        int fds[2];

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(event_log_new(&l, event));
        ASSERT_OK(event_log_append(l, "queued", NULL));
        for (unsigned i = 0; i < 40; i++) {
                if (i % 2 == 0)
                        pipe_new(fds);
                else
                        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, fds));
                ASSERT_OK(event_log_subscribe(l, fds[1]));
                ASSERT_EQ(event_log_n_readers(l), 1);
                (void) close(fds[0]);
                ASSERT_TRUE(sd_event_run(event, 1000000) > 0);
                ASSERT_EQ(event_log_n_readers(l), 0);
        }
        /* With a reader that stays the loop has nothing to do. */
        pipe_new(fds);
        ASSERT_OK(event_log_subscribe(l, fds[1]));
        ASSERT_EQ(sd_event_run(event, 0), 0);
        ASSERT_EQ(event_log_n_readers(l), 1);
        (void) close(fds[0]);
}

/* One that is full and goes away is noticed by epoll alone. */
TEST(full_reader_that_closes) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(event_log_freep) EventLog *l = NULL;
        int fds[2];

        (void) signal(SIGPIPE, SIG_IGN);
        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(event_log_new(&l, event));
        pipe_new(fds);
        for (unsigned i = 0; i < LINES; i++)
                ASSERT_OK(event_log_append(l, "delta", number(i)));
        ASSERT_OK(event_log_subscribe(l, fds[1]));
        ASSERT_EQ(event_log_n_readers(l), 1);
        (void) close(fds[0]);
        ASSERT_OK(sd_event_run(event, 1000000));
        ASSERT_EQ(event_log_n_readers(l), 0);
}

TEST(strange_descriptors_are_refused) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(event_log_freep) EventLog *l = NULL;
        char path[] = "/tmp/puffo-test-event-log-XXXXXX";
        int fds[2], fd;

        ASSERT_OK(sd_event_new(&event));
        ASSERT_OK(event_log_new(&l, event));
        fd = mkstemp(path);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(unlink(path));
        ASSERT_EQ(event_log_subscribe(l, fd), -EINVAL);
        pipe_new(fds);
        ASSERT_EQ(event_log_subscribe(l, fds[0]), -EINVAL);     /* the wrong end */
        (void) close(fds[1]);

        for (unsigned i = 0; i < 17; i++) {
                ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, fds));
                ASSERT_EQ(event_log_subscribe(l, fds[0]), i < 16 ? 0 : -EBUSY);
                (void) close(fds[1]);
        }
}

#define TEST_SUITE "event-log"
TEST_MAIN();
