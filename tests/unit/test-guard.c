/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "guard"

#include "guard.h"
#include "json-util.h"
#include "key-guesses.h"
#include "tests.h"

TEST(host_is_allowed) {
        static const char *const names[] = { "box.example", NULL };
        static const struct {
                const char *host;
                uint16_t port;
                bool ok;
        } t[] = {
                { "127.0.0.1:7011", 7011, true }, { "localhost:7011", 7011, true }, { "LocalHost:7011", 7011, true },
                { "[::1]:7011", 7011, true }, { "192.0.2.7:7011", 7011, true }, { "box.example:7011", 7011, true },
                { "Box.Example:7011", 7011, true }, { "127.0.0.1", 80, true },
                { "127.0.0.1", 7011, false }, { "127.0.0.1:7012", 7011, false }, { "evil.example:7011", 7011, false },
                { "localhost.evil.example:7011", 7011, false }, { "", 7011, false }, { ":7011", 7011, false },
                { "127.0.0.1:", 7011, false }, { "127.0.0.1:7011:7011", 7011, false }, { "[::1", 7011, false },
                { "[::1]7011", 7011, false }, { "[localhost]:7011", 7011, false }, { "::1:7011", 7011, false },
                { "127.0.0.1:07011x", 7011, false }, { "127.1:7011", 7011, false }, { "localhost:7011 ", 7011, false },
                { "user@localhost:7011", 7011, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (host_is_allowed(t[i].host, t[i].port, (char *const*) names) != t[i].ok)
                        fail_msg("'%s'", t[i].host);
}

typedef struct World {
        bool trusted;
        unsigned asked;
} World;

static bool peer_is_trusted(void *userdata) {
        World *w = userdata;

        w->asked++;
        return w->trusted;
}

/* Rows say only what is different from a good request. */
#pragma GCC diagnostic ignored "-Woverride-init"
#define GOOD .method = "POST", .path = "/v1/responses", .host = "localhost:7011", .n_host = 1, \
             .content_type = "application/json"
#define PAGE .cookie = PAGE_COOKIE "=2000.j7Lih-5bMv9tZMg5MqVRzNos4AKVNmEtG7Rq-qg5qtk", .now_seconds = 1999, \
             .fetch_site = "same-origin", .n_fetch_site = 1
#define KEY .authorization = "Bearer k1", .n_authorization = 1

/* Each step alone, and, in the rows named "order", two at once: the earlier one answers. */
static const struct {
        const char *name;
        GuardRequest q;
        bool keys, stranger;
        unsigned status;
        const char *code;
} table[] = {
        { "fine", { GOOD }, false, false, 0, NULL },
        { "fine with key", { GOOD, KEY }, true, true, 0, NULL },
        { "scheme in any case", { GOOD, .authorization = "bEARER  k2 ", .n_authorization = 1 }, true, true, 0, NULL },
        { "a dummy key where none is configured", { GOOD, KEY }, false, false, 0, NULL },
        { "own page", { GOOD, .origin = "http://localhost:7011", .n_origin = 1, .fetch_site = "same-origin",
                        .n_fetch_site = 1, .cookie = "a=b" }, false, false, 0, NULL },
        { "curl's form type", { .method = "POST", .path = "/hire", .host = "127.0.0.1:7011", .n_host = 1,
                                .content_type = "application/x-www-form-urlencoded" }, false, false, 0, NULL },
        { "no host", { .method = "GET", .path = "/healthz" }, false, false, 403, "permission_denied" },
        { "two hosts", { GOOD, .n_host = 2 }, false, false, 403, "permission_denied" },
        { "foreign host", { .method = "GET", .path = "/healthz", .host = "evil:7011", .n_host = 1 }, false, false, 403,
          "permission_denied" },
        { "order: host, route", { .method = "GET", .path = "/nowhere", .host = "evil:7011", .n_host = 1 }, false, false,
          403, "permission_denied" },
        { "no route", { .method = "GET", .path = "/nowhere", .host = "localhost:7011", .n_host = 1 }, false, false,
          404, NULL },
        { "trailing slash", { GOOD, .path = "/v1/responses/" }, false, false, 404, NULL },
        { "not here", { GOOD, .path = "/v1/responses/input_tokens" }, false, false, 404, "unsupported_endpoint" },
        { "not here either", { GOOD, .path = "/v1/responses/compact" }, false, false, 404, "unsupported_endpoint" },
        { "conversations", { GOOD, .path = "/v1/conversations/c_1/items" }, false, false, 404,
          "unsupported_endpoint" },
        { "method", { GOOD, .method = "PUT" }, false, false, 405, "method_not_allowed" },
        { "websocket", { GOOD, .method = "GET", .websocket = true }, false, false, 426, "websocket_not_supported" },
        { "GET without upgrade", { GOOD, .method = "GET" }, false, false, 405, "method_not_allowed" },
        { "order: method, origin", { GOOD, .method = "PUT", .origin = "http://evil", .n_origin = 1 }, false, false,
          405, "method_not_allowed" },
        { "foreign origin", { GOOD, .origin = "http://evil:7011", .n_origin = 1 }, false, false, 403,
          "permission_denied" },
        { "null origin", { GOOD, .origin = "null", .n_origin = 1 }, false, false, 403, "permission_denied" },
        { "another port", { GOOD, .origin = "http://localhost:7012", .n_origin = 1 }, false, false, 403,
          "permission_denied" },
        { "two origins", { GOOD, .origin = "http://localhost:7011", .n_origin = 2 }, false, false, 403,
          "permission_denied" },
        { "origin, even with a key", { GOOD, KEY, .origin = "http://evil", .n_origin = 1 }, true, false, 403,
          "permission_denied" },
        { "cross-site", { GOOD, .fetch_site = "cross-site", .n_fetch_site = 1 }, false, false, 403,
          "permission_denied" },
        { "same-site", { GOOD, .fetch_site = "same-site", .n_fetch_site = 1 }, false, false, 403,
          "permission_denied" },
        { "order: fetch site, type", { GOOD, .content_type = "text/plain", .fetch_site = "cross-site",
                                      .n_fetch_site = 1 }, false, false, 403, "permission_denied" },
        { "type in a browser", { GOOD, .content_type = "text/plain", .fetch_site = "none", .n_fetch_site = 1 }, false, false,
          415, "unsupported_media_type" },
        { "no type, with a cookie", { GOOD, .content_type = NULL, .cookie = "a=b" }, false, false, 415,
          "unsupported_media_type" },
        { "type that only begins so", { GOOD, .content_type = "application/jsonp", .cookie = "a=b" }, false, false,
          415, "unsupported_media_type" },
        { "charset", { GOOD, .content_type = "Application/JSON; charset=utf-8", .cookie = "a=b" }, false, false, 0,
          NULL },
        { "order: type, credential", { GOOD, .content_type = "text/plain", .cookie = "a=b" }, true, false, 415,
          "unsupported_media_type" },
        { "stranger", { GOOD }, false, true, 401, "api_key_required" },
        { "stranger with a key where none is configured", { GOOD, KEY }, false, true, 401, "api_key_required" },
        { "no key", { GOOD }, true, false, 401, NULL },
        { "another scheme", { GOOD, .authorization = "Basic k1", .n_authorization = 1 }, true, false, 401, NULL },
        { "two keys", { GOOD, .authorization = "Bearer k1", .n_authorization = 2 }, true, false, 401, NULL },
        { "wrong key", { GOOD, .authorization = "Bearer k", .n_authorization = 1 }, true, false, 401,
          "invalid_api_key" },
        { "the page's cookie", { GOOD, PAGE }, true, false, 0, NULL },
        { "the cookie with a form", { GOOD, PAGE, .content_type = "text/plain" }, true, false, 415,
          "unsupported_media_type" },
        { "a cookie without a page", { GOOD, PAGE, .n_fetch_site = 0 }, true, false, 401, NULL },
        { "a cookie with a link", { GOOD, PAGE, .fetch_site = "none" }, true, false, 401, NULL },
        { "a cookie from another site", { GOOD, PAGE, .fetch_site = "cross-site" }, true, false, 403,
          "permission_denied" },
        { "a cookie that is over", { GOOD, PAGE, .now_seconds = 2000 }, true, false, 401, NULL },
        { "a cookie and a wrong key", { GOOD, PAGE, .authorization = "Bearer k", .n_authorization = 1 }, true, false,
          401, "invalid_api_key" },
        { "a cookie where no key is configured", { GOOD, PAGE }, false, true, 401, "api_key_required" },
        { "no key for the session", { .method = "POST", .path = "/session", .host = "localhost:7011", .n_host = 1,
                                      .content_type = "application/json" }, true, false, 0, NULL },
        { "the session's type", { .method = "POST", .path = "/session", .host = "localhost:7011", .n_host = 1,
                                  .content_type = "text/plain", .fetch_site = "same-origin", .n_fetch_site = 1 },
          true, false, 415, "unsupported_media_type" },
        { "order: credential, size", { GOOD, .content_length = "99999999" }, true, false, 401, NULL },
        { "size", { GOOD, .content_length = "16777217" }, false, false, 413, "request_too_large" },
        { "size at the limit", { GOOD, .content_length = "16777216" }, false, false, 0, NULL },
        { "health is for all", { .method = "HEAD", .path = "/health", .host = "localhost:7011", .n_host = 1 }, true,
          true, 0,
          NULL },
        { "agents are not", { .method = "GET", .path = "/agents", .host = "localhost:7011", .n_host = 1 }, false,
          true, 401,
          "api_key_required" },
        { "models are not", { .method = "GET", .path = "/v1/models/x", .host = "localhost:7011", .n_host = 1 }, true,
          false, 401,
          NULL },
};

TEST(guard_check) {
        ApiKeys keys = {}, none = {};

        ASSERT_OK(api_keys_add(&keys, "k1, k2"));
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                World world = { .trusted = !table[i].stranger };
                _cleanup_api_error_ ApiError e = {};
                RouteMatch match = {};
                int r;

                print_message("  %s\n", table[i].name);
                r = guard_check(&(GuardPolicy) {
                        .port = 7011,
                        .keys = table[i].keys ? &keys : &none,
                        .peer_is_trusted = peer_is_trusted,
                        .userdata = &world,
                }, &table[i].q, &match, &e);
                ASSERT_EQ(r, table[i].status == 0 ? 0 : -EBADMSG);
                ASSERT_EQ(e.status, table[i].status);
                ASSERT_STREQ(strempty(e.code), strempty(table[i].code));
                if (table[i].keys)
                        ASSERT_EQ(world.asked, 0);
                if (table[i].status == 405)
                        ASSERT_STREQ(match.allow, "POST");
        }
        api_keys_done(&keys);
}

/* With a name for each of thousands, all places are taken: but his who has one of his own. */
TEST(guessers_with_many_names) {
        _cleanup_(key_guesses_freep) KeyGuesses *g = NULL;
        unsigned n_refused = 0;
        char key[16];

        ASSERT_OK(key_guesses_new(&g));
        for (unsigned i = 0; i < 200000 && n_refused < 100000; i++) {
                (void) snprintf(key, sizeof(key), "%u", i);
                n_refused += !key_guesses_may_tell(g, &i, sizeof(i), key, false, 1000 * USEC_PER_SEC);
        }
        ASSERT_EQ(n_refused, 100000U);
        ASSERT_FALSE(key_guesses_may_tell(g, "anybody", 7, "right", true, 1000 * USEC_PER_SEC));
        ASSERT_TRUE(key_guesses_may_tell(g, NULL, 0, "right", true, 1000 * USEC_PER_SEC));
        /* He does not guess faster either. */
        for (unsigned i = 0; i < 10; i++) {
                (void) snprintf(key, sizeof(key), "own %u", i);
                ASSERT_TRUE(key_guesses_may_tell(g, NULL, 0, key, false, 1000 * USEC_PER_SEC));
        }
        ASSERT_FALSE(key_guesses_may_tell(g, NULL, 0, "right", true, 1000 * USEC_PER_SEC));
}

static bool tell(KeyGuesses *g, const char *who, const char *shown, bool right, unsigned second) {
        return key_guesses_may_tell(g, who, strlen(who), shown, right, (1000 + second) * USEC_PER_SEC);
}

TEST(key_guesses) {
        _cleanup_(key_guesses_freep) KeyGuesses *g = NULL;
        char key[16];

        ASSERT_OK(key_guesses_new(&g));
        ASSERT_TRUE(tell(g, "a", "right", true, 0));
        ASSERT_FALSE(key_guesses_any(g));

        /* One that is wrong again and again is no guess. */
        for (unsigned i = 0; i < 1000; i++)
                ASSERT_TRUE(tell(g, "a", i % 2 ? "old key" : "other old key", false, 0));
        ASSERT_TRUE(key_guesses_any(g));
        for (unsigned i = 0; i < 8; i++) {
                (void) snprintf(key, sizeof(key), "guess %u", i);
                ASSERT_TRUE(tell(g, "a", key, false, 0));
        }
        /* Then nothing is told any more, what would be right neither; to others it is. */
        ASSERT_FALSE(tell(g, "a", "guess 8", false, 0));
        ASSERT_FALSE(tell(g, "a", "right", true, 0));
        ASSERT_FALSE(tell(g, "a", "right", true, 5));
        ASSERT_TRUE(tell(g, "somebody else", "right", true, 0));
        ASSERT_TRUE(tell(g, "somebody else", "wrong", false, 0));
        /* One in six seconds, however often it is tried. */
        ASSERT_TRUE(tell(g, "a", "right", true, 7));
        ASSERT_TRUE(tell(g, "a", "guess 9", false, 7));
        ASSERT_FALSE(tell(g, "a", "guess 10", false, 11));
        ASSERT_TRUE(tell(g, "a", "guess 10", false, 13));
        ASSERT_FALSE(tell(g, "a", "guess 11", false, 13));
        /* And all of them after a minute. */
        for (unsigned i = 0; i < 10; i++) {
                (void) snprintf(key, sizeof(key), "later %u", i);
                ASSERT_TRUE(tell(g, "a", key, false, 80));
        }
        ASSERT_FALSE(tell(g, "a", "later 10", false, 80));
}

TEST(noted_cookies) {
        _cleanup_(key_guesses_freep) KeyGuesses *g = NULL;
        char cookie[16];

        ASSERT_OK(key_guesses_new(&g));
        ASSERT_FALSE(key_guesses_is_noted(g, "c"));
        key_guesses_note(g, "c");
        key_guesses_note(g, "c");
        ASSERT_TRUE(key_guesses_is_noted(g, "c"));
        ASSERT_FALSE(key_guesses_is_noted(g, "d"));
        for (unsigned i = 0; i < 64; i++) {
                ASSERT_TRUE(key_guesses_is_noted(g, "c"));
                (void) snprintf(cookie, sizeof(cookie), "cookie %u", i);
                key_guesses_note(g, cookie);
        }
        ASSERT_FALSE(key_guesses_is_noted(g, "c"));
        ASSERT_TRUE(key_guesses_is_noted(g, "cookie 0"));
}

/* Who may not be told gets one answer, whatever he has shown; who shows nothing is told so. */
static bool may_not_tell(const char *shown, bool cookie, bool right, void *userdata) {
        return false;
}

TEST(guessers) {
        static const struct { GuardRequest q; unsigned status; } t[] = {
                { { GOOD, KEY }, 429 }, { { GOOD, .authorization = "Bearer k", .n_authorization = 1 }, 429 },
                { { GOOD, PAGE }, 429 }, { { GOOD, PAGE, .now_seconds = 2000 }, 429 },
                { { GOOD, PAGE, .cookie = "x=1; " PAGE_COOKIE "=guess" }, 429 },
                { { GOOD }, 401 }, { { GOOD, PAGE, .cookie = "other=1" }, 401 },
                { { GOOD, PAGE, .n_fetch_site = 0 }, 401 },
        };
        ApiKeys keys = {};

        ASSERT_OK(api_keys_add(&keys, "k1, k2"));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_api_error_ ApiError e = {};
                RouteMatch match = {};

                ASSERT_EQ(guard_check(&(GuardPolicy) { .port = 7011, .keys = &keys, .may_tell = may_not_tell }, &t[i].q,
                                      &match, &e), -EBADMSG);
                ASSERT_EQ(e.status, t[i].status);
        }
        api_keys_done(&keys);
}

TEST(route_find) {
        static const struct {
                const char *method, *path;
                Route route;
                const char *argument;
        } t[] = {
                { "POST", "/v1/responses", ROUTE_RESPONSE_CREATE, "" },
                { "GET", "/v1/responses/resp_1", ROUTE_RESPONSE_GET, "resp_1" },
                { "DELETE", "/v1/responses/resp_1", ROUTE_RESPONSE_DELETE, "resp_1" },
                { "POST", "/v1/responses/resp_1/cancel", ROUTE_RESPONSE_CANCEL, "resp_1" },
                { "GET", "/v1/responses/resp_1/input_items", ROUTE_RESPONSE_INPUT_ITEMS, "resp_1" },
                { "GET", "/v1/models", ROUTE_MODELS, "" },
                { "GET", "/v1/models/engineer_alice", ROUTE_MODEL, "engineer_alice" },
                { "POST", "/hire", ROUTE_HIRE, "" },
                { "POST", "/v1/chat/completions", ROUTE_CHAT_COMPLETIONS, "" },
                { "GET", "/agents", ROUTE_AGENTS, "" },
                { "GET", "/agents/events", ROUTE_AGENT_EVENTS, "" },
                { "GET", "/agents/bot-9a7c/messages", ROUTE_AGENT_MESSAGES, "bot-9a7c" },
                { "POST", "/agents/bot-9a7c/interrupt", ROUTE_AGENT_INTERRUPT, "bot-9a7c" },
                { "GET", "/approvals", ROUTE_APPROVALS, "" },
                { "POST", "/approvals/bot:a1", ROUTE_APPROVAL_ANSWER, "bot:a1" },
                { "POST", "/approvals/bot%3Aa1", ROUTE_APPROVAL_ANSWER, "bot:a1" },
                { "POST", "/approvals/a%2f..%2Fb%zz%4", ROUTE_APPROVAL_ANSWER, "a/../b%zz%4" },
                { "POST", "/session", ROUTE_SESSION_OPEN, "" },
                { "DELETE", "/session", ROUTE_SESSION_CLOSE, "" },
                { "GET", "/healthz", ROUTE_HEALTH, "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_api_error_ ApiError e = {};
                RouteMatch match = {};

                ASSERT_OK(route_find(t[i].method, t[i].path, false, &match, &e));
                ASSERT_EQ(match.route, t[i].route);
                ASSERT_STREQ(match.argument, t[i].argument);
        }
}

TEST(route_find_none) {
        static const char *const paths[] = {
                "", "/agents/", "/agents//messages", "/agents/a/b/messages", "/approvals/a%00b", "/approvals/",
                "/agents/events/", "/session/x",
        };

        for (size_t i = 0; i < ELEMENTSOF(paths); i++) {
                _cleanup_api_error_ ApiError e = {};
                RouteMatch match = {};

                ASSERT_ERROR(route_find("POST", paths[i], false, &match, &e), EBADMSG);
                if (e.status != 404)
                        fail_msg("'%s': %u", paths[i], e.status);
        }
}

TEST(api_error_format) {
        static const struct {
                unsigned status;
                const char *type;
        } t[] = {
                { 400, "invalid_request_error" }, { 401, "invalid_request_error" }, { 409, "invalid_request_error" },
                { 429, "rate_limit_error" }, { 500, "server_error" }, { 504, "server_error" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(strbuf_done) StrBuf b = {};
                _cleanup_api_error_ ApiError e = {};
                _cleanup_free_ char *expected = NULL;

                ASSERT_ERROR(api_error_set(&e, t[i].status, "c", NULL, "a \"%s\"", "b"), EBADMSG);
                ASSERT_OK(api_error_format(&e, &b));
                expected = asprintf_new("{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"%s\",\"param\":null,"
                        "\"code\":\"c\"}}",
                                        t[i].type);
                ASSERT_STREQ(b.text, expected);
        }
}

TEST(api_keys) {
        static const struct {
                const char *header;
                ApiKeyVerdict verdict;
        } t[] = {
                { NULL, API_KEY_MISSING }, { "", API_KEY_MISSING }, { "Bearer", API_KEY_MISSING }, { "Bearer ",
                  API_KEY_MISSING },
                { "Bearer   \t", API_KEY_MISSING }, { "Bearerone", API_KEY_MISSING }, { "Token one", API_KEY_MISSING },
                { "Bearer one", API_KEY_OK }, { "bearer two words", API_KEY_OK }, { "Bearer three", API_KEY_OK },
                { "Bearer\tone", API_KEY_OK }, { "Bearer one,", API_KEY_WRONG }, { "Bearer ONE", API_KEY_WRONG },
                { "Bearer on", API_KEY_WRONG }, { "Bearer one,two words", API_KEY_WRONG },
        };
        ApiKeys keys = {};

        ASSERT_OK(api_keys_add(&keys, " one ,,two words,\n"));
        ASSERT_OK(api_keys_add(&keys, "three\n"));
        ASSERT_OK(api_keys_add(&keys, " , \n"));
        ASSERT_EQ(keys.n, 3);
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (api_keys_check(&keys, t[i].header) != t[i].verdict)
                        fail_msg("'%s'", strempty(t[i].header));
        api_keys_done(&keys);
}

/* A cookie as agent-proxy §12 says it, made with another program:
 * printf 'agent-proxy cookie\0%s' 2000 | openssl dgst -sha256 -hmac one -binary | basenc --base64url */
#define COOKIE "2000.lFQCZAypwmln-klOaVDFCI9NNSeppyp5mT9WKf81fbI"

TEST(api_keys_cookie) {
        static const struct {
                const char *header;
                uint64_t now;
                bool ok;
        } t[] = {
                { PAGE_COOKIE "=" COOKIE, 1000, true }, { "a=b; " PAGE_COOKIE "=" COOKIE "; c=d", 1999, true },
                { PAGE_COOKIE "=x; " PAGE_COOKIE "=" COOKIE, 1000, true }, { PAGE_COOKIE "=" COOKIE " ", 1000, true },
                { NULL, 1000, false }, { "", 1000, false }, { ";;;", 1000, false }, { PAGE_COOKIE, 1000, false },
                { PAGE_COOKIE "=", 1000, false }, { PAGE_COOKIE "=.", 1000, false },
                { PAGE_COOKIE "=" COOKIE, 2000, false }, { PAGE_COOKIE "=" COOKIE "A", 1000, false },
                { "x" PAGE_COOKIE "=" COOKIE, 1000, false }, { PAGE_COOKIE "=1" COOKIE, 1000, false },
                { PAGE_COOKIE "=0" COOKIE, 1000, false }, { PAGE_COOKIE "=+" COOKIE, 1000, false },
                { "AGENT_PROXY=" COOKIE, 1000, false },
        };
        static const char *const wrong[] = { "", " ", "on", "one,two" };
        _cleanup_free_ char *cookie = NULL, *header = NULL;
        ApiKeys keys = {}, others = {};

        ASSERT_OK(api_keys_add(&keys, "two,one"));
        ASSERT_OK(api_keys_add(&others, "two,One"));
        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (api_keys_check_cookie(&keys, t[i].header, t[i].now) != t[i].ok)
                        fail_msg("'%s'", strempty(t[i].header));
        ASSERT_OK(api_keys_make_cookie(&keys, " one\n", 2000, &cookie));
        ASSERT_STREQ(cookie, COOKIE);
        header = strjoin(PAGE_COOKIE "=", cookie);
        ASSERT_FALSE(api_keys_check_cookie(&others, header, 1000));
        for (char *c = header + strlen(PAGE_COOKIE "="); *c; c++) {
                *c ^= 1;
                ASSERT_FALSE(api_keys_check_cookie(&keys, header, 1000));
                *c ^= 1;
        }
        ASSERT_TRUE(api_keys_check_cookie(&keys, header, 1000));
        cookie = mfree(cookie);
        for (size_t i = 0; i < ELEMENTSOF(wrong); i++)
                ASSERT_ERROR(api_keys_make_cookie(&keys, wrong[i], 1, &cookie), EKEYREJECTED);
        api_keys_done(&keys);
        api_keys_done(&others);
        ASSERT_FALSE(api_keys_check_cookie(&keys, header, 1000));
}

TEST_MAIN();
