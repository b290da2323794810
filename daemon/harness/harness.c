/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>

#include "event-util.h"
#include "harness-driver.h"

#define PIPE_SIZE KIB(256)
#define TAIL_MAX 2048U
#define ERROR_LINE_MAX KIB(4)
#define WARNING_CHARS_MAX 1000U
#define WARNINGS_MAX 20U
#define WARNINGS_USEC (60 * USEC_PER_SEC)

static const char *const kind_names[_HARNESS_KIND_MAX] = {
        [HARNESS_CLAUDE] = "claude-code",
        [HARNESS_CLAUDE_SDK] = "claude-sdk",
        [HARNESS_GEMINI] = "gemini-cli",
        [HARNESS_HERMES] = "hermes",
        [HARNESS_CODEX] = "codex",
        [HARNESS_CODEX_EXEC] = "codex-exec",
};

static const HarnessDriver *const drivers[_HARNESS_KIND_MAX] = {
        [HARNESS_CLAUDE] = &claude_driver,
        [HARNESS_CLAUDE_SDK] = &claude_sdk_driver,
        [HARNESS_GEMINI] = &gemini_driver,
        [HARNESS_HERMES] = &hermes_driver,
        [HARNESS_CODEX] = &codex_driver,
        [HARNESS_CODEX_EXEC] = &codex_exec_driver,
};

static const char *const outcome_names[_HARNESS_OUTCOME_MAX] = {
        [HARNESS_DONE] = "done",
        [HARNESS_INTERRUPTED] = "interrupted",
        [HARNESS_ERROR] = "error",
        [HARNESS_TRANSIENT] = "transient",
        [HARNESS_AUTH] = "auth",
        [HARNESS_MAX_TURNS] = "max-turns",
        [HARNESS_GONE] = "gone",
        [HARNESS_LOST_SESSION] = "lost-session",
        [HARNESS_PROTOCOL] = "protocol",
        [HARNESS_UNFIT] = "unfit",
        [HARNESS_UNREACHABLE] = "unreachable",
        [HARNESS_LIMIT] = "limit",
        [HARNESS_TOO_LONG] = "too-long",
};

const char* harness_kind_to_string(HarnessKind k) {
        return k >= 0 && k < _HARNESS_KIND_MAX ? kind_names[k] : NULL;
}

HarnessKind harness_kind_from_string(const char *s) {
        for (HarnessKind k = 0; s && k < _HARNESS_KIND_MAX; k++)
                if (streq(s, kind_names[k]))
                        return k;
        return _HARNESS_KIND_INVALID;
}

const char* harness_outcome_to_string(HarnessOutcome o) {
        return o >= 0 && o < _HARNESS_OUTCOME_MAX ? outcome_names[o] : NULL;
}

const HarnessDriver* harness_driver_get(HarnessKind k) {
        return k >= 0 && k < _HARNESS_KIND_MAX ? drivers[k] : NULL;
}

bool harness_is_per_turn(HarnessKind k) {
        const HarnessDriver *d = harness_driver_get(k);

        return d && d->per_turn;
}

bool harness_is_told_by_launch(HarnessKind k) {
        const HarnessDriver *d = harness_driver_get(k);

        return d && d->told_by_launch;
}

bool harness_is_fitted_by_launch(HarnessKind k) {
        const HarnessDriver *d = harness_driver_get(k);

        return d && (d->told_by_launch || d->fitted_by_launch);
}

Harness* harness_hold(Harness *h) {
        h->n_ref++;
        return h;
}

static Harness* harness_unref(Harness *h) {
        if (!h || --h->n_ref > 0)
                return NULL;

        if (h->state)
                h->driver->free(h);
        strbuf_done(&h->queue);
        strbuf_done(&h->tail);
        free(h->turn_text);
        free(h->output_schema);
        free(h->effort);
        (void) strv_free(h->images);
        free(h->turn_name);
        sd_event_unref(h->event);
        return mfree(h);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Harness*, harness_unref);

static void harness_close(Harness *h) {
        h->input_io = sd_event_source_disable_unref(h->input_io);
        h->input = safe_close(h->input);
        strbuf_done(&h->queue);
        h->n_queue_written = 0;
}

Harness* harness_free(Harness *h) {
        if (!h)
                return NULL;
        h->dead = true;
        h->deaf = sd_event_source_disable_unref(h->deaf);
        harness_close(h);
        h->output = line_reader_free(h->output);
        h->errors = line_reader_free(h->errors);
        return harness_unref(h);
}

HarnessKind harness_kind(const Harness *h) {
        return h->kind;
}

bool harness_in_turn(const Harness *h) {
        return h->turn != TURN_NONE;
}

#define SAY(h, what, ...) \
        (!(h)->dead && (h)->handler.what ? (h)->handler.what(h, ##__VA_ARGS__, (h)->handler.userdata) : 0)
#define TELL(h, what, ...) \
        do { \
                if (!(h)->dead && (h)->handler.what) \
                        (h)->handler.what(h, ##__VA_ARGS__, (h)->handler.userdata); \
        } while (false)

void harness_say_progress(Harness *h) {
        TELL(h, on_progress);
}

int harness_say_message_begin(Harness *h, const char *id) {
        return SAY(h, on_message_begin, id);
}

int harness_say_text(Harness *h, const char *text, size_t size) {
        return size > 0 ? SAY(h, on_text, text, size) : 0;
}

int harness_say_message_end(Harness *h, const char *id, const char *text) {
        return SAY(h, on_message_end, id, text);
}

int harness_say_message_cancel(Harness *h, const char *id) {
        return SAY(h, on_message_cancel, id);
}

int harness_say_tool(Harness *h, const HarnessTool *tool) {
        return SAY(h, on_tool, tool);
}

int harness_say_session(Harness *h, const char *session_id) {
        return SAY(h, on_session, session_id);
}

int harness_say_ask(Harness *h, const HarnessAsk *ask) {
        return SAY(h, on_ask, ask);
}

void harness_say_ask_withdrawn(Harness *h, const char *id) {
        TELL(h, on_ask_withdrawn, id);
}

int harness_say_mcp(Harness *h, const char *request_id, const char *message) {
        return SAY(h, on_mcp, request_id, message);
}

void harness_release(Harness *h, int error) {
        if (error < 0)
                TELL(h, on_failure, error);
        (void) harness_unref(h);
}

static void harness_warn_text(Harness *h, const char *text) {
        _cleanup_free_ char *clean = str_printable(text, WARNING_CHARS_MAX);

        if (clean)
                TELL(h, on_warning, clean);
}

void harness_warn(Harness *h, const char *format, ...) {
        uint64_t now = now_boottime_usec();
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int r;

        if (h->n_warnings == 0 || now - h->warnings_since_usec > WARNINGS_USEC) {
                h->warnings_since_usec = now;
                h->n_warnings = 0;
                if (h->n_unsaid > 0) {
                        _cleanup_free_ char *s = asprintf_new("%u more warnings were not shown.", h->n_unsaid);

                        if (s)
                                harness_warn_text(h, s);
                        h->n_unsaid = 0;
                        h->n_warnings++;
                }
        }
        if (h->n_warnings >= WARNINGS_MAX) {
                h->n_unsaid++;
                return;
        }
        h->n_warnings++;

        va_start(ap, format);
        r = vasprintf(&text, format, ap);
        va_end(ap);
        if (r < 0)
                text = NULL;
        else
                harness_warn_text(h, text);
}

char* harness_error_tail(Harness *h) {
        _cleanup_free_ char *text = strdup(strempty(h->tail.text));
        size_t n = text ? strlen(text) : 0;

        if (!text)
                return NULL;
        while (n > 0 && text[n - 1] == '\n')
                text[--n] = 0;
        for (char *p = text; *p; p++)
                if (*p == '\n' || *p == '\t' || *p == '\r')
                        *p = ' ';
        return str_printable(text, TAIL_MAX);
}

void harness_usage(Harness *h, ModelUsage *ret) {
        *ret = (ModelUsage) {};
        if (h->turn != TURN_NONE && h->driver->usage)
                h->driver->usage(h, ret);
}

static bool usage_is_known(const ModelUsage *u) {
        return u->input_tokens > 0 || u->output_tokens > 0;
}

int harness_end_turn(Harness *h, const HarnessResult *result) {
        HarnessResult whole = *result;
        int r;

        if (h->turn == TURN_NONE)
                return 0;
        if (!usage_is_known(&whole.usage))
                harness_usage(h, &whole.usage);
        r = h->driver->turn_over ? h->driver->turn_over(h) : 0;
        if (r < 0 || h->dead)
                return r;
        h->turn = TURN_NONE;
        h->turn_text = mfree(h->turn_text);
        h->turn_name = mfree(h->turn_name);
        h->interrupting = false;
        return SAY(h, on_end, &whole);
}

/* Input */

static int harness_on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata);

/* What cannot be written any more is dropped: its output tells why it has ended, if it has. */
static int harness_flush(Harness *h) {
        while (h->n_queue_written < h->queue.size) {
                ssize_t n = write(h->input, h->queue.text + h->n_queue_written, h->queue.size - h->n_queue_written);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n < 0) {
                        int r = -errno;

                        harness_close(h);
                        return r == -EPIPE ? 0 : r;
                }
                h->n_queue_written += (size_t) n;
        }
        strbuf_done(&h->queue);
        h->n_queue_written = 0;
        return 1;
}

static int harness_watch_input(Harness *h) {
        int r;

        if (h->input < 0)
                return 0;
        if (h->input_io)
                return sd_event_source_set_enabled(h->input_io, SD_EVENT_ON);
        r = sd_event_add_io(h->event, &h->input_io, h->input, EPOLLOUT, harness_on_input, h);
        return r < 0 ? r : 0;
}

static int harness_on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Harness *h = userdata;
        int r;

        r = harness_flush(h);
        if (r < 0) {
                TELL(h, on_failure, r);
                return 0;
        }
        if (r == 0)
                return 0;
        (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
        if (h->closing)
                harness_close(h);
        if (h->announce_sent) {
                h->announce_sent = false;
                TELL(h, on_sent);
        }
        return 0;
}

static int harness_on_deaf(sd_event_source *s, void *userdata) {
        Harness *h = userdata;
        _cleanup_(harness_unrefp) Harness *held = h;
        int r = -ENOBUFS;

        h->n_ref++;
        harness_warn(h, "It does not read its input: more than %zu MiB wait for it.", HARNESS_QUEUE_MAX / MIB(1));
        if (h->turn != TURN_NONE)
                r = harness_end_turn(h, &(HarnessResult) {
                        .outcome = HARNESS_PROTOCOL,
                        .message = "It does not read its input.",
                        .started = h->turn == TURN_RUNNING,
                });
        if (r < 0)
                TELL(h, on_failure, r);
        return 0;
}

/* From the loop: who writes is often in the middle of beginning a turn, or of a line. */
static int harness_give_up_writing(Harness *h) {
        int r = sd_event_add_defer(h->event, &h->deaf, harness_on_deaf, h);

        if (r < 0)
                return r;
        h->announce_sent = false;
        harness_close(h);
        return 0;
}

int harness_write(Harness *h, const char *data, size_t size) {
        int r;

        if (h->ended)
                return -EPIPE;
        if (h->input < 0 || h->closing)
                return 0;
        if (h->n_queue_written > 0) {
                strbuf_consume(&h->queue, h->n_queue_written);
                h->n_queue_written = 0;
        }
        if (h->queue.size > 0 && size > HARNESS_QUEUE_MAX - MIN(h->queue.size, HARNESS_QUEUE_MAX))
                return harness_give_up_writing(h);
        r = strbuf_append(&h->queue, data, size);
        if (r < 0)
                return r;
        r = harness_flush(h);
        return r == 0 ? harness_watch_input(h) : MIN(r, 0);
}

int harness_write_json(Harness *h, json_object *line) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *text;
        size_t size;
        int r;

        text = json_text(line, &size);
        if (!text)
                return -ENOMEM;
        /* In one piece: a pipe takes it whole or this process is told. */
        r = strbuf_append(&b, text, size);
        if (r >= 0)
                r = strbuf_append(&b, "\n", 1);
        return r < 0 ? r : harness_write(h, b.text, b.size);
}

bool harness_has_written(const Harness *h) {
        return h->queue.size == 0;
}

void harness_close_input(Harness *h) {
        h->closing = true;
        if (h->queue.size == 0)
                harness_close(h);
}

/* Turns */

int harness_text_written(Harness *h) {
        h->announce_sent = true;
        return harness_watch_input(h);
}

static int harness_begin(Harness *h, const char *text) {
        int r;

        h->turn = TURN_RUNNING;
        h->announce_sent = false;
        r = h->driver->turn ? h->driver->turn(h, text) : 0;
        if (r == 0)
                r = harness_text_written(h);
        if (r < 0)
                h->turn = TURN_NONE;
        return MIN(r, 0);
}

int harness_turn(Harness *h, const char *text) {
        if (h->turn != TURN_NONE)
                return -EBUSY;
        if (h->ended || h->deaf)
                return -EPIPE;
        if (!utf8_is_valid(text, strlen(text)))
                return -EINVAL;

        h->interrupting = false;
        if (h->settled)
                return harness_begin(h, text);

        h->turn_text = strdup(text);
        if (!h->turn_text)
                return -ENOMEM;
        h->turn = TURN_WAITING;
        return 0;
}

static int harness_begin_preparing(Harness *h) {
        int r;

        h->turn = TURN_RUNNING;
        r = h->driver->prepare(h);
        if (r <= 0)
                h->turn = TURN_NONE;
        return r;
}

int harness_prepare(Harness *h) {
        if (h->turn != TURN_NONE)
                return -EBUSY;
        if (h->ended || h->deaf)
                return -EPIPE;
        if (!h->driver->prepare)
                return 0;

        h->interrupting = false;
        if (h->settled)
                return harness_begin_preparing(h);
        h->turn = TURN_WAITING;
        return 1;
}

int harness_set_options(Harness *h, const HarnessOptions *options) {
        int r;

        h->images = strv_free(h->images);
        r = free_and_strdup(&h->output_schema, options->output_schema);
        if (r >= 0)
                r = free_and_strdup(&h->effort, options->effort);
        for (char *const *image = options->images; image && *image && r >= 0; image++)
                r = strv_extend(&h->images, *image);
        return MIN(r, 0);
}

int harness_set_conversation(Harness *h, const char *session_id) {
        if (h->turn != TURN_NONE)
                return -EBUSY;
        return h->driver->set_conversation ? h->driver->set_conversation(h, session_id) : -EOPNOTSUPP;
}

int harness_turn_adopt(Harness *h, const char *last_message) {
        int r;

        if (h->turn != TURN_NONE)
                return -EBUSY;
        if (h->ended)
                return -EPIPE;
        r = h->driver->adopt_turn ? h->driver->adopt_turn(h, last_message) : 0;
        if (r < 0)
                return r;
        h->interrupting = false;
        h->turn = TURN_RUNNING;
        return 0;
}

int harness_turn_again(Harness *h, const char *text, const char *last_message) {
        int r;

        if (!h->driver->again)
                return -EOPNOTSUPP;
        if (!utf8_is_valid(text, strlen(text)))
                return -EINVAL;
        r = harness_turn_adopt(h, last_message);
        if (r < 0)
                return r;
        h->announce_sent = true;
        r = h->driver->again(h, text);
        if (r >= 0)
                r = harness_watch_input(h);
        if (r < 0) {
                h->announce_sent = false;
                h->turn = TURN_NONE;
        }
        return r;
}

int harness_name_turn(Harness *h, const char *name) {
        return MIN(free_and_strdup(&h->turn_name, name), 0);
}

int harness_interrupt(Harness *h) {
        int r;

        if (h->turn == TURN_NONE)
                return -ESRCH;
        if (!h->driver->interrupt)
                return -EOPNOTSUPP;
        if (h->interrupting)
                return 0;
        r = h->turn == TURN_RUNNING ? h->driver->interrupt(h) : 0;
        if (r >= 0)
                h->interrupting = true;
        return r;
}

int harness_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message) {
        return h->driver->answer ? h->driver->answer(h, ask_id, allow, input, message) : -EOPNOTSUPP;
}

int harness_mcp_reply(Harness *h, const char *request_id, const char *message) {
        return h->driver->mcp_reply ? h->driver->mcp_reply(h, request_id, message) : -EOPNOTSUPP;
}

int harness_set_model(Harness *h, const char *model) {
        return h->driver->set_model ? h->driver->set_model(h, model) : -EOPNOTSUPP;
}

/* Output */

static int harness_on_line(LineReader *l, const char *line, size_t size, LineEnd end, void *userdata) {
        Harness *h = userdata;
        _cleanup_(harness_unrefp) Harness *held = h;

        h->n_ref++;
        if (end == LINE_TOO_LONG) {
                harness_warn(h, "A line of its output is too long.");
                return harness_end_turn(h, &(HarnessResult) {
                        .outcome = HARNESS_PROTOCOL,
                        .message = "A line of its output is too long.",
                        .started = true,
                });
        }
        return h->dead ? 0 : h->driver->line(h, line, size);
}

void harness_keep_line(Harness *h) {
        if (h->output)
                line_reader_keep(h->output);
}

static void harness_on_drain(LineReader *l, void *userdata) {
        Harness *h = userdata;

        TELL(h, on_drained);
}

static void harness_on_idle(LineReader *l, void *userdata) {
        Harness *h = userdata;
        _cleanup_(harness_unrefp) Harness *held = h;
        _cleanup_free_ char *text = NULL;
        int r;

        h->n_ref++;
        if (h->settled)
                return;
        h->settled = true;
        if (h->turn != TURN_WAITING)
                return;

        if (h->interrupting) {
                r = harness_end_turn(h, &(HarnessResult) { .outcome = HARNESS_INTERRUPTED, .message = "" });
        } else {
                text = TAKE_PTR(h->turn_text);
                r = text ? harness_begin(h, text) : harness_begin_preparing(h);
                /* It was so already. */
                if (r == 0 && !text) {
                        h->turn = TURN_RUNNING;
                        r = harness_end_turn(h, &(HarnessResult) { .outcome = HARNESS_DONE, .message = "" });
                }
        }
        if (r < 0)
                TELL(h, on_failure, r);
}

static void harness_on_output_end(LineReader *l, int error, void *userdata) {
        Harness *h = userdata;
        _cleanup_(harness_unrefp) Harness *held = h;
        _cleanup_free_ char *tail = NULL;
        int r;

        h->n_ref++;
        if (error < 0) {
                TELL(h, on_failure, error);
                return;
        }

        /* What it wrote last stands on standard error; it was written before. */
        if (h->errors)
                line_reader_drain(h->errors);
        if (h->dead)
                return;
        h->settled = true;
        r = h->driver->eof ? h->driver->eof(h) : 0;
        h->ended = true;
        harness_close(h);
        if (r >= 0 && h->turn != TURN_NONE) {
                tail = harness_error_tail(h);
                r = harness_end_turn(h, &(HarnessResult) {
                        .outcome = HARNESS_GONE,
                        .message = strempty(tail),
                        .started = h->turn == TURN_RUNNING,
                });
        }
        if (r < 0)
                TELL(h, on_failure, r);
        else
                TELL(h, on_exit);
}

static int harness_on_error_line(LineReader *l, const char *line, size_t size, LineEnd end, void *userdata) {
        Harness *h = userdata;
        _cleanup_(harness_unrefp) Harness *held = h;
        int r;

        h->n_ref++;
        if (strspn(line, " \t\r") == size)
                return 0;
        r = strbuf_append(&h->tail, line, size);
        if (r >= 0)
                r = strbuf_append(&h->tail, "\n", 1);
        if (r < 0)
                return r;
        if (h->tail.size > TAIL_MAX)
                strbuf_consume(&h->tail, h->tail.size - TAIL_MAX);

        r = h->driver->error_line && !h->dead ? h->driver->error_line(h, line, size) : 0;
        if (r == 0)
                harness_warn(h, "%s", line);
        return MIN(r, 0);
}

static void harness_on_errors_end(LineReader *l, int error, void *userdata) {
        Harness *h = userdata;

        if (error < 0)
                TELL(h, on_failure, error);
}

int harness_new(Harness **ret, sd_event *event, const HarnessSetup *setup, const int fds[static 3], bool adopted,
                const HarnessHandler *handler) {
        _cleanup_(harness_freep) Harness *h = NULL;
        const HarnessDriver *driver;
        int r, output = fds[1], errors = fds[2];

        assert(ret && event && setup && handler && handler->on_end && handler->on_exit);

        driver = harness_driver_get(setup->kind);
        h = driver ? new0(Harness, 1) : NULL;
        if (!h) {
                for (size_t i = 0; i < 3; i++)
                        (void) safe_close(fds[i]);
                return driver ? -ENOMEM : -EOPNOTSUPP;
        }
        *h = (Harness) {
                .n_ref = 1,
                .kind = setup->kind,
                .driver = driver,
                .handler = *handler,
                .event = sd_event_ref(event),
                .input = fds[0],
                .adopted = adopted,
                .settled = !adopted,
        };

        /* What fits goes in whole or not at all, and stays until it is handled: a line of ours that was cut off by our
         * death, or of the program's that was taken out early, is lost to who takes over. Without the right to that,
         * or with all of it used up, the pipes stay as they are. */
        if (h->input >= 0)
                (void) fcntl(h->input, F_SETPIPE_SZ, (int) PIPE_SIZE);
        (void) fcntl(output, F_SETPIPE_SZ, (int) PIPE_SIZE);

        r = line_reader_new(&h->output, event, output, HARNESS_LINE_MAX, &(LineHandler) {
                .on_line = harness_on_line,
                .on_drain = harness_on_drain,
                .on_idle = harness_on_idle,
                .on_end = harness_on_output_end,
                .userdata = h,
        });
        if (r < 0) {
                (void) safe_close(errors);
                return r;
        }
        r = line_reader_new(&h->errors, event, errors, ERROR_LINE_MAX, &(LineHandler) {
                .on_line = harness_on_error_line,
                .on_end = harness_on_errors_end,
                .userdata = h,
        });
        if (r < 0)
                return r;

        r = h->input >= 0 ? fcntl(h->input, F_GETFL) : 0;
        if (r < 0 || (h->input >= 0 && fcntl(h->input, F_SETFL, r | O_NONBLOCK) < 0))
                return -errno;
        r = h->driver->start(h, setup);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(h);
        return 0;
}
