/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "database.h"
#include "server-client.h"

/* What the agent says on the chat service (message-pipeline §12): every message is a row first, is sealed once, and
 * its bytes are stored before they are posted, so that after a crash the same envelope goes out again under its own id
 * instead of a second one. Those of a conversation (a channel, a person) go out one after the other, in their order,
 * and no conversation waits for what keeps another one. What was posted is stored with the other messages. */
typedef struct Outbox Outbox;

#define OUTBOX_TEXT_MAX KIB(256)

typedef struct OutgoingMessage {
        /* The caller's name for it, or NULL: a second message of the same key is the first one. */
        const char *key;
        const char *channel_id, *space_id;      /* both, or … */
        const char *recipient_slug;             /* … this */
        const char *thread_root_id;             /* NULL or "": a new top-level post */
        const char *content_type;               /* NULL: text/plain */
        const char *content;                    /* JSON text, a string of text/plain */
        const char *turn;                       /* for the journal, may be NULL */
} OutgoingMessage;

typedef struct OutboxSpec {
        sd_event *event;
        Database *db;
        ServerClient *client;
        CertCache *certs;
        /* Whether the server is there: what fails meanwhile is not for lack of it. */
        bool (*is_online)(void *userdata);
        /* The database is damaged. */
        void (*on_broken)(int error, void *userdata);
        /* outbox_is_settled() has become true, or still is. May be NULL. */
        void (*on_settled)(void *userdata);
        void *userdata;
} OutboxSpec;

/* What spec names is borrowed. Takes up what an earlier process has left when outbox_start() is called. */
int outbox_new(Outbox **ret, const OutboxSpec *spec);
/* Watches that have not been called never will be, and are still to be freed. */
Outbox* outbox_free(Outbox *o);
DEFINE_TRIVIAL_CLEANUP_FUNC(Outbox*, outbox_free);
int outbox_start(Outbox *o);

/* Adds a row, within the caller's transaction if there is one: it is sent when that is committed and the loop runs.
 * *ret_id (may be NULL) names it. -EINVAL without a recipient, or for content that is no JSON; -E2BIG. > 0: there was
 * one of this key. */
int outbox_add(Outbox *o, const OutgoingMessage *m, int64_t *ret_id);

typedef struct OutboxResult {
        int error;                      /* 0: it is on the server */
        const char *envelope_id;        /* then */
        const char *text;               /* else: one line for the model or the journal */
} OutboxResult;

/* Tells once, from the loop, how the message ended, at once if it has ended already. */
typedef struct OutboxWatch OutboxWatch;
typedef void (*outbox_done_t)(OutboxWatch *w, const OutboxResult *result, void *userdata);
int outbox_watch(Outbox *o, int64_t id, outbox_done_t on_done, void *userdata, OutboxWatch **ret);
OutboxWatch* outbox_watch_free(OutboxWatch *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(OutboxWatch*, outbox_watch_free);

/* Nothing is on its way or about to be; what waits for another try does not count. */
bool outbox_is_settled(const Outbox *o);

/* 1 = there is one of this key, with its row's id; 0 = none. */
int outbox_find(Outbox *o, const char *key, int64_t *ret_id);
/* Within the caller's transaction, if there is one. 1: it is not sent, neither now nor later. 0: that is too late, it
 * has its envelope, or has failed. -ENOENT. */
int outbox_withdraw(Outbox *o, int64_t id);
