/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "hands-login.h"
#include "string-util.h"
#include "tests.h"

/* The operator's login, and a backend that refreshes it, or not. */
typedef struct World {
        sd_event *event;
        HandsLogin *login;
        CliLogin file;
        const char *result;             /* of the next refresh */
        int error;
        uint64_t renewed_usec;          /* when the login expires after it; 0: as before */
        unsigned n_calls, n_freed, n_syncs, n_done, n_logged_out;
} World;

struct CliCall {
        World *world;
        sd_event_source *source;
        void (*done)(int error, const char *result, void *userdata);
        void *userdata;
};

static int on_refresh(sd_event_source *s, void *userdata) {
        CliCall *c = userdata;
        World *w = c->world;

        if (w->renewed_usec > 0) {
                w->file.expires_usec = w->renewed_usec;
                w->file.state = CLI_LOGIN_VALID;
        }
        c->done(w->error, w->error < 0 ? NULL : w->result, c->userdata);
        return 0;
}

static int refresh(void (*done)(int error, const char *result, void *userdata), void *userdata, CliCall **ret,
                   void *backend) {
        World *w = backend;

        w->n_calls++;
        *ret = new0(CliCall, 1);
        **ret = (CliCall) { .world = w, .done = done, .userdata = userdata };
        return w->result || w->error < 0 ? sd_event_add_defer(w->event, &(*ret)->source, on_refresh, *ret) : 0;
}

static CliCall* call_free(CliCall *c) {
        c->world->n_freed++;
        sd_event_source_disable_unref(c->source);
        return mfree(c);
}

static int sync_login(CliLogin *ret, void *userdata) {
        World *w = userdata;

        w->n_syncs++;
        *ret = w->file;
        return 0;
}

static void on_done(bool logged_out, void *userdata) {
        World *w = userdata;

        w->n_done++;
        w->n_logged_out += logged_out;
}

static uint64_t in(int64_t sec) {
        return (uint64_t) ((int64_t) now_realtime_usec() + sec * (int64_t) USEC_PER_SEC);
}

static CliBackend backend;

static void world_init(World *w, int64_t expires_sec) {
        *w = (World) { .result = "ok", .renewed_usec = in(7200) };
        w->file = (CliLogin) {
                .state = expires_sec > 0 ? CLI_LOGIN_VALID : CLI_LOGIN_EXPIRED, .link = CLI_LOGIN_FRESH,
                .expires_usec = in(expires_sec),
        };
        backend = (CliBackend) { .refresh = refresh, .call_free = call_free, .userdata = w };
        ASSERT_OK(sd_event_new(&w->event));
        ASSERT_OK(hands_login_new(&w->login, &(HandsLoginSpec) {
                .event = w->event, .backend = &backend, .sync = sync_login, .on_done = on_done, .userdata = w,
        }));
}

static void world_done(World *w) {
        hands_login_free(w->login);
        ASSERT_EQ(w->n_freed, w->n_calls);
        sd_event_unref(w->event);
}

#define WORLD(name, expires_sec) _cleanup_(world_done) World name; world_init(&name, expires_sec)

static void run(World *w) {
        while (sd_event_run(w->event, 300 * USEC_PER_MSEC) > 0)
                ;
}

TEST(not_due) {
        WORLD(w, 3600);

        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        run(&w);
        ASSERT_EQ(w.n_calls, 0);
}

/* The turn goes on meanwhile. */
TEST(soon) {
        WORLD(w, 200);

        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_TRUE(w.n_syncs >= 1);
        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);
}

TEST(expired) {
        WORLD(w, -10);

        ASSERT_EQ(hands_login_use(w.login, &w.file), 1);
        ASSERT_EQ(hands_login_use(w.login, &w.file), 1);
        ASSERT_EQ(w.n_calls, 1);
        run(&w);
        ASSERT_EQ(w.n_done, 1);
        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);
}

/* When it is of no use, turns do not wait for it each time. */
TEST(without_success) {
        static const struct { const char *result; int error; unsigned n_logged_out; } t[] = {
                { "failed", 0, 0 }, { "busy", 0, 0 }, { "missing", 0, 0 }, { NULL, -ENOTSUP, 0 },
                { "auth-failed", 0, 1 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w, -10);

                w.result = t[i].result;
                w.error = t[i].error;
                w.renewed_usec = 0;
                ASSERT_EQ(hands_login_use(w.login, &w.file), 1);
                run(&w);
                ASSERT_EQ(w.n_done, 1);
                ASSERT_EQ(w.n_logged_out, t[i].n_logged_out);
                ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
                run(&w);
                ASSERT_EQ(w.n_calls, 1);
        }
}

/* He has logged in again, with a token that is soon at its end as well. */
TEST(another_login) {
        WORLD(w, -10);

        w.result = "auth-failed";
        w.renewed_usec = 0;
        ASSERT_EQ(hands_login_use(w.login, &w.file), 1);
        run(&w);
        w.file.expires_usec = in(100);
        w.file.state = CLI_LOGIN_VALID;
        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        run(&w);
        ASSERT_EQ(w.n_calls, 1);        /* ten minutes after the last attempt, not sooner */
}

/* Another agent had it done in the meantime. */
TEST(done_by_others) {
        WORLD(w, 200);
        CliLogin old = w.file;

        w.file.expires_usec = in(7200);
        ASSERT_EQ(hands_login_use(w.login, &old), 0);
        run(&w);
        ASSERT_TRUE(w.n_syncs >= 1);
        ASSERT_EQ(w.n_calls, 0);
}

TEST(freed_while_it_runs) {
        WORLD(w, -10);

        w.result = NULL;
        ASSERT_EQ(hands_login_use(w.login, &w.file), 1);
        run(&w);
        ASSERT_EQ(w.n_done, 0);
}

TEST(no_view) {
        WORLD(w, -10);

        w.file.link = CLI_LOGIN_NO_OPERATOR;
        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        backend.refresh = NULL;
        w.file.link = CLI_LOGIN_FRESH;
        ASSERT_EQ(hands_login_use(w.login, &w.file), 0);
        run(&w);
        ASSERT_EQ(w.n_calls, 0);
}

#define TEST_SUITE "hands-login"
TEST_MAIN();
