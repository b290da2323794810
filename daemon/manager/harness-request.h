/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "agent.h"

/* What a session wants its harness to see. It is not believed: a path that would show the agent's keys, another agent
 * or a way to somebody who may do more is refused, whatever the profile. */

typedef enum HarnessBindKind {
        HARNESS_BIND_WRITABLE,
        HARNESS_BIND_READ_ONLY,
        HARNESS_BIND_SOCKET,
} HarnessBindKind;

typedef struct HarnessBind {
        HarnessBindKind kind;
        char *source;                   /* links followed */
        char *target;                   /* where the harness finds it */
        int fd;                         /* O_PATH: as long as it is held, no other gets its number */
        dev_t device;
        ino_t inode;
} HarnessBind;

typedef struct HarnessRequest {
        char *description, *working_directory;
        HarnessBind *binds;
        size_t n_binds;
} HarnessRequest;

/* Reads the a{sv} of StartHarness. The error tells which path, and what is wrong with it. */
int harness_request_read(HarnessRequest **ret, const Agent *a, sd_bus_message *m, sd_bus_error *reterr_error);
HarnessRequest* harness_request_free(HarnessRequest *q);
DEFINE_TRIVIAL_CLEANUP_FUNC(HarnessRequest*, harness_request_free);

/* path is directory, or in it. */
bool path_is_below(const char *path, const char *directory);
