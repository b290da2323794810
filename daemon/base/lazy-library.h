/* SPDX-License-Identifier: MIT */
#pragma once

#include <dlfcn.h>

#include "log.h"

/* A library that most processes never need is loaded at its first call. Its functions are defined anew, each by one
 * line, to pass on what they are called with; who calls them does not know. Relocating libcurl and what it wants costs
 * a process a megabyte of its own. */

/* A library that is not there ends the process, as it would have at its start. */
static inline void* lazy_library_symbol(void **handle, const char *file, const char *name) {
        void *symbol;

        if (!*handle)
                *handle = dlopen(file, RTLD_LAZY | RTLD_LOCAL);
        symbol = *handle ? dlsym(*handle, name) : NULL;
        if (!symbol) {
                log_error("Cannot use '%s': %s", file, dlerror());
                _exit(127);
        }
        return symbol;
}

/* The function of that name in the library. handle and file are what the file that includes this calls them. */
#define LAZY(name) \
        ({ \
                static __typeof__(name) *_function; \
                if (!_function) \
                        _function = (__typeof__(name)*) lazy_library_symbol(&handle, file, #name); \
                _function; \
        })
