/* SPDX-License-Identifier: MIT */

#include <netinet/in.h>
#include <systemd/sd-daemon.h>

#include "bus-call.h"
#include "bus-util.h"
#include "event-util.h"
#include "feed.h"
#include "gateway-handlers.h"
#include "gateway.h"
#include "guard.h"
#include "json-util.h"
#include "log.h"
#include "responses-request.h"
#include "tcp-peer.h"

#define STOP_USEC (2 * USEC_PER_SEC)
/* A page that is open holds one for its events. */
#define MAX_CONNECTIONS 2048

/* --- answers --- */

int call_add_headers(Call *c) {
        int r;

        r = http_exchange_add_header(c->exchange, "x-request-id", c->request_id);
        if (r < 0)
                return r;
        return http_exchange_add_header(c->exchange, "Cache-Control", "no-store");
}

static void call_reply_text(Call *c, unsigned status, const char *text, size_t size) {
        if (call_add_headers(c) < 0 || http_exchange_reply(c->exchange, status, "application/json", text, size) < 0)
                http_exchange_abort(c->exchange);
}

void call_reply_json(Call *c, unsigned status, json_object *o) {
        const char *text;
        size_t size;

        text = json_text(o, &size);
        if (text)
                call_reply_text(c, status, text, size);
        else
                call_reply_errno(c, -ENOMEM);
}

void call_reply_empty(Call *c) {
        if (call_add_headers(c) < 0 || http_exchange_reply(c->exchange, 204, NULL, NULL, 0) < 0)
                http_exchange_abort(c->exchange);
}

/* What clients' retries go by (responses-api §1): a second POST is a second turn. */
static int call_add_retry_headers(Call *c, const ApiError *e) {
        int r = 0;

        if (e->status == 429)
                r = http_exchange_add_header(c->exchange, "retry-after", "5");
        else if (e->status == 503)
                r = http_exchange_add_header(c->exchange, "retry-after", "10");
        if (r < 0)
                return r;
        if (c->handed_over || e->status == 409 || e->status == 502 || e->status == 504)
                return http_exchange_add_header(c->exchange, "x-should-retry", "false");
        if (e->status == 503)
                return http_exchange_add_header(c->exchange, "x-should-retry", "true");
        return 0;
}

void call_reply_error(Call *c, const ApiError *e) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        r = api_error_format(e, &b);
        if (r >= 0)
                r = call_add_retry_headers(c, e);
        if (r >= 0 && e->status == 401 && !streq_ptr(e->code, "api_key_required"))
                r = http_exchange_add_header(c->exchange, "WWW-Authenticate", "Bearer");
        if (r >= 0 && e->status == 405 && c->match.allow)
                r = http_exchange_add_header(c->exchange, "Allow", c->match.allow);
        if (r >= 0 && e->status == 426)         /* RFC 9110 §15.5.22 wants it said what would do */
                r = http_exchange_add_header(c->exchange, "Upgrade", "HTTP/1.1");
        if (r < 0)
                http_exchange_abort(c->exchange);
        else
                call_reply_text(c, e->status, b.text, b.size);
}

void call_reply_errno(Call *c, int error) {
        _cleanup_api_error_ ApiError e = {};

        (void) api_error_set_internal(&e, error);
        log_warning_errno(error, "Request %s failed: %m", c->request_id);
        call_reply_error(c, &e);
}

void api_error_from_bus(ApiError *e, const sd_bus_error *error, const char *model) {
        const char *message = error->message ?: error->name;

        if (sd_bus_error_has_name(error, PUFFO_ERROR_QUEUE_FULL))
                (void) api_error_set(e, 429, "rate_limit_exceeded", NULL, "%s", message);
        else if (sd_bus_error_has_name(error, PUFFO_ERROR_AGENT_LIMIT))
                (void) api_error_set(e, 429, "agent_limit", NULL, "%s", message);
        else if (sd_bus_error_has_name(error, PUFFO_ERROR_NOT_READY))
                (void) api_error_set(e, 503, "agent_not_ready", NULL, "%s", message);
        else if (model && (sd_bus_error_has_name(error, PUFFO_ERROR_NO_SUCH_AGENT) ||
                           sd_bus_error_has_name(error, SD_BUS_ERROR_UNKNOWN_OBJECT)))
                (void) api_error_set(e, 404, "model_not_found", "model",
                                     "The model `%s` does not exist or you do not have access to it.", model);
        else if (sd_bus_error_has_name(error, PUFFO_ERROR_INVALID_ARGUMENT) ||
                 sd_bus_error_has_name(error, PUFFO_ERROR_INVALID_NAME))
                (void) api_error_set(e, 400, "invalid_value", NULL, "%s", message);
        else if (sd_bus_error_has_name(error, SD_BUS_ERROR_ACCESS_DENIED) ||
                 sd_bus_error_has_name(error, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED))
                (void) api_error_set(e, 403, "permission_denied", NULL, "%s", message);
        else if (bus_error_is_transient(error))
                (void) api_error_set(e, 503, "agent_not_ready", NULL, "The agent service does not answer: %s",
                                     message);
        else
                (void) api_error_set(e, 500, NULL, NULL, "%s", message);
}

void call_reply_bus_error(Call *c, const sd_bus_error *error) {
        _cleanup_api_error_ ApiError e = {};

        api_error_from_bus(&e, error, NULL);
        call_reply_error(c, &e);
}

/* --- agents --- */

bool call_may_use_owned(const Call *c, uid_t owner) {
        if (c->by_key || c->gateway->scope == SCOPE_USER)
                return true;
        return c->peer_uid == 0 || c->peer_uid == owner;
}

bool call_may_use(const Call *c, const MirroredAgent *a) {
        return call_may_use_owned(c, a->owner);
}

static void dispatch(Call *c) {
        switch (c->match.route) {
        case ROUTE_AGENTS:
                return agents_list(c);
        case ROUTE_AGENT_EVENTS:
                return agents_events(c);
        case ROUTE_AGENT_MESSAGES:
                return agent_messages(c);
        case ROUTE_AGENT_INTERRUPT:
                return agent_interrupt(c);
        case ROUTE_APPROVALS:
                return approvals_list(c);
        case ROUTE_APPROVAL_ANSWER:
                return approval_answer(c);
        case ROUTE_HIRE:
                return hire_post(c);
        case ROUTE_MODELS:
                return models_list(c);
        case ROUTE_MODEL:
                return models_get(c);
        case ROUTE_CHAT_COMPLETIONS:
                return chat_completions_create(c);
        case ROUTE_RESPONSE_CREATE:
                return responses_create(c);
        case ROUTE_RESPONSE_GET:
                return responses_get(c);
        case ROUTE_RESPONSE_DELETE:
                return responses_delete(c);
        case ROUTE_RESPONSE_CANCEL:
                return responses_cancel(c);
        case ROUTE_RESPONSE_INPUT_ITEMS:
                return responses_input_items(c);
        default:
                return health_get(c);
        }
}

static void call_on_agents(bool loaded, void *userdata) {
        _cleanup_api_error_ ApiError e = {};
        Call *c = userdata;

        c->waiter = agent_waiter_free(c->waiter);
        if (loaded) {
                dispatch(c);
                return;
        }
        (void) api_error_set(&e, 503, "agent_not_ready", NULL, "The agent service (puffod) does not answer.");
        call_reply_error(c, &e);
}

/* --- exchanges --- */

int call_parse_body(Call *c, json_object **ret, ApiError *e) {
        _cleanup_json_ json_object *body = NULL;
        const char *text;
        size_t size;
        int r;

        text = http_exchange_body(c->exchange, &size);
        r = json_parse_deep(text, size, REQUEST_DEPTH_MAX, &body);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || !json_object_is_type(body, json_type_object))
                return api_error_set(e, 400, NULL, NULL,
                                     "We could not parse the JSON body of your request. A JSON object is expected.");
        *ret = TAKE_PTR(body);
        return 0;
}

static bool header_is(HttpExchange *x, const char *name, const char *value) {
        const char *v = http_exchange_header(x, name);

        return v && strcasecmp(v, value) == 0;
}

static uint16_t address_port(const struct sockaddr *sa) {
        if (sa->sa_family == AF_INET6)
                return be16toh(((const struct sockaddr_in6*) sa)->sin6_port);
        return sa->sa_family == AF_INET ? be16toh(((const struct sockaddr_in*) sa)->sin_port) : 0;
}

/* NULL: out of memory. */
static PeerVerdict* call_peer(Call *c) {
        PeerVerdict *v = http_exchange_connection_data(c->exchange);

        if (v)
                return v;
        v = new0(PeerVerdict, 1);
        if (!v)
                return NULL;
        v->uid = (uid_t) -1;
        http_exchange_set_connection_data(c->exchange, v, free);
        return v;
}

/* Asked of the kernel once a connection: who is at its other end does not change, and asking takes a walk through
 * the control groups. */
bool call_peer_is_trusted(Call *c) {
        PeerVerdict *v = call_peer(c);
        TcpPeer peer;
        int r;

        if (!v)
                return false;
        if (!v->resolved) {
                v->resolved = true;
                r = tcp_peer_resolve(http_exchange_peer(c->exchange), http_exchange_local(c->exchange), &peer);
                v->error = MIN(r, 0);
                if (r >= 0) {
                        v->uid = peer.uid;
                        v->stranger = peer.stranger;
                        v->trusted = !peer.stranger && (c->gateway->scope == SCOPE_SYSTEM || peer.uid == getuid());
                }
        }
        c->peer_uid = v->uid;
        return v->trusted;
}

/* Wrong keys count for whoever the peer is: the user on this machine, and the user's harnesses apart from him; the
 * host elsewhere, which is a network in IPv6. */
static size_t peer_name(Call *c, const PeerVerdict *v, unsigned char ret[static 16]) {
        const struct sockaddr *sa = http_exchange_peer(c->exchange);
        const unsigned char *address;

        if (v->uid != (uid_t) -1) {
                ret[0] = v->stranger;
                memcpy(ret + 1, &v->uid, sizeof(v->uid));
                return 1 + sizeof(v->uid);
        }
        if (sa->sa_family == AF_INET) {
                memcpy(ret, &((const struct sockaddr_in*) sa)->sin_addr, 4);
                return 4;
        }
        if (sa->sa_family != AF_INET6)
                return 0;
        address = ((const struct sockaddr_in6*) sa)->sin6_addr.s6_addr;
        if (IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6*) sa)->sin6_addr)) {
                memcpy(ret, address + 12, 4);
                return 4;
        }
        memcpy(ret, address, 8);
        return 8;
}

bool call_may_tell(Call *c, const char *shown, bool cookie, bool right) {
        KeyGuesses *guesses = c->gateway->guesses;
        PeerVerdict *v = call_peer(c);
        unsigned char who[16];
        size_t size;
        bool may;

        if (!v)
                return false;
        if (right && (v->knows_key || (cookie && key_guesses_is_noted(guesses, shown))))
                return true;
        if (!right || key_guesses_any(guesses))
                (void) call_peer_is_trusted(c);
        size = peer_name(c, v, who);
        /* Others may have as many names as it takes, by addresses or by users below them: none is his whose agents
         * these are. */
        may = key_guesses_may_tell(guesses, !v->stranger && v->uid == getuid() ? NULL : who, size, shown, right,
                                   now_boottime_usec());
        if (may && right) {
                v->knows_key = true;
                if (cookie)
                        key_guesses_note(guesses, shown);
        }
        return may;
}

static bool guard_may_tell(const char *shown, bool cookie, bool right, void *userdata) {
        return call_may_tell(userdata, shown, cookie, right);
}

static bool guard_peer_is_trusted(void *userdata) {
        Call *c = userdata;
        PeerVerdict *v;

        if (call_peer_is_trusted(c))
                return true;
        v = http_exchange_connection_data(c->exchange);
        if (v && !v->told) {
                v->told = true;
                log_fields(LOG_NOTICE, v->error, (const char *const[]) { PUFFO_MESSAGE_ACCESS_DENIED, NULL },
                           v->error < 0 ? "Refusing a client that cannot be told: %m"
                                        : "Refusing a client of another user, a harness or a container.");
        }
        return false;
}

/* NULL: out of memory, and the connection is being closed. */
static Call* call_new(Gateway *g, HttpExchange *x) {
        _cleanup_free_ char *id = random_hex(16);
        Call *c = new0(Call, 1);

        if (!c || !id) {
                free(c);
                http_exchange_abort(x);
                return NULL;
        }
        c->gateway = g;
        c->exchange = x;
        (void) snprintf(c->request_id, sizeof(c->request_id), "req_%s", id);
        c->peer_uid = (uid_t) -1;
        http_exchange_set_userdata(x, c);
        LIST_INSERT_HEAD(&g->calls, c, calls);
        return c;
}

static void listener_on_malformed(HttpExchange *x, unsigned status, void *userdata) {
        Listener *l = userdata;
        _cleanup_api_error_ ApiError e = {};
        Call *c = call_new(l->gateway, x);

        if (!c)
                return;
        (void) api_error_set(&e, status, NULL, NULL, "%s",
                             status == 431 ? "The head of the request is over 16 KiB."
                                           : "The head of the request is broken, or the length of its body unclear.");
        call_reply_error(c, &e);
}

static void listener_on_head(HttpExchange *x, void *userdata) {
        Listener *l = userdata;
        Gateway *g = l->gateway;
        _cleanup_api_error_ ApiError e = {};
        Call *c = call_new(g, x);

        if (!c)
                return;
        if (guard_check(&(GuardPolicy) {
                        .port = address_port(http_exchange_local(x)),
                        .host_names = g->settings->host_names,
                        .keys = &g->settings->keys,
                        .peer_is_trusted = guard_peer_is_trusted,
                        .may_tell = guard_may_tell,
                        .userdata = c,
                }, &(GuardRequest) {
                        .method = http_exchange_method(x),
                        .path = http_exchange_path(x),
                        .host = http_exchange_header(x, "Host"),
                        .n_host = http_exchange_header_count(x, "Host"),
                        .origin = http_exchange_header(x, "Origin"),
                        .n_origin = http_exchange_header_count(x, "Origin"),
                        .fetch_site = http_exchange_header(x, "Sec-Fetch-Site"),
                        .n_fetch_site = http_exchange_header_count(x, "Sec-Fetch-Site"),
                        .content_type = http_exchange_header(x, "Content-Type"),
                        .content_length = http_exchange_header(x, "Content-Length"),
                        .authorization = http_exchange_header(x, "Authorization"),
                        .n_authorization = http_exchange_header_count(x, "Authorization"),
                        .cookie = http_exchange_header(x, "Cookie"),
                        .now_seconds = now_realtime_usec() / USEC_PER_SEC,
                        .websocket = header_is(x, "Upgrade", "websocket"),
                }, &c->match, &e) < 0) {
                call_reply_error(c, &e);
                return;
        }
        c->by_key = g->settings->keys.n > 0;
        if (!route_has_body(c->match.route))
                http_exchange_ignore_body(x);
}

static void listener_on_request(HttpExchange *x, void *userdata) {
        Call *c = http_exchange_userdata(x);
        int r;

        switch (c->match.route) {
        case ROUTE_HEALTH:
                return health_get(c);
        case ROUTE_SESSION_OPEN:
                return page_session_open(c);
        case ROUTE_SESSION_CLOSE:
                return page_session_close(c);
        default:
                break;
        }
        if (c->match.route == ROUTE_PAGE) {
                page_get(c);
                return;
        }
        r = agent_mirror_wait(c->gateway->agents, &c->waiter, call_on_agents, c);
        if (r < 0)
                call_reply_errno(c, r);
}

static void listener_on_oversize(HttpExchange *x, void *userdata) {
        _cleanup_api_error_ ApiError e = {};

        (void) api_error_set(&e, 413, "request_too_large", NULL, "The body is over %zu MiB.", BODY_MAX / MIB(1));
        call_reply_error(http_exchange_userdata(x), &e);
}

static void listener_on_writable(HttpExchange *x, void *userdata) {
        Call *c = http_exchange_userdata(x);

        if (c->turn)
                response_turn_on_writable(c->turn);
        c->feed_blocked = false;
}

static void listener_on_end(HttpExchange *x, bool client_gone, void *userdata) {
        Call *c = http_exchange_userdata(x);
        Gateway *g;

        if (!c)
                return;
        g = c->gateway;
        LIST_REMOVE(c, calls);
        if (c->in_feed)
                feed_unsubscribe(g->feed, c);
        if (c->turn)
                response_turn_on_end(c->turn, client_gone);
        agent_waiter_free(c->waiter);
        bus_call_free(c->bus_call);
        approval_gather_free(c->gather);
        sd_bus_message_unref(c->hired);
        free(c);

        if (g->stopping && LIST_EMPTY(&g->calls))
                (void) sd_event_exit(g->event, 0);
}

/* --- the gateway --- */

int gateway_new(Gateway **ret, sd_event *event, sd_bus *bus, Scope scope, const GatewaySettings *settings) {
        _cleanup_(gateway_freep) Gateway *g = new0(Gateway, 1);
        int r;

        if (!g)
                return -ENOMEM;
        g->event = event;
        g->bus = bus;
        g->scope = scope;
        g->settings = settings;
        r = agent_mirror_new(&g->agents, event, bus);
        if (r >= 0)
                r = key_guesses_new(&g->guesses);
        if (r < 0)
                return r;
        r = feed_new(&g->feed, g);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(g);
        return 0;
}

Gateway* gateway_free(Gateway *g) {
        if (!g)
                return NULL;
        g->stopping = true;
        for (size_t i = 0; i < g->n_listeners; i++)
                http_server_free(g->listeners[i].server);
        while (!LIST_EMPTY(&g->orphans))
                response_turn_free(LIST_FIRST(&g->orphans));
        feed_free(g->feed);
        agent_mirror_free(g->agents);
        key_guesses_free(g->guesses);
        sd_event_source_disable_unref(g->stop_timer);
        free(g->listeners);
        return mfree(g);
}

static bool address_is_loopback(const struct sockaddr_storage *ss) {
        if (ss->ss_family == AF_INET)
                return be32toh(((const struct sockaddr_in*) ss)->sin_addr.s_addr) >> 24 == 127;
        if (ss->ss_family == AF_INET6) {
                const struct in6_addr *a = &((const struct sockaddr_in6*) ss)->sin6_addr;

                return IN6_IS_ADDR_LOOPBACK(a) || (IN6_IS_ADDR_V4MAPPED(a) && a->s6_addr[12] == 127);
        }
        return false;
}

static int listener_check(Gateway *g, int fd) {
        struct sockaddr_storage ss = {};
        socklen_t size = sizeof(ss);

        if (sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
                return -ENOTSOCK;
        if (getsockname(fd, (struct sockaddr*) &ss, &size) < 0)
                return -errno;
        if (ss.ss_family != AF_INET && ss.ss_family != AF_INET6)
                return -EAFNOSUPPORT;
        return g->settings->keys.n > 0 || address_is_loopback(&ss) ? 0 : -EPERM;
}

int gateway_listen(Gateway *g, int listen_fd) {
        _cleanup_close_ int fd = listen_fd;
        Listener *grown;
        int r;

        assert(g->n_listeners == 0 || g->listeners);
        r = listener_check(g, fd);
        if (r < 0)
                return r;
        /* Servers keep the address of their listener: all of them are made by the first call. */
        if (!g->listeners) {
                grown = new0(Listener, GATEWAY_LISTENERS_MAX);
                if (!grown)
                        return -ENOMEM;
                g->listeners = grown;
        }
        if (g->n_listeners >= GATEWAY_LISTENERS_MAX)
                return -E2BIG;
        g->listeners[g->n_listeners].gateway = g;
        r = http_server_new(&g->listeners[g->n_listeners].server, g->event, TAKE_FD(fd), &(HttpServerSpec) {
                .on_head = listener_on_head,
                .on_malformed = listener_on_malformed,
                .on_request = listener_on_request,
                .on_end = listener_on_end,
                .on_writable = listener_on_writable,
                .max_body = BODY_MAX,
                .on_oversize = listener_on_oversize,
                .max_connections = MAX_CONNECTIONS,
                .userdata = g->listeners + g->n_listeners,
        });
        if (r < 0)
                return r;
        g->n_listeners++;
        return 0;
}

static int gateway_on_stop_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Gateway *g = userdata;

        return sd_event_exit(g->event, 0);
}

void gateway_stop(Gateway *g) {
        Call *c, *next;

        if (g->stopping)
                return;
        g->stopping = true;
        for (size_t i = 0; i < g->n_listeners; i++)
                (void) http_server_quiesce(g->listeners[i].server);
        for (c = LIST_FIRST(&g->calls); c; c = next) {
                next = LIST_NEXT(c, calls);
                if (c->turn)
                        response_turn_say_goodbye(c->turn);
                if (c->in_feed)
                        feed_end(c);
        }
        if (LIST_EMPTY(&g->calls) ||
            event_arm_timer(g->event, &g->stop_timer, STOP_USEC, 1, gateway_on_stop_timeout, g) < 0)
                (void) sd_event_exit(g->event, 0);
}
