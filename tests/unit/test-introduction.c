/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "introduction"

#include "fake-server.h"
#include "file-util.h"
#include "introduction.h"
#include "message-store.h"
#include "status-reporter.h"

typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        Directory *directory;
        Introduction *introduction;
        unsigned n_requests;
        int error;              /* what the queue says */
        char *id, *text, *names;
} World;

static int on_introduce(const IntroductionRequest *q, void *userdata) {
        World *w = userdata;

        if (w->error < 0)
                return w->error;
        w->n_requests++;
        ASSERT_OK(free_and_strdup(&w->id, q->envelope_id));
        ASSERT_OK(free_and_strdup(&w->text, q->text));
        free(w->names);
        w->names = strjoin(q->space_id, "|", q->space_name, "|", q->channel_id, "|", q->channel_name);
        assert_in_range(q->now_ms, now_realtime_ms() - 60000, now_realtime_ms());
        return 0;
}

static void make_introduction(World *w) {
        ASSERT_OK(introduction_new(&w->introduction, &(IntroductionSpec) {
                .event = w->event, .db = w->db, .directory = w->directory, .on_introduce = on_introduce, .userdata = w,
        }));
}

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL;

        *w = (World) { .path = "/tmp/test-introduction-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        ASSERT_OK(directory_new(&w->directory, w->event, FAKE_CLIENT, w->db));
        make_introduction(w);
}

static void world_end(World *w) {
        introduction_free(w->introduction);
        directory_free(w->directory);
        database_free(w->db);
        sd_event_unref(w->event);
        free(w->id);
        free(w->text);
        free(w->names);
        ASSERT_OK(directory_remove(w->path));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void answer(World *w, const char *line, const char *body) {
        fake_answer(line, body ? 200 : 500, body);
        fake_run(w->event);
}

static void answer_names(World *w) {
        answer(w, "GET /spaces", "{\"spaces\":[{\"space_id\":\"sp_1\",\"name\":\"Lab\"}]}");
        answer(w, "GET /spaces/sp_1/channels", "{\"channels\":[{\"channel_id\":\"ch_1\",\"name\":\"ops\"},"
               "{\"channel_id\":\"ch_2\",\"name\":\"General\"}]}");
}

TEST(the_model_is_told_where_it_is_and_what_to_do) {
        static const char *const parts[] = {
                "#ops", "ch_1", "space Lab", "mcp__puffo__send_message", "channel=\"ch_1\"", "2-3 sentences", "English",
                "top-level", "root_id",
        };
        WORLD(w);

        ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
        ASSERT_EQ(w.n_requests, 0);
        answer_names(&w);
        ASSERT_EQ(w.n_requests, 1);
        ASSERT_STREQ(w.names, "sp_1|Lab|ch_1|ops");
        ASSERT_NOT_NULL(startswith(w.id, SYNTHETIC_ID_PREFIX "ch_1-1"));
        ASSERT_NOT_NULL(startswith(w.text, "[puffo-agent system message]"));
        for (size_t i = 0; i < ELEMENTSOF(parts); i++)
                if (!strstr(w.text, parts[i]))
                        fail_msg("No '%s' in: %s", parts[i], w.text);
}

TEST(once_a_channel_and_for_ever) {
        WORLD(w);

        for (unsigned i = 0; i < 3; i++)
                ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
        ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_2"), 0);
        answer_names(&w);
        ASSERT_EQ(w.n_requests, 2);
        ASSERT_TRUE(introduction_prompt(w.introduction, "sp_1", "ch_1") > 0);

        introduction_free(w.introduction);
        make_introduction(&w);
        ASSERT_TRUE(introduction_prompt(w.introduction, "sp_1", "ch_1") > 0);
        ASSERT_TRUE(introduction_prompt(w.introduction, "sp_1", "ch_2") > 0);
        fake_run(w.event);
        ASSERT_EQ(w.n_requests, 2);
}

TEST(names_that_nobody_knows) {
        WORLD(w);

        ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
        answer(&w, "GET /spaces", NULL);
        answer(&w, "GET /spaces/sp_1/channels", NULL);
        ASSERT_EQ(w.n_requests, 1);
        ASSERT_STREQ(w.names, "sp_1||ch_1|");
        ASSERT_NOT_NULL(strstr(w.text, "in space sp_1"));
}

TEST(a_queue_that_does_not_take_it) {
        WORLD(w);

        w.error = -ENOSPC;
        ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
        answer_names(&w);
        ASSERT_EQ(w.n_requests, 0);
        w.error = 0;
        ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
        fake_run(w.event);
        ASSERT_EQ(w.n_requests, 1);
}

TEST(ids_are_needed) {
        WORLD(w);

        ASSERT_ERROR(introduction_prompt(w.introduction, "", "ch_1"), EINVAL);
        ASSERT_ERROR(introduction_prompt(w.introduction, "sp_1", ""), EINVAL);
}

static int event(World *w, const char *json) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        ASSERT_OK(signed_document_parse(&d, json, strlen(json)));
        return introduction_on_event(w->introduction, "me-0003", signed_document_root(d));
}

TEST(where_the_agent_has_left_it_says_nothing) {
        static const struct { const char *event; bool leaves; } t[] = {
                { "{\"kind\":\"leave_channel\",\"signer_slug\":\"me-0003\",\"payload\":{\"space_id\":\"sp_1\","
                  "\"channel_id\":\"ch_1\"}}", true },
                { "{\"kind\":\"leave_space\",\"signer_slug\":\"me-0003\",\"payload\":{\"space_id\":\"sp_1\"}}", true },
                { "{\"kind\":\"remove_from_channel\",\"signer_slug\":\"a-0001\",\"payload\":{\"space_id\":\"sp_1\","
                  "\"channel_id\":\"ch_1\",\"removed_slug\":\"me-0003\"}}", true },
                { "{\"kind\":\"remove_from_space\",\"signer_slug\":\"a-0001\",\"payload\":{\"space_id\":\"sp_1\","
                  "\"removed_slug\":\"me-0003\"}}", true },
                { "{\"kind\":\"remove_from_space\",\"signer_slug\":\"me-0003\",\"payload\":{\"space_id\":\"sp_1\","
                  "\"removed_slug\":\"a-0001\"}}", false },
                { "{\"kind\":\"leave_space\",\"signer_slug\":\"a-0001\",\"payload\":{\"space_id\":\"sp_1\"}}", false },
                { "{\"kind\":\"leave_channel\",\"signer_slug\":\"me-0003\",\"payload\":{\"space_id\":\"sp_1\"}}", false },
                { "{\"kind\":\"create_channel\",\"payload\":7}", false },
                { "[]", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *space = NULL;
                WORLD(w);

                ASSERT_OK(message_store_learn_space(w.db, "ch_1", "sp_1", 1));
                ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
                ASSERT_EQ(event(&w, t[i].event), t[i].leaves);
                answer(&w, "GET /spaces", NULL);
                answer(&w, "GET /spaces/sp_1/channels", NULL);
                ASSERT_EQ(w.n_requests, !t[i].leaves);
                ASSERT_EQ(message_store_space_of(w.db, "ch_1", &space), 1);
        }
}

TEST(freed_in_the_middle) {
        WORLD(w);

        ASSERT_EQ(introduction_prompt(w.introduction, "sp_1", "ch_1"), 0);
        w.introduction = introduction_free(w.introduction);
        answer_names(&w);
        ASSERT_EQ(w.n_requests, 0);
}

TEST_MAIN();
