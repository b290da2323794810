/* SPDX-License-Identifier: MIT */
#pragma once

#include "gateway.h"

/* Who reads GET /agents/events: the agents at once, then each change of one and each request for permission, as they
 * come from the bus. One timer keeps all connections alive; a subscriber that waits costs nothing but its connection.
 */
int feed_new(Feed **ret, Gateway *g);
/* All subscribers have gone. */
Feed* feed_free(Feed *f);
DEFINE_TRIVIAL_CLEANUP_FUNC(Feed*, feed_free);

/* c, which reads along, has ended: it is told nothing more. */
void feed_unsubscribe(Feed *f, Call *c);
/* c gets what is on its way, then the end. */
void feed_end(Call *c);
