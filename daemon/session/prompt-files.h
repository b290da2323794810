/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"

/* The managed prompt as files, where CLIs and a puffo-agent of old look for it (agent-runtime §3.2, §16): CLAUDE.md
 * and GEMINI.md in the agent's directory, the texts on tools and the empty places for the agent's own in its
 * workspace. For agents with a Puffo identity. Only what has changed is written; what cannot be written is warned
 * about, and the first error returned when everything else is done. tools as in agent_home_system_prompt(). For the
 * session's start and for when the agent asks (turn-flags.h). */
int prompt_files_write(const AgentHome *h, const AgentConfig *c, const char *const *tools);
