/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "event-util.h"
#include "log.h"
#include "request-signing.h"
#include "stream-internal.h"

/* server-api Q-14: a subkey that the handshake refuses twice is replaced, at most so often. */
#define REFUSED_MAX 2U
#define REFUSED_ROTATION_PAUSE_USEC (300 * USEC_PER_SEC)
/* After a resume nobody else tells that a connection died. */
#define PROBE_TIMEOUT_USEC (5 * USEC_PER_SEC)
#define MESSAGE_MAX (ENVELOPE_SIZE_MAX + KIB(4))

static int stream_on_timer(sd_event_source *source, uint64_t usec, void *userdata);

const char* stream_state_to_string(StreamState s) {
        static const char *const names[_STREAM_STATE_MAX] = {
                [STREAM_WAITING] = "waiting",
                [STREAM_CONNECTING] = "connecting",
                [STREAM_CONNECTED] = "connected",
                [STREAM_STOPPED] = "stopped",
        };

        return s < _STREAM_STATE_MAX ? names[s] : NULL;
}

static void stream_set_state(Stream *s, StreamState state, const char *reason) {
        s->state = state;
        if (s->handlers.on_state)
                s->handlers.on_state(s, state, reason, s->handlers.userdata);
}

static int stream_arm(Stream *s, uint64_t delay_usec) {
        return event_arm_timer(s->event, &s->timer, delay_usec, /* accuracy= */ 50 * USEC_PER_MSEC, stream_on_timer,
                               s);
}

/* --- between connections --- */

/* 1, 2, 4 … 30 s, ±20 % so that the clients of a server that comes back do not come all at once. */
static uint64_t stream_next_pause(Stream *s) {
        uint64_t pause = s->times.pause_max_usec;

        if (s->n_failures < 16)
                pause = MIN(pause, s->times.pause_min_usec << s->n_failures);
        s->n_failures++;
        pause = pause / 10 * 8 + pause / 1000 * randombytes_uniform(401);
        return MAX(pause, s->times.pause_min_usec);
}

/* Everything that belonged to the connection goes; what the user works on stays with the user. */
static void stream_drop_connection(Stream *s) {
        s->socket = websocket_free(s->socket);
        s->wait = subkey_wait_free(s->wait);
        s->timer = sd_event_source_disable_unref(s->timer);
        catch_up_cancel(s);
        inbox_clear(s);
        s->greeted = false;
        s->acks.by_frame = false;
        acks_commit(s);
        s->acks.missed = strv_free(s->acks.missed);
        acks_flush(s, /* all= */ false);
}

/* A server that is away for the night is no news each time. */
static void stream_log_failure(Stream *s, const char *reason, uint64_t pause_usec) {
        int level = streq_ptr(s->last_reason, reason) ? LOG_DEBUG : LOG_NOTICE;

        log_fields(level, 0, NULL, "Not connected to %s: %s; trying again in %" PRIu64 " s.",
                   server_client_url(s->client), reason, (pause_usec + USEC_PER_SEC / 2) / USEC_PER_SEC);
        (void) free_and_strdup(&s->last_reason, reason);
}

static void stream_lost(Stream *s, const char *reason) {
        uint64_t now = now_boottime_usec(), pause;
        _cleanup_free_ char *text = str_printable(strempty(reason), 200);

        if (s->greeted && now - s->connected_usec >= s->times.healthy_usec)
                s->n_failures = 0;
        stream_drop_connection(s);
        if (s->stopping) {
                stream_set_state(s, STREAM_STOPPED, NULL);
                return;
        }

        pause = stream_next_pause(s);
        stream_log_failure(s, strempty(text), pause);
        if (stream_arm(s, pause) < 0)
                (void) log_oom();
        stream_set_state(s, STREAM_WAITING, strempty(text));
}

/* --- frames --- */

static void stream_send_pong(Stream *s) {
        static const char pong[] = "{\"type\":\"pong\"}";

        (void) websocket_send_text(s->socket, pong, strlen(pong));
}

static void stream_greet(Stream *s) {
        s->timer = sd_event_source_disable_unref(s->timer);
        s->greeted = true;
        s->n_refused = 0;
        s->connected_usec = now_boottime_usec();
        s->last_reason = mfree(s->last_reason);
        log_info("Connected to %s.", server_client_url(s->client));
        stream_set_state(s, STREAM_CONNECTED, NULL);
        catch_up_begin(s);
}

static void stream_on_greeting(Stream *s, const SignedValue *frame) {
        const char *type = strempty(signed_get_string(frame, "type"));
        _cleanup_free_ char *text = NULL;

        if (streq(type, "connected") && !isempty(signed_get_string(frame, "session_id"))) {
                stream_greet(s);
                return;
        }
        s->n_refused++;
        text = asprintf_new("The server answers the handshake with '%s' %s", type,
                            strempty(signed_get_string(frame, "message") ?: signed_get_string(frame, "error")));
        stream_lost(s, text ?: "The server refuses the handshake");
}

static void stream_on_garbage(Stream *s) {
        log_warning("A frame from the server is no JSON object; looking for what it may have been.");
        catch_up_again(s);
}

static void stream_on_frame(Stream *s, SignedDocument **document) {
        const SignedValue *frame = signed_document_root(*document);
        const char *type = strempty(signed_get_string(frame, "type"));

        if (streq(type, "ping"))
                stream_send_pong(s);
        else if (streq(type, "message"))
                inbox_add_live(s, document, signed_get(frame, "envelope"));
        else if (streq(type, "event")) {
                const SignedValue *event = signed_get(frame, "event");

                if (s->handlers.on_event && event && event->type == SIGNED_OBJECT)
                        s->handlers.on_event(s, strempty(signed_get_string(frame, "scope")), event,
                                             s->handlers.userdata);
        } else if (streq(type, "cert_update") && s->handlers.on_cert_update)
                s->handlers.on_cert_update(s, signed_get_string(signed_get(frame, "entry"), "slug"),
                                           s->handlers.userdata);
}

static void stream_on_text(WebSocket *w, const char *text, size_t size, void *userdata) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        Stream *s = userdata;
        int r = signed_document_parse(&d, text, size);

        if (r >= 0 && signed_document_root(d)->type != SIGNED_OBJECT)
                r = -EBADMSG;
        if (r >= 0 && s->greeted)
                stream_on_frame(s, &d);
        else if (r >= 0)
                stream_on_greeting(s, signed_document_root(d));
        else if (s->greeted)
                stream_on_garbage(s);
        else
                stream_lost(s, "The server answers the handshake with something that is no JSON");
}

/* --- making a connection --- */

static void stream_on_open(WebSocket *w, void *userdata) {
        const SessionKey *key;
        _cleanup_free_ char *frame = NULL;
        char nonce[NONCE_TEXT_SIZE];
        Stream *s = userdata;
        int r;

        key = server_client_subkey(s->client);
        if (!key) {
                stream_lost(s, "The subkey expired while connecting");
                return;
        }
        nonce_random(nonce);
        r = stream_connect_frame(server_client_identity(s->client)->slug, key->subkey_id, key->seed, nonce,
                                 now_realtime_ms(), &frame);
        if (r >= 0)
                r = free_and_strdup(&s->subkey_id, key->subkey_id);
        if (r >= 0)
                r = websocket_send_text(w, frame, strlen(frame));
        if (r >= 0)
                r = stream_arm(s, s->times.handshake_usec);
        if (r < 0)
                stream_lost(s, strerror(-r));
}

static void stream_on_close(WebSocket *w, const WebSocketEnd *end, void *userdata) {
        _cleanup_free_ char *reason = NULL;
        Stream *s = userdata;

        if (end->opened && !s->greeted)
                s->n_refused++;
        reason = end->status ? asprintf_new("%s (HTTP %ld)", end->error, end->status) : strdup(end->error);
        stream_lost(s, reason ?: "Out of memory");
}

static void stream_open_socket(Stream *s) {
        _cleanup_free_ char *url = stream_url(server_client_url(s->client));
        WebSocketSpec spec = {
                .url = url,
                .ca_file = server_client_ca_file(s->client),
                .max_message = MESSAGE_MAX,
                .ping_interval_usec = s->times.ping_interval_usec,
                .pong_timeout_usec = s->times.pong_timeout_usec,
                .on_open = stream_on_open,
                .on_text = stream_on_text,
                .on_close = stream_on_close,
                .userdata = s,
        };
        int r = url ? websocket_new(&s->socket, server_client_http(s->client), s->event, &spec) : -ENOMEM;

        if (r < 0)
                stream_lost(s, strerror(-r));
}

static void stream_on_subkey(const CallReply *reply, void *userdata) {
        Stream *s = userdata;

        s->wait = subkey_wait_free(s->wait);
        if (reply->failure == CALL_OK)
                stream_open_socket(s);
        else
                stream_lost(s, reply->error ?: "There is no subkey");
}

/* The subkey that the server does not let in, when it is time for another; else NULL. */
static const char* stream_refused_subkey(Stream *s, uint64_t now) {
        if (s->n_refused < REFUSED_MAX ||
            (s->rotated_usec > 0 && now - s->rotated_usec < REFUSED_ROTATION_PAUSE_USEC))
                return NULL;
        s->rotated_usec = now;
        s->n_refused = 0;
        return s->subkey_id;
}

static void stream_connect(Stream *s) {
        const char *refused;
        int r = 0;

        s->attempt_usec = now_boottime_usec();
        refused = stream_refused_subkey(s, s->attempt_usec);
        stream_set_state(s, STREAM_CONNECTING, NULL);

        if (refused || !server_client_subkey(s->client)) {
                r = subkey_wait_new(&s->wait, s->client, refused, stream_on_subkey, s);
                if (r == -EBUSY)
                        r = 0;
                else if (r >= 0)
                        return;
        }
        if (r < 0)
                stream_lost(s, strerror(-r));
        else
                stream_open_socket(s);
}

static int stream_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Stream *s = userdata;

        if (s->state == STREAM_WAITING)
                stream_connect(s);
        else if (s->state == STREAM_CONNECTING)
                stream_lost(s, "The server does not answer the handshake");
        return 0;
}

void stream_probe(Stream *s) {
        uint64_t now = now_boottime_usec(), next = s->attempt_usec + s->times.pause_min_usec;

        if (s->state == STREAM_CONNECTED)
                websocket_probe(s->socket, PROBE_TIMEOUT_USEC);
        else if (s->state == STREAM_WAITING) {
                s->n_failures = 0;
                (void) stream_arm(s, next > now ? next - now : 0);
        }
}

static void stream_on_clock(void *userdata) {
        stream_probe(userdata);
}

void stream_stop(Stream *s) {
        if (s->state == STREAM_STOPPED || s->stopping)
                return;

        s->stopping = true;
        if (s->state != STREAM_CONNECTED) {
                stream_lost(s, NULL);
                return;
        }
        acks_commit(s);
        acks_flush(s, /* all= */ true);
        catch_up_cancel(s);
        inbox_clear(s);
        websocket_close(s->socket, WEBSOCKET_CLOSE_NORMAL);
}

StreamState stream_state(const Stream *s) {
        return s->state;
}

static void times_fill(StreamTimes *t) {
        t->handshake_usec = t->handshake_usec ?: 5 * USEC_PER_SEC;
        t->healthy_usec = t->healthy_usec ?: 60 * USEC_PER_SEC;
        t->pause_min_usec = t->pause_min_usec ?: USEC_PER_SEC;
        t->pause_max_usec = t->pause_max_usec ?: 30 * USEC_PER_SEC;
        t->put_off_min_usec = t->put_off_min_usec ?: 30 * USEC_PER_SEC;
        t->put_off_max_usec = t->put_off_max_usec ?: 600 * USEC_PER_SEC;
        t->fetch_usec = t->fetch_usec ?: 300 * USEC_PER_SEC;
}

int stream_new(Stream **ret, ServerClient *client, sd_event *event, const StreamHandlers *handlers,
               const StreamTimes *times) {
        _cleanup_(stream_freep) Stream *s = NULL;
        int r;

        assert(ret && client && event && handlers && handlers->on_envelope);

        s = new0(Stream, 1);
        if (!s)
                return -ENOMEM;
        s->client = client;
        s->event = sd_event_ref(event);
        s->handlers = *handlers;
        if (times)
                s->times = *times;
        times_fill(&s->times);
        LIST_INIT(&s->acks.calls);

        r = inbox_init(s);
        if (r >= 0)
                r = clock_watch_new(&s->clock, event, stream_on_clock, s);
        if (r >= 0)
                r = stream_arm(s, 0);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(s);
        return 0;
}

Stream* stream_free(Stream *s) {
        if (!s)
                return NULL;

        s->clock = clock_watch_free(s->clock);
        s->socket = websocket_free(s->socket);
        s->wait = subkey_wait_free(s->wait);
        s->timer = sd_event_source_disable_unref(s->timer);
        catch_up_cancel(s);
        inbox_done(s);
        acks_done(s);
        free(s->subkey_id);
        free(s->last_reason);
        sd_event_unref(s->event);
        return mfree(s);
}
