/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tool-messages"

#include "attachment.h"
#include "crypto.h"
#include "mime-type.h"
#include "tool-fixture.h"

static OutboxRow* row_of(Bench *b, int64_t id) {
        OutboxRow *row;

        ASSERT_EQ(outbox_store_get(b->db, id, &row), 1);
        return row;
}

TEST(to_a_channel) {
        BENCH(b);
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;

        bench_start(&b, "send_message", "turn/1/0", "{\"channel\":\" ch_1 \",\"text\":\"h\\u00e9 \\\"you\\\"\\n\","
                    "\"root_id\":\"msg_r\"}");
        ASSERT_FALSE(b.is_done);
        row = row_of(&b, desk.watch->id);
        ASSERT_STREQ(row->key, "turn/1/0");
        ASSERT_STREQ(row->channel_id, "ch_1");
        ASSERT_STREQ(row->space_id, "sp_home");
        ASSERT_STREQ(row->recipient_slug, "");
        ASSERT_STREQ(row->thread_root_id, "msg_r");
        ASSERT_STREQ(row->content_type, "text/plain");
        ASSERT_STREQ(row->content, "\"hé \\\"you\\\"\\n\"");
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "posted msg_1 to ch_1");
}

TEST(to_a_person_and_to_a_channel_of_another_space) {
        BENCH(b);
        _cleanup_(outbox_row_freep) OutboxRow *dm = NULL, *other = NULL;

        bench_start(&b, "send_message", NULL, "{\"channel\":\"@bo-17fe\",\"text\":\"\"}");
        dm = row_of(&b, desk.watch->id);
        ASSERT_STREQ(dm->recipient_slug, "bo-17fe");
        ASSERT_STREQ(dm->channel_id, "");
        ASSERT_STREQ(dm->space_id, "");
        ASSERT_STREQ(dm->thread_root_id, "");
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "posted msg_1 to @bo-17fe");

        ASSERT_OK(message_store_learn_space(b.db, "ch_9", "sp_other", 1));
        bench_start(&b, "send_message", NULL, "{\"channel\":\"ch_9\",\"text\":\"x\"}");
        other = row_of(&b, desk.watch->id);
        ASSERT_STREQ(other->space_id, "sp_other");
        bench_sent(&b, NULL, "channel ch_9 in space sp_other has no members");
        ASSERT_REFUSED(&b, "Error executing tool send_message: channel ch_9 in space sp_other has no members");
}

TEST(messages_that_are_refused) {
        static const struct { const char *arguments, *error; } t[] = {
                { "{\"channel\":\"\",\"text\":\"x\"}", "channel is required" },
                { "{\"text\":\"x\"}", "channel is required" },
                { "{\"channel\":\"ch_1\"}", "text is required" },
                { "{\"channel\":\"#general\",\"text\":\"x\"}", "#<name> addressing isn't supported; use the "
                                                               "channel's id (ch_…), list_channels shows them" },
                { "{\"channel\":\"@\",\"text\":\"x\"}", "channel is @ without the person's slug" },
                { "{\"channel\":\"@a/b\",\"text\":\"x\"}", "@a/b is no slug" },
                { "{\"channel\":\"ch_1\\nx\",\"text\":\"x\"}", "channel is neither a channel id nor @ and a "
                                                               "person's slug" },
                { "{\"channel\":\"ch_1\",\"text\":\"x\",\"root_id\":\"a b\"}", "root_id is no envelope id" },
                { "{\"channel\":\"ch_1\",\"text\":\"a\\u0000b\"}", "text contains a NUL character" },
                { "{\"channel\":\"ch_1\",\"text\":\"x\",\"thread\":\"y\"}", "thread is not an argument of this tool" },
        };
        BENCH(b);
        _cleanup_free_ char *text = malloc(KIB(256) + 2), *arguments = NULL;

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *expected = strjoin("Error executing tool send_message: ", t[i].error);

                bench_call(&b, "send_message", t[i].arguments);
                ASSERT_REFUSED(&b, expected);
        }
        desk.home_space = "";
        bench_call(&b, "send_message", "{\"channel\":\"ch_1\",\"text\":\"x\"}");
        ASSERT_REFUSED(&b, "Error executing tool send_message: it is not known which space channel ch_1 is in, and "
                           "this agent has no home space");

        (void) memset(text, 'x', KIB(256) + 1);
        text[KIB(256) + 1] = 0;
        arguments = asprintf_new("{\"channel\":\"@bo\",\"text\":\"%s\"}", text);
        bench_call(&b, "send_message", arguments);
        ASSERT_REFUSED(&b, "Error executing tool send_message: the text is larger than 256 KiB");
        ASSERT_EQ(desk.n_added, 0);
        text[KIB(256)] = 0;
        free(arguments);
        arguments = asprintf_new("{\"channel\":\"@bo\",\"text\":\"%s\"}", text);
        bench_start(&b, "send_message", NULL, arguments);
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "posted msg_1 to @bo");
}

TEST(a_message_that_was_sent_before_a_crash) {
        BENCH(b);

        bench_start(&b, "send_message", "k", "{\"channel\":\"ch_1\",\"text\":\"x\"}");
        b.call = tool_call_free(b.call);
        ASSERT_NULL(desk.watch);
        ASSERT_EQ(desk.n_added, 1);
        bench_start(&b, "send_message", "k", "{\"channel\":\"ch_1\",\"text\":\"x\"}");
        ASSERT_EQ(desk.n_added, 1);
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "posted msg_1 to ch_1");
}

/* --- files --- */

#define UPLOAD "POST /blobs/upload"

static json_object* attachment_of(json_object *content, size_t i) {
        return json_object_array_get_idx(json_get(content, "attachments"), i);
}

/* What the i-th upload sent is the file, under the key that the message has. */
static void assert_opens(json_object *meta, size_t i, const char *text) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_free_ uint8_t *plain = NULL;
        const char *json = json_text(meta, NULL);
        AttachmentError error;
        Attachment a;
        size_t size;

        ASSERT_OK(signed_document_parse(&d, json, strlen(json)));
        ASSERT_OK(attachment_read(signed_document_root(d), &a, &error));
        ASSERT_OK(attachment_open(&a, fake.calls[i]->body, fake.calls[i]->spec.body_size, &plain, &size, &error));
        ASSERT_EQ(size, strlen(text));
        assert_memory_equal(plain, text, size);
        ASSERT_EQ(a.size, size);
}

TEST(files) {
        BENCH(b);
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        _cleanup_json_ json_object *content = NULL;

        ASSERT_OK(crypto_init());
        bench_file(&b, "docs/a.md", "# a\n");
        bench_file(&b, "b.png", "\x89PNG not");
        bench_start(&b, "upload_file", "k", "{\"paths\":[\" "
                                            "docs/a.md\",\"b.png\"],\"channel\":\"ch_1\",\"caption\":\"see\","
                    "\"root_id\":\"msg_r\"}");
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"blob-1\"}");
        ASSERT_EQ(desk.n_added, 0);
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"blob-2\"}");
        row = row_of(&b, desk.watch->id);
        ASSERT_STREQ(row->key, "k");
        ASSERT_STREQ(row->content_type, "puffo/message+attachments/v1");
        ASSERT_STREQ(row->thread_root_id, "msg_r");
        ASSERT_OK(json_parse(row->content, strlen(row->content), &content));
        ASSERT_STREQ(json_get_string(content, "text"), "see");
        ASSERT_EQ(json_object_object_length(content), 2);
        ASSERT_EQ(json_object_array_length(json_get(content, "attachments")), 2);
        ASSERT_EQ(json_object_object_length(attachment_of(content, 0)), 6);
        ASSERT_STREQ(json_get_string(attachment_of(content, 0), "blob_id"), "blob-1");
        ASSERT_STREQ(json_get_string(attachment_of(content, 0), "filename"), "a.md");
        ASSERT_STREQ(json_get_string(attachment_of(content, 0), "mime_type"), "text/markdown");
        ASSERT_STREQ(json_get_string(attachment_of(content, 1), "mime_type"), "image/png");
        assert_opens(attachment_of(content, 0), 0, "# a\n");
        assert_opens(attachment_of(content, 1), 1, "\x89PNG not");
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "uploaded 2 file(s) [a.md, b.png] (12 bytes total) to ch_1 in thread msg_r (envelope_id "
                          "msg_1)");

        /* Once more under the same key, as after a crash: nothing is uploaded again, and the files may be gone. */
        ASSERT_OK(directory_remove(b.workspace));
        bench_start(&b, "upload_file", "k", "{\"paths\":[\"docs/a.md\",\"b.png\"],\"channel\":\"ch_1\"}");
        ASSERT_EQ(fake.n_calls, 2);
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "uploaded 2 file(s) [a.md, b.png] (12 bytes total) to ch_1 in thread msg_r (envelope_id "
                          "msg_1)");
        ASSERT_EQ(desk.n_added, 1);
}

TEST(a_file_with_a_name_that_lies) {
        BENCH(b);

        ASSERT_OK(crypto_init());
        bench_file(&b, "a\n] (0 bytes).txt", "");
        bench_start(&b, "upload_file", NULL, "{\"paths\":\"[\\\"a\\\\n] (0 bytes).txt\\\"]\",\"channel\":\"@bo\"}");
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"blob-1\"}");
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "uploaded 1 file(s) [a ] (0 bytes).txt] (0 bytes total) to @bo (envelope_id msg_1)");
}

TEST(paths_that_are_refused) {
        static const struct { const char *paths, *error; } t[] = {
                { "[]", "paths must not be empty" },
                { "[\"good\",\" \"]", "paths contains an empty path" },
                { "[\"/etc/passwd\"]", "/etc/passwd is not relative to the workspace" },
                { "[\"good\",\"missing\"]", "missing does not exist in the workspace" },
                { "[\"good/x\"]", "good/x does not exist in the workspace" },
                { "[\"../secret\"]", "../secret leads out of the workspace, or contains .." },
                { "[\"dir/../good\"]", "dir/../good leads out of the workspace, or contains .." },
                { "[\"link-out\"]", "link-out leads out of the workspace, or contains .." },
                { "[\"link-absolute\"]", "link-absolute leads out of the workspace, or contains .." },
                { "[\"link-dir/secret\"]", "link-dir/secret leads out of the workspace, or contains .." },
                { "[\"link-loop\"]", "link-loop is no regular file" },
                { "[\"dir\"]", "dir is no regular file" },
                { "[\"good/\"]", "good/ is no regular file" },
                { "[\".\"]", ". is no regular file" },
                { "[\"fifo\"]", "fifo is no regular file" },
                { "[\"big\"]", "big is larger than 8 MiB" },
                { "[\"good\",\"good\",\"good\",\"good\",\"good\",\"good\""
                  ",\"good\",\"good\",\"good\",\"good\",\"good\"]",
                  "at most 10 files can be sent at once" },
                { "\"good\"", "paths must be a list of strings" },
        };
        BENCH(b);
        _cleanup_free_ char *big = path_join(b.workspace, "big"), *fifo = path_join(b.workspace, "fifo"),
                            *dir = path_join(b.workspace, "dir"), *out = path_join(b.workspace, "link-out"),
                            *absolute = path_join(b.workspace, "link-absolute"),
                            *link_dir = path_join(b.workspace, "link-dir"),
                            *loop = path_join(b.workspace, "link-loop");

        bench_file(&b, "good", "x");
        bench_file(&b, "../secret", "x");
        ASSERT_OK(mkdir(dir, 0700));
        ASSERT_OK(mkfifo(fifo, 0600));
        ASSERT_OK(symlink("../secret", out));
        ASSERT_OK(symlink("/etc/passwd", absolute));
        ASSERT_OK(symlink("..", link_dir));
        ASSERT_OK(symlink("link-loop", loop));
        bench_file(&b, "big", "");
        ASSERT_OK(truncate(big, (off_t) MIB(8) + 1));

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *arguments = asprintf_new("{\"paths\":%s,\"channel\":\"ch_1\"}", t[i].paths),
                                    *expected = strjoin("Error executing tool upload_file: ", t[i].error);

                bench_call(&b, "upload_file", arguments);
                ASSERT_REFUSED(&b, expected);
        }
        bench_call(&b, "upload_file", "{\"paths\":[\"good\"],\"channel\":\"#x\"}");
        ASSERT_TRUE(b.is_error);
        /* Not one byte left before all of it was checked. */
        ASSERT_EQ(fake.n_calls, 0);
}

TEST(a_link_within_the_workspace) {
        BENCH(b);
        _cleanup_free_ char *link = path_join(b.workspace, "latest.md");

        ASSERT_OK(crypto_init());
        bench_file(&b, "notes/today", "x");
        ASSERT_OK(symlink("notes/today", link));
        bench_start(&b, "upload_file", NULL, "{\"paths\":[\"latest.md\"],\"channel\":\"@bo\"}");
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"blob-1\"}");
        bench_sent(&b, "msg_1", NULL);
        ASSERT_ANSWER(&b, "uploaded 1 file(s) [latest.md] (1 bytes total) to @bo (envelope_id msg_1)");
}

/* What was checked is sent, whatever takes its name meanwhile. */
TEST(a_file_that_is_replaced_meanwhile) {
        BENCH(b);
        _cleanup_free_ char *path = path_join(b.workspace, "b");
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        _cleanup_json_ json_object *content = NULL;

        ASSERT_OK(crypto_init());
        bench_file(&b, "a", "first");
        bench_file(&b, "b", "second");
        bench_file(&b, "../secret", "secret");
        bench_start(&b, "upload_file", NULL, "{\"paths\":[\"a\",\"b\"],\"channel\":\"@bo\"}");
        ASSERT_OK(unlink(path));
        ASSERT_OK(symlink("../secret", path));
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"blob-1\"}");
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"blob-2\"}");
        row = row_of(&b, desk.watch->id);
        ASSERT_OK(json_parse(row->content, strlen(row->content), &content));
        assert_opens(attachment_of(content, 1), 1, "second");
        bench_sent(&b, NULL, "no device to send to");
        ASSERT_REFUSED(&b, "Error executing tool upload_file: no device to send to");
}

TEST(uploads_that_fail) {
        BENCH(b);

        ASSERT_OK(crypto_init());
        bench_file(&b, "a", "first");
        bench_start(&b, "upload_file", NULL, "{\"paths\":[\"a\"],\"channel\":\"ch_1\"}");
        bench_answer(&b, UPLOAD, 413, NULL);
        ASSERT_REFUSED(&b, "Error executing tool upload_file: uploading a: the server refused it (413)");
        bench_start(&b, "upload_file", NULL, "{\"paths\":[\"a\"],\"channel\":\"ch_1\"}");
        bench_answer(&b, UPLOAD, 200, "{}");
        ASSERT_REFUSED(&b, "Error executing tool upload_file: uploading a: The server's answer has no blob_id");
        bench_start(&b, "upload_file", NULL, "{\"paths\":[\"a\"],\"channel\":\"ch_1\"}");
        bench_answer(&b, UPLOAD, 200, "{\"blob_id\":\"../../x\"}");
        ASSERT_TRUE(b.is_error);
        ASSERT_EQ(desk.n_added, 0);

        ASSERT_OK(directory_remove(b.workspace));
        bench_call(&b, "upload_file", "{\"paths\":[\"a\"],\"channel\":\"ch_1\"}");
        ASSERT_REFUSED(&b, "Error executing tool upload_file: the workspace cannot be opened");
}

TEST(mime_types) {
        ASSERT_STREQ(mime_type_of("a.md"), "text/markdown");
        ASSERT_STREQ(mime_type_of("A.PNG"), "image/png");
        ASSERT_STREQ(mime_type_of("x.tar.gz"), "application/gzip");
        ASSERT_STREQ(mime_type_of("x.7z"), "application/x-7z-compressed");
        ASSERT_STREQ(mime_type_of("x.zst"), "application/zstd");
        ASSERT_STREQ(mime_type_of("x"), "application/octet-stream");
        ASSERT_STREQ(mime_type_of(".md"), "application/octet-stream");
        ASSERT_STREQ(mime_type_of("x."), "application/octet-stream");
        ASSERT_STREQ(mime_type_of("x.unheard-of"), "application/octet-stream");
}

TEST_MAIN();
