/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus-util.h"
#include "event-util.h"
#include "tests.h"

/* The serving end of a connection, and a peer that speaks without a library. */
typedef struct World {
        sd_event *event;
        sd_bus *bus;
        sd_event_source *early_calls;
        int peer;
        unsigned n_calls;
        bool ends_at_first, ended;
} World;

static void end(World *w) {
        w->early_calls = sd_event_source_disable_unref(w->early_calls);
        w->bus = sd_bus_close_unref(w->bus);
        w->ended = true;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        World *w = userdata;

        if (sd_bus_message_is_signal(m, "org.freedesktop.DBus.Local", "Disconnected"))
                end(w);
        else if (sd_bus_message_is_method_call(m, NULL, "Call") && ++w->n_calls == 1 && w->ends_at_first)
                end(w);
        return 0;
}

static void world_init(World *w) {
        int fds[2];

        *w = (World) {};
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds));
        w->peer = fds[1];
        ASSERT_OK(sd_bus_new(&w->bus));
        ASSERT_OK(sd_bus_set_fd(w->bus, fds[0], fds[0]));
        ASSERT_OK(sd_bus_set_server(w->bus, 1, SD_ID128_MAKE(1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,10)));
        ASSERT_OK(bus_heed_early_calls(w->bus, w->event, &w->early_calls));
        ASSERT_OK(sd_bus_start(w->bus));
        ASSERT_OK(sd_bus_add_filter(w->bus, NULL, on_message, w));
        ASSERT_OK(sd_bus_attach_event(w->bus, w->event, 0));
}

static void world_done(World *w) {
        if (!w->ended)
                end(w);
        close(w->peer);
        sd_event_unref(w->event);
}

#define WORLD(name) _cleanup_(world_done) World name; world_init(&name)

typedef struct Bytes {
        uint8_t data[4096];
        size_t n;
} Bytes;

static void append(Bytes *b, const void *data, size_t n) {
        ASSERT_TRUE(b->n + n <= sizeof(b->data));
        memcpy(b->data + b->n, data, n);
        b->n += n;
}

static void append_authentication(Bytes *b) {
        char hex[32], uid[16];
        size_t n = 0;

        snprintf(uid, sizeof(uid), "%u", (unsigned) getuid());
        for (const char *c = uid; *c; c++)
                n += (size_t) snprintf(hex + n, sizeof(hex) - n, "%02x", (unsigned char) *c);
        append(b, "\0AUTH EXTERNAL ", 15);
        append(b, hex, n);
        append(b, "\r\nBEGIN\r\n", 9);
}

static void append_field(Bytes *b, size_t begin, uint8_t code, char type, const char *value) {
        uint32_t n = (uint32_t) strlen(value);

        while ((b->n - begin) % 8 != 0)
                append(b, "", 1);
        append(b, &(uint8_t[]) { code, 1, (uint8_t) type, 0 }, 4);
        append(b, &n, sizeof(n));
        append(b, value, n + 1);
}

/* A call of Call on /x that wants no reply; damaged: in no byte order that there is. */
static void append_call(Bytes *b, uint32_t serial, bool damaged) {
        size_t begin = b->n;
        uint32_t n;

        append(b, &(uint8_t[]) { damaged ? '?' : __BYTE_ORDER == __LITTLE_ENDIAN ? 'l' : 'B', 1, 1, 1 }, 4);
        append(b, &(uint32_t[]) { 0, serial, 0 }, 12);
        append_field(b, begin, 1, 'o', "/x");
        append_field(b, begin, 3, 's', "Call");
        n = (uint32_t) (b->n - begin - 16);
        memcpy(b->data + begin + 12, &n, sizeof(n));
        while ((b->n - begin) % 8 != 0)
                append(b, "", 1);
}

static void say(World *w, const Bytes *b) {
        ASSERT_EQ(write(w->peer, b->data, b->n), b->n);
}

/* Until nothing more happens by itself. */
static unsigned run(World *w) {
        unsigned n = 0;

        while (sd_event_run(w->event, 200 * USEC_PER_MSEC) > 0)
                ASSERT_TRUE(++n < 1000);
        return n;
}

TEST(calls_in_one_piece_with_the_authentication) {
        WORLD(w);
        Bytes b = {};

        append_authentication(&b);
        for (uint32_t serial = 1; serial <= 3; serial++)
                append_call(&b, serial, false);
        say(&w, &b);
        run(&w);
        ASSERT_EQ(w.n_calls, 3);

        /* And it is a connection like any other. */
        b.n = 0;
        append_call(&b, 4, false);
        say(&w, &b);
        run(&w);
        ASSERT_EQ(w.n_calls, 4);
        ASSERT_FALSE(w.ended);
}

TEST(calls_after_the_authentication) {
        WORLD(w);
        Bytes b = {};

        append_authentication(&b);
        say(&w, &b);
        run(&w);
        b.n = 0;
        append_call(&b, 1, false);
        append_call(&b, 2, false);
        say(&w, &b);
        run(&w);
        ASSERT_EQ(w.n_calls, 2);
}

TEST(half_a_call_in_one_piece_with_the_authentication) {
        WORLD(w);
        Bytes b = {}, rest = {};

        append_authentication(&b);
        append_call(&b, 1, false);
        append_call(&b, 2, false);
        append(&rest, b.data + b.n - 10, 10);
        b.n -= 10;
        say(&w, &b);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);
        say(&w, &rest);
        run(&w);
        ASSERT_EQ(w.n_calls, 2);
}

TEST(the_connection_is_freed_in_a_call) {
        WORLD(w);
        Bytes b = {};

        w.ends_at_first = true;
        append_authentication(&b);
        append_call(&b, 1, false);
        append_call(&b, 2, false);
        say(&w, &b);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);
}

TEST(what_is_no_message_ends_the_connection) {
        WORLD(w);
        Bytes b = {};

        append_authentication(&b);
        append_call(&b, 1, false);
        append_call(&b, 2, true);
        say(&w, &b);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);
        ASSERT_TRUE(w.ended);
}

TEST(the_peer_goes_before_it_has_said_who_it_is) {
        WORLD(w);

        ASSERT_EQ(write(w.peer, "\0AUTH", 5), 5);
        run(&w);
        ASSERT_OK(shutdown(w.peer, SHUT_RDWR));
        run(&w);
        ASSERT_TRUE(w.ended);
}

#define TEST_SUITE "bus-util"
TEST_MAIN();
