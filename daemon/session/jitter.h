/* SPDX-License-Identifier: MIT */
#pragma once

#include "macro.h"

/* A random number from min to max, for spreading retries of many agents; never fails, and is no secret. */
uint64_t random_between(uint64_t min, uint64_t max);
