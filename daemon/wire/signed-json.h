/* SPDX-License-Identifier: MIT */
#pragma once

#include "string-util.h"

/* JSON that gets signed: a tree that keeps what canonical forms depend on and json-c drops, namely number tokens as
 * written, strings with NUL bytes and member order (wire-protocol §§3.7, 20). Values live as long as their document.
 */

typedef enum SignedType {
        SIGNED_NULL,
        SIGNED_FALSE,
        SIGNED_TRUE,
        SIGNED_NUMBER,          /* text: the token */
        SIGNED_STRING,          /* text: decoded UTF-8, may contain NUL */
        SIGNED_ARRAY,
        SIGNED_OBJECT,
} SignedType;

typedef struct SignedValue SignedValue;
struct SignedValue {
        SignedType type;
        uint32_t key_size;
        const char *key;        /* when the parent is an object */
        const char *text;       /* NUL-terminated past its size */
        size_t size;            /* of text; or how many children */
        SignedValue *child;     /* first of an array or object */
        SignedValue *next;
};

typedef struct SignedDocument SignedDocument;

/* Parses one value: UTF-8, no NaN or Infinity, no lone surrogates, no bare control characters, nothing behind it, at
 * most 512 levels and a million values. A repeated key keeps its first place and its last value. -EBADMSG, -E2BIG
 * (over 4 GiB), -ENOMEM. The text need not outlive the call. */
int signed_document_parse(SignedDocument **ret, const char *text, size_t size);
/* An empty document, to build values in. */
int signed_document_new(SignedDocument **ret);
/* It holds nothing but what everybody on the way could read: wiping it would be for nothing. */
void signed_document_set_public(SignedDocument *d);
/* Wipes all of it, unless it is public: payloads are secrets. */
SignedDocument* signed_document_free(SignedDocument *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(SignedDocument*, signed_document_free);
SignedValue* signed_document_root(SignedDocument *d);
/* What it takes in memory. */
size_t signed_document_size(const SignedDocument *d);

/* As signed_get(), for a key with its length. */
SignedValue* signed_get_n(const SignedValue *o, const char *key, size_t size);
/* Member of an object or NULL; o may be NULL or of another type. */
static inline SignedValue* signed_get(const SignedValue *o, const char *key) {
        return signed_get_n(o, key, strlen(key));
}
/* Its text when it is a string without NUL, else NULL. */
const char* signed_get_string(const SignedValue *o, const char *key);
/* An integer token in range. -ENOENT when absent or null, -EINVAL when it is something else, -ERANGE. */
int signed_get_int(const SignedValue *o, const char *key, int64_t *ret);
bool signed_is_null(const SignedValue *v);              /* NULL or null */

/* Builders: NULL when out of memory, so that calls nest, and for a text that is no UTF-8. Texts are copied. */
SignedValue* signed_object(SignedDocument *d);
SignedValue* signed_array(SignedDocument *d);
SignedValue* signed_string(SignedDocument *d, const char *s);           /* NULL: null */
SignedValue* signed_int(SignedDocument *d, int64_t v);
SignedValue* signed_constant(SignedDocument *d, SignedType type);       /* null, true, false */
/* Appends; the key must not be there yet. -ENOMEM. */
int signed_put(SignedDocument *d, SignedValue *object, const char *key, SignedValue *value);
int signed_push(SignedDocument *d, SignedValue *array, SignedValue *value);
/* A deep copy into d of a value of another document. */
SignedValue* signed_copy(SignedDocument *d, const SignedValue *v);

/* Compact, members in their order, everything outside U+0020–U+007E escaped (§9.2 step 4). -ENOMEM. */
int signed_value_format(const SignedValue *v, StrBuf *b);

typedef enum CanonicalMode {
        CANONICAL_COMPAT,       /* what both originals sign */
        CANONICAL_RFC8785,
} CanonicalMode;

/* Appends the canonical form (§§3.1–3.5). -ERANGE for a number without a finite value, -ENOMEM. */
int canonical_format(const SignedValue *v, CanonicalMode mode, StrBuf *b);
/* The same without the top-level members "signature" and "self_signature" (§3.6). */
int canonical_format_for_signing(const SignedValue *v, CanonicalMode mode, StrBuf *b);
