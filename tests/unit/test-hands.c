/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands"

#include "hands-cause.h"
#include "hands-internal.h"
#include "hands-world.h"

TEST(two_turns_of_one_process) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        answer(f, "t1", "Hello", "completed You said: Hello");
        answer(f, "t2", "[[reply: One]] [[reply: Two]]", "completed One Two");
        assert_log("start|text Hello|text [[reply: One]] [[reply: Two]]");
        ASSERT_EQ(world.n_starts, 1);
        ASSERT_EQ(world.n_settled, 1);
        ASSERT_STREQ(world.description, "Claude Code of AI agent alice");
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);
        ASSERT_EQ(turn_store_get(f->db, "t2", &row), 1);
        ASSERT_EQ(row->usage.input_tokens, 15);
        ASSERT_EQ(row->usage.cached_tokens, 3);
        ASSERT_EQ(row->usage.output_tokens, 5);
}

/* agent-home §5.10: a letter each for the events, and what is said in full. */
static char* audit_log(void) {
        _cleanup_free_ char *path = path_join(world.directory, "workspace/.puffo-agent/audit.log"), *log = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        char *state;

        ASSERT_OK(file_read(path, MIB(1), &log, NULL));
        for (char *line = strtok_r(log, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
                _cleanup_json_ json_object *o = NULL;
                const char *text;

                ASSERT_OK(json_parse(line, strlen(line), &o));
                ASSERT_STREQ(json_get_string(o, "agent"), "alice");
                text = json_get_string(o, "content") ?: json_get_string(o, "text") ?: json_get_string(o, "name");
                ASSERT_OK(strbuf_printf(&b, "%s%s%s%s", b.size > 0 ? "|" : "", json_get_string(o, "event"),
                                        text ? " " : "", strempty(text)));
                if (json_get(o, "reply_len"))
                        ASSERT_OK(strbuf_printf(&b, " %" PRIi64 " %" PRIi64, json_get_int(o, "reply_len", -1),
                                                json_get_int(o, "tool_calls", -1)));
        }
        return strbuf_take(&b);
}

TEST(audit) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "t1", "[[tool: Bash]] [[reply: Döne]]", "completed Döne");
        answer(f, "t2", "[[auth]]", "failed/auth");
        log = audit_log();
        ASSERT_STREQ(log, "session.start|turn.input [[tool: Bash]] [[reply: Döne]]|tool Bash|assistant.text Döne|"
                          "turn.end 4 1|turn.input [[auth]]|auth_error.detected|turn.end 0 0");
}

/* The end of its process is known before its last words are read. */
TEST(says_farewell) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        (void) close(submit(f, "t1", "[[bye]]"));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_STREQ(turn_status_to_string(row->status), "completed");
        ASSERT_EQ(row->n_items, 25);
        ASSERT_EQ(world.n_starts, 1);
}

TEST(the_cli_dies) {
        _fixture_ Fixture *f = fixture_new("");

        _cleanup_free_ char *log = NULL;

        /* It had taken the text in: that is in the conversation which the second one goes on with. */
        (void) close(submit(f, "t1", "[[die: 3]]"));
        run_until(f, is_idle);
        log = cli_log();
        ASSERT_NOT_NULL(strstr(log, "start|text [[die: 3]]|start+|text [puffo-agent system message] you were"));
        ASSERT_EQ(world.n_starts, 2);
}

TEST(the_cli_dies_behind_a_tool) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        (void) close(submit(f, "t1", "[[tool: Bash]] [[wait]]"));
        run_until(f, is_talking);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_STREQ(row->error_kind, "harness-gone");
        ASSERT_STREQ(row->error_message, "The agent's CLI was ended by signal KILL.");
        ASSERT_EQ(world.n_starts, 1);
}

TEST(the_cli_is_out_of_memory) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        world.oom = "oom-kill";
        (void) close(submit(f, "t1", "[[tool: Bash]] [[wait]]"));
        run_until(f, is_talking);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_STREQ(row->error_message,
                     "The agent's CLI was ended because it had reached its memory limit of 64 MiB.");
}

/* What puffo-sandbox says by its exit status. */
TEST(ends_of_the_sandbox) {
        static const struct { int status; const char *told; } t[] = {
                { 78, "this machine cannot give it the sandbox" }, { 79, "may only read was replaced while it ran" },
                { 80, "exit status 80" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                const CliEnd end = { .result = "exit-code", .code = CLD_EXITED, .status = t[i].status };
                _cleanup_free_ char *told = hands_cause_describe(&end);

                ASSERT_NOT_NULL(strstr(told, t[i].told));
        }
}

TEST(interrupted) {
        _fixture_ Fixture *f = fixture_new("");

        (void) close(submit(f, "t1", "[[hang]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        assert_turn(f, "t1", "cancelledinterrupted Half an ~");
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 1);
        ASSERT_EQ(world.n_stops, 0);
}

/* What says no more than that the CLI is there does not keep a turn alive. */
TEST(noise_is_no_progress) {
        _fixture_ Fixture *f = fixture_new("  task_timeout_seconds: 1\n");
        _cleanup_(turn_row_freep) TurnRow *row = NULL;

        (void) close(submit(f, "t1", "[[noise]]"));
        run_until(f, is_idle);
        ASSERT_EQ(turn_store_get(f->db, "t1", &row), 1);
        ASSERT_EQ(row->status, TURN_INCOMPLETE);
        ASSERT_STREQ(row->reason, "deadline");
}

/* It cannot be forgotten: the next process would be given it again, and so on. */
TEST(a_lost_conversation_that_cannot_be_forgotten) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *sessions = path_join(world.directory, "sessions");

        answer_in(f, "a1", "a", NULL, "One", "completed You said: One");
        answer(f, "m1", "Main", "completed You said: Main");
        ASSERT_OK(directory_remove(sessions));
        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER full BEFORE DELETE ON session_values BEGIN "
                                       "SELECT RAISE(ABORT, 'full'); END"));
        answer_in(f, "a2", "a", NULL, "Two", "failed/internal");
        ASSERT_EQ(world.n_starts, 3);
        ASSERT_OK(database_exec(f->db, "DROP TRIGGER full"));
        answer_in(f, "a3", "a", NULL, "[[reply: Three]]", "completed Three");
}

TEST(does_not_know_its_conversation) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *sessions = path_join(world.directory, "sessions");

        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_OK(directory_remove(sessions));
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, has_died);
        answer(f, "t2", "Again", "completed You said: Again");
        assert_log("start|text Hello|start+|start|text Again");
}

/* Each has a conversation of the CLI's own, which goes on when its turn comes. */
TEST(conversations) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "m1", "Main", "completed You said: Main");
        answer_in(f, "a1", "a", NULL, "One", "completed You said: One");
        answer_in(f, "b1", "b", NULL, "Two", "completed You said: Two");
        answer_in(f, "a2", "a", NULL, "Three", "completed You said: Three");
        answer_in(f, "a3", NULL, "a2", "Four", "completed You said: Four");
        answer(f, "m2", "Five", "completed You said: Five");
        assert_log("start|text Main|end|start|text One|end|start|text Two|end|start+|text Three|text Four|end|start+|"
                   "text Five");

        /* Gone on from an earlier turn: a new one, which is told what was said up to there, and no more. */
        answer_in(f, "f1", NULL, "a1", "[[reply: Six]]", "completed Six");
        log = file_text("log");
        ASSERT_NOT_NULL(strstr(log, "<prior_turns>\\n\\n[user]\\nOne\\n\\n[assistant]\\nYou said: One\\n\\n"
                                    "</prior_turns>\\n\\n[[reply: Six]]"));
        answer_in(f, "f2", NULL, "f1", "Seven", "completed You said: Seven");
        answer_in(f, "b2", "b", NULL, "Eight", "completed You said: Eight");
        log = mfree(log);
        log = cli_log();
        ASSERT_TRUE(endswith(log, "|text Seven|end|start+|text Eight"));
}

TEST(limits_and_logins) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *log = NULL;

        answer(f, "t1", "[[limit: 1]]", "completed You said: [puffo-agent system message] the last turn was interrupted "
                                        "by a limit of the model provider; continue with it now.");
        answer(f, "t2", "[[auth]]", "failed/auth");
        ASSERT_EQ(f->health, CHAT_HEALTH_AUTH_FAILED);
        answer(f, "t3", "Hello", "completed You said: Hello");
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);
}

static bool is_waiting(Fixture *f) {
        return f->waiting && startswith(f->waiting, "waiting for the model provider");
}

static bool has_started_again(Fixture *f) {
        return world.n_starts == 2;
}

/* Hermes reads it nowhere: it stands in front of the first text, and of the next one when it has changed. */
TEST(told_who_it_is) {
        static const struct { const char *profile; bool told; } turns[] = {
                { "You are A.", true }, { "You are A.", false }, { "You are B.", true }, { "You are B.", false },
        };
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *profile = path_join(world.directory, "profile.md"), *path = path_join(world.directory, "log");

        configure_as(HERMES);
        for (size_t i = 0; i < ELEMENTSOF(turns); i++) {
                _cleanup_free_ char *id = asprintf_new("t%zu", i), *log = NULL;

                (void) unlink(path);
                ASSERT_OK(file_write_atomic(profile, turns[i].profile, strlen(turns[i].profile), 0600));
                answer(f, id, "[[reply: Yes]]", "completed Yes");
                log = file_text("log");
                ASSERT_EQ(strstr(strstr(log, "\"text\""), turns[i].profile) != NULL, turns[i].told);
        }
}

/* Nothing is done in a mode that its CLI does not have. */
TEST(modes_that_cannot_be_kept) {
        static const char *const files[] = { HERMES "  permission_mode: default\n", GEMINI "  permission_mode: auto\n",
                                             HERMES "  permission_mode: plan\n" };
        _fixture_ Fixture *f = fixture_new("");

        for (size_t i = 0; i < ELEMENTSOF(files); i++) {
                _cleanup_free_ char *id = asprintf_new("t%zu", i);

                configure_as(files[i]);
                answer(f, id, "Hello", "failed/not-ready");
        }
        ASSERT_EQ(world.n_starts, 0);
        configure_as(HERMES);
        answer(f, "then", "Hello", "completed You said: Hello");
}

/* It is not started for ever, and who waits learns why. */
TEST(ends_before_it_is_told_anything) {
        _fixture_ Fixture *f = fixture_new("");

        world.stillborn = 78;
        answer(f, "t1", "Hello", "failed/harness-gone");
        ASSERT_EQ(world.n_starts, 2);
        world.stillborn = 0;
        answer(f, "t2", "Hello", "failed/harness-gone");
        ASSERT_EQ(world.n_starts, 4);
        world.stillborn = -1;
        answer(f, "t3", "Hello", "completed You said: Hello");
}

/* What happens meanwhile is no reason to ask the provider sooner. */
TEST(a_pause_is_a_pause) {
        _fixture_ Fixture *f = fixture_new("");
        uint64_t begin;

        fixture_crash(f);
        world.retry_usec = 2 * USEC_PER_SEC;
        fixture_open(f);
        begin = now_boottime_usec();
        (void) close(submit(f, "t1", "[[limit: 1]]"));
        run_until(f, is_waiting);
        ASSERT_OK(kill(world.pid, SIGKILL));
        run_until(f, has_died);
        hands_connected(f->hands);
        run_until(f, has_started_again);
        ASSERT_TRUE(now_boottime_usec() - begin >= world.retry_usec);
        run_until(f, is_idle);
        ASSERT_EQ(world.n_starts, 2);
}

static size_t count(const char *text, const char *what) {
        size_t n = 0;

        for (const char *p = text; (p = strstr(p, what)); p += strlen(what))
                n++;
        return n;
}

/* Somebody may be renewing it at this moment (agent-runtime §8.7). */
TEST(a_login_that_is_refused) {
        static const char login[] = "{\"claudeAiOauth\":{\"accessToken\":\"a\",\"refreshToken\":\"r\"}}";
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *directory = path_join(world.directory, ".claude"),
                            *path = path_join(directory, ".credentials.json"),
                            *out = path_join(world.directory, "logged-out"), *log = NULL;

        ASSERT_OK(directory_make(directory, 0700));
        ASSERT_OK(file_write_atomic(path, login, strlen(login), 0600));
        answer(f, "t1", "[[auth]]", "completed You said: [puffo-agent system message] the last turn was interrupted "
                                    "because the model provider did not accept the login; continue with it now.");
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);

        ASSERT_OK(file_write_atomic(out, "", 0, 0600));
        answer(f, "t2", "Hello", "failed/auth");
        ASSERT_EQ(f->health, CHAT_HEALTH_AUTH_FAILED);
        log = file_text("log");
        ASSERT_EQ(count(log, "did not accept the login"), 1U + 4);
        log = mfree(log);
        log = file_text("workspace/.puffo-agent/audit.log");
        ASSERT_EQ(count(log, "auth_error.detected"), 1U + 5);
        ASSERT_EQ(count(log, "auth_error.exhausted_retries"), 1);

        /* One that is gone meanwhile is not waited for. */
        ASSERT_OK(unlink(path));
        answer(f, "t3", "Hello", "failed/auth");
        ASSERT_OK(unlink(out));
        answer(f, "t4", "Hello", "completed You said: Hello");
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);
}

TEST(cannot_be_started) {
        _fixture_ Fixture *f = fixture_new("");

        world.n_failures = 1;
        world.start_error = -EACCES;
        answer(f, "t1", "Hello", "failed/not-ready");
        ASSERT_EQ(world.n_stops, 1);
        answer(f, "t2", "Hello", "completed You said: Hello");
}

TEST(is_not_installed) {
        _fixture_ Fixture *f = fixture_new("");

        ASSERT_OK(setenv("PUFFO_CLAUDE_BIN", "/nonexistent/claude", 1));
        ASSERT_OK(setenv("PATH", "/nonexistent", 1));
        answer(f, "t1", "Hello", "failed/not-ready");
        ASSERT_OK(setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1));
}

TEST(a_new_configuration) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "Hello", "completed You said: Hello");
        configure("  model: another\n");
        answer(f, "t2", "Again", "completed You said: Again");
        assert_log("start|text Hello|end|start+|text Again");
        ASSERT_EQ(world.n_stops, 0);
}

TEST(sleeps) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0.05\n  stop_after_seconds: 0.6\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        run_until(f, is_frozen);
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_thaws, 1);
        ASSERT_EQ(world.n_starts, 1);
        run_until(f, has_died);
        ASSERT_EQ(world.n_stops, 1);
        answer(f, "t3", "Third", "completed You said: Third");
        ASSERT_EQ(world.n_starts, 2);
}

static bool nothing_runs(Fixture *f) {
        return cli_process_state(f->hands->process) == CLI_NONE && !f->hands->driver;
}

/* Of a CLI that runs what it was started with is known, but for the launch, which holds its token; of one that has ended
 * nothing is kept. */
TEST(holds_nothing_of_what_has_ended) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0\n  stop_after_seconds: 600\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_NOT_NULL(f->hands->launch.program);
        ASSERT_NULL(f->hands->launch.launch);
        configure("  freeze_after_seconds: 0\n  stop_after_seconds: 0.05\n");
        reload(f);
        run_until(f, nothing_runs);
        ASSERT_NULL(f->hands->launch.program);
        ASSERT_NULL(f->hands->launch.system);
        ASSERT_NULL(f->hands->launch.token);
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_starts, 2);
}

/* One that cannot be woken is ended, at once and after one try (puffod makes more of one), and there is another. */
TEST(does_not_wake) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0.05\n  stop_after_seconds: 600\n");

        answer(f, "t1", "Hello", "completed You said: Hello");
        run_until(f, is_frozen);
        world.no_thawing = true;
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_thaws, 1);
        ASSERT_EQ(world.n_stops, 1);
        ASSERT_EQ(world.n_starts, 2);
        assert_log("start|text Hello|start+|text Again");
}

/* What has been streamed cannot be taken back; of what is said instead no character is cut in two. */
TEST(says_something_else_than_it_has_streamed) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "[[other]]", "completed a!");
}

/* What comes while it is on its way out is for the next one. */
TEST(asked_while_it_goes) {
        _fixture_ Fixture *f = fixture_new("  freeze_after_seconds: 0\n  stop_after_seconds: 0.05\n");

        answer(f, "t1", "Hello [[linger]]", "completed You said: Hello [[linger]]");
        while (sd_event_run(f->event, 300 * USEC_PER_MSEC) > 0)
                ;
        answer(f, "t2", "Again", "completed You said: Again");
        ASSERT_EQ(world.n_starts, 2);
}

/* Its question and the end of its turn have crossed. */
TEST(asks_when_its_turn_is_over) {
        _fixture_ Fixture *f = fixture_new("  permission_mode: default\n");

        (void) close(submit(f, "t1", "[[hang]] [[late]]"));
        run_until(f, is_talking);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        answer(f, "t2", "Next", "completed You said: Next");
        ASSERT_EQ(world.n_starts, 1);
}

/* What it is told while it has nothing to do counts at once. */
TEST(sleeps_by_a_new_rule) {
        _fixture_ Fixture *f = fixture_new("");

        answer(f, "t1", "Hello", "completed You said: Hello");
        configure("  freeze_after_seconds: 0\n  stop_after_seconds: 0.05\n");
        reload(f);
        run_until(f, has_died);
        assert_log("start|text Hello|end");
}

TEST(leave_is_refused_when_nobody_can_be_asked) {
        _fixture_ Fixture *f = fixture_new("  permission_mode: default\n");

        answer(f, "t1", "[[ask: Bash]]", "completed I was told: deny");
}

/* What its user has set for programs that go out to the network is for the CLI too, and nothing else is. */
TEST(proxies_and_certificates) {
        static const char *const lines[] = {
                "\"HTTPS_PROXY\": \"http://proxy.example:3128\"", "\"NODE_EXTRA_CA_CERTS\": \"/etc/ca.pem\"",
                "\"SSL_CERT_FILE\": \"/etc/ca.pem\"", "\"NO_PROXY\": \".example,127.0.0.1,localhost\"",
        };
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *path = path_join(world.directory, "log"), *log = NULL;

        ASSERT_OK(setenv("HTTPS_PROXY", "http://proxy.example:3128", 1) | setenv("NO_PROXY", ".example", 1) |
                  setenv("NODE_EXTRA_CA_CERTS", "/etc/ca.pem", 1) | setenv("SSL_CERT_FILE", "/etc/ca.pem", 1) |
                  setenv("MY_SECRET", "xyzzy", 1));
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_OK(unsetenv("HTTPS_PROXY") | unsetenv("NO_PROXY") | unsetenv("NODE_EXTRA_CA_CERTS") |
                  unsetenv("SSL_CERT_FILE") | unsetenv("MY_SECRET"));
        ASSERT_OK(file_read(path, MIB(1), &log, NULL));
        for (size_t i = 0; i < ELEMENTSOF(lines); i++)
                ASSERT_NOT_NULL(strstr(log, lines[i]));
        ASSERT_NULL(strstr(log, "xyzzy"));
}

/* It is told a turn by its command line, and would answer the next one with that. */
TEST(cancelled_while_it_starts) {
        _fixture_ Fixture *f = fixture_new("");

        configure_as(HERMES);
        (void) close(submit(f, "t1", "[[reply: Wrong]]"));
        while (world.n_starts == 0)
                ASSERT_TRUE(ASSERT_OK(sd_event_run(f->event, 10 * USEC_PER_SEC)) > 0);
        ASSERT_EQ(turn_queue_interrupt(f->queue, ""), 1);
        answer(f, "t2", "Right", "completed You said: Right");
}

TEST_MAIN();
