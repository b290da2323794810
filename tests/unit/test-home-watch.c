/* SPDX-License-Identifier: MIT */

/* A machine that has no inotify watches left: the limits of a user namespace of our own stand for its. */

#include <fcntl.h>
#include <sched.h>

#include "unit-world.h"

static bool set_limit(const char *name, const char *value) {
        _cleanup_free_ char *path = path_join("/proc/sys/user", name);
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd >= 0 && write(fd, value, strlen(value)) > 0;
}

static const char* problem_of(const World *w) {
        ASSERT_EQ(strv_length(w->manager.problems), 2);
        ASSERT_STREQ(w->manager.problems[0], w->paths->agents);
        return w->manager.problems[1];
}

TEST(no_watches) {
        static const char changed[] = "id: rob\nstate: running\ndisplay_name: Changed\n";
        static const struct {
                const char *limit, *advice;
        } t[] = {
                /* In this order: the instance stays once it is there. */
                { "max_inotify_instances", "fs.inotify.max_user_instances" },
                { "max_inotify_watches", "fs.inotify.max_user_watches" },
        };
        _cleanup_(world_done) World w;

        world_init(&w);
        if (unshare(CLONE_NEWUSER) < 0 || !set_limit(t[0].limit, "0"))
                skip();
        run(&w);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                ASSERT_TRUE(set_limit(t[i].limit, "0"));
                ASSERT_OK(manager_rescan(&w.manager));
                ASSERT_NOT_NULL(strstr(problem_of(&w), t[i].advice));
                ASSERT_EQ(w.manager.n_agents, 1);
                if (i == 0)
                        ASSERT_TRUE(set_limit(t[i].limit, "10"));
        }

        /* It is still looked at when it is asked to. */
        ASSERT_OK(file_write_atomic(w.agent->home->config_path, changed, strlen(changed), 0600));
        ASSERT_OK(manager_rescan(&w.manager));
        ASSERT_STREQ(w.agent->config->display_name, "Changed");

        ASSERT_TRUE(set_limit("max_inotify_watches", "1000"));
        ASSERT_OK(manager_rescan(&w.manager));
        ASSERT_EQ(strv_length(w.manager.problems), 0);
}

#define TEST_SUITE "home-watch"
TEST_MAIN();
