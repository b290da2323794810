/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli-process.h"
#include "manager-link.h"

/* A CliBackend by way of puffod. What asks for a start needs a connection (-ENOTCONN); everything else is asked again
 * after each loss of one, until there is an answer. */
typedef struct UnitCalls UnitCalls;

int unit_calls_new(UnitCalls **ret);
UnitCalls* unit_calls_free(UnitCalls *u);
DEFINE_TRIVIAL_CLEANUP_FUNC(UnitCalls*, unit_calls_free);

/* link is borrowed; there is one now, or again. */
void unit_calls_connected(UnitCalls *u, ManagerLink *link);
const CliBackend* unit_calls_backend(const UnitCalls *u);
