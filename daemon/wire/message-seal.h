/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "server-client.h"

/* Makes the envelope of a message: finds out who is to read it, their devices and keys, and seals it for those
 * (wire-protocol §§9.2–9.4). What comes out is for api_post_message(), now or after a crash. */
typedef struct MessageSeal MessageSeal;

typedef struct SealedMessage {
        int error;                      /* 0, or < 0: see below */
        const char *text;               /* why, one line; NULL when there is no error */
        bool transient;                 /* worth another try later */
        const char *envelope_id;
        const char *envelope;           /* the body of POST /messages */
        size_t envelope_size;
        size_t n_devices;
} SealedMessage;

typedef struct MessageSealSpec {
        ServerClient *client;           /* it and the cache outlive the MessageSeal */
        CertCache *cache;
        EnvelopeKind kind;
        const char *space_id, *channel_id;      /* of a channel */
        const char *recipient_slug;             /* of a dm */
        const char *thread_root_id, *reply_to_id;       /* NULL: none */
        const char *content_type;               /* NULL: text/plain */
        const char *content;                    /* JSON text, e.g. a string */
        int64_t sent_at;                        /* ms */
        /* Instead of the last three: this envelope once more (envelope_seal_again()), for those of these devices that
         * its readers have, whose keys are fetched anew. NULL: a new one. */
        const char *again;
        const char *const *devices;
        size_t n_devices;
        /* Called once, from the loop; may free m. -ENODEV: nobody could read it. -EPERM: somebody's certificates are
         * refused. -E2BIG: there are too many to write to. -EIO: the server does not answer. -EINVAL, -ENOMEM. */
        void (*on_sealed)(MessageSeal *m, const SealedMessage *sealed, void *userdata);
        void *userdata;
} MessageSealSpec;

/* Everything is copied. -EINVAL for content that is no JSON, or a route that lacks parts. */
int message_seal_new(MessageSeal **ret, const MessageSealSpec *spec);
MessageSeal* message_seal_free(MessageSeal *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(MessageSeal*, message_seal_free);
