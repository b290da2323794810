/* SPDX-License-Identifier: MIT */
#pragma once

#include <stdio.h>

#include "log.h"
#include "string-util.h"
#include "tests.h"

/* What is logged comes here, for tests with log_captured (see meson.build): a line of the fields, then the text. */
static StrBuf journal;

int __wrap_log_full(int level, int error, const char *file, int line, const char *func, const char *const *fields,
                    const char *format, ...) _printf_(7, 8);
int __wrap_log_full(int level, int error, const char *file, int line, const char *func, const char *const *fields,
                    const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        for (; fields && *fields; fields++)
                ASSERT_OK(strbuf_printf(&journal, "%s ", *fields));
        va_start(ap, format);
        ASSERT_TRUE(vasprintf(&text, format, ap) >= 0);
        va_end(ap);
        ASSERT_OK(strbuf_printf(&journal, "%s\n", text));
        return -abs(error);
}
