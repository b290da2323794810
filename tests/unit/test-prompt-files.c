/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>

#include "home-fixture.h"
#include "prompt-files.h"

static const char *const tools[] = { "send_message", "get_post", NULL };

typedef struct Agent {
        AgentHome *home;
        AgentConfig *config;
} Agent;

static void agent_done(Agent *a) {
        (void) agent_home_free(a->home);
        (void) agent_config_free(a->config);
}

static Agent agent_new(const Fixture *f, const char *slug) {
        Agent a = {};

        ASSERT_OK(agent_config_new(&a.config, "bot"));
        ASSERT_OK(free_and_strdup(&a.config->slug, slug));
        ASSERT_OK(agent_home_create(f->paths, a.config, "Be kind.", &a.home));
        return a;
}

#define AGENT(name, slug) FIXTURE(f); _cleanup_(agent_done) Agent name = agent_new(&f, slug)

static ino_t inode(const char *directory, const char *name) {
        _cleanup_free_ char *path = path_join(directory, name);
        struct stat st;

        ASSERT_EQ(lstat(path, &st), 0);
        return st.st_ino;
}

TEST(written) {
        static const char *const places[] = { "agents", "commands", "skills", "hooks" };
        AGENT(a, "bot-1234");
        _cleanup_free_ char *prompt = NULL, *claude = NULL, *gemini = NULL, *skill = NULL,
                            *below = path_join(a.home->workspace, ".claude");

        ASSERT_OK(prompt_files_write(a.home, a.config, tools));
        ASSERT_OK(agent_home_system_prompt(a.home, a.config, tools, &prompt));
        claude = get_file(a.home->directory, ".claude/CLAUDE.md");
        gemini = get_file(a.home->directory, ".gemini/GEMINI.md");
        ASSERT_STREQ(claude, prompt);
        ASSERT_STREQ(gemini, prompt);
        ASSERT_EQ(get_mode(a.home->directory, ".claude/CLAUDE.md"), 0600);
        for (size_t i = 0; i < ELEMENTSOF(places); i++)
                ASSERT_TRUE(is_there(below, places[i]));
        skill = get_file(below, "skills/puffo-send-message/SKILL.md");
        ASSERT_NOT_NULL(startswith(skill, "---\nname: puffo-send-message\n"));
        ASSERT_TRUE(is_there(below, "skills/puffo-get-post/SKILL.md"));
        ASSERT_FALSE(is_there(below, "skills/puffo-upload-file"));
        ASSERT_FALSE(is_there(below, "CLAUDE.md"));
}

TEST(only_for_who_is_on_puffo) {
        AGENT(a, "");

        ASSERT_EQ(prompt_files_write(a.home, a.config, tools), 0);
        ASSERT_FALSE(is_there(a.home->directory, ".claude"));
        ASSERT_FALSE(is_there(a.home->directory, ".gemini"));
        ASSERT_FALSE(is_there(a.home->workspace, ".claude"));
}

TEST(only_what_has_changed) {
        AGENT(a, "bot-1234");
        _cleanup_free_ char *claude = NULL, *skill = NULL;
        ino_t one, two;

        ASSERT_OK(prompt_files_write(a.home, a.config, tools));
        one = inode(a.home->directory, ".claude/CLAUDE.md");
        two = inode(a.home->workspace, ".claude/skills/puffo-get-post/SKILL.md");
        ASSERT_OK(prompt_files_write(a.home, a.config, tools));
        ASSERT_EQ(inode(a.home->directory, ".claude/CLAUDE.md"), one);
        ASSERT_EQ(inode(a.home->workspace, ".claude/skills/puffo-get-post/SKILL.md"), two);

        put_file(a.home->directory, "memory/facts.md", "Two and two.");
        put_file(a.home->workspace, ".claude/skills/puffo-get-post/SKILL.md", "mine now");
        ASSERT_OK(prompt_files_write(a.home, a.config, tools));
        /* Where it lies: a CLI that runs has it mounted. */
        ASSERT_EQ(inode(a.home->directory, ".claude/CLAUDE.md"), one);
        claude = get_file(a.home->directory, ".claude/CLAUDE.md");
        ASSERT_NOT_NULL(strstr(claude, "# Your memory\n\n### facts\n\nTwo and two.\n"));
        skill = get_file(a.home->workspace, ".claude/skills/puffo-get-post/SKILL.md");
        ASSERT_NOT_NULL(startswith(skill, "---\nname: puffo-get-post\n"));
}

TEST(texts_of_tools_that_are_gone) {
        AGENT(a, "bot-1234");
        _cleanup_free_ char *skills = path_join(a.home->workspace, ".claude/skills"), *own = NULL;

        ASSERT_OK(prompt_files_write(a.home, a.config, tools));
        put_file(skills, "puffo-get-post/notes.md", "mine");
        put_file(skills, "puffo-upload-file/SKILL.md", "---\nname: puffo-upload-file\n---\nmine\n");
        put_file(skills, "other/SKILL.md", "---\nname: other\n---\n");
        ASSERT_OK(prompt_files_write(a.home, a.config, NULL));
        ASSERT_FALSE(is_there(skills, "puffo-send-message"));
        ASSERT_FALSE(is_there(skills, "puffo-get-post/SKILL.md"));
        ASSERT_TRUE(is_there(skills, "puffo-get-post/notes.md"));
        ASSERT_TRUE(is_there(skills, "other/SKILL.md"));
        own = get_file(skills, "puffo-upload-file/SKILL.md");
        ASSERT_STREQ(own, "---\nname: puffo-upload-file\n---\nmine\n");
}

TEST(old_prompt) {
        static const struct { const char *text; bool stays; } t[] = {
                { "# Puffo.ai platform primer\n\nold\n", false },
                { "  # Puffo.ai platform primer (shared)", false },
                { "# Mine\n# Puffo.ai platform primer\n", true },
                { "\n# Puffo.ai platform primer\n", true },
                { "", true },
        };
        AGENT(a, "bot-1234");

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                put_file(a.home->workspace, ".claude/CLAUDE.md", t[i].text);
                put_file(a.home->workspace, "CLAUDE.md", t[i].text);
                ASSERT_OK(prompt_files_write(a.home, a.config, tools));
                ASSERT_EQ(is_there(a.home->workspace, ".claude/CLAUDE.md"), t[i].stays);
                ASSERT_TRUE(is_there(a.home->workspace, "CLAUDE.md"));
        }
}

/* Who works in these directories may have put links there. */
TEST(no_way_out) {
        AGENT(a, "bot-1234");
        _cleanup_free_ char *target = path_join(f.root, "target"), *mine = path_join(f.root, "mine"),
                            *claude = path_join(a.home->directory, ".claude"),
                            *gemini = path_join(a.home->directory, ".gemini"),
                            *file = path_join(gemini, "GEMINI.md"), *text = NULL, *written = NULL,
                            *workspace = path_join(a.home->workspace, ".claude");

        put_file(f.root, "target/CLAUDE.md", "# Puffo.ai platform primer\nsomebody else's\n");
        put_file(f.root, "mine", "mine");
        ASSERT_EQ(symlink(target, claude), 0);
        ASSERT_EQ(symlink(target, workspace), 0);
        ASSERT_OK(directory_make(gemini, 0700));
        ASSERT_EQ(symlink(mine, file), 0);
        ASSERT_ERROR(prompt_files_write(a.home, a.config, tools), EXDEV);

        text = get_file(f.root, "target/CLAUDE.md");
        ASSERT_STREQ(text, "# Puffo.ai platform primer\nsomebody else's\n");
        ASSERT_FALSE(is_there(f.root, "target/skills"));
        text = mfree(text);
        text = get_file(f.root, "mine");
        ASSERT_STREQ(text, "mine");
        written = get_file(gemini, "GEMINI.md");        /* in the link's place; the others do not keep it from it */
        ASSERT_NOT_NULL(startswith(written, "# Puffo.ai platform primer\n"));
}

#define TEST_SUITE "prompt-files"
TEST_MAIN();
