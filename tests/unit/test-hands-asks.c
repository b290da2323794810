/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands-asks"

/* Between the CLI's questions and the approvals: who is told what, whatever was killed in between. */

#include <stdio.h>

#include "fake-server.h"
#include "file-util.h"
#include "hands-asks.h"

#define DRIVER ((Harness*) &said)
#define LS "{\"command\":\"ls\"}"

/* What the CLI was told. */
static struct {
        unsigned n;
        char *id, *input, *message;
        bool allow;
        int result;
} said;

int __wrap_harness_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message);

int __wrap_harness_answer(Harness *h, const char *ask_id, bool allow, const char *input, const char *message) {
        assert_ptr_equal(h, DRIVER);
        said.n++;
        said.allow = allow;
        ASSERT_OK(free_and_strdup(&said.id, ask_id));
        ASSERT_OK(free_and_strdup(&said.input, input));
        ASSERT_OK(free_and_strdup(&said.message, message));
        return said.result;
}

typedef struct World {
        char path[64];
        sd_event *event;
        Database *db;
        Approvals *approvals;
        HandsAsks *asks;
} World;

static void make_process(World *w) {
        ASSERT_OK(approvals_new(&w->approvals, &(ApprovalsSpec) { .event = w->event, .db = w->db, .agent = "rob" }));
        ASSERT_OK(hands_asks_new(&w->asks));
}

static void world_begin(World *w) {
        _cleanup_free_ char *file = NULL;

        *w = (World) { .path = "/tmp/test-hands-asks-XXXXXX" };
        ASSERT_NOT_NULL(mkdtemp(w->path));
        file = path_join(w->path, "messages.db");
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(database_open(&w->db, file, NULL));
        make_process(w);
}

static void world_end(World *w) {
        hands_asks_free(w->asks);
        approvals_free(w->approvals);
        database_free(w->db);
        sd_event_unref(w->event);
        ASSERT_OK(directory_remove(w->path));
        free(said.id);
        free(said.input);
        free(said.message);
        memset(&said, 0, sizeof(said));
        fake_done();
}

#define WORLD(w) \
        _cleanup_(world_end) World w; \
        world_begin(&w)

static void begin_run(World *w, const char *run, const char *turn, bool taken_over) {
        ASSERT_OK(hands_asks_begin(w->asks, w->approvals, DRIVER, run, turn, taken_over));
        fake_run(w->event);
}

static void begin(World *w, const char *turn, bool taken_over) {
        begin_run(w, "run-1", turn, taken_over);
}

static void die(World *w) {
        hands_asks_free(w->asks);
        approvals_free(w->approvals);
        make_process(w);
}

static void ask(World *w, const char *id, const char *input) {
        ASSERT_OK(hands_asks_ask(w->asks, &(HarnessAsk) { .id = id, .tool_id = "", .name = "Bash", .input = input }));
        fake_run(w->event);
}

static void answer(World *w, size_t i, bool allow) {
        ASSERT_EQ(approvals_answer(w->approvals, &(ApprovalAnswer) {
                approvals_open_id(w->approvals, i), allow, "rob", NULL, "t",
        }, NULL), 0);
}

static void assert_said(unsigned n, const char *id, bool allow, const char *input) {
        ASSERT_EQ(said.n, n);
        ASSERT_STREQ(said.id, id);
        ASSERT_EQ(said.allow, allow);
        ASSERT_STREQ(said.input, input);
}

TEST(asked_and_answered) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ASSERT_FALSE(hands_asks_pending(w.asks));
        ask(&w, "a", LS);
        ask(&w, "b", "{}");
        ASSERT_TRUE(hands_asks_pending(w.asks));
        answer(&w, 1, false);
        fake_run(w.event);
        ASSERT_EQ(said.n, 1);
        ASSERT_FALSE(said.allow);
        ASSERT_STREQ(said.message, "Permission denied by rob.");
        answer(&w, 0, true);
        fake_run(w.event);
        ASSERT_EQ(said.n, 2);
        ASSERT_FALSE(hands_asks_pending(w.asks));
}

/* However long it is: what was asked is what is done. */
TEST(the_next_process_answers_with_all_of_the_input) {
        _cleanup_free_ char *big = malloc(300001), *input = NULL;
        WORLD(w);

        memset(big, 'x', 300000);
        big[300000] = 0;
        input = strjoin("{\"content\":\"", big, "\"}");
        begin(&w, "turn-1", false);
        ask(&w, "a", input);
        die(&w);
        begin(&w, "turn-1", true);
        ASSERT_TRUE(hands_asks_pending(w.asks));
        ASSERT_EQ(said.n, 0);
        answer(&w, 0, true);
        fake_run(w.event);
        assert_said(1, "a", true, input);
}

TEST(an_answer_that_the_cli_has_not_got_is_given_again) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ask(&w, "a", LS);
        said.result = -EPIPE;
        answer(&w, 0, true);
        fake_run(w.event);
        ASSERT_EQ(said.n, 1);
        die(&w);
        said.result = 0;
        begin(&w, "turn-1", true);
        assert_said(2, "a", true, LS);
        die(&w);
        begin(&w, "turn-1", true);
        ASSERT_EQ(said.n, 2);
}

TEST(a_turn_that_begins_anew_asks_anew) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ask(&w, "a", LS);
        die(&w);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        begin(&w, "turn-1", false);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ask(&w, "b", LS);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(said.n, 0);
}

/* A CLI that counts its questions begins at the same number each time it is started. */
TEST(another_process_asks_anew_by_the_same_id) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ask(&w, "0", LS);
        die(&w);
        begin_run(&w, "run-2", "turn-1", false);
        ask(&w, "0", LS);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(said.n, 0);
        answer(&w, 0, true);
        fake_run(w.event);
        assert_said(1, "0", true, LS);

        begin_run(&w, "run-3", "turn-1", false);
        ask(&w, "0", LS);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_EQ(said.n, 1);
        hands_asks_withdraw(w.asks, "0");
        fake_run(w.event);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
}

/* Nobody is there any more who would hear the answer. */
TEST(what_another_process_has_asked_is_not_taken_up) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ask(&w, "0", LS);
        die(&w);
        begin_run(&w, "run-2", "turn-1", true);
        ASSERT_FALSE(hands_asks_pending(w.asks));
}

TEST(the_end_of_a_turn_and_the_cli_withdraw) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ask(&w, "a", LS);
        ask(&w, "b", LS);
        hands_asks_withdraw(w.asks, "a");
        fake_run(w.event);
        ASSERT_EQ(approvals_n_open(w.approvals), 1);
        ASSERT_TRUE(hands_asks_pending(w.asks));
        hands_asks_end(w.asks);
        fake_run(w.event);
        ASSERT_EQ(approvals_n_open(w.approvals), 0);
        ASSERT_FALSE(hands_asks_pending(w.asks));
        ASSERT_EQ(said.n, 0);
}

TEST(what_cannot_be_asked_is_refused) {
        WORLD(w);

        begin(&w, "turn-1", false);
        ask(&w, "a", "{");
        assert_said(1, "a", false, "{");
        ASSERT_FALSE(hands_asks_pending(w.asks));
        ASSERT_OK(hands_asks_begin(w.asks, NULL, DRIVER, "run-1", "turn-2", false));
        ask(&w, "b", LS);
        assert_said(2, "b", false, LS);
}

TEST_MAIN();
