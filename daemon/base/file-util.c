/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"

static int write_all(int fd, const char *p, size_t n) {
        while (n > 0) {
                ssize_t k = write(fd, p, n);

                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                p += k;
                n -= (size_t) k;
        }
        return 0;
}

static int fsync_parent(const char *path) {
        _cleanup_free_ char *parent = strdup(path);
        _cleanup_close_ int fd = -EBADF;
        char *slash;

        if (!parent)
                return -ENOMEM;

        slash = strrchr(parent, '/');
        if (slash)
                *(slash == parent ? slash + 1 : slash) = 0;

        fd = open(slash ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        return fsync(fd) < 0 ? -errno : 0;
}

static int file_put(const char *path, const void *data, size_t size, mode_t mode, bool replace, bool sync) {
        _cleanup_free_ char *temporary = strjoin(path, ".tmp-XXXXXX");
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (!temporary)
                return -ENOMEM;

        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return -errno;

        r = write_all(fd, data, size);
        if (r < 0)
                goto fail;
        if (fchmod(fd, mode) < 0) {
                r = -errno;
                goto fail;
        }
        if (replace && lstat(path, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid != geteuid() &&
            fchown(fd, st.st_uid, st.st_gid) < 0 && errno != EPERM) {
                r = -errno;
                goto fail;
        }
        if (sync && fsync(fd) < 0) {
                r = -errno;
                goto fail;
        }

        if (replace)
                r = rename(temporary, path) < 0 ? -errno : 0;
        else {
                r = link(temporary, path) < 0 ? -errno : 0;
                if (r >= 0)
                        (void) unlink(temporary);
        }
        if (r < 0)
                goto fail;

        return sync ? fsync_parent(path) : 0;

fail:
        (void) unlink(temporary);
        return r;
}

int file_write_atomic(const char *path, const void *data, size_t size, mode_t mode) {
        return file_put(path, data, size, mode, /* replace= */ true, /* sync= */ true);
}

int file_write_snapshot(const char *path, const void *data, size_t size, mode_t mode) {
        return file_put(path, data, size, mode, /* replace= */ true, /* sync= */ false);
}

int file_create_atomic(const char *path, const void *data, size_t size, mode_t mode) {
        return file_put(path, data, size, mode, /* replace= */ false, /* sync= */ true);
}

const char* fd_path(char buffer[static FD_PATH_MAX], int fd) {
        (void) snprintf(buffer, FD_PATH_MAX, "/proc/self/fd/%i", fd);
        return buffer;
}

int file_reopen(int path_fd) {
        char buffer[FD_PATH_MAX];
        struct stat st;
        int fd;

        if (fstat(path_fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -ELOOP;
        fd = open(fd_path(buffer, path_fd), O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int file_read_fd(int fd, size_t max, char **ret, size_t *ret_size) {
        _cleanup_free_ char *data = NULL;
        size_t size = 0, allocated;
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        if (!S_ISREG(st.st_mode))
                return -ELOOP;
        if (st.st_size > 0 && (uint64_t) st.st_size > max)
                return -EFBIG;

        allocated = (size_t) st.st_size + 1;
        data = malloc(allocated + 1);
        if (!data)
                return -ENOMEM;

        for (;;) {
                ssize_t k = read(fd, data + size, allocated - size);

                if (k < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (k == 0)
                        break;
                size += (size_t) k;
                if (size > max)
                        return -EFBIG;
                if (size == allocated) { /* it grew while we read, or lies about its size */
                        char *grown = realloc(data, allocated * 2 + 1);

                        if (!grown)
                                return -ENOMEM;
                        data = grown;
                        allocated *= 2;
                }
        }

        data[size] = 0;
        *ret = TAKE_PTR(data);
        if (ret_size)
                *ret_size = size;
        return 0;
}

int file_read_at(int dir_fd, const char *path, size_t max, char **ret, size_t *ret_size) {
        _cleanup_close_ int fd = -EBADF;

        /* O_NONBLOCK: a FIFO put here by somebody must not stop us. */
        fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        return fd < 0 ? -errno : file_read_fd(fd, max, ret, ret_size);
}

int file_read(const char *path, size_t max, char **ret, size_t *ret_size) {
        return file_read_at(AT_FDCWD, path, max, ret, ret_size);
}

int directory_make(const char *path, mode_t mode) {
        _cleanup_free_ char *copy = strdup(path);
        struct stat st;

        if (!copy)
                return -ENOMEM;
        if (stat(path, &st) == 0)
                return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;

        for (char *p = copy + strspn(copy, "/");; p++) {
                char c = *p;

                if (c != '/' && c != 0)
                        continue;
                *p = 0;
                if (mkdir(copy, mode) < 0 && errno != EEXIST)
                        return -errno;
                if (c == 0)
                        break;
                *p = c;
        }

        if (stat(path, &st) < 0)
                return -errno;
        return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* A tree of any depth, without a descriptor and a stack frame for each level of it: what lies deeper than this is
 * moved up to the top of it first. */
#define REMOVE_DEPTH_MAX 64U

typedef struct TreeRemoval {
        int top_fd;
        dev_t device;
        uint64_t n_moved;
} TreeRemoval;

/* Somebody may have made it unreadable or unwritable for himself: caches of module downloads are. */
static int open_to_empty(int parent_fd, const char *name, struct stat *ret_st) {
        const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
        _cleanup_close_ int fd = openat(parent_fd, name, flags), path_fd = -EBADF;
        char proc[sizeof("/proc/self/fd/") + 11];

        if (fd < 0 && errno == EACCES) {
                path_fd = openat(parent_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (path_fd < 0)
                        return -errno;
                (void) snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path_fd);
                if (chmod(proc, 0700) < 0)
                        return -EACCES;
                fd = openat(parent_fd, name, flags);
        }
        if (fd < 0 || fstat(fd, ret_st) < 0)
                return -errno;
        if (ret_st->st_uid == geteuid() && (ret_st->st_mode & 0700) != 0700 && fchmod(fd, 0700) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int directory_next(DIR *d, struct dirent **ret) {
        do {
                errno = 0;
                *ret = readdir(d);
                if (!*ret)
                        return -errno;
        } while (streq((*ret)->d_name, ".") || streq((*ret)->d_name, ".."));
        return 1;
}

static int remove_entry(TreeRemoval *t, int parent_fd, const char *name, unsigned depth);

static int empty_directory(TreeRemoval *t, int dir_fd, unsigned depth) {
        DIR *dir = fdopendir(dir_fd);
        int r = 0;

        if (!dir) {
                r = -errno;
                safe_close(dir_fd);
                return r;
        }
        for (struct dirent *entry; r >= 0 && (r = directory_next(dir, &entry)) > 0; )
                r = remove_entry(t, dirfd(dir), entry->d_name, depth);
        (void) closedir(dir);
        return r;
}

static int move_to_top(TreeRemoval *t, int parent_fd, const char *name) {
        char top_name[32];

        for (;;) {
                (void) snprintf(top_name, sizeof(top_name), ".deep-%" PRIu64, t->n_moved++);
                if (renameat(parent_fd, name, t->top_fd, top_name) >= 0)
                        return 0;
                if (errno != EEXIST && errno != ENOTEMPTY && errno != ENOTDIR) /* what has that name stays, for now */
                        return -errno;
        }
}

static int remove_entry(TreeRemoval *t, int parent_fd, const char *name, unsigned depth) {
        struct stat st;
        int fd, r;

        fd = open_to_empty(parent_fd, name, &st);
        if (fd == -ENOTDIR || fd == -ELOOP)
                return unlinkat(parent_fd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        if (st.st_dev != t->device) {
                safe_close(fd);
                return -EXDEV;
        }
        if (depth >= REMOVE_DEPTH_MAX) {
                safe_close(fd);
                return move_to_top(t, parent_fd, name);
        }
        r = empty_directory(t, fd, depth + 1);
        if (r < 0)
                return r;
        return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int directory_remove(const char *path) {
        _cleanup_close_ int fd = -EBADF;
        TreeRemoval t = {};
        uint64_t n_moved;
        struct stat st;
        int r;

        fd = open_to_empty(AT_FDCWD, path, &st);
        if (fd == -ENOTDIR || fd == -ELOOP)
                return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;

        t = (TreeRemoval) { .top_fd = fd, .device = st.st_dev };
        do {
                /* A description of its own: reading begins anew each time. */
                int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

                if (again < 0)
                        return -errno;
                n_moved = t.n_moved;
                r = empty_directory(&t, again, 0);
        } while (r >= 0 && t.n_moved > n_moved);
        if (r < 0)
                return r;
        return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

#define LINKS_MAX 40U

/* *rest, with the part that is a link (fd) replaced by what the link says. */
static int follow_link(int fd, char **rest) {
        char target[4096], *joined;
        ssize_t n;

        n = readlinkat(fd, "", target, sizeof(target) - 1);
        if (n < 0)
                return -errno;
        target[n] = 0;

        joined = strjoin(target, "/", *rest);
        if (!joined)
                return -ENOMEM;
        free(*rest);
        *rest = joined;
        return 0;
}

/* The next part of *rest below dir_fd, cut off; > 0: it was the last one and is opened as flags say. */
static int open_part(int dir_fd, char **rest, int flags, int *ret_fd) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *name = NULL;
        struct stat st;
        size_t n, skip;
        bool last;
        int r;

        n = strcspn(*rest, "/");
        skip = n + strspn(*rest + n, "/");
        last = (*rest)[skip] == 0;
        name = memdup0(*rest, n);
        if (!name)
                return -ENOMEM;
        if (n == 0 || streq(name, ".."))
                return -EXDEV;
        (void) memmove(*rest, *rest + skip, strlen(*rest + skip) + 1);

        fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (S_ISLNK(st.st_mode)) {
                r = follow_link(fd, rest);
                if (r < 0)
                        return r;
                *ret_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
                return *ret_fd < 0 ? -errno : -ELOOP;
        }
        if (last && !(flags & O_PATH)) {
                safe_close(fd);
                /* The name may be something else by now, but no link. */
                fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC);
                if (fd < 0)
                        return -errno;
        } else if (last && flags & O_DIRECTORY && !S_ISDIR(st.st_mode))
                return -ENOTDIR;

        *ret_fd = TAKE_FD(fd);
        return last;
}

/* By hand, part by part: openat2(2) is out of reach of a unit with RestrictSUIDSGID=, whose filter cannot look into
 * its argument and therefore makes it ENOSYS. */
int open_beneath(int dir_fd, const char *path, int flags) {
        _cleanup_close_ int at = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
        _cleanup_free_ char *rest = strdup(path);
        unsigned n_links = 0;
        int r;

        if (!rest)
                return -ENOMEM;
        if (at < 0)
                return -errno;
        if (*path == 0)
                return -ENOENT;

        do {
                int fd = -EBADF;

                r = open_part(at, &rest, flags, &fd);
                if (r == -ELOOP && fd >= 0 && n_links++ < LINKS_MAX)
                        r = 0;
                if (r < 0) {
                        safe_close(fd);
                        return r;
                }
                safe_close(at);
                at = fd;
        } while (r == 0);
        return TAKE_FD(at);
}

char* path_join(const char *base, const char *path) {
        char *joined, *w;

        joined = *path == '/' ? strdup(path) : strjoin(base, "/", path);
        if (!joined)
                return NULL;

        w = joined;
        for (const char *c = joined; *c; c++)
                if (*c != '/' || w == joined || w[-1] != '/')
                        *w++ = *c;
        if (w > joined + 1 && w[-1] == '/')
                w--;
        *w = 0;
        return joined;
}

int path_make_absolute_from_user(const char *path, char **ret) {
        _cleanup_free_ char *cwd = NULL;
        char *absolute;

        if (path[0] == '~' && (path[1] == '/' || path[1] == 0)) {
                const char *home = getenv("HOME");

                if (isempty(home))
                        return -ENXIO;
                absolute = path_join(home, path[1] == 0 ? "." : path + 2);
                if (absolute && endswith(absolute, "/."))
                        absolute[strlen(absolute) - 2] = 0;
        } else if (path[0] == '/')
                absolute = path_join("/", path);
        else {
                cwd = getcwd(NULL, 0);
                if (!cwd)
                        return -errno;
                absolute = path_join(cwd, path);
        }
        if (!absolute)
                return -ENOMEM;

        *ret = absolute;
        return 0;
}
