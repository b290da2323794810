/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "bus-util.h"
#include "string-util.h"

int bus_error_setf(sd_bus_error *e, const char *name, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0) {
                text = NULL;
                return sd_bus_error_set_errno(e, -ENOMEM);
        }
        return sd_bus_error_set(e, name, utf8_repair(text));
}
