/* SPDX-License-Identifier: MIT */
#pragma once

#include "http-client.h"

/* http-client.h and websocket.h by way of puffo-link (daemon/link): this process writes down what it wants and reads
 * what came of it. When the link ends, what was under way is HTTP_FAILED_CUT (a WebSocket that was not open yet:
 * HTTP_FAILED_CONNECT); where it cannot be reached, everything is HTTP_FAILED_CONNECT. Who watches that it does not
 * hang is its service manager. */

/* Where it listens, for all that is started from now on. Copied. */
int link_set_socket(const char *path);
