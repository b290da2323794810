/* SPDX-License-Identifier: MIT */

#include "open-calls.h"
#include "string-util.h"

/* A program that has more is not the one we know. */
#define CALLS_MAX 1024U

int open_calls_add(OpenCalls *c, const char *id, const char *name) {
        struct OpenCall *grown, *added;

        if (c->n >= CALLS_MAX)
                return 0;
        grown = reallocarray(c->calls, c->n + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        c->calls = grown;
        added = grown + c->n;
        *added = (struct OpenCall) { .id = strdup(id), .name = strdup(name) };
        if (!added->id || !added->name) {
                free(added->id);
                free(added->name);
                return -ENOMEM;
        }
        c->n++;
        return 0;
}

char* open_calls_take(OpenCalls *c, const char *id) {
        for (size_t i = 0; i < c->n; i++) {
                char *name = c->calls[i].name;

                if (!streq(c->calls[i].id, id))
                        continue;
                free(c->calls[i].id);
                c->calls[i] = c->calls[--c->n];
                return name;
        }
        return NULL;
}

void open_calls_done(OpenCalls *c) {
        for (size_t i = 0; i < c->n; i++) {
                free(c->calls[i].id);
                free(c->calls[i].name);
        }
        c->calls = mfree(c->calls);
        c->n = 0;
}
