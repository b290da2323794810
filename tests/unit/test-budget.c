/* SPDX-License-Identifier: MIT */

#include "budget.h"
#include "file-util.h"
#include "string-util.h"
#include "tests.h"
#include "usage-store.h"

#define HOUR (3600 * USEC_PER_SEC)
/* 2026-03-04 22:30 UTC. */
#define EVENING ((uint64_t) 1772663400 * USEC_PER_SEC)

static uint64_t now_usec;

static uint64_t now(void) {
        return now_usec;
}

typedef struct Fixture {
        char *directory, *path;
        Database *db;
        Budget *budget;
        unsigned n_told;
        BudgetVerdict told;
} Fixture;

static void on_exceeded(Budget *b, const BudgetVerdict *v, void *userdata) {
        Fixture *f = userdata;

        f->n_told++;
        f->told = *v;
}

static void fixture_done(Fixture *f) {
        (void) budget_free(f->budget);
        (void) database_free(f->db);
        (void) directory_remove(f->directory);
        free(f->path);
        free(f->directory);
}
#define _fixture_ _cleanup_(fixture_done)

static void budget_open(Fixture *f, uint64_t tokens_per_hour, uint64_t cost_per_day_micro) {
        AgentConfig agent = { .tokens_per_hour = tokens_per_hour, .cost_per_day_micro = cost_per_day_micro };
        Price prices[] = { { (char*) "priced", 3, 15, 0.3, 3.75 }, { (char*) "other-priced", 5, 1, 0, 1 } };
        SessionConfig config = { .agent = &agent, .prices = { prices, ELEMENTSOF(prices) } };

        f->budget = budget_free(f->budget);
        ASSERT_OK(budget_new(&f->budget, &(BudgetSpec) {
                .db = f->db, .on_exceeded = on_exceeded, .now = now, .userdata = f,
        }));
        ASSERT_OK(budget_configure(f->budget, &config));
}

static Fixture fixture_new(void) {
        Fixture f = {};
        char template[] = "/tmp/puffo-test-budget-XXXXXX";

        now_usec = EVENING;
        ASSERT_NOT_NULL(mkdtemp(template));
        f.directory = strdup(template);
        f.path = strjoin(template, "/messages.db");
        ASSERT_EQ(database_open(&f.db, f.path, NULL), 0);
        return f;
}

static const ModelUsage some = { .input_tokens = 600, .cached_tokens = 400, .cache_write_tokens = 100,
                                 .output_tokens = 400, .reasoning_tokens = 50 };

TEST(no_limits) {
        _fixture_ Fixture f = fixture_new();

        budget_open(&f, UINT64_MAX, UINT64_MAX);
        for (unsigned i = 0; i < 100; i++)
                ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
        ASSERT_EQ(f.n_told, 0);
}

TEST(tokens_of_an_hour) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_free_ char *text = NULL, *why = NULL, *message = NULL;
        BudgetVerdict v;

        budget_open(&f, 2000, UINT64_MAX);
        ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        ASSERT_EQ(budget_check(f.budget, &v), 0);
        ASSERT_EQ(budget_refuses(f.budget, &why, &message), 0);
        ASSERT_EQ(budget_refuses(NULL, &why, &message), 0);
        ASSERT_NULL(message);
        ASSERT_EQ(f.n_told, 0);
        ASSERT_OK(budget_add(f.budget, "other", &some, 0, NULL));
        ASSERT_EQ(f.n_told, 1);
        ASSERT_EQ(budget_check(f.budget, &v), 1);
        ASSERT_EQ(v.kind, BUDGET_TOKENS);
        ASSERT_EQ(v.used, 2000);
        ASSERT_EQ(v.until_usec, EVENING + HOUR / 2);
        text = budget_verdict_to_text(&v);
        ASSERT_STREQ(text, "the agent has used 2000 of its 2000 tokens for this hour (limits.tokens_per_hour); more "
                           "at 2026-03-04 23:00 UTC");
        ASSERT_EQ(budget_refuses(f.budget, &why, &message), 1);
        ASSERT_STREQ(why, text);
        ASSERT_STREQ(message, "The budget is used up: the agent has used 2000 of its 2000 tokens for this hour "
                              "(limits.tokens_per_hour); more at 2026-03-04 23:00 UTC.");

        /* What was under way still ends, and counts. Nobody is told twice. */
        ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        ASSERT_EQ(f.n_told, 1);

        now_usec += HOUR / 2 - 1;
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        now_usec += 1;
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
        ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        ASSERT_EQ(f.n_told, 2);
}

TEST(holds_over_restarts) {
        _fixture_ Fixture f = fixture_new();

        budget_open(&f, 1000, UINT64_MAX);
        ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        budget_open(&f, 1000, UINT64_MAX);
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        /* A higher one holds at once. */
        budget_open(&f, 1001, UINT64_MAX);
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
}

TEST(cost_of_a_day) {
        _fixture_ Fixture f = fixture_new();
        _cleanup_free_ char *text = NULL;
        BudgetVerdict v;
        uint64_t cost;

        /* 100 plain, 400 cached, 100 written to the cache, 400 of output. */
        budget_open(&f, UINT64_MAX, 13590);
        ASSERT_OK(budget_add(f.budget, "priced-20260101", &some, 0, &cost));
        ASSERT_EQ(cost, 300 + 120 + 375 + 6000);
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
        now_usec += HOUR;
        ASSERT_OK(budget_add(f.budget, "priced", &some, 0, NULL));
        ASSERT_EQ(budget_check(f.budget, &v), 1);
        ASSERT_EQ(v.kind, BUDGET_COST);
        ASSERT_EQ(v.until_usec, EVENING + HOUR + HOUR / 2);
        ASSERT_EQ(f.n_told, 1);
        text = budget_verdict_to_text(&v);
        ASSERT_STREQ(text, "the agent has used $0.01 of its $0.01 for this day (limits.cost_per_day); more at "
                           "2026-03-05 00:00 UTC");
        now_usec += HOUR / 2;
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
}

/* It could choose a model that nobody has thought of. */
TEST(a_model_without_a_price_is_not_free) {
        _fixture_ Fixture f = fixture_new();
        uint64_t cost;

        budget_open(&f, UINT64_MAX, UINT64_MAX);
        ASSERT_OK(budget_add(f.budget, "unpriced", &some, 0, &cost));
        ASSERT_EQ(cost, 0);
        budget_open(&f, UINT64_MAX, 6995);
        ASSERT_OK(budget_add(f.budget, "unpriced", &some, 0, &cost));
        ASSERT_EQ(cost, 500 + 120 + 375 + 6000);
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
}

TEST(cost_that_a_cli_reports) {
        _fixture_ Fixture f = fixture_new();
        uint64_t cost;

        budget_open(&f, UINT64_MAX, 1000000);
        ASSERT_OK(budget_add(f.budget, "priced", &some, 400000, &cost));
        ASSERT_EQ(cost, 400000);
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
        ASSERT_OK(budget_add_cost(f.budget, "unpriced", 600000));
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        ASSERT_EQ(f.n_told, 1);
}

TEST(both_limits) {
        _fixture_ Fixture f = fixture_new();
        BudgetVerdict v;

        budget_open(&f, 1, 1);
        ASSERT_OK(budget_add(f.budget, "priced", &some, 0, NULL));
        ASSERT_EQ(f.n_told, 2);
        ASSERT_EQ(budget_check(f.budget, &v), 1);
        ASSERT_EQ(v.kind, BUDGET_COST);
}

/* As when the disk is full. */
static void break_store(Fixture *f) {
        ASSERT_OK(database_exec(f->db, "CREATE TRIGGER full BEFORE INSERT ON model_usage BEGIN "
                                       "SELECT RAISE(ABORT, 'full'); END"));
}

static uint64_t used(Fixture *f) {
        TurnUsage u;

        ASSERT_OK(usage_store_sum(f->db, 0, &u));
        return u.input_tokens + u.output_tokens;
}

TEST(what_cannot_be_stored_counts) {
        _fixture_ Fixture f = fixture_new();

        budget_open(&f, 3000, UINT64_MAX);
        ASSERT_OK(budget_add(f.budget, "m", &some, 0, NULL));
        break_store(&f);
        for (unsigned i = 0; i < 2; i++) {
                ASSERT_TRUE(budget_add(f.budget, "m", &some, 0, NULL) < 0);
                ASSERT_EQ(budget_check(f.budget, NULL), 0);
                budget_owe(f.budget, "m", &some, 0);
        }
        ASSERT_EQ(f.n_told, 1);
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        ASSERT_EQ(used(&f), 1000);

        ASSERT_OK(database_exec(f.db, "DROP TRIGGER full"));
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        ASSERT_EQ(used(&f), 3000);
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        ASSERT_EQ(used(&f), 3000);
        now_usec += HOUR;
        ASSERT_EQ(budget_check(f.budget, NULL), 0);
}

/* What is too much to be true is no reason not to count it. */
TEST(nonsense_is_owed) {
        static const ModelUsage odd = { .input_tokens = UINT64_MAX, .output_tokens = UINT64_MAX };
        _fixture_ Fixture f = fixture_new();

        budget_open(&f, 1000, UINT64_MAX);
        for (unsigned i = 0; i < 3; i++)
                budget_owe(f.budget, "m", &odd, 0);
        ASSERT_EQ(budget_check(f.budget, NULL), 1);
        ASSERT_TRUE(used(&f) > 1000);
}

TEST(nonsense_of_a_provider) {
        _fixture_ Fixture f = fixture_new();
        static const ModelUsage odd = { .input_tokens = 1, .cached_tokens = 1000, .cache_write_tokens = 1000 };

        budget_open(&f, 100, UINT64_MAX);
        ASSERT_EQ(budget_price(f.budget, "priced", &odd), 3750);
        ASSERT_ERROR(budget_add(f.budget, "priced", &(ModelUsage) { .output_tokens = UINT64_MAX }, 0, NULL), ERANGE);
}

#define TEST_SUITE "budget"
TEST_MAIN();
