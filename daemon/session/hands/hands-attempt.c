/* SPDX-License-Identifier: MIT */

#include <systemd/sd-id128.h>

#include "chat-prompt.h"
#include "crash-point.h"
#include "event-util.h"
#include "hands-internal.h"
#include "log.h"

#define TASK_TIMEOUT_DEFAULT_USEC (1800 * USEC_PER_SEC)

/* ---- one attempt ---- */

static int on_silence(sd_event_source *s, uint64_t usec, void *userdata) {
        Hands *h = userdata;
        uint64_t silent = now_boottime_usec() - h->progress_usec;

        /* As long as somebody is to say yes or no, it is not the CLI that is silent; and that has a limit of its
         * own. */
        if (hands_asks_pending(h->asks)) {
                h->progress_usec = now_boottime_usec();
                silent = 0;
        }
        if (silent < h->task_timeout_usec) {
                int r = event_arm_timer(h->spec.event, &h->silence, h->task_timeout_usec - silent, 0, on_silence, h);

                if (r < 0)
                        hands_fail_errno(h, r, "Failed to arm a timer");
                return 0;
        }
        hands_log(h, LOG_WARNING, 0, "The turn is ended", "no progress for the task timeout");
        hands_turn_end(h, &(TurnResult) { .status = TURN_INCOMPLETE, .reason = "deadline" });
        return 0;
}

static int turn_begin(Hands *h, const SessionConfig *config) {
        int r;

        if (h->task_timeout_usec > 0)
                return 0;

        h->task_timeout_usec = config->task_timeout_usec > 0 ? config->task_timeout_usec : TASK_TIMEOUT_DEFAULT_USEC;
        h->progress_usec = now_boottime_usec();
        r = event_arm_timer(h->spec.event, &h->silence, h->task_timeout_usec, 0, on_silence, h);
        return r < 0 ? r : chat_steps_begin(&h->steps, h->spec.db, &chat_tools, h->turn);
}

/* Everything that was said so far, for a CLI that remembers nothing (agent-runtime §7). */
static char* flatten(const ChatPrompt *p) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *last = p->messages[p->n_messages - 1].text;
        int r = 0;

        if (p->n_messages == 1)
                return strdup(last);
        r = strbuf_puts(&b, "<prior_turns>\n\n");
        for (size_t i = 0; i + 1 < p->n_messages && r >= 0; i++)
                r = strbuf_printf(&b, "[%s]\n%s\n\n",
                                  p->messages[i].role == MODEL_ROLE_ASSISTANT ? "assistant" : "user",
                                  p->messages[i].text);
        if (r >= 0)
                r = strbuf_puts(&b, "</prior_turns>\n\n");
        if (r >= 0)
                r = strbuf_puts(&b, last);
        return r < 0 ? NULL : strbuf_take(&b);
}

/* The names of the tools that it has. NULL: -ENOMEM. */
static const char** list_tools(Hands *h) {
        ToolBox *box = h->spec.get_box(h->spec.userdata);
        const char **names = tool_names(box);

        if (names && !box)
                names[0] = NULL;
        return names;
}

/* *ret_system: NULL for those that find it in their home. */
static int make_text(Hands *h, const SessionConfig *config, HarnessKind kind, char **ret, char **ret_system) {
        _cleanup_(chat_prompt_done) ChatPrompt p = {};
        _cleanup_free_ const char **names = list_tools(h);
        bool forgets = harness_is_per_turn(kind) && kind == HARNESS_CLAUDE_SDK;
        const char *last;
        int r;

        if (!names)
                return -ENOMEM;
        r = chat_prompt_build(&p, h->spec.db, config, h->row, names, NULL, CHAT_PROMPT_BYTES_MAX);
        if (r < 0)
                return r;
        free(h->turn->context);
        h->turn->context = TAKE_PTR(p.context);
        *ret_system = TAKE_PTR(p.system);
        last = p.messages[p.n_messages - 1].text;
        /* Those that live for one turn take a text that they could not answer out of their conversation again: it is
         * said once more. */
        *ret = forgets || h->launch.fresh ? flatten(&p) : !h->kick ? strdup(last) :
               harness_is_per_turn(kind) || streq(h->kick, HANDS_UNSURE_LINE) ? strjoin(h->kick, "\n\n", last) :
                                                                                strdup(h->kick);
        return *ret ? 0 : -ENOMEM;
}

/* None when the CLI has a login of its own. */
static int new_token(Hands *h) {
        const char *token;
        Outlet *o;
        int r;

        if (!h->launch.has_outlet && !h->launch.has_proxy)
                return 0;
        o = h->spec.get_outlet(h->spec.userdata);
        if (!o)
                return -ENOTCONN;
        if (!h->launch.has_outlet)
                return 0;
        r = outlet_new_token(o, &token);
        return r < 0 ? r : MIN(free_and_strdup(&h->launch.token, token), 0);
}

static int make_system(Hands *h, const SessionConfig *config, char **ret) {
        _cleanup_free_ const char **names = list_tools(h);

        return names ? agent_home_system_prompt(config->home, config->agent, names, ret) : -ENOMEM;
}

int hands_start_process(Hands *h, const SessionConfig *config) {
        _cleanup_(hands_options_done) HandsOptions options = {};
        _cleanup_free_ char *text = NULL, *system = NULL;
        int r;

        r = h->turn ? make_text(h, config, h->launch.kind, &text, &system) : make_system(h, config, &system);
        if (r >= 0 && h->launch.kind != HARNESS_CLAUDE_SDK)
                r = hands_conversation_load(h, config, &h->launch.session_id);
        h->launch.fresh = h->launch.conversation && !h->launch.session_id;
        if (r >= 0)
                r = hands_prompt_add(h, system, &text);
        if (r >= 0)
                r = new_token(h);
        if (r >= 0 && h->turn && harness_is_fitted_by_launch(h->launch.kind))
                r = hands_options_read(h->row, &options);
        if (r >= 0)
                r = hands_launch_compose(&h->launch, config, system, text, &options.options);
        if (r >= 0)
                r = free_and_strdup(&h->launch.turn, h->turn ? h->turn->id : NULL);
        if (r < 0)
                return r;
        h->launch.kick = h->kick;
        if (h->turn)
                hands_tell_waiting(h, "starting the CLI");
        r = cli_process_start(h->process, &(CliStart) {
                .description = h->launch.description, .working_directory = h->launch.directory,
                .read_write = h->launch.read_write, .read_only = h->launch.read_only,
                .optional = h->launch.certificates,
                .sockets = (const char *const*) h->launch.sockets, .launch = h->launch.launch,
        });
        hands_launch_sent(&h->launch);
        if (r == -ENOTCONN) {
                if (h->turn)
                        hands_tell_waiting(h, "waiting for puffod, which starts the CLI");
                return 0;               /* hands_connected() follows */
        }
        return r;
}

/* What sdk-local is told besides the text may have to be told again with that. */
static int recall_system(Hands *h, const SessionConfig *config) {
        HarnessKind kind = harness_kind_from_string(h->run->kind);
        _cleanup_free_ char *text = NULL;

        if (kind != HARNESS_CLAUDE_SDK || h->run->sent != RUN_SENDING || !config->agent)
                return 0;
        h->launch.system = mfree(h->launch.system);
        return make_text(h, config, kind, &text, &h->launch.system);
}

int hands_driver_adopt(Hands *h) {
        int fds[3];

        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = TAKE_FD(h->found[i]);
        if (!h->ended)
                hands_timer_stop(h->limit);
        h->adopted = true;
        return hands_driver_new(h, fds, /* adopted= */ true);
}

/* Those that live for one turn begin when their input has ended, and that is when they have it all. */
static bool was_sent(const Hands *h) {
        HarnessKind kind = harness_kind(h->driver);

        return h->run->sent == RUN_SENT ||
               (harness_is_per_turn(kind) && kind != HARNESS_CLAUDE_SDK && !cli_process_has_input(h->process));
}

/* Whether the CLI that we have found is at work at this turn. < 0: it is at something that nobody knows. */
static int adopted_works_at(Hands *h) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        int r;

        h->adopted = false;
        if (h->run->sent != RUN_NOTHING && streq(h->run->turn, h->turn->id))
                return 1;
        if (h->turn->attempts > 1 || harness_is_fitted_by_launch(harness_kind(h->driver)) ||
            harness_is_per_turn(harness_kind(h->driver)))
                return -ESTALE;         /* it may have got the text, or a part of it; or it was another's */
        r = h->run->sent != RUN_NOTHING ? turn_store_get(h->spec.db, h->run->turn, &row) : 0;
        return r < 0 ? r : row && row->status != TURN_COMPLETED ? -ESTALE : 0;
}

static Approvals* get_approvals(Hands *h) {
        return h->spec.get_approvals ? h->spec.get_approvals(h->spec.userdata) : NULL;
}

static const char* last_message(const Hands *h) {
        for (size_t i = h->steps.n; i > 0; i--)
                if (!isempty(h->steps.steps[i - 1].opaque))
                        return h->steps.steps[i - 1].opaque;
        return NULL;
}

/* Its text may have been sent or not, and only the CLI knows: it is told once more, under the same name. */
static int send_again(Hands *h, const SessionConfig *config) {
        _cleanup_free_ char *text = NULL, *system = NULL;
        const char *kick = h->kick;
        int r;

        h->kick = streq(h->run->kick, HANDS_LIMITED_LINE) ? HANDS_LIMITED_LINE :
                  streq(h->run->kick, HANDS_REFUSED_LINE) ? HANDS_REFUSED_LINE :
                  streq(h->run->kick, HANDS_UNSURE_LINE)  ? HANDS_UNSURE_LINE :
                  *h->run->kick                           ? HANDS_RESTARTED_LINE : NULL;
        r = make_text(h, config, harness_kind(h->driver), &text, &system);
        if (r >= 0)
                r = harness_turn_again(h->driver, text, last_message(h));
        h->kick = r >= 0 ? NULL : kick;
        return r;
}

/* -ESTALE: nobody can tell what became of the text. */
static int take_over(Hands *h, const SessionConfig *config) {
        bool sent = was_sent(h);
        int r;

        r = harness_name_turn(h->driver, isempty(h->run->message) ? NULL : h->run->message);
        if (r >= 0)
                r = hands_asks_begin(h->asks, get_approvals(h), h->driver, h->run->invocation, h->turn->id,
                                     /* taken_over= */ true);
        if (r < 0)
                return r;
        if (sent)
                r = harness_turn_adopt(h->driver, last_message(h));
        else
                r = config->agent ? send_again(h, config) : -EOPNOTSUPP;
        if (r >= 0 && h->mcp)
                r = hands_mcp_take_up(h->mcp);
        if (r < 0) {
                hands_asks_end(h->asks);
                return r == -EOPNOTSUPP || r == -EPIPE ? -ESTALE : r;
        }
        h->working = true;
        h->has_it = h->has_it || sent;
        hands_log(h, LOG_INFO, 0, "The CLI is at this turn already, its answer is waited for", NULL);
        hands_tell_waiting(h, NULL);
        return cli_process_state(h->process) == CLI_FROZEN ? cli_process_thaw(h->process) : 0;
}

int hands_run_give(HarnessRun *run, const char *turn, const char *kick) {
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r >= 0)
                r = free_and_strdup(&run->turn, turn);
        if (r >= 0)
                r = free_and_strdup(&run->kick, strempty(kick));
        if (r >= 0)
                r = free_and_strdup(&run->message, SD_ID128_TO_UUID_STRING(id));
        if (r >= 0)
                run->sent = RUN_SENDING;
        return MIN(r, 0);
}

/* Before the text is on its way: whoever comes after us has to know that it may have been. */
static int note_sending(Hands *h) {
        HarnessRun *run = h->run;
        int r;

        if (h->fresh && run->sent != RUN_NOTHING && streq(run->turn, h->turn->id) &&
            streq(run->kick, strempty(h->kick)))
                return 0;
        r = hands_run_give(run, h->turn->id, h->kick);
        return r < 0 ? r : run_store_give(h->spec.db, run);
}

static int send_text(Hands *h, const SessionConfig *config) {
        _cleanup_free_ char *text = NULL, *system = NULL;
        int r;

        r = make_text(h, config, harness_kind(h->driver), &text, &system);
        if (r >= 0)
                r = hands_asks_begin(h->asks, get_approvals(h), h->driver, h->run->invocation, h->turn->id,
                                     /* taken_over= */ false);
        if (r < 0)
                return r;
        r = hands_options_use(h);
        if (r < 0)
                return r;
        crash_point("cli-send");
        r = note_sending(h);
        if (r >= 0)
                r = harness_name_turn(h->driver, h->run->message);
        if (r < 0)
                return r;
        crash_point("cli-sending");
        h->fresh = false;
        r = harness_turn(h->driver, text);
        if (r == -EPIPE) {              /* it has just ended; its unit's end brings us back */
                hands_forget_sent(h);
                hands_driver_drop(h);
                hands_limit_arm(h, HANDS_CLOSE_USEC);
                return 0;
        }
        if (r < 0)
                return r;
        hands_audit_input(&h->audit, text);
        h->working = true;
        h->kick = NULL;
        hands_tell_waiting(h, NULL);
        return 0;
}

/* > 0: the turn has been answered with a fault. */
static int prepare(Hands *h, const SessionConfig *config, HandsLaunch *ret) {
        _cleanup_free_ char *fault = NULL;
        int r;

        r = hands_launch_prepare(ret, config, h->spec.get_working_directory(h->spec.userdata),
                                 h->spec.get_box(h->spec.userdata), &fault);
        if (!fault)
                return r < 0 ? r : hands_conversation_choose(ret, h->row->conversation);
        hands_log(h, LOG_WARNING, 0, "The turn cannot be carried out", fault);
        hands_fail(h, "server_error", "not-ready", fault);
        return 1;
}

/* > 0: the CLI that was found is at this turn. 0: at none, it can be given one. < 0: nobody can say, and it goes. */
static int use_adopted(Hands *h, const SessionConfig *config) {
        int r = adopted_works_at(h);

        if (r > 0)
                r = take_over(h, config) < 0 ? -ESTALE : 1;
        if (r < 0 && !h->ended)
                cli_process_stop(h->process);
        else if (r <= 0 && h->ended) /* the pipe may have held the answer to this turn */
                hands_process_gone(h);
        return r == 0 && h->ended ? -ESTALE : r;
}

/* With a CLI that runs: is it the right one, and awake? */
static int use_process(Hands *h, const SessionConfig *config, const HandsLaunch *wanted) {
        HarnessKind kind = harness_kind(h->driver);
        int r;

        /* It is about to answer another turn, which is over. */
        if (harness_is_fitted_by_launch(kind) && !streq(h->run->turn, h->turn->id)) {
                cli_process_stop(h->process);
                return 0;
        }
        if (memcmp(h->run->hash, wanted->hash, sizeof(h->run->hash)) != 0 || h->dropped) {
                hands_log(h, LOG_INFO, 0, "The CLI is started anew, as its configuration has changed", NULL);
                hands_end_process(h);
                return 0;
        }
        if (cli_process_state(h->process) == CLI_FROZEN)
                return cli_process_thaw(h->process);
        r = hands_conversation_use(h, config, wanted);
        return r < 0 ? r : send_text(h, config);
}

int hands_budget_refuses(Hands *h) {
        _cleanup_free_ char *why = NULL, *message = NULL;
        int r;

        r = budget_refuses(h->spec.budget, &why, &message);
        if (r <= 0)
                return r;
        hands_log(h, LOG_NOTICE, 0, "The turn is not carried out", why);
        hands_fail(h, "rate_limit_exceeded", "budget", message);
        return 1;
}

static int attempt(Hands *h, const SessionConfig *config) {
        _cleanup_(hands_launch_done) HandsLaunch wanted = {};
        CliState state = cli_process_state(h->process);
        int r;

        hands_configure(h, config);
        r = config->agent ? hands_audit_use(&h->audit, config->home, h->turn ? h->turn->id : NULL) : 0;
        if (r >= 0)
                r = turn_begin(h, config);
        if (r >= 0 && h->found[1] >= 0)
                r = recall_system(h, config);
        if (r >= 0 && h->found[1] >= 0)
                r = hands_driver_adopt(h);
        if (r < 0)
                return r;
        if (h->adopted) {
                r = use_adopted(h, config);
                if (r != 0)
                        return r == -ESTALE ? 0 : MIN(r, 0);
        }
        if (config->fault) {
                hands_log(h, LOG_WARNING, 0, "The turn cannot be carried out", config->fault);
                hands_fail(h, "server_error", "not-ready", config->fault);
                return 1;
        }
        /* What is under way brings us back when it is done; of one that has ended the rest is being read. */
        if (h->ended || state == CLI_STARTING || state == CLI_STOPPING ||
            (state != CLI_NONE && (!h->driver || h->spent)) || (h->driver && harness_in_turn(h->driver)))
                return 0;
        r = hands_budget_refuses(h);
        if (r != 0)
                return r;
        r = prepare(h, config, &wanted);
        if (r != 0)
                return r;
        r = hands_login_use(h->login, &wanted.login);
        if (r < 0)
                return r;
        if (r > 0) {
                hands_tell_waiting(h, "having the login refreshed");
                return 0;
        }
        if (state != CLI_NONE)
                return use_process(h, config, &wanted);
        hands_launch_done(&h->launch);
        h->launch = wanted;
        wanted = (HandsLaunch) {};
        return hands_start_process(h, config);
}

int hands_attempt(Hands *h) {
        _cleanup_(session_config_freep) SessionConfig *config = TAKE_PTR(h->config);
        int r = config ? 0 : h->spec.get_config(&config, h->spec.userdata);

        return r < 0 ? r : attempt(h, config);
}
