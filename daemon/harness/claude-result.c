/* SPDX-License-Identifier: MIT */

/* What the line that ends a turn says (claude-cli-protocol §§4.3, 6): by its structure; its text is for people. */

#include "claude.h"

#define MESSAGE_CHARS_MAX 1000U

static bool is_one_of(const char *s, const char *const *list, size_t n) {
        for (size_t i = 0; s && i < n; i++)
                if (streq(s, list[i]))
                        return true;
        return false;
}

/* An account's trouble: nothing here can do anything about it, its owner can. */
static bool error_is_auth(const char *error, int64_t status) {
        static const char *const list[] = {
                "authentication_failed", "oauth_org_not_allowed", "account_on_hold", "verification_required",
                "cloud_credential_error",
        };

        return status == 401 || is_one_of(error, list, ELEMENTSOF(list));
}

static bool error_is_transient(const char *error, int64_t status) {
        static const char *const list[] = { "rate_limit", "overloaded", "server_error" };

        return status == 408 || status == 409 || status == 429 || (status >= 500 && status < 600) ||
               is_one_of(error, list, ELEMENTSOF(list));
}

static bool errors_say_lost(json_object *line) {
        json_object *errors = json_get(line, "errors");

        for (size_t i = 0; json_object_is_type(errors, json_type_array) && i < json_object_array_length(errors); i++) {
                json_object *o = json_object_array_get_idx(errors, i);

                if (json_object_is_type(o, json_type_string) &&
                    startswith(json_object_get_string(o), CLAUDE_LOST_WORDS))
                        return true;
        }
        return false;
}

static HarnessOutcome result_outcome(Harness *h, json_object *line) {
        Claude *c = h->state;
        const char *subtype = strempty(json_get_string(line, "subtype")),
                *reason = strempty(json_get_string(line, "terminal_reason"));
        int64_t status = json_get_int(line, "api_error_status", 0);

        if (streq(subtype, "success") && !json_get_bool(line, "is_error", false))
                return HARNESS_DONE;
        if (streq(subtype, "error_max_turns") || streq(subtype, "error_max_budget_usd"))
                return HARNESS_MAX_TURNS;
        if (startswith(reason, "aborted") || (h->interrupting && streq(subtype, "error_during_execution")))
                return HARNESS_INTERRUPTED;
        if (c->resumed && !c->initialized && errors_say_lost(line))
                return HARNESS_LOST_SESSION;
        if (error_is_auth(c->error, status))
                return HARNESS_AUTH;
        if (error_is_transient(c->error, status))
                return HARNESS_TRANSIENT;
        return HARNESS_ERROR;
}

static int result_message(Claude *c, json_object *line, HarnessOutcome outcome, char **ret) {
        json_object *errors = json_get(line, "errors");
        const char *text = json_get_string(line, "result");
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = 0;

        if (outcome == HARNESS_DONE)
                return 0;
        if (c->error)
                r = strbuf_printf(&b, "%s", c->error);
        if (r >= 0 && !isempty(text))
                r = strbuf_printf(&b, "%s%s", b.size > 0 ? ": " : "", text);
        for (size_t i = 0; r >= 0 && json_object_is_type(errors, json_type_array) &&
                           i < json_object_array_length(errors) && b.size < KIB(16); i++) {
                json_object *o = json_object_array_get_idx(errors, i);

                if (json_object_is_type(o, json_type_string))
                        r = strbuf_printf(&b, "%s%s", b.size > 0 ? "; " : "", json_object_get_string(o));
        }
        if (r >= 0 && b.size == 0)
                r = strbuf_puts(&b, strempty(json_get_string(line, "subtype")));
        if (r < 0)
                return r;
        *ret = str_printable(strempty(b.text), MESSAGE_CHARS_MAX);
        return *ret ? 0 : -ENOMEM;
}

static uint64_t count(json_object *o, const char *key) {
        int64_t n = json_get_int(o, key, 0);

        /* Of these a sum must not wrap. */
        return n > 0 ? MIN((uint64_t) n, UINT64_C(1) << 48) : 0;
}

void claude_usage_read(json_object *usage, ModelUsage *ret) {
        *ret = (ModelUsage) {
                .cached_tokens = count(usage, "cache_read_input_tokens"),
                .cache_write_tokens = count(usage, "cache_creation_input_tokens"),
                .output_tokens = count(usage, "output_tokens"),
                .reasoning_tokens = count(json_get(usage, "output_tokens_details"), "thinking_tokens"),
        };
        ret->input_tokens = count(usage, "input_tokens") + ret->cached_tokens + ret->cache_write_tokens;
}

static double number(json_object *o, const char *key) {
        json_object *v = json_get(o, key);
        double d;

        if (!json_object_is_type(v, json_type_double) && !json_object_is_type(v, json_type_int))
                return -1;
        d = json_object_get_double(v);
        return d >= 0 && d < 1e9 ? d : -1;
}

/* The program counts from its start on, and with a conversation that goes on perhaps from before. */
static void result_cost(Claude *c, json_object *line, HarnessResult *result) {
        double total = number(line, "total_cost_usd");

        if (total < 0)
                return;
        if (c->cost_known && total >= c->cost) {
                result->cost_known = true;
                result->cost_micros = (uint64_t) ((total - c->cost) * 1e6 + 0.5);
        }
        c->cost = total;
        c->cost_known = true;
}

int claude_result(Harness *h, json_object *line, HarnessResult *ret, char **ret_message) {
        Claude *c = h->state;
        json_object *denials = json_get(line, "permission_denials");
        HarnessResult result = { .outcome = result_outcome(h, line) };
        int r;

        r = result_message(c, line, result.outcome, ret_message);
        if (r < 0)
                return r;
        result.message = strempty(*ret_message);
        result.http_status = (long) CLAMP(json_get_int(line, "api_error_status", 0), 0, 999);
        result.started = c->started;

        claude_usage_read(json_get(line, "usage"), &result.usage);
        result_cost(c, line, &result);
        if (json_object_is_type(denials, json_type_array))
                result.n_denied = json_object_array_length(denials);

        *ret = result;
        return 0;
}
