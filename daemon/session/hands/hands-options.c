/* SPDX-License-Identifier: MIT */

#include "hands-internal.h"
#include "json-util.h"
#include "string-util.h"

#define DEPTH_MAX 200U

/* A stored text of ours; what cannot be read counts as nothing. */
static int read_json(const char *text, json_object **ret) {
        *ret = NULL;
        return !isempty(text) && json_parse_deep(text, strlen(text), DEPTH_MAX, ret) == -ENOMEM ? -ENOMEM : 0;
}

static int list_images(const char *files, char ***ret) {
        _cleanup_json_ json_object *list = NULL;
        int r = read_json(files, &list);

        for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && r >= 0;
             i++) {
                json_object *file = json_object_array_get_idx(list, i);

                if (json_get_bool(file, "image", false) && json_get_string(file, "path"))
                        r = strv_extend(ret, json_get_string(file, "path"));
        }
        return r;
}

/* The document is the request, as the gateway has stored it: what is asked of the answer stands in it. */
int hands_options_use(Hands *h) {
        _cleanup_json_ json_object *document = NULL;
        _cleanup_(strv_freep) char **images = NULL;
        json_object *response, *format, *schema;
        HarnessOptions options = {};
        int r;

        r = read_json(h->row->document, &document);
        if (r >= 0)
                r = list_images(h->row->files, &images);
        if (r < 0)
                return r;
        response = json_get(document, "response");
        format = json_get(json_get(response, "text"), "format");
        schema = json_get(format, "schema");
        if (streq_ptr(json_get_string(format, "type"), "json_schema") && json_object_is_type(schema, json_type_object))
                options.output_schema = json_text(schema, NULL);
        options.effort = json_get_string(json_get(response, "reasoning"), "effort");
        options.images = images;
        return harness_set_options(h->driver, &options);
}
