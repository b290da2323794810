/* SPDX-License-Identifier: MIT */
#pragma once

#include <time.h>

#include "macro.h"

/* Directory trees as a whole: built aside, moved into place, moved away. */

/* A new directory (0700) in the given one, for building in: ".new-XXXXXX". In there and not beside it, because in
 * system mode the directory of the agents is a mount of its own, and nothing around it can be written. */
int tree_new_aside(const char *parent, char **ret);
/* Renames a directory to a name that must be free (an empty directory counts as free) and syncs the parent.
 * -EEXIST. */
int tree_install(const char *from, const char *to);
/* The same, also to another file system: then it is copied (links as links, no special files) and removed. The copy is
 * ours: an archived agent's dynamic user may be somebody else's tomorrow. */
int tree_move(const char *from, const char *to);
/* Takes a tree out of sight at once, then removes it. A missing one is success. */
int tree_remove(const char *path);

/* The first half of that alone: one rename within the parent, to ".gone-XXXXXXXX" with a suffix. tree_sweep() takes
 * care of those without one. -ENOENT. */
int tree_hide(const char *path, const char *suffix, char **ret);
/* The suffix that such a name was given; NULL: none, or another name. */
const char* tree_hidden_suffix(const char *name);

/* Removes what a process that was killed has left of these in a directory, except what is not older than before: there
 * somebody may be at it. How many went. */
int tree_sweep(const char *parent, time_t before);

/* Removes and frees; for a path that was not installed. NULL. */
char* tree_discard(char *path);
DEFINE_TRIVIAL_CLEANUP_FUNC(char*, tree_discard);
