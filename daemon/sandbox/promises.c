/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "enclosure.h"
#include "promises.h"
#include "string-util.h"

/* The kernel's number for the first one. */
#define USER_NAMESPACE_INITIAL UINT64_C(0xEFFFFFFD)
#define DEPTH_MAX 64U
#define SHOWN_MAX 200U

/* The sentence is taken over. */
static int miss(char ***missing, char *sentence) {
        _cleanup_free_ char *s = sentence, *shown = s ? str_printable(s, SHOWN_MAX) : NULL;

        return shown ? strv_extend(missing, shown) : -ENOMEM;
}

/* --- mounts --- */

int promises_check_system(const MountTable *t, char ***missing) {
        static const char *const system[] = { "/usr", "/etc", "/boot", "/bin", "/sbin", "/lib", "/lib64" };
        const Mount *m = mount_table_find(t, "/");

        if (!m || !m->is_read_only)
                return miss(missing, strdup("/ can be written"));
        for (size_t i = 0; i < ELEMENTSOF(system); i++) {
                const char *bad = NULL;

                m = mount_table_find(t, system[i]);
                if (!m || !m->is_read_only)
                        bad = system[i];
                for (size_t k = 0; k < t->n_mounts && !bad; k++) {
                        const char *point = t->mounts[k].point;

                        /* Nothing is stored in an autofs itself. */
                        if (path_is_below(point, system[i]) && (m = mount_table_find(t, point)) && !m->is_read_only &&
                            !streq(m->type, "autofs"))
                                bad = point;
                }
                if (bad)
                        return miss(missing, strjoin(bad, " can be written"));
        }
        return 0;
}

int promises_check_control_groups(const MountTable *t, char ***missing) {
        for (size_t i = 0; i < t->n_mounts; i++) {
                const Mount *m = mount_table_find(t, t->mounts[i].point);

                if (m && startswith(m->type, "cgroup") && !m->is_read_only)
                        return miss(missing, strjoin("the control groups at ", m->point, " can be written"));
        }
        return 0;
}

static int check_directory(const MountTable *t, const char *path, unsigned depth, char ***missing);

/* path is no mount itself. */
static int check_entry(const MountTable *t, const char *path, unsigned depth, char ***missing) {
        struct stat st;
        int r;

        if (lstat(path, &st) < 0)
                return 1;
        if (!S_ISDIR(st.st_mode) || !mount_table_has_below(t, path)) {
                r = miss(missing, strjoin(path, " is there"));
                return r < 0 ? r : 0;
        }
        return check_directory(t, path, depth + 1, missing);
}

static int check_directory(const MountTable *t, const char *path, unsigned depth, char ***missing) {
        DIR *d;
        int r = 1;

        if (depth > DEPTH_MAX)
                return -ELOOP;
        d = opendir(path);
        if (!d)
                return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : 1;
        for (struct dirent *e; r > 0 && (e = readdir(d)); ) {
                _cleanup_free_ char *child = NULL;

                if (streq(e->d_name, ".") || streq(e->d_name, ".."))
                        continue;
                child = strjoin(streq(path, "/") ? "" : path, "/", e->d_name);
                if (!child)
                        r = -ENOMEM;
                else if (!mount_table_has_point(t, child))
                        r = check_entry(t, child, depth, missing);
        }
        (void) closedir(d);
        return r;
}

int promises_check_hidden(const MountTable *t, const char *name, char ***missing) {
        /* /home may be a link; the table has where it leads to. */
        _cleanup_free_ char *path = realpath(name, NULL);
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        if (!path)
                return errno == ENOMEM ? -ENOMEM : 1;
        if (lstat(path, &st) < 0)
                return 1;
        if (S_ISDIR(st.st_mode))
                return check_directory(t, path, 0, missing);
        if (S_ISSOCK(st.st_mode)) {
                if (!socket_answers(path))
                        return 1;
        } else if ((fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)) < 0)
                return 1;
        r = miss(missing, strjoin(path, " can be reached"));
        return r < 0 ? r : 0;
}

const char *const* promises_hidden(Profile profile) {
        static const char *const paths[] = { "/home", "/root", "/run/user", "/tmp", "/var/tmp", NULL };

        return profile == PROFILE_HOST ? paths + ELEMENTSOF(paths) - 1 : paths;
}

/* What is mounted cannot be renamed, nor removed; everything else can be by whoever may write where it is. */
static int check_stays(const MountTable *t, const char *path, char ***missing) {
        _cleanup_free_ char *copy = strdup(path);
        char *slash;

        if (!copy)
                return -ENOMEM;
        while ((slash = strrchr(copy, '/')) && copy[1]) {
                bool is_mounted = mount_table_has_point(t, copy);
                _cleanup_free_ char *name = strdup(copy);

                slash[slash == copy] = 0;
                if (!name)
                        return -ENOMEM;
                if (!is_mounted && access(copy, W_OK) >= 0)
                        return miss(missing, strjoin(name, " can be replaced"));
        }
        return 1;
}

int promises_check_kept(const MountTable *t, const char *path, char ***missing) {
        _cleanup_free_ char *real = realpath(path, NULL);
        const Mount *m;
        int r;

        if (!real && errno == ENOMEM)
                return -ENOMEM;
        /* A link is no mount, and a mount is no link. */
        if (!real || !streq(real, path))
                r = miss(missing, strjoin(path, real ? " can be replaced" : " is not there"));
        else if (!(m = mount_table_find(t, path)) || !m->is_read_only)
                r = miss(missing, strjoin(path, " can be written"));
        else
                return check_stays(t, path, missing);
        return r < 0 ? r : 0;
}

static int check_all_kept(const Sandbox *s, const MountTable *t, char ***missing) {
        int r = 0;

        for (char **p = s->kept; p && *p && r >= 0; p++)
                r = promises_check_kept(t, *p, missing);
        return r;
}

static int check_all_hidden(const Sandbox *s, const MountTable *t, char ***missing) {
        int r;

        for (const char *const *p = promises_hidden(s->profile); *p; p++) {
                r = promises_check_hidden(t, *p, missing);
                if (r < 0)
                        return r;
        }
        for (char **p = s->hidden; p && *p; p++) {
                r = promises_check_hidden(t, *p, missing);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Such as every process may have: nothing that stores, and nothing that shows or hears somebody. */
static bool device_is_harmless(const struct stat *st) {
        static const struct { unsigned major, minor; } devices[] = {
                { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 },       /* null, zero, full, random, urandom */
                { 5, 0 }, { 5, 2 },                                     /* tty, ptmx */
        };

        for (size_t i = 0; S_ISCHR(st->st_mode) && i < ELEMENTSOF(devices); i++)
                if (st->st_rdev == makedev(devices[i].major, devices[i].minor))
                        return true;
        return false;
}

static int check_devices(char ***missing) {
        DIR *d = opendir("/dev");
        int r = 0;

        if (!d)
                return -errno;
        for (struct dirent *e; r >= 0 && (e = readdir(d)); ) {
                struct stat st;

                if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
                    !(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) || device_is_harmless(&st))
                        continue;
                r = miss(missing, strjoin("the device /dev/", e->d_name, " is there"));
                break;
        }
        (void) closedir(d);
        return r;
}

/* --- what processes meet at --- */

static const struct { const char *path, *what, *own; } shared[SANDBOX_SHARED_MAX] = {
        { "/dev/pts", "terminals", "ptmx" }, { "/dev/shm", "shared memory", "" },
        { "/dev/mqueue", "message queues", "" },
};

void promises_look_outside(Sandbox *s) {
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(shared); i++)
                s->shared[i] = stat(shared[i].path, &st) < 0 ? 0 : st.st_dev;
}

/* An empty one that is the machine's looks like ours; one of ours that is not empty is not ours. */
static int directory_is_empty(const char *path, const char *except) {
        DIR *d = opendir(path);
        bool found = false;

        if (!d)
                return errno == EACCES ? 1 : -errno;
        for (struct dirent *e; !found && (e = readdir(d)); )
                found = !streq(e->d_name, ".") && !streq(e->d_name, "..") && !streq(e->d_name, except);
        (void) closedir(d);
        return !found;
}

/* Whether what /dev/ptmx makes is at /dev/pts. */
static bool terminals_are_here(void) {
        _cleanup_close_ int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
        char path[32];
        unsigned number;
        struct stat st;

        if (fd < 0)
                return true;    /* there are none at all */
        if (ioctl(fd, TIOCGPTN, &number) < 0)
                return false;
        (void) snprintf(path, sizeof(path), "/dev/pts/%u", number);
        return stat(path, &st) >= 0 && S_ISCHR(st.st_mode);
}

int promises_check_shared(const Sandbox *s, char ***missing) {
        for (size_t i = 0; i < ELEMENTSOF(shared); i++) {
                struct stat st;
                int r;

                if (stat(shared[i].path, &st) < 0)
                        continue;
                r = st.st_dev == s->shared[i] ? 0 : directory_is_empty(shared[i].path, shared[i].own);
                if (r <= 0)
                        return r < 0 ? r : miss(missing, strjoin("the ", shared[i].what, " at ", shared[i].path,
                                                                 " are those of others"));
        }
        return terminals_are_here() ? 0 : miss(missing, strdup("/dev/ptmx makes terminals that are not in /dev/pts"));
}

/* --- processes, sockets, network --- */

int promises_n_processes(unsigned *ret) {
        DIR *d = opendir("/proc");
        unsigned n = 0;

        if (!d)
                return -errno;
        for (struct dirent *e; (e = readdir(d)); )
                n += *e->d_name >= '1' && *e->d_name <= '9';
        (void) closedir(d);
        *ret = n;
        return 0;
}

bool socket_answers(const char *path) {
        static const int types[] = { SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM };
        struct sockaddr_un address = { .sun_family = AF_UNIX };

        if (strlen(path) >= sizeof(address.sun_path))
                return false;
        memcpy(address.sun_path, path, strlen(path) + 1);
        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                _cleanup_close_ int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

                /* EAGAIN: somebody listens, and has much to do. */
                if (fd >= 0 && (connect(fd, (struct sockaddr*) &address, sizeof(address)) >= 0 || errno == EAGAIN))
                        return true;
        }
        return false;
}

int promises_sockets(char ***ret) {
        static const char *const of_system[] = {
                "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/docker.sock", "/run/podman/podman.sock",
                "/run/containerd/containerd.sock", "/run/puffo/sessions/private", "/run/puffo/sessions/link",
                "/run/puffo/credentials",
        };
        static const char *const of_user[] = {
                "bus", "systemd/private", "systemd/notify", "puffo/private", "puffo/link", "puffo/credentials",
                "podman/podman.sock", "docker.sock", "gnupg/S.gpg-agent", "gnupg/S.gpg-agent.ssh", "keyring/control",
                "keyring/ssh", "keyring/pkcs11",
        };
        char **l = NULL;
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(of_system) && r >= 0; i++)
                r = strv_extend(&l, of_system[i]);
        for (size_t i = 0; i < ELEMENTSOF(of_user) && r >= 0; i++) {
                _cleanup_free_ char *path = asprintf_new("/run/user/%u/%s", getuid(), of_user[i]);

                r = path ? strv_extend(&l, path) : -ENOMEM;
        }
        if (r < 0) {
                strv_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

static int check_sockets(char ***missing) {
        _cleanup_(strv_freep) char **sockets = NULL;
        int r = promises_sockets(&sockets);

        for (char **s = sockets; r >= 0 && *s; s++)
                if (socket_answers(*s))
                        r = miss(missing, strjoin("the socket ", *s, " can be reached"));
        return r;
}

static bool interface_is_up(int fd, const char *name) {
        struct ifreq request = {};

        if (strlen(name) >= sizeof(request.ifr_name))
                return true;
        memcpy(request.ifr_name, name, strlen(name) + 1);
        return ioctl(fd, SIOCGIFFLAGS, &request) < 0 ? errno != ENODEV : (request.ifr_flags & IFF_UP) != 0;
}

int promises_interfaces(char ***ret) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        _cleanup_(strv_freep) char **l = NULL;
        FILE *f;
        char line[512];
        int r;

        if (fd < 0)
                return -errno;
        /* Not by netlink, which strict does without. */
        f = fopen("/proc/self/net/dev", "re");
        if (!f)
                return -errno;
        for (r = 0; r >= 0 && fgets(line, sizeof(line), f); ) {
                char *name = line + strspn(line, " "), *colon = strchr(name, ':');

                if (!colon)     /* the two of the head */
                        continue;
                *colon = 0;
                if (!streq(name, "lo") && interface_is_up(fd, name))
                        r = strv_extend(&l, name);
        }
        (void) fclose(f);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

/* Whether somebody else has a Unix socket in our network: a machine without a line has a loopback interface alone, too. */
static int network_is_shared(void) {
        FILE *f = fopen("/proc/self/net/unix", "re");
        char line[512];
        unsigned n = 0;

        if (!f)
                return -errno;
        while (n < 2 && fgets(line, sizeof(line), f))   /* the first one is the head; we have none at this time */
                n++;
        (void) fclose(f);
        return n > 1;
}

static int check_network(const Sandbox *s, char ***missing) {
        _cleanup_(strv_freep) char **interfaces = NULL;
        uint64_t inode;
        int r;

        if (s->network_namespace > 0) {
                r = namespace_inode("net", &inode);
                if (r < 0)
                        return r;
                if (inode == s->network_namespace)
                        return miss(missing, strdup("the network is the machine's"));
        }
        r = network_is_shared();
        if (r != 0)
                return r < 0 ? r : miss(missing, strdup("the network is shared with others"));
        r = promises_interfaces(&interfaces);
        if (r < 0 || !interfaces)
                return r;
        return miss(missing, strjoin("there is a network interface, ", *interfaces));
}

/* --- all --- */

int promises_check_outside(const Sandbox *s, char ***missing) {
        uint64_t inode;
        int r;

        /* In the user manager all the rest hangs on it. */
        if (s->user_namespace == 0)
                return 0;
        r = namespace_inode("user", &inode);
        if (r < 0)
                return r;
        return inode == s->user_namespace ? miss(missing, strdup("the unit has no user namespace of its own")) : 0;
}

static int check_process(const Sandbox *s, char ***missing) {
        uint64_t inode;
        unsigned n;
        int r;

        r = namespace_inode("user", &inode);
        if (r >= 0 && inode == USER_NAMESPACE_INITIAL)
                r = miss(missing, strdup("the user namespace is the machine's"));
        if (r >= 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
                r = miss(missing, strdup("programs can gain privileges"));
        if (r >= 0 && s->profile == PROFILE_STRICT && prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2)
                r = miss(missing, strdup("system calls are not filtered"));
        if (r >= 0)
                r = promises_n_processes(&n);
        if (r >= 0 && n != 1)
                r = miss(missing, asprintf_new("%u processes can be seen", n));
        return r;
}

int promises_check_inside(const Sandbox *s, char ***missing) {
        _cleanup_(mount_table_done) MountTable t = {};
        int r;

        r = mount_table_read(&t);
        if (r >= 0)
                r = check_process(s, missing);
        if (r >= 0)
                r = promises_check_control_groups(&t, missing);
        if (r >= 0)
                r = promises_check_shared(s, missing);
        if (r >= 0)
                r = check_sockets(missing);
        if (r >= 0)
                r = check_all_hidden(s, &t, missing);
        if (r >= 0)
                r = check_all_kept(s, &t, missing);
        if (r >= 0 && s->profile != PROFILE_HOST) {
                r = promises_check_system(&t, missing);
                if (r >= 0)
                        r = check_devices(missing);
        }
        if (r >= 0 && s->profile == PROFILE_STRICT)
                r = check_network(s, missing);
        return r < 0 ? r : 0;
}
