/* SPDX-License-Identifier: MIT */

/* --bus-introspect: the vtables as they are exported, asked over a socket pair, so that the published XML can be
 * compared with what the program really offers. */

#include <stdio.h>
#include <sys/socket.h>

#include "agent.h"
#include "bus-util.h"
#include "private-server.h"
#include "string-util.h"

static int start_end(sd_bus **ret, int fd, bool server) {
        sd_id128_t id;
        int r;

        r = sd_bus_new(ret);
        if (r >= 0)
                r = sd_bus_set_fd(*ret, fd, fd);
        if (r >= 0 && server)
                r = sd_id128_randomize(&id);
        if (r >= 0)
                r = server ? sd_bus_set_server(*ret, 1, id) : sd_bus_set_bus_client(*ret, 0);
        return r < 0 ? r : sd_bus_start(*ret);
}

static int on_xml(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char **ret = userdata;

        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "s", ret) < 0)
                *ret = "";
        *ret = strdup(*ret);
        return 0;
}

static int print_interface(const char *xml, const char *interface) {
        _cleanup_free_ char *begin_tag = strjoin(" <interface name=\"", interface, "\">");
        const char *begin, *end;

        if (!begin_tag)
                return -ENOMEM;
        begin = strstr(xml, begin_tag);
        end = begin ? strstr(begin, " </interface>") : NULL;
        if (!end)
                return -ENOENT;
        printf("<node>\n%.*s </interface>\n</node>\n", (int) (end - begin), begin);
        return 0;
}

static const char* path_of(const char *interface) {
        return streq(interface, PUFFO_BUS_MANAGER_INTERFACE) ? PUFFO_BUS_PATH
             : streq(interface, PUFFO_BUS_PAIRING_INTERFACE) ? PUFFO_BUS_PAIRING_PATH
             : streq(interface, PUFFO_PRIVATE_MANAGER_INTERFACE) ? PUFFO_PRIVATE_MANAGER_PATH
             : streq(interface, PUFFO_BUS_AGENT_INTERFACE) ? PUFFO_BUS_AGENT_PREFIX "/x" : NULL;
}

int manager_print_introspection(const char *interface) {
        _cleanup_(sd_bus_close_unrefp) sd_bus *server = NULL, *client = NULL;
        _cleanup_free_ char *xml = NULL;
        const char *path = path_of(interface);
        AgentConfig config = {};
        AgentHome home = { .id = (char*) "x" };
        /* Introspection asks which nodes there are and what is at one of them: it takes one agent, of no substance. */
        Agent agent = {.home = &home, .config = &config, .path = (char *) PUFFO_BUS_AGENT_PREFIX "/x"},
              *agents[] = {&agent};
        Manager m = { .agents = agents, .n_agents = 1 };
        int fds[2], r;

        if (!path)
                return -ENOENT;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) < 0)
                return -errno;

        r = start_end(&server, fds[0], true);
        if (r >= 0)
                r = start_end(&client, fds[1], false);
        m.bus = server;
        if (r >= 0)
                r = manager_export(&m);
        if (r >= 0)
                r = agent_export(&m);
        if (r >= 0)
                r = pairing_export(&m);
        if (r >= 0)
                r = private_server_export(server, NULL);
        if (r >= 0)
                r = sd_bus_call_method_async(client, NULL, NULL, path, "org.freedesktop.DBus.Introspectable",
                                             "Introspect", on_xml, &xml, NULL);
        while (r >= 0 && !xml) {
                r = sd_bus_process(client, NULL);
                if (r >= 0)
                        r = sd_bus_process(server, NULL);
        }
        return r < 0 ? r : print_interface(xml, interface);
}
