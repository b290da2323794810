/* SPDX-License-Identifier: MIT */

#include <ctype.h>

#include "directory-internal.h"
#include "event-util.h"
#include "message-store.h"

#define NAME_MAX_SIZE 512U

/* --- what is known --- */

static struct EntryBucket* bucket_of(Directory *d, EntryKind kind, const char *key) {
        uint64_t hash = 14695981039346656037U ^ (uint64_t) kind;        /* FNV-1a */

        for (const char *p = key; *p; p++)
                hash = (hash ^ (unsigned char) *p) * 1099511628211U;
        return d->buckets + (hash ^ hash >> 32) % ELEMENTSOF(d->buckets);
}

Entry* entry_find(Directory *d, EntryKind kind, const char *key) {
        Entry *e;

        LIST_FOREACH(e, bucket_of(d, kind, key), bucket)
                if (e->kind == kind && streq(e->key, key))
                        return e;
        return NULL;
}

static void entry_free(Directory *d, Entry *e) {
        TAILQ_REMOVE(&d->uses, e, uses);
        LIST_REMOVE(e, bucket);
        if (e->wanted)
                TAILQ_REMOVE(&d->wanted, e, wants);
        d->n_entries--;
        free(e->key);
        free(e->space_id);
        free(e->name);
        free(e->username);
        free(e->bio);
        free(e->avatar_url);
        free(e);
}

static bool entry_is_busy(const Entry *e) {
        return e->fetch || e->wanted;
}

static void make_room(Directory *d) {
        Entry *e, *next;

        for (e = TAILQ_FIRST(&d->uses); e && d->n_entries >= DIRECTORY_ENTRIES_MAX; e = next) {
                next = TAILQ_NEXT(e, uses);
                if (e->n_pins == 0 && !entry_is_busy(e))
                        entry_free(d, e);
        }
}

Entry* entry_get(Directory *d, EntryKind kind, const char *key) {
        Entry *e = entry_find(d, kind, key);

        if (e) {
                TAILQ_REMOVE(&d->uses, e, uses);
                TAILQ_INSERT_TAIL(&d->uses, e, uses);
                return e;
        }

        make_room(d);
        e = new0(Entry, 1);
        if (!e)
                return NULL;
        e->kind = kind;
        e->key = strdup(key);
        if (!e->key)
                return mfree(e);
        TAILQ_INSERT_TAIL(&d->uses, e, uses);
        LIST_INSERT_HEAD(bucket_of(d, kind, key), e, bucket);
        d->n_entries++;
        return e;
}

bool entry_is_fresh(const Entry *e) {
        return now_boottime_usec() < e->fresh_until;
}

void entry_keep(Entry *e, uint64_t for_usec) {
        e->fresh_until = now_boottime_usec() + for_usec;
}

int entry_set_text(char **field, const char *text, size_t max) {
        _cleanup_free_ char *copy = NULL;
        size_t n;

        while (isspace((unsigned char) *text))
                text++;
        n = strlen(text);
        if (n > max)
                n = utf8_complete_prefix(text, max);
        while (n > 0 && isspace((unsigned char) text[n - 1]))
                n--;
        copy = memdup0(text, n);
        if (!copy)
                return -ENOMEM;
        free(*field);
        *field = TAKE_PTR(copy);
        return 0;
}

int entry_set_channel(Entry *e, const char *space_id, const char *name) {
        int r = entry_set_text(&e->name, name, NAME_MAX_SIZE);

        if (r >= 0)
                r = free_and_strdup(&e->space_id, space_id);
        if (r < 0)
                return r;
        e->known = true;
        entry_keep(e, DIRECTORY_HIT_USEC);
        return 0;
}

const DirectoryPerson* directory_person(Directory *d, const char *slug) {
        Entry *e = entry_find(d, ENTRY_PERSON, slug);

        if (!e || !e->known)
                return NULL;
        e->person = (DirectoryPerson) {
                .display_name = strempty(e->name),
                .username = strempty(e->username),
                .bio = strempty(e->bio),
                .avatar_url = strempty(e->avatar_url),
                .is_agent = e->has_owner || entry_find(d, ENTRY_AGENT, slug),
        };
        return &e->person;
}

static const char* name_of(Directory *d, EntryKind kind, const char *key) {
        Entry *e = entry_find(d, kind, key);

        return e && e->known && !isempty(e->name) ? e->name : NULL;
}

const char* directory_space_name(Directory *d, const char *space_id) {
        return name_of(d, ENTRY_SPACE, space_id);
}

const char* directory_channel_name(Directory *d, const char *channel_id) {
        return name_of(d, ENTRY_CHANNEL, channel_id);
}

int directory_learn_channel(Directory *d, const char *space_id, const char *channel_id, const char *name) {
        Entry *e;
        int r;

        if (isempty(space_id) || isempty(channel_id))
                return -EINVAL;
        r = message_store_learn_space(d->db, channel_id, space_id, now_realtime_ms());
        if (r < 0 || isempty(name))
                return r;
        e = entry_get(d, ENTRY_CHANNEL, channel_id);
        if (!e)
                return -ENOMEM;
        e->stored = true;
        return entry_set_channel(e, space_id, name);
}

void directory_forget_space(Directory *d, const char *space_id) {
        Entry *e;
        Fetch *f;

        TAILQ_FOREACH(e, &d->uses, uses) {
                bool is_of_it = e->kind == ENTRY_CHANNEL ? streq_ptr(e->space_id, space_id)
                                                         : e->kind >= ENTRY_SPACE && streq(e->key, space_id);

                if (is_of_it || e->kind == ENTRY_SPACES)
                        e->fresh_until = 0;
        }
        LIST_FOREACH(f, &d->fetches, fetches)
                if (f->kind == ENTRY_SPACES || (f->kind != ENTRY_PERSON && streq(f->entries[0]->key, space_id)))
                        f->outdated = true;
}

/* --- who waits for it --- */

static void pin(Entry **field, Entry *e) {
        if (*field)
                (*field)->n_pins--;
        *field = e;
        if (e)
                e->n_pins++;
}

static void lookup_unlink(DirectoryLookup *l) {
        if (!l->directory)
                return;
        for (size_t i = 0; i < l->n_goals; i++) {
                pin(&l->goals[i].entry, NULL);
                pin(&l->goals[i].waits_for, NULL);
        }
        LIST_REMOVE(l, lookups);
        l->directory = NULL;
        l->defer = sd_event_source_disable_unref(l->defer);
}

DirectoryLookup* directory_lookup_free(DirectoryLookup *l) {
        if (!l)
                return NULL;
        lookup_unlink(l);
        free(l->goals);
        return mfree(l);
}

/* Asks for a list that may tell of the entry. > 0: wait for it. 0: it has been asked for just now, and did not. */
static int goal_ask(Directory *d, Goal *g, EntryKind kind, const char *key) {
        Entry *list = entry_get(d, kind, key);

        if (!list)
                return -ENOMEM;
        if (!entry_is_busy(list) && entry_is_fresh(list))
                return 0;
        if (!entry_is_busy(list))
                entry_ask(d, list);
        if (!entry_is_busy(list))
                return 0;
        pin(&g->waits_for, list);
        return 1;
}

static int channel_goal_ask(Directory *d, Goal *g) {
        const char *space_id = g->entry->space_id;
        Entry *list;
        int r;

        if (g->stage == 0) {
                r = goal_ask(d, g, ENTRY_CHANNELS, space_id);
                if (r != 0)
                        return r;
                g->stage = 1;
        }
        if (g->stage > 1)
                return 0;
        list = entry_find(d, ENTRY_CHANNELS, space_id);
        /* A server that is away has no events either. */
        if (list && list->unreachable)
                return 0;
        return goal_ask(d, g, ENTRY_EVENTS, space_id);
}

static void goal_advance(Directory *d, Goal *g) {
        Entry *e = g->entry;
        int r = 0;

        if (g->done || (g->waits_for && entry_is_busy(g->waits_for)))
                return;
        if (g->waits_for) {
                pin(&g->waits_for, NULL);
                g->stage++;
        }

        if (!entry_is_fresh(e)) {
                if (e->kind == ENTRY_CHANNEL)
                        r = channel_goal_ask(d, g);
                else if (g->stage == 0)
                        r = goal_ask(d, g, e->kind == ENTRY_SPACE ? ENTRY_SPACES : e->kind,
                                     e->kind == ENTRY_SPACE ? "" : e->key);
        }
        if (r > 0)
                return;
        if (!entry_is_fresh(e))
                entry_keep(e, DIRECTORY_MISS_USEC);
        g->done = true;
}

static int lookup_on_defer(sd_event_source *s, void *userdata) {
        DirectoryLookup *l = userdata;

        lookup_unlink(l);
        l->on_done(l, l->userdata);
        return 0;
}

static void lookup_advance(DirectoryLookup *l) {
        bool done = true;

        for (size_t i = 0; i < l->n_goals; i++) {
                goal_advance(l->directory, l->goals + i);
                done = done && l->goals[i].done;
        }
        /* The source is there already: nothing can fail here. */
        if (done)
                (void) sd_event_source_set_enabled(l->defer, SD_EVENT_ONESHOT);
}

void directory_go_on(Directory *d) {
        DirectoryLookup *l;

        LIST_FOREACH(l, &d->lookups, lookups)
                lookup_advance(l);
}

static int lookup_add_goal(DirectoryLookup *l, EntryKind kind, const char *key, const char *space_id) {
        Entry *e = entry_get(l->directory, kind, key);
        int r;

        if (!e)
                return -ENOMEM;
        if (space_id && !streq_ptr(e->space_id, space_id)) {
                /* It is said to be elsewhere now. */
                r = free_and_strdup(&e->space_id, space_id);
                if (r < 0)
                        return r;
                e->fresh_until = 0;
                e->stored = false;
        }
        for (size_t i = 0; i < l->n_goals; i++)
                if (l->goals[i].entry == e)
                        return 0;
        pin(&l->goals[l->n_goals++].entry, e);
        return 0;
}

static int lookup_add_goals(DirectoryLookup *l, const char *const *slugs, size_t n_slugs,
                            const DirectoryChannel *channels, size_t n_channels) {
        int r = 0;

        for (size_t i = 0; i < n_slugs && r >= 0; i++)
                if (cert_slug_is_valid(slugs[i]))
                        r = lookup_add_goal(l, ENTRY_PERSON, slugs[i], NULL);
        for (size_t i = 0; i < n_channels && r >= 0; i++) {
                const DirectoryChannel *c = channels + i;

                if (isempty(c->space_id))
                        continue;
                r = lookup_add_goal(l, ENTRY_SPACE, c->space_id, NULL);
                if (r >= 0 && n_slugs > 0)
                        r = lookup_add_goal(l, ENTRY_MEMBERS, c->space_id, NULL);
                if (r >= 0 && !isempty(c->channel_id))
                        r = lookup_add_goal(l, ENTRY_CHANNEL, c->channel_id, c->space_id);
        }
        return r;
}

int directory_look_up(Directory *d, const char *const *slugs, size_t n_slugs, const DirectoryChannel *channels,
                      size_t n_channels, directory_done_t on_done, void *userdata, DirectoryLookup **ret) {
        _cleanup_(directory_lookup_freep) DirectoryLookup *l = new0(DirectoryLookup, 1);
        int r;

        assert(d && on_done && ret);
        if (!l)
                return -ENOMEM;
        l->goals = new0(Goal, n_slugs + 3 * n_channels);
        if (!l->goals)
                return -ENOMEM;
        l->directory = d;
        l->on_done = on_done;
        l->userdata = userdata;
        LIST_INSERT_HEAD(&d->lookups, l, lookups);

        r = sd_event_add_defer(d->event, &l->defer, lookup_on_defer, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->defer, SD_EVENT_OFF);
        if (r >= 0)
                r = lookup_add_goals(l, slugs, n_slugs, channels, n_channels);
        if (r < 0)
                return r;
        lookup_advance(l);
        *ret = TAKE_PTR(l);
        return 0;
}

int directory_new(Directory **ret, sd_event *event, ServerClient *client, Database *db) {
        _cleanup_(directory_freep) Directory *d = new0(Directory, 1);
        int r;

        assert(ret && event && client && db);
        if (!d)
                return -ENOMEM;
        d->event = event;
        d->client = client;
        d->db = db;
        TAILQ_INIT(&d->uses);
        TAILQ_INIT(&d->wanted);
        r = sd_event_add_defer(event, &d->gather, directory_on_gather, d);
        if (r >= 0)
                r = sd_event_source_set_enabled(d->gather, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

Directory* directory_free(Directory *d) {
        if (!d)
                return NULL;
        while (!LIST_EMPTY(&d->lookups))
                lookup_unlink(LIST_FIRST(&d->lookups));
        while (!LIST_EMPTY(&d->fetches))
                (void) fetch_free(LIST_FIRST(&d->fetches));
        while (!TAILQ_EMPTY(&d->uses))
                entry_free(d, TAILQ_FIRST(&d->uses));
        sd_event_source_disable_unref(d->gather);
        return mfree(d);
}
