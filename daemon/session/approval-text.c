/* SPDX-License-Identifier: MIT */

/* What people read of a tool call. All of it was written by a model that may mean harm, for somebody who decides by
 * it: nothing in it may look like our own words, act on a terminal, or hide. */

#include <ctype.h>

#include "approvals-internal.h"
#include "json-util.h"
#include "string-util.h"

/* agent-runtime §14.3 */
#define VALUE_MAX 120U
#define SUMMARY_MAX 400U
#define NAME_MAX_SHOWN 100U

int approval_answer_parse(const char *text) {
        static const struct { const char *word; bool allow; } words[] = {
                { "y", true }, { "yes", true }, { "a", true }, { "approve", true },
                { "n", false }, { "no", false }, { "deny", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (str_is_word(text, words[i].word))
                        return words[i].allow;
        return -ENOMSG;
}

char* approval_name(const char *name) {
        _cleanup_(strbuf_done) StrBuf b = {};

        for (size_t i = 0; name[i] && i < NAME_MAX_SHOWN; i++) {
                bool plain = isalnum((unsigned char) name[i]) || strchr("_-.:/", name[i]);

                /* One '?' for a character of several bytes. */
                if (((unsigned char) name[i] & 0xc0) == 0x80)
                        continue;
                if (strbuf_append(&b, plain ? name + i : "?", 1) < 0)
                        return NULL;
        }
        return strbuf_take(&b);
}

/* Unicode's Default_Ignorable_Code_Point: characters that take no room. */
static bool is_invisible(uint32_t c) {
        static const struct { uint32_t first, last; } ranges[] = {
                { 0xad, 0xad }, { 0x34f, 0x34f }, { 0x61c, 0x61c }, { 0x115f, 0x1160 }, { 0x17b4, 0x17b5 },
                { 0x180b, 0x180f }, { 0x200b, 0x200f }, { 0x202a, 0x202e }, { 0x2060, 0x206f }, { 0x3164, 0x3164 },
                { 0xfe00, 0xfe0f }, { 0xfeff, 0xfeff }, { 0xffa0, 0xffa0 }, { 0xfff0, 0xfff8 }, { 0x1bca0, 0x1bca3 },
                { 0x1d173, 0x1d17a }, { 0xe0000, 0xe0fff },
        };

        for (size_t i = 0; i < ELEMENTSOF(ranges); i++)
                if (c >= ranges[i].first && c <= ranges[i].last)
                        return true;
        return false;
}

/* The bytes of the invisible character that s begins with; 0: it begins with none. */
static size_t invisible_length(const char *s) {
        const unsigned char *u = (const unsigned char*) s;
        size_t n = *u >= 0xf0 ? 4 : *u >= 0xe0 ? 3 : 2;
        uint32_t c = *u & (0xffU >> (n + 1));

        if (*u < 0xc2 || strnlen(s, n) < n || !utf8_is_valid(s, n))
                return 0;
        for (size_t i = 1; i < n; i++)
                c = c << 6 | (u[i] & 0x3fU);
        return is_invisible(c) ? n : 0;
}

/* Text that stays on one line and between its backticks. What takes no room is shown as well: a command is to be read
 * as it will be run. */
static int append_value(StrBuf *b, const char *text, size_t max_chars, bool *cut) {
        static const struct { const char *from, *to; } replaced[] = {
                { "\r\n", "⏎" }, { "\n", "⏎" }, { "\r", "⏎" }, { "\t", " " }, { "`", "ˋ" },
        };
        _cleanup_(strbuf_done) StrBuf line = {};
        _cleanup_free_ char *shown = NULL;
        size_t n_chars = 0;
        int r = 0;

        while (*text && r >= 0) {
                size_t i = 0, n = 1;

                while (i < ELEMENTSOF(replaced) && !startswith(text, replaced[i].from))
                        i++;
                if (i < ELEMENTSOF(replaced)) {
                        n = strlen(replaced[i].from);
                        r = strbuf_puts(&line, replaced[i].to);
                } else if (invisible_length(text) > 0) {
                        n = invisible_length(text);
                        r = strbuf_puts(&line, "?");
                } else
                        r = strbuf_append(&line, text, 1);
                n_chars += ((unsigned char) *text & 0xc0) != 0x80;
                text += n;
                /* More than is shown is enough. */
                if (n_chars > max_chars + 4)
                        break;
        }
        if (r < 0)
                return r;
        *cut = *cut || n_chars > max_chars;
        shown = str_printable(strempty(line.text), max_chars);
        return shown ? strbuf_printf(b, "`%s`", shown) : -ENOMEM;
}

/* With another control character, which is shown as such, in the place of a NUL: nothing ends there. */
static int append_string(StrBuf *b, json_object *string, bool *cut) {
        size_t size = (size_t) json_object_get_string_len(string);
        _cleanup_free_ char *text = memdup0(json_object_get_string(string), size);

        for (size_t i = 0; text && i < size; i++)
                if (text[i] == 0)
                        text[i] = 1;
        return text ? append_value(b, text, VALUE_MAX, cut) : -ENOMEM;
}

static int append_json(StrBuf *b, json_object *value, bool *cut) {
        const char *text;

        if (json_object_is_type(value, json_type_string))
                return append_string(b, value, cut);
        text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
        return text ? append_value(b, text, VALUE_MAX, cut) : -ENOMEM;
}

static int append_object(StrBuf *b, json_object *o, bool *cut) {
        json_object_object_foreach(o, key, value) {
                _cleanup_free_ char *name = approval_name(key);
                int r;

                if (!name)
                        return -ENOMEM;
                r = strbuf_printf(b, "%s- **%s**: ", b->size > 0 ? "\n" : "", isempty(name) ? "?" : name);
                if (r >= 0)
                        r = append_json(b, value, cut);
                if (r < 0)
                        return r;
                if (b->size > SUMMARY_MAX * 4)
                        break;
        }
        return 0;
}

/* Not in the middle of a character, and with the last backtick closed. */
static char* summary_cut(const char *text, bool *cut) {
        size_t n_chars = 0, end = 0, n_ticks = 0;

        while (text[end] && n_chars < SUMMARY_MAX) {
                n_ticks += text[end] == '`';
                end++;
                while (((unsigned char) text[end] & 0xc0) == 0x80)
                        end++;
                n_chars++;
        }
        if (!text[end])
                return strdup(text);
        *cut = true;
        return asprintf_new("%.*s…%s", (int) end, text, n_ticks % 2 > 0 ? "`" : "");
}

char* approval_summarize(const char *input, bool *ret_cut) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_json_ json_object *o = NULL;
        bool cut = false;
        char *text;
        int r;

        if (isempty(input))
                r = 0;
        else if (json_parse(input, strlen(input), &o) < 0)
                r = append_value(&b, input, SUMMARY_MAX, &cut);
        else if (json_object_is_type(o, json_type_object))
                r = append_object(&b, o, &cut);
        else
                r = o ? append_json(&b, o, &cut) : 0;
        if (r < 0)
                return NULL;
        text = b.size > 0 ? summary_cut(b.text, &cut) : strdup("(no input)");
        *ret_cut = cut;
        return text;
}

char* approval_row_describe(const ApprovalRow *row) {
        switch (row->state) {
        case APPROVAL_ALLOWED:
        case APPROVAL_DENIED:
                return strjoin(approval_state_to_string(row->state), isempty(row->answered_by) ? "" : " by ",
                               row->answered_by);
        case APPROVAL_EXPIRED:
                return strdup("denied, as nobody answered in time");
        case APPROVAL_WITHDRAWN:
                return strdup("withdrawn, as the answer was not needed any more");
        default:
                return strdup("open");
        }
}

char* approval_model_text(const ApprovalRow *row) {
        switch (row->state) {
        case APPROVAL_DENIED:
                return strjoin("Permission denied by ", isempty(row->answered_by) ? "the operator" : row->answered_by,
                               isempty(row->reason) ? "." : ": ", row->reason);
        case APPROVAL_EXPIRED:
                return asprintf_new("Permission denied: nobody answered within %" PRIi64 " seconds.",
                                    (row->expires_at - row->created_at) / 1000);
        case APPROVAL_WITHDRAWN:
                return strdup("Permission was not given: the request was withdrawn.");
        default:
                return strdup("");
        }
}

char* approval_question_text(const ApprovalRow *row, bool cut) {
        int64_t seconds = (row->expires_at - row->created_at) / 1000;
        bool minutes = seconds >= 120 && seconds % 60 == 0;
        int n_agent = (int) strcspn(row->id, ":");
        _cleanup_free_ char *more = cut ? asprintf_new("Not all of the input is shown here: puffoctl approvals --json "
                                                       "%.*s shows more. ", n_agent, row->id)
                                        : strdup("");

        if (!more)
                return NULL;
        return asprintf_new("I ask for permission to use `%s`:\n%s\n\n%sReply y to allow or n to deny in this thread "
                            "within %" PRIi64 " %s; without an answer it is denied. (On the machine: puffoctl approve "
                            "%s)", row->tool, row->summary, more, minutes ? seconds / 60 : seconds,
                            minutes ? "minutes" : "seconds", row->id);
}

char* approval_outcome_text(const ApprovalRow *row, bool by_operator) {
        _cleanup_free_ char *how = NULL;

        if (by_operator)
                return strdup(row->state == APPROVAL_ALLOWED ? "Allowed." : "Denied.");
        how = approval_row_describe(row);
        return how ? asprintf_new("%c%s.", toupper((unsigned char) how[0]), how + 1) : NULL;
}
