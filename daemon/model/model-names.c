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

/* Anthropic: 5 MiB of base64 an image and 32 MB a request, of which some is left to the text; pixels count for less
 * when there are more than 20. OpenAI: 50 MB a request; what a turn may come with is less than it takes of one.
 * Google: 20 MB a request, and no GIF. */
static const ModelImageLimits image_limits[_MODEL_PROVIDER_MAX] = {
        [MODEL_ANTHROPIC] = { .each = MIB(5) / 4 * 3, .total = MIB(18), .gif = true },
        [MODEL_OPENAI] = { .each = MIB(15), .total = MIB(24), .gif = true },
        [MODEL_GOOGLE] = { .each = MIB(12), .total = MIB(12) },
};

const ModelImageLimits* model_provider_image_limits(ModelProvider p) {
        return p >= 0 && p < _MODEL_PROVIDER_MAX && image_limits[p].each > 0 ? image_limits + p : NULL;
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
