/* SPDX-License-Identifier: MIT */
#pragma once

#include "harness-fixture.h"

/* Codex' side of a talk, a line at a time. */

#define THREAD "01a1fbe9-55bc-77c0-ac19-c78609dff468"
#define TURN "01a1fbe9-5606-7140-b3b6-002d2dd77f9d"
#define OLD_TURN "01a1fbe9-5792-7530-8ba5-b0307eb5c787"
#define NOTE(method, params) "{\"method\":\"" method "\",\"params\":{\"threadId\":\"" THREAD "\"," params "}}"
#define NOTE_BEGIN(method) "{\"method\":\"" method "\",\"params\":{\"threadId\":\"" THREAD "\","
#define TURN_STARTED NOTE("turn/started", "\"turn\":{\"id\":\"" TURN "\",\"status\":\"inProgress\"}")
#define TURN_COMPLETED(status) \
        NOTE("turn/completed", "\"turn\":{\"id\":\"" TURN "\",\"status\":\"" status "\",\"error\":null}")
#define OF_TURN "\"turnId\":\"" TURN "\","
#define ITEM(what, item) NOTE("item/" what, OF_TURN "\"item\":{" item "}")
#define USER_MESSAGE ITEM("completed", "\"type\":\"userMessage\",\"id\":\"u1\"")
#define MESSAGE_STARTED ITEM("started", "\"type\":\"agentMessage\",\"id\":\"m1\",\"text\":\"\"")
#define DELTA(text) NOTE("item/agentMessage/delta", OF_TURN "\"itemId\":\"m1\",\"delta\":\"" text "\"")
#define MESSAGE_COMPLETED(text) ITEM("completed", "\"type\":\"agentMessage\",\"id\":\"m1\",\"text\":\"" text "\"")
#define USAGE(turn, n) \
        NOTE("thread/tokenUsage/updated", "\"turnId\":\"" turn "\",\"tokenUsage\":{\"last\":{\"inputTokens\":" #n "," \
             "\"outputTokens\":1,\"cachedInputTokens\":2}}")
#define RETRIES NOTE("error", OF_TURN "\"willRetry\":true,\"error\":{\"message\":\"Reconnecting\"}")
#define ASK(id) \
        "{\"method\":\"item/commandExecution/requestApproval\",\"id\":" id ",\"params\":{\"threadId\":\"" THREAD \
        "\"," OF_TURN "\"itemId\":\"c1\",\"command\":\"touch x\",\"cwd\":\"/w\",\"reason\":\"May I?\"}}"

_unused_ static HarnessSetup setup_of(const char *session) {
        HarnessSetup setup = stage_setup(HARNESS_CODEX);

        setup.session_id = session;
        setup.permission_mode = "bypassPermissions";
        setup.system_prompt = "You are alice.";
        setup.model = "gpt-x";
        return setup;
}

#define STAGE(s, session) \
        _cleanup_(stage_end) Stage s; \
        HarnessSetup s##_setup = setup_of(session); \
        stage_begin(&s, &s##_setup)

/* The driver's next request, which must be this one, and its id. */
_unused_ static json_object* hear(Stage *s, const char *method) {
        json_object *o = stage_hears_json(s);

        ASSERT_STREQ(strempty(json_get_string(o, "method")), method);
        ASSERT_TRUE(json_object_is_type(json_get(o, "params"), json_type_object) || streq(method, "initialized"));
        return o;
}

_unused_ static void answer(Stage *s, json_object *request, const char *member) {
        _cleanup_free_ char *line = asprintf_new("{\"id\":\"%s\",%s}", json_get_string(request, "id"), member);

        stage_says(s, line);
}

_unused_ static void hear_and_answer(Stage *s, const char *method, const char *member) {
        _cleanup_json_ json_object *o = hear(s, method);

        if (member)
                answer(s, o, member);
}

#define NOTHING_IS_HEARD(s) ({ \
        _cleanup_free_ char *_line = stage_hears(s); \
        ASSERT_NULL(_line); })

#define AGENT(version) "\"result\":{\"userAgent\":\"puffo/" version " (Debian 12.0.0; x86_64) xterm (puffo; 1)\"}"
#define LOGGED_IN "\"result\":{\"account\":{\"type\":\"apiKey\"},\"requiresOpenaiAuth\":true}"
#define OPENED "\"result\":{\"thread\":{\"id\":\"" THREAD "\"}}"
#define BEGUN "\"result\":{\"turn\":{\"id\":\"" TURN "\",\"status\":\"inProgress\"}}"
#define ERROR(text) "\"error\":{\"code\":-32600,\"message\":\"" text "\"}"

_unused_ static void make_ready(Stage *s, bool resumed) {
        hear_and_answer(s, "initialize", AGENT("0.169.0"));
        hear_and_answer(s, "initialized", NULL);
        hear_and_answer(s, "account/read", LOGGED_IN);
        hear_and_answer(s, resumed ? "thread/resume" : "thread/start", OPENED);
}

_unused_ static void begin_turn(Stage *s, bool resumed) {
        ASSERT_OK(harness_turn(s->harness, "hello"));
        make_ready(s, resumed);
        hear_and_answer(s, "turn/start", BEGUN);
        stage_says(s, TURN_STARTED);
}

_unused_ static void run_for(Stage *s, bool (*until)(Stage *s)) {
        for (unsigned i = 0; i < 600 && !until(s); i++)
                ASSERT_OK(sd_event_run(s->event, 100 * USEC_PER_MSEC));
        ASSERT_TRUE(until(s));
}

_unused_ static bool has_written(Stage *s) {
        stage_listen(s);
        return s->written.size > 0;
}

_unused_ static bool has_ended(Stage *s) {
        return s->ended;
}
