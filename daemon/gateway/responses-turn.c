/* SPDX-License-Identifier: MIT */

#include "bus-call.h"
#include "bus-util.h"
#include "chat-completions.h"
#include "event-util.h"
#include "gateway-handlers.h"
#include "json-util.h"
#include "log.h"
#include "responses-object.h"
#include "responses-turn.h"
#include "sse.h"

/* Clients get the head and the first event at once, but not before cheap errors could show (responses-api §§1, 6.5).
 */
#define HEAD_USEC (500 * USEC_PER_MSEC)
#define SILENCE_USEC (15 * USEC_PER_SEC)
#define SLICE_SIZE KIB(32)

ResponseTurn* response_turn_free(ResponseTurn *t) {
        if (!t)
                return NULL;
        if (t->orphan)
                LIST_REMOVE(t, orphans);
        turn_client_free(t->client);
        response_fold_free(t->fold);
        chat_answer_free(t->chat);
        bus_call_free(t->interrupt);
        sd_event_source_disable_unref(t->head_timer);
        sd_event_source_disable_unref(t->sync_timer);
        sd_event_source_disable_unref(t->silence_timer);
        responses_request_done(&t->request);
        strbuf_done(&t->out);
        free(t->document);
        free(t->agent_path);
        free(t->id);
        return mfree(t);
}
/* --- the stream's bytes --- */

static int turn_on_silence(sd_event_source *s, uint64_t usec, void *userdata);

/* Hands over what the server takes; an event may be larger than it takes at once. */
static void turn_flush(ResponseTurn *t) {
        bool room = true;

        while (room && t->out_offset < t->out.size) {
                size_t n = MIN(t->out.size - t->out_offset, SLICE_SIZE);
                int r = http_exchange_stream_write(t->call->exchange, t->out.text + t->out_offset, n);

                if (r < 0) {
                        http_exchange_abort(t->call->exchange);
                        t->finished = true;
                        return;
                }
                t->out_offset += n;
                room = r > 0;
        }
        if (t->out_offset < t->out.size) {
                if (t->client)
                        turn_client_set_paused(t->client, true);
                return;
        }
        strbuf_done(&t->out);
        t->out_offset = 0;
        if (t->finished)
                http_exchange_stream_end(t->call->exchange);
        else {
                if (t->client)
                        turn_client_set_paused(t->client, !room);
                (void) event_arm_timer(t->gateway->event, &t->silence_timer, SILENCE_USEC, 0, turn_on_silence, t);
        }
}

static int turn_on_silence(sd_event_source *s, uint64_t usec, void *userdata) {
        static const char comment[] = ": keep-alive\n\n";
        ResponseTurn *t = userdata;

        if (!t->finished && t->out.size == 0 && strbuf_append(&t->out, comment, strlen(comment)) >= 0)
                turn_flush(t);
        return 0;
}

static bool event_is_last(const char *type) {
        return streq(type, "response.completed") || streq(type, "response.incomplete") ||
                streq(type, "response.failed");
}

int response_turn_emit(const char *type, json_object *event, void *userdata) {
        int64_t sequence = json_get_int(event, "sequence_number", 0);
        ResponseTurn *t = userdata;
        const char *text;
        size_t size;

        /* Who asks for what comes after the end has not seen that: without one he would take it for still running. */
        if (sequence <= t->after && !(sequence < t->after && event_is_last(type)))
                return 0;
        if (t->chat)
                return chat_answer_emit(t->chat, type, event, response_fold_response(t->fold), &t->out);
        text = json_text(event, &size);
        return text ? sse_format(&t->out, type, text, size) : -ENOMEM;
}

/* Sends the head and response.created. */
static int turn_begin(ResponseTurn *t, bool queued) {
        HttpExchange *x = t->call->exchange;
        int r;

        if (t->begun)
                return 0;
        t->begun = true;
        t->head_timer = sd_event_source_disable_unref(t->head_timer);
        r = call_add_headers(t->call);
        if (r >= 0)
                r = http_exchange_add_header(x, "X-Accel-Buffering", "no");
        if (r >= 0)
                r = http_exchange_stream_begin(x, 200, "text/event-stream; charset=utf-8");
        if (r >= 0)
                r = response_fold_begin(t->fold, queued);
        if (r >= 0)
                turn_flush(t);
        return r;
}

/* --- ends --- */

static int turn_reply_chat(ResponseTurn *t) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_api_error_ ApiError e = {};
        int r;

        r = chat_answer_object(t->chat, response_fold_response(t->fold), &o, &e);
        if (r >= 0)
                call_reply_json(t->call, 200, o);
        else if (r == -EBADMSG) {
                t->call->handed_over = true;
                call_reply_error(t->call, &e);
        }
        return r == -EBADMSG ? 0 : r;
}

static int turn_reply_object(ResponseTurn *t) {
        json_object *response = response_fold_response(t->fold);

        if (t->chat)
                return turn_reply_chat(t);

        /* Streams have no word for it; the object has (responses-api §6.3). */
        if (streq_ptr(json_get_string(response, "status"), "incomplete") &&
            !json_get(response, "incomplete_details") && response_set_status(response, "cancelled") < 0)
                return -ENOMEM;
        call_reply_json(t->call, 200, response);
        return 0;
}

/* The response has ended. */
static void turn_finish(ResponseTurn *t) {
        if (t->finished || t->orphan)
                return;
        t->finished = true;
        t->sync_timer = sd_event_source_disable_unref(t->sync_timer);
        t->silence_timer = sd_event_source_disable_unref(t->silence_timer);
        if (t->stream)
                turn_flush(t);
        else if (turn_reply_object(t) < 0)
                call_reply_errno(t->call, -ENOMEM);
}

static void turn_fail(ResponseTurn *t, const char *code, const char *message) {
        if (t->finished || t->orphan)
                return;
        if ((t->stream && turn_begin(t, false) < 0) || response_fold_fail(t->fold, code, message) < 0) {
                t->finished = true;
                http_exchange_abort(t->call->exchange);
        } else
                turn_finish(t);
}

static void turn_refuse(ResponseTurn *t, const ApiError *e) {
        t->finished = true;
        t->head_timer = sd_event_source_disable_unref(t->head_timer);
        t->sync_timer = sd_event_source_disable_unref(t->sync_timer);
        call_reply_error(t->call, e);
}

/* --- telling the agent to stop --- */

static int turn_append_id(sd_bus_message *message, void *userdata) {
        ResponseTurn *t = userdata;

        return sd_bus_message_append(message, "s", t->id);
}

static void turn_on_interrupted(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        ResponseTurn *t = userdata;

        if (error)
                log_warning("Failed to interrupt turn %s: %s", t->id, error->message ?: error->name);
        t->interrupted = true;
        if (t->orphan)
                response_turn_free(t);
}

/* > 0: under way; 0: as soon as the agent has the turn. */
static int turn_interrupt(ResponseTurn *t) {
        int r;

        t->interrupting = true;
        if (t->interrupt)
                return 1;
        if (!turn_client_is_open(t->client))
                return 0;
        r = bus_call_start(&t->interrupt, t->gateway->event, t->gateway->bus, &(BusCallSpec) {
                .path = t->agent_path,
                .interface = PUFFO_BUS_AGENT_INTERFACE,
                .member = "Interrupt",
                .append = turn_append_id,
                .done = turn_on_interrupted,
                .userdata = t,
        });
        if (r < 0) {
                t->interrupting = false;
                return log_warning_errno(r, "Failed to interrupt turn %s: %m", t->id);
        }
        return 1;
}

static bool turn_has_other_listeners(ResponseTurn *t) {
        Call *c;

        LIST_FOREACH(c, &t->gateway->calls, calls)
                if (c->turn && c->turn != t && streq(c->turn->id, t->id))
                        return true;
        return false;
}

void response_turn_on_end(ResponseTurn *t, bool client_gone) {
        Gateway *g = t->gateway;

        t->call->turn = NULL;
        t->call = NULL;
        if (client_gone && t->mine && !t->background && !response_fold_has_ended(t->fold) && !g->stopping &&
            g->settings->interrupt_on_disconnect && !turn_has_other_listeners(t))
                (void) turn_interrupt(t);
        /* The answer may have come while the last words to the client were on their way: nothing else would free it.
         */
        if (!t->interrupting || t->interrupted || g->stopping || !t->client) {
                response_turn_free(t);
                return;
        }
        t->orphan = t->finished = true;
        t->head_timer = sd_event_source_disable_unref(t->head_timer);
        t->sync_timer = sd_event_source_disable_unref(t->sync_timer);
        t->silence_timer = sd_event_source_disable_unref(t->silence_timer);
        LIST_INSERT_HEAD(&g->orphans, t, orphans);
}

static int turn_on_sync_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_api_error_ ApiError e = {};
        ResponseTurn *t = userdata;

        t->call->handed_over = true;
        (void) turn_interrupt(t);
        (void) api_error_set(&e, 504, "timeout", NULL,
                             "The agent did not finish within %" PRIu64
                             " s and was interrupted. Use 'stream' or 'background' for "
                             "longer work.",
                             t->gateway->settings->sync_timeout_usec / USEC_PER_SEC);
        turn_refuse(t, &e);
        return 0;
}

/* --- the turn's client --- */

static void turn_on_open(void *userdata) {
        ResponseTurn *t = userdata;

        if (t->orphan) {
                (void) turn_interrupt(t);
                return;
        }
        t->call->handed_over = t->call->handed_over || t->mine;
        if (t->interrupting)
                (void) turn_interrupt(t);
        else if (t->background && !t->stream && !t->finished) {
                t->finished = true;
                call_reply_json(t->call, 200, response_fold_response(t->fold));
        }
}

static void turn_refuse_stream_gone(ResponseTurn *t) {
        _cleanup_api_error_ ApiError e = {};

        (void) api_error_set(&e, 400, "stream_not_available", NULL,
                             "The events of this response are no longer kept. Retrieve it without 'stream'.");
        turn_refuse(t, &e);
}

/* The client asks for what comes after an event of a log that a crash took along, and may have seen more of that than
 * there is of this one: it would wait in vain, even for the end. > 0: it was told. */
static int turn_check_log(ResponseTurn *t, json_object *event) {
        if (t->after < 0 || t->reopened || !response_log_is_new(event))
                return 0;
        if (t->begun) {         /* too late to say so: at least nothing is kept back */
                response_fold_skip(t->fold, t->after + 1);
                t->reopened = true;
                return 0;
        }
        turn_refuse_stream_gone(t);
        return 1;
}

/* When the turn ended, as its session says: the same for everybody who reads it, now and later. */
static uint64_t event_time(json_object *event) {
        int64_t ended = json_get_int(event, "ended_at", 0);

        return ended > 0 ? (uint64_t) ended : now_realtime_usec();
}

static int turn_on_event(json_object *event, void *userdata) {
        ResponseTurn *t = userdata;
        bool queued = streq(json_get_string(event, "type"), "queued") && json_get_int(event, "ahead", 0) > 0;
        int r = 0;

        if (t->finished)        /* of the rest, and of the stream's end, nobody wants to know */
                return 1;
        r = turn_check_log(t, event);
        if (r > 0)
                return r;
        if (t->stream)
                r = turn_begin(t, queued);
        if (r >= 0 && !t->finished)
                r = response_fold_feed(t->fold, event, event_time(event));
        if (r < 0) {
                log_warning_errno(r, "Failed to show an event of turn %s: %m", t->id);
                turn_fail(t, "server_error", "The server had an error while processing the agent's answer.");
                return 1;
        }
        if (r > 0)
                turn_finish(t);
        else if (t->stream && !t->finished)
                turn_flush(t);
        return r;
}

static void turn_on_reopened(void *userdata) {
        ResponseTurn *t = userdata;

        t->reopened = true;
        response_fold_reopen(t->fold);
}

static void turn_on_record(const TurnRecord *record, void *userdata) {
        ResponseTurn *t = userdata;

        if (t->orphan) {
                response_turn_free(t);
                return;
        }
        if (t->finished)
                return;
        if ((t->stream && turn_begin(t, false) < 0) || response_fold_finish(t->fold, record) < 0)
                turn_fail(t, "server_error", "The server had an error while processing the agent's answer.");
        else
                turn_finish(t);
}

static void turn_set_error(ResponseTurn *t, const sd_bus_error *error, ApiError *e) {
        const char *previous = t->request.previous_response_id;

        if (previous && sd_bus_error_has_name(error, PUFFO_ERROR_NO_SUCH_TURN))
                (void) api_error_set(e, 400, "previous_response_not_found", "previous_response_id",
                                     "Previous response with id '%s' not found.", previous);
        else if (sd_bus_error_has_name(error, PUFFO_ERROR_TURN_RUNNING))
                (void) api_error_set(e, 409, "response_in_progress", "previous_response_id",
                                     "Previous response '%s' is still in progress.", strempty(previous));
        else if (t->mine && sd_bus_error_has_name(error, SD_BUS_ERROR_NOT_SUPPORTED))
                (void) api_error_set(e, 400, "unsupported_value", previous ? "previous_response_id" : "conversation",
                                     "Unsupported value: %s", error->message ?: error->name);
        else if (sd_bus_error_has_name(error, PUFFO_ERROR_STREAM_GONE) && !t->mine)
                (void) api_error_set(e, 400, "stream_not_available", NULL,
                                     "The events of this response are no longer kept. Retrieve it without 'stream'.");
        else
                api_error_from_bus(e, error, t->request.model);
}

static void turn_on_failed(const sd_bus_error *error, void *userdata) {
        _cleanup_api_error_ ApiError e = {};
        ResponseTurn *t = userdata;

        if (t->orphan) {
                response_turn_free(t);
                return;
        }
        if (t->finished)
                return;
        if (!t->begun && !turn_client_is_open(t->client)) {
                /* Nobody can say whether the agent got it when the reply was lost. */
                t->call->handed_over = sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) ||
                        sd_bus_error_has_name(error, SD_BUS_ERROR_TIMEOUT);
                turn_set_error(t, error, &e);
                turn_refuse(t, &e);
                return;
        }
        turn_set_error(t, error, &e);
        turn_fail(t, e.status == 429 ? "rate_limit_exceeded" : e.status < 500 ? "invalid_prompt" : "server_error",
                  strempty(e.message));
}

static int turn_on_head_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        ResponseTurn *t = userdata;

        if (turn_begin(t, false) < 0)
                http_exchange_abort(t->call->exchange);
        return 0;
}

static int append_string(sd_bus_message *m, const char *name, const char *value) {
        return isempty(value) ? 0 : bus_append_text_entry(m, name, value);
}

static int append_files(sd_bus_message *m, const RequestFiles *files) {
        int r;

        if (files->n == 0)
                return 0;
        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Files");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(sssh)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sssh)");
        for (size_t i = 0; i < files->n && r >= 0; i++) {
                const RequestFile *f = files->files + i;

                r = sd_bus_message_open_container(m, 'r', "sssh");
                if (r >= 0)
                        r = bus_append_text(m, f->name);
                if (r >= 0)
                        r = bus_append_text(m, f->type);
                if (r >= 0)
                        r = sd_bus_message_append(m, "sh", f->image ? "image" : "file", f->fd);
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        for (unsigned i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int turn_append(sd_bus_message *m, void *userdata) {
        ResponseTurn *t = userdata;
        const ResponsesRequest *q = &t->request;
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = append_string(m, "Text", q->text);
        if (r >= 0)
                r = append_string(m, "Instructions", q->instructions);
        if (r >= 0)
                r = append_string(m, "History", q->history);
        if (r >= 0)
                r = append_string(m, "Conversation", q->conversation);
        if (r >= 0)
                r = append_string(m, "Previous", q->previous_response_id);
        if (r >= 0)
                r = append_string(m, "Document", t->document);
        if (r >= 0)
                r = append_files(m, &t->request.files);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "Store", "b", (int) q->store);
        if (r >= 0)
                r = sd_bus_message_append(m, "{sv}", "Source", "s", "responses");
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* Response and fold are there: asks the agent. */
int response_turn_start(ResponseTurn *t) {
        Gateway *g = t->gateway;
        int r;

        if (t->stream) {
                r = event_arm_timer(g->event, &t->head_timer, HEAD_USEC, 1, turn_on_head_timeout, t);
                if (r < 0)
                        return r;
        } else if (!t->background) {
                r = event_arm_timer(g->event, &t->sync_timer, g->settings->sync_timeout_usec, 0, turn_on_sync_timeout,
                                    t);
                if (r < 0)
                        return r;
        }
        if (g->settings->buffer_until_item_done)
                response_fold_set_buffered(t->fold);
        if (!t->stream) {
                r = response_fold_begin(t->fold, false);
                if (r < 0)
                        return r;
        }
        return turn_client_new(&t->client, g->event, g->bus, &(TurnClientSpec) {
                .agent_path = t->agent_path,
                .id = t->id,
                .append = t->mine ? turn_append : NULL,
                .on_open = turn_on_open,
                .on_event = turn_on_event,
                .on_reopened = turn_on_reopened,
                .on_record = turn_on_record,
                .on_failed = turn_on_failed,
                .userdata = t,
        });
}

int response_turn_new(Call *c, const MirroredAgent *a, const char *id, ResponseTurn **ret) {
        _cleanup_(response_turn_freep) ResponseTurn *t = new0(ResponseTurn, 1);

        if (!t)
                return -ENOMEM;
        t->gateway = c->gateway;
        t->call = c;
        t->after = -1;
        t->agent_path = strdup(a->path);
        t->id = strdup(id);
        if (!t->agent_path || !t->id)
                return -ENOMEM;
        *ret = TAKE_PTR(t);
        return 0;
}

void response_turn_on_writable(ResponseTurn *t) {
        if (t->begun && t->stream)
                turn_flush(t);
}

static int turn_emit_goodbye(ResponseTurn *t, const char *message) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "type", "error") < 0 ||
            json_put_int(o, "sequence_number", response_fold_sequence(t->fold)) < 0 ||
            json_put_string(o, "code", "server_error") < 0 || json_put_string(o, "message", message) < 0 ||
            json_put_null(o, "param") < 0)
                return -ENOMEM;
        return response_turn_emit("error", o, t);
}

void response_turn_say_goodbye(ResponseTurn *t) {
        _cleanup_free_ char *message = NULL;
        _cleanup_api_error_ ApiError e = {};

        if (t->finished)
                return;
        message = strjoin("The server is restarting. The turn goes on: retrieve it as ", t->id, ".");
        if (!t->stream || !t->begun) {
                t->call->handed_over = t->call->handed_over || t->mine;
                (void) api_error_set(&e, 503, NULL, NULL, "%s", strempty(message));
                turn_refuse(t, &e);
                return;
        }
        t->finished = true;
        t->silence_timer = sd_event_source_disable_unref(t->silence_timer);
        (void) turn_emit_goodbye(t, strempty(message));
        turn_flush(t);
}
