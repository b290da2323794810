/* SPDX-License-Identifier: MIT */

/* What Codex asks us (codex-protocol §8). The id of an ask says in what words it is answered, a letter and the
 * program's own id as JSON: whoever takes over has nothing else. */

#include <sys/stat.h>

#include "codex.h"

#define DECISION 'd'            /* {"decision": "accept"} */
#define ELICITATION 'e'         /* {"action": "accept"} */

static void ask_drop(Codex *c, size_t i) {
        free(c->asks[i].id);
        c->asks[i] = c->asks[--c->n_asks];
}

void codex_asks_done(Codex *c) {
        while (c->n_asks > 0)
                ask_drop(c, c->n_asks - 1);
        c->asks = mfree(c->asks);
}

void codex_withdraw_asks(Harness *h) {
        Codex *c = h->state;

        while (c->n_asks > 0) {
                _cleanup_free_ char *id = TAKE_PTR(c->asks[--c->n_asks].id);

                harness_say_ask_withdrawn(h, id);
        }
}

static bool forget(Codex *c, const char *id) {
        for (size_t i = 0; i < c->n_asks; i++)
                if (streq(c->asks[i].id, id)) {
                        ask_drop(c, i);
                        return true;
                }
        return false;
}

/* ---- answers ---- */

static int reply_error(Harness *h, json_object *id, int64_t code, const char *message) {
        _cleanup_json_ json_object *error = json_object_new_object();
        int r = error ? json_put_int(error, "code", code) : -ENOMEM;

        if (r >= 0)
                r = json_put_string(error, "message", message);
        return r < 0 ? r : codex_reply(h, id, "error", TAKE_PTR(error));
}

static int reply_verdict(Harness *h, json_object *id, char kind, bool allow) {
        _cleanup_json_ json_object *result = json_object_new_object();
        const char *word = allow ? "accept" : "decline";
        int r;

        if (!result)
                return -ENOMEM;
        r = json_put_string(result, kind == DECISION ? "decision" : "action", word);
        if (r >= 0 && kind == ELICITATION) {
                r = json_put_null(result, "content");
                if (r >= 0)
                        r = json_put_null(result, "_meta");
        }
        return r < 0 ? r : codex_reply(h, id, "result", TAKE_PTR(result));
}

/* Its words for a refusal have no place for a reason: the model hears that it was declined, and goes on. */
int codex_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message) {
        Codex *c = h->state;
        bool known = forget(c, ask_id);
        json_object *id = NULL;
        int r;

        if (!known && !h->adopted)
                return -ENOENT;
        if ((*ask_id != DECISION && *ask_id != ELICITATION) || ask_id[1] != ':')
                return -EINVAL;
        r = json_parse(ask_id + 2, strlen(ask_id + 2), &id);
        if (r < 0)
                return r == -ENOMEM ? r : -EINVAL;
        r = reply_verdict(h, id, *ask_id, allow);
        (void) json_object_put(id);
        return r;
}

/* ---- questions ---- */

static int ask_id(json_object *id, char kind, char **ret) {
        const char *text = json_text(id, NULL);

        *ret = text ? asprintf_new("%c:%s", kind, text) : NULL;
        return *ret ? 0 : -ENOMEM;
}

static int ask(Harness *h, json_object *id, char kind, const char *tool_id, const char *name, const char *input,
               const char *description) {
        _cleanup_free_ char *own = NULL;
        Codex *c = h->state;
        CodexAsk *grown;
        int r;

        if (h->turn != TURN_RUNNING || !h->handler.on_ask || c->n_asks >= CODEX_ASKS_MAX)
                return reply_verdict(h, id, kind, false);
        r = ask_id(id, kind, &own);
        if (r < 0)
                return r;
        (void) forget(c, own);
        grown = reallocarray(c->asks, c->n_asks + 1, sizeof(CodexAsk));
        if (!grown)
                return -ENOMEM;
        c->asks = grown;
        grown[c->n_asks] = (CodexAsk) { .id = strdup(own) };
        if (!grown[c->n_asks].id)
                return -ENOMEM;
        c->n_asks++;
        return harness_say_ask(h, &(HarnessAsk) {
                .id = own, .tool_id = tool_id, .name = name, .input = input, .description = description,
        });
}

/* Whether path, relative to directory if it is, is below that, whatever links lie on the way. What is not there yet is
 * where it would be made; a link to nowhere is an answer to nothing. */
static bool is_below(const char *directory, const char *path) {
        _cleanup_free_ char *root = realpath(directory, NULL), *rest = NULL;
        bool made = false;      /* rest is a directory that something is to be made in */
        const char *below;

        rest = isempty(path) ? NULL : *path == '/' ? strdup(path) : strjoin(directory, "/", path);
        while (root && rest) {
                _cleanup_free_ char *real = realpath(rest, NULL);
                struct stat st;
                char *slash;

                if (real) {
                        below = startswith(real, root);
                        return below && (*below == '/' || (*below == 0 && made));
                }
                if (errno != ENOENT || lstat(rest, &st) >= 0)
                        return false;
                slash = strrchr(rest, '/');
                if (!slash || slash == rest || streq(slash, "/..") || streq(slash, "/.") || streq(slash, "/"))
                        return false;
                *slash = 0;
                made = true;
        }
        return false;
}

/* What is accepted without a question: a change of files of the workspace, all of them known. */
static bool is_edit_of_workspace(const Codex *c, json_object *params, json_object *call) {
        json_object *changes = json_get(call, "changes");
        size_t n = json_object_is_type(changes, json_type_array) ? json_object_array_length(changes) : 0;

        if (!c->accepts_edits || json_get_string(params, "grantRoot"))
                return false;
        for (size_t i = 0; i < n; i++) {
                json_object *change = json_object_array_get_idx(changes, i);
                const char *moved = json_get_string(json_get(change, "kind"), "move_path");

                if (!is_below(c->directory, json_get_string(change, "path")) ||
                    (moved && !is_below(c->directory, moved)))
                        return false;
        }
        return n > 0;
}

static int on_approval(Harness *h, json_object *id, json_object *params, const char *name) {
        static const char *const keys[] = { "command", "cwd", "reason", "grantRoot" };
        const char *item = strempty(json_get_string(params, "itemId")), *known, *text;
        _cleanup_json_ json_object *o = NULL;
        Codex *c = h->state;
        int r = 0;

        /* Of a change of files only the item has told what it is. */
        known = codex_call_input(c, item);
        if (known && json_parse_deep(known, strlen(known), 200, &o) == -ENOMEM)
                return -ENOMEM;
        if (streq(name, "apply_patch") && is_edit_of_workspace(c, params, o))
                return reply_verdict(h, id, DECISION, true);
        if (!o)
                o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(keys) && r >= 0; i++)
                if (json_get_string(params, keys[i]))
                        r = json_put_string(o, keys[i], json_get_string(params, keys[i]));
        text = r >= 0 ? json_text(o, NULL) : NULL;
        return text ? ask(h, id, DECISION, item, name, text, strempty(json_get_string(params, "reason"))) : -ENOMEM;
}

/* Of a server's own wish to ask somebody something there is nobody to ask. */
static int on_elicitation(Harness *h, json_object *id, json_object *params) {
        json_object *meta = json_get(params, "_meta"), *arguments = json_get(meta, "tool_params");
        const char *server = strempty(json_get_string(params, "serverName")),
                *tool = strempty(json_get_string(meta, "tool_name")), *text = "{}";
        _cleanup_free_ char *name = strjoin("mcp__", server, "__", tool);

        if (!name)
                return -ENOMEM;
        if (!streq_ptr(json_get_string(meta, "codex_approval_kind"), "mcp_tool_call"))
                return reply_verdict(h, id, ELICITATION, false);
        if (streq(server, "puffo"))
                return reply_verdict(h, id, ELICITATION, true);
        if (json_object_is_type(arguments, json_type_object))
                text = json_text(arguments, NULL);
        return text ? ask(h, id, ELICITATION, "", name, text, strempty(json_get_string(params, "message"))) : -ENOMEM;
}

static int reply_nothing(Harness *h, json_object *id, const char *key, json_object *value, bool failed) {
        _cleanup_json_ json_object *result = json_object_new_object();
        int r;

        if (!result || !value) {
                (void) json_object_put(value);
                return -ENOMEM;
        }
        r = json_put(result, key, value);
        if (r >= 0 && failed)
                r = json_put_bool(result, "success", false);
        return r < 0 ? r : codex_reply(h, id, "result", TAKE_PTR(result));
}

int codex_on_request(Harness *h, json_object *line) {
        json_object *id = json_get(line, "id"), *params = json_get(line, "params");
        const char *method = strempty(json_get_string(line, "method"));

        if (!json_object_is_type(id, json_type_int) && !json_object_is_type(id, json_type_string))
                return 0;
        if (streq(method, "item/commandExecution/requestApproval"))
                return on_approval(h, id, params, "exec_command");
        if (streq(method, "item/fileChange/requestApproval"))
                return on_approval(h, id, params, "apply_patch");
        if (streq(method, "mcpServer/elicitation/request"))
                return on_elicitation(h, id, params);
        if (streq(method, "item/tool/requestUserInput"))
                return reply_nothing(h, id, "answers", json_object_new_object(), false);
        if (streq(method, "item/tool/call"))
                return reply_nothing(h, id, "contentItems", json_object_new_array(), true);
        /* Unanswered, it would wait for ever. */
        return reply_error(h, id, -32601, "method not supported");
}

/* Answered, or of no interest any more; of those of an earlier process the kind is not known. */
void codex_on_resolved(Harness *h, json_object *params) {
        json_object *id = json_get(params, "requestId");
        Codex *c = h->state;

        for (const char *kind = (char[]) { DECISION, ELICITATION, 0 }; *kind && id && !h->dead; kind++) {
                _cleanup_free_ char *own = NULL;

                if (ask_id(id, *kind, &own) >= 0 && (forget(c, own) || h->adopted))
                        harness_say_ask_withdrawn(h, own);
        }
}
