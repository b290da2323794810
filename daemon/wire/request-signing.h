/* SPDX-License-Identifier: MIT */
#pragma once

#include "crypto.h"
#include "signed-json.h"

/* Signatures over HTTP requests, the stream's first frame, and events (wire-protocol §§13, 14.1, 14.2, 15). */

#define TIMESTAMP_SKEW_MS ((int64_t) 5 * 60 * 1000)
#define NONCE_TEXT_SIZE 23U     /* 16 bytes as base64url, with NUL */

/* A fresh nonce, from the kernel's randomness. */
void nonce_random(char ret[NONCE_TEXT_SIZE]);

typedef struct SignedRequest {
        const char *method;             /* any case; signed in upper case */
        const char *path;               /* with the query, exactly as sent */
        const char *timestamp, *nonce;
        const void *body;
        size_t body_size;
} SignedRequest;

/* The bytes that are signed. */
int signed_request_format(const SignedRequest *q, StrBuf *b);
/* *ret: base64url, malloc'ed. */
int signed_request_sign(const SignedRequest *q, const uint8_t seed[KEY_SIZE], char **ret);
/* 0, or -EBADMSG with *reterr = why in the words that bridge clients know (malloc'ed). */
int signed_request_verify(const SignedRequest *q, const char *signature, const uint8_t *key, size_t key_size,
                          char **reterr);
/* 1 to 19 digits, and at most five minutes from now. */
bool timestamp_is_fresh(const char *timestamp, int64_t now_ms);

/* Where the stream of a server is: ws(s)://…/subscribe. NULL when out of memory. */
char* stream_url(const char *server_url);
/* The stream's connect frame as one line of JSON. */
int stream_connect_frame(const char *slug, const char *subkey_id, const uint8_t subkey_seed[KEY_SIZE],
                         const char *nonce, int64_t timestamp_ms, char **ret);

typedef struct EventSigner {
        const char *slug, *device_id, *subkey_id;
        const uint8_t *subkey_seed;
} EventSigner;

/* A signed event in d; payload must be of d too. */
int signed_event_new(SignedDocument *d, const char *event_id, const char *kind, SignedValue *payload,
                     const EventSigner *signer, SignedValue **ret);
