/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "crash-point.h"
#include "hands-mcp.h"
#include "log.h"
#include "mcp-peer.h"
#include "run-store.h"
#include "string-util.h"

#define REQUESTS_MAX 64U

/* A question that waits for its answer: by which name the tools know it, and by which the CLI does. */
typedef struct Request {
        char *id, *request_id;
        bool stored;            /* for a later process, should this one not come to answer it */
        bool answered;          /* … which may still wait for room in the pipe */
        TAILQ_ENTRY(Request) list;
} Request;

struct HandsMcp {
        HandsMcpSpec spec;
        McpPeer *peer;
        TAILQ_HEAD(, Request) list;
        unsigned n;
};

static void request_free(HandsMcp *m, Request *q) {
        TAILQ_REMOVE(&m->list, q, list);
        m->n--;
        free(q->id);
        free(q->request_id);
        free(q);
}

HandsMcp* hands_mcp_free(HandsMcp *m) {
        Request *q;

        if (!m)
                return NULL;
        m->peer = mcp_peer_free(m->peer);
        while ((q = TAILQ_FIRST(&m->list)))
                request_free(m, q);
        return mfree(m);
}

static void reply(HandsMcp *m, const char *request_id, const char *message) {
        int r = harness_mcp_reply(m->spec.driver, request_id, message);

        if (r < 0)
                (void) log_warning_errno(r, "The CLI could not be told the result of a tool: %m");
}

/* Nobody has to answer it any more. */
static void request_settle(HandsMcp *m, Request *q) {
        int r = q->stored ? run_store_answered(m->spec.db, q->request_id) : 0;

        if (r < 0)
                (void) log_warning_errno(r, "It could not be noted that a tool has answered, ignoring: %m");
        request_free(m, q);
}

/* Those whose answers are on their way for good. */
static void settle(HandsMcp *m) {
        Request *q, *next;

        if (!harness_has_written(m->spec.driver))
                return;
        for (q = TAILQ_FIRST(&m->list); q; q = next) {
                next = TAILQ_NEXT(q, list);
                if (q->answered)
                        request_settle(m, q);
        }
}

/* JSON text: 1 and "1" are two. */
static char* id_of(json_object *o, const char *key) {
        json_object *id;

        return json_object_object_get_ex(o, key, &id) ? strdup(strempty(json_object_to_json_string(id))) : NULL;
}

static Request* request_find(HandsMcp *m, const char *id) {
        Request *q;

        TAILQ_FOREACH(q, &m->list, list)
                if (!q->answered && streq(q->id, id))
                        return q;
        return NULL;
}

static void on_line(const char *line, size_t size, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *id = NULL, *text = NULL;
        HandsMcp *m = userdata;
        Request *q;

        if (json_parse(line, size, &o) < 0)
                return;
        id = id_of(o, "id");
        text = memdup0(line, size > 0 && line[size - 1] == '\n' ? size - 1 : size);
        q = id && text ? request_find(m, id) : NULL;
        if (!q)
                return;
        reply(m, q->request_id, text);
        crash_point("sdk-call-answered");
        q->answered = true;
        settle(m);
}

int hands_mcp_new(HandsMcp **ret, const HandsMcpSpec *spec) {
        _cleanup_(hands_mcp_freep) HandsMcp *m = new0(HandsMcp, 1);
        int r;

        if (!m)
                return -ENOMEM;
        TAILQ_INIT(&m->list);
        m->spec = *spec;
        r = mcp_peer_new(&m->peer, &(McpPeerSpec) {
                .tools = spec->tools, .write = on_line, .userdata = m, .resumed = spec->adopted,
        });
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

void hands_mcp_set_tools(HandsMcp *m, ToolBox *tools) {
        /* New ones come after none: what is under way goes on when nothing has changed. */
        if (tools == m->spec.tools)
                return;
        m->spec.tools = tools;
        mcp_peer_set_tools(m->peer, tools);
}

static int remember(HandsMcp *m, char *id, const char *request_id, bool stored) {
        Request *q;

        if (m->n >= REQUESTS_MAX)
                return -ENOBUFS;
        q = new0(Request, 1);
        if (!q)
                return -ENOMEM;
        q->request_id = strdup(request_id);
        if (!q->request_id) {
                free(q);
                return -ENOMEM;
        }
        q->id = id;
        q->stored = stored;
        TAILQ_INSERT_TAIL(&m->list, q, list);
        m->n++;
        return 0;
}

/* The CLI does not want to know any more. */
static void take_notification(HandsMcp *m, json_object *message) {
        _cleanup_free_ char *id = NULL;
        Request *q;

        if (!streq_ptr(json_get_string(message, "method"), "notifications/cancelled"))
                return;
        id = id_of(json_get(message, "params"), "requestId");
        q = id ? request_find(m, id) : NULL;
        if (q)
                request_settle(m, q);
}

/* What is answered at once never gets here: its line is in the pipe until then. */
static void store_open(HandsMcp *m, const char *request_id, const char *message) {
        Request *q;
        int r;

        TAILQ_FOREACH(q, &m->list, list)
                if (!q->stored && streq(q->request_id, request_id)) {
                        r = run_store_ask(m->spec.db, request_id, message);
                        if (r < 0)
                                (void) log_warning_errno(r, "A tool's call could not be noted, ignoring: %m");
                        q->stored = r >= 0;
                        return;
                }
}

/* The tools have refused it: they will not answer. */
static void forget(HandsMcp *m, const char *request_id) {
        Request *q;

        TAILQ_FOREACH(q, &m->list, list)
                if (streq(q->request_id, request_id)) {
                        request_settle(m, q);
                        return;
                }
}

static int take(HandsMcp *m, const char *request_id, const char *message, bool stored) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *id = NULL, *line = strjoin(message, "\n");
        int r;

        if (!line)
                return -ENOMEM;
        r = json_parse(message, strlen(message), &o);
        if (r < 0)
                return r;
        id = id_of(o, "id");
        if (id) {
                r = remember(m, id, request_id, stored);
                if (r < 0)
                        return r;
                TAKE_PTR(id);
        } else {
                reply(m, request_id, NULL);
                take_notification(m, o);
        }
        r = mcp_peer_feed(m->peer, line, strlen(line));
        if (r < 0)
                forget(m, request_id);
        return r;
}

static bool is_known(HandsMcp *m, const char *request_id) {
        Request *q;

        TAILQ_FOREACH(q, &m->list, list)
                if (streq(q->request_id, request_id))
                        return true;
        return false;
}

void hands_mcp_take(HandsMcp *m, const char *request_id, const char *message) {
        int r;

        settle(m);
        if (is_known(m, request_id))    /* it was taken up before its line was read again */
                return;
        crash_point("sdk-call");
        r = take(m, request_id, message, /* stored= */ false);
        if (r < 0) {
                (void) log_warning_errno(r, "The CLI has asked the tools something that they cannot take: %m");
                reply(m, request_id, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":"
                                     "\"Internal error\"}}");
                return;
        }
        store_open(m, request_id, message);
        crash_point("sdk-call-stored");
}

int hands_mcp_take_up(HandsMcp *m) {
        HarnessRequest *open = NULL;
        size_t n = 0;
        int r;

        r = run_store_open(m->spec.db, &open, &n);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = take(m, open[i].id, open[i].message, /* stored= */ true);
        harness_requests_free(open, n);
        return r;
}
