/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "harness-driver.h"

/* Codex over "codex app-server" (codex-protocol): what its files share. One process, one thread (its word for a
 * conversation), one turn at a time. */

#define CODEX_ASKS_MAX 256U
#define CODEX_CALLS_MAX 1024U

/* How far we are with a process before a turn can begin. */
typedef enum CodexPhase {
        CODEX_NEW,
        CODEX_INITIALIZING,
        CODEX_CHECKING,                 /* whether it is logged in */
        CODEX_OPENING,                  /* the thread */
        CODEX_BUSY,                     /* … which another process still has, it is asked for again */
        CODEX_ELSEWHERE,                /* all but the thread is there: the next turn is of another one */
        CODEX_READY,
} CodexPhase;

/* What the one timer of the driver is for. */
typedef enum CodexWait {
        CODEX_WAIT_ANSWER,              /* to a request before the turn */
        CODEX_WAIT_WRITER,              /* until the thread is asked for again */
        CODEX_WAIT_NETWORK,             /* the model's endpoint is not reached */
        CODEX_WAIT_INTERRUPTED,         /* a turn that is to end does not */
        CODEX_WAIT_DROPPED,             /* the turn was interrupted before there was one */
} CodexWait;

/* A question of the program that waits for an answer. */
typedef struct CodexAsk {
        char *id;                       /* ours: see codex-asks.c */
} CodexAsk;

/* A call of a tool that goes on. */
typedef struct CodexCall {
        char *id, *name, *input;
} CodexCall;

typedef struct Codex {
        /* Of the setup. */
        char *instructions, *directory, *model, *sandbox, *policy;
        bool accepts_edits;
        uint64_t unreachable_usec;

        CodexPhase phase;
        char *prefix;                   /* of the ids of our requests: unlike those of an earlier process */
        unsigned n_requests;
        char *pending;                  /* id of the request before the turn that is not answered */
        sd_event_source *timer;
        CodexWait wait;
        unsigned n_busy;                /* how often the thread was somebody else's */
        bool warned_of_errors;
        char *last_warning;

        char *thread_id;                /* NULL: none yet */
        bool resumed;                   /* it was there before this process */
        bool thread_told;               /* it can be gone on with: it has had a turn */
        char *effort;                   /* of its own; NULL: not known */
        bool effort_changed;            /* by an earlier turn, and that stays */

        /* Of the turn. */
        char *text;                     /* not sent yet */
        bool sent, running;             /* turn/start was written; turn/started was seen */
        bool taken_over;                /* both by an earlier process */
        bool reopened;                  /* the thread was not loaded, against all expectation */
        bool interrupt_wanted, interrupt_sent, unreachable;
        uint64_t silent_since_usec;     /* only notices of failing came since; 0: no */
        char *turn_id;                  /* NULL: not known */
        bool started;                   /* the text is part of the conversation */
        char *message_id;               /* of the message that grows, or NULL */
        CodexCall *calls;
        size_t n_calls, n_denied;
        CodexAsk *asks;
        size_t n_asks;
        ModelUsage usage;
} Codex;

int codex_launch(const HarnessSetup *s, HarnessLaunch *l);
int codex_exec_launch(const HarnessSetup *s, HarnessLaunch *l);
/* An id of a thread, as it gives them out: it becomes part of a command line. */
bool codex_thread_id_is_valid(const char *id);
/* What a permission mode is in its terms. *ret_policy: of asking; *ret_sandbox: NULL, or what goes before the setup's.
 * -EINVAL. */
int codex_permission(const char *mode, const char **ret_policy, const char **ret_sandbox, bool *ret_accepts_edits);

/* ---- codex-rpc.c ---- */

/* Goes on with what must be there before a turn; calls codex_begin_turn() in the end. */
int codex_advance(Harness *h);
int codex_begin_turn(Harness *h);
int codex_interrupt(Harness *h);
int codex_on_response(Harness *h, json_object *line);
/* Replaces what the timer was for. usec 0: none. */
int codex_wait(Harness *h, CodexWait wait, uint64_t usec);
/* {"id": id, key: value}; takes value over, in any case. id: JSON. */
int codex_reply(Harness *h, json_object *id, const char *key, json_object *value);

/* ---- codex-items.c ---- */

/* Whether a notification belongs to the turn that is under way. names_it: as none is known, it can be no other. */
bool codex_is_ours(Harness *h, json_object *params, const char *turn_id, bool names_it);
int codex_on_item(Harness *h, json_object *params, bool completed);
int codex_on_delta(Harness *h, json_object *params);
int codex_message_cancel(Harness *h);
void codex_calls_done(Codex *c);
/* Of a call that goes on: JSON; NULL: not known. */
const char* codex_call_input(Codex *c, const char *id);
/* The conversation can be gone on with from now on. */
int codex_tell_thread(Harness *h);

/* ---- codex-asks.c ---- */

int codex_on_request(Harness *h, json_object *line);
void codex_on_resolved(Harness *h, json_object *params);
int codex_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message);
void codex_asks_done(Codex *c);
void codex_withdraw_asks(Harness *h);

/* ---- codex-result.c ---- */

/* How a turn has ended whose "error" is given. */
HarnessOutcome codex_outcome(json_object *error, long *ret_status);
/* The same by the words of "exec", which has nothing else. */
HarnessOutcome codex_outcome_of_text(const char *text, long *ret_status);
/* Why this version of it cannot be worked with; *ret NULL: it can. */
int codex_check_version(const char *user_agent, char **ret);
/* Of its standard error, when it has ended without a word: what is wrong and lasts, or NULL. */
const char* codex_lasting_fault(const char *error_tail);
uint64_t codex_count(json_object *o, const char *key);
