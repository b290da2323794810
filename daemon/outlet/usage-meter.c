/* SPDX-License-Identifier: MIT */

#include <strings.h>

#include "json-util.h"
#include "sse.h"
#include "string-util.h"
#include "usage-meter.h"

/* Of one event, and of an answer in one piece. More is passed on all the same, but estimated. */
#define ANSWER_MAX MIB(16)
#define BYTES_PER_TOKEN 4U
#define MODEL_SIZE_MAX 128U
/* More than any answer has: a provider's nonsense must not add up to more than a number holds. */
#define COUNT_MAX ((int64_t) 1000000000)

/* part: how the names of events end that carry a part of the answer. frame: so much of each is something else. */
static const struct { const char *mark, *part; size_t frame; } dialects[_USAGE_DIALECT_MAX] = {
        [USAGE_ANTHROPIC] = { "\"usage\"", "_delta", 80 },
        [USAGE_OPENAI_CHAT] = { "\"usage\"", "", 240 },
        [USAGE_OPENAI_RESPONSES] = { "\"usage\"", ".delta", 200 },
        [USAGE_GOOGLE] = { "\"usageMetadata\"", "", 260 },
};

struct UsageMeter {
        UsageDialect dialect;
        SseParser *sse;                 /* NULL: an answer in one piece … */
        StrBuf whole;                   /* … collected here */
        bool blind;                     /* could not be followed to its end */
        size_t request_size, size;      /* bytes */
        uint64_t estimate;              /* tokens of the answer */
        char *model;
        ModelUsage usage;
        uint64_t uncached;
        bool has_input, has_output;     /* has_output: the last word */
};

void metered_usage_done(MeteredUsage *u) {
        free(u->model);
        *u = (MeteredUsage) {};
}

static uint64_t count(json_object *o, const char *key, uint64_t fallback) {
        int64_t n = json_get_int(o, key, -1);

        return n < 0 ? fallback : (uint64_t) MIN(n, COUNT_MAX);
}

static void take_model(UsageMeter *m, json_object *o, const char *key) {
        const char *name = json_get_string(o, key);

        if (!isempty(name) && strlen(name) <= MODEL_SIZE_MAX)
                (void) free_and_strdup(&m->model, name);
}

/* Counts that come later replace those that came before where they are given. */
static void take_anthropic(UsageMeter *m, json_object *o) {
        const char *type = json_get_string(o, "type");
        bool start = streq_ptr(type, "message_start");
        json_object *holder = start ? json_get(o, "message") : o, *usage = json_get(holder, "usage");
        ModelUsage *u = &m->usage;

        take_model(m, holder, "model");
        if (!usage)
                return;
        m->uncached = count(usage, "input_tokens", m->uncached);
        u->cached_tokens = count(usage, "cache_read_input_tokens", u->cached_tokens);
        u->cache_write_tokens = count(usage, "cache_creation_input_tokens", u->cache_write_tokens);
        u->output_tokens = count(usage, "output_tokens", u->output_tokens);
        u->input_tokens = m->uncached + u->cached_tokens + u->cache_write_tokens;
        m->has_input = true;
        m->has_output |= !start;
}

static void take_chat(UsageMeter *m, json_object *o) {
        json_object *usage = json_get(o, "usage");
        ModelUsage *u = &m->usage;

        take_model(m, o, "model");
        if (!usage)
                return;
        u->input_tokens = count(usage, "prompt_tokens", u->input_tokens);
        u->output_tokens = count(usage, "completion_tokens", u->output_tokens);
        u->cached_tokens = count(json_get(usage, "prompt_tokens_details"), "cached_tokens", u->cached_tokens);
        u->reasoning_tokens = count(json_get(usage, "completion_tokens_details"), "reasoning_tokens",
                                    u->reasoning_tokens);
        m->has_input = m->has_output = true;
}

static void take_responses(UsageMeter *m, json_object *o) {
        json_object *response = json_get(o, "response") ?: o, *usage = json_get(response, "usage");
        ModelUsage *u = &m->usage;

        take_model(m, response, "model");
        if (!usage)
                return;
        u->input_tokens = count(usage, "input_tokens", u->input_tokens);
        u->output_tokens = count(usage, "output_tokens", u->output_tokens);
        u->cached_tokens = count(json_get(usage, "input_tokens_details"), "cached_tokens", u->cached_tokens);
        u->reasoning_tokens = count(json_get(usage, "output_tokens_details"), "reasoning_tokens", u->reasoning_tokens);
        m->has_input = m->has_output = true;
}

static bool google_is_done(json_object *o) {
        json_object *list = json_get(o, "candidates");

        if (!json_object_is_type(list, json_type_array))
                return json_get(o, "promptFeedback") != NULL;
        for (size_t i = 0; i < json_object_array_length(list); i++)
                if (json_get_string(json_object_array_get_idx(list, i), "finishReason"))
                        return true;
        return false;
}

static void take_google(UsageMeter *m, json_object *o) {
        json_object *usage = json_get(o, "usageMetadata");
        ModelUsage *u = &m->usage;

        take_model(m, o, "modelVersion");
        if (!usage)
                return;
        u->input_tokens = count(usage, "promptTokenCount", 0) + count(usage, "toolUsePromptTokenCount", 0);
        u->cached_tokens = count(usage, "cachedContentTokenCount", 0);
        u->reasoning_tokens = count(usage, "thoughtsTokenCount", 0);
        u->output_tokens = count(usage, "candidatesTokenCount", 0) + u->reasoning_tokens;
        m->has_input = true;
        m->has_output |= google_is_done(o);
}

static void take(UsageMeter *m, json_object *o) {
        switch (m->dialect) {
        case USAGE_ANTHROPIC:
                take_anthropic(m, o);
                break;
        case USAGE_OPENAI_CHAT:
                take_chat(m, o);
                break;
        case USAGE_OPENAI_RESPONSES:
                take_responses(m, o);
                break;
        default:
                take_google(m, o);
        }
}

static void look(UsageMeter *m, const char *data, size_t size) {
        _cleanup_json_ json_object *o = NULL;

        /* Most of an answer has none of this: it need not be taken apart. */
        if (!memmem(data, size, dialects[m->dialect].mark, strlen(dialects[m->dialect].mark)) ||
            json_parse(data, size, &o) < 0)
                return;
        /* Google streams a list when nobody asks for events. */
        if (json_object_is_type(o, json_type_array)) {
                for (size_t i = 0; i < json_object_array_length(o); i++)
                        take(m, json_object_array_get_idx(o, i));
        } else
                take(m, o);
}

static int on_event(const char *event, const char *data, size_t size, const char *id, void *userdata) {
        UsageMeter *m = userdata;
        size_t frame = dialects[m->dialect].frame;

        if (endswith(event, dialects[m->dialect].part))
                m->estimate += size > frame + BYTES_PER_TOKEN ? (size - frame) / BYTES_PER_TOKEN : 1;
        look(m, data, size);
        return 0;
}

static bool is_event_stream(const char *content_type) {
        static const char type[] = "text/event-stream";

        return content_type && strncasecmp(content_type, type, strlen(type)) == 0;
}

int usage_meter_new(UsageMeter **ret, UsageDialect dialect, const char *content_type, const char *model,
                    size_t request_size) {
        _cleanup_(usage_meter_freep) UsageMeter *m = new0(UsageMeter, 1);
        int r;

        if (!m)
                return -ENOMEM;
        m->dialect = dialect;
        m->request_size = request_size;
        m->model = strdup(strempty(model));
        if (!m->model)
                return -ENOMEM;
        if (is_event_stream(content_type)) {
                r = sse_parser_new(&m->sse, ANSWER_MAX, on_event, m);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(m);
        return 0;
}

UsageMeter* usage_meter_free(UsageMeter *m) {
        if (!m)
                return NULL;

        (void) sse_parser_free(m->sse);
        strbuf_done(&m->whole);
        free(m->model);
        return mfree(m);
}

void usage_meter_feed(UsageMeter *m, const char *data, size_t size) {
        m->size += size;
        if (m->blind) {
                m->estimate += size / BYTES_PER_TOKEN;
                return;
        }
        if (m->sse)
                m->blind = sse_parser_feed(m->sse, data, size) < 0;
        else {
                m->estimate = m->size / BYTES_PER_TOKEN;
                m->blind = m->whole.size + size > ANSWER_MAX || strbuf_append(&m->whole, data, size) < 0;
                if (m->blind)
                        strbuf_done(&m->whole);
        }
}

int usage_meter_finish(UsageMeter *m, bool complete, MeteredUsage *ret) {
        char *model;

        if (!m->sse && !m->blind && complete)
                look(m, m->whole.text ?: "", m->whole.size);
        model = strdup(m->model);
        if (!model)
                return -ENOMEM;
        *ret = (MeteredUsage) { .model = model, .usage = m->usage };
        if (!m->has_input)
                ret->usage.input_tokens = MAX(ret->usage.input_tokens, (uint64_t) m->request_size / BYTES_PER_TOKEN);
        if (!m->has_output)
                ret->usage.output_tokens = MAX(ret->usage.output_tokens, m->estimate);
        ret->estimated = !m->has_input || !m->has_output;
        return 0;
}
