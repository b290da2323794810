/* SPDX-License-Identifier: MIT */
#pragma once

#include "approvals.h"
#include "config.h"

/* In the place of a CLI: tests have tools asked for, and read what the CLI would have been told. There is none in a
 * build without the option test_hooks.
 *
 * The file "asks" in the agent's directory has one request in each line, {"turn", "ask", "tool", "input"}; answers are
 * appended to "verdicts", {"ask", "state", "allow", "message"}. As with a CLI that outlives the session, what has its
 * answer is not asked again, and what has none is. */
typedef struct AskHook AskHook;

#ifdef TEST_HOOKS
int ask_hook_new(AskHook **ret, Approvals *approvals, const char *directory);
AskHook* ask_hook_free(AskHook *h);
/* A file of the agent's directory has been written. */
void ask_hook_look(AskHook *h, const char *name);
#else
static inline int ask_hook_new(AskHook **ret, Approvals *approvals, const char *directory) {
        *ret = NULL;
        return 0;
}
static inline AskHook* ask_hook_free(AskHook *h) {
        return NULL;
}
static inline void ask_hook_look(AskHook *h, const char *name) {
}
#endif
