/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-adopt"

#include <sys/wait.h>

#include "harness-fixture.h"

/* One process reads what a program says and dies, the next one reads on. */

#define SESSION "\"session_id\":\"5c2e8f5e-0000-4000-8000-000000000001\""
#define DELTA(text) \
        "{\"type\":\"stream_event\",\"parent_tool_use_id\":null,\"api_message_id\":\"m1\",\"event\":{\"type\":" \
        "\"content_block_delta\",\"index\":2,\"delta\":{\"type\":\"text_delta\",\"text\":\"" text "\"}}}\n"
#define TEXT(uuid, text) \
        "{\"type\":\"assistant\",\"parent_tool_use_id\":null,\"uuid\":\"" uuid "\"," \
        "\"message\":{\"id\":\"m1\",\"content\":[{\"type\":\"text\",\"text\":\"" text "\"}]}}\n"
#define RESULT(result) \
        "{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"uuid\":\"r\"," SESSION "," \
        "\"result\":\"" result "\",\"total_cost_usd\":1.5}\n"
#define ASK(id) \
        "{\"type\":\"control_request\",\"request_id\":\"" id "\"," \
        "\"request\":{\"subtype\":\"can_use_tool\",\"tool_name\":\"Bash\",\"input\":{\"command\":\"ls\"}}}\n"

static const char whole_turn[] = DELTA("Hel") DELTA("lo") TEXT("u1", "Hello") ASK("a1") RESULT("Hello");

static void write_all(Stage *s, const char *text) {
        stage_write(s, s->output, text, strlen(text));
}

static HarnessSetup setup_resumed(void) {
        HarnessSetup setup = stage_setup(HARNESS_CLAUDE);

        setup.session_id = "5c2e8f5e-0000-4000-8000-000000000001";
        return setup;
}

#define STAGE(s) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = setup_resumed(); \
        stage_begin(&s, &s##_setup)

/* The harness is gone as if it were killed: what it had taken is recorded. */
static void die(Stage *s) {
        s->harness = harness_free(s->harness);
        s->fail_at = -1;
        s->failed = false;
}

TEST(every_place_to_die_at) {
        /* The record of the first and the second process, when the nth call of a handler is the first one's last. */
        static const struct { const char *first, *last_message, *second; } t[] = {
                { "", NULL, "begin m1/2\ntext Hel\ntext lo\nend m1/2: Hello\nask Bash {\"command\":\"ls\"}\nwithdrawn "
                  "a1\ndone\n" },
                { "begin m1/2\n", "m1/2",
                  "begin m1/2\ntext Hel\ntext lo\nend m1/2: Hello\nask Bash {\"command\":\"ls\"}\nwithdrawn a1\n"
                  "done\n" },
                { "begin m1/2\ntext Hel\n", "m1/2",
                  "begin m1/2\ntext lo\nend m1/2: Hello\nask Bash {\"command\":\"ls\"}\nwithdrawn a1\ndone\n" },
                /* No delta comes any more: only the earlier process knows the name of the message. */
                { "begin m1/2\ntext Hel\ntext lo\n", "m1/2",
                  "begin m1/2\ntext Hello\nend m1/2: Hello\nask Bash {\"command\":\"ls\"}\nwithdrawn a1\ndone\n" },
                { "begin m1/2\ntext Hel\ntext lo\nend m1/2: Hello\nask Bash {\"command\":\"ls\"}\nwithdrawn a1\n",
                  "m1/2",
                  "done\n" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                STAGE(s);
                ASSERT_OK(harness_turn(s.harness, "hello"));
                s.fail_at = (int) i;
                write_all(&s, whole_turn);
                stage_run(&s);
                ASSERT_TRUE(s.failed);
                ASSERT_RECORD(&s, t[i].first);

                die(&s);
                stage_start(&s, &s_setup, /* adopted= */ true);
                ASSERT_OK(harness_turn_adopt(s.harness, t[i].last_message));
                stage_run(&s);
                ASSERT_RECORD(&s, t[i].second);
                ASSERT_TRUE(s.result.started);
                ASSERT_FALSE(s.result.cost_known);
        }
}

/* It had been handled, but not taken out: the same id, the same text. */
TEST(a_message_that_is_seen_again) {
        STAGE(s);
        write_all(&s, TEXT("u1", "Hello") RESULT("Hello"));
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, "m1/2"));
        stage_run(&s);
        ASSERT_RECORD(&s, "begin m1/2\ntext Hello\nend m1/2: Hello\ndone\n");
}

/* The text of the result is that of a message which the earlier process has seen. */
TEST(a_result_that_repeats_a_message) {
        STAGE(s);
        write_all(&s, RESULT("Hello"));
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, "m1/2"));
        stage_run(&s);
        ASSERT_RECORD(&s, "done\n");
}

TEST(an_ask_of_an_earlier_process) {
        _cleanup_json_ json_object *line = NULL;

        STAGE(s);
        ASSERT_OK(harness_turn(s.harness, "hello"));
        free(stage_hears(&s));
        write_all(&s, ASK("a1"));
        stage_run(&s);
        die(&s);
        strbuf_done(&s.record);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, NULL));
        stage_run(&s);
        ASSERT_RECORD(&s, "");

        ASSERT_ERROR(harness_answer(s.harness, "a1", true, NULL, NULL), EINVAL);
        ASSERT_OK(harness_answer(s.harness, "a1", true, "{\"command\":\"ls\"}", NULL));
        line = stage_hears_json(&s);
        ASSERT_STREQ(json_text(json_get(line, "response"), NULL), "{\"subtype\":\"success\",\"request_id\":\"a1\",\""
                                              "response\":{"
                     "\"behavior\":\"allow\",\"updatedInput\":{\"command\":\"ls\"}}}");

        write_all(&s, "{\"type\":\"control_cancel_request\",\"request_id\":\"a0\"}\n");
        stage_run(&s);
        ASSERT_RECORD(&s, "withdrawn a0\n");
}

/* The end of the last turn was noted, but is still in the pipe: it does not end the next one. */
TEST(an_old_result_ends_no_new_turn) {
        _cleanup_free_ char *line = NULL;

        STAGE(s);
        write_all(&s, TEXT("u1", "Hello") RESULT("Hello"));
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn(s.harness, "next"));
        ASSERT_TRUE(harness_in_turn(s.harness));
        ASSERT_ERROR(harness_turn(s.harness, "next"), EBUSY);
        /* It is told of the turn only when what is old has been read. */
        ASSERT_TRUE(read(s.input, (char[1]) {}, 1) < 0);
        line = stage_hears(&s);
        ASSERT_NOT_NULL(line);
        ASSERT_NOT_NULL(strstr(line, "next"));
        ASSERT_RECORD(&s, "");
        ASSERT_TRUE(harness_in_turn(s.harness));
        write_all(&s, TEXT("u2", "Next") RESULT("Next"));
        stage_run(&s);
        ASSERT_RECORD(&s, "begin u2\ntext Next\nend u2: Next\ndone\n");
        /* What came before has told what the turns before have cost. */
        ASSERT_TRUE(s.result.cost_known);
        ASSERT_EQ(s.result.cost_micros, 0);
}

TEST(a_turn_that_has_not_begun_is_interrupted) {
        STAGE(s);
        die(&s);
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn(s.harness, "next"));
        ASSERT_OK(harness_interrupt(s.harness));
        ASSERT_RECORD(&s, "");
        ASSERT_NULL(stage_hears(&s));
        ASSERT_RECORD(&s, "interrupted\n");
        ASSERT_FALSE(s.result.started);
        /* Nothing is left of that. */
        ASSERT_OK(harness_turn(s.harness, "next"));
        stage_run(&s);
        ASSERT_RECORD(&s, "");
        ASSERT_TRUE(harness_in_turn(s.harness));
}

TEST(a_program_that_has_ended_meanwhile) {
        {
                STAGE(s);
                die(&s);
                write_all(&s, TEXT("u1", "Hello"));
                stage_exits(&s);
                stage_start(&s, &s_setup, /* adopted= */ true);
                ASSERT_OK(harness_turn_adopt(s.harness, NULL));
                stage_run(&s);
                ASSERT_RECORD(&s, "begin u1\ntext Hello\nend u1: Hello\ngone\n");
                ASSERT_TRUE(s.result.started);
        }
        {
                STAGE(s);
                die(&s);
                stage_exits(&s);
                stage_start(&s, &s_setup, /* adopted= */ true);
                ASSERT_OK(harness_turn(s.harness, "next"));
                stage_run(&s);
                ASSERT_RECORD(&s, "gone\n");
                ASSERT_FALSE(s.result.started);
                ASSERT_TRUE(s.exited);
        }
}

/* The end of a line whose beginning was with the earlier process, because it was too long for the pipe. */
TEST(the_rest_of_a_line) {
        STAGE(s);
        die(&s);
        write_all(&s, "xt that is cut\"}]}}\n" RESULT("x"));
        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, "m1/0"));
        stage_run(&s);
        ASSERT_TRUE(endswith(s.record.text, "done\n"));
        ASSERT_EQ(s.n_warnings, 1);
}

static int kill_at_end(Harness *h, const char *id, const char *text, void *userdata) {
        (void) raise(SIGKILL);
        return 0;
}

/* A process that is really killed, in a handler. */
TEST(killed) {
        int status;
        pid_t pid;

        STAGE(s);
        die(&s);
        write_all(&s, whole_turn);
        pid = fork();
        ASSERT_TRUE(pid >= 0);
        if (pid == 0) {
                HarnessHandler handler = stage_handler(&s);

                handler.on_message_end = kill_at_end;
                s.event = NULL;
                if (sd_event_new(&s.event) < 0 ||
                    harness_new(&s.harness, s.event, &s_setup, s.take, false, &handler) < 0 ||
                    harness_turn(s.harness, "hello") < 0)
                        _exit(1);
                stage_run(&s);
                _exit(2);
        }
        ASSERT_EQ(waitpid(pid, &status, 0), pid);
        ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

        stage_start(&s, &s_setup, /* adopted= */ true);
        ASSERT_OK(harness_turn_adopt(s.harness, "m1/2"));
        stage_run(&s);
        ASSERT_RECORD(&s, "begin m1/2\ntext Hello\nend m1/2: Hello\nask Bash {\"command\":\"ls\"}\nwithdrawn a1\n"
                          "done\n");
}

TEST_MAIN();
