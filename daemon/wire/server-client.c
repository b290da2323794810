/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <stdio.h>

#include "event-util.h"
#include "http-util.h"
#include "request-signing.h"
#include "server-client-internal.h"

#define CALL_TIMEOUT_USEC (60 * USEC_PER_SEC)
#define STALL_TIMEOUT_USEC (30 * USEC_PER_SEC)
#define ERROR_TEXT_MAX 300U
/* server-api §14: how often an idempotent call is repeated when the server asks for patience, and for how long. */
#define PATIENCE_TRIES 3U
#define PATIENCE_MIN_USEC USEC_PER_SEC
#define PATIENCE_MAX_USEC (60 * USEC_PER_SEC)
/* server-api §10.2 */
#define NOT_THERE_TRIES 3U
#define NOT_THERE_PAUSE_USEC (5 * USEC_PER_SEC)
/* A clock that is off by more than this is named as the likely reason of a refusal (wire-protocol §17.22). */
#define CLOCK_SKEW_NAMED_MS ((int64_t) 120000)

struct ServerCall {
        ServerClient *client;           /* NULL once it is over */
        CallSpec spec;                  /* its texts are ours */
        char *method, *path, *content_type, *signer_id;
        void *body;
        HttpRequest *request;
        SubkeyWait *wait;
        sd_event_source *timer;
        unsigned patience, not_there;
        bool refused;                   /* a 401 was answered with a new subkey already */
        LIST_ENTRY(ServerCall) calls;
};

bool call_reply_is_transient(const CallReply *r) {
        return r->failure == CALL_NETWORK || (r->failure == CALL_STATUS && (r->status == 429 || r->status >= 500));
}

int path_append(StrBuf *path, const char *text) {
        bool dots = text[strspn(text, ".")] == 0;
        int r = 0;

        for (const unsigned char *p = (const unsigned char*) text; *p && r >= 0; p++)
                if (isascii(*p) && (isalnum(*p) || strchr("-_~:@,", *p) || (*p == '.' && !dots)))
                        r = strbuf_append(path, (const char*) p, 1);
                else
                        r = strbuf_printf(path, "%%%02X", *p);
        return r;
}

/* --- one exchange --- */

static int format_headers(ServerClient *c, const CallSpec *spec, const Signer *signer, char ***ret) {
        _cleanup_(strv_freep) char **headers = NULL;
        _cleanup_free_ char *signature = NULL;
        char nonce[NONCE_TEXT_SIZE], timestamp[32];
        SignedRequest q = {
                .method = spec->method, .path = spec->path, .timestamp = timestamp, .nonce = nonce,
                .body = spec->body, .body_size = spec->body_size,
        };
        const struct { const char *name, *value; } fields[] = {
                { "x-puffo-version", "v1" },
                { "x-puffo-slug", c->spec.identity->slug },
                { "x-puffo-signer-id", signer->id },
                { "x-puffo-timestamp", timestamp },
                { "x-puffo-nonce", nonce },
                { "content-type", spec->content_type ?: "application/json" },
        };
        int r;

        nonce_random(nonce);
        (void) snprintf(timestamp, sizeof(timestamp), "%" PRId64, now_realtime_ms());
        r = signed_request_sign(&q, signer->seed, &signature);
        if (r < 0)
                return r;

        for (size_t i = 0; i <= ELEMENTSOF(fields); i++) {
                _cleanup_free_ char *line = i < ELEMENTSOF(fields) ? strjoin(fields[i].name, ": ", fields[i].value)
                                                                   : strjoin("x-puffo-signature: ", signature);
                r = line ? strv_extend(&headers, line) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(headers);
        return 0;
}

int server_client_send(ServerClient *c, const CallSpec *spec, const Signer *signer, http_done_t on_done,
                       void *userdata, HttpRequest **ret) {
        _cleanup_free_ char *url = strjoin(c->base_url, spec->path);
        _cleanup_(strv_freep) char **headers = NULL;
        HttpRequestSpec http = {
                .method = spec->method,
                .url = url,
                .body = spec->body,
                .body_size = spec->body_size,
                .has_body = spec->body,
                .idle_timeout_usec = STALL_TIMEOUT_USEC,
                .total_timeout_usec = spec->timeout_usec ?: CALL_TIMEOUT_USEC,
                .max_body = spec->max_body,
                .ca_file = c->ca_file,
                .on_data = spec->on_data,
                .on_done = on_done,
                .userdata = userdata,
        };
        int r;

        if (!url)
                return -ENOMEM;
        r = format_headers(c, spec, signer, &headers);
        if (r < 0)
                return r;
        http.headers = (const char *const*) headers;
        return http_client_start(c->spec.http, &http, ret);
}

static CallFailure failure_from_http(HttpFailure f) {
        switch (f) {
        case HTTP_OK:
                return CALL_OK;
        case HTTP_FAILED_CONNECT:
        case HTTP_FAILED_TIMEOUT:
        case HTTP_FAILED_CUT:
                return CALL_NETWORK;
        case HTTP_FAILED_TLS:
                return CALL_TLS;
        case HTTP_FAILED_MEMORY:
                return CALL_MEMORY;
        default:
                return CALL_PROTOCOL;
        }
}

/* How far the server's clock is ahead of ours, as the answer's Date says; 0 without one. */
static int64_t clock_skew_ms(HttpRequest *q) {
        const char *date = http_request_header(q, "date");
        int64_t when;

        return date && http_date_parse(date, &when) >= 0 ? when * 1000 - now_realtime_ms() : 0;
}

/* "HTTP 403 FORBIDDEN: not a member" from {"error": …, "message": …}, or from whatever else the body is. */
static char* describe_refusal(HttpRequest *q, const HttpReply *http, const char *code, const char *message) {
        int64_t skew = http->status == 401 ? clock_skew_ms(q) : 0;
        _cleanup_free_ char *all = NULL, *clock = NULL;

        if (llabs(skew) > CLOCK_SKEW_NAMED_MS)
                clock = asprintf_new(" (this machine's clock is %" PRId64 " s %s the server's)",
                                     (int64_t) llabs(skew) / 1000, skew > 0 ? "behind" : "ahead of");
        all = asprintf_new("HTTP %ld%s%s%s%s%s", http->status, code ? " " : "", strempty(code),
                           isempty(message) ? "" : ": ", strempty(message), strempty(clock));
        return all ? str_printable(all, ERROR_TEXT_MAX) : NULL;
}

int call_reply_from_http(HttpRequest *q, const HttpReply *http, bool raw, CallReply *ret, char **text,
                         SignedDocument **document) {
        bool success = http->failure == HTTP_OK && http->status / 100 == 2;
        int r = 0;

        *ret = (CallReply) { .failure = failure_from_http(http->failure), .status = http->status };
        if (http->failure != HTTP_OK) {
                *text = str_printable(strempty(http->error), ERROR_TEXT_MAX);
                ret->error = *text;
                return *text ? 0 : -ENOMEM;
        }

        if (http->body_size > 0 && !(raw && success))
                r = signed_document_parse(document, http->body, http->body_size);
        if (r == -ENOMEM)
                return r;

        if (success) {
                ret->body = http->body;
                ret->body_size = http->body_size;
                ret->json = *document ? signed_document_root(*document) : NULL;
                if (r < 0) {
                        ret->failure = CALL_PROTOCOL;
                        *text = asprintf_new("HTTP %ld with an answer that is no JSON", http->status);
                }
        } else if (http->status < 400) {
                ret->failure = CALL_PROTOCOL;
                *text = asprintf_new("HTTP %ld: redirects are not followed", http->status);
        } else {
                const SignedValue *root = *document ? signed_document_root(*document) : NULL;

                ret->failure = CALL_STATUS;
                ret->code = signed_get_string(root, "error");
                *text = describe_refusal(q, http, ret->code, root ? signed_get_string(root, "message") : http->body);
        }
        ret->error = *text;
        return ret->failure == CALL_OK || *text ? 0 : -ENOMEM;
}

/* --- calls with their retries --- */

static int call_send(ServerCall *call);

static void call_unlink(ServerCall *call) {
        call->request = http_request_free(call->request);
        call->wait = subkey_wait_free(call->wait);
        call->timer = sd_event_source_disable_unref(call->timer);
        if (call->client)
                LIST_REMOVE(call, calls);
        call->client = NULL;
}

/* reply may point into the request, which must live until it was read. */
static void call_finish(ServerCall *call, const CallReply *reply) {
        _cleanup_(http_request_freep) _unused_ HttpRequest *request = TAKE_PTR(call->request);

        call_unlink(call);
        call->spec.on_done(call, reply, call->spec.userdata);
}

static void call_fail(ServerCall *call, int error) {
        CallReply reply = {
                .failure = error == -ENOMEM ? CALL_MEMORY : CALL_PROTOCOL,
                .error = strerror(-error),
        };

        call_finish(call, &reply);
}

static void call_on_subkey(const CallReply *reply, void *userdata) {
        ServerCall *call = userdata;
        int r;

        call->wait = subkey_wait_free(call->wait);
        if (reply->failure != CALL_OK) {
                call_finish(call, reply);
                return;
        }
        r = call_send(call);
        if (r < 0)
                call_fail(call, r);
}

static int call_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        ServerCall *call = userdata;
        int r;

        call->timer = sd_event_source_disable_unref(call->timer);
        r = call_send(call);
        if (r < 0)
                call_fail(call, r);
        return 0;
}

/* > 0 when the call goes on: a subkey that was refused is replaced once (server-api §1.5). */
static int call_retry_refused(ServerCall *call) {
        const SessionKey *now = server_client_subkey(call->client);
        int r;

        if (call->refused)
                return 0;
        call->refused = true;

        if (now && !streq(now->subkey_id, call->signer_id)) {
                r = call_send(call);
                return r < 0 ? r : 1;
        }
        r = subkey_wait_new(&call->wait, call->client, call->signer_id, call_on_subkey, call);
        return r == -EBUSY ? 0 : r < 0 ? r : 1;
}

/* > 0 when the call goes on: the server asked for patience. */
static int call_retry_later(ServerCall *call, HttpRequest *q) {
        uint64_t delay = http_request_retry_after(q);
        int r;

        if (!streq(call->method, "GET") || call->patience >= PATIENCE_TRIES)
                return 0;
        if (delay == USEC_INFINITY)
                delay = PATIENCE_MIN_USEC;
        if (delay > PATIENCE_MAX_USEC)
                return 0;

        call->patience++;
        r = event_arm_timer(call->client->spec.event, &call->timer, MAX(delay, PATIENCE_MIN_USEC), 0, call_on_timer,
                            call);
        return r < 0 ? r : 1;
}

/* > 0 when the call goes on: what was just announced may not be visible everywhere yet. */
static int call_retry_not_there(ServerCall *call) {
        int r;

        if (!call->spec.waits_for_it || call->not_there >= NOT_THERE_TRIES)
                return 0;
        call->not_there++;
        r = event_arm_timer(call->client->spec.event, &call->timer, NOT_THERE_PAUSE_USEC, 0, call_on_timer, call);
        return r < 0 ? r : 1;
}

static void call_on_reply(HttpRequest *q, const HttpReply *http, void *userdata) {
        _cleanup_(signed_document_freep) SignedDocument *document = NULL;
        _cleanup_(http_request_freep) HttpRequest *request = NULL;
        _cleanup_free_ char *text = NULL;
        ServerCall *call = userdata;
        CallReply reply;
        int r = 0;

        request = TAKE_PTR(call->request);
        if (http->failure == HTTP_OK && http->status == 401)
                r = call_retry_refused(call);
        else if (http->failure == HTTP_OK && http->status == 429)
                r = call_retry_later(call, q);
        else if (http->failure == HTTP_OK && http->status == 404)
                r = call_retry_not_there(call);
        if (r > 0)
                return;

        if (r >= 0)
                r = call_reply_from_http(q, http, call->spec.raw, &reply, &text, &document);
        if (r < 0)
                call_fail(call, r);
        else
                call_finish(call, &reply);
}

static int call_on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        ServerCall *call = userdata;

        return call->spec.on_data(q, data, size, call->spec.userdata);
}

static int call_send(ServerCall *call) {
        const SessionKey *key = server_client_subkey(call->client);
        ServerClient *c = call->client;
        CallSpec spec = call->spec;
        int r;

        if (!key)
                return subkey_wait_new(&call->wait, c, NULL, call_on_subkey, call);

        r = free_and_strdup(&call->signer_id, key->subkey_id);
        if (r < 0)
                return r;
        if (spec.on_data)
                spec.on_data = call_on_data;
        return server_client_send(c, &spec, &(Signer) { key->subkey_id, key->seed }, call_on_reply, call,
                                  &call->request);
}

int server_call_start(ServerClient *c, const CallSpec *spec, ServerCall **ret) {
        _cleanup_(server_call_freep) ServerCall *call = NULL;
        int r;

        assert(c && spec && spec->path && spec->on_done && ret);

        if (spec->path[0] != '/')
                return -EINVAL;

        call = new0(ServerCall, 1);
        if (!call)
                return -ENOMEM;
        call->spec = *spec;
        if (free_and_strdup(&call->method, spec->method ?: spec->body ? "POST" : "GET") < 0 ||
            free_and_strdup(&call->path, spec->path) < 0 ||
            free_and_strdup(&call->content_type, spec->content_type) < 0)
                return -ENOMEM;
        if (spec->body) {
                call->body = memdup0(spec->body, spec->body_size);
                if (!call->body)
                        return -ENOMEM;
        }
        call->spec.method = call->method;
        call->spec.path = call->path;
        call->spec.content_type = call->content_type;
        call->spec.body = call->body;

        call->client = c;
        LIST_INSERT_HEAD(&c->calls, call, calls);
        r = call_send(call);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(call);
        return 0;
}

ServerCall* server_call_free(ServerCall *call) {
        if (!call)
                return NULL;

        call_unlink(call);
        free(call->method);
        free(call->path);
        free(call->content_type);
        free(call->signer_id);
        free(call->body);
        return mfree(call);
}

void server_call_pause(ServerCall *call, bool pause) {
        if (call->request)
                http_request_pause(call->request, pause);
}

/* --- the client --- */

int server_client_new(ServerClient **ret, const ServerClientSpec *spec) {
        _cleanup_(server_client_freep) ServerClient *c = NULL;
        size_t n;

        assert(ret && spec && spec->event && spec->http && spec->identity && spec->key_directory && spec->server_url);

        if (!startswith(spec->server_url, "http://") && !startswith(spec->server_url, "https://"))
                return -EINVAL;

        c = new0(ServerClient, 1);
        if (!c)
                return -ENOMEM;
        c->spec = *spec;
        c->spec.event = sd_event_ref(spec->event);
        c->rotation.lock_fd = -EBADF;
        LIST_INIT(&c->calls);
        LIST_INIT(&c->waits);

        for (n = strlen(spec->server_url); n > 0 && spec->server_url[n - 1] == '/'; n--)
                ;
        c->base_url = memdup0(spec->server_url, n);
        if (!c->base_url || free_and_strdup(&c->key_directory, spec->key_directory) < 0 ||
            free_and_strdup(&c->ca_file, isempty(spec->ca_file) ? NULL : spec->ca_file) < 0)
                return -ENOMEM;

        *ret = TAKE_PTR(c);
        return 0;
}

ServerClient* server_client_free(ServerClient *c) {
        ServerCall *call;
        SubkeyWait *wait;

        if (!c)
                return NULL;

        while ((call = LIST_FIRST(&c->calls)))
                call_unlink(call);
        while ((wait = LIST_FIRST(&c->waits))) {
                LIST_REMOVE(wait, waits);
                wait->client = NULL;
        }
        rotation_done(c);
        session_key_free(c->key);
        sd_event_unref(c->spec.event);
        free(c->base_url);
        free(c->key_directory);
        free(c->ca_file);
        return mfree(c);
}

const char* server_client_url(const ServerClient *c) {
        return c->base_url;
}

const Identity* server_client_identity(const ServerClient *c) {
        return c->spec.identity;
}

const char* server_client_ca_file(const ServerClient *c) {
        return c->ca_file;
}

HttpClient* server_client_http(const ServerClient *c) {
        return c->spec.http;
}
