/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <histedit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <termios.h>
#include <wchar.h>

#include "ctl-line.h"
#include "file-util.h"
#include "string-util.h"

#define LINE_SIZE_MAX MIB(16)
#define HISTORY_LINES 500
/* Of one text: the file is read whole at each start, and written whole for each line. */
#define HISTORY_TEXT_MAX KIB(16)

/* Bracketed paste (xterm): the terminal says where a pasted text begins and ends. */
#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define PASTE_BEGIN "\\033[200~"
#define PASTE_END L"\033[201~"

struct LineReader {
        LineReaderSpec spec;
        sd_event_source *input_source, *signal_source;  /* input_source NULL: always readable (a file) */
        bool readable, interrupted, continued;
        int error;                      /* why a wait is over; 0: it is not */

        /* on a terminal */
        EditLine *editor;
        History *history;
        bool brackets;                  /* the terminal can be asked for them */

        /* otherwise */
        StrBuf input;
        bool ended;
};

/* --- waiting --- */

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ((LineReader*) userdata)->readable = true;
        return 0;
}

static int on_signal(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct signalfd_siginfo info;
        LineReader *l = userdata;

        l->interrupted |= read(fd, &info, sizeof(info)) == sizeof(info);
        return 0;
}

static int set_up_sources(LineReader *l) {
        int r;

        r = sd_event_add_io(l->spec.event, &l->input_source, STDIN_FILENO, EPOLLIN, on_input, l);
        if (r == -EPERM)
                l->input_source = NULL;
        else if (r < 0)
                return r;
        else
                r = sd_event_source_set_enabled(l->input_source, SD_EVENT_OFF);
        if (r >= 0 || !l->input_source)
                r = sd_event_add_io(l->spec.event, &l->signal_source, l->spec.signal_fd, EPOLLIN, on_signal, l);
        return r < 0 ? r : sd_event_source_set_enabled(l->signal_source, SD_EVENT_OFF);
}

static void listen_to(LineReader *l, int enabled) {
        if (l->input_source)
                (void) sd_event_source_set_enabled(l->input_source, enabled);
        (void) sd_event_source_set_enabled(l->signal_source, enabled);
}

/* One round of the loop. > 0: stdin can be read; 0: something else has happened; -EINTR: Ctrl-C. */
static int wait_for_input(LineReader *l) {
        int r;

        l->readable = !l->input_source;
        listen_to(l, SD_EVENT_ON);
        r = sd_event_run(l->spec.event, l->readable ? 0 : UINT64_MAX);
        listen_to(l, SD_EVENT_OFF);
        if (r >= 0 && l->interrupted)
                r = -EINTR;
        if (r >= 0 && l->spec.check)
                r = l->spec.check(l->spec.userdata);
        return r < 0 ? r : l->readable;
}

/* --- a terminal that others write to --- */

static struct termios terminal_before;
static volatile sig_atomic_t terminal_held;
static const int deadly[] = { SIGTERM, SIGHUP, SIGQUIT };

static void on_deadly(int sig) {
        (void) tcsetattr(STDIN_FILENO, TCSANOW, &terminal_before);
        (void) signal(sig, SIG_DFL);
        (void) raise(sig);
}

void terminal_hold(void) {
        struct termios t;

        if (terminal_held || !isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &t) < 0)
                return;
        terminal_before = t;
        terminal_held = true;
        for (size_t i = 0; i < ELEMENTSOF(deadly); i++)
                (void) signal(deadly[i], on_deadly);
        t.c_lflag &= ~(tcflag_t) (ECHO | ECHONL | ICANON);
        (void) tcsetattr(STDIN_FILENO, TCSADRAIN, &t);
}

void terminal_release(void) {
        if (!terminal_held)
                return;
        (void) tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal_before);
        for (size_t i = 0; i < ELEMENTSOF(deadly); i++)
                (void) signal(deadly[i], SIG_DFL);
        terminal_held = false;
}

/* --- the editor --- */

/* libedit's own reader would go on reading over a Ctrl-C. */
static int read_character(EditLine *editor, wchar_t *ret) {
        LineReader *l = NULL;
        mbstate_t state = {};
        char c;

        if (el_get(editor, EL_CLIENTDATA, &l) < 0 || !l)
                return -1;
        for (;;) {
                int r = wait_for_input(l);

                if (r < 0) {
                        l->error = r;
                        return -1;
                }
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
        return (char*) (l->continued ? "… " : l->spec.prompt);
}

/* What is pasted goes into the line as it is: its line ends do not send it, and what the editor or the terminal would
 * obey is left out. */
static unsigned char take_paste(EditLine *editor, int c) {
        const size_t n_end = wcslen(PASTE_END);
        _cleanup_free_ wchar_t *text = NULL;
        size_t n = 0, size = 0;
        unsigned char done = CC_REFRESH;
        wchar_t w;

        while (el_wgetc(editor, &w) == 1) {
                if (n + 2 > size) {
                        wchar_t *grown = reallocarray(text, size + 4096, sizeof(wchar_t));

                        if (!grown || n > LINE_SIZE_MAX)
                                return CC_REFRESH_BEEP;
                        text = grown;
                        size += 4096;
                }
                text[n++] = w == L'\r' ? L'\n' : w;
                if (n >= n_end && wmemcmp(text + n - n_end, PASTE_END, n_end) == 0) {
                        n -= n_end;
                        break;
                }
        }
        size = 0;
        for (size_t i = 0; i < n; i++)
                if (text[i] == L'\n' || text[i] == L'\t' || (text[i] >= 0x20 && text[i] != 0x7f))
                        text[size++] = text[i];
        if (size > 0) {
                text[size] = 0;
                if (el_winsertstr(editor, text) < 0)
                        done = CC_REFRESH_BEEP;
        }
        return done;
}

static int set_up_editor(LineReader *l) {
        const char *term = getenv("TERM");
        HistEvent event;

        l->editor = el_init("puffoctl", stdin, stdout, stderr);
        l->history = history_init();
        if (!l->editor || !l->history)
                return -ENOMEM;
        (void) history(l->history, &event, H_SETSIZE, HISTORY_LINES);
        (void) history(l->history, &event, H_SETUNIQUE, 1);
        if (l->spec.history)
                (void) history(l->history, &event, H_LOAD, l->spec.history);
        (void) el_set(l->editor, EL_CLIENTDATA, l);
        (void) el_set(l->editor, EL_PROMPT, get_prompt);
        (void) el_set(l->editor, EL_EDITOR, "emacs");
        (void) el_set(l->editor, EL_SIGNAL, 1);
        (void) el_set(l->editor, EL_HIST, history, l->history);
        (void) el_set(l->editor, EL_GETCFN, read_character);
        (void) el_set(l->editor, EL_ADDFN, "take-paste", "what the terminal says was pasted", take_paste);
        (void) el_set(l->editor, EL_BIND, PASTE_BEGIN, "take-paste", NULL);
        l->brackets = !isempty(term) && !streq(term, "dumb");
        return 0;
}

int line_reader_new(LineReader **ret, const LineReaderSpec *spec) {
        _cleanup_(line_reader_freep) LineReader *l = new0(LineReader, 1);
        int r;

        if (!l)
                return -ENOMEM;
        l->spec = *spec;
        r = set_up_sources(l);
        if (r >= 0 && isatty(STDIN_FILENO) && isatty(STDOUT_FILENO))
                r = set_up_editor(l);
        if (r < 0)
                return r;

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
        sd_event_source_disable_unref(l->input_source);
        sd_event_source_disable_unref(l->signal_source);
        strbuf_done(&l->input);
        return mfree(l);
}

bool line_reader_is_interactive(const LineReader *l) {
        return l->editor;
}

/* --- what was said before --- */

static int save_history(History *h, const char *path) {
        _cleanup_free_ char *aside = strjoin(path, ".XXXXXX");
        HistEvent event;
        FILE *f;
        int fd, r = 0;

        fd = aside ? mkostemp(aside, O_CLOEXEC) : -1;
        if (fd < 0)
                return aside ? -errno : -ENOMEM;
        f = fdopen(fd, "w");
        if (!f) {
                (void) close(fd);
                r = -ENOMEM;
        } else {
                if (history(h, &event, H_SAVE_FP, f) < 0)
                        r = -EIO;
                if (fclose(f) != 0 && r >= 0)
                        r = -EIO;
        }
        if (r >= 0 && rename(aside, path) < 0)
                r = -errno;
        if (r < 0)
                (void) unlink(aside);
        return r;
}

/* Into what the file holds now: there may be others who talk to the agent. That a line is not kept is no reason to
 * disturb anybody. */
static void remember(LineReader *l, const char *text) {
        HistEvent event;
        History *h;

        if (!*text)
                return;
        (void) history(l->history, &event, H_ENTER, text);
        if (!l->spec.history || strlen(text) > HISTORY_TEXT_MAX)
                return;
        h = history_init();
        if (!h)
                return;
        (void) history(h, &event, H_SETSIZE, HISTORY_LINES);
        (void) history(h, &event, H_SETUNIQUE, 1);
        (void) history(h, &event, H_LOAD, l->spec.history);
        if (history(h, &event, H_ENTER, text) >= 0)
                (void) save_history(h, l->spec.history);
        history_end(h);
}

/* --- lines --- */

static void ask_for_brackets(LineReader *l, bool on) {
        if (!l->brackets)
                return;
        fputs(on ? PASTE_ON : PASTE_OFF, stdout);
        fflush(stdout);
}

static int edit_line(LineReader *l, char **ret) {
        const char *line;
        int n = 0;

        el_resize(l->editor);
        ask_for_brackets(l, true);
        /* el_gets() does it as well, but behind the prompt: a Ctrl-D of whoever is quicker than that would be lost. */
        (void) el_set(l->editor, EL_PREP_TERM, 1);
        line = el_gets(l->editor, &n);
        ask_for_brackets(l, false);
        if (l->error < 0 || !line || n <= 0) {
                fputc('\n', stdout);
                fflush(stdout);
                return l->error;
        }
        *ret = strndup(line, (size_t) n - (line[n - 1] == '\n'));
        return *ret ? 1 : -ENOMEM;
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
        l->error = 0;
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
        if (!*ret)
                return -ENOMEM;
        if (l->editor)
                remember(l, *ret);
        return 1;
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
