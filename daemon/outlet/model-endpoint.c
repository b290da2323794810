/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <stdio.h>
#include <strings.h>
#include <sys/queue.h>

#include "http-server.h"
#include "http-util.h"
#include "log.h"
#include "model-endpoint.h"
#include "string-util.h"

#define BODY_MAX MIB(32)
#define BODY_HIGH KIB(64)
#define BODY_LOW KIB(16)
#define CONNECTIONS_MAX 64U
/* A model may think for long before it says anything, and a client may be busy with what it got. */
#define IDLE_TIMEOUT_SECONDS 900U

typedef struct EndpointCall EndpointCall;
LIST_HEAD(EndpointCallList, EndpointCall);

struct ModelEndpoint {
        EndpointSpec spec;
        HttpServer *server;
        ModelProvider provider;
        char *base_url, *api_key, *ca_file, *token, *fault;
        struct EndpointCallList calls;
        uint64_t last_id;
};

/* One request of a client, and ours to the provider. */
struct EndpointCall {
        ModelEndpoint *endpoint;
        HttpExchange *x;                /* borrowed */
        uint64_t id;
        ModelRoute route;
        char *url;
        char **headers;                 /* for the provider; the key among them */
        HttpRequest *q;                 /* NULL before and after */
        UsageMeter *meter;
        StrBuf body;                    /* what came and has not gone */
        size_t body_size;
        bool body_full, body_done;      /* full: the client waits for us */
        bool sent, begun, metered;      /* sent: the provider has all of the request */
        LIST_ENTRY(EndpointCall) calls;
};

static void secret_free(char *s) {
        if (s)
                sodium_memzero(s, strlen(s));
        free(s);
}

static char** secrets_free(char **l) {
        for (char **s = l; s && *s; s++)
                sodium_memzero(*s, strlen(*s));
        return strv_free(l);
}

/* ---- usage ---- */

/* Once, for each call that the provider may have charged for. */
static void call_meter_finish(EndpointCall *c, unsigned status, bool complete) {
        _cleanup_(metered_usage_done) MeteredUsage u = {};
        int r = 0;

        if (c->metered || c->route.kind != ROUTE_CALL)
                return;
        c->metered = true;
        if (c->meter)
                r = usage_meter_finish(c->meter, complete, &u);
        else {
                u.model = strdup(strempty(c->route.model));
                r = u.model ? 0 : -ENOMEM;
        }
        if (r < 0)
                (void) log_oom();
        else
                c->endpoint->spec.on_usage(status, &u, c->endpoint->spec.userdata);
}

static int call_meter_begin(EndpointCall *c, const char *content_type) {
        if (c->route.kind != ROUTE_CALL || c->meter)
                return 0;
        return usage_meter_new(&c->meter, c->route.dialect, content_type, c->route.model, c->body_size);
}

/* ---- answers of our own ---- */

static void reply_error(ModelEndpoint *e, HttpExchange *x, unsigned status, const char *message,
                        uint64_t retry_after_seconds) {
        _cleanup_free_ char *body = NULL;
        char seconds[24];
        size_t size;
        int r;

        r = model_error_format(e->provider, status, message, retry_after_seconds, &body, &size);
        if (r >= 0 && retry_after_seconds > 0) {
                (void) snprintf(seconds, sizeof(seconds), "%" PRIu64, retry_after_seconds);
                r = http_exchange_add_header(x, "Retry-After", seconds);
                /* The vendors' clients would wait for all of that time, in silence. */
                if (r >= 0)
                        r = http_exchange_add_header(x, "X-Should-Retry", "false");
        }
        if (r >= 0)
                r = http_exchange_reply(x, status, "application/json", body, size);
        if (r < 0 && r != -EPIPE)
                http_exchange_abort(x);
}

static void call_fail(EndpointCall *c, const HttpReply *reply) {
        static const struct { unsigned status; const char *message; } failures[] = {
                [HTTP_OK] = { 502, "The model provider gave no answer." },
                [HTTP_FAILED_CONNECT] = { 502, "The model provider could not be reached." },
                [HTTP_FAILED_TLS] = { 502, "There is no trustworthy TLS connection to the model provider." },
                [HTTP_FAILED_TIMEOUT] = { 504, "The model provider did not answer in time." },
                [HTTP_FAILED_CUT] = { 502, "The connection to the model provider broke off." },
                [HTTP_FAILED_TOO_LARGE] = { 502, "The model provider's answer is too large." },
                [HTTP_FAILED_PROTOCOL] = { 502, "What answers at the model provider's address is not HTTP." },
                [HTTP_FAILED_MEMORY] = { 503, "Out of memory." },
        };

        log_warning("The model endpoint's request failed: %s", strempty(reply->error));
        reply_error(c->endpoint, c->x, failures[reply->failure].status, failures[reply->failure].message, 0);
}

/* ---- the provider's side ---- */

static bool name_is_one_of(const char *name, const char *const *names, size_t n) {
        for (size_t i = 0; i < n; i++)
                if (strcasecmp(name, names[i]) == 0)
                        return true;
        return false;
}

/* Hop by hop (RFC 9110 §7.6.1), or made by us. What "Connection" names goes, too. */
static bool is_hop_header(const char *name, const char *connection) {
        static const char *const hop[] = {
                "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te",
                "trailer", "transfer-encoding", "upgrade", "content-length",
        };
        size_t n = strlen(name);

        if (name_is_one_of(name, hop, ELEMENTSOF(hop)))
                return true;
        for (const char *p = strempty(connection); *(p += strspn(p, " \t,")); ) {
                size_t length = strcspn(p, " \t,");

                if (length == n && strncasecmp(p, name, n) == 0)
                        return true;
                p += length;
        }
        return false;
}

static int answer_header(const char *name, const char *value, void *userdata) {
        static const char *const ours[] = { "content-type", "content-encoding", "date", "set-cookie", "alt-svc",
                                            "strict-transport-security" };
        EndpointCall *c = userdata;
        int r;

        if (is_hop_header(name, http_request_header(c->q, "connection")) ||
            name_is_one_of(name, ours, ELEMENTSOF(ours)))
                return 0;
        r = http_exchange_add_header(c->x, name, value);
        return r == -EINVAL ? 0 : r;    /* what cannot be passed on is not worth the answer */
}

static int answer_begin(EndpointCall *c) {
        unsigned status = (unsigned) http_request_status(c->q);
        const char *type = http_request_header(c->q, "content-type");
        int r = 0;

        if (status / 100 == 2)
                r = call_meter_begin(c, type);
        if (r >= 0)
                r = http_request_each_header(c->q, answer_header, c);
        if (r >= 0)
                r = http_exchange_stream_begin(c->x, status, type && http_value_is_valid(type) ? type : NULL);
        c->begun = r >= 0;
        return r;
}

static int on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        EndpointCall *c = userdata;
        int r = 0;

        if (!c->begun)
                r = answer_begin(c);
        if (r < 0)
                return r;
        r = http_exchange_stream_write(c->x, data, size);
        if (r == 0)
                http_request_pause(q, true);
        if (c->meter)
                usage_meter_feed(c->meter, data, size);
        return MIN(r, 0);
}

static ssize_t on_send(HttpRequest *q, char *buffer, size_t size, void *userdata) {
        EndpointCall *c = userdata;
        size_t n = MIN(size, c->body.size);

        if (n == 0) {
                if (!c->body_done)
                        return -EAGAIN;
                c->sent = true;
                return 0;
        }
        memcpy(buffer, c->body.text, n);
        strbuf_consume(&c->body, n);
        c->sent = c->body_done && c->body.size == 0;
        if (c->body_full && c->body.size <= BODY_LOW) {
                c->body_full = false;
                http_exchange_continue_body(c->x);
        }
        return (ssize_t) n;
}

static void on_done(HttpRequest *q, const HttpReply *reply, void *userdata) {
        EndpointCall *c = userdata;
        unsigned status = (unsigned) MAX(reply->status, 0);
        bool ok = reply->failure == HTTP_OK;

        if (!c->begun && ok) {
                /* Without a body. */
                if (http_request_each_header(q, answer_header, c) < 0 ||
                    http_exchange_reply(c->x, status, NULL, "", 0) < 0)
                        http_exchange_abort(c->x);
        } else if (!c->begun)
                call_fail(c, reply);
        else if (ok)
                http_exchange_stream_end(c->x);
        else {
                log_warning("The answer of the model provider broke off: %s", strempty(reply->error));
                http_exchange_stream_break(c->x);
        }
        call_meter_finish(c, c->begun || ok ? status : 0, ok);
        c->q = http_request_free(c->q);
}

static int client_header(const char *name, const char *value, void *userdata) {
        /* Ours, the client's credential, and what the answer's form depends on. */
        static const char *const dropped[] = {
                "host", "authorization", "x-api-key", "x-goog-api-key", "cookie", "expect", "accept-encoding",
                "forwarded", "x-forwarded-for", "x-real-ip",
        };
        EndpointCall *c = userdata;
        _cleanup_free_ char *line = NULL;

        if (is_hop_header(name, http_exchange_header(c->x, "Connection")) ||
            name_is_one_of(name, dropped, ELEMENTSOF(dropped)))
                return 0;
        if (!http_token_is_valid(name, strlen(name)) || !http_value_is_valid(value))
                return -EINVAL;
        line = strjoin(name, ": ", value);
        return line ? strv_extend(&c->headers, line) : -ENOMEM;
}

/* With the configuration as of now. */
static int call_prepare(EndpointCall *c) {
        ModelEndpoint *e = c->endpoint;
        char *line = NULL;
        int r;

        r = http_exchange_each_header(c->x, client_header, c);
        if (r >= 0)
                r = model_provider_url(e->provider, e->base_url, c->route.path, &c->url);
        if (r < 0 || isempty(e->api_key))
                return r;
        line = strjoin(model_provider_key_header(e->provider), e->api_key);
        r = line ? strv_extend(&c->headers, line) : -ENOMEM;
        secret_free(line);
        return r;
}

static int call_start(EndpointCall *c) {
        ModelEndpoint *e = c->endpoint;
        bool has_body = http_exchange_body_length(c->x) > 0;

        return http_client_start(e->spec.http, &(HttpRequestSpec) {
                .method = http_exchange_method(c->x), .url = c->url, .headers = (const char *const*) c->headers,
                .on_body = has_body ? on_send : NULL, .body_size = http_exchange_body_length(c->x),
                .idle_timeout_usec = IDLE_TIMEOUT_SECONDS * USEC_PER_SEC,
                .ca_file = isempty(e->ca_file) ? NULL : e->ca_file,
                .on_data = on_data, .any_status = true, .identity = true, .on_done = on_done, .userdata = c,
        }, &c->q);
}

static void call_go(EndpointCall *c) {
        int r = call_start(c);

        if (r < 0) {
                (void) log_warning_errno(r, "Failed to start a request to the model provider: %m");
                reply_error(c->endpoint, c->x, r == -ENOMEM ? 503 : 502,
                            "The request to the model provider could not be made.", 0);
        }
}

void model_endpoint_answer(ModelEndpoint *e, uint64_t id, const char *message, uint64_t retry_after_seconds) {
        EndpointCall *c;

        LIST_FOREACH(c, &e->calls, calls) {
                if (c->id != id)
                        continue;
                c->id = 0;
                if (message)
                        reply_error(e, c->x, 429, message, MAX(retry_after_seconds, (uint64_t) 1));
                else
                        call_go(c);
                return;
        }
}

/* ---- the client's side ---- */

static EndpointCall* call_free(EndpointCall *c) {
        if (!c)
                return NULL;

        LIST_REMOVE(c, calls);
        if (c->q) {
                /* The client has hung up on an answer, or on a question that the provider has in full. */
                if (c->begun || c->sent) {
                        if (call_meter_begin(c, NULL) >= 0)
                                call_meter_finish(c, (unsigned) http_request_status(c->q), false);
                }
                c->q = http_request_free(c->q);
        }
        (void) usage_meter_free(c->meter);
        model_route_done(&c->route);
        (void) secrets_free(c->headers);
        if (c->body.text)
                sodium_memzero(c->body.text, c->body.allocated);
        strbuf_done(&c->body);
        free(c->url);
        return mfree(c);
}

static const char* given_token(HttpExchange *x) {
        static const char *const names[] = { "x-api-key", "x-goog-api-key", "Authorization" };
        const char *found = NULL;

        /* One, in one place: which of several counts is nothing to guess about. */
        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                const char *v = http_exchange_header(x, names[i]), *bearer;

                if (!v)
                        continue;
                if (http_exchange_header_count(x, names[i]) > 1)
                        return NULL;
                if (i == ELEMENTSOF(names) - 1) {
                        bearer = strncasecmp(v, "Bearer ", 7) == 0 ? v + 7 : NULL;
                        if (!bearer)
                                return NULL;
                        v = bearer;
                }
                if (found && !streq(found, v))
                        return NULL;
                found = v;
        }
        return found;
}

static bool token_is_right(const ModelEndpoint *e, HttpExchange *x) {
        const char *token = given_token(x);
        size_t n = strlen(strempty(e->token));

        return token && n > 0 && strlen(token) == n && sodium_memcmp(token, e->token, n) == 0;
}

/* > 0: answered. */
static int route_find(ModelEndpoint *e, HttpExchange *x, ModelRoute *ret) {
        int r = model_route_find(e->provider, http_exchange_method(x), http_exchange_path(x),
                                 http_exchange_raw_query(x), ret);

        switch (r) {
        case -ENOENT:
                reply_error(e, x, 404, "This is not among what the agent's model endpoint passes on.", 0);
                return 1;
        case -EOPNOTSUPP:
                /* Codex tries this first, and asks in the other way at once on this status, and on no other. */
                if (http_exchange_header(x, "Upgrade")) {
                        reply_error(e, x, 426, "WebSockets are not passed on.", 0);
                        return 1;
                }
                reply_error(e, x, 405, "The method does not fit the path.", 0);
                return 1;
        case -EINVAL:
                reply_error(e, x, 400, "The query has parameters that are not passed on.", 0);
                return 1;
        default:
                return r;
        }
}

static void on_head(HttpExchange *x, void *userdata) {
        ModelEndpoint *e = userdata;
        ModelRoute route = {};
        EndpointCall *c;
        int r;

        http_exchange_set_userdata(x, NULL);
        if (streq(http_exchange_method(x), "HEAD")) {
                r = route_find(e, x, &route);
                if (r == 0 && http_exchange_reply(x, 200, NULL, "", 0) < 0)
                        http_exchange_abort(x);
                model_route_done(&route);
                return;
        }
        if (!token_is_right(e, x)) {
                reply_error(e, x, 401, "This is not the token of the agent's model endpoint.", 0);
                return;
        }
        if (e->fault) {
                reply_error(e, x, 503, e->fault, 0);
                return;
        }
        r = route_find(e, x, &route);
        if (r != 0)
                return;

        c = new0(EndpointCall, 1);
        if (!c) {
                model_route_done(&route);
                reply_error(e, x, 503, "Out of memory.", 0);
                return;
        }
        *c = (EndpointCall) { .endpoint = e, .x = x, .route = route };
        LIST_INSERT_HEAD(&e->calls, c, calls);
        http_exchange_set_userdata(x, c);
        http_exchange_stream_body(x);
        r = call_prepare(c);
        if (r < 0) {
                reply_error(e, x, r == -ENOMEM ? 503 : 400, "The request cannot be passed on.", 0);
                return;
        }
        if (route.kind != ROUTE_CALL) {
                call_go(c);
                return;
        }
        c->id = ++e->last_id;
        r = e->spec.on_ask(c->id, e->spec.userdata);
        if (r < 0) {
                c->id = 0;
                reply_error(e, x, 503, "The agent cannot be asked for its budget.", 0);
        }
}

static size_t on_body(HttpExchange *x, const char *data, size_t size, void *userdata) {
        EndpointCall *c = http_exchange_userdata(x);
        size_t n = MIN(size, BODY_HIGH - c->body.size);

        if (strbuf_append(&c->body, data, n) < 0) {
                http_exchange_abort(x);
                return size;
        }
        c->body_size += n;
        c->body_full = n < size;
        if (c->q)
                http_request_continue(c->q);
        return n;
}

static void on_request(HttpExchange *x, void *userdata) {
        EndpointCall *c = http_exchange_userdata(x);

        c->body_done = true;
        if (c->q)
                http_request_continue(c->q);
}

static void on_oversize(HttpExchange *x, void *userdata) {
        EndpointCall *c = http_exchange_userdata(x);

        if (c) {
                c->id = 0;
                c->q = http_request_free(c->q);
        }
        reply_error(userdata, x, 413, "The request is larger than 32 MiB.", 0);
}

static void on_malformed(HttpExchange *x, unsigned status, void *userdata) {
        http_exchange_set_userdata(x, NULL);
        reply_error(userdata, x, status, "The head of the request is broken.", 0);
}

static void on_end(HttpExchange *x, bool client_gone, void *userdata) {
        (void) call_free(http_exchange_userdata(x));
}

static void on_writable(HttpExchange *x, void *userdata) {
        EndpointCall *c = http_exchange_userdata(x);

        if (c && c->q)
                http_request_pause(c->q, false);
}

/* ---- the endpoint ---- */

int model_endpoint_new(ModelEndpoint **ret, const EndpointSpec *spec) {
        _cleanup_(model_endpoint_freep) ModelEndpoint *e = new0(ModelEndpoint, 1);
        int r;

        if (!e) {
                (void) safe_close(spec->listen_fd);
                return -ENOMEM;
        }
        e->spec = *spec;
        e->provider = MODEL_ANTHROPIC;
        r = http_server_new(&e->server, spec->event, spec->listen_fd, &(HttpServerSpec) {
                .on_head = on_head, .on_malformed = on_malformed, .on_request = on_request, .on_body = on_body,
                .on_end = on_end, .on_writable = on_writable, .on_oversize = on_oversize, .max_body = BODY_MAX,
                .max_connections = CONNECTIONS_MAX, .idle_timeout_seconds = IDLE_TIMEOUT_SECONDS, .userdata = e,
        });
        if (r < 0)
                return r;
        *ret = TAKE_PTR(e);
        return 0;
}

static void settings_done(ModelEndpoint *e) {
        secret_free(TAKE_PTR(e->api_key));
        secret_free(TAKE_PTR(e->token));
        e->base_url = mfree(e->base_url);
        e->ca_file = mfree(e->ca_file);
        e->fault = mfree(e->fault);
}

ModelEndpoint* model_endpoint_free(ModelEndpoint *e) {
        if (!e)
                return NULL;

        if (e->server) {
                /* Or the listening socket, which is not ours alone, would be shut down. */
                (void) http_server_quiesce(e->server);
                (void) http_server_free(e->server);
        }
        settings_done(e);
        return mfree(e);
}

int model_endpoint_configure(ModelEndpoint *e, const EndpointSettings *s) {
        if (!model_provider_key_header(s->provider) || !http_value_is_valid(s->api_key) ||
            !http_value_is_valid(s->token))
                return -EINVAL;

        settings_done(e);
        e->provider = s->provider;
        e->base_url = strdup(s->base_url);
        e->api_key = strdup(s->api_key);
        e->ca_file = strdup(s->ca_file);
        e->fault = s->fault ? strdup(s->fault) : NULL;
        if (!e->base_url || !e->api_key || !e->ca_file || (s->fault && !e->fault))
                return -ENOMEM;         /* without a token: nobody gets in */
        e->token = strdup(s->token);
        return e->token ? 0 : -ENOMEM;
}

unsigned model_endpoint_n_requests(const ModelEndpoint *e) {
        return http_server_n_exchanges(e->server);
}

void model_endpoint_quiesce(ModelEndpoint *e) {
        (void) http_server_quiesce(e->server);
}
