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

/* As when the disk is full. */
TEST(what_cannot_be_stored_counts) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 30}\n");

        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER full BEFORE INSERT ON model_usage BEGIN "
                                       "SELECT RAISE(ABORT, 'full'); END"));
        answer(f, "t1", "Hello", "completed You said: Hello");
        answer(f, "t2", "Hello", "completed You said: Hello");
        answer(f, "t3", "Never", "failed/budget");
        ASSERT_OK(database_exec(f->db, "DROP TRIGGER full"));
        answer(f, "t4", "Never", "failed/budget");
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t5", "Never", "failed/budget");
}

static char *token;                     /* the last that the outlet was told to take, but for new ones */

int __real_outlet_set_token(Outlet *o, const char *t);
int __wrap_outlet_set_token(Outlet *o, const char *t);

int __wrap_outlet_set_token(Outlet *o, const char *t) {
        ASSERT_OK(free_and_strdup(&token, t));
        return __real_outlet_set_token(o, t);
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

/* The next process of the session goes on, and is killed when the turn ends. */
static void die_at_end(Fixture *f) {
        int status;
        pid_t pid = fork();

        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                world.no_end = world.die_at_end = true;
                fixture_open(f);
                run_until(f, is_idle);
                _exit(1);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* Killed between what it has cost and the turn's end: its end is read again, and counts once. */
TEST(a_turn_counts_once) {
        _fixture_ Fixture *f = fixture_new("limits: {tokens_per_hour: 1000}\n");

        (void) close(submit(f, "t1", "[[wait]]"));
        run_until(f, is_talking);
        fixture_crash(f);
        go();
        die_at_end(f);
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

        /* Its token is good as long as it is there. */
        ASSERT_EQ(strlen(strempty(token)), 43);
        ASSERT_OK(kill(world.pid, SIGKILL));
        while (!streq_ptr(token, ""))
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 20 * USEC_PER_SEC)) > 0);
        token = mfree(token);
}

static void assert_usage(Fixture *f, const char *id, uint64_t input, uint64_t cached, uint64_t output) {
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        ASSERT_EQ(turn_store_get(f->db, id, &row), 1);
        ASSERT_EQ(row->usage.input_tokens, input);
        ASSERT_EQ(row->usage.cached_tokens, cached);
        ASSERT_EQ(row->usage.output_tokens, output);
}

/* A program that tells what all turns of its conversation have used together. */
TEST(what_counts_on_is_counted_by_turns) {
        _fixture_ Fixture *f = fixture_new("");

        world.codex_exec = true;
        configure_as("runtime:\n  kind: cli-local\n  harness: codex\nlimits: {tokens_per_hour: 1000}\n");
        answer(f, "t1", "Hello", "completed You said: Hello");
        answer(f, "t2", "Again", "completed You said: Again");
        assert_usage(f, "t1", 10, 3, 5);
        assert_usage(f, "t2", 10, 3, 5);
        /* Whoever follows knows what there was before. */
        fixture_crash(f);
        fixture_open(f);
        answer(f, "t3", "And again", "completed You said: And again");
        assert_usage(f, "t3", 10, 3, 5);
        ASSERT_EQ(tokens_used(f), 45);
        /* Another conversation begins at nothing, and the first one goes on from where it was. */
        answer_in(f, "t4", "side", NULL, "Aside", "completed You said: Aside");
        answer(f, "t5", "Back", "completed You said: Back");
        assert_usage(f, "t4", 10, 3, 5);
        assert_usage(f, "t5", 10, 3, 5);
}

static bool has_heard(Fixture *f) {
        _cleanup_free_ char *log = cli_log();

        return strstr(log, "[[wait]]");
}

/* Killed between what it has counted and the turn's end, which is read again: it is the same turn. */
TEST(what_counts_on_counts_once) {
        _fixture_ Fixture *f = fixture_new("");

        world.codex_exec = true;
        configure_as("runtime:\n  kind: cli-local\n  harness: codex\nlimits: {tokens_per_hour: 1000}\n");
        answer(f, "t1", "Hello", "completed You said: Hello");
        (void) close(submit(f, "t2", "[[wait]]"));
        while (!has_heard(f))
                ASSERT_OK(sd_event_run(f->event, 20 * USEC_PER_MSEC));
        fixture_crash(f);
        go();
        die_at_end(f);
        alter(f, "UPDATE session_turns SET attempts = 1 WHERE id = 't2'");
        fixture_open(f);
        run_until(f, is_idle);
        assert_turn(f, "t2", "completed First second.");
        assert_usage(f, "t2", 10, 3, 5);
        ASSERT_EQ(tokens_used(f), 30);
}

TEST_MAIN();
