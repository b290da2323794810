/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* Invitations that the agent has seen (message-pipeline §13): what it does about them, so that neither a restart nor a
 * second poll does it twice. A row lives as long as the server lists its invitation. */

typedef enum InviteState {
        INVITE_ACCEPTING,               /* the operator's own: accepted without asking, until it has worked */
        INVITE_LEFT,                    /* there is no operator who could be asked */
        INVITE_ANNOUNCING,              /* the question to the operator is in the outbox */
        INVITE_ANNOUNCED,               /* and has been sent, as dm_envelope_id */
        INVITE_ANSWERED,                /* the operator has said what to do */
        INVITE_ACTING,                  /* and it is being done, perhaps it has been */
        INVITE_DONE,
        _INVITE_STATE_MAX,
        _INVITE_STATE_INVALID = -EINVAL,
} InviteState;

const char* invite_state_to_string(InviteState s);
InviteState invite_state_from_string(const char *s);

/* Strings are "" where there is nothing. */
typedef struct InviteRow {
        char *event_id, *space_id, *channel_id, *inviter_slug, *space_name, *channel_name, *dm_envelope_id;
        InviteState state;
        bool to_channel;
        bool accept;                    /* the operator's answer */
        int64_t updated_at;             /* ms */
} InviteRow;
InviteRow* invite_row_free(InviteRow *row);
DEFINE_TRIVIAL_CLEANUP_FUNC(InviteRow*, invite_row_free);
void invite_rows_free(InviteRow **rows, size_t n);

/* Makes the row, or replaces it. */
int invite_store_put(Database *db, const InviteRow *row, int64_t now_ms);
/* 1 = found. */
int invite_store_get(Database *db, const char *event_id, InviteRow **ret);
/* The one whose question to the operator is this message. 1 = found. */
int invite_store_find_question(Database *db, const char *dm_envelope_id, InviteRow **ret);
/* The oldest rows of a state, or of any (_INVITE_STATE_INVALID), at most limit (0: all). */
int invite_store_list(Database *db, InviteState state, unsigned limit, InviteRow ***ret, size_t *ret_n);

/* What has become of a row; one that is not there stays away. 0, or errors of the database. */
int invite_store_set_state(Database *db, const char *event_id, InviteState state, int64_t now_ms);
int invite_store_announced(Database *db, const char *event_id, const char *dm_envelope_id, int64_t now_ms);
int invite_store_answered(Database *db, const char *event_id, bool accept, int64_t now_ms);
int invite_store_remove(Database *db, const char *event_id);
/* Questions that were asked before are not waited for any more. How many. */
int invite_store_expire(Database *db, int64_t before_ms, int64_t now_ms);
