/* SPDX-License-Identifier: MIT */
#pragma once

#include "manager.h"

/* The service manager on the bus, and the properties of transient units in their D-Bus form (systemd-facts §3.1). */

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"
#define SYSTEMD_UNIT "org.freedesktop.systemd1.Unit"
#define SYSTEMD_SERVICE "org.freedesktop.systemd1.Service"

/* A method call of its manager object. */
int unit_manager_call(Manager *m, const char *member, sd_bus_message **ret);

/* One property each, as the struct (sv) that StartTransientUnit takes. Errors of sd_bus_message_append(). */
int unit_append_string(sd_bus_message *m, const char *name, const char *value);
int unit_append_time(sd_bus_message *m, const char *name, uint64_t usec);
/* Each of names, ending with NULL, as true. */
int unit_append_flags(sd_bus_message *m, const char *const *names);
int unit_append_strings(sd_bus_message *m, const char *name, const char *const *values);
/* One entry; the property may be sent any number of times. */
int unit_append_bind(sd_bus_message *m, bool writable, const char *source, const char *target, bool optional);
int unit_append_tmpfs(sd_bus_message *m, const char *path, const char *options);
/* ExecStart= of one command, nothing in it expanded. */
int unit_append_command(sd_bus_message *m, const char *const *argv);
