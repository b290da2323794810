/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "json-util.h"
#include "mcp-peer.h"

static void check_line(const char *line, size_t size, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        json_object *id;
        int r;

        if (size < 2 || line[size - 1] != '\n' || memchr(line, '\n', size - 1))
                abort();
        r = json_parse(line, size - 1, &o);
        if (r == -ENOMEM)
                return;
        if (r < 0 || !json_get_string(o, "jsonrpc") || !json_object_object_get_ex(o, "id", &id) ||
            !json_get(o, "result") == !json_get(o, "error"))
                abort();
        (*(unsigned*) userdata)++;
}

/* A client of the tools gets answers that are JSON-RPC, and the same ones however its bytes are cut. No tool runs. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(mcp_peer_freep) McpPeer *whole = NULL, *pieces = NULL;
        unsigned n_whole = 0, n_pieces = 0;
        int r;

        if (mcp_peer_new(&whole, &(McpPeerSpec) { .write = check_line, .userdata = &n_whole }) < 0 ||
            mcp_peer_new(&pieces, &(McpPeerSpec) { .write = check_line, .userdata = &n_pieces }) < 0)
                return 0;
        r = mcp_peer_feed(whole, (const char*) data, size);
        for (size_t done = 0, n; done < size; done += n) {
                n = MIN(size - done, 1 + data[done] % 64U);
                if (mcp_peer_feed(pieces, (const char*) data + done, n) < 0)
                        return 0;
        }
        if (r >= 0 && n_whole != n_pieces)
                abort();
        return 0;
}
