/* SPDX-License-Identifier: MIT */

#include "string-util.h"
#include "tests.h"
#include "usage-meter.h"

#define SSE "text/event-stream; charset=utf-8"
#define JSON "application/json"

#define ANTHROPIC_START \
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"usage\":" \
        "{\"input_tokens\":10,\"cache_read_input_tokens\":100,\"cache_creation_input_tokens\":1000," \
        "\"output_tokens\":1}}}\n\n"
#define ANTHROPIC_DELTA \
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":" \
        "{\"type\":\"text_delta\",\"text\":\"the \\\"usage\\\": {\\\"output_tokens\\\": 99999}\"}}\n\n"
#define ANTHROPIC_END \
        "event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}," \
        "\"usage\":{\"output_tokens\":60}}\r\n\r\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
#define CHAT_CHUNK "data: {\"model\":\"gpt-x\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n"
#define CHAT_END \
        "data: {\"model\":\"gpt-x\",\"choices\":[],\"usage\":{\"prompt_tokens\":20," \
        "\"completion_tokens\":7,\"prompt_tokens_details\":{\"cached_tokens\":5}," \
        "\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\n" \
        "data: [DONE]\n\n"
#define RESPONSES \
        "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-y\"," \
        "\"usage\":null}}\n\n" \
        "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n" \
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-y\"," \
        "\"usage\":{\"input_tokens\":30,\"input_tokens_details\":{\"cached_tokens\":6},\"output_tokens\":8," \
        "\"output_tokens_details\":{\"reasoning_tokens\":2},\"total_tokens\":38}}}\n\n"
#define GOOGLE_FIRST \
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{" \
        "\"promptTokenCount\":40,\"candidatesTokenCount\":1},\"modelVersion\":\"gemini-x\"}\r\n\r\n"
#define GOOGLE_LAST \
        "data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":40," \
        "\"toolUsePromptTokenCount\":2,\"cachedContentTokenCount\":4,\"candidatesTokenCount\":9," \
        "\"thoughtsTokenCount\":5},\"modelVersion\":\"gemini-x\"}\r\n\r\n"

typedef struct Case {
        UsageDialect dialect;
        const char *type, *answer, *model;
        bool cut;
        ModelUsage usage;
        bool estimated;
} Case;

static const Case cases[] = {
        { USAGE_ANTHROPIC, SSE, ANTHROPIC_START ANTHROPIC_DELTA ANTHROPIC_END, "claude-x", false,
          { 1110, 100, 1000, 60, 0 }, false },
        { USAGE_ANTHROPIC, SSE, ANTHROPIC_START ANTHROPIC_DELTA, "claude-x", true, { 1110, 100, 1000, 10, 0 }, true },
        { USAGE_ANTHROPIC, JSON, "{\"model\":\"claude-x\",\"usage\":{\"input_tokens\":3,\"output_tokens\":4,"
          "\"cache_read_input_tokens\":null}}", "claude-x", false, { 3, 0, 0, 4, 0 }, false },
        { USAGE_OPENAI_CHAT, SSE, CHAT_CHUNK CHAT_CHUNK CHAT_END, "gpt-x", false, { 20, 5, 0, 7, 3 }, false },
        /* The client has not asked for counts: the request had 400 bytes, and there were two parts. */
        { USAGE_OPENAI_CHAT, SSE, CHAT_CHUNK CHAT_CHUNK, "gpt-x", false, { 100, 0, 0, 2, 0 }, true },
        { USAGE_OPENAI_CHAT, JSON, "{\"model\":\"gpt-x\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}",
          "gpt-x", false, { 1, 0, 0, 2, 0 }, false },
        { USAGE_OPENAI_RESPONSES, SSE, RESPONSES, "gpt-y", false, { 30, 6, 0, 8, 2 }, false },
        { USAGE_GOOGLE, SSE, GOOGLE_FIRST GOOGLE_LAST, "gemini-x", false, { 42, 4, 0, 14, 5 }, false },
        { USAGE_GOOGLE, SSE, GOOGLE_FIRST, "gemini-x", true, { 40, 0, 0, 1, 0 }, true },
        { USAGE_GOOGLE, JSON, "[{\"usageMetadata\":{\"promptTokenCount\":1,\"candidatesTokenCount\":1}},"
          "{\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1,"
          "\"candidatesTokenCount\":3},\"modelVersion\":\"gemini-x\"}]", "gemini-x", false, { 1, 0, 0, 3, 0 }, false },
        /* Nothing that can be counted, and nonsense. */
        { USAGE_ANTHROPIC, "text/html", "<html>0123456789</html>", "asked", false, { 100, 0, 0, 5, 0 }, true },
        { USAGE_ANTHROPIC, NULL, "", "asked", false, { 100, 0, 0, 0, 0 }, true },
        { USAGE_ANTHROPIC, JSON, "{\"usage\":{\"input_tokens\":-5,\"output_tokens\":9e99}}", "asked", false,
          { 0, 0, 0, 1000000000, 0 }, false },
        { USAGE_ANTHROPIC, JSON, "{\"model\":7,\"usage\":[1,2]}", "asked", false, { 0, 0, 0, 0, 0 }, false },
        { USAGE_OPENAI_CHAT, SSE, "data: \"usage\"\n\ndata: {\"usage\"\n\n", "asked", false,
          { 100, 0, 0, 2, 0 }, true },
};

static void check(const Case *c, size_t piece) {
        _cleanup_(usage_meter_freep) UsageMeter *m = NULL;
        _cleanup_(metered_usage_done) MeteredUsage u = {};
        size_t size = strlen(c->answer);

        ASSERT_OK(usage_meter_new(&m, c->dialect, c->type, "asked", 400));
        for (size_t i = 0; i < size; i += piece)
                usage_meter_feed(m, c->answer + i, MIN(piece, size - i));
        ASSERT_OK(usage_meter_finish(m, !c->cut, &u));
        ASSERT_STREQ(u.model, c->model);
        ASSERT_EQ(u.usage.input_tokens, c->usage.input_tokens);
        ASSERT_EQ(u.usage.cached_tokens, c->usage.cached_tokens);
        ASSERT_EQ(u.usage.cache_write_tokens, c->usage.cache_write_tokens);
        ASSERT_EQ(u.usage.output_tokens, c->usage.output_tokens);
        ASSERT_EQ(u.usage.reasoning_tokens, c->usage.reasoning_tokens);
        ASSERT_EQ(u.estimated, c->estimated);
}

TEST(answers) {
        static const size_t pieces[] = { 1, 2, 7, 64, 100000 };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++)
                for (size_t k = 0; k < ELEMENTSOF(pieces); k++)
                        check(cases + i, pieces[k]);
}

TEST(endless_event) {
        _cleanup_(usage_meter_freep) UsageMeter *m = NULL;
        _cleanup_(metered_usage_done) MeteredUsage u = {};
        _cleanup_free_ char *a = malloc(MIB(1));

        memset(a, 'a', MIB(1));
        ASSERT_OK(usage_meter_new(&m, USAGE_ANTHROPIC, SSE, NULL, 0));
        usage_meter_feed(m, "data: ", 6);
        for (unsigned i = 0; i < 64; i++)
                usage_meter_feed(m, a, MIB(1));
        ASSERT_OK(usage_meter_finish(m, true, &u));
        ASSERT_TRUE(u.estimated);
        ASSERT_TRUE(u.usage.output_tokens > MIB(8));
        ASSERT_STREQ(u.model, "");
}

TEST(large_answer_in_one_piece) {
        _cleanup_(usage_meter_freep) UsageMeter *m = NULL;
        _cleanup_(metered_usage_done) MeteredUsage u = {};
        _cleanup_free_ char *a = malloc(MIB(1));

        memset(a, ' ', MIB(1));
        ASSERT_OK(usage_meter_new(&m, USAGE_GOOGLE, JSON, "m", 0));
        for (unsigned i = 0; i < 20; i++)
                usage_meter_feed(m, a, MIB(1));
        ASSERT_OK(usage_meter_finish(m, true, &u));
        ASSERT_TRUE(u.estimated);
        ASSERT_TRUE(u.usage.output_tokens >= MIB(4));
}

#define TEST_SUITE "usage-meter"
TEST_MAIN();
