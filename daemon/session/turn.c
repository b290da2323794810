/* SPDX-License-Identifier: MIT */

#include "turn.h"

/* Escaped as JSON it becomes six times as long at worst; readers bound their lines. */
#define MESSAGE_SIZE_MAX MIB(2)
#define LOG_SIZE_MAX MIB(16)
/* 64 random bits of the gateway's ids; each delta carries them. */
#define ITEM_ID_CHARS 16

static int turn_alloc(Turn **ret, sd_event *event, const TurnRow *row) {
        _cleanup_(turn_freep) Turn *t = new0(Turn, 1);
        int r;

        if (!t)
                return -ENOMEM;
        t->seq = row->seq;
        t->status = row->status;
        t->store = row->store;
        t->attempts = row->attempts;
        t->created_usec = row->created_usec;
        t->id = strdup(row->id);
        t->conversation = strdup(row->conversation);
        t->source = strdup(strempty(row->source));
        if (!t->id || !t->conversation || !t->source)
                return -ENOMEM;
        r = event_log_new(&t->log, event);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(t);
        return 0;
}

int turn_new(Turn **ret, sd_event *event, const TurnRow *row) {
        return turn_alloc(ret, event, row);
}

void turn_keep_stream(Turn *t) {
        turn_items_free(t->items, t->n_items);
        t->items = NULL;
        t->n_items = 0;
        strbuf_done(&t->open_text);
        strbuf_done(&t->spoken);
        t->open_item = mfree(t->open_item);
        t->context = mfree(t->context);
}

Turn* turn_free(Turn *t) {
        if (!t)
                return NULL;

        turn_keep_stream(t);
        (void) event_log_free(t->log);
        free(t->source);
        free(t->conversation);
        free(t->id);
        return mfree(t);
}

static int emit(Turn *t, const char *type, json_object *members) {
        return event_log_append(t->log, type, members);
}

static int members_item(json_object **ret, const char *item) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "item", item);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

/* mark: what is particular about a log that is not the turn's first one, or NULL. */
static int emit_queued(Turn *t, size_t ahead, const char *mark) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_int(o, "ahead", (int64_t) ahead);
        if (r >= 0)
                r = json_put_int(o, "created_at", (int64_t) t->created_usec);
        if (r >= 0 && mark)
                r = json_put_bool(o, mark, true);
        if (r < 0)
                return r;
        return emit(t, "queued", TAKE_PTR(o));
}

int turn_emit_queued(Turn *t, size_t ahead) {
        return emit_queued(t, ahead, t->attempts > 0 ? "resumed" : NULL);
}

int turn_emit_started(Turn *t) {
        return emit(t, "started", NULL);
}

int turn_emit_restarted(Turn *t) {
        return emit(t, "restarted", NULL);
}

static int emit_message_started(Turn *t, const char *item) {
        json_object *o;
        int r;

        r = members_item(&o, item);
        if (r < 0)
                return r;
        return emit(t, "message_started", o);
}

int turn_message_begin(Turn *t) {
        _cleanup_free_ char *item = NULL;
        size_t size;
        int r;

        assert(!t->open_item);

        /* Clients keep messages of many turns in one list, so the end of the turn's id goes in. A later attempt
         * must not use an earlier one's names again: readers may have seen those. */
        size = strlen(t->id);
        item = asprintf_new("%s_%u_%u", t->id + (size > ITEM_ID_CHARS ? size - ITEM_ID_CHARS : 0),
                            MAX(t->attempts, 1U), t->n_begun);
        if (!item)
                return -ENOMEM;
        r = emit_message_started(t, item);
        if (r < 0)
                return r;

        t->open_item = TAKE_PTR(item);
        t->n_begun++;
        return 0;
}

static int emit_delta(Turn *t, const char *item, const char *text, size_t size) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = members_item(&o, item);
        if (r >= 0)
                r = json_put_string_len(o, "text", text, size);
        if (r < 0)
                return r;
        return emit(t, "delta", TAKE_PTR(o));
}

int turn_message_delta(Turn *t, const char *text, size_t size) {
        int r;

        assert(t->open_item);

        if (t->open_text.size + size > MESSAGE_SIZE_MAX || event_log_size(t->log) > LOG_SIZE_MAX)
                return -ENOBUFS;
        r = strbuf_append(&t->open_text, text, size);
        if (r < 0)
                return r;
        return emit_delta(t, t->open_item, text, size);
}

static int emit_message_done(Turn *t, const TurnItem *item) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = members_item(&o, item->item);
        if (r >= 0)
                r = json_put_string(o, "text", item->text);
        if (r >= 0)
                r = json_put_string(o, "status", item->complete ? "completed" : "incomplete");
        if (r < 0)
                return r;
        return emit(t, "message_done", TAKE_PTR(o));
}

int turn_message_end(Turn *t, bool complete) {
        TurnItem *items;
        char *text;

        if (!t->open_item)
                return 0;

        text = strbuf_take(&t->open_text);
        if (!text)
                return -ENOMEM;
        items = reallocarray(t->items, t->n_items + 1, sizeof(TurnItem));
        if (!items) {
                free(text);
                return -ENOMEM;
        }
        t->items = items;
        items[t->n_items] = (TurnItem) { .item = TAKE_PTR(t->open_item), .text = text, .complete = complete };
        t->n_items++;
        return emit_message_done(t, items + t->n_items - 1);
}

int turn_message_restore(Turn *t, const char *item, const char *text) {
        int r;

        assert(!t->open_item);

        t->open_item = strdup(item);
        if (!t->open_item)
                return -ENOMEM;
        r = emit_message_started(t, item);
        if (r >= 0)
                r = turn_message_delta(t, text, strlen(text));
        return r < 0 ? r : turn_message_end(t, true);
}

static int emit_tool(Turn *t, const char *type, const char *call, const char *name, bool ok) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "call", call);
        if (r >= 0)
                r = json_put_string(o, "name", name);
        if (r >= 0 && !ok)
                r = json_put_bool(o, "failed", true);
        return r < 0 ? r : emit(t, type, TAKE_PTR(o));
}

int turn_emit_tool_started(Turn *t, const char *call, const char *name) {
        return emit_tool(t, "tool_started", call, name, /* ok= */ true);
}

int turn_emit_tool_ended(Turn *t, const char *call, const char *name, bool ok) {
        return emit_tool(t, "tool_ended", call, name, ok);
}

static int usage_to_json(const TurnUsage *u, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const struct { const char *name; uint64_t value; } t[] = {
                { "input_tokens", u->input_tokens }, { "cached_tokens", u->cached_tokens },
                { "cache_write_tokens", u->cache_write_tokens }, { "output_tokens", u->output_tokens },
                { "reasoning_tokens", u->reasoning_tokens }, { "cost_micro", u->cost_micro },
        };

        if (!o)
                return -ENOMEM;
        /* The last one is there only when it is known. */
        for (size_t i = 0; i < ELEMENTSOF(t) - (u->cost_micro == 0); i++) {
                int r = json_put_int(o, t[i].name, (int64_t) MIN(t[i].value, (uint64_t) INT64_MAX));

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(o);
        return 0;
}

static int error_to_json(const TurnResult *result, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "code", strempty(result->error_code));
        if (r >= 0)
                r = json_put_string(o, "kind", strempty(result->error_kind));
        if (r >= 0)
                r = json_put_string(o, "message", strempty(result->error_message));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int end_to_json(const TurnResult *result, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *usage = NULL, *error = NULL;
        int r;

        if (!o)
                return -ENOMEM;
        if (result->status == TURN_FAILED) {
                r = error_to_json(result, &error);
                if (r >= 0)
                        r = json_put(o, "error", TAKE_PTR(error));
                if (r < 0)
                        return r;
        }
        r = usage_to_json(&result->usage, &usage);
        if (r >= 0)
                r = json_put(o, "usage", TAKE_PTR(usage));
        if (r >= 0)
                r = json_put_int(o, "ended_at", (int64_t) result->now_usec);
        if (r >= 0 && (result->status == TURN_INCOMPLETE || result->status == TURN_CANCELLED))
                r = json_put_string(o, "reason", strempty(result->reason));
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

int turn_emit_end(Turn *t, const TurnResult *result) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        r = end_to_json(result, &o);
        t->status = result->status;
        if (r < 0) {
                event_log_close(t->log);
                return r;
        }
        /* To a reader an interrupted turn is an incomplete one; only GetTurn tells them apart. */
        return event_log_finish(t->log,
                                result->status == TURN_COMPLETED ? "completed" :
                                result->status == TURN_FAILED ? "failed" : "incomplete", TAKE_PTR(o));
}

int turn_new_replay(Turn **ret, sd_event *event, const TurnRow *row) {
        _cleanup_(turn_freep) Turn *t = NULL;
        int r;

        r = turn_alloc(&t, event, row);
        if (r < 0)
                return r;
        r = emit_queued(t, 0, "replayed");
        if (r >= 0 && row->attempts > 1)
                r = turn_emit_restarted(t);
        if (r >= 0 && row->attempts > 0)
                r = turn_emit_started(t);
        for (size_t i = 0; i < row->n_items && r >= 0; i++) {
                r = emit_message_started(t, row->items[i].item);
                if (r >= 0 && !isempty(row->items[i].text))
                        r = emit_delta(t, row->items[i].item, row->items[i].text, strlen(row->items[i].text));
                if (r >= 0)
                        r = emit_message_done(t, row->items + i);
        }
        if (r >= 0)
                r = turn_emit_end(t, &(TurnResult) {
                        .status = row->status, .reason = row->reason, .error_code = row->error_code,
                        .error_kind = row->error_kind, .error_message = row->error_message, .usage = row->usage,
                        .now_usec = row->ended_usec,
                });
        if (r < 0)
                return r;

        *ret = TAKE_PTR(t);
        return 0;
}
