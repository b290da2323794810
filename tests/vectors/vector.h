/* SPDX-License-Identifier: MIT */
#pragma once

/* What the runners of vector files share. A case passes when its runner returns NULL, else it says what is wrong. */

#include "signed-json.h"

typedef const char* (*vector_case_t)(const SignedValue *c);

typedef struct VectorFile {
        const char *name;       /* of the file, without directory */
        vector_case_t run;
} VectorFile;

/* Each ended by a NULL name. */
extern const VectorFile vector_files_primitives[], vector_files_messages[], vector_files_identity[],
                        vector_files_keys[];

typedef struct Bytes {
        uint8_t *data;
        size_t size;
} Bytes;

static inline void bytes_done(Bytes *b) {
        free(b->data);
}
#define _cleanup_bytes_ _cleanup_(bytes_done)

/* A member as bytes: base64url, or hex when the key ends in "_hex", or the text itself when it ends in "_utf8". False
 * when it is not there or not well-formed. */
bool vector_bytes(const SignedValue *c, const char *key, Bytes *ret);
bool bytes_equal(const Bytes *a, const void *data, size_t size);
/* A member that is a key or another field of fixed size. */
bool vector_field(const SignedValue *c, const char *key, uint8_t *field, size_t size);
/* The member's text, "" when it is none. */
const char* vector_text(const SignedValue *c, const char *key);
bool vector_true(const SignedValue *c, const char *key);
