/* SPDX-License-Identifier: MIT */
#pragma once

#include <arpa/inet.h>
#include <sys/socket.h>

#include "tests.h"

/* A TCP socket that listens on a port of the kernel's choice. flags: SOCK_NONBLOCK, or 0. */
static inline int listen_loopback(int flags, uint16_t *ret_port) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

        ASSERT_TRUE(fd >= 0);
        ASSERT_EQ(bind(fd, (struct sockaddr*) &a, sizeof(a)), 0);
        ASSERT_EQ(getsockname(fd, (struct sockaddr*) &a, &(socklen_t) { sizeof(a) }), 0);
        ASSERT_EQ(listen(fd, 16), 0);
        *ret_port = ntohs(a.sin_port);
        return fd;
}
