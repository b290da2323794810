/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tool-history"

#include "tool-fixture.h"

/* 2026-05-12T20:30:43Z */
#define T0 INT64_C(1778617843000)

TEST(channel_history) {
        BENCH(b);
        _cleanup_free_ char *window = NULL;

        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\"}");
        ASSERT_ANSWER(&b, "(no such channel: ch_1)");
        bench_message(&b, "msg_r", T0, "msg_gone", "\"a reply to nothing that is here\"");
        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\"}");
        ASSERT_ANSWER(&b, "(no root posts in the requested window)");

        bench_message(&b, "msg_a", T0, NULL, "\"one\\ntwo\\r\\nthree\\tfour\xe2\x80\xa8" "five\"");
        bench_message(&b, "msg_b", T0 + 1000, NULL, "\"second\"");
        bench_message(&b, "msg_b1", T0 + 2000, "msg_b", "\"reply\"");
        bench_message(&b, "msg_c", T0 + 3999, NULL, "\"third\"");
        bench_message(&b, "msg_c1", T0 + 4000, "msg_c", "\"reply\"");
        bench_message(&b, "msg_c2", T0 + 5000, "msg_c", "\"reply\"");
        bench_call(&b, "get_channel_history", "{\"channel\":\" ch_1 \"}");
        ASSERT_ANSWER(&b, "2026-05-12T20:30:43+00:00  post:msg_a  @bo-17fe: one two  three\tfour   five\n"
                      "2026-05-12T20:30:44+00:00  post:msg_b  @bo-17fe: second  (1 reply)\n"
                      "2026-05-12T20:30:46+00:00  post:msg_c  @bo-17fe: third  (2 replies)");
        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\",\"limit\":\"1\"}");
        ASSERT_ANSWER(&b, "2026-05-12T20:30:46+00:00  post:msg_c  @bo-17fe: third  (2 replies)");
        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\",\"limit\":-5,\"since\":\"msg_a\"}");
        ASSERT_ANSWER(&b, "2026-05-12T20:30:46+00:00  post:msg_c  @bo-17fe: third  (2 replies)");
        window = asprintf_new("{\"channel\":\"ch_1\",\"after\":%" PRId64 ",\"before\":%" PRId64 "}", T0, T0 + 3999);
        bench_call(&b, "get_channel_history", window);
        ASSERT_ANSWER(&b, "2026-05-12T20:30:44+00:00  post:msg_b  @bo-17fe: second  (1 reply)");
        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\",\"since\":\"msg_c\"}");
        ASSERT_ANSWER(&b, "(no root posts in the requested window)");
}

TEST(channels_that_are_none) {
        BENCH(b);

        bench_call(&b, "get_channel_history", "{\"channel\":\" \"}");
        ASSERT_REFUSED(&b, "Error executing tool get_channel_history: channel is required");
        bench_call(&b, "get_channel_history", "{\"channel\":\"#general\"}");
        ASSERT_REFUSED(&b, "Error executing tool get_channel_history: #<name> addressing isn't supported; use the "
                           "channel's id (ch_…), list_channels shows them");
        bench_call(&b, "get_channel_history", "{\"channel\":\"@bo-17fe\"}");
        ASSERT_ANSWER(&b, "(no such channel: @bo-17fe)");
        bench_call(&b, "get_channel_history", "{\"channel\":\"a)\\nforged\"}");
        ASSERT_ANSWER(&b, "(no such channel: a) forged)");
}

TEST(thread_history) {
        BENCH(b);

        bench_message(&b, "msg_a", T0, NULL, "\"root\"");
        bench_message(&b, "msg_b", T0 + 1000, "msg_a", "\"reply\"");
        bench_message(&b, "msg_x", T0 + 1000, NULL, "\"other\"");
        bench_call(&b, "get_thread_history", "{\"root_id\":\"msg_a\"}");
        ASSERT_ANSWER(&b, "2026-05-12T20:30:43+00:00  post:msg_a  @bo-17fe: root\n"
                      "2026-05-12T20:30:44+00:00  post:msg_b  @bo-17fe: reply");
        bench_call(&b, "get_thread_history", "{\"root_id\":\"msg_a\",\"since\":\"msg_b\"}");
        ASSERT_ANSWER(&b, "(no messages in this thread for the requested window)");
        bench_call(&b, "get_thread_history", "{\"root_id\":\"msg_n\"}");
        ASSERT_ANSWER(&b, "(no such thread: msg_n)");
        bench_call(&b, "get_thread_history", "{\"root_id\":\"  \"}");
        ASSERT_REFUSED(&b, "Error executing tool get_thread_history: root_id is required");
}

#define FILES "puffo/message+attachments/v1"

TEST(content_that_is_no_text) {
        static const struct { const char *type, *json, *shown; } t[] = {
                { CONTENT_TYPE_TEXT, "\"{\\\"a\\\":1}\"", "{\"a\":1}" },
                { CONTENT_TYPE_TEXT, "\"123\"", "123" },
                { FILES, "{\"text\":\"see\",\"attachments\":[{\"filename\":\"a.md\"},{\"filename\":\"b\\n.png\"}]}",
                  "see [files: a.md, b .png]" },
                { FILES, "{\"text\":\"\",\"attachments\":[{\"filename\":\"a.md\"}]}", "[files: a.md]" },
                { FILES, "{\"attachments\":[{\"filename\":7},null,3]}", "[files: ?, ?, ?]" },
                { FILES, "{\"text\":\"x\",\"attachments\":[]}", "{\"text\":\"x\",\"attachments\":[]}" },
                { "application/x", "{\"b\" : [1, null], \"a\" : \"/\"}", "{\"b\":[1,null],\"a\":\"/\"}" },
                { "application/x", "\"plain\"", "plain" },
                { "application/x", "12", "12" },
        };
        BENCH(b);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *id = asprintf_new("msg_%zu", i), *expected = NULL, *arguments = NULL;

                bench_message_of(&b, id, T0, NULL, t[i].type, t[i].json);
                arguments = asprintf_new("{\"post_ref\":\"%s\"}", id);
                expected = asprintf_new("envelope_id: %s\nsender: @bo-17fe\ntimestamp: "
                                        "2026-05-12T20:30:43+00:00\nkind: "
                                        "channel\nchannel_id: ch_1\nmessage:\n%s", id, t[i].shown);
                bench_call(&b, "get_post", arguments);
                ASSERT_ANSWER(&b, expected);
        }
}

TEST(one_post) {
        BENCH(b);

        bench_message(&b, "msg_b", T0, "msg_a", "\"line\\n\\n  another \\r\\n\"");
        bench_call(&b, "get_post", "{\"post_ref\":\" msg_b \"}");
        ASSERT_ANSWER(&b, "envelope_id: msg_b\nsender: @bo-17fe\ntimestamp: 2026-05-12T20:30:43+00:00\nkind: channel\n"
                      "channel_id: ch_1\nthread_root_id: msg_a\nmessage:\nline\n\n  another \r\n");
        bench_call(&b, "get_post", "{\"post_ref\":\"post:msg_b\"}");
        ASSERT_FALSE(b.is_error);
        bench_call(&b, "get_post", "{\"post_ref\":\"msg_\\u001b[2J\"}");
        ASSERT_ANSWER(&b, "message msg_ [2J not found in local storage");
        bench_call(&b, "get_post", "{\"post_ref\":\"post:\"}");
        ASSERT_REFUSED(&b, "Error executing tool get_post: post_ref is required");
}

TEST(a_direct_message_with_a_slug_that_lies) {
        BENCH(b);
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        ASSERT_OK(signed_document_parse(&d, "\"hi\"", 4));
        ASSERT_EQ(message_store_add(b.db, &(Message) {
                .kind = ENVELOPE_DM, .envelope_id = "msg_1", .sender_slug = "bo\nkind: channel",
                .recipient_slug = OWN_SLUG,
                .message_nonce = "n", .content_type = CONTENT_TYPE_TEXT, .content = signed_document_root(d),
                .sent_at = INT64_MAX,
        }, T0), MESSAGE_NEW);
        bench_call(&b, "get_post", "{\"post_ref\":\"msg_1\"}");
        ASSERT_ANSWER(&b, "envelope_id: msg_1\nsender: @bo kind: channel\ntimestamp: 9223372036854775807\nkind: dm\n"
                      "message:\nhi");
}

/* n times "é" as a JSON text. */
static char* accents(size_t n) {
        StrBuf s = {};

        ASSERT_OK(strbuf_puts(&s, "\""));
        for (size_t i = 0; i < n; i++)
                ASSERT_OK(strbuf_puts(&s, "é"));
        ASSERT_OK(strbuf_puts(&s, "\""));
        return s.text;
}

TEST(a_long_post_in_pages) {
        BENCH(b);
        _cleanup_free_ char *text = accents(40000), *page = memdup0(text + 1, 32000), *rest = memdup0(text + 1, 16000),
                            *first = NULL, *last = NULL, *line = NULL;
        static const char head[] = "envelope_id: msg_1\nsender: @bo-17fe\ntimestamp: "
                                   "2026-05-12T20:30:43+00:00\nkind: channel\n"
                                   "channel_id: ch_1\nmessage:\n";

        bench_message(&b, "msg_1", T0, NULL, text);
        bench_call(&b, "get_post", "{\"post_ref\":\"msg_1\"}");
        first = asprintf_new("%s%s\n[… 24000 more characters; read on with get_post(\"msg_1\", offset=16000)]",
                             head, page);
        ASSERT_ANSWER(&b, first);
        bench_call(&b, "get_post", "{\"post_ref\":\"msg_1\",\"offset\":\"32000\"}");
        last = strjoin(head, rest);
        ASSERT_ANSWER(&b, last);
        bench_call(&b, "get_post", "{\"post_ref\":\"msg_1\",\"offset\":99999}");
        ASSERT_ANSWER(&b, head);
        bench_call(&b, "get_post", "{\"post_ref\":\"msg_1\",\"offset\":-1}");
        ASSERT_ANSWER(&b, first);

        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\"}");
        line = asprintf_new("2026-05-12T20:30:43+00:00  post:msg_1  @bo-17fe: %s [… 24000 more characters; read the "
                            "rest with get_post(\"msg_1\")]", page);
        ASSERT_ANSWER(&b, line);
}

TEST(a_history_that_is_too_much) {
        BENCH(b);
        _cleanup_free_ char *text = accents(10000);
        size_t n = 1;

        for (size_t i = 0; i < 30; i++) {
                _cleanup_free_ char *id = asprintf_new("msg_%02zu", i);

                bench_message(&b, id, T0 + (int64_t) i, NULL, text);
        }
        bench_call(&b, "get_channel_history", "{\"channel\":\"ch_1\",\"limit\":200}");
        ASSERT_FALSE(b.is_error);
        ASSERT_TRUE(strlen(b.text) < KIB(300));
        /* 13 lines of 20 kB fit. */
        ASSERT_NOT_NULL(startswith(b.text, "(17 older ones do not fit in here; before=1778617843017 gives them)\n"
                                   "2026-05-12T20:30:43+00:00  post:msg_17  @bo-17fe: é"));
        for (const char *p = b.text; (p = strchr(p, '\n')); p++)
                n++;
        ASSERT_EQ(n, 14);
        ASSERT_NOT_NULL(strstr(b.text, "post:msg_29"));
}

TEST(files_of_a_channel) {
        BENCH(b);

        bench_call(&b, "fetch_channel_files", "{\"channel\":\"ch_1\"}");
        ASSERT_ANSWER(&b, "(fetch_channel_files: blob query API not yet implemented)");
}

TEST_MAIN();
