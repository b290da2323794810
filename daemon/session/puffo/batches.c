/* SPDX-License-Identifier: MIT */

#include "batches.h"
#include "crash-point.h"
#include "event-util.h"
#include "jitter.h"
#include "json-util.h"
#include "message-store.h"
#include "record.h"
#include "reply.h"
#include "station.h"
#include "turn-flags.h"

/* Something that was asked for two days ago is not wanted any more (message-pipeline §8.6). */
#define MAX_AGE_MS ((int64_t) 48 * 3600 * 1000)
/* Of a sender whose clock is wrong (§5). */
#define CLOCK_SLACK_MS ((int64_t) 10 * 60 * 1000)
/* While the provider refuses our key: it may be somebody else who mends that. Budgets are those of hours and days. */
#define AUTH_PROBE_USEC (30 * 60 * USEC_PER_SEC)
#define RETRY_USEC (10 * USEC_PER_SEC)
#define HOUR_MS ((int64_t) 3600 * 1000)
#define DAY_MS (24 * HOUR_MS)

struct Batches {
        BatchesSpec spec;
        char *operator_slug;
        uint64_t jitter_max_usec;
        bool started, paused;           /* paused: no key that the provider takes, or no budget */

        char *choosing, *conversation;  /* the thread whose turn it is, while others might answer first */
        Preparation *preparation;
        bool held;                      /* turns of other sources wait for this one */
        bool resting;                   /* after a failure, until the timer goes off */
        sd_event_source *timer, *probe;

        char *ending;                   /* the turn that ends just now, and what is to be said */
        char *reply;
        DispatchRow *rows;              /* of the turn that runs: queued again, they have none */
        size_t n_rows;
};

/* ---- choosing ---- */

static bool is_busy(const Batches *b) {
        return b->choosing || b->preparation;
}

static void poke(Batches *b) {
        turn_queue_poke(b->spec.queue);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void retry_later(Batches *b) {
        b->preparation = preparation_free(b->preparation);
        b->held = false;
        b->resting = event_arm_timer(b->spec.event, &b->timer, RETRY_USEC, 0, on_timer, b) >= 0;
        if (!b->resting)
                (void) log_oom();
}

static int claim(Database *db, const char *id, void *userdata) {
        const PreparedBatch *batch = userdata;
        int r;

        crash_point("batch-claim");
        r = dispatch_store_claim(db, batch->root_id, batch->conversation, batch->last_seq, id, now_realtime_ms());
        return r < 0 ? r : r == 0 ? -ENOENT : 0;
}

static int submit(Batches *b, const PreparedBatch *batch) {
        _cleanup_free_ char *random = random_hex(8), *id = random ? strjoin("puffo-", random) : NULL;
        int r;

        if (!id)
                return -ENOMEM;
        crash_point("batch-prepared");
        r = turn_queue_submit_first(b->spec.queue, &(TurnSubmission) {
                .id = id,
                .text = batch->text,
                .source = BATCHES_SOURCE,
                .document = "{}",
                .store = true,
                .now_usec = now_realtime_usec(),
                .also = claim,
                .userdata = (void*) batch,
        });
        if (r < 0)
                return r;
        crash_point("batch-claimed");
        station_log(LOG_INFO, 0, &(Station) { "prepared", batch->first_envelope, batch->root_id, id },
                    "%zu messages of thread '%s' make turn '%s'.", batch->n, batch->root_id, id);
        return 0;
}

static void on_prepared(Preparation *p, int error, const PreparedBatch *batch, void *userdata) {
        Batches *b = userdata;
        int r = batch ? submit(b, batch) : error;

        if (r < 0 && r != -ENOENT) {
                (void) log_error_errno(r, "A batch of messages could not be prepared, trying again later: %m");
                retry_later(b);
                poke(b);
                return;
        }
        b->preparation = preparation_free(b->preparation);
        b->held = false;
        poke(b);
}

static void prepare(Batches *b) {
        _cleanup_free_ char *root = TAKE_PTR(b->choosing), *conversation = TAKE_PTR(b->conversation);
        int r;

        r = preparation_new(&b->preparation, &b->spec.preparation, root, conversation, on_prepared, b);
        if (r < 0) {
                (void) log_error_errno(r, "A batch of messages could not be prepared, trying again later: %m");
                retry_later(b);
        }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Batches *b = userdata;

        b->resting = false;
        if (b->choosing)
                prepare(b);
        else
                poke(b);
        return 0;
}

/* Several agents may be asked by a message that addresses nobody: they do not all begin at once. */
static uint64_t jitter(const Batches *b, DispatchPriority priority) {
        if (priority != DISPATCH_OTHER && priority != DISPATCH_OTHER_BY_BOT)
                return 0;
        return random_between(0, b->jitter_max_usec);
}

static bool goes_before(const DispatchThread *t, uint64_t waiting_since_usec) {
        return waiting_since_usec == UINT64_MAX ||
               (t->priority == DISPATCH_ADDRESSED &&
                (uint64_t) t->queued_at * USEC_PER_MSEC < waiting_since_usec);
}

bool batches_offer(Batches *b, uint64_t waiting_since_usec) {
        _cleanup_(dispatch_thread_done) DispatchThread t = {};
        int r;

        if (!b->started || b->paused || b->resting)
                return false;
        if (is_busy(b))
                return b->held || waiting_since_usec == UINT64_MAX;
        r = dispatch_store_next(b->spec.db, &t);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to look for messages to answer, trying again later: %m");
                retry_later(b);
        }
        if (r <= 0 || !goes_before(&t, waiting_since_usec))
                return false;

        b->choosing = TAKE_PTR(t.root_id);
        free(b->conversation);
        b->conversation = TAKE_PTR(t.conversation);
        b->held = waiting_since_usec != UINT64_MAX;
        r = event_arm_timer(b->spec.event, &b->timer, jitter(b, t.priority), 1, on_timer, b);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to arm a timer: %m");
                b->choosing = mfree(b->choosing);
                return false;
        }
        return true;
}

/* ---- where answers go ---- */

typedef struct Target {
        StoredMessage *message;         /* owned; NULL when the batch was made by ourselves */
        json_object *json;
        const char *channel_id, *space_id, *recipient_slug, *root_id;   /* borrowed, "" for none */
        bool addressed;                 /* somebody waits for an answer */
} Target;

static void target_done(Target *t) {
        if (t->message)
                stored_messages_free(t->message, 1);
        if (t->json)
                (void) json_object_put(t->json);
        *t = (Target) {};
}

/* A batch is of one thread, so that its last message knows where it came from. */
static int target_find(Batches *b, const DispatchRow *row, Target *ret) {
        SyntheticRecord synthetic;
        _cleanup_free_ char *text = NULL;
        StoredMessage *m;
        int r;

        *ret = (Target) { .channel_id = "", .space_id = "", .recipient_slug = "", .root_id = "" };
        if (!isempty(row->record)) {
                r = synthetic_record_parse(row->record, &synthetic, &ret->json);
                if (r < 0)
                        return r;
                ret->channel_id = synthetic.channel_id;
                ret->space_id = synthetic.space_id;
                return 0;
        }
        r = message_store_get(b->spec.db, row->envelope_id, &ret->message);
        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        m = ret->message;
        text = record_text(m);
        if (!text)
                return -ENOMEM;
        ret->root_id = isempty(m->thread_root_id) ? m->envelope_id : m->thread_root_id;
        if (m->kind == ENVELOPE_DM)
                ret->recipient_slug = m->sender_slug;
        else {
                ret->channel_id = strempty(m->channel_id);
                ret->space_id = strempty(m->space_id);
        }
        ret->addressed = m->kind == ENVELOPE_DM || record_mentions(text, b->spec.preparation.own_slug);
        return 0;
}

/* message-pipeline §12.2; within the transaction of the turn's end. */
static int say(Batches *b, const Target *t, const char *key, const char *turn, const char *text) {
        _cleanup_json_ json_object *content = json_object_new_string(text);
        const char *json = content ? json_text(content, NULL) : NULL;
        _cleanup_free_ char *cut = NULL;
        int r;

        if (!json)
                return -ENOMEM;
        r = outbox_add(b->spec.outbox, &(OutgoingMessage) {
                .key = key,
                .channel_id = t->channel_id, .space_id = t->space_id, .recipient_slug = t->recipient_slug,
                .thread_root_id = t->root_id, .content = json, .turn = turn,
        }, NULL);
        if (r == -EINVAL || r == -E2BIG) {
                station_log(LOG_WARNING, r, &(Station) { .thread = t->root_id, .turn = turn },
                            "An answer cannot be sent: %s", r == -E2BIG ? "it is too long" : "it has no destination");
                return 0;
        }
        return MIN(r, 0);
}

static int say_reply(Batches *b, const Target *t, const char *turn) {
        _cleanup_free_ char *key = strjoin("reply/", turn);

        return key ? say(b, t, key, turn, b->reply) : -ENOMEM;
}

/* ---- ends ---- */

typedef enum Verdict {
        VERDICT_DONE,
        VERDICT_GIVEN_UP,               /* the cursor stays: a later success in the thread moves past it (§8.4) */
        VERDICT_FAILED,                 /* nobody tries again, and who asked is told */
        VERDICT_AGAIN,                  /* as if it had not begun */
} Verdict;

/* Why the turn has failed, NULL when it has not. To a local client a turn without progress is an answer that ended
 * early; somebody in the chat waits for one that was meant (§11.3). */
static const char* failure(const TurnResult *result) {
        if (result->status == TURN_FAILED)
                return isempty(result->error_kind) ? "internal" : result->error_kind;
        return result->status == TURN_INCOMPLETE && streq_ptr(result->reason, "deadline") ? "deadline" : NULL;
}

static Verdict verdict(const TurnResult *result) {
        static const char *const again[] = { "auth", "not-ready", "budget" };
        static const char *const transient[] = { "rate-limit", "overloaded", "connect", "tls", "timeout", "cut" };
        const char *kind = failure(result);

        if (!kind)
                return VERDICT_DONE;
        for (size_t i = 0; i < ELEMENTSOF(again); i++)
                if (streq(kind, again[i]))
                        return VERDICT_AGAIN;
        for (size_t i = 0; i < ELEMENTSOF(transient); i++)
                if (streq(kind, transient[i]))
                        return VERDICT_GIVEN_UP;
        return VERDICT_FAILED;
}

/* Once an hour and thread (§11.3): the key sees to that. cause: of a CLI's end, in a sentence. */
static int say_notice(Batches *b, const Target *t, const char *turn, const char *kind, const char *cause,
                      int64_t now) {
        _cleanup_free_ char *text = NULL, *key = NULL;

        if (!t->addressed)
                return 0;
        key = asprintf_new("notice/%s/%" PRId64, t->root_id, now / HOUR_MS);
        text = streq(kind, "crash")
                       ? strdup("I could not answer this: my process ended unexpectedly while I was at it, twice.")
               : streq(kind, "harness-gone") && !isempty(cause)
                       ? strjoin("I could not answer this. ", cause)
                       : asprintf_new("I could not answer this because of a problem on my side (%s). My operator "
                                      "finds the details in my journal.", kind);
        return key && text ? say(b, t, key, turn, text) : -ENOMEM;
}

static int say_auth(Batches *b, const char *turn, int64_t now) {
        _cleanup_free_ char *key = asprintf_new("auth/%" PRId64, now / DAY_MS);
        Target operator = { .channel_id = "", .space_id = "", .recipient_slug = b->operator_slug, .root_id = "" };

        if (!key)
                return -ENOMEM;
        if (isempty(b->operator_slug))
                return 0;
        return say(b, &operator, key, turn, "The model provider refuses my key. Messages wait until there is one that "
                   "works; nothing is lost.");
}

static int move_cursor(Batches *b, Database *db, const DispatchRow *rows, size_t n, const char *root, int64_t now) {
        int64_t newest = 0;

        for (size_t i = 0; i < n; i++)
                newest = MAX(newest, MIN(rows[i].sent_at, now + CLOCK_SLACK_MS));
        return isempty(root) ? 0 : message_store_set_cursor(db, root, newest);
}

int batches_also(Batches *b, Database *db, const char *id, const TurnResult *result) {
        static const DispatchState states[] = {
                [VERDICT_DONE] = DISPATCH_DONE, [VERDICT_GIVEN_UP] = DISPATCH_FAILED,
                [VERDICT_FAILED] = DISPATCH_FAILED, [VERDICT_AGAIN] = DISPATCH_QUEUED,
        };
        _cleanup_(target_done) Target target = {};
        Verdict v = verdict(result);
        int64_t now = now_realtime_ms();
        DispatchRow *rows;
        size_t n;
        int r = dispatch_store_of_turn(db, id, &rows, &n);

        if (r < 0 || n == 0) {
                if (r >= 0)
                        dispatch_rows_free(rows, n);
                return r;
        }
        crash_point("batch-end");
        r = dispatch_store_settle(db, id, states[v], now);
        crash_point("batch-settled");
        if (r >= 0) {
                r = target_find(b, rows + n - 1, &target);
                /* Swept, or not ours: then there is nobody to answer. */
                r = r == -ENOENT || r == -EUCLEAN ? 0 : r;
        }
        if (r >= 0 && (v == VERDICT_DONE || v == VERDICT_FAILED))
                r = move_cursor(b, db, rows, n, target.root_id, now);
        if (r >= 0 && v == VERDICT_DONE && b->reply && streq_ptr(b->ending, id) && target.root_id)
                r = say_reply(b, &target, id);
        if (r >= 0 && v == VERDICT_FAILED && target.root_id)
                r = say_notice(b, &target, id, failure(result), result->error_message, now);
        if (r >= 0 && streq_ptr(result->error_kind, "auth"))
                r = say_auth(b, id, now);
        crash_point("batch-answered");
        dispatch_rows_free(rows, n);
        return MIN(r, 0);
}

void batches_ending(Batches *b, Turn *t, TurnResult *result) {
        ReplyRoute route;
        int r;

        if (!streq(t->source, BATCHES_SOURCE))
                return;
        b->reply = mfree(b->reply);
        r = free_and_strdup(&b->ending, t->id);
        if (r >= 0 && !failure(result) && result->status != TURN_CANCELLED)
                r = reply_route(result->items, result->n_items, t->n_answers, &route, &b->reply);
        else
                return;
        if (r < 0) {
                (void) log_oom();
                return;
        }
        result->mute = route == REPLY_SILENT;
        station_log(LOG_INFO, 0, &(Station) { .station = "answered", .turn = t->id }, "%s",
                    route == REPLY_BY_TOOLS ? "The model has answered by tools."           :
                    route == REPLY_SILENT   ? "The model does not want to answer."         :
                    route == REPLY_NOTHING  ? "The model has said nothing."                :
                                              "The model's text is posted as its answer.");
}

static int on_probe(sd_event_source *s, uint64_t usec, void *userdata) {
        batches_resume(userdata);
        return 0;
}

/* What was put off for that is tried again after a while, or with the next hour's budget. */
static void pause_for(Batches *b, const char *kind) {
        uint64_t hour = (uint64_t) HOUR_MS * USEC_PER_MSEC, delay = AUTH_PROBE_USEC;

        if (streq_ptr(kind, "budget"))
                delay = hour - now_realtime_usec() % hour + random_between(0, 30 * USEC_PER_SEC);
        b->paused = true;
        if (event_arm_timer(b->spec.event, &b->probe, delay, USEC_PER_SEC, on_probe, b) < 0)
                (void) log_oom();
}

static void rows_forget(Batches *b) {
        dispatch_rows_free(b->rows, b->n_rows);
        b->rows = NULL;
        b->n_rows = 0;
}

void batches_ended(Batches *b, const Turn *t, const TurnResult *result) {
        int r;

        if (!streq(t->source, BATCHES_SOURCE))
                return;
        crash_point("batch-ended");
        b->reply = mfree(b->reply);
        b->ending = mfree(b->ending);
        if (verdict(result) == VERDICT_AGAIN)
                pause_for(b, result->error_kind);
        if (b->spec.on_ended)
                b->spec.on_ended(t->id, b->rows, b->n_rows, failure(result), b->spec.userdata);
        rows_forget(b);
        r = current_turn_remove(b->spec.preparation.workspace);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to remove current_turn.json, ignoring: %m");
}

void batches_interrupted(Batches *b, const Turn *t) {
        if (!streq(t->source, BATCHES_SOURCE))
                return;
        if (b->spec.on_ended)
                b->spec.on_ended(t->id, b->rows, b->n_rows, "interrupted", b->spec.userdata);
        rows_forget(b);
        (void) current_turn_remove(b->spec.preparation.workspace);
}

/* For hooks of command lines (§10 step 3). */
static void tell_workspace(Batches *b) {
        _cleanup_(target_done) Target t = {};
        int r = target_find(b, b->rows + b->n_rows - 1, &t);

        if (r >= 0)
                r = current_turn_write(b->spec.preparation.workspace, &(CurrentTurn) {
                        .channel_id = t.channel_id,
                        .root_id = isempty(t.root_id) ? b->rows[0].envelope_id : t.root_id,
                        .first_envelope = b->rows[0].envelope_id,
                        .peer_slug = t.recipient_slug,
                        .is_dm = !isempty(t.recipient_slug),
                });
        if (r < 0)
                (void) log_warning_errno(r, "Failed to write current_turn.json, ignoring: %m");
}

/* Each message is named, so that whoever looks for one finds its turn. */
static void log_begun(const Batches *b, const char *turn) {
        const char *envelopes[STATION_ENVELOPES_MAX];

        for (size_t at = 0; at < b->n_rows; at += STATION_ENVELOPES_MAX) {
                size_t n = MIN(b->n_rows - at, (size_t) STATION_ENVELOPES_MAX);

                for (size_t i = 0; i < n; i++)
                        envelopes[i] = b->rows[at + i].envelope_id;
                station_log_many(LOG_INFO, &(StationOfMany) { "started", turn, envelopes, NULL, n, 0 },
                                 "Turn '%s' is with the model%s.", turn, at > 0 ? ", for these messages, too" : "");
        }
}

void batches_begun(Batches *b, const Turn *t) {
        int r;

        if (!streq(t->source, BATCHES_SOURCE))
                return;
        rows_forget(b);
        r = dispatch_store_of_turn(b->spec.db, t->id, &b->rows, &b->n_rows);
        if (r < 0)
                (void) log_warning_errno(r, "The messages of turn '%s' cannot be told: %m", t->id);
        crash_point("batch-begun");
        log_begun(b, t->id);
        if (b->n_rows > 0)
                tell_workspace(b);
        if (b->spec.on_begun)
                b->spec.on_begun(t->id, b->rows, b->n_rows, b->spec.userdata);
}

/* ---- life ---- */

int batches_configure(Batches *b, const char *operator_slug, uint64_t jitter_max_usec) {
        b->jitter_max_usec = jitter_max_usec;
        return MIN(free_and_strdup(&b->operator_slug, operator_slug), 0);
}

void batches_start(Batches *b) {
        int r = dispatch_store_load(b->spec.db, MAX_AGE_MS, now_realtime_ms());

        if (r > 0)
                log_warning("%d messages have waited for more than two days and are given up.", r);
        else if (r < 0)
                (void) log_error_errno(r, "Failed to take up messages of an earlier process: %m");
        /* What an earlier process has left. */
        (void) current_turn_remove(b->spec.preparation.workspace);
        b->started = true;
        poke(b);
}

void batches_poke(Batches *b) {
        poke(b);
}

void batches_resume(Batches *b) {
        if (!b->paused)
                return;
        b->paused = false;
        b->probe = sd_event_source_disable_unref(b->probe);
        poke(b);
}

int batches_new(Batches **ret, const BatchesSpec *spec) {
        _cleanup_(batches_freep) Batches *b = new0(Batches, 1);

        if (!b)
                return -ENOMEM;
        b->spec = *spec;
        b->spec.preparation.workspace = strdup(spec->preparation.workspace);
        b->spec.preparation.own_slug = strdup(spec->preparation.own_slug);
        if (!b->spec.preparation.workspace || !b->spec.preparation.own_slug)
                return -ENOMEM;
        *ret = TAKE_PTR(b);
        return 0;
}

Batches* batches_free(Batches *b) {
        if (!b)
                return NULL;
        (void) preparation_free(b->preparation);
        (void) sd_event_source_disable_unref(b->timer);
        (void) sd_event_source_disable_unref(b->probe);
        free((char*) b->spec.preparation.workspace);
        free((char*) b->spec.preparation.own_slug);
        free(b->operator_slug);
        free(b->choosing);
        free(b->conversation);
        free(b->ending);
        free(b->reply);
        rows_forget(b);
        return mfree(b);
}
