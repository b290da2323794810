/* SPDX-License-Identifier: MIT */

#include "bus-call.h"
#include "bus-util.h"
#include "gateway-handlers.h"
#include "json-util.h"
#include "responses-object.h"

#define PAGE_DEFAULT 50
#define PAGE_MAX 200
#define ID_MAX 128

/* GET /agents/{agent}/messages: the main conversation, a page of it. */

typedef struct MessagePage {
        uint32_t limit;
        const char *before;
} MessagePage;

static int page_parse(Call *c, MessagePage *ret, ApiError *e) {
        const char *limit = http_exchange_query(c->exchange, "limit"),
                   *before = strempty(http_exchange_query(c->exchange, "before"));
        uint32_t n = PAGE_DEFAULT;

        if (limit && (parse_u32(limit, &n) < 0 || n < 1 || n > PAGE_MAX))
                return api_error_set(e, 400, "invalid_value", "limit", "Invalid 'limit': expected 1 to %d.", PAGE_MAX);
        if (strlen(before) > ID_MAX)
                return api_error_set(e, 400, "invalid_value", "before", "Invalid 'before': expected a message's id.");
        *ret = (MessagePage) { .limit = n, .before = before };
        return 0;
}

static int messages_append(sd_bus_message *message, void *userdata) {
        _cleanup_api_error_ ApiError e = {};
        MessagePage page;
        int r;

        r = page_parse(userdata, &page, &e);
        if (r >= 0)
                r = sd_bus_message_append(message, "s", "");
        if (r >= 0)
                r = bus_append_text(message, page.before);
        return r < 0 ? r : sd_bus_message_append(message, "u", page.limit);
}

/* (sssts) */
static int message_read(sd_bus_message *reply, json_object *list) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *id, *role, *text, *turn;
        json_object *files;
        uint64_t usec;
        int r;

        r = sd_bus_message_read(reply, "(sssts)", &id, &role, &text, &usec, &turn);
        if (r <= 0)
                return r;
        files = json_object_new_array();
        if (!o || !files || json_put(o, "files", files) < 0 || json_put_string(o, "id", id) < 0 ||
            json_put_string(o, "role", role) < 0 || json_put_string(o, "text", text) < 0 ||
            json_put_int(o, "at", (int64_t) (usec / USEC_PER_SEC)) < 0 ||
            json_put_string(o, "response_id", response_id_is_valid(turn) ? turn : NULL) < 0 ||
            json_object_array_add(list, o) < 0)
                return -ENOMEM;
        TAKE_PTR(o);
        return 1;
}

static json_object* message_files(json_object *list, const char *id) {
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);

                if (streq_ptr(json_get_string(o, "id"), id))
                        return json_get(o, "files");
        }
        return NULL;
}

/* {sas} */
static int files_read(sd_bus_message *reply, json_object *list) {
        const char *id, *name;
        json_object *files;
        int r;

        r = sd_bus_message_read(reply, "s", &id);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "s");
        if (r < 0)
                return r;
        files = message_files(list, id);
        while ((r = sd_bus_message_read(reply, "s", &name)) > 0) {
                json_object *s = json_object_new_string(name);

                if (!s || !files || json_object_array_add(files, s) < 0) {
                        json_object_put(s);
                        return files ? -ENOMEM : -EBADMSG;
                }
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

static int all_files_read(sd_bus_message *reply, json_object *list) {
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "{sas}");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "sas")) > 0) {
                r = files_read(reply, list);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        return r < 0 ? r : sd_bus_message_exit_container(reply);
}

static int messages_answer(Call *c, sd_bus_message *reply) {
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *list = json_object_new_array();
        int more, r;

        if (!o || !list || json_put(o, "messages", list) < 0)
                return -ENOMEM;
        r = sd_bus_message_enter_container(reply, 'a', "(sssts)");
        if (r < 0)
                return r;
        while ((r = message_read(reply, list)) > 0)
                ;
        if (r >= 0)
                r = sd_bus_message_exit_container(reply);
        if (r >= 0)
                r = sd_bus_message_read(reply, "b", &more);
        if (r >= 0)
                r = all_files_read(reply, list);
        if (r >= 0)
                r = json_put_bool(o, "has_more", more);
        if (r >= 0)
                call_reply_json(c, 200, o);
        return r;
}

static void messages_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        Call *c = userdata;
        int r;

        if (error)
                call_reply_bus_error(c, error);
        else {
                r = messages_answer(c, reply);
                if (r < 0)
                        call_reply_errno(c, r);
        }
        c->bus_call = bus_call_free(c->bus_call);
}

/* Of the path. -EBADMSG with *e. */
static int find_agent(Call *c, MirroredAgent **ret, ApiError *e) {
        MirroredAgent *a = agent_mirror_resolve(c->gateway->agents, c->match.argument);
        _cleanup_free_ char *shown = NULL;

        if (a && call_may_use(c, a)) {
                *ret = a;
                return 0;
        }
        shown = str_printable(c->match.argument, 100);
        return api_error_set(e, 404, "agent_not_found", NULL, "There is no agent '%s'.", strempty(shown));
}

void agent_messages(Call *c) {
        _cleanup_api_error_ ApiError e = {};
        MirroredAgent *a = NULL;
        MessagePage page;
        int r;

        r = find_agent(c, &a, &e);
        if (r >= 0)
                r = page_parse(c, &page, &e);
        if (r >= 0)
                r = bus_call_start(&c->bus_call, c->gateway->event, c->gateway->bus, &(BusCallSpec) {
                        .path = a->path,
                        .interface = PUFFO_BUS_AGENT_INTERFACE,
                        .member = "ListMessages",
                        .append = messages_append,
                        .done = messages_done,
                        .userdata = c,
                });
        if (r == -EBADMSG)
                call_reply_error(c, &e);
        else if (r < 0)
                call_reply_errno(c, r);
}

static int append_running(sd_bus_message *message, void *userdata) {
        return sd_bus_message_append(message, "s", "");
}

static int interrupt_answer(Call *c, sd_bus_message *reply) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int interrupted, r;

        r = sd_bus_message_read(reply, "b", &interrupted);
        if (r >= 0)
                r = o ? json_put_bool(o, "interrupted", interrupted) : -ENOMEM;
        if (r >= 0)
                call_reply_json(c, 200, o);
        return r;
}

static void interrupt_done(sd_bus_message *reply, const sd_bus_error *error, void *userdata) {
        Call *c = userdata;
        int r;

        if (error)
                call_reply_bus_error(c, error);
        else {
                r = interrupt_answer(c, reply);
                if (r < 0)
                        call_reply_errno(c, r);
        }
        c->bus_call = bus_call_free(c->bus_call);
}

/* Whatever the agent is at: somebody sees it going wrong, and does not know the turn by its id. */
void agent_interrupt(Call *c) {
        _cleanup_api_error_ ApiError e = {};
        MirroredAgent *a = NULL;
        int r;

        r = find_agent(c, &a, &e);
        if (r >= 0)
                r = bus_call_start(&c->bus_call, c->gateway->event, c->gateway->bus, &(BusCallSpec) {
                        .path = a->path,
                        .interface = PUFFO_BUS_AGENT_INTERFACE,
                        .member = "Interrupt",
                        .append = append_running,
                        .done = interrupt_done,
                        .userdata = c,
                });
        if (r == -EBADMSG)
                call_reply_error(c, &e);
        else if (r < 0)
                call_reply_errno(c, r);
}
