/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "promises"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "file-util.h"
#include "promises.h"
#include "string-util.h"
#include "tests.h"

#define ROOT_RO "20 1 8:1 / / ro,relatime shared:1 - ext4 /dev/sda1 rw\n"
#define ROOT_RW "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"

static const char* type_at(const char *text, const char *path) {
        static char type[64];
        MountTable t = {};
        const Mount *m;

        ASSERT_OK(mount_table_parse(&t, text));
        m = mount_table_find(&t, path);
        (void) snprintf(type, sizeof(type), "%s%s", m ? m->type : "nothing", m && m->is_read_only ? " ro" : "");
        mount_table_done(&t);
        return type;
}

TEST(what_a_path_is_on) {
        static const char text[] =
                ROOT_RW
                "21 20 0:5 / /proc rw - proc proc rw\n"
                "22 20 0:6 / /run rw shared:2 master:3 propagate_from:2 - tmpfs tmpfs rw,mode=755\n"
                "23 22 0:7 / /run/user/1000 rw - tmpfs tmpfs rw\n"
                /* Over the two before, and over itself again. */
                "24 22 0:8 / /run ro - ramfs x rw\n"
                "25 24 0:9 / /run rw - overlay x ro\n"
                "26 25 0:9 / /run/puffo/tools.sock rw - btrfs x rw\n"
                "27 20 0:9 / /with\\040blank\\134 rw - xfs x rw\n"
                "28 20 0:9 / /home rw - tmpfs x rw\n"
                "29 28 0:9 / /home/a/b rw - ext3 x rw\n";

        ASSERT_STREQ(type_at(text, "/"), "ext4");
        ASSERT_STREQ(type_at(text, "/usr"), "ext4");
        ASSERT_STREQ(type_at(text, "/proc"), "proc");
        ASSERT_STREQ(type_at(text, "/process"), "ext4");
        ASSERT_STREQ(type_at(text, "/run"), "overlay ro");
        ASSERT_STREQ(type_at(text, "/run/user/1000/bus"), "overlay ro");
        ASSERT_STREQ(type_at(text, "/run/puffo/tools.sock"), "btrfs");
        ASSERT_STREQ(type_at(text, "/with blank\\/x"), "xfs");
        ASSERT_STREQ(type_at(text, "/home/a"), "tmpfs");
        ASSERT_STREQ(type_at(text, "/home/a/b/c"), "ext3");
}

TEST(stacked_roots) {
        static const char text[] =
                "30 10 0:1 / / rw - rootfs x rw\n"
                "31 30 0:2 / / ro - ext4 x rw\n"
                "32 31 0:3 / /usr rw - xfs x rw\n"
                "33 30 0:3 / /usr rw - hidden x rw\n";

        ASSERT_STREQ(type_at(text, "/etc"), "ext4 ro");
        ASSERT_STREQ(type_at(text, "/usr/bin"), "xfs");
}

TEST(tables_that_are_none) {
        static const char *const t[] = {
                "x\n", "20 1 8:1 / / rw ext4 x rw\n", "20 1 8:1 / / rw -\n", "20 1 8:1 / / rw - ext4 x\n",
                "a 1 8:1 / / rw - ext4 x rw\n", "20 -1 8:1 / / rw - ext4 x rw\n", "20 1 8:1 / mnt rw - ext4 x rw\n",
                "99999999999999999999 1 8:1 / / rw - ext4 x rw\n", ROOT_RW "20",
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                MountTable table = {};

                ASSERT_ERROR(mount_table_parse(&table, t[i]), EBADMSG);
                ASSERT_NULL(table.mounts);
        }
        ASSERT_STREQ(type_at("", "/"), "nothing");
        /* No beginning, no end. */
        ASSERT_STREQ(type_at("1 2 0:1 / / rw - a x rw\n2 1 0:1 / / rw - b x rw\n", "/"), "nothing");
        ASSERT_STREQ(type_at(ROOT_RW "2 3 0:1 / /a rw - a x rw\n3 2 0:1 / /a rw - b x rw\n", "/a"), "ext4");
}

TEST(own_table) {
        _cleanup_(mount_table_done) MountTable t = {};

        ASSERT_OK(mount_table_read(&t));
        ASSERT_NOT_NULL(mount_table_find(&t, "/"));
        ASSERT_STREQ(mount_table_find(&t, "/proc/self")->type, "proc");
}

static char* first_missing(const char *text, int (*check)(const MountTable*, char***)) {
        _cleanup_(mount_table_done) MountTable t = {};
        _cleanup_(strv_freep) char **missing = NULL;

        ASSERT_OK(mount_table_parse(&t, text));
        ASSERT_OK(check(&t, &missing));
        return strdup(missing ? *missing : "");
}

TEST(system_directories) {
        static const struct { const char *mounts, *missing; } t[] = {
                { ROOT_RO, "" },
                { ROOT_RW, "/ can be written" },
                { "", "/ can be written" },
                { "20 1 8:1 / / rw - ext4 x ro\n", "" },
                { ROOT_RO "21 20 0:1 / /usr rw - ext4 x rw\n", "/usr can be written" },
                { ROOT_RO "21 20 0:1 / /usr/local rw - ext4 x rw\n", "/usr/local can be written" },
                { ROOT_RO "21 20 0:1 / /etc/x rw - ext4 x rw\n", "/etc/x can be written" },
                { ROOT_RO "21 20 0:1 / /boot rw - autofs x rw\n", "/boot can be written" },
                { ROOT_RO "21 20 0:1 / /boot/efi rw - autofs x rw\n", "" },
                { ROOT_RO "21 20 0:1 / /etcetera rw - ext4 x rw\n", "" },
                { ROOT_RO "21 20 0:1 / /usr rw - ext4 x rw\n22 21 0:1 / /usr ro - ext4 x rw\n", "" },
                { ROOT_RO "21 20 0:1 / /usr ro - ext4 x rw\n22 21 0:1 / /usr rw - ext4 x rw\n", "/usr can be written" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *missing = first_missing(t[i].mounts, promises_check_system);

                ASSERT_STREQ(missing, t[i].missing);
        }
}

TEST(control_groups) {
        static const struct { const char *mounts, *missing; } t[] = {
                { ROOT_RW, "" },
                { ROOT_RW "21 20 0:1 / /sys/fs/cgroup ro - cgroup2 x rw\n", "" },
                { ROOT_RW "21 20 0:1 / /sys/fs/cgroup rw - cgroup2 x rw\n",
                  "the control groups at /sys/fs/cgroup can be written" },
                { ROOT_RW "21 20 0:1 / /c ro - tmpfs x rw\n22 21 0:1 / /c/systemd rw - cgroup x rw\n",
                  "the control groups at /c/systemd can be written" },
                { ROOT_RW "21 20 0:1 / /c rw - cgroup2 x rw\n22 21 0:1 / /c ro - cgroup2 x rw\n", "" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *missing = first_missing(t[i].mounts, promises_check_control_groups);

                ASSERT_STREQ(missing, t[i].missing);
        }
}

/* This process is in no sandbox: what it has is everybody's. */
TEST(what_processes_meet_at) {
        _cleanup_(strv_freep) char **missing = NULL;
        Sandbox s = {};
        struct stat st;

        if (stat("/dev/shm", &st) < 0 || stat("/dev/pts", &st) < 0)
                skip();
        promises_look_outside(&s);
        ASSERT_EQ(s.shared[0], st.st_dev);
        ASSERT_OK(promises_check_shared(&s, &missing));
        ASSERT_STREQ(missing[0], "the terminals at /dev/pts are those of others");
        ASSERT_NULL(missing[1]);

        /* Whatever it was before: it is somebody's. */
        missing = strv_free(missing);
        ASSERT_EQ(stat("/dev/shm", &st), 0);
        s = (Sandbox) { .shared = { 0, st.st_dev } };
        ASSERT_OK(promises_check_shared(&s, &missing));
        ASSERT_NOT_NULL(missing);
}

/* --- paths that must stay --- */

static char* kept(const char *mounts, const char *path) {
        _cleanup_(mount_table_done) MountTable t = {};
        _cleanup_(strv_freep) char **missing = NULL;
        int r;

        ASSERT_OK(mount_table_parse(&t, mounts));
        r = ASSERT_OK(promises_check_kept(&t, path, &missing));
        ASSERT_EQ(r == 0, missing != NULL);
        return missing ? strdup(*missing) : NULL;
}

TEST(kept_paths) {
        char home[] = "/tmp/puffo-test-XXXXXX";
        _cleanup_free_ char *config = NULL, *units = NULL, *link = NULL, *no_anchor = NULL, *fine = NULL,
                            *writable = NULL, *said = NULL, *expected = NULL;

        ASSERT_NOT_NULL(mkdtemp(home));
        config = strjoin(home, "/.config");
        units = strjoin(config, "/systemd");
        link = strjoin(home, "/link");
        ASSERT_OK(directory_make(units, 0700));
        ASSERT_EQ(symlink(config, link), 0);
        no_anchor = strjoin(ROOT_RW "21 20 0:1 / ", home, " rw - ext4 x rw\n22 21 0:1 / ", units, " ro - ext4 x rw\n");
        fine = strjoin(ROOT_RW "21 20 0:1 / ", home, " rw - ext4 x rw\n22 21 0:1 / ", config,
                       " rw - ext4 x rw\n23 22 0:1 / ", units, " ro - ext4 x rw\n");
        writable = strjoin(ROOT_RW "21 20 0:1 / ", home, " rw - ext4 x rw\n22 21 0:1 / ", config,
                           " rw - ext4 x rw\n23 22 0:1 / ", units, " rw - ext4 x rw\n");

        said = kept(writable, units);
        expected = strjoin(units, " can be written");
        ASSERT_STREQ(said, expected);
        said = mfree(said);
        expected = mfree(expected);

        /* A directory on the way to it is no mount: renamed, and one of one's own put there. */
        said = kept(no_anchor, units);
        expected = strjoin(config, " can be replaced");
        ASSERT_STREQ(said, expected);
        said = mfree(said);
        expected = mfree(expected);

        /* Root may write to / as well. */
        said = kept(fine, units);
        if (getuid() != 0)
                ASSERT_NULL(said);
        else
                ASSERT_STREQ(said, "/tmp can be replaced");
        said = mfree(said);

        said = kept(fine, link);
        expected = strjoin(link, " can be replaced");
        ASSERT_STREQ(said, expected);
        said = mfree(said);
        expected = mfree(expected);
        ASSERT_OK(unlink(link));
        said = kept(fine, link);
        expected = strjoin(link, " is not there");
        ASSERT_STREQ(said, expected);
        ASSERT_OK(directory_remove(home));
}

/* --- places that were looked at before they were mounted --- */

TEST(places) {
        static const char *const bad[] = { "", "ro", "ro:", "ro:1", "ro:1:2", "ro:1:2:", "ro:1:2:x", "xx:1:2:/x",
                                           "ro::2:/x", "ro:1::/x", "ro:-1:2:/x", "ro:1:99999999999999999999:/x" };
        char directory[] = "/tmp/puffo-test-XXXXXX";
        _cleanup_free_ char *file = NULL, *other = NULL, *text = NULL, *reason = NULL, *expected = NULL;
        _cleanup_close_ int fd = -EBADF;        /* no other file gets its number while it is held */
        _cleanup_(places_done) Places p = {};
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                ASSERT_ERROR(places_add(&p, bad[i]), EINVAL);
        ASSERT_EQ(p.n_places, 0);
        ASSERT_OK(places_check(&p, &reason));

        ASSERT_NOT_NULL(mkdtemp(directory));
        file = strjoin(directory, "/with:colons and blanks");
        other = strjoin(directory, "/other");
        ASSERT_OK(file_write_snapshot(file, "x", 1, 0600));
        ASSERT_EQ(stat(directory, &st), 0);
        text = asprintf_new("rw:%" PRIu64 ":%" PRIu64 ":%s", (uint64_t) st.st_dev, (uint64_t) st.st_ino, directory);
        ASSERT_OK(places_add(&p, text));
        text = mfree(text);
        fd = open(file, O_PATH | O_CLOEXEC);
        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(fstat(fd, &st), 0);
        text = asprintf_new("rw:%" PRIu64 ":%" PRIu64 ":%s", (uint64_t) st.st_dev, (uint64_t) st.st_ino, file);
        ASSERT_OK(places_add(&p, text));
        ASSERT_EQ(p.n_places, 2);
        ASSERT_STREQ(p.places[1].path, file);
        ASSERT_OK(places_check(&p, &reason));

        /* The same name, the same text. */
        ASSERT_OK(file_write_snapshot(other, "x", 1, 0600));
        ASSERT_OK(rename(other, file));
        ASSERT_ERROR(places_check(&p, &reason), ESTALE);
        expected = strjoin("'", file, "' is not the file that was checked");
        ASSERT_STREQ(reason, expected);
        reason = mfree(reason);
        expected = mfree(expected);

        ASSERT_OK(unlink(file));
        ASSERT_OK(directory_make(file, 0700));
        ASSERT_ERROR(places_check(&p, &reason), ESTALE);
        ASSERT_NOT_NULL(strstr(reason, "is not the directory that was checked"));
        reason = mfree(reason);
        ASSERT_OK(directory_remove(directory));
        ASSERT_ERROR(places_check(&p, &reason), ESTALE);
        ASSERT_NOT_NULL(strstr(reason, "is not there"));
}

TEST(a_place_that_can_be_written) {
        char directory[] = "/tmp/puffo-test-XXXXXX";
        _cleanup_free_ char *text = NULL, *reason = NULL, *expected = NULL;
        _cleanup_(places_done) Places p = {};
        struct stat st;

        ASSERT_NOT_NULL(mkdtemp(directory));
        ASSERT_EQ(stat(directory, &st), 0);
        text = asprintf_new("ro:%" PRIu64 ":%" PRIu64 ":%s", (uint64_t) st.st_dev, (uint64_t) st.st_ino, directory);
        ASSERT_OK(places_add(&p, text));
        ASSERT_ERROR(places_check(&p, &reason), ESTALE);
        expected = strjoin("'", directory, "' can be written");
        ASSERT_STREQ(reason, expected);
        ASSERT_OK(directory_remove(directory));
}

/* --- paths that must not be there --- */

static int hidden(const char *mounts, const char *path, char **ret_missing) {
        _cleanup_(mount_table_done) MountTable t = {};
        _cleanup_(strv_freep) char **missing = NULL;
        int r;

        ASSERT_OK(mount_table_parse(&t, mounts));
        r = ASSERT_OK(promises_check_hidden(&t, path, &missing));
        ASSERT_EQ(r == 0, missing != NULL);
        *ret_missing = strdup(missing ? *missing : "");
        return r;
}

TEST(hidden_paths) {
        char home[] = "/tmp/puffo-test-XXXXXX";
        _cleanup_free_ char *work = NULL, *file = NULL, *link = NULL, *mounts = NULL, *missing = NULL, *expected = NULL;

        ASSERT_NOT_NULL(mkdtemp(home));
        work = strjoin(home, "/alice/agents/a");
        file = strjoin(home, "/alice/file");
        link = strjoin(home, "/alice/link");
        mounts = strjoin(ROOT_RO "21 20 0:1 / ", home, " rw - tmpfs x rw\n22 21 0:1 / ", work, " rw - ext4 x rw\n");
        ASSERT_OK(directory_make(work, 0700));

        /* Directories that lead to a mount, and what is in the mount. */
        expected = strjoin(work, "/x");
        ASSERT_OK(directory_make(expected, 0700));
        expected = mfree(expected);
        ASSERT_EQ(hidden(mounts, home, &missing), 1);
        missing = mfree(missing);

        /* By way of a link it is the same. */
        ASSERT_OK(symlink(home, "/tmp/puffo-test-link"));
        ASSERT_EQ(hidden(mounts, "/tmp/puffo-test-link", &missing), 1);
        missing = mfree(missing);
        ASSERT_OK(unlink("/tmp/puffo-test-link"));

        ASSERT_OK(symlink("/nowhere", link));
        ASSERT_EQ(hidden(mounts, home, &missing), 0);
        expected = strjoin(link, " is there");
        ASSERT_STREQ(missing, expected);
        missing = mfree(missing);
        expected = mfree(expected);
        ASSERT_OK(unlink(link));

        ASSERT_OK(file_write_snapshot(file, "x", 1, 0600));
        ASSERT_EQ(hidden(mounts, home, &missing), 0);
        expected = strjoin(file, " is there");
        ASSERT_STREQ(missing, expected);
        missing = mfree(missing);
        expected = mfree(expected);

        /* A mount that is itself to be hidden hides nothing. */
        ASSERT_EQ(hidden(mounts, work, &missing), 0);
        missing = mfree(missing);
        ASSERT_EQ(hidden(mounts, file, &missing), 0);
        expected = strjoin(file, " can be reached");
        ASSERT_STREQ(missing, expected);
        missing = mfree(missing);
        if (geteuid() != 0) {
                ASSERT_OK(chmod(file, 0));
                ASSERT_EQ(hidden(mounts, file, &missing), 1);
                missing = mfree(missing);
        }
        ASSERT_EQ(hidden(mounts, "/nowhere/at/all", &missing), 1);
        ASSERT_OK(directory_remove(home));
}

TEST(hidden_sockets) {
        static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
        char directory[] = "/tmp/puffo-test-XXXXXX";

        ASSERT_NOT_NULL(mkdtemp(directory));
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                struct sockaddr_un address = { .sun_family = AF_UNIX };
                int fd = socket(AF_UNIX, types[i], 0);
                char *missing;

                (void) snprintf(address.sun_path, sizeof(address.sun_path), "%s/%zu", directory, i);
                assert_int_equal(bind(fd, (struct sockaddr*) &address, sizeof(address)), 0);
                if (types[i] != SOCK_DGRAM)
                        assert_int_equal(listen(fd, 1), 0);
                ASSERT_TRUE(socket_answers(address.sun_path));
                ASSERT_EQ(hidden(ROOT_RO, address.sun_path, &missing), 0);
                free(missing);
                (void) close(fd);
                ASSERT_FALSE(socket_answers(address.sun_path));
                ASSERT_EQ(hidden(ROOT_RO, address.sun_path, &missing), 1);
                free(missing);
        }
        ASSERT_OK(directory_remove(directory));
}

TEST(profiles) {
        for (Profile p = 0; p < _PROFILE_MAX; p++)
                ASSERT_EQ(profile_from_string(profile_to_string(p)), p);
        ASSERT_EQ(profile_from_string("none"), _PROFILE_INVALID);
        ASSERT_NULL(promises_hidden(PROFILE_HOST)[0]);
        ASSERT_STREQ(promises_hidden(PROFILE_WORKSPACE)[0], "/home");
}

TEST_MAIN();
