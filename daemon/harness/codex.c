/* SPDX-License-Identifier: MIT */

#include "codex.h"
#include "event-util.h"

#define MESSAGE_CHARS_MAX 1000U
#define UNREACHABLE_USEC (120 * USEC_PER_SEC)

static void turn_done(Codex *c) {
        codex_calls_done(c);
        codex_asks_done(c);
        c->text = mfree(c->text);
        c->turn_id = mfree(c->turn_id);
        c->message_id = mfree(c->message_id);
        c->sent = c->running = c->taken_over = c->reopened = c->started = false;
        c->interrupt_wanted = c->interrupt_sent = c->unreachable = false;
        c->silent_since_usec = 0;
        c->n_denied = 0;
        c->n_busy = 0;
        c->usage = (ModelUsage) {};
}

static void codex_free(Harness *h) {
        Codex *c = h->state;

        turn_done(c);
        sd_event_source_disable_unref(c->timer);
        free(c->instructions);
        free(c->directory);
        free(c->model);
        free(c->sandbox);
        free(c->policy);
        free(c->prefix);
        free(c->pending);
        free(c->last_warning);
        free(c->effort);
        free(c->thread_id);
        h->state = mfree(c);
}

static int copy_setup(Codex *c, const HarnessSetup *s) {
        const char *policy, *sandbox;
        int r;

        r = codex_permission(s->permission_mode, &policy, &sandbox, &c->accepts_edits);
        if (r < 0)
                return r;
        /* Where its own sandbox cannot be, nothing is read-only: what it would do it must ask for. */
        if (sandbox && streq_ptr(s->codex_sandbox, "danger-full-access")) {
                sandbox = NULL;
                policy = "untrusted";
        }
        c->directory = strdup(s->working_directory);
        c->model = launch_model(s->model);
        c->sandbox = strdup(sandbox ?: s->codex_sandbox ?: "workspace-write");
        c->policy = strdup(policy);
        c->prefix = random_hex(4);
        if (!c->directory || !c->model || !c->sandbox || !c->policy || !c->prefix)
                return -ENOMEM;
        if (!isempty(s->system_prompt)) {
                c->instructions = strdup(s->system_prompt);
                if (!c->instructions)
                        return -ENOMEM;
        }
        c->unreachable_usec = s->unreachable_usec ?: UNREACHABLE_USEC;
        return 0;
}

static int codex_start(Harness *h, const HarnessSetup *s) {
        Codex *c;
        int r;

        h->state = c = new0(Codex, 1);
        if (!c)
                return -ENOMEM;
        r = copy_setup(c, s);
        if (r < 0 || !codex_thread_id_is_valid(s->session_id))
                return r;
        c->resumed = c->thread_told = true;
        c->thread_id = strdup(s->session_id);
        return c->thread_id ? 0 : -ENOMEM;
}

/* A turn that was dropped may have left it half way: answers to what was asked then are nobody's. */
static void begin_anew(Codex *c) {
        turn_done(c);
        if (c->phase != CODEX_READY && c->phase != CODEX_ELSEWHERE)
                c->phase = CODEX_NEW;
}

static int codex_turn(Harness *h, const char *text) {
        Codex *c = h->state;
        int r;

        begin_anew(c);
        c->text = strdup(text);
        if (!c->text)
                return -ENOMEM;
        r = c->phase == CODEX_READY ? codex_begin_turn(h) : codex_advance(h);
        return r < 0 ? r : 1;
}

static int codex_prepare(Harness *h) {
        Codex *c = h->state;
        int r;

        begin_anew(c);
        if (c->phase == CODEX_READY)
                return 0;
        r = codex_advance(h);
        return r < 0 ? r : 1;
}

static int codex_set_conversation(Harness *h, const char *session_id) {
        const char *id = codex_thread_id_is_valid(session_id) ? session_id : NULL;
        Codex *c = h->state;
        int r;

        if (id && streq_ptr(c->thread_id, id))
                return 0;
        r = free_and_strdup(&c->thread_id, id);
        if (r < 0)
                return r;
        c->resumed = c->thread_told = id;
        if (c->phase == CODEX_READY)
                c->phase = CODEX_ELSEWHERE;
        return 0;
}

static int codex_adopt_turn(Harness *h, const char *last_message) {
        Codex *c = h->state;

        turn_done(c);
        c->sent = c->running = c->started = c->taken_over = true;
        return 0;
}

static int codex_turn_over(Harness *h) {
        Codex *c = h->state;
        int r;

        r = codex_message_cancel(h);
        if (r < 0)
                return r;
        codex_withdraw_asks(h);
        turn_done(c);
        return codex_wait(h, CODEX_WAIT_ANSWER, 0);
}

/* ---- notifications ---- */

static int on_turn_started(Harness *h, json_object *params) {
        Codex *c = h->state;

        c->running = true;
        c->text = mfree(c->text);
        return c->interrupt_wanted ? codex_interrupt(h) : 0;
}

static int on_turn_completed(Harness *h, json_object *params) {
        json_object *turn = json_get(params, "turn"), *error = json_get(turn, "error");
        const char *status = strempty(json_get_string(turn, "status"));
        _cleanup_free_ char *message = NULL;
        Codex *c = h->state;
        HarnessResult result = {
                .started = c->started, .usage = c->usage, .n_denied = c->n_denied, .message = "",
        };
        int r;

        if (streq(status, "completed"))
                result.outcome = HARNESS_DONE;
        else if (streq(status, "interrupted"))
                result.outcome = c->unreachable ? HARNESS_UNREACHABLE : HARNESS_INTERRUPTED;
        else
                result.outcome = codex_outcome(error, &result.http_status);
        if (result.outcome == HARNESS_UNREACHABLE)
                result.message = "backend unreachable";
        else if (result.outcome != HARNESS_DONE && result.outcome != HARNESS_INTERRUPTED) {
                message = str_printable(strempty(json_get_string(error, "message")), MESSAGE_CHARS_MAX);
                if (!message)
                        return -ENOMEM;
                result.message = message;
        }
        /* Whatever became of it, it is part of the thread, which has a file from now on. */
        r = codex_tell_thread(h);
        if (r < 0 || h->turn != TURN_RUNNING || h->dead)
                return r;
        c->phase = CODEX_READY;
        return harness_end_turn(h, &result);
}

static void on_usage(Harness *h, json_object *params) {
        json_object *last = json_get(json_get(params, "tokenUsage"), "last");
        Codex *c = h->state;

        c->usage.input_tokens += codex_count(last, "inputTokens");
        c->usage.cached_tokens += codex_count(last, "cachedInputTokens");
        c->usage.cache_write_tokens += codex_count(last, "cacheWriteInputTokens");
        c->usage.output_tokens += codex_count(last, "outputTokens");
        c->usage.reasoning_tokens += codex_count(last, "reasoningOutputTokens");
}

/* It tries for ever to reach an endpoint that is not there. */
static int on_error(Harness *h, json_object *params) {
        json_object *error = json_get(params, "error");
        Codex *c = h->state;
        int r;

        if (!json_get_bool(params, "willRetry", false))
                return 0;               /* the turn's end says it again */
        if (c->silent_since_usec > 0 || c->interrupt_wanted)
                return 0;
        harness_warn(h, "The model's endpoint failed: %s (%s)", strempty(json_get_string(error, "message")),
                     json_get_string(error, "additionalDetails") ?: "nothing else is said");
        c->silent_since_usec = now_boottime_usec();
        r = codex_message_cancel(h);
        return r < 0 || h->turn != TURN_RUNNING || h->dead ? r :
               codex_wait(h, CODEX_WAIT_NETWORK, c->unreachable_usec);
}

static int made_progress(Harness *h) {
        Codex *c = h->state;

        if (c->silent_since_usec == 0 || c->interrupt_wanted)
                return 0;
        c->silent_since_usec = 0;
        return codex_wait(h, CODEX_WAIT_NETWORK, 0);
}

/* It repeats itself with each turn. */
static int on_warning(Harness *h, const char *text, const char *details) {
        Codex *c = h->state;
        int r;

        if (isempty(text) || streq_ptr(text, c->last_warning))
                return 0;
        r = free_and_strdup(&c->last_warning, text);
        if (r >= 0)
                harness_warn(h, "%s%s%s", text, isempty(details) ? "" : " ", strempty(details));
        return MIN(r, 0);
}

static int on_server_status(Harness *h, json_object *params) {
        const char *error = json_get_string(params, "error");

        if (streq_ptr(json_get_string(params, "status"), "failed"))
                harness_warn(h, "MCP server '%s' could not be started: %s",
                             strempty(json_get_string(params, "name")), error ?: "no reason is given");
        return 0;
}

static int on_turn_notification(Harness *h, const char *method, json_object *params) {
        Codex *c = h->state;
        int r;

        if (streq(method, "error"))
                return on_error(h, params);
        harness_say_progress(h);
        r = made_progress(h);
        if (r < 0)
                return r;
        if (streq(method, "turn/started"))
                return on_turn_started(h, params);
        if (streq(method, "turn/completed"))
                return on_turn_completed(h, params);
        if (c->interrupt_wanted && !c->interrupt_sent && c->running) {
                r = codex_interrupt(h);
                if (r < 0)
                        return r;
        }
        if (streq(method, "item/started"))
                return codex_on_item(h, params, /* completed= */ false);
        if (streq(method, "item/completed"))
                return codex_on_item(h, params, /* completed= */ true);
        if (streq(method, "item/agentMessage/delta"))
                return codex_on_delta(h, params);
        if (streq(method, "thread/tokenUsage/updated"))
                on_usage(h, params);
        return 0;
}

/* There are more with each release, and older ones say everything twice, as "codex/event/…". */
static int on_notification(Harness *h, json_object *line) {
        static const char *const of_turns[] = {
                "error", "turn/started", "turn/completed", "item/started", "item/completed", "item/agentMessage/delta",
                "item/commandExecution/outputDelta", "item/reasoning/summaryTextDelta", "item/reasoning/textDelta",
                "thread/tokenUsage/updated",
        };
        const char *method = json_get_string(line, "method"), *turn_id;
        json_object *params = json_get(line, "params");
        Codex *c = h->state;
        bool names_it;

        turn_id = json_get_string(params, "turnId") ?: json_get_string(json_get(params, "turn"), "id");
        /* Its beginning may overtake the answer to our asking for it. Of the usage an old one is told, too, when a
         * thread is opened. */
        names_it = streq(method, "turn/started") || (c->taken_over && !streq(method, "thread/tokenUsage/updated"));
        for (size_t i = 0; i < ELEMENTSOF(of_turns); i++)
                if (streq(method, of_turns[i]))
                        return codex_is_ours(h, params, turn_id, names_it) ? on_turn_notification(h, method, params) :
                                                                             0;
        if (streq(method, "serverRequest/resolved"))
                codex_on_resolved(h, params);
        else if (streq(method, "warning") || streq(method, "guardianWarning"))
                return on_warning(h, json_get_string(params, "message"), NULL);
        else if (streq(method, "configWarning"))
                return on_warning(h, json_get_string(params, "summary"), json_get_string(params, "details"));
        else if (streq(method, "mcpServer/startupStatus/updated"))
                return on_server_status(h, params);
        return 0;
}

static int codex_on_object(Harness *h, json_object *line) {
        bool has_method = json_get_string(line, "method"), has_id = json_get(line, "id");

        if (has_method && has_id) {
                harness_say_progress(h);
                return codex_on_request(h, line);
        }
        if (has_method)
                return on_notification(h, line);
        return has_id ? codex_on_response(h, line) : 0;
}

static int codex_line(Harness *h, const char *line, size_t size) {
        return harness_take_object(h, line, size, codex_on_object);
}

/* Coloured, terminal or not. */
static int codex_error_line(Harness *h, const char *line, size_t size) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *escape;
        int r = 0;

        if (!strchr(line, 0x1b))
                return 0;
        while (r >= 0 && (escape = strchr(line, 0x1b))) {
                r = strbuf_append(&b, line, (size_t) (escape - line));
                line = escape + 1;
                if (*line == '[')
                        line += 1 + strspn(line + 1, "0123456789;");
                line += *line != 0;
        }
        if (r >= 0)
                r = strbuf_puts(&b, line);
        if (r < 0)
                return r;
        harness_warn(h, "%s", b.text);
        return 1;
}

static int codex_eof(Harness *h) {
        Codex *c = h->state;
        _cleanup_free_ char *tail = harness_error_tail(h);
        const char *fault = tail && c->phase < CODEX_CHECKING ? codex_lasting_fault(tail) : NULL;

        return harness_end_turn(h, &(HarnessResult) {
                .outcome = fault ? HARNESS_UNFIT : HARNESS_GONE, .message = fault ?: strempty(tail),
                .started = c->started, .usage = c->usage,
        });
}

const HarnessDriver codex_driver = {
        .name = "codex",
        .launch = codex_launch,
        .start = codex_start,
        .free = codex_free,
        .turn = codex_turn,
        .prepare = codex_prepare,
        .adopt_turn = codex_adopt_turn,
        .turn_over = codex_turn_over,
        .line = codex_line,
        .error_line = codex_error_line,
        .eof = codex_eof,
        .interrupt = codex_interrupt,
        .answer = codex_answer,
        .set_conversation = codex_set_conversation,
};
