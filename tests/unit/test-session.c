/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "session"

#include "session-world.h"

TEST(echo_over_the_bus) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        const char *id, *role, *text, *turn;
        sd_bus_message *m;
        uint64_t at;
        int more;

        ASSERT_STREQ(f->status, "ready");
        assert_stream(f, submit(f, "one", "hello there"),
                      "queued started message_done=hello there/completed completed");

        m = message_new(f, "ListMessages");
        ASSERT_OK(sd_bus_message_append(m, "ssu", "", "", 10));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_enter_container(f->reply, 'a', "(sssts)"));
        ASSERT_EQ(sd_bus_message_read(f->reply, "(sssts)", &id, &role, &text, &at, &turn), 1);
        ASSERT_STREQ(role, "user");
        ASSERT_STREQ(turn, "one");
        ASSERT_EQ(sd_bus_message_read(f->reply, "(sssts)", &id, &role, &text, &at, &turn), 1);
        ASSERT_STREQ(role, "assistant");
        ASSERT_STREQ(text, "hello there");
        ASSERT_OK(sd_bus_message_exit_container(f->reply));
        ASSERT_OK(sd_bus_message_read(f->reply, "b", &more));
        ASSERT_FALSE(more);
        /* echo proves nothing about a key */
        WAIT(f, streq(f->status, "ready") && streq(f->health, "unknown"));
}

TEST(get_and_delete) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m;
        int reader;

        ASSERT_NULL(submit_with(f, "one", "x", "Document", "{\"a\":1}", &reader));
        assert_stream(f, reader, "queued started message_done=x/completed completed");
        assert_turn(f, "one", "completed", "{\"a\":1}");
        m = message_new(f, "DeleteTurn");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_NULL(call(f, m));
        m = message_new(f, "GetTurn");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_STREQ(call(f, m), PUFFO_ERROR_NO_SUCH_TURN);
}

TEST(bad_submissions) {
        _fixture_ Fixture *f = fixture_new(&fake_backend, NULL);
        static const struct { const char *id, *text, *member, *value, *error; } t[] = {
                { "../x", "hi", NULL, NULL, PUFFO_ERROR_INVALID_ARGUMENT },
                { "", "hi", NULL, NULL, PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "", NULL, NULL, PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Nonsense", "x", PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Store", "x", PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Conversation", "~fork", PUFFO_ERROR_INVALID_ARGUMENT },
                { "a", "hi", "Previous", "nobody", PUFFO_ERROR_NO_SUCH_TURN },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                int reader;

                ASSERT_STREQ(submit_with(f, t[i].id, t[i].text, t[i].member, t[i].value, &reader), t[i].error);
        }
        ASSERT_EQ(n_calls, 0);
}

TEST(outcomes_of_calls) {
        static const struct { Step steps[6]; const char *events, *health; unsigned n_calls; } t[] = {
                { { { .deltas = { "a", "b" } } }, "message_done=ab/completed completed", "unknown", 1 },
                { { {} }, "message_done=/completed completed", "unknown", 1 },
                { { { .deltas = { "a" }, .stop = MODEL_STOP_LENGTH } }, "message_done=a/incomplete incomplete=length",
                  "unknown", 1 },
                { { { .stop = MODEL_STOP_REFUSAL } }, "failed=invalid_prompt/refusal", "unknown", 1 },
                { { { .error = MODEL_ERROR_AUTH } }, "failed=server_error/auth", "auth_failed", 1 },
                { { { .error = MODEL_ERROR_BILLING } }, "failed=rate_limit_exceeded/billing", "unknown", 1 },
                /* transient: tried again before anything was said … */
                { { { .error = MODEL_ERROR_OVERLOADED }, { .error = MODEL_ERROR_CONNECT }, { .deltas = { "a" } } },
                  "message_done=a/completed completed", "unknown", 3 },
                { { { .error = MODEL_ERROR_RATE_LIMIT }, { .error = MODEL_ERROR_RATE_LIMIT },
                    { .error = MODEL_ERROR_RATE_LIMIT }, { .error = MODEL_ERROR_RATE_LIMIT } },
                  "failed=rate_limit_exceeded/rate-limit", "unknown", 4 },
                /* … but not when the wait is too long */
                { { { .error = MODEL_ERROR_RATE_LIMIT, .retry_after_usec = 3600 * USEC_PER_SEC } },
                  "failed=rate_limit_exceeded/rate-limit", "unknown", 1 },
                /* a stream that breaks off is begun anew, once */
                { { { .deltas = { "ha" }, .error = MODEL_ERROR_CUT }, { .deltas = { "half", "full" } } },
                  "message_done=ha/incomplete message_done=halffull/completed completed", "unknown", 2 },
                { { { .deltas = { "ha" }, .error = MODEL_ERROR_CUT },
                    { .deltas = { "h" }, .error = MODEL_ERROR_CUT } },
                  "message_done=ha/incomplete message_done=h/incomplete failed=server_error/cut", "unknown", 2 },
                { { { .error = MODEL_ERROR_CONTEXT_LENGTH }, { .deltas = { "a" } } },
                  "message_done=a/completed completed", "unknown", 2 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _fixture_ Fixture *f = fixture_new(&fake_backend, t[i].steps);
                _cleanup_free_ char *expected = strjoin("queued started ", t[i].events);

                assert_stream(f, submit(f, "one", "hi"), expected);
                ASSERT_EQ(n_calls, t[i].n_calls);
                WAIT(f, streq(f->status, "ready") && streq(f->health, t[i].health));
        }
}

TEST(silence_is_a_deadline) {
        static const Step steps[] = { { .silent = true } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);

        credential_write(f, "{\"provider\":\"echo\",\"task_timeout_usec\":1000}");
        assert_stream(f, submit(f, "one", "hi"), "queued started incomplete=deadline");
        assert_turn(f, "one", "incomplete", "");
}

TEST(a_key_that_works_is_healthy) {
        static const Step steps[] = { { .deltas = { "a" } }, { .error = MODEL_ERROR_AUTH } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);

        credential_write(f, "{\"provider\":\"openai\",\"api_key\":\"k\"}");
        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=a/completed completed");
        WAIT(f, streq(f->health, "ok"));
        assert_stream(f, submit(f, "two", "hi"), "queued started failed=server_error/auth");
        WAIT(f, streq(f->health, "auth_failed"));
}

TEST(history_goes_to_the_model) {
        static const Step steps[] = { { .deltas = { "A" } }, { .error = MODEL_ERROR_BILLING }, { .deltas = { "B" } },
                                      { .deltas = { "C" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader;

        ASSERT_NULL(submit_with(f, "one", "a", "History", "user: before", &reader));
        assert_stream(f, reader, "queued started message_done=A/completed completed");
        ASSERT_STREQ(last_prompt, "u:user: before\n\na");
        assert_stream(f, submit(f, "two", "lost"), "queued started failed=rate_limit_exceeded/billing");

        /* A turn that failed is no part of the conversation; the transcript is. */
        ASSERT_NULL(submit_with(f, "three", "b", "Instructions", "be brief", &reader));
        assert_stream(f, reader, "queued started message_done=B/completed completed");
        ASSERT_STREQ(last_prompt, "u:user: before\n\na a:A u:[instructions for this request]\nbe brief\n"
                                  "[end of instructions]\n\nb");

        ASSERT_NULL(submit_with(f, "four", "c", "Previous", "one", &reader));
        assert_stream(f, reader, "queued started message_done=C/completed completed");
        ASSERT_STREQ(last_prompt, "u:user: before\n\na a:A u:c");
}

/* Whose turns are answered by a CLI that is in one conversation: others are refused, and nothing is stored of them. */
TEST(one_conversation_only) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m;
        int reader;

        config_write(f, "runtime:\n  kind: cli-local\n  harness: gemini-cli\n");
        ASSERT_NULL(call(f, message_new(f, "Reload")));
        ASSERT_STREQ(submit_with(f, "one", "x", "Conversation", "other", &reader), SD_BUS_ERROR_NOT_SUPPORTED);
        m = message_new(f, "GetTurn");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_STREQ(call(f, m), PUFFO_ERROR_NO_SUCH_TURN);
        config_write(f, ECHO_AGENT);
        ASSERT_NULL(call(f, message_new(f, "Reload")));
        ASSERT_NULL(submit_with(f, "two", "x", "Conversation", "other", &reader));
        (void) close(reader);
}

/* The agent is told where they are, now and later; people are shown their names. */
TEST(files_come_along) {
        static const Step steps[] = { { .deltas = { "A" } }, { .deltas = { "B" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        _cleanup_free_ char *expected = NULL, *text = NULL, *path = NULL;
        _cleanup_close_ int file = memfd_create("test", MFD_CLOEXEC);
        const char *id, *name;
        int fds[2], more;
        sd_bus_message *m;

        ASSERT_EQ(write(file, "data", 4), 4);
        ASSERT_OK(pipe2(fds, O_CLOEXEC|O_NONBLOCK));
        m = message_new(f, "Submit");
        ASSERT_OK(sd_bus_message_append(m, "s", "one"));
        ASSERT_OK(sd_bus_message_open_container(m, 'a', "{sv}"));
        ASSERT_OK(sd_bus_message_append(m, "{sv}", "Files", "a(sssh)", 1, "n.txt", "text/plain", "file", file));
        ASSERT_OK(sd_bus_message_close_container(m));
        ASSERT_OK(sd_bus_message_append(m, "h", fds[1]));
        safe_close(fds[1]);
        ASSERT_NULL(call(f, m));
        assert_stream(f, fds[0], "queued started message_done=A/completed completed");
        path = strjoin(f->directory, "/workspace/.puffo/inbox/one/n.txt");
        ASSERT_OK(file_read(path, 10, &text, NULL));
        ASSERT_STREQ(text, "data");
        expected = strjoin("u:[files that came with this]\n- ", path, " (text/plain, 4 bytes)");
        ASSERT_STREQ(last_prompt, expected);

        assert_stream(f, submit(f, "two", "b"), "queued started message_done=B/completed completed");
        ASSERT_TRUE(startswith(last_prompt, expected) && endswith(last_prompt, " a:A u:b"));

        m = message_new(f, "ListMessages");
        ASSERT_OK(sd_bus_message_append(m, "ssu", "", "", 10));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_skip(f->reply, "a(sssts)"));
        ASSERT_OK(sd_bus_message_read(f->reply, "b", &more));
        ASSERT_EQ(sd_bus_message_read(f->reply, "a{sas}", 1, &id, 1, &name), 1);
        ASSERT_STREQ(name, "n.txt");
}

TEST(interrupt_over_the_bus) {
        static const Step steps[] = { { .silent = true } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi"), ended;
        sd_bus_message *m;

        WAIT(f, n_calls == 1);
        m = message_new(f, "Interrupt");
        ASSERT_OK(sd_bus_message_append(m, "s", ""));
        ASSERT_NULL(call(f, m));
        ASSERT_OK(sd_bus_message_read(f->reply, "b", &ended));
        ASSERT_TRUE(ended);
        assert_stream(f, reader, "queued started incomplete=interrupted");
        assert_turn(f, "one", "cancelled", "");
}

TEST(faults_stay_up_and_heal) {
        static const struct { const char *config, *text; } t[] = {
                { "runtime:\n  kind: cli-docker\n  harness: claude-code\n",
                  "runtime kind 'cli-docker' (harness 'claude-code') is not available in this version" },
                { "runtime:\n  kind: chat-local\n  provider: anthropic\n", "No API key for provider 'anthropic'" },
        };
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                int reader;

                config_write(f, t[i].config);           /* noticed by itself */
                WAIT(f, streq(f->status, "failed"));
                ASSERT_NOT_NULL(strstr(f->status_text, t[i].text));
                ASSERT_STREQ(submit_with(f, "one", "hi", NULL, NULL, &reader), PUFFO_ERROR_NOT_READY);
                config_write(f, ECHO_AGENT);
                ASSERT_NULL(call(f, message_new(f, "Reload")));
                WAIT(f, streq(f->status, "ready"));
        }
        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
}

TEST(working_directory_is_kept) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        sd_bus_message *m = message_new(f, "SetWorkingDirectory");

        ASSERT_OK(sd_bus_message_append(m, "s", "relative"));
        ASSERT_STREQ(call(f, m), PUFFO_ERROR_INVALID_ARGUMENT);
        m = message_new(f, "SetWorkingDirectory");
        ASSERT_OK(sd_bus_message_append(m, "s", "/srv/work"));
        ASSERT_NULL(call(f, m));
        WAIT(f, streq(f->working_directory, "/srv/work"));
        f->session = session_free(f->session);
        puffod_disconnect(f);
        ASSERT_OK(free_and_strdup(&f->working_directory, ""));
        session_open(f);
        WAIT(f, streq(f->working_directory, "/srv/work"));
}

/* puffod goes away in the middle of a turn: the turn and its stream do not care, and the session comes back to it. */
TEST(turns_outlive_puffod) {
        static const Step steps[] = { { .error = MODEL_ERROR_CONNECT, .retry_after_usec = 1 }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi");

        WAIT(f, n_calls == 1);
        puffod_stop(f);
        assert_stream(f, reader, "queued started message_done=a/completed completed");
        puffod_start(f);
        WAIT(f, f->n_registered == 2);
        assert_turn(f, "one", "completed", "");
}

TEST(stop_leaves_the_turn_to_the_next) {
        static const Step steps[] = { { .silent = true }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi");

        WAIT(f, n_calls == 1);
        credential_write(f, "{\"provider\":\"echo\",\"turn_grace_usec\":0}");
        session_reload(f->session);
        session_stop(f->session);
        ASSERT_OK(sd_event_loop(f->event));
        f->session = session_free(f->session);
        assert_stream(f, reader, "queued started");
        puffod_stop(f);
        (void) sd_event_unref(f->event);

        ASSERT_OK(sd_event_new(&f->event));
        puffod_start(f);
        session_open(f);
        WAIT(f, f->n_registered == 2);
        reader = submit(f, "one", "hi");
        assert_stream(f, reader, "queued restarted started message_done=a/completed completed");
}

TEST(stop_waits_for_the_turn) {
        static const Step steps[] = { { .error = MODEL_ERROR_CONNECT }, { .deltas = { "a" } } };
        _fixture_ Fixture *f = fixture_new(&fake_backend, steps);
        int reader = submit(f, "one", "hi"), other;

        WAIT(f, n_calls == 1);
        session_stop(f->session);
        ASSERT_STREQ(submit_with(f, "two", "hi", NULL, NULL, &other), PUFFO_ERROR_NOT_READY);
        ASSERT_OK(sd_event_loop(f->event));
        f->session = session_free(f->session);
        assert_stream(f, reader, "queued started message_done=a/completed completed");
        puffod_stop(f);
        (void) sd_event_unref(f->event);
        ASSERT_OK(sd_event_new(&f->event));
}

TEST(runtime_file) {
        _fixture_ Fixture *f = fixture_new(&real_backend, NULL);
        _cleanup_free_ char *path = path_join(f->directory, "runtime.json"), *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        size_t size;

        assert_stream(f, submit(f, "one", "hi"), "queued started message_done=hi/completed completed");
        f->session = session_free(f->session);
        ASSERT_OK(file_read(path, 4096, &text, &size));
        ASSERT_OK(json_parse(text, size, &o));
        ASSERT_STREQ(json_get_string(o, "status"), "stopped");
        ASSERT_STREQ(json_get_string(o, "health"), "unknown");
        ASSERT_EQ(json_get_int(o, "msg_count", 0), 1);
        ASSERT_TRUE(json_get_int(o, "last_event_at", 0) > 0);
}

TEST_MAIN();
