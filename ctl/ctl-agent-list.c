/* SPDX-License-Identifier: MIT */

#include <systemd/sd-event.h>

#include "ctl-agents.h"
#include "ctl-bus.h"
#include "ctl-verbs.h"
#include "event-util.h"
#include "string-util.h"

const Option list_options[] = {
        { "follow", 'f', NULL, "go on with each change, until interrupted" },
        {},
};

static const Column columns[] = {
        { "agent", "AGENT" },
        { "state", "STATE" },
        { "pid", "PID", true },
        { "runtime", "RUNTIME" },
        { "model", "MODEL" },
        { "queue", "QUEUE", true },
        { "turns", "TURNS", true },
        { "last_event", "LAST", true },
        { "desired" },
        { "provider" },
        { "workspace" },
        { "status_text", "STATUS" },
        {},
};

static int add_agent(Table *t, json_object *agent) {
        const char *state = json_get_string(agent, "state");
        int r;

        r = table_add_coloured(t, json_get_string(agent, "id"), COLOUR_BOLD);
        if (r >= 0)
                r = table_add_coloured(t, state, colour_of_state(state));
        if (r >= 0)
                r = table_add_pid(t, (uint64_t) json_get_int(agent, "main_pid", 0));
        if (r >= 0)
                r = table_add_string(t, json_get_string(agent, "runtime_kind"));
        if (r >= 0)
                r = table_add_string(t, json_get_string(agent, "model"));
        if (r >= 0)
                r = table_add_number(t, (uint64_t) json_get_int(agent, "queue_length", 0));
        if (r >= 0)
                r = table_add_number(t, (uint64_t) json_get_int(agent, "messages_processed", 0));
        if (r >= 0)
                r = table_add_age(t, (uint64_t) json_get_int(agent, "last_event", 0));
        if (r >= 0)
                r = table_add_string(t, json_get_string(agent, "desired"));
        if (r >= 0)
                r = table_add_string(t, json_get_string(agent, "provider"));
        if (r >= 0)
                r = table_add_string(t, json_get_string(agent, "workspace"));
        if (r >= 0)
                r = table_add_string(t, json_get_string(agent, "status_text"));
        return r;
}

int agents_print(Ctl *c, json_object *agents) {
        _cleanup_(table_freep) Table *t = NULL;
        int r = table_new(&t, columns);

        for (size_t i = 0; r >= 0 && i < json_object_array_length(agents); i++)
                r = add_agent(t, json_object_array_get_idx(agents, i));
        return r < 0 ? ctl_oom(c) : ctl_print_table(c, t);
}

/* --- following --- */

typedef struct Follower {
        Ctl *c;
        sd_event *event;
        sd_event_source *look;  /* many signals at once make one look */
        json_object *known;     /* what has been shown */
        int status;
} Follower;

static json_object* find_agent(json_object *agents, const char *id) {
        for (size_t i = 0; agents && i < json_object_array_length(agents); i++) {
                json_object *agent = json_object_array_get_idx(agents, i);

                if (streq_ptr(json_get_string(agent, "id"), id))
                        return agent;
        }
        return NULL;
}

static bool looks_the_same(json_object *a, json_object *b) {
        static const char *const keys[] = {"state",        "main_pid", "status_text",
                                           "queue_length", "model",    "runtime_kind", "harness_state"};

        for (size_t i = 0; i < ELEMENTSOF(keys); i++)
                if (!json_object_equal(json_get(a, keys[i]), json_get(b, keys[i])))
                        return false;
        return true;
}

static int print_change(Ctl *c, json_object *agent, bool removed) {
        const char *state = removed ? "removed" : strempty(json_get_string(agent, "state"));
        const char *text = removed ? "" : strempty(json_get_string(agent, "status_text"));
        _cleanup_free_ char *time = text_time(now_realtime_usec()), *line = NULL, *safe = NULL;

        if (c->json) {
                const char *s;

                if (removed && json_put_string(agent, "state", state) < 0)
                        return -ENOMEM;
                s = json_text(agent, NULL);
                if (!s)
                        return -ENOMEM;
                json_write_safe(stdout, s);
                fputc('\n', stdout);
        } else {
                /* One line each, whatever the agent says of itself. */
                safe = str_printable(text, SIZE_MAX);
                line = time && safe ? asprintf_new("%s\t%s\t%s\t%" PRIi64 "\t%s", time,
                                                   strempty(json_get_string(agent, "id")), state,
                                                   json_get_int(agent, "main_pid", 0), safe)
                                    : NULL;
                if (!line || text_write_safe(stdout, line) < 0)
                        return -ENOMEM;
                fputc('\n', stdout);
        }
        fflush(stdout);
        return 0;
}

static int show_changes(Follower *f) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *now = NULL;
        int r;

        /* The daemon may be away for a moment; it tells when it is back. */
        r = ctl_get_agents(f->c, /* start= */ false, &error, &now);
        if (r < 0 && !ctl_daemon_is_down(r, &error) && !ctl_reply_was_lost(r, &error)) {
                f->status = ctl_fail_bus(f->c, r, &error, "cannot list agents");
                return sd_event_exit(f->event, 0);
        }
        if (r < 0)
                return 0;

        for (size_t i = 0; i < json_object_array_length(now); i++) {
                json_object *agent = json_object_array_get_idx(now, i);
                json_object *before = find_agent(f->known, json_get_string(agent, "id"));

                if ((!before || !looks_the_same(before, agent)) && print_change(f->c, agent, false) < 0)
                        return -ENOMEM;
        }
        for (size_t i = 0; i < json_object_array_length(f->known); i++) {
                json_object *agent = json_object_array_get_idx(f->known, i);

                if (!find_agent(now, json_get_string(agent, "id")) && print_change(f->c, agent, true) < 0)
                        return -ENOMEM;
        }
        json_object_put(f->known);
        f->known = TAKE_PTR(now);
        if (ferror(stdout))
                return sd_event_exit(f->event, 0);
        return 0;
}

static int on_look(sd_event_source *s, uint64_t usec, void *userdata) {
        Follower *f = userdata;

        if (show_changes(f) < 0) {
                f->status = ctl_oom(f->c);
                return sd_event_exit(f->event, 0);
        }
        return 0;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Follower *f = userdata;

        return event_arm_timer(f->event, &f->look, 20 * USEC_PER_MSEC, USEC_PER_MSEC, on_look, f);
}

static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Follower *f = userdata;

        f->status = ctl_fail(f->c, "the connection to the bus was lost");
        return sd_event_exit(f->event, 0);
}

static int follow(Ctl *c, json_object **agents) {
        static const char *const rules[] = {
                "type='signal',sender='" PUFFO_BUS_NAME "',path_namespace='" PUFFO_BUS_PATH "'",
                "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" PUFFO_BUS_NAME "'",
        };
        Follower f = { .c = c };
        int r;

        r = event_new(&f.event);
        if (r >= 0)
                r = sd_bus_attach_event(c->bus, f.event, SD_EVENT_PRIORITY_NORMAL);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(rules); i++)
                r = sd_bus_add_match(c->bus, NULL, rules[i], on_signal, &f);
        if (r >= 0)
                r = sd_bus_match_signal(c->bus, NULL, "org.freedesktop.DBus.Local", NULL, "org.freedesktop.DBus.Local",
                                        "Disconnected", on_disconnected, &f);
        if (r >= 0) {
                f.known = json_object_get(*agents);
                r = show_changes(&f);
        }
        if (r >= 0)
                r = sd_event_loop(f.event);

        f.look = sd_event_source_disable_unref(f.look);
        json_object_put(f.known);
        (void) sd_bus_detach_event(c->bus);
        sd_event_unref(f.event);
        return r < 0 ? ctl_fail(c, "cannot follow changes: %s", strerror(-r)) : f.status;
}

int verb_agent_list(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agents = NULL;
        bool following = arguments_has(a, "follow");
        int r, status = EXIT_SUCCESS;

        r = ctl_get_agents(c, /* start= */ true, &error, &agents);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot list agents");

        /* With JSON every line is one agent, also the first ones. */
        if (following && c->json) {
                json_object_put(agents);
                agents = json_object_new_array();
                return agents ? follow(c, &agents) : ctl_oom(c);
        }
        if (json_object_array_length(agents) == 0 && !c->json) {
                if (isatty(STDOUT_FILENO))
                        ctl_say(c, "No agents yet; 'puffoctl agent create' or 'agent-proxy hire' makes one.");
        } else
                status = agents_print(c, agents);
        fflush(stdout);
        return status == EXIT_SUCCESS && following ? follow(c, &agents) : status;
}

/* --- one agent --- */

static const struct {
        const char *key, *label;
} lines[] = {
        { "display_name", "Name" },
        { "role", "Role" },
        { "desired", "Desired" },
        { "status_text", "Status" },
        { "health", "Health" },
        { "main_pid", "Main PID" },
        { "unit", "Unit" },
        { "slice", "Slice" },
        { "restarts", "Restarts" },
        { "runtime_kind", "Runtime" },
        { "provider", "Provider" },
        { "model", "Model" },
        { "harness", "Harness" },
        { "sandbox_profile", "Sandbox" },
        { "harness_state", "CLI" },
        { "harness_unit", "CLI unit" },
        { "slug", "Slug" },
        { "operator_slug", "Operator" },
        { "directory", "Directory" },
        { "workspace", "Workspace" },
        { "working_directory", "Works on" },
        { "queue_length", "Queue" },
        { "messages_processed", "Turns" },
};

/* Of an agent whose model is called directly, there is none. */
static bool is_about_a_cli(const char *key) {
        return streq(key, "harness_state") || streq(key, "harness_unit") || streq(key, "sandbox_profile");
}

static void print_label(const char *label) {
        printf("%12s: ", label);
}

int verb_agent_show(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *created = NULL, *last = NULL;
        _cleanup_json_ json_object *agent = NULL;
        const char *id = a->words[0], *state;
        int r;

        r = ctl_get_agent(c, id, &error, &agent);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot show agent '%s'", id);
        if (c->json)
                return ctl_print_json(c, agent);

        state = strempty(json_get_string(agent, "state"));
        created = text_time((uint64_t) json_get_int(agent, "created_at", 0));
        last = text_time((uint64_t) json_get_int(agent, "last_event", 0));
        if (!created || !last)
                return ctl_oom(c);

        printf("%s%s%s\n", colour_on(stdout, COLOUR_BOLD), strempty(json_get_string(agent, "id")),
               colour_off(stdout, COLOUR_BOLD));
        print_label("State");
        printf("%s%s%s\n", colour_on(stdout, colour_of_state(state)), state,
               colour_off(stdout, colour_of_state(state)));
        for (size_t i = 0; i < ELEMENTSOF(lines); i++) {
                json_object *value = json_get(agent, lines[i].key);
                const char *text = value ? json_object_get_string(value) : NULL;
                _cleanup_free_ char *safe = NULL;

                if (isempty(text) || (streq(lines[i].key, "main_pid") && streq(text, "0")) ||
                    (is_about_a_cli(lines[i].key) && streq_ptr(json_get_string(agent, "runtime_kind"), "chat-local")))
                        continue;
                safe = str_printable(text, SIZE_MAX);
                print_label(lines[i].label);
                puts(strempty(safe));
        }
        print_label("Created");
        puts(created);
        print_label("Last event");
        puts(last);
        return EXIT_SUCCESS;
}
