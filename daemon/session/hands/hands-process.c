/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "event-util.h"
#include "hands-cause.h"
#include "hands-internal.h"
#include "log.h"

/* ---- its process ---- */

/* What is started, and what it is about to be given: one commit for both. */
static int run_new(Hands *h, HarnessRun **ret) {
        _cleanup_(harness_run_freep) HarnessRun *run = new0(HarnessRun, 1);
        const HandsLaunch *l = &h->launch;
        int r = 0;

        if (!run)
                return -ENOMEM;
        *run = (HarnessRun) {
                .invocation = strdup(cli_process_invocation(h->process)),
                .kind = strdup(harness_kind_to_string(l->kind)), .model = strdup(strempty(l->model)),
                .token = strdup(strempty(l->token)), .has_outlet = l->has_outlet, .has_proxy = l->has_proxy,
                .directory = strdup(l->directory), .permission_mode = strdup(l->permission_mode),
                .own_sandbox = strdup(l->own_sandbox), .conversation = strdup(strempty(l->conversation)),
                .turn = strdup(""), .message = strdup(""), .kick = strdup(""), .charged = strdup(""),
        };
        if (!run->invocation || !run->kind || !run->model || !run->token || !run->directory || !run->permission_mode ||
            !run->own_sandbox || !run->conversation || !run->turn || !run->message || !run->kick || !run->charged)
                return -ENOMEM;
        memcpy(run->hash, l->hash, sizeof(run->hash));
        r = free_and_strdup(&run->session_id, l->session_id);
        for (char *const *tool = l->allowed_tools; tool && *tool && r >= 0; tool++)
                r = strv_extend(&run->allowed_tools, *tool);
        if (r >= 0 && harness_is_fitted_by_launch(l->kind)) {
                r = hands_run_give(run, strempty(l->turn), l->kick);
                if (harness_is_told_by_launch(l->kind))
                        run->sent = RUN_SENT;
        } else if (r >= 0 && h->turn)
                r = hands_run_give(run, h->turn->id, h->kick);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(run);
        return 0;
}

static void fail_started(Hands *h, int error, const char *text) {
        hands_fail_errno(h, error, text);
        cli_process_stop(h->process);
}

void hands_on_process_started(const int fds[static 3], void *userdata) {
        HarnessRun *run = NULL;
        Hands *h = userdata;
        int r;

        r = run_new(h, &run);
        if (r < 0) {
                for (size_t i = 0; i < 3; i++)
                        (void) safe_close(fds[i]);
                fail_started(h, r, "Failed to note the CLI's start");
                return;
        }
        (void) harness_run_free(h->run);
        h->run = run;
        hands_stored(h, run_store_begin(h->spec.db, run));
        h->adopted = false;
        h->fresh = true;
        r = hands_driver_new(h, fds, /* adopted= */ false);
        if (r < 0) {
                fail_started(h, r, "Failed to speak to the CLI");
                return;
        }
        hands_audit_session(&h->audit, h->launch.session_id);
        /* It begins with a turn that is over. */
        if (harness_is_fitted_by_launch(h->launch.kind) && !(h->turn && streq(h->turn->id, run->turn))) {
                cli_process_stop(h->process);
                return;
        }
        if (!h->turn)
                hands_idle_begin(h);
        hands_go_on(h);
}

uint64_t hands_crash_pause(const Hands *h) {
        return h->spec.retry_max_usec > 0 ? h->spec.retry_max_usec : HANDS_CRASH_PAUSE_USEC;
}

void hands_on_process_failed(int error, const char *text, void *userdata) {
        Hands *h = userdata;

        hands_driver_drop(h);
        if (!h->turn) {
                if (h->preparing)
                        hands_prepare_failed(h, error, text);
                return;
        }
        /* Whatever was there has been ended by now. */
        if (error == -ENOTCONN || error == -ETIMEDOUT || error == -ECONNRESET || error == -EBUSY || error == -EAGAIN) {
                hands_log(h, LOG_NOTICE, error, "The CLI was not started", text);
                hands_attempt_after(h, hands_crash_pause(h));
                return;
        }
        hands_log(h, LOG_ERR, 0, "The CLI cannot be started", text ?: strerror(-error));
        hands_fail(h, "server_error", "not-ready", "The CLI cannot be started (not-ready).");
}

/* How a turn goes on whose CLI is no more. cause may be NULL. */
static void lost_amid_turn(Hands *h, const char *cause) {
        hands_log(h, LOG_WARNING, 0, "The CLI ended amid the turn", cause);
        if (h->n_tools == 0 && !h->repeated) {
                h->repeated = true;
                h->kick = h->has_it ? HANDS_RESTARTED_LINE : NULL;
                hands_pause(h, hands_crash_pause(h));
                return;
        }
        hands_fail(h, "server_error", "harness-gone", cause ?: "The CLI ended amid the turn (harness-gone).");
}

/* … and of one whose CLI has ended before it got it: that may be its last day as well as its first second. */
static void lost_before_turn(Hands *h, const char *cause) {
        bool failed = hands_cause_is_failure(&h->end);

        if (failed)
                log_warning("The CLI has ended: %s", strempty(cause));
        if (++h->n_unasked > 1)
                hands_fail(h, "server_error", "harness-gone",
                           failed && cause ? cause : "The CLI ended before it was told anything (harness-gone).");
        else if (failed)
                hands_pause(h, hands_crash_pause(h));
        else
                hands_go_on(h);
}

/* Of a turn that was cut short nobody says what it has used; what was heard of that counts. */
static void charge_rest(Hands *h) {
        uint64_t cost = 0;
        ModelUsage u;

        if (!h->driver || !h->run || !harness_in_turn(h->driver))
                return;
        harness_usage(h->driver, &u);
        hands_charge(h, &u, 0, &cost);
        if (h->turn && h->working)
                hands_count(h->turn, &u, cost);
}

void hands_process_gone(Hands *h) {
        _cleanup_free_ char *cause = h->has_end ? hands_cause_describe(&h->end) : strdup("it had to be stopped");
        bool mid_turn = h->turn && (h->working || h->gone), unasked = h->turn && h->has_end && !h->spent;

        hands_timer_stop(h->limit);
        for (size_t i = 0; i < ELEMENTSOF(h->found); i++)
                h->found[i] = safe_close(h->found[i]);
        charge_rest(h);
        hands_driver_drop(h);
        h->dropped = h->spent = h->ended = h->working = false;
        h->gone = mfree(h->gone);
        hands_run_end(h);
        /* The next one gets a new one; until then the agent may sleep for days. */
        hands_launch_done(&h->launch);
        if (mid_turn) {
                lost_amid_turn(h, cause);
                return;
        }
        if (unasked) {
                lost_before_turn(h, cause);
                return;
        }
        if (h->has_end && hands_cause_is_failure(&h->end))
                log_warning("The CLI has ended: %s", strempty(cause));
        if (h->turn || !h->preparing)
                hands_go_on(h);
        else
                hands_prepare_gone(h, cause);
}

void hands_on_process_ended(const CliEnd *end, void *userdata) {
        Hands *h = userdata;

        hands_timer_stop(h->idle);
        h->ended = true;
        h->has_end = end;
        if (end) {
                h->end = *end;
                (void) snprintf(h->end_result, sizeof(h->end_result), "%s", end->result);
                h->end.result = h->end_result;
        }
        /* Its last words are still in the pipe, whose other end nobody has any more: they are read first. Not of one
         * that we have stopped. */
        if (!end || (!h->driver && h->found[1] < 0)) {
                hands_process_gone(h);
                return;
        }
        hands_limit_arm(h, HANDS_CLOSE_USEC);
        hands_go_on(h);
}

/* ---- idle ---- */

static int on_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        Hands *h = userdata;
        int r;

        if (h->turn || !h->driver || harness_in_turn(h->driver))
                return 0;
        if (cli_process_state(h->process) == CLI_RUNNING && h->freeze_usec > 0 && !h->dropped) {
                cli_process_freeze(h->process);
                if (h->stop_usec > h->freeze_usec) {
                        uint64_t rest = h->stop_usec - h->freeze_usec;

                        h->freeze_usec = 0;
                        r = event_arm_timer(h->spec.event, &h->idle, rest, rest / 20, on_idle, h);
                        if (r >= 0)
                                return 0;
                } else if (h->stop_usec == 0)
                        return 0;
        }
        log_debug("The CLI has had nothing to do, it is ended.");
        hands_end_process(h);
        return 0;
}

void hands_idle_begin(Hands *h) {
        uint64_t delay;
        int r;

        if (h->turn || !h->driver || harness_in_turn(h->driver) || h->spent)
                return;
        h->freeze_usec = h->freeze_after_usec;
        h->stop_usec = h->stop_after_usec;
        delay = h->dropped                                                             ? 0 :
                h->freeze_usec > 0 && cli_process_state(h->process) != CLI_FROZEN      ? h->freeze_usec : h->stop_usec;
        if (delay == 0 && !h->dropped) {
                hands_timer_stop(h->idle);
                return;
        }
        r = event_arm_timer(h->spec.event, &h->idle, delay, delay / 20, on_idle, h);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
}

void hands_drop(Hands *h) {
        if (cli_process_state(h->process) == CLI_NONE)
                return;
        h->dropped = true;
        if (h->found[1] >= 0 && !h->turn)
                hands_give_up_found(h);
        else
                hands_idle_begin(h);
}

void hands_on_process_thawed(void *userdata) {
        hands_go_on(userdata);
}
