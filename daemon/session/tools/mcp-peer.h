/* SPDX-License-Identifier: MIT */
#pragma once

#include "tool.h"

/* One client of the tools by the Model Context Protocol (revisions 2024-11-05 to 2025-11-25, stdio framing): JSON-RPC
 * messages, one a line. Knows nothing of where the bytes come from and go to. */
typedef struct McpPeer McpPeer;

#define MCP_LINE_MAX MIB(4)

typedef struct McpPeerSpec {
        ToolBox *tools;         /* borrowed; NULL: there is none now, see mcp_peer_set_tools() */
        /* Takes a whole line. Called from mcp_peer_feed() and from the loop; must not free the peer. */
        void (*write)(const char *line, size_t size, void *userdata);
        void *userdata;
        /* The client may have introduced itself to an earlier process, or may be about to. */
        bool resumed;
} McpPeerSpec;

int mcp_peer_new(McpPeer **ret, const McpPeerSpec *spec);
/* Calls that are under way are forgotten. */
McpPeer* mcp_peer_free(McpPeer *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(McpPeer*, mcp_peer_free);

/* -E2BIG: a line is too long; the client was told, and what was there of it is forgotten. -ENOMEM. */
int mcp_peer_feed(McpPeer *p, const char *data, size_t size);
size_t mcp_peer_n_calls(const McpPeer *p);

/* Calls of the tools before are answered with an error. */
void mcp_peer_set_tools(McpPeer *p, ToolBox *tools);
