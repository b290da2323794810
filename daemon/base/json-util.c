/* SPDX-License-Identifier: MIT */

#include <limits.h>

#include "json-util.h"
#include "string-util.h"

#define JSON_DEPTH_MAX 32

DEFINE_VOID_CLEANUP_FUNC(json_tokener*, json_tokener_free);

/* json-c takes NaN and Infinity for numbers, and would write them again: nobody else reads that. */
static bool is_json(json_object *o) {
        const char *s;

        switch (json_object_get_type(o)) {
        case json_type_double:
                s = strempty(json_object_get_string(o));
                return !strchr("NI", *s == '-' ? s[1] : *s);
        case json_type_array:
                for (size_t i = 0; i < json_object_array_length(o); i++)
                        if (!is_json(json_object_array_get_idx(o, i)))
                                return false;
                return true;
        case json_type_object: {
                json_object_object_foreach(o, key, value) {
                        (void) key;
                        if (!is_json(value))
                                return false;
                }
                return true;
        }
        default:
                return true;
        }
}

int json_parse(const char *text, size_t size, json_object **ret) {
        return json_parse_deep(text, size, JSON_DEPTH_MAX, ret);
}

int json_parse_deep(const char *text, size_t size, unsigned depth, json_object **ret) {
        _cleanup_(json_tokener_freep) json_tokener *t = NULL;
        json_object *o;
        size_t used;

        if (size > INT_MAX || !utf8_is_valid(text, size))
                return -EBADMSG;

        t = json_tokener_new_ex((int) depth);
        if (!t)
                return -ENOMEM;
        json_tokener_set_flags(t, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);

        o = json_tokener_parse_ex(t, text, (int) size);
        used = json_tokener_get_parse_end(t);
        if (json_tokener_get_error(t) == json_tokener_continue) { /* a bare number or word ends only with the input */
                o = json_tokener_parse_ex(t, "", 1);
                used = size;
        }
        if (json_tokener_get_error(t) != json_tokener_success) {
                json_object_put(o);
                return -EBADMSG;
        }

        for (; used < size; used++)
                if (!strchr(" \t\r\n", text[used]) || text[used] == 0) {
                        json_object_put(o);
                        return -EBADMSG;
                }

        if ((memmem(text, size, "NaN", 3) || memmem(text, size, "Infinity", 8)) && !is_json(o)) {
                json_object_put(o);
                return -EBADMSG;
        }

        *ret = o;
        return 0;
}

json_object* json_get(json_object *o, const char *key) {
        json_object *v = NULL;

        if (!json_object_is_type(o, json_type_object))
                return NULL;
        return json_object_object_get_ex(o, key, &v) ? v : NULL;
}

const char* json_get_string(json_object *o, const char *key) {
        json_object *v = json_get(o, key);
        const char *s;

        if (!json_object_is_type(v, json_type_string))
                return NULL;
        s = json_object_get_string(v);
        return s && strlen(s) == (size_t) json_object_get_string_len(v) ? s : NULL;
}

int64_t json_get_int(json_object *o, const char *key, int64_t fallback) {
        json_object *v = json_get(o, key);

        if (!json_object_is_type(v, json_type_int) && !json_object_is_type(v, json_type_double))
                return fallback;
        return json_object_get_int64(v);
}

bool json_get_bool(json_object *o, const char *key, bool fallback) {
        json_object *v = json_get(o, key);

        return json_object_is_type(v, json_type_boolean) ? json_object_get_boolean(v) : fallback;
}

int json_put(json_object *o, const char *key, json_object *value) {
        if (json_object_object_add(o, key, value) < 0) {
                json_object_put(value);
                return -ENOMEM;
        }
        return 0;
}

static int json_put_new(json_object *o, const char *key, json_object *value) {
        return value ? json_put(o, key, value) : -ENOMEM;
}

int json_put_string(json_object *o, const char *key, const char *s) {
        return s ? json_put_new(o, key, json_object_new_string(s)) : json_put_null(o, key);
}

int json_put_string_len(json_object *o, const char *key, const char *s, size_t n) {
        return n > INT_MAX ? -E2BIG : json_put_new(o, key, json_object_new_string_len(s, (int) n));
}

int json_put_int(json_object *o, const char *key, int64_t v) {
        return json_put_new(o, key, json_object_new_int64(v));
}

int json_put_bool(json_object *o, const char *key, bool v) {
        return json_put_new(o, key, json_object_new_boolean(v));
}

int json_put_null(json_object *o, const char *key) {
        return json_put(o, key, NULL);
}

const char* json_text(json_object *o, size_t *ret_size) {
        size_t size;
        const char *s = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
                                                          &size);

        if (s && ret_size)
                *ret_size = size;
        return s;
}

int json_append_line(StrBuf *b, json_object *o) {
        const char *text;
        size_t size;
        int r;

        text = json_text(o, &size);
        if (!text)
                return -ENOMEM;
        r = strbuf_append(b, text, size);
        return r < 0 ? r : strbuf_append(b, "\n", 1);
}

char* toml_quote(const char *s) {
        _cleanup_json_ json_object *o = json_object_new_string(s);
        const char *text = o ? json_text(o, NULL) : NULL, *del;
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = text ? 0 : -ENOMEM;

        while (r >= 0 && (del = strchr(text, 0x7f))) {
                r = strbuf_append(&b, text, (size_t) (del - text));
                if (r >= 0)
                        r = strbuf_puts(&b, "\\u007f");
                text = del + 1;
        }
        if (r >= 0)
                r = strbuf_puts(&b, text);
        return r < 0 ? NULL : strbuf_take(&b);
}
