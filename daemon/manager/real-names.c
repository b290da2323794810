/* SPDX-License-Identifier: MIT */

#include "real-names.h"
#include "string-util.h"

void real_names_done(RealNames *r) {
        for (size_t i = 0; i < r->n_names; i++) {
                free(r->names[i].name);
                free(r->names[i].real);
        }
        free(r->names);
        *r = (RealNames) {};
}

int real_names_get(RealNames *r, const char *name, const char **ret) {
        _cleanup_free_ char *copy = NULL, *real = NULL;
        RealName *grown;

        for (size_t i = 0; i < r->n_names; i++)
                if (streq(r->names[i].name, name)) {
                        *ret = r->names[i].real;
                        return 0;
                }
        real = realpath(name, NULL);
        if (!real && errno == ENOMEM)
                return -ENOMEM;
        copy = strdup(name);
        grown = reallocarray(r->names, r->n_names + 1, sizeof(RealName));
        if (grown)
                r->names = grown;
        if (!copy || !grown)
                return -ENOMEM;
        *ret = real;
        r->names[r->n_names++] = (RealName) { TAKE_PTR(copy), TAKE_PTR(real) };
        return 0;
}
