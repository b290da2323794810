/* SPDX-License-Identifier: MIT */

#include <netinet/in.h>
#include <sodium.h>

#include "event-util.h"
#include "gateway-handlers.h"
#include "json-util.h"

#define COOKIE_TAIL "; HttpOnly; SameSite=Strict; Path=/; Max-Age="

/* Who has typed in so many wrong keys may go on with one in so long. */
#define WRONG_BURST 10
#define WRONG_USEC (6 * USEC_PER_SEC)

/* Wrong keys count for whoever the peer is: the user on this machine, the host elsewhere. Two that share a slot wait for
 * each other. */
static uint64_t* wrong_until(Call *c) {
        const struct sockaddr *sa = http_exchange_peer(c->exchange);
        unsigned char who[sizeof(struct in6_addr)] = {};
        unsigned hash = 5381;

        (void) call_peer_is_trusted(c);
        if (c->peer_uid != (uid_t) -1)
                memcpy(who, &c->peer_uid, sizeof(c->peer_uid));
        else if (sa->sa_family == AF_INET6)
                memcpy(who, &((const struct sockaddr_in6*) sa)->sin6_addr, 8);  /* the network is the host's own */
        else if (sa->sa_family == AF_INET)
                memcpy(who + 8, &((const struct sockaddr_in*) sa)->sin_addr, sizeof(struct in_addr));
        for (size_t i = 0; i < sizeof(who); i++)
                hash = hash * 33 + who[i];
        return c->gateway->wrong_until_usec + hash % GATEWAY_WRONG_SLOTS;
}

static void reply_cookie(Call *c, const char *value, unsigned seconds) {
        _cleanup_free_ char *text = asprintf_new(PAGE_COOKIE "=%s" COOKIE_TAIL "%u", value, seconds);

        if (!text || http_exchange_add_header(c->exchange, "Set-Cookie", text) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_empty(c);
}

static int open_check(Call *c, const char *key, uint64_t now_usec, char **ret_cookie, ApiError *e) {
        uint64_t *until = wrong_until(c), now = now_boottime_usec();
        int r;

        if (*until > now + (WRONG_BURST - 1) * WRONG_USEC)
                return api_error_set(e, 429, "rate_limit_exceeded", NULL,
                                     "Too many wrong keys: try again in some seconds.");
        r = api_keys_make_cookie(&c->gateway->settings->keys, key, now_usec / USEC_PER_SEC + PAGE_COOKIE_SECONDS,
                                 ret_cookie);
        if (r != -EKEYREJECTED)
                return r;
        *until = MAX(*until, now) + WRONG_USEC;
        return api_error_set(e, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
}

static int open_parse(Call *c, json_object **ret, ApiError *e) {
        _cleanup_json_ json_object *body = NULL;
        int r;

        r = call_parse_body(c, &body, e);
        if (r < 0)
                return r;
        if (!json_get(body, "key"))
                return api_error_set(e, 400, "missing_required_parameter", "key", "Missing required parameter: 'key'.");
        if (!json_get_string(body, "key"))
                return api_error_set(e, 400, "invalid_type", "key", "Invalid type for 'key': expected a string.");
        *ret = TAKE_PTR(body);
        return 0;
}

void page_session_open(Call *c) {
        _cleanup_json_ json_object *body = NULL;
        _cleanup_free_ char *cookie = NULL;
        _cleanup_api_error_ ApiError e = {};
        const char *key;
        int r;

        r = open_parse(c, &body, &e);
        if (r >= 0 && c->gateway->settings->keys.n == 0) {
                /* There is nothing that a key could open. */
                if (call_peer_is_trusted(c))
                        return call_reply_empty(c);
                r = api_error_set(&e, 401, "api_key_required", NULL, "Set AGENT_PROXY_API_KEY to allow this client.");
        } else if (r >= 0) {
                key = json_get_string(body, "key");
                r = open_check(c, key, now_realtime_usec(), &cookie, &e);
                sodium_memzero((char*) key, strlen(key));
        }
        if (r >= 0)
                reply_cookie(c, cookie, PAGE_COOKIE_SECONDS);
        else if (r == -EBADMSG)
                call_reply_error(c, &e);
        else
                call_reply_errno(c, r);
}

void page_session_close(Call *c) {
        reply_cookie(c, "", 0);
}
