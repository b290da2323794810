/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "approvals"

#include "approvals-world.h"

TEST(the_operator_allows) {
        _cleanup_free_ char *key = NULL, *question = NULL, *outcome_key = NULL, *outcome = NULL, *root = NULL;
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(w.n_changed, 1);
        key = key_of(&w, "");
        outcome_key = key_of(&w, "/outcome");
        question = said(&w, key, NULL);
        ASSERT_NOT_NULL(strstr(question, "permission to use `Bash`:\n- **command**: `ls`\n"));
        ASSERT_NOT_NULL(strstr(question, "within 5 minutes"));
        ASSERT_NOT_NULL(strstr(question, strrchr(key, '/') + 1));
        seal(&w, "msg_q");

        ASSERT_EQ(reply(&w, "msg_a", "msg_q", " Yes\n"), 1);
        ASSERT_EQ(asker.n, 0);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_TRUE(asker.allow);
        ASSERT_STREQ(asker.message, "");
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_EQ(w.n_changed, 2);
        ASSERT_EQ(w.n_answered, 1);
        outcome = said(&w, outcome_key, &root);
        ASSERT_STREQ(outcome, "Allowed.");
        ASSERT_STREQ(root, "msg_q");
}

TEST(the_operator_denies) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "n"), 1);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_FALSE(asker.allow);
        ASSERT_EQ(asker.state, APPROVAL_DENIED);
        ASSERT_STREQ(asker.message, "Permission denied by " OPERATOR ".");
}

TEST(what_is_no_answer_goes_on) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "what for?"), 0);
        ASSERT_EQ(reply(&w, "msg_b", "msg_other", "y"), 0);
        ASSERT_EQ(reply(&w, "msg_c", "", "y"), 0);
        ASSERT_EQ(reply(&w, "msg_d", "msg_q", ""), 0);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 0);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
}

TEST(a_second_answer_changes_nothing) {
        _cleanup_free_ char *id = NULL, *key = NULL, *text = NULL;
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        id = strdup(approvals_open_id(w.approvals, 0));
        key = key_of(&w, "/late/msg_b");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "n"), 1);
        /* Before anything followed from the first, and after. */
        ASSERT_EQ(reply(&w, "msg_b", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_FALSE(asker.allow);
        text = said(&w, key, NULL);
        ASSERT_STREQ(text, "This was already answered: it was denied by " OPERATOR ".");
        ASSERT_EQ(reply(&w, "msg_c", "msg_q", "y"), 1);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, true, "rob", NULL, "t" }, &row), -EALREADY);
        ASSERT_EQ(row->state, APPROVAL_DENIED);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
        ASSERT_EQ(w.n_answered, 1);
}

TEST(the_bus_answers) {
        static const struct { bool allow; const char *reason, *message, *outcome; } t[] = {
                { true, NULL, "", "Allowed by rob." },
                { true, "fine", "", "Allowed by rob." },
                { false, NULL, "Permission denied by rob.", "Denied by rob." },
                { false, "not on\x1b[2J Fridays", "Permission denied by rob: not on?[2J Fridays", "Denied by rob." },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *id = NULL, *key = NULL, *text = NULL;
                ASKER(asker);
                WORLD(w);

                ask(&w, &asker, "ask-1");
                seal(&w, "msg_q");
                id = strdup(approvals_open_id(w.approvals, 0));
                key = key_of(&w, "/outcome");
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                        id, t[i].allow, "rob", t[i].reason, "token",
                }, NULL), 0);
                fake_run(w.event);
                ASSERT_EQ(asker.n, 1);
                ASSERT_EQ(asker.allow, t[i].allow);
                ASSERT_STREQ(asker.message, t[i].message);
                text = said(&w, key, NULL);
                ASSERT_STREQ(text, t[i].outcome);
                /* The same call, whose reply was lost. */
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, t[i].allow, "rob", NULL, "token" },
                                           NULL), 0);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, t[i].allow, "rob", NULL, "other" },
                                           NULL), -EALREADY);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, t[i].allow, "rob", NULL, NULL }, NULL),
                          -EALREADY);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { "rob:none", true, "rob", NULL, "token" },
                                           NULL), -ENOENT);
                fake_run(w.event);
                ASSERT_EQ(asker.n, 1);
                ASSERT_EQ(w.n_answered, 1);
        }
}

TEST(a_question_that_has_not_gone_out_is_taken_back) {
        _cleanup_free_ char *key = NULL, *text = NULL;
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        key = key_of(&w, "/outcome");
        ASSERT_EQ(count_messages(&w), 1);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), 0);
        ASSERT_EQ(count_messages(&w), 0);
        text = said(&w, key, NULL);
        ASSERT_NULL(text);
}

/* Also one that is just being sealed, or waits for another attempt; the next one goes on at once. */
TEST(a_question_on_its_way_is_taken_back) {
        for (unsigned failed = 0; failed < 2; failed++) {
                _cleanup_(identity_freep) Identity *me = new0(Identity, 1);
                _cleanup_free_ char *id = NULL;
                ASKER(first);
                ASKER(second);
                WORLD(w);

                me->slug = strdup("me-0003");
                fake.identity = me;
                ASSERT_OK(outbox_start(w.outbox));
                ask(&w, &first, "ask-1");
                ASSERT_TRUE(fake.wait.is_waiting);
                if (failed)
                        fake_subkey_is_ready(CALL_NETWORK);
                id = strdup(approvals_open_id(w.approvals, 0));
                ask(&w, &second, "ask-2");
                ASSERT_EQ(fake.wait.is_waiting, !failed);
                ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, true, "rob", NULL, "t" }, NULL), 0);
                ASSERT_FALSE(fake.wait.is_waiting);
                ASSERT_EQ(count_messages(&w), 1);
                fake_run(w.event);
                ASSERT_TRUE(first.allow);
                ASSERT_TRUE(fake.wait.is_waiting);
                ASSERT_EQ(second.n, 0);
                w.approvals = approvals_free(w.approvals);
                w.outbox = outbox_free(w.outbox);
                fake.identity = NULL;
        }
}

TEST(an_ask_is_for_one_call) {
        ASKER(first);
        ASKER(second);
        ASKER(third);
        WORLD(w);

        ask(&w, &first, "ask-1");
        ASSERT_ERROR(try_ask(&w, &second, "turn-1", "ask-1", "Bash", "{\"command\":\"rm\"}"), EBADMSG);
        ASSERT_ERROR(try_ask(&w, &second, "turn-1", "ask-1", "Write", LS), EBADMSG);
        ASSERT_NULL(second.wait);
        ASSERT_EQ(try_ask(&w, &third, "turn-2", "ask-1", "Write", LS), 0);
        ASSERT_EQ(approvals_n_open(w.approvals), 2);
}

/* Two who wait for the same are both told. */
TEST(the_same_ask_twice) {
        ASKER(first);
        ASKER(second);
        WORLD(w);

        ask(&w, &first, "ask-1");
        ask(&w, &second, "ask-1");
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(count_messages(&w), 1);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), 0);
        fake_run(w.event);
        ASSERT_EQ(first.n, 1);
        ASSERT_EQ(second.n, 1);
}

TEST(bad_requests) {
        static const struct { const char *turn, *ask, *tool, *input; } t[] = {
                { NULL, "a", "Bash", LS }, { "", "a", "Bash", LS }, { "t", NULL, "Bash", LS }, { "t", "", "Bash", LS },
                { "t", "a", NULL, LS }, { "t", "a", "", LS }, { "t", "a", "Bash", "{" },
                { "t", "a", "Bash", "{\"a\":\"\xff\"}" }, { "t", "\xff", "Bash", LS },
        };
        ASKER(asker);
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(t); i++)
                ASSERT_ERROR(try_ask(&w, &asker, t[i].turn, t[i].ask, t[i].tool, t[i].input), EINVAL);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_EQ(count_messages(&w), 0);
}

TEST(too_many_are_refused) {
        _cleanup_free_ Asker *askers = new0(Asker, APPROVALS_OPEN_MAX);
        ASKER(more);
        WORLD(w);

        for (unsigned i = 0; i < APPROVALS_OPEN_MAX; i++) {
                _cleanup_free_ char *name = asprintf_new("ask-%u", i);

                ask(&w, askers + i, name);
        }
        ASSERT_ERROR(try_ask(&w, &more, "turn-1", "one-more", "Bash", LS), ENOBUFS);
        ASSERT_EQ(approvals_n_open(w.approvals), APPROVALS_OPEN_MAX);
        for (unsigned i = 0; i < APPROVALS_OPEN_MAX; i++)
                asker_done(askers + i);
}

TEST(a_long_input_is_kept_until_it_was_told) {
        _cleanup_free_ char *big = malloc(200001), *input = NULL, *key = NULL, *text = NULL, *id = NULL;
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL, *told = NULL;
        ApprovalRow **rows;
        size_t n;
        ASKER(asker);
        ASKER(again);
        WORLD(w);

        for (size_t i = 0; i < 200000; i += 2)
                (void) memcpy(big + i, "ü", 2);
        big[200000] = 0;
        input = strjoin("{\"content\":\"", big, "\"}");
        ASSERT_EQ(try_ask(&w, &asker, "turn-1", "ask-1", "Write", input), 0);
        id = strdup(approvals_open_id(w.approvals, 0));
        ASSERT_EQ(approval_store_get(w.db, id, &row), 1);
        ASSERT_STREQ(row->input, input);
        ASSERT_EQ(row->input_size, (int64_t) strlen(input));
        ASSERT_OK(approvals_list(w.approvals, 0, &rows, &n));
        ASSERT_EQ(n, 1);
        assert_in_range(strlen(rows[0]->input), APPROVAL_INPUT_SHOWN, 2 * APPROVAL_INPUT_SHOWN);
        ASSERT_TRUE(utf8_is_valid(rows[0]->input, strlen(rows[0]->input)));
        approval_rows_free(rows, n);
        ASSERT_OK(approvals_list_untold(w.approvals, "turn-1", &rows, &n));
        ASSERT_EQ(n, 1);
        ASSERT_STREQ(rows[0]->input, input);
        approval_rows_free(rows, n);
        key = key_of(&w, "");
        text = said(&w, key, NULL);
        ASSERT_NOT_NULL(strstr(text, "- **content**: `ü"));
        ASSERT_NOT_NULL(strstr(text, "Not all of the input is shown"));
        ASSERT_EQ(try_ask(&w, &again, "turn-1", "ask-1", "Write", input), 0);
        big[199998] = 'x';
        big[199999] = 'x';
        free(input);
        input = strjoin("{\"content\":\"", big, "\"}");
        ASSERT_ERROR(try_ask(&w, &(Asker) {}, "turn-1", "ask-1", "Write", input), EBADMSG);

        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) { id, true, "rob", NULL, "t" }, NULL), 0);
        fake_run(w.event);
        ASSERT_TRUE(asker.allow && again.allow);
        ASSERT_EQ(approval_store_get(w.db, id, &told), 1);
        ASSERT_TRUE(told->told);
        assert_in_range(strlen(told->input), APPROVAL_INPUT_SHOWN, 2 * APPROVAL_INPUT_SHOWN);
        ASSERT_STREQ(told->input_hash, row->input_hash);
}

TEST(what_is_too_long_is_refused) {
        _cleanup_free_ char *big = malloc(APPROVAL_INPUT_MAX + 2);
        ASKER(asker);
        WORLD(w);

        memset(big, 'x', APPROVAL_INPUT_MAX + 1);
        big[0] = big[APPROVAL_INPUT_MAX] = '"';
        big[APPROVAL_INPUT_MAX + 1] = 0;
        ASSERT_ERROR(try_ask(&w, &asker, "turn-1", "ask-1", "Write", big), E2BIG);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        big[APPROVAL_INPUT_MAX - 1] = '"';
        big[APPROVAL_INPUT_MAX] = 0;
        ASSERT_EQ(try_ask(&w, &asker, "turn-1", "ask-1", "Write", big), 0);
}

TEST(withdrawing) {
        _cleanup_free_ char *text = NULL, *key = NULL;
        ASKER(first);
        ASKER(second);
        ASKER(third);
        WORLD(w);

        ask(&w, &first, "ask-1");
        seal(&w, "msg_q");
        key = key_of(&w, "/outcome");
        ask(&w, &second, "ask-2");
        ASSERT_EQ(try_ask(&w, &third, "turn-2", "ask-1", "Bash", LS), 0);
        ASSERT_OK(approvals_withdraw(w.approvals, "turn-1", "ask-1"));
        fake_run(w.event);
        ASSERT_EQ(first.n, 1);
        ASSERT_EQ(first.state, APPROVAL_WITHDRAWN);
        ASSERT_FALSE(first.allow);
        text = said(&w, key, NULL);
        ASSERT_STREQ(text, "Withdrawn, as the answer was not needed any more.");
        ASSERT_EQ(second.n, 0);
        ASSERT_OK(approvals_withdraw(w.approvals, "turn-1", NULL));
        fake_run(w.event);
        ASSERT_EQ(second.n, 1);
        ASSERT_EQ(third.n, 0);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(first.n, 1);
}

TEST(without_an_operator_only_the_bus_answers) {
        ASKER(asker);
        WORLD(w);

        ASSERT_OK(approvals_set_operator(w.approvals, w.outbox, ""));
        ask(&w, &asker, "ask-1");
        ASSERT_EQ(count_messages(&w), 0);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 0);
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL), 0);
        fake_run(w.event);
        ASSERT_TRUE(asker.allow);
        ASSERT_EQ(count_messages(&w), 0);
}

/* The chat service comes up after the database, and may come up for the first time. */
TEST(an_operator_who_comes_later_is_asked) {
        ASKER(asker);
        WORLD(w);

        ASSERT_OK(approvals_set_operator(w.approvals, NULL, NULL));
        ask(&w, &asker, "ask-1");
        ASSERT_EQ(count_messages(&w), 0);
        for (unsigned i = 0; i < 2; i++)
                ASSERT_OK(approvals_set_operator(w.approvals, w.outbox, OPERATOR));
        ASSERT_EQ(count_messages(&w), 1);
        seal(&w, "msg_q");
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_TRUE(asker.allow);
}

TEST(who_was_the_operator_is_it_no_more) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        ASSERT_OK(approvals_set_operator(w.approvals, w.outbox, "op-0002"));
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 0);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 0);
}

/* An answer whose message could not be stored was not given: it comes again with the message. */
TEST(an_answer_that_was_rolled_back_counts_for_nothing) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        seal(&w, "msg_q");
        {
                _cleanup_(transaction_rollbackp) Transaction t = {};

                ASSERT_OK(database_begin_lazy(w.db, &t));
                ASSERT_EQ(approvals_consume_answer(w.approvals, "msg_a", "msg_q", "y"), 1);
        }
        fake_run(w.event);
        ASSERT_EQ(asker.n, 0);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(reply(&w, "msg_a", "msg_q", "y"), 1);
        fake_run(w.event);
        ASSERT_EQ(asker.n, 1);
}

TEST(damage_is_reported) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        ASSERT_OK(database_exec(w.db, "UPDATE approvals SET state = 'maybe'"));
        ASSERT_EQ(approvals_answer(w.approvals, &(ApprovalAnswer) {
                approvals_open_id(w.approvals, 0), true, "rob", NULL, "t",
        }, NULL) < 0, true);
        ASSERT_EQ(asker.n, 0);
        ASSERT_EQ(try_ask(&w, &(Asker) {}, "turn-1", "ask-1", "Bash", LS) < 0, true);
        assert_in_range(w.n_broken, 1, 9);
}

/* Nobody is left to be told when the process ends. */
TEST(freed_before_the_waits) {
        ASKER(asker);
        WORLD(w);

        ask(&w, &asker, "ask-1");
        w.approvals = approvals_free(w.approvals);
        ASSERT_EQ(asker.n, 0);
}

TEST_MAIN();
