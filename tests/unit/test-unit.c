/* SPDX-License-Identifier: MIT */

/* Starting units against a service manager that does what the test wants. */

#include <limits.h>

#include "string-util.h"
#include "unit-world.h"

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

/* Its name is not enough: what is of a file, or in another slice, is no session of the agent's. It is left alone, and
 * the agent starts when it has gone. */
TEST(units_of_others) {
        for (unsigned i = 0; i < 2; i++) {
                _cleanup_(world_done) World w;

                world_init(&w);
                w.active = "active";
                w.slice = i == 0 ? "app.slice" : "puffo-rob.slice";
                w.not_transient = i == 1;
                w.start_error = SYSTEMD ".UnitExists";
                run(&w);
                ASSERT_TRUE(w.agent->foreign);
                ASSERT_FALSE(w.agent->adopted);
                ASSERT_FALSE(agent_unit_is_up(w.agent));
                ASSERT_EQ(w.n_starts, 1);
                ASSERT_EQ(w.n_stops, 0);
                ASSERT_TRUE(w.agent->in_the_way);

                w.active = w.start_error = NULL;
                send_removed(&w, "UnitRemoved", "so", UNIT, "/x");
                run(&w);
                ASSERT_FALSE(w.agent->foreign);
                ASSERT_EQ(w.n_starts, 2);
        }
}

TEST(unit_of_ones_own) {
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        w.slice = "puffo-rob.slice";
        run(&w);
        ASSERT_FALSE(w.agent->foreign);
        ASSERT_TRUE(agent_unit_is_up(w.agent));
        ASSERT_EQ(w.n_starts, 0);

        /* Another one of its name in its place, between two looks. */
        w.slice = "app.slice";
        w.invocation = 7;
        send_removed(&w, "JobRemoved", "uoss", 7U, "/job/7", UNIT, "done");
        run(&w);
        ASSERT_TRUE(w.agent->foreign);
        ASSERT_FALSE(agent_unit_is_up(w.agent));
        ASSERT_EQ(w.n_stops, 0);
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

/* Whoever has started it, and whenever they are changed. */
TEST(limits_of_what_runs) {
        static const char lower[] = "limits:\n  tasks_max: 100\n", bad[] = "limits:\n  tasks_max: many\n";
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        ASSERT_EQ(w.n_limits, 1);

        ASSERT_OK(file_write_atomic(w.paths->daemon_yml, lower, strlen(lower), 0600));
        for (unsigned i = 0; i < 2; i++) {
                ASSERT_OK(manager_rescan(&w.manager));
                run(&w);
                ASSERT_EQ(w.agent->limits.tasks_max, 100);
                ASSERT_EQ(w.n_limits, 2);
        }
        ASSERT_OK(file_write_atomic(w.paths->daemon_yml, bad, strlen(bad), 0600));
        ASSERT_OK(manager_rescan(&w.manager));
        run(&w);
        ASSERT_EQ(w.n_limits, 2);
}

/* A service manager that says no is not asked again before a while has passed. */
TEST(stop_that_is_refused) {
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        w.stop_error = SD_BUS_ERROR_ACCESS_DENIED;
        run(&w);
        ASSERT_EQ(agent_set_desired(w.agent, false), 1);
        for (unsigned i = 0; i < 100; i++)
                (void) sd_event_run(w.event, USEC_PER_MSEC);
        ASSERT_EQ(w.n_stops, 1);
        ASSERT_TRUE(retry_in(w.agent) <= 10 * USEC_PER_SEC);

        w.stop_error = NULL;
        ASSERT_OK(sd_event_source_set_time(w.agent->retry, 0));
        run(&w);
        ASSERT_EQ(w.n_stops, 2);
        ASSERT_STREQ(w.agent->job, "/job/1");
}

#define TEST_SUITE "unit"
TEST_MAIN();
