/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <sys/queue.h>

#include "approvals-internal.h"
#include "crash-point.h"
#include "event-util.h"
#include "json-util.h"
#include "log.h"
#include "outbox-store.h"
#include "outbox.h"
#include "string-util.h"

#define DEFAULT_TIMEOUT_USEC (300 * USEC_PER_SEC)
#define TEXT_MAX 500U
#define NAME_SIZE_MAX KIB(1)
/* When the disk was full. */
#define RETRY_USEC (1 * USEC_PER_SEC)

/* In memory only for the clock: wall time may be set, and a question is not to wait longer for that. */
typedef struct Open {
        char *id;
        uint64_t deadline_usec;         /* CLOCK_BOOTTIME */
} Open;

struct Approvals {
        ApprovalsSpec spec;
        char *agent, *operator_slug;
        Outbox *outbox;                 /* borrowed, may be NULL */
        uint64_t timeout_usec;
        Open open[APPROVALS_OPEN_MAX];
        size_t n_open;
        LIST_HEAD(, ApprovalWait) waits;
        sd_event_source *timer;         /* of the next to expire */
        sd_event_source *settle;        /* tells of what has ended */
};

struct ApprovalWait {
        Approvals *approvals;           /* NULL: it is gone, or this has been called */
        char *id;
        approval_done_t on_done;
        void *userdata;
        LIST_ENTRY(ApprovalWait) waits;
};

static int failed(Approvals *a, int error, const char *what) {
        (void) log_error_errno(error, "%s: %m", what);
        if (error == -EUCLEAN && a->spec.on_broken)
                a->spec.on_broken(error, a->spec.userdata);
        return error;
}

/* --- what is open --- */

size_t approvals_n_open(const Approvals *a) {
        return a->n_open;
}

const char* approvals_open_id(const Approvals *a, size_t i) {
        return a->open[i].id;
}

static Open* find_open(Approvals *a, const char *id) {
        for (size_t i = 0; i < a->n_open; i++)
                if (streq(a->open[i].id, id))
                        return a->open + i;
        return NULL;
}

static void open_remove(Approvals *a, Open *o) {
        free(o->id);
        a->n_open--;
        memmove(o, o + 1, (size_t) (a->open + a->n_open - o) * sizeof(*o));
}

static bool is_overdue(Approvals *a, const char *id) {
        const Open *o = find_open(a, id);

        return o && o->deadline_usec <= now_boottime_usec();
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void rearm(Approvals *a) {
        uint64_t now = now_boottime_usec(), next = USEC_INFINITY;

        for (size_t i = 0; i < a->n_open; i++)
                next = MIN(next, a->open[i].deadline_usec);
        if (next == USEC_INFINITY) {
                if (a->timer)
                        (void) sd_event_source_set_enabled(a->timer, SD_EVENT_OFF);
                return;
        }
        next = next > now ? next - now : 0;
        if (event_arm_timer(a->spec.event, &a->timer, next, 10 * USEC_PER_MSEC, on_timer, a) < 0)
                (void) log_oom();
}

static void settle_soon(Approvals *a) {
        (void) sd_event_source_set_enabled(a->settle, SD_EVENT_ONESHOT);
}

/* --- the operator --- */

static int say(Approvals *a, const char *key, const char *thread_root_id, const char *text, const char *turn) {
        _cleanup_json_ json_object *content = json_object_new_string(text);
        const char *json = content ? json_text(content, NULL) : NULL;

        if (!json)
                return -ENOMEM;
        return outbox_add(a->outbox, &(OutgoingMessage) {
                .key = key, .recipient_slug = a->operator_slug, .thread_root_id = thread_root_id, .content = json,
                .turn = turn,
        }, NULL);
}

static bool has_operator(const Approvals *a) {
        return a->outbox && !isempty(a->operator_slug);
}

/* Within the caller's transaction. The key keeps a second question from being asked. */
static int ask_operator(Approvals *a, const ApprovalRow *row) {
        _cleanup_free_ char *key = strjoin(APPROVAL_KEY, row->id), *text = NULL, *summary = NULL;
        bool cut = false;
        int r;

        summary = approval_summarize(row->input, &cut);
        text = approval_question_text(row, cut);
        if (!key || !text || !summary)
                return -ENOMEM;
        r = say(a, key, NULL, text, row->turn);
        return r < 0 ? r : approval_store_set_operator(a->spec.db, row->id, a->operator_slug);
}

static int ask_of_before(Approvals *a, const char *id) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = approval_store_get(a->spec.db, id, &row);

        if (r <= 0 || row->state != APPROVAL_PENDING || !isempty(row->operator))
                return r < 0 ? r : 0;
        r = database_begin(a->spec.db, &t);
        if (r >= 0)
                r = ask_operator(a, row);
        return r < 0 ? r : database_commit(&t);
}

int approvals_set_operator(Approvals *a, Outbox *outbox, const char *operator_slug) {
        int r = free_and_strdup(&a->operator_slug, strempty(operator_slug));

        if (r < 0)
                return r;
        a->outbox = outbox;
        for (size_t i = 0; i < a->n_open && has_operator(a); i++) {
                r = ask_of_before(a, a->open[i].id);
                if (r < 0)
                        (void) failed(a, r, "The operator could not be asked for permission");
        }
        return 0;
}

/* Tells the operator in the thread of the question how it ended, or takes back a question that has not gone out. */
static int tell_operator(Approvals *a, const ApprovalRow *row, bool by_operator) {
        _cleanup_free_ char *key = strjoin(APPROVAL_KEY, row->id), *outcome_key = NULL, *text = NULL;
        _cleanup_(outbox_row_freep) OutboxRow *question = NULL;
        int64_t id;
        int r;

        if (!has_operator(a) || !streq(row->operator, a->operator_slug))
                return 0;
        outcome_key = strjoin(APPROVAL_KEY, row->id, "/outcome");
        text = approval_outcome_text(row, by_operator);
        if (!key || !outcome_key || !text)
                return -ENOMEM;
        r = outbox_find(a->outbox, key, &id);
        if (r <= 0)
                return r;
        r = outbox_withdraw(a->outbox, id);
        if (r != 0)
                return MIN(r, 0);
        r = outbox_store_get(a->spec.db, id, &question);
        if (r <= 0 || isempty(question->envelope_id) || question->state == OUTBOX_FAILED)
                return MIN(r, 0);
        r = say(a, outcome_key, question->envelope_id, text, row->turn);
        return MIN(r, 0);
}

/* --- the end of one --- */

/* 1: ended so. 0: it had ended before. Within the caller's transaction, or one of its own. */
static int end(Approvals *a, const char *id, const ApprovalEnd *e, bool by_operator) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r;

        r = database_begin(a->spec.db, &t);
        if (r >= 0)
                r = approval_store_end(a->spec.db, id, e);
        if (r <= 0)
                return r;
        r = approval_store_get(a->spec.db, id, &row);
        if (r == 0)
                r = -EIO;
        if (r >= 0)
                r = tell_operator(a, row, by_operator);
        if (r >= 0)
                r = database_commit(&t);
        if (r < 0)
                return r;
        settle_soon(a);
        return 1;
}

static int expire(Approvals *a, const char *id) {
        return end(a, id, &(ApprovalEnd) { .state = APPROVAL_EXPIRED, .now_ms = now_realtime_ms() }, false);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Approvals *a = userdata;
        uint64_t now = now_boottime_usec();

        for (size_t i = 0; i < a->n_open; i++) {
                int r = a->open[i].deadline_usec <= now ? expire(a, a->open[i].id) : 0;

                if (r < 0) {
                        (void) failed(a, r, "A request for permission could not be ended, trying again");
                        a->open[i].deadline_usec = now + RETRY_USEC;
                }
        }
        settle_soon(a);
        return 0;
}

/* > 0: it has ended. */
static int open_settle(Approvals *a, Open *o) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_free_ char *how = NULL;
        int r = approval_store_get(a->spec.db, o->id, &row);

        if (r < 0 || (r > 0 && row->state == APPROVAL_PENDING))
                return MIN(r, 0);
        open_remove(a, o);
        if (r == 0)
                return 1;
        how = approval_row_describe(row);
        log_info("The request %s to use %s was %s.", row->id, row->tool, strempty(how));
        if (a->spec.on_answered)
                a->spec.on_answered(row, a->spec.userdata);
        return 1;
}

/* > 0: somebody was called, and anything may be different now. */
static int wait_settle(Approvals *a, ApprovalWait *w) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_free_ char *message = NULL;
        int r = approval_store_get(a->spec.db, w->id, &row);

        if (r < 0 || (r > 0 && row->state == APPROVAL_PENDING))
                return MIN(r, 0);
        message = r > 0 ? approval_model_text(row) : strdup("Permission was not given: the request is gone.");
        if (!message)
                return -ENOMEM;
        LIST_REMOVE(w, waits);
        w->approvals = NULL;
        crash_point("approval-answered");
        if (w->on_done(w, &(ApprovalVerdict) {
                .state = row ? row->state : APPROVAL_WITHDRAWN,
                .allow = row && row->state == APPROVAL_ALLOWED,
                .message = message,
        }, w->userdata) < 0 || !row)
                return 1;
        crash_point("approval-told");
        r = approval_store_set_told(a->spec.db, row->id);
        if (r < 0)
                (void) failed(a, r, "That a permission was told could not be stored");
        return 1;
}

static int settle(Approvals *a) {
        size_t i = 0, n = a->n_open;
        ApprovalWait *w;
        int r;

        /* What came with a message must be on disk before anything follows from it. */
        r = database_flush(a->spec.db);
        while (r >= 0 && i < a->n_open) {
                r = open_settle(a, a->open + i);
                i += r == 0;
        }
        if (n != a->n_open && a->spec.on_changed)
                a->spec.on_changed(a->spec.userdata);
        if (r < 0)
                return r;
        LIST_FOREACH(w, &a->waits, waits) {
                r = wait_settle(a, w);
                if (r != 0)
                        break;
        }
        if (r > 0)
                settle_soon(a);
        return MIN(r, 0);
}

static int on_settle(sd_event_source *s, void *userdata) {
        Approvals *a = userdata;
        int r = settle(a);

        if (r >= 0) {
                rearm(a);
                return 0;
        }
        (void) failed(a, r, "Answers to requests for permission could not be read, trying again");
        if (event_arm_timer(a->spec.event, &a->timer, RETRY_USEC, 0, on_timer, a) < 0)
                (void) log_oom();
        return 0;
}

/* --- asking --- */

static int wait_new(Approvals *a, const char *id, approval_done_t on_done, void *userdata, ApprovalWait **ret) {
        _cleanup_(approval_wait_freep) ApprovalWait *w = new0(ApprovalWait, 1);

        if (!w)
                return -ENOMEM;
        *w = (ApprovalWait) { .id = strdup(id), .on_done = on_done, .userdata = userdata };
        if (!w->id)
                return -ENOMEM;
        *ret = TAKE_PTR(w);
        return 0;
}

/* From here on it is called. */
static void wait_link(Approvals *a, ApprovalWait *w) {
        w->approvals = a;
        LIST_INSERT_HEAD(&a->waits, w, waits);
        settle_soon(a);
}

ApprovalWait* approval_wait_free(ApprovalWait *w) {
        if (!w)
                return NULL;
        if (w->approvals)
                LIST_REMOVE(w, waits);
        free(w->id);
        return mfree(w);
}

static char* hash_new(const char *tool, const char *input) {
        crypto_generichash_state state;
        uint8_t hash[32];
        char *hex = malloc(2 * sizeof(hash) + 1);

        if (!hex)
                return NULL;
        (void) crypto_generichash_init(&state, NULL, 0, sizeof(hash));
        (void) crypto_generichash_update(&state, (const uint8_t*) tool, strlen(tool) + 1);
        (void) crypto_generichash_update(&state, (const uint8_t*) input, strlen(input));
        (void) crypto_generichash_final(&state, hash, sizeof(hash));
        return sodium_bin2hex(hex, 2 * sizeof(hash) + 1, hash, sizeof(hash));
}

static int check_request(const ApprovalRequest *q, const char *input) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        if (isempty(q->turn) || isempty(q->ask) || isempty(q->tool) || strlen(q->turn) > NAME_SIZE_MAX ||
            strlen(q->ask) > NAME_SIZE_MAX || strlen(q->tool) > NAME_SIZE_MAX)
                return -EINVAL;
        if (!utf8_is_valid(q->turn, strlen(q->turn)) || !utf8_is_valid(q->ask, strlen(q->ask)))
                return -EINVAL;
        if (strlen(input) > APPROVAL_INPUT_MAX)
                return -E2BIG;
        r = json_parse(input, strlen(input), &o);
        return r == -EBADMSG ? -EINVAL : r;
}

static int request_new(Approvals *a, const ApprovalRequest *q, const char *input, char *hash, ApprovalWait **ret,
                       approval_done_t on_done, void *userdata) {
        _cleanup_free_ char *random = random_hex(5), *id = NULL, *tool = approval_name(q->tool), *summary = NULL,
                            *listed = NULL;
        _cleanup_(approval_wait_freep) ApprovalWait *w = NULL;
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int64_t now_ms = now_realtime_ms();
        bool cut;
        int r;

        if (a->n_open >= APPROVALS_OPEN_MAX)
                return -ENOBUFS;
        id = random ? strjoin(a->agent, ":", random) : NULL;
        listed = id ? strdup(id) : NULL;
        summary = approval_summarize(input, &cut);
        if (!listed || !tool || !summary)
                return -ENOMEM;
        r = wait_new(a, id, on_done, userdata, &w);
        if (r < 0)
                return r;

        const ApprovalRow row = {
                .id = id, .turn = (char*) q->turn, .ask = (char*) q->ask, .tool = tool, .summary = summary,
                .input = (char*) input, .input_hash = hash, .input_size = (int64_t) strlen(input),
                .operator = (char*) "", .created_at = now_ms,
                .expires_at = now_ms + (int64_t) (a->timeout_usec / USEC_PER_MSEC),
        };

        crash_point("approval-ask");
        r = database_begin(a->spec.db, &t);
        if (r >= 0)
                r = approval_store_add(a->spec.db, &row);
        if (r >= 0 && has_operator(a))
                r = ask_operator(a, &row);
        if (r >= 0)
                r = database_commit(&t);
        if (r < 0)
                return r;
        crash_point("approval-stored");

        a->open[a->n_open++] = (Open) { TAKE_PTR(listed), now_boottime_usec() + a->timeout_usec };
        wait_link(a, w);
        log_info("The agent asks for permission to use %s (%s)%s.", tool, id,
                 has_operator(a) ? "; its operator gets a message" : "");
        if (a->spec.on_changed)
                a->spec.on_changed(a->spec.userdata);
        *ret = TAKE_PTR(w);
        return 0;
}

int approvals_ask(Approvals *a, const ApprovalRequest *request, approval_done_t on_done, void *userdata,
                  ApprovalWait **ret) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_(approval_wait_freep) ApprovalWait *w = NULL;
        const char *input = isempty(request->input) ? "null" : request->input;
        _cleanup_free_ char *hash = NULL;
        int r = check_request(request, input);

        if (r < 0)
                return r;
        hash = hash_new(request->tool, input);
        if (!hash)
                return -ENOMEM;
        r = approval_store_find_ask(a->spec.db, request->turn, request->ask, &row);
        if (r == 0)
                r = request_new(a, request, input, hash, ret, on_done, userdata);
        else if (r > 0 && !streq(row->input_hash, hash))
                r = -EBADMSG;
        else if (r > 0) {
                r = wait_new(a, row->id, on_done, userdata, &w);
                if (r >= 0) {
                        wait_link(a, w);
                        *ret = TAKE_PTR(w);
                }
        }
        if (r < 0 && r != -EBADMSG && r != -ENOBUFS)
                (void) failed(a, r, "A request for permission could not be made");
        return MIN(r, 0);
}

int approvals_list_untold(Approvals *a, const char *turn, ApprovalRow ***ret, size_t *ret_n) {
        int r = database_flush(a->spec.db);

        return r < 0 ? r : approval_store_list_untold(a->spec.db, turn, ret, ret_n);
}

int approvals_wait(Approvals *a, const char *id, approval_done_t on_done, void *userdata, ApprovalWait **ret) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        ApprovalWait *w;
        int r = approval_store_get(a->spec.db, id, &row);

        if (r > 0)
                r = wait_new(a, id, on_done, userdata, &w);
        else if (r == 0)
                r = -ENOENT;
        if (r < 0)
                return r;
        wait_link(a, w);
        *ret = w;
        return 0;
}

int approvals_withdraw(Approvals *a, const char *turn, const char *ask) {
        int first = 0;

        for (size_t i = 0; i < a->n_open; i++) {
                _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
                int r = approval_store_get(a->spec.db, a->open[i].id, &row);

                if (r > 0 && streq(row->turn, turn) && (!ask || streq(row->ask, ask)))
                        r = end(a, row->id, &(ApprovalEnd) {
                                .state = APPROVAL_WITHDRAWN, .now_ms = now_realtime_ms(),
                        }, false);
                if (r < 0 && first == 0)
                        first = failed(a, r, "A request for permission could not be withdrawn");
        }
        return first;
}

/* --- answering --- */

int approvals_list(Approvals *a, unsigned limit, ApprovalRow ***ret, size_t *ret_n) {
        int r = database_flush(a->spec.db);

        if (r < 0)
                return r;
        return limit > 0 ? approval_store_list(a->spec.db, limit, ret, ret_n)
                         : approval_store_list_pending(a->spec.db, ret, ret_n);
}

int approvals_answer(Approvals *a, const ApprovalAnswer *answer, ApprovalRow **ret) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_free_ char *by = str_printable(strempty(answer->by), TEXT_MAX),
                            *reason = str_printable(strempty(answer->reason), TEXT_MAX);
        int r;

        if (!by || !reason)
                return -ENOMEM;
        r = database_flush(a->spec.db);
        if (r >= 0 && is_overdue(a, answer->id))
                r = expire(a, answer->id);
        if (r >= 0)
                r = end(a, answer->id, &(ApprovalEnd) {
                        .state = answer->allow ? APPROVAL_ALLOWED : APPROVAL_DENIED, .by = by, .reason = reason,
                        .token = answer->token, .now_ms = now_realtime_ms(),
                }, false);
        if (r != 0)
                return r < 0 ? failed(a, r, "An answer to a request for permission could not be stored") : 0;
        r = approval_store_get(a->spec.db, answer->id, &row);
        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        if (!isempty(answer->token) && streq(row->token, answer->token))
                return 0;
        if (ret)
                *ret = TAKE_PTR(row);
        return -EALREADY;
}

static int answer_late(Approvals *a, const char *id, const char *envelope_id, const char *thread_root_id) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_free_ char *key = strjoin(APPROVAL_KEY, id, "/late/", envelope_id), *how = NULL, *text = NULL;
        int r = approval_store_get(a->spec.db, id, &row);

        if (r <= 0)
                return r;
        how = approval_row_describe(row);
        text = how ? strjoin("This was already answered: it was ", how, ".") : NULL;
        if (!key || !text)
                return -ENOMEM;
        if (!has_operator(a))
                return 1;
        r = say(a, key, thread_root_id, text, row->turn);
        return r < 0 ? r : 1;
}

int approvals_consume_answer(Approvals *a, const char *envelope_id, const char *thread_root_id, const char *text) {
        int allow = isempty(text) ? -ENOMSG : approval_answer_parse(text), r;
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;

        if (allow < 0 || isempty(thread_root_id) || isempty(a->operator_slug))
                return 0;
        r = approval_store_find_question(a->spec.db, thread_root_id, &row);
        if (r <= 0 || !streq(row->operator, a->operator_slug))
                return MIN(r, 0);
        if (is_overdue(a, row->id))
                r = expire(a, row->id);
        if (r >= 0)
                r = end(a, row->id, &(ApprovalEnd) {
                        .state = allow > 0 ? APPROVAL_ALLOWED : APPROVAL_DENIED, .by = a->operator_slug,
                        .token = envelope_id, .now_ms = now_realtime_ms(),
                }, true);
        return r != 0 ? r : answer_late(a, row->id, envelope_id, thread_root_id);
}

/* --- the whole --- */

static int take_up(Approvals *a) {
        int64_t now_ms = now_realtime_ms();
        ApprovalRow **rows;
        size_t n;
        int r = approval_store_list_pending(a->spec.db, &rows, &n);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r >= 0; i++) {
                int64_t left = CLAMP(rows[i]->expires_at - now_ms, (int64_t) 0,
                                     MAX(rows[i]->expires_at - rows[i]->created_at, (int64_t) 0));

                if (a->n_open >= APPROVALS_OPEN_MAX) {
                        r = expire(a, rows[i]->id);
                        continue;
                }
                a->open[a->n_open++] = (Open) {
                        TAKE_PTR(rows[i]->id), now_boottime_usec() + (uint64_t) left * USEC_PER_MSEC,
                };
        }
        approval_rows_free(rows, n);
        return r;
}

int approvals_new(Approvals **ret, const ApprovalsSpec *spec) {
        _cleanup_(approvals_freep) Approvals *a = new0(Approvals, 1);
        int r;

        if (!a)
                return -ENOMEM;
        LIST_INIT(&a->waits);
        a->spec = *spec;
        a->spec.agent = NULL;
        a->timeout_usec = DEFAULT_TIMEOUT_USEC;
        a->agent = strdup(spec->agent);
        a->operator_slug = strdup("");
        if (!a->agent || !a->operator_slug)
                return -ENOMEM;
        r = sd_event_add_defer(spec->event, &a->settle, on_settle, a);
        if (r >= 0)
                r = sd_event_source_set_enabled(a->settle, SD_EVENT_OFF);
        if (r >= 0)
                r = take_up(a);
        if (r < 0)
                return r;
        rearm(a);

        *ret = TAKE_PTR(a);
        return 0;
}

Approvals* approvals_free(Approvals *a) {
        ApprovalWait *w;

        if (!a)
                return NULL;
        LIST_FOREACH(w, &a->waits, waits)
                w->approvals = NULL;
        while (a->n_open > 0)
                open_remove(a, a->open + a->n_open - 1);
        (void) sd_event_source_disable_unref(a->timer);
        (void) sd_event_source_disable_unref(a->settle);
        free(a->agent);
        free(a->operator_slug);
        return mfree(a);
}

void approvals_set_timeout(Approvals *a, uint64_t timeout_usec) {
        a->timeout_usec = MAX(timeout_usec, USEC_PER_SEC);
}
