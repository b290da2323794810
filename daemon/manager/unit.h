/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* Agents as transient units: everything that is asked of the service manager. All asynchronous. */

/* Matches JobRemoved and unit changes, subscribes, finds units that run already. */
int units_watch(Manager *m);

/* Looks at the session unit again; agent_evaluate() follows. */
void agent_refresh_unit(Agent *a);
/* Slice properties, then StartTransientUnit. */
int agent_start_unit(Agent *a);
/* SetUnitProperties of its slice, to be sent before each start in it. */
int agent_call_set_limits(Agent *a, sd_bus_message **ret);
int agent_stop_unit(Agent *a);
/* RestartUnit: the descriptor store stays. */
int agent_restart_unit(Agent *a);
/* Gives the slice of one that runs its limits, if those are others than before. */
void agent_check_limits(Agent *a);
bool agent_unit_is_up(const Agent *a);
/* It is down, and nobody has asked for another one: whatever it held is gone. */
bool agent_session_is_gone(const Agent *a);
/* Removes the slice's drop-ins of an agent that is gone. */
void unit_forget_slice(Manager *m, const char *slice);
/* How many starts are under way. */
unsigned units_n_starting(Manager *m);

/* The arguments of StartTransientUnit for an agent's session, for tests and for agent_start_unit(). */
int unit_append_session(sd_bus_message *message, const Agent *a);
/* A unit that runs argv, which reads the journal, with standard output at fd, and leaves nothing behind. follow: it
 * may last. */
int unit_start_reader(Manager *m, const char *name, const char *const *argv, int stdout_fd, bool follow,
                      sd_bus_message_handler_t callback, void *userdata);
/* Its arguments of StartTransientUnit, for tests. */
int unit_append_reader(sd_bus_message *message, Scope scope, const char *name, const char *const *argv, int stdout_fd,
                       bool follow);
/* The pause after a session has ended by itself n times in succession: twice as long each time, ten minutes at most.
 */
uint64_t unit_end_pause(uint64_t restart_usec, unsigned n_ends);
/* The dynamic user of an agent in system mode (systemd-facts §4.6). */
char* unit_user_name(const char *id);
