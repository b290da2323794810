/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "event-util.h"
#include "mcp-server.h"
#include "run-socket.h"

/* The tools of an agent without an identity, for clients of others' making: tool-server DIRECTORY WORKSPACE SOCKET. */
int main(int argc, char **argv) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(tool_box_freep) ToolBox *tools = NULL;
        _cleanup_(mcp_server_freep) McpServer *server = NULL;
        AgentHome home = { .id = (char*) "test" };
        int r;

        if (argc != 4) {
                (void) fprintf(stderr, "Usage: %s DIRECTORY WORKSPACE SOCKET\n", argv[0]);
                return EXIT_FAILURE;
        }
        home.directory = argv[1];
        home.workspace = argv[2];
        r = event_new(&event);
        if (r >= 0)
                r = tool_box_new(&tools, &(ToolBoxSpec) { .event = event, .home = &home, .kind = RUNTIME_CLI_LOCAL });
        if (r >= 0)
                r = mcp_server_new(&server, event, tools);
        if (r >= 0)
                r = run_socket_open(argv[3], "tools");
        if (r >= 0)
                r = mcp_server_listen_fd(server, r);
        if (r >= 0) {
                (void) printf("listening\n");
                (void) fflush(stdout);
                r = sd_event_loop(event);
        }
        if (r < 0)
                (void) fprintf(stderr, "%s\n", strerror(-r));
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
