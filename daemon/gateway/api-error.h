/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"
#include "string-util.h"

/* An error as the clients of /v1 know it (responses-api §7). All zero is "no error". */
typedef struct ApiError {
        unsigned status;
        const char *code;       /* static, NULL: null */
        char *param, *message;
} ApiError;

void api_error_done(ApiError *e);
#define _cleanup_api_error_ _cleanup_(api_error_done)

/* Fills in an empty error and returns -EBADMSG, so that a check may end with it. code must be static. */
int api_error_set(ApiError *e, unsigned status, const char *code, const char *param, const char *format, ...)
        _printf_(5, 6);
/* The same without detail, for faults of ours. */
int api_error_set_internal(ApiError *e, int error);

/* {"error": {…}}. -ENOMEM. */
int api_error_format(const ApiError *e, StrBuf *b);
