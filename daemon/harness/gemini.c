/* SPDX-License-Identifier: MIT */

#include "gemini.h"

/* Of an answer. */
#define TEXT_MAX MIB(16)
#define ERRORS_MAX KIB(16)

static bool gemini_listens(Harness *h) {
        return h->turn == TURN_RUNNING && !h->dead;
}

static void gemini_turn_done(Gemini *g) {
        g->message_id = mfree(g->message_id);
        g->last_id = mfree(g->last_id);
        g->error = mfree(g->error);
        strbuf_done(&g->text);
        g->n_said = 0;
        open_calls_done(&g->calls);
        g->complete = g->echoed = g->started = false;
        g->n_denied = 0;
}

static void gemini_free(Harness *h) {
        Gemini *g = h->state;

        gemini_turn_done(g);
        strbuf_done(&g->errors);
        free(g->session_id);
        h->state = mfree(g);
}

static int gemini_start(Harness *h, const HarnessSetup *s) {
        Gemini *g;

        h->state = g = new0(Gemini, 1);
        if (!g)
                return -ENOMEM;
        g->resumed = s->session_id;
        if (isempty(s->session_id))
                return 0;
        g->session_id = strdup(s->session_id);
        return g->session_id ? 0 : -ENOMEM;
}

/* ---- the prompt ---- */

/* A name of Puffo's for people and agents, "bo-1a2b", with nothing behind it but marks that end a word. Quotes would
 * make a path of all that is between them. */
static bool is_handle(const char *s) {
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-");

        if (n <= 5 || *s == '-' || s[n - 5] != '-' || strspn(s + n - 4, "0123456789abcdef") != 4)
                return false;
        s += n;
        s = startswith(s, "'s") ?: (char*) s + strspn(s, "':*_~");
        if (*s == '.')
                s++;
        return !*s || strchr(" \t\r\n,;!?()[]{}", *s);
}

/* The program puts the content of a file in for "@name", and of any file that has the name as a part of its own; and a
 * text that begins with "/" may be a command to it. Whoever writes to an agent is to do neither. A backslash is how it
 * wants that to be said; the model sees it, which is why handles, which no file has, are left as they are. */
static int gemini_prompt(const char *text, StrBuf *b) {
        int r = *text == '/' ? strbuf_puts(b, "\n") : 0;

        for (const char *p = text; *p && r >= 0;) {
                size_t n = strcspn(p, "@");

                r = strbuf_append(b, p, n);
                if (r < 0 || !p[n])
                        return r;
                p += n;
                if ((p == text || p[-1] != '\\') && !is_handle(p + 1))
                        r = strbuf_puts(b, "\\");
                if (r >= 0)
                        r = strbuf_append(b, p++, 1);
        }
        return r;
}

static int gemini_turn(Harness *h, const char *text) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        gemini_turn_done(h->state);
        ((Gemini*) h->state)->complete = true;
        r = gemini_prompt(text, &b);
        if (r >= 0 && b.size > 0)
                r = harness_write(h, b.text, b.size);
        if (r < 0)
                return r;
        h->closing = true;              /* its end is the prompt's */
        return 0;
}

static int gemini_adopt_turn(Harness *h, const char *last_message) {
        Gemini *g = h->state;

        gemini_turn_done(g);
        g->echoed = true;
        return 0;
}

/* ---- the text of the answer ---- */

static int gemini_message_cancel(Harness *h) {
        Gemini *g = h->state;
        _cleanup_free_ char *id = TAKE_PTR(g->message_id);

        strbuf_done(&g->text);
        g->n_said = 0;
        return id ? harness_say_message_cancel(h, id) : 0;
}

static bool is_space(char c) {
        return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Lines have no ids, but times, which are the same when they are seen again. */
static int gemini_message_begin(Harness *h, json_object *line) {
        Gemini *g = h->state;
        const char *stamp = strempty(json_get_string(line, "timestamp"));
        _cleanup_free_ char *id = strjoin(strempty(g->session_id), "/", stamp);

        if (id && streq_ptr(id, g->last_id)) {
                free(id);
                id = strjoin(g->last_id, "+");
        }
        if (!id || free_and_strdup(&g->last_id, id) < 0)
                return -ENOMEM;
        g->message_id = TAKE_PTR(id);
        return harness_say_message_begin(h, g->message_id);
}

static int gemini_on_text(Harness *h, json_object *line) {
        Gemini *g = h->state;
        _cleanup_free_ char *text = NULL;
        const char *p;
        size_t end, from;
        int r;

        r = harness_text_of(json_get(line, "content"), &text);
        if (r < 0 || isempty(text))
                return r;
        p = text;
        if (g->text.size == 0)
                while (is_space(*p))
                        p++;
        if (!*p)
                return 0;
        harness_keep_line(h);           /* until the message is complete, and noted */
        if (g->text.size + strlen(p) > TEXT_MAX)
                return harness_end_turn(h, &(HarnessResult) {
                        .outcome = HARNESS_PROTOCOL,
                        .message = "Its answer has no end.",
                        .started = true,
                });
        r = strbuf_puts(&g->text, p);
        if (r < 0)
                return r;

        for (end = g->text.size; end > g->n_said && is_space(g->text.text[end - 1]); end--)
                ;
        if (end == g->n_said)
                return 0;
        if (!g->message_id) {
                r = gemini_message_begin(h, line);
                if (r < 0 || !gemini_listens(h))
                        return r;
        }
        from = g->n_said;
        g->n_said = end;
        text = mfree(text);
        text = memdup0(g->text.text + from, end - from);
        return text ? harness_say_text(h, text, end - from) : -ENOMEM;
}

static int gemini_message_end(Harness *h) {
        Gemini *g = h->state;
        _cleanup_free_ char *id = TAKE_PTR(g->message_id), *text = NULL;

        if (id) {
                text = memdup0(g->text.text, g->n_said);
                if (!text)
                        return -ENOMEM;
        }
        strbuf_done(&g->text);
        g->n_said = 0;
        return id ? harness_say_message_end(h, id, text) : 0;
}

static int gemini_turn_over(Harness *h) {
        int r = gemini_message_cancel(h);

        if (r >= 0)
                gemini_turn_done(h->state);
        return r;
}

/* ---- lines ---- */

static int gemini_on_call(Harness *h, json_object *line) {
        Gemini *g = h->state;
        const char *id = json_get_string(line, "tool_id"), *name = json_get_string(line, "tool_name");
        json_object *input = json_get(line, "parameters");
        const char *text = json_object_is_type(input, json_type_object) ? json_text(input, NULL) : "{}";
        int r;

        r = gemini_message_end(h);
        if (r < 0 || isempty(id) || !name || !gemini_listens(h))
                return r;
        if (!text)
                return -ENOMEM;
        g->started = true;
        r = open_calls_add(&g->calls, id, name);
        if (r < 0)
                return r;
        return harness_say_tool(h, &(HarnessTool) {
                .phase = HARNESS_TOOL_STARTED,
                .id = id,
                .name = name,
                .input = text,
        });
}

static int gemini_on_call_result(Harness *h, json_object *line) {
        Gemini *g = h->state;
        const char *id = json_get_string(line, "tool_id");
        json_object *error = json_get(line, "error"), *output = json_get(line, "output");
        _cleanup_free_ char *text = NULL, *name = NULL;
        int r;

        if (isempty(id))
                return 0;
        if (!json_object_is_type(output, json_type_string))
                output = json_get(error, "message");
        r = harness_text_of(output, &text);
        if (r < 0)
                return r;
        if (streq_ptr(json_get_string(error, "type"), "policy_violation"))
                g->n_denied++;
        name = open_calls_take(&g->calls, id);
        return harness_say_tool(h, &(HarnessTool) {
                .phase = HARNESS_TOOL_ENDED,
                .id = id,
                .name = strempty(name),
                .output = strempty(text),
                .is_error = !streq_ptr(json_get_string(line, "status"), "success"),
        });
}

static int gemini_on_init(Harness *h, json_object *line) {
        Gemini *g = h->state;
        const char *id = json_get_string(line, "session_id");
        int r;

        if (isempty(id) || streq_ptr(id, g->session_id))
                return 0;
        r = harness_say_session(h, id);
        return r < 0 ? r : MIN(free_and_strdup(&g->session_id, id), 0);
}

static int gemini_on_error(Harness *h, json_object *line) {
        Gemini *g = h->state;
        const char *text = json_get_string(line, "message");

        if (isempty(text))
                return 0;
        harness_warn(h, "%s", text);
        return streq_ptr(json_get_string(line, "severity"), "error") ? MIN(free_and_strdup(&g->error, text), 0) : 0;
}

static int gemini_on_result(Harness *h, json_object *line) {
        _cleanup_free_ char *message = NULL;
        HarnessResult result;
        int r;

        r = gemini_result(h, line, &result, &message);
        if (r >= 0 && result.outcome == HARNESS_DONE)
                r = gemini_message_end(h);
        return r < 0 || !gemini_listens(h) ? r : harness_end_turn(h, &result);
}

/* After a change of readers: may what is missing have been text? */
static int gemini_check_head(Harness *h, json_object *line, const char *type) {
        Gemini *g = h->state;
        bool user = streq(type, "message") && streq_ptr(json_get_string(line, "role"), "user");

        if (streq(type, "init") || user || streq(type, "tool_result")) {
                /* What shows the next reader where it is. */
                harness_keep_line(h);
                g->complete = true;
                return 1;
        }
        if (g->complete)
                return 1;
        if (streq(type, "result") && !streq_ptr(json_get_string(line, "status"), "success"))
                return 1;
        return harness_end_turn(h, &(HarnessResult) {
                .outcome = HARNESS_GONE,
                .message = "A part of its answer was read by a process that is no more.",
                .started = true,
        });
}

static int gemini_on_object(Harness *h, json_object *line) {
        Gemini *g = h->state;
        const char *type = strempty(json_get_string(line, "type"));
        bool message = streq(type, "message");
        int r;

        if (!gemini_listens(h))
                return 0;
        if (message || streq(type, "init") || streq(type, "tool_use") || streq(type, "tool_result") ||
            streq(type, "result")) {
                r = gemini_check_head(h, line, type);
                if (r <= 0)
                        return r;
                harness_say_progress(h);
        }
        if (message && streq_ptr(json_get_string(line, "role"), "user")) {
                g->echoed = true;
                return 0;
        }
        if (message && streq_ptr(json_get_string(line, "role"), "assistant"))
                return gemini_on_text(h, line);
        if (streq(type, "init"))
                return gemini_on_init(h, line);
        if (streq(type, "tool_use"))
                return gemini_on_call(h, line);
        if (streq(type, "tool_result"))
                return gemini_on_call_result(h, line);
        if (streq(type, "error"))
                return gemini_on_error(h, line);
        return streq(type, "result") ? gemini_on_result(h, line) : 0;
}

static int gemini_line(Harness *h, const char *line, size_t size) {
        return harness_take_object(h, line, size, gemini_on_object);
}

static int gemini_error_line(Harness *h, const char *line, size_t size) {
        static const char *const chatter[] = {
                "Warning: 256-color support", "YOLO mode is enabled", "Ripgrep is not available", "    at ",
                /* Of the workspace, of what is covered there. */
                "Warning: Could not read directory ",
        };
        Gemini *g = h->state;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(chatter); i++)
                if (startswith(line, chatter[i]))
                        return 1;
        r = strbuf_append(&g->errors, line, size);
        if (r >= 0)
                r = strbuf_append(&g->errors, "\n", 1);
        if (r < 0)
                return r;
        if (g->errors.size > ERRORS_MAX)
                strbuf_consume(&g->errors, g->errors.size - ERRORS_MAX);
        /* Of an object that is printed over many lines the first one says what it is about. */
        return *line == ' ' || *line == '}';
}

static int gemini_eof(Harness *h) {
        _cleanup_free_ char *message = NULL;
        HarnessResult result;
        int r;

        if (h->turn == TURN_NONE)
                return 0;
        r = gemini_result(h, NULL, &result, &message);
        return r < 0 ? r : harness_end_turn(h, &result);
}

const HarnessDriver gemini_driver = {
        .name = "gemini-cli",
        .per_turn = true,
        .launch = gemini_launch,
        .start = gemini_start,
        .free = gemini_free,
        .turn = gemini_turn,
        .adopt_turn = gemini_adopt_turn,
        .turn_over = gemini_turn_over,
        .line = gemini_line,
        .error_line = gemini_error_line,
        .eof = gemini_eof,
};
