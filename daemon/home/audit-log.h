/* SPDX-License-Identifier: MIT */
#pragma once

#include "agent-home.h"
#include "json-util.h"

/* workspace/.puffo-agent/audit.log (agent-home §5.10): what an agent's CLI was told, said and did, a line of JSON
 * each. The agent's own programs may reach it: it is for people to read, and nothing is ever read back from it. Beyond
 * 16 MiB the file becomes audit.log.1, and the one before goes. */

typedef enum AuditEvent {
        AUDIT_SESSION_START,            /* "session.start": resume b, session_id */
        AUDIT_TURN_INPUT,               /* "turn.input": content */
        AUDIT_ASSISTANT_TEXT,           /* "assistant.text": text */
        AUDIT_TOOL,                     /* "tool": name, input, id */
        AUDIT_TURN_END,                 /* "turn.end": reply_len, tool_calls, input_tokens, output_tokens, duration_ms,
                                         * event_types */
        AUDIT_STREAM_ERROR,             /* "session.stream_error": phase, error_type, error, action */
        AUDIT_AUTH_ERROR,               /* "auth_error.detected": attempt, of, reply */
        AUDIT_AUTH_EXHAUSTED,           /* "auth_error.exhausted_retries": attempts, reply */
        _AUDIT_EVENT_MAX,
} AuditEvent;

const char* audit_event_to_string(AuditEvent e);

/* fields: an object or NULL; borrowed, unchanged. */
int audit_log_append(const AgentHome *h, AuditEvent event, json_object *fields);
