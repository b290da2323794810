/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"
#include "model.h"
#include "session-config.h"

/* What an agent may use of its models: limits.tokens_per_hour and limits.cost_per_day of agent.yml, against what
 * messages.db remembers of its calls. Hours and days are those of UTC. A call under way is never cut: the limit holds
 * from the next one on. */
typedef struct Budget Budget;

typedef enum BudgetKind {
        BUDGET_TOKENS,          /* of this hour: input, cached or not, and output */
        BUDGET_COST,            /* of this day */
        _BUDGET_KIND_MAX,
        _BUDGET_KIND_INVALID = -EINVAL,
} BudgetKind;

/* What is used up. */
typedef struct BudgetVerdict {
        BudgetKind kind;
        uint64_t limit, used;           /* tokens, or µ$ */
        uint64_t since_usec, until_usec;        /* realtime: the hour or day, and when there is some again */
} BudgetVerdict;

typedef struct BudgetSpec {
        Database *db;                   /* borrowed */
        /* A limit was reached: once for each hour or day and process. Called by budget_add(), from nowhere else. May
         * be NULL. */
        void (*on_exceeded)(Budget *b, const BudgetVerdict *v, void *userdata);
        uint64_t (*now)(void);          /* realtime µs; NULL: the clock */
        void *userdata;
} BudgetSpec;

/* No limits until budget_configure(). */
int budget_new(Budget **ret, const BudgetSpec *spec);
Budget* budget_free(Budget *b);
DEFINE_TRIVIAL_CLEANUP_FUNC(Budget*, budget_free);

/* Limits and prices as of now. > 0: the limits are others than before. -ENOMEM. */
int budget_configure(Budget *b, const SessionConfig *config);

/* What a call costs by the prices of the configuration, in µ$. Where it names none for the model: 0, or with
 * limits.cost_per_day what it would cost by the highest of its prices. */
uint64_t budget_price(const Budget *b, const char *model, const ModelUsage *u);

/* One call of a model. cost_micro: what it cost as far as anybody knows; 0: budget_price(). *ret_cost_micro (may be
 * NULL): what was counted. */
int budget_add(Budget *b, const char *model, const ModelUsage *u, uint64_t cost_micro, uint64_t *ret_cost_micro);
/* A cost that a CLI has reported besides, for calls that were counted without one. */
int budget_add_cost(Budget *b, const char *model, uint64_t cost_micro);

/* What could not be stored, or not with what belongs to it: it counts all the same, and is stored by budget_check() as
 * soon as it can be. cost_micro as budget_add()'s. */
void budget_owe(Budget *b, const char *model, const ModelUsage *u, uint64_t cost_micro);

/* 0: there is budget left. > 0: not before ret->until_usec. ret may be NULL. */
int budget_check(Budget *b, BudgetVerdict *ret);

/* For people, one line: "the agent has used 1000000 of its 1000000 tokens for this hour (limits.tokens_per_hour); …".
 * NULL when out of memory. */
char* budget_verdict_to_text(const BudgetVerdict *v);

/* budget_check() for a turn. > 0: it is not carried out, *ret_why is as above and *ret_message the sentence that it is
 * answered with. b may be NULL: nothing is limited. */
int budget_refuses(Budget *b, char **ret_why, char **ret_message);
