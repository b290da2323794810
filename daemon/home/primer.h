/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"

/* primer.md and skills/ as they read for one agent. tools as in agent_home_system_prompt(). */
int primer_new(const AgentHome *h, const AgentConfig *c, const char *const *tools, char **ret);
