/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What is mounted where, as the kernel says it (proc(5), mountinfo). A later mount hides earlier ones; what counts for
 * a path is what one arrives at by walking to it. */
typedef struct Mount {
        int id, parent_id;
        char *point;            /* as this process sees it */
        char *type;
        bool is_read_only;      /* the mount or the file system */
} Mount;

typedef struct MountTable {
        Mount *mounts;
        size_t n_mounts;
} MountTable;

void mount_table_done(MountTable *t);
/* -EBADMSG, -ENOMEM. t must be empty before. */
int mount_table_parse(MountTable *t, const char *text);
/* Of this process; needs /proc. Errors of reading it too. */
int mount_table_read(MountTable *t);

/* What an absolute path without links and doubled slashes is on; NULL when the table is no tree. Borrowed. */
const Mount* mount_table_find(const MountTable *t, const char *path);
/* Whether something is mounted below a path, at any depth, or exactly there. */
bool mount_table_has_below(const MountTable *t, const char *path);
bool mount_table_has_point(const MountTable *t, const char *path);

/* Whether path is other, or below it. */
bool path_is_below(const char *path, const char *other);
