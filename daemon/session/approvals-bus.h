/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "approvals.h"

/* The methods of ai.puffo.Private1.Session that are about requests for permission. */

/* Both carry out a method call (the XML says what it does) and reply to it. agent: the id to put into the reply. */
int approvals_bus_list(Approvals *a, const char *agent, sd_bus_message *m);
int approvals_bus_answer(Approvals *a, sd_bus_message *m, sd_bus_error *reterr_error);
