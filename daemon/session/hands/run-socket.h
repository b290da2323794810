/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* The sockets in an agent's run directory on which its CLI reaches the session. They are in the service manager's
 * store under a name, so that nobody is refused while the session is restarted, and the one that a sandbox was given
 * is still the right one afterwards. */

/* A listening Unix stream socket, non-blocking: what an earlier process has left, else a new one. Makes the directory
 * (0700) and the socket (0600), in the place of one that nobody serves any more. -EADDRINUSE: somebody does; -ENOTDIR,
 * -EEXIST: something else is there; -ENAMETOOLONG for the last part of the path; errors of mkdir(2) and bind(2). */
int run_socket_open(const char *path, const char *name);
/* Takes it away for good. fd is closed. */
void run_socket_remove(const char *path, const char *name, int fd);
