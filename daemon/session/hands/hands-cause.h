/* SPDX-License-Identifier: MIT */
#pragma once

#include "cli-process.h"

/* Why a CLI has ended, for people: "exit status 1", "signal KILL", "out of memory (limit 4.0G)" in a sentence. NULL
 * when out of memory. */
char* hands_cause_describe(const CliEnd *end);
/* Not by itself and with success. */
bool hands_cause_is_failure(const CliEnd *end);
