/* SPDX-License-Identifier: MIT */
#pragma once

#include "ctl.h"

/* Secrets come from a terminal, without echo, or from a pipe; never from the command line, which everybody on the
 * machine can read. */

/* For an option --NAME[=-]: 0 with *ret = NULL when it was not given, 0 with the secret (to be wiped with
 * secret_freep()), or an exit status after saying what is wrong. question: what to ask on a terminal. */
int secret_from_option(Ctl *c, const Arguments *a, const char *name, const char *question, char **ret);

void secret_freep(char **s);
