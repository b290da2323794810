/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "hands-mcp.h"
#include "log.h"
#include "mcp-peer.h"
#include "string-util.h"

#define REQUESTS_MAX 64U

/* A question that waits for its answer: by which name the tools know it, and by which the CLI does. */
typedef struct Request {
        char *id, *request_id;
        TAILQ_ENTRY(Request) list;
} Request;

struct HandsMcp {
        Harness *driver;
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
        int r = harness_mcp_reply(m->driver, request_id, message);

        if (r < 0)
                (void) log_warning_errno(r, "The CLI could not be told the result of a tool: %m");
}

/* The id's JSON text: 1 and "1" are two. */
static char* id_of(json_object *o) {
        json_object *id;

        return json_object_object_get_ex(o, "id", &id) ? strdup(strempty(json_object_to_json_string(id))) : NULL;
}

static void on_line(const char *line, size_t size, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *id = NULL, *text = NULL;
        HandsMcp *m = userdata;
        Request *q;

        if (json_parse(line, size, &o) < 0)
                return;
        id = id_of(o);
        text = memdup0(line, size > 0 && line[size - 1] == '\n' ? size - 1 : size);
        TAILQ_FOREACH(q, &m->list, list)
                if (id && text && streq(q->id, id)) {
                        reply(m, q->request_id, text);
                        request_free(m, q);
                        return;
                }
}

int hands_mcp_new(HandsMcp **ret, Harness *driver, ToolBox *tools) {
        _cleanup_(hands_mcp_freep) HandsMcp *m = new0(HandsMcp, 1);
        int r;

        if (!m)
                return -ENOMEM;
        TAILQ_INIT(&m->list);
        m->driver = driver;
        r = mcp_peer_new(&m->peer, &(McpPeerSpec) { .tools = tools, .write = on_line, .userdata = m });
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

void hands_mcp_set_tools(HandsMcp *m, ToolBox *tools) {
        mcp_peer_set_tools(m->peer, tools);
}

static int remember(HandsMcp *m, char *id, const char *request_id) {
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
        TAILQ_INSERT_TAIL(&m->list, q, list);
        m->n++;
        return 0;
}

void hands_mcp_take(HandsMcp *m, const char *request_id, const char *message) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *id = NULL, *line = strjoin(message, "\n");
        int r;

        r = line ? json_parse(message, strlen(message), &o) : -ENOMEM;
        if (r >= 0) {
                id = id_of(o);
                r = id ? remember(m, id, request_id) : 0;
        }
        if (r >= 0 && id)
                TAKE_PTR(id);
        else if (r >= 0)
                reply(m, request_id, NULL);
        if (r >= 0)
                r = mcp_peer_feed(m->peer, line, strlen(line));
        if (r < 0) {
                (void) log_warning_errno(r, "The CLI has asked the tools something that they cannot take: %m");
                reply(m, request_id, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,\"message\":"
                                     "\"Internal error\"}}");
        }
}
