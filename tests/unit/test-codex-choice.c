/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "codex-choice"

#include <sys/stat.h>
#include <unistd.h>

#include "home-fixture.h"
#include "role.h"
#include "session-config.h"

/* Whether a role agent that does not say so works with Codex. */

typedef struct World {
        Fixture f;
        AgentHome *home;
        char *bin, *credentials;
        SessionConfig *config;
} World;

static void world_done(World *w) {
        (void) session_config_free(w->config);
        (void) agent_home_free(w->home);
        free(w->bin);
        free(w->credentials);
        fixture_done(&w->f);
        (void) unsetenv("CREDENTIALS_DIRECTORY");
        (void) setenv("PATH", "/usr/bin:/bin", 1);
}

static World world_new(void) {
        World w = { .f = fixture_new() };

        ASSERT_OK(role_agent_ensure(w.f.paths, "engineer", "alice", NULL, &w.home));
        w.bin = path_join(w.f.root, "bin");
        w.credentials = path_join(w.f.root, "credentials");
        ASSERT_NOT_NULL(w.bin);
        ASSERT_NOT_NULL(w.credentials);
        ASSERT_OK(directory_make(w.bin, 0700));
        ASSERT_OK(directory_make(w.credentials, 0700));
        ASSERT_EQ(setenv("CREDENTIALS_DIRECTORY", w.credentials, 1), 0);
        ASSERT_EQ(setenv("PATH", w.bin, 1), 0);
        return w;
}

static void install_codex(World *w) {
        _cleanup_free_ char *path = path_join(w->bin, "codex");

        put_file(w->bin, "codex", "\177ELF");
        ASSERT_EQ(chmod(path, 0755), 0);
}

static SessionConfig* load(World *w, const char *credential) {
        put_file(w->credentials, "session", credential);
        w->config = session_config_free(w->config);
        ASSERT_OK(session_config_load(&w->config, w->home->id, w->home->directory, NULL));
        ASSERT_NOT_NULL(w->config->agent);
        return w->config;
}

#define ANTHROPIC "\"provider\":\"anthropic\",\"model\":\"claude\",\"api_key\":\"sk-a\""
#define OPENAI "\"openai\":{\"api_key\":\"sk-o\",\"base_url\":\"http://x/v1\",\"model\":\"gpt\"}"

static void agent_yml(World *w, const char *runtime) {
        _cleanup_free_ char *text = strjoin("state: running\nprofile: ", w->home->workspace, "/SOUL.md\nworkspace_dir: ",
                                            w->home->workspace, "\nruntime:\n", runtime);

        put_file(w->home->directory, "agent.yml", text);
}

TEST(not_installed) {
        _cleanup_(world_done) World w = world_new();
        SessionConfig *c = load(&w, "{" ANTHROPIC "," OPENAI "}");

        ASSERT_FALSE(c->agent->kind_given);
        ASSERT_NULL(c->fault);
        ASSERT_STREQ(c->provider, "anthropic");
        ASSERT_NOT_NULL(strstr(strempty(c->lacking), "not installed"));

        c = load(&w, "{\"provider\":\"anthropic\"}");
        ASSERT_NOT_NULL(strstr(strempty(c->fault), "No API key for provider 'anthropic'"));
        ASSERT_NOT_NULL(strstr(c->fault, "Or use Codex: Codex is not installed"));
}

TEST(not_logged_in) {
        _cleanup_(world_done) World w = world_new();
        SessionConfig *c;

        if (getuid() >= 1000) /* whoever runs this may well be */
                skip();
        install_codex(&w);
        c = load(&w, "{" ANTHROPIC "}");
        ASSERT_FALSE(c->agent->kind_given);
        ASSERT_NOT_NULL(strstr(strempty(c->lacking), "not logged in"));
}

TEST(with_the_key_that_all_have) {
        _cleanup_(world_done) World w = world_new();
        SessionConfig *c;

        install_codex(&w);
        c = load(&w, "{" ANTHROPIC "," OPENAI ",\"codex\":{\"model\":\"codex-model\",\"exec\":true,\"network\":false}}");
        ASSERT_TRUE(c->agent->kind_given);
        ASSERT_EQ(c->agent->kind, RUNTIME_CLI_LOCAL);
        ASSERT_STREQ(agent_config_harness(c->agent), "codex");
        ASSERT_STREQ(c->provider, "openai");
        ASSERT_STREQ(c->api_key, "sk-o");
        ASSERT_STREQ(c->base_url, "http://x/v1");
        /* The other provider's model would be of no use. */
        ASSERT_STREQ(c->model, "codex-model");
        ASSERT_TRUE(c->codex.exec);
        ASSERT_FALSE(c->codex.network);
        ASSERT_NULL(c->lacking);
        ASSERT_NULL(c->fault);

        c = load(&w, "{" ANTHROPIC "," OPENAI "}");
        ASSERT_STREQ(c->model, "gpt");
}

TEST(with_a_login_of_its_own) {
        _cleanup_(world_done) World w = world_new();
        SessionConfig *c;

        install_codex(&w);
        put_file(w.home->directory, ".codex/auth.json", "{\"tokens\":{\"access_token\":\"a\",\"refresh_token\":\"r\"}}");
        c = load(&w, "{" ANTHROPIC "}");
        ASSERT_EQ(c->agent->kind, RUNTIME_CLI_LOCAL);
        ASSERT_STREQ(c->api_key, "");
        ASSERT_STREQ(c->model, "");
}

TEST(with_a_provider_of_the_operators) {
        _cleanup_(world_done) World w = world_new();

        install_codex(&w);
        ASSERT_EQ(load(&w, "{\"codex\":{\"model_provider\":\"local\"}}")->agent->kind, RUNTIME_CLI_LOCAL);
}

/* Somebody has decided already. */
TEST(no_choice) {
        static const struct { const char *runtime; RuntimeKind kind; } t[] = {
                { "  provider: anthropic\n", RUNTIME_CHAT_LOCAL }, { "  provider: echo\n", RUNTIME_CHAT_LOCAL },
                { "  kind: chat-local\n", RUNTIME_CHAT_LOCAL },
                { "  kind: cli-local\n  harness: claude-code\n", RUNTIME_CLI_LOCAL },
        };
        _cleanup_(world_done) World w = world_new();

        install_codex(&w);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                SessionConfig *c;

                agent_yml(&w, t[i].runtime);
                c = load(&w, "{" ANTHROPIC "," OPENAI "}");
                ASSERT_EQ(c->agent->kind, t[i].kind);
                ASSERT_FALSE(streq(agent_config_harness(c->agent), "codex"));
                ASSERT_NULL(c->lacking);
        }
}

TEST(a_program_that_the_settings_name) {
        _cleanup_(world_done) World w = world_new();
        _cleanup_free_ char *path = path_join(w.f.root, "my-codex"), *credential = NULL;

        put_file(w.f.root, "my-codex", "\177ELF");
        ASSERT_EQ(chmod(path, 0755), 0);
        credential = strjoin("{" OPENAI ",\"codex\":{\"program\":\"", path, "\"}}");
        ASSERT_EQ(load(&w, credential)->agent->kind, RUNTIME_CLI_LOCAL);
}

TEST_MAIN();
