/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tcp-peer"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/stat.h>

#include "file-util.h"
#include "string-util.h"
#include "tcp-peer.h"
#include "tests.h"

typedef struct Pair {
        int listener, client, server;
        struct sockaddr_storage peer, local;    /* as the server's side sees them */
} Pair;

static void pair_done(Pair *p) {
        safe_close(p->listener);
        safe_close(p->client);
        safe_close(p->server);
}

/* 0 when the machine does not have the family. */
static int pair_make(Pair *p, int listen_family, int client_family) {
        struct sockaddr_storage ss = {};
        struct sockaddr_in6 *in6 = (struct sockaddr_in6*) &ss;
        struct sockaddr_in *in = (struct sockaddr_in*) &ss;
        socklen_t size = sizeof(ss);
        in_port_t port;

        p->listener = socket(listen_family, SOCK_STREAM|SOCK_CLOEXEC, 0);
        if (p->listener < 0)
                return 0;
        ss.ss_family = (sa_family_t) listen_family;
        if (listen_family == AF_INET)
                in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        else if (client_family == AF_INET6)
                in6->sin6_addr = in6addr_loopback;
        if (bind(p->listener, (struct sockaddr*) &ss, listen_family == AF_INET ? sizeof(*in) : sizeof(*in6)) < 0)
                return 0;
        ASSERT_EQ(listen(p->listener, 8), 0);
        ASSERT_EQ(getsockname(p->listener, (struct sockaddr*) &ss, &size), 0);
        port = listen_family == AF_INET ? in->sin_port : in6->sin6_port;

        p->client = socket(client_family, SOCK_STREAM|SOCK_CLOEXEC, 0);
        if (client_family == AF_INET) {
                *in = (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = port,
                                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
                ASSERT_EQ(connect(p->client, (struct sockaddr*) in, sizeof(*in)), 0);
        } else
                ASSERT_EQ(connect(p->client, (struct sockaddr*) in6, sizeof(*in6)), 0);

        size = sizeof(p->peer);
        p->server = accept4(p->listener, (struct sockaddr*) &p->peer, &size, SOCK_CLOEXEC);
        ASSERT_TRUE(p->server >= 0);
        size = sizeof(p->local);
        ASSERT_EQ(getsockname(p->server, (struct sockaddr*) &p->local, &size), 0);
        return 1;
}

static const struct {
        int listener, client;
} families[] = { { AF_INET, AF_INET }, { AF_INET6, AF_INET6 }, { AF_INET6, AF_INET } };

TEST(own_connection) {
        for (size_t i = 0; i < ELEMENTSOF(families); i++) {
                _cleanup_(pair_done) Pair p = { -EBADF, -EBADF, -EBADF };
                TcpPeer peer;

                if (pair_make(&p, families[i].listener, families[i].client) == 0)
                        continue;
                ASSERT_OK(tcp_peer_resolve((struct sockaddr*) &p.peer, (struct sockaddr*) &p.local, &peer));
                ASSERT_EQ(peer.uid, getuid());
        }
}

static in_port_t* port_of(struct sockaddr_storage *ss) {
        return ss->ss_family == AF_INET ? &((struct sockaddr_in*) ss)->sin_port
                                        : &((struct sockaddr_in6*) ss)->sin6_port;
}

TEST(made_up_connections) {
        for (size_t i = 0; i < ELEMENTSOF(families); i++) {
                _cleanup_(pair_done) Pair p = { -EBADF, -EBADF, -EBADF };
                struct sockaddr_storage peer, local;
                TcpPeer who;

                if (pair_make(&p, families[i].listener, families[i].client) == 0)
                        continue;

                /* Another port of the peer. */
                peer = p.peer;
                *port_of(&peer) = htons((uint16_t) (ntohs(*port_of(&peer)) ^ 1));
                ASSERT_ERROR(tcp_peer_resolve((struct sockaddr*) &peer, (struct sockaddr*) &p.local, &who), ENOENT);
                /* Another port of ours. */
                local = p.local;
                *port_of(&local) = htons((uint16_t) (ntohs(*port_of(&local)) ^ 1));
                ASSERT_ERROR(tcp_peer_resolve((struct sockaddr*) &p.peer, (struct sockaddr*) &local, &who), ENOENT);
                /* A peer on the port that somebody listens on: the listener is no peer. */
                peer = p.local;
                local = p.peer;
                *port_of(&local) = htons((uint16_t) (ntohs(*port_of(&local)) ^ 1));
                ASSERT_ERROR(tcp_peer_resolve((struct sockaddr*) &peer, (struct sockaddr*) &local, &who), ENOENT);
        }
}

/* What no process holds any more is listed with uid 0. */
TEST(closed_connection) {
        _cleanup_(pair_done) Pair p = { -EBADF, -EBADF, -EBADF };
        TcpPeer who;

        ASSERT_EQ(pair_make(&p, AF_INET, AF_INET), 1);
        p.client = safe_close(p.client);
        ASSERT_ERROR(tcp_peer_resolve((struct sockaddr*) &p.peer, (struct sockaddr*) &p.local, &who), ENOENT);
}

TEST(other_families) {
        struct sockaddr a = { .sa_family = AF_UNIX };
        struct sockaddr_in in = { .sin_family = AF_INET };
        struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
        TcpPeer who;

        ASSERT_ERROR(tcp_peer_resolve(&a, &a, &who), EAFNOSUPPORT);
        ASSERT_ERROR(tcp_peer_resolve((struct sockaddr*) &in, (struct sockaddr*) &in6, &who), EAFNOSUPPORT);
}

TEST(cgroup_is_foreign) {
        static const struct {
                const char *path;
                bool foreign;
        } t[] = {
                { "/", false },
                { "/init.scope", false },
                { "/user.slice/user-1000.slice/session-3.scope", false },
                { "/user.slice/user-1000.slice/user@1000.service/app.slice/app-terminal.scope", false },
                { "/user.slice/user-1000.slice/user@1000.service/puffo.slice/puffo-a.slice/puffo-session@a.service",
                  false },
                { "/user.slice/user-1000.slice/user@1000.service/puffo.slice/puffo-a.slice/puffo-harness@a.service",
                  true },
                { "/user.slice/user-1000.slice/user@1000.service/puffo.slice/puffo-a.slice/puffo-harness@a.service/sub",
                  true },
                { "/system.slice/docker-0123456789abcdef.scope", true },
                { "/docker/0123456789abcdef", true },
                { "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-0123.scope/container", true },
                { "/machine.slice/machine-box.scope", true },
                { "/kubepods.slice/kubepods-burstable.slice", true },
                { "/../../outside", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                if (cgroup_is_foreign(t[i].path) != t[i].foreign)
                        fail_msg("%s", t[i].path);
}

TEST(cgroup_path_from_id) {
        char root[] = "/tmp/test-cgroups-XXXXXX";
        _cleanup_free_ char *deep = NULL, *found = NULL;
        struct stat st;

        ASSERT_NOT_NULL(mkdtemp(root));
        deep = strjoin(root, "/user.slice/user@1000.service/app.scope");
        ASSERT_OK(directory_make(deep, 0700));
        ASSERT_EQ(stat(deep, &st), 0);
        ASSERT_OK(cgroup_path_from_id(root, st.st_ino, &found));
        ASSERT_STREQ(found, "/user.slice/user@1000.service/app.scope");

        ASSERT_EQ(rmdir(deep), 0);
        ASSERT_ERROR(cgroup_path_from_id(root, UINT64_MAX, &found), ENOENT);
        found = mfree(found);
        ASSERT_EQ(stat(root, &st), 0);
        ASSERT_OK(cgroup_path_from_id(root, st.st_ino, &found));
        ASSERT_STREQ(found, "/");
        ASSERT_ERROR(cgroup_path_from_id("/nowhere/at/all", 1, &found), ENOENT);
        ASSERT_OK(directory_remove(root));
}

TEST_MAIN();
