/* SPDX-License-Identifier: MIT */

#include <time.h>

#include "budget.h"
#include "event-util.h"
#include "log.h"
#include "string-util.h"
#include "usage-store.h"

#define USEC_PER_HOUR (3600 * USEC_PER_SEC)
#define HOURS_PER_DAY 24U
/* A sum of what is owed must be one that can be stored. */
#define OWED_MAX (INT64_MAX / 1000000)
/* What is stored of usage is forgotten after so long. */
#define KEPT_HOURS (400U * HOURS_PER_DAY)

static const struct { const char *key; uint64_t hours; } kinds[_BUDGET_KIND_MAX] = {
        [BUDGET_TOKENS] = { "limits.tokens_per_hour", 1 },
        [BUDGET_COST] = { "limits.cost_per_day", HOURS_PER_DAY },
};

struct Budget {
        BudgetSpec spec;
        uint64_t limits[_BUDGET_KIND_MAX];      /* UINT64_MAX: none */
        PriceList prices;
        uint64_t told[_BUDGET_KIND_MAX];        /* the hour or day that was told of; UINT64_MAX: none */
        uint64_t swept_hour;
        TurnUsage owed;                         /* to the database, since it could not take it */
        uint64_t n_owed, owed_hour;             /* calls; of the latest */
        char *owed_model;
        char *unpriced;                         /* the latest model that was said to have no price */
};

int budget_new(Budget **ret, const BudgetSpec *spec) {
        Budget *b = new0(Budget, 1);

        if (!b)
                return -ENOMEM;
        b->spec = *spec;
        for (size_t i = 0; i < _BUDGET_KIND_MAX; i++)
                b->limits[i] = b->told[i] = UINT64_MAX;
        *ret = b;
        return 0;
}

Budget* budget_free(Budget *b) {
        if (!b)
                return NULL;

        price_list_done(&b->prices);
        free(b->unpriced);
        free(b->owed_model);
        return mfree(b);
}

int budget_configure(Budget *b, const SessionConfig *config) {
        const AgentConfig *a = config->agent;
        const uint64_t limits[_BUDGET_KIND_MAX] = {
                [BUDGET_TOKENS] = a ? a->tokens_per_hour : UINT64_MAX,
                [BUDGET_COST] = a ? a->cost_per_day_micro : UINT64_MAX,
        };
        bool changed = memcmp(limits, b->limits, sizeof(limits)) != 0;
        PriceList prices = {};
        int r = price_list_extend(&prices, &config->prices);

        if (r < 0) {
                price_list_done(&prices);
                return r;
        }
        price_list_done(&b->prices);
        b->prices = prices;
        memcpy(b->limits, limits, sizeof(limits));
        return changed;
}

/* Of all that is listed the highest, kind by kind: a CLI asks for whatever model it likes, and one without a price
 * would get it past the limit. */
static Price highest_price(const Budget *b) {
        Price p = {};

        for (size_t i = 0; i < b->prices.n; i++) {
                const Price *q = b->prices.prices + i;

                p.input = MAX(p.input, q->input);
                p.output = MAX(p.output, q->output);
                p.cache_read = MAX(p.cache_read, q->cache_read);
                p.cache_write = MAX(p.cache_write, q->cache_write);
        }
        return p;
}

uint64_t budget_price(const Budget *b, const char *model, const ModelUsage *u) {
        const Price *p = price_list_find(&b->prices, model);
        uint64_t cached, plain;
        Price highest;
        double cost;

        if (!p && b->limits[BUDGET_COST] == UINT64_MAX)
                return 0;
        if (!p) {
                highest = highest_price(b);
                p = &highest;
        }
        /* A provider's counts are only as good as the provider. */
        cached = MIN(u->cached_tokens, u->input_tokens);
        plain = u->input_tokens - cached;
        plain -= MIN(u->cache_write_tokens, plain);
        cost = (double) plain * p->input + (double) cached * p->cache_read +
               (double) u->cache_write_tokens * p->cache_write + (double) u->output_tokens * p->output;
        return (uint64_t) (MIN(cost, 9e12) + 0.5);
}

static uint64_t now_hour(const Budget *b) {
        return (b->spec.now ? b->spec.now() : now_realtime_usec()) / USEC_PER_HOUR;
}

static int look(Budget *b, BudgetKind kind, BudgetVerdict *ret) {
        uint64_t hour = now_hour(b), since = hour - hour % kinds[kind].hours;
        TurnUsage u, owed = b->n_owed > 0 && b->owed_hour >= since ? b->owed : (TurnUsage) {};
        int r;

        if (b->limits[kind] == UINT64_MAX)
                return 0;
        r = usage_store_sum(b->spec.db, since, &u);
        if (r < 0)
                return r;
        *ret = (BudgetVerdict) {
                .kind = kind,
                .limit = b->limits[kind],
                .used = kind == BUDGET_TOKENS
                                ? u.input_tokens + owed.input_tokens + u.output_tokens + owed.output_tokens
                                : u.cost_micro + owed.cost_micro,
                .since_usec = since * USEC_PER_HOUR,
                .until_usec = (since + kinds[kind].hours) * USEC_PER_HOUR,
        };
        return ret->used >= ret->limit;
}

static void settle(Budget *b) {
        if (b->n_owed == 0 ||
            usage_store_add(b->spec.db, b->owed_hour, strempty(b->owed_model), b->n_owed, &b->owed) < 0)
                return;
        b->n_owed = 0;
        b->owed = (TurnUsage) {};
}

/* Of several, the one that holds longest: the day's. */
int budget_check(Budget *b, BudgetVerdict *ret) {
        BudgetVerdict v;
        int r = 0;

        settle(b);
        for (size_t i = _BUDGET_KIND_MAX; i > 0 && r == 0; i--)
                r = look(b, (BudgetKind) (i - 1), &v);
        if (r > 0 && ret)
                *ret = v;
        return r;
}

static int tell(Budget *b) {
        for (size_t i = 0; i < _BUDGET_KIND_MAX; i++) {
                BudgetVerdict v;
                int r = look(b, (BudgetKind) i, &v);

                if (r < 0)
                        return r;
                if (r == 0 || b->told[i] == v.since_usec)
                        continue;
                b->told[i] = v.since_usec;
                if (b->spec.on_exceeded)
                        b->spec.on_exceeded(b, &v, b->spec.userdata);
        }
        return 0;
}

static TurnUsage usage_of(const Budget *b, const char *model, const ModelUsage *u, uint64_t cost_micro) {
        return (TurnUsage) {
                .input_tokens = u->input_tokens, .cached_tokens = u->cached_tokens,
                .cache_write_tokens = u->cache_write_tokens, .output_tokens = u->output_tokens,
                .reasoning_tokens = u->reasoning_tokens, .cost_micro = cost_micro ?: budget_price(b, model, u),
        };
}

void budget_owe(Budget *b, const char *model, const ModelUsage *u, uint64_t cost_micro) {
        TurnUsage t = usage_of(b, model, u, cost_micro), *o = &b->owed;
        const struct { uint64_t *sum, n; } sums[] = {
                { &o->input_tokens, t.input_tokens }, { &o->cached_tokens, t.cached_tokens },
                { &o->cache_write_tokens, t.cache_write_tokens }, { &o->output_tokens, t.output_tokens },
                { &o->reasoning_tokens, t.reasoning_tokens }, { &o->cost_micro, t.cost_micro },
        };

        for (size_t i = 0; i < ELEMENTSOF(sums); i++)
                *sums[i].sum = MIN(*sums[i].sum + MIN(sums[i].n, (uint64_t) OWED_MAX), (uint64_t) OWED_MAX);
        b->n_owed++;
        b->owed_hour = now_hour(b);
        (void) free_and_strdup(&b->owed_model, model);
        (void) tell(b);
}

static int add(Budget *b, const char *model, uint64_t calls, const TurnUsage *u) {
        uint64_t hour = now_hour(b);
        int r;

        if (hour != b->swept_hour) {
                b->swept_hour = hour;
                r = usage_store_delete(b->spec.db, hour > KEPT_HOURS ? hour - KEPT_HOURS : 0);
                if (r < 0)
                        return r;
        }
        r = usage_store_add(b->spec.db, hour, model, calls, u);
        if (r < 0)
                return r;
        r = tell(b);
        if (r < 0)      /* it is stored, and counts */
                (void) log_warning_errno(r, "Whether the budget is used up could not be looked up: %m");
        return 0;
}

/* A limit that does not hold as somebody thinks it does is worth a word. */
static void tell_unpriced(Budget *b, const char *model) {
        _cleanup_free_ char *shown = NULL;

        if (b->limits[BUDGET_COST] == UINT64_MAX || price_list_find(&b->prices, model) ||
            streq_ptr(b->unpriced, model))
                return;
        shown = str_printable(model, 100);
        if (!shown || free_and_strdup(&b->unpriced, model) < 0)
                return;
        log_warning("There is no price for the model '%s': name it in 'pricing'. Until then %s.", shown,
                    b->prices.n > 0 ? "it counts as the dearest of those that are named"
                                    : "limits.cost_per_day holds only for what a CLI itself says it has cost");
}

int budget_add(Budget *b, const char *model, const ModelUsage *u, uint64_t cost_micro, uint64_t *ret_cost_micro) {
        TurnUsage t = usage_of(b, model, u, cost_micro);

        if (ret_cost_micro)
                *ret_cost_micro = t.cost_micro;
        if (cost_micro == 0)
                tell_unpriced(b, model);
        return add(b, model, 1, &t);
}

int budget_add_cost(Budget *b, const char *model, uint64_t cost_micro) {
        return add(b, model, 0, &(TurnUsage) { .cost_micro = cost_micro });
}

char* budget_verdict_to_text(const BudgetVerdict *v) {
        time_t until = (time_t) (v->until_usec / USEC_PER_SEC);
        char when[32] = "later";
        struct tm tm;

        if (gmtime_r(&until, &tm))
                (void) strftime(when, sizeof(when), "%Y-%m-%d %H:%M UTC", &tm);
        if (v->kind == BUDGET_TOKENS)
                return asprintf_new("the agent has used %" PRIu64 " of its %" PRIu64 " tokens for this hour (%s); "
                                    "more at %s", v->used, v->limit, kinds[v->kind].key, when);
        return asprintf_new("the agent has used $%.2f of its $%.2f for this day (%s); more at %s",
                            (double) v->used / 1e6, (double) v->limit / 1e6, kinds[v->kind].key, when);
}

int budget_refuses(Budget *b, char **ret_why, char **ret_message) {
        _cleanup_free_ char *why = NULL, *message = NULL;
        BudgetVerdict v;
        int r;

        r = b ? budget_check(b, &v) : 0;
        if (r <= 0)
                return r;
        why = budget_verdict_to_text(&v);
        message = why ? strjoin("The budget is used up: ", why, ".") : NULL;
        if (!message)
                return -ENOMEM;
        *ret_why = TAKE_PTR(why);
        *ret_message = TAKE_PTR(message);
        return 1;
}
