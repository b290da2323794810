/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "workspace-file.h"

int workspace_open_file(int root_fd, const char *path) {
        _cleanup_close_ int path_fd = open_beneath(root_fd, path, O_PATH);

        return path_fd < 0 ? path_fd : file_reopen(path_fd);
}

int workspace_read_file(int root_fd, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = workspace_open_file(root_fd, path);

        return fd < 0 ? fd : file_read_fd(fd, max, ret, ret_size);
}

int workspace_make_directory(int root_fd, const char *path) {
        _cleanup_close_ int at = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
        _cleanup_free_ char *prefix = strdup(path);

        if (at < 0)
                return -errno;
        if (!prefix)
                return -ENOMEM;

        for (char *p = prefix;;) {
                size_t n = strcspn(p, "/");
                char after = p[n];
                int fd;

                p[n] = 0;
                if (mkdirat(at, p, 0755) < 0 && errno != EEXIST)
                        return -errno;
                /* From the root each time: a link may lead to another place in there. */
                fd = open_beneath(root_fd, prefix, O_PATH | O_DIRECTORY);
                if (fd < 0)
                        return fd;
                safe_close(at);
                at = fd;
                if (after == 0)
                        return TAKE_FD(at);
                p[n] = after;
                p += n + 1;
        }
}

int workspace_write_file(int root_fd, const char *directory, const char *name, const void *data, size_t size,
                         mode_t mode) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *target = NULL;
        char buffer[FD_PATH_MAX];

        fd = isempty(directory) ? fcntl(root_fd, F_DUPFD_CLOEXEC, 3) : workspace_make_directory(root_fd, directory);
        if (fd < 0)
                return isempty(directory) ? -errno : fd;
        target = strjoin(fd_path(buffer, fd), "/", name);
        return target ? file_write_atomic(target, data, size, mode) : -ENOMEM;
}

int workspace_remove(int root_fd, const char *directory, const char *name) {
        _cleanup_close_ int fd = open_beneath(root_fd, directory, O_PATH | O_DIRECTORY);
        _cleanup_free_ char *target = NULL;
        char buffer[FD_PATH_MAX];

        if (fd < 0)
                return fd;
        target = strjoin(fd_path(buffer, fd), "/", name);
        return target ? directory_remove(target) : -ENOMEM;
}
