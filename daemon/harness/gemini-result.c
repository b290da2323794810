/* SPDX-License-Identifier: MIT */

/* What the end of a turn says: its last line, or, of a program that did not come that far, the document on standard
 * error, or the words there. The program's exit status is not seen here. */

#include "gemini.h"

#define MESSAGE_CHARS_MAX 1000U

/* Of google.rpc.Code, as in error answers of the model's endpoint. */
static const struct { const char *name; HarnessOutcome outcome; } statuses[] = {
        { "UNAUTHENTICATED", HARNESS_AUTH },
        { "PERMISSION_DENIED", HARNESS_AUTH },
        { "RESOURCE_EXHAUSTED", HARNESS_TRANSIENT },
        { "UNAVAILABLE", HARNESS_TRANSIENT },
        { "INTERNAL", HARNESS_TRANSIENT },
        { "DEADLINE_EXCEEDED", HARNESS_TRANSIENT },
        { "ABORTED", HARNESS_TRANSIENT },
};

/* The program's kinds of errors, and exit statuses in documents. */
static const struct { const char *type; int64_t code; HarnessOutcome outcome; } types[] = {
        { "FatalAuthenticationError", 41, HARNESS_AUTH },
        { "FatalInputError", 42, HARNESS_ERROR },
        { "FatalSandboxError", 44, HARNESS_ERROR },
        { "FatalConfigError", 52, HARNESS_ERROR },
        { "FatalTurnLimitedError", 53, HARNESS_MAX_TURNS },
        { "FatalToolExecutionError", 54, HARNESS_ERROR },
        { "FatalUntrustedWorkspaceError", 55, HARNESS_ERROR },
        { "FatalCancellationError", 130, HARNESS_INTERRUPTED },
        { "TerminalQuotaError", -1, HARNESS_TRANSIENT },
        { "RetryableQuotaError", -1, HARNESS_TRANSIENT },
        { "ModelNotFoundError", -1, HARNESS_ERROR },
};

/* Where there is nothing but words: what is in them, not in the middle of what a model or a person wrote. */
static const struct { const char *words; HarnessOutcome outcome; } phrases[] = {
        { "Please set an Auth method", HARNESS_AUTH },
        { "Invalid auth method selected", HARNESS_AUTH },
        { "GEMINI_API_KEY", HARNESS_AUTH },
        { "API key not valid", HARNESS_AUTH },
        { "exhausted your", HARNESS_TRANSIENT },        /* capacity, quota */
        { "Please wait and try again later", HARNESS_TRANSIENT },
        { "[API Error: terminated]", HARNESS_TRANSIENT },
        { "fetch failed", HARNESS_TRANSIENT },
        { "ECONNREFUSED", HARNESS_TRANSIENT },
        { "ECONNRESET", HARNESS_TRANSIENT },
        { "ETIMEDOUT", HARNESS_TRANSIENT },
        { "socket hang up", HARNESS_TRANSIENT },
        { "Premature close", HARNESS_TRANSIENT },
        { "Model stream ended without", HARNESS_TRANSIENT },
};

static bool status_is_http(int64_t status) {
        return status >= 400 && status < 600;
}

static HarnessOutcome outcome_of_http(int64_t status) {
        if (status == 401 || status == 403)
                return HARNESS_AUTH;
        return status == 408 || status == 409 || status == 429 || status >= 500 ? HARNESS_TRANSIENT : HARNESS_ERROR;
}

/* Google refuses a wrong key as it refuses a wrong argument. */
static bool is_wrong_key(json_object *details) {
        for (size_t i = 0; json_object_is_type(details, json_type_array) && i < json_object_array_length(details);
             i++) {
                const char *reason = json_get_string(json_object_array_get_idx(details, i), "reason");

                if (streq_ptr(reason, "API_KEY_INVALID") || streq_ptr(reason, "API_KEY_EXPIRED"))
                        return true;
        }
        return false;
}

/* The endpoint's answer, which the program puts into its message as it came: "[API Error: {…}]". */
static json_object* embedded_answer(const char *message) {
        const char *begin = strchr(message, '{'), *end = strrchr(message, '}');
        _cleanup_json_ json_object *o = NULL;

        if (!begin || !end || end < begin || harness_parse(begin, (size_t) (end - begin) + 1, &o) < 0)
                return NULL;
        return TAKE_PTR(o);
}

static HarnessOutcome outcome_of_answer(json_object *error, long *ret_status) {
        int64_t code = json_get_int(error, "code", 0);
        const char *status = json_get_string(error, "status");

        if (status_is_http(code))
                *ret_status = (long) code;
        if (is_wrong_key(json_get(error, "details")))
                return HARNESS_AUTH;
        if (status_is_http(code))
                return outcome_of_http(code);
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++)
                if (streq_ptr(status, statuses[i].name))
                        return statuses[i].outcome;
        return HARNESS_ERROR;
}

/* type and code: what the program calls the error itself; 0: no code. */
static HarnessOutcome outcome_of(const char *type, int64_t code, const char *message, long *ret_status) {
        _cleanup_json_ json_object *answer = embedded_answer(message);

        if (json_object_is_type(json_get(answer, "error"), json_type_object))
                return outcome_of_answer(json_get(answer, "error"), ret_status);
        for (size_t i = 0; i < ELEMENTSOF(types); i++)
                if (streq_ptr(type, types[i].type) || (code > 0 && code == types[i].code))
                        return types[i].outcome;
        if (status_is_http(code)) {
                *ret_status = (long) code;
                return outcome_of_http(code);
        }
        for (size_t i = 0; i < ELEMENTSOF(phrases); i++)
                if (strstr(message, phrases[i].words))
                        return phrases[i].outcome;
        return HARNESS_ERROR;
}

static uint64_t count(json_object *o, const char *key) {
        int64_t n = json_get_int(o, key, 0);

        return n > 0 ? MIN((uint64_t) n, UINT64_C(1) << 48) : 0;
}

/* Thoughts are not told, only that the sum is more than its parts. */
static void take_stats(json_object *stats, ModelUsage *u) {
        uint64_t total = count(stats, "total_tokens"), output = count(stats, "output_tokens");

        u->input_tokens = count(stats, "input_tokens");
        u->cached_tokens = MIN(count(stats, "cached"), u->input_tokens);
        u->reasoning_tokens = total > u->input_tokens + output ? total - u->input_tokens - output : 0;
        u->output_tokens = output + u->reasoning_tokens;
}

static int take_line(Gemini *g, json_object *line, HarnessResult *result, const char **ret_message) {
        json_object *error = json_get(line, "error");
        const char *status = strempty(json_get_string(line, "status"));

        take_stats(json_get(line, "stats"), &result->usage);
        result->n_denied = g->n_denied;
        if (streq(status, "success")) {
                result->outcome = HARNESS_DONE;
                result->started = true;
                *ret_message = "";
                return 0;
        }
        *ret_message = json_get_string(error, "message") ?: json_get_string(error, "type") ?:
                       json_object_is_type(error, json_type_string) ? json_object_get_string(error) :
                       g->error ?: "unknown error";
        result->outcome = outcome_of(json_get_string(error, "type"), 0, *ret_message, &result->http_status);
        /* What it could not answer at all it takes out of the conversation again. */
        result->started = g->started;
        return 0;
}

/* The last JSON object of a text: where it begins, it is all that is left but space. -ENOMEM; NULL: none. */
static int last_document(const char *text, json_object **ret) {
        const char *end = text ? strrchr(text, '}') : NULL;
        unsigned n = 0;

        *ret = NULL;
        if (!end)
                return 0;
        for (const char *p = end; p-- > text && n < 1000;) {
                _cleanup_json_ json_object *o = NULL;
                int r;

                if (*p != '{' || (p > text && p[-1] != '\n' && p[-1] != ' '))
                        continue;
                n++;
                r = harness_parse(p, (size_t) (end - p) + 1, &o);
                if (r == -ENOMEM)
                        return r;
                if (r >= 0 && json_get(o, "error")) {
                        *ret = TAKE_PTR(o);
                        return 1;
                }
        }
        return 0;
}

static bool says_lost(const Gemini *g, const char *text) {
        return g->resumed && !g->echoed && (strstr(text, "No previous sessions found") ||
                                            strstr(text, "Invalid session identifier") ||
                                            strstr(text, "No previous session"));
}

static int take_errors(Gemini *g, HarnessResult *result, json_object **ret_document, const char **ret_message) {
        const char *text = strempty(g->errors.text);
        json_object *error;
        int r;

        result->started = g->echoed;
        *ret_message = NULL;
        if (says_lost(g, text)) {
                result->outcome = HARNESS_LOST_SESSION;
                return 0;
        }
        r = last_document(text, ret_document);
        if (r < 0)
                return r;
        error = json_get(*ret_document, "error");
        if (r > 0) {
                *ret_message = json_get_string(error, "message") ?: json_get_string(error, "type") ?:
                               json_object_is_type(error, json_type_string) ? json_object_get_string(error) :
                               "unknown error";
                result->outcome = outcome_of(json_get_string(error, "type"), json_get_int(error, "code", 0),
                                             *ret_message, &result->http_status);
                result->started = g->started;
                return 0;
        }
        result->outcome = HARNESS_GONE;
        if (g->echoed)
                return 0;
        /* It did not begin. */
        if (strstr(text, "Usage: gemini"))
                result->outcome = HARNESS_ERROR;
        else if (outcome_of(NULL, 0, text, &result->http_status) == HARNESS_AUTH)
                result->outcome = HARNESS_AUTH;
        return 0;
}

int gemini_result(Harness *h, json_object *line, HarnessResult *ret, char **ret_message) {
        _cleanup_json_ json_object *document = NULL;
        Gemini *g = h->state;
        HarnessResult result = {};
        const char *message;
        int r;

        r = line ? take_line(g, line, &result, &message) : take_errors(g, &result, &document, &message);
        if (r < 0)
                return r;
        *ret_message = message ? str_printable(message, MESSAGE_CHARS_MAX) : harness_error_tail(h);
        if (!*ret_message)
                return -ENOMEM;
        result.message = *ret_message;
        *ret = result;
        return 0;
}
