/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <termios.h>

#include "ctl-secret.h"
#include "string-util.h"

#define SECRET_MAX 4096

void secret_freep(char **s) {
        if (*s)
                explicit_bzero(*s, strlen(*s));
        free(*s);
}

/* One line from fd. */
static int read_line(int fd, char *buffer, size_t size) {
        size_t n = 0;

        for (;;) {
                ssize_t k = read(fd, buffer + n, 1);

                if (k < 0 && errno == EINTR)
                        continue;
                if (k < 0)
                        return -errno;
                if (k == 0 || buffer[n] == '\n')
                        break;
                if (++n >= size)
                        return -EMSGSIZE;
        }
        buffer[n] = 0;
        if (n > 0 && buffer[n - 1] == '\r')
                buffer[--n] = 0;
        return n == 0 || strlen(buffer) != n ? -EBADMSG : 0;
}

static int ask(const char *question, char *buffer, size_t size) {
        _cleanup_close_ int tty = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
        struct termios before, quiet;
        sigset_t mask, old;
        int r;

        if (tty < 0)
                return -errno;
        if (tcgetattr(tty, &before) < 0)
                return -errno;
        quiet = before;
        quiet.c_lflag &= ~(tcflag_t) ECHO;

        /* A Ctrl-C must not leave the terminal mute. */
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGINT);
        (void) sigaddset(&mask, SIGTSTP);
        (void) sigprocmask(SIG_BLOCK, &mask, &old);
        quiet.c_lflag &= ~(tcflag_t) ISIG;
        if (tcsetattr(tty, TCSAFLUSH, &quiet) < 0)
                return -errno;
        dprintf(tty, "%s: ", question);
        r = read_line(tty, buffer, size);
        dprintf(tty, "\n");
        (void) tcsetattr(tty, TCSAFLUSH, &before);
        (void) sigprocmask(SIG_SETMASK, &old, NULL);
        if (r >= 0 && strchr(buffer, '\003'))
                return -EINTR;
        return r;
}

int secret_from_option(Ctl *c, const Arguments *a, const char *name, const char *question, char **ret) {
        const char *value = arguments_value(a, name);
        char buffer[SECRET_MAX] = "";
        int r;

        *ret = NULL;
        if (!arguments_has(a, name))
                return 0;
        if (value && !streq(value, "-"))
                return ctl_refuse(c,
                                  "a key on the command line can be read by everybody on this machine: say --%s alone "
                                  "and type "
                                  "it, or pipe it in",
                                  name);

        r = isatty(STDIN_FILENO) && !value ? ask(question, buffer, sizeof(buffer))
                                           : read_line(STDIN_FILENO, buffer, sizeof(buffer));
        if (r >= 0) {
                *ret = strdup(buffer);
                r = *ret ? 0 : -ENOMEM;
        }
        explicit_bzero(buffer, sizeof(buffer));
        if (r == -EINTR)
                return ctl_fail(c, "interrupted");
        if (r == -EBADMSG)
                return ctl_fail(c, "no key was given");
        return r < 0 ? ctl_fail(c, "cannot read the key: %s", strerror(-r)) : 0;
}
