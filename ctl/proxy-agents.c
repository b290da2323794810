/* SPDX-License-Identifier: MIT */

#include <limits.h>
#include <sys/stat.h>

#include "ctl-turn.h"
#include "paths.h"
#include "proxy.h"
#include "role.h"
#include "string-util.h"

/* "daemon is not running …". EXIT_FAILURE. */
static int proxy_fail_down(const Ctl *c) {
        return ctl_fail(c, "daemon is not running (try 'agent-proxy enable%s')",
                        c->scope == SCOPE_SYSTEM ? " --system" : "");
}

int proxy_fail(const Ctl *c, int r, const sd_bus_error *e, const char *agent, const char *doing) {
        if (ctl_daemon_is_down(r, e))
                return proxy_fail_down(c);
        if (agent && sd_bus_error_has_name(e, PUFFO_ERROR_NO_SUCH_AGENT))
                return ctl_fail(c, "no such agent: %s", agent);
        if (sd_bus_error_has_name(e, PUFFO_ERROR_INVALID_NAME))
                return ctl_refuse(c, "%s", e->message);
        return ctl_fail_bus(c, r, e, "cannot %s", doing);
}

/* --- init and hire --- */

/* Without a daemon the workspace is made all the same: whatever starts the daemon later finds it. */
static int make_workspace_only(Ctl *c, const char *role, const char *name) {
        _cleanup_(agent_home_freep) AgentHome *home = NULL;
        _cleanup_(home_paths_freep) HomePaths *paths = NULL;

        if (c->scope == SCOPE_USER && home_paths_new(&paths, c->scope) >= 0 && home_paths_make(paths) >= 0)
                (void) role_agent_ensure(paths, role, name, "http://127.0.0.1:7011", &home);
        return proxy_fail_down(c);
}

/* created: whether it is new, NULL when that is not known. */
static int print_ready(Ctl *c, const char *id, uint32_t pid, const int *created) {
        _cleanup_json_ json_object *o = NULL;

        if (pid == 0)
                return ctl_fail(c, "%s is not ready", id);
        if (!c->json) {
                printf("%s %u\n", id, pid);
                return EXIT_SUCCESS;
        }
        o = json_object_new_object();
        if (!o || json_put_string(o, "agent", id) < 0 || json_put_int(o, "pid", pid) < 0 ||
            (created && json_put_bool(o, "created", *created) < 0))
                return ctl_oom(c);
        return ctl_print_json(c, o);
}

/* Why an agent cannot work, where it is known: what is missing is the one thing a new user has to hear. */
static void print_why(Ctl *c, json_object *agent) {
        const char *id = json_get_string(agent, "id"), *why = json_get_string(agent, "status_text"),
                   *state = json_get_string(agent, "state");
        _cleanup_free_ char *text = NULL;

        if (isempty(id) || isempty(why) || (!streq_ptr(state, "failed") && !streq_ptr(state, "missing")))
                return;
        text = str_printable(why, 500);
        if (text)
                fprintf(stderr, "%s: %s: %s\n", c->program->name, id, text);
}

static int start_role(Ctl *c, const char *role, const char *name) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *agent = NULL;
        _cleanup_free_ char *id = NULL;
        int r, created = 0;
        uint32_t pid;

        if (role_agent_id_join(role, name, &id) < 0)
                return ctl_refuse(c, "invalid agent name: '%s'", strempty(name));
        r = name ? ctl_call_manager(c, &error, &reply, CTL_START_TIMEOUT_USEC, "Hire", "ss", role, name)
                 : ctl_call_manager(c, &error, &reply, CTL_START_TIMEOUT_USEC, "Init", "s", role);
        if (r >= 0)
                r = name ? sd_bus_message_read(reply, "oub", NULL, &pid, &created)
                         : sd_bus_message_read(reply, "ou", NULL, &pid);
        if (r < 0)
                return ctl_daemon_is_down(r, &error) ? make_workspace_only(c, role, name)
                                                     : proxy_fail(c, r, &error, NULL, "make the agent ready");
        if (ctl_get_agent(c, id, &error, &agent) >= 0)
                print_why(c, agent);
        return print_ready(c, id, pid, name ? &created : NULL);
}

int proxy_init(Ctl *c, const Arguments *a) {
        _cleanup_free_ char *role = NULL, *name = NULL, *lower = strdup(a->words[0]);

        if (!lower)
                return ctl_oom(c);
        for (char *p = lower; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p - 'A' + 'a');
        /* "engineer_alice" is the agent that "hire engineer alice" makes. */
        if (role_agent_id_split(lower, &role, &name) < 0)
                return ctl_refuse(c, "invalid role name: '%s'", a->words[0]);
        return start_role(c, role, name);
}

int proxy_hire(Ctl *c, const Arguments *a) {
        _cleanup_free_ char *role = NULL, *name = NULL;

        if (role_name_normalize(a->words[0], &role) < 0)
                return ctl_refuse(c, "invalid role name: '%s'", a->words[0]);
        if (role_name_normalize(a->words[1], &name) < 0)
                return ctl_refuse(c, "invalid agent name: '%s'", a->words[1]);
        return start_role(c, role, name);
}

/* --- list --- */

int proxy_list(Ctl *c, const Arguments *a) {
        static const Column columns[] = {
                { "agent", "AGENT", false}, {"state", "STATE", false}, {"pid", "PID", true}, {}};
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_json_ json_object *agents = NULL;
        _cleanup_(table_freep) Table *table = NULL;
        int r;

        r = ctl_get_agents(c, /* start= */ true, &error, &agents);
        if (r < 0)
                return proxy_fail(c, r, &error, NULL, "list the agents");
        r = table_new(&table, columns);
        for (size_t i = 0; i < json_object_array_length(agents) && r >= 0; i++) {
                json_object *agent = json_object_array_get_idx(agents, i);
                const char *state = json_get_string(agent, "state");

                r = table_add_string(table, json_get_string(agent, "id"));
                if (r >= 0)
                        r = table_add_coloured(table, state, colour_of_state(state));
                if (r >= 0)
                        r = table_add_pid(table, (uint64_t) json_get_int(agent, "main_pid", 0));
        }
        if (r < 0)
                return ctl_oom(c);
        for (size_t i = 0; i < json_object_array_length(agents); i++)
                print_why(c, json_object_array_get_idx(agents, i));
        return ctl_print_table(c, table);
}

/* --- one agent --- */

/* The agent that a text means: upper case is lowered when nobody is called exactly that. 0, or the exit status. */
static int resolve_agent(Ctl *c, const char *text, char **ret) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        const char *path;
        int r;

        if (!utf8_is_valid(text, strlen(text)))
                return ctl_fail(c, "no such agent: %s", text);
        r = ctl_call_manager(c, &error, &reply, CTL_CALL_TIMEOUT_USEC, "GetAgent", "s", text);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = sd_bus_path_decode(path, PUFFO_BUS_AGENT_PREFIX, ret);
        return r < 0 ? proxy_fail(c, r, &error, text, "find the agent") : 0;
}

int proxy_stop(Ctl *c, const Arguments *a) {
        bool wait = arguments_has(a, "wait");
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *id = NULL;
        int r, status;

        status = resolve_agent(c, a->words[0], &id);
        if (status != 0)
                return status;
        r = ctl_call_agent(c, id, &error, NULL, wait ? CTL_STOP_TIMEOUT_USEC : CTL_CALL_TIMEOUT_USEC,
                           wait ? "Stop" : "Pause", NULL);
        if (r < 0)
                return proxy_fail(c, r, &error, id, "stop the agent");
        printf(wait ? "stopped: %s\n" : "stop queued: %s\n", id);
        return EXIT_SUCCESS;
}

/* It is what was typed that keeps the agent from working, and goes on to do so. */
static bool is_about(const sd_bus_error *e, const char *directory) {
        _cleanup_free_ char *quoted = strjoin("'", directory, "' is not for a harness");

        return quoted && e->message && strstr(e->message, quoted);
}

/* Ready, with the directory noted. Why it is not is for init, list and status to tell: what is printed here is what
 * scripts look for. 0, or the exit status. */
static int make_ready(Ctl *c, const char *id, const char *directory) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        uint32_t pid;
        int r;

        r = ctl_call_agent(c, id, &error, &reply, CTL_START_TIMEOUT_USEC, "Connect", "s", directory);
        if (r >= 0)
                r = sd_bus_message_read(reply, "u", &pid);
        if (r < 0 && (ctl_daemon_is_down(r, &error) ||
                      sd_bus_error_has_names(&error, PUFFO_ERROR_NO_SUCH_AGENT, SD_BUS_ERROR_ACCESS_DENIED,
                                             SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED)))
                return proxy_fail(c, r, &error, id, "connect to the agent");
        if (r < 0) {
                if (is_about(&error, directory))
                        (void) ctl_fail(c, "%s Connect it to another directory.", error.message);
                fputs("not ready\n", stderr);
                return EXIT_FAILURE;
        }
        fprintf(stderr, "%s %u\n", id, pid);
        return 0;
}

int proxy_connect(Ctl *c, const Arguments *a) {
        Chat chat = { .c = c, .source = "connect" };
        _cleanup_free_ char *directory = NULL, *id = NULL, *sentence = NULL;
        const char *given = a->n_words > 1 ? a->words[1] : ".";
        struct stat st;
        int r, status, first;

        directory = realpath(given, NULL);
        if (!directory || stat(directory, &st) < 0 || !S_ISDIR(st.st_mode))
                return ctl_fail(c, "not a directory: %s", given);
        if (!utf8_is_valid(directory, strlen(directory)))
                return ctl_fail(c, "the name of the directory is not UTF-8, the agent cannot be told: %s", directory);
        sentence = strjoin("Now let us work on working dir: ", directory);
        if (!sentence)
                return ctl_oom(c);

        status = resolve_agent(c, a->words[0], &id);
        if (status == 0)
                status = make_ready(c, id, directory);
        if (status != 0)
                return status;

        chat.agent = id;
        r = chat_begin(&chat);
        if (r < 0)
                return ctl_fail(c, "cannot talk to agent '%s': %s", id, strerror(-r));
        first = chat_turn(&chat, sentence);
        status = first == -EINTR ? EXIT_INTERRUPTED : first < 0 ? EXIT_FAILURE : chat_loop(&chat);
        chat_end(&chat);
        /* Piped in, the outcome is that of all turns; a person has seen what went wrong. */
        return status == EXIT_SUCCESS && first == 0 && !isatty(STDIN_FILENO) ? EXIT_FAILURE : status;
}
