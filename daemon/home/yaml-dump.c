/* SPDX-License-Identifier: MIT */

#include <sodium.h>
#include <yaml.h>

#include "string-util.h"
#include "yaml-internal.h"

/* What is written may hold keys, so the buffer is wiped wherever it is left behind, growing included. */
typedef struct Output {
        char *text;
        size_t size, allocated;
} Output;

static void output_done(Output *o) {
        if (o->text)
                sodium_memzero(o->text, o->allocated);
        free(o->text);
}

static int output_write(void *userdata, unsigned char *data, size_t size) {
        Output *o = userdata;

        if (o->allocated - o->size <= size) {
                Output grown = { .size = o->size, .allocated = o->allocated * 2 + size + KIB(4) };

                grown.text = malloc(grown.allocated);
                if (!grown.text)
                        return 0;
                if (o->size > 0)
                        memcpy(grown.text, o->text, o->size);
                output_done(o);
                *o = grown;
        }

        memcpy(o->text + o->size, data, size);
        o->size += size;
        o->text[o->size] = 0;
        return 1;
}

static bool emit_scalar(yaml_emitter_t *e, const char *text, bool plain) {
        YamlType type = yaml_type_resolve(text);
        yaml_event_t event;

        /* An empty plain scalar would become a quoted one, a string, in some places. */
        if (plain && *text == 0)
                text = "null";

        return yaml_scalar_event_initialize(&event, NULL, NULL, (const yaml_char_t*) text, (int) strlen(text),
                                            /* plain_implicit= */ plain || type == YAML_TYPE_STRING,
                                            /* quoted_implicit= */ 1, YAML_ANY_SCALAR_STYLE) &&
               yaml_emitter_emit(e, &event);
}

static bool emit_node(yaml_emitter_t *e, const YamlNode *n) {
        yaml_event_t event;

        switch (n->kind) {
        case YAML_SCALAR:
                return emit_scalar(e, n->scalar, n->plain);

        case YAML_SEQUENCE:
                if (!yaml_sequence_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE) ||
                    !yaml_emitter_emit(e, &event))
                        return false;
                for (size_t i = 0; i < n->n; i++)
                        if (!emit_node(e, n->items[i]))
                                return false;
                return yaml_sequence_end_event_initialize(&event) && yaml_emitter_emit(e, &event);

        case YAML_MAPPING:
                if (!yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE) ||
                    !yaml_emitter_emit(e, &event))
                        return false;
                for (size_t i = 0; i < n->n; i++)
                        if (!emit_scalar(e, n->pairs[i].key, n->pairs[i].plain) || !emit_node(e, n->pairs[i].value))
                                return false;
                return yaml_mapping_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
        }
        return false;
}

static bool emit_document(yaml_emitter_t *e, const YamlNode *root) {
        yaml_event_t event;

        return yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING) && yaml_emitter_emit(e, &event) &&
               yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1) && yaml_emitter_emit(e, &event) &&
               emit_node(e, root) &&
               yaml_document_end_event_initialize(&event, 1) && yaml_emitter_emit(e, &event) &&
               yaml_stream_end_event_initialize(&event) && yaml_emitter_emit(e, &event);
}

int yaml_document_dump(const YamlDocument *d, char **ret, size_t *ret_size) {
        _cleanup_(yaml_emitter_delete) yaml_emitter_t e = {};
        _cleanup_(output_done) Output o = {};

        if (!yaml_emitter_initialize(&e))
                return -ENOMEM;

        yaml_emitter_set_output(&e, output_write, &o);
        yaml_emitter_set_unicode(&e, 1);
        if (!emit_document(&e, d->root))
                return e.error == YAML_MEMORY_ERROR || e.error == YAML_WRITER_ERROR ? -ENOMEM : -EINVAL;

        *ret = TAKE_PTR(o.text);
        if (ret_size)
                *ret_size = o.size;
        return 0;
}
