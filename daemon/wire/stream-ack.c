/* SPDX-License-Identifier: MIT */

#include "crash-point.h"
#include "event-util.h"
#include "log.h"
#include "stream-internal.h"

/* What was fetched is acknowledged over HTTP, because the stream may die meanwhile; what came live, by the stream. A
 * server that knows no such route gets everything by the stream (server-api §9.3). Acknowledgements that are lost do
 * no harm: the messages come again, and whoever has stored them knows. */

/* A commit costs much more than a message in it. */
#define COMMIT_MAX 128U
#define COMMIT_PAUSE_USEC (50 * USEC_PER_MSEC)
/* A server that takes its time is not asked faster for that: each call costs some 15 kB. */
#define CALLS_MAX 4U

struct AckCall {
        Stream *stream;
        ServerCall *call;
        char **ids;
        LIST_ENTRY(AckCall) calls;
};

static AckCall* ack_call_free(AckCall *a) {
        LIST_REMOVE(a, calls);
        a->stream->acks.n_calls--;
        server_call_free(a->call);
        strv_free(a->ids);
        return mfree(a);
}

static int ack_by_frame(Stream *s, char *const *ids) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf text = {};
        SignedValue *frame, *list;
        int r = signed_document_new(&d);

        if (r < 0)
                return r;
        frame = signed_object(d);
        list = signed_array(d);
        for (; *ids && r >= 0; ids++)
                r = signed_push(d, list, signed_string(d, *ids));
        if (r >= 0)
                r = signed_put(d, frame, "type", signed_string(d, "ack"));
        if (r >= 0)
                r = signed_put(d, frame, "envelope_ids", list);
        if (r >= 0)
                r = signed_value_format(frame, &text);
        return r < 0 ? r : websocket_send_text(s->socket, text.text, text.size);
}

static bool route_is_missing(const CallReply *reply) {
        return reply->failure == CALL_PROTOCOL ||
               (reply->failure == CALL_STATUS && (reply->status == 404 || reply->status == 405));
}

static void ack_on_done(ServerCall *call, const CallReply *reply, void *userdata) {
        AckCall *a = userdata;
        Stream *s = a->stream;

        crash_point("ack-answered");
        if (route_is_missing(reply)) {
                s->acks.by_frame = true;
                if (s->greeted)
                        (void) ack_by_frame(s, a->ids);
        } else if (reply->failure != CALL_OK)
                log_debug("Could not acknowledge %zu messages, they will come again: %s", strv_length(a->ids),
                          reply->error);
        ack_call_free(a);
        acks_flush(s, /* all= */ false);
        catch_up_check(s);
}

static int ack_by_call(Stream *s, char ***ids) {
        AckCall *a = new0(AckCall, 1);
        int r;

        if (!a)
                return -ENOMEM;
        a->stream = s;
        a->ids = TAKE_PTR(*ids);
        LIST_INSERT_HEAD(&s->acks.calls, a, calls);
        s->acks.n_calls++;
        crash_point("ack-call");
        r = api_ack(s->client, (const char *const*) a->ids, strv_length(a->ids), ack_on_done, a, &a->call);
        if (r < 0)
                ack_call_free(a);
        return r;
}

/* The first ids of a list, at most a chunk, as a list of their own. */
static char** take_chunk(char ***list) {
        size_t n = strv_length(*list), k = MIN(n, (size_t) ACK_CHUNK);
        char **chunk = new0(char*, ACK_CHUNK + 1);

        if (!chunk)
                return NULL;
        memcpy(chunk, *list, k * sizeof(char*));
        memmove(*list, *list + k, (n - k + 1) * sizeof(char*));
        return chunk;
}

static void flush_list(Stream *s, char ***list, bool all, bool by_frame) {
        while (strv_length(*list) >= (all ? 1 : ACK_CHUNK) && (by_frame || s->acks.n_calls < CALLS_MAX)) {
                _cleanup_(strv_freep) char **chunk = take_chunk(list);
                int r;

                if (!chunk)
                        return;
                r = by_frame ? ack_by_frame(s, chunk) : ack_by_call(s, &chunk);
                if (r < 0)
                        log_debug_errno(r, "Could not acknowledge messages, they will come again: %m");
        }
}

void acks_add(Stream *s, const char *envelope_id, bool missed) {
        s->acks.n_fresh++;
        if (!isempty(envelope_id) &&
            strv_extend(missed ? &s->acks.fresh_missed : &s->acks.fresh_live, envelope_id) < 0)
                (void) log_oom();
}

static void list_move(char ***from, char ***to) {
        for (char **id = *from; id && *id; id++)
                if (strv_extend(to, *id) < 0)
                        (void) log_oom();
        *from = strv_free(*from);
}

void acks_commit(Stream *s) {
        Acks *a = &s->acks;
        int r;

        a->timer = sd_event_source_disable_unref(a->timer);
        a->n_fresh = 0;
        if (!a->fresh_missed && !a->fresh_live)
                return;
        r = s->handlers.commit ? s->handlers.commit(s, s->handlers.userdata) : 0;
        if (r < 0) {
                log_warning_errno(r, "%zu messages could not be stored, they will come again: %m",
                                  strv_length(a->fresh_missed) + strv_length(a->fresh_live));
                a->fresh_missed = strv_free(a->fresh_missed);
                a->fresh_live = strv_free(a->fresh_live);
                catch_up_put_off(s);
                return;
        }
        list_move(&a->fresh_missed, &a->missed);
        list_move(&a->fresh_live, &a->live);
}

static int acks_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Stream *s = userdata;

        acks_commit(s);
        acks_flush(s, /* all= */ false);
        catch_up_check(s);
        return 0;
}

void acks_commit_soon(Stream *s) {
        Acks *a = &s->acks;

        if (s->catch_up.call && a->n_fresh > 0 && a->n_fresh < COMMIT_MAX &&
            (a->timer || event_arm_timer(s->event, &a->timer, COMMIT_PAUSE_USEC, 1, acks_on_timer, s) >= 0))
                return;
        acks_commit(s);
        acks_flush(s, /* all= */ false);
}

void acks_flush(Stream *s, bool all) {
        flush_list(s, &s->acks.live, /* all= */ true, /* by_frame= */ s->greeted);
        flush_list(s, &s->acks.missed, all, /* by_frame= */ s->greeted && (s->acks.by_frame || s->stopping));
}

bool acks_are_pending(const Stream *s) {
        return !LIST_EMPTY(&s->acks.calls) || strv_length(s->acks.missed) > 0;
}

void acks_done(Stream *s) {
        AckCall *a;

        s->acks.timer = sd_event_source_disable_unref(s->acks.timer);
        while ((a = LIST_FIRST(&s->acks.calls)))
                ack_call_free(a);
        s->acks.missed = strv_free(s->acks.missed);
        s->acks.live = strv_free(s->acks.live);
        s->acks.fresh_missed = strv_free(s->acks.fresh_missed);
        s->acks.fresh_live = strv_free(s->acks.fresh_live);
}
