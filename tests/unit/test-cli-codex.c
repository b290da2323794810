/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "cli-codex"

#include <sys/stat.h>
#include <unistd.h>

#include "cli-fixture.h"
#include "cli-login.h"
#include "codex-settings.h"

#define CODEX "codex"
#define LOGIN ".codex/auth.json"

TEST(home) {
        AGENT(a, CODEX);
        _cleanup_free_ char *config = NULL, *expected = NULL, *instructions = NULL;
        PREPARED(first, a);

        ASSERT_EQ(get_mode(a.home->directory, ".codex"), 0700);
        ASSERT_EQ(get_mode(a.home->directory, ".codex/config.toml"), 0600);
        /* Written when nothing runs, and not before. */
        config = get_file(a.home->directory, ".codex/config.toml");
        ASSERT_STREQ(config, "");
        ASSERT_OK(cli_home_start_codex(a.home, &first));
        config = mfree(config);
        config = get_file(a.home->directory, ".codex/config.toml");
        expected = asprintf_new("# Written by puffo at each start.\n\n[projects.\"%s\"]\ntrust_level = \"trusted\"\n\n"
                                "[mcp_servers.\"puffo\"]\ncommand = \"/usr/lib/puffo/puffo-mcp\"\n"
                                "env = { \"PUFFO_TOOL_SOCKET\" = \"/run/puffo/tools.sock\" }\ntool_timeout_sec = 1600\n"
                                "default_tools_approval_mode = \"approve\"\n", a.home->workspace);
        ASSERT_STREQ(config, expected);

        {
                static const char *const covered[] = {
                        ".codex/config.toml", ".codex/AGENTS.md", ".codex/hooks.json", ".codex/rules",
                        "workspace/.codex",
                };
                _cleanup_free_ char *own = path_join(a.home->directory, ".codex");
                PREPARED(again, a);

                ASSERT_TRUE(same_hash(&first, &again));
                ASSERT_TRUE(strv_contains(again.read_write, own));
                for (size_t i = 0; i < ELEMENTSOF(covered); i++) {
                        _cleanup_free_ char *path = path_join(a.home->directory, covered[i]);

                        ASSERT_TRUE(strv_contains(again.read_only, path));
                }
        }
        instructions = get_file(a.home->directory, ".codex/config.toml");
        ASSERT_STREQ(instructions, expected);
}

#define REST "args = [\"-a\", \"b\\\\c\"]\nenv = { \"A\" = \"1\\u007f\" }\n"
#define APPROVED "default_tools_approval_mode = \"approve\"\n"

/* Where everything is allowed so are the calls of other servers' tools; where it is not, they are asked about. */
TEST(servers) {
        AGENT(a, CODEX);

        put_file(a.home->workspace, ".mcp.json", "{\"mcpServers\":{\"web\":{\"url\":\"https://x.example/\","
                 "\"headers\":{\"X-Key\":\"k\\\"\"}},\"local\":{\"command\":\"/usr/bin/x\",\"args\":[\"-a\","
                 "\"b\\\\c\"],\"env\":{\"A\":\"1\\u007f\"}},\"bad\":{\"command\":5}}}");
        {
                PREPARED(h, a);

                ASSERT_NOT_NULL(strstr(h.codex_config, "[mcp_servers.\"web\"]\nurl = \"https://x.example/\"\n"
                                                       "http_headers = { \"X-Key\" = \"k\\\"\" }\n" APPROVED));
                ASSERT_NOT_NULL(strstr(h.codex_config, "[mcp_servers.\"local\"]\ncommand = \"/usr/bin/x\"\n" REST
                                                       APPROVED));
                ASSERT_NULL(strstr(h.codex_config, "bad"));
                ASSERT_NOT_NULL(h.notice);
                ASSERT_OK(free_and_strdup(&a.config->permission_mode, "default"));
                PREPARED(asking, a);
                ASSERT_FALSE(same_hash(&h, &asking));
                ASSERT_NOT_NULL(strstr(asking.codex_config, REST "\n"));
        }
}

/* Parts of a second count as in Codex; what is no time is as if it were not there. */
TEST(timeouts_of_the_operators_servers) {
        static const struct { const char *written, *taken; } t[] = {
                { "0.5", "1" }, { "2.5", "3" }, { "3.0", "3" }, { "7", "7" }, { "inf", NULL }, { "nan", NULL },
                { "-1", NULL }, { "0", NULL }, { "1e300", NULL }, { "9223372036854775807", NULL },
                { "\"10\"", NULL }, { "true", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = strjoin("[mcp_servers.tools]\ncommand = '/usr/bin/tools'\n"
                                                    "tool_timeout_sec = ", t[i].written, "\n"),
                               *expected = t[i].taken ? strjoin("tool_timeout_sec = ", t[i].taken, "\n") : strdup("");
                AGENT(a, CODEX);

                put_file(a.user, ".codex/config.toml", text);
                PREPARED(h, a);
                text = mfree(text);
                text = strjoin("command = \"/usr/bin/tools\"\n", expected, APPROVED);
                ASSERT_NOT_NULL(strstr(h.codex_config, text));
        }
}

/* What he has given his own Codex, its agents have as well, as long as he has it. */
TEST(servers_of_the_operator) {
        AGENT(a, CODEX);
        _cleanup_free_ char *before = NULL, *after = NULL;

        put_file(a.home->workspace, ".mcp.json", "{\"mcpServers\":{\"web\":{\"url\":\"https://agents.example/\"}}}");
        put_file(a.user, ".codex/config.toml",
                 "model = \"x\"\n[mcp_servers.tools]\ncommand = '/usr/bin/tools' # his\nargs = [\"a\",\n \"b\",]\n"
                 "cwd = \"/srv\"\nenabled_tools = [\"one\"]\nstartup_timeout_sec = 20\n[mcp_servers.tools.env]\n"
                 "A = \"1\"\n[mcp_servers.web]\nurl = \"https://his.example/\"\nhttp_headers = { X-Key = \"k\" }\n"
                 "[mcp_servers.off]\nenabled = false\ncommand = \"/usr/bin/off\"\n[mcp_servers.secret]\n"
                 "url = \"https://x.example/\"\nbearer_token_env_var = \"TOKEN\"\n[mcp_servers.hidden]\n"
                 "command = \"/home/he/hidden\"\n[mcp_servers.puffo]\ncommand = \"/usr/bin/not-ours\"\n");
        before = tree_picture(a.user);
        {
                PREPARED(h, a);
                ASSERT_NOT_NULL(strstr(h.codex_config, "[mcp_servers.\"tools\"]\ncommand = \"/usr/bin/tools\"\n"
                                       "args = [\"a\", \"b\"]\nenv = { \"A\" = \"1\" }\ncwd = \"/srv\"\n"
                                       "enabled_tools = [\"one\"]\nstartup_timeout_sec = 20\n" APPROVED));
                ASSERT_NOT_NULL(strstr(h.codex_config, "[mcp_servers.\"web\"]\nurl = \"https://his.example/\"\n"
                                       "http_headers = { \"X-Key\" = \"k\" }\n" APPROVED));
                ASSERT_NULL(strstr(h.codex_config, "/usr/bin/off"));
                ASSERT_NULL(strstr(h.codex_config, "x.example"));
                ASSERT_NULL(strstr(h.codex_config, "/home/he"));
                ASSERT_NULL(strstr(h.codex_config, "not-ours"));
                ASSERT_NOT_NULL(strstr(h.notice, "'secret' is left out"));
                ASSERT_NOT_NULL(strstr(h.notice, "'hidden' is left out"));
                after = tree_picture(a.user);
                ASSERT_STREQ(before, after);

                /* What he has got wrong changes nothing. */
                put_file(a.user, ".codex/config.toml", "[mcp_servers.tools]\ncommand = /usr/bin/other\n");
                PREPARED(wrong, a);
                ASSERT_TRUE(same_hash(&h, &wrong));
                ASSERT_NOT_NULL(strstr(wrong.notice, "config.toml' cannot be had: line 2: a value is missing."));

                put_file(a.user, ".codex/config.toml", "mcp_servers = 5\n");
                PREPARED(odd, a);
                ASSERT_TRUE(same_hash(&h, &odd));
                ASSERT_NOT_NULL(strstr(odd.notice, "mcp_servers is no table"));
        }
        put_file(a.user, ".codex/config.toml", "[mcp_servers]\n");
        PREPARED(none, a);
        ASSERT_NULL(strstr(none.codex_config, "/usr/bin/tools"));
        ASSERT_NOT_NULL(strstr(none.codex_config, "https://agents.example/"));
        ASSERT_NULL(none.notice);
}

/* ---- logins ---- */

#define TOKENS(refresh) \
        "{\"auth_mode\":\"chatgpt\",\"OPENAI_API_KEY\":\"sk-beside\",\"tokens\":{\"id_token\":\"i\",\"access_token\":" \
        "\"a\",\"refresh_token\":\"" refresh "\",\"account_id\":\"x\",\"future\":\"secret\"},\"last_refresh\":\"t\"}"

TEST(view_of_a_login) {
        AGENT(a, CODEX);
        _cleanup_free_ char *before = NULL, *after = NULL;
        char *key = NULL;
        CliLogin l;

        put_file(a.user, LOGIN, TOKENS("secret"));
        ASSERT_OK(codex_login_look(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_VALID);
        ASSERT_FALSE(is_there(a.home->directory, LOGIN));
        ASSERT_OK(codex_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_VALID);
        ASSERT_EQ(cli_login_refresh_usec(&l, 0), USEC_INFINITY);
        ASSERT_EQ(get_mode(a.home->directory, LOGIN), 0600);
        assert_json(a.home->directory, LOGIN,
                    "{\"auth_mode\":\"chatgpt\",\"OPENAI_API_KEY\":null,\"tokens\":{\"id_token\":\"i\",\"access_token\":"
                    "\"a\",\"account_id\":\"x\",\"refresh_token\":\"\"},\"last_refresh\":\"t\"}");
        before = tree_picture(a.home->directory);
        ASSERT_OK(codex_login_sync(a.home, a.user, &l));
        after = tree_picture(a.home->directory);
        ASSERT_STREQ(before, after);
        /* What is paid for is the account. */
        ASSERT_EQ(codex_login_key(a.user, &key), 0);
        ASSERT_NULL(key);

        /* He has logged out. */
        put_file(a.user, LOGIN, "{}");
        ASSERT_OK(codex_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_MISSING);
        ASSERT_FALSE(is_there(a.home->directory, LOGIN));
}

TEST(a_key_is_not_shown) {
        AGENT(a, CODEX);
        _cleanup_free_ char *key = NULL;
        CliLogin l;

        put_file(a.user, LOGIN, "{\"auth_mode\":\"apikey\",\"OPENAI_API_KEY\":\"sk-x\"}");
        /* As an earlier version of something may have left it. */
        put_file(a.home->directory, LOGIN, "{\"auth_mode\":\"apikey\",\"OPENAI_API_KEY\":\"sk-x\"}");
        ASSERT_EQ(codex_login_key(a.user, &key), 1);
        ASSERT_STREQ(key, "sk-x");
        ASSERT_OK(codex_login_sync(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_MISSING);
        ASSERT_FALSE(is_there(a.home->directory, LOGIN));
}

TEST(a_login_of_its_own) {
        AGENT(a, CODEX);
        CliLogin l;

        put_file(a.home->directory, LOGIN, TOKENS("own"));
        ASSERT_OK(codex_login_look(a.home, a.user, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_VALID);
        ASSERT_OK(codex_login_sync(a.home, NULL, &l));
        ASSERT_EQ(l.state, CLI_LOGIN_VALID);
        ASSERT_OK(codex_login_remove(a.home));
        ASSERT_TRUE(is_there(a.home->directory, LOGIN));
}

TEST(logins_that_make_no_sense) {
        static const char *const t[] = { "", "x", "[]", "{\"tokens\":5}", "{\"tokens\":{\"access_token\":\"\"}}",
                                         "{\"OPENAI_API_KEY\":7}" };
        AGENT(a, CODEX);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                char *key = NULL;
                CliLogin l;

                put_file(a.user, LOGIN, t[i]);
                put_file(a.home->directory, LOGIN, t[i]);
                ASSERT_OK(codex_login_look(a.home, a.user, &l));
                ASSERT_EQ(l.state, CLI_LOGIN_MISSING);
                ASSERT_OK(codex_login_sync(a.home, a.user, &l));
                ASSERT_EQ(l.state, CLI_LOGIN_MISSING);
                ASSERT_EQ(codex_login_key(a.user, &key), 0);
        }
}

/* ---- its program ---- */

static void put_program(const char *directory, const char *name, const char *text) {
        _cleanup_free_ char *path = path_join(directory, name);

        put_file(directory, name, text);
        ASSERT_EQ(chmod(path, 0755), 0);
}

TEST(program) {
        static const char *const natives[] = {
                "lib/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
                "lib/node_modules/@openai/codex/node_modules/@openai/codex-linux-x64/vendor/"
                "x86_64-unknown-linux-musl/codex/codex",
        };
        AGENT(a, CODEX);
        _cleanup_free_ char *bin = path_join(a.user, "bin");

        put_program(a.user, "lib/node_modules/@openai/codex/bin/codex.js", "#!/usr/bin/env node\n");
        ASSERT_EQ(mkdir(bin, 0755), 0);
        make_link("../lib/node_modules/@openai/codex/bin/codex.js", bin, "codex");
        /* Without it the script has to do. */
        for (size_t i = 0; i <= ELEMENTSOF(natives); i++) {
                _cleanup_free_ char *program = NULL, *path = NULL, *modules = path_join(a.user, "lib/node_modules");
                _cleanup_(strv_freep) char **roots = NULL;

                if (i > 0)
                        put_program(a.user, natives[ELEMENTSOF(natives) - i], "\177ELF");
                ASSERT_OK(cli_program_find(CODEX, NULL, bin, a.user, &program, &roots, &path));
                ASSERT_TRUE(endswith(program, i == 0 ? "/codex/bin/codex.js" : natives[ELEMENTSOF(natives) - i]));
                ASSERT_TRUE(strv_contains(roots, modules));
        }
}

TEST(program_that_is_named) {
        AGENT(a, CODEX);
        _cleanup_free_ char *own = path_join(a.user, "own-codex"), *program = NULL, *path = NULL;
        _cleanup_(strv_freep) char **roots = NULL;

        put_program(a.user, "own-codex", "\177ELF");
        ASSERT_OK(cli_program_find(CODEX, own, "/nonexistent", NULL, &program, &roots, &path));
        ASSERT_STREQ(program, own);
        program = mfree(program);
        path = mfree(path);
        roots = strv_free(roots);
        ASSERT_OK(cli_program_find(CODEX, "own-codex", a.user, NULL, &program, &roots, &path));
        ASSERT_STREQ(program, own);
        program = mfree(program);
        path = mfree(path);
        roots = strv_free(roots);
        ASSERT_ERROR(cli_program_find(CODEX, "/not/there", a.user, a.user, &program, &roots, &path), ENOENT);

        ASSERT_EQ(setenv("AGENT_PROXY_CODEX", own, 1), 0);
        ASSERT_OK(cli_program_find(CODEX, "/not/there", a.user, a.user, &program, &roots, &path));
        ASSERT_EQ(unsetenv("AGENT_PROXY_CODEX"), 0);
        ASSERT_STREQ(program, own);
}

/* ---- settings ---- */

static int load(const char *text, CodexSettings *ret, char **reterr) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        char *error = NULL;

        ASSERT_OK(yaml_document_parse(&d, text, strlen(text), &error));
        return codex_settings_load(ret, "config.yaml", yaml_document_root(d), reterr);
}

TEST(settings) {
        _cleanup_(codex_settings_done) CodexSettings s = {}, again = {};
        _cleanup_json_ json_object *o = NULL;
        char *error = NULL;

        ASSERT_OK(load("port: 7011\n", &s, &error));
        ASSERT_OK(codex_settings_to_json(&s, &o));
        ASSERT_NULL(o);
        ASSERT_TRUE(s.network);

        ASSERT_OK(load("codex: /opt/codex\ndriver: exec\nmodel: m\nmodel_provider: p\nsandbox: read-only\n"
                       "network_access: no\nip: 0.0.0.0\nport: 7012\ncodex_config:\n  model_verbosity: low\n"
                       "  a:\n    b: '1'\n    c: 2\n    d: true\n  list: [x, 3]\n", &s, &error));
        ASSERT_OK(codex_settings_to_json(&s, &o));
        codex_settings_done(&s);
        ASSERT_OK(codex_settings_from_json(&again, o));
        ASSERT_STREQ(again.program, "/opt/codex");
        ASSERT_TRUE(again.exec);
        ASSERT_FALSE(again.network);
        ASSERT_STREQ(again.model, "m");
        ASSERT_STREQ(again.model_provider, "p");
        ASSERT_STREQ(again.sandbox, "read-only");
        ASSERT_STREQ(again.url, "http://127.0.0.1:7012");
        ASSERT_EQ(strv_length(again.config), 5);
        ASSERT_STREQ(again.config[0], "model_verbosity=\"low\"");
        ASSERT_STREQ(again.config[1], "a.b=\"1\"");
        ASSERT_STREQ(again.config[2], "a.c=2");
        ASSERT_STREQ(again.config[3], "a.d=true");
        ASSERT_STREQ(again.config[4], "list=[\"x\",3]");
}

TEST(settings_that_make_no_sense) {
#define NO_MAPPING "codex_config: a mapping of keys of Codex's config.toml to values is expected"
        static const struct { const char *text, *error; } t[] = {
                { "\ndriver: tui\n", "config.yaml:2: driver: one of these is expected: app-server, exec" },
                { "sandbox: none\n", "config.yaml:1: sandbox: one of these is expected: read-only, workspace-write, "
                                     "danger-full-access" },
                { "model: [a]\n", "config.yaml:1: model: a text is expected" },
                { "network_access: maybe\n", "config.yaml:1: network_access: true or false is expected" },
                { "codex_config: x\n", "config.yaml:1: " NO_MAPPING },
                { "codex_config:\n  'a b': 1\n", "config.yaml:2: " NO_MAPPING },
                { "codex_config:\n  a: [[1]]\n", "config.yaml:2: " NO_MAPPING },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(codex_settings_done) CodexSettings s = {};
                _cleanup_free_ char *error = NULL;

                ASSERT_ERROR(load(t[i].text, &s, &error), EBADMSG);
                ASSERT_STREQ(strempty(error), t[i].error);
        }
}

/* "codex exec" has no other way to be told them. */
TEST(what_goes_with_a_turn) {
        _cleanup_free_ char *schema = NULL, *text = NULL, *link = NULL, *expected = NULL, *none = NULL;
        _cleanup_(strv_freep) char **images = NULL, **few = NULL;
        char target[64] = {};

        AGENT(a, "codex");
        for (unsigned i = 0; i < 2; i++) {
                schema = mfree(schema);
                images = strv_free(images);
                /* What has the name already, whatever it is, is not in the way. */
                if (i == 1) {
                        ASSERT_OK(unlink(link));
                        ASSERT_OK(mkdir(link, 0700));
                }
                ASSERT_OK(cli_home_start_codex_turn(a.home, "{\"a\":1}",
                                                    (char*[]) { (char*) "/w/a.png", (char*) "/w/b,c.png", NULL },
                                                    &schema, &images));
                link = link ?: strdup(images[1]);
        }
        text = get_file(a.home->directory, ".codex/puffo-schema.json");
        ASSERT_STREQ(text, "{\"a\":1}");
        expected = path_join(a.home->directory, ".codex/puffo-schema.json");
        ASSERT_STREQ(schema, expected);
        ASSERT_EQ(strv_length(images), 2);
        ASSERT_STREQ(images[0], "/w/a.png");
        ASSERT_TRUE(readlink(images[1], target, sizeof(target) - 1) > 0);
        ASSERT_STREQ(target, "/w/b,c.png");
        ASSERT_NULL(strchr(images[1], ','));
        ASSERT_OK(cli_home_start_codex_turn(a.home, NULL, NULL, &none, &few));
        ASSERT_NULL(none);
        ASSERT_NULL(few);
}

TEST_MAIN();
