/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands-prepare"

#include "hands-world.h"

/* The CLI is made ready before there is a turn. */

#define CODEX "runtime:\n  kind: cli-local\n  harness: codex\n"

static bool is_prepared(Fixture *f) {
        return f->n_prepared > 0;
}

static void play(const char *word) {
        _cleanup_free_ char *path = path_join(world.directory, "codex");

        ASSERT_OK(file_write_atomic(path, word, strlen(word), 0600));
}

static void prepare(Fixture *f, const char *unready) {
        f->n_prepared = 0;
        ASSERT_EQ(hands_prepare(f->hands, 20 * USEC_PER_SEC), 1);
        run_until(f, is_prepared);
        ASSERT_STREQ(strempty(f->unready), unready);
}

/* What Codex was asked by now. */
static char* asked(void) {
        _cleanup_free_ char *log = file_text("log");
        _cleanup_(strbuf_done) StrBuf b = {};
        char *state;

        for (char *line = strtok_r(log, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
                _cleanup_json_ json_object *o = NULL;

                ASSERT_OK(json_parse(line, strlen(line), &o));
                if (json_get_string(o, "method"))
                        ASSERT_OK(strbuf_printf(&b, "%s ", json_get_string(o, "method")));
        }
        return b.text ? strbuf_take(&b) : strdup("");
}

TEST(ready_before_a_turn) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *methods = NULL;

        configure_as(CODEX);
        prepare(f, "");
        methods = asked();
        ASSERT_STREQ(methods, "initialize initialized account/read thread/start ");
        ASSERT_TRUE(world.pid > 0);
        /* It stays so. */
        prepare(f, "");
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_EQ(world.n_starts, 1);
        methods = mfree(methods);
        methods = asked();
        ASSERT_STREQ(methods, "initialize initialized account/read thread/start turn/start ");
        ASSERT_TRUE(f->n_prepared >= 2);        /* the turn has said so, too */

        /* With another configuration it is another one, that goes on with the same conversation. */
        configure_as(CODEX "  model: another\n");
        prepare(f, "");
        ASSERT_EQ(world.n_starts, 2);
        methods = mfree(methods);
        methods = asked();
        ASSERT_NOT_NULL(strstr(methods, "turn/start initialize initialized account/read thread/resume "));
}

/* A turn that comes meanwhile is not in the way of it, and the other way round. */
TEST(a_turn_comes_before_it_is_ready) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *methods = NULL;

        configure_as(CODEX);
        ASSERT_EQ(hands_prepare(f->hands, 20 * USEC_PER_SEC), 1);
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_TRUE(f->n_prepared > 0 && !f->unready);
        methods = asked();
        ASSERT_STREQ(methods, "initialize initialized account/read thread/start turn/start ");
}

/* Its session is killed at any time: who comes next goes on with what is there. */
TEST(ready_and_taken_over) {
        _fixture_ Fixture *f = fixture_new("");

        configure_as(CODEX);
        prepare(f, "");
        fixture_crash(f);
        fixture_open(f);
        prepare(f, "");
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_EQ(world.n_starts, 1);
}

TEST(cannot_be_made_ready) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *methods = NULL;

        configure_as(CODEX);
        play("die");
        prepare(f, "The agent's CLI ended with exit status 101. It said: thread 'main' panicked");
        play("logged-out");
        prepare(f, "Codex is not logged in; log in (codex login), or set a key: puffoctl provider set openai "
                   "--api-key.");
        ASSERT_EQ(f->health, CHAT_HEALTH_AUTH_FAILED);
        /* It is ended, and what is asked next finds none. */
        run_until(f, has_died);
        play("silent");
        f->n_prepared = 0;
        ASSERT_EQ(hands_prepare(f->hands, 1 * USEC_PER_SEC), 1);
        run_until(f, is_prepared);
        ASSERT_STREQ(f->unready, "The CLI was not ready within 1 s.");
        world.n_failures = 1;
        world.start_error = -EACCES;
        prepare(f, "The CLI cannot be started: There is no such sandbox here.");
        ASSERT_OK(setenv("PUFFO_CODEX_BIN", "/nonexistent/codex", 1));
        ASSERT_OK(setenv("PATH", "/nonexistent", 1));
        f->n_prepared = 0;
        ASSERT_EQ(hands_prepare(f->hands, 20 * USEC_PER_SEC), 1);
        run_until(f, is_prepared);
        ASSERT_NOT_NULL(strstr(f->unready, "'codex' is not installed"));
        ASSERT_OK(setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1));
        ASSERT_OK(setenv("PUFFO_CODEX_BIN", SCRIPTED_CLI, 1));

        /* All of that is forgotten with the first turn that shows the contrary. */
        play("");
        answer(f, "t1", "Hello", "completed You said: Hello");
        ASSERT_NULL(f->unready);
        ASSERT_EQ(f->health, CHAT_HEALTH_OK);
}

/* Others are started with their turn. */
TEST(nothing_to_make_ready) {
        _fixture_ Fixture *f = fixture_new("");

        prepare(f, "");
        ASSERT_EQ(world.n_starts, 0);
}

/* A conversation of before that Codex has lost. */
TEST(ready_in_a_new_conversation) {
        _fixture_ Fixture *f = fixture_new("");
        _cleanup_free_ char *threads = NULL;

        configure_as(CODEX);
        answer(f, "t1", "Hello", "completed You said: Hello");
        threads = path_join(world.directory, "threads");
        ASSERT_OK(directory_remove(threads));
        configure_as(CODEX "  model: another\n");
        prepare(f, "");
        answer(f, "t2", "Again", "completed You said: Again");
}

TEST_MAIN();
