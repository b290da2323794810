/* SPDX-License-Identifier: MIT */

#include <histedit.h>
#include <poll.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <wchar.h>

#include "ctl-line.h"
#include "string-util.h"

#define LINE_SIZE_MAX MIB(16)

struct LineReader {
        const char *prompt;
        int signal_fd;
        bool interrupted, continued;

        /* on a terminal */
        EditLine *editor;
        History *history;

        /* otherwise */
        StrBuf input;
        bool ended;
};

/* > 0: stdin can be read; -EINTR: Ctrl-C. */
static int wait_for_input(LineReader *l) {
        struct pollfd fds[] = {
                { .fd = STDIN_FILENO, .events = POLLIN },
                { .fd = l->signal_fd, .events = POLLIN },
        };
        struct signalfd_siginfo info;

        if (poll(fds, ELEMENTSOF(fds), -1) < 0)
                return errno == EINTR ? 0 : -errno;
        if (fds[1].revents != 0) {
                (void) !read(l->signal_fd, &info, sizeof(info));
                l->interrupted = true;
                return -EINTR;
        }
        return fds[0].revents != 0;
}

/* libedit's own reader would go on reading over a Ctrl-C. */
static int read_character(EditLine *editor, wchar_t *ret) {
        LineReader *l = NULL;
        mbstate_t state = {};
        char c;

        if (el_get(editor, EL_CLIENTDATA, &l) < 0 || !l)
                return -1;
        for (;;) {
                int r = wait_for_input(l);

                if (r < 0)
                        return -1;
                if (r == 0) {
                        (void) el_set(editor, EL_REFRESH);
                        continue;
                }
                if (read(STDIN_FILENO, &c, 1) != 1)
                        return 0;
                switch (mbrtowc(ret, &c, 1, &state)) {
                case (size_t) -2: /* more bytes belong to it */
                        continue;
                case (size_t) -1:
                        state = (mbstate_t) {};
                        continue;
                default:
                        return 1;
                }
        }
}

static char* get_prompt(EditLine *editor) {
        LineReader *l = NULL;

        if (el_get(editor, EL_CLIENTDATA, &l) < 0 || !l)
                return (char*) "";
        return (char*) (l->continued ? "… " : l->prompt);
}

static int set_up_editor(LineReader *l) {
        HistEvent event;

        l->editor = el_init("puffoctl", stdin, stdout, stderr);
        l->history = history_init();
        if (!l->editor || !l->history)
                return -ENOMEM;
        (void) history(l->history, &event, H_SETSIZE, 500);
        (void) history(l->history, &event, H_SETUNIQUE, 1);
        (void) el_set(l->editor, EL_CLIENTDATA, l);
        (void) el_set(l->editor, EL_PROMPT, get_prompt);
        (void) el_set(l->editor, EL_EDITOR, "emacs");
        (void) el_set(l->editor, EL_SIGNAL, 1);
        (void) el_set(l->editor, EL_HIST, history, l->history);
        (void) el_set(l->editor, EL_GETCFN, read_character);
        return 0;
}

int line_reader_new(LineReader **ret, const char *prompt, int signal_fd) {
        _cleanup_(line_reader_freep) LineReader *l = new0(LineReader, 1);
        int r;

        if (!l)
                return -ENOMEM;
        l->prompt = prompt;
        l->signal_fd = signal_fd;
        if (isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)) {
                r = set_up_editor(l);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(l);
        return 0;
}

LineReader* line_reader_free(LineReader *l) {
        if (!l)
                return NULL;
        if (l->editor)
                el_end(l->editor);
        if (l->history)
                history_end(l->history);
        strbuf_done(&l->input);
        return mfree(l);
}

bool line_reader_is_interactive(const LineReader *l) {
        return l->editor;
}

static int edit_line(LineReader *l, char **ret) {
        HistEvent event;
        const char *line;
        int n = 0;

        el_resize(l->editor);
        line = el_gets(l->editor, &n);
        if (l->interrupted || !line || n <= 0) {
                fputc('\n', stdout);
                return l->interrupted ? -EINTR : 0;
        }
        *ret = strndup(line, strcspn(line, "\n"));
        if (!*ret)
                return -ENOMEM;
        if (**ret)
                (void) history(l->history, &event, H_ENTER, *ret);
        return 1;
}

static int read_plain(LineReader *l, char **ret) {
        for (;;) {
                char *newline = l->input.size > 0 ? memchr(l->input.text, '\n', l->input.size) : NULL;
                size_t n = newline ? (size_t) (newline - l->input.text) : l->input.size;
                char buffer[KIB(16)];
                ssize_t k;
                int r;

                if (newline || (l->ended && l->input.size > 0)) {
                        *ret = memdup0(l->input.text, n);
                        /* No text has NULs: rather none that can be sent than one that ends early. */
                        for (char *nul; *ret && (nul = memchr(*ret, 0, n));)
                                *nul = (char) 0xff;
                        strbuf_consume(&l->input, n + !!newline);
                        return *ret ? 1 : -ENOMEM;
                }
                if (l->ended)
                        return 0;
                if (l->input.size > LINE_SIZE_MAX)
                        return -EMSGSIZE;

                r = wait_for_input(l);
                if (r < 0)
                        return r;
                k = r > 0 ? read(STDIN_FILENO, buffer, sizeof(buffer)) : 0;
                if (k < 0 && errno != EINTR && errno != EAGAIN)
                        return -errno;
                if (r > 0 && k == 0)
                        l->ended = true;
                r = k > 0 ? strbuf_append(&l->input, buffer, (size_t) k) : 0;
                if (r < 0)
                        return r;
        }
}

int line_reader_read(LineReader *l, char **ret) {
        _cleanup_(strbuf_done) StrBuf text = {};
        int r;

        l->interrupted = false;
        for (l->continued = false;; l->continued = true) {
                _cleanup_free_ char *line = NULL;
                size_t n;

                r = l->editor ? edit_line(l, &line) : read_plain(l, &line);
                if (r < 0 || (r == 0 && !l->continued))
                        return r;
                if (r == 0)
                        break;
                n = strlen(line);
                if (n > 0 && line[n - 1] == '\r')
                        line[--n] = 0;
                if (n == 0 || line[n - 1] != '\\') {
                        r = strbuf_append(&text, line, n);
                        if (r < 0)
                                return r;
                        break;
                }
                line[n - 1] = '\n';
                r = strbuf_append(&text, line, n);
                if (r < 0)
                        return r;
        }

        *ret = strbuf_take(&text);
        return *ret ? 1 : -ENOMEM;
}

int stdin_read(size_t max, char **ret) {
        _cleanup_(strbuf_done) StrBuf text = {};
        char buffer[KIB(64)];
        ssize_t n;

        while ((n = read(STDIN_FILENO, buffer, sizeof(buffer))) != 0) {
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (memchr(buffer, 0, (size_t) n))
                        return -EBADMSG;
                r = strbuf_append(&text, buffer, (size_t) n);
                if (r < 0)
                        return r;
                if (text.size > max)
                        return -EFBIG;
        }
        *ret = strbuf_take(&text);
        return *ret ? 0 : -ENOMEM;
}
