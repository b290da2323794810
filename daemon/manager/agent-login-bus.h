/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent.h"

int agent_method_get_login(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
int agent_method_refresh_login(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error);
