/* SPDX-License-Identifier: MIT */

#include "chat-service.h"
#include "file-util.h"
#include "log.h"
#include "mcp-server.h"
#include "role.h"
#include "run-socket.h"
#include "string-util.h"

/* Of the tools' socket in the descriptor store. */
#define TOOLS_NAME "tools"

struct ChatService {
        ChatServiceSpec spec;
        Puffo *puffo;                   /* NULL: no identity, or one that cannot be used */
        ToolBox *tools;                 /* exists with puffo, and for who leads others */
        McpServer *mcp;                 /* the same for other programs; NULL: it could not be set up */
        char *fault;
        bool stopping;
};

int chat_service_new(ChatService **ret, const ChatServiceSpec *spec) {
        ChatService *c = new0(ChatService, 1);

        if (!c)
                return -ENOMEM;
        c->spec = *spec;
        *ret = c;
        return 0;
}

/* What is under way for others is ended with the box that it knows: they are told so while that can still call off
 * what it has begun elsewhere. */
static void end_calls(ChatService *c) {
        if (c->mcp && c->tools)
                mcp_server_set_tools(c->mcp, NULL);
}

static void drop_tools(ChatService *c) {
        if (!c->tools)
                return;
        c->spec.on_tools_going(c->spec.userdata);
        c->tools = tool_box_free(c->tools);
}

static void leave(ChatService *c) {
        drop_tools(c);
        c->puffo = puffo_free(c->puffo);
        c->mcp = mcp_server_free(c->mcp);
}

/* Nobody is to find tools where there are none any more. */
static void close_tools(ChatService *c) {
        _cleanup_free_ char *path = path_join(c->spec.directory, CHAT_SERVICE_SOCKET);

        if (path && access(path, F_OK) >= 0)
                run_socket_remove(path, TOOLS_NAME, -EBADF);
}

ChatService* chat_service_free(ChatService *c) {
        if (!c)
                return NULL;
        leave(c);
        free(c->fault);
        return mfree(c);
}

/* An agent whose keys cannot be used is there for everybody else. */
static int join(ChatService *c, const SessionConfig *config) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = puffo_new(&c->puffo, &(PuffoSpec) {
                .event = c->spec.event, .db = c->spec.db, .queue = c->spec.queue, .approvals = c->spec.approvals,
                .config = config,
                .on_changed = c->spec.on_changed, .on_broken = c->spec.on_broken, .on_left = c->spec.on_left,
                .userdata = c->spec.userdata,
        }, &text);
        if (r == -ENOMEM)
                return r;
        if (r < 0 && (!text || !streq_ptr(text, c->fault)))
                log_error("The agent cannot be on Puffo: %s", text ?: strerror(-r));
        free(c->fault);
        c->fault = r >= 0 ? NULL : text ? TAKE_PTR(text) : strdup(strerror(-r));
        return 0;
}

/* An agent that answers by itself can do without. */
static int serve_tools(ChatService *c) {
        _cleanup_free_ char *path = path_join(c->spec.directory, CHAT_SERVICE_SOCKET);
        int r;

        if (!path)
                return -ENOMEM;
        if (c->mcp) {
                mcp_server_set_tools(c->mcp, c->tools);
                return 0;
        }
        r = mcp_server_new(&c->mcp, c->spec.event, c->tools);
        if (r < 0)
                return r;
        r = run_socket_open(path, TOOLS_NAME);
        if (r >= 0)
                r = mcp_server_listen_fd(c->mcp, r);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to offer the agent's tools at '%s': %m", path);
                c->mcp = mcp_server_free(c->mcp);
        }
        return r == -ENOMEM ? r : 0;
}

/* The first agent has others work for it (agent-proxy §15 #14). */
static bool leads(const SessionConfig *config) {
        return config->home->role && streq(config->home->id, ROLE_MANAGER);
}

/* The tools know the agent's workspace and kind, which a new configuration may have changed. */
static int make_tools(ChatService *c, const SessionConfig *config) {
        ToolBox *tools;
        int r;

        r = tool_box_new(&tools, &(ToolBoxSpec) {
                .event = c->spec.event, .puffo = c->puffo, .home = config->home, .kind = config->agent->kind,
                .harness = config->agent->kind == RUNTIME_CHAT_LOCAL ? "" : agent_config_harness(config->agent),
                .get_link = leads(config) ? c->spec.get_link : NULL,
                .on_ended = c->spec.on_tool_ended, .userdata = c->spec.userdata,
        });
        if (r < 0)
                return r;
        end_calls(c);
        drop_tools(c);
        c->tools = tools;
        return serve_tools(c);
}

int chat_service_configure(ChatService *c, const SessionConfig *config) {
        const AgentConfig *a = config->agent;
        Puffo *before = c->puffo;
        int r = 0;

        if (!a || c->stopping)
                return 0;
        if (c->puffo && !puffo_is_for(c->puffo, config)) {
                end_calls(c);
                leave(c);
        }
        if (isempty(a->slug) || isempty(a->server_url)) {
                c->fault = mfree(c->fault);
                if (!leads(config))
                        close_tools(c);
        } else {
                r = c->puffo ? puffo_configure(c->puffo, config) : join(c, config);
                if (r < 0)
                        return r;
        }
        if (!c->puffo && !leads(config))
                return r;
        return c->tools && c->puffo == before ? r : make_tools(c, config);
}

void chat_service_stop(ChatService *c) {
        c->stopping = true;
        if (c->tools)
                tool_box_leave(c->tools);
        if (c->puffo)
                puffo_stop(c->puffo);
        else
                c->spec.on_left(c->spec.userdata);
}

void chat_service_interrupted(ChatService *c, const Turn *t) {
        if (c->puffo)
                batches_interrupted(puffo_batches(c->puffo), t);
}

const char* chat_service_fault(const ChatService *c) {
        return c->fault;
}

const char* chat_service_status_text(const ChatService *c) {
        return c->puffo ? puffo_status_text(c->puffo) : "";
}

ToolBox* chat_service_tools(ChatService *c) {
        return c->tools;
}

int chat_service_tell_operator(ChatService *c, const char *key, const char *text) {
        return c->puffo ? puffo_tell_operator(c->puffo, key, text) : 0;
}

void chat_service_resume(ChatService *c) {
        if (c->puffo)
                batches_resume(puffo_batches(c->puffo));
}

bool chat_service_offer(ChatService *c, uint64_t waiting_since_usec) {
        return c->puffo && batches_offer(puffo_batches(c->puffo), waiting_since_usec);
}

void chat_service_begun(ChatService *c, const Turn *t) {
        if (c->puffo)
                batches_begun(puffo_batches(c->puffo), t);
}

void chat_service_ending(ChatService *c, Turn *t, TurnResult *result) {
        if (c->puffo)
                batches_ending(puffo_batches(c->puffo), t, result);
}

int chat_service_also(ChatService *c, Database *db, const char *id, const TurnResult *result) {
        return c->puffo ? batches_also(puffo_batches(c->puffo), db, id, result) : 0;
}

void chat_service_ended(ChatService *c, const Turn *t, const TurnResult *result) {
        if (c->puffo)
                batches_ended(puffo_batches(c->puffo), t, result);
}
