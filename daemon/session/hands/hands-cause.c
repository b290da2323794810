/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "hands-cause.h"
#include "string-util.h"

/* puffo-sandbox: the sandbox cannot be had. */
#define EXIT_REFUSED 78
/* … what the CLI may only read could be written. */
#define EXIT_REPLACED 79

bool hands_cause_is_failure(const CliEnd *end) {
        return !streq(end->result, "success") && !streq(end->result, "unknown");
}

char* hands_cause_describe(const CliEnd *end) {
        const char *name;

        if (streq(end->result, "oom-kill"))
                return end->memory_max == UINT64_MAX ?
                       strdup("The agent's CLI was ended because the machine had no memory left.") :
                       asprintf_new("The agent's CLI was ended because it had reached its memory limit of %" PRIu64
                                    " MiB.", end->memory_max / MIB(1));
        if (end->code == CLD_EXITED && end->status == EXIT_REFUSED)
                return strdup("The agent's CLI was not started: this machine cannot give it the sandbox that it is to "
                              "have.");
        if (end->code == CLD_EXITED && end->status == EXIT_REPLACED)
                return strdup("The agent's CLI was ended because a file that it may only read was replaced while it "
                              "ran.");
        if (end->code == CLD_EXITED)
                return asprintf_new("The agent's CLI ended with exit status %d.", end->status);
        if (end->code == CLD_KILLED || end->code == CLD_DUMPED) {
                name = sigabbrev_np(end->status);
                return name ? asprintf_new("The agent's CLI was ended by signal %s.", name) :
                              asprintf_new("The agent's CLI was ended by signal %d.", end->status);
        }
        return streq(end->result, "timeout") ? strdup("The agent's CLI took too long.") :
                                               strdup("The agent's CLI ended for an unknown reason.");
}
