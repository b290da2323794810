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

struct Outbox {
        OutboxSpec spec;
        bool started;
        OutboxRow *row;                 /* on its way; NULL: none */
        MessageSeal *seal;
        ServerCall *call;
        bool again;                     /* on the server, and being sealed for devices that were forgotten */
        unsigned n_attempts;            /* of this row in this process */
        sd_event_source *turn;          /* looks for the next row */
        sd_event_source *retry;
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

static void row_attempt(Outbox *o);
static int seal_start(Outbox *o, const char *const *devices, size_t n_devices);

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

static void row_done(Outbox *o) {
        o->seal = message_seal_free(o->seal);
        o->call = server_call_free(o->call);
        o->row = outbox_row_free(o->row);
        o->n_attempts = 0;
        o->again = false;
        look_again(o);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Outbox *o = userdata;

        if (o->row)
                row_attempt(o);
        else
                look_again(o);
        return 0;
}

static void retry_in(Outbox *o, uint64_t usec) {
        o->seal = message_seal_free(o->seal);
        o->call = server_call_free(o->call);
        if (event_arm_timer(o->spec.event, &o->retry, usec, 0, on_retry, o) < 0)
                (void) log_oom();
}

/* What could not be written down did not happen, as far as anybody was told: the row is read again. */
static void store_failed(Outbox *o, int error) {
        Station at = station_of(o->row, NULL);

        station_log(LOG_ERR, error, &at, "The state of an outgoing message could not be stored: %m");
        if (error == -EUCLEAN && o->spec.on_broken)
                o->spec.on_broken(error, o->spec.userdata);
        o->row = outbox_row_free(o->row);
        retry_in(o, STORE_PAUSE_USEC);
}

static void row_fail(Outbox *o, const char *text) {
        _cleanup_free_ char *shown = str_printable(strempty(text), 300);
        Station at = station_of(o->row, "failed");
        int r = outbox_store_failed(o->spec.db, o->row->id, strempty(shown), now_realtime_ms());

        if (r < 0) {
                store_failed(o, r);
                return;
        }
        station_log(LOG_WARNING, 0, &at, "A message could not be sent: %s", strempty(shown));
        watch_end(o, o->row->id);
        row_done(o);
}

static void row_fail_for_now(Outbox *o, const char *text) {
        static const unsigned pauses[] = { 2, 8, 30 };
        bool watched = is_watched(o, o->row->id), online = o->spec.is_online(o->spec.userdata),
             patient = !watched && !online && now_realtime_ms() - o->row->created_at < PATIENCE_MS;
        Station at = station_of(o->row, NULL);
        uint64_t pause;

        if (!patient && o->n_attempts >= (watched ? ATTEMPTS_MAX : ATTEMPTS_UNWATCHED_MAX)) {
                row_fail(o, text);
                return;
        }
        pause = pauses[MIN(MAX(o->n_attempts, 1U) - 1, ELEMENTSOF(pauses) - 1)] * USEC_PER_SEC;
        station_log(o->n_attempts > ATTEMPTS_MAX ? LOG_DEBUG : LOG_NOTICE, 0, &at,
                    "A message could not be sent yet, trying again in %" PRIu64 " s: %s", pause / USEC_PER_SEC,
                    strempty(text));
        retry_in(o, pause);
}

static void row_sent(Outbox *o) {
        Station at = station_of(o->row, "posted");
        int r;

        crash_point("outbox-posted");
        r = outbox_store_sent(o->spec.db, o->row, server_client_identity(o->spec.client)->slug, now_realtime_ms());
        if (r < 0) {
                store_failed(o, r);
                return;
        }
        crash_point("outbox-sent-stored");
        station_log(LOG_INFO, 0, &at, "Sent a message to %s.",
                    isempty(o->row->channel_id) ? o->row->recipient_slug : o->row->channel_id);
        watch_end(o, o->row->id);
        row_done(o);
}

/* ---- devices that were forgotten (server-api §9.1) ---- */

static void on_posted_again(ServerCall *call, const CallReply *reply, void *userdata) {
        Outbox *o = userdata;
        Station at = station_of(o->row, NULL);

        if (reply->failure != CALL_OK)
                station_log(LOG_NOTICE, 0, &at, "A message does not reach some devices that are new: %s",
                            strempty(reply->error));
        row_sent(o);
}

/* It is as good as sent whatever comes of this. */
static void on_sealed_again(Outbox *o, const SealedMessage *sealed) {
        Station at = station_of(o->row, NULL);
        int r = sealed->error;

        if (r >= 0)
                r = api_post_message(o->spec.client, sealed->envelope, sealed->envelope_size, on_posted_again, o,
                                     &o->call);
        if (r >= 0)
                return;
        station_log(LOG_NOTICE, 0, &at, "A message does not reach some devices that are new: %s",
                    sealed->text ?: strerror(-r));
        row_sent(o);
}

/* Whether there is something to be done before the message is done. */
static bool row_seal_again(Outbox *o, const CallReply *reply) {
        _cleanup_free_ char *error = NULL;
        Station at = station_of(o->row, NULL);
        PostedMessage posted = {};
        int r = api_read_posted(reply, &posted, &error);

        if (r >= 0 && posted.n_missing > 0) {
                station_log(LOG_INFO, 0, &at, "A message is sealed once more, for %zu devices that are new.",
                            posted.n_missing);
                o->again = true;
                r = seal_start(o, posted.missing_devices, MIN(posted.n_missing, MISSING_MAX));
                o->call = server_call_free(o->call);
        }
        free(posted.missing_devices);
        return r >= 0 && o->again;
}

static void on_posted(ServerCall *call, const CallReply *reply, void *userdata) {
        Outbox *o = userdata;
        _cleanup_free_ char *text = NULL;

        /* One that was posted before and whose answer was lost may be a conflict now: the server has it. */
        if (reply->failure == CALL_OK || (reply->status == 409 && o->row->attempts > 0)) {
                crash_point("outbox-accepted");
                if (reply->failure != CALL_OK || !row_seal_again(o, reply))
                        row_sent(o);
                return;
        }
        o->row->attempts++;
        text = reply->failure == CALL_STATUS
                       ? asprintf_new("the server refused it (%ld%s%s)", reply->status, reply->code ? " " : "",
                                      strempty(reply->code))
                       : asprintf_new("the server could not be reached or gave no sensible answer");
        station_log(LOG_NOTICE, 0, &(Station) { .envelope = o->row->envelope_id, .turn = o->row->turn },
                    "POST /messages: %s", strempty(reply->error));
        if (call_reply_is_transient(reply) || reply->failure == CALL_PROTOCOL)
                row_fail_for_now(o, text);
        else
                row_fail(o, text);
}

static void row_post(Outbox *o) {
        int r;

        crash_point("outbox-before-post");
        r = outbox_store_attempted(o->spec.db, o->row->id, now_realtime_ms());
        if (r < 0) {
                store_failed(o, r);
                return;
        }
        crash_point("outbox-attempted");
        r = api_post_message(o->spec.client, o->row->envelope, strlen(o->row->envelope), on_posted, o, &o->call);
        if (r < 0)
                row_fail_for_now(o, strerror(-r));
}

static int row_take_envelope(Outbox *o, const SealedMessage *sealed) {
        int r;

        crash_point("outbox-sealed");
        r = outbox_store_sealed(o->spec.db, o->row->id, sealed->envelope_id, sealed->envelope, sealed->envelope_size,
                                now_realtime_ms());
        if (r < 0)
                return r;
        crash_point("outbox-sealed-stored");
        r = free_and_strdup(&o->row->envelope_id, sealed->envelope_id);
        if (r < 0)
                return r;
        free(o->row->envelope);
        o->row->envelope = memdup0(sealed->envelope, sealed->envelope_size);
        if (!o->row->envelope)
                return -ENOMEM;
        o->row->state = OUTBOX_SEALED;
        return 0;
}

static void on_sealed(MessageSeal *m, const SealedMessage *sealed, void *userdata) {
        Outbox *o = userdata;
        Station at;
        int r;

        if (o->again) {
                on_sealed_again(o, sealed);
                return;
        }
        if (sealed->error < 0) {
                if (sealed->transient)
                        row_fail_for_now(o, sealed->text);
                else
                        row_fail(o, sealed->text);
                return;
        }
        r = row_take_envelope(o, sealed);
        if (r < 0) {
                store_failed(o, r);
                return;
        }
        at = station_of(o->row, "sealed");
        station_log(LOG_INFO, 0, &at, "Sealed a message for %zu devices.", sealed->n_devices);
        o->seal = message_seal_free(o->seal);
        row_post(o);
}

/* devices NULL: for the first time. */
static int seal_start(Outbox *o, const char *const *devices, size_t n_devices) {
        const OutboxRow *row = o->row;
        bool channel = !isempty(row->channel_id);

        return message_seal_new(&o->seal, &(MessageSealSpec) {
                .client = o->spec.client,
                .cache = o->spec.certs,
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
                .userdata = o,
        });
}

static void row_seal(Outbox *o) {
        int r = seal_start(o, NULL, 0);

        if (r == -EINVAL)
                row_fail(o, "it cannot be put into an envelope");
        else if (r < 0)
                row_fail_for_now(o, strerror(-r));
}

static void row_attempt(Outbox *o) {
        o->n_attempts++;
        if (o->row->state == OUTBOX_SEALED)
                row_post(o);
        else
                row_seal(o);
}

static int on_turn(sd_event_source *s, void *userdata) {
        Outbox *o = userdata;
        int armed = SD_EVENT_OFF, r;

        if (o->retry)
                (void) sd_event_source_get_enabled(o->retry, &armed);
        if (!o->started || o->row || armed != SD_EVENT_OFF)
                return 0;
        r = outbox_store_next(o->spec.db, 0, &o->row);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to look for outgoing messages: %m");
                if (r == -EUCLEAN && o->spec.on_broken)
                        o->spec.on_broken(r, o->spec.userdata);
        }
        if (r > 0)
                row_attempt(o);
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

        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        if (row->state != OUTBOX_QUEUED)
                return 0;
        r = outbox_store_failed(o->spec.db, id, "it was withdrawn", now_realtime_ms());
        if (r < 0)
                return r;
        watch_end(o, id);
        /* Should the caller not commit, it is found again. */
        if (o->row && o->row->id == id) {
                if (o->retry)
                        (void) sd_event_source_set_enabled(o->retry, SD_EVENT_OFF);
                row_done(o);
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
        (void) message_seal_free(o->seal);
        (void) server_call_free(o->call);
        (void) outbox_row_free(o->row);
        (void) sd_event_source_disable_unref(o->turn);
        (void) sd_event_source_disable_unref(o->tell);
        (void) sd_event_source_disable_unref(o->retry);
        return mfree(o);
}
