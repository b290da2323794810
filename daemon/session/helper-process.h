/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>
#include <systemd/sd-event.h>

#include "macro.h"

/* Processes of our own that a session starts when they are needed, which have the network in its place. */

/* The program of that name beside our own: nothing from the environment decides what is run. */
int helper_program_path(const char *name, char **ret);

/* Starts it with that socket as standard input, and fds from 3 on. It gets nothing else: of the environment what
 * decides how requests are made and logged, no signal blocked. argv[0] is its name in the journal. When it ends, that
 * is seen to. SIGCHLD must be blocked. */
int helper_start(sd_event *event, const char *program, char *const argv[], int socket, const int *fds, size_t n_fds);
