/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* Between a client of the Model Context Protocol and the session's tools: hands lines on as they are, and keeps what a
 * new connection must be told so that the client does not notice the old one's end. Does no input and output itself.
 */
typedef struct McpBridge McpBridge;

#define BRIDGE_LINE_MAX MIB(16)
/* A request during which so many connections have ended may be why. */
#define BRIDGE_SENDS_MAX 3U

/* Bytes that wait to be written. */
typedef struct BridgeOutput {
        StrBuf text;
        size_t begin;
} BridgeOutput;

static inline size_t bridge_output_size(const BridgeOutput *o) {
        return o->text.size - o->begin;
}
/* n of them were written. */
void bridge_output_consume(BridgeOutput *o, size_t n);

int mcp_bridge_new(McpBridge **ret);
McpBridge* mcp_bridge_free(McpBridge *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(McpBridge*, mcp_bridge_free);

/* What is to be written to either side. Borrowed. */
BridgeOutput* mcp_bridge_to_client(McpBridge *b);
BridgeOutput* mcp_bridge_to_session(McpBridge *b);

/* What was read. -ENOMEM. From the session too: > 0 when a whole line was among it, -EPROTO when the connection is of
 * no use. */
int mcp_bridge_from_client(McpBridge *b, const char *data, size_t size);
int mcp_bridge_from_session(McpBridge *b, const char *data, size_t size);

/* Whether there is a request without an answer. */
bool mcp_bridge_is_waiting(const McpBridge *b);

/* There is a connection: the client's introduction is repeated on one that is not the first, then what has no answer.
 */
int mcp_bridge_on_connected(McpBridge *b);
int mcp_bridge_on_disconnected(McpBridge *b);
/* There will be none: whatever has no answer gets an error. */
int mcp_bridge_give_up(McpBridge *b, const char *reason);
