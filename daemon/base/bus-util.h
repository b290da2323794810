/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>

#include "macro.h"

#define _cleanup_bus_message_ _cleanup_(sd_bus_message_unrefp)
#define _cleanup_bus_error_ _cleanup_(sd_bus_error_free)

/* The public bus API; the contract is dbus/ai.puffo.Agents1.*.xml. */
#define PUFFO_BUS_NAME "ai.puffo.Agents1"
#define PUFFO_BUS_PATH "/ai/puffo/Agents1"
#define PUFFO_BUS_AGENT_PREFIX "/ai/puffo/Agents1/agent"
#define PUFFO_BUS_PAIRING_PATH "/ai/puffo/Agents1/pairing"
#define PUFFO_BUS_MANAGER_INTERFACE "ai.puffo.Agents1.Manager"
#define PUFFO_BUS_AGENT_INTERFACE "ai.puffo.Agents1.Agent"
#define PUFFO_BUS_PAIRING_INTERFACE "ai.puffo.Agents1.Pairing"

/* Between puffod and its sessions, peer to peer over the private socket; contract: dbus/ai.puffo.Private1.*.xml. */
#define PUFFO_PRIVATE_MANAGER_PATH "/ai/puffo/Private1"
#define PUFFO_PRIVATE_MANAGER_INTERFACE "ai.puffo.Private1.Manager"
#define PUFFO_PRIVATE_SESSION_PATH "/ai/puffo/Private1/session"
#define PUFFO_PRIVATE_SESSION_INTERFACE "ai.puffo.Private1.Session"

#define PUFFO_BUS_ERROR(name) "ai.puffo.Agents1.Error." name
#define PUFFO_ERROR_INVALID_NAME PUFFO_BUS_ERROR("InvalidName")
#define PUFFO_ERROR_INVALID_ARGUMENT PUFFO_BUS_ERROR("InvalidArgument")
#define PUFFO_ERROR_INVALID_CONFIG PUFFO_BUS_ERROR("InvalidConfig")
#define PUFFO_ERROR_NO_SUCH_AGENT PUFFO_BUS_ERROR("NoSuchAgent")
#define PUFFO_ERROR_AGENT_EXISTS PUFFO_BUS_ERROR("AgentExists")
#define PUFFO_ERROR_AGENT_LIMIT PUFFO_BUS_ERROR("AgentLimit")
#define PUFFO_ERROR_NOT_READY PUFFO_BUS_ERROR("NotReady")
#define PUFFO_ERROR_QUEUE_FULL PUFFO_BUS_ERROR("QueueFull")
#define PUFFO_ERROR_NO_SUCH_TURN PUFFO_BUS_ERROR("NoSuchTurn")
#define PUFFO_ERROR_TURN_RUNNING PUFFO_BUS_ERROR("TurnRunning")
#define PUFFO_ERROR_STREAM_GONE PUFFO_BUS_ERROR("StreamGone")
#define PUFFO_ERROR_NO_SUCH_FILE PUFFO_BUS_ERROR("NoSuchFile")
#define PUFFO_ERROR_NOT_PAIRED PUFFO_BUS_ERROR("NotPaired")
#define PUFFO_ERROR_HARNESS_RUNNING PUFFO_BUS_ERROR("HarnessRunning")
#define PUFFO_ERROR_SANDBOX_UNAVAILABLE PUFFO_BUS_ERROR("SandboxUnavailable")
#define PUFFO_ERROR_NO_SUCH_APPROVAL PUFFO_BUS_ERROR("NoSuchApproval")
#define PUFFO_ERROR_ALREADY_ANSWERED PUFFO_BUS_ERROR("AlreadyAnswered")
#define PUFFO_ERROR_FAILED PUFFO_BUS_ERROR("Failed")

/* sd-bus refuses to send what is no UTF-8 or holds noncharacters, and a handler whose error cannot be sent costs us
 * the connection: no text with bytes from files or peers, or that "%.80s" may have cut, goes past these. */

/* As sd_bus_error_setf(), with the text made printable and cut after 2000 characters. */
int bus_error_setf(sd_bus_error *e, const char *name, const char *format, ...) _printf_(3, 4);
/* Answers call with such an error. */
int bus_reply_errorf(sd_bus_message *call, const char *name, const char *format, ...) _printf_(3, 4);
/* Appends a string (s; NULL: the empty one) with U+FFFD in the place of what cannot be sent. */
int bus_append_text(sd_bus_message *m, const char *s);
/* The same as an entry {sv} of a dictionary. */
int bus_append_text_entry(sd_bus_message *m, const char *key, const char *s);
/* Appends a variant "as" with its name. entry: 'e' in a dictionary a{sv}, 'r' in an array a(sv). values: NULL for
 * none. */
int bus_append_strings(sd_bus_message *m, char entry, const char *key, char *const *values);

/* For the end of a connection between two peers that is the server, before sd_bus_start(): sd-bus takes what the peer
 * has sent at once behind its authentication for looked at, and leaves it lying until still more comes. *ret is to be
 * freed before the bus. */
int bus_heed_early_calls(sd_bus *bus, sd_event *event, sd_event_source **ret);
