/* SPDX-License-Identifier: MIT */

/* Events of a model provider, one a line, in each dialect; what comes of them goes into the next request. */

#include <stdlib.h>

#include "fuzz.h"
#include "model-driver.h"

static const ModelTool tool = { "a", "A.", "{\"type\":\"object\"}" };

static int feed(ModelCall *c, const char *data, size_t size) {
        int r = 0;

        for (const char *end = data + size; data < end && r >= 0 && c->state != CALL_ENDED; ) {
                const char *nl = memchr(data, '\n', (size_t) (end - data)) ?: end;
                _cleanup_json_ json_object *o = NULL;

                if (json_parse(data, (size_t) (nl - data), &o) >= 0 && json_object_is_type(o, json_type_object))
                        r = c->driver->event(c, o);
                data = nl + 1;
        }
        return r;
}

/* What comes from a model is fit to be sent to it again. */
static void check_request(const ModelCall *c) {
        _cleanup_json_ json_object *body = json_object_new_object();
        ModelToolResult results[MODEL_CALLS_MAX];
        const ModelResult *r = &c->result;

        if (r->n_calls == 0 || r->n_calls > MODEL_CALLS_MAX)
                abort();
        for (size_t i = 0; i < r->n_calls; i++) {
                const ModelToolCall *call = r->calls + i;

                if (isempty(call->id) || !utf8_is_valid(call->id, strlen(call->id)) ||
                    !utf8_is_valid(call->name, strlen(call->name)) ||
                    !utf8_is_valid(call->arguments, strlen(call->arguments)))
                        abort();
                for (size_t k = 0; k < i; k++)
                        if (streq(r->calls[k].id, call->id))
                                abort();
                results[i] = (ModelToolResult) { .id = call->id, .name = call->name, .text = "r", .is_error = i % 2 };
        }

        const ModelMessage messages[] = {
                { .role = MODEL_ROLE_USER, .text = "q" },
                { .role = MODEL_ROLE_ASSISTANT, .text = c->text.text, .calls = r->calls, .n_calls = r->n_calls,
                  .opaque = r->opaque },
                { .role = MODEL_ROLE_USER, .results = results, .n_results = r->n_calls },
        };
        const char *text;
        size_t size;

        if (!body || c->driver->body(&(ModelRequest) {
                .model = "m", .messages = messages, .n_messages = ELEMENTSOF(messages), .tools = &tool, .n_tools = 1,
                .max_tokens = 1,
        }, body) < 0)
                abort();
        text = json_text(body, &size);
        if (!text || !utf8_is_valid(text, size))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const ModelProvider providers[] = { MODEL_ANTHROPIC, MODEL_OPENAI, MODEL_GOOGLE };

        for (size_t i = 0; i < 2 * ELEMENTSOF(providers); i++) {
                _cleanup_(model_call_freep) ModelCall *c = new0(ModelCall, 1);

                if (!c)
                        return 0;
                c->driver = model_driver_get(providers[i / 2]);
                c->api_key = strdup("key");
                c->offered = i % 2;
                c->result.stop = MODEL_STOP_OTHER;
                if (feed(c, (const char*) data, size) < 0 || model_call_finish_tools(c) < 0)
                        continue;
                if ((c->result.stop == MODEL_STOP_TOOLS) != (c->result.n_calls > 0) ||
                    (c->result.n_calls > 0 && !c->offered))
                        abort();
                if (c->result.n_calls > 0)
                        check_request(c);
        }
        return 0;
}
