/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <sys/queue.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "agent-mirror.h"
#include "api-error.h"
#include "gateway-settings.h"
#include "http-server.h"
#include "key-guesses.h"
#include "route.h"

/* The HTTP face of the agents: what the exchanges of all listening sockets share. Keeps nothing that a restart could
 * lose. */
typedef struct Gateway Gateway;
typedef struct Call Call;
typedef struct Listener Listener;
typedef struct ResponseTurn ResponseTurn;
typedef struct Feed Feed;
typedef struct ApprovalGather ApprovalGather;

#define GATEWAY_LISTENERS_MAX 16

struct Gateway {
        sd_event *event;                /* borrowed, as the bus and the settings */
        sd_bus *bus;
        Scope scope;
        const GatewaySettings *settings;
        AgentMirror *agents;
        Listener *listeners;
        size_t n_listeners;
        LIST_HEAD(, Call) calls;
        Feed *feed;
        KeyGuesses *guesses;
        LIST_HEAD(, ResponseTurn) orphans;      /* turns that are being ended for clients that have gone */
        sd_event_source *stop_timer;
        bool stopping;
};

struct Listener {
        Gateway *gateway;
        HttpServer *server;
};

/* What the peer of a connection was found to be; kept with the connection. */
typedef struct PeerVerdict {
        bool resolved;                  /* the next four are known */
        uid_t uid;
        int error;                      /* of finding out, or 0 */
        bool trusted, stranger;
        bool told;                      /* the journal knows that it was refused */
        bool knows_key;                 /* has shown a right one */
} PeerVerdict;

/* One request, from its head to the end of its answer. */
struct Call {
        Gateway *gateway;
        HttpExchange *exchange;
        RouteMatch match;
        char request_id[40];
        bool by_key;                    /* shown a key; else peer_uid is who asks */
        uid_t peer_uid;
        bool handed_over;               /* an agent may have the input: the client must not send it again */

        AgentWaiter *waiter;
        struct BusCall *bus_call;
        sd_bus_message *hired;          /* puffod's answer, while we wait to see the agent */
        ResponseTurn *turn;             /* of POST /v1/responses and of streams */
        ApprovalGather *gather;
        LIST_ENTRY(Call) calls;

        bool in_feed;                   /* GET /agents/events */
        bool feed_blocked;              /* has more to read than it has read */
        bool feed_ended;                /* its end is on its way, behind what is */
        LIST_ENTRY(Call) subscribers;
};

/* The bus must be attached to the event loop. */
int gateway_new(Gateway **ret, sd_event *event, sd_bus *bus, Scope scope, const GatewaySettings *settings);
/* Ends what is under way. */
Gateway* gateway_free(Gateway *g);
DEFINE_TRIVIAL_CLEANUP_FUNC(Gateway*, gateway_free);
/* Serves a listening socket, which is taken over on failure too. -EPERM when it is not loopback and no key is
 * configured. */
int gateway_listen(Gateway *g, int fd);
/* Takes no new connections, tells the clients of running turns that they go on without them, and ends the loop when
 * all is sent, or after 2 s. */
void gateway_stop(Gateway *g);

/* In system mode an agent is for its owner, for root, and for who has the key. */
bool call_may_use(const Call *c, const MirroredAgent *a);
bool call_may_use_owned(const Call *c, uid_t owner);
/* Whether the peer is proven to be one that needs no key where none is configured; peer_uid is set then. */
bool call_peer_is_trusted(Call *c);
/* Whether the peer may be told that what it has shown is right, or wrong (key-guesses.h). */
bool call_may_tell(Call *c, const char *shown, bool cookie, bool right);
/* The body, which must be a JSON object; -EBADMSG with *e. */
int call_parse_body(Call *c, json_object **ret, ApiError *e);

/* Answers. All may be used once a call. */
void call_reply_json(Call *c, unsigned status, json_object *o);
void call_reply_empty(Call *c);         /* 204 */
void call_reply_error(Call *c, const ApiError *e);
void call_reply_errno(Call *c, int error);
void call_reply_bus_error(Call *c, const sd_bus_error *error);
/* Puts what all answers have into the head. */
int call_add_headers(Call *c);

/* The error of a bus call as clients are to see it. model: for agents that are not there, or NULL. */
void api_error_from_bus(ApiError *e, const sd_bus_error *error, const char *model);
