/* SPDX-License-Identifier: MIT */

#include <yaml.h>

#include "string-util.h"
#include "yaml-internal.h"

/* From libyaml's events to our tree. Aliases are refused, so a small text cannot become a large tree. */

#define CORE_TAG(name) "tag:yaml.org,2002:" name

typedef struct Parser {
        yaml_parser_t yaml;
        yaml_event_t event;
        char *error;
        unsigned depth;
} Parser;

static void parser_done(Parser *p) {
        yaml_event_delete(&p->event);
        yaml_parser_delete(&p->yaml);
        free(p->error);
}

static unsigned parser_line(const Parser *p) {
        return (unsigned) p->event.start_mark.line + 1;
}

static int parser_fail(Parser *p, unsigned line, const char *what) {
        free(p->error);
        p->error = asprintf_new("%u: %s", line, what);
        return p->error ? -EBADMSG : -ENOMEM;
}

/* The reader knows only the offset of what it does not like, the scanner and the parser know lines. */
static int parser_fail_yaml(Parser *p, const char *text) {
        unsigned line = (unsigned) p->yaml.problem_mark.line + 1;

        if (p->yaml.error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        if (p->yaml.error == YAML_READER_ERROR) {
                line = 1;
                for (size_t i = 0; i < p->yaml.problem_offset; i++)
                        line += text[i] == '\n';
        }
        return parser_fail(p, line, p->yaml.problem ?: "not YAML");
}

static int parser_next(Parser *p, const char *text) {
        yaml_event_delete(&p->event);
        return yaml_parser_parse(&p->yaml, &p->event) ? 0 : parser_fail_yaml(p, text);
}

static int scalar_from_event(Parser *p, YamlNode **ret) {
        static const struct {
                const char *tag;
                YamlType type;
        } tags[] = {
                { CORE_TAG("null"), YAML_TYPE_NULL }, { CORE_TAG("bool"), YAML_TYPE_BOOL },
                { CORE_TAG("int"), YAML_TYPE_INT },   { CORE_TAG("float"), YAML_TYPE_FLOAT },
        };
        _cleanup_(yaml_node_freep) YamlNode *n = NULL;
        const char *tag = (const char*) p->event.data.scalar.tag, *text = (const char*) p->event.data.scalar.value;
        size_t size = p->event.data.scalar.length;
        int r;

        if (memchr(text, 0, size))
                return parser_fail(p, parser_line(p), "a text with a NUL in it");

        r = yaml_node_new(&n, YAML_SCALAR, parser_line(p));
        if (r < 0)
                return r;
        n->scalar = memdup0(text, size);
        if (!n->scalar)
                return -ENOMEM;
        n->plain = p->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

        if (tag && (streq(tag, "!") || streq(tag, CORE_TAG("str"))))
                n->plain = false;
        else if (tag) {
                size_t i;

                for (i = 0; i < ELEMENTSOF(tags); i++)
                        if (streq(tag, tags[i].tag) && yaml_type_resolve(text) == tags[i].type)
                                break;
                if (i == ELEMENTSOF(tags))
                        return parser_fail(p, parser_line(p),
                                           "a tag that is not supported, or does not fit its value");
                n->plain = true;
        }

        *ret = TAKE_PTR(n);
        return 0;
}

static int node_from_event(Parser *p, const char *text, YamlNode **ret);

static int sequence_from_events(Parser *p, const char *text, YamlNode *n) {
        for (;;) {
                _cleanup_(yaml_node_freep) YamlNode *item = NULL;
                int r;

                r = parser_next(p, text);
                if (r < 0)
                        return r;
                if (p->event.type == YAML_SEQUENCE_END_EVENT)
                        return 0;

                r = node_from_event(p, text, &item);
                if (r >= 0)
                        r = yaml_sequence_append(n, item);
                if (r < 0)
                        return r;
                TAKE_PTR(item);
        }
}

static int mapping_key_check(Parser *p, const YamlNode *n, const YamlNode *key) {
        _cleanup_free_ char *what = NULL, *shown = NULL;
        const YamlPair *twin;

        if (key->kind != YAML_SCALAR)
                return parser_fail(p, key->line, "a key that is no plain text");
        if (key->plain && yaml_type_resolve(key->scalar) == YAML_TYPE_SPECIAL)
                return parser_fail(p, key->line, "merge keys are not supported");

        if (n->n >= YAML_KEYS_MAX)
                return parser_fail(p, key->line, "too many keys (at most " STRINGIFY(YAML_KEYS_MAX) ")");

        twin = yaml_mapping_find(n, key->scalar);
        if (!twin)
                return 0;

        shown = str_printable(key->scalar, 40);
        what = shown ? asprintf_new("'%s' is there twice, first in line %u", shown, twin->line) : NULL;
        return what ? parser_fail(p, key->line, what) : -ENOMEM;
}

static int mapping_from_events(Parser *p, const char *text, YamlNode *n) {
        for (;;) {
                _cleanup_(yaml_node_freep) YamlNode *key = NULL, *value = NULL;
                int r;

                r = parser_next(p, text);
                if (r < 0)
                        return r;
                if (p->event.type == YAML_MAPPING_END_EVENT)
                        return 0;

                r = node_from_event(p, text, &key);
                if (r >= 0)
                        r = mapping_key_check(p, n, key);
                if (r >= 0)
                        r = parser_next(p, text);
                if (r >= 0)
                        r = node_from_event(p, text, &value);
                if (r >= 0)
                        r = yaml_mapping_append(n, key->scalar, key->line, key->plain, value);
                if (r < 0)
                        return r;
                TAKE_PTR(value);
        }
}

static int collection_from_event(Parser *p, const char *text, YamlKind kind, YamlNode **ret) {
        const char *tag = (const char*) (kind == YAML_SEQUENCE ? p->event.data.sequence_start.tag :
                                                                 p->event.data.mapping_start.tag);
        _cleanup_(yaml_node_freep) YamlNode *n = NULL;
        int r;

        if (tag && !streq(tag, kind == YAML_SEQUENCE ? CORE_TAG("seq") : CORE_TAG("map")))
                return parser_fail(p, parser_line(p), "a tag that is not supported, or does not fit its value");
        if (p->depth >= YAML_DEPTH_MAX)
                return parser_fail(p, parser_line(p),
                                   "nested too deeply (at most " STRINGIFY(YAML_DEPTH_MAX) " levels)");

        r = yaml_node_new(&n, kind, parser_line(p));
        if (r < 0)
                return r;

        p->depth++;
        r = kind == YAML_SEQUENCE ? sequence_from_events(p, text, n) : mapping_from_events(p, text, n);
        p->depth--;
        if (r < 0)
                return r;

        *ret = TAKE_PTR(n);
        return 0;
}

/* Builds the node that the present event begins. */
static int node_from_event(Parser *p, const char *text, YamlNode **ret) {
        const yaml_char_t *anchor = NULL;

        switch (p->event.type) {
        case YAML_SCALAR_EVENT:
                anchor = p->event.data.scalar.anchor;
                break;
        case YAML_SEQUENCE_START_EVENT:
                anchor = p->event.data.sequence_start.anchor;
                break;
        case YAML_MAPPING_START_EVENT:
                anchor = p->event.data.mapping_start.anchor;
                break;
        case YAML_ALIAS_EVENT:
                anchor = p->event.data.alias.anchor;
                break;
        default:
                return parser_fail(p, parser_line(p), "a value is missing");
        }
        if (anchor)
                return parser_fail(p, parser_line(p), "anchors and aliases (&, *) are not supported");

        if (p->event.type == YAML_SCALAR_EVENT)
                return scalar_from_event(p, ret);
        return collection_from_event(p, text,
                                     p->event.type == YAML_SEQUENCE_START_EVENT ? YAML_SEQUENCE : YAML_MAPPING, ret);
}

static int document_from_events(Parser *p, const char *text, YamlNode **ret) {
        _cleanup_(yaml_node_freep) YamlNode *root = NULL;
        int r;

        r = parser_next(p, text);       /* start of the stream */
        if (r >= 0)
                r = parser_next(p, text);
        if (r < 0)
                return r;
        if (p->event.type == YAML_STREAM_END_EVENT)
                return yaml_node_new(ret, YAML_MAPPING, 1);

        r = parser_next(p, text);
        if (r >= 0)
                r = node_from_event(p, text, &root);
        if (r >= 0)
                r = parser_next(p, text);       /* end of the document */
        if (r >= 0)
                r = parser_next(p, text);
        if (r < 0)
                return r;
        if (p->event.type != YAML_STREAM_END_EVENT)
                return parser_fail(p, parser_line(p), "a second document; expected one only");

        if (yaml_node_is_null(root))
                return yaml_node_new(ret, YAML_MAPPING, 1);
        if (root->kind != YAML_MAPPING)
                return parser_fail(p, root->line, "the top level is no mapping; expected lines of 'key: value'");

        *ret = TAKE_PTR(root);
        return 0;
}

int yaml_document_parse(YamlDocument **ret, const char *text, size_t size, char **reterr) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        _cleanup_(parser_done) Parser p = {};
        int r;

        if (!yaml_parser_initialize(&p.yaml))
                return -ENOMEM;
        d = new0(YamlDocument, 1);
        if (!d)
                return -ENOMEM;

        if (size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
                text += 3;
                size -= 3;
        }
        yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(&p.yaml, (const unsigned char*) text, size);

        r = size > YAML_SIZE_MAX ? parser_fail(&p, 1, "larger than 1 MiB") : document_from_events(&p, text, &d->root);
        if (r < 0) {
                if (r == -EBADMSG)
                        *reterr = TAKE_PTR(p.error);
                return r;
        }

        *ret = TAKE_PTR(d);
        return 0;
}
