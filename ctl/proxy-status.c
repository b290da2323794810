/* SPDX-License-Identifier: MIT */

/* The service, its agents, and below each what runs in its units. Says what can be known when the daemon is down, too. */

#include "proxy.h"
#include "string-util.h"

#define COMMAND_COLUMNS 80U

typedef struct Process {
        uint32_t pid, parent;
        char *command;
        bool shown;
} Process;

typedef struct Processes {
        Process *items;
        size_t n;
} Processes;

static void processes_done(Processes *p) {
        for (size_t i = 0; i < p->n; i++)
                free(p->items[i].command);
        free(p->items);
}

static int get_processes(Ctl *c, const char *id, Processes *ret) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        const char *command;
        uint32_t pid, parent;
        int r;

        r = ctl_call_agent(c, id, &error, &reply, CTL_CALL_TIMEOUT_USEC, "GetProcesses", NULL);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(suus)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(suus)", NULL, &pid, &parent, &command)) > 0) {
                Process *grown = reallocarray(ret->items, ret->n + 1, sizeof(Process));
                _cleanup_free_ char *masked = NULL;

                if (!grown)
                        return -ENOMEM;
                ret->items = grown;
                masked = text_mask_keys(command);
                ret->items[ret->n] = (Process) { pid, parent, masked ? text_ellipsize(masked, COMMAND_COLUMNS) : NULL, false };
                if (!ret->items[ret->n].command)
                        return -ENOMEM;
                ret->n++;
        }
        return r;
}

static bool is_listed(const Processes *p, uint32_t pid) {
        for (size_t i = 0; i < p->n; i++)
                if (p->items[i].pid == pid)
                        return true;
        return false;
}

/* Those whose parent this is; with top also those whose parent is none of them: of another unit, or gone. */
static bool belongs_below(const Processes *p, const Process *x, uint32_t parent, bool top) {
        return !x->shown && x->pid != parent && (x->parent == parent || (top && !is_listed(p, x->parent)));
}

static void print_below(Processes *p, uint32_t parent, const char *prefix, bool top) {
        for (size_t i = 0; i < p->n; i++) {
                _cleanup_free_ char *deeper = NULL;
                bool last = true;

                if (!belongs_below(p, p->items + i, parent, top))
                        continue;
                for (size_t j = i + 1; j < p->n && last; j++)
                        last = !belongs_below(p, p->items + j, parent, top);
                p->items[i].shown = true;
                printf("%s%s─ %u %s\n", prefix, last ? "└" : "├", p->items[i].pid, p->items[i].command);
                deeper = strjoin(prefix, last ? "   " : "│  ");
                if (deeper)
                        print_below(p, p->items[i].pid, deeper, /* top= */ false);
        }
}

static void print_unit(Ctl *c, const char *unit, const char *url) {
        _cleanup_free_ char *state = NULL;
        uint32_t pid = 0;

        if (systemd_unit_state(c, unit, &state, &pid) < 0 || pid == 0)
                printf("%s  -  %s%s%s\n", unit, state ?: "inactive", url ? "  " : "", strempty(url));
        else
                printf("%s  %u  %s%s%s\n", unit, pid, state, url ? "  " : "", strempty(url));
}

static void print_agent(Ctl *c, json_object *agent, bool last, bool daemon_is_up) {
        _cleanup_(processes_done) Processes processes = {};
        const char *id = json_get_string(agent, "id"), *state = json_get_string(agent, "state");
        uint32_t pid = (uint32_t) json_get_int(agent, "main_pid", 0);

        printf("%s─ %s  ", last ? "└" : "├", id);
        if (pid > 0)
                printf("%u  %s\n", pid, state);
        else
                printf("-  %s\n", state);
        if (pid > 0 && daemon_is_up && get_processes(c, id, &processes) >= 0)
                print_below(&processes, pid, last ? "   " : "│  ", /* top= */ true);
}

/* "puffo-session@a\x2db.service" → "a-b". */
static char* agent_of_unit(const char *unit) {
        _cleanup_free_ char *instance = NULL;
        const char *begin = startswith(unit, "puffo-session@");
        char *id = NULL;

        if (!begin || !endswith(begin, ".service"))
                return NULL;
        instance = memdup0(begin, strlen(begin) - strlen(".service"));
        return instance && unit_name_unescape(instance, &id) >= 0 ? id : NULL;
}

/* Without the daemon: the agents that systemd knows of. */
static int agents_from_units(Ctl *c, json_object **ret) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *agents = json_object_new_array();
        const char *unit, *active;
        int r;

        if (!agents)
                return -ENOMEM;
        r = systemd_call(c, &error, &reply, "ListUnitsByPatterns", "asas", 0, 1, "puffo-session@*.service");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &unit, NULL, NULL, &active, NULL, NULL, NULL, NULL, NULL,
                                                  NULL)) > 0) {
                _cleanup_free_ char *id = agent_of_unit(unit), *state = NULL;
                json_object *agent = json_object_new_object();
                uint32_t pid = 0;

                (void) systemd_unit_state(c, unit, &state, &pid);
                if (!id || !agent || json_put_string(agent, "id", id) < 0 || json_put_string(agent, "state", active) < 0 ||
                    json_put_int(agent, "main_pid", pid) < 0 || json_object_array_add(agents, agent) < 0) {
                        json_object_put(agent);
                        return -ENOMEM;
                }
        }
        if (r >= 0)
                *ret = TAKE_PTR(agents);
        return r;
}

static char* first_address(Ctl *c) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *properties = NULL;
        json_object *addresses;

        if (ctl_get_properties(c, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, /* start= */ false, &error, &properties) < 0)
                return NULL;
        addresses = json_get(properties, "addresses");
        if (!json_object_is_type(addresses, json_type_array) || json_object_array_length(addresses) == 0)
                return NULL;
        return strdup(json_object_get_string(json_object_array_get_idx(addresses, 0)));
}

static int put_unit(Ctl *c, json_object *o, const char *key, const char *unit, const char *url) {
        json_object *u = json_object_new_object();
        _cleanup_free_ char *state = NULL;
        uint32_t pid = 0;

        (void) systemd_unit_state(c, unit, &state, &pid);
        if (!u || json_put_string(u, "unit", unit) < 0 || json_put_string(u, "state", state ?: "inactive") < 0 ||
            json_put_int(u, "pid", pid) < 0 || (url && json_put_string(u, "url", url) < 0)) {
                json_object_put(u);
                return -ENOMEM;
        }
        return json_put(o, key, u);
}

static int put_processes(Ctl *c, json_object *agent) {
        _cleanup_(processes_done) Processes processes = {};
        json_object *list = json_object_new_array();
        int r = list ? 0 : -ENOMEM;

        (void) get_processes(c, json_get_string(agent, "id"), &processes);
        for (size_t i = 0; i < processes.n && r >= 0; i++) {
                json_object *p = json_object_new_object();

                if (!p || json_put_int(p, "pid", processes.items[i].pid) < 0 || json_put_int(p, "parent", processes.items[i].parent) < 0 ||
                    json_put_string(p, "command", processes.items[i].command) < 0 || json_object_array_add(list, p) < 0) {
                        json_object_put(p);
                        r = -ENOMEM;
                }
        }
        if (r < 0) {
                json_object_put(list);
                return r;
        }
        return json_put(agent, "processes", list);
}

static int print_status_json(Ctl *c, json_object *agents, const char *url, bool daemon_is_up) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < json_object_array_length(agents) && daemon_is_up && r >= 0; i++)
                r = put_processes(c, json_object_array_get_idx(agents, i));
        if (r >= 0)
                r = put_unit(c, o, "gateway", "puffo-gateway.service", url);
        if (r >= 0)
                r = put_unit(c, o, "puffod", "puffod.service", NULL);
        if (r >= 0)
                r = json_put(o, "agents", json_object_get(agents));
        return r < 0 ? ctl_oom(c) : ctl_print_json(c, o);
}

int proxy_status(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agents = NULL;
        _cleanup_free_ char *url = NULL;
        bool daemon_is_up;
        size_t n;
        int r, status;

        r = ctl_get_agents(c, /* start= */ false, &error, &agents);
        daemon_is_up = r >= 0;
        if (r < 0 && !ctl_daemon_is_down(r, &error))
                return proxy_fail(c, r, &error, NULL, "list the agents");
        if (daemon_is_up)
                url = first_address(c);
        else {
                r = agents_from_units(c, &agents);
                if (r < 0)
                        return ctl_fail(c, "cannot ask the service manager: %s", strerror(-r));
        }

        if (c->json) {
                status = print_status_json(c, agents, url, daemon_is_up);
                return status == EXIT_SUCCESS && !daemon_is_up ? EXIT_NOT_RUNNING : status;
        }
        print_unit(c, "puffo-gateway.service", url);
        print_unit(c, "puffod.service", NULL);
        n = json_object_array_length(agents);
        for (size_t i = 0; i < n; i++)
                print_agent(c, json_object_array_get_idx(agents, i), i + 1 == n, daemon_is_up);
        return daemon_is_up ? EXIT_SUCCESS : EXIT_NOT_RUNNING;
}
