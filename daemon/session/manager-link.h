/* SPDX-License-Identifier: MIT */
#pragma once

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
