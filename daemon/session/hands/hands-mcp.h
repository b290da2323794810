/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"
#include "harness.h"
#include "tool.h"

/* The agent's tools for a CLI that asks for them over its own pipes (sdk-local): the MCP server "puffo" of
 * claude-cli-protocol §9.5. */
typedef struct HandsMcp HandsMcp;

typedef struct HandsMcpSpec {
        Database *db;           /* this and the next are borrowed */
        Harness *driver;
        ToolBox *tools;         /* borrowed; NULL: calls are answered with an error */
        bool adopted;           /* the CLI has been talking to an earlier process */
} HandsMcpSpec;

int hands_mcp_new(HandsMcp **ret, const HandsMcpSpec *spec);
HandsMcp* hands_mcp_free(HandsMcp *m);
DEFINE_TRIVIAL_CLEANUP_FUNC(HandsMcp*, hands_mcp_free);

/* What an earlier process was asked and did not come to answer: each call is made again under the name that it had.
 * Before the CLI is heard. -EUCLEAN and other errors of the database, -ENOMEM. */
int hands_mcp_take_up(HandsMcp *m);
void hands_mcp_set_tools(HandsMcp *m, ToolBox *tools);
/* A handler of the driver. */
void hands_mcp_take(HandsMcp *m, const char *request_id, const char *message);
