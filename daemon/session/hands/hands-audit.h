/* SPDX-License-Identifier: MIT */
#pragma once

#include "audit-log.h"
#include "harness.h"

/* What the CLI is told, says and does, as lines of the agent's audit log (agent-home §5.10). That one cannot be
 * written is said once and harms no turn. The journal has them, too, without what was said. */
typedef struct HandsAudit {
        AgentHome home;                 /* id and workspace alone */
        char *turn;                     /* PUFFO_TURN=…; NULL: none */
        uint64_t begin_usec;
        uint64_t n_chars, n_tools;      /* of the turn that runs */
        bool failed;
} HandsAudit;

void hands_audit_done(HandsAudit *a);
/* Before the others: whose it is. */
int hands_audit_use(HandsAudit *a, const AgentHome *home, const char *turn);

void hands_audit_session(HandsAudit *a, const char *session_id);        /* NULL: a new one */
/* What the turn says, what the CLI answers, a tool that it has called. */
void hands_audit_input(HandsAudit *a, const char *text);
void hands_audit_text(HandsAudit *a, const char *text);
void hands_audit_tool(HandsAudit *a, const HarnessTool *tool);
/* attempt: this was it, of so many, when the login is refused. */
void hands_audit_end(HandsAudit *a, const HarnessResult *result, unsigned attempt, unsigned n_attempts);
