/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "responses-object.h"
#include "responses-stream.h"
#include "string-util.h"

/* Of one message, and of what one response shows: an agent that writes more is out of its mind. */
#define TEXT_MAX MIB(16)

struct ResponseFold {
        json_object *response;          /* owned reference */
        response_emit_t emit;
        void *userdata;

        int64_t sequence;               /* of the next event */
        int64_t seen;                   /* highest "seq" of the log that was taken in; -1: none */
        bool reopened;                  /* events up to seen may come once more */
        bool replaying;                 /* the log is that of a turn that has ended, each message in one piece */
        bool in_progress;               /* response.in_progress was sent */
        bool queued;                    /* response.queued was sent */
        bool ended;

        char *item;                     /* the open message's id as the session calls it; NULL: none is open */
        StrBuf text;                    /* what it has so far */
        size_t n_items;                 /* the open one counts */

        bool buffered;
        char *held;                     /* with that: the message that grows, or that was left incomplete … */
        StrBuf held_text;               /* … and what it has */
};

int response_fold_new(ResponseFold **ret, json_object *response, response_emit_t emit, void *userdata) {
        ResponseFold *f = new0(ResponseFold, 1);

        if (!f)
                return -ENOMEM;
        f->response = json_object_get(response);
        f->emit = emit;
        f->userdata = userdata;
        f->seen = -1;
        *ret = f;
        return 0;
}

ResponseFold* response_fold_free(ResponseFold *f) {
        if (!f)
                return NULL;
        json_object_put(f->response);
        free(f->item);
        strbuf_done(&f->text);
        free(f->held);
        strbuf_done(&f->held_text);
        return mfree(f);
}

void response_fold_set_buffered(ResponseFold *f) {
        f->buffered = true;
}

json_object* response_fold_response(ResponseFold *f) {
        return f->response;
}

bool response_fold_has_ended(ResponseFold *f) {
        return f->ended;
}

int64_t response_fold_sequence(ResponseFold *f) {
        return f->sequence;
}

void response_fold_reopen(ResponseFold *f) {
        f->reopened = true;
}

/* --- events --- */

static int fold_event_new(ResponseFold *f, const char *type, json_object **ret) {
        _cleanup_json_ json_object *e = json_object_new_object();

        if (!e || json_put_string(e, "type", type) < 0 || json_put_int(e, "sequence_number", f->sequence) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(e);
        return 0;
}

static int fold_emit(ResponseFold *f, const char *type, json_object *event) {
        f->sequence++;
        return f->emit ? f->emit(type, event, f->userdata) : 0;
}

static int emit_response(ResponseFold *f, const char *type) {
        _cleanup_json_ json_object *e = NULL;
        int r;

        r = fold_event_new(f, type, &e);
        if (r < 0)
                return r;
        r = json_put(e, "response", json_object_get(f->response));
        if (r < 0)
                return r;
        return fold_emit(f, type, e);
}

/* An event about the open item. Takes value, on failure too. */
static int emit_content(ResponseFold *f, const char *type, const char *member, json_object *value, bool logprobs) {
        _cleanup_json_ json_object *e = NULL, *owned = value;
        _cleanup_free_ char *id = output_item_id(f->item);
        json_object *empty;
        int r;

        r = fold_event_new(f, type, &e);
        if (r < 0)
                return r;
        if (!owned || !id ||
            json_put_string(e, "item_id", id) < 0 ||
            json_put_int(e, "output_index", (int64_t) f->n_items - 1) < 0 ||
            json_put_int(e, "content_index", 0) < 0 ||
            json_put(e, member, TAKE_PTR(owned)) < 0)
                return -ENOMEM;
        if (logprobs) {
                empty = json_object_new_array();
                if (!empty || json_put(e, "logprobs", empty) < 0)
                        return -ENOMEM;
        }
        return fold_emit(f, type, e);
}

static int emit_item(ResponseFold *f, const char *type, json_object *item) {
        _cleanup_json_ json_object *e = NULL;
        int r;

        r = fold_event_new(f, type, &e);
        if (r < 0)
                return r;
        if (json_put_int(e, "output_index", (int64_t) f->n_items - 1) < 0 ||
            json_put(e, "item", json_object_get(item)) < 0)
                return -ENOMEM;
        return fold_emit(f, type, e);
}

/* --- items --- */

static int fold_begin_progress(ResponseFold *f) {
        int r;

        if (f->in_progress)
                return 0;
        r = response_set_status(f->response, "in_progress");
        if (r < 0)
                return r;
        f->in_progress = true;
        return emit_response(f, "response.in_progress");
}

static int fold_close_item(ResponseFold *f, const char *status) {
        _cleanup_json_ json_object *item = NULL, *part = NULL, *text = NULL;
        const char *s = strempty(f->text.text);
        json_object *output = json_get(f->response, "output");
        int r;

        if (!f->item)
                return 0;
        text = json_object_new_string_len(s, (int) f->text.size);
        r = output_text_new(s, f->text.size, &part);
        if (r < 0)
                return r;
        r = output_message_new(f->item, status, s, f->text.size, &item);
        if (r < 0)
                return r;

        r = emit_content(f, "response.output_text.done", "text", TAKE_PTR(text), true);
        if (r < 0)
                return r;
        r = emit_content(f, "response.content_part.done", "part", TAKE_PTR(part), false);
        if (r < 0)
                return r;
        r = emit_item(f, "response.output_item.done", item);
        if (r < 0)
                return r;
        f->item = mfree(f->item);
        f->text.size = 0;
        if (json_object_array_add(output, item) < 0)
                return -ENOMEM;
        TAKE_PTR(item);
        return 0;
}

static int fold_open_item(ResponseFold *f, const char *id) {
        _cleanup_json_ json_object *item = NULL, *part = NULL;
        int r;

        r = fold_begin_progress(f);
        if (r < 0)
                return r;
        /* A message that was begun anew under another name: what was shown of the first one stays (responses-api
         * §6.4). */
        r = fold_close_item(f, "incomplete");
        if (r < 0)
                return r;

        f->item = strdup(id);
        if (!f->item)
                return -ENOMEM;
        f->n_items++;
        r = output_message_new(id, "in_progress", NULL, 0, &item);
        if (r < 0)
                return r;
        r = emit_item(f, "response.output_item.added", item);
        if (r < 0)
                return r;
        r = output_text_new("", 0, &part);
        if (r < 0)
                return r;
        return emit_content(f, "response.content_part.added", "part", TAKE_PTR(part), false);
}

static int fold_delta(ResponseFold *f, const char *text, size_t size) {
        int r;

        if (size == 0)
                return 0;
        if (f->text.size + size > TEXT_MAX)
                return -EMSGSIZE;
        r = strbuf_append(&f->text, text, size);
        if (r < 0)
                return r;
        return emit_content(f, "response.output_text.delta", "delta", json_object_new_string_len(text, (int) size),
                            true);
}

static int fold_message_done(ResponseFold *f, const char *id, const char *text, size_t size, bool complete) {
        int r;

        if (!streq_ptr(f->item, id)) {
                r = fold_open_item(f, id);
                if (r < 0)
                        return r;
        }
        if (text && size > f->text.size &&
            (f->text.size == 0 || memcmp(text, f->text.text, f->text.size) == 0))
                r = fold_delta(f, text + f->text.size, size - f->text.size);
        else if (text && (size != f->text.size || (size > 0 && memcmp(text, f->text.text, size) != 0))) {
                /* The whole text wins over its parts. */
                if (size > TEXT_MAX)
                        return -EMSGSIZE;
                f->text.size = 0;
                r = strbuf_append(&f->text, text, size);
        } else
                r = 0;
        if (r < 0)
                return r;
        return fold_close_item(f, complete ? "completed" : "incomplete");
}

/* --- messages that are held back --- */

static int hold(ResponseFold *f, const char *id) {
        if (streq_ptr(f->held, id))
                return 0;
        f->held_text.size = 0;          /* of one that was begun anew */
        return MIN(free_and_strdup(&f->held, id), 0);
}

static int hold_text(ResponseFold *f, const char *text, size_t size) {
        if (f->held_text.size + size > TEXT_MAX)
                return -EMSGSIZE;
        return strbuf_append(&f->held_text, text, size);
}

static int fold_buffered(ResponseFold *f, const char *type, const char *id, const char *text, size_t size,
                         bool complete) {
        int r;

        r = fold_begin_progress(f);
        if (r >= 0)
                r = hold(f, id);
        if (r < 0 || streq(type, "message_started"))
                return r;
        if (streq(type, "delta"))
                return text ? hold_text(f, text, size) : 0;
        if (complete) {
                f->held = mfree(f->held);
                return fold_message_done(f, id, text ?: f->held_text.text, text ? size : f->held_text.size, true);
        }
        if (text) {
                f->held_text.size = 0;
                r = hold_text(f, text, size);
        }
        return r;
}

/* What was left when the turn ended is all that there will be. */
static int fold_show_held(ResponseFold *f) {
        _cleanup_free_ char *id = TAKE_PTR(f->held);

        return id && f->held_text.size > 0 ? fold_message_done(f, id, f->held_text.text, f->held_text.size, false) : 0;
}

/* --- ends --- */

static int fold_end(ResponseFold *f, const char *status, const char *type) {
        int r;

        /* An end without a beginning is one of a turn that never came to run. */
        r = fold_show_held(f);
        if (r >= 0)
                r = fold_close_item(f, "incomplete");
        if (r < 0)
                return r;
        r = response_set_status(f->response, status);
        if (r < 0)
                return r;
        f->ended = true;
        r = emit_response(f, type);
        return r < 0 ? r : 1;
}

static int fold_complete(ResponseFold *f, json_object *usage, uint64_t now_usec) {
        if (response_set_usage(f->response, usage) < 0 ||
            json_put_int(f->response, "completed_at", (int64_t) (now_usec / USEC_PER_SEC)) < 0)
                return -ENOMEM;
        return fold_end(f, "completed", "response.completed");
}

static int fold_incomplete(ResponseFold *f, json_object *usage, const char *reason) {
        if (response_set_usage(f->response, usage) < 0 || response_set_incomplete(f->response, reason) < 0)
                return -ENOMEM;
        return fold_end(f, "incomplete", "response.incomplete");
}

int response_fold_fail(ResponseFold *f, const char *code, const char *message) {
        int r;

        if (f->ended)
                return 1;
        r = response_set_error(f->response, code, message);
        if (r < 0)
                return r;
        return fold_end(f, "failed", "response.failed");
}

static int fold_feed_end(ResponseFold *f, const char *type, json_object *event, uint64_t now_usec) {
        json_object *usage = json_get(event, "usage"), *error = json_get(event, "error");

        if (streq(type, "completed"))
                return fold_complete(f, usage, now_usec);
        if (streq(type, "incomplete"))
                return fold_incomplete(f, usage, json_get_string(event, "reason"));
        if (usage && response_set_usage(f->response, usage) < 0)
                return -ENOMEM;
        return response_fold_fail(f, json_get_string(error, "code"), json_get_string(error, "message"));
}

void response_fold_skip(ResponseFold *f, int64_t next) {
        f->sequence = MAX(f->sequence, next);
}

/* --- the log --- */

int response_fold_begin(ResponseFold *f, bool queued) {
        bool background = json_get_bool(f->response, "background", false);
        int r;

        r = response_set_status(f->response, queued || background ? "queued" : "in_progress");
        if (r < 0)
                return r;
        r = emit_response(f, "response.created");
        if (r < 0 || !background)
                return r;
        f->queued = true;
        return emit_response(f, "response.queued");
}

static int fold_queued(ResponseFold *f, json_object *event) {
        int r;

        if (f->queued || f->in_progress || json_get_int(event, "ahead", 0) <= 0)
                return 0;
        r = response_set_status(f->response, "queued");
        if (r < 0)
                return r;
        f->queued = true;
        return emit_response(f, "response.queued");
}

bool response_log_is_new(json_object *event) {
        const char *type = strempty(json_get_string(event, "type"));

        return streq(type, "restarted") || (streq(type, "queued") && (json_get_bool(event, "resumed", false) ||
                                                                      json_get_bool(event, "replayed", false)));
}

/* Messages that were shown already are known by their ids. */
static bool fold_has_item(ResponseFold *f, const char *item) {
        json_object *output = json_get(f->response, "output");
        _cleanup_free_ char *id = output_item_id(item);

        for (size_t i = 0; i < json_object_array_length(output); i++)
                if (streq_ptr(json_get_string(json_object_array_get_idx(output, i), "id"), id))
                        return true;
        return false;
}

/* Whether an event is one that we had before the stream was lost. */
static bool fold_is_repeated(ResponseFold *f, json_object *event) {
        int64_t seq = json_get_int(event, "seq", -1);

        if (response_log_is_new(event)) {
                f->reopened = false;
                f->replaying = json_get_bool(event, "replayed", f->replaying);
                f->seen = seq;
                return false;
        }
        if (seq < 0)
                return false;
        if (f->reopened && seq <= f->seen)
                return true;
        f->seen = seq;
        return false;
}

int response_fold_feed(ResponseFold *f, json_object *event, uint64_t now_usec) {
        const char *type = json_get_string(event, "type"), *item = json_get_string(event, "item");
        json_object *text = json_get(event, "text");
        const char *s = NULL;
        size_t size = 0;
        int r;

        if (f->ended)
                return 1;
        if (!type)
                return -EBADMSG;
        if (fold_is_repeated(f, event))
                return 0;
        if (json_object_is_type(text, json_type_string)) {
                s = json_object_get_string(text);
                size = (size_t) json_object_get_string_len(text);
        }

        if (streq(type, "queued"))
                return fold_queued(f, event);
        if (streq(type, "started"))
                return fold_begin_progress(f);
        if (streq(type, "restarted"))           /* in a replay that is long over */
                return f->replaying ? 0 : fold_close_item(f, "incomplete");
        if (streq(type, "completed") || streq(type, "incomplete") || streq(type, "failed"))
                return fold_feed_end(f, type, event, now_usec);
        if (!streq(type, "message_started") && !streq(type, "delta") && !streq(type, "message_done"))
                return 0;

        if (isempty(item))
                return -EBADMSG;
        /* What has been shown stays; of the message that was cut off its end is still to come. */
        if (f->replaying && (!streq(type, "message_done") || fold_has_item(f, item)))
                return 0;
        /* Of a turn that goes on where a crash cut it short. */
        if (!f->replaying && !streq_ptr(f->item, item) && fold_has_item(f, item))
                return 0;
        if (f->buffered)
                return fold_buffered(f, type, item, s, size,
                                     !streq_ptr(json_get_string(event, "status"), "incomplete"));
        if (streq(type, "message_done"))
                return fold_message_done(f, item, s, size, !streq_ptr(json_get_string(event, "status"), "incomplete"));
        if (!streq_ptr(f->item, item)) {
                r = fold_open_item(f, item);
                if (r < 0)
                        return r;
        }
        return streq(type, "delta") && s ? fold_delta(f, s, size) : 0;
}

int response_fold_finish(ResponseFold *f, const TurnRecord *t) {
        int r;

        if (f->ended)
                return 1;
        for (size_t i = 0; i < t->n_messages; i++) {
                const TurnMessage *m = t->messages + i;

                if (fold_has_item(f, m->item) || (f->buffered && !m->complete && i + 1 < t->n_messages))
                        continue;
                if (streq_ptr(f->held, m->item))
                        f->held = mfree(f->held);
                r = fold_message_done(f, m->item, m->text, strlen(m->text), m->complete);
                if (r < 0)
                        return r;
        }
        if (streq(t->status, "completed"))
                return fold_complete(f, t->usage, t->ended_usec);
        if (streq(t->status, "failed")) {
                if (t->usage && response_set_usage(f->response, t->usage) < 0)
                        return -ENOMEM;
                return response_fold_fail(f, t->error_code, t->error_message);
        }
        return fold_incomplete(f, t->usage, t->reason);
}
