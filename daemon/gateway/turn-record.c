/* SPDX-License-Identifier: MIT */

#include "json-util.h"
#include "responses-request.h"
#include "string-util.h"
#include "turn-record.h"

void turn_record_done(TurnRecord *t) {
        for (size_t i = 0; i < t->n_messages; i++) {
                free(t->messages[i].item);
                free(t->messages[i].text);
        }
        free(t->messages);
        free(t->status);
        free(t->conversation);
        free(t->error_code);
        free(t->error_message);
        free(t->reason);
        json_object_put(t->document);
        json_object_put(t->usage);
        *t = (TurnRecord) {};
}

static int read_document(sd_bus_message *m, TurnRecord *t) {
        const char *s;
        int r;

        r = sd_bus_message_read(m, "v", "s", &s);
        if (r < 0 || isempty(s))
                return r;
        json_object_put(TAKE_PTR(t->document));
        r = json_parse_deep(s, strlen(s), 2 * REQUEST_DEPTH_MAX, &t->document);
        if (r < 0)
                return r;
        return json_object_is_type(json_get(t->document, "response"), json_type_object) ? 0 : -EBADMSG;
}

static int read_messages(sd_bus_message *m, TurnRecord *t) {
        const char *item, *text, *status;
        int r;

        r = sd_bus_message_enter_container(m, 'v', "a(sss)");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "(sss)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sss)", &item, &text, &status)) > 0) {
                TurnMessage *grown = reallocarray(t->messages, t->n_messages + 1, sizeof(*grown));

                if (!grown)
                        return -ENOMEM;
                t->messages = grown;
                grown += t->n_messages++;
                *grown = (TurnMessage) {
                        .item = strdup(item),
                        .text = strdup(text),
                        .complete = streq(status, "completed"),
                };
                if (!grown->item || !grown->text)
                        return -ENOMEM;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_usage(sd_bus_message *m, TurnRecord *t) {
        const char *name;
        uint64_t count;
        int r;

        json_object_put(TAKE_PTR(t->usage));
        t->usage = json_object_new_object();
        if (!t->usage)
                return -ENOMEM;
        r = sd_bus_message_enter_container(m, 'v', "a{st}");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{st}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "{st}", &name, &count)) > 0) {
                r = json_put_int(t->usage, name, (int64_t) MIN(count, (uint64_t) INT64_MAX));
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(m);
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

static int read_field(sd_bus_message *m, const char *name, TurnRecord *t) {
        const struct {
                const char *name;
                char **field;
        } strings[] = {
                { "Status", &t->status }, { "Conversation", &t->conversation }, { "ErrorCode", &t->error_code },
                { "ErrorMessage", &t->error_message }, { "Reason", &t->reason },
        };
        const char *s;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(strings); i++)
                if (streq(strings[i].name, name)) {
                        r = sd_bus_message_read(m, "v", "s", &s);
                        return r < 0 ? r : free_and_strdup(strings[i].field, s);
                }
        if (streq(name, "Document"))
                return read_document(m, t);
        if (streq(name, "Messages"))
                return read_messages(m, t);
        if (streq(name, "Usage"))
                return read_usage(m, t);
        if (streq(name, "CreatedAt"))
                return sd_bus_message_read(m, "v", "t", &t->created_usec);
        if (streq(name, "EndedAt"))
                return sd_bus_message_read(m, "v", "t", &t->ended_usec);
        return sd_bus_message_skip(m, "v");
}

int turn_record_read(sd_bus_message *reply, TurnRecord *ret) {
        _cleanup_(turn_record_done) TurnRecord t = {};
        const char *name;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(reply, 'e', "sv")) > 0) {
                r = sd_bus_message_read(reply, "s", &name);
                if (r >= 0)
                        r = read_field(reply, name, &t);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        if (!t.status)
                return -EBADMSG;

        *ret = t;
        t = (TurnRecord) {};
        return 0;
}

bool turn_record_is_running(const TurnRecord *t) {
        return streq(t->status, "queued") || streq(t->status, "running");
}
