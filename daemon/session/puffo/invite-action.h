/* SPDX-License-Identifier: MIT */
#pragma once

#include "server-api.h"

/* Accepts or rejects one invitation at the server (message-pipeline §13.3), with the subkey that this takes. */
typedef struct InviteAction InviteAction;

typedef struct InviteOutcome {
        bool done;
        bool transient;                 /* worth another try */
        bool gone;                      /* answered or withdrawn before; perhaps by us */
        const char *problem;            /* for people: nothing of it is the server's own words */
        const char *detail;             /* for the journal, may be NULL */
} InviteOutcome;

/* Called once, from the loop, never inside of invite_action_new(). May free the action. */
typedef void (*invite_acted_t)(InviteAction *a, const InviteOutcome *outcome, void *userdata);

/* What invite says is copied. */
int invite_action_new(InviteAction **ret, ServerClient *client, const Invite *invite, InviteAnswer answer,
                      invite_acted_t on_acted, void *userdata);
InviteAction* invite_action_free(InviteAction *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(InviteAction*, invite_action_free);
