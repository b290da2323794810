/* SPDX-License-Identifier: MIT */

#include "server-api.h"

/* Every answer is read strictly: a server in front of the real one (a page for browsers, an older release) must not
 * look like one that has nothing to tell. */

static int refuse(char **reterr, const char *format, const char *a) {
        *reterr = asprintf_new("The server's answer %s%s", format, a);
        return *reterr ? -EBADMSG : -ENOMEM;
}

static int read_object(const CallReply *reply, const SignedValue **ret, char **reterr) {
        if (!reply->json)
                return refuse(reterr, "is empty", "");
        if (reply->json->type != SIGNED_OBJECT)
                return refuse(reterr, "is no JSON object", "");
        *ret = reply->json;
        return 0;
}

/* A list that is absent or null is empty only where the specification says so. */
static int read_list(const CallReply *reply, const char *key, bool optional, const SignedValue **ret, char **reterr) {
        const SignedValue *o, *list;
        int r = read_object(reply, &o, reterr);

        if (r < 0)
                return r;
        list = signed_get(o, key);
        if (signed_is_null(list)) {
                *ret = NULL;
                return optional ? 0 : refuse(reterr, "has no ", key);
        }
        if (list->type != SIGNED_ARRAY)
                return refuse(reterr, "has no list of ", key);
        *ret = list;
        return 0;
}

static bool read_flag(const SignedValue *o, const char *key) {
        const SignedValue *v = signed_get(o, key);

        return v && v->type == SIGNED_TRUE;
}

static const char* read_text(const SignedValue *o, const char *key) {
        return strempty(signed_get_string(o, key));
}

/* Each item of the list as one element of an array, by a reader that says whether it is one at all. */
typedef bool (*item_reader_t)(const SignedValue *item, void *ret);

static int read_items(const SignedValue *list, const char *what, size_t item_size, item_reader_t read, void **ret,
                      size_t *ret_n, char **reterr) {
        _cleanup_free_ uint8_t *items = calloc((list ? list->size : 0) ?: 1, item_size);
        size_t n = 0;

        if (!items)
                return -ENOMEM;
        for (const SignedValue *v = list ? list->child : NULL; v; v = v->next, n++)
                if (v->type != SIGNED_OBJECT || !read(v, items + n * item_size))
                        return refuse(reterr, "lists something that is none of ", what);

        *ret = TAKE_PTR(items);
        *ret_n = n;
        return 0;
}

static int read_array(const CallReply *reply, const char *key, size_t item_size, item_reader_t read, void **ret,
                      size_t *ret_n, char **reterr) {
        const SignedValue *list;
        int r = read_list(reply, key, /* optional= */ false, &list, reterr);

        return r < 0 ? r : read_items(list, key, item_size, read, ret, ret_n, reterr);
}

static bool read_profile(const SignedValue *o, void *ret) {
        Profile *p = ret;

        *p = (Profile) {
                .slug = read_text(o, "slug"),
                .username = read_text(o, "username"),
                .display_name = read_text(o, "display_name"),
                .avatar_url = read_text(o, "avatar_url"),
                .bio = read_text(o, "bio"),
                .owner_slug = read_text(o, "owner_slug"),
        };
        return *p->slug;
}

int api_read_profiles(const CallReply *reply, Profile **ret, size_t *ret_n, char **reterr) {
        return read_array(reply, "profiles", sizeof(Profile), read_profile, (void**) ret, ret_n, reterr);
}

static bool read_space(const SignedValue *o, void *ret) {
        const char *id = signed_get_string(o, "space_id") ?: signed_get_string(o, "id");

        *(Space*) ret = (Space) { .space_id = id, .name = read_text(o, "name") };
        return !isempty(id);
}

int api_read_spaces(const CallReply *reply, Space **ret, size_t *ret_n, char **reterr) {
        return read_array(reply, "spaces", sizeof(Space), read_space, (void**) ret, ret_n, reterr);
}

static bool read_channel(const SignedValue *o, void *ret) {
        Channel *c = ret;

        *c = (Channel) {
                .channel_id = read_text(o, "channel_id"),
                .name = read_text(o, "name"),
                .is_public = read_flag(o, "is_public"),
        };
        return *c->channel_id;
}

int api_read_channels(const CallReply *reply, Channel **ret, size_t *ret_n, char **reterr) {
        return read_array(reply, "channels", sizeof(Channel), read_channel, (void**) ret, ret_n, reterr);
}

static bool read_member(const SignedValue *o, void *ret) {
        const char *role = read_text(o, "role");

        *(Member*) ret = (Member) { .slug = read_text(o, "slug"), .role = *role ? role : "member" };
        return true;
}

int api_read_members(const CallReply *reply, Member **ret, size_t *ret_n, char **reterr) {
        size_t n, kept = 0;
        Member *members;
        int r = read_array(reply, "members", sizeof(Member), read_member, (void**) &members, &n, reterr);

        if (r < 0)
                return r;
        /* wire-protocol §9.4: empty ones are skipped. */
        for (size_t i = 0; i < n; i++)
                if (*members[i].slug)
                        members[kept++] = members[i];
        *ret = members;
        *ret_n = kept;
        return 0;
}

static bool read_invite(const SignedValue *o, void *ret) {
        const char *scope = read_text(o, "scope");
        Invite *i = ret;

        *i = (Invite) {
                .event_id = read_text(o, "invitation_event_id"),
                .space_id = read_text(o, "space_id"),
                .channel_id = read_text(o, "channel_id"),
                .inviter_slug = read_text(o, "inviter_slug"),
                .space_name = read_text(o, "space_name"),
                .channel_name = read_text(o, "channel_name"),
                .to_channel = streq(scope, "channel"),
        };
        if (!signed_is_null(signed_get(o, "invitation_event")))
                i->event = signed_get(o, "invitation_event");
        if ((!i->to_channel && !streq(scope, "space")) || !*i->space_id || !*i->inviter_slug ||
            (i->to_channel && !*i->channel_id))
                i->event_id = "";
        return true;
}

int api_read_invites(const CallReply *reply, Invite **ret, size_t *ret_n, size_t *ret_left_out, char **reterr) {
        const SignedValue *list;
        size_t n, kept = 0;
        Invite *invites;
        int r = read_list(reply, "invites", /* optional= */ true, &list, reterr);

        if (r >= 0)
                r = read_items(list, "invites", sizeof(Invite), read_invite, (void**) &invites, &n, reterr);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n; i++)
                if (*invites[i].event_id)
                        invites[kept++] = invites[i];
        *ret = invites;
        *ret_n = kept;
        *ret_left_out = n - kept;
        return 0;
}

int api_read_event_page(const CallReply *reply, const char *cursor, EventPage *ret, char **reterr) {
        const SignedValue *list;
        EventPage page = {};
        const char *next;
        int r = read_list(reply, "events", /* optional= */ false, &list, reterr);

        if (r < 0)
                return r;
        page.events = new0(const SignedValue*, list->size);
        if (!page.events)
                return -ENOMEM;
        for (const SignedValue *e = list->child; e; e = e->next)
                if (e->type == SIGNED_OBJECT)
                        page.events[page.n_events++] = e;

        next = signed_get_string(reply->json, "next_cursor");
        if (read_flag(reply->json, "has_more") && !isempty(next) && !streq_ptr(next, cursor))
                page.next_cursor = next;
        *ret = page;
        return 0;
}

int api_read_posted(const CallReply *reply, PostedMessage *ret, char **reterr) {
        PostedMessage posted = { .devices_queued = -1 };
        const SignedValue *missing;

        if (reply->json && reply->json->type != SIGNED_OBJECT)
                return refuse(reterr, "is no JSON object", "");
        /* Nothing of it is promised, an empty answer is a good one. */
        (void) signed_get_int(reply->json, "devices_queued", &posted.devices_queued);
        posted.replay = read_flag(reply->json, "replay");

        missing = signed_get(reply->json, "missing_devices");
        if (!signed_is_null(missing) && missing->type != SIGNED_ARRAY)
                return refuse(reterr, "has no list of ", "missing_devices");
        posted.missing_devices = new0(const char*, signed_is_null(missing) ? 0 : missing->size);
        if (!posted.missing_devices)
                return -ENOMEM;
        for (const SignedValue *d = signed_is_null(missing) ? NULL : missing->child; d; d = d->next)
                if (d->type == SIGNED_STRING && strlen(d->text) == d->size && d->size > 0)
                        posted.missing_devices[posted.n_missing++] = d->text;
        *ret = posted;
        return 0;
}

int api_read_uploaded(const CallReply *reply, const char **ret_blob_id, char **reterr) {
        const SignedValue *o;
        const char *id;
        int r = read_object(reply, &o, reterr);

        if (r < 0)
                return r;
        id = signed_get_string(o, "blob_id");
        if (isempty(id))
                return refuse(reterr, "has no ", "blob_id");
        if (!blob_id_is_valid(id))
                return refuse(reterr, "has a blob_id that no path may contain", "");
        *ret_blob_id = id;
        return 0;
}
