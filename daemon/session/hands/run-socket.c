/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "agent-file.h"
#include "fd-store.h"
#include "file-util.h"
#include "log.h"
#include "run-socket.h"
#include "string-util.h"

/* Whether somebody listens there. */
static int is_served(const struct sockaddr_un *address) {
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        return connect(fd, (const struct sockaddr*) address, sizeof(*address)) >= 0 || errno != ECONNREFUSED;
}

/* What an earlier process has left. */
static int remove_stale(int directory, const char *name, const struct sockaddr_un *address) {
        struct stat st;
        int r;

        if (fstatat(directory, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (!S_ISSOCK(st.st_mode))
                return -EEXIST;
        r = is_served(address);
        if (r != 0)
                return r < 0 ? r : -EADDRINUSE;
        return unlinkat(directory, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* Its parent's descriptor. */
static int open_parent(const char *path, char **ret_name) {
        _cleanup_free_ char *parent = NULL;
        const char *name;
        int fd, r;

        r = path_split(path, &parent, &name);
        if (r >= 0)
                r = directory_make(parent, 0700);
        if (r >= 0)
                r = free_and_strdup(ret_name, name);
        if (r < 0)
                return r;
        fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int socket_make(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF, directory = -EBADF;
        _cleanup_free_ char *name = NULL;
        int r, n;

        directory = open_parent(path, &name);
        if (directory < 0)
                return directory;
        /* By its directory's descriptor: a path may be longer than an address. */
        n = snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%i/%s", directory, name);
        if (n < 0 || (size_t) n >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        r = remove_stale(directory, name, &address);
        if (r < 0)
                return r;

        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        /* The socket gets the mode of its descriptor, so that it never has another (unix(7)). */
        if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr*) &address, sizeof(address)) < 0 ||
            listen(fd, SOMAXCONN) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int run_socket_open(const char *path, const char *name) {
        _cleanup_close_ int fd = fd_store_take(name);
        int r;

        if (fd >= 0 && access(path, F_OK) >= 0 && sd_is_socket(fd, AF_UNIX, SOCK_STREAM, /* listening= */ 1) > 0)
                return TAKE_FD(fd);
        if (fd >= 0)
                fd_store_remove(name);
        fd = safe_close(fd);

        fd = socket_make(path);
        if (fd < 0)
                return fd;
        r = fd_store_add(name, fd);
        if (r < 0)
                (void) log_warning_errno(r, "'%s' will not outlast a restart of the session: %m", path);
        return TAKE_FD(fd);
}

void run_socket_remove(const char *path, const char *name, int fd) {
        fd_store_remove(name);
        (void) safe_close(fd);
        if (unlink(path) < 0 && errno != ENOENT)
                (void) log_warning_errno(errno, "Failed to remove '%s', ignoring: %m", path);
}
