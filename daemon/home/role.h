/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"

/* Role agents: names, workspaces and their generated files (agent-proxy §§3–5). */

#define ROLE_MANAGER "manager"

/* Lowers and checks a role or name: [a-z0-9][a-z0-9-]{0,31}, not ending in '-'. -EINVAL. */
int role_name_normalize(const char *s, char **ret);
/* Splits an agent id into role and name ("engineer_alice"); *ret_name NULL for a bare role. -EINVAL when it is
 * none. */
int role_agent_id_split(const char *id, char **ret_role, char **ret_name);
/* role, or role_name. name may be NULL. -ENAMETOOLONG over 64. */
int role_agent_id_join(const char *role, const char *name, char **ret);

/* Makes what is missing of the workspace (SOUL.md, AGENTS.md, memory/memory.md, today's note) and of the agent dir
 * (agent.yml, desired state running), and never overwrites: fit to be called before each start. Files the user put
 * into <templates>/<role>/ (SOUL.md, AGENTS.md) replace the built-in texts; in them @AGENT@, @ROLE@, @NAME@,
 * @WORKSPACE@ and @URL@ stand for the agent's id, role, name (its role when it has none), workspace and base_url.
 * In system mode a directory that is there already is left alone. role and name are normalised already.
 * > 0: it was new. -EEXIST when a Puffo agent has that id, -EPERM when the workspace belongs to
 * somebody else, -EFBIG for a text over 8 KiB. */
int role_agent_ensure(const HomePaths *p, const char *role, const char *name, const char *base_url, AgentHome **ret);

/* Takes in workspaces that were copied into proxy_home by hand: each with a valid id, AGENTS.md and no agent dir gets
 * one, with state paused. How many, or negative errno. */
int role_workspaces_adopt(const HomePaths *p);
/* Goes on with deletions that were cut short, before anything is taken in. For the start of the daemon. */
int role_deletions_finish(const HomePaths *p);

/* Today's note, notes/daily-YYYY-MM-DD.md (local time), when it is not there yet: > 0. Workspace of a role agent. */
int role_daily_note_ensure(const char *workspace);
