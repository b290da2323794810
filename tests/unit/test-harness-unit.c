/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-unit"

#include "harness-world.h"

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

/* agent.yml is read again amid a start: nothing is started in a profile that was not looked for ways out of. */
TEST(a_profile_that_changes) {
        _cleanup_(hands_done) Hands h;

        hands_init(&h, NULL);
        h.changes = true;
        ask_start(&h);
        ASSERT_STREQ(h.log, "Probe Limits Probe");
        ASSERT_NOT_NULL(startswith(h.answer, "SandboxUnavailable: "));
        ASSERT_NOT_NULL(strstr(h.answer, "'strict'"));
        ASSERT_EQ(units_n_starting(&h.w.manager), 0);
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

TEST_MAIN();
