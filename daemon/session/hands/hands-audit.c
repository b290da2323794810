/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "hands-audit.h"
#include "log.h"
#include "string-util.h"

void hands_audit_done(HandsAudit *a) {
        free(a->home.id);
        free(a->home.workspace);
        free(a->turn);
}

int hands_audit_use(HandsAudit *a, const AgentHome *home, const char *turn) {
        int r = free_and_strdup(&a->home.id, home->id);

        if (r >= 0)
                r = free_and_strdup(&a->home.workspace, home->workspace);
        free(a->turn);
        a->turn = turn ? strjoin("PUFFO_TURN=", turn) : NULL;
        return r < 0 ? r : turn && !a->turn ? -ENOMEM : 0;
}

static int describe(json_object *o, StrBuf *b) {
        static const char *const told[] = {
                "name", "resume", "outcome", "tool_calls", "input_tokens", "output_tokens", "duration_ms", "phase",
                "attempt", "of", "attempts",
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(told) && r >= 0; i++) {
                json_object *v = json_get(o, told[i]);
                _cleanup_free_ char *value = v ? str_printable(json_object_get_string(v), 100) : NULL;

                if (v)
                        r = value ? strbuf_printf(b, "%s%s %s", b->size > 0 ? ", " : ": ", told[i], value) : -ENOMEM;
        }
        return r;
}

static void tell_journal(const HandsAudit *a, AuditEvent event, json_object *o) {
        _cleanup_free_ char *name = strjoin("PUFFO_EVENT=", audit_event_to_string(event));
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *const fields[] = { name, a->turn, NULL };

        if (!name || describe(o, &b) < 0) {
                (void) log_oom();
                return;
        }
        (void) log_fields(LOG_INFO, 0, fields, "Audit: %s%s", audit_event_to_string(event), strempty(b.text));
}

/* r: of putting fields together. */
static void append(HandsAudit *a, AuditEvent event, json_object *fields, int r) {
        if (!a->home.workspace)
                return;
        if (r >= 0)
                tell_journal(a, event, fields);
        if (r >= 0)
                r = audit_log_append(&a->home, event, fields);
        if (r < 0 && !a->failed)
                (void) log_warning_errno(r, "Failed to write the audit log, going on without: %m");
        a->failed = r < 0;
}

static int put_texts(json_object *o, const char *key, const char *value, const char *other, const char *second) {
        int r = o ? json_put_string(o, key, value) : -ENOMEM;

        return r < 0 || !other ? r : json_put_string(o, other, second);
}

void hands_audit_session(HandsAudit *a, const char *session_id) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = put_texts(o, "session_id", strempty(session_id), NULL, NULL);

        append(a, AUDIT_SESSION_START, o, r < 0 ? r : json_put_bool(o, "resume", !isempty(session_id)));
}

void hands_audit_input(HandsAudit *a, const char *text) {
        _cleanup_json_ json_object *o = json_object_new_object();

        a->begin_usec = now_boottime_usec();
        a->n_chars = a->n_tools = 0;
        append(a, AUDIT_TURN_INPUT, o, put_texts(o, "content", text, NULL, NULL));
}

void hands_audit_text(HandsAudit *a, const char *text) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (isempty(text))
                return;
        for (const char *c = text; *c; c++)
                a->n_chars += ((unsigned char) *c & 0xc0) != 0x80;
        append(a, AUDIT_ASSISTANT_TEXT, o, put_texts(o, "text", text, NULL, NULL));
}

void hands_audit_tool(HandsAudit *a, const HarnessTool *tool) {
        _cleanup_json_ json_object *o = json_object_new_object(), *input = NULL;
        int r;

        if (tool->phase != HARNESS_TOOL_STARTED)
                return;
        a->n_tools++;
        r = put_texts(o, "name", tool->name, "id", tool->id);
        if (r >= 0 && tool->input && json_parse(tool->input, strlen(tool->input), &input) < 0)
                input = NULL;
        if (r >= 0)
                r = input || !tool->input ? json_put(o, "input", TAKE_PTR(input))
                                          : json_put_string(o, "input", tool->input);
        append(a, AUDIT_TOOL, o, r);
}

static int put_numbers(json_object *o, const HandsAudit *a, const HarnessResult *result) {
        const struct { const char *key; uint64_t value; } numbers[] = {
                { "reply_len", a->n_chars }, { "tool_calls", a->n_tools },
                { "input_tokens", result->usage.input_tokens }, { "output_tokens", result->usage.output_tokens },
                { "duration_ms", a->begin_usec > 0 ? (now_boottime_usec() - a->begin_usec) / USEC_PER_MSEC : 0 },
        };
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                r = json_put_int(o, numbers[i].key, (int64_t) numbers[i].value);
        return r;
}

static void append_refusal(HandsAudit *a, const HarnessResult *result, unsigned attempt, unsigned n_attempts) {
        _cleanup_json_ json_object *o = json_object_new_object(), *last = NULL;
        int r;

        r = put_texts(o, "reply", result->message, NULL, NULL);
        if (r >= 0)
                r = json_put_int(o, "attempt", attempt);
        append(a, AUDIT_AUTH_ERROR, o, r < 0 ? r : json_put_int(o, "of", n_attempts));
        if (n_attempts == 1 || attempt < n_attempts)
                return;
        last = json_object_new_object();
        r = put_texts(last, "reply", result->message, NULL, NULL);
        append(a, AUDIT_AUTH_EXHAUSTED, last, r < 0 ? r : json_put_int(last, "attempts", n_attempts));
}

void hands_audit_end(HandsAudit *a, const HarnessResult *result, unsigned attempt, unsigned n_attempts) {
        _cleanup_json_ json_object *o = json_object_new_object(), *error = json_object_new_object();
        bool broke = result->outcome == HARNESS_GONE || result->outcome == HARNESS_PROTOCOL;
        int r;

        if (broke) {
                r = put_texts(error, "phase", result->outcome == HARNESS_GONE ? "eof_mid_turn" : "readline_limit",
                              "error_type", harness_outcome_to_string(result->outcome));
                if (r >= 0)
                        r = put_texts(error, "error", result->message, "action", "stopped");
                append(a, AUDIT_STREAM_ERROR, error, r);
        } else if (result->outcome == HARNESS_AUTH)
                append_refusal(a, result, attempt, n_attempts);
        r = put_numbers(o, a, result);
        append(a, AUDIT_TURN_END, o, r < 0 ? r : json_put_string(o, "outcome",
                                                                 harness_outcome_to_string(result->outcome)));
}
