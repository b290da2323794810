/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "hands-audit"

/* What the journal has of the audit log. */

#include "captured-log.h"
#include "file-util.h"
#include "hands-audit.h"

TEST(events_without_words) {
        char template[] = "/tmp/puffo-test-hands-audit-XXXXXX";
        AgentHome home = { .id = (char*) "alice", .workspace = template };
        HandsAudit a = {};

        ASSERT_NOT_NULL(mkdtemp(template));
        ASSERT_OK(hands_audit_use(&a, &home, "t1"));
        hands_audit_session(&a, "5c2e8f5e");
        hands_audit_input(&a, "secret");
        hands_audit_tool(&a, &(HarnessTool) { .phase = HARNESS_TOOL_STARTED, .id = "x", .name = "Bash\n",
                                              .input = "{\"command\":\"secret\"}" });
        hands_audit_text(&a, "secret");
        hands_audit_end(&a, &(HarnessResult) { .outcome = HARNESS_AUTH, .message = "secret" }, 5, 5);
        hands_audit_done(&a);
        ASSERT_OK(directory_remove(template));

        ASSERT_TRUE(startswith(journal.text, "PUFFO_EVENT=session.start PUFFO_TURN=t1 Audit: session.start: resume true\n"
                                             "PUFFO_EVENT=turn.input PUFFO_TURN=t1 Audit: turn.input\n"
                                             "PUFFO_EVENT=tool PUFFO_TURN=t1 Audit: tool: name Bash?\n"
                                             "PUFFO_EVENT=assistant.text PUFFO_TURN=t1 Audit: assistant.text\n"
                                             "PUFFO_EVENT=auth_error.detected PUFFO_TURN=t1 Audit: "
                                             "auth_error.detected: attempt 5, of 5\n"
                                             "PUFFO_EVENT=auth_error.exhausted_retries PUFFO_TURN=t1 Audit: "
                                             "auth_error.exhausted_retries: attempts 5\n"
                                             "PUFFO_EVENT=turn.end PUFFO_TURN=t1 Audit: turn.end: outcome auth, "));
        ASSERT_NULL(strstr(journal.text, "secret"));
        strbuf_done(&journal);
}

TEST_MAIN();
