/* SPDX-License-Identifier: MIT */

/* Harness units against a service manager that does what the test wants, asked for by a session of the test's. */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "harness-properties.h"
#include "harness-unit.h"
#include "unit-world.h"

#define HARNESS_PATH "/org/freedesktop/systemd1/unit/puffo_2dharness_40rob_2eservice"
#define INTERFACE "ai.puffo.Private1.Manager"

static const uint8_t invocation[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };

typedef struct Hands {
        World w;
        HarnessUnit *unit;
        sd_bus *server, *session;       /* of the private connection */
        /* the service manager's side */
        char log[1024];                 /* the calls that have to do with harnesses, a word each */
        const char *verdict;            /* of a probe; NULL: ok */
        const char *start_error, *freeze_error, *stop_error, *freezer;
        unsigned n_thaw_errors;
        bool hides;                     /* says nothing of properties */
        const char *swap[2];            /* when limits are set: the first is renamed to the second, and is a link to … */
        const char *swap_to;
        const char *result;
        int32_t code, status;
        int child_stdout;               /* what a harness got for its standard output */
        /* the session's */
        char answer[512];               /* to the last call that was answered: its error's name, or what it says */
        unsigned n_answers;
        int fds[2];                     /* its end, the harness's end */
} Hands;

static void note(Hands *h, const char *word) {
        size_t n = strlen(h->log);

        ASSERT_TRUE(n + strlen(word) + 2 < sizeof(h->log));
        (void) snprintf(h->log + n, sizeof(h->log) - n, "%s%s", n > 0 ? " " : "", word);
}

static int find_descriptor(sd_bus_message *m, const char *property) {
        const char *name;
        int fd = -EBADF;

        ASSERT_OK(sd_bus_message_skip(m, "ss"));
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sv)"));
        while (ASSERT_OK(sd_bus_message_enter_container(m, 'r', "sv")) > 0) {
                ASSERT_OK(sd_bus_message_read(m, "s", &name));
                if (streq(name, property)) {
                        ASSERT_OK(sd_bus_message_read(m, "v", "h", &fd));
                        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
                } else
                        ASSERT_OK(sd_bus_message_skip(m, "v"));
                ASSERT_OK(sd_bus_message_exit_container(m));
        }
        ASSERT_TRUE(fd >= 0);
        return fd;
}

static int start_probe(Hands *h, sd_bus_message *m) {
        static const char fine[] = "{\"profile\":\"host\",\"violations\":[],\"missing\":[]}\n";
        const char *text = h->verdict ?: fine;
        int fd = find_descriptor(m, "StandardOutputFileDescriptor");

        note(h, "Probe");
        ASSERT_EQ(write(fd, text, strlen(text)), strlen(text));
        close(fd);
        return reply(m, "o", "/job/9");
}

static int get_all(Hands *h, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *r = NULL;
        const char *interface;

        ASSERT_OK(sd_bus_message_read(m, "s", &interface));
        ASSERT_OK(sd_bus_message_new_method_return(m, &r));
        ASSERT_OK(sd_bus_message_open_container(r, 'a', "{sv}"));
        if (streq(interface, SYSTEMD ".Unit")) {
                ASSERT_OK(sd_bus_message_append(r, "{sv}{sv}", "ActiveState", "s", h->w.harness_active ?: "inactive",
                                                "FreezerState", "s", h->freezer ?: "running"));
                ASSERT_OK(sd_bus_message_open_container(r, 'e', "sv"));
                ASSERT_OK(sd_bus_message_append(r, "s", "InvocationID"));
                ASSERT_OK(sd_bus_message_open_container(r, 'v', "ay"));
                ASSERT_OK(sd_bus_message_append_array(r, 'y', invocation, sizeof(invocation)));
                ASSERT_OK(sd_bus_message_close_container(r));
                ASSERT_OK(sd_bus_message_close_container(r));
        } else if (streq(interface, SYSTEMD ".Service"))
                ASSERT_OK(sd_bus_message_append(r, "{sv}{sv}{sv}{sv}", "Result", "s", h->result ?: "success",
                                                "ExecMainCode", "i", h->code, "ExecMainStatus", "i", h->status,
                                                "MemoryMax", "t", UINT64_MAX));
        else
                ASSERT_OK(sd_bus_message_append(r, "{sv}{sv}", "Version", "s", "252", "UserspaceTimestampMonotonic",
                                                "t", (uint64_t) 42));
        ASSERT_OK(sd_bus_message_close_container(r));
        return reply_send(r);
}

/* > 0: it is about harnesses, and answered. */
static int on_harness_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        static const char *const quiet[] = { "RefUnit", "UnrefUnit", "ThawUnit", "FreezeUnit", "ResetFailedUnit" };
        const char *unit = NULL;
        Hands *h = userdata;
        uint8_t type;

        ASSERT_OK(sd_bus_message_get_type(m, &type));
        if (type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Properties", "GetAll")) {
                ASSERT_OK(h->hides ? reply_error(m, SD_BUS_ERROR_FAILED) : get_all(h, m));
                return 1;
        }
        if (sd_bus_message_is_method_call(m, NULL, "SetUnitProperties")) {
                note(h, "Limits");
                if (h->swap_to) {
                        ASSERT_EQ(rename(h->swap[0], h->swap[1]), 0);
                        ASSERT_EQ(symlink(h->swap_to, h->swap[0]), 0);
                }
        }
        if (sd_bus_message_has_signature(m, "s") || sd_bus_message_has_signature(m, "ss") ||
            sd_bus_message_is_method_call(m, NULL, "StartTransientUnit")) {
                ASSERT_OK(sd_bus_message_read(m, "s", &unit));
                ASSERT_OK(sd_bus_message_rewind(m, true));
        }
        if (unit && startswith(unit, "puffo-probe-") && sd_bus_message_is_method_call(m, NULL, "StartTransientUnit")) {
                ASSERT_OK(start_probe(h, m));
                return 1;
        }
        if (!unit || !streq(unit, HARNESS))
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(quiet); i++)
                if (sd_bus_message_is_method_call(m, NULL, quiet[i])) {
                        note(h, quiet[i]);
                        if (streq(quiet[i], "FreezeUnit") && h->freeze_error)
                                ASSERT_OK(reply_error(m, h->freeze_error));
                        else if (streq(quiet[i], "ThawUnit") && h->n_thaw_errors > 0) {
                                h->n_thaw_errors--;
                                ASSERT_OK(reply_error(m, SD_BUS_ERROR_FAILED));
                        } else {
                                if (streq(quiet[i], "ThawUnit"))
                                        h->freezer = NULL;
                                ASSERT_OK(reply(m, ""));
                        }
                        return 1;
                }
        if (sd_bus_message_is_method_call(m, NULL, "StopUnit")) {
                note(h, "Stop");
                ASSERT_OK(h->stop_error ? reply_error(m, h->stop_error) : reply(m, "o", "/job/8"));
                return 1;
        }
        if (!sd_bus_message_is_method_call(m, NULL, "StartTransientUnit"))
                return 0;
        note(h, "Start");
        if (h->start_error)
                ASSERT_OK(reply_error(m, h->start_error));
        else {
                h->child_stdout = find_descriptor(m, "StandardOutputFileDescriptor");
                ASSERT_OK(reply(m, "o", "/job/7"));
        }
        return 1;
}

/* --- the session's side --- */

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        Hands *h = userdata;
        HarnessRequest *q = NULL;
        int r = harness_request_read(&q, h->w.agent, m, e);

        return r < 0 ? r : harness_unit_start(h->unit, m, q, e);
}

static int method_stop(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        return harness_unit_wait_stopped(((Hands*) userdata)->unit, m, e);
}

static int method_freeze(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        int freeze;

        ASSERT_OK(sd_bus_message_read(m, "b", &freeze));
        return harness_unit_freeze(((Hands*) userdata)->unit, m, freeze, e);
}

static int method_wait(sd_bus_message *m, void *userdata, sd_bus_error *e) {
        sd_id128_t id;
        const void *p;
        size_t size;

        ASSERT_OK(sd_bus_message_read_array(m, 'y', &p, &size));
        ASSERT_EQ(size, sizeof(id));
        memcpy(&id, p, size);
        return harness_unit_wait_ended(((Hands*) userdata)->unit, m, id, e);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("StartHarness", "a{sv}hhh", "a{sv}", method_start, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("StopHarness", "", "", method_stop, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("FreezeHarness", "b", "b", method_freeze, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("WaitHarness", "ay", "a{sv}", method_wait, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        const char *name, *text;
        Hands *h = userdata;
        int n, r;

        h->n_answers++;
        *h->answer = 0;
        if (e)
                (void) snprintf(h->answer, sizeof(h->answer), "%s: %s", strrchr(e->name, '.') + 1, e->message);
        else if (sd_bus_message_has_signature(m, "b")) {
                ASSERT_OK(sd_bus_message_read(m, "b", &n));
                (void) snprintf(h->answer, sizeof(h->answer), "%d", n);
        } else if (sd_bus_message_has_signature(m, "a{sv}")) {
                ASSERT_OK(sd_bus_message_enter_container(m, 'a', "{sv}"));
                while ((r = ASSERT_OK(sd_bus_message_enter_container(m, 'e', "sv"))) > 0) {
                        size_t used = strlen(h->answer);

                        ASSERT_OK(sd_bus_message_read(m, "s", &name));
                        if (streq(name, "Profile") || streq(name, "Result")) {
                                ASSERT_OK(sd_bus_message_read(m, "v", "s", &text));
                                (void) snprintf(h->answer + used, sizeof(h->answer) - used, "%s ", text);
                        } else if (startswith(name, "ExecMain")) {
                                ASSERT_OK(sd_bus_message_read(m, "v", "i", &n));
                                (void) snprintf(h->answer + used, sizeof(h->answer) - used, "%d ", n);
                        } else
                                ASSERT_OK(sd_bus_message_skip(m, "v"));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                }
        }
        return 0;
}

static void ask(Hands *h, const char *member, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        va_list ap;

        ASSERT_OK(sd_bus_message_new_method_call(h->session, &m, NULL, "/p", INTERFACE, member));
        va_start(ap, types);
        ASSERT_OK(sd_bus_message_appendv(m, types, ap));
        va_end(ap);
        ASSERT_OK(sd_bus_call_async(h->session, NULL, m, on_answer, h, 0));
        m = sd_bus_message_unref(m);
        run(&h->w);
}

static void ask_start(Hands *h) {
        ASSERT_EQ(pipe2(h->fds, O_CLOEXEC), 0);
        ask(h, "StartHarness", "a{sv}hhh", 0, h->fds[1], h->fds[1], h->fds[1]);
        close(h->fds[1]);
}

static void ask_wait(Hands *h) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;

        ASSERT_OK(sd_bus_message_new_method_call(h->session, &m, NULL, "/p", INTERFACE, "WaitHarness"));
        ASSERT_OK(sd_bus_message_append_array(m, 'y', invocation, sizeof(invocation)));
        ASSERT_OK(sd_bus_call_async(h->session, NULL, m, on_answer, h, 0));
        run(&h->w);
}

static void hands_init(Hands *h, const char *harness_active) {
        int fds[2];

        *h = (Hands) { .child_stdout = -EBADF, .fds = { -EBADF, -EBADF } };
        world_init(&h->w);
        ASSERT_OK(sd_bus_add_filter(h->w.systemd, NULL, on_harness_call, h));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        ASSERT_OK(sd_bus_new(&h->server));
        ASSERT_OK(sd_bus_set_fd(h->server, fds[0], fds[0]));
        ASSERT_OK(sd_bus_set_server(h->server, 1, SD_ID128_MAKE(1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,10)));
        ASSERT_OK(sd_bus_negotiate_fds(h->server, 1));
        ASSERT_OK(sd_bus_start(h->server));
        ASSERT_OK(sd_bus_add_object_vtable(h->server, NULL, "/p", INTERFACE, vtable, h));
        ASSERT_OK(sd_bus_attach_event(h->server, h->w.event, 0));
        ASSERT_OK(sd_bus_new(&h->session));
        ASSERT_OK(sd_bus_set_fd(h->session, fds[1], fds[1]));
        ASSERT_OK(sd_bus_set_bus_client(h->session, 0));
        ASSERT_OK(sd_bus_negotiate_fds(h->session, 1));
        ASSERT_OK(sd_bus_start(h->session));
        ASSERT_OK(sd_bus_attach_event(h->session, h->w.event, 0));
        h->w.active = "active";
        h->w.harness_active = harness_active;
        h->unit = h->w.agent->harness;
        run(&h->w);
        *h->log = 0;
}

static void hands_done(Hands *h) {
        sd_bus_close_unref(h->session);
        sd_bus_close_unref(h->server);
        world_done(&h->w);
        safe_close(h->child_stdout);
        safe_close(h->fds[0]);
}

static void job_removed(Hands *h, const char *job, const char *result) {
        send_removed(&h->w, "JobRemoved", "uoss", 1U, job, HARNESS, result);
        run(&h->w);
}

static void start(Hands *h) {
        ask_start(h);
        ASSERT_STREQ(harness_unit_state(h->unit), "starting");
        h->w.harness_active = "active";
        job_removed(h, "/job/7", "done");
        ASSERT_STREQ(h->answer, "host ");
        ASSERT_STREQ(harness_unit_state(h->unit), "running");
}

/* The budget first, and the answer when it runs. Of its standard output nobody but itself keeps the end that is
 * written to. */
TEST(start) {
        _cleanup_(hands_done) Hands h;
        struct pollfd p;

        hands_init(&h, NULL);
        ask_start(&h);
        ASSERT_STREQ(h.log, "Probe Limits Start");
        ASSERT_EQ(h.n_answers, 0);
        ASSERT_EQ(units_n_starting(&h.w.manager), 1);
        h.w.harness_active = "active";
        job_removed(&h, "/job/6", "done");
        ASSERT_EQ(h.n_answers, 0);
        job_removed(&h, "/job/7", "done");
        ASSERT_STREQ(h.answer, "host ");
        ASSERT_EQ(units_n_starting(&h.w.manager), 0);

        p = (struct pollfd) { .fd = h.fds[0], .events = POLLIN };
        ASSERT_EQ(poll(&p, 1, 0), 0);
        h.child_stdout = safe_close(h.child_stdout);
        ASSERT_EQ(poll(&p, 1, 0), 1);
        ASSERT_TRUE(p.revents & POLLHUP);

        ask_start(&h);
        ASSERT_NOT_NULL(startswith(h.answer, "HarnessRunning: "));
}

/* Who may write to the directory that a directory lies in can put a link in its place at any time. */
TEST(a_path_that_changes) {
        _cleanup_free_ char *parent = NULL, *given = NULL, *aside = NULL, *secret = NULL;
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        ASSERT_OK(setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1));
        parent = path_join(h.w.directory, "extra");
        given = path_join(parent, "work");
        aside = path_join(parent, "aside");
        secret = path_join(h.w.agent->home->directory, "keys");
        ASSERT_OK(directory_make(given, 0700));
        ASSERT_OK(directory_make(secret, 0700));
        h.swap[0] = given;
        h.swap[1] = aside;
        h.swap_to = secret;
        ASSERT_EQ(pipe2(h.fds, O_CLOEXEC), 0);
        ask(&h, "StartHarness", "a{sv}hhh", 1, "ReadWritePaths", "as", 1, given, h.fds[1], h.fds[1], h.fds[1]);
        close(h.fds[1]);
        ASSERT_STREQ(h.log, "Probe Limits");
        ASSERT_NOT_NULL(startswith(h.answer, "InvalidArgument: "));
        ASSERT_NOT_NULL(strstr(h.answer, "it is the agent's own"));
        ASSERT_STREQ(harness_unit_state(h.unit), "none");
}

TEST(end) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        start(&h);
        ask_wait(&h);
        ASSERT_EQ(h.n_answers, 1);
        h.w.harness_active = "failed";
        h.result = "oom-kill";
        h.code = 2;
        h.status = 9;
        *h.log = 0;
        send_removed(&h.w, "JobRemoved", "uoss", 2U, "/job/99", HARNESS, "done");
        run(&h.w);
        ASSERT_STREQ(h.answer, "oom-kill 2 9 ");
        ASSERT_STREQ(h.log, "UnrefUnit");
        ASSERT_STREQ(harness_unit_state(h.unit), "none");

        /* Forgotten by the service manager, not by us. */
        h.w.harness_active = NULL;
        send_removed(&h.w, "UnitRemoved", "so", HARNESS, HARNESS_PATH);
        run(&h.w);
        ask_wait(&h);
        ASSERT_STREQ(h.answer, "oom-kill 2 9 ");
}

/* Nobody has seen it end. */
TEST(end_unseen) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, "active");
        ask_wait(&h);
        ASSERT_EQ(h.n_answers, 0);
        h.w.harness_active = NULL;
        send_removed(&h.w, "UnitRemoved", "so", HARNESS, HARNESS_PATH);
        run(&h.w);
        ASSERT_STREQ(h.answer, "unknown 0 0 ");
}

TEST(adoption) {
        _cleanup_(hands_done) Hands h;

        *h.log = 0;
        hands_init(&h, "active");
        ASSERT_STREQ(harness_unit_state(h.unit), "running");
        ASSERT_TRUE(h.unit->referenced);
        /* Once, however often it is looked at. */
        send_removed(&h.w, "UnitRemoved", "so", HARNESS, HARNESS_PATH);
        run(&h.w);
        ASSERT_STREQ(h.log, "");

        /* One that has no session is of no use to anybody; one whose session is brought back is. */
        h.w.active = "activating";
        send_removed(&h.w, "UnitRemoved", "so", UNIT, "/x");
        run(&h.w);
        ASSERT_STREQ(h.log, "");
        h.w.active = "failed";
        send_removed(&h.w, "UnitRemoved", "so", UNIT, "/x");
        run(&h.w);
        ASSERT_NOT_NULL(strstr(h.log, "Stop"));
        ASSERT_NULL(strstr(strstr(h.log, "Stop") + 1, "Stop"));
}

TEST(start_that_fails) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        ask_start(&h);
        h.w.harness_active = "failed";
        h.result = "exit-code";
        h.code = 1;
        h.status = 226;
        job_removed(&h, "/job/7", "failed");
        ASSERT_NOT_NULL(startswith(h.answer, "SandboxUnavailable: "));
        ASSERT_NOT_NULL(strstr(h.answer, "mount namespace"));
        ASSERT_NOT_NULL(startswith(h.log, "Probe Limits Start UnrefUnit"));
        ASSERT_STREQ(harness_unit_state(h.unit), "none");

        h.start_error = SD_BUS_ERROR_ACCESS_DENIED;
        h.w.harness_active = NULL;
        *h.log = 0;
        ask_start(&h);
        ASSERT_NOT_NULL(startswith(h.answer, "Failed: "));
}

/* Left behind by one before: tried again when it has gone. */
TEST(start_waits_for_removal) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        h.start_error = SYSTEMD ".UnitExists";
        ask_start(&h);
        ASSERT_STREQ(h.log, "Probe Limits Start ResetFailedUnit");
        h.start_error = NULL;
        send_removed(&h.w, "UnitRemoved", "so", HARNESS, HARNESS_PATH);
        run(&h.w);
        ASSERT_STREQ(h.log, "Probe Limits Start ResetFailedUnit Limits Start");
        h.w.harness_active = "active";
        job_removed(&h, "/job/7", "done");
        ASSERT_STREQ(h.answer, "host ");
}

TEST(start_waits_for_its_turn) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        h.w.manager.config->max_parallel_starts = 1;
        h.w.agent->job = strdup("/job/1");
        h.w.agent->job_is_start = true;
        ask_start(&h);
        ASSERT_STREQ(h.log, "Probe");
        send_removed(&h.w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, "done");
        run(&h.w);
        ASSERT_STREQ(h.log, "Probe Limits Start");
}

/* Whoever asks for one while the last one is being stopped gets it afterwards. */
TEST(stop_and_start) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        ask(&h, "StopHarness", "");
        ASSERT_STREQ(h.log, "Stop");
        job_removed(&h, "/job/8", "done");
        ASSERT_EQ(h.n_answers, 1);
        start(&h);
        *h.log = 0;
        h.n_answers = 0;
        ask(&h, "StopHarness", "");
        ask_start(&h);
        ASSERT_STREQ(h.log, "Stop");
        ASSERT_EQ(h.n_answers, 0);
        h.w.harness_active = NULL;
        job_removed(&h, "/job/8", "done");
        ASSERT_EQ(h.n_answers, 1);
        ASSERT_NOT_NULL(strstr(h.log, "Limits Start"));
}

TEST(stop_ends_a_start) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        ask_start(&h);
        ask(&h, "StopHarness", "");
        ASSERT_NOT_NULL(startswith(h.answer, "Failed: "));
        ASSERT_STREQ(h.log, "Probe Limits Start Stop");
}

/* A start that hangs holds nobody up for ever, and leaves nothing that nobody knows of. */
TEST(start_takes_too_long) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        ask_start(&h);
        ASSERT_EQ(h.n_answers, 0);
        ASSERT_OK(sd_event_source_set_time(h.unit->start_timer, 0));
        run(&h.w);
        ASSERT_STREQ(h.answer, "Failed: it has not started in time");
        ASSERT_NOT_NULL(strstr(h.log, "Start Stop"));
        ASSERT_EQ(units_n_starting(&h.w.manager), 0);
        job_removed(&h, "/job/8", "done");
        ASSERT_TRUE(harness_unit_is_gone(h.unit));
}

/* Whoever has asked and gone is in nobody's way. */
TEST(session_is_gone_before_its_turn) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        h.w.manager.config->max_parallel_starts = 1;
        h.w.agent->job = strdup("/job/1");
        h.w.agent->job_is_start = true;
        ask_start(&h);
        ask_wait(&h);
        ASSERT_STREQ(h.answer, "unknown 0 0 ");
        ASSERT_NOT_NULL(h.unit->start);
        sd_bus_close(h.session);
        run(&h.w);
        sd_bus_close(h.server);
        send_removed(&h.w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, "done");
        run(&h.w);
        ASSERT_STREQ(h.log, "Probe");
        ASSERT_NULL(h.unit->start);
        ASSERT_STREQ(harness_unit_state(h.unit), "none");
}

/* The service manager is not left with a unit that it keeps for nobody. */
TEST(agent_goes) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, "active");
        harness_unit_abandon(h.unit);
        run(&h.w);
        ASSERT_STREQ(h.log, "Stop UnrefUnit");
        ASSERT_FALSE(h.unit->referenced);
}

TEST(freeze) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        ask(&h, "FreezeHarness", "b", 1);
        ASSERT_STREQ(h.answer, "0");
        start(&h);
        h.freezer = "frozen";
        ask(&h, "FreezeHarness", "b", 1);
        ASSERT_STREQ(h.answer, "1");
        ASSERT_STREQ(harness_unit_state(h.unit), "frozen");
        *h.log = 0;
        h.w.harness_active = "failed";
        send_removed(&h.w, "JobRemoved", "uoss", 2U, "/job/99", HARNESS, "done");
        run(&h.w);
        ASSERT_STREQ(h.log, "ThawUnit UnrefUnit");
}

TEST(freeze_that_is_refused) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        start(&h);
        h.freeze_error = SD_BUS_ERROR_NOT_SUPPORTED;
        ask(&h, "FreezeHarness", "b", 1);
        ASSERT_STREQ(h.answer, "0");
        ASSERT_STREQ(harness_unit_state(h.unit), "running");
}

/* Tried more than once, each time after a longer pause; then whoever wants it awake learns that it is not. */
TEST(thaw_that_is_refused) {
        _cleanup_(hands_done) Hands h;
        uint64_t begin;

        hands_init(&h, NULL);
        start(&h);
        h.freezer = "frozen";
        ask(&h, "FreezeHarness", "b", 1);
        h.n_thaw_errors = 6;
        h.n_answers = 0;
        *h.log = 0;
        begin = now_boottime_usec();
        ask(&h, "FreezeHarness", "b", 0);
        while (h.n_answers == 0)
                run(&h.w);
        ASSERT_STREQ(h.answer, "Failed: Unit '" HARNESS "' cannot be thawed: for the test");
        ASSERT_STREQ(h.log, "ThawUnit ThawUnit ThawUnit ThawUnit ThawUnit ThawUnit");
        ASSERT_TRUE(now_boottime_usec() - begin >= 3100 * USEC_PER_MSEC);
        ASSERT_STREQ(harness_unit_state(h.unit), "frozen");

        /* One more try, and it is well. */
        ask(&h, "FreezeHarness", "b", 0);
        ASSERT_STREQ(h.answer, "0");
        ASSERT_STREQ(harness_unit_state(h.unit), "running");
}

TEST(thaw_that_is_refused_once) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        start(&h);
        h.freezer = "frozen";
        ask(&h, "FreezeHarness", "b", 1);
        h.n_thaw_errors = 1;
        h.n_answers = 0;
        ask(&h, "FreezeHarness", "b", 0);
        while (h.n_answers == 0)
                run(&h.w);
        ASSERT_STREQ(h.answer, "0");
        ASSERT_STREQ(harness_unit_state(h.unit), "running");
}

static void pass_pause(Hands *h) {
        ASSERT_NOT_NULL(h->unit->stop_timer);
        ASSERT_OK(sd_event_source_set_time(h->unit->stop_timer, 0));
        run(&h->w);
}

TEST(stop_that_is_refused_once) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        start(&h);
        h.n_answers = 0;
        *h.log = 0;
        h.stop_error = SD_BUS_ERROR_FAILED;
        ask(&h, "StopHarness", "");
        ASSERT_STREQ(h.log, "Stop");
        h.stop_error = NULL;
        pass_pause(&h);
        ASSERT_STREQ(h.log, "Stop Stop");
        ASSERT_EQ(h.n_answers, 0);
        h.w.harness_active = NULL;
        job_removed(&h, "/job/8", "done");
        ASSERT_EQ(h.n_answers, 1);
        ASSERT_STREQ(h.answer, "");
        ASSERT_NULL(h.unit->stop_timer);
        ASSERT_TRUE(harness_unit_is_gone(h.unit));
}

/* A job that ends and leaves the unit there is no stop either. */
TEST(stop_that_is_always_refused) {
        _cleanup_(hands_done) Hands h;
        uint64_t last = 0, pause, due;

        hands_init(&h, NULL);
        start(&h);
        h.n_answers = 0;
        *h.log = 0;
        ask(&h, "StopHarness", "");
        job_removed(&h, "/job/8", "canceled");
        h.stop_error = SD_BUS_ERROR_FAILED;
        for (unsigned i = 1; i < 6; i++) {
                ASSERT_EQ(h.n_answers, 0);
                ASSERT_OK(sd_event_source_get_time(h.unit->stop_timer, &due));
                pause = due - now_boottime_usec();
                ASSERT_TRUE(pause > last && pause <= 16 * USEC_PER_SEC);
                last = pause;
                pass_pause(&h);
        }
        ASSERT_STREQ(h.log, "Stop Stop Stop Stop Stop Stop");
        ASSERT_EQ(h.n_answers, 1);
        ASSERT_STREQ(h.answer, "Failed: The service manager does not stop unit '" HARNESS "': for the test");
        ASSERT_STREQ(harness_unit_state(h.unit), "running");
        /* Whoever has a use for it may have it again; who wants its end may ask anew. */
        pass_pause(&h);
        ASSERT_STREQ(h.log, "Stop Stop Stop Stop Stop Stop");
        h.stop_error = NULL;
        ask(&h, "StopHarness", "");
        h.w.harness_active = NULL;
        job_removed(&h, "/job/8", "done");
        ASSERT_EQ(h.n_answers, 2);
        ASSERT_STREQ(h.answer, "");
}

/* Without a session it is to go, however often that is refused. */
TEST(stop_goes_on_without_a_session) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, "active");
        h.w.agent->config->running = false;
        h.stop_error = SD_BUS_ERROR_FAILED;
        h.w.active = "failed";
        send_removed(&h.w, "UnitRemoved", "so", UNIT, "/x");
        run(&h.w);
        for (unsigned i = 1; i < 8; i++)
                pass_pause(&h);
        ASSERT_STREQ(h.log, "Stop Stop Stop Stop Stop Stop Stop Stop");
}

/* Nothing is decided on what is not told: neither that it has ended nor that it may be started. */
TEST(state_that_is_not_told) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        start(&h);
        ask_wait(&h);
        h.n_answers = 0;
        h.hides = true;
        h.w.harness_active = "failed";
        send_removed(&h.w, "JobRemoved", "uoss", 2U, "/job/99", HARNESS, "done");
        run(&h.w);
        ASSERT_EQ(h.n_answers, 0);
        ASSERT_NOT_NULL(h.unit->retry);
        h.hides = false;
        h.result = "signal";
        ASSERT_OK(sd_event_source_set_time(h.unit->retry, 0));
        run(&h.w);
        ASSERT_STREQ(h.answer, "signal 0 0 ");
}

/* Never silently weaker. */
TEST(sandbox_that_is_not_there) {
        static const char *const verdicts[] = {
                "{\"profile\":\"host\",\"violations\":[\"write to /usr\"],\"missing\":[]}\n",
                "{\"profile\":\"host\",\"violations\":[],\"missing\":[\"there is a hole\"]}\n",
                "{\"profile\":\"strict\",\"violations\":[],\"missing\":[]}\n", "{\"profile\":\"host\"}\n",
                "nonsense\n",
        };

        for (size_t i = 0; i < ELEMENTSOF(verdicts); i++) {
                _cleanup_(hands_done) Hands h;

                hands_init(&h, NULL);
                h.verdict = verdicts[i];
                ask_start(&h);
                ASSERT_STREQ(h.log, "Probe");
                ASSERT_NOT_NULL(startswith(h.answer, "SandboxUnavailable: "));
                ASSERT_STREQ(harness_unit_state(h.unit), "none");
        }
}

/* --- messages --- */

typedef struct Property {
        const char *name, *value;
} Property;

/* All that is in a{sv} as text: "Name=value" a line, of arrays an entry a line. */
static char* list_properties(sd_bus_message *m) {
        _cleanup_(strbuf_done) StrBuf b = {};
        const char *name, *type, *x, *y;
        uint64_t t;
        int n;

        ASSERT_OK(sd_bus_message_rewind(m, true));
        ASSERT_OK(sd_bus_message_skip(m, "ss"));
        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sv)"));
        while (ASSERT_OK(sd_bus_message_enter_container(m, 'r', "sv")) > 0) {
                ASSERT_OK(sd_bus_message_read(m, "s", &name));
                ASSERT_OK(sd_bus_message_peek_type(m, NULL, &type));
                ASSERT_OK(sd_bus_message_enter_container(m, 'v', type));
                if (streq(type, "s")) {
                        ASSERT_OK(sd_bus_message_read(m, "s", &x));
                        ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, x));
                } else if (streq(type, "b") || streq(type, "i")) {
                        ASSERT_OK(sd_bus_message_read(m, type, &n));
                        ASSERT_OK(strbuf_printf(&b, "%s=%d\n", name, n));
                } else if (streq(type, "t")) {
                        ASSERT_OK(sd_bus_message_read(m, "t", &t));
                        ASSERT_OK(strbuf_printf(&b, "%s=%" PRIu64 "\n", name, t));
                } else if (streq(type, "as")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
                        while (sd_bus_message_read(m, "s", &x) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, x));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else if (streq(type, "a(ss)")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(ss)"));
                        while (sd_bus_message_read(m, "(ss)", &x, &y) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s:%s\n", name, x, y));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else if (streq(type, "a(ssbt)")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(ssbt)"));
                        while (sd_bus_message_read(m, "(ssbt)", &x, &y, &n, &t) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s%s:%s\n", name, n ? "-" : "", x, y));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else if (streq(type, "a(sasb)")) {
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "(sasb)"));
                        ASSERT_OK(sd_bus_message_enter_container(m, 'r', "sasb"));
                        ASSERT_OK(sd_bus_message_read(m, "s", &x));
                        ASSERT_OK(sd_bus_message_enter_container(m, 'a', "s"));
                        while (sd_bus_message_read(m, "s", &x) > 0)
                                ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, x));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                        ASSERT_OK(sd_bus_message_skip(m, "b"));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                        ASSERT_OK(sd_bus_message_exit_container(m));
                } else {
                        ASSERT_OK(strbuf_printf(&b, "%s=…\n", name));
                        ASSERT_OK(sd_bus_message_skip(m, type));
                }
                ASSERT_OK(sd_bus_message_exit_container(m));
                ASSERT_OK(sd_bus_message_exit_container(m));
        }
        return strbuf_take(&b);
}

static bool has_line(const char *text, const char *line) {
        _cleanup_free_ char *whole = strjoin("\n", line, "\n"), *all = strjoin("\n", text);

        return strstr(all, whole);
}

static void expect(const char *text, const char *const *lines, bool there) {
        for (; *lines; lines++)
                if (has_line(text, *lines) != there)
                        fail_msg("%s '%s' in:\n%s", there ? "no" : "unexpected", *lines, text);
}

static char* build(World *w, const HarnessRequest *q, Scope scope, SandboxProfile profile) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        static const int fds[3] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO };
        char *reason;

        w->manager.scope = scope;
        w->agent->config->sandbox = profile;
        ASSERT_OK(sd_bus_message_new_method_call(w->manager.bus, &m, SYSTEMD, "/o", "i.f", "StartTransientUnit"));
        ASSERT_OK(unit_append_harness(m, w->agent, HARNESS, q, fds, &reason));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        w->manager.scope = SCOPE_USER;
        return list_properties(m);
}

/* Of the user's home, what is not there as well. */
static void expect_home(const char *text, bool there) {
        static const struct { const char *property, *name; } t[] = {
                { "InaccessiblePaths=", ".ssh" }, { "ExecStart=--kept=", ".ssh" },
                { "InaccessiblePaths=", ".local/share/keyrings" }, { "ReadOnlyPaths=", ".config/systemd" },
                { "ExecStart=--kept=", ".config/systemd" }, { "ReadOnlyPaths=", ".local/share/dbus-1" },
        };
        _cleanup_free_ char *home = realpath(getenv("HOME"), NULL), *config = path_join(home, ".config"),
                            *anchor = strjoin("BindPaths=", config, ":", config);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *path = path_join(home, t[i].name), *line = strjoin(t[i].property, path);
                struct stat st;

                expect(text, (const char *const[]) { line, NULL }, there);
                if (there)
                        ASSERT_TRUE(stat(path, &st) >= 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0700);
        }
        expect(text, (const char *const[]) { anchor, NULL }, there);
}

TEST(messages) {
        static const char *const always[] = {
                "Slice=puffo-rob.slice", "CollectMode=inactive-or-failed", "AddRef=1", "Type=exec",
                "KillMode=control-group", "OOMPolicy=stop", "OOMScoreAdjust=500", "IgnoreSIGPIPE=0",
                "TimeoutStopUSec=10000000", "PrivateUsers=1", "NoNewPrivileges=1", "ProtectControlGroups=1",
                "RestrictSUIDSGID=1", "LockPersonality=1", "PrivateIPC=1", "KeyringMode=private",
                "StandardInputFileDescriptor=…", "StandardOutputFileDescriptor=…", "StandardErrorFileDescriptor=…",
                "UnsetEnvironment=DBUS_SESSION_BUS_ADDRESS", "UnsetEnvironment=SSH_AUTH_SOCK",
                "UnsetEnvironment=XDG_RUNTIME_DIR", "TemporaryFileSystem=/run:ro", "Description=Hands", NULL,
        };
        static const char *const workspace[] = { "ProtectSystem=strict", "ProtectHome=tmpfs", "PrivateDevices=1",
                                                 NULL };
        static const char *const strict[] = { "PrivateNetwork=1", "RestrictAddressFamilies=…", "SystemCallFilter=…",
                                              "SystemCallErrorNumber=1", "RestrictRealtime=1", "ProtectClock=1",
                                              NULL };
        static const char *const system[] = { "User=pf-rob", "DynamicUser=1", "ProtectProc=invisible", NULL };
        HarnessBind binds[] = {
                { HARNESS_BIND_WRITABLE, (char*) "/real/desk", (char*) "/desk", -EBADF, 7, 1 },
                { HARNESS_BIND_READ_ONLY, (char*) "/desk/fixed", (char*) "/desk/fixed", -EBADF, 7, 2 },
                { HARNESS_BIND_SOCKET, (char*) "/x/tools.sock", (char*) "/run/puffo/tools.sock", -EBADF, 8, 3 },
                { HARNESS_BIND_WRITABLE, (char*) "/real/more", (char*) "/more", -EBADF, 9, 4 },
        };
        const HarnessRequest q = { .description = (char*) "Hands", .working_directory = (char*) "/desk",
                                   .binds = binds, .n_binds = ELEMENTSOF(binds) };
        _cleanup_(world_done) World w;

        world_init(&w);
        for (Scope scope = 0; scope < _SCOPE_MAX; scope++)
                for (SandboxProfile p = 0; p < _SANDBOX_PROFILE_MAX; p++) {
                        _cleanup_free_ char *text = build(&w, &q, scope, p),
                                            *profile = strjoin("ExecStart=--profile=", sandbox_profile_to_string(p));

                        expect(text, always, true);
                        expect(text, workspace, p != SANDBOX_HOST);
                        expect(text, strict, p == SANDBOX_STRICT);
                        expect(text, system, scope == SCOPE_SYSTEM);
                        expect(text, (const char *const[]) { profile, "BindReadOnlyPaths=/desk/fixed:/desk/fixed",
                                                             "BindPaths=/x/tools.sock:/run/puffo/tools.sock",
                                                             "BindPaths=/real/desk:/desk",
                                                             "ExecStart=--place=rw:7:1:/desk",
                                                             "ExecStart=--place=ro:7:2:/desk/fixed",
                                                             "ExecStart=--place=rw:8:3:/run/puffo/tools.sock", NULL },
                               true);
                        /* In the user's own view it is there anyway; the other has something in it that is to stay. */
                        expect(text, (const char *const[]) { "BindPaths=/real/more:/more",
                                                             "ExecStart=--place=rw:9:4:/more", NULL },
                               p != SANDBOX_HOST);
                        expect_home(text, p == SANDBOX_HOST && scope == SCOPE_USER);
                        ASSERT_NULL(strstr(text, "Restart="));
                        ASSERT_NULL(strstr(text, "Watchdog"));
                }
}

/* What is no directory cannot be covered in such a way that it stays. */
TEST(a_home_with_a_link) {
        static const char *const links[] = { ".ssh", ".config/systemd", ".local" };

        for (size_t i = 0; i < ELEMENTSOF(links); i++) {
                _cleanup_bus_message_ sd_bus_message *m = NULL;
                _cleanup_free_ char *path = NULL, *config = NULL, *reason = NULL;
                const HarnessRequest q = { .description = (char*) "Hands", .working_directory = (char*) "/desk" };
                _cleanup_(world_done) World w;

                world_init(&w);
                path = path_join(getenv("HOME"), links[i]);
                config = path_join(getenv("HOME"), ".config");
                ASSERT_OK(directory_make(config, 0700));
                ASSERT_EQ(symlink("/usr", path), 0);
                w.agent->config->sandbox = SANDBOX_HOST;
                ASSERT_OK(sd_bus_message_new_method_call(w.manager.bus, &m, SYSTEMD, "/o", "i.f", "Start"));
                ASSERT_ERROR(unit_append_harness(m, w.agent, HARNESS, &q, (const int[3]) { 0, 1, 2 }, &reason), ELOOP);
                ASSERT_NOT_NULL(strstr(reason, links[i]));
                ASSERT_NOT_NULL(strstr(reason, "is a link"));
        }
}

/* --- what may be asked for --- */

static int read_request(World *w, const char *kind, const char *path, HarnessRequest **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_bus_error_ sd_bus_error e = SD_BUS_ERROR_NULL;
        int r;

        ASSERT_OK(sd_bus_message_new_method_call(w->manager.bus, &m, SYSTEMD, "/o", "i.f", "StartHarness"));
        ASSERT_OK(sd_bus_message_append(m, "a{sv}", 2, kind, "as", 1, path, "ReadWritePaths", "as", 1,
                                        w->agent->home->workspace));
        ASSERT_OK(sd_bus_message_seal(m, 1, 0));
        r = harness_request_read(ret, w->agent, m, &e);
        if (r < 0)
                ASSERT_TRUE(sd_bus_error_has_name(&e, PUFFO_ERROR_INVALID_ARGUMENT));
        return r;
}

TEST(requests) {
        static const struct {
                const char *path;       /* "@": the agent's directory, "~": the home of all */
                bool fine;
        } t[] = {
                { "/usr", true }, { "@/memory", true }, { "@/workspace/sub", true }, { "@/.claude", true },
                { "~/shared", true },
                { "", false }, { "usr", false }, { "/", false }, { "/usr/..", false }, { "/usr//bin", false },
                { "/usr/.", false }, { "/us\nr", false }, { "/usr/\x7f", false }, { "/none", false },
                { "/run", false }, { "/proc/self", false }, { "/dev/null", false }, { "/sys", false },
                { "/tmp", false }, { "@", false }, { "@/keys", false }, { "@/keys/x.pem", false },
                { "@/agent.yml", false }, { "@/messages.db", false }, { "@/messages.db-wal", false },
                { "@/run", false }, { "@/runtime.json", false }, { "@/.puffo-agent", false },
                { "@/workspace/.puffo-agent", false }, { "@/workspace/out", false }, { "@/workspace/in", false },
                { "@/link", false }, { "~", false }, { "~/agents", false }, { "~/agents/other", false },
                { "~/agents/other/workspace", false }, { "~/daemon.yml", false },
        };
        static const char *const directories[] = { "memory", "keys", "workspace/sub", ".claude", "run", ".puffo-agent",
                                                   "workspace/.puffo-agent", "../other/workspace", "../../shared" };
        static const char *const files[] = { "keys/x.pem", "messages.db", "messages.db-wal", "runtime.json",
                                             "../../daemon.yml" };
        _cleanup_free_ char *link = NULL, *out = NULL, *in = NULL;
        _cleanup_(world_done) World w;

        world_init(&w);
        ASSERT_OK(setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1));
        for (size_t i = 0; i < ELEMENTSOF(directories); i++) {
                _cleanup_free_ char *path = path_join(w.agent->home->directory, directories[i]);

                ASSERT_OK(directory_make(path, 0700));
        }
        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *path = path_join(w.agent->home->directory, files[i]);

                ASSERT_OK(file_write_atomic(path, "x", 1, 0600));
        }
        link = path_join(w.agent->home->directory, "link");
        out = path_join(w.agent->home->directory, "workspace/out");
        in = path_join(w.agent->home->directory, "workspace/in");
        ASSERT_EQ(symlink("keys", link), 0);
        ASSERT_EQ(symlink("/usr", out), 0);
        ASSERT_EQ(symlink("sub", in), 0);
        w.agent->config->sandbox = SANDBOX_WORKSPACE;

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                const char *base = *t[i].path == '@'   ? w.agent->home->directory
                                   : *t[i].path == '~' ? w.paths->home
                                                       : "";
                _cleanup_free_ char *path = strjoin(base, t[i].path + (*base ? 1 : 0));
                _cleanup_(harness_request_freep) HarnessRequest *q = NULL;
                int r = read_request(&w, "ReadOnlyPaths", path, &q);

                if ((r >= 0) != t[i].fine)
                        fail_msg("'%s': %d", t[i].path, r);
        }

}

/* In the user's own view a directory that holds protected ones is there anyway, and what it holds is covered; but none
 * is mounted over what covers it. */
TEST(requests_of_host) {
        static const char *const outside[] = { "/var", "/srv" };
        _cleanup_(world_done) World w;

        world_init(&w);
        w.agent->config->sandbox = SANDBOX_HOST;
        for (size_t i = 0; i < ELEMENTSOF(outside); i++)
                ASSERT_EQ(harness_place_is_covered(w.agent, outside[i]), false);
        ASSERT_EQ(harness_place_is_covered(w.agent, w.agent->home->directory), true);
        ASSERT_EQ(harness_place_is_covered(w.agent, w.paths->home), true);
        ASSERT_EQ(harness_place_is_covered(w.agent, "/tmp/x"), true);
        ASSERT_EQ(harness_place_is_covered(w.agent, "/tmpx"), false);
}

#define TEST_SUITE "harness-unit"
TEST_MAIN();
