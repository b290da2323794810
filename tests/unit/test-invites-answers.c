/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "invites-answers"

/* What the operator says to an invitation. */

#include "invites-world.h"

TEST(what_is_an_answer) {
        static const struct { const char *text; bool yes, no; } t[] = {
                { "y", true }, { "Y ", true }, { " yes\n", true }, { "YES", true }, { "n", .no = true },
                { "No", .no = true }, { "", }, { "yep" }, { "y?" }, { "yes please" }, { "no!" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                bool is_answer = t[i].yes || t[i].no;
                WORLD(w);

                ask(&w);
                poll(&w, INVITE("ev_1", "carol-77aa"));
                ASSERT_EQ(invites_consume_answer(w.invites, "carol-77aa", "msg_q", t[i].text), 0);
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_other", t[i].text), 0);
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "", t[i].text), 0);
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", t[i].text), is_answer);
                run(&w);
                if (!is_answer) {
                        assert_idle(&w);
                        assert_row(&w, "ev_1", INVITE_ANNOUNCED);
                        continue;
                }
                assert_row(&w, "ev_1", INVITE_ACTING);
                /* A second one is for the model. */
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", t[i].text), 0);
                ASSERT_NOT_NULL(strstr(fake_waiting(ANSWER)->body, t[i].yes ? "accept_channel_invite"
                                                                            : "reject_channel_invite"));
                answer(&w, ANSWER, 200, "{}");
                assert_row(&w, "ev_1", INVITE_DONE);
                assert_said(&w, "invite/ev_1/outcome", "msg_q",
                            t[i].yes ? "Accepted the invitation of **Carol**(@carol-77aa) to channel **ops**(ch_1) in "
                                       "space **Lab**(sp_1)."
                                     : "Rejected the invitation of **Carol**(@carol-77aa) to channel **ops**(ch_1) in "
                                       "space **Lab**(sp_1).");
                ASSERT_EQ(w.n_joined, t[i].yes);
                assert_space_of(&w, "ch_1", t[i].yes ? "sp_1" : NULL);
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", t[i].text), 0);
                poll(&w, "");
                assert_row(&w, "ev_1", -1);
        }
}

TEST(an_answer_may_be_faster_than_what_is_known_of_the_question) {
        WORLD(w);

        poll(&w, INVITE("ev_1", "carol-77aa"));
        answer(&w, CAROL, 500, NULL);
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 0);
        question_was_sealed(&w, "invite/ev_1", "msg_q");
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_p", "y"), 0);
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 1);
        run(&w);
        answer(&w, ANSWER, 200, "{}");
        assert_said(&w, "invite/ev_1/outcome", "msg_q",
                    "Accepted the invitation of @carol-77aa to channel **ops**(ch_1) in space **Lab**(sp_1).");
}

TEST(an_answer_that_was_not_committed_is_none) {
        WORLD(w);

        ask(&w);
        poll(&w, INVITE("ev_1", "carol-77aa"));
        {
                _cleanup_(transaction_rollbackp) Transaction t = {};

                ASSERT_OK(database_begin(w.db, &t));
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 1);
        }
        run(&w);
        assert_idle(&w);
        assert_row(&w, "ev_1", INVITE_ANNOUNCED);
}

TEST(an_answer_that_comes_too_late) {
        _cleanup_(invite_row_freep) InviteRow *row = NULL;
        WORLD(w);

        ask(&w);
        poll(&w, INVITE("ev_1", "carol-77aa"));
        ASSERT_EQ(invite_store_get(w.db, "ev_1", &row), 1);
        ASSERT_OK(invite_store_put(w.db, row, now_realtime_ms() - INVITE_LIFE_MS - 1000));
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 0);
        /* And it is not asked about again as long as it is listed. */
        poll(&w, INVITE("ev_1", "carol-77aa"));
        assert_row(&w, "ev_1", INVITE_DONE);
        assert_idle(&w);
}

static void on_looked_up(CertLookup *l, void *userdata) {
}

TEST(somebody_else_under_the_operators_name_answers_nothing) {
        const char *slug = OPERATOR;
        CertLookup *l;
        WORLD(w);

        ask(&w);
        memcpy(w.operator.root_seed, w.carol.root_seed, KEY_SIZE);
        memcpy(w.operator.root, w.carol.root, KEY_SIZE);
        ASSERT_OK(cert_cache_lookup(w.certs, &slug, 1, on_looked_up, NULL, &l));
        run(&w);
        cert_lookup_free(l);
        ASSERT_NOT_NULL(cert_cache_get(w.certs, OPERATOR));
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 0);
        ASSERT_FALSE(invites_is_operator(w.invites, OPERATOR));
}

/* Where more depends on it than an invitation, a slug that nothing is known of is nobody's. */
TEST(who_is_the_operator) {
        const char *slug = OPERATOR;
        CertLookup *l;
        WORLD(w);

        ASSERT_FALSE(invites_is_operator(w.invites, OPERATOR));
        ASSERT_OK(cert_cache_lookup(w.certs, &slug, 1, on_looked_up, NULL, &l));
        run(&w);
        cert_lookup_free(l);
        ASSERT_TRUE(invites_is_operator(w.invites, OPERATOR));
        ASSERT_FALSE(invites_is_operator(w.invites, "carol-77aa"));
        ASSERT_FALSE(invites_is_operator(w.invites, ""));
        ASSERT_OK(invites_set_operator(w.invites, ""));
        ASSERT_FALSE(invites_is_operator(w.invites, OPERATOR));
        ASSERT_FALSE(invites_is_operator(w.invites, ""));
}

TEST(failures_are_told_in_our_words) {
        static const struct { long status; const char *text; bool retried; } t[] = {
                { 403, "the server does not permit it" },
                { 409, "it has been answered or withdrawn already" },
                { 404, "it has been answered or withdrawn already" },
                { 400, "the server refused it with status 400" },
                { 500, "the server refused it with status 500", true },
                { 0, "the server could not be reached or gave no sensible answer", true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = NULL;
                WORLD(w);

                ask(&w);
                poll(&w, INVITE("ev_1", "carol-77aa"));
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "n"), 1);
                run(&w);
                for (unsigned k = 0; k < (t[i].retried ? 4 : 1); k++) {
                        await(&w, ANSWER);
                        answer(&w, ANSWER, t[i].status, NULL);
                }
                text = strjoin("Rejecting the invitation of **Carol**(@carol-77aa) to channel **ops**(ch_1) in space "
                               "**Lab**(sp_1) has failed: ", t[i].text, ".");
                assert_said(&w, "invite/ev_1/outcome", "msg_q", text);
                assert_row(&w, "ev_1", INVITE_DONE);
                ASSERT_EQ(fake_count(ANSWER), t[i].retried ? 4 : 1);
        }
}

TEST(an_answer_survives_a_crash) {
        static const bool sent_before[] = { false, true };

        for (size_t i = 0; i < ELEMENTSOF(sent_before); i++) {
                WORLD(w);

                ask(&w);
                poll(&w, INVITE("ev_1", "carol-77aa"));
                ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 1);
                if (sent_before[i])
                        run(&w);
                invites_free(w.invites);
                ASSERT_EQ(fake_count(ANSWER), sent_before[i]);

                make_invites(&w, OPERATOR);
                run(&w);
                ASSERT_NULL(fake_waiting(ANSWER));
                invites_set_connected(w.invites, true);
                run(&w);
                /* It had reached the server. */
                answer(&w, ANSWER, sent_before[i] ? 409 : 200, sent_before[i] ? NULL : "{}");
                assert_row(&w, "ev_1", INVITE_DONE);
                if (sent_before[i]) {
                        await(&w, "GET /spaces/sp_1/channels");
                        answer(&w, "GET /spaces/sp_1/channels", 200, "{\"channels\":[{\"channel_id\":\"ch_1\"}]}");
                }
                ASSERT_EQ(w.n_joined, 1);
        }
}

TEST(without_a_connection_answers_wait) {
        WORLD(w);

        ask(&w);
        poll(&w, INVITE("ev_1", "carol-77aa"));
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 1);
        run(&w);
        invites_set_connected(w.invites, false);
        answer(&w, ANSWER, 0, NULL);
        assert_idle(&w);
        invites_set_connected(w.invites, true);
        answer(&w, ANSWER, 200, "{}");
        assert_row(&w, "ev_1", INVITE_DONE);
}

TEST_MAIN();
