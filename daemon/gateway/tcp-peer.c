/* SPDX-License-Identifier: MIT */

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>

#include "file-util.h"
#include "string-util.h"
#include "tcp-peer.h"

/* A directory tree with more groups than this is not searched to its end: better a 401 than a stalled loop. */
#define CGROUPS_MAX 65536U
#define CGROUP_CACHE_MAX 16U

typedef struct Diag {
        uid_t uid;
        uint32_t inode;
        uint64_t cgroup_id;     /* 0: the kernel does not say */
} Diag;

/* Address and port in the form of inet_diag, IPv4-mapped addresses as IPv4. */
typedef struct Endpoint {
        uint8_t family;
        __be16 port;
        __be32 address[4];
} Endpoint;

static int endpoint_from_sockaddr(const struct sockaddr *sa, Endpoint *ret) {
        if (sa->sa_family == AF_INET) {
                const struct sockaddr_in *in = (const struct sockaddr_in*) sa;

                *ret = (Endpoint) { .family = AF_INET, .port = in->sin_port, .address = { in->sin_addr.s_addr } };
                return 0;
        }
        if (sa->sa_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6*) sa;

                *ret = (Endpoint) { .family = AF_INET6, .port = in6->sin6_port };
                memcpy(ret->address, &in6->sin6_addr, sizeof(ret->address));
                if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
                        *ret = (Endpoint) { .family = AF_INET, .port = in6->sin6_port,
                                            .address = { ret->address[3] } };
                return 0;
        }
        return -EAFNOSUPPORT;
}

/* A socket bound to the IPv6 wildcard that speaks IPv4 is listed with mapped addresses. */
static bool address_equal(const __be32 *listed, uint8_t family, const Endpoint *e) {
        if (family == e->family)
                return memcmp(listed, e->address, family == AF_INET ? 4 : 16) == 0;
        return family == AF_INET6 && listed[0] == 0 && listed[1] == 0 && listed[2] == htobe32(0xffff) &&
               listed[3] == e->address[0];
}

static int diag_send(int fd, const Endpoint *peer, const Endpoint *local) {
        struct {
                struct nlmsghdr header;
                struct inet_diag_req_v2 request;
        } m = {
                .header = { .nlmsg_len = sizeof(m), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
                .request = {
                        .sdiag_family = peer->family,
                        .sdiag_protocol = IPPROTO_TCP,
                        .idiag_states = UINT32_MAX,
                        .id = { .idiag_sport = peer->port, .idiag_dport = local->port,
                                .idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE } },
                },
        };

        memcpy(m.request.id.idiag_src, peer->address, sizeof(peer->address));
        memcpy(m.request.id.idiag_dst, local->address, sizeof(local->address));
        if (send(fd, &m, sizeof(m), MSG_NOSIGNAL) < 0)
                return -errno;
        return 0;
}

/* The kernel falls back to a listening socket of that port, and it lists sockets that no process holds any more with
 * uid 0: so state, inode and all four numbers are compared before a word of it is believed. */
static int diag_parse(const struct nlmsghdr *h, const Endpoint *peer, const Endpoint *local, Diag *ret) {
        const struct inet_diag_msg *d = NLMSG_DATA(h);
        const struct rtattr *a = (const struct rtattr*) (d + 1);
        int left = (int) (h->nlmsg_len - NLMSG_LENGTH(sizeof(*d)));

        if (d->idiag_state != TCP_ESTABLISHED && d->idiag_state != TCP_FIN_WAIT1 &&
            d->idiag_state != TCP_FIN_WAIT2 && d->idiag_state != TCP_CLOSE_WAIT)
                return -ENOENT;
        if (d->idiag_inode == 0 || d->id.idiag_sport != peer->port || d->id.idiag_dport != local->port ||
            !address_equal(d->id.idiag_src, d->idiag_family, peer) ||
            !address_equal(d->id.idiag_dst, d->idiag_family, local))
                return -ENOENT;

        *ret = (Diag) { .uid = d->idiag_uid, .inode = d->idiag_inode };
        for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
                if (a->rta_type == INET_DIAG_CGROUP_ID && RTA_PAYLOAD(a) == sizeof(uint64_t))
                        memcpy(&ret->cgroup_id, RTA_DATA(a), sizeof(uint64_t));
        return 0;
}

static int diag_find(const Endpoint *peer, const Endpoint *local, Diag *ret) {
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
        /* The kernel answers within send(); the limit is for the day it does not. */
        const struct timeval limit = { .tv_usec = 100000 };
        union {
                struct nlmsghdr header;
                char bytes[8192];
        } buffer;
        ssize_t n;
        int r;

        if (fd < 0)
                return -errno;
        if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0)
                return -errno;
        r = diag_send(fd, peer, local);
        if (r < 0)
                return r;
        n = recv(fd, &buffer, sizeof(buffer), 0);
        if (n < 0)
                return -errno;
        if (!NLMSG_OK(&buffer.header, (size_t) n))
                return -EBADMSG;
        if (buffer.header.nlmsg_type == NLMSG_ERROR) {
                const struct nlmsgerr *e = NLMSG_DATA(&buffer.header);

                if (buffer.header.nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
                        return -EBADMSG;
                return e->error < 0 ? e->error : -EBADMSG;
        }
        if (buffer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY ||
            buffer.header.nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
                return -EBADMSG;
        return diag_parse(&buffer.header, peer, local, ret);
}

bool cgroup_is_foreign(const char *path) {
        /* Beginnings of path segments: our own harnesses, and what container managers call their groups. Services of
         * the engines are meant too: the helpers that carry a container's traffic to our loopback run in those. */
        static const char *const foreign[] = {
                "puffo-harness@", "docker", "libpod", "podman-", "crio", "cri-containerd", "containerd-", "kubepods",
                "kubelet", "machine-", "machine.slice", "systemd-nspawn@", "lxc", "lxd", "incus", "buildkit",
                "nerdctl", "garden", "..",
        };

        for (const char *p = path; *p; p += strcspn(p, "/")) {
                p += strspn(p, "/");
                for (size_t i = 0; i < ELEMENTSOF(foreign); i++)
                        if (startswith(p, foreign[i]))
                                return true;
        }
        return false;
}

/* Searches one directory's children for the id; the entry's inode is the group's id (kernfs), so that nothing needs to
 * be opened but the directories themselves. 1 = found. */
static int cgroup_search(int dir_fd, uint64_t id, StrBuf *path, unsigned *left, unsigned depth) {
        _cleanup_close_ int fd = dir_fd;
        DIR *d;
        int r = 0;

        d = fdopendir(fd);
        if (!d)
                return -errno;
        TAKE_FD(fd);

        for (struct dirent *e; r == 0 && (e = readdir(d)); ) {
                size_t before = path->size;

                if (e->d_type != DT_DIR || e->d_name[0] == '.')
                        continue;
                if ((*left)-- == 0) {
                        r = -ENOENT;
                        break;
                }
                r = strbuf_printf(path, "/%s", e->d_name);
                if (r < 0)
                        break;
                if (e->d_ino == id)
                        r = 1;
                else if (depth > 0) {
                        int child = openat(dirfd(d), e->d_name, O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_NOFOLLOW);

                        r = child < 0 ? 0 : cgroup_search(child, id, path, left, depth - 1);
                }
                if (r == 0) {
                        path->size = before;
                        path->text[before] = 0;
                }
        }

        (void) closedir(d);
        return r;
}

int cgroup_path_from_id(const char *mount, uint64_t id, char **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        unsigned left = CGROUPS_MAX;
        struct stat st;
        char *p;
        int fd, r;

        fd = open(mount, O_RDONLY|O_DIRECTORY|O_CLOEXEC);
        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0) {
                r = -errno;
                safe_close(fd);
                return r;
        }
        if (st.st_ino == id) {
                safe_close(fd);
                r = strbuf_puts(&path, "/");
        } else {
                r = cgroup_search(fd, id, &path, &left, 16);
                if (r == 0)
                        r = -ENOENT;
        }
        if (r < 0)
                return r;

        p = strbuf_take(&path);
        if (!p)
                return -ENOMEM;
        *ret = p;
        return 0;
}

/* Where the unified hierarchy is mounted: alone, or beside the old ones. NULL: nowhere. */
static const char* cgroup_mount(void) {
        static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
        struct statfs s;

        for (size_t i = 0; i < ELEMENTSOF(mounts); i++)
                if (statfs(mounts[i], &s) == 0 && s.f_type == CGROUP2_SUPER_MAGIC)
                        return mounts[i];
        return NULL;
}

/* Ids are never used twice while the machine is up, and groups cannot be renamed: what was found once stays true. */
static int cgroup_id_is_foreign(uint64_t id) {
        static struct {
                uint64_t id;
                bool foreign;
        } cache[CGROUP_CACHE_MAX];
        static unsigned next;
        _cleanup_free_ char *path = NULL;
        const char *mount;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(cache); i++)
                if (cache[i].id == id && id != 0)
                        return cache[i].foreign;

        mount = cgroup_mount();
        if (!mount || id == 0)
                return -ENOENT;
        r = cgroup_path_from_id(mount, id, &path);
        if (r < 0)
                return r;

        cache[next].id = id;
        cache[next].foreign = cgroup_is_foreign(path);
        r = cache[next].foreign;
        next = (next + 1) % CGROUP_CACHE_MAX;
        return r;
}

static int process_is_foreign(const char *pid) {
        _cleanup_free_ char *path = strjoin("/proc/", pid, "/cgroup"), *text = NULL;
        int r;

        if (!path)
                return -ENOMEM;
        r = file_read(path, KIB(64), &text, NULL);
        if (r < 0)
                return r;
        for (char *line = text, *next; line && *line; line = next) {
                char *group;

                next = strchr(line, '\n');
                if (next)
                        *next++ = 0;
                group = strchr(line, ':');              /* hierarchy:controllers:path */
                group = group ? strchr(group + 1, ':') : NULL;
                if (!group)
                        return -EBADMSG;
                if (cgroup_is_foreign(group + 1))
                        return true;
        }
        return false;
}

static bool process_holds_socket(const char *pid, const char *link_wanted) {
        _cleanup_free_ char *path = strjoin("/proc/", pid, "/fd");
        bool found = false;
        DIR *d;

        d = path ? opendir(path) : NULL;
        if (!d)
                return false;
        for (struct dirent *e; !found && (e = readdir(d)); ) {
                char target[64];
                ssize_t n;

                n = readlinkat(dirfd(d), e->d_name, target, sizeof(target) - 1);
                if (n <= 0)
                        continue;
                target[n] = 0;
                found = streq(target, link_wanted);
        }
        (void) closedir(d);
        return found;
}

/* Every process that holds the socket must be fine, and there must be one that we may look at. */
static int socket_holder_is_foreign(uint32_t inode) {
        char wanted[64];
        int r = -ENOENT;
        DIR *d;

        (void) snprintf(wanted, sizeof(wanted), "socket:[%" PRIu32 "]", inode);
        d = opendir("/proc");
        if (!d)
                return -errno;
        for (struct dirent *e; (e = readdir(d)); ) {
                if (e->d_name[strspn(e->d_name, "0123456789")] != 0 || !process_holds_socket(e->d_name, wanted))
                        continue;
                r = process_is_foreign(e->d_name);
                if (r != 0)     /* foreign, or unknown: no other holder can make up for that */
                        break;
        }
        (void) closedir(d);
        return r;
}

int tcp_peer_resolve(const struct sockaddr *peer, const struct sockaddr *local, TcpPeer *ret) {
        Endpoint p, l;
        Diag d;
        int r;

        r = endpoint_from_sockaddr(peer, &p);
        if (r < 0)
                return r;
        r = endpoint_from_sockaddr(local, &l);
        if (r < 0)
                return r;
        if (p.family != l.family)
                return -EAFNOSUPPORT;
        r = diag_find(&p, &l, &d);
        if (r < 0)
                return r;

        r = cgroup_id_is_foreign(d.cgroup_id);
        if (r < 0)
                r = socket_holder_is_foreign(d.inode);

        *ret = (TcpPeer) { .uid = d.uid, .stranger = r != 0 };
        return 0;
}
