/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* One message of the chat service as the model gets to see it (message-pipeline §9.2): lines of what is known about
 * it, then the text as it is. Names and ids are of others' choice and are made to fit their line: nobody forges one.
 */

typedef enum MentionKind {
        MENTION_SELF,
        MENTION_AGENT,
        MENTION_HUMAN,
        _MENTION_KIND_MAX,
} MentionKind;

typedef struct MessageMention {
        const char *slug;
        MentionKind kind;
} MessageMention;

typedef struct MessageAttachment {
        const char *path;               /* where it was saved; NULL: it was not */
        const char *name, *problem;     /* then: what, and why not */
} MessageAttachment;

typedef struct MessageBlock {
        const char *space_name, *space_id, *channel_name, *channel_id;  /* "" or NULL: none */
        const char *envelope_id, *root_id;
        int64_t sent_at;                /* ms; 0: unknown */
        const char *sender_name, *sender_slug;
        bool sender_is_bot;
        bool encrypted;
        const MessageMention *mentions;
        size_t n_mentions;
        const MessageAttachment *attachments;
        size_t n_attachments;
        const char *text;
} MessageBlock;

/* Appends the block without a newline at its end. -ENOMEM. */
int message_block_format(const MessageBlock *m, StrBuf *ret);
