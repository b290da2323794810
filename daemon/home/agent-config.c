/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "agent-config.h"
#include "config-field.h"
#include "host-pattern.h"
#include "string-util.h"

static const char *const kind_names[_RUNTIME_KIND_MAX + 1] = {
        [RUNTIME_CHAT_LOCAL] = "chat-local",
        [RUNTIME_SDK_LOCAL] = "sdk-local",
        [RUNTIME_CLI_LOCAL] = "cli-local",
        [RUNTIME_CLI_DOCKER] = "cli-docker",
};

static const char *const sandbox_names[_SANDBOX_PROFILE_MAX + 1] = {
        [SANDBOX_HOST] = "host",
        [SANDBOX_WORKSPACE] = "workspace",
        [SANDBOX_STRICT] = "strict",
};

static const char *const state_names[] = { "paused", "running", NULL };

static const char *const permission_modes[] = {
        "default", "acceptEdits", "bypassPermissions", "plan", "dontAsk", "auto", NULL,
};

/* Which harness can talk to which provider; the first provider it is the default of. */
static const struct {
        const char *name, *default_of, *providers[3];
} harnesses[] = {
        { "claude-code", "anthropic", { "anthropic" } },
        { "codex", NULL, { "openai" } },
        { "gemini-cli", "google", { "google" } },
        { "hermes", "openai", { "anthropic", "openai" } },
};

/* Upstream's providers, and ours: echo answers with what it is given. */
static const char *const providers[] = { "", "anthropic", "openai", "google", "echo", NULL };

/* The texts are those of local-bridge §9.5: clients show them. */
static int problem(char **reterr, const char *before, const char *value, const char *after) {
        _cleanup_free_ char *shown = str_printable(value, 60);

        *reterr = shown ? strjoin(before, " '", shown, "' ", after) : NULL;
        return *reterr ? -EBADMSG : -ENOMEM;
}

static int check_kind(const char *value, char **reterr) {
        if (streq(value, "cli-sandbox"))
                return problem(reterr, "runtime kind", value,
                               "is reserved for a future release and not yet implemented");
        if (runtime_kind_from_string(value) < 0)
                return problem(reterr, "unknown runtime kind", value,
                               "(valid: chat-local, cli-docker, cli-local, sdk-local)");
        return 0;
}

static int check_provider(const char *value, char **reterr) {
        for (size_t i = 0; providers[i]; i++)
                if (streq(value, providers[i]))
                        return 0;
        return problem(reterr, "unknown provider", value, "(valid: anthropic, google, openai)");
}

static int check_harness(const char *value, char **reterr) {
        if (*value == 0)
                return 0;
        for (size_t i = 0; i < ELEMENTSOF(harnesses); i++)
                if (streq(value, harnesses[i].name))
                        return 0;
        return problem(reterr, "unknown harness", value, "(valid: claude-code, gemini-cli, hermes)");
}

/* It names the key files. */
static int check_slug(const char *value, char **reterr) {
        if (*value == 0 || agent_id_is_valid(value))
                return 0;
        return problem(reterr, "bad slug", value, "(letters, digits, '-' and '_', at most 64)");
}

static int check_host(const char *value, char **reterr) {
        if (host_pattern_is_valid(value))
                return 0;
        return problem(reterr, "bad host", value, "(a name, *.name or an address, each perhaps with :port)");
}

#define STRING(member, section, key, ...) CONFIG_FIELD(AgentConfig, member, section, key, CONFIG_STRING, __VA_ARGS__)
#define SECONDS(member, section, key, ...) \
        CONFIG_FIELD(AgentConfig, member, section, key, CONFIG_SECONDS, .flags = CONFIG_OURS, __VA_ARGS__)

/* agent-home §5.2; within a block upstream's keys come first, in its order. */
static const ConfigField agent_fields[] = {
        STRING(id, NULL, "id"),
        CONFIG_FIELD(AgentConfig, running, NULL, "state", CONFIG_CHOICE, .fallback = "running",
                     .choices = state_names),
        STRING(display_name, NULL, "display_name"),
        STRING(avatar_url, NULL, "avatar_url"),
        CONFIG_FIELD(AgentConfig, created_at, NULL, "created_at", CONFIG_UINT, .fallback = "0"),

        STRING(server_url, "puffo_core", "server_url", .flags = CONFIG_NOT_EMPTY, .fallback = "https://api.puffo.ai",
               .check = config_check_url),
        STRING(slug, "puffo_core", "slug", .check = check_slug),
        STRING(device_id, "puffo_core", "device_id"),
        STRING(space_id, "puffo_core", "space_id"),
        STRING(operator_slug, "puffo_core", "operator_slug", .check = check_slug),

        CONFIG_FIELD(AgentConfig, kind, "runtime", "kind", CONFIG_CHOICE, .fallback = "chat-local",
                     .choices = kind_names, .check = check_kind),
        STRING(provider, "runtime", "provider", .check = check_provider),
        STRING(model, "runtime", "model"),
        STRING(api_key, "runtime", "api_key", .flags = CONFIG_SECRET),
        CONFIG_FIELD(AgentConfig, allowed_tools, "runtime", "allowed_tools", CONFIG_STRINGS),
        STRING(docker_image, "runtime", "docker_image"),
        STRING(docker_memory_limit, "runtime", "docker_memory_limit"),
        STRING(docker_memory_reservation, "runtime", "docker_memory_reservation"),
        STRING(permission_mode, "runtime", "permission_mode", .flags = CONFIG_NOT_EMPTY,
               .fallback = "bypassPermissions", .choices = permission_modes),
        STRING(harness, "runtime", "harness", .check = check_harness),
        CONFIG_FIELD(AgentConfig, max_turns, "runtime", "max_turns", CONFIG_UINT, .fallback = "10", .minimum = 1),
        STRING(llm_base_url, "runtime", "llm_base_url", .flags = CONFIG_OURS, .check = config_check_url),
        CONFIG_FIELD(AgentConfig, max_tokens, "runtime", "max_tokens", CONFIG_UINT, .flags = CONFIG_OURS,
                     .fallback = "2048", .minimum = 1),
        SECONDS(task_timeout_usec, "runtime", "task_timeout_seconds", .fallback = "1800", .minimum = 1),
        SECONDS(permission_timeout_usec, "runtime", "permission_timeout_seconds", .fallback = "300", .minimum = 1),
        CONFIG_FIELD(AgentConfig, sandbox, "runtime", "sandbox_profile", CONFIG_CHOICE, .flags = CONFIG_OURS,
                     .fallback = "host", .choices = sandbox_names),
        CONFIG_FIELD(AgentConfig, extra_dirs, "runtime", "extra_dirs", CONFIG_STRINGS, .flags = CONFIG_OURS,
                     .check = config_check_absolute_path),
        SECONDS(freeze_after_usec, "runtime", "freeze_after_seconds", .fallback = "120"),
        SECONDS(stop_after_usec, "runtime", "stop_after_seconds", .fallback = "3600"),

        STRING(profile, NULL, "profile", .flags = CONFIG_NOT_EMPTY, .fallback = "profile.md"),
        STRING(memory_dir, NULL, "memory_dir", .flags = CONFIG_NOT_EMPTY, .fallback = "memory"),
        STRING(workspace_dir, NULL, "workspace_dir", .flags = CONFIG_NOT_EMPTY, .fallback = "workspace"),

        CONFIG_FIELD(AgentConfig, on_mention, "triggers", "on_mention", CONFIG_BOOL, .fallback = "true"),
        CONFIG_FIELD(AgentConfig, on_dm, "triggers", "on_dm", CONFIG_BOOL, .fallback = "true"),
        CONFIG_FIELD(AgentConfig, on_all, "triggers", "on_all", CONFIG_BOOL, .flags = CONFIG_OURS, .fallback = "true"),

        CONFIG_LIMIT_FIELDS(AgentConfig, NULL, NULL, NULL, NULL),
        CONFIG_FIELD(AgentConfig, tokens_per_hour, "limits", "tokens_per_hour", CONFIG_UINT, .flags = CONFIG_OURS,
                     .minimum = 1),
        CONFIG_FIELD(AgentConfig, cost_per_day_micro, "limits", "cost_per_day", CONFIG_DOLLARS, .flags = CONFIG_OURS),
        CONFIG_FIELD(AgentConfig, allow_hosts, "sandbox", "allow_hosts", CONFIG_STRINGS, .flags = CONFIG_OURS,
                     .check = check_host),
};

const char* runtime_kind_to_string(RuntimeKind k) {
        return k >= 0 && k < _RUNTIME_KIND_MAX ? kind_names[k] : NULL;
}

RuntimeKind runtime_kind_from_string(const char *s) {
        for (int i = 0; i < _RUNTIME_KIND_MAX; i++)
                if (streq(s, kind_names[i]))
                        return (RuntimeKind) i;
        return _RUNTIME_KIND_INVALID;
}

const char* sandbox_profile_to_string(SandboxProfile p) {
        return p >= 0 && p < _SANDBOX_PROFILE_MAX ? sandbox_names[p] : NULL;
}

SandboxProfile sandbox_profile_from_string(const char *s) {
        for (int i = 0; i < _SANDBOX_PROFILE_MAX; i++)
                if (streq(s, sandbox_names[i]))
                        return (SandboxProfile) i;
        return _SANDBOX_PROFILE_INVALID;
}

int agent_config_new(AgentConfig **ret, const char *id) {
        _cleanup_(agent_config_freep) AgentConfig *c = new0(AgentConfig, 1);
        int r;

        if (!c)
                return -ENOMEM;

        r = config_set_defaults(agent_fields, ELEMENTSOF(agent_fields), c);
        if (r < 0)
                return r;
        r = free_and_strdup(&c->id, id);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

AgentConfig* agent_config_free(AgentConfig *c) {
        if (!c)
                return NULL;

        config_done(agent_fields, ELEMENTSOF(agent_fields), c);
        price_list_done(&c->prices);
        strv_free(c->warnings);
        yaml_document_free(c->document);
        return mfree(c);
}

const char* agent_config_harness(const AgentConfig *c) {
        if (*c->harness)
                return c->harness;

        for (size_t i = 0; i < ELEMENTSOF(harnesses); i++)
                if (streq_ptr(harnesses[i].default_of, c->provider))
                        return harnesses[i].name;
        return "claude-code";
}

const char* agent_config_provider(const AgentConfig *c) {
        if (*c->provider || c->kind == RUNTIME_CHAT_LOCAL || !c->kind_given)
                return c->provider;
        if (c->kind == RUNTIME_SDK_LOCAL)
                return "anthropic";
        for (size_t i = 0; i < ELEMENTSOF(harnesses); i++)
                if (streq(harnesses[i].name, agent_config_harness(c)))
                        return harnesses[i].providers[0];
        return "";
}

static int check_harness_provider(const char *name, const char *provider, char **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(harnesses); i++) {
                const char *const *p = harnesses[i].providers;

                if (!streq(name, harnesses[i].name))
                        continue;
                if (*provider == 0 || streq_ptr(p[0], provider) || streq_ptr(p[1], provider))
                        return 0;

                *reterr = strjoin("harness '", name, "' does not support provider '", provider, "' (supported: ", p[0],
                                  p[1] ? ", " : "", p[1] ?: "", ")");
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        return 0;
}

static int check_runtime(const AgentConfig *c, char **reterr) {
        int r;

        r = check_provider(c->provider, reterr);
        if (r < 0)
                return r;
        if (c->kind == RUNTIME_CHAT_LOCAL)
                return 0;
        if (streq(c->provider, "echo"))
                return problem(reterr, "provider 'echo' is for runtime kind 'chat-local', not for",
                               kind_names[c->kind], "(choose another of the two)");
        if (c->kind == RUNTIME_SDK_LOCAL)
                return 0;

        r = check_harness(c->harness, reterr);
        if (r < 0)
                return r;
        return check_harness_provider(agent_config_harness(c), c->provider, reterr);
}

int agent_config_check_runtime(const AgentConfig *c, char **reterr) {
        int r = check_runtime(c, reterr);

        return r == -EBADMSG ? -EINVAL : r;
}

static int add_warning(AgentConfig *c, const char *path, const YamlNode *n, const char *key, const char *text) {
        _cleanup_free_ char *warning = NULL;
        const char *name = strrchr(path, '/');
        int r;

        r = config_error(&warning, name ? name + 1 : path, n ? yaml_node_line(n) : 0, NULL, key, text);
        return r == -EBADMSG ? strv_extend(&c->warnings, warning) : r;
}

/* The kinds' names of early versions; the next save makes the new ones permanent. */
static int translate_legacy_kind(AgentConfig *c, const char *path, YamlNode *runtime) {
        static const struct {
                const char *old, *new;
        } t[] = { { "chat-only", "chat-local" }, { "sdk", "sdk-local" } };
        const YamlNode *n = yaml_mapping_get(runtime, "kind");
        const char *kind = n ? yaml_node_scalar(n) : NULL;

        for (size_t i = 0; kind && i < ELEMENTSOF(t); i++) {
                _cleanup_free_ char *text = NULL;
                int r;

                if (!streq(kind, t[i].old))
                        continue;

                text = asprintf_new("'%s' is an old name, read as '%s'", t[i].old, t[i].new);
                if (!text)
                        return -ENOMEM;
                r = add_warning(c, path, n, "runtime.kind", text);
                return r < 0 ? r : yaml_mapping_set_string(runtime, "kind", t[i].new);
        }
        return 0;
}

/* A key counts as given unless it is null. */
static bool is_given(const YamlNode *section, const char *key) {
        const YamlNode *n = yaml_mapping_get(section, key);

        return n && !yaml_node_is_null(n);
}

static int agent_config_finish(AgentConfig *c, const char *path, const char *id, YamlNode *root, YamlNode *runtime,
                               char **reterr) {
        const YamlNode *n = yaml_mapping_get(root, "id");
        _cleanup_free_ char *text = NULL;
        int r;

        if (*c->id && !streq(c->id, id)) {
                text = asprintf_new("'%s' is not the directory's name, which counts ('%s')", c->id, id);
                r = text ? add_warning(c, path, n, "id", text) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        r = free_and_strdup(&c->id, id);
        if (r < 0)
                return r;

        c->kind_given = runtime && is_given(runtime, "kind");
        c->task_timeout_given = runtime && is_given(runtime, "task_timeout_seconds");
        c->sandbox_given = runtime && is_given(runtime, "sandbox_profile");
        if (!c->sandbox_given && c->kind != RUNTIME_CHAT_LOCAL) {
                r = add_warning(c, path, NULL, "runtime.sandbox_profile",
                                "not set, so its tools run unconfined ('host')");
                if (r < 0)
                        return r;
        }

        text = mfree(text);
        r = check_runtime(c, &text);
        if (r != -EBADMSG)
                return r;

        n = yaml_mapping_get(runtime, "harness") ?: yaml_mapping_get(runtime, "provider") ?: runtime;
        return config_error(reterr, path, yaml_node_line(n), "runtime", NULL, text);
}

/* Takes the document over. */
static int agent_config_from_document(AgentConfig **ret, YamlDocument *document, const char *path, const char *id,
                                      char **reterr) {
        _cleanup_(agent_config_freep) AgentConfig *c = NULL;
        YamlNode *root, *runtime;
        int r;

        r = agent_config_new(&c, "");
        if (r < 0) {
                yaml_document_free(document);
                return r;
        }
        c->document = document;

        root = yaml_document_root(c->document);
        runtime = yaml_mapping_get(root, "runtime");
        if (runtime) {
                r = translate_legacy_kind(c, path, runtime);
                if (r < 0)
                        return r;
        }

        r = config_load(agent_fields, ELEMENTSOF(agent_fields), c, path, root, reterr);
        if (r >= 0)
                r = price_list_load(&c->prices, path, root, reterr);
        if (r < 0)
                return r;
        r = agent_config_finish(c, path, id, root, runtime, reterr);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

int agent_config_load(AgentConfig **ret, const char *path, const char *id, char **reterr) {
        YamlDocument *document;
        int r;

        r = config_read(path, &document, reterr);
        if (r < 0)
                return r;
        return agent_config_from_document(ret, document, path, id, reterr);
}

int agent_config_copy(AgentConfig **ret, const AgentConfig *c) {
        _cleanup_free_ char *text = NULL, *error = NULL;
        YamlDocument *document;
        size_t size;
        int r;

        if (!c->document)
                return -EINVAL;
        r = yaml_document_dump(c->document, &text, &size);
        if (r < 0)
                return r;
        r = yaml_document_parse(&document, text, size, &error);
        sodium_memzero(text, size);
        if (r < 0)
                return r;
        return agent_config_from_document(ret, document, "agent.yml", c->id, &error);
}

/* Into its document. */
static int agent_config_store(AgentConfig *c) {
        _cleanup_(agent_config_freep) AgentConfig *defaults = NULL;
        YamlNode *root, *runtime;
        int r;

        r = agent_config_new(&defaults, c->id);
        if (r < 0)
                return r;
        /* So that it is compared as different and written. */
        if (c->sandbox_given)
                defaults->sandbox = _SANDBOX_PROFILE_INVALID;
        if (!c->document) {
                r = yaml_document_new(&c->document);
                if (r < 0)
                        return r;
        }

        root = yaml_document_root(c->document);
        r = config_save(agent_fields, ELEMENTSOF(agent_fields), c, defaults, root);
        if (r < 0)
                return r;

        /* Upstream takes an empty harness for claude-code whatever the provider; it shall read what we mean. */
        runtime = yaml_mapping_get(root, "runtime");
        r = yaml_mapping_set_string(runtime, "harness", agent_config_harness(c));
        if (r < 0)
                return r;
        if (!c->kind_given)
                (void) yaml_mapping_remove(runtime, "kind");

        return 0;
}

int agent_config_check(AgentConfig *c, char **reterr) {
        _cleanup_(agent_config_freep) AgentConfig *again = NULL;
        YamlDocument *document;
        int r;

        r = check_runtime(c, reterr);
        if (r >= 0)
                r = agent_config_store(c);
        if (r >= 0)
                r = config_reread(c->document, &document, reterr);
        if (r >= 0) {
                r = agent_config_from_document(&again, document, "agent.yml", c->id, reterr);
                if (r == -EBADMSG)
                        config_error_without_place(*reterr);
        }
        return r == -EBADMSG ? -EINVAL : r;
}

int agent_config_save(AgentConfig *c, const char *path) {
        int r = agent_config_store(c);

        return r < 0 ? r : config_write(path, c->document);
}
