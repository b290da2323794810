/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

/* Which manager we live under: the user's own, or PID 1's. Everything else that differs between the modes (bus, paths,
 * unit properties) follows from this one value. */
typedef enum Scope {
        SCOPE_USER,
        SCOPE_SYSTEM,
        _SCOPE_MAX,
        _SCOPE_INVALID = -EINVAL,
} Scope;

const char* scope_to_string(Scope s);           /* "user", "system" */

/* The scope's public bus: session or system. Connected, not attached. */
int scope_open_bus(Scope scope, sd_bus **ret);

/* $XDG_RUNTIME_DIR/puffo or /run/puffo. -ENXIO when the variable is not set. */
int scope_runtime_directory(Scope scope, char **ret);
