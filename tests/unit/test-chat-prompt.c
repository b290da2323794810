/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "chat-prompt.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"

typedef struct Fixture {
        char *directory;
        Database *db;
        SessionConfig *config;
} Fixture;

static void fixture_done(Fixture *f) {
        (void) session_config_free(f->config);
        (void) database_free(f->db);
        (void) directory_remove(f->directory);
        free(f->directory);
}
#define _fixture_ _cleanup_(fixture_done)

static Fixture fixture_new(const char *yaml) {
        Fixture f = {};
        char template[] = "/tmp/puffo-test-prompt-XXXXXX";
        _cleanup_free_ char *config = NULL, *path = NULL;

        ASSERT_NOT_NULL(mkdtemp(template));
        f.directory = strdup(template);
        config = strjoin(template, "/agent.yml");
        path = strjoin(template, "/messages.db");
        ASSERT_OK(file_write_atomic(config, yaml, strlen(yaml), 0600));
        ASSERT_EQ(database_open(&f.db, path, NULL), 0);
        ASSERT_OK(session_config_load(&f.config, "alice", template, NULL));
        return f;
}

static void turn(Fixture *f, unsigned i, const char *answer) {
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        TurnItem item = { .item = (char*) "m", .text = (char*) answer, .complete = true };
        char id[32];

        (void) snprintf(id, sizeof(id), "q%u", i);
        ASSERT_OK(turn_store_submit(f->db, &(TurnSubmission) { .id = id, .text = id, .now_usec = 1 }, &t));
        ASSERT_OK(turn_store_finish(f->db, t->seq, &(TurnResult) {
                .status = TURN_COMPLETED, .items = &item, .n_items = 1, .remember = true, .now_usec = 1,
        }));
}

#define ROW(t) (&(TurnRow) { .conversation = (char*) "", .text = (char*) (t), .instructions = (char*) "", \
                             .history = (char*) "old times" })

TEST(newest_sixty) {
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: echo\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};

        for (unsigned i = 0; i < 40; i++)
                turn(&f, i, "answer");
        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, CHAT_PROMPT_BYTES_MAX));
        ASSERT_EQ(p.n_messages, 60);
        ASSERT_STREQ(p.messages[0].text, "answer");
        ASSERT_EQ(p.messages[0].role, MODEL_ROLE_ASSISTANT);
        ASSERT_STREQ(p.messages[1].text, "q11");
        ASSERT_STREQ(p.messages[59].text, "now");
        ASSERT_NULL(p.context);         /* the conversation is not fresh */
}

TEST(what_there_is_room_for) {
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: echo\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};
        _cleanup_free_ char *big = malloc(10001);

        memset(big, 'x', 10000);
        big[10000] = 0;
        for (unsigned i = 0; i < 10; i++)
                turn(&f, i, big);
        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, 35000));
        ASSERT_TRUE(p.n_messages >= 3 && p.n_messages <= 8);
        ASSERT_STREQ(p.messages[p.n_messages - 1].text, "now");
        chat_prompt_done(&p);

        /* The newest message goes in whatever it costs. */
        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, 1));
        ASSERT_EQ(p.n_messages, 2);
}

TEST(fresh_conversations_get_the_transcript) {
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: echo\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};

        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, CHAT_PROMPT_BYTES_MAX));
        ASSERT_EQ(p.n_messages, 1);
        ASSERT_STREQ(p.messages[0].text, "old times\n\nnow");
        ASSERT_STREQ(p.context, "old times");
}

TEST(agents_with_an_identity_are_told_of_the_client) {
        _fixture_ Fixture f = fixture_new(
                        "puffo_core:\n  slug: alice-1a2b\nruntime:\n  kind: chat-local\n  provider: echo\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};

        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, CHAT_PROMPT_BYTES_MAX));
        ASSERT_NOT_NULL(startswith(p.messages[0].text,
                                   "[puffo-agent system message] this turn comes from a local client:"));
        ASSERT_TRUE(endswith(p.messages[0].text, "\n\nold times\n\nnow"));
}

#define TEST_SUITE "chat-prompt"
TEST_MAIN();
