/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

/* org.freedesktop.LogControl1 (org.freedesktop.LogControl1(5)) on a connection: the log level of a running program is
 * read and set with "systemctl service-log-level". identifier is borrowed. */
int log_control_add(sd_bus *bus, const char *identifier);
