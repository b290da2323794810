/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Has the operator's own CLI renew his login, by a turn that says nothing (agent-runtime §11): it alone may use up the
 * refresh token. One at a time on a machine. */

typedef enum RefreshResult {
        REFRESH_OK,
        REFRESH_NOT_NEEDED,             /* it holds for longer than five minutes, or does not say for how long */
        REFRESH_BUSY,                   /* somebody else is at it */
        REFRESH_MISSING,                /* there is no login */
        REFRESH_AUTH_FAILED,            /* he has to log in again */
        REFRESH_FAILED,
        _REFRESH_RESULT_MAX,
} RefreshResult;

const char* refresh_result_to_string(RefreshResult r);

typedef struct RefreshSpec {
        const char *user_home;
        const char *path;               /* PATH, to find the CLI in */
        char *const *environment;       /* what the CLI may have of it is picked from it; ends with NULL */
        uint64_t timeout_usec;
        bool always;                    /* also when it is not needed */
} RefreshSpec;

typedef struct Refresh {
        RefreshResult result;
        char **argv, *directory;        /* as it was run; NULL: it was not */
        int exit_status;                /* as a shell says it; -1: it took too long, or could not be run */
        uint64_t elapsed_usec;
        char *output, *errors;          /* at most 1 MiB each */
        uint64_t expires_before_usec, expires_after_usec;       /* USEC_INFINITY: not known */
} Refresh;

/* -ENOENT: there is no such CLI; others: it could not be run at all. */
int refresh_run(const RefreshSpec *s, Refresh *ret);
void refresh_done(Refresh *r);
