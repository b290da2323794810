/* SPDX-License-Identifier: MIT */

#include "crash-point.h"
#include "event-util.h"
#include "hands-internal.h"
#include "jitter.h"
#include "log.h"

#define RETRIES_MAX 3U
#define RETRY_MIN_USEC (15 * USEC_PER_SEC)
#define RETRY_MAX_USEC (45 * USEC_PER_SEC)
/* With a login, which somebody else may be renewing at this moment; a key that is refused stays what it is. The pauses
 * between them: 3, 6, 12, 24 s (agent-runtime §8.7). */
#define LOGIN_ATTEMPTS 5U
#define LOGIN_PAUSE_USEC (3 * USEC_PER_SEC)

/* ---- what the CLI says ---- */

static bool is_stored(const Hands *h, const char *id) {
        for (size_t i = 0; i < h->steps.n; i++)
                if (streq(h->steps.steps[i].opaque, id))
                        return true;
        return false;
}

/* A handler's error: the turn ends here, and with it the interest in what the CLI says. */
static int took(Hands *h, int r, const char *text) {
        if (r < 0)
                hands_fail_errno(h, r, text);
        return 0;
}

static int on_message_begin(Harness *d, const char *id, void *userdata) {
        Hands *h = userdata;
        int r;

        if (!h->working)
                return 0;
        r = free_and_strdup(&h->open, id);
        h->known = is_stored(h, id);
        h->streamed = 0;
        if (r >= 0 && !h->known)
                r = turn_message_begin(h->turn);
        return took(h, r, "Failed to begin a message");
}

static int on_text(Harness *d, const char *text, size_t size, void *userdata) {
        Hands *h = userdata;

        if (!h->working || h->known)
                return 0;
        h->streamed += size;
        return took(h, turn_message_delta(h->turn, text, size), "Failed to write the event stream");
}

static int store_message(Hands *h, const char *id, const char *text) {
        StoredStep step = {
                .text = (char*) text, .opaque = (char*) id,
                .item = h->turn->n_items > 0 ? h->turn->items[h->turn->n_items - 1].item : (char*) "",
        };

        crash_point("cli-message");
        return chat_steps_note(&h->steps, &step);
}

static int on_message_end(Harness *d, const char *id, const char *text, void *userdata) {
        Hands *h = userdata;
        size_t size = strlen(text);
        int r = 0;

        if (!h->working || h->known) {
                h->open = mfree(h->open);
                return 0;
        }
        /* Of what was under way when we came only the whole is there. What is not what was streamed may have a
         * character in that place: half of it would be none. */
        while (h->streamed < size && ((unsigned char) text[h->streamed] & 0xc0) == 0x80)
                h->streamed++;
        if (h->streamed < size)
                r = turn_message_delta(h->turn, text + h->streamed, size - h->streamed);
        if (r >= 0)
                r = turn_message_end(h->turn, true);
        if (r >= 0)
                r = store_message(h, id, text);
        if (r >= 0)
                hands_audit_text(&h->audit, text);
        h->open = mfree(h->open);
        return took(h, r, "Failed to end a message");
}

static int on_message_cancel(Harness *d, const char *id, void *userdata) {
        Hands *h = userdata;

        if (!h->working || h->known)
                return 0;
        h->open = mfree(h->open);
        return took(h, turn_message_end(h->turn, false), "Failed to close a message that broke off");
}

static int on_tool(Harness *d, const HarnessTool *tool, void *userdata) {
        Hands *h = userdata;
        const char *name = startswith(tool->name, "mcp__puffo__") ?: startswith(tool->name, "mcp_puffo_") ?:
                           tool->name;
        int r;

        if (!h->working)
                return 0;
        hands_audit_tool(&h->audit, tool);
        h->n_tools += tool->phase == HARNESS_TOOL_STARTED;
        r = tool->phase == HARNESS_TOOL_STARTED ? turn_emit_tool_started(h->turn, tool->id, name) :
                                                  turn_emit_tool_ended(h->turn, tool->id, name, !tool->is_error);
        return took(h, r, "Failed to write the event stream");
}

void hands_tool_called(Hands *h, const char *key, const char *name, const char *arguments, const ToolResult *result) {
        StoredCall call = {
                .call = (char*) key, .name = (char*) name, .arguments = (char*) arguments, .done = true,
                .result = (char*) "", .is_error = result->is_error,
        };
        StoredStep step = {
                .text = (char*) "", .item = (char*) "", .opaque = (char*) "", .calls = &call, .n_calls = 1,
        };
        int r;

        if (!h->working)
                return;
        h->progress_usec = now_boottime_usec();
        /* Only answers count for anything later (message-pipeline §11.2 row a). */
        if (!chat_tools.is_answer(name))
                return;
        r = chat_steps_note(&h->steps, &step);
        if (r < 0)
                hands_log(h, LOG_WARNING, r, "A tool's answer could not be noted", NULL);
        if (r == -EUCLEAN)
                h->spec.on_broken(r, h->spec.userdata);
}

static int on_session(Harness *d, const char *session_id, void *userdata) {
        Hands *h = userdata;
        int r;

        r = hands_conversation_save(h, session_id);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to keep the id of the CLI's conversation, ignoring: %m");
        if (streq_ptr(h->run->session_id, session_id))
                return 0;
        if (harness_kind(d) == HARNESS_CODEX_EXEC)
                hands_stored(h, hands_total_begin(h, session_id));
        r = free_and_strdup(&h->run->session_id, session_id);
        hands_stored(h, r < 0 ? r : run_store_set_session(h->spec.db, h->run));
        return 0;
}

static int on_ask(Harness *d, const HarnessAsk *ask, void *userdata) {
        Hands *h = userdata;

        /* The turn is over; its interruption is on its way to the CLI. */
        if (!h->working)
                return harness_answer(d, ask->id, false, ask->input, "The turn has been ended.");
        return hands_asks_ask(h->asks, ask);
}

static void on_ask_withdrawn(Harness *d, const char *id, void *userdata) {
        Hands *h = userdata;

        hands_asks_withdraw(h->asks, id);
}

static int on_mcp(Harness *d, const char *request_id, const char *message, void *userdata) {
        Hands *h = userdata;

        if (h->mcp)
                hands_mcp_take(h->mcp, request_id, message);
        return 0;
}

static void on_sent(Harness *d, void *userdata) {
        Hands *h = userdata;

        if (!h->working)
                return;
        hands_prepared(h, NULL);
        crash_point("cli-sent");
        h->launch.fresh = false;
        /* Its prompt ends with its input. */
        if (harness_is_per_turn(harness_kind(d)) && harness_kind(d) != HARNESS_CLAUDE_SDK)
                cli_process_release_input(h->process);
        if (h->run->sent != RUN_SENT) {
                h->run->sent = RUN_SENT;
                hands_stored(h, run_store_give(h->spec.db, h->run));
        }
        crash_point("cli-sent-noted");
}

static void on_drained(Harness *d, void *userdata) {
        hands_forget_sent(userdata);
}

static void on_progress(Harness *d, void *userdata) {
        Hands *h = userdata;

        h->progress_usec = now_boottime_usec();
}

static void on_warning(Harness *d, const char *text, void *userdata) {
        hands_log(userdata, LOG_WARNING, 0, "The CLI says", text);
}

/* ---- how its turns end ---- */

void hands_count(Turn *t, const ModelUsage *u, uint64_t cost_micro) {
        t->usage.input_tokens += u->input_tokens;
        t->usage.cached_tokens += u->cached_tokens;
        t->usage.cache_write_tokens += u->cache_write_tokens;
        t->usage.output_tokens += u->output_tokens;
        t->usage.reasoning_tokens += u->reasoning_tokens;
        t->usage.cost_micro += cost_micro;
}

/* What went through the outlet was counted there, at its price if there is one; what the CLI has paid for with a login
 * of its own, only the CLI knows. */
static int budget_take(Hands *h, const ModelUsage *u, uint64_t known, uint64_t price) {
        const char *model = h->run->model;

        if (!h->run->has_outlet && (u->input_tokens > 0 || u->output_tokens > 0))
                return budget_add(h->spec.budget, model, u, known, NULL);
        return h->run->has_outlet && known > 0 && price == 0 ? budget_add_cost(h->spec.budget, model, known) : 0;
}

/* Whoever takes over may see the end of the turn again: with what it has used, that it was counted is stored. */
static int charge(Hands *h, const ModelUsage *u, uint64_t known, uint64_t price) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        HarnessRun *run = h->run;
        int r;

        r = database_begin(h->spec.db, &t);
        if (r >= 0)
                r = budget_take(h, u, known, price);
        if (r >= 0)
                r = free_and_strdup(&run->charged, run->message);
        if (r >= 0)
                r = run_store_set_charged(h->spec.db, run);
        return r < 0 ? r : database_commit(&t);
}

/* As budget_take() would. */
static void owe(Hands *h, const ModelUsage *u, uint64_t known, uint64_t price) {
        const HarnessRun *run = h->run;

        if (!run->has_outlet && (u->input_tokens > 0 || u->output_tokens > 0))
                budget_owe(h->spec.budget, run->model, u, known);
        else if (run->has_outlet && known > 0 && price == 0)
                budget_owe(h->spec.budget, run->model, &(ModelUsage) {}, known);
}

void hands_charge(Hands *h, const ModelUsage *u, uint64_t known_cost_micro, uint64_t *ret_cost_micro) {
        uint64_t price = h->spec.budget ? budget_price(h->spec.budget, h->run->model, u) : 0;
        int r = 0;

        if (h->spec.budget && !streq(h->run->charged, h->run->message))
                r = charge(h, u, known_cost_micro, price);
        if (r < 0) {
                hands_log(h, LOG_WARNING, r, "What the turn has used could not be stored", NULL);
                owe(h, u, known_cost_micro, price);
        }
        *ret_cost_micro = known_cost_micro ?: price;
}

static void complete(Hands *h) {
        int r = h->turn->n_items == 0 ? turn_message_begin(h->turn) : 0;

        if (r < 0)
                hands_fail_errno(h, r, "Failed to begin a message");
        else
                hands_turn_end(h, &(TurnResult) { .status = TURN_COMPLETED });
}

static void retry_after(Hands *h, uint64_t delay, const char *what, const char *kick) {
        _cleanup_free_ char *text = asprintf_new("%s, next try in %" PRIu64 " s", what, delay / USEC_PER_SEC);

        h->kick = h->has_it ? kick : NULL;
        hands_forget_sent(h);
        hands_tell_waiting(h, text);
        hands_pause(h, delay);
}

static void retry_later(Hands *h) {
        retry_after(h, h->spec.retry_max_usec > 0 ? random_between(h->spec.retry_min_usec, h->spec.retry_max_usec) :
                                                    random_between(RETRY_MIN_USEC, RETRY_MAX_USEC),
                    "waiting for the model provider", HANDS_LIMITED_LINE);
}

static bool has_login(Hands *h) {
        HarnessKind kind = harness_kind_from_string(h->run->kind);

        return (kind == HARNESS_CLAUDE || kind == HARNESS_CLAUDE_SDK) && !h->run->has_outlet &&
               hands_login_is_there(h->login);
}

static void refused(Hands *h) {
        if (h->n_refusals > 0 && h->n_refusals < LOGIN_ATTEMPTS) {
                retry_after(h, h->spec.retry_max_usec > 0 ? h->spec.retry_max_usec :
                                                            LOGIN_PAUSE_USEC << (h->n_refusals - 1),
                            "the model provider does not accept the login", HANDS_REFUSED_LINE);
                return;
        }
        h->spec.on_health(CHAT_HEALTH_AUTH_FAILED, h->spec.userdata);
        hands_fail(h, "server_error", "auth", "The CLI is not logged in, or its login has expired (auth).");
}

/* As long as it is not forgotten, the next process would be given it again, and would say the same. */
void hands_lose_conversation(Hands *h) {
        int r;

        r = hands_conversation_save(h, NULL);
        if (r < 0)
                hands_fail_errno(h, r, "Failed to forget the CLI's conversation");
        else
                hands_log(h, LOG_NOTICE, 0, "The CLI does not know its conversation any more, it begins a new one",
                          NULL);
        h->has_it = false;
        h->kick = NULL;
        /* Its end brings us back. */
        h->spent = true;
        hands_driver_drop(h);
        hands_limit_arm(h, HANDS_CLOSE_USEC);
}

static void turn_ended(Hands *h, const HarnessResult *result) {
        int r;

        switch (result->outcome) {
        case HARNESS_DONE:
                hands_prepared(h, NULL);        /* it may have ended before it was heard that it began */
                h->spec.on_health(CHAT_HEALTH_OK, h->spec.userdata);
                r = hands_prompt_told(h);
                if (r < 0)
                        hands_log(h, LOG_WARNING, r, "What the CLI was told of itself is told again", NULL);
                complete(h);
                break;
        case HARNESS_TRANSIENT:
                /* It may have been us who refused. */
                r = hands_budget_refuses(h);
                if (r > 0)
                        break;
                if (h->n_retries++ < RETRIES_MAX)
                        retry_later(h);
                else
                        hands_fail(h, "server_error", "overloaded",
                                   "The model provider cannot answer at present (overloaded).");
                break;
        case HARNESS_AUTH:
                refused(h);
                break;
        case HARNESS_UNFIT:
                hands_fail(h, "server_error", "not-ready", result->message);
                break;
        case HARNESS_UNREACHABLE:
                hands_fail(h, "server_error", "unreachable", "The model provider cannot be reached (backend "
                                                             "unreachable).");
                break;
        case HARNESS_LIMIT:
                hands_fail(h, "rate_limit_exceeded", "quota",
                           "What the model provider grants this account is used up (quota).");
                break;
        case HARNESS_TOO_LONG:
                hands_fail(h, "invalid_prompt", "context",
                           "The conversation is longer than the model takes (context).");
                break;
        case HARNESS_MAX_TURNS:
                hands_turn_end(h, &(TurnResult) { .status = TURN_INCOMPLETE, .reason = "max_turns" });
                break;
        case HARNESS_LOST_SESSION:
                hands_lose_conversation(h);
                break;
        case HARNESS_PROTOCOL:
        case HARNESS_GONE:
                /* Its cause comes with the end of the unit. */
                r = free_and_strdup(&h->gone, strempty(result->message));
                if (r < 0)
                        hands_fail_errno(h, r, "Failed to end a turn");
                else if (result->outcome == HARNESS_PROTOCOL && !h->ended)
                        cli_process_stop(h->process);
                else
                        hands_limit_arm(h, HANDS_CLOSE_USEC);
                break;
        case HARNESS_INTERRUPTED:
        case HARNESS_ERROR:
        default:
                hands_fail(h, "server_error", "harness", "The CLI could not answer (harness).");
        }
}

static int on_end(Harness *d, const HarnessResult *result, void *userdata) {
        Hands *h = userdata;
        bool working = h->working;
        ModelUsage usage = result->usage;
        uint64_t cost = 0;

        hands_timer_stop(h->limit);
        if (h->handshaking) {
                hands_handshake_ended(h, result);
                hands_go_on(h);
                return 0;
        }
        h->working = false;
        if (harness_is_per_turn(harness_kind(d))) {
                h->spent = true;
                cli_process_release_input(h->process);
                hands_limit_arm(h, HANDS_CLOSE_USEC);
        }
        if (result->usage_is_total)
                hands_stored(h, hands_total_take(h, &usage));
        hands_charge(h, &usage, result->cost_known ? result->cost_micros : 0, &cost);
        if (!working) {
                /* Of a turn that was interrupted. One that did not take notice is still at it. */
                if (result->outcome == HARNESS_PROTOCOL && !h->ended)
                        cli_process_stop(h->process);
                if (h->turn)
                        hands_go_on(h);
                else
                        hands_idle_begin(h);
                return 0;
        }
        crash_point("cli-answered");
        if (result->outcome == HARNESS_AUTH)
                h->n_refusals = has_login(h) ? h->n_refusals + 1 : 0;
        hands_audit_end(&h->audit, result, MAX(h->n_refusals, 1U), h->n_refusals > 0 ? LOGIN_ATTEMPTS : 1);
        hands_count(h->turn, &usage, cost);
        h->has_it = h->has_it || result->started;
        if (result->outcome != HARNESS_DONE)
                hands_log(h, LOG_WARNING, 0, harness_outcome_to_string(result->outcome), result->message);
        turn_ended(h, result);
        return 0;
}

static void on_gone(Harness *d, void *userdata) {
        Hands *h = userdata;

        /* The unit's end follows, if it was not first; what is left of a CLI that has closed its output is not worth
         * waiting for. */
        hands_driver_drop(h);
        if (h->ended)
                hands_process_gone(h);
        else if (cli_process_state(h->process) != CLI_STOPPING)
                hands_limit_arm(h, HANDS_CLOSE_USEC);
}

static void on_failure(Harness *d, int error, void *userdata) {
        Hands *h = userdata;

        hands_log(h, LOG_ERR, error, "The talk with the CLI has failed", NULL);
        cli_process_stop(h->process);
}

static const HarnessHandler hands_handler = {
        .on_message_begin = on_message_begin, .on_text = on_text, .on_message_end = on_message_end,
        .on_message_cancel = on_message_cancel, .on_tool = on_tool, .on_session = on_session, .on_ask = on_ask,
        .on_ask_withdrawn = on_ask_withdrawn, .on_mcp = on_mcp, .on_sent = on_sent,
        .on_drained = on_drained,
        .on_progress = on_progress, .on_warning = on_warning, .on_end = on_end, .on_exit = on_gone,
        .on_failure = on_failure,
};

int hands_driver_new(Hands *h, const int fds[static 3], bool adopted) {
        HarnessKind kind = harness_kind_from_string(h->run->kind);
        ToolBox *box = h->spec.get_box(h->spec.userdata);
        HarnessHandler bound = hands_handler;
        int r;

        bound.userdata = h;
        r = harness_new(&h->driver, h->spec.event, &(HarnessSetup) {
                .kind = kind, .program = strempty(h->launch.program), .home = h->directory,
                .workspace = h->run->directory, .working_directory = h->run->directory, .model = h->run->model,
                .permission_mode = h->run->permission_mode,
                .mcp_config = h->launch.home.mcp_config, .system_prompt = h->launch.system,
                .session_id = h->run->session_id, .allowed_tools = h->run->allowed_tools,
                .puffo_tools = box, .codex_sandbox = h->run->own_sandbox,
        }, fds, adopted, &bound);
        if (r >= 0 && kind == HARNESS_CLAUDE_SDK)
                r = hands_mcp_new(&h->mcp, &(HandsMcpSpec) {
                        .db = h->spec.db, .driver = h->driver, .tools = box, .adopted = adopted,
                });
        return r;
}
