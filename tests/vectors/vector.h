/* SPDX-License-Identifier: MIT */
#pragma once

/* What the runners of vector files share. A case passes when its runner returns NULL, else it says what is wrong. */

#include "signed-json.h"

typedef const char* (*vector_case_t)(const SignedValue *c);

/* Cases of a file that is an object of lists: those in this member. */
typedef struct VectorList {
        const char *name;
        vector_case_t run;
} VectorList;

typedef struct VectorFile {
        const char *name;       /* of the file, without directory */
        vector_case_t run;
        const VectorList *lists;        /* instead of run; ended by a NULL name */
} VectorFile;

/* Each ended by a NULL name. */
extern const VectorFile vector_files_primitives[], vector_files_messages[], vector_files_identity[],
                vector_files_keys[], vector_files_bridge[];

/* The whole of the file whose case is being run. */
extern const SignedValue *vector_file_root;

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
/* Ours quotes no decoder: texts that contain "decode" need to match only as far as that. */
bool vector_error_matches(const char *expected, const char *got);
