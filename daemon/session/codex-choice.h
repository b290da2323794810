/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"
#include "session-config.h"

/* The operator's real home; NULL: there is none, as in system mode. *ret is the caller's. -ENOMEM. */
int operator_home(char **ret);

/* Decides for a role agent that names no kind whether it works with Codex (agent-proxy §4.2), and gives an agent that
 * does what it needs of the credential, the settings and the operator's login. -ENOMEM. */
int codex_choose(SessionConfig *c, json_object *credential);
