/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "model-route.h"
#include "outlet-wire.h"
#include "tests.h"

TEST(routes) {
        static const struct {
                ModelProvider provider;
                const char *method, *path, *query;
                int result;
                ModelRouteKind kind;
                const char *below, *model;
        } t[] = {
                { MODEL_ANTHROPIC, "POST", "/v1/messages", NULL, 0, ROUTE_CALL, "/messages", NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "beta=true", 0, ROUTE_CALL, "/messages?beta=true", NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "", 0, ROUTE_CALL, "/messages", NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages/count_tokens", "beta=true", 0, ROUTE_FREE,
                  "/messages/count_tokens?beta=true", NULL },
                { MODEL_ANTHROPIC, "GET", "/v1/models", "limit=5&after_id=claude-x", 0, ROUTE_FREE,
                  "/models?limit=5&after_id=claude-x", NULL },
                { MODEL_ANTHROPIC, "HEAD", "/api/hello", NULL, 0, ROUTE_HELLO, "/api/hello", NULL },
                { MODEL_ANTHROPIC, "DELETE", "/v1/messages", NULL, -EOPNOTSUPP, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "post", "/v1/messages", NULL, -EOPNOTSUPP, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "beta=true&key=1", -EINVAL, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "bet=1", -EINVAL, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "beta=tr%75e", -EINVAL, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "beta=a b", -EINVAL, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages", "&", -EINVAL, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages/batches", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/Messages", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/messages/../files", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "/v1/responses", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_ANTHROPIC, "POST", "", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_OPENAI, "POST", "/v1/responses", NULL, 0, ROUTE_CALL, "/responses", NULL },
                { MODEL_OPENAI, "POST", "/v1/chat/completions", NULL, 0, ROUTE_CALL, "/chat/completions", NULL },
                { MODEL_OPENAI, "GET", "/v1/models", NULL, 0, ROUTE_FREE, "/models", NULL },
                { MODEL_OPENAI, "GET", "/v1/files", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_OPENAI, "GET", "/v1/responses", NULL, -EOPNOTSUPP, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/gemini-2.5-pro:generateContent", NULL, 0, ROUTE_CALL,
                  "/models/gemini-2.5-pro:generateContent", "gemini-2.5-pro" },
                { MODEL_GOOGLE, "POST", "/v1beta/models/gemini-2.5-pro:streamGenerateContent", "alt=sse", 0,
                  ROUTE_CALL, "/models/gemini-2.5-pro:streamGenerateContent?alt=sse", "gemini-2.5-pro" },
                { MODEL_GOOGLE, "POST", "/v1beta/models/x:countTokens", NULL, 0, ROUTE_FREE, "/models/x:countTokens",
                  "x" },
                { MODEL_GOOGLE, "GET", "/v1beta/models", NULL, 0, ROUTE_FREE, "/models", NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/x:generateContent", "key=1", -EINVAL, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/x:embedContent", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/:generateContent", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/../x:generateContent", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/..:generateContent", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/models/a%2fb:generateContent", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_GOOGLE, "POST", "/v1beta/tunedModels/x:generateContent", NULL, -ENOENT, 0, NULL, NULL },
                { MODEL_ECHO, "POST", "/v1/messages", NULL, -ENOENT, 0, NULL, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(model_route_done) ModelRoute r = {};
                int k = model_route_find(t[i].provider, t[i].method, t[i].path, t[i].query, &r);

                if (k != t[i].result)
                        fail_msg("%s %s?%s: %d", t[i].method, t[i].path, strempty(t[i].query), k);
                if (k < 0)
                        continue;
                ASSERT_EQ(r.kind, t[i].kind);
                ASSERT_STREQ(r.path, t[i].below);
                ASSERT_TRUE(streq_ptr(r.model, t[i].model));
        }
}

TEST(urls) {
        static const struct { ModelProvider provider; const char *base, *path, *url; } t[] = {
                { MODEL_ANTHROPIC, "https://a.example", "/messages?beta=true",
                  "https://a.example/v1/messages?beta=true" },
                { MODEL_ANTHROPIC, "https://a.example/x/v1/", "/messages", "https://a.example/x/v1/messages" },
                { MODEL_OPENAI, "http://localhost:11434", "/responses", "http://localhost:11434/v1/responses" },
                { MODEL_OPENAI, "http://localhost:11434/v1", "/responses", "http://localhost:11434/v1/responses" },
                { MODEL_OPENAI, "https://o.example/openai", "/models", "https://o.example/openai/models" },
                { MODEL_GOOGLE, "https://g.example/", "/models/x:countTokens",
                  "https://g.example/v1beta/models/x:countTokens" },
                { MODEL_GOOGLE, "https://g.example/v1", "/models", "https://g.example/v1/models" },
        };
        char *url = NULL;

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ASSERT_OK(model_provider_url(t[i].provider, t[i].base, t[i].path, &url));
                ASSERT_STREQ(url, t[i].url);
                url = mfree(url);
        }
        ASSERT_ERROR(model_provider_url(MODEL_ECHO, "https://a.example", "/x", &url), EINVAL);
        ASSERT_ERROR(model_provider_url(MODEL_OPENAI, "https://a.example?x=1", "/x", &url), EINVAL);
}

TEST(errors) {
        static const struct { ModelProvider provider; unsigned status; uint64_t retry; const char *text; } t[] = {
                { MODEL_ANTHROPIC, 429, 5,
                  "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"rate_limit_error\"},\"type\":\"error\"}" },
                { MODEL_OPENAI, 401, 0, "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"invalid_request_error\","
                  "\"param\":null,\"code\":\"invalid_api_key\"}}" },
                { MODEL_GOOGLE, 429, 5, "{\"error\":{\"message\":\"a \\\"b\\\"\",\"code\":429,\"status\":"
                  "\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\","
                  "\"retryDelay\":\"5s\"}]}}" },
                { MODEL_ANTHROPIC, 599, 0, "{\"error\":{\"message\":\"a \\\"b\\\"\",\"type\":\"api_error\"},\"type\":"
                  "\"error\"}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *a = NULL, *b = NULL;
                _cleanup_free_ char *text = NULL;
                size_t size;

                ASSERT_OK(model_error_format(t[i].provider, t[i].status, "a \"b\"", t[i].retry, &text, &size));
                ASSERT_OK(json_parse(text, size, &a));
                ASSERT_OK(json_parse(t[i].text, strlen(t[i].text), &b));
                if (!json_object_equal(a, b))
                        fail_msg("%s", text);
        }
}

TEST(orders) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_(outlet_order_done) OutletOrder o = {};
        char *hosts[] = { (char*) "example.org", (char*) "*.example.net:8443", NULL };
        OutletSettings s = { .agent = "rob", .provider = "anthropic", .base_url = "https://a/\"b\"", .ca_file = "",
                             .api_key = "k\xc3\xa4y", .token = "tok", .allow_hosts = hosts, .idle_usec = 5 };
        const char *end;

        ASSERT_OK(outlet_settings_format(&b, &s));
        end = strchr(b.text, '\n');
        ASSERT_STREQ(end, "\nk\xc3\xa4y\ntok\n");
        ASSERT_OK(outlet_order_parse(&o, b.text, (size_t) (end - b.text)));
        ASSERT_TRUE(o.is_settings);
        ASSERT_STREQ(o.settings.base_url, s.base_url);
        ASSERT_STREQ(o.settings.agent, "rob");
        ASSERT_NULL(o.settings.fault);
        ASSERT_STREQ(o.settings.allow_hosts[1], hosts[1]);
        ASSERT_EQ(o.settings.idle_usec, 5);
        outlet_order_done(&o);

        s.token = "two\nlines";
        ASSERT_ERROR(outlet_settings_format(&b, &s), EINVAL);

        b.size = 0;
        ASSERT_OK(outlet_answer_format(&b, 7, "no", 60));
        ASSERT_OK(outlet_order_parse(&o, b.text, b.size));
        ASSERT_FALSE(o.is_settings);
        ASSERT_EQ(o.id, 7);
        ASSERT_STREQ(o.message, "no");
        ASSERT_EQ(o.retry_after_seconds, 60);
}

TEST(reports) {
        static const char *const broken[] = { "", "{", "5", "{}", "{\"ask\":0}", "{\"ask\":-1}", "{\"usage\":{}}",
                                              "{\"usage\":5}", "null" };
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_(outlet_report_done) OutletReport r = {};
        const OutletReport usage = { .model = "m\"", .status = 200, .estimated = true, .usage = { 1, 2, 3, 4, 5 } };

        ASSERT_OK(outlet_usage_format(&b, &usage));
        ASSERT_OK(outlet_report_parse(&r, b.text, b.size));
        ASSERT_TRUE(r.is_usage && r.estimated);
        ASSERT_STREQ(r.model, "m\"");
        ASSERT_EQ(r.status, 200);
        ASSERT_EQ(memcmp(&r.usage, &usage.usage, sizeof(r.usage)), 0);
        outlet_report_done(&r);

        b.size = 0;
        ASSERT_OK(outlet_ask_format(&b, UINT32_MAX));
        ASSERT_OK(outlet_report_parse(&r, b.text, b.size));
        ASSERT_EQ(r.id, UINT32_MAX);
        for (size_t i = 0; i < ELEMENTSOF(broken); i++) {
                OutletReport none = {};

                ASSERT_TRUE(outlet_report_parse(&none, broken[i], strlen(broken[i])) < 0);
        }
}

#define TEST_SUITE "model-route"
TEST_MAIN();
