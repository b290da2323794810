/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "home-fixture.h"
#include "refresh.h"

#define LOGIN ".claude/.credentials.json"

/* An operator, and a CLI of his that does what a script says. */
typedef struct World {
        char *home, *bin, *path;
        RefreshSpec spec;
} World;

static void world_done(World *w) {
        free(w->home);
        free(w->bin);
        free(w->path);
}

static void put_login(const World *w, int64_t in_sec) {
        int64_t msec = ((int64_t) time(NULL) + in_sec) * 1000;
        _cleanup_free_ char *text = asprintf_new("{\"claudeAiOauth\":{\"accessToken\":\"t\",\"refreshToken\":\"r\","
                                                 "\"expiresAt\":%" PRIi64 "}}", msec);

        put_file(w->home, LOGIN, text);
}

static void put_cli(const World *w, const char *script) {
        _cleanup_free_ char *text = strjoin("#!/bin/sh\necho run >> \"$HOME/runs\"\n", script),
                            *path = path_join(w->bin, "claude");

        put_file(w->bin, "claude", text);
        ASSERT_EQ(chmod(path, 0755), 0);
}

static World world_new(const Fixture *f, int64_t in_sec, const char *script) {
        static char *const environment[] = {
                (char*) "ANTHROPIC_API_KEY=secret", (char*) "TZ=UTC", (char*) "CLAUDE_CONFIG_DIR=/x", NULL,
        };
        World w = { .home = path_join(f->root, "user"), .bin = path_join(f->root, "user/bin") };

        w.path = strjoin(w.bin, ":/usr/bin:/bin");
        w.spec = (RefreshSpec) {
                .user_home = w.home, .path = w.path, .environment = environment, .timeout_usec = 20 * USEC_PER_SEC,
        };
        put_login(&w, in_sec);
        put_cli(&w, script);
        return w;
}

#define WORLD(name, in_sec, script) FIXTURE(f); _cleanup_(world_done) World name = world_new(&f, in_sec, script)
#define REFRESHED(name, w) _cleanup_(refresh_done) Refresh name = {}; ASSERT_OK(refresh_run(&(w).spec, &name))

#define RENEW "echo '{\"claudeAiOauth\":{\"accessToken\":\"new\",\"expiresAt\":4102444800000}}' " \
              "> \"$HOME/" LOGIN "\"\n"

TEST(not_before_it_is_due) {
        WORLD(w, 320, RENEW);
        REFRESHED(one, w);

        ASSERT_EQ(one.result, REFRESH_NOT_NEEDED);
        ASSERT_FALSE(is_there(w.home, "runs"));
        put_login(&w, 300);
        REFRESHED(two, w);
        ASSERT_EQ(two.result, REFRESH_OK);
        ASSERT_TRUE(is_there(w.home, "runs"));
        ASSERT_EQ(two.expires_after_usec, 4102444800000ULL * USEC_PER_MSEC);
        ASSERT_EQ(two.exit_status, 0);
        REFRESHED(three, w);
        ASSERT_EQ(three.result, REFRESH_NOT_NEEDED);
        w.spec.always = true;
        REFRESHED(four, w);
        ASSERT_EQ(four.result, REFRESH_OK);
}

TEST(how_it_is_run) {
        WORLD(w, -5, "printf '%s\\n' \"$@\" > \"$HOME/argv\"\nenv > \"$HOME/env\"\npwd > \"$HOME/cwd\"\ncat\n");
        REFRESHED(r, w);
        _cleanup_free_ char *argv = get_file(w.home, "argv"), *env = get_file(w.home, "env"),
                            *cwd = get_file(w.home, "cwd"), *home = strjoin("HOME=", w.home, "\n");

        ASSERT_STREQ(argv, "-p\n--max-turns\n1\n--output-format\nstream-json\n--verbose\nok\n");
        ASSERT_NULL(strstr(env, "ANTHROPIC_API_KEY"));
        ASSERT_NULL(strstr(env, "CLAUDE_CONFIG_DIR"));
        ASSERT_NOT_NULL(strstr(env, "TZ=UTC\n"));
        ASSERT_NOT_NULL(strstr(env, home));
        ASSERT_NOT_NULL(startswith(cwd, "/tmp/puffo-credentials-"));
        ASSERT_FALSE(is_there(r.directory, ""));
        ASSERT_EQ(r.result, REFRESH_OK);
}

TEST(what_it_says) {
        static const struct { const char *script; RefreshResult result; int status; } t[] = {
                { "echo fine", REFRESH_OK, 0 },
                { "echo 'API Error: 401 gone'", REFRESH_AUTH_FAILED, 0 },
                { "echo 'Please run /login' >&2; exit 1", REFRESH_AUTH_FAILED, 1 },
                { "echo '\"type\":\"authentication_error\"'; exit 3", REFRESH_AUTH_FAILED, 3 },
                { "echo overloaded; exit 7", REFRESH_FAILED, 7 },
                { "kill -TERM $$", REFRESH_FAILED, 143 },
                /* Beyond what is kept; whoever it leaves behind keeps the pipes open. */
                { "yes | head -c 5000000; sleep 1000 & exit 0", REFRESH_OK, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                WORLD(w, 10, t[i].script);
                REFRESHED(r, w);

                ASSERT_EQ(r.result, t[i].result);
                ASSERT_EQ(r.exit_status, t[i].status);
                ASSERT_TRUE(strlen(r.output) <= MIB(1));
        }
}

TEST(one_that_hangs) {
        WORLD(w, 10, "echo $$ > \"$HOME/pid\"; echo begun; sleep 1000\n");
        _cleanup_free_ char *pid = NULL;

        w.spec.timeout_usec = 300 * USEC_PER_MSEC;
        REFRESHED(r, w);
        ASSERT_EQ(r.result, REFRESH_FAILED);
        ASSERT_EQ(r.exit_status, -1);
        ASSERT_STREQ(r.output, "begun\n");
        pid = get_file(w.home, "pid");
        ASSERT_TRUE(kill((pid_t) atoi(pid), 0) < 0 && errno == ESRCH);
}

TEST(one_at_a_time) {
        WORLD(w, 10, RENEW);
        _cleanup_free_ char *path = path_join(w.home, ".claude");
        _cleanup_close_ int lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        ASSERT_EQ(flock(lock, LOCK_EX), 0);
        REFRESHED(r, w);
        ASSERT_EQ(r.result, REFRESH_BUSY);
        ASSERT_FALSE(is_there(w.home, "runs"));
        ASSERT_NULL(r.argv);
}

TEST(nothing_to_refresh) {
        WORLD(w, 10, RENEW);
        Refresh r = {};

        put_file(w.home, LOGIN, "{}");
        REFRESHED(none, w);
        ASSERT_EQ(none.result, REFRESH_MISSING);
        put_file(w.home, LOGIN, "{\"claudeAiOauth\":{\"accessToken\":\"t\"}}");
        REFRESHED(lasting, w);
        ASSERT_EQ(lasting.result, REFRESH_NOT_NEEDED);
        ASSERT_FALSE(is_there(w.home, "runs"));

        put_login(&w, 10);
        w.spec.path = "/nonexistent";
        ASSERT_ERROR(refresh_run(&w.spec, &r), ENOENT);
}

#define TEST_SUITE "refresh"
TEST_MAIN();
