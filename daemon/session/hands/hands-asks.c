/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "hands-asks.h"
#include "log.h"
#include "string-util.h"

#define NOBODY "Nobody can be asked for permission at present. Do without, or say what you need."

typedef struct Ask {
        HandsAsks *asks;
        char *id, *input;
        ApprovalWait *wait;
        LIST_ENTRY(Ask) list;
} Ask;

struct HandsAsks {
        Approvals *approvals;           /* NULL: no turn */
        Harness *driver;
        char *turn;
        char *prefix;                   /* of what the approvals call its questions: its own ids begin anew with it */
        LIST_HEAD(, Ask) list;
};

static Ask* ask_free(Ask *k) {
        if (!k)
                return NULL;
        LIST_REMOVE(k, list);
        (void) approval_wait_free(k->wait);
        free(k->id);
        free(k->input);
        return mfree(k);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Ask*, ask_free);

static int ask_new(HandsAsks *a, const char *id, const char *input, Ask **ret) {
        _cleanup_(ask_freep) Ask *k = new0(Ask, 1);

        if (!k)
                return -ENOMEM;
        k->asks = a;
        LIST_INSERT_HEAD(&a->list, k, list);
        k->id = strdup(id);
        k->input = strdup(input);
        if (!k->id || !k->input)
                return -ENOMEM;
        *ret = TAKE_PTR(k);
        return 0;
}

static int on_verdict(ApprovalWait *w, const ApprovalVerdict *verdict, void *userdata) {
        Ask *k = userdata;
        int r = harness_answer(k->asks->driver, k->id, verdict->allow, k->input, verdict->message);

        if (r < 0 && r != -ENOENT)
                (void) log_warning_errno(r, "The CLI could not be told an answer: %m");
        (void) ask_free(k);
        return MIN(r, 0);
}

int hands_asks_new(HandsAsks **ret) {
        HandsAsks *a = new0(HandsAsks, 1);

        if (!a)
                return -ENOMEM;
        LIST_INIT(&a->list);
        *ret = a;
        return 0;
}

static void forget(HandsAsks *a) {
        Ask *k;

        while ((k = LIST_FIRST(&a->list)))
                (void) ask_free(k);
        a->turn = mfree(a->turn);
        a->prefix = mfree(a->prefix);
        a->approvals = NULL;
        a->driver = NULL;
}

HandsAsks* hands_asks_free(HandsAsks *a) {
        if (!a)
                return NULL;
        forget(a);
        return mfree(a);
}

static int take_up(HandsAsks *a) {
        ApprovalRow **rows = NULL;
        size_t n = 0;
        int r;

        r = approvals_list_untold(a->approvals, a->turn, &rows, &n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                const char *id = startswith(rows[i]->ask, a->prefix);
                _cleanup_(ask_freep) Ask *k = NULL;

                if (!id)
                        continue;
                r = ask_new(a, id, rows[i]->input, &k);
                if (r >= 0)
                        r = approvals_wait(a->approvals, rows[i]->id, on_verdict, k, &k->wait);
                if (r >= 0)
                        TAKE_PTR(k);
                else if (r == -ENOENT)
                        r = 0;
        }
        approval_rows_free(rows, n);
        return r;
}

int hands_asks_begin(HandsAsks *a, Approvals *approvals, Harness *driver, const char *run, const char *turn,
                     bool taken_over) {
        int r;

        forget(a);
        a->prefix = strjoin(run, "/");
        if (!a->prefix)
                return -ENOMEM;
        r = free_and_strdup(&a->turn, turn);
        if (r < 0)
                return r;
        a->approvals = approvals;
        a->driver = driver;
        if (!approvals)
                return 0;
        /* What an earlier CLI has asked in this turn, no other wants to know. */
        return taken_over ? take_up(a) : approvals_withdraw(approvals, turn, NULL);
}

void hands_asks_end(HandsAsks *a) {
        int r = a->turn && a->approvals ? approvals_withdraw(a->approvals, a->turn, NULL) : 0;

        if (r < 0)
                (void) log_warning_errno(r, "Questions of a turn that has ended could not be withdrawn: %m");
        forget(a);
}

int hands_asks_ask(HandsAsks *a, const HarnessAsk *ask) {
        _cleanup_free_ char *name = strjoin(strempty(a->prefix), ask->id);
        _cleanup_(ask_freep) Ask *k = NULL;
        int r;

        r = name ? ask_new(a, ask->id, ask->input, &k) : -ENOMEM;
        if (r < 0)
                return r;
        r = !a->approvals ? -ENOTCONN : approvals_ask(a->approvals, &(ApprovalRequest) {
                .turn = a->turn, .ask = name, .tool = ask->name, .input = ask->input,
        }, on_verdict, k, &k->wait);
        if (r >= 0) {
                TAKE_PTR(k);
                return 0;
        }
        (void) log_warning_errno(r, "Nobody could be asked about a call of '%s', it is refused: %m", ask->name);
        return harness_answer(a->driver, ask->id, false, ask->input, NOBODY);
}

void hands_asks_withdraw(HandsAsks *a, const char *id) {
        _cleanup_free_ char *name = strjoin(strempty(a->prefix), id);
        Ask *k;
        int r;

        LIST_FOREACH(k, &a->list, list)
                if (streq(k->id, id)) {
                        (void) ask_free(k);
                        break;
                }
        r = !name ? -ENOMEM : a->turn && a->approvals ? approvals_withdraw(a->approvals, a->turn, name) : 0;
        if (r < 0)
                (void) log_warning_errno(r, "A question could not be withdrawn: %m");
}

bool hands_asks_pending(const HandsAsks *a) {
        return !LIST_EMPTY(&a->list);
}
