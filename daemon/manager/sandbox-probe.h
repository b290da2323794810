/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-config.h"
#include "manager.h"

/* Whether this machine keeps what a sandbox profile promises. A service manager may ignore sandbox options without a
 * word: so it is tried, from within, when a profile is first wanted. What is found out is true as long as the service
 * manager and puffo-sandbox stay the same, and is kept for so long, across restarts of puffod too. */

int sandbox_probe_new(SandboxProbe **ret, Manager *m);
SandboxProbe* sandbox_probe_free(SandboxProbe *p);

/* > 0: it does. 0: that is being found out; work is settled when it is known. < 0: it does not, or that could not be
 * found out, and *ret_reason (borrowed) tells why. */
int sandbox_probe_check(SandboxProbe *p, SandboxProfile profile, const char **ret_reason);
/* Whatever was missing may be there now. */
void sandbox_probe_forget_failures(SandboxProbe *p);
void sandbox_probe_on_job_removed(SandboxProbe *p, const char *unit, const char *result);
/* The property Sandbox. */
int sandbox_probe_property_get(sd_bus *bus, const char *path, const char *interface, const char *property,
                               sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error);
