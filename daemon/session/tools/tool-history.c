/* SPDX-License-Identifier: MIT */

#include "envelope.h"
#include "tool-internal.h"

#define LIMIT_MAX 200
#define ID_SHOWN_MAX 200U
#define FILES_SHOWN_MAX 50U
/* In characters: as much of a text as the prompt shows (message-pipeline §12.1), and one page of get_post(). */
#define TEXT_SHOWN_MAX 16000U
/* Of all lines of an answer together, in bytes. */
#define LINES_MAX KIB(256)

/* --- texts of messages --- */

static int put_files(StrBuf *b, json_object *attachments) {
        size_t n = json_object_array_length(attachments);
        int r = strbuf_puts(b, b->size > 0 ? " [files: " : "[files: ");

        for (size_t i = 0; i < n && i < FILES_SHOWN_MAX && r >= 0; i++) {
                const char *name = json_get_string(json_object_array_get_idx(attachments, i), "filename");

                if (i > 0)
                        r = strbuf_puts(b, ", ");
                if (r >= 0)
                        r = tool_put_line(b, isempty(name) ? "?" : name, TOOL_NAME_MAX);
        }
        if (r >= 0 && n > FILES_SHOWN_MAX)
                r = strbuf_puts(b, ", …");
        return r < 0 ? r : strbuf_puts(b, "]");
}

/* Text of a stored message as the model reads it: attachments as a list of names, other objects as JSON. */
static int tool_message_text(const StoredMessage *m, char **ret) {
        _cleanup_json_ json_object *content = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        json_object *attachments;
        int r;

        /* Upstream's columns do not tell a text from JSON of any other type. */
        if (!streq_ptr(m->content_type, CONTENT_TYPE_TEXT)) {
                r = json_parse(m->content, strlen(m->content), &content);
                if (r == -ENOMEM)
                        return r;
        }

        attachments = json_get(content, "attachments");
        if (json_object_is_type(attachments, json_type_array) && json_object_array_length(attachments) > 0) {
                r = strbuf_puts(&b, strempty(json_get_string(content, "text")));
                if (r >= 0)
                        r = put_files(&b, attachments);
        } else if (json_object_is_type(content, json_type_object) || json_object_is_type(content, json_type_array)) {
                const char *text = json_text(content, NULL);

                r = text ? strbuf_puts(&b, text) : -ENOMEM;
        } else
                r = strbuf_puts(&b, m->content);
        if (r < 0)
                return r;

        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

static size_t count_characters(const char *s) {
        size_t n = 0;

        for (; *s; s++)
                n += ((unsigned char) *s & 0xc0) != 0x80;
        return n;
}

/* Where the n-th character begins, or the end. */
static const char* skip_characters(const char *s, size_t n) {
        for (; *s; s++)
                if (((unsigned char) *s & 0xc0) != 0x80 && n-- == 0)
                        break;
        return s;
}

/* What ends a line somewhere becomes blanks, byte by byte; tabs stay. */
static void flatten(char *s) {
        for (char *p = s; *p; p++) {
                unsigned char c = (unsigned char) *p;

                if ((c < 0x20 && c != '\t') || c == 0x7f)
                        *p = ' ';
                else if (startswith(p, "\xc2\x85"))
                        p[0] = p[1] = ' ';
                else if (startswith(p, "\xe2\x80\xa8") || startswith(p, "\xe2\x80\xa9"))
                        p[0] = p[1] = p[2] = ' ';
        }
}

/* --- lines of history --- */

static int put_text(StrBuf *b, const StoredMessage *m) {
        _cleanup_free_ char *text = NULL;
        char *end;
        size_t n;
        int r;

        r = tool_message_text(m, &text);
        if (r < 0)
                return r;
        flatten(text);

        end = (char*) skip_characters(text, TEXT_SHOWN_MAX);
        n = count_characters(end);
        *end = 0;
        r = strbuf_puts(b, text);
        if (r < 0 || n == 0)
                return r;
        r = strbuf_printf(b, " [… %zu more characters; read the rest with get_post(\"", n);
        if (r >= 0)
                r = tool_put_line(b, m->envelope_id, ID_SHOWN_MAX);
        return r < 0 ? r : strbuf_puts(b, "\")]");
}

static int format_line(const StoredMessage *m, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = tool_put_time(&b, m->sent_at);

        if (r >= 0)
                r = strbuf_puts(&b, "  post:");
        if (r >= 0)
                r = tool_put_line(&b, m->envelope_id, ID_SHOWN_MAX);
        if (r >= 0)
                r = strbuf_puts(&b, "  @");
        if (r >= 0)
                r = tool_put_line(&b, m->sender_slug, TOOL_NAME_MAX);
        if (r >= 0)
                r = strbuf_puts(&b, ": ");
        if (r >= 0)
                r = put_text(&b, m);
        if (r >= 0 && m->n_replies == 1)
                r = strbuf_puts(&b, "  (1 reply)");
        else if (r >= 0 && m->n_replies > 1)
                r = strbuf_printf(&b, "  (%" PRIu64 " replies)", m->n_replies);
        if (r < 0)
                return r;
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

/* The newest lines that fit, in their order; what there is beyond them is said first, with the way to get it. */
static int format_lines(const StoredMessage *rows, size_t n, StrBuf *b) {
        _cleanup_(strv_freep) char **lines = new0(char*, n + 1);
        size_t first = n, size = 0;
        int r = 0;

        if (!lines)
                return -ENOMEM;
        while (first > 0) {
                _cleanup_free_ char *line = NULL;

                r = format_line(rows + first - 1, &line);
                if (r < 0)
                        return r;
                size += strlen(line) + 1;
                if (size > LINES_MAX && first < n)
                        break;
                first--;
                lines[n - 1 - first] = TAKE_PTR(line);  /* newest first, so that the list has no hole */
        }

        if (first > 0)
                r = strbuf_printf(b, "(%zu older ones do not fit in here; before=%" PRId64 " gives them)\n", first,
                                  rows[first].sent_at);
        for (size_t i = first; i < n && r >= 0; i++) {
                r = strbuf_puts(b, lines[n - 1 - i]);
                if (r >= 0 && i + 1 < n)
                        r = strbuf_puts(b, "\n");
        }
        return r;
}

static int range_of(ToolCall *c, MessageRange *ret, char **ret_since) {
        int r = tool_trimmed(c, "since", ret_since);

        if (r < 0)
                return r;
        *ret = (MessageRange) {
                .limit = (unsigned) CLAMP(tool_int(c, "limit"), 1, LIMIT_MAX),
                .since = *ret_since,
                .before = tool_int(c, "before"),
                .after = tool_int(c, "after"),
        };
        return 0;
}

/* "(no such channel: ch_1)" */
static int answer_unknown(ToolCall *c, const char *before, const char *id, const char *after) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = strbuf_puts(&b, before);

        if (r >= 0)
                r = tool_put_line(&b, id, ID_SHOWN_MAX);
        if (r >= 0)
                r = strbuf_puts(&b, after);
        return r < 0 ? r : tool_succeed(c, strbuf_take(&b));
}

typedef int (*history_read_t)(Database *db, const char *id, const MessageRange *range, StoredMessage **ret,
                              size_t *ret_n);

static int answer_history(ToolCall *c, const char *id, history_read_t read, const char *nothing) {
        _cleanup_free_ char *since = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        StoredMessage *rows;
        MessageRange range;
        size_t n;
        int r;

        r = range_of(c, &range, &since);
        if (r >= 0)
                r = read(puffo_database(c->box->puffo), id, &range, &rows, &n);
        if (r < 0)
                return r;
        r = n > 0 ? format_lines(rows, n, &b) : strbuf_puts(&b, nothing);
        stored_messages_free(rows, n);
        return r < 0 ? r : tool_succeed(c, strbuf_take(&b));
}

int tool_get_channel_history(ToolCall *c) {
        _cleanup_free_ char *channel = NULL;
        int r;

        r = tool_channel(c, &channel);
        if (r <= 0)
                return r;
        r = message_store_knows_channel(puffo_database(c->box->puffo), channel);
        if (r < 0)
                return r;
        if (r == 0)
                return answer_unknown(c, "(no such channel: ", channel, ")");
        return answer_history(c, channel, message_store_roots, "(no root posts in the requested window)");
}

int tool_get_thread_history(ToolCall *c) {
        _cleanup_free_ char *root = NULL;
        int r;

        r = tool_trimmed(c, "root_id", &root);
        if (r < 0)
                return r;
        if (*root == 0)
                return tool_fail(c, "root_id is required");
        r = message_store_has(puffo_database(c->box->puffo), root);
        if (r < 0)
                return r;
        if (r == 0)
                return answer_unknown(c, "(no such thread: ", root, ")");
        return answer_history(c, root, message_store_thread, "(no messages in this thread for the requested window)");
}

/* --- one message --- */

static int put_field(StrBuf *b, const char *label, const char *value) {
        int r;

        if (isempty(value))
                return 0;
        r = strbuf_puts(b, label);
        if (r >= 0)
                r = tool_put_line(b, value, ID_SHOWN_MAX);
        return r < 0 ? r : strbuf_puts(b, "\n");
}

static int put_page(StrBuf *b, const StoredMessage *m, int64_t offset) {
        _cleanup_free_ char *text = NULL;
        const char *begin, *end;
        size_t left;
        int r;

        r = tool_message_text(m, &text);
        if (r < 0)
                return r;
        begin = skip_characters(text, (size_t) MAX(offset, 0));
        end = skip_characters(begin, TEXT_SHOWN_MAX);
        left = count_characters(end);

        r = strbuf_append(b, begin, (size_t) (end - begin));
        if (r < 0 || left == 0)
                return r;
        r = strbuf_printf(b, "\n[… %zu more characters; read on with get_post(\"", left);
        if (r >= 0)
                r = tool_put_line(b, m->envelope_id, ID_SHOWN_MAX);
        return r < 0 ? r : strbuf_printf(b, "\", offset=%zu)]", (size_t) MAX(offset, 0) + TEXT_SHOWN_MAX);
}

static int format_post(const StoredMessage *m, int64_t offset, StrBuf *b) {
        int r = put_field(b, "envelope_id: ", m->envelope_id);

        if (r >= 0)
                r = strbuf_puts(b, "sender: @");
        if (r >= 0)
                r = tool_put_line(b, m->sender_slug, TOOL_NAME_MAX);
        if (r >= 0)
                r = strbuf_puts(b, "\ntimestamp: ");
        if (r >= 0)
                r = tool_put_time(b, m->sent_at);
        if (r >= 0)
                r = strbuf_printf(b, "\nkind: %s\n", envelope_kind_to_string(m->kind));
        if (r >= 0)
                r = put_field(b, "channel_id: ", m->channel_id);
        if (r >= 0)
                r = put_field(b, "thread_root_id: ", m->thread_root_id);
        if (r >= 0)
                r = strbuf_puts(b, "message:\n");
        return r < 0 ? r : put_page(b, m, offset);
}

int tool_get_post(ToolCall *c) {
        _cleanup_free_ char *ref = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        StoredMessage *m;
        const char *id;
        int r;

        r = tool_trimmed(c, "post_ref", &ref);
        if (r < 0)
                return r;
        /* As the lines of history show it. */
        id = startswith(ref, "post:") ?: ref;
        if (*id == 0)
                return tool_fail(c, "post_ref is required");

        r = message_store_get(puffo_database(c->box->puffo), id, &m);
        if (r < 0)
                return r;
        if (r == 0)
                return answer_unknown(c, "message ", id, " not found in local storage");
        r = format_post(m, tool_int(c, "offset"), &b);
        stored_messages_free(m, 1);
        return r < 0 ? r : tool_succeed(c, strbuf_take(&b));
}

int tool_fetch_channel_files(ToolCall *c) {
        return tool_succeed(c, strdup("(fetch_channel_files: blob query API not yet implemented)"));
}
