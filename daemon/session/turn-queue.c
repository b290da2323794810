/* SPDX-License-Identifier: MIT */

#include "crash-point.h"
#include "event-util.h"
#include "log.h"
#include "turn-queue.h"

#define QUEUE_LIMIT_DEFAULT 32
#define ATTEMPTS_MAX 2
#define STREAM_KEEP_USEC (10 * 60 * USEC_PER_SEC)
#define STREAM_KEEP_BYTES MIB(8)
/* Something that was asked for two days ago is not wanted any more (message-pipeline §8.6). */
#define STALE_USEC (48 * 3600 * USEC_PER_SEC)
/* Until the disk may have room again for an end that it refused. */
#define UNSETTLED_RETRY_USEC (30 * USEC_PER_SEC)

/* A turn that is said to have failed and not yet stored as such. */
typedef struct Unsettled {
        int64_t seq;
        uint64_t ended_usec;
} Unsettled;

struct TurnQueue {
        sd_event *event;                /* borrowed */
        Database *db;                   /* borrowed */
        TurnDriver driver;
        TurnList waiting, ended;        /* ended: oldest first, until their streams expire */
        size_t n_waiting, limit, ended_bytes;
        Turn *running;
        bool enabled;
        uint64_t n_processed, last_event_usec;
        sd_event_source *dispatch;      /* on when there may be a turn to begin */
        Unsettled *unsettled;
        sd_event_source *hold;          /* armed: nothing is begun until then */
        bool held;
        size_t n_unsettled;
        sd_event_source *settle_timer;
        sd_event_source *expiry;        /* when the oldest of those that have ended is dropped */
};

static void list_free(TurnList *l) {
        Turn *t;

        while ((t = TAILQ_FIRST(l))) {
                TAILQ_REMOVE(l, t, turns);
                (void) turn_free(t);
        }
}

static void settle_ends(TurnQueue *q);

TurnQueue* turn_queue_free(TurnQueue *q) {
        if (!q)
                return NULL;

        turn_queue_abandon(q);
        settle_ends(q);
        free(q->unsettled);
        (void) sd_event_source_disable_unref(q->settle_timer);
        (void) sd_event_source_disable_unref(q->hold);
        (void) sd_event_source_disable_unref(q->expiry);
        list_free(&q->waiting);
        list_free(&q->ended);
        (void) sd_event_source_disable_unref(q->dispatch);
        return mfree(q);
}

static int on_dispatch(sd_event_source *s, void *userdata);

int turn_queue_new(TurnQueue **ret, sd_event *event, Database *db, const TurnDriver *driver) {
        _cleanup_(turn_queue_freep) TurnQueue *q = new0(TurnQueue, 1);
        int r;

        if (!q)
                return -ENOMEM;
        q->limit = QUEUE_LIMIT_DEFAULT;
        q->event = event;
        q->db = db;
        q->driver = *driver;
        TAILQ_INIT(&q->waiting);
        TAILQ_INIT(&q->ended);

        r = sd_event_add_defer(event, &q->dispatch, on_dispatch, q);
        if (r >= 0)
                r = sd_event_source_set_enabled(q->dispatch, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}

Turn* turn_queue_running(TurnQueue *q) {
        return q->running;
}

size_t turn_queue_length(TurnQueue *q) {
        return q->n_waiting;
}

uint64_t turn_queue_processed(TurnQueue *q) {
        return q->n_processed;
}

uint64_t turn_queue_last_event_usec(TurnQueue *q) {
        return q->last_event_usec;
}

unsigned turn_queue_n_unread(TurnQueue *q) {
        unsigned n = 0;
        Turn *t;

        TAILQ_FOREACH(t, &q->ended, turns)
                n += event_log_n_readers(t->log);
        return n;
}

static void changed(TurnQueue *q) {
        if (q->driver.changed)
                q->driver.changed(q->driver.userdata);
}

static Turn* find_in(TurnList *l, const char *id) {
        Turn *t;

        TAILQ_FOREACH(t, l, turns)
                if (streq(t->id, id))
                        return t;
        return NULL;
}

static Turn* find(TurnQueue *q, const char *id) {
        if (q->running && streq(q->running->id, id))
                return q->running;
        return find_in(&q->waiting, id) ?: find_in(&q->ended, id);
}

static void wake(TurnQueue *q) {
        if (!q->enabled || q->held || q->running || (q->n_waiting == 0 && !q->driver.offer))
                return;
        int r = sd_event_source_set_enabled(q->dispatch, SD_EVENT_ONESHOT);
        if (r < 0)
                (void) log_error_errno(r, "Failed to schedule the next turn: %m");
}

void turn_queue_set_limit(TurnQueue *q, size_t limit) {
        q->limit = limit;
}

void turn_queue_set_enabled(TurnQueue *q, bool enabled) {
        q->enabled = enabled;
        wake(q);
}

void turn_queue_poke(TurnQueue *q) {
        wake(q);
}

static void log_turn(int level, const Turn *t, const char *message_id, const char *text) {
        _cleanup_free_ char *field = strjoin("PUFFO_TURN=", t->id);
        const char *const fields[] = { message_id, field, NULL };

        (void) log_fields(level, 0, fields, "Turn '%s' %s", t->id, text);
}

/* ---- ended turns and their streams ---- */

static void drop_ended(TurnQueue *q, Turn *t) {
        TAILQ_REMOVE(&q->ended, t, turns);
        q->ended_bytes -= event_log_size(t->log);
        (void) turn_free(t);
}

static void expire(TurnQueue *q, Turn *t) {
        /* The id of a turn that is not to be stored is known as long as its stream is. */
        int r = t->store ? 0 : turn_store_delete(q->db, t->id);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to forget turn '%s', ignoring: %m", t->id);
        drop_ended(q, t);
        changed(q);
}

static int on_expired(sd_event_source *s, uint64_t usec, void *userdata);

/* One timer for all: they end in the order in which they are kept. Ten minutes, give or take: an exact timer would
 * wake an idle machine for nothing. */
static void arm_expiry(TurnQueue *q, uint64_t now) {
        const Turn *t = TAILQ_FIRST(&q->ended);
        int r;

        if (!t)
                return;
        r = event_arm_timer(q->event, &q->expiry, t->expires_usec > now ? t->expires_usec - now : 0,
                            30 * USEC_PER_SEC, on_expired, q);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, streams are kept for longer: %m");
}

static int on_expired(sd_event_source *s, uint64_t usec, void *userdata) {
        uint64_t now = now_boottime_usec();
        TurnQueue *q = userdata;
        Turn *t;

        while ((t = TAILQ_FIRST(&q->ended)) && t->expires_usec <= now)
                expire(q, t);
        arm_expiry(q, now);
        return 0;
}

static void on_drained(void *userdata) {
        changed(userdata);
}

/* Takes the turn over. */
static void keep_ended(TurnQueue *q, Turn *t) {
        bool first = TAILQ_EMPTY(&q->ended);
        uint64_t now = now_boottime_usec();

        turn_keep_stream(t);
        t->expires_usec = now + STREAM_KEEP_USEC;
        TAILQ_INSERT_TAIL(&q->ended, t, turns);
        q->ended_bytes += event_log_size(t->log);
        event_log_on_drained(t->log, on_drained, q);
        if (first)
                arm_expiry(q, now);
        while (q->ended_bytes > STREAM_KEEP_BYTES && TAILQ_FIRST(&q->ended) != t)
                drop_ended(q, TAILQ_FIRST(&q->ended));
}

/* ---- ends ---- */

static int finish(TurnQueue *q, int64_t seq, TurnResult *result) {
        result->also = q->driver.also;
        result->userdata = q->driver.userdata;
        return turn_store_finish(q->db, seq, result);
}

static int store_end(TurnQueue *q, Turn *t, TurnResult *result) {
        int r = finish(q, t->seq, result);

        if (r > 0)
                /* Deleted or ended behind our back: whatever is stored stands. */
                return 0;
        if (r == -EUCLEAN && q->driver.broken)
                q->driver.broken(r, q->driver.userdata);
        return r;
}

static const TurnResult not_stored = {
        .status = TURN_FAILED, .error_code = "server_error", .error_kind = "storage",
        .error_message = "The answer could not be stored (storage).",
};

static int on_settle(sd_event_source *s, uint64_t usec, void *userdata) {
        settle_ends(userdata);
        return 0;
}

/* A turn that was said to have failed must not begin again with the next process. */
static void settle_ends(TurnQueue *q) {
        TurnResult result = not_stored;
        size_t n = 0;
        int r = 0;

        if (q->n_unsettled == 0)
                return;
        for (size_t i = 0; i < q->n_unsettled; i++) {
                result.now_usec = q->unsettled[i].ended_usec;
                r = finish(q, q->unsettled[i].seq, &result);
                if (r < 0)
                        q->unsettled[n++] = q->unsettled[i];
        }
        q->n_unsettled = n;
        if (n == 0)
                return;
        r = event_arm_timer(q->event, &q->settle_timer, UNSETTLED_RETRY_USEC, USEC_PER_SEC, on_settle, q);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
}

static void add_unsettled(TurnQueue *q, int64_t seq, uint64_t ended_usec) {
        Unsettled *grown = reallocarray(q->unsettled, q->n_unsettled + 1, sizeof(Unsettled));

        if (!grown) {
                (void) log_oom();
                return;
        }
        q->unsettled = grown;
        q->unsettled[q->n_unsettled++] = (Unsettled) { .seq = seq, .ended_usec = ended_usec };
        settle_ends(q);
}

/* What everybody is told of a turn until the disk takes its end: the same as its readers were. */
static int show_unsettled(TurnQueue *q, TurnRow *row) {
        int r;

        for (size_t i = 0; i < q->n_unsettled && !turn_status_is_final(row->status); i++) {
                if (q->unsettled[i].seq != row->seq)
                        continue;
                r = free_and_strdup(&row->error_code, not_stored.error_code);
                if (r >= 0)
                        r = free_and_strdup(&row->error_kind, not_stored.error_kind);
                if (r >= 0)
                        r = free_and_strdup(&row->error_message, not_stored.error_message);
                if (r < 0)
                        return r;
                row->status = not_stored.status;
                row->ended_usec = q->unsettled[i].ended_usec;
        }
        return 0;
}

static bool is_patient(const TurnQueue *q, const Turn *t) {
        return q->driver.patient_source && streq(t->source, q->driver.patient_source);
}

/* Stores the answer first and tells the readers afterwards, so that nobody is told of an answer that a crash
 * unmakes. false: it could not be stored and is to be found once more. */
static bool end_turn(TurnQueue *q, Turn *t, TurnResult *result) {
        int r;

        r = turn_message_end(t, result->status == TURN_COMPLETED);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to close the last message of turn '%s', ignoring: %m", t->id);
        result->items = t->items;
        result->n_items = t->n_items;
        result->usage = t->usage;
        result->context = t->context;
        result->spoken = t->spoken.text;
        result->now_usec = now_realtime_usec();
        if (q->driver.ending)
                q->driver.ending(t, result, q->driver.userdata);

        crash_point("turn-end");
        r = store_end(q, t, result);
        crash_point("turn-ended");
        if (r < 0) {
                (void) log_error_errno(r, "Failed to store the end of turn '%s' in '%s': %m", t->id,
                                       database_path(q->db));
                if (is_patient(q, t) && r != -EUCLEAN)
                        return false;
                *result = not_stored;
                result->usage = t->usage;
                result->now_usec = now_realtime_usec();
                add_unsettled(q, t->seq, result->now_usec);
        } else if (q->driver.ended)
                q->driver.ended(t, result, q->driver.userdata);
        r = turn_emit_end(t, result);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to write the last event of turn '%s', ignoring: %m", t->id);
        q->n_processed++;
        q->last_event_usec = now_realtime_usec();
        return true;
}

static int on_hold(sd_event_source *s, uint64_t usec, void *userdata) {
        TurnQueue *q = userdata;

        q->held = false;
        wake(q);
        return 0;
}

/* Back to the front, until the disk may have room again. */
static void put_back(TurnQueue *q, Turn *t) {
        int r;

        turn_items_free(t->items, t->n_items);
        t->items = NULL;
        t->n_items = 0;
        t->first = true;
        TAILQ_INSERT_HEAD(&q->waiting, t, turns);
        q->n_waiting++;
        q->held = true;
        r = event_arm_timer(q->event, &q->hold, UNSETTLED_RETRY_USEC, USEC_PER_SEC, on_hold, q);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to arm a timer, ignoring: %m");
                q->held = false;
        }
}

static void log_end(const Turn *t, const TurnResult *result) {
        _cleanup_free_ char *text = NULL;
        uint64_t usec = now_boottime_usec() - t->started_boottime_usec;

        text = asprintf_new("%s%s%s after %" PRIu64 ".%03" PRIu64 " s, %" PRIu64 " tokens in (%" PRIu64
                            " cached), %" PRIu64 " out.",
                            turn_status_to_string(result->status),
                            result->status == TURN_FAILED || !isempty(result->reason) ? ": " : "",
                            result->status == TURN_FAILED ? strempty(result->error_kind) : strempty(result->reason),
                            usec / USEC_PER_SEC, usec % USEC_PER_SEC / USEC_PER_MSEC,
                            result->usage.input_tokens, result->usage.cached_tokens, result->usage.output_tokens);
        log_turn(result->status == TURN_FAILED ? LOG_WARNING : LOG_INFO, t, PUFFO_MESSAGE_TURN_ENDED,
                 text ?: "ended.");
}

void turn_queue_end(TurnQueue *q, Turn *t, TurnResult *result) {
        assert(q->running == t);

        q->running = NULL;
        result->remember = result->status != TURN_FAILED;
        if (end_turn(q, t, result)) {
                log_end(t, result);
                keep_ended(q, t);
        } else
                put_back(q, t);
        wake(q);
        changed(q);
}

static void fail_turn(TurnQueue *q, Turn *t, const char *kind, const char *message) {
        turn_queue_end(q, t, &(TurnResult) {
                .status = TURN_FAILED, .error_code = "server_error", .error_kind = kind, .error_message = message,
        });
}

void turn_queue_abandon(TurnQueue *q) {
        Turn *t = TAKE_PTR(q->running);

        if (!t)
                return;
        q->driver.cancel(t, q->driver.userdata);
        (void) turn_free(t);
}

/* ---- beginnings ---- */

static int begin_turn(TurnQueue *q, Turn *t, TurnRow **ret) {
        bool again = t->attempts > 0;
        _cleanup_free_ char *source = NULL, *text = NULL;
        int r;

        crash_point("turn-begin");
        r = turn_store_start(q->db, t->seq, now_realtime_usec());
        crash_point("turn-begun");
        if (r < 0)
                return r;
        t->status = TURN_RUNNING;
        t->attempts++;
        t->started_boottime_usec = now_boottime_usec();
        r = turn_store_get(q->db, t->id, ret);
        if (r <= 0)
                return r < 0 ? r : -ESTALE;

        if (again) {
                log_turn(LOG_NOTICE, t, PUFFO_MESSAGE_TURN_RESUMED, "was cut short and begins again.");
                r = turn_emit_restarted(t);
                if (r < 0)
                        return r;
        } else {
                source = str_printable((*ret)->source, 64);
                text = isempty(source) ? NULL : strjoin("started for ", source, ".");
                log_turn(LOG_INFO, t, PUFFO_MESSAGE_TURN_STARTED, text ?: "started.");
        }
        return turn_emit_started(t);
}

static int on_dispatch(sd_event_source *s, void *userdata) {
        TurnQueue *q = userdata;
        TurnRow *row = NULL;
        Turn *t;
        int r;

        if (!q->enabled || q->held || q->running)
                return 0;
        t = TAILQ_FIRST(&q->waiting);
        if (!(t && t->first) && q->driver.offer &&
            q->driver.offer(t ? t->created_usec : UINT64_MAX, q->driver.userdata))
                return 0;
        t = TAILQ_FIRST(&q->waiting);
        if (!t)
                return 0;

        settle_ends(q);
        TAILQ_REMOVE(&q->waiting, t, turns);
        q->n_waiting--;
        q->running = t;

        r = begin_turn(q, t, &row);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to begin turn '%s': %m", t->id);
                (void) turn_row_free(row);
                if (r == -EUCLEAN && q->driver.broken)
                        q->driver.broken(r, q->driver.userdata);
                else if (is_patient(q, t)) {
                        q->running = NULL;
                        put_back(q, t);
                        changed(q);
                        return 0;
                }
                fail_turn(q, t, "storage", "The turn could not be read from the database (storage).");
                return 0;
        }
        changed(q);
        r = q->driver.start(t, row, q->driver.userdata);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to begin turn '%s': %m", t->id);
                fail_turn(q, t, "internal", "The turn could not be begun (internal).");
        }
        return 0;
}

static void append_waiting(TurnQueue *q, Turn *t) {
        TAILQ_INSERT_TAIL(&q->waiting, t, turns);
        q->n_waiting++;
}

/* What a turn of an earlier process that will not run again gets. > 0: it shall run. */
static int settle(TurnQueue *q, const TurnRow *row) {
        const char *kind, *message;
        int r;

        if (row->attempts >= ATTEMPTS_MAX) {
                kind = "crash";
                message = "agent process exited";
        } else if (row->created_usec + STALE_USEC < now_realtime_usec()) {
                kind = "stale";
                message = "The agent was not running for too long (stale).";
        } else
                return 1;

        (void) log_warning_errno(0, "Turn '%s' is given up: %s", row->id, message);
        r = finish(q, row->seq, &(TurnResult) {
                .status = TURN_FAILED, .error_code = "server_error", .error_kind = kind, .error_message = message,
                .usage = row->usage, .now_usec = now_realtime_usec(),
        });
        return r < 0 ? r : 0;
}

int turn_queue_load(TurnQueue *q) {
        TurnRow **rows;
        size_t n;
        int r;

        r = turn_store_list_pending(q->db, &rows, &n);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n && r >= 0; i++) {
                _cleanup_(turn_freep) Turn *t = NULL;

                r = settle(q, rows[i]);
                if (r <= 0)
                        continue;
                r = turn_new(&t, q->event, rows[i]);
                if (r >= 0)
                        r = turn_emit_queued(t, q->n_waiting);
                if (r >= 0)
                        append_waiting(q, TAKE_PTR(t));
        }
        turn_rows_free(rows, n);
        if (r < 0)
                return r;

        wake(q);
        return 0;
}

static int subscribe(Turn *t, int *fd) {
        return *fd < 0 ? 0 : event_log_subscribe(t->log, TAKE_FD(*fd));
}

/* The stream of a turn that ended so long ago that only its row is left. */
static int replay(TurnQueue *q, const char *id, int *fd) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        Turn *t;
        int r;

        settle_ends(q);
        r = turn_store_get(q->db, id, &row);
        if (r <= 0)
                return r;
        r = show_unsettled(q, row);
        if (r < 0)
                return r;
        if (!turn_status_is_final(row->status))
                return -ESTALE;         /* its end could not be kept at all */
        r = turn_new_replay(&t, q->event, row);
        if (r < 0)
                return r;
        keep_ended(q, t);
        r = subscribe(t, fd);
        return r < 0 ? r : 1;
}

/* What is to run: in the database and in memory, but not in the queue yet. */
static int add_new(TurnQueue *q, const TurnSubmission *submission, Turn **ret) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        _cleanup_(turn_freep) Turn *t = NULL;
        int r;

        r = turn_store_submit(q->db, submission, &row);
        if (r < 0) {
                if (r == -EUCLEAN && q->driver.broken)
                        q->driver.broken(r, q->driver.userdata);
                return r;
        }
        r = turn_new(&t, q->event, row);
        if (r >= 0)
                r = turn_emit_queued(t, q->n_waiting + !!q->running);
        if (r < 0) {
                (void) turn_store_delete(q->db, submission->id);
                return r;
        }
        *ret = TAKE_PTR(t);
        return 0;
}

static int has_room(const TurnQueue *q, bool accept) {
        if (!accept)
                return -EAGAIN;
        return q->n_waiting >= q->limit ? -ENOBUFS : 0;
}

int turn_queue_has_room(TurnQueue *q, const char *id, bool accept) {
        return find(q, id) ? 0 : has_room(q, accept);
}

int turn_queue_submit(TurnQueue *q, const TurnSubmission *submission, bool accept, int stream_fd) {
        _cleanup_close_ int fd = stream_fd;
        Turn *t = find(q, submission->id);
        int r;

        if (t) {
                r = subscribe(t, &fd);
                return r < 0 ? r : 1;
        }
        r = replay(q, submission->id, &fd);
        if (r != 0)
                return r;
        r = has_room(q, accept);
        if (r < 0)
                return r;

        r = add_new(q, submission, &t);
        if (r < 0)
                return r;
        append_waiting(q, t);
        wake(q);
        changed(q);
        return subscribe(t, &fd);
}

int turn_queue_submit_first(TurnQueue *q, const TurnSubmission *submission) {
        Turn *t;
        int r;

        r = add_new(q, submission, &t);
        if (r < 0)
                return r;
        t->first = true;
        TAILQ_INSERT_HEAD(&q->waiting, t, turns);
        q->n_waiting++;
        wake(q);
        changed(q);
        return 0;
}

int turn_queue_open_stream(TurnQueue *q, const char *id, int stream_fd) {
        _cleanup_close_ int fd = stream_fd;
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        Turn *t = find(q, id);
        int r;

        if (t)
                return subscribe(t, &fd);
        r = turn_store_get(q->db, id, &row);
        if (r < 0)
                return r;
        return r == 0 || !row->store ? -ENOENT : -ESTALE;
}

int turn_queue_interrupt(TurnQueue *q, const char *id) {
        TurnResult result = { .status = TURN_CANCELLED, .reason = "interrupted" };
        Turn *t = isempty(id) ? q->running : find(q, id);

        if (!t || turn_status_is_final(t->status))
                return 0;
        if (t == q->running) {
                q->driver.cancel(t, q->driver.userdata);
                turn_queue_end(q, t, &result);
                return 1;
        }

        TAILQ_REMOVE(&q->waiting, t, turns);
        q->n_waiting--;
        if (end_turn(q, t, &result))
                keep_ended(q, t);
        else
                put_back(q, t);
        changed(q);
        return 1;
}

static int items_copy(const Turn *t, TurnRow *row) {
        turn_items_free(row->items, row->n_items);
        row->n_items = 0;
        row->items = new0(TurnItem, t->n_items);
        if (!row->items)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_items; i++) {
                TurnItem *item = row->items + row->n_items++;

                item->complete = t->items[i].complete;
                item->item = strdup(t->items[i].item);
                item->text = strdup(t->items[i].text);
                if (!item->item || !item->text)
                        return -ENOMEM;
        }
        return 0;
}

int turn_queue_get(TurnQueue *q, const char *id, TurnRow **ret) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;
        int r;

        settle_ends(q);
        r = turn_store_get(q->db, id, &row);
        if (r <= 0)
                return r;
        r = show_unsettled(q, row);
        if (r < 0)
                return r;
        if (!row->store && turn_status_is_final(row->status))
                return 0;
        if (q->running && streq(q->running->id, id)) {
                r = items_copy(q->running, row);
                if (r < 0)
                        return r;
                row->usage = q->running->usage;
        }

        *ret = TAKE_PTR(row);
        return 1;
}

int turn_queue_delete(TurnQueue *q, const char *id) {
        Turn *t;
        int r;

        assert(!isempty(id));

        (void) turn_queue_interrupt(q, id);
        t = find_in(&q->ended, id);
        r = turn_store_delete(q->db, id);
        if (r < 0)
                return r;
        if (t)
                drop_ended(q, t);
        return r;
}
