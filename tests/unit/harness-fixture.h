/* SPDX-License-Identifier: MIT */
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "event-util.h"
#include "harness.h"
#include "json-util.h"
#include "string-util.h"
#include "tests.h"

/* A program's side of its three pipes, and a record of what a harness makes of what is written there: one line for
 * each call of a handler. */
typedef struct Stage {
        sd_event *event;
        Harness *harness;
        int input, output, errors;      /* as the program has them */
        int take[3];                    /* doubles of what the harness has, for one that follows it */
        StrBuf record, written;         /* written: what was read from input and not yet looked at */
        bool texts_only;                /* only complete messages and the ends of turns are recorded */
        int fail_at;                    /* this call of a handler fails; -1: none */
        bool free_at_text, free_at_end, turn_at_end;
        int n_calls;
        bool ended, exited, failed;
        int failure;                    /* what on_failure is to be told; 0: what the handlers return */
        HarnessResult result;           /* strings are not kept */
        unsigned n_tools, n_asks, n_warnings, n_progress, n_drained;
        char *session, *ask, *mcp;
} Stage;

#define RECORD(s, ...) ASSERT_OK(strbuf_printf(&(s)->record, __VA_ARGS__))

static inline int stage_called(Stage *s) {
        return s->n_calls++ == s->fail_at ? -ENOSPC : 0;
}

static inline int stage_on_message_begin(Harness *h, const char *id, void *userdata) {
        Stage *s = userdata;
        int r = stage_called(s);

        if (r >= 0 && !s->texts_only)
                RECORD(s, "begin %s\n", id);
        return r;
}

static inline int stage_on_text(Harness *h, const char *text, size_t size, void *userdata) {
        Stage *s = userdata;
        int r = stage_called(s);

        ASSERT_EQ(strlen(text), size);
        ASSERT_TRUE(size > 0);
        if (r >= 0 && !s->texts_only)
                RECORD(s, "text %s\n", text);
        if (s->free_at_text)
                s->harness = harness_free(s->harness);
        return r;
}

static inline int stage_on_message_end(Harness *h, const char *id, const char *text, void *userdata) {
        Stage *s = userdata;
        int r = stage_called(s);

        if (r >= 0 && s->texts_only)
                RECORD(s, "%s\n", text);
        else if (r >= 0)
                RECORD(s, "end %s: %s\n", id, text);
        return r;
}

static inline int stage_on_message_cancel(Harness *h, const char *id, void *userdata) {
        Stage *s = userdata;

        if (!s->texts_only)
                RECORD(s, "cancel %s\n", id);
        return stage_called(s);
}

static inline int stage_on_tool(Harness *h, const HarnessTool *t, void *userdata) {
        Stage *s = userdata;
        int r = stage_called(s);

        if (r < 0)
                return r;
        if (t->phase == HARNESS_TOOL_STARTED) {
                s->n_tools++;
                ASSERT_NOT_NULL(t->input);
                ASSERT_NULL(t->output);
        } else {
                ASSERT_NULL(t->input);
                ASSERT_NOT_NULL(t->output);
        }
        if (!s->texts_only)
                RECORD(s, "tool %s %s%s%s%s: %s\n", t->phase == HARNESS_TOOL_STARTED ? "started" : "ended", t->name,
                       t->parent ? " of " : "", strempty(t->parent), t->is_error ? " with an error" : "",
                       t->input ?: t->output);
        return 0;
}

static inline int stage_on_session(Harness *h, const char *id, void *userdata) {
        Stage *s = userdata;

        ASSERT_TRUE(free_and_strdup(&s->session, id) == 0);
        return 0;
}

static inline int stage_on_ask(Harness *h, const HarnessAsk *a, void *userdata) {
        Stage *s = userdata;

        s->n_asks++;
        ASSERT_OK(free_and_strdup(&s->ask, a->id));
        if (!s->texts_only)
                RECORD(s, "ask %s %s\n", a->name, a->input);
        return 0;
}

static inline void stage_on_ask_withdrawn(Harness *h, const char *id, void *userdata) {
        Stage *s = userdata;

        if (!s->texts_only)
                RECORD(s, "withdrawn %s\n", id);
}

static inline int stage_on_mcp(Harness *h, const char *id, const char *message, void *userdata) {
        Stage *s = userdata;

        ASSERT_OK(free_and_strdup(&s->mcp, id));
        if (!s->texts_only)
                RECORD(s, "mcp %s\n", message);
        return 0;
}

static inline void stage_on_progress(Harness *h, void *userdata) {
        ((Stage*) userdata)->n_progress++;
}

static inline void stage_on_drained(Harness *h, void *userdata) {
        ((Stage*) userdata)->n_drained++;
}

static inline void stage_on_warning(Harness *h, const char *text, void *userdata) {
        Stage *s = userdata;

        s->n_warnings++;
        ASSERT_TRUE(strlen(text) < 8000);
        if (!s->texts_only)
                RECORD(s, "warning %s\n", text);
}

static inline int stage_on_end(Harness *h, const HarnessResult *result, void *userdata) {
        Stage *s = userdata;
        int r = stage_called(s);

        if (r < 0)
                return r;
        ASSERT_FALSE(harness_in_turn(h));
        ASSERT_NOT_NULL(result->message);
        s->ended = true;
        s->result = *result;
        s->result.message = NULL;
        if (s->texts_only)
                RECORD(s, "%s\n", harness_outcome_to_string(result->outcome));
        else
                RECORD(s, "%s%s%s\n", harness_outcome_to_string(result->outcome), *result->message ? ": " : "",
                       result->message);
        if (s->turn_at_end) {
                s->turn_at_end = false;
                ASSERT_OK(harness_turn(h, "next"));
        }
        if (s->free_at_end)
                s->harness = harness_free(s->harness);
        return 0;
}

static inline void stage_on_exit(Harness *h, void *userdata) {
        Stage *s = userdata;

        ASSERT_FALSE(s->exited);
        ASSERT_FALSE(harness_in_turn(h));
        s->exited = true;
}

static inline void stage_on_failure(Harness *h, int error, void *userdata) {
        Stage *s = userdata;

        s->failed = true;
        ASSERT_EQ(error, s->failure ?: -ENOSPC);
}

static inline HarnessHandler stage_handler(Stage *s) {
        return (HarnessHandler) {
                .on_message_begin = stage_on_message_begin,
                .on_text = stage_on_text,
                .on_message_end = stage_on_message_end,
                .on_message_cancel = stage_on_message_cancel,
                .on_tool = stage_on_tool,
                .on_session = stage_on_session,
                .on_ask = stage_on_ask,
                .on_ask_withdrawn = stage_on_ask_withdrawn,
                .on_mcp = stage_on_mcp,
                .on_progress = stage_on_progress,
                .on_drained = stage_on_drained,
                .on_warning = stage_on_warning,
                .on_end = stage_on_end,
                .on_exit = stage_on_exit,
                .on_failure = stage_on_failure,
                .userdata = s,
        };
}

static inline void stage_run(Stage *s) {
        while (ASSERT_OK(sd_event_run(s->event, 0)) > 0)
                ;
}

static inline HarnessSetup stage_setup(HarnessKind kind) {
        return (HarnessSetup) {
                .kind = kind,
                .program = "/usr/bin/claude",
                .home = "/srv/agent",
                .workspace = "/srv/agent/workspace",
                .working_directory = "/srv/agent/workspace",
        };
}

/* A harness over these pipes: the first one, or one that takes over from another. */
static inline void stage_start(Stage *s, const HarnessSetup *setup, bool adopted) {
        HarnessHandler handler = stage_handler(s);
        int fds[3];

        for (size_t i = 0; i < 3; i++) {
                fds[i] = fcntl(s->take[i], F_DUPFD_CLOEXEC, 3);
                ASSERT_TRUE(fds[i] >= 0 || s->take[i] < 0);
        }
        ASSERT_OK(harness_new(&s->harness, s->event, setup, fds, adopted, &handler));
}

static inline void stage_begin(Stage *s, const HarnessSetup *setup) {
        int in[2], out[2], errors[2];

        (void) signal(SIGPIPE, SIG_IGN);
        *s = (Stage) { .fail_at = -1 };
        ASSERT_OK(sd_event_new(&s->event));
        ASSERT_EQ(pipe2(in, O_CLOEXEC | O_NONBLOCK) | pipe2(out, O_CLOEXEC | O_NONBLOCK) |
                  pipe2(errors, O_CLOEXEC | O_NONBLOCK), 0);
        s->input = in[0];
        s->output = out[1];
        s->errors = errors[1];
        s->take[0] = in[1];
        s->take[1] = out[0];
        s->take[2] = errors[0];
        stage_start(s, setup, /* adopted= */ false);
}

static inline void stage_end(Stage *s) {
        harness_free(s->harness);
        sd_event_unref(s->event);
        (void) safe_close(s->input);
        (void) safe_close(s->output);
        (void) safe_close(s->errors);
        for (size_t i = 0; i < 3; i++)
                (void) safe_close(s->take[i]);
        strbuf_done(&s->record);
        strbuf_done(&s->written);
        free(s->session);
        free(s->ask);
        free(s->mcp);
}

static inline void stage_write(Stage *s, int fd, const char *text, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, text, size);

                if (n < 0 && errno == EAGAIN) {
                        stage_run(s);
                        continue;
                }
                ASSERT_TRUE(n > 0);
                text += n;
                size -= (size_t) n;
        }
}

/* The program says a line. */
static inline void stage_says(Stage *s, const char *line) {
        stage_write(s, s->output, line, strlen(line));
        stage_write(s, s->output, "\n", 1);
        stage_run(s);
}

static inline void stage_complains(Stage *s, const char *line) {
        stage_write(s, s->errors, line, strlen(line));
        stage_write(s, s->errors, "\n", 1);
        stage_run(s);
}

static inline void stage_exits(Stage *s) {
        s->output = safe_close(s->output);
        s->errors = safe_close(s->errors);
        s->input = safe_close(s->input);
        stage_run(s);
}

/* Reads what the harness has written. */
static inline void stage_listen(Stage *s) {
        char buffer[65536];
        ssize_t n;

        for (;;) {
                stage_run(s);
                n = read(s->input, buffer, sizeof(buffer));
                if (n <= 0)
                        return;
                ASSERT_OK(strbuf_append(&s->written, buffer, (size_t) n));
        }
}

/* The next line of it, or NULL. */
static inline char* stage_hears(Stage *s) {
        char *end, *line;

        stage_listen(s);
        end = s->written.size > 0 ? memchr(s->written.text, '\n', s->written.size) : NULL;
        if (!end)
                return NULL;
        line = memdup0(s->written.text, (size_t) (end - s->written.text));
        ASSERT_NOT_NULL(line);
        strbuf_consume(&s->written, (size_t) (end - s->written.text) + 1);
        return line;
}

static inline json_object* stage_hears_json(Stage *s) {
        _cleanup_free_ char *line = stage_hears(s);
        json_object *o = NULL;

        if (!line)
                return NULL;
        ASSERT_OK(json_parse(line, strlen(line), &o));
        return o;
}

/* What was recorded since the last look. */
#define ASSERT_RECORD(s, expected) ({ \
        ASSERT_STREQ(strempty((s)->record.text), expected); \
        strbuf_done(&(s)->record); })
