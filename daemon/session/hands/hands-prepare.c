/* SPDX-License-Identifier: MIT */

/* The CLI is made ready before there is a turn (agent-proxy §6). A turn that comes meanwhile waits for that, and then
 * has nothing to wait for. */

#include "event-util.h"
#include "hands-internal.h"
#include "log.h"

bool hands_can_prepare(const SessionConfig *config) {
        return config->agent && hands_kind(config->agent) == HARNESS_CODEX;
}

void hands_prepared(Hands *h, const char *fault) {
        _cleanup_free_ char *copy = fault ? strdup(fault) : NULL;

        h->preparing = false;
        h->unready = mfree(h->unready);
        hands_timer_stop(h->patience);
        h->spec.on_prepared(fault ? copy ?: "Out of memory." : NULL, h->spec.userdata);
        hands_idle_begin(h);
}

static int on_patience(sd_event_source *s, uint64_t usec, void *userdata) {
        Hands *h = userdata;
        _cleanup_free_ char *fault = NULL;

        if (!h->preparing)
                return 0;
        /* A turn has its own limits. */
        if (h->turn) {
                hands_prepared(h, NULL);
                return 0;
        }
        fault = asprintf_new("The CLI was not ready within %" PRIu64 " s.", h->patience_usec / USEC_PER_SEC);
        cli_process_stop(h->process);
        hands_prepared(h, strempty(fault));
        return 0;
}

int hands_prepare(Hands *h, uint64_t timeout_usec) {
        int r;

        if (h->preparing)
                return 1;
        if (h->turn)
                return 0;
        h->patience_usec = timeout_usec;
        r = event_arm_timer(h->spec.event, &h->patience, timeout_usec, 0, on_patience, h);
        if (r < 0)
                return r;
        h->preparing = true;
        h->not_before_usec = 0;
        hands_timer_stop(h->idle);
        hands_go_on(h);
        return 1;
}

/* What it has is to be thrown away: it cannot be said how far it came. */
static void fail(Hands *h, const char *fault) {
        CliState state = cli_process_state(h->process);

        if (h->driver && !h->ended && (state == CLI_RUNNING || state == CLI_FROZEN))
                hands_end_process(h);
        hands_prepared(h, fault);
}

/* With a CLI that runs. */
static int use_process(Hands *h, const HandsLaunch *wanted) {
        int r;

        if (memcmp(h->run->hash, wanted->hash, sizeof(h->run->hash)) != 0 || h->dropped) {
                hands_log(h, LOG_INFO, 0, "The CLI is started anew, as its configuration has changed", NULL);
                hands_end_process(h);
                return 0;
        }
        /* It was ready when it fell asleep. */
        r = cli_process_state(h->process) == CLI_FROZEN ? 0 : harness_prepare(h->driver);
        if (r == -EPIPE)
                return 0;               /* it has just ended; its unit's end brings us back */
        h->handshaking = r > 0;
        if (r == 0)
                hands_prepared(h, NULL);
        return MIN(r, 0);
}

static int go_on(Hands *h) {
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        _cleanup_(hands_launch_done) HandsLaunch wanted = {};
        CliState state = cli_process_state(h->process);
        _cleanup_free_ char *fault = NULL;
        int r;

        r = h->spec.get_config(&config, h->spec.userdata);
        if (r < 0)
                return r;
        hands_configure(h, config);
        if (config->fault || !hands_can_prepare(config)) {
                hands_prepared(h, config->fault);
                return 0;
        }
        /* What is under way brings us back when it is done; a CLI that was found is about to be taken over by its
         * turn. */
        if (h->found[1] >= 0 || h->ended || state == CLI_STARTING || state == CLI_STOPPING ||
            (state != CLI_NONE && (!h->driver || h->spent)) || (h->driver && harness_in_turn(h->driver)))
                return 0;
        r = hands_launch_prepare(&wanted, config, h->spec.get_working_directory(h->spec.userdata),
                                 h->spec.get_box(h->spec.userdata), &fault);
        if (fault) {
                hands_prepared(h, fault);
                return 0;
        }
        if (r >= 0)
                r = hands_login_use(h->login, &wanted.login);
        if (r != 0)                     /* > 0: on_login() follows */
                return MIN(r, 0);
        if (state != CLI_NONE)
                return use_process(h, &wanted);
        /* Nothing of one that lives for a turn is there before it. */
        if (harness_is_per_turn(wanted.kind)) {
                hands_prepared(h, NULL);
                return 0;
        }
        hands_launch_done(&h->launch);
        h->launch = wanted;
        wanted = (HandsLaunch) {};
        return hands_start_process(h, config);
}

void hands_prepare_go_on(Hands *h) {
        int r = go_on(h);

        if (r < 0) {
                _cleanup_free_ char *fault = asprintf_new("The CLI cannot be started: %s", strerror(-r));

                fail(h, strempty(fault));
        }
}

void hands_handshake_ended(Hands *h, const HarnessResult *result) {
        h->handshaking = false;
        if (!h->preparing)
                return;                 /* the time for it was over */
        switch (result->outcome) {
        case HARNESS_DONE:
                hands_prepared(h, NULL);
                break;
        case HARNESS_LOST_SESSION:
                hands_lose_conversation(h);
                break;
        case HARNESS_GONE:
                /* How, its unit says. */
                h->unready = strdup(strempty(result->message));
                if (!h->unready)
                        fail(h, "Out of memory.");
                else if (!h->ended)
                        hands_limit_arm(h, HANDS_CLOSE_USEC);
                break;
        case HARNESS_PROTOCOL:
                cli_process_stop(h->process);
                hands_prepared(h, result->message);
                break;
        default:
                if (result->outcome == HARNESS_AUTH)
                        h->spec.on_health(CHAT_HEALTH_AUTH_FAILED, h->spec.userdata);
                fail(h, result->message);
        }
}

void hands_prepare_failed(Hands *h, int error, const char *text) {
        _cleanup_free_ char *fault = NULL;

        /* Whatever was there has been ended by now. */
        if (error == -ENOTCONN || error == -ETIMEDOUT || error == -ECONNRESET || error == -EBUSY || error == -EAGAIN) {
                hands_log(h, LOG_NOTICE, error, "The CLI was not started", text);
                hands_pause(h, hands_crash_pause(h));
                return;
        }
        fault = strjoin("The CLI cannot be started: ", isempty(text) ? strerror(-error) : text);
        hands_prepared(h, strempty(fault));
}

void hands_prepare_gone(Hands *h, const char *cause) {
        _cleanup_free_ char *said = TAKE_PTR(h->unready), *fault = NULL;

        if (!said) {
                hands_go_on(h);
                return;
        }
        fault = strjoin(strempty(cause), isempty(said) ? "" : " It said: ", said);
        hands_prepared(h, strempty(fault));
}
