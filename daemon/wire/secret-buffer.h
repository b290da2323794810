/* SPDX-License-Identifier: MIT */
#pragma once

#include <sodium.h>

#include "string-util.h"

/* A StrBuf for secrets. Growing one leaves copies of what it held behind, so it has room from the start. */

static inline int secret_buffer_init(StrBuf *b, size_t room) {
        *b = (StrBuf) { .text = malloc(room ?: 1), .allocated = room };
        if (!b->text)
                return -ENOMEM;
        b->text[0] = 0;
        return 0;
}

static inline void secret_buffer_done(StrBuf *b) {
        if (b->text)
                sodium_memzero(b->text, b->size);
        strbuf_done(b);
}
