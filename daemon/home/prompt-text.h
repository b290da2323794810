/* SPDX-License-Identifier: MIT */
#pragma once

/* What every agent with a Puffo identity that answers by direct model calls, without tools, is told (agent-runtime
 * §16.2). The first line marks the text as managed. */
extern const char primer_chat_local[];

/* profile.md of a new agent (agent-home §5.3). */
extern const char profile_template[];
