/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* What puffod has looked at before it had it mounted: between the two, somebody may have put something else there. */
typedef struct Place {
        char *path;
        dev_t device;
        ino_t inode;
        bool read_only;
} Place;

typedef struct Places {
        Place *places;
        size_t n_places;
} Places;

void places_done(Places *p);
/* "ro:DEVICE:INODE:PATH" or "rw:…". -EINVAL, -ENOMEM. */
int places_add(Places *p, const char *text);
/* Each is there, and what must not be written cannot be. -ESTALE with *reterr_reason as one line; -ENOMEM. */
int places_check(const Places *p, char **reterr_reason);
