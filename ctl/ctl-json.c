/* SPDX-License-Identifier: MIT */

/* D-Bus values as JSON. */

#include <ctype.h>

#include "ctl-bus.h"
#include "string-util.h"

/* "MainPID" → "main_pid". NULL when out of memory. */
static char* name_to_snake_case(const char *name) {
        _cleanup_(strbuf_done) StrBuf b = {};

        for (const char *p = name; *p; p++) {
                bool upper = isupper((unsigned char) *p);
                /* A word begins where lower case ends, and at the last capital of "PIDFile". */
                bool begins = upper && p > name &&
                              (!isupper((unsigned char) p[-1]) || (p[1] && islower((unsigned char) p[1])));
                char c = (char) tolower((unsigned char) *p);

                if ((begins && strbuf_puts(&b, "_") < 0) || strbuf_append(&b, &c, 1) < 0)
                        return NULL;
        }
        return strbuf_take(&b);
}

static int basic_to_json(sd_bus_message *m, char type, json_object **ret) {
        union {
                uint8_t y;
                int b;
                int16_t n;
                uint16_t q;
                int32_t i;
                uint32_t u;
                int64_t x;
                uint64_t t;
                double d;
                const char *s;
        } v;
        int r = sd_bus_message_read_basic(m, type, &v);

        if (r <= 0)
                return r < 0 ? r : -ENXIO;
        switch (type) {
        case 'y':
                *ret = json_object_new_int(v.y);
                break;
        case 'b':
                *ret = json_object_new_boolean(v.b);
                break;
        case 'n':
                *ret = json_object_new_int(v.n);
                break;
        case 'q':
                *ret = json_object_new_int(v.q);
                break;
        case 'i':
                *ret = json_object_new_int(v.i);
                break;
        case 'u':
                *ret = json_object_new_int64(v.u);
                break;
        case 'x':
                *ret = json_object_new_int64(v.x);
                break;
        case 't':
                *ret = json_object_new_uint64(v.t);
                break;
        case 'd':
                *ret = json_object_new_double(v.d);
                break;
        case 's':
        case 'o':
        case 'g':
                *ret = json_object_new_string(v.s);
                break;
        default:
                return -EBADMSG;
        }
        return *ret ? 0 : -ENOMEM;
}

static int dictionary_to_json(sd_bus_message *m, const char *contents, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r;

        if (!o)
                return -ENOMEM;
        while ((r = sd_bus_message_enter_container(m, 'e', contents)) > 0) {
                _cleanup_free_ char *key = NULL;
                json_object *value = NULL;
                const char *name;

                r = sd_bus_message_read_basic(m, contents[0], &name);
                if (r >= 0)
                        r = bus_message_to_json(m, &value);
                if (r < 0)
                        return r;
                key = name_to_snake_case(name);
                if (!key) {
                        json_object_put(value);
                        return -ENOMEM;
                }
                r = json_put(o, key, value);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int sequence_to_json(sd_bus_message *m, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_array();
        int r;

        if (!o)
                return -ENOMEM;
        while ((r = sd_bus_message_at_end(m, /* complete= */ 0)) == 0) {
                json_object *value = NULL;

                r = bus_message_to_json(m, &value);
                if (r < 0)
                        return r;
                if (json_object_array_add(o, value) < 0) {
                        json_object_put(value);
                        return -ENOMEM;
                }
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

/* {sX}, {oX}: names in front. */
static bool is_dictionary(const char *contents) {
        return contents[0] == '{' && strchr("sog", contents[1]);
}

int bus_message_to_json(sd_bus_message *m, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        const char *contents;
        char type;
        int r;

        r = sd_bus_message_peek_type(m, &type, &contents);
        if (r <= 0)
                return r < 0 ? r : -ENXIO;
        if (!strchr("avr", type))
                return basic_to_json(m, type, ret);

        r = sd_bus_message_enter_container(m, type, contents);
        if (r < 0)
                return r;
        if (type == 'v')
                r = bus_message_to_json(m, &o);
        else if (type == 'a' && is_dictionary(contents)) {
                _cleanup_free_ char *entry = memdup0(contents + 1, strlen(contents) - 2);

                r = entry ? dictionary_to_json(m, entry, &o) : -ENOMEM;
        } else
                r = sequence_to_json(m, &o);
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

int bus_append_string_option(sd_bus_message *m, const char *key, const char *value) {
        return value ? sd_bus_message_append(m, "{sv}", key, "s", value) : 0;
}

int bus_append_bool_option(sd_bus_message *m, const char *key, bool value) {
        return sd_bus_message_append(m, "{sv}", key, "b", (int) value);
}

int bus_append_number_option(sd_bus_message *m, const char *key, uint32_t value) {
        return sd_bus_message_append(m, "{sv}", key, "u", value);
}

int bus_append_strings_option(sd_bus_message *m, const char *key, char *const *values) {
        return bus_append_strings(m, 'e', key, values);
}
