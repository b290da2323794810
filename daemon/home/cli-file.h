/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

#include "json-util.h"
#include "macro.h"

/* Files of our own in directories that models write to. Unlike workspace-file.h no link is followed at all: what lies
 * here is covered by a read-only mount, and a link beside it could be pointed elsewhere. */

#define CLI_FILE_SIZE_MAX MIB(1)

/* The directory, with what is missing of it made. What has its name and is none is moved aside. An O_PATH
 * descriptor. */
int cli_directory_make(int root_fd, const char *path, mode_t mode);
/* The same without making; -ENOENT also for what is no directory. */
int cli_directory_open(int root_fd, const char *path, int flags);
/* One or the other, in the directory of this name. An O_PATH descriptor. */
int cli_directory_in(const char *root, const char *path, bool make);

/* A regular file of a directory. -ENOENT, -EFBIG, -ELOOP for links and everything else. */
int cli_file_read(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size);
/* The same as a JSON object. -EBADMSG for what is none. */
int cli_file_read_object(int dir_fd, const char *name, size_t max, json_object **ret);

typedef enum CliFileFlags {
        /* Overwritten where it lies. A sandbox that runs has this very file mounted, and keeps the old one; or it
         * loses the mount, when it sees the directory as well, and with that may write what it was only to read. */
        CLI_FILE_KEEP_INODE = 1 << 0,
        CLI_FILE_SYNC = 1 << 1,
} CliFileFlags;

/* Makes it a regular file of its own (one name) that says this, with this mode. > 0: it was written. */
int cli_file_write(int dir_fd, const char *name, const char *text, size_t size, mode_t mode, CliFileFlags flags);
/* As JSON, indented by two as everywhere. */
int cli_file_write_object(int dir_fd, const char *name, json_object *o, mode_t mode, CliFileFlags flags);
/* Makes it a regular file of its own and leaves alone what it says; one that is not there says text. What a link that
 * stays in the directory leads to is copied. > 0: something was made. */
int cli_file_ensure(int dir_fd, const char *name, const char *text, mode_t mode);
/* Gives it another name: "NAME.aside-XXXXXXXX". */
int cli_file_move_aside(int dir_fd, const char *name);

/* "/proc/self/fd/<fd>/<name>". NULL when out of memory. */
char* cli_file_path(int dir_fd, const char *name);
