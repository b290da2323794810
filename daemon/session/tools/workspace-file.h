/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "macro.h"

/* Files in a directory that the agent's own programs write to, too: links in it are followed as long as they stay in
 * there, so that nobody gets at what the session may read and they may not. */

/* A descriptor for reading. -EXDEV for a path that leads out, is absolute or contains "..", -ELOOP and -EISDIR for
 * what is no regular file. */
int workspace_open_file(int root_fd, const char *path);
int workspace_read_file(int root_fd, const char *path, size_t max, char **ret, size_t *ret_size);

/* The directory, with what is missing of it made. An O_PATH descriptor. */
int workspace_make_directory(int root_fd, const char *path);
/* Replaces the file atomically; its directory is made. */
int workspace_write_file(int root_fd, const char *directory, const char *name, const void *data, size_t size,
                         mode_t mode);
/* Removes a tree that lies in directory. */
int workspace_remove(int root_fd, const char *directory, const char *name);
