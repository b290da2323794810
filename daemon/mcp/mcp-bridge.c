/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "json-util.h"
#include "mcp-bridge.h"

#define REQUESTS_MAX 256U
#define REQUESTS_SIZE_MAX MIB(64)
#define SHOWN_MAX 200U

#define ERROR_PARSE (-32700)
#define ERROR_REQUEST (-32600)
#define ERROR_SESSION (-32000)

/* The session does a call that it knows by this only once. */
#define TOOL_USE_ID "claudecode/toolUseId"

typedef struct Request {
        json_object *id;
        char *line;             /* with its end */
        size_t size;
        unsigned n_sent;
        bool is_introduction;
        TAILQ_ENTRY(Request) requests;
} Request;

typedef enum BridgeState {
        BRIDGE_DISCONNECTED,
        BRIDGE_INTRODUCING,     /* for the client, who has done so before */
        BRIDGE_CONNECTED,
} BridgeState;

typedef struct BridgeInput {
        StrBuf text;
        size_t n_searched;
        bool is_skipping;       /* the rest of a line that is too long */
} BridgeInput;

struct McpBridge {
        BridgeState state;
        BridgeInput client, session;
        BridgeOutput to_client, to_session;
        TAILQ_HEAD(, Request) requests; /* without an answer, in their order */
        size_t n_requests, requests_size;
        json_object *introduction;      /* the client's "initialize", which the session has accepted */
        bool is_initialized;            /* … and the client has said so */
        char *own_id;                   /* of what is asked by us */
        uint64_t n_tool_calls;
};

/* --- buffers --- */

void bridge_output_consume(BridgeOutput *o, size_t n) {
        o->begin += n;
        if (o->begin == o->text.size) {
                strbuf_done(&o->text);
                o->begin = 0;
        }
}

static void output_done(BridgeOutput *o) {
        strbuf_done(&o->text);
        o->begin = 0;
}

static int output_append(BridgeOutput *o, const char *data, size_t size) {
        /* What was written is not carried along for ever. */
        if (o->begin > MIB(1)) {
                strbuf_consume(&o->text, o->begin);
                o->begin = 0;
        }
        return strbuf_append(&o->text, data, size);
}

static int output_json(BridgeOutput *o, json_object *m) {
        size_t n;
        const char *text = json_text(m, &n);
        int r = text ? output_append(o, text, n) : -ENOMEM;

        return r < 0 ? r : output_append(o, "\n", 1);
}

static void input_done(BridgeInput *i) {
        strbuf_done(&i->text);
        *i = (BridgeInput) {};
}

static int answer_error(McpBridge *b, json_object *id, int code, const char *message) {
        _cleanup_json_ json_object *m = json_object_new_object();
        json_object *e = json_object_new_object();
        int r = m && e ? 0 : -ENOMEM;

        if (r >= 0)
                r = json_put_int(e, "code", code);
        if (r >= 0)
                r = json_put_string(e, "message", message);
        if (r >= 0)
                r = json_put_string(m, "jsonrpc", "2.0");
        if (r >= 0)
                r = json_put(m, "id", json_object_get(id));
        if (r < 0) {
                json_object_put(e);
                return r;
        }
        r = json_put(m, "error", e);
        return r < 0 ? r : output_json(&b->to_client, m);
}

/* --- requests --- */

static Request* request_free(McpBridge *b, Request *q) {
        TAILQ_REMOVE(&b->requests, q, requests);
        b->n_requests--;
        b->requests_size -= q->size;
        json_object_put(q->id);
        free(q->line);
        return mfree(q);
}

static Request* request_find(McpBridge *b, json_object *id) {
        Request *q;

        TAILQ_FOREACH(q, &b->requests, requests)
                if (json_object_equal(q->id, id))
                        return q;
        return NULL;
}

static int request_send(McpBridge *b, Request *q) {
        q->n_sent++;
        return output_append(&b->to_session, q->line, q->size);
}

/* A copy of the line, and what makes a call the same call when it is made again. */
static char* request_line(McpBridge *b, json_object *m, const char *method, const char *line, size_t size) {
        _cleanup_free_ char *made = NULL;
        json_object *params = json_get(m, "params"), *meta = json_get(params, "_meta");
        const char *text;

        if (!streq(method, "tools/call") || !json_object_is_type(params, json_type_object) ||
            (meta && (!json_object_is_type(meta, json_type_object) || json_get(meta, TOOL_USE_ID)))) {
                char *copy = malloc(size + 1);

                if (copy) {
                        memcpy(copy, line, size);
                        copy[size] = '\n';
                }
                return copy;
        }

        made = asprintf_new("%s-%" PRIu64, b->own_id, b->n_tool_calls++);
        if (!made)
                return NULL;
        if (!meta) {
                meta = json_object_new_object();
                if (!meta || json_put(params, "_meta", meta) < 0)
                        return NULL;
        }
        if (json_put_string(meta, TOOL_USE_ID, made) < 0)
                return NULL;
        text = json_text(m, NULL);
        return text ? strjoin(text, "\n") : NULL;
}

static int request_add(McpBridge *b, json_object *m, const char *method, const char *line, size_t size) {
        json_object *id = json_get(m, "id");
        Request *q;

        if (b->n_requests >= REQUESTS_MAX || b->requests_size + size > REQUESTS_SIZE_MAX)
                return answer_error(b, id, ERROR_SESSION, "Too many requests at once");
        q = new0(Request, 1);
        if (!q)
                return -ENOMEM;
        q->line = request_line(b, m, method, line, size);
        if (!q->line) {
                free(q);
                return -ENOMEM;
        }
        /* A line has no NUL in it: that would have been no JSON. */
        q->size = (size_t) ((char*) rawmemchr(q->line, '\n') - q->line) + 1;
        q->id = json_object_get(id);
        q->is_introduction = streq(method, "initialize") && !b->introduction;
        TAILQ_INSERT_TAIL(&b->requests, q, requests);
        b->n_requests++;
        b->requests_size += q->size;
        return b->state == BRIDGE_CONNECTED ? request_send(b, q) : 0;
}

static int send_requests(McpBridge *b) {
        Request *q;
        int r = 0;

        TAILQ_FOREACH(q, &b->requests, requests)
                if ((r = request_send(b, q)) < 0)
                        break;
        return r;
}

/* --- from the client --- */

static int pass_to_session(McpBridge *b, const char *line, size_t size) {
        int r;

        /* Of what asks for no answer, nothing is kept: it has a meaning for the connection alone. */
        if (b->state != BRIDGE_CONNECTED)
                return 0;
        r = output_append(&b->to_session, line, size);
        return r < 0 ? r : output_append(&b->to_session, "\n", 1);
}

static int take_notification(McpBridge *b, json_object *m, const char *method, const char *line, size_t size) {
        Request *q;

        if (streq(method, "notifications/initialized"))
                b->is_initialized = true;
        if (streq(method, "notifications/cancelled")) {
                q = request_find(b, json_get(json_get(m, "params"), "requestId"));
                if (q && !q->is_introduction)
                        request_free(b, q);
        }
        return pass_to_session(b, line, size);
}

static int take_client_line(McpBridge *b, const char *line, size_t size) {
        _cleanup_json_ json_object *m = NULL;
        const char *method;
        int r;

        if (size > 0 && line[size - 1] == '\r')
                size--;
        if (size == 0)
                return 0;
        r = json_parse(line, size, &m);
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return answer_error(b, NULL, ERROR_PARSE, "Parse error");

        method = json_get_string(m, "method");
        if (!method || !json_get(m, "id")) {
                /* Answers, notifications, lists of messages, and what the session has an error for. */
                if (!method && b->state != BRIDGE_CONNECTED && !json_get(m, "result") && !json_get(m, "error"))
                        return answer_error(b, json_get(m, "id"), ERROR_REQUEST, "This is no request");
                return method ? take_notification(b, m, method, line, size) : pass_to_session(b, line, size);
        }
        return request_add(b, m, method, line, size);
}

/* --- from the session --- */

static int introduce(McpBridge *b) {
        _cleanup_json_ json_object *m = NULL;
        int r;

        r = json_object_deep_copy(b->introduction, &m, NULL) < 0 ? -ENOMEM : 0;
        if (r >= 0)
                r = json_put_string(m, "id", b->own_id);
        return r < 0 ? r : output_json(&b->to_session, m);
}

static int on_introduced(McpBridge *b, json_object *answer) {
        static const char text[] = "{\"jsonrpc\":\"2.0\",\"method\":\"notifications/initialized\"}\n";
        int r = 0;

        if (!json_get(answer, "result"))
                return -EPROTO;
        b->state = BRIDGE_CONNECTED;
        if (b->is_initialized)
                r = output_append(&b->to_session, text, sizeof(text) - 1);
        return r < 0 ? r : send_requests(b);
}

static int on_answer(McpBridge *b, Request *q, json_object *answer) {
        int r = 0;

        if (q->is_introduction && json_get(answer, "result") && !b->introduction)
                r = json_parse(q->line, q->size, &b->introduction);
        request_free(b, q);
        return r;
}

static int take_session_line(McpBridge *b, const char *line, size_t size) {
        _cleanup_json_ json_object *m = NULL;
        json_object *id;
        Request *q;
        int r;

        r = json_parse(line, size, &m);
        if (r == -ENOMEM)
                return r;
        id = r < 0 ? NULL : json_get(m, "id");
        if (id && !json_get(m, "method")) {
                if (b->state == BRIDGE_INTRODUCING && streq_ptr(json_get_string(m, "id"), b->own_id))
                        return on_introduced(b, m);
                q = request_find(b, id);
                r = q ? on_answer(b, q, m) : 0;
                if (r < 0)
                        return r;
        }
        r = output_append(&b->to_client, line, size);
        return r < 0 ? r : output_append(&b->to_client, "\n", 1);
}

/* --- lines --- */

/* > 0: there was one. */
static int take_lines(McpBridge *b, BridgeInput *i, const char *data, size_t size,
                      int (*take)(McpBridge *b, const char *line, size_t size),
                      int (*take_long)(McpBridge *b)) {
        size_t begin = 0;
        char *end;
        int r, n = 0;

        r = strbuf_append(&i->text, data, size);
        if (r < 0)
                return r;
        while (i->text.text &&
               (end = memchr(i->text.text + i->n_searched, '\n', i->text.size - i->n_searched))) {
                size_t line_size = (size_t) (end - i->text.text) - begin;

                if (i->is_skipping)
                        i->is_skipping = false;
                else if (line_size > BRIDGE_LINE_MAX)
                        r = take_long(b);
                else
                        r = take(b, i->text.text + begin, line_size);
                if (r < 0)
                        return r;
                begin += line_size + 1;
                i->n_searched = begin;
                n = 1;
        }
        strbuf_consume(&i->text, begin);
        i->n_searched = i->text.size;
        if (i->text.size > BRIDGE_LINE_MAX || i->is_skipping) {
                r = i->is_skipping ? 0 : take_long(b);
                i->is_skipping = true;
                strbuf_done(&i->text);
                i->n_searched = 0;
        }
        return r < 0 ? r : n;
}

static int refuse_client_line(McpBridge *b) {
        return answer_error(b, NULL, ERROR_REQUEST, "The line is too long");
}

static int refuse_session_line(McpBridge *b) {
        return -EPROTO;
}

int mcp_bridge_from_client(McpBridge *b, const char *data, size_t size) {
        int r = take_lines(b, &b->client, data, size, take_client_line, refuse_client_line);

        return r < 0 ? r : 0;
}

int mcp_bridge_from_session(McpBridge *b, const char *data, size_t size) {
        return take_lines(b, &b->session, data, size, take_session_line, refuse_session_line);
}

/* --- connections --- */

bool mcp_bridge_is_waiting(const McpBridge *b) {
        return b->n_requests > 0;
}

int mcp_bridge_on_connected(McpBridge *b) {
        b->state = b->introduction ? BRIDGE_INTRODUCING : BRIDGE_CONNECTED;
        return b->introduction ? introduce(b) : send_requests(b);
}

int mcp_bridge_on_disconnected(McpBridge *b) {
        Request *q, *next;
        int r = 0;

        b->state = BRIDGE_DISCONNECTED;
        input_done(&b->session);
        output_done(&b->to_session);
        for (q = TAILQ_FIRST(&b->requests); q && r >= 0; q = next) {
                next = TAILQ_NEXT(q, requests);
                if (q->n_sent < BRIDGE_SENDS_MAX)
                        continue;
                r = answer_error(b, q->id, ERROR_SESSION, "The agent's session ended each time it was asked this");
                request_free(b, q);
        }
        return r;
}

int mcp_bridge_give_up(McpBridge *b, const char *reason) {
        _cleanup_free_ char *message = strjoin("The agent's session cannot be reached: ", reason);
        Request *q;
        int r = message ? 0 : -ENOMEM;

        while (r >= 0 && (q = TAILQ_FIRST(&b->requests))) {
                r = answer_error(b, q->id, ERROR_SESSION, message);
                request_free(b, q);
        }
        return r;
}

int mcp_bridge_new(McpBridge **ret) {
        McpBridge *b = new0(McpBridge, 1);
        _cleanup_free_ char *number = random_hex(8);

        if (!b)
                return -ENOMEM;
        TAILQ_INIT(&b->requests);
        b->own_id = number ? strjoin("puffo-mcp-", number) : NULL;
        if (!b->own_id) {
                mcp_bridge_free(b);
                return -ENOMEM;
        }
        *ret = b;
        return 0;
}

McpBridge* mcp_bridge_free(McpBridge *b) {
        Request *q;

        if (!b)
                return NULL;
        while ((q = TAILQ_FIRST(&b->requests)))
                request_free(b, q);
        input_done(&b->client);
        input_done(&b->session);
        output_done(&b->to_client);
        output_done(&b->to_session);
        json_object_put(b->introduction);
        free(b->own_id);
        return mfree(b);
}

BridgeOutput* mcp_bridge_to_client(McpBridge *b) {
        return &b->to_client;
}

BridgeOutput* mcp_bridge_to_session(McpBridge *b) {
        return &b->to_session;
}
