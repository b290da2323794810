/* SPDX-License-Identifier: MIT */

#include <ctype.h>

#include "attachment.h"
#include "envelope.h"
#include "record.h"
#include "string-util.h"

/* ---- content ---- */

/* "", but for what is there. */
static char* json_as_text(json_object *o) {
        if (!o || json_object_is_type(o, json_type_null) ||
            (json_object_is_type(o, json_type_boolean) && !json_object_get_boolean(o)) ||
            (json_object_is_type(o, json_type_int) && json_object_get_int64(o) == 0) ||
            (json_object_is_type(o, json_type_array) && json_object_array_length(o) == 0) ||
            (json_object_is_type(o, json_type_object) && json_object_object_length(o) == 0))
                return strdup("");
        if (json_object_is_type(o, json_type_string))
                return strdup(json_object_get_string(o));
        return strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static bool has_attachments(const StoredMessage *m) {
        return streq_ptr(m->content_type, CONTENT_TYPE_ATTACHMENTS);
}

char* record_text(const StoredMessage *m) {
        _cleanup_json_ json_object *o = NULL;
        json_object *text = NULL;

        /* Text that happens to be JSON is text (P-5). */
        if (streq_ptr(m->content_type, CONTENT_TYPE_TEXT) || json_parse(m->content, strlen(m->content), &o) < 0)
                return strdup(m->content);
        if (has_attachments(m) && json_object_is_type(o, json_type_object)) {
                (void) json_object_object_get_ex(o, "text", &text);
                return json_as_text(text);
        }
        return json_as_text(o);
}

json_object* record_attachments(const StoredMessage *m, json_object **ret_content) {
        _cleanup_json_ json_object *o = NULL;
        json_object *list;

        *ret_content = NULL;
        if (!has_attachments(m) || json_parse(m->content, strlen(m->content), &o) < 0 ||
            !json_object_object_get_ex(o, "attachments", &list) || !json_object_is_type(list, json_type_array) ||
            json_object_array_length(list) == 0)
                return NULL;
        *ret_content = TAKE_PTR(o);
        return list;
}

/* ---- mentions ---- */

static bool goes_on(char c) {
        return isalnum((unsigned char) c) || c == '_' || c == '-';
}

/* The next mention from s on. */
static const char* find_mention(const char *s, const char *slug) {
        size_t n = strlen(slug);

        for (; n > 0 && (s = strchr(s, '@')); s++)
                if (strncmp(s + 1, slug, n) == 0 && !goes_on(s[1 + n]))
                        return s;
        return NULL;
}

bool record_mentions(const char *text, const char *slug) {
        return find_mention(text, slug);
}

char* record_mark_mentions(const char *text, const char *slug) {
        _cleanup_(strbuf_done) StrBuf b = {};
        static const char blanks[] = " \t\r\n\v\f";
        const char *next;
        int r = 0;

        if (!find_mention(text, slug))
                return strdup(text);
        text += strspn(text, blanks);
        while (r >= 0 && (next = find_mention(text, slug))) {
                r = strbuf_append(&b, text, (size_t) (next - text));
                if (r >= 0)
                        r = strbuf_printf(&b, "@you(%s)", slug);
                text = next + 1 + strlen(slug);
        }
        if (r >= 0)
                r = strbuf_puts(&b, text);
        if (r < 0)
                return NULL;
        while (b.size > 0 && strchr(blanks, b.text[b.size - 1]))
                b.text[--b.size] = '\0';
        return strbuf_take(&b);
}

/* ---- length ---- */

#define ID_SHOWN_MAX 200U

static bool begins_char(char c) {
        return ((unsigned char) c & 0xc0) != 0x80;
}

char* record_cut(const char *text, size_t max_chars, const char *envelope_id) {
        _cleanup_free_ char *id = NULL;
        size_t n_chars = 0, end = 0;

        for (const char *s = text; *s; s++) {
                if (!begins_char(*s))
                        continue;
                if (n_chars == max_chars)
                        end = (size_t) (s - text);
                n_chars++;
        }
        if (n_chars <= max_chars)
                return strdup(text);
        id = str_printable(envelope_id, ID_SHOWN_MAX);
        return !id ? NULL : asprintf_new("%.*s\n[… %zu more characters; read the rest with get_post(\"%s\")]",
                                         (int) end, text, n_chars - max_chars, id);
}

/* ---- what never was a message ---- */

int synthetic_record_format(const SyntheticRecord *s, char **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        if (r >= 0)
                r = json_put_string(o, "channel_id", strempty(s->channel_id));
        if (r >= 0)
                r = json_put_string(o, "channel_name", strempty(s->channel_name));
        if (r >= 0)
                r = json_put_string(o, "space_id", strempty(s->space_id));
        if (r >= 0)
                r = json_put_string(o, "space_name", strempty(s->space_name));
        if (r >= 0)
                r = json_put_string(o, "text", s->text);
        if (r < 0)
                return r;
        *ret = strdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
        return *ret ? 0 : -ENOMEM;
}

int synthetic_record_parse(const char *json, SyntheticRecord *ret, json_object **ret_object) {
        _cleanup_json_ json_object *o = NULL;
        int r = json_parse(json, strlen(json), &o);

        if (r == -ENOMEM)
                return r;
        if (r < 0 || !json_get_string(o, "text"))
                return -EUCLEAN;
        *ret = (SyntheticRecord) {
                .channel_id = strempty(json_get_string(o, "channel_id")),
                .channel_name = strempty(json_get_string(o, "channel_name")),
                .space_id = strempty(json_get_string(o, "space_id")),
                .space_name = strempty(json_get_string(o, "space_name")),
                .text = json_get_string(o, "text"),
        };
        *ret_object = TAKE_PTR(o);
        return 0;
}
