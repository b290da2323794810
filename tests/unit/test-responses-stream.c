/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "responses-stream"

#include "json-util.h"
#include "responses-stream.h"
#include "string-util.h"
#include "tests.h"

#define NOW (1795226605 * USEC_PER_SEC)

/* What a fold gave: the types in order, the texts of deltas joined, and the last event. */
typedef struct Seen {
        StrBuf types, text;
        json_object *last;
        int64_t next;           /* the number that must come */
} Seen;

static void seen_done(Seen *s) {
        strbuf_done(&s->types);
        strbuf_done(&s->text);
        json_object_put(s->last);
}

static int on_emit(const char *type, json_object *event, void *userdata) {
        Seen *s = userdata;
        size_t size;
        const char *text = json_text(event, &size);

        ASSERT_STREQ(json_get_string(event, "type"), type);
        ASSERT_EQ(json_get_int(event, "sequence_number", -1), s->next);
        ASSERT_TRUE(utf8_is_valid(text, size));
        ASSERT_NULL(memchr(text, '\n', size));
        ASSERT_NULL(json_get(event, "error"));          /* the Node client throws on it */
        s->next++;
        if (streq(type, "response.output_text.delta")) {
                ASSERT_TRUE(json_object_get_string_len(json_get(event, "delta")) > 0);
                ASSERT_OK(strbuf_puts(&s->text, json_get_string(event, "delta")));
        }
        ASSERT_OK(strbuf_printf(&s->types, "%s%s", s->types.size > 0 ? " " : "", startswith(type,
                "response.") ?: type));
        json_object_put(s->last);
        s->last = json_object_get(event);
        return 0;
}

static json_object* parse(const char *text) {
        json_object *o;

        ASSERT_OK(json_parse(text, strlen(text), &o));
        return o;
}

static json_object* response_make(bool background) {
        json_object *o = parse("{\"id\":\"resp_1\",\"object\":\"response\",\"output\":[],\"usage\":null,"
                "\"error\":null}");

        ASSERT_OK(json_put_bool(o, "background", background));
        return o;
}

/* Feeds the lines; "!" stands for a stream that was lost and opened again. */
static int feed(ResponseFold *f, const char *const *lines) {
        int r = 0;

        for (; *lines; lines++) {
                _cleanup_json_ json_object *o = NULL;

                if (streq(*lines, "!")) {
                        response_fold_reopen(f);
                        continue;
                }
                o = parse(*lines);
                r = response_fold_feed(f, o, NOW);
                if (r != 0)
                        break;
        }
        return r;
}

#define USAGE "\"usage\":{\"input_tokens\":11,\"cached_tokens\":3,\"output_tokens\":2}"
#define MESSAGE " output_item.added content_part.added"
#define MESSAGE_END " output_text.done content_part.done output_item.done"

static const struct {
        const char *name;
        const char *lines[20];
        bool background;
        const char *types, *text, *status, *output;     /* output: text of items, joined by | */
        bool buffered;
} table[] = {
        { "held back until it is whole",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"message_started\",\"item\":\"a\"}",
            "{\"seq\":2,\"type\":\"delta\",\"item\":\"a\",\"text\":\"x\"}",
            "{\"seq\":3,\"type\":\"delta\",\"item\":\"a\",\"text\":\"y\"}",
            "{\"seq\":4,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"xy\",\"status\":\"completed\"}",
            "{\"seq\":5,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " completed", "xy", "completed", "xy",
          true },
        { "held back, and what is begun anew is not shown",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\",\"text\":\"lost\"}",
            "{\"seq\":2,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"lost\",\"status\":\"incomplete\"}",
            "{\"seq\":3,\"type\":\"delta\",\"item\":\"b\",\"text\":\"now\"}",
            "{\"seq\":4,\"type\":\"message_done\",\"item\":\"b\",\"text\":\"now\",\"status\":\"completed\"}",
            "{\"seq\":5,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " completed", "now", "completed",
          "now", true },
        { "held back over a crash",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\",\"text\":\"lost\"}", "!",
            "{\"seq\":0,\"type\":\"queued\",\"ahead\":0,\"resumed\":true}", "{\"seq\":1,\"type\":\"restarted\"}",
            "{\"seq\":2,\"type\":\"message_done\",\"item\":\"b\",\"text\":\"now\",\"status\":\"completed\"}",
            "{\"seq\":3,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " completed", "now", "completed",
          "now", true },
        { "held back, and then all that there is",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\",\"text\":\"half\"}",
            "{\"seq\":2,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"half\",\"status\":\"incomplete\"}",
            "{\"seq\":3,\"type\":\"incomplete\",\"reason\":\"interrupted\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " incomplete", "half", "incomplete",
          "half", true },
        { "held back without an end of its own",
          { "{\"seq\":0,\"type\":\"delta\",\"item\":\"a\",\"text\":\"half\"}",
            "{\"seq\":1,\"type\":\"failed\",\"error\":{\"code\":\"server_error\",\"message\":\"m\"}}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " failed", "half", "failed", "half",
          true },
        { "plain",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"message_started\",\"item\":\"a\"}",
            "{\"seq\":3,\"type\":\"delta\",\"item\":\"a\",\"text\":\"W\xc3\xb6\"}",
            "{\"seq\":4,\"type\":\"delta\",\"item\":\"a\",\"text\":\"rd\"}",
            "{\"seq\":5,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"W\xc3\xb6rd\",\"status\":\"completed\"}",
            "{\"seq\":6,\"type\":\"completed\"," USAGE "}" },
          false, "created in_progress" MESSAGE " output_text.delta output_text.delta" MESSAGE_END " completed",
          "W\xc3\xb6rd", "completed", "W\xc3\xb6rd" },
        { "waiting",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":2}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"completed\"," USAGE "}" },
          false, "created queued in_progress completed", "", "completed", "" },
        { "background",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":2}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"completed\"}" },
          true, "created queued in_progress completed", "", "completed", "" },
        { "two messages, the second only when it is whole, unknown events between",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"message_started\",\"item\":\"a\"}",
            "{\"seq\":2,\"type\":\"delta\",\"item\":\"a\",\"text\":\"x\"}",
            "{\"seq\":3,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"xyz\",\"status\":\"completed\"}",
            "{\"seq\":4,\"type\":\"tool_started\"}",
            "{\"seq\":5,\"type\":\"message_done\",\"item\":\"b\",\"text\":\"b!\",\"status\":\"completed\"}",
            "{\"seq\":6,\"type\":\"completed\"}" },
          false,
          "created in_progress" MESSAGE " output_text.delta output_text.delta" MESSAGE_END MESSAGE
          " output_text.delta" MESSAGE_END " completed",
          "xyzb!", "completed", "xyz|b!" },
        { "an empty message",
          { "{\"seq\":0,\"type\":\"message_started\",\"item\":\"a\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\","
            "\"text\":\"\"}",
            "{\"seq\":2,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"\"}",
            "{\"seq\":3,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE MESSAGE_END " completed", "", "completed", "" },
        { "the text of the end wins",
          { "{\"seq\":0,\"type\":\"delta\",\"item\":\"a\",\"text\":\"abc\"}",
            "{\"seq\":1,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"xbcd\"}",
            "{\"seq\":2,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " completed", "abc", "completed",
                  "xbcd" },
        { "stopped in the middle",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\",\"text\":\"half\"}",
            "{\"seq\":2,\"type\":\"incomplete\"," USAGE ",\"reason\":\"interrupted\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " incomplete", "half", "incomplete",
                  "half" },
        { "failed before it began",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}",
            "{\"seq\":1,\"type\":\"failed\",\"error\":{\"code\":\"invalid_prompt\",\"kind\":\"x\","
            "\"message\":\"no\"}}" },
          false, "created failed", "", "failed", "" },
        { "the session dies and runs the turn again",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}", "!",
            "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}", "{\"seq\":1,\"type\":\"restarted\"}",
            "{\"seq\":2,\"type\":\"started\"}", "{\"seq\":3,\"type\":\"delta\",\"item\":\"b\",\"text\":\"two\"}",
            "{\"seq\":4,\"type\":\"message_done\",\"item\":\"b\",\"text\":\"two\"}",
            "{\"seq\":5,\"type\":\"completed\"}" },
          false,
          "created in_progress" MESSAGE " output_text.delta" MESSAGE_END MESSAGE " output_text.delta" MESSAGE_END " "
          "completed",
          "onetwo", "completed", "one|two" },
        { "the session dies between two steps of a turn, which goes on from there",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":3,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":4,\"type\":\"tool_started\",\"call\":\"0/0\",\"name\":\"x\"}", "!",
            "{\"seq\":0,\"type\":\"queued\",\"ahead\":0,\"resumed\":true}", "{\"seq\":1,\"type\":\"restarted\"}",
            "{\"seq\":2,\"type\":\"message_started\",\"item\":\"a\"}",
            "{\"seq\":3,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":4,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":5,\"type\":\"tool_ended\",\"call\":\"0/0\",\"name\":\"x\"}",
            "{\"seq\":6,\"type\":\"delta\",\"item\":\"b\",\"text\":\"two\"}",
            "{\"seq\":7,\"type\":\"completed\"}" },
          false,
          "created in_progress" MESSAGE " output_text.delta" MESSAGE_END MESSAGE " output_text.delta" MESSAGE_END " "
          "completed",
          "onetwo", "completed", "one|two" },
        { "the session dies when the end is stored and not yet told",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":3,\"type\":\"message_started\",\"item\":\"b\"}",
            "{\"seq\":4,\"type\":\"delta\",\"item\":\"b\",\"text\":\"t\"}",
            "{\"seq\":5,\"type\":\"delta\",\"item\":\"b\",\"text\":\"w\"}",
            "{\"seq\":6,\"type\":\"delta\",\"item\":\"b\",\"text\":\"o\"}", "!",
            "{\"seq\":0,\"type\":\"queued\",\"ahead\":0,\"replayed\":true}",
            "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":3,\"type\":\"delta\",\"item\":\"b\",\"text\":\"two!\"}",
            "{\"seq\":4,\"type\":\"message_done\",\"item\":\"b\",\"text\":\"two!\"}",
            "{\"seq\":5,\"type\":\"completed\"}" },
          false,
          "created in_progress" MESSAGE " output_text.delta" MESSAGE_END MESSAGE " output_text.delta "
          "output_text.delta output_text.delta output_text.delta" MESSAGE_END " completed",
          "onetwo!", "completed", "one|two!" },
        { "a turn of long ago",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0,\"replayed\":true}",
            "{\"seq\":1,\"type\":\"restarted\"}", "{\"seq\":2,\"type\":\"started\"}",
            "{\"seq\":3,\"type\":\"message_started\",\"item\":\"a\"}",
            "{\"seq\":4,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":5,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":6,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " completed", "one", "completed",
          "one" },
        { "the session dies while the turn waits behind others, much later than it was first heard of",
          { "{\"seq\":0,\"type\":\"queued\",\"ahead\":0}", "{\"seq\":1,\"type\":\"started\"}",
            "{\"seq\":2,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}", "!",
            "{\"seq\":0,\"type\":\"queued\",\"ahead\":1,\"resumed\":true}",
            "{\"seq\":1,\"type\":\"failed\",\"error\":{\"code\":\"server_error\"}}" },
          false, "created in_progress" MESSAGE " output_text.delta" MESSAGE_END " failed", "one", "failed", "one" },
        { "the same log once more",
          { "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}", "!",
            "{\"seq\":0,\"type\":\"started\"}", "{\"seq\":1,\"type\":\"delta\",\"item\":\"a\",\"text\":\"one\"}",
            "{\"seq\":2,\"type\":\"delta\",\"item\":\"a\",\"text\":\"two\"}",
            "{\"seq\":3,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"onetwo\"}",
            "{\"seq\":4,\"type\":\"completed\"}" },
          false, "created in_progress" MESSAGE " output_text.delta output_text.delta" MESSAGE_END " completed",
                  "onetwo",
          "completed", "onetwo" },
};

static void check_output(json_object *response, const char *expected) {
        _cleanup_(strbuf_done) StrBuf b = {};
        json_object *output = json_get(response, "output");

        for (size_t i = 0; i < json_object_array_length(output); i++) {
                json_object *item = json_object_array_get_idx(output, i);

                ASSERT_NOT_NULL(startswith(json_get_string(item, "id"), "msg_"));
                ASSERT_OK(strbuf_printf(&b, "%s%s", i > 0 ? "|" : "",
                                        json_get_string(json_object_array_get_idx(json_get(item, "content"), 0),
                                                "text")));
        }
        ASSERT_STREQ(strempty(b.text), expected);
}

TEST(fold) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_(response_fold_freep) ResponseFold *f = NULL;
                _cleanup_json_ json_object *response = response_make(table[i].background);
                _cleanup_(seen_done) Seen seen = {};

                print_message("  %s\n", table[i].name);
                ASSERT_OK(response_fold_new(&f, response, on_emit, &seen));
                if (table[i].buffered)
                        response_fold_set_buffered(f);
                ASSERT_OK(response_fold_begin(f, false));
                ASSERT_EQ(feed(f, table[i].lines), 1);
                ASSERT_TRUE(response_fold_has_ended(f));
                ASSERT_STREQ(seen.types.text, table[i].types);
                ASSERT_STREQ(strempty(seen.text.text), table[i].text);
                ASSERT_EQ(response_fold_sequence(f), seen.next);

                ASSERT_STREQ(json_get_string(json_get(seen.last, "response"), "status"), table[i].status);
                check_output(json_get(seen.last, "response"), table[i].output);
        }
}

TEST(fold_ends) {
        static const struct {
                const char *line, *completed_at, *usage, *error, *details;
        } t[] = {
                { "{\"type\":\"completed\"," USAGE "}", "1795226605",
                  "{\"input_tokens\":11,\"input_tokens_details\":{\"cached_tokens\":3,\"cache_write_tokens\":0},"
                  "\"output_tokens\":2,"
                  "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":13}", "null", NULL },
                { "{\"type\":\"completed\"}", "1795226605",
                  "{\"input_tokens\":0,\"input_tokens_details\":{\"cached_tokens\":0,\"cache_write_tokens\":0},"
                  "\"output_tokens\":0,"
                  "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":0}", "null", NULL },
                { "{\"type\":\"incomplete\",\"reason\":\"deadline\"}", NULL, NULL, "null",
                  "{\"reason\":\"max_output_tokens\"}" },
                { "{\"type\":\"incomplete\",\"reason\":\"length\"}", NULL, NULL, "null",
                  "{\"reason\":\"max_output_tokens\"}" },
                { "{\"type\":\"incomplete\",\"reason\":\"interrupted\"}", NULL, NULL, "null", "null" },
                { "{\"type\":\"failed\",\"error\":{\"code\":\"rate_limit_exceeded\",\"message\":\"m\"}}", NULL, "null",
                  "{\"code\":\"rate_limit_exceeded\",\"message\":\"m\"}", NULL },
                { "{\"type\":\"failed\",\"error\":{\"code\":\"made_up\",\"message\":\"m\"}}", NULL, "null",
                  "{\"code\":\"server_error\",\"message\":\"m\"}", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(response_fold_freep) ResponseFold *f = NULL;
                _cleanup_json_ json_object *response = response_make(false);
                json_object *o;

                ASSERT_OK(response_fold_new(&f, response, NULL, NULL));
                ASSERT_OK(response_fold_begin(f, false));
                ASSERT_EQ(feed(f, (const char *const[]) { t[i].line, NULL }), 1);
                o = response_fold_response(f);
                ASSERT_STREQ(json_object_to_json_string_ext(json_get(o, "error"), JSON_C_TO_STRING_PLAIN), t[i].error);
                if (t[i].usage)
                        ASSERT_STREQ(json_object_to_json_string_ext(json_get(o, "usage"), JSON_C_TO_STRING_PLAIN),
                                t[i].usage);
                if (t[i].completed_at)
                        ASSERT_STREQ(json_object_to_json_string(json_get(o, "completed_at")), t[i].completed_at);
                if (t[i].details)
                        ASSERT_STREQ(json_object_to_json_string_ext(json_get(o, "incomplete_details"),
                                JSON_C_TO_STRING_PLAIN),
                                     t[i].details);
                /* Nothing comes after the end. */
                ASSERT_EQ(feed(f, (const char *const[]) { "{\"type\":\"delta\",\"item\":\"x\",\"text\":\"y\"}",
                        NULL }), 1);
                ASSERT_EQ(response_fold_fail(f, "server_error", "late"), 1);
        }
}

TEST(fold_refuses_nonsense) {
        static const char *const t[] = {
                "{}", "{\"type\":7}", "{\"type\":\"delta\",\"text\":\"x\"}", "{\"type\":\"message_done\","
                "\"item\":\"\"}", "[]",
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(response_fold_freep) ResponseFold *f = NULL;
                _cleanup_json_ json_object *response = response_make(false);

                ASSERT_OK(response_fold_new(&f, response, NULL, NULL));
                ASSERT_ERROR(feed(f, (const char *const[]) { t[i], NULL }), EBADMSG);
        }
}

/* The stream was lost, the log is gone, and GetTurn tells how it ended. */
TEST(fold_finish) {
        _cleanup_(response_fold_freep) ResponseFold *f = NULL;
        _cleanup_json_ json_object *response = response_make(false);
        _cleanup_(seen_done) Seen seen = {};
        TurnMessage messages[] = {
                { .item = (char*) "a", .text = (char*) "one", .complete = true },
                { .item = (char*) "b", .text = (char*) "two more", .complete = true },
        };
        TurnRecord record = { .status = (char*) "completed", .messages = messages, .n_messages = 2,
                .ended_usec = NOW };

        ASSERT_OK(response_fold_new(&f, response, on_emit, &seen));
        ASSERT_OK(response_fold_begin(f, false));
        ASSERT_EQ(feed(f, (const char *const[]) {
                "{\"seq\":0,\"type\":\"started\"}",
                "{\"seq\":1,\"type\":\"message_done\",\"item\":\"a\",\"text\":\"one\"}",
                "{\"seq\":2,\"type\":\"delta\",\"item\":\"b\",\"text\":\"two\"}", NULL }), 0);
        ASSERT_EQ(response_fold_finish(f, &record), 1);
        ASSERT_STREQ(seen.types.text,
                     "created in_progress" MESSAGE " output_text.delta" MESSAGE_END MESSAGE
                     " output_text.delta output_text.delta" MESSAGE_END " completed");
        ASSERT_STREQ(seen.text.text, "onetwo more");
}

TEST(fold_cuts_error_messages) {
        _cleanup_(response_fold_freep) ResponseFold *f = NULL;
        _cleanup_json_ json_object *response = response_make(false);
        _cleanup_(strbuf_done) StrBuf long_text = {};
        json_object *message;

        for (size_t i = 0; i < 1500; i++)
                ASSERT_OK(strbuf_puts(&long_text, "\xc3\xb6"));
        ASSERT_OK(response_fold_new(&f, response, NULL, NULL));
        ASSERT_EQ(response_fold_fail(f, "server_error", long_text.text), 1);
        message = json_get(json_get(response_fold_response(f), "error"), "message");
        ASSERT_EQ(json_object_get_string_len(message), 2000);
}

TEST_MAIN();
