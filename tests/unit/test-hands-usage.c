/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands-usage"

/* What turns cost, and that it counts once. */

#include "hands-world.h"
#include "step-store.h"
#include "usage-store.h"

/* The CLI has a login of its own, so that only its word is known of what it uses. */
TEST(budget) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 30}\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        answer(f, "t2", "Hello", "completed You said: Hello");
        answer(f, "t3", "Never", "failed/budget");
        assert_log("start|text Hello|text Hello");
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t4", "Never", "failed/budget");
        configure("limits: {tokens_per_hour: 1000}\n");
        answer(f, "t5", "Again", "completed You said: Again");
}

static uint64_t tokens_used(Fixture *f) {
        TurnUsage u;

        ASSERT_OK(usage_store_sum(f->db, 0, &u));
        return u.input_tokens + u.output_tokens;
}

/* Of a turn that is cut short what is known counts: here what went into the reply that had begun. */
TEST(an_interrupted_turn_counts) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(tokens_used(f), 7 + 20);

        (void) close(submit(f, "t3", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, is_idle);
        ASSERT_EQ(tokens_used(f), 7 + 20 + 7 + 20);
}

/* It was interrupted, and nobody was there to hear what it had used. */
TEST(an_interrupted_turn_counts_later) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        fixture_crash(f);
        go();
        fixture_open(f);
        while (tokens_used(f) == 0)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 20 * USEC_PER_SEC)) > 0);
        ASSERT_EQ(tokens_used(f), 20);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(tokens_used(f), 40);
}

/* Killed between what it has cost and the turn's end: its end is read again, and counts once. */
TEST(a_turn_counts_once) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");
        int status;
        pid_t pid;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        go();
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                world.no_end = world.die_at_end = true;
                fixture_open(f);
                run_until(f, is_idle);
                _exit(1);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        alter(f, "UPDATE session_turns SET attempts = 1");
        fixture_open(f);
        ASSERT_EQ(tokens_used(f), 20);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        ASSERT_EQ(tokens_used(f), 20);
}

/* What goes through the outlet is counted there, also by whoever takes the CLI over. */
TEST(what_the_outlet_counts_counts_once) {
        _fixture_ Fixture *f = fixture_new("  api_key: sk-x\nlimits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        answer(f, "t2", "More", "completed You said: More");
        ASSERT_EQ(tokens_used(f), 0);
        ASSERT_EQ(world.n_starts, 1);
}

TEST_MAIN();
