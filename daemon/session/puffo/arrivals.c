/* SPDX-License-Identifier: MIT */

#include "arrivals.h"
#include "log.h"
#include "station.h"
#include "string-util.h"

typedef struct Arrival {
        char *envelope, *thread, *sender;
        bool queued;
} Arrival;

struct Arrivals {
        Arrival *items;
        size_t n, allocated;
};

int arrivals_new(Arrivals **ret) {
        *ret = new0(Arrivals, 1);
        return *ret ? 0 : -ENOMEM;
}

static void arrival_done(Arrival *i) {
        free(i->envelope);
        free(i->thread);
        free(i->sender);
}

void arrivals_clear(Arrivals *a) {
        for (size_t i = 0; i < a->n; i++)
                arrival_done(a->items + i);
        a->items = mfree(a->items);
        a->n = a->allocated = 0;
}

Arrivals* arrivals_free(Arrivals *a) {
        if (!a)
                return NULL;
        arrivals_clear(a);
        return mfree(a);
}

int arrivals_add(Arrivals *a, const Message *m, bool queued) {
        Arrival item = {
                .envelope = strdup(m->envelope_id),
                .thread = strdup(isempty(m->thread_root_id) ? m->envelope_id : m->thread_root_id),
                .sender = strdup(m->sender_slug),
                .queued = queued,
        };
        Arrival *grown = a->items;
        size_t allocated = a->allocated;

        if (a->n == allocated) {
                allocated = allocated * 2 + 4;
                grown = reallocarray(a->items, allocated, sizeof(Arrival));
        }
        if (grown) {
                a->items = grown;
                a->allocated = allocated;
        }
        if (!grown || !item.envelope || !item.thread || !item.sender) {
                arrival_done(&item);
                return -ENOMEM;
        }
        a->items[a->n++] = item;
        return 0;
}

static const char* station_of(bool queued) {
        return queued ? "queued" : "filtered";
}

static void log_one(const Arrival *i) {
        Station at = { station_of(i->queued), i->envelope, i->thread, NULL };
        _cleanup_free_ char *sender = str_printable(i->sender, 64);

        station_log(LOG_INFO, 0, &at, "Received a message from '%s'%s.", strempty(sender),
                    i->queued ? "" : ", which is not for the model");
}

static bool is_listed(const char *const *list, size_t n, const char *s) {
        for (size_t i = 0; i < n; i++)
                if (streq(list[i], s))
                        return true;
        return false;
}

/* As many as fit into a line, from *at on. */
static void log_many(const Arrivals *a, bool queued, size_t *at) {
        const char *envelopes[STATION_ENVELOPES_MAX], *threads[STATION_ENVELOPES_MAX];
        size_t n = 0, n_threads = 0;

        for (; *at < a->n && n < STATION_ENVELOPES_MAX; (*at)++) {
                const Arrival *i = a->items + *at;

                if (i->queued != queued)
                        continue;
                envelopes[n++] = i->envelope;
                if (!is_listed(threads, n_threads, i->thread))
                        threads[n_threads++] = i->thread;
        }
        if (n > 0)
                station_log_many(LOG_INFO,
                                 &(StationOfMany) { station_of(queued), NULL, envelopes, threads, n, n_threads },
                                 "Received %zu message%s in %zu thread%s, %s for the model.", n, n == 1 ? "" : "s",
                                 n_threads, n_threads == 1 ? "" : "s", queued ? "all" : "none");
}

void arrivals_log(Arrivals *a) {
        if (a->n == 1)
                log_one(a->items);
        else
                for (int queued = 1; queued >= 0; queued--)
                        for (size_t at = 0; at < a->n; )
                                log_many(a, queued, &at);
        arrivals_clear(a);
}
