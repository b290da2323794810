/* SPDX-License-Identifier: MIT */

/* Refreshes at the request of sessions, with a service manager that does what the test wants. */

#include <fcntl.h>
#include <sys/socket.h>

#include "bus-util.h"
#include "credential-refresh.h"
#include "event-util.h"
#include "string-util.h"
#include "tests.h"

typedef struct World {
        sd_event *event;
        sd_bus *systemd, *session, *served;     /* its ends of the connections; served: puffod's to the session */
        Manager manager;
        unsigned n_starts, n_answers, n_errors;
        const char *start_error;
        int program;                    /* what the program writes to */
        char *answer, *error;           /* the last ones */
} World;

static int on_start(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        World *w = userdata;
        const char *name, *mode, *property;
        int fd = -EBADF;

        w->n_starts++;
        ASSERT_OK(sd_bus_message_read(m, "ss", &name, &mode));
        ASSERT_STREQ(name, "puffo-credentials@anthropic.service");
        ASSERT_STREQ(mode, "fail");
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sv)"));
        while (sd_bus_message_enter_container(m, 'r', "sv") > 0) {
                ASSERT_OK(sd_bus_message_read(m, "s", &property));
                if (streq(property, "StandardOutputFileDescriptor"))
                        ASSERT_OK(sd_bus_message_read(m, "v", "h", &fd));
                else
                        ASSERT_OK(sd_bus_message_skip(m, "v"));
                ASSERT_OK(sd_bus_message_exit_container(m));
        }
        if (w->start_error)
                return sd_bus_error_set(reterr_error, w->start_error, "for the test");
        w->program = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        ASSERT_TRUE(w->program >= 0);
        return sd_bus_reply_method_return(m, "o", "/job/1");
}

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        World *w = userdata;

        return sd_bus_message_is_method_call(m, NULL, "RefreshCredentials")
                       ? credential_refresh_method(&w->manager, m, reterr_error) : 0;
}

static int on_systemd_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        return sd_bus_message_is_method_call(m, NULL, "StartTransientUnit") ? on_start(m, userdata, reterr_error) : 0;
}

static sd_bus* end_new(sd_event *event, int fd, bool server) {
        sd_bus *bus = NULL;
        sd_id128_t id;

        ASSERT_OK(sd_bus_new(&bus));
        ASSERT_OK(sd_bus_set_fd(bus, fd, fd));
        ASSERT_OK(sd_id128_randomize(&id));
        ASSERT_OK(server ? sd_bus_set_server(bus, 1, id) : sd_bus_set_bus_client(bus, 0));
        ASSERT_OK(sd_bus_negotiate_fds(bus, 1));
        ASSERT_OK(sd_bus_start(bus));
        ASSERT_OK(sd_bus_attach_event(bus, event, 0));
        return bus;
}

static void world_init(World *w) {
        int one[2], two[2];

        *w = (World) { .program = -EBADF };
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, one));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, two));
        w->systemd = end_new(w->event, one[0], true);
        ASSERT_OK(sd_bus_add_filter(w->systemd, NULL, on_systemd_call, w));
        w->manager = (Manager) { .scope = SCOPE_USER, .event = w->event, .bus = end_new(w->event, one[1], false) };
        w->served = end_new(w->event, two[0], true);
        ASSERT_OK(sd_bus_add_filter(w->served, NULL, on_call, w));
        w->session = end_new(w->event, two[1], false);
}

static void world_done(World *w) {
        credential_refresh_free(w->manager.credential_refresh);
        sd_bus_close_unref(w->session);
        sd_bus_close_unref(w->served);
        sd_bus_close_unref(w->manager.bus);
        sd_bus_close_unref(w->systemd);
        sd_event_unref(w->event);
        safe_close(w->program);
        free(w->answer);
        free(w->error);
}

#define WORLD(name) _cleanup_(world_done) World name; world_init(&name)

static void run(World *w) {
        while (sd_event_run(w->event, 100 * USEC_PER_MSEC) > 0)
                ;
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        World *w = userdata;
        const char *answer;

        if (e) {
                w->n_errors++;
                ASSERT_OK(free_and_strdup(&w->error, e->name));
                return 0;
        }
        w->n_answers++;
        ASSERT_OK(sd_bus_message_read(m, "s", &answer));
        ASSERT_OK(free_and_strdup(&w->answer, answer));
        return 0;
}

static void ask(World *w, const char *provider) {
        ASSERT_OK(sd_bus_call_method_async(w->session, NULL, NULL, PUFFO_PRIVATE_MANAGER_PATH,
                                           PUFFO_PRIVATE_MANAGER_INTERFACE, "RefreshCredentials", on_answer, w, "s",
                                           provider));
        run(w);
}

static void program_ends(World *w, const char *word) {
        ASSERT_EQ(write(w->program, word, strlen(word)), strlen(word));
        w->program = safe_close(w->program);
        run(w);
}

TEST(one_for_all) {
        WORLD(w);

        ask(&w, "anthropic");
        ask(&w, "anthropic");
        ask(&w, "anthropic");
        ASSERT_EQ(w.n_starts, 1);
        ASSERT_EQ(w.n_answers, 0);
        program_ends(&w, "ok\n");
        ASSERT_EQ(w.n_answers, 3);
        ASSERT_STREQ(w.answer, "ok");

        /* Who comes a little late is told the same. */
        ask(&w, "anthropic");
        ASSERT_EQ(w.n_starts, 1);
        ASSERT_EQ(w.n_answers, 4);
}

TEST(what_programs_say) {
        static const struct { const char *said, *answer; } t[] = {
                { "ok\n", "ok" }, { "auth-failed\n", "auth-failed" }, { "not-needed", "not-needed" },
                { "", "failed" }, { "maybe\n", "failed" }, { "\n", "failed" },
                { "okokokokokokokokokokokokokokokokokokokokokokokokokok", "failed" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w);

                ask(&w, "anthropic");
                program_ends(&w, t[i].said);
                ASSERT_EQ(w.n_answers, 1);
                ASSERT_STREQ(w.answer, t[i].answer);
        }
}

TEST(not_started) {
        WORLD(w);

        w.start_error = "org.freedesktop.systemd1.NoSuchUnit";
        ask(&w, "anthropic");
        ASSERT_EQ(w.n_errors, 1);
        ASSERT_STREQ(w.error, PUFFO_ERROR_FAILED);

        /* It may be there now. */
        w.start_error = NULL;
        ask(&w, "anthropic");
        ASSERT_EQ(w.n_starts, 2);
        program_ends(&w, "ok\n");
        ASSERT_EQ(w.n_answers, 1);
}

/* A puffod before this one has started it. */
TEST(runs_already) {
        WORLD(w);

        w.start_error = "org.freedesktop.systemd1.UnitExists";
        ask(&w, "anthropic");
        ASSERT_EQ(w.n_errors, 0);
        ASSERT_STREQ(w.answer, "busy");
}

TEST(who_asked_is_gone) {
        WORLD(w);

        ask(&w, "anthropic");
        w.session = sd_bus_close_unref(w.session);
        run(&w);
        program_ends(&w, "ok\n");
        ASSERT_EQ(w.n_answers, 0);
}

TEST(refused) {
        WORLD(w);

        ask(&w, "../evil");
        ASSERT_STREQ(w.error, PUFFO_ERROR_INVALID_ARGUMENT);
        w.manager.scope = SCOPE_SYSTEM;
        ask(&w, "anthropic");
        ASSERT_STREQ(w.error, SD_BUS_ERROR_NOT_SUPPORTED);
        ASSERT_EQ(w.n_starts, 0);
}

#define TEST_SUITE "credential-refresh"
TEST_MAIN();
