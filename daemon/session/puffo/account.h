/* SPDX-License-Identifier: MIT */
#pragma once

#include "server-client.h"
#include "session-config.h"

/* The keys that the agent has on the chat service, and signed calls with them. http is borrowed, and outlives the
 * client; both that are returned are the caller's. -EBADMSG with *reterr: what is wrong with keys or configuration,
 * one line. -ENOMEM. */
int account_open(sd_event *event, HttpClient *http, const SessionConfig *config, Identity **ret_identity,
                 ServerClient **ret_client, char **reterr);
