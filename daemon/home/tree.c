/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "file-util.h"
#include "string-util.h"
#include "tree.h"

static int sync_directory(const char *path) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int tree_new_aside(const char *parent, char **ret) {
        _cleanup_free_ char *path = path_join(parent, ".new-XXXXXX");

        if (!path)
                return -ENOMEM;
        if (!mkdtemp(path))
                return -errno;

        *ret = TAKE_PTR(path);
        return 0;
}

int tree_install(const char *from, const char *to) {
        _cleanup_free_ char *parent = NULL;
        const char *name;
        int r;

        r = path_split(to, &parent, &name);
        if (r < 0)
                return r;
        if (rename(from, to) < 0)
                return errno == ENOTEMPTY || errno == ENOTDIR ? -EEXIST : -errno;
        return sync_directory(parent);
}

static int copy_data(int from, int to) {
        char buffer[KIB(64)];

        for (;;) {
                ssize_t n = read(from, buffer, sizeof(buffer));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : 0;

                for (ssize_t done = 0; done < n; ) {
                        ssize_t k = write(to, buffer + done, (size_t) (n - done));

                        if (k < 0 && errno != EINTR)
                                return -errno;
                        done += MAX(k, 0);
                }
        }
}

static int copy_file(int from_fd, int to_fd, const char *name, const struct stat *st) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;
        int r;

        from = openat(from_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (from < 0)
                return -errno;
        to = openat(to_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (to < 0)
                return -errno;

        r = copy_data(from, to);
        if (r < 0)
                return r;
        if (fchmod(to, st->st_mode & 0777) < 0)
                return -errno;
        (void) futimens(to, (const struct timespec[]) { st->st_atim, st->st_mtim });
        return 0;
}

static int copy_link(int from_fd, int to_fd, const char *name) {
        char target[4096];
        ssize_t n;

        n = readlinkat(from_fd, name, target, sizeof(target) - 1);
        if (n < 0)
                return -errno;

        target[n] = 0;
        return symlinkat(target, to_fd, name) < 0 ? -errno : 0;
}

static int copy_entries(int from_fd, int to_fd);

static int copy_directory(int from_fd, int to_fd, const char *name, const struct stat *st) {
        _cleanup_close_ int from = -EBADF, to = -EBADF;
        int r;

        from = openat(from_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (from < 0)
                return -errno;
        if (mkdirat(to_fd, name, 0700) < 0)
                return -errno;
        to = openat(to_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (to < 0)
                return -errno;

        r = copy_entries(from, to);
        if (r < 0)
                return r;
        if (fchmod(to, st->st_mode & 0777) < 0)
                return -errno;
        return 0;
}

static int copy_entry(int from_fd, int to_fd, const char *name) {
        struct stat st;

        if (fstatat(from_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return copy_directory(from_fd, to_fd, name, &st);
        if (S_ISREG(st.st_mode))
                return copy_file(from_fd, to_fd, name, &st);
        if (S_ISLNK(st.st_mode))
                return copy_link(from_fd, to_fd, name);
        return 0;
}

static int copy_entries(int from_fd, int to_fd) {
        int fd = fcntl(from_fd, F_DUPFD_CLOEXEC, 3), r = 0;
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        if (!dir) {
                r = -errno;
                safe_close(fd);
                return r;
        }

        for (struct dirent *entry; r >= 0 && (r = directory_next(dir, &entry)) > 0; )
                r = copy_entry(from_fd, to_fd, entry->d_name);
        (void) closedir(dir);
        return r;
}

static int tree_copy(const char *from, const char *to) {
        _cleanup_(tree_discardp) char *aside = NULL;
        _cleanup_free_ char *parent = NULL, *to_parent = NULL, *copy = NULL;
        _cleanup_close_ int parent_fd = -EBADF, aside_fd = -EBADF;
        const char *name, *to_name;
        int r;

        r = path_split(from, &parent, &name);
        if (r < 0)
                return r;
        parent_fd = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return -errno;
        r = path_split(to, &to_parent, &to_name);
        if (r >= 0)
                r = tree_new_aside(to_parent, &aside);
        if (r < 0)
                return r;
        aside_fd = open(aside, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (aside_fd < 0)
                return -errno;

        r = copy_entry(parent_fd, aside_fd, name);
        if (r < 0)
                return r;
        copy = path_join(aside, name);
        return copy ? tree_install(copy, to) : -ENOMEM;
}

int tree_move(const char *from, const char *to) {
        int r;

        r = tree_install(from, to);
        if (r != -EXDEV)
                return r;

        r = tree_copy(from, to);
        return r < 0 ? r : tree_remove(from);
}

int tree_hide(const char *path, const char *suffix, char **ret) {
        _cleanup_free_ char *hex = random_hex(4), *parent = NULL, *hidden = NULL;
        const char *name;
        int r;

        if (!hex)
                return -ENOMEM;
        r = path_split(path, &parent, &name);
        if (r < 0)
                return r;
        /* The dot keeps it out of every listing while it is going. */
        hidden = strjoin(parent, "/.gone-", hex, suffix);
        if (!hidden)
                return -ENOMEM;
        if (rename(path, hidden) < 0)
                return -errno;

        *ret = TAKE_PTR(hidden);
        return 0;
}

int tree_remove(const char *path) {
        _cleanup_free_ char *hidden = NULL;
        int r;

        r = tree_hide(path, "", &hidden);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        return directory_remove(hidden);
}

const char* tree_hidden_suffix(const char *name) {
        const char *rest = startswith(name, ".gone-");

        return rest && strlen(rest) > 8 && strspn(rest, "0123456789abcdef") >= 8 ? rest + 8 : NULL;
}

/* Exactly the names that are made here: somebody's own files may begin with a dot too. */
static bool is_leftover(const char *name) {
        const char *rest = startswith(name, ".new-");
        size_t n = 6;

        if (!rest) {
                rest = startswith(name, ".gone-");
                n = 8;
        }
        if (!rest || strlen(rest) != n)
                return false;
        for (; *rest; rest++)
                if (!isalnum((unsigned char) *rest))
                        return false;
        return true;
}

int tree_sweep(const char *parent, time_t before) {
        DIR *dir = opendir(parent);
        int n = 0, r = 0;

        if (!dir)
                return errno == ENOENT ? 0 : -errno;

        for (struct dirent *entry; (entry = readdir(dir)); ) {
                _cleanup_free_ char *path = NULL;
                struct stat st;
                int k;

                if (!is_leftover(entry->d_name) ||
                    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISDIR(st.st_mode) ||
                    st.st_ctim.tv_sec >= before)
                        continue;
                path = path_join(parent, entry->d_name);
                k = path ? directory_remove(path) : -ENOMEM;
                n += k >= 0;
                r = r < 0 ? r : MIN(k, 0);
        }
        (void) closedir(dir);
        return r < 0 ? r : n;
}

char* tree_discard(char *path) {
        if (path)
                (void) directory_remove(path);
        return mfree(path);
}
