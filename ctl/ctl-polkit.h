/* SPDX-License-Identifier: MIT */
#pragma once

#include "ctl.h"

/* In a terminal without a desktop nobody asks for the administrator's password when polkit wants one; pkttyagent(1)
 * does, for as long as we run. Absence and failure are no errors: then the call is denied and says so. */
void polkit_agent_start(Ctl *c);
void polkit_agent_stop(Ctl *c);
