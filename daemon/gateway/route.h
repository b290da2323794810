/* SPDX-License-Identifier: MIT */
#pragma once

#include "api-error.h"

/* What a request asks for. */
typedef enum Route {
        ROUTE_HEALTH,
        ROUTE_PAGE,
        ROUTE_AGENTS,
        ROUTE_AGENT_EVENTS,
        ROUTE_AGENT_MESSAGES,
        ROUTE_AGENT_INTERRUPT,
        ROUTE_APPROVALS,
        ROUTE_APPROVAL_ANSWER,
        ROUTE_SESSION_OPEN,
        ROUTE_SESSION_CLOSE,
        ROUTE_HIRE,
        ROUTE_MODELS,
        ROUTE_MODEL,
        ROUTE_CHAT_COMPLETIONS,
        ROUTE_RESPONSE_CREATE,
        ROUTE_RESPONSE_GET,
        ROUTE_RESPONSE_DELETE,
        ROUTE_RESPONSE_CANCEL,
        ROUTE_RESPONSE_INPUT_ITEMS,
        _ROUTE_MAX,
        _ROUTE_INVALID = -EINVAL,
} Route;

typedef struct RouteMatch {
        Route route;
        char argument[128];     /* the {id} of the path, decoded; not checked for sense */
        const char *allow;      /* for 405 */
} RouteMatch;

/* Finds the route of a request; websocket: it asks for an upgrade to that. -EBADMSG with *reterr for 404, 405 (allow
 * is set) and 426. */
int route_find(const char *method, const char *path, bool websocket, RouteMatch *ret, ApiError *reterr);

/* Needs neither key nor proof of who asks. */
bool route_is_public(Route r);
/* Takes a JSON body. */
bool route_has_body(Route r);
