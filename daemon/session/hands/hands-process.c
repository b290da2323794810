/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "event-util.h"
#include "hands-cause.h"
#include "hands-internal.h"
#include "log.h"

/* ---- its process ---- */

void hands_on_process_started(const int fds[static 3], void *userdata) {
        char hex[2 * sizeof(((Hands*) NULL)->running_hash) + 1];
        Hands *h = userdata;
        int r;

        memcpy(h->running_hash, h->launch.hash, sizeof(h->running_hash));
        for (size_t i = 0; i < sizeof(h->running_hash); i++)
                (void) snprintf(hex + 2 * i, 3, "%02x", h->running_hash[i]);
        hands_note(h, HANDS_VALUE_HASH, hex);
        hands_note(h, HANDS_VALUE_RUN, cli_process_invocation(h->process));
        hands_note(h, HANDS_VALUE_CONVERSATION, h->launch.conversation);
        h->adopted = false;
        hands_forget_sent(h);
        r = hands_driver_new(h, h->launch.kind, h->launch.session_id, fds, /* adopted= */ false);
        if (r < 0) {
                hands_fail_errno(h, r, "Failed to speak to the CLI");
                cli_process_stop(h->process);
                return;
        }
        hands_audit_session(&h->audit, h->launch.session_id);
        if (!h->turn)
                hands_idle_begin(h);
        hands_go_on(h);
}

void hands_on_process_failed(int error, const char *text, void *userdata) {
        Hands *h = userdata;

        hands_driver_drop(h);
        if (!h->turn)
                return;
        if (error == -ENOTCONN || error == -ETIMEDOUT || error == -ECONNRESET) {
                hands_log(h, LOG_NOTICE, error, "The CLI was not started", text);
                hands_attempt_after(h, HANDS_CRASH_PAUSE_USEC);
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
                hands_attempt_after(h, h->spec.retry_max_usec > 0 ? h->spec.retry_max_usec : HANDS_CRASH_PAUSE_USEC);
                return;
        }
        hands_fail(h, "server_error", "harness-gone", cause ?: "The CLI ended amid the turn (harness-gone).");
}

void hands_process_gone(Hands *h) {
        _cleanup_free_ char *cause = h->has_end ? hands_cause_describe(&h->end) : strdup("it had to be stopped");
        bool mid_turn = h->turn && (h->working || h->gone), failed = h->has_end && hands_cause_is_failure(&h->end);

        hands_timer_stop(h->limit);
        for (size_t i = 0; i < ELEMENTSOF(h->found); i++)
                h->found[i] = safe_close(h->found[i]);
        hands_driver_drop(h);
        h->dropped = h->spent = h->ended = h->working = false;
        h->gone = mfree(h->gone);
        hands_note(h, HANDS_VALUE_RUN, NULL);
        if (mid_turn)
                lost_amid_turn(h, cause);
        else {
                if (failed)
                        log_warning("The CLI has ended: %s", strempty(cause));
                hands_go_on(h);
        }
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
        if (!end || (!h->driver && h->found[0] < 0)) {
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

        if (h->turn || !h->driver)
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
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        uint64_t delay;
        int r;

        if (h->turn || !h->driver || harness_in_turn(h->driver) || h->spent)
                return;
        r = h->spec.get_config(&config, h->spec.userdata);
        if (r < 0 || !config->agent)
                return;
        h->freeze_usec = config->agent->freeze_after_usec;
        h->stop_usec = config->agent->stop_after_usec;
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
        hands_idle_begin(h);
}

void hands_on_process_thawed(void *userdata) {
        hands_go_on(userdata);
}
