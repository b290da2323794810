/* SPDX-License-Identifier: MIT */

/* What a program says a line at a time becomes JSON of a bearable size. */

#include "harness-driver.h"

/* json-c needs some two hundred bytes for a value of two. */
#define VALUES_MAX 500000U
/* A line that is no JSON is worth a warning; one that may have been a whole answer is worth an end. */
#define GARBAGE_MAX KIB(64)
#define DEPTH_MAX 200U

int harness_text_of(json_object *o, char **ret) {
        const char *s;
        size_t size, n = 0;
        char *text;

        *ret = NULL;
        if (!json_object_is_type(o, json_type_string))
                return 0;

        s = json_object_get_string(o);
        size = (size_t) json_object_get_string_len(o);
        text = malloc(size + 1);
        if (!text)
                return -ENOMEM;
        for (size_t i = 0; i < size; i++)
                if (s[i] != 0)
                        text[n++] = s[i];
        text[n] = 0;
        *ret = text;
        return 0;
}

/* A line may have 16 MiB; made of small values, it would take gigabytes when it is parsed. */
static bool json_is_moderate(const char *line, size_t size) {
        size_t n = 0;

        for (size_t i = 0; i < size; i++)
                if (line[i] == '"') {
                        for (i++; i < size && line[i] != '"'; i++)
                                if (line[i] == '\\')
                                        i++;
                } else if (strchr(",:[{", line[i]) && line[i] != 0)
                        n++;
        return n <= VALUES_MAX;
}

int harness_parse(const char *line, size_t size, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        if (!json_is_moderate(line, size))
                return -EBADMSG;
        r = json_parse_deep(line, size, DEPTH_MAX, &o);
        if (r < 0)
                return r;
        if (!json_object_is_type(o, json_type_object))
                return -EBADMSG;
        *ret = TAKE_PTR(o);
        return 0;
}

int harness_take_object(Harness *h, const char *line, size_t size, int (*take)(Harness *h, json_object *o)) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        if (strspn(line, " \t\r") == size)
                return 0;
        r = harness_parse(line, size, &o);
        if (r == -EBADMSG && size > GARBAGE_MAX) {
                harness_warn(h, "A line of %zu bytes of its output is not JSON.", size);
                return harness_end_turn(h, &(HarnessResult) {
                        .outcome = HARNESS_PROTOCOL,
                        .message = "A long line of its output is not JSON.",
                        .started = true,
                });
        }
        if (r == -EBADMSG) {
                harness_warn(h, "A line of its output is not JSON: %s", line);
                return 0;
        }
        return r < 0 ? r : take(h, o);
}
