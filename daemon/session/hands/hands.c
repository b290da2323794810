/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "hands-internal.h"
#include "log.h"

/* From an interruption to the end of the unit. */
#define INTERRUPT_USEC (10 * USEC_PER_SEC)

static int on_attempt(sd_event_source *s, uint64_t usec, void *userdata);
static void interrupt(Hands *h);

/* ---- small things ---- */

void hands_timer_stop(sd_event_source *s) {
        if (s)
                (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

void hands_log(const Hands *h, int level, int error, const char *text, const char *detail) {
        _cleanup_free_ char *field = h->turn ? strjoin("PUFFO_TURN=", h->turn->id) : NULL;
        const char *const fields[] = { field, NULL };

        (void) log_fields(level, error, field ? fields : NULL, error != 0 ? "%s%s%s: %m" : "%s%s%s", text,
                          isempty(detail) ? "" : ": ", strempty(detail));
}

void hands_tell_waiting(Hands *h, const char *text) {
        h->spec.on_waiting(text, h->spec.userdata);
}

void hands_stored(Hands *h, int r) {
        if (r < 0)
                hands_log(h, LOG_WARNING, r, "What the CLI is doing could not be noted, ignoring", NULL);
        if (r == -EUCLEAN)
                h->spec.on_broken(r, h->spec.userdata);
}

/* The token was for its process. */
static void revoke_token(Hands *h) {
        Outlet *o = h->run->has_outlet ? h->spec.get_outlet(h->spec.userdata) : NULL;
        int r = o ? outlet_set_token(o, "") : 0;

        if (r < 0)
                (void) log_warning_errno(r, "The token of the CLI that has ended could not be revoked: %m");
}

void hands_run_end(Hands *h) {
        if (!h->run || h->run->ended)
                return;
        h->run->ended = true;
        revoke_token(h);
        hands_stored(h, run_store_end(h->spec.db, h->run));
}

void hands_forget_sent(Hands *h) {
        if (!h->run || h->run->sent == RUN_NOTHING)
                return;
        h->run->sent = RUN_NOTHING;
        hands_stored(h, run_store_give(h->spec.db, h->run));
}

void hands_driver_drop(Hands *h) {
        if (h->asks)
                hands_asks_end(h->asks);
        h->mcp = hands_mcp_free(h->mcp);
        h->driver = harness_free(h->driver);
        h->handshaking = false;
        h->open = mfree(h->open);
        h->adopted = false;
}

void hands_attempt_after(Hands *h, uint64_t delay) {
        int r = event_arm_timer(h->spec.event, &h->attempt, delay, delay > 0 ? 0 : 1, on_attempt, h);

        if (r < 0 && h->turn)
                hands_fail_errno(h, r, "Failed to arm a timer");
        else if (r < 0 && h->preparing)
                hands_prepared(h, "Out of memory.");
}

void hands_pause(Hands *h, uint64_t delay) {
        uint64_t now = now_boottime_usec();

        /* One that is longer is not made shorter by this. */
        h->not_before_usec = MAX(h->not_before_usec, now + delay);
        hands_attempt_after(h, h->not_before_usec - now);
}

/* Something has happened that the turn may have been waiting for. */
void hands_go_on(Hands *h) {
        uint64_t now = now_boottime_usec();

        if (h->turn ? !h->working && !h->gone : h->preparing)
                hands_attempt_after(h, h->not_before_usec > now ? h->not_before_usec - now : 0);
}

/* ---- the end of a turn ---- */

static void turn_forget(Hands *h) {
        if (h->asks)
                hands_asks_end(h->asks);
        chat_steps_done(&h->steps);
        hands_timer_stop(h->attempt);
        hands_timer_stop(h->silence);
        h->row = turn_row_free(h->row);
        h->gone = mfree(h->gone);
        h->open = mfree(h->open);
        h->kick = NULL;
        h->not_before_usec = 0;
        h->config = session_config_free(h->config);
        if (h->turn)
                hands_tell_waiting(h, NULL);
        h->turn = NULL;
        h->working = false;
}

void hands_cancel(Hands *h) {
        bool working = h->working;

        turn_forget(h);
        if (working)
                interrupt(h);
        /* It is told this turn by its launch, and would begin with it. */
        else if (cli_process_state(h->process) == CLI_STARTING && harness_is_fitted_by_launch(h->launch.kind))
                cli_process_stop(h->process);
}

void hands_turn_end(Hands *h, TurnResult *result) {
        Turn *t = h->turn;

        hands_cancel(h);
        h->spec.on_end(t, result, h->spec.userdata);
        hands_idle_begin(h);
        if (h->preparing)
                hands_go_on(h);
}

void hands_fail(Hands *h, const char *code, const char *kind, const char *message) {
        hands_turn_end(h, &(TurnResult) {
                .status = TURN_FAILED, .error_code = code, .error_kind = kind, .error_message = message,
        });
}

void hands_fail_errno(Hands *h, int error, const char *text) {
        hands_log(h, LOG_ERR, error, text, NULL);
        if (!h->turn)
                return;
        if (error == -ENOBUFS)
                hands_turn_end(h, &(TurnResult) { .status = TURN_INCOMPLETE, .reason = "length" });
        else if (error == -EUCLEAN) {
                hands_fail(h, "server_error", "storage", "The conversation could not be stored (storage).");
                h->spec.on_broken(error, h->spec.userdata);
        } else
                hands_fail(h, "server_error", "internal", "The turn could not be carried out (internal).");
}

/* A CLI of before that nobody reads yet. */
static bool has_found(const Hands *h) {
        return h->found[1] >= 0;
}

static int on_limit(sd_event_source *s, uint64_t usec, void *userdata) {
        Hands *h = userdata;

        if (h->ended) {
                hands_process_gone(h);
                return 0;
        }
        if (has_found(h)) {
                log_notice("The turn at which a CLI was found does not begin again, the CLI is ended.");
                hands_give_up_found(h);
                return 0;
        }
        log_notice("The CLI did not come to an end, it is stopped.");
        cli_process_stop(h->process);
        return 0;
}

void hands_limit_arm(Hands *h, uint64_t usec) {
        int r = event_arm_timer(h->spec.event, &h->limit, usec, 0, on_limit, h);

        if (r < 0) {
                (void) log_warning_errno(r, "Failed to arm a timer, stopping the CLI at once: %m");
                cli_process_stop(h->process);
        }
}

void hands_end_process(Hands *h) {
        /* A frozen one cannot hear that its input has ended. */
        if (cli_process_state(h->process) == CLI_FROZEN) {
                cli_process_stop(h->process);
                return;
        }
        /* Nothing that comes now can be for it. */
        h->spent = true;
        harness_close_input(h->driver);
        cli_process_release_input(h->process);
        hands_limit_arm(h, HANDS_CLOSE_USEC);
}

/* What it works at is of no use any more. */
static void interrupt(Hands *h) {
        int r = h->driver ? harness_interrupt(h->driver) : -ESRCH;

        if (r == -ESRCH)
                return;
        if (r < 0)
                cli_process_stop(h->process);
        else
                hands_limit_arm(h, INTERRUPT_USEC);
}

static int on_attempt(sd_event_source *s, uint64_t usec, void *userdata) {
        Hands *h = userdata;
        int r;

        if (!h->turn && h->preparing)
                hands_prepare_go_on(h);
        if (!h->turn || h->working || h->gone)
                return 0;
        r = hands_attempt(h);
        if (r < 0)
                hands_fail_errno(h, r, "Failed to give the turn to the CLI");
        return 0;
}

/* Whether its text is in the CLI's conversation: it was sent, or something that only makes sense behind it. */
static void recall(Hands *h, const Turn *t) {
        const HarnessRun *run = h->run;

        h->has_it = false;
        h->kick = NULL;
        if (t->attempts <= 1 || !run || !streq(run->turn, t->id) || run->sent == RUN_NOTHING)
                return;
        h->has_it = run->sent == RUN_SENT || (*run->kick && !streq(run->kick, HANDS_UNSURE_LINE));
        h->kick = h->has_it ? HANDS_RESTARTED_LINE : HANDS_UNSURE_LINE;
}

int hands_start(Hands *h, Turn *t, TurnRow *row_taken, SessionConfig *config_taken) {
        _cleanup_(session_config_freep) SessionConfig *config = config_taken;
        _cleanup_(turn_row_freep) TurnRow *row = row_taken;
        int r;

        assert(!h->turn);

        hands_timer_stop(h->idle);
        h->turn = t;
        h->row = TAKE_PTR(row);
        h->config = TAKE_PTR(config);
        h->n_retries = h->n_refusals = h->n_tools = h->n_unasked = 0;
        h->repeated = false;
        h->task_timeout_usec = 0;
        recall(h, t);
        /* From the loop, so that the queue has its own house in order before an answer can come. */
        r = event_arm_timer(h->spec.event, &h->attempt, 0, 1, on_attempt, h);
        if (r < 0) {
                h->row = turn_row_free(h->row);
                h->config = session_config_free(h->config);
                h->turn = NULL;
        }
        return r;
}

void hands_configure(Hands *h, const SessionConfig *config) {
        if (!config->agent)
                return;
        h->freeze_after_usec = config->agent->freeze_after_usec;
        h->stop_after_usec = config->agent->stop_after_usec;
}

void hands_reload(Hands *h, const SessionConfig *config) {
        hands_configure(h, config);
        hands_idle_begin(h);
}

void hands_set_tools(Hands *h, ToolBox *tools) {
        if (h->mcp)
                hands_mcp_set_tools(h->mcp, tools);
}

void hands_connected(Hands *h) {
        hands_go_on(h);
}

/* ---- the login ---- */

static int sync_login(CliLogin *ret, void *userdata) {
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        Hands *h = userdata;
        int r;

        r = h->spec.get_config(&config, h->spec.userdata);
        if (r < 0)
                return r;
        return config->agent && hands_kind(config->agent) >= 0 ? hands_launch_login(config, ret) : -ENOENT;
}

static void on_login(bool logged_out, void *userdata) {
        Hands *h = userdata;

        if (logged_out)
                h->spec.on_health(CHAT_HEALTH_AUTH_FAILED, h->spec.userdata);
        hands_go_on(h);
}

/* ---- life ---- */

/* The CLI that we have found may be in the middle of a call. */
static int adopt_token(Hands *h) {
        Outlet *o;

        if (!h->run->has_outlet && !h->run->has_proxy)
                return 0;
        o = h->spec.get_outlet(h->spec.userdata);
        return !o ? -ENOTCONN : *h->run->token ? outlet_set_token(o, h->run->token) : 0;
}

void hands_give_up_found(Hands *h) {
        for (size_t i = 0; i < ELEMENTSOF(h->found); i++)
                h->found[i] = safe_close(h->found[i]);
        cli_process_stop(h->process);
}

/* Of one whose input has ended, only a turn that was begun can come. That of sdk-local ends with its turn. */
static bool can_be_adopted(const Hands *h) {
        HarnessKind kind = harness_kind_from_string(h->run->kind);

        return kind >= 0 && (cli_process_has_input(h->process) ||
                             (harness_is_per_turn(kind) &&
                              (kind != HARNESS_CLAUDE_SDK || h->run->sent == RUN_SENT)));
}

/* It may be at a turn that nobody waits for any more: what that has used is still to be known. */
static int adopt_rest(Hands *h) {
        int r;

        if (isempty(h->run->message) || streq(h->run->charged, h->run->message))
                return 0;
        r = harness_name_turn(h->driver, h->run->message);
        if (r >= 0)
                r = harness_turn_adopt(h->driver, NULL);
        if (r >= 0)
                r = harness_interrupt(h->driver);
        return r == -EOPNOTSUPP ? -ESTALE : MIN(r, 0);
}

/* What an earlier process has left running. What it is, is what it was started as: the configuration may be another
 * one by now, or a faulty one. */
static int adopt(Hands *h) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        int r;

        r = run_store_get(h->spec.db, &h->run);
        if (r == -EUCLEAN) /* whatever runs is nobody's then */
                r = log_warning_errno(0, "What is stored about the agent's CLI makes no sense, ignoring.");
        if (r >= 0)
                r = cli_process_adopt(h->process, h->run && !h->run->ended ? h->run->invocation : NULL, h->found);
        /* Its pipes are gone, and what is in the store next is another one's. */
        if (r == 0)
                hands_run_end(h);
        if (r <= 0)
                return r;
        r = can_be_adopted(h) ? adopt_token(h) : -ESTALE;
        if (r >= 0 && *h->run->conversation)
                r = free_and_strdup(&h->launch.conversation, h->run->conversation);
        h->launch.fresh = h->launch.conversation && !h->run->session_id && h->run->sent != RUN_SENT;
        if (r >= 0 && h->run->sent != RUN_NOTHING)
                r = turn_store_get(h->spec.db, h->run->turn, &row);
        /* A turn that is to begin again takes it over. */
        if (r >= 0 && row && row->status == TURN_RUNNING)
                hands_limit_arm(h, HANDS_FOUND_USEC);
        else if (r >= 0)
                r = hands_driver_adopt(h);
        if (r >= 0 && row && row->status != TURN_RUNNING && row->status != TURN_COMPLETED)
                r = adopt_rest(h);
        if (r == -ENOMEM || r == -EUCLEAN)
                return r;
        if (r < 0) {
                (void) log_warning_errno(r, "The agent's CLI cannot be taken over, it is ended: %m");
                hands_give_up_found(h);
        } else
                log_info("The agent's CLI has been running on, it is taken over.");
        return 0;
}

int hands_new(Hands **ret, const HandsSpec *spec) {
        _cleanup_(hands_freep) Hands *h = new0(Hands, 1);
        int r;

        if (!h)
                return -ENOMEM;
        h->spec = *spec;
        for (size_t i = 0; i < ELEMENTSOF(h->found); i++)
                h->found[i] = -EBADF;
        h->directory = strdup(spec->directory);
        if (!h->directory)
                return -ENOMEM;
        r = hands_asks_new(&h->asks);
        if (r >= 0)
                r = hands_login_new(&h->login, &(HandsLoginSpec) {
                        .event = spec->event, .backend = spec->backend, .sync = sync_login, .on_done = on_login,
                        .userdata = h,
                });
        if (r < 0)
                return r;
        r = cli_process_new(&h->process, &(CliProcessSpec) {
                .event = spec->event, .backend = spec->backend, .on_started = hands_on_process_started,
                .on_failed = hands_on_process_failed, .on_thawed = hands_on_process_thawed,
                .on_ended = hands_on_process_ended, .userdata = h,
        });
        if (r >= 0)
                r = adopt(h);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(h);
        return 0;
}

Hands* hands_free(Hands *h) {
        if (!h)
                return NULL;
        /* Without a word: it goes on with the next process. */
        h->turn = NULL;
        h->asks = hands_asks_free(h->asks);
        h->login = hands_login_free(h->login);
        hands_audit_done(&h->audit);
        turn_forget(h);
        hands_driver_drop(h);
        for (size_t i = 0; i < ELEMENTSOF(h->found); i++)
                (void) safe_close(h->found[i]);
        (void) cli_process_free(h->process);
        hands_launch_done(&h->launch);
        (void) sd_event_source_disable_unref(h->attempt);
        (void) sd_event_source_disable_unref(h->silence);
        (void) sd_event_source_disable_unref(h->limit);
        (void) sd_event_source_disable_unref(h->idle);
        (void) sd_event_source_disable_unref(h->patience);
        free(h->unready);
        free(h->directory);
        (void) harness_run_free(h->run);
        return mfree(h);
}
