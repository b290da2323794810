/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "invites"

#include "invites-world.h"

TEST(the_operator_is_known_by_the_root_key) {
        static const char *const slugs[] = { INVITE("ev_1", OPERATOR), INVITE("ev_1", "boss-0009") };

        for (size_t i = 0; i < ELEMENTSOF(slugs); i++) {
                WORLD(w);

                poll(&w, slugs[i]);
                assert_row(&w, "ev_1", INVITE_ACCEPTING);
                ASSERT_NOT_NULL(strstr(fake_waiting(ANSWER)->body, "\"kind\":\"accept_channel_invite\""));
                ASSERT_NOT_NULL(strstr(fake_waiting(ANSWER)->body, "\"invitation_event_id\":\"ev_1\""));
                answer(&w, ANSWER, 200, "{\"ok\":true}");
                assert_row(&w, "ev_1", INVITE_DONE);
                assert_space_of(&w, "ch_1", "sp_1");
                ASSERT_EQ(w.n_joined, 1);
                ASSERT_STREQ(w.joined, "sp_1 ch_1");
                ASSERT_STREQ(directory_channel_name(w.directory, "ch_1"), "ops");

                /* A server that is slow to forget it does not make us do it again. */
                poll(&w, slugs[i]);
                assert_idle(&w);
                ASSERT_EQ(w.n_joined, 1);
        }
}

TEST(the_operators_slug_alone_proves_nothing) {
        WORLD(w);

        memcpy(&w.operator, &w.carol, offsetof(Person, device_id));
        w.operator.slug = OPERATOR;
        free(w.operator.device_id);
        free(w.operator.subkey_id);
        w.operator.device_id = strdup(w.carol.device_id);
        w.operator.subkey_id = strdup(w.carol.subkey_id);
        poll(&w, INVITE("ev_1", OPERATOR));
        ASSERT_EQ(fake_count(ANSWER), 0);
        answer(&w, "GET /identities/profiles?slugs=" OPERATOR, 200, "{\"profiles\":[]}");
        assert_row(&w, "ev_1", INVITE_ANNOUNCING);
}

TEST(a_lookup_that_fails_does_not_make_the_operator_a_stranger) {
        WORLD(w);

        w.certs_fail = true;
        poll(&w, INVITE("ev_1", OPERATOR));
        assert_idle(&w);
        assert_row(&w, "ev_1", -1);
        w.certs_fail = false;
        poll(&w, INVITE("ev_1", OPERATOR));
        answer(&w, ANSWER, 200, "{}");
        ASSERT_EQ(w.n_joined, 1);
}

TEST(an_accept_that_fails_is_tried_with_the_next_poll) {
        static const long statuses[] = { 0, 403, 500 };
        WORLD(w);

        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                poll(&w, INVITE("ev_1", OPERATOR));
                answer(&w, ANSWER, statuses[i], NULL);
                assert_row(&w, "ev_1", INVITE_ACCEPTING);
                assert_idle(&w);
        }
        poll(&w, INVITE("ev_1", OPERATOR));
        answer(&w, ANSWER, 200, "{}");
        assert_row(&w, "ev_1", INVITE_DONE);
        ASSERT_EQ(w.n_joined, 1);
}

TEST(an_accept_waits_for_a_subkey) {
        WORLD(w);

        fake.subkey = NULL;
        poll(&w, INVITE("ev_1", OPERATOR));
        ASSERT_EQ(fake_count(ANSWER), 0);
        fake_subkey_is_ready(CALL_NETWORK);
        run(&w);
        assert_row(&w, "ev_1", INVITE_ACCEPTING);
        poll(&w, INVITE("ev_1", OPERATOR));
        fake.subkey = w.subkey;
        fake_subkey_is_ready(CALL_OK);
        answer(&w, ANSWER, 200, "{}");
        assert_row(&w, "ev_1", INVITE_DONE);
}

TEST(an_accept_whose_answer_was_lost) {
        WORLD(w);

        poll(&w, INVITE("ev_1", OPERATOR));
        answer(&w, ANSWER, 0, NULL);
        poll(&w, "");
        assert_row(&w, "ev_1", -1);
        await(&w, "GET /spaces/sp_1/channels");
        answer(&w, "GET /spaces/sp_1/channels", 200, "{\"channels\":[{\"channel_id\":\"ch_0\",\"is_public\":true},"
               "{\"channel_id\":\"ch_1\",\"name\":\"ops\"}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_1");
}

TEST(the_operator_is_asked_about_others) {
        WORLD(w);

        ask(&w);
        assert_said(&w, "invite/ev_1", "", "**Carol**(@carol-77aa) invited me to channel **ops**(ch_1) in space "
                    "**Lab**(sp_1). They are not my operator. Reply y to accept or n to reject in this thread.");
        poll(&w, INVITE("ev_1", "carol-77aa"));
        assert_idle(&w);
        assert_row(&w, "ev_1", INVITE_ANNOUNCED);

        /* Not even after a restart. */
        invites_free(w.invites);
        make_invites(&w, OPERATOR);
        poll(&w, INVITE("ev_1", "carol-77aa"));
        assert_idle(&w);
        assert_row(&w, "ev_1", INVITE_ANNOUNCED);
}

TEST(labels_without_names) {
        WORLD(w);

        poll(&w, SPACE_INVITE("ev_1", "carol-77aa"));
        answer(&w, CAROL, 500, NULL);
        assert_said(&w, "invite/ev_1", "", "@carol-77aa invited me to space sp_1. They are not my operator. "
                    "Reply y to accept or n to reject in this thread.");
}

TEST(names_are_only_names) {
        WORLD(w);
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;

        poll(&w, INVITE("ev_1", "carol-77aa"));
        answer(&w, CAROL, 200, "{\"profiles\":[{\"slug\":\"carol-77aa\",\"display_name\":\"x\\nReply\\u202e\"}]}");
        row = outgoing(&w, "invite/ev_1");
        ASSERT_NULL(strstr(row->content, "\\n"));
        ASSERT_NULL(strstr(row->content, "\xe2\x80\xae"));
}

TEST(invitations_that_vanish_are_forgotten) {
        WORLD(w);

        ask(&w);
        poll(&w, "");
        assert_row(&w, "ev_1", -1);
        ASSERT_EQ(invites_consume_answer(w.invites, OPERATOR, "msg_q", "y"), 0);
        assert_idle(&w);
}

TEST(a_question_that_cannot_be_sent_is_left_to_the_operators_client) {
        WORLD(w);
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;

        poll(&w, INVITE("ev_1", "carol-77aa"));
        answer(&w, CAROL, 500, NULL);
        row = outgoing(&w, "invite/ev_1");
        ASSERT_OK(outbox_store_failed(w.db, row->id, "no", now_realtime_ms()));
        poll(&w, INVITE("ev_1", "carol-77aa"));
        assert_row(&w, "ev_1", INVITE_DONE);
        assert_idle(&w);
}

TEST(without_an_operator_it_stays_where_it_is) {
        WORLD(w);

        ASSERT_OK(invites_set_operator(w.invites, NULL));
        poll(&w, INVITE("ev_1", "carol-77aa"));
        poll(&w, INVITE("ev_1", "carol-77aa"));
        assert_row(&w, "ev_1", INVITE_LEFT);
        assert_idle(&w);
        ASSERT_OK(invites_set_operator(w.invites, OPERATOR));
        poll(&w, INVITE("ev_1", "carol-77aa"));
        answer(&w, CAROL, 500, NULL);
        assert_row(&w, "ev_1", INVITE_ANNOUNCING);
}

TEST(a_flood_of_invitations_waits) {
        _cleanup_(strbuf_done) StrBuf list = {};
        WORLD(w);
        InviteRow **rows;
        size_t n;

        for (unsigned i = 0; i < 100; i++)
                ASSERT_OK(strbuf_printf(&list, "%s{\"invitation_event_id\":\"ev_%u\",\"scope\":\"space\",\"space_id\":"
                                        "\"sp_%u\",\"inviter_slug\":\"carol-77aa\"}", i > 0 ? "," : "", i, i));
        poll(&w, list.text);
        answer(&w, CAROL, 500, NULL);
        assert_idle(&w);
        ASSERT_OK(invite_store_list(w.db, _INVITE_STATE_INVALID, 0, &rows, &n));
        ASSERT_EQ(n, 20);
        invite_rows_free(rows, n);
}

TEST(polls_come_by_themselves_while_connected) {
        WORLD(w);

        run(&w);
        ASSERT_EQ(fake.n_timers, 0);
        invites_set_connected(w.invites, true);
        ASSERT_EQ(fake.last_delay_usec, 2 * USEC_PER_SEC);
        await(&w, POLL);
        answer(&w, POLL, 200, "{\"invites\":null}");
        ASSERT_EQ(fake.last_delay_usec, 30 * USEC_PER_SEC);
        assert_in_range(fake.last_accuracy_usec, 2 * USEC_PER_SEC, 20 * USEC_PER_SEC);
        await(&w, POLL);
        invites_set_connected(w.invites, false);
        answer(&w, POLL, 200, "{}");
        ASSERT_FALSE(fake_pass(w.event));
        assert_idle(&w);
}

TEST(a_poll_survives_whatever_comes) {
        static const struct { long status; const char *body; } t[] = {
                { 0, NULL }, { 429, NULL }, { 500, NULL }, { 200, NULL }, { 200, "<html>" }, { 200, "[]" },
                { 200, "{\"invites\":7}" }, { 200, "{\"invites\":[7]}" }, { 200, "{\"invites\":[{}]}" },
                { 200, "{\"invites\":[{\"invitation_event_id\":\"ev_1\",\"scope\":\"galaxy\","
                       "\"space_id\":\"sp_1\"}]}" },
                { 200, "{\"invites\":[{\"invitation_event_id\":\"ev_1\",\"scope\":\"space\",\"space_id\":\"sp_1\","
                       "\"inviter_slug\":\"a,b\"}]}" },
        };
        WORLD(w);

        invites_set_connected(w.invites, true);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                await(&w, POLL);
                answer(&w, POLL, t[i].status, t[i].body);
                assert_idle(&w);
        }
        poll(&w, INVITE("ev_1", OPERATOR));
        answer(&w, ANSWER, 200, "{}");
        ASSERT_EQ(w.n_joined, 1);
}

TEST(one_poll_at_a_time) {
        WORLD(w);

        invites_poke(w.invites);        /* nobody is connected */
        run(&w);
        ASSERT_EQ(fake.n_calls, 0);
        invites_set_connected(w.invites, true);
        await(&w, POLL);
        for (unsigned i = 0; i < 5; i++)
                invites_poke(w.invites);
        run(&w);
        ASSERT_EQ(fake.n_calls, 1);
        answer(&w, POLL, 200, "{\"invites\":[" INVITE("ev_1", OPERATOR) "]}");
        invites_poke(w.invites);
        run(&w);
        ASSERT_EQ(fake_count(POLL), 1);
        answer(&w, ANSWER, 200, "{}");
        ASSERT_EQ(fake.last_delay_usec, 2 * USEC_PER_SEC);
        await(&w, POLL);
        answer(&w, POLL, 200, "{\"invites\":[]}");
        ASSERT_EQ(fake.last_delay_usec, 30 * USEC_PER_SEC);
        fake.now_usec += 10 * USEC_PER_SEC;
        invites_poke(w.invites);
        ASSERT_EQ(fake.last_delay_usec, 0);
}

static void event(World *w, const char *json) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        ASSERT_OK(signed_document_parse(&d, json, strlen(json)));
        invites_on_event(w->invites, signed_document_root(d));
}

TEST(events_that_name_us_poke) {
        unsigned n;
        WORLD(w);

        poll(&w, "");
        fake.now_usec += 10 * USEC_PER_SEC;
        n = fake.n_timers;
        event(&w, "7");
        event(&w, "{\"kind\":\"invite_to_space\",\"payload\":{\"invitee_slug\":\"else-0001\"}}");
        event(&w, "{\"kind\":\"create_channel\",\"payload\":{\"invitee_slug\":\"" ME "\"}}");
        ASSERT_EQ(fake.n_timers, n);
        event(&w, "{\"kind\":\"invite_to_channel\",\"payload\":{\"invitee_slug\":\"" ME "\"}}");
        ASSERT_EQ(fake.n_timers, n + 1);
        event(&w, "{\"kind\":\"invite_to_space\",\"payload\":{\"invitee_slug\":\"" ME "\"}}");
        ASSERT_EQ(fake.n_timers, n + 2);
}

/* An invitation with its signed event, of which one member says something else. */
static char* signed_invite(World *w, const Person *signer, const char *channel_id) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        EventSigner s = { "carol-77aa", w->carol.device_id, w->carol.subkey_id, signer->subkey_seed };
        _cleanup_(strbuf_done) StrBuf text = {};
        SignedValue *payload, *e;

        ASSERT_OK(signed_document_new(&d));
        payload = signed_object(d);
        ASSERT_OK(signed_put(d, payload, "space_id", signed_string(d, "sp_1")));
        ASSERT_OK(signed_put(d, payload, "channel_id", signed_string(d, channel_id)));
        ASSERT_OK(signed_put(d, payload, "invitee_slug", signed_string(d, ME)));
        ASSERT_OK(signed_put(d, payload, "issued_at", signed_int(d, NOW + HOUR)));
        ASSERT_OK(signed_event_new(d, "ev_1", "invite_to_channel", payload, &s, &e));
        ASSERT_OK(signed_value_format(e, &text));
        return asprintf_new("{\"invitation_event_id\":\"ev_1\",\"scope\":\"channel\",\"space_id\":\"sp_1\","
                            "\"channel_id\":\"ch_1\",\"inviter_slug\":\"carol-77aa\",\"invitation_event\":%s}", text.text);
}

TEST(the_invitation_itself_is_verified_where_the_server_shows_it) {
        WORLD(w);
        _cleanup_free_ char *good = signed_invite(&w, &w.carol, "ch_1"),
                            *forged = signed_invite(&w, &w.operator, "ch_1"),
                            *other = signed_invite(&w, &w.carol, "ch_2");

        poll(&w, forged);
        assert_idle(&w);
        assert_row(&w, "ev_1", INVITE_DONE);
        ASSERT_EQ(w.n_fetched, 2);      /* the key might have been new */
        poll(&w, "");
        poll(&w, other);
        assert_idle(&w);
        assert_row(&w, "ev_1", INVITE_DONE);
        poll(&w, "");
        poll(&w, good);
        answer(&w, CAROL, 500, NULL);
        assert_row(&w, "ev_1", INVITE_ANNOUNCING);
}

TEST(freed_at_any_time) {
        for (unsigned i = 0; i < 7; i++) {
                WORLD(w);

                invites_set_connected(w.invites, true);
                if (i == 1)
                        await(&w, POLL);
                else if (i == 2) {
                        await(&w, POLL);
                        fake_answer(POLL, 200, "{\"invites\":[" INVITE("ev_1", OPERATOR) "]}");
                } else if (i == 3)
                        poll(&w, INVITE("ev_1", OPERATOR));
                else if (i == 4)
                        poll(&w, INVITE("ev_1", "carol-77aa"));
                else if (i == 5)
                        join_space(&w);
                else if (i == 6) {
                        fake.subkey = NULL;
                        poll(&w, INVITE("ev_1", OPERATOR));
                }
                w.invites = invites_free(w.invites);
                run(&w);
        }
}

TEST_MAIN();
