/* SPDX-License-Identifier: MIT */

/* What a turn of Codex is made of (codex-protocol §7): texts, and calls of tools. */

#include "codex.h"

#define INPUT_MAX KIB(256)

static bool codex_listens(Harness *h) {
        return h->turn == TURN_RUNNING && !h->dead;
}

bool codex_is_ours(Harness *h, json_object *params, const char *turn_id, bool names_it) {
        const char *thread = json_get_string(params, "threadId");
        Codex *c = h->state;

        /* Before the turn is sent everything is about an earlier one; other threads are those of its helpers. */
        if (!codex_listens(h) || !c->sent || !thread || !turn_id || (c->thread_id && !streq(thread, c->thread_id)))
                return false;
        if (c->turn_id)
                return streq(turn_id, c->turn_id);
        if (!names_it || (!c->thread_id && free_and_strdup(&c->thread_id, thread) < 0))
                return false;
        return free_and_strdup(&c->turn_id, turn_id) >= 0;
}

int codex_tell_thread(Harness *h) {
        Codex *c = h->state;
        int r;

        if (c->thread_told || !codex_thread_id_is_valid(c->thread_id))
                return 0;
        r = harness_say_session(h, c->thread_id);
        if (r >= 0)
                c->thread_told = true;
        return r;
}

/* ---- texts ---- */

int codex_message_cancel(Harness *h) {
        Codex *c = h->state;
        _cleanup_free_ char *id = TAKE_PTR(c->message_id);

        return id ? harness_say_message_cancel(h, id) : 0;
}

static int message_begin(Harness *h, const char *id) {
        Codex *c = h->state;
        int r;

        r = codex_message_cancel(h);
        if (r < 0 || !codex_listens(h))
                return r;
        r = free_and_strdup(&c->message_id, id);
        return r < 0 ? r : harness_say_message_begin(h, c->message_id);
}

static int message_end(Harness *h, const char *id, json_object *item) {
        _cleanup_free_ char *text = NULL, *known = NULL;
        Codex *c = h->state;
        bool begun = streq_ptr(c->message_id, id);
        int r;

        r = harness_text_of(json_get(item, "text"), &text);
        if (r < 0)
                return r;
        if (isempty(text))
                return codex_message_cancel(h);
        /* All of it that there is, for whoever did not hear its beginning. */
        if (!begun) {
                r = message_begin(h, id);
                if (r >= 0 && codex_listens(h))
                        r = harness_say_text(h, text, strlen(text));
                if (r < 0 || !codex_listens(h))
                        return r;
        }
        known = TAKE_PTR(c->message_id);
        return harness_say_message_end(h, known, text);
}

int codex_on_delta(Harness *h, json_object *params) {
        _cleanup_free_ char *text = NULL;
        Codex *c = h->state;
        int r;

        /* Of one whose beginning somebody else has heard the end has it all. */
        if (!streq_ptr(json_get_string(params, "itemId"), c->message_id))
                return 0;
        r = harness_text_of(json_get(params, "delta"), &text);
        return r < 0 || isempty(text) ? r : harness_say_text(h, text, strlen(text));
}

/* ---- calls ---- */

static void call_done(CodexCall *k) {
        free(k->id);
        free(k->name);
        free(k->input);
}

void codex_calls_done(Codex *c) {
        for (size_t i = 0; i < c->n_calls; i++)
                call_done(c->calls + i);
        c->calls = mfree(c->calls);
        c->n_calls = 0;
}

static CodexCall* find_call(Codex *c, const char *id) {
        for (size_t i = 0; i < c->n_calls; i++)
                if (streq(c->calls[i].id, id))
                        return c->calls + i;
        return NULL;
}

const char* codex_call_input(Codex *c, const char *id) {
        CodexCall *k = find_call(c, id);

        return k ? k->input : NULL;
}

/* As the model knows it. *ret NULL: no tool. */
static int call_name(json_object *item, char **ret) {
        static const struct { const char *type, *name; } names[] = {
                { "commandExecution", "exec_command" }, { "fileChange", "apply_patch" }, { "webSearch", "web_search" },
                { "imageView", "view_image" }, { "imageGeneration", "image_generation" },
                { "collabAgentToolCall", "multi_agent" },
        };
        const char *type = strempty(json_get_string(item, "type"));

        *ret = NULL;
        if (streq(type, "mcpToolCall")) {
                *ret = strjoin("mcp__", strempty(json_get_string(item, "server")), "__",
                               strempty(json_get_string(item, "tool")));
                return *ret ? 0 : -ENOMEM;
        }
        if (streq(type, "dynamicToolCall")) {
                *ret = strdup(json_get_string(item, "tool") ?: "tool");
                return *ret ? 0 : -ENOMEM;
        }
        for (size_t i = 0; i < ELEMENTSOF(names); i++)
                if (streq(type, names[i].type)) {
                        *ret = strdup(names[i].name);
                        return *ret ? 0 : -ENOMEM;
                }
        return 0;
}

static int call_input(json_object *item, char **ret) {
        static const char *const keys[] = { "command", "cwd", "changes", "query", "path" };
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *arguments = json_get(item, "arguments");
        const char *text;
        size_t size;
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(keys) && r >= 0; i++) {
                json_object *v = json_get(item, keys[i]);

                if (v)
                        r = json_put(o, keys[i], json_object_get(v));
        }
        if (r < 0)
                return r;
        text = json_text(json_object_is_type(arguments, json_type_object) ? arguments : o, &size);
        if (!text)
                return -ENOMEM;
        *ret = strdup(size <= INPUT_MAX ? text : "{}");
        return *ret ? 0 : -ENOMEM;
}

static int append_texts(StrBuf *b, json_object *content) {
        int r = 0;

        for (size_t i = 0; json_object_is_type(content, json_type_array) && i < json_object_array_length(content) &&
                           r >= 0; i++) {
                _cleanup_free_ char *text = NULL;

                r = harness_text_of(json_get(json_object_array_get_idx(content, i), "text"), &text);
                if (r >= 0 && !isempty(text))
                        r = strbuf_printf(b, "%s%s", b->size > 0 ? "\n" : "", text);
        }
        return r;
}

static int call_output(json_object *item, char **ret) {
        json_object *error = json_get(item, "error");
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *text = NULL;
        int r;

        r = harness_text_of(json_get(item, "aggregatedOutput"), &text);
        if (r >= 0 && text)
                r = strbuf_puts(&b, text);
        if (r >= 0)
                r = append_texts(&b, json_get(json_get(item, "result"), "content"));
        if (r >= 0 && error)
                r = strbuf_printf(&b, "%s%s", b.size > 0 ? "\n" : "", json_get_string(error, "message") ?:
                                  strempty(json_get_string(item, "error")));
        if (r < 0)
                return r;
        *ret = b.text ? strbuf_take(&b) : strdup("");
        return *ret ? 0 : -ENOMEM;
}

static int call_begin(Harness *h, const char *id, json_object *item) {
        Codex *c = h->state;
        CodexCall call = {}, *grown;
        int r;

        r = call_name(item, &call.name);
        if (r < 0 || !call.name)
                return r;
        call.id = strdup(id);
        r = call.id ? call_input(item, &call.input) : -ENOMEM;
        if (r >= 0) {
                HarnessTool tool = {
                        .phase = HARNESS_TOOL_STARTED, .id = id, .name = call.name, .input = call.input,
                };

                /* Without room for it, its end is told all the same. */
                grown = c->n_calls < CODEX_CALLS_MAX && !find_call(c, id) ?
                        reallocarray(c->calls, c->n_calls + 1, sizeof(CodexCall)) : NULL;
                if (grown) {
                        c->calls = grown;
                        grown[c->n_calls++] = call;
                        return harness_say_tool(h, &tool);
                }
                r = harness_say_tool(h, &tool);
        }
        call_done(&call);
        return r;
}

static int call_end(Harness *h, const char *id, json_object *item) {
        const char *status = strempty(json_get_string(item, "status"));
        _cleanup_free_ char *output = NULL, *name = NULL;
        Codex *c = h->state;
        CodexCall *k = find_call(c, id);
        int r;

        r = call_name(item, &name);
        if (r < 0 || !name)
                return r;
        r = call_output(item, &output);
        if (r < 0)
                return r;
        /* Some come in one piece. */
        if (!k && !h->adopted) {
                r = call_begin(h, id, item);
                if (r < 0 || !codex_listens(h))
                        return r;
                k = find_call(c, id);
        }
        if (k) {
                call_done(k);
                *k = c->calls[--c->n_calls];
        }
        c->n_denied += streq(status, "declined");
        return harness_say_tool(h, &(HarnessTool) {
                .phase = HARNESS_TOOL_ENDED, .id = id, .name = name, .output = output,
                .is_error = streq(status, "failed") || streq(status, "declined"),
        });
}

/* ---- */

int codex_on_item(Harness *h, json_object *params, bool completed) {
        json_object *item = json_get(params, "item");
        const char *type = strempty(json_get_string(item, "type")), *id = json_get_string(item, "id");
        Codex *c = h->state;

        if (isempty(id))
                return 0;
        if (streq(type, "userMessage")) {
                if (!completed)
                        return 0;
                c->started = true;
                return codex_tell_thread(h);
        }
        if (streq(type, "agentMessage"))
                return completed ? message_end(h, id, item) : message_begin(h, id);
        return completed ? call_end(h, id, item) : call_begin(h, id, item);
}
