/* SPDX-License-Identifier: MIT */
#pragma once

#include <json-c/json.h>
#include <systemd/sd-bus.h>

/* The arguments of ListApprovals for the open requests of one agent, with what they are about. */
int approvals_append(sd_bus_message *message, const char *agent);
/* Appends an object for each one in the answer to ListApprovals that is still pending; id: only that one, or NULL. */
int approvals_read(sd_bus_message *reply, const char *id, json_object *list);
