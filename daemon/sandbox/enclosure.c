/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "enclosure.h"
#include "string-util.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif

static int write_proc(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
        ssize_t n;

        if (fd < 0)
                return -errno;
        n = write(fd, text, strlen(text));
        return n < 0 ? -errno : (size_t) n == strlen(text) ? 0 : -EIO;
}

static int map_ids(uid_t uid, gid_t gid, const char **reterr_step) {
        char text[64];
        int r;

        /* user_namespaces(7): without this, no group may be mapped. Absent on kernels that do not know it. */
        *reterr_step = "giving up supplementary groups";
        r = write_proc("/proc/self/setgroups", "deny");
        if (r < 0 && r != -ENOENT)
                return r;
        *reterr_step = "mapping the group";
        (void) snprintf(text, sizeof(text), "%u %u 1", gid, gid);
        r = write_proc("/proc/self/gid_map", text);
        if (r < 0)
                return r;
        *reterr_step = "mapping the user";
        (void) snprintf(text, sizeof(text), "%u %u 1", uid, uid);
        return write_proc("/proc/self/uid_map", text);
}

int enclosure_enter(const char **reterr_step) {
        uid_t uid = getuid();
        gid_t gid = getgid();
        int r;

        *reterr_step = "making a user namespace";
        if (unshare(CLONE_NEWUSER) < 0)
                return -errno;
        r = map_ids(uid, gid, reterr_step);
        if (r < 0)
                return r;
        *reterr_step = "making mount, IPC and process namespaces";
        return unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID) < 0 ? -errno : 0;
}

int enclosure_mount_proc(const char **reterr_step) {
        *reterr_step = "detaching the mounts";
        if (mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
                return -errno;
        *reterr_step = "mounting /proc";
        if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) >= 0)
                return 0;
        /* A new one must not show more than the old one (mount_namespaces(7), "locked"). */
        if (errno == EPERM)
                *reterr_step = "mounting /proc (something covers a part of it, or a filter forbids mounts)";
        return -errno;
}

/* A device node in the place of the link has the terminals that lie beside it, or none. */
static int mount_ptmx(void) {
        struct stat st;

        if (lstat("/dev/ptmx", &st) < 0)
                return errno == ENOENT ? 0 : -errno;
        if (S_ISLNK(st.st_mode))
                return 0;
        return mount("/dev/pts/ptmx", "/dev/ptmx", NULL, MS_BIND, NULL) < 0 ? -errno : 0;
}

int enclosure_mount_devices(const char **reterr_step) {
        static const struct {
                const char *path, *type, *options, *step;
                unsigned long flags;
        } mounts[] = {
                { "/dev/shm", "tmpfs", "mode=1777", "mounting /dev/shm", MS_NOSUID | MS_NODEV },
                { "/dev/mqueue", "mqueue", NULL, "mounting /dev/mqueue", MS_NOSUID | MS_NODEV | MS_NOEXEC },
                { "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620", "mounting /dev/pts",
                  MS_NOSUID | MS_NOEXEC },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(mounts); i++) {
                r = mount(mounts[i].type, mounts[i].path, mounts[i].type, mounts[i].flags, mounts[i].options);
                if (r < 0 && errno != ENOENT && errno != ENOTDIR) {
                        *reterr_step = mounts[i].step;
                        return -errno;
                }
        }
        *reterr_step = "mounting /dev/ptmx";
        return r < 0 ? 0 : mount_ptmx();
}

static int drop_capabilities(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};

        /* The bounding set too: process 1 may have the number of root. */
        for (int c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
                if (prctl(PR_CAPBSET_DROP, c, 0, 0, 0) < 0)
                        return -errno;
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
                return -errno;
        return syscall(SYS_capset, &header, none) < 0 ? -errno : 0;
}

static int deny_calls(scmp_filter_ctx filter) {
        static const int calls[] = {
                SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(umount), SCMP_SYS(pivot_root), SCMP_SYS(chroot),
                SCMP_SYS(fsopen), SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(move_mount),
                SCMP_SYS(open_tree), SCMP_SYS(mount_setattr), SCMP_SYS(unshare), SCMP_SYS(setns),
                SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
                SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
                SCMP_SYS(userfaultfd), SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(open_by_handle_at),
                SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(init_module), SCMP_SYS(finit_module),
                SCMP_SYS(delete_module),
        };

        for (size_t i = 0; i < ELEMENTSOF(calls); i++) {
                int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), calls[i], 0);

                if (r < 0 && r != -EDOM)        /* EDOM: not on this architecture */
                        return r;
        }
        return 0;
}

static int deny_namespaces(scmp_filter_ctx filter) {
        static const uint64_t flags[] = {
                CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP,
                CLONE_NEWTIME,
        };
#if defined(__s390__) || defined(__s390x__) || defined(__CRIS__)
        const unsigned flags_at = 1;
#else
        const unsigned flags_at = 0;
#endif
        int r;

        for (size_t i = 0; i < ELEMENTSOF(flags); i++) {
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                     SCMP_CMP(flags_at, SCMP_CMP_MASKED_EQ, flags[i], flags[i]));
                if (r < 0)
                        return r;
        }
        /* Its flags are in memory, where no filter can look: callers fall back to clone(). */
        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        return r == -EDOM ? 0 : r;
}

static int load_filter(void) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r;

        if (!filter)
                return -ENOMEM;
        r = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(EPERM));
        if (r >= 0)
                r = deny_calls(filter);
        if (r >= 0)
                r = deny_namespaces(filter);
        if (r >= 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r;
}

int enclosure_lock(Profile profile, const char **reterr_step) {
        int r;

        *reterr_step = "dropping capabilities";
        r = drop_capabilities();
        if (r < 0 || profile != PROFILE_STRICT)
                return r;
        *reterr_step = "filtering system calls";
        return load_filter();
}

int namespace_inode(const char *name, uint64_t *ret) {
        _cleanup_free_ char *path = strjoin("/proc/self/ns/", name);
        struct stat st;

        if (!path)
                return -ENOMEM;
        if (stat(path, &st) < 0)
                return -errno;
        *ret = st.st_ino;
        return 0;
}
