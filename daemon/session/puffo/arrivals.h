/* SPDX-License-Identifier: MIT */
#pragma once

#include "envelope.h"

/* What the journal is told of messages once they are stored for good: of one by itself as much as there is to say, of
 * many that were committed together in as few lines as name all of them. */
typedef struct Arrivals Arrivals;

int arrivals_new(Arrivals **ret);
Arrivals* arrivals_free(Arrivals *a);
DEFINE_TRIVIAL_CLEANUP_FUNC(Arrivals*, arrivals_free);

/* -ENOMEM: it will be missing in the journal. */
int arrivals_add(Arrivals *a, const Message *m, bool queued);
/* They are stored. */
void arrivals_log(Arrivals *a);
/* They are not. */
void arrivals_clear(Arrivals *a);
