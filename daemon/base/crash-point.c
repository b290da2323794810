/* SPDX-License-Identifier: MIT */

#include "crash-point.h"

#ifdef TEST_HOOKS

#include <signal.h>
#include <stdio.h>

#include "macro.h"

static char *watched;

void crash_point_watch(const char *path) {
        free(watched);
        watched = strdup(path);
}

void crash_point(const char *name) {
        char line[128], armed[100] = "";
        unsigned passes = 0;
        FILE *f = watched ? fopen(watched, "re") : NULL;

        if (!f)
                return;
        if (fgets(line, sizeof(line), f))
                (void) sscanf(line, "%99s %u", armed, &passes);
        (void) fclose(f);
        if (!streq(armed, name))
                return;
        if (passes > 0) {
                f = fopen(watched, "we");
                if (f) {
                        (void) fprintf(f, "%s %u\n", name, passes - 1);
                        (void) fclose(f);
                }
                return;
        }
        (void) unlink(watched);
        (void) raise(SIGKILL);
}

#endif
