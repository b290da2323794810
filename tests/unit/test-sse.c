/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "sse.h"
#include "tests.h"

/* What came out, one "type|data|id" per event, with LF and NUL made visible. */
typedef struct Seen {
        StrBuf text;
        unsigned n_left;        /* events until the callback refuses; 0: never */
} Seen;

static int on_event(const char *event, const char *data, size_t size, const char *id, void *userdata) {
        Seen *s = userdata;

        ASSERT_EQ(data[size], 0);
        ASSERT_OK(strbuf_printf(&s->text, "%s|", event));
        for (size_t i = 0; i < size; i++)
                ASSERT_OK(data[i] == '\n' ? strbuf_puts(&s->text, "\\n") :
                          data[i] == 0 ? strbuf_puts(&s->text, "\\0") : strbuf_append(&s->text, data + i, 1));
        ASSERT_OK(strbuf_printf(&s->text, "|%s;", id));

        if (s->n_left > 0 && --s->n_left == 0)
                return -ECANCELED;
        return 0;
}

typedef struct Case {
        const char *in;
        size_t size;
        const char *out;
        int pending;
} Case;

#define CASE(in, out, pending) { in, sizeof(in) - 1, out, pending }

static const Case corpus[] = {
        CASE("", "", 0),
        CASE("data: a\n\n", "message|a|;", 0),
        CASE("data:a\n\n", "message|a|;", 0),
        CASE("data:  a\n\n", "message| a|;", 0),
        CASE("data\n\n", "message||;", 0),
        CASE("data:\n\n", "message||;", 0),
        CASE("data: a\r\n\r\n", "message|a|;", 0),
        CASE("data: a\r\r", "message|a|;", 0),
        CASE("data: a\r\n\rdata: b\n\r\n", "message|a|;message|b|;", 0),
        CASE("data: a\ndata: b\ndata\n\n", "message|a\\nb\\n|;", 0),
        CASE("event: x\ndata: a\n\ndata: b\n\n", "x|a|;message|b|;", 0),
        CASE("event: x\n\ndata: b\n\n", "message|b|;", 0),
        CASE("event: x\nevent:\ndata: b\n\n", "message|b|;", 0),
        CASE("id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", "message|a|7;message|b|7;message|c|;", 0),
        CASE("id: 1\0002\ndata: a\n\n", "message|a|;", 0),
        CASE("event: x\0y\ndata: a\n\n", "message|a|;", 0),
        CASE("data: a\0b\n\n", "message|a\\0b|;", 0),
        CASE(": keep-alive\n\n:\n\ndata: a\n: inside\n\n", "message|a|;", 0),
        CASE("retry: 100\nfoo: bar\ndatax: 1\nDATA: 2\n data: 3\n\n", "", 0),
        CASE("data: a:b: c\n\n", "message|a:b: c|;", 0),
        CASE("\n\n\r\n\rdata: a\n\n\n\n", "message|a|;", 0),
        CASE("\xef\xbb\xbf" "data: a\n\n", "message|a|;", 0),
        CASE("\xef\xbb\xbf\xef\xbb\xbf" "data: a\n\ndata: b\n\n", "message|b|;", 0),
        CASE("\xef\xbb" "data: a\n\ndata: b\n\n", "message|b|;", 0),
        CASE("\n\xef\xbb\xbf" "data: a\n\n", "", 0),
        CASE("\xef\xbb", "", 1),
        CASE("data: \xe2\x82\xac \xf0\x9f\x99\x82\n\n", "message|\xe2\x82\xac \xf0\x9f\x99\x82|;", 0),
        CASE("data: a\n\ndata: b\n", "message|a|;", 1),
        CASE("data: a", "", 1),
        CASE("data: a\n\n: comment", "message|a|;", 0),
        CASE("data: [DONE]\r\n\r\n", "message|[DONE]|;", 0),
        CASE("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", "message_stop|{\"type\":\"message_stop\"}|;", 0),
};

static void check(const Case *c, size_t cut1, size_t cut2) {
        _cleanup_(sse_parser_freep) SseParser *p = NULL;
        Seen seen = {};

        ASSERT_OK(sse_parser_new(&p, 1024, on_event, &seen));
        ASSERT_EQ(sse_parser_feed(p, c->in, cut1), 0);
        ASSERT_EQ(sse_parser_feed(p, c->in + cut1, cut2 - cut1), 0);
        ASSERT_EQ(sse_parser_feed(p, c->in + cut2, c->size - cut2), 0);
        ASSERT_STREQ(strempty(seen.text.text), c->out);
        ASSERT_EQ(sse_parser_finish(p), c->pending);
        ASSERT_STREQ(strempty(seen.text.text), c->out);
        strbuf_done(&seen.text);
}

TEST(sse_every_split) {
        for (size_t i = 0; i < ELEMENTSOF(corpus); i++)
                for (size_t a = 0; a <= corpus[i].size; a++)
                        for (size_t b = a; b <= corpus[i].size; b++)
                                check(corpus + i, a, b);
}

TEST(sse_byte_by_byte) {
        for (size_t i = 0; i < ELEMENTSOF(corpus); i++) {
                _cleanup_(sse_parser_freep) SseParser *p = NULL;
                Seen seen = {};

                ASSERT_OK(sse_parser_new(&p, 1024, on_event, &seen));
                for (size_t k = 0; k < corpus[i].size; k++)
                        ASSERT_EQ(sse_parser_feed(p, corpus[i].in + k, 1), 0);
                ASSERT_STREQ(strempty(seen.text.text), corpus[i].out);
                strbuf_done(&seen.text);
        }
}

TEST(sse_limit) {
        static const struct {
                const char *in;
                int r;
        } t[] = {
                { "data: 7890\n\n", 0 },                        /* ten bytes, the limit */
                { "data: 78901\n\n", -EMSGSIZE },
                { "data: 7890", 0 },
                { "data: 78901", -EMSGSIZE },                   /* noticed before the line ends */
                { "data:\ndata:\n\n", 0 },
                { "data:\ndata:1\n\n", -EMSGSIZE },             /* all lines of the event count */
                { "data: 7890\n\ndata: 7890\n\n", 0 },          /* the next event begins anew */
                { ": a comment may be as long as it likes\n: and be repeated\ndata: 7890\n\n", 0 },
                { "event: 0123456789\n\n", -EMSGSIZE },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(sse_parser_freep) SseParser *p = NULL;
                Seen seen = {};

                ASSERT_OK(sse_parser_new(&p, 10, on_event, &seen));
                ASSERT_EQ(sse_parser_feed(p, t[i].in, strlen(t[i].in)), t[i].r);
                strbuf_done(&seen.text);
        }
}

TEST(sse_callback_stops) {
        _cleanup_(sse_parser_freep) SseParser *p = NULL;
        static const char in[] = "data: a\n\ndata: b\n\ndata: c\n\n";
        Seen seen = { .n_left = 2 };

        ASSERT_OK(sse_parser_new(&p, 1024, on_event, &seen));
        ASSERT_ERROR(sse_parser_feed(p, in, strlen(in)), ECANCELED);
        ASSERT_STREQ(seen.text.text, "message|a|;message|b|;");
        strbuf_done(&seen.text);
}

TEST(sse_format) {
        static const struct {
                const char *event, *data, *out;
        } t[] = {
                { "x", "{}", "event: x\ndata: {}\n\n" },
                { NULL, "{}", "data: {}\n\n" },
                { NULL, "", "data: \n\n" },
                { NULL, "a\nb", "data: a\ndata: b\n\n" },
                { NULL, "a\r\nb\rc", "data: a\ndata: b\ndata: c\n\n" },
                { NULL, "a\n", "data: a\ndata: \n\n" },
        };
        StrBuf b = {};

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                strbuf_done(&b);
                ASSERT_OK(sse_format(&b, t[i].event, t[i].data, strlen(t[i].data)));
                ASSERT_STREQ(b.text, t[i].out);
        }

        ASSERT_ERROR(sse_format(&b, "x\ndata: forged", "", 0), EINVAL);
        ASSERT_STREQ(b.text, "data: a\ndata: \n\n");
        strbuf_done(&b);
}

TEST(sse_format_reads_back) {
        _cleanup_(sse_parser_freep) SseParser *p = NULL;
        Seen seen = {};
        StrBuf b = {};

        ASSERT_OK(sse_format(&b, "x", "a\n\nb: c", 7));
        ASSERT_OK(sse_format(&b, NULL, NULL, 0));
        ASSERT_OK(sse_parser_new(&p, 1024, on_event, &seen));
        ASSERT_OK(sse_parser_feed(p, b.text, b.size));
        ASSERT_STREQ(seen.text.text, "x|a\\n\\nb: c|;message||;");
        strbuf_done(&seen.text);
        strbuf_done(&b);
}

#define TEST_SUITE "sse"
TEST_MAIN();
