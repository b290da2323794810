/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "config.h"
#include "mcp-peer.h"
#include "string-util.h"

#define CALLS_MAX 16U
/* Of one line. */
#define MESSAGES_MAX 32U
#define ID_SIZE_MAX 200
#define NAME_SHOWN_MAX 100U
#define TOOL_USE_ID_SIZE_MAX 128U

/* JSON-RPC 2.0 §5.1 */
#define ERROR_PARSE (-32700)
#define ERROR_REQUEST (-32600)
#define ERROR_METHOD (-32601)
#define ERROR_PARAMS (-32602)
#define ERROR_INTERNAL (-32603)
/* Ours to choose. */
#define ERROR_BUSY (-32000)

/* The one that allows several messages in a line. */
#define REVISION_WITH_BATCHES "2025-03-26"
#define REVISION_NEWEST "2025-11-25"

typedef struct McpCall {
        McpPeer *peer;
        json_object *id;
        ToolCall *call;
        LIST_ENTRY(McpCall) calls;
} McpCall;

struct McpPeer {
        McpPeerSpec spec;
        StrBuf input;
        size_t n_searched;              /* of input, without a line's end */
        const char *revision;           /* NULL before "initialize" */
        char *name;                     /* in the keys of its calls: nobody else has it */
        uint64_t n_keys;
        LIST_HEAD(, McpCall) calls;
        size_t n_calls;
};

/* --- writing --- */

/* message is taken over; NULL: out of memory, and the client waits in vain. */
static void send_message(McpPeer *p, json_object *message) {
        _cleanup_json_ json_object *m = message;
        _cleanup_(strbuf_done) StrBuf line = {};
        const char *text = m ? json_text(m, NULL) : NULL;

        if (text && strbuf_puts(&line, text) >= 0 && strbuf_puts(&line, "\n") >= 0)
                p->spec.write(line.text, line.size, p->spec.userdata);
}

/* An answer with its member "result" or "error", which is taken over. id NULL: null. */
static void answer(McpPeer *p, json_object *id, const char *member, json_object *value) {
        json_object *m = json_object_new_object();

        if (!m || json_put_string(m, "jsonrpc", "2.0") < 0 || json_put(m, "id", json_object_get(id)) < 0) {
                json_object_put(value);
                json_object_put(m);
                return;
        }
        if (!value || json_put(m, member, value) < 0)
                json_object_put(TAKE_PTR(m));
        send_message(p, m);
}

static void answer_error(McpPeer *p, json_object *id, int code, const char *message) {
        json_object *e = json_object_new_object();

        if (e && (json_put_int(e, "code", code) < 0 || json_put_string(e, "message", message) < 0)) {
                json_object_put(e);
                e = NULL;
        }
        answer(p, id, "error", e);
}

/* --- calls --- */

static McpCall* call_free(McpCall *k) {
        LIST_REMOVE(k, calls);
        k->peer->n_calls--;
        tool_call_free(k->call);
        json_object_put(k->id);
        return mfree(k);
}

static McpCall* call_find(McpPeer *p, json_object *id) {
        McpCall *k;

        LIST_FOREACH(k, &p->calls, calls)
                if (json_object_equal(k->id, id))
                        return k;
        return NULL;
}

static int result_build(const char *text, bool is_error, json_object **ret) {
        _cleanup_json_ json_object *result = json_object_new_object();
        json_object *content = json_object_new_array(), *item = json_object_new_object();
        int r;

        if (!result || !content || !item || json_object_array_add(content, item) < 0) {
                json_object_put(content);
                json_object_put(item);
                return -ENOMEM;
        }
        r = json_put_string(item, "type", "text");
        if (r >= 0)
                r = json_put_string(item, "text", text);
        if (r < 0)
                json_object_put(content);
        else
                r = json_put(result, "content", content);
        if (r >= 0)
                r = json_put_bool(result, "isError", is_error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(result);
        return 0;
}

static void answer_result(McpPeer *p, json_object *id, const char *text, bool is_error) {
        json_object *result;

        if (result_build(text, is_error, &result) < 0)
                answer_error(p, id, ERROR_INTERNAL, "Out of memory");
        else
                answer(p, id, "result", result);
}

static void call_on_done(ToolCall *c, const ToolResult *result, void *userdata) {
        McpCall *k = userdata;

        answer_result(k->peer, k->id, result->text, result->is_error);
        call_free(k);
}

static bool tool_use_id_is_valid(const char *s) {
        size_t n = strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

        return n > 0 && n <= TOOL_USE_ID_SIZE_MAX && s[n] == 0;
}

/* A model's name for its call is the same when the call is made again on another connection. The request's id is not
 * taken for that: one that is used twice is no repetition. */
static char* call_key(McpPeer *p, json_object *params) {
        const char *s = json_get_string(json_get(params, "_meta"), "claudecode/toolUseId");

        return s && tool_use_id_is_valid(s) ? strjoin("mcp/", s) :
                                              asprintf_new("mcp:%s:%" PRIu64, p->name, p->n_keys++);
}

static void call_start(McpPeer *p, json_object *id, const char *name, json_object *params) {
        _cleanup_free_ char *key = call_key(p, params);
        McpCall *k = key ? new0(McpCall, 1) : NULL;

        if (!k) {
                answer_error(p, id, ERROR_INTERNAL, "Out of memory");
                return;
        }
        k->peer = p;
        k->id = json_object_get(id);
        LIST_INSERT_HEAD(&p->calls, k, calls);
        p->n_calls++;
        if (tool_call_start(p->spec.tools, name, json_get(params, "arguments"), key, call_on_done, k, &k->call) < 0) {
                answer_error(p, id, ERROR_INTERNAL, "Out of memory");
                call_free(k);
        }
}

/* --- methods --- */

static void on_initialize(McpPeer *p, json_object *id, json_object *params) {
        static const char *const revisions[] = { "2024-11-05", REVISION_WITH_BATCHES, "2025-06-18", REVISION_NEWEST };
        const char *wanted = json_get_string(params, "protocolVersion");
        _cleanup_json_ json_object *result = NULL;
        json_object *capabilities, *info;
        int r;

        if (!wanted) {
                answer_error(p, id, ERROR_PARAMS, "protocolVersion is required");
                return;
        }
        if (p->revision && !p->spec.resumed) {
                answer_error(p, id, ERROR_REQUEST, "Already initialized");
                return;
        }

        result = json_object_new_object();
        capabilities = json_object_new_object();
        info = json_object_new_object();
        if (!result || !capabilities || !info) {
                json_object_put(capabilities);
                json_object_put(info);
                return;
        }
        p->spec.resumed = false;
        /* The client goes away if it cannot do what it is offered instead. */
        p->revision = REVISION_NEWEST;
        for (size_t i = 0; i < ELEMENTSOF(revisions); i++)
                if (streq(revisions[i], wanted))
                        p->revision = revisions[i];

        r = json_put(result, "capabilities", capabilities);
        r = json_put(result, "serverInfo", info) < 0 ? -ENOMEM : r;
        if (r >= 0)
                r = json_put_string(result, "protocolVersion", p->revision);
        if (r >= 0)
                r = json_put(capabilities, "tools", json_object_new_object());
        if (r >= 0)
                r = json_put_string(info, "name", "puffo-core");
        if (r >= 0)
                r = json_put_string(info, "version", PROJECT_VERSION);
        answer(p, id, "result", r < 0 ? NULL : TAKE_PTR(result));
}

static int tool_describe(const Tool *t, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *schema;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "name", t->name);
        if (r >= 0)
                r = json_put_string(o, "description", t->description);
        if (r >= 0)
                r = json_parse(t->schema, strlen(t->schema), &schema);
        if (r >= 0)
                r = json_put(o, "inputSchema", schema);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static void on_list(McpPeer *p, json_object *id, json_object *params) {
        _cleanup_json_ json_object *result = json_object_new_object(), *list = json_object_new_array();
        const Tool *tools;
        size_t n;
        int r = result && list ? 0 : -ENOMEM;

        if (json_get(params, "cursor")) {       /* there is one page, and none was ever named */
                answer_error(p, id, ERROR_PARAMS, "Unknown cursor");
                return;
        }
        tools = tools_all(&n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                json_object *o;

                if (!tool_is_offered(p->spec.tools, tools[i].name))
                        continue;
                r = tool_describe(tools + i, &o);
                if (r >= 0 && json_object_array_add(list, o) < 0) {
                        json_object_put(o);
                        r = -ENOMEM;
                }
        }
        if (r >= 0)
                r = json_put(result, "tools", TAKE_PTR(list));
        if (r < 0)
                answer_error(p, id, ERROR_INTERNAL, "Out of memory");
        else
                answer(p, id, "result", TAKE_PTR(result));
}

static void on_call(McpPeer *p, json_object *id, json_object *params) {
        const char *name = json_get_string(params, "name");
        json_object *arguments = json_get(params, "arguments");
        _cleanup_free_ char *shown = NULL, *message = NULL;

        if (!name)
                answer_error(p, id, ERROR_PARAMS, "name is required");
        else if (arguments && !json_object_is_type(arguments, json_type_object))
                answer_error(p, id, ERROR_PARAMS, "arguments must be an object");
        else if (!tool_is_offered(p->spec.tools, name)) {
                shown = str_printable(name, NAME_SHOWN_MAX);
                message = shown ? strjoin("Unknown tool: ", shown) : NULL;
                answer_error(p, id, ERROR_PARAMS, message ?: "Unknown tool");
        } else if (call_find(p, id))
                answer_error(p, id, ERROR_REQUEST, "A call with this id is under way");
        else if (p->n_calls >= CALLS_MAX)
                answer_error(p, id, ERROR_BUSY, "Too many calls at once");
        else if (!p->spec.tools)
                answer_result(p, id, "This agent is not ready; try again later.", /* is_error= */ true);
        else
                call_start(p, id, name, params);
}

static void on_ping(McpPeer *p, json_object *id, json_object *params) {
        answer(p, id, "result", json_object_new_object());
}

static void on_cancelled(McpPeer *p, json_object *params) {
        McpCall *k = call_find(p, json_get(params, "requestId"));

        if (k)
                call_free(k);
}

/* --- messages --- */

static bool id_is_valid(json_object *id) {
        switch (json_object_get_type(id)) {
        case json_type_int:
        case json_type_double:
                return true;
        case json_type_string:
                return json_object_get_string_len(id) <= ID_SIZE_MAX;
        default:
                return false;
        }
}

static void take_request(McpPeer *p, json_object *id, const char *method, json_object *params) {
        static const struct {
                const char *method;
                void (*run)(McpPeer *p, json_object *id, json_object *params);
                bool any_time;
        } methods[] = {
                { "initialize", on_initialize, true },
                { "ping", on_ping, true },
                { "tools/list", on_list },
                { "tools/call", on_call },
        };

        for (size_t i = 0; i < ELEMENTSOF(methods); i++) {
                if (!streq(method, methods[i].method))
                        continue;
                if (!p->revision && !methods[i].any_time)
                        answer_error(p, id, ERROR_REQUEST, "Not initialized");
                else
                        methods[i].run(p, id, params);
                return;
        }
        answer_error(p, id, ERROR_METHOD, "Method not found");
}

static void take_message(McpPeer *p, json_object *m) {
        json_object *id = NULL, *params;
        bool has_id;
        const char *method;

        if (!json_object_is_type(m, json_type_object)) {
                answer_error(p, NULL, ERROR_REQUEST, "A message is an object");
                return;
        }
        has_id = json_object_object_get_ex(m, "id", &id);
        method = json_get_string(m, "method");
        params = json_get(m, "params");

        /* We ask nothing, so that answers are of no interest, and must not be answered. */
        if (!json_get(m, "method") && (json_get(m, "result") || json_get(m, "error")))
                return;
        if (has_id && !id_is_valid(id))
                answer_error(p, NULL, ERROR_REQUEST, "An id is a number or a string");
        else if (!streq_ptr(json_get_string(m, "jsonrpc"), "2.0"))
                answer_error(p, id, ERROR_REQUEST, "jsonrpc must be \"2.0\"");
        else if (!method)
                answer_error(p, id, ERROR_REQUEST, "method is required");
        else if (!has_id && streq(method, "notifications/cancelled"))
                on_cancelled(p, params);
        else if (!has_id)
                return;         /* notifications are never answered, not even unknown ones */
        else if (params && !json_object_is_type(params, json_type_object))
                answer_error(p, id, ERROR_PARAMS, "params must be an object");
        else
                take_request(p, id, method, params);
}

static int take_line(McpPeer *p, const char *line, size_t size) {
        _cleanup_json_ json_object *m = NULL;
        size_t n;
        int r;

        if (size > 0 && line[size - 1] == '\r')
                size--;
        if (size == 0)
                return 0;
        r = json_parse(line, size, &m);
        if (r == -ENOMEM)
                return r;
        if (r < 0) {
                answer_error(p, NULL, ERROR_PARSE, "Parse error");
                return 0;
        }
        if (!json_object_is_type(m, json_type_array)) {
                take_message(p, m);
                return 0;
        }

        n = json_object_array_length(m);
        if (!streq_ptr(p->revision, REVISION_WITH_BATCHES))
                answer_error(p, NULL, ERROR_REQUEST, "Batches are not part of this revision of the protocol");
        else if (n == 0 || n > MESSAGES_MAX)
                answer_error(p, NULL, ERROR_REQUEST, n == 0 ? "The batch is empty" : "The batch is too large");
        else    /* Answered one by one: the calls in it do not end together. */
                for (size_t i = 0; i < n; i++)
                        take_message(p, json_object_array_get_idx(m, i));
        return 0;
}

int mcp_peer_feed(McpPeer *p, const char *data, size_t size) {
        size_t begin = 0;
        char *end;
        int r;

        r = strbuf_append(&p->input, data, size);
        if (r < 0)
                return r;
        while (p->input.text &&
               (end = memchr(p->input.text + p->n_searched, '\n', p->input.size - p->n_searched))) {
                size_t after = (size_t) (end - p->input.text) + 1;

                if (after - 1 - begin > MCP_LINE_MAX)
                        break;
                p->n_searched = after;
                r = take_line(p, p->input.text + begin, after - 1 - begin);
                if (r < 0)
                        return r;
                begin = after;
        }
        strbuf_consume(&p->input, begin);
        if (p->input.size == 0)
                strbuf_done(&p->input);
        p->n_searched = p->input.size;
        if (p->input.size <= MCP_LINE_MAX)
                return 0;

        /* Whoever goes on nevertheless begins with a new line. */
        strbuf_done(&p->input);
        p->n_searched = 0;
        answer_error(p, NULL, ERROR_REQUEST, "The line is too long");
        return -E2BIG;
}

size_t mcp_peer_n_calls(const McpPeer *p) {
        return p->n_calls;
}

void mcp_peer_set_tools(McpPeer *p, ToolBox *tools) {
        McpCall *k;

        while ((k = LIST_FIRST(&p->calls))) {
                answer_result(p, k->id, "This agent is being set up anew; try again.", /* is_error= */ true);
                call_free(k);
        }
        p->spec.tools = tools;
}

int mcp_peer_new(McpPeer **ret, const McpPeerSpec *spec) {
        _cleanup_(mcp_peer_freep) McpPeer *p = new0(McpPeer, 1);

        if (!p)
                return -ENOMEM;
        LIST_INIT(&p->calls);
        p->spec = *spec;
        p->revision = spec->resumed ? REVISION_NEWEST : NULL;
        p->name = random_hex(16);
        if (!p->name)
                return -ENOMEM;
        *ret = TAKE_PTR(p);
        return 0;
}

McpPeer* mcp_peer_free(McpPeer *p) {
        McpCall *k;

        if (!p)
                return NULL;
        while ((k = LIST_FIRST(&p->calls)))
                call_free(k);
        strbuf_done(&p->input);
        free(p->name);
        return mfree(p);
}
