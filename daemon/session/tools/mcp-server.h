/* SPDX-License-Identifier: MIT */
#pragma once

#include "mcp-peer.h"

/* The agent's tools for programs that speak MCP, on a Unix stream socket: whoever can connect is the agent. A program
 * that copies bytes between its standard input and output and this socket is an MCP server by stdio. */
typedef struct McpServer McpServer;

/* tools: borrowed, may be NULL for now. */
int mcp_server_new(McpServer **ret, sd_event *event, ToolBox *tools);
/* Cuts all connections. */
McpServer* mcp_server_free(McpServer *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(McpServer*, mcp_server_free);

/* A listening stream socket, taken over in any case. -EINVAL when it is none. */
int mcp_server_listen_fd(McpServer *s, int fd);

/* Before the loop runs without the old ones; NULL: there are none for now. Calls that are under way are answered with
 * an error. */
void mcp_server_set_tools(McpServer *s, ToolBox *tools);
