/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "json-util.h"
#include "model-route.h"
#include "string-util.h"

#define QUERY_SIZE_MAX 1024U
#define MODEL_SIZE_MAX 128U

static const struct Route {
        ModelProvider provider;
        const char *method, *version, *path;    /* '*': the name of a model */
        ModelRouteKind kind;
        UsageDialect dialect;
        const char *queries[4];                 /* names of parameters that may be there */
} routes[] = {
        { MODEL_ANTHROPIC, "POST", "/v1", "/messages", ROUTE_CALL, USAGE_ANTHROPIC, { "beta" } },
        { MODEL_ANTHROPIC, "POST", "/v1", "/messages/count_tokens", ROUTE_FREE, USAGE_ANTHROPIC, { "beta" } },
        { MODEL_ANTHROPIC, "GET", "/v1", "/models", ROUTE_FREE, USAGE_ANTHROPIC,
          { "beta", "limit", "after_id", "before_id" } },
        { MODEL_ANTHROPIC, "HEAD", "", "/api/hello", ROUTE_HELLO, USAGE_ANTHROPIC, {} },
        { MODEL_OPENAI, "POST", "/v1", "/responses", ROUTE_CALL, USAGE_OPENAI_RESPONSES, {} },
        { MODEL_OPENAI, "POST", "/v1", "/chat/completions", ROUTE_CALL, USAGE_OPENAI_CHAT, {} },
        { MODEL_OPENAI, "GET", "/v1", "/models", ROUTE_FREE, USAGE_OPENAI_CHAT, { "client_version" } },
        { MODEL_GOOGLE, "GET", "/v1beta", "/models", ROUTE_FREE, USAGE_GOOGLE, { "pageSize", "pageToken" } },
        { MODEL_GOOGLE, "POST", "/v1beta", "/models/*:generateContent", ROUTE_CALL, USAGE_GOOGLE, { "alt" } },
        { MODEL_GOOGLE, "POST", "/v1beta", "/models/*:streamGenerateContent", ROUTE_CALL, USAGE_GOOGLE, { "alt" } },
        { MODEL_GOOGLE, "POST", "/v1beta", "/models/*:countTokens", ROUTE_FREE, USAGE_GOOGLE, { "alt" } },
};

void model_route_done(ModelRoute *r) {
        free(r->path);
        free(r->model);
        *r = (ModelRoute) {};
}

static bool is_name_character(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("-._", c));
}

/* *ret_n: of the model's name in path, which begins at *ret. */
static bool path_matches(const char *pattern, const char *path, const char **ret, size_t *ret_n) {
        const char *star = strchr(pattern, '*');
        size_t n = star ? (size_t) (star - pattern) : 0, m = 0;

        if (!star)
                return streq(pattern, path);
        if (strncmp(pattern, path, n) != 0)
                return false;
        while (is_name_character(path[n + m]))
                m++;
        *ret = path + n;
        *ret_n = m;
        return m > 0 && m <= MODEL_SIZE_MAX && path[n] != '.' && streq(star + 1, path + n + m);
}

static bool parameter_is_allowed(const struct Route *route, const char *name, size_t n) {
        for (size_t i = 0; i < ELEMENTSOF(route->queries) && route->queries[i]; i++)
                if (strlen(route->queries[i]) == n && memcmp(route->queries[i], name, n) == 0)
                        return true;
        return false;
}

/* Only what needs no decoding: a provider may well decode otherwise than we. */
static bool query_is_allowed(const struct Route *route, const char *query) {
        const char *p = strempty(query);

        if (strlen(p) > QUERY_SIZE_MAX)
                return false;
        while (*p) {
                size_t n = strcspn(p, "&"), name = strcspn(p, "=&");

                if (!parameter_is_allowed(route, p, name))
                        return false;
                for (const char *v = p + name; v < p + n; v++)
                        if (!is_name_character(*v) && !strchr("=~:", *v))
                                return false;
                p += n;
                p += *p == '&';
        }
        return true;
}

static int route_take(const struct Route *route, const char *below, const char *query, const char *model, size_t n,
                      ModelRoute *ret) {
        ModelRoute r = { .kind = route->kind, .dialect = route->dialect };

        r.path = strjoin(below, isempty(query) ? "" : "?", strempty(query));
        r.model = model ? strndup(model, n) : NULL;
        if (!r.path || (model && !r.model)) {
                model_route_done(&r);
                return -ENOMEM;
        }
        *ret = r;
        return 0;
}

int model_route_find(ModelProvider provider, const char *method, const char *path, const char *query,
                     ModelRoute *ret) {
        int r = -ENOENT;

        for (const struct Route *route = routes; route < routes + ELEMENTSOF(routes); route++) {
                const char *below, *model = NULL;
                size_t n = 0;

                if (route->provider != provider)
                        continue;
                below = startswith(path, route->version);
                if (!below || !path_matches(route->path, below, &model, &n))
                        continue;
                if (!streq(route->method, method)) {
                        r = -EOPNOTSUPP;
                        continue;
                }
                if (!query_is_allowed(route, query))
                        return -EINVAL;
                return route_take(route, below, query, model, n, ret);
        }
        return r;
}

/* ---- errors ---- */

static const struct { unsigned status; const char *anthropic, *openai, *openai_code, *google; } errors[] = {
        { 400, "invalid_request_error", "invalid_request_error", NULL, "INVALID_ARGUMENT" },
        { 401, "authentication_error", "invalid_request_error", "invalid_api_key", "UNAUTHENTICATED" },
        { 403, "permission_error", "invalid_request_error", NULL, "PERMISSION_DENIED" },
        { 404, "not_found_error", "invalid_request_error", NULL, "NOT_FOUND" },
        { 405, "invalid_request_error", "invalid_request_error", NULL, "INVALID_ARGUMENT" },
        { 413, "request_too_large", "invalid_request_error", NULL, "INVALID_ARGUMENT" },
        { 429, "rate_limit_error", "rate_limit_exceeded", "rate_limit_exceeded", "RESOURCE_EXHAUSTED" },
        { 431, "invalid_request_error", "invalid_request_error", NULL, "INVALID_ARGUMENT" },
        { 503, "overloaded_error", "server_error", NULL, "UNAVAILABLE" },
        { 504, "timeout_error", "server_error", NULL, "DEADLINE_EXCEEDED" },
        { 502, "api_error", "server_error", NULL, "UNAVAILABLE" },      /* and all others */
};

static int retry_info(json_object *error, uint64_t seconds) {
        _cleanup_json_ json_object *details = json_object_new_array(), *info = json_object_new_object();
        char delay[32];
        int r;

        (void) snprintf(delay, sizeof(delay), "%" PRIu64 "s", seconds);
        if (!details || !info)
                return -ENOMEM;
        r = json_put_string(info, "@type", "type.googleapis.com/google.rpc.RetryInfo");
        if (r >= 0)
                r = json_put_string(info, "retryDelay", delay);
        if (r < 0)
                return r;
        if (json_object_array_add(details, info) < 0)
                return -ENOMEM;
        (void) TAKE_PTR(info);
        return json_put(error, "details", TAKE_PTR(details));
}

int model_error_format(ModelProvider provider, unsigned status, const char *message, uint64_t retry_after_seconds,
                       char **ret, size_t *ret_size) {
        _cleanup_json_ json_object *o = json_object_new_object(), *error = json_object_new_object();
        const char *text;
        size_t i = 0, size;
        int r;

        while (errors[i].status != status && i < ELEMENTSOF(errors) - 1)
                i++;
        if (!o || !error)
                return -ENOMEM;
        r = json_put_string(error, "message", message);
        if (provider == MODEL_GOOGLE) {
                if (r >= 0)
                        r = json_put_int(error, "code", (int64_t) status);
                if (r >= 0)
                        r = json_put_string(error, "status", errors[i].google);
                if (r >= 0 && retry_after_seconds > 0)
                        r = retry_info(error, retry_after_seconds);
        } else if (provider == MODEL_OPENAI) {
                if (r >= 0)
                        r = json_put_string(error, "type", errors[i].openai);
                if (r >= 0)
                        r = json_put_null(error, "param");
                if (r >= 0)
                        r = json_put_string(error, "code", errors[i].openai_code);
        } else {
                if (r >= 0)
                        r = json_put_string(error, "type", errors[i].anthropic);
                if (r >= 0)
                        r = json_put_string(o, "type", "error");
        }
        if (r >= 0)
                r = json_put(o, "error", TAKE_PTR(error));
        if (r < 0)
                return r;
        text = json_text(o, &size);
        *ret = text ? memdup0(text, size) : NULL;
        *ret_size = size;
        return *ret ? 0 : -ENOMEM;
}
