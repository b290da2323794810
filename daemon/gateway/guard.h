/* SPDX-License-Identifier: MIT */
#pragma once

#include "api-key.h"
#include "route.h"

#define BODY_MAX MIB(16)

/* What is checked of every request before its body is read, in the one order of design §7: host, route and method,
 * origin, fetch site, content type, credential, body size. Pure: what it knows of the world it is told. */
typedef struct GuardRequest {
        const char *method, *path;
        const char *host, *origin, *fetch_site, *content_type, *content_length, *authorization,
                   *cookie;
        unsigned n_host, n_origin, n_fetch_site, n_authorization;
        uint64_t now_seconds;           /* for what cookies say of themselves */
        bool websocket;                 /* Upgrade: websocket */
} GuardRequest;

typedef struct GuardPolicy {
        uint16_t port;                  /* the one the request came in on */
        char *const *host_names;        /* allowed besides IP literals and localhost */
        const ApiKeys *keys;            /* none: the peer itself must be trusted */
        bool (*peer_is_trusted)(void *userdata);        /* asked last, and only when it decides */
        /* Whether the peer may be told that the key or cookie which it has shown is right, or wrong; NULL: always. */
        bool (*may_tell)(const char *shown, bool cookie, bool right, void *userdata);
        void *userdata;
} GuardPolicy;

/* 0 with the route, or -EBADMSG with the answer to give. */
int guard_check(const GuardPolicy *policy, const GuardRequest *q, RouteMatch *ret, ApiError *reterr);

/* A Host header's value that we answer to: IP literal, localhost or one of names, with this port. */
bool host_is_allowed(const char *host, uint16_t port, char *const *names);

/* The answer for somebody who has shown too many wrong keys. */
int guard_set_guesser(ApiError *reterr);
/* The answer for somebody who shows no key where none is configured (or whom the agent does not belong to). */
int guard_set_stranger(ApiError *reterr);
