/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "clock-watch.h"
#include "pending-reader.h"
#include "server-api.h"
#include "stream.h"
#include "websocket.h"

/* Shared by stream.c (the connection), stream-inbox.c (what came and who has it), stream-ack.c (what is told of it).
 */

/* server-api §9.3 */
#define ACK_CHUNK 25U

typedef struct Item {
        STAILQ_ENTRY(Item) items;
        Envelope *envelope;
        size_t size;                    /* in memory: a hostile one takes far more there than on its way */
        bool missed;                    /* of GET /messages/pending, not of the stream */
} Item;

STAILQ_HEAD(ItemQueue, Item);

typedef struct Inbox {
        struct ItemQueue queue;
        size_t n_queued, n_bytes;
        Item *current;                  /* with our user */
        sd_event_source *turn;          /* hands out the next */
        bool delivering;                /* inside of on_envelope */
} Inbox;

/* One look at GET /messages/pending after the other, until it is empty. */
typedef struct CatchUp {
        ServerCall *call;
        PendingReader *reader;
        sd_event_source *timer;         /* for what was put off, or failed */
        uint64_t pause_usec, last_usec;
        char *first_id, *last_first_id; /* of this pass and the one before: the list must move on */
        size_t n_items, last_n_items;
        char *problem;                  /* why reading stopped */
        bool running, paused, again, put_off;
} CatchUp;

typedef struct AckCall AckCall;
LIST_HEAD(AckCallList, AckCall);

typedef struct Acks {
        char **missed, **live;          /* stored, but not told yet */
        char **fresh_missed, **fresh_live;      /* not known to be on disk */
        unsigned n_fresh;
        sd_event_source *timer;         /* for their commit, at the latest */
        struct AckCallList calls;
        unsigned n_calls;
        bool by_frame;                  /* this server has no other way */
} Acks;

struct Stream {
        ServerClient *client;
        sd_event *event;
        StreamHandlers handlers;
        StreamTimes times;
        ClockWatch *clock;

        StreamState state;
        WebSocket *socket;
        SubkeyWait *wait;
        sd_event_source *timer;         /* pause between attempts, or the handshake's limit */
        char *subkey_id;                /* that this connection was signed with */
        unsigned n_failures, n_refused; /* in a row */
        uint64_t attempt_usec, connected_usec, rotated_usec;    /* boottime; 0: never */
        bool greeted;                   /* "connected" has come */
        bool stopping;
        char *last_reason;

        Inbox inbox;
        CatchUp catch_up;
        Acks acks;
};

/* stream-inbox.c */
int inbox_init(Stream *s);
void inbox_done(Stream *s);
/* What no user has seen yet is dropped: the server still has it. */
void inbox_clear(Stream *s);
/* A message off the stream; *document is taken over. */
void inbox_add_live(Stream *s, SignedDocument **document, const SignedValue *envelope);
void catch_up_begin(Stream *s);
void catch_up_cancel(Stream *s);
/* Another look, soon, for a message that may have been in what could not be read. */
void catch_up_again(Stream *s);
/* Something that was handed out has to come again. */
void catch_up_put_off(Stream *s);
/* Looks whether the pass is over, now that something of it is. */
void catch_up_check(Stream *s);

/* stream-ack.c */
void acks_done(Stream *s);
void acks_add(Stream *s, const char *envelope_id, bool missed);
/* What was added is on disk when the user says so, and else put off. */
void acks_commit(Stream *s);
/* The same, but while a list is being fetched for many at a time, or after a moment. Tells the server of whole chunks.
 */
void acks_commit_soon(Stream *s);
/* Tells the server; whole chunks only unless all. */
void acks_flush(Stream *s, bool all);
bool acks_are_pending(const Stream *s);
