/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* The sessions' end of puffod: a bus connection each, peer to peer. Who a peer is, its unit and that unit's MainPID
 * say. */

/* listen_fd is taken over, on failure too. */
int private_server_new(PrivateServer **ret, Manager *m, int listen_fd);
PrivateServer* private_server_free(PrivateServer *s);
DEFINE_TRIVIAL_CLEANUP_FUNC(PrivateServer*, private_server_free);
/* Takes no more connections: they are for the next puffod. s may be NULL. */
void private_server_pause(PrivateServer *s);

/* A method call to the session, to be filled in and sent with session_link_call(). */
int session_link_new_call(SessionLink *l, const char *member, sd_bus_message **ret);
int session_link_call(SessionLink *l, sd_bus_message *m, sd_bus_message_handler_t callback, void *userdata,
                      uint64_t timeout_usec);
/* Whether a call can be sent: a connection whose end has been seen is not, while those who wait on it are answered. */
bool session_link_is_up(const SessionLink *l);
/* For calls that their sender may call off. */
sd_bus* session_link_bus(SessionLink *l);
/* Whether a call's error says no more than that there was nobody to answer. */
bool session_connection_was_lost(const sd_bus_error *e);
/* Whose it is, once it has registered; else NULL. */
Agent* session_link_agent(SessionLink *l);
/* The methods that sessions call, at the object that they call them on; l: NULL for introspection. */
int private_server_export(sd_bus *bus, SessionLink *l);
/* The agent is being freed: its connections, registered or not, stay nameless until the session closes them. */
void private_server_forget_agent(PrivateServer *s, Agent *a);
