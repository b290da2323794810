/* SPDX-License-Identifier: MIT */
#pragma once

#include "channel-finder.h"
#include "invite-action.h"
#include "invite-store.h"
#include "invites.h"

/* Shared by invites.c (what the server lists) and invites-answer.c (what the operator says). */

#define INVITE_LIFE_MS ((int64_t) 7 * 24 * 3600 * 1000)

struct Invites {
        InvitesSpec spec;
        char *operator_slug;
        uint8_t operator_root[KEY_SIZE];
        bool has_operator_root, connected, poll_has_failed;

        /* The poll, one at a time, and the invitations of it one after the other. */
        sd_event_source *timer;
        uint64_t last_poll_usec;
        bool cycling, poked;
        ServerCall *poll;
        SignedDocument *document;       /* what the list points into */
        Invite *list;
        size_t n_list, current;
        bool asked_again;               /* for the certificates of the current one */
        bool again;                     /* it was tried before */
        CertLookup *inviter;
        DirectoryLookup *names;
        InviteAction *action;

        /* The operator's answers, one after the other. */
        sd_event_source *answers, *retry;
        InviteRow *answer;
        InviteAction *answer_action;
        unsigned attempt;
        bool in_doubt;                  /* an earlier attempt may have worked */

        ChannelFinder *finder;
};

/* Logs, and says that the database is damaged when it is. */
void invites_failed(Invites *i, int error, const char *what);
/* In the transaction that says so: the invitation was accepted. */
int invites_remember_joined(Invites *i, bool to_channel, const char *space_id, const char *channel_id);
/* … and behind it. */
void invites_joined(Invites *i, const char *space_id, const char *channel_id, const char *channel_name);
/* It may have been. */
void invites_look_whether_joined(Invites *i, const InviteRow *row);
/* Writes what has become of a question that is in the outbox into its row. */
int invites_settle_question(Invites *i, InviteRow *row);
/* A DM to the operator, within the caller's transaction. */
int invites_say(Invites *i, const char *key, const char *thread_root_id, const char *text);
/* "**Carol**(@carol-77aa) invited me to channel **ops**(ch_1) in space **Lab**(sp_1)", without the verb. */
char* invites_inviter_label(Invites *i, const char *slug);
char* invites_target_label(bool to_channel, const char *space_id, const char *space_name, const char *channel_id,
                           const char *channel_name);

/* Takes up an answer that waits, if none is being dealt with. */
void invites_answers_go(Invites *i);
int invites_on_answers(sd_event_source *s, void *userdata);
void invites_answers_stop(Invites *i);
