/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Descriptors that outlive this process in the service manager's store (systemd-facts §5), by name. Without a service
 * manager all of it does nothing. */

/* A copy is kept until it is removed; -EPERM when it could not be made sure that the manager has it. The caller's own
 * is his still. */
int fd_store_add(const char *name, int fd);
/* The same in two: several are sent, and then it is waited once for all of them to be there. */
int fd_store_send(const char *name, int fd);
int fd_store_settle(void);
/* All of that name. */
void fd_store_remove(const char *name);
/* What a process before us has left under the name, each once. -ENOENT. The descriptor is close-on-exec, and still in
 * the store. */
int fd_store_take(const char *name);
