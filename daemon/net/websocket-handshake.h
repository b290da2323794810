/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* The opening handshake of RFC 6455 §4, as bytes. */

#define WEBSOCKET_KEY_SIZE 25U          /* base64 of 16 random bytes, with NUL */
#define WEBSOCKET_HEAD_MAX KIB(16)

/* A fresh Sec-WebSocket-Key. */
int websocket_key_new(char ret[WEBSOCKET_KEY_SIZE]);
/* The request for a target ("/path?query") at a host ("name" or "name:port"). -EINVAL for control characters. */
int websocket_request_format(const char *host, const char *target, const char *key, StrBuf *ret);
/* Looks at what came so far. > 0: a proper "101 Switching Protocols", *ret_size bytes long. 0: more is needed.
 * -EPROTO for anything else, with the status when there was one and the reason as one line; -EMSGSIZE, -ENOMEM. */
int websocket_response_check(const char *data, size_t size, const char *key, size_t *ret_size, long *ret_status,
                             const char **reterr);
