/* SPDX-License-Identifier: MIT */
#pragma once

#include "profile.h"

/* What the service manager does not do for an ordinary user. Each of these: negative errno with *reterr_step naming
 * what was refused, a string constant. */

/* A user, a mount, an IPC and a process namespace; the first child will be process 1 of the last. Users and groups
 * keep their numbers. */
int enclosure_enter(const char **reterr_step);
/* For process 1: a /proc that shows the new namespace alone. */
int enclosure_mount_proc(const char **reterr_step);
/* For process 1: terminals, shared memory and message queues that nobody outside has, where there are any. What a
 * service manager calls private devices has those of everybody. */
int enclosure_mount_devices(const char **reterr_step);
/* No way up or back: no capabilities, in strict no system calls that make namespaces, mounts or keys. It needs
 * no_new_privs. */
int enclosure_lock(Profile profile, const char **reterr_step);

/* Of /proc/self/ns/NAME. */
int namespace_inode(const char *name, uint64_t *ret);
