/* SPDX-License-Identifier: MIT */

#include "ctl-stream.h"

#define LINE_MAX_SIZE MIB(64)

void turn_view_done(TurnView *v) {
        strbuf_done(&v->line);
        strbuf_done(&v->item);
        strbuf_done(&v->shown);
        v->tools = strv_free(v->tools);
        json_object_put(v->final);
        v->final = NULL;
}

void turn_view_begin(TurnView *v) {
        strbuf_done(&v->line);
        strbuf_done(&v->item);
        v->position = 0;
        v->n_items = 0;
}

/* Everything that is on the screen beyond position belongs to an attempt that is void. */
static int start_over(TurnView *v) {
        v->shown.size = v->position;
        if (v->shown.text)
                v->shown.text[v->position] = 0;
        v->start_over(v->userdata);
        if (v->position > 0)
                v->show(v->shown.text, v->userdata);
        return 0;
}

static int emit(TurnView *v, const char *text) {
        int r;

        while (*text && v->position < v->shown.size && *text == v->shown.text[v->position]) {
                text++;
                v->position++;
        }
        if (!*text)
                return 0;
        if (v->position < v->shown.size) {
                /* Not within a character: what differs in its second byte begins with the first. */
                while (v->position > 0 && (text[0] & 0xc0) == 0x80) {
                        text--;
                        v->position--;
                }
                r = start_over(v);
                if (r < 0)
                        return r;
        }
        r = strbuf_puts(&v->shown, text);
        if (r < 0)
                return r;
        v->position = v->shown.size;
        v->show(text, v->userdata);
        return 0;
}

/* A member's text; a NUL in it would end it early, so it becomes a '?'. NULL when out of memory. */
static char* copy_text(json_object *o, const char *key) {
        json_object *value = json_get(o, key);
        size_t n;
        char *copy;

        if (!json_object_is_type(value, json_type_string))
                return strdup("");
        n = (size_t) json_object_get_string_len(value);
        copy = memdup0(json_object_get_string(value), n);
        for (size_t i = 0; copy && i < n; i++)
                if (copy[i] == 0)
                        copy[i] = '?';
        return copy;
}

static int on_message_started(TurnView *v) {
        strbuf_done(&v->item);
        return v->n_items++ > 0 ? emit(v, "\n\n") : 0;
}

static int on_delta(TurnView *v, json_object *event) {
        _cleanup_free_ char *text = copy_text(event, "text");
        int r = text ? strbuf_puts(&v->item, text) : -ENOMEM;

        return r < 0 ? r : emit(v, text);
}

/* The whole text: of a message that did not come in deltas there is something left to show. */
static int on_message_done(TurnView *v, json_object *event) {
        _cleanup_free_ char *text = copy_text(event, "text");

        if (!text)
                return -ENOMEM;
        if (v->item.size > 0 && !startswith(text, v->item.text))
                return 0;
        return emit(v, text + v->item.size);
}

static int on_tool_started(TurnView *v, json_object *event) {
        const char *call = json_get_string(event, "call"), *name = json_get_string(event, "name");
        int r;

        if (!v->show_tool || !call || !name || strv_contains(v->tools, call))
                return 0;
        r = strv_extend(&v->tools, call);
        if (r >= 0)
                v->show_tool(name, v->userdata);
        return r;
}

static int on_event(TurnView *v, json_object *event) {
        static const struct {
                const char *type;
                TurnOutcome outcome;
        } finals[] = {
                { "completed", TURN_COMPLETED }, { "incomplete", TURN_INCOMPLETE }, { "failed", TURN_FAILED },
        };
        const char *type = json_get_string(event, "type");

        if (!type)
                return -EBADMSG;
        if (streq(type, "restarted")) {
                turn_view_begin(v);
                return 0;
        }
        if (streq(type, "message_started"))
                return on_message_started(v);
        if (streq(type, "delta"))
                return on_delta(v, event);
        if (streq(type, "message_done"))
                return on_message_done(v, event);
        if (streq(type, "tool_started"))
                return on_tool_started(v, event);

        for (size_t i = 0; i < ELEMENTSOF(finals); i++) {
                if (!streq(type, finals[i].type))
                        continue;
                v->outcome = finals[i].outcome;
                v->final = json_object_get(event);
                if (v->position < v->shown.size && v->outcome == TURN_COMPLETED)
                        return start_over(v) < 0 ? -ENOMEM : 1;
                return 1;
        }
        return 0; /* of a later version */
}

static int on_line(TurnView *v, const char *line, size_t n) {
        _cleanup_json_ json_object *event = NULL;
        int r;

        if (n == 0)
                return 0;
        r = json_parse(line, n, &event);
        return r < 0 ? r : on_event(v, event);
}

int turn_view_feed(TurnView *v, const char *data, size_t n) {
        while (n > 0 && v->outcome == TURN_GOING) {
                const char *newline = memchr(data, '\n', n);
                size_t piece = newline ? (size_t) (newline - data) : n;
                _cleanup_free_ char *line = NULL;
                size_t size;
                int r;

                if (v->line.size + piece > LINE_MAX_SIZE)
                        return -EMSGSIZE;
                r = strbuf_append(&v->line, data, piece);
                if (r < 0 || !newline)
                        return r;
                data += piece + 1;
                n -= piece + 1;

                /* "restarted" empties the buffer that the line is read from. */
                size = v->line.size;
                line = strbuf_take(&v->line);
                r = line ? on_line(v, line, size) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return v->outcome != TURN_GOING;
}

const char* turn_view_reason(const TurnView *v) {
        const char *s;

        switch (v->outcome) {
        case TURN_FAILED:
                s = json_get_string(json_get(v->final, "error"), "message");
                return s ?: "the turn failed";
        case TURN_INCOMPLETE:
                s = json_get_string(v->final, "reason");
                return s ?: "incomplete";
        default:
                return "";
        }
}
