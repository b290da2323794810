/* SPDX-License-Identifier: MIT */
#pragma once

/* Harness units against a service manager that does what the test wants, asked for by a session of the test's. */

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

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
        bool changes;                   /* when limits are set: the agent's profile is strict from then on */
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
                if (h->changes)
                        h->w.agent->config->sandbox = SANDBOX_STRICT;
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
