/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "file-util.h"
#include "string-util.h"

int path_split(const char *path, char **ret_parent, const char **ret_name) {
        const char *slash = strrchr(path, '/');
        char *parent;

        parent = !slash ? strdup(".") : slash == path ? strdup("/") : memdup0(path, (size_t) (slash - path));
        if (!parent)
                return -ENOMEM;

        *ret_parent = parent;
        *ret_name = slash ? slash + 1 : path;
        return 0;
}

bool path_leads_out(const char *path) {
        for (const char *part = path; *part; ) {
                size_t n = strcspn(part, "/");

                if (n == 2 && part[0] == '.' && part[1] == '.')
                        return true;
                part += n;
                part += *part == '/';
        }
        return false;
}

/* The directory if it is somebody else's, else -EBADF and the path to use instead. */
static int foreign_directory_open(const char *directory, struct stat *ret_st) {
        _cleanup_close_ int fd = -EBADF;

        fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, ret_st) < 0)
                return -errno;

        return ret_st->st_uid == geteuid() ? -EBADF : TAKE_FD(fd);
}

int agent_file_open(const char *directory, const char *path, int flags) {
        _cleanup_close_ int dir_fd = -EBADF;
        _cleanup_free_ char *joined = NULL;
        struct stat st;
        int fd;

        dir_fd = foreign_directory_open(directory, &st);
        if (dir_fd >= 0)
                return open_beneath(dir_fd, path, flags);
        if (dir_fd != -EBADF)
                return dir_fd;

        joined = path_join(directory, path);
        if (!joined)
                return -ENOMEM;

        fd = open(joined, flags | O_CLOEXEC | O_NOCTTY);
        return fd < 0 ? -errno : fd;
}

int agent_file_read(const char *directory, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int path_fd = agent_file_open(directory, path, O_PATH), fd = -EBADF;

        if (path_fd < 0)
                return path_fd;
        fd = file_reopen(path_fd);
        return fd < 0 ? fd : file_read_fd(fd, max, ret, ret_size);
}

/* The owner of an existing file is kept when it is replaced, so there is one before there is anything in it. */
static int make_over(int parent_fd, const char *name, const struct stat *owner) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        if (fstatat(parent_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0) {
                if (S_ISREG(st.st_mode))
                        return 0;
                if (unlinkat(parent_fd, name, 0) < 0)
                        return -errno;
        } else if (errno != ENOENT)
                return -errno;

        fd = openat(parent_fd, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        return fchown(fd, owner->st_uid, owner->st_gid) < 0 ? -errno : 0;
}

int agent_file_write(const char *directory, const char *path, const void *data, size_t size, mode_t mode) {
        _cleanup_close_ int dir_fd = -EBADF, parent_fd = -EBADF;
        _cleanup_free_ char *parent = NULL, *target = NULL;
        char buffer[FD_PATH_MAX];
        const char *name;
        struct stat st;
        int r;

        dir_fd = foreign_directory_open(directory, &st);
        if (dir_fd < 0 && dir_fd != -EBADF)
                return dir_fd;
        if (dir_fd == -EBADF) {
                target = path_join(directory, path);
                return target ? file_write_atomic(target, data, size, mode) : -ENOMEM;
        }

        r = path_split(path, &parent, &name);
        if (r < 0)
                return r;
        parent_fd = open_beneath(dir_fd, parent, O_PATH | O_DIRECTORY);
        if (parent_fd < 0)
                return parent_fd;

        r = make_over(parent_fd, name, &st);
        if (r < 0)
                return r;

        target = strjoin(fd_path(buffer, parent_fd), "/", name);
        return target ? file_write_atomic(target, data, size, mode) : -ENOMEM;
}
