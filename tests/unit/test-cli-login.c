/* SPDX-License-Identifier: MIT */

#include <sys/stat.h>
#include <time.h>

#include "cli-fixture.h"
#include "cli-login.h"

#define CLAUDE "claude-code"
#define LOGIN ".claude/.credentials.json"

static void put_login(const char *directory, const char *token, int64_t in_sec, const char *rest) {
        _cleanup_free_ char *text = asprintf_new("{\"claudeAiOauth\":{\"accessToken\":\"%s\",\"expiresAt\":%" PRIi64
                                                 "%s},\"mcpOAuth\":{\"x\":{\"refreshToken\":\"mcp-secret\"}}}", token,
                                                 ((int64_t) time(NULL) + in_sec) * 1000, rest);

        put_file(directory, LOGIN, text);
}

#define RENEWABLE ",\"refreshToken\":\"secret\",\"scopes\":[\"user:inference\"],\"subscriptionType\":\"max\"," \
                  "\"futureSecret\":\"s\""

TEST(view) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *before = NULL, *after = NULL, *view = NULL, *theirs = NULL, *now = NULL,
                            *path = path_join(a.home->directory, LOGIN);
        struct stat one, two;
        CliLogin l;

        put_login(a.user, "tok-1", 3600, RENEWABLE);
        theirs = get_file(a.user, LOGIN);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_VALID);
        ASSERT_EQ(l.link, CLI_LOGIN_COPIED);
        ASSERT_TRUE(l.expires_usec / USEC_PER_SEC >= (uint64_t) time(NULL) + 3590);
        view = get_file(a.home->directory, LOGIN);
        ASSERT_NOT_NULL(strstr(view, "tok-1"));
        ASSERT_NOT_NULL(strstr(view, "user:inference"));
        ASSERT_NULL(strstr(view, "ecret"));
        ASSERT_EQ(get_mode(a.home->directory, LOGIN), 0600);

        before = tree_picture(a.home->directory);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.link, CLI_LOGIN_FRESH);
        after = tree_picture(a.home->directory);
        ASSERT_STREQ(before, after);

        /* Renewed where it lies, shorter or longer: a sandbox has this very file. */
        ASSERT_EQ(stat(path, &one), 0);
        put_login(a.user, "t2", 7200, RENEWABLE);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.link, CLI_LOGIN_COPIED);
        ASSERT_EQ(stat(path, &two), 0);
        ASSERT_EQ(one.st_ino, two.st_ino);
        now = get_file(a.home->directory, LOGIN);
        ASSERT_NOT_NULL(strstr(now, "\"t2\""));
        ASSERT_TRUE(endswith(now, "}}"));

        free(now);
        put_login(a.user, "tok-1", 3600, RENEWABLE);
        now = get_file(a.user, LOGIN);
        ASSERT_NOT_NULL(strstr(now, "secret"));
        ASSERT_NOT_NULL(strstr(theirs, "secret"));
}

/* An earlier puffo-agent made it a link to the operator's file, which nobody may write. */
TEST(links) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *theirs = path_join(a.user, LOGIN), *before = NULL, *after = NULL,
                            *path = path_join(a.home->directory, LOGIN);
        struct stat st;
        CliLogin l;

        put_login(a.user, "tok-1", 3600, RENEWABLE);
        before = tree_picture(a.user);
        put_file(a.home->directory, ".claude/x", "");
        ASSERT_EQ(symlink(theirs, path), 0);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(lstat(path, &st), 0);
        ASSERT_TRUE(S_ISREG(st.st_mode));
        after = tree_picture(a.user);
        ASSERT_STREQ(before, after);

        /* A second name of it must not be written either. */
        ASSERT_EQ(unlink(path), 0);
        ASSERT_EQ(link(theirs, path), 0);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(stat(theirs, &st), 0);
        ASSERT_EQ(st.st_nlink, 1);
        after = mfree(after);
        after = get_file(a.user, LOGIN);
        ASSERT_NOT_NULL(strstr(after, "secret"));

        ASSERT_EQ(unlink(path), 0);
        ASSERT_EQ(unlink(theirs), 0);
        ASSERT_EQ(symlink(theirs, path), 0);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_MISSING);
        ASSERT_EQ(l.link, CLI_LOGIN_NO_OPERATOR);
        ASSERT_TRUE(lstat(path, &st) < 0);
}

TEST(without_an_operator) {
        AGENT(a, CLAUDE);
        CliLogin l;

        for (unsigned i = 0; i < 2; i++) {
                const char *user = i == 0 ? a.user : NULL;

                put_login(a.home->directory, "own", -5, RENEWABLE);
                ASSERT_OK(cli_login_sync(a.home, user, &l));
                ASSERT_EQ(l.state, CLI_LOGIN_VALID);
                ASSERT_EQ(cli_login_refresh_usec(&l, 0), USEC_INFINITY);
                put_login(a.home->directory, "old view", -5, "");
                ASSERT_OK(cli_login_sync(a.home, user, &l));
                ASSERT_EQ(l.state, CLI_LOGIN_EXPIRED);
                ASSERT_TRUE(is_there(a.home->directory, LOGIN));
        }
}

/* Neither the operator's nor one that it has written itself, and it cannot write one where a mount lies over it. */
TEST(no_login_at_all) {
        AGENT(a, CLAUDE);
        CliLogin l;

        ASSERT_EQ(cli_login_remove(a.home), 0);
        assert_json(a.home->directory, LOGIN, "{}");
        put_login(a.home->directory, "own", 5, RENEWABLE);
        ASSERT_EQ(cli_login_remove(a.home), 1);
        assert_json(a.home->directory, LOGIN, "{}");
        put_login(a.user, "tok-1", 3600, RENEWABLE);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_VALID);
        ASSERT_EQ(cli_login_remove(a.home), 1);
        assert_json(a.home->directory, LOGIN, "{}");
        ASSERT_EQ(cli_login_remove(a.home), 0);
}

TEST(logged_out) {
        AGENT(a, CLAUDE);
        CliLogin l;

        put_login(a.user, "tok-1", 3600, RENEWABLE);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        put_file(a.user, LOGIN, "{\"claudeAiOauth\":{\"accessToken\":\"\",\"refreshToken\":\"\",\"expiresAt\":0}}");
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_MISSING);
        ASSERT_FALSE(is_there(a.home->directory, LOGIN));
}

TEST(odd_files) {
        static const struct { const char *text; CliLoginState state; bool expires; } t[] = {
                { "", CLI_LOGIN_MISSING, false },
                { "[", CLI_LOGIN_MISSING, false },
                { "{\"claudeAiOauth\":7}", CLI_LOGIN_MISSING, false },
                { "{\"claudeAiOauth\":{\"accessToken\":7}}", CLI_LOGIN_MISSING, false },
                { "{\"claudeAiOauth\":{\"accessToken\":\"t\"}}", CLI_LOGIN_VALID, false },
                { "{\"claudeAiOauth\":{\"accessToken\":\"t\",\"expiresAt\":\"soon\"}}", CLI_LOGIN_VALID, false },
                { "{\"claudeAiOauth\":{\"accessToken\":\"t\",\"expiresAt\":-1}}", CLI_LOGIN_VALID, false },
                { "{\"claudeAiOauth\":{\"accessToken\":\"t\",\"expiresAt\":99999999999999999999}}", CLI_LOGIN_VALID,
                  false },
                { "{\"claudeAiOauth\":{\"accessToken\":\"t\",\"expiresAt\":1}}", CLI_LOGIN_EXPIRED, true },
                { "{\"claudeAiOauth\":{\"accessToken\":\"t\",\"expiresAt\":4102444800000}}", CLI_LOGIN_VALID, true },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                AGENT(a, CLAUDE);
                CliLogin l;

                put_file(a.user, LOGIN, t[i].text);
                ASSERT_OK(cli_login_sync(a.home, a.user, &l));
                ASSERT_EQ(l.state, t[i].state);
                ASSERT_EQ(l.expires_usec != USEC_INFINITY, t[i].expires);
        }
}

TEST(when_to_refresh) {
        CliLogin l = { .state = CLI_LOGIN_VALID, .link = CLI_LOGIN_FRESH, .expires_usec = 1000 * USEC_PER_SEC };

        ASSERT_EQ(cli_login_refresh_usec(&l, 0), 700 * USEC_PER_SEC);
        ASSERT_EQ(cli_login_refresh_usec(&l, 50 * USEC_PER_SEC), 700 * USEC_PER_SEC);
        ASSERT_EQ(cli_login_refresh_usec(&l, 710 * USEC_PER_SEC), 1310 * USEC_PER_SEC);
        l.state = CLI_LOGIN_EXPIRED;
        ASSERT_EQ(cli_login_refresh_usec(&l, 0), 700 * USEC_PER_SEC);
        l.expires_usec = 5;
        ASSERT_EQ(cli_login_refresh_usec(&l, 0), 0);
        l.link = CLI_LOGIN_NO_OPERATOR;
        ASSERT_EQ(cli_login_refresh_usec(&l, 0), USEC_INFINITY);
        l = (CliLogin) { .state = CLI_LOGIN_VALID, .link = CLI_LOGIN_FRESH, .expires_usec = USEC_INFINITY };
        ASSERT_EQ(cli_login_refresh_usec(&l, 0), USEC_INFINITY);
}

/* ---- the program ---- */

static char* put_program(const char *directory, const char *name, const char *text) {
        char *path = path_join(directory, name);

        put_file(directory, name, text);
        ASSERT_EQ(chmod(path, 0755), 0);
        return path;
}

typedef struct Found {
        char *program, **roots, *path;
} Found;

static void found_done(Found *f) {
        free(f->program);
        strv_free(f->roots);
        free(f->path);
}

#define FIND(name, harness, path_, user) \
        _cleanup_(found_done) Found name = {}; \
        ASSERT_OK(cli_program_find(harness, NULL, path_, user, &name.program, &name.roots, &name.path))

TEST(native_program) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *real = put_program(a.user, ".local/share/claude/versions/2.1.1", "\x7f" "ELF"),
                            *bin = path_join(a.user, ".local/bin"), *link_path = path_join(bin, "claude");

        ASSERT_OK(directory_make(bin, 0700));
        ASSERT_EQ(symlink(real, link_path), 0);
        FIND(p, CLAUDE, "/usr/bin:/bin", a.user);
        ASSERT_STREQ(p.program, real);
        ASSERT_EQ(strv_length(p.roots), 1);
        ASSERT_STREQ(p.roots[0], real);
        ASSERT_STREQ(p.path, "/usr/bin:/bin");
}

TEST(npm_program) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *real = put_program(a.user, "nvm/lib/node_modules/@x/claude/cli.js",
                                                "#!/usr/bin/env -S node --y\n"),
                            *node = put_program(a.user, "nvm/bin/node", "\x7f" "ELF"),
                            *bin = path_join(a.user, "nvm/bin"),
                            *link_path = path_join(bin, "gemini"), *prefix = path_join(a.user, "nvm"),
                            *path = strjoin("relative:", bin, ":/usr/bin"), *expected = NULL,
                            *modules = path_join(a.user, "nvm/lib/node_modules");

        ASSERT_EQ(symlink(real, link_path), 0);
        FIND(p, "gemini-cli", path, a.user);
        ASSERT_STREQ(p.program, real);
        ASSERT_EQ(strv_length(p.roots), 1);
        ASSERT_STREQ(p.roots[0], prefix);
        ASSERT_STREQ(p.path, path);

        /* Not in PATH: what lies beside it is what it was installed with. */
        ASSERT_EQ(setenv("PUFFO_GEMINI_BIN", link_path, 1), 0);
        FIND(q, "gemini-cli", "/nonexistent", a.user);
        expected = strjoin(bin, ":/nonexistent");
        ASSERT_STREQ(q.path, expected);
        ASSERT_STREQ(q.roots[0], prefix);

        ASSERT_EQ(unlink(node), 0);
        FIND(r, "gemini-cli", "/nonexistent", a.user);
        ASSERT_EQ(strv_length(r.roots), 1);
        ASSERT_STREQ(r.roots[0], modules);
        ASSERT_EQ(unsetenv("PUFFO_GEMINI_BIN"), 0);
}

TEST(nvm_program) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *old = put_program(a.user, ".nvm/versions/node/v9.1.0/bin/gemini", "\x7f" "ELF"),
                            *new = put_program(a.user, ".nvm/versions/node/v22.1.0/bin/gemini", "\x7f" "ELF");

        FIND(p, "gemini-cli", NULL, a.user);
        ASSERT_STREQ(p.program, new);
        ASSERT_FALSE(streq(p.program, old));
}

TEST(python_program) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *base = put_program(a.user, ".local/share/uv/python/cpython-3.11/bin/python3.11",
                                                "\x7f" "ELF"),
                            *venv = path_join(a.user, ".hermes/hermes-agent/venv/bin"),
                            *python = path_join(venv, "python3"), *line = strjoin("#!", python, "\n"), *program = NULL,
                            *prefix = path_join(a.user, ".local/share/uv/python/cpython-3.11"),
                            *project = path_join(a.user, ".hermes/hermes-agent");

        program = put_program(venv, "hermes", line);
        ASSERT_EQ(symlink(base, python), 0);
        put_file(project, "venv/pyvenv.cfg", "");
        put_file(project, "pyproject.toml", "");
        FIND(p, "hermes", "/usr/bin", a.user);
        ASSERT_STREQ(p.program, program);
        ASSERT_EQ(strv_length(p.roots), 2);
        ASSERT_TRUE(strv_contains(p.roots, prefix));
        ASSERT_TRUE(strv_contains(p.roots, project));
}

TEST(what_is_told_of_a_login) {
        AGENT(a, CLAUDE);
        _cleanup_(cli_login_file_done) CliLoginFile theirs = {}, view = {}, broken = {};
        CliLogin l;

        ASSERT_OK(cli_login_look_operator(a.user, &theirs));
        ASSERT_STREQ(theirs.problem, "not present");
        ASSERT_TRUE(endswith(theirs.path, "/" LOGIN));
        cli_login_file_done(&theirs);

        put_login(a.user, "tok-1", 3600, RENEWABLE);
        ASSERT_OK(cli_login_sync(a.home, a.user, &l));
        ASSERT_OK(cli_login_look_operator(a.user, &theirs));
        ASSERT_NULL(theirs.problem);
        ASSERT_TRUE(theirs.has_access_token && theirs.has_refresh_token);
        ASSERT_EQ(theirs.expires_usec, l.expires_usec);
        ASSERT_TRUE(theirs.modified_usec / USEC_PER_SEC + 600 > (uint64_t) time(NULL));
        ASSERT_EQ(strv_length(theirs.scopes), 1);
        ASSERT_STREQ(theirs.scopes[0], "user:inference");
        ASSERT_OK(cli_login_look_agent(a.home, &view));
        ASSERT_NULL(view.problem);
        ASSERT_TRUE(view.has_access_token && !view.has_refresh_token);

        put_file(a.user, LOGIN, "{\"claudeAiOauth\":[]}");
        ASSERT_OK(cli_login_look_operator(a.user, &broken));
        ASSERT_STREQ(broken.problem, "parse-error: it is no JSON of a login");
        cli_login_file_done(&broken);

        /* Logging out leaves a file, and so does giving an agent a key. */
        put_file(a.user, LOGIN, "{}");
        ASSERT_OK(cli_login_look_operator(a.user, &broken));
        ASSERT_STREQ(broken.problem, "not logged in");
        cli_login_file_done(&view);
        ASSERT_OK(cli_login_remove(a.home));
        ASSERT_OK(cli_login_look_agent(a.home, &view));
        ASSERT_STREQ(view.problem, "no login: the agent's CLI works with a key");
}

TEST(no_program) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *directory = path_join(a.user, ".local/bin/claude"), *plain = path_join(a.user, "plain");
        Found p = {};

        ASSERT_ERROR(cli_program_find("emacs", NULL, "/bin", a.user, &p.program, &p.roots, &p.path), EINVAL);
        ASSERT_ERROR(cli_program_find(CLAUDE, NULL, "/nonexistent", NULL, &p.program, &p.roots, &p.path), ENOENT);
        ASSERT_OK(directory_make(directory, 0700));
        ASSERT_ERROR(cli_program_find(CLAUDE, NULL, "/nonexistent", a.user, &p.program, &p.roots, &p.path), ENOENT);
        put_file(a.user, "plain", "");
        ASSERT_EQ(setenv("PUFFO_CLAUDE_BIN", plain, 1), 0);
        ASSERT_ERROR(cli_program_find(CLAUDE, NULL, "/bin", a.user, &p.program, &p.roots, &p.path), ENOENT);
        ASSERT_EQ(setenv("PUFFO_CLAUDE_BIN", "claude", 1), 0);
        ASSERT_ERROR(cli_program_find(CLAUDE, NULL, "/bin", a.user, &p.program, &p.roots, &p.path), ENOENT);
        ASSERT_EQ(unsetenv("PUFFO_CLAUDE_BIN"), 0);
}

TEST(whose_it_is_for) {
        static const struct { const char *harness, *provider; bool is_for; } t[] = {
                { "claude-code", "", true }, { "", "", true }, { "hermes", "", true }, { "hermes", "anthropic", true },
                { "hermes", "openai", false }, { "codex", "", false }, { "gemini-cli", "google", false },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                AgentConfig c = {
                        .kind = RUNTIME_CLI_LOCAL, .harness = (char*) t[i].harness, .provider = (char*) t[i].provider,
                };

                ASSERT_EQ(cli_login_is_for(&c), t[i].is_for);
        }
}

TEST(certificates) {
        AGENT(a, CLAUDE);
        _cleanup_free_ char *file = path_join(a.user, "ca/own.pem"), *more = path_join(a.user, "more"),
                            *node = strjoin("NODE_EXTRA_CA_CERTS=", file), *curl = strjoin("CURL_CA_BUNDLE=", file),
                            *missing = strjoin("SSL_CERT_FILE=", a.user, "/not/there"),
                            *directories = strjoin("SSL_CERT_DIR=/etc/ssl/certs:", more, "::", a.user, "/gone");
        char *const environment[] = { node, curl, missing, directories, (char*) "REQUESTS_CA_BUNDLE=ca/own.pem",
                                      (char*) "PATH=/home", NULL }, *const none[] = { NULL };
        _cleanup_(strv_freep) char **found = NULL, **nothing = NULL;

        put_file(a.user, "ca/own.pem", "x");
        ASSERT_OK(directory_make(more, 0700));
        ASSERT_OK(cli_certificates_find(environment, a.user, &found));
        ASSERT_EQ(strv_length(found), 2);
        ASSERT_STREQ(found[0], file);
        ASSERT_STREQ(found[1], more);
        ASSERT_OK(cli_certificates_find(none, a.user, &nothing));
        ASSERT_NULL(nothing);
}

#define TEST_SUITE "cli-login"
TEST_MAIN();
