/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>

#include "string-util.h"

#define _cleanup_json_ _cleanup_(json_object_unrefp)
static inline void json_object_unrefp(json_object **o) {
        if (*o)
                (void) json_object_put(*o);
}

/* Strict parse of a whole buffer: one value, UTF-8, no trailing bytes but white space, at most 32 levels deep.
 * -EBADMSG when it is not JSON, -ENOMEM. "null" gives 0 with *ret = NULL. */
int json_parse(const char *text, size_t size, json_object **ret);
/* The same with another depth. */
int json_parse_deep(const char *text, size_t size, unsigned depth, json_object **ret);

/* Member of an object; NULL when o is no object, the member is absent, or null. Borrowed. */
json_object* json_get(json_object *o, const char *key);
/* Member if it is a string, else NULL. Borrowed. Strings with a NUL inside count as no string. */
const char* json_get_string(json_object *o, const char *key);
/* Member if it is an integer or a double, else fallback. */
int64_t json_get_int(json_object *o, const char *key, int64_t fallback);
bool json_get_bool(json_object *o, const char *key, bool fallback);

/* Puts a value into an object; takes ownership of value even on failure (a NULL value becomes null). */
int json_put(json_object *o, const char *key, json_object *value);
int json_put_string(json_object *o, const char *key, const char *s);    /* NULL: null */
int json_put_string_len(json_object *o, const char *key, const char *s, size_t n);
int json_put_int(json_object *o, const char *key, int64_t v);
int json_put_bool(json_object *o, const char *key, bool v);
int json_put_null(json_object *o, const char *key);

/* One line, no spaces, slashes unescaped. Borrowed from o until it changes. NULL when out of memory. */
const char* json_text(json_object *o, size_t *ret_size);
/* Appends that and a line feed. -ENOMEM. */
int json_append_line(StrBuf *b, json_object *o);

/* A string as TOML writes it: JSON's way, and a bit more careful. NULL: -ENOMEM. */
char* toml_quote(const char *s);
