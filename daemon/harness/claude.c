/* SPDX-License-Identifier: MIT */

#include "claude.h"

static bool claude_listens(Harness *h) {
        return h->turn == TURN_RUNNING && !h->dead;
}

static void claude_forget_message(Claude *c) {
        c->message_id = mfree(c->message_id);
        c->message_reply = mfree(c->message_reply);
}

/* Forgets what belongs to one turn. */
static void claude_turn_done(Claude *c) {
        claude_forget_message(c);
        open_calls_done(&c->calls);
        c->last_message = mfree(c->last_message);
        c->error = mfree(c->error);
        c->turn_uuid[0] = 0;
        c->before = c->reply = (ModelUsage) {};
        c->started = false;
        c->interrupted_early = false;
        c->n_messages = 0;
}

static void claude_free(Harness *h) {
        Claude *c = h->state;

        claude_turn_done(c);
        claude_asks_done(c);
        (void) json_object_put(c->initialize);
        (void) strv_free(c->allowed_tools);
        free(c->initialize_id);
        free(c->session_id);
        free(c->prefix);
        free(c->reply_id);
        free(c->lost_words);
        h->state = mfree(c);
}

static int claude_start_real(Harness *h, const HarnessSetup *s, bool sdk) {
        Claude *c;
        int r;

        h->state = c = new0(Claude, 1);
        if (!c)
                return -ENOMEM;
        c->sdk = sdk;
        c->resumed = !sdk && claude_session_id_is_valid(s->session_id);
        c->wants_puffo = sdk ? s->puffo_tools : !isempty(s->mcp_config);
        /* A conversation that goes on may count what it has cost before. */
        c->cost_known = !h->adopted && !c->resumed;
        /* What was seen of it is not known: it may be long past its beginning. */
        c->initialized = h->adopted;

        c->prefix = random_hex(4);
        if (!c->prefix)
                return -ENOMEM;
        if (c->resumed) {
                c->session_id = strdup(s->session_id);
                if (!c->session_id)
                        return -ENOMEM;
        }
        if (!sdk)
                return 0;

        for (size_t i = 0; i < strv_length(s->allowed_tools); i++) {
                r = strv_extend(&c->allowed_tools, s->allowed_tools[i]);
                if (r < 0)
                        return r;
        }
        return claude_initialize_new(c, s, &c->initialize);
}

static int claude_start(Harness *h, const HarnessSetup *s) {
        return claude_start_real(h, s, /* sdk= */ false);
}

static int claude_sdk_start(Harness *h, const HarnessSetup *s) {
        return claude_start_real(h, s, /* sdk= */ true);
}

/* client_composed: no files that are put in for "@name", and no commands, but up to 2.1.197 those which the program
 * knows are run all the same ("/clear" begins a new conversation) when they are the very first thing in the text. */
static int claude_turn_line(Claude *c, const char *text, json_object **ret) {
        _cleanup_json_ json_object *line = json_object_new_object();
        json_object *message = json_object_new_object();
        _cleanup_free_ char *literal = *text == '/' ? strjoin("\n", text) : strdup(text);
        int r;

        r = line && message && literal ? json_put_string(line, "type", "user") : -ENOMEM;
        if (r < 0) {
                (void) json_object_put(message);
                return r;
        }
        r = json_put(line, "message", message);
        if (r >= 0)
                r = json_put_string(message, "role", "user");
        if (r >= 0)
                r = json_put_string_len(message, "content", literal, strlen(literal));
        if (r >= 0)
                r = json_put_null(line, "parent_tool_use_id");
        if (r >= 0)
                r = json_put_string(line, "session_id", c->session_id ?: "puffoagent-turn");
        if (r >= 0)
                r = json_put_string(line, "uuid", c->turn_uuid);
        if (r >= 0)
                r = json_put_bool(line, "client_composed", true);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(line);
        return 0;
}

/* A name that it is given is kept: of a message that it knows by that name it takes no notice. */
static int claude_name_turn(Harness *h) {
        Claude *c = h->state;
        sd_id128_t id;
        int r;

        r = h->turn_name ? sd_id128_from_string(h->turn_name, &id) : sd_id128_randomize(&id);
        if (r >= 0)
                (void) sd_id128_to_uuid_string(id, c->turn_uuid);
        return MIN(r, 0);
}

/* It reads them in this order; nobody needs to wait for an answer between the two. A second initialization does no
 * harm. */
static int claude_write_turn(Harness *h, json_object *line) {
        Claude *c = h->state;
        int r;

        if (c->initialize) {
                r = harness_write_json(h, c->initialize);
                if (r < 0)
                        return r;
                (void) json_object_put(TAKE_PTR(c->initialize));
        }
        return harness_write_json(h, line);
}

static int claude_turn(Harness *h, const char *text) {
        _cleanup_json_ json_object *line = NULL;
        Claude *c = h->state;
        int r;

        claude_turn_done(c);
        r = claude_name_turn(h);
        if (r < 0)
                return r;
        r = claude_turn_line(c, text, &line);
        return r < 0 ? r : claude_write_turn(h, line);
}

static int claude_adopt_turn(Harness *h, const char *last_message) {
        Claude *c = h->state;

        int r;

        claude_turn_done(c);
        c->started = true;
        if (h->turn_name) {
                r = claude_name_turn(h);
                if (r < 0)
                        return r;
        }
        /* It would wait for the rest of an answer that an earlier process has given in part, and asks a lot. */
        if (c->sdk) {
                r = harness_write(h, "\n", 1);
                if (r < 0)
                        return r;
        }
        if (!last_message)
                return 0;
        c->n_messages = 1;
        c->last_message = strdup(last_message);
        return c->last_message ? 0 : -ENOMEM;
}

/* Behind a line feed: what may be there of an earlier one is no line of its own then, and the program ends over it. */
static int claude_again(Harness *h, const char *text) {
        _cleanup_json_ json_object *line = NULL;
        Claude *c = h->state;
        int r;

        if (!*c->turn_uuid)
                return -EINVAL;
        c->started = false;
        r = claude_turn_line(c, text, &line);
        if (r >= 0)
                r = harness_write(h, "\n", 1);
        return r < 0 ? r : claude_write_turn(h, line);
}

static void usage_sum(ModelUsage *sum, const ModelUsage *u) {
        sum->input_tokens += u->input_tokens;
        sum->cached_tokens += u->cached_tokens;
        sum->cache_write_tokens += u->cache_write_tokens;
        sum->output_tokens += u->output_tokens;
        sum->reasoning_tokens += u->reasoning_tokens;
}

static void claude_usage(Harness *h, ModelUsage *ret) {
        const Claude *c = h->state;

        *ret = c->before;
        usage_sum(ret, &c->reply);
}

/* Of a reply the first event says what went in, and the last but one what came out. */
static void claude_note_usage(Claude *c, const char *type, json_object *event) {
        ModelUsage u;

        if (streq(type, "message_start")) {
                usage_sum(&c->before, &c->reply);
                claude_usage_read(json_get(json_get(event, "message"), "usage"), &c->reply);
        } else if (streq(type, "message_delta")) {
                claude_usage_read(json_get(event, "usage"), &u);
                c->reply.output_tokens = MAX(c->reply.output_tokens, u.output_tokens);
                c->reply.reasoning_tokens = MAX(c->reply.reasoning_tokens, u.reasoning_tokens);
        }
}

/* The text of the answer. With a stream's index a block has a name that every piece of it knows, also when an earlier
 * process saw the beginning. */

static int claude_message_begin(Harness *h, const char *id, const char *reply) {
        Claude *c = h->state;

        c->message_id = strdup(id);
        c->message_reply = strdup(reply);
        if (!c->message_id || !c->message_reply) {
                claude_forget_message(c);
                return -ENOMEM;
        }
        return harness_say_message_begin(h, c->message_id);
}

static int claude_message_cancel(Harness *h) {
        Claude *c = h->state;
        _cleanup_free_ char *id = TAKE_PTR(c->message_id);

        claude_forget_message(c);
        return id ? harness_say_message_cancel(h, id) : 0;
}

static int claude_turn_over(Harness *h) {
        int r;

        r = claude_message_cancel(h);
        if (r < 0)
                return r;
        claude_withdraw_asks(h);
        claude_turn_done(h->state);
        return 0;
}

static int claude_on_delta(Harness *h, json_object *line, json_object *event) {
        Claude *c = h->state;
        json_object *delta = json_get(event, "delta");
        const char *reply = json_get_string(line, "api_message_id") ?: c->reply_id;
        _cleanup_free_ char *text = NULL, *id = NULL;
        int r;

        if (!reply || !streq_ptr(json_get_string(delta, "type"), "text_delta"))
                return 0;
        r = harness_text_of(json_get(delta, "text"), &text);
        if (r < 0 || isempty(text))
                return r;

        id = asprintf_new("%s/%" PRIi64, reply, json_get_int(event, "index", 0));
        if (!id)
                return -ENOMEM;
        if (!streq_ptr(id, c->message_id)) {
                r = claude_message_cancel(h);
                if (r >= 0 && claude_listens(h))
                        r = claude_message_begin(h, id, reply);
                if (r < 0)
                        return r;
        }
        return harness_say_text(h, text, strlen(text));
}

static int claude_on_stream_event(Harness *h, json_object *line) {
        Claude *c = h->state;
        json_object *event = json_get(line, "event");
        const char *type = strempty(json_get_string(event, "type"));
        int r;

        if (!claude_listens(h) || json_get_string(line, "parent_tool_use_id"))
                return 0;
        c->started = true;
        claude_note_usage(c, type, event);
        if (streq(type, "message_start")) {
                /* A reply that broke off is asked for again. */
                r = claude_message_cancel(h);
                if (r < 0)
                        return r;
                r = free_and_strdup(&c->reply_id, json_get_string(json_get(event, "message"), "id"));
                return MIN(r, 0);
        }
        return streq(type, "content_block_delta") ? claude_on_delta(h, line, event) : 0;
}

static int claude_on_text(Harness *h, json_object *line, json_object *message, json_object *block) {
        Claude *c = h->state;
        const char *reply = json_get_string(message, "id"), *id;
        _cleanup_free_ char *text = NULL, *known = NULL;
        int r;

        r = harness_text_of(json_get(block, "text"), &text);
        if (r < 0 || isempty(text))
                return r;

        if (c->message_id && streq_ptr(reply, c->message_reply)) {
                known = TAKE_PTR(c->message_id);
                claude_forget_message(c);
                c->n_messages++;
                return harness_say_message_end(h, known, text);
        }

        r = claude_message_cancel(h);
        if (r < 0)
                return r;
        id = reply && c->last_message ? startswith(c->last_message, reply) : NULL;
        if (id && *id == '/')
                id = c->last_message;
        else
                id = json_get_string(line, "uuid") ?: reply;
        if (!id)
                return 0;
        c->n_messages++;
        r = harness_say_message_begin(h, id);
        if (r >= 0 && claude_listens(h))
                r = harness_say_text(h, text, strlen(text));
        if (r >= 0 && claude_listens(h))
                r = harness_say_message_end(h, id, text);
        if (r >= 0)
                c->last_message = mfree(c->last_message);
        return r;
}

static int claude_on_call(Harness *h, json_object *line, json_object *block) {
        Claude *c = h->state;
        const char *id = json_get_string(block, "id"), *name = json_get_string(block, "name");
        json_object *input = json_get(block, "input");
        const char *text = json_object_is_type(input, json_type_object) ? json_text(input, NULL) : "{}";
        int r;

        if (isempty(id) || !name)
                return 0;
        if (!text)
                return -ENOMEM;
        r = open_calls_add(&c->calls, id, name);
        if (r < 0)
                return r;
        return harness_say_tool(h, &(HarnessTool) {
                .phase = HARNESS_TOOL_STARTED,
                .id = id,
                .name = name,
                .input = text,
                .parent = json_get_string(line, "parent_tool_use_id"),
        });
}

static int claude_on_assistant(Harness *h, json_object *line) {
        Claude *c = h->state;
        json_object *message = json_get(line, "message"), *content = json_get(message, "content");
        const char *error = json_get_string(line, "error");
        int r;

        if (!claude_listens(h))
                return 0;
        c->started = true;
        /* What the program says itself is no answer: a failure of the model's endpoint, in words for its user. */
        if (error || streq_ptr(json_get_string(message, "model"), "<synthetic>")) {
                r = error ? free_and_strdup(&c->error, error) : 0;
                return r < 0 ? r : claude_message_cancel(h);
        }
        if (!json_object_is_type(content, json_type_array))
                return 0;

        for (size_t i = 0; i < json_object_array_length(content) && claude_listens(h); i++) {
                json_object *block = json_object_array_get_idx(content, i);
                const char *type = strempty(json_get_string(block, "type"));

                if (streq(type, "text") && !json_get_string(line, "parent_tool_use_id"))
                        r = claude_on_text(h, line, message, block);
                else if (streq(type, "tool_use"))
                        r = claude_on_call(h, line, block);
                else
                        r = 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The text of a tool's result: a string, or blocks of which some are text. */
static int result_text(json_object *content, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        if (!json_object_is_type(content, json_type_array))
                return harness_text_of(content, ret);
        for (size_t i = 0; i < json_object_array_length(content); i++) {
                _cleanup_free_ char *text = NULL;

                r = harness_text_of(json_get(json_object_array_get_idx(content, i), "text"), &text);
                if (r >= 0 && !isempty(text) && b.size > 0)
                        r = strbuf_append(&b, "\n", 1);
                if (r >= 0 && text)
                        r = strbuf_puts(&b, text);
                if (r < 0)
                        return r;
        }
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

static int claude_on_call_result(Harness *h, json_object *line, json_object *block) {
        Claude *c = h->state;
        const char *id = json_get_string(block, "tool_use_id");
        _cleanup_free_ char *text = NULL, *name = NULL;
        int r;

        if (isempty(id) || !streq_ptr(json_get_string(block, "type"), "tool_result"))
                return 0;
        r = result_text(json_get(block, "content"), &text);
        if (r < 0)
                return r;
        name = open_calls_take(&c->calls, id);
        return harness_say_tool(h, &(HarnessTool) {
                .phase = HARNESS_TOOL_ENDED,
                .id = id,
                .name = strempty(name),
                .output = strempty(text),
                .parent = json_get_string(line, "parent_tool_use_id"),
                .is_error = json_get_bool(block, "is_error", false),
        });
}

static int claude_on_user(Harness *h, json_object *line) {
        json_object *content = json_get(json_get(line, "message"), "content");
        int r;

        if (!claude_listens(h) || !json_object_is_type(content, json_type_array))
                return 0;
        for (size_t i = 0; i < json_object_array_length(content) && claude_listens(h); i++) {
                r = claude_on_call_result(h, line, json_object_array_get_idx(content, i));
                if (r < 0)
                        return r;
        }
        return 0;
}

static void claude_check_puffo(Harness *h, json_object *line) {
        Claude *c = h->state;
        json_object *servers = json_get(line, "mcp_servers");
        const char *status = "missing";

        if (!c->wants_puffo)
                return;
        if (json_object_is_type(servers, json_type_array))
                for (size_t i = 0; i < json_object_array_length(servers); i++) {
                        json_object *server = json_object_array_get_idx(servers, i);

                        if (streq_ptr(json_get_string(server, "name"), "puffo"))
                                status = json_get_string(server, "status") ?: "unknown";
                }
        if (streq(status, "connected")) {
                c->mcp_warned = false;
                return;
        }
        if (!c->mcp_warned)
                harness_warn(h, "The model has no Puffo tools: status of MCP server 'puffo': %s.", status);
        c->mcp_warned = true;
}

static int claude_on_system(Harness *h, json_object *line) {
        Claude *c = h->state;
        const char *subtype = strempty(json_get_string(line, "subtype"));

        if (streq(subtype, "init")) {
                c->initialized = true;
                c->started = true;
                claude_check_puffo(h, line);
                if (claude_listens(h) && c->interrupted_early)
                        return claude_interrupt(h);
        } else if (streq(subtype, "api_retry")) {
                int64_t status = json_get_int(line, "error_status", 0);
                _cleanup_free_ char *text = status > 0 ? asprintf_new("HTTP status %" PRIi64 ", ", status) : NULL;

                harness_warn(h, "The model's endpoint failed (%s%s); attempt %" PRIi64 " of %" PRIi64 " to ask again.",
                             strempty(text), json_get_string(line, "error") ?: "unknown",
                             json_get_int(line, "attempt", 0), json_get_int(line, "max_retries", 0));
        } else if (streq(subtype, "model_fallback") && json_get_string(line, "content"))
                harness_warn(h, "%s", json_get_string(line, "content"));
        return 0;
}

static void claude_on_rate_limit(Harness *h, json_object *line) {
        json_object *info = json_get(line, "rate_limit_info");

        if (streq_ptr(json_get_string(info, "status"), "rejected"))
                harness_warn(h, "The model's usage limit is reached (%s).",
                             json_get_string(info, "rateLimitType") ?: "kind unknown");
}

/* Every line names the conversation it belongs to. That of a program which could not start names none that exists. */
static int claude_note_session(Harness *h, json_object *line, bool is_result) {
        Claude *c = h->state;
        const char *id = json_get_string(line, "session_id");
        int r;

        if (c->sdk || isempty(id) || streq_ptr(id, c->session_id))
                return 0;
        if (is_result && json_get_bool(line, "is_error", false) && json_get_int(line, "num_turns", 0) == 0)
                return 0;
        r = harness_say_session(h, id);
        return r < 0 ? r : MIN(free_and_strdup(&c->session_id, id), 0);
}

/* A turn that it began by itself has a result too. */
static bool result_is_ours(Claude *c, json_object *line) {
        const char *id = json_get_string(line, "user_message_uuid");
        json_object *ids = json_get(line, "user_message_uuids");

        if (!*c->turn_uuid || (!id && !json_object_is_type(ids, json_type_array)))
                return true;
        if (streq_ptr(id, c->turn_uuid))
                return true;
        for (size_t i = 0; ids && i < json_object_array_length(ids); i++) {
                json_object *o = json_object_array_get_idx(ids, i);

                if (json_object_is_type(o, json_type_string) && streq(json_object_get_string(o), c->turn_uuid))
                        return true;
        }
        return false;
}

static int claude_on_result(Harness *h, json_object *line) {
        Claude *c = h->state;
        _cleanup_free_ char *message = NULL, *text = NULL;
        HarnessResult result;
        int r;

        r = claude_result(h, line, &result, &message);
        if (r < 0 || !claude_listens(h) || !result_is_ours(c, line))
                return r;

        r = claude_message_cancel(h);
        if (r < 0)
                return r;
        /* A text that no message had: of a hook, of a command. */
        if (result.outcome == HARNESS_DONE && c->n_messages == 0 && json_get_string(line, "uuid")) {
                const char *id = json_get_string(line, "uuid");

                r = harness_text_of(json_get(line, "result"), &text);
                if (r >= 0 && !isempty(text)) {
                        r = harness_say_message_begin(h, id);
                        if (r >= 0 && claude_listens(h))
                                r = harness_say_text(h, text, strlen(text));
                        if (r >= 0 && claude_listens(h))
                                r = harness_say_message_end(h, id, text);
                }
                if (r < 0)
                        return r;
        }
        if (!claude_listens(h))
                return 0;
        if (c->sdk)
                harness_close_input(h);
        return harness_end_turn(h, &result);
}

/* Whether the turn gets on with it (message-pipeline §11.3). */
static bool claude_is_progress(const char *type, json_object *line) {
        static const char *const types[] = {
                "assistant", "user", "result", "control_request", "control_cancel_request", "control_response",
                "tool_progress",
        };
        /* Compaction, the work of sub-agents and of hooks. */
        static const char *const subtypes[] = { "init", "compact_", "task_", "hook_", "thinking_tokens" };
        const char *subtype = strempty(json_get_string(line, "subtype"));

        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (streq(type, types[i]))
                        return true;
        if (streq(type, "stream_event"))
                return !streq_ptr(json_get_string(json_get(line, "event"), "type"), "ping");
        for (size_t i = 0; i < ELEMENTSOF(subtypes) && streq(type, "system"); i++)
                if (startswith(subtype, subtypes[i]))
                        return true;
        return false;
}

static int claude_on_object(Harness *h, json_object *line) {
        const char *type = strempty(json_get_string(line, "type"));
        bool is_result = streq(type, "result");
        int r;

        if (claude_is_progress(type, line))
                harness_say_progress(h);
        if (is_result || streq(type, "system") || streq(type, "assistant")) {
                r = claude_note_session(h, line, is_result);
                if (r < 0 || h->dead)
                        return r;
        }
        if (is_result)
                return claude_on_result(h, line);
        if (streq(type, "assistant"))
                return claude_on_assistant(h, line);
        if (streq(type, "user"))
                return claude_on_user(h, line);
        if (streq(type, "stream_event"))
                return claude_on_stream_event(h, line);
        if (streq(type, "system"))
                return claude_on_system(h, line);
        if (streq(type, "control_request"))
                return claude_on_request(h, line);
        if (streq(type, "control_response"))
                return claude_on_response(h, line);
        if (streq(type, "control_cancel_request"))
                return claude_on_cancel(h, line);
        if (streq(type, "rate_limit_event"))
                claude_on_rate_limit(h, line);
        /* There are more with each release. */
        return 0;
}

static int claude_line(Harness *h, const char *line, size_t size) {
        return harness_take_object(h, line, size, claude_on_object);
}

static int claude_error_line(Harness *h, const char *line, size_t size) {
        Claude *c = h->state;

        if (!c->resumed || c->initialized || !startswith(line, CLAUDE_LOST_WORDS))
                return 0;
        return free_and_strdup(&c->lost_words, line) < 0 ? -ENOMEM : 1;
}

static int claude_eof(Harness *h) {
        Claude *c = h->state;
        bool lost = c->lost_words && !c->initialized;
        _cleanup_free_ char *message = lost ? str_printable(c->lost_words, 1000) : harness_error_tail(h);

        return harness_end_turn(h, &(HarnessResult) {
                .outcome = lost ? HARNESS_LOST_SESSION : HARNESS_GONE,
                .message = strempty(message),
                .started = c->started,
        });
}

const HarnessDriver claude_driver = {
        .name = "claude-code",
        .launch = claude_launch,
        .start = claude_start,
        .free = claude_free,
        .turn = claude_turn,
        .adopt_turn = claude_adopt_turn,
        .again = claude_again,
        .usage = claude_usage,
        .turn_over = claude_turn_over,
        .line = claude_line,
        .error_line = claude_error_line,
        .eof = claude_eof,
        .interrupt = claude_interrupt,
        .answer = claude_answer,
        .set_model = claude_set_model,
};

const HarnessDriver claude_sdk_driver = {
        .name = "claude-sdk",
        .per_turn = true,
        .launch = claude_sdk_launch,
        .start = claude_sdk_start,
        .free = claude_free,
        .turn = claude_turn,
        .adopt_turn = claude_adopt_turn,
        .again = claude_again,
        .usage = claude_usage,
        .turn_over = claude_turn_over,
        .line = claude_line,
        .eof = claude_eof,
        .interrupt = claude_interrupt,
        .answer = claude_answer,
        .mcp_reply = claude_mcp_reply,
        .set_model = claude_set_model,
};
