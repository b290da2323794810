/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "cli-file.h"
#include "file-util.h"
#include "string-util.h"

char* cli_file_path(int dir_fd, const char *name) {
        return asprintf_new("/proc/self/fd/%d/%s", dir_fd, name);
}

int cli_file_move_aside(int dir_fd, const char *name) {
        _cleanup_free_ char *hex = random_hex(4), *aside = hex ? strjoin(name, ".aside-", hex) : NULL;

        if (!aside)
                return -ENOMEM;
        return renameat(dir_fd, name, dir_fd, aside) < 0 ? -errno : 0;
}

static int part_open(int dir_fd, const char *name, bool make, mode_t mode) {
        for (unsigned i = 0; i < 2; i++) {
                int fd, r;

                fd = openat(dir_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
                if (fd >= 0)
                        return fd;
                if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
                        return -errno;
                if (!make)
                        return -ENOENT;
                if (errno != ENOENT) {
                        r = cli_file_move_aside(dir_fd, name);
                        if (r < 0)
                                return r;
                }
                if (mkdirat(dir_fd, name, mode) < 0 && errno != EEXIST)
                        return -errno;
        }
        return -ELOOP;  /* somebody puts other things there as fast as we move them away */
}

static int walk(int root_fd, const char *path, bool make, mode_t mode) {
        _cleanup_close_ int at = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
        _cleanup_free_ char *copy = strdup(path);
        char *rest = copy, *part;

        if (at < 0)
                return -errno;
        if (!copy)
                return -ENOMEM;
        while ((part = strsep(&rest, "/"))) {
                int fd = part_open(at, part, make, mode);

                if (fd < 0)
                        return fd;
                safe_close(at);
                at = fd;
        }
        return TAKE_FD(at);
}

int cli_directory_make(int root_fd, const char *path, mode_t mode) {
        return walk(root_fd, path, /* make= */ true, mode);
}

int cli_directory_open(int root_fd, const char *path, int flags) {
        _cleanup_close_ int fd = walk(root_fd, path, /* make= */ false, 0);
        int again;

        if (fd < 0 || flags & O_PATH)
                return fd < 0 ? fd : TAKE_FD(fd);
        again = openat(fd, ".", flags | O_DIRECTORY | O_CLOEXEC);
        return again < 0 ? -errno : again;
}

int cli_directory_in(const char *root, const char *path, bool make) {
        _cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        return make ? cli_directory_make(fd, path, 0700) : cli_directory_open(fd, path, O_PATH);
}

/* Looked at before it is opened: opening a device or a FIFO can have effects. */
static int regular_open(int dir_fd, const char *name, int flags, struct stat *ret_st) {
        _cleanup_close_ int path_fd = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        char buffer[FD_PATH_MAX];
        int fd;

        if (path_fd < 0 || fstat(path_fd, ret_st) < 0)
                return -errno;
        if (!S_ISREG(ret_st->st_mode))
                return -ELOOP;
        fd = open(fd_path(buffer, path_fd), flags | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int cli_file_read(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_size) {
        struct stat st;
        _cleanup_close_ int fd = regular_open(dir_fd, name, O_RDONLY, &st);

        return fd < 0 ? fd : file_read_fd(fd, max, ret, ret_size);
}

int cli_file_read_object(int dir_fd, const char *name, size_t max, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        r = cli_file_read(dir_fd, name, max, &text, &size);
        if (r >= 0)
                r = json_parse(text, size, &o);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object))
                return -EBADMSG;
        *ret = TAKE_PTR(o);
        return 0;
}

static bool says(int fd, const char *text, size_t size) {
        _cleanup_free_ char *present = NULL;
        size_t n;

        return file_read_fd(fd, size, &present, &n) >= 0 && n == size && memcmp(present, text, size) == 0;
}

static int overwrite(int dir_fd, const char *name, const char *text, size_t size, bool sync) {
        struct stat st;
        _cleanup_close_ int fd = regular_open(dir_fd, name, O_WRONLY, &st);
        size_t done = 0;

        if (fd < 0)
                return fd;
        /* A disk that is full says so before anything of the old text is gone. */
        if (size > (uint64_t) st.st_size && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t) size) < 0 &&
            errno != EOPNOTSUPP && errno != ENOSYS)
                return -errno;
        while (done < size) {
                ssize_t n = pwrite(fd, text + done, size - done, (off_t) done);

                if (n < 0 && errno != EINTR)
                        return -errno;
                done += n > 0 ? (size_t) n : 0;
        }
        return ftruncate(fd, (off_t) size) < 0 || (sync && fsync(fd) < 0) ? -errno : 1;
}

int cli_file_write(int dir_fd, const char *name, const char *text, size_t size, mode_t mode, CliFileFlags flags) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct stat st = {};
        bool own;
        int r;

        fd = regular_open(dir_fd, name, O_RDONLY, &st);
        own = fd >= 0 && st.st_nlink == 1 && st.st_uid == geteuid();
        if (own && (st.st_mode & 07777) != mode && fchmod(fd, mode) < 0)
                return -errno;
        if (own && (uint64_t) st.st_size == size && says(fd, text, size))
                return 0;
        if (own && flags & CLI_FILE_KEEP_INODE) {
                r = overwrite(dir_fd, name, text, size, flags & CLI_FILE_SYNC);
                if (r >= 0)
                        return r;
        }
        if (fd < 0 && S_ISDIR(st.st_mode)) { /* everything else is replaced by the rename */
                r = cli_file_move_aside(dir_fd, name);
                if (r < 0)
                        return r;
        }

        path = cli_file_path(dir_fd, name);
        if (!path)
                return -ENOMEM;
        r = flags & CLI_FILE_SYNC ? file_write_atomic(path, text, size, mode)
                                  : file_write_snapshot(path, text, size, mode);
        return r < 0 ? r : 1;
}

int cli_file_write_object(int dir_fd, const char *name, json_object *o, mode_t mode, CliFileFlags flags) {
        const char *text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
                                                          JSON_C_TO_STRING_NOSLASHESCAPE);
        _cleanup_free_ char *lines = text ? strjoin(text, "\n") : NULL;

        return lines ? cli_file_write(dir_fd, name, lines, strlen(lines), mode, flags) : -ENOMEM;
}

/* What a link that stays in the directory leads to. *ret NULL: nothing that could be copied. */
static int read_behind_link(int dir_fd, const char *name, char **ret, size_t *ret_size) {
        _cleanup_close_ int path_fd = open_beneath(dir_fd, name, O_PATH), fd = -EBADF;
        int r;

        *ret = NULL;
        if (path_fd < 0)
                return path_fd == -ENOMEM ? path_fd : 0;
        fd = file_reopen(path_fd);
        if (fd < 0)
                return 0;
        r = file_read_fd(fd, CLI_FILE_SIZE_MAX, ret, ret_size);
        return r == -ENOMEM ? r : 0;
}

int cli_file_ensure(int dir_fd, const char *name, const char *text, mode_t mode) {
        _cleanup_free_ char *present = NULL, *path = NULL;
        size_t size = strlen(text);
        struct stat st;
        int r;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
                if (errno != ENOENT)
                        return -errno;
        } else if (S_ISREG(st.st_mode) && st.st_nlink == 1)
                return 0;
        else {
                if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
                        r = read_behind_link(dir_fd, name, &present, &size);
                        if (r < 0)
                                return r;
                }
                if (!present) {
                        size = strlen(text);
                        r = cli_file_move_aside(dir_fd, name);
                        if (r < 0)
                                return r;
                }
        }
        path = cli_file_path(dir_fd, name);
        if (!path)
                return -ENOMEM;
        r = file_write_snapshot(path, present ?: text, size, mode);
        return r < 0 ? r : 1;
}
