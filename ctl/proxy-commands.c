/* SPDX-License-Identifier: MIT */

#include "ctl-verbs.h"
#include "proxy.h"

static const Option options[] = {
        { "user", 0, NULL, "your own agents (default)" },
        { "system", 0, NULL, "the machine's agents" },
        { "json", 0, NULL, "print JSON" },
        { "help", 'h', NULL, "this text" },
        { "version", 0, NULL, "the version" },
        {},
};

static const Option address_options[] = {
        { "ip", 0, "IP", "address to listen on (default 127.0.0.1; another one needs AGENT_PROXY_API_KEY)" },
        { "port", 0, "PORT", "port to listen on (default 7011)" },
        {},
};

static const Option enable_options[] = {
        { "ip", 0, "IP", "address to listen on (default 127.0.0.1; another one needs AGENT_PROXY_API_KEY)" },
        { "port", 0, "PORT", "port to listen on (default 7011)" },
        { "api-key", 0, "[-]", "ask for the key of the clients, or read it from a pipe (or: AGENT_PROXY_API_KEY)" },
        {},
};

static const Option restart_options[] = {
        { "agents", 0, NULL, "the agents that run, too" },
        {},
};

static const Option stop_options[] = {
        { "wait", 0, NULL, "until it has stopped" },
        {},
};

static const Verb verbs[] = {
        { "Service", "enable", NULL, "install and start the service, now and at each boot", 0, 0,
          .options = enable_options, .run = proxy_enable },
        { NULL, "disable", NULL, "undo that; agents and their files stay", 0, 0, .run = proxy_disable },
        { NULL, "restart", NULL, "restart the service; agents go on", 0, 0, .options = restart_options,
          .run = proxy_restart },
        { NULL, "daemon", NULL, "run the service from here, without installing it", 0, 0,
          .options = address_options, .run = proxy_daemon },

        { "Agents", "init", "ROLE", "make the agent of a role and start it", 1, 1, .run = proxy_init },
        { NULL, "hire", "ROLE NAME", "make one more agent of a role and start it", 2, 2, .run = proxy_hire },
        { NULL, "list", NULL, "all agents", 0, 0, .run = proxy_list },
        { NULL, "status", NULL, "the service, the agents and their processes", 0, 0, .run = proxy_status },
        { NULL, "connect", "AGENT [DIR]", "talk to an agent about a directory", 1, 2, .run = proxy_connect },
        { NULL, "stop", "AGENT", "stop an agent", 1, 1, .options = stop_options, .run = proxy_stop },
        {},
};

const Program agent_proxy_program = { "agent-proxy", "Persistent role agents behind one service.", options, verbs };
