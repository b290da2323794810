/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "responses-object.h"
#include "string-util.h"

#define ID_RANDOM_BYTES 20
#define ERROR_MESSAGE_CHARS 1000

char* response_id_new(const char *agent_hash) {
        _cleanup_free_ char *random = random_hex(ID_RANDOM_BYTES);

        return random ? strjoin(RESPONSE_ID_PREFIX, agent_hash, random) : NULL;
}

bool response_id_is_valid(const char *id) {
        const char *digits = startswith(id, RESPONSE_ID_PREFIX);
        size_t n;

        if (!digits)
                return false;
        n = strspn(digits, "0123456789abcdef");
        return n == 8 + 2 * ID_RANDOM_BYTES && digits[n] == 0;
}

int response_object_copy(json_object *response, json_object **ret) {
        return json_object_deep_copy(response, ret, NULL) < 0 ? -ENOMEM : 0;
}

int response_set_status(json_object *response, const char *status) {
        return json_put_string(response, "status", status);
}

int response_set_usage(json_object *response, json_object *stream_usage) {
        int64_t input = MAX(json_get_int(stream_usage, "input_tokens", 0), (int64_t) 0);
        int64_t output = MAX(json_get_int(stream_usage, "output_tokens", 0), (int64_t) 0);
        json_object *usage, *details;

        usage = json_object_new_object();
        if (!usage || json_put(response, "usage", usage) < 0)
                return -ENOMEM;

        if (json_put_int(usage, "input_tokens", input) < 0)
                return -ENOMEM;
        details = json_object_new_object();
        if (!details || json_put(usage, "input_tokens_details", details) < 0 ||
            json_put_int(details, "cached_tokens", json_get_int(stream_usage, "cached_tokens", 0)) < 0 ||
            json_put_int(details, "cache_write_tokens", json_get_int(stream_usage, "cache_write_tokens", 0)) < 0)
                return -ENOMEM;
        if (json_put_int(usage, "output_tokens", output) < 0)
                return -ENOMEM;
        details = json_object_new_object();
        if (!details || json_put(usage, "output_tokens_details", details) < 0 ||
            json_put_int(details, "reasoning_tokens", json_get_int(stream_usage, "reasoning_tokens", 0)) < 0)
                return -ENOMEM;
        return json_put_int(usage, "total_tokens", input > INT64_MAX - output ? INT64_MAX : input + output);
}

/* The first characters of a text, never half of one. */
static size_t utf8_prefix(const char *s, size_t max_chars) {
        size_t n = 0;

        for (; s[n]; n++)
                if (((unsigned char) s[n] & 0xc0) != 0x80 && max_chars-- == 0)
                        break;
        return n;
}

int response_set_error(json_object *response, const char *code, const char *message) {
        static const char *const codes[] = { "server_error", "rate_limit_exceeded", "invalid_prompt" };
        const char *known = codes[0];
        json_object *error;

        for (size_t i = 0; i < ELEMENTSOF(codes); i++)
                if (streq_ptr(codes[i], code))
                        known = codes[i];
        if (isempty(message))
                message = "The agent could not finish this turn.";

        error = json_object_new_object();
        if (!error || json_put(response, "error", error) < 0)
                return -ENOMEM;
        if (json_put_string(error, "code", known) < 0)
                return -ENOMEM;
        return json_put_string_len(error, "message", message, utf8_prefix(message, ERROR_MESSAGE_CHARS));
}

int response_set_incomplete(json_object *response, const char *turn_reason) {
        json_object *details;

        /* The types know no reason for "somebody stopped it". */
        if (!streq_ptr(turn_reason, "deadline") && !streq_ptr(turn_reason, "length"))
                return json_put_null(response, "incomplete_details");
        details = json_object_new_object();
        if (!details || json_put(response, "incomplete_details", details) < 0)
                return -ENOMEM;
        return json_put_string(details, "reason", "max_output_tokens");
}

char* output_item_id(const char *item) {
        return startswith(item, "msg_") ? strdup(item) : strjoin("msg_", item);
}

static int put_array(json_object *o, const char *key) {
        json_object *a = json_object_new_array();

        return a ? json_put(o, key, a) : -ENOMEM;
}

int output_text_new(const char *text, size_t size, json_object **ret) {
        _cleanup_json_ json_object *part = json_object_new_object();

        if (!part ||
            json_put_string(part, "type", "output_text") < 0 ||
            json_put_string_len(part, "text", text, size) < 0 ||
            put_array(part, "annotations") < 0 ||
            put_array(part, "logprobs") < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(part);
        return 0;
}

int output_message_new(const char *item, const char *status, const char *text, size_t size, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *part = NULL;
        _cleanup_free_ char *id = output_item_id(item);
        int r;

        if (!o || !id ||
            json_put_string(o, "id", id) < 0 ||
            json_put_string(o, "type", "message") < 0 ||
            json_put_string(o, "status", status) < 0 ||
            json_put_string(o, "role", "assistant") < 0 ||
            put_array(o, "content") < 0)
                return -ENOMEM;
        if (!streq(status, "in_progress")) {
                r = output_text_new(text, size, &part);
                if (r < 0)
                        return r;
                if (json_object_array_add(json_get(o, "content"), part) < 0)
                        return -ENOMEM;
                TAKE_PTR(part);
        }
        *ret = TAKE_PTR(o);
        return 0;
}

static int response_set_end(json_object *response, const TurnRecord *t) {
        if (streq(t->status, "failed")) {
                if (t->usage && response_set_usage(response, t->usage) < 0)
                        return -ENOMEM;
                return response_set_error(response, t->error_code, t->error_message);
        }
        if (streq(t->status, "incomplete") && response_set_incomplete(response, t->reason) < 0)
                return -ENOMEM;
        if (streq(t->status, "completed") &&
            json_put_int(response, "completed_at", (int64_t) (t->ended_usec / USEC_PER_SEC)) < 0)
                return -ENOMEM;
        return response_set_usage(response, t->usage);
}

int response_from_turn(const TurnRecord *t, json_object **ret) {
        _cleanup_json_ json_object *response = NULL;
        json_object *output;
        int r;

        r = response_object_copy(json_get(t->document, "response"), &response);
        if (r < 0)
                return r;
        r = response_set_status(response, streq(t->status, "running") ? "in_progress" : t->status);
        if (r < 0)
                return r;

        output = json_object_new_array();
        if (!output || json_put(response, "output", output) < 0)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_messages; i++) {
                const TurnMessage *m = t->messages + i;
                json_object *item;

                r = output_message_new(m->item, m->complete ? "completed" : "incomplete", m->text, strlen(m->text),
                                       &item);
                if (r < 0)
                        return r;
                if (json_object_array_add(output, item) < 0) {
                        json_object_put(item);
                        return -ENOMEM;
                }
        }
        if (!turn_record_is_running(t)) {
                r = response_set_end(response, t);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(response);
        return 0;
}

static const char* item_id(json_object *items, size_t i) {
        return json_get_string(json_object_array_get_idx(items, i), "id");
}

int input_items_page(json_object *items, unsigned limit, bool ascending, const char *after, json_object **ret) {
        _cleanup_json_ json_object *page = json_object_new_object();
        size_t n = json_object_is_type(items, json_type_array) ? json_object_array_length(items) : 0, first = 0, count;
        json_object *data = json_object_new_array();

        if (!page || !data) {
                json_object_put(data);
                return -ENOMEM;
        }
        if (json_put_string(page, "object", "list") < 0 || json_put(page, "data", data) < 0)
                return -ENOMEM;

        /* Positions count in the order asked for; an id that is not there gives an empty page. */
        if (after) {
                while (first < n && !streq_ptr(item_id(items, ascending ? first : n - 1 - first), after))
                        first++;
                first = MIN(first + 1, n);
        }
        count = MIN((size_t) limit, n - first);
        for (size_t i = first; i < first + count; i++) {
                json_object *item = json_object_array_get_idx(items, ascending ? i : n - 1 - i);

                if (json_object_array_add(data, json_object_get(item)) < 0) {
                        json_object_put(item);
                        return -ENOMEM;
                }
        }
        if (json_put_string(page, "first_id", count > 0 ? item_id(data, 0) : NULL) < 0 ||
            json_put_string(page, "last_id", count > 0 ? item_id(data, count - 1) : NULL) < 0 ||
            json_put_bool(page, "has_more", first + count < n) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(page);
        return 0;
}
