/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* Methods of the Agent interface that end in the session, and what else its bus files share. */

int agent_method_submit(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_open_stream(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_interrupt(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_get_turn(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_delete_turn(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_list_messages(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);

/* > 0: there is a session to ask. 0: the call was parked, and will be made again from its top. */
int agent_session_is_there(Agent *a, sd_bus_message *message, sd_bus_error *reterr_error);
/* Sends call to the session and its reply to the sender of message. stream: what is to be in the reply instead, or
 * -EBADF; not taken over. repeatable: it may be made once more when the session ended amid it. */
int agent_relay(Agent *a, sd_bus_message *message, sd_bus_message *call, int stream, bool repeatable,
                sd_bus_error *reterr_error);

/* It is freed; who waits for its session's answer gets it, or that there is none any more. */
void relays_forget_agent(Agent *a);

/* polkit_verify_async() about this agent. */
int agent_verify(Agent *a, sd_bus_message *message, const char *action, sd_bus_error *reterr_error);
/* Has a connected session told of a directory that was given to Connect. */
void agent_tell_working_directory(Agent *a);
/* Limits and session follow agent.yml. */
void agent_configuration_changed(Agent *a);
