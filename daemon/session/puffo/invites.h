/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "directory.h"
#include "outbox.h"

/* Invitations to spaces and channels (message-pipeline §13): the operator's are accepted, about all others the
 * operator is asked by DM. What has been asked and answered is in the database, so that neither a restart nor a second
 * poll asks or acts twice. */
typedef struct Invites Invites;

typedef struct InvitesSpec {
        sd_event *event;
        Database *db;
        ServerClient *client;
        CertCache *certs;
        Directory *directory;
        Outbox *outbox;
        const char *operator_slug;      /* copied; NULL or "": none */
        /* The agent is in this channel now: time to introduce itself. Called from the loop; must not free. < 0: once
         * more after the next start. */
        int (*on_joined)(const char *space_id, const char *channel_id, void *userdata);
        /* The database is damaged. May be NULL. */
        void (*on_broken)(int error, void *userdata);
        void *userdata;
} InvitesSpec;

/* What spec names is borrowed. Asks nobody before it is connected. -ENOMEM. */
int invites_new(Invites **ret, const InvitesSpec *spec);
Invites* invites_free(Invites *i);
DEFINE_TRIVIAL_CLEANUP_FUNC(Invites*, invites_free);

/* From now on it is this one; NULL or "": none. -ENOMEM. */
int invites_set_operator(Invites *i, const char *operator_slug);
/* The sender of a message that was just verified is the operator: by its slug, and by its root key where our identity
 * names one. */
bool invites_is_operator(Invites *i, const char *slug);
/* Of the stream: polls are made while it is connected. */
void invites_set_connected(Invites *i, bool connected);
/* Asks for invitations now, or as soon as the poll that is under way is over. */
void invites_poke(Invites *i);
/* A signed event of the stream: pokes when it is an invitation for this agent. */
void invites_on_event(Invites *i, const SignedValue *event);

/* A DM has come in. > 0: it is the operator's answer to a question of ours and is to wake nobody; 0: it is not. Writes
 * into the caller's transaction; what follows from the answer begins when the loop runs, if that was committed. */
int invites_consume_answer(Invites *i, const char *sender_slug, const char *thread_root_id, const char *text);
