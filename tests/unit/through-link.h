/* SPDX-License-Identifier: MIT */
#pragma once

#include <sys/types.h>

/* A puffo-link for the whole of a test program, which need not know of it: it is started as its service manager would,
 * before main(), and ended behind it. The socket stays, as that of a service manager. */

pid_t through_link_pid(void);
const char* through_link_path(void);
void through_link_kill(void);
void through_link_start(void);
