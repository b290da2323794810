/* SPDX-License-Identifier: MIT */
#pragma once

#include "config.h"

/* Places at which tests kill the process, before and after every step that is meant to survive that. There are none in
 * a build without the option test_hooks.
 *
 * A point is armed by a file that crash_point_watch() names: it holds the point's name and, behind a space, how often
 * it is to be passed before. The process that dies of it removes the file first. */
#ifdef TEST_HOOKS
void crash_point_watch(const char *path);
void crash_point(const char *name);
#else
static inline void crash_point_watch(const char *path) {
}
static inline void crash_point(const char *name) {
}
#endif
