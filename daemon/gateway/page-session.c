/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "event-util.h"
#include "gateway-handlers.h"
#include "guard.h"
#include "json-util.h"

#define COOKIE_TAIL "; HttpOnly; SameSite=Strict; Path=/; Max-Age="

static void reply_cookie(Call *c, const char *value, unsigned seconds) {
        _cleanup_free_ char *text = asprintf_new(PAGE_COOKIE "=%s" COOKIE_TAIL "%u", value, seconds);

        if (text)
                key_guesses_note(c->gateway->guesses, strndupa(text, strcspn(text, ";")));
        if (!text || http_exchange_add_header(c->exchange, "Set-Cookie", text) < 0)
                call_reply_errno(c, -ENOMEM);
        else
                call_reply_empty(c);
}

static int open_check(Call *c, const char *key, uint64_t now_usec, char **ret_cookie, ApiError *e) {
        int r = api_keys_make_cookie(&c->gateway->settings->keys, key, now_usec / USEC_PER_SEC + PAGE_COOKIE_SECONDS,
                                     ret_cookie);

        if (r < 0 && r != -EKEYREJECTED)
                return r;
        if (!call_may_tell(c, key, false, r >= 0)) {
                *ret_cookie = mfree(*ret_cookie);
                return guard_set_guesser(e);
        }
        return r >= 0 ? 0 : api_error_set(e, 401, "invalid_api_key", NULL, "Incorrect API key provided.");
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
