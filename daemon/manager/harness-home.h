/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What of the user's own home no harness gets to, whatever its profile: keys, and what programs outside of every
 * sandbox are started from. Names below the home; the lists end with NULL. */
extern const char *const harness_home_hidden[], *const harness_home_read_only[];

typedef struct HarnessHome {
        char **hidden, **read_only;     /* paths, all of them there */
        char **anchors;                 /* directories on the way to them, which would else be renamed */
} HarnessHome;
void harness_home_done(HarnessHome *h);

/* For a harness that sees the home. What is not there cannot be covered, and is made: empty, for the user alone.
 * -ELOOP, with *reterr_reason: somebody has put a link where a mount must be. Other errors too have a reason. */
int harness_home_make(HarnessHome *ret, const char *home, char **reterr_reason);
