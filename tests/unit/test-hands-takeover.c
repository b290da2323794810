/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands-takeover"

/* Who takes over a CLI that another process of the session has started, at any moment of its turn. */

#include "hands-world.h"

TEST(taken_over_in_the_middle_of_a_turn) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        assert_log("start|text [[wait]]");
        answer(f, "t2", "More", "completed You said: More");
        ASSERT_EQ(world.n_starts, 1);
}

/* It has ended its turn while nobody was there. */
TEST(taken_over_behind_a_turn) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        (void) usleep(300000);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        ASSERT_EQ(world.n_starts, 1);
}

TEST(taken_over_when_idle) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "Hello", "completed You said: Hello");
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t2", "Again", "completed You said: Again");
        assert_log("start|text Hello|text Again");
}

/* Both go: the conversation is taken up, and the turn is told to be finished. */
TEST(both_die) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go"), *log = NULL;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name)
                        fd_store_remove(world.store[i].name);
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        fixture_open(f);
        run_until(f, is_idle);
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "|start+|text [puffo-agent system message] you were"));
        ASSERT_EQ(world.n_starts, 2);
}

TEST(said_farewell_when_nobody_was_there) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *go = path_join(world.directory, "go"), *leave = path_join(world.directory, "leave");
        siginfo_t si;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        ASSERT_OK(file_write_snapshot(leave, "", 0, 0600));
        ASSERT_OK(file_write_snapshot(go, "", 0, 0600));
        ASSERT_OK(waitid(P_PID, (id_t) world.pid, &si, WEXITED | WNOWAIT));
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        ASSERT_EQ(world.n_starts, 1);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 2);
}

/* The next process of the session knows whose the CLI is that it finds. */
TEST(conversations_over_a_crash) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "m1", "Main", "completed You said: Main");
        answer_in(f, "a1", "a", NULL, "One", "completed You said: One");
        fixture_crash(f);
        fixture_open(f);
        answer_in(f, "a2", "a", NULL, "Two", "completed You said: Two");
        ASSERT_EQ(world.n_starts, 2);
        fixture_crash(f);
        fixture_open(f);
        answer(f, "m2", "Three", "completed You said: Three");
        answer_in(f, "a3", "a", NULL, "Four", "completed You said: Four");
        /* One that was found running and is of no use any more may have to be stopped: not all say farewell. */
        log = cli_log();
        for (char *end; (end = strstr(log, "|end")); )
                memmove(end, end + strlen("|end"), strlen(end + strlen("|end")) + 1);
        ASSERT_STREQ(log, "start|text Main|start|text One|text Two|start+|text Three|start+|text Four");
}

/* Between two attempts it is at nothing: whoever takes it over gives it the turn anew. */
TEST(taken_over_between_attempts) {
        _fixture_ Fixture *f = fixture_new("");

        (void) close(submit(f, "t1", "[[limit: 1]]"));
        while (!f->waiting || !strstr(f->waiting, "next try"))
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
        fixture_crash(f);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed You said: [[limit: 1]]");
}

/* Whoever takes it over does not know that it sleeps. */
TEST(taken_over_asleep) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0.05\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        run_until(f, is_frozen);
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_thaws, 1);
        ASSERT_EQ(world.n_starts, 1);
        run_until(f, is_frozen);
}

/* ---- what a run is, is what it was started as ---- */

TEST(taken_over_under_another_configuration) {
        static const char *const files[] = { GEMINI, HERMES, "runtime: [", "" };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _fixture_ Fixture *f = fixture_new("");

                (void) close(submit(f, "t1", "[[wait]]"));
                run_until(f, is_talking);
                fixture_crash(f);
                configure_as(files[i]);
                go();
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", "completed First second.");
                assert_log("start|text [[wait]]");
        }
}

/* Its conversation goes on when the old configuration comes back. */
TEST(anothers_conversation_stays_anothers) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        configure_as(HERMES);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        configure("");
        answer(f, "t2", "Hello", "completed You said: Hello");
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, has_died);
        answer(f, "t3", "Again", "completed You said: Again");
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "start+|text Again"));
}

/* Nothing is known of it but its pipes. */
TEST(killed_while_it_starts) {
        for (unsigned i = 0; i < 2; i++) {
                _fixture_ Fixture *f = fixture_new("");

                if (i > 0) {
                        answer(f, "t0", "Before", "completed You said: Before");
                        ASSERT_OK(kill(world.pid, SIGKILL));
                        run_until(f, has_died);
                }
                (void) close(submit(f, "t1", "Hello"));
                while (world.n_starts == i)
                        ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
                fixture_crash(f);
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", "completed You said: Hello");
                ASSERT_EQ(world.n_starts, i + 2);
                ASSERT_EQ(world.n_stops, 1);
        }
}

/* The one before was ended while nobody was there: what is found then is not that. */
TEST(killed_while_another_one_starts) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t0", "Before", "completed You said: Before");
        fixture_crash(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name)
                        fd_store_remove(world.store[i].name);
        fixture_open(f);
        (void) close(submit(f, "t1", "Hello"));
        while (world.n_starts == 1)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
        fixture_crash(f);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed You said: Hello");
        ASSERT_EQ(world.n_starts, 3);
}

/* It says nothing more, and does not end. */
TEST(found_without_an_output) {
        _fixture_ Fixture *f = fixture_new("");
        int fds[2];

        answer(f, "t0", "Before", "completed You said: Before");
        fixture_crash(f);
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (streq_ptr(world.store[i].name, "harness-out")) {
                        ASSERT_OK(pipe2(fds, O_CLOEXEC));
                        (void) close(fds[1]);
                        ASSERT_OK(dup3(fds[0], world.store[i].fd, O_CLOEXEC));
                        (void) close(fds[0]);
                }
        fixture_open(f);
        while (sd_event_run(f->event, 100 * USEC_PER_MSEC) > 0)
                ;
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_EQ(world.n_starts, 2);
}

static bool has_run(Fixture *f) {
        _cleanup_(harness_run_freep) HarnessRun *run = NULL;

        return ASSERT_OK(run_store_get(f->db, &run)) > 0;
}

/* It was started for the turn, which it was not told yet. */
TEST(killed_before_the_text) {
        _fixture_ Fixture *f = fixture_new("");

        (void) close(submit(f, "t1", "Hello"));
        run_until(f, has_run);
        fixture_crash(f);
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed You said: Hello");
        assert_log("start|text Hello");
}

static void forget_that_it_was_sent(Fixture *f) {
        alter(f, "UPDATE harness_runs SET sent = 'sending'");
}

/* The text is in the pipe, or the CLI at work at it; that this was so could not be noted any more. */
TEST(killed_behind_the_text) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        (void) close(submit(f, "t1", "[[tool: Bash]] [[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        forget_that_it_was_sent(f);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        answer(f, "t2", "More", "completed You said: More");
        log = cli_log();
        ASSERT_STREQ(log, "start|text [[tool: Bash]] [[wait]]|again|text More");
        ASSERT_EQ(world.n_starts, 1);
}

/* … and it has ended over it: the next one is told that it may know the text. */
TEST(killed_behind_the_text_and_the_cli_too) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        forget_that_it_was_sent(f);
        world_kill();
        for (size_t i = 0; i < ELEMENTSOF(world.store); i++)
                if (world.store[i].name)
                        fd_store_remove(world.store[i].name);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First second.");
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "|start+|text [puffo-agent system message] you were re"));
}

/* ---- one process per turn ---- */

TEST(per_turn_clis_are_taken_over) {
        static const char *const files[] = { GEMINI, HERMES, GEMINI, HERMES };

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _fixture_ Fixture *f = fixture_new("");
                siginfo_t si;

                configure_as(files[i]);
                (void) close(submit(f, "t1", "[[wait]]"));
                /* Of Hermes nobody hears anything before its end. */
                if (streq(files[i], GEMINI))
                        run_until(f, is_talking);
                else
                        run_until(f, has_run);
                fixture_crash(f);
                go();
                /* Or it has ended when nobody was there. */
                if (i >= 2)
                        ASSERT_OK(waitid(P_PID, (id_t) world.pid, &si, WEXITED | WNOWAIT));
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", streq(files[i], GEMINI) ? "completed First second." : "completed First \nSecond.");
                assert_log("start|text [[wait]]");
                answer(f, "t2", "More", "completed You said: More");
                ASSERT_EQ(world.n_starts, 2);
        }
}

TEST(one_still_runs) {
        static const int errors[] = { -EBUSY, -EAGAIN };

        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                _fixture_ Fixture *f = fixture_new("");

                world.n_failures = 2;
                world.start_error = errors[i];
                answer(f, "t1", "Hello", "completed You said: Hello");
                ASSERT_EQ(world.n_starts, 3);
                ASSERT_EQ(world.n_stops, 2);
        }
}

#define SDK "runtime:\n  kind: sdk-local\n  harness: claude-code\n"

TEST(sdk_local_is_taken_over) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        configure_as(SDK "  allowed_tools: ['Bash(touch *)']\n");
        (void) close(submit(f, "t1", "[[wait]] [[asklater: Bash]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        /* What it may do is what it was told at its start. */
        configure_as(SDK);
        go();
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t1", "completed First allow.");
        assert_log("start|text [[wait]] [[asklater: Bash]]|answer|end");
        answer(f, "t2", "[[wait]] [[asklater: Bash]]", "completed First deny.");
        ASSERT_EQ(world.n_starts, 2);
}

/* It has ended its turn, or itself, while nobody was there. */
TEST(sdk_local_is_taken_over_behind_its_turn) {
        for (size_t i = 0; i < 2; i++) {
                _fixture_ Fixture *f = fixture_new("");
                _cleanup_free_ char *leave = path_join(world.directory, "leave");
                siginfo_t si;

                configure_as(SDK);
                (void) close(submit(f, "t1", "[[wait]]"));
                run_until(f, is_talking);
                fixture_crash(f);
                if (i > 0)
                        ASSERT_OK(file_write_snapshot(leave, "", 0, 0600));
                go();
                if (i > 0)
                        ASSERT_OK(waitid(P_PID, (id_t) world.pid, &si, WEXITED | WNOWAIT));
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", "completed First second.");
                answer_in(f, "t2", "other", NULL, "More", "completed You said: More");
                ASSERT_EQ(world.n_starts, 2);
        }
}

/* Nobody knows whether it has its text: it is told all again, and takes no notice of what it had before. */
TEST(sdk_local_is_told_again) {
        for (size_t i = 0; i < 2; i++) {
                _fixture_ Fixture *f = fixture_new("");
                _cleanup_free_ char *log = NULL;

                configure_as(SDK);
                (void) close(submit(f, "t1", i == 0 ? "Hello" : "[[wait]]"));
                if (i == 0)
                        run_until(f, has_run);
                else
                        run_until(f, is_talking);
                fixture_crash(f);
                if (i > 0)
                        forget_that_it_was_sent(f);
                go();
                fixture_open(f);
                run_until(f, is_idle);
                assert_turn(f, "t1", i == 0 ? "completed You said: Hello" : "completed First second.");
                ASSERT_EQ(world.n_starts, 1);
                log = file_text("log");
                ASSERT_NOT_NULL(strstr(log, "PreToolUse"));
        }
}

/* Of a turn that nobody wants any more it is not asked for more. */
TEST(sdk_local_is_found_at_nothing) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");

        configure_as(SDK "limits: {tokens_per_hour: 1000}\n");
        (void) close(submit(f, "t1", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        fixture_crash(f);
        fixture_open(f);
        answer_in(f, "t2", "other", NULL, "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 2);
}

TEST_MAIN();
