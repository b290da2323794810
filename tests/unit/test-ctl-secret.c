/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>

#include "ctl-secret.h"
#include "string-util.h"
#include "tests.h"

static const Option options[] = { { "api-key", 0, "[-]", "" }, {} };
static const Program program = { .name = "test" };

/* As the program of this secret: exits with what it would, 0 for the one that is expected. */
static _Noreturn void take_secret(const char *expected) {
        Ctl c = { .program = &program };
        GivenOption given = { .option = options };
        _cleanup_(secret_freep) char *secret = NULL;
        int status;

        /* As from a terminal, whatever the tests themselves were started to ignore. */
        for (int number = SIGHUP; number <= SIGQUIT; number++)
                (void) signal(number, SIG_DFL);
        (void) prctl(PR_SET_DUMPABLE, 0);      /* SIGQUIT is to leave no core */
        status = secret_from_option(&c, &(Arguments) { .given = &given, .n_given = 1 }, "api-key", "Key", &secret);
        _exit(status != EXIT_SUCCESS ? status : streq_ptr(secret, expected) ? 0 : 99);
}

typedef struct Terminal {
        int ours, theirs;
        pid_t pid;
        StrBuf seen;
} Terminal;

static void terminal_open(Terminal *t, const char *expected) {
        char name[64];

        *t = (Terminal) {};
        t->pid = forkpty(&t->ours, name, NULL, NULL);
        ASSERT_TRUE(t->pid >= 0);
        if (t->pid == 0)
                take_secret(expected);
        /* Held open, so that its state can be looked at after the end. */
        t->theirs = open(name, O_RDWR|O_NOCTTY|O_CLOEXEC);
        ASSERT_TRUE(t->theirs >= 0);
}

static unsigned count(const Terminal *t, const char *text) {
        unsigned n = 0;

        for (const char *p = strempty(t->seen.text); (p = strstr(p, text)); p++)
                n++;
        return n;
}

static void expect(Terminal *t, const char *text, unsigned n) {
        while (count(t, text) < n) {
                char buffer[256];
                ssize_t k = read(t->ours, buffer, sizeof(buffer));

                ASSERT_TRUE(k > 0);
                ASSERT_OK(strbuf_append(&t->seen, buffer, (size_t) k));
        }
}

static bool echoes(Terminal *t) {
        struct termios state;

        ASSERT_EQ(tcgetattr(t->theirs, &state), 0);
        return state.c_lflag & ECHO;
}

static void type(Terminal *t, const char *text) {
        ASSERT_EQ(write(t->ours, text, strlen(text)), (ssize_t) strlen(text));
}

static int terminal_close(Terminal *t) {
        int status;

        ASSERT_EQ(waitpid(t->pid, &status, 0), t->pid);
        ASSERT_TRUE(echoes(t));
        (void) close(t->ours);
        (void) close(t->theirs);
        strbuf_done(&t->seen);
        return status;
}

TEST(typed) {
        static const struct {
                const char *typed;
                int status;
        } t[] = { { "sk-1\n", 0 }, { "sk-1\x04\x04", 0 }, { "\n", 1 }, { "\x04", 1 }, { "sk-2\n", 99 } };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Terminal terminal;

                terminal_open(&terminal, "sk-1");
                expect(&terminal, "Key: ", 1);
                ASSERT_FALSE(echoes(&terminal));
                type(&terminal, t[i].typed);
                expect(&terminal, "Key: \r\n", 1);
                ASSERT_EQ(count(&terminal, "sk-"), 0);
                ASSERT_EQ(terminal_close(&terminal), t[i].status << 8);
        }
}

/* A terminal keeps 4095 characters of a line, and says nothing of the rest. */
TEST(typed_too_long) {
        _cleanup_free_ char *key = calloc(1, 5001);
        Terminal terminal;

        memset(key, 'x', 5000);
        terminal_open(&terminal, key);
        expect(&terminal, "Key: ", 1);
        for (size_t i = 0; i < 5000; i += 500)
                ASSERT_EQ(write(terminal.ours, key, 500), 500);
        type(&terminal, "\n");
        expect(&terminal, "too long", 1);
        ASSERT_EQ(terminal_close(&terminal), 1 << 8);
}

TEST(ended_by_a_signal) {
        static const struct {
                int number;
                const char *typed;
        } t[] = {
                { SIGTERM, NULL }, { SIGHUP, NULL }, { SIGINT, NULL }, { SIGQUIT, NULL }, { SIGINT, "half\x03" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                Terminal terminal;
                int status;

                terminal_open(&terminal, "");
                expect(&terminal, "Key: ", 1);
                ASSERT_FALSE(echoes(&terminal));
                if (t[i].typed)
                        type(&terminal, t[i].typed);
                else
                        ASSERT_EQ(kill(terminal.pid, t[i].number), 0);
                status = terminal_close(&terminal);
                ASSERT_TRUE(WIFSIGNALED(status));
                ASSERT_EQ(WTERMSIG(status), t[i].number);
        }
}

/* Whoever was away is asked again. Nobody stops here: this group of processes has no shell to take it up again. */
TEST(stopped) {
        Terminal terminal;

        terminal_open(&terminal, "sk-1");
        expect(&terminal, "Key: ", 1);
        type(&terminal, "half\x1a");
        expect(&terminal, "Key: ", 2);
        type(&terminal, "sk-1\n");
        ASSERT_EQ(terminal_close(&terminal), 0);
}

TEST(piped) {
        static const struct {
                size_t size;
                const char *end;
                int status;
        } t[] = {
                { 1, "\n", 0 }, { 1, "", 0 }, { 1, "\r\n", 0 }, { 1, "\nmore", 0 }, { 0, "\n", 1 }, { 0, "", 1 },
                { 5000, "\n", 0 }, { KIB(16), "\n", 0 }, { KIB(16), "\r\n", 0 }, { KIB(16) + 1, "\n", 1 },
                { KIB(16) + 1, "", 1 }, { KIB(40), "\n", 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *key = calloc(1, t[i].size + 1), *line = NULL;
                int fds[2], status;
                pid_t pid;

                memset(key, 'x', t[i].size);
                line = strjoin(key, t[i].end);
                ASSERT_EQ(pipe(fds), 0);
                ASSERT_EQ(write(fds[1], line, strlen(line)), (ssize_t) strlen(line));
                (void) close(fds[1]);
                pid = fork();
                ASSERT_TRUE(pid >= 0);
                if (pid == 0) {
                        ASSERT_TRUE(dup2(fds[0], STDIN_FILENO) >= 0);
                        take_secret(key);
                }
                (void) close(fds[0]);
                ASSERT_EQ(waitpid(pid, &status, 0), pid);
                ASSERT_EQ(status, t[i].status << 8);
        }
}

#define TEST_SUITE "ctl-secret"
TEST_MAIN();
