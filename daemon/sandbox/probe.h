/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "profile.h"

/* Somebody outside, to be tried. Each may be 0 or NULL: not told. */
typedef struct ProbeTarget {
        uint16_t port;          /* that is listened on, on the machine's loopback interface */
        pid_t pid;              /* of a process, as the outside counts */
        const char *abstract;   /* name of an abstract socket that is listened on */
        const char *key;        /* description of a key of type "user" in the user's keyring */
} ProbeTarget;

/* Tries what the profile must prevent, and writes {"profile":…,"violations":[…],"missing":[…]} as one line to standard
 * output. Returns the exit status: 0 when both are empty. */
int probe_run(const Sandbox *s, char *const *missing, const ProbeTarget *target);
