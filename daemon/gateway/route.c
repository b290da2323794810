/* SPDX-License-Identifier: MIT */

#include "route.h"

typedef struct Pattern {
        const char *path;       /* "*" stands for one segment */
        const char *method;
        Route route;
} Pattern;

static const Pattern patterns[] = {
        { "/healthz", "GET", ROUTE_HEALTH },
        { "/healthz", "HEAD", ROUTE_HEALTH },
        { "/health", "GET", ROUTE_HEALTH },
        { "/health", "HEAD", ROUTE_HEALTH },
        { "/", "GET", ROUTE_PAGE },
        { "/", "HEAD", ROUTE_PAGE },
        { "/web", "GET", ROUTE_PAGE },
        { "/web", "HEAD", ROUTE_PAGE },
        { "/web/*/*", "GET", ROUTE_PAGE },
        { "/web/*/*", "HEAD", ROUTE_PAGE },
        { "/web/*/*/*", "GET", ROUTE_PAGE },
        { "/web/*/*/*", "HEAD", ROUTE_PAGE },
        { "/agents", "GET", ROUTE_AGENTS },
        { "/agents/events", "GET", ROUTE_AGENT_EVENTS },
        { "/agents/*/messages", "GET", ROUTE_AGENT_MESSAGES },
        { "/agents/*/interrupt", "POST", ROUTE_AGENT_INTERRUPT },
        { "/approvals", "GET", ROUTE_APPROVALS },
        { "/approvals/*", "POST", ROUTE_APPROVAL_ANSWER },
        { "/hire", "POST", ROUTE_HIRE },
        { "/session", "POST", ROUTE_SESSION_OPEN },
        { "/session", "DELETE", ROUTE_SESSION_CLOSE },
        { "/v1/chat/completions", "POST", ROUTE_CHAT_COMPLETIONS },
        { "/v1/models", "GET", ROUTE_MODELS },
        { "/v1/models/*", "GET", ROUTE_MODEL },
        { "/v1/responses", "POST", ROUTE_RESPONSE_CREATE },
        { "/v1/responses/*", "GET", ROUTE_RESPONSE_GET },
        { "/v1/responses/*", "DELETE", ROUTE_RESPONSE_DELETE },
        { "/v1/responses/*/cancel", "POST", ROUTE_RESPONSE_CANCEL },
        { "/v1/responses/*/input_items", "GET", ROUTE_RESPONSE_INPUT_ITEMS },
};

/* Endpoints of the real service that we know of and do not have. */
static const char *const unsupported[] = {
        "/v1/responses/input_tokens",
        "/v1/responses/compact",
        "/v1/conversations",
        "/v1/conversations/*",
        "/v1/conversations/*/items",
        "/v1/conversations/*/items/*",
};

static int unhex(char c) {
        return c >= '0' && c <= '9' ? c - '0' :
               c >= 'a' && c <= 'f' ? c - 'a' + 10 :
               c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* One segment of a path. What is encoded may be anything but a NUL: nobody takes it for part of a path any more. */
static bool segment_decode(const char *s, size_t n, char *ret, size_t size) {
        char *to = ret;

        if (n == 0 || n >= size)
                return false;
        for (size_t i = 0; i < n; i++) {
                *to = s[i];
                if (s[i] == '%' && i + 2 < n && unhex(s[i + 1]) >= 0 && unhex(s[i + 2]) >= 0) {
                        *to = (char) (unhex(s[i + 1]) << 4 | unhex(s[i + 2]));
                        i += 2;
                }
                if (!*to++)
                        return false;
        }
        *to = 0;
        return true;
}

static bool path_matches(const char *pattern, const char *path, char *ret_argument, size_t size) {
        for (;; pattern++, path++) {
                size_t n;

                if (*pattern == '*') {
                        n = strcspn(path, "/");
                        if (!segment_decode(path, n, ret_argument, size))
                                return false;
                        path += n;
                        pattern++;
                }
                if (*pattern != *path)
                        return false;
                if (!*pattern)
                        return true;
        }
}

static int route_set_not_found(const char *method, const char *path, ApiError *reterr) {
        _cleanup_free_ char *shown = NULL, *verb = str_printable(method, 16);
        char argument[128];

        shown = str_printable(path, 200);
        for (size_t i = 0; i < ELEMENTSOF(unsupported); i++)
                if (path_matches(unsupported[i], path, argument, sizeof(argument)))
                        return api_error_set(reterr, 404, "unsupported_endpoint", NULL,
                                             "This server does not have the endpoint %s.", strempty(shown));

        return api_error_set(reterr, 404, NULL, NULL, "Invalid URL (%s %s)", strempty(verb), strempty(shown));
}

/* The methods of one path, for Allow. Static texts: the table is small and known. */
static const char* path_allow(const Pattern *p) {
        switch (p->route) {
        case ROUTE_HEALTH:
        case ROUTE_PAGE:
                return "GET, HEAD";
        case ROUTE_RESPONSE_GET:
        case ROUTE_RESPONSE_DELETE:
                return "GET, DELETE";
        case ROUTE_SESSION_OPEN:
        case ROUTE_SESSION_CLOSE:
                return "POST, DELETE";
        default:
                return p->method;
        }
}

int route_find(const char *method, const char *path, bool websocket, RouteMatch *ret, ApiError *reterr) {
        const char *allow = NULL;

        for (size_t i = 0; i < ELEMENTSOF(unsupported); i++)
                if (path_matches(unsupported[i], path, ret->argument, sizeof(ret->argument)))
                        return route_set_not_found(method, path, reterr);

        for (size_t i = 0; i < ELEMENTSOF(patterns); i++) {
                const Pattern *p = patterns + i;

                if (!path_matches(p->path, path, ret->argument, sizeof(ret->argument)))
                        continue;
                if (streq(p->method, method)) {
                        ret->route = p->route;
                        return 0;
                }
                allow = path_allow(p);
        }

        if (!allow)
                return route_set_not_found(method, path, reterr);
        /* Codex tries this first and falls back to POST at once on this status, and on no other (responses-api §2). */
        if (websocket && streq(path, "/v1/responses") && streq(method, "GET"))
                return api_error_set(reterr, 426, "websocket_not_supported", NULL,
                                     "WebSocket connections are not supported, use POST /v1/responses.");
        ret->allow = allow;
        return api_error_set(reterr, 405, "method_not_allowed", NULL, "Not allowed here, use %s.", allow);
}

bool route_is_public(Route r) {
        return r == ROUTE_HEALTH || r == ROUTE_PAGE || r == ROUTE_SESSION_OPEN || r == ROUTE_SESSION_CLOSE;
}

bool route_has_body(Route r) {
        return r == ROUTE_RESPONSE_CREATE || r == ROUTE_CHAT_COMPLETIONS ||
                r == ROUTE_HIRE || r == ROUTE_APPROVAL_ANSWER || r == ROUTE_SESSION_OPEN;
}
