/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "responses-input.h"
#include "responses-object.h"
#include "responses-request.h"
#include "string-util.h"

#define METADATA_MAX 16
#define METADATA_KEY_CHARS 64
#define METADATA_VALUE_CHARS 512
#define MODEL_CHARS 200

void responses_request_done(ResponsesRequest *q) {
        free(q->model);
        free(q->previous_response_id);
        free(q->conversation);
        free(q->text);
        free(q->instructions);
        free(q->history);
        request_files_done(&q->files);
        json_object_put(q->items);
        json_object_put(q->response);
        *q = (ResponsesRequest) {};
}

static int set_invalid_type(ApiError *reterr, const char *param, const char *expected, json_object *value) {
        return api_error_set(reterr, 400, "invalid_type", param, "Invalid type for '%s': expected %s, but got %s.",
                             param, expected, json_type_word(value));
}

static size_t utf8_length(const char *s) {
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char) *s & 0xc0) != 0x80;
        return n;
}

typedef enum FieldType {
        FIELD_STRING,
        FIELD_BOOLEAN,
        FIELD_INTEGER,
        FIELD_NUMBER,
        FIELD_OBJECT,
        FIELD_ARRAY,
        FIELD_ANY,
} FieldType;

/* Fields whose type, and range where they have one, is all that is checked here. */
typedef struct Field {
        const char *name;
        FieldType type;
        bool echo;              /* shown in the response as given */
        double low, high;       /* of numbers; equal: any */
        const char *low_code;   /* code for values below low; NULL: invalid_value */
} Field;

static const Field fields[] = {
        { "model", FIELD_STRING },
        { "instructions", FIELD_STRING, true },
        { "stream", FIELD_BOOLEAN },
        { "stream_options", FIELD_OBJECT },
        { "previous_response_id", FIELD_STRING, true },
        { "store", FIELD_BOOLEAN, true },
        { "background", FIELD_BOOLEAN, true },
        { "metadata", FIELD_OBJECT, true },
        { "max_output_tokens", FIELD_INTEGER, true, 16, 1e15, "integer_below_min_value" },
        { "max_tool_calls", FIELD_INTEGER, true },
        { "temperature", FIELD_NUMBER, true, 0, 2, "decimal_below_min_value" },
        { "top_p", FIELD_NUMBER, true, 0, 1, "decimal_below_min_value" },
        { "top_logprobs", FIELD_INTEGER, false, 0, 20, "integer_below_min_value" },
        { "text", FIELD_OBJECT },
        { "reasoning", FIELD_OBJECT },
        { "tools", FIELD_ARRAY, true },
        { "parallel_tool_calls", FIELD_BOOLEAN, true },
        { "include", FIELD_ARRAY },
        { "truncation", FIELD_STRING, true },
        { "service_tier", FIELD_STRING },
        { "prompt_cache_key", FIELD_STRING, true },
        { "safety_identifier", FIELD_STRING, true },
        { "user", FIELD_STRING, true },
};

static bool field_type_matches(FieldType type, json_object *v) {
        switch (type) {
        case FIELD_STRING:
                return json_object_is_type(v, json_type_string);
        case FIELD_BOOLEAN:
                return json_object_is_type(v, json_type_boolean);
        case FIELD_INTEGER:
                return json_object_is_type(v, json_type_int);
        case FIELD_NUMBER:
                return json_object_is_type(v, json_type_int) || json_object_is_type(v, json_type_double);
        case FIELD_OBJECT:
                return json_object_is_type(v, json_type_object);
        case FIELD_ARRAY:
                return json_object_is_type(v, json_type_array);
        default:
                return true;
        }
}

static int field_check(const Field *f, json_object *v, ApiError *reterr) {
        static const char *const words[] = {
                [FIELD_STRING] = "a string", [FIELD_BOOLEAN] = "a boolean", [FIELD_INTEGER] = "an integer",
                [FIELD_NUMBER] = "a decimal", [FIELD_OBJECT] = "an object", [FIELD_ARRAY] = "an array",
        };
        double value;

        if (!field_type_matches(f->type, v))
                return set_invalid_type(reterr, f->name, words[f->type], v);
        if (f->type == FIELD_STRING && strlen(json_object_get_string(v)) != (size_t) json_object_get_string_len(v))
                return api_error_set(reterr, 400, "invalid_value", f->name, "Invalid value for '%s': a NUL character.",
                                     f->name);
        if (f->low == f->high)
                return 0;
        value = json_object_get_double(v);
        if (value < f->low)
                return api_error_set(reterr, 400, f->low_code, f->name,
                                     "Invalid '%s': below minimum value. Expected a value >= %g, but got %g instead.",
                                     f->name, f->low, value);
        if (!(value <= f->high))
                return api_error_set(reterr, 400,
                                     f->type == FIELD_INTEGER ? "integer_above_max_value" : "decimal_above_max_value",
                                     f->name,
                                     "Invalid '%s': above maximum value. Expected a value <= %g, but got %g instead.",
                                     f->name, f->high, value);
        return 0;
}

static int metadata_check(json_object *metadata, ApiError *reterr) {
        if (!metadata)
                return 0;
        if (json_object_object_length(metadata) > METADATA_MAX)
                return api_error_set(reterr, 400, "invalid_value", "metadata", "Invalid 'metadata': at most %d pairs.",
                                     METADATA_MAX);
        json_object_object_foreach(metadata, key, value) {
                const char *s = json_get_string(metadata, key);

                if (!s)
                        return api_error_set(reterr, 400, "invalid_value", "metadata",
                                             "Invalid 'metadata': values must be strings, but got %s.",
                                             json_type_word(value));
                if (utf8_length(key) > METADATA_KEY_CHARS || utf8_length(s) > METADATA_VALUE_CHARS)
                        return api_error_set(
                                        reterr, 400, "invalid_value", "metadata",
                                        "Invalid 'metadata': keys of at most %d and values of at most %d characters.",
                                        METADATA_KEY_CHARS, METADATA_VALUE_CHARS);
        }
        return 0;
}

static int conversation_parse(json_object *body, ResponsesRequest *q, ApiError *reterr) {
        json_object *c = json_get(body, "conversation"), *id = c;
        const char *s;

        if (!c)
                return 0;
        if (json_object_is_type(c, json_type_object))
                id = json_get(c, "id");
        if (!json_object_is_type(id, json_type_string))
                return set_invalid_type(reterr, "conversation", "a string or an object with an 'id'", c);
        if (q->previous_response_id)
                return api_error_set(reterr, 400, "mutually_exclusive_parameters", "previous_response_id",
                                     "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Give "
                                     "one of them.");
        s = json_object_get_string(id);
        if (strlen(s) != (size_t) json_object_get_string_len(id) || strlen(s) > 64 || !turn_id_is_valid(s))
                return api_error_set(reterr, 400, "invalid_value", "conversation",
                                     "Invalid 'conversation': 1 to 64 of A-Z, a-z, 0-9, '_' and '-'.");
        q->conversation = strdup(s);
        return q->conversation ? 0 : -ENOMEM;
}

static int tools_check(json_object *body, const RequestPolicy *policy, ApiError *reterr) {
        json_object *tools = json_get(body, "tools"), *choice = json_get(body, "tool_choice");
        const char *s = json_object_is_type(choice, json_type_string) ? json_object_get_string(choice) : NULL;

        if (policy->strict_tools && tools && json_object_array_length(tools) > 0)
                return api_error_set(reterr, 400, "unsupported_parameter", "tools",
                                     "Unsupported parameter: 'tools'. The agent has tools of its own.");
        if (!choice)
                return 0;
        if (!s && !json_object_is_type(choice, json_type_object))
                return set_invalid_type(reterr, "tool_choice", "a string or an object", choice);
        if (!s || (!streq(s, "none") && !streq(s, "auto")))
                return api_error_set(reterr, 400, "unsupported_value", "tool_choice",
                                     "Unsupported value: 'tool_choice' can be 'auto' or 'none' here, the agent "
                                     "chooses its tools.");
        return 0;
}

/* What text.format asks for, as a sentence to the agent. NULL for plain text. */
static int format_parse(json_object *body, char **ret, ApiError *reterr) {
        json_object *format = json_get(json_get(body, "text"), "format"), *schema;
        const char *type = json_get_string(format, "type"), *name, *text;

        if (!format)
                return 0;
        if (!json_object_is_type(format, json_type_object))
                return set_invalid_type(reterr, "text.format", "an object", format);
        if (!type)
                return api_error_set(reterr, 400, "missing_required_parameter", "text.format.type",
                                     "Missing required parameter: 'text.format.type'.");
        if (streq(type, "text"))
                return 0;
        if (streq(type, "json_object")) {
                *ret = strdup("Answer with a single JSON object and nothing else: no prose around it, no code fence.");
                return *ret ? 0 : -ENOMEM;
        }
        if (!streq(type, "json_schema"))
                return api_error_set(reterr, 400, "invalid_value", "text.format.type",
                                     "Invalid value for 'text.format.type'. Supported values are: 'text', "
                                     "'json_object', and 'json_schema'.");

        name = json_get_string(format, "name");
        schema = json_get(format, "schema");
        if (isempty(name))
                return api_error_set(reterr, 400, "missing_required_parameter", "text.format.name",
                                     "Missing required parameter: 'text.format.name'.");
        if (!schema)
                return api_error_set(reterr, 400, "missing_required_parameter", "text.format.schema",
                                     "Missing required parameter: 'text.format.schema'.");
        if (!json_object_is_type(schema, json_type_object))
                return set_invalid_type(reterr, "text.format.schema", "an object", schema);
        text = json_text(schema, NULL);
        *ret = text ? asprintf_new("Answer with a single JSON value that is valid against the following JSON schema "
                                   "(\"%s\") and nothing "
                                   "else: no prose around it, no code fence.\n%s",
                                   name, text)
                    : NULL;
        return *ret ? 0 : -ENOMEM;
}

/* Sets a member: the request's value if it has one, else a JSON literal. */
static int echo(json_object *response, json_object *body, const char *name, const char *fallback) {
        json_object *v = json_get(body, name);
        int r;

        if (v)
                return json_put(response, name, json_object_get(v));
        r = json_parse(fallback, strlen(fallback), &v);
        return r < 0 ? r : json_put(response, name, v);
}

/* text and reasoning, with the members that clients read. */
static int echo_text(json_object *response, json_object *body) {
        static const char fallback[] = "{\"format\":{\"type\":\"text\"},\"verbosity\":\"medium\"}";
        json_object *given = json_get(body, "text"), *text = NULL;

        if (json_parse(fallback, strlen(fallback), &text) < 0 ||
            json_put(response, "text", text) < 0)
                return -ENOMEM;
        if (json_get(given, "format") && json_put(text, "format", json_object_get(json_get(given, "format"))) < 0)
                return -ENOMEM;
        if (json_get_string(given, "verbosity"))
                return json_put_string(text, "verbosity", json_get_string(given, "verbosity"));
        return 0;
}

static int echo_reasoning(json_object *response, json_object *body) {
        json_object *given = json_get(body, "reasoning"), *o = json_object_new_object();

        if (!o || json_put(response, "reasoning", o) < 0)
                return -ENOMEM;
        if (json_put_string(o, "effort", json_get_string(given, "effort")) < 0)
                return -ENOMEM;
        return json_put_string(o, "summary", json_get_string(given, "summary"));
}

static int put_conversation(json_object *response, const char *id) {
        json_object *o;

        if (!id)
                return json_put_null(response, "conversation");
        o = json_object_new_object();
        if (!o || json_put(response, "conversation", o) < 0)
                return -ENOMEM;
        return json_put_string(o, "id", id);
}

/* Everything that does not change while the turn runs, in the order of the real service. */
static int response_new(json_object *body, ResponsesRequest *q) {
        static const struct {
                const char *name, *fallback;
        } echoed[] = {
                { "instructions", "null" }, { "max_output_tokens", "null" }, { "max_tool_calls", "null" },
                { "parallel_tool_calls", "true" }, { "previous_response_id", "null" }, { "prompt_cache_key", "null" },
                { "safety_identifier", "null" }, { "temperature", "1.0" }, { "tool_choice", "\"auto\"" },
                { "tools", "[]" }, { "top_p", "1.0" }, { "truncation", "\"disabled\"" }, { "user", "null" },
                { "metadata", "{}" },
        };
        json_object *o = q->response = json_object_new_object(), *output = json_object_new_array();
        int r = 0;

        if (!o || json_put_null(o, "id") < 0 || json_put_string(o, "object", "response") < 0 ||
            json_put_null(o, "created_at") < 0 || json_put_null(o, "completed_at") < 0 ||
            json_put_string(o, "status", "queued") < 0 || json_put_bool(o, "background", q->background) < 0 ||
            json_put_null(o, "error") < 0 || json_put_null(o, "incomplete_details") < 0 ||
            json_put_string(o, "model", q->model) < 0) {
                json_object_put(output);
                return -ENOMEM;
        }
        if (!output || json_put(o, "output", output) < 0)
                return -ENOMEM;
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(echoed); i++)
                r = echo(o, body, echoed[i].name, echoed[i].fallback);
        if (r < 0)
                return r;
        if (json_put_string(o, "service_tier", "default") < 0 || json_put_bool(o, "store", q->store) < 0 ||
            json_put_int(o, "top_logprobs", 0) < 0 || json_put_null(o, "usage") < 0)
                return -ENOMEM;
        if (put_conversation(o, q->conversation) < 0 || echo_text(o, body) < 0)
                return -ENOMEM;
        return echo_reasoning(o, body);
}

static int fields_check(json_object *body, const RequestPolicy *policy, ResponsesRequest *q, ApiError *reterr) {
        const char *s;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(fields); i++) {
                json_object *v = json_get(body, fields[i].name);

                r = v ? field_check(fields + i, v, reterr) : 0;
                if (r < 0)
                        return r;
        }
        if (json_get(body, "prompt"))
                return api_error_set(reterr, 400, "unsupported_parameter", "prompt",
                                     "Unsupported parameter: 'prompt'.");
        s = json_get_string(body, "truncation");
        if (s && !streq(s, "auto") && !streq(s, "disabled"))
                return api_error_set(reterr, 400, "invalid_value", "truncation",
                                     "Invalid value for 'truncation'. Supported values are: 'auto' and 'disabled'.");
        r = metadata_check(json_get(body, "metadata"), reterr);
        if (r < 0)
                return r;
        r = tools_check(body, policy, reterr);
        if (r < 0)
                return r;

        s = json_get_string(body, "model");
        q->model = strndup(isempty(s) ? "manager" : s, MODEL_CHARS);
        if (!q->model)
                return -ENOMEM;
        q->stream = json_get_bool(body, "stream", false);
        q->store = json_get_bool(body, "store", true);
        q->background = json_get_bool(body, "background", false);
        if (q->background && !q->store)
                return api_error_set(reterr, 400, "unsupported_value", "background",
                                     "Unsupported value: 'background' needs 'store', else nobody could fetch the "
                                     "response.");
        s = json_get_string(body, "previous_response_id");
        q->previous_response_id = s ? strdup(s) : NULL;
        if (s && !q->previous_response_id)
                return -ENOMEM;
        return conversation_parse(body, q, reterr);
}

int responses_request_parse(const char *text, size_t size, const RequestPolicy *policy, ResponsesRequest *ret,
                            ApiError *reterr) {
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_json_ json_object *body = NULL;
        _cleanup_free_ char *format = NULL, *joined = NULL;
        const char *instructions;
        int r;

        r = json_parse_deep(text, size, REQUEST_DEPTH_MAX, &body);
        if (r == -EBADMSG || (r >= 0 && !json_object_is_type(body, json_type_object)))
                return api_error_set(reterr, 400, NULL, NULL,
                                     "We could not parse the JSON body of your request. A JSON object is expected.");
        if (r < 0)
                return r;
        r = fields_check(body, policy, &q, reterr);
        if (r < 0)
                return r;
        r = format_parse(body, &format, reterr);
        if (r < 0)
                return r;

        instructions = json_get_string(body, "instructions");
        if (!isempty(instructions) && format) {
                joined = strjoin(instructions, "\n\n", format);
                if (!joined)
                        return -ENOMEM;
                instructions = joined;
        } else if (isempty(instructions))
                instructions = format;
        r = responses_input_parse(json_get(body, "input"), instructions, &q, reterr);
        if (r < 0)
                return r;
        r = response_new(body, &q);
        if (r < 0)
                return r;

        *ret = q;
        q = (ResponsesRequest) {};
        return 0;
}
