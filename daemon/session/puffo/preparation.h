/* SPDX-License-Identifier: MIT */
#pragma once

#include "directory.h"
#include "dispatch-store.h"

/* From the queued messages of a thread to the text that the model gets (message-pipeline §§6, 9.2, 9.3): names are
 * asked for, attachments fetched, blocks written. What cannot be had is left out and said so; nothing keeps a message
 * from the model. */
typedef struct Preparation Preparation;

/* More of one thread are not shown at once (§15), nor more text than a model can be expected to read: the rest is the
 * thread's next turn. Nothing is left out. */
#define BATCH_MAX 50U
#define BATCH_TEXT_MAX KIB(128)

typedef struct PreparationSpec {
        sd_event *event;
        Database *db;
        ServerClient *client;
        Directory *directory;
        const char *workspace;          /* where attachments go */
        const char *own_slug;
} PreparationSpec;

typedef struct PreparedBatch {
        const char *root_id, *conversation;
        const char *text;
        int64_t last_seq;               /* of dispatch_state: up to here it is in the text */
        const char *first_envelope;
        size_t n;
} PreparedBatch;

/* Called once, from the loop; may free the preparation. batch NULL: error says why; there is none when nothing of the
 * thread is queued any more (-ENOENT). */
typedef void (*prepared_t)(Preparation *p, int error, const PreparedBatch *batch, void *userdata);

/* What spec names is borrowed. */
int preparation_new(Preparation **ret, const PreparationSpec *spec, const char *root_id,
                    const char *conversation, prepared_t on_prepared, void *userdata);
Preparation* preparation_free(Preparation *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(Preparation*, preparation_free);
