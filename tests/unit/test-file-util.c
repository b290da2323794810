/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "count-entries.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"

static char* temporary_directory(void) {
        char *path = strdup("/tmp/puffo-test-XXXXXX");

        ASSERT_NOT_NULL(mkdtemp(path));
        return path;
}

TEST(write_atomic) {
        _cleanup_free_ char *dir = temporary_directory(), *path = path_join(dir, "f"), *text = NULL;
        struct stat st;
        size_t size;

        ASSERT_OK(file_write_atomic(path, "one", 3, 0600));
        ASSERT_OK(file_write_atomic(path, "two!", 4, 0600));
        ASSERT_OK(file_read(path, 100, &text, &size));
        ASSERT_STREQ(text, "two!");
        ASSERT_EQ(size, 4);
        ASSERT_EQ(stat(path, &st), 0);
        ASSERT_EQ(st.st_mode & 07777, 0600);
        ASSERT_ERROR(file_create_atomic(path, "x", 1, 0600), EEXIST);
        ASSERT_EQ(count_entries(dir), 1);       /* no temporary stays behind */
        ASSERT_OK(directory_remove(dir));
}

TEST(write_snapshot) {
        _cleanup_free_ char *dir = temporary_directory(), *path = path_join(dir, "f"), *text = NULL;
        struct stat st;

        ASSERT_OK(file_write_snapshot(path, "one", 3, 0600));
        ASSERT_OK(file_write_snapshot(path, "two!", 4, 0600));
        ASSERT_OK(file_read(path, 100, &text, NULL));
        ASSERT_STREQ(text, "two!");
        ASSERT_EQ(stat(path, &st), 0);
        ASSERT_EQ(st.st_mode & 07777, 0600);
        ASSERT_EQ(count_entries(dir), 1);
        ASSERT_OK(directory_remove(dir));
}

TEST(write_atomic_fails_whole) {
        _cleanup_free_ char *dir = temporary_directory(), *path = path_join(dir, "d");

        ASSERT_OK(directory_make(path, 0700));
        ASSERT_TRUE(file_write_atomic(path, "x", 1, 0600) < 0);
        ASSERT_EQ(count_entries(dir), 1);
        ASSERT_OK(directory_remove(dir));
}

TEST(read_limits) {
        _cleanup_free_ char *dir = temporary_directory(), *path = path_join(dir, "f"), *fifo = path_join(dir, "p"),
                            *text = NULL;

        ASSERT_OK(file_write_atomic(path, "12345", 5, 0600));
        ASSERT_ERROR(file_read(path, 4, &text, NULL), EFBIG);
        ASSERT_ERROR(file_read(dir, 4, &text, NULL), EISDIR);
        ASSERT_EQ(mkfifo(fifo, 0600), 0);
        ASSERT_ERROR(file_read(fifo, 4, &text, NULL), ELOOP);
        ASSERT_NULL(text);
        ASSERT_OK(directory_remove(dir));
}

TEST(remove_does_not_follow) {
        _cleanup_free_ char *dir = temporary_directory(), *keep = path_join(dir, "keep"), *gone = path_join(dir, "gone"),
                            *file = path_join(keep, "f"), *link = path_join(gone, "link");

        ASSERT_OK(directory_make(keep, 0700));
        ASSERT_OK(directory_make(gone, 0700));
        ASSERT_OK(file_write_atomic(file, "x", 1, 0600));
        ASSERT_EQ(symlink(keep, link), 0);
        ASSERT_OK(directory_remove(gone));
        ASSERT_EQ(access(gone, F_OK), -1);
        ASSERT_EQ(access(file, F_OK), 0);
        ASSERT_OK(directory_remove(gone));
        ASSERT_OK(directory_remove(dir));
}

/* Deeper than there are descriptors, and than a stack is large. */
TEST(remove_deep) {
        _cleanup_free_ char *dir = temporary_directory();
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        struct rlimit before, few;

        ASSERT_EQ(mkdirat(fd, ".deep-1", 0700), 0);
        ASSERT_EQ(mkdirat(fd, ".deep-1/x", 0700), 0);
        ASSERT_EQ(mknodat(fd, ".deep-2", S_IFREG | 0600, 0), 0);
        for (unsigned i = 0; i < 5000; i++) {
                int next;

                ASSERT_EQ(mkdirat(fd, "d", 0700), 0);
                next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                ASSERT_TRUE(next >= 0);
                close(fd);
                fd = next;
        }
        close(fd);

        ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
        few = before;
        few.rlim_cur = 200;
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
        ASSERT_OK(directory_remove(dir));
        ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
        ASSERT_EQ(access(dir, F_OK), -1);
}

/* What a cache of module downloads looks like. */
static int make_and_remove_read_only(void) {
        _cleanup_free_ char *dir = temporary_directory(), *closed = path_join(dir, "closed"),
                            *sub = path_join(closed, "sub"), *file = path_join(sub, "f"),
                            *unreadable = path_join(dir, "unreadable");

        ASSERT_OK(directory_make(sub, 0700));
        ASSERT_OK(directory_make(unreadable, 0700));
        ASSERT_OK(file_write_atomic(file, "x", 1, 0400));
        ASSERT_EQ(chmod(sub, 0500), 0);
        ASSERT_EQ(chmod(closed, 0500), 0);
        ASSERT_EQ(chmod(unreadable, 0), 0);
        ASSERT_OK(directory_remove(dir));
        return access(dir, F_OK) < 0 ? 0 : 1;
}

TEST(remove_read_only) {
        int status;
        pid_t pid;

        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
                        _exit(2);
                _exit(make_and_remove_read_only());
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFEXITED(status));
        ASSERT_EQ(WEXITSTATUS(status), 0);
}

TEST(open_beneath) {
        _cleanup_free_ char *dir = temporary_directory(), *link = path_join(dir, "out"), *file = path_join(dir, "f");
        _cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

        ASSERT_OK(file_write_atomic(file, "x", 1, 0600));
        ASSERT_EQ(symlink("/etc/passwd", link), 0);
        fd = open_beneath(dir_fd, "f", O_RDONLY);
        ASSERT_TRUE(fd >= 0);
        fd = safe_close(fd);
        fd = open_beneath(dir_fd, "f", O_PATH);
        ASSERT_TRUE(fd >= 0);
        fd = safe_close(fd);
        ASSERT_ERROR(open_beneath(dir_fd, "out", O_RDONLY), EXDEV);
        ASSERT_ERROR(open_beneath(dir_fd, "../etc/passwd", O_RDONLY), EXDEV);
        ASSERT_ERROR(open_beneath(dir_fd, "/etc/passwd", O_RDONLY), EXDEV);
        ASSERT_ERROR(open_beneath(dir_fd, "out/x", O_RDONLY), EXDEV);
        ASSERT_ERROR(open_beneath(dir_fd, "f/..", O_RDONLY), EXDEV);
        ASSERT_ERROR(open_beneath(dir_fd, "f/x", O_RDONLY), ENOTDIR);
        ASSERT_ERROR(open_beneath(dir_fd, "", O_RDONLY), ENOENT);
        ASSERT_ERROR(open_beneath(dir_fd, "none", O_RDONLY), ENOENT);
        ASSERT_ERROR(open_beneath(dir_fd, "f", O_PATH | O_DIRECTORY), ENOTDIR);
        fd = open_beneath(dir_fd, ".", O_RDONLY | O_DIRECTORY);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(directory_remove(dir));
}

TEST(open_beneath_links) {
        static const struct {
                const char *name, *target;
                int error;
        } t[] = {
                { "inside", "d/f", 0 }, { "twice", "inside", 0 }, { "directory", "./d/", 0 }, { "up", "../x", EXDEV },
                { "loop", "loop", ELOOP }, { "magic", "/proc/self/fd/0", EXDEV }, { "nowhere", "d/none", ENOENT },
        };
        _cleanup_free_ char *dir = temporary_directory(), *sub = path_join(dir, "d"), *file = path_join(dir, "d/f");
        _cleanup_close_ int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

        ASSERT_OK(directory_make(sub, 0700));
        ASSERT_OK(file_write_atomic(file, "x", 1, 0600));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ASSERT_EQ(symlinkat(t[i].target, dir_fd, t[i].name), 0);
                fd = open_beneath(dir_fd, t[i].name, O_RDONLY);
                ASSERT_EQ(MIN(fd, 0), -t[i].error);
                fd = safe_close(fd);
        }
        fd = open_beneath(dir_fd, "directory/f", O_RDONLY);
        ASSERT_TRUE(fd >= 0);
        ASSERT_OK(directory_remove(dir));
}

TEST(path_join) {
        static const struct {
                const char *base, *path, *joined;
        } t[] = {
                { "/a", "b", "/a/b" }, { "/a/", "b/", "/a/b" }, { "/a", "/b", "/b" }, { "/", "b", "/b" },
                { "/a//b", "c", "/a/b/c" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *joined = path_join(t[i].base, t[i].path);
                ASSERT_STREQ(joined, t[i].joined);
        }
}

#define TEST_SUITE "file-util"
TEST_MAIN();
