/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "invites"

#include <stdio.h>

#include "cert-fixture.h"
#include "fake-server.h"
#include "file-util.h"
#include "invites-internal.h"
#include "json-util.h"
#include "message-store.h"
#include "outbox-store.h"
#include "request-signing.h"

#define ME "me-0003"
#define OPERATOR "op-0001"
#define POLL "GET /invites?direction=received"
#define ANSWER "POST /spaces/events"
#define CAROL "GET /identities/profiles?slugs=carol-77aa"

typedef struct Fetched {
        char *slug;
        cert_fetched_t on_fetched;
        void *userdata;
} Fetched;

typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        CertCache *certs;
        Directory *directory;
        Outbox *outbox;
        Invites *invites;
        Person operator, carol;
        Fetched fetched[32];
        size_t n_fetched;
        bool certs_fail, fails_to_join;
        unsigned n_joined;
        char *joined;
        SessionKey *subkey;
} World;

static int fetch(void *userdata, const char *const *slugs, size_t n_slugs, int64_t since, cert_fetched_t on_fetched,
                 void *fetched_userdata, void **ret_call) {
        World *w = userdata;

        assert_in_range(w->n_fetched, 0, ELEMENTSOF(w->fetched) - 1);
        ASSERT_EQ(n_slugs, 1);
        w->fetched[w->n_fetched] = (Fetched) { strdup(slugs[0]), on_fetched, fetched_userdata };
        *ret_call = w->fetched + w->n_fetched++;
        return 0;
}

static void cancel(void *userdata, void *call) {
        ((Fetched*) call)->on_fetched = NULL;
}

static int no_pin(void *userdata, const char *slug, CertPin *ret) {
        return 0;
}

static int put_pin(void *userdata, const char *slug, const CertPin *pin) {
        return 0;
}

static int on_joined(const char *space_id, const char *channel_id, void *userdata) {
        World *w = userdata;

        if (w->fails_to_join)
                return -ENOSPC;
        w->n_joined++;
        free(w->joined);
        w->joined = strjoin(space_id, " ", channel_id);
        return 0;
}

static void make_invites(World *w, const char *operator_slug) {
        ASSERT_OK(invites_new(&w->invites, &(InvitesSpec) {
                .event = w->event, .db = w->db, .client = FAKE_CLIENT, .certs = w->certs, .directory = w->directory,
                .outbox = w->outbox, .operator_slug = operator_slug, .on_joined = on_joined, .userdata = w,
        }));
}

static void make_identity(World *w) {
        _cleanup_(strbuf_done) StrBuf text = {};
        SignedValue *cert = NULL;
        PERSON(me, ME);
        PAGE(p);

        ASSERT_OK(identity_cert_new(p.d, me.root_seed, w->operator.root, &cert));
        ASSERT_OK(signed_value_format(cert, &text));
        fake.identity = new0(Identity, 1);
        fake.identity->slug = strdup(ME);
        fake.identity->device_id = strdup(me.device_id);
        fake.identity->identity_cert_json = strbuf_take(&text);
        ASSERT_OK(session_key_new(&w->subkey, ME, me.subkey_id, me.subkey_seed, -1));
        fake.subkey = w->subkey;
}

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL;

        *w = (World) { .path = "/tmp/test-invites-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        person_begin(&w->operator, OPERATOR);
        person_begin(&w->carol, "carol-77aa");
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        make_identity(w);
        ASSERT_OK(cert_cache_new(&w->certs, &(CertCacheSpec) {
                .event = w->event, .source = { fetch, cancel, w }, .pins = { no_pin, put_pin, w },
        }));
        ASSERT_OK(directory_new(&w->directory, w->event, FAKE_CLIENT, w->db));
        ASSERT_OK(outbox_new(&w->outbox, &(OutboxSpec) {
                .event = w->event, .db = w->db, .client = FAKE_CLIENT, .certs = w->certs,
        }));
        make_invites(w, OPERATOR);
}

static void world_end(World *w) {
        invites_free(w->invites);
        outbox_free(w->outbox);
        directory_free(w->directory);
        cert_cache_free(w->certs);
        database_free(w->db);
        sd_event_unref(w->event);
        for (size_t i = 0; i < w->n_fetched; i++)
                free(w->fetched[i].slug);
        person_end(&w->operator);
        person_end(&w->carol);
        free(w->joined);
        fake.identity = identity_free(fake.identity);
        fake.subkey = NULL;
        session_key_free(w->subkey);
        ASSERT_OK(directory_remove(w->path));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void give_certs(World *w, Fetched *f) {
        cert_fetched_t on_fetched = TAKE_PTR(f->on_fetched);
        PAGE(p);

        if (w->certs_fail) {
                on_fetched(NULL, -EAGAIN, "HTTP 503", f->userdata);
                return;
        }
        if (streq(f->slug, OPERATOR))
                page_add_all(&p, &w->operator);
        else if (streq(f->slug, "boss-0009")) {
                /* The operator under another name. */
                Person boss = w->operator;

                boss.slug = f->slug;
                page_add_all(&p, &boss);
        } else if (streq(f->slug, "carol-77aa"))
                page_add_all(&p, &w->carol);
        on_fetched(p.root, 0, NULL, f->userdata);
}

/* Whatever goes on by itself. */
static void run(World *w) {
        bool again = true;

        while (again) {
                fake_run(w->event);
                again = false;
                for (size_t i = 0; i < w->n_fetched; i++)
                        if (w->fetched[i].on_fetched) {
                                give_certs(w, w->fetched + i);
                                again = true;
                        }
        }
}

static void answer(World *w, const char *line, long status, const char *body) {
        fake_answer(line, status, body);
        run(w);
}

/* Time passes until this is called. */
static void await(World *w, const char *line) {
        for (unsigned i = 0; !fake_waiting(line); i++) {
                if (i > 100 || !fake_pass(w->event))
                        fail_msg("Nobody calls %s, but %s", line, fake_next());
                run(w);
        }
}

static void poll(World *w, const char *invites) {
        _cleanup_free_ char *body = strjoin("{\"invites\":[", invites, "]}");

        if (!w->invites->connected)
                invites_set_connected(w->invites, true);
        await(w, POLL);
        answer(w, POLL, 200, body);
}

/* The end of a poll that has nothing more to tell. */
static void assert_idle(World *w) {
        if (*fake_next())
                fail_msg("Unexpected call: %s", fake_next());
        ASSERT_FALSE(w->invites->cycling);
}

static void assert_row(World *w, const char *event_id, InviteState state) {
        _cleanup_(invite_row_freep) InviteRow *row = NULL;

        ASSERT_EQ(invite_store_get(w->db, event_id, &row), state < 0 ? 0 : 1);
        if (row)
                ASSERT_STREQ(invite_state_to_string(row->state), invite_state_to_string(state));
}

static void assert_space_of(World *w, const char *channel, const char *expected) {
        _cleanup_free_ char *space = NULL;

        ASSERT_EQ(message_store_space_of(w->db, channel, &space), expected ? 1 : 0);
        if (expected)
                ASSERT_STREQ(space, expected);
}

static OutboxRow* outgoing(World *w, const char *key) {
        OutboxRow *row = NULL;
        int64_t id;

        ASSERT_EQ(outbox_find(w->outbox, key, &id), 1);
        ASSERT_EQ(outbox_store_get(w->db, id, &row), 1);
        return row;
}

static void assert_said(World *w, const char *key, const char *thread, const char *text) {
        _cleanup_(outbox_row_freep) OutboxRow *row = outgoing(w, key);
        _cleanup_json_ json_object *content = json_tokener_parse(row->content);

        ASSERT_STREQ(json_object_get_string(content), text);
        ASSERT_STREQ(row->recipient_slug, OPERATOR);
        ASSERT_STREQ(row->thread_root_id, thread);
        ASSERT_STREQ(row->channel_id, "");
}

static void question_was_sealed(World *w, const char *key, const char *envelope_id) {
        _cleanup_(outbox_row_freep) OutboxRow *row = outgoing(w, key);

        ASSERT_OK(outbox_store_sealed(w->db, row->id, envelope_id, "{}", 2, now_realtime_ms()));
}

static void question_was_sent(World *w, const char *key, const char *envelope_id) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;

        question_was_sealed(w, key, envelope_id);
        row = outgoing(w, key);
        ASSERT_OK(outbox_store_sent(w->db, row, ME, now_realtime_ms()));
}

#define INVITE(id, inviter) "{\"invitation_event_id\":\"" id "\",\"scope\":\"channel\",\"space_id\":\"sp_1\"," \
        "\"channel_id\":\"ch_1\",\"inviter_slug\":\"" inviter "\",\"space_name\":\"Lab\",\"channel_name\":\"ops\"}"
#define SPACE_INVITE(id, inviter) "{\"invitation_event_id\":\"" id "\",\"scope\":\"space\",\"space_id\":\"sp_1\"," \
        "\"channel_id\":null,\"inviter_slug\":\"" inviter "\",\"space_name\":null}"

/* --- accepting --- */

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

/* --- asking --- */

static void ask(World *w) {
        poll(w, INVITE("ev_1", "carol-77aa"));
        answer(w, CAROL, 200, "{\"profiles\":[{\"slug\":\"carol-77aa\",\"display_name\":\"Carol\"}]}");
        assert_row(w, "ev_1", INVITE_ANNOUNCING);
        question_was_sent(w, "invite/ev_1", "msg_q");
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

/* --- answers --- */

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

/* --- polls --- */

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

/* --- the channel of a space --- */

#define CHANNELS "GET /spaces/sp_1/channels"

static void join_space(World *w) {
        poll(w, SPACE_INVITE("ev_1", OPERATOR));
        ASSERT_NOT_NULL(strstr(fake_waiting(ANSWER)->body, "accept_space_invite"));
        answer(w, ANSWER, 200, "{}");
        invites_set_connected(w->invites, false);
}

TEST(the_default_channel_is_waited_for) {
        WORLD(w);

        join_space(&w);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "<html>");
        ASSERT_EQ(fake.last_delay_usec, USEC_PER_SEC);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "[]");
        ASSERT_EQ(fake.last_delay_usec, 3 * USEC_PER_SEC);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "{\"channels\":[{\"channel_id\":\"ch_5\",\"name\":\"ops\"},7,{\"channel_id\":\"\"},"
               "{\"channel_id\":\"ch_6\",\"name\":\"General\",\"is_public\":true},"
               "{\"channel_id\":\"ch_7\",\"name\":\"More\",\"is_public\":true}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_6");
        assert_space_of(&w, "ch_5", "sp_1");
        assert_space_of(&w, "ch_7", "sp_1");
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_5"), "ops");
}

TEST(a_space_whose_channels_are_never_shown) {
        static const unsigned delays[] = { 1000, 3000, 6000, 12000, 24000, 24000 };
        WORLD(w);

        join_space(&w);
        for (size_t i = 0; i < 7; i++) {
                await(&w, CHANNELS);
                answer(&w, CHANNELS, 200, "<html>");
                if (i < ELEMENTSOF(delays))
                        ASSERT_EQ(fake.last_delay_usec, delays[i] * USEC_PER_MSEC);
        }
        ASSERT_FALSE(fake_pass(w.event));
        ASSERT_EQ(fake_count(CHANNELS), 7);
        ASSERT_EQ(w.n_joined, 0);
}

TEST(a_space_without_a_public_channel_and_errors_end_the_search) {
        static const struct { long status; const char *body; } t[] = {
                { 200, "{\"channels\":[{\"channel_id\":\"ch_5\"}]}" }, { 200, "{}" }, { 200, "{\"channels\":7}" },
                { 403, NULL }, { 500, NULL }, { 0, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w);

                join_space(&w);
                await(&w, CHANNELS);
                answer(&w, CHANNELS, t[i].status, t[i].body);
                ASSERT_FALSE(fake_pass(w.event));
                ASSERT_EQ(fake_count(CHANNELS), 1);
                ASSERT_EQ(w.n_joined, 0);
        }
}

static int64_t count_wanted(World *w) {
        sqlite3_stmt *s;
        int64_t n;

        ASSERT_EQ(sqlite3_prepare_v2(database_handle(w->db), "SELECT COUNT(*) FROM session_values", -1, &s, NULL),
                  SQLITE_OK);
        ASSERT_EQ(sqlite3_step(s), SQLITE_ROW);
        n = sqlite3_column_int64(s, 0);
        ASSERT_EQ(sqlite3_finalize(s), SQLITE_OK);
        return n;
}

/* The invitation is done with, so that nothing but this remembers that there is a channel to look for. */
TEST(the_search_for_the_default_channel_survives_a_crash) {
        WORLD(w);

        join_space(&w);
        await(&w, CHANNELS);
        invites_free(w.invites);
        ASSERT_EQ(w.n_joined, 0);

        make_invites(&w, OPERATOR);
        run(&w);
        ASSERT_NULL(fake_waiting(CHANNELS));
        invites_set_connected(w.invites, true);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "<html>");
        /* A connection that comes and goes begins no second one. */
        invites_set_connected(w.invites, false);
        invites_set_connected(w.invites, true);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "{\"channels\":[{\"channel_id\":\"ch_6\",\"is_public\":true}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_6");
        ASSERT_EQ(count_wanted(&w), 0);

        invites_free(w.invites);
        make_invites(&w, OPERATOR);
        invites_set_connected(w.invites, true);
        run(&w);
        ASSERT_EQ(fake_count(CHANNELS), 3);
}

/* Nor does what becomes of an invitation get lost between the row that says so and the introduction. */
TEST(a_channel_that_was_joined_survives_a_crash) {
        WORLD(w);

        poll(&w, INVITE("ev_1", OPERATOR));
        w.fails_to_join = true;
        answer(&w, ANSWER, 200, "{}");
        assert_row(&w, "ev_1", INVITE_DONE);
        ASSERT_EQ(count_wanted(&w), 1);
        invites_free(w.invites);

        w.fails_to_join = false;
        w.n_joined = 0;
        make_invites(&w, OPERATOR);
        invites_set_connected(w.invites, true);
        await(&w, CHANNELS);
        answer(&w, CHANNELS, 200, "{\"channels\":[{\"channel_id\":\"ch_0\",\"is_public\":true},"
                                  "{\"channel_id\":\"ch_1\"}]}");
        ASSERT_EQ(w.n_joined, 1);
        ASSERT_STREQ(w.joined, "sp_1 ch_1");
        ASSERT_EQ(count_wanted(&w), 0);
}

TEST(searches_that_end_without_a_channel_are_forgotten) {
        static const struct { long status; const char *body; } t[] = { { 200, "{}" }, { 403, NULL } };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w);

                join_space(&w);
                await(&w, CHANNELS);
                ASSERT_EQ(count_wanted(&w), 1);
                answer(&w, CHANNELS, t[i].status, t[i].body);
                ASSERT_EQ(count_wanted(&w), 0);
        }
}

/* --- the end --- */

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
