/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <termios.h>

#include "ctl-secret.h"
#include "string-util.h"

#define SECRET_MAX KIB(16)
/* n_tty(4)'s buffer, less the end of the line. */
#define TERMINAL_LINE_MAX 4095

void secret_freep(char **s) {
        if (*s)
                explicit_bzero(*s, strlen(*s));
        free(*s);
}

typedef struct Line {
        char text[SECRET_MAX + 2];      /* and what may end it */
        size_t n;
} Line;

/* > 0: the line is complete. */
static int line_read(Line *l, int fd) {
        ssize_t n = read(fd, l->text + l->n, 1);

        if (n < 0)
                return errno == EINTR ? 0 : -errno;
        if (n == 0 || l->text[l->n] == '\n')
                return 1;
        return ++l->n < sizeof(l->text) ? 0 : -EMSGSIZE;
}

static int line_end(Line *l) {
        l->text[l->n] = 0;
        if (l->n > 0 && l->text[l->n - 1] == '\r')
                l->text[--l->n] = 0;
        if (l->n > SECRET_MAX)
                return -EMSGSIZE;
        return l->n == 0 || strlen(l->text) != l->n ? -EBADMSG : 0;
}

static int read_pipe(Line *l) {
        int r;

        do
                r = line_read(l, STDIN_FILENO);
        while (r == 0);
        return r < 0 ? r : line_end(l);
}

/* Until the line is there (> 0) or one of the signals (0). */
static int wait_line(Line *l, int tty, int signals) {
        struct pollfd p[] = { { .fd = tty, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
        int r = 0;

        while (r == 0) {
                if (poll(p, ELEMENTSOF(p), -1) < 0) {
                        if (errno != EINTR)
                                return -errno;
                        continue;
                }
                if (p[1].revents)
                        return 0;
                r = line_read(l, tty);
        }
        /* A terminal's line is cut here without a word. */
        return r > 0 && l->n >= TERMINAL_LINE_MAX ? -EMSGSIZE : r;
}

/* What ends or stops us must not leave the terminal mute: it is looked at when echo is on again. */
static int signals_hold(sigset_t *ret_before) {
        static const int numbers[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP, SIGTSTP };
        sigset_t mask;
        int fd;

        if (sigprocmask(SIG_BLOCK, NULL, ret_before) < 0)
                return -errno;
        (void) sigemptyset(&mask);
        for (size_t i = 0; i < ELEMENTSOF(numbers); i++)
                if (!sigismember(ret_before, numbers[i]))       /* those would never come */
                        (void) sigaddset(&mask, numbers[i]);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0) {
                int r = -errno;

                (void) sigprocmask(SIG_SETMASK, ret_before, NULL);
                return r;
        }
        return fd;
}

/* One question, one answer (> 0), or a signal that has been acted upon without being the end of us (0). */
static int ask_once(int tty, const char *question, Line *l) {
        _cleanup_close_ int signals = -EBADF;
        struct termios before, quiet;
        sigset_t mask;
        int r;

        if (tcgetattr(tty, &before) < 0)
                return -errno;
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t) ECHO;
        signals = signals_hold(&mask);
        if (signals < 0)
                return signals;

        r = tcsetattr(tty, TCSAFLUSH, &quiet) < 0 ? -errno : 0;
        if (r >= 0) {
                dprintf(tty, "%s: ", question);
                r = wait_line(l, tty, signals);
                dprintf(tty, "\n");
                (void) tcsetattr(tty, TCSAFLUSH, &before);
        }
        if (r <= 0)
                explicit_bzero(l, sizeof(*l));
        (void) sigprocmask(SIG_SETMASK, &mask, NULL);   /* whatever came comes now */
        return r;
}

static int ask(const char *question, Line *l) {
        _cleanup_close_ int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
        int r;

        if (tty < 0)
                return -errno;
        do
                r = ask_once(tty, question, l);
        while (r == 0);
        return r < 0 ? r : line_end(l);
}

int secret_from_option(Ctl *c, const Arguments *a, const char *name, const char *question, char **ret) {
        const char *value = arguments_value(a, name);
        Line line = {};
        int r;

        *ret = NULL;
        if (!arguments_has(a, name))
                return 0;
        if (value && !streq(value, "-"))
                return ctl_refuse(c,
                                  "a key on the command line can be read by everybody on this machine: say --%s alone "
                                  "and type it, or pipe it in", name);

        r = isatty(STDIN_FILENO) && !value ? ask(question, &line) : read_pipe(&line);
        if (r >= 0) {
                *ret = strdup(line.text);
                r = *ret ? 0 : -ENOMEM;
        }
        explicit_bzero(&line, sizeof(line));
        if (r == -EBADMSG)
                return ctl_fail(c, "no key was given");
        if (r == -EMSGSIZE)
                return ctl_fail(c, "the key is too long: at most 16 KiB are taken from a pipe, and 4 from a terminal");
        return r < 0 ? ctl_fail(c, "cannot read the key: %s", strerror(-r)) : 0;
}
