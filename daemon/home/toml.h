/* SPDX-License-Identifier: MIT */
#pragma once

#include "json-util.h"

/* TOML 1.0, read only: tables are objects, and dates and times the text that stands for them. What breaks the rules is
 * refused as a whole, with *ret_fault = what and in which line: a reader that guesses would take over what nobody has
 * written. -EBADMSG, -ENOMEM. */
int toml_parse(const char *text, size_t size, json_object **ret, char **ret_fault);
