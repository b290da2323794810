/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* Files of an agent's directory. In system mode that directory belongs to the agent's own user while puffod is
 * root: what lies in a directory of somebody else is reached without leaving it, whatever links were put there, and
 * what is written is made over to its owner. In a directory of our own, links and absolute paths are the user's
 * business. */

/* -EXDEV, -ELOOP for a path that leads out of such a directory. */
int agent_file_open(const char *directory, const char *path, int flags);
/* As file_read(). */
int agent_file_read(const char *directory, const char *path, size_t max, char **ret, size_t *ret_size);
/* As file_write_atomic(); the parent must be there. */
int agent_file_write(const char *directory, const char *path, const void *data, size_t size, mode_t mode);

/* The part before the last slash ("." or "/" when there is none), and the part after it. */
int path_split(const char *path, char **ret_parent, const char **ret_name);

/* One of its parts is "..". */
bool path_leads_out(const char *path);
