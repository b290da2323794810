/* SPDX-License-Identifier: MIT */

#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "agent-home.h"
#include "count-entries.h"
#include "home-fixture.h"
#include "role.h"
#include "tree.h"

static AgentHome* create(const Fixture *f, const char *id) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        AgentHome *h = NULL;

        ASSERT_OK(agent_config_new(&c, id));
        ASSERT_OK(agent_home_create(f->paths, c, NULL, &h));
        return h;
}

static AgentConfig* load(const AgentHome *h) {
        _cleanup_free_ char *error = NULL;
        AgentConfig *c = NULL;

        if (agent_config_load(&c, h->config_path, h->id, &error) < 0)
                fail_msg("%s", error);
        return c;
}

TEST(create) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = create(&f, "bot-1"), *twin = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);
        _cleanup_free_ char *profile = get_file(h->directory, "profile.md"),
                            *expected = path_join(f.paths->agents, "bot-1");

        ASSERT_STREQ(h->directory, expected);
        ASSERT_TRUE(endswith(h->workspace, "/agents/bot-1/workspace"));
        ASSERT_NULL(h->role);
        ASSERT_EQ(count_entries(h->directory), 4);
        ASSERT_EQ(count_entries(f.paths->home), 1);     /* nothing stays aside */
        ASSERT_EQ(get_mode(f.paths->agents, "bot-1"), 0700);
        ASSERT_EQ(get_mode(h->directory, "agent.yml"), 0600);
        ASSERT_EQ(get_mode(h->directory, "profile.md"), 0600);
        ASSERT_EQ(get_mode(h->directory, "memory"), 0700);
        ASSERT_STREQ(profile, agent_profile_template());
        ASSERT_TRUE(c->kind_given && c->created_at > 0 && c->running);
        ASSERT_FALSE(c->sandbox_given);
        ASSERT_ERROR(agent_home_create(f.paths, c, NULL, &twin), EEXIST);
        ASSERT_EQ(count_entries(f.paths->home), 1);
}

TEST(create_with_tools_is_sandboxed) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = NULL, *again = NULL;
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_free_ char *profile = NULL;

        ASSERT_OK(agent_config_new(&c, "bot"));
        c->kind = RUNTIME_CLI_LOCAL;
        ASSERT_OK(agent_home_create(f.paths, c, "mine\n", &h));
        again = load(h);
        ASSERT_TRUE(again->sandbox_given);
        ASSERT_EQ(again->sandbox, SANDBOX_WORKSPACE);
        profile = get_file(h->directory, "profile.md");
        ASSERT_STREQ(profile, "mine\n");
}

TEST(create_refuses) {
        static const char *const ids[] = { "", "-bad", "../x", "a b", ".x", "a/b",
                                           "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                _cleanup_(agent_config_freep) AgentConfig *c = NULL;
                AgentHome *h = NULL;

                ASSERT_OK(agent_config_new(&c, ids[i]));
                ASSERT_ERROR(agent_home_create(f.paths, c, NULL, &h), EINVAL);
        }
        for (size_t i = 0; i < 3; i++) {
                _cleanup_(agent_config_freep) AgentConfig *c = NULL;
                AgentHome *h = NULL;

                ASSERT_OK(agent_config_new(&c, "bot"));
                ASSERT_OK(free_and_strdup(i == 0 ? &c->profile : i == 1 ? &c->memory_dir : &c->workspace_dir,
                                          "x/../../y"));
                ASSERT_ERROR(agent_home_create(f.paths, c, NULL, &h), EINVAL);
        }
        ASSERT_EQ(count_entries(f.paths->home), 1);
        ASSERT_EQ(count_entries(f.paths->agents), 0);
}

TEST(create_does_not_replace) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        AgentHome *h = NULL;

        put_file(f.paths->agents, "bot/notes.txt", "mine");
        ASSERT_OK(agent_config_new(&c, "bot"));
        ASSERT_ERROR(agent_home_create(f.paths, c, NULL, &h), EEXIST);
        ASSERT_TRUE(is_there(f.paths->agents, "bot/notes.txt"));
        ASSERT_EQ(count_entries(f.paths->home), 1);
}

TEST(enumerate) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *made = NULL;
        _cleanup_(strv_freep) char **problems = NULL;
        _cleanup_free_ char *gone = NULL, *workspace = NULL;
        AgentHome **homes = NULL;
        size_t n = 0;

        ASSERT_EQ(agent_homes_enumerate(f.paths, &homes, &n, &problems), 0);
        ASSERT_EQ(n, 0);
        ASSERT_NULL(problems);

        put_file(f.paths->agents, "zoe/agent.yml", "");
        put_file(f.paths->agents, "Ann/agent.yml", "runtime: {max_turns: broken}\n");
        put_file(f.paths->agents, "writer/agent.yml", "");
        put_file(f.paths->agents, "no-config/profile.md", "");
        put_file(f.paths->agents, ".new-xyz/agent.yml", "");
        put_file(f.paths->agents, "bad name/agent.yml", "");
        put_file(f.paths->agents, "just-a-file", "");
        put_file(f.paths->role_agents, "writer/agent.yml", "");
        put_file(f.paths->role_agents, "lost/agent.yml", "profile: /x/SOUL.md\nworkspace_dir: /nowhere/lost\n");
        ASSERT_OK(role_agent_ensure(f.paths, "manager", NULL, "http://127.0.0.1:7011", &made));
        made = agent_home_free(made);
        ASSERT_OK(role_agent_ensure(f.paths, "engineer", "alice", "http://127.0.0.1:7011", &made));

        ASSERT_OK(agent_homes_enumerate(f.paths, &homes, &n, &problems));
        ASSERT_EQ(n, 6);
        ASSERT_STREQ(homes[0]->id, "manager");
        ASSERT_STREQ(homes[0]->role, "manager");
        ASSERT_NULL(homes[0]->name);
        ASSERT_STREQ(homes[1]->id, "Ann");
        ASSERT_STREQ(homes[2]->id, "engineer_alice");
        ASSERT_STREQ(homes[2]->role, "engineer");
        ASSERT_STREQ(homes[2]->name, "alice");
        workspace = path_join(f.paths->proxy_home, "engineer_alice");
        ASSERT_STREQ(homes[2]->workspace, workspace);
        /* Its workspace is gone, but it is there: init makes it again. */
        ASSERT_STREQ(homes[3]->id, "lost");
        ASSERT_STREQ(homes[3]->workspace, "/nowhere/lost");
        ASSERT_STREQ(homes[4]->id, "writer");
        ASSERT_NULL(homes[4]->role);
        ASSERT_STREQ(homes[5]->id, "zoe");

        ASSERT_EQ(strv_length(problems), 4);
        ASSERT_TRUE(endswith(problems[0], "/home/agents/bad name"));
        ASSERT_NOT_NULL(strstr(problems[1], "/home/agents/bad name: the name is no agent id"));
        ASSERT_TRUE(endswith(problems[2], "/.state/agents/writer"));
        ASSERT_NOT_NULL(strstr(problems[3], "/.state/agents/writer: not loaded, since "));
        ASSERT_NOT_NULL(strstr(problems[3], "/home/agents/writer has the same id"));
        agent_homes_free(homes, n);
}

TEST(find) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *a = create(&f, "Bot"), *found = NULL, *lower = NULL, *role = NULL;

        ASSERT_OK(agent_home_find(f.paths, "Bot", &found));
        ASSERT_STREQ(found->directory, a->directory);
        ASSERT_ERROR(agent_home_find(f.paths, "bot", &lower), ENOENT);
        ASSERT_ERROR(agent_home_find(f.paths, "../agents/Bot", &lower), ENOENT);
        ASSERT_ERROR(agent_home_find(f.paths, "", &lower), ENOENT);
        ASSERT_OK(role_agent_ensure(f.paths, "tester", NULL, "", &role));
        ASSERT_OK(agent_home_find(f.paths, "Tester", &lower));
        ASSERT_STREQ(lower->id, "tester");
}

TEST(open_from_directory) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *made = NULL, *h = NULL, *puffo = NULL;
        _cleanup_free_ char *slashed = NULL;

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", "bo", "", &made));
        slashed = strjoin(made->directory, "/");
        ASSERT_OK(agent_home_open(slashed, &h));
        ASSERT_STREQ(h->directory, made->directory);
        ASSERT_STREQ(h->role, "engineer");
        ASSERT_STREQ(h->name, "bo");
        ASSERT_STREQ(h->workspace, made->workspace);

        put_file(f.paths->agents, "rob/agent.yml", "workspace_dir: /srv/rob\n");
        free(slashed);
        slashed = path_join(f.paths->agents, "rob");
        ASSERT_OK(agent_home_open(slashed, &puffo));
        ASSERT_NULL(puffo->role);
        ASSERT_STREQ(puffo->workspace, "/srv/rob");
}

TEST(prompt_of_puffo_agent) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = create(&f, "bot");
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);
        _cleanup_free_ char *plain = NULL, *primed = NULL, *memory = NULL;

        ASSERT_OK(agent_home_write_profile(h, c, "\n  Be kind.\xc3\xa4  \n\n"));
        put_file(h->directory, "memory/b_topic.md", "\n\nbee\n");
        put_file(h->directory, "memory/a.md", "ay\n");
        put_file(h->directory, "memory/empty.md", " \n");
        put_file(h->directory, "memory/README.md", "not this");
        put_file(h->directory, "memory/other.txt", "not this");
        put_file(h->directory, "memory/sub/deep.md", "not this");
        ASSERT_OK(agent_home_read_memory(h, c, &memory));
        ASSERT_STREQ(memory, "### a\n\nay\n\n### b_topic\n\nbee");

        ASSERT_OK(agent_home_system_prompt(h, c, NULL, &plain));
        ASSERT_STREQ(plain, "# Your role\n\nBe kind.ä\n\n---\n\n# Your memory\n\n### a\n\nay\n\n### b_topic\n\nbee\n");

        ASSERT_OK(free_and_strdup(&c->slug, "bot-1234"));
        ASSERT_OK(agent_home_system_prompt(h, c, NULL, &primed));
        ASSERT_TRUE(startswith(primed, "# Puffo.ai platform primer\n"));
        ASSERT_NOT_NULL(strstr(primed, "turn on.\n\n---\n\n# Your role\n\nBe kind.ä\n\n---\n\n# Your memory\n\n### a"));
}

TEST(prompt_of_role_agent) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", NULL, "", &h));
        c = load(h);
        put_file(h->workspace, "SOUL.md", "soul\n");
        put_file(h->workspace, "AGENTS.md", "agents\n");
        put_file(h->workspace, "memory/memory.md", "memory\n");
        put_file(h->workspace, "memory/other.md", "not this\n");
        ASSERT_OK(agent_home_system_prompt(h, c, NULL, &text));
        ASSERT_STREQ(text, "# Your role\n\nsoul\n\nagents\n\n---\n\n# Your memory\n\nmemory\n");
}

TEST(hostile_texts) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = create(&f, "bot");
        _cleanup_(agent_config_freep) AgentConfig *c = load(h);
        _cleanup_free_ char *path = path_join(h->directory, "profile.md"), *text = NULL, *large = malloc(KIB(300) + 1),
                            *fifo = path_join(h->directory, "memory/fifo.md"), *memory = NULL;

        ASSERT_OK(file_write_atomic(path, "a\0b\xff\xc3(\xe2\x82\xac", 9, 0600));
        ASSERT_OK(agent_home_read_profile(h, c, &text));
        ASSERT_STREQ(text, "a\xef\xbf\xbd" "b\xef\xbf\xbd\xef\xbf\xbd(€");
        text = mfree(text);

        memset(large, 'x', KIB(300));
        large[KIB(300)] = 0;
        ASSERT_ERROR(agent_home_write_profile(h, c, large), EFBIG);
        ASSERT_ERROR(agent_home_write_profile(h, c, "\xff"), EINVAL);
        ASSERT_OK(file_write_atomic(path, large, KIB(300), 0600));
        ASSERT_OK(agent_home_read_profile(h, c, &text));
        ASSERT_TRUE(strlen(text) < KIB(257));
        ASSERT_TRUE(endswith(text, "256 KiB]"));
        text = mfree(text);

        ASSERT_EQ(unlink(path), 0);
        ASSERT_OK(agent_home_read_profile(h, c, &text));
        ASSERT_STREQ(text, "");

        ASSERT_EQ(mkfifo(fifo, 0600), 0);
        put_file(h->directory, "memory/1.md", large);
        put_file(h->directory, "memory/2.md", large);
        ASSERT_OK(agent_home_read_memory(h, c, &memory));
        ASSERT_TRUE(strlen(memory) < KIB(257));
        ASSERT_NULL(strstr(memory, "### 2"));
}

/* System mode: the directory is the agent's user's, who may put there what he likes, and we are root. */
TEST(directory_of_somebody_else) {
        if (geteuid() != 0)
                skip();

        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = create(&f, "bot");
        _cleanup_(agent_config_freep) AgentConfig *c = load(h), *none = NULL;
        _cleanup_free_ char *secret = path_join(f.root, "secret"), *profile = path_join(h->directory, "profile.md"),
                            *memory = path_join(h->directory, "memory/m.md"), *sub = path_join(h->directory, "sub"),
                            *text = NULL, *topics = NULL, *error = NULL, *kept = NULL;
        struct stat st;

        put_file(f.root, "secret", "root's own");
        ASSERT_EQ(chown(h->directory, 12345, 12345), 0);
        ASSERT_EQ(unlink(profile), 0);
        ASSERT_EQ(symlink(secret, profile), 0);
        ASSERT_EQ(symlink(secret, memory), 0);
        ASSERT_OK(agent_home_read_profile(h, c, &text));
        ASSERT_STREQ(text, "");
        ASSERT_OK(agent_home_read_memory(h, c, &topics));
        ASSERT_STREQ(topics, "");

        /* The link is replaced, not what it points to, and the new file is his. */
        ASSERT_OK(agent_home_write_profile(h, c, "new"));
        ASSERT_EQ(lstat(profile, &st), 0);
        ASSERT_TRUE(S_ISREG(st.st_mode));
        ASSERT_EQ(st.st_uid, 12345);
        kept = get_file(f.root, "secret");
        ASSERT_STREQ(kept, "root's own");
        ASSERT_EQ(unlink(profile), 0);
        ASSERT_OK(agent_home_write_profile(h, c, "new"));
        ASSERT_EQ(lstat(profile, &st), 0);
        ASSERT_EQ(st.st_uid, 12345);
        ASSERT_OK(agent_config_save(c, h->config_path));

        ASSERT_EQ(symlink(f.root, sub), 0);
        ASSERT_OK(free_and_strdup(&c->profile, "sub/secret"));
        ASSERT_ERROR(agent_home_write_profile(h, c, "new"), EXDEV);
        ASSERT_OK(free_and_strdup(&c->profile, secret));
        ASSERT_ERROR(agent_home_write_profile(h, c, "new"), EXDEV);

        ASSERT_EQ(unlink(h->config_path), 0);
        ASSERT_EQ(symlink(secret, h->config_path), 0);
        ASSERT_ERROR(agent_config_load(&none, h->config_path, "bot", &error), EXDEV);
}

TEST(archive) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *a = create(&f, "bot"), *b = NULL, *role = NULL, *found = NULL;
        _cleanup_free_ char *first = NULL, *second = NULL, *third = NULL,
                            *prefix = strjoin(f.paths->archived, "/bot-2");

        ASSERT_OK(agent_home_archive(f.paths, a, &first));
        ASSERT_TRUE(startswith(first, prefix));
        ASSERT_EQ(strlen(first), strlen(f.paths->archived) + strlen("/bot-YYYYMMDD-HHMMSS"));
        ASSERT_TRUE(is_there(first, "agent.yml"));
        ASSERT_FALSE(is_there(f.paths->agents, "bot"));
        ASSERT_EQ(get_mode(f.paths->home, "archived"), 0700);

        b = create(&f, "bot");
        ASSERT_OK(agent_home_archive(f.paths, b, &second));
        ASSERT_TRUE(is_there(second, "agent.yml") && !streq(first, second));

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", "bo", "", &role));
        ASSERT_OK(agent_home_archive(f.paths, role, &third));
        ASSERT_TRUE(is_there(third, "agent.yml") && is_there(third, "workspace/AGENTS.md"));
        ASSERT_FALSE(is_there(f.paths->proxy_home, "engineer_bo"));
        ASSERT_ERROR(agent_home_find(f.paths, "engineer_bo", &found), ENOENT);
}

TEST(manager_is_not_archived) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        char *path = NULL;

        ASSERT_OK(role_agent_ensure(f.paths, "manager", NULL, "", &h));
        ASSERT_ERROR(agent_home_archive(f.paths, h, &path), EBUSY);
        ASSERT_TRUE(is_there(h->workspace, "AGENTS.md"));
}

/* agent.yml may name any directory of the user as the workspace: it is not ours to remove. */
TEST(foreign_workspace_stays) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *made = NULL, *h = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *project = path_join(f.root, "project");

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", "bo", "", &made));
        put_file(f.root, "project/SOUL.md", "soul");
        c = load(made);
        free(c->workspace_dir);
        free(c->profile);
        c->workspace_dir = strdup(project);
        c->profile = strjoin(project, "/SOUL.md");
        ASSERT_OK(agent_config_save(c, made->config_path));
        ASSERT_OK(agent_home_find(f.paths, "engineer_bo", &h));
        ASSERT_STREQ(h->workspace, project);
        ASSERT_OK(home_delete(f.paths, h));
        ASSERT_TRUE(is_there(project, "SOUL.md"));
        ASSERT_TRUE(is_there(f.paths->proxy_home, "engineer_bo"));
        ASSERT_FALSE(is_there(f.paths->role_agents, "engineer_bo"));
}

TEST(delete) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *a = create(&f, "bot"), *role = NULL;

        ASSERT_OK(home_delete(f.paths, a));
        ASSERT_EQ(count_entries(f.paths->agents), 0);
        ASSERT_OK(home_delete(f.paths, a));
        ASSERT_OK(role_agent_ensure(f.paths, "engineer", NULL, "", &role));
        ASSERT_OK(home_delete(f.paths, role));
        ASSERT_EQ(count_entries(f.paths->role_agents), 0);
        ASSERT_FALSE(is_there(f.paths->proxy_home, "engineer"));
}

TEST(hide) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *a = create(&f, "bot"), *role = NULL, *found = NULL;
        _cleanup_(strv_freep) char **trees = NULL, **none = NULL, **both = NULL;

        ASSERT_OK(agent_home_hide(f.paths, a, &trees));
        ASSERT_EQ(strv_length(trees), 1);
        ASSERT_TRUE(is_there(trees[0], "agent.yml"));
        ASSERT_ERROR(agent_home_find(f.paths, "bot", &found), ENOENT);
        ASSERT_OK(agent_home_hide(f.paths, a, &none));
        ASSERT_EQ(strv_length(none), 0);

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", NULL, "", &role));
        ASSERT_OK(agent_home_hide(f.paths, role, &both));
        ASSERT_EQ(strv_length(both), 2);
        ASSERT_TRUE(is_there(both[0], "AGENTS.md") && is_there(both[1], "agent.yml"));
        ASSERT_FALSE(is_there(f.paths->proxy_home, "engineer"));
        ASSERT_ERROR(agent_home_find(f.paths, "engineer", &found), ENOENT);
}

/* A workspace that cannot go keeps the agent. */
TEST(hide_is_all_or_nothing) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                skip();

        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL, *found = NULL;
        _cleanup_(strv_freep) char **trees = NULL;

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", NULL, "", &h));
        ASSERT_EQ(mount(h->workspace, h->workspace, NULL, MS_BIND, NULL), 0);
        ASSERT_ERROR(agent_home_hide(f.paths, h, &trees), EBUSY);
        ASSERT_EQ(umount(h->workspace), 0);
        ASSERT_OK(agent_home_find(f.paths, "engineer", &found));
        ASSERT_TRUE(is_there(found->workspace, "AGENTS.md"));
}

TEST(leftovers_are_swept) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *a = create(&f, "bot"), *role = NULL;
        const char *const parents[] = { f.paths->agents, f.paths->role_agents, f.paths->proxy_home };

        ASSERT_OK(role_agent_ensure(f.paths, "engineer", NULL, "", &role));
        for (size_t i = 0; i < ELEMENTSOF(parents); i++) {
                put_file(parents[i], ".new-aB3xYz/keys/k.json", "secret");
                put_file(parents[i], ".gone-0123abcd/agent.yml", "");
                put_file(parents[i], ".new-notes/mine.txt", "");
                put_file(parents[i], ".gone-a.12345b", "");
                put_file(parents[i], ".gone-01234567", "a file");
        }
        ASSERT_EQ(agent_homes_sweep(f.paths, time(NULL) - 60), 0);   /* somebody may be at it */
        ASSERT_EQ(agent_homes_sweep(f.paths, time(NULL) + 60), 6);
        for (size_t i = 0; i < ELEMENTSOF(parents); i++) {
                ASSERT_FALSE(is_there(parents[i], ".new-aB3xYz"));
                ASSERT_FALSE(is_there(parents[i], ".gone-0123abcd"));
                ASSERT_TRUE(is_there(parents[i], ".new-notes/mine.txt"));
                ASSERT_TRUE(is_there(parents[i], ".gone-a.12345b"));
                ASSERT_TRUE(is_there(parents[i], ".gone-01234567"));
        }
        ASSERT_TRUE(is_there(a->directory, "agent.yml") && is_there(role->directory, "agent.yml"));
        ASSERT_TRUE(is_there(role->workspace, "SOUL.md"));
}

TEST(move_to_other_file_system) {
        struct stat here, there;

        if (stat("/tmp", &here) < 0 || stat("/dev/shm", &there) < 0 || here.st_dev == there.st_dev)
                skip();

        FIXTURE(f);
        _cleanup_free_ char *from = path_join(f.root, "from"), *to = strdup("/dev/shm/puffo-test-XXXXXX"),
                            *target = NULL, *link = path_join(f.root, "from/link"), *text = NULL;

        ASSERT_NOT_NULL(mkdtemp(to));
        put_file(f.root, "from/sub/file", "text");
        ASSERT_EQ(symlink("/nowhere", link), 0);
        target = path_join(to, "moved");
        ASSERT_OK(tree_move(from, target));
        ASSERT_FALSE(is_there(f.root, "from"));
        text = get_file(target, "sub/file");
        ASSERT_STREQ(text, "text");
        ASSERT_EQ(get_mode(target, "sub/file"), 0600);
        ASSERT_EQ(count_entries(target), 2);
        ASSERT_EQ(count_entries(to), 1);
        ASSERT_OK(directory_remove(to));
}

#define TEST_SUITE "agent-home"
TEST_MAIN();
