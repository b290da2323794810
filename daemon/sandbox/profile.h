/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "places.h"

/* How much of the machine a coding CLI sees. */
typedef enum Profile {
        PROFILE_HOST,           /* what the user sees, without buses and foreign processes */
        PROFILE_WORKSPACE,      /* … a system that is read-only, and of the homes only what is bound into it */
        PROFILE_STRICT,         /* … and no network, and fewer system calls */
        _PROFILE_MAX,
        _PROFILE_INVALID = -EINVAL,
} Profile;

const char* profile_to_string(Profile p);
Profile profile_from_string(const char *s);

/* Terminals, shared memory, message queues. */
#define SANDBOX_SHARED_MAX 3U

/* What this process was told of the outside, and has seen of it. */
typedef struct Sandbox {
        Profile profile;
        char **hidden;                  /* paths that must not be there, besides those of the profile */
        char **kept;                    /* paths that nobody in it can write to or put something else in the place of */
        Places places;
        uint64_t user_namespace;        /* inode of the service manager's, which must not be ours; 0: not told */
        uint64_t network_namespace;     /* the same */
        dev_t shared[SANDBOX_SHARED_MAX];       /* file systems of others (promises_look_outside()) */
} Sandbox;
