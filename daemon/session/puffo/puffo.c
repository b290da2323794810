/* SPDX-License-Identifier: MIT */

#include "account.h"
#include "arrivals.h"
#include "batches.h"
#include "crash-point.h"
#include "event-util.h"
#include "intake.h"
#include "introduction.h"
#include "invites.h"
#include "json-util.h"
#include "log.h"
#include "puffo.h"
#include "receiver.h"
#include "record.h"
#include "server-certs.h"
#include "status-reporter.h"
#include "stream.h"

/* So long a leave may take until the stream is closed, and from there to its end. */
#define FAREWELL_USEC (8 * USEC_PER_SEC)
#define CLOSE_USEC (4 * USEC_PER_SEC)

struct Puffo {
        PuffoSpec spec;
        char *server_url, *slug, *device_id, *ca_file;          /* what it was made for */
        char *home_space, *operator_slug, *status_text;
        bool on_dm, on_mention, on_all;

        HttpClient *http;
        Identity *identity;
        ServerClient *client;
        CertCache *certs;
        Receiver *receiver;
        Directory *directory;
        Outbox *outbox;
        Batches *batches;
        StatusReporter *status;
        Invites *invites;
        Introduction *introduction;
        Stream *stream;
        Envelope *envelope;             /* with the receiver */
        Arrivals *arrivals;             /* since the last commit */
        bool queued;                    /* … one that is for the model */
        bool leaving, closing, left;
        sd_event_source *farewell;
};

Outbox* puffo_outbox(Puffo *p) {
        return p->outbox;
}

Directory* puffo_directory(Puffo *p) {
        return p->directory;
}

ServerClient* puffo_client(Puffo *p) {
        return p->client;
}

Database* puffo_database(Puffo *p) {
        return p->spec.db;
}

Batches* puffo_batches(Puffo *p) {
        return p->batches;
}

const char* puffo_home_space(const Puffo *p) {
        return p->home_space;
}

const char* puffo_status_text(const Puffo *p) {
        return strempty(p->status_text);
}

static bool puffo_is_connected(const Puffo *p) {
        return stream_state(p->stream) == STREAM_CONNECTED;
}

/* ---- what comes in ---- */

static void broken(int error, void *userdata) {
        Puffo *p = userdata;

        p->spec.on_broken(error, p->spec.userdata);
}

/* The operator's word on an invitation or a tool call wakes nobody. */
static int consume(const Message *m, void *userdata) {
        Puffo *p = userdata;
        int r;

        if (m->kind != ENVELOPE_DM || m->content->type != SIGNED_STRING)
                return 0;
        r = invites_consume_answer(p->invites, m->sender_slug, m->thread_root_id, m->content->text);
        if (r != 0 || !p->spec.approvals || !invites_is_operator(p->invites, m->sender_slug))
                return r;
        return approvals_consume_answer(p->spec.approvals, m->envelope_id, m->thread_root_id, m->content->text);
}

/* The agent is deaf while its database takes nothing; its people see that it is there and hear nothing of it. */
static void not_stored(Puffo *p, int error) {
        _cleanup_free_ char *text = asprintf_new("StorageError: messages cannot be stored: %s", strerror(-error));

        status_reporter_crashed(p->status, strempty(text));
        if (error == -EUCLEAN)
                broken(error, p);
}

static Delivery take(Puffo *p, const Message *m) {
        int r = intake_message(p->spec.db, p->directory, m, &(IntakePolicy) {
                .own_slug = p->slug, .on_dm = p->on_dm, .on_mention = p->on_mention, .on_all = p->on_all,
        }, &(IntakeHooks) { .consume = consume, .userdata = p }, now_realtime_ms());

        if (r < 0) {
                (void) log_error_errno(r, "A message could not be stored, it will come again: %m");
                not_stored(p, r);
                return DELIVERY_LATER;
        }
        p->queued = p->queued || r == INTAKE_QUEUED;
        if (r != INTAKE_KNOWN && !streq(m->sender_slug, p->slug) &&
            arrivals_add(p->arrivals, m, r == INTAKE_QUEUED) < 0)
                (void) log_oom();
        return DELIVERY_TAKEN;
}

static void on_received(Receiver *r, const Receipt *receipt, void *userdata) {
        Puffo *p = userdata;
        Delivery verdict = receipt->kind == RECEIPT_MESSAGE ? take(p, receipt->message) :
                           receipt->kind == RECEIPT_LATER   ? DELIVERY_LATER :
                                                              DELIVERY_TAKEN;

        p->envelope = NULL;
        stream_delivered(p->stream, verdict);
}

static void on_envelope(Stream *s, Envelope *e, void *userdata) {
        Puffo *p = userdata;

        p->envelope = e;
        receiver_take(p->receiver, e);
}

static int on_commit(Stream *s, void *userdata) {
        Puffo *p = userdata;
        int r;

        crash_point("intake-commit");
        r = database_flush(p->spec.db);
        if (r < 0) {
                arrivals_clear(p->arrivals);
                not_stored(p, r);
                return r;
        }
        crash_point("intake-committed");
        arrivals_log(p->arrivals);
        status_reporter_recovered(p->status);
        if (p->queued)
                batches_poke(p->batches);
        p->queued = false;
        return 0;
}

static void on_cert_update(Stream *s, const char *slug, void *userdata) {
        Puffo *p = userdata;

        cert_cache_invalidate(p->certs, slug);
}

static void on_event(Stream *s, const char *space_id, const SignedValue *event, void *userdata) {
        Puffo *p = userdata;

        invites_on_event(p->invites, event);
        (void) introduction_on_event(p->introduction, p->slug, event);
        directory_forget_space(p->directory, space_id);
}

static void have_left(Puffo *p) {
        if (p->left)
                return;
        p->left = true;
        p->farewell = sd_event_source_disable_unref(p->farewell);
        if (p->spec.on_left)
                p->spec.on_left(p->spec.userdata);
}

static void on_state(Stream *s, StreamState state, const char *reason, void *userdata) {
        Puffo *p = userdata;
        _cleanup_free_ char *text = NULL;

        text = state == STREAM_CONNECTED ? strjoin("connected to ", server_client_url(p->client)) :
               isempty(reason)           ? strjoin("connecting to ", server_client_url(p->client)) :
                                           strjoin("not connected to ", server_client_url(p->client), ": ", reason);
        free(p->status_text);
        p->status_text = TAKE_PTR(text);
        status_reporter_set_connected(p->status, state == STREAM_CONNECTED);
        invites_set_connected(p->invites, state == STREAM_CONNECTED);
        p->spec.on_changed(p->spec.userdata);
        if (state == STREAM_STOPPED)
                have_left(p);
}

/* ---- channels that the agent has come into ---- */

static int on_joined(const char *space_id, const char *channel_id, void *userdata) {
        Puffo *p = userdata;
        int r = introduction_prompt(p->introduction, space_id, channel_id);

        if (r < 0)
                (void) log_warning_errno(r, "The agent is not asked to introduce itself in '%s' now: %m", channel_id);
        return r;
}

static int on_introduce(const IntroductionRequest *q, void *userdata) {
        _cleanup_free_ char *record = NULL, *conversation = strjoin("channel/", q->channel_id);
        Puffo *p = userdata;
        int r;

        if (!conversation)
                return -ENOMEM;
        r = synthetic_record_format(&(SyntheticRecord) {
                q->channel_id, q->channel_name, q->space_id, q->space_name, q->text,
        }, &record);
        if (r >= 0)
                r = dispatch_store_add(p->spec.db, &(DispatchEntry) {
                        .envelope_id = q->envelope_id, .root_id = q->envelope_id,
                        .conversation = conversation, .record = record,
                        .priority = DISPATCH_SYSTEM, .sent_at = q->now_ms, .now = q->now_ms,
                });
        if (r >= 0)
                batches_poke(p->batches);
        return r;
}

/* ---- what is told of turns ---- */

static void on_begun(const char *turn, const DispatchRow *rows, size_t n, void *userdata) {
        Puffo *p = userdata;

        if (n > 0)
                status_reporter_begin(p->status, rows[0].envelope_id);
}

static void on_ended(const char *turn, const DispatchRow *rows, size_t n, const char *error, void *userdata) {
        _cleanup_free_ StatusRun *runs = new0(StatusRun, n);
        Puffo *p = userdata;

        if (!runs) {
                (void) log_oom();
                return;
        }
        for (size_t i = 0; i < n; i++)
                runs[i] = (StatusRun) { rows[i].envelope_id, error };
        status_reporter_end(p->status, runs, n);
}

/* ---- life ---- */

static bool is_online(void *userdata) {
        Puffo *p = userdata;

        return p->stream && puffo_is_connected(p);
}

static void leave_go_on(Puffo *p);

/* The outbox, or the reporter. */
static void on_settled(void *userdata) {
        leave_go_on(userdata);
}

static int make_parts(Puffo *p, const SessionConfig *config) {
        int r;

        r = cert_cache_new(&p->certs, &(CertCacheSpec) {
                .event = p->spec.event, .source = server_cert_source(p->client),
                .pins = message_store_pins(p->spec.db),
        });
        if (r >= 0)
                r = receiver_new(&p->receiver, p->identity, p->certs, on_received, p);
        if (r >= 0)
                r = directory_new(&p->directory, p->spec.event, p->client, p->spec.db);
        if (r >= 0)
                r = outbox_new(&p->outbox, &(OutboxSpec) {
                        .event = p->spec.event, .db = p->spec.db, .client = p->client, .certs = p->certs,
                        .is_online = is_online, .on_broken = broken, .on_settled = on_settled, .userdata = p,
                });
        if (r >= 0)
                r = batches_new(&p->batches, &(BatchesSpec) {
                        .event = p->spec.event, .db = p->spec.db, .queue = p->spec.queue, .outbox = p->outbox,
                        .preparation = {
                                .event = p->spec.event, .db = p->spec.db, .client = p->client,
                                .directory = p->directory, .workspace = config->home->workspace, .own_slug = p->slug,
                        },
                        .on_begun = on_begun, .on_ended = on_ended, .userdata = p,
                });
        if (r >= 0)
                r = status_reporter_new(&p->status, p->spec.event, p->client);
        if (r >= 0)
                status_reporter_set_settled_handler(p->status, on_settled, p);
        if (r >= 0)
                r = invites_new(&p->invites, &(InvitesSpec) {
                        .event = p->spec.event, .db = p->spec.db, .client = p->client, .certs = p->certs,
                        .directory = p->directory, .outbox = p->outbox, .on_joined = on_joined, .on_broken = broken,
                        .userdata = p,
                });
        if (r >= 0)
                r = introduction_new(&p->introduction, &(IntroductionSpec) {
                        .event = p->spec.event, .db = p->spec.db, .directory = p->directory,
                        .on_introduce = on_introduce, .on_broken = broken, .userdata = p,
                });
        if (r >= 0)
                r = puffo_configure(p, config);
        if (r >= 0)
                r = outbox_start(p->outbox);
        if (r >= 0)
                r = stream_new(&p->stream, p->client, p->spec.event, &(StreamHandlers) {
                        .on_envelope = on_envelope, .commit = on_commit, .on_event = on_event,
                        .on_cert_update = on_cert_update, .on_state = on_state, .userdata = p,
                }, NULL);
        return r;
}

int puffo_new(Puffo **ret, const PuffoSpec *spec, char **reterr) {
        _cleanup_(puffo_freep) Puffo *p = new0(Puffo, 1);
        const AgentConfig *a = spec->config->agent;
        int r;

        if (!p)
                return -ENOMEM;
        p->spec = *spec;
        p->spec.config = NULL;
        p->server_url = strdup(strempty(a->server_url));
        p->slug = strdup(strempty(a->slug));
        p->device_id = strdup(strempty(a->device_id));
        p->ca_file = strdup(strempty(spec->config->ca_file));
        if (!p->server_url || !p->slug || !p->device_id || !p->ca_file)
                return -ENOMEM;

        r = crypto_init();
        if (r >= 0)
                r = arrivals_new(&p->arrivals);
        if (r >= 0)
                r = http_client_new(&p->http, spec->event);
        if (r >= 0)
                r = account_open(spec->event, p->http, spec->config, &p->identity, &p->client, reterr);
        if (r >= 0)
                r = make_parts(p, spec->config);
        if (r < 0)
                return r;
        introduction_start(p->introduction);
        batches_start(p->batches);

        *ret = TAKE_PTR(p);
        return 0;
}

Puffo* puffo_free(Puffo *p) {
        if (!p)
                return NULL;
        (void) sd_event_source_disable_unref(p->farewell);
        p->stream = stream_free(p->stream);
        p->batches = batches_free(p->batches);
        p->introduction = introduction_free(p->introduction);
        p->invites = invites_free(p->invites);
        if (p->spec.approvals)
                (void) approvals_set_operator(p->spec.approvals, NULL, NULL);
        p->status = status_reporter_free(p->status);
        p->outbox = outbox_free(p->outbox);
        p->directory = directory_free(p->directory);
        p->receiver = receiver_free(p->receiver);
        p->certs = cert_cache_free(p->certs);
        p->client = server_client_free(p->client);
        p->identity = identity_free(p->identity);
        p->http = http_client_free(p->http);
        p->arrivals = arrivals_free(p->arrivals);
        free(p->server_url);
        free(p->slug);
        free(p->device_id);
        free(p->ca_file);
        free(p->home_space);
        free(p->operator_slug);
        free(p->status_text);
        return mfree(p);
}

bool puffo_is_for(const Puffo *p, const SessionConfig *config) {
        const AgentConfig *a = config->agent;

        return a && streq(p->server_url, strempty(a->server_url)) && streq(p->slug, strempty(a->slug)) &&
               streq(p->device_id, strempty(a->device_id)) && streq(p->ca_file, strempty(config->ca_file));
}

int puffo_configure(Puffo *p, const SessionConfig *config) {
        const AgentConfig *a = config->agent;
        CertPolicy policy = cert_policy_from_string(strempty(config->verify_certs));
        int r;

        p->on_dm = a->on_dm;
        p->on_mention = a->on_mention;
        p->on_all = a->on_all;
        cert_cache_set_policy(p->certs, policy < 0 ? CERT_POLICY_WARN : policy);
        r = free_and_strdup(&p->home_space, strempty(a->space_id));
        if (r >= 0)
                r = free_and_strdup(&p->operator_slug, strempty(a->operator_slug));
        if (r >= 0)
                r = invites_set_operator(p->invites, p->operator_slug);
        if (r >= 0)
                r = batches_configure(p->batches, p->operator_slug, config->dispatch_jitter_usec);
        if (r >= 0 && p->spec.approvals)
                r = approvals_set_operator(p->spec.approvals, p->outbox, p->operator_slug);
        return MIN(r, 0);
}

int puffo_tell_operator(Puffo *p, const char *key, const char *text) {
        _cleanup_json_ json_object *content = NULL;
        const char *json;

        if (isempty(p->operator_slug))
                return 0;
        content = json_object_new_string(text);
        json = content ? json_text(content, NULL) : NULL;
        if (!json)
                return -ENOMEM;
        return MIN(outbox_add(p->outbox, &(OutgoingMessage) {
                .key = key, .channel_id = "", .space_id = "", .recipient_slug = p->operator_slug,
                .thread_root_id = "", .content = json,
        }, NULL), 0);
}

/* ---- leaving ---- */

static int on_farewell_over(sd_event_source *s, uint64_t usec, void *userdata);

static void arm_farewell(Puffo *p, uint64_t usec) {
        int r = event_arm_timer(p->spec.event, &p->farewell, usec, USEC_PER_MSEC, on_farewell_over, p);

        if (r < 0) {
                (void) log_warning_errno(r, "Failed to arm a timer, leaving at once: %m");
                have_left(p);
        }
}

static void close_stream(Puffo *p) {
        p->closing = true;
        arm_farewell(p, CLOSE_USEC);
        if (!p->left)
                stream_stop(p->stream);
}

static int on_farewell_over(sd_event_source *s, uint64_t usec, void *userdata) {
        Puffo *p = userdata;

        if (p->closing) {
                have_left(p);
                return 0;
        }
        log_notice("Not all that was to be said could be sent in time, it goes out with the next start.");
        close_stream(p);
        return 0;
}

static void leave_go_on(Puffo *p) {
        if (p->leaving && !p->closing && outbox_is_settled(p->outbox) && status_reporter_is_settled(p->status))
                close_stream(p);
}

void puffo_stop(Puffo *p) {
        if (p->leaving)
                return;
        p->leaving = true;
        arm_farewell(p, FAREWELL_USEC);
        leave_go_on(p);
}
