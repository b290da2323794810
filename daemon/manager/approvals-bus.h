/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* Requests for permission on the bus: the sessions have them, who asks for them asks here. */

/* Methods of the Manager interface; the XML says what they do. */
int manager_method_list_approvals(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int manager_method_approve(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);

/* What the session says is open, as "v" with "as" in it. Whatever is new is made known. */
int approvals_take_report(Agent *a, sd_bus_message *m);
/* One of them has ended. -EINVAL: no such thing can be. */
int approval_ended(Agent *a, const char *id, const char *state);
