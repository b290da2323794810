/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "directory"

#include <stdio.h>
#include <sys/stat.h>

#include "directory-internal.h"
#include "fake-server.h"
#include "file-util.h"
#include "message-store.h"

typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        Directory *directory;
        DirectoryLookup *lookups[8];
        unsigned n_done;
        bool free_all;          /* in the callback */
} World;

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL;

        *w = (World) { .path = "/tmp/test-directory-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        ASSERT_OK(directory_new(&w->directory, w->event, FAKE_CLIENT, w->db));
}

static void world_end(World *w) {
        for (size_t i = 0; i < ELEMENTSOF(w->lookups); i++)
                directory_lookup_free(w->lookups[i]);
        directory_free(w->directory);
        database_free(w->db);
        sd_event_unref(w->event);
        ASSERT_OK(directory_remove(w->path));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void on_done(DirectoryLookup *l, void *userdata) {
        World *w = userdata;

        w->n_done++;
        if (!w->free_all)
                return;
        for (size_t i = 0; i < ELEMENTSOF(w->lookups); i++)
                w->lookups[i] = directory_lookup_free(w->lookups[i]);
        w->directory = directory_free(w->directory);
}

static void look_up(World *w, size_t i, const char *slug, const char *space, const char *channel) {
        DirectoryChannel c = { space, channel };

        w->lookups[i] = directory_lookup_free(w->lookups[i]);
        ASSERT_OK(directory_look_up(w->directory, &slug, slug ? 1 : 0, &c, space ? 1 : 0, on_done, w, w->lookups + i));
        fake_run(w->event);
}

static void answer(World *w, const char *line, long status, const char *body) {
        fake_answer(line, status, body);
        fake_run(w->event);
}

#define BO "GET /identities/profiles?slugs=bo-17fe"

TEST(a_person) {
        WORLD(w);

        ASSERT_NULL(directory_person(w.directory, "bo-17fe"));
        look_up(&w, 0, "bo-17fe", NULL, NULL);
        ASSERT_EQ(w.n_done, 0);
        answer(&w, BO, 200,
               "{\"profiles\":[{\"slug\":\"bo-17fe\",\"username\":\"bo\",\"display_name\":\"  Bo Lin\\n\","
               "\"bio\":null,\"avatar_url\":\"https://x/y\",\"owner_slug\":null}]}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->display_name, "Bo Lin");
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->username, "bo");
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->bio, "");
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->avatar_url, "https://x/y");
        ASSERT_FALSE(directory_person(w.directory, "bo-17fe")->is_agent);
}

TEST(a_person_is_kept_for_ten_minutes) {
        WORLD(w);

        look_up(&w, 0, "bo-17fe", NULL, NULL);
        answer(&w, BO, 200, "{\"profiles\":[{\"slug\":\"bo-17fe\",\"display_name\":\"Bo\"}]}");
        fake.now_usec += 599 * USEC_PER_SEC;
        look_up(&w, 0, "bo-17fe", NULL, NULL);
        ASSERT_EQ(w.n_done, 2);
        ASSERT_EQ(fake_count(BO), 1);

        /* Meanwhile the old name goes on to be shown, also when the server fails. */
        fake.now_usec += 2 * USEC_PER_SEC;
        look_up(&w, 0, "bo-17fe", NULL, NULL);
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->display_name, "Bo");
        answer(&w, BO, 500, NULL);
        ASSERT_EQ(w.n_done, 3);
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->display_name, "Bo");

        fake.now_usec += 59 * USEC_PER_SEC;
        look_up(&w, 0, "bo-17fe", NULL, NULL);
        ASSERT_EQ(w.n_done, 4);
        fake.now_usec += 2 * USEC_PER_SEC;
        look_up(&w, 0, "bo-17fe", NULL, NULL);
        answer(&w, BO, 200,
               "{\"profiles\":[{\"slug\":\"bo-17fe\",\"display_name\":\"Bob\",\"owner_slug\":\"a-1\"}]}");
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->display_name, "Bob");
        ASSERT_TRUE(directory_person(w.directory, "bo-17fe")->is_agent);
}

TEST(failures_and_unknown_people_are_kept_for_a_minute) {
        static const struct { long status; const char *body; } t[] = {
                { 0, NULL }, { 429, NULL }, { 403, NULL }, { 404, NULL }, { 200, NULL }, { 200, "<html>" },
                { 200, "[]" }, { 200, "{}" }, { 200, "{\"profiles\":7}" }, { 200, "{\"profiles\":[7]}" },
                { 200, "{\"profiles\":[]}" }, { 200, "{\"profiles\":[{\"slug\":\"else-0001\"}]}" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w);

                look_up(&w, 0, "bo-17fe", NULL, NULL);
                answer(&w, BO, t[i].status, t[i].body);
                ASSERT_EQ(w.n_done, 1);
                ASSERT_NULL(directory_person(w.directory, "bo-17fe"));
                ASSERT_NULL(directory_person(w.directory, "else-0001"));
                look_up(&w, 0, "bo-17fe", NULL, NULL);
                ASSERT_EQ(w.n_done, 2);
                ASSERT_EQ(fake_count(BO), 1);
                fake.now_usec += 61 * USEC_PER_SEC;
                look_up(&w, 0, "bo-17fe", NULL, NULL);
                ASSERT_EQ(w.n_done, 2);
                ASSERT_EQ(fake_count(BO), 2);
        }
}

TEST(whoever_waits_for_the_same_shares_one_call) {
        WORLD(w);

        for (size_t i = 0; i < 4; i++)
                look_up(&w, i, "bo-17fe", NULL, NULL);
        ASSERT_EQ(fake.n_calls, 1);
        w.lookups[2] = directory_lookup_free(w.lookups[2]);
        answer(&w, BO, 200, "{\"profiles\":[{\"slug\":\"bo-17fe\",\"display_name\":\"Bo\"}]}");
        ASSERT_EQ(w.n_done, 3);
        ASSERT_EQ(fake.n_calls, 1);
}

TEST(people_are_asked_for_together) {
        _cleanup_(strbuf_done) StrBuf first = {}, second = {};
        char slugs[70][16];
        const char *list[ELEMENTSOF(slugs)];
        WORLD(w);

        ASSERT_OK(strbuf_puts(&first, "GET /identities/profiles?slugs="));
        ASSERT_OK(strbuf_puts(&second, "GET /identities/profiles?slugs="));
        for (size_t i = 0; i < ELEMENTSOF(slugs); i++) {
                StrBuf *b = i < 50 ? &first : &second;

                list[i] = slugs[i];
                (void) snprintf(slugs[i], sizeof(slugs[i]), "p%zu-0001", i);
                ASSERT_OK(strbuf_printf(b, "%s%s", b->text[b->size - 1] == '=' ? "" : ",", slugs[i]));
        }
        ASSERT_OK(directory_look_up(w.directory, list, ELEMENTSOF(list), NULL, 0, on_done, &w, w.lookups));
        fake_run(w.event);
        ASSERT_EQ(fake.n_calls, 2);
        answer(&w, first.text, 200, "{\"profiles\":[{\"slug\":\"p49-0001\",\"display_name\":\"Last\"}]}");
        ASSERT_EQ(w.n_done, 0);
        answer(&w, second.text, 200, "{\"profiles\":[]}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_STREQ(directory_person(w.directory, "p49-0001")->display_name, "Last");
}

TEST(one_slug_that_the_server_refuses_does_not_spoil_the_others) {
        const char *list[] = { "bo-17fe", "b\xc3\xa4h", "amy-0002" };
        WORLD(w);

        ASSERT_OK(directory_look_up(w.directory, list, 3, NULL, 0, on_done, &w, w.lookups));
        fake_run(w.event);
        answer(&w, BO ",b%C3%A4h,amy-0002", 400, NULL);
        answer(&w, BO, 200, "{\"profiles\":[{\"slug\":\"bo-17fe\",\"display_name\":\"Bo\"}]}");
        answer(&w, "GET /identities/profiles?slugs=b%C3%A4h", 400, NULL);
        ASSERT_EQ(w.n_done, 0);
        answer(&w, "GET /identities/profiles?slugs=amy-0002", 200, "{\"profiles\":[{\"slug\":\"amy-0002\"}]}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_STREQ(directory_person(w.directory, "bo-17fe")->display_name, "Bo");
        ASSERT_STREQ(directory_person(w.directory, "amy-0002")->display_name, "");
}

TEST(slugs_that_nobody_can_be_asked_for) {
        const char *list[] = { "", "a,b", "a\nb" };
        WORLD(w);

        ASSERT_OK(directory_look_up(w.directory, list, 3, NULL, 0, on_done, &w, w.lookups));
        fake_run(w.event);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_EQ(fake.n_calls, 0);
}

TEST(one_list_tells_all_names_of_a_space) {
        _cleanup_free_ char *space = NULL;
        WORLD(w);

        look_up(&w, 0, NULL, "sp_1", "ch_1");
        answer(&w, "GET /spaces", 200,
               "{\"spaces\":[{\"space_id\":\"sp_1\",\"name\":\" Lab \"},{\"id\":\"sp_2\",\"name\":\"Two\"}]}");
        answer(&w, "GET /spaces/sp_1/channels", 200, "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"ops\"},"
               "{\"channel_id\":\"ch_2\",\"name\":\"General\",\"is_public\":true}]}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_STREQ(directory_space_name(w.directory, "sp_1"), "Lab");
        ASSERT_STREQ(directory_space_name(w.directory, "sp_2"), "Two");
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_1"), "ops");
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_2"), "General");
        ASSERT_EQ(message_store_space_of(w.db, "ch_2", &space), 1);
        ASSERT_STREQ(space, "sp_1");

        look_up(&w, 0, NULL, "sp_1", "ch_2");
        look_up(&w, 0, NULL, "sp_2", NULL);
        ASSERT_EQ(w.n_done, 3);
        ASSERT_EQ(fake.n_calls, 2);
}

TEST(the_log_is_replayed_only_for_channels_that_are_not_listed) {
        WORLD(w);

        look_up(&w, 0, NULL, "sp_1", "ch_9");
        answer(&w, "GET /spaces", 200, "{\"spaces\":[]}");
        answer(&w, "GET /spaces/sp_1/channels", 200, "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"ops\"}]}");
        answer(&w, "GET /spaces/sp_1/events", 200,
               "{\"events\":[{\"kind\":\"create_space\"},7,{\"kind\":\"create_channel\",\"payload\":7}],"
               "\"has_more\":true,\"next_cursor\":\"1:bo:ev\"}");
        answer(&w, "GET /spaces/sp_1/events?since=1:bo:ev", 200,
               "{\"events\":[{\"kind\":\"create_channel\",\"payload\":{\"channel_id\":\"ch_9\",\"name\":\"nine\"}}],"
               "\"has_more\":true,\"next_cursor\":\"2:bo:ev\"}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_9"), "nine");
        ASSERT_EQ(fake.n_calls, 4);

        look_up(&w, 0, NULL, "sp_1", "ch_1");
        ASSERT_EQ(w.n_done, 2);
        ASSERT_EQ(fake.n_calls, 4);
}

TEST(nothing_more_is_asked_of_a_server_that_is_away) {
        WORLD(w);

        look_up(&w, 0, NULL, "sp_1", "ch_9");
        answer(&w, "GET /spaces", 0, NULL);
        answer(&w, "GET /spaces/sp_1/channels", 503, NULL);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_NULL(directory_channel_name(w.directory, "ch_9"));
        look_up(&w, 0, NULL, "sp_1", "ch_10");
        ASSERT_EQ(w.n_done, 2);
        ASSERT_EQ(fake.n_calls, 2);
        fake.now_usec += 61 * USEC_PER_SEC;
        look_up(&w, 0, NULL, "sp_1", "ch_10");
        ASSERT_EQ(fake.n_calls, 4);
}

TEST(a_log_that_goes_in_circles_ends) {
        WORLD(w);
        unsigned n = 0;

        look_up(&w, 0, NULL, "sp_1", "ch_9");
        answer(&w, "GET /spaces", 200, "{\"spaces\":[]}");
        answer(&w, "GET /spaces/sp_1/channels", 404, NULL);
        for (; w.n_done == 0; n++) {
                const char *line = fake_next();

                assert_in_range(n, 0, 100);
                answer(&w, line, 200, endswith(line, "a") ? "{\"events\":[],\"has_more\":true,\"next_cursor\":\"b\"}"
                                                          : "{\"events\":[],\"has_more\":true,\"next_cursor\":\"a\"}");
        }
        assert_in_range(n, 10, 64);
        ASSERT_NULL(directory_channel_name(w.directory, "ch_9"));
}

TEST(what_somebody_else_learnt) {
        _cleanup_free_ char *space = NULL;
        WORLD(w);

        ASSERT_OK(directory_learn_channel(w.directory, "sp_1", "ch_1", "ops"));
        ASSERT_ERROR(directory_learn_channel(w.directory, "", "ch_1", "ops"), EINVAL);
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_1"), "ops");
        ASSERT_EQ(message_store_space_of(w.db, "ch_1", &space), 1);
        ASSERT_STREQ(space, "sp_1");
        look_up(&w, 0, NULL, "sp_1", "ch_1");
        answer(&w, "GET /spaces", 200, "{\"spaces\":[]}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_EQ(fake.n_calls, 1);
}

TEST(names_are_asked_for_again_when_the_space_has_changed) {
        WORLD(w);

        ASSERT_OK(directory_learn_channel(w.directory, "sp_1", "ch_1", "ops"));
        ASSERT_OK(directory_learn_channel(w.directory, "sp_2", "ch_2", "two"));
        directory_forget_space(w.directory, "sp_1");
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_1"), "ops");
        look_up(&w, 0, NULL, "sp_2", "ch_2");
        look_up(&w, 1, NULL, "sp_1", "ch_1");
        ASSERT_NULL(fake_waiting("GET /spaces/sp_2/channels"));
        answer(&w, "GET /spaces", 200, "{\"spaces\":[]}");

        /* While it was on its way it became old. */
        directory_forget_space(w.directory, "sp_1");
        answer(&w, "GET /spaces/sp_1/channels", 200, "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"old\"}]}");
        ASSERT_EQ(w.n_done, 1);
        answer(&w, "GET /spaces/sp_1/channels", 200, "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"new\"}]}");
        ASSERT_EQ(w.n_done, 2);
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_1"), "new");
}

TEST(members_tell_who_is_an_agent) {
        WORLD(w);

        look_up(&w, 0, "bo-17fe", "sp_1", NULL);
        answer(&w, "GET /spaces", 200, "{\"spaces\":[]}");
        answer(&w, BO, 200, "{\"profiles\":[{\"slug\":\"bo-17fe\"}]}");
        answer(&w, "GET /spaces/sp_1/members", 200,
               "{\"members\":[7,{},{\"slug\":\"bo-17fe\",\"identity_type\":\"agent\"},"
               "{\"slug\":\"amy-0002\",\"identity_type\":\"human\"}]}");
        ASSERT_EQ(w.n_done, 1);
        ASSERT_TRUE(directory_person(w.directory, "bo-17fe")->is_agent);

        /* Where there is no such thing nobody asks again soon. */
        look_up(&w, 0, "bo-17fe", "sp_2", NULL);
        answer(&w, "GET /spaces/sp_2/members", 404, NULL);
        ASSERT_EQ(w.n_done, 2);
        fake.now_usec += 1800 * USEC_PER_SEC;
        look_up(&w, 0, "bo-17fe", "sp_2", NULL);
        ASSERT_EQ(fake_count("GET /spaces/sp_2/members"), 1);
        look_up(&w, 0, "bo-17fe", "sp_1", NULL);
        ASSERT_EQ(fake_count("GET /spaces/sp_1/members"), 2);
}

TEST(it_does_not_grow_without_end) {
        char slug[32];
        WORLD(w);
        _cleanup_(transaction_rollbackp) Transaction t;

        /* Or each of them waits for the disk. */
        ASSERT_OK(database_begin(w.db, &t));
        for (unsigned i = 0; i < 3000; i++) {
                (void) snprintf(slug, sizeof(slug), "ch_%u", i);
                ASSERT_OK(directory_learn_channel(w.directory, "sp_1", slug, "x"));
                /* Somebody who is used stays. */
                ASSERT_OK(directory_learn_channel(w.directory, "sp_1", "ch_0", "x"));
        }
        ASSERT_OK(database_commit(&t));
        ASSERT_EQ(w.directory->n_entries, DIRECTORY_ENTRIES_MAX);
        ASSERT_NOT_NULL(directory_channel_name(w.directory, "ch_0"));
        ASSERT_NULL(directory_channel_name(w.directory, "ch_1"));
        ASSERT_NOT_NULL(directory_channel_name(w.directory, "ch_2999"));
}

TEST(names_are_cut) {
        _cleanup_(strbuf_done) StrBuf b = {};
        WORLD(w);

        for (size_t i = 0; i < 400; i++)
                ASSERT_OK(strbuf_puts(&b, "\xc3\xa4\xc3\xb6"));
        ASSERT_OK(directory_learn_channel(w.directory, "sp_1", "ch_1", b.text + 2));
        ASSERT_EQ(strlen(directory_channel_name(w.directory, "ch_1")), 512);
        ASSERT_OK(directory_learn_channel(w.directory, "sp_1", "ch_1", "a\xc3\xa4"));
        ASSERT_STREQ(directory_channel_name(w.directory, "ch_1"), "a\xc3\xa4");
}

TEST(calls_that_cannot_be_made) {
        WORLD(w);

        fake.start_error = -ENOMEM;
        look_up(&w, 0, "bo-17fe", "sp_1", "ch_1");
        ASSERT_EQ(w.n_done, 1);
        fake.start_error = 0;
        fake.now_usec += 61 * USEC_PER_SEC;
        look_up(&w, 0, "bo-17fe", "sp_1", "ch_1");
        ASSERT_EQ(fake.n_calls, 4);
}

TEST(freed_from_the_callback_and_before) {
        for (unsigned i = 0; i < 3; i++) {
                WORLD(w);

                w.free_all = i == 0;
                for (size_t k = 0; k < 3; k++)
                        look_up(&w, k, "bo-17fe", "sp_1", "ch_1");
                if (i == 1)
                        w.directory = directory_free(w.directory);
                else {
                        answer(&w, "GET /spaces", 500, NULL);
                        answer(&w, BO, 500, NULL);
                        answer(&w, "GET /spaces/sp_1/members", 500, NULL);
                        answer(&w, "GET /spaces/sp_1/channels", 500, NULL);
                }
                ASSERT_EQ(w.n_done, i == 0 ? 1 : i == 1 ? 0 : 3);
        }
}

TEST_MAIN();
