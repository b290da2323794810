/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* What the agent's CLI was started with and what it was given: all that a later process of the session needs to take
 * it over, whatever the agent's configuration says by then. One at a time; the last one stays known when it has
 * ended. */

#define RUN_HASH_SIZE 32U

typedef enum RunSent {
        RUN_NOTHING,            /* it has no turn, or nobody has to wait for what it does with it */
        RUN_SENDING,            /* it may have got the turn's text, or a part of it, or nothing */
        RUN_SENT,               /* it has got it */
        _RUN_SENT_MAX,
        _RUN_SENT_INVALID = -EINVAL,
} RunSent;

typedef struct HarnessRun {
        char *invocation;       /* of its unit */
        char *kind;             /* harness_kind_to_string() */
        char *session_id;       /* the conversation, as far as it is known; NULL: a new one */
        char *model;            /* "": its own choice */
        char *token;            /* with which it calls its model, "": none */
        char *directory;        /* where it works */
        char *permission_mode;
        char *own_sandbox;      /* that the CLI makes, "": its own choice */
        char **allowed_tools;   /* that it may use, where we say so call by call; NULL: none */
        char *conversation;     /* that it is in, as clients call it; "": the main one */
        uint8_t hash[RUN_HASH_SIZE];    /* of what it was started with */
        bool has_outlet, has_proxy;
        bool ended;

        char *turn;             /* the last one that it was given; "": none */
        char *message;          /* the name of what it was given: another one each time */
        char *kick;             /* what was said instead of the turn's text, "": that itself */
        RunSent sent;
        char *charged;          /* the message whose use was added to the budget last, "": none */
} HarnessRun;
HarnessRun* harness_run_free(HarnessRun *r);            /* wipes the token */
DEFINE_TRIVIAL_CLEANUP_FUNC(HarnessRun*, harness_run_free);

/* > 0: *ret is the last one. 0: there was none yet. */
int run_store_get(Database *db, HarnessRun **ret);
/* A new one begins, and the one before is forgotten. */
int run_store_begin(Database *db, const HarnessRun *r);
/* What it was given: turn, message, kick and sent. */
int run_store_give(Database *db, const HarnessRun *r);
/* session_id and conversation. */
int run_store_set_session(Database *db, const HarnessRun *r);
int run_store_set_charged(Database *db, const HarnessRun *r);
int run_store_end(Database *db, const HarnessRun *r);

/* What it has asked the agent's tools over its pipes and was not answered yet, by its own id of the question. It goes
 * with the run. */
typedef struct HarnessRequest {
        char *id, *message;
} HarnessRequest;
void harness_requests_free(HarnessRequest *q, size_t n);

/* Of an id that is there already the message stays. */
int run_store_ask(Database *db, const char *id, const char *message);
int run_store_answered(Database *db, const char *id);
/* In the order in which they were asked. */
int run_store_open(Database *db, HarnessRequest **ret, size_t *ret_n);
