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

void hands_options_done(HandsOptions *o) {
        (void) json_object_put(o->document);
        (void) strv_free(o->images);
        *o = (HandsOptions) {};
}

/* The document is the request, as the gateway has stored it: what is asked of the answer stands in it. */
int hands_options_read(const TurnRow *row, HandsOptions *ret) {
        _cleanup_(hands_options_done) HandsOptions o = {};
        json_object *response, *format, *schema;
        int r;

        r = read_json(row->document, &o.document);
        if (r >= 0)
                r = list_images(row->files, &o.images);
        if (r < 0)
                return r;
        response = json_get(o.document, "response");
        format = json_get(json_get(response, "text"), "format");
        schema = json_get(format, "schema");
        if (streq_ptr(json_get_string(format, "type"), "json_schema") && json_object_is_type(schema, json_type_object))
                o.options.output_schema = json_text(schema, NULL);
        o.options.effort = json_get_string(json_get(response, "reasoning"), "effort");
        o.options.images = o.images;
        *ret = o;
        o = (HandsOptions) {};
        return 0;
}

int hands_options_use(Hands *h) {
        _cleanup_(hands_options_done) HandsOptions o = {};
        int r = hands_options_read(h->row, &o);

        return r < 0 ? r : harness_set_options(h->driver, &o.options);
}
