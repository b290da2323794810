/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "init.h"
#include "json-util.h"
#include "probe.h"
#include "promises.h"
#include "string-util.h"

#define CONNECT_TIMEOUT_MS 1000
/* Process 1 and the probe's own: numbers that say nothing of the outside. */
#define PIDS_INSIDE 8

typedef struct Probe {
        const Sandbox *sandbox;
        const ProbeTarget *target;
        MountTable mounts;
        char **violations;
} Probe;

static int violated(Probe *p, char *what) {
        _cleanup_free_ char *s = what;

        return s ? strv_extend(&p->violations, s) : -ENOMEM;
}

/* --- files --- */

static int try_write(Probe *p) {
        static const char *const directories[] = { "/", "/usr", "/usr/bin", "/etc", "/boot" };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(directories) && r >= 0; i++) {
                const char *d = directories[i];
                _cleanup_close_ int fd = open(d, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

                /* Any other refusal comes after this one (open(2) asks for the mount first). */
                if (fd >= 0 || (errno != EROFS && errno != ENOENT))
                        r = violated(p, strjoin("write to ", d));
        }
        return r;
}

static int try_hidden(Probe *p) {
        char **found = NULL;
        int r = 0;

        for (const char *const *path = promises_hidden(p->sandbox->profile); *path && r >= 0; path++)
                r = promises_check_hidden(&p->mounts, *path, &found);
        for (char **path = p->sandbox->hidden; path && *path && r >= 0; path++)
                r = promises_check_hidden(&p->mounts, *path, &found);
        for (char **f = found; f && *f && r >= 0; f++)
                r = violated(p, strjoin("list: ", *f));
        strv_free(found);
        return r;
}

/* What could move a process out of its limits. */
static int try_control_groups(Probe *p) {
        for (size_t i = 0; i < p->mounts.n_mounts; i++) {
                const Mount *m = p->mounts.mounts + i;
                _cleanup_close_ int fd = -EBADF;
                _cleanup_free_ char *path = NULL;
                struct stat st;

                if (!startswith(m->type, "cgroup") || mount_table_find(&p->mounts, m->point) != m)
                        continue;
                path = asprintf_new("%s/user.slice/user-%u.slice/user@%u.service/cgroup.procs", m->point, getuid(),
                                    getuid());
                if (!path)
                        return -ENOMEM;
                if (stat(path, &st) < 0) {
                        path = mfree(path);
                        path = strjoin(m->point, "/cgroup.procs");
                        if (!path)
                                return -ENOMEM;
                }
                fd = open(path, O_WRONLY | O_CLOEXEC);
                if (fd >= 0)
                        return violated(p, strjoin("write to ", path));
        }
        return 0;
}

/* --- sockets --- */

static int try_sockets(Probe *p) {
        _cleanup_(strv_freep) char **sockets = NULL;
        int r = promises_sockets(&sockets);

        for (char **s = sockets; r >= 0 && *s; s++)
                if (socket_answers(*s))
                        r = violated(p, strjoin("connect to ", *s));
        return r;
}

static bool abstract_answers(const char *name) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        size_t n = strlen(name);

        if (fd < 0 || n >= sizeof(address.sun_path))
                return false;
        memcpy(address.sun_path + 1, name, n);
        return connect(fd, (struct sockaddr*) &address, (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + n)) >= 0 ||
               errno == EAGAIN;
}

static int try_abstract(Probe *p) {
        FILE *f;
        char line[512];
        int r = 0;

        if (p->target->abstract && abstract_answers(p->target->abstract))
                return violated(p, strjoin("connect to the abstract socket ", p->target->abstract));
        f = fopen("/proc/net/unix", "re");
        if (!f)
                return errno == ENOENT ? 0 : -errno;
        while (r == 0 && fgets(line, sizeof(line), f)) {
                char *name = strstr(line, " @");

                line[strcspn(line, "\n")] = 0;
                if (name && abstract_answers(name + 2))
                        r = violated(p, strjoin("connect to the abstract socket ", name + 2));
        }
        (void) fclose(f);
        return r;
}

static int try_loopback(Probe *p) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(p->target->port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        _cleanup_close_ int fd = -EBADF;
        struct pollfd poll_fd;
        int error = 0;
        socklen_t size = sizeof(error);

        if (p->target->port == 0)
                return 0;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return 0;
        if (connect(fd, (struct sockaddr*) &address, sizeof(address)) < 0) {
                if (errno != EINPROGRESS)
                        return 0;
                poll_fd = (struct pollfd) { .fd = fd, .events = POLLOUT };
                if (poll(&poll_fd, 1, CONNECT_TIMEOUT_MS) <= 0 ||
                    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || error != 0)
                        return 0;
        }
        return violated(p, asprintf_new("connect to port %u of the machine", p->target->port));
}

static int try_interfaces(Probe *p) {
        _cleanup_(strv_freep) char **interfaces = NULL;
        int r = promises_interfaces(&interfaces);

        for (char **i = interfaces; r >= 0 && i && *i; i++)
                r = violated(p, strjoin("network interface ", *i));
        return r;
}

/* --- what processes meet at --- */

#define SHARED_MEMORY "/dev/shm/"

void probe_bait_lay(ProbeBait *ret) {
        ProbeBait b = { .terminal_fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC) };
        _cleanup_free_ char *hex = random_hex(4), *path = NULL;
        _cleanup_close_ int memory = -EBADF, queue = -EBADF;
        unsigned number;

        (void) snprintf(b.name, sizeof(b.name), "/puffo-probe-%s", hex ?: "0");
        path = strjoin(SHARED_MEMORY, b.name + 1);
        memory = path ? open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -EBADF;
        b.has_memory = memory >= 0;
        queue = mq_open(b.name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, NULL);
        b.has_queue = queue >= 0;
        if (b.terminal_fd >= 0 && ioctl(b.terminal_fd, TIOCGPTN, &number) >= 0 && unlockpt(b.terminal_fd) >= 0)
                (void) snprintf(b.terminal, sizeof(b.terminal), "/dev/pts/%u", number);
        *ret = b;
}

void probe_bait_take(ProbeBait *b) {
        _cleanup_free_ char *path = strjoin(SHARED_MEMORY, b->name + 1);

        if (b->has_memory && path)
                (void) unlink(path);
        if (b->has_queue)
                (void) mq_unlink(b->name);
        safe_close(b->terminal_fd);
        *b = (ProbeBait) { .terminal_fd = -EBADF };
}

static int try_meeting(Probe *p) {
        const ProbeBait *b = &p->target->bait;
        _cleanup_free_ char *memory = strjoin(SHARED_MEMORY, b->name + 1);
        int r = 0, fd;

        if (!memory)
                return -ENOMEM;
        if (b->has_memory && (fd = open(memory, O_RDONLY | O_CLOEXEC)) >= 0) {
                safe_close(fd);
                r = violated(p, strdup("open the shared memory of others"));
        }
        if (r >= 0 && b->has_queue && (fd = mq_open(b->name, O_RDONLY | O_CLOEXEC)) >= 0) {
                safe_close(fd);
                r = violated(p, strdup("open the message queues of others"));
        }
        if (r >= 0 && *b->terminal && (fd = open(b->terminal, O_RDWR | O_NOCTTY | O_CLOEXEC)) >= 0) {
                safe_close(fd);
                r = violated(p, strdup("open the terminals of others"));
        }
        return r;
}

/* --- processes --- */

static int try_processes(Probe *p) {
        pid_t pid = p->target->pid;
        struct rlimit limit;
        unsigned n;
        int r;

        r = promises_n_processes(&n);
        if (r < 0)
                return r;
        if (n > 2)
                r = violated(p, asprintf_new("see %u processes", n));
        if (r < 0 || pid <= PIDS_INSIDE)
                return r;
        if (kill(pid, 0) >= 0)
                r = violated(p, asprintf_new("signal process %i", pid));
        if (r >= 0 && prlimit(pid, RLIMIT_CORE, NULL, &limit) >= 0)
                r = violated(p, asprintf_new("limits of process %i", pid));
        if (r >= 0 && setpriority(PRIO_PROCESS, (id_t) pid, 19) >= 0)
                r = violated(p, asprintf_new("priority of process %i", pid));
        return r;
}

static int try_keys(Probe *p) {
        if (p->target->key && syscall(SYS_keyctl, KEYCTL_SEARCH, KEY_SPEC_USER_KEYRING, "user", p->target->key, 0) >= 0)
                return violated(p, strjoin("read the user's key ", p->target->key));
        if (p->sandbox->profile == PROFILE_STRICT &&
            syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1) >= 0)
                return violated(p, strdup("make keys"));
        return 0;
}

/* Whether a process of ours can do it; the probe itself is to stay what it is. */
static bool child_can(int (*what)(void)) {
        int status;
        pid_t pid = fork();

        if (pid == 0)
                _exit(what() >= 0 ? EXIT_SUCCESS : EXIT_FAILURE);
        return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
}

static int do_unshare(void) {
        return unshare(CLONE_NEWUSER);
}

static int do_clone(void) {
        return (int) syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
}

static int do_clone3(void) {
        uint64_t arguments[8] = { CLONE_NEWUSER, 0, 0, 0, SIGCHLD };

        return (int) syscall(SYS_clone3, arguments, sizeof(arguments));
}

static int do_io_uring(void) {
        struct { uint32_t words[30]; } parameters = {};

        return (int) syscall(SYS_io_uring_setup, 1, &parameters);
}

static int do_userfaultfd(void) {
        return (int) syscall(SYS_userfaultfd, 1 /* for faults of programs alone: the kind that is given to all */);
}

/* Refused anyway without capabilities; whether it is the filter that does so is seen with an argument that fails in
 * another way. */
static int do_mount(void) {
        return mount(NULL, "/nowhere", NULL, MS_REMOUNT | MS_BIND, NULL) < 0 && errno == EPERM ? -1 : 0;
}

static int try_calls(Probe *p) {
        static const struct { const char *name; int (*run)(void); } calls[] = {
                { "unshare a user namespace", do_unshare }, { "clone into a user namespace", do_clone },
                { "clone3 into a user namespace", do_clone3 }, { "use io_uring", do_io_uring },
                { "use userfaultfd", do_userfaultfd }, { "call mount", do_mount },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(calls) && r >= 0; i++)
                if (child_can(calls[i].run))
                        r = violated(p, strdup(calls[i].name));
        return r;
}

/* --- all --- */

static int put_strings(json_object *o, const char *name, char *const *l) {
        json_object *a = json_object_new_array();

        for (; a && l && *l; l++) {
                json_object *s = json_object_new_string(*l);

                if (!s || json_object_array_add(a, s) < 0) {
                        json_object_put(s);
                        json_object_put(a);
                        return -ENOMEM;
                }
        }
        return a ? json_put(o, name, a) : -ENOMEM;
}

static int report(const Probe *p, char *const *missing) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;
        int r = o ? json_put_string(o, "profile", profile_to_string(p->sandbox->profile)) : -ENOMEM;

        if (r >= 0)
                r = put_strings(o, "violations", p->violations);
        if (r >= 0)
                r = put_strings(o, "missing", missing);
        if (r < 0)
                return r;
        text = json_text(o, NULL);
        if (!text)
                return -ENOMEM;
        return printf("%s\n", text) < 0 || fflush(stdout) != 0 ? -EIO : 0;
}

int probe_run(const Sandbox *s, char *const *missing, const ProbeTarget *target) {
        static const struct { Profile from; int (*run)(Probe *p); } tries[] = {
                { PROFILE_HOST, try_control_groups }, { PROFILE_HOST, try_sockets }, { PROFILE_HOST, try_processes },
                { PROFILE_HOST, try_hidden }, { PROFILE_HOST, try_keys }, { PROFILE_HOST, try_meeting },
                { PROFILE_WORKSPACE, try_write },
                { PROFILE_STRICT, try_abstract }, { PROFILE_STRICT, try_loopback }, { PROFILE_STRICT, try_interfaces },
                { PROFILE_STRICT, try_calls },
        };
        Probe p = { .sandbox = s, .target = target };
        int r, status = EXIT_FAILURE;

        r = mount_table_read(&p.mounts);
        for (size_t i = 0; i < ELEMENTSOF(tries) && r >= 0; i++)
                if (s->profile >= tries[i].from)
                        r = tries[i].run(&p);
        if (r >= 0)
                r = report(&p, missing);
        if (r < 0)
                status = refuse("the probe failed: %s", strerror(-r));
        else if (!p.violations && !missing)
                status = EXIT_SUCCESS;
        strv_free(p.violations);
        mount_table_done(&p.mounts);
        return status;
}
