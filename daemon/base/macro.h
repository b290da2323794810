/* SPDX-License-Identifier: MIT */
#pragma once

/* The page of macros that every file starts from: ownership, arithmetic, time, string tests. */

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))
#define _printf_(a, b) __attribute__((format(printf, a, b)))
#define _sentinel_ __attribute__((sentinel))
#define _unused_ __attribute__((unused))
#define _public_ __attribute__((visibility("default")))

#define ELEMENTSOF(x) (sizeof(x) / sizeof((x)[0]))
/* Each use gets names of its own, so that they nest. */
#define MAX(a, b) COMPARE_(>, a, b, __COUNTER__)
#define MIN(a, b) COMPARE_(<, a, b, __COUNTER__)
#define COMPARE_(op, a, b, n) COMPARE__(op, a, b, n)
#define COMPARE__(op, a, b, n) \
        ({ typeof(a) _a##n = (a); typeof(b) _b##n = (b); _a##n op _b##n ? _a##n : _b##n; })
#define CLAMP(x, low, high) MIN(MAX(x, low), high)
#define STRINGIFY_(x) #x
#define STRINGIFY(x) STRINGIFY_(x)

/* Passes ownership on: yields the value and leaves NULL (or -EBADF) behind. */
#define TAKE_PTR(p) ({ typeof(p) *_pp = &(p), _taken = *_pp; *_pp = NULL; _taken; })
#define TAKE_FD(fd) ({ int *_fdp = &(fd), _fd = *_fdp; *_fdp = -EBADF; _fd; })

#define DEFINE_TRIVIAL_CLEANUP_FUNC(type, func) \
        static inline void func##p(type *p) { if (*p) *p = func(*p); } struct _cleanup_semicolon_
/* For foreign destructors that return nothing. */
#define DEFINE_VOID_CLEANUP_FUNC(type, func) \
        static inline void func##p(type *p) { if (*p) func(*p); } struct _cleanup_semicolon_

static inline void freep(void *p) {
        free(*(void **) p);
}
#define _cleanup_free_ _cleanup_(freep)

static inline void* mfree(void *p) {
        free(p);
        return NULL;
}

#define new0(t, n) ((t*) calloc((n) ?: 1, sizeof(t)))

/* Closes and returns -EBADF; never touches errno, so it may stand in an error path. */
static inline int safe_close(int fd) {
        if (fd >= 0) {
                int saved = errno;
                (void) close(fd);
                errno = saved;
        }
        return -EBADF;
}
static inline void closep(int *fd) {
        *fd = safe_close(*fd);
}
#define _cleanup_close_ _cleanup_(closep)

static inline bool streq(const char *a, const char *b) {
        return strcmp(a, b) == 0;
}
static inline bool streq_ptr(const char *a, const char *b) {
        return a == b || (a && b && streq(a, b));
}
static inline bool isempty(const char *s) {
        return !s || !*s;
}
static inline const char* strempty(const char *s) {
        return s ?: "";
}
/* What follows the prefix, or NULL when it is not there. */
static inline char* startswith(const char *s, const char *prefix) {
        size_t n = strlen(prefix);
        return strncmp(s, prefix, n) == 0 ? (char*) s + n : NULL;
}
static inline bool endswith(const char *s, const char *suffix) {
        size_t n = strlen(s), m = strlen(suffix);
        return n >= m && streq(s + n - m, suffix);
}

#define USEC_PER_SEC ((uint64_t) 1000000ULL)
#define USEC_PER_MSEC ((uint64_t) 1000ULL)
#define NSEC_PER_USEC ((uint64_t) 1000ULL)
#define USEC_INFINITY UINT64_MAX
#define KIB(n) ((size_t) (n) * 1024U)
#define MIB(n) ((size_t) (n) * 1024U * 1024U)

/* ±errno to a negative errno; for calls that report through errno. */
static inline int errno_or_else(int fallback) {
        return errno > 0 ? -errno : -abs(fallback);
}
