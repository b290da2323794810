/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "approval-store.h"

typedef struct Outbox Outbox;

/* Tool calls of a CLI that somebody must allow (agent-runtime §14.4): each is a row that lives until it is answered,
 * by the operator's message, on the bus, or by time, and keeps that one answer whatever restarts in between. What
 * cannot be asked or stored is not allowed. */
typedef struct Approvals Approvals;

/* Open at a time; what comes on top is refused. */
#define APPROVALS_OPEN_MAX 32U
/* A call's input; what is longer is refused, as nobody could say what is allowed. */
#define APPROVAL_INPUT_MAX MIB(1)

typedef struct ApprovalsSpec {
        sd_event *event;
        Database *db;
        const char *agent;              /* its id, copied */
        /* Something is open that was not, or the other way round. */
        void (*on_changed)(void *userdata);
        /* It was answered: told once, as far as nobody is killed. May be NULL. */
        void (*on_answered)(const ApprovalRow *row, void *userdata);
        /* The database is damaged. */
        void (*on_broken)(int error, void *userdata);
        void *userdata;
} ApprovalsSpec;

/* What spec names but agent is borrowed. Takes up what an earlier process has left open. */
int approvals_new(Approvals **ret, const ApprovalsSpec *spec);
/* Waits that have not been called never will be, and are still to be freed. */
Approvals* approvals_free(Approvals *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(Approvals*, approvals_free);

/* Of the configuration: for what is asked from now on. */
void approvals_set_timeout(Approvals *a, uint64_t timeout_usec);
/* Who is asked by message, and through what; outbox NULL or operator_slug "": nobody. What is open and has not been
 * asked of anybody is asked now. outbox is borrowed until the next call. */
int approvals_set_operator(Approvals *a, Outbox *outbox, const char *operator_slug);

/* --- for whoever runs the CLI --- */

typedef struct ApprovalRequest {
        const char *turn;
        const char *ask;                /* what the CLI calls it, never again in this turn: where a CLI counts from 0
                                         * each time, the invocation belongs in front */
        const char *tool;
        const char *input;              /* JSON text */
} ApprovalRequest;

typedef struct ApprovalVerdict {
        ApprovalState state;
        bool allow;                     /* APPROVAL_ALLOWED, and nothing else is */
        const char *message;            /* for the model: why not; "" when it is allowed */
} ApprovalVerdict;

/* Somebody waits for one answer. */
typedef struct ApprovalWait ApprovalWait;
/* Called once, from the loop, when the answer is on disk; may free the wait, and ask again. 0: the CLI has it. < 0: it
 * could not be told, and is to be when the turn is taken up again. */
typedef int (*approval_done_t)(ApprovalWait *w, const ApprovalVerdict *verdict, void *userdata);

/* Asks. The same turn and ask as before: waits on, or gets the answer that there is. -EBADMSG: they name another call.
 * -EINVAL: something is missing, or not JSON. -E2BIG. -ENOBUFS: too many are open. Whatever is < 0 has to be taken for
 * a no. */
int approvals_ask(Approvals *a, const ApprovalRequest *request, approval_done_t on_done, void *userdata,
                  ApprovalWait **ret);
/* After a restart: what the turn has asked and got no answer to, oldest first. approval_rows_free(). */
int approvals_list_untold(Approvals *a, const char *turn, ApprovalRow ***ret, size_t *ret_n);
/* Waits for one of those. -ENOENT. */
int approvals_wait(Approvals *a, const char *id, approval_done_t on_done, void *userdata, ApprovalWait **ret);
/* Does not wait any more; the question stays. NULL is fine. */
ApprovalWait* approval_wait_free(ApprovalWait *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(ApprovalWait*, approval_wait_free);

/* The CLI does not want to know any more (ask NULL: nothing of this turn, which has ended or begins anew). Who waits
 * is told that it was withdrawn. */
int approvals_withdraw(Approvals *a, const char *turn, const char *ask);

/* --- for whoever answers --- */

size_t approvals_n_open(const Approvals *a);
/* The ids of what is open, oldest first; borrowed. */
const char* approvals_open_id(const Approvals *a, size_t i);

/* What is open, oldest first; limit > 0: as many of any state, newest first. approval_rows_free(). */
int approvals_list(Approvals *a, unsigned limit, ApprovalRow ***ret, size_t *ret_n);

typedef struct ApprovalAnswer {
        const char *id;
        bool allow;
        const char *by;                 /* for people, one line */
        const char *reason;             /* for the model, may be NULL */
        const char *token;              /* of the call: the same once more is no second answer. May be NULL */
} ApprovalAnswer;
/* 0: done. -ENOENT: there is none of this id. -EALREADY, with *ret (may be NULL): how it ended before. */
int approvals_answer(Approvals *a, const ApprovalAnswer *answer, ApprovalRow **ret);

/* A DM of the operator, whose sender was verified, has come in. > 0: it is an answer and wakes nobody. 0: it is not.
 * Writes into the caller's transaction; what follows begins when the loop runs, if that was committed. */
int approvals_consume_answer(Approvals *a, const char *envelope_id, const char *thread_root_id, const char *text);

/* "allowed by rob": how it ended, for people. NULL: out of memory. */
char* approval_row_describe(const ApprovalRow *row);
/* y, yes, a, approve, n, no, deny, in any case and with white space around: 1, 0. Anything else: -ENOMSG. */
int approval_answer_parse(const char *text);
/* A call's input in a few lines of Markdown that nothing in it gets out of (agent-runtime §14.3). *ret_cut: not all of
 * it is there. NULL: out of memory. */
char* approval_summarize(const char *input, bool *ret_cut);
