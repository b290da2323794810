/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

/* Methods of the Agent interface about the login that an agent's CLI works with; the XML says what they do. As every
 * method: < 0 with *reterr_error, else answered, or to be run again from the top when polkit has been asked. */
int agent_method_get_login(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_refresh_login(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
