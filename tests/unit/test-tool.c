/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "tool"

#include "tool-fixture.h"
#include "tool-internal.h"

static const char *const names[] = {
        "send_message", "upload_file", "list_channels", "list_channel_members", "get_channel_history",
        "get_thread_history", "fetch_channel_files", "get_post", "get_user_info", "whoami", "reload_system_prompt",
        "install_skill", "uninstall_skill", "list_skills", "install_mcp_server", "uninstall_mcp_server",
        "list_mcp_servers", "refresh", "hire_agent", "ask_agent",
};

TEST(the_table_in_its_order) {
        size_t n;
        const Tool *tools = tools_all(&n);

        ASSERT_EQ(n, ELEMENTSOF(names));
        for (size_t i = 0; i < n; i++) {
                _cleanup_json_ json_object *schema = NULL;
                json_object *properties;

                ASSERT_STREQ(tools[i].name, names[i]);
                ASSERT_STREQ(tool_find(names[i])->schema, tools[i].schema);
                ASSERT_TRUE(strlen(tools[i].description) > 10);
                ASSERT_OK(json_parse(tools[i].schema, strlen(tools[i].schema), &schema));
                ASSERT_STREQ(json_get_string(schema, "type"), "object");
                properties = json_get(schema, "properties");
                ASSERT_TRUE(json_object_is_type(properties, json_type_object));
                for (size_t k = 0; k < json_object_array_length(json_get(schema, "required")); k++)
                        ASSERT_NOT_NULL(json_get(properties, json_object_get_string(
                                                         json_object_array_get_idx(json_get(schema, "required"), k))));
                ASSERT_EQ(tool_is_answer(names[i]), i < 2);
        }
        ASSERT_NULL(tool_find("mcp__puffo__whoami"));
}

#define SCHEMA \
        "{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\",\"default\":\"x\"}," \
        "\"i\":{\"type\":\"integer\"}," \
        "\"l\":{\"type\":\"array\"},\"m\":{\"type\":\"object\"},\"r\":{\"type\":\"string\"}},\"required\":[\"r\"]}"

TEST(arguments) {
        static const struct {
                const char *given, *expected, *error;
        } t[] = {
                { "{\"r\":\"\"}", "{\"s\":\"x\",\"r\":\"\"}" },
                { "{\"r\":\"a\",\"s\":\"b\",\"i\":7}", "{\"s\":\"b\",\"i\":7,\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"i\":\"20\"}", "{\"s\":\"x\",\"i\":20,\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"i\":\" -3 \"}", "{\"s\":\"x\",\"i\":-3,\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"i\":20.0}", "{\"s\":\"x\",\"i\":20,\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"i\":null,\"s\":null}", "{\"s\":\"x\",\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"l\":[\"b\",\"c\"]}", "{\"s\":\"x\",\"l\":[\"b\",\"c\"],\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"l\":\"[\\\"b\\\"]\"}", "{\"s\":\"x\",\"l\":[\"b\"],\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"l\":[]}", "{\"s\":\"x\",\"l\":[],\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"m\":\"{\\\"k\\\":\\\"v\\\"}\"}", "{\"s\":\"x\",\"m\":{\"k\":\"v\"},\"r\":\"a\"}" },
                { "{\"r\":\"a\",\"m\":{\"k\":\"v\"}}", "{\"s\":\"x\",\"m\":{\"k\":\"v\"},\"r\":\"a\"}" },
                { NULL, .error = "r is required" },
                { "{}", .error = "r is required" },
                { "{\"r\":null}", .error = "r is required" },
                { "{\"r\":1}", .error = "r must be a string" },
                { "{\"r\":\"a\\u0000b\"}", .error = "r contains a NUL character" },
                { "{\"r\":\"a\",\"l\":[\"a\\u0000b\"]}", .error = "l contains a NUL character" },
                { "{\"r\":\"a\",\"i\":true}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"i\":\"\"}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"i\":\"0x10\"}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"i\":\"1 2\"}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"i\":1.5}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"i\":1e300}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"i\":\"99999999999999999999\"}", .error = "i must be an integer" },
                { "{\"r\":\"a\",\"l\":\"b\"}", .error = "l must be a list of strings" },
                { "{\"r\":\"a\",\"l\":\"\\\"b\\\"\"}", .error = "l must be a list of strings" },
                { "{\"r\":\"a\",\"l\":[1]}", .error = "l must be a list of strings" },
                { "{\"r\":\"a\",\"l\":[null]}", .error = "l must be a list of strings" },
                { "{\"r\":\"a\",\"l\":{}}", .error = "l must be a list of strings" },
                { "{\"r\":\"a\",\"m\":[]}", .error = "m must be an object whose members are strings" },
                { "{\"r\":\"a\",\"m\":{\"k\":1}}", .error = "m must be an object whose members are strings" },
                { "{\"r\":\"a\",\"x\\n\":1}", .error = "x? is not an argument of this tool" },
                { "[]", .error = "the arguments must be an object" },
                { "\"{}\"", .error = "the arguments must be an object" },
        };
        _cleanup_json_ json_object *schema = NULL;

        ASSERT_OK(json_parse(SCHEMA, strlen(SCHEMA), &schema));
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_json_ json_object *given = NULL, *arguments = NULL;
                _cleanup_free_ char *error = NULL;
                int r;

                if (t[i].given)
                        ASSERT_OK(json_parse(t[i].given, strlen(t[i].given), &given));
                r = tool_arguments_check(schema, given, &arguments, &error);
                ASSERT_EQ(r, t[i].error ? -EINVAL : 0);
                if (t[i].error)
                        ASSERT_STREQ(error, t[i].error);
                else
                        ASSERT_STREQ(json_text(arguments, NULL), t[i].expected);
        }
}

TEST(a_call_that_makes_no_sense) {
        BENCH(b);

        bench_call(&b, "no\nsuch", "{}");
        ASSERT_REFUSED(&b, "Unknown tool: no?such");
        bench_call(&b, "get_post", NULL);
        ASSERT_REFUSED(&b, "Error executing tool get_post: post_ref is required");
        bench_call(&b, "get_post", "{\"post_ref\":[]}");
        ASSERT_REFUSED(&b, "Error executing tool get_post: post_ref must be a string");
}

TEST(a_call_ends_with_its_box) {
        BENCH(b);

        bench_start(&b, "list_channels", NULL, NULL);
        ASSERT_FALSE(b.is_done);
        b.box = tool_box_free(b.box);
        fake_run(b.event);
        ASSERT_FALSE(b.is_done);
        ASSERT_TRUE(fake.calls[0]->is_freed);
}

TEST(without_an_identity) {
        BENCH(b);
        AgentHome home = { .id = (char*) "rob", .directory = b.path, .workspace = b.workspace };

        b.box = tool_box_free(b.box);
        ASSERT_OK(tool_box_new(&b.box, &(ToolBoxSpec) { .event = b.event, .home = &home }));
        bench_call(&b, "whoami", NULL);
        ASSERT_REFUSED(&b, "Error executing tool whoami: this agent has no identity on the chat service");
        bench_call(&b, "send_message", "{\"channel\":\"ch_1\",\"text\":\"x\"}");
        ASSERT_TRUE(b.is_error);
        bench_call(&b, "list_skills", NULL);
        ASSERT_ANSWER(&b, "(no skills installed)");
}

/* --- the agent's own business --- */

TEST(flags) {
        static const struct {
                const char *arguments, *model, *answer;
        } t[] = {
                { NULL, NULL, "Refresh requested: the runtime will be restarted before the next message." },
                { "{\"model\":null}", NULL,
                  "Refresh requested: the runtime will be restarted before the next message." },
                { "{\"model\":\" opus \"}", "opus",
                  "Refresh requested: the runtime will be restarted before the next message, with the model opus." },
                { "{\"model\":\"\"}", "",
                  "Refresh requested: the runtime will be restarted before the next message, with the configured "
                  "model." },
        };
        BENCH(b);
        _cleanup_free_ char *reload = NULL;
        _cleanup_json_ json_object *flag = NULL;

        bench_call(&b, "reload_system_prompt", "{}");
        ASSERT_ANSWER(&b, "Reload requested: the system prompt will be rebuilt and the runtime restarted before the "
                          "next message.");
        reload = bench_read(&b, ".puffo-agent/reload.flag");
        ASSERT_OK(json_parse(reload, strlen(reload), &flag));
        ASSERT_EQ(json_object_object_length(flag), 1);
        ASSERT_TRUE(llabs(json_get_int(flag, "requested_at", 0) - (int64_t) time(NULL)) < 100);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = NULL;
                _cleanup_json_ json_object *o = NULL;

                bench_call(&b, "refresh", t[i].arguments);
                ASSERT_ANSWER(&b, t[i].answer);
                text = bench_read(&b, ".puffo-agent/refresh.flag");
                ASSERT_OK(json_parse(text, strlen(text), &o));
                ASSERT_EQ(json_object_object_length(o), t[i].model ? 2 : 1);
                ASSERT_TRUE(json_get_int(o, "requested_at", 0) > 0);
                if (t[i].model)
                        ASSERT_STREQ(json_get_string(o, "model"), t[i].model);
        }
}

TEST(a_flag_does_not_go_through_a_link) {
        BENCH(b);
        _cleanup_free_ char *link = path_join(b.workspace, ".puffo-agent"), *keys = path_join(b.path, "keys"),
                            *flag = path_join(keys, "reload.flag");

        ASSERT_OK(mkdir(keys, 0700));
        ASSERT_OK(symlink("../keys", link));
        bench_call(&b, "reload_system_prompt", "{}");
        ASSERT_REFUSED(&b, "Error executing tool reload_system_prompt: .puffo-agent/reload.flag leads out of the "
                       "workspace");
        ASSERT_ERROR(access(flag, F_OK) < 0 ? -errno : 0, ENOENT);

        /* One that is replaced, not written through. */
        ASSERT_OK(unlink(link));
        ASSERT_OK(mkdir(link, 0700));
        free(link);
        link = path_join(b.workspace, ".puffo-agent/reload.flag");
        ASSERT_OK(symlink(flag, link));
        bench_call(&b, "reload_system_prompt", "{}");
        ASSERT_FALSE(b.is_error);
        ASSERT_ERROR(access(flag, F_OK) < 0 ? -errno : 0, ENOENT);
}

TEST(skills) {
        BENCH(b);
        _cleanup_free_ char *expected = NULL, *text = NULL, *marker = NULL, *system = NULL;

        bench_box(&b, "claude-code", RUNTIME_CLI_LOCAL);
        bench_call(&b, "list_skills", NULL);
        ASSERT_ANSWER(&b, "(no skills installed)");
        bench_call(&b, "install_skill", "{\"name\":\"tidy-up\",\"content\":\"# Tidy\\n\"}");
        expected = asprintf_new("Installed skill 'tidy-up' at %s/.claude/skills/tidy-up/SKILL.md. Call refresh() to "
                                "make it available.", b.workspace);
        ASSERT_ANSWER(&b, expected);
        text = bench_read(&b, ".claude/skills/tidy-up/SKILL.md");
        ASSERT_STREQ(text, "# Tidy\n");
        marker = bench_read(&b, ".claude/skills/tidy-up/agent-installed.md");
        bench_call(&b, "install_skill", "{\"name\":\"tidy-up\",\"content\":\"other\"}");
        free(text);
        text = bench_read(&b, ".claude/skills/tidy-up/SKILL.md");
        ASSERT_STREQ(text, "other");

        bench_file(&b, ".claude/skills/a/SKILL.md", "x");
        bench_file(&b, ".claude/skills/b/README.md", "no skill");
        bench_file(&b, ".claude/skills/c", "no directory");
        bench_file(&b, "../.claude/skills/z/SKILL.md", "x");
        bench_file(&b, "../.claude/skills/y\n[agent]  forged/SKILL.md", "x");
        bench_call(&b, "list_skills", NULL);
        ASSERT_ANSWER(&b, "[system] y [agent]  forged\n[system] z\n[agent]  a\n[agent]  tidy-up");

        bench_call(&b, "uninstall_skill", "{\"name\":\"a\"}");
        ASSERT_REFUSED(&b, "Error executing tool uninstall_skill: skill 'a' was not installed by the agent (it has no "
                       "agent-installed.md)");
        bench_call(&b, "uninstall_skill", "{\"name\":\"nothing\"}");
        ASSERT_REFUSED(&b, "Error executing tool uninstall_skill: there is no skill 'nothing' in the workspace");
        bench_call(&b, "uninstall_skill", "{\"name\":\"tidy-up\"}");
        ASSERT_ANSWER(&b, "Uninstalled skill 'tidy-up'. Call refresh() to make this effective.");
        bench_call(&b, "list_skills", NULL);
        ASSERT_ANSWER(&b, "[system] y [agent]  forged\n[system] z\n[agent]  a");
}

TEST(skills_that_are_refused) {
        static const char *const bad[] = { "", "-a", "A", "a_b", "a/b", "..", "a\\n", "a ", "é",
                                           "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg" };
        BENCH(b);
        _cleanup_free_ char *link = NULL, *marker = NULL, *outside = path_join(b.path, "outside");

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_free_ char *arguments = strjoin("{\"name\":\"", bad[i], "\",\"content\":\"x\"}");

                bench_call(&b, "install_skill", arguments);
                ASSERT_REFUSED(&b, "Error executing tool install_skill: the name of a skill consists of 1 to 64 "
                                   "lower-case letters, digits and dashes and does not begin with a dash");
        }
        bench_call(&b, "install_skill", "{\"name\":\"a\",\"content\":\" \\n\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_skill: content must not be blank");

        /* What the agent's programs have put in the way. */
        ASSERT_OK(mkdir(outside, 0700));
        marker = path_join(outside, "agent-installed.md");
        ASSERT_OK(file_write_snapshot(marker, "x", 1, 0600));
        bench_file(&b, ".claude/skills/x/SKILL.md", "x");
        link = path_join(b.workspace, ".claude/skills/a");
        ASSERT_OK(symlink("../../../outside", link));
        bench_call(&b, "install_skill", "{\"name\":\"a\",\"content\":\"x\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_skill: .claude/skills/a leads out of the workspace");
        bench_call(&b, "uninstall_skill", "{\"name\":\"a\"}");
        ASSERT_REFUSED(&b, "Error executing tool uninstall_skill: .claude/skills/a leads out of the workspace");
        ASSERT_OK(access(marker, F_OK));

        bench_box(&b, "codex", RUNTIME_CLI_LOCAL);
        for (size_t i = 0; i < 5; i++) {
                static const char *const t[][2] = {
                        { "install_skill", "{\"name\":\"a\",\"content\":\"x\"}" },
                        { "uninstall_skill", "{\"name\":\"a\"}" },
                        { "install_mcp_server", "{\"name\":\"a\",\"command\":\"x\"}" },
                        { "uninstall_mcp_server", "{\"name\":\"a\"}" },
                        { "refresh", "{}" },
                };
                _cleanup_free_ char *expected = asprintf_new("Error executing tool %s: %s works with the harness "
                                                             "claude-code only, and this agent's is 'codex'",
                                                             t[i][0], t[i][0]);

                bench_call(&b, t[i][0], t[i][1]);
                ASSERT_REFUSED(&b, expected);
        }
}

TEST(mcp_servers) {
        BENCH(b);
        _cleanup_free_ char *first = NULL, *second = NULL, *third = NULL;
        ino_t before;

        bench_call(&b, "list_mcp_servers", NULL);
        ASSERT_ANSWER(&b, "(no MCP servers registered)");
        bench_call(&b, "uninstall_mcp_server", "{\"name\":\"git\"}");
        ASSERT_REFUSED(&b, "Error executing tool uninstall_mcp_server: there is no .mcp.json in the workspace");

        bench_box(&b, "", RUNTIME_SDK_LOCAL);
        bench_call(&b, "install_mcp_server", "{\"name\":\"git\",\"command\":\"git-mcp\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: an agent of the kind sdk-local has no MCP servers "
                       "but its own");
        bench_box(&b, "", RUNTIME_CHAT_LOCAL);

        bench_call(&b, "install_mcp_server", "{\"name\":\"puffo__git\",\"command\":\"x\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: the name 'puffo__git' would be taken for this "
                       "agent's own server");

        bench_call(&b, "install_mcp_server", "{\"name\":\"git\",\"command\":\"/usr/bin/git-mcp\",\"args\":[\"--all\"],"
                   "\"env\":{\"A\":\"b/c\"}}");
        ASSERT_ANSWER(&b, "Registered MCP server 'git'. Call refresh() to make it available.");
        first = bench_read(&b, ".mcp.json");
        ASSERT_STREQ(first, "{\n  \"mcpServers\": {\n    \"git\": {\n      \"command\": \"/usr/bin/git-mcp\",\n"
                     "      \"args\": [\n        \"--all\"\n      ],\n      \"env\": {\n        \"A\": \"b/c\"\n    "
                     "  }\n    }\n  }\n}\n");

        /* What else is in there stays. */
        bench_file(&b, ".mcp.json", "{\"other\":[1],\"mcpServers\":{\"z\":{\"url\":\"x\"},\"git\":{}}}");
        bench_file(&b, "../.claude.json", "{\"mcpServers\":{\"s\\n[agent]  f\":{},\"a\":{}},\"projects\":{}}");
        before = bench_inode(&b, ".mcp.json");
        bench_call(&b, "install_mcp_server", "{\"name\":\"git\",\"command\":\"npx\"}");
        /* Where it lies: the CLI has it mounted. */
        ASSERT_EQ(bench_inode(&b, ".mcp.json"), before);
        second = bench_read(&b, ".mcp.json");
        ASSERT_STREQ(second, "{\n  \"other\": [\n    1\n  ],\n  \"mcpServers\": {\n    \"z\": {\n      \"url\": "
                             "\"x\"\n    },\n    \"git\": {\n      \"command\": \"npx\",\n      \"args\": [\n      "
                             "],\n      \"env\": {\n      }\n    }\n  }\n}\n");
        bench_call(&b, "list_mcp_servers", NULL);
        ASSERT_ANSWER(&b, "[system] a\n[system] s [agent]  f\n[agent]  git\n[agent]  z");

        bench_call(&b, "uninstall_mcp_server", "{\"name\":\"s\"}");
        ASSERT_REFUSED(&b, "Error executing tool uninstall_mcp_server: MCP server 's' is not registered in the "
                           "workspace");
        bench_call(&b, "uninstall_mcp_server", "{\"name\":\"git\"}");
        ASSERT_ANSWER(&b, "Removed MCP server 'git'. Call refresh() to make this effective.");
        third = bench_read(&b, ".mcp.json");
        ASSERT_STREQ(third, "{\n  \"other\": [\n    1\n  ],\n  \"mcpServers\": {\n    \"z\": {\n      \"url\": \"x\"\n"
                     "    }\n  }\n}\n");
}

TEST(mcp_servers_that_are_refused) {
        static const char *const malformed[] = { "", "{", "[]", "null", "{\"mcpServers\":[]}" };
        static const struct { const char *command; bool local; } commands[] = {
                { "npx" }, { "/usr/bin/x" }, { "/opt/x" }, { "/home/agent/x" }, { "./x" }, { "C:x" },
                { "C:/x", true }, { "c:\\\\x", true }, { "a\\\\b", true }, { "/home/bo/x", true },
                { "/Users/bo/x", true },
                { "/tmp/x", true }, { "/var/folders/x", true },
        };
        BENCH(b);
        _cleanup_free_ char *long_name = NULL;
        StrBuf name = {};

        for (size_t i = 0; i < ELEMENTSOF(malformed); i++) {
                _cleanup_free_ char *after = NULL;

                bench_file(&b, ".mcp.json", malformed[i]);
                bench_call(&b, "install_mcp_server", "{\"name\":\"a\",\"command\":\"x\"}");
                ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: .mcp.json in the workspace is "
                                   "malformed; correct or remove it first");
                bench_call(&b, "list_mcp_servers", NULL);
                ASSERT_ANSWER(&b, "(no MCP servers registered)");
                after = bench_read(&b, ".mcp.json");
                ASSERT_STREQ(after, malformed[i]);
        }
        bench_file(&b, ".mcp.json", "{}");

        bench_call(&b, "install_mcp_server", "{\"name\":\"\",\"command\":\"x\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: the name of an MCP server has 1 to 64 "
                           "characters");
        for (size_t i = 0; i < 64; i++)
                ASSERT_OK(strbuf_puts(&name, "é"));
        long_name = asprintf_new("{\"name\":\"%s\",\"command\":\"x\"}", name.text);
        bench_call(&b, "install_mcp_server", long_name);
        ASSERT_FALSE(b.is_error);
        free(long_name);
        long_name = asprintf_new("{\"name\":\"%sx\",\"command\":\"x\"}", name.text);
        strbuf_done(&name);
        bench_call(&b, "install_mcp_server", long_name);
        ASSERT_TRUE(b.is_error);
        bench_call(&b, "install_mcp_server", "{\"name\":\"a\",\"command\":\" \"}");
        ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: command must not be blank");

        for (size_t i = 0; i < ELEMENTSOF(commands); i++) {
                _cleanup_free_ char *arguments = asprintf_new("{\"name\":\"a\",\"command\":\"%s\"}",
                                                              commands[i].command);

                bench_box(&b, "", RUNTIME_CLI_DOCKER);
                bench_call(&b, "install_mcp_server", arguments);
                ASSERT_EQ(b.is_error, commands[i].local);
                bench_box(&b, "", RUNTIME_CLI_LOCAL);
                bench_call(&b, "install_mcp_server", arguments);
                ASSERT_FALSE(b.is_error);
        }
}

TEST(a_list_of_servers_that_is_not_in_the_workspace) {
        BENCH(b);
        _cleanup_free_ char *link = path_join(b.workspace, ".mcp.json");

        bench_file(&b, "../secret.json", "{\"mcpServers\":{\"secret\":{}}}");
        ASSERT_OK(symlink("../secret.json", link));
        bench_call(&b, "list_mcp_servers", NULL);
        ASSERT_ANSWER(&b, "(no MCP servers registered)");
        bench_call(&b, "install_mcp_server", "{\"name\":\"a\",\"command\":\"x\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: .mcp.json leads out of the workspace");

        ASSERT_OK(unlink(link));
        ASSERT_OK(mkfifo(link, 0600));
        bench_call(&b, "install_mcp_server", "{\"name\":\"a\",\"command\":\"x\"}");
        ASSERT_REFUSED(&b, "Error executing tool install_mcp_server: .mcp.json is no regular file");
}

TEST_MAIN();
