/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"
#include "server-client.h"

/* Names of people, spaces and channels, asked of the server when somebody needs them and kept for a while
 * (message-pipeline §§6.4, 6.5): a lookup never fails, it only leaves a name unknown. Bounded, least recently used
 * first out. */
typedef struct Directory Directory;

/* client and db are borrowed. */
int directory_new(Directory **ret, sd_event *event, ServerClient *client, Database *db);
/* Lookups that have not been called never will be, and are still to be freed. */
Directory* directory_free(Directory *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Directory*, directory_free);

typedef struct DirectoryPerson {
        const char *display_name, *username, *bio, *avatar_url; /* "" when not set */
        bool is_agent;                          /* known to be one (registry, or has an owner) */
} DirectoryPerson;

/* What is known now, be it old; NULL when nothing is. Borrowed until the loop runs or a function below is called. */
const DirectoryPerson* directory_person(Directory *d, const char *slug);
const char* directory_space_name(Directory *d, const char *space_id);
const char* directory_channel_name(Directory *d, const char *channel_id);

typedef struct DirectoryChannel {
        const char *space_id, *channel_id;
} DirectoryChannel;

/* Makes sure that what can be known of these is known: asks for what is not there or too old, many at a time, and
 * calls once, from the loop, when that is over or has failed. on_done may free the lookup and the directory, and look
 * up more. Slugs and ids that nobody can be asked for are left out. -ENOMEM. */
typedef struct DirectoryLookup DirectoryLookup;
typedef void (*directory_done_t)(DirectoryLookup *l, void *userdata);
int directory_look_up(Directory *d, const char *const *slugs, size_t n_slugs, const DirectoryChannel *channels,
                      size_t n_channels, directory_done_t on_done, void *userdata, DirectoryLookup **ret);
DirectoryLookup* directory_lookup_free(DirectoryLookup *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(DirectoryLookup*, directory_lookup_free);

/* What somebody else has just learnt from the server, so that nobody asks again. */
int directory_learn_channel(Directory *d, const char *space_id, const char *channel_id, const char *name);
/* Something about the space has changed ("space" events): its names are asked for again when needed. */
void directory_forget_space(Directory *d, const char *space_id);
