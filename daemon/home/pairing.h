/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* pairing.json (agent-home §4). Reading and releasing; the handshake belongs to the bridge. */
typedef struct Pairing {
        char *slug, *device_id;
        uint64_t paired_at_usec;
} Pairing;

void pairing_done(Pairing *p);
/* 1 = paired, 0 = not paired: no file, or one that does not count or cannot be read (*ret_problem then says why,
 * malloc'ed; NULL when there simply is none). -ENOMEM. */
int pairing_load(const char *path, Pairing *ret, char **ret_problem);
/* Removes the file: > 0, or 0 when there was none. */
int pairing_release(const char *path);
