/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-config.h"
#include "paths.h"

/* One agent's directory: what lies where, and what can be done with it as files. No process, no bus. */

typedef struct AgentHome {
        char *id;
        char *directory;        /* the agent dir, with agent.yml in it */
        char *config_path;      /* <directory>/agent.yml */
        char *workspace;        /* resolved; for role agents in user mode below proxy_home */
        char *role, *name;      /* role agents only, else NULL; name NULL for a bare role */
} AgentHome;

AgentHome* agent_home_free(AgentHome *h);
DEFINE_TRIVIAL_CLEANUP_FUNC(AgentHome*, agent_home_free);

/* All agents of both homes, sorted by id, manager first. Ids that are in both are left out; *ret_problems (a string
 * list, NULL when there are none) says so, naming both directories, and likewise for names that are no valid ids, and for
 * role agents whose workspace is gone ("missing"). */
int agent_homes_enumerate(const HomePaths *p, AgentHome ***ret, size_t *ret_n, char ***ret_problems);
void agent_homes_free(AgentHome **homes, size_t n);
/* One of them. -ENOENT. */
int agent_home_find(const HomePaths *p, const char *id, AgentHome **ret);

/* profile, memory_dir or workspace_dir of a configuration as an absolute path. */
char* agent_home_path(const AgentHome *h, const char *configured);

/* A new agent directory, built aside and renamed into place: agent.yml, profile.md (profile, or the built-in template
 * when NULL), memory/, workspace/. -EEXIST, -EINVAL for a bad id. c->id names it. */
int agent_home_create(const HomePaths *p, AgentConfig *c, const char *profile, AgentHome **ret);

/* Parts of the system prompt (agent-runtime §16.1, agent-home §§5.3, 5.4): the profile's text, "" when there is none; the
 * memory snapshot, "" when empty. At most 256 KiB each, cut with a note. For role agents the profile part is SOUL.md,
 * AGENTS.md and the memory part memory/memory.md. */
int agent_home_read_profile(const AgentHome *h, const AgentConfig *c, char **ret);
int agent_home_write_profile(const AgentHome *h, const AgentConfig *c, const char *text);
int agent_home_read_memory(const AgentHome *h, const AgentConfig *c, char **ret);
/* The whole managed prompt of a chat-local agent. */
int agent_home_system_prompt(const AgentHome *h, const AgentConfig *c, char **ret);

/* Moves the directory to <archived>/<id>-<YYYYMMDD-HHMMSS>; a role agent's workspace goes with it as "workspace".
 * *ret_path: where it is now. Only for agents whose units are gone. -EBUSY for manager. */
int agent_home_archive(const HomePaths *p, const AgentHome *h, char **ret_path);
int agent_home_delete(const HomePaths *p, const AgentHome *h);

/* Zip as in agent-home §10 ("Ours"), written to fd. */
typedef enum ExportFlags {
        EXPORT_SECRETS = 1 << 0,
        EXPORT_WORKSPACE = 1 << 1,
        EXPORT_MESSAGES = 1 << 2,
} ExportFlags;
int agent_home_export(const AgentHome *h, const AgentConfig *c, ExportFlags flags, int fd);
/* A zip made by export (ours or upstream's), read from fd (must be seekable or a pipe: it is spooled). Every entry is checked: below one top
 * directory that is a valid id, no "..", no links, at most 1 GiB and 100,000 entries. Built aside, validated
 * (agent.yml must load), renamed into place with state paused. id: NULL for the one inside. -EEXIST, -EBADMSG with *reterr. */
int agent_home_import(const HomePaths *p, int fd, const char *id, AgentHome **ret, char **reterr);
