/* SPDX-License-Identifier: MIT */

/* Starting units against a service manager that does what the test wants. */

#include <limits.h>
#include <sys/socket.h>

#include "agent.h"
#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"
#include "unit.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_OWNER ":1.1"
#define UNIT "puffo-session@rob.service"

typedef struct World {
        char directory[32];
        sd_event *event;
        sd_bus *systemd;                /* its end of the connection */
        Manager manager;
        Agent *agent, *agents[1];
        unsigned n_starts, n_lists, n_resets;
        const char *active;             /* of the unit; NULL: it is not loaded */
        const char *start_error, *list_error;
} World;

static int reply_send(sd_bus_message *reply) {
        ASSERT_OK(sd_bus_message_set_sender(reply, SYSTEMD_OWNER));
        return sd_bus_send(NULL, reply, NULL);
}

static int reply_error(sd_bus_message *m, const char *name) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;

        ASSERT_OK(sd_bus_message_new_method_errorf(m, &reply, name, "for the test"));
        return reply_send(reply);
}

static int reply(sd_bus_message *m, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_method_return(m, &reply));
        va_start(ap, types);
        ASSERT_OK(sd_bus_message_appendv(reply, types, ap));
        va_end(ap);
        return reply_send(reply);
}

static int reply_list(World *w, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *list = NULL;
        uint32_t n_states = 0;

        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
        while (sd_bus_message_read(m, "s", NULL) > 0)
                n_states++;
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

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
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
                return reply(m, "v", "u", 0U);
        if (sd_bus_message_is_method_call(m, NULL, "StopUnit"))
                return reply(m, "o", "/job/1");
        w->n_resets += sd_bus_message_is_method_call(m, NULL, "ResetFailedUnit");
        return reply(m, "");
}

static sd_bus* end_new(sd_event *event, int fd, bool server) {
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

static void world_init(World *w) {
        static const char config[] = "id: rob\nstate: running\n";
        _cleanup_free_ char *agent_dir = NULL, *file = NULL;
        AgentHome *home = NULL;
        int fds[2];

        *w = (World) { .directory = "/tmp/test-unit-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->directory));
        ASSERT_OK(setenv("HOME", w->directory, 1));
        ASSERT_OK(setenv("XDG_RUNTIME_DIR", w->directory, 1));
        agent_dir = path_join(w->directory, "rob");
        file = path_join(agent_dir, "agent.yml");
        ASSERT_OK(directory_make(agent_dir, 0700));
        ASSERT_OK(file_write_atomic(file, config, strlen(config), 0600));
        ASSERT_OK(agent_home_open(agent_dir, &home));

        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        w->systemd = end_new(w->event, fds[0], true);
        ASSERT_OK(sd_bus_add_filter(w->systemd, NULL, on_call, w));
        w->manager = (Manager) { .scope = SCOPE_USER, .event = w->event, .bus = end_new(w->event, fds[1], false),
                                 .restart_usec = 10 * USEC_PER_SEC, .agents = w->agents, .n_agents = 1 };
        ASSERT_OK(home_paths_new(&w->manager.paths, SCOPE_USER));
        ASSERT_OK(daemon_config_new(&w->manager.config));
        ASSERT_OK(agent_new(&w->agent, &w->manager, home));
        w->agents[0] = w->agent;
        ASSERT_EQ(agent_load(w->agent, &(char*) { NULL }), 1);
        ASSERT_OK(manager_export(&w->manager));
        ASSERT_OK(agent_export(&w->manager));
        ASSERT_OK(units_watch(&w->manager));
}

static void world_done(World *w) {
        agent_free(w->agent);
        sd_event_source_disable_unref(w->manager.settle);
        free(w->manager.shown_providers);
        free(w->manager.systemd_owner);
        daemon_config_free(w->manager.config);
        home_paths_free(w->manager.paths);
        sd_bus_close_unref(w->manager.bus);
        sd_bus_close_unref(w->systemd);
        sd_event_unref(w->event);
        ASSERT_OK(directory_remove(w->directory));
}

/* Until there is nothing more to do but what timers will bring. */
static void run(World *w) {
        while (sd_event_run(w->event, 100 * USEC_PER_MSEC) > 0)
                ;
}

static void send_removed(World *w, const char *member, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_signal(w->systemd, &m, "/org/freedesktop/systemd1", SYSTEMD ".Manager", member));
        va_start(ap, types);
        ASSERT_OK(sd_bus_message_appendv(m, types, ap));
        va_end(ap);
        ASSERT_OK(sd_bus_message_set_sender(m, SYSTEMD_OWNER));
        ASSERT_OK(sd_bus_send(w->systemd, m, NULL));
}

/* Left behind by whoever had the name before: not tried again before it has gone, and then at once. */
TEST(start_waits_for_removal) {
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "failed";
        w.start_error = SYSTEMD ".UnitExists";
        run(&w);
        ASSERT_EQ(w.n_starts, 1);
        ASSERT_EQ(w.n_resets, 1);
        ASSERT_EQ(w.agent->state, AGENT_STARTING);

        w.active = w.start_error = NULL;
        send_removed(&w, "UnitRemoved", "so", "other.service", "/x");
        run(&w);
        ASSERT_EQ(w.n_starts, 1);
        send_removed(&w, "UnitRemoved", "so", UNIT, "/x");
        run(&w);
        ASSERT_EQ(w.n_starts, 2);
        ASSERT_STREQ(w.agent->job, "/job/1");
}

/* A job of its own may be what it waits for. */
TEST(start_waits_for_job) {
        _cleanup_(world_done) World w;

        world_init(&w);
        w.start_error = SYSTEMD ".UnitExists";
        run(&w);
        ASSERT_EQ(w.n_starts, 1);
        w.start_error = NULL;
        send_removed(&w, "JobRemoved", "uoss", 7U, "/job/7", UNIT, "done");
        run(&w);
        ASSERT_EQ(w.n_starts, 2);
}

/* What is not known is neither down nor up. */
TEST(state_that_is_not_told) {
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        ASSERT_STREQ(w.agent->unit_state.active, "active");
        ASSERT_EQ(w.n_starts, 0);

        w.list_error = SD_BUS_ERROR_NO_REPLY;
        send_removed(&w, "UnitRemoved", "so", UNIT, "/x");
        run(&w);
        ASSERT_STREQ(w.agent->unit_state.active, "active");
        ASSERT_EQ(w.n_starts, 0);
        ASSERT_EQ(w.n_lists, 2);
}

TEST(end_pause) {
        static const struct {
                uint64_t restart_usec;
                unsigned n_ends;
                uint64_t pause;
        } t[] = {
                { 10 * USEC_PER_SEC, 1, 10 * USEC_PER_SEC }, { 10 * USEC_PER_SEC, 2, 20 * USEC_PER_SEC },
                { 10 * USEC_PER_SEC, 4, 80 * USEC_PER_SEC }, { 10 * USEC_PER_SEC, 7, 600 * USEC_PER_SEC },
                { 10 * USEC_PER_SEC, UINT_MAX, 600 * USEC_PER_SEC }, { 86400 * USEC_PER_SEC, 9, 86400 * USEC_PER_SEC },
                { USEC_PER_SEC / 10, 3, 4 * USEC_PER_SEC / 10 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_EQ(unit_end_pause(t[i].restart_usec, t[i].n_ends), t[i].pause);
}

static uint64_t retry_in(const Agent *a) {
        uint64_t at = 0;

        ASSERT_NOT_NULL(a->retry);
        ASSERT_OK(sd_event_source_get_time(a->retry, &at));
        return at - now_boottime_usec();
}

/* Over before anybody has seen it up, whatever its job is said to have come to: never a loop. */
TEST(sessions_that_end_at_once) {
        static const char *const results[] = { "done", "failed", "dependency", "skipped", "canceled" };
        _cleanup_(world_done) World w;

        world_init(&w);
        run(&w);
        for (unsigned i = 0; i < ELEMENTSOF(results); i++) {
                ASSERT_EQ(w.n_starts, i + 1);
                ASSERT_STREQ(w.agent->job, "/job/1");
                send_removed(&w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, results[i]);
                send_removed(&w, "UnitRemoved", "so", UNIT, "/x");
                run(&w);
                ASSERT_EQ(w.n_starts, i + 1);
                ASSERT_EQ(w.agent->state, AGENT_RESTARTING);
                ASSERT_TRUE(retry_in(w.agent) > (10U << i) * USEC_PER_SEC - USEC_PER_SEC);
                ASSERT_TRUE(retry_in(w.agent) <= (10U << i) * USEC_PER_SEC);

                /* As if the time had passed. */
                ASSERT_OK(sd_event_source_set_time(w.agent->retry, 0));
                run(&w);
        }

        /* One that has run for a while begins with the short pause. */
        w.active = "active";
        send_removed(&w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, "done");
        run(&w);
        ASSERT_NULL(w.agent->retry);
        ASSERT_TRUE(w.agent->up_since_usec > 0);
        w.agent->up_since_usec -= 60 * USEC_PER_SEC;
        w.active = NULL;
        send_removed(&w, "UnitRemoved", "so", UNIT, "/x");
        run(&w);
        ASSERT_EQ(w.agent->n_ends, 1);
        ASSERT_TRUE(retry_in(w.agent) <= 10 * USEC_PER_SEC);
        ASSERT_EQ(w.n_starts, ELEMENTSOF(results) + 1);
}

/* What we stop ourselves is no end by itself. */
TEST(stop_is_no_end) {
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        ASSERT_OK(agent_stop_unit(w.agent));
        run(&w);
        w.active = NULL;
        send_removed(&w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, "done");
        run(&w);
        ASSERT_EQ(w.agent->n_ends, 0);
        ASSERT_NULL(w.agent->retry);
}

#define TEST_SUITE "unit"
TEST_MAIN();
