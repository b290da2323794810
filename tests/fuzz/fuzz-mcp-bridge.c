/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "mcp-bridge.h"

static void drain(BridgeOutput *o) {
        size_t n = bridge_output_size(o);

        /* Whatever is written ends with a line. */
        if (n > 0 && o->text.text[o->text.size - 1] != '\n')
                abort();
        bridge_output_consume(o, n);
}

/* Lines of the client and of the session, and connections that come and go, as the bytes between them say. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(mcp_bridge_freep) McpBridge *b = NULL;
        bool connected = false;

        if (mcp_bridge_new(&b) < 0)
                abort();
        while (size > 0) {
                uint8_t what = *data++;
                size_t n = 0;
                int r = 0;

                size--;
                while (n < size && data[n] >= 4)        /* 0 to 3 divide */
                        n++;
                switch (what) {
                case 0:
                        r = connected ? mcp_bridge_on_disconnected(b) : mcp_bridge_on_connected(b);
                        connected = !connected;
                        break;
                case 1:
                        if (!connected)
                                break;
                        r = mcp_bridge_from_session(b, (const char*) data, n);
                        if (r == -EPROTO) {
                                r = mcp_bridge_on_disconnected(b);
                                connected = false;
                        }
                        break;
                case 2:
                        r = connected ? 0 : mcp_bridge_give_up(b, "x");
                        if (!connected && mcp_bridge_is_waiting(b))
                                abort();
                        break;
                default:
                        r = mcp_bridge_from_client(b, (const char*) data, n);
                }
                if (r < 0 && r != -ENOMEM)
                        abort();
                data += n;
                size -= n;
                drain(mcp_bridge_to_client(b));
                drain(mcp_bridge_to_session(b));
                if (!connected && bridge_output_size(mcp_bridge_to_session(b)) > 0)
                        abort();
        }
        return 0;
}
