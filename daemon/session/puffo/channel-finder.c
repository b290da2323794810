/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "channel-finder.h"
#include "conversation.h"
#include "event-util.h"
#include "log.h"
#include "server-api.h"
#include "string-util.h"

#define SEARCHES_MAX 16U
#define CHANNELS_MAX 1024U

/* session_values: "find-channel/<space>\n<channel>", for what is looked for. Ids are the server's: one that has a line
 * feed in it is looked for in vain. */
#define WANTED "find-channel/"

/* Before each attempt. */
static const unsigned delays_ms[] = { 500, 1000, 3000, 6000, 12000, 24000, 24000 };

typedef struct Search {
        ChannelFinder *finder;
        char *space_id, *channel_id;
        unsigned attempt;
        sd_event_source *timer;
        ServerCall *call;
        LIST_ENTRY(Search) searches;
} Search;

struct ChannelFinder {
        sd_event *event;
        ServerClient *client;
        Directory *directory;
        Database *db;
        channel_found_t on_found;
        void *userdata;
        LIST_HEAD(, Search) searches;
        unsigned n_searches;
};

static Search* search_free(Search *s) {
        if (!s)
                return NULL;
        LIST_REMOVE(s, searches);
        s->finder->n_searches--;
        sd_event_source_disable_unref(s->timer);
        (void) server_call_free(s->call);
        free(s->space_id);
        free(s->channel_id);
        return mfree(s);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Search*, search_free);

static bool is_looked_for(const Search *s, const SignedValue *channel, const char *id) {
        const SignedValue *is_public = signed_get(channel, "is_public");

        return s->channel_id ? streq(id, s->channel_id) : is_public && is_public->type == SIGNED_TRUE;
}

static int learn_channels(Search *s, const SignedValue *first) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        unsigned n = 0;
        int r = database_begin(s->finder->db, &t);

        /* One entry that makes no sense takes nothing away from the others. */
        for (const SignedValue *c = first; c && n < CHANNELS_MAX && r >= 0; c = c->next) {
                const char *id = signed_get_string(c, "channel_id"), *name = strempty(signed_get_string(c, "name"));

                if (isempty(id))
                        continue;
                n++;
                r = directory_learn_channel(s->finder->directory, s->space_id, id, name);
        }
        return r < 0 ? r : database_commit(&t);
}

static void search_ended(Search *s) {
        int r = channel_finder_forget(s->finder, s->space_id, s->channel_id);

        if (r < 0)
                (void) log_warning_errno(r, "The search for a channel of '%s' will be made again: %m", s->space_id);
}

static void search_read(Search *s, const SignedValue *answer) {
        const SignedValue *list = signed_get(answer, "channels");
        const SignedValue *first = list && list->type == SIGNED_ARRAY ? list->child : NULL;
        const char *found = NULL;
        int r = learn_channels(s, first);

        if (r < 0)
                (void) log_warning_errno(r, "Failed to remember the channels of '%s', ignoring: %m", s->space_id);
        for (const SignedValue *c = first; c && !found; c = c->next) {
                const char *id = signed_get_string(c, "channel_id");

                if (!isempty(id) && is_looked_for(s, c, id))
                        found = id;
        }
        if (!found)
                log_info("There is no channel in space '%s' to introduce oneself in.", s->space_id);
        if (!found || s->finder->on_found(s->space_id, found, s->finder->userdata) >= 0)
                search_ended(s);
}

static int search_wait(Search *s);

static void search_on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        _cleanup_(search_freep) Search *s = userdata;
        bool not_ready = reply->status / 100 == 2 && (!reply->json || reply->json->type != SIGNED_OBJECT);
        int r;

        if (reply->failure == CALL_OK && !not_ready) {
                search_read(s, reply->json);
                return;
        }
        if (!not_ready) {
                log_warning("Failed to look for the channels of space '%s': %s", s->space_id, strempty(reply->error));
                search_ended(s);
                return;
        }
        if (s->attempt >= ELEMENTSOF(delays_ms)) {
                log_warning("The server does not show the channels of space '%s'.", s->space_id);
                search_ended(s);
                return;
        }
        s->call = server_call_free(s->call);
        r = search_wait(s);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to look for the channels of space '%s': %m", s->space_id);
        else
                TAKE_PTR(s);
}

static int search_on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        Search *s = userdata;
        int r = api_channels(s->finder->client, s->space_id, search_on_reply, s, &s->call);

        if (r < 0) {
                (void) log_warning_errno(r, "Failed to look for the channels of space '%s': %m", s->space_id);
                (void) search_free(s);
        }
        return 0;
}

static int search_wait(Search *s) {
        return event_arm_timer(s->finder->event, &s->timer, delays_ms[s->attempt++] * USEC_PER_MSEC, 0,
                               search_on_timer, s);
}

static int want(ChannelFinder *f, const char *space_id, const char *channel_id, const char *value) {
        _cleanup_free_ char *name = strjoin(WANTED, space_id, "\n", strempty(channel_id));

        return name ? session_value_set(f->db, name, value) : -ENOMEM;
}

int channel_finder_want(ChannelFinder *f, const char *space_id, const char *channel_id) {
        return want(f, space_id, channel_id, "1");
}

int channel_finder_forget(ChannelFinder *f, const char *space_id, const char *channel_id) {
        return want(f, space_id, channel_id, NULL);
}

int channel_finder_start(ChannelFinder *f) {
        _cleanup_(strv_freep) char **l = NULL;
        int r = session_value_list(f->db, WANTED, SEARCHES_MAX, &l);

        for (char **c = l; c && *c && r >= 0; c += 2) {
                char *channel_id = strchr(*c, '\n');

                if (!channel_id)
                        continue;
                *channel_id++ = '\0';
                r = channel_finder_find(f, *c, isempty(channel_id) ? NULL : channel_id);
        }
        return r;
}

int channel_finder_find(ChannelFinder *f, const char *space_id, const char *channel_id) {
        _cleanup_(search_freep) Search *s = NULL;
        Search *other;
        int r;

        LIST_FOREACH(other, &f->searches, searches)
                if (streq(other->space_id, space_id) && streq_ptr(other->channel_id, channel_id))
                        return 0;
        r = channel_finder_want(f, space_id, channel_id);
        if (r < 0)
                return r;
        if (f->n_searches >= SEARCHES_MAX)
                return -EAGAIN;

        s = new0(Search, 1);
        if (!s)
                return -ENOMEM;
        s->finder = f;
        LIST_INSERT_HEAD(&f->searches, s, searches);
        f->n_searches++;
        r = free_and_strdup(&s->space_id, space_id);
        if (r >= 0)
                r = free_and_strdup(&s->channel_id, channel_id);
        if (r >= 0)
                r = search_wait(s);
        if (r < 0)
                return r;
        TAKE_PTR(s);
        return 0;
}

int channel_finder_new(ChannelFinder **ret, sd_event *event, ServerClient *client, Directory *directory,
                       Database *db, channel_found_t on_found, void *userdata) {
        ChannelFinder *f = new0(ChannelFinder, 1);

        if (!f)
                return -ENOMEM;
        *f = (ChannelFinder) { .event = event, .client = client, .directory = directory, .db = db,
                               .on_found = on_found, .userdata = userdata };
        LIST_INIT(&f->searches);
        *ret = f;
        return 0;
}

ChannelFinder* channel_finder_free(ChannelFinder *f) {
        if (!f)
                return NULL;
        while (!LIST_EMPTY(&f->searches))
                (void) search_free(LIST_FIRST(&f->searches));
        return mfree(f);
}
