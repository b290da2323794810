/* SPDX-License-Identifier: MIT */


#include "agent-config.h"
#include "count-entries.h"
#include "home-fixture.h"

/* agent-home §5.2, as upstream writes it. */
static const char example[] =
        "id: helper-9a7c\n"
        "state: running\n"
        "display_name: Helper\n"
        "avatar_url: ''\n"
        "created_at: 1700000000\n"
        "puffo_core:\n"
        "  server_url: https://api.puffo.ai\n"
        "  slug: helper-9a7c\n"
        "  device_id: dev_4f2e1a90\n"
        "  space_id: sp_d09297da\n"
        "  operator_slug: alice-3d3d\n"
        "runtime:\n"
        "  kind: cli-local\n"
        "  provider: ''\n"
        "  model: claude-opus-4-7\n"
        "  api_key: ''\n"
        "  allowed_tools: []\n"
        "  docker_image: ''\n"
        "  docker_memory_limit: ''\n"
        "  docker_memory_reservation: ''\n"
        "  permission_mode: bypassPermissions\n"
        "  harness: claude-code\n"
        "  max_turns: 10\n"
        "profile: profile.md\n"
        "memory_dir: memory\n"
        "workspace_dir: workspace\n"
        "triggers:\n"
        "  on_mention: true\n"
        "  on_dm: true\n";

static AgentConfig* load(const Fixture *f, const char *text) {
        _cleanup_free_ char *path = path_join(f->root, "agent.yml"), *error = NULL;
        AgentConfig *c = NULL;

        put_file(f->root, "agent.yml", text);
        if (agent_config_load(&c, path, "rob", &error) < 0)
                fail_msg("%s\n%s", error, text);
        return c;
}

static char* save(const Fixture *f, AgentConfig *c) {
        _cleanup_free_ char *path = path_join(f->root, "saved.yml");

        ASSERT_OK(agent_config_save(c, path));
        ASSERT_EQ(get_mode(f->root, "saved.yml"), 0600);
        return get_file(f->root, "saved.yml");
}

TEST(round_trip) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        _cleanup_free_ char *path = path_join(f.root, "agent.yml"), *error = NULL, *text = NULL;

        put_file(f.root, "agent.yml", example);
        ASSERT_OK(agent_config_load(&c, path, "helper-9a7c", &error));
        ASSERT_TRUE(c->running && c->on_dm && c->kind_given);
        ASSERT_STREQ(c->display_name, "Helper");
        ASSERT_EQ(c->created_at, 1700000000);
        ASSERT_EQ(c->kind, RUNTIME_CLI_LOCAL);
        ASSERT_STREQ(c->operator_slug, "alice-3d3d");
        ASSERT_EQ(c->max_turns, 10);
        ASSERT_EQ(strv_length(c->warnings), 1);
        ASSERT_STREQ(c->warnings[0],
                     "agent.yml: runtime.sandbox_profile: not set, so its tools run unconfined ('host')");

        text = save(&f, c);
        ASSERT_STREQ(text, example);
        ASSERT_EQ(count_entries(f.root), 4);    /* home, proxy, two files: no temporary stays behind */
}

TEST(defaults) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(&f, "# nothing\n");

        ASSERT_STREQ(c->id, "rob");
        ASSERT_TRUE(c->running && c->on_mention && c->on_dm && c->on_all);
        ASSERT_FALSE(c->kind_given || c->sandbox_given);
        ASSERT_EQ(c->kind, RUNTIME_CHAT_LOCAL);
        ASSERT_EQ(c->sandbox, SANDBOX_HOST);
        ASSERT_STREQ(c->server_url, "https://api.puffo.ai");
        ASSERT_STREQ(c->permission_mode, "bypassPermissions");
        ASSERT_STREQ(c->profile, "profile.md");
        ASSERT_STREQ(c->harness, "");
        ASSERT_STREQ(agent_config_harness(c), "claude-code");
        ASSERT_EQ(c->max_turns, 10);
        ASSERT_EQ(c->max_tokens, 2048);
        ASSERT_EQ(c->task_timeout_usec, 1800 * USEC_PER_SEC);
        ASSERT_EQ(c->permission_timeout_usec, 300 * USEC_PER_SEC);
        ASSERT_EQ(c->freeze_after_usec, 120 * USEC_PER_SEC);
        ASSERT_EQ(c->stop_after_usec, 3600 * USEC_PER_SEC);
        ASSERT_EQ(c->limits.memory_high, UINT64_MAX);
        ASSERT_EQ(c->limits.tasks_max, UINT64_MAX);
        ASSERT_NULL(c->warnings);
        ASSERT_NULL(c->allowed_tools);
}

TEST(all_keys) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(&f,
                "state: paused\n"
                "puffo_core: {server_url: 'http://127.0.0.1:8080'}\n"
                "runtime:\n"
                "  kind: cli-docker\n"
                "  provider: openai\n"
                "  harness: codex\n"
                "  api_key: sk-x\n"
                "  allowed_tools: [Read, 'Bash(git *)']\n"
                "  permission_mode: default\n"
                "  max_turns: '33'\n"
                "  llm_base_url: http://localhost:11434/v1\n"
                "  max_tokens: 4096\n"
                "  task_timeout_seconds: 1.5\n"
                "  permission_timeout_seconds: 60\n"
                "  sandbox_profile: strict\n"
                "  extra_dirs: [/srv/data]\n"
                "  freeze_after_seconds: 0\n"
                "  stop_after_seconds: 0\n"
                "triggers: {on_mention: 'no', on_dm: off, on_all: false}\n"
                "limits: {memory_high: 512M, memory_max: 1073741824, tasks_max: 64, cpu_weight: 50, cpu_quota: "
                "150%}\n");

        ASSERT_FALSE(c->running || c->on_mention || c->on_dm || c->on_all);
        ASSERT_EQ(c->kind, RUNTIME_CLI_DOCKER);
        ASSERT_STREQ(agent_config_harness(c), "codex");
        ASSERT_EQ(strv_length(c->allowed_tools), 2);
        ASSERT_STREQ(c->allowed_tools[1], "Bash(git *)");
        ASSERT_EQ(c->max_turns, 33);
        ASSERT_STREQ(c->llm_base_url, "http://localhost:11434/v1");
        ASSERT_EQ(c->max_tokens, 4096);
        ASSERT_EQ(c->task_timeout_usec, 1500000);
        ASSERT_EQ(c->sandbox, SANDBOX_STRICT);
        ASSERT_TRUE(c->sandbox_given);
        ASSERT_STREQ(c->extra_dirs[0], "/srv/data");
        ASSERT_EQ(c->freeze_after_usec, 0);
        ASSERT_EQ(c->limits.memory_high, MIB(512));
        ASSERT_EQ(c->limits.memory_max, MIB(1024));
        ASSERT_EQ(c->limits.cpu_quota_usec_per_sec, 1500000);
        ASSERT_NULL(c->warnings);
}

#define PRICE_EXPECTED \
        "expected {input: …, output: …, cache_read: …, cache_write: …} in dollars per million tokens"

TEST(errors) {
        static const struct {
                const char *text, *error;
        } t[] = {
                { "a: [1\n", "2: did not find expected ',' or ']'" },
                { "- a\n", "1: the top level is no mapping; expected lines of 'key: value'" },
                { "id: 5\n", "1: id: '5' is not a text (put '' around what looks like a number or a truth value)" },
                { "state: stopped\n", "1: state: 'stopped' is not one of paused, running" },
                { "display_name: [a]\n",
                  "1: display_name: a list is not a text (put '' around what looks like a number or a truth value)" },
                { "display_name: \"a\\nb\"\n", "1: display_name: control characters are not allowed here" },
                { "created_at: -1\n", "1: created_at: '-1' is not a whole number of at least 0" },
                { "created_at: now\n", "1: created_at: 'now' is not a whole number of at least 0" },
                { "created_at: 1.5\n", "1: created_at: '1.5' is not a whole number of at least 0" },
                { "puffo_core: here\n", "1: puffo_core: expected indented lines of 'key: value'" },
                { "puffo_core:\n  server_url: api.puffo.ai\n",
                  "2: puffo_core.server_url: expected a URL that begins with https:// or http://" },
                { "puffo_core:\n  slug: ../x\n",
                  "2: puffo_core.slug: bad slug '../x' (letters, digits, '-' and '_', at most 64)" },
                { "puffo_core:\n  operator_slug: a b\n",
                  "2: puffo_core.operator_slug: bad slug 'a b' (letters, digits, '-' and '_', at most 64)" },
                { "runtime:\n  kind: cli\n",
                  "2: runtime.kind: unknown runtime kind 'cli' (valid: chat-local, cli-docker, cli-local, "
                  "sdk-local)" },
                { "runtime:\n  kind: cli-sandbox\n",
                  "2: runtime.kind: runtime kind 'cli-sandbox' is reserved for a future "
                  "release and not yet implemented" },
                { "runtime:\n  provider: azure\n",
                  "2: runtime.provider: unknown provider 'azure' (valid: anthropic, google, openai)" },
                { "runtime:\n  harness: vim\n",
                  "2: runtime.harness: unknown harness 'vim' (valid: claude-code, gemini-cli, hermes)" },
                { "runtime:\n  api_key: 123456\n",
                  "2: runtime.api_key: this value is not a text (put '' around what looks like a number or a truth "
                  "value)" },
                { "runtime:\n  allowed_tools: Read\n",
                  "2: runtime.allowed_tools: 'Read' is not a list of texts, as in [one, two]" },
                { "runtime:\n  allowed_tools:\n  - Read\n  - 5\n",
                  "4: runtime.allowed_tools: '5' is not a list of texts, as in [one, two]" },
                { "runtime:\n  permission_mode: ask\n", "2: runtime.permission_mode: 'ask' is not one of default, "
                  "acceptEdits, bypassPermissions, plan, dontAsk, auto" },
                { "runtime:\n\n  max_turns: many\n",
                  "3: runtime.max_turns: 'many' is not a whole number of at least 1" },
                { "runtime:\n  max_turns: 0\n", "2: runtime.max_turns: '0' is not a whole number of at least 1" },
                { "runtime:\n  max_turns: true\n",
                  "2: runtime.max_turns: 'true' is not a whole number of at least 1" },
                { "runtime:\n  max_turns: 99999999999999999999\n",
                  "2: runtime.max_turns: '99999999999999999999' is not a whole number of at least 1" },
                { "runtime:\n  llm_base_url: ftp://x\n",
                  "2: runtime.llm_base_url: expected a URL that begins with https:// or http://" },
                { "runtime:\n  max_tokens: {}\n",
                  "2: runtime.max_tokens: a mapping is not a whole number of at least 1" },
                { "runtime:\n  task_timeout_seconds: 0\n",
                  "2: runtime.task_timeout_seconds: '0' is not a number of seconds from 1 to 315360000" },
                { "runtime:\n  permission_timeout_seconds: .inf\n",
                  "2: runtime.permission_timeout_seconds: '.inf' is not a number of seconds from 1 to 315360000" },
                { "runtime:\n  freeze_after_seconds: .nan\n",
                  "2: runtime.freeze_after_seconds: '.nan' is not a number of seconds from 0 to 315360000" },
                { "runtime:\n  stop_after_seconds: -1\n",
                  "2: runtime.stop_after_seconds: '-1' is not a number of seconds from 0 to 315360000" },
                { "runtime:\n  sandbox_profile: none\n",
                  "2: runtime.sandbox_profile: 'none' is not one of host, workspace, strict" },
                { "runtime:\n  extra_dirs: [data]\n", "2: runtime.extra_dirs: expected absolute paths" },
                { "profile: 5\n",
                  "1: profile: '5' is not a text (put '' around what looks like a number or a truth value)" },
                { "triggers:\n  on_dm: sometimes\n", "2: triggers.on_dm: 'sometimes' is not true or false" },
                { "triggers:\n  on_all: 1\n", "2: triggers.on_all: '1' is not true or false" },
                { "limits:\n  memory_high: 2 gigs\n",
                  "2: limits.memory_high: '2 gigs' is not a size of at least 1M (digits, then K, M, G or T, as in "
                  "2G)" },
                { "limits:\n  memory_max: 1K\n",
                  "2: limits.memory_max: '1K' is not a size of at least 1M (digits, then K, M, G or T, as in 2G)" },
                { "limits:\n  tasks_max: 0\n", "2: limits.tasks_max: '0' is not a whole number from 1 to 2147483647" },
                { "limits:\n  cpu_weight: 10001\n",
                  "2: limits.cpu_weight: '10001' is not a whole number from 1 to 10000" },
                { "limits:\n  cpu_quota: 2\n", "2: limits.cpu_quota: '2' is not a share of CPU time (as in 150%)" },
                { "limits:\n  tokens_per_hour: 0\n",
                  "2: limits.tokens_per_hour: '0' is not a whole number of at least 1" },
                { "limits:\n  cost_per_day: 0\n",
                  "2: limits.cost_per_day: '0' is not an amount of dollars above 0, up to 1000000" },
                { "limits:\n  cost_per_day: 5$\n",
                  "2: limits.cost_per_day: '5$' is not an amount of dollars above 0, up to 1000000" },
                { "sandbox:\n  allow_hosts: example.org\n",
                  "2: sandbox.allow_hosts: 'example.org' is not a list of texts, as in [one, two]" },
                { "sandbox:\n  allow_hosts:\n  - example.org\n  - https://example.org/\n",
                  "4: sandbox.allow_hosts: bad host 'https://example.org/' (a name, *.name or an address, each "
                  "perhaps with :port)" },
                { "pricing: 5\n",
                  "1: pricing: expected indented lines of 'model: {input: …, output: …}', at most 100" },
                { "pricing:\n  a: 5\n", "2: pricing.a: " PRICE_EXPECTED },
                { "pricing:\n  a: {input: 1}\n", "2: pricing.a: " PRICE_EXPECTED },
                { "pricing:\n  a: {input: 1, output: -2}\n", "2: pricing.a: " PRICE_EXPECTED },
                { "pricing:\n  a: {input: 1, output: .inf}\n", "2: pricing.a: " PRICE_EXPECTED },
                { "pricing:\n  a:\n    input: 1\n    output: 2\n    cached: 1\n",
                  "5: pricing.a: " PRICE_EXPECTED },
                { "runtime:\n  kind: cli-local\n  provider: google\n  harness: hermes\n",
                  "4: runtime: harness 'hermes' "
                  "does not support provider 'google' (supported: anthropic, openai)" },
                { "runtime:\n  kind: cli-docker\n  provider: echo\n",
                  "3: runtime: provider 'echo' is for runtime kind "
                  "'chat-local', not for 'cli-docker' (choose another of the two)" },
        };
        FIXTURE(f);
        _cleanup_free_ char *path = path_join(f.root, "agent.yml");

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *error = NULL, *expected = strjoin(path, ":", t[i].error);
                AgentConfig *c = NULL;

                put_file(f.root, "agent.yml", t[i].text);
                ASSERT_ERROR(agent_config_load(&c, path, "rob", &error), EBADMSG);
                ASSERT_STREQ(error, expected);
        }
}

TEST(budget_prices_and_hosts) {
        static const char text[] =
                "sandbox:\n"
                "  allow_hosts:\n"
                "  - example.org\n"
                "  - '*.example.net:8443'\n";
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(&f,
                "pricing:\n"
                "  model-a: {input: 3, output: 15, cache_read: 0.3, cache_write: 3.75}\n"
                "  'model.b:latest': {input: 0, output: 1.5}\n"
                "limits: {tokens_per_hour: 1000000, cost_per_day: 2.5}\n"
                "sandbox: {allow_hosts: [example.org, '*.example.net:8443']}\n"), *none = load(&f, "# nothing\n");
        _cleanup_free_ char *first = NULL, *second = NULL;
        const Price *p;

        ASSERT_EQ(none->tokens_per_hour, UINT64_MAX);
        ASSERT_EQ(none->cost_per_day_micro, UINT64_MAX);
        ASSERT_NULL(none->allow_hosts);
        ASSERT_EQ(none->prices.n, 0);

        ASSERT_EQ(c->tokens_per_hour, 1000000);
        ASSERT_EQ(c->cost_per_day_micro, 2500000);
        ASSERT_EQ(strv_length(c->allow_hosts), 2);
        ASSERT_EQ(c->prices.n, 2);
        p = price_list_find(&c->prices, "model-a-20250929");
        ASSERT_NOT_NULL(p);
        ASSERT_TRUE(p->input == 3 && p->output == 15 && p->cache_read == 0.3 && p->cache_write == 3.75);
        p = price_list_find(&c->prices, "model.b:latest");
        ASSERT_NOT_NULL(p);
        ASSERT_TRUE(p->input == 0 && p->output == 1.5 && p->cache_read == 0 && p->cache_write == 0);
        ASSERT_NULL(price_list_find(&c->prices, "model-a-mini"));
        ASSERT_NULL(price_list_find(&c->prices, "model-a-1"));
        ASSERT_NULL(price_list_find(&c->prices, "model-"));
        ASSERT_NOT_NULL(price_list_find(&c->prices, "model-a@20250929"));

        first = save(&f, c);
        ASSERT_NOT_NULL(strstr(first, "limits:\n  tokens_per_hour: 1000000\n  cost_per_day: 2.5\n"));
        ASSERT_NOT_NULL(strstr(first, text));
        ASSERT_NOT_NULL(strstr(first, "pricing:\n  model-a:\n    input: 3\n    output: 15\n    cache_read: 0.3\n"));
        c->tokens_per_hour = UINT64_MAX;
        c->cost_per_day_micro = 2000000;
        second = save(&f, c);
        ASSERT_NOT_NULL(strstr(second, "limits:\n  cost_per_day: 2\n"));
}

TEST(not_there) {
        FIXTURE(f);
        _cleanup_free_ char *path = path_join(f.root, "agent.yml"), *error = NULL;
        AgentConfig *c = NULL;

        ASSERT_ERROR(agent_config_load(&c, path, "rob", &error), ENOENT);
        ASSERT_OK(directory_make(path, 0700));
        ASSERT_ERROR(agent_config_load(&c, path, "rob", &error), EISDIR);
        ASSERT_NULL(error);
}

TEST(unknown_keys_stay) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(&f,
                "zebra: 1 # gone\n"
                "state: running\n"
                "apple: {x: [1, '2']}\n"
                "runtime:\n"
                "  newer: yes\n"
                "  kind: chat-local\n"
                "  max_tokens: 4096\n"
                "triggers:\n"
                "  on_full_moon: true\n"
                "limits:\n"
                "  io_weight: 10\n");
        _cleanup_free_ char *text = NULL, *runtime = NULL;

        c->running = false;
        text = save(&f, c);
        ASSERT_TRUE(startswith(text, "id: rob\nstate: paused\n"));
        ASSERT_NOT_NULL(strstr(text, "  max_turns: 10\n  max_tokens: 4096\n  newer: yes\nprofile: profile.md\n"));
        ASSERT_NOT_NULL(strstr(text, "  on_dm: true\n  on_full_moon: true\n"));
        ASSERT_TRUE(endswith(text, "limits:\n  io_weight: 10\nzebra: 1\napple:\n  x:\n  - 1\n  - '2'\n"));
}

TEST(ours_only_when_different) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(&f, example);
        _cleanup_free_ char *first = NULL, *second = NULL;

        c->max_tokens = 1;
        c->task_timeout_usec = 1500 * USEC_PER_MSEC;
        c->on_all = false;
        c->limits.memory_max = MIB(1536);
        c->limits.cpu_quota_usec_per_sec = 125000;
        c->sandbox_given = true;
        ASSERT_OK(strv_extend(&c->extra_dirs, "/srv"));
        first = save(&f, c);
        ASSERT_NOT_NULL(strstr(first, "  max_turns: 10\n  max_tokens: 1\n  task_timeout_seconds: 1.5\n"
                                      "  sandbox_profile: host\n  extra_dirs:\n  - /srv\nprofile:"));
        ASSERT_TRUE(endswith(first, "  on_all: false\nlimits:\n  memory_max: 1536M\n  cpu_quota: 12.50%\n"));

        c->max_tokens = 2048;
        c->task_timeout_usec = 1800 * USEC_PER_SEC;
        c->on_all = true;
        c->limits.memory_max = c->limits.cpu_quota_usec_per_sec = UINT64_MAX;
        c->sandbox_given = false;
        c->extra_dirs = strv_free(c->extra_dirs);
        ASSERT_OK(free_and_strdup(&c->id, "helper-9a7c"));
        second = save(&f, c);
        ASSERT_STREQ(second, example);
}

TEST(new_file) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = NULL, *again = NULL;
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(agent_config_new(&c, "rob"));
        ASSERT_OK(free_and_strdup(&c->provider, "google"));
        ASSERT_OK(free_and_strdup(&c->display_name, "yes"));
        text = save(&f, c);
        ASSERT_NULL(strstr(text, "kind:"));
        ASSERT_NULL(strstr(text, "sandbox"));
        ASSERT_NOT_NULL(strstr(text, "  harness: gemini-cli\n"));

        again = load(&f, text);
        ASSERT_STREQ(again->display_name, "yes");
        ASSERT_FALSE(again->kind_given);
}

TEST(legacy_kinds) {
        static const struct {
                const char *old;
                RuntimeKind kind;
                size_t n_warnings;
        } t[] = { { "sdk", RUNTIME_SDK_LOCAL, 2 }, { "chat-only", RUNTIME_CHAT_LOCAL, 1 } };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = strjoin("\nruntime:\n  kind: ", t[i].old, "\n"), *saved = NULL,
                                    *line = NULL, *warning = NULL;
                _cleanup_(agent_config_freep) AgentConfig *c = load(&f, text);

                ASSERT_EQ(c->kind, t[i].kind);
                ASSERT_EQ(strv_length(c->warnings), t[i].n_warnings);
                warning = asprintf_new("agent.yml:3: runtime.kind: '%s' is an old name, read as '%s'", t[i].old,
                                       runtime_kind_to_string(t[i].kind));
                ASSERT_STREQ(c->warnings[0], warning);
                saved = save(&f, c);
                line = strjoin("  kind: ", runtime_kind_to_string(t[i].kind), "\n");
                ASSERT_NOT_NULL(strstr(saved, line));
        }
}

TEST(id_is_the_directory) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c = load(&f, "id: bob\n");

        ASSERT_STREQ(c->id, "rob");
        ASSERT_EQ(strv_length(c->warnings), 1);
        ASSERT_STREQ(c->warnings[0], "agent.yml:1: id: 'bob' is not the directory's name, which counts ('rob')");
}

TEST(null_is_the_default) {
        FIXTURE(f);
        _cleanup_(agent_config_freep) AgentConfig *c =
                load(&f,
                     "state:\npuffo_core:\nruntime:\n  kind: ~\n  max_turns: null\n  allowed_tools:\nlimits:\n  "
                     "cpu_quota: ''\n");

        ASSERT_TRUE(c->running);
        ASSERT_FALSE(c->kind_given);
        ASSERT_EQ(c->max_turns, 10);
}

TEST(runtime_matrix) {
        static const struct {
                RuntimeKind kind;
                const char *provider, *harness, *resolved, *error;
        } t[] = {
                { RUNTIME_CHAT_LOCAL, "google", "vim", "vim", NULL },
                { RUNTIME_SDK_LOCAL, "openai", "gemini-cli", "gemini-cli", NULL },
                { RUNTIME_CHAT_LOCAL, "echo", "", "claude-code", NULL },
                { RUNTIME_CLI_LOCAL, "", "", "claude-code", NULL },
                { RUNTIME_CLI_LOCAL, "anthropic", "", "claude-code", NULL },
                { RUNTIME_CLI_LOCAL, "openai", "", "hermes", NULL },
                { RUNTIME_CLI_LOCAL, "google", "", "gemini-cli", NULL },
                { RUNTIME_CLI_DOCKER, "", "hermes", "hermes", NULL },
                { RUNTIME_CLI_LOCAL, "openai", "codex", "codex", NULL },
                { RUNTIME_CLI_LOCAL, "anthropic", "codex", "codex",
                  "harness 'codex' does not support provider 'anthropic' (supported: openai)" },
                { RUNTIME_CLI_LOCAL, "openai", "claude-code", "claude-code",
                  "harness 'claude-code' does not support provider 'openai' (supported: anthropic)" },
                { RUNTIME_CLI_LOCAL, "", "vim", "vim",
                  "unknown harness 'vim' (valid: claude-code, gemini-cli, hermes)" },
                { RUNTIME_CHAT_LOCAL, "azure", "", "claude-code",
                  "unknown provider 'azure' (valid: anthropic, google, openai)" },
                { RUNTIME_SDK_LOCAL, "echo", "", "claude-code",
                  "provider 'echo' is for runtime kind 'chat-local', not for 'sdk-local' (choose another of the "
                  "two)" },
        };

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(agent_config_freep) AgentConfig *c = NULL;
                _cleanup_free_ char *error = NULL;

                ASSERT_OK(agent_config_new(&c, "rob"));
                c->kind = t[i].kind;
                ASSERT_OK(free_and_strdup(&c->provider, t[i].provider));
                ASSERT_OK(free_and_strdup(&c->harness, t[i].harness));
                ASSERT_STREQ(agent_config_harness(c), t[i].resolved);
                ASSERT_EQ(agent_config_check_runtime(c, &error), t[i].error ? -EINVAL : 0);
                if (t[i].error)
                        ASSERT_STREQ(error, t[i].error);
        }
}

/* What is saved can be read again, whoever has asked for it. */
TEST(values_that_could_not_be_read_again) {
        static char too_large[MIB(1) + 1];
        const struct {
                const char *url, *mode, *directory, *harness, *model, *display_name, *error;
        } t[] = {
                { "https://api.example", "plan", "/srv", "codex", "m", " \"b': # c\xf0\x9f\x90\xa1 ", NULL },
                { "example", "plan", "/srv", "", "m", "",
                  "runtime.llm_base_url: expected a URL that begins with https:// or http://" },
                { "", "always", "/srv", "", "m", "", "runtime.permission_mode:" },
                { "", "plan", "srv", "", "m", "", "runtime.extra_dirs: expected absolute paths" },
                { "", "plan", "/srv", "vim", "m", "", "runtime.harness: unknown harness 'vim'" },
                { "", "plan", "/srv", "", too_large, "", "larger than 1 MiB" },
                { "", "plan", "/srv", "", "m", "A\x1b[31m", "display_name: control characters are not allowed here" },
                { "", "plan", "/srv", "", "m", "A\nid: B", "display_name: control characters are not allowed here" },
        };

        (void) memset(too_large, 'x', sizeof(too_large) - 1);
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(agent_config_freep) AgentConfig *c = NULL;
                _cleanup_free_ char *error = NULL;

                ASSERT_OK(agent_config_new(&c, "rob"));
                ASSERT_OK(free_and_strdup(&c->llm_base_url, t[i].url));
                ASSERT_OK(free_and_strdup(&c->permission_mode, t[i].mode));
                ASSERT_OK(strv_extend(&c->extra_dirs, t[i].directory));
                ASSERT_OK(free_and_strdup(&c->harness, t[i].harness));
                ASSERT_OK(free_and_strdup(&c->model, t[i].model));
                ASSERT_OK(free_and_strdup(&c->display_name, t[i].display_name));
                ASSERT_EQ(agent_config_check(c, &error), t[i].error ? -EINVAL : 0);
                if (t[i].error && !strstr(error, t[i].error))
                        fail_msg("%s", error);
        }
}

TEST(names) {
        for (int i = 0; i < _RUNTIME_KIND_MAX; i++)
                ASSERT_EQ(runtime_kind_from_string(runtime_kind_to_string((RuntimeKind) i)), i);
        for (int i = 0; i < _SANDBOX_PROFILE_MAX; i++)
                ASSERT_EQ(sandbox_profile_from_string(sandbox_profile_to_string((SandboxProfile) i)), i);
        ASSERT_ERROR((int) runtime_kind_from_string("sdk"), EINVAL);
        ASSERT_NULL(runtime_kind_to_string(_RUNTIME_KIND_MAX));
}

#define TEST_SUITE "agent-config"
TEST_MAIN();
