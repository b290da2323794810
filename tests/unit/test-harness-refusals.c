/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-refusals"

/* Freezing, thawing and stopping, when the service manager does as it is told and when it does not. */

#include "harness-world.h"

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

TEST_MAIN();
