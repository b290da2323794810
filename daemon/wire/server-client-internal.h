/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/queue.h>

#include "server-client.h"

/* Shared by server-client.c (calls) and subkey-rotation.c (the key that signs them). */

LIST_HEAD(ServerCallList, ServerCall);
LIST_HEAD(SubkeyWaitList, SubkeyWait);

typedef enum RotationState {
        ROTATION_NONE,
        ROTATION_LOOKING,       /* at the session file, perhaps behind another process's lock */
        ROTATION_POSTING,       /* the new key's certificate */
        ROTATION_PROBING,       /* until a server that is slow to see a new device takes the key */
} RotationState;

typedef struct Rotation {
        RotationState state;
        sd_event_source *timer;
        HttpRequest *request;
        SessionKey *candidate;
        char *refused;          /* a subkey that the server did not take */
        unsigned attempt, lock_attempt;
        int lock_fd;
        bool probe;
        uint64_t last_refused_usec;     /* boottime of the last rotation that a refusal caused; 0: never */
} Rotation;

struct ServerClient {
        ServerClientSpec spec;
        char *base_url, *key_directory, *ca_file;
        SessionKey *key;
        Rotation rotation;
        struct ServerCallList calls;
        struct SubkeyWaitList waits;
};

struct SubkeyWait {
        ServerClient *client;   /* NULL once it was called */
        void (*on_ready)(const CallReply *reply, void *userdata);
        void *userdata;
        LIST_ENTRY(SubkeyWait) waits;
};

typedef struct Signer {
        const char *id;                 /* subkey or device id */
        const uint8_t *seed;
} Signer;

/* One signed exchange without any retry. on_done and userdata are those of the HTTP request. */
int server_client_send(ServerClient *c, const CallSpec *spec, const Signer *signer, http_done_t on_done,
                       void *userdata, HttpRequest **ret);
/* What an exchange came to. The texts that it points to are in *text and *document, which the caller frees. */
int call_reply_from_http(HttpRequest *q, const HttpReply *http, bool raw, CallReply *ret, char **text,
                         SignedDocument **document);

void rotation_done(ServerClient *c);
