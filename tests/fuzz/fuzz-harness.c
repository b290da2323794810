/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>

#include "fuzz.h"
#include "harness.h"
#include "string-util.h"

/* What a harness has told: a message grows only when it was begun, a turn ends once. */
typedef struct Listener {
        bool open;
        StrBuf message;
        unsigned n_ends, n_exits;
} Listener;

static int on_message_begin(Harness *h, const char *id, void *userdata) {
        Listener *l = userdata;

        if (l->open || !*id)
                abort();
        l->open = true;
        return 0;
}

static int on_text(Harness *h, const char *text, size_t size, void *userdata) {
        Listener *l = userdata;

        if (!l->open || size == 0 || strlen(text) != size || !utf8_is_valid(text, size))
                abort();
        return 0;
}

static int on_message_end(Harness *h, const char *id, const char *text, void *userdata) {
        Listener *l = userdata;

        if (!l->open || !utf8_is_valid(text, strlen(text)))
                abort();
        l->open = false;
        return strbuf_puts(&l->message, text);
}

static int on_message_cancel(Harness *h, const char *id, void *userdata) {
        Listener *l = userdata;

        if (!l->open)
                abort();
        l->open = false;
        return 0;
}

static int on_ask(Harness *h, const HarnessAsk *ask, void *userdata) {
        return harness_answer(h, ask->id, strlen(ask->input) % 2 == 0, NULL, "no");
}

static int on_mcp(Harness *h, const char *id, const char *message, void *userdata) {
        return harness_mcp_reply(h, id, strlen(message) % 2 == 0 ? NULL : message);
}

static void on_warning(Harness *h, const char *text, void *userdata) {
        if (!utf8_is_valid(text, strlen(text)) || strpbrk(text, "\n\x1b"))
                abort();
}

static int on_end(Harness *h, const HarnessResult *result, void *userdata) {
        Listener *l = userdata;

        if (l->open || !result->message || !harness_outcome_to_string(result->outcome))
                abort();
        l->n_ends++;
        return 0;
}

static void on_exit_(Harness *h, void *userdata) {
        ((Listener*) userdata)->n_exits++;
}

static void on_failure(Harness *h, int error, void *userdata) {
        if (error != -ENOMEM)
                abort();
}

static void run(sd_event *event) {
        while (sd_event_run(event, 0) > 0)
                ;
}

/* Output of a program in a turn, in pieces: however it is cut, the same is told of it. */
static void tell(HarnessKind kind, const uint8_t *data, size_t size, size_t piece, Listener *l) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(harness_freep) Harness *h = NULL;
        static const char *const tools[] = { "Bash(git *)", NULL };
        HarnessSetup setup = {
                .kind = kind,
                .program = "/claude",
                .home = "/",
                .workspace = "/",
                .working_directory = "/",
                .session_id = "5c2e8f5e-0000-4000-8000-000000000001",
                .mcp_config = "/x",
                .puffo_tools = true,
                .allowed_tools = (char *const*) tools,
        };
        /* What it says before a turn answers requests with ids that nobody can guess. */
        bool adopted = kind == HARNESS_CODEX;
        int in[2], out[2], errors[2];

        if (adopted)
                setup.session_id = NULL;

        (void) signal(SIGPIPE, SIG_IGN);
        if (sd_event_new(&event) < 0 || pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 ||
            pipe2(errors, O_CLOEXEC) < 0)
                abort();
        if (harness_new(&h, event, &setup, (const int[3]) { in[1], out[0], errors[0] }, adopted, &(HarnessHandler) {
                .on_message_begin = on_message_begin,
                .on_text = on_text,
                .on_message_end = on_message_end,
                .on_message_cancel = on_message_cancel,
                .on_ask = on_ask,
                .on_mcp = on_mcp,
                .on_warning = on_warning,
                .on_end = on_end,
                .on_exit = on_exit_,
                .on_failure = on_failure,
                .userdata = l,
        }) < 0)
                abort();
        if ((adopted ? harness_turn_adopt(h, NULL) : harness_turn(h, "hello")) < 0)
                abort();
        for (size_t done = 0; done < size;) {
                ssize_t n = write(out[1], data + done, MIN(size - done, piece));

                if (n <= 0)
                        abort();
                done += (size_t) n;
                run(event);
        }
        (void) close(out[1]);
        (void) close(errors[1]);
        run(event);
        (void) close(in[0]);
        if (l->n_ends != 1 || l->n_exits != 1 || l->open)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        if (size > 60000)
                return 0;
        for (HarnessKind kind = HARNESS_CLAUDE; kind < _HARNESS_KIND_MAX; kind++) {
                Listener whole = {}, pieces = {};

                tell(kind, data, size, SIZE_MAX, &whole);
                tell(kind, data, size, size > 0 ? 1 + data[0] % 64U : 1, &pieces);
                if (!streq(strempty(whole.message.text), strempty(pieces.message.text)))
                        abort();
                strbuf_done(&whole.message);
                strbuf_done(&pieces.message);
        }
        return 0;
}
