/* SPDX-License-Identifier: MIT */

/* Of a CLI that counts all turns of its conversation together: what one of them has used is what has been added. What
 * was counted before is a value of the database for each conversation. It names the turn that it was counted for, as
 * that one's end may be read twice. */

#include "conversation.h"
#include "hands-internal.h"
#include "json-util.h"
#include "string-util.h"

static const struct { const char *name; size_t offset; } counts[] = {
        { "input", offsetof(ModelUsage, input_tokens) },
        { "cached", offsetof(ModelUsage, cached_tokens) },
        { "cache_write", offsetof(ModelUsage, cache_write_tokens) },
        { "output", offsetof(ModelUsage, output_tokens) },
        { "reasoning", offsetof(ModelUsage, reasoning_tokens) },
};

static uint64_t* count_of(ModelUsage *u, size_t i) {
        return (uint64_t*) ((char*) u + counts[i].offset);
}

static char* value_name(const Hands *h) {
        return strjoin(CONVERSATION_USAGE_PREFIX, h->run->conversation);
}

static int load(Hands *h, json_object **ret) {
        _cleanup_free_ char *name = value_name(h), *text = NULL;
        int r;

        *ret = NULL;
        r = name ? session_value_get(h->spec.db, name, &text) : -ENOMEM;
        if (r <= 0)
                return r;
        return json_parse(text, strlen(text), ret) == -ENOMEM ? -ENOMEM : 0;
}

static int put_usage(json_object *o, const char *key, const ModelUsage *usage) {
        json_object *member = json_object_new_object();
        ModelUsage u = *usage;
        int r;

        r = member ? json_put(o, key, member) : -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(counts) && r >= 0; i++)
                r = json_put_int(member, counts[i].name, (int64_t) MIN(*count_of(&u, i), (uint64_t) INT64_MAX));
        return r;
}

static void get_usage(json_object *o, ModelUsage *ret) {
        *ret = (ModelUsage) {};
        for (size_t i = 0; i < ELEMENTSOF(counts); i++)
                *count_of(ret, i) = (uint64_t) MAX(json_get_int(o, counts[i].name, 0), INT64_C(0));
}

static int save(Hands *h, const char *session_id, const ModelUsage *before, const ModelUsage *total) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *name = value_name(h);
        const char *text;
        int r = o && name ? 0 : -ENOMEM;

        if (r >= 0)
                r = json_put_string(o, "session", session_id);
        if (r >= 0)
                r = json_put_string(o, "turn", h->run->message);
        if (r >= 0)
                r = put_usage(o, "before", before);
        if (r >= 0)
                r = put_usage(o, "total", total);
        text = r >= 0 ? json_text(o, NULL) : NULL;
        return text ? session_value_set(h->spec.db, name, text) : r < 0 ? r : -ENOMEM;
}

int hands_total_begin(Hands *h, const char *session_id) {
        static const ModelUsage none = {};

        return save(h, session_id, &none, &none);
}

int hands_total_take(Hands *h, ModelUsage *usage) {
        const ModelUsage total = *usage;
        _cleanup_json_ json_object *o = NULL;
        ModelUsage before;
        bool known;
        int r;

        *usage = (ModelUsage) {};
        r = load(h, &o);
        if (r < 0)
                return r;
        known = o && streq_ptr(json_get_string(o, "session"), h->run->session_id);
        get_usage(json_get(o, streq_ptr(json_get_string(o, "turn"), h->run->message) ? "before" : "total"), &before);
        for (size_t i = 0; i < ELEMENTSOF(counts) && known; i++) {
                ModelUsage all = total;
                uint64_t now = *count_of(&all, i), then = *count_of(&before, i);

                *count_of(usage, i) = now > then ? now - then : 0;
        }
        return save(h, strempty(h->run->session_id), known ? &before : &total, &total);
}
