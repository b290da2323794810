/* SPDX-License-Identifier: MIT */

/* The service, its agents, and below each what runs in its units. Says what can be known when the daemon is down, too.
 */

#include "file-util.h"
#include "proxy.h"
#include "string-util.h"

#define COLUMNS 80U
#define COMMAND_COLUMNS_MIN 20U /* however deep it is */

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

static int add_process(Processes *p, uint32_t pid, uint32_t parent, const char *command) {
        _cleanup_free_ char *masked = text_mask_keys(command), *safe = masked ? str_printable(masked, SIZE_MAX) : NULL;
        Process *grown = reallocarray(p->items, p->n + 1, sizeof(Process));

        if (!grown)
                return -ENOMEM;
        p->items = grown;
        p->items[p->n] = (Process) { pid, parent, safe ? text_ellipsize(safe, COLUMNS) : NULL, false };
        if (!p->items[p->n].command)
                return -ENOMEM;
        p->n++;
        return 0;
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
        while (r >= 0 && (r = sd_bus_message_read(reply, "(suus)", NULL, &pid, &parent, &command)) > 0)
                r = add_process(ret, pid, parent, command);
        return r;
}

/* "pid (name, which may contain anything) state ppid …" */
static uint32_t parent_of(uint32_t pid) {
        _cleanup_free_ char *path = asprintf_new("/proc/%u/stat", pid), *stat = NULL;
        unsigned parent = 0;
        char *end;

        if (!path || file_read(path, KIB(4), &stat, NULL) < 0 || !(end = strrchr(stat, ')')) ||
            sscanf(end + 1, " %*c %u", &parent) != 1)
                return 0;
        return parent;
}

/* Without the daemon: what systemd knows. A unit that is not there has no processes. */
static int get_unit_processes(Ctl *c, const char *id, Processes *ret) {
        static const char *const kinds[] = { "puffo-session@", "puffo-harness@" };
        _cleanup_free_ char *instance = unit_name_escape(id);
        int r = instance ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(kinds); i++) {
                _cleanup_free_ char *unit = strjoin(kinds[i], instance, ".service");
                _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
                _cleanup_bus_message_ sd_bus_message *reply = NULL;
                const char *command;
                uint32_t pid;

                if (!unit)
                        return -ENOMEM;
                if (systemd_call(c, &error, &reply, "GetUnitProcesses", "s", unit) < 0)
                        continue;
                r = sd_bus_message_enter_container(reply, 'a', "(sus)");
                while (r >= 0 && (r = sd_bus_message_read(reply, "(sus)", NULL, &pid, &command)) > 0)
                        r = add_process(ret, pid, parent_of(pid), command);
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

/* Within the line, behind what stands in front of it. */
static void print_process(const char *prefix, bool last, const Process *x) {
        _cleanup_free_ char *pid = asprintf_new("%u", x->pid), *command = NULL;
        size_t taken = text_width(prefix) + text_width("└─ ") + strlen(strempty(pid)) + 1;

        command = text_ellipsize(x->command, taken + COMMAND_COLUMNS_MIN < COLUMNS ? COLUMNS - taken
                                                                                   : COMMAND_COLUMNS_MIN);
        printf("%s%s─ %u %s\n", prefix, last ? "└" : "├", x->pid, strempty(command));
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
                print_process(prefix, last, p->items + i);
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
                printf("%u  %s", pid, state);
        else
                printf("-  %s", state);
        if ((streq(state, "failed") || streq(state, "missing")) && !isempty(json_get_string(agent, "status_text"))) {
                _cleanup_free_ char *why = str_printable(json_get_string(agent, "status_text"), 500);

                printf("  %s", strempty(why));
        }
        putchar('\n');
        /* Without a session, too: what runs its tools may outlive it for a moment. */
        if ((daemon_is_up ? get_processes(c, id, &processes) : get_unit_processes(c, id, &processes)) >= 0)
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

/* The state that puffod would show (agent-proxy §6). *ret_text: what the session says of itself. */
static int state_of_unit(Ctl *c, const char *unit, const char *active, const char *sub, char **ret_state,
                         char **ret_text) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL, *text = NULL;
        const char *state = proxy_state_of_unit(active, sub, NULL);
        int r;

        if (streq(active, "active")) {
                r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);
                if (r < 0)
                        return r;
                (void) sd_bus_get_property_string(c->bus, "org.freedesktop.systemd1", path,
                                                  "org.freedesktop.systemd1.Service", "StatusText", &error, &text);
                state = proxy_state_of_unit(active, sub, text);
        }
        *ret_state = strdup(state);
        *ret_text = text ? TAKE_PTR(text) : strdup("");
        return *ret_state && *ret_text ? 0 : -ENOMEM;
}

static int append_unit_agent(Ctl *c, json_object *agents, const char *unit, const char *active, const char *sub) {
        _cleanup_free_ char *id = agent_of_unit(unit), *state = NULL, *text = NULL, *unused = NULL;
        json_object *agent = json_object_new_object();
        uint32_t pid = 0;

        (void) systemd_unit_state(c, unit, &unused, &pid);
        if (!id || !agent || state_of_unit(c, unit, active, sub, &state, &text) < 0 ||
            json_put_string(agent, "id", id) < 0 || json_put_string(agent, "state", state) < 0 ||
            json_put_string(agent, "status_text", text) < 0 || json_put_int(agent, "main_pid", pid) < 0 ||
            json_object_array_add(agents, agent) < 0) {
                json_object_put(agent);
                return -ENOMEM;
        }
        return 0;
}

/* Without the daemon: the agents that systemd knows of. */
static int agents_from_units(Ctl *c, json_object **ret) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *agents = json_object_new_array();
        const char *unit, *active, *sub;
        int r;

        if (!agents)
                return -ENOMEM;
        r = systemd_call(c, &error, &reply, "ListUnitsByPatterns", "asas", 0, 1, "puffo-session@*.service");
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(ssssssouso)", &unit, NULL, NULL, &active, &sub, NULL, NULL,
                                                  NULL, NULL, NULL)) > 0)
                r = append_unit_agent(c, agents, unit, active, sub);
        if (r < 0)
                return r;
        json_object_array_sort(agents, ctl_compare_agents);
        *ret = TAKE_PTR(agents);
        return 0;
}

static char* first_address(Ctl *c) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *properties = NULL;
        json_object *addresses;

        if (ctl_get_properties(c, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, /* start= */ false, &error,
                               &properties) < 0)
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

static int put_processes(Ctl *c, json_object *agent, bool daemon_is_up) {
        _cleanup_(processes_done) Processes processes = {};
        json_object *list = json_object_new_array();
        int r = list ? 0 : -ENOMEM;

        (void) (daemon_is_up ? get_processes(c, json_get_string(agent, "id"), &processes)
                             : get_unit_processes(c, json_get_string(agent, "id"), &processes));
        for (size_t i = 0; i < processes.n && r >= 0; i++) {
                json_object *p = json_object_new_object();

                if (!p || json_put_int(p, "pid", processes.items[i].pid) < 0 ||
                    json_put_int(p, "parent", processes.items[i].parent) < 0 ||
                    json_put_string(p, "command", processes.items[i].command) < 0 ||
                    json_object_array_add(list, p) < 0) {
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

        for (size_t i = 0; i < json_object_array_length(agents) && r >= 0; i++)
                r = put_processes(c, json_object_array_get_idx(agents, i), daemon_is_up);
        if (r >= 0)
                r = put_unit(c, o, "gateway", "puffo-gateway.service", url);
        if (r >= 0)
                r = put_unit(c, o, "link", "puffo-link.service", NULL);
        if (r >= 0)
                r = put_unit(c, o, "puffod", "puffod.service", NULL);
        if (r >= 0)
                r = json_put(o, "agents", json_object_get(agents));
        return r < 0 ? ctl_oom(c) : ctl_print_json(c, o);
}

int proxy_status(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agents = NULL;
        _cleanup_free_ char *url = NULL, *state = NULL;
        bool daemon_is_up;
        uint32_t pid = 0;
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
        /* There while an agent is connected to somewhere. */
        if (systemd_unit_state(c, "puffo-link.service", &state, &pid) >= 0 && pid > 0)
                print_unit(c, "puffo-link.service", NULL);
        print_unit(c, "puffod.service", NULL);
        n = json_object_array_length(agents);
        for (size_t i = 0; i < n; i++)
                print_agent(c, json_object_array_get_idx(agents, i), i + 1 == n, daemon_is_up);
        return daemon_is_up ? EXIT_SUCCESS : EXIT_NOT_RUNNING;
}
