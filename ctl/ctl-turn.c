/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <sys/signalfd.h>

#include "ctl-bus.h"
#include "ctl-line.h"
#include "ctl-turn.h"
#include "event-util.h"
#include "file-util.h"
#include "paths.h"

/* puffod itself keeps a call for 60 s while an agent comes back. */
#define SUBMIT_TIMEOUT_USEC (70 * USEC_PER_SEC)
#define RETRY_USEC_MIN (100 * USEC_PER_MSEC)
#define RETRY_USEC_MAX (2 * USEC_PER_SEC)
#define RETRIES_MAX 40

typedef struct Turn {
        Chat *chat;
        const char *text;
        char *id;
        TurnView view;
        int stream;
        sd_event_source *stream_source, *retry_source;
        sd_bus_slot *call, *interrupt_call;
        unsigned n_retries;     /* since something was heard */
        unsigned n_interrupts;
        bool submitted;         /* it is in the queue: only its stream is missing */
        bool ended;
        int result;             /* what chat_turn() returns */
} Turn;

static int turn_submit(Turn *t);

static void turn_done(Turn *t) {
        t->stream_source = sd_event_source_disable_unref(t->stream_source);
        t->retry_source = sd_event_source_disable_unref(t->retry_source);
        t->call = sd_bus_slot_unref(t->call);
        t->interrupt_call = sd_bus_slot_unref(t->interrupt_call);
        t->stream = safe_close(t->stream);
        turn_view_done(&t->view);
        free(t->id);
}

static int turn_end(Turn *t, int result) {
        t->result = result;
        t->ended = true;
        return 0;
}

/* Who reads no more has gone on purpose; anything else he is told. What could not be written is lost: a later flush
 * would find nothing wrong. */
static int flush_output(const Turn *t) {
        errno = 0;
        if (fflush(stdout) == 0 && !ferror(stdout))
                return 0;
        if (errno != EPIPE)
                (void) ctl_fail(t->chat->c, "cannot write the output%s%s", errno ? ": " : "",
                                errno ? strerror(errno) : "");
        return -EPIPE;
}

static int turn_fail(Turn *t, const char *message) {
        _cleanup_free_ char *safe = str_printable(message, SIZE_MAX);

        fprintf(stderr, "error: %s\n", strempty(safe));
        return turn_end(t, 0);
}

/* --- getting the stream, again if need be --- */

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Turn *t = userdata;
        int r = turn_submit(t);

        return r < 0 ? turn_fail(t, strerror(-r)) : 0;
}

static int turn_retry(Turn *t) {
        uint64_t delay = MIN(RETRY_USEC_MIN << MIN(t->n_retries, 5U), RETRY_USEC_MAX);

        t->stream_source = sd_event_source_disable_unref(t->stream_source);
        t->stream = safe_close(t->stream);
        t->call = sd_bus_slot_unref(t->call);
        if (t->n_retries++ >= RETRIES_MAX)
                return turn_fail(t, "the agent does not come back");
        return event_arm_timer(t->chat->event, &t->retry_source, delay, USEC_PER_MSEC, on_retry, t);
}

static int on_stream(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Turn *t = userdata;
        char buffer[KIB(64)];
        ssize_t n = read(fd, buffer, sizeof(buffer));
        int r;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) /* without a final event: the session is gone and will be back */
                return turn_retry(t);

        t->n_retries = 0;
        r = turn_view_feed(&t->view, buffer, (size_t) n);
        if (r < 0)
                return turn_fail(t,
                                 r == -EBADMSG ? "the agent's session sent something that is no event" : strerror(-r));
        if (r > 0)
                return turn_end(t, t->view.outcome == TURN_FAILED                            ? 0 :
                                   t->view.outcome == TURN_INCOMPLETE && t->n_interrupts > 0 ? 2 :
                                                                                               1);
        r = flush_output(t);
        return r < 0 ? turn_end(t, r) : 0;
}

static int open_stream(Turn *t, sd_bus_message *reply) {
        int fd, r;

        r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return r;
        /* The message owns the one in it. */
        t->stream = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        if (t->stream < 0 || fcntl(t->stream, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        turn_view_begin(&t->view);
        return sd_event_add_io(t->chat->event, &t->stream_source, t->stream, EPOLLIN, on_stream, t);
}

static int turn_interrupt(Turn *t);

static int on_submitted(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Turn *t = userdata;
        int r;

        if (e && ctl_daemon_is_down(0, e)) {
                (void) ctl_fail_bus(t->chat->c, 0, e, "cannot talk to agent '%s'", t->chat->agent);
                return turn_end(t, -ENOTCONN);
        }
        if (e && ctl_reply_was_lost(0, e) && sd_bus_is_open(t->chat->c->bus) > 0)
                return turn_retry(t);
        if (e && !sd_bus_is_open(t->chat->c->bus)) {
                (void) ctl_fail(t->chat->c, "the connection to the bus was lost");
                return turn_end(t, -ENOTCONN);
        }
        if (e)
                return turn_fail(t, e->message ?: e->name);

        t->submitted = true;
        r = open_stream(t, m);
        if (r < 0)
                return turn_fail(t, strerror(-r));
        return t->n_interrupts > 0 ? turn_interrupt(t) : 0;
}

static int append_turn(sd_bus_message *m, const Turn *t) {
        int r;

        r = sd_bus_message_append(m, "s", t->id);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_string_option(m, "Text", t->text);
        if (r >= 0)
                r = bus_append_string_option(m, "Conversation", t->chat->conversation);
        if (r >= 0)
                r = bus_append_string_option(m, "Source", t->chat->source);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* With the id of a turn that is there already this only opens its stream. */
static int turn_submit(Turn *t) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        Chat *chat = t->chat;
        int r;

        r = ctl_new_agent_call(chat->c, chat->agent, &m, &error, "Submit");
        if (r >= 0)
                r = append_turn(m, t);
        if (r >= 0) {
                t->call = sd_bus_slot_unref(t->call);
                r = sd_bus_call_async(chat->c->bus, &t->call, m, on_submitted, t, SUBMIT_TIMEOUT_USEC);
        }
        if (r < 0 && sd_bus_error_is_set(&error)) {
                (void) turn_fail(t, error.message);
                return 0;
        }
        return r;
}

/* --- Ctrl-C --- */

static int on_interrupted(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        /* Whatever came of it, the stream tells the end. */
        return 0;
}

static int turn_interrupt(Turn *t) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = ctl_new_agent_call(t->chat->c, t->chat->agent, &m, &error, "Interrupt");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", t->id);
        if (r >= 0) {
                t->interrupt_call = sd_bus_slot_unref(t->interrupt_call);
                r = sd_bus_call_async(t->chat->c->bus, &t->interrupt_call, m, on_interrupted, t,
                                      CTL_CALL_TIMEOUT_USEC);
        }
        return r < 0 ? turn_fail(t, strerror(-r)) : 0;
}

static int on_sigint(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        struct signalfd_siginfo info;
        Turn *t = userdata;

        if (read(fd, &info, sizeof(info)) != sizeof(info))
                return 0;
        if (t->n_interrupts++ > 0)
                return turn_end(t, -EINTR);
        return t->submitted ? turn_interrupt(t) : 0;
}

/* --- a turn --- */

static void show_text(const char *text, void *userdata) {
        const Turn *t = userdata;

        if (!t->chat->c->json)
                (void) text_write_safe(stdout, text);
}

static void show_start_over(void *userdata) {
        const Turn *t = userdata;

        if (t->chat->c->json)
                return;
        fputc('\n', stdout);
        fflush(stdout);
        fputs("the agent's session was restarted and answers anew:\n", stderr);
}

/* For somebody who looks on: a line between what is said. */
static void show_tool(const char *name, void *userdata) {
        const Turn *t = userdata;
        const StrBuf *shown = &t->view.shown;
        _cleanup_free_ char *safe = str_printable(name, 60);

        if (t->chat->c->json || !safe || !isatty(STDOUT_FILENO) || !isatty(STDERR_FILENO))
                return;
        if (shown->size > 0 && shown->text[shown->size - 1] != '\n')
                fputc('\n', stdout);
        fflush(stdout);
        fprintf(stderr, "%s[%s]%s\n", colour_on(stderr, COLOUR_FAINT), safe, colour_off(stderr, COLOUR_FAINT));
}

static int print_turn_json(Turn *t) {
        static const char *const outcomes[] = {
                        [TURN_GOING] = "unknown",
                        [TURN_COMPLETED] = "completed",
                        [TURN_INCOMPLETE] = "incomplete",
                        [TURN_FAILED] = "failed",
        };
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *s;

        if (!o || json_put_string(o, "id", t->id) < 0 || json_put_string(o, "agent", t->chat->agent) < 0 ||
            json_put_string(o, "status", outcomes[t->view.outcome]) < 0 ||
            json_put_string_len(o, "text", strempty(t->view.shown.text), t->view.shown.size) < 0 ||
            json_put(o, "usage", json_object_get(json_get(t->view.final, "usage"))) < 0 ||
            json_put(o, "reason", json_object_get(json_get(t->view.final, "reason"))) < 0 ||
            json_put(o, "error", json_object_get(json_get(t->view.final, "error"))) < 0)
                return -ENOMEM;
        s = json_text(o, NULL);
        if (!s)
                return -ENOMEM;
        json_write_safe(stdout, s);
        fputc('\n', stdout);
        return 0;
}

/* What stands below the answer. */
static int print_outcome(Turn *t) {
        _cleanup_free_ char *safe = str_printable(turn_view_reason(&t->view), SIZE_MAX);
        const StrBuf *shown = &t->view.shown;
        int r;

        if (!t->chat->c->json && (t->view.outcome == TURN_COMPLETED || shown->size > 0) &&
            (shown->size == 0 || shown->text[shown->size - 1] != '\n'))
                fputc('\n', stdout);
        r = t->result == -EPIPE ? 0 : flush_output(t);
        if (t->view.outcome == TURN_FAILED)
                fprintf(stderr, "error: %s\n", strempty(safe));
        else if (t->view.outcome == TURN_INCOMPLETE)
                fprintf(stderr, "incomplete: %s\n", strempty(safe));
        return r;
}

int chat_turn(Chat *chat, const char *text) {
        Turn t = { .chat = chat, .text = text, .stream = -EBADF };
        _cleanup_event_source_ sd_event_source *sigint = NULL;
        int r;

        t.view = (TurnView) { .show = show_text, .start_over = show_start_over, .show_tool = show_tool,
                              .userdata = &t };
        t.id = random_hex(16);
        if (!t.id)
                return -ENOMEM;

        terminal_hold();
        r = sd_event_add_io(chat->event, &sigint, chat->signal_fd, EPOLLIN, on_sigint, &t);
        if (r >= 0)
                r = turn_submit(&t);
        while (r >= 0 && !t.ended)
                r = sd_event_run(chat->event, UINT64_MAX);
        if (r >= 0) {
                r = print_outcome(&t);
                if (r >= 0 || t.result < 0)
                        r = t.result;
                if (chat->c->json && print_turn_json(&t) < 0)
                        r = -ENOMEM;
        }

        terminal_release();
        turn_done(&t);
        return r;
}

int chat_begin(Chat *chat) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        sigset_t mask;
        int r;

        chat->signal_fd = -EBADF;
        r = ctl_connect(chat->c, &error);
        if (r < 0)
                return r;
        (void) sigemptyset(&mask);
        (void) sigaddset(&mask, SIGINT);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        chat->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        if (chat->signal_fd < 0)
                return -errno;
        r = sd_event_new(&chat->event);
        return r < 0 ? r : sd_bus_attach_event(chat->c->bus, chat->event, SD_EVENT_PRIORITY_NORMAL);
}

void chat_end(Chat *chat) {
        if (chat->c->bus)
                (void) sd_bus_detach_event(chat->c->bus);
        chat->event = sd_event_unref(chat->event);
        chat->signal_fd = safe_close(chat->signal_fd);
}

/* --- many turns --- */

static bool is_blank(const char *s) {
        return s[strspn(s, " \t\n")] == 0;
}

/* Beside the agents' directories, where no agent's programs see it. The machine's agents, and those of other machines,
 * have names of their own: a '.' is in none. */
static char* history_path(const Chat *chat) {
        _cleanup_(home_paths_freep) HomePaths *paths = NULL;
        _cleanup_free_ char *folder = NULL, *place = NULL;
        const Ctl *c = chat->c;

        place = c->host    ? strjoin("host.", c->host, ".") :
                c->machine ? strjoin("machine.", c->machine, ".") :
                             strdup(c->scope == SCOPE_SYSTEM ? "system." : "");
        if (!place || strchr(place, '/') || strlen(place) > 128 || home_paths_new(&paths, SCOPE_USER) < 0)
                return NULL;
        folder = path_join(paths->proxy_state, "history");
        if (!folder || directory_make(folder, 0700) < 0)
                return NULL;
        return strjoin(folder, "/", place, chat->agent);
}

static int check_bus(void *userdata) {
        const Chat *chat = userdata;

        return sd_bus_is_open(chat->c->bus) > 0 ? 0 : -ENOTCONN;
}

int chat_loop(Chat *chat) {
        _cleanup_(line_reader_freep) LineReader *reader = NULL;
        _cleanup_free_ char *prompt = strjoin(chat->agent, "> "), *history = NULL;
        bool failed = false;
        int r;

        history = isatty(STDIN_FILENO) ? history_path(chat) : NULL;
        r = prompt ? line_reader_new(&reader, &(LineReaderSpec) {
                .event = chat->event, .signal_fd = chat->signal_fd, .prompt = prompt, .history = history,
                .check = check_bus, .userdata = chat,
        }) : -ENOMEM;
        if (r < 0)
                return ctl_fail(chat->c, "cannot read the terminal: %s", strerror(-r));

        for (;;) {
                _cleanup_free_ char *line = NULL;
                struct signalfd_siginfo info;

                /* A Ctrl-C that came when the answer was just complete was not meant for the prompt. */
                while (read(chat->signal_fd, &info, sizeof(info)) > 0)
                        ;
                r = line_reader_read(reader, &line);
                if (r == -EINTR)
                        return EXIT_INTERRUPTED;
                if (r == -ENOTCONN)
                        return ctl_fail(chat->c, "the connection to the bus was lost");
                if (r < 0)
                        return ctl_fail(chat->c, "cannot read the input: %s", strerror(-r));
                if (r == 0 || streq(line, "/exit") || streq(line, "/quit"))
                        break;
                if (is_blank(line))
                        continue;
                if (!utf8_is_valid(line, strlen(line))) {
                        fputs("error: the line is not UTF-8\n", stderr);
                        failed = true;
                        continue;
                }

                r = chat_turn(chat, line);
                if (r == -ENOTCONN || r == -EPIPE)
                        return EXIT_FAILURE;
                if (r == -EINTR)
                        return EXIT_INTERRUPTED;
                if (r < 0)
                        return ctl_fail(chat->c, "cannot talk to agent '%s': %s", chat->agent, strerror(-r));
                if (r == 0)
                        failed = true;
        }
        return failed && !line_reader_is_interactive(reader) ? EXIT_FAILURE : EXIT_SUCCESS;
}
