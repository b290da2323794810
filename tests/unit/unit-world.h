/* SPDX-License-Identifier: MIT */
#pragma once

/* One agent, rob, of a Manager whose only peer on the bus is a service manager that does what the test wants, and who
 * can call its methods. */

#include <signal.h>
#include <sys/socket.h>

#include "agent.h"
#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "helpers.h"
#include "sandbox-probe.h"
#include "string-util.h"
#include "tests.h"
#include "unit.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_OWNER ":1.1"
#define UNIT "puffo-session@rob.service"
#define HARNESS "puffo-harness@rob.service"

typedef struct World {
        char directory[32];
        HomePaths *paths;               /* of the manager */
        sd_event *event;
        sd_bus *systemd;                /* its end of the connection */
        Manager manager;
        Agent *agent;
        unsigned n_starts, n_stops, n_lists, n_limits, n_resets;
        const char *active;             /* of the unit; NULL: it is not loaded */
        const char *start_error, *stop_error, *list_error;
        const char *harness_active;     /* as active */
        const char *slice;              /* of the session's unit; NULL: not told */
        bool not_transient;
        uint8_t invocation;             /* its first byte */
} World;

_unused_ static int reply_send(sd_bus_message *reply) {
        ASSERT_OK(sd_bus_message_set_sender(reply, SYSTEMD_OWNER));
        return sd_bus_send(NULL, reply, NULL);
}

_unused_ static int reply_error(sd_bus_message *m, const char *name) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;

        ASSERT_OK(sd_bus_message_new_method_errorf(m, &reply, name, "for the test"));
        return reply_send(reply);
}

_unused_ static int reply(sd_bus_message *m, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_method_return(m, &reply));
        va_start(ap, types);
        ASSERT_OK(sd_bus_message_appendv(reply, types, ap));
        va_end(ap);
        return reply_send(reply);
}

_unused_ static int harness_list(World *w, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *list = NULL;

        ASSERT_OK(sd_bus_message_new_method_return(m, &list));
        ASSERT_OK(sd_bus_message_open_container(list, 'a', "(ssssssouso)"));
        if (w->harness_active)
                ASSERT_OK(sd_bus_message_append(list, "(ssssssouso)", HARNESS, "", "loaded", w->harness_active, "dead",
                                                "", "/x", 0, "", "/"));
        ASSERT_OK(sd_bus_message_close_container(list));
        return reply_send(list);
}

_unused_ static int reply_list(World *w, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *list = NULL;
        const char *pattern = NULL;
        uint32_t n_states = 0;

        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
        while (sd_bus_message_read(m, "s", NULL) > 0)
                n_states++;
        ASSERT_OK(sd_bus_message_exit_container(m));
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
        ASSERT_OK(sd_bus_message_read(m, "s", &pattern));
        if (!streq(pattern, UNIT) && n_states == 0) {
                ASSERT_STREQ(pattern, HARNESS);
                return harness_list(w, m);
        }
        if (n_states == 0)
                w->n_lists++;
        if (w->list_error)
                return reply_error(m, w->list_error);
        ASSERT_OK(sd_bus_message_new_method_return(m, &list));
        ASSERT_OK(sd_bus_message_open_container(list, 'a', "(ssssssouso)"));
        if (w->active && n_states == 0)
                ASSERT_OK(sd_bus_message_append(list, "(ssssssouso)", UNIT, "", "loaded", w->active, "dead", "", "/x",
                                                0, "", "/"));
        ASSERT_OK(sd_bus_message_close_container(list));
        return reply_send(list);
}

_unused_ static int reply_property(World *w, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *answer = NULL;
        uint8_t id[16] = { w->invocation, 1 };
        const char *name;

        ASSERT_OK(sd_bus_message_read(m, "ss", NULL, &name));
        if (streq(name, "Transient"))
                return reply(m, "v", "b", !w->not_transient);
        if (streq(name, "Slice") && w->slice)
                return reply(m, "v", "s", w->slice);
        if (!streq(name, "InvocationID"))
                return reply(m, "v", "u", 0U);
        ASSERT_OK(sd_bus_message_new_method_return(m, &answer));
        ASSERT_OK(sd_bus_message_open_container(answer, 'v', "ay"));
        ASSERT_OK(sd_bus_message_append_array(answer, 'y', id, sizeof(id)));
        ASSERT_OK(sd_bus_message_close_container(answer));
        return reply_send(answer);
}

_unused_ static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        World *w = userdata;
        uint8_t type;

        ASSERT_OK(sd_bus_message_get_type(m, &type));
        if (type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        if (sd_bus_message_is_method_call(m, NULL, "ListUnitsByPatterns"))
                return reply_list(w, m);
        if (sd_bus_message_is_method_call(m, NULL, "StartTransientUnit")) {
                w->n_starts++;
                return w->start_error ? reply_error(m, w->start_error) : reply(m, "o", "/job/1");
        }
        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "Get"))
                return reply_property(w, m);
        if (sd_bus_message_is_method_call(m, NULL, "StopUnit")) {
                w->n_stops++;
                return w->stop_error ? reply_error(m, w->stop_error) : reply(m, "o", "/job/1");
        }
        w->n_limits += sd_bus_message_is_method_call(m, NULL, "SetUnitProperties") > 0;
        w->n_resets += sd_bus_message_is_method_call(m, NULL, "ResetFailedUnit");
        return reply(m, "");
}

_unused_ static sd_bus* end_new(sd_event *event, int fd, bool server) {
        sd_bus *bus = NULL;
        sd_id128_t id;

        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fd, fd));
        ASSERT_OK(sd_id128_randomize(&id));
        ASSERT_OK(server ? sd_bus_set_server(bus, 1, id) : sd_bus_set_bus_client(bus, 0));
        ASSERT_OK(sd_bus_start(bus));
        ASSERT_OK(sd_bus_attach_event(bus, event, 0));
        return bus;
}

_unused_ static void world_init(World *w) {
        static const char config[] = "id: rob\nstate: running\n";
        _cleanup_free_ char *agent_dir = NULL, *file = NULL;
        AgentHome *home = NULL;
        sigset_t mask;
        int fds[2];

        ASSERT_OK(sigemptyset(&mask));
        ASSERT_OK(sigaddset(&mask, SIGCHLD));
        ASSERT_OK(sigprocmask(SIG_BLOCK, &mask, NULL));
        *w = (World) { .directory = "/tmp/test-unit-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->directory));
        ASSERT_OK(setenv("HOME", w->directory, 1));
        ASSERT_OK(setenv("XDG_RUNTIME_DIR", w->directory, 1));
        ASSERT_OK(unsetenv("PUFFO_AGENT_HOME"));
        ASSERT_OK(unsetenv("PUFFO_HOME"));
        ASSERT_OK(unsetenv("AGENT_PROXY_HOME"));
        ASSERT_OK(home_paths_new(&w->paths, SCOPE_USER));
        ASSERT_OK(home_paths_make(w->paths));
        agent_dir = path_join(w->paths->agents, "rob");
        file = path_join(agent_dir, "agent.yml");
        ASSERT_OK(directory_make(agent_dir, 0700));
        ASSERT_OK(file_write_atomic(file, config, strlen(config), 0600));
        ASSERT_OK(agent_home_open(agent_dir, &home));

        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        w->systemd = end_new(w->event, fds[0], true);
        ASSERT_OK(sd_bus_add_filter(w->systemd, NULL, on_call, w));
        w->manager = (Manager) { .scope = SCOPE_USER, .event = w->event, .queue_limit = 32,
                                     .start_timeout_usec = 30 * USEC_PER_SEC,
                                  .connect_timeout_usec = 60 * USEC_PER_SEC, .bus = end_new(w->event, fds[1], false),
                                 .restart_usec = 10 * USEC_PER_SEC, .paths = w->paths, .agents = new0(Agent*, 1),
                                 .n_agents = 1 };
        ASSERT_OK(daemon_config_new(&w->manager.config));
        ASSERT_OK(home_watch_new(&w->manager.watch, &w->manager));
        ASSERT_OK(sandbox_probe_new(&w->manager.sandbox_probe, &w->manager));
        ASSERT_OK(agent_new(&w->agent, &w->manager, home));
        w->manager.agents[0] = w->agent;
        ASSERT_EQ(agent_load(w->agent, &(char*) { NULL }), 1);
        ASSERT_OK(manager_export(&w->manager));
        ASSERT_OK(agent_export(&w->manager));
        ASSERT_OK(units_watch(&w->manager));
}

_unused_ static void world_done(World *w) {
        for (size_t i = 0; i < w->manager.n_agents; i++)
                agent_free(w->manager.agents[i]);
        free(w->manager.agents);
        home_watch_free(w->manager.watch);
        sandbox_probe_free(w->manager.sandbox_probe);
        strv_free(w->manager.problems);
        sd_event_source_disable_unref(w->manager.settle);
        free(w->manager.shown_providers);
        free(w->manager.pairing_slug);
        free(w->manager.pairing_device);
        free(w->manager.pairing_problem);
        free(w->manager.systemd_owner);
        daemon_config_free(w->manager.config);
        home_paths_free(w->manager.paths);
        sd_bus_close_unref(w->manager.bus);
        sd_bus_close_unref(w->systemd);
        sd_event_unref(w->event);
        ASSERT_OK(directory_remove(w->directory));
}

/* Until there is nothing more to do but what timers will bring. */
_unused_ static void run(World *w) {
        while (sd_event_run(w->event, 100 * USEC_PER_MSEC) > 0)
                ;
}

_unused_ static void send_removed(World *w, const char *member, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_signal(w->systemd, &m, "/org/freedesktop/systemd1", SYSTEMD ".Manager", member));
        va_start(ap, types);
        ASSERT_OK(sd_bus_message_appendv(m, types, ap));
        va_end(ap);
        ASSERT_OK(sd_bus_message_set_sender(m, SYSTEMD_OWNER));
        ASSERT_OK(sd_bus_send(w->systemd, m, NULL));
}
