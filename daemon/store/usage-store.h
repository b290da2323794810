/* SPDX-License-Identifier: MIT */
#pragma once

#include "turn-store.h"

/* What models were used for, by the hour: budgets hold over restarts, and what a turn used stays known when the turn
 * is forgotten. An hour is a number of hours since 1970. */

/* Adds to what is stored. calls: how many of a model this is the usage of; may be 0 (a cost that is known later). */
int usage_store_add(Database *db, uint64_t hour, const char *model, uint64_t calls, const TurnUsage *u);
/* Of all models together, from this hour on. */
int usage_store_sum(Database *db, uint64_t since_hour, TurnUsage *ret);
/* Forgets hours before this one. */
int usage_store_delete(Database *db, uint64_t before_hour);
