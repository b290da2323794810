/* SPDX-License-Identifier: MIT */

/* Codex by "codex exec --json" (codex-protocol §15): a process for each turn, its prompt is its input. Whole messages
 * only, and nobody is asked. */

#include "codex.h"

#define MESSAGE_CHARS_MAX 1000U

typedef struct CodexExec {
        bool resumed, started;
        char *thread_id, *error;
} CodexExec;

static void exec_free(Harness *h) {
        CodexExec *c = h->state;

        free(c->thread_id);
        free(c->error);
        h->state = mfree(c);
}

static int exec_start(Harness *h, const HarnessSetup *s) {
        CodexExec *c;

        h->state = c = new0(CodexExec, 1);
        if (!c)
                return -ENOMEM;
        c->resumed = codex_thread_id_is_valid(s->session_id);
        return 0;
}

static int exec_turn(Harness *h, const char *text) {
        int r = harness_write(h, text, strlen(text));

        if (r >= 0)
                h->closing = true;      /* its prompt ends with its input */
        return r;
}

static int exec_adopt_turn(Harness *h, const char *last_message) {
        CodexExec *c = h->state;

        c->started = true;
        return 0;
}

/* What it calls an item is called so in the next process, too: the text makes it a name of its own, and the same one
 * for whoever reads the line again. */
static char* message_id(const char *item, const char *text) {
        uint64_t hash = UINT64_C(14695981039346656037);

        for (const char *p = text; *p; p++)
                hash = (hash ^ (uint8_t) *p) * UINT64_C(1099511628211);
        return asprintf_new("%.100s-%016" PRIx64, item, hash);
}

static int on_message(Harness *h, const char *id, json_object *item) {
        _cleanup_free_ char *text = NULL, *own = NULL;
        int r;

        r = harness_text_of(json_get(item, "text"), &text);
        if (r < 0 || isempty(text))
                return r;
        own = message_id(id, text);
        if (!own)
                return -ENOMEM;
        r = harness_say_message_begin(h, own);
        if (r >= 0 && !h->dead)
                r = harness_say_text(h, text, strlen(text));
        if (r >= 0 && !h->dead)
                r = harness_say_message_end(h, own, text);
        return r;
}

static int tool_name(json_object *item, const char *type, char **ret) {
        static const struct { const char *type, *name; } names[] = {
                { "command_execution", "exec_command" }, { "file_change", "apply_patch" },
                { "web_search", "web_search" },
        };

        *ret = NULL;
        if (streq(type, "mcp_tool_call"))
                *ret = strjoin("mcp__", strempty(json_get_string(item, "server")), "__",
                               strempty(json_get_string(item, "tool")));
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (streq(type, names[i].type))
                        *ret = strdup(names[i].name);
        return 0;
}

static int tool_input(json_object *item, char **ret) {
        static const char *const keys[] = { "command", "changes", "query" };
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *arguments = json_get(item, "arguments");
        const char *text;
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(keys) && r >= 0; i++)
                if (json_get(item, keys[i]))
                        r = json_put(o, keys[i], json_object_get(json_get(item, keys[i])));
        text = r >= 0 ? json_text(json_object_is_type(arguments, json_type_object) ? arguments : o, NULL) : NULL;
        *ret = text ? strdup(text) : NULL;
        return *ret ? 0 : -ENOMEM;
}

static int on_tool(Harness *h, const char *id, json_object *item, const char *type, bool completed) {
        const char *status = strempty(json_get_string(item, "status"));
        _cleanup_free_ char *name = NULL, *text = NULL;
        int r;

        r = tool_name(item, type, &name);
        if (r < 0 || !name)
                return r;
        r = completed ? harness_text_of(json_get(item, "aggregated_output"), &text) : tool_input(item, &text);
        if (r < 0)
                return r;
        return harness_say_tool(h, &(HarnessTool) {
                .phase = completed ? HARNESS_TOOL_ENDED : HARNESS_TOOL_STARTED, .id = id, .name = name,
                .input = completed ? NULL : text, .output = completed ? strempty(text) : NULL,
                .is_error = streq(status, "failed") || streq(status, "declined"),
        });
}

static int on_item(Harness *h, json_object *item, bool completed) {
        const char *type = strempty(json_get_string(item, "type")), *id = json_get_string(item, "id");

        if (isempty(id))
                return 0;
        if (streq(type, "agent_message"))
                return completed ? on_message(h, id, item) : 0;
        if (streq(type, "error") && completed)
                harness_warn(h, "%s", strempty(json_get_string(item, "message")));
        return on_tool(h, id, item, type, completed);
}

static int end_failed(Harness *h, const char *text) {
        _cleanup_free_ char *message = str_printable(strempty(text), MESSAGE_CHARS_MAX);
        CodexExec *c = h->state;
        HarnessResult result = { .started = c->started };

        if (!message)
                return -ENOMEM;
        result.message = message;
        result.outcome = codex_outcome_of_text(message, &result.http_status);
        return harness_end_turn(h, &result);
}

static int end_completed(Harness *h, json_object *usage) {
        return harness_end_turn(h, &(HarnessResult) {
                .outcome = HARNESS_DONE, .message = "", .started = true, .usage_is_total = true,
                .usage = {
                        .input_tokens = codex_count(usage, "input_tokens"),
                        .cached_tokens = codex_count(usage, "cached_input_tokens"),
                        .cache_write_tokens = codex_count(usage, "cache_write_input_tokens"),
                        .output_tokens = codex_count(usage, "output_tokens"),
                        .reasoning_tokens = codex_count(usage, "reasoning_output_tokens"),
                },
        });
}

/* It tells its name before it has begun: of a conversation that has a file only when the turn is on its way. */
static int tell_thread(Harness *h) {
        CodexExec *c = h->state;

        c->started = true;
        return codex_thread_id_is_valid(c->thread_id) ? harness_say_session(h, c->thread_id) : 0;
}

static int exec_on_object(Harness *h, json_object *line) {
        const char *type = strempty(json_get_string(line, "type"));
        CodexExec *c = h->state;
        int r;

        if (h->turn != TURN_RUNNING)
                return 0;
        if (!streq(type, "error"))
                harness_say_progress(h);
        if (streq(type, "thread.started")) {
                const char *id = json_get_string(line, "thread_id");

                return id ? MIN(free_and_strdup(&c->thread_id, id), 0) : 0;
        }
        if (streq(type, "turn.started"))
                return tell_thread(h);
        if (streq(type, "item.started") || streq(type, "item.completed"))
                return on_item(h, json_get(line, "item"), streq(type, "item.completed"));
        if (streq(type, "error")) {
                r = free_and_strdup(&c->error, strempty(json_get_string(line, "message")));
                if (r >= 0)
                        harness_warn(h, "%s", c->error);
                return MIN(r, 0);
        }
        if (streq(type, "turn.failed"))
                return end_failed(h, json_get_string(json_get(line, "error"), "message") ?: c->error);
        return streq(type, "turn.completed") ? end_completed(h, json_get(line, "usage")) : 0;
}

static int exec_line(Harness *h, const char *line, size_t size) {
        return harness_take_object(h, line, size, exec_on_object);
}

static int exec_error_line(Harness *h, const char *line, size_t size) {
        return startswith(line, "Reading ") && strstr(line, " from stdin...");
}

static int exec_eof(Harness *h) {
        CodexExec *c = h->state;
        _cleanup_free_ char *tail = harness_error_tail(h);
        const char *fault = tail && !c->started ? codex_lasting_fault(tail) : NULL;
        HarnessOutcome outcome = HARNESS_GONE;

        if (fault)
                outcome = HARNESS_UNFIT;
        else if (c->resumed && !c->started && tail && strstr(tail, "no rollout found"))
                outcome = HARNESS_LOST_SESSION;
        return harness_end_turn(h, &(HarnessResult) {
                .outcome = outcome, .message = fault ?: strempty(tail), .started = c->started,
        });
}

const HarnessDriver codex_exec_driver = {
        .name = "codex-exec",
        .per_turn = true,
        .fitted_by_launch = true,
        .launch = codex_exec_launch,
        .start = exec_start,
        .free = exec_free,
        .turn = exec_turn,
        .adopt_turn = exec_adopt_turn,
        .line = exec_line,
        .error_line = exec_error_line,
        .eof = exec_eof,
};
