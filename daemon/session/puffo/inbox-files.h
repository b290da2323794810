/* SPDX-License-Identifier: MIT */
#pragma once

#include "server-client.h"

/* The files that came with a message, fetched into <workspace>/.puffo/inbox/<envelope id>/ (message-pipeline §6.3).
 * Names, ids and sizes are the sender's word and none of them is believed; the workspace is the agent's, so that
 * nothing in it is believed either. Fetching them again gives the same names. */
typedef struct InboxFiles InboxFiles;

#define INBOX_MESSAGE_SIZE_MAX MIB(32)

typedef struct InboxFile {
        char *path;             /* absolute; NULL when it was not saved */
        char *name;             /* in the inbox, or for people */
        char *problem;          /* one line, when it was not */
} InboxFile;

/* Called once, from the loop, never inside of inbox_files_fetch(). The list is borrowed from f, which may be freed
 * here. */
typedef void (*inbox_files_done_t)(InboxFiles *f, const InboxFile *files, size_t n_files, void *userdata);

/* content: of a message of type "puffo/message+attachments/v1", as messages.content has it; one without attachments,
 * or that is no object, has no files. workspace NULL or "": there is none, nothing is saved. -ENOMEM. */
int inbox_files_fetch(InboxFiles **ret, sd_event *event, ServerClient *client, const char *workspace,
                      const char *content, const char *envelope_id, inbox_files_done_t on_done, void *userdata);
InboxFiles* inbox_files_free(InboxFiles *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(InboxFiles*, inbox_files_free);

/* What a sender's file name becomes. NULL when out of memory. */
char* inbox_file_name(const char *filename, const char *blob_id);
