/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "run-store"

#include "database-fixture.h"
#include "run-store.h"
#include "string-util.h"

static HarnessRun example(const char *invocation) {
        static const char *const tools[] = { "Read", "Bash(echo \"\n*)", NULL };
        HarnessRun r = {
                .invocation = (char*) invocation, .kind = (char*) "claude-code", .model = (char*) "m",
                .token = (char*) "secret", .directory = (char*) "/w", .permission_mode = (char*) "plan", .conversation = (char*) "c1",
                .allowed_tools = (char**) tools,
                .has_outlet = true, .turn = (char*) "t1", .message = (char*) "m1", .sent = RUN_SENDING,
        };

        memset(r.hash, 7, sizeof(r.hash));
        return r;
}

TEST(what_was_started_is_known_again) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_(harness_run_freep) HarnessRun *r = NULL;
        HarnessRun run = example("aa");

        ASSERT_EQ(run_store_get(f.db, &r), 0);
        ASSERT_OK(run_store_begin(f.db, &run));
        fixture_reopen(&f);
        ASSERT_EQ(run_store_get(f.db, &r), 1);
        ASSERT_STREQ(r->invocation, "aa");
        ASSERT_STREQ(r->kind, "claude-code");
        ASSERT_NULL(r->session_id);
        ASSERT_STREQ(r->token, "secret");
        ASSERT_STREQ(r->directory, "/w");
        ASSERT_STREQ(r->permission_mode, "plan");
        ASSERT_STREQ(r->own_sandbox, "");
        ASSERT_STREQ(r->conversation, "c1");
        ASSERT_EQ(strv_length(r->allowed_tools), 2);
        ASSERT_STREQ(r->allowed_tools[1], "Bash(echo \"\n*)");
        ASSERT_STREQ(r->turn, "t1");
        ASSERT_STREQ(r->message, "m1");
        ASSERT_STREQ(r->kick, "");
        ASSERT_STREQ(r->charged, "");
        ASSERT_EQ(r->sent, RUN_SENDING);
        ASSERT_TRUE(r->has_outlet);
        ASSERT_FALSE(r->has_proxy);
        ASSERT_FALSE(r->ended);
        ASSERT_EQ(memcmp(r->hash, run.hash, sizeof(r->hash)), 0);
}

TEST(what_becomes_of_it) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_(harness_run_freep) HarnessRun *r = NULL, *second = NULL;
        HarnessRun run = example("aa"), next = example("bb");

        ASSERT_OK(run_store_begin(f.db, &run));
        run.turn = (char*) "t2";
        run.kick = (char*) "go on";
        run.sent = RUN_SENT;
        run.session_id = (char*) "s1";
        run.charged = (char*) "m1";
        ASSERT_OK(run_store_give(f.db, &run));
        ASSERT_OK(run_store_set_session(f.db, &run));
        ASSERT_OK(run_store_set_charged(f.db, &run));
        ASSERT_OK(run_store_end(f.db, &run));
        ASSERT_EQ(run_store_get(f.db, &r), 1);
        ASSERT_STREQ(r->turn, "t2");
        ASSERT_STREQ(r->kick, "go on");
        ASSERT_STREQ(r->session_id, "s1");
        ASSERT_STREQ(r->charged, "m1");
        ASSERT_EQ(r->sent, RUN_SENT);
        ASSERT_TRUE(r->ended);
        ASSERT_STREQ(r->token, "");

        /* One at a time; who speaks of the one before changes nothing. */
        ASSERT_OK(run_store_begin(f.db, &next));
        ASSERT_OK(run_store_end(f.db, &run));
        ASSERT_EQ(run_store_get(f.db, &second), 1);
        ASSERT_STREQ(second->invocation, "bb");
        ASSERT_FALSE(second->ended);
        ASSERT_STREQ(second->turn, "t1");
}

TEST(what_it_has_asked) {
        _fixture_ Fixture f = fixture_new();
        HarnessRequest *list = NULL;
        HarnessRun run = example("aa"), next = example("bb");
        size_t n = 0;

        ASSERT_OK(run_store_begin(f.db, &run));
        ASSERT_OK(run_store_ask(f.db, "q2", "two"));
        ASSERT_OK(run_store_ask(f.db, "q1", "one"));
        ASSERT_OK(run_store_ask(f.db, "q3", "three"));
        /* A line that is seen again. */
        ASSERT_OK(run_store_ask(f.db, "q2", "two, again"));
        ASSERT_OK(run_store_answered(f.db, "q1"));
        ASSERT_OK(run_store_answered(f.db, "q0"));
        fixture_reopen(&f);
        ASSERT_OK(run_store_open(f.db, &list, &n));
        ASSERT_EQ(n, 2);
        ASSERT_STREQ(list[0].id, "q2");
        ASSERT_STREQ(list[0].message, "two");
        ASSERT_STREQ(list[1].id, "q3");
        harness_requests_free(list, n);

        ASSERT_OK(run_store_begin(f.db, &next));
        ASSERT_OK(run_store_open(f.db, &list, &n));
        ASSERT_EQ(n, 0);
        harness_requests_free(list, n);
}

/* Whoever edits the file may put anything there. */
TEST(what_is_no_run) {
        static const char *const edits[] = {
                "UPDATE harness_runs SET sent = 'perhaps'", "UPDATE harness_runs SET hash = x'00'",
                "UPDATE harness_runs SET hash = 'text'",
                "UPDATE harness_runs SET allowed_tools = '[1]'", "UPDATE harness_runs SET allowed_tools = '{}'",
                "UPDATE harness_runs SET allowed_tools = '['",
        };

        for (size_t i = 0; i < ELEMENTSOF(edits); i++) {
                _fixture_ Fixture f = fixture_new();
                HarnessRun run = example("aa"), *r = NULL;

                ASSERT_OK(run_store_begin(f.db, &run));
                ASSERT_OK(database_exec(f.db, edits[i]));
                ASSERT_EQ(run_store_get(f.db, &r), -EUCLEAN);
                ASSERT_NULL(r);
        }
}

TEST_MAIN();
