/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include "macro.h"

/* Who is at the other end of a loopback TCP connection, by the kernel's word: the user that made the peer's socket,
 * and whether its control group is outside every harness and container. The uid alone proves nothing, since a harness
 * runs with the user's own (systemd-facts §4.5). */
typedef struct TcpPeer {
        uid_t uid;
        bool stranger;          /* in a harness or container, or its control group cannot be told */
} TcpPeer;

/* peer: the client's address; local: the one it connected to. 0; -ENOENT when this machine has no such socket (another
 * host's or namespace's), -EAFNOSUPPORT, -EIO and the like when it cannot be known. */
int tcp_peer_resolve(const struct sockaddr *peer, const struct sockaddr *local, TcpPeer *ret);

/* Whether a control group path is one that no trusted client runs in. */
bool cgroup_is_foreign(const char *path);

/* The path of a control group id (its directory's inode) below a mount of the unified hierarchy. -ENOENT, -ENOMEM. */
int cgroup_path_from_id(const char *mount, uint64_t id, char **ret);
