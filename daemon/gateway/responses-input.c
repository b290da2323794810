/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "json-util.h"
#include "responses-input.h"
#include "string-util.h"

#define HISTORY_MAX KIB(64)
#define ITEM_ID_MAX 128

typedef enum ItemKind {
        ITEM_MESSAGE,
        ITEM_KEPT,              /* listed, not given to the agent */
        ITEM_DROPPED,
        _ITEM_INVALID = -EINVAL,
} ItemKind;

const char* json_type_word(json_object *o) {
        switch (json_object_get_type(o)) {
        case json_type_null:
                return "null";
        case json_type_boolean:
                return "a boolean";
        case json_type_double:
                return "a decimal";
        case json_type_int:
                return "an integer";
        case json_type_object:
                return "an object";
        case json_type_array:
                return "an array";
        default:
                return "a string";
        }
}

static ItemKind item_kind(const char *type) {
        static const char *const kept[] = {
                "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
                "local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output",
                "apply_patch_call", "apply_patch_call_output", "computer_call", "computer_call_output",
                "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call",
                "additional_tools",
        };
        static const char *const kept_prefixes[] = { "mcp_", "tool_search_", "program" };
        static const char *const dropped[] = { "reasoning", "compaction", "compaction_trigger", "item_reference" };

        if (streq(type, "message"))
                return ITEM_MESSAGE;
        for (size_t i = 0; i < ELEMENTSOF(kept); i++)
                if (streq(type, kept[i]))
                        return ITEM_KEPT;
        for (size_t i = 0; i < ELEMENTSOF(kept_prefixes); i++)
                if (startswith(type, kept_prefixes[i]))
                        return ITEM_KEPT;
        for (size_t i = 0; i < ELEMENTSOF(dropped); i++)
                if (streq(type, dropped[i]))
                        return ITEM_DROPPED;
        return _ITEM_INVALID;
}

/* A text that may go over the bus: no NUL inside. */
static int text_check(json_object *text, const char *param, ApiError *reterr) {
        const char *s;

        if (!json_object_is_type(text, json_type_string))
                return api_error_set(reterr, 400, "invalid_type", param,
                                     "Invalid type for '%s': expected a string, but got %s.", param,
                                     json_type_word(text));
        s = json_object_get_string(text);
        if (strlen(s) != (size_t) json_object_get_string_len(text))
                return api_error_set(reterr, 400, "invalid_value", param, "Invalid value for '%s': a NUL character.",
                                     param);
        return 0;
}

/* What one pass over the items collects. */
typedef struct Collector {
        size_t first_new;               /* index behind the last assistant message: what is before is history */
        StrBuf text, instructions, history;
        RequestFiles *files;
        json_object *ids;
        char *base;
} Collector;

static void collector_done(Collector *c) {
        strbuf_done(&c->text);
        strbuf_done(&c->instructions);
        strbuf_done(&c->history);
        json_object_put(c->ids);
        free(c->base);
}

/* Appends the text of a content part, on a line of its own. with_files: what it holds is for the agent. */
static int part_read(Collector *c, json_object *part, const char *param, bool with_files, StrBuf *text,
                     ApiError *reterr) {
        const char *type = json_get_string(part, "type");
        _cleanup_free_ char *field = NULL, *shown = NULL;
        json_object *value;
        int r;

        if (!json_object_is_type(part, json_type_object))
                return api_error_set(reterr, 400, "invalid_type", param,
                                     "Invalid type for '%s': expected an object, but got %s.", param,
                                     json_type_word(part));
        if (!type)
                return api_error_set(reterr, 400, "missing_required_parameter", param,
                                     "Missing required parameter: '%s.type'.", param);
        if (streq(type, "input_audio"))
                return api_error_set(reterr, 400, "unsupported_value", param,
                                     "Unsupported value: agents of this server cannot take 'input_audio'.");
        if (streq(type, "input_image") || streq(type, "input_file"))
                return request_files_take(c->files, part, type, param, with_files, text, reterr);
        if (!streq(type, "input_text") && !streq(type, "output_text") && !streq(type, "refusal") &&
            !streq(type, "text")) {
                shown = str_printable(type, 40);
                return api_error_set(reterr, 400, "invalid_value", param,
                                     "Invalid value: '%s'. Supported values are: 'input_text', 'input_image', "
                                     "'input_file', 'output_text' and 'refusal'.",
                                     strempty(shown));
        }

        field = strjoin(param, streq(type, "refusal") ? ".refusal" : ".text");
        value = json_get(part, streq(type, "refusal") ? "refusal" : "text");
        if (!field)
                return -ENOMEM;
        if (!value)
                return api_error_set(reterr, 400, "missing_required_parameter", field,
                                     "Missing required parameter: '%s'.", field);
        r = text_check(value, field, reterr);
        if (r >= 0 && text->size > 0)
                r = strbuf_puts(text, "\n");
        if (r < 0)
                return r;
        return strbuf_append(text, json_object_get_string(value), (size_t) json_object_get_string_len(value));
}

/* The text of a message's content, parts joined by line ends. */
static int content_read(Collector *c, json_object *content, size_t index, bool with_files, StrBuf *text,
                        ApiError *reterr) {
        char param[64];
        int r;

        (void) snprintf(param, sizeof(param), "input[%zu].content", index);
        if (!content)
                return api_error_set(reterr, 400, "missing_required_parameter", param,
                                     "Missing required parameter: '%s'.", param);
        if (json_object_is_type(content, json_type_string)) {
                r = text_check(content, param, reterr);
                if (r < 0)
                        return r;
                return strbuf_append(text, json_object_get_string(content),
                                     (size_t) json_object_get_string_len(content));
        }
        if (!json_object_is_type(content, json_type_array))
                return api_error_set(reterr, 400, "invalid_type", param,
                                     "Invalid type for '%s': expected a string or an array, but got %s.", param,
                                     json_type_word(content));

        for (size_t i = 0; i < json_object_array_length(content); i++) {
                (void) snprintf(param, sizeof(param), "input[%zu].content[%zu]", index, i);
                r = part_read(c, json_object_array_get_idx(content, i), param, with_files, text, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The id the client gave, if it can be one and is the first of its kind; else one made of base and the index. */
static int item_set_id(json_object *item, json_object *ids, const char *base, size_t index) {
        const char *given = json_get_string(item, "id");
        char made[64];

        if (isempty(given) || strlen(given) > ITEM_ID_MAX || json_object_object_get_ex(ids, given, NULL)) {
                (void) snprintf(made, sizeof(made), "msg_%s%04zx", base, index);
                given = made;
        }
        if (json_put_bool(ids, given, true) < 0)
                return -ENOMEM;
        return given == made ? json_put_string(item, "id", made) : 0;
}

static int array_put_missing(json_object *o, const char *key) {
        json_object *a;

        if (json_object_is_type(json_get(o, key), json_type_array))
                return 0;
        a = json_object_new_array();
        return a ? json_put(o, key, a) : -ENOMEM;
}

/* What clients need not say of an answer that they send back, and read when they list it. */
static int parts_normalize(json_object *parts) {
        for (size_t i = 0; i < json_object_array_length(parts); i++) {
                json_object *part = json_object_array_get_idx(parts, i);

                if (streq_ptr(json_get_string(part, "type"), "output_text") &&
                    array_put_missing(part, "annotations") < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* Strings become lists of one part, as the real service lists them. */
static int message_normalize(json_object *item, const char *role) {
        json_object *content = json_get(item, "content"), *parts, *part;

        if (json_put_string(item, "type", "message") < 0)
                return -ENOMEM;
        if (!json_get(item, "status") && json_put_string(item, "status", "completed") < 0)
                return -ENOMEM;
        if (!json_object_is_type(content, json_type_string))
                return parts_normalize(content);

        part = json_object_new_object();
        if (!part)
                return -ENOMEM;
        if (json_put_string(part, "type", streq(role, "assistant") ? "output_text" : "input_text") < 0 ||
            json_put(part, "text", json_object_get(content)) < 0) {
                json_object_put(part);
                return -ENOMEM;
        }
        parts = json_object_new_array();
        if (!parts || json_object_array_add(parts, part) < 0) {
                json_object_put(part);
                json_object_put(parts);
                return -ENOMEM;
        }
        if (json_put(item, "content", parts) < 0)
                return -ENOMEM;
        return parts_normalize(parts);
}

static int paragraph_append(StrBuf *b, const char *prefix, const StrBuf *text) {
        int r = 0;

        if (text->size == 0)
                return 0;
        if (b->size > 0)
                r = strbuf_puts(b, "\n\n");
        if (r >= 0 && prefix)
                r = strbuf_printf(b, "%s: ", prefix);
        return r < 0 ? r : strbuf_append(b, text->text, text->size);
}

static int message_read(Collector *c, json_object *item, size_t index, ApiError *reterr) {
        _cleanup_(strbuf_done) StrBuf text = {};
        const char *role = json_get_string(item, "role");
        char param[64];
        int r;

        (void) snprintf(param, sizeof(param), "input[%zu].role", index);
        if (!role)
                return api_error_set(reterr, 400, "missing_required_parameter", param,
                                     "Missing required parameter: '%s'.", param);
        if (!streq(role, "user") && !streq(role, "assistant") && !streq(role, "system") && !streq(role, "developer")) {
                _cleanup_free_ char *shown = str_printable(role, 40);

                return api_error_set(reterr, 400, "invalid_value", param,
                                     "Invalid value: '%s'. Supported values are: 'assistant', 'system', 'developer', "
                                     "and 'user'.",
                                     strempty(shown));
        }
        r = content_read(c, json_get(item, "content"), index, index >= c->first_new && streq(role, "user"), &text,
                         reterr);
        if (r < 0)
                return r;

        if (index < c->first_new)
                r = paragraph_append(&c->history, role, &text);
        else if (streq(role, "user"))
                r = paragraph_append(&c->text, NULL, &text);
        else
                r = paragraph_append(&c->instructions, NULL, &text);
        return r < 0 ? r : message_normalize(item, role);
}

static int item_read(Collector *c, json_object *item, size_t index, ResponsesRequest *q, ApiError *reterr) {
        const char *type = json_get_string(item, "type");
        char param[64];
        ItemKind kind;
        int r;

        (void) snprintf(param, sizeof(param), "input[%zu]", index);
        if (!json_object_is_type(item, json_type_object))
                return api_error_set(reterr, 400, "invalid_type", param,
                                     "Invalid type for '%s': expected an object, but got %s.", param,
                                     json_type_word(item));
        if (!type && !json_get(item, "type") && json_get(item, "role"))
                type = "message";
        kind = type ? item_kind(type) : _ITEM_INVALID;
        if (kind < 0) {
                _cleanup_free_ char *shown = type ? str_printable(type, 40) : NULL;

                return api_error_set(reterr, 400, "invalid_value", param,
                                     "Invalid value: '%s' is no type of an input item.", strempty(shown));
        }
        if (kind == ITEM_DROPPED)
                return 0;
        if (kind == ITEM_MESSAGE) {
                r = message_read(c, item, index, reterr);
                if (r < 0)
                        return r;
        }
        r = item_set_id(item, c->ids, c->base, index);
        if (r < 0)
                return r;
        if (kind == ITEM_KEPT && (endswith(type, "_call") || endswith(type, "_call_output")) &&
            !json_get(item, "status") && json_put_string(item, "status", "completed") < 0)
                return -ENOMEM;
        if (json_object_array_add(q->items, json_object_get(item)) < 0) {
                json_object_put(item);
                return -ENOMEM;
        }
        return 0;
}

static size_t first_new_index(json_object *input) {
        for (size_t i = json_object_array_length(input); i > 0; i--) {
                json_object *item = json_object_array_get_idx(input, i - 1);
                const char *type = json_get_string(item, "type");

                if ((!type || streq(type, "message")) && streq_ptr(json_get_string(item, "role"), "assistant"))
                        return i;
        }
        return 0;
}

/* The last bytes of a transcript, from a paragraph's beginning. */
static int history_take(StrBuf *history, char **ret) {
        const char *s = history->text;

        if (history->size == 0)
                return 0;
        if (history->size > HISTORY_MAX) {
                const char *cut = history->text + (history->size - HISTORY_MAX);
                const char *paragraph = strstr(cut, "\n\n");

                s = paragraph ? paragraph + 2 : cut + strcspn(cut, "\n");
        }
        if (isempty(s))
                return 0;
        *ret = strdup(s);
        return *ret ? 0 : -ENOMEM;
}

static int collector_finish(Collector *c, ResponsesRequest *q, ApiError *reterr) {
        if (c->text.size == 0 && c->files->n == 0)
                return api_error_set(reterr, 400, "missing_required_parameter", "input",
                                     "There is nothing new for the agent: 'input' has no user text, image or file "
                                     "after the last assistant message.");
        q->text = strbuf_take(&c->text);
        if (!q->text)
                return -ENOMEM;
        if (c->instructions.size > 0) {
                q->instructions = strbuf_take(&c->instructions);
                if (!q->instructions)
                        return -ENOMEM;
        }
        return history_take(&c->history, &q->history);
}

/* A plain string is one user message. */
static int input_from_string(json_object *input, json_object **ret) {
        _cleanup_json_ json_object *items = json_object_new_array(), *item = json_object_new_object();

        if (!items || !item || json_put_string(item, "type", "message") < 0 ||
            json_put_string(item, "status", "completed") < 0 || json_put_string(item, "role", "user") < 0 ||
            json_put(item, "content", json_object_get(input)) < 0)
                return -ENOMEM;
        if (json_object_array_add(items, item) < 0)
                return -ENOMEM;
        TAKE_PTR(item);
        *ret = TAKE_PTR(items);
        return 0;
}

int responses_input_parse(json_object *input, const char *instructions, ResponsesRequest *q, ApiError *reterr) {
        _cleanup_(collector_done) Collector c = {
                .files = &q->files, .ids = json_object_new_object(), .base = random_hex(16),
        };
        _cleanup_json_ json_object *items = NULL;
        int r;

        q->items = json_object_new_array();
        if (!c.ids || !c.base || !q->items)
                return -ENOMEM;
        if (!input || (json_object_is_type(input, json_type_string) && json_object_get_string_len(input) == 0) ||
            (json_object_is_type(input, json_type_array) && json_object_array_length(input) == 0))
                return api_error_set(reterr, 400, "missing_required_parameter", "input",
                                     "Missing required parameter: 'input'.");
        if (json_object_is_type(input, json_type_string)) {
                r = text_check(input, "input", reterr);
                if (r >= 0)
                        r = input_from_string(input, &items);
                if (r < 0)
                        return r;
        } else if (json_object_is_type(input, json_type_array))
                items = json_object_get(input);
        else
                return api_error_set(reterr, 400, "invalid_type", "input",
                                     "Invalid type for 'input': expected a string or an array, but got %s.",
                                     json_type_word(input));

        c.first_new = first_new_index(items);
        if (instructions) {
                r = strbuf_puts(&c.instructions, instructions);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < json_object_array_length(items); i++) {
                r = item_read(&c, json_object_array_get_idx(items, i), i, q, reterr);
                if (r < 0)
                        return r;
        }
        return collector_finish(&c, q, reterr);
}
