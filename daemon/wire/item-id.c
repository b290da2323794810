/* SPDX-License-Identifier: MIT */

#include "envelope.h"
#include "item-id.h"
#include "signed-json.h"

/* An escaped byte is at most six. */
#define TOKEN_MAX (6U * ENVELOPE_ID_MAX)

static bool is_of_interest(const ItemId *f) {
        return f->depth == 1 || (f->depth == 2 && f->in_envelope);
}

static bool token_is(const ItemId *f, const char *text) {
        return !f->token_too_long && f->token.size == strlen(text) &&
               (f->token.size == 0 || memcmp(f->token.text, text, f->token.size) == 0);
}

/* A key has ended. One that is repeated counts with its last value, as in signed_document_parse(). */
static void take_key(ItemId *f) {
        f->is_id[f->depth] = token_is(f, "envelope_id");
        if (f->is_id[f->depth])
                f->ids[f->depth].size = 0;
        if (f->depth == 1) {
                f->in_envelope = token_is(f, "envelope");
                if (f->in_envelope) {
                        f->has_envelope = true;
                        f->ids[2].size = 0;
                }
        }
}

static int take_string(ItemId *f) {
        if (!is_of_interest(f) || !f->is_object[f->depth])
                return 0;
        if (!f->at_value) {
                take_key(f);
                return 0;
        }
        if (!f->is_id[f->depth] || f->token_too_long || f->token.size == 0)
                return 0;
        return strbuf_append(&f->ids[f->depth], f->token.text, f->token.size);
}

static int step_string(ItemId *f, char c) {
        if (!f->escaped && c == '"') {
                f->quoted = false;
                return take_string(f);
        }
        f->escaped = !f->escaped && c == '\\';
        if (!is_of_interest(f) || f->token_too_long)
                return 0;
        f->token_too_long = f->token.size >= TOKEN_MAX;
        return f->token_too_long ? 0 : strbuf_append(&f->token, &c, 1);
}

static void open_container(ItemId *f, char c) {
        f->depth++;
        if (f->depth == 2 && f->in_envelope)
                f->in_envelope = f->is_object[1] && c == '{';
        if (f->depth < ELEMENTSOF(f->is_object)) {
                f->is_object[f->depth] = c == '{';
                f->is_id[f->depth] = false;
        }
        f->at_value = false;
}

static int step(ItemId *f, char c) {
        if (f->quoted)
                return step_string(f, c);

        switch (c) {
        case '"':
                f->quoted = true;
                f->escaped = f->token_too_long = false;
                f->token.size = 0;
                break;
        case '{':
        case '[':
                open_container(f, c);
                break;
        case '}':
        case ']':
                if (f->depth > 0)
                        f->depth--;
                f->at_value = true;
                break;
        case ':':
                f->at_value = true;
                break;
        case ',':
                f->at_value = false;
                break;
        }
        return 0;
}

int item_id_feed(ItemId *f, const char *data, size_t size) {
        int r = 0;

        for (size_t i = 0; i < size && r >= 0; i++)
                r = step(f, data[i]);
        return r;
}

int item_id_finish(const ItemId *f, char **ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const StrBuf *id = &f->ids[f->has_envelope ? 2 : 1];
        _cleanup_(strbuf_done) StrBuf text = {};
        const SignedValue *v;
        int r;

        *ret = NULL;
        if (id->size == 0)
                return 0;
        r = strbuf_puts(&text, "\"");
        if (r >= 0)
                r = strbuf_append(&text, id->text, id->size);
        if (r >= 0)
                r = strbuf_puts(&text, "\"");
        if (r >= 0)
                r = signed_document_parse(&d, text.text, text.size);
        if (r < 0)
                return r == -ENOMEM ? r : 0;

        v = signed_document_root(d);
        if (v->size == 0 || v->size > ENVELOPE_ID_MAX || strlen(v->text) != v->size)
                return 0;
        *ret = memdup0(v->text, v->size);
        return *ret ? 0 : -ENOMEM;
}

void item_id_done(ItemId *f) {
        strbuf_done(&f->token);
        for (size_t i = 0; i < ELEMENTSOF(f->ids); i++)
                strbuf_done(&f->ids[i]);
        *f = (ItemId) {};
}
