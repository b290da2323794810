/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "status-reporter"

#include <stdio.h>

#include "fake-server.h"
#include "json-util.h"
#include "status-reporter.h"

#define HEARTBEAT "POST /agents/me/heartbeat"
#define START_1 "POST /messages/msg_1/processing/start"
#define END "POST /messages/processing/end:batch"

typedef struct World {
        sd_event *event;
        StatusReporter *reporter;
} World;

static void world_begin(World *w) {
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(status_reporter_new(&w->reporter, w->event, FAKE_CLIENT));
}

static void world_end(World *w) {
        status_reporter_free(w->reporter);
        sd_event_unref(w->event);
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

/* The next period has come. */
static void pass(World *w) {
        ASSERT_TRUE(fake_pass(w->event));
}

/* The next call is a heartbeat of exactly this body, and succeeds. */
static void expect(const char *body) {
        ASSERT_STREQ(fake_next(), HEARTBEAT);
        ASSERT_STREQ(fake_waiting(HEARTBEAT)->body, body);
        fake_answer(HEARTBEAT, 200, "{}");
}

#define IDLE "{\"status\":\"idle\"}"

TEST(heartbeats_go_while_connected) {
        WORLD(w);

        ASSERT_EQ(fake.n_timers, 0);
        status_reporter_set_connected(w.reporter, true);
        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
        ASSERT_EQ(fake.n_calls, 1);
        ASSERT_EQ(fake.last_delay_usec, 60 * USEC_PER_SEC);
        assert_in_range(fake.last_accuracy_usec, 5 * USEC_PER_SEC, 30 * USEC_PER_SEC);
        for (unsigned i = 0; i < 3; i++) {
                pass(&w);
                expect(IDLE);
        }

        status_reporter_set_connected(w.reporter, false);
        ASSERT_FALSE(fake_pass(w.event));
        ASSERT_EQ(fake.n_calls, 4);
        fake.now_usec += 60 * USEC_PER_SEC;
        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
}

TEST(a_connection_that_flaps_does_not_flood) {
        WORLD(w);

        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
        fake.now_usec += 3 * USEC_PER_SEC;
        status_reporter_set_connected(w.reporter, false);
        status_reporter_set_connected(w.reporter, true);
        ASSERT_EQ(fake.n_calls, 1);
        ASSERT_EQ(fake.last_delay_usec, 7 * USEC_PER_SEC);
        pass(&w);
        expect(IDLE);
        ASSERT_EQ(fake.last_delay_usec, 60 * USEC_PER_SEC);
}

TEST(the_period_has_a_floor) {
        WORLD(w);

        status_reporter_set_period(w.reporter, 1);
        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
        ASSERT_EQ(fake.last_delay_usec, 10 * USEC_PER_SEC);
        status_reporter_set_period(w.reporter, 30 * USEC_PER_SEC);
        ASSERT_EQ(fake.last_delay_usec, 30 * USEC_PER_SEC);
        status_reporter_set_period(w.reporter, 0);
        ASSERT_EQ(fake.last_delay_usec, 60 * USEC_PER_SEC);
}

TEST(failures_are_swallowed) {
        static const long statuses[] = { 0, 401, 403, 404, 429, 500 };
        WORLD(w);

        status_reporter_set_connected(w.reporter, true);
        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                fake_answer(HEARTBEAT, statuses[i], NULL);
                pass(&w);
        }
        /* One that never ends is given up when the next is due. */
        pass(&w);
        expect(IDLE);

        for (size_t i = 0; i < ELEMENTSOF(statuses); i++) {
                status_reporter_begin(w.reporter, "msg_1");
                status_reporter_end(w.reporter, &(StatusRun) { "msg_1" }, 1);
                fake_answer(START_1, statuses[i], NULL);
                fake_answer(END, statuses[i], NULL);
        }
        pass(&w);
        expect(IDLE);

        fake.start_error = -ENOMEM;
        status_reporter_begin(w.reporter, "msg_1");
        status_reporter_end(w.reporter, &(StatusRun) { "msg_1" }, 1);
        fake.start_error = 0;
        pass(&w);
        expect(IDLE);
}

static const char* run_member(json_object *runs, size_t i, const char *key) {
        return json_get_string(json_object_array_get_idx(runs, i), key);
}

TEST(a_turn) {
        _cleanup_json_ json_object *start = NULL, *end = NULL;
        json_object *runs;
        WORLD(w);

        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
        status_reporter_begin(w.reporter, "msg_1");
        start = json_tokener_parse(fake_waiting(START_1)->body);
        ASSERT_NOT_NULL(startswith(json_get_string(start, "run_id"), "run_"));

        /* It is busy as soon as the server knows. */
        pass(&w);
        fake_answer(START_1, 200, "{}");
        expect(IDLE);
        pass(&w);
        expect("{\"status\":\"busy\",\"current_message_id\":\"msg_1\"}");

        status_reporter_end(w.reporter, (StatusRun[]) { { "msg_0" }, { "intro-prompt-x" }, { "msg_1" } }, 3);
        end = json_tokener_parse(fake_waiting(END)->body);
        runs = json_get(end, "runs");
        ASSERT_EQ(json_object_array_length(runs), 2);
        ASSERT_STREQ(run_member(runs, 0, "message_id"), "msg_0");
        ASSERT_STREQ(run_member(runs, 1, "message_id"), "msg_1");
        ASSERT_STREQ(run_member(runs, 1, "run_id"), json_get_string(start, "run_id"));
        ASSERT_FALSE(streq(run_member(runs, 0, "run_id"), json_get_string(start, "run_id")));
        ASSERT_NULL(run_member(runs, 0, "error_text"));
        ASSERT_TRUE(json_get_bool(json_object_array_get_idx(runs, 0), "succeeded", false));
        fake_answer(END, 200, "{}");
        pass(&w);
        expect(IDLE);
}

TEST(an_end_waits_for_its_begin) {
        WORLD(w);

        status_reporter_begin(w.reporter, "msg_1");
        status_reporter_end(w.reporter, &(StatusRun) { "msg_1" }, 1);
        status_reporter_begin(w.reporter, "msg_2");
        ASSERT_EQ(fake.n_calls, 1);
        fake_answer(START_1, 200, "{}");
        ASSERT_EQ(fake.n_calls, 2);
        fake_answer(END, 200, "{}");
        fake_answer("POST /messages/msg_2/processing/start", 200, "{}");
        status_reporter_set_connected(w.reporter, true);
        expect("{\"status\":\"busy\",\"current_message_id\":\"msg_2\"}");
}

TEST(a_failed_turn_shows_for_one_period) {
        WORLD(w);

        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
        status_reporter_begin(w.reporter, "msg_1");
        fake_answer(START_1, 200, "{}");
        fake.now_usec += 30 * USEC_PER_SEC;
        status_reporter_end(w.reporter, (StatusRun[]) { { "msg_0" }, { "msg_1", "API Error" } }, 2);
        ASSERT_NOT_NULL(strstr(fake_waiting(END)->body, "\"succeeded\":false,\"error_text\":\"API Error\""));
        fake_answer(END, 200, "{}");
        fake.now_usec -= 30 * USEC_PER_SEC;
        pass(&w);
        expect("{\"status\":\"error\",\"error_text\":\"API Error\"}");
        pass(&w);
        expect(IDLE);
        pass(&w);
        expect(IDLE);
}

TEST(what_is_synthetic_never_reaches_the_server) {
        WORLD(w);

        status_reporter_begin(w.reporter, "intro-prompt-ch_1-1778");
        status_reporter_end(w.reporter, &(StatusRun) { "intro-prompt-ch_1-1778", "failed" }, 1);
        status_reporter_begin(w.reporter, "");
        status_reporter_end(w.reporter, NULL, 0);
        ASSERT_EQ(fake.n_calls, 0);
        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
}

TEST(a_crash_shows_until_the_stream_is_there) {
        char text[3000];
        const char *body;
        WORLD(w);

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = 0;
        status_reporter_crashed(w.reporter, text);
        body = fake_waiting(HEARTBEAT)->body;
        ASSERT_NOT_NULL(startswith(body, "{\"status\":\"error\",\"error_text\":\"xxx"));
        assert_in_range(strlen(body), 1000, 1100);
        fake_answer(HEARTBEAT, 200, "{}");

        /* A turn that ends now does not make it well. */
        status_reporter_end(w.reporter, &(StatusRun) { "msg_1" }, 1);
        fake_answer(END, 200, "{}");
        status_reporter_crashed(w.reporter, "again");
        expect("{\"status\":\"error\",\"error_text\":\"again\"}");
        fake.now_usec += 600 * USEC_PER_SEC;
        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
}

/* Messages that cannot be stored: told once, soon but not too often, and taken back. */
TEST(a_crash_in_the_middle_of_a_connection) {
        WORLD(w);

        status_reporter_set_connected(w.reporter, true);
        expect(IDLE);
        for (unsigned i = 0; i < 5; i++)
                status_reporter_crashed(w.reporter, "full");
        ASSERT_STREQ(fake_next(), "");
        ASSERT_TRUE(fake_pass(w.event));
        expect("{\"status\":\"error\",\"error_text\":\"full\"}");
        fake.now_usec += 20 * USEC_PER_SEC;
        status_reporter_crashed(w.reporter, "full");
        ASSERT_STREQ(fake_next(), "");
        ASSERT_TRUE(fake_pass(w.event));
        expect("{\"status\":\"error\",\"error_text\":\"full\"}");

        fake.now_usec += 20 * USEC_PER_SEC;
        status_reporter_recovered(w.reporter);
        expect(IDLE);
        status_reporter_recovered(w.reporter);
        ASSERT_STREQ(fake_next(), "");
}

TEST(a_server_that_never_answers_does_not_make_it_grow) {
        char id[32];
        WORLD(w);

        status_reporter_begin(w.reporter, "msg_1");
        for (unsigned i = 0; i < 1000; i++) {
                (void) snprintf(id, sizeof(id), "msg_x%u", i);
                status_reporter_begin(w.reporter, id);
                status_reporter_end(w.reporter, &(StatusRun) { id }, 1);
        }
        ASSERT_EQ(fake.n_calls, 1);
        fake_answer(START_1, 200, "{}");
        while (*fake_next())
                fake_answer(fake_next(), 200, "{}");
        assert_in_range(fake.n_calls, 10, 40);
        ASSERT_STREQ(fake.calls[fake.n_calls - 1]->line, END);
}

TEST(freed_in_the_middle) {
        WORLD(w);

        status_reporter_set_connected(w.reporter, true);
        status_reporter_begin(w.reporter, "msg_1");
        status_reporter_end(w.reporter, &(StatusRun) { "msg_1" }, 1);
        w.reporter = status_reporter_free(w.reporter);
}

TEST_MAIN();
