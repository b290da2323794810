/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "profile.h"

/* What the probe has made where it was started: it must not be there inside. */
typedef struct ProbeBait {
        char name[32];          /* of shared memory and of a message queue */
        bool has_memory, has_queue;
        char terminal[32];      /* its path; "": there is none */
        int terminal_fd;
} ProbeBait;
void probe_bait_lay(ProbeBait *ret);
void probe_bait_take(ProbeBait *b);

/* Somebody outside, to be tried. Each may be 0 or NULL: not told. */
typedef struct ProbeTarget {
        uint16_t port;          /* that is listened on, on the machine's loopback interface */
        pid_t pid;              /* of a process, as the outside counts */
        const char *abstract;   /* name of an abstract socket that is listened on */
        const char *key;        /* description of a key of type "user" in the user's keyring */
        ProbeBait bait;
} ProbeTarget;

/* Tries what the profile must prevent, and writes {"profile":…,"violations":[…],"missing":[…]} as one line to standard
 * output. Returns the exit status: 0 when both are empty. */
int probe_run(const Sandbox *s, char *const *missing, const ProbeTarget *target);
