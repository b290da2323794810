/* SPDX-License-Identifier: MIT */
#pragma once

#include "mount-table.h"
#include "profile.h"

/* What a profile promises, looked at from inside: sandbox options of a service manager may be ignored without a word.
 */

/* Fills in what is to be compared later. Before anything else is done, as the next one. */
void promises_look_outside(Sandbox *s);
/* Before anything else is done: what only shows in the namespaces that the service manager has made. */
int promises_check_outside(const Sandbox *s, char ***missing);
/* By process 1, when all is done that it does. Both append a sentence for each promise that is not kept. Errors: it
 * cannot be told. */
int promises_check_inside(const Sandbox *s, char ***missing);

/* Parts of it. */

/* Directories of the system that can be written. */
int promises_check_system(const MountTable *t, char ***missing);
int promises_check_control_groups(const MountTable *t, char ***missing);
/* Nothing is at or below that path but what is mounted there. > 0: it is so. */
int promises_check_hidden(const MountTable *t, const char *name, char ***missing);
/* Nothing can be written there, and neither it nor a directory on the way to it can be renamed. */
int promises_check_kept(const MountTable *t, const char *path, char ***missing);
/* The paths of a profile, ended by NULL. */
const char *const* promises_hidden(Profile profile);

/* Whether somebody takes connections at the path of a Unix socket. */
bool socket_answers(const char *path);
/* The sockets that lead to more than a profile gives, for the user who asks. */
int promises_sockets(char ***ret);
/* Terminals, shared memory and message queues are those of others. */
int promises_check_shared(const Sandbox *s, char ***missing);
/* Names of network interfaces that are up, other than the loopback one. */
int promises_interfaces(char ***ret);
/* Numbers in /proc. */
int promises_n_processes(unsigned *ret);
