/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "log.h"
#include "stream-internal.h"

/* Fetched messages wait here in small numbers, the network waiting with them. Live ones must be read on, because pings
 * come between them; those that are too many are dropped and fetched later. */
#define MISSED_QUEUE_MAX 64U
#define MISSED_QUEUE_LOW 16U
#define MISSED_BYTES_MAX MIB(4)
#define LIVE_QUEUE_MAX 1024U
#define LIVE_BYTES_MAX MIB(32)
/* Handed out in one turn of the loop; then others have theirs. */
#define ITEMS_PER_TURN 32U
/* server-api §13.3 rule 4 */
#define AGAIN_PAUSE_USEC (10 * USEC_PER_SEC)
/* A list item is an envelope and its number. */
#define ITEM_MAX (ENVELOPE_SIZE_MAX + KIB(1))

/* --- handing out --- */

static Item* item_free(Item *i) {
        if (!i)
                return NULL;
        envelope_free(i->envelope);
        return mfree(i);
}

static void inbox_wake(Stream *s) {
        if (!s->inbox.current && !STAILQ_EMPTY(&s->inbox.queue))
                (void) sd_event_source_set_enabled(s->inbox.turn, SD_EVENT_ONESHOT);
}

static void catch_up_resume(Stream *s) {
        if (!s->catch_up.paused || s->inbox.n_queued > MISSED_QUEUE_LOW)
                return;
        s->catch_up.paused = false;
        server_call_pause(s->catch_up.call, false);
}

static void inbox_deliver_next(Stream *s) {
        Item *i = STAILQ_FIRST(&s->inbox.queue);

        STAILQ_REMOVE_HEAD(&s->inbox.queue, items);
        s->inbox.n_queued--;
        s->inbox.n_bytes -= i->size;
        s->inbox.current = i;
        s->inbox.delivering = true;
        s->handlers.on_envelope(s, i->envelope, s->handlers.userdata);
        s->inbox.delivering = false;
}

static void inbox_after(Stream *s) {
        acks_commit_soon(s);
        catch_up_resume(s);
        inbox_wake(s);
        catch_up_check(s);
}

static int inbox_on_turn(sd_event_source *source, void *userdata) {
        Stream *s = userdata;

        for (unsigned n = 0; n < ITEMS_PER_TURN && !s->inbox.current && !STAILQ_EMPTY(&s->inbox.queue); n++)
                inbox_deliver_next(s);
        inbox_after(s);
        return 0;
}

void stream_delivered(Stream *s, Delivery verdict) {
        Item *i;

        assert(s && s->inbox.current);

        i = TAKE_PTR(s->inbox.current);
        if (verdict == DELIVERY_TAKEN)
                acks_add(s, envelope_id(i->envelope), i->missed);
        else
                catch_up_put_off(s);
        item_free(i);
        if (!s->inbox.delivering)
                inbox_after(s);
}

static int inbox_add(Stream *s, SignedDocument **document, const SignedValue *envelope, bool missed) {
        const size_t size = signed_document_size(*document);
        Item *i = new0(Item, 1);
        int r;

        if (!i)
                return -ENOMEM;
        r = envelope_new(&i->envelope, document, envelope);
        if (r < 0) {
                free(i);
                return r;
        }
        i->size = size;
        i->missed = missed;
        STAILQ_INSERT_TAIL(&s->inbox.queue, i, items);
        s->inbox.n_queued++;
        s->inbox.n_bytes += size;
        inbox_wake(s);
        return 0;
}

/* An envelope that is none can be told from a good one by nobody else: the server may forget it. */
static void refuse_envelope(Stream *s, const SignedValue *envelope, int error, bool missed) {
        const char *id = strempty(signed_get_string(envelope, "envelope_id"));
        _cleanup_free_ char *shown = str_printable(id, 80), *field = strjoin("PUFFO_ENVELOPE=", strempty(shown));

        log_fields(LOG_WARNING, 0, (const char *const[]) { field, NULL }, "Dropped envelope '%s': %s", strempty(shown),
                   error == -E2BIG ? "it has too many recipients or too long an id" : "malformed");
        acks_add(s, id, missed);
}

void inbox_add_live(Stream *s, SignedDocument **document, const SignedValue *envelope) {
        const size_t size = signed_document_size(*document);
        int r;

        if (s->inbox.n_queued >= LIVE_QUEUE_MAX ||
            (s->inbox.n_queued > 0 && s->inbox.n_bytes + size > LIVE_BYTES_MAX)) {
                catch_up_again(s);
                return;
        }
        r = inbox_add(s, document, envelope, /* missed= */ false);
        if (r == -ENOMEM)
                catch_up_again(s);
        else if (r < 0) {
                refuse_envelope(s, envelope, r, /* missed= */ false);
                acks_commit(s);
                acks_flush(s, /* all= */ false);
        }
}

int inbox_init(Stream *s) {
        int r = sd_event_add_defer(s->event, &s->inbox.turn, inbox_on_turn, s);

        STAILQ_INIT(&s->inbox.queue);
        return r < 0 ? r : sd_event_source_set_enabled(s->inbox.turn, SD_EVENT_OFF);
}

void inbox_clear(Stream *s) {
        Item *i;

        while ((i = STAILQ_FIRST(&s->inbox.queue))) {
                STAILQ_REMOVE_HEAD(&s->inbox.queue, items);
                item_free(i);
        }
        s->inbox.n_queued = s->inbox.n_bytes = 0;
}

void inbox_done(Stream *s) {
        if (s->inbox.turn)
                inbox_clear(s);
        s->inbox.current = item_free(s->inbox.current);
        s->inbox.turn = sd_event_source_disable_unref(s->inbox.turn);
}

/* --- what was missed --- */

/* The first of a pass is remembered. */
static int catch_up_count(Stream *s, const char *id) {
        s->catch_up.n_items++;
        return s->catch_up.first_id ? 0 : free_and_strdup(&s->catch_up.first_id, id);
}

/* It will not be smaller next time: the server may forget it, as any other that is no envelope. Without an id there is
 * no way to say so. It stays there, and is not fetched for its own sake. */
static int catch_up_on_too_large(const char *id, size_t size, void *userdata) {
        _cleanup_free_ char *shown = NULL, *field = NULL;
        Stream *s = userdata;
        int r;

        if (!id) {
                log_warning("A pending message of %zu bytes, larger than %zu MiB, has no id and is left out.", size,
                            ENVELOPE_SIZE_MAX >> 20);
                return 0;
        }
        r = catch_up_count(s, id);
        if (r < 0)
                return r;
        shown = str_printable(id, 80);
        field = strjoin("PUFFO_ENVELOPE=", strempty(shown));
        log_fields(LOG_WARNING, 0, (const char *const[]) { field, NULL },
                   "Dropped envelope '%s': its %zu bytes are larger than %zu MiB", strempty(shown), size,
                   ENVELOPE_SIZE_MAX >> 20);
        acks_add(s, id, /* missed= */ true);
        return 0;
}

static int catch_up_on_item(const char *text, size_t size, void *userdata) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const SignedValue *root, *envelope;
        Stream *s = userdata;
        int r;

        r = signed_document_parse(&d, text, size);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                s->catch_up.n_items++;
                refuse_envelope(s, NULL, r, /* missed= */ true);
                return 0;
        }
        root = signed_document_root(d);
        /* An item without an envelope is one itself (server-api §9.2). */
        envelope = signed_get(root, "envelope") ?: root;

        r = catch_up_count(s, strempty(signed_get_string(envelope, "envelope_id")));
        if (r < 0)
                return r;
        r = inbox_add(s, &d, envelope, /* missed= */ true);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                refuse_envelope(s, envelope, r, /* missed= */ true);
        return 0;
}

static int catch_up_on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        Stream *s = userdata;
        int r = pending_reader_feed(s->catch_up.reader, data, size);

        if (r < 0) {
                (void) free_and_strdup(&s->catch_up.problem,
                                       r == -EBADMSG ? "The server's answer is no list of messages" :
                                       r == -E2BIG   ? "The server's list of messages has a monstrous key" :
                                                       strerror(-r));
                return r;
        }
        if (s->inbox.n_queued >= MISSED_QUEUE_MAX || s->inbox.n_bytes >= MISSED_BYTES_MAX) {
                s->catch_up.paused = true;
                server_call_pause(s->catch_up.call, true);
        }
        return 0;
}

static void catch_up_on_done(ServerCall *call, const CallReply *reply, void *userdata) {
        Stream *s = userdata;

        if (reply->failure != CALL_OK && !s->catch_up.problem)
                (void) free_and_strdup(&s->catch_up.problem, reply->error);
        else if (reply->failure == CALL_OK && pending_reader_finish(s->catch_up.reader) < 0)
                (void) free_and_strdup(&s->catch_up.problem, "The server's list of messages has no end");
        s->catch_up.call = server_call_free(s->catch_up.call);
        s->catch_up.reader = pending_reader_free(s->catch_up.reader);
        s->catch_up.paused = false;
        catch_up_check(s);
}

static int catch_up_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        catch_up_begin(userdata);
        return 0;
}

static void catch_up_arm(Stream *s, uint64_t delay_usec) {
        if (event_arm_timer(s->event, &s->catch_up.timer, delay_usec, 0, catch_up_on_timer, s) < 0)
                (void) log_oom();
}

static void catch_up_retry_later(Stream *s) {
        CatchUp *c = &s->catch_up;

        c->pause_usec = CLAMP(c->pause_usec * 2, s->times.put_off_min_usec, s->times.put_off_max_usec);
        catch_up_arm(s, c->pause_usec);
}

/* A round that is under way sees to it at its end. */
void catch_up_put_off(Stream *s) {
        int enabled = SD_EVENT_OFF;

        s->catch_up.put_off = true;
        if (s->catch_up.timer)
                (void) sd_event_source_get_enabled(s->catch_up.timer, &enabled);
        if (!s->catch_up.running && enabled == SD_EVENT_OFF)
                catch_up_retry_later(s);
}

/* The first pass of a round or the next one. */
static void catch_up_pass(Stream *s) {
        PendingHandlers handlers = { catch_up_on_item, catch_up_on_too_large, s };
        CatchUp *c = &s->catch_up;
        int r;

        free(c->last_first_id);
        c->last_first_id = TAKE_PTR(c->first_id);
        c->last_n_items = c->n_items;
        c->n_items = 0;
        c->problem = mfree(c->problem);
        c->again = false;
        c->last_usec = now_boottime_usec();

        r = pending_reader_new(&c->reader, ITEM_MAX, &handlers);
        if (r >= 0)
                r = api_pending(s->client, s->times.fetch_usec, catch_up_on_data, catch_up_on_done, s, &c->call);
        if (r < 0) {
                log_warning_errno(r, "Cannot ask for missed messages: %m");
                catch_up_cancel(s);
                catch_up_retry_later(s);
        }
}

void catch_up_begin(Stream *s) {
        CatchUp *c = &s->catch_up;

        if (!s->greeted || s->stopping)
                return;
        if (c->running) {
                c->again = true;
                return;
        }
        c->timer = sd_event_source_disable_unref(c->timer);
        c->first_id = mfree(c->first_id);
        c->last_first_id = mfree(c->last_first_id);
        c->n_items = 0;
        c->put_off = false;
        c->running = true;
        catch_up_pass(s);
}

void catch_up_cancel(Stream *s) {
        CatchUp *c = &s->catch_up;

        c->call = server_call_free(c->call);
        c->reader = pending_reader_free(c->reader);
        c->timer = sd_event_source_disable_unref(c->timer);
        c->first_id = mfree(c->first_id);
        c->last_first_id = mfree(c->last_first_id);
        c->problem = mfree(c->problem);
        c->running = c->paused = c->again = false;
}

void catch_up_again(Stream *s) {
        uint64_t now = now_boottime_usec(), due = s->catch_up.last_usec + AGAIN_PAUSE_USEC;

        if (s->catch_up.running)
                s->catch_up.again = true;
        else
                catch_up_arm(s, due > now ? due - now : 0);
}

static bool missed_are_queued(const Stream *s) {
        const Item *i;

        if (s->inbox.current && s->inbox.current->missed)
                return true;
        STAILQ_FOREACH(i, &s->inbox.queue, items)
                if (i->missed)
                        return true;
        return false;
}

/* The list must move on: acknowledgements that a server ignores would have it sent for ever. */
static bool catch_up_moves_on(const CatchUp *c) {
        return c->n_items > 0 &&
               !(c->last_first_id && streq_ptr(c->first_id, c->last_first_id) && c->n_items == c->last_n_items);
}

void catch_up_check(Stream *s) {
        CatchUp *c = &s->catch_up;

        if (!c->running || c->call || missed_are_queued(s))
                return;
        acks_commit(s);
        acks_flush(s, /* all= */ true);
        if (acks_are_pending(s))
                return;

        if (c->problem) {
                log_warning("Cannot fetch missed messages, trying again later: %s", c->problem);
                /* A backlog that takes longer than one answer may is no failure that keeps happening. */
                if (catch_up_moves_on(c))
                        c->pause_usec = 0;
                catch_up_cancel(s);
                catch_up_retry_later(s);
                return;
        }
        if (catch_up_moves_on(c) || c->again) {
                catch_up_pass(s);
                return;
        }

        c->running = false;
        if (c->put_off || c->n_items > 0)
                catch_up_retry_later(s);
        else
                c->pause_usec = 0;
        if (s->handlers.on_caught_up)
                s->handlers.on_caught_up(s, s->handlers.userdata);
}
