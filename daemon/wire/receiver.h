/* SPDX-License-Identifier: MIT */
#pragma once

#include "cert-cache.h"
#include "key-store.h"

/* From an envelope as it came to a message that can be believed (wire-protocol §§10.1–10.4, 17.4): opens it, finds the
 * sender's keys, verifies it, and once more with keys fetched anew. One envelope at a time. */
typedef struct Receiver Receiver;

typedef enum ReceiptKind {
        RECEIPT_MESSAGE,
        RECEIPT_REFUSED,                /* never to be of use; the journal has the envelope's id and the reason */
        RECEIPT_LATER,                  /* the sender's keys cannot be had just now */
} ReceiptKind;

typedef struct Receipt {
        ReceiptKind kind;
        const Message *message;         /* of RECEIPT_MESSAGE */
        const char *reason;             /* of the others: a name of §10.1, or a line */
} Receipt;

/* Called once for each receiver_take(), perhaps from inside of it; may take the next one, but not free the receiver.
 * The receipt is borrowed for the call. */
typedef void (*received_t)(Receiver *r, const Receipt *receipt, void *userdata);

/* identity and cache outlive the receiver. -ENOMEM. */
int receiver_new(Receiver **ret, const Identity *identity, CertCache *cache, received_t on_received, void *userdata);
Receiver* receiver_free(Receiver *r);
DEFINE_TRIVIAL_CLEANUP_FUNC(Receiver*, receiver_free);

/* e is borrowed until on_received; there must be none under way. */
void receiver_take(Receiver *r, Envelope *e);
