/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>
#include <time.h>

#include "home-fixture.h"
#include "role-text.h"
#include "role.h"

TEST(names) {
        static const struct {
                const char *text, *name;        /* NULL: refused */
        } t[] = {
                { "engineer", "engineer" }, { "Engineer", "engineer" }, { "a", "a" }, { "7", "7" },
                { "qa-lead", "qa-lead" },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL }, { "../x", NULL }, { "a/b", NULL }, { "", NULL },
                { "A B", NULL },
                { "-x", NULL }, { "x-", NULL }, { "\xc3\xbcn\xc3\xaf", NULL }, { "a_b", NULL },
                { ".x", NULL }, { "a\n", NULL },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *name = NULL;

                ASSERT_EQ(role_name_normalize(t[i].text, &name), t[i].name ? 0 : -EINVAL);
                if (t[i].name)
                        ASSERT_STREQ(name, t[i].name);
        }
}

TEST(ids) {
        static const struct {
                const char *id, *role, *name;
                bool ok;
        } t[] = {
                { "engineer", "engineer", NULL, true },        { "engineer_alice", "engineer", "alice", true },
                { "a-b_c-d", "a-b", "c-d", true },             { "a_b_c", NULL, NULL, false },
                { "_a", NULL, NULL, false },
                { "a_", NULL, NULL, false },                   { "A_b", NULL, NULL, false },
                { "", NULL, NULL, false },
                { "a-_b", NULL, NULL, false },
                { "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", NULL, NULL, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *role = NULL, *name = NULL, *id = NULL;

                ASSERT_EQ(role_agent_id_split(t[i].id, &role, &name), t[i].ok ? 0 : -EINVAL);
                if (!t[i].ok)
                        continue;
                ASSERT_STREQ(role, t[i].role);
                ASSERT_TRUE(streq_ptr(name, t[i].name));
                ASSERT_OK(role_agent_id_join(role, name, &id));
                ASSERT_STREQ(id, t[i].id);
        }
}

TEST(id_too_long) {
        char *id = NULL;

        ASSERT_ERROR(role_agent_id_join("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", &id),
                     ENAMETOOLONG);
        ASSERT_NULL(id);
}

static void today(char note[static 40], char heading[static 20]) {
        time_t now = time(NULL);
        struct tm tm;

        ASSERT_NOT_NULL(localtime_r(&now, &tm));
        ASSERT_TRUE(strftime(note, 40, "notes/daily-%Y-%m-%d.md", &tm) > 0);
        ASSERT_TRUE(strftime(heading, 20, "# %Y-%m-%d\n", &tm) > 0);
}

TEST(ensure) {
        static const char *const files[] = { "SOUL.md", "AGENTS.md", "memory/memory.md" };
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *error = NULL, *yml = NULL, *note = NULL, *soul = NULL, *memory = NULL;
        char name[40], heading[20];

        ASSERT_EQ(role_agent_ensure(f.paths, "engineer", "alice", "http://127.0.0.1:7011", &h), 1);
        ASSERT_EQ(get_mode(f.paths->proxy_home, "engineer_alice"), 0700);
        ASSERT_EQ(get_mode(h->workspace, "memory"), 0700);
        ASSERT_EQ(get_mode(h->workspace, "notes"), 0700);
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                ASSERT_EQ(get_mode(h->workspace, files[i]), 0600);

        today(name, heading);
        note = get_file(h->workspace, name);
        if (note)       /* unless midnight has just passed */
                ASSERT_STREQ(note, heading);
        soul = get_file(h->workspace, "SOUL.md");
        ASSERT_TRUE(startswith(soul, "# Alice, engineer\n\nYou are Alice, engineer.\n"));
        memory = get_file(h->workspace, "memory/memory.md");
        ASSERT_TRUE(startswith(memory, "# Memory\n"));

        ASSERT_OK(agent_config_load(&c, h->config_path, h->id, &error));
        ASSERT_TRUE(c->running && c->sandbox_given);
        ASSERT_FALSE(c->kind_given);
        ASSERT_EQ(c->sandbox, SANDBOX_WORKSPACE);
        ASSERT_STREQ(c->workspace_dir, h->workspace);
        ASSERT_TRUE(startswith(c->profile, h->workspace) && endswith(c->profile, "/engineer_alice/SOUL.md"));
        ASSERT_TRUE(endswith(c->memory_dir, "/engineer_alice/memory"));
        yml = get_file(h->directory, "agent.yml");
        ASSERT_NULL(strstr(yml, "kind:"));
}

TEST(ensure_is_idempotent) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL, *again = NULL;
        _cleanup_free_ char *soul = NULL, *yml = NULL, *agents = NULL, *agents_path = NULL;

        ASSERT_EQ(role_agent_ensure(f.paths, "writer", NULL, "", &h), 1);
        put_file(h->workspace, "SOUL.md", "mine");
        put_file(h->directory, "agent.yml", "state: paused\nprofile: SOUL.md\n");
        agents_path = path_join(h->workspace, "AGENTS.md");
        ASSERT_EQ(unlink(agents_path), 0);

        ASSERT_EQ(role_agent_ensure(f.paths, "writer", NULL, "", &again), 0);
        soul = get_file(h->workspace, "SOUL.md");
        ASSERT_STREQ(soul, "mine");
        yml = get_file(h->directory, "agent.yml");
        ASSERT_STREQ(yml, "state: paused\nprofile: SOUL.md\n");
        agents = get_file(h->workspace, "AGENTS.md");
        ASSERT_NOT_NULL(agents);
}

/* The agent dir was removed by hand, but for its database: the agent is whole again afterwards. */
TEST(ensure_repairs_agent_dir) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL, *again = NULL;

        ASSERT_EQ(role_agent_ensure(f.paths, "writer", NULL, "", &h), 1);
        put_file(h->directory, "messages.db", "data");
        ASSERT_EQ(unlink(h->config_path), 0);
        ASSERT_EQ(role_agent_ensure(f.paths, "writer", NULL, "", &again), 1);
        ASSERT_TRUE(is_there(h->directory, "agent.yml") && is_there(h->directory, "messages.db"));
}

TEST(ensure_refuses) {
        FIXTURE(f);
        _cleanup_free_ char *link = path_join(f.paths->proxy_home, "etc");
        AgentHome *h = NULL;

        put_file(f.paths->agents, "writer/agent.yml", "");
        ASSERT_ERROR(role_agent_ensure(f.paths, "writer", NULL, "", &h), EEXIST);
        ASSERT_FALSE(is_there(f.paths->proxy_home, "writer"));

        put_file(f.paths->proxy_home, "editor", "a file");
        ASSERT_ERROR(role_agent_ensure(f.paths, "editor", NULL, "", &h), ENOTDIR);

        if (geteuid() == 0) {
                _cleanup_free_ char *foreign = path_join(f.paths->proxy_home, "tester");

                ASSERT_OK(directory_make(foreign, 0700));
                ASSERT_EQ(chown(foreign, 12345, 12345), 0);
                ASSERT_ERROR(role_agent_ensure(f.paths, "tester", NULL, "", &h), EPERM);
        } else {
                ASSERT_EQ(symlink("/etc", link), 0);
                ASSERT_ERROR(role_agent_ensure(f.paths, "etc", NULL, "", &h), EPERM);
        }
        ASSERT_NULL(h);
}

TEST(workspace_may_be_a_link) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_free_ char *elsewhere = path_join(f.root, "elsewhere"),
                            *link = path_join(f.paths->proxy_home, "writer");

        ASSERT_OK(directory_make(elsewhere, 0700));
        ASSERT_EQ(symlink(elsewhere, link), 0);
        ASSERT_OK(role_agent_ensure(f.paths, "writer", NULL, "", &h));
        ASSERT_TRUE(is_there(elsewhere, "AGENTS.md"));
}

/* Killed between the two halves of a deletion: what is left is no agent. */
TEST(deletion_is_gone_on_with) {
        FIXTURE(f);
        _cleanup_free_ char *workspace = path_join(f.paths->proxy_home, "writer_bo"),
                            *from = path_join(f.paths->role_agents, "writer_bo"),
                            *to = path_join(f.paths->role_agents, ".gone-0123abcd-writer_bo");
        _cleanup_(agent_home_freep) AgentHome *h = NULL, *found = NULL;

        ASSERT_OK(role_agent_ensure(f.paths, "writer", "bo", "", &h));
        ASSERT_EQ(rename(from, to), 0);
        ASSERT_OK(role_deletions_finish(f.paths));
        ASSERT_EQ(role_workspaces_adopt(f.paths), 0);
        ASSERT_ERROR(agent_home_find(f.paths, "writer_bo", &found), ENOENT);
        ASSERT_FALSE(is_there(f.paths->proxy_home, "writer_bo"));
        ASSERT_EQ(agent_homes_sweep(f.paths, time(NULL) + 2), 2);

        /* Unless there is one of that name again. */
        ASSERT_EQ(mkdir(to, 0700), 0);
        h = agent_home_free(h);
        ASSERT_OK(role_agent_ensure(f.paths, "writer", "bo", "", &h));
        ASSERT_OK(role_deletions_finish(f.paths));
        ASSERT_EQ(role_workspaces_adopt(f.paths), 0);
        ASSERT_TRUE(is_there(workspace, "AGENTS.md"));
        ASSERT_EQ(agent_homes_sweep(f.paths, time(NULL) + 2), 1);
        ASSERT_TRUE(is_there(workspace, "AGENTS.md"));
}

TEST(adopt) {
        FIXTURE(f);
        _cleanup_(agent_home_freep) AgentHome *h = NULL;
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *error = NULL;

        put_file(f.paths->proxy_home, "writer_bo/AGENTS.md", "copied");
        put_file(f.paths->proxy_home, "not-one/SOUL.md", "");
        put_file(f.paths->proxy_home, "Bad Name/AGENTS.md", "");
        put_file(f.paths->proxy_home, "clash/AGENTS.md", "");
        put_file(f.paths->agents, "clash/agent.yml", "");
        ASSERT_EQ(role_workspaces_adopt(f.paths), 1);
        ASSERT_EQ(role_workspaces_adopt(f.paths), 0);
        ASSERT_OK(agent_home_find(f.paths, "writer_bo", &h));
        ASSERT_STREQ(h->name, "bo");
        ASSERT_OK(agent_config_load(&c, h->config_path, h->id, &error));
        ASSERT_FALSE(c->running);
        ASSERT_FALSE(is_there(f.paths->role_agents, "clash"));
}

static char* render(const char *role, const char *name, RoleFile file, const char *templates) {
        _cleanup_free_ char *id = NULL;
        RoleText t = { .role = role, .name = name, .workspace = "/w", .base_url = "http://127.0.0.1:9",
                       .templates = templates };
        char *text = NULL;

        ASSERT_OK(role_agent_id_join(role, name, &id));
        t.id = id;
        ASSERT_OK(role_text_render(&t, file, &text));
        return text;
}

TEST(texts) {
        static const char *const roles[] = { "manager", "engineer", "architect", "researcher", "gardener" },
                                 *const names[] = { NULL, "alice" },
                                 *const rules[] = { "SOUL.md", "memory/memory.md", "notes/daily-YYYY-MM-DD.md",
                                                    "# YYYY-MM-DD",
                                                    "secrets", "`Now let us work on working dir: "
                                                               "<path>`", "absolute paths",
                                                    "plain text", "last message of your turn", "rewrite" };

        for (size_t i = 0; i < ELEMENTSOF(roles); i++)
                for (size_t j = 0; j < ELEMENTSOF(names); j++) {
                        _cleanup_free_ char *soul = render(roles[i], names[j], ROLE_FILE_SOUL, NULL),
                                            *agents = render(roles[i], names[j], ROLE_FILE_AGENTS, NULL), *you = NULL;
                        bool manager = streq(roles[i], "manager");

                        you = strjoin(names[j] ? "You are Alice, " : "You are the ", roles[i], ".\n");
                        ASSERT_NOT_NULL(strstr(soul, you));
                        ASSERT_NOT_NULL(strstr(soul, "Aim for: "));
                        ASSERT_NOT_NULL(strstr(soul, "Avoid: "));
                        ASSERT_NULL(strchr(soul, '@'));

                        for (size_t k = 0; k < ELEMENTSOF(rules); k++)
                                if (!strstr(agents, rules[k]))
                                        fail_msg("AGENTS.md does not mention '%s'", rules[k]);
                        ASSERT_EQ(!!strstr(agents, "hire_agent"), manager);
                        ASSERT_EQ(!!strstr(agents, "POST http://127.0.0.1:9/hire"), manager);
                        ASSERT_EQ(!!strstr(agents, "POST http://127.0.0.1:9/v1/responses"), manager);
                        ASSERT_NOT_NULL(strstr(agents, "`/w`"));
                        ASSERT_NULL(strchr(agents, '@'));
                        ASSERT_TRUE(strlen(agents) <= ROLE_TEXT_MAX);
                }
}

TEST(roles_differ) {
        _cleanup_free_ char *engineer = render("engineer", "bo", ROLE_FILE_SOUL, NULL),
                            *architect = render("architect", "bo", ROLE_FILE_SOUL, NULL);

        ASSERT_FALSE(streq(strstr(engineer, ".\n"), strstr(architect, ".\n")));
}

TEST(templates) {
        FIXTURE(f);
        _cleanup_free_ char *soul = NULL, *agents = NULL, *large = malloc(ROLE_TEXT_MAX + 2);
        RoleText t = { .id = "writer_bo", .role = "writer", .name = "bo", .workspace = "/w",
                       .templates = f.paths->templates };

        put_file(f.paths->templates, "writer/SOUL.md", "@AGENT@ @ROLE@ @NAME@ @WORKSPACE@ @URL@ a@b @UNKNOWN@\n");
        soul = render("writer", "bo", ROLE_FILE_SOUL, f.paths->templates);
        ASSERT_STREQ(soul, "writer_bo writer bo /w http://127.0.0.1:9 a@b @UNKNOWN@\n");
        free(soul);
        soul = render("writer", NULL, ROLE_FILE_SOUL, f.paths->templates);
        ASSERT_TRUE(startswith(soul, "writer writer writer "));
        agents = render("writer", "bo", ROLE_FILE_AGENTS, f.paths->templates);
        ASSERT_TRUE(startswith(agents, "# How you work\n"));

        memset(large, 'x', ROLE_TEXT_MAX + 1);
        large[ROLE_TEXT_MAX + 1] = 0;
        put_file(f.paths->templates, "writer/SOUL.md", large);
        agents = mfree(agents);
        ASSERT_ERROR(role_text_render(&t, ROLE_FILE_SOUL, &agents), EFBIG);
        put_file(f.paths->templates, "writer/SOUL.md", "\xff");
        ASSERT_ERROR(role_text_render(&t, ROLE_FILE_SOUL, &agents), EINVAL);
}

TEST(system_mode) {
        FIXTURE(f);
        HomePaths system = { .scope = SCOPE_SYSTEM, .home = f.paths->home, .agents = f.paths->agents,
                             .role_agents = f.paths->agents, .archived = f.paths->archived };
        _cleanup_(agent_home_freep) AgentHome *h = NULL, *again = NULL;
        _cleanup_free_ char *yml = NULL, *agents = NULL, *quoted = NULL,
                            *expected = path_join(f.paths->agents, "manager/workspace");
        AgentHome *clash = NULL;

        ASSERT_EQ(role_agent_ensure(&system, "manager", NULL, "", &h), 1);
        ASSERT_STREQ(h->role, "manager");
        ASSERT_STREQ(h->workspace, expected);
        yml = get_file(h->directory, "agent.yml");
        ASSERT_NOT_NULL(strstr(yml,
                               "profile: workspace/SOUL.md\nmemory_dir: workspace/memory\nworkspace_dir: "
                               "workspace\n"));
        agents = get_file(h->workspace, "AGENTS.md");
        quoted = strjoin("`", expected, "`");
        ASSERT_NOT_NULL(strstr(agents, quoted));
        ASSERT_EQ(role_agent_ensure(&system, "manager", NULL, "", &again), 0);

        put_file(f.paths->agents, "writer/agent.yml", "");
        ASSERT_ERROR(role_agent_ensure(&system, "writer", NULL, "", &clash), EEXIST);
        ASSERT_EQ(role_workspaces_adopt(&system), 0);
}

TEST(daily_note) {
        FIXTURE(f);
        int first = role_daily_note_ensure(f.root);

        ASSERT_EQ(first, 1);
        ASSERT_TRUE(is_there(f.root, "notes"));
        ASSERT_TRUE(role_daily_note_ensure(f.root) >= 0);
}

#define TEST_SUITE "role"
TEST_MAIN();
