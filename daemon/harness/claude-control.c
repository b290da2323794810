/* SPDX-License-Identifier: MIT */

/* The control protocol (claude-cli-protocol §9): requests and answers in both directions between the other lines. */

#include "claude.h"
#include "crash-point.h"
#include "tool-gate.h"

#define GATE "gate"

static void ask_done(ClaudeAsk *a) {
        free(a->id);
        (void) json_object_put(a->input);
        *a = (ClaudeAsk) {};
}

void claude_asks_done(Claude *c) {
        for (size_t i = 0; i < c->n_asks; i++)
                ask_done(c->asks + i);
        c->asks = mfree(c->asks);
        c->n_asks = 0;
}

static ClaudeAsk* claude_find_ask(Claude *c, const char *id) {
        for (size_t i = 0; i < c->n_asks; i++)
                if (streq(c->asks[i].id, id))
                        return c->asks + i;
        return NULL;
}

static void claude_drop_ask(Claude *c, const char *id) {
        ClaudeAsk *a = claude_find_ask(c, id);

        if (!a)
                return;
        ask_done(a);
        *a = c->asks[--c->n_asks];
}

void claude_withdraw_asks(Harness *h) {
        Claude *c = h->state;

        while (c->n_asks > 0) {
                _cleanup_free_ char *id = TAKE_PTR(c->asks[c->n_asks - 1].id);

                ask_done(c->asks + --c->n_asks);
                harness_say_ask_withdrawn(h, id);
        }
}

static int put_strings(json_object *o, const char *key, const char *s) {
        json_object *list = json_object_new_array(), *item;
        int r;

        if (!list)
                return -ENOMEM;
        r = json_put(o, key, list);
        if (r < 0)
                return r;
        item = json_object_new_string(s);
        if (!item || json_object_array_add(list, item) < 0) {
                (void) json_object_put(item);
                return -ENOMEM;
        }
        return 0;
}

static int put_object(json_object *o, const char *key, json_object **ret) {
        json_object *member = json_object_new_object();

        if (!member)
                return -ENOMEM;
        *ret = member;
        return json_put(o, key, member);
}

/* {"type": "control_request", "request_id": …, "request": {"subtype": subtype}}; *ret_request is the inner one. */
static int request_new(Claude *c, const char *subtype, json_object **ret, json_object **ret_request) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *id = asprintf_new("puffo-%s-%u", c->prefix, ++c->n_requests);
        int r;

        if (!o || !id)
                return -ENOMEM;
        r = json_put_string(o, "type", "control_request");
        if (r >= 0)
                r = json_put_string(o, "request_id", id);
        if (r >= 0)
                r = put_object(o, "request", ret_request);
        if (r >= 0)
                r = json_put_string(*ret_request, "subtype", subtype);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

/* Every call is asked about: by the hook before it, and again by those tools that ask themselves. Many never do. */
static int put_gate(json_object *request) {
        _cleanup_json_ json_object *matcher = json_object_new_object();
        json_object *hooks, *list;
        int r;

        r = matcher ? put_strings(matcher, "hookCallbackIds", GATE) : -ENOMEM;
        if (r >= 0)
                r = put_object(request, "hooks", &hooks);
        if (r < 0)
                return r;
        list = json_object_new_array();
        if (!list)
                return -ENOMEM;
        r = json_put(hooks, "PreToolUse", list);
        if (r < 0)
                return r;
        if (json_object_array_add(list, matcher) < 0)
                return -ENOMEM;
        TAKE_PTR(matcher);
        return 0;
}

int claude_initialize_new(Claude *c, const HarnessSetup *s, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        json_object *request;
        int r;

        r = request_new(c, "initialize", &o, &request);
        if (r < 0)
                return r;
        c->initialize_id = strdup(json_get_string(o, "request_id"));
        if (!c->initialize_id)
                return -ENOMEM;
        if (!isempty(s->system_prompt)) {
                r = put_strings(request, "systemPrompt", s->system_prompt);
                if (r < 0)
                        return r;
        }
        if (s->puffo_tools) {
                r = put_strings(request, "sdkMcpServers", "puffo");
                if (r < 0)
                        return r;
        }
        r = put_gate(request);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

int claude_interrupt(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        Claude *c = h->state;
        json_object *request;
        int r;

        c->interrupted_early = !c->started;
        r = request_new(h->state, "interrupt", &o, &request);
        return r < 0 ? r : harness_write_json(h, o);
}

int claude_set_model(Harness *h, const char *model) {
        _cleanup_json_ json_object *o = NULL;
        json_object *request;
        int r;

        r = request_new(h->state, "set_model", &o, &request);
        if (r >= 0)
                r = json_put_string(request, "model", isempty(model) ? NULL : model);
        return r < 0 ? r : harness_write_json(h, o);
}

/* Answers request id with what is said; takes response over, in any case. error: NULL for a success. */
static int claude_respond(Harness *h, const char *id, json_object *response, const char *error) {
        _cleanup_json_ json_object *o = json_object_new_object(), *owned = response;
        json_object *outer;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "type", "control_response");
        if (r >= 0)
                r = put_object(o, "response", &outer);
        if (r >= 0)
                r = json_put_string(outer, "subtype", error ? "error" : "success");
        if (r >= 0)
                r = json_put_string(outer, "request_id", id);
        if (r >= 0 && error)
                r = json_put_string(outer, "error", error);
        if (r >= 0 && response)
                r = json_put(outer, "response", TAKE_PTR(owned));
        return r < 0 ? r : harness_write_json(h, o);
}

/* input: borrowed. Without one older programs take an answer for none. */
static int claude_respond_allow(Harness *h, const char *id, json_object *input) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        r = o ? json_put_string(o, "behavior", "allow") : -ENOMEM;
        if (r >= 0 && input)
                r = json_put(o, "updatedInput", json_object_get(input));
        return r < 0 ? r : claude_respond(h, id, TAKE_PTR(o), NULL);
}

static int claude_respond_deny(Harness *h, const char *id, const char *message) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        r = o ? json_put_string(o, "behavior", "deny") : -ENOMEM;
        if (r >= 0)
                r = json_put_string(o, "message", isempty(message) ? "This was not permitted." : message);
        return r < 0 ? r : claude_respond(h, id, TAKE_PTR(o), NULL);
}

int claude_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message) {
        _cleanup_json_ json_object *given = NULL, *asked = NULL;
        Claude *c = h->state;
        ClaudeAsk *a = claude_find_ask(c, ask_id);
        int r;

        if (!a && !h->adopted)
                return -ENOENT;
        if (input) {
                r = harness_parse(input, strlen(input), &given);
                if (r < 0)
                        return r == -EBADMSG ? -EINVAL : r;
        }
        if (allow && !given && !a)
                return -EINVAL;
        asked = a ? json_object_get(a->input) : NULL;
        claude_drop_ask(c, ask_id);
        return allow ? claude_respond_allow(h, ask_id, given ?: asked) : claude_respond_deny(h, ask_id, message);
}

/* Why a call is not made, for the model: what it may do instead. NULL: -ENOMEM. */
static char* refusal(Claude *c, const char *tool) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        r = strbuf_printf(&b, "Tool %.100s is not allowed to be called like this. Allowed are: mcp__puffo__*", tool);
        for (size_t i = 0; i < strv_length(c->allowed_tools) && r >= 0; i++)
                r = strbuf_printf(&b, ", %s", c->allowed_tools[i]);
        return r < 0 ? NULL : strbuf_take(&b);
}

static int claude_gate(Harness *h, const char *id, const char *tool, json_object *input) {
        Claude *c = h->state;
        _cleanup_free_ char *why = NULL;

        if (tool_is_allowed(c->allowed_tools, tool, input))
                return claude_respond_allow(h, id, input);
        why = refusal(c, tool);
        return why ? claude_respond_deny(h, id, why) : -ENOMEM;
}

static int claude_on_can_use_tool(Harness *h, const char *id, json_object *request) {
        Claude *c = h->state;
        const char *tool = strempty(json_get_string(request, "tool_name")), *text;
        json_object *input = json_get(request, "input");
        _cleanup_json_ json_object *empty = NULL;
        ClaudeAsk *grown;

        if (!json_object_is_type(input, json_type_object)) {
                input = empty = json_object_new_object();
                if (!empty)
                        return -ENOMEM;
        }
        if (c->sdk)
                return claude_gate(h, id, tool, input);
        if (h->turn != TURN_RUNNING)
                return claude_respond_deny(h, id, "Nobody has asked for anything.");
        if (!h->handler.on_ask || c->n_asks >= CLAUDE_ASKS_MAX)
                return claude_respond_deny(h, id, "There is nobody to ask.");

        text = json_text(input, NULL);
        if (!text)
                return -ENOMEM;
        claude_drop_ask(c, id);
        grown = reallocarray(c->asks, c->n_asks + 1, sizeof(ClaudeAsk));
        if (!grown)
                return -ENOMEM;
        c->asks = grown;
        grown[c->n_asks] = (ClaudeAsk) { .id = strdup(id) };
        if (!grown[c->n_asks].id)
                return -ENOMEM;
        grown[c->n_asks++].input = json_object_get(input);

        return harness_say_ask(h, &(HarnessAsk) {
                .id = id,
                .tool_id = strempty(json_get_string(request, "tool_use_id")),
                .name = tool,
                .input = text,
                .description = json_get_string(request, "description") ?:
                               strempty(json_get_string(request, "title")),
        });
}

/* The decision of a hook: "hookSpecificOutput" of claude-cli-protocol §8.2. */
static int claude_on_hook(Harness *h, const char *id, json_object *request) {
        Claude *c = h->state;
        json_object *input = json_get(request, "input"), *tool_input = json_get(input, "tool_input"), *output;
        const char *tool = strempty(json_get_string(input, "tool_name"));
        _cleanup_json_ json_object *o = json_object_new_object();
        bool allowed = tool_is_allowed(c->allowed_tools, tool, tool_input);
        _cleanup_free_ char *why = NULL;
        int r;

        if (!c->sdk || !streq_ptr(json_get_string(request, "callback_id"), GATE))
                return claude_respond(h, id, NULL, "There is no such callback.");
        r = o ? put_object(o, "hookSpecificOutput", &output) : -ENOMEM;
        if (r >= 0)
                r = json_put_string(output, "hookEventName", "PreToolUse");
        if (r >= 0)
                r = json_put_string(output, "permissionDecision", allowed ? "allow" : "deny");
        if (r >= 0 && !allowed) {
                why = refusal(c, tool);
                r = why ? json_put_string(output, "permissionDecisionReason", why) : -ENOMEM;
        }
        return r < 0 ? r : claude_respond(h, id, TAKE_PTR(o), NULL);
}

static int claude_on_mcp_message(Harness *h, const char *id, json_object *request) {
        Claude *c = h->state;
        json_object *message = json_get(request, "message");
        const char *text;

        if (!c->sdk || (!c->wants_puffo && !h->adopted) || !h->handler.on_mcp ||
            !streq_ptr(json_get_string(request, "server_name"), "puffo"))
                return claude_respond(h, id, NULL, "There is no such MCP server.");
        if (!json_object_is_type(message, json_type_object))
                return claude_respond(h, id, NULL, "This is no JSON-RPC message.");
        text = json_text(message, NULL);
        return text ? harness_say_mcp(h, id, text) : -ENOMEM;
}

int claude_mcp_reply(Harness *h, const char *request_id, const char *message) {
        static const char none[] = "{\"jsonrpc\":\"2.0\",\"result\":{},\"id\":0}";
        _cleanup_json_ json_object *o = json_object_new_object(), *reply = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        message = message ?: none;
        r = harness_parse(message, strlen(message), &reply);
        if (r < 0)
                return r == -EBADMSG ? -EINVAL : r;
        r = json_put(o, "mcp_response", TAKE_PTR(reply));
        return r < 0 ? r : claude_respond(h, request_id, TAKE_PTR(o), NULL);
}

int claude_on_request(Harness *h, json_object *line) {
        json_object *request = json_get(line, "request");
        const char *id = json_get_string(line, "request_id"), *subtype = strempty(json_get_string(request, "subtype"));
        _cleanup_free_ char *error = NULL;
        int r;

        if (isempty(id))
                return 0;
        if (streq(subtype, "can_use_tool"))
                return claude_on_can_use_tool(h, id, request);
        if (streq(subtype, "hook_callback")) {
                crash_point("sdk-hook");
                r = claude_on_hook(h, id, request);
                crash_point("sdk-hook-answered");
                return r;
        }
        if (streq(subtype, "mcp_message"))
                return claude_on_mcp_message(h, id, request);
        /* Of a kind that was not announced: left to others, says the protocol. */
        if (streq(subtype, "request_user_dialog"))
                return 0;
        error = asprintf_new("Unsupported control request subtype: %.100s", subtype);
        return error ? claude_respond(h, id, NULL, error) : -ENOMEM;
}

int claude_on_cancel(Harness *h, json_object *line) {
        Claude *c = h->state;
        const char *id = json_get_string(line, "request_id");

        /* Of an ask that an earlier process has seen, too. */
        if (isempty(id) || c->sdk || (!claude_find_ask(c, id) && !h->adopted))
                return 0;
        claude_drop_ask(c, id);
        harness_say_ask_withdrawn(h, id);
        return 0;
}

int claude_on_response(Harness *h, json_object *line) {
        Claude *c = h->state;
        json_object *response = json_get(line, "response");
        const char *error = strempty(json_get_string(response, "error")),
                *id = strempty(json_get_string(response, "request_id"));
        _cleanup_free_ char *message = NULL;

        if (!streq_ptr(json_get_string(response, "subtype"), "error"))
                return 0;
        /* Of an earlier process: nothing that this one waits for. */
        if (!startswith(id, "puffo-") || !startswith(id + strlen("puffo-"), c->prefix))
                return 0;
        harness_warn(h, "A request was refused: %s", error);
        if (!streq_ptr(id, c->initialize_id))
                return 0;
        message = str_printable(error, 1000);
        harness_close_input(h);
        return harness_end_turn(h, &(HarnessResult) { .outcome = HARNESS_ERROR, .message = strempty(message) });
}
