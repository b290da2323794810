/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"

/* Which tool calls an agent of kind sdk-local may make (agent-runtime §7): "Name" or "Name(argument)", both
 * shell-style patterns over the whole string, in which "*" stands for anything, "/" too. The argument is compared with
 * what the call is about: the command of Bash, else the path of a file. Puffo's own tools are always allowed. */

/* "*", "?", "[a-z]" and "[!a-z]" as in Python's fnmatch: nothing is escaped, a bracket that is not closed stands for
 * itself. Takes time in proportion to both sizes at most. Invalid UTF-8 matches as bytes. */
bool glob_matches(const char *pattern, const char *s);

bool tool_is_allowed(char *const *patterns, const char *tool, json_object *input);
