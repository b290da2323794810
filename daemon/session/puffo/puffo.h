/* SPDX-License-Identifier: MIT */
#pragma once

#include "approvals.h"
#include "batches.h"
#include "directory.h"
#include "outbox.h"
#include "session-config.h"
#include "turn-queue.h"

/* The agent on the chat service: its keys, its connection, and everything that comes and goes over it. Exists only for
 * agents that have an identity there (puffo_core in agent.yml). */
typedef struct Puffo Puffo;

typedef struct PuffoSpec {
        sd_event *event;
        Database *db;
        TurnQueue *queue;
        Approvals *approvals;           /* whose operator is asked and answers here; may be NULL */
        const SessionConfig *config;    /* of now; not kept */
        /* Something that is shown has changed. */
        void (*on_changed)(void *userdata);
        void (*on_broken)(int error, void *userdata);
        /* After puffo_stop(): there is nothing more to be waited for. May be called from inside of that. */
        void (*on_left)(void *userdata);
        void *userdata;
} PuffoSpec;

/* What spec names but config is borrowed. Begins to connect from the loop. -EBADMSG with *reterr: what is wrong with
 * keys or configuration, one line. -ENOMEM. */
int puffo_new(Puffo **ret, const PuffoSpec *spec, char **reterr);
/* Cuts the connection; what was not acknowledged comes again. */
Puffo* puffo_free(Puffo *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Puffo*, puffo_free);

/* The part of a configuration that needs a new Puffo: server, slug, device, CA. */
bool puffo_is_for(const Puffo *p, const SessionConfig *config);
/* Takes over what can change while it runs: triggers, operator, policy, jitter. */
int puffo_configure(Puffo *p, const SessionConfig *config);

/* Takes leave of the server (message-pipeline §18): what is to be said goes out, what is to be told of turns is told,
 * then the stream is closed; on_left() follows, within a dozen seconds in any case. */
void puffo_stop(Puffo *p);

/* What the queue's driver has to say to. */
Batches* puffo_batches(Puffo *p);

/* A direct message to the operator, if there is one; a second one of the same key is the first. */
int puffo_tell_operator(Puffo *p, const char *key, const char *text);

/* For the tools. All borrowed. */
Outbox* puffo_outbox(Puffo *p);
Directory* puffo_directory(Puffo *p);
ServerClient* puffo_client(Puffo *p);
Database* puffo_database(Puffo *p);
const char* puffo_home_space(const Puffo *p);   /* "" when there is none */

/* For people: one line on the connection. */
const char* puffo_status_text(const Puffo *p);
