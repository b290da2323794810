/* SPDX-License-Identifier: MIT */
#pragma once

#include "directory.h"

/* Looks for the channel that the agent has just become a member of with a space (message-pipeline §13.5), whose list a
 * server may be slow to show. Searches run beside each other and beside everything else, and end by themselves. */
typedef struct ChannelFinder ChannelFinder;

/* Called once for each channel that was found, from the loop; must not free the finder. < 0: the search is made again
 * when the finder is started the next time. */
typedef int (*channel_found_t)(const char *space_id, const char *channel_id, void *userdata);

/* client, directory and its db are borrowed. */
int channel_finder_new(ChannelFinder **ret, sd_event *event, ServerClient *client, Directory *directory,
                       Database *db, channel_found_t on_found, void *userdata);
ChannelFinder* channel_finder_free(ChannelFinder *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(ChannelFinder*, channel_finder_free);

/* channel_id NULL: the first public one of the space; else that one, when it is there. What is looked for already is
 * not looked for twice. Outlives this process. -EAGAIN when too many searches are under way: later then; -ENOMEM. */
int channel_finder_find(ChannelFinder *f, const char *space_id, const char *channel_id);

/* Says in the caller's transaction that this is to be found, so that a crash behind it does not lose it, or that it is
 * not any more. */
int channel_finder_want(ChannelFinder *f, const char *space_id, const char *channel_id);
int channel_finder_forget(ChannelFinder *f, const char *space_id, const char *channel_id);
/* Takes up what is wanted and not being looked for: an earlier process has left it. */
int channel_finder_start(ChannelFinder *f);
