/* SPDX-License-Identifier: MIT */
#pragma once

#include "http-client.h"
#include "macro.h"

/* One streamed call to a model provider. A call is one request and one reply; loops over several calls are the
 * session's. Wire formats: provider-apis §§2–6. */

typedef enum ModelProvider {
        MODEL_ANTHROPIC,
        MODEL_OPENAI,           /* Chat Completions, of OpenAI or of any compatible base URL */
        MODEL_GOOGLE,
        MODEL_ECHO,             /* answers with the text it was given: for trying out without a key */
        _MODEL_PROVIDER_MAX,
        _MODEL_PROVIDER_INVALID = -EINVAL,
} ModelProvider;

const char* model_provider_to_string(ModelProvider p);
ModelProvider model_provider_from_string(const char *s);
/* Used when neither the agent nor the daemon names a model (agent-runtime §5.5, §6.6). */
const char* model_provider_default_model(ModelProvider p);
/* The variables the vendors' own clients read, or NULL: base URL of that provider from the environment. */
const char* model_provider_base_url_from_environment(ModelProvider p);

/* "x-api-key: " and the like: what stands in front of a key. NULL for echo. */
const char* model_provider_key_header(ModelProvider p);
/* A URL of the provider's: path ("/messages") goes below the version, which base (NULL or "": environment, then the
 * vendor's) may have or not. -EINVAL for echo, and a base with a query or a fragment; -ENOMEM. */
int model_provider_url(ModelProvider p, const char *base, const char *path, char **ret);

/* Why a call failed, in the terms in which callers decide. */
typedef enum ModelErrorKind {
        MODEL_ERROR_NONE,
        MODEL_ERROR_AUTH,               /* key missing, wrong, or without permission */
        MODEL_ERROR_BILLING,            /* quota or credit used up; waiting does not help */
        MODEL_ERROR_RATE_LIMIT,         /* retry_after_usec says when, or USEC_INFINITY */
        MODEL_ERROR_OVERLOADED,         /* 5xx, 529 */
        MODEL_ERROR_CONNECT,            /* could not reach it */
        MODEL_ERROR_TLS,                /* who answers cannot prove to be it */
        MODEL_ERROR_TIMEOUT,            /* silence for longer than the limit */
        MODEL_ERROR_CUT,                /* the stream ended before its terminal event */
        MODEL_ERROR_NOT_FOUND,          /* no such model */
        MODEL_ERROR_CONTEXT_LENGTH,     /* the input is too long */
        MODEL_ERROR_INVALID_REQUEST,    /* anything else it refuses for good */
        MODEL_ERROR_PROTOCOL,           /* an answer that is not the protocol (HTML, bad JSON) */
        MODEL_ERROR_CANCELLED,
        MODEL_ERROR_MEMORY,
        _MODEL_ERROR_MAX,
        _MODEL_ERROR_INVALID = -EINVAL,
} ModelErrorKind;

const char* model_error_kind_to_string(ModelErrorKind k);       /* "auth", "rate-limit", … for logs and the bus */
ModelErrorKind model_error_kind_from_string(const char *s);
/* Worth another try with the same input (after retry_after_usec). */
bool model_error_is_transient(ModelErrorKind k);

typedef enum ModelStop {
        MODEL_STOP_END,         /* the model was done */
        MODEL_STOP_TOOLS,       /* it wants tools to be called: calls of the result, at least one */
        MODEL_STOP_LENGTH,      /* cut by max_tokens */
        MODEL_STOP_REFUSAL,     /* refused or filtered; text may be empty */
        MODEL_STOP_OTHER,
} ModelStop;

typedef struct ModelUsage {
        uint64_t input_tokens;          /* all of it, cached parts included */
        uint64_t cached_tokens, cache_write_tokens;
        uint64_t output_tokens, reasoning_tokens;
} ModelUsage;

/* Tools are offered under "mcp__puffo__<name>", as they are called elsewhere; in these structures names are bare. */
typedef struct ModelTool {
        const char *name, *description;
        const char *schema;             /* JSON schema of an object */
} ModelTool;

#define MODEL_CALLS_MAX 32U             /* of one reply */
#define MODEL_ARGUMENTS_MAX MIB(1)      /* of one call */
/* All calls of a reply together, and what the provider wants to see again besides. */
#define MODEL_STEP_SIZE_MAX MIB(4)

typedef struct ModelToolCall {
        const char *id;                 /* never "": ours when the provider has none */
        const char *name;
        const char *arguments;          /* text as the model gave it: JSON, or not; "": none */
} ModelToolCall;

typedef struct ModelToolResult {
        const char *id, *name;          /* of the call */
        const char *text;
        bool is_error;
} ModelToolResult;

/* Images are read while they are sent, from the beginning of the file. */
#define MODEL_IMAGES_MAX 20U            /* of one call */

typedef struct ModelImage {
        const char *type;               /* image/png, image/jpeg, image/gif or image/webp */
        uint64_t size;                  /* in bytes, not 0 */
        int fd;                         /* a regular file; borrowed */
} ModelImage;

/* What a provider takes in one call. Of bytes of files; it counts them as base64. */
typedef struct ModelImageLimits {
        uint64_t each, total;
        bool gif;
} ModelImageLimits;
/* NULL: it takes none. */
const ModelImageLimits* model_provider_image_limits(ModelProvider p);

typedef struct ModelResult {
        ModelErrorKind error;           /* MODEL_ERROR_NONE: success */
        long http_status;               /* 0 when none was seen */
        uint64_t retry_after_usec;      /* given by the provider, relative; USEC_INFINITY: not given */
        const char *message;            /* provider's text (of a refusal: its reason), bounded and without the key, for
                                         * logs and operators only, never for a chat; may be NULL */
        const char *request_id;         /* provider's id of the call, may be NULL */
        const char *text;               /* the whole reply, "" when there is none; on failure what came before it */
        ModelStop stop;
        const ModelToolCall *calls;     /* only with MODEL_STOP_TOOLS */
        size_t n_calls;
        const char *opaque;             /* belongs to the message of these calls (ModelMessage.opaque); may be NULL */
        bool call_cut;                  /* with MODEL_STOP_LENGTH: what was cut is a call; none of the reply is made */
        bool tools_refused;             /* the model or server knows no tools: it was asked without them */
        bool images_refused;            /* … does not take the images: it was told that there are some instead */
        ModelUsage usage;
} ModelResult;

typedef enum ModelRole {
        MODEL_ROLE_USER,
        MODEL_ROLE_ASSISTANT,
} ModelRole;

typedef struct ModelMessage {
        ModelRole role;
        const char *text;               /* may be blank when there is something of the following */
        const ModelToolCall *calls;     /* of the assistant; the next message has their results, in this order */
        size_t n_calls;
        const char *opaque;             /* of the assistant, as it came with the calls; of use to that provider only */
        const ModelToolResult *results; /* of the user: in front of the text */
        size_t n_results;
        const ModelImage *images;       /* of the user: behind results, in front of the text */
        size_t n_images;
} ModelMessage;

typedef struct ModelCall ModelCall;

typedef struct ModelCallSpec {
        ModelProvider provider;
        const char *base_url;           /* NULL or "": environment, then the vendor's. Of openai with the version, as
                                         * ".../v1"; of the others with or without */
        const char *api_key;            /* NULL or "" allowed with a foreign base URL */
        const char *model;              /* NULL or "": default of the provider */
        const char *system;             /* NULL or "": none */
        const ModelMessage *messages;   /* oldest first; the last one that is not blank must be the user's. Adjacent
                                         * ones of a role are merged, blank and leading assistant ones dropped, as
                                         * the providers want it */
        size_t n_messages;
        const ModelTool *tools;
        size_t n_tools;
        bool no_calls;                  /* the tools are there for what was called before: not to be called again */
        uint64_t max_tokens;            /* 0: 2048 */
        uint64_t idle_timeout_usec;     /* 0: 120 s */
        /* A piece of the reply: never empty, never a cut code point. Must not free the call or any other, nor start
         * one. */
        void (*on_delta)(ModelCall *c, const char *text, size_t size, void *userdata);
        /* Exactly once, from the event loop, never from inside model_call_start(); not after model_call_free().
         * May free the call, and the strings of r with it. */
        void (*on_done)(ModelCall *c, const ModelResult *r, void *userdata);
        void *userdata;
} ModelCallSpec;

/* Starts a call (with up to two retries of its own before the first byte of a reply, provider-apis §2; delays over
 * 60 s are left to the caller). spec and what it points to need not outlive the call of this function.
 * -EINVAL (no user message at the end, text that is not UTF-8, control characters in the key), -ENOMEM. Everything
 * else, a missing key or a bad URL included, is told by on_done. http may be NULL for echo, which waits
 * $PUFFO_ECHO_DELAY_MS (0 to 10000, 0 by default) before each word. */
int model_call_start(HttpClient *http, sd_event *event, const ModelCallSpec *spec, ModelCall **ret);
/* Cancels when it is still running, without calling back. */
ModelCall* model_call_free(ModelCall *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ModelCall*, model_call_free);
