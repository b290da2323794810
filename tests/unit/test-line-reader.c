/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "line-reader"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "event-util.h"
#include "line-reader.h"
#include "string-util.h"
#include "tests.h"

#define LINE_MAX_ KIB(256)

/* What a reader has said: "W:line", "C:…" (cut), "T:…" (too long), one a line; then "end" or the error. */
typedef struct Bench {
        sd_event *event;
        int in, out, spare;             /* write end, read end, a second read end that the reader does not own */
        LineReader *reader;
        StrBuf seen;
        size_t n_lines, n_idle, total;
        int fail_at;                    /* this line's handler fails; -1: none */
        int die_at;                     /* this line's handler kills the process */
        bool free_at_end, free_at_line;
        bool keep;                      /* lines that begin with "k" */
        size_t n_drained;
        bool ended;
        int error;
        int64_t left;                   /* bytes in the pipe when a handler ran */
} Bench;

static int bench_on_line(LineReader *l, const char *line, size_t size, LineEnd end, void *userdata) {
        Bench *b = userdata;
        int left = 0, n = (int) b->n_lines;

        ASSERT_EQ(line[size], 0);
        ASSERT_EQ(ioctl(b->spare, FIONREAD, &left), 0);
        b->left = left;
        if (b->fail_at == n)
                return -ENOSPC;
        b->n_lines++;
        b->total += size;
        if (size < 100)
                ASSERT_OK(strbuf_printf(&b->seen, "%c:%s\n", "WCT"[end], line));
        else
                ASSERT_OK(strbuf_printf(&b->seen, "%c:%zu bytes of %c to %c\n", "WCT"[end], size, line[0],
                                        line[size - 1]));
        if (b->keep && line[0] == 'k')
                line_reader_keep(l);
        if (b->die_at == n)
                (void) raise(SIGKILL);
        if (b->free_at_line)
                b->reader = line_reader_free(b->reader);
        return 0;
}

static void bench_on_idle(LineReader *l, void *userdata) {
        ((Bench*) userdata)->n_idle++;
}

static void bench_on_drain(LineReader *l, void *userdata) {
        ((Bench*) userdata)->n_drained++;
}

static void bench_on_end(LineReader *l, int error, void *userdata) {
        Bench *b = userdata;

        ASSERT_FALSE(b->ended);
        b->ended = true;
        b->error = error;
        if (b->free_at_end)
                b->reader = line_reader_free(b->reader);
}

static void bench_read(Bench *b, size_t max) {
        ASSERT_OK(line_reader_new(&b->reader, b->event, fcntl(b->spare, F_DUPFD_CLOEXEC, 3), max, &(LineHandler) {
                .on_line = bench_on_line,
                .on_drain = bench_on_drain,
                .on_idle = bench_on_idle,
                .on_end = bench_on_end,
                .userdata = b,
        }));
}

static void bench_begin_with(Bench *b, size_t max, int flags) {
        int fds[2];

        *b = (Bench) { .fail_at = -1, .die_at = -1 };
        ASSERT_EQ(pipe2(fds, O_CLOEXEC | O_NONBLOCK | flags), 0);
        b->spare = fds[0];
        b->in = fds[1];
        ASSERT_OK(sd_event_new(&b->event));
        bench_read(b, max);
}

static void bench_begin(Bench *b) {
        bench_begin_with(b, LINE_MAX_, 0);
}

static void bench_end(Bench *b) {
        line_reader_free(b->reader);
        sd_event_unref(b->event);
        (void) safe_close(b->in);
        (void) safe_close(b->spare);
        strbuf_done(&b->seen);
}

#define BENCH(b) \
        _cleanup_(bench_end) Bench b; \
        bench_begin(&b)

/* Until nothing happens any more. */
static void run(Bench *b) {
        while (ASSERT_OK(sd_event_run(b->event, 0)) > 0)
                ;
}

static void say_bytes(Bench *b, const char *s, size_t size) {
        while (size > 0) {
                ssize_t n = write(b->in, s, size);

                if (n < 0 && errno == EAGAIN) {
                        int before = 0, after = 0;

                        ASSERT_EQ(ioctl(b->spare, FIONREAD, &before), 0);
                        run(b);
                        ASSERT_EQ(ioctl(b->spare, FIONREAD, &after), 0);
                        if (after >= before)
                                fail_msg("a full pipe is left full");
                        continue;
                }
                ASSERT_TRUE(n > 0);
                s += n;
                size -= (size_t) n;
        }
}

static void say(Bench *b, const char *s) {
        say_bytes(b, s, strlen(s));
}

static void hang_up(Bench *b) {
        b->in = safe_close(b->in);
        run(b);
}

static int in_pipe(Bench *b) {
        int n = -1;

        ASSERT_EQ(ioctl(b->spare, FIONREAD, &n), 0);
        return n;
}

#define ASSERT_SEEN(b, expected) ASSERT_STREQ(strempty((b)->seen.text), expected)

TEST(lines_come_whole_and_in_order) {
        BENCH(b);
        say(&b, "one\n\ntwo words\nthr");
        run(&b);
        ASSERT_SEEN(&b, "W:one\nW:\nW:two words\n");
        ASSERT_EQ(in_pipe(&b), 3);
        say(&b, "ee\n");
        run(&b);
        ASSERT_SEEN(&b, "W:one\nW:\nW:two words\nW:three\n");
        ASSERT_EQ(in_pipe(&b), 0);
        ASSERT_FALSE(b.ended);
}

TEST(a_line_leaves_the_pipe_after_its_handler) {
        BENCH(b);
        say(&b, "first\nsecond\n");
        b.fail_at = 1;
        run(&b);
        /* The first was gone when the second's handler ran, the second was there. */
        ASSERT_EQ(b.left, 7);
        ASSERT_TRUE(b.ended);
        ASSERT_EQ(b.error, -ENOSPC);
        ASSERT_EQ(in_pipe(&b), 7);
        ASSERT_SEEN(&b, "W:first\n");

        /* Nothing more is read, whatever comes. */
        say(&b, "third\n");
        run(&b);
        ASSERT_EQ(in_pipe(&b), 13);
}

TEST(what_is_cut_anywhere_is_put_together) {
        static const char text[] = "alpha\nb\n\ngamma gamma\n";

        BENCH(b);
        for (size_t i = 0; i < sizeof(text) - 1; i++) {
                say_bytes(&b, text + i, 1);
                run(&b);
        }
        ASSERT_SEEN(&b, "W:alpha\nW:b\nW:\nW:gamma gamma\n");
        /* Nothing is left of it, and an edge without a line is one idle look. */
        ASSERT_EQ(in_pipe(&b), 0);
        ASSERT_TRUE(b.n_idle >= sizeof(text) - 1);
}

TEST(the_end_comes_after_all_lines) {
        BENCH(b);
        say(&b, "one\ntwo");
        hang_up(&b);
        ASSERT_SEEN(&b, "W:one\nC:two\n");
        ASSERT_TRUE(b.ended);
        ASSERT_EQ(b.error, 0);
}

TEST(the_end_of_nothing) {
        BENCH(b);
        b.free_at_end = true;
        hang_up(&b);
        ASSERT_SEEN(&b, "");
        ASSERT_TRUE(b.ended);
}

TEST(a_cut_line_that_is_not_taken_stays) {
        BENCH(b);
        say(&b, "tail");
        b.fail_at = 0;
        hang_up(&b);
        ASSERT_TRUE(b.ended);
        ASSERT_EQ(b.error, -ENOSPC);
        ASSERT_EQ(in_pipe(&b), 4);
}

TEST(a_line_may_free_the_reader) {
        BENCH(b);
        b.free_at_line = true;
        say(&b, "one\ntwo\n");
        run(&b);
        ASSERT_SEEN(&b, "W:one\n");
        ASSERT_EQ(in_pipe(&b), 4);
        ASSERT_FALSE(b.ended);
}

TEST(zero_bytes_are_bytes) {
        BENCH(b);
        say_bytes(&b, "a\0b\n\0\n", 6);
        run(&b);
        ASSERT_EQ(b.n_lines, 2);
        ASSERT_EQ(b.total, 4);
}

static char* filled(char c, size_t size) {
        char *s = malloc(size + 1);

        ASSERT_NOT_NULL(s);
        memset(s, c, size);
        s[size] = 0;
        return s;
}

TEST(a_line_of_more_than_the_pipe) {
        _cleanup_free_ char *x = filled('x', KIB(256) - 1);

        BENCH(b);
        ASSERT_TRUE(fcntl(b.spare, F_GETPIPE_SZ) < (int) KIB(256));
        say(&b, "y");
        say(&b, x);
        say(&b, "\nnext\n");
        run(&b);
        ASSERT_SEEN(&b, "W:262144 bytes of y to x\nW:next\n");
        say(&b, x);
        hang_up(&b);
        ASSERT_SEEN(&b, "W:262144 bytes of y to x\nW:next\nC:262143 bytes of x to x\n");
}

TEST(a_line_over_the_limit_is_passed_over) {
        _cleanup_free_ char *x = filled('x', KIB(256) + 1);

        BENCH(b);
        say(&b, x);
        say(&b, "\nnext\n");
        say(&b, x);
        say(&b, x);
        say(&b, x);
        run(&b);
        ASSERT_EQ(in_pipe(&b), 0);
        say(&b, "\nlast\n");
        hang_up(&b);
        ASSERT_SEEN(&b, "T:262144 bytes of x to x\nW:next\nT:262144 bytes of x to x\nW:last\n");
        ASSERT_EQ(b.error, 0);
}

TEST(a_small_limit_is_kept_to_the_byte) {
        _cleanup_(bench_end) Bench b;

        bench_begin_with(&b, 4, 0);
        say(&b, "1234\n12345\n12\n");
        run(&b);
        say(&b, "1234");
        run(&b);
        ASSERT_SEEN(&b, "W:1234\nT:1234\nW:12\n");
        say(&b, "5");
        run(&b);
        ASSERT_SEEN(&b, "W:1234\nT:1234\nW:12\nT:1234\n");
        say(&b, "6789\n0");
        hang_up(&b);
        ASSERT_SEEN(&b, "W:1234\nT:1234\nW:12\nT:1234\nC:0\n");
}

TEST(a_line_over_the_limit_that_is_not_taken_stays) {
        _cleanup_(bench_end) Bench b;

        bench_begin_with(&b, 4, 0);
        b.fail_at = 0;
        say(&b, "12345");
        run(&b);
        ASSERT_EQ(b.error, -ENOSPC);
        ASSERT_EQ(in_pipe(&b), 5);
}

/* Each of these takes a page of the pipe, so that it is full long before it has that many bytes. */
TEST(pages_that_are_not_full) {
        _cleanup_free_ char *x = filled('x', 2049);

        BENCH(b);
        for (size_t i = 0; i < 64; i++)
                say(&b, x);
        say(&b, "\n");
        run(&b);
        ASSERT_SEEN(&b, "W:131136 bytes of x to x\n");
}

TEST(packets_of_one_byte) {
        _cleanup_(bench_end) Bench b;

        bench_begin_with(&b, LINE_MAX_, O_DIRECT);
        for (size_t i = 0; i < 1000; i++)
                say(&b, "x");
        say(&b, "\nend\n");
        run(&b);
        ASSERT_SEEN(&b, "W:1000 bytes of x to x\nW:end\n");
}

TEST(who_takes_over_sees_the_line_again) {
        BENCH(b);
        pid_t pid;
        int status;

        /* No child of a fork may use this loop: the killed one makes its own. */
        b.reader = line_reader_free(b.reader);
        say(&b, "one\ntwo\nthree\nfo");

        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                b.event = NULL;
                if (sd_event_new(&b.event) < 0)
                        _exit(1);
                b.die_at = 1;
                bench_read(&b, LINE_MAX_);
                run(&b);
                _exit(2);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

        bench_read(&b, LINE_MAX_);
        run(&b);
        ASSERT_SEEN(&b, "W:two\nW:three\n");
        say(&b, "ur\n");
        hang_up(&b);
        ASSERT_SEEN(&b, "W:two\nW:three\nW:four\n");
}

/* What is kept is handed on once here, and again to whoever takes over, until a line goes with all that was kept. */
TEST(kept_lines_stay) {
        BENCH(b);
        b.keep = true;
        say(&b, "k1\nk2\n");
        run(&b);
        say(&b, "k3\nhalf");
        run(&b);
        ASSERT_SEEN(&b, "W:k1\nW:k2\nW:k3\n");
        ASSERT_EQ(in_pipe(&b), 13);
        b.reader = line_reader_free(b.reader);
        bench_read(&b, LINE_MAX_);
        run(&b);
        ASSERT_SEEN(&b, "W:k1\nW:k2\nW:k3\nW:k1\nW:k2\nW:k3\n");
        say(&b, " a line\nk4\n");
        run(&b);
        ASSERT_EQ(in_pipe(&b), 3);
        ASSERT_EQ(b.n_drained, 0);
        hang_up(&b);
        ASSERT_TRUE(b.ended);
        ASSERT_EQ(b.error, 0);
        ASSERT_SEEN(&b, "W:k1\nW:k2\nW:k3\nW:k1\nW:k2\nW:k3\nW:half a line\nW:k4\n");
}

TEST(a_cut_line_behind_kept_ones) {
        BENCH(b);
        b.keep = true;
        say(&b, "k1\nk2");
        hang_up(&b);
        ASSERT_TRUE(b.ended);
        ASSERT_SEEN(&b, "W:k1\nC:k2\n");
}

/* Its writer needs the room: nothing stops, and what was kept is told to be gone. */
TEST(kept_lines_give_way_in_a_full_pipe) {
        _cleanup_free_ char *k = filled('k', 1000);

        BENCH(b);
        b.keep = true;
        for (unsigned i = 0; i < 500; i++) {
                say(&b, k);
                say(&b, "\n");
        }
        run(&b);
        ASSERT_EQ(b.n_lines, 500);
        ASSERT_TRUE(b.n_drained > 0);
        hang_up(&b);
        ASSERT_TRUE(b.ended);
        ASSERT_EQ(b.n_lines, 500);
        ASSERT_EQ(b.total, 500000);
}

/* Lines of any size, written in pieces of any size, to readers that fail at any of them: each is handled, in order. */
TEST(readers_that_follow_each_other) {
        unsigned seed = 42;

        for (unsigned round = 0; round < 30; round++) {
                _cleanup_(strbuf_done) StrBuf text = {}, expected = {};
                size_t done = 0, n = 20;

                BENCH(b);
                for (size_t i = 0; i < n; i++) {
                        /* Most fit into the pipe: what is over its size is lost with its reader. */
                        size_t size = (size_t) rand_r(&seed) % (rand_r(&seed) % 3 == 0 ? 20000U : 50U);
                        _cleanup_free_ char *x = filled((char) ('a' + i), size);

                        ASSERT_OK(strbuf_printf(&text, "%s\n", x));
                        if (size < 100)
                                ASSERT_OK(strbuf_printf(&expected, "W:%s\n", x));
                        else
                                ASSERT_OK(strbuf_printf(&expected, "W:%zu bytes of %c to %c\n", size,
                                                        (int) ('a' + i), (int) ('a' + i)));
                }
                while (done < text.size || !b.ended) {
                        size_t piece = MIN((size_t) rand_r(&seed) % 30000U + 1, text.size - done);

                        b.fail_at = rand_r(&seed) % 3 == 0 ? (int) b.n_lines + rand_r(&seed) % 3 : -1;
                        if (done == text.size)
                                b.in = safe_close(b.in);
                        for (size_t gone = 0; gone < piece;) {
                                ssize_t m = write(b.in, text.text + done, piece - gone);

                                if (m < 0) {
                                        ASSERT_EQ(errno, EAGAIN);
                                        break;
                                }
                                gone += (size_t) m;
                                done += (size_t) m;
                        }
                        run(&b);
                        if (b.ended && b.error < 0) {
                                b.reader = line_reader_free(b.reader);
                                b.ended = false;
                                bench_read(&b, LINE_MAX_);
                        }
                }
                ASSERT_SEEN(&b, expected.text);
        }
}

TEST(drain_reads_without_the_loop) {
        BENCH(b);
        say(&b, "one\ntwo\nthr");
        line_reader_drain(b.reader);
        ASSERT_SEEN(&b, "W:one\nW:two\n");
        ASSERT_EQ(in_pipe(&b), 3);
        b.in = safe_close(b.in);
        line_reader_drain(b.reader);
        ASSERT_SEEN(&b, "W:one\nW:two\nC:thr\n");
        ASSERT_TRUE(b.ended);
        run(&b);
}

TEST(only_pipes) {
        LineReader *l = NULL;

        BENCH(b);
        ASSERT_ERROR(line_reader_new(&l, b.event, open("/dev/null", O_RDONLY | O_CLOEXEC), 10, &(LineHandler) {
                .on_line = bench_on_line,
                .on_end = bench_on_end,
                .userdata = &b,
        }), ENOTSUP);
        ASSERT_NULL(l);
}

TEST_MAIN();
