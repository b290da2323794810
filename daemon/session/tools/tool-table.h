/* SPDX-License-Identifier: MIT */
#pragma once

#include "tool-internal.h"

#define TOOLS_MAX 20U
extern const ToolEntry tool_table[TOOLS_MAX];
