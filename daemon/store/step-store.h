/* SPDX-License-Identifier: MIT */
#pragma once

#include "database.h"

/* What a turn has done so far with tools, so that one that is cut short goes on where it was: nothing that has been
 * done is done a second time. Belongs to the turn's row and goes with it. */

typedef struct StoredCall {
        char *call, *name, *arguments;  /* as the model gave them; never NULL */
        bool done;
        char *result;                   /* "" until then */
        bool is_error;
} StoredCall;

/* One reply of the model that calls tools; or, without calls, a message that a CLI has completed. */
typedef struct StoredStep {
        char *text, *item;              /* what it said, and the message it said it as; "": nothing */
        char *opaque;                   /* ModelMessage.opaque; "": nothing */
        StoredCall *calls;
        size_t n_calls;
        bool callless;                  /* in lists: it was stored without calls, and so none are missing */
} StoredStep;
void stored_step_done(StoredStep *s);
void stored_steps_free(StoredStep *steps, size_t n);

/* Before the first of its calls is made. Results are not looked at. */
int step_store_add(Database *db, int64_t turn, size_t step, const StoredStep *s);
/* -ESTALE: there is no such call. */
int step_store_finish_call(Database *db, int64_t turn, size_t step, size_t position, const char *result,
                           bool is_error);
/* In their order. -EUCLEAN: one is missing. */
int step_store_list(Database *db, int64_t turn, StoredStep **ret, size_t *ret_n);
/* Of a turn, or (0) of all that are no longer there. */
int step_store_delete(Database *db, int64_t turn);
