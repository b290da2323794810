/* SPDX-License-Identifier: MIT */

/* How a turn of Codex has ended (codex-protocol §10). */

#include "codex.h"

/* The oldest whose protocol this is. */
#define VERSION_MAJOR 0U
#define VERSION_MINOR 110U

static const struct { const char *name; HarnessOutcome outcome; } kinds[] = {
        { "unauthorized", HARNESS_AUTH },
        { "rateLimitExceeded", HARNESS_TRANSIENT },
        { "internalServerError", HARNESS_TRANSIENT },
        { "serverOverloaded", HARNESS_TRANSIENT },
        { "flexUnavailable", HARNESS_TRANSIENT },
        { "policyCapacityUnavailable", HARNESS_TRANSIENT },
        { "responseStreamConnectionFailed", HARNESS_TRANSIENT },
        { "responseStreamDisconnected", HARNESS_TRANSIENT },
        { "httpConnectionFailed", HARNESS_TRANSIENT },
        { "responseTooManyFailedAttempts", HARNESS_TRANSIENT },
        { "usageLimitExceeded", HARNESS_LIMIT },
        { "sessionBudgetExceeded", HARNESS_LIMIT },
        { "contextWindowExceeded", HARNESS_TOO_LONG },
};

static HarnessOutcome outcome_of_status(long status, HarnessOutcome otherwise) {
        if (status == 401 || status == 403)
                return HARNESS_AUTH;
        if (status == 408 || status == 409 || status == 425 || status == 429 || (status >= 500 && status < 600))
                return HARNESS_TRANSIENT;
        return status >= 400 && status < 500 ? HARNESS_ERROR : otherwise;
}

/* Of an account's token that was refused: an agent has none with which it could be renewed, and it says only that. */
static bool is_refused_login(const char *message) {
        return strstr(message, "access token could not be refreshed") || strstr(message, "/oauth/token");
}

HarnessOutcome codex_outcome(json_object *error, long *ret_status) {
        json_object *info = json_get(error, "codexErrorInfo"), *inner = NULL;
        const char *name = json_get_string(error, "codexErrorInfo"),
                *message = strempty(json_get_string(error, "message"));
        HarnessOutcome outcome = HARNESS_ERROR;

        *ret_status = 0;
        if (json_object_is_type(info, json_type_object)) {
                json_object_object_foreach(info, key, value) {
                        name = key;
                        inner = value;
                        break;
                }
                *ret_status = (long) CLAMP(json_get_int(inner, "httpStatusCode", 0), 0, 999);
        }
        for (size_t i = 0; name && i < ELEMENTSOF(kinds); i++)
                if (streq(name, kinds[i].name))
                        outcome = kinds[i].outcome;
        /* All that it says of a stream that broke off. */
        if (streq_ptr(name, "other") && strstr(message, "stream disconnected"))
                outcome = HARNESS_TRANSIENT;
        return is_refused_login(message) ? HARNESS_AUTH : outcome_of_status(*ret_status, outcome);
}

HarnessOutcome codex_outcome_of_text(const char *text, long *ret_status) {
        static const char *const transient[] = {
                "stream disconnected", "rate limit", "high demand", "overloaded", "timed out", "timeout",
        };
        const char *status = strstr(text, "status: ") ?: strstr(text, "status ");

        *ret_status = 0;
        if (status) {
                status = strchr(status, ' ') + 1;
                if (strspn(status, "0123456789") == 3)
                        *ret_status = strtol(status, NULL, 10);
        }
        if (is_refused_login(text))
                return HARNESS_AUTH;
        if (strstr(text, "Quota exceeded") || strstr(text, "usage limit"))
                return HARNESS_LIMIT;
        if (strstr(text, "context window"))
                return HARNESS_TOO_LONG;
        for (size_t i = 0; i < ELEMENTSOF(transient); i++)
                if (strstr(text, transient[i]))
                        return outcome_of_status(*ret_status, HARNESS_TRANSIENT);
        return outcome_of_status(*ret_status, HARNESS_ERROR);
}

int codex_check_version(const char *user_agent, char **ret) {
        const char *slash = user_agent ? strchr(user_agent, '/') : NULL;
        _cleanup_free_ char *shown = NULL;
        unsigned long major, minor;
        char *end;

        *ret = NULL;
        if (!slash)
                return 0;
        major = strtoul(slash + 1, &end, 10);
        minor = *end == '.' ? strtoul(end + 1, NULL, 10) : 0;
        /* One without a number is somebody's own build: he will know. */
        if (end == slash + 1 || major > VERSION_MAJOR || (major == VERSION_MAJOR && minor >= VERSION_MINOR))
                return 0;
        shown = strndup(slash + 1, strcspn(slash + 1, " "));
        if (shown) {
                _cleanup_free_ char *printable = str_printable(shown, 40);

                *ret = printable ? asprintf_new("Codex %s is too old for puffo: %u.%u is the oldest that it works "
                                                "with; update it (npm install -g @openai/codex).", printable,
                                                VERSION_MAJOR, VERSION_MINOR) : NULL;
        }
        return *ret ? 0 : -ENOMEM;
}

const char* codex_lasting_fault(const char *error_tail) {
        static const char *const words[] = { "Error loading config", "error: unexpected argument",
                                             "error: unrecognized subcommand", "stdin is not a terminal" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++) {
                const char *at = strstr(error_tail, words[i]);

                if (at)
                        return at;
        }
        return NULL;
}

uint64_t codex_count(json_object *o, const char *key) {
        int64_t n = json_get_int(o, key, 0);

        /* Of these a sum must not wrap. */
        return n > 0 ? MIN((uint64_t) n, UINT64_C(1) << 40) : 0;
}
