/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-event.h>

#include "http-client.h"
#include "key-store.h"
#include "signed-json.h"

/* Signed calls to a Puffo server (server-api §§1, 2; wire-protocol §§6.7, 14): every call is signed by a subkey that
 * is made, registered and renewed here, one at a time, whoever needs it. What is signed is exactly what is sent. */
typedef struct ServerClient ServerClient;
typedef struct ServerCall ServerCall;

typedef enum CallFailure {
        CALL_OK,
        CALL_NETWORK,           /* not reached, cut off, timed out: may work later */
        CALL_TLS,               /* permanent until somebody changes something */
        CALL_STATUS,            /* the server's no: see status */
        CALL_PROTOCOL,          /* an answer that no server of ours gives: redirect, no JSON, too large */
        CALL_KEYS,              /* the key files cannot be used */
        CALL_MEMORY,
} CallFailure;

typedef struct CallReply {
        CallFailure failure;
        long status;            /* 0 when there was no answer */
        const char *error;      /* NULL, or one printable line for logs; never a secret */
        const char *code;       /* the server's own name for it ("FORBIDDEN"), or NULL */
        const SignedValue *json;/* of a 2xx answer; NULL when it is empty, or raw was asked for */
        const char *body;       /* of a 2xx answer, as it came */
        size_t body_size;
} CallReply;

/* Worth another try later without anybody's doing: network, 429 and 5xx. */
bool call_reply_is_transient(const CallReply *r);

/* Called once, from the event loop, never inside of server_call_start(). The reply is borrowed for the call. The
 * callback may free the call and start or free others, but not free the client. */
typedef void (*call_done_t)(ServerCall *call, const CallReply *reply, void *userdata);

typedef struct CallSpec {
        const char *method;             /* NULL: GET, or POST with a body */
        const char *path;               /* from '/', with the query, escaped already: see path_append() */
        const void *body;               /* NULL: none */
        size_t body_size;
        const char *content_type;       /* NULL: application/json */
        bool raw;                       /* the answer is bytes, not JSON */
        bool waits_for_it;              /* a 404 may mean "not yet": asked again three times, 5 s apart (§10.2) */
        http_data_t on_data;            /* the body of a 2xx as it comes, not collected; see server_call_pause() */
        size_t max_body;                /* 0: 16 MiB */
        uint64_t timeout_usec;          /* of the whole exchange; 0: 60 s */
        call_done_t on_done;
        void *userdata;
} CallSpec;

typedef struct ServerClientSpec {
        sd_event *event;
        HttpClient *http;               /* borrowed, and so is identity; both outlive the client */
        const Identity *identity;
        const char *key_directory;      /* where the session file lies */
        const char *server_url;         /* http(s)://host[/prefix]; slashes at its end do not count */
        const char *ca_file;            /* trusted beside the system's; NULL: none */
} ServerClientSpec;

/* -EINVAL for a URL that is none, -ENOMEM. */
int server_client_new(ServerClient **ret, const ServerClientSpec *spec);
/* Calls that are under way are dropped without calling back. */
ServerClient* server_client_free(ServerClient *c);
DEFINE_TRIVIAL_CLEANUP_FUNC(ServerClient*, server_client_free);
const char* server_client_url(const ServerClient *c);
const Identity* server_client_identity(const ServerClient *c);
const char* server_client_ca_file(const ServerClient *c);
HttpClient* server_client_http(const ServerClient *c);

/* -EINVAL for a path without '/', -ENOMEM. On success *ret is the caller's, to be freed at any time, which cancels it.
 */
int server_call_start(ServerClient *c, const CallSpec *spec, ServerCall **ret);
ServerCall* server_call_free(ServerCall *call);
/* Stops taking the answer from the network, or goes on; on_data may be called from inside when going on. */
void server_call_pause(ServerCall *call, bool pause);
DEFINE_TRIVIAL_CLEANUP_FUNC(ServerCall*, server_call_free);

/* The subkey that signs now, or NULL while there is none that is fresh enough: then ask for one with a SubkeyWait. */
const SessionKey* server_client_subkey(const ServerClient *c);

/* Waits for a subkey that can be used: on_ready is called once, from the loop; reply tells whether there is one. With
 * refused (a subkey id) that one is taken for dead and a new one is made, but at most once a minute. */
typedef struct SubkeyWait SubkeyWait;
int subkey_wait_new(SubkeyWait **ret, ServerClient *c, const char *refused,
                    void (*on_ready)(const CallReply *reply, void *userdata), void *userdata);
SubkeyWait* subkey_wait_free(SubkeyWait *w);
DEFINE_TRIVIAL_CLEANUP_FUNC(SubkeyWait*, subkey_wait_free);

/* Appends text to a path as one segment or one query value, escaping what may not stand there raw. */
int path_append(StrBuf *path, const char *text);
