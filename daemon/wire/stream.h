/* SPDX-License-Identifier: MIT */
#pragma once

#include "envelope.h"
#include "server-client.h"

/* The stream of what happens on the server (server-api §§9.2, 9.3, 13; wire-protocol §15): connects, fetches what was
 * missed, acknowledges what its user has stored, and comes back after every kind of break, forever, without haste. */
typedef struct Stream Stream;

typedef enum StreamState {
        STREAM_WAITING,                 /* until the next attempt */
        STREAM_CONNECTING,
        STREAM_CONNECTED,
        STREAM_STOPPED,
        _STREAM_STATE_MAX,
} StreamState;

const char* stream_state_to_string(StreamState s);

typedef enum Delivery {
        DELIVERY_TAKEN,         /* committed, or never to be of use: the server may forget it */
        DELIVERY_LATER,         /* something failed that may pass: the server sends it again */
} Delivery;

typedef struct StreamHandlers {
        /* A message, live or missed; the same one may come twice. Answer with stream_delivered(), now or later: until
         * then no other is handed out. e is borrowed up to that answer. */
        void (*on_envelope)(Stream *s, Envelope *e, void *userdata);
        /* Puts on disk what was stored since the last call: nothing is acknowledged before. < 0: it could not be, and
         * all of it comes again. May be NULL, when it is there already. */
        int (*commit)(Stream *s, void *userdata);
        /* A signed event of a space, not verified. May be NULL, as the next ones. */
        void (*on_event)(Stream *s, const char *space_id, const SignedValue *event, void *userdata);
        /* slug's certificates have changed; NULL: nobody knows whose. */
        void (*on_cert_update)(Stream *s, const char *slug, void *userdata);
        /* reason: one line for logs and people, or NULL. The stream must not be freed from here. */
        void (*on_state)(Stream *s, StreamState state, const char *reason, void *userdata);
        /* Nothing that was pending is left but what was put off. */
        void (*on_caught_up)(Stream *s, void *userdata);
        void *userdata;
} StreamHandlers;

/* Numbers of server-api §§1.5, 13.2, 13.4; 0 takes those. Tests take shorter ones. */
typedef struct StreamTimes {
        uint64_t handshake_usec, ping_interval_usec, pong_timeout_usec, healthy_usec, pause_min_usec, pause_max_usec,
                        put_off_min_usec, put_off_max_usec, fetch_usec;
} StreamTimes;

/* Begins to connect from the loop. client outlives the stream. */
int stream_new(Stream **ret, ServerClient *client, sd_event *event, const StreamHandlers *handlers,
               const StreamTimes *times);
/* Cuts the connection; what was not acknowledged comes again next time. */
Stream* stream_free(Stream *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(Stream*, stream_free);

/* Ends the delivery of the last envelope that on_envelope was called with, from inside of it too. */
void stream_delivered(Stream *s, Delivery verdict);
/* Takes leave of the server: acknowledges what is stored, closes; STREAM_STOPPED follows within some seconds. */
void stream_stop(Stream *s);
/* The network may be another one now: looks whether the connection lives, or tries to make one at once. */
void stream_probe(Stream *s);
StreamState stream_state(const Stream *s);
