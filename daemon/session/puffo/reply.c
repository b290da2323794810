/* SPDX-License-Identifier: MIT */

#include "reply.h"
#include "string-util.h"

/* Of a message that broke off and was begun anew only the second counts. */
static bool is_replaced(const TurnItem *items, size_t n, size_t i) {
        return !items[i].complete && i + 1 < n;
}

static size_t strip(const char **text) {
        static const char blanks[] = " \t\r\n\v\f";
        const char *s = *text + strspn(*text, blanks);
        size_t n = strlen(s);

        while (n > 0 && strchr(blanks, s[n - 1]))
                n--;
        *text = s;
        return n;
}

static int join(const TurnItem *items, size_t n_items, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        size_t n_texts = 0;
        int r = 0;

        for (size_t i = 0; i < n_items; i++) {
                const char *text = items[i].text;

                n_texts += !is_replaced(items, n_items, i) && strip(&text) > 0;
        }
        for (size_t i = 0; i < n_items && r >= 0; i++) {
                const char *text = items[i].text;
                size_t size = is_replaced(items, n_items, i) ? 0 : strip(&text);

                if (size == 0)
                        continue;
                if (b.size > 0)
                        r = strbuf_puts(&b, "\n");
                if (r >= 0 && n_texts > 1)
                        r = strbuf_puts(&b, "- ");
                if (r >= 0)
                        r = strbuf_append(&b, text, size);
        }
        if (r < 0)
                return r;
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

int reply_route(const TurnItem *items, size_t n_items, unsigned n_answers, ReplyRoute *ret, char **ret_text) {
        _cleanup_free_ char *text = NULL;
        bool silent = false;
        int r;

        *ret_text = NULL;
        for (size_t i = 0; i < n_items; i++)
                silent = silent || (!is_replaced(items, n_items, i) && strstr(items[i].text, SILENT_MARKER));
        if (n_answers > 0) {
                *ret = REPLY_BY_TOOLS;
                return 0;
        }
        if (silent) {
                *ret = REPLY_SILENT;
                return 0;
        }
        r = join(items, n_items, &text);
        if (r < 0)
                return r;
        *ret = isempty(text) ? REPLY_NOTHING : REPLY_POST;
        if (*ret == REPLY_POST)
                *ret_text = TAKE_PTR(text);
        return 0;
}
