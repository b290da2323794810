/* SPDX-License-Identifier: MIT */

#include "daemon-config.h"
#include "home-fixture.h"

/* agent-home §3, as upstream writes it. */
static const char example[] =
        "default_provider: anthropic\n"
        "skills_dir: ''\n"
        "reconcile_interval_seconds: 2.0\n"
        "runtime_heartbeat_seconds: 5.0\n"
        "docker_memory_limit: 1.5g\n"
        "docker_memory_reservation: 500m\n"
        "anthropic:\n"
        "  api_key: sk-ant-example\n"
        "  model: claude-sonnet-4-6\n"
        "openai:\n"
        "  api_key: ''\n"
        "  model: ''\n"
        "google:\n"
        "  api_key: ''\n"
        "  model: ''\n"
        "bridge:\n"
        "  enabled: true\n"
        "  bind_host: 127.0.0.1\n"
        "  port: 63387\n"
        "  allowed_origins:\n"
        "  - https://chat.puffo.ai\n"
        "  - http://localhost:5173\n"
        "  - http://127.0.0.1:5173\n"
        "data_service:\n"
        "  enabled: true\n"
        "  bind_host: 127.0.0.1\n"
        "  port: 63386\n";

static DaemonConfig* load(const Fixture *f, const char *text) {
        _cleanup_free_ char *error = NULL;
        DaemonConfig *c = NULL;

        put_file(f->paths->home, "daemon.yml", text);
        if (daemon_config_load(&c, f->paths->daemon_yml, &error) < 0)
                fail_msg("%s\n%s", error, text);
        return c;
}

static char* save(const Fixture *f, DaemonConfig *c) {
        ASSERT_OK(daemon_config_save(c, f->paths->daemon_yml));
        ASSERT_EQ(get_mode(f->paths->home, "daemon.yml"), 0600);
        return get_file(f->paths->home, "daemon.yml");
}

TEST(round_trip) {
        FIXTURE(f);
        _cleanup_(daemon_config_freep) DaemonConfig *c = load(&f, example);
        _cleanup_free_ char *text = NULL;

        ASSERT_STREQ(c->providers[PROVIDER_ANTHROPIC].api_key, "sk-ant-example");
        ASSERT_EQ(c->bridge_port, 63387);
        text = save(&f, c);
        ASSERT_STREQ(text, example);
}

TEST(defaults) {
        static const char *const texts[] = { NULL, "", "anthropic:\nbridge: ~\n", "bridge:\n  allowed_origins: []\n" };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                _cleanup_(daemon_config_freep) DaemonConfig *c = NULL;
                _cleanup_free_ char *error = NULL;

                if (texts[i])
                        c = load(&f, texts[i]);
                else
                        ASSERT_OK(daemon_config_load(&c, f.paths->daemon_yml, &error));
                ASSERT_STREQ(c->default_provider, "anthropic");
                ASSERT_STREQ(c->providers[PROVIDER_OPENAI].api_key, "");
                ASSERT_TRUE(c->bridge_enabled && c->data_service_enabled);
                ASSERT_EQ(c->data_service_port, 63386);
                ASSERT_EQ(strv_length(c->bridge_allowed_origins), 3);
                ASSERT_STREQ(c->bridge_allowed_origins[0], "https://chat.puffo.ai");
                ASSERT_STREQ(c->wire_verify_certs, "warn");
                ASSERT_EQ(c->retention_days, 90);
                ASSERT_EQ(c->turn_grace_usec, 20 * USEC_PER_SEC);
                ASSERT_EQ(c->dispatch_jitter_ms, 1500);
                ASSERT_EQ(c->max_parallel_starts, 4);
                ASSERT_EQ(c->limits.memory_high, MIB(2048));
                ASSERT_EQ(c->limits.memory_max, MIB(4096));
                ASSERT_EQ(c->limits.tasks_max, 512);
                ASSERT_EQ(c->limits.cpu_weight, 100);
                ASSERT_EQ(c->limits.cpu_quota_usec_per_sec, UINT64_MAX);
        }
}

TEST(all_keys) {
        FIXTURE(f);
        _cleanup_(daemon_config_freep) DaemonConfig *c = load(&f,
                "default_provider: echo\nskills_dir: /x\nreconcile_interval_seconds: 1\nruntime_heartbeat_seconds: "
                ".5\n"
                "docker_memory_limit: ''\n"
                "openai: {api_key: k, model: m, base_url: 'http://localhost:8000/v1'}\n"
                "bridge: {enabled: no, bind_host: '::1', port: 1, allowed_origins: http://one}\n"
                "data_service: {enabled: 'off', port: '65535'}\n"
                "wire: {verify_certs: enforce, ca_file: /ca.pem}\n"
                "messages: {retention_days: 0}\n"
                "turn_grace_seconds: 0.25\ndispatch_jitter_ms: 0\nmax_parallel_starts: 1\n"
                "limits: {memory_high: 1T, memory_max: '1048576', tasks_max: 1, cpu_weight: 10000, cpu_quota: "
                "'0.5%'}\n");

        ASSERT_STREQ(c->default_provider, "echo");
        ASSERT_TRUE(c->reconcile_interval_seconds == 1 && c->runtime_heartbeat_seconds == 0.5);
        ASSERT_STREQ(c->docker_memory_limit, "");
        ASSERT_STREQ(c->providers[PROVIDER_OPENAI].base_url, "http://localhost:8000/v1");
        ASSERT_FALSE(c->bridge_enabled || c->data_service_enabled);
        ASSERT_EQ(c->bridge_port, 1);
        ASSERT_EQ(c->data_service_port, 65535);
        ASSERT_EQ(strv_length(c->bridge_allowed_origins), 1);
        ASSERT_STREQ(c->wire_verify_certs, "enforce");
        ASSERT_EQ(c->retention_days, 0);
        ASSERT_EQ(c->turn_grace_usec, 250000);
        ASSERT_EQ(c->limits.memory_high, (uint64_t) 1 << 40);
        ASSERT_EQ(c->limits.memory_max, MIB(1));
        ASSERT_EQ(c->limits.cpu_quota_usec_per_sec, 5000);
        ASSERT_EQ(strv_length(c->warnings), 1);
        ASSERT_STREQ(c->warnings[0], "daemon.yml: skills_dir: nothing reads it");
}

TEST(errors) {
        static const struct {
                const char *text, *error;
        } t[] = {
                { "default_provider: azure\n",
                  "1: default_provider: 'azure' is not one of anthropic, openai, google, echo" },
                { "skills_dir: 1\n",
                  "1: skills_dir: '1' is not a text (put '' around what looks like a number or a truth value)" },
                { "reconcile_interval_seconds: fast\n",
                  "1: reconcile_interval_seconds: 'fast' is not a number of at least 0" },
                { "runtime_heartbeat_seconds: -1\n",
                  "1: runtime_heartbeat_seconds: '-1' is not a number of at least 0" },
                { "docker_memory_limit: 512\n",
                  "1: docker_memory_limit: '512' is not a text (put '' around what looks like a number or a truth "
                  "value)" },
                { "anthropic: sk-secret\n", "1: anthropic: expected indented lines of 'key: value'" },
                { "anthropic:\n  api_key: [sk-secret]\n",
                  "2: anthropic.api_key: a list is not a text (put '' around what looks like a number or a truth "
                  "value)" },
                { "openai:\n  api_key: 1234\n",
                  "2: openai.api_key: this value is not a text (put '' around what looks like a number or a truth "
                  "value)" },
                { "google:\n  base_url: x\n",
                  "2: google.base_url: expected a URL that begins with https:// or http://" },
                { "bridge:\n  enabled: 1\n", "2: bridge.enabled: '1' is not true or false" },
                { "bridge:\n  port: 0\n", "2: bridge.port: '0' is not a whole number from 1 to 65535" },
                { "bridge:\n  port: x\n", "2: bridge.port: 'x' is not a whole number from 1 to 65535" },
                { "bridge:\n  allowed_origins: {a: b}\n",
                  "2: bridge.allowed_origins: a mapping is not a list of texts, as in [one, two]" },
                { "data_service:\n  port: 65536\n",
                  "2: data_service.port: '65536' is not a whole number from 1 to 65535" },
                { "wire:\n  verify_certs: no\n", "2: wire.verify_certs: 'no' is not one of warn, enforce" },
                { "messages:\n  retention_days: -1\n",
                  "2: messages.retention_days: '-1' is not a whole number from 0 to 36500" },
                { "turn_grace_seconds: soon\n",
                  "1: turn_grace_seconds: 'soon' is not a number of seconds from 0 to 315360000" },
                { "dispatch_jitter_ms: 1.5\n",
                  "1: dispatch_jitter_ms: '1.5' is not a whole number from 0 to 3600000" },
                { "max_parallel_starts: 0\n", "1: max_parallel_starts: '0' is not a whole number from 1 to 1000" },
                { "limits: [1]\n", "1: limits: expected indented lines of 'key: value'" },
                { "limits:\n  memory_max: 99999999999T\n",
                  "2: limits.memory_max: '99999999999T' is not a size of at least 1M (digits, then K, M, G or T, as "
                  "in 2G)" },
                { "limits:\n  cpu_quota: 0%\n", "2: limits.cpu_quota: '0%' is not a share of CPU time (as in 150%)" },
                { "limits:\n  cpu_quota: 1.%\n",
                  "2: limits.cpu_quota: '1.%' is not a share of CPU time (as in 150%)" },
        };
        FIXTURE(f);

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *error = NULL, *expected = strjoin(f.paths->daemon_yml, ":", t[i].error);
                DaemonConfig *c = NULL;

                put_file(f.paths->home, "daemon.yml", t[i].text);
                ASSERT_ERROR(daemon_config_load(&c, f.paths->daemon_yml, &error), EBADMSG);
                ASSERT_STREQ(error, expected);
        }
}

TEST(too_large) {
        FIXTURE(f);
        _cleanup_free_ char *text = malloc(MIB(2) + 1), *error = NULL,
                            *expected = strjoin(f.paths->daemon_yml, ": larger than 1 MiB");
        DaemonConfig *c = NULL;

        memset(text, '#', MIB(2));
        text[MIB(2)] = 0;
        put_file(f.paths->home, "daemon.yml", text);
        ASSERT_ERROR(daemon_config_load(&c, f.paths->daemon_yml, &error), EBADMSG);
        ASSERT_STREQ(error, expected);
}

TEST(ours_and_unknown) {
        FIXTURE(f);
        _cleanup_(daemon_config_freep) DaemonConfig *c = load(&f, "server:\n  url: x\ngoogle:\n  region: eu\n");
        _cleanup_free_ char *text = NULL;

        ASSERT_OK(free_and_strdup(&c->providers[PROVIDER_GOOGLE].base_url, "http://localhost:1"));
        c->max_parallel_starts = 2;
        c->limits.memory_high = MIB(3072);
        ASSERT_OK(free_and_strdup(&c->wire_verify_certs, "enforce"));
        text = save(&f, c);
        ASSERT_NOT_NULL(strstr(text,
                               "google:\n  api_key: ''\n  model: ''\n  base_url: http://localhost:1\n  region: "
                               "eu\nbridge:\n"));
        ASSERT_TRUE(endswith(text, "  port: 63386\nwire:\n  verify_certs: enforce\nmax_parallel_starts: 2\n"
                                   "limits:\n  memory_high: 3G\nserver:\n  url: x\n"));
}

TEST(prices) {
        static const char broken[] = "{\"a\":5,\"b\":{\"input\":-1,\"output\":1},\"c\":{\"input\":\"1\",\"output\":1},"
                                     "\"d\":{\"input\":1,\"output\":2},\"e\":{\"input\":1}}";
        FIXTURE(f);
        _cleanup_(daemon_config_freep) DaemonConfig *c = load(&f,
                "pricing:\n  m: {input: 3, output: 15.5, cache_read: 0.3}\n");
        _cleanup_(price_list_done) PriceList l = {};
        _cleanup_json_ json_object *o = NULL, *nonsense = NULL;
        _cleanup_free_ char *text = NULL;
        const Price *p;

        ASSERT_OK(price_list_to_json(&c->prices, &o));
        ASSERT_OK(price_list_add_json(&l, o));
        p = price_list_find(&l, "m");
        ASSERT_NOT_NULL(p);
        ASSERT_TRUE(p->input == 3 && p->output == 15.5 && p->cache_read == 0.3 && p->cache_write == 3);

        ASSERT_OK(json_parse(broken, strlen(broken), &nonsense));
        ASSERT_OK(price_list_add_json(&l, nonsense));
        ASSERT_OK(price_list_add_json(&l, NULL));
        ASSERT_EQ(l.n, 2);
        ASSERT_NOT_NULL(price_list_find(&l, "d"));

        text = save(&f, c);
        ASSERT_TRUE(endswith(text, "pricing:\n  m:\n    input: 3\n    output: 15.5\n    cache_read: 0.3\n"));
}

TEST(resolve_model) {
        static const struct {
                const char *agent_provider, *agent_key, *agent_model, *agent_url, *provider, *key, *model, *url;
        } t[] = {
                { "", "", "", "", "openai", "dk", "dm", "http://d" },
                { "openai", "ak", "am", "http://a", "openai", "ak", "am", "http://a" },
                { "", "", "am", "", "openai", "dk", "am", "http://d" },
                { "anthropic", "", "", "", "anthropic", "", "", "" },
                { "echo", "", "", "", "echo", "", "", "" },
        };
        FIXTURE(f);
        _cleanup_(daemon_config_freep) DaemonConfig *d =
                load(&f, "default_provider: openai\nopenai: {api_key: dk, model: dm, base_url: 'http://d'}\n");

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(agent_config_freep) AgentConfig *a = NULL;
                _cleanup_(resolved_model_done) ResolvedModel m = {};

                ASSERT_OK(agent_config_new(&a, "rob"));
                ASSERT_OK(free_and_strdup(&a->provider, t[i].agent_provider));
                ASSERT_OK(free_and_strdup(&a->api_key, t[i].agent_key));
                ASSERT_OK(free_and_strdup(&a->model, t[i].agent_model));
                ASSERT_OK(free_and_strdup(&a->llm_base_url, t[i].agent_url));
                ASSERT_OK(resolve_model(d, a, &m));
                ASSERT_STREQ(m.provider, t[i].provider);
                ASSERT_STREQ(m.api_key, t[i].key);
                ASSERT_STREQ(m.model, t[i].model);
                ASSERT_STREQ(m.base_url, t[i].url);
        }
        ASSERT_NULL(daemon_config_provider(d, "echo"));
        ASSERT_STREQ(daemon_config_provider(d, "openai")->api_key, "dk");
}

TEST(resolve_limits) {
        _cleanup_(daemon_config_freep) DaemonConfig *d = NULL;
        _cleanup_(agent_config_freep) AgentConfig *a = NULL;
        Limits l;

        ASSERT_OK(daemon_config_new(&d));
        ASSERT_OK(agent_config_new(&a, "rob"));
        a->limits.memory_high = MIB(100);
        a->limits.cpu_quota_usec_per_sec = 500000;
        l = resolve_limits(d, a);
        ASSERT_EQ(l.memory_high, MIB(100));
        ASSERT_EQ(l.memory_max, MIB(4096));
        ASSERT_EQ(l.tasks_max, 512);
        ASSERT_EQ(l.cpu_weight, 100);
        ASSERT_EQ(l.cpu_quota_usec_per_sec, 500000);
}

TEST(values_that_could_not_be_read_again) {
        _cleanup_(daemon_config_freep) DaemonConfig *c = NULL;
        _cleanup_free_ char *error = NULL;

        ASSERT_OK(daemon_config_new(&c));
        ASSERT_OK(daemon_config_check(c, &error));
        ASSERT_OK(free_and_strdup(&daemon_config_provider(c, "openai")->base_url, "example"));
        ASSERT_ERROR(daemon_config_check(c, &error), EINVAL);
        ASSERT_NOT_NULL(strstr(error, "base_url: expected a URL"));
        ASSERT_NULL(strstr(error, "daemon.yml"));
}

#define TEST_SUITE "daemon-config"
TEST_MAIN();
