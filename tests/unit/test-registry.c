/* SPDX-License-Identifier: MIT */

/* The registry of agents on a bus of its own, where no service manager answers: what can be seen of agents that come
 * and go. */

#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "agent.h"
#include "bus-util.h"
#include "event-util.h"
#include "home-fixture.h"

typedef struct World {
        Fixture fixture;
        sd_event *event;
        Manager *manager;
        sd_bus *client;
        pid_t daemon;
        unsigned n_added, n_removed, n_interfaces_removed;
} World;

/* Without any service to be activated: what the machine has installed must not matter. */
static const char bus_config[] =
        "<busconfig><type>session</type><listen>unix:tmpdir=/tmp</listen><auth>EXTERNAL</auth>"
        "<policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>"
        "<allow own=\"*\"/></policy></busconfig>";

static pid_t start_bus(const char *directory) {
        _cleanup_free_ char *config = strjoin("--config-file=", directory, "/bus.conf");
        char address[256] = {};
        int fds[2];
        pid_t pid;

        put_file(directory, "bus.conf", bus_config);
        ASSERT_EQ(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
                char fd[16];

                (void) prctl(PR_SET_PDEATHSIG, SIGKILL);
                (void) snprintf(fd, sizeof(fd), "%d", fds[1]);
                (void) execlp("dbus-daemon", "dbus-daemon", config, "--nofork", "--nopidfile", "--nosyslog",
                              "--print-address", fd, NULL);
                _exit(1);
        }
        ASSERT_TRUE(pid > 0);
        close(fds[1]);
        ASSERT_TRUE(read(fds[0], address, sizeof(address) - 1) > 0);
        close(fds[0]);
        address[strcspn(address, "\n")] = 0;
        ASSERT_EQ(setenv("DBUS_SESSION_BUS_ADDRESS", address, 1), 0);
        return pid;
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        World *w = userdata;

        if (sd_bus_message_is_signal(m, PUFFO_BUS_MANAGER_INTERFACE, "AgentAdded"))
                w->n_added++;
        else if (sd_bus_message_is_signal(m, PUFFO_BUS_MANAGER_INTERFACE, "AgentRemoved"))
                w->n_removed++;
        else if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved")) {
                _cleanup_(strv_freep) char **interfaces = NULL;

                ASSERT_OK(sd_bus_message_read(m, "o", NULL));
                ASSERT_OK(sd_bus_message_read_strv(m, &interfaces));
                w->n_interfaces_removed += strv_contains(interfaces, PUFFO_BUS_AGENT_INTERFACE);
        }
        return 0;
}

static void world_init(World *w) {
        w->fixture = fixture_new();
        ASSERT_EQ(setenv("XDG_RUNTIME_DIR", w->fixture.root, 1), 0);
        w->daemon = start_bus(w->fixture.root);
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(manager_new(&w->manager, SCOPE_USER, w->event));
        ASSERT_OK(sd_bus_open_user(&w->client));
        ASSERT_OK(sd_bus_add_match(w->client, NULL, "type='signal',path_namespace='" PUFFO_BUS_PATH "'", on_signal, w));
}

static void world_done(World *w) {
        manager_free(w->manager);
        sd_event_unref(w->event);
        sd_bus_flush_close_unref(w->client);
        (void) kill(w->daemon, SIGKILL);
        (void) waitpid(w->daemon, NULL, 0);
        fixture_done(&w->fixture);
}

static void add_agent(World *w, const char *id) {
        _cleanup_free_ char *name = strjoin(id, "/agent.yml"), *text = strjoin("id: ", id, "\nstate: paused\n");

        put_file(w->fixture.paths->agents, name, text);
}

/* What was queued is sent, by a call that the daemon answers after it; then whatever came is looked at. */
static void settle(World *w) {
        for (unsigned i = 0; i < 50; i++)
                ASSERT_OK(sd_event_run(w->event, 1000));
        ASSERT_OK(sd_bus_flush(w->manager->bus));
        ASSERT_OK(sd_bus_call_method(w->client, "org.freedesktop.DBus", "/", "org.freedesktop.DBus", "GetId", NULL, NULL, NULL));
        while (sd_bus_process(w->client, NULL) > 0)
                ;
}

TEST(agents_come_and_go) {
        _cleanup_(world_done) World w = {};
        _cleanup_free_ char *gone = NULL;
        unsigned n_before;

        world_init(&w);
        add_agent(&w, "one");
        add_agent(&w, "three");
        ASSERT_OK(manager_start(w.manager, -EBADF, -EBADF));
        settle(&w);
        ASSERT_NOT_NULL(manager_find_agent(w.manager, "one"));
        ASSERT_NOT_NULL(manager_find_agent(w.manager, "manager"));      /* there always is one */
        n_before = w.n_added;
        ASSERT_EQ(n_before, 3);

        add_agent(&w, "two");
        ASSERT_OK(manager_rescan(w.manager));
        settle(&w);
        ASSERT_EQ(w.n_added, n_before + 1);
        ASSERT_EQ(w.n_removed, 0);

        /* The others are asked about while it is announced that this one has gone. */
        gone = path_join(w.fixture.paths->agents, "one");
        ASSERT_OK(directory_remove(gone));
        ASSERT_OK(manager_rescan(w.manager));
        settle(&w);
        ASSERT_NULL(manager_find_agent(w.manager, "one"));
        ASSERT_NOT_NULL(manager_find_agent(w.manager, "two"));
        ASSERT_EQ(w.n_removed, 1);
        ASSERT_EQ(w.n_interfaces_removed, 1);
}

static size_t count_problems(const World *w, const char *text) {
        size_t n = 0;

        for (char **p = w->manager->problems; p && p[0]; p += 2)
                n += strstr(p[1], text) != NULL;
        return n;
}

TEST(broken_edit) {
        _cleanup_(world_done) World w = {};
        _cleanup_free_ char *text = NULL;
        Agent *a;

        world_init(&w);
        add_agent(&w, "one");
        ASSERT_OK(manager_start(w.manager, -EBADF, -EBADF));
        a = manager_find_agent(w.manager, "one");
        ASSERT_FALSE(a->config->running);

        put_file(w.fixture.paths->agents, "one/agent.yml", "state: [oops\n");
        for (unsigned i = 0; i < 2; i++) { /* at each look, not only at the first */
                ASSERT_OK(manager_rescan(w.manager));
                ASSERT_EQ(count_problems(&w, "one/agent.yml"), 1);
                ASSERT_FALSE(a->config->running);       /* the old one is in force */
        }
        ASSERT_ERROR(agent_set_desired(a, true), EBADMSG);
        text = get_file(w.fixture.paths->agents, "one/agent.yml");
        ASSERT_STREQ(text, "state: [oops\n");           /* not written over */

        put_file(w.fixture.paths->agents, "one/agent.yml", "state: running\n");
        ASSERT_OK(manager_rescan(w.manager));
        ASSERT_EQ(count_problems(&w, "one/agent.yml"), 0);
        ASSERT_TRUE(a->config->running);
}

/* One that cannot be read keeps nobody else from being loaded. */
TEST(unreadable_file) {
        _cleanup_(world_done) World w = {};
        _cleanup_free_ char *path = NULL;

        world_init(&w);
        add_agent(&w, "a");
        ASSERT_OK(manager_start(w.manager, -EBADF, -EBADF));
        path = path_join(w.fixture.paths->agents, "a/agent.yml");
        ASSERT_EQ(unlink(path), 0);
        ASSERT_EQ(mkdir(path, 0700), 0);
        add_agent(&w, "b");
        ASSERT_OK(manager_rescan(w.manager));
        ASSERT_NOT_NULL(manager_find_agent(w.manager, "b"));
        ASSERT_NOT_NULL(manager_find_agent(w.manager, "b")->config);
}

/* agent.yml may come some time after its directory. */
TEST(late_file) {
        _cleanup_(world_done) World w = {};
        _cleanup_free_ char *path = NULL;

        world_init(&w);
        ASSERT_OK(manager_start(w.manager, -EBADF, -EBADF));
        path = path_join(w.fixture.paths->agents, "late");
        ASSERT_EQ(mkdir(path, 0700), 0);
        while (ASSERT_OK(sd_event_run(w.event, 500 * USEC_PER_MSEC)) > 0)
                ;       /* the look that the directory gives rise to is over */
        ASSERT_NULL(manager_find_agent(w.manager, "late"));
        add_agent(&w, "late");
        for (unsigned i = 0; i < 200 && !manager_find_agent(w.manager, "late"); i++)
                ASSERT_OK(sd_event_run(w.event, 20 * USEC_PER_MSEC));
        ASSERT_NOT_NULL(manager_find_agent(w.manager, "late"));
}

#define TEST_SUITE "registry"
TEST_MAIN();
