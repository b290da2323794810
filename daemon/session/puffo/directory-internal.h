/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "directory.h"
#include "server-api.h"

/* Shared by directory.c (what is known, and who waits for it) and directory-fetch.c (how it is asked for). */

#define DIRECTORY_ENTRIES_MAX 2048U
#define DIRECTORY_HIT_USEC (600 * USEC_PER_SEC)
#define DIRECTORY_MISS_USEC (60 * USEC_PER_SEC)

typedef enum EntryKind {
        ENTRY_PERSON,
        ENTRY_AGENT,            /* a slug that a space lists as an agent */
        ENTRY_SPACE,
        ENTRY_CHANNEL,
        /* Things that are asked for, each of which tells many names. The key of all but the first is a space. */
        ENTRY_SPACES,
        ENTRY_CHANNELS,
        ENTRY_EVENTS,
        ENTRY_MEMBERS,
} EntryKind;

typedef struct Entry Entry;
typedef struct Fetch Fetch;
typedef struct Goal Goal;

TAILQ_HEAD(EntryQueue, Entry);
LIST_HEAD(EntryBucket, Entry);
LIST_HEAD(FetchList, Fetch);
LIST_HEAD(LookupList, DirectoryLookup);

struct Entry {
        EntryKind kind;
        bool known;             /* the server has told something once */
        bool wanted;            /* among directory.wanted */
        bool alone;             /* the server refused it together with others */
        bool stored;            /* the channel's space is in the database */
        bool unreachable;       /* the last try ended in something that may pass */
        unsigned n_pins;        /* goals that point here */
        uint64_t fresh_until;   /* boottime, usec: not asked for before */
        char *key, *space_id;   /* of a channel */
        char *name, *username, *bio, *avatar_url;
        DirectoryPerson person;
        bool has_owner;
        Fetch *fetch;           /* is being asked for */
        TAILQ_ENTRY(Entry) uses, wants;
        LIST_ENTRY(Entry) bucket;
};

struct Fetch {
        Directory *directory;
        EntryKind kind;
        bool outdated;          /* something has changed since it was started */
        Entry *entries[PROFILES_MAX];
        size_t n_entries;       /* more than one for people only */
        char *cursor;           /* of events */
        unsigned n_pages, n_repeats;
        ServerCall *call;
        LIST_ENTRY(Fetch) fetches;
};

struct Goal {
        Entry *entry;           /* pinned */
        Entry *waits_for;       /* pinned */
        unsigned stage;
        bool done;
};

struct DirectoryLookup {
        Directory *directory;   /* NULL once it was called */
        Goal *goals;
        size_t n_goals;
        sd_event_source *defer; /* when all is done */
        directory_done_t on_done;
        void *userdata;
        LIST_ENTRY(DirectoryLookup) lookups;
};

struct Directory {
        sd_event *event;
        ServerClient *client;
        Database *db;
        struct EntryBucket buckets[512];
        struct EntryQueue uses;         /* the least recently used first */
        size_t n_entries;
        struct EntryQueue wanted;       /* people to be asked for together */
        sd_event_source *gather;
        struct FetchList fetches;
        unsigned n_people_fetches;
        struct LookupList lookups;
};

/* NULL when it is not known. Borrowed, until another one is made. */
Entry* entry_find(Directory *d, EntryKind kind, const char *key);
/* The one there is, or a new one, for which the least recently used one goes. NULL when out of memory. */
Entry* entry_get(Directory *d, EntryKind kind, const char *key);
bool entry_is_fresh(const Entry *e);
void entry_keep(Entry *e, uint64_t for_usec);
/* Trimmed, and no longer than max bytes. */
int entry_set_text(char **field, const char *text, size_t max);
int entry_set_channel(Entry *e, const char *space_id, const char *name);

/* Asks for a list, or for the person with others. When it cannot be asked for it counts as failed. */
void entry_ask(Directory *d, Entry *e);
Fetch* fetch_free(Fetch *f);
int directory_on_gather(sd_event_source *s, void *userdata);
/* Something was answered, or never will be: whoever waited for it goes on. */
void directory_go_on(Directory *d);
