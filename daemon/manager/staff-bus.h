/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* The manager agent has others work for it: what its session may ask of puffod beyond what all sessions may. Nobody
 * who is asked has these methods, so that questions neither go round nor get deeper. */

/* Whether a, which a session has registered for (NULL: none has), is who may. AccessDenied. */
int staff_check_boss(const Agent *a, sd_bus_error *reterr_error);
/* AskAgent and InterruptAsked. */
int staff_ask(Agent *boss, sd_bus_message *message, sd_bus_error *reterr_error);
int staff_interrupt(Agent *boss, sd_bus_message *message, sd_bus_error *reterr_error);
