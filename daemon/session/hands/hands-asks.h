/* SPDX-License-Identifier: MIT */
#pragma once

#include "approvals.h"
#include "harness.h"

/* What the CLI asks leave for in the running turn: each question goes to the approvals, and the answer back to it,
 * whoever of us was there when it was asked. */
typedef struct HandsAsks HandsAsks;

int hands_asks_new(HandsAsks **ret);
HandsAsks* hands_asks_free(HandsAsks *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(HandsAsks*, hands_asks_free);

/* The turn that it is about, and who is to be told: approvals and driver are borrowed until hands_asks_end(). run
 * names the CLI's process: another one's questions are others, whatever ids it gives them. taken_over: what it has
 * asked before and not been told is waited for. -EUCLEAN and other errors of the database, -ENOMEM. */
int hands_asks_begin(HandsAsks *a, Approvals *approvals, Harness *driver, const char *run, const char *turn,
                     bool taken_over);
/* The questions of the turn are of no interest any more. */
void hands_asks_end(HandsAsks *a);

/* Handlers of the driver. What cannot be asked is refused. */
int hands_asks_ask(HandsAsks *a, const HarnessAsk *ask);
void hands_asks_withdraw(HandsAsks *a, const char *id);
/* Somebody is to answer: the CLI's silence is no wonder. */
bool hands_asks_pending(const HandsAsks *a);
