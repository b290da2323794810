/* SPDX-License-Identifier: MIT */
#pragma once

#include "harness-request.h"

/* The arguments of StartTransientUnit for an agent's harness. fds: what becomes its standard input, output and error.
 * *reterr_reason: why there can be no such sandbox; or NULL, with other errors. */
int unit_append_harness(sd_bus_message *m, const Agent *a, const char *unit, const HarnessRequest *q,
                        const int fds[static 3], char **reterr_reason);
/* The same sandbox around the check of it: as harness of no agent, in slice, with standard output at fd. */
int unit_append_probe(sd_bus_message *m, const Manager *manager, const char *unit, SandboxProfile profile, int fd,
                      char **reterr_reason);
/* The step of the service manager before a program runs (systemd.exec(5)) that has failed with status, if it is about
 * a sandbox; else NULL. */
const char* unit_sandbox_step(int32_t status);
/* In the agent's profile nothing of path is there but what is mounted into it. */
bool harness_place_is_covered(const Agent *a, const char *path);
