/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "model-images.h"
#include "model.h"
#include "sse.h"
#include "string-util.h"

/* What the providers differ in, and what a running call is made of. Inside this room only. */

/* What a request body is built from: already shaped (no blank messages, first and last are the user's), adjacent
 * messages of one role not yet merged, as each dialect has its own way of keeping them apart. */
typedef struct ModelRequest {
        const char *model, *system;     /* system is NULL or not blank */
        const ModelMessage *messages;
        size_t n_messages;
        const ModelTool *tools;
        size_t n_tools;
        bool no_calls;
        uint64_t max_tokens;
        bool foreign;                   /* the base URL is not the vendor's */
        ModelImages *images;            /* gets those of the messages */
} ModelRequest;

/* A piece of a reply that calls tools, as the next request must repeat it. */
typedef enum ModelPartKind {
        MODEL_PART_TEXT,
        MODEL_PART_THOUGHT,
        MODEL_PART_CALL,
        MODEL_PART_RAW,                 /* extra is all of it */
} ModelPartKind;

typedef struct ModelPart {
        ModelPartKind kind;
        int64_t index;                  /* the provider's number for it, or -1 */
        char *id, *name;                /* of a call; the name is bare */
        StrBuf text;                    /* text, thought or arguments */
        bool preset;                    /* the arguments are those of the beginning: the first piece replaces them */
        json_object *extra;             /* what the provider wants to see again with it, or NULL */
} ModelPart;

typedef struct ModelDriver {
        const char *name;                       /* of the dialect, in what is kept of a reply */
        const char *default_model, *default_base_url;
        const char *base_url_variable;          /* in the environment, or NULL */
        /* Where path, which begins behind the version, lies for a base URL. */
        int (*locate)(const char *base, const char *path, char **ret);
        const char *key_header;                 /* "Name: " and whatever goes before the key */
        const char *extra_header;               /* or NULL */
        const char *request_id_header;          /* or NULL */
        const char *end_marker;                 /* data of the event that ends a stream and is no JSON, or NULL */

        int (*url)(const char *base, const char *model, char **ret);
        int (*body)(const ModelRequest *q, json_object *ret);
        /* Puts IMAGE_DROPPED_TEXT in the place of each image of a body. */
        int (*drop_images)(json_object *body);
        /* One JSON object of the stream that is no error. < 0 ends the call as a memory or protocol error. */
        int (*event)(ModelCall *c, json_object *o);
        /* The parts as the next request has to repeat them; *ret stays NULL when text and calls say all of it. */
        int (*opaque)(ModelCall *c, json_object **ret);
        /* The kind of an error object by its own words, or MODEL_ERROR_NONE to go by the HTTP status. */
        ModelErrorKind (*classify)(json_object *error, const char *text, uint64_t *ret_retry_after_usec);

        /* Instead of all that, for a driver without a network: says the next piece. > 0: that was the last. */
        int (*tick)(ModelCall *c);
} ModelDriver;

extern const ModelDriver anthropic_driver, openai_driver, google_driver, echo_driver;
const ModelDriver* model_driver_get(ModelProvider p);

typedef enum CallState {
        CALL_WAITING,           /* the timer starts the next attempt */
        CALL_RUNNING,           /* a request is under way */
        CALL_ENDED,             /* terminal event seen; the timer limits how long the connection may linger */
        CALL_DONE,
} CallState;

struct ModelCall {
        const ModelDriver *driver;
        HttpClient *http;               /* borrowed, as the event loop */
        sd_event *event;
        void (*on_delta)(ModelCall *c, const char *text, size_t size, void *userdata);
        void (*on_done)(ModelCall *c, const ModelResult *r, void *userdata);
        void *userdata;

        char *url, *api_key;
        char **headers;
        json_object *body;
        ModelImages images;             /* of the body */
        uint64_t idle_timeout_usec;

        CallState state;
        unsigned n_retries;
        sd_event_source *timer;
        HttpRequest *request;
        SseParser *sse;
        bool answered;                  /* a byte of a reply was seen: no more retries */
        bool complete;                  /* the reply is whole, whatever happens to the connection now */
        size_t n_events;
        StrBuf head;                    /* the beginning of a reply that has shown no event yet */

        bool offered;                   /* tools */
        ModelPart *parts;               /* only when tools are offered */
        size_t n_parts, parts_size;
        ModelToolCall *calls;           /* the result's: strings belong to the parts */
        char *opaque;

        StrBuf text;
        uint64_t uncached_tokens;       /* Anthropic counts these apart */
        ModelResult result;             /* its strings are the three here */
        char *message, *request_id;

        char *echo_text;
        size_t echo_offset;
        uint64_t echo_delay_usec;
};

/* Adds a JSON string to the reply and passes it on. Anything else, and an empty string, is ignored. -ENOMEM, -EFBIG.
 */
int model_call_say(ModelCall *c, json_object *string);
int model_call_say_text(ModelCall *c, const char *text, size_t size);

/* Parts are noted only when tools are offered: the functions do nothing otherwise, and *ret is NULL. -ENOMEM, -E2BIG:
 * more than a reply may have. index -1: none. */
int model_part_begin(ModelCall *c, ModelPartKind kind, int64_t index, ModelPart **ret);
/* id and name as the provider gives them; NULL when it does not. */
int model_part_begin_call(ModelCall *c, int64_t index, const char *id, const char *name, ModelPart **ret);
/* The latest with this index, NULL when there is none. */
ModelPart* model_part_find(ModelCall *c, ModelPartKind kind, int64_t index);
/* Adds to the text of p, which may be NULL; anything but a string is ignored. */
int model_part_add(ModelCall *c, ModelPart *p, json_object *string);
/* The arguments of a call that come as an object. */
int model_part_set_arguments(ModelCall *c, ModelPart *p, json_object *o, bool preset);
/* Keeps value as member key of extra. */
int model_part_put_extra(ModelCall *c, ModelPart *p, const char *key, json_object *value);
/* At the end of a reply: calls and opaque of the result. */
int model_call_finish_tools(ModelCall *c);
void model_call_free_parts(ModelCall *c);
/* Whether an error says that the model or server has no tools, in whatever words. */
bool model_error_is_tools_refused(long status, ModelErrorKind kind, const char *message);
/* The same of images, or of these: every refusal of a request counts that may be because of them. */
bool model_error_is_images_refused(long status, ModelErrorKind kind, const char *message);

/* The name a tool is offered by; odd characters of a name that some model made up become "_". NULL: -ENOMEM. */
char* model_tool_wire_name(const char *name);
/* The arguments as an object: an empty one when they are none, or no JSON. NULL when out of memory. */
json_object* model_tool_arguments(const char *arguments);
/* {"name", "description", key: schema}. */
int model_tool_declare(const ModelTool *tool, const char *key, json_object **ret);
/* What ModelMessage.opaque holds for this provider, or NULL. */
int model_opaque_parse(const char *opaque, const ModelDriver *driver, json_object **ret);
/* An id that we made up, which the provider has never seen. */
bool model_tool_id_is_ours(const char *id);
bool model_text_is_blank(const char *s);

/* Why the reply ends. reason: the provider's word for it, kept for logs when it is an unusual one. -ENOMEM. */
int model_call_stop(ModelCall *c, ModelStop stop, const char *reason);
/* A copy of a provider's text that is fit for logs: bounded, printable, without the key. NULL when out of memory. */
char* model_call_clean_text(ModelCall *c, const char *text);
/* Records the first thing that went wrong. text is cleaned as above; NULL for none. */
void model_call_fail(ModelCall *c, ModelErrorKind kind, const char *text);

/* What an error body says: a status of 0 stands for an error inside a stream. Falls back on the status, and on the
 * text as it is for bodies that are no JSON. */
void model_call_fail_body(ModelCall *c, long status, const char *body, size_t size);
void model_call_fail_object(ModelCall *c, long status, json_object *o);
/* Whether a text says that the input does not fit into the model's window. Compatible servers have no code for it. */
bool model_error_text_is_context_length(const char *text);

/* The base URL joined with path; the path's leading version ("/v1") is left out when the base URL ends with one. */
int model_url_with_version(const char *base, const char *version, const char *path, char **ret);

/* A count of a usage object; fallback when absent or nonsense. */
uint64_t model_count(json_object *usage, const char *key, uint64_t fallback);
/* Appends value to array; takes it over even on failure. A NULL value is -ENOMEM, for nesting constructors. */
int model_array_add(json_object *array, json_object *value);
/* Same for a member of an object. */
int model_object_add(json_object *o, const char *key, json_object *value);
/* {"type": type, "text": text} without type when that is NULL; NULL when out of memory. */
json_object* model_text_part_new(const char *type, const char *text);
/* {"type": type, "text": IMAGE_DROPPED_TEXT} for each part of a list that has the member key. */
int model_parts_drop_images(json_object *parts, const char *type, const char *key);
/* The same for the parts that each message of a list has under that name. */
int model_drop_images(json_object *messages, const char *name, const char *type, const char *key);
