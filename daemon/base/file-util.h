/* SPDX-License-Identifier: MIT */
#pragma once

#include <dirent.h>
#include <sys/types.h>

#include "macro.h"

/* Replaces path by data atomically: a temporary sibling ("<name>.tmp-XXXXXX"), fsync, rename, fsync of the directory.
 * Never leaves a half-written file; the temporary is removed on failure. If the target exists its owner is kept
 * (as far as we may). mode: exact permission bits, umask does not apply. */
int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode);

/* The same without waiting for the disk: for snapshots that are made anew anyway. After a crash of the machine the old
 * one may be there, or an empty file. */
int file_write_snapshot(const char *path, const void *data, size_t size, mode_t mode);

/* As file_write_atomic(), but fails with -EEXIST when path exists already (of any type). */
int file_create_atomic(const char *path, const void *data, size_t size, mode_t mode);

/* Reads a whole regular file, at most max bytes; result is NUL-terminated (a NUL inside is the caller's to check).
 * -ENOENT, -EFBIG, -EISDIR, -ELOOP for other things than files. ret_size may be NULL. */
int file_read(const char *path, size_t max, char **ret, size_t *ret_size);
int file_read_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size);
int file_read_fd(int fd, size_t max, char **ret, size_t *ret_size);

/* "/proc/self/fd/<fd>", by which what fd stands for can be named whatever has become of its path. In buffer. */
#define FD_PATH_MAX (sizeof("/proc/self/fd/") + 11)
const char* fd_path(char buffer[static FD_PATH_MAX], int fd);

/* Opens for reading what path_fd (of O_PATH) stands for. Of other things than files nothing is opened, which can have
 * effects (devices, FIFOs): -EISDIR, -ELOOP. The new descriptor, or -errno. */
int file_reopen(int path_fd);

/* mkdir -p: missing parents and the directory itself get mode. An existing directory is left as it is. -ENOTDIR. */
int directory_make(const char *path, mode_t mode);

/* Removes a tree of any depth, read-only directories of our own among it, without following symlinks and without
 * leaving its file system. A missing path is success. */
int directory_remove(const char *path);

/* The next entry of an open directory but "." and ".."; borrowed from d until the next call. 1, 0 at the end, -errno.
 */
int directory_next(DIR *d, struct dirent **ret);

/* Opens an existing path below dir_fd. Absolute paths and "..", in links too, are -EXDEV; other links are followed. */
int open_beneath(int dir_fd, const char *path, int flags);

/* path if it is absolute, else "<base>/<path>", without doubled or trailing slashes. NULL when out of memory. */
char* path_join(const char *base, const char *path);

/* "~" or "~/…" with $HOME, else a copy; relative ones are made absolute against the working directory. */
int path_make_absolute_from_user(const char *path, char **ret);
