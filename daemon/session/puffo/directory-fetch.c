/* SPDX-License-Identifier: MIT */

#include "directory-internal.h"
#include "event-util.h"
#include "log.h"
#include "message-store.h"

#define PEOPLE_FETCHES_MAX 4U
#define EVENT_PAGES_MAX 64U
#define REPEATS_MAX 2U
/* Names that nobody has asked for but that came along. */
#define BYCATCH_MAX 512U
#define TEXT_MAX_SIZE 4096U
#define SHORT_TEXT_MAX_SIZE 512U
/* A server that does not know of members now will not in a minute. */
#define NO_ENDPOINT_USEC (3600 * USEC_PER_SEC)

static int fetch_start(Fetch *f);

Fetch* fetch_free(Fetch *f) {
        if (!f)
                return NULL;
        (void) server_call_free(f->call);
        for (size_t i = 0; i < f->n_entries; i++)
                f->entries[i]->fetch = NULL;
        if (f->kind == ENTRY_PERSON)
                f->directory->n_people_fetches--;
        LIST_REMOVE(f, fetches);
        free(f->cursor);
        return mfree(f);
}

static Fetch* fetch_new(Directory *d, EntryKind kind) {
        Fetch *f = new0(Fetch, 1);

        if (!f)
                return NULL;
        f->directory = d;
        f->kind = kind;
        if (kind == ENTRY_PERSON)
                d->n_people_fetches++;
        LIST_INSERT_HEAD(&d->fetches, f, fetches);
        return f;
}

static void fetch_add(Fetch *f, Entry *e) {
        assert(f->n_entries < PROFILES_MAX);
        f->entries[f->n_entries++] = e;
        e->fetch = f;
}

/* --- people --- */

/* Once the loop runs, so that whoever else wants somebody by then comes along. */
static void people_gather(Directory *d) {
        if (!TAILQ_EMPTY(&d->wanted) && d->n_people_fetches < PEOPLE_FETCHES_MAX)
                (void) sd_event_source_set_enabled(d->gather, SD_EVENT_ONESHOT);
}

static void people_take(Fetch *f, Directory *d) {
        const char *slugs[PROFILES_MAX];
        Entry *e;

        while ((e = TAILQ_FIRST(&d->wanted)) && f->n_entries < PROFILES_MAX) {
                slugs[f->n_entries] = e->key;
                if (f->n_entries > 0 && (e->alone || cert_slugs_fit(slugs, f->n_entries + 1) <= f->n_entries))
                        break;
                TAILQ_REMOVE(&d->wanted, e, wants);
                e->wanted = false;
                fetch_add(f, e);
                if (e->alone)
                        break;
        }
}

int directory_on_gather(sd_event_source *s, void *userdata) {
        Directory *d = userdata;
        bool failed = false;

        while (!TAILQ_EMPTY(&d->wanted) && d->n_people_fetches < PEOPLE_FETCHES_MAX) {
                Fetch *f = fetch_new(d, ENTRY_PERSON);
                Entry *e = TAILQ_FIRST(&d->wanted);

                if (!f) {
                        TAILQ_REMOVE(&d->wanted, e, wants);
                        e->wanted = false;
                        failed = true;
                        continue;
                }
                people_take(f, d);
                if (fetch_start(f) < 0) {
                        (void) fetch_free(f);
                        failed = true;
                }
        }
        if (failed)
                directory_go_on(d);
        return 0;
}

static int person_set(Entry *e, const Profile *p) {
        int r = entry_set_text(&e->name, p->display_name, SHORT_TEXT_MAX_SIZE);

        if (r >= 0)
                r = entry_set_text(&e->username, p->username, SHORT_TEXT_MAX_SIZE);
        if (r >= 0)
                r = entry_set_text(&e->bio, p->bio, TEXT_MAX_SIZE);
        if (r >= 0)
                r = entry_set_text(&e->avatar_url, p->avatar_url, TEXT_MAX_SIZE);
        if (r < 0)
                return r;
        e->has_owner = *p->owner_slug;
        e->known = true;
        e->alone = false;
        entry_keep(e, DIRECTORY_HIT_USEC);
        return 0;
}

static int read_people(Fetch *f, const CallReply *reply, char **reterr) {
        _cleanup_free_ Profile *profiles = NULL;
        size_t n;
        int r = api_read_profiles(reply, &profiles, &n, reterr);

        for (size_t i = 0; i < f->n_entries && r >= 0; i++) {
                Entry *e = f->entries[i];
                size_t k = 0;

                while (k < n && !streq(profiles[k].slug, e->key))
                        k++;
                if (k < n)
                        r = person_set(e, profiles + k);
                else
                        e->known = e->alone = false;    /* nobody of this name */
        }
        return r;
}

/* One slug that the server does not like must not leave the others without names. */
static bool people_split(Fetch *f, const CallReply *reply) {
        Directory *d = f->directory;

        if (f->kind != ENTRY_PERSON || f->n_entries < 2 || reply->failure != CALL_STATUS ||
            call_reply_is_transient(reply) || reply->status == 401 || reply->status == 403)
                return false;
        for (size_t i = 0; i < f->n_entries; i++) {
                Entry *e = f->entries[i];

                e->alone = e->wanted = true;
                TAILQ_INSERT_TAIL(&d->wanted, e, wants);
        }
        (void) fetch_free(f);
        people_gather(d);
        return true;
}

/* --- spaces, channels, members --- */

static int read_spaces(Fetch *f, const CallReply *reply, char **reterr) {
        _cleanup_free_ Space *spaces = NULL;
        size_t n, bycatch = 0;
        int r = api_read_spaces(reply, &spaces, &n, reterr);

        for (size_t i = 0; i < n && r >= 0; i++) {
                Entry *e = entry_find(f->directory, ENTRY_SPACE, spaces[i].space_id);

                if (!e && bycatch++ >= BYCATCH_MAX)
                        continue;
                e = e ?: entry_get(f->directory, ENTRY_SPACE, spaces[i].space_id);
                r = e ? entry_set_text(&e->name, spaces[i].name, SHORT_TEXT_MAX_SIZE) : -ENOMEM;
                if (r < 0)
                        break;
                e->known = true;
                entry_keep(e, DIRECTORY_HIT_USEC);
        }
        return r;
}

static int learn_channel(Fetch *f, const char *channel_id, const char *name, size_t *bycatch) {
        const char *space_id = f->entries[0]->key;
        Entry *e = entry_find(f->directory, ENTRY_CHANNEL, channel_id);
        int r;

        if (!e && (*bycatch)++ >= BYCATCH_MAX)
                return 0;
        e = e ?: entry_get(f->directory, ENTRY_CHANNEL, channel_id);
        r = e ? entry_set_channel(e, space_id, name) : -ENOMEM;
        if (r < 0 || e->stored)
                return r;
        r = message_store_learn_space(f->directory->db, channel_id, space_id, now_realtime_ms());
        e->stored = r >= 0;
        return r;
}

static int read_channels(Fetch *f, const CallReply *reply, char **reterr) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        _cleanup_free_ Channel *channels = NULL;
        size_t n, bycatch = 0;
        int r = api_read_channels(reply, &channels, &n, reterr);

        if (r >= 0)
                r = database_begin(f->directory->db, &t);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = learn_channel(f, channels[i].channel_id, channels[i].name, &bycatch);
        return r < 0 ? r : database_commit(&t);
}

/* Whether somebody waits for a channel of this space that the log has not told of yet. */
static bool channels_are_missing(Fetch *f) {
        DirectoryLookup *l;

        LIST_FOREACH(l, &f->directory->lookups, lookups)
                for (size_t i = 0; i < l->n_goals; i++)
                        if (l->goals[i].waits_for == f->entries[0] && !entry_is_fresh(l->goals[i].entry))
                                return true;
        return false;
}

/* > 0: there is more to ask for. */
static int read_events(Fetch *f, const CallReply *reply, char **reterr) {
        _cleanup_free_ const SignedValue **events = NULL;
        EventPage page = {};
        int r = api_read_event_page(reply, f->cursor, &page, reterr);

        events = page.events;
        for (size_t i = 0; i < page.n_events && r >= 0; i++) {
                const SignedValue *payload = signed_get(events[i], "payload");
                const char *id = signed_get_string(payload, "channel_id");

                /* Names that nobody waits for are better had from the list of channels. */
                if (streq(strempty(signed_get_string(events[i], "kind")), "create_channel") && !isempty(id) &&
                    entry_find(f->directory, ENTRY_CHANNEL, id))
                        r = learn_channel(f, id, strempty(signed_get_string(payload, "name")), &(size_t) { 0 });
        }
        if (r < 0 || !page.next_cursor || ++f->n_pages >= EVENT_PAGES_MAX || !channels_are_missing(f))
                return r;
        r = free_and_strdup(&f->cursor, page.next_cursor);
        return r < 0 ? r : 1;
}

static int read_members(Fetch *f, const CallReply *reply, char **reterr) {
        const SignedValue *list = signed_get(reply->json, "members");
        size_t n = 0;

        if (!list || list->type != SIGNED_ARRAY) {
                *reterr = strdup("The server's answer has no list of members");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        for (const SignedValue *m = list->child; m; m = m->next) {
                const char *slug = signed_get_string(m, "slug"), *type = signed_get_string(m, "identity_type");

                if (isempty(slug) || !streq(strempty(type), "agent"))
                        continue;
                if (!entry_find(f->directory, ENTRY_AGENT, slug) && n++ >= BYCATCH_MAX)
                        break;
                if (!entry_get(f->directory, ENTRY_AGENT, slug))
                        return -ENOMEM;
        }
        return 0;
}

static int start_members(ServerClient *c, const char *space_id, call_done_t on_done, void *userdata,
                         ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        int r = strbuf_puts(&path, "/spaces/");

        if (r >= 0)
                r = path_append(&path, space_id);
        if (r >= 0)
                r = strbuf_puts(&path, "/members");
        if (r < 0)
                return r;
        return server_call_start(c, &(CallSpec) { .path = path.text, .on_done = on_done, .userdata = userdata }, ret);
}

/* --- any --- */

static int fetch_read(Fetch *f, const CallReply *reply, char **reterr) {
        if (reply->failure != CALL_OK) {
                *reterr = strdup(strempty(reply->error));
                return -EIO;
        }
        switch (f->kind) {
        case ENTRY_PERSON:
                return read_people(f, reply, reterr);
        case ENTRY_SPACES:
                return read_spaces(f, reply, reterr);
        case ENTRY_CHANNELS:
                return read_channels(f, reply, reterr);
        case ENTRY_EVENTS:
                return read_events(f, reply, reterr);
        default:
                return read_members(f, reply, reterr);
        }
}

/* When to ask again. People that were told of are kept longer already. */
static void fetch_settle(Fetch *f, const CallReply *reply, int r) {
        for (size_t i = 0; i < f->n_entries; i++) {
                Entry *e = f->entries[i];
                bool never = f->kind == ENTRY_MEMBERS && reply->failure == CALL_STATUS &&
                             (reply->status == 404 || reply->status == 405);

                e->unreachable = reply->failure == CALL_NETWORK || call_reply_is_transient(reply);
                if (f->kind == ENTRY_MEMBERS && (r >= 0 || never))
                        entry_keep(e, never ? NO_ENDPOINT_USEC : DIRECTORY_HIT_USEC);
                else if (!entry_is_fresh(e))
                        entry_keep(e, DIRECTORY_MISS_USEC);
        }
}

/* > 0: what it has told of has changed since it was asked. */
static int fetch_again(Fetch *f) {
        if (!f->outdated || ++f->n_repeats > REPEATS_MAX)
                return 0;
        f->outdated = false;
        f->n_pages = 0;
        f->cursor = mfree(f->cursor);
        return 1;
}

static void fetch_on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        _cleanup_free_ char *error = NULL;
        Fetch *f = userdata;
        Directory *d = f->directory;
        int r;

        f->call = NULL;
        if (people_split(f, reply)) {
                (void) server_call_free(call);
                return;
        }

        r = fetch_read(f, reply, &error);
        if (r == 0)
                r = fetch_again(f);
        if (r > 0 && fetch_start(f) >= 0) {
                (void) server_call_free(call);
                return;
        }
        if (r < 0 && (reply->failure != CALL_OK || r == -EBADMSG))
                log_debug("Failed to look up names: %s", strempty(error));
        else if (r < 0)
                (void) log_warning_errno(r, "Failed to keep names, ignoring: %m");
        fetch_settle(f, reply, r);
        (void) server_call_free(call);
        (void) fetch_free(f);
        people_gather(d);
        directory_go_on(d);
}

static int fetch_start(Fetch *f) {
        ServerClient *c = f->directory->client;
        const char *slugs[PROFILES_MAX], *key = f->entries[0]->key;

        switch (f->kind) {
        case ENTRY_PERSON:
                for (size_t i = 0; i < f->n_entries; i++)
                        slugs[i] = f->entries[i]->key;
                return api_profiles(c, slugs, f->n_entries, fetch_on_reply, f, &f->call);
        case ENTRY_SPACES:
                return api_spaces(c, fetch_on_reply, f, &f->call);
        case ENTRY_CHANNELS:
                return api_channels(c, key, fetch_on_reply, f, &f->call);
        case ENTRY_EVENTS:
                return api_space_events(c, key, f->cursor, fetch_on_reply, f, &f->call);
        default:
                return start_members(c, key, fetch_on_reply, f, &f->call);
        }
}

void entry_ask(Directory *d, Entry *e) {
        Fetch *f;

        if (e->kind == ENTRY_PERSON) {
                e->wanted = true;
                TAILQ_INSERT_TAIL(&d->wanted, e, wants);
                people_gather(d);
                return;
        }
        f = fetch_new(d, e->kind);
        if (!f)
                return;
        fetch_add(f, e);
        if (fetch_start(f) < 0)
                (void) fetch_free(f);
}
