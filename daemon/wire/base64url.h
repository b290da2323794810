/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* RFC 4648 §5 without padding, as the protocol writes it; reading takes both alphabets and correct padding
 * (wire-protocol §2). */

/* New NUL-terminated text; NULL when out of memory. */
char* base64url_encode(const void *data, size_t size);

/* -EBADMSG for anything that is not base64 as above, -ENOMEM. The result is NUL-terminated past its size. */
int base64url_decode(const char *text, size_t n, uint8_t **ret, size_t *ret_size);

/* The same into a field of fixed size. -EMSGSIZE when it decodes to another size. */
int base64url_decode_exact(const char *text, size_t n, uint8_t *field, size_t size);
