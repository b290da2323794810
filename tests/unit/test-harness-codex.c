/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-codex"

#include "codex-stage.h"

/* Codex's app-server, a line at a time: how it is made ready, taken over, asked and interrupted. */

TEST(a_turn) {
        _cleanup_json_ json_object *initialize = NULL, *thread = NULL, *turn = NULL;

        STAGE(s, NULL);
        NOTHING_IS_HEARD(&s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        initialize = hear(&s, "initialize");
        ASSERT_STREQ(json_get_string(json_get(json_get(initialize, "params"), "clientInfo"), "name"), "puffo");
        answer(&s, initialize, AGENT("0.169.0"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        thread = hear(&s, "thread/start");
        ASSERT_STREQ(json_text(json_get(thread, "params"), NULL),
                     "{\"cwd\":\"/srv/agent/workspace\",\"model\":\"gpt-x\",\"approvalPolicy\":\"never\","
                     "\"sandbox\":\"workspace-write\",\"developerInstructions\":\"You are alice.\"}");
        answer(&s, thread, OPENED);
        turn = hear(&s, "turn/start");
        ASSERT_STREQ(json_text(json_get(turn, "params"), NULL),
                     "{\"threadId\":\"" THREAD "\",\"input\":[{\"type\":\"text\",\"text\":\"hello\","
                     "\"text_elements\":[]}]}");

        /* What is told of other turns and threads is not of this one; a beginning may overtake the answer. */
        stage_says(&s, USAGE(OLD_TURN, 1000));
        stage_says(&s, TURN_STARTED);
        answer(&s, turn, BEGUN);
        stage_says(&s, "{\"method\":\"item/agentMessage/delta\",\"params\":{\"threadId\":\"x\",\"turnId\":\"y\","
                       "\"itemId\":\"m1\",\"delta\":\"not this\"}}");
        /* It can be gone on with when it has a turn, not before. */
        ASSERT_NULL(s.session);
        stage_says(&s, USER_MESSAGE);
        ASSERT_STREQ(strempty(s.session), THREAD);
        stage_says(&s, MESSAGE_STARTED);
        stage_says(&s, DELTA("Hel"));
        stage_says(&s, DELTA("lo"));
        stage_says(&s, MESSAGE_COMPLETED("Hello"));
        stage_says(&s, USAGE(TURN, 10));
        stage_says(&s, USAGE(TURN, 5));
        stage_says(&s, TURN_COMPLETED("completed"));
        ASSERT_RECORD(&s, "begin m1\ntext Hel\ntext lo\nend m1: Hello\ndone\n");
        ASSERT_TRUE(s.result.started);
        ASSERT_EQ(s.result.usage.input_tokens, 15);
        ASSERT_EQ(s.result.usage.cached_tokens, 4);
        ASSERT_EQ(s.result.usage.output_tokens, 2);

        /* The next one has no more to wait for. */
        ASSERT_OK(harness_turn(s.harness, "more"));
        hear_and_answer(&s, "turn/start", BEGUN);
        NOTHING_IS_HEARD(&s);
}

TEST(made_ready_before_a_turn) {
        STAGE(s, NULL);

        ASSERT_EQ(harness_prepare(s.harness), 1);
        ASSERT_EQ(harness_prepare(s.harness), -EBUSY);
        make_ready(&s, false);
        stage_run(&s);
        ASSERT_RECORD(&s, "done\n");
        ASSERT_FALSE(s.result.started);
        ASSERT_NULL(s.session);
        ASSERT_EQ(harness_prepare(s.harness), 0);

        /* Nothing but the text is left to be said. */
        ASSERT_OK(harness_turn(s.harness, "hello"));
        hear_and_answer(&s, "turn/start", BEGUN);
        NOTHING_IS_HEARD(&s);
}

TEST(cannot_be_made_ready) {
        STAGE(s, NULL);

        ASSERT_EQ(harness_prepare(s.harness), 1);
        hear_and_answer(&s, "initialize", AGENT("0.169.0"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", "\"result\":{\"account\":null,\"requiresOpenaiAuth\":true}");
        stage_run(&s);
        ASSERT_TRUE(s.ended);
        ASSERT_EQ(s.result.outcome, HARNESS_AUTH);

        /* The next one begins at the beginning. */
        ASSERT_EQ(harness_prepare(s.harness), 1);
        hear_and_answer(&s, "initialize", ERROR("Already initialized"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        hear_and_answer(&s, "thread/start", ERROR("no"));
        stage_run(&s);
        ASSERT_EQ(s.result.outcome, HARNESS_ERROR);
}

TEST(permission_modes) {
        static const struct { const char *mode, *given, *policy, *sandbox; } t[] = {
                { "bypassPermissions", NULL, "never", "workspace-write" },
                { "bypassPermissions", "danger-full-access", "never", "danger-full-access" },
                { NULL, NULL, "untrusted", "workspace-write" },
                { "acceptEdits", NULL, "untrusted", "workspace-write" },
                { "dontAsk", NULL, "never", "workspace-write" },
                { "plan", NULL, "never", "read-only" },
                /* Where it has no sandbox of its own it has to ask. */
                { "plan", "danger-full-access", "untrusted", "danger-full-access" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *thread = NULL;
                _cleanup_(stage_end) Stage s;
                HarnessSetup setup = setup_of(THREAD);

                setup.permission_mode = t[i].mode;
                setup.codex_sandbox = t[i].given;
                stage_begin(&s, &setup);
                ASSERT_OK(harness_turn(s.harness, "hello"));
                hear_and_answer(&s, "initialize", AGENT("0.110.0"));
                hear_and_answer(&s, "initialized", NULL);
                hear_and_answer(&s, "account/read", ERROR("Invalid request: unknown variant"));
                thread = hear(&s, "thread/resume");
                ASSERT_STREQ(json_get_string(json_get(thread, "params"), "threadId"), THREAD);
                ASSERT_TRUE(json_get_bool(json_get(thread, "params"), "excludeTurns", false));
                ASSERT_STREQ(json_get_string(json_get(thread, "params"), "approvalPolicy"), t[i].policy);
                ASSERT_STREQ(json_get_string(json_get(thread, "params"), "sandbox"), t[i].sandbox);
        }
}

TEST(not_fit) {
        static const struct { const char *agent, *record; } t[] = {
                { AGENT("0.98.0"), "unfit: Codex 0.98.0 is too old for puffo: 0.110 is the oldest that it works with; "
                                   "update it (npm install -g @openai/codex).\n" },
                { ERROR("broken"), "protocol: broken\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                STAGE(s, NULL);
                ASSERT_OK(harness_turn(s.harness, "hello"));
                hear_and_answer(&s, "initialize", t[i].agent);
                ASSERT_RECORD(&s, t[i].record);
                ASSERT_FALSE(s.result.started);
                NOTHING_IS_HEARD(&s);
        }
}

TEST(not_logged_in) {
        STAGE(s, NULL);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        hear_and_answer(&s, "initialize", AGENT("1.0.0"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", "\"result\":{\"account\":null,\"requiresOpenaiAuth\":true}");
        ASSERT_EQ(s.result.outcome, HARNESS_AUTH);
        ASSERT_NOT_NULL(strstr(strempty(s.record.text), "codex login"));
        NOTHING_IS_HEARD(&s);

        /* Somebody has logged in meanwhile. */
        ASSERT_OK(harness_turn(s.harness, "again"));
        hear_and_answer(&s, "initialize", ERROR("Already initialized"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        hear_and_answer(&s, "thread/start", OPENED);
        hear_and_answer(&s, "turn/start", BEGUN);
}

TEST(a_thread_that_is_lost) {
        STAGE(s, THREAD);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        hear_and_answer(&s, "initialize", AGENT("0.169.0"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        hear_and_answer(&s, "thread/resume", ERROR("no rollout found for thread id " THREAD));
        ASSERT_RECORD(&s, "lost-session: no rollout found for thread id " THREAD "\n");
        /* Its input is closed: it goes by itself. */
        ASSERT_EQ(read(s.input, (char[1]) {}, 1) < 0 ? errno : 0, EAGAIN);
}

TEST(a_thread_that_another_process_has) {
        STAGE(s, THREAD);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        hear_and_answer(&s, "initialize", AGENT("0.169.0"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        hear_and_answer(&s, "thread/resume", ERROR("thread " THREAD " already has an active writer"));
        ASSERT_RECORD(&s, "");
        run_for(&s, has_written);
        hear_and_answer(&s, "thread/resume", OPENED);
        hear_and_answer(&s, "turn/start", BEGUN);
}

/* It was thought to be loaded. */
TEST(a_thread_that_is_not_loaded) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, TURN_COMPLETED("completed"));
        strbuf_done(&s.record);
        ASSERT_OK(harness_turn(s.harness, "more"));
        hear_and_answer(&s, "turn/start", ERROR("thread not found: " THREAD));
        hear_and_answer(&s, "thread/resume", OPENED);
        hear_and_answer(&s, "turn/start", ERROR("thread not found: " THREAD));
        ASSERT_RECORD(&s, "error: thread not found: " THREAD "\n");
}

/* … and by then nobody wants it to begin. */
TEST(an_interruption_of_a_turn_that_is_refused) {
        _cleanup_json_ json_object *turn = NULL;

        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, TURN_COMPLETED("completed"));
        strbuf_done(&s.record);
        ASSERT_OK(harness_turn(s.harness, "more"));
        turn = hear(&s, "turn/start");
        ASSERT_OK(harness_interrupt(s.harness));
        answer(&s, turn, ERROR("thread not found: " THREAD));
        ASSERT_RECORD(&s, "interrupted\n");
}

#define HELLO "{\"type\":\"text\",\"text\":\"hello\",\"text_elements\":[]}"
#define IMAGE(name) "{\"type\":\"localImage\",\"path\":\"/w/" name ".png\"}"
#define OTHER "01a1fbe9-ecbb-7dd0-bc2d-1cb38c8d46ed"

static void end_turn(Stage *s) {
        stage_says(s, TURN_COMPLETED("completed"));
        ASSERT_FALSE(harness_in_turn(s->harness));
        strbuf_done(&s->record);
}

TEST(several_threads) {
        _cleanup_json_ json_object *resume = NULL, *turn = NULL, *back = NULL;

        STAGE(s, NULL);
        begin_turn(&s, false);
        ASSERT_ERROR(harness_set_conversation(s.harness, OTHER), EBUSY);
        stage_says(&s, USER_MESSAGE);
        end_turn(&s);

        /* No more than the thread is asked for. */
        ASSERT_OK(harness_set_conversation(s.harness, OTHER));
        ASSERT_OK(harness_turn(s.harness, "there"));
        resume = hear(&s, "thread/resume");
        ASSERT_STREQ(json_get_string(json_get(resume, "params"), "threadId"), OTHER);
        answer(&s, resume, "\"result\":{\"thread\":{\"id\":\"" OTHER "\"}}");
        turn = hear(&s, "turn/start");
        ASSERT_STREQ(json_get_string(json_get(turn, "params"), "threadId"), OTHER);
        answer(&s, turn, ERROR("no"));

        ASSERT_OK(free_and_strdup(&s.session, ""));
        ASSERT_OK(harness_set_conversation(s.harness, THREAD));
        ASSERT_OK(harness_turn(s.harness, "back"));
        back = hear(&s, "thread/resume");
        answer(&s, back, OPENED);
        hear_and_answer(&s, "turn/start", BEGUN);
        stage_says(&s, TURN_STARTED);
        stage_says(&s, USER_MESSAGE);
        ASSERT_STREQ(s.session, "");
        end_turn(&s);

        /* A new one has to be told by its name. */
        ASSERT_OK(harness_set_conversation(s.harness, NULL));
        ASSERT_OK(harness_turn(s.harness, "new"));
        hear_and_answer(&s, "thread/start", OPENED);
        hear_and_answer(&s, "turn/start", BEGUN);
        stage_says(&s, TURN_STARTED);
        stage_says(&s, USER_MESSAGE);
        ASSERT_STREQ(s.session, THREAD);
}

static json_object* options_of(Stage *s, const HarnessOptions *options) {
        json_object *turn, *params;

        ASSERT_OK(harness_set_options(s->harness, options));
        ASSERT_OK(harness_turn(s->harness, "hello"));
        turn = hear(s, "turn/start");
        answer(s, turn, BEGUN);
        stage_says(s, TURN_STARTED);
        end_turn(s);
        params = json_object_get(json_get(turn, "params"));
        (void) json_object_put(turn);
        return params;
}

TEST(what_goes_with_a_turn) {
        static const char *const images[] = { "/w/a.png", "/w/b.png", NULL };
        _cleanup_json_ json_object *first = NULL, *second = NULL, *third = NULL;

        STAGE(s, NULL);
        begin_turn(&s, false);
        end_turn(&s);
        first = options_of(&s, &(HarnessOptions) {
                .output_schema = "{\"type\":\"object\"}", .effort = "high", .images = (char *const*) images,
        });
        ASSERT_STREQ(json_text(first, NULL),
                     "{\"threadId\":\"" THREAD "\",\"input\":[" HELLO "," IMAGE("a") "," IMAGE("b") "],"
                     "\"effort\":\"high\",\"outputSchema\":{\"type\":\"object\"}}");
        /* An effort stays until it is told otherwise, nothing else does. */
        second = options_of(&s, &(HarnessOptions) {});
        ASSERT_STREQ(json_text(second, NULL),
                     "{\"threadId\":\"" THREAD "\",\"input\":[" HELLO "],\"effort\":\"medium\"}");
        third = options_of(&s, &(HarnessOptions) {});
        ASSERT_STREQ(json_text(third, NULL),
                     "{\"threadId\":\"" THREAD "\",\"input\":[" HELLO "]}");
}

/* ---- interruptions ---- */

TEST(an_interruption_waits_for_the_turn) {
        _cleanup_json_ json_object *turn = NULL, *interrupt = NULL;

        STAGE(s, NULL);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        make_ready(&s, false);
        turn = hear(&s, "turn/start");
        ASSERT_OK(harness_interrupt(s.harness));
        answer(&s, turn, BEGUN);
        NOTHING_IS_HEARD(&s);
        stage_says(&s, TURN_STARTED);
        interrupt = hear(&s, "turn/interrupt");
        ASSERT_STREQ(json_text(json_get(interrupt, "params"), NULL),
                     "{\"threadId\":\"" THREAD "\",\"turnId\":\"" TURN "\"}");
        answer(&s, interrupt, "\"result\":{}");
        NOTHING_IS_HEARD(&s);
        stage_says(&s, TURN_COMPLETED("interrupted"));
        ASSERT_RECORD(&s, "interrupted\n");
}

TEST(an_interruption_before_there_is_a_turn) {
        _cleanup_json_ json_object *account = NULL;

        STAGE(s, NULL);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        hear_and_answer(&s, "initialize", AGENT("0.169.0"));
        hear_and_answer(&s, "initialized", NULL);
        account = hear(&s, "account/read");
        ASSERT_OK(harness_interrupt(s.harness));
        ASSERT_FALSE(s.ended);          /* not from within */
        answer(&s, account, LOGGED_IN);
        run_for(&s, has_ended);
        ASSERT_RECORD(&s, "interrupted\n");
        ASSERT_FALSE(s.result.started);
        NOTHING_IS_HEARD(&s);

        ASSERT_OK(harness_turn(s.harness, "more"));
        hear_and_answer(&s, "initialize", ERROR("Already initialized"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        hear_and_answer(&s, "thread/start", OPENED);
        hear_and_answer(&s, "turn/start", BEGUN);
}

TEST(an_endpoint_that_is_not_reached) {
        _cleanup_(stage_end) Stage s;
        HarnessSetup setup = setup_of(NULL);

        setup.unreachable_usec = 50 * USEC_PER_MSEC;
        stage_begin(&s, &setup);
        begin_turn(&s, false);
        /* It has tried again, and got on. */
        stage_says(&s, RETRIES);
        stage_says(&s, USER_MESSAGE);
        strbuf_done(&s.record);
        for (unsigned i = 0; i < 3; i++)
                ASSERT_OK(sd_event_run(s.event, 50 * USEC_PER_MSEC));
        NOTHING_IS_HEARD(&s);

        stage_says(&s, RETRIES);
        stage_says(&s, RETRIES);
        run_for(&s, has_written);
        hear_and_answer(&s, "turn/interrupt", "\"result\":{}");
        strbuf_done(&s.record);
        stage_says(&s, TURN_COMPLETED("interrupted"));
        ASSERT_RECORD(&s, "unreachable: backend unreachable\n");
}

/* However it was told to end: what it does then has a limit, or the next text would go into this turn. */
TEST(does_not_end) {
        static const struct { bool begun, retries, by_us; } t[] = {
                { true, true, true }, { true, false, true }, { true, true, false }, { false, false, true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(stage_end) Stage s;
                HarnessSetup setup = setup_of(NULL);

                setup.unreachable_usec = 50 * USEC_PER_MSEC;
                stage_begin(&s, &setup);
                ASSERT_OK(harness_turn(s.harness, "hello"));
                make_ready(&s, false);
                hear_and_answer(&s, "turn/start", BEGUN);
                if (t[i].begun)
                        stage_says(&s, TURN_STARTED);
                if (t[i].retries)
                        stage_says(&s, RETRIES);
                if (t[i].by_us)
                        ASSERT_OK(harness_interrupt(s.harness));
                else
                        run_for(&s, has_written);
                if (t[i].begun)
                        hear_and_answer(&s, "turn/interrupt", "\"result\":{}");
                /* Neither of these is an end. */
                if (t[i].begun) {
                        stage_says(&s, RETRIES);
                        stage_says(&s, MESSAGE_STARTED);
                }
                run_for(&s, has_ended);
                ASSERT_EQ(s.result.outcome, HARNESS_PROTOCOL);
        }
}

/* ---- taking over ---- */

static void die(Stage *s) {
        s->harness = harness_free(s->harness);
        s->fail_at = -1;
        s->failed = false;
}

static const char *const whole_turn[] = {
        USER_MESSAGE, MESSAGE_STARTED, DELTA("Hel"), DELTA("lo"), MESSAGE_COMPLETED("Hello"), ASK("4"),
        USAGE(TURN, 10), TURN_COMPLETED("completed"),
};

TEST(every_place_to_die_at) {
        /* The record of the first and the second process, when the nth call of a handler is the first one's last. */
        static const char asked[] = "ask exec_command {\"command\":\"touch x\",\"cwd\":\"/w\",\"reason\":\"May I?\"}\n"
                                    "withdrawn d:4\ndone\n";
        static const struct { const char *first, *second; } t[] = {
                { "", "begin m1\ntext Hel\ntext lo\nend m1: Hello\n" },
                /* Its beginning is not heard again: all of it comes with its end. */
                { "begin m1\n", "begin m1\ntext Hello\nend m1: Hello\n" },
                { "begin m1\ntext Hel\n", "begin m1\ntext Hello\nend m1: Hello\n" },
                { "begin m1\ntext Hel\ntext lo\n", "begin m1\ntext Hello\nend m1: Hello\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *second = strjoin(t[i].second, asked);

                STAGE(s, THREAD);
                begin_turn(&s, true);
                s.n_calls = 0;
                s.fail_at = (int) i;
                for (size_t k = 0; k < ELEMENTSOF(whole_turn); k++) {
                        stage_write(&s, s.output, whole_turn[k], strlen(whole_turn[k]));
                        stage_write(&s, s.output, "\n", 1);
                }
                stage_run(&s);
                ASSERT_TRUE(s.failed);
                ASSERT_RECORD(&s, t[i].first);

                die(&s);
                stage_start(&s, &s_setup, /* adopted= */ true);
                ASSERT_OK(harness_turn_adopt(s.harness, "m1"));
                stage_run(&s);
                ASSERT_RECORD(&s, second);
                ASSERT_TRUE(s.result.started);

                /* That its thread is open was seen. */
                ASSERT_OK(harness_turn(s.harness, "more"));
                hear_and_answer(&s, "turn/start", BEGUN);
        }
}

/* Of the first turn not even the thread was known. */
TEST(a_first_turn_is_taken_over) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        stage_says(&s, USAGE(OLD_TURN, 10));
        stage_says(&s, USER_MESSAGE);
        ASSERT_STREQ(strempty(s.session), THREAD);
        stage_says(&s, MESSAGE_COMPLETED("Hello"));
        ASSERT_OK(harness_interrupt(s.harness));
        hear_and_answer(&s, "turn/interrupt", "\"result\":{}");
        stage_says(&s, TURN_COMPLETED("interrupted"));
        ASSERT_RECORD(&s, "begin m1\ntext Hello\nend m1: Hello\ninterrupted\n");
}

/* Nothing was heard of the turn yet: its name must be asked for. */
TEST(a_turn_that_was_taken_over_is_interrupted) {
        STAGE(s, THREAD);
        begin_turn(&s, true);
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        ASSERT_OK(harness_interrupt(s.harness));
        hear_and_answer(&s, "thread/turns/list",
                        "\"result\":{\"data\":[{\"id\":\"" TURN "\",\"status\":\"inProgress\"}]}");
        hear_and_answer(&s, "turn/interrupt", "\"result\":{}");
        stage_says(&s, TURN_COMPLETED("interrupted"));
        ASSERT_RECORD(&s, "interrupted\n");
}

/* What the earlier process asked for was refused, and nobody else hears it. */
TEST(a_turn_that_was_refused_is_taken_over) {
        _cleanup_json_ json_object *turn = NULL;

        STAGE(s, THREAD);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        make_ready(&s, true);
        turn = hear(&s, "turn/start");
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        answer(&s, turn, ERROR("no such model"));
        ASSERT_RECORD(&s, "error: no such model\n");
}

/* An idle one may be at anything: what it was asked before is asked again, by other ids. */
TEST(an_idle_one_is_taken_over) {
        _cleanup_json_ json_object *first = NULL, *second = NULL;

        STAGE(s, THREAD);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        first = hear(&s, "initialize");
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn(s.harness, "again"));
        stage_run(&s);
        second = hear(&s, "initialize");
        ASSERT_FALSE(streq(json_get_string(first, "id"), json_get_string(second, "id")));
        answer(&s, first, AGENT("0.98.0"));     /* nobody's any more */
        ASSERT_RECORD(&s, "");
        answer(&s, second, ERROR("Already initialized"));
        hear_and_answer(&s, "initialized", NULL);
        hear_and_answer(&s, "account/read", LOGGED_IN);
        hear_and_answer(&s, "thread/resume", OPENED);
        hear_and_answer(&s, "turn/start", BEGUN);
}

TEST(an_ask_of_an_earlier_process) {
        _cleanup_free_ char *reply = NULL;

        STAGE(s, THREAD);
        begin_turn(&s, true);
        stage_says(&s, ASK("4"));
        die(&s);
        strbuf_done(&s.record);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        ASSERT_ERROR(harness_answer(s.harness, "x:4", true, NULL, NULL), EINVAL);
        ASSERT_ERROR(harness_answer(s.harness, "d:", true, NULL, NULL), EINVAL);
        ASSERT_OK(harness_answer(s.harness, "d:4", true, "{}", NULL));
        reply = stage_hears(&s);
        ASSERT_STREQ(strempty(reply), "{\"id\":4,\"result\":{\"decision\":\"accept\"}}");
}

/* ---- ends ---- */

TEST(it_ends_amid_a_turn) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, USER_MESSAGE);
        stage_says(&s, MESSAGE_STARTED);
        stage_says(&s, DELTA("Hel"));
        stage_exits(&s);
        ASSERT_RECORD(&s, "begin m1\ntext Hel\ncancel m1\ngone\n");
        ASSERT_TRUE(s.result.started);
        ASSERT_TRUE(s.exited);
}

/* What it says of an account's token that is not taken any more, with its backend and without a network. */
TEST(a_login_that_is_refused) {
        static const char *const messages[] = {
                "Your access token could not be refreshed because your refresh token was revoked. Please log out and "
                "sign in again.",
                "error sending request for url (https://auth.openai.com/oauth/token)",
        };

        for (size_t i = 0; i < ELEMENTSOF(messages); i++) {
                _cleanup_free_ char *line =
                        strjoin(NOTE_BEGIN("turn/completed") "\"turn\":{\"id\":\"" TURN "\",\"status\":\"failed\","
                                "\"error\":{\"codexErrorInfo\":\"other\",\"message\":\"", messages[i], "\"}}}}");
                STAGE(s, NULL);

                begin_turn(&s, false);
                stage_says(&s, line);
                ASSERT_TRUE(s.ended);
                ASSERT_EQ(s.result.outcome, HARNESS_AUTH);
        }
}

TEST(its_configuration_is_wrong) {
        STAGE(s, NULL);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        hear_and_answer(&s, "initialize", NULL);
        stage_complains(&s, "Error loading config.toml: unknown variant `sometimes`");
        strbuf_done(&s.record);
        stage_exits(&s);
        ASSERT_RECORD(&s, "unfit: Error loading config.toml: unknown variant `sometimes`\n");
}

TEST(a_steered_message_does_not_stay_open) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, MESSAGE_STARTED);
        stage_says(&s, DELTA("Hel"));
        stage_says(&s, ITEM("started", "\"type\":\"agentMessage\",\"id\":\"m2\",\"text\":\"\""));
        stage_says(&s, DELTA("lo"));    /* of the former */
        stage_says(&s, ITEM("completed", "\"type\":\"agentMessage\",\"id\":\"m2\",\"text\":\"Other\""));
        stage_says(&s, TURN_COMPLETED("completed"));
        ASSERT_RECORD(&s, "begin m1\ntext Hel\ncancel m1\nbegin m2\nend m2: Other\ndone\n");
}

TEST(tools) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, ITEM("started", "\"type\":\"commandExecution\",\"id\":\"c1\",\"command\":\"ls\","
                                       "\"cwd\":\"/w\""));
        stage_says(&s, ITEM("completed", "\"type\":\"commandExecution\",\"id\":\"c1\",\"command\":\"ls\",\"status\":"
                                         "\"failed\",\"aggregatedOutput\":\"no\""));
        /* In one piece. */
        stage_says(&s, ITEM("completed", "\"type\":\"mcpToolCall\",\"id\":\"c2\",\"server\":\"puffo\",\"tool\":\"t\","
                                         "\"arguments\":{\"a\":1},\"status\":\"completed\",\"result\":{\"content\":["
                                         "{\"type\":\"text\",\"text\":\"ok\"}]}"));
        stage_says(&s, ITEM("completed", "\"type\":\"fileChange\",\"id\":\"c3\",\"changes\":[],"
                                         "\"status\":\"declined\""));
        stage_says(&s, TURN_COMPLETED("completed"));
        ASSERT_RECORD(&s, "tool started exec_command: {\"command\":\"ls\",\"cwd\":\"/w\"}\n"
                          "tool ended exec_command with an error: no\n"
                          "tool started mcp__puffo__t: {\"a\":1}\n"
                          "tool ended mcp__puffo__t: ok\n"
                          "tool started apply_patch: {\"changes\":[]}\n"
                          "tool ended apply_patch with an error: \n"
                          "done\n");
        ASSERT_EQ(s.result.n_denied, 1);
}

/* A warning that comes with each turn is said once. */
TEST(warnings) {
        STAGE(s, NULL);
        begin_turn(&s, false);
        stage_says(&s, NOTE("warning", "\"message\":\"Model metadata not found.\""));
        stage_says(&s, NOTE("warning", "\"message\":\"Model metadata not found.\""));
        stage_says(&s, "{\"method\":\"mcpServer/startupStatus/updated\",\"params\":{\"name\":\"puffo\",\"status\":"
                       "\"failed\",\"error\":\"no such file\"}}");
        stage_complains(&s, "\x1b[2mnow\x1b[0m \x1b[31;1mERROR\x1b[0m it is so\x1b");
        stage_complains(&s, "plain");
        ASSERT_RECORD(&s, "warning Model metadata not found.\n"
                          "warning MCP server 'puffo' could not be started: no such file\n"
                          "warning now ERROR it is so\nwarning plain\n");
}

TEST_MAIN();
