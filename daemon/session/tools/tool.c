/* SPDX-License-Identifier: MIT */

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "tool-internal.h"
#include "tool-table.h"

#define TEXT_MAX KIB(512)
#define REASON_MAX 600U
#define CODE_MAX 60U
#define CUT_NOTE "\n[… cut]"

/* --- the table --- */

const Tool* tools_all(size_t *ret_n) {
        static Tool tools[TOOLS_MAX];

        for (size_t i = 0; i < TOOLS_MAX; i++)
                tools[i] = tool_table[i].tool;
        *ret_n = TOOLS_MAX;
        return tools;
}

static const ToolEntry* entry_find(const char *name) {
        for (size_t i = 0; i < TOOLS_MAX; i++)
                if (streq(tool_table[i].tool.name, name))
                        return tool_table + i;
        return NULL;
}

const Tool* tool_find(const char *name) {
        const ToolEntry *e = entry_find(name);

        return e ? &e->tool : NULL;
}

static bool is_offered(const ToolBox *b, const ToolEntry *e) {
        return e->lead ? b && b->get_link : !b || b->puffo || !b->get_link;
}

bool tool_is_offered(const ToolBox *b, const char *name) {
        const ToolEntry *e = entry_find(name);

        return e && is_offered(b, e);
}

const char** tool_names(const ToolBox *b) {
        const char **names = new0(const char*, TOOLS_MAX + 1);
        size_t n = 0;

        for (size_t i = 0; i < TOOLS_MAX && names; i++)
                if (is_offered(b, tool_table + i))
                        names[n++] = tool_table[i].tool.name;
        return names;
}

bool tool_is_answer(const char *name) {
        return streq(name, "send_message") || streq(name, "upload_file");
}

/* --- the box --- */

int tool_box_new(ToolBox **ret, const ToolBoxSpec *spec) {
        _cleanup_(tool_box_freep) ToolBox *b = NULL;

        b = new0(ToolBox, 1);
        if (!b)
                return -ENOMEM;
        LIST_INIT(&b->calls);
        b->event = sd_event_ref(spec->event);
        b->puffo = spec->puffo;
        b->kind = spec->kind;
        b->get_link = spec->get_link;
        b->on_ended = spec->on_ended;
        b->userdata = spec->userdata;
        b->workspace = strdup(spec->home->workspace);
        b->directory = strdup(spec->home->directory);
        b->harness = strdup(strempty(spec->harness));
        if (!b->workspace || !b->directory || !b->harness)
                return -ENOMEM;

        *ret = TAKE_PTR(b);
        return 0;
}

static void call_stop(ToolCall *c) {
        c->server_call = server_call_free(c->server_call);
        c->watch = outbox_watch_free(c->watch);
        c->answer = sd_event_source_disable_unref(c->answer);
        if (c->state)
                c->state_free(c->state);
        c->state = NULL;
        if (c->box)
                LIST_REMOVE(c, calls);
        c->box = NULL;
}

void tool_box_leave(ToolBox *b) {
        b->leaving = true;
}

ToolBox* tool_box_free(ToolBox *b) {
        ToolCall *c;

        if (!b)
                return NULL;
        b->leaving = true;
        while ((c = LIST_FIRST(&b->calls)))
                call_stop(c);
        free(b->workspace);
        free(b->directory);
        free(b->harness);
        sd_event_unref(b->event);
        return mfree(b);
}

/* --- calls --- */

ToolCall* tool_call_free(ToolCall *c) {
        if (!c)
                return NULL;
        call_stop(c);
        json_object_put(c->arguments);
        free(c->key);
        free(c->text);
        return mfree(c);
}

static int call_on_answer(sd_event_source *s, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_free_ char *text = TAKE_PTR(c->text);
        ToolResult result = {
                .is_error = c->is_error || !text,
                .text = text ?: "Out of memory.",
        };

        if (c->box->on_ended && c->entry)
                c->box->on_ended(strempty(c->key), c->entry->tool.name, c->arguments, &result, c->box->userdata);
        call_stop(c);
        c->on_done(c, &result, c->userdata);
        return 0;
}

static void call_end(ToolCall *c, bool is_error, char *text) {
        size_t size = text ? strlen(text) : 0;

        free(c->text);
        if (size > TEXT_MAX) {
                size = utf8_complete_prefix(text, TEXT_MAX - strlen(CUT_NOTE));
                (void) stpcpy(text + size, CUT_NOTE);
        }
        c->is_error = is_error;
        c->text = text ? utf8_repair(text) : NULL;
        (void) sd_event_source_set_enabled(c->answer, SD_EVENT_ONESHOT);
}

int tool_succeed(ToolCall *c, char *text) {
        call_end(c, /* is_error= */ false, text);
        return 0;
}

int tool_fail(ToolCall *c, const char *format, ...) {
        _cleanup_free_ char *reason = NULL, *shown = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&reason, format, ap);
        va_end(ap);
        if (r < 0)
                reason = NULL;

        shown = reason ? str_printable(reason, REASON_MAX) : NULL;
        call_end(c, /* is_error= */ true,
                 shown ? strjoin("Error executing tool ", c->entry->tool.name, ": ", shown) : NULL);
        return 0;
}

int tool_fail_errno(ToolCall *c, int error) {
        char buffer[128];

        return tool_fail(c, "%s", strerror_r(abs(error), buffer, sizeof(buffer)));
}

char* tool_call_reason(const CallReply *reply) {
        _cleanup_free_ char *code = str_printable(strempty(reply->code), CODE_MAX);

        if (!code)
                return NULL;
        switch (reply->failure) {
        case CALL_STATUS:
                return asprintf_new("the server refused it (%ld%s%s)", reply->status, *code ? " " : "", code);
        case CALL_NETWORK:
                return strdup("the server could not be reached");
        case CALL_TLS:
                return strdup("no secure connection to the server could be made");
        case CALL_KEYS:
                return strdup("this agent's keys cannot be used");
        case CALL_MEMORY:
                return NULL;
        default:
                return strdup("the server gave no sensible answer");
        }
}

int tool_fail_call(ToolCall *c, const char *what, const CallReply *reply) {
        _cleanup_free_ char *reason = tool_call_reason(reply);

        return tool_fail(c, "%s: %s", what, reason ?: "out of memory");
}

static int call_run(ToolCall *c, json_object *given) {
        _cleanup_json_ json_object *schema = NULL;
        _cleanup_free_ char *error = NULL;
        int r;

        /* Parsed when it is needed: all of them are 75 KB, of every session and at all times. */
        r = json_parse(c->entry->tool.schema, strlen(c->entry->tool.schema), &schema);
        if (r >= 0)
                r = tool_arguments_check(schema, given, &c->arguments, &error);
        if (r == -EINVAL)
                return tool_fail(c, "%s", error);
        if (r < 0)
                return r;
        if (c->entry->claude_only && !isempty(c->box->harness) && !streq(c->box->harness, "claude-code"))
                return tool_fail(c, "%s works with the harness claude-code only, and this agent's is '%s'",
                                 c->entry->tool.name, c->box->harness);
        if (c->entry->chat && !c->box->puffo)
                return tool_fail(c, "this agent has no identity on the chat service");
        return c->entry->run(c);
}

int tool_call_start(ToolBox *b, const char *name, json_object *arguments, const char *key, tool_done_t on_done,
                    void *userdata, ToolCall **ret) {
        _cleanup_(tool_call_freep) ToolCall *c = NULL;
        _cleanup_free_ char *shown = NULL;
        int r;

        c = new0(ToolCall, 1);
        if (!c)
                return -ENOMEM;
        c->box = b;
        LIST_INSERT_HEAD(&b->calls, c, calls);
        c->entry = entry_find(name);
        c->on_done = on_done;
        c->userdata = userdata;
        r = free_and_strdup(&c->key, key);
        if (r < 0)
                return r;

        r = sd_event_add_defer(b->event, &c->answer, call_on_answer, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->answer, SD_EVENT_OFF);
        if (r < 0)
                return r;

        if (!c->entry || !is_offered(b, c->entry)) {
                shown = str_printable(name, TOOL_NAME_MAX);
                call_end(c, /* is_error= */ true, shown ? strjoin("Unknown tool: ", shown) : NULL);
        } else {
                r = call_run(c, arguments);
                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        (void) tool_fail_errno(c, r);
        }

        *ret = TAKE_PTR(c);
        return 0;
}

/* --- what several of them need --- */

int tool_channel(ToolCall *c, char **ret) {
        _cleanup_free_ char *channel = NULL;
        int r;

        r = tool_trimmed(c, "channel", &channel);
        if (r < 0)
                return r;
        if (*channel == 0)
                return tool_fail(c, "channel is required");
        if (*channel == '#')
                return tool_fail(c, "#<name> addressing isn't supported; use the channel's id (ch_…), list_channels "
                                 "shows them");
        *ret = TAKE_PTR(channel);
        return 1;
}

int tool_space_of(ToolCall *c, const char *channel_id, char **ret) {
        int r = message_store_space_of(puffo_database(c->box->puffo), channel_id, ret);

        if (r != 0)
                return r;
        if (isempty(puffo_home_space(c->box->puffo)))
                return tool_fail(c, "it is not known which space channel %s is in, and this agent has no home space",
                                 channel_id);
        *ret = strdup(puffo_home_space(c->box->puffo));
        return *ret ? 1 : -ENOMEM;
}

int tool_put_line(StrBuf *b, const char *text, size_t max_chars) {
        _cleanup_free_ char *copy = strdup(text), *shown = NULL;

        if (!copy)
                return -ENOMEM;
        for (char *p = copy; *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        *p = ' ';
        /* U+2028 and U+2029 end lines, too. */
        for (char *p = copy; (p = strstr(p, "\xe2\x80")); p += 2)
                if ((unsigned char) p[2] == 0xa8 || (unsigned char) p[2] == 0xa9)
                        p[0] = p[1] = p[2] = ' ';
        shown = str_printable(copy, max_chars);
        return shown ? strbuf_puts(b, shown) : -ENOMEM;
}

int tool_put_time(StrBuf *b, int64_t ms) {
        time_t seconds = (time_t) (ms / 1000 - (ms % 1000 < 0));
        char text[64];
        struct tm tm;

        if (!gmtime_r(&seconds, &tm) || tm.tm_year + 1900 > 9999 || tm.tm_year + 1900 < 1 ||
            strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S+00:00", &tm) == 0)
                return strbuf_printf(b, "%" PRId64, ms);
        return strbuf_puts(b, text);
}
