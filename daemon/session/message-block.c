/* SPDX-License-Identifier: MIT */

#include <time.h>

#include "message-block.h"

#define VALUE_MAX 200U
#define PATH_VALUE_MAX 4096U

/* A value that stays within its line: control characters become blanks. */
static int put_value(StrBuf *b, const char *value, size_t max_chars) {
        _cleanup_free_ char *copy = strdup(value), *shown = NULL;

        if (!copy)
                return -ENOMEM;
        for (char *p = copy; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        *p = ' ';
        shown = str_printable(copy, max_chars);
        return shown ? strbuf_puts(b, shown) : -ENOMEM;
}

static int put_line(StrBuf *b, const char *key, const char *value) {
        int r = strbuf_printf(b, "- %s: ", key);

        if (r >= 0)
                r = put_value(b, value, VALUE_MAX);
        return r < 0 ? r : strbuf_puts(b, "\n");
}

static int put_line_if(StrBuf *b, const char *key, const char *value) {
        return isempty(value) ? 0 : put_line(b, key, value);
}

/* ISO 8601 in UTC, whole seconds; nothing for a time that no calendar has. */
static int put_timestamp(StrBuf *b, int64_t sent_at) {
        time_t seconds = (time_t) (sent_at / 1000 - (sent_at % 1000 < 0));
        char text[64];
        struct tm tm;

        if (sent_at == 0 || !gmtime_r(&seconds, &tm) || tm.tm_year + 1900 > 9999 || tm.tm_year + 1900 < 1 ||
            strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S+00:00", &tm) == 0)
                return 0;
        return strbuf_printf(b, "- timestamp: %s\n", text);
}

static int put_mentions(StrBuf *b, const MessageBlock *m) {
        static const char *const names[_MENTION_KIND_MAX] = {
                [MENTION_SELF] = "you", [MENTION_AGENT] = "agent", [MENTION_HUMAN] = "human",
        };
        int r = m->n_mentions > 0 ? strbuf_puts(b, "- mentions:\n") : 0;

        for (size_t i = 0; i < m->n_mentions && r >= 0; i++) {
                r = strbuf_puts(b, "  - ");
                if (r >= 0)
                        r = put_value(b, m->mentions[i].slug, VALUE_MAX);
                if (r >= 0)
                        r = strbuf_printf(b, " (%s)\n", names[m->mentions[i].kind]);
        }
        return r;
}

static int put_attachments(StrBuf *b, const MessageBlock *m) {
        int r = m->n_attachments > 0 ? strbuf_puts(b, "- attachments:\n") : 0;

        for (size_t i = 0; i < m->n_attachments && r >= 0; i++) {
                const MessageAttachment *a = m->attachments + i;

                r = strbuf_puts(b, a->path ? "  - " : "  - (not saved: ");
                if (r >= 0)
                        r = a->path ? put_value(b, a->path, PATH_VALUE_MAX) : put_value(b, a->name, VALUE_MAX);
                if (r >= 0 && !a->path)
                        r = strbuf_puts(b, ": ");
                if (r >= 0 && !a->path)
                        r = put_value(b, a->problem, VALUE_MAX);
                if (r >= 0)
                        r = strbuf_puts(b, a->path ? "\n" : ")\n");
        }
        return r;
}

static const char* first_of(const char *a, const char *b) {
        return isempty(a) ? strempty(b) : a;
}

int message_block_format(const MessageBlock *m, StrBuf *ret) {
        int r = put_line_if(ret, "space", m->space_name);

        if (r >= 0)
                r = put_line_if(ret, "space_id", m->space_id);
        if (r >= 0)
                r = put_line(ret, "channel", first_of(m->channel_name, m->channel_id));
        if (r >= 0)
                r = put_line_if(ret, "channel_id", m->channel_id);
        if (r >= 0)
                r = put_line_if(ret, "post_id", m->envelope_id);
        if (r >= 0)
                r = put_line_if(ret, "thread_root_id", first_of(m->root_id, m->envelope_id));
        if (r >= 0)
                r = put_timestamp(ret, m->sent_at);
        if (r >= 0)
                r = put_line(ret, "sender", first_of(m->sender_name, m->sender_slug));
        if (r >= 0)
                r = put_line(ret, "sender_slug", strempty(m->sender_slug));
        if (r >= 0)
                r = put_line(ret, "sender_type", m->sender_is_bot ? "bot" : "human");
        if (r >= 0 && !m->encrypted)
                r = put_line(ret, "encrypted", "no");
        if (r >= 0)
                r = put_mentions(ret, m);
        if (r >= 0)
                r = put_attachments(ret, m);
        if (r >= 0)
                r = strbuf_puts(ret, "- message: ");
        return r < 0 ? r : strbuf_puts(ret, strempty(m->text));
}
