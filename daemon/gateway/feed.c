/* SPDX-License-Identifier: MIT */

#include <malloc.h>

#include "approvals.h"
#include "bus-call.h"
#include "bus-util.h"
#include "event-util.h"
#include "feed.h"
#include "gateway-handlers.h"
#include "json-util.h"
#include "log.h"
#include "sse.h"

#define KEEP_ALIVE_USEC (15 * USEC_PER_SEC)
/* One change of an agent is a signal or two, and an answer of puffod's. */
#define SETTLE_USEC (20 * USEC_PER_MSEC)
#define LOOKUPS_MAX 64U
#define TRIM_MIN 64U

/* What subscribers have been told of an agent. */
typedef struct ShownAgent {
        char *id, *text;
        uid_t owner;
        bool there;
} ShownAgent;

/* A request for permission whose particulars are asked for. */
typedef struct Lookup {
        Feed *feed;
        BusCall *call;
        char *id, *agent;
        LIST_ENTRY(Lookup) lookups;
} Lookup;

struct Feed {
        Gateway *gateway;
        LIST_HEAD(, Call) subscribers;
        size_t n, most;                 /* of them; since there were none */
        sd_event_source *tick, *settle; /* armed only while there are subscribers */
        bool settling;
        ShownAgent *shown;
        size_t n_shown;
        sd_bus_slot *match_requested, *match_answered;
        LIST_HEAD(, Lookup) lookups;
        unsigned n_lookups;
};

/* --- sending --- */

void feed_end(Call *c) {
        c->feed_ended = true;
        http_exchange_stream_end(c->exchange);
}

static void subscriber_write(Call *c, const char *text, size_t size) {
        int r;

        if (c->feed_ended)
                return;
        /* Who does not keep up gets what is on its way and then the end: it comes again and is told how things are. */
        if (c->feed_blocked) {
                feed_end(c);
                return;
        }
        r = http_exchange_stream_write(c->exchange, text, size);
        if (r < 0)
                http_exchange_abort(c->exchange);
        else
                c->feed_blocked = r == 0;
}

static int feed_send(Feed *f, const char *event, json_object *o, uid_t owner) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *text;
        size_t size;
        Call *c;
        int r;

        text = json_text(o, &size);
        r = text ? sse_format(&b, event, text, size) : -ENOMEM;
        if (r < 0)
                return r;
        LIST_FOREACH(c, &f->subscribers, subscribers)
                if (call_may_use_owned(c, owner))
                        subscriber_write(c, b.text, b.size);
        return 0;
}

static int feed_on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
        static const char comment[] = ": keep-alive\n\n";
        Feed *f = userdata;
        Call *c;

        LIST_FOREACH(c, &f->subscribers, subscribers)
                if (!c->feed_blocked)
                        subscriber_write(c, comment, strlen(comment));
        (void) event_arm_timer(f->gateway->event, &f->tick, KEEP_ALIVE_USEC, 0, feed_on_tick, f);
        return 0;
}

/* --- agents --- */

static void shown_agent_done(ShownAgent *s) {
        free(s->id);
        free(s->text);
}

static void feed_forget(Feed *f) {
        for (size_t i = 0; i < f->n_shown; i++)
                shown_agent_done(f->shown + i);
        f->shown = mfree(f->shown);
        f->n_shown = 0;
}

static ShownAgent* feed_find(Feed *f, const char *id) {
        for (size_t i = 0; i < f->n_shown; i++)
                if (streq(f->shown[i].id, id))
                        return f->shown + i;
        return NULL;
}

static int feed_show(Feed *f, const MirroredAgent *a, json_object *o) {
        ShownAgent *s = feed_find(f, a->id), *grown;
        int r;

        if (!s) {
                grown = reallocarray(f->shown, f->n_shown + 1, sizeof(*grown));
                if (!grown)
                        return -ENOMEM;
                f->shown = grown;
                s = f->shown + f->n_shown;
                *s = (ShownAgent) { .id = strdup(a->id) };
                if (!s->id)
                        return -ENOMEM;
                f->n_shown++;
        }
        s->there = true;
        s->owner = a->owner;
        r = free_and_strdup(&s->text, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
        if (r != 0)
                return MIN(r, 0);
        return 1;
}

static int feed_send_removed(Feed *f, const ShownAgent *s) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "agent", s->id) < 0 || json_put_bool(o, "removed", true) < 0)
                return -ENOMEM;
        return feed_send(f, "agent", o, s->owner);
}

/* Compares the list with what was told, and tells the difference. quiet: only notes it. */
static int feed_compare(Feed *f, bool quiet) {
        AgentMirror *m = f->gateway->agents;
        size_t kept = 0;
        int r;

        for (size_t i = 0; i < f->n_shown; i++)
                f->shown[i].there = false;
        for (size_t i = 0; i < agent_mirror_size(m); i++) {
                MirroredAgent *a = agent_mirror_get(m, i);
                _cleanup_json_ json_object *o = NULL;

                r = agent_object_new(a, &o);
                if (r >= 0)
                        r = feed_show(f, a, o);
                if (r > 0 && !quiet)
                        r = feed_send(f, "agent", o, a->owner);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < f->n_shown; i++) {
                if (f->shown[i].there) {
                        f->shown[kept++] = f->shown[i];
                        continue;
                }
                r = quiet ? 0 : feed_send_removed(f, f->shown + i);
                if (r < 0)
                        log_warning_errno(r, "Failed to tell that an agent has gone, ignoring: %m");
                shown_agent_done(f->shown + i);
        }
        f->n_shown = kept;
        return 0;
}

static int feed_on_settle(sd_event_source *s, uint64_t usec, void *userdata) {
        Feed *f = userdata;
        int r;

        f->settling = false;
        /* While puffod is away nothing is known to have changed. */
        if (LIST_EMPTY(&f->subscribers) || !agent_mirror_is_loaded(f->gateway->agents))
                return 0;
        r = feed_compare(f, false);
        if (r < 0)
                log_warning_errno(r, "Failed to tell of changes of agents: %m");
        return 0;
}

static void feed_on_changed(void *userdata) {
        Feed *f = userdata;

        if (!f->settling && !LIST_EMPTY(&f->subscribers))
                f->settling = event_arm_timer(f->gateway->event, &f->settle, SETTLE_USEC, 1, feed_on_settle, f) >= 0;
}

/* --- requests for permission --- */

static Lookup* lookup_free(Lookup *l) {
        LIST_REMOVE(l, lookups);
        l->feed->n_lookups--;
        bus_call_free(l->call);
        free(l->id);
        free(l->agent);
        return mfree(l);
}

static int feed_send_approval(Feed *f, const MirroredAgent *a, const char *id, const char *state) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "id", id) < 0 || json_put_string(o, "agent", a->id) < 0 ||
            json_put_string(o, "state", state) < 0)
                return -ENOMEM;
        return feed_send(f, "approval", o, a->owner);
}

static void lookup_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        _cleanup_json_ json_object *list = json_object_new_array();
        Lookup *l = userdata;
        MirroredAgent *a = agent_mirror_find(l->feed->gateway->agents, l->agent);
        int r = 0;

        if (error)
                log_warning("Failed to ask for request %s: %s", l->id, error->message ?: error->name);
        else
                r = list ? approvals_read(reply, l->id, list) : -ENOMEM;
        /* What is no longer open is told of by its own signal. */
        if (r >= 0 && a && list && json_object_array_length(list) > 0)
                r = feed_send(l->feed, "approval", json_object_array_get_idx(list, 0), a->owner);
        else if (r >= 0 && a && error)
                r = feed_send_approval(l->feed, a, l->id, "pending");
        if (r < 0)
                log_warning_errno(r, "Failed to tell of request %s: %m", l->id);
        lookup_free(l);
}

static int lookup_append(sd_bus_message *message, void *userdata) {
        Lookup *l = userdata;

        return approvals_append(message, l->agent);
}

static int feed_look_up(Feed *f, const MirroredAgent *a, const char *id) {
        Lookup *l;
        int r;

        if (f->n_lookups >= LOOKUPS_MAX)
                return -EBUSY;
        l = new0(Lookup, 1);
        if (!l)
                return -ENOMEM;
        l->feed = f;
        l->id = strdup(id);
        l->agent = strdup(a->id);
        LIST_INSERT_HEAD(&f->lookups, l, lookups);
        f->n_lookups++;
        r = !l->id || !l->agent ? -ENOMEM : bus_call_start(&l->call, f->gateway->event, f->gateway->bus,
                                                           &(BusCallSpec) {
                .path = PUFFO_BUS_PATH,
                .interface = PUFFO_BUS_MANAGER_INTERFACE,
                .member = "ListApprovals",
                .append = lookup_append,
                .done = lookup_done,
                .userdata = l,
        });
        if (r < 0)
                lookup_free(l);
        return r;
}

/* NULL: nobody wants to know, or not a word of puffod's. */
static MirroredAgent* feed_read_signal(Feed *f, sd_bus_message *m, const char **ret_id) {
        const char *path;

        if (LIST_EMPTY(&f->subscribers) || !agent_mirror_is_puffod(f->gateway->agents, m) ||
            sd_bus_message_read(m, "so", ret_id, &path) < 0)
                return NULL;
        return agent_mirror_find_path(f->gateway->agents, path);
}

static int feed_on_requested(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Feed *f = userdata;
        MirroredAgent *a;
        const char *id;
        int r;

        a = feed_read_signal(f, m, &id);
        if (!a)
                return 0;
        r = feed_look_up(f, a, id);
        if (r == -EBUSY)        /* too many at once: who wants to know more asks */
                r = feed_send_approval(f, a, id, "pending");
        if (r < 0)
                log_warning_errno(r, "Failed to tell of request %s: %m", id);
        return 0;
}

static int feed_on_answered(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *id, *state;
        Feed *f = userdata;
        MirroredAgent *a;

        a = feed_read_signal(f, m, &id);
        if (a && sd_bus_message_read(m, "s", &state) >= 0 && feed_send_approval(f, a, id, state) < 0)
                log_warning("Failed to tell of the answer to request %s.", id);
        return 0;
}

/* --- subscribers --- */

/* Begins the answer to c. < 0: nothing was sent. */
static int feed_subscribe(Feed *f, Call *c) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_json_ json_object *o = NULL;
        const char *text = NULL;
        size_t size;
        int r;

        r = agents_object_new(c, &o);
        if (r >= 0)
                text = json_text(o, &size);
        r = text ? sse_format(&b, "agents", text, size) : -ENOMEM;
        if (r >= 0 && LIST_EMPTY(&f->subscribers)) {
                feed_forget(f);
                r = feed_compare(f, true);
                if (r >= 0)
                        r = event_arm_timer(f->gateway->event, &f->tick, KEEP_ALIVE_USEC, 0, feed_on_tick, f);
        }
        if (r >= 0)
                r = http_exchange_stream_begin(c->exchange, 200, "text/event-stream; charset=utf-8");
        if (r < 0)
                return r;
        c->in_feed = true;
        LIST_INSERT_HEAD(&f->subscribers, c, subscribers);
        f->most = MAX(f->most, ++f->n);
        subscriber_write(c, b.text, b.size);
        return 0;
}

void feed_unsubscribe(Feed *f, Call *c) {
        LIST_REMOVE(c, subscribers);
        c->in_feed = false;
        f->n--;
        if (!LIST_EMPTY(&f->subscribers))
                return;
        f->tick = sd_event_source_disable_unref(f->tick);
        f->settle = sd_event_source_disable_unref(f->settle);
        f->settling = false;
        feed_forget(f);
        /* Connections are large, and freed out of order: without this what a thousand of them had stays with us. */
        if (f->most >= TRIM_MIN)
                (void) malloc_trim(0);
        f->n = f->most = 0;
}

void agents_events(Call *c) {
        int r;

        r = call_add_headers(c);
        if (r >= 0)
                r = http_exchange_add_header(c->exchange, "X-Accel-Buffering", "no");
        if (r >= 0)
                r = feed_subscribe(c->gateway->feed, c);
        if (r < 0)
                http_exchange_abort(c->exchange);
}

static int feed_on_match(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);

        if (error)
                log_error("Failed to listen to signals on the bus: %s", error->message ?: error->name);
        return 0;
}

int feed_new(Feed **ret, Gateway *g) {
        _cleanup_(feed_freep) Feed *f = new0(Feed, 1);
        int r;

        if (!f)
                return -ENOMEM;
        f->gateway = g;
        r = sd_bus_match_signal_async(g->bus, &f->match_requested, PUFFO_BUS_NAME, PUFFO_BUS_PATH,
                                      PUFFO_BUS_MANAGER_INTERFACE, "ApprovalRequested", feed_on_requested,
                                      feed_on_match, f);
        if (r >= 0)
                r = sd_bus_match_signal_async(g->bus, &f->match_answered, PUFFO_BUS_NAME, PUFFO_BUS_PATH,
                                              PUFFO_BUS_MANAGER_INTERFACE, "ApprovalAnswered", feed_on_answered,
                                              feed_on_match, f);
        if (r < 0)
                return r;
        agent_mirror_watch(g->agents, feed_on_changed, f);
        *ret = TAKE_PTR(f);
        return 0;
}

Feed* feed_free(Feed *f) {
        if (!f)
                return NULL;
        while (!LIST_EMPTY(&f->lookups))
                lookup_free(LIST_FIRST(&f->lookups));
        agent_mirror_watch(f->gateway->agents, NULL, NULL);
        sd_bus_slot_unref(f->match_requested);
        sd_bus_slot_unref(f->match_answered);
        sd_event_source_disable_unref(f->tick);
        sd_event_source_disable_unref(f->settle);
        feed_forget(f);
        return mfree(f);
}
