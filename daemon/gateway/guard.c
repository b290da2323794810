/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <strings.h>

#include "guard.h"

static bool name_is_allowed(const char *name, char *const *names) {
        unsigned char address[sizeof(struct in6_addr)];

        if (inet_pton(AF_INET, name, address) == 1 || strcasecmp(name, "localhost") == 0)
                return true;
        for (char *const *n = names; n && *n; n++)
                if (strcasecmp(*n, name) == 0)
                        return true;
        return false;
}

bool host_is_allowed(const char *host, uint16_t port, char *const *names) {
        unsigned char address[sizeof(struct in6_addr)];
        char name[256];
        bool bracketed = host[0] == '[';
        const char *rest;
        uint32_t p = 80;
        size_t n;

        if (bracketed) {
                host++;
                n = strcspn(host, "]");
                rest = host[n] ? host + n + 1 : NULL;
        } else {
                n = strcspn(host, ":");
                rest = host + n;
        }
        if (!rest || n == 0 || n >= sizeof(name))
                return false;
        memcpy(name, host, n);
        name[n] = 0;

        if (*rest && (*rest != ':' || parse_u32(rest + 1, &p) < 0))
                return false;
        if (p != port)
                return false;
        return bracketed ? inet_pton(AF_INET6, name, address) == 1 : name_is_allowed(name, names);
}

/* An origin is a scheme, "://" and what Host says. We speak plain HTTP; a proxy in front that speaks TLS says so here.
 */
static bool origin_is_host(const char *origin, const char *host) {
        const char *rest = startswith(origin, "http://") ?: startswith(origin, "https://");

        return rest && strcasecmp(rest, host) == 0;
}

static bool content_type_is_json(const char *type) {
        size_t n;

        if (!type)
                return false;
        n = strcspn(type, "; \t");
        return n == strlen("application/json") && strncasecmp(type, "application/json", n) == 0;
}

int guard_set_stranger(ApiError *reterr) {
        return api_error_set(reterr, 401, "api_key_required", NULL, "Set AGENT_PROXY_API_KEY to allow this client.");
}

int guard_set_guesser(ApiError *reterr) {
        return api_error_set(reterr, 429, "rate_limit_exceeded", NULL,
                             "Too many wrong keys: try again in some seconds.");
}

/* A browser sends the cookie along with whatever asks for us; only what our own page asks counts (agent-proxy §12). */
static bool cookie_counts(const GuardRequest *q) {
        return q->n_authorization == 0 && q->n_fetch_site == 1 && streq(q->fetch_site, "same-origin");
}

static bool may_tell(const GuardPolicy *policy, const char *shown, bool cookie, bool right) {
        return !policy->may_tell || policy->may_tell(shown, cookie, right, policy->userdata);
}

static int guard_check_credential(const GuardPolicy *policy, const GuardRequest *q, ApiError *reterr) {
        const char *cookie = cookie_counts(q) ? page_cookie_find(q->cookie) : NULL;
        ApiKeyVerdict verdict;
        bool right;

        if (policy->keys->n == 0)
                return policy->peer_is_trusted(policy->userdata) ? 0 : guard_set_stranger(reterr);
        if (cookie) {
                right = api_keys_check_cookie(policy->keys, cookie, q->now_seconds);
                if (!may_tell(policy, cookie, true, right))
                        return guard_set_guesser(reterr);
                if (right)
                        return 0;
        }

        verdict = api_keys_check(policy->keys, q->n_authorization == 1 ? q->authorization : NULL);
        if (verdict == API_KEY_MISSING)
                return api_error_set(reterr, 401, NULL, NULL, "Missing bearer or basic authentication in header");
        if (!may_tell(policy, q->authorization, false, verdict == API_KEY_OK))
                return guard_set_guesser(reterr);
        return verdict == API_KEY_OK ? 0 :
                       api_error_set(reterr, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
}

int guard_check(const GuardPolicy *policy, const GuardRequest *q, RouteMatch *ret, ApiError *reterr) {
        uint64_t length;
        int r;

        if (q->n_host != 1 || !host_is_allowed(q->host, policy->port, policy->host_names))
                return api_error_set(
                                reterr, 403, "permission_denied", NULL,
                                "This host name is not served here. Use the address or localhost, with the port.");

        r = route_find(q->method, q->path, q->websocket, ret, reterr);
        if (r < 0)
                return r;

        if (q->n_origin > 1 || (q->n_origin == 1 && !origin_is_host(q->origin, q->host)))
                return api_error_set(reterr, 403, "permission_denied", NULL, "Requests from other sites are refused.");
        if (q->n_fetch_site > 1 ||
            (q->n_fetch_site == 1 && !streq(q->fetch_site, "same-origin") && !streq(q->fetch_site, "none")))
                return api_error_set(reterr, 403, "permission_denied", NULL, "Cross-site requests are refused.");

        /* curl's default form type must work; a page of another site can send that too, but never these headers away.
         */
        if (route_has_body(ret->route) && !content_type_is_json(q->content_type) &&
            (q->n_origin > 0 || q->n_fetch_site > 0 || q->cookie))
                return api_error_set(reterr, 415, "unsupported_media_type", NULL,
                                     "Send the body with Content-Type: application/json.");

        if (!route_is_public(ret->route)) {
                r = guard_check_credential(policy, q, reterr);
                if (r < 0)
                        return r;
        }

        if (q->content_length && (parse_u64(q->content_length, &length) < 0 || length > BODY_MAX))
                return api_error_set(reterr, 413, "request_too_large", NULL, "The body is over %zu MiB.",
                                     BODY_MAX / MIB(1));
        return 0;
}
