/* SPDX-License-Identifier: MIT */

/* Tools, as far as the dialects have them in common (provider-apis §7). */

#include "model-driver.h"

#define NAME_PREFIX "mcp__puffo__"
#define NAME_MAX_CHARS 64U      /* OpenAI's limit */
#define ID_PREFIX "puffo_"

bool model_text_is_blank(const char *s) {
        return !s || s[strspn(s, " \t\r\n\f\v")] == 0;
}

bool model_tool_id_is_ours(const char *id) {
        return startswith(id, ID_PREFIX);
}

char* model_tool_wire_name(const char *name) {
        char *wire = strjoin(NAME_PREFIX, name);

        if (!wire)
                return NULL;
        for (char *p = wire; *p; p++) {
                bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9');

                if (!plain && *p != '_' && *p != '-')
                        *p = '_';
                if (p - wire == NAME_MAX_CHARS) {
                        *p = 0;
                        break;
                }
        }
        return wire;
}

json_object* model_tool_arguments(const char *arguments) {
        _cleanup_json_ json_object *o = NULL;
        int r = 0;

        if (!model_text_is_blank(arguments))
                r = json_parse(arguments, strlen(arguments), &o);
        if (r == -ENOMEM)
                return NULL;
        return json_object_is_type(o, json_type_object) ? TAKE_PTR(o) : json_object_new_object();
}

static int model_tool_schema(const ModelTool *tool, json_object **ret) {
        int r = json_parse(tool->schema, strlen(tool->schema), ret);

        return r == -EBADMSG ? -EINVAL : r;
}

int model_tool_declare(const ModelTool *tool, const char *key, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object(), *schema = NULL;
        _cleanup_free_ char *name = model_tool_wire_name(tool->name);
        int r;

        if (!o || !name)
                return -ENOMEM;
        r = model_tool_schema(tool, &schema);
        if (r >= 0)
                r = json_put_string(o, "name", name);
        if (r >= 0)
                r = json_put_string(o, "description", tool->description);
        if (r >= 0)
                r = json_put(o, key, TAKE_PTR(schema));
        if (r < 0)
                return r;

        *ret = TAKE_PTR(o);
        return 0;
}

/* ---- parts of a reply ---- */

int model_part_begin(ModelCall *c, ModelPartKind kind, int64_t index, ModelPart **ret) {
        ModelPart *parts;
        size_t n_calls = 0;

        *ret = NULL;
        if (!c->offered)
                return 0;
        for (size_t i = 0; i < c->n_parts; i++)
                n_calls += c->parts[i].kind == MODEL_PART_CALL;
        /* Other parts come between calls: a few each. */
        if ((kind == MODEL_PART_CALL && n_calls >= MODEL_CALLS_MAX) || c->n_parts >= 64 * MODEL_CALLS_MAX)
                return -E2BIG;
        parts = reallocarray(c->parts, c->n_parts + 1, sizeof(ModelPart));
        if (!parts)
                return -ENOMEM;
        c->parts = parts;
        parts[c->n_parts] = (ModelPart) { .kind = kind, .index = index };
        *ret = parts + c->n_parts++;
        return 0;
}

/* Clean enough to be stored and sent again: it is no secret and means nothing to us. */
static int part_set_id(ModelCall *c, ModelPart *p, const char *id) {
        _cleanup_free_ char *random = NULL;

        for (size_t i = 0; i < c->n_parts; i++)
                if (c->parts + i != p && streq_ptr(c->parts[i].id, id))
                        id = NULL;
        if (!isempty(id) && strlen(id) <= 256 && !model_tool_id_is_ours(id)) {
                p->id = strdup(id);
                return p->id ? 0 : -ENOMEM;
        }
        random = random_hex(8);
        p->id = random ? strjoin(ID_PREFIX, random) : NULL;
        return p->id ? 0 : -ENOMEM;
}

int model_part_begin_call(ModelCall *c, int64_t index, const char *id, const char *name, ModelPart **ret) {
        ModelPart *p;
        int r;

        r = model_part_begin(c, MODEL_PART_CALL, index, &p);
        if (r >= 0 && p) {
                name = strempty(name);
                r = part_set_id(c, p, id);
                if (r >= 0) {
                        p->name = strndup(startswith(name, NAME_PREFIX) ?: name, 128);
                        r = p->name ? 0 : -ENOMEM;
                }
                if (r >= 0)
                        (void) utf8_repair(p->name);
        }
        *ret = p;
        return r;
}

ModelPart* model_part_find(ModelCall *c, ModelPartKind kind, int64_t index) {
        for (size_t i = c->n_parts; i > 0; i--)
                if (c->parts[i - 1].kind == kind && c->parts[i - 1].index == index)
                        return c->parts + i - 1;
        return NULL;
}

static int part_append(ModelCall *c, ModelPart *p, const char *text, size_t size) {
        if (p->preset) {
                c->parts_size -= p->text.size;
                strbuf_done(&p->text);
                p->preset = false;
        }
        if (size > MODEL_STEP_SIZE_MAX - c->parts_size ||
            (p->kind == MODEL_PART_CALL && size > MODEL_ARGUMENTS_MAX - p->text.size))
                return -E2BIG;
        c->parts_size += size;
        return strbuf_append(&p->text, text, size);
}

int model_part_add(ModelCall *c, ModelPart *p, json_object *string) {
        const char *text;
        size_t size;

        if (!p || !json_object_is_type(string, json_type_string))
                return 0;
        text = json_object_get_string(string);
        size = (size_t) json_object_get_string_len(string);
        if (size == 0)
                return 0;
        /* As in the reply, NULs are left out. */
        for (const char *end = text + size; text < end; ) {
                const char *nul = memchr(text, 0, (size_t) (end - text)) ?: end;
                int r = nul > text ? part_append(c, p, text, (size_t) (nul - text)) : 0;

                if (r < 0)
                        return r;
                text = nul + 1;
        }
        return 0;
}

int model_part_set_arguments(ModelCall *c, ModelPart *p, json_object *o, bool preset) {
        const char *text;
        size_t size;
        int r;

        if (!p || !json_object_is_type(o, json_type_object) || json_object_object_length(o) == 0)
                return 0;
        text = json_text(o, &size);
        if (!text)
                return -ENOMEM;
        r = part_append(c, p, text, size);
        p->preset = preset;
        return r;
}

int model_part_put_extra(ModelCall *c, ModelPart *p, const char *key, json_object *value) {
        size_t size;

        if (!p || !value)
                return 0;
        if (!json_text(value, &size))
                return -ENOMEM;
        if (size > MODEL_STEP_SIZE_MAX - c->parts_size)
                return -E2BIG;
        c->parts_size += size;
        if (!p->extra) {
                p->extra = json_object_new_object();
                if (!p->extra)
                        return -ENOMEM;
        }
        return json_put(p->extra, key, json_object_get(value));
}

void model_call_free_parts(ModelCall *c) {
        for (size_t i = 0; i < c->n_parts; i++) {
                free(c->parts[i].id);
                free(c->parts[i].name);
                strbuf_done(&c->parts[i].text);
                (void) json_object_put(c->parts[i].extra);
        }
        free(c->parts);
        free(c->calls);
        free(c->opaque);
}

static int put_opaque(ModelCall *c) {
        _cleanup_json_ json_object *o = NULL, *content = NULL;
        const char *text;
        size_t size;
        int r;

        r = c->driver->opaque(c, &content);
        if (r < 0 || !content)
                return r;
        o = json_object_new_object();
        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "dialect", c->driver->name);
        if (r >= 0)
                r = json_put(o, "content", TAKE_PTR(content));
        if (r < 0)
                return r;
        text = json_text(o, &size);
        c->opaque = text ? memdup0(text, size) : NULL;
        return c->opaque ? 0 : -ENOMEM;
}

int model_opaque_parse(const char *opaque, const ModelDriver *driver, json_object **ret) {
        _cleanup_json_ json_object *o = NULL;
        int r;

        *ret = NULL;
        if (isempty(opaque))
                return 0;
        r = json_parse(opaque, strlen(opaque), &o);
        if (r == -ENOMEM)
                return r;
        /* Of another provider, whose agent has moved here in the middle of a turn: it goes on without. */
        if (r >= 0 && streq_ptr(json_get_string(o, "dialect"), driver->name))
                *ret = json_object_get(json_get(o, "content"));
        return 0;
}

int model_call_finish_tools(ModelCall *c) {
        size_t n = 0;
        int r;

        for (size_t i = 0; i < c->n_parts; i++)
                n += c->parts[i].kind == MODEL_PART_CALL;
        if (n == 0 || c->result.stop == MODEL_STOP_REFUSAL)
                return 0;
        c->result.call_cut = c->result.stop == MODEL_STOP_LENGTH;
        if (c->result.call_cut)
                return 0;

        c->calls = new0(ModelToolCall, n);
        if (!c->calls)
                return -ENOMEM;
        n = 0;
        for (size_t i = 0; i < c->n_parts; i++)
                if (c->parts[i].kind == MODEL_PART_CALL)
                        c->calls[n++] = (ModelToolCall) {
                                .id = c->parts[i].id, .name = c->parts[i].name,
                                .arguments = strempty(c->parts[i].text.text),
                        };
        r = put_opaque(c);
        if (r < 0)
                return r;
        r = model_call_stop(c, MODEL_STOP_TOOLS, NULL);
        c->result.calls = c->calls;
        c->result.n_calls = n;
        c->result.opaque = c->opaque;
        return r;
}

bool model_error_is_tools_refused(long status, ModelErrorKind kind, const char *message) {
        static const char *const signs[] = { "tool", "function call" };

        /* 404: routers that find no server with tools for the model; 500, 501: local servers without a parser. */
        if (status != 400 && status != 404 && status != 422 && status != 500 && status != 501)
                return false;
        if (kind == MODEL_ERROR_AUTH || kind == MODEL_ERROR_BILLING || kind == MODEL_ERROR_CONTEXT_LENGTH)
                return false;
        for (size_t i = 0; message && i < ELEMENTSOF(signs); i++)
                if (strcasestr(message, signs[i]))
                        return true;
        return false;
}
