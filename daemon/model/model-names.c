/* SPDX-License-Identifier: MIT */

#include "model.h"

/* Names only: whoever links nothing else of this room needs no network library. */

static const char *const providers[_MODEL_PROVIDER_MAX] = {
        [MODEL_ANTHROPIC] = "anthropic",
        [MODEL_OPENAI] = "openai",
        [MODEL_GOOGLE] = "google",
        [MODEL_ECHO] = "echo",
};

const char* model_provider_to_string(ModelProvider p) {
        return p >= 0 && p < _MODEL_PROVIDER_MAX ? providers[p] : NULL;
}

ModelProvider model_provider_from_string(const char *s) {
        for (ModelProvider p = 0; s && p < _MODEL_PROVIDER_MAX; p++)
                if (streq(providers[p], s))
                        return p;
        return _MODEL_PROVIDER_INVALID;
}

static const char *const error_kinds[_MODEL_ERROR_MAX] = {
        [MODEL_ERROR_NONE] = "none",
        [MODEL_ERROR_AUTH] = "auth",
        [MODEL_ERROR_BILLING] = "billing",
        [MODEL_ERROR_RATE_LIMIT] = "rate-limit",
        [MODEL_ERROR_OVERLOADED] = "overloaded",
        [MODEL_ERROR_CONNECT] = "connect",
        [MODEL_ERROR_TLS] = "tls",
        [MODEL_ERROR_TIMEOUT] = "timeout",
        [MODEL_ERROR_CUT] = "cut",
        [MODEL_ERROR_NOT_FOUND] = "not-found",
        [MODEL_ERROR_CONTEXT_LENGTH] = "context-length",
        [MODEL_ERROR_INVALID_REQUEST] = "invalid-request",
        [MODEL_ERROR_PROTOCOL] = "protocol",
        [MODEL_ERROR_CANCELLED] = "cancelled",
        [MODEL_ERROR_MEMORY] = "memory",
};

const char* model_error_kind_to_string(ModelErrorKind k) {
        return (size_t) k < ELEMENTSOF(error_kinds) ? error_kinds[k] : NULL;
}

ModelErrorKind model_error_kind_from_string(const char *s) {
        for (ModelErrorKind k = 0; s && k < _MODEL_ERROR_MAX; k++)
                if (streq(error_kinds[k], s))
                        return k;
        return _MODEL_ERROR_INVALID;
}

bool model_error_is_transient(ModelErrorKind k) {
        switch (k) {
        case MODEL_ERROR_RATE_LIMIT:
        case MODEL_ERROR_OVERLOADED:
        case MODEL_ERROR_CONNECT:
        case MODEL_ERROR_TIMEOUT:
        case MODEL_ERROR_CUT:
                return true;
        default:
                return false;
        }
}
