/* SPDX-License-Identifier: MIT */

#include "sse.h"

/* Bytes go into lines, lines into one pending event, an empty line hands it out. Only what belongs to an event is kept
 * and counted: comments are dropped as they come, so that a stream of keep-alives never reaches the limit. */

#define BOM "\xef\xbb\xbf"
#define BOM_SIZE 3

struct SseParser {
        sse_event_t on_event;
        void *userdata;
        size_t max_event;
        size_t event_size;      /* bytes of the pending event's lines so far, the current one included */
        size_t bom;             /* how much of a BOM has been seen; BOM_SIZE once that question is settled */
        bool after_cr;          /* an LF now belongs to the line end before it */
        bool in_comment;
        bool has_data;
        StrBuf line;            /* start of a line whose end has not come yet */
        StrBuf type, data, id;
};

int sse_parser_new(SseParser **ret, size_t max_event, sse_event_t on_event, void *userdata) {
        SseParser *p;

        assert(ret && on_event);

        p = new0(SseParser, 1);
        if (!p)
                return -ENOMEM;

        p->on_event = on_event;
        p->userdata = userdata;
        p->max_event = max_event;

        *ret = p;
        return 0;
}

SseParser* sse_parser_free(SseParser *p) {
        if (!p)
                return NULL;

        strbuf_done(&p->line);
        strbuf_done(&p->type);
        strbuf_done(&p->data);
        strbuf_done(&p->id);
        return mfree(p);
}

static void strbuf_clear(StrBuf *b) {
        strbuf_consume(b, b->size);
}

static int strbuf_set(StrBuf *b, const char *s, size_t n) {
        strbuf_clear(b);
        return strbuf_append(b, s, n);
}

static int parser_dispatch(SseParser *p) {
        int r = 0;

        /* An event without any data line is none, whatever its other fields say. */
        if (p->has_data)
                r = p->on_event(p->type.size > 0 ? p->type.text : "message", strempty(p->data.text), p->data.size,
                                strempty(p->id.text), p->userdata);

        strbuf_clear(&p->type);
        strbuf_clear(&p->data);
        p->has_data = false;
        p->event_size = 0;
        return r < 0 ? r : 0;
}

static int parser_line(SseParser *p, const char *line, size_t n) {
        const char *colon, *value;
        size_t name_size, value_size;
        int r;

        if (n == 0)
                return parser_dispatch(p);

        colon = memchr(line, ':', n);
        name_size = colon ? (size_t) (colon - line) : n;
        value = colon ? colon + 1 : line + n;
        value_size = (size_t) (line + n - value);
        if (value_size > 0 && *value == ' ') {
                value++;
                value_size--;
        }

        if (name_size == 4 && memcmp(line, "data", 4) == 0) {
                if (p->has_data) {
                        r = strbuf_append(&p->data, "\n", 1);
                        if (r < 0)
                                return r;
                }
                p->has_data = true;
                return strbuf_append(&p->data, value, value_size);
        }

        /* Both are handed out as C strings, which a NUL would cut short; for ids the standard says the same. */
        if (memchr(value, 0, value_size))
                return 0;
        if (name_size == 5 && memcmp(line, "event", 5) == 0)
                return strbuf_set(&p->type, value, value_size);
        if (name_size == 2 && memcmp(line, "id", 2) == 0)
                return strbuf_set(&p->id, value, value_size);

        return 0;
}

/* Takes the part of a line that ends before end; complete says that the line's end came right behind it. */
static int parser_part(SseParser *p, const char *s, size_t n, bool complete) {
        int r;

        if (!p->in_comment && p->line.size == 0 && n > 0 && *s == ':')
                p->in_comment = true;
        if (p->in_comment) {
                p->in_comment = !complete;
                return 0;
        }

        if (n > p->max_event - p->event_size)
                return -EMSGSIZE;
        p->event_size += n;

        if (complete && p->line.size == 0)
                return parser_line(p, s, n);

        r = strbuf_append(&p->line, s, n);
        if (r < 0 || !complete)
                return r;

        r = parser_line(p, p->line.text, p->line.size);
        strbuf_clear(&p->line);
        return r;
}

static int parser_bytes(SseParser *p, const char *data, size_t size) {
        const char *end = data + size;
        int r;

        while (data < end) {
                const char *eol = data;

                if (p->after_cr) {
                        p->after_cr = false;
                        if (*data == '\n') {
                                data++;
                                continue;
                        }
                }

                while (eol < end && *eol != '\n' && *eol != '\r')
                        eol++;

                r = parser_part(p, data, (size_t) (eol - data), /* complete= */ eol < end);
                if (r < 0)
                        return r;
                if (eol == end)
                        break;

                p->after_cr = *eol == '\r';
                data = eol + 1;
        }

        return 0;
}

int sse_parser_feed(SseParser *p, const char *data, size_t size) {
        int r;

        assert(p);
        assert(data || size == 0);

        while (p->bom < BOM_SIZE && size > 0) {
                size_t seen = p->bom;

                if (*data == BOM[seen]) {
                        p->bom++;
                        data++;
                        size--;
                        continue;
                }

                /* No BOM after all: what looked like its start is text. */
                p->bom = BOM_SIZE;
                r = parser_bytes(p, BOM, seen);
                if (r < 0)
                        return r;
        }

        return parser_bytes(p, data, size);
}

int sse_parser_finish(SseParser *p) {
        int pending;

        assert(p);

        pending = p->event_size > 0 || (p->bom > 0 && p->bom < BOM_SIZE);

        strbuf_clear(&p->line);
        strbuf_clear(&p->type);
        strbuf_clear(&p->data);
        p->has_data = p->in_comment = p->after_cr = false;
        p->event_size = 0;
        p->bom = BOM_SIZE;
        return pending;
}

static int format_data(StrBuf *b, const char *data, size_t size) {
        const char *end = data + size;
        int r;

        for (;;) {
                const char *eol = data;

                while (eol < end && *eol != '\n' && *eol != '\r')
                        eol++;

                r = strbuf_puts(b, "data: ");
                if (r >= 0)
                        r = strbuf_append(b, data, (size_t) (eol - data));
                if (r >= 0)
                        r = strbuf_puts(b, "\n");
                if (r < 0)
                        return r;

                if (eol == end)
                        return strbuf_puts(b, "\n");
                data = eol + (*eol == '\r' && eol + 1 < end && eol[1] == '\n' ? 2 : 1);
        }
}

int sse_format(StrBuf *b, const char *event, const char *data, size_t size) {
        size_t before;
        int r = 0;

        assert(b);
        assert(data || size == 0);

        if (event && strpbrk(event, "\r\n"))
                return -EINVAL;

        before = b->size;
        if (event)
                r = strbuf_printf(b, "event: %s\n", event);
        if (r >= 0)
                r = format_data(b, strempty(data), size);
        if (r < 0 && b->text) {
                /* Half an event would be glued to the next one. */
                b->size = before;
                b->text[before] = 0;
        }
        return r;
}
