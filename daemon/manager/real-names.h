/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* What names lead to when links are followed. Each is looked at once: a few dozen places are compared with each path
 * of a request, and whoever moves one of them meanwhile gets one answer for all. */

typedef struct RealName {
        char *name, *real;
} RealName;

typedef struct RealNames {
        RealName *names;
        size_t n_names;
} RealNames;

void real_names_done(RealNames *r);

/* *ret is r's, and NULL for what leads nowhere or where we may not look. */
int real_names_get(RealNames *r, const char *name, const char **ret);
