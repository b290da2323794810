/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "server-api.h"
#include "tool-internal.h"

#define ID_SHOWN_MAX 200U
#define PROFILE_TEXT_MAX 2000U
#define SPACES_MAX 100U
/* Of one answer, all spaces together. */
#define CHANNELS_MAX 2000U
#define EVENT_PAGES_MAX 200U
#define USERNAME_SIZE_MAX 200U

/* --- list_channels --- */

typedef struct SpaceRow {
        char *id, *name;
        StrBuf lines;                   /* of its channels */
        char *error;                    /* or why they are not known */
} SpaceRow;

typedef struct ListChannels {
        SpaceRow *spaces;
        size_t n_spaces, n_channels, current;
        char *cursor;                   /* of the page of events that was asked for */
        unsigned n_pages;
} ListChannels;

static void list_channels_free(void *state) {
        ListChannels *l = state;

        for (size_t i = 0; i < l->n_spaces; i++) {
                free(l->spaces[i].id);
                free(l->spaces[i].name);
                free(l->spaces[i].error);
                strbuf_done(&l->spaces[i].lines);
        }
        free(l->spaces);
        free(l->cursor);
        free(l);
}

static int ask_channels(ToolCall *c);

static int add_space(ListChannels *l, const char *id, const char *name) {
        SpaceRow *s = l->spaces + l->n_spaces;

        if (l->n_spaces >= SPACES_MAX)
                return 0;
        s->id = strdup(id);
        s->name = strdup(name);
        l->n_spaces++;
        return s->id && s->name ? 0 : -ENOMEM;
}

static bool is_full(const ListChannels *l) {
        return l->n_channels >= CHANNELS_MAX;
}

/* Within a transaction: each by itself would be waited for. */
static int add_channel(ToolCall *c, const char *channel_id, const char *name) {
        ListChannels *l = c->state;
        SpaceRow *s = l->spaces + l->current;
        int r;

        l->n_channels++;
        r = directory_learn_channel(puffo_directory(c->box->puffo), s->id, channel_id, name);
        if (r >= 0)
                r = strbuf_puts(&s->lines, s->lines.size > 0 ? "\n- " : "- ");
        if (r >= 0)
                r = tool_put_line(&s->lines, channel_id, ID_SHOWN_MAX);
        if (r >= 0)
                r = strbuf_puts(&s->lines, "  ");
        return r < 0 ? r : tool_put_line(&s->lines, name, TOOL_NAME_MAX);
}

/* One space is shown as it is, more of them with a headline each. */
static int put_space(StrBuf *b, const SpaceRow *s) {
        int r = strbuf_puts(b, b->size > 0 ? "\n" : "");

        if (r >= 0)
                r = tool_put_line(b, *s->name ? s->name : s->id, TOOL_NAME_MAX);
        if (r >= 0)
                r = strbuf_puts(b, " (");
        if (r >= 0)
                r = tool_put_line(b, s->id, ID_SHOWN_MAX);
        if (r >= 0)
                r = strbuf_puts(b, "):\n");
        if (r < 0)
                return r;
        if (s->error)
                return strbuf_printf(b, "(channels not known: %s)", s->error);
        return strbuf_puts(b, s->lines.size > 0 ? s->lines.text : "(no channels in this space)");
}

static int answer_channels(ToolCall *c) {
        ListChannels *l = c->state;
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = 0;

        if (l->n_spaces == 1 && l->spaces->error)
                return tool_fail(c, "channels of space %s: %s", l->spaces->id, l->spaces->error);
        if (l->n_spaces == 1)
                r = strbuf_puts(&b, l->spaces->lines.size > 0 ? l->spaces->lines.text : "(no channels in this space)");
        else
                for (size_t i = 0; i < l->n_spaces && r >= 0; i++)
                        r = put_space(&b, l->spaces + i);
        if (r >= 0 && is_full(l))
                r = strbuf_puts(&b, "\n(no more than 2000 channels are shown)");
        return r < 0 ? r : tool_succeed(c, strbuf_take(&b));
}

static int next_space(ToolCall *c) {
        ListChannels *l = c->state;

        l->current++;
        l->cursor = mfree(l->cursor);
        l->n_pages = 0;
        return l->current < l->n_spaces && !is_full(l) ? ask_channels(c) : answer_channels(c);
}

/* What a callback from the server has come to; the reply must not be used any more. */
static void call_done(ToolCall *c, int r) {
        if (r < 0)
                (void) tool_fail_errno(c, r);
}

static int space_failed(ToolCall *c, const char *error) {
        ListChannels *l = c->state;

        l->spaces[l->current].error = str_printable(error ?: "out of memory", PROFILE_TEXT_MAX);
        return l->spaces[l->current].error ? next_space(c) : -ENOMEM;
}

static int ask_events(ToolCall *c);

static int take_events(ToolCall *c, const EventPage *page) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        ListChannels *l = c->state;
        int r = database_begin(puffo_database(c->box->puffo), &t);

        for (size_t i = 0; i < page->n_events && r >= 0 && !is_full(l); i++) {
                const SignedValue *payload = signed_get(page->events[i], "payload");
                const char *id = signed_get_string(payload, "channel_id");

                if (streq_ptr(signed_get_string(page->events[i], "kind"), "create_channel") && !isempty(id))
                        r = add_channel(c, id, strempty(signed_get_string(payload, "name")));
        }
        if (r >= 0)
                r = database_commit(&t);
        return r < 0 ? r : free_and_strdup(&l->cursor, page->next_cursor);
}

static void on_events(ServerCall *call, const CallReply *reply, void *userdata) {
        ToolCall *c = userdata;
        ListChannels *l = c->state;
        _cleanup_free_ char *error = NULL;
        EventPage page = {};
        int r = -EBADMSG;

        if (reply->failure != CALL_OK)
                error = tool_call_reason(reply);
        else
                r = api_read_event_page(reply, l->cursor, &page, &error);
        if (r >= 0)
                r = take_events(c, &page);
        free(page.events);
        c->server_call = server_call_free(call);

        if (r == -EBADMSG)
                r = space_failed(c, error);
        else if (r >= 0)
                r = l->cursor && ++l->n_pages < EVENT_PAGES_MAX && !is_full(l) ? ask_events(c) : next_space(c);
        call_done(c, r);
}

static int ask_events(ToolCall *c) {
        ListChannels *l = c->state;

        return api_space_events(puffo_client(c->box->puffo), l->spaces[l->current].id, l->cursor, on_events, c,
                                &c->server_call);
}

static int take_channels(ToolCall *c, const Channel *channels, size_t n) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = database_begin(puffo_database(c->box->puffo), &t);

        for (size_t i = 0; i < n && r >= 0 && !is_full(c->state); i++)
                r = add_channel(c, channels[i].channel_id, channels[i].name);
        return r < 0 ? r : database_commit(&t);
}

static void on_channels(ServerCall *call, const CallReply *reply, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_free_ Channel *channels = NULL;
        _cleanup_free_ char *error = NULL;
        size_t n = 0;
        int r = reply->failure == CALL_OK ? api_read_channels(reply, &channels, &n, &error) : -EBADMSG;

        if (r >= 0)
                r = take_channels(c, channels, n);
        c->server_call = server_call_free(call);

        /* An older server, or one that is not ready yet: what has happened in the space tells, too. */
        if (r == -EBADMSG)
                r = ask_events(c);
        else if (r >= 0)
                r = next_space(c);
        call_done(c, r);
}

static int ask_channels(ToolCall *c) {
        ListChannels *l = c->state;

        return api_channels(puffo_client(c->box->puffo), l->spaces[l->current].id, on_channels, c, &c->server_call);
}

static int begin_spaces(ToolCall *c) {
        ListChannels *l = c->state;
        const char *home = puffo_home_space(c->box->puffo);
        int r;

        if (l->n_spaces == 0 && isempty(home))
                return tool_succeed(c, strdup("(no space configured)"));
        if (l->n_spaces == 0) {
                r = add_space(l, home, "");
                if (r < 0)
                        return r;
        }
        return ask_channels(c);
}

static void on_spaces(ServerCall *call, const CallReply *reply, void *userdata) {
        ToolCall *c = userdata;
        ListChannels *l = c->state;
        _cleanup_free_ Space *spaces = NULL;
        _cleanup_free_ char *error = NULL;
        size_t n = 0;
        int r = -EBADMSG;

        if (reply->failure != CALL_OK)
                error = tool_call_reason(reply);
        else
                r = api_read_spaces(reply, &spaces, &n, &error);
        if (r >= 0)
                r = (l->spaces = new0(SpaceRow, MAX(MIN(n, SPACES_MAX), 1U))) ? 0 : -ENOMEM;
        for (size_t i = 0; i < n && r >= 0; i++)
                r = add_space(l, spaces[i].space_id, spaces[i].name);
        c->server_call = server_call_free(call);

        if (r == -EBADMSG && !isempty(puffo_home_space(c->box->puffo)))
                r = (l->spaces = new0(SpaceRow, 1)) ? begin_spaces(c) : -ENOMEM;
        else if (r == -EBADMSG)
                r = tool_fail(c, "the list of spaces: %s", error ?: "out of memory");
        else if (r >= 0)
                r = begin_spaces(c);
        call_done(c, r);
}

int tool_list_channels(ToolCall *c) {
        c->state = new0(ListChannels, 1);
        if (!c->state)
                return -ENOMEM;
        c->state_free = list_channels_free;
        return api_spaces(puffo_client(c->box->puffo), on_spaces, c, &c->server_call);
}

/* --- list_channel_members --- */

static int format_members(const Member *members, size_t n, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = n == 0 ? strbuf_puts(&b, "(empty channel)") : 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                r = strbuf_puts(&b, i > 0 ? "\n- " : "- ");
                if (r >= 0)
                        r = tool_put_line(&b, isempty(members[i].slug) ? "?" : members[i].slug, TOOL_NAME_MAX);
                if (r >= 0)
                        r = strbuf_puts(&b, "  (");
                if (r >= 0)
                        r = tool_put_line(&b, isempty(members[i].role) ? "member" : members[i].role, TOOL_NAME_MAX);
                if (r >= 0)
                        r = strbuf_puts(&b, ")");
        }
        if (r < 0)
                return r;
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

static void on_members(ServerCall *call, const CallReply *reply, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_free_ Member *members = NULL;
        _cleanup_free_ char *error = NULL, *text = NULL;
        size_t n;
        int r;

        if (reply->failure != CALL_OK) {
                (void) tool_fail_call(c, "the members of this channel", reply);
                return;
        }
        r = api_read_members(reply, &members, &n, &error);
        if (r == -EBADMSG) {
                (void) tool_fail(c, "the members of this channel: %s", error);
                return;
        }
        if (r >= 0)
                r = format_members(members, n, &text);
        call_done(c, r < 0 ? r : tool_succeed(c, TAKE_PTR(text)));
}

int tool_list_channel_members(ToolCall *c) {
        _cleanup_free_ char *channel = NULL, *space = NULL;
        int r;

        r = tool_channel(c, &channel);
        if (r > 0)
                r = tool_space_of(c, channel, &space);
        if (r <= 0)
                return r;
        return api_channel_members(puffo_client(c->box->puffo), space, channel, on_members, c, &c->server_call);
}

/* --- get_user_info --- */

static int put_field(StrBuf *b, const char *label, const char *value) {
        int r;

        if (isempty(value))
                return 0;
        r = strbuf_puts(b, b->size > 0 ? "\n" : "");
        if (r >= 0)
                r = strbuf_puts(b, label);
        return r < 0 ? r : tool_put_line(b, value, PROFILE_TEXT_MAX);
}

static int format_profile(const Profile *p, StrBuf *b) {
        int r = put_field(b, "slug: ", p->slug);

        if (r >= 0)
                r = put_field(b, "display: ", isempty(p->display_name) ? p->username : p->display_name);
        if (r >= 0)
                r = put_field(b, "bio: ", p->bio);
        return r < 0 ? r : put_field(b, "avatar: ", p->avatar_url);
}

static void on_profile(ServerCall *call, const CallReply *reply, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_free_ Profile *profiles = NULL;
        _cleanup_free_ char *error = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *slug = c->state;
        const Profile *p = NULL;
        size_t n;
        int r;

        if (reply->failure != CALL_OK) {
                (void) tool_fail_call(c, "the profile", reply);
                return;
        }
        r = api_read_profiles(reply, &profiles, &n, &error);
        if (r == -EBADMSG) {
                (void) tool_fail(c, "the profile: %s", error);
                return;
        }
        for (size_t i = 0; i < n && r >= 0 && !p; i++)
                if (streq(profiles[i].slug, slug))
                        p = profiles + i;

        if (r >= 0 && p)
                r = format_profile(p, &b);
        else if (r >= 0) {
                r = strbuf_puts(&b, "(no profile for ");
                if (r >= 0)
                        r = tool_put_line(&b, slug, TOOL_NAME_MAX);
                if (r >= 0)
                        r = strbuf_puts(&b, ")");
        }
        call_done(c, r < 0 ? r : tool_succeed(c, strbuf_take(&b)));
}

int tool_get_user_info(ToolCall *c) {
        _cleanup_free_ char *username = NULL;
        const char *slug;
        int r;

        r = tool_trimmed(c, "username", &username);
        if (r < 0)
                return r;
        slug = username + strspn(username, "@ \t\r\n");
        if (*slug == 0)
                return tool_fail(c, "username is required");
        if (strlen(slug) > USERNAME_SIZE_MAX)
                return tool_fail(c, "username is longer than %u bytes", USERNAME_SIZE_MAX);
        c->state = strdup(slug);
        if (!c->state)
                return -ENOMEM;
        c->state_free = free;
        slug = c->state;
        return api_profiles(puffo_client(c->box->puffo), &slug, 1, on_profile, c, &c->server_call);
}

/* --- whoami --- */

int tool_whoami(ToolCall *c) {
        ServerClient *client = puffo_client(c->box->puffo);
        const SessionKey *subkey = server_client_subkey(client);
        const Identity *identity = server_client_identity(client);
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        r = strbuf_printf(&b, "slug:      %s\ndevice_id: %s\nserver:    %s\n", identity->slug, identity->device_id,
                          identity->server_url);
        if (r >= 0)
                r = subkey ? strbuf_printf(&b, "subkey_id: %s\nexpires:   ", subkey->subkey_id)
                           : strbuf_puts(&b, "subkey:    (no active session)");
        if (r >= 0 && subkey)
                r = subkey->expires_at_ms < 0 ? strbuf_puts(&b, "never") : tool_put_time(&b, subkey->expires_at_ms);
        return r < 0 ? r : tool_succeed(c, strbuf_take(&b));
}
