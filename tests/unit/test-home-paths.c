/* SPDX-License-Identifier: MIT */

#include "home-fixture.h"

static void set(const char *name, const char *value) {
        if (value)
                ASSERT_EQ(setenv(name, value, 1), 0);
        else
                ASSERT_EQ(unsetenv(name), 0);
}

TEST(user_homes) {
        static const struct {
                const char *agent_home, *puffo_home, *proxy_home, *home, *expect_home, *expect_proxy;
        } t[] = {
                { NULL, NULL, NULL, "/home/li", "/home/li/.puffo-agent", "/home/li/.agent_proxy" },
                { "/a", "/b", "/c", "/home/li", "/a", "/c" },
                { "", "/b", "", "/home/li", "/b", "/home/li/.agent_proxy" },
                { "~/x", NULL, "~/y/", "/home/li", "/home/li/x", "/home/li/y" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(home_paths_freep) HomePaths *p = NULL;

                set("PUFFO_AGENT_HOME", t[i].agent_home);
                set("PUFFO_HOME", t[i].puffo_home);
                set("AGENT_PROXY_HOME", t[i].proxy_home);
                set("HOME", t[i].home);
                ASSERT_OK(home_paths_new(&p, SCOPE_USER));
                ASSERT_STREQ(p->home, t[i].expect_home);
                ASSERT_STREQ(p->proxy_home, t[i].expect_proxy);
        }
}

TEST(user_tree) {
        _cleanup_(home_paths_freep) HomePaths *p = NULL;

        set("PUFFO_AGENT_HOME", "/h");
        set("AGENT_PROXY_HOME", "/p");
        ASSERT_OK(home_paths_new(&p, SCOPE_USER));
        ASSERT_STREQ(p->agents, "/h/agents");
        ASSERT_STREQ(p->daemon_yml, "/h/daemon.yml");
        ASSERT_STREQ(p->pairing_json, "/h/pairing.json");
        ASSERT_STREQ(p->archived, "/h/archived");
        ASSERT_STREQ(p->proxy_state, "/p/.state");
        ASSERT_STREQ(p->role_agents, "/p/.state/agents");
        ASSERT_STREQ(p->templates, "/p/.templates");
        ASSERT_NULL(p->owners);
}

TEST(relative_home_is_made_absolute) {
        _cleanup_(home_paths_freep) HomePaths *p = NULL;

        set("PUFFO_AGENT_HOME", "rel");
        ASSERT_OK(home_paths_new(&p, SCOPE_USER));
        ASSERT_EQ(p->home[0], '/');
        ASSERT_TRUE(endswith(p->home, "/rel"));
}

TEST(no_home) {
        HomePaths *p = NULL;

        set("PUFFO_AGENT_HOME", NULL);
        set("PUFFO_HOME", NULL);
        set("HOME", NULL);
        ASSERT_ERROR(home_paths_new(&p, SCOPE_USER), ENXIO);
        set("HOME", "/home/li");
}

TEST(system_tree) {
        _cleanup_(home_paths_freep) HomePaths *p = NULL;

        ASSERT_OK(home_paths_new(&p, SCOPE_SYSTEM));
        ASSERT_STREQ(p->home, "/var/lib/puffod");
        ASSERT_STREQ(p->agents, "/var/lib/private/puffo");
        ASSERT_STREQ(p->role_agents, p->agents);
        ASSERT_STREQ(p->daemon_yml, "/etc/puffo/daemon.yml");
        ASSERT_STREQ(p->archived, "/var/lib/puffod/archived");
        ASSERT_NULL(p->proxy_home);
}

TEST(make) {
        FIXTURE(f);

        ASSERT_EQ(get_mode(f.paths->home, "agents"), 0700);
        ASSERT_EQ(get_mode(f.paths->proxy_home, ".state/agents"), 0700);
        ASSERT_OK(home_paths_make(f.paths));
}

#define TEST_SUITE "home-paths"
TEST_MAIN();
