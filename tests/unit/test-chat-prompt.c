/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "chat-prompt.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"
#include "turn-files.h"

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
        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, NULL, CHAT_PROMPT_BYTES_MAX));
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
        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, NULL, 35000));
        ASSERT_TRUE(p.n_messages >= 3 && p.n_messages <= 8);
        ASSERT_STREQ(p.messages[p.n_messages - 1].text, "now");
        chat_prompt_done(&p);

        /* The newest message goes in whatever it costs. */
        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, NULL, 1));
        ASSERT_EQ(p.n_messages, 2);
}

TEST(fresh_conversations_get_the_transcript) {
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: echo\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};

        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, NULL, CHAT_PROMPT_BYTES_MAX));
        ASSERT_EQ(p.n_messages, 1);
        ASSERT_STREQ(p.messages[0].text, "old times\n\nnow");
        ASSERT_STREQ(p.context, "old times");
}

TEST(agents_with_an_identity_are_told_of_the_client) {
        _fixture_ Fixture f = fixture_new(
                        "puffo_core:\n  slug: alice-1a2b\nruntime:\n  kind: chat-local\n  provider: echo\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};

        ASSERT_OK(chat_prompt_build(&p, f.db, f.config, ROW("now"), NULL, NULL, CHAT_PROMPT_BYTES_MAX));
        ASSERT_NOT_NULL(startswith(p.messages[0].text,
                                   "[puffo-agent system message] this turn comes from a local client:"));
        ASSERT_TRUE(endswith(p.messages[0].text, "\n\nold times\n\nnow"));
}

#define PNG "\x89PNG\r\n\x1a\n"
#define GIF "GIF89a"

/* Puts files into the inbox of a turn, as they come over the bus; the list that is stored of them. size: of each. */
static char* inbox(Fixture *f, const char *turn, const char *const *heads, size_t n, size_t size) {
        TurnFiles files = {};
        char *list;

        for (size_t i = 0; i < n; i++) {
                int fd = memfd_create("image", MFD_CLOEXEC);

                ASSERT_OK(fd);
                ASSERT_EQ(write(fd, heads[i], strlen(heads[i])), (ssize_t) strlen(heads[i]));
                if (size > 0)
                        ASSERT_OK(ftruncate(fd, (off_t) size));
                files.files[files.n++] = (TurnFile) {
                        .name = "picture", .type = "image/png", .image = !streq(heads[i], "text"), .fd = fd,
                };
        }
        ASSERT_OK(directory_make(f->config->home->workspace, 0700));
        ASSERT_OK(turn_files_save(&files, f->config->home->workspace, turn, &list));
        for (size_t i = 0; i < n; i++)
                ASSERT_OK(close(files.files[i].fd));
        return list;
}

static void turn_with_files(Fixture *f, const char *id, const char *files) {
        _cleanup_(turn_row_freep) TurnRow *t = NULL;
        TurnItem item = { .item = (char*) "m", .text = (char*) "seen", .complete = true };

        ASSERT_OK(turn_store_submit(f->db, &(TurnSubmission) { .id = id, .text = id, .files = files, .now_usec = 1 },
                                    &t));
        ASSERT_OK(turn_store_finish(f->db, t->seq, &(TurnResult) {
                .status = TURN_COMPLETED, .items = &item, .n_items = 1, .remember = true, .now_usec = 1,
        }));
}

static void build(Fixture *f, ChatPrompt *p, ModelProvider provider, const char *files, size_t max_bytes) {
        TurnRow row = *ROW("now");

        row.files = (char*) files;
        chat_prompt_done(p);
        ASSERT_OK(chat_prompt_build(p, f->db, f->config, &row, NULL, model_provider_image_limits(provider),
                                    max_bytes));
}

static bool says(const ChatPrompt *p, size_t i, const char *text) {
        return strstr(p->messages[i].text, text);
}

TEST(images) {
        static const char *const heads[] = { PNG, "text", GIF, "\xff\xd8\xff", "no image" };
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: anthropic\n");
        _cleanup_free_ char *files = inbox(&f, "t1", heads, ELEMENTSOF(heads), 0);
        _cleanup_(chat_prompt_done) ChatPrompt p = {};
        char head[8];

        /* A crash later, they are the same. */
        for (unsigned i = 0; i < 2; i++) {
                build(&f, &p, MODEL_ANTHROPIC, files, CHAT_PROMPT_BYTES_MAX);
                ASSERT_EQ(p.messages[0].n_images, 3);
                ASSERT_STREQ(p.messages[0].images[0].type, "image/png");
                ASSERT_STREQ(p.messages[0].images[1].type, "image/gif");
                ASSERT_STREQ(p.messages[0].images[2].type, "image/jpeg");
                ASSERT_EQ(p.messages[0].images[0].size, 8);
                ASSERT_EQ(pread(p.messages[0].images[0].fd, head, 8, 0), 8);
                ASSERT_EQ(memcmp(head, PNG, 8), 0);
                ASSERT_TRUE(says(&p, 0, "/t1/picture (image/png, 8 bytes; shown to you)"));
                ASSERT_TRUE(says(&p, 0, "/t1/picture-1 (image/png, 4 bytes)"));
                ASSERT_TRUE(says(&p, 0, "/t1/picture-4 (image/png, 8 bytes; not shown to you: it is no PNG,"));
        }
        build(&f, &p, MODEL_GOOGLE, files, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[0].n_images, 2);
        ASSERT_TRUE(says(&p, 0, "/t1/picture-2 (image/png, 6 bytes; not shown to you: your provider takes no GIF"));
        /* Who takes none at all is told as before. */
        build(&f, &p, MODEL_ECHO, files, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[0].n_images, 0);
        ASSERT_FALSE(says(&p, 0, "shown"));
}

TEST(images_of_the_past) {
        static const char *const heads[] = { PNG, PNG, PNG };
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: anthropic\n");
        _cleanup_(chat_prompt_done) ChatPrompt p = {};
        _cleanup_free_ char *now = NULL, *big = NULL;
        char id[32];

        for (unsigned i = 0; i < 8; i++) {
                _cleanup_free_ char *files = NULL;

                (void) snprintf(id, sizeof(id), "t%u", i);
                files = inbox(&f, id, heads, 3, 0);
                turn_with_files(&f, id, files);
        }
        now = inbox(&f, "now", heads, 1, 0);
        /* 20 in all: one of now, three of each of the last six turns, one of the second. */
        build(&f, &p, MODEL_ANTHROPIC, now, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.n_messages, 17);
        ASSERT_EQ(p.messages[16].n_images, 1);
        for (unsigned i = 2; i < 8; i++)
                ASSERT_EQ(p.messages[2 * i].n_images, 3);
        ASSERT_EQ(p.messages[2].n_images, 1);
        ASSERT_EQ(p.messages[0].n_images, 0);
        ASSERT_TRUE(says(&p, 0, "/t0/picture-2 (image/png, 8 bytes; not shown to you again)"));
        ASSERT_TRUE(says(&p, 14, "/t7/picture-2 (image/png, 8 bytes; shown to you)"));

        /* What was too long for the model is asked again with less. */
        build(&f, &p, MODEL_ANTHROPIC, now, CHAT_PROMPT_BYTES_MAX / 2);
        ASSERT_EQ(p.messages[16].n_images, 1);
        ASSERT_EQ(p.messages[14].n_images, 0);

        ASSERT_OK(turn_store_delete(f.db, "t7"));
        ASSERT_OK(turn_files_sweep(f.db, f.config->home->workspace));
        build(&f, &p, MODEL_ANTHROPIC, now, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[14].n_images, 0);
        ASSERT_TRUE(says(&p, 14, "/t7/picture (image/png, 8 bytes; not shown to you: it is not kept any more)"));
        ASSERT_EQ(p.messages[2].n_images, 3);
        ASSERT_EQ(p.messages[0].n_images, 1);

        /* Each has its size, and all together. */
        big = inbox(&f, "big", heads, 3, MIB(4));
        build(&f, &p, MODEL_ANTHROPIC, big, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[16].n_images, 0);
        ASSERT_TRUE(says(&p, 16, "not shown to you: it is larger than your provider takes)"));
        build(&f, &p, MODEL_OPENAI, big, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[16].n_images, 3);
        free(big);
        big = inbox(&f, "big2", heads, 3, MIB(5));
        build(&f, &p, MODEL_GOOGLE, big, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[16].n_images, 2);
        ASSERT_TRUE(says(&p, 16, "/picture-2 (image/png, 5242880 bytes; not shown to you: there are more than your"));
}

/* The agent's own programs write there, too. */
TEST(images_are_no_way_out) {
        static const char *const heads[] = { PNG, PNG, PNG };
        _fixture_ Fixture f = fixture_new("runtime:\n  kind: chat-local\n  provider: anthropic\n");
        _cleanup_free_ char *files = inbox(&f, "t", heads, 3, 0), *secret = NULL, *outside = NULL, *a = NULL, *b = NULL;
        _cleanup_(chat_prompt_done) ChatPrompt p = {};

        outside = strjoin(f.directory, "-outside.png");
        secret = strjoin(f.config->home->workspace, "/.puffo/inbox/t/picture");
        a = strjoin(secret, "-1");
        b = strjoin(secret, "-2");
        ASSERT_OK(file_write_atomic(outside, PNG, 8, 0600));
        ASSERT_OK(unlink(secret));
        ASSERT_OK(symlink(outside, secret));
        ASSERT_OK(unlink(a));
        ASSERT_OK(mkfifo(a, 0600));
        ASSERT_OK(unlink(b));
        ASSERT_OK(mkdir(b, 0700));
        build(&f, &p, MODEL_ANTHROPIC, files, CHAT_PROMPT_BYTES_MAX);
        ASSERT_EQ(p.messages[0].n_images, 0);
        ASSERT_TRUE(says(&p, 0, "/picture (image/png, 8 bytes; not shown to you: it cannot be read)"));
        ASSERT_TRUE(says(&p, 0, "/picture-1 (image/png, 8 bytes; not shown to you: it cannot be read)"));
        ASSERT_TRUE(says(&p, 0, "/picture-2 (image/png, 8 bytes; not shown to you: it cannot be read)"));
        ASSERT_OK(unlink(outside));
}

#define TEST_SUITE "chat-prompt"
TEST_MAIN();
