/* SPDX-License-Identifier: MIT */

#include "ctl-verbs.h"

static const Option options[] = {
        { "user", 0, NULL, "your own agents (default)" },
        { "system", 0, NULL, "the machine's agents" },
        { "host", 'H', "[USER@]HOST", "those of another machine, over ssh" },
        { "machine", 'M', "MACHINE", "those of a local container" },
        { "json", 0, NULL, "print JSON" },
        { "no-pager", 0, NULL, "never use a pager" },
        { "no-legend", 0, NULL, "no headings" },
        { "quiet", 'q', NULL, "print nothing but results and errors" },
        { "help", 'h', NULL, "this text" },
        { "version", 0, NULL, "the version" },
        {},
};

static const Verb verbs[] = {
        { "Overview", "status", NULL, "daemon, agents, and what is wrong", 0, 0, .run = verb_status },

        { "Agents", "agent list", NULL, "all agents", 0, 0, .options = list_options, .run = verb_agent_list },
        { NULL, "agent show", "AGENT", "everything about an agent", 1, 1, .run = verb_agent_show },
        { NULL, "agent create", "ID", "make an agent", 1, 1, .options = create_options,
          .run = verb_agent_create },
        { NULL, "agent start", "AGENT…", "want it running, and wait until it is ready", 1, SIZE_MAX,
          .run = verb_agent_start },
        { NULL, "agent stop", "AGENT…", "want it stopped, and wait until it is", 1, SIZE_MAX,
          .run = verb_agent_stop },
        { NULL, "agent pause", "AGENT…", "as stop, without waiting", 1, SIZE_MAX, .run = verb_agent_pause },
        { NULL, "agent resume", "AGENT…", "as start, without waiting", 1, SIZE_MAX, .run = verb_agent_resume },
        { NULL, "agent restart", "AGENT…", "start its session anew", 1, SIZE_MAX, .run = verb_agent_restart },
        { NULL, "agent runtime", "AGENT", "show or change what it runs on", 1, 1, .options = runtime_options,
          .run = verb_agent_runtime },
        { NULL, "agent refresh", "AGENT…", "read profile, memory and settings again", 1, SIZE_MAX,
          .run = verb_agent_refresh },
        { NULL, "agent refresh-ping", "AGENT", "have the login that its CLI works with refreshed", 1, 1,
          .run = verb_agent_refresh_ping },
        { NULL, "agent archive", "AGENT", "stop it and put its directory away", 1, 1,
          .run = verb_agent_archive },
        { NULL, "agent delete", "AGENT", "remove it with all it knows", 1, 1, .options = delete_options,
          .run = verb_agent_delete },
        { NULL, "agent export", "AGENT [FILE]", "write it to a zip file ('-': stdout)", 1, 2,
          .options = export_options, .run = verb_agent_export },
        { NULL, "agent import", "FILE [ID]", "take in such a file ('-': stdin)", 1, 2,
          .run = verb_agent_import },

        { "Talking to an agent, and looking into it", "agent chat", "AGENT [TEXT…]", "talk to it", 1, SIZE_MAX,
          .text_after = 2, .options = chat_options, .run = verb_agent_chat },
        { NULL, "agent history", "AGENT", "what was said", 1, 1, .options = history_options,
          .run = verb_agent_history },
        { NULL, "agent logs", "AGENT", "its journal", 1, 1, .options = logs_options, .run = verb_agent_logs },
        { NULL, "trace", "MESSAGE [AGENT]", "the way of one message, from its arrival to the answer", 1, 2,
          .run = verb_trace },
        { NULL, "agent profile", "AGENT [edit]", "show its profile, or edit it (or read it from a pipe)", 1, 2,
          .run = verb_agent_profile },
        { NULL, "agent memory", "AGENT [TOPIC]", "what it remembers", 1, 2, .run = verb_agent_memory },
        { NULL, "agent files", "AGENT [DIR]", "its workspace", 1, 2, .options = files_options,
          .run = verb_agent_files },

        { "Permission", "approvals", "[AGENT]", "what agents ask permission for", 0, 1, .options = approvals_options,
          .run = verb_approvals },
        { NULL, "approve", "ID", "allow it, or deny it", 1, 1, .options = approve_options, .run = verb_approve },

        { "Settings", "provider list", NULL, "model providers", 0, 0, .run = verb_provider_list },
        { NULL, "provider set", "NAME", "key, model and address of a provider", 1, 1,
          .options = provider_options, .run = verb_provider_set },
        { NULL, "provider default", "NAME", "the one that agents use unless told otherwise", 1, 1,
          .run = verb_provider_default },
        { NULL, "pairing show", NULL, "the web operator", 0, 0, .run = verb_pairing_show },
        { NULL, "pairing unpair", NULL, "forget it", 0, 0, .run = verb_pairing_unpair },
        {},
};

const Program puffoctl_program = { "puffoctl", "Looks after AI agents that run as systemd services.", options, verbs };
