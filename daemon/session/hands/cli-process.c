/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "cli-process.h"
#include "crash-point.h"
#include "event-util.h"
#include "fd-store.h"
#include "harness.h"
#include "log.h"
#include "string-util.h"

static const char *const pipe_names[3] = { "harness-in", "harness-out", "harness-err" };

struct CliProcess {
        CliProcessSpec spec;
        CliState state;
        char *invocation;
        int fds[3];                     /* until they are handed out */
        CliCall *starting, *waiting, *stopping, *freezing;
        bool has_input;                 /* of the one that was adopted */
        bool thaw_wanted;
        bool thawing;                   /* what freezing is: a wish that it wakes up */
        int failed;                     /* why what is being ended could not be started; 0: it could */
        char *failed_text;
};

int cli_process_new(CliProcess **ret, const CliProcessSpec *spec) {
        CliProcess *p = new0(CliProcess, 1);

        if (!p)
                return -ENOMEM;
        p->spec = *spec;
        for (size_t i = 0; i < ELEMENTSOF(p->fds); i++)
                p->fds[i] = -EBADF;
        *ret = p;
        return 0;
}

static void call_stop(CliProcess *p, CliCall **call) {
        if (*call)
                *call = p->spec.backend->call_free(*call);
}

static void calls_stop(CliProcess *p) {
        call_stop(p, &p->starting);
        call_stop(p, &p->waiting);
        call_stop(p, &p->stopping);
        call_stop(p, &p->freezing);
}

static void pipes_close(CliProcess *p) {
        for (size_t i = 0; i < ELEMENTSOF(p->fds); i++)
                p->fds[i] = safe_close(p->fds[i]);
}

CliProcess* cli_process_free(CliProcess *p) {
        if (!p)
                return NULL;
        calls_stop(p);
        pipes_close(p);
        free(p->invocation);
        free(p->failed_text);
        return mfree(p);
}

CliState cli_process_state(const CliProcess *p) {
        return p->state;
}

const char* cli_process_invocation(const CliProcess *p) {
        return strempty(p->invocation);
}

/* ---- the end ---- */

static void forget(CliProcess *p) {
        for (size_t i = 0; i < ELEMENTSOF(pipe_names); i++)
                fd_store_remove(pipe_names[i]);
        pipes_close(p);
        calls_stop(p);
        p->invocation = mfree(p->invocation);
        p->thaw_wanted = false;
        p->state = CLI_NONE;
}

static void on_waited(int error, const CliEnd *end, void *userdata) {
        CliProcess *p = userdata;

        forget(p);
        if (error < 0)
                (void) log_warning_errno(error, "How the CLI has ended could not be learnt: %m");
        p->spec.on_ended(error < 0 ? &(CliEnd) { .result = "unknown", .memory_max = UINT64_MAX } : end,
                         p->spec.userdata);
}

static int wait_for_end(CliProcess *p) {
        return p->spec.backend->wait(p->invocation, on_waited, p, &p->waiting, p->spec.backend->userdata);
}

static void on_stopped(int error, void *userdata) {
        CliProcess *p = userdata;
        _cleanup_free_ char *text = TAKE_PTR(p->failed_text);
        int failed = p->failed;

        p->failed = 0;
        if (error < 0)
                (void) log_warning_errno(error, "The CLI could not be ended: %m");
        forget(p);
        if (failed < 0)
                p->spec.on_failed(failed, text, p->spec.userdata);
        else
                p->spec.on_ended(NULL, p->spec.userdata);
}

static void stop(CliProcess *p) {
        int r;

        p->state = CLI_STOPPING;
        calls_stop(p);
        r = p->spec.backend->stop(on_stopped, p, &p->stopping, p->spec.backend->userdata);
        if (r < 0)
                (void) log_error_errno(r, "Failed to ask for the CLI's end: %m");
}

void cli_process_stop(CliProcess *p) {
        if (p->state == CLI_NONE || p->state == CLI_STOPPING)
                return;
        p->failed = 0;
        stop(p);
}

bool cli_process_has_input(const CliProcess *p) {
        return p->has_input;
}

void cli_process_release_input(CliProcess *p) {
        fd_store_remove(pipe_names[0]);
}

/* ---- the start ---- */

static void hand_out(CliProcess *p) {
        int fds[3];

        p->state = CLI_RUNNING;
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = TAKE_FD(p->fds[i]);
        p->spec.on_started(fds, p->spec.userdata);
}

static void on_started(int error, const char *text, const char *invocation, void *userdata) {
        CliProcess *p = userdata;
        int r = error;

        call_stop(p, &p->starting);
        /* Sent before the start was asked for: by now there is nothing to wait for. */
        if (r >= 0)
                r = fd_store_settle();
        if (r >= 0)
                r = free_and_strdup(&p->invocation, invocation);
        if (r >= 0)
                r = wait_for_end(p);
        if (r >= 0) {
                crash_point("cli-started");
                hand_out(p);
                return;
        }
        /* Whoever lost the answer does not know whether there is one now. */
        p->failed = r;
        p->failed_text = text ? strdup(text) : NULL;
        stop(p);
}

/* ours[]: also in the store. */
static int pipes_make(int ours[static 3], int theirs[static 3]) {
        int pair[2], r;

        for (size_t i = 0; i < 3; i++) {
                if (pipe2(pair, O_CLOEXEC) < 0)
                        return -errno;
                ours[i] = pair[i == 0];
                theirs[i] = pair[i != 0];
                if (fcntl(ours[i], F_SETFL, O_NONBLOCK) < 0)
                        return -errno;
                r = fd_store_send(pipe_names[i], ours[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

int cli_process_start(CliProcess *p, const CliStart *what) {
        int theirs[3] = { -EBADF, -EBADF, -EBADF }, r;

        assert(p->state == CLI_NONE);

        r = pipes_make(p->fds, theirs);
        if (r >= 0)
                r = harness_send_launch(p->fds[0], what->launch);
        if (r >= 0) {
                crash_point("cli-start");
                r = p->spec.backend->start(what, theirs, on_started, p, &p->starting, p->spec.backend->userdata);
        }
        for (size_t i = 0; i < ELEMENTSOF(theirs); i++)
                (void) safe_close(theirs[i]);
        if (r < 0)
                forget(p);
        else
                p->state = CLI_STARTING;
        return MIN(r, 0);
}

int cli_process_adopt(CliProcess *p, const char *invocation, int fds[static 3]) {
        unsigned n = 0;
        int r;

        assert(p->state == CLI_NONE);

        for (size_t i = 0; i < ELEMENTSOF(pipe_names); i++) {
                p->fds[i] = fd_store_take(pipe_names[i]);
                /* Flags belong to the pipe's end, not to the descriptor; but who knows who had it last. */
                n += p->fds[i] >= 0 && fcntl(p->fds[i], F_SETFL, O_NONBLOCK) >= 0;
        }
        if (n == 0)
                return 0;
        p->has_input = p->fds[0] >= 0;
        r = n == 2U + p->has_input && p->fds[1] >= 0 && !isempty(invocation) ? 0 : -ESTALE;
        if (r >= 0)
                r = free_and_strdup(&p->invocation, invocation);
        if (r >= 0)
                r = wait_for_end(p);
        if (r < 0) {
                log_notice("A CLI of before cannot be taken over, it is ended.");
                stop(p);
                return 0;
        }
        /* It may be asleep: only puffod knows, and waking one that is awake does no harm. */
        p->state = CLI_FROZEN;
        for (size_t i = 0; i < ELEMENTSOF(pipe_names); i++)
                fds[i] = TAKE_FD(p->fds[i]);
        return 1;
}

/* ---- sleep ---- */

static void on_frozen(int error, bool frozen, void *userdata);

static int freeze(CliProcess *p, bool frozen) {
        p->thawing = !frozen;
        return p->spec.backend->freeze(frozen, on_frozen, p, &p->freezing, p->spec.backend->userdata);
}

static void on_frozen(int error, bool frozen, void *userdata) {
        CliProcess *p = userdata;

        call_stop(p, &p->freezing);
        if (p->state != CLI_RUNNING && p->state != CLI_FROZEN)
                return;
        if (error < 0)
                log_debug("The CLI cannot be frozen or woken: %s", strerror(-error));
        if (!p->thaw_wanted) {
                p->state = error >= 0 && frozen ? CLI_FROZEN : CLI_RUNNING;
                return;
        }
        /* It was about to fall asleep when it was wanted again. */
        if (!p->thawing && (error < 0 || frozen))
                error = freeze(p, false);
        else if (error >= 0 && frozen)
                error = -EIO;           /* puffod has tried more than once */
        if (p->freezing)
                return;
        p->thaw_wanted = false;
        if (error < 0) {
                log_warning("The CLI cannot be woken, it is ended.");
                /* Whether it can hear us is not known: a new one can. */
                cli_process_stop(p);
                return;
        }
        p->state = CLI_RUNNING;
        p->spec.on_thawed(p->spec.userdata);
}

void cli_process_freeze(CliProcess *p) {
        int r;

        if (p->state != CLI_RUNNING || p->freezing)
                return;
        r = freeze(p, true);
        if (r < 0)
                log_debug("The CLI cannot be frozen: %s", strerror(-r));
        else
                p->state = CLI_FROZEN;  /* on its way: nothing is written to it from now on */
}

int cli_process_thaw(CliProcess *p) {
        int r;

        if (p->thaw_wanted)
                return 0;
        r = p->freezing ? 0 : freeze(p, false);
        p->thaw_wanted = r >= 0;
        return MIN(r, 0);
}
