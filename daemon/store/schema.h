/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* Our tables. schema_steps[n] brings user_version n to n + 1, in one transaction with the others; a step is never
 * changed once it was released. */
#define SCHEMA_VERSION ((size_t) 8)
extern const char *const schema_steps[SCHEMA_VERSION];

/* The original's tables (message-pipeline §7.2), which are never changed: made wherever they are missing. */
extern const char schema_original[];
