/* SPDX-License-Identifier: MIT */
#pragma once

#include "ctl.h"

/* The table of agents that list and status show. agents: as from ctl_get_agents(). Exit status. */
int agents_print(Ctl *c, json_object *agents);
