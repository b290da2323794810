/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-config.h"
#include "directory.h"
#include "envelope.h"
#include "message-store.h"

/* What a verified message becomes (message-pipeline §§5, 6.1, 6.2): stored always, queued when it is to wake the
 * model. All of it is one transaction, on disk after the next database_flush(). */

typedef struct IntakePolicy {
        const char *own_slug;
        bool on_dm, on_mention, on_all;         /* triggers (P-3) */
} IntakePolicy;

typedef struct IntakeHooks {
        /* Whether the message is an answer to something that we have asked (§13.4): it is not for the model then.
         * Called within the transaction. May be NULL. */
        int (*consume)(const Message *m, void *userdata);
        void *userdata;
} IntakeHooks;

typedef enum IntakeResult {
        INTAKE_QUEUED,
        INTAKE_STORED,                          /* not for the model */
        INTAKE_KNOWN,                           /* it came before */
} IntakeResult;

/* directory may be NULL. < 0: nothing was stored, the message may come again. */
int intake_message(Database *db, Directory *directory, const Message *m, const IntakePolicy *policy,
                   const IntakeHooks *hooks, int64_t now_ms);
