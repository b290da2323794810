/* SPDX-License-Identifier: MIT */
#pragma once

#include <dirent.h>

#include "file-util.h"
#include "tests.h"

static inline size_t count_entries(const char *path) {
        DIR *d = opendir(path);
        struct dirent *entry;
        size_t n = 0;

        ASSERT_NOT_NULL(d);
        while (ASSERT_OK(directory_next(d, &entry)) > 0)
                n++;
        (void) closedir(d);
        return n;
}
