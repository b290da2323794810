/* SPDX-License-Identifier: MIT */
#define TEST_SUITE "harness-launch"

#include "harness.h"
#include "json-util.h"
#include "string-util.h"
#include "tests.h"

static const char *const environment[] = {
        "PATH=/usr/bin", "LANG=C.UTF-8", "LC_TIME=de_DE", "TZ=Europe/Berlin", "SSL_CERT_FILE=/etc/ca.pem",
        "ANTHROPIC_API_KEY=secret", "OPENAI_API_KEY=secret", "NOTIFY_SOCKET=/run/x", "LD_PRELOAD=/x.so",
        "NODE_OPTIONS=--require=/x.js", "CLAUDE_CONFIG_DIR=/x", "IS_SANDBOX=1", "DBUS_SESSION_BUS_ADDRESS=x",
        "PATHOLOGY=x",
        "LC_BROKEN", NULL,
};

static HarnessSetup setup_of(HarnessKind kind) {
        return (HarnessSetup) {
                .kind = kind,
                .program = "/opt/claude",
                .home = "/srv/agent",
                .workspace = "/srv/agent/workspace",
                .working_directory = "/srv/agent/workspace/project",
                .environment = (char *const*) environment,
        };
}

/* argv behind the program, one a line; or the environment. */
static char* launched(const HarnessSetup *setup, const char *what) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_object *o = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        json_object *part;

        ASSERT_OK(harness_launch(setup, &text));
        ASSERT_OK(json_parse(text, strlen(text), &o));
        part = json_get(o, what);
        if (json_object_is_type(part, json_type_array)) {
                ASSERT_STREQ(json_object_get_string(json_object_array_get_idx(part, 0)), setup->program);
                for (size_t i = 1; i < json_object_array_length(part); i++)
                        ASSERT_OK(strbuf_printf(&b, "%s\n",
                                                json_object_get_string(json_object_array_get_idx(part, i))));
        } else if (json_object_is_type(part, json_type_object)) {
                json_object_object_foreach(part, name, value)
                        ASSERT_OK(strbuf_printf(&b, "%s=%s\n", name, json_object_get_string(value)));
        } else
                ASSERT_OK(strbuf_puts(&b, part ? json_object_get_string(part) : "null"));
        return strbuf_take(&b);
}

#define ASSERT_LAUNCHES(setup, what, expected) ({ \
        _cleanup_free_ char *_text = launched(setup, what); \
        ASSERT_STREQ(_text, expected); })

#define COMMON \
        "-p\n--input-format\nstream-json\n--output-format\nstream-json\n--verbose\n--include-partial-messages\n"
#define PLAIN \
        "HOME=/srv/agent\nPATH=/usr/bin\nLANG=C.UTF-8\nTZ=Europe/Berlin\nSSL_CERT_FILE=/etc/ca.pem\nLC_TIME=de_DE\n"
#define SWITCHES \
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1\nDISABLE_AUTOUPDATER=1\nDISABLE_BUG_COMMAND=1\n" \
        "CLAUDE_CODE_MAX_RETRIES=4\nCLAUDE_CODE_DISABLE_CRON=1\nCLAUDE_CODE_DISABLE_BACKGROUND_TASKS=1\n"

#define ASKED "--settings={\"permissions\":{\"ask\":[\"mcp__puffo__install_mcp_server\"]}}\n"

TEST(claude) {
        HarnessSetup s = setup_of(HARNESS_CLAUDE);
        static const char *const dirs[] = { "/srv/data", NULL };

        ASSERT_LAUNCHES(&s, "argv", COMMON "--permission-mode=default\n--permission-prompt-tool=stdio\n" ASKED
                                    "--allowedTools=mcp__puffo\n");
        ASSERT_LAUNCHES(&s, "env", PLAIN SWITCHES);
        ASSERT_LAUNCHES(&s, "cwd", "/srv/agent/workspace/project");
        ASSERT_LAUNCHES(&s, "model_socket", "null");
        ASSERT_LAUNCHES(&s, "proxy_socket", "null");

        s.model = "--dangerously-skip-permissions";
        s.permission_mode = "acceptEdits";
        s.mcp_config = "/srv/agent/mcp.json";
        s.session_id = "5c2e8f5e-0000-4000-8000-000000000001";
        s.extra_dirs = (char *const*) dirs;
        ASSERT_LAUNCHES(&s, "argv", COMMON "--model=--dangerously-skip-permissions\n--add-dir=/srv/data\n"
                                    "--permission-mode=acceptEdits\n--permission-prompt-tool=stdio\n" ASKED
                                    "--allowedTools=mcp__puffo\n--mcp-config=/srv/agent/mcp.json\n"
                                    "--strict-mcp-config\n"
                                    "--resume=5c2e8f5e-0000-4000-8000-000000000001\n");

        s = setup_of(HARNESS_CLAUDE);
        s.permission_mode = "bypassPermissions";
        ASSERT_LAUNCHES(&s, "argv", COMMON "--dangerously-skip-permissions\n--allowedTools=mcp__puffo\n");
        s.permission_mode = "auto";
        ASSERT_LAUNCHES(&s, "argv", COMMON "--permission-mode=auto\n--permission-prompt-tool=stdio\n" ASKED
                                    "--allowedTools=mcp__puffo\n");
}

TEST(claude_sdk) {
        HarnessSetup s = setup_of(HARNESS_CLAUDE_SDK);

        /* Of an agent of another kind: not for this one. */
        s.permission_mode = "bypassPermissions";
        s.session_id = "5c2e8f5e-0000-4000-8000-000000000001";
        s.mcp_config = "/srv/agent/mcp.json";
        s.system_prompt = "secret";
        ASSERT_LAUNCHES(&s, "argv", COMMON "--permission-mode=default\n--permission-prompt-tool=stdio\n"
                                    "--setting-sources=project\n--strict-mcp-config\n--max-turns=10\n"
                                    "--no-session-persistence\n");
        s.max_turns = UINT64_MAX;
        s.model = "m";
        ASSERT_LAUNCHES(&s, "argv", COMMON "--model=m\n--permission-mode=default\n--permission-prompt-tool=stdio\n"
                                    "--setting-sources=project\n--strict-mcp-config\n--max-turns=18446744073709551615\n"
                                    "--no-session-persistence\n");
}

#define GEMINI_SWITCHES "GEMINI_CLI_TRUST_WORKSPACE=true\nGEMINI_CLI_NO_RELAUNCH=true\n"

TEST(gemini) {
        static const char *const dirs[] = { "/srv/data", "/srv/a,b", NULL };
        static const struct { const char *mode, *argument; } modes[] = {
                { NULL, "default" }, { "", "default" }, { "default", "default" }, { "dontAsk", "default" },
                { "acceptEdits", "auto_edit" }, { "plan", "plan" }, { "bypassPermissions", "yolo" },
        };
        HarnessSetup s = setup_of(HARNESS_GEMINI);

        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                _cleanup_free_ char *expected = asprintf_new("--approval-mode=%s\n--output-format\nstream-json\n",
                                                             modes[i].argument);

                s.permission_mode = modes[i].mode;
                ASSERT_LAUNCHES(&s, "argv", expected);
        }
        ASSERT_LAUNCHES(&s, "env", PLAIN GEMINI_SWITCHES);

        /* Neither prompt nor key where everybody can read them. */
        s.prompt = "secret";
        s.system_prompt = "secret";
        s.model = " gemini-2.5-pro [1m]";
        s.session_id = "";
        s.model_token = "tok";
        s.model_socket = "/run/puffo/model.sock";
        s.mcp_config = "/srv/agent/mcp.json";
        s.extra_dirs = (char *const*) dirs;
        ASSERT_LAUNCHES(&s, "argv", "--model=gemini-2.5-pro\n-r\nlatest\n--approval-mode=yolo\n"
                                    "--include-directories=/srv/data\n--output-format\nstream-json\n");
        ASSERT_LAUNCHES(&s, "env", PLAIN GEMINI_SWITCHES
                        "GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:{model_port}\nGEMINI_API_KEY=tok\n");
        ASSERT_LAUNCHES(&s, "model_socket", "/run/puffo/model.sock");

        s = setup_of(HARNESS_GEMINI);
        s.session_id = "81d16d80-5471-4236-bca0-975c0273b617";
        s.model = "[x]";
        ASSERT_LAUNCHES(&s, "argv", "-r\nlatest\n--approval-mode=default\n--output-format\nstream-json\n");
}

TEST(hermes) {
        static const struct { const char *model, *argument; } models[] = {
                { NULL, "anthropic/claude-opus-4-6" }, { "", "anthropic/claude-opus-4-6" },
                { "[1m]", "anthropic/claude-opus-4-6" }, { " \t", "anthropic/claude-opus-4-6" },
                { "claude-sonnet-4-5", "anthropic/claude-sonnet-4-5" },
                { " claude-opus-4-6 [1m] ", "anthropic/claude-opus-4-6" },
                { "nous/hermes-4[x]", "nous/hermes-4" }, { "--x", "anthropic/--x" },
        };
        static const struct { const char *model, *argument; } openai_models[] = {
                { NULL, "gpt-4o" }, { "gpt-5.5[x]", "gpt-5.5" }, { "openai/gpt-5.5", "gpt-5.5" }, { "openai/", "gpt-4o" },
        };
        HarnessSetup s = setup_of(HARNESS_HERMES);
        _cleanup_free_ char *big = malloc(KIB(128)), *json = NULL;

#define HERMES(model) "chat\n--provider=anthropic\n--quiet\n--source=puffoagent:agent\n--model=" model "\n"
        s.prompt = "- hello=1";
        for (size_t i = 0; i < ELEMENTSOF(models); i++) {
                _cleanup_free_ char *expected = asprintf_new(HERMES("%s") "--query=- hello=1\n", models[i].argument);

                s.model = models[i].model;
                ASSERT_LAUNCHES(&s, "argv", expected);
        }
        ASSERT_LAUNCHES(&s, "env", PLAIN);

        s.model = "m";
        s.model_token = "tok";
        s.model_socket = "/run/puffo/model.sock";
        s.system_prompt = "You are.";
        ASSERT_LAUNCHES(&s, "argv", HERMES("anthropic/m") "--query=You are.\n\n---\n\n- hello=1\n");
        ASSERT_LAUNCHES(&s, "env",
                        PLAIN "ANTHROPIC_BASE_URL=http://127.0.0.1:{model_port}\nANTHROPIC_API_KEY=tok\n");
        s.session_id = "";
        ASSERT_LAUNCHES(&s, "argv", HERMES("anthropic/m") "--continue\n--query=- hello=1\n");

        s.provider = "openai";
        ASSERT_LAUNCHES(&s, "env",
                        PLAIN "OPENAI_BASE_URL=http://127.0.0.1:{model_port}/v1\nOPENAI_API_KEY=tok\n");
        for (size_t i = 0; i < ELEMENTSOF(openai_models); i++) {
                _cleanup_free_ char *expected = asprintf_new(
                        "chat\n--provider=openai-api\n--quiet\n--source=puffoagent:agent\n--model=%s\n--continue\n"
                        "--query=- hello=1\n", openai_models[i].argument);

                s.model = openai_models[i].model;
                ASSERT_LAUNCHES(&s, "argv", expected);
        }
        s.provider = "anthropic";

        /* As long as the kernel takes it. */
        ASSERT_NOT_NULL(big);
        memset(big, 'x', KIB(128));
        big[KIB(128) - 9] = 0;
        s.prompt = big;
        ASSERT_OK(harness_launch(&s, &json));
        free(json);
        big[KIB(128) - 9] = 'x';
        big[KIB(128) - 8] = 0;
        json = NULL;
        ASSERT_ERROR(harness_launch(&s, &json), E2BIG);
}

TEST(endpoint_and_proxy) {
        static const char *const proxied[] = {
                "PATH=/usr/bin", "https_proxy=http://proxy:3128", "NO_PROXY=.example", "HTTP_PROXY=", NULL,
        };
        HarnessSetup s = setup_of(HARNESS_CLAUDE);

        s.environment = (char *const*) proxied;
        /* Never between the program and an endpoint on this machine. */
        ASSERT_LAUNCHES(&s, "env", "HOME=/srv/agent\nPATH=/usr/bin\nhttps_proxy=http://proxy:3128\n"
                                   "NO_PROXY=.example,127.0.0.1,localhost\nno_proxy=127.0.0.1,localhost\n" SWITCHES);

        s.model_token = "tok";
        s.model_socket = "/run/puffo/model.sock";
        s.proxy_socket = "/run/puffo/proxy.sock";
        ASSERT_LAUNCHES(&s, "env",
                        "HOME=/srv/agent\nPATH=/usr/bin\n"
                        "HTTP_PROXY=http://127.0.0.1:{proxy_port}\nHTTPS_PROXY=http://127.0.0.1:{proxy_port}\n"
                        "ALL_PROXY=http://127.0.0.1:{proxy_port}\nhttp_proxy=http://127.0.0.1:{proxy_port}\n"
                        "https_proxy=http://127.0.0.1:{proxy_port}\nall_proxy=http://127.0.0.1:{proxy_port}\n"
                        "NO_PROXY=127.0.0.1,localhost\nno_proxy=127.0.0.1,localhost\n" SWITCHES
                        "ANTHROPIC_BASE_URL=http://127.0.0.1:{model_port}\nANTHROPIC_API_KEY=tok\n"
                        "CLAUDE_CODE_PROVIDER_MANAGED_BY_HOST=1\n");
        ASSERT_LAUNCHES(&s, "model_socket", "/run/puffo/model.sock");
        ASSERT_LAUNCHES(&s, "proxy_socket", "/run/puffo/proxy.sock");
}

TEST(conversations_that_are_none) {
        static const char *const ids[] = {
                "", "puffoagent-turn", "--help", "5c2e8f5e000040008000000000000001",
                "5c2e8f5e-0000-4000-8000-00000000000g",
                "5c2e8f5e-0000-4000-8000-000000000001 ", "My title",
        };

        for (size_t i = 0; i < ELEMENTSOF(ids); i++) {
                HarnessSetup s = setup_of(HARNESS_CLAUDE);

                s.session_id = ids[i];
                ASSERT_LAUNCHES(&s, "argv", COMMON "--permission-mode=default\n--permission-prompt-tool=stdio\n" ASKED
                                            "--allowedTools=mcp__puffo\n");
        }
}

#define CODEX_COMMON \
        "-c\ncheck_for_update_on_startup=false\n-c\nanalytics.enabled=false\n" \
        "-c\nshell_environment_policy.ignore_default_excludes=false\n"

TEST(codex) {
        static const char *const dirs[] = { "/srv/data", "/srv/a\"b\x7f", NULL },
                          *const config[] = { "model_verbosity=low", NULL };
        HarnessSetup s = setup_of(HARNESS_CODEX);

        ASSERT_LAUNCHES(&s, "argv", CODEX_COMMON "-c\nsandbox_workspace_write.network_access=false\napp-server\n");
        ASSERT_LAUNCHES(&s, "env", PLAIN "CODEX_HOME=/srv/agent/.codex\n");
        ASSERT_LAUNCHES(&s, "port_argument", "null");

        s.session_id = "01a1fbe9-55bc-77c0-ac19-c78609dff468";  /* told over its pipes */
        s.system_prompt = "You are alice.";
        s.model = "gpt-x[1m]";
        s.codex_network = true;
        s.codex_provider = "local";
        s.extra_dirs = (char *const*) dirs;
        s.codex_config = (char *const*) config;
        ASSERT_LAUNCHES(&s, "argv", CODEX_COMMON "-c\nsandbox_workspace_write.network_access=true\n-c\n"
                                    "sandbox_workspace_write.writable_roots=[\"/srv/data\",\"/srv/a\\\"b\\u007f\"]\n"
                                    "-c\nmodel=\"gpt-x\"\n-c\nmodel_provider=\"local\"\n-c\nmodel_verbosity=low\n"
                                    "app-server\n");

        /* A key is never among it: the endpoint's token stands where tools do not get it. */
        s = setup_of(HARNESS_CODEX);
        s.model_token = "t0ken";
        s.model_socket = "/run/model";
        ASSERT_LAUNCHES(&s, "argv", CODEX_COMMON "-c\nsandbox_workspace_write.network_access=false\n"
                                    "-c\nmodel_providers.puffo.name=\"Puffo\"\n"
                                    "-c\nmodel_providers.puffo.base_url=\"http://127.0.0.1:{model_port}/v1\"\n"
                                    "-c\nmodel_providers.puffo.wire_api=\"responses\"\n"
                                    "-c\nmodel_providers.puffo.env_key=\"PUFFO_MODEL_TOKEN\"\n"
                                    "-c\nmodel_providers.puffo.request_max_retries=2\n"
                                    "-c\nmodel_providers.puffo.stream_max_retries=2\n"
                                    "-c\nmodel_provider=\"puffo\"\napp-server\n");
        ASSERT_LAUNCHES(&s, "env", PLAIN "CODEX_HOME=/srv/agent/.codex\nPUFFO_MODEL_TOKEN=t0ken\n");
        ASSERT_LAUNCHES(&s, "port_argument", "12");

        s.permission_mode = "auto";
        ASSERT_ERROR(harness_launch(&s, &(char*) { NULL }), EINVAL);
}

TEST(codex_exec) {
        static const struct { const char *mode, *given, *sandbox; } modes[] = {
                { "bypassPermissions", NULL, "workspace-write" }, { "dontAsk", "workspace-write", "workspace-write" },
                { "bypassPermissions", "danger-full-access", "danger-full-access" },
                { "plan", NULL, "read-only" },
                /* What is to be asked about nobody can be asked. */
                { "default", NULL, "read-only" }, { "acceptEdits", "danger-full-access", "read-only" },
        };
        HarnessSetup s = setup_of(HARNESS_CODEX_EXEC);

        for (size_t i = 0; i < ELEMENTSOF(modes); i++) {
                _cleanup_free_ char *expected =
                        strjoin(CODEX_COMMON "-c\nsandbox_workspace_write.network_access=false\n-c\nsandbox_mode=\"",
                                modes[i].sandbox, "\"\nexec\n--json\n--skip-git-repo-check\n-\n");

                s.permission_mode = modes[i].mode;
                s.codex_sandbox = modes[i].given;
                ASSERT_LAUNCHES(&s, "argv", expected);
        }
        s.codex_sandbox = NULL;
        s.permission_mode = "bypassPermissions";
        s.system_prompt = "You are\nalice.";
        s.session_id = "01a1fbe9-55bc-77c0-ac19-c78609dff468";
        ASSERT_LAUNCHES(&s, "argv", CODEX_COMMON "-c\nsandbox_workspace_write.network_access=false\n"
                                    "-c\nsandbox_mode=\"workspace-write\"\n-c\n"
                                    "developer_instructions=\"You are\\nalice.\"\nexec\nresume\n"
                                    "01a1fbe9-55bc-77c0-ac19-c78609dff468\n--json\n--skip-git-repo-check\n-\n");
        s.options = &(HarnessOptions) {
                .output_schema = "/srv/agent/schema.json", .effort = "hi\"gh",
                .images = (char*[]) { (char*) "/srv/a.png", (char*) "/srv/-b c.png", NULL },
        };
        ASSERT_LAUNCHES(&s, "argv", CODEX_COMMON "-c\nsandbox_workspace_write.network_access=false\n"
                                    "-c\nsandbox_mode=\"workspace-write\"\n-c\n"
                                    "developer_instructions=\"You are\\nalice.\"\n-c\n"
                                    "model_reasoning_effort=\"hi\\\"gh\"\nexec\nresume\n"
                                    "01a1fbe9-55bc-77c0-ac19-c78609dff468\n--output-schema=/srv/agent/schema.json\n"
                                    "--image=/srv/a.png\n--image=/srv/-b c.png\n--json\n--skip-git-repo-check\n-\n");
        s.options = &(HarnessOptions) { .images = (char*[]) { (char*) "/srv/a,b.png", NULL } };
        ASSERT_ERROR(harness_launch(&s, &(char*) { NULL }), EINVAL);
        s.options = NULL;
        s.session_id = "--last";        /* no id */
        s.system_prompt = NULL;
        ASSERT_LAUNCHES(&s, "argv", CODEX_COMMON "-c\nsandbox_workspace_write.network_access=false\n"
                                    "-c\nsandbox_mode=\"workspace-write\"\nexec\n--json\n"
                                    "--skip-git-repo-check\n-\n");
}

TEST(setups_that_start_nothing) {
        _cleanup_free_ char *big = malloc(MIB(1) + 1);
        static const struct { size_t offset; const char *value; int error; } t[] = {
                { offsetof(HarnessSetup, program), "claude", EINVAL }, { offsetof(HarnessSetup, home), "", EINVAL },
                { offsetof(HarnessSetup, workspace), "x", EINVAL }, { offsetof(HarnessSetup, working_directory), ".",
                                                     EINVAL },
                { offsetof(HarnessSetup, permission_mode), "automatic", EINVAL },
                { offsetof(HarnessSetup, permission_mode), "--x", EINVAL },
                { offsetof(HarnessSetup, model_token), "no socket", EINVAL },
                { offsetof(HarnessSetup, model), "\xff", EINVAL }, { offsetof(HarnessSetup, home), "/\xff", EINVAL },
                { offsetof(HarnessSetup, working_directory), "/\xff", EINVAL },
                { offsetof(HarnessSetup, model), NULL, E2BIG },
        };

        ASSERT_NOT_NULL(big);
        memset(big, 'x', MIB(1));
        big[MIB(1)] = 0;
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                HarnessSetup s = setup_of(HARNESS_CLAUDE);
                char *json = NULL;

                *(const char**) ((char*) &s + t[i].offset) = t[i].value ?: big;
                ASSERT_ERROR(harness_launch(&s, &json), t[i].error);
                ASSERT_NULL(json);
        }
}

TEST_MAIN();
