/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "crash-point.h"
#include "envelope.h"
#include "event-util.h"
#include "json-util.h"
#include "message-seal.h"
#include "outbox-store.h"
#include "outbox.h"
#include "server-api.h"
#include "station.h"

/* message-pipeline §20 P-6. Whoever waits for a message is told after these. One that nobody waits for is tried more
 * often, but does not keep the others waiting for ever; and while the server is away, for as long as an answer may
 * still be of use. */
#define ATTEMPTS_MAX 4U
#define ATTEMPTS_UNWATCHED_MAX 10U
#define PATIENCE_MS ((int64_t) 48 * 3600 * 1000)
/* The disk may have room again. */
#define STORE_PAUSE_USEC (10 * USEC_PER_SEC)
/* Of the devices that the server says were forgotten. */
#define MISSING_MAX 256U
/* Conversations that are written to at a time, and those that may be waiting for another try beside them. */
#define PARALLEL_MAX 4U
#define SHIPMENTS_MAX 64U

/* A message on its way. There is one of a conversation at a time. */
typedef struct Shipment {
        Outbox *outbox;
        OutboxRow *row;
        char *lane;                     /* names its conversation (outbox_row_lane()) */
        MessageSeal *seal;
        ServerCall *call;
        bool again;                     /* on the server, and being sealed for devices that were forgotten */
        bool resting;                   /* until retry goes off */
        unsigned n_attempts;            /* of this row in this process */
        sd_event_source *retry;
        LIST_ENTRY(Shipment) shipments;
} Shipment;

struct Outbox {
        OutboxSpec spec;
        bool started;
        LIST_HEAD(, Shipment) shipments;
        sd_event_source *turn;          /* looks for the next row */
        sd_event_source *pause;         /* armed while the disk is given time */
        bool paused;
        LIST_HEAD(, OutboxWatch) watches;
        sd_event_source *tell;          /* tells those whose row has ended */
};

struct OutboxWatch {
        Outbox *outbox;                 /* NULL: it is gone, or this has been called */
        int64_t id;
        bool ended;
        outbox_done_t on_done;
        void *userdata;
        LIST_ENTRY(OutboxWatch) watches;
};

static void row_attempt(Shipment *p);
static int seal_start(Shipment *p, const char *const *devices, size_t n_devices);

static Station station_of(const OutboxRow *row, const char *name) {
        return (Station) { .station = name, .envelope = row->envelope_id, .thread = row->thread_root_id,
                           .turn = row->turn };
}

/* --- those who wait --- */

static bool is_watched(const Outbox *o, int64_t id) {
        const OutboxWatch *w;

        LIST_FOREACH(w, &o->watches, watches)
                if (w->id == id)
                        return true;
        return false;
}

static void watch_end(Outbox *o, int64_t id) {
        OutboxWatch *w;

        LIST_FOREACH(w, &o->watches, watches)
                if (w->id == id) {
                        w->ended = true;
                        (void) sd_event_source_set_enabled(o->tell, SD_EVENT_ONESHOT);
                }
}

static void watch_tell(OutboxWatch *w) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        Outbox *o = TAKE_PTR(w->outbox);
        OutboxResult result = {};
        int r;

        LIST_REMOVE(w, watches);
        r = outbox_store_get(o->spec.db, w->id, &row);
        if (r <= 0) {
                result.error = r < 0 ? r : -ENOENT;
                result.text = "the message is not to be found any more";
        } else if (row->state == OUTBOX_SENT)
                result.envelope_id = row->envelope_id;
        else {
                result.error = -EIO;
                result.text = isempty(row->error) ? "it could not be sent" : row->error;
        }
        w->on_done(w, &result, w->userdata);
}

static int on_tell(sd_event_source *s, void *userdata) {
        Outbox *o = userdata;
        OutboxWatch *w;

        LIST_FOREACH(w, &o->watches, watches)
                if (w->ended) {
                        /* One at a time: the callback may free any of them. */
                        (void) sd_event_source_set_enabled(o->tell, SD_EVENT_ONESHOT);
                        watch_tell(w);
                        break;
                }
        return 0;
}

int outbox_watch(Outbox *o, int64_t id, outbox_done_t on_done, void *userdata, OutboxWatch **ret) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        OutboxWatch *w;
        int r = outbox_store_get(o->spec.db, id, &row);

        if (r < 0)
                return r;
        w = new0(OutboxWatch, 1);
        if (!w)
                return -ENOMEM;
        *w = (OutboxWatch) { .outbox = o, .id = id, .on_done = on_done, .userdata = userdata };
        LIST_INSERT_HEAD(&o->watches, w, watches);
        if (r == 0 || row->state == OUTBOX_SENT || row->state == OUTBOX_FAILED)
                watch_end(o, id);
        *ret = w;
        return 0;
}

OutboxWatch* outbox_watch_free(OutboxWatch *w) {
        if (!w)
                return NULL;
        if (w->outbox)
                LIST_REMOVE(w, watches);
        return mfree(w);
}

/* --- one message --- */

static void look_again(Outbox *o) {
        (void) sd_event_source_set_enabled(o->turn, SD_EVENT_ONESHOT);
}

static Shipment* shipment_free(Shipment *p) {
        if (!p)
                return NULL;
        LIST_REMOVE(p, shipments);
        (void) message_seal_free(p->seal);
        (void) server_call_free(p->call);
        (void) sd_event_source_disable_unref(p->retry);
        (void) outbox_row_free(p->row);
        free(p->lane);
        return mfree(p);
}

static void shipment_done(Shipment *p) {
        Outbox *o = p->outbox;

        (void) shipment_free(p);
        look_again(o);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Shipment *p = userdata;

        p->resting = false;
        row_attempt(p);
        return 0;
}

static int on_pause_over(sd_event_source *s, uint64_t usec, void *userdata) {
        Outbox *o = userdata;

        o->paused = false;
        look_again(o);
        return 0;
}

static void pause_all(Outbox *o) {
        o->paused = event_arm_timer(o->spec.event, &o->pause, STORE_PAUSE_USEC, 0, on_pause_over, o) >= 0;
        if (!o->paused)
                (void) log_oom();
}

static void retry_in(Shipment *p, uint64_t usec) {
        Outbox *o = p->outbox;

        p->seal = message_seal_free(p->seal);
        p->call = server_call_free(p->call);
        p->resting = event_arm_timer(o->spec.event, &p->retry, usec, 0, on_retry, p) >= 0;
        if (p->resting)
                look_again(o);          /* others need not wait for it */
        else {
                (void) log_oom();
                (void) shipment_free(p);
                pause_all(o);
        }
}

/* What could not be written down did not happen, as far as anybody was told: the row is read again. */
static void store_failed(Shipment *p, int error) {
        Station at = station_of(p->row, NULL);
        Outbox *o = p->outbox;

        station_log(LOG_ERR, error, &at, "The state of an outgoing message could not be stored: %m");
        if (error == -EUCLEAN && o->spec.on_broken)
                o->spec.on_broken(error, o->spec.userdata);
        (void) shipment_free(p);
        pause_all(o);
}

static void row_fail(Shipment *p, const char *text) {
        _cleanup_free_ char *shown = str_printable(strempty(text), 300);
        Station at = station_of(p->row, "failed");
        int r = outbox_store_failed(p->outbox->spec.db, p->row->id, strempty(shown), now_realtime_ms());

        if (r < 0) {
                store_failed(p, r);
                return;
        }
        station_log(LOG_WARNING, 0, &at, "A message could not be sent: %s", strempty(shown));
        watch_end(p->outbox, p->row->id);
        shipment_done(p);
}

static void row_fail_for_now(Shipment *p, const char *text) {
        static const unsigned pauses[] = { 2, 8, 30 };
        bool watched = is_watched(p->outbox, p->row->id), online = p->outbox->spec.is_online(p->outbox->spec.userdata),
             patient = !watched && !online && now_realtime_ms() - p->row->created_at < PATIENCE_MS;
        Station at = station_of(p->row, NULL);
        uint64_t pause;

        if (!patient && p->n_attempts >= (watched ? ATTEMPTS_MAX : ATTEMPTS_UNWATCHED_MAX)) {
                row_fail(p, text);
                return;
        }
        pause = pauses[MIN(MAX(p->n_attempts, 1U) - 1, ELEMENTSOF(pauses) - 1)] * USEC_PER_SEC;
        station_log(p->n_attempts > ATTEMPTS_MAX ? LOG_DEBUG : LOG_NOTICE, 0, &at,
                    "A message could not be sent yet, trying again in %" PRIu64 " s: %s", pause / USEC_PER_SEC,
                    strempty(text));
        retry_in(p, pause);
}

static void row_sent(Shipment *p) {
        const OutboxSpec *spec = &p->outbox->spec;
        Station at = station_of(p->row, "posted");
        int r;

        crash_point("outbox-posted");
        r = outbox_store_sent(spec->db, p->row, server_client_identity(spec->client)->slug, now_realtime_ms());
        if (r < 0) {
                store_failed(p, r);
                return;
        }
        crash_point("outbox-sent-stored");
        station_log(LOG_INFO, 0, &at, "Sent a message to %s.",
                    isempty(p->row->channel_id) ? p->row->recipient_slug : p->row->channel_id);
        watch_end(p->outbox, p->row->id);
        shipment_done(p);
}

/* ---- devices that were forgotten (server-api §9.1) ---- */

static void on_posted_again(ServerCall *call, const CallReply *reply, void *userdata) {
        Shipment *p = userdata;
        Station at = station_of(p->row, NULL);

        if (reply->failure != CALL_OK)
                station_log(LOG_NOTICE, 0, &at, "A message does not reach some devices that are new: %s",
                            strempty(reply->error));
        row_sent(p);
}

/* It is as good as sent whatever comes of this. */
static void on_sealed_again(Shipment *p, const SealedMessage *sealed) {
        Station at = station_of(p->row, NULL);
        int r = sealed->error;

        if (r >= 0)
                r = api_post_message(p->outbox->spec.client, sealed->envelope, sealed->envelope_size,
                                     on_posted_again, p, &p->call);
        if (r >= 0)
                return;
        station_log(LOG_NOTICE, 0, &at, "A message does not reach some devices that are new: %s",
                    sealed->text ?: strerror(-r));
        row_sent(p);
}

/* Whether there is something to be done before the message is done. */
static bool row_seal_again(Shipment *p, const CallReply *reply) {
        _cleanup_free_ char *error = NULL;
        Station at = station_of(p->row, NULL);
        PostedMessage posted = {};
        int r = api_read_posted(reply, &posted, &error);

        if (r >= 0 && posted.n_missing > 0) {
                station_log(LOG_INFO, 0, &at, "A message is sealed once more, for %zu devices that are new.",
                            posted.n_missing);
                p->again = true;
                r = seal_start(p, posted.missing_devices, MIN(posted.n_missing, MISSING_MAX));
                p->call = server_call_free(p->call);
        }
        free(posted.missing_devices);
        return r >= 0 && p->again;
}

static void on_posted(ServerCall *call, const CallReply *reply, void *userdata) {
        Shipment *p = userdata;
        _cleanup_free_ char *text = NULL;

        /* One that was posted before and whose answer was lost may be a conflict now: the server has it. */
        if (reply->failure == CALL_OK || (reply->status == 409 && p->row->attempts > 0)) {
                crash_point("outbox-accepted");
                if (reply->failure != CALL_OK || !row_seal_again(p, reply))
                        row_sent(p);
                return;
        }
        p->row->attempts++;
        text = reply->failure == CALL_STATUS
                       ? asprintf_new("the server refused it (%ld%s%s)", reply->status, reply->code ? " " : "",
                                      strempty(reply->code))
                       : asprintf_new("the server could not be reached or gave no sensible answer");
        station_log(LOG_NOTICE, 0, &(Station) { .envelope = p->row->envelope_id, .turn = p->row->turn },
                    "POST /messages: %s", strempty(reply->error));
        if (call_reply_is_transient(reply) || reply->failure == CALL_PROTOCOL)
                row_fail_for_now(p, text);
        else
                row_fail(p, text);
}

static void row_post(Shipment *p) {
        int r;

        crash_point("outbox-before-post");
        r = outbox_store_attempted(p->outbox->spec.db, p->row->id, now_realtime_ms());
        if (r < 0) {
                store_failed(p, r);
                return;
        }
        crash_point("outbox-attempted");
        r = api_post_message(p->outbox->spec.client, p->row->envelope, strlen(p->row->envelope), on_posted, p,
                             &p->call);
        if (r < 0)
                row_fail_for_now(p, strerror(-r));
}

static int row_take_envelope(Shipment *p, const SealedMessage *sealed) {
        int r;

        crash_point("outbox-sealed");
        r = outbox_store_sealed(p->outbox->spec.db, p->row->id, sealed->envelope_id, sealed->envelope,
                                sealed->envelope_size, now_realtime_ms());
        if (r < 0)
                return r;
        crash_point("outbox-sealed-stored");
        r = free_and_strdup(&p->row->envelope_id, sealed->envelope_id);
        if (r < 0)
                return r;
        free(p->row->envelope);
        p->row->envelope = memdup0(sealed->envelope, sealed->envelope_size);
        if (!p->row->envelope)
                return -ENOMEM;
        p->row->state = OUTBOX_SEALED;
        return 0;
}

static void on_sealed(MessageSeal *m, const SealedMessage *sealed, void *userdata) {
        Shipment *p = userdata;
        Station at;
        int r;

        if (p->again) {
                on_sealed_again(p, sealed);
                return;
        }
        if (sealed->error < 0) {
                if (sealed->transient)
                        row_fail_for_now(p, sealed->text);
                else
                        row_fail(p, sealed->text);
                return;
        }
        r = row_take_envelope(p, sealed);
        if (r < 0) {
                store_failed(p, r);
                return;
        }
        at = station_of(p->row, "sealed");
        station_log(LOG_INFO, 0, &at, "Sealed a message for %zu devices.", sealed->n_devices);
        p->seal = message_seal_free(p->seal);
        row_post(p);
}

/* devices NULL: for the first time. */
static int seal_start(Shipment *p, const char *const *devices, size_t n_devices) {
        const OutboxRow *row = p->row;
        bool channel = !isempty(row->channel_id);

        return message_seal_new(&p->seal, &(MessageSealSpec) {
                .client = p->outbox->spec.client,
                .cache = p->outbox->spec.certs,
                .kind = channel ? ENVELOPE_CHANNEL : ENVELOPE_DM,
                .space_id = channel ? row->space_id : NULL,
                .channel_id = channel ? row->channel_id : NULL,
                .recipient_slug = channel ? NULL : row->recipient_slug,
                .thread_root_id = isempty(row->thread_root_id) ? NULL : row->thread_root_id,
                .content_type = row->content_type,
                .content = row->content,
                .sent_at = row->sent_at,
                .again = devices ? row->envelope : NULL,
                .devices = devices,
                .n_devices = n_devices,
                .on_sealed = on_sealed,
                .userdata = p,
        });
}

static void row_seal(Shipment *p) {
        int r = seal_start(p, NULL, 0);

        if (r == -EINVAL)
                row_fail(p, "it cannot be put into an envelope");
        else if (r < 0)
                row_fail_for_now(p, strerror(-r));
}

static void row_attempt(Shipment *p) {
        p->n_attempts++;
        if (p->row->state == OUTBOX_SEALED)
                row_post(p);
        else
                row_seal(p);
}

static unsigned n_active(const Outbox *o, unsigned *ret_n) {
        unsigned n = 0, n_resting = 0;
        const Shipment *p;

        LIST_FOREACH(p, &o->shipments, shipments) {
                n++;
                n_resting += p->resting;
        }
        if (ret_n)
                *ret_n = n;
        return n - n_resting;
}

/* The first message of a conversation in which none is on its way. 1 = it is now; 0 = there is none. */
static int shipment_begin(Outbox *o) {
        const char *busy[SHIPMENTS_MAX + 1] = {};
        Shipment *p;
        size_t n = 0;
        int r;

        LIST_FOREACH(p, &o->shipments, shipments)
                busy[n++] = p->lane;
        p = new0(Shipment, 1);
        if (!p)
                return -ENOMEM;
        p->outbox = o;
        LIST_INSERT_HEAD(&o->shipments, p, shipments);
        r = outbox_store_next(o->spec.db, busy, n, &p->row);
        if (r > 0) {
                p->lane = outbox_row_lane(p->row);
                r = p->lane ? 1 : -ENOMEM;
        }
        if (r <= 0) {
                (void) shipment_free(p);
                return r;
        }
        row_attempt(p);
        return 1;
}

static void tell_if_settled(Outbox *o) {
        if (outbox_is_settled(o) && o->spec.on_settled)
                o->spec.on_settled(o->spec.userdata);
}

static int on_turn(sd_event_source *s, void *userdata) {
        Outbox *o = userdata;
        unsigned n;
        int r = 1;

        while (o->started && !o->paused && r > 0 && n_active(o, &n) < PARALLEL_MAX && n < SHIPMENTS_MAX)
                r = shipment_begin(o);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to look for outgoing messages: %m");
                if (r == -EUCLEAN && o->spec.on_broken) {
                        o->spec.on_broken(r, o->spec.userdata);
                        return 0;
                }
                pause_all(o);
        }
        tell_if_settled(o);
        return 0;
}

/* --- the outside --- */

static int check(const OutgoingMessage *m) {
        _cleanup_json_ json_object *content = NULL;

        if (isempty(m->recipient_slug) ? isempty(m->channel_id) || isempty(m->space_id) : !isempty(m->channel_id))
                return -EINVAL;
        /* Content that is no text is ours, and bounded by what is in it. */
        if (strlen(m->content) > OUTBOX_TEXT_MAX * 6 + 2)
                return -E2BIG;
        if (json_parse(m->content, strlen(m->content), &content) < 0)
                return -EINVAL;
        if (json_object_is_type(content, json_type_string) &&
            (size_t) json_object_get_string_len(content) > OUTBOX_TEXT_MAX)
                return -E2BIG;
        return 0;
}

int outbox_add(Outbox *o, const OutgoingMessage *m, int64_t *ret_id) {
        int64_t id;
        int r = check(m);

        if (r < 0)
                return r;
        r = outbox_store_add(o->spec.db, &(OutboxRow) {
                .key = (char*) m->key,
                .space_id = (char*) m->space_id,
                .channel_id = (char*) m->channel_id,
                .recipient_slug = (char*) m->recipient_slug,
                .thread_root_id = (char*) m->thread_root_id,
                .content_type = (char*) (isempty(m->content_type) ? CONTENT_TYPE_TEXT : m->content_type),
                .content = (char*) m->content,
                .turn = (char*) m->turn,
        }, now_realtime_ms(), &id);
        if (r < 0)
                return r;
        crash_point("outbox-added");
        if (ret_id)
                *ret_id = id;
        look_again(o);
        return r;
}

int outbox_find(Outbox *o, const char *key, int64_t *ret_id) {
        return outbox_store_find(o->spec.db, key, ret_id);
}

int outbox_withdraw(Outbox *o, int64_t id) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        int r = outbox_store_get(o->spec.db, id, &row);
        Shipment *p;

        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        if (row->state != OUTBOX_QUEUED)
                return 0;
        r = outbox_store_failed(o->spec.db, id, "it was withdrawn", now_realtime_ms());
        if (r < 0)
                return r;
        watch_end(o, id);
        /* Should the caller not commit, it is found again. */
        LIST_FOREACH(p, &o->shipments, shipments)
                if (p->row->id == id) {
                        (void) shipment_free(p);
                        break;
                }
        look_again(o);
        return 1;
}

int outbox_new(Outbox **ret, const OutboxSpec *spec) {
        _cleanup_(outbox_freep) Outbox *o = new0(Outbox, 1);
        int r;

        if (!o)
                return -ENOMEM;
        o->spec = *spec;
        LIST_INIT(&o->watches);
        LIST_INIT(&o->shipments);
        r = sd_event_add_defer(spec->event, &o->turn, on_turn, o);
        if (r >= 0)
                r = sd_event_source_set_enabled(o->turn, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(spec->event, &o->tell, on_tell, o);
        if (r >= 0)
                r = sd_event_source_set_enabled(o->tell, SD_EVENT_OFF);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

bool outbox_is_settled(const Outbox *o) {
        int armed = SD_EVENT_OFF;

        (void) sd_event_source_get_enabled(o->turn, &armed);
        return n_active(o, NULL) == 0 && armed == SD_EVENT_OFF;
}

int outbox_start(Outbox *o) {
        o->started = true;
        return sd_event_source_set_enabled(o->turn, SD_EVENT_ONESHOT);
}

Outbox* outbox_free(Outbox *o) {
        OutboxWatch *w;

        if (!o)
                return NULL;
        LIST_FOREACH(w, &o->watches, watches)
                w->outbox = NULL;
        while (!LIST_EMPTY(&o->shipments))
                (void) shipment_free(LIST_FIRST(&o->shipments));
        (void) sd_event_source_disable_unref(o->turn);
        (void) sd_event_source_disable_unref(o->tell);
        (void) sd_event_source_disable_unref(o->pause);
        return mfree(o);
}
