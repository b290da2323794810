/* SPDX-License-Identifier: MIT */

#include "scope.h"
#include "string-util.h"

const char* scope_to_string(Scope s) {
        static const char *const names[_SCOPE_MAX] = { [SCOPE_USER] = "user", [SCOPE_SYSTEM] = "system" };

        return s >= 0 && s < _SCOPE_MAX ? names[s] : NULL;
}

int scope_open_bus(Scope scope, sd_bus **ret) {
        return scope == SCOPE_SYSTEM ? sd_bus_open_system(ret) : sd_bus_open_user(ret);
}

int scope_runtime_directory(Scope scope, char **ret) {
        const char *base = scope == SCOPE_SYSTEM ? "/run" : getenv("XDG_RUNTIME_DIR");
        char *path;

        if (isempty(base))
                return -ENXIO;
        path = strjoin(base, "/puffo");
        if (!path)
                return -ENOMEM;

        *ret = path;
        return 0;
}
