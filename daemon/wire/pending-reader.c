/* SPDX-License-Identifier: MIT */

#include "item-id.h"
#include "pending-reader.h"

typedef enum Place {
        PLACE_START,            /* before '{' */
        PLACE_KEY,              /* before a key or '}' */
        PLACE_IN_KEY,
        PLACE_COLON,
        PLACE_VALUE,            /* before the value of a key */
        PLACE_SKIP,             /* within a value that nobody wants */
        PLACE_AFTER_VALUE,      /* before ',' or '}' */
        PLACE_ITEM,             /* in the list, before an item or ']' */
        PLACE_IN_ITEM,
        PLACE_AFTER_ITEM,       /* before ',' or ']' */
        PLACE_END,              /* behind '}' */
} Place;

struct PendingReader {
        Place place;
        size_t max_item;
        PendingHandlers handlers;
        StrBuf text;            /* of the key or item so far */
        size_t item_size;
        unsigned depth;         /* of brackets within the value or item */
        bool quoted, escaped;
        bool scalar;            /* the value is one that no bracket or quote ends */
        bool first;             /* nothing came yet in this object or list */
        bool has_list;
        bool too_large;         /* the item; it is read to its end, so that those behind it are not lost */
        ItemId id;              /* of an item that is too large */
};

int pending_reader_new(PendingReader **ret, size_t max_item, const PendingHandlers *handlers) {
        PendingReader *p;

        assert(ret && handlers->on_item && handlers->on_too_large);

        p = new0(PendingReader, 1);
        if (!p)
                return -ENOMEM;
        p->max_item = max_item;
        p->handlers = *handlers;
        *ret = p;
        return 0;
}

PendingReader* pending_reader_free(PendingReader *p) {
        if (!p)
                return NULL;
        strbuf_done(&p->text);
        item_id_done(&p->id);
        return mfree(p);
}

static bool is_space(char c) {
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* A value begins at c. */
static void value_begin(PendingReader *p, char c) {
        p->depth = c == '{' || c == '[';
        p->quoted = c == '"';
        p->escaped = false;
        p->scalar = !p->depth && !p->quoted;
}

/* The value goes on with c: > 0 when c is its last byte, 0 when it is within, -EAGAIN when it ended before c. */
static int value_step(PendingReader *p, char c) {
        if (p->quoted) {
                if (p->escaped)
                        p->escaped = false;
                else if (c == '\\')
                        p->escaped = true;
                else if (c == '"') {
                        p->quoted = false;
                        return p->depth == 0;
                }
                return 0;
        }
        if (p->scalar)
                return c == ',' || c == '}' || c == ']' || is_space(c) ? -EAGAIN : 0;

        if (c == '"')
                p->quoted = true;
        else if (c == '{' || c == '[')
                p->depth++;
        else if (c == '}' || c == ']')
                p->depth--;
        return p->depth == 0;
}

static int item_add(PendingReader *p, const char *data, size_t n) {
        if (n > p->max_item - p->text.size)
                return -E2BIG;
        return strbuf_append(&p->text, data, n);
}

static int item_go_on(PendingReader *p, const char *data, size_t n) {
        int r;

        p->item_size += n;
        if (p->too_large)
                return item_id_feed(&p->id, data, n);
        r = item_add(p, data, n);
        if (r != -E2BIG)
                return r;

        p->too_large = true;
        r = item_id_feed(&p->id, strempty(p->text.text), p->text.size);
        strbuf_done(&p->text);
        return r < 0 ? r : item_id_feed(&p->id, data, n);
}

static int item_end_too_large(PendingReader *p) {
        _cleanup_free_ char *id = NULL;
        int r = item_id_finish(&p->id, &id);

        item_id_done(&p->id);
        return r < 0 ? r : p->handlers.on_too_large(id, p->item_size, p->handlers.userdata);
}

static int item_end(PendingReader *p) {
        int r = p->too_large ? item_end_too_large(p)
                             : p->handlers.on_item(p->text.text, p->text.size, p->handlers.userdata);

        p->text.size = p->item_size = 0;
        p->too_large = false;
        p->place = PLACE_AFTER_ITEM;
        return r;
}

/* As many bytes as belong to the value that is being read; > 0 in *ret_done when it is over. */
static size_t value_span(PendingReader *p, const char *data, size_t size, bool *ret_done) {
        *ret_done = false;
        for (size_t i = 0; i < size; i++) {
                int r = value_step(p, data[i]);

                if (r != 0) {
                        *ret_done = true;
                        return r > 0 ? i + 1 : i;
                }
        }
        return size;
}

static int step_value(PendingReader *p, char c) {
        bool wanted = p->text.size == strlen("messages") && memcmp(p->text.text, "messages", p->text.size) == 0;

        p->text.size = 0;
        if (wanted && c == '[') {
                p->has_list = p->first = true;
                p->place = PLACE_ITEM;
        } else {
                if (c == ',' || c == '}' || c == ']' || c == ':')
                        return -EBADMSG;
                value_begin(p, c);
                p->place = PLACE_SKIP;
        }
        return 0;
}

/* One byte of the structure around the items. */
static int step(PendingReader *p, char c) {
        if (is_space(c))
                return 0;

        switch (p->place) {
        case PLACE_START:
                p->place = PLACE_KEY;
                p->first = true;
                return c == '{' ? 0 : -EBADMSG;
        case PLACE_KEY:
                if (c == '"')
                        p->place = PLACE_IN_KEY;
                else if (c == '}' && p->first)
                        p->place = PLACE_END;
                else
                        return -EBADMSG;
                return 0;
        case PLACE_COLON:
                p->place = PLACE_VALUE;
                return c == ':' ? 0 : -EBADMSG;
        case PLACE_VALUE:
                return step_value(p, c);
        case PLACE_AFTER_VALUE:
                p->first = false;
                p->place = c == ',' ? PLACE_KEY : PLACE_END;
                return c == ',' || c == '}' ? 0 : -EBADMSG;
        case PLACE_ITEM:
                if (c == ']' && p->first) {
                        p->place = PLACE_AFTER_VALUE;
                        return 0;
                }
                if (c == ',' || c == '}' || c == ']' || c == ':')
                        return -EBADMSG;
                value_begin(p, c);
                p->place = PLACE_IN_ITEM;
                return item_go_on(p, &c, 1);
        case PLACE_AFTER_ITEM:
                p->first = false;
                p->place = c == ',' ? PLACE_ITEM : PLACE_AFTER_VALUE;
                return c == ',' || c == ']' ? 0 : -EBADMSG;
        default:
                return -EBADMSG;
        }
}

/* Keys are compared as they are written: escapes in "messages" are nobody's way to write it. */
static int step_key(PendingReader *p, char c) {
        if (!p->escaped && c == '"') {
                p->place = PLACE_COLON;
                return 0;
        }
        p->escaped = !p->escaped && c == '\\';
        return item_add(p, &c, 1);
}

int pending_reader_feed(PendingReader *p, const char *data, size_t size) {
        int r = 0;

        assert(p && (data || size == 0));

        while (size > 0 && r >= 0) {
                size_t n = 1;
                bool done;

                switch (p->place) {
                case PLACE_SKIP:
                        n = value_span(p, data, size, &done);
                        if (done)
                                p->place = PLACE_AFTER_VALUE;
                        break;
                case PLACE_IN_ITEM:
                        n = value_span(p, data, size, &done);
                        r = item_go_on(p, data, n);
                        if (r >= 0 && done)
                                r = item_end(p);
                        break;
                case PLACE_IN_KEY:
                        r = step_key(p, *data);
                        break;
                default:
                        r = step(p, *data);
                }
                data += n;
                size -= n;
        }
        return r < 0 ? r : 0;
}

int pending_reader_finish(PendingReader *p) {
        return p->place == PLACE_END && p->has_list ? 0 : -EBADMSG;
}
