/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <math.h>

#include "tool-internal.h"

#define NAME_SHOWN_MAX 60U

static int refuse(char **reterr, const char *name, const char *what) {
        _cleanup_free_ char *shown = str_printable(name, NAME_SHOWN_MAX);

        *reterr = shown ? asprintf_new("%s %s", shown, what) : NULL;
        return *reterr ? -EINVAL : -ENOMEM;
}

static int take_string(json_object *value, json_object **ret) {
        if (!json_object_is_type(value, json_type_string))
                return -EINVAL;
        if (strlen(json_object_get_string(value)) != (size_t) json_object_get_string_len(value))
                return -EILSEQ;
        *ret = json_object_get(value);
        return 0;
}

/* "20", also with a sign and blanks around it. */
static int parse_decimal(const char *s, int64_t *ret) {
        const char *digits;
        char *end;

        s += strspn(s, " \t\r\n");
        digits = s + (*s == '-' || *s == '+');
        if (!isdigit((unsigned char) *digits))
                return -EINVAL;
        errno = 0;
        *ret = strtoll(s, &end, 10);
        if (errno != 0 || end[strspn(end, " \t\r\n")] != 0)
                return -EINVAL;
        return 0;
}

static int take_integer(json_object *value, json_object **ret) {
        int64_t v;
        double d;
        int r;

        switch (json_object_get_type(value)) {
        case json_type_int:
                v = json_object_get_int64(value);
                break;
        case json_type_double:
                d = json_object_get_double(value);
                if (!(fabs(d) <= 0x1p53) || d != trunc(d))
                        return -EINVAL;
                v = (int64_t) d;
                break;
        case json_type_string:
                r = parse_decimal(json_object_get_string(value), &v);
                if (r < 0)
                        return r;
                break;
        default:
                return -EINVAL;
        }

        *ret = json_object_new_int64(v);
        return *ret ? 0 : -ENOMEM;
}

/* A list or map, or its JSON text. */
static int take_container(json_object *value, json_type type, json_object **ret) {
        _cleanup_json_ json_object *parsed = NULL;
        int r;

        if (json_object_is_type(value, json_type_string)) {
                r = json_parse(json_object_get_string(value), (size_t) json_object_get_string_len(value), &parsed);
                if (r < 0)
                        return r == -ENOMEM ? r : -EINVAL;
                value = parsed;
        }
        if (!json_object_is_type(value, type))
                return -EINVAL;

        if (type == json_type_array) {
                for (size_t i = 0; i < json_object_array_length(value); i++) {
                        _cleanup_json_ json_object *item = NULL;

                        r = take_string(json_object_array_get_idx(value, i), &item);
                        if (r < 0)
                                return r;
                }
        } else {
                json_object_object_foreach(value, key, item) {
                        _cleanup_json_ json_object *copy = NULL;

                        (void) key;
                        r = take_string(item, &copy);
                        if (r < 0)
                                return r;
                }
        }

        *ret = json_object_get(value);
        return 0;
}

static int take_value(const char *name, const char *type, json_object *value, json_object **ret, char **reterr) {
        static const struct {
                const char *type, *expected;
                json_type json;
        } types[] = {
                { "string", "must be a string", json_type_string },
                { "integer", "must be an integer", json_type_int },
                { "array", "must be a list of strings", json_type_array },
                { "object", "must be an object whose members are strings", json_type_object },
        };

        for (size_t i = 0; i < ELEMENTSOF(types); i++) {
                int r;

                if (!streq(type, types[i].type))
                        continue;
                if (types[i].json == json_type_string)
                        r = take_string(value, ret);
                else if (types[i].json == json_type_int)
                        r = take_integer(value, ret);
                else
                        r = take_container(value, types[i].json, ret);
                if (r == -EILSEQ)
                        return refuse(reterr, name, "contains a NUL character");
                return r == -EINVAL ? refuse(reterr, name, types[i].expected) : r;
        }
        assert(!"a type that this schema must not use");
        return -EINVAL;
}

static bool is_required(json_object *schema, const char *name) {
        json_object *required = json_get(schema, "required");

        for (size_t i = 0; required && i < json_object_array_length(required); i++)
                if (streq(json_object_get_string(json_object_array_get_idx(required, i)), name))
                        return true;
        return false;
}

static int take_argument(json_object *schema, json_object *given, const char *name, json_object *property,
                         json_object *arguments, char **reterr) {
        json_object *value = json_get(given, name), *checked = NULL;
        int r;

        if (value) {
                r = take_value(name, json_get_string(property, "type"), value, &checked, reterr);
                if (r < 0)
                        return r;
        } else if (is_required(schema, name))
                return refuse(reterr, name, "is required");
        else
                checked = json_object_get(json_get(property, "default"));

        return checked ? json_put(arguments, name, checked) : 0;
}

int tool_arguments_check(json_object *schema, json_object *given, json_object **ret, char **reterr) {
        json_object *properties = json_get(schema, "properties");
        _cleanup_json_ json_object *arguments = NULL;
        int r;

        if (given && !json_object_is_type(given, json_type_object))
                return refuse(reterr, "the arguments", "must be an object");
        arguments = json_object_new_object();
        if (!arguments)
                return -ENOMEM;

        if (given) {
                json_object_object_foreach(given, name, value) {
                        (void) value;
                        if (!json_get(properties, name))
                                return refuse(reterr, name, "is not an argument of this tool");
                }
        }
        {
                json_object_object_foreach(properties, name, property) {
                        r = take_argument(schema, given, name, property, arguments, reterr);
                        if (r < 0)
                                return r;
                }
        }

        *ret = TAKE_PTR(arguments);
        return 0;
}

const char* tool_string(ToolCall *c, const char *name) {
        return strempty(json_get_string(c->arguments, name));
}

int64_t tool_int(ToolCall *c, const char *name) {
        return json_get_int(c->arguments, name, 0);
}

int tool_trim(const char *s, char **ret) {
        size_t n;

        s += strspn(s, " \t\r\n\v\f");
        for (n = strlen(s); n > 0 && strchr(" \t\r\n\v\f", s[n - 1]); n--)
                ;
        *ret = memdup0(s, n);
        return *ret ? 0 : -ENOMEM;
}

int tool_trimmed(ToolCall *c, const char *name, char **ret) {
        return tool_trim(tool_string(c, name), ret);
}
