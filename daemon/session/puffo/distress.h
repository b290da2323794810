/* SPDX-License-Identifier: MIT */
#pragma once

#include "session-config.h"

/* An agent whose database cannot be opened is deaf: it has no connection to the chat service, where messages wait for
 * it. Its people see in its status that it is there and why it does not answer, by a heartbeat now and then. */
typedef struct Distress Distress;

/* > 0: it is told. 0: there is nobody to be told, or no way; what is wrong with keys or configuration is in the log.
 * -ENOMEM. error_text: one line. */
int distress_new(Distress **ret, sd_event *event, const SessionConfig *config, const char *error_text);
Distress* distress_free(Distress *d);
DEFINE_TRIVIAL_CLEANUP_FUNC(Distress*, distress_free);
