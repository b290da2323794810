/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "conversation.h"
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

void hands_note(Hands *h, const char *name, const char *value) {
        int r = session_value_set(h->spec.db, name, value);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to note '%s', ignoring: %m", name);
        if (r == -EUCLEAN)
                h->spec.on_broken(r, h->spec.userdata);
}

void hands_forget_sent(Hands *h) {
        if (!h->sent)
                return;
        h->sent = mfree(h->sent);
        hands_note(h, HANDS_VALUE_TURN, NULL);
}

void hands_driver_drop(Hands *h) {
        if (h->asks)
                hands_asks_end(h->asks);
        h->mcp = hands_mcp_free(h->mcp);
        h->driver = harness_free(h->driver);
        h->open = mfree(h->open);
}

void hands_attempt_after(Hands *h, uint64_t delay) {
        int r = event_arm_timer(h->spec.event, &h->attempt, delay, delay > 0 ? 0 : 1, on_attempt, h);

        if (r < 0)
                hands_fail_errno(h, r, "Failed to arm a timer");
}

/* Something has happened that the turn may have been waiting for. */
void hands_go_on(Hands *h) {
        if (h->turn && !h->working && !h->gone)
                hands_attempt_after(h, 0);
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
}

void hands_turn_end(Hands *h, TurnResult *result) {
        Turn *t = h->turn;

        hands_cancel(h);
        h->spec.on_end(t, result, h->spec.userdata);
        hands_idle_begin(h);
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

static int on_limit(sd_event_source *s, uint64_t usec, void *userdata) {
        Hands *h = userdata;

        if (h->ended) {
                hands_process_gone(h);
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

        if (!h->turn || h->working || h->gone)
                return 0;
        r = hands_attempt(h);
        if (r < 0)
                hands_fail_errno(h, r, "Failed to give the turn to the CLI");
        return 0;
}

int hands_start(Hands *h, Turn *t, TurnRow *row_taken) {
        _cleanup_(turn_row_freep) TurnRow *row = row_taken;
        int r;

        assert(!h->turn);

        hands_timer_stop(h->idle);
        h->turn = t;
        h->row = TAKE_PTR(row);
        h->n_retries = h->n_tools = 0;
        h->repeated = false;
        h->task_timeout_usec = 0;
        h->has_it = t->attempts > 1 && h->sent && streq(h->sent, t->id);
        h->kick = h->has_it ? HANDS_RESTARTED_LINE : NULL;
        /* From the loop, so that the queue has its own house in order before an answer can come. */
        r = event_arm_timer(h->spec.event, &h->attempt, 0, 1, on_attempt, h);
        if (r < 0) {
                h->row = turn_row_free(h->row);
                h->turn = NULL;
        }
        return r;
}

void hands_reload(Hands *h) {
        hands_idle_begin(h);
}

void hands_set_tools(Hands *h, ToolBox *tools) {
        if (h->mcp)
                hands_mcp_set_tools(h->mcp, tools);
}

void hands_connected(Hands *h) {
        hands_go_on(h);
}

const char* hands_state(const Hands *h) {
        static const char *const names[_CLI_STATE_MAX] = {
                [CLI_NONE] = "none", [CLI_STARTING] = "starting", [CLI_RUNNING] = "running", [CLI_FROZEN] = "frozen",
                [CLI_STOPPING] = "stopping",
        };

        return names[cli_process_state(h->process)];
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
        _cleanup_free_ char *token = NULL;
        Outlet *o;
        int r;

        r = session_value_get(h->spec.db, HANDS_VALUE_TOKEN, &token);
        if (r < 0 || isempty(token))
                return r;
        o = h->spec.get_outlet(h->spec.userdata);
        return !o ? -ENOTCONN : streq(token, "-") ? 0 : outlet_set_token(o, token);
}

static void give_up_found(Hands *h) {
        for (size_t i = 0; i < ELEMENTSOF(h->found); i++)
                h->found[i] = safe_close(h->found[i]);
        cli_process_stop(h->process);
}

static int read_values(Hands *h, char **ret_run) {
        _cleanup_free_ char *hash = NULL;
        int r;

        r = session_value_get(h->spec.db, HANDS_VALUE_RUN, ret_run);
        if (r >= 0)
                r = session_value_get(h->spec.db, HANDS_VALUE_HASH, &hash);
        if (r >= 0)
                r = session_value_get(h->spec.db, HANDS_VALUE_TURN, &h->sent);
        if (r >= 0)
                r = session_value_get(h->spec.db, HANDS_VALUE_CONVERSATION, &h->launch.conversation);
        for (size_t i = 0; hash && i < sizeof(h->running_hash) && strlen(hash) == 2 * sizeof(h->running_hash); i++)
                (void) sscanf(hash + 2 * i, "%2hhx", h->running_hash + i);
        return r;
}

/* What an earlier process has left running. */
static int adopt(Hands *h) {
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        _cleanup_free_ char *run = NULL;
        int r;

        r = read_values(h, &run);
        if (r >= 0)
                r = cli_process_adopt(h->process, run, h->found);
        if (r <= 0)
                return r;
        r = h->spec.get_config(&config, h->spec.userdata);
        if (r >= 0 && (!config->agent || hands_kind(config->agent) < 0))
                r = -ENOENT;
        if (r >= 0)
                r = adopt_token(h);
        if (r >= 0 && h->sent)
                r = turn_store_get(h->spec.db, h->sent, &row);
        /* A turn that is to begin again takes it over. */
        if (r >= 0 && !(row && row->status == TURN_RUNNING))
                r = hands_driver_adopt(h, config);
        if (r == -ENOMEM || r == -EUCLEAN)
                return r;
        if (r < 0)
                give_up_found(h);
        else
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
        free(h->directory);
        free(h->sent);
        free(h->model);
        return mfree(h);
}
