/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* What client and server both ask of HTTP's own syntax. */

/* The n bytes at s are a token (RFC 9110 §5.6.2): a method or the name of a header. */
bool http_token_is_valid(const char *s, size_t n);

/* Fit for the value of a header: no control characters, which could end the line and begin another. */
bool http_value_is_valid(const char *s);

/* A date of a header as seconds since 1970. -EINVAL. */
int http_date_parse(const char *s, int64_t *ret);

/* Fit to be asked for: http:// or https://, a host, a port that is one, no blanks or control characters. -EINVAL. */
int http_url_check(const char *url, bool *ret_tls);
