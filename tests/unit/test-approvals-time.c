/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "approvals-time"

/* Asks that outlast their time, their process, or a clock that was set. */

#include "approvals-world.h"

TEST(time_denies) {
        _cleanup_free_ char *key = NULL, *text = NULL, *late_key = NULL, *late = NULL;
        ASKER(asker);
        WORLD(w);

        approvals_set_timeout(w.approvals, 42 * USEC_PER_SEC);
        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        key = key_of(&w, "/outcome");
        late_key = key_of(&w, "/late/msg_a");
        pass(&w, 41 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 0);
        pass(&w, 1 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 1);
        ASSERT_EQ(asker.state, APPROVAL_EXPIRED);
        ASSERT_FALSE(asker.allow);
        ASSERT_STREQ(asker.message, "Permission denied: nobody answered within 42 seconds.");
        text = said(&w, key, NULL);
        ASSERT_STREQ(text, "Denied, as nobody answered in time.");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        late = said(&w, late_key, NULL);
        ASSERT_STREQ(late, "This was already answered: it was denied, as nobody answered in time.");
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
}

/* The timer is late, the answer as well. */
TEST(an_answer_after_the_time_is_none) {
        ASKER(first);
        ASKER(second);
        WORLD(w);

        ask(&w, &first, "ask-1");
        seal(&w, "msg_q");
        fake.now_usec += 301 * USEC_PER_SEC;
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(first.state, APPROVAL_EXPIRED);

        ask(&w, &second, "ask-2");
        fake.now_usec += 301 * USEC_PER_SEC;
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), -EALREADY);
        fake_run(w.event);
        ASSERT_EQ(second.state, APPROVAL_EXPIRED);
}

TEST(one_timer_for_all) {
        ASKER(first);
        ASKER(second);
        WORLD(w);

        approvals_set_timeout(w.approvals, 100 * USEC_PER_SEC);
        ask(&w, &first, "ask-1");
        approvals_set_timeout(w.approvals, 10 * USEC_PER_SEC);
        ask(&w, &second, "ask-2");
        pass(&w, 10 * USEC_PER_SEC);
        ASSERT_EQ(first.n, 0);
        ASSERT_EQ(second.n, 1);
        pass(&w, 90 * USEC_PER_SEC);
        ASSERT_EQ(first.n, 1);
        ASSERT_EQ(fake.n_sources, 1);
}

TEST(survives_a_restart) {
        _cleanup_free_ char *id = NULL;
        ApprovalRow **rows;
        size_t n;
        ASKER(before);
        ASKER(after);
        WORLD(w);

        ask(&w, &before, "ask-1");
        seal(&w, "msg_q");
        id = strdup(approvals_open_id(w.approvals, 0));
        before.wait = approval_wait_free(before.wait);
        fake.now_usec += 100 * USEC_PER_SEC;
        restart(&w);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_STREQ(approvals_open_id(w.approvals, 0), id);
        ASSERT_EQ(count_messages(&w), 1);

        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        ASSERT_EQ(n, 1);
        ASSERT_STREQ(rows[0]->ask, "ask-1");
        ASSERT_OK(approvals_wait(w.approvals, rows[0]->id, on_done, &after, &after.wait));
        approval_rows_free(rows, n);
        ASSERT_ERROR(approvals_wait(w.approvals, "rob:none", on_done, NULL, &(ApprovalWait*) { NULL }), ENOENT);
        fake_run(w.event);
        ASSERT_EQ(after.n, 0);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(after.n, 1);
        ASSERT_TRUE(after.allow);
        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        approval_rows_free(rows, n);
        ASSERT_EQ(n, 0);
}

/* Answered, and then killed before the CLI had it. */
TEST(an_answer_is_told_after_a_restart) {
        ApprovalRow **rows;
        size_t n;
        ASKER(before);
        ASKER(after);
        ASKER(again);
        WORLD(w);

        before.result = -EPIPE;
        ask(&w, &before, "ask-1");
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(before.n, 1);
        restart(&w);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        approval_rows_free(rows, n);
        ASSERT_EQ(n, 1);
        /* The CLI asks once more, as it got no answer. */
        ask(&w, &after, "ask-1");
        ASSERT_EQ(after.n, 1);
        ASSERT_TRUE(after.allow);
        ask(&w, &again, "ask-1");
        ASSERT_EQ(again.n, 1);
        ASSERT_TRUE(again.allow);
        ASSERT_EQ(w.n_answered, 1);
        ASSERT_EQ(count_messages(&w), 2);
}

TEST(time_goes_on_over_a_restart) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        asker.wait = approval_wait_free(asker.wait);
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET created_at = created_at - 290000, "
                                      "expires_at = expires_at - 290000"));
        restart(&w);
        ask(&w, &asker, "ask-1");
        ASSERT_EQ(asker.n, 0);
        pass(&w, 11 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 1);
        ASSERT_EQ(asker.state, APPROVAL_EXPIRED);
}

/* Clocks may be set: nobody waits for years, and nobody is asked for an instant. */
TEST(a_clock_that_was_set_back_makes_nobody_wait) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        asker.wait = approval_wait_free(asker.wait);
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET created_at = created_at + 9000000, "
                                      "expires_at = expires_at + 9000000"));
        restart(&w);
        ask(&w, &asker, "ask-1");
        pass(&w, 300 * USEC_PER_SEC);
        ASSERT_EQ(asker.n, 1);
}

TEST_MAIN();
