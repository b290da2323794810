/* SPDX-License-Identifier: MIT */
#pragma once

#include "crypto.h"
#include "nonce-memory.h"
#include "signed-json.h"

/* Who may ask the local bridge for something (local-bridge §§5, 7.2). Nothing here reads a clock or a file, and no
 * route but /v1/info and POST /v1/pair is known. */

typedef struct BridgeRequest {
        const char *method;
        const char *target;             /* of the request line, as it stands there */
        /* Value of a header by its name in lower case, NULL when absent. */
        const char* (*header)(void *userdata, const char *name);
        void *userdata;
        const void *body;               /* not looked at by bridge_request_admit() */
        size_t body_size;
        int64_t now_ms;                 /* when its head was there */
} BridgeRequest;

/* What a valid pairing.json says; texts are borrowed. NULL: is there, but is no text, and equals nothing. */
typedef struct BridgePairing {
        const char *slug, *device_id, *root_public_key, *device_signing_public_key;
} BridgePairing;

/* The file's content. 1 = paired, 0 = it does not count. */
int bridge_pairing_read(const SignedValue *file, BridgePairing *ret);

typedef enum BridgeAccess {
        BRIDGE_PUBLIC,          /* open to everybody: nothing more to ask */
        BRIDGE_PAIR,            /* go on with bridge_request_pair() */
        BRIDGE_SIGNED,          /* go on with bridge_request_verify() */
        _BRIDGE_ACCESS_MAX,
} BridgeAccess;

typedef struct BridgeRefusal {
        unsigned status;
        char *error;            /* for {"error": …}; may quote what the client sent */
} BridgeRefusal;

void bridge_refusal_done(BridgeRefusal *refusal);

/* What the request line and the headers decide, before any of the body is read. paired: NULL when nobody is. -EACCES
 * with *reterr, -ENOMEM. */
int bridge_request_admit(const BridgeRequest *q, const BridgePairing *paired, NonceMemory *nonces, BridgeAccess *ret,
                         BridgeRefusal *reterr);

/* All that a signed request needs, what bridge_request_admit() looked at included: of two equal ones whose bodies come
 * in at the same time only one gets through. Its nonce is used up. -EACCES with *reterr, -ENOMEM. */
int bridge_request_verify(const BridgeRequest *q, const BridgePairing *paired, NonceMemory *nonces,
                          BridgeRefusal *reterr);

/* A pair request that is good: what becomes of pairing.json. */
typedef struct BridgeOffer {
        SignedDocument *document;
        const char *slug, *device_id;
        uint8_t root[KEY_SIZE], device_signing[KEY_SIZE];
        const SignedValue *identity_cert, *device_cert;
} BridgeOffer;

void bridge_offer_done(BridgeOffer *o);
/* Its nonce is used up. -EACCES with *reterr, -ENOMEM. */
int bridge_request_pair(const BridgeRequest *q, NonceMemory *nonces, BridgeOffer *ret, BridgeRefusal *reterr);
/* The members of the new pairing.json, in d. */
int bridge_offer_to_pairing(const BridgeOffer *o, int64_t paired_at_ms, SignedDocument *d, SignedValue **ret);
