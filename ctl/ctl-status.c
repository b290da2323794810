/* SPDX-License-Identifier: MIT */

#include "ctl-agents.h"
#include "ctl-bus.h"
#include "ctl-verbs.h"
#include "string-util.h"

static int read_problems(Ctl *c, sd_bus_error *reterr, json_object **ret) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        int r = ctl_call_manager(c, reterr, &reply, CTL_CALL_TIMEOUT_USEC, "ListProblems", NULL);

        return r < 0 ? r : bus_message_to_json(reply, ret);
}

static void print_line(const char *label, const char *text, Colour colour) {
        printf("%12s: %s", label, colour_on(stdout, colour));
        (void) text_write_safe(stdout, text);
        printf("%s\n", colour_off(stdout, colour));
}

static void print_addresses(json_object *manager) {
        json_object *addresses = json_get(manager, "addresses");
        size_t n = addresses ? json_object_array_length(addresses) : 0;

        if (n == 0)
                print_line("Address", "none (puffo-gateway.socket is not listening)", COLOUR_YELLOW);
        for (size_t i = 0; i < n; i++)
                print_line("Address", json_object_get_string(json_object_array_get_idx(addresses, i)), COLOUR_NONE);
}

/* The row of the default provider: [name, model, address, has a key]. */
static int print_provider(json_object *manager) {
        const char *name = json_get_string(manager, "default_provider");
        json_object *providers = json_get(manager, "providers");
        _cleanup_free_ char *text = NULL;

        for (size_t i = 0; providers && i < json_object_array_length(providers); i++) {
                json_object *row = json_object_array_get_idx(providers, i);
                const char *model = json_object_get_string(json_object_array_get_idx(row, 1));
                bool key = json_object_get_boolean(json_object_array_get_idx(row, 3)) || streq_ptr(name, "echo");

                if (!streq_ptr(json_object_get_string(json_object_array_get_idx(row, 0)), name))
                        continue;
                text = asprintf_new("%s%s%s%s", name, isempty(model) ? "" : ", ", strempty(model),
                                    key ? "" : ", no key (set one with 'puffoctl provider set --api-key')");
                if (!text)
                        return -ENOMEM;
                print_line("Provider", text, key ? COLOUR_NONE : COLOUR_YELLOW);
                return 0;
        }
        print_line("Provider", isempty(name) ? "none" : name, COLOUR_NONE);
        return 0;
}

/* What this machine cannot keep of what a profile promises: agents that ask for it have no tools. */
static int print_sandboxes(json_object *manager) {
        json_object *sandboxes = json_get(manager, "sandbox");

        if (!json_object_is_type(sandboxes, json_type_object))
                return 0;
        json_object_object_foreach(sandboxes, profile, verdict) {
                _cleanup_free_ char *text = NULL;

                if (streq_ptr(json_object_get_string(verdict), "ok"))
                        continue;
                text = strjoin(profile, ": ", strempty(json_object_get_string(verdict)));
                if (!text)
                        return -ENOMEM;
                print_line("No sandbox", text, COLOUR_YELLOW);
        }
        return 0;
}

static void print_problems(json_object *problems) {
        size_t n = problems ? json_object_array_length(problems) : 0;

        if (n == 0)
                return;
        printf("\n%sNot usable as they are:%s\n", colour_on(stdout, COLOUR_RED), colour_off(stdout, COLOUR_RED));
        for (size_t i = 0; i < n; i++) {
                json_object *row = json_object_array_get_idx(problems, i);
                const char *directory = json_object_get_string(json_object_array_get_idx(row, 0));
                const char *reason = json_object_get_string(json_object_array_get_idx(row, 1));

                fputs("  ", stdout);
                if (!startswith(strempty(reason), strempty(directory))) {
                        (void) text_write_safe(stdout, strempty(directory));
                        fputs(": ", stdout);
                }
                (void) text_write_safe(stdout, strempty(reason));
                fputc('\n', stdout);
        }
}

static int print_for_people(Ctl *c, json_object *manager, json_object *agents, json_object *problems) {
        _cleanup_free_ char *head = NULL, *counts = NULL;

        head = asprintf_new("%s, %s mode", json_get_string(manager, "version"), json_get_string(manager, "mode"));
        counts = asprintf_new("%" PRIi64 " (%" PRIi64 " ready, %" PRIi64 " busy)", json_get_int(manager, "agents", 0),
                              json_get_int(manager, "ready", 0), json_get_int(manager, "busy", 0));
        if (!head || !counts)
                return ctl_oom(c);
        print_line("Daemon", head, COLOUR_NONE);
        print_addresses(manager);
        print_line("Agents", counts, COLOUR_NONE);
        if (print_provider(manager) < 0 || print_sandboxes(manager) < 0)
                return ctl_oom(c);
        if (json_object_array_length(agents) > 0) {
                int status;

                fputc('\n', stdout);
                status = agents_print(c, agents);
                if (status != EXIT_SUCCESS)
                        return status;
        }
        print_problems(problems);
        return EXIT_SUCCESS;
}

/* Rows as on the bus, with names to their columns. Fails with -ENOMEM. */
static int name_columns(json_object *rows, const char *const *keys, size_t n_keys, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_array();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; rows && i < json_object_array_length(rows); i++) {
                json_object *row = json_object_array_get_idx(rows, i), *o = json_object_new_object();

                if (!o || json_object_array_add(list, o) < 0) {
                        json_object_put(o);
                        return -ENOMEM;
                }
                for (size_t k = 0; k < n_keys; k++)
                        if (json_put(o, keys[k], json_object_get(json_object_array_get_idx(row, k))) < 0)
                                return -ENOMEM;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int print_as_json(Ctl *c, json_object *manager, json_object *agents, json_object *problems) {
        static const char *const problem_keys[] = { "directory", "reason" };
        static const char *const provider_keys[] = { "provider", "model", "base_url", "key" };
        _cleanup_json_ json_object *o = json_object_new_object(), *list = NULL, *providers = NULL;

        if (!o || name_columns(problems, problem_keys, ELEMENTSOF(problem_keys), &list) < 0 ||
            name_columns(json_get(manager, "providers"), provider_keys, ELEMENTSOF(provider_keys), &providers) < 0 ||
            json_put(manager, "providers", TAKE_PTR(providers)) < 0 ||
            json_put(o, "daemon", json_object_get(manager)) < 0 ||
            json_put(o, "agents", json_object_get(agents)) < 0 || json_put(o, "problems", TAKE_PTR(list)) < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}

int verb_status(Ctl *c, const Arguments *a) {
        _cleanup_json_ json_object *manager = NULL, *agents = NULL, *problems = NULL;
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        /* Asking how it is shall not start it. */
        r = ctl_get_properties(c, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, /* start= */ false, &error, &manager);
        if (r >= 0)
                r = ctl_get_agents(c, /* start= */ false, &error, &agents);
        if (r >= 0)
                r = read_problems(c, &error, &problems);
        if (r < 0) {
                (void) ctl_fail_bus(c, r, &error, "cannot tell the status");
                return ctl_daemon_is_down(r, &error) ? EXIT_NOT_RUNNING : EXIT_FAILURE;
        }
        return c->json ? print_as_json(c, manager, agents, problems) : print_for_people(c, manager, agents, problems);
}
