/* SPDX-License-Identifier: MIT */
#pragma once

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "approval-store.h"

typedef struct Session Session;

/* The connection to puffod: kept up for ever, at once after a loss, with growing pauses while nobody listens. Turns
 * do not depend on it. */
typedef struct ManagerLink ManagerLink;

/* socket: puffod's private socket. session is borrowed and must outlive the link. */
int manager_link_new(ManagerLink **ret, Session *session, const char *socket);
ManagerLink* manager_link_free(ManagerLink *l);
DEFINE_TRIVIAL_CLEANUP_FUNC(ManagerLink*, manager_link_free);

/* Tells that it was answered; nobody when there is no connection. */
void manager_link_approval_answered(ManagerLink *l, const ApprovalRow *row);

/* Sends the whole state soon; several changes become one report. */
void manager_link_report(ManagerLink *l);
/* Before anything else that is said on this connection from now on. */
void manager_link_report_now(ManagerLink *l);

/* A call of one of puffod's methods (dbus/ai.puffo.Private1.Manager.xml), to be filled in and sent. -ENOTCONN: we are
 * not registered now; session_on_connected() tells when we are. The answer to a call whose connection is lost is the
 * error NoReply. */
int manager_link_new_call(ManagerLink *l, const char *member, sd_bus_message **ret);
int manager_link_call(ManagerLink *l, sd_bus_message *m, sd_bus_message_handler_t callback, void *userdata,
                      uint64_t timeout_usec, sd_bus_slot **ret);
