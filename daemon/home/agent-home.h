/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-config.h"
#include "paths.h"

/* Beside a messages.db that came with an archive, until a session has taken it over: what waits or runs in there is
 * not this agent's. Import cannot see to it, being no user of databases, and neither can the export of an agent that
 * is not running. */
#define AGENT_MESSAGES_COPIED "messages.db.copied"

/* One agent's directory: what lies where, and what can be done with it as files. No process, no bus. In system mode
 * the directory belongs to the agent's own user, so nothing here follows a link out of it (agent-file.h). */

typedef struct AgentHome {
        char *id;
        char *directory;        /* the agent dir, with agent.yml in it */
        char *config_path;      /* <directory>/agent.yml */
        char *workspace;        /* resolved; for role agents in user mode below proxy_home */
        char *role, *name;      /* role agents only, else NULL; name NULL for a bare role */
} AgentHome;

AgentHome* agent_home_free(AgentHome *h);
DEFINE_TRIVIAL_CLEANUP_FUNC(AgentHome*, agent_home_free);

/* From the directory alone: its name is the id; a role agent is one whose profile is called SOUL.md and whose id is a
 * role id. With an unusable agent.yml it is taken for none, the workspace for "workspace". -ENOENT without agent.yml,
 * -EINVAL for a bad id. */
int agent_home_open(const char *directory, AgentHome **ret);
/* The same in two steps, for who has read agent.yml himself: first what needs no file, then workspace, role and name.
 * -EINVAL for a bad id. */
int agent_home_new(const char *id, const char *directory, AgentHome **ret);
int agent_home_complete(AgentHome *h, const AgentConfig *c);

/* All agents of both homes, sorted by id, manager first, those with an unusable agent.yml included. *ret_problems
 * (a string list, NULL when there are none; pairs of a directory and "<directory>: <why>") tells what is left out: a
 * role agent whose id a Puffo agent has (naming both directories), names that are no valid ids, role agents whose
 * workspace is missing. */
int agent_homes_enumerate(const HomePaths *p, AgentHome ***ret, size_t *ret_n, char ***ret_problems);
void agent_homes_free(AgentHome **homes, size_t n);
/* One of them, also in other case when none has it exactly. -ENOENT. */
int agent_home_find(const HomePaths *p, const char *id, AgentHome **ret);

/* profile, memory_dir or workspace_dir of a configuration as an absolute path. NULL when out of memory. */
char* agent_home_path(const AgentHome *h, const char *configured);

/* A new Puffo agent's directory, built aside and renamed into place: agent.yml, profile.md (profile, or the built-in
 * template when NULL), memory/, workspace/. Fills in created_at, gives kind, and for kinds with tools sandbox_profile.
 * -EEXIST (in either home), -EINVAL for a bad id or paths that lead out. c->id names it. */
int agent_home_create(const HomePaths *p, AgentConfig *c, const char *profile, AgentHome **ret);

/* Parts of the system prompt (agent-runtime §16.1, agent-home §§5.3, 5.4): the profile's text, "" when there is
 * none; the memory snapshot, "" when empty. At most 256 KiB each, cut with a note; always valid UTF-8. For role
 * agents the profile part is SOUL.md and AGENTS.md, the memory part memory/memory.md. */
int agent_home_read_profile(const AgentHome *h, const AgentConfig *c, char **ret);
/* The profile file alone. -EINVAL: no UTF-8, -EFBIG. */
int agent_home_write_profile(const AgentHome *h, const AgentConfig *c, const char *text);
int agent_home_read_memory(const AgentHome *h, const AgentConfig *c, char **ret);
/* The whole managed prompt: for agents with a Puffo identity the primer (primer.md), then profile and memory. tools:
 * what the model can call, by the names it calls them (those of agent-runtime §15.2, with or without "mcp__puffo__"),
 * ending with NULL; NULL: nothing. */
int agent_home_system_prompt(const AgentHome *h, const AgentConfig *c, const char *const *tools, char **ret);
/* One of the texts on tools that lie beside the project instructions of those who read such (agent-runtime §16.3).
 * The i-th: its name and, when there is something to say to this agent, its SKILL.md, else NULL. -ENOENT after the
 * last. */
int agent_home_skill(const AgentHome *h, const AgentConfig *c, const char *const *tools, size_t i,
                     const char **ret_name, char **ret);
/* What a new agent's profile says. Static. */
const char* agent_profile_template(void);

/* Moves the directory to <archived>/<id>-<YYYYMMDD-HHMMSS>; a role agent's workspace below proxy_home goes with it as
 * "workspace". *ret_path: where it is now. Only for agents whose units are gone. -EBUSY for manager. */
int agent_home_archive(const HomePaths *p, const AgentHome *h, char **ret_path);
/* Takes the directory and the same workspace out of sight, by renaming: from then on there is no such agent, also
 * after a crash. *ret: the trees that directory_remove() is to remove, at leisure and in this order; other workspaces
 * are not among them. On failure all is where it was. */
int agent_home_hide(const HomePaths *p, const AgentHome *h, char ***ret);

/* Removes what a create, import, archive or delete that was killed before that moment has left, with the keys that may
 * be in there. How many trees went. */
int agent_homes_sweep(const HomePaths *p, time_t before);

/* Zip as in agent-home §10 ("Ours"): agent.yml without its key, profile, memory, and what the flags add; links, other
 * special files, *.tmp and logins of CLIs never. Paths in the archive's agent.yml are relative. messages: messages.db
 * or a finished copy of it (SQLite's backup is the session's job), read from its beginning, < 0 for none; wal: what a
 * session that was killed left beside it, < 0 for nothing. -EBUSY when one of them changes meanwhile. fd: a regular
 * file, written from its beginning; -ESPIPE for others, so that nobody can make us wait. */
typedef enum ExportFlags {
        EXPORT_SECRETS = 1 << 0,        /* keys/ and the API key */
        EXPORT_WORKSPACE = 1 << 1,
} ExportFlags;
int agent_home_export(const AgentHome *h, const AgentConfig *c, ExportFlags flags, int messages, int wal, int fd);
/* A zip made by export (ours or upstream's), read from fd, a regular file (-ESPIPE). Every entry is checked: below
 * one top directory that is a valid id, no "..", no links, nothing twice, at most 1 GiB and 100,000 entries. Built
 * aside, validated (agent.yml must load), renamed into place with state paused, without the extra_dirs and absolute
 * paths of where it comes from, and without a base URL elsewhere to which the operator's key would be sent. id: NULL
 * for the one inside. -EEXIST, -EINVAL for a bad id, -EBADMSG with *reterr. */
int agent_home_import(const HomePaths *p, int fd, const char *id, AgentHome **ret, char **reterr);
