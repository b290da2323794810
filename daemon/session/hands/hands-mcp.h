/* SPDX-License-Identifier: MIT */
#pragma once

#include "harness.h"
#include "tool.h"

/* The agent's tools for a CLI that asks for them over its own pipes (sdk-local): the MCP server "puffo" of
 * claude-cli-protocol §9.5. */
typedef struct HandsMcp HandsMcp;

/* Both are borrowed; tools may be NULL: calls are answered with an error. */
int hands_mcp_new(HandsMcp **ret, Harness *driver, ToolBox *tools);
HandsMcp* hands_mcp_free(HandsMcp *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(HandsMcp*, hands_mcp_free);

void hands_mcp_set_tools(HandsMcp *m, ToolBox *tools);
/* A handler of the driver. */
void hands_mcp_take(HandsMcp *m, const char *request_id, const char *message);
