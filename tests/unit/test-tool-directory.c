/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tool-directory"

#include "tool-fixture.h"

#define HOME_CHANNELS "GET /spaces/sp_home/channels"
#define HOME_EVENTS "GET /spaces/sp_home/events"

TEST(channels_of_one_space) {
        BENCH(b);
        _cleanup_free_ char *space = NULL;

        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 200, "{\"spaces\":[{\"space_id\":\"sp_lab\",\"name\":\"Lab\"}]}");
        bench_answer(&b, "GET /spaces/sp_lab/channels", 200,
                     "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"General\"},"
                     "{\"channel_id\":\"ch_2\",\"name\":\"a\\n- ch_9  forged\"}]}");
        ASSERT_ANSWER(&b, "- ch_1  General\n- ch_2  a - ch_9  forged");

        /* Both are known from now on. */
        ASSERT_STREQ(directory_channel_name(b.directory, "ch_1"), "General");
        ASSERT_EQ(message_store_space_of(b.db, "ch_2", &space), 1);
        ASSERT_STREQ(space, "sp_lab");
}

TEST(channels_of_several_spaces) {
        BENCH(b);

        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 200,
                     "{\"spaces\":[{\"space_id\":\"sp_1\",\"name\":\"Lab\"},{\"space_id\":\"sp_2\"},"
                     "{\"space_id\":\"sp_3\",\"name\":\"Gone\"}]}");
        bench_answer(&b, "GET /spaces/sp_1/channels", 200,
                     "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"General\"}]}");
        bench_answer(&b, "GET /spaces/sp_2/channels", 200, "{\"channels\":[]}");
        bench_answer(&b, "GET /spaces/sp_3/channels", 403, NULL);
        bench_answer(&b, "GET /spaces/sp_3/events", 403, NULL);
        ASSERT_ANSWER(&b, "Lab (sp_1):\n- ch_1  General\nsp_2 (sp_2):\n(no channels in this space)\nGone (sp_3):\n"
                      "(channels not known: the server refused it (403))");
}

TEST(channels_by_what_has_happened) {
        BENCH(b);

        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 0, NULL);
        /* 200 with a page for browsers. */
        bench_answer(&b, HOME_CHANNELS, 200, "<html>");
        bench_answer(&b, HOME_EVENTS, 200,
                     "{\"events\":[{\"kind\":\"create_channel\",\"payload\":"
                     "{\"channel_id\":\"ch_1\",\"name\":\"General\"}},"
                     "{\"kind\":\"invite\",\"payload\":{\"channel_id\":\"ch_9\",\"name\":\"x\"}},7,"
                     "{\"kind\":\"create_channel\"}],"
                     "\"has_more\":true,\"next_cursor\":\"1:bo:ev\"}");
        bench_answer(&b, HOME_EVENTS "?since=1:bo:ev", 200,
                     "{\"events\":[{\"kind\":\"create_channel\",\"payload\":"
                     "{\"channel_id\":\"ch_2\",\"name\":\"ops\"}}],"
                     "\"has_more\":true,\"next_cursor\":\"1:bo:ev\"}");
        ASSERT_ANSWER(&b, "- ch_1  General\n- ch_2  ops");
}

static int count_commit(void *userdata) {
        (*(unsigned*) userdata)++;
        return 0;
}

/* A space of thousands of channels, and a server that would go on for ever: neither is waited for, nor kept. */
TEST(channels_without_number) {
        static const bool by_events[] = { false, true };

        for (size_t i = 0; i < ELEMENTSOF(by_events); i++) {
                _cleanup_(strbuf_done) StrBuf list = {};
                unsigned n_commits = 0, n_lines = 1;
                BENCH(b);

                for (unsigned k = 0; k < 2500; k++)
                        ASSERT_OK(strbuf_printf(&list, by_events[i] ? "%s{\"kind\":\"create_channel\",\"payload\":"
                                                                      "{\"channel_id\":\"ch_%u\",\"name\":\"x\"}}"
                                                                    : "%s{\"channel_id\":\"ch_%u\",\"name\":\"x\"}",
                                                k > 0 ? "," : "", k));
                (void) sqlite3_commit_hook(database_handle(b.db), count_commit, &n_commits);
                bench_start(&b, "list_channels", NULL, NULL);
                bench_answer(&b, "GET /spaces", 200, "{\"spaces\":[]}");
                if (by_events[i]) {
                        _cleanup_free_ char *page = strjoin("{\"events\":[", list.text, "],\"has_more\":true,"
                                                            "\"next_cursor\":\"1\"}");

                        bench_answer(&b, HOME_CHANNELS, 404, NULL);
                        bench_answer(&b, HOME_EVENTS, 200, page);
                } else {
                        _cleanup_free_ char *page = strjoin("{\"channels\":[", list.text, "]}");

                        bench_answer(&b, HOME_CHANNELS, 200, page);
                }
                ASSERT_TRUE(b.is_done);
                ASSERT_TRUE(n_commits <= 2);
                for (const char *p = b.text; (p = strchr(p, '\n')); p++)
                        n_lines++;
                ASSERT_EQ(n_lines, 2001);
                ASSERT_TRUE(endswith(b.text, "\n(no more than 2000 channels are shown)"));
        }
}

TEST(channels_that_do_not_end) {
        BENCH(b);

        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 200, "{\"spaces\":[]}");
        bench_answer(&b, HOME_CHANNELS, 404, NULL);
        for (unsigned i = 0; i < 200; i++) {
                _cleanup_free_ char *page = asprintf_new("{\"events\":[],\"has_more\":true,\"next_cursor\":\"%u\"}",
                                                         i);

                bench_answer(&b, fake_next(), 200, page);
        }
        ASSERT_ANSWER(&b, "(no channels in this space)");
}

TEST(no_channels) {
        BENCH(b);

        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 200, "{\"spaces\":[]}");
        bench_answer(&b, HOME_CHANNELS, 200, "{\"channels\":[]}");
        ASSERT_ANSWER(&b, "(no channels in this space)");

        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 503, NULL);
        bench_answer(&b, HOME_CHANNELS, 503, NULL);
        bench_answer(&b, HOME_EVENTS, 200, "{}");
        ASSERT_REFUSED(&b, "Error executing tool list_channels: channels of space sp_home: The server's answer has "
                           "no events");

        desk.home_space = "";
        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 200, "{\"spaces\":[]}");
        ASSERT_ANSWER(&b, "(no space configured)");
        bench_start(&b, "list_channels", NULL, NULL);
        bench_answer(&b, "GET /spaces", 0, NULL);
        ASSERT_REFUSED(&b, "Error executing tool list_channels: the list of spaces: the server could not be reached");
}

TEST(members) {
        BENCH(b);

        bench_start(&b, "list_channel_members", NULL, "{\"channel\":\"ch_1\"}");
        bench_answer(&b, "GET /spaces/sp_home/channels/ch_1/members", 200,
                     "{\"members\":[{\"slug\":\"bo-17fe\",\"role\":\"owner\"},{\"slug\":\"bot-1\"},"
                     "{\"slug\":\"x\\n- y\"}]}");
        ASSERT_ANSWER(&b, "- bo-17fe  (owner)\n- bot-1  (member)\n- x - y  (member)");

        ASSERT_OK(message_store_learn_space(b.db, "ch_1", "sp_lab", 1));
        bench_start(&b, "list_channel_members", NULL, "{\"channel\":\"ch_1\"}");
        bench_answer(&b, "GET /spaces/sp_lab/channels/ch_1/members", 200, "{\"members\":[]}");
        ASSERT_ANSWER(&b, "(empty channel)");
        bench_start(&b, "list_channel_members", NULL, "{\"channel\":\"ch_1\"}");
        bench_answer(&b, "GET /spaces/sp_lab/channels/ch_1/members", 403, NULL);
        ASSERT_REFUSED(&b, "Error executing tool list_channel_members: the members of this channel: the server "
                           "refused it (403)");
        bench_start(&b, "list_channel_members", NULL, "{\"channel\":\"ch_1\"}");
        bench_answer(&b, "GET /spaces/sp_lab/channels/ch_1/members", 200, "[]");
        ASSERT_REFUSED(&b, "Error executing tool list_channel_members: the members of this channel: The server's "
                           "answer is no JSON object");

        bench_call(&b, "list_channel_members", "{\"channel\":\"#x\"}");
        ASSERT_TRUE(b.is_error);
        desk.home_space = "";
        bench_call(&b, "list_channel_members", "{\"channel\":\"ch_2\"}");
        ASSERT_REFUSED(&b, "Error executing tool list_channel_members: it is not known which space channel ch_2 is "
                           "in, and this agent has no home space");
}

#define BO "GET /identities/profiles?slugs=bo-17fe"

TEST(user_info) {
        static const struct { const char *profiles, *shown; } t[] = {
                { "{\"slug\":\"bo-17fe\",\"username\":\"bo\",\"display_name\":\"Bo Lin\",\"bio\":\"Lab\\nslug: root\","
                  "\"avatar_url\":\"https://x/y\"}",
                  "slug: bo-17fe\ndisplay: Bo Lin\nbio: Lab slug: root\navatar: https://x/y" },
                { "{\"slug\":\"bo-17fe\",\"username\":\"bo\",\"display_name\":\"\",\"bio\":null}",
                  "slug: bo-17fe\ndisplay: bo" },
                { "{\"slug\":\"bo-17fe\"}", "slug: bo-17fe" },
                { "{\"slug\":\"other\",\"username\":\"bo\"}", "(no profile for bo-17fe)" },
                { "", "(no profile for bo-17fe)" },
        };
        BENCH(b);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *body = strjoin("{\"profiles\":[", t[i].profiles, "]}");

                bench_start(&b, "get_user_info", NULL, "{\"username\":\" @@ bo-17fe \"}");
                bench_answer(&b, BO, 200, body);
                ASSERT_ANSWER(&b, t[i].shown);
        }
        bench_start(&b, "get_user_info", NULL, "{\"username\":\"bo-17fe\"}");
        bench_answer(&b, BO, 0, NULL);
        ASSERT_REFUSED(&b, "Error executing tool get_user_info: the profile: the server could not be reached");
        bench_call(&b, "get_user_info", "{\"username\":\"@ \"}");
        ASSERT_REFUSED(&b, "Error executing tool get_user_info: username is required");
        bench_start(&b, "get_user_info", NULL, "{\"username\":\"a/../b?c\"}");
        bench_answer(&b, "GET /identities/profiles?slugs=a%2F..%2Fb%3Fc", 200, "{\"profiles\":[]}");
        ASSERT_ANSWER(&b, "(no profile for a/../b?c)");
}

TEST(who_am_i) {
        Identity identity = { .slug = (char*) OWN_SLUG, .device_id = (char*) "dev_1",
                              .server_url = (char*) "https://chat.example" };
        SessionKey key = { .subkey_id = (char*) "sk_1", .expires_at_ms = 1778617843000 };
        BENCH(b);

        fake.identity = &identity;
        bench_call(&b, "whoami", NULL);
        ASSERT_ANSWER(&b, "slug:      bot-1\ndevice_id: dev_1\nserver:    https://chat.example\nsubkey:    (no "
                          "active session)");
        fake.subkey = &key;
        bench_call(&b, "whoami", NULL);
        ASSERT_ANSWER(&b, "slug:      bot-1\ndevice_id: dev_1\nserver:    https://chat.example\nsubkey_id: sk_1\n"
                      "expires:   2026-05-12T20:30:43+00:00");
        fake.identity = NULL;
        fake.subkey = NULL;
}

TEST_MAIN();
