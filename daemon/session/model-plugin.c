/* SPDX-License-Identifier: MIT */

#include <dlfcn.h>
#include <limits.h>

#include "model-plugin.h"
#include "string-util.h"

/* Beside the program, so that a build tree and an installation both get their own; nothing from the environment decides
 * what code is loaded. */
static int plugin_path(char **ret) {
        char program[PATH_MAX], *slash;
        ssize_t n;

        n = readlink("/proc/self/exe", program, sizeof(program) - 1);
        if (n < 0)
                return -errno;
        program[n] = 0;
        slash = strrchr(program, '/');
        if (!slash)
                return -ENOENT;
        slash[1] = 0;

        *ret = strjoin(program, MODEL_PLUGIN_FILE);
        return *ret ? 0 : -ENOMEM;
}

int model_plugin_load(const ModelPlugin **ret, char **reterr) {
        _cleanup_free_ char *path = NULL;
        const ModelPlugin *plugin;
        void *handle;
        int r;

        r = plugin_path(&path);
        if (r < 0)
                return r;
        /* Lazy for the libraries behind it: binding all their symbols now would make pages our own that are never used.
         * The plugin itself is linked with -z now all the same. */
        handle = dlopen(path, RTLD_LAZY|RTLD_LOCAL);
        if (!handle) {
                *reterr = strdup(strempty(dlerror()));
                return -ELIBACC;
        }
        plugin = dlsym(handle, MODEL_PLUGIN_SYMBOL);
        if (!plugin) {
                *reterr = strdup(strempty(dlerror()));
                (void) dlclose(handle);
                return -ELIBACC;
        }

        *ret = plugin;
        return 0;
}
