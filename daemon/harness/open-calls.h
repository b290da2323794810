/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* The calls of tools that go on: the line that ends one gives its id, but not what was called. */

typedef struct OpenCalls {
        struct OpenCall {
                char *id, *name;
        } *calls;
        size_t n;
} OpenCalls;

/* Of a program that has very many at a time those that come last are not kept. -ENOMEM. */
int open_calls_add(OpenCalls *c, const char *id, const char *name);
/* Its name, and it goes on no longer. NULL: there is none with this id. */
char* open_calls_take(OpenCalls *c, const char *id);
void open_calls_done(OpenCalls *c);
