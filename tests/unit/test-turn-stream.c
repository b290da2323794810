/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "turn-stream"

#include <fcntl.h>

#include "json-util.h"
#include "string-util.h"
#include "tests.h"
#include "turn-stream.h"

typedef struct Reader {
        sd_event *event;
        TurnStream *stream;
        int pipe[2];
        StrBuf types;
        int ended;              /* 1: not yet */
        bool pause_on_b;
} Reader;

static int on_event(json_object *event, void *userdata) {
        Reader *r = userdata;
        const char *type = json_get_string(event, "type");

        ASSERT_OK(strbuf_puts(&r->types, type));
        if (r->pause_on_b && streq(type, "b"))
                ASSERT_OK(turn_stream_set_paused(r->stream, true));
        return streq(type, "end");
}

static void on_end(int error, void *userdata) {
        Reader *r = userdata;

        r->ended = error;
}

static void reader_setup(Reader *r) {
        *r = (Reader) { .ended = 1 };
        ASSERT_OK(sd_event_new(&r->event));
        ASSERT_EQ(pipe2(r->pipe, O_CLOEXEC), 0);
        ASSERT_OK(turn_stream_new(&r->stream, r->event, r->pipe[0],
                                  &(TurnStreamSpec) { .on_event = on_event, .on_end = on_end, .userdata = r }));
}

static void reader_done(Reader *r) {
        turn_stream_free(r->stream);
        safe_close(r->pipe[1]);
        strbuf_done(&r->types);
        sd_event_unref(r->event);
}

static void put(Reader *r, const char *s) {
        ASSERT_EQ(write(r->pipe[1], s, strlen(s)), strlen(s));
}

static void run(Reader *r) {
        while (sd_event_run(r->event, 0) > 0)
                ;
}

TEST(lines_in_pieces) {
        _cleanup_(reader_done) Reader r;

        reader_setup(&r);
        put(&r, "{\"type\":\"a\"}\n{\"ty");
        run(&r);
        ASSERT_STREQ(r.types.text, "a");
        put(&r, "pe\":\"b\"}\n\n{\"type\":\"c\"}\n{\"type\":");
        run(&r);
        ASSERT_STREQ(r.types.text, "abc");
        r.pipe[1] = safe_close(r.pipe[1]);      /* the half line is that of a writer who died */
        run(&r);
        ASSERT_EQ(r.ended, 0);
        ASSERT_STREQ(r.types.text, "abc");
}

TEST(pause) {
        _cleanup_(reader_done) Reader r;

        reader_setup(&r);
        r.pause_on_b = true;
        put(&r, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n{\"type\":\"c\"}\n{\"type\":\"d\"}\n");
        run(&r);
        ASSERT_STREQ(r.types.text, "ab");
        ASSERT_OK(turn_stream_set_paused(r.stream, false));
        run(&r);
        ASSERT_STREQ(r.types.text, "abcd");
        ASSERT_EQ(r.ended, 1);
}

TEST(enough) {
        _cleanup_(reader_done) Reader r;

        reader_setup(&r);
        put(&r, "{\"type\":\"end\"}\n{\"type\":\"c\"}\n");
        r.pipe[1] = safe_close(r.pipe[1]);
        run(&r);
        ASSERT_STREQ(r.types.text, "end");
        ASSERT_EQ(r.ended, 1);
}

TEST(nonsense) {
        static const char *const t[] = { "hello\n", "{}\n", "[1]\n", "{\"type\":7}\n", "{\"type\":\"\xff\"}\n",
                "null\n" };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(reader_done) Reader r;

                reader_setup(&r);
                put(&r, t[i]);
                run(&r);
                ASSERT_EQ(r.ended, -EBADMSG);
        }
}

TEST(line_without_end) {
        _cleanup_(reader_done) Reader r;
        char block[4096];

        reader_setup(&r);
        memset(block, 'x', sizeof(block));
        for (size_t i = 0; i < MIB(17) && r.ended == 1; i += sizeof(block)) {
                ASSERT_EQ(write(r.pipe[1], block, sizeof(block)), sizeof(block));
                run(&r);
        }
        ASSERT_EQ(r.ended, -EMSGSIZE);
}

TEST_MAIN();
