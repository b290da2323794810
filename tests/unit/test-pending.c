/* SPDX-License-Identifier: MIT */

/* Calls that wait, above all for the end of an agent that is removed. */

#include "pending.h"
#include "unit-world.h"

typedef struct Answer {
        unsigned n;
        char *error;            /* of the last one; NULL: none */
} Answer;

static void answer_done(Answer *a) {
        free(a->error);
}

static int on_answer(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Answer *a = userdata;

        a->n++;
        ASSERT_OK(free_and_strdup(&a->error, e ? e->name : ""));
        return 0;
}

static sd_bus_message* new_call(World *w, const char *method) {
        sd_bus_message *m = NULL;

        ASSERT_OK(sd_bus_message_new_method_call(w->systemd, &m, NULL, PUFFO_BUS_AGENT_PREFIX "/rob",
                                                 PUFFO_BUS_AGENT_INTERFACE, method));
        return m;
}

static void call(World *w, const char *method, Answer *answer) {
        _cleanup_bus_message_ sd_bus_message *m = new_call(w, method);

        ASSERT_OK(sd_bus_call_async(w->systemd, NULL, m, on_answer, answer, 0));
        run(w);
}

static void call_with_text(World *w, const char *method, const char *text, Answer *answer) {
        _cleanup_bus_message_ sd_bus_message *m = new_call(w, method);

        ASSERT_OK(sd_bus_message_append(m, "s", text));
        ASSERT_OK(sd_bus_call_async(w->systemd, NULL, m, on_answer, answer, 0));
        run(w);
}

static Pending* find(const World *w, PendingKind kind) {
        Pending *p;

        LIST_FOREACH(p, &w->agent->pending, entries)
                if (p->kind == kind)
                        return p;
        fail_msg("nobody waits for that");
        return NULL;
}

/* As if its time were over. */
static void let_time_out(World *w, PendingKind kind) {
        ASSERT_OK(sd_event_source_set_time(find(w, kind)->timeout, 0));
        run(w);
}

static void unit_goes(World *w) {
        w->active = NULL;
        send_removed(w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, "done");
        send_removed(w, "UnitRemoved", "so", UNIT, "/x");
        run(w);
}

/* The child's end is among what is waited for. */
static void run_until_answered(World *w, const Answer *a) {
        for (unsigned i = 0; a->n == 0 && i < 100; i++)
                ASSERT_OK(sd_event_run(w->event, 100 * USEC_PER_MSEC));
        run(w);
        ASSERT_EQ(a->n, 1);
}

TEST(stop_that_times_out_is_no_end_of_a_removal) {
        _cleanup_(answer_done) Answer removed = {}, stopped = {};
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        call(&w, "Delete", &removed);
        call(&w, "Stop", &stopped);
        ASSERT_TRUE(w.agent->removing);
        let_time_out(&w, PENDING_GONE);
        ASSERT_EQ(stopped.n, 1);
        ASSERT_STREQ(stopped.error, PUFFO_ERROR_FAILED);
        ASSERT_TRUE(w.agent->removing);
        ASSERT_EQ(removed.n, 0);

        unit_goes(&w);
        run_until_answered(&w, &removed);
        ASSERT_STREQ(removed.error, "");
        ASSERT_EQ(w.manager.n_agents, 0);
        ASSERT_EQ(w.n_starts, 0);
}

TEST(removal_that_times_out_lets_it_go_on) {
        _cleanup_(answer_done) Answer removed = {};
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        call(&w, "Delete", &removed);
        let_time_out(&w, PENDING_DELETE);
        ASSERT_STREQ(removed.error, PUFFO_ERROR_FAILED);
        ASSERT_FALSE(w.agent->removing);
        unit_goes(&w);
        ASSERT_EQ(w.n_starts, 1);
        ASSERT_EQ(w.manager.n_agents, 1);
}

TEST(removal_that_fails_lets_it_go_on) {
        _cleanup_(answer_done) Answer removed = {};
        _cleanup_(world_done) World w;

        world_init(&w);
        ASSERT_OK(file_write_atomic(w.paths->archived, "", 0, 0600));
        w.active = "active";
        run(&w);
        call(&w, "Archive", &removed);
        unit_goes(&w);
        run_until_answered(&w, &removed);
        ASSERT_STREQ(removed.error, PUFFO_ERROR_FAILED);
        ASSERT_EQ(w.manager.n_agents, 1);
        ASSERT_FALSE(w.agent->removing);
        ASSERT_NULL(w.agent->removal);
        ASSERT_EQ(w.n_starts, 1);
}

/* The name is free as soon as the directory is out of sight; the child may have much to remove still. */
TEST(made_anew_while_the_old_one_goes) {
        static const char config[] = "id: rob\nstate: running\n";
        _cleanup_(answer_done) Answer removed = {};
        _cleanup_free_ char *file = NULL;
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        call(&w, "Delete", &removed);
        w.active = NULL;
        send_removed(&w, "JobRemoved", "uoss", 1U, "/job/1", UNIT, "done");
        for (unsigned i = 0; !w.agent->removal && i < 100; i++)
                ASSERT_OK(sd_event_run(w.event, 100 * USEC_PER_MSEC));
        ASSERT_NOT_NULL(w.agent->removal);
        ASSERT_TRUE(access(w.agent->home->directory, F_OK) < 0);
        file = strdup(w.agent->home->config_path);
        ASSERT_OK(directory_make(w.agent->home->directory, 0700));
        ASSERT_OK(file_write_atomic(file, config, strlen(config), 0600));
        run_until_answered(&w, &removed);
        ASSERT_STREQ(removed.error, "");
        ASSERT_EQ(w.manager.n_agents, 1);
        ASSERT_FALSE(w.manager.agents[0]->removing);
        ASSERT_TRUE(access(file, F_OK) >= 0);
        ASSERT_EQ(w.n_starts, 1);
}

TEST(nothing_is_done_with_what_is_being_removed) {
        static const struct {
                const char *method, *text;
        } t[] = {
                { "Start", NULL }, { "Resume", NULL }, { "Pause", NULL }, { "Restart", NULL }, { "Refresh", NULL },
                { "Delete", NULL }, { "Archive", NULL }, { "Connect", "/tmp" }, { "WriteProfile", "new" },
                { "SetDisplayName", "new" }, { "GetTurn", "t-1" },
        };
        _cleanup_(answer_done) Answer removed = {};
        _cleanup_(world_done) World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        call(&w, "Delete", &removed);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(answer_done) Answer answer = {};

                if (t[i].text)
                        call_with_text(&w, t[i].method, t[i].text, &answer);
                else
                        call(&w, t[i].method, &answer);
                ASSERT_EQ(answer.n, 1);
                ASSERT_STREQ(answer.error, PUFFO_ERROR_NO_SUCH_AGENT);
        }
        ASSERT_EQ(removed.n, 0);
}

TEST(callers_are_bounded) {
        _cleanup_(answer_done) Answer answer = {};
        _cleanup_(world_done) World w;

        world_init(&w);
        run(&w);
        for (unsigned i = 0; i < 200; i++) {
                _cleanup_bus_message_ sd_bus_message *m = new_call(&w, "Start");

                ASSERT_OK(sd_bus_call_async(w.systemd, NULL, m, on_answer, &answer, 0));
        }
        run(&w);
        ASSERT_EQ(answer.n, 200 - w.agent->n_pending);
        ASSERT_TRUE(w.agent->n_pending >= 64 && w.agent->n_pending < 200);
        ASSERT_STREQ(answer.error, SD_BUS_ERROR_LIMITS_EXCEEDED);

        /* Who has been answered makes room. */
        let_time_out(&w, PENDING_READY);
        ASSERT_EQ(answer.n, 200 - w.agent->n_pending);
        call(&w, "Start", &answer);
        ASSERT_EQ(answer.n, 201 - w.agent->n_pending);
}

typedef struct Turns {
        Answer answer;
        unsigned number, *n_answered;
        bool in_order;
} Turns;

static int on_turn(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Turns *t = userdata;

        t->in_order = (*t->n_answered)++ == t->number;
        return on_answer(m, &t->answer, reterr_error);
}

/* A question, say, and behind it that it is not asked any more. */
TEST(calls_wait_in_order) {
        unsigned n_answered = 0;
        Turns t[4] = {};
        World w;

        world_init(&w);
        w.active = "active";
        run(&w);
        ASSERT_EQ((int) w.agent->state, (int) AGENT_STARTING);
        for (unsigned i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_bus_message_ sd_bus_message *m = new_call(&w, "GetTurn");

                t[i].number = i;
                t[i].n_answered = &n_answered;
                ASSERT_OK(sd_bus_message_append(m, "s", "t-1"));
                ASSERT_OK(sd_bus_call_async(w.systemd, NULL, m, on_turn, t + i, 0));
        }
        run(&w);
        ASSERT_EQ(w.agent->n_pending, ELEMENTSOF(t));
        ASSERT_EQ(n_answered, 0);

        /* What they wait for has come to nothing, which each of them is told in its turn. */
        w.agent->config->running = false;
        unit_goes(&w);
        ASSERT_EQ(n_answered, ELEMENTSOF(t));
        for (unsigned i = 0; i < ELEMENTSOF(t); i++) {
                ASSERT_TRUE(t[i].in_order);
                ASSERT_STREQ(t[i].answer.error, PUFFO_ERROR_NOT_READY);
                answer_done(&t[i].answer);
        }
        world_done(&w);
}

#define TEST_SUITE "pending"
TEST_MAIN();
